"""E06, E14, E15: finite populations, radiation, and where sensitive and resistant cells cross."""

import math
from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

from jaxevo.engines import cells, clones, extinction, meanfield
from jaxevo.engines.base import Arm, Founder, Jump, Problem, Record
from jaxevo.selftest.case import EXACT, Finding, close, near
from jaxevo.selftest.problem import branching, final_counts
from tests import laws
from tests.builders import build
from tests.models import logistic, moran
from tests.validation.registry import declare, mean, share, whole_law

# --- E06: radiation with repopulation, through the damage station ----------------------------------

ZAIDER = "Zaider & Minerbo 2000, doi:10.1088/0031-9155/45/2/303"


def irradiated(cells_: int, fractions: int, gray: float, birth: float, death: float) -> Problem:
    """A fraction every day; alpha .3, beta .03."""
    model = build(birth_rate=birth, death_rate=death, alpha=0.3, beta=0.03)
    jumps = tuple(Jump(float(day), None, gray) for day in range(fractions))
    return Problem(
        model, (Founder(cells_, 0, 0),), (Arm("fractions", (), (), jumps),), seed=1, replicates=1,
        horizon=float(fractions), sync=1.0, max_cells=2**31 - 1,
        record=Record(every=float(fractions), concentration_every=float(fractions)),
    )  # fmt: skip


def log_control(cells_: int, fractions: int, gray: float, birth: float, death: float) -> float:
    """ln P(no cell one day after the last fraction): linear fractional maps of one cell, composed.

    A day is f -> alpha + (1 - alpha)(1 - beta) f/(1 - beta f) (Kendall), a fraction 1 - s + s f.
    """
    survival = math.exp(-0.3 * gray - 0.03 * gray**2)
    day = laws.birth_death([1.0], [birth], [death])
    alive = 1.0  # P(a cell has descendants at the end), backward in time
    for _ in range(fractions):
        # 1 - f(1 - alive) of a day, without cancellation
        grown = (1 - day.alpha) * alive / (1 - day.beta + day.beta * alive)
        alive = survival * grown
    return cells_ * math.log1p(-alive)


@declare(
    "E06", "radiation with repopulation, through the damage station", ZAIDER, EXACT, "extinction"
)
def _radiation(_engine: str) -> Iterator[Finding]:
    """Exact: exp(N log1p(-p)). The digits .98869394 and .93352511 are of (1 - p)^N in floating point."""
    for size, fractions, gray, birth, death in (
        (10**9, 35, 2.0, 0.0, 0.0), (10**9, 20, 3.0, 0.0, 0.0), (10**8, 30, 1.8, 0.0, 0.0),
        (10**9, 35, 2.0, 0.10, 0.05), (10**8, 30, 1.8, 0.02, 0.05),
    ):  # fmt: skip
        root = extinction.simulate(irradiated(size, fractions, gray, birth, death))[""]
        obtained = math.exp(float(root["no_relapse_log"].data[0, 0, -1]))
        name = f"{size:.0e} cells, {fractions} x {gray} Gy, b {birth:g}, d {death:g}"
        expected = math.exp(log_control(size, fractions, gray, birth, death))
        yield close(name, expected, obtained, 1e-8)


# --- E14: finite populations -----------------------------------------------------------------------

MORAN = "Moran 1958, doi:10.1017/S0305004100033193"
NORDEN = "Norden 1982, doi:10.2307/1427025"


def fixation(cells_: int, fitness: float) -> float:
    """(1 - 1/r)/(1 - 1/r^N)."""
    return (1 - 1 / fitness) / (1 - fitness**-cells_)


def absorption_steps(cells_: int, fitness: float) -> float:
    """Mean steps from one mutant to none or all, from the chain."""
    i = np.arange(1, cells_)
    weight = fitness * i + cells_ - i
    up, down = fitness * i / weight * (cells_ - i) / cells_, (cells_ - i) / weight * i / cells_
    chain = np.diag(up + down) - np.diag(up[:-1], 1) - np.diag(down[1:], -1)
    return float(np.linalg.solve(chain, np.ones(cells_ - 1))[0])


@declare("E14", "Moran process, printed rows", MORAN, EXACT, "closed form")
def _moran_rows(_engine: str) -> Iterator[Finding]:
    for size, fitness, fixed in (
        (10, 1.1, 0.147950359), (100, 1.1, 0.09091568827), (1000, 1.01, 0.009901462516),
    ):  # fmt: skip
        yield close(f"P(fixation), N {size}, r {fitness}", fixed, fixation(size, fitness), 5e-8)
    for size, steps in ((10, 30.582531), (100, 738.226130)):
        name = f"steps to absorption, N {size}, r 1.1"
        yield close(name, steps, absorption_steps(size, 1.1), 1e-8)


@declare("E14", "Moran process", MORAN, EXACT, "clones")
def _moran(_engine: str) -> Iterator[Finding]:
    """Event by event. From an inner state the chain forgets itself; a day is 10 steps in the mean."""
    problem = moran.problem(
        10, 1.1, horizon=60.0, replicates=10_000, sync=60.0, exact_below=10**6,
        record=Record(every=60.0),
    )  # fmt: skip
    seen = final_counts("clones", problem)
    yield near("cells", 10, seen.sum(axis=1).max(), 0.0)
    yield near("cells", 10, seen.sum(axis=1).min(), 0.0)
    yield share("P(fixation), N 10, r 1.1", 0.147950359, seen[:, 1] == 10, detect=0.027)


@declare("E14", "logistic growth, printed rows", NORDEN, EXACT, "closed form")
def _logistic_rows(_engine: str) -> Iterator[Finding]:
    law = laws.Logistic(1.0, 0.5, 20)
    rest = law.quasi_stationary()
    yield close("mean extinction time", 136.016, law.mean_extinction_time(10), 5e-6)
    yield close("quasi-stationary mean", 8.867514, rest.mean, 1e-7)
    yield close("quasi-stationary sd", 3.375253, math.sqrt(rest.variance), 2e-7)


@declare("E14", "logistic growth", NORDEN, EXACT, "clones", slow=True)
def _logistic(_engine: str) -> Iterator[Finding]:
    """Event by event, by the station and as a custom law: the whole law of the chain on day 6."""
    law = laws.Logistic(1.0, 0.5, 20).law(10, 6.0)
    custom = logistic.problem(
        horizon=6.0, replicates=10_000, sync=6.0, exact_below=10**6, record=Record(every=6.0)
    )
    station = build(crowding="logistic", capacity=20.0, birth_rate=1.0, death_rate=0.5)
    for name, problem in (("custom", custom), ("station", custom._replace(model=station))):
        burden = np.asarray(clones.simulate(problem)[""]["burden"].data)[0, 0, :, -1]
        yield mean(f"mean, day 6, {name}", law, burden, detect=0.09 * math.sqrt(law.variance))
        yield whole_law(f"law, day 6, {name}", law, burden, detect=0.06)


@declare("E14", "extinction of a full dish", NORDEN, EXACT, "clones", slow=True)
def _dish(_engine: str) -> Iterator[Finding]:
    """P(extinct by day 136), and the law of those alive, which is quasi-stationary by then."""
    chain = laws.Logistic(1.0, 0.5, 20)
    problem = logistic.problem(
        horizon=136.0, replicates=20_000, sync=136.0, exact_below=10**6, record=Record(every=136.0)
    )
    burden = np.asarray(clones.simulate(problem)[""]["burden"].data)[0, 0, :, -1]
    law = chain.law(10, 136.0)
    yield share("P(extinct), day 136", law.probability(0), burden == 0, detect=0.03)
    yield whole_law("law of the living", chain.quasi_stationary(), burden[burden > 0], detect=0.06)


@declare("E14", "logistic growth", NORDEN, EXACT, "cells", slow=True)
def _logistic_cells(_engine: str) -> Iterator[Finding]:
    """Rates held for 1/64 day: their bias, of first order in the interval, is far below the limits."""
    station = build(crowding="logistic", capacity=20.0, birth_rate=1.0, death_rate=0.5)
    problem = logistic.problem(
        horizon=6.0, replicates=4_000, sync=1 / 64, record=Record(every=6.0), max_cells=64
    )
    burden = np.asarray(cells.simulate(problem._replace(model=station))[""]["burden"].data)
    law = laws.Logistic(1.0, 0.5, 20).law(10, 6.0)
    yield whole_law("law, day 6", law, burden[0, 0, :, -1], detect=0.1)


# --- E15: recurrence -------------------------------------------------------------------------------

FOO = "Foo & Leder 2013, doi:10.1214/12-AAP876"


def recurrence(days: float, n: float = 1e8, u: float = 1e8**-0.6, **options) -> Problem:
    """Sensitive cells fall at .03, resistant ones rise at .01; a division of the first gives one of
    the others with u, at one division a day.
    """
    return branching(
        [round(n), 0], [days], 1.0, [1.03 - u, 0.99], [(0, 1, u)], **options
    )  # a mutation takes the daughter from the sensitive cells


def mean_cells(day: float, n: float = 1e8, u: float = 1e8**-0.6, r=0.03, growth=0.01):
    """Z0 = n e^-rt, Z1 = n u (e^(lambda t) - e^-rt)/(lambda + r)."""
    sensitive = n * math.exp(-r * day)
    return sensitive, n * u * (math.exp(growth * day) - math.exp(-r * day)) / (growth + r)


@declare("E15", "crossover and turning point", FOO, EXACT, "meanfield")
def _recurrence(_engine: str) -> Iterator[Finding]:
    """The recorded means are those of the formulas, and cross and turn where they do."""
    cross = np.float64(brentq(lambda t: np.subtract(*mean_cells(t)), 1, 400, xtol=1e-10))
    # the sum changes by lambda Z1 - (r - u) Z0
    slope = lambda t: 0.01 * mean_cells(t)[1] - (0.03 - 1e8**-0.6) * mean_cells(t)[0]  # noqa: E731
    turn = np.float64(brentq(slope, 1, 400, xtol=1e-10)).item()
    yield near("Z1 = Z0, closed form", 195.8482, cross, 5.1e-5, "d")
    yield near("smallest total, closed form", 223.2937, turn, 5.1e-4, "d")
    yield close("smallest total (cells), closed form", 4.92755e5, sum(mean_cells(turn)), 2e-6)
    record = Record(every=1.0, concentration_every=300.0)
    root = meanfield.simulate(recurrence(300.0, record=record, sync=300.0))[""]
    count, day = np.asarray(root["class_count"].data)[0, 0, 0], root["time"].data
    gap = np.log(count[:, 0] / np.maximum(count[:, 1], 1e-300))
    i = int(np.argmax(gap < 0))
    crossed = day[i - 1] + gap[i - 1] / (gap[i - 1] - gap[i])  # ln Z0/Z1 is all but straight
    yield near("Z1 = Z0", 195.8482, crossed, 0.01, "d")
    total = count.sum(axis=1)
    j = int(np.argmin(total))
    a, b, c = total[j - 1 : j + 2]
    yield near("smallest total", 223.2937, day[j] + (a - c) / (2 * (a - 2 * b + c)), 0.02, "d")
    yield close("smallest total (cells)", 4.92755e5, b - (a - c) ** 2 / (8 * (a - 2 * b + c)), 1e-4)
