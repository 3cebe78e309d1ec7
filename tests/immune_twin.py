"""Tumor and immune cells of one site, event by event, in plain NumPy: the law that engines answer to.

Cells divide at b, die at d and by effectors at n B(M) E/(1 + T/h); E and M follow their differential
equations between events (Runge-Kutta over each wait). Exact by thinning (Lewis & Shedler 1979,
10.1002/nav.3800260304): candidates come at the rate T (b + d + n E_max), and one is an event with
probability true rate over that. E never passes E_max = max(E_0, s/(d_E - p)), which needs p < d_E.
"""

from typing import NamedTuple

import numpy as np


class Engaged(NamedTuple):
    """Rates in 1/day, cells; `cell.immune` has the symbols."""

    birth: float
    death: float
    kill: float  # n
    kill_half: float  # h
    influx: float  # s
    recruitment: float  # p
    recruitment_half: float  # g
    exhaustion: float  # m
    loss: float  # d of effectors
    effectors: float  # at the start
    attraction: float  # r of suppressors
    attraction_half: float  # g_M
    suppressor_loss: float
    half: float  # M50

    @property
    def most_effectors(self) -> float:
        return max(self.effectors, self.influx / (self.loss - self.recruitment))

    def slope(self, y: np.ndarray, t: np.ndarray) -> np.ndarray:
        """E' and M' at T cells, [2, tumor]."""
        e, m = y
        recruited = self.recruitment / (1 + m / self.half) * e * t / (self.recruitment_half + t)
        gain = self.influx + recruited - (self.exhaustion * t + self.loss) * e
        drawn = self.attraction * t / (self.attraction_half + t)
        return np.stack([gain, drawn - self.suppressor_loss * m])


def simulate(law: Engaged, founders: int, days: float, num: int, seed: int) -> np.ndarray:
    """T, E and M of many tumors after some days, [3, tumor]."""
    rng = np.random.default_rng(seed)
    count = np.full(num, founders)
    immune = np.tile([[law.effectors], [0.0]], num)
    left = np.full(num, days)
    most = law.birth + law.death + law.kill * law.most_effectors
    going = np.arange(num)
    while len(going):
        t = count[going]
        with np.errstate(divide="ignore"):
            wait = rng.exponential(size=len(going)) / (most * t)
        wait = np.minimum(wait, 0.05)  # so short that the equations are solved to rounding
        is_candidate = (wait < 0.05) & (wait < left[going])
        wait = np.minimum(wait, left[going])
        y = immune[:, going]
        k1 = law.slope(y, t)
        k2 = law.slope(y + wait / 2 * k1, t)
        k3 = law.slope(y + wait / 2 * k2, t)
        k4 = law.slope(y + wait * k3, t)
        y = y + wait / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        immune[:, going] = y
        killing = law.kill / (1 + y[1] / law.half) * y[0] / (1 + t / law.kill_half)
        dice = rng.random(len(going)) * most
        change = np.where(
            dice < law.birth, 1, np.where(dice < law.birth + law.death + killing, -1, 0)
        )
        count[going] += np.where(is_candidate, change, 0)
        left[going] -= wait
        going = going[(left[going] > 0) & (count[going] > 0)]
    return np.stack([count, *immune])
