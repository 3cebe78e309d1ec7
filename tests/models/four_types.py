"""Four types of cell under two drugs: sensitive, resistant to either, resistant to both.

    x' = [(I + T) diag(g) - diag(s . dose)] x

Beckman, Schemmann & Yeang 2012, 10.1073/pnas.1203559109: g growth, T[to, from] mutants per division,
s sensitivity to the full dose (1/day). Mutants are born beside the two daughters of a division, so that
a cell divides g (1 + sum of T) times a day. Packed genotypes: bit 0 resists D1, bit 1 D2. A type with less
than one cell stands still; that is asked once a day (`Problem.still_below`). Doses are levels 0 to 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines import meanfield
from jaxevo.engines.base import Arm, Founder, Line, Problem, Record, Rule, Visits
from jaxevo.model import Model

DRUGS = ("D1", "D2")


class Patient(NamedTuple):
    """[type] or [type, drug], rates 1/day."""

    cells: np.ndarray
    growth: float
    sensitivity: np.ndarray
    mutation: np.ndarray  # [to, from] per division


def rates(p, levels, environment) -> Rates:
    """Levels are resistance to D1 and to D2."""
    own = jnp.round(levels[0] + 2 * levels[1]).astype(int)
    mutants = p["mutants"][own]
    divisions = p["growth"] * (1 + jnp.sum(mutants))
    return Rates(
        birth_rate=divisions,
        death_rate=jnp.dot(p["sensitivity"][own], environment.concentration),
        mutation_probability=p["growth"] * mutants / divisions,
    )


def model(who: Patient) -> Model:
    """The law of one patient."""
    t = who.mutation
    mutants = np.array([[t[1, 0], t[2, 0]], [0, t[3, 1]], [t[3, 2], 0], [0, 0]])
    return custom_model(
        {"r1": 1, "r2": 1}, rates,
        {"growth": who.growth, "sensitivity": who.sensitivity, "mutants": mutants},
        mutations=[("r1", 1), ("r2", 1)], drugs=DRUGS,
    )  # fmt: skip


def problem(
    cohort: Sequence[Patient], rule: Rule, *, days: int, every: int, still_below: float = 1.0
) -> Problem:
    """One arm: each drug is a line, and the rule chooses among them."""
    lines = tuple(Line(d, (), (Level(i, 0.0, float(days), 1.0),)) for i, d in enumerate(DRUGS))
    founders = tuple(
        tuple(Founder(int(n), kind, 0) for kind, n in enumerate(who.cells)) for who in cohort
    )
    models = tuple(model(who) for who in cohort)
    return Problem(
        models[0], founders[0], (Arm(rule.name, (), lines=lines, policy=rule),), seed=1, replicates=1,
        horizon=float(days), sync=1.0, max_cells=1, record=Record(every=1.0), patients=models,
        founders_of=founders, visits=Visits(every=float(every), composition=0.0),
        still_below=still_below,
    )  # fmt: skip


def survival(study: Problem, *, fatal: float = 1e13, cured: float = 1845) -> np.ndarray:
    """Day of every patient's death, the last day if alive then, `cured` once no type has a cell."""
    counts = meanfield.simulate(study)[""]["class_count"].data[0, :, 0]  # patient, day, type
    is_dead = counts.sum(axis=2) >= fatal
    is_cured = np.all(counts < 1, axis=2)
    first = lambda claims: np.where(claims.any(axis=1), claims.argmax(axis=1), np.inf)  # noqa: E731
    end = np.minimum(first(is_dead[:, 1:]) + 1, study.horizon)
    return np.where(first(is_cured) < end, cured, end)
