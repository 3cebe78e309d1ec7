"""Virtual patients: the law of what varies between them, and what it depends on."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxevo.engines.patients import factor, uniform

COUNT = 5_000
FALSE_FAIL = 1e-6
WRITTEN_DOWN = 0.8388017820109147  # factor of patient 2 under seed 1, for "x" with cv 0.3


def factors(**law) -> np.ndarray:
    return np.array([factor(7, i, "tumor.birth_rate_per_day", **law) for i in range(COUNT)])


@pytest.mark.parametrize(
    "bounds", [{}, {"above": 0.8}, {"below": 1.1}, {"above": 0.9, "below": 2.0}], ids=str
)
@pytest.mark.parametrize("cv", [0.1, 0.5, 2.0])
def test_factors_are_log_normal_between_their_bounds(cv, bounds):
    """ln f / sigma is standard normal given the bounds, sigma^2 = ln(1 + cv^2).

    Kolmogorov and Smirnov with 5,000 patients: false-fail 1e-6; a distribution function that is off by
    0.039 somewhere is found with probability 0.5 and more.
    """
    found = factors(cv=cv, **bounds)
    sigma = math.sqrt(math.log(1 + cv**2))
    above, below = bounds.get("above", 0.0), bounds.get("below", math.inf)
    low = math.log(above) / sigma if above else -math.inf
    high = math.log(below) / sigma
    assert found.min() >= above
    assert found.max() <= below
    law = stats.truncnorm(low, high)
    assert stats.kstest(np.log(found) / sigma, law.cdf).pvalue > FALSE_FAIL


def test_the_study_has_the_median_and_cv_is_that_of_the_law():
    """Median 1; standard deviation over mean is cv (numerically, from the quantiles of the law)."""
    rank = (np.arange(200_000) + 0.5) / 200_000
    values = np.exp(math.sqrt(math.log(1 + 0.3**2)) * stats.norm.ppf(rank))
    assert values.std() / values.mean() == pytest.approx(0.3, rel=1e-3)
    assert np.median(factors(cv=0.3)) == pytest.approx(1.0, abs=6 * 0.3 * 1.2533 / math.sqrt(COUNT))


def test_what_varies_varies_independently():
    """Seeds, patients and names give unrelated numbers: no rank correlation beyond chance (5.5 sd)."""
    first = [uniform(7, i, "a") for i in range(COUNT)]
    for other in (
        [uniform(7, i, "b") for i in range(COUNT)],
        [uniform(8, i, "a") for i in range(COUNT)],
        [uniform(7, i + 1, "a") for i in range(COUNT)],
    ):
        assert abs(stats.spearmanr(first, other).statistic) < 5.5 / math.sqrt(COUNT)


def test_a_patient_is_the_same_for_ever():
    """A number that was written down once; it depends on no library's generator."""
    assert factor(1, 2, "x", 0.3) == pytest.approx(WRITTEN_DOWN, rel=1e-14)
