"""The exponential of a matrix, by Taylor's series with scaling and squaring.

    e^A = (T_18(A / 2^s))^(2^s),        s the least with ||A||_inf / 2^s <= 1

The rest of the series is then below 1/19! = 8e-18. There is no linear system to solve, for a reason:
`jax.scipy.linalg.expm` calls LAPACK, and in jaxlib 0.10 two batched factorizations of one program on
a CPU with two cores can wait for each other for ever.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array

ORDER = 18
MAX_SQUARINGS = 48


def exponential(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """e^A; differentiable in both modes. Norms up to 2^48."""
    size = jnp.max(jnp.sum(jnp.abs(matrix), axis=1))
    squarings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(size, 1.0))), 0, MAX_SQUARINGS)
    scaled = matrix * jnp.exp2(-squarings)
    unit = jnp.eye(matrix.shape[0], dtype=matrix.dtype)

    def term(k, found):
        return unit + (scaled @ found) / (ORDER - k)

    series = jax.lax.fori_loop(0, ORDER, term, unit)

    def square(k, found):
        return jnp.where(k < squarings, found @ found, found)

    return jax.lax.fori_loop(0, MAX_SQUARINGS, square, series)
