"""Text: a report in words and tables, rounded, for a terminal."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from jaxevo.trial.report import TrialReport

WIDTH = 100  # characters
NAME = 28  # of an arm, at most
SHOWN = ("CR", "PR", "SD", "PD", "NE", "CR+PR")


def tell(report: TrialReport) -> str:
    """The figures of a trial, and from which run each is."""
    lines = [f"progression: {report['progression']}"]
    for name, rules in report["decisions"].items():
        for role, rule in rules.items():
            known = f" (composition: {rule['composition']})" if "composition" in rule else ""
            reads = ", ".join(rule["reads"]) or "nothing"
            lines.append(f"{name}: {role} {rule['rule']} reads {reads}{known}")
    for name, run in report["runs"].items():
        lines += ["", f"{name.upper()} RUN: {run['what']}", *_run(run, report["control"])]
    return "\n".join(lines)


def _run(run: dict[str, Any], control: str) -> Iterator[str]:
    for note in run["notes"]:
        yield from textwrap.wrap(note, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    arms = run["arms"]
    for kind, what in (("best", "best response"), ("confirmed", "confirmed response")):
        rows = [
            (name, *(_percent(arm["response"][kind][x]) for x in SHOWN))
            for name, arm in arms.items()
        ]
        yield from _table((f"{what} (95 %)", *SHOWN), rows)
    day = f"{run['until_day']:g}"
    rows = [
        (name, *_progression(arm), _share(arm["relapse"]), _share(arm["cure"]))
        for name, arm in arms.items()
    ]
    head = (
        "progression (95 %)",
        "events",
        "median days",
        f"mean days until {day}",
        "relapse",
        "cure",
    )
    yield from _table(head, rows)
    yield from _table(
        (
            "carried at progression",
            "mechanism",
            "progressions",
            "intrinsic",
            "acquired",
            "median day",
        ),
        [(name, *row) for name, arm in arms.items() for row in _mechanisms(arm)],
    )
    yield from _table(
        ("toxicity", "days by grade 0-4", "grade 3-4", "grade 4"),
        [(name, *row) for name, arm in arms.items() for row in _toxicity(arm["toxicity"])],
    )
    yield from _table(
        ("dose", "drug", "mean mg", "of planned"),
        [(name, *row) for name, arm in arms.items() for row in _doses(arm["dose"])],
    )
    against = run["against_control"].items()
    yield from _table(
        (f"against {_short(control)}", "paired difference", "pairs", "until day"),
        [(name, *row) for name, table in against for row in _paired(table)],
    )
    yield from _table(
        (
            f"against {_short(control)}",
            "hazard ratio",
            "log-rank p",
            f"mean days until {day}",
            f"NNT on day {day}",
        ),
        [(name, *row) for name, table in against for row in _tests(table)],
    )


def _progression(arm: dict[str, Any]) -> tuple[str, ...]:
    found = arm["progression"]
    events = f"{found['events']:,}/{found['events'] + found['censored']:,}"
    return events, _range(found["median_days"]), _range(found["restricted_mean_days"])


def _mechanisms(arm: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, row in arm["mechanisms_at_progression"]["by_mechanism"].items():
        counts = [f"{row[x]:,}" if x in row else "" for x in ("intrinsic", "acquired")]
        yield _short(name), _share(row), *counts, f"{row['median_day']:.4g}"


def _toxicity(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if "mean_days_by_grade" in found:
        days = ", ".join(f"{x:.3g}" for x in found["mean_days_by_grade"])
        yield days, _share(found["worst_grade_3_or_4"]), _share(found["worst_grade_4"])


def _doses(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for drug, row in found.items():
        if isinstance(row, dict) and row["mean_mg"] > 0:
            of = row["share_of_planned"]
            yield _short(drug), f"{row['mean_mg']:.4g}", "" if of is None else f"{of:.0%}"


def _paired(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if "paired_difference_days" in found:
        row = found["paired_difference_days"]
        yield f"{_range(row, '+')} d", f"{row['pairs']:,}", f"{row['until_day']:g}"


def _tests(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if "log_rank" in found:
        gap = found["restricted_mean_difference_days"]
        needed = found["number_needed_to_treat"]["text"]
        yield (
            _range(found["hazard_ratio"]),
            f"{found['log_rank']['p']:.3g}",
            _range(gap, "+"),
            needed,
        )


def _percent(row: dict[str, Any]) -> str:
    return f"{row['value']:.0%} ({100 * row['low']:.0f}-{100 * row['high']:.0f})"


def _share(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "unknown"
    return f"{row['count']:,} = {row['value']:.1%} ({100 * row['low']:.1f}-{100 * row['high']:.1f})"


def _range(row: dict[str, Any], sign: str = "") -> str:
    """A number with its interval; what is not there is written as a dash."""

    def said(x: float | None) -> str:
        return "\N{EN DASH}" if x is None else f"{x:{sign}.4g}"

    return f"{said(row['value'])} ({said(row['low'])} to {said(row['high'])})"


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows under their head, in columns; nothing where there are no rows."""
    body = [(_short(row[0]), *row[1:]) for row in rows]
    if not body:
        return []
    whole = [head, *body]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    lines = [
        "  " + "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
        for row in whole
    ]
    return ["", *lines]
