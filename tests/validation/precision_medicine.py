"""V03: four cell types under two drugs, and rules that decide every 45 days.

`survival` is plain NumPy, for any function that decides; `treated` is the engine with the rules of the
package.

    x' = [(I + T) diag(g) - diag(s . dose)] x,      x_i < 1 freezes type i; that is asked once a day

Types S, R1, R2, R12 (packed genotypes 0 to 3). Beckman, Schemmann & Yeang 2012,
doi:10.1073/pnas.1203559109. N >= 1e13 is death on that day; all x < 1 is cure.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from scipy.linalg import expm

from jaxevo.engines.base import Rule
from jaxevo.selftest.case import PUBLISHED, Finding, close
from jaxevo.treatment.precision import cpm, dpm22
from tests.models import four_types
from tests.validation.registry import declare
from tests.validation.tables import numbers, rows

TYPES = ("s", "r1", "r2", "r12")
WINDOW, LAST_DAY, CURED = 45, 1800, 1845  # days
FATAL_CELLS = 1e13
RULES = ("cpm", "dpm22")


class Patient(NamedTuple):
    """One row of the table; [type] or [type, drug], rates 1/day."""

    name: str
    cells: np.ndarray
    growth: float
    believed: np.ndarray  # sensitivity, as the physician sees it
    true: np.ndarray  # sensitivity that the cells have
    mutation: np.ndarray  # [to, from] per division
    published: dict[str, float]  # rule -> day of death, 1800 alive, 1845 cured
    computed: dict[str, float]


def patients() -> list[Patient]:
    """All patients of the table."""
    return [_patient(row) for row in rows("virtual_patients")]


def _patient(row: dict[str, str]) -> Patient:
    at = numbers(row)
    table = lambda who: np.array([[at[f"{who}_{t}_d{d}"] for d in (1, 2)] for t in TYPES])  # noqa: E731
    mutation = np.zeros((4, 4))
    mutation[1, 0] = mutation[3, 2] = at["mutation_r1"]
    mutation[2, 0] = mutation[3, 1] = at["mutation_r2"]
    return Patient(
        row["patient"],
        np.array([at[t] for t in TYPES]),
        at["growth"],
        table("believed"),
        table("true"),
        mutation,
        {rule: at[f"{rule}_published"] for rule in RULES},
        {rule: at[f"{rule}_computed"] for rule in RULES},
    )


class Tumor:
    """The cells of one patient, day by day."""

    def __init__(self, who: Patient):
        self.cells = who.cells.copy()
        self.net_birth = (np.eye(4) + who.mutation) * who.growth
        self.sensitivity = who.true
        self.carried: dict[tuple, np.ndarray] = {}
        self.end: float | None = CURED if np.all(self.cells < 1) else None

    def go_on(self, first_day: int, share: np.ndarray) -> None:
        """One window, or until death or cure."""
        for day in range(first_day + 1, first_day + WINDOW + 1):
            moves = self.cells >= 1
            key = (*share, *moves)
            if key not in self.carried:
                rates = self.net_birth - np.diag(self.sensitivity @ share)
                self.carried[key] = expm(rates * moves)
            self.cells = self.carried[key] @ self.cells
            if self.cells.sum() >= FATAL_CELLS:
                self.end = day
                return
            if np.all(self.cells < 1):
                self.end = CURED
                return


def survival(cohort: list[Patient], decide: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Day of death of every patient, 1800 if alive then, 1845 if cured.

    `decide(visit, cells [patient, type])` answers with shares [patient, drug].
    """
    tumors = [Tumor(who) for who in cohort]
    for visit in range(LAST_DAY // WINDOW):
        shares = decide(visit, np.array([tumor.cells for tumor in tumors]))
        for tumor, share in zip(tumors, np.asarray(shares, float), strict=True):
            if tumor.end is None:
                tumor.go_on(visit * WINDOW, share)
    return np.array([LAST_DAY if tumor.end is None else tumor.end for tumor in tumors], float)


# --- rules, and the engine -------------------------------------------------------------------------


def believed(name: str, who: Patient) -> Rule:
    """The rule with what the physician believes of this patient."""
    table = tuple(map(tuple, who.believed))
    if name == "cpm":
        return cpm(sensitivity_per_day=table)
    mutants = tuple(map(tuple, who.mutation))
    return dpm22(
        growth_rate_per_day=who.growth, sensitivity_per_day=table, mutation_probability=mutants
    )


def believed_of_all(name: str, cohort: Sequence[Patient]) -> Rule:
    """The same for a cohort, each patient with parameters of its own."""
    rules = [believed(name, who) for who in cohort]
    stacked = jax.tree.map(lambda *x: np.stack(x), *[rule.params for rule in rules])
    return rules[0]._replace(params=stacked, of_patient=True)


def treated(name: str, cohort: Sequence[Patient]) -> np.ndarray:
    """Day of death of every patient as `meanfield` has it, as `survival` reports it."""
    truth = [four_types.Patient(w.cells, w.growth, w.true, w.mutation) for w in cohort]
    rule = believed_of_all(name, cohort)
    study = four_types.problem(truth, rule, days=LAST_DAY, every=WINDOW)
    return four_types.survival(study, fatal=FATAL_CELLS, cured=CURED)


BECKMAN = "Beckman, Schemmann & Yeang 2012, doi:10.1073/pnas.1203559109"


def at_least(quantity: str, share: float, obtained: float) -> Finding:
    """A share that may be larger."""
    return Finding(quantity, share, obtained, f"at least {share:g}", bool(obtained >= share))


@declare("V03", "dynamic precision medicine", BECKMAN, PUBLISHED, "meanfield", slow=True)
def _precision_medicine(_engine: str) -> Iterator[Finding]:
    """100 patients whose sensitivity to D2 is 30 times off what the rule believes."""
    cohort = patients()
    for rule in RULES:
        published = np.array([who.published[rule] for who in cohort])
        days = treated(rule, cohort)
        off = np.abs(days - published)
        name = rule.upper()
        yield close(f"{name}, mean survival (d)", published.mean(), days.mean(), 0.005)
        yield at_least(f"{name}, share within 1 d", 0.85, np.mean(off <= 1))
        yield at_least(f"{name}, share within 5 %", 0.95, np.mean(off <= 0.05 * published))
