"""V02, E02, E03: resistance that is there when a tumor of M cells is found, and what therapy leaves.

Types 00, 10, 01, 11 (resistant to neither drug, one, both) divide at b; d, and d' where a drug still
acts. Point mutations at u per base and division: n1, n2 against one drug only, n12 against both. A
fitness cost c lowers the net growth of a k-fold resistant type to (b - d)(1 - c)^k by its birth rate.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from jaxevo.engines import extinction
from jaxevo.engines.base import Problem
from jaxevo.selftest.case import COMPUTED, EXACT, PUBLISHED, Finding, close, near
from jaxevo.selftest.problem import branching, final_counts, relapse_probability
from tests import laws
from tests.laws import Law
from tests.validation.registry import declare, share, whole_law
from tests.validation.tables import rows

BOZIC = "Bozic et al. 2013, doi:10.7554/eLife.00747"


class Patient(NamedTuple):
    """Rates per day; u per base and division; n point mutations that resist."""

    size: float
    n12: float = 0.0
    n1: float = 50.0
    n2: float = 50.0
    u: float = 1e-9
    b: float = 0.14
    d: float = 0.13
    d_on: float = 0.17
    cost: float = 0.0


def eradicated_by_two(p: Patient) -> float:
    """The closed form; it replaces clone sizes by their means, a few percent high for n12 = 0."""
    s, s_on = 1 - p.d / p.b, 1 - p.d_on / p.b
    k = (s_on - s) / (s * s_on)
    n1, n2, n12, u, size = p.n1, p.n2, p.n12, p.u, p.size
    part = lambda a, b: a * (b + n12) * math.log(1 / (s * size) + u * (b + n12) * k)  # noqa: E731
    single = -size * u * n12 * (1 - s / s_on)
    before = size * u**2 * k * (part(n1, n2) + part(n2, n1))
    during = -size * u**2 * (2 * n1 * n2 + n12 * (n1 + n2)) * s / s_on**2
    return math.exp(single + before + during)


def eradicated_by_one(p: Patient, n: float = 50.0) -> float:
    """exp(-M u n (1 - s/s')), the closed form for one drug."""
    s, s_on = 1 - p.d / p.b, 1 - p.d_on / p.b
    return math.exp(-p.size * p.u * n * (1 - s / s_on))


def steps(p: Patient) -> list[tuple[int, int, float]]:
    """Mutations between 00, 10, 01 and 11, per division."""
    both = p.n12
    table = [(0, 1, p.n1), (0, 2, p.n2), (0, 3, both), (1, 3, p.n2 + both), (2, 3, p.n1 + both)]
    return [(start, to, p.u * n) for start, to, n in table]


def births(p: Patient) -> np.ndarray:
    """Birth rates of the four types, with the cost of resistance."""
    return p.d + (p.b - p.d) * (1 - p.cost) ** np.array([0.0, 1.0, 1.0, 2.0])


def deaths(p: Patient, drugs: int) -> np.ndarray:
    """Death rates under one drug (the first) or two."""
    hit = [True, False, True, False] if drugs == 1 else [True, True, True, False]
    return np.where(hit, p.d_on, p.d)


def failure(p: Patient, drugs: int = 2, horizon: float = 6000.0) -> float:
    """1 - P(eradication) of the large-M limit law with a deterministic bulk, by SciPy.

    Backward in time p_i, the chance that a cell of type i has descendants at the horizon, first under
    treatment, then tau before it. Mutant clones arise at b u_j M e^(-(b - d) tau); log P(eradication)
    = M ln(1 - p_00(0)) - int b M e^(-(b - d) tau) sum_j u_j p_j(tau) d tau, j other than 00.
    """
    mutation = np.zeros((4, 4))
    for start, to, probability in steps(p):
        mutation[start, to] = probability
    birth, growth = births(p), p.b - p.d
    kept = 1 - mutation.sum(axis=1)

    def change(q: np.ndarray, death: np.ndarray) -> np.ndarray:
        daughter = kept * q + mutation @ q  # chance of the daughter that may have mutated
        return birth * (daughter - q * daughter) - death * q

    def solve(start, days, rates):
        found = solve_ivp(
            lambda _, y: np.append(change(y[:4], rates), p.b * math.exp(-growth * _) * mutation[0] @ y[:4]),
            (0, days), np.append(start, 0.0), "LSODA", rtol=1e-10, atol=1e-30,
        )  # fmt: skip
        return found.y[:, -1]

    now = solve(np.ones(4), horizon, deaths(p, drugs))[:4]
    before = solve(now, 60 / growth, np.full(4, p.d))
    return -math.expm1(p.size * (math.log1p(-now[0]) - before[4]))


def treated(p: Patient, drugs: int, horizon: float = 6000.0, **options) -> Problem:
    """One founder, treated for `horizon` days when there are M cells."""
    return branching(
        [1, 0, 0, 0], [0.0, horizon], births(p), np.stack([np.full(4, p.d), deaths(p, drugs)]),
        steps(p), treat_at_cells=int(p.size), **options,
    )  # fmt: skip


def cohort() -> Iterator[tuple[str, Patient, float]]:
    """The published table: name, patient, P(two drugs fail)."""
    for row in rows("dual_therapy"):
        size = float(row["cells"])
        yield f"{row['patient']}, n12 0", Patient(size, 0.0), float(row["fails_without_cross"])
        yield f"{row['patient']}, n12 1", Patient(size, 1.0), float(row["fails_with_cross"])


@declare("V02", "dual therapy, closed form", BOZIC, PUBLISHED, "closed form")
def _closed_form(_engine: str) -> Iterator[Finding]:
    """3 % and rounding: half of the last printed digit of M, .0005 of the probability."""
    for name, p, published in cohort():
        obtained = 1 - eradicated_by_two(p)
        half = 0.5 * 10 ** (math.floor(math.log10(p.size)) - 1)
        rounding = abs(1 - eradicated_by_two(p._replace(size=p.size + half)) - obtained)
        allowed = 0.03 * published + rounding + 0.0005
        yield near(f"P(two drugs fail), {name}", published, obtained, allowed)
        yield near(f"P(one drug fails), {name}", 1.0, 1 - eradicated_by_one(p), 0.0005)
    for size, expected in ((1e6, 0.935507), (1e7, 0.513417), (1e8, 0.00127263)):
        obtained = eradicated_by_one(Patient(size))
        yield close(f"P(eradicated by one drug), M {size:.0e}", expected, obtained, 1e-5)


PRINTED = {"N1, n12 0": 0.2744, "N10, n12 0": 0.0656, "N20, n12 1": 0.8818, "N22, n12 1": 0.6784}


@declare("V02", "dual therapy, large-M limit law", BOZIC, COMPUTED, "extinction")
def _limit_law(_engine: str) -> Iterator[Finding]:
    for name, p, _ in cohort():
        if name in PRINTED:
            obtained = relapse_probability(treated(p, 2))
            yield near(f"P(two drugs fail), {name}", PRINTED[name], obtained, 5.1e-5)


@declare("V02", "dual therapy, all patients", BOZIC, COMPUTED, "extinction", slow=True)
def _whole_cohort(_engine: str) -> Iterator[Finding]:
    """To 1e-4: the law drops the share of mutants at detection, of the order u n ln(M s)/s = 3e-5."""
    for name, p, _ in cohort():
        yield close(
            f"P(two drugs fail), {name}", failure(p), relapse_probability(treated(p, 2)), 1e-4
        )
    for size in (1e6, 1e7):
        p = Patient(size)
        obtained = relapse_probability(treated(p, 1))
        yield close(f"P(one drug fails), M {size:.0e}", failure(p, 1), obtained, 1e-4)


@declare("V02", "dual therapy, from one founder", BOZIC, COMPUTED, "clones", slow=True)
def _sampled(engine: str) -> Iterator[Finding]:
    """A tumor of a million 11 cells does not die out any more (survival 1 - (d/b)^1e6)."""
    for name, p, _ in cohort():
        if name.split(",")[0] not in ("N1", "N10", "N20", "N22") or (p.n12 and p.size > 1e10):
            continue
        problem = treated(p, 2, 1500.0, replicates=20_000, sync=10.0)
        cells = final_counts(engine, problem)
        yield share(
            f"P(two drugs fail), {name}", failure(p, 2, 1500.0), cells.any(axis=1), detect=0.03
        )


# --- E03: resistance at detection ------------------------------------------------------------------

IWASA = "Iwasa, Nowak & Michor 2006, Genetics 172:2557"


def detected(b, d, u, size, mutant_birth=None, mutant_death=None, days=0.0, **options) -> Problem:
    """Cells of the mutant that are there when all together are `size`: all others are taken away."""
    birth = [b, b if mutant_birth is None else mutant_birth]
    death = [d, d if mutant_death is None else mutant_death]
    options = {"treat_at_cells": int(size), "only": [1]} | options
    return branching([1, 0], [days], birth, death, [(0, 1, u)], **options)


def log_none(problem: Problem) -> float:
    """-ln P(no mutant) by the `extinction` engine."""
    return -float(extinction.simulate(problem)[""]["no_relapse_log"].data[0, 0, -1])


@declare("E03", "resistance at detection", IWASA, EXACT, "extinction")
def _resistance(_engine: str) -> Iterator[Finding]:
    for ratio, factor in (
        (0.0, 1.0), (0.1, 1.053605), (0.5, 1.386294), (0.9, 2.558428), (0.93, 2.859419),
        (0.99, 4.651687),
    ):  # fmt: skip
        obtained = log_none(detected(1.0, ratio, 1e-9, 1e9))
        yield close(f"F, d/b {ratio:g}", factor, obtained, 1e-5)
    for mutant, expected in (
        (0.14, 0.941695),
        (0.139, 0.938829),
        (0.135, 0.926388),
        (0.132, 0.916239),
    ):
        obtained = relapse_probability(detected(0.14, 0.13, 1e-9, 1e9, mutant))
        yield near(f"P(mutant), mutant birth {mutant:g}", expected, obtained, 1e-6)
    for u, expected in ((42e-9, 74.2563), (1e-9, 1.7680)):
        obtained = log_none(detected(0.25, 0.18, u, 1e9))
        yield close(f"M u F, b .25, d .18, u {u:g}", expected, obtained, 3e-5)


@declare("E03", "resistance at detection", IWASA, EXACT, "clones", slow=True)
def _sampled_resistance(engine: str) -> Iterator[Finding]:
    """b .25, d .18, M u = 1: P(no mutant) of the limit law, M 1e6."""
    problem = detected(0.25, 0.18, 1e-6, 1e6, days=1.0, replicates=4_000, only=())
    none = final_counts(engine, problem, record=0)[:, 1] == 0
    expected = math.exp(-laws.resistance_factor(0.25, 0.18))
    yield share("P(no mutant)", expected, none, detect=0.05)


# --- E02: Luria-Delbrueck --------------------------------------------------------------------------

LEA = "Lea & Coulson 1949, doi:10.1007/BF02986080; Mandelbrot 1974, doi:10.2307/3212688"
SHARES = {  # m -> P(0 .. 3 mutants), P(>= 100)
    0.5: (0.60653066, 0.15163266, 0.06949830, 0.03948767, 0.005105),
    1.0: (0.36787944, 0.18393972, 0.10729817, 0.06897740, 0.010424),
    2.0: (0.13533528, 0.13533528, 0.11277940, 0.09022352, 0.021738),
    5.0: (0.00673795, 0.01684487, 0.02667104, 0.03439160, 0.061651),
    10.0: (4.54e-5, 2.27e-4, 6.4317e-4, 0.00136200, 0.151473),
}
SLOW_MUTANTS = {0.5: 0.18044704, 0.8: 0.15037254, 1.2: 0.12303208}  # rho -> P(1 mutant), m = 2


def culture(
    mutations: float, size: int, growth: float = 1.0, replicates: int = 1, **options
) -> Problem:
    """Cells that do not die and divide once a day, stopped at `size`; mutants grow at `growth`."""
    mutation = [(0, 1, mutations / size)]
    return branching(
        [1, 0], [1.0], [1.0, growth], 0.0, mutation, replicates=replicates, treat_at_cells=size,
        **options,
    )  # fmt: skip


def mutants(engine: str, problem: Problem) -> tuple[np.ndarray, float]:
    """Mutants when the culture is stopped, by replicate, and the mean size then."""
    cells = final_counts(engine, problem, record=0)
    return cells[:, 1], cells.sum(axis=1).mean()


def tabulated(mutations: float, growth: float = 1.0, top: int = 4_000) -> Law:
    """The limit law, its tail in one outcome."""
    p = laws.luria_delbruck(mutations, top, growth)
    return Law(np.arange(top + 2), np.append(p, 1 - p.sum()))


def _culture(
    engine: str, name: str, mutations: float, growth: float, num: int
) -> Iterator[Finding]:
    size = 10**8
    seen, reached = mutants(engine, culture(mutations, size, growth, replicates=num))
    law = tabulated(mutations * reached / size, growth)  # a culture may stop some cells late
    detect = 0.5 * math.sqrt(10_000 / num) * 0.1
    yield share(f"P(no mutant), {name}", law.probability(0), seen == 0, detect=detect)
    yield share(f"P(1 mutant), {name}", law.probability(1), seen == 1, detect=detect)
    if growth == 1.0:
        many = law.probabilities[law.values >= 100].sum()
        yield share(f"P(100 mutants or more), {name}", many, seen >= 100, detect=detect)
    yield whole_law(f"law of mutants, {name}", law, np.minimum(seen, 4_001), detect=2 * detect)


@declare("E02", "Luria-Delbrueck", LEA, EXACT, "clones", slow=True)
def _one_culture(engine: str) -> Iterator[Finding]:
    yield from _culture(engine, "m 2", 2.0, 1.0, 4_000)


@declare("E02", "Luria-Delbrueck, all rows", LEA, EXACT, "clones", slow=True)
def _all_cultures(engine: str) -> Iterator[Finding]:
    for m in (*SHARES, 30.0):
        yield from _culture(engine, f"m {m:g}", m, 1.0, 10_000)
    for growth in SLOW_MUTANTS:
        yield from _culture(engine, f"m 2, mutants grow at {growth:g}", 2.0, growth, 10_000)


@declare("E02", "Luria-Delbrueck, printed rows", LEA, EXACT, "closed form")
def _printed_cultures(_engine: str) -> Iterator[Finding]:
    for m, expected in SHARES.items():
        law = tabulated(m)
        found = [*law.probabilities[:4], law.probabilities[law.values >= 100].sum()]
        for what, p, obtained in zip(("0", "1", "2", "3", ">= 100"), expected, found, strict=True):
            yield near(f"P({what} mutants), m {m:g}", p, obtained, 1e-6)
    for growth, p in SLOW_MUTANTS.items():
        obtained = tabulated(2.0, growth).probability(1)
        yield near(f"P(1 mutant), m 2, mutants grow at {growth:g}", p, obtained, 5e-9)


@declare("E02", "Luria-Delbrueck, at a finite size", LEA, EXACT, "cells", slow=True)
def _small_culture(engine: str) -> Iterator[Finding]:
    """At 500 cells exactly: the law of the chain, which has the limit law at a distance of .0045."""
    num, size = 4_000, 500
    seen, reached = mutants(engine, culture(2.0, size, replicates=num, max_cells=1_024))
    yield near("cells when a culture is stopped", size, reached, 0.0)
    law = Law(np.arange(size + 1), laws.mutants_at_size(2.0 / size, [size], size)[0])
    yield share("P(no mutant)", law.probability(0), seen == 0, detect=0.05)
    yield whole_law("law of mutants", law, seen, detect=0.11)
