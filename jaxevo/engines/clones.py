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

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines import counted, immunity
from jaxevo.engines.arms import Decided, InAdvance, Part, joined
from jaxevo.engines.base import Founder, Problem, Refused, Trajectory
from jaxevo.engines.blocks import Grown, Whole, fetched, padded
from jaxevo.engines.cells import MAX_GROWTH_DAYS, GrowthError, Progress
from jaxevo.engines.counts import MAX_ROWS, grow, new_block
from jaxevo.engines.events import Lineage, Tumors
from jaxevo.engines.grid import Marks, marks
from jaxevo.engines.handover import State
from jaxevo.engines.process import growth_process, problem_network
from jaxevo.engines.regimen import parts_of
from jaxevo.engines.tumors import GROWN, INTERRUPTED, RUNNING
from jaxevo.engines.wiring import Rules

TABLE_BYTES = 2**28  # of rates on the device at a time: patients go in groups
LAWS_PER_GROUP = 1024  # the user may stop the study between groups
LINEAGE_BYTES = 2**30  # a batch with more clones than fit here has no lineage


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
    if problem.still_below:
        raise Refused(
            "clones counts whole cells, and a cell is never still; leave out still_below, or choose "
            "meanfield"
        )
    if problem.record.snapshot_days:
        raise Refused(
            "the clones engine counts cells and cannot list them one by one; leave out "
            "record.snapshot_days, or choose the cells engine"
        )
    if start is not None:
        problem = _going_on(problem, start)
    problem = problem.with_visits()
    run = _Run(problem, replicates, progress, should_stop, intervals_per_call, devices)
    with jax.enable_x64(True):
        run.all_groups(start)
    return counted.trajectory(problem, run.replicates, run.net, run.results)


def _going_on(problem: Problem, start: State) -> Problem:
    """The problem whose founders are all that a state holds, without growth."""
    kinds = sorted({(row.genotype, row.site) for rows in start.tumors for row in rows})
    founders = tuple(Founder(1, genotype, site) for genotype, site in kinds)
    return problem._replace(
        founders=founders or problem.founders, founders_of=(), treat_at_cells=None
    )


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
        lineage_bytes = tumors * self.net.num_types * 2 * 20
        self.has_lineage = problem.record.origins and lineage_bytes <= LINEAGE_BYTES
        every = None if problem.visits is None else problem.visits.every
        self.when: Marks = marks(problem.record, problem.horizon, every)
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
        found, named = [], self.problem.first_patient + patient
        for i in range(0, len(law), rules.width):
            at = slice(i, i + rules.width)
            block = new_block(
                rules, self.problem.seed, (named[at], replicate[at]), law[at],
                whole.count[..., at], whole.extra[..., at],
            )  # fmt: skip
            missing = rules.width - len(law[at])
            past = {
                "status": np.where(
                    whole.status[at] == INTERRUPTED, INTERRUPTED, block.status[: len(law[at])]
                ),
                "attempts": whole.attempts[at],
            }
            past = {k: jnp.asarray(padded(x, missing, 1), jnp.int32) for k, x in past.items()}
            block = block._replace(**past)
            if rules.has_lineage and whole.lineage is not None:
                parts = (padded(x[..., at], missing, np.nan) for x in whole.lineage[:2])
                parent = padded(np.asarray(whole.lineage.parent)[..., at], missing, -1)
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

    def at_once(self, parts: list, work: Callable) -> list:
        """`work` on every part; what they do on the host takes turns with their kernels."""

        def one(part):
            with jax.enable_x64(True):
                return work(part)

        if len(parts) == 1:
            return [one(parts[0])]
        with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
            return list(pool.map(one, parts))

    def placed(self, tree) -> list:
        """Copies of a tree for the devices."""
        return [tree if d is None else jax.device_put(tree, d) for d in self.devices]

    # --- growth ------------------------------------------------------------------------------------

    def begin(self, patients: range, start: State | None) -> Grown:
        """Tumors of every patient and replicate on day 0."""
        num, num_replicates = len(patients) * len(self.replicates), len(self.replicates)
        count = np.zeros((1, self.net.num_types, num))
        for i, patient in enumerate(patients):
            for founder in self.problem.founders_in(patient):
                place = self.net.type_of(founder.genotype, founder.site)
                count[0, place, i * num_replicates : (i + 1) * num_replicates] += founder.count
        lineage = None
        if start is not None:
            count, lineage = counted.from_state(start, self.net, len(patients))
        zeros = np.zeros(num)
        if self.has_lineage and lineage is None:
            nan = np.full(count.shape, np.nan)
            born = np.where(count > 0, 0.0, nan)
            lineage = Lineage(born, nan, np.full(count.shape, -1, np.int32))  # type: ignore[arg-type]
        # the extra variables start on day 0 and on the first day of growth alike
        extra = np.stack([immunity.start(self.problem.models[p]) for p in patients])
        extra = np.repeat(extra, len(self.replicates), axis=0).T
        if start is not None and start.immune is not None:
            extra = start.immune.T
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
        whole = fetched(blocks, total, rules)
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
        when, num_arms = self.when, len(self.problem.arms)
        parts: list[Part] = []
        for arms in parts_of(self.problem):
            decides = self.problem.goes_by_visits(self.problem.arms[arms[0]])
            kind = Decided if decides else InAdvance
            parts.append(kind(self, arms, patients, grown))
        for m in range(1, len(when.day)):
            if not all(self.at_once(parts, lambda part, m=m: part.to_mark(m))):
                break
            share = self.done + self.share * m / (len(when.day) - 1)
            size = sum(int(part.recorder.total) for part in parts)
            self.progress(Progress("treatment", float(when.day[m]), share, size))
        each = len(patients) * len(self.replicates)
        final, recorder, watched = joined(parts, num_arms, each)
        marked = min(part.marked for part in parts)
        return counted.Group(patients, grown, final, recorder, marked, watched)


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
