"""Quadratic: the step to the least of a quadratic model, among the places that linear limits leave.

    min_x  s x + x B x / 2        within  -u <= x <= 1 - u,   A (u + x) <= c

u a place of the unit box, s the slope there, B what L-BFGS knows of the curvature (Byrd, Nocedal &
Schnabel 1994, doi:10.1007/BF01582063),

    B = t 1 - W N^-1 W',    W = [t S, Y],    N = [[t S'S, L], [L', -D]],    t = |y|/|s| of the last pair

S and Y the moves and the changes of slope, in columns, L the part of S'Y below its diagonal D. A pair of
little curvature is bent so that B stays positive (Powell 1978, doi:10.1007/BFb0067703). The
program is solved by a primal-dual interior point method (Mehrotra 1992, doi:10.1137/0802028), whose linear
systems are a diagonal plus few columns. All of it is NumPy on the host, and costs less
than one slope of most goals.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import lu_factor, lu_solve

MEMORY = 20  # pairs
ACCURACY = 1e-11  # of the program, relative to its slope
MOST_STEPS = 60  # of the interior point method
LEAST_CURVATURE = 0.2  # of a pair, as a share of what B expected
ROUGH = 1e-4  # accuracy from which on a step that makes it worse ends the method
FEW = 64  # rows that all count at once
EXCESS = 1e-8  # by which a row is broken that then counts
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
        scale = float(np.sqrt(change[-1] @ change[-1]))
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

    def step(
        self,
        unit: np.ndarray,
        slope: np.ndarray,
        curve: Curvature,
        likely: np.ndarray | None = None,
    ) -> tuple[Float[np.ndarray, " variable"], Float[np.ndarray, " row"]]:
        """The step to the least of the model, and the pressure of every row.

        Of many rows those that are `likely` to press count first, then as well those that the step would
        break more than the rows before and after them.
        """
        room, pressure = self.most - self.rows @ unit, np.zeros(len(self.most))
        counts = np.full(len(room), len(room) <= FEW) | (False if likely is None else likely)
        while True:
            chosen = np.flatnonzero(counts)
            x, pressing = self._least(unit, slope, curve, chosen)
            over = np.where(counts, 0.0, self.rows @ x - room)
            around = np.pad(over, 1, constant_values=-np.inf)
            worst = (over > EXCESS) & (over >= around[:-2]) & (over >= around[2:])
            if not worst.any():
                pressure[chosen] = pressing
                return x, pressure
            counts |= worst

    def _least(self, unit: np.ndarray, slope: np.ndarray, curve: Curvature, chosen: np.ndarray):
        """The same for some of the rows."""
        part = Polytope(self.rows[chosen], self.most[chosen])
        now = _Inner.at(part, unit, slope)
        model = _Model(slope, curve, part.rows, part.most - part.rows @ unit)
        least, found = np.inf, now
        for _ in range(MOST_STEPS):
            wrong = model.residual(now)
            if not np.isfinite(wrong) or (least < ROUGH and wrong > 3 * least):
                break  # rounding has the last word
            if wrong < least:
                least, found = wrong, now
            if wrong < ACCURACY:
                break
            now = model.onward(now)
        return np.clip(found.x, -unit, 1 - unit), found.force[2]


class _Inner(NamedTuple):
    """A point inside: slacks and forces of the lower bounds, the upper bounds and the rows."""

    x: np.ndarray
    slack: tuple[np.ndarray, ...]
    force: tuple[np.ndarray, ...]

    @classmethod
    def at(cls, polytope: Polytope, unit: np.ndarray, slope: np.ndarray) -> "_Inner":
        """In the middle of the box."""
        x = 0.5 - unit
        room = polytope.most - polytope.rows @ unit
        slack = (x + unit, 1 - unit - x, np.maximum(room - polytope.rows @ x, NEAR))
        size = _size(slope)
        return cls(x, slack, tuple(np.full(len(y), size) for y in slack))

    @property
    def mean(self) -> float:
        """Of slack times force."""
        products = [y @ z for y, z in zip(self.slack, self.force, strict=True)]
        return float(sum(products)) / sum(map(len, self.slack))

    def moved(self, share: float, change: "_Inner") -> "_Inner":
        """After a share of a change."""
        add = lambda a, b: tuple(y + share * d for y, d in zip(a, b, strict=True))  # noqa: E731
        x, slack, force = change
        return _Inner(self.x + share * x, add(self.slack, slack), add(self.force, force))

    def room(self, change: "_Inner") -> float:
        """The share of a change after which the first slack or force is 0."""
        shares = [
            float(np.min(-y[d < 0] / d[d < 0], initial=np.inf))
            for y, d in zip(self.slack + self.force, change.slack + change.force, strict=True)
        ]
        return min(shares)


class _Model(NamedTuple):
    """The quadratic program at one place."""

    slope: np.ndarray
    curve: Curvature
    rows: np.ndarray
    room: np.ndarray

    def wrong(self, now: _Inner) -> tuple[np.ndarray, np.ndarray]:
        """What is left of the slope, and by how much slacks of rows are wrong."""
        low, high, row = now.force
        uphill = self.slope + self.curve.times(now.x) + row @ self.rows - low + high
        return uphill, self.rows @ now.x + now.slack[2] - self.room

    def residual(self, now: _Inner) -> float:
        """Largest violation of the conditions of Karush, Kuhn and Tucker, relative to the slope."""
        worst = [np.abs(x).max(initial=0.0) for x in self.wrong(now)]
        return max(*worst, now.mean) / _size(self.slope)

    def onward(self, now: _Inner) -> _Inner:
        """One step of Mehrotra: to the bounds as far as it goes, then with a correction."""
        low, high, row = (z / y for y, z in zip(now.slack, now.force, strict=True))
        uphill, over = self.wrong(now)
        columns = np.concatenate([self.curve.wide, self.rows.T], axis=1)
        diagonal, first = self.curve.scale + low + high, self.curve.wide.shape[1]
        thin = columns / diagonal[:, None]
        core = columns.T @ thin
        core[:first, :first] -= self.curve.middle
        core[first:, first:] += np.diag(1 / row)
        factors = lu_factor(core) if len(core) else None

        def solved(q):
            return q / diagonal - (thin @ lu_solve(factors, q @ thin) if factors else 0.0)

        def change(wanted) -> _Inner:
            """That brings slack times force to what is wanted."""
            below, above, across = (
                (w - y * z) / y for w, y, z in zip(wanted, now.slack, now.force, strict=True)
            )
            q = -uphill + below - above - (across + row * over) @ self.rows
            dx = solved(q)
            left = (
                q - (low + high) * dx - self.curve.times(dx) - (row * (self.rows @ dx)) @ self.rows
            )
            dx = dx + solved(left)
            dy = -over - self.rows @ dx
            return _Inner(
                dx, (dx, -dx, dy), (below - low * dx, above + high * dx, across - row * dy)
            )

        ahead = change([0.0] * 3)
        reached = now.moved(min(1.0, now.room(ahead)), ahead).mean
        center = now.mean * (reached / now.mean) ** 3
        wanted = [center - a * b for a, b in zip(ahead.slack, ahead.force, strict=True)]
        found = change(wanted)
        return now.moved(min(1.0, FAR * now.room(found)), found)


def _size(slope: np.ndarray) -> float:
    return max(float(np.abs(slope).max(initial=0.0)), NEAR)
