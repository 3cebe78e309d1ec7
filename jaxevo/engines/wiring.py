"""Wiring: a network as index lists, and the rates of a block of tumors, for the `clones` engine.

The last axis of every array is the tumor of a block. A block always has `width` tumors, whatever the
batch, so that one compiled program serves all batches and a tumor's bits depend on itself alone.
Sums over types run in a fixed order, or add whole numbers below 2^53, which are exact in any order.
"""

from functools import lru_cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxevo.cell import immune
from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.engines import immunity
from jaxevo.engines.network import Edges, Network, Speeds, speeds
from jaxevo.engines.process import Process
from jaxevo.engines.sampling import log64
from jaxevo.sites import crowding_factor
from jaxevo.state import Array

ELEMENTS = 16384  # types times tumors of a block, about: what a core's cache holds
MIN_WIDTH, MAX_WIDTH = 64, 2048


class Rules(NamedTuple):
    """What shapes the kernel (static)."""

    net: Network
    num_origins: int = 1  # 2 once mutants of treatment are told from those before
    exact_below: int = 100  # cells; a smaller tumor is followed event by event
    has_jumps: bool = False
    has_lineage: bool = False

    @property
    def width(self) -> int:
        """Tumors of a block; depends on the network alone."""
        return int(np.clip(ELEMENTS // self.net.num_types // 64 * 64, MIN_WIDTH, MAX_WIDTH))


class Wiring(NamedTuple):
    """Index lists of a network (NumPy)."""

    color: np.ndarray  # [type] no edge joins two types of one color
    mutations: np.ndarray  # [type, slot] edges that leave a type, -1 pads
    asymmetric: np.ndarray
    symmetric: np.ndarray
    conversions: np.ndarray


@lru_cache(maxsize=64)
def wiring(net: Network) -> Wiring:
    """The lists of one network."""
    kinds = (net.mutations, net.asymmetric, net.symmetric, net.conversions)
    near: list[set[int]] = [set() for _ in range(net.num_types)]
    for edges in kinds:
        for i, j in zip(edges.source, edges.target, strict=True):
            near[i].add(j)
            near[j].add(i)
    color = np.full(net.num_types, -1)
    for start in range(net.num_types):
        pending = [start] if color[start] < 0 else []
        while pending:  # from neighbor to neighbor, so that a bipartite graph gets two colors
            i = pending.pop()
            if color[i] >= 0:
                continue
            taken = {int(color[j]) for j in near[i]}
            color[i] = next(c for c in range(net.num_types) if c not in taken)
            pending += sorted((j for j in near[i] if color[j] < 0), reverse=True)
    out = [padded_lists(edges.source, range(len(edges)), net.num_types) for edges in kinds]
    return Wiring(color, *out)


def padded_lists(keys, values, num_keys: int) -> np.ndarray:
    """Row k lists the values whose key is k, in their order; -1 pads."""
    lists: list[list[int]] = [[] for _ in range(num_keys)]
    for key, value in zip(keys, values, strict=True):
        lists[key].append(int(value))
    longest = max((len(found) for found in lists), default=0)
    return np.array([found + [-1] * (longest - len(found)) for found in lists], int).reshape(
        num_keys, longest
    )


def listed_sum(values: Float[Array, "edge tumor"], lists: np.ndarray) -> Float[Array, "key tumor"]:
    """Sum of the values that each row lists, from left to right."""
    total = jnp.zeros((len(lists), values.shape[-1]), values.dtype)
    for column in lists.T:
        picked = values[np.maximum(column, 0)]
        if (column < 0).any():
            picked = picked * (column >= 0).astype(float)[:, None]
        total = total + picked
    return total


def tree_sum(values: Float[Array, "row tumor"]) -> Float[Array, " tumor"]:
    """Sum over rows, pairwise in a fixed order."""
    while len(values) > 1:
        half = -(-len(values) // 2)
        rest = values[half:]
        pad = jnp.zeros((2 * half - len(values), values.shape[1]), values.dtype)
        values = values[:half] + jnp.concatenate([rest, pad])
    return values[0]


class Held(NamedTuple):
    """Rates of every tumor of a block, 1/day. The plain birth of a type makes two cells like it."""

    plain: Float[Array, "type tumor"]
    death: Float[Array, "type tumor"]
    mutation: Float[Array, "edge1 tumor"]  # the source stays, the target is one more
    asymmetric: Float[Array, "edge2 tumor"]  # the same
    symmetric: Float[Array, "edge3 tumor"]  # the source goes, the target is two more
    conversion: Float[Array, "edge4 tumor"]  # the source goes, the target is one more
    pairs: Float[Array, "type tumor"]  # both daughters are mutants, each on its own
    share: Float[Array, "edge1 tumor"]  # u_ij per division, or per daughter


def held(found: Speeds, net: Network) -> Held:
    """From rates and probabilities of a type (leaves [.., tumor]) to rates of its events."""
    lists = wiring(net)
    birth = found.birth
    mutated = listed_sum(found.mutation, lists.mutations)
    changed = listed_sum(found.asymmetric, lists.asymmetric)
    changed = changed + listed_sum(found.symmetric, lists.symmetric)
    of = lambda rate, edges: rate[np.array(edges.source, int)]  # noqa: E731
    if net.is_both:
        dividing = birth * (1 - changed)
        plain = dividing * (1 - mutated) * (1 - mutated)
        single = 2 * dividing * (1 - mutated)
        pairs = dividing * mutated * mutated
    else:
        plain = birth * (1 - mutated - changed)
        single, pairs = birth, jnp.zeros_like(birth)
    return Held(
        plain=plain,
        death=found.death,
        mutation=of(single, net.mutations) * found.mutation,
        asymmetric=of(birth, net.asymmetric) * found.asymmetric,
        symmetric=of(birth, net.symmetric) * found.symmetric,
        conversion=found.conversion,
        pairs=pairs,
        share=found.mutation,
    )


class Context(NamedTuple):
    """One interval of a block: where its rates come from."""

    process: Process  # leading axis law
    law: Int[Array, " tumor"]
    interval: Int[Array, ""]
    table: Speeds | None  # [.., tumor], births uncrowded; None with feedback

    @property
    def is_dynamic(self) -> bool:
        """Whether rates follow the counts."""
        model = self.process.model
        return self.table is None or model.sites.crowding != "none" or model.immune is not None

    @property
    def removal(self) -> Float[Array, "site tumor"] | None:
        """Loss of suppressors by drugs, 1/day; None without immunity."""
        return None if self.table is None else self.table.suppressor_removal

    def columns(self, tumors: Int[Array, " lane"]) -> "Context":
        """The same for some tumors of the block."""
        table = None
        if self.table is not None:
            table = jax.tree.map(lambda x: x[:, tumors], self.table)
        return self._replace(law=self.law[tumors], table=table)


def context(process: Process, law: Int[Array, " tumor"], interval: Int[Array, ""]) -> Context:
    """Rates of one interval, looked up for every tumor."""
    table = None
    if process.speeds is not None:
        row = process.which[law, interval]
        table = jax.tree.map(lambda x: x[law, row].T, process.speeds)
    return Context(process, law, interval, table)


def speeds_now(
    now: Context, count: Float[Array, "type tumor"], extra: Float[Array, "variable tumor"]
) -> Speeds:
    """Rates at these counts (whole numbers) of all origins together."""
    process, net = now.process, now.process.net
    if now.table is not None:
        if not now.is_dynamic:
            return now.table
        found, at_site = now.table, _at_sites(net, count)
        site_of = np.arange(net.num_types) % net.num_sites
        if process.model.sites.crowding != "none":
            sites = jax.tree.map(lambda x: x[now.law], process.model.sites)
            factor = crowding_factor(sites, at_site.T, log64).T
            found = eqx.tree_at(lambda s: s.birth, found, found.birth * factor[site_of])
        if process.model.immune is not None and found.visibility is not None:
            params = jax.tree.map(lambda x: x[now.law], process.model.immune)
            each = jax.vmap(immune.immune_death_rate, (0, 1, 1, 1), 1)
            rate = each(params, at_site, *immunity.parts(extra))
            killed = found.visibility * rate[site_of]
            found = eqx.tree_at(lambda s: s.death, found, found.death + killed)
        return found
    row = process.which[now.law, now.interval]
    start = process.start[now.law, now.interval]
    length = process.duration[now.law, now.interval]
    days = start[:, None] + length[:, None] * jnp.asarray(NODES)[None, :]
    pick = lambda tree: jax.tree.map(lambda x: x[now.law], tree)  # noqa: E731
    concentration = jnp.asarray(process.concentration)[now.law, row]
    each = jax.vmap(lambda model, traits, drug, day, n, x: speeds(
        model, net, traits, drug, jnp.asarray(WEIGHTS), day, n, x
    ))  # fmt: skip
    found = each(pick(process.model), pick(process.traits), concentration, days, count.T, extra.T)
    return jax.tree.map(jnp.transpose, found)


def drift_now(
    now: Context,
    day: Float[Array, " tumor"],
    count: Float[Array, "type tumor"],
    extra: Float[Array, "variable tumor"],
) -> Float[Array, "variable tumor"]:
    """Change of the extra variables per day."""
    process, net = now.process, now.process.net
    custom = process.model.custom
    if process.model.immune is not None and now.removal is not None:
        params = jax.tree.map(lambda x: x[now.law], process.model.immune)
        each = jax.vmap(immunity.drift, (0, 1, 1, 1), 1)
        return each(params, _at_sites(net, count), extra, now.removal)
    if custom is None or custom.drift is None:
        return jnp.zeros_like(extra)
    row = process.which[now.law, now.interval]
    params = jax.tree.map(lambda x: x[now.law], custom.params)
    concentration = jnp.asarray(process.concentration)[now.law, row]
    drift = custom.drift

    def one(params, nodes, day, n, x):
        population = n[: net.num_inside].reshape(-1, net.num_sites)
        drug = jnp.tensordot(jnp.asarray(WEIGHTS), nodes, axes=1)
        return jnp.asarray(drift(params, day, population, x, drug))

    found = jax.vmap(one)(params, concentration, day, count.T, extra.T)
    return found.T


def with_immune_pace(
    now: Context, pace: Float[Array, " tumor"], count: Float[Array, "type tumor"]
) -> Float[Array, " tumor"]:
    """The larger of a pace and that at which the immune cells of a tumor can change, 1/day."""
    if now.process.model.immune is None or now.removal is None:
        return pace
    params = jax.tree.map(lambda x: x[now.law], now.process.model.immune)
    at_site = _at_sites(now.process.net, count)
    each = jax.vmap(immune.pace, (0, 1, 1), 1)(params, at_site, now.removal)
    return jnp.maximum(pace, jnp.max(each, axis=0))


def _at_sites(net: Network, count: Float[Array, "type tumor"]) -> Float[Array, "site tumor"]:
    """Living cells of every tumor at every site."""
    return jnp.sum(count[: net.num_inside].reshape(-1, net.num_sites, count.shape[-1]), axis=0)


def moved(
    now: Context,
    day: Float[Array, " tumor"],
    length: Float[Array, " tumor"],
    counts: tuple[Float[Array, "type tumor"], Float[Array, "type tumor"]],
    extra: Float[Array, "variable tumor"],
) -> Float[Array, "variable tumor"]:
    """The extra variables after some days, counts going straight from the first to the second.

    One step of the classical Runge-Kutta method.
    """
    if extra.shape[0] == 0:
        return extra
    middle = 0.5 * (counts[0] + counts[1])
    h, half = length[None, :], 0.5 * length[None, :]
    k1 = drift_now(now, day, counts[0], extra)
    k2 = drift_now(now, day + 0.5 * length, middle, extra + half * k1)
    k3 = drift_now(now, day + 0.5 * length, middle, extra + half * k2)
    k4 = drift_now(now, day + length, counts[1], extra + h * k3)
    return extra + h * (1 / 6) * (k1 + 2 * k2 + 2 * k3 + k4)


def edges_of(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets as arrays."""
    return np.array(edges.source, int), np.array(edges.target, int)
