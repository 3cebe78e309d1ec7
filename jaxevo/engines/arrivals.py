"""Arrivals: cells that come to a tumor from outside, in exact continuous time.

Events are a Poisson process of I per day, so that the wait for the next one is Exp(1)/I; it is drawn
anew at the start of every interval, which a process without memory allows. A tumor's lanes are run up
to the event and no further; then the batch is dealt out to its main lanes, as one clone without a
parent. Which of several sources it comes from is decided by its share of I. Cells and arrivals are
independent while rates are held, so that this cuts time and changes no law.

Random words are a pure function of (seed, replicate; interval, number of the arrival in it).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from jaxevo.engines.base import Immigration
from jaxevo.engines.lanes import LOG_ROWS, Lanes, living
from jaxevo.engines.sampling import Wide, exponential, threefry

OWN_WORDS = 2**31  # name of the key of a tumor, beyond those of its lanes
NO_PARENT = 0xFFFFFFFF

Batches = tuple[tuple[int, int], ...]  # row and cells per event of each source


class Sources(eqx.Module):
    """How often something comes, and from where."""

    mean_wait: Float[Array, ""]  # days between events of all sources
    high: UInt32[Array, " source"]  # where the share of each source ends, times 2^64
    low: UInt32[Array, " source"]

    @classmethod
    def of(cls, events_per_day: np.ndarray) -> "Sources":
        """Sources with these rates."""
        rates = np.asarray(events_per_day, float)
        total = rates.sum()
        wait = np.float32(1 / total) if total > 0 else np.float32(np.inf)
        ends = np.cumsum(rates) / total if total > 0 else np.ones(len(rates))
        words = [min(int(share * 2**53) << 11, 2**64 - 1) for share in ends.tolist()]
        return cls(
            jnp.asarray(wait),
            jnp.asarray(np.array([w >> 32 for w in words], np.uint32)),
            jnp.asarray(np.array([w & 0xFFFFFFFF for w in words], np.uint32)),
        )


class Clock(NamedTuple):
    """When the next batch comes to each tumor."""

    key: tuple[UInt32[Array, " tumor"], UInt32[Array, " tumor"]]
    wait: Float[Array, " tumor"]  # days; infinite if none comes in this interval
    number: UInt32[Array, " tumor"]  # arrivals in this interval so far


def batches(immigration: tuple[Immigration, ...], num_sites: int) -> Batches:
    """Row and cells per event of each source."""
    return tuple(
        (source.genotype * num_sites + source.site, source.cells) for source in immigration
    )


def wound(
    clock: Clock,
    interval: UInt32[Array, " tumor"],
    number: UInt32[Array, " tumor"],
    left: Float[Array, " tumor"],
    sources: Sources,
) -> Clock:
    """The clock after `number` arrivals in an interval of which so many days are left."""
    word, _ = threefry(clock.key, (interval, number * jnp.uint32(2)))
    wait = exponential(word) * sources.mean_wait
    return clock._replace(wait=jnp.where(wait < left, wait, jnp.inf), number=number)


def land(
    lanes: Lanes,
    clock: Clock,
    here: Bool[Array, " tumor"],
    interval: UInt32[Array, " tumor"],
    left: Float[Array, " tumor"],
    sources: Sources,
    coming: Batches,
    num_main: int,
) -> tuple[Lanes, Bool[Array, " tumor"]]:
    """Put a batch into the tumors named by `here`.

    Returns:
        The lanes, and which tumors have no room for theirs: those are left as they were.
    """
    num_slots, num_lanes = lanes.cell.shape
    per_tumor = num_lanes // len(here)
    spread = lambda x: jnp.repeat(x, per_tumor)  # noqa: E731
    number = Wide(*threefry(clock.key, (interval, clock.number * jnp.uint32(2) + jnp.uint32(1))))
    row = jnp.full(len(here), coming[-1][0], jnp.uint32)
    size = jnp.full(len(here), coming[-1][1], jnp.int32)
    for k in reversed(range(len(coming) - 1)):
        before = number < Wide(sources.high[k], sources.low[k])
        row = jnp.where(before, jnp.uint32(coming[k][0]), row)
        size = jnp.where(before, jnp.int32(coming[k][1]), size)

    place = jnp.arange(num_lanes, dtype=jnp.int32) % per_tumor
    turn = (clock.number % jnp.uint32(num_main)).astype(jnp.int32)
    rank = (place - spread(turn)) % num_main
    part = spread(size // num_main) + (rank < spread(size % num_main)).astype(jnp.int32)
    part = jnp.where(place < num_main, part, 0)
    num_cells = living(lanes)
    # a lane whose last cell died before the moment has kept the time that it did not need
    remaining = jnp.where(spread(here), 0.0, lanes.remaining)
    is_over = (num_cells + part > num_slots).reshape(-1, per_tumor)
    no_room = here & jnp.any(is_over, axis=1)
    lands = here & ~no_room
    part = jnp.where(spread(lands), part, 0)

    is_first = place == 0
    names = jnp.uint32(per_tumor)
    identity = (lanes.clones.reshape(-1, per_tumor)[:, 0] + 1) * names
    lane = jnp.arange(num_lanes, dtype=jnp.int32)
    put = {"mode": "drop", "unique_indices": True, "wrap_negative_indices": False}

    def add(s, carry):
        cells, lineages = carry
        at = jnp.where(s < part, num_cells + s, num_slots) * num_lanes + lane
        return cells.at[at].set(spread(row), **put), lineages.at[at].set(spread(identity), **put)

    carry = (lanes.cell.reshape(-1), lanes.lineage.reshape(-1))
    cells, lineages = jax.lax.fori_loop(0, jnp.max(part), add, carry)
    num_sites = lanes.count.shape[0]
    site = spread(row % jnp.uint32(num_sites)).astype(jnp.int32)
    is_site = jnp.arange(num_sites, dtype=jnp.int32)[:, None] == site[None, :]

    noted = (is_first & spread(lands)).astype(jnp.int32)
    at = jnp.where(noted > 0, lanes.logged, LOG_ROWS) * num_lanes + lane
    entry = (identity, jnp.full_like(identity, NO_PARENT), row, interval, left)
    log = jax.tree.map(
        lambda rows, x: rows.reshape(-1).at[at].set(spread(x), **put).reshape(rows.shape),
        lanes.log,
        type(lanes.log)(*entry),
    )
    lanes = lanes._replace(
        cell=cells.reshape(lanes.cell.shape),
        lineage=lineages.reshape(lanes.lineage.shape),
        count=lanes.count + jnp.where(is_site, part[None, :], 0),
        remaining=remaining,
        clones=lanes.clones + noted.astype(jnp.uint32),
        logged=lanes.logged + noted,
        log=log,
    )
    return lanes, no_room


def has_log_room(lanes: Lanes, num_tumors: int) -> Bool[Array, " tumor"]:
    """Whether the first lane of a tumor can note one more arrival."""
    return lanes.logged.reshape(num_tumors, -1)[:, 0] <= LOG_ROWS - 2
