"""Time loop: the jitted part of the `cells` engine, interval by interval.

Time runs in intervals between syncs; within an interval rates are held and lanes are exact (`lanes`),
cells come from outside (`arrivals`), and at its start they may have to survive a jump (`jumps`). At a
sync each tumor sums its cells by site, updates crowding and immune cells, and evens out its lanes
(`balance`). Immune cells go half of an interval with the counts at its start, and half with those at
its end; the killing is held at what they are in the middle.

Bits of a replicate depend on the study, the seed and its index alone: lanes are never shared between
replicates, and everything that feeds a random decision is elementwise or an integer.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int32, PyTree, UInt32

from jaxevo.cell import immune
from jaxevo.cell.immune import ImmuneParams
from jaxevo.engines import arrivals, balance, immunity, jumps
from jaxevo.engines import lanes as islands
from jaxevo.engines.arrivals import Batches, Sources
from jaxevo.engines.lanes import Held, Lanes
from jaxevo.engines.sampling import log
from jaxevo.engines.tables import Steps, Table
from jaxevo.engines.tumors import (
    EXTINCT,
    GROWN,
    OUT_OF_ROOM,
    OVERSHOOT,
    RUNNING,
    STOPPED,
    TREATMENT_INTERVALS,
    Layout,
    Tumors,
    last_axis,
    site_count,
)  # fmt: skip
from jaxevo.sites import SiteParams, crowding_factor

BOUND_MARGIN = 1e-5  # Lambda lies above the largest rate by this share


class Settings(NamedTuple):
    """What shapes the kernel (static)."""

    tabulate: Callable[[PyTree, PyTree], Table]  # (World.content, Grid.inputs of an interval)
    layout: Layout
    steps: Steps
    is_both: bool
    is_growth: bool
    num_intervals: int  # at most, in one call
    coming: Batches = ()  # what comes from outside


class Limits(NamedTuple):
    """Sizes that end something (cells; traced)."""

    ceiling: Int32[Array, ""]  # a lane pauses here
    target: Int32[Array, ""]  # a tumor ends its growth or its study here


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
    sources: Sources | None = None  # how often something comes from outside
    kept: Float[Array, "jump row"] | None = None  # survival of every jump
    immune: ImmuneParams | None = None


class Grid(eqx.Module):
    """Intervals of all arms."""

    duration: Float[Array, "interval arm"]  # days; 0 pads
    inputs: PyTree  # leading axis interval, such as concentrations
    jump: Int32[Array, "interval arm"] | None = None  # at the start; -1: none


def _hold(tumors: Tumors, table: Table, limits: Limits, settings: Settings) -> Held:
    """What is constant in this interval, spread from tumors to lanes."""
    per_tumor = settings.layout.lanes_per_tumor
    spread = lambda x: jnp.repeat(x, per_tumor, axis=-1)  # noqa: E731
    num_rows = len(table.birth) // table.max_birth.shape[0]
    name = jnp.arange(per_tumor * len(tumors.arm), dtype=jnp.uint32) % jnp.uint32(per_tumor)
    return Held(
        key=tumors.key,
        interval=spread(_interval(tumors, settings)),
        first_row=spread(tumors.arm * num_rows),
        bound=spread(tumors.bound),
        crowding=spread(tumors.crowding),
        ceiling=jnp.broadcast_to(limits.ceiling, name.shape),
        later=spread(tumors.left),
        name=name,
        names=jnp.uint32(per_tumor),
        kill=None if tumors.kill is None else spread(tumors.kill),
    )


def _interval(tumors: Tumors, settings: Settings) -> UInt32[Array, " tumor"]:
    """The number of the interval that feeds random words."""
    first = 0 if settings.is_growth else TREATMENT_INTERVALS
    return tumors.position.astype(jnp.uint32) + jnp.uint32(first)


def _cut(tumors: Tumors, world: World, grid: Grid, index, settings: Settings) -> Tumors:
    """Let the cells of running tumors survive the jumps at the start of an interval, if there are."""
    if grid.jump is None or world.kept is None:
        return tumors
    jump = jnp.where(tumors.status == RUNNING, grid.jump[index][tumors.arm], -1)
    jump = jnp.where(tumors.is_midway, -1, jump)
    now, kept = _interval(tumors, settings), world.kept

    def thinned(lanes: Lanes) -> Lanes:
        return jumps.thin(lanes, tumors.clock.key, now, jump, kept)

    lanes = jax.lax.cond(jnp.any(jump >= 0), thinned, lambda lanes: lanes, tumors.lanes)
    return tumors._replace(lanes=lanes)


def _immune_moved(
    tumors: Tumors, world: World, table: Table, days: Float[Array, " tumor"]
) -> Tumors:
    """Let the immune cells of every tumor go on for some days at the counts of now."""
    removal = table.suppressor_removal
    if world.immune is None or tumors.extra is None or removal is None:
        return tumors
    count = site_count(tumors).astype(jnp.float32)
    each = jax.vmap(immunity.moved, (None, 1, 1, 0, 0), 1)
    extra = each(world.immune, count, tumors.extra, removal[tumors.arm], days)
    return tumors._replace(extra=extra)


def _begin(
    tumors: Tumors,
    world: World,
    table: Table,
    duration: Float[Array, " tumor"],
    settings: Settings,
) -> Tumors:
    """Hold crowding and the bound from the counts at the start of an interval, and set the clocks."""
    sites, clock = world.sites, tumors.clock
    count = site_count(tumors).astype(jnp.float32)
    crowding = crowding_factor(sites, count.T, log).T
    by_site = crowding * table.max_birth[tumors.arm].T + table.max_rest[tumors.arm].T
    bound = jnp.minimum(table.max_total[tumors.arm], jnp.max(by_site, axis=0))
    duration = jnp.where(tumors.status == RUNNING, duration, 0.0)
    tumors = _immune_moved(tumors, world, table, duration / 2)
    if world.immune is not None and tumors.extra is not None and table.max_visibility is not None:
        rate = jax.vmap(immune.immune_death_rate, (None, 1, 1, 1), 1)
        kill = rate(world.immune, count, *immunity.parts(tumors.extra))
        tumors = tumors._replace(kill=kill)
        seen = kill * table.max_visibility[tumors.arm].T
        bound = jnp.minimum(bound + jnp.max(seen, axis=0), jnp.max(by_site + seen, axis=0))
    if world.sources is not None:
        none = jnp.zeros_like(clock.number)
        now = _interval(tumors, settings)
        clock = arrivals.wound(clock, now, none, duration, world.sources)
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
        clock=clock,
    )


def _is_busy(tumors: Tumors) -> Bool[Array, " tumor"]:
    """Whether a lane of the tumor has something left to do (at rate 0 nothing is)."""
    lanes, per_tumor = tumors.lanes, len(tumors.lanes.remaining) // len(tumors.arm)
    has_work = (lanes.remaining > 0) & (islands.living(lanes) > 0)
    has_work &= jnp.repeat(tumors.bound, per_tumor) > 0
    return jnp.any(has_work.reshape(-1, per_tumor), axis=1)


def _is_due(tumors: Tumors, limits: Limits) -> Bool[Array, " tumor"]:
    """Tumors that have reached the moment at which a batch comes."""
    total = jnp.sum(site_count(tumors), axis=0, dtype=jnp.int32)
    is_open = (tumors.status == RUNNING) & (total < limits.target)
    return is_open & (tumors.clock.wait <= 0) & ~_is_busy(tumors)


def _arrive(tumors: Tumors, sources: Sources, limits: Limits, settings: Settings) -> Tumors:
    """Put in what has come, unless the log is full, and draw when the next comes."""
    now = _interval(tumors, settings)
    here = _is_due(tumors, limits) & arrivals.has_log_room(tumors.lanes, len(tumors.arm))

    def landed(tumors: Tumors) -> Tumors:
        lanes, no_room = arrivals.land(
            tumors.lanes, tumors.clock, here, now, tumors.left, sources, settings.coming,
            settings.layout.num_main,
        )  # fmt: skip
        number = tumors.clock.number + jnp.uint32(1)
        clock = arrivals.wound(tumors.clock, now, number, tumors.left, sources)
        clock = jax.tree.map(lambda new, old: jnp.where(here, new, old), clock, tumors.clock)
        status = jnp.where(no_room, OUT_OF_ROOM, tumors.status).astype(jnp.int32)
        return tumors._replace(lanes=lanes, clock=clock, status=status)

    return jax.lax.cond(jnp.any(here), landed, lambda tumors: tumors, tumors)


def _run_interval(
    tumors: Tumors, table: Table, span: Float[Array, " arm"], limits: Limits, settings: Settings,
    sources: Sources | None,
) -> Tumors:  # fmt: skip
    """Advance every tumor to the end of the interval, or until it reaches the target.

    A tumor's lanes are granted time in pieces so short that the target is not passed by more than
    the overshoot, and that end when something comes from outside; full lanes are split on the way.
    Rates are held, so pieces change no law.
    """
    per_tumor = settings.layout.lanes_per_tumor
    spread = lambda x: jnp.repeat(x, per_tumor)  # noqa: E731
    pieces = _pieces(table, span, limits, settings.layout.num_slots)

    def is_granted(tumors: Tumors) -> tuple[Bool[Array, " tumor"], Int32[Array, " tumor"]]:
        total = jnp.sum(site_count(tumors), axis=0, dtype=jnp.int32)
        is_open = (total < limits.target) & (tumors.status == RUNNING)
        is_open &= (total > 0) if sources is None else (tumors.clock.wait > 0)
        return is_open & ~_is_busy(tumors) & (tumors.left > 0), total

    def body(tumors: Tumors) -> Tumors:
        granted, total = is_granted(tumors)
        piece = jnp.minimum(tumors.left, pieces(tumors.arm, total))
        if sources is not None:
            piece = jnp.minimum(piece, tumors.clock.wait)
        piece = jnp.where(granted, piece, 0.0)
        fresh = jnp.where(islands.living(tumors.lanes) > 0, spread(piece), 0.0)
        remaining = jnp.where(spread(granted), fresh, tumors.lanes.remaining)
        tumors = tumors._replace(
            lanes=tumors.lanes._replace(remaining=remaining),
            left=tumors.left - piece,
            clock=tumors.clock._replace(wait=tumors.clock.wait - piece),
        )
        held = _hold(tumors, table, limits, settings)
        lanes = islands.advance(tumors.lanes, held, table, settings.steps, settings.is_both)
        lanes, no_room = balance.split_full(lanes, per_tumor)
        status = jnp.where(no_room & (tumors.status == RUNNING), OUT_OF_ROOM, tumors.status)
        over = spread(status == OUT_OF_ROOM)
        lanes = lanes._replace(remaining=jnp.where(over, 0.0, lanes.remaining))
        tumors = tumors._replace(lanes=lanes, status=status)
        return tumors if sources is None else _arrive(tumors, sources, limits, settings)

    def unfinished(tumors: Tumors) -> Bool[Array, ""]:
        held = _hold(tumors, table, limits, settings)
        goes_on = islands.is_running(tumors.lanes, held)
        goes_on |= balance.is_splittable(tumors.lanes, per_tumor) & spread(tumors.status == RUNNING)
        goes_on = jnp.any(goes_on) | jnp.any(is_granted(tumors)[0])
        if sources is not None:
            has_room = arrivals.has_log_room(tumors.lanes, len(tumors.arm))
            goes_on |= jnp.any(_is_due(tumors, limits) & has_room)
        return goes_on

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
    tumors: Tumors, waits: Bool[Array, ""], settings: Settings, limits: Limits, world: World,
    table: Table,
) -> tuple[Tumors, tuple]:  # fmt: skip
    """Sum the tumors at the sync, say which have ended, even out the lanes, and move immune cells.

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
    if not settings.coming:
        ended = jnp.where(total == 0, EXTINCT, ended)
    status = jnp.where((tumors.status == RUNNING) & ~waits, ended, tumors.status)
    lanes = balance.rebalance(tumors.lanes, layout.lanes_per_tumor, layout.num_main, ~waits)
    over = jnp.where(status == RUNNING, 0.0, unused)
    going_on = jnp.where(waits, 0.0, jnp.maximum(tumors.duration / 2 - over, 0.0))
    done = _immune_moved(tumors, world, table, going_on)._replace(
        lanes=lanes,
        status=status.astype(jnp.int32),
        position=tumors.position + jnp.where(waits, 0, 1).astype(jnp.int32),
        is_midway=jnp.broadcast_to(waits, tumors.is_midway.shape),
    )
    return done, (count, tumors.duration, unused, done.status)


def _redraw(tumors: Tumors, template: tuple[Array, Array, Array], world: World) -> Tumors:
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
    extra = tumors.extra
    if world.immune is not None and extra is not None:
        first = jnp.concatenate([world.immune.effectors, world.immune.suppressors])
        extra = jnp.where(died[None, :], first[:, None], extra)
    return tumors._replace(
        lanes=tumors.lanes._replace(cell=cells, lineage=lineages, count=new_count),
        status=jnp.where(died, RUNNING, tumors.status),
        attempts=tumors.attempts + died.astype(jnp.int32),
        extra=extra,
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
        tumors = _cut(tumors, world, grid, index, settings)
        begun = _begin(tumors, world, table, span[tumors.arm], settings)
        midway = tumors.is_midway[0]
        begun = jax.tree.map(lambda a, b: a if a is b else jnp.where(midway, a, b), tumors, begun)
        run = _run_interval(begun, table, span, limits, settings, world.sources)
        waits = jnp.any(islands.is_log_full(run.lanes))
        if world.sources is not None:
            waits |= jnp.any(_is_due(run, limits) & ~arrivals.has_log_room(run.lanes, num_tumors))
        done, row = _finish(run, waits, settings, limits, world, table)
        if settings.is_growth:  # while the log waits no tumor is declared extinct
            done = _redraw(done, template, world)
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
            specs = (jax.tree.map(last_axis, tumors), *(shared for _ in rest))
            shapes = jax.eval_shape(run, tumors, *rest)
            out_specs = jax.tree.map(last_axis, shapes)
            mapped = jax.shard_map(
                run, mesh=mesh, in_specs=specs, out_specs=out_specs, check_vma=False
            )
            return mapped(tumors, *rest)

        return jax.jit(sharded, donate_argnums=0)
    return jax.jit(run, donate_argnums=0)
