"""Series: the chance p of one cell's descendants as a Taylor series in backward time.

The backward equation (`backward`) is a linear map minus products of linear maps,

    p' = h + (L - h) p - p (C p) - s (D p)^2 - V p^2          (products by type)

with matrices [from, to]. So each Taylor term follows from those before it,

    c_0 = p,    c_{k+1} = t/(k + 1) (L c_k - h c_k - sum_m c_m (C c)_{k-m} - s sum_m (D c)_m (D c)_{k-m}
                                     - V sum_m c_m c_{k-m}),     + t h for k = 0

and sum_k c_k is p after a step of t days (Corliss & Chang 1982, doi:10.1145/355993.355995). Derivatives
in reverse mode go through the same recursion, written out: the last term first.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Scalar

ORDER = 16
LONGEST = 100.0  # a step is lengthened by this factor at most


class Offspring(eqx.Module):
    """The right-hand side; what a network has no use for is None."""

    linear: Float[Array, "*row type type"]  # L, 1/day
    crossed: Float[Array, "*row type type"] | None  # C, 1/day
    squared: Float[Array, "*row type"] | None  # s, 1/day
    daughter: Float[Array, "*row type type"] | None  # D
    doubled: Float[Array, "*row type type"] | None  # V, 1/day


class _Terms(NamedTuple):
    """Taylor terms [order] of p, C p, D p and p^2."""

    p: list
    crossed: list
    daughter: list
    square: list


def change(law: Offspring, p: Float[Array, " type"]) -> Float[Array, " type"]:
    """p' without detection, 1/day."""
    found = jnp.dot(law.linear, p)
    if law.crossed is not None:
        found = found - p * jnp.dot(law.crossed, p)
    if law.daughter is not None and law.squared is not None:
        found = found - law.squared * jnp.dot(law.daughter, p) ** 2
    if law.doubled is not None:
        found = found - jnp.dot(law.doubled, p * p)
    return found


@jax.custom_vjp
def series(
    law: Offspring, p: Float[Array, " type"], hazard: Float[Array, " type"], duration: Scalar
) -> Float[Array, "term type"]:
    """Terms 0 .. ORDER of p over a step of `duration` days; no derivative by the duration.

    Args:
        law: ONE row.
        p: at the end of the step.
        hazard: of detection, 1/day.
        duration: days.
    """
    return jnp.stack(_expand(law, p, hazard, duration).p)


def _blocks(law: Offspring) -> list:
    """The matrices that terms of p are multiplied with."""
    return [x for x in (law.linear, law.crossed, law.daughter) if x is not None]


def _product(a: list, b: list, k: int):
    """Term k of a product."""
    return sum((a[m] * b[k - m] for m in range(1, k + 1)), a[0] * b[k])


def _expand(law: Offspring, p, hazard, duration) -> _Terms:
    num, stacked = p.shape[0], jnp.concatenate(_blocks(law))
    found = _Terms([p], [], [], [])
    for k in range(ORDER):
        y = jnp.dot(stacked, found.p[k])
        parts = [y[i : i + num] for i in range(0, len(stacked), num)]
        flow = parts.pop(0) - hazard * found.p[k]
        if k == 0:
            flow = flow + hazard
        if law.crossed is not None:
            found.crossed.append(parts.pop(0))
            flow = flow - _product(found.p, found.crossed, k)
        if law.daughter is not None and law.squared is not None:
            found.daughter.append(parts.pop(0))
            flow = flow - law.squared * _product(found.daughter, found.daughter, k)
        if law.doubled is not None:
            found.square.append(_product(found.p, found.p, k))
            flow = flow - jnp.dot(law.doubled, found.square[k])
        found.p.append(duration / (k + 1) * flow)
    return found


def _forward(law, p, hazard, duration):
    found = _expand(law, p, hazard, duration)
    return jnp.stack(found.p), (law, hazard, duration, found)


def _backward(saved, cotangent):
    """From the derivatives by the terms to those by everything they were made of.

    Term j of a product has terms k and j - k of its factors, so a factor's term k hears from all j >= k.
    """
    law, hazard, duration, found = saved
    stacked = jnp.concatenate(_blocks(law))
    none = jnp.zeros((ORDER, len(hazard)), hazard.dtype)
    later = lambda terms: jnp.concatenate([none, jnp.stack(terms)])  # noqa: E731
    p, crossed, daughter, square = (later(x[:ORDER]) if x else none for x in found)

    def heard(by_product, factor, k):
        return jnp.sum(by_product * jax.lax.dynamic_slice_in_dim(factor, ORDER - k, ORDER), axis=0)

    def before(i, state):
        by_term, by_flow, by_crossed, by_daughter, by_square = state
        k = ORDER - 1 - i
        put = lambda by, x: jax.lax.dynamic_update_index_in_dim(by, x, k, 0)  # noqa: E731
        flow = duration / (k + 1) * by_term
        by_flow, parts, own = put(by_flow, flow), [flow], -hazard * flow
        if law.crossed is not None:
            parts.append(-heard(by_flow, p, k))
            by_crossed = put(by_crossed, parts[-1])
            own = own - heard(by_flow, crossed, k)
        if law.daughter is not None and law.squared is not None:
            parts.append(-2 * law.squared * heard(by_flow, daughter, k))
            by_daughter = put(by_daughter, parts[-1])
        if law.doubled is not None:
            by_square = put(by_square, -jnp.dot(flow, law.doubled))
            own = own + 2 * heard(by_square, p, k)
        by_term = cotangent[k] + jnp.dot(jnp.concatenate(parts), stacked) + own
        return by_term, by_flow, by_crossed, by_daughter, by_square

    start = (cotangent[ORDER], none, none, none, none)
    by_p, by_flow, by_crossed, by_daughter, _ = jax.lax.fori_loop(0, ORDER, before, start)
    terms, outer = p[ORDER:], lambda by, factor: jnp.dot(by.T, factor)
    twice = [_product(found.daughter, found.daughter, k) for k in range(len(found.daughter))]
    by_law = Offspring(
        outer(by_flow, terms),
        None if law.crossed is None else outer(by_crossed, terms),
        None if law.daughter is None else -jnp.sum(by_flow * jnp.stack(twice), axis=0),
        None if law.daughter is None else outer(by_daughter, terms),
        None if law.doubled is None else -outer(by_flow, square[ORDER:]),
    )
    by_hazard = by_flow[0] - jnp.sum(by_flow * terms, axis=0)
    return by_law, by_p, by_hazard, None


series.defvjp(_forward, _backward)


def reach(terms: Float[Array, "term type"], tolerance: float = 1e-12) -> Scalar:
    """How many times longer a step may be before its last terms are larger than the tolerance.

    Relative to the largest term of every type on its own (Jorba & Zou 2005,
    doi:10.1080/10586458.2005.10128904).
    """
    size = jnp.abs(terms)
    scale = tolerance * jnp.max(size[: ORDER - 1], axis=0)
    reaches = []
    for k in (ORDER - 1, ORDER):
        small = jnp.maximum(size[k], 1e-300)
        longer = jnp.where(size[k] > 0, (scale / small) ** (1 / k), LONGEST)
        reaches.append(jnp.min(longer, initial=LONGEST))
    return jnp.minimum(*reaches)


def error(terms: Float[Array, "term type"]) -> Scalar:
    """The last term, relative to the largest of its type; without derivative."""
    size = jnp.abs(jax.lax.stop_gradient(terms))
    return jnp.max(size[-1] / jnp.maximum(jnp.max(size, axis=0), 1e-300), initial=0.0)
