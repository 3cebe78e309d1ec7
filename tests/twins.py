"""Exact laws of many small branching processes at once: what the engines are held against.

NumPy and SciPy only; no table and no equation is read from jaxevo. A division of type i is described by
one tensor, the probability that its two daughters are (j, k), instead of by kinds of steps:

    q_i' = d_i - (b_i + d_i + m_i) q_i + b_i sum_jk B_ijk q_j q_k + sum_j m_ij q_j

backward in time, q = s at the end; a jump makes 1 - kept_i + kept_i q_i of q_i at its moment, and
immigration of n cells of type x at rate r multiplies E[prod_j s_j^X_j] by exp(-integral r (1 - q_x^n)).
Athreya & Ney 1972, Branching Processes, chapter V.7; Kendall 1948, 10.1214/aoms/1177730285. Days,
rates per day, cells. All models are integrated together, each on its own clock, in shares of a segment.
"""

from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

LARGEST = 30.0  # of one cell's generating function at s > 1


class Twin(NamedTuple):
    """Models with tables that are constant in each segment."""

    duration: np.ndarray  # [model, segment] days
    birth: np.ndarray  # [model, segment, type] 1/day
    death: np.ndarray  # [model, segment, type] 1/day
    daughters: np.ndarray  # [model, segment, type, type, type] probability of two ordered daughters
    conversion: np.ndarray  # [model, segment, type, type] from, to; 1/day; diagonal 0
    kept: np.ndarray  # [model, segment, type] survival of the jump at the start of the segment
    founders: np.ndarray  # [model, type] cells
    immigration: np.ndarray  # [model] events per day
    immigrant: np.ndarray  # [model] type
    batch: np.ndarray  # [model] cells per event

    @property
    def num_types(self) -> int:
        """Types of a model."""
        return self.founders.shape[1]


def daughters(mutation, asymmetric, symmetric, is_both: bool) -> np.ndarray:
    """Probability [..., i, j, k] that a dividing i has daughters j and k, from tables [..., i, j].

    A mutation changes one daughter, or each of the two on its own; an asymmetric differentiation
    changes one, a symmetric one both; a division that differentiates does not mutate.
    """
    mutation, asymmetric, symmetric = (
        np.asarray(x, float) for x in (mutation, asymmetric, symmetric)
    )
    unit = np.eye(mutation.shape[-1])
    one = np.einsum("ij,...ik->...ijk", unit, asymmetric + (0 if is_both else mutation))
    two = np.einsum("...ij,jk->...ijk", symmetric, unit)
    rest = 1 - asymmetric.sum(-1) - symmetric.sum(-1)
    lost = mutation.sum(-1)
    if is_both:
        daughter = unit * (1 - lost)[..., None] + mutation
        alike = rest[..., None, None] * daughter[..., :, None] * daughter[..., None, :]
    else:
        alike = (rest - lost)[..., None, None] * unit[:, :, None] * unit[:, None, :]
    return one + two + alike


def stacked(twins: list[Twin]) -> Twin:
    """Many twins as one; types and segments that a model lacks are added without rates or length."""
    types = max(t.num_types for t in twins)
    segments = max(t.duration.shape[1] for t in twins)

    def filled(values: np.ndarray, axes: str) -> np.ndarray:
        sizes = {"m": len(values), "s": segments, "t": types}
        wide = np.zeros([sizes[a] for a in axes])
        wide[tuple(slice(n) for n in values.shape)] = values
        return wide

    axes = Twin("ms", "mst", "mst", "msttt", "mstt", "mst", "mt", "m", "m", "m")
    joined = Twin(
        *(
            np.concatenate([filled(x, axis) for x in column])
            for axis, column in zip(axes, zip(*twins, strict=True), strict=True)
        )
    )
    return joined._replace(
        kept=np.where(joined.duration[:, :, None] > 0, joined.kept, 1.0),
        immigrant=joined.immigrant.astype(int),
    )


def backward(twin: Twin, s: np.ndarray, tolerance: float = 1e-12) -> tuple[np.ndarray, np.ndarray]:
    """Generating functions at s [model, point, type], real or complex.

    Where a real s above 1 has no finite expectation (or one above `LARGEST`), infinity is returned.

    Returns:
        E[prod_j s_j^X_j] of one cell of each type at day 0, [model, point, type], and of the whole
        tumor with its founders and immigrants, [model, point].
    """
    num_models, num_points, num_types = s.shape
    q = np.asarray(s)
    exponent = np.zeros((num_models, num_points, 1), q.dtype)
    at = np.arange(num_models)
    batch, rate = twin.batch[:, None], twin.immigration[:, None]
    may_explode = not np.iscomplexobj(q) and bool(np.any(q > 1))
    is_finite = np.ones((num_models, num_points), bool)
    for segment in range(twin.duration.shape[1])[::-1]:
        length = twin.duration[:, segment, None, None]
        b, d = twin.birth[:, segment, None, :], twin.death[:, segment, None, :]
        m = twin.conversion[:, segment]
        loss = b + d + m.sum(-1)[:, None, :]
        pairs = twin.daughters[:, segment].reshape(num_models, num_types**2, num_types)

        def slope(_, y, length=length, b=b, d=d, m=m, loss=loss, pairs=pairs):
            y = y.reshape(num_models, num_points, num_types + 1)
            q = y[..., :-1]
            across = q.swapaxes(1, 2)
            inner = (pairs @ across).reshape(num_models, num_types, num_types, num_points)
            born = (inner * across[:, None]).sum(2).swapaxes(1, 2)
            slopes = d - loss * q + b * born + q @ m.swapaxes(1, 2)
            if may_explode:  # in finite time: slowed down where it does not matter any more
                slopes = slopes / (1 + (np.max(q, axis=-1, keepdims=True) / (300 * LARGEST)) ** 4)
            arrivals = rate * (1 - q[at, :, twin.immigrant] ** batch)
            return (length * np.concatenate([slopes, arrivals[..., None]], axis=-1)).ravel()

        y = np.concatenate([q, exponent], axis=-1).ravel()
        solved = solve_ivp(slope, (0, 1), y, "DOP853", rtol=tolerance, atol=tolerance / 100)
        y = solved.y[:, -1].reshape(num_models, num_points, num_types + 1)
        kept = twin.kept[:, segment, None, :]
        q, exponent = 1 - kept + kept * y[..., :-1], y[..., -1:]
        if may_explode:
            is_finite &= q.max(axis=-1) < LARGEST
            q = np.minimum(q, LARGEST)
    with np.errstate(over="ignore"):
        whole = np.prod(q ** twin.founders[:, None, :], axis=-1) * np.exp(-exponent[..., 0])
    return q, np.where(is_finite, whole, np.inf)


def generating_function(twin: Twin, s: np.ndarray, tolerance: float = 1e-12) -> np.ndarray:
    """E[prod_j s_j^X_j] of the whole tumor, [model, point]."""
    return backward(twin, s, tolerance)[1]


def moments(twin: Twin, tolerance: float = 1e-12) -> tuple[np.ndarray, np.ndarray]:
    """Means [model, type] and covariances [model, type, type] at the end."""
    return list(moments_along(twin, tolerance))[-1]


def moments_along(twin: Twin, tolerance: float = 1e-12):
    """Means and covariances at the end of each segment, forward in time.

    E' = A^T E + r n e_x,  V' = A^T V + V A + sum_i E_i D_i + r n^2 e_x e_x^T, D_i the sum over the
    events of a cell of type i of rate times change times change^T; a jump keeps each cell on its own.
    """
    num_models, k = twin.founders.shape
    unit, at = np.eye(k), np.arange(num_models)
    source = np.zeros((num_models, k))
    source[at, twin.immigrant] = twin.immigration * twin.batch
    squared = np.zeros((num_models, k, k))
    squared[at, twin.immigrant, twin.immigrant] = twin.immigration * twin.batch**2
    mean, covariance = twin.founders.astype(float), np.zeros((num_models, k, k))
    # change of the counts when i has daughters j and k, times itself: [i, j, k, type, type]
    change = unit[:, None] + unit[None, :] - unit[:, None, None]
    change = change.reshape(k, k * k, k)
    moved = unit[None, :] - unit[:, None]
    square = lambda x: (x[..., :, None] * x[..., None, :]).reshape(k, -1, k * k)  # noqa: E731
    over = lambda rates, table: np.moveaxis(np.moveaxis(rates, 1, 0) @ table, 0, 1)  # noqa: E731
    for segment, length in enumerate(twin.duration.T):
        kept = twin.kept[:, segment]
        covariance = kept[:, :, None] * covariance * kept[:, None, :]
        covariance = covariance + unit * (kept * (1 - kept) * mean)[:, :, None]
        mean = kept * mean
        b, d, m = twin.birth[:, segment], twin.death[:, segment], twin.conversion[:, segment]
        pairs = twin.daughters[:, segment].reshape(num_models, k, k * k)
        births = b[..., None] * pairs
        generator = over(births, change) + over(m, moved) - d[..., None] * unit
        noise = over(births, square(change)) + over(m, square(moved))
        noise = noise.reshape(num_models, k, k, k)
        noise += d[..., None, None] * unit[:, :, None] * unit[:, None, :]
        flat = noise.reshape(num_models, k, k * k)

        def slope(_, y, length=length, generator=generator, flat=flat):
            y = y.reshape(num_models, k, k + 1)
            mean, covariance = y[..., 0], y[..., 1:]
            spread = covariance @ generator
            first = (mean[:, None] @ generator)[:, 0] + source
            second = spread + spread.swapaxes(1, 2) + squared
            second = second + (mean[:, None] @ flat).reshape(second.shape)
            slopes = np.concatenate([first[..., None], second], axis=-1)
            return (length[:, None, None] * slopes).ravel()

        y = np.concatenate([mean[..., None], covariance], axis=-1).ravel()
        solved = solve_ivp(slope, (0, 1), y, "DOP853", rtol=tolerance, atol=tolerance)
        y = solved.y[:, -1].reshape(num_models, k, k + 1)
        mean, covariance = y[..., 0], y[..., 1:]
        yield mean, covariance
