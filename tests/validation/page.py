"""docs/validation.md, from a run of every case.

    python -m tests.validation.page > page.md && mv page.md docs/validation.md

runs all cases; with `--fast`, only those of the default test suite, and the rows of the slow ones are
those of the present page. `read` reads a page back, so that a test can compare it with a new run.
"""

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from jaxevo.selftest import Result
from jaxevo.selftest.case import COMPUTED, EXACT, PUBLISHED, Case
from tests.validation.registry import every_case

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"
DETERMINISTIC = ("meanfield", "extinction", "drug stations", "host", "closed form")

HEAD = f"""# Validation

What jaxevo must reproduce, and what it obtained. `make validation-page` writes this page from a run of
every case; the tests in `tests/validation/` make the same runs and compare the fast ones with it;
`jaxevo selftest` repeats some of the exact laws on an installation. Each case says where its expected
numbers come from:

- **{PUBLISHED}**: numbers that a publication prints or its data hold. Only these validate against a
  publication.
- **{EXACT}**: closed forms, or equations solved by an independent program. Agreement shows that jaxevo
  solves these equations, no more.
- **{COMPUTED}**: the equations and parameters are published, the numbers
  are not: they were computed
  independently of jaxevo.

Engines: `cells` and `clones` draw, and answer to limits that a right engine leaves with probability
1e-6 at most; `meanfield`, `extinction`, the drug stations, the host and closed forms answer to an error.
Sampled numbers are those of one fixed seed on a CPU. What is called *slow* is run by `make test-slow`.
"""


class Row(NamedTuple):
    """One line of the page, as text."""

    case: str
    title: str
    engine: str
    quantity: str
    expected: str
    obtained: str
    tolerance: str
    verdict: str


def row(result: Result) -> Row:
    """A finding as it stands on the page."""
    return Row(
        result.case,
        result.title,
        result.engine,
        result.quantity,
        f"{result.expected:.10g}",
        f"{result.obtained:.8g}",
        result.tolerance,
        "passed" if result.is_passed else "FAILED",
    )


def titles(cases: Iterable[Case]) -> list[tuple[str, str, str, str, str]]:
    """Name, title, source, provenance and slow engines of every case, once for all its engines."""
    slow: dict[tuple[str, str, str, str], list[str]] = {}
    for c in cases:
        engines = slow.setdefault((c.name, c.title, c.source, c.provenance), [])
        engines += [c.engine] * c.is_slow
    return [(*about, ", ".join(engines)) for about, engines in slow.items()]


def render(rows: Iterable[Row]) -> str:
    """The page; every declared case has a section, with or without rows."""
    rows, cases = list(rows), titles(every_case())
    counted = [HEAD, "## Summary\n", "| case | what | provenance | engines | numbers | passed |"]
    counted.append("|---|---|---|---|---|---|")
    for name, title, _, provenance, _ in cases:
        own = [r for r in rows if (r.case, r.title) == (name, title)]
        engines = ", ".join(dict.fromkeys(r.engine for r in own))
        passed = sum(r.verdict == "passed" for r in own)
        numbers = f"{engines} | {len(own)} | {passed}" if own else "not yet run | |"
        counted.append(f"| {name} | {title} | {provenance} | {numbers} |")
    parts = ["\n".join(counted), ""]
    for name, group in groupby(cases, key=lambda case: case[0]):
        parts.append(f"## {name}\n")
        for _, title, source, provenance, engines in group:
            parts.append(f"### {name}: {title}\n")
            slow = f" *Slow: {engines}.*" if engines else ""
            parts.append(f"{provenance[0].upper()}{provenance[1:]}. {source}.{slow}\n")
            parts.append("| engine | quantity | expected | obtained | tolerance | verdict |")
            parts.append("|---|---|---|---|---|---|")
            parts += [
                f"| {' | '.join(r[2:])} |" for r in rows if (r.case, r.title) == (name, title)
            ]
            parts.append("")
    return "\n".join(parts)


def read(text: str) -> list[Row]:
    """The rows of a page."""
    found, at = [], None
    for line in text.splitlines():
        if line.startswith("### "):
            name, title = line.removeprefix("### ").split(": ", 1)
            at = (name, title)
        elif line.startswith("## "):
            at = None
        elif at and line.startswith("| ") and not line.startswith("| engine |"):
            found.append(Row(*at, *line.removeprefix("| ").removesuffix(" |").split(" | ")))
    return found


def main(arguments: list[str]) -> None:
    """Run the cases and print the page; progress goes to the other stream."""
    is_fast = "--fast" in arguments
    kept = read(PAGE.read_text()) if is_fast and PAGE.exists() else []
    rows = []
    for case in every_case():
        sys.stderr.write(f"{case.name} {case.title} ({case.engine})\n")
        if is_fast and case.is_slow:
            about = (case.name, case.title, case.engine)
            rows += [r for r in kept if r[:3] == about]
        else:
            rows += [row(result) for result in case.run()]
    sys.stdout.write(render(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
