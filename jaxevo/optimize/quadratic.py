"""Quadratic: the step to the least of a quadratic model, among the places that linear limits leave.

    min_x  s x + x B x / 2        within  -u <= x <= 1 - u,   A (u + x) <= c

u a place of the unit box, s the slope there, B what L-BFGS knows of the curvature (Byrd, Nocedal &
Schnabel 1994, doi:10.1007/BF01582063),

    B = t 1 - W N^-1 W',    W = [t S, Y],    N = [[t S'S, L], [L', -D]],    t = y'y/s'y of the last pair

S and Y the moves and the changes of slope, in columns, L the part of S'Y below its diagonal D. A pair of
little curvature is bent so that B stays positive (Powell 1978, doi:10.1007/BFb0067703). The program is solved by a
primal-dual interior point method (Mehrotra 1992, doi:10.1137/0802028), whose linear systems are a diagonal
plus few columns. All of it is NumPy on the host: it costs less than one slope of most goals.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MEMORY = 20  # pairs
ACCURACY = 1e-10  # of the program, relative to its slope
MOST_STEPS = 60  # of the interior point method
LEAST_CURVATURE = 0.2  # of a pair, as a share of what B expected
NEAR, FAR = 1e-3, 0.995  # first slack at least; share of the way to a bound


class Pairs(NamedTuple):
    """Moves and changes of slope, the oldest first, each pair in units of its move."""

    moved: Float[np.ndarray, "pair variable"]
    change: Float[np.ndarray, "pair variable"]

    @classmethod
    def none(cls, num: int) -> "Pairs":
        """No pairs of so many variables."""
        return cls(np.zeros((0, num)), np.zeros((0, num)))

    def extended(self, curve: "Curvature", moved: np.ndarray, change: np.ndarray) -> "Pairs":
        """With one more pair; the oldest is forgotten."""
        expected = curve.times(moved)
        usual, own = moved @ expected, moved @ change
        if own < LEAST_CURVATURE * usual:
            share = (1 - LEAST_CURVATURE) * usual / (usual - own)
            change = share * change + (1 - share) * expected
        size = np.sqrt(moved @ moved)
        rows = (np.concatenate([old, new[None] / size])[-MEMORY:]
                for old, new in ((self.moved, moved), (self.change, change)))  # fmt: skip
        return Pairs(*rows)


class Curvature(NamedTuple):
    """B in compact form."""

    scale: float  # t
    wide: Float[np.ndarray, "variable column"]  # W
    middle: Float[np.ndarray, "column column"]  # N

    @classmethod
    def of(cls, pairs: Pairs) -> "Curvature":
        """What the pairs tell; the unit matrix if there are none."""
        moved, change = pairs
        if not len(moved):
            return cls(1.0, np.zeros((moved.shape[1], 0)), np.zeros((0, 0)))
        product = moved @ change.T
        scale = float(change[-1] @ change[-1] / product[-1, -1])
        below, diagonal = np.tril(product, -1), np.diag(np.diag(product))
        middle = np.block([[scale * moved @ moved.T, below], [below.T, -diagonal]])
        return cls(scale, np.concatenate([scale * moved, change]).T, middle)

    def times(self, x: np.ndarray) -> np.ndarray:
        """B x."""
        found = self.scale * x
        if len(self.middle):
            found = found - self.wide @ np.linalg.solve(self.middle, self.wide.T @ x)
        return found


class Polytope(NamedTuple):
    """Places of the unit box that keep linear limits: rows @ u <= most."""

    rows: Float[np.ndarray, "row variable"]
    most: Float[np.ndarray, " row"]

    def slope(self, unit: np.ndarray, slope: np.ndarray, pressure: np.ndarray) -> float:
        """How far a place is from stationary: the projected slope, and slack of rows with pressure."""
        leaning = slope + pressure @ self.rows
        ahead = np.abs(np.clip(unit - leaning, 0, 1) - unit).max(initial=0.0)
        gap = np.abs(np.minimum(self.most - self.rows @ unit, pressure)).max(initial=0.0)
        return float(max(ahead, gap))

    def nearest(self, place: np.ndarray) -> Float[np.ndarray, " variable"]:
        """The closest place within."""
        none = np.zeros_like(place)
        curve = Curvature.of(Pairs.none(len(place)))
        return np.clip(place + self.step(place, none, curve)[0], 0, 1)

    def step(self, unit, slope, curve: Curvature):
        """The step to the least of the model, [variable], and the pressure of every row, [row]."""
        rows, room = self.rows, self.most - self.rows @ unit
        columns = np.concatenate([curve.wide, rows.T], axis=1)
        num, first = len(unit), curve.wide.shape[1]
        size = max(float(np.abs(slope).max(initial=0.0)), NEAR)
        x = np.clip(np.full(num, 0.5), NEAR, 1 - NEAR) - unit
        slack = [x + unit, 1 - unit - x, np.maximum(room - rows @ x, NEAR)]
        force = [np.full(len(y), size) for y in slack]
        total = sum(map(len, slack))
        best, found = np.inf, (x, force[2])
        for _ in range(MOST_STEPS):
            low, high, row = (z / y for y, z in zip(slack, force, strict=True))
            uphill = slope + curve.times(x) + rows.T @ force[2] - force[0] + force[1]
            over = rows @ x + slack[2] - room
            mean = sum(y @ z for y, z in zip(slack, force, strict=True)) / total
            wrong = max(np.abs(uphill).max(), np.abs(over).max(initial=0.0), mean) / size
            if not np.isfinite(wrong) or (best < 1e-4 and wrong > 3 * best):
                break
            if wrong < best:
                best, found = wrong, (x, force[2])
            if wrong < ACCURACY:
                break
            diagonal = curve.scale + low + high
            thin = columns / diagonal[:, None]
            core = columns.T @ thin
            core[:first, :first] -= curve.middle
            core[first:, first:] += np.diag(1 / row)
            inverse = np.linalg.inv(core) if len(core) else core

            def solved(q, diagonal=diagonal, thin=thin, inverse=inverse):
                return q / diagonal - thin @ (inverse @ (thin.T @ q))

            def whole(x, low=low, high=high, row=row):
                return (low + high) * x + curve.times(x) + rows.T @ (row * (rows @ x))

            def moves(wanted, low=low, high=high, row=row, uphill=uphill, over=over):
                """Changes of x, slacks and forces that bring slack times force to `wanted`."""
                below, above, across = (
                    (w - y * z) / y for w, y, z in zip(wanted, slack, force, strict=True)
                )
                q = -uphill + below - above - rows.T @ (across + row * over)
                dx = solved(q)
                dx = dx + solved(q - whole(dx))
                dy = [dx, -dx, -over - rows @ dx]
                dz = [below - low * dx, above + high * dx, across - row * dy[2]]
                return dx, dy, dz

            _, dy, dz = moves([np.zeros_like(y) for y in slack])
            share = min(1.0, _room(slack, dy), _room(force, dz))
            ahead = sum(
                (y + share * a) @ (z + share * b)
                for y, z, a, b in zip(slack, force, dy, dz, strict=True)
            )
            center = mean * (ahead / total / mean) ** 3
            dx, dy, dz = moves([center - a * b for a, b in zip(dy, dz, strict=True)])
            share = min(1.0, FAR * _room(slack, dy), FAR * _room(force, dz))
            x = x + share * dx
            slack = [y + share * a for y, a in zip(slack, dy, strict=True)]
            force = [z + share * b for z, b in zip(force, dz, strict=True)]
        return np.clip(found[0], -unit, 1 - unit), found[1]


def _room(values, changes) -> float:
    """The share of the changes after which the first value is 0."""
    shares = [
        float(np.min(-v[c < 0] / c[c < 0], initial=np.inf))
        for v, c in zip(values, changes, strict=True)
    ]
    return min(shares)
