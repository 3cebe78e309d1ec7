"""The pictures as matplotlib figures. Each is an object of its own: pyplot and its list of open
windows are never touched, and names are never read as equations.
"""

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from jaxevo.engines.base import Trajectory
from jaxevo.plots import data
from jaxevo.plots.data import Groups, Root

# Okabe & Ito 2008, Color Universal Design: told apart with every kind of color vision
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
UNALTERED_COLOR, OTHER_COLOR, GROWTH_COLOR = "#B8B8B8", "#FFFFFF", "#808080"
LINE_STYLES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
ENDS = {  # status: marker and meaning
    1: ("X", "extinct"),
    2: ("^", "reached the size at which it is stopped"),
    3: ("s", "ran out of room"),
    4: ("D", "interrupted"),
}
DAY = "day (0: start of treatment)"
FLOOR = 0.5  # cells: where zero is drawn on a log axis
MAX_RUNS = 100  # replicates drawn one by one
ZOOM_DAYS = 4.0
DECADES = 4  # of concentration that are shown
VISIBLE = 0.002  # share below which a group is left out of the legend


@contextmanager
def own_style() -> Iterator[None]:
    """The same pictures whatever the user's matplotlib settings are, which come back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10.5}
        )
        yield


def burden(trajectory: Trajectory, title: str = "") -> Figure:
    """Living cells against day: growth in gray, a thin line per replicate, a color per arm."""
    root = trajectory[""]
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    growth = data.growth_courses(root)[:MAX_RUNS]
    runs = min(data.num_runs(root), MAX_RUNS)
    for days, cells in growth:
        axes.plot(days, cells, color=GROWTH_COLOR, lw=1.2, alpha=_alpha(runs))
    ends = {end for arm in range(len(root["arm"].data)) for end in _plot_courses(axes, root, arm)}
    axes.set_yscale("log")
    if data.EXTINCT in ends:
        axes.set_ylim(bottom=FLOOR)
        axes.annotate(
            "0", (0, 0), (-6, 0), "axes fraction", "offset points", ha="right", va="center"
        )
    axes.axvline(0, color="black", lw=0.8, ls=":")
    axes.set(xlabel=DAY, ylabel="burden (living cells)")
    handles = [Line2D([], [], color=GROWTH_COLOR, label="growth before day 0")] if growth else []
    for arm, name in enumerate(root["arm"].data.tolist()):
        is_extinct = root["status"].data[arm].ravel() == data.EXTINCT
        text = f"{_name(name, 34, 3)}\n({is_extinct.sum()} of {is_extinct.size} extinct)"
        handles.append(Line2D([], [], color=_arm_color(root, arm), lw=2.5, label=text))
    handles += [
        Line2D([], [], color="black", marker=ENDS[x][0], ls="", label=_name(ENDS[x][1], 34, 3))
        for x in sorted(ends)
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    shown = "" if runs == data.num_runs(root) else f", the first {runs} of its replicates"
    _set_title(figure, title, f"Burden by arm{shown}")
    return figure


def composition(trajectory: Trajectory, title: str = "") -> Figure:
    """Per arm the burden of each replicate, and below it stacked shares of the resistant groups."""
    root = trajectory[""]
    names, days = root["arm"].data.tolist(), root["time"].data
    groups = data.group_classes(root)
    shares = data.group_shares(data.class_shares(root), groups)
    figure, places = _panels(names)
    what = "share of living cells (mean over the replicates that are not extinct)"
    figure.supylabel(what, fontsize="medium")
    tops = []
    for arm, (name, place) in enumerate(places):
        top, main = (figure.add_subplot(x) for x in place.subgridspec(2, 1, height_ratios=(1, 3)))
        tops.append(top)
        _plot_courses(top, root, arm)
        top.set(title=name, ylabel="cells", xticklabels=[])
        edges = np.cumsum(np.insert(shares[arm], 0, 0.0, axis=1), axis=1)
        for group, color in enumerate(_group_colors(groups)):
            _fill(main, days, edges[:, group], edges[:, group + 1], color)
        _mark_empty(main, days, np.isnan(edges[:, -1]))
        main.set(xlim=(days[0], days[-1]), ylim=(0, 1), xlabel=_day_label(place))
    sizes = np.concatenate([line.get_ydata() for top in tops for line in top.lines])
    sizes = sizes if len(sizes) else np.ones(1)
    lowest = max(FLOOR, 10 ** np.floor(np.log10(sizes.min())))
    highest = 10 ** (np.floor(np.log10(sizes.max())) + 1)
    for top in tops:
        top.set(yscale="log", xlim=(days[0], days[-1]), ylim=(lowest, highest))
    is_there = np.nan_to_num(shares).max(axis=(0, 1)) > VISIBLE
    _group_legend(figure, groups, is_there, "other combinations")
    has_stopped = (root["status"].data == data.STOPPED).any()
    rest = "; a stopped replicate keeps its last composition" if has_stopped else ""
    _set_title(figure, title, f"Composition by resistance mechanism{rest}")
    return figure


def muller(trajectory: Trajectory, title: str = "") -> Figure:
    """Per arm the largest clones of the replicate that was followed longest, children inside parents."""
    root = trajectory[""]
    names, days = root["arm"].data.tolist(), root["clone_time"].data
    groups, packed = data.group_classes(root), root["class"].data.tolist()
    labels = dict(zip(packed, root["class_label"].data.tolist(), strict=True))
    group_of = dict(zip(packed, groups.member.tolist(), strict=True))
    colors = _group_colors(groups)
    alive = [data.longest_alive(root, arm) for arm in range(len(names))]
    numbers = root["replicate"].data[alive].tolist()
    figure, places = _panels([f"{x}, replicate {n}" for x, n in zip(names, numbers, strict=True)])
    figure.supylabel("share of living cells", fontsize="medium")
    is_there = np.zeros(len(groups.labels), bool)
    for arm, (name, place) in enumerate(places):
        axes = figure.add_subplot(place)
        replicate = alive[arm]
        clones = data.clones_of(trajectory, arm, replicate)
        bands = data.muller_bands(clones.share, clones.parent)
        drawn: Counter[int] = Counter()
        for band in bands:
            genotype = int(clones.genotype[band.clone]) if band.clone >= 0 else -1
            group = group_of.get(genotype, len(groups.labels) - 1)
            color = _shade(colors[group], drawn[group])
            drawn[group] += 1
            _fill(axes, days, band.lower, band.upper, color)
            is_there[group] |= bool(np.any(band.upper - band.lower > VISIBLE))
            if band.clone >= 0:
                text = labels.get(genotype, f"clone {clones.identity[band.clone]}")
                _write_inside(axes, days, band, data.shorten(text, 32), color)
        _mark_empty(axes, days, np.isnan(bands[-1].upper))
        axes.set(title=name, xlim=(days[0], days[-1]), ylim=(0, 1), xlabel=_day_label(place))
    _group_legend(figure, groups, is_there, "smaller or other clones")
    nested = ", each inside its parent, by genotype at birth" if trajectory.get("lineage") else ""
    _set_title(figure, title, f"Largest clones in the replicate that was followed longest{nested}")
    return figure


def concentration(trajectory: Trajectory, title: str = "") -> Figure:
    """Per drug the concentration in blood and at each site: the whole course, and the first days."""
    root = trajectory[""]
    given = data.drugs_given(root)
    figure = Figure(figsize=(12, max(8.0, 3.2 * len(given))), dpi=100, layout="constrained")
    panels = figure.subplots(len(given), 2, squeeze=False, width_ratios=(3, 2), sharey="row")
    treated: set[int] = set()
    for drug, (whole, zoom) in zip(given, panels, strict=True):
        treated.update(_plot_drug(whole, zoom, root, drug))
    handles = []
    for arm in sorted(treated):
        text = _name(str(root["arm"].data[arm]), 40, 2)
        handles.append(Line2D([], [], color=_arm_color(root, arm), lw=2.5, label=text))
    places = ["in blood", *(f"at {site}" for site in root["site"].data)]
    for place, (name, style) in enumerate(zip(places, _line_styles(root), strict=True)):
        look = {"ls": style, "alpha": 0.9 if place else 0.45, "lw": 1.5 if place else 2.4}
        handles.append(Line2D([], [], color="black", label=_name(name, 40, 1), **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    _set_title(figure, title, "Drug concentration")
    return figure


# --- parts ---


def _plot_courses(axes: Axes, root: Root, arm: int) -> set[int]:
    """Burden of each replicate of an arm, with a marker where it ended early; returns those ends."""
    runs, color = min(data.num_runs(root), MAX_RUNS), _arm_color(root, arm)
    ends = set()
    for run in range(runs):
        days, cells, status = data.course(root, arm, run)
        cells = np.where(cells > 0, cells, FLOOR)
        axes.plot(days, cells, color=color, lw=1.2, alpha=_alpha(runs))
        if status in ENDS and len(days):
            ends.add(status)
            look = {"color": color, "mec": "white", "ms": 8, "clip_on": False, "zorder": 3}
            axes.plot(days[-1:], cells[-1:], ENDS[status][0], **look)
    return ends


def _plot_drug(whole: Axes, zoom: Axes, root: Root, drug: int) -> list[int]:
    """Concentration of one drug in all arms that are given it; returns these arms."""
    days, values = root["concentration_time"].data, data.concentrations(root, drug)
    top = values.max()
    arms = np.flatnonzero(values.any(axis=(1, 2))).tolist()
    for arm in arms:
        width = 2.6 - 1.6 * arm / len(values)  # arms that are given the same stay visible
        for place, style in enumerate(_line_styles(root)):
            line = np.maximum(values[arm, place], top * 1e-12)
            # blood is wide and pale: a site that follows it at once is dashes on top of it
            alpha, lw = (0.9, width) if place else (0.45, 1.6 * width)
            for axes, scale in ((whole, 0.5), (zoom, 1.0)):
                look = {"color": _arm_color(root, arm), "ls": style, "alpha": alpha}
                axes.plot(days, line, lw=scale * lw, **look)
    bottom = 0.7 * values[values > top * 10.0**-DECADES].min()
    whole.set(yscale="log", ylim=(bottom, 1.4 * top), xlim=(days[0], days[-1]))
    whole.yaxis.set_major_formatter("{x:g}")
    if top < 30 * bottom:  # less than two powers of ten to label
        whole.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        whole.yaxis.set_minor_formatter("{x:g}")
    name = _name(str(root["drug"].data[drug]), 40, 2)
    whole.set(title=name, xlabel=DAY, ylabel="concentration (\N{GREEK SMALL LETTER MU}M)")
    first = np.floor(days[values.any(axis=(0, 1))][0])
    zoom.set(title=f"{name}: the first days", xlabel=DAY)
    zoom.set_xlim(first, first + min(ZOOM_DAYS, np.ptp(days)))
    return arms


def _alpha(num_lines: int) -> float:
    return float(np.clip(8 / num_lines, 0.25, 0.9))


def _arm_color(root: Root, arm: int) -> str | tuple:
    """One color per arm, the same in every picture."""
    num_arms = len(root["arm"].data)
    if num_arms <= len(COLORS):
        return COLORS[arm]
    return mpl.colormaps["viridis"](0.95 * arm / (num_arms - 1))


def _line_styles(root: Root) -> list:
    """One style for blood and for each site."""
    return [LINE_STYLES[i % len(LINE_STYLES)] for i in range(len(root["site"].data) + 1)]


def _group_colors(groups: Groups) -> list[str]:
    """One color per group, the same in every picture and panel."""
    colors = [UNALTERED_COLOR] if groups.labels[0] == data.UNALTERED else []
    num_named = len(groups.labels) - 1
    colors += itertools.islice(itertools.cycle(COLORS), num_named - len(colors))
    return [*colors, OTHER_COLOR]


def _shade(color: str, index: int) -> str | tuple:
    """Shade of the first, second, ... clone of a group, so that neighbors can be told apart."""
    if color == OTHER_COLOR:
        return color
    white = (0.0, 0.3, 0.15, 0.45)[index % 4]
    return tuple(c + (1 - c) * white for c in to_rgb(color))


def _panels(titles: list[str]) -> tuple[Figure, list[tuple[str, SubplotSpec]]]:
    """A figure with a place for each title, at most three side by side.

    Titles get the same number of lines, so that panels stand level.
    """
    columns = 1 if len(titles) == 1 else 2 if len(titles) <= 4 else 3
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(12, max(8.0, 3.8 * rows)), dpi=100, layout="constrained")
    grid = GridSpec(rows, columns, figure=figure)
    wrapped = [_name(title, 96 // columns, 2) for title in titles]
    most = max(title.count("\n") for title in wrapped)
    level = ["\n" * (most - title.count("\n")) + title for title in wrapped]
    return figure, [(title, grid[i // columns, i % columns]) for i, title in enumerate(level)]


def _day_label(place: SubplotSpec) -> str:
    """The label of the day axis, below the lowest panel of each column only."""
    grid = place.get_gridspec()
    return DAY if place.rowspan.stop == grid.nrows else ""


def _fill(axes: Axes, days: np.ndarray, lower: np.ndarray, upper: np.ndarray, color) -> None:
    """One band. The white of `other` comes with a hatch, as white alone looks like nothing."""
    band = axes.fill_between(days, lower, upper, where=np.isfinite(upper), facecolor=color, lw=0)
    if color == OTHER_COLOR:
        band.set(hatch="///", edgecolor="#A0A0A0")


def _write_inside(axes: Axes, days: np.ndarray, band: data.Band, text: str, color) -> None:
    """Name a clone where its own cells leave room for the text, or not at all."""
    place = axes.get_position()
    width = len(text) * 0.0075 / place.width * np.ptp(days)  # of 8 point letters, in days
    edges = [(band.lower, band.inner_lower), (band.inner_upper, band.upper)]
    if np.array_equal(band.inner_lower, band.inner_upper, equal_nan=True):
        edges = [(band.lower, band.upper)]
    day, height, room = max((data.label_place(days, *x, width) for x in edges), key=lambda x: x[2])
    if room > 0.05:
        is_dark = np.dot(to_rgb(color), (0.3, 0.59, 0.11)) < 0.5
        ink = "white" if is_dark else "black"
        axes.text(day, height, _plain(text), ha="center", va="center", fontsize=8, color=ink)


def _mark_empty(axes: Axes, days: np.ndarray, is_empty: np.ndarray) -> None:
    """Say why there is nothing at the end of a panel."""
    if not is_empty[-1]:
        return
    start = days[0] if is_empty.all() else days[np.flatnonzero(~is_empty)[-1]]
    axes.axvspan(float(start), float(days[-1]), color="#F2F2F2", lw=0)
    if days[-1] - start > 0.08 * np.ptp(days):
        look = {"rotation": 90, "ha": "center", "va": "center", "color": "#606060"}
        axes.text((start + days[-1]) / 2, 0.5, "not followed, or no cells left", **look)


def _group_legend(figure: Figure, groups: Groups, is_there: np.ndarray, other: str) -> None:
    handles = []
    for label, color, shown in zip(groups.labels, _group_colors(groups), is_there, strict=True):
        if shown:
            text = other if label == data.OTHER else data.shorten(label, 48)
            handles.append(Patch(facecolor=color, label=_plain(text)))
            if color == OTHER_COLOR:
                handles[-1].set(hatch="///", edgecolor="#A0A0A0")
    longest = max((len(handle.get_label()) for handle in handles), default=0)
    columns = 5 if longest <= 22 else 3 if longest <= 40 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def _set_title(figure: Figure, title: str, what: str) -> None:
    lines = textwrap.wrap(_plain(title), 100)[:2]
    figure.suptitle("\n".join([*lines, what]), fontsize=13)


def _name(text: str, width: int, lines: int) -> str:
    """A name on at most so many lines."""
    return "\n".join(
        textwrap.wrap(_plain(data.shorten(text, width * lines - lines)), width)[:lines]
    )


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would begin an equation
