"""Events: small tumors of the `clones` engine, one event at a time (Gillespie 1977).

After Exp(1)/(total rate) days a cell of some type divides, dies or converts, with the offspring law of
`network`. Under crowding, immunity or feedback all rates are evaluated again at every event, and extra
variables move between events (the classical Runge-Kutta method), in strides of at most `STRIDE` over
the total rate or the interval. A few tumors of a block at a time, whoever needs it.

Doi 10.1021/j100540a008.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32, UInt32

from jaxevo.engines.sampling import Words, log64, threefry, uniform64
from jaxevo.engines.wiring import Context, Held, Rules, edges_of, held, moved, speeds_now, wiring
from jaxevo.state import Array

LANES = 64  # tumors that are followed at once
ESCAPE = 2  # times `exact_below`: from here on in steps
WORDS = 5  # uniform numbers of an event
EVENT = 1 << 31  # purpose of its words


class Lineage(NamedTuple):
    """Every clone (origin and type) of every tumor: the bit and the type are its name."""

    born: Float[Array, "origin type tumor"]  # day, NaN if there never was one
    died: Float[Array, "origin type tumor"]  # day on which the last cell died, NaN if it has cells
    parent: Int32[Array, "origin type tumor"]  # origin * types + type, -1 for none


class Tumors(NamedTuple):
    """A block of tumors between two calls. The last axis is the tumor."""

    count: Float[Array, "origin type tumor"]  # cells, whole numbers
    extra: Float[Array, "variable tumor"]
    key: tuple[UInt32[jax.Array, " tumor"], UInt32[jax.Array, " tumor"]]
    law: Int32[Array, " tumor"]
    status: Int32[Array, " tumor"]
    day: Float[Array, " tumor"]  # now; in growth since the founders
    left: Float[Array, " tumor"]  # of the interval, days
    step: Int32[Array, " tumor"]  # of the interval
    births: Float[Array, " tumor"]  # whole with single events, expected in steps
    deaths: Float[Array, " tumor"]
    arrived: Float[Array, " tumor"]  # immigrants
    attempts: Int32[Array, " tumor"]
    lineage: Lineage | None


def living(count: Float[Array, "origin type tumor"], rules: Rules) -> Float[Array, " tumor"]:
    """Living cells of every tumor."""
    return jnp.sum(count[:, : rules.net.num_inside], axis=(0, 1))


def note_clones(
    lineage: Lineage,
    before: Float[Array, "origin type tumor"],
    after: Float[Array, "origin type tumor"],
    arrived: Bool[Array, "origin type tumor"],
    parent: Int32[Array, "origin type tumor"],
    days: tuple[Float[Array, " tumor"], Float[Array, " tumor"]],
) -> Lineage:
    """Write down which clones are new, which have died out, and which have come back."""
    is_new = arrived & jnp.isnan(lineage.born)
    had_cells = (before > 0) | arrived
    born = jnp.where(is_new, days[0][None, None, :], lineage.born)
    died = jnp.where(had_cells & (after == 0), days[1][None, None, :], lineage.died)
    return Lineage(
        born=born,
        died=jnp.where(after > 0, jnp.nan, died),
        parent=jnp.where(is_new, parent, lineage.parent),
    )


class _Lanes(NamedTuple):
    """Tumors that are being followed."""

    count: Float[Array, "clone lane"]  # origin * types + type
    extra: Float[Array, "variable lane"]
    day: Float[Array, " lane"]
    left: Float[Array, " lane"]
    event: UInt32[jax.Array, " lane"]
    births: Float[Array, " lane"]
    deaths: Float[Array, " lane"]
    arrived: Float[Array, " lane"]
    lineage: Lineage | None


def follow(
    tumors: Tumors,
    chosen: Bool[Array, " tumor"],
    now: Context,
    key: tuple[Words, Words],
    rules: Rules,
    most: Float[Array, " tumor"],
) -> Tumors:
    """Follow the chosen tumors to the end of the interval, to no cell, or to `most` cells."""
    width = chosen.shape[0]

    def some(carry):
        tumors, pending = carry
        (index,) = jnp.nonzero(pending, size=min(LANES, width), fill_value=width)
        at = jnp.minimum(index, width - 1)
        take = lambda x: x[..., at]  # noqa: E731
        clones = tumors.count.shape[0] * tumors.count.shape[1]
        flat = lambda x: x.reshape(clones, width)  # noqa: E731
        lanes = _Lanes(
            count=take(flat(tumors.count)),
            extra=take(tumors.extra),
            day=take(tumors.day),
            left=jnp.where(index < width, take(tumors.left), 0.0),
            event=jnp.zeros(at.shape, jnp.uint32),
            births=jnp.zeros(at.shape),
            deaths=jnp.zeros(at.shape),
            arrived=jnp.zeros(at.shape),
            lineage=None if tumors.lineage is None else jax.tree.map(
                lambda x: take(flat(x)), tumors.lineage),
        )  # fmt: skip
        lanes = _run(lanes, now.columns(at), (take(key[0]), take(key[1])), rules, take(most))
        put = lambda x, new: x.at[..., index].set(new, mode="drop")  # noqa: E731
        add = lambda x, new: x.at[index].add(new, mode="drop")  # noqa: E731
        back = lambda x, new: put(flat(x), new).reshape(x.shape)  # noqa: E731
        lineage = tumors.lineage
        if lineage is not None:
            lineage = jax.tree.map(back, lineage, lanes.lineage)
        tumors = tumors._replace(
            count=back(tumors.count, lanes.count),
            extra=put(tumors.extra, lanes.extra),
            day=put(tumors.day, lanes.day),
            left=put(tumors.left, lanes.left),
            births=add(tumors.births, lanes.births),
            deaths=add(tumors.deaths, lanes.deaths),
            arrived=add(tumors.arrived, lanes.arrived),
            lineage=lineage,
        )
        return tumors, put(pending, False)

    done, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[1]), some, (tumors, chosen))
    return done


def _run(lanes: _Lanes, now: Context, key, rules: Rules, most) -> _Lanes:
    """Events until every lane has ended."""
    fixed = None
    if not now.is_dynamic:
        fixed = held(speeds_now(now, _by_type(lanes.count, rules), lanes.extra), rules.net)

    def is_running(lanes: _Lanes):
        alive = jnp.sum(lanes.count.reshape(-1, rules.net.num_types, len(lanes.day))
                        [:, : rules.net.num_inside], axis=(0, 1))  # fmt: skip
        waits = alive > 0
        if rules.net.immigrants:
            waits = jnp.ones_like(waits)
        return (lanes.left > 0) & waits & (alive < most)

    def body(lanes: _Lanes) -> _Lanes:
        return _event(lanes, is_running(lanes), now, fixed, key, rules)

    return jax.lax.while_loop(lambda lanes: jnp.any(is_running(lanes)), body, lanes)


def _by_type(count: Float[Array, "clone lane"], rules: Rules) -> Float[Array, "type lane"]:
    return jnp.sum(count.reshape(-1, rules.net.num_types, count.shape[-1]), axis=0)


def _event(lanes: _Lanes, runs, now: Context, fixed: Held | None, key, rules: Rules) -> _Lanes:
    """One event of every lane that runs, or the end of its interval."""
    net, width = rules.net, len(lanes.day)
    rates = fixed
    if rates is None:
        rates = held(speeds_now(now, _by_type(lanes.count, rules), lanes.extra), net)
    draw = [
        uniform64(threefry(key, (lanes.event, jnp.full_like(lanes.event, EVENT + k))))
        for k in range(WORDS)
    ]
    slots = _slots(net)
    per_type = _rate_of_type(rates, net)
    num_origins = lanes.count.shape[0] // net.num_types
    weight = lanes.count * jnp.concatenate([per_type] * num_origins)
    if net.immigrants:
        weight = jnp.concatenate([weight, now.process.immigration[now.law].T])
    upto = _running_sum(weight)
    total = upto[-1]
    wait = jnp.where(total > 0, -log64(draw[0]) / jnp.where(total > 0, total, 1.0), jnp.inf)
    stride = lanes.left
    if lanes.extra.shape[0]:
        stride = jnp.minimum(stride, _stride(now))
    happens = runs & (wait < stride)
    length = jnp.where(runs, jnp.minimum(wait, stride), 0.0)
    left = jnp.where(happens, lanes.left - length, jnp.where(runs & (stride >= lanes.left), 0.0,
                     lanes.left - length))  # fmt: skip
    by_type = _by_type(lanes.count, rules)
    extra = moved(now, lanes.day, length, (by_type, by_type), lanes.extra)
    day = lanes.day + length
    index = _chosen(upto, draw[1] * total)
    lane = jnp.arange(width)
    happens &= weight[index, lane] > 0
    is_cell = happens & (index < lanes.count.shape[0])
    clone = jnp.minimum(index, lanes.count.shape[0] - 1)
    kind = clone % net.num_types
    # which of the type's events: a row of slots
    value = jnp.where(
        jnp.asarray(slots.edge)[kind].T >= 0,
        _rows(rates)[jnp.maximum(jnp.asarray(slots.edge)[kind].T, 0), lane[None, :]],
        0.0,
    )
    edge_upto = _running_sum(value)
    slot = _chosen(edge_upto, draw[2] * edge_upto[-1])
    is_cell &= value[slot, lane] > 0
    first, second, leaves, mutates = (jnp.asarray(x)[kind, slot] for x in slots[1:])
    if net.is_both:
        daughters = [_mutant(rates, net, kind, draw[k]) for k in (3, 4)]
        is_pair = first == PAIR
        first = jnp.where(is_pair, daughters[0], first)
        second = jnp.where(is_pair, daughters[1], second)
    origin = jnp.where(mutates, num_origins - 1, clone // net.num_types)
    gain = [jnp.where(is_cell & (to >= 0), origin * net.num_types + to, -1)
            for to in (first, second)]  # fmt: skip
    rows = jnp.arange(lanes.count.shape[0])[:, None]
    count = lanes.count
    for to in gain:
        count = count + (rows == to[None, :]).astype(count.dtype)
    count = count - (rows == jnp.where(is_cell & leaves, clone, -1)[None, :]).astype(count.dtype)
    arrived = jnp.zeros(width)
    if net.immigrants:
        source = jnp.clip(index - lanes.count.shape[0], 0, len(net.immigrants) - 1)
        to, cells = (jnp.asarray(x)[source] for x in zip(*net.immigrants, strict=True))
        comes = happens & (index >= lanes.count.shape[0])
        arrived = jnp.where(comes, cells, 0).astype(count.dtype)
        row = (num_origins - 1) * net.num_types + to
        hit = rows == jnp.where(comes, row, -1)[None, :]
        count = count + hit.astype(count.dtype) * arrived[None, :]
    change = sum((to >= 0).astype(jnp.int32) for to in gain) - (is_cell & leaves).astype(jnp.int32)
    lineage = lanes.lineage
    if lineage is not None:
        parent = jnp.where(is_cell, clone, -1).astype(jnp.int32)
        lineage = jax.tree.map(lambda x: x[None], lineage)
        lineage = note_clones(
            lineage, lanes.count[None], count[None], (count > lanes.count)[None],
            jnp.broadcast_to(parent[None, None, :], (1, *count.shape)), (day, day),
        )  # fmt: skip
        lineage = jax.tree.map(lambda x: x[0], lineage)
    return _Lanes(
        count=count,
        extra=extra,
        day=day,
        left=left,
        event=lanes.event + runs.astype(jnp.uint32),
        births=lanes.births + (change > 0).astype(count.dtype),
        deaths=lanes.deaths + (change < 0).astype(count.dtype),
        arrived=lanes.arrived + arrived,
        lineage=lineage,
    )


def _stride(now: Context):
    """Longest time over which extra variables take one step: a 32nd of the interval."""
    return now.process.duration[now.law, now.interval] * (1 / 32)


# --- choosing --------------------------------------------------------------------------------------

PAIR = -2  # both daughters are mutants: draw them


class _Slots(NamedTuple):
    """All events of a type, [type, slot]."""

    edge: np.ndarray  # row of `_rows`, -1 pads
    first: np.ndarray  # type that gains a cell, -1 for none
    second: np.ndarray
    leaves: np.ndarray  # whether the cell itself goes
    mutates: np.ndarray  # whether the new cell founds or joins a clone of treatment


def _rows(rates: Held) -> Float[Array, "row lane"]:
    """All rates one below the other, as `_slots` numbers them."""
    return jnp.concatenate(
        [rates.plain, rates.death, rates.pairs, rates.mutation, rates.asymmetric, rates.symmetric,
         rates.conversion]
    )  # fmt: skip


@lru_cache(maxsize=64)
def _slots(net) -> _Slots:
    """Every event of every type."""
    lists, k = wiring(net), net.num_types
    found: list[list[tuple]] = []
    starts = np.cumsum([3 * k, len(net.mutations), len(net.asymmetric), len(net.symmetric)])
    for i in range(k):
        rows: list[tuple] = [(i, i, -1, False, False), (k + i, -1, -1, True, False)]
        if net.is_both:
            rows.append((2 * k + i, PAIR, PAIR, True, True))
        kinds = (  # edges, second daughter too, the mother goes, founds a clone
            (net.mutations, lists.mutations, False, False, True),
            (net.asymmetric, lists.asymmetric, False, False, False),
            (net.symmetric, lists.symmetric, True, True, False),
            (net.conversions, lists.conversions, False, True, False),
        )
        for start, (edges, listed, is_twice, leaves, founds) in zip(starts, kinds, strict=True):
            for e in listed[i][listed[i] >= 0]:
                to = edges.target[e]
                rows.append((start + e, to, to if is_twice else -1, leaves, founds))
        found.append(rows)
    longest = max(map(len, found))
    blank = (-1, -1, -1, False, False)
    padded = [rows + [blank] * (longest - len(rows)) for rows in found]
    columns = (np.array([[row[c] for row in rows] for rows in padded]) for c in range(5))
    return _Slots(*columns)


def _rate_of_type(rates: Held, net) -> Float[Array, "type lane"]:
    """Total rate of one cell of each type; the sum over its slots, in their order."""
    edge = _slots(net).edge
    rows = _rows(rates)
    total = jnp.zeros_like(rates.plain)
    for column in edge.T:
        is_used = jnp.asarray((column >= 0).astype(float))[:, None]
        total = total + rows[np.maximum(column, 0)] * is_used
    return total


def _running_sum(values: Float[Array, "row lane"]) -> Float[Array, "row lane"]:
    """Sums of all rows up to each, by doubling, in a fixed order."""
    shift = 1
    while shift < len(values):
        values = values + jnp.concatenate([jnp.zeros_like(values[:shift]), values[:-shift]])
        shift *= 2
    return values


def _chosen(upto: Float[Array, "row lane"], level: Float[Array, " lane"]):
    """The first row whose running sum exceeds the level."""
    return jnp.minimum(jnp.sum(upto < level[None, :], axis=0), len(upto) - 1)


def _mutant(rates: Held, net, kind, draw):
    """Type of a daughter that is a mutant, given its mother's type."""
    lists = wiring(net).mutations
    edge = jnp.asarray(lists)[kind].T
    if edge.shape[0] == 0:
        return kind
    lane = jnp.arange(len(kind))[None, :]
    value = jnp.where(edge >= 0, rates.share[jnp.maximum(edge, 0), lane], 0.0)
    upto = _running_sum(value)
    slot = _chosen(upto, draw * upto[-1])
    _, target = edges_of(net.mutations)
    return jnp.asarray(target)[jnp.maximum(edge[slot, lane[0]], 0)]
