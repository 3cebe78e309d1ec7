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
MAX_RUNS = 30  # replicates drawn one by one; more are a band
MOST_CLASSES = 16  # named in the picture of relapse
ZOOM_DAYS = 4.0
SMALL_PROBABILITY = 0.01  # below it the axis is logarithmic
SMALLEST_SHARE = 1e-12  # of the largest probability that is shown
LEAST_EXPECTED = 1e-6  # cells; the axis of expectations goes no lower
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
    """Living cells against day: growth in gray, a line per replicate or a band, a color per arm."""
    root = trajectory[""]
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    growth, runs = data.growth_courses(root)[:MAX_RUNS], data.num_runs(root)
    for days, cells in growth:
        axes.plot(days, cells, color=GROWTH_COLOR, lw=1.2, alpha=_alpha(len(growth)))
    ends = {end for arm in range(len(root["arm"].data)) for end in _plot_courses(axes, root, arm)}
    axes.set_yscale("log")
    if data.is_expectation(root):
        axes.set_ylim(bottom=_lowest_expectation(root))
    elif (root["burden"].data == 0).any():
        axes.set_ylim(bottom=FLOOR)
        axes.annotate(
            "0", (0, 0), (-6, 0), "axes fraction", "offset points", ha="right", va="center"
        )
    axes.axvline(0, color="black", lw=0.8, ls=":")
    what = "expected living cells" if data.is_expectation(root) else "burden (living cells)"
    axes.set(xlabel=DAY, ylabel=what)
    handles = [Line2D([], [], color=GROWTH_COLOR, label="growth before day 0")] if growth else []
    for arm, name in enumerate(root["arm"].data.tolist()):
        text = named(name, 34, 3)
        if "status" in root:
            is_extinct = root["status"].data[arm].ravel() == data.EXTINCT
            stopped = (root["status"].data[arm] == data.STOPPED).sum()
            rest = f", {stopped:,} stopped" if stopped and runs > MAX_RUNS else ""
            text = f"{text}\n({is_extinct.sum():,} of {is_extinct.size:,} extinct{rest})"
        handles.append(Line2D([], [], color=_arm_color(root, arm), lw=2.5, label=text))
    handles += [
        Line2D([], [], color="black", marker=ENDS[x][0], ls="", label=named(ENDS[x][1], 34, 3))
        for x in sorted(ends)
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    set_title(figure, title, f"Burden by arm{_what_bands_are(root)}")
    return figure


def relapse(trajectory: Trajectory, title: str = "") -> Figure:
    """Probability of relapse by arm: against day, and from one cell of each class by the horizon."""
    root = trajectory[""]
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    course, classes = figure.subplots(1, 2, width_ratios=(3, 2))
    days, probability = root["time"].data, root["relapse_probability"].data
    is_small = probability[..., -1].max(initial=0.0) < SMALL_PROBABILITY
    has_log_axis = is_small and probability.max(initial=0.0) > 0
    if has_log_axis:
        probability = np.where(probability > 0, probability, np.nan)
    for arm in range(len(root["arm"].data)):
        look = {"color": _arm_color(root, arm)}
        if probability.shape[1] > 1:
            low, high = np.quantile(probability[arm], (0.05, 0.95), axis=0)
            course.fill_between(days, low, high, alpha=0.2, lw=0, **look)
        course.plot(days, probability[arm].mean(axis=0), lw=2.2, **look)
    if has_log_axis:
        course.set_yscale("log")
    else:
        course.set_ylim(-0.02, 1.02)
    what = root["relapse_probability"].long_name
    course.set(xlabel=DAY, ylabel=named(what, 90, 1), xlim=(days[0], days[-1]))
    course.set_title("of the whole tumor", fontsize="medium")
    _plot_classes(classes, root)
    arms = enumerate(root["arm"].data.tolist())
    handles = [
        Line2D([], [], color=_arm_color(root, arm), lw=2.5, label=named(name, 40, 2))
        for arm, name in arms
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    patients = probability.shape[1]
    among = f": mean of {patients:,} patients, 5 to 95 % of them as a band" if patients > 1 else ""
    set_title(figure, title, f"Probability of relapse by arm{among}")
    return figure


def composition(trajectory: Trajectory, title: str = "") -> Figure:
    """Per arm the burden of each replicate, and below it stacked shares of the resistant groups."""
    root = trajectory[""]
    names, days = root["arm"].data.tolist(), root["time"].data
    groups = data.group_classes(root)
    shares = data.group_shares(data.class_shares(root), groups)
    figure, places = _panels(names)
    what = "share of living cells (mean over the replicates that are not extinct)"
    if data.is_expectation(root):
        what = "share of expected cells"
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
    floor = _lowest_expectation(root) if data.is_expectation(root) else FLOOR
    lowest = max(floor, 10 ** np.floor(np.log10(max(sizes.min(), floor))))
    highest = 10 ** (np.floor(np.log10(sizes.max())) + 1)
    for top in tops:
        top.set(yscale="log", xlim=(days[0], days[-1]), ylim=(lowest, highest))
    is_there = np.nan_to_num(shares).max(axis=(0, 1)) > VISIBLE
    _group_legend(figure, groups, is_there, "other combinations")
    has_stopped = "status" in root and (root["status"].data == data.STOPPED).any()
    rest = "; a stopped replicate keeps its last composition" if has_stopped else ""
    set_title(figure, title, f"Composition by resistance mechanism{rest}")
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
    set_title(figure, title, f"Largest clones in the replicate that was followed longest{nested}")
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
        text = named(str(root["arm"].data[arm]), 40, 2)
        handles.append(Line2D([], [], color=_arm_color(root, arm), lw=2.5, label=text))
    places = ["in blood", *(f"at {site}" for site in root["site"].data)]
    for place, (name, style) in enumerate(zip(places, _line_styles(root), strict=True)):
        look = {"ls": style, "alpha": 0.9 if place else 0.45, "lw": 1.5 if place else 2.4}
        handles.append(Line2D([], [], color="black", label=named(name, 40, 1), **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    own = " in a patient with the study's own numbers" if len(root["patient"].data) > 1 else ""
    set_title(figure, title, f"Drug concentration{own}")
    return figure


# --- parts ---


def _plot_courses(axes: Axes, root: Root, arm: int) -> set[int]:
    """Burden of an arm: a band, or each replicate with a marker where it ended early; returns those
    ends.
    """
    runs, color = data.num_runs(root), _arm_color(root, arm)
    if runs > MAX_RUNS or data.is_expectation(root):
        _plot_spread(axes, root, arm)
        return set()
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


def _plot_spread(axes: Axes, root: Root, arm: int) -> None:
    """One line within its bands."""
    floor = _lowest_expectation(root) if data.is_expectation(root) else FLOOR
    found, color = data.spread(root, arm), _arm_color(root, arm)
    for band, alpha in ((found.outer, 0.18), (found.inner, 0.25)):
        if band is not None:
            low, high = (np.maximum(edge, floor) for edge in band)
            axes.fill_between(found.days, low, high, color=color, alpha=alpha, lw=0)
            for edge in (low, high):
                axes.plot(found.days, edge, color=color, alpha=0.6, lw=0.6)
    axes.plot(found.days, np.maximum(found.middle, floor), color=color, lw=2.2)


def _lowest_expectation(root: Root) -> float:
    """Where the axis of expected cells ends: below the smallest, within what is worth showing."""
    sizes = root["burden"].data
    lowest = sizes[sizes > 0].min(initial=1.0)
    return float(10 ** np.floor(np.log10(max(lowest, LEAST_EXPECTED))))


def _what_bands_are(root: Root) -> str:
    """What is drawn where not every replicate is."""
    patients, runs = root["burden"].data.shape[1], data.num_runs(root)
    if data.is_expectation(root) and patients == 1:
        return f": expected cells and 2 standard deviations ({root['closure'].data.flat[0]})"
    whose = f"{runs:,} replicates"
    if patients > 1:
        whose = f"{patients:,} patients"
        whose += "" if runs == patients else f" x {runs // patients:,} replicates"
    if data.is_expectation(root):
        whose = f"the expected cells of {whose}"
    is_band = runs > MAX_RUNS or data.is_expectation(root)
    return f": median, 25 to 75 % and 5 to 95 % of {whose}" if is_band else ""


def _plot_classes(axes: Axes, root: Root) -> None:
    """Probability that one cell of a class at day 0 brings relapse, for each class and arm."""
    chance = root["class_relapse_probability"].data.mean(axis=1)  # arm, class, site
    labels, sites = root["class_label"].data.tolist(), root["site"].data.tolist()
    num_arms, num_sites = len(chance), len(sites)
    flat = chance.reshape(num_arms, -1)
    order = np.argsort(-flat.max(axis=0), kind="stable")[:MOST_CLASSES]
    names = []
    for row, place in enumerate(np.sort(order).tolist()):
        label, site = labels[place // num_sites], sites[place % num_sites]
        names.append(data.shorten(f"{label}, {site}" if num_sites > 1 else label, 34))
        for arm in range(num_arms):
            height = row + 0.5 * ((arm + 0.5) / num_arms - 0.5)
            if flat[arm, place] > 0:
                axes.plot(flat[arm, place], height, "o", color=_arm_color(root, arm), ms=7)
    axes.set_yticks(range(len(names)), [_plain(name) for name in names], fontsize=9)
    axes.set(xscale="log", ylim=(len(names) - 0.5, -0.5), xlabel="probability")
    positive = flat[:, order][flat[:, order] > 0]
    largest = positive.max(initial=0.0) or 1.0
    lowest = max(positive.min(initial=largest), largest * SMALLEST_SHARE)
    axes.set_xlim(0.3 * lowest, min(2.0, 10 * largest))
    axes.grid(axis="y", color="#E8E8E8")
    axes.set_axisbelow(True)
    axes.set_title("from one cell on day 0, by the last day", fontsize="medium")


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
    name = named(str(root["drug"].data[drug]), 40, 2)
    whole.set(title=name, xlabel=DAY, ylabel="concentration (\N{GREEK SMALL LETTER MU}M)")
    first = np.floor(days[values.any(axis=(0, 1))][0])
    zoom.set(title=f"{name}: the first days", xlabel=DAY)
    zoom.set_xlim(first, first + min(ZOOM_DAYS, np.ptp(days)))
    return arms


def _alpha(num_lines: int) -> float:
    return float(np.clip(8 / num_lines, 0.25, 0.9))


def _arm_color(root: Root, arm: int) -> str | tuple:
    """One color per arm, the same in every picture."""
    return arm_color(len(root["arm"].data), arm)


def arm_color(num_arms: int, arm: int) -> str | tuple:
    """The color of one of so many arms."""
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
    wrapped = [named(title, 96 // columns, 2) for title in titles]
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


def set_title(figure: Figure, title: str, what: str) -> None:
    """The study's title, and below it what is shown."""
    lines = textwrap.wrap(_plain(title), 84)[:2]
    figure.suptitle("\n".join([*lines, what]), fontsize=13)


def named(text: str, width: int, lines: int) -> str:
    """A name on at most so many lines."""
    return "\n".join(
        textwrap.wrap(_plain(data.shorten(text, width * lines - lines)), width)[:lines]
    )


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would begin an equation
