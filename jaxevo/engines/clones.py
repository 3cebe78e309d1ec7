"""The `clones` engine: a study simulated as counts of cells per class and site.

Its cost does not depend on how many cells there are, so that a tumor may have 10^12 of them. A clone is
a class at a site plus one bit, whether it arose before treatment: descendants keep the bit, a mutation
after day 0 starts anew, switches, differentiation and moves do not. This module is the host's side:
blocks of tumors of all arms, patients and replicates, growth before treatment, recording. The law
and its time steps are in `counts` and `events`.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines import counted
from jaxevo.engines.base import Founder, Problem, Refused, Trajectory
from jaxevo.engines.cells import MAX_GROWTH_DAYS, GrowthError, Progress
from jaxevo.engines.counts import MAX_ROWS, Codes, grow, new_block, treat
from jaxevo.engines.events import Lineage, Tumors
from jaxevo.engines.grid import Marks, marks
from jaxevo.engines.handover import State
from jaxevo.engines.process import growth_process, planned, problem_network
from jaxevo.engines.tumors import GROWN, INTERRUPTED, RUNNING
from jaxevo.engines.wiring import Rules

TABLE_BYTES = 2**28  # of rates on the device at a time: patients go in groups
LAWS_PER_GROUP = 1024  # the user may stop the study between groups
MOST_CELLS = 2.0**53
LINEAGE_BYTES = 2**30  # a batch with more clones than fit here has no lineage


class Whole(NamedTuple):
    """All tumors of a group of patients on the host, NumPy; the last axis is the tumor."""

    count: np.ndarray  # [origin, type, tumor]
    extra: np.ndarray  # [variable, tumor]
    status: np.ndarray
    day: np.ndarray
    births: np.ndarray
    deaths: np.ndarray
    arrived: np.ndarray  # cells from outside
    attempts: np.ndarray
    lineage: Lineage | None


class Grown(NamedTuple):
    """What growth leaves behind, [patient * replicate] on the last axis."""

    tumors: Whole  # days of its lineage count from day 0, the start of treatment
    day: np.ndarray  # [row, tumor] of the course, NaN pads
    cells: np.ndarray  # [row, tumor] -1 pads


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
    """Simulate a study as counts of cells.

    Args:
        problem: the study.
        replicates: which replicates, default all; a replicate's bits do not depend on the others.
        progress: called after every call into the kernel.
        should_stop: asked between calls; if true, what has been simulated is returned with running
            tumors marked as interrupted.
        intervals_per_call: at most; changes no bit.
        devices: blocks of tumors are dealt out to them; default JAX's default device.
        start: tumors to go on with, one per replicate, in place of founders and growth.

    Raises:
        GrowthError: a tumor does not reach `treat_at_cells` within a century.
        Refused: more classes can be reached than can be listed, or single cells are asked for.
        OverflowError: a class has more than 2^53 cells.
    """
    if problem.record.snapshot_days:
        raise Refused(
            "the clones engine counts cells and cannot list them one by one; leave out "
            "record.snapshot_days, or choose the cells engine"
        )
    if start is not None:
        problem = _going_on(problem, start)
    run = _Run(problem, replicates, progress, should_stop, intervals_per_call, devices)
    with jax.enable_x64(True):
        run.all_groups(start)
    return counted.trajectory(problem, run.replicates, run.net, run.results)


def _going_on(problem: Problem, start: State) -> Problem:
    """The problem whose founders are all that a state holds, without growth."""
    kinds = sorted({(row.genotype, row.site) for rows in start.tumors for row in rows})
    founders = tuple(Founder(1, genotype, site) for genotype, site in kinds)
    return problem._replace(founders=founders or problem.founders, treat_at_cells=None)


class _Run:
    """One simulation."""

    def __init__(self, problem, replicates, progress, should_stop, intervals_per_call, devices):
        self.problem: Problem = problem
        self.replicates = range(problem.replicates) if replicates is None else replicates
        self.progress = progress or (lambda _: None)
        self.should_stop = should_stop
        self.per_call = intervals_per_call or 10**9
        self.devices = devices or (None,)
        self.net = problem_network(problem)
        num_arms, num_patients = len(problem.arms), len(problem.models)
        tumors = num_arms * num_patients * len(self.replicates)
        self.has_lineage = tumors * self.net.num_types * 2 * 20 <= LINEAGE_BYTES
        self.when: Marks = marks(problem.record, problem.horizon)
        self.results: list[counted.Group] = []

    def rules(self, is_growth: bool) -> Rules:
        has_jumps = any(arm.jumps for arm in self.problem.arms) and not is_growth
        return Rules(
            self.net, 1 if is_growth else 2, self.problem.exact_below, has_jumps, self.has_lineage
        )

    def groups(self) -> list[range]:
        """Patients, so many at a time that their rates fit and are made within seconds."""
        net, problem = self.net, self.problem
        numbers = 2 * net.num_types + sum(
            map(len, (net.mutations, net.asymmetric, net.symmetric, net.conversions))
        )
        rows = problem.horizon / min(problem.sync, problem.record.every) + 1
        each = 8 * len(problem.arms) * numbers * rows
        size = max(1, min(int(TABLE_BYTES // each), LAWS_PER_GROUP // len(problem.arms)))
        num = len(problem.models)
        return [range(i, min(i + size, num)) for i in range(0, num, size)]

    def all_groups(self, start: State | None) -> None:
        """Simulate one group of patients after the other."""
        groups = self.groups()
        for index, patients in enumerate(groups):
            self.done, self.share = index / len(groups), 1 / len(groups)
            grown = self.begin(patients, start)
            self.results.append(self.treat(patients, grown))

    # --- blocks ------------------------------------------------------------------------------------

    def blocks(self, rules: Rules, whole: Whole, law, patient, replicate) -> list[Tumors]:
        """The tumors of a group, cut into blocks."""
        found = []
        for i in range(0, len(law), rules.width):
            at = slice(i, i + rules.width)
            block = new_block(
                rules, self.problem.seed, (patient[at], replicate[at]), law[at],
                whole.count[..., at], whole.extra[..., at],
            )  # fmt: skip
            missing = rules.width - len(law[at])
            past = {
                "status": np.where(
                    whole.status[at] == INTERRUPTED, INTERRUPTED, block.status[: len(law[at])]
                ),
                "attempts": whole.attempts[at],
            }
            past = {k: jnp.asarray(_padded(x, missing, 1), jnp.int32) for k, x in past.items()}
            block = block._replace(**past)
            if rules.has_lineage and whole.lineage is not None:
                parts = (_padded(x[..., at], missing, np.nan) for x in whole.lineage[:2])
                parent = _padded(np.asarray(whole.lineage.parent)[..., at], missing, -1)
                born, died = map(jnp.asarray, parts)
                lineage = Lineage(born, died, jnp.asarray(parent, jnp.int32))
                block = block._replace(lineage=lineage)
            device = self.devices[len(found) % len(self.devices)]
            found.append(block if device is None else jax.device_put(block, device))
        return found

    def run_blocks(self, blocks: list[Tumors], work: Callable) -> list:
        """`work` on every block, on as many threads as there are cores."""

        def one(item):
            with jax.enable_x64(True):
                return jax.block_until_ready(work(*item))

        items = list(enumerate(blocks))
        if len(items) == 1:
            return [one(items[0])]
        with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
            return list(pool.map(one, items))

    def placed(self, tree) -> list:
        """Copies of a tree for the devices."""
        return [tree if d is None else jax.device_put(tree, d) for d in self.devices]

    # --- growth ------------------------------------------------------------------------------------

    def begin(self, patients: range, start: State | None) -> Grown:
        """Tumors of every patient and replicate on day 0."""
        num = len(patients) * len(self.replicates)
        count = np.zeros((1, self.net.num_types, num))
        for founder in self.problem.founders:
            count[0, self.net.type_of(founder.genotype, founder.site)] += founder.count
        lineage = None
        if start is not None:
            count, lineage = counted.from_state(start, self.net, len(patients))
        zeros = np.zeros(num)
        if self.has_lineage and lineage is None:
            nan = np.full(count.shape, np.nan)
            born = np.where(count > 0, 0.0, nan)
            lineage = Lineage(born, nan, np.full(count.shape, -1, np.int32))  # type: ignore[arg-type]
        # the extra variables start on day 0 and on the first day of growth alike
        extra = np.stack([_first_extra(self.problem, p) for p in patients])
        extra = np.repeat(extra, len(self.replicates), axis=0).T
        whole = Whole(
            count, extra, np.zeros(num, int), zeros, zeros, zeros, zeros, np.ones(num, int), lineage
        )
        if self.problem.treat_at_cells is None:
            none = np.zeros((0, num))
            return Grown(whole, none, none)
        return self.grow(patients, whole)

    def grow(self, patients: range, whole: Whole) -> Grown:
        """From the founders to the size at which treatment starts."""
        problem, rules = self.problem, self.rules(True)
        if self.should_stop():
            none = np.zeros((0, len(whole.status)))
            return Grown(whole._replace(status=np.full(len(whole.status), INTERRUPTED)), none, none)
        processes = [growth_process(problem, p, self.net) for p in patients]
        stack = lambda *x: jnp.asarray(np.stack([np.asarray(y) for y in x]))  # noqa: E731
        process = jax.tree.map(stack, *processes)
        law = np.repeat(np.arange(len(patients)), len(self.replicates))
        patient = np.repeat(np.array(patients), len(self.replicates))
        replicate = np.tile(np.array(self.replicates), len(patients))
        blocks = self.blocks(rules, whole, law, patient, replicate)
        founders = [jax.tree.map(jnp.copy, block) for block in blocks]
        placed = self.placed((process, jnp.float64(problem.treat_at_cells)))
        courses: list[list] = [[] for _ in blocks]
        goal, calls, total = float(problem.treat_at_cells or 1), 0, len(law)
        while not self.should_stop():
            running = [bool(np.any(np.asarray(b.status) == RUNNING)) for b in blocks]
            if not any(running):
                break
            if calls * MAX_ROWS * problem.sync > MAX_GROWTH_DAYS:
                raise GrowthError(
                    f"no tumor of {problem.treat_at_cells} cells after {MAX_GROWTH_DAYS:.0f} days; "
                    "raise the birth rate or lower treat_at_cells"
                )

            def work(i, block, running=running):
                if not running[i]:
                    return block, None
                process, target = placed[i % len(placed)]
                block, course = grow(rules, block, process, founders[i], target)
                return block, jax.tree.map(np.asarray, course)

            done = self.run_blocks(blocks, work)
            blocks = [block for block, _ in done]
            for i, (_, course) in enumerate(done):
                courses[i] += [course] if course is not None else []
            calls += 1
            sizes = [np.minimum(np.asarray(b.count).sum(axis=(0, 1)), goal).sum() for b in blocks]
            oldest = max(float(np.asarray(b.day).max()) for b in blocks)
            share = self.done + self.share * min(sum(sizes) / (goal * total), 1.0)
            self.progress(Progress("growth", oldest, share, int(sum(sizes))))
        whole = _fetched(blocks, total, rules)
        day, cells = _course(courses, whole, total, rules.width)
        age = whole.day
        status = np.where(whole.status == GROWN, RUNNING, INTERRUPTED)
        lineage = whole.lineage
        if lineage is not None:
            lineage = lineage._replace(born=lineage.born - age, died=lineage.died - age)
        return Grown(whole._replace(status=status, lineage=lineage), day, cells)

    # --- treatment ---------------------------------------------------------------------------------

    def treat(self, patients: range, grown: Grown) -> "counted.Group":
        """All arms of a group of patients from day 0 to the horizon."""
        problem, rules, when = self.problem, self.rules(False), self.when
        num_arms, each = len(problem.arms), len(patients) * len(self.replicates)
        whole = _forked(grown.tumors, num_arms)
        arm = np.repeat(np.arange(num_arms), each)
        place = np.tile(np.repeat(np.arange(len(patients)), len(self.replicates)), num_arms)
        law = arm * len(patients) + place
        replicate = np.tile(np.array(self.replicates), len(patients) * num_arms)
        blocks = self.blocks(rules, whole, law, np.array(patients)[place], replicate)
        target = np.inf if problem.stop_at_cells is None else float(problem.stop_at_cells)
        recorder = counted.Recorder(self.net, when, len(law))
        recorder.mark(0, [_counts(b) for b in blocks], rules.width)
        marked, of_mark, placed = 0, np.zeros(0), []
        if len(when.day) > 1:  # else the tumors of day 0 are all that is asked for
            timeline, process = planned(
                problem, when, cut_at_doses=False, patients=patients, net=self.net
            )
            codes = Codes.of(timeline.start)
            of_mark = timeline.of_mark
            placed = self.placed((process, codes, jnp.float64(target)))
        for m in range(1, len(when.day)):
            if not self.to_mark(m, of_mark, blocks, placed, rules):
                break
            recorder.mark(m, [_counts(b) for b in blocks], rules.width)
            marked = m
            size = int(recorder.total)
            share = self.done + self.share * m / (len(when.day) - 1)
            self.progress(Progress("treatment", float(when.day[m]), share, size))
        final = _fetched(blocks, len(law), rules)
        return counted.Group(patients, grown, final, recorder, marked)

    def to_mark(
        self, m: int, of_mark: np.ndarray, blocks: list, placed: list, rules: Rules
    ) -> bool:
        """Run all blocks up to mark `m`; false if the user has stopped the study before."""
        first, last = int(of_mark[m - 1]), int(of_mark[m])
        while first < last:
            if self.should_stop():
                return False
            until = min(last, first + self.per_call)

            def work(i, block, first=first, until=until):
                process, codes, target = placed[i % len(placed)]
                return treat(rules, block, process, codes, first, until, target)

            blocks[:] = self.run_blocks(blocks, work)
            first = until
        return True


def _first_extra(problem: Problem, patient: int) -> np.ndarray:
    """The extra variables of a custom law at the start."""
    custom = problem.models[patient].custom
    return np.zeros(0) if custom is None else np.asarray(custom.start, float)


def _padded(x, missing: int, blank) -> np.ndarray:
    """More entries at the end of the last axis."""
    x = np.asarray(x)
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], constant_values=blank)


def _counts(block: Tumors) -> np.ndarray:
    """Cells of every type, [origin, type, tumor].

    Raises:
        OverflowError: more cells than float64 counts one by one.
    """
    count = np.asarray(block.count)
    if count.max(initial=0.0) >= MOST_CELLS:
        raise OverflowError(
            f"a class has {count.max():.2g} cells, more than the clones engine counts exactly "
            f"({MOST_CELLS:.2g}); stop tumors earlier (study.stop_at_cells), or crowd them"
        )
    return count


def _fetched(blocks: list[Tumors], num: int, rules: Rules) -> Whole:
    """The blocks as one, without their padding."""
    fields = {
        name: np.concatenate([np.asarray(getattr(b, name)) for b in blocks], axis=-1)[..., :num]
        for name in Whole._fields
        if name != "lineage"
    }
    lineage = None
    if rules.has_lineage:
        join = lambda *x: np.concatenate([np.asarray(y) for y in x], axis=-1)[..., :num]  # noqa: E731
        lineage = jax.tree.map(join, *[b.lineage for b in blocks])
    return Whole(**fields, lineage=lineage)


def _forked(whole: Whole, num_arms: int) -> Whole:
    """Every arm starts from the same cells on day 0; what arises from now on has a row of its own."""
    tile = lambda x: np.tile(x, (1,) * (x.ndim - 1) + (num_arms,))  # noqa: E731
    count, lineage = whole.count, whole.lineage
    if count.shape[0] == 1:
        count = np.concatenate([count, np.zeros_like(count)])
        if lineage is not None:
            none = np.full_like(lineage.born, np.nan)
            nobody = np.full_like(lineage.parent, -1)
            filled = (none, none, nobody)
            lineage = Lineage(*(np.concatenate(x) for x in zip(lineage, filled, strict=True)))
    if lineage is not None:
        lineage = jax.tree.map(tile, lineage)
    zeros = np.zeros(count.shape[-1] * num_arms)
    return Whole(
        tile(count), tile(whole.extra), tile(whole.status), zeros, zeros, zeros, zeros,
        tile(whole.attempts), lineage,
    )  # fmt: skip


def _course(
    courses: list[list], whole: Whole, num: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Days and sizes of the last attempt of every tumor, packed to the front."""
    columns = []
    for i, found in enumerate(courses):
        for t in range(min(width, num - i * width)):
            j = i * width + t
            day = np.concatenate([c.day[:, t] for c in found]) if found else np.zeros(0)
            if len(day) == 0:
                columns.append((day, day))
                continue
            size = np.concatenate([c.cells[:, t] for c in found])
            attempt = np.concatenate([c.attempt[:, t] for c in found])
            keep = (attempt == whole.attempts[j]) & ~np.isnan(day)
            columns.append((day[keep] - whole.day[j], size[keep]))
    longest = max((len(day) for day, _ in columns), default=0)
    days, cells = np.full((longest, num), np.nan), np.full((longest, num), -1.0)
    for j, (day, size) in enumerate(columns):
        days[: len(day), j], cells[: len(day), j] = day, size
    return days, cells
