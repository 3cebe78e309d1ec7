"""Patients of two arms: a trial from the literature, and drawn ones."""

import numpy as np

from jaxevo.survival import FollowUp

# Weeks in remission of 42 children with leukemia (Freireich et al. 1963, Blood 21:699; printed in Cox
# 1972). Figures: Cox & Oakes 1984, table 4.1 (curve); Venables & Ripley 2002, Modern Applied Statistics
# with S, section 13.1-13.3 (log-rank, Cox with Efron's ties), where the treated are the reference.
DRUG = FollowUp(
    np.array([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]),
    np.arange(21) < 9,
)
PLACEBO = FollowUp(
    np.array([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]),
    np.ones(21, bool),
)


def arm(days, events=True) -> FollowUp:
    day = np.array(days, float)
    return FollowUp(day, np.broadcast_to(np.array(events, bool), day.shape).copy())


def drawn(rng, num: int, hazard: float, censored_by: float, step: float = 0.0) -> FollowUp:
    """Exponential events, uniform censoring; on whole multiples of `step`, which makes ties."""
    event, end = rng.exponential(1 / hazard, num), rng.uniform(0, censored_by, num)
    day = np.minimum(event, end)
    return FollowUp(np.ceil(day / step) * step if step else day, event <= end)
