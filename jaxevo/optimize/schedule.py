"""Schedule: the amounts of one arm that minimize relapse, from a problem that was made in Python."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxevo.engines.base import Arm, Problem
from jaxevo.optimize.goals import amounts_of, goal, with_amounts
from jaxevo.optimize.limits import Limit
from jaxevo.optimize.pattern import Pattern, one_by_one, single_drugs
from jaxevo.optimize.rounding import rounded
from jaxevo.optimize.search import Found, search


class Schedule(NamedTuple):
    """An arm with the amounts that were found, and what the search says of them."""

    arm: Arm
    found: Found
    rounded: Found | None  # in amounts that exist; `arm` then has these


def optimize_schedule(
    problem: Problem,
    arm: int | Arm = 0,
    *,
    objective: str = "relapse",
    share: float = 1.0,
    pattern: Pattern | None = None,
    limits: tuple[Limit, ...] = (),
    steps: Float[np.ndarray, " variable"] | None = None,
    **options: Any,
) -> Schedule:
    """The amounts of an arm that minimize relapse within limits; days, routes and jumps stay.

    Args:
        problem: the study; its patients are those of the goal.
        arm: which, with every amount at the largest that may be given.
        objective: "relapse", "free_days" or "burden" (`optimize.goals`).
        share: of the patients, those who fare worst; 1 for the mean of all.
        pattern: what is decided on; every amount on its own by default.
        limits: beside the largest amounts (`optimize.limits`).
        steps: strengths of tablets and vials (mg), or steps of levels (uM); 0 for any amount.
        options: of `optimize.search.search`, such as `starts`, `num_random` and `seed`.

    Raises:
        Refused: relapse cannot be computed as a function of the amounts.
        ValueError: the arm gives nothing, or an argument does not fit.
    """
    template = problem.arms[arm] if isinstance(arm, int) else arm
    most = amounts_of(template)
    if not len(most):
        raise ValueError(f"arm {template.name!r} gives nothing; expected the largest amounts")
    if pattern is None:
        drugs = np.array([entry.drug for entry in (*template.doses, *template.levels)], int)
        pattern = one_by_one(drugs, most)
    aim = goal(objective, problem, template, share=share)
    options.setdefault("starts", single_drugs(pattern))
    found, after = search(aim, pattern, limits, **options), None
    if steps is not None:
        after = rounded(aim, pattern, limits, found, steps)
    best = found if after is None else after
    return Schedule(with_amounts(template, best.amounts), found, after)
