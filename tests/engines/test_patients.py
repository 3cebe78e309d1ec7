"""Virtual patients: the law of what varies between them, and what it depends on."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.engines.patients import correlated, factor, ranks, uniform
from tests import builders

COUNT = 5_000
FALSE_FAIL = 1e-6
SOBOL = [0.36973999766632915, 0.6100887316279113]  # of patient 2 under seed 1, for "x" and "y"
WRITTEN_DOWN = 0.8388017820109147  # factor of patient 2 under seed 1, for "x" with cv 0.3


def factors(**law) -> np.ndarray:
    return np.array(
        [factor(uniform(7, i, "tumor.birth_rate_per_day"), **law) for i in range(COUNT)]
    )


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
    assert factor(uniform(1, 2, "x"), 0.3) == pytest.approx(WRITTEN_DOWN, rel=1e-14)


# --- ranks of many patients ------------------------------------------------------------------------

NAMES = ["tumor.death_rate_per_day", "a", "host.feedback"]


@pytest.mark.parametrize("sampling", ["random", "sobol"])
def test_a_rank_depends_on_seed_patient_and_the_names_alone(sampling):
    """Not on how many patients there are, nor on the order of the names; nor, at random, on the others."""
    many = ranks(7, 37, NAMES, sampling)
    assert many.min() > 0
    assert many.max() < 1
    np.testing.assert_array_equal(ranks(7, 5, NAMES, sampling), many[:5])
    np.testing.assert_array_equal(ranks(7, 37, NAMES[::-1], sampling), many[:, ::-1])
    assert not np.any(ranks(8, 37, NAMES, sampling) == many)
    if sampling == "random":
        np.testing.assert_array_equal(ranks(7, 37, NAMES[1:], sampling), many[:, 1:])
        assert many[3, 1] == uniform(7, 3, "a")
    assert ranks(7, 3, [], sampling).shape == (3, 0)


def test_sobol_points_are_evenly_spread():
    """Of the first 2^m points one lies in each of the 2^m equal intervals, in every dimension: a digital
    shift keeps that. Points at random leave about 1/e of the intervals empty.
    """
    found = np.sort((ranks(3, 64, NAMES, "sobol") * 64).astype(int), axis=0)
    np.testing.assert_array_equal(found, np.repeat(np.arange(64)[:, None], 3, axis=1))


def test_sobol_points_are_uniform_over_seeds():
    """Each point alone has the uniform law: the first, of 2,000 seeds, Kolmogorov and Smirnov at 1e-6
    finds a distribution function that is off by 0.062 with probability 0.5 and more.
    """
    first = np.array([ranks(seed, 1, ["a", "b"], "sobol")[0] for seed in range(2_000)])
    for column in first.T:
        assert stats.kstest(column, stats.uniform.cdf).pvalue > FALSE_FAIL
    assert abs(stats.spearmanr(*first.T).statistic) < 5.5 / math.sqrt(len(first))


def test_patients_are_drawn_in_one_way_for_ever():
    """Numbers that were written down once; they depend on no library's generator."""
    assert ranks(1, 3, ["x", "y"], "sobol")[2] == pytest.approx(SOBOL, abs=1e-15)


MATRIX = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])


def test_correlated_ranks_have_a_gaussian_copula():
    """Normal quantiles with the correlations asked for, each uniform by itself.

    The correlation of n normal pairs has the standard error (1 - r^2)/sqrt(n); 5.5 of them are passed by
    chance with probability 4e-8. A copula without correlation is 15 and more standard errors off.
    """
    found = correlated(ranks(7, COUNT, NAMES), MATRIX)
    normal = stats.norm.ppf(found)
    error = (1 - MATRIX**2) / math.sqrt(COUNT)
    assert np.all(np.abs(np.corrcoef(normal.T) - MATRIX) <= 5.5 * error + 1e-12)
    for column in found.T:
        assert stats.kstest(column, stats.uniform.cdf).pvalue > FALSE_FAIL


def test_correlated_ranks_of_a_patient_do_not_depend_on_the_others():
    """The first keeps its own; no bit changes with the number of patients; no correlation, no change."""
    own = ranks(7, 50, NAMES)
    found = correlated(own, MATRIX)
    np.testing.assert_array_equal(correlated(own[:7], MATRIX), found[:7])
    np.testing.assert_allclose(found[:, 0], own[:, 0], rtol=1e-13)
    np.testing.assert_allclose(correlated(own, np.eye(3)), own, rtol=1e-13)


def test_some_patients_keep_their_founders_and_marrow():
    """Of four patients the second and third; one marrow for all stays one for all."""
    model, arm = builders.build(drugs=("a",)), Arm("none", ())
    hosts = [builders.host(model, baseline=3.0 + k) for k in range(4)]
    whole = Problem(
        model, (), (arm,), seed=1, replicates=1, horizon=7.0, sync=7.0, max_cells=8,
        patients=tuple(builders.build(drugs=("a",), birth_rate=0.1 * k) for k in range(4)),
        founders_of=tuple((Founder(k, 0, 0),) for k in range(4)), hosts=tuple(hosts),
    )  # fmt: skip
    part = whole.of_patients(slice(1, 3))
    assert part.patients == whole.patients[1:3]
    assert [part.founders_in(k)[0].count for k in range(2)] == [1, 2]
    assert [float(part.host_of(k, arm).baseline) for k in range(2)] == [4.0, 5.0]
    alike = whole._replace(hosts=whole.hosts[:1], founders_of=()).of_patients(slice(1, 3))
    assert float(alike.host_of(1, arm).baseline) == 3.0
