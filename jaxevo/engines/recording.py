"""What a simulation writes down while it runs: sizes, classes, clones, cells."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines.arrivals import NO_PARENT
from jaxevo.engines.base import Problem
from jaxevo.engines.grid import Intervals, Marks
from jaxevo.engines.lanes import Lanes, Log, living
from jaxevo.engines.timeloop import Outcome
from jaxevo.engines.tumors import (
    EXTINCT,
    INTERRUPTED,
    OUT_OF_ROOM,
    RUNNING,
    TREATMENT_INTERVALS,
    Tumors,
)  # fmt: skip

DENSE_TALLY = 2**24  # entries of a table that is counted on the device

Event = np.dtype(
    [("tumor", "i8"), ("id", "i8"), ("parent", "i8"), ("cell", "u4"), ("interval", "i8"),
     ("remaining", "f8")]
)  # fmt: skip


class Tally(NamedTuple):
    """How many cells of each value each tumor has; values that no cell has are left out."""

    tumor: np.ndarray
    value: np.ndarray
    count: np.ndarray


@partial(jax.jit, static_argnames=("num_tumors", "size"))
def _count(values, lanes_living, num_tumors: int, size: int):
    num_lanes = len(lanes_living)
    tumor = jnp.arange(num_lanes, dtype=jnp.int32) // (num_lanes // num_tumors)

    def add_row(s, table):
        entry = tumor * size + values[s].astype(jnp.int32)
        return table.at[jnp.where(s < lanes_living, entry, num_tumors * size)].add(1, mode="drop")

    table = jnp.zeros(num_tumors * size, jnp.int32)
    return jax.lax.fori_loop(0, jnp.max(lanes_living), add_row, table)


def tally(values, lanes: Lanes, num_tumors: int, size: int) -> Tally:
    """Count the values (a column per lane) of living cells in each tumor; all are below `size`."""
    num_cells = living(lanes)
    if num_tumors * size <= DENSE_TALLY:
        table = np.asarray(_count(values, num_cells, num_tumors, size))
        (found,) = np.nonzero(table)
        return Tally(found // size, found % size, table[found].astype(np.int64))
    num_cells = np.asarray(num_cells)
    is_living = np.arange(num_cells.max(initial=0))[:, None] < num_cells
    tumor = np.arange(len(num_cells)) // (len(num_cells) // num_tumors)
    each = np.asarray(values)[: len(is_living)].astype(np.int64) + tumor * np.int64(size)
    found, count = np.unique(each[is_living], return_counts=True)
    return Tally(found // size, found % size, count)


def clone_events(log: Log, logged: np.ndarray, lanes_per_tumor: int) -> np.ndarray:
    """Rows of the log in use, as an array of `Event`."""
    in_use = np.arange(log.parent.shape[0])[:, None] < logged
    rows, lanes = np.nonzero(in_use)
    events = np.zeros(len(rows), Event)
    events["tumor"] = lanes // lanes_per_tumor
    events["id"] = np.asarray(log.identity)[rows, lanes]
    parent = np.asarray(log.parent)[rows, lanes].astype(np.int64)
    events["parent"] = np.where(parent == NO_PARENT, -1, parent)
    events["cell"] = np.asarray(log.cell)[rows, lanes]
    events["interval"] = np.asarray(log.interval)[rows, lanes]
    events["remaining"] = np.asarray(log.remaining)[rows, lanes]
    return events


class Growth:
    """The course of every replicate from its founders to day 0, in days of the last attempt."""

    def __init__(self, num: int):
        self.age = np.zeros(num)  # days since the founders of this attempt
        self.total = np.zeros(num)  # days of all attempts
        self.rows: list[tuple[np.ndarray, ...]] = []
        self.events = np.zeros(0, Event)
        self.attempts = np.zeros(num, np.int64)

    def add(self, done: np.ndarray, outcome: Outcome) -> None:
        """Take in the intervals of one call; `done` counts them per tumor."""
        num = len(self.age)
        for k in range(done.max(initial=0)):
            valid = k < done
            duration, unused = outcome.duration[k, :num], outcome.unused[k, :num]
            end = self.age + np.where(valid, duration, 0.0)
            restarts = valid & (outcome.status[k, :num] == EXTINCT)
            self.age = np.where(restarts, 0.0, end - np.where(valid, unused, 0.0))
            self.total += np.where(valid, duration, 0.0)
            moves = valid & ~restarts & (duration > unused)
            size = np.asarray(outcome.site_count)[k, :, :num].sum(axis=0)
            self.rows.append((valid, restarts, moves, end, self.age, size))

    def finish(self, events: list[np.ndarray], attempts: np.ndarray) -> None:
        """Line the intervals up by replicate, and keep the clone events of its last attempt."""
        num = len(self.age)
        self.attempts = attempts
        if not self.rows:  # stopped before the first interval
            nothing = np.zeros(num, bool)
            self.rows.append((nothing, nothing, nothing, self.age, self.age, self.age))
        stacked = [np.stack(x) for x in zip(*self.rows, strict=True)]
        valid, restarts, moves, end, age, size = stacked
        position = np.cumsum(valid, axis=0) - 1
        tumor = np.broadcast_to(np.arange(num), valid.shape)
        self.end = np.zeros(valid.shape)
        self.end[position[valid], tumor[valid]] = end[valid]
        attempt_start = np.max(np.where(restarts, position + 1, 0), axis=0, initial=0)
        found = np.concatenate([*events, np.zeros(0, Event)])
        found = found[found["tumor"] < num]
        self.events = found[found["interval"] >= attempt_start[found["tumor"]]]
        self.is_course = moves & (position >= attempt_start)
        self.course_day, self.course_size = age - self.age, size

    def course(self) -> tuple[np.ndarray, np.ndarray]:
        """Days (NaN where there is none) and sizes (-1) of every replicate, [replicate, growth]."""
        longest = int(self.is_course.sum(axis=0).max(initial=0))
        shape = (len(self.age), longest)
        day, size = np.full(shape, np.nan), np.full(shape, -1, np.int64)
        row, tumor = np.nonzero(self.is_course)
        place = (np.cumsum(self.is_course, axis=0) - 1)[row, tumor]
        day[tumor, place] = self.course_day[row, tumor]
        size[tumor, place] = self.course_size[row, tumor]
        return day, size

    def event_day(self) -> np.ndarray:
        """Day of every clone event; day 0 is the end of growth."""
        end = self.end[self.events["interval"], self.events["tumor"]]
        return end - self.events["remaining"] - self.age[self.events["tumor"]]


class ArmRun:
    """The course of every tumor from day 0 on."""

    def __init__(self, plan: Intervals, when: Marks, site_count: np.ndarray, ended: np.ndarray):
        self.plan, self.when, self.site_count = plan, when, site_count
        self.ended = ended  # interval in which a tumor ended, -1 while it runs
        self.status = np.zeros(len(ended), np.int64)
        self.unused = np.zeros(len(ended))
        self.marked = 0

    @classmethod
    def empty(cls, plan: Intervals, when: Marks, num_sites: int, num: int, status) -> "ArmRun":
        """Before the first interval; tumors that have ended in growth stay ended."""
        run = cls(plan, when, np.zeros((len(when.day), num_sites, num), np.int64), np.full(num, -1))
        run.status = np.asarray(status)[:num].astype(np.int64)
        return run

    def start(self, site_count: np.ndarray) -> None:
        """Counts at day 0, [site, tumor]."""
        self.site_count[0] = site_count

    def add(self, first: np.ndarray, done: np.ndarray, outcome: Outcome) -> None:
        """Take in the intervals of one call."""
        num = len(self.ended)
        marks = {int(n): m for m, n in enumerate(self.plan.of_mark) if m > 0}
        for k in range(done.max(initial=0)):
            at = first[:num] + k
            valid = k < done[:num]
            for position in np.unique(at[valid]):
                here = valid & (at == position)
                if position + 1 in marks:
                    m = marks[position + 1]
                    self.site_count[m][:, here] = outcome.site_count[k][:, :num][:, here]
            status = outcome.status[k, :num]
            ends = valid & (self.ended < 0) & (self.status == RUNNING) & (status != RUNNING)
            self.ended[ends] = at[ends]
            self.status[ends] = status[ends]
            self.unused[ends] = outcome.unused[k, :num][ends]

    def finish(self, recorder: "Recorder", events, births, deaths) -> "ArmRun":
        """Close the course: what was cut short is marked as interrupted."""
        num = len(self.ended)
        if self.marked < len(self.when.day) - 1:
            self.status[self.status == RUNNING] = INTERRUPTED
        self.recorder = recorder
        self.births, self.deaths = births[:num], deaths[:num]
        found = np.concatenate([*events, np.zeros(0, Event)])
        self.events = found[found["tumor"] < num]
        return self

    def arm(self, num_replicates: int) -> np.ndarray:
        """Arm of every tumor."""
        return np.arange(len(self.ended)) // num_replicates

    def end_day(self, num_replicates: int) -> np.ndarray:
        """Day until which each tumor is known: the last death, the stop, the last sync with room for
        it, or the horizon.
        """
        arm = self.arm(num_replicates)
        last = self.when.day[self.marked]
        day = np.full(len(self.ended), last)
        ended = self.ended >= 0
        full = ended & (self.status == OUT_OF_ROOM)
        back = np.zeros(len(self.ended))
        back[ended] = self.unused[ended]
        back[full] = self.plan.duration[self.ended[full], arm[full]]
        day[ended] = self.plan.end[self.ended[ended], arm[ended]] - back[ended]
        grown = ~ended & (self.status == OUT_OF_ROOM)
        day[grown] = 0.0
        return day

    def event_day(self, num_replicates: int) -> np.ndarray:
        """Day of every clone event under treatment."""
        interval = self.events["interval"] - TREATMENT_INTERVALS
        arm = self.events["tumor"] // num_replicates
        return self.plan.end[interval, arm] - self.events["remaining"]


class Recorder:
    """Classes, clones and cells at the marks of a study."""

    def __init__(self, problem: Problem, lanes_per_tumor: int, num_tumors: int):
        self.problem = problem
        self.lanes_per_tumor = lanes_per_tumor
        self.num_tumors = num_tumors
        self.num_sites = len(problem.model.names.sites)
        self.classes: dict[int, Tally] = {}
        self.clones: dict[int, Tally] = {}
        self.cells: list[dict[str, np.ndarray]] = []
        self.immune: list[np.ndarray] = []  # [tumor, variable] at every record

    def mark(self, m: int, when: Marks, tumors: Tumors) -> None:
        """Write down what mark `m` asks for."""
        lanes, batch = tumors.lanes, len(tumors.arm)
        if when.is_record[m]:
            rows = self.problem.model.genome.num_genotypes * self.num_sites
            found = tally(lanes.cell, lanes, batch, rows)
            genotypes = found.value // self.num_sites
            self.classes[m] = Tally(found.tumor, genotypes, found.count)
            if tumors.extra is not None:
                self.immune.append(np.asarray(tumors.extra)[:, : self.num_tumors].T)
        if when.is_clones[m]:
            named = (int(np.asarray(lanes.clones).max(initial=0)) + 1) * self.lanes_per_tumor
            size = 1 << max(10, named.bit_length())
            self.clones[m] = tally(lanes.lineage, lanes, batch, size)
        if when.is_snapshot[m]:
            self.cells.append(self._snapshot(when.day[m], tumors))

    def _snapshot(self, day: float, tumors: Tumors) -> dict[str, np.ndarray]:
        lanes = tumors.lanes
        is_whole = np.repeat(np.asarray(tumors.status) != OUT_OF_ROOM, self.lanes_per_tumor)
        num_cells = np.where(is_whole, np.asarray(living(lanes)), 0)
        lane, slot = np.nonzero(np.arange(num_cells.max(initial=0)) < num_cells[:, None])
        tumor = lane // self.lanes_per_tumor
        keep = tumor < self.num_tumors
        lane, slot, tumor = lane[keep], slot[keep], tumor[keep]
        word = np.asarray(lanes.cell)[slot, lane]
        arm, replicate = np.divmod(tumor, self.num_tumors // len(self.problem.arms))
        return {
            "arm_index": arm.astype(np.int32),
            "replicate_index": replicate.astype(np.int32),
            "day": np.full(len(lane), day),
            "genotype": (word // self.num_sites).astype(np.uint32),
            "site_index": (word % self.num_sites).astype(np.int32),
            "lineage": np.asarray(lanes.lineage)[slot, lane].astype(np.int64),
        }
