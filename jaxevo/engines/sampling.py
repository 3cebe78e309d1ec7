"""Random words and integer thresholds that stay right at probabilities of 1e-12.

Words come from threefry2x32 with 20 rounds (Salmon et al. 2011, doi:10.1145/2063384.2063405), the
cipher of `jax.random`, written out so that XLA on CPU vectorizes it. A word is a pure function of
(key, counter): the order in which words are asked for changes nothing.

A probability p becomes the integer p * 2^64, held as two uint32 (high, low), and an event happens
when a random 64-bit integer lies below it. Comparing integers keeps rare events right: the float32
comparison `uniform() < 1e-9` fires more than a hundred times too often.

Counts (`binomial`, `poisson`, `negative_binomial`) are float64 and need a local `enable_x64`. Each is
the inverse of its distribution function at one uniform number, so it is one function of that number
and the parameters, elementwise, with logarithms and exponentials of our own: the same bits in any
batch. Below a mean of 20 the inverse is exact; above, it is the Cornish-Fisher expansion to fourth
order with the lattice correction, whose distribution function is off by at most 2e-6. Probabilities
down to 1e-16 keep their relative precision, counts up to 2^53 are exact integers.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt32

from jaxevo.state import Array

Words = UInt32[jax.Array, "..."]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_SQRT_HALF = 0x3F3504F3  # bits of the float32 next to sqrt(1/2)
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723e-6  # the first has few bits
TWO_32 = 4294967296.0


def threefry(key: tuple[Words, Words], counter: tuple[Words, Words]) -> tuple[Words, Words]:
    """Two random words from a key of two words and a counter of two words; all broadcast."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x = x + y
            y = (y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation))
            y = x ^ y
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + jnp.uint32(block + 1)
    return x, y


def log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Natural logarithm of positive normal float32, to 2 units in the last place.

    `jnp.log` gives other bits in a vector than alone, so that a replicate's fate would depend on its
    batch. This one is bit shifts, products and sums: x = 2^e m with m in [sqrt(1/2), sqrt(2)), and
    log m = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...) with s = (m - 1)/(m + 1), |s| < .172.
    """
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    exponent = (bits - jnp.int32(_SQRT_HALF)) >> 23
    mantissa = jax.lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32)
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    series = jnp.float32(1 / 11)
    for term in (1 / 9, 1 / 7, 1 / 5, 1 / 3):
        series = series * square + jnp.float32(term)
    tail = 2 * s * square * series
    whole = exponent.astype(jnp.float32)
    return whole * jnp.float32(_LN2_HIGH) + (2 * s + (tail + whole * jnp.float32(_LN2_LOW)))


def exponential(word: Words) -> Float[Array, "..."]:
    """Standard exponential variate, > 0, from one word, in float32."""
    uniform = (word.astype(jnp.float32) + jnp.float32(0.5)) * jnp.float32(1 / TWO_32)
    return -log(jnp.minimum(uniform, jnp.float32(1 - 2**-24)))


def below(word: Words, bound: Words) -> Words:
    """Uniform integer in 0 .. bound - 1 from one word, for 1 <= bound < 2^16.

    floor(word * bound / 2^32): no integer is more likely than another by more than bound / 2^32.
    """
    high, low = word >> jnp.uint32(16), word & jnp.uint32(0xFFFF)
    return (high * bound + ((low * bound) >> jnp.uint32(16))) >> jnp.uint32(16)


class Wide(NamedTuple):
    """Unsigned 64-bit integers as two uint32."""

    high: Words
    low: Words

    def __lt__(self, other: "Wide"):
        return (self.high < other.high) | ((self.high == other.high) & (self.low < other.low))

    def __add__(self, other: "Wide") -> "Wide":
        low = self.low + other.low
        carry = (low < self.low).astype(jnp.uint32)
        return Wide(self.high + other.high + carry, low)


def threshold(probability: Float[Array, "..."]) -> Wide:
    """p * 2^64 for float32 probabilities 0 <= p < 1, exact in every bit that p has."""
    scaled = probability * jnp.float32(TWO_32)
    high = jnp.floor(scaled)
    low = (scaled - high) * jnp.float32(TWO_32)
    return Wide(high.astype(jnp.uint32), low.astype(jnp.uint32))


# --- counts, in float64 ----------------------------------------------------------------------------

LARGE_MEAN = 20.0  # from here on Cornish-Fisher; holds for success probabilities that are not tiny
NUM_TERMS = 48  # of an inversion; what lies beyond is Cornish-Fisher's too
TERMS = 8  # of them at a time, until nobody needs more
_LN2 = (0.693147180369123816490, 1.90821492927058770002e-10)  # the first has few bits
# t - quantile, t = sqrt(-2 ln tail), as a ratio of polynomials; largest error 1.6e-10, tail > 2^-66
_QUANTILE_TOP = (3.601542899948144, 29.669433438414103, 40.13945517499974, 9.366497369806252,
                 0.3753466030850536, 0.0005378786946292222)  # fmt: skip
_QUANTILE_BOTTOM = (1.0, 13.01734809281605, 30.451984866644036, 18.362020056423646,
                    2.5622667813350386, 0.06619236440910056)  # fmt: skip

Real = Float[Array, "..."]


def _polynomial(x: Real, coefficients: tuple[float, ...]) -> Real:
    """sum_k c_k x^k."""
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def _two_to(power: Real) -> Real:
    """2^k for whole -1022 <= k <= 1023, from bits."""
    return jax.lax.bitcast_convert_type((power.astype(jnp.int64) + 1023) << 52, jnp.float64)


def log64(x: Real) -> Real:
    """Natural logarithm of positive normal float64, to 1e-15; the same bits in any batch."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int64)
    exponent = (bits - 0x3FE6A09E667F3BCD) >> 52
    mantissa = jax.lax.bitcast_convert_type(bits - (exponent << 52), jnp.float64)
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    series = square * _polynomial(square, tuple(1 / (2 * k + 3) for k in range(10)))
    whole = exponent.astype(jnp.float64)
    return whole * _LN2[0] + (2 * s + (2 * s * series + whole * _LN2[1]))


def log1p64(x: Real) -> Real:
    """ln(1 + x) for x >= -1/2, in relative precision: 2 artanh(x/(2 + x)), or the logarithm."""
    near = jnp.clip(x, -0.5, 1.0)
    s = near / (near + 2)
    square = s * s
    series = _polynomial(square, tuple(1 / (2 * k + 1) for k in range(17)))
    return jnp.where(x <= 1, 2 * s * series, log64(1 + jnp.maximum(x, 0.0)))


def expm1_64(x: Real) -> Real:
    """e^x - 1 for -700 <= x <= 700, in relative precision; the same bits in any batch."""
    whole = jnp.floor(x * (1 / math.log(2)) + 0.5)
    rest = (x - whole * _LN2[0]) - whole * _LN2[1]
    small = rest * _polynomial(rest, tuple(1 / math.factorial(k + 1) for k in range(13)))
    power = _two_to(whole)
    return power * small + (power - 1)


def uniform64(words: tuple[Words, Words]) -> Real:
    """Uniform in (0, 1] from two words, with steps of 2^-64 next to 0."""
    high, low = (word.astype(jnp.float64) for word in words)
    return high * 2.0**-32 + (low + 0.5) * 2.0**-64


def upper_quantile(tail: Real) -> Real:
    """z with P(Z > z) = tail for a standard normal Z, to 2e-10."""
    least = jnp.maximum(jnp.minimum(tail, 1 - tail), 2.0**-66)
    t = jnp.sqrt(-2 * log64(least))
    z = t - _polynomial(t, _QUANTILE_TOP) / _polynomial(t, _QUANTILE_BOTTOM)
    return jnp.where(tail <= 0.5, z, -z)


def _cornish_fisher(tail: Real, mean: Real, dispersion: Real) -> Real:
    """The count whose upper tail this is, from the six first cumulants of its law.

    With variance = mean c and w = c (c - 1), the cumulants of binomial (c = 1 - p), Poisson (c = 1)
    and negative binomial (c > 1) laws are mean c (1, 2c - 1, 6w + 1, (2c - 1)(12w + 1),
    120 w^2 + 30w + 1), from the second on. Sheppard's -1/12, 1/120, -1/252 make the expansion right
    between lattice points (Cornish & Fisher 1938; Abramowitz & Stegun 26.2.49).
    """
    w, skew = dispersion * (dispersion - 1), 2 * dispersion - 1
    second = jnp.maximum(mean * dispersion, 1.0)
    variance = second - 1 / 12
    deviation = jnp.sqrt(variance)
    share, back = second / variance, 1 / deviation
    square = back * back
    g1 = share * skew * back
    g2 = share * (6 * w + 1) * square + (1 / 120) * square * square
    g3 = share * skew * (12 * w + 1) * square * back
    g4 = (share * ((120 * w + 30) * w + 1) - (1 / 252) * square) * square * square
    z = upper_quantile(tail)
    zz = z * z
    h2, h3, h4 = zz - 1, z * (zz - 3), (zz - 6) * zz + 3
    h5 = z * ((zz - 10) * zz + 15)
    g11 = g1 * g1
    order3 = g3 * h4 * (1 / 120) - g1 * g2 * (h4 + h2) * (1 / 24)
    order3 += g11 * g1 * (12 * h4 + 19 * h2) * (1 / 324)
    order4 = g4 * h5 * (1 / 720) - g2 * g2 * (3 * h5 + 6 * h3 + 2 * z) * (1 / 384)
    order4 -= g1 * g3 * (2 * h5 + 3 * h3) * (1 / 180)
    order4 += g11 * g2 * (14 * h5 + 37 * h3 + 8 * z) * (1 / 288)
    order4 -= g11 * g11 * (252 * h5 + 832 * h3 + 227 * z) * (1 / 7776)
    x = z + g1 * h2 * (1 / 6) + g2 * h3 * (1 / 24) - g11 * (2 * h3 + z) * (1 / 36)
    return jnp.floor(mean + deviation * (x + order3 + order4) + 0.5)


def _count(tail: Real, log_none: Real, first: Real, slope: Real, mean: Real) -> Real:
    """The k with P(X >= k) > tail >= P(X >= k + 1), for P(X = k+1)/P(X = k) = (first + slope k)/(k + 1).

    Args:
        tail: uniform in (0, 1].
        log_none: ln P(X = 0).
        first: mean/dispersion.
        slope: 1 - 1/dispersion; < 0 binomial, 0 Poisson, > 0 negative binomial.
        mean: E[X].
    """
    nothing = jnp.zeros_like(tail)
    is_large = mean >= LARGE_MEAN

    def inverted():
        above = -expm1_64(jnp.maximum(log_none, -50.0))  # P(X >= 1), exact even where it is tiny
        start = (jnp.float64(0), nothing, 1 - above, jnp.where(is_large, 0.0, above))

        def terms(carry):
            first_k, count, chance, above = carry
            for i in range(TERMS):
                k = first_k + i
                count = count + (tail < above).astype(tail.dtype)
                chance = chance * (first + slope * k) * (1 / (k + 1))
                above = above - chance
            return first_k + TERMS, count, chance, jnp.where(is_large, 0.0, above)

        def goes_on(carry):
            return (carry[0] < NUM_TERMS) & jnp.any(tail < carry[3])

        _, count, _, above = jax.lax.while_loop(goes_on, terms, start)
        return count, tail < above

    is_small = ~is_large & (mean > 0)
    small, is_far = jax.lax.cond(
        jnp.any(is_small), inverted, lambda: (nothing, jnp.zeros(tail.shape, bool))
    )
    large = jax.lax.cond(
        jnp.any(is_large | is_far),
        lambda: _cornish_fisher(tail, mean, 1 / (1 - slope)),
        lambda: nothing,
    )
    small = jnp.where(is_far, jnp.maximum(large, float(NUM_TERMS)), small)
    return jnp.maximum(jnp.where(is_large, large, small), 0.0)


def poisson(tail: Real, mean: Real) -> Real:
    """Poisson counts, whole float64, at a uniform upper tail."""
    return _count(tail, -mean, mean, jnp.zeros_like(mean), mean)


def binomial(tail: Real, num: Real, success: Real, failure: Real) -> Real:
    """Successes among `num` (whole float64); `failure` = 1 - `success`, given so that both are exact."""
    is_rare = success <= failure
    rare, common = jnp.where(is_rare, success, failure), jnp.where(is_rare, failure, success)
    odds = rare / common
    count = _count(tail, num * log1p64(-rare), num * odds, -odds, num * rare)
    count = jnp.minimum(count, num)
    return jnp.where(is_rare, count, num - count)


def negative_binomial(tail: Real, num: Real, odds: Real) -> Real:
    """Successes before `num` failures, the sum of `num` geometric laws; `odds` = p/(1 - p), p success.

    For p at most 1/2 or so: a few summands of larger ones are no matter of six cumulants.
    """
    success = odds / (1 + odds)
    return _count(tail, -num * log1p64(odds), num * success, success, num * odds)
