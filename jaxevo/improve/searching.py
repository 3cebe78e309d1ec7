"""Searching: the goal and the limits that a study states, and the schedule that a search finds for them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo import host
from jaxevo.config import Study
from jaxevo.config.build_care import given
from jaxevo.engines.base import Arm, Problem
from jaxevo.engines.objective import blood, objective
from jaxevo.improve.schedules import Decisions, decisions, usage
from jaxevo.optimize.limits import Limit, total
from jaxevo.optimize.pattern import single_drugs
from jaxevo.optimize.search import Found, Progress, search
from jaxevo.state import Array

TINY = 1e-12
CLOSE = 1e-3  # relative: two integrations of one course differ by less


class Goal(NamedTuple):
    """What is minimized."""

    value: Callable[[Float[Array, " entry"]], Float[Array, ""]]


class Task(NamedTuple):
    """All that a search needs; made once, for the study and for the points of its front."""

    study: Study
    problem: Problem  # of the patients of the search, with the arm whose amounts are sought
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
    problem = problem._replace(arms=(decided.arm,))
    goal = _goal(problem)
    return Task(study, problem, decided, goal, decided.limits)


def _of_patients(study: Study) -> Problem:
    """The study with the patients of its search."""
    table, whole = given(study.optimize), study.resolved()
    if table.over == "patient":
        del whole["patients"]
    elif not study.patients.values:
        whole["patients"]["count"] = table.patients
    problem, num = type(study).model_validate(whole).problem(), given(table.patients)
    hosts = problem.hosts if len(problem.hosts) == 1 else problem.hosts[:num]
    return problem._replace(patients=problem.patients[:num], hosts=hosts)


def _goal(problem: Problem) -> Goal:
    free = objective(problem).value

    def value(amounts):
        none = free(amounts)
        return jnp.log(-jnp.expm1(none)) - none

    return Goal(value)


def found(
    own: Task,
    *,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    saved: Path | None = None,
) -> Found:
    """The schedule of the study: from its arms, from every drug alone, and from random ones."""
    table, pattern = given(own.study.optimize), own.decided.pattern
    return search(
        own.goal,
        pattern,
        own.limits,
        starts=starts(own),
        num_random=table.random_starts,
        seed=own.study.study.seed,
        progress=progress,
        should_stop=should_stop,
        saved=saved,
    )


def starts(own: Task) -> Float[np.ndarray, "start variable"]:
    """Variables of every arm that is compared and plans its doses, and of every drug alone."""
    table, pattern, num = given(own.study.optimize), own.decided.pattern, own.decided.num_free
    arms = [arm for arm in own.study.problem().arms if arm.name in given(table.compare)]
    rows = [usage(own.study, arm) for arm in arms if not arm.decides]
    fixed = np.tile(pattern.low[num:], (len(rows), 1))
    planned = np.concatenate([np.reshape(rows, (len(rows), num)), fixed], axis=1)
    return np.unique(np.concatenate([planned, single_drugs(pattern)]), axis=0)


def rounded(own: Task, before: Found) -> Found | None:
    """The same in amounts that exist, where the study says which do."""
    return None


def front(own: Task, best: Found, number: int) -> Iterator[tuple[str, Found]]:
    """Schedules of at most 1/number, 2/number, ... of the amounts of the best, all in all."""
    table, pattern = given(own.study.optimize), own.decided.pattern
    scale = 1 / np.where(pattern.high > 0, pattern.high, 1.0)[pattern.variable]
    free = pattern.variable < own.decided.num_free
    weight = (scale * free)[None]
    most = float((weight @ best.amounts)[0])
    for k in range(number):
        share = (k + 1) / number
        less = total("all amounts", weight, np.array([max(share * most, TINY)]))
        text = f"{share:.3g} of the amounts of the schedule that was found"
        begin = pattern.low + share * (best.variables - pattern.low)
        yield (
            text,
            search(
                own.goal,
                pattern,
                (*own.limits, less),
                starts=begin[None],
                num_random=table.random_starts,
                seed=own.study.study.seed,
            ),
        )


# --- what arms take from the body ------------------------------------------------------------------


def intensity(own: Task, arm: Arm) -> float | None:
    """Mean over all decisions of the amount in an arm, as a share of the largest; None if it decides."""
    if arm.decides:
        return None
    most = own.decided.pattern.high[: own.decided.num_free]
    return float(np.mean(usage(own.study, arm) / most))


def too_low(own: Task, problem: Problem) -> dict[str, bool]:
    """Whether neutrophils of a patient of the search fall below the limit, by arm that is planned."""
    least, found = given(own.study.optimize).min_neutrophils_per_l_1e9, {}
    if least is None:
        return found
    patients = own.problem._replace(arms=problem.arms)
    for a, arm in enumerate(problem.arms):
        if not arm.decides:
            lowest = [lowest_neutrophils(patients, a, p) for p in range(len(patients.models))]
            found[arm.name] = min(lowest) < least * (1 - CLOSE)
    return found


def lowest_neutrophils(problem: Problem, arm: int, patient: int) -> float:
    """Smallest count on the course of an arm without decisions, 1e9/L."""
    with jax.enable_x64(True):
        flow, given = blood(problem, arm, patient), problem.arms[arm]
        amounts = [dose.amount_mg for dose in given.doses]
        amounts += [level.level_um for level in given.levels]
        level = flow.level(jnp.asarray(amounts, float))
        transport = problem.models[patient].cellular.transport
        after = host.course(problem.host_of(patient), transport, level, jnp.asarray(flow.duration))
        return float(after.lowest[-1])
