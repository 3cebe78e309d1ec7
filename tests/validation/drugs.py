"""V09, V16, E10, E11: from an assay and a tablet to concentrations, effects and cells.

Everything goes through the stations of `jaxevo.drug`; expected numbers are printed, or integrals of the
closed form of one-compartment oral kinetics,

    C(t) = sum over doses of  D k_a/(V (k_a - k)) (e^(-k t) - e^(-k_a t)),    k = CL/V.
"""

import math
from collections.abc import Iterator

import jax
import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq, least_squares

from jaxevo.drug.schedule import Dose
from jaxevo.engines import meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.engines.grid import arm_course, arm_inputs
from jaxevo.model import Model
from jaxevo.selftest.case import COMPUTED, EXACT, PUBLISHED, Finding, close, near
from tests import builders
from tests.builders import build
from tests.validation.registry import declare
from tests.validation.tables import numbers, rows

HOURS = 24.0  # in a day
LU = "Lu et al. 2006, doi:10.1016/j.clpt.2006.04.007"
ACESO = f"Irurzun-Arana, McDonald, Troconiz & Michor 2020, Cancer Res (ACESO); {LU}"
ERLOTINIB = {
    "dose_umol": 150 / 429.9 * 1e3,
    "volume": 233.0,
    "elimination": 3.95 / 233,
    "absorption": 0.95,
}


def oral_level(hours, dose_umol, volume, elimination, absorption, every=HOURS, doses=1):
    """Concentration (uM) at hours after the first of `doses` oral doses; rates 1/h, volume L."""
    scale = dose_umol / volume * absorption / (absorption - elimination)
    since = np.asarray(hours, float)[..., None] - every * np.arange(doses)
    gone = np.exp(-elimination * np.maximum(since, 0)) - np.exp(-absorption * np.maximum(since, 0))
    return scale * np.sum(np.where(since >= 0, gone, 0.0), axis=-1)


def steady_level(hours, dose_umol, volume, elimination, absorption, every=HOURS):
    """The same when each interval repeats the last: both exponentials summed to infinity."""
    scale = dose_umol / volume * absorption / (absorption - elimination)
    part = lambda k: np.exp(-k * np.asarray(hours, float)) / -np.expm1(-k * every)  # noqa: E731
    return scale * (part(elimination) - part(absorption))


def taken_orally(drugs: dict[str, dict[str, float]], **model) -> Model:
    """A model whose drugs are swallowed; numbers as of `oral_level`, 500 g/mol."""
    by_drug = lambda value: {name: value(drug) for name, drug in drugs.items()}  # noqa: E731
    return build(
        drugs=tuple(drugs),
        is_prescribed=0.0,
        absorption_rate=by_drug(lambda d: HOURS * d["absorption"]),
        clearance=by_drug(lambda d: HOURS * d["elimination"] * d["volume"]),
        central_volume=by_drug(lambda d: d["volume"]),
        **model,
    )


def daily(drug: int, dose_umol: float, days: int) -> tuple[Dose, ...]:
    """One tablet every day; the mass is that of 500 g/mol."""
    return tuple(Dose(drug, float(day), 0.5 * dose_umol, 0.0, True) for day in range(days))


def course(model: Model, doses: tuple[Dose, ...], days: int, nodes: np.ndarray) -> np.ndarray:
    """Concentrations at the first site (uM), [day, node, drug]; nodes are shares of a day, 0..1."""
    given = arm_inputs(model, Arm("arm", doses), np.arange(days + 1.0))
    return arm_course(model, given, nodes).site[:, :, 0, :]


GAUSS, WEIGHTS = (np.polynomial.legendre.leggauss(60) + np.array([[1.0], [0.0]])) / 2  # on 0..1


# --- E10, V09: erlotinib ---------------------------------------------------------------------------


@declare("E10", "one tablet of erlotinib and the steady state", LU, EXACT, "drug stations")
def _erlotinib(_engine: str) -> Iterator[Finding]:
    model = taken_orally({"erlotinib": ERLOTINIB})
    dose, mg_per_l = ERLOTINIB["dose_umol"], 429.9e-3
    hours = np.array([4.30, 4.31, 4.32, 24.0])
    *three, last = mg_per_l * course(model, daily(0, dose, 1), 1, hours / 24)[0, :, 0]
    # the top of the parabola through the three
    shift = (three[0] - three[2]) / (2 * (three[0] - 2 * three[1] + three[2]))
    peak = three[1] - (three[0] - three[2]) * shift / 4
    yield close("time of the peak (h)", 4.314926, hours[1] + 0.01 * shift, 1e-5)
    yield close("peak (mg/L)", 0.59836569, peak, 1e-6)
    yield close("C(24 h) (mg/L)", 0.43637037, last, 1e-6)
    area = mg_per_l * 24 * np.sum(course(model, daily(0, dose, 1), 50, GAUSS)[:, :, 0] @ WEIGHTS)
    yield close("AUC (mg h/L)", 37.974684, area, 1e-6)
    steady = course(model, daily(0, dose, 50), 50, np.append(GAUSS, 1.0))[-1, :, 0]
    yield close("steady average (mg/L)", 1.58227848, mg_per_l * steady[:-1] @ WEIGHTS, 1e-6)
    yield close("steady trough (mg/L)", 1.30545358, mg_per_l * steady[-1], 1e-6)


@declare("V09", "levels of erlotinib", ACESO, COMPUTED, "drug stations")
def _levels(_engine: str) -> Iterator[Finding]:
    model = taken_orally({"erlotinib": ERLOTINIB})
    level = course(model, daily(0, ERLOTINIB["dose_umol"], 50), 50, np.linspace(0, 1, 241))[:, :, 0]
    yield close("first peak (uM)", 1.3919, level[0].max(), 1e-4)
    yield close("trough on day 9 to 10 (uM)", 2.9586, level[9].min(), 1e-4)
    yield close("peak on day 9 to 10 (uM)", 4.1737, level[9].max(), 1e-4)
    yield close("steady trough (uM)", 3.0366, level[-1].min(), 1e-4)
    yield close("steady peak (uM)", 4.2477, level[-1].max(), 1e-4)


DOSES = np.array([0.0, 1.0, 3.0, 10.0, 20.0])  # uM
ASSAY = {  # per hour: net growth, death, birth
    "sensitive": (
        (0.028216, -0.002930, -0.006089, -0.008605, -0.006808),
        (0.007932, 0.007931, 0.007811, 0.008605, 0.009980),
        (0.036148, 0.005001, 0.001722, 0.0, 0.003171),
    ),
    "resistant": (
        (0.024978, 0.026267, 0.023700, 0.022358, 0.016691),
        (0.002392, 0.002391, 0.002318, 0.004494, 0.005943),
        (0.027370, 0.028658, 0.026017, 0.026852, 0.022634),
    ),
}
NATURAL_DEATH = 0.0085  # per hour


def apoptotic_percent(net, death, hours):
    """Share of founders without living descendants: 100 d (e^gt - 1)/((g + d) e^gt - d)."""
    safe = np.where(net == 0, 1.0, net)
    grown = np.where(net == 0, hours, np.expm1(net * hours) / safe)  # (e^gt - 1)/g
    return 100 * death * grown / (1 + (net + death) * grown)


def death_of(percent: float, net: float, hours: float) -> float:
    """The death rate that belongs to an apoptotic percentage; 1/h."""
    excess = lambda death: float(apoptotic_percent(net, death, hours)) - percent  # noqa: E731
    return np.float64(brentq(excess, 1e-9, 0.5, xtol=1e-14)).item()


def rates_of_assay(net: np.ndarray, percent: np.ndarray, hours: float):
    """Births and deaths per dose; if a birth rate is negative, all are shifted by the smallest."""
    death = np.array([death_of(p, g, hours) for p, g in zip(percent, net, strict=True)])
    shift = max(0.0, -float(np.min(net + death)))
    return net + death + shift, death + shift


def dose_response(births: np.ndarray) -> tuple[float, float, float, float]:
    """top, inhibited share, EC50 (uM), hill of b = top (1 - share C^h/(C^h + EC50^h)): least squares."""

    def misfit(p):
        inhibited = p[1] / (1 + (math.exp(p[2]) / np.maximum(DOSES, 1e-9)) ** p[3])
        return 1e3 * (p[0] * (1 - inhibited) - births)

    start = [births[0], 0.95, math.log(0.5), 3.0]
    top, inhibited, log_ec50, hill = least_squares(misfit, start, xtol=1e-14, ftol=1e-14).x
    return float(top), float(inhibited), math.exp(log_ec50), float(hill)


def treated_line(fit, dose_umol: float, days: int, **kinetics) -> Problem:
    """1e6 cells under one tablet a day; births follow the level, deaths are natural. Syncs every hour:
    the quadrature of an interval must resolve the rise of the first dose through the EC50.
    """
    top, inhibited, ec50, hill = fit
    model = taken_orally(
        {"erlotinib": {"dose_umol": dose_umol, **kinetics}},
        targets=("EGFR",),
        kd={"EGFR": {"erlotinib": ec50}},
        max_inhibition=inhibited,
        birth_hill=hill,
        birth_rate=HOURS * top,
        death_rate=HOURS * NATURAL_DEATH,
    )
    return Problem(
        model=model,
        founders=(Founder(10**6, 0, 0),),
        arms=(Arm("tablets", daily(0, dose_umol, days)), Arm("none", ())),
        seed=1,
        replicates=1,
        horizon=float(days),
        sync=1 / 24,
        max_cells=10**8,
        record=Record(every=float(days), concentration_every=float(days)),
    )


def expected_cells(fit, dose_umol: float, days: int, **kinetics) -> float:
    """1e6 exp of the integral of birth(C(t)) - death, by adaptive quadrature of the closed form."""
    top, inhibited, ec50, hill = fit

    def growth(hour: float) -> float:
        level = float(oral_level(hour, dose_umol, **kinetics, doses=days))
        effect = level**hill / (level**hill + ec50**hill)
        return top * (1 - inhibited * effect) - NATURAL_DEATH

    parts = [quad(growth, 24 * d, 24 * d + 24, epsabs=1e-13, limit=400)[0] for d in range(days)]
    return 1e6 * math.exp(sum(parts))


FAMILY = "4-parameter log-logistic birth rate"


@declare("V09", f"from the assay to cells ({FAMILY})", ACESO, COMPUTED, "meanfield")
def _chain(_engine: str) -> Iterator[Finding]:
    for line, assay in ASSAY.items():
        net, death, birth = (np.array(column) for column in assay)
        found, _ = rates_of_assay(net, apoptotic_percent(net, death, 72.0), 72.0)
        for dose, expected, obtained in zip(DOSES, birth, found, strict=True):
            yield near(f"birth of {line} cells at {dose:g} uM (1/h)", expected, obtained, 1.01e-6)
    fit = dose_response(np.array(ASSAY["sensitive"][2]))
    kinetics = {key: value for key, value in ERLOTINIB.items() if key != "dose_umol"}
    root = meanfield.simulate(treated_line(fit, ERLOTINIB["dose_umol"], 10, **kinetics))[""]
    treated, untreated = np.asarray(root["burden"].data)[:, 0, 0, -1]
    expected = expected_cells(fit, ERLOTINIB["dose_umol"], 10, **kinetics)
    yield close("sensitive cells after 10 d", expected, treated, 1e-4)
    grown = 1e6 * math.exp(240 * (fit[0] - NATURAL_DEATH))
    yield close("untreated cells after 10 d", grown, untreated, 1e-6)


# --- V16: BCR-ABL ----------------------------------------------------------------------------------

REDAELLI = "Redaelli et al. 2012, Am J Hematol 87:E125; Zabriskie et al. 2014, doi:10.1016/j.ccr.2014.07.006"


def inhibitors() -> dict[str, dict[str, float]]:
    """Pharmacokinetics by drug, as `oral_level` takes them."""
    table = {row["drug"]: numbers(row) for row in rows("inhibitors")}
    return {
        name: {
            "dose_umol": 1e6 * pk["dose_mol"],
            "volume": pk["volume_l"],
            "elimination": pk["elimination_per_h"],
            "absorption": pk["absorption_per_h"],
        }
        for name, pk in table.items()
    }


def bcr_abl(death_rate: float = 0.0) -> Model:
    """Cells that die at the rate of inhibition (1/day at full effect), one alteration per mutant."""
    drugs = inhibitors()
    table = {row["mutant"]: numbers(row) for row in rows("bcr_abl")}
    native = table.pop("native")
    fold = lambda ic50: {name: ic50[name] / native[name] for name in drugs}  # noqa: E731
    return taken_orally(
        drugs,
        targets=("BCR-ABL",),
        kd={"BCR-ABL": {name: 1e-3 * native[name] for name in drugs}},
        max_death_rate=1.0,
        birth_rate=0.0,
        death_rate=death_rate,
        alterations={mutant: {"kd_fold": fold(ic50)} for mutant, ic50 in table.items()},
    )


def mean_inhibition(model: Model, points: int = 2_401) -> dict[str, np.ndarray]:
    """24 h mean of the effect of each drug alone at its steady state, by mutant; `points` even points."""
    drugs, days = inhibitors(), 30
    together = [
        dose for d, pk in enumerate(drugs.values()) for dose in daily(d, pk["dose_umol"], days)
    ]
    level = course(model, tuple(together), days, np.linspace(0, 1, points))[-1].T
    alone = (np.eye(len(drugs))[:, None, :] * level[:, :, None]).reshape(-1, len(drugs))
    found = {}
    with jax.enable_x64(True):
        for mutant in ("native", *model.genome.names):
            altered = {} if mutant == "native" else {mutant: 1}
            killed = np.asarray(builders.over_doses(model, alone, altered).death_rate)
            found[mutant] = killed.reshape(level.shape).mean(axis=1)
    return found


@declare(
    "V16", "mean inhibition of BCR-ABL mutants at steady state", REDAELLI, COMPUTED, "drug stations"
)
def _mean_inhibition(_engine: str) -> Iterator[Finding]:
    """The printed means are over 2401 even points with both ends of the day, as here; the integral
    differs from them by up to 1.9e-4 (next case).
    """
    drugs = list(inhibitors())
    found = mean_inhibition(bcr_abl())
    best = 0
    for row in rows("bcr_abl"):
        expected = numbers(row)
        best += drugs[int(np.argmax(found[row["mutant"]]))] == "ponatinib"
        for d, drug in enumerate(drugs):
            name = f"{drug}, {row['mutant']}"
            yield close(name, expected[f"mean_{drug}"], found[row["mutant"]][d], 1e-4)
    yield near("rows in which ponatinib is best", 6, best, 0.0)


@declare(
    "V16", "cells under the inhibitor, one day at steady state", REDAELLI, COMPUTED, "meanfield"
)
def _killed_in_a_day(_engine: str) -> Iterator[Finding]:
    """Cells that die at the rate of inhibition: ln N falls by its integral over the day.

    With syncs of an hour: nine nodes are 5e-4 off in the hour in which dasatinib floods in, 3e-5 a day.
    """
    drugs, model, days = inhibitors(), bcr_abl(), 60
    size = 10**12
    num = len(model.genome.names)
    packed = [0, *(2**j for j in range(num))]
    problem = Problem(
        model=model,
        founders=tuple(Founder(size, g, 0) for g in packed),
        arms=tuple(
            Arm(name, daily(d, pk["dose_umol"], days)) for d, (name, pk) in enumerate(drugs.items())
        ),
        seed=1,
        replicates=1,
        horizon=float(days),
        sync=1 / 24,
        max_cells=10**8,
        record=Record(every=1.0, concentration_every=float(days)),
    )
    root = meanfield.simulate(problem)[""]
    count, listed = np.asarray(root["class_count"].data)[:, 0, 0], root["class"].data.tolist()
    for mutant, g in zip(["native", *model.genome.names], packed, strict=True):
        ic50 = numbers(next(row for row in rows("bcr_abl") if row["mutant"] == mutant))
        for d, (name, pk) in enumerate(drugs.items()):
            effect = lambda h, pk=pk, half=1e-3 * ic50[name]: 1 / (1 + half / steady_level(h, **pk))  # noqa: E731
            expected = quad(effect, 0, 24, epsabs=1e-12)[0] / 24
            day = count[d, -2:, listed.index(g)]
            yield close(f"{name}, {mutant}", expected, math.log(day[0] / day[1]), 1e-4)


# --- E10: kill integrals and combinations; E11: efflux ---------------------------------------------

HILL_KILLS = (  # C0 (uM), k (1/h), T (h), Emax (1/h), EC50, h, g (1/h), kill, survival, at EC50 x 10
    (10, 0.5, 24, 0.2, 1, 1, 0.03, 0.9591335330, 0.78730974, 1.5569730526),
    (10, 0.5, 24, 0.2, 1, 2, 0.03, 0.9230241026, 0.81625857, 1.7884879888),
    (50, 0.1, 72, 0.06, 5, 3, 0.02, 1.3817508726, 1.0599790326, 3.6743291213),
)


def hill_kill(c0, k, horizon, emax, ec50, hill):
    """Integral of Emax C^h/(C^h + EC50^h) over C0 e^-kt: (Emax/hk) ln of a ratio."""
    last = c0 * math.exp(-k * horizon)
    return emax / (hill * k) * math.log((c0**hill + ec50**hill) / (last**hill + ec50**hill))


def bolus(c0, k, horizon, emax, ec50, hill, growth) -> Problem:
    """Hours of the law stand for days: one injection, two kinds of cell (EC50 and ten times it)."""
    model = build(
        drugs=("x",),
        targets=("T",),
        is_prescribed=0.0,
        clearance=k,
        kd={"T": {"x": ec50}},
        max_death_rate=emax,
        death_hill=hill,
        birth_rate=growth,
        death_rate=0.0,
        alterations={"mutant": {"kd_fold": 10.0}},
    )
    return Problem(
        model=model,
        founders=(Founder(1, 0, 0), Founder(1, 1, 0)),
        arms=(Arm("bolus", (Dose(0, 0.0, 0.5 * c0),)),),
        seed=1,
        replicates=1,
        horizon=float(horizon),
        sync=0.25,
        max_cells=100,
        record=Record(every=float(horizon), concentration_every=float(horizon)),
    )


HILL = "closed integral of a Hill kill under exponential decay"


@declare("E10", "kill by a decaying drug", HILL, EXACT, "meanfield")
def _kill(_engine: str) -> Iterator[Finding]:
    for *law, kill, survival, resistant in HILL_KILLS:
        root = meanfield.simulate(bolus(*law))[""]
        cells = np.asarray(root["class_count"].data)[0, 0, 0, -1]
        growth, horizon = law[6], law[2]
        name = f"C0 {law[0]}, k {law[1]}, Hill {law[5]}"
        yield close(f"kill, {name}", kill, growth * horizon - math.log(cells[0]), 1e-6)
        yield close(f"survival, {name}", survival, cells[0], 1e-6)
        yield close(f"survival at EC50 x 10, {name}", resistant, cells[1], 1e-6)


@declare(
    "E10", "two drugs on one target", "Bliss 1939; Loewe & Muischnek 1926", EXACT, "drug stations"
)
def _combination(_engine: str) -> Iterator[Finding]:
    with jax.enable_x64(True):
        for combination, expected in (("bliss", 0.60204604), ("loewe", 0.62356517)):
            model = build(
                drugs=("x", "y"), targets=("T",), kd={"T": {"x": 1.0, "y": 1.0}},
                max_death_rate=1.0, death_hill=1.5, death_rate=0.0, combination=combination,
            )  # fmt: skip
            effect = np.asarray(
                builders.over_doses(model, [(0.6, 0.8), (0.0, 0.8), (0.6, 0.0)]).death_rate
            )
            yield close(f"{combination} at .6 and .8 EC50", expected, effect[0], 1e-6)
            yield close(f"the better one alone ({combination})", 0.41709376, max(effect[1:]), 1e-6)


SHEN = "Shen et al. 2008, doi:10.1124/jpet.107.127704"


@declare("E11", "P-gp efflux and its inhibitor", SHEN, PUBLISHED, "drug stations")
def _efflux(_engine: str) -> Iterator[Finding]:
    """One pump rate and one inhibited share give both accumulations (abstract): .19 and .79 of the
    parent line, k_p/k_out = .81/.19, 1 - I = (.21/.79)/(.81/.19).
    """
    ratio, free = 0.81 / 0.19, (0.21 / 0.79) / (0.81 / 0.19)
    leak = builders.NEUTRAL["efflux_rate"][1]
    model = build(
        drugs=("substrate", "inhibitor"),
        pumps=("P-gp",),
        vmax={"P-gp": {"substrate": ratio * leak * 1e3}},
        km={"P-gp": {"substrate": 1e3}},
        inhibition_ki={"P-gp": {"inhibitor": 1.0}},
        alterations={"P-gp": {"pump_amount": 1.0}},
    )
    with jax.enable_x64(True):
        for name, inhibitor, expected in (("alone", 0.0, 0.19), ("inhibited", 1 / free - 1, 0.79)):
            outside = {"substrate": 1e-9, "inhibitor": inhibitor}
            held = builders.inside(model, {"P-gp": 1}, outside)["substrate"]
            parent = builders.inside(model, None, outside)["substrate"]
            yield close(
                f"accumulation of the resistant line, {name}", expected, held / parent, 1e-9
            )
