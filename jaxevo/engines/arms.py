"""Arms: the tumors of some arms from day 0 on, as the `clones` engine takes them from mark to mark.

Arms whose doses are known in advance share tables of rates (`planned`); an arm that decides makes its
tables anew at every visit (`visits`).
"""

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines import counted, marrow, visits
from jaxevo.engines.base import Arm
from jaxevo.engines.blocks import Grown, Whole, counts_of, fetched, forked
from jaxevo.engines.counts import Codes, treat
from jaxevo.engines.events import Tumors
from jaxevo.engines.pool import Pool
from jaxevo.engines.process import Stopped, planned
from jaxevo.engines.regimen import Plan, plan_of
from jaxevo.engines.tumors import RUNNING
from jaxevo.engines.visits import scanned
from jaxevo.engines.watched import Watched

if TYPE_CHECKING:
    from jaxevo.engines.clones import _Run


class Part(ABC):
    """Some arms of a group of patients; tumors in the order (arm, patient, replicate)."""

    def __init__(self, run: "_Run", arms: list[int], patients: range, grown: Grown):
        self.run, self.arms, self.patients = run, arms, patients
        self.problem = run.problem._replace(arms=tuple(run.problem.arms[a] for a in arms))
        self.rules = run.rules(False)
        num_replicates = len(run.replicates)
        self.num = len(arms) * len(patients) * num_replicates
        arm = np.repeat(np.arange(len(arms)), len(patients) * num_replicates)
        self.place = np.tile(np.repeat(np.arange(len(patients)), num_replicates), len(arms))
        replicate = np.tile(np.array(run.replicates), len(patients) * len(arms))
        law = arm * len(patients) + self.place
        self.blocks: list[Tumors] = run.blocks(
            self.rules, forked(grown.tumors, len(arms)), law,
            np.array(patients)[self.place], replicate,
        )  # fmt: skip
        target = self.problem.stop_at_cells
        self.target = jnp.float64(np.inf if target is None else float(target))
        self.has_immune = self.problem.model.immune is not None
        num_extra = 2 * run.net.num_sites * self.has_immune
        self.recorder = counted.Recorder(run.net, run.when, self.num, num_extra)
        self.watched = Watched.empty(run.problem, self.num, run.when)
        self.marked = 0
        if len(run.when.day) > 1:
            try:
                self.prepare()
            except Stopped:
                self.of_mark = np.zeros(len(run.when.day), int)
        self.record(0)

    @abstractmethod
    def prepare(self) -> None:
        """Make what the blocks need on their way."""

    @abstractmethod
    def walk(self, first: int, last: int) -> bool:
        """All blocks through these intervals; false if the user has stopped the study before."""

    def to_mark(self, m: int) -> bool:
        """All blocks up to mark `m`; false if the user has stopped the study before."""
        if self.run.should_stop() or not self.walk(int(self.of_mark[m - 1]), int(self.of_mark[m])):
            return False
        self.record(m)
        return True

    of_mark: np.ndarray

    def record(self, m: int) -> None:
        """Write down mark `m`."""
        when, width = self.run.when, self.rules.width
        self.recorder.mark(m, [counts_of(b) for b in self.blocks], width)
        if when.is_record[m] and self.has_immune:
            self.recorder.mark_immune(m, [np.asarray(b.extra) for b in self.blocks], width)
        if when.is_visit[m] and self.problem.visits is not None:
            number = int(when.is_visit[:m].sum())
            for i, block in enumerate(self.blocks):
                at = slice(i * width, min((i + 1) * width, self.num))
                seen = _scan(self.rules.net, self.problem.visits, block, when.day[m], number)
                self.watched.burden[at, number] = np.asarray(seen)[: at.stop - at.start]
        self.marked = m

    def at(self, i: int) -> slice:
        """The tumors of block `i`."""
        return slice(i * self.rules.width, min((i + 1) * self.rules.width, self.num))

    def final(self) -> Whole:
        """All tumors without padding."""
        return fetched(self.blocks, self.num, self.rules)


@partial(jax.jit, static_argnums=(0, 1))
def _scan(net, seen_at, block: Tumors, day, number):
    count = jnp.sum(block.count[:, : net.num_inside], axis=0)
    burden, is_scan = scanned(seen_at, count, block.key, jnp.asarray(day), number)
    return jnp.where(is_scan, burden, jnp.nan)


class InAdvance(Part):
    """Arms whose doses do not depend on the tumor."""

    def prepare(self) -> None:
        timeline, process = planned(
            self.problem,
            self.run.when,
            cut_at_doses=False,
            patients=self.patients,
            net=self.run.net,
            should_stop=self.run.should_stop,
        )
        codes = Codes.of(timeline.start)
        self.of_mark = timeline.of_mark
        self.placed = self.run.placed((process, codes, self.target))
        if self.problem.visits is not None:
            each = self.num // len(self.arms)
            for a, arm in enumerate(self.arms):
                own = marrow.in_advance(
                    self.run.problem, arm, self.run.when, self.patients, self.run.net
                )
                here = slice(a * each, (a + 1) * each)
                for whole, part in zip(self.watched, own, strict=True):
                    whole[here] = part[self.place[here]]

    def walk(self, first: int, last: int) -> bool:
        while first < last:
            if self.run.should_stop():
                return False
            until = min(last, first + self.run.per_call)

            def work(i, block, first=first, until=until):
                process, codes, target = self.placed[i % len(self.placed)]
                return treat(self.rules, block, process, codes, first, until, target)

            self.blocks[:] = self.run.run_blocks(self.blocks, work)
            first = until
        return True


class Decided(Part):
    """One arm whose doses are decided at visits."""

    def prepare(self) -> None:
        problem, run = self.problem, self.run
        arm: Arm = problem.arms[0]
        self.plan: Plan = plan_of(problem, 0, run.when, self.patients, run.net, in_steps=True)
        self.of_mark = self.plan.of_mark
        numbers = jax.tree.map(jnp.asarray, (self.plan.tables, self.plan.people))
        self.placed = run.placed((*numbers, self.target))
        self.window = -1
        self.place_of, self.care, self.pools = [], [], []
        self.process: list = [None] * len(self.blocks)
        width = self.rules.width
        for i, block in enumerate(self.blocks):
            here = self.at(i)
            place = np.pad(self.place[here], (0, width - (here.stop - here.start)))
            self.pools.append(Pool(self.plan, place))
            law, place_of = jnp.arange(width, dtype=jnp.int32), jnp.asarray(place, jnp.int32)
            own = (law, place_of, visits.begin(arm, self.plan, width, place))
            device = run.devices[i % len(run.devices)]
            # where all else of the block is: a program is compiled for where its arguments are
            law, place_of, care = own if device is None else jax.device_put(own, device)
            self.place_of.append(place_of)
            self.care.append(care)
            self.blocks[i] = block._replace(law=law)

    def walk(self, first: int, last: int) -> bool:
        each = self.plan.num_intervals
        while first < last:
            if self.run.should_stop():
                return False
            window = first // each
            until = min(last, (window + 1) * each, first + self.run.per_call)
            if window != self.window:
                self.visit(window)

            def work(i, block, span=(first - window * each, until - window * each)):
                process, codes = self.process[i]
                return treat(self.rules, block, process, codes, *span, self.target)

            self.blocks[:] = self.run.run_blocks(self.blocks, work)
            first = until
        return True

    def visit(self, window: int) -> None:
        """See and decide, in all blocks."""
        plan = self.plan

        def work(i, block):
            tables, people, _ = self.placed[i % len(self.placed)]
            count = jnp.sum(block.count, axis=0)
            who = (
                self.place_of[i],
                block.key,
            )  # a call gives its block's memory away, keys included
            care, site, row = visits.visit(
                plan.rules, tables, people, self.care[i], count, who, jnp.int32(window)
            )
            process = self.pools[i].process(window, site, np.asarray(block.status) == RUNNING)
            return care, (process, _codes(process.start)), row

        done = self.run.run_blocks(self.blocks, work)
        self.window = window
        for i, (care, process, row) in enumerate(done):
            self.care[i], self.process[i] = care, process
            here = self.at(i)
            num = here.stop - here.start
            visits.refuse_wrong(self.problem.arms[0], row, num)
            self.watched.write(here, plan, window, care, row)


@jax.jit
def _codes(start) -> Codes:
    """Words of the intervals of a window, as `Codes.of` has them."""
    whole = jnp.floor(start)
    part = jnp.minimum(jnp.rint((start - whole) * 2.0**32), 2.0**32 - 1)
    return Codes((whole.astype(jnp.int64) + 2**31).astype(jnp.uint32), part.astype(jnp.uint32))


def joined(parts: list[Part], num_arms: int, each: int) -> tuple[Whole, counted.Recorder, Watched]:
    """All parts as one, in the order of the arms; `each` tumors an arm."""
    arms = np.concatenate([part.arms for part in parts])
    order = np.argsort(arms)
    place = (order[:, None] * each + np.arange(each)).reshape(-1)
    finals = [part.final() for part in parts]
    last = lambda *x: np.concatenate([np.asarray(y) for y in x], axis=-1)[..., place]  # noqa: E731
    first = lambda *x: np.concatenate(x)[place]  # noqa: E731
    recorder = counted.Recorder(parts[0].run.net, parts[0].run.when, num_arms * each)
    for name in ("sites", "classes", "clones", "immune"):
        setattr(recorder, name, first(*(getattr(p.recorder, name) for p in parts)))
    return jax.tree.map(last, *finals), recorder, jax.tree.map(first, *(p.watched for p in parts))
