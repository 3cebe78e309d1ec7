"""E01, E04, E05, E07, E08, E09, V10 on every engine, beyond what the selftest asks of an installation."""

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from scipy import stats

from jaxevo.engines import cells, clones
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.selftest.case import EXACT, PUBLISHED, Finding, close, near
from jaxevo.selftest.cases import LADDER, OFF, ON, PUMP_AND_TARGET, THERAPIES
from jaxevo.selftest.problem import branching, final_counts, moments, no_cell
from tests import laws
from tests.builders import build
from tests.laws import Law
from tests.validation.registry import declare, mean, share, variance, whole_law

KENDALL = "Kendall 1948, doi:10.1214/aoms/1177730285"
ATHREYA = "Athreya & Ney, Branching Processes (1972), chapter V"


# --- E01, E05: one type, in the printed sizes ------------------------------------------------------


@declare("E01", "birth and death, printed rows", KENDALL, EXACT, "clones", slow=True)
def _printed_rows(engine: str) -> Iterator[Finding]:
    for days, death, founders, num, extinct in (
        (100.0, 0.13, 1, 100_000, 0.89151151),
        (365.0, 0.13, 1, 100_000, 0.92680489),
        (365.0, 0.17, 10_000, 20_000, 0.96948989),
    ):
        burden = final_counts(
            engine, branching([founders], [days], 0.14, death, replicates=num)
        ).sum(axis=1)
        law = laws.birth_death([days], [0.14], [death]).law(founders)
        name = f"b .14, d {death:g}, {days:g} d, {founders} founders"
        yield share(f"P(extinct), {name}", extinct, burden == 0, detect=0.01)
        yield mean(f"mean, {name}", law, burden, detect=0.07 * math.sqrt(law.variance))
        yield whole_law(f"law, {name}", law, burden, detect=0.04)


@declare("E05", "same dose, 1000 founders", KENDALL, EXACT, "clones", slow=True)
def _thousand(engine: str) -> Iterator[Finding]:
    for name, days, death, extinct in (
        ("pulses", [7.0] * 20, np.array([0.20, 0.13] * 10)[:, None], 0.01453634),
        ("constant", [140.0], 0.165, 0.00903424),
    ):
        problem = branching([1000], days, 0.14, death, replicates=30_000)
        burden = final_counts(engine, problem).sum(axis=1)
        yield share(f"P(extinct), {name}", extinct, burden == 0, detect=0.0055)


# --- E07, E08, E09: graphs -------------------------------------------------------------------------


@declare("E07", "target mutation and pump, from one founder", ATHREYA, EXACT, "clones", slow=True)
def _therapy(engine: str) -> Iterator[Finding]:
    for name, (on, cured) in THERAPIES.items():
        problem = branching(
            [1, 0, 0, 0], [200.0, 360.0], 0.14, np.array([[0.10] * 4, on]), PUMP_AND_TARGET,
            replicates=10_000, sync=5.0, record=Record(every=200.0, concentration_every=560.0),
        )  # fmt: skip
        early, late = (
            final_counts(engine, problem, record).sum(axis=1) == 0 for record in (1, -1)
        )  # records: days 0, 200, 400, 560
        yield share("P(extinct before treatment)", 0.71421724, early, detect=0.035)
        yield share(f"P(eradicated given alive), {name}", cured, late[~early], detect=0.075)


SITES = build(
    sites=("marrow", "blood"),
    growth_factor={"marrow": 1.0, "blood": 0.6},
    migration_rate={"marrow": {"blood": 0.1}, "blood": {"marrow": 0.02}},
    birth_rate=0.5,
    death_rate=0.25,
    alterations={"slow": {"birth_cost": 0.4, "first_gain_probability": 0.1}},
)


def sites_problem(**options) -> Problem:
    """Two classes at two sites that differ in births; cells move. Types: class * 2 + site."""
    given = {"seed": 3, "replicates": 1, "sync": 4.0, "max_cells": 4_096}
    record = Record(every=4.0, concentration_every=4.0)
    founders = (Founder(10, 0, 0), Founder(4, 0, 1))
    return Problem(
        SITES, founders, (Arm("only", ()),), horizon=4.0, record=record, **(given | options)
    )  # fmt: skip


@cache
def sites_law() -> laws.Process:
    """The same process for the exact laws."""
    birth = 0.5 * np.array([1.0, 0.6, 0.6, 0.36])
    moves = np.array([[0.0, 0.1], [0.02, 0.0]])
    mutation = np.zeros((4, 4))
    mutation[0, 2] = mutation[1, 3] = 0.1
    return laws.process([4.0], birth, 0.25, mutation, np.kron(np.eye(2), moves))


SITE_FOUNDERS = np.array([10, 4, 0, 0])


@declare("E07", "two classes at two sites", ATHREYA, EXACT, "extinction")
def _sites(_engine: str) -> Iterator[Finding]:
    expected = laws.probability_of_none(sites_law(), SITE_FOUNDERS)
    yield close("P(extinct), day 4", expected, no_cell(sites_problem()), 1e-7)


@declare("E07", "two classes at two sites", ATHREYA, EXACT, "meanfield")
def _site_moments(_engine: str) -> Iterator[Finding]:
    expected, covariance = laws.moments(sites_law(), SITE_FOUNDERS)
    burden, deviation, means = moments(sites_problem())
    yield close("mean", expected.sum(), burden, 1e-9)
    yield close("standard deviation", math.sqrt(covariance.sum()), deviation, 1e-9)
    yield close("mean of mutants", expected[2:].sum(), means[1], 1e-9)


@declare("E07", "two classes at two sites", ATHREYA, EXACT, "cells", "clones", slow=True)
def _sampled_sites(engine: str) -> Iterator[Finding]:
    num = {"cells": 4_000, "clones": 20_000}[engine]
    wide = math.sqrt(20_000 / num)
    problem = sites_problem(replicates=num)
    simulate = {"cells": cells.simulate, "clones": clones.simulate}[engine]
    root = simulate(problem)[""]
    by_site = np.asarray(root["site_burden"].data)[0, 0, :, -1]
    for site, name in enumerate(SITES.names.sites):
        law = laws.marginal(sites_law(), SITE_FOUNDERS, np.tile(np.eye(2, dtype=int)[site], 2))
        deviation = math.sqrt(law.variance)
        yield mean(f"mean in {name}", law, by_site[:, site], detect=0.06 * deviation * wide)
        yield whole_law(f"law in {name}", law, by_site[:, site], detect=0.05 * wide)


@declare("E07", "ladder of three mutations, day 8", ATHREYA, EXACT, "clones", slow=True)
def _long_ladder(engine: str) -> Iterator[Finding]:
    founders, *rates = LADDER
    seen = final_counts(engine, branching(founders, [8.0], *rates, replicates=20_000, sync=1.0))
    for k, none, detect in ((2, 0.95494905, 0.012), (3, 0.99984008, 0.002)):
        name = f"P(no cell with {k} hits or more), day 8"
        yield share(name, none, ~seen[:, k:].any(axis=1), detect=detect)


@cache
def switching_law() -> laws.Process:
    """40 days off the drug, 30 on it (rates of E08)."""
    conversion = np.zeros((2, 2, 2))
    for segment, rates in enumerate((OFF, ON)):
        for start, to, rate in rates[3]:
            conversion[segment, start, to] = rate
    birth, death = ([OFF[i], ON[i]] for i in (0, 1))
    return laws.process([40, 30], birth, death, None, conversion)


def switched(**options) -> Problem:
    """50 sensitive cells, off and on the drug."""
    turns = [(i, *turn) for i, rates in enumerate((OFF, ON)) for turn in rates[3]]
    births, deaths = (np.array([OFF[i], ON[i]]) for i in (0, 1))
    return branching([50, 2], [40.0, 30.0], births, deaths, [], turns, **options)


@declare("E08", "reversible switching, off and on", ATHREYA, EXACT, "meanfield", "extinction")
def _switched_moments(engine: str) -> Iterator[Finding]:
    law, founders = switching_law(), np.array([50, 2])
    if engine == "extinction":
        expected = laws.probability_of_none(law, founders)
        yield close("P(extinct), day 70", expected, no_cell(switched()), 1e-7)
        return
    expected, covariance = laws.moments(law, founders)
    burden, deviation, means = moments(switched())
    yield close("mean", expected.sum(), burden, 1e-9)
    yield close("mean of resistant cells", expected[1], means[1], 1e-9)
    yield close("standard deviation", math.sqrt(covariance.sum()), deviation, 1e-9)


@declare("E08", "reversible switching, off and on", ATHREYA, EXACT, "cells", "clones", slow=True)
def _sampled_switching(engine: str) -> Iterator[Finding]:
    num = {"cells": 2_000, "clones": 20_000}[engine]
    wide = math.sqrt(20_000 / num)
    seen = final_counts(engine, switched(replicates=num, max_cells=4_096, sync=5.0))
    for kind, name in enumerate(("sensitive", "resistant")):
        law = laws.marginal(switching_law(), [50, 2], np.eye(2, dtype=int)[kind])
        deviation = math.sqrt(law.variance)
        yield mean(f"mean of {name} cells", law, seen[:, kind], detect=0.06 * deviation * wide)
        yield whole_law(f"law of {name} cells", law, seen[:, kind], detect=0.05 * wide)


KIMMEL = "rates of Kimmel & Axelrod 1990, Genetics 125:633"
SYNCHRONOUS = {  # start -> share with copies after 10, 20, 50, 100, 200 divisions
    1: (0.38605209, 0.17800365, 0.02966022, 0.00285509, 5.336e-5),
    10: (1.0, 0.99999405, 0.98515538, 0.66172215, 0.07031744),
}


def copies(start: int, days: float, most: int, both: bool = False, **options) -> Problem:
    """Gene copies, gained with .02 and lost with .10 per division, none once lost; one division a day."""
    steps = laws.copy_steps(0.02, 0.10, most)
    moves = [(i, j, p) for (i, j), p in np.ndenumerate(steps) if p > 0]
    founders = [int(i == start) for i in range(most + 1)]
    return branching(founders, [days], 1.0, 0.0, moves, both=both, **options)


@declare("E09", "gene copies", KIMMEL, EXACT, "meanfield")
def _copies(_engine: str) -> Iterator[Finding]:
    """Synchronous divisions (a matrix power) are no continuous time; with both daughters a mean cell
    takes Poisson(2 b t) divisions, so that the share is a matrix exponential.
    """
    for start, expected in SYNCHRONOUS.items():
        table = laws.copy_steps(0.02, 0.10, start + 60)
        for divisions, printed in zip((10, 20, 50, 100, 200), expected, strict=True):
            found = laws.synchronous_share(table, start, divisions)
            name = f"synchronous, {start} copies, {divisions} divisions, closed form"
            yield near(name, printed, found, 5.1e-9)
    for divisions, printed in ((10, 0.523312), (20, 0.296666), (50, 0.074437)):
        burden, _, means = moments(copies(1, divisions * math.log(2), 40))
        found = 1 - means[0] / burden
        yield near(f"one daughter, 1 copy, {divisions} doublings", printed, found, 5.1e-7)


@declare("E09", "gene copies", KIMMEL, EXACT, "cells", "clones", slow=True)
def _sampled_copies(engine: str) -> Iterator[Finding]:
    """10 doublings from one copy: cells with copies less cells without, the whole law exact."""
    num = {"cells": 1_000, "clones": 5_000}[engine]
    wide = math.sqrt(5_000 / num)
    problem = copies(1, 10 * math.log(2), 5, replicates=num, sync=0.25)
    seen = final_counts(engine, problem)
    weights = np.array([-1, 1, 1, 1, 1, 1])
    process = laws.process([10 * math.log(2)], np.ones(6), 0.0, laws.copy_steps(0.02, 0.10, 5))
    law = laws.marginal(process, np.eye(6, dtype=int)[1], weights)
    deviation = math.sqrt(law.variance)
    yield mean(
        "cells with copies less those without", law, seen @ weights, detect=0.12 * deviation * wide
    )
    yield whole_law("their law", law, seen @ weights, detect=0.1 * wide)


# --- V10: DSMTS ------------------------------------------------------------------------------------

EVANS = "Evans, Gillespie & Wilkinson 2008, doi:10.1093/bioinformatics/btm566"
DAYS = (10, 25, 50)
BIRTH_DEATH = {  # case -> birth, death, cells; mean and deviation on days 10, 25, 50
    "001-01": (0.1, 0.11, 100, (90.48374, 13.44708), (77.88008, 19.02018), (60.65307, 22.38677)),
    "001-03": (1.0, 1.1, 100, (36.78794, 22.09848), (8.20850, 12.57890), (0.67379, 3.74891)),
    "001-05": (
        0.1, 0.11, 10_000, (9048.374, 134.47081), (7788.008, 190.20181), (6065.307, 223.86773),
    ),
}  # fmt: skip
IMMIGRATION = {
    "002-01": (1.0, 0.1, (6.321206, 2.514201), (9.17915, 3.029711), (9.93262, 3.151606)),
    "002-02": (10.0, 0.1, (63.21206, 7.950601), (91.7915, 9.580788), (99.3262, 9.966253)),
}


@declare("V10", "DSMTS", EVANS, PUBLISHED, "meanfield")
def _dsmts(_engine: str) -> Iterator[Finding]:
    for case, (birth, death, founders, *printed) in BIRTH_DEATH.items():
        for day, (expected, deviation) in zip(DAYS, printed, strict=True):
            found = moments(branching([founders], [day], birth, death))
            yield close(f"{case}, mean, day {day}", expected, found[0], 1e-5)
            yield close(f"{case}, sd, day {day}", deviation, found[1], 1e-5)
    for case, (rate, death, *printed) in IMMIGRATION.items():
        for day, (expected, deviation) in zip(DAYS, printed, strict=True):
            found = moments(branching([0], [day], 0.0, death, immigration=[(0, rate, 1)]))
            yield close(f"{case}, mean, day {day}", expected, found[0], 1e-5)
            yield close(f"{case}, sd, day {day}", deviation, found[1], 1e-5)


def _poisson(expected: float) -> Law:
    values = np.arange(int(expected + 12 * math.sqrt(expected) + 30))
    p = stats.poisson.pmf(values, expected)
    return Law(values, p / p.sum())


def dead_law(day: float) -> Law:
    """001-07: cells that have died in 001-01, as a type of their own that stays."""
    process = laws.process(
        [day], np.array([0.1, 0.0]), 0.0, None, np.array([[0.0, 0.11], [0.0, 0.0]])
    )
    return laws.marginal(process, [100, 0], [0, 1])


def _sampled_dsmts(engine: str, num: int, names, days) -> Iterator[Finding]:
    wide = math.sqrt(10_000 / num)
    for case in names:
        record = Record(every=5.0, concentration_every=50.0)
        options = {"replicates": num, "record": record, "sync": 5.0, "max_cells": 4_096}
        if case in IMMIGRATION:
            rate, death, *_ = IMMIGRATION[case]
            problem = branching([0], [max(days)], 0.0, death, immigration=[(0, rate, 1)], **options)
        else:
            birth, death, founders, *_ = BIRTH_DEATH[case]
            problem = branching([founders], [max(days)], birth, death, **options)
        simulate = {"cells": cells.simulate, "clones": clones.simulate}[engine]
        root = simulate(problem)[""]
        burden, time = np.asarray(root["burden"].data)[0, 0], root["time"].data
        for day in days:
            if case in IMMIGRATION:
                law = _poisson(rate / death * -math.expm1(-death * day))
            else:
                law = laws.birth_death([day], [birth], [death]).law(founders)
            seen = burden[:, int(np.argmin(np.abs(time - day)))]
            shift = 0.09 * math.sqrt(law.variance) * wide
            spread = (0.17 if law.mean > 30 else 0.32 if law.mean > 5 else 1.2) * wide
            yield mean(f"{case}, mean, day {day}", law, seen, detect=shift)
            yield variance(f"{case}, variance, day {day}", law, seen, detect=spread)
        if case == "001-01" and max(days) == 50:
            law, died = dead_law(50.0), np.asarray(root["deaths"].data)[0, 0]
            yield near("001-07, mean of the law, day 50", 432.8163, law.mean, 5.1e-5)
            yield mean("001-07, mean of deaths, day 50", law, died, detect=0.09 * 68.9367 * wide)
            yield variance("001-07, variance of deaths, day 50", law, died, detect=0.2 * wide)


@declare("V10", "DSMTS", EVANS, PUBLISHED, "cells", slow=True)
def _dsmts_cells(engine: str) -> Iterator[Finding]:
    yield from _sampled_dsmts(engine, 2_000, ("001-01", "002-01"), (10,))


@declare("V10", "DSMTS", EVANS, PUBLISHED, "clones")
def _dsmts_clones(engine: str) -> Iterator[Finding]:
    yield from _sampled_dsmts(engine, 10_000, ("001-01", "001-05", "002-02"), (10, 25))


@declare("V10", "DSMTS, all", EVANS, PUBLISHED, "clones", slow=True)
def _all_dsmts(engine: str) -> Iterator[Finding]:
    yield from _sampled_dsmts(engine, 10_000, (*BIRTH_DEATH, *IMMIGRATION), DAYS)


# 001-01 with batches: an event brings five cells (compound Poisson), 003-like.
BATCH = (0.7, 5, 0.05, 0.08)  # events per day, cells per event, birth, death


def batch_moments(day: float) -> tuple[float, float]:
    """Mean and variance of what a Poisson stream of batches leaves: int rate E[S], int rate E[S^2]."""
    rate, size, b, d = BATCH
    age = np.linspace(0, day, 20_001)
    m = np.exp((b - d) * age)
    v = (b + d) / (b - d) * m * (m - 1)  # of one cell after `age`
    second = size * v + (size * m) ** 2
    return float(rate * np.trapezoid(size * m, age)), float(rate * np.trapezoid(second, age))


@declare(
    "V10", "batches of five immigrants", "compound Poisson (Campbell 1909)", EXACT, "meanfield"
)
def _batches(_engine: str) -> Iterator[Finding]:
    rate, size, b, d = BATCH
    expected, spread = batch_moments(20.0)
    found = moments(branching([0], [20.0], b, d, immigration=[(0, rate, size)]))
    yield close("mean, day 20", expected, found[0], 1e-7)
    yield close("standard deviation, day 20", math.sqrt(spread), found[1], 1e-7)
