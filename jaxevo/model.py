"""The model, and the one function that all engines share: `rates`."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, PyTree

from jaxevo import drug
from jaxevo.cell import birth, death, migration, mutation, switching
from jaxevo.cell.birth import BirthParams
from jaxevo.cell.death import DeathParams
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


def rates(model: Model, traits: Traits, environment: Environment) -> Rates:
    """How fast things happen to ONE cell at ONE site: the journey of every drug, then the cell's life.

    Returns:
        Rates in 1/day, mutation probabilities per division.
    """
    output = drug.remaining_output(model.cellular, traits, environment)
    hill = jax.vmap(jax.vmap(signaling.hill_effect, (0, None, None)))
    b, a = model.birth, model.cellular.apoptosis
    on_birth = signaling.combine(hill(output, b.birth_half_odds, b.birth_hill))
    on_death = signaling.combine(hill(output, a.death_half_odds, a.death_hill))
    drug_induced = apoptosis.drug_death_rate(a, traits, environment, on_death)
    return Rates(
        birth_rate=birth.birth_rate(b, traits, environment, on_birth),
        death_rate=death.death_rate(model.death, traits, drug_induced),
        mutation_probability=mutation.mutation_probability(model.mutation, model.genome, traits),
        switching_rate=switching.switching_rate(model.genome, traits, environment),
        migration_rate=migration.migration_rate(traits, environment),
    )


def environment_at(
    model: Model,
    site: int | Int[Array, ""],
    concentration: Float[Array, " drug"],
    crowding_factor: float | Scalar = 1.0,
) -> Environment:
    """The environment of one site, at free concentrations in uM."""
    sites = cast(model.sites, concentration.dtype)
    return Environment(
        concentration=concentration,
        crowding_factor=jnp.asarray(crowding_factor, concentration.dtype),
        growth_factor=sites.growth_factor[site],
        shielded_share=sites.shielded_share[site],
        migration_rate=sites.migration_rate[site],
    )


def cast(tree: PyTree, dtype) -> PyTree:
    """The same tree with every floating-point leaf as a JAX array of `dtype`."""
    is_float = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if is_float(x) else x, tree)
