"""Custom models: a law of the user's own, in place of the stations.

    def rates(params, levels, environment):
        full = environment.population.sum() / params["capacity"]
        growth = jnp.where(levels[0] > 0, params["resistant"], params["sensitive"])
        return Rates(birth_rate=growth * (1 - full), death_rate=params["turnover"])

    model = custom_model({"resistance": 1}, rates, params, has_feedback=True)

Classes are the levels of the named alterations; a tumor without mutants has the class of level 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxevo.cell.birth import BirthParams
from jaxevo.cell.death import DeathParams
from jaxevo.cell.mutation import MutationParams
from jaxevo.drug import CellularParams
from jaxevo.drug.apoptosis import ApoptosisParams
from jaxevo.drug.damage import DamageParams
from jaxevo.drug.delivery import DeliveryParams
from jaxevo.drug.metabolism import MetabolismParams
from jaxevo.drug.plasma import PlasmaParams
from jaxevo.drug.signaling import SignalingParams
from jaxevo.drug.target import TargetParams
from jaxevo.drug.transport import TransportParams
from jaxevo.genotype import Changes, Genome, Step
from jaxevo.model import Custom, Model, Names
from jaxevo.sites import SiteParams
from jaxevo.state import Rates

Moves = Sequence[tuple[str, int]]


def custom_model(
    alterations: Mapping[str, int],
    rates: Callable[..., Rates],
    params: PyTree = None,
    *,
    mutations: Moves = (),
    switches: Moves = (),
    differentiations: Moves = (),
    sites: Sequence[str] = ("tumor",),
    drugs: Sequence[str] = (),
    plasma: PlasmaParams | None = None,
    molar_mass: Sequence[float] | None = None,
    mutating_daughters: str = "one",
    has_feedback: bool = False,
    drift: Callable | None = None,
    start: Sequence[float] = (),
) -> Model:
    """A model whose rates are a function of the user's, for every engine.

    Args:
        alterations: name -> highest level; a cell's levels are its class.
        rates: (params, levels, environment) -> Rates of one cell, in 1/day (see `model.Custom`).
        params: a tree of numbers or arrays that `rates` and `drift` read.
        mutations: (alteration, change of level) of each entry of `Rates.mutation_probability`; a
            change that leads below 0 or above the highest level never happens.
        switches: the same for `Rates.switching_rate`.
        differentiations: the same for `asymmetric_probability` and `symmetric_probability`.
        sites: names; cells move between them at `Rates.migration_rate`.
        drugs: names; their free concentrations (uM) are levels of an arm, or follow from `plasma`.
        plasma: pharmacokinetics with a leading drug axis; None prescribes concentrations.
        molar_mass: [drug] g/mol, where doses are in mg.
        mutating_daughters: "one" or "both".
        has_feedback: whether rates depend on the population or on extra variables.
        drift: (params, day, population, extra, concentration) -> change of the extra variables, 1/day.
        start: [variable] extra variables at the start.

    Raises:
        ValueError: a step names an unknown alteration, or extra variables without a drift.
    """
    names = tuple(alterations)
    for name, _ in (*mutations, *switches, *differentiations):
        if name not in names:
            raise ValueError(f"a step names {name!r}; the alterations are {', '.join(names)}")
    if len(start) and drift is None:
        raise ValueError("start gives extra variables, but there is no drift that moves them")
    steps = lambda moves: tuple(Step(names.index(name), change) for name, change in moves)  # noqa: E731
    num_drugs, num_sites = len(drugs), len(sites)
    genome = Genome.neutral(
        names, tuple(alterations.values()), ("mutation",) * len(names), num_drugs, 0, 0
    )
    own = Changes(steps(mutations), steps(switches), steps(differentiations))
    genome = _with_steps(genome, own)
    per_drug, none = np.ones(num_drugs), np.zeros(0)
    everywhere = np.ones((num_sites, num_drugs))
    never = np.full((num_sites, num_drugs), np.inf)
    zero = np.zeros(())
    return Model(
        names=Names(tuple(sites), tuple(drugs), (), ()),
        genome=genome,
        plasma=plasma or _prescribed(num_drugs),
        molar_mass=500 * per_drug if molar_mass is None else np.asarray(molar_mass, float),
        bioavailability=per_drug,
        delivery=DeliveryParams(
            everywhere, never, np.zeros(num_sites), 100 * everywhere, never,
            np.zeros((num_sites, 0)), np.full(num_sites, np.inf),
        ),
        sites=SiteParams(
            "none", np.full(num_sites, np.inf), np.ones(num_sites), np.zeros(num_sites),
            np.zeros((num_sites, num_sites)),
        ),
        cellular=CellularParams(
            TransportParams(
                per_drug, per_drug, 0 * per_drug, none, *(np.zeros((0, num_drugs)),) * 3
            ),
            MetabolismParams(0 * per_drug, per_drug, per_drug),
            TargetParams(np.zeros((0, num_drugs)), 0 * per_drug, none),
            SignalingParams("bliss", none),
            DamageParams(none, zero, zero),
            ApoptosisParams(*(none,) * 5),
        ),
        birth=BirthParams(zero, *(none,) * 3),
        death=DeathParams(zero),
        mutation=MutationParams(mutating_daughters, np.ones(())),
        custom=Custom(rates, jax.tree.map(_as_float, params), has_feedback, drift, np.asarray(start, float)),
    )  # fmt: skip


def _as_float(number):
    """Whole numbers of Python as what rates are made of."""
    return float(number) if type(number) is int else number


def _prescribed(num_drugs: int) -> PlasmaParams:
    """Pharmacokinetics of drugs whose concentrations the schedule states."""
    one, side = np.ones(num_drugs), np.ones((num_drugs, 2))
    return PlasmaParams(one, one, 0 * one, one, 0 * side, side, one)


def _with_steps(genome: Genome, steps: Changes) -> Genome:
    fields: dict[str, Any] = {name: getattr(genome, name) for name in Genome.__dataclass_fields__}
    fields["own_steps"] = steps
    return Genome(**fields)
