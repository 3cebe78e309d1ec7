"""Tumors as groups of lanes: the jitted time loop of the `cells` engine.

One tumor is one replicate in one arm and owns `lanes_per_tumor` lanes. Time runs in intervals between
syncs; within an interval rates are held and lanes are exact (`lanes`). At a sync each tumor sums its
cells by site, updates crowding, and evens out its lanes. Tumors that start from founders and are
treated at a size first grow, once per replicate; the arms then fork from the same cells.

Bits of a replicate depend on the study, the seed and its index alone: lanes are never shared between
replicates, and everything that feeds a random decision is elementwise or an integer.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int32, PyTree, UInt32

from jaxevo.engines import lanes as islands
from jaxevo.engines.base import Founder
from jaxevo.engines.lanes import Held, Lanes
from jaxevo.engines.sampling import log, threefry
from jaxevo.engines.tables import Steps, Table
from jaxevo.sites import SiteParams, crowding_factor

RUNNING, EXTINCT, STOPPED, OUT_OF_ROOM, INTERRUPTED, GROWN = 0, 1, 2, 3, 4, 5
TREATMENT_INTERVALS = 2**31  # random words of the treatment start here; growth counts from 0
OVERSHOOT = 0.009  # of a size that ends growth or a study, at most, in the mean
BOUND_MARGIN = 1e-5  # Lambda lies above the largest rate by this share
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


class Settings(NamedTuple):
    """What shapes the kernel (static)."""

    tabulate: Callable[[PyTree, PyTree], Table]  # (World.content, Grid.inputs of an interval)
    layout: Layout
    steps: Steps
    is_both: bool
    is_growth: bool
    num_intervals: int  # at most, in one call


class Limits(NamedTuple):
    """Sizes that end something (cells; traced)."""

    ceiling: Int32[Array, ""]  # a lane pauses here
    target: Int32[Array, ""]  # a tumor ends its growth or its study here


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


class Outcome(NamedTuple):
    """What a call reports about each interval."""

    site_count: Int32[Array, "interval site tumor"]
    duration: Float[Array, "interval tumor"]
    unused: Float[Array, "interval tumor"]  # days left when the last cell died or a lane stopped
    status: Int32[Array, "interval tumor"]  # at the end of the interval


class World(eqx.Module):
    """What does not change in time."""

    sites: SiteParams
    content: PyTree  # what `Settings.tabulate` reads, such as the model and all traits


class Grid(eqx.Module):
    """Intervals of all arms."""

    duration: Float[Array, "interval arm"]  # days; 0 pads
    inputs: PyTree  # leading axis interval, such as concentrations


def new_tumors(
    layout: Layout, founders: tuple[Founder, ...], num_sites: int, seed: int, replicates: range,
    num_tumors: int,
) -> Tumors:  # fmt: skip
    """Founders in their lanes. Tumors beyond the replicates are padding: extinct from the start."""
    per_tumor, num_lanes = layout.lanes_per_tumor, layout.lanes_per_tumor * num_tumors
    cell, lineage = founder_columns(layout, founders, num_sites)
    shape = (layout.num_slots, num_lanes)
    is_real = np.arange(num_tumors) < len(replicates)
    count = np.zeros((num_sites, per_tumor), np.int32)
    filled = lineage >= 0
    for site in range(num_sites):
        count[site] = np.sum(filled & (cell % num_sites == site), axis=0)
    replicate = np.repeat(np.resize(np.array(replicates, np.uint32), num_tumors), per_tumor)
    name = np.tile(np.arange(per_tumor, dtype=np.uint32), num_tumors)
    words = (jnp.uint32(seed & 0xFFFFFFFF), jnp.uint32(seed >> 32))
    rows = len(cell)
    zeros = partial(jnp.zeros, num_lanes)
    lanes = Lanes(
        cell=jnp.zeros(shape, jnp.uint32)
        .at[:rows]
        .set(np.tile(cell, num_tumors).astype(np.uint32)),
        lineage=jnp.zeros(shape, jnp.uint32)
        .at[:rows]
        .set(np.tile(np.maximum(lineage, 0), num_tumors).astype(np.uint32)),
        count=jnp.asarray(np.tile(count, num_tumors) * np.repeat(is_real, per_tumor), jnp.int32),
        remaining=zeros(jnp.float32),
        candidate=zeros(jnp.uint32),
        births=zeros(jnp.int32),
        deaths=zeros(jnp.int32),
        clones=jnp.full(num_lanes, len(founders), jnp.uint32),
        logged=zeros(jnp.int32),
        log=islands.empty_log(num_lanes),
    )
    by_tumor = partial(jnp.zeros, num_tumors)
    return Tumors(
        lanes=lanes,
        key=threefry(words, (jnp.asarray(replicate), jnp.asarray(name))),
        arm=by_tumor(jnp.int32),
        status=jnp.where(is_real, RUNNING, EXTINCT).astype(jnp.int32),
        position=by_tumor(jnp.int32),
        is_midway=by_tumor(bool),
        duration=by_tumor(jnp.float32),
        left=by_tumor(jnp.float32),
        bound=by_tumor(jnp.float32),
        crowding=jnp.ones((num_sites, num_tumors), jnp.float32),
        attempts=jnp.asarray(is_real, jnp.int32),
    )


def founder_columns(
    layout: Layout, founders: tuple[Founder, ...], num_sites: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and clone names of the founders, [slot, lane], dealt out evenly; name -1 is no cell."""
    cells = [np.full(f.count, f.genotype * num_sites + f.site, np.int64) for f in founders]
    names = [np.full(f.count, k, np.int64) for k, f in enumerate(founders)]
    cell, name = np.concatenate(cells), np.concatenate(names)
    slots = -(-len(cell) // layout.num_main)
    grid = np.zeros((2, slots, layout.lanes_per_tumor), np.int64)
    grid[1] = -1
    slot, lane = np.divmod(np.arange(len(cell)), layout.num_main)
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
    )


def _hold(tumors: Tumors, table: Table, limits: Limits, settings: Settings) -> Held:
    """What is constant in this interval, spread from tumors to lanes."""
    per_tumor = settings.layout.lanes_per_tumor
    spread = lambda x: jnp.repeat(x, per_tumor, axis=-1)  # noqa: E731
    num_rows = len(table.birth) // table.max_birth.shape[0]
    first = 0 if settings.is_growth else TREATMENT_INTERVALS
    name = jnp.arange(per_tumor * len(tumors.arm), dtype=jnp.uint32) % jnp.uint32(per_tumor)
    return Held(
        key=tumors.key,
        interval=spread(tumors.position.astype(jnp.uint32) + jnp.uint32(first)),
        first_row=spread(tumors.arm * num_rows),
        bound=spread(tumors.bound),
        crowding=spread(tumors.crowding),
        ceiling=jnp.broadcast_to(limits.ceiling, name.shape),
        later=spread(tumors.left),
        name=name,
        names=jnp.uint32(per_tumor),
    )


def site_count(tumors: Tumors) -> Int32[Array, "site tumor"]:
    """Living cells of every tumor at every site."""
    count = tumors.lanes.count
    by_tumor = count.reshape(count.shape[0], len(tumors.arm), -1)
    return jnp.sum(by_tumor, axis=2, dtype=jnp.int32)


def _begin(
    tumors: Tumors, sites: SiteParams, table: Table, duration: Float[Array, " tumor"]
) -> Tumors:
    """Hold crowding and the bound from the counts at the start of an interval, and set the clocks."""
    count = site_count(tumors).astype(jnp.float32)
    crowding = crowding_factor(sites, count.T, log).T
    by_site = crowding * table.max_birth[tumors.arm].T + table.max_rest[tumors.arm].T
    bound = jnp.minimum(table.max_total[tumors.arm], jnp.max(by_site, axis=0))
    duration = jnp.where(tumors.status == RUNNING, duration, 0.0)
    lanes = tumors.lanes._replace(
        remaining=jnp.zeros_like(tumors.lanes.remaining),
        candidate=jnp.zeros_like(tumors.lanes.candidate),
    )
    return tumors._replace(
        lanes=lanes,
        duration=duration,
        left=duration,
        bound=bound * (1 + BOUND_MARGIN),
        crowding=crowding,
    )


def _run_interval(
    tumors: Tumors, table: Table, span: Float[Array, " arm"], limits: Limits, settings: Settings
) -> Tumors:
    """Advance every tumor to the end of the interval, or until it reaches the target.

    A tumor's lanes are granted time in pieces so short that the target is not passed by more than
    the overshoot; full lanes are split on the way. Rates are held, so pieces change no law.
    """
    per_tumor = settings.layout.lanes_per_tumor
    spread = lambda x: jnp.repeat(x, per_tumor)  # noqa: E731
    pieces = _pieces(table, span, limits, settings.layout.num_slots)

    def is_granted(tumors: Tumors) -> tuple[Bool[Array, " tumor"], Int32[Array, " tumor"]]:
        lanes = tumors.lanes
        total = jnp.sum(site_count(tumors), axis=0, dtype=jnp.int32)
        has_work = (lanes.remaining > 0) & (islands.living(lanes) > 0)
        is_busy = jnp.any(has_work.reshape(-1, per_tumor), axis=1)
        is_open = (total > 0) & (total < limits.target) & (tumors.status == RUNNING)
        return is_open & ~is_busy & (tumors.left > 0), total

    def body(tumors: Tumors) -> Tumors:
        granted, total = is_granted(tumors)
        piece = jnp.where(granted, jnp.minimum(tumors.left, pieces(tumors.arm, total)), 0.0)
        fresh = jnp.where(islands.living(tumors.lanes) > 0, spread(piece), 0.0)
        remaining = jnp.where(spread(granted), fresh, tumors.lanes.remaining)
        tumors = tumors._replace(
            lanes=tumors.lanes._replace(remaining=remaining), left=tumors.left - piece
        )
        held = _hold(tumors, table, limits, settings)
        lanes = islands.advance(tumors.lanes, held, table, settings.steps, settings.is_both)
        lanes, no_room = islands.split_full(lanes, per_tumor)
        status = jnp.where(no_room & (tumors.status == RUNNING), OUT_OF_ROOM, tumors.status)
        over = spread(status == OUT_OF_ROOM)
        lanes = lanes._replace(remaining=jnp.where(over, 0.0, lanes.remaining))
        return tumors._replace(lanes=lanes, status=status)

    def unfinished(tumors: Tumors) -> Bool[Array, ""]:
        held = _hold(tumors, table, limits, settings)
        goes_on = islands.is_running(tumors.lanes, held)
        goes_on |= islands.is_splittable(tumors.lanes, per_tumor) & spread(tumors.status == RUNNING)
        return jnp.any(goes_on) | jnp.any(is_granted(tumors)[0])

    return jax.lax.while_loop(unfinished, body, tumors)


def _pieces(table: Table, span: Float[Array, " arm"], limits: Limits, num_slots: int) -> Callable:
    """How long a tumor of some arm and size may run: span, span/2, span/4, ... or the shortest.

    The longest in which it does not pass the target even if no cell dies; close to the target, the
    time of 0.9 % growth. Never so long that a lane sees more than about 2^20 candidates, for the sake
    of its float32 clock. Sizes are compared as integers, with limits that are computed per arm, so
    that a tumor's piece does not depend on its batch.
    """
    fastest = jnp.max(table.max_birth, axis=1)
    lengths = span[:, None] / 2.0 ** jnp.arange(16, dtype=jnp.float32)[None, :]
    largest = limits.target.astype(jnp.float32) * jnp.exp(-fastest[:, None] * lengths)
    safe = jnp.minimum(largest, jnp.float32(2**31 - 128)).astype(jnp.int32)
    shortest = jnp.minimum(span, OVERSHOOT / jnp.maximum(fastest, 1e-30))
    clock = 2.0**20 / (num_slots * jnp.maximum(table.max_total, 1e-30))

    def piece(arm: Int32[Array, " tumor"], total: Int32[Array, " tumor"]):
        longest = jnp.max(jnp.where(total[:, None] <= safe[arm], lengths[arm], 0.0), axis=1)
        length = jnp.minimum(jnp.maximum(shortest[arm], longest), clock[arm])
        return jnp.maximum(length, span[arm] * 2.0**-20)  # so long that the clock moves

    return piece


def _finish(
    tumors: Tumors, waits: Bool[Array, ""], settings: Settings, limits: Limits
) -> tuple[Tumors, tuple]:
    """Sum the tumors at the sync, say which have ended, and even out the lanes.

    While a log waits for the host the interval stays open and nothing changes.
    """
    layout = settings.layout
    count = site_count(tumors)
    total = count[0]
    for site in range(1, count.shape[0]):
        total = total + count[site]
    left = tumors.lanes.remaining.reshape(len(tumors.arm), -1)
    unused = jnp.min(jnp.where(left > 0, left, jnp.inf), axis=1)
    is_last = (total == 0) | (layout.lanes_per_tumor == 1)
    unused = tumors.left + jnp.where(jnp.isfinite(unused) & is_last, unused, 0.0)
    reached = GROWN if settings.is_growth else STOPPED
    ended = jnp.where(total >= limits.target, reached, RUNNING)
    ended = jnp.where(total == 0, EXTINCT, ended)
    status = jnp.where((tumors.status == RUNNING) & ~waits, ended, tumors.status)
    lanes = islands.rebalance(tumors.lanes, layout.lanes_per_tumor, layout.num_main, ~waits)
    done = tumors._replace(
        lanes=lanes,
        status=status.astype(jnp.int32),
        position=tumors.position + jnp.where(waits, 0, 1).astype(jnp.int32),
        is_midway=jnp.broadcast_to(waits, tumors.is_midway.shape),
    )
    return done, (count, tumors.duration, unused, done.status)


def _redraw(tumors: Tumors, template: tuple[Array, Array, Array]) -> Tumors:
    """Put new founders where a growing tumor has died out, and count them."""
    cell, lineage, count = template
    died = tumors.status == EXTINCT
    died = died & (tumors.attempts > 0)  # padding has none
    per_tumor = cell.shape[1]
    here = jnp.repeat(died, per_tumor)
    num_tumors = len(tumors.arm)

    def put_row(s, carry):
        cells, lineages = carry
        new_cell = jnp.where(here, jnp.tile(cell[s], num_tumors), cells[s])
        new_name = jnp.where(here, jnp.tile(lineage[s], num_tumors), lineages[s])
        return cells.at[s].set(new_cell), lineages.at[s].set(new_name)

    rows = jnp.where(jnp.any(died), cell.shape[0], 0)
    carry = (tumors.lanes.cell, tumors.lanes.lineage)
    cells, lineages = jax.lax.fori_loop(0, rows, put_row, carry)
    new_count = jnp.where(here[None, :], jnp.tile(count, (1, num_tumors)), tumors.lanes.count)
    return tumors._replace(
        lanes=tumors.lanes._replace(cell=cells, lineage=lineages, count=new_count),
        status=jnp.where(died, RUNNING, tumors.status),
        attempts=tumors.attempts + died.astype(jnp.int32),
    )


def _intervals(
    tumors: Tumors,
    world: World,
    grid: Grid,
    template: tuple[Array, Array, Array],
    limits: Limits,
    last: Int32[Array, ""],
    most: Int32[Array, ""],
    settings: Settings,
) -> tuple[Tumors, Outcome]:
    """Run up to `most` intervals, none from `last` on; stops early where a log waits."""
    num_tumors, num_sites = len(tumors.arm), tumors.crowding.shape[0]
    first = tumors.position[0]
    shape = (settings.num_intervals, num_tumors)
    outcome = Outcome(
        jnp.zeros((settings.num_intervals, num_sites, num_tumors), jnp.int32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros(shape, jnp.int32),
    )

    def table_of(index: int | Int32[Array, ""]) -> Table:
        return settings.tabulate(world.content, jax.tree.map(lambda x: x[index], grid.inputs))

    first_table = table_of(0)  # of growth, which is without drug, in every interval

    def body(carry):
        tumors, outcome, _ = carry
        index = 0 if settings.is_growth else tumors.position[0]
        span = grid.duration[index]
        table = first_table if settings.is_growth else table_of(index)
        begun = _begin(tumors, world.sites, table, span[tumors.arm])
        midway = tumors.is_midway[0]
        begun = jax.tree.map(lambda a, b: a if a is b else jnp.where(midway, a, b), tumors, begun)
        run = _run_interval(begun, table, span, limits, settings)
        waits = jnp.any(islands.is_log_full(run.lanes))
        done, row = _finish(run, waits, settings, limits)
        if settings.is_growth:  # while the log waits no tumor is declared extinct
            done = _redraw(done, template)
        at = tumors.position[0] - first
        outcome = Outcome(*(all_.at[at].set(x) for all_, x in zip(outcome, row, strict=True)))
        return done, outcome, waits

    def goes_on(carry):
        tumors, _, waits = carry
        position = tumors.position[0]
        more = (position < last) & (position - first < most) & ~waits
        return more & jnp.any(tumors.status == RUNNING) if settings.is_growth else more

    carry = (tumors, outcome, jnp.asarray(False))
    tumors, outcome, _ = jax.lax.while_loop(goes_on, body, carry)
    return tumors, outcome


@lru_cache(maxsize=32)
def compiled(settings: Settings, devices: tuple) -> Callable:
    """The jitted time loop; over several devices each runs its own tumors and none waits."""
    run = partial(_intervals, settings=settings)
    if len(devices) > 1:
        mesh = Mesh(np.array(devices), ("tumor",))
        shared = PartitionSpec()

        def sharded(tumors: Tumors, *rest):
            specs = (jax.tree.map(_last_axis, tumors), *(shared for _ in rest))
            shapes = jax.eval_shape(run, tumors, *rest)
            out_specs = jax.tree.map(_last_axis, shapes)
            mapped = jax.shard_map(
                run, mesh=mesh, in_specs=specs, out_specs=out_specs, check_vma=False
            )
            return mapped(tumors, *rest)

        return jax.jit(sharded, donate_argnums=0)
    return jax.jit(run, donate_argnums=0)


def _last_axis(x) -> PartitionSpec:
    return PartitionSpec(*([None] * (x.ndim - 1)), "tumor")


def place(tumors: Tumors, devices: tuple) -> Tumors:
    """Put the tumors on their devices, in blocks."""
    if len(devices) == 1:
        return jax.device_put(tumors, devices[0])
    mesh = Mesh(np.array(devices), ("tumor",))
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, _last_axis(x))), tumors)
