"""Neutrophils after docetaxel: three-compartment kinetics, then the marrow.

Friberg et al. 2002, doi:10.1200/JCO.2002.02.140. `counts` is the course by jaxevo's stations and host,
`solved` the same equations written down again, per hour, and integrated by SciPy.
"""

import itertools

import jax
import numpy as np
from scipy.integrate import solve_ivp

from jaxevo import host
from jaxevo.drug.schedule import Dose
from jaxevo.engines.base import Arm
from jaxevo.engines.grid import arm_course, arm_inputs
from jaxevo.host import HostState
from tests import builders

HOURS = 24.0  # in a day
KINETICS = {"k12": 1.06, "k21": 1.51, "k13": 1.26, "k31": 0.084, "k10": 5.2}  # 1/h
VOLUME = 7.4  # L
MOLAR_MASS = 808.0  # g/mol
MARROW = {"baseline": 5.05, "transit_hours": 88.7, "feedback": 0.161, "slope": 8.58}  # 1e9/L, 1/uM

SOON = [
    0.0,
    1 / 24,
    1 / 4,
    *np.geomspace(1 / 1440, 1, 20),
]  # days after a dose: half of it is gone in 5 min

_course = jax.jit(host.course, static_argnums=4)


def syncs(last: float, *doses: float) -> np.ndarray:
    """Whole days up to `last`, and after each dose intervals that grow from a minute to hours."""
    close = [day + soon for day in doses for soon in SOON]
    return np.unique(np.concatenate([np.arange(last + 1), close]))


def counts(
    doses: list[tuple[float, float, float]], sync_days: np.ndarray, longest: float, **marrow: float
) -> tuple[np.ndarray, HostState]:
    """Days at the ends of intervals, and the marrow then.

    Args:
        doses: day, amount (mg) and infusion (days, 0 for a bolus) of each.
        sync_days: [sync] days that end an interval; doses and ends of infusions do as well.
        longest: days, of an interval.
        marrow: published numbers of `MARROW` that are replaced.
    """
    k, numbers = KINETICS, MARROW | marrow
    model = builders.build(
        drugs=("docetaxel",),
        is_prescribed=0.0,
        clearance=HOURS * k["k10"] * VOLUME,
        central_volume=VOLUME,
        peripheral_clearance={
            "docetaxel": {
                "first": HOURS * k["k12"] * VOLUME,
                "second": HOURS * k["k13"] * VOLUME,
            }
        },
        peripheral_volume={
            "docetaxel": {
                "first": k["k12"] / k["k21"] * VOLUME,
                "second": k["k13"] / k["k31"] * VOLUME,
            }
        },
        molar_mass=MOLAR_MASS,
    )
    patient = builders.host(
        model,
        baseline=numbers["baseline"],
        transit_days=numbers["transit_hours"] / HOURS,
        feedback=numbers["feedback"],
        slope=numbers["slope"],
    )
    given = tuple(Dose(0, day, amount, infusion) for day, amount, infusion in doses)
    inputs = arm_inputs(model, Arm("docetaxel", given), sync_days)
    blood = arm_course(model, inputs).blood
    with jax.enable_x64(True):
        pumps, duration = model.cellular.transport, np.diff(inputs.edges)
        found = _course(patient, pumps, blood, duration, longest)
        return inputs.edges, jax.tree.map(np.asarray, found)


def solved(
    doses: list[tuple[float, float, float]], days: np.ndarray, **marrow: float
) -> np.ndarray:
    """Circulating neutrophils (1e9/L) on the days, by LSODA between the starts and ends of doses."""
    k, numbers = KINETICS, MARROW | marrow
    maturing = 4 / numbers["transit_hours"]
    normal = numbers["baseline"]

    def change(_, y, infusion):
        x, x2, x3, p, t1, t2, t3, blood = y
        effect = numbers["slope"] * x / VOLUME
        return [
            infusion + k["k21"] * x2 + k["k31"] * x3 - (k["k10"] + k["k12"] + k["k13"]) * x,
            k["k12"] * x - k["k21"] * x2,
            k["k13"] * x - k["k31"] * x3,
            maturing * p * ((1 - effect) * (normal / blood) ** numbers["feedback"] - 1),
            maturing * (p - t1),
            maturing * (t1 - t2),
            maturing * (t2 - t3),
            maturing * (t3 - blood),
        ]

    breaks = {0.0, float(days[-1])}
    breaks |= {day for day, _, _ in doses} | {day + infusion for day, _, infusion in doses}
    breaks = sorted(breaks)
    y, found = np.array([0.0, 0.0, 0.0] + [normal] * 5), np.full(len(days), np.nan)
    for begin, end in itertools.pairwise(breaks):
        infusion = 0.0
        for day, amount, length in doses:
            umol = 1e3 * amount / MOLAR_MASS
            if length == 0 and day == begin:
                y[0] += umol
            elif day <= begin < day + length:
                infusion += umol / (HOURS * length)
        course = solve_ivp(
            change, (HOURS * begin, HOURS * end), y, "LSODA",
            args=(infusion,), rtol=1e-9, atol=1e-11, max_step=HOURS, dense_output=True,
        )  # fmt: skip
        inside = (days >= begin) & (days <= end)
        found[inside], y = course.sol(HOURS * days[inside])[-1], course.y[:, -1]
    return found
