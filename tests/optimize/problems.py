"""Small problems with known optima, for the search."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxevo.optimize.limits import Limit, total
from jaxevo.optimize.pattern import Pattern, one_by_one


class Plain(NamedTuple):
    """A goal that is a formula."""

    value: object


def hill_pieces(ec50: float, hill: float, pieces: int) -> tuple[Plain, Pattern, Limit]:
    """E13 (a): minus the log-kill of `pieces` doses in 28 d, whose exposure is at most 28."""
    days = 28 / pieces

    def value(level):
        part = jnp.where(level > 0, level, 1.0) ** hill
        return -0.2 * days * jnp.sum(jnp.where(level > 0, part / (part + ec50**hill), 0.0))

    none = np.zeros(pieces, int)
    limit = total("exposure", np.full((1, pieces), days), np.array([28.0]))
    return Plain(value), one_by_one(none, np.full(pieces, 10.0)), limit


def random_convex(seed: int, num: int = 12) -> tuple[Plain, Pattern, Limit, np.ndarray, np.ndarray]:
    """A random positive quadratic form in a box, with two linear limits."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(num, num))
    matrix = root @ root.T / num + 0.1 * np.eye(num)
    center = rng.uniform(-0.3, 1.5, num)
    weight = rng.uniform(0.2, 1.0, (2, num))
    most = weight @ np.clip(center, 0, 1) * np.array([0.6, 0.9])
    goal = Plain(lambda x: (x - center) @ jnp.asarray(matrix) @ (x - center) / 2)
    pattern = one_by_one(np.zeros(num, int), np.ones(num))
    return goal, pattern, total("sums", weight, most), matrix, center
