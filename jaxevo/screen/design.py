"""Design: which combinations a screen tries, and the problem that tries them all at once.

A combination is a level of each agent, most of them 0: untreated first, then all singles, pairs and
triples in the order of the agents, their levels rising. In a screen the free concentration of a drug at
every site is the level itself, from the first day to the last: there is no blood and nothing on the way.
"""

import itertools
import math
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.model import Model

LONGEST_SYNC = 1.0  # days: nothing changes in between


class Agent(NamedTuple):
    """One drug or modulator and the levels that are tried, besides 0."""

    name: str
    drug: int  # position on the axis drug
    levels: tuple[float, ...]  # uM, rising


class Lines(NamedTuple):
    """Cell lines, each of some cells of one tumor that grew without drug."""

    count: int
    cells: int  # of each
    grown_to: int  # cells of the tumor that they are taken from


class ScreenPlan(NamedTuple):
    """What a screen tries, and on what."""

    agents: tuple[Agent, ...]
    order: int = 2  # agents of a combination, at most
    days: float = 3.0  # of exposure
    replicates: int = 100  # of every combination and line
    lines: Lines | None = None  # None: the tumor of the study itself

    @property
    def num_lines(self) -> int:
        """Lines, or 1 for the tumor itself."""
        return 1 if self.lines is None else self.lines.count

    @property
    def num_combinations(self) -> int:
        """Combinations of levels, with that of none."""
        numbers = [len(agent.levels) for agent in self.agents]
        return sum(
            math.prod(found)
            for k in range(self.order + 1)
            for found in itertools.combinations(numbers, k)
        )

    def groups(self, size: int) -> list[tuple[int, ...]]:
        """All sets of so many agents, by position, in the order of the combinations."""
        return list(itertools.combinations(range(len(self.agents)), size))


def combinations(plan: ScreenPlan) -> Float[np.ndarray, "combination agent"]:
    """Levels of every agent in every combination, uM."""
    rows = []
    for size in range(plan.order + 1):
        for group in plan.groups(size):
            for levels in itertools.product(*(plan.agents[a].levels for a in group)):
                row = np.zeros(len(plan.agents))
                row[list(group)] = levels
                rows.append(row)
    return np.array(rows)


def exposed(
    problem: Problem, plan: ScreenPlan, founders: tuple[tuple[Founder, ...], ...] = ()
) -> Problem:
    """All combinations as the arms of one problem, and the lines as its patients.

    The tumor itself grows to `treat_at_cells` first, if the study says so; a line starts at once.

    Args:
        problem: of the study.
        plan: of the screen.
        founders: of every line; none for the tumor itself.
    """
    arms = tuple(Arm(str(i), (), _levels(plan, row)) for i, row in enumerate(combinations(plan)))
    alone = _alone(problem)
    lines: dict = {}
    if founders:
        lines = {
            "patients": (alone.model,) * len(founders),
            "founders_of": founders,
            "founders": founders[0],
            "treat_at_cells": None,
        }
    return alone._replace(
        record=alone.record._replace(origins=False),
        arms=arms,
        replicates=plan.replicates,
        horizon=plan.days,
        sync=min(LONGEST_SYNC, plan.days),
        **lines,
    )


def grown(problem: Problem, plan: ScreenPlan) -> Problem:
    """The one tumor that cell lines are taken from, on the day on which it has so many cells."""
    if plan.lines is None:
        raise ValueError("the screen has no lines that a tumor would be grown for")
    arms = (Arm("growth", ()),)
    return _alone(problem)._replace(
        arms=arms, replicates=1, horizon=0.0, treat_at_cells=plan.lines.grown_to
    )


def _alone(problem: Problem) -> Problem:
    """The tumor of the study's own patient in a bath, which nobody looks at and no cell comes to."""
    record = Record(every=1e9, concentration_every=1e9, max_classes=1)
    return problem._replace(
        model=held(problem.model), record=record, patients=(), founders_of=(), immigration=(),
        stop_at_cells=None, visits=None, hosts=(), limits=None,
    )  # fmt: skip


def _levels(plan: ScreenPlan, row: np.ndarray) -> tuple[Level, ...]:
    return tuple(
        Level(agent.drug, 0.0, plan.days, float(level))
        for agent, level in zip(plan.agents, row, strict=True)
        if level > 0
    )


def held(model: Model) -> Model:
    """The same cells where the free concentration at every site is the level that is prescribed."""
    plasma, delivery = model.plasma, model.delivery
    ones, none = np.ones_like(plasma.clearance), np.zeros_like(plasma.clearance)
    everywhere = np.ones_like(delivery.delivered_fraction)
    at_once = np.full_like(everywhere, np.inf)
    bath = eqx.tree_at(
        lambda p: (p.is_prescribed, p.clearance, p.central_volume, p.unbound_fraction),
        plasma,
        (ones, none, ones, ones),
    )
    open_site = eqx.tree_at(
        lambda d: (
            d.delivered_fraction,
            d.equilibration_rate,
            d.vessel_distance,
            d.barrier_permeability,
            d.barrier_pump,
            d.half_delivery,
        ),
        delivery,
        (
            everywhere,
            at_once,
            np.zeros_like(delivery.vessel_distance),
            at_once,
            np.zeros_like(delivery.barrier_pump),
            np.full_like(delivery.half_delivery, np.inf),
        ),
    )
    return eqx.tree_at(lambda m: (m.plasma, m.delivery), model, (bath, open_site))
