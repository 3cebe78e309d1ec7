"""Curves: hazard against level of one agent, half-inhibitory levels, and dose additivity.

    h(c) = hmax c^n / (c^n + EC50^n)            hazard of one agent alone at level c, 1/day
    IC50 = EC50 (h_half/(hmax - h_half))^(1/n),   h_half = ln 2/days    half of the cells are left

A four-parameter logistic curve whose level without agent is 0 by definition. It is fitted on the hazard
since there the model's own law of one drug is such a curve, in cells that are alike and do not crowd
each other; its viability exp(-h days) is none. Least squares weigh a level by its standard error and a
hundredth of the largest hazard together, so that a law that is almost a Hill curve is met everywhere.
Errors of the parameters follow from the influence of each replicate on all levels at once (`effects`),
which is the delta method with the levels' own covariance; intervals are on the log scale, with
Student's t. What a curve misses beyond noise is an error of its own: cells that differ have no Hill
curve.

Dose additivity (Loewe & Muischnek 1926, doi:10.1007/BF01952257): the reference h of levels c_i solves

    sum_i c_i/D_i(h) = 1,      D_i(h) the level at which agent i alone does h; infinite from hmax_i on

and the excess is the hazard above it. An agent that does nothing alone has no part in the sum.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

from jaxevo.screen.effects import Estimate

LEAST_LEVELS = 4  # for a curve of three parameters
CLEAR = 4.0  # standard errors from 0 at some level, for an agent to have an effect
SOFT = 0.01  # of the largest hazard: as close as a curve need come
STEP = 1e-5  # of a logarithm, for derivatives
HALVINGS = 60
LARGEST = 40.0  # logarithm of a Hill coefficient


class Curve(NamedTuple):
    """The fitted curve of one agent; parameters are logarithms."""

    log: Estimate  # [3]: ln hmax, ln EC50, ln n
    misfit: float  # root mean square of what it misses at the levels tried beyond noise, 1/day

    def hazard(self, level: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """1/day."""
        return _hill(level, *self.log.value)


class Interval(NamedTuple):
    """A level with its interval, uM."""

    value: float
    low: float
    high: float


def _hill(level, log_top, log_half, log_hill):
    """The hazard at levels > 0."""
    hill = np.exp(np.clip(log_hill, -LARGEST, LARGEST))
    exponent = np.clip(hill * (np.log(level) - log_half), -700, 700)
    return np.exp(np.clip(log_top, -700, 700)) / (1 + np.exp(-exponent))


def fit(level: Float[np.ndarray, " level"], hazard: Estimate) -> Curve | None:
    """The curve of one agent; None where it does nothing, too few levels have cells left, or none fits.

    Args:
        level: uM, > 0.
        hazard: [level], 1/day.
    """
    known = np.isfinite(hazard.value)
    level, hazard = level[known], hazard[known]
    if len(level) < LEAST_LEVELS or is_idle(hazard):
        return None
    top = hazard.value.max()
    error = np.nan_to_num(hazard.error)
    weight = 1 / np.sqrt(error**2 + (SOFT * top) ** 2)
    guess = np.log([1.1 * top, _level_of(level, hazard.value, top / 2), 1.0])
    solved = optimize.least_squares(
        lambda log: (_hill(level, *log) - hazard.value) * weight, guess, method="lm", x_scale=1.0
    )
    if not solved.success:
        return None
    found = solved.x
    slope = np.stack([_derivative(lambda p: _hill(level, *p), found, k) for k in range(3)], axis=1)
    gain = np.linalg.pinv(slope * weight[:, None]) * weight  # [parameter, level]
    moves = gain @ hazard.influence
    left = Estimate(hazard.value - _hill(level, *found), hazard.influence - slope @ moves)
    missed = np.average(left.value**2 - np.nan_to_num(left.error) ** 2, weights=weight**2)
    return Curve(Estimate(found, moves), math.sqrt(max(missed, 0.0)))


def is_idle(hazard: Estimate) -> bool:
    """Whether an agent slows growth at none of its levels, as far as the replicates tell."""
    clear = hazard.value > CLEAR * np.nan_to_num(hazard.error)
    return not np.any(clear & (hazard.value > 0))


def _level_of(level: np.ndarray, hazard: np.ndarray, wanted: float) -> float:
    """About the level at which the hazard first is so large."""
    return float(level[np.argmax(hazard >= wanted)])


def _derivative(of: Callable, at: np.ndarray, k: int) -> np.ndarray:
    step = np.zeros(len(at))
    step[k] = STEP
    return np.asarray((of(at + step) - of(at - step)) / (2 * STEP))


def ic50(curve: Curve, days: float, confidence: float = 0.95) -> Interval | None:
    """The level that leaves half of the cells; None where the curve does not reach it.

    What the curve misses counts as an error of the hazard there.
    """
    wanted = math.log(2) / days

    def log_level(log: np.ndarray) -> np.ndarray:
        odds = wanted / (np.exp(log[0]) - wanted)
        return np.asarray(log[1] + np.log(odds) / np.exp(log[2]))

    log = curve.log
    if np.exp(log.value[0]) <= (1 + 2 * STEP) * wanted:
        return None
    middle = float(log_level(log.value))
    slope = np.stack([_derivative(log_level, log.value, k) for k in range(3)])
    noise = float(Estimate(np.array(middle), slope @ log.influence).error)
    steepness = wanted * (1 - wanted / math.exp(log.value[0])) * math.exp(log.value[2])
    spread = math.hypot(noise, curve.misfit / steepness)
    num = log.influence.shape[-1]
    if num < 2 or not max(abs(middle), abs(spread)) < 700:
        return Interval(_exp(middle), math.nan, math.nan)
    wide = float(stats.t.ppf((1 + confidence) / 2, num - 1)) * spread
    return Interval(_exp(middle), _exp(middle - wide), _exp(middle + wide))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


# --- dose additivity -------------------------------------------------------------------------------


def additive(
    level: Float[np.ndarray, "combination agent"], curves: Sequence[Curve | None], num: int
) -> Estimate:
    """The hazard that dose additivity expects of every combination, 1/day.

    Args:
        level: uM.
        curves: of every agent; None of one that does nothing alone (`is_idle`).
        num: replicates.
    """
    there = [a for a, curve in enumerate(curves) if curve is not None]
    if not there:
        return Estimate(np.zeros(len(level)), np.zeros((len(level), num)))
    logs = [curves[a].log for a in there]  # type: ignore[union-attr]
    values = np.concatenate([log.value for log in logs])
    moves = np.concatenate([log.influence for log in logs])
    given = level[:, there]
    of = lambda flat: _reference(given, flat.reshape(-1, 3))  # noqa: E731
    slopes = np.stack([_derivative(of, values, k) for k in range(len(values))], axis=1)
    return Estimate(of(values), slopes @ moves)


def _reference(
    level: Float[np.ndarray, "combination agent"], logs: Float[np.ndarray, "agent three"]
) -> Float[np.ndarray, " combination"]:
    """The root of sum_i c_i/D_i(h) = 1, by halving."""
    top, half, hill = np.exp(logs).T
    low, high = np.zeros(len(level)), np.full(len(level), top.max())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        share = middle[:, None] / np.maximum(top - middle[:, None], 1e-300)
        with np.errstate(over="ignore"):
            alone = half * np.where(middle[:, None] < top, share, np.inf) ** (1 / hill)
            is_below = (level / np.maximum(alone, 1e-300)).sum(axis=1) > 1
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.where((level > 0).any(axis=1), (low + high) / 2, 0.0)
