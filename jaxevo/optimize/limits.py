"""Limits: what the body may be given, as g(amounts) <= 0, in units of the bound.

    total         sum / bound - 1
    neutrophils   ln(bound / lowest count) in every day of the course (`host`): the logarithm, so that
                  the slope does not vanish where the marrow is all but gone; days, so that no row has
                  two minima and a kink where the other becomes the lower

All rows of the marrow's limit have their slopes in one pass: with y_i the cells of the marrow at the start
of interval i, c_i the levels of the drugs in it and a the amounts,

    dy_{i+1}/da = A_i dy_i/da + B_i dc_i/da,        A_i = dy_{i+1}/dy_i,   B_i = dy_{i+1}/dc_i

where A_i and B_i of all intervals are found side by side, and dc_i/da does not depend on a. Only the
directions of a that a search asks for are followed.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo import host
from jaxevo.engines import objective
from jaxevo.engines.base import Arm, Problem
from jaxevo.state import Array

DAY = 1.0  # longest interval of the marrow, over parts of which drug effects are averaged


class Limit(NamedTuple):
    """A constraint g(amounts) <= 0 with one or more rows, dimensionless: 0.1 is 10 % too much."""

    name: str
    value: Callable[[Float[Array, " entry"]], Float[Array, " row"]]
    share: Float[np.ndarray, "row entry"] | None = None  # where g = share @ amounts - 1
    slopes: Callable[[Float[np.ndarray, "entry direction"]], "Sloped"] | None = None  # `along`

    def along(self, directions: Float[np.ndarray, "entry direction"]) -> "Sloped":
        """g [row] and its derivatives along directions [row, direction], as a function of the amounts."""
        if self.slopes is not None:
            return self.slopes(directions)
        if self.share is not None:
            fixed = self.share @ directions
            return lambda amounts: (self.value(amounts), jnp.asarray(fixed))
        by_amount = jax.jacrev(self.value)
        return lambda amounts: (self.value(amounts), by_amount(amounts) @ jnp.asarray(directions))


Sloped = Callable[[Float[Array, " entry"]], tuple[Array, Array]]


def total(name: str, weight: np.ndarray, most: np.ndarray) -> Limit:
    """Weighted sums of the amounts, each at most its bound: g = sum / bound - 1.

    Args:
        name: as it is reported.
        weight: [row, entry] such as 1 for every dose (mg) of a drug, or days for a level (uM).
        most: [row] > 0.
    """
    weight, most = np.atleast_2d(np.asarray(weight, float)), np.atleast_1d(np.asarray(most, float))
    if not np.all(most > 0):
        raise ValueError(f"limit {name!r} allows {most.min():g}; expected a total above 0")
    share = weight / most[:, None]

    def value(amounts):
        return jnp.asarray(share) @ amounts - 1

    return Limit(name, value, share)


def per_cycle(name: str, group: np.ndarray, most: float, weight: np.ndarray | None = None) -> Limit:
    """The same bound for the sum over each group of entries; entries of group -1 do not count."""
    group = np.asarray(group, int)
    rows = np.unique(group[group >= 0])
    counted = (group[None] == rows[:, None]).astype(float)
    counted = counted if weight is None else counted * np.asarray(weight, float)[None]
    return total(name, counted, np.full(len(rows), most))


def neutrophils(problem: Problem, arm: Arm, least: float, patient: int = 0) -> Limit:
    """Neutrophils of one patient are never below `least` (1e9/L), in every day of the course.

    Raises:
        ValueError: the study has no marrow, or `least` is not between 0 and its baseline.
    """
    if not problem.hosts:
        raise ValueError("a limit on neutrophils needs a marrow; give the study a [host]")
    own = jax.tree.map(lambda x: np.asarray(x, float), problem.host_of(patient, arm))
    if not 0 < least < float(own.baseline):
        raise ValueError(
            f"neutrophils are to stay above {least:g}; expected a level between 0 and the baseline "
            f"{float(own.baseline):g} (1e9/L)"
        )
    pumps = problem.models[patient].cellular.transport
    given = objective.blood(problem._replace(arms=(arm,)), 0, patient, DAY)
    longest = float(given.duration.max())

    def interval(cells, blood, duration):
        """Cells [compartment] after an interval, and the lowest count of neutrophils in it."""
        marrow, transport = jax.tree.map(jnp.asarray, (own, pumps))
        now = dataclasses.replace(
            host.start(marrow), proliferating=cells[0], transit=cells[1:4], circulating=cells[4],
            lowest=cells[4],
        )  # fmt: skip
        after = host.advance(marrow, transport, now, blood, duration, longest)
        compartments = (after.proliferating, *after.transit, after.circulating)
        return jnp.stack(compartments), after.lowest

    def course(amounts):
        """Levels in blood, and cells at the start and the lowest count of every interval."""
        levels = given.level(amounts)
        first = jnp.full(5, jnp.asarray(own.baseline))

        def onward(cells, given):
            after, lowest = interval(cells, *given)
            return after, (cells, lowest)

        _, found = jax.lax.scan(onward, first, (levels, jnp.asarray(given.duration)))
        return levels, *found

    def value(amounts):
        return jnp.log(least) - jnp.log(course(amounts)[2])

    def slopes(directions):
        with jax.enable_x64(True):  # levels are linear in the amounts
            of_levels = np.asarray(jax.vmap(given.level, 1, -1)(jnp.asarray(directions)))

        def onward(cells, parts):
            (by_cells, by_level), (low_by_cells, low_by_level), of_level = parts
            after = by_cells @ cells + jnp.tensordot(by_level, of_level, 2)
            return after, low_by_cells @ cells + jnp.tensordot(low_by_level, of_level, 2)

        def both(amounts):
            levels, cells, lowest = course(amounts)
            of_interval = jax.vmap(jax.jacrev(interval, (0, 1)))
            after, low = of_interval(cells, levels, jnp.asarray(given.duration))
            first = jnp.zeros((cells.shape[1], directions.shape[1]))
            _, found = jax.lax.scan(onward, first, (after, low, jnp.asarray(of_levels)))
            return jnp.log(least) - jnp.log(lowest), -found / lowest[:, None]

        return both

    name = "neutrophils" if patient == 0 else f"neutrophils of patient {patient}"
    return Limit(name, value, slopes=slopes)


def joined(limits: tuple[Limit, ...]) -> Callable[[Float[Array, " entry"]], Float[Array, " row"]]:
    """All rows of all limits one below the other."""

    def value(amounts):
        return jnp.concatenate([jnp.zeros(0), *(limit.value(amounts) for limit in limits)])

    return value


def rows_of(limits: tuple[Limit, ...], amounts: np.ndarray) -> dict[str, slice]:
    """Where the rows of each limit stand among all."""
    found, first = {}, 0
    for limit in limits:
        number = len(np.asarray(limit.value(jnp.asarray(amounts))))
        found[limit.name] = slice(first, first + number)
        first += number
    return found
