"""Schedule: the search put together for one arm of a study, from its entries to doses that exist."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxevo.engines.base import Arm, Problem
from jaxevo.optimize.goals import Goal, amounts_of, goal, with_amounts
from jaxevo.optimize.limits import Limit
from jaxevo.optimize.pattern import Pattern, one_by_one, single_drugs
from jaxevo.optimize.rounding import rounded
from jaxevo.optimize.search import USUAL, search
from jaxevo.optimize.state import Found, Progress, Settings

AS_ARM = 1e-9  # relative; arms that the pattern does not reach are no starts


class Result(NamedTuple):
    """A schedule that was found, and its form of existing doses, as arms that any engine takes."""

    arm: Arm
    found: Found
    rounded_arm: Arm | None  # None without steps
    rounded: Found | None
    goal: Goal
    pattern: Pattern


def optimize_schedule(
    problem: Problem,
    arm: int | Arm = 0,
    *,
    pattern: Pattern | None = None,
    most: float | np.ndarray | None = None,
    objective: str = "relapse",
    patients: range | None = None,
    share: float = 1.0,
    limits: tuple[Limit, ...] = (),
    steps: np.ndarray | None = None,
    starts: np.ndarray | None = None,
    num_random: int = 3,
    seed: int = 0,
    settings: Settings = USUAL,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    saved: Path | None = None,
) -> Result:
    """The amounts of an arm that minimize relapse within limits; when they are given stays.

    Args:
        problem: the study.
        arm: whose entries are the template (index or arm); its amounts are one of the starts.
        pattern: decisions; default every entry by itself, from 0 to `most`.
        most: [entry] largest amounts (mg, uM), or one number; default those of the arm.
        objective: "relapse", "free_days" or "burden" (`goals`).
        patients: over whom the goal is, default all.
        share: of them, those who fare worst; 1 is the mean of all.
        limits: on the amounts (`limits`), made for this arm's entries.
        steps: [variable] of which doses are multiples; None for any dose.
        starts: [start, variable] further starts, beside the arm, each drug alone and random ones.
        num_random, seed, settings, progress, should_stop, saved: of the search.

    Raises:
        ValueError: the arm has no entries, or what the search refuses.
        Refused: what the objective refuses.
    """
    template = problem.arms[arm] if isinstance(arm, int) else arm
    given = amounts_of(template)
    if not len(given):
        raise ValueError(
            f"arm {template.name!r} gives nothing, so that there is nothing to decide; name an arm "
            "with doses or levels"
        )
    if pattern is None:
        high = np.broadcast_to(given if most is None else np.asarray(most, float), given.shape)
        drug = np.array([x.drug for x in (*template.doses, *template.levels)], int)
        pattern = one_by_one(drug, high)
    with jax.enable_x64(True):
        largest = np.asarray(pattern.amounts(pattern.high))
    minimized = goal(objective, problem, with_amounts(template, largest), patients, share)
    own = _variables(pattern, given)
    parts = [single_drugs(pattern, 0.5), *([own[None]] if own is not None else [])]
    if starts is not None:
        parts.append(np.atleast_2d(starts))
    found = search(
        minimized, pattern, limits, starts=np.concatenate(parts), num_random=num_random, seed=seed,
        settings=settings, progress=progress, should_stop=should_stop, saved=saved,
    )  # fmt: skip
    near = None
    if steps is not None:
        near = rounded(minimized, pattern, limits, found, steps, should_stop=should_stop)
    return Result(
        with_amounts(template, found.amounts)._replace(name="optimized"),
        found,
        None if near is None else with_amounts(template, near.amounts)._replace(name="rounded"),
        near,
        minimized,
        pattern,
    )


def _variables(pattern: Pattern, amounts: np.ndarray) -> np.ndarray | None:
    """Variables that give these amounts within the box; None if there are none."""
    total = np.bincount(pattern.variable, pattern.weight * amounts, len(pattern.low))
    square = np.bincount(pattern.variable, pattern.weight**2, len(pattern.low))
    variables = np.clip(total / np.where(square > 0, square, 1.0), pattern.low, pattern.high)
    again = pattern.weight * variables[pattern.variable]
    size = max(1e-300, float(np.abs(amounts).max()))
    return variables if np.all(np.abs(again - amounts) <= AS_ARM * size) else None
