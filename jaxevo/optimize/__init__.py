"""Optimize: the schedule that minimizes relapse within what the body bears.

pattern    decision variables, and the amounts of an arm that follow
goals      what is minimized: relapse, days without it, burden; of a patient, a cohort, its worst share
limits     what the body may be given: totals, neutrophils
search     many starts, Adam, L-BFGS, leaps (`steps`, `state`)
rounding   doses that exist
schedule   all of it for one arm of a study
"""

from jaxevo.optimize.goals import Goal, amounts_of, goal, with_amounts
from jaxevo.optimize.limits import Limit, neutrophils, per_cycle, total
from jaxevo.optimize.pattern import Pattern, one_by_one, single_drugs
from jaxevo.optimize.rounding import rounded
from jaxevo.optimize.schedule import Result, optimize_schedule
from jaxevo.optimize.search import search
from jaxevo.optimize.state import Found, Progress, Settings

__all__ = [
    "Found", "Goal", "Limit", "Pattern", "Progress", "Result", "Settings", "amounts_of", "goal",
    "neutrophils", "one_by_one", "optimize_schedule", "per_cycle", "rounded", "search",
    "single_drugs", "total", "with_amounts",
]  # fmt: skip
