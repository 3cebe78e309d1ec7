"""What the pictures show, computed from the named arrays of a trajectory. No drawing here."""

from itertools import compress
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxevo.engines.base import Trajectory, Variable

EXTINCT, STOPPED = 1, 2  # status of a replicate
RANKS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of many replicates, as a band
UNALTERED, OTHER = "unaltered", "other"
MAX_NAMED = 8  # groups with a color of their own

Root = dict[str, Variable]


class Course(NamedTuple):
    """Burden of one replicate of one arm, as far as it was followed."""

    days: Float[np.ndarray, " point"]
    cells: Float[np.ndarray, " point"]  # ends with 0 if it went extinct
    status: int


class Spread(NamedTuple):
    """Burden of all tumors of one arm as one line within two bands, one inside the other."""

    days: Float[np.ndarray, " time"]
    middle: Float[np.ndarray, " time"]
    inner: tuple[np.ndarray, np.ndarray] | None
    outer: tuple[np.ndarray, np.ndarray]


class Groups(NamedTuple):
    """Classes with the same combination of altered mechanisms belong to one group."""

    labels: list[str]  # by largest peak, `unaltered` first, `other` last
    member: Int[np.ndarray, " class"]  # group of each class


class Clones(NamedTuple):
    """The recorded clones of one replicate of one arm."""

    share: Float[np.ndarray, "time clone"]  # of all living cells, NaN where there are none
    genotype: Int[np.ndarray, " clone"]  # packed, at the birth of the clone; -1 unknown
    parent: Int[np.ndarray, " clone"]  # nearest recorded ancestor, -1 if there is none
    identity: Int[np.ndarray, " clone"]


def course(root: Root, arm: int, run: int) -> Course:
    """Burden against day until the replicate's end. `run` counts through patients and replicates."""
    days = root["time"].data
    cells = root["burden"].data[arm].reshape(-1, len(days))[run].astype(float)
    status = int(root["status"].data[arm].ravel()[run])
    end = float(root["end_day"].data[arm].ravel()[run])
    is_shown = cells > 0
    if status in (
        EXTINCT,
        STOPPED,
    ):  # the end may lie between two records; its size is repeated from there on
        is_shown &= days < end
        return Course(np.append(days[is_shown], end), np.append(cells[is_shown], cells[-1]), status)
    return Course(days[is_shown], cells[is_shown], status)


def is_expectation(root: Root) -> bool:
    """Whether sizes are expected numbers with a standard deviation, and not those of replicates."""
    return "burden_sd" in root


def spread(root: Root, arm: int) -> Spread:
    """The burden of one arm over its replicates and patients.

    Of replicates, and of the expected burdens of several patients: median and ranks from 5 to 95 % of
    those that are known, 0 where they are extinct. Of one expectation: mean, and mean -+ 2 standard
    deviations, at least 0.
    """
    days = root["time"].data
    burden = root["burden"].data[arm].reshape(-1, len(days)).astype(float)
    if is_expectation(root) and len(burden) == 1:
        mean, two = burden[0], 2 * root["burden_sd"].data[arm].reshape(-1)
        return Spread(days, mean, None, (np.maximum(mean - two, 0.0), mean + two))
    is_known = burden >= 0
    days, burden, is_known = (x[..., is_known.any(axis=0)] for x in (days, burden, is_known))
    low, inner_low, middle, inner_high, high = np.nanquantile(
        np.where(is_known, burden, np.nan), RANKS, axis=0
    )
    return Spread(days, middle, (inner_low, inner_high), (low, high))


def num_runs(root: Root) -> int:
    """Replicates of all patients of one arm."""
    return int(np.prod(root["burden"].data.shape[1:3]))


def class_shares(root: Root) -> Float[np.ndarray, "arm time class"]:
    """Share of each class in the living cells, mean over the replicates that are not extinct.

    The last class is what is not tracked one by one. NaN where no replicate lives.
    """
    tracked, rest = root["class_count"].data, root["other_classes_count"].data[..., None]
    if is_expectation(root):
        rest = np.maximum(rest, 0.0)  # a difference of floats
    means = []
    for arm in range(len(tracked)):
        counts = np.concatenate([tracked[arm], rest[arm]], axis=-1).astype(float)
        counts = counts.reshape(-1, *counts.shape[2:])  # run, time, class
        totals = counts.sum(axis=-1, keepdims=True)
        is_living = (totals > 0) & (counts >= 0).all(axis=-1, keepdims=True)
        shares = np.where(is_living, counts / np.where(is_living, totals, 1.0), 0.0).sum(axis=0)
        num_living = is_living.sum(axis=0)
        means.append(np.where(num_living > 0, shares / np.maximum(num_living, 1), np.nan))
    return np.stack(means)


def group_classes(root: Root, max_named: int = MAX_NAMED) -> Groups:
    """Put classes together by which alterations they have, whatever the level.

    Those with the largest peaks in any arm get a name and a color, `unaltered` always.
    """
    combinations = [tuple(row) for row in (root["class_genotype"].data > 0).tolist()]
    shares = np.nan_to_num(class_shares(root))[..., :-1]
    peaks = {}
    for combination in set(combinations):
        is_member = [x == combination for x in combinations]
        peaks[combination] = shares[..., is_member].sum(axis=-1).max(initial=0.0)
    ranked = sorted(peaks, key=lambda x: (any(x), -peaks[x], x))
    names = root["alteration"].data.tolist()
    labels = [" + ".join(compress(names, x)) or UNALTERED for x in ranked[:max_named]]
    place = {combination: min(i, len(labels)) for i, combination in enumerate(ranked)}
    return Groups([*labels, OTHER], np.array([place[x] for x in combinations], np.int64))


def group_shares(
    shares: Float[np.ndarray, "arm time class"], groups: Groups
) -> Float[np.ndarray, "arm time group"]:
    """Shares of the groups; what is not tracked belongs to `other`."""
    member = np.append(groups.member, len(groups.labels) - 1)
    is_member = member[:, None] == np.arange(len(groups.labels))
    return shares @ is_member.astype(float)


def longest_alive(root: Root, arm: int) -> int:
    """The replicate of an arm that was followed alive longest, of equals the largest in the end."""
    burden, end = root["burden"].data[arm], root["end_day"].data[arm]
    is_alive = (burden > 0) & (root["time"].data <= end[..., None])
    last = np.where(is_alive, np.arange(burden.shape[-1]), -1).max(axis=-1)
    last, burden = last.ravel(), burden.reshape(-1, burden.shape[-1])
    size = np.take_along_axis(burden, np.maximum(last, 0)[:, None], axis=1)[:, 0]
    return int(np.lexsort((-size, -last))[0])


def clones_of(trajectory: Trajectory, arm: int, replicate: int) -> Clones:
    """Shares and descent of the recorded clones of one replicate."""
    root = trajectory[""]
    identity = root["clone_id"].data[arm, replicate]
    is_clone = identity >= 0
    identity = identity[is_clone].astype(np.int64)
    counts = root["clone_count"].data[arm, replicate][:, is_clone].astype(float)
    burden = root["burden"].data[arm, 0, replicate]
    days, clone_days = root["time"].data, root["clone_time"].data
    is_known = np.interp(clone_days, days, burden > 0) > 0.999
    total = np.maximum(np.interp(clone_days, days, burden), counts.sum(axis=1))
    is_known &= (total > 0) & (counts >= 0).all(axis=1)
    if root["status"].data[arm, 0, replicate]:
        is_known &= clone_days <= root["end_day"].data[arm, 0, replicate]
    share = np.where(is_known[:, None], counts / np.where(is_known, total, 1.0)[:, None], np.nan)
    genotype, parent = _descent(trajectory.get("lineage", {}), arm, replicate, identity)
    return Clones(share, genotype, parent, identity)


def _descent(
    lineage: dict[str, Variable], arm: int, replicate: int, identity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Genotype at birth, and position of the nearest ancestor among `identity`; -1 for none."""
    genotype, ancestor = (np.full(len(identity), -1, np.int64) for _ in range(2))
    if not lineage:
        return genotype, ancestor
    is_here = np.isin(lineage["arm_index"].data, (-1, arm))
    is_here &= lineage["replicate_index"].data == replicate
    names = ("id", "parent", "genotype")
    ids, parents, genotypes = (lineage[x].data[is_here].astype(np.int64) for x in names)
    rows = {int(ids[row]): row for row in range(len(ids))}
    place = {int(clone): i for i, clone in enumerate(identity)}
    for i, clone in enumerate(identity.tolist()):
        if clone in rows:
            genotype[i] = genotypes[rows[clone]]
        above = clone
        for _ in range(len(rows)):  # at most one step per row, even where descent runs in a circle
            above = int(parents[rows[above]]) if above in rows else -1
            if above in place or above < 0:
                break
        ancestor[i] = place.get(above, -1)
    return genotype, ancestor


class Band(NamedTuple):
    """Where a clone lies in a Muller plot: with all its descendants, and these alone."""

    clone: int  # -1: all clones that are not recorded
    lower: Float[np.ndarray, " time"]
    upper: Float[np.ndarray, " time"]
    inner_lower: Float[np.ndarray, " time"]  # children lie from here
    inner_upper: Float[np.ndarray, " time"]  # to here


def muller_bands(
    share: Float[np.ndarray, "time clone"], parent: Int[np.ndarray, " clone"]
) -> list[Band]:
    """Bands that cover 0 to 1: children in the middle of their parents, what is left on top.

    Args:
        share: of each clone without its children; NaN where nothing lives.
        parent: -1 for clones that lie in no other.

    Returns:
        Parents before their children, to be painted one over the other.
    """
    children = {i: np.flatnonzero(parent == i).tolist() for i in range(-1, len(parent))}
    order, todo = [], children[-1][::-1]
    while todo:
        order.append(todo.pop())
        todo += children[order[-1]][::-1]
    total = share.copy()
    for clone in reversed(order):
        total[:, clone] += total[:, children[clone]].sum(axis=1)
    start = np.zeros_like(share)  # lower edge of each clone

    def stack(clones: list[int], edge: np.ndarray) -> np.ndarray:
        for clone in clones:
            start[:, clone] = edge
            edge = edge + total[:, clone]
        return edge

    top = stack(children[-1], np.where(np.isnan(share).any(axis=1), np.nan, 0.0))
    bands = []
    for clone in order:
        lower, upper, half = start[:, clone], start[:, clone] + total[:, clone], share[:, clone] / 2
        stack(children[clone], lower + half)
        bands.append(Band(clone, lower, upper, lower + half, upper - half))
    one = np.where(np.isnan(top), np.nan, 1.0)
    return [*bands, Band(-1, top, one, top, top)]


def label_place(
    days: Float[np.ndarray, " time"],
    lower: Float[np.ndarray, " time"],
    upper: Float[np.ndarray, " time"],
    width: float,
) -> tuple[float, float, float]:
    """Where a text `width` days wide fits best between two edges: day, height, and room above it."""
    best = (0.0, 0.0, 0.0)
    for i, day in enumerate(days[days + width <= days[-1]]):
        under = slice(i, int(np.searchsorted(days, day + width)) + 1)
        floor, ceiling = lower[under].max(), upper[under].min()
        if ceiling - floor > best[2]:
            best = (float(day + width / 2), float((ceiling + floor) / 2), float(ceiling - floor))
    return best


def shorten(text: str, width: int) -> str:
    """A name of at most `width` characters; what goes is the middle: names often differ at the end."""
    if len(text) <= width:
        return text
    return text[: (width - 1) // 2] + "\N{HORIZONTAL ELLIPSIS}" + text[-(width // 2) :]


def growth_courses(root: Root) -> list[tuple[np.ndarray, np.ndarray]]:
    """Days and living cells of each replicate before treatment; empty where nothing grew."""
    if "growth_day" not in root:
        return []
    courses = (root[name].data for name in ("growth_day", "growth_burden"))
    rows = zip(*(x.reshape(-1, x.shape[-1]) for x in courses), strict=True)
    return [(days[cells > 0], cells[cells > 0]) for days, cells in rows]


def concentrations(root: Root, drug: int) -> Float[np.ndarray, "arm place time"]:
    """Concentration of one drug in blood (place 0) and at every site, uM; 0 in arms that decide, in which
    it differs from tumor to tumor and is not known.
    """
    blood = root["blood_concentration"].data[:, None, :, drug]
    sites = np.moveaxis(root["concentration"].data[..., drug], 2, 1)
    return np.nan_to_num(np.concatenate([blood, sites], axis=1))


def drugs_given(root: Root) -> list[int]:
    """Drugs that are anywhere at any time in any arm."""
    return [d for d in range(len(root["drug"].data)) if concentrations(root, d).any()]
