"""Case: one claim about one engine, and the judgments between expected and obtained.

Deterministic engines answer to a relative or absolute error. Sampled ones answer to limits that a right
engine leaves with probability 1e-6 at most, from Chernoff's bound on the exact law of the sum over all
replicates (Chernoff 1952, doi:10.1214/aoms/1177729330):

    P(S >= x) <= exp(n psi(theta) - theta x)  for every theta > 0,   psi(theta) = ln E[e^(theta X)].
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, SupportsFloat

import numpy as np

PUBLISHED = "published table"
EXACT = "exact law"
COMPUTED = "computed from published parameters"
FALSE_FAIL = 1e-6


class Finding(NamedTuple):
    """One number: what was expected, what was obtained, and whether that passes."""

    quantity: str
    expected: float
    obtained: float
    tolerance: str
    is_passed: bool


class Result(NamedTuple):
    """A finding with the case that it belongs to."""

    case: str  # such as "E05"
    title: str
    source: str
    provenance: str  # PUBLISHED, EXACT or COMPUTED
    engine: str
    quantity: str
    expected: float
    obtained: float
    tolerance: str
    is_passed: bool


class Case(NamedTuple):
    """One claim about one engine, declared once: tests, selftest and docs/validation.md read it."""

    name: str
    title: str
    source: str
    provenance: str
    engine: str
    find: Callable[[], Iterable[Finding]]
    is_slow: bool = False

    def run(self) -> list[Result]:
        """All findings of this case, from a new run of its engine."""
        about = (self.name, self.title, self.source, self.provenance, self.engine)
        return [Result(*about, *finding) for finding in self.find()]


def declare(
    cases: list[Case], name: str, title: str, source: str, provenance: str, *engines: str,
    slow: bool | tuple[str, ...] = False,
) -> Callable:  # fmt: skip
    """Decorator: file a function of the engine's name, which yields findings, as one case for each.

    `slow` names the engines (or all) whose case the default test suite leaves out.
    """

    def add(find: Callable[[str], Iterable[Finding]]) -> Callable:
        for engine in engines:
            bound = lambda engine=engine: find(engine)  # noqa: E731
            is_slow = slow if isinstance(slow, bool) else engine in slow
            cases.append(Case(name, title, source, provenance, engine, bound, is_slow))
        return find

    return add


def close(
    quantity: str, expected: SupportsFloat, obtained: SupportsFloat, relative: float
) -> Finding:
    """Within a relative error."""
    expected, obtained = float(expected), float(obtained)
    is_passed = abs(obtained - expected) <= relative * abs(expected)
    return Finding(quantity, expected, obtained, f"{relative:.0e} relative", is_passed)


def near(
    quantity: str,
    expected: SupportsFloat,
    obtained: SupportsFloat,
    absolute: float,
    unit: str = "",
) -> Finding:
    """Within an absolute error."""
    expected, obtained = float(expected), float(obtained)
    is_passed = abs(obtained - expected) <= absolute
    return Finding(quantity, expected, obtained, f"{absolute:.6g} {unit}".strip(), is_passed)


def between(
    quantity: str,
    expected: SupportsFloat,
    obtained: SupportsFloat,
    limits: tuple[SupportsFloat, SupportsFloat],
) -> Finding:
    """Within the limits of a sampling law; a right engine leaves them with probability 1e-6."""
    low, high = (float(x) for x in limits)
    expected, obtained = float(expected), float(obtained)
    text = f"{low:.7g} to {high:.7g}, false-fail {FALSE_FAIL:.0e}"
    return Finding(quantity, expected, obtained, text, low <= obtained <= high)


def chernoff(
    psi: Callable[[np.ndarray], np.ndarray], num: int, scale: float, most: float = np.inf
) -> tuple[float, float]:
    """Limits of the mean of `num` samples with cumulant function psi, for scale ~ their deviation.

    psi(theta) may be infinite; theta stays below `most`.
    """
    theta = np.geomspace(1e-3, 300, 4000) / (scale * math.sqrt(num))
    allowed = math.log(2 / FALSE_FAIL)
    up = theta[theta < most]
    with np.errstate(over="ignore"):
        high = np.nanmin((num * psi(up) + allowed) / up)
        low = np.nanmax(-(num * psi(-theta) + allowed) / theta)
    return float(low / num), float(high / num)


def hits(quantity: str, probability: float, seen: np.ndarray) -> Finding:
    """A share of independent replicates (booleans), limits of the binomial law."""
    psi = lambda theta: np.log1p(probability * np.expm1(theta))  # noqa: E731
    deviation = math.sqrt(probability * (1 - probability))
    return between(quantity, probability, np.mean(seen), chernoff(psi, np.size(seen), deviation))
