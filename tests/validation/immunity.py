"""V14: a tumor and the effector cells that it recruits and exhausts, by the model's own immunity."""

from collections.abc import Iterator

import numpy as np
from scipy.integrate import solve_ivp

from jaxevo.engines import meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.selftest.case import COMPUTED, EXACT, Finding, close
from tests.builders import build
from tests.validation.registry import declare

KUZNETSOV = "Kuznetsov et al. 1994, doi:10.1007/BF02460644"
PUBLISHED_RATES = {
    "influx": 1.3e4, "recruitment": 0.1245, "recruitment_half": 2.019e7, "exhaustion": 3.422e-10,
    "kill_rate": 1.101e-7, "loss_rate": 0.0412,
}  # fmt: skip
TUMOR = {10: 1.93337e7, 20: 5.53288e7, 50: 4.60039e7, 100: 1.30521e6, 200: 2.97294e6,
         365: 1.0842e7, 1000: 8.09559e6}  # fmt: skip


def followed(days: list[int], cells: int, birth: float, capacity: float, **immune):
    """Tumor cells and effectors on some days, expected from `cells` cells."""
    model = build(
        crowding="logistic", birth_rate=birth, death_rate=0.0, capacity=capacity, **immune
    )
    problem = Problem(
        model, (Founder(cells, 0, 0),), (Arm("none", ()),), 1, 1, float(days[-1]), sync=5.0,
        max_cells=1, record=Record(every=5.0, concentration_every=100.0),
    )  # fmt: skip
    root = meanfield.simulate(problem)[""]
    at = np.searchsorted(root["time"].data, np.array(days) - 1e-9)
    return root["burden"].data[0, 0, 0, at], root["effector_cells"].data[0, 0, 0, at, 0]


@declare("V14", "tumor and immune system", KUZNETSOV, COMPUTED, "meanfield")
def _trajectory(_engine: str) -> Iterator[Finding]:
    """Tumor cells to 1e-5; published parameters, numbers of an independent solver."""
    found, _ = followed(list(TUMOR), 5_000_000, 0.18, 5e8, effectors=3.2e5, **PUBLISHED_RATES)
    for (day, cells), obtained in zip(TUMOR.items(), found, strict=True):
        yield close(f"T on day {day} (cells)", cells, obtained, 1e-5)


@declare("V14", "tumor that recruits more and exhausts less", KUZNETSOV, EXACT, "meanfield")
def _other_rates(_engine: str) -> Iterator[Finding]:
    """Another set of parameters against SciPy's integration of the two equations, to 1e-7."""
    s, p, g, m, n, d, a, b = 2e3, 0.2, 1e6, 2e-9, 4e-7, 0.1, 0.3, 1e-8

    def slope(_, y):
        e, t = y
        return [s + p * t * e / (g + t) - m * e * t - d * e, a * t * (1 - b * t) - n * e * t]

    days = [5, 20, 60, 200]
    solved = solve_ivp(slope, (0, 200), [1e4, 2e4], "DOP853", days, rtol=1e-12, atol=1e-6)
    immune = {"influx": s, "recruitment": p, "recruitment_half": g, "exhaustion": m,
              "kill_rate": n, "loss_rate": d, "effectors": 1e4}  # fmt: skip
    cells, effectors = followed(days, 20_000, a, 1 / b, **immune)
    for i, day in enumerate(days):
        yield close(f"T on day {day} (cells)", solved.y[1, i], cells[i], 1e-7)
        yield close(f"E on day {day} (cells)", solved.y[0, i], effectors[i], 1e-7)
