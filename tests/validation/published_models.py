"""V05, V06, V11, V12, V13: published models that are not built from stations (`tests/models`)."""

import math
from collections.abc import Iterator
from functools import cache

import numpy as np

from jaxevo.engines import clones, meanfield
from jaxevo.engines.base import Record
from jaxevo.selftest.case import COMPUTED, EXACT, PUBLISHED, Finding, close, near
from tests import laws
from tests.models import estipop, gompertz_switch, hierarchy_cml, immune_window, parpi
from tests.models.following import day_of, states
from tests.models.immune_window import MONTH, SHARED
from tests.models.parpi import OVCAR3
from tests.validation.registry import declare, mean, variance
from tests.validation.tables import numbers, rows

# --- V05: lower dose or breaks ---------------------------------------------------------------------

STROBL = "Strobl et al. 2024, doi:10.1016/j.cels.2024.04.003"


@declare("V05", "olaparib, lower dose or ten breaks", STROBL, PUBLISHED, "meanfield")
def _dose_cuts(_engine: str) -> Iterator[Finding]:
    """Breaks to 1 % (in ln below 1e-3): the published solver ends intervals up to 1e-3 d early."""
    table = [numbers(row) for row in rows("dose_cuts")]
    for at in table:
        cut = at["dose_cut"]
        constant, breaks = (
            parpi.area(states(parpi.problem({"only": schedule}), [180.0])[0][0])
            for schedule in (parpi.constant(cut), parpi.breaks(cut))
        )
        name = f"cut {cut:g}"
        yield close(f"constant, {name} (%)", at["constant_published"], constant, 1e-6)
        yield close(f"breaks, {name} (%)", at["breaks_published"], breaks, 0.01)
        yield close(f"breaks, exact, {name} (%)", at["breaks_exact"], breaks, 1e-6)


@declare("V05", "olaparib, dose that stops growth", STROBL, EXACT, "meanfield")
def _stopping_dose(_engine: str) -> Iterator[Finding]:
    """2 alpha E(Dmin) = 1; breaks of the full dose stop growth at the mean dose D* (few cells). The
    printed doses are reproduced to 2e-9: their parameters had more digits than those printed.
    """
    half, n, twice = OVCAR3["ec50"], OVCAR3["hill"], 2 * OVCAR3["damage"]
    least = (half**n / (twice - 1)) ** (1 / n)
    mean_dose = (half**n + 100**n) * 100 / (twice * 100**n)
    yield close("Dmin (uM)", 18.353933115182326, least, 1e-8)
    yield close("D* (uM)", 72.34263073862289, mean_dose, 1e-8)
    arms = {
        "constant": parpi.constant(1 - least / 100),
        "breaks": parpi.breaks(1 - mean_dose / 100),
    }
    # from so few cells that they do not crowd each other
    problem = parpi.problem(arms, start=1e-8, scale=1e12, horizon=18.0)
    for arm, name in enumerate(arms):
        cells = states(problem, [0.0, 18.0], arm)[0][:, 0]
        yield near(
            f"ln growth of proliferating cells, {name}", 0.0, math.log(cells[1] / cells[0]), 1e-6
        )


# --- V06: stopping therapy -------------------------------------------------------------------------

HAEHNEL = "Haehnel et al. 2020, doi:10.1158/0008-5472.CAN-20-2394"


def patient(row: dict[str, str]) -> tuple[dict[str, float], dict[str, float]]:
    """Parameters as `immune_window` names them, and the whole row."""
    at = numbers(row)
    names = {"pyx": "waking", "pxy": "resting", "tki": "kill", "pz": "recruitment",
             "kz": "half_recruitment"}  # fmt: skip
    return {name: at[column] for name, column in names.items()}, at


@cache
def followed(which: int, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Months from the end of therapy, and X, Y, Z then [month, variable]; the first is the last whole
    month of therapy.
    """
    params, at = patient(rows("immune_window")[which])
    stop = at["stop_month"]
    problem = immune_window.problem(params, at["y0"], stop, stop + 120)
    months = np.append(math.floor(stop), stop + np.linspace(first, last, 2_401))
    count, extra = states(problem, (MONTH * months).tolist())
    return months - stop, np.stack([count[:, 1], count[:, 0], extra[:, 0]], axis=1)


@declare("V06", "CML when therapy stops", HAEHNEL, PUBLISHED, "meanfield", slow=True)
def _stopping(_engine: str) -> Iterator[Finding]:
    """The printed states are a simulation by others; whether a patient relapses is clinical outcome."""
    for which, row in enumerate(rows("immune_window")):
        _, at = patient(row)
        _, after = followed(which, 0.0, 120.0)
        for variable, letter in enumerate("xyz"):
            if f"{letter}_published" in at:
                name = f"{letter.upper()} of patient {row['patient']}"
                yield close(name, at[f"{letter}_published"], after[0, variable], 5e-3)
        relapsed = bool(np.any(after[1:, 1] > 1e3))
        yield near(f"relapse of patient {row['patient']}", at["relapsed"], relapsed, 0.0)


@declare("V06", "CML when therapy stops, all states", HAEHNEL, COMPUTED, "meanfield", slow=True)
def _states(_engine: str) -> Iterator[Finding]:
    """To 1e-5: patients are followed from whole cells, the first states are rounded to those."""
    for which, row in enumerate(rows("immune_window")):
        at, found = numbers(row), followed(which, 0.0, 120.0)[1][0]
        for variable, letter in enumerate("xyz"):
            name = f"{letter.upper()} of patient {row['patient']}"
            yield close(name, at[f"{letter}_exact"], found[variable], 2e-5)


def immune_roots(params: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Y at the ends of the immune window, pz Y = a (Kz^2 + Y^2), and at rest without a drug (Y > 0)."""
    p = SHARED | params
    window = np.sort(np.roots([p["a"], -p["pz"], p["a"] * p["kz"] ** 2]))
    # py (1 - Y/Ky) = m Z, Z = rz (Kz^2 + Y^2)/(a (Kz^2 + Y^2) - pz Y)
    recruited = np.array([p["a"], -p["pz"], p["a"] * p["kz"] ** 2])
    growth = np.array([-p["py"] / p["ky"], p["py"]])
    rest = np.polysub(
        np.polymul(growth, recruited), p["m"] * p["rz"] * np.array([1.0, 0.0, p["kz"] ** 2])
    )
    return window, np.sort(np.roots(rest).real)


@declare("V06", "CML patient 1", HAEHNEL, COMPUTED, "meanfield")
def _patient_one(_engine: str) -> Iterator[Finding]:
    row = rows("immune_window")[0]
    params, _ = patient(row)
    window, rest = immune_roots(params)
    for name, expected, obtained in zip(
        ("window from", "window to", "stable Y", "unstable Y", "highest stable Y"),
        (135.11, 969.89, 134.04, 977.68, 993_960.0),
        (*window, *rest), strict=True,
    ):  # fmt: skip
        yield close(f"{name}, closed form", expected, obtained, 1e-4)
    for y in rest[[0, 2]]:  # a course that starts at rest stays there
        quiet = immune_window.problem(params, y, 0.0, 12.0, x0=1.0, z0=_immune_at(params, y))
        count0 = np.array([y, params["pyx"] / params["pxy"] * y])
        later = states(quiet, [12 * MONTH], count0=count0)[0][0, 0]
        yield close(f"Y after a year at rest with {y:.6g}", y, later, 1e-6)
    months, course = followed(0, 0.0, 6.0)
    for level, expected in ((1e3, 1.466), (1e5, 4.328)):
        i = int(np.argmax(course[1:, 1] > level)) + 1
        passed = np.interp(math.log(level), np.log(course[i - 1 : i + 1, 1]), months[i - 1 : i + 1])
        yield near(f"months until Y > {level:.0e}", expected, passed, 0.0006)


def _immune_at(params: dict[str, float], y: float) -> float:
    p = SHARED | params
    return p["rz"] / (p["a"] - p["pz"] * y / (p["kz"] ** 2 + y**2))


# --- V11: rates that follow time -------------------------------------------------------------------

RONEY = "Roney, Ferlic, Michor & McDonald 2020, doi:10.1093/bioinformatics/btaa526"


@declare("V11", "birth rate that recovers", RONEY, PUBLISHED, "meanfield")
def _recovering(_engine: str) -> Iterator[Finding]:
    root = meanfield.simulate(estipop.problem(sync=0.02, record=Record(every=20.0)))[""]
    last = lambda name: float(np.asarray(root[name].data)[0, 0, 0, -1])  # noqa: E731
    yield close("mean, day 20", 425.364259883693, last("burden"), 1e-5)
    yield close("variance, day 20", 4386.38004944714, last("burden_sd") ** 2, 1e-5)


def recovering_law(pieces: int = 2_000) -> laws.Law:
    """Kendall's law with the time average of the birth rate in many pieces."""
    edges = np.linspace(0, 20, pieces + 1)
    integral = 0.3 * edges + 2.5 * np.exp(-0.1 * edges)
    birth = np.diff(integral) / np.diff(edges)
    return laws.birth_death(np.diff(edges).tolist(), birth.tolist(), [0.2] * pieces).law(500)


def _sampled_recovery(num: int, of_mean: float, of_variance: float) -> Iterator[Finding]:
    problem = estipop.problem(sync=0.1, replicates=num, record=Record(every=20.0))
    cells = np.asarray(clones.simulate(problem)[""]["burden"].data)[0, 0, :, -1]
    law = recovering_law()
    yield mean("mean, day 20", law, cells, detect=of_mean)
    yield variance("variance, day 20", law, cells, detect=of_variance)


@declare("V11", "birth rate that recovers", RONEY, PUBLISHED, "clones")
def _recovery(_engine: str) -> Iterator[Finding]:
    yield from _sampled_recovery(2_000, 12.0, 0.36)


@declare("V11", "birth rate that recovers, 1e5 runs", RONEY, PUBLISHED, "clones", slow=True)
def _long_recovery(_engine: str) -> Iterator[Finding]:
    yield from _sampled_recovery(100_000, 1.7, 0.055)


# --- V12, V13 --------------------------------------------------------------------------------------

MICHOR = "Michor et al. 2005, doi:10.1038/nature03669"


@declare("V12", "imatinib in CML, four steps", MICHOR, COMPUTED, "meanfield")
def _imatinib(_engine: str) -> Iterator[Finding]:
    expected = {10: 0.242113, 30: 0.10545, 50: 0.0418445, 100: 3.88888e-3, 200: 1.94541e-4}
    days = np.array([*expected, *np.linspace(10, 60, 51)], float)
    count, _ = states(hierarchy_cml.problem(), days.tolist())
    ratio = hierarchy_cml.ratio(count)
    for (day, value), obtained in zip(expected.items(), ratio[: len(expected)], strict=True):
        yield close(f"BCR-ABL ratio, day {day}", value, obtained, 5e-6)
    slope = np.polyfit(days[5:], np.log(count[5:, 3]), 1)[0]
    yield near("slope of ln Y3, days 10 to 60 (1/d)", -0.04967, slope, 5e-5)


MONRO = "Monro & Gaffney 2009, doi:10.1016/j.jtbi.2008.11.026"


@declare("V13", "lower dose beats maximum dose", MONRO, COMPUTED, "meanfield")
def _monro(_engine: str) -> Iterator[Finding]:
    problem = gompertz_switch.problem()
    for arm, (dose, expected) in enumerate(((0, 226.1726), (1, 581.5772), (2, 464.5808))):
        obtained = day_of(problem, gompertz_switch.is_fatal, arm)
        yield near(f"survival at dose {dose}", expected, obtained, 0.05, "d")
