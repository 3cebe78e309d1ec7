"""Effects: how much a combination does, and how much more than its parts, with standard errors.

    V = n/n_0                       viability: mean living cells over those without agents
    h = ln(n_0/n)/days              hazard, 1/day: by how much the net growth rate is lower
    Bliss excess of V               prod V_i - V: above 0 where fewer cells are left than expected
    Bliss excess of h               h - sum h_i: above 0 where growth is slower than expected

over the agents i of the combination, each alone at its level. Of independent agents the shares that are
left multiply (Bliss 1939, doi:10.1111/j.1744-7348.1939.tb06990.x), which is the same as that hazards
add: V = exp(-h days).

A statistic is a function of means over replicates, and replicates are independent. What one replicate
moves it by, to first order, is its *influence*; the standard error is that of the mean influence (the
infinitesimal jackknife; Efron 1982, doi:10.1137/1.9781611970319). Combinations share their replicates, so
that what they have in common cancels in it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxevo.screen.design import ScreenPlan
from jaxevo.screen.follow import Screened


class Estimate(NamedTuple):
    """A statistic, and what each replicate moves it by; influences have mean 0."""

    value: Float[np.ndarray, "*what"]
    influence: Float[np.ndarray, "*what replicate"]

    @property
    def error(self) -> Float[np.ndarray, "*what"]:
        """Standard error; NaN of a single replicate."""
        num = self.influence.shape[-1]
        if num < 2:
            return np.full(self.value.shape, np.nan)
        return np.asarray(np.sqrt((self.influence**2).sum(axis=-1) / (num * (num - 1))))

    def __getitem__(self, which) -> "Estimate":
        return Estimate(self.value[which], self.influence[which])

    def mean(self) -> "Estimate":
        """The mean over all that is not NaN."""
        known = np.isfinite(self.value)
        return Estimate(self.value[known].mean(), self.influence[known].mean(axis=0))


class Effects(NamedTuple):
    """What every combination does to every line, [combination, line]; the first is untreated."""

    viability: Estimate
    hazard: Estimate  # 1/day; infinite where no cell was left in any replicate
    bliss_viability: Estimate  # excess; NaN of what is no combination of agents
    bliss_hazard: Estimate  # excess, 1/day; NaN where no cell was left


def effects(found: Screened, plan: ScreenPlan) -> Effects:
    """Viability, hazard and Bliss excess of all combinations."""
    cells = found.cells.astype(float)
    mean = cells.mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = cells / mean[..., None]  # of the mean; its influence on ln n is one less
        viability = mean / mean[0]
        ratio = Estimate(viability, viability[..., None] * (share - share[0]))
        influence = (share[0] - share) / plan.days
        hazard = Estimate(-np.log(viability) / plan.days, influence)
    nobody = (mean == 0) & (mean[0] > 0)
    ratio.influence[nobody] = 0.0
    parts = parts_of(found.level)
    return Effects(ratio, hazard, _bliss_viability(ratio, parts), _bliss_hazard(hazard, parts))


def parts_of(level: Float[np.ndarray, "combination agent"]) -> Int[np.ndarray, "combination agent"]:
    """For each combination and agent the row of that agent alone at this level; 0, untreated, without."""
    alone = {}
    for i, row in enumerate(level):
        (given,) = np.nonzero(row)
        if len(given) == 1:
            alone[given[0], row[given[0]]] = i
    return np.array(
        [[alone[a, x] if x > 0 else 0 for a, x in enumerate(row)] for row in level], int
    ).reshape(level.shape)


def _bliss_hazard(hazard: Estimate, parts: np.ndarray) -> Estimate:
    with np.errstate(invalid="ignore"):
        value = hazard.value - hazard.value[parts].sum(axis=1)
        influence = hazard.influence - hazard.influence[parts].sum(axis=1)
    return _of_several(Estimate(np.where(np.isfinite(value), value, np.nan), influence), parts)


def _bliss_viability(viability: Estimate, parts: np.ndarray) -> Estimate:
    single, moves = viability.value[parts], viability.influence[parts]  # [combination, agent, line]
    value = single.prod(axis=1) - viability.value
    influence = -viability.influence
    for a in range(parts.shape[1]):
        others = np.delete(single, a, axis=1).prod(axis=1)
        influence = influence + others[..., None] * moves[:, a]
    return _of_several(Estimate(value, influence), parts)


def _of_several(estimate: Estimate, parts: np.ndarray) -> Estimate:
    """NaN where fewer than two agents are given."""
    single = (parts > 0).sum(axis=1) < 2
    value, influence = estimate.value.copy(), estimate.influence.copy()
    value[single], influence[single] = np.nan, np.nan
    return Estimate(value, influence)
