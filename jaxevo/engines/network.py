"""Network: which types of cell there are, and what turns one into another.

A *type* is a class (genotype) at a site, type = class * num_sites + site. A tumor of independent cells
is a multitype branching process on these types: a cell of type i divides, dies, converts (switches or
moves) and, at a division, changes one or both of its daughters. The three engines that count cells
instead of listing them read it: `clones` samples it, `meanfield` takes its mean, `extinction` its
generating function. The offspring law of a division, with q_i standing for one daughter of type i:

    one    (1 - U - A - V) q_i^2 + q_i (sum_j u_ij q_j + sum_j a_ij q_j) + sum_j v_ij q_j^2
    both   (1 - A - V) ((1 - U) q_i + sum_j u_ij q_j)^2 + q_i sum_j a_ij q_j + sum_j v_ij q_j^2

u mutation, a asymmetric and v symmetric differentiation; U, A, V their sums. Types are those that the
founders can reach, with at most `max_alterations` altered alterations that the nearest founder has not;
what leaves that set goes to one more type, the last, which neither divides nor dies: it counts them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxevo import genotype
from jaxevo.cell import immune
from jaxevo.engines.base import Refused
from jaxevo.genotype import Step
from jaxevo.model import Model, environment_at, rates
from jaxevo.sites import SiteParams, crowding_factor
from jaxevo.state import Array, Rates, Traits

MAX_CLASSES = 1 << 16  # more are refused before they are listed


class Edges(NamedTuple):
    """From one type to another; `column` is the position of the step among those of its kind."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    column: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.source)


class Network(eqx.Module):
    """Everything static about the types: hashable, so that a kernel is compiled once for each."""

    num_types: int = eqx.field(static=True)  # with the type outside, if there is one
    num_sites: int = eqx.field(static=True)
    genotypes: tuple[int, ...] = eqx.field(static=True)  # [class], rising
    mutations: Edges = eqx.field(static=True)
    asymmetric: Edges = eqx.field(static=True)
    symmetric: Edges = eqx.field(static=True)
    conversions: Edges = eqx.field(static=True)
    is_both: bool = eqx.field(static=True)
    immigrants: tuple[tuple[int, int], ...] = eqx.field(static=True, default=())  # type, cells

    @property
    def num_inside(self) -> int:
        """Types that live: classes times sites."""
        return len(self.genotypes) * self.num_sites

    @property
    def has_outside(self) -> bool:
        """Whether the last type counts cells that left the set of classes."""
        return self.num_types > self.num_inside

    def type_of(self, packed: int, site: int) -> int:
        """The type of a packed genotype at a site."""
        return self.genotypes.index(packed) * self.num_sites + site


class Speeds(eqx.Module):
    """How fast things happen to one cell of each type; leading axes such as interval or tumor."""

    birth: Float[Array, "*lead type"]  # 1/day, at crowding factor 1
    death: Float[Array, "*lead type"]  # 1/day
    mutation: Float[Array, "*lead edge1"]  # per division (per daughter if both may mutate)
    asymmetric: Float[Array, "*lead edge2"]  # per division
    symmetric: Float[Array, "*lead edge3"]  # per division
    conversion: Float[Array, "*lead edge4"]  # 1/day
    # with immunity: what reaches a cell of the killing, 0..1, and loss of suppressors by drugs, 1/day
    visibility: Float[Array, "*lead type"] | None = None
    suppressor_removal: Float[Array, "*lead site"] | None = None


def network(
    model: Model,
    founders: Sequence[int],
    max_alterations: int | None = None,
    immigrants: Sequence[tuple[int, int, int]] = (),
) -> Network:
    """The types that founders and immigrants can reach.

    Args:
        model: steps that its genome never makes (probability or rate 0) lead nowhere.
        founders: packed genotypes.
        max_alterations: k; a class is kept while at most k alterations have a level that the nearest
            of the founders has not.
        immigrants: (packed genotype, site, cells per event).

    Raises:
        Refused: more than `MAX_CLASSES` classes.
    """
    genome = model.genome
    starts = sorted({*founders, *(packed for packed, _, _ in immigrants)})
    kept = _reachable(model, starts, max_alterations)
    place = {packed: c for c, packed in enumerate(kept)}
    levels = np.asarray(genotype.unpack(genome, np.array(kept, np.int64)))
    num_sites = len(model.names.sites)
    num_inside = len(kept) * num_sites
    possible = _possible(model)

    def edges(steps: Sequence[Step], kind: str, moves: bool = False) -> Edges:
        found = []
        for column, step in enumerate(steps):
            for c, packed in enumerate(kept):
                if not possible(kind, column, levels[c]):
                    continue
                to = place.get(packed + step.change * genome.strides[step.alteration])
                for s in range(num_sites):
                    target = num_inside if to is None else to * num_sites + s
                    found.append((c * num_sites + s, target, column))
        if moves and num_sites > 1:
            for c, s, to in itertools.product(range(len(kept)), *(range(num_sites),) * 2):
                if s != to and (model.custom or model.sites.migration_rate[s, to] > 0):
                    found.append((c * num_sites + s, c * num_sites + to, len(steps) + to))
        found.sort()
        return (
            Edges(*(tuple(int(x) for x in column) for column in zip(*found, strict=True)))
            if (found)
            else Edges((), (), ())
        )

    steps = genome.steps
    mutations = edges(steps.mutations, "mutation")
    asymmetric = edges(steps.differentiations, "asymmetric")
    symmetric = edges(steps.differentiations, "symmetric")
    conversions = edges(steps.switches, "switch", moves=True)
    leaves = any(num_inside in e.target for e in (mutations, asymmetric, symmetric, conversions))
    return Network(
        num_types=num_inside + leaves,
        num_sites=num_sites,
        genotypes=tuple(kept),
        mutations=mutations,
        asymmetric=asymmetric,
        symmetric=symmetric,
        conversions=conversions,
        is_both=model.mutation.mutating_daughters == "both",
        immigrants=tuple((place[g] * num_sites + s, n) for g, s, n in immigrants),
    )


def _possible(model: Model) -> Callable[[str, int, np.ndarray], bool]:
    """Whether a cell with some levels can make a step at all."""
    genome = model.genome
    steps = genome.steps
    lists = {
        "mutation": steps.mutations,
        "switch": steps.switches,
        "asymmetric": steps.differentiations,
        "symmetric": steps.differentiations,
    }
    instability = np.asarray(genome.mutation_factor) * float(model.mutation.genetic_instability)

    def possible(kind: str, column: int, levels: np.ndarray) -> bool:
        j, change = lists[kind][column]
        level = int(levels[j])
        if not 0 <= level + change <= genome.max_levels[j]:
            return False
        if model.custom is not None:
            return True
        if kind == "mutation":
            gain = genome.gain_probability if level else genome.first_gain_probability
            return bool((gain if change > 0 else genome.loss_probability)[j] > 0) and bool(
                np.all(instability[levels > 0] > 0) and model.mutation.genetic_instability > 0
            )
        if kind == "switch":
            base = genome.on_rate if change > 0 else genome.off_rate
            induced = genome.induced_on_rate if change > 0 else genome.induced_off_rate
            return bool(base[j] > 0 or np.any(induced[j] > 0))
        share = (
            genome.asymmetric_probability
            if kind == "asymmetric"
            else (genome.symmetric_probability)
        )
        return bool(share[j] > 0)

    return possible


def _reachable(model: Model, starts: list[int], max_alterations: int | None) -> list[int]:
    """Packed genotypes in rising order."""
    genome = model.genome
    possible = _possible(model)
    lists = {
        "mutation": genome.steps.mutations,
        "switch": genome.steps.switches,
        "asymmetric": genome.steps.differentiations,
        "symmetric": genome.steps.differentiations,
    }
    origin = genotype.unpack(genome, np.array(starts, np.int64))

    def is_near(levels: np.ndarray) -> bool:
        changed = int(np.sum(origin != levels, axis=1).min())
        return max_alterations is None or changed <= max_alterations

    found, frontier = set(starts), list(starts)
    while frontier:
        packed = frontier.pop()
        levels = np.asarray(genotype.unpack(genome, np.int64(packed)))
        for kind, steps in lists.items():
            for column, (j, change) in enumerate(steps):
                to = packed + change * genome.strides[j]
                if to in found or not possible(kind, column, levels):
                    continue
                if is_near(np.asarray(genotype.unpack(genome, np.int64(to)))):
                    found.add(to)
                    frontier.append(to)
                    if len(found) > MAX_CLASSES:
                        raise Refused(
                            f"more than {MAX_CLASSES} classes can be reached; "
                            "lower study.max_alterations, or use the cells engine"
                        )
    return sorted(found)


# --- rates -----------------------------------------------------------------------------------------


def class_traits(model: Model, net: Network) -> Traits:
    """Traits of every class, with a leading axis."""
    levels = genotype.unpack(model.genome, np.array(net.genotypes, np.int64))
    dtype = jnp.result_type(model.birth.birth_rate)
    return _all_traits(model.genome, np.asarray(levels, dtype))


_all_traits = jax.jit(jax.vmap(genotype.traits, (None, 0)))


def speeds(
    model: Model,
    net: Network,
    traits: Traits,
    concentration: Float[Array, "node site drug"],
    weights: Float[Array, " node"],
    day: Float[Array, " node"] | None = None,
    count: Float[Array, " type"] | None = None,
    extra: Float[Array, " variable"] | None = None,
) -> Speeds:
    """Rates of every type, averaged over the nodes of an interval. Differentiable.

    `count` and `extra` are what a custom law with feedback reads.
    """
    dtype = concentration.dtype
    num_classes, num_sites = len(net.genotypes), net.num_sites
    days = jnp.zeros(concentration.shape[0], dtype) if day is None else day
    inside = jnp.zeros(net.num_inside, dtype) if count is None else count[: net.num_inside]
    population = inside.reshape(num_classes, num_sites)
    variables = jnp.zeros(0, dtype) if extra is None else extra
    sites = jnp.arange(num_sites)

    def one(traits: Traits, site, drug, now) -> Rates:
        here = environment_at(model, site, drug, day=now, population=population, extra=variables)
        return rates(model, traits, here)

    everywhere = jax.vmap(jax.vmap(one, (None, 0, 0, None)), (0, None, None, None))

    def at_node(weight, drug, now):
        found = everywhere(traits, sites, drug, now)
        found = found if model.custom is None else per_day(found)
        return jax.tree.map(lambda x: weight * x, found)

    summed = jax.tree.map(
        lambda x: jnp.sum(x, axis=0), jax.vmap(at_node)(weights, concentration, days)
    )
    found = gather(net, summed if model.custom is None else per_division(summed))
    removal = mean_removal(model, concentration, weights)
    if removal is None:
        return found
    none = lambda x: x is None  # noqa: E731
    return eqx.tree_at(lambda s: s.suppressor_removal, found, removal, is_leaf=none)


def mean_removal(
    model: Model, concentration: Float[Array, "node site drug"], weights: Float[Array, " node"]
) -> Float[Array, " site"] | None:
    """Loss of suppressors by drugs at every site, averaged over the nodes of an interval, 1/day; None
    without immunity.
    """
    params, sites = model.immune, jnp.arange(concentration.shape[1])
    if params is None:
        return None
    here = lambda site, drug: environment_at(model, site, drug)  # noqa: E731
    each = jax.vmap(lambda site, drug: immune.suppressor_removal(params, here(site, drug)))
    at_node = jax.vmap(each, (None, 0))(sites, concentration)
    return jnp.sum(weights[:, None] * at_node, axis=0)


PER_DIVISION = ("mutation_probability", "asymmetric_probability", "symmetric_probability")


def per_day(found: Rates) -> Rates:
    """What happens at divisions as rates per day, which is what an average over time is taken of.

    Probabilities of the stations do not change in time; those of a custom law may.
    """
    return _times(found, found.birth_rate)


def per_division(found: Rates) -> Rates:
    """The same as probabilities again; 0 where no cell divides."""
    divides = found.birth_rate > 0
    return _times(found, jnp.where(divides, 1 / jnp.where(divides, found.birth_rate, 1), 0))


def _times(found: Rates, factor: Float[Array, "*lead"]) -> Rates:
    pick = lambda r: [getattr(r, name) for name in PER_DIVISION]  # noqa: E731
    return eqx.tree_at(pick, found, [x * factor[..., None] for x in pick(found)])


def gather(net: Network, found: Rates) -> Speeds:
    """Rates with leading axes [class, site] as the speeds of a network."""
    flat = jax.tree.map(lambda x: x.reshape(net.num_inside, *x.shape[2:]), found)
    outside = net.num_types - net.num_inside
    pad = lambda x: jnp.concatenate([x, jnp.zeros(outside, x.dtype)])  # noqa: E731

    def pick(values, edges: Edges):
        return values[np.array(edges.source, int), np.array(edges.column, int)]

    moved = jnp.concatenate([flat.switching_rate, flat.migration_rate], axis=1)
    return Speeds(
        birth=pad(flat.birth_rate),
        death=pad(flat.death_rate),
        mutation=pick(flat.mutation_probability, net.mutations),
        asymmetric=pick(flat.asymmetric_probability, net.asymmetric),
        symmetric=pick(flat.symmetric_probability, net.symmetric),
        conversion=pick(moved, net.conversions),
        visibility=None if flat.visibility is None else pad(flat.visibility),
    )


def crowded(
    found: Speeds, net: Network, sites: SiteParams, count: Float[Array, "*lead type"]
) -> Speeds:
    """The same with births slowed by the cells at each site."""
    if sites.crowding == "none":
        return found
    inside = count[..., : net.num_inside]
    at_site = jnp.sum(inside.reshape(*inside.shape[:-1], -1, net.num_sites), axis=-2)
    factor = crowding_factor(sites, at_site)
    by_type = factor[..., np.arange(net.num_types) % net.num_sites]
    return eqx.tree_at(lambda s: s.birth, found, found.birth * by_type)


def still(found: Speeds, net: Network, stands: Bool[Array, " type"]) -> Speeds:
    """The same where some types stand still: their cells neither divide, nor die, nor convert."""
    moves = 1 - stands.astype(found.birth.dtype)
    parts = lambda s: (s.birth, s.death, s.conversion)  # noqa: E731
    sources = np.array(net.conversions.source, int)
    kept = (found.birth * moves, found.death * moves, found.conversion * moves[sources])
    return eqx.tree_at(parts, found, kept)


def scattered(
    edges: Edges, values: Float[Array, " edge"], num_types: int
) -> Float[Array, "type type"]:
    """A dense matrix [from, to] of the values of edges."""
    matrix = jnp.zeros((num_types, num_types), values.dtype)
    where: tuple[Int[np.ndarray, " edge"], ...] = (
        np.array(edges.source, int),
        np.array(edges.target, int),
    )
    return matrix.at[where].add(values)
