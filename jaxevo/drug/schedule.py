"""Schedule: what is given, when, how fast. First station of the journey; next is `plasma`.

A dose is an amount (mg) given at once or over an infusion; a *level* prescribes a concentration (uM)
between two days instead, for cell culture. An arm's doses cut time into intervals in which every
input is constant:

    t_0 < t_1 < ... : the sync grid, united with every start and end of a dose or level.
"""

from typing import NamedTuple

import numpy as np


class Dose(NamedTuple):
    """One administration. `day` from the start of treatment; `duration` in days, 0 for a bolus.

    An amount per m2 is times the body surface of the patient.
    """

    drug: int
    day: float
    amount_mg: float
    duration: float = 0.0
    is_oral: bool = False
    is_per_m2: bool = False  # amount in mg per m2 of body surface

    def mg(self, surface: float) -> float:
        """The amount in a patient of this body surface (m2)."""
        return self.amount_mg * surface if self.is_per_m2 else self.amount_mg


class Level(NamedTuple):
    """A prescribed concentration of one drug, in uM, from `start` until `end` (days)."""

    drug: int
    start: float
    end: float
    level_um: float


class Inputs(NamedTuple):
    """What enters the body in each interval of one arm's grid (NumPy, float64)."""

    edges: np.ndarray  # [interval + 1] days
    gut_dose: np.ndarray  # [interval, drug] umol, at the start of the interval
    blood_dose: np.ndarray  # [interval, drug] umol, at the start of the interval
    infusion_rate: np.ndarray  # [interval, drug] umol/day, during the interval
    level: np.ndarray  # [interval, drug] uM, during the interval


RESOLUTION = 1e-9  # days; times closer than this are one time


def merge_times(*times: np.ndarray) -> np.ndarray:
    """Sorted union of times (days); of times within `RESOLUTION` the one named first stays."""
    joined = np.concatenate([np.atleast_1d(np.asarray(t, float)) for t in times])
    order = np.argsort(joined, kind="stable")
    is_new = np.concatenate([[True], np.diff(joined[order]) > RESOLUTION])
    return joined[np.minimum.reduceat(order, np.flatnonzero(is_new))]


def inputs(
    doses: tuple[Dose, ...],
    levels: tuple[Level, ...],
    sync_days: np.ndarray,
    molar_mass: np.ndarray,
    bioavailability: np.ndarray,
    body_surface: float = 1.0,
) -> Inputs:
    """Cut time at every start and end, and say what enters in each interval.

    Args:
        doses, levels: of one arm.
        sync_days: [sync] days at which an interval must end, from the first day to the horizon.
        molar_mass: [drug] g/mol.
        bioavailability: [drug] share of an oral dose that reaches the gut compartment, 0..1.
        body_surface: m2, for doses per body surface.

    Returns:
        Inputs from `sync_days[0]` to `sync_days[-1]`; what lies outside is cut off.
    """
    start, horizon = sync_days[0], sync_days[-1]
    times = [dose.day for dose in doses] + [dose.day + dose.duration for dose in doses]
    times += [level.start for level in levels] + [level.end for level in levels]
    inside = [t for t in times if start < t < horizon]
    edges = merge_times(sync_days, np.array(inside))
    middles = (edges[1:] + edges[:-1]) / 2
    shape = (len(middles), len(molar_mass))
    gut, blood, infusion, level_um = (np.zeros(shape) for _ in range(4))
    for dose in doses:
        amount = 1e3 * dose.mg(body_surface) / molar_mass[dose.drug]  # mg -> umol
        if dose.is_oral:
            amount *= bioavailability[dose.drug]
        if dose.duration > RESOLUTION:
            during = (dose.day < middles) & (middles < dose.day + dose.duration)
            infusion[during, dose.drug] += amount / dose.duration
        elif start - RESOLUTION <= dose.day < horizon - RESOLUTION:
            interval = np.argmin(np.abs(edges[:-1] - dose.day))
            (gut if dose.is_oral else blood)[interval, dose.drug] += amount
    for level in levels:
        during = (level.start < middles) & (middles < level.end)
        level_um[during, level.drug] += level.level_um
    return Inputs(edges, gut, blood, infusion, level_um)
