"""Searching: the goal and the limits that a study states, and the schedule that a search finds for them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.config import Study
from jaxevo.config.build_care import given
from jaxevo.engines.base import Arm, Problem
from jaxevo.improve.schedules import Decisions, decisions, forms, usage
from jaxevo.optimize import (
    Found,
    Goal,
    Limit,
    amounts_of,
    goal,
    neutrophils,
    search,
    single_drugs,
    total,
    with_amounts,
)
from jaxevo.optimize import rounded as existing
from jaxevo.run import simulate_as

KINDS = {"relapse": "relapse", "relapse_free_days": "free_days", "burden": "burden"}
TINY = 1e-12
MOST_GROUPS = 400  # schedules in a step of the exchange search that changes several amounts at once
CLOSE = 1e-3  # relative: two integrations of one course differ by less


class Task(NamedTuple):
    """All that a search needs; made once, for the study and for the points of its front."""

    study: Study
    problem: Problem  # of the patients of the search, with the arm whose amounts are sought
    arms: tuple[Arm, ...]  # of the study, for the same patients
    decided: Decisions
    goal: Goal
    limits: tuple[Limit, ...]


def task(study: Study) -> Task:
    """The search that a study asks for.

    Raises:
        Refused: relapse cannot be computed as a function of the amounts.
    """
    problem = _of_patients(study)._replace(stop_at_cells=None)
    decided = decisions(study, problem)
    arms, table = problem.arms, given(study.optimize)
    problem = problem._replace(arms=(decided.arm,))
    share = 1.0 if table.worst_share is None else table.worst_share
    aim = goal(KINDS[table.objective], problem, decided.arm, share=share)
    least, limits = table.min_neutrophils_per_l_1e9, decided.limits
    if least is not None:
        patients = range(len(problem.models))
        limits += tuple(neutrophils(problem, decided.arm, least, p) for p in patients)
    return Task(study, problem, arms, decided, aim, limits)


def _of_patients(study: Study) -> Problem:
    """The study with the patients of its search."""
    table, whole = given(study.optimize), study.resolved()
    del whole["optimize"]
    if table.over == "patient":
        del whole["patients"]
    elif not study.patients.values:
        whole["patients"]["count"] = table.patients
    problem, num = type(study).model_validate(whole).problem(), given(table.patients)
    return problem.of_patients(slice(num))


def found(own: Task, **options: Any) -> Found:
    """The schedule of the study: from its arms, from every drug alone, and from random ones.

    Args:
        own: the task.
        options: of `optimize.search`, such as `progress`, `should_stop` and `saved`.
    """
    return _searched(own, own.limits, starts(own), **options)


def _searched(own: Task, limits: tuple[Limit, ...], begin: np.ndarray, **options: Any) -> Found:
    return search(
        own.goal,
        own.decided.pattern,
        limits,
        starts=begin,
        num_random=given(own.study.optimize).random_starts,
        seed=own.study.study.seed,
        **options,
    )


def starts(own: Task) -> Float[np.ndarray, "start variable"]:
    """Variables of every arm that is compared, or of each of its lines, and of every drug alone."""
    table, pattern, num = given(own.study.optimize), own.decided.pattern, own.decided.num_free
    arms = [arm for arm in own.arms if arm.name in given(table.compare)]
    rows = [usage(own.study, form) for arm in arms for form in forms(arm)]
    fixed = np.tile(pattern.low[num:], (len(rows), 1))
    planned = np.concatenate([np.reshape(rows, (len(rows), num)), fixed], axis=1)
    return np.unique(np.concatenate([planned, single_drugs(pattern)]), axis=0)


def rounded(own: Task, before: Found, should_stop: Callable[[], bool]) -> Found | None:
    """The same in amounts that exist, where the study says which do."""
    steps = own.decided.steps
    if not steps.any():
        return None
    aim, pattern = own.goal, own.decided.pattern
    options: dict[str, Any] = {"groups": MOST_GROUPS, "should_stop": should_stop}
    return existing(aim, pattern, own.limits, before, steps, **options)


def front(own: Task, best: Found, number: int) -> Iterator[tuple[str, Found]]:
    """Schedules that spare the body more and more, each searched under a limit of its own.

    With a marrow neutrophils may fall to 1/(number + 1), 2/(number + 1), ... of the fall under the best
    schedule; without, all amounts together may be so much of the best.
    """
    for k in range(1, number + 1):
        text, limit = _stricter(own, best, k / (number + 1))
        start = own.decided.pattern.low + k / (number + 1) * (
            best.variables - own.decided.pattern.low
        )
        yield text, _searched(own, (*own.limits, *limit), start[None])


def _stricter(own: Task, best: Found, share: float) -> tuple[str, tuple[Limit, ...]]:
    """A limit that lets so much happen of what the best schedule does, in words and as such."""
    problem, pattern = own.problem, own.decided.pattern
    if problem.hosts:
        usual = [
            float(problem.host_of(p, own.decided.arm).baseline) for p in range(len(problem.models))
        ]
        arm = with_amounts(own.decided.arm, best.amounts)
        lowest = min(lowest_neutrophils(problem, arm, p) for p in range(len(usual)))
        least = min(usual) + share * (lowest - min(usual))
        if lowest < min(usual) * (1 - CLOSE):
            text = f"neutrophils never below {least:.3g} (1e9/L)"
            arm = own.decided.arm
            return text, tuple(neutrophils(problem, arm, least, p) for p in range(len(usual)))
    width = np.where(pattern.high > 0, pattern.high, 1.0)[pattern.variable]
    weight = np.where(pattern.variable < own.decided.num_free, 1 / width, 0.0)[None]
    most = max(share * float((weight @ best.amounts)[0]), TINY)
    text = f"all amounts together at most {share:.3g} of those found"
    return text, (total("all amounts", weight, np.array([most])),)


# --- what arms take from the body ------------------------------------------------------------------


def intensity(own: Task, arm: Arm) -> float | None:
    """Mean over all decisions of the amount in an arm, as a share of the largest; None if it decides."""
    if arm.decides:
        return None
    most = own.decided.pattern.high[: own.decided.num_free]
    return float(np.mean(usage(own.study, arm) / most))


def too_low(own: Task, problem: Problem, options: dict[str, Any]) -> dict[str, bool]:
    """Whether neutrophils of a patient of the search fall below the limit, by arm.

    An arm that decides is followed in one tumor of each patient.
    """
    least, patients = given(own.study.optimize).min_neutrophils_per_l_1e9, own.problem
    if least is None:
        return {}
    of_patients, each = {arm.name: arm for arm in own.arms}, range(len(patients.models))

    def lowest(arm: Arm) -> float:
        if not arm.decides:
            return min(lowest_neutrophils(patients, arm, p) for p in each)
        single = patients._replace(arms=(of_patients[arm.name],), replicates=1)
        root = simulate_as(single, "clones", None, options)[""]
        return float(np.nanmin(root["lowest_neutrophils"].data))

    return {arm.name: lowest(arm) < least * (1 - CLOSE) for arm in problem.arms}


def lowest_neutrophils(problem: Problem, arm: Arm, patient: int) -> float:
    """Smallest count on the course of an arm without decisions, 1e9/L."""
    middle = float(problem.host_of(patient, arm).baseline) / 2
    with jax.enable_x64(True):
        below = neutrophils(problem, arm, middle, patient).value(jnp.asarray(amounts_of(arm)))
        return middle * float(jnp.exp(-jnp.max(below)))
