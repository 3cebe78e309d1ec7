"""Limits: what the body may be given, as g(amounts) <= 0, in units of the bound.

    total         sum / bound - 1
    neutrophils   ln(bound / lowest count) in every week of the course (`host`), so that the slope does
                  not vanish where the marrow is all but gone; drug effects are averaged over days

The course of the marrow is differentiated in reverse mode; the steps of an interval are computed again
on the way back, so that memory grows with the number of intervals, not of steps.
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

DAY, WEEK = 1.0, 7.0  # days of an interval of the marrow, and of a row of its limit


class Limit(NamedTuple):
    """A constraint g(amounts) <= 0 with one or more rows, dimensionless: 0.1 is 10 % too much."""

    name: str
    value: Callable[[Float[Array, " entry"]], Float[Array, " row"]]
    share: Float[np.ndarray, "row entry"] | None = None  # where g = share @ amounts - 1


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
    """Neutrophils of one patient are never below `least` (1e9/L), in every week of the course.

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
    model = problem.models[patient]
    given = objective.blood(problem._replace(arms=(arm,)), 0, patient, DAY)
    longest = float(given.duration.max())
    week = (given.start + 1e-9) // WEEK
    is_first = np.append(True, np.diff(week) > 0)
    lasts = np.append(np.flatnonzero(is_first)[1:], len(week)) - 1

    @jax.checkpoint
    def interval(now, blood, duration, is_first):
        lowest = jnp.where(is_first, now.circulating, now.lowest)
        fresh = dataclasses.replace(now, lowest=lowest)
        marrow, pumps = jax.tree.map(jnp.asarray, (own, model.cellular.transport))
        after = host.advance(marrow, pumps, fresh, blood, duration, longest)
        return after, after.lowest

    def value(amounts):
        first = host.start(jax.tree.map(jnp.asarray, own))
        steps = (given.level(amounts), jnp.asarray(given.duration), jnp.asarray(is_first))
        _, lowest = jax.lax.scan(lambda now, x: interval(now, *x), first, steps)
        return jnp.log(least) - jnp.log(lowest[lasts])

    return Limit("neutrophils" if patient == 0 else f"neutrophils of patient {patient}", value)


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
