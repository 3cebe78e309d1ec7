"""Relapses: the chance that a simulated tumor counts as a relapse, by the meaning that `extinction` has.

With Z(t) the living cells of one tumor, T the horizon, N `detection_cells`, r `detection_rate` and a the
day of assessment:

    survival        1 if Z(T) > 0, else 0
    detection       1 - e^{-Z(T)/N}
    first_passage   1 - e^{-integral from a to T of (r/N) Z dt}

The mean over tumors estimates the probability of relapse without bias. A tumor that ran out of room, or
that was stopped at a size, is a relapse. Between records Z is taken as exponential, and as linear where
it is 0 at one of them.
"""

import numpy as np
from jaxtyping import Float, Real

from jaxevo import outcomes
from jaxevo.engines.base import Problem, Relapse, Trajectory
from jaxevo.engines.tumors import INTERRUPTED, OUT_OF_ROOM, STOPPED


def chances(problem: Problem, found: Trajectory) -> Float[np.ndarray, "arm patient replicate"]:
    """The chance of every tumor; NaN for one that was interrupted."""
    root = {name: variable.data for name, variable in found[""].items()}
    burden = np.maximum(np.asarray(root["burden"], float), 0.0)
    status = root.get("status", np.zeros(burden.shape[:3], int))
    relapse = problem.relapse
    if relapse.kind == "survival":
        chance = (burden[..., -1] > 0).astype(float)
    elif relapse.kind == "detection":
        chance = -np.expm1(-burden[..., -1] / relapse.detection_cells)
    else:
        cell_days = exposure(relapse, np.asarray(root["time"], float), burden)
        chance = -np.expm1(-relapse.detection_rate / relapse.detection_cells * cell_days)
    chance = np.where(np.isin(status, (OUT_OF_ROOM, STOPPED)), 1.0, chance)
    return np.where(status == INTERRUPTED, np.nan, chance)


def exposure(
    relapse: Relapse, day: Float[np.ndarray, " time"], burden: Real[np.ndarray, "*tumor time"]
) -> Float[np.ndarray, "*tumor"]:
    """Integral of Z from the day of assessment to the last record, cell days."""
    first = relapse.assessed_from
    if first > day[0]:
        later = int(np.searchsorted(day, first, side="right"))
        share = (first - day[later - 1]) / (day[later] - day[later - 1])
        one, two = burden[..., later - 1], burden[..., later]
        both = (one > 0) & (two > 0)
        ratio = np.where(both, two, 1.0) / np.where(both, one, 1.0)
        there = np.where(both, one * ratio**share, (1 - share) * one + share * two)
        day = np.concatenate([[first], day[later:]])
        burden = np.concatenate([there[..., None], burden[..., later:]], axis=-1)
    one, two = burden[..., :-1], burden[..., 1:]
    both = (one > 0) & (two > 0)
    growth = np.log(np.where(both, two, 1.0) / np.where(both, one, 1.0))
    is_steep = np.abs(growth) > 1e-6
    mean = np.where(is_steep, (two - one) / np.where(is_steep, growth, 1.0), (one + two) / 2)
    return np.sum(mean * np.diff(day), axis=-1)


def observed(chance: Float[np.ndarray, "*tumor"]) -> outcomes.Share:
    """The share of relapses with Wilson's interval, over the tumors that are known.

    Where a chance is neither 0 nor 1 its variance is smaller than that of a yes or no, and the interval
    is too wide rather than too narrow.
    """
    known = chance[~np.isnan(chance)]
    return outcomes.wilson(known.sum(), known.size)


def gap(one: outcomes.Share, two: outcomes.Share) -> dict[str, float]:
    """How much larger the first share is, with the hybrid score interval of two independent shares.

    Newcombe 1998, PMID 9595617, method 10.
    """
    value = float(one.value - two.value)
    below = np.hypot(one.value - one.low, two.high - two.value)
    above = np.hypot(one.high - one.value, two.value - two.low)
    return {"value": value, "low": float(value - below), "high": float(value + above)}
