"""The pictures of a schedule search, as matplotlib figures, from its report alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxevo.plots import trials
from jaxevo.plots.figures import COLORS, DAY, arm_color, named, set_title

ROW_HEIGHT = 2.2  # inches
STAGES = {0: "descent", 1: "polish"}

Report = dict[str, Any]


def doses(report: Report, title: str) -> Figure:
    """The amount of every drug in every cycle, a panel per drug, with the largest that may be given."""
    rows = report["schedule_amounts"]
    drugs = list(dict.fromkeys(row["drug"] for row in rows))
    size = (12, 1.6 + ROW_HEIGHT * len(drugs))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(len(drugs), 1, squeeze=False, sharex=True)[:, 0]
    for k, (drug, axes) in enumerate(zip(drugs, panels, strict=True)):
        own = [row for row in rows if row["drug"] == drug]
        key = "level_um" if "level_um" in own[0] else "amount_mg"
        edges = [row["from_day"] for row in own] + [own[-1]["until_day"]]
        color = COLORS[k % len(COLORS)]
        axes.stairs([row[key] for row in own], edges, fill=True, color=color, alpha=0.75)
        axes.axhline(own[0]["most"], color="black", lw=0.9, ls="--")
        axes.set(title=named(drug, 60, 1), ylim=(0, 1.08 * own[0]["most"]))
        axes.set_ylabel("uM" if key == "level_um" else "mg per dose")
    panels[-1].set_xlabel(DAY)
    set_title(
        figure, title, f"{report['recommended']}: amounts by cycle (dashed: the largest allowed)"
    )
    return figure


def relapse(report: Report, title: str) -> Figure:
    """Observed relapse with intervals beside the prediction, a row per arm."""
    arms = report["arms"]
    size = (12, 2.2 + 0.6 * len(arms))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for a, row in enumerate(arms.values()):
        _interval(axes, row, -a, arm_color(len(arms), a))
        told = row["predicted_relapse_probability"]
        if told is not None:
            axes.plot(told, -a, "D", mfc="none", mec="black", ms=9, mew=1.4)
    axes.plot([], [], "D", mfc="none", mec="black", ms=9, label="predicted by extinction")
    axes.plot([], [], "o", color="#808080", label="observed, 95 % interval")
    axes.legend(frameon=False, loc="best")
    axes.set_yticks([-a for a in range(len(arms))], [named(name, 34, 2) for name in arms])
    axes.set(xlabel="probability of relapse", xlim=(-0.02, 1.02), ylim=(0.7 - len(arms), 0.7))
    set_title(figure, title, "Relapse by the horizon, in tumors that the search never saw")
    return figure


def _interval(axes: Axes, row: Report, y: int, color) -> None:
    value = row["observed_relapse_probability"]
    if value is None:
        return
    width = [[value - row["observed_low"]], [row["observed_high"] - value]]
    axes.errorbar(value, y, xerr=width, fmt="o", color=color, capsize=4, ms=7, lw=2)


def toxicity(report: Report, title: str) -> Figure:
    """Relapse against toxicity: every arm, and the front of schedules where one was asked for."""
    arms, front = report["arms"], report.get("front", [])
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for a, (name, row) in enumerate(arms.items()):
        _point(axes, row, arm_color(len(arms), a), "o", named(name, 34, 3))
    for k, row in enumerate(front):
        _point(axes, row, "#404040", "s", "front" if k == 0 else None)
    known = [row for row in front if _burdens(row)[0] is not None]
    if known:
        at = [(_burdens(row)[0], row["observed_relapse_probability"]) for row in known]
        axes.plot(*zip(*sorted(at), strict=True), color="#404040", lw=1, ls=":")
    first = next(iter(arms.values()))
    most = max((_burdens(row)[0] or 0.0 for row in [*arms.values(), *front]), default=0.0) or 1.0
    axes.set(xlabel=_burdens(first)[1], ylabel="probability of relapse", ylim=(-0.03, 1.03))
    axes.set_xlim(-0.03 * most, 1.05 * most)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    set_title(figure, title, "Relapse against toxicity, in tumors that the search never saw")
    return figure


def _burdens(row: Report) -> tuple[float | None, str]:
    """What a treatment takes from the body, and what it is."""
    days = row["toxicity"].get("mean_days_by_grade")
    if days is not None:
        return sum(days[3:]), "mean days with neutropenia of grade 3 or 4"
    return row.get("dose_intensity"), "mean amount, as a share of the largest that may be given"


def _point(axes: Axes, row: Report, color, marker: str, label: str | None) -> None:
    x, y = _burdens(row)[0], row["observed_relapse_probability"]
    if x is None or y is None:
        return
    width = [[y - row["observed_low"]], [row["observed_high"] - y]]
    axes.errorbar(x, y, yerr=width, fmt=marker, color=color, capsize=4, ms=8, lw=1.6, label=label)


def convergence(report: Report, title: str) -> Figure:
    """The best value so far, the median of the starts, and how many have converged."""
    history = {
        k: np.array([np.nan if v is None else v for v in x], float)
        for k, x in report["search"]["history"].items()
    }
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    chunk = np.arange(1, len(history["stage"]) + 1)
    for key, style, text in (("best_value", "-", "best"), ("median_value", "--", "median start")):
        is_known = np.isfinite(history[key])
        top.plot(chunk[is_known], history[key][is_known], style, lw=2, label=text)
    for stage, text in STAGES.items():
        here = chunk[history["stage"] == stage]
        if len(here):
            axes = top.axvspan(here[0] - 0.5, here[-1] + 0.5, color="#F2F2F2", lw=0, zorder=-stage)
            axes.set_alpha(0.6 if stage else 1.0)
            top.annotate(text, (here[0], 1.0), xycoords=("data", "axes fraction"), va="bottom")
    bottom.step(chunk, history["num_converged"], where="mid", color="black")
    bottom.set(xlabel="look (every few steps)", ylabel="starts at an optimum")
    top.set_ylabel(report["search"]["objective"])
    top.legend(frameon=False)
    set_title(figure, title, "The search")
    return figure


def pictures(report: Report) -> dict[str, Callable[[str], Figure]]:
    """The pictures that a report has numbers for, by their names."""
    drawn: dict[str, Callable[[str], Figure]] = {
        "doses": lambda title: doses(report, title),
        "relapse": lambda title: relapse(report, title),
        "toxicity": lambda title: toxicity(report, title),
        "convergence": lambda title: convergence(report, title),
        "survival": lambda title: trials.survival(report["trial"], title),
    }
    return drawn
