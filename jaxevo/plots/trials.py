"""The pictures of a trial, as matplotlib figures, from its report and its tumors."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxevo.plots.figures import DAY, arm_color, named, set_title
from jaxevo.trial import Followed

RESPONSE_COLORS = {
    "CR": "#0072B2",
    "PR": "#56B4E9",
    "SD": "#E69F00",
    "PD": "#D55E00",
    "NE": "#B8B8B8",
}
NUMBERS_AT_RISK = 7  # days at which they are told
MOST_BARS = 200  # of a waterfall; more tumors are shown by their ranks
GRADE_4 = 0.5  # 1e9/L: neutropenia of grade 4 is below it (CTCAE 5.0)

Run = dict[str, Any]


def survival(run: Run, title: str) -> Figure:
    """Kaplan-Meier curves of progression with bands, censored tumors, and numbers at risk."""
    arms = run["arms"]
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(5, 0.35 + 0.3 * len(arms)), sharex=True)
    last = max(arm["progression"]["curve"]["day"][-1] for arm in arms.values())
    for a, (name, arm) in enumerate(arms.items()):
        curve = {k: np.array(x) for k, x in arm["progression"]["curve"].items()}
        day = np.append(curve["day"], max(last, curve["day"][-1]))
        level = {k: np.append(curve[k], curve[k][-1]) for k in ("survival", "low", "high")}
        color, is_here = arm_color(len(arms), a), day <= curve["day"][-1]
        is_left = is_here & (np.insert(level["survival"][:-1], 0, 1.0) > 0)
        top.fill_between(
            day,
            level["low"],
            level["high"],
            where=is_left,
            step="post",
            color=color,
            alpha=0.15,
            lw=0,
        )
        median = arm["progression"]["median_days"]["value"]
        text = "median not reached" if median is None else f"median {median:.4g} days"
        label = f"{named(name, 26, 3)}\n({text})"
        top.step(
            day[is_here], level["survival"][is_here], where="post", color=color, lw=2.2, label=label
        )
        ticks = np.linspace(0, last, NUMBERS_AT_RISK)
        lost = _censored_days(curve)
        if len(lost) <= MOST_BARS:
            at = np.searchsorted(curve["day"], lost, side="right") - 1
            top.plot(lost, curve["survival"][at], "|", color=color, ms=9, mew=1.4)
        for x in ticks:
            step = np.searchsorted(curve["day"], x, side="left")
            n = curve["num_at_risk"][step] if step < len(curve["day"]) else 0
            bottom.text(x, -a, f"{n:,}", ha="center", va="center", color=color)
    top.set(
        ylabel="share free of progression", ylim=(-0.02, 1.03), xlim=(-0.05 * last, 1.03 * last)
    )
    top.axvline(run["until_day"], color="#B8B8B8", lw=0.8, ls=":")
    figure.legend(*top.get_legend_handles_labels(), loc="outside right center", frameon=False)
    bottom.set(ylim=(0.6 - len(arms), 0.6), xlabel=DAY)
    bottom.set_yticks([-a for a in range(len(arms))], [named(name, 18, 1) for name in arms])
    bottom.tick_params(length=0)
    for side in ("left", "bottom"):
        bottom.spines[side].set_visible(False)
    bottom.set_title("at risk", loc="left", fontsize="medium")
    set_title(figure, title, "Time to progression: Kaplan-Meier, 95 % bands" + _of(run))
    return figure


def _censored_days(curve: dict[str, np.ndarray]) -> np.ndarray:
    """Days on which tumors were censored."""
    left = np.append(curve["num_at_risk"][1:], 0)
    lost = curve["num_at_risk"] - curve["num_events"] - left
    return curve["day"][lost > 0]


def response(run: Run, title: str) -> Figure:
    """Stacked shares of best responses, as seen and confirmed, a bar per arm."""
    arms = run["arms"]
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind, what in zip(
        panels, ("best", "confirmed"), ("best response", "confirmed response"), strict=True
    ):
        for a, arm in enumerate(arms.values()):
            start = 0.0
            for name, color in RESPONSE_COLORS.items():
                share = arm["response"][kind][name]["value"]
                axes.bar(a, share, 0.7, start, color=color, edgecolor="white", lw=0.6)
                if share >= 0.04:
                    ink = "black" if name in ("PR", "SD", "NE") else "white"
                    axes.text(
                        a, start + share / 2, f"{share:.0%}", ha="center", va="center", color=ink
                    )
                start += share
        axes.set_xticks(
            range(len(arms)), [named(name, 96 // (2 * len(arms)) + 4, 3) for name in arms]
        )
        axes.set(title=what, ylim=(0, 1))
    panels[0].set_ylabel("share of tumors")
    handles = [Patch(facecolor=color, label=name) for name, color in RESPONSE_COLORS.items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    set_title(figure, title, "Response by RECIST 1.1" + _of(run))
    return figure


def burden(run: Run, title: str) -> Figure:
    """Median burden as scans show it, and where 90 % of the tumors are, on a log axis."""
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    arms = run["arms"]
    shown = [np.array(arm["burden_seen"][q]) for arm in arms.values() for q in ("5%", "50%", "95%")]
    seen = np.concatenate(shown)
    least = seen[seen > 0].min(initial=1e6)
    floor = 10 ** np.floor(np.log10(least)) / 3
    _bands(axes, arms, "burden_seen", floor)
    axes.set_yscale("log")
    if (seen == 0).any():
        axes.axhspan(floor / 2, floor * 1.4, color="#F2F2F2", lw=0)
        axes.set_ylim(bottom=floor / 2)
        axes.annotate(
            "not seen", (0, floor), (-6, 0), ("axes fraction", "data"), "offset points",
            ha="right", va="center",
        )  # fmt: skip
    axes.set(xlabel=DAY, ylabel="burden as seen (cells)")
    _legend(figure, arms)
    set_title(
        figure, title, "Burden at scans of tumors still followed: median and 5 to 95 %" + _of(run)
    )
    return figure


def neutrophils(run: Run, title: str) -> Figure:
    """Median neutrophils at visits, and where 90 % of the patients are."""
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    axes, arms = figure.add_subplot(), run["arms"]
    _bands(axes, arms, "neutrophils", 0.0)
    axes.axhline(GRADE_4, color="black", lw=0.9, ls="--")
    axes.annotate(
        "grade 4 below", (1, GRADE_4), (-4, 3), ("axes fraction", "data"), "offset points",
        ha="right", va="bottom", fontsize=9,
    )  # fmt: skip
    axes.set(xlabel=DAY, ylabel="neutrophils (10\N{SUPERSCRIPT NINE}/L)")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    _legend(figure, arms)
    set_title(figure, title, "Neutrophils at visits: median and 5 to 95 %" + _of(run))
    return figure


def waterfall(run: Run, title: str, found: Followed) -> Figure:
    """Best change from baseline of every tumor, sorted, a panel per arm."""
    arms = list(run["arms"])
    columns = min(len(arms), 2 if len(arms) in (2, 4) else 3)
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(12, max(6.0, 4.0 * rows)), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.ravel()[len(arms) :]:
        axes.set_visible(False)
    for a, (name, axes) in enumerate(zip(arms, panels.ravel(), strict=False)):
        change = found.best_change[a].ravel()
        best = found.best[a].ravel()[~np.isnan(change)]
        change = change[~np.isnan(change)]
        order = np.argsort(-change)
        if len(order) > MOST_BARS:
            order = order[np.linspace(0, len(order) - 1, MOST_BARS).astype(int)]
        colors = [list(RESPONSE_COLORS.values())[k] for k in best[order]]
        axes.bar(np.arange(len(order)), 100 * np.minimum(change[order], 1.0), 1.0, color=colors)
        axes.axhline(0, color="black", lw=0.8)
        axes.axhline(-30, color="#808080", lw=0.8, ls=":")
        axes.axhline(20, color="#808080", lw=0.8, ls=":")
        axes.set(title=f"{named(name, 26, 2)}\n{len(change):,} of {found.num_subjects:,} tumors")
        axes.set_xticks([])
    for axes in panels[:, 0]:
        axes.set_ylabel("best change (%), at most 100")
    handles = [Patch(facecolor=color, label=name) for name, color in RESPONSE_COLORS.items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False, title="best response")
    set_title(figure, title, "Best change from baseline" + _of(run))
    return figure


# --- parts ---


def _bands(axes: Axes, arms: dict[str, Any], what: str, floor: float) -> None:
    for a, arm in enumerate(arms.values()):
        if "day" not in arm[what]:
            continue
        color, day = arm_color(len(arms), a), np.array(arm[what]["day"])
        low, middle, high = (np.maximum(arm[what][q], floor) for q in ("5%", "50%", "95%"))
        axes.fill_between(day, low, high, color=color, alpha=0.15, lw=0)
        for edge in (low, high):
            axes.plot(day, edge, color=color, alpha=0.5, lw=0.6)
        axes.plot(day, middle, color=color, lw=2.2, marker="o", ms=3)


def _legend(figure: Figure, arms: dict[str, Any]) -> None:
    handles = [
        Line2D([], [], color=arm_color(len(arms), a), lw=2.5, label=named(name, 34, 3))
        for a, name in enumerate(arms)
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)


def _of(run: Run) -> str:
    patients, replicates = run["patients"], run["replicates"]
    many = f"{patients:,} patients" if patients > 1 else ""
    if replicates > 1 or not many:
        many = f"{many} x {replicates:,} replicates".removeprefix(" x ")
    return f" ({many} in each arm)"


def pictures(run: Run, found: Followed) -> dict[str, Callable[[str], Figure]]:
    """The pictures that a run has numbers for, by their names."""
    drawn: dict[str, Callable[[str], Figure]] = {
        "survival": lambda title: survival(run, title),
        "response": lambda title: response(run, title),
        "burden": lambda title: burden(run, title),
        "waterfall": lambda title: waterfall(run, title, found),
    }
    if any("day" in arm["neutrophils"] for arm in run["arms"].values()):
        drawn["neutrophils"] = lambda title: neutrophils(run, title)
    return drawn
