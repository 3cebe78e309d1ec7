"""Watched: what was observed and decided at the visits, from the engines to a trajectory."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxevo import host
from jaxevo.drug.schedule import RESOLUTION, Dose, merge_times
from jaxevo.engines.assembly import TUMOR
from jaxevo.engines.base import Arm, Problem, Variable
from jaxevo.engines.grid import Marks, arm_course, arm_inputs, multiples
from jaxevo.engines.regimen import Plan
from jaxevo.engines.visits import Care, Row

PATIENTS_PER_CALL = 64


class Watched(NamedTuple):
    """What was observed and decided, [tumor, visit, ...]; NaN where nothing was."""

    burden: np.ndarray  # cells, at visits with a scan
    share: np.ndarray  # [.., line]
    factor: np.ndarray  # [.., drug]
    given: np.ndarray  # [.., drug] mg, until the next visit
    neutrophils: np.ndarray  # [tumor, mark] 1e9/L
    lowest: np.ndarray  # [tumor] 1e9/L
    grade_days: np.ndarray  # [tumor, grade]

    @classmethod
    def empty(cls, problem: Problem, num: int, when: Marks) -> "Watched":
        """Nothing yet."""
        lines = max((len(arm.lines) for arm in problem.arms), default=0)
        drugs, visits = len(problem.model.names.drugs), int(when.is_visit.sum())
        nan = lambda *shape: np.full((num, *shape), np.nan)  # noqa: E731
        return cls(
            nan(visits), nan(visits, lines), nan(visits, drugs), nan(visits, drugs),
            nan(len(when.day)), nan(), nan(5),
        )  # fmt: skip

    def write(self, here: slice, plan: Plan, window: int, care: Care, row: Row) -> None:
        """Keep what was decided in a window, of the tumors at these places."""
        known = lambda x: np.asarray(x)[: here.stop - here.start]  # noqa: E731
        share = known(row.share)
        self.share[here, window, : share.shape[1]] = share
        self.factor[here, window] = known(row.factor)
        is_last = window == plan.num_windows - 1  # there may be a visit on the last day
        self.given[here, window : None if is_last else window + 1] = known(row.given)[:, None]
        if care.marrow is None:
            return
        first = window * plan.num_intervals
        end = plan.of_mark - first
        (marks,) = np.nonzero((end > 0) & (end <= plan.num_intervals))
        if window == 0:
            self.neutrophils[here, 0] = known(row.before)
        self.neutrophils[here, marks] = known(row.neutrophils)[:, end[marks] - 1]
        self.lowest[here] = known(care.marrow.lowest)
        self.grade_days[here] = known(care.marrow.grade_days)

    def write_in_advance(
        self, here: slice, problem: Problem, arm: Arm, patients: range, when: Marks
    ) -> None:
        """Keep what an arm gives that does not decide; tumors in the order (patient, replicate)."""
        (visits,) = np.nonzero(when.is_visit)
        ends = np.append(when.day[visits][1:], problem.horizon)
        self.given[here] = given_by(arm.doses, ends, self.given.shape[-1])
        if problem.hosts:
            found = marrow_in_advance(problem, arm, patients, when)
            each = (here.stop - here.start) // len(patients)
            for whole, part in zip(
                (self.neutrophils, self.lowest, self.grade_days), found, strict=True
            ):
                whole[here] = np.repeat(part, each, axis=0)


def given_by(doses: tuple[Dose, ...], days: np.ndarray, num_drugs: int) -> np.ndarray:
    """Amount of every drug given before each day, mg, [day, drug]."""
    total = np.zeros((len(days), num_drugs))
    for dose in doses:
        since = days - dose.day
        share = (
            since > RESOLUTION
            if dose.duration <= RESOLUTION
            else np.clip(since / dose.duration, 0, 1)
        )
        total[:, dose.drug] += dose.amount_mg * share
    return total


def marrow_in_advance(problem: Problem, arm: Arm, patients: range, when: Marks) -> tuple:
    """Neutrophils [patient, mark], their lowest count [patient], days in each grade [patient, grade]."""
    days = merge_times(multiples(problem.sync, problem.horizon), when.day)
    parts = []
    for first in range(patients.start, patients.stop, PATIENTS_PER_CALL):
        some = range(first, min(first + PATIENTS_PER_CALL, patients.stop))
        models = [problem.models[p] for p in some]
        given = [arm_inputs(model, arm, days) for model in models]
        blood = np.stack([arm_course(m, g).blood for m, g in zip(models, given, strict=True)])
        edges = given[0].edges
        stack = lambda *x: np.stack([np.asarray(y, float) for y in x])  # noqa: E731
        own = jax.tree.map(stack, *(problem.host_of(p) for p in some))
        pumps = jax.tree.map(stack, *(model.cellular.transport for model in models))
        longest = float(np.diff(edges).max(initial=0.0))
        with jax.enable_x64(True):
            along = _marrows(own, pumps, blood, np.diff(edges), longest)
        at = np.searchsorted(edges, when.day - RESOLUTION)
        last = (along.circulating[:, at], along.lowest[:, -1], along.grade_days[:, -1])
        parts.append([np.asarray(x) for x in last])
    return tuple(np.concatenate(x) for x in zip(*parts, strict=True))


@partial(jax.jit, static_argnums=4)
def _marrows(own, pumps, blood, duration, longest):
    each = partial(host.course, longest=longest)
    return jax.vmap(each, (0, 0, 0, None))(own, pumps, blood, duration)


def variables(
    problem: Problem, when: Marks, joined: Callable[[str], np.ndarray]
) -> dict[str, Variable]:
    """Arrays of a trajectory; `joined` gives a field of `Watched` as [arm, patient, replicate, ..]."""
    seen = (*TUMOR, "visit")
    lines = max((len(arm.lines) for arm in problem.arms), default=0)
    named = [[line.name for line in arm.lines] for arm in problem.arms]
    found = {
        "visit": Variable(("visit",), when.day[when.is_visit], "d", "day of the visit"),
        "scan_burden": Variable(
            seen, joined("burden"), "cells", "burden as seen, 0 below detection, NaN without a scan"
        ),
        "given_mg": Variable(
            (*seen, "drug"), joined("given"), "mg", "amount given before the next visit"
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
        found |= {
            "neutrophils": Variable((*TUMOR, "time"), course, "1e9/L", "circulating neutrophils"),
            "lowest_neutrophils": Variable(
                TUMOR, joined("lowest"), "1e9/L", "smallest count of neutrophils"
            ),
            "grade_days": Variable(
                (*TUMOR, "grade"), joined("grade_days"), "d", "days in each CTCAE grade, 0 to 4"
            ),
        }
    return found
