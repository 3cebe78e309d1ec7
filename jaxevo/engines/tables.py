"""Rates of every class at every site, tabulated once per interval; cells only look them up.

A *row* is a genotype at a site, row = genotype * num_sites + site, which is also the word that a cell
of the `cells` engine carries. Rates in a table are time averages over the interval (`drug.course`) at
crowding factor 1; births scale with the crowding of each tumor later.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo import genotype
from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.engines.network import mean_removal, per_day, per_division
from jaxevo.model import Model, environment_at, rates
from jaxevo.state import Array, Rates, Traits


class Steps(NamedTuple):
    """What each kind of change adds to a cell's row (static integers)."""

    mutations: tuple[int, ...]  # at a division, in the order of `genome.mutations`
    others: tuple[int, ...]  # per day: switches, then moves from any site to each site
    differentiations: tuple[int, ...] = ()  # at a division, in the newborn or in both daughters

    @classmethod
    def of(cls, model: Model) -> "Steps":
        """Steps of a model; the move to site s adds s minus the present site."""
        num_sites = len(model.names.sites)
        strides = model.genome.strides
        rows = lambda steps: tuple(c * strides[j] * num_sites for j, c in steps)  # noqa: E731
        moves = tuple(range(num_sites)) if num_sites > 1 else ()
        genome = model.genome
        return cls(
            rows(genome.mutations), rows(genome.switches) + moves, rows(genome.differentiations)
        )


class Table(eqx.Module):
    """Rates of all rows of all arms in one interval, flat over (arm, row); 1/day."""

    birth: Float[Array, " armrow"]
    death: Float[Array, " armrow"]
    other: Float[Array, " armrow"]  # all switches and moves together
    mutated: Float[Array, " armrow"]  # probability that a division has a mutant daughter
    other_rates: Float[Array, "armrow other"]
    mutation_probability: Float[Array, "armrow mutation"]
    differentiated: Float[Array, " armrow"]  # probability that a division differentiates
    asymmetric: Float[Array, "armrow differentiation"]
    symmetric: Float[Array, "armrow differentiation"]
    max_birth: Float[Array, "arm site"]
    max_rest: Float[Array, "arm site"]  # of death + other
    max_total: Float[Array, " arm"]  # of birth + death + other
    # with immunity: what reaches a cell of the killing, 0..1; loss of suppressors by drugs, 1/day
    visibility: Float[Array, " armrow"] | None = None
    max_visibility: Float[Array, "arm site"] | None = None
    suppressor_removal: Float[Array, "arm site"] | None = None


def all_traits(model: Model) -> Traits:
    """Traits of every genotype, with a leading axis."""
    genome = model.genome
    levels = genotype.unpack(genome, np.arange(genome.num_genotypes, dtype=np.int64))
    dtype = jnp.result_type(model.birth.birth_rate)
    return jax.vmap(genotype.traits, (None, 0))(genome, jnp.asarray(levels, dtype))


def mean_rates(
    model: Model,
    traits: Traits,
    concentration: Float[Array, "node site drug"],
    days: Float[Array, " node"] | None = None,
) -> Rates:
    """Rates of every genotype at every site, averaged over the nodes of an interval.

    A law of the user's own may also read the day of each node.

    Returns:
        Rates with leading axes [genotype, site].
    """
    sites = jnp.arange(len(model.names.sites))
    weights = jnp.asarray(WEIGHTS, concentration.dtype)

    def one(traits: Traits, site, drug: Float[Array, " drug"], now: dict) -> Rates:
        return rates(model, traits, environment_at(model, site, drug, **now))

    everywhere = jax.vmap(jax.vmap(one, (None, 0, 0, None)), (0, None, None, None))
    moments = {} if days is None else {"day": days}

    def add_node(total: Rates, node):
        weight, drug, now = node
        found = everywhere(traits, sites, drug, now)
        found = found if model.custom is None else per_day(found)
        return jax.tree.map(lambda t, x: t + weight * x, total, found), None

    first = {name: x[0] for name, x in moments.items()}
    shapes = jax.eval_shape(everywhere, traits, sites, concentration[0], first)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add_node, zero, (weights, concentration, moments))
    return total if model.custom is None else per_division(total)


class Seen(NamedTuple):
    """What rates depend on in one interval (in all, with a leading axis)."""

    concentration: Float[Array, "*lead arm node site drug"]  # uM
    days: Float[Array, "*lead arm node"] | None = None  # for a law of the user's own


def seen(model: Model, concentration: np.ndarray, start: np.ndarray, duration: np.ndarray) -> Seen:
    """What all intervals see, from [interval, arm, ...] concentrations and days."""
    fields = jnp.asarray(concentration, jnp.float32)
    if model.custom is None:
        return Seen(fields)
    return Seen(fields, jnp.asarray(start[..., None] + duration[..., None] * NODES, jnp.float32))


def tabulate(world: tuple[Model, Traits], now: Seen) -> Table:
    """The table of one interval, for all arms, of a model and the traits of all its genotypes."""
    model, traits = world
    each = jax.vmap(mean_rates, (None, None, 0, None if now.days is None else 0))
    averaged = each(model, traits, now.concentration, now.days)
    num_sites = len(model.names.sites)
    moves = averaged.migration_rate if num_sites > 1 else averaged.migration_rate[..., :0]
    others = jnp.concatenate([averaged.switching_rate, moves], axis=-1)
    mutations = averaged.mutation_probability
    any_mutation = sum_in_order(mutations)
    if model.mutation.mutating_daughters == "both":
        any_mutation = any_mutation * (2 - any_mutation)
    asymmetric, symmetric = averaged.asymmetric_probability, averaged.symmetric_probability
    differentiated = sum_in_order(asymmetric) + sum_in_order(symmetric)
    if model.mutation.mutating_daughters == "both" and model.genome.differentiations:
        any_mutation = any_mutation * (1 - differentiated)
    other = sum_in_order(others)
    birth, death = averaged.birth_rate, averaged.death_rate
    rest = death + other
    flat = lambda x: x.reshape(math.prod(x.shape[:3]), *x.shape[3:])  # noqa: E731
    immunity = {}
    if averaged.visibility is not None:
        weights = jnp.asarray(WEIGHTS, now.concentration.dtype)
        immunity = {
            "visibility": flat(averaged.visibility),
            "max_visibility": jnp.max(averaged.visibility, axis=1),
            "suppressor_removal": jax.vmap(mean_removal, (None, 0, None))(
                model, now.concentration, weights
            ),
        }
    return Table(
        birth=flat(birth),
        death=flat(death),
        other=flat(other),
        mutated=flat(any_mutation),
        other_rates=flat(others),
        mutation_probability=flat(mutations),
        differentiated=flat(differentiated),
        asymmetric=flat(asymmetric),
        symmetric=flat(symmetric),
        max_birth=jnp.max(birth, axis=1),
        max_rest=jnp.max(rest, axis=1),
        max_total=jnp.max(birth + rest, axis=(1, 2)),
        **immunity,
    )


def sum_in_order(values: Float[Array, "*rest n"]) -> Float[Array, "*rest"]:
    """Sum over the last axis, term by term from the left: the same bits for any batch."""
    total = jnp.zeros(values.shape[:-1], values.dtype)
    for k in range(values.shape[-1]):
        total = total + values[..., k]
    return total
