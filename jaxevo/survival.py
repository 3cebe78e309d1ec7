"""Survival statistics of two arms: what a trial reports of days until an event. Pure statistics.

A patient's follow-up is a day and whether the event came on it; without it the patient is *censored*:
free of it until that day, and not followed further. A patient who is censored on a day is at risk on
that day. Where a figure is not defined by the data, a function says what it answers instead.

    survival           Kaplan & Meier 1958, S(t) = prod over events until t of 1 - d/n
    its band           Greenwood's variance on the scale ln(-ln S) (Kalbfleisch & Prentice 1980)
    median             Brookmeyer & Crowley 1982, doi:10.2307/2530286, by that band
    log-rank test      Mantel 1966; `scipy.stats.logrank`
    hazard ratio       Cox 1972, ties as Efron 1977, doi:10.1080/01621459.1977.10480613
    restricted mean    Royston & Parmar 2013, doi:10.1186/1471-2288-13-152
    number needed      Altman 1998, doi:10.1136/bmj.317.7168.1309; of survival Altman & Andersen 1999,
                       doi:10.1136/bmj.319.7223.1492

d events among n at risk on a day. Intervals are two-sided, at a level of .95 unless told. Arms are
independent patients, except in `paired_difference`.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy import optimize, special, stats

NOT_TOGETHER = "no event while both arms had patients at risk"
ALL_ON_ONE_DAY = "all who were at risk had the event on one day"
ALL_IN = "while both arms had patients at risk, every event came in the"
ROUNDING = 1e-9  # S is a product of many ratios: .5 may come out as .5000000000000001


class FollowUp(NamedTuple):
    """Every patient of one arm: the day of the event, or the last day known to be free of it."""

    day: Real[np.ndarray, " patient"]  # >= 0
    is_event: Bool[np.ndarray, " patient"]


class Curve(NamedTuple):
    """A Kaplan-Meier curve: steps on day 0 and on each day with an event or a censored patient."""

    day: Float[np.ndarray, " step"]
    survival: Float[np.ndarray, " step"]  # from this day until the next
    low: Float[np.ndarray, " step"]  # band, point by point
    high: Float[np.ndarray, " step"]
    num_at_risk: Int[np.ndarray, " step"]  # just before the day
    num_events: Int[np.ndarray, " step"]  # on the day


class Estimate(NamedTuple):
    """A number with its standard error and interval."""

    value: float
    low: float
    high: float
    standard_error: float


class Median(NamedTuple):
    """A median, in days; infinite where the curve, or its band, does not come down to one half."""

    value: float
    low: float
    high: float


class LogRank(NamedTuple):
    """The log-rank test: chi-square with one degree of freedom, and its two-sided p."""

    chi_square: float
    p: float
    note: str  # empty, or why there was nothing to compare


class HazardRatio(NamedTuple):
    """Hazard of the treated over that of the controls."""

    value: float  # 0 or infinite where every event came in one arm; NaN where the note says so
    low: float
    high: float
    p: float
    note: str  # empty, or what stood in the way of an estimate


class NumberNeeded(NamedTuple):
    """Patients to treat so that one more is free of the event; negative: so that one fewer is.

    The interval runs from `low` to `high`, through infinity where the gain may be of either sign.
    """

    value: float  # 1 / gain, infinite without a gain
    low: float  # 1 / the upper limit of the gain
    high: float  # 1 / the lower limit of the gain
    gain: Estimate  # in the share of patients who are free of the event

    @property
    def is_through_infinity(self) -> bool:
        """Whether no difference between the arms lies within the interval."""
        return self.gain.low < 0 < self.gain.high

    def __str__(self) -> str:
        through = "to infinity to" if self.is_through_infinity else "to"
        return f"{_named(self.value)} ({_named(self.low)} {through} {_named(self.high)})"


def _named(number: float) -> str:
    """A number needed to treat for benefit (NNTB) or for harm (NNTH), as Altman (1998) writes it."""
    if math.isinf(number):
        return "infinity"
    return f"{'NNTB' if number > 0 else 'NNTH'} {abs(number):.3g}"


def kaplan_meier(arm: FollowUp, level: float = 0.95) -> Curve:
    """The share of patients who are free of the event, with a band.

    Before the first event the share is 1 and so is the band; once nobody is left the band reaches from
    0 to where it was before.
    """
    arm = _checked(arm)
    found = stats.ecdf(_censored(arm)).sf
    days, survival = found.quantiles, found.probabilities
    at_risk, events = _at_risk(arm.day, days), _events_on(arm, days)
    variance = np.cumsum(_over(events, at_risk * (at_risk - events)))
    inside = (survival > 0) & (survival < 1)
    log = np.log(np.where(inside, survival, 0.5))
    wide = np.exp(_z(level) * np.sqrt(variance) / -log)  # S^wide and S^(1/wide) bound the band
    low = np.where(inside, np.exp(log * wide), np.where(survival > 0, 1.0, 0.0))
    high = np.where(inside, np.exp(log / wide), 1.0)
    is_over = survival <= 0
    if is_over.any():
        first = int(is_over.argmax())
        high[first:] = high[first - 1] if first else 1.0
    start = (0.0, 1.0, 1.0, 1.0, len(arm.day), 0)
    columns = (days, survival, low, high, at_risk, events)
    return Curve(*(np.insert(x, 0, x0) for x, x0 in zip(columns, start, strict=True)))


def survival_on(curve: Curve, day: float | int) -> Estimate:
    """The share of patients who are free of the event on a day, with Greenwood's standard error.

    The interval is that of the band. Before the first event the standard error is 0.

    Raises:
        ValueError: nobody was followed until that day, and not all had the event.
    """
    _refuse_unknown(curve, day)
    step = int(np.searchsorted(curve.day, day, side="right")) - 1
    n, d = curve.num_at_risk[: step + 1], curve.num_events[: step + 1]
    share = float(curve.survival[step])
    error = share * math.sqrt(_over(d, n * (n - d)).sum())
    return Estimate(share, float(curve.low[step]), float(curve.high[step]), error)


def median(curve: Curve) -> Median:
    """The first day on which at most half of the patients are free of the event.

    Its interval holds the days on which the band holds one half.
    """

    def first(share: np.ndarray) -> float:
        is_down = share <= 0.5 + ROUNDING
        return float(curve.day[is_down.argmax()]) if is_down.any() else math.inf

    return Median(first(curve.survival), first(curve.low), first(curve.high))


def known_until(*arms: FollowUp) -> float:
    """The last day on which the curves of all arms are known; infinite if all patients had the event."""
    ends = [math.inf]
    for arm in arms:
        day, is_event = _checked(arm)
        if not is_event[day == day.max()].all():
            ends.append(float(day.max()))
    return min(ends)


def restricted_mean(arm: FollowUp, day: float | int, level: float = 0.95) -> Estimate:
    """Mean days without the event until `day`: the area under the curve; normal interval.

    Raises:
        ValueError: nobody was followed until that day, and not all had the event.
    """
    curve = kaplan_meier(arm, level)
    _refuse_unknown(curve, day)
    before = curve.day < day
    edges = np.append(curve.day[before], day)
    areas = np.diff(edges) * curve.survival[before]
    ahead = np.cumsum(areas[::-1])[::-1]  # area from each step on
    n, d = curve.num_at_risk[before], curve.num_events[before]
    error = math.sqrt((ahead**2 * _over(d, n * (n - d))).sum())
    return _normal(float(areas.sum()), error, level)


def difference(treated: Estimate, control: Estimate, level: float = 0.95) -> Estimate:
    """Treated minus control of two independent arms; normal interval."""
    error = math.hypot(treated.standard_error, control.standard_error)
    return _normal(treated.value - control.value, error, level)


def paired_difference(
    treated: Real[np.ndarray, " pair"], control: Real[np.ndarray, " pair"], level: float = 0.95
) -> Estimate:
    """Mean difference within pairs, Student's interval: the same patients under two treatments.

    The quantity must be known for every patient: a day that may be censored is none. Pairs must be
    independent: take the mean over a patient's replicates first. One pair says nothing about its
    error: the interval is infinite.

    Raises:
        ValueError: no pairs, or numbers that are not finite.
    """
    gap = np.asarray(treated, float) - np.asarray(control, float)
    if len(gap) == 0 or not np.isfinite(gap).all():
        raise ValueError("a paired difference needs at least one pair, and finite numbers")
    if len(gap) == 1:
        return Estimate(float(gap[0]), -math.inf, math.inf, math.inf)
    error = float(gap.std(ddof=1)) / math.sqrt(len(gap))
    half = float(stats.t.isf((1 - level) / 2, len(gap) - 1)) * error
    mean = float(gap.mean())
    return Estimate(mean, mean - half, mean + half, error)


def number_needed_to_treat(
    treated: FollowUp, control: FollowUp, day: float | int, level: float = 0.95
) -> NumberNeeded:
    """One over the gain in the share of patients who are free of the event on a day.

    The gain has a normal interval. An arm without an event until that day
    adds nothing to the standard error, so that the interval is too narrow where both have few.

    Raises:
        ValueError: nobody of an arm was followed until that day, and not all had the event.
    """
    shares = (survival_on(kaplan_meier(arm), day) for arm in (treated, control))
    return number_needed(difference(*shares, level=level))


def number_needed(gain: Estimate) -> NumberNeeded:
    """One over a gain in the share of patients who are free of the event; limits are exchanged."""
    value, low, high = (1 / x if x else math.inf for x in (gain.value, gain.high, gain.low))
    if gain.high == 0 and gain.low < 0:  # ever less harm, down to none
        low = -math.inf
    return NumberNeeded(value, low, high, gain)


def log_rank(treated: FollowUp, control: FollowUp) -> LogRank:
    """Whether two arms differ. Where there is nothing to compare, chi-square is 0 and p is 1."""
    arms = _checked(treated), _checked(control)
    n1, n0, d1, d0 = _risk_sets(*arms)
    if len(n1) == 0:
        return LogRank(0.0, 1.0, "no events")
    both = (n1 > 0) & (n0 > 0)
    if not (both & (d1 + d0 < n1 + n0)).any():
        return LogRank(0.0, 1.0, ALL_ON_ONE_DAY if both.any() else NOT_TOGETHER)
    first, second = (_censored(arm) for arm in arms)
    found = stats.logrank(first, second)
    return LogRank(float(found.statistic) ** 2, float(found.pvalue), "")


def hazard_ratio(treated: FollowUp, control: FollowUp, level: float = 0.95) -> HazardRatio:
    """Hazard of the treated over that of the controls, by Cox's partial likelihood.

    Of d events on one day the l-th (l = 0 .. d - 1) finds a = n1 - d1 l/d treated and b = n0 - d0 l/d
    controls at risk (Efron), and is a treated patient's with probability

        p = a e^beta / (a e^beta + b),

    so that the score is the sum of the treated's events minus p, and the information the sum of p(1 - p).
    Newton's steps from beta = 0, none longer than 1: the likelihood is concave, and its curvature
    changes by at most e per unit of beta. Interval and p are Wald's, normal in beta.

    Where every event that could have come in either arm came in one, beta has no finite estimate: the
    ratio is 0 or infinite, and the limit that exists and p are those of the likelihood ratio. Without
    such an event the ratio is NaN, its interval 0 to infinity and p 1. The note says so.
    """
    n1, n0, d1, d0 = _risk_sets(_checked(treated), _checked(control))
    total = d1 + d0
    day = np.repeat(np.arange(len(total)), total)  # of every event
    rank = np.arange(len(day)) - np.repeat(np.cumsum(total) - total, total)
    a, b = n1[day] - d1[day] * rank / total[day], n0[day] - d0[day] * rank / total[day]
    both = (a > 0) & (b > 0)
    ratio = a[both] / b[both]
    events = int(d1.sum()) - int((b <= 0).sum())  # of the treated, where both were at risk
    if len(ratio) == 0:
        note = NOT_TOGETHER if len(day) else "no events"
        return HazardRatio(math.nan, 0.0, math.inf, 1.0, note)
    if events == 0:
        limit, p = _one_sided(ratio, level)
        return HazardRatio(0.0, 0.0, limit, p, f"{ALL_IN} control arm")
    if events == len(ratio):
        limit, p = _one_sided(1 / ratio, level)
        return HazardRatio(math.inf, 1 / limit, math.inf, p, f"{ALL_IN} treated arm")
    beta, step = 0.0, 1.0
    while abs(step) > 1e-8:
        p = special.expit(beta + np.log(ratio))
        step = float(np.clip((events - p.sum()) / (p * (1 - p)).sum(), -1, 1))
        beta += step
    p = special.expit(beta + np.log(ratio))
    error = 1 / math.sqrt((p * (1 - p)).sum())
    low, high = (math.exp(beta + side * _z(level) * error) for side in (-1, 1))
    return HazardRatio(math.exp(beta), low, high, 2 * float(special.ndtr(-abs(beta) / error)), "")


def _one_sided(ratio: Float[np.ndarray, " event"], level: float) -> tuple[float, float]:
    """Upper limit of the hazard ratio h, and p, where no event came in the arm above the line.

    The likelihood over its largest value is prod 1/(1 + h ratio); twice its logarithm is chi-square.
    """
    limit = _z(level) ** 2 / 2

    def excess(log_h: float) -> float:
        return float(np.log1p(np.exp(log_h) * ratio).sum()) - limit

    low, high = math.log(limit / ratio.sum()), math.log(math.expm1(limit) / ratio.min())
    found = optimize.root_scalar(excess, bracket=(low - 1e-6, high + 1e-6), xtol=1e-12)
    return math.exp(found.root), float(stats.chi2.sf(2 * np.log1p(ratio).sum(), 1))


def _risk_sets(treated: FollowUp, control: FollowUp) -> tuple[np.ndarray, ...]:
    """At every day with an event: at risk in both arms, then events in both arms."""
    arms = (treated, control)
    days = np.unique(np.concatenate([day[is_event] for day, is_event in arms]))
    at_risk = [_at_risk(arm.day, days) for arm in arms]
    return (*at_risk, *(_events_on(arm, days) for arm in arms))


def _at_risk(day: np.ndarray, on: np.ndarray) -> Int[np.ndarray, " on"]:
    """How many are followed until each of some days, or longer."""
    return len(day) - np.searchsorted(np.sort(day), on, side="left")


def _events_on(arm: FollowUp, days: np.ndarray) -> Int[np.ndarray, " on"]:
    """How many events came on each of some days."""
    event = np.sort(arm.day[arm.is_event])
    left, right = (np.searchsorted(event, days, side=side) for side in ("left", "right"))
    return right - left


def _censored(arm: FollowUp) -> stats.CensoredData:
    return stats.CensoredData(uncensored=arm.day[arm.is_event], right=arm.day[~arm.is_event])


def _checked(arm: FollowUp) -> FollowUp:
    """A follow-up that can be worked with."""
    day = np.asarray(arm.day, float)
    if len(day) == 0:
        raise ValueError("an arm without patients has no survival")
    if len(day) != len(arm.is_event):
        raise ValueError(f"{len(day)} days, but {len(arm.is_event)} patients with or without event")
    if not (np.isfinite(day) & (day >= 0)).all():
        raise ValueError("days of follow-up are finite and not negative")
    return FollowUp(day, np.asarray(arm.is_event, bool))


def _refuse_unknown(curve: Curve, day: float | int) -> None:
    last, left = float(curve.day[-1]), float(curve.survival[-1])
    if not day >= 0:
        raise ValueError(f"day {day:g} is not a day of follow-up; give one from 0 on")
    if day > last and left > 0:
        raise ValueError(
            f"nobody was followed until day {day:g}; the last day with a patient is {last:g}, give one "
            "until then"
        )


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is 0: after the last event of all nothing is left to vary."""
    return np.where(b > 0, a / np.where(b > 0, b, 1), 0.0)


def _z(level: float) -> float:
    """Half the width of an interval in standard errors."""
    return float(special.ndtri((1 + level) / 2))


def _normal(value: float | int, error: float, level: float) -> Estimate:
    half = _z(level) * error
    return Estimate(value, value - half, value + half, error)
