"""The statistical assertions reject right kernels as seldom, and wrong ones as often, as they say."""

import numpy as np
import pytest
from scipy import stats

from tests import laws, statistics
from tests.laws import Law
from tests.statistics import Rejected, TooFewSamples

RATE = 1e-2  # false-fail rate at which calibration can be seen
DATASETS = 20_000

# One founder for 100 days (E01): .89 extinct, sd four times the mean, an exponential tail.
HEAVY = laws.birth_death([100], [0.14], [0.13]).law()
CALM = laws.birth_death([10], [0.1], [0.11]).law(100)


def draw(law: Law, num: int, seed: int = 5) -> np.ndarray:
    """[dataset, sample] by inversion of the law."""
    uniform = np.random.default_rng(seed).random((DATASETS, num))
    index = np.searchsorted(np.cumsum(law.probabilities), uniform)
    return law.values[np.minimum(index, len(law.values) - 1)]


def assert_rate(rejected: np.ndarray, least: float, most: float) -> None:
    """The rate of rejection lies between two bounds, at a false-fail rate of 1e-6."""
    low, high = stats.binom.ppf(5e-7, DATASETS, least), stats.binom.isf(5e-7, DATASETS, most)
    assert low <= rejected.sum() <= high, f"{rejected.mean():.4f}, not {least} to {most}"


@pytest.mark.parametrize("law", [HEAVY, CALM], ids=["heavy", "calm"])
def test_mean_is_rejected_at_the_stated_rate(law):
    """1 % of right datasets are rejected, heavy tail or not; discreteness costs a little."""
    low, high = statistics.mean_limits(law, 200, detect=np.inf, false_fail=RATE)
    mean = draw(law, 200).mean(1)
    assert_rate((mean < low - 1e-9) | (mean > high + 1e-9), 0.85 * RATE, RATE)


@pytest.mark.parametrize("law", [HEAVY, CALM], ids=["heavy", "calm"])
def test_variance_is_rejected_at_the_stated_rate(law):
    """1 % again; the limits of a normal sample would reject half of the right heavy datasets."""
    low, high = statistics.variance_limits(law, 200, detect=1e9, false_fail=RATE)
    square = np.mean((draw(law, 200) - law.mean) ** 2, axis=1)
    assert_rate((square < low) | (square > high), 0.95 * RATE, RATE)
    if law is HEAVY:
        normal = stats.chi2.ppf([RATE / 2, 1 - RATE / 2], 200) / 200 * law.variance
        assert np.mean((square < normal[0]) | (square > normal[1])) > 0.5


def test_chi_square_is_rejected_at_the_stated_rate():
    """1 % of right datasets of 2000 are rejected over pooled cells of at least 50."""
    num = 2_000
    cells = statistics.pooled_cells(CALM.probabilities, num)
    pooled = np.bincount(cells, CALM.probabilities)
    assert (num * pooled >= statistics.MIN_EXPECTED).all()
    limit = statistics.chi_square_limit(pooled, num, detect=1.0, false_fail=RATE)
    seen = np.random.default_rng(7).multinomial(num, pooled, size=DATASETS)
    chi_square = np.sum((seen - num * pooled) ** 2 / (num * pooled), axis=1)
    assert_rate(chi_square > limit, 0.9 * RATE, 1.1 * RATE)


def test_far_tail_of_the_chi_square_limit():
    """At 1e-4 too, with eight cells that expect only 50: within a factor of two."""
    pooled = np.array([*[0.025] * 8, 0.8])
    limit = statistics.chi_square_limit(pooled, 2_000, detect=1.0, false_fail=1e-4)
    seen = np.random.default_rng(8).multinomial(2_000, pooled, size=1_000_000)
    chi_square = np.sum((seen - 2_000 * pooled) ** 2 / (2_000 * pooled), axis=1)
    assert 0.5e-4 < np.mean(chi_square > limit) < 2e-4


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.995])
def test_hits_are_rejected_at_most_at_the_stated_rate(probability):
    """The binomial limits are exact: at most the rate, and a wider region would break it."""
    low, high = statistics.hit_limits(probability, 5_000, detect=0.2, false_fail=RATE)
    law = stats.binom(5_000, probability)
    assert law.cdf(low - 1) <= RATE / 2 < law.cdf(low)
    assert law.sf(high) <= RATE / 2 < law.sf(high - 1)


@pytest.mark.parametrize("law", [HEAVY, CALM], ids=["heavy", "calm"])
def test_the_stated_error_of_a_mean_is_noticed(law):
    """A shift by about the smallest `detect` that is not refused is rejected in 99 % of datasets."""
    detect = 0.36 * law.variance**0.5
    with pytest.raises(TooFewSamples, match="take more samples"):
        statistics.mean_limits(law, 200, detect=0.9 * detect, false_fail=RATE)
    low, high = statistics.mean_limits(law, 200, detect=detect, false_fail=RATE)
    mean = draw(law, 200).mean(1)
    for shift in (detect, -detect):
        assert_rate((mean + shift < low) | (mean + shift > high), 0.99, 1.0)


def test_the_stated_factor_of_a_variance_is_noticed():
    """A variance off by the stated factor, either way, is rejected in 99 % of datasets."""
    low, high = statistics.variance_limits(CALM, 200, detect=0.7, false_fail=RATE)
    square = np.mean((draw(CALM, 200) - CALM.mean) ** 2, axis=1)
    for factor in (1.7, 1 / 1.7):
        assert_rate((factor * square < low) | (factor * square > high), 0.99, 1.0)
    with pytest.raises(TooFewSamples, match="factor"):
        statistics.variance_limits(CALM, 200, detect=0.2, false_fail=RATE)


def test_a_law_at_the_stated_distance_is_noticed():
    """The least visible law at a total variation distance: half of the cells gain in proportion."""
    num, detect = 20_000, 0.045
    pooled = np.full(20, 0.05)
    limit = statistics.chi_square_limit(pooled, num, detect=detect)
    wrong = pooled * (1 + 2 * detect * np.tile([1, -1], 10))
    assert np.abs(wrong - pooled).sum() / 2 == pytest.approx(detect)
    seen = np.random.default_rng(9).multinomial(num, wrong, size=DATASETS)
    chi_square = np.sum((seen - num * pooled) ** 2 / (num * pooled), axis=1)
    assert_rate(chi_square > limit, 0.99, 1.0)
    with pytest.raises(TooFewSamples, match="distance"):
        statistics.chi_square_limit(pooled, num, detect=0.5 * detect)


def test_assertions_accept_right_samples_and_reject_wrong_ones():
    """Each assertion once with samples of its law and once with samples of a neighbor."""
    right = draw(CALM, 1)[:, 0]
    wrong = draw(laws.birth_death([10], [0.1], [0.115]).law(100), 1)[:, 0]
    none = right > 95
    probability = float(CALM.probabilities[CALM.values > 95].sum())
    statistics.assert_mean(right, CALM, detect=0.8)
    statistics.assert_variance(right, CALM, detect=0.1)
    statistics.assert_law(right, CALM, detect=0.05)
    statistics.assert_probability(none, probability, detect=0.03)
    statistics.assert_rare_count(3, 100, 2.5, detect=30)
    with pytest.raises(Rejected, match="mean"):
        statistics.assert_mean(wrong, CALM, detect=0.8)
    with pytest.raises(Rejected, match="variance"):
        statistics.assert_variance(2 * right - 90, CALM, detect=0.1)
    with pytest.raises(Rejected, match="chi-square"):
        statistics.assert_law(wrong, CALM, detect=0.05)
    with pytest.raises(Rejected, match="probability"):
        statistics.assert_probability(wrong > 95, probability, detect=0.03)
    with pytest.raises(Rejected, match="events"):
        statistics.assert_rare_count(40, 100, 2.5, detect=30)


def test_a_few_samples_are_refused():
    """Five samples say nothing, whatever they are: the test is an error, not a pass."""
    five = np.array([0, 0, 0, 0, 0])
    with pytest.raises(TooFewSamples):
        statistics.assert_mean(five, HEAVY, detect=1.0)
    with pytest.raises(TooFewSamples):
        statistics.assert_variance(five, HEAVY, detect=0.2)
    with pytest.raises(TooFewSamples):
        statistics.assert_law(five, HEAVY, detect=0.1)
    with pytest.raises(TooFewSamples):
        statistics.assert_probability(five == 0, 0.9, detect=0.1)
    with pytest.raises(TooFewSamples):
        statistics.assert_rare_count(0, 5, 1e-3, detect=2)


def test_an_error_that_no_sample_can_show_is_refused():
    """A probability cannot be too large or too small by more than 1."""
    with pytest.raises(TooFewSamples):
        statistics.hit_limits(0.5, 1_000_000, detect=0.6)


def test_law_of_a_sum_is_the_convolution():
    """Three dice-like variables, signed values, added up by hand."""
    law = Law(np.array([-2, 0, 1, 5]), np.array([0.1, 0.4, 0.3, 0.2]))
    total = statistics.sum_law(law, 3)
    by_hand: dict[int, float] = {}
    pairs = list(zip(law.values.tolist(), law.probabilities.tolist(), strict=True))
    for a, p in pairs:
        for b, q in pairs:
            for c, r in pairs:
                by_hand[a + b + c] = by_hand.get(a + b + c, 0.0) + p * q * r
    for value, probability in by_hand.items():
        assert total.probability(value) == pytest.approx(probability, abs=1e-14)
    assert total.mean == pytest.approx(3 * law.mean)


def test_law_of_a_sum_off_the_lattice_keeps_mean_and_variance():
    """Squares about a mean lie on no lattice: mean kept, variance to 1e-4."""
    square = (HEAVY.values - HEAVY.mean) ** 2
    order = np.argsort(square)
    law = Law(square[order], HEAVY.probabilities[order])
    total = statistics.sum_law(law, 10_000)
    assert total.mean == pytest.approx(10_000 * law.mean, rel=1e-9)
    assert total.variance == pytest.approx(10_000 * law.variance, rel=1e-4)


def test_normal_law_has_its_moments():
    """The tabulated normal law, for sums of many parts."""
    law = statistics.normal_law(1e4, 250.0)
    assert law.mean == pytest.approx(1e4, rel=1e-12)
    assert law.variance == pytest.approx(250.0, rel=1e-9)
    low, high = statistics.mean_limits(law, 100, detect=20, false_fail=RATE)
    expected = stats.norm.isf(RATE / 2) * (250 / 100) ** 0.5
    assert high - 1e4 == pytest.approx(expected, rel=1e-3)
    assert 1e4 - low == pytest.approx(expected, rel=1e-3)
