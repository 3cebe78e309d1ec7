"""Random words and integer thresholds of the engines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32
from scipy import stats

from jaxevo.engines.sampling import Wide, below, exponential, threefry, threshold
from tests.statistics import FALSE_FAIL

pytestmark = pytest.mark.both_precisions
words = st.integers(0, 2**32 - 1)
SAMPLES = 2**18


def random_words(purpose: int, num: int = SAMPLES):
    """Words of one key, as the engines draw them."""
    counter = jnp.arange(num, dtype=jnp.uint32)
    return threefry((jnp.uint32(purpose), jnp.uint32(9)), (jnp.uint32(5), counter))


def wide(value: int) -> Wide:
    return Wide(jnp.uint32(value >> 32), jnp.uint32(value & 0xFFFFFFFF))


def integer(value: Wide) -> int:
    return (int(value.high) << 32) + int(value.low)


@given(words, words, words, words)
@settings(max_examples=50, deadline=None)
def test_words_are_those_of_the_cipher_of_jax(a, b, x, y):
    """threefry2x32-20, bit by bit (Salmon et al. 2011)."""
    key = jnp.array([a, b], jnp.uint32)
    expected = threefry_2x32(key, jnp.array([x, y], jnp.uint32))
    ours = threefry((key[0], key[1]), (jnp.uint32(x), jnp.uint32(y)))
    assert [int(w) for w in ours] == expected.tolist()


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_wide_integers_add_and_compare_as_integers(a, b):
    """Two uint32 are one integer modulo 2^64."""
    assert integer(wide(a) + wide(b)) == (a + b) % 2**64
    assert bool(wide(a) < wide(b)) == (a < b)


@given(st.floats(0, 1, exclude_max=True, width=32, allow_subnormal=False))
@settings(max_examples=200, deadline=None)
def test_a_threshold_is_the_probability_times_2_to_the_64(p):
    """floor(p 2^64): every bit of a float32 above 2^-64 is kept."""
    assert integer(threshold(jnp.float32(p))) == int(p * 2**64)


def test_rare_events_are_as_rare_as_they_should_be():
    """P(word < threshold(1e-9)) = 1e-9: the thresholds differ from p by less than 2^-64."""
    p = np.float32(1e-9)
    assert integer(threshold(jnp.float32(1e-9))) / 2**64 == pytest.approx(float(p), rel=1e-9)


def test_a_probability_of_zero_never_happens():
    """No 64-bit integer lies below threshold(0), not even 0."""
    assert not bool(wide(0) < threshold(jnp.float32(0)))


@pytest.mark.parametrize("bound", [1, 2, 3, 977, 59_999])
def test_integers_below_a_bound_are_uniform(bound):
    """Uniform on 0..bound-1; Kolmogorov-Smirnov at 1e-6 detects a shift of 1 % at 2^18 samples."""
    word, _ = random_words(1)
    found = np.asarray(below(word, jnp.uint32(bound)))
    assert found.min() >= 0
    assert found.max() < bound
    smeared = (found + np.asarray(random_words(2)[0]) / 2**32) / bound
    assert stats.kstest(smeared, "uniform").pvalue > FALSE_FAIL


def test_all_words_map_below_the_bound():
    """The largest word gives bound - 1, the smallest 0."""
    assert int(below(jnp.uint32(2**32 - 1), jnp.uint32(977))) == 976
    assert int(below(jnp.uint32(0), jnp.uint32(977))) == 0


def test_waiting_times_are_exponential():
    """P(X > x) = e^-x; Kolmogorov-Smirnov at 1e-6 detects a rate 1 % off at 2^18 samples."""
    found = np.asarray(exponential(random_words(3)[0]), float)
    assert found.min() > 0
    assert stats.kstest(found, "expon").pvalue > FALSE_FAIL
    assert stats.kstest(found * 1.02, "expon").pvalue < FALSE_FAIL


def test_waiting_times_are_finite_and_positive_for_every_extreme_word():
    """-log of (0, 1): never 0, never infinite."""
    found = exponential(jnp.array([0, 1, 2**31, 2**32 - 2, 2**32 - 1], jnp.uint32))
    assert bool(jnp.all((found > 0) & jnp.isfinite(found)))


def test_two_lanes_and_two_purposes_are_independent():
    """Correlation 0 within 5 / sqrt(n) (false-fail 6e-7), for neighboring keys and both words."""
    first, second = random_words(7)
    other, _ = random_words(8)
    a, b, c = (np.asarray(w) / 2**32 for w in (first, second, other))
    for x, y in ((a, b), (a, c), (a[1:], a[:-1])):
        assert abs(np.corrcoef(x, y)[0, 1]) < 5 / np.sqrt(SAMPLES)


def test_words_do_not_depend_on_the_batch_they_are_asked_for_in():
    """A word is a function of key and counter alone."""
    many, _ = random_words(4)
    few, _ = random_words(4, 7)
    assert np.array_equal(np.asarray(many)[:7], np.asarray(few))
    assert few.dtype == jnp.uint32
    assert jax.dtypes.issubdtype(exponential(few).dtype, jnp.float32)
