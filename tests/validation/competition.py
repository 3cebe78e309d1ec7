"""V04, V07, V08, E12: cells that compete for room, continuous and adaptive therapy, containment."""

import math
from collections.abc import Callable, Iterator
from functools import cache

import jax.numpy as jnp
import numpy as np
from scipy.integrate import quad

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.engines import clones, meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.selftest.case import EXACT, PUBLISHED, Finding, close, near
from jaxevo.treatment.policies import adaptive
from tests.models import lotka_volterra, zhang_abiraterone
from tests.models.following import day_of, states
from tests.models.lotka_volterra import Patient, progression
from tests.validation.registry import declare
from tests.validation.tables import numbers, rows

STROBL = (
    "Strobl et al. 2021, doi:10.1158/0008-5472.CAN-20-0806; 2022, doi:10.1038/s43856-022-00110-x"
)


@cache
def progressions() -> tuple:
    """Every row of the table: name, patient, rule, published day, exact day, obtained day."""
    found = []
    for row in rows("progression"):
        at = numbers(row)
        who = lotka_volterra.patient(at["size"], at["resistant_share"], at["cost"], at["turnover"])
        values = "n0 {size}, R {resistant_share}, cost {cost}, turnover {turnover}".format(**row)
        for rule in ("ct", "at50"):
            obtained = progression(who, rule)
            published, exact = at[f"{rule}_published"], at[f"{rule}_exact"]
            found.append((f"{rule.upper()}, {values}", published, exact, obtained))
    return tuple(found)


@declare("V04", "days of progression, as printed", STROBL, PUBLISHED, "meanfield")
def _printed_days(_engine: str) -> Iterator[Finding]:
    """A printed day is the first whole day after the crossing: crossing <= printed < crossing + 1."""
    for name, published, _, obtained in progressions():
        passed = obtained <= published < obtained + 1
        yield Finding(name, published, obtained, "0 to 1 d before the label", passed)


@declare("V04", "days of progression, crossing", STROBL, EXACT, "meanfield")
def _crossings(_engine: str) -> Iterator[Finding]:
    for name, _, exact, obtained in progressions():
        yield near(name, exact, obtained, 0.05, "d")


def first_crossing(day: np.ndarray, burden: np.ndarray, level: float) -> float:
    """First day on which a recorded course exceeds a level, interpolated in ln N; NaN if never."""
    (above,) = np.nonzero(burden > level)
    if len(above) == 0:
        return math.nan
    i = int(above[0])
    before, after = np.log(burden[i - 1 : i + 1])
    return float(day[i - 1] + (day[i] - day[i - 1]) * (math.log(level) - before) / (after - before))


def days_on_rule(simulate: Callable, chosen: list[dict[str, str]], **options) -> np.ndarray:
    """Day of progression under `adaptive` with a visit every day, [row, replicate], NaN if never."""
    at = [numbers(row) for row in chosen]
    cohort = [
        lotka_volterra.patient(a["size"], a["resistant_share"], a["cost"], a["turnover"])
        for a in at
    ]
    horizon = float(math.ceil(1.1 * max(a["at50_exact"] for a in at)))
    settings = {"record": Record(every=1.0), **options}
    study = lotka_volterra.adaptive_problem(cohort, horizon, adaptive(), **settings)
    root = simulate(study)[""]
    courses, day = np.asarray(root["burden"].data)[0], root["time"].data
    return np.array([[first_crossing(day, c, 1.2 * c[0]) for c in each] for each in courses])


@declare("V04", "adaptive therapy by the rule, at visits", STROBL, EXACT, "meanfield")
def _adaptive_days(_engine: str) -> Iterator[Finding]:
    """AT50 by the policy `adaptive`, and whether it outlasts continuous therapy, as the table says."""
    table = rows("progression")
    found = days_on_rule(meanfield.simulate, table, scale=1e9)[:, 0]
    obtained = {name: day for name, *_, day in progressions()}
    for row, day in zip(table, found, strict=True):
        at = numbers(row)
        values = "n0 {size}, R {resistant_share}, cost {cost}, turnover {turnover}".format(**row)
        yield near(f"AT50, {values}", at["at50_exact"], day, 0.05, "d")
        gain, printed = day - obtained[f"CT, {values}"], at["at50_exact"] - at["ct_exact"]
        is_same = (gain > 0.05) == (printed > 0.05)
        yield Finding(
            f"AT50 less CT, {values}", printed, gain, "positive for both or none", is_same
        )


@declare("V04", "adaptive therapy, sampled", STROBL, EXACT, "clones", slow=True)
def _sampled_adaptive_days(_engine: str) -> Iterator[Finding]:
    """The same rule at K = 1e6 cells: the mean of 20 tumors. With 250 resistant cells (6 % of chance)
    tumors differ in the number of cycles, and the exact day is no longer their mean (517.9 to 525.4 d for
    2 % of R more or less; 525.4 d is what 1e6 cells give): there K = 1e8.
    """
    chosen = rows("progression")[::7]
    is_few = lambda row: numbers(row)["size"] * numbers(row)["resistant_share"] < 5e-4  # noqa: E731
    for few, scale in ((False, 1e6), (True, 1e8)):
        some = [row for row in chosen if is_few(row) == few]
        found = days_on_rule(clones.simulate, some, replicates=20, sync=0.25, scale=scale)
        for row, days in zip(some, found, strict=True):
            values = "n0 {size}, R {resistant_share}, cost {cost}, turnover {turnover}".format(
                **row
            )
            exact = numbers(row)["at50_exact"]
            yield close(f"AT50 at K = {scale:.0e}, {values}", exact, np.mean(days), 0.01)


@declare("V04", "days of progression of 1e6 cells", STROBL, EXACT, "clones", slow=True)
def _sampled_days(_engine: str) -> Iterator[Finding]:
    """Continuous therapy at K = 1e6 cells."""
    for row in rows("progression")[::7]:
        at = numbers(row)
        who = lotka_volterra.patient(at["size"], at["resistant_share"], at["cost"], at["turnover"])
        horizon = float(math.ceil(at["ct_exact"] * 1.1))
        study = lotka_volterra.problem(
            who, horizon, {"treated": 1.0}, replicates=20, sync=0.25, record=Record(every=1.0)
        )
        root = clones.simulate(study)[""]
        day, burden = root["time"].data, np.asarray(root["burden"].data)[0, 0]
        reached = [first_crossing(day, course, 1.2 * course[0]) for course in burden]
        name = "CT, n0 {size}, R {resistant_share}, cost {cost}, turnover {turnover}".format(**row)
        yield close(name, at["ct_exact"], np.mean(reached), 0.01)


GALLAGHER = "Gallagher et al. 2024, doi:10.1158/0008-5472.CAN-23-2040"


@declare("V07", "synthetic patients, continuous therapy", GALLAGHER, PUBLISHED, "meanfield")
def _synthetic(_engine: str) -> Iterator[Finding]:
    """The printed days are one less than the first whole day after the crossing."""
    for row in rows("synthetic_patients"):
        at = numbers(row)
        who = Patient(
            at["sensitive"], at["resistant"], at["growth_sensitive"], at["growth_resistant"],
            at["death_sensitive"], at["death_resistant"], 1.0, at["drug_effect"],
        )  # fmt: skip
        obtained = progression(who, "ct")
        yield near(f"patient {row['patient']}", at["published"], obtained, 1.0, "d")


# --- V08 -------------------------------------------------------------------------------------------

ZHANG = "Zhang, Cunningham, Brown & Gatenby 2022, doi:10.7554/eLife.76284"


def passing(problem: Problem, level: float, scale: float) -> tuple[float, float]:
    """Day on which the sensitive cells first pass a level, and the resistant cells then."""
    low, high = 0.0, problem.horizon
    for _ in range(3):  # a grid, then a finer one between two of its days
        days = np.linspace(low, high, 401)
        count = states(problem, days.tolist())[0] / scale
        side = np.sign(count[:, 0] - level)
        at = int(np.argmax(side != side[0])) if side[0] else 0
        low, high = days[max(at - 1, 0)], days[max(at, 1)]
    return float(days[at]), float(count[at, 1])


@declare("V08", "patients before abiraterone", ZHANG, PUBLISHED, "meanfield")
def _abiraterone(_engine: str) -> Iterator[Finding]:
    """The flow from the first state passes through the second; the time is free. P1003 falls from
    capacity to 5783, which the untreated flow never does: there the flow on drug is taken.
    """
    scale = 1e6
    for row in rows("abiraterone"):
        at = numbers(row)
        on = ((0.0, 50.0),) if at["sensitive_abi"] < at["sensitive_0"] else ()
        problem = zhang_abiraterone.problem(
            at["sensitive_0"], at["resistant_0"], 50.0, on, scale=scale
        )
        _, resistant = passing(problem, at["sensitive_abi"], scale)
        allowed = 5e-3 if row["patient"] == "P1003" else 1e-3
        yield close(f"resistant cells, {row['patient']}", at["resistant_abi"], resistant, allowed)


# --- E12 -------------------------------------------------------------------------------------------

VIOSSAT = "Viossat & Noble 2021, doi:10.1038/s41559-021-01428-w"
CONTAINMENT = {  # (n0, R0/n0) -> ideal MTD, containment at n0, at 1.2 n0 (days)
    (0.25, 0.1): (104.3061, 123.0158, 131.4765),
    (0.25, 0.01): (190.4320, 236.7238, 253.3064),
    (0.25, 0.001): (275.7964, 350.4317, 375.1363),
    (0.50, 0.1): (124.0705, 185.5791, 230.0839),
    (0.50, 0.01): (211.0656, 356.1409, 443.2863),
    (0.50, 0.001): (296.5136, 526.7028, 656.4886),
}


def containment_time(n0: float, share: float, held: float, r: float = 0.027) -> float:
    """ln(N*/R0)/g(N*) + int from max(N*, R0) to 1.2 n0 of dR/(R g(R)), g(N) = r (1 - N); held 0: MTD."""
    first = n0 * share
    begin = max(held, first)
    contained = math.log(begin / first) / (r * (1 - held)) if begin > first else 0.0
    alone = quad(lambda x: 1 / (x * r * (1 - x)), begin, 1.2 * n0, epsabs=1e-12)[0]
    return contained + alone


def _contained(p, levels, environment) -> Rates:
    """Resistant cells in a tumor that an ideal controller holds at N* until they fill it."""
    size = jnp.maximum(environment.population.sum(), p["held"])
    return Rates(birth_rate=p["growth"], death_rate=p["growth"] * size / p["capacity"])


def contained(n0: float, share: float, held: float, horizon: float, scale: float = 1e9) -> Problem:
    """Resistant cells alone; sizes in units of the capacity of `scale` cells."""
    params = {"growth": 0.027, "held": held * scale, "capacity": scale}
    model = custom_model({}, _contained, params, has_feedback=True)
    return Problem(
        model, (Founder(round(n0 * share * scale), 0, 0),), (Arm("ideal", ()),), seed=1,
        replicates=1, horizon=horizon, sync=1.0, max_cells=2**31 - 1,
    )  # fmt: skip


def _exceeds(n0: float):
    return lambda count, _: count.sum() - 1.2e9 * n0


EXCESS = {n0: _exceeds(n0) for n0 in (0.25, 0.50)}


@declare("E12", "containment times", VIOSSAT, EXACT, "meanfield")
def _containment(_engine: str) -> Iterator[Finding]:
    for (n0, share), printed in CONTAINMENT.items():
        for name, held, days in zip(
            ("ideal MTD", "contained at n0", "contained at 1.2 n0"),
            (0.0, n0, 1.2 * n0), printed, strict=True,
        ):  # fmt: skip
            label = f"{name}, n0 {n0}, R {share}"
            yield near(
                f"{label}, closed form", days, containment_time(n0, share, held), 5.1e-5, "d"
            )
            obtained = day_of(contained(n0, share, held, 800.0), EXCESS[n0])
            yield near(label, days, obtained, 0.05, "d")
