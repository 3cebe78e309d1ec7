"""Watched: what was observed and decided at the visits, from the engines to a trajectory."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxevo.drug.schedule import RESOLUTION, Dose
from jaxevo.engines.assembly import TUMOR
from jaxevo.engines.base import Arm, Problem, Variable
from jaxevo.engines.grid import Marks
from jaxevo.engines.regimen import Plan
from jaxevo.engines.visits import Care, Row


class Watched(NamedTuple):
    """What was observed and decided, [tumor, visit, ...]; NaN where nothing was."""

    burden: np.ndarray  # cells, at visits with a scan
    share: np.ndarray  # [.., line]
    factor: np.ndarray  # [.., drug]
    given: np.ndarray  # [.., drug] mg, from day 0 until the next visit
    neutrophils: np.ndarray  # [tumor, mark] 1e9/L
    lowest: np.ndarray  # [tumor, visit] 1e9/L, from day 0 until the next visit
    grade_days: np.ndarray  # [tumor, visit, grade] in the same time

    @classmethod
    def empty(cls, problem: Problem, num: int, when: Marks) -> "Watched":
        """Nothing yet."""
        lines = max((len(arm.lines) for arm in problem.arms), default=0)
        drugs, visits = len(problem.model.names.drugs), int(when.is_visit.sum())
        nan = lambda *shape: np.full((num, *shape), np.nan)  # noqa: E731
        return cls(
            nan(visits), nan(visits, lines), nan(visits, drugs), nan(visits, drugs),
            nan(len(when.day)), nan(visits), nan(visits, 5),
        )  # fmt: skip

    def write(self, here: slice, plan: Plan, window: int, care: Care, row: Row) -> None:
        """Keep what was decided in a window, of the tumors at these places."""
        known = lambda x: np.asarray(x)[: here.stop - here.start]  # noqa: E731
        share = known(row.share)
        self.share[here, window, : share.shape[1]] = share
        self.factor[here, window] = known(row.factor)
        is_last = window == plan.num_windows - 1  # there may be a visit on the last day
        after = slice(window, None if is_last else window + 1)
        self.given[here, after] = known(row.given)[:, None]
        if care.marrow is None:
            return
        first = window * plan.num_intervals
        end = plan.of_mark - first
        (marks,) = np.nonzero((end > 0) & (end <= plan.num_intervals))
        if window == 0:
            self.neutrophils[here, 0] = known(row.before)
        self.neutrophils[here, marks] = known(row.neutrophils)[:, end[marks] - 1]
        self.lowest[here, after] = known(care.marrow.lowest)[:, None]
        self.grade_days[here, after] = known(care.marrow.grade_days)[:, None]

    def write_in_advance(
        self, here: slice, arm: Arm, when: Marks, horizon: float, surface: np.ndarray
    ) -> None:
        """Keep what an arm gives that does not decide; `surface` is each tumor's patient's, m2."""
        (visits,) = np.nonzero(when.is_visit)
        ends = np.append(when.day[visits][1:], horizon)
        num_drugs = self.given.shape[-1]
        for area in np.unique(surface):
            given = given_by(arm.doses, ends, num_drugs, float(area))
            self.given[here][surface == area] = given


def given_by(
    doses: tuple[Dose, ...], days: np.ndarray, num_drugs: int, surface: float = 1.0
) -> np.ndarray:
    """Amount of every drug given before each day, mg, [day, drug]."""
    total = np.zeros((len(days), num_drugs))
    for dose in doses:
        since = days - dose.day
        share = (
            since > RESOLUTION
            if dose.duration <= RESOLUTION
            else np.clip(since / dose.duration, 0, 1)
        )
        total[:, dose.drug] += dose.mg(surface) * share
    return total


def variables(
    problem: Problem, when: Marks, joined: Callable[[str], np.ndarray], until: np.ndarray
) -> dict[str, Variable]:
    """Arrays of a trajectory.

    Args:
        problem: the study.
        when: its marks.
        joined: a field of `Watched` as [arm, patient, replicate, ...].
        until: [arm, patient, replicate] day until which the patient of a tumor is seen.
    """
    seen = (*TUMOR, "visit")
    lines = max((len(arm.lines) for arm in problem.arms), default=0)
    named = [[line.name for line in arm.lines] for arm in problem.arms]
    found = {
        "visit": Variable(("visit",), when.day[when.is_visit], "d", "day of the visit"),
        "scan_burden": Variable(
            seen, joined("burden"), "cells", "burden as seen, 0 below detection, NaN without a scan"
        ),
        "given_mg": Variable(
            (*seen, "drug"), joined("given"), "mg", "amount given from day 0 until the next visit"
        ),
    }
    if lines:
        found["line_name"] = Variable(
            ("arm", "line"), np.array([x + [""] * (lines - len(x)) for x in named], np.str_), "",
            "treatments that a policy chooses among",
        )  # fmt: skip
        found["line_share"] = Variable(
            (*seen, "line"), joined("share"), "1", "share of each line until the next visit"
        )
    if any(arm.safety for arm in problem.arms):
        found["drug_factor"] = Variable(
            (*seen, "drug"), joined("factor"), "1", "factor of the safety rule until the next visit"
        )
    if problem.hosts:
        course = joined("neutrophils")[..., when.is_record]
        last = np.searchsorted(when.day[when.is_visit], until - RESOLUTION, side="left") - 1
        last = np.maximum(last, 0)[..., None]
        lowest = np.take_along_axis(joined("lowest"), last, -1)[..., 0]
        days = np.take_along_axis(joined("grade_days"), last[..., None], -2)[..., 0, :]
        found |= {
            "neutrophils": Variable((*TUMOR, "time"), course, "1e9/L", "circulating neutrophils"),
            "lowest_neutrophils": Variable(
                TUMOR, lowest, "1e9/L", "smallest count of neutrophils, as long as `grade_days`"
            ),
            "grade_days": Variable(
                (*TUMOR, "grade"),
                days,
                "d",
                "days in each CTCAE grade, 0 to 4, until the visit that ends the time on treatment",
            ),
        }
    return found
