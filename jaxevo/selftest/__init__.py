"""Selftest: exact laws that this installation must reproduce on this device, engine by engine.

Nothing here is fitted or remembered from a run: expected numbers are closed forms, or digits that
independent solvers printed (`cases`). How an obtained number is judged is in `case`. Published tables
and slow cases are a matter of the test suite (docs/validation.md).
"""

from collections.abc import Callable

from jaxevo.selftest.case import Case, Finding, Result
from jaxevo.selftest.cases import CASES

__all__ = ["CASES", "Case", "Finding", "Result", "run"]


def run(progress: Callable[[int, int, str], None] | None = None) -> list[Result]:
    """Run every case on the present device.

    Args:
        progress: called as progress(done, all, name) before every case and once after the last.
    """
    results = []
    for i, case in enumerate(CASES):
        if progress:
            progress(i, len(CASES), f"{case.name} {case.title} ({case.engine})")
        results += case.run()
    if progress:
        progress(len(CASES), len(CASES), "done")
    return results
