"""Survival statistics against published analyses, other software, closed forms and repeated trials."""

import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from jaxevo import survival
from jaxevo.survival import Estimate, FollowUp
from tests.followups import DRUG, PLACEBO, arm, drawn
from tests.statistics import hit_limits

ARMS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=30).map(
    lambda rows: arm(*zip(*rows, strict=True))
)


# --- the curve ---


def test_the_curve_of_the_leukemia_trial_is_the_published_one():
    """S(t) and Greenwood's standard errors on drug; medians of 23 and 8 weeks."""
    curve = survival.kaplan_meier(DRUG)
    days = [6, 7, 10, 13, 16, 22, 23]
    found = [survival.survival_on(curve, day) for day in days]
    shares = [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    errors = [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346]
    assert [x.value for x in found] == pytest.approx(shares, abs=5e-5)
    assert [x.standard_error for x in found] == pytest.approx(errors, abs=1.01e-4)
    assert survival.median(curve).value == 23
    assert survival.median(survival.kaplan_meier(PLACEBO)).value == 8
    at = curve.day.tolist().index(10)
    assert (curve.num_at_risk[at], curve.num_events[at]) == (15, 1)


def test_the_interval_of_a_median_is_where_the_band_holds_one_half():
    """13 weeks to never, and 4 to 11: the intervals that SAS prints with its default, log-log."""
    assert survival.median(survival.kaplan_meier(DRUG)) == (23, 13, math.inf)
    assert survival.median(survival.kaplan_meier(PLACEBO)) == (8, 4, 11)


def test_a_median_that_is_met_exactly_is_reported():
    """S = .5 is at most one half, however the ratios are rounded: to more with 24 patients, or 38."""
    for num in range(2, 60, 2):
        day = np.arange(1, num + 1)
        curve = survival.kaplan_meier(arm(day, day < num))
        assert survival.median(curve).value == num / 2


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_curve_and_band_are_those_of_scipy(level):
    """`scipy.stats.ecdf` with its log-log interval."""
    data = drawn(np.random.default_rng(1), 300, 0.02, 120, step=3.0)
    curve = survival.kaplan_meier(data, level)
    sample = stats.CensoredData(data.day[data.is_event], right=data.day[~data.is_event])
    expected = stats.ecdf(sample).sf
    band = expected.confidence_interval(level, method="log-log")
    np.testing.assert_allclose(curve.survival[1:], expected.probabilities)
    for found, limit in ((curve.low, band.low), (curve.high, band.high)):
        np.testing.assert_allclose(found[1:], limit.probabilities, atol=1e-12)


def test_without_censoring_the_curve_is_the_share_of_patients():
    """S(t) = share of days after t, and Greenwood's error is the binomial one."""
    day = np.random.default_rng(2).integers(1, 20, 100)
    curve = survival.kaplan_meier(arm(day))
    for on in range(20):
        found, share = survival.survival_on(curve, on), float(np.mean(day > on))
        assert found.value == pytest.approx(share, abs=1e-12)
        assert found.standard_error == pytest.approx(
            math.sqrt(share * (1 - share) / 100), abs=1e-12
        )


@given(ARMS)
def test_a_curve_falls_from_one_within_its_band(data):
    """Steps on increasing days, no NaN anywhere, whoever is censored."""
    curve = survival.kaplan_meier(data)
    assert curve.survival[0] == 1
    assert (np.diff(curve.survival) <= 0).all()
    assert (np.diff(curve.day[1:]) > 0).all()
    assert (curve.low <= curve.survival + 1e-12).all()
    assert (curve.survival <= curve.high + 1e-12).all()
    assert (curve.low >= 0).all()
    assert (curve.high <= 1).all()
    assert curve.num_events.sum() == data.is_event.sum()


def test_a_curve_says_what_it_answers_at_its_ends():
    """No events: 1 with a band of 1. All gone: 0, and a band from 0 to where it was before."""
    free = survival.kaplan_meier(arm([5, 9], False))
    assert (free.survival == 1).all()
    assert (free.low == 1).all()
    assert survival.median(free) == (math.inf, math.inf, math.inf)
    gone = survival.kaplan_meier(arm([3, 6, 9]))
    assert (gone.survival[-1], gone.low[-1]) == (0, 0)
    assert gone.high[-1] == gone.high[-2] < 1
    at_once = survival.kaplan_meier(arm([2, 2]))
    assert (at_once.low[-1], at_once.high[-1]) == (0, 1)
    assert survival.survival_on(gone, 1e6).value == 0


# --- restricted mean ---


def test_without_censoring_the_restricted_mean_is_a_mean():
    """Mean of min(day, tau); its variance is the sample's, divided by n, over n."""
    day = np.random.default_rng(3).exponential(30, 200)
    for tau in (1.0, 20.0, 60.0, 1e3):
        cut = np.minimum(day, tau)
        found = survival.restricted_mean(arm(day), tau)
        assert found.value == pytest.approx(cut.mean(), rel=1e-12)
        assert found.standard_error == pytest.approx(cut.std() / math.sqrt(200), rel=1e-9)
        half = stats.norm.isf(0.025) * found.standard_error
        assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_the_error_of_a_restricted_mean_is_that_of_a_sum_of_correlated_steps():
    """Var = sum over pairs of steps of width_i width_j S_i S_j sum_{k <= min(i, j)} d/(n(n - d))."""
    data = drawn(np.random.default_rng(4), 60, 0.03, 60, step=1.0)
    tau = survival.known_until(data) - 0.5
    curve = survival.kaplan_meier(data)
    steps = [i for i in range(len(curve.day)) if curve.day[i] < tau]
    ends = [*curve.day[1 : len(steps)], tau]
    width = [b - curve.day[i] for i, b in zip(steps, ends, strict=True)]
    n, d = curve.num_at_risk.astype(float), curve.num_events
    greenwood = np.cumsum(d / (n * (n - d)))
    variance = sum(
        width[i] * width[j] * curve.survival[i] * curve.survival[j] * greenwood[min(i, j)]
        for i, j in itertools.product(steps, steps)
    )
    found = survival.restricted_mean(data, tau)
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)
    area = sum(w * curve.survival[i] for i, w in zip(steps, width, strict=True))
    assert found.value == pytest.approx(area, rel=1e-12)


def test_a_curve_is_not_read_where_nobody_was_followed():
    """Beyond the last censored patient the curve is not known; after the last event of all it is 0."""
    data = arm([4, 8, 12], [True, True, False])
    assert survival.known_until(data, arm([5, 6])) == 12
    assert survival.known_until(arm([5, 6])) == math.inf
    assert survival.known_until(arm([6, 6], [True, False])) == 6
    assert survival.restricted_mean(data, 12).value == pytest.approx(4 + 4 * 2 / 3 + 4 / 3)
    for ask in (
        lambda day: survival.restricted_mean(data, day),
        lambda day: survival.survival_on(survival.kaplan_meier(data), day),
    ):
        with pytest.raises(ValueError, match="the last day with a patient is 12"):
            ask(12.1)
        with pytest.raises(ValueError, match="from 0 on"):
            ask(-1)


# --- differences and numbers needed to treat ---


def test_a_difference_of_independent_arms_adds_variances():
    """3-4-5."""
    found = survival.difference(Estimate(10, 0, 0, 3), Estimate(4, 0, 0, 4), level=0.95)
    assert found == pytest.approx((6, 6 - 1.959964 * 5, 6 + 1.959964 * 5, 5), rel=1e-6)


def test_a_paired_difference_is_that_of_the_t_test():
    """`scipy.stats.ttest_rel`; common ups and downs of the pairs cancel."""
    rng = np.random.default_rng(5)
    common = rng.normal(0, 100, 40)
    a, b = common + rng.normal(1, 1, 40), common + rng.normal(0, 1, 40)
    found = survival.paired_difference(a, b, 0.9)
    expected = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.high - found.low < 1.5


def test_a_paired_difference_says_what_it_cannot_know():
    """One pair: an infinite interval; equal differences: none; NaN: refused."""
    one = survival.paired_difference(np.array([3.0]), np.array([1.0]))
    assert (one.value, one.low, one.high) == (2, -math.inf, math.inf)
    assert survival.paired_difference(np.array([3, 4]), np.array([1, 2])) == (2, 2, 2, 0)
    with pytest.raises(ValueError, match="finite"):
        survival.paired_difference(np.array([1.0, np.nan]), np.zeros(2))


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ((0.10, -0.05, 0.25), "NNTB 10 (NNTB 4 to infinity to NNTH 20)"),  # Altman 1998
        ((0.10, 0.05, 0.20), "NNTB 10 (NNTB 5 to NNTB 20)"),
        ((-0.10, -0.20, -0.05), "NNTH 10 (NNTH 20 to NNTH 5)"),
        ((-0.05, -0.25, 0.10), "NNTH 20 (NNTB 10 to infinity to NNTH 4)"),
        ((0.0, -0.1, 0.1), "infinity (NNTB 10 to infinity to NNTH 10)"),
        ((0.1, 0.0, 0.2), "NNTB 10 (NNTB 5 to infinity)"),
        ((-0.1, -0.2, 0.0), "NNTH 10 (infinity to NNTH 5)"),
    ],
)
def test_a_number_needed_to_treat_passes_through_infinity(gain, expected):
    """Altman 1998: a gain of 10 % (-5 % to 25 %) is NNTB 10 (NNTB 4 to infinity to NNTH 20)."""
    found = survival.number_needed(Estimate(*gain, 0.1))
    assert str(found) == expected
    assert found.is_through_infinity == ("to infinity to" in expected)


def test_the_number_needed_to_treat_is_that_of_the_two_curves():
    """Leukemia at 10 weeks: S = .7529 (.0963) against .3810 (.1060), binomial without censoring."""
    found = survival.number_needed_to_treat(DRUG, PLACEBO, 10)
    error = math.hypot(0.0963, math.sqrt(8 / 21 * 13 / 21 / 21))
    assert found.gain.value == pytest.approx(0.7529 - 8 / 21, abs=5e-5)
    assert found.gain.standard_error == pytest.approx(error, abs=1e-4)
    assert found.value == pytest.approx(1 / (0.7529 - 8 / 21), rel=2e-4)
    limits = [1 / (found.gain.value + side * 1.959964 * error) for side in (1, -1)]
    assert (found.low, found.high) == pytest.approx(limits, rel=1e-2)
    turned = survival.number_needed_to_treat(PLACEBO, DRUG, 10)
    assert turned.value == -found.value
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


# --- two arms compared ---


def test_the_leukemia_trial_is_compared_as_published():
    """Log-rank chi-square 16.79 (p 4.2e-5); ratio of placebo to drug 4.817 (2.147 to 10.81), p 1.4e-4."""
    test = survival.log_rank(DRUG, PLACEBO)
    assert test.chi_square == pytest.approx(16.793, abs=5e-4)
    assert test.p == pytest.approx(4.17e-5, rel=2e-3)
    found = survival.hazard_ratio(PLACEBO, DRUG)
    assert found.value == pytest.approx(math.exp(1.5721), rel=1e-4)
    assert (found.low, found.high) == pytest.approx((2.147, 10.81), rel=5e-4)
    assert found.p == pytest.approx(1.38e-4, rel=5e-3)
    assert found.note == test.note == ""


@pytest.mark.parametrize("seed", range(8))
def test_figures_are_those_of_statsmodels(seed):
    """Proportional hazards with Efron's ties, log-rank, and curves; ties of 1 to 40 patients."""
    rng = np.random.default_rng(seed)
    step = (0.0, 1.0, 5.0, 20.0)[seed % 4]
    a, b = drawn(rng, 80, 0.01 * (1 + seed % 3), 150, step), drawn(rng, 120, 0.02, 150, step)
    day, is_event = np.concatenate([a.day, b.day]), np.concatenate([a.is_event, b.is_event])
    treated = np.arange(len(day)) < len(a.day)
    fit = sm.PHReg(day, treated.astype(float), status=is_event.astype(float), ties="efron").fit()
    found = survival.hazard_ratio(a, b, 0.9)
    assert math.log(found.value) == pytest.approx(float(fit.params[0]), abs=1e-6)
    low, high = fit.conf_int(0.1)[0]
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((low, high), abs=1e-6)
    assert found.p == pytest.approx(float(fit.pvalues[0]), rel=1e-4)
    chi_square, p = sm.duration.survdiff(day, is_event.astype(float), treated)
    test = survival.log_rank(a, b)
    assert (test.chi_square, test.p) == pytest.approx((float(chi_square), float(p)), rel=1e-9)
    right = sm.SurvfuncRight(a.day, a.is_event.astype(float))
    curve = survival.kaplan_meier(a)
    for on, share, error in zip(right.surv_times, right.surv_prob, right.surv_prob_se, strict=True):
        mine = survival.survival_on(curve, float(on))
        assert mine.value == pytest.approx(share, abs=1e-12)
        if share > 0:
            assert mine.standard_error == pytest.approx(error, rel=1e-9)


def efron(beta: float, treated: FollowUp, control: FollowUp) -> float:
    """Efron's log partial likelihood, patient by patient."""
    rows = [(d, e, 1.0) for d, e in zip(*treated, strict=True)]
    rows += [(d, e, 0.0) for d, e in zip(*control, strict=True)]
    total = 0.0
    for day in sorted({d for d, e, _ in rows if e}):
        tied = [x for d, e, x in rows if e and d == day]
        risk = sum(math.exp(beta * x) for d, _, x in rows if d >= day)
        for rank in range(len(tied)):
            out = rank / len(tied) * sum(math.exp(beta * x) for x in tied)
            total -= math.log(risk - out)
        total += beta * sum(tied)
    return total


@settings(max_examples=60)
@given(ARMS, ARMS)
def test_the_hazard_ratio_maximizes_the_likelihood(a, b):
    """Against a search on Efron's likelihood; its curvature is the information."""
    found = survival.hazard_ratio(a, b)
    assume(0 < found.value < math.inf)
    best = optimize.minimize_scalar(
        lambda beta: -efron(beta, a, b), bounds=(-12, 12), method="bounded", options={"xatol": 1e-8}
    )
    beta = math.log(found.value)
    assert efron(beta, a, b) >= -best.fun - 1e-9
    h = 1e-3
    curvature = -(efron(beta + h, a, b) - 2 * efron(beta, a, b) + efron(beta - h, a, b)) / h**2
    width = math.log(found.high / found.low) / 2
    assert width == pytest.approx(stats.norm.isf(0.025) / math.sqrt(curvature), rel=1e-3)


@given(ARMS, ARMS)
def test_exchanging_arms_inverts_the_hazard_ratio(a, b):
    """Also where it is 0, infinite or not defined; the log-rank test does not change."""
    one, other = survival.hazard_ratio(a, b), survival.hazard_ratio(b, a)
    invert = lambda x: 1 / x if x else math.inf  # noqa: E731
    assert one.value == pytest.approx(invert(other.value), rel=1e-6, nan_ok=True)
    assert one.low == pytest.approx(invert(other.high), rel=1e-6)
    assert one.high == pytest.approx(invert(other.low), rel=1e-6)
    assert one.p == pytest.approx(other.p, rel=1e-6)
    assert math.isnan(one.value) <= (one.note != "")
    first, second = survival.log_rank(a, b), survival.log_rank(b, a)
    assert first.chi_square == pytest.approx(second.chi_square, rel=1e-9, abs=1e-12)
    assert first.note == second.note


@given(ARMS, ARMS)
def test_only_the_order_of_days_counts(a, b):
    """Any increasing function of the days leaves hazard ratio and log-rank as they were."""
    later = [FollowUp(x.day**2 + 3, x.is_event) for x in (a, b)]
    assert survival.log_rank(*later) == survival.log_rank(a, b)
    found, expected = survival.hazard_ratio(*later), survival.hazard_ratio(a, b)
    assert found == pytest.approx(expected, nan_ok=True)


NONE = survival.NOT_TOGETHER


@pytest.mark.parametrize(
    ("treated", "control", "note"),
    [
        (arm([5, 9], False), arm([4, 8], False), "no events"),
        (arm([1, 2], False), arm([3, 4]), NONE),  # all events after the other arm was gone
        (arm([7]), arm([2], False), NONE),
    ],
)
def test_what_cannot_be_compared_is_said(treated, control, note):
    """No estimate, any ratio possible, p = 1, and a note; log-rank 0 and p = 1."""
    found = survival.hazard_ratio(treated, control)
    assert math.isnan(found.value)
    assert found[1:] == (0.0, math.inf, 1.0, note)
    assert survival.log_rank(treated, control) == (0.0, 1.0, note)


def test_all_events_on_one_day_speak_for_no_arm():
    """Whoever is at risk has the event: ratio 1, p 1."""
    found = survival.hazard_ratio(arm([5] * 4), arm([5] * 3))
    assert (found.value, found.p) == pytest.approx((1, 1))
    assert survival.log_rank(arm([5] * 4), arm([5] * 3)) == (0.0, 1.0, survival.ALL_ON_ONE_DAY)


def test_events_in_one_arm_alone_bound_the_hazard_ratio():
    """The limit is where twice the log likelihood has fallen by 3.84; p is that of the ratio 1."""
    treated, control = arm([20] * 12, False), arm([3, 5, 5, 8, 11, 20], [1, 1, 1, 1, 1, 0])
    found = survival.hazard_ratio(treated, control)
    assert (found.value, found.low) == (0, 0)
    best = efron(-40.0, treated, control)
    fall = 2 * (best - efron(math.log(found.high), treated, control))
    assert fall == pytest.approx(stats.chi2.isf(0.05, 1), rel=1e-9)
    fall = 2 * (best - efron(0.0, treated, control))
    assert found.p == pytest.approx(stats.chi2.sf(fall, 1), rel=1e-9)
    assert found.p < 0.01
    assert found.note.endswith("control arm")
    assert survival.hazard_ratio(control, treated).note.endswith("treated arm")


def test_an_extreme_ratio_is_found():
    """Newton's steps are bounded: 5,000 to 1, with ties, and an arm of one patient."""
    rng = np.random.default_rng(6)
    a, b = drawn(rng, 4000, 5.0, 3.0), drawn(rng, 4000, 1e-3, 3.0)
    found = survival.hazard_ratio(a, b)
    assert found.low < 5e3 < found.high
    one = survival.hazard_ratio(arm([2]), arm(np.arange(1, 4000)))
    assert 0 < one.low < one.value < one.high < math.inf


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (arm([]), "without patients"),
        (arm([1.0, -1.0]), "not negative"),
        (arm([1.0, np.nan]), "finite"),
        (FollowUp(np.ones(2), np.ones(3, bool)), "2 days, but 3 patients"),
    ],
)
def test_a_follow_up_that_makes_no_sense_is_refused(bad, sentence):
    """By every function."""
    for ask in (
        lambda: survival.kaplan_meier(bad),
        lambda: survival.log_rank(bad, PLACEBO),
        lambda: survival.hazard_ratio(PLACEBO, bad),
        lambda: survival.known_until(PLACEBO, bad),
    ):
        with pytest.raises(ValueError, match=sentence):
            ask()


# --- repeated trials ---


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """4,000 trials of 150 + 150 patients, hazards .01 and .02, a third censored: 95 % intervals.

    False-fail rate 1e-6 each; a coverage of .92 or .98 is noticed. The intervals are asymptotic, and
    may be off by less.
    """
    num, tau, rng = 4_000, 60.0, np.random.default_rng(7)
    slow, fast = 0.01, 0.02
    mean = lambda hazard: -math.expm1(-hazard * tau) / hazard  # noqa: E731
    gain = math.exp(-slow * tau) - math.exp(-fast * tau)
    hits = dict.fromkeys(("ratio", "mean", "gain", "band", "median", "log-rank"), 0)
    for _ in range(num):
        a, b, c = (drawn(rng, 150, hazard, 200) for hazard in (slow, fast, fast))
        ratio = survival.hazard_ratio(a, b)
        hits["ratio"] += ratio.low <= 0.5 <= ratio.high
        days = survival.difference(
            survival.restricted_mean(a, tau), survival.restricted_mean(b, tau)
        )
        hits["mean"] += days.low <= mean(slow) - mean(fast) <= days.high
        found = survival.number_needed_to_treat(a, b, tau).gain
        hits["gain"] += found.low <= gain <= found.high
        curve = survival.kaplan_meier(b)
        share = survival.survival_on(curve, tau)
        hits["band"] += share.low <= math.exp(-fast * tau) <= share.high
        half = survival.median(curve)
        hits["median"] += half.low <= math.log(2) / fast <= half.high
        hits["log-rank"] += survival.log_rank(b, c).p > 0.05
    low, high = hit_limits(0.95, num, detect=0.03)
    assert {name for name, hit in hits.items() if not low <= hit <= high} == set(), hits


@pytest.mark.slow
def test_a_trial_finds_a_difference_with_the_power_of_the_exact_formula():
    """Schoenfeld 1981: with D events, half in each arm, the log-rank test is normal, ln(HR) sqrt(D)/2.

    No censoring, 100 + 100 patients, hazard ratio .7: power .71. False-fail rate 1e-6; an error of .06
    is noticed (the formula holds for ratios near 1, and is off by less here).
    """
    num, rng = 4_000, np.random.default_rng(8)
    power = stats.norm.sf(stats.norm.isf(0.025) + math.log(0.7) * math.sqrt(200) / 2)
    hits = 0
    for _ in range(num):
        a, b = arm(rng.exponential(1 / 0.7, 100)), arm(rng.exponential(1.0, 100))
        hits += survival.log_rank(a, b).p < 0.05
    low, high = hit_limits(float(power), num, detect=0.06)
    assert low <= hits <= high, hits / num
