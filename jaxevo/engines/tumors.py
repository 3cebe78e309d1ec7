"""Tumors as groups of lanes: what a batch of the `cells` engine is, and how it is made.

One tumor is one replicate in one arm and owns `lanes_per_tumor` lanes, which are never shared between
replicates. Its cells come from founders, or from a state that another run has handed over. Tumors that
are treated at a size first grow, once per replicate; the arms then fork from the same cells.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int32, UInt32

from jaxevo.engines import immunity
from jaxevo.engines import lanes as islands
from jaxevo.engines.arrivals import OWN_WORDS, Clock
from jaxevo.engines.base import Founder
from jaxevo.engines.handover import State, StateRow, largest_names
from jaxevo.engines.lanes import Lanes
from jaxevo.engines.sampling import threefry
from jaxevo.model import Model

RUNNING, EXTINCT, STOPPED, OUT_OF_ROOM, INTERRUPTED, GROWN = 0, 1, 2, 3, 4, 5
TREATMENT_INTERVALS = 2**31  # random words of the treatment start here; growth counts from 0
OVERSHOOT = 0.009  # of a size that ends growth or a study, at most, in the mean
MAX_SLOTS = 60_000


class Layout(NamedTuple):
    """Lanes of one tumor (static). Depends on the room that a tumor needs, never on the batch."""

    num_main: int
    num_spare: int
    num_slots: int

    @property
    def lanes_per_tumor(self) -> int:
        """Main and spare lanes."""
        return self.num_main + self.num_spare

    @property
    def room(self) -> int:
        """Cells of one tumor that fit."""
        return self.lanes_per_tumor * self.num_slots

    @classmethod
    def of(cls, max_cells: int) -> "Layout":
        """About sqrt(max_cells) lanes with a quarter of head room; one exact lane when few cells."""
        if max_cells <= 8192:
            return cls(1, 0, max_cells + 1)
        num_main = 2 ** round(math.log2(math.sqrt(max_cells)) - 1)
        num_main = max(num_main, 2 ** math.ceil(math.log2(1.25 * max_cells / MAX_SLOTS)))
        return cls(num_main, max(1, num_main // 8), math.ceil(1.25 * max_cells / num_main))


class Tumors(NamedTuple):
    """All tumors of a batch between two calls. The last axis is lanes or tumors."""

    lanes: Lanes
    key: tuple[UInt32[Array, " lane"], UInt32[Array, " lane"]]
    arm: Int32[Array, " tumor"]
    status: Int32[Array, " tumor"]
    position: Int32[Array, " tumor"]  # intervals done
    is_midway: Bool[Array, " tumor"]  # the interval is still open: the log was full
    duration: Float[Array, " tumor"]  # of the interval, days
    left: Float[Array, " tumor"]  # of the interval, not yet granted to the lanes, days
    bound: Float[Array, " tumor"]  # Lambda, 1/day
    crowding: Float[Array, "site tumor"]
    attempts: Int32[Array, " tumor"]  # founders that were drawn
    clock: Clock  # of what comes from outside
    extra: Float[Array, "variable tumor"] | None = None  # effectors, then suppressors, by site
    kill: Float[Array, "site tumor"] | None = None  # of a cell that is wholly seen, held, 1/day


def new_tumors(
    layout: Layout, founders: tuple[Founder, ...], num_sites: int, seed: int, replicates: range,
    num_tumors: int, start: State | None = None,
) -> Tumors:  # fmt: skip
    """Founders in their lanes, or the cells of a state, which has a tumor for every replicate.

    Tumors beyond the replicates are padding: extinct from the start.
    """
    per_tumor, num_lanes = layout.lanes_per_tumor, layout.lanes_per_tumor * num_tumors
    is_real = np.arange(num_tumors) < len(replicates)
    clones = np.full(num_lanes, len(founders), np.uint32)
    if start is None:
        cell, lineage = founder_columns(layout, founders, num_sites)
        cell, lineage = np.tile(cell, num_tumors), np.tile(lineage, num_tumors)
    else:
        padding = num_tumors - len(replicates)
        rows = [start.tumors[i] for i in replicates] + [()] * padding
        cell, lineage = state_columns(layout, rows, num_sites)
        largest = np.append(largest_names(start)[np.array(replicates)], np.zeros(padding, np.int64))
        clones = np.repeat(largest // per_tumor + 1, per_tumor).astype(np.uint32)
    lineage = np.where(np.repeat(is_real, per_tumor), lineage, -1)
    living = [np.sum((lineage >= 0) & (cell % num_sites == s), axis=0) for s in range(num_sites)]
    shape = (layout.num_slots, num_lanes)
    replicate = np.resize(np.array(replicates, np.uint32), num_tumors)
    name = np.tile(np.arange(per_tumor, dtype=np.uint32), num_tumors)
    words = (jnp.uint32(seed & 0xFFFFFFFF), jnp.uint32(seed >> 32))
    zeros = partial(jnp.zeros, num_lanes)
    put = lambda x: jnp.zeros(shape, jnp.uint32).at[: len(x)].set(x.astype(np.uint32))  # noqa: E731
    lanes = Lanes(
        cell=put(cell),
        lineage=put(np.maximum(lineage, 0)),
        count=jnp.asarray(np.stack(living), jnp.int32),
        remaining=zeros(jnp.float32),
        candidate=zeros(jnp.uint32),
        births=zeros(jnp.int32),
        deaths=zeros(jnp.int32),
        clones=jnp.asarray(clones),
        logged=zeros(jnp.int32),
        log=islands.empty_log(num_lanes),
    )
    by_tumor = partial(jnp.zeros, num_tumors)
    own = threefry(words, (jnp.asarray(replicate), jnp.uint32(OWN_WORDS)))
    return Tumors(
        lanes=lanes,
        key=threefry(words, (jnp.asarray(np.repeat(replicate, per_tumor)), jnp.asarray(name))),
        arm=by_tumor(jnp.int32),
        status=jnp.where(is_real, RUNNING, EXTINCT).astype(jnp.int32),
        position=by_tumor(jnp.int32),
        is_midway=by_tumor(bool),
        duration=by_tumor(jnp.float32),
        left=by_tumor(jnp.float32),
        bound=by_tumor(jnp.float32),
        crowding=jnp.ones((num_sites, num_tumors), jnp.float32),
        attempts=jnp.asarray(is_real, jnp.int32),
        clock=Clock(own, jnp.full(num_tumors, jnp.inf, jnp.float32), by_tumor(jnp.uint32)),
    )


def with_immune(
    tumors: Tumors, model: Model, replicates: range, start: State | None = None
) -> Tumors:
    """The tumors with their immune cells at the start, or those of a state; none without immunity."""
    if model.immune is None:
        return tumors
    num = len(tumors.arm)
    extra = np.tile(immunity.start(model)[:, None], num)
    if start is not None and start.immune is not None:
        extra[:, : len(replicates)] = start.immune[list(replicates)].T
    kill = jnp.zeros((len(model.names.sites), num), jnp.float32)
    return tumors._replace(extra=jnp.asarray(extra, jnp.float32), kill=kill)


def founder_columns(
    layout: Layout, founders: tuple[Founder, ...], num_sites: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and clone names of the founders, [slot, lane], dealt out evenly; name -1 is no cell."""
    rows = [StateRow(f.genotype, f.site, f.count, True, k) for k, f in enumerate(founders)]
    return state_columns(layout, [rows], num_sites)


def state_columns(
    layout: Layout, tumors: Sequence[Sequence[StateRow]], num_sites: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and clone names of the cells of several tumors, [slot, lane]; name -1 is no cell."""
    most = max((sum(row.cells for row in rows) for rows in tumors), default=0)
    slots = -(-most // layout.num_main)
    grid = np.zeros((2, slots, layout.lanes_per_tumor * len(tumors)), np.int64)
    grid[1] = -1
    for k, rows in enumerate(tumors):
        sizes = np.array([row.cells for row in rows], np.int64)
        cell = np.repeat(np.array([r.genotype * num_sites + r.site for r in rows], np.int64), sizes)
        name = np.repeat(np.array([row.clone for row in rows], np.int64), sizes)
        slot, lane = np.divmod(np.arange(len(cell)), layout.num_main)
        lane += k * layout.lanes_per_tumor
        grid[0, slot, lane], grid[1, slot, lane] = cell, name
    return grid[0], grid[1]


def fork(tumors: Tumors, num_arms: int, num_real: int, padded: int) -> Tumors:
    """Every arm starts from the same cells: tumors in the order (arm, replicate), day 0."""
    per_tumor = len(tumors.lanes.remaining) // len(tumors.status)
    order = np.tile(np.arange(num_real), num_arms)
    order = np.concatenate([order, np.zeros(padded - len(order), int)])
    lane_order = (order[:, None] * per_tumor + np.arange(per_tumor)).reshape(-1)
    lanes = jax.tree.map(lambda x: jnp.take(x, lane_order, axis=-1), tumors.lanes)
    is_real = np.arange(padded) < num_arms * num_real
    count = jnp.where(np.repeat(is_real, per_tumor)[None, :], lanes.count, 0)
    status = jnp.take(tumors.status, order)
    status = jnp.where(status == GROWN, RUNNING, status)
    return Tumors(
        lanes=lanes._replace(
            count=count,
            births=jnp.zeros_like(lanes.births),
            deaths=jnp.zeros_like(lanes.deaths),
            remaining=jnp.zeros_like(lanes.remaining),
        ),
        key=(jnp.take(tumors.key[0], lane_order), jnp.take(tumors.key[1], lane_order)),
        arm=jnp.asarray(np.arange(padded) // num_real % num_arms, jnp.int32),
        status=jnp.where(is_real, status, EXTINCT).astype(jnp.int32),
        position=jnp.zeros(padded, jnp.int32),
        is_midway=jnp.zeros(padded, bool),
        duration=jnp.zeros(padded, jnp.float32),
        left=jnp.zeros(padded, jnp.float32),
        bound=jnp.zeros(padded, jnp.float32),
        crowding=jnp.ones((tumors.crowding.shape[0], padded), jnp.float32),
        attempts=jnp.take(tumors.attempts, order),
        clock=jax.tree.map(lambda x: jnp.take(x, order), tumors.clock),
        extra=jax.tree.map(lambda x: jnp.take(x, order, axis=-1), tumors.extra),
        kill=jax.tree.map(lambda x: jnp.take(x, order, axis=-1), tumors.kill),
    )


def site_count(tumors: Tumors) -> Int32[Array, "site tumor"]:
    """Living cells of every tumor at every site."""
    count = tumors.lanes.count
    by_tumor = count.reshape(count.shape[0], len(tumors.arm), -1)
    return jnp.sum(by_tumor, axis=2, dtype=jnp.int32)


def last_axis(x) -> PartitionSpec:
    """An array whose last axis is dealt out to devices."""
    return PartitionSpec(*([None] * (x.ndim - 1)), "tumor")


def place(tumors: Tumors, devices: tuple) -> Tumors:
    """Put the tumors on their devices, in blocks."""
    if len(devices) == 1:
        return jax.device_put(tumors, devices[0])
    mesh = Mesh(np.array(devices), ("tumor",))
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, last_axis(x))), tumors)
