"""Pattern: the decisions of a schedule, and the amounts of an arm that follow from them.

    amount_e = weight_e x_{v(e)},      low_v <= x_v <= high_v

x are the variables: a dose (mg) or a level (uM) of one drug in one cycle, which several entries of the
arm may share (five days in a row; a half at the weekend). Searches run in u = (x - low)/(high - low).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxevo.engines.sampling import threefry, uniform64
from jaxevo.state import Array

PURPOSE = 0x0971A123  # of these words, among all that a seed gives


class Pattern(NamedTuple):
    """Decision variables and what each entry of an arm makes of them."""

    weight: Float[np.ndarray, " entry"]  # amount of an entry per unit of its variable
    variable: Int[np.ndarray, " entry"]  # index of its variable
    low: Float[np.ndarray, " variable"]  # mg or uM
    high: Float[np.ndarray, " variable"]
    drug: Int[np.ndarray, " variable"]
    cycle: Int[np.ndarray, " variable"]

    def amounts(self, variables: Float[Array, " variable"]) -> Float[Array, " entry"]:
        """Amounts of all entries, in the order of the arm: doses (mg), then levels (uM)."""
        return jnp.asarray(self.weight) * jnp.asarray(variables)[self.variable]

    def of_unit(self, unit: Float[Array, "*start variable"]) -> Float[Array, "*start variable"]:
        """Variables at a place of the unit box."""
        low, width = jnp.asarray(self.low), jnp.asarray(self.high - self.low)
        return low + unit * width if unit.ndim == 1 else low[None] + unit * width[None]

    def to_unit(self, variables: np.ndarray) -> np.ndarray:
        """The place of variables in the unit box, to which they are cut; NumPy, any leading axes."""
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        return np.clip((np.asarray(variables, float) - self.low) / width, 0.0, 1.0)


def one_by_one(drug: np.ndarray, high: np.ndarray, cycle: np.ndarray | None = None) -> Pattern:
    """Every entry its own variable, from 0 to `high`.

    Args:
        drug: [entry] index.
        high: [entry] largest amount, mg or uM.
        cycle: [entry] in which each is, default: entries of a drug in their order.
    """
    drug, high = np.asarray(drug, int), np.asarray(high, float)
    if cycle is None:
        cycle = np.array([int(np.sum(drug[:k] == d)) for k, d in enumerate(drug)], int)
    each = np.arange(len(drug))
    return Pattern(np.ones(len(drug)), each, np.zeros(len(drug)), high, drug, np.asarray(cycle))


def check(pattern: Pattern) -> None:
    """Refuse what no search can run on.

    Raises:
        ValueError: bounds cross or are not finite, or an entry names no variable.
    """
    num = len(pattern.low)
    wrong = np.flatnonzero(~(np.isfinite(pattern.low) & (pattern.low <= pattern.high)))
    wrong = np.union1d(wrong, np.flatnonzero(~np.isfinite(pattern.high)))
    if len(wrong):
        k = int(wrong[0])
        raise ValueError(
            f"variable {k} may be from {pattern.low[k]:g} to {pattern.high[k]:g}; "
            "expected finite bounds, the lower first"
        )
    if len(pattern.variable) and not (0 <= pattern.variable.min() <= pattern.variable.max() < num):
        raise ValueError(f"an entry names a variable that is not among the {num} of the pattern")


def single_drugs(pattern: Pattern, share: float = 1.0) -> Float[np.ndarray, "drug variable"]:
    """Each drug alone at a share of its maximum, the others as low as may be."""
    reach = pattern.low + share * (pattern.high - pattern.low)
    drugs = np.unique(pattern.drug)[:, None]
    return np.where(pattern.drug[None] == drugs, reach[None], pattern.low[None])


def random(pattern: Pattern, seed: int, number: int) -> Float[np.ndarray, "start variable"]:
    """Random variables: in start s a share (s + uniform)/number of them is raised, uniformly.

    So some starts have few pulses and some have many; all are wide. Call under x64.
    """
    num = len(pattern.low)
    index = np.arange(number * (2 * num + 1), dtype=np.uint32)
    key = (jnp.uint32(seed & 0xFFFFFFFF), jnp.uint32((seed >> 32) ^ PURPOSE))
    words = threefry(key, (jnp.asarray(index), jnp.zeros(len(index), jnp.uint32)))
    drawn = np.asarray(uniform64(words)).reshape(number, 2 * num + 1)
    share = (np.arange(number)[:, None] + drawn[:, :1]) / max(number, 1)
    raised = drawn[:, 1 : num + 1] <= share
    unit = np.where(raised, drawn[:, num + 1 :], 0.0)
    return pattern.low + unit * (pattern.high - pattern.low)
