"""Random words and integer thresholds that stay right at probabilities of 1e-12.

Words come from threefry2x32 with 20 rounds (Salmon et al. 2011, doi:10.1145/2063384.2063405), the
cipher of `jax.random`, written out so that XLA on CPU vectorizes it. A word is a pure function of
(key, counter): the order in which words are asked for changes nothing.

A probability p becomes the integer p * 2^64, held as two uint32 (high, low), and an event happens
when a random 64-bit integer lies below it. Comparing integers keeps rare events right: the float32
comparison `uniform() < 1e-9` fires more than a hundred times too often.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

Words = UInt32[Array, "..."]

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
