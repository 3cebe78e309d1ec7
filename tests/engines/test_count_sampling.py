"""Counts drawn in float64: binomial, Poisson and negative binomial laws from means of 1e-12 to 1e13."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxevo.engines import sampling
from jaxevo.engines.sampling import LARGE_MEAN, NUM_TERMS, threefry
from tests.laws import Law
from tests.statistics import FALSE_FAIL, Rejected, assert_law, assert_rare_count

GRID = 2**18  # midpoints of a grid of upper tails
ERROR = 4e-6  # of a distribution function: 2e-6 of Cornish-Fisher, and half a step of the grid
SAMPLES = 2**18
BATCHES = (1, 7, 64, 1000)

POISSON = (0.01, 3.0, 12.0, 19.99, 20.0, 21.0, 35.0, 300.0)
BINOMIAL = [
    (1, 0.3), (2, 0.5), (39, 0.5), (40, 0.5), (41, 0.5), (25, 0.9), (60, 0.33), (61, 0.33),
    (10_000, 0.999), (10**8, 1e-7), (10**8, 1.99e-7), (10**8, 2e-7), (10**8, 0.25),
    (10**8, 1 - 1e-7),
]  # fmt: skip
NEGATIVE_BINOMIAL = [
    (1, 0.3), (2, 0.45), (13, 0.33), (39, 0.33), (41, 0.33), (60, 0.25), (1000, 0.0199),
    (1000, 0.02), (10**8, 1e-7), (10**6, 0.3),
]  # fmt: skip


def drawn(kind: str, tails: np.ndarray, *params: float) -> np.ndarray:
    """Counts of one law at these tails."""
    with jax.enable_x64(True):
        full = [jnp.full(tails.shape, x, jnp.float64) for x in params]
        return np.asarray(jax.jit(getattr(sampling, kind))(jnp.asarray(tails), *full))


def tails(purpose: int, num: int = SAMPLES) -> np.ndarray:
    """Uniform numbers of one key."""
    with jax.enable_x64(True):
        counter = jnp.arange(num, dtype=jnp.uint32)
        words = threefry((jnp.uint32(purpose), jnp.uint32(3)), (jnp.uint32(8), counter))
        return np.asarray(sampling.uniform64(words))


def worst_error(counts: np.ndarray, law) -> float:
    """Largest error of the distribution function of counts at a grid of tails."""
    values, seen = np.unique(counts, return_counts=True)
    return float(np.abs(np.cumsum(seen) / len(counts) - law.cdf(values)).max())


MIDDLE = (np.arange(GRID) + 0.5) / GRID


@pytest.mark.parametrize("mean", POISSON)
def test_poisson_counts_invert_the_distribution_function(mean):
    """F(k) of the law at every count, everywhere within 4e-6: at a grid of tails, not at random."""
    assert worst_error(drawn("poisson", MIDDLE, mean), stats.poisson(mean)) < ERROR


@pytest.mark.parametrize(("num", "p"), BINOMIAL)
def test_binomial_counts_invert_the_distribution_function(num, p):
    """The same, on both sides of 1/2 and of the mean where the inversion ends."""
    counts = drawn("binomial", MIDDLE, num, p, 1 - p)
    assert worst_error(counts, stats.binom(num, p)) < ERROR
    assert counts.min() >= 0
    assert counts.max() <= num


@pytest.mark.parametrize(("num", "p"), NEGATIVE_BINOMIAL)
def test_negative_binomial_counts_invert_the_distribution_function(num, p):
    """The same for sums of geometric laws."""
    counts = drawn("negative_binomial", MIDDLE, num, p / (1 - p))
    assert worst_error(counts, stats.nbinom(num, 1 - p)) < ERROR


@pytest.mark.parametrize("num", [1e12, 1e13])
@pytest.mark.parametrize("p", [1e-12, 1.7e-12, 2.5e-12, 1e-6, 0.3, 1 - 1e-12])
def test_counts_of_very_many_cells_follow_the_law(num, p):
    """Among n = 1e12 and 1e13: Poisson for rare successes (total variation below p), else normal.

    For p = .3 the skewness is 4e-7 and the normal law with the exact mean is within 1e-7.
    """
    counts = drawn("binomial", MIDDLE, num, p, 1 - p)
    assert np.array_equal(counts, np.round(counts))
    rare = num * min(p, 1 - p)
    if rare < 1e8:
        rare_counts = counts if p < 0.5 else num - counts
        assert worst_error(rare_counts, stats.poisson(rare)) < ERROR + 2 * min(p, 1 - p)
    else:
        z = (counts - num * p) / np.sqrt(num * p * (1 - p))
        assert np.abs(special.ndtr(-z) - MIDDLE).max() < ERROR


@pytest.mark.parametrize("mean", [1e-12, 1e-9, 1e-6])
def test_rare_events_keep_their_relative_precision(mean):
    """P(X >= 1) = 1 - e^-mean and P(X >= 2) = mean^2/2: the tails at which counts jump, to 1e-4."""
    first = -np.expm1(-mean)
    around = first * np.array([1 - 1e-6, 1 + 1e-6])
    for kind, params in (("poisson", (mean,)), ("binomial", (1e13, mean / 1e13, 1.0)),
                         ("negative_binomial", (1e9, mean / 1e9))):  # fmt: skip
        assert drawn(kind, around, *params).tolist() == [1.0, 0.0]
    second = mean**2 / 2
    assert drawn("poisson", second * np.array([0.9999, 1.0001]), mean).tolist() == [2.0, 1.0]


def test_nothing_comes_of_nothing():
    """Mean 0, no cell, probability 0 and 1: exact, at every tail, without a NaN."""
    extremes = np.array([2.0**-65, 1e-9, 0.5, 1 - 1e-9, 1.0])
    assert not drawn("poisson", extremes, 0.0).any()
    assert not drawn("binomial", extremes, 0.0, 0.3, 0.7).any()
    assert not drawn("binomial", extremes, 1e13, 0.0, 1.0).any()
    assert (drawn("binomial", extremes, 1e13, 1.0, 0.0) == 1e13).all()
    assert not drawn("negative_binomial", extremes, 0.0, 0.3).any()
    assert not drawn("negative_binomial", extremes, 1e13, 0.0).any()


@pytest.mark.parametrize("mean", [5.0, 19.0, 45.0])
def test_poisson_counts_from_words_follow_the_law(mean):
    """2^18 counts, chi-square at 1e-6: a law at a total variation distance of .02 is noticed."""
    values = np.arange(stats.poisson.isf(1e-13, mean) + 1)
    law = Law(values, stats.poisson.pmf(values, mean))
    counts = drawn("poisson", tails(int(mean)), mean)
    assert_law(counts, law, detect=0.02)
    with pytest.raises(Rejected):
        assert_law(drawn("poisson", tails(1), 1.03 * mean), law, detect=0.02)


def test_very_rare_events_are_as_rare_as_they_should_be():
    """1e-9 for each of 4e9 cells, in 2^18 draws of 1e6 cells: 262 expected, 120 more are noticed."""
    counts = drawn("binomial", tails(5), 1e6, 1e-9, 1 - 1e-9)
    assert_rare_count(int(counts.sum()), SAMPLES, SAMPLES * 1e-3, detect=160)


def test_logarithms_and_exponentials_are_right_to_the_last_digits():
    """Against NumPy, in relative precision, over all that counts need."""
    x = np.concatenate([np.logspace(-300, 300, 4001), 1 + np.logspace(-15, 0, 500)])
    small = np.concatenate([-np.logspace(-18, np.log10(0.5), 999), np.logspace(-18, 3, 999)])
    powers = np.concatenate([-np.logspace(-18, 2.8, 999), np.logspace(-18, 2.8, 999)])
    tail = np.concatenate([np.logspace(-19, -0.31, 999), 1 - np.logspace(-15, -0.31, 999)])
    with jax.enable_x64(True):
        log = np.asarray(sampling.log64(jnp.asarray(x)))
        log1p = np.asarray(sampling.log1p64(jnp.asarray(small)))
        expm1 = np.asarray(sampling.expm1_64(jnp.asarray(powers)))
        z = np.asarray(sampling.upper_quantile(jnp.asarray(tail)))
    assert np.allclose(log, np.log(x), rtol=2e-15, atol=1e-16)
    assert np.allclose(log1p, np.log1p(small), rtol=2e-15, atol=0)
    assert np.allclose(expm1, np.expm1(powers), rtol=2e-15, atol=0)
    assert np.allclose(z, stats.norm.isf(tail), rtol=0, atol=2e-10)


@pytest.mark.parametrize("kind", ["poisson", "binomial", "negative_binomial"])
def test_a_count_is_the_same_alone_and_in_any_batch(kind):
    """Bits, over all sizes and both sides of every branch: alone, and among 7, 64 and 1000."""
    rng = np.random.default_rng(7)
    num = 1000
    size = np.floor(10 ** rng.uniform(0, 13, num))
    mean = 10 ** rng.uniform(-3, 4, num)
    p = np.minimum(mean / size, 0.4)
    v = tails(2, num)
    with jax.enable_x64(True):
        given = {"poisson": (mean,), "binomial": (size, p, 1 - p),
                 "negative_binomial": (size, p / (1 - p))}[kind]  # fmt: skip
        draw = jax.jit(getattr(sampling, kind))
        whole = np.asarray(draw(*map(jnp.asarray, (v, *given))))
        for batch in BATCHES:
            part = [jnp.asarray(x[:batch]) for x in (v, *given)]
            assert np.asarray(draw(*part)).tobytes() == whole[:batch].tobytes()
    assert len(np.unique(whole)) > 100


def test_the_two_branches_meet():
    """Counts rise with the mean at a fixed tail, across the mean where the inversion ends."""
    mean = np.linspace(LARGE_MEAN - 1, LARGE_MEAN + 1, 2001)
    with jax.enable_x64(True):
        for tail in (0.9, 0.5, 0.1, 1e-3, 1e-4):
            counts = np.asarray(sampling.poisson(jnp.full(mean.shape, tail), jnp.asarray(mean)))
            assert (np.diff(counts) >= 0).all()
    assert LARGE_MEAN + 6 * LARGE_MEAN**0.5 < NUM_TERMS


def test_float32_fails_where_counts_are_right():
    """What was rejected: of 1e8 cells, a float32 binomial mean cannot even tell 1e8 - 1 from 1e8."""
    lost = drawn("binomial", MIDDLE, 1e8, 1e-8, 1 - 1e-8)
    assert abs(lost.mean() - 1.0) < 1e-4
    kept = np.float32(1e8) - lost.astype(np.float32)
    assert abs(float(np.float32(1e8)) - kept.astype(float).mean() - 1.0) > 0.1
    assert FALSE_FAIL < 1e-4
