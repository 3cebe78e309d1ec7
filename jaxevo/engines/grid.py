"""The intervals of a treatment: when all arms sync, record, and what concentrations they see."""

import itertools
from typing import NamedTuple

import numpy as np

from jaxevo.drug.course import NODES, Course, course
from jaxevo.drug.schedule import Inputs, inputs, merge_times
from jaxevo.engines.base import Arm, Problem, Record
from jaxevo.model import Model


class Marks(NamedTuple):
    """Days at which something is written down; all are ends of intervals in every arm."""

    day: np.ndarray  # [mark]
    is_record: np.ndarray  # [mark] burden, sites, classes
    is_clones: np.ndarray  # [mark] sizes of clones
    is_snapshot: np.ndarray  # [mark] every cell
    is_visit: np.ndarray  # [mark] the patient is seen


class Intervals(NamedTuple):
    """All intervals of all arms (float64). Between two marks every arm has equally many."""

    duration: np.ndarray  # [interval, arm] days; 0 pads
    end: np.ndarray  # [interval, arm] days
    concentration: np.ndarray  # [interval, arm, node, site, drug] uM
    of_mark: np.ndarray  # [mark] number of intervals before the mark


def multiples(step: float | int, horizon: float | int) -> np.ndarray:
    """0, step, 2 step, ... and the horizon, in days."""
    count = int(np.floor(horizon / step * (1 + 1e-12)))
    return merge_times(step * np.arange(count + 1), np.array([horizon]))


def marks(record: Record, horizon: float | int, visit_every: float | None = None) -> Marks:
    """All days at which the study records something; day 0 and the horizon are records."""
    none = np.zeros(0)
    visits = none
    if visit_every is not None:
        visits = visit_every * np.arange(np.floor(horizon / visit_every * (1 + 1e-12)) + 1)
    records = multiples(record.every, horizon)
    clones = multiples(record.clones_every, horizon) if record.clones_every else none
    snapshots = np.asarray(record.snapshot_days, float)
    day = merge_times(records, clones, snapshots, visits)
    near = lambda times: np.array([np.any(np.abs(times - d) < 1e-9) for d in day])  # noqa: E731
    return Marks(day, near(records), near(clones), near(snapshots), near(visits))


def arm_inputs(model: Model, arm: Arm, sync_days: np.ndarray) -> Inputs:
    """What one arm gives, on the grid of the sync days and its own doses."""
    return inputs(
        arm.doses,
        arm.levels,
        sync_days,
        np.asarray(model.molar_mass),
        np.asarray(model.bioavailability),
        float(model.body_surface),
    )


def arm_course(model: Model, given: Inputs, nodes: np.ndarray = NODES) -> Course:
    """Concentrations of one arm in blood and at every site."""
    return course(model.plasma, model.delivery, model.cellular.transport, given, nodes)


def intervals(problem: Problem, when: Marks) -> Intervals:
    """Cut every arm's time at syncs, marks, doses and jumps; pad so that the arms mark together."""
    sync_days = merge_times(multiples(problem.sync, problem.horizon), when.day)
    given = []
    for arm in problem.arms:
        cuts = [jump.day for jump in arm.jumps if 0 < jump.day < problem.horizon]
        given.append(arm_inputs(problem.model, arm, merge_times(sync_days, np.array(cuts))))
    courses = [arm_course(problem.model, g) for g in given]
    before = [np.searchsorted(g.edges, when.day - 1e-9) for g in given]
    widths = np.max([np.diff(b) for b in before], axis=0, initial=0)
    of_mark = np.concatenate([[0], np.cumsum(widths)])
    shape = (of_mark[-1], len(given))
    duration, end = np.zeros(shape), np.zeros(shape)
    concentration = np.zeros((*shape, *courses[0].site.shape[1:]))
    for a, (g, c, b) in enumerate(zip(given, courses, before, strict=True)):
        for m, (start, stop) in enumerate(itertools.pairwise(b)):
            at = slice(of_mark[m], of_mark[m] + stop - start)
            duration[at, a] = np.diff(g.edges[start : stop + 1])
            concentration[at, a] = c.site[start:stop]
            end[at, a] = g.edges[start + 1 : stop + 1]
            end[of_mark[m] + stop - start : of_mark[m + 1], a] = g.edges[stop]
    return Intervals(duration, end, concentration, of_mark)
