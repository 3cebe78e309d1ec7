"""Every validation case: those of the selftest, and those that need tables or independent solvers.

A case is declared once, in the module of its family; the tests, the selftest and docs/validation.md
read the same declaration. Stochastic limits are those of `tests.statistics`, at a false-fail rate of
1e-6 each, and refuse to be drawn where the stated error could pass.
"""

import importlib
from collections.abc import Callable
from functools import partial

import numpy as np

from jaxevo.selftest import CASES as SELFTEST
from jaxevo.selftest.case import Case, Finding, between
from jaxevo.selftest.case import declare as file
from tests import statistics
from tests.laws import Law

FAMILIES = (
    "branching",
    "dual_therapy",
    "drugs",
    "marrow",
    "precision_medicine",
    "competition",
    "published_models",
    "populations",
    "immunity",
)
CASES: list[Case] = []
declare: Callable = partial(file, CASES)


def every_case() -> list[Case]:
    """All declared cases by name, those of the selftest first."""
    for family in FAMILIES:
        importlib.import_module(f"tests.validation.{family}")
    order = lambda case: (case.name == "bits", case.name, case.is_slow)  # noqa: E731
    return sorted([*SELFTEST, *CASES], key=order)


# --- statistical judgments that state their power --------------------------------------------------


def share(quantity: str, probability: float, seen, *, detect: float) -> Finding:
    """A probability from independent replicates (booleans); `detect` is absolute."""
    seen = np.asarray(seen, bool).ravel()
    low, high = statistics.hit_limits(probability, seen.size, detect=detect)
    return between(quantity, probability, seen.mean(), (low / seen.size, high / seen.size))


def mean(quantity: str, law: Law, samples, *, detect: float) -> Finding:
    """The mean of independent replicates; `detect` is an absolute shift."""
    samples = np.asarray(samples, float).ravel()
    limits = statistics.mean_limits(law, samples.size, detect=detect)
    slack = 1e-9 * max(1.0, abs(law.mean))
    return between(quantity, law.mean, samples.mean(), (limits[0] - slack, limits[1] + slack))


def variance(quantity: str, law: Law, samples, *, detect: float) -> Finding:
    """The mean square about the law's mean; 1 + `detect` is a factor on the variance."""
    samples = np.asarray(samples, float).ravel()
    limits = statistics.variance_limits(law, samples.size, detect=detect)
    return between(quantity, law.variance, np.mean((samples - law.mean) ** 2), limits)


def whole_law(quantity: str, law: Law, samples, *, detect: float) -> Finding:
    """Chi-square of the samples against the law; `detect` is a total variation distance."""
    samples = np.asarray(samples).ravel()
    cells = statistics.pooled_cells(law.probabilities, samples.size)
    pooled = np.bincount(cells, law.probabilities)
    pooled = pooled / pooled.sum()
    limit = statistics.chi_square_limit(pooled, samples.size, detect=detect)
    at = np.clip(np.searchsorted(law.values, samples), 0, len(cells) - 1)
    seen = np.bincount(cells[at], minlength=len(pooled))
    expected = samples.size * pooled
    chi_square = np.sum((seen - expected) ** 2 / expected)
    return between(f"{quantity}, chi-square", len(pooled) - 1, chi_square, (0.0, limit))
