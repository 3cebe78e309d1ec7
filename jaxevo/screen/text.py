"""Text: the report of a screen in words and tables, rounded, for a terminal."""

from collections.abc import Iterator
from typing import Any

from jaxevo.screen.report import ScreenReport

WIDEST = 40  # characters of a name


def tell(report: ScreenReport) -> str:
    """Half-inhibitory levels, excesses, and the scale that each excess is on."""
    lines = ["", *_table(("alone", "line", "IC50 uM (95 %)", "least viability"), _singles(report))]
    if report["combined"]:
        head = (
            "mean excess",
            "line",
            "Bliss, hazard 1/day",
            "Bliss, viability",
            "Loewe, hazard 1/day",
        )
        lines += ["", *_table(head, _combined(report)), "", "In the model:"]
        lines += [f"  {pair}: {law}" for pair, law in report["scale"]["model"].items()]
        lines += [f"  {report['scale']['cells']}"]
        lines += [f"  {name}: {what}" for name, what in report["excess"].items()]
    return "\n".join([*lines, f"  {report['intervals']}"])


def _singles(report: ScreenReport) -> Iterator[tuple[str, ...]]:
    for agent, by_line in report["single"].items():
        for line, row in by_line.items():
            yield agent, line, _ic50(row["ic50_um"]), _number(row["least_viability"])


def _ic50(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not reached"
    text = _number(found["value"])
    if found["low"] is not None and found["high"] is not None:
        text = f"{text} ({_number(found['low'])} to {_number(found['high'])})"
    return text if found["is_within_levels"] else f"{text}, beyond the levels tried"


def _combined(report: ScreenReport) -> Iterator[tuple[str, ...]]:
    for name, by_line in report["combined"].items():
        for line, row in by_line.items():
            yield name, line, *(_excess(row[kind]) for kind in report["excess"])


def _excess(found: dict[str, Any] | None) -> str:
    if found is None:
        return "unknown"
    error = "" if found["error"] is None else f" +- {found['error']:.2g}"
    return f"{found['mean']:+.3g}{error}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    whole = [head, *([_short(row[0]), *row[1:]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
        for row in whole
    ]


def _short(name: str) -> str:
    return name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"
