"""Small problems with known optima, for the search."""

import itertools
from typing import NamedTuple

import jax
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


def exponential(matrix):
    """e^A for norms up to about 100: Taylor to order 12 of A/2^8, squared eight times."""
    found = unit = jnp.eye(len(matrix))
    for k in range(12, 0, -1):
        found = unit + (matrix / 256) @ found / k
    for _ in range(8):
        found = found @ found
    return found


class Precision(NamedTuple):
    """Beckman, Schemmann & Yeang 2012, doi:10.1073/pnas.1203559109: S, R1, R2, R12 under two drugs."""

    cells: np.ndarray  # [type]
    growth: float  # 1/day
    against: np.ndarray  # [type, drug] 1/day at the full dose
    to_first: float  # S -> R1 per division, and R2 -> R12
    to_second: float  # S -> R2, and R1 -> R12

    @classmethod
    def of(cls, s, r1, r2, growth, s_1, s_2, r1_1, r2_2, to_first, to_second) -> "Precision":
        against = np.array([[s_1, s_2], [r1_1, s_2], [s_1, r2_2], [r1_1, r2_2]])
        return cls(np.array([s, r1, r2, 0.0]), growth, against, to_first, to_second)

    def matrix(self, share):
        """Change per day where D1 has this share of the dose and D2 the rest, [to, from]."""
        moves = np.zeros((4, 4))
        moves[1, 0] = moves[3, 2] = self.to_first
        moves[2, 0] = moves[3, 1] = self.to_second
        grown = jnp.asarray((np.eye(4) + moves) * self.growth)
        lost = jnp.asarray(self.against) @ jnp.stack([share, 1 - share])
        return grown - jnp.diag(lost)

    def course(self, shares, window: int = 45):
        """Cells on every day; a type below one cell stands still (asked once a day)."""

        def day(x, share):
            moving = (x >= 1).astype(x.dtype)
            x = exponential(self.matrix(share) * moving[None]) @ x
            return x, x

        return jax.lax.scan(day, jnp.asarray(self.cells), jnp.repeat(shares, window))[1]

    def goal(self) -> Plain:
        """ln of all cells on the last day, after a cure with a bonus for every day since."""
        return Plain(lambda shares: outcome(self.course(shares)))

    def goal_on(self, levels: tuple[float, ...], window: int = 45) -> Plain:
        """The same for shares among a few levels, from a table of what a day does."""
        masks = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=4)))
        matrices = jnp.stack([self.matrix(jnp.asarray(share)) for share in levels])
        of_day = jax.jit(jax.vmap(jax.vmap(exponential)))(
            matrices[:, None] * masks[None, :, None, :]
        )
        weight = jnp.asarray([8, 4, 2, 1])

        def value(shares):
            index = jnp.argmin(jnp.abs(shares[:, None] - jnp.asarray(levels)[None]), axis=1)

            def day(x, level):
                x = of_day[level, jnp.sum(weight * (x >= 1).astype(weight.dtype))] @ x
                return x, x

            return outcome(jax.lax.scan(day, jnp.asarray(self.cells), jnp.repeat(index, window))[1])

        return Plain(value)


def outcome(cells):
    """Of a course, [day, type]."""
    is_cured = jnp.all(cells < 1, axis=1)
    days = jnp.sum(is_cured.astype(cells.dtype))
    return jnp.log(jnp.sum(cells[-1]) + 1e-3) - 0.01 * days


def random_precision(seed: int) -> Precision:
    """Two drugs that neither cure alone; no two instances alike."""
    rng = np.random.default_rng(seed)
    growth = rng.uniform(0.02, 0.08)
    one, two = rng.uniform(1.0, 4.0, 2) * growth
    return Precision.of(
        10 ** rng.uniform(8, 10), 10 ** rng.uniform(1, 5), 10 ** rng.uniform(1, 5), growth,
        one, two, one * rng.uniform(0, 0.4), two * rng.uniform(0, 0.4),
        10 ** rng.uniform(-8, -4), 10 ** rng.uniform(-8, -4),
    )  # fmt: skip


def of_windows(number: int = 8) -> Pattern:
    """The share of D1 in each window."""
    return one_by_one(np.zeros(number, int), np.ones(number))


def exhaustive(goal: Plain, levels, number: int = 8) -> tuple[float, np.ndarray]:
    """The best of all sequences; call under x64."""
    every = np.array(list(itertools.product(levels, repeat=number)))
    values = jax.jit(lambda x: jax.lax.map(goal.value, x, batch_size=243))(jnp.asarray(every))
    best = int(np.argmin(values))
    return float(values[best]), every[best]


def two_phases(strength: float, pieces: int = 70) -> tuple[Plain, Pattern]:
    """E13 (b), r = 1: cells in G1 and S/G2 under cisplatin c and paclitaxel p, Runge-Kutta."""
    days, inner = 7 / pieces, 4

    def change(x, dose):
        a, b, _ = x
        c, p = dose
        return jnp.stack([
            2 * (1 - p) * b - a * (1 - c) - strength * c * a,
            -(1 - p) * b + a * (1 - c) - strength * p * b,
            (a**2 + b**2 + 0.1 * c**2 + 0.1 * p**2) / 2,
        ])  # fmt: skip

    def step(x, dose):
        for _ in range(inner):
            h = days / inner
            one = change(x, dose)
            two = change(x + h / 2 * one, dose)
            three = change(x + h / 2 * two, dose)
            four = change(x + h * three, dose)
            x = x + h / 6 * (one + 2 * two + 2 * three + four)
        return x, None

    def value(doses):
        start = jnp.asarray([1.0, 1.0, 0.0])
        return jax.lax.scan(step, start, doses.reshape(2, pieces).T)[0][2]

    drug = np.repeat([0, 1], pieces)
    return Plain(value), one_by_one(drug, np.ones(2 * pieces))
