"""The pictures of a screen, as matplotlib figures, from its named arrays alone."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from jaxevo.engines.base import Trajectory
from jaxevo.plots.figures import arm_color, named, set_title

MOST_LINES = 6  # drawn of many
MOST_SLICES = 5  # of the third agent's levels, in the picture of a triple
MOST_TICKS = 8  # of an axis of levels
SURFACES = {  # variable: title, name of the color map, whether 0 is its middle
    "viability": ("viability", "viridis", False),
    "bliss_hazard": ("excess over Bliss,\nhazard (1/day)", "RdBu_r", True),
    "bliss_viability": ("excess over Bliss,\nviability", "RdBu_r", True),
    "loewe_hazard": ("excess over Loewe,\nhazard (1/day)", "RdBu_r", True),
}
CLEAR = 3.0  # standard errors
LEAST_SPAN = 1e-12  # of an excess; what is smaller is 0

Root = dict[str, np.ndarray]


def pictures(arrays: Trajectory) -> dict[str, Callable[[str], Figure]]:
    """The pictures of a screen, by the names of their files."""
    root = {name: variable.data for name, variable in arrays[""].items()}
    drawn: dict[str, Callable[[str], Figure]] = {"curves": lambda title: curves(root, title)}
    for number, pair in enumerate(_together(root, 2), 1):
        names = "_".join(re.sub(r"[^\w-]", "", str(root["agent"][a]))[:20] for a in pair)
        drawn[f"pair{number:02d}_{names}"] = lambda title, pair=pair: surfaces(root, pair, title)
    for number, triple in enumerate(_together(root, 3), 1):
        names = "_".join(re.sub(r"[^\w-]", "", str(root["agent"][a]))[:20] for a in triple)
        drawn[f"triple{number:02d}_{names}"] = lambda title, triple=triple: slices(
            root, triple, title
        )
    return drawn


def _together(root: Root, number: int) -> Iterator[tuple[int, ...]]:
    """So many agents that were given together."""
    for agents in itertools.combinations(range(len(root["agent"])), number):
        if len(_rows(root, agents)):
            yield agents


def _rows(root: Root, agents: tuple[int, ...]) -> np.ndarray:
    """Combinations of exactly these agents."""
    given = np.zeros(len(root["agent"]), bool)
    given[list(agents)] = True
    return np.flatnonzero(((root["level"] > 0) == given).all(axis=1))


def curves(root: Root, title: str = "") -> Figure:
    """Viability against level, a panel per agent: two standard errors, and the fitted curve."""
    num = len(root["agent"])
    columns = 2 if num in (2, 4) else min(num, 3)
    rows = -(-num // columns)
    figure = Figure(figsize=(12, 1.2 + 4.0 * rows), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.ravel()[num:]:
        axes.set_visible(False)
    shown = range(min(len(root["line"]), MOST_LINES))
    for a, axes in zip(range(num), panels.ravel(), strict=False):
        for line in shown:
            _curve(axes, root, a, line, arm_color(len(shown), line))
        axes.set(
            xscale="log", xlabel=f"{named(str(root['agent'][a]), 30, 1)} (uM)", ylim=(-0.03, None)
        )
        axes.axhline(0.5, color="#808080", lw=0.8, ls=":")
    for axes in panels[:, 0]:
        axes.set_ylabel("viability")
    more = len(root["line"]) - len(shown)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if len(shown) > 1:
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
    rest = f"; {more} more lines are in the file" if more > 0 else ""
    set_title(figure, title, f"Single agents: cells over untreated, 2 standard errors{rest}")
    return figure


def _curve(axes: Axes, root: Root, a: int, line: int, color) -> None:
    rows = _rows(root, (a,))
    level, viability = root["level"][rows, a], root["viability"][rows, line]
    error = 2 * np.nan_to_num(root["viability_error"][rows, line])
    axes.errorbar(
        level, viability, error, fmt="o", ms=4, color=color, lw=1.2, label=str(root["line"][line])
    )
    top, ec50, hill = (root[name][a, line] for name in ("max_hazard", "ec50", "hill"))
    days = _days(root)
    if np.isfinite([top, ec50, hill]).all() and days is not None:
        dense = np.geomspace(level[0], level[-1], 200)
        hazard = top / (1 + np.exp(np.clip(hill * np.log(ec50 / dense), -700, 700)))
        axes.plot(dense, np.exp(-hazard * days), color=color, lw=1.2, alpha=0.7)
    half = root["ic50"][a, line]
    if level[0] <= half <= level[-1]:
        axes.plot(half, 0.5, "s", mfc="white", mec=color, ms=7)


def _days(root: Root) -> float | None:
    """Days of exposure: what turns hazard into viability."""
    with np.errstate(divide="ignore", invalid="ignore"):
        days = -np.log(root["viability"]) / root["hazard"]
    known = days[np.isfinite(days)]
    return float(np.median(known)) if known.size else None


def surfaces(root: Root, pair: tuple[int, ...], title: str = "") -> Figure:
    """Heat maps of one pair of agents: viability and excesses, a row of panels per line."""
    shown = range(min(len(root["line"]), MOST_LINES))
    figure = Figure(figsize=(15, 1.3 + 3.6 * len(shown)), dpi=100, layout="constrained")
    panels = figure.subplots(len(shown), len(SURFACES), squeeze=False)
    for j, (name, (text, colors, has_middle)) in enumerate(SURFACES.items()):
        maps = [_map(root, name, pair, line) for line in shown]
        look = _look(maps, colors, has_middle)
        for i, line in enumerate(shown):
            image = panels[i, j].imshow(maps[i], origin="lower", aspect="auto", **look)
            if has_middle:
                down, across = np.nonzero(_is_clear(root, name, pair, line))
                panels[i, j].plot(across, down, ".", color="black", ms=3)
            _name_levels(panels[i, j], root, pair)
            if j == 0 and len(root["line"]) > 1:
                panels[i, j].set_ylabel(f"{root['line'][line]}\n{panels[i, j].get_ylabel()}")
        figure.colorbar(image, ax=panels[:, j].tolist(), shrink=0.9, label=text)
    one, two = (named(str(root["agent"][a]), 30, 1) for a in pair)
    more = len(root["line"]) - len(shown)
    rest = f"; {more} more lines are in the file" if more > 0 else ""
    set_title(
        figure,
        title,
        f"{one} with {two}: excess above 0 is more than expected, dots beyond {CLEAR:g} errors{rest}",
    )
    return figure


def _look(maps: list[np.ndarray], colors: str, has_middle: bool) -> dict[str, Any]:
    """Colors that several maps share."""
    span = max((np.nanmax(np.abs(x)) for x in maps if np.isfinite(x).any()), default=0.0)
    if not has_middle:
        return {"cmap": colors, "vmin": 0.0, "vmax": max(1.0, span)}
    span = max(span, LEAST_SPAN)
    return {"cmap": colors, "norm": TwoSlopeNorm(0.0, -span, span)}


def slices(root: Root, triple: tuple[int, ...], title: str = "") -> Figure:
    """Heat maps of three agents in the first line: viability and excess over Bliss of the first two, a
    column of panels for each level of the third.
    """
    rows, third = _rows(root, triple), triple[2]
    levels = np.unique(root["level"][rows, third])
    chosen = levels[np.unique(np.linspace(0, len(levels) - 1, MOST_SLICES).astype(int))]
    shown = ("viability", "bliss_viability")
    figure = Figure(figsize=(2.0 + 3.2 * len(chosen), 8.2), dpi=100, layout="constrained")
    panels = figure.subplots(len(shown), len(chosen), squeeze=False)
    for i, name in enumerate(shown):
        text, colors, has_middle = SURFACES[name]
        maps = [
            _map(root, name, triple[:2], 0, rows[root["level"][rows, third] == x]) for x in chosen
        ]
        look = _look(maps, colors, has_middle)
        for axes, values, level in zip(panels[i], maps, chosen, strict=True):
            image = axes.imshow(values, origin="lower", aspect="auto", **look)
            _name_levels(axes, root, triple[:2], rows)
            if i == 0:
                axes.set_title(f"{level:.3g} uM", fontsize=10)
        figure.colorbar(image, ax=panels[i].tolist(), shrink=0.9, label=text)
    one, two, three = (named(str(root["agent"][a]), 30, 1) for a in triple)
    line = f", {root['line'][0]}" if len(root["line"]) > 1 else ""
    set_title(figure, title, f"{one} with {two} at levels of {three}, above each panel{line}")
    return figure


def _is_clear(root: Root, name: str, pair: tuple[int, ...], line: int) -> np.ndarray:
    """Where an excess is beyond its error."""
    excess, error = (_map(root, x, pair, line) for x in (name, f"{name}_error"))
    return np.abs(np.nan_to_num(excess)) > CLEAR * np.nan_to_num(error, nan=np.inf)


def _map(
    root: Root, name: str, pair: tuple[int, ...], line: int, rows: np.ndarray | None = None
) -> np.ndarray:
    """Values by level of the second agent (down) and of the first (across), of the pair or of some rows."""
    rows = _rows(root, pair) if rows is None else rows
    one, two = (np.unique(root["level"][rows, a]) for a in pair)
    return np.where(
        np.isfinite(values := root[name][rows, line].reshape(len(one), len(two))), values, np.nan
    ).T


def _name_levels(
    axes: Axes, root: Root, pair: tuple[int, ...], rows: np.ndarray | None = None
) -> None:
    rows = _rows(root, pair) if rows is None else rows
    for a, axis, name in zip(pair, (axes.xaxis, axes.yaxis), "xy", strict=True):
        levels = np.unique(root["level"][rows, a])
        ticks = np.unique(np.linspace(0, len(levels) - 1, MOST_TICKS).astype(int))
        axis.set_ticks(ticks, [f"{x:.3g}" for x in levels[ticks]])
        axis.set_tick_params(labelsize=8, rotation=60 if name == "x" else 0)
        axis.set_label_text(f"{named(str(root['agent'][a]), 30, 1)} (uM)")
