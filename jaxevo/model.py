"""The model, and the one function that all engines share: `rates`."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from jaxevo import drug
from jaxevo.cell import birth, death, hierarchy, immune, migration, mutation, switching
from jaxevo.cell.birth import BirthParams
from jaxevo.cell.death import DeathParams
from jaxevo.cell.immune import ImmuneParams
from jaxevo.cell.mutation import MutationParams
from jaxevo.drug import CellularParams, apoptosis, signaling
from jaxevo.drug.delivery import DeliveryParams
from jaxevo.drug.plasma import PlasmaParams
from jaxevo.genotype import Genome
from jaxevo.sites import SiteParams
from jaxevo.state import Array, Environment, Rates, Scalar, Traits


class Names(eqx.Module):
    """What the axes of the model stand for."""

    sites: tuple[str, ...] = eqx.field(static=True)
    drugs: tuple[str, ...] = eqx.field(static=True)
    pumps: tuple[str, ...] = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)


class Custom(eqx.Module):
    """A law of the user's own, in place of the stations.

    `rates(params, levels, environment)` returns the `Rates` of one cell with `levels` [alteration] at
    one site, whose `environment` holds free concentrations (uM), the position of the site, the day, the
    cells of every class at every site (`population`, classes in rising packed genotype) and the extra
    variables. Its arrays
    follow `genome.mutations`, `genome.switches` and `genome.differentiations`.

    `drift(params, day, population, extra, concentration)` returns the change per day of the extra
    variables, such as immune cells: population [class, site], extra [variable], concentration
    [site, drug] in uM.
    """

    rates: Callable[..., Rates] = eqx.field(static=True)
    params: PyTree = None
    has_feedback: bool = eqx.field(static=True, default=False)  # reads population or extra
    drift: Callable[..., Array] | None = eqx.field(static=True, default=None)
    start: Float[Array, " variable"] = eqx.field(default_factory=lambda: np.zeros(0))


class Model(eqx.Module):
    """Everything that can happen to a cell, and how fast. Leaves are float64 NumPy arrays."""

    names: Names
    genome: Genome
    plasma: PlasmaParams  # leading drug axis
    molar_mass: Float[Array, " drug"]  # g/mol
    bioavailability: Float[Array, " drug"]
    delivery: DeliveryParams  # leading site axis
    sites: SiteParams
    cellular: CellularParams
    birth: BirthParams
    death: DeathParams
    mutation: MutationParams
    body_surface: Scalar = eqx.field(default_factory=lambda: np.ones(()))  # m2, for doses per m2
    custom: Custom | None = None  # if given, `rates` asks it and no station
    immune: ImmuneParams | None = None  # none under a custom law, which has extra variables


def rates(model: Model, traits: Traits, environment: Environment) -> Rates:
    """How fast things happen to ONE cell at ONE site: the journey of every drug, then the cell's life.

    Killing by effector cells is not in the death rate: it follows the cells of the moment, and engines
    add it (`cell.immune`). What a cell brings to it is its visibility.

    Returns:
        Rates in 1/day, mutation probabilities per division.
    """
    if model.custom is not None:
        given = model.custom.rates(model.custom.params, traits.levels, environment)
        return _completed(model, given, traits.levels, environment.concentration.dtype)
    output = drug.remaining_output(model.cellular, traits, environment)
    hill = jax.vmap(jax.vmap(signaling.hill_effect, (0, None, None)))
    b, a = model.birth, model.cellular.apoptosis
    on_birth = signaling.combine(hill(output, b.birth_half_odds, b.birth_hill))
    on_death = signaling.combine(hill(output, a.death_half_odds, a.death_hill))
    drug_induced = apoptosis.drug_death_rate(a, traits, environment, on_death)
    asymmetric, symmetric = hierarchy.differentiation_probability(model.genome, traits)
    seen = None
    if model.immune is not None:
        seen = immune.visibility(model.immune, traits, environment)
    return Rates(
        birth_rate=birth.birth_rate(b, traits, environment, on_birth),
        death_rate=death.death_rate(model.death, traits, drug_induced),
        mutation_probability=mutation.mutation_probability(model.mutation, model.genome, traits),
        switching_rate=switching.switching_rate(model.genome, traits, environment),
        migration_rate=migration.migration_rate(traits, environment),
        asymmetric_probability=asymmetric,
        symmetric_probability=symmetric,
        visibility=seen,
    )


def _completed(model: Model, given: Rates, levels: Float[Array, " alteration"], dtype) -> Rates:
    """The rates of a custom law as arrays, with zeros for what it leaves out.

    A step that would leave the levels of its alteration never happens, whatever the law says.

    Raises:
        ValueError: an array has another length than there are steps of its kind.
    """
    steps = model.genome.steps
    kinds = {
        "mutation_probability": steps.mutations,
        "switching_rate": steps.switches,
        "asymmetric_probability": steps.differentiations,
        "symmetric_probability": steps.differentiations,
    }
    lengths = {
        "birth_rate": (),
        "death_rate": (),
        "migration_rate": (len(model.names.sites),),
        **{name: (len(moves),) for name, moves in kinds.items()},
    }
    complete = {}
    for name, shape in lengths.items():
        value = jnp.asarray(getattr(given, name), dtype)
        if value.shape == (0,):
            value = jnp.zeros(shape, dtype)
        if value.shape != shape:
            raise ValueError(
                f"{name} of the custom rates has shape {value.shape}; expected {shape}"
            )
        complete[name] = value
    for name, moves in kinds.items():
        if moves:
            complete[name] = jnp.where(_is_inside(model.genome, moves, levels), complete[name], 0.0)
    return Rates(**complete)


def _is_inside(genome: Genome, moves, levels: Float[Array, " alteration"]) -> Bool[Array, " move"]:
    """Whether each step ends at a level that its alteration has."""
    which, change = np.array(moves).T
    top = jnp.asarray(np.array(genome.max_levels)[which], levels.dtype)
    end = levels[which] + jnp.asarray(change, levels.dtype)
    return (end >= 0) & (end <= top)


def environment_at(
    model: Model,
    site: int | Int[Array, ""],
    concentration: Float[Array, " drug"],
    crowding_factor: float | Scalar = 1.0,
    **surroundings: Array,
) -> Environment:
    """The environment of one site, at free concentrations in uM.

    `surroundings` are the `day`, `population` and `extra` of `Environment`, for a custom law.
    """
    sites = cast(model.sites, concentration.dtype)
    return Environment(
        concentration=concentration,
        crowding_factor=jnp.asarray(crowding_factor, concentration.dtype),
        growth_factor=sites.growth_factor[site],
        shielded_share=sites.shielded_share[site],
        migration_rate=sites.migration_rate[site],
        site=jnp.asarray(site),
        **surroundings,
    )


def cast(tree: PyTree, dtype) -> PyTree:
    """The same tree with every floating-point leaf as a JAX array of `dtype`."""
    is_float = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if is_float(x) else x, tree)
