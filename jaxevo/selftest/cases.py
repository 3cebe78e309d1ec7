"""The cases of the selftest: exact laws, each on every engine that it speaks of."""

import math
from collections.abc import Iterator

import numpy as np

from jaxevo.engines.base import Problem
from jaxevo.selftest.case import EXACT, Case, Finding, between, chernoff, close, declare, hits, near
from jaxevo.selftest.problem import (
    SAMPLED,
    Kendall,
    branching,
    final_counts,
    kendall,
    moments,
    no_cell,
    relapse_probability,
    total,
)

CASES: list[Case] = []

# --- one type --------------------------------------------------------------------------------------

KENDALL = "Kendall 1948, doi:10.1214/aoms/1177730285"
FOUNDERS = {"cells": 3_000, "clones": 20_000}  # replicates of one founder


def _deterministic(engine: str, problem: Problem, law: Kendall, founders: int) -> Iterator[Finding]:
    """Survival (extinction) or mean and deviation (meanfield) of a birth-death process."""
    if engine == "extinction":
        expected = -math.expm1(founders * math.log1p(-law.survival))
        yield close("P(a cell is left)", expected, relapse_probability(problem), 1e-9)
    else:
        mean, deviation, _ = moments(problem)
        yield close("mean", founders * law.mean, mean, 1e-9)
        yield close("standard deviation", math.sqrt(founders) * law.deviation, deviation, 1e-9)


@declare(CASES, "E01", "birth and death", KENDALL, EXACT, "extinction", "meanfield")
def _birth_and_death(engine: str) -> Iterator[Finding]:
    for b, d, days, founders in (
        (0.14, 0.13, 100.0, 1),
        (0.14, 0.17, 365.0, 10_000),
        (0.14, 0.30, 365.0, 10**12),  # survival of one cell: 2.3e-26
    ):
        problem = branching([founders], [days], b, d)
        yield from _deterministic(engine, problem, kendall([days], [b], [d]), founders)


@declare(CASES, "E01", "birth and death", KENDALL, EXACT, "cells", "clones")
def _one_founder(engine: str) -> Iterator[Finding]:
    law = kendall([100], [0.14], [0.13])
    burden = _burden(engine, branching([1], [100], 0.14, 0.13, replicates=FOUNDERS[engine]))
    yield hits("P(extinct), one founder", law.alpha, burden == 0)
    yield total("mean, one founder", law, 1, burden)


@declare(CASES, "E01", "birth and death of 1e12 cells", KENDALL, EXACT, "clones")
def _clinical_size(engine: str) -> Iterator[Finding]:
    size, num = 10**12, 4_000
    law = kendall([10], [0.14], [0.13])
    burden = _burden(engine, branching([size], [10], 0.14, 0.13, replicates=num))
    yield total("mean", law, size, burden)
    variance = size * law.deviation**2
    spread = np.mean((burden - size * law.mean) ** 2)
    psi = lambda theta: -0.5 * np.log1p(-2 * theta)  # noqa: E731  chi-square: the law is normal
    low, high = chernoff(psi, num, math.sqrt(2), 0.4999)
    yield between("variance", variance, spread, (low * variance, high * variance))
    law = kendall([70], [0.1], [0.5])
    burden = _burden(engine, branching([size], [70], 0.1, 0.5, replicates=num))
    yield hits("P(extinct) of a cure", math.exp(size * math.log1p(-law.survival)), burden == 0)


PULSED = ([7.0] * 20, [0.14] * 20, [0.20, 0.13] * 10)
CONSTANT = ([7.0] * 20, [0.14] * 20, [0.165] * 20)  # in as many segments: compiled once


@declare(CASES, "E05", "same dose, same mean, different cure", KENDALL, EXACT, "extinction")
def _schedules(_engine: str) -> Iterator[Finding]:
    for name, rates, printed in (
        ("pulses", PULSED, 0.01453634),
        ("constant", CONSTANT, 0.00903424),
    ):
        problem = branching([1000], *_by_segment(rates))
        yield near(f"P(extinct), {name}", printed, no_cell(problem), 5e-9)


@declare(CASES, "E05", "same dose, same mean, different cure", KENDALL, EXACT, "meanfield")
def _schedule_moments(engine: str) -> Iterator[Finding]:
    for rates in (PULSED, CONSTANT):
        yield from _deterministic(
            engine, branching([1000], *_by_segment(rates)), kendall(*rates), 1000
        )


@declare(CASES, "E05", "same dose, same mean, different cure", KENDALL, EXACT, "clones", slow=True)
def _sampled_schedules(engine: str) -> Iterator[Finding]:
    num = 10_000
    for name, rates in (("pulses", PULSED), ("constant", CONSTANT)):
        law = kendall(*rates)
        burden = _burden(engine, branching([100], *_by_segment(rates), replicates=num))
        yield hits(f"P(extinct) of 100 cells, {name}", law.alpha**100, burden == 0)
        yield total(f"mean, {name}", law, 100, burden)


def _by_segment(rates) -> tuple:
    durations, birth, death = rates
    return durations, np.array(birth)[:, None], np.array(death)[:, None]


def _burden(engine: str, problem: Problem) -> np.ndarray:
    return final_counts(engine, problem).sum(axis=1)


# --- several types ---------------------------------------------------------------------------------

ANTAL = "Antal & Krapivsky 2011, doi:10.1088/1742-5468/2011/08/P08018"
ATHREYA = "Athreya & Ney, Branching Processes (1972), chapter V"


@declare(CASES, "E04", "two types, one way", ANTAL, EXACT, "extinction", "meanfield")
def _two_types(engine: str) -> Iterator[Finding]:
    setting = ([1, 0], [8.0], 1.0, 0.5, [(0, 1, 0.01)])
    if engine == "extinction":
        yield near("P(no B)", 0.6953720243, no_cell(branching(*setting, only=[1])), 1e-9)
        yield near("P(all dead)", 0.4953787699, no_cell(branching(*setting)), 1e-9)
        return
    *_, means = moments(branching(*setting))
    growth = math.exp((0.5 - 0.01) * 8)  # a mutation replaces one A daughter by a B
    yield close("mean of A", growth, means[0], 1e-9)
    yield close("mean of B", math.exp(4) - growth, means[1], 1e-9)


@declare(
    CASES, "E04", "two types, one way", ANTAL, EXACT, "cells", "clones", slow=("cells",)
)  # fmt: skip
def _sampled_two_types(engine: str) -> Iterator[Finding]:
    num = FOUNDERS[engine]
    seen = final_counts(engine, branching([1, 0], [8], 1.0, 0.5, [(0, 1, 0.01)], replicates=num))
    yield hits("P(no B)", 0.6953720243, seen[:, 1] == 0)
    yield hits("P(all dead)", 0.4953787699, seen.sum(axis=1) == 0)
    yield total("mean of A and B", kendall([8], [1.0], [0.5]), 1, seen.sum(axis=1))


LADDER = ([100, 0, 0, 0], 1.0, 0.5, [(0, 1, 1e-3), (1, 2, 1e-3), (2, 3, 1e-3)])
NO_HIT = {  # day -> P(no cell with at least 1, 2, 3 hits)
    4: (0.40238145, 0.99744456, 0.99999594),
    8: (0.0011775509, 0.95494905, 0.99984008),
    12: (4.528e-14, 0.6116343, 0.99713574),
}


@declare(CASES, "E07", "ladder of three mutations", ATHREYA, EXACT, "extinction")
def _ladder(_engine: str) -> Iterator[Finding]:
    founders, *rates = LADDER
    for days, expected in NO_HIT.items():
        for k, probability in enumerate(expected, start=1):
            problem = branching(founders, [days], *rates, only=range(k, 4))
            yield near(
                f"P(no cell with {k} hits or more), day {days}", probability, no_cell(problem), 5e-9
            )


@declare(CASES, "E07", "ladder of three mutations", ATHREYA, EXACT, "clones")
def _sampled_ladder(engine: str) -> Iterator[Finding]:
    founders, *rates = LADDER
    num = 20_000
    seen = final_counts(engine, branching(founders, [4], *rates, replicates=num))
    for k, probability in enumerate(NO_HIT[4][:2], start=1):
        none = seen[:, k:].sum(axis=1) == 0
        yield hits(f"P(no cell with {k} hits or more), day 4", probability, none)


PUMP_AND_TARGET = [(0, 1, 1e-4), (0, 2, 1e-4), (1, 3, 1e-4), (2, 3, 1e-4)]
THERAPIES = {  # death rates of 00, target mutant, pump mutant, both; P(eradicated given alive)
    "two drugs": ([0.30, 0.22, 0.22, 0.10], 0.99296174),
    "one drug": ([0.22, 0.10, 0.22, 0.10], 0.38963725),
}


@declare(CASES, "E07", "target mutation and pump, two drugs", ATHREYA, EXACT, "extinction")
def _therapy(_engine: str) -> Iterator[Finding]:
    setting = ([1, 0, 0, 0], 0.14, PUMP_AND_TARGET)
    early = no_cell(branching(setting[0], [200], setting[1], 0.10, setting[2]))
    yield near("P(extinct before treatment)", 0.71421724, early, 5e-9)
    for name, (on, expected) in THERAPIES.items():
        death = np.array([[0.10] * 4, on])
        late = no_cell(branching(setting[0], [200, 360], setting[1], death, setting[2]))
        yield near(
            f"P(eradicated given alive), {name}", expected, (late - early) / (1 - early), 1e-8
        )


OFF = ([0.04, 0.01], [0.02, 0.01], [], [(0, 1, 0.0004), (1, 0, 0.004)])
ON = ([0.0, 0.01], [0.06, 0.01], [], [(0, 1, 0.004), (1, 0, 0.0004)])


@declare(CASES, "E08", "reversible switching", ATHREYA, EXACT, "meanfield")
def _switching(_engine: str) -> Iterator[Finding]:
    for name, rates, growth in (("off drug", OFF, 0.0196676), ("on drug", ON, -0.00037485)):
        early, late = (moments(branching([10_000, 1], [days], *rates)) for days in (4000.0, 4100.0))
        found = math.log(late[0] / early[0]) / 100
        yield near(f"growth rate, {name}", growth, found, 1e-7 if growth > 0 else 1e-8, "/d")
        if growth > 0:
            yield near("resistant share, off drug", 0.01661985, late[2][1] / late[0], 5e-9)


@declare(
    CASES, "E08", "switching of cells that do not divide", ATHREYA, EXACT, "cells", "clones",
    slow=("cells",),
)  # fmt: skip
def _switching_alone(engine: str) -> Iterator[Finding]:
    on, off, days, size = 0.05, 0.15, 7.0, 1_000
    num = {"cells": 20, "clones": 400}[engine]
    problem = branching([size, 0], [days], 0.0, 0.0, [], [(0, 1, on), (1, 0, off)], replicates=num)
    seen = final_counts(engine, problem)
    share = on / (on + off) * -math.expm1(-(on + off) * days)
    psi = lambda theta: np.log1p(share * np.expm1(theta))  # noqa: E731
    limits = chernoff(psi, size * num, math.sqrt(share * (1 - share)))
    yield between("share of switched cells", share, seen[:, 1].mean() / size, limits)
    yield near("cells", size, seen.sum(axis=1).mean(), 0.0)


# --- what comes from outside -----------------------------------------------------------------------

EVANS = "Evans, Gillespie & Wilkinson 2008 (DSMTS 002-01), doi:10.1093/bioinformatics/btm566"
ZAIDER = "Zaider & Minerbo 2000, doi:10.1088/0031-9155/45/2/303"


@declare(CASES, "V10", "immigration and death", EVANS, EXACT, "extinction", "meanfield", "clones")
def _immigration(engine: str) -> Iterator[Finding]:
    mean, num = 10 * -math.expm1(-1.0), 10_000
    problem = branching(
        [0], [10], 0.0, 0.1, immigration=[(0, 1.0, 1)], replicates=num if engine == "clones" else 1
    )
    if engine == "extinction":
        yield close("P(no cell), day 10", math.exp(-mean), no_cell(problem), 1e-9)
    elif engine == "meanfield":
        found, deviation, _ = moments(problem)
        yield close("mean, day 10", 6.321206, found, 1e-6)
        yield close("standard deviation, day 10", 2.514201, deviation, 1e-6)
    else:
        burden = _burden(engine, problem)
        limits = chernoff(lambda theta: mean * np.expm1(theta), num, math.sqrt(mean))
        yield between("mean, day 10", mean, burden.mean(), limits)
        yield hits("P(no cell), day 10", math.exp(-mean), burden == 0)


@declare(CASES, "E06", "tumor control by radiation", ZAIDER, EXACT, "extinction", "clones")
def _radiation(engine: str) -> Iterator[Finding]:
    for size, fractions, gray in ((10**9, 35, 2.0), (10**9, 20, 3.0), (10**8, 30, 1.8)):
        if engine == "clones" and fractions != 30:
            continue  # one program to compile
        kept = math.exp(-0.3 * gray - 0.03 * gray**2)
        expected = math.exp(size * math.log1p(-(kept**fractions)))
        every_day = [(float(day), kept) for day in range(fractions)]
        num = 1 if engine == "extinction" else 4_000
        problem = branching(
            [size], [fractions], 0.0, 0.0, jumps=every_day, replicates=num, sync=1.0
        )
        name = f"P(control), {size:.0e} cells, {fractions} x {gray} Gy"
        if engine == "extinction":
            yield close(name, expected, no_cell(problem), 1e-9)
        else:
            yield hits(name, expected, _burden(engine, problem) == 0)


# --- bits ------------------------------------------------------------------------------------------


@declare(
    CASES, "bits", "a replicate does not depend on the others", "design of the engines", EXACT,
    "cells", "clones",
)  # fmt: skip
def _bits(engine: str) -> Iterator[Finding]:
    problem = branching([20, 0, 0, 0], [3, 1], *LADDER[1:], replicates=12, sync=0.5)
    whole = SAMPLED[engine](problem)[""]["burden"].data[:, :, 5:9]
    part = SAMPLED[engine](problem, replicates=range(5, 9))[""]["burden"].data
    yield near("replicates that differ in another batch", 0, np.sum(whole != part), 0.0)
