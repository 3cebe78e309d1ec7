"""The `cells` engine: a study simulated cell by cell.

Growth from the founders comes first where the study treats at a size: once per replicate, on negative
days. The arms then fork from the same cells and run to the horizon; or they start from the cells of
another run (`handover`). This module is the host's side: it calls the jitted time loop (`tumors`),
fetches clone events before a log fills, and records.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.drug.course import NODES
from jaxevo.engines import timeloop
from jaxevo.engines.arrivals import Sources, batches
from jaxevo.engines.assembly import trajectory
from jaxevo.engines.base import Problem, Refused, Trajectory
from jaxevo.engines.grid import Intervals, Marks, intervals, marks
from jaxevo.engines.handover import State
from jaxevo.engines.jumps import survival
from jaxevo.engines.recording import ArmRun, Growth, Recorder, clone_events
from jaxevo.engines.tables import Steps, all_traits, seen, tabulate
from jaxevo.engines.timeloop import Grid, Limits, Settings, World
from jaxevo.engines.tumors import (
    RUNNING,
    Layout,
    Tumors,
    fork,
    founder_columns,
    new_tumors,
    place,
    site_count,
    with_immune,
)  # fmt: skip
from jaxevo.model import Model, cast
from jaxevo.state import Traits

MAX_INTERVALS = 64  # in one call
CALL_SECONDS = 0.4  # a call should not take longer, so that signals are heard
MAX_GROWTH_DAYS = 36525.0  # of all attempts of a replicate
MAX_PLACES = 2**31  # for cells on one device: places are numbered in int32


class Progress(NamedTuple):
    """How far a study has come."""

    phase: str  # "growth" or "treatment"
    day: float  # days of growth, or of treatment
    fraction: float  # of this phase, 0..1
    cells: int  # living cells in all tumors


class GrowthError(RuntimeError):
    """A tumor did not reach the size at which it is to be treated."""


def simulate(
    problem: Problem,
    *,
    replicates: range | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    intervals_per_call: int | None = None,
    devices: tuple | None = None,
    start: State | None = None,
) -> Trajectory:
    """Simulate a study cell by cell.

    Args:
        problem: the study.
        replicates: which replicates, default all; a replicate's bits do not depend on the others.
        progress: called after every call into the kernel.
        should_stop: asked between calls; if true, what has been simulated is returned with running
            tumors marked as interrupted.
        intervals_per_call: fixes what is otherwise chosen by the clock; changes no bit.
        devices: default all JAX devices.
        start: the cells of day 0, with a tumor for every replicate, in place of founders and growth.

    Raises:
        GrowthError: a tumor does not reach `treat_at_cells` within a century.
        Refused: the engine cannot represent the model.
        ValueError: the state has fewer tumors than there are replicates, or one without room.
    """
    _check(problem)
    if start is not None:
        problem = _going_on(problem, start)
    run = _Run(problem, replicates, progress, should_stop, intervals_per_call, devices, start)
    growth = run.grow()
    arms = run.treat()
    return trajectory(problem, run.replicates, growth, arms, start)


def _check(problem: Problem) -> None:
    """Refuse what the engine cannot represent."""
    for arm in problem.arms:
        if arm.decides:
            raise Refused(
                f"arm {arm.name!r} decides at visits, and the cells engine needs all doses in advance; "
                "choose the clones engine"
            )
    if problem.delivery_follows:
        raise Refused(
            "delivery follows the burden, and the cells engine tabulates rates for all tumors at once; "
            "leave out half_delivery_cells, or choose the clones engine"
        )
    if problem.still_below:
        raise Refused(
            "the cells engine follows whole cells, and a cell is never still; leave out still_below, or "
            "choose meanfield"
        )
    custom = problem.model.custom
    if custom is not None and (custom.has_feedback or custom.drift is not None):
        raise Refused(
            "the rates of the custom law follow the counts of the tumor (or variables of its own), and "
            "the cells engine tabulates rates for all tumors at once; choose the clones engine"
        )
    if len(problem.models) > 1:
        raise Refused(
            f"the cells engine follows one patient, and there are {len(problem.models)}; choose the "
            "clones engine, or run the patients one by one"
        )


def _going_on(problem: Problem, start: State) -> Problem:
    """The problem without growth; checks that the tumors of the state fit."""
    if len(start.tumors) < problem.replicates:
        raise ValueError(
            f"the state holds {len(start.tumors)} tumors, and the study has {problem.replicates} "
            "replicates; lower replicates"
        )
    largest = max((sum(row.cells for row in rows) for rows in start.tumors), default=0)
    if largest > problem.max_cells:
        raise ValueError(
            f"a tumor of the state has {largest} cells, more than there is room for; raise max_cells "
            f"above {largest}"
        )
    names = [row.clone for rows in start.tumors for row in rows]
    if max(names, default=0) >= 2**31:
        raise ValueError(
            "a clone of the state has a name of 2**31 or more, which cells cannot hold"
        )
    return problem._replace(treat_at_cells=None)


class _Run:
    """One simulation: the tumors on their devices, and what the host has fetched so far."""

    def __init__(
        self, problem, replicates, progress, should_stop, intervals_per_call, devices, start
    ):
        self.problem: Problem = problem
        self.replicates = range(problem.replicates) if replicates is None else replicates
        self.progress = progress or (lambda _: None)
        self.should_stop = should_stop
        self.fixed = intervals_per_call
        self.num_sites = len(problem.model.names.sites)
        self.layout = Layout.of(problem.max_cells)
        model = cast(problem.model, jnp.float32)
        sources = None
        if problem.immigration:
            sources = Sources.of(np.array([row.events_per_day for row in problem.immigration]))
        content = (model, jax.jit(all_traits)(model))
        self.world = World(model.sites, content, sources, immune=model.immune)
        wanted = tuple(jax.devices()) if devices is None else devices
        num_tumors = len(self.replicates) * len(problem.arms)
        self.devices = wanted[: max(1, num_tumors)]
        per_device = -(-num_tumors // len(self.devices)) * self.layout.lanes_per_tumor
        if (self.layout.num_slots + 1) * per_device >= MAX_PLACES:
            raise MemoryError(
                f"{num_tumors} tumors with room for {problem.max_cells} cells each are more than the "
                f"{MAX_PLACES} places that one device can number; lower study.max_cells or "
                "study.replicates, or run the replicates in several studies"
            )
        self.events: list[np.ndarray] = []
        self.births = self.deaths = np.zeros(0, np.int64)
        cell, name = founder_columns(self.layout, problem.founders_in(0), self.num_sites)
        count = [
            np.sum((name >= 0) & (cell % self.num_sites == s), 0) for s in range(self.num_sites)
        ]
        self.template = (
            jnp.asarray(cell, jnp.uint32),
            jnp.asarray(np.maximum(name, 0), jnp.uint32),
            jnp.asarray(np.stack(count), jnp.int32),
        )
        batch = self._padded(len(self.replicates))
        fresh = new_tumors(
            self.layout, problem.founders_in(0), self.num_sites, problem.seed, self.replicates, batch,
            start,
        )  # fmt: skip
        fresh = with_immune(fresh, problem.model, self.replicates, start)
        self.tumors: Tumors = place(fresh, self.devices)

    def _padded(self, num_tumors: int) -> int:
        return -(-num_tumors // len(self.devices)) * len(self.devices)

    def _call(self, grid: Grid, limits: Limits, last: int, is_growth: bool, pace: "_Pace"):
        """One call into the kernel; returns the outcome of the intervals that it finished."""
        problem = self.problem
        settings = Settings(
            tabulate=tabulate,
            layout=self.layout,
            steps=Steps.of(problem.model),
            is_both=problem.model.mutation.mutating_daughters == "both",
            is_growth=is_growth,
            num_intervals=MAX_INTERVALS,
            coming=batches(problem.immigration, self.num_sites),
        )
        first = np.asarray(self.tumors.position)
        stop, most = jnp.int32(last), jnp.int32(pace.intervals)
        began = time.perf_counter()
        self.tumors, outcome = timeloop.compiled(settings, self.devices)(
            self.tumors, self.world, grid, self.template, limits, stop, most
        )
        done = np.asarray(self.tumors.position) - first
        pace.learn(time.perf_counter() - began, int(done.max(initial=0)))
        self._fetch()
        return first, done, jax.tree.map(np.asarray, outcome)

    def _fetch(self) -> None:
        """Bring births, deaths and clone events to the host, and empty their places."""
        lanes = self.tumors.lanes
        by_tumor = lambda x: np.asarray(x).reshape(len(self.tumors.arm), -1).astype(np.int64).sum(1)  # noqa: E731
        self.births = self.births + by_tumor(lanes.births)
        self.deaths = self.deaths + by_tumor(lanes.deaths)
        lanes = lanes._replace(
            births=jnp.zeros_like(lanes.births), deaths=jnp.zeros_like(lanes.deaths)
        )
        logged = np.asarray(lanes.logged)
        if logged.any():
            self.events.append(clone_events(lanes.log, logged, self.layout.lanes_per_tumor))
            lanes = lanes._replace(logged=jnp.zeros_like(lanes.logged))
        most = int(np.asarray(lanes.clones).max(initial=0)) + 2
        if most * self.layout.lanes_per_tumor >= 2**32:
            raise OverflowError("a tumor has named 2**32 clones, more than a clone name can hold")
        self.tumors = self.tumors._replace(lanes=lanes)

    def grow(self) -> Growth | None:
        """From the founders to the size at which treatment starts; day 0 is when it is reached."""
        problem = self.problem
        num = len(self.replicates)
        self.births = self.deaths = np.zeros(len(self.tumors.arm), np.int64)
        if problem.treat_at_cells is None:
            return None
        drugs, num_sites = len(problem.model.names.drugs), self.num_sites
        nothing, day = np.zeros((1, 1, len(NODES), num_sites, drugs)), np.zeros((1, 1))
        sync = np.full((1, 1), problem.sync)
        inputs = seen(problem.model, nothing, day, sync)
        grid = Grid(jnp.asarray(sync, jnp.float32), inputs)
        limits = self._limits(problem.treat_at_cells)
        growth = Growth(num)
        pace = _Pace(self.fixed)
        while np.any(np.asarray(self.tumors.status) == RUNNING) and not self.should_stop():
            _, done, outcome = self._call(grid, limits, 2**31 - 1, True, pace)
            growth.add(done[:num], outcome)
            size = int(np.asarray(self.tumors.lanes.count).sum())
            goal = problem.treat_at_cells * num
            self.progress(Progress("growth", float(growth.age.max()), min(size / goal, 1.0), size))
            if growth.total.max() > MAX_GROWTH_DAYS:
                raise GrowthError(
                    f"no tumor of {problem.treat_at_cells} cells after {MAX_GROWTH_DAYS:.0f} days; "
                    "raise the birth rate or lower treat_at_cells"
                )
        growth.finish(self.events, np.asarray(self.tumors.attempts)[:num])
        self.events = []
        return growth

    def _limits(self, target: int | None) -> Limits:
        target = 2**31 - 1 if target is None else min(target, 2**31 - 1)
        alone = self.layout.lanes_per_tumor == 1
        ceiling = min(self.layout.num_slots, target) if alone else self.layout.num_slots
        return Limits(jnp.int32(ceiling), jnp.int32(target))

    def treat(self) -> ArmRun:
        """All arms from day 0 to the horizon."""
        problem = self.problem
        num_arms, num = len(problem.arms), len(self.replicates)
        when = marks(problem.record, problem.horizon)
        plan = intervals(problem, when)
        forked = fork(self.tumors, num_arms, num, self._padded(num_arms * num))
        self.tumors = place(forked, self.devices)
        self.births = self.deaths = np.zeros(len(self.tumors.arm), np.int64)
        inputs = seen(problem.model, plan.concentration, plan.end - plan.duration, plan.duration)
        jump, kept = _jumps(problem, plan, *self.world.content)
        self.world = World(
            self.world.sites, self.world.content, self.world.sources, kept, self.world.immune
        )
        grid = Grid(jnp.asarray(plan.duration, jnp.float32), inputs, jump)
        recorder = Recorder(problem, self.layout.lanes_per_tumor, num_arms * num)
        recorder.mark(0, when, self.tumors)
        run = ArmRun.empty(plan, when, self.num_sites, num_arms * num, self.tumors.status)
        run.start(np.asarray(site_count(self.tumors))[:, : num_arms * num])
        limits = self._limits(problem.stop_at_cells)
        pace = _Pace(self.fixed)
        for m in range(1, len(when.day)):
            if not self._to_mark(m, grid, limits, plan, when, run, pace):
                break
            recorder.mark(m, when, self.tumors)
            run.marked = m
        return run.finish(recorder, self.events, self.births, self.deaths)

    def _to_mark(
        self, m: int, grid: Grid, limits: Limits, plan: Intervals, when: Marks, run: ArmRun, pace
    ) -> bool:
        """Run all tumors up to mark `m`; false if the user has stopped the study before."""
        last = int(plan.of_mark[m])
        while np.asarray(self.tumors.position).min() < last:
            if self.should_stop():
                return False
            first, done, outcome = self._call(grid, limits, last, False, pace)
            run.add(first, done, outcome)
            size = int(np.asarray(self.tumors.lanes.count).sum())
            at = int(np.asarray(self.tumors.position).min())
            day = float(plan.end[at - 1].max()) if at else 0.0
            self.progress(Progress("treatment", day, day / when.day[-1], size))
        return True


def _jumps(problem: Problem, plan: Intervals, model: Model, traits: Traits):
    """With which jump each interval of each arm begins, [interval, arm] (-1: none), and [jump, row]
    the survival of each; None without jumps.
    """
    which, kept = np.full(plan.duration.shape, -1, np.int32), []
    begins = np.where(plan.duration > 0, plan.end - plan.duration, np.inf)
    for a, arm in enumerate(problem.arms):
        for jump in arm.jumps:
            if jump.day >= problem.horizon:
                continue
            at = int(np.argmin(np.abs(begins[:, a] - jump.day)))
            share = survival(model, traits, jump)
            if which[at, a] >= 0:  # several at one moment
                kept[which[at, a]] *= share
            else:
                which[at, a] = len(kept)
                kept.append(share)
    if not kept:
        return None, None
    return jnp.asarray(which), jnp.asarray(np.stack(kept), jnp.float32)


class _Pace:
    """How many intervals one call may take, learned from how long they took."""

    def __init__(self, fixed: int | None):
        self.fixed = fixed
        self.intervals = fixed or 1
        self.calls = 0

    def learn(self, seconds: float, done: int) -> None:
        """Aim the next call at `CALL_SECONDS`; the first call compiles and teaches nothing."""
        self.calls += 1
        if self.fixed or done == 0 or self.calls == 1:
            return
        wanted = CALL_SECONDS / max(seconds / done, 1e-6)
        self.intervals = int(np.clip(wanted, 1, min(2 * self.intervals, MAX_INTERVALS)))
