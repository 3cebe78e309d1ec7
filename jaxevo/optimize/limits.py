"""Limits: what the body may be given, as g(amounts) <= 0, in units of the bound."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.state import Array


class Limit(NamedTuple):
    """A constraint g(amounts) <= 0 with one or more rows, dimensionless: 0.1 is 10 % too much."""

    name: str
    value: Callable[[Float[Array, " entry"]], Float[Array, " row"]]


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

    return Limit(name, value)


def per_cycle(name: str, group: np.ndarray, most: float, weight: np.ndarray | None = None) -> Limit:
    """The same bound for the sum over each group of entries; entries of group -1 do not count."""
    group = np.asarray(group, int)
    rows = np.unique(group[group >= 0])
    counted = (group[None] == rows[:, None]).astype(float)
    counted = counted if weight is None else counted * np.asarray(weight, float)[None]
    return total(name, counted, np.full(len(rows), most))


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
