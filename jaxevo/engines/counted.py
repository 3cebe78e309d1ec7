"""From what the `clones` engine counted to the named arrays of a trajectory, and from a state back."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxevo.engines import immunity, watched
from jaxevo.engines.assembly import TUMOR, class_names, drugs, names
from jaxevo.engines.base import Problem, Trajectory, Variable
from jaxevo.engines.events import Lineage
from jaxevo.engines.grid import Marks
from jaxevo.engines.handover import State, origins
from jaxevo.engines.network import Network
from jaxevo.engines.tumors import EXTINCT, INTERRUPTED, RUNNING
from jaxevo.engines.watched import Watched

if TYPE_CHECKING:
    from jaxevo.engines.blocks import Grown, Whole


class Recorder:
    """Cells of every class and site at the record days, [tumor, record, ...]."""

    def __init__(self, net: Network, when: Marks, num_tumors: int, num_extra: int = 0):
        self.net, self.when, self.num = net, when, num_tumors
        num_records = int(when.is_record.sum())
        self.row = np.cumsum(when.is_record) - 1
        self.sites = np.zeros((num_tumors, num_records, net.num_sites), np.int64)
        self.classes = np.zeros((num_tumors, num_records, len(net.genotypes)), np.int64)
        self.clone_marks = np.flatnonzero(when.is_clones)
        self.clones = np.zeros(
            (num_tumors, len(self.clone_marks), 2, net.num_inside * bool(len(self.clone_marks))),
            np.int64,
        )
        self.immune = np.full((num_tumors, num_records, num_extra), np.nan)
        self.total = 0

    def mark_immune(self, m: int, extras: list[np.ndarray], width: int) -> None:
        """Write down the immune cells of all blocks, [variable, tumor] each, at mark `m`."""
        for i, extra in enumerate(extras):
            at = slice(i * width, min((i + 1) * width, self.num))
            self.immune[at, self.row[m]] = extra[:, : at.stop - at.start].T

    def mark(self, m: int, counts: list[np.ndarray], width: int) -> None:
        """Write down mark `m` from the counts of all blocks, [origin, type, tumor] each."""
        self.total = 0
        for i, count in enumerate(counts):
            at = slice(i * width, min((i + 1) * width, self.num))
            cells = count[:, : self.net.num_inside, : at.stop - at.start].astype(np.int64)
            if self.when.is_clones[m]:
                row = np.searchsorted(self.clone_marks, m)
                self.clones[at, row] = np.moveaxis(cells, 2, 0)
            here = cells.sum(axis=0)
            self.total += int(here.sum())
            if not self.when.is_record[m]:
                continue
            by_site = here.reshape(-1, self.net.num_sites, here.shape[1])
            self.sites[at, self.row[m]] = by_site.sum(axis=0).T
            self.classes[at, self.row[m]] = by_site.sum(axis=1).T


class Group(NamedTuple):
    """Everything about a group of patients; tumors in the order (arm, patient, replicate)."""

    patients: range
    grown: "Grown"
    final: "Whole"
    recorder: Recorder
    marked: int  # the last mark that was reached
    watched: Watched


def trajectory(
    problem: Problem, replicates: range, net: Network, groups: list[Group]
) -> Trajectory:
    """All variables of the study, with units and long names."""
    root = names(problem, replicates)
    tables = [_Table(problem, len(replicates), net, group) for group in groups]
    root |= _sizes(problem, net, groups, tables)
    root |= _outcomes(problem, len(replicates), net, groups, tables)
    if problem.horizon > 0:
        root |= drugs(problem, groups[0].recorder.when)
    if problem.visits is not None:
        pairs = list(zip(groups, tables, strict=True))
        root |= watched.variables(
            problem, groups[0].recorder.when,
            lambda name: np.concatenate(
                [t.shaped(getattr(g.watched, name)) for g, t in pairs], axis=1
            ),
            np.concatenate([t.shaped(t.seen_until) for t in tables], axis=1),
        )  # fmt: skip
    root |= _clones(problem, len(replicates), net, groups)
    found = {"": root}
    if problem.record.origins:
        found["state"] = _stacked([table.state() for table in tables], STATE)
    has_lineage = groups[0].final.lineage is not None
    root["has_lineage"] = Variable(
        (), np.array(has_lineage), "1", "whether the origin of every clone was written down"
    )
    if has_lineage:
        found["lineage"] = _stacked([table.lineage() for table in tables], LINEAGE)
    return found


class _Table:
    """One group with its tumors laid out as [arm, patient, replicate]."""

    def __init__(self, problem: Problem, num: int, net: Network, group: Group):
        self.problem, self.net, self.group = problem, net, group
        self.shape = (len(problem.arms), len(group.patients), num)
        final, when = group.final, group.recorder.when
        status = final.status.astype(np.int64)
        last = when.day[group.marked]
        if group.marked < len(when.day) - 1:
            status = np.where(status == RUNNING, INTERRUPTED, status)
        self.status = status
        cut = np.where(final.day > 0, last, 0.0)
        self.end_day = np.where(status == RUNNING, last, np.where(
            status == INTERRUPTED, cut, final.day))  # fmt: skip
        is_whole = (status == RUNNING) | (status == EXTINCT)  # nobody sees that no cell is left
        self.seen_until = np.where(is_whole, problem.horizon, self.end_day)
        self.day = when.day[when.is_record]
        unknown = (status == INTERRUPTED)[:, None] & (self.day > self.end_day[:, None] + 1e-9)
        self.unknown = unknown

    def shaped(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(*self.shape, *x.shape[1:])

    def indices(self, tumor: np.ndarray) -> dict[str, np.ndarray]:
        """Position of tumors on the three axes."""
        arm, patient, replicate = np.unravel_index(tumor, self.shape)
        patient = np.array(self.group.patients)[patient]
        return {"arm_index": arm, "patient_index": patient, "replicate_index": replicate}

    def kinds(self, origin: np.ndarray, kind: np.ndarray) -> dict[str, np.ndarray]:
        """What a clone is."""
        place, site = np.divmod(kind, self.net.num_sites)
        return {
            "genotype": np.array(self.net.genotypes, np.int64)[place],
            "site_index": site,
            "is_preexisting": origin == 0,
        }

    def state(self) -> dict[str, np.ndarray]:
        """All cells at the end."""
        count = self.group.final.count[:, : self.net.num_inside]
        known = self.status != INTERRUPTED
        tumor, origin, kind = np.nonzero((count.transpose(2, 0, 1) > 0) & known[:, None, None])
        return {
            **self.indices(tumor),
            **self.kinds(origin, kind),
            "cells": count[origin, kind, tumor].astype(np.int64),
            "clone": origin * self.net.num_types + kind,
        }

    def lineage(self) -> dict[str, np.ndarray]:
        """Every clone that ever existed.

        A clone that died out before day 0 has one row, with arm -1; one that was there when the arms
        forked has a row in each arm, since it may end differently.
        """
        lineage = self.group.final.lineage or ()
        born, died, parent = (np.asarray(x)[:, : self.net.num_inside] for x in lineage)
        tumor, origin, kind = np.nonzero(~np.isnan(born).transpose(2, 0, 1))
        at = (origin, kind, tumor)
        index = self.indices(tumor)
        is_past = (died[at] <= 0) & (self.problem.treat_at_cells is not None)
        keep = ~is_past | (index["arm_index"] == 0)
        index["arm_index"] = np.where(is_past, -1, index["arm_index"])
        columns = {
            **index,
            "id": origin * self.net.num_types + kind,
            "parent": parent[at],
            "birth_time": born[at],
            "end_time": died[at],
            **self.kinds(origin, kind),
        }
        return {name: x[keep] for name, x in columns.items()}


STATE = {
    "arm_index": (np.int32, "1", "position of the arm on its axis"),
    "patient_index": (np.int32, "1", "position of the patient on its axis"),
    "replicate_index": (np.int32, "1", "position of the replicate on its axis"),
    "genotype": (np.uint32, "1", "packed genotype"),
    "site_index": (np.int32, "1", "position of the site on its axis"),
    "is_preexisting": (np.bool_, "1", "the clone arose before treatment"),
    "cells": (np.int64, "cells", "living cells at the end"),
    "clone": (np.int64, "1", "name of the clone within its replicate"),
}

LINEAGE = {
    "arm_index": (np.int32, "1", "arm of the clone, -1 where it died out before the arms forked"),
    "patient_index": STATE["patient_index"],
    "replicate_index": STATE["replicate_index"],
    "id": (np.int64, "1", "name of the clone within its replicate: origin and type"),
    "parent": (np.int64, "1", "clone that delivered its first cell, -1 for none"),
    "birth_time": (np.float64, "d", "day on which it arose"),
    "end_time": (np.float64, "d", "day on which it died out at last, NaN where it has cells"),
    "genotype": (np.uint32, "1", "packed genotype of all its cells"),
    "site_index": STATE["site_index"],
    "is_preexisting": STATE["is_preexisting"],
}


def _stacked(tables: list[dict[str, np.ndarray]], described: dict) -> dict[str, Variable]:
    """The columns of all groups, by arm, patient, replicate, then as they were."""
    joined = {name: np.concatenate([t[name] for t in tables]) for name in described}
    order = np.lexsort((joined["replicate_index"], joined["patient_index"], joined["arm_index"]))
    axis = "clone_event" if "birth_time" in described else "state_row"
    return {
        name: Variable((axis,), joined[name][order].astype(dtype), units, text)
        for name, (dtype, units, text) in described.items()
    }


def _sizes(problem: Problem, net: Network, groups, tables) -> dict[str, Variable]:
    """Burden, sites and classes at the record days; -1 after a tumor was cut short."""

    def joined(of, blank: float = -1) -> np.ndarray:
        parts = []
        for group, table in zip(groups, tables, strict=True):
            value = of(group.recorder)
            unknown = table.unknown.reshape(*table.unknown.shape, *(1,) * (value.ndim - 2))
            parts.append(table.shaped(np.where(unknown, blank, value)))
        return np.concatenate(parts, axis=1)

    found = {}
    if problem.model.immune is not None:
        found = immunity.variables(joined(lambda r: r.immune, np.nan), net.num_sites)
    packed = np.array(net.genotypes, np.int64)
    peak = np.max([g.recorder.classes.max(axis=(0, 1)) for g in groups], axis=0).astype(float)
    peak[packed == 0] = np.inf
    order = np.lexsort((packed, -peak))[: problem.record.max_classes]
    chosen = np.sort(order[(peak[order] > 0)])
    time = (*TUMOR, "time")
    rest = lambda r: r.sites.sum(axis=2) - r.classes[:, :, chosen].sum(axis=2)  # noqa: E731
    return {
        "time": Variable(("time",), tables[0].day, "d", "time since the start of treatment"),
        "burden": Variable(time, joined(lambda r: r.sites.sum(axis=2)), "cells", "living cells"),
        "site_burden": Variable(
            (*time, "site"), joined(lambda r: r.sites), "cells", "living cells by site"
        ),
        "class_count": Variable(
            (*time, "class"), joined(lambda r: r.classes[:, :, chosen]), "cells",
            "living cells by tracked genotype class",
        ),
        "other_classes_count": Variable(
            time, joined(rest), "cells", "living cells of all classes that are not tracked"
        ),
        **class_names(problem, packed[chosen]),
        **found,
    }  # fmt: skip


def _outcomes(problem: Problem, num: int, net: Network, groups, tables) -> dict[str, Variable]:
    def joined(of) -> np.ndarray:
        return np.concatenate([t.shaped(of(t, t.group.final)) for t in tables], axis=1)

    status = joined(lambda t, _: t.status)
    no_cell = joined(lambda _, end: end.count[:, : net.num_inside].sum(axis=(0, 1)) == 0)
    whole = lambda x: np.rint(x).astype(np.int64)  # noqa: E731
    leaked = joined(lambda _, end: whole(end.count[:, net.num_inside :].sum(axis=(0, 1))))
    deaths = joined(lambda _, end: whole(end.deaths))
    net_change = joined(lambda _, end: whole(end.births - end.deaths))
    found = {
        "is_extinct": Variable(
            TUMOR, (status == EXTINCT) | (no_cell & (status == RUNNING)), "1", "no cell is left"
        ),
        "status": Variable(
            TUMOR, status.astype(np.int8), "1",
            "0 followed to the horizon, 1 extinct, 2 reached stop_at_cells, 3 out of room, "
            "4 interrupted",
        ),
        "end_day": Variable(
            TUMOR, joined(lambda t, _: t.end_day), "d", "day until which it was followed"
        ),
        "births": Variable(
            TUMOR, deaths + net_change, "1", "divisions since day 0, expected where cells were many"
        ),
        "deaths": Variable(
            TUMOR, deaths, "1", "deaths since day 0, expected where cells were many"
        ),
        "leaked_cells": Variable(
            TUMOR, leaked, "cells", "cells that left the set of classes since the founders"
        ),
        "immigrants": Variable(
            TUMOR, joined(lambda _, end: whole(end.arrived)), "cells", "cells from outside"
        ),
    }  # fmt: skip
    axes = ("replicate",) if len(problem.models) == 1 else ("patient", "replicate")
    shape = (num,) if len(problem.models) == 1 else (len(problem.models), num)
    inside = lambda g: g.grown.tumors.count[:, : net.num_inside].sum(axis=(0, 1))  # noqa: E731
    start = np.concatenate([whole(inside(g)) for g in groups]).reshape(shape)
    found["trigger_cells"] = Variable(axes, start, "cells", "living cells at day 0")
    attempts = np.concatenate([g.grown.tumors.attempts for g in groups]).reshape(shape)
    found["founder_attempts"] = Variable(
        axes, attempts.astype(np.int64), "1", "founders drawn until a tumor grew"
    )
    if problem.treat_at_cells is not None:
        rows = max(len(g.grown.day) for g in groups)

        def course(name: str, blank: float) -> np.ndarray:
            parts = [getattr(g.grown, name) for g in groups]
            pad = lambda x: np.pad(x, ((0, rows - len(x)), (0, 0)), constant_values=blank)  # noqa: E731
            return np.concatenate([pad(x) for x in parts], axis=1).T.reshape(*shape, rows)

        grows = (*axes, "growth")
        found["growth_day"] = Variable(
            grows, course("day", np.nan), "d", "days of growth, before treatment"
        )
        found["growth_burden"] = Variable(
            grows, whole(course("cells", -1.0)), "cells", "living cells during growth"
        )
    return found


def _clones(problem: Problem, num: int, net: Network, groups) -> dict[str, Variable]:
    """Sizes of the clones with the largest peaks in each tumor."""
    marks = groups[0].recorder.clone_marks
    if len(marks) == 0:
        return {}
    day, parts = groups[0].recorder.when.day[marks], []
    width = min(problem.record.max_clones, 2 * net.num_inside)
    names = (np.arange(2)[:, None] * net.num_types + np.arange(net.num_inside)).ravel()
    for group in groups:
        sizes = group.recorder.clones.reshape(group.recorder.num, len(marks), len(names))
        peak = sizes.max(axis=1)
        largest = np.sort(np.argsort(-peak, axis=1, kind="stable")[:, :width], axis=1)
        there = np.take_along_axis(peak, largest, axis=1) > 0
        chosen = np.take_along_axis(sizes, largest[:, None, :], axis=2)
        chosen[:, group.marked < marks] = -1
        shape = (len(problem.arms), len(group.patients), num)
        ids = np.where(there, names[largest], -1).reshape(*shape, width)
        parts.append((ids, chosen.reshape(*shape, len(marks), width)))
    ids, sizes = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))
    axes = ("arm", "patient", "replicate")
    if len(problem.models) == 1:
        axes, ids, sizes = ("arm", "replicate"), ids[:, 0], sizes[:, 0]
    return {
        "clone_time": Variable(("clone_time",), day, "d", "time since the start of treatment"),
        "clone_id": Variable((*axes, "clone"), ids, "1", "name of the clone, -1 for none"),
        "clone_count": Variable(
            (*axes, "clone_time", "clone"), sizes, "cells",
            "living cells of the clone itself, its daughter clones apart",
        ),
    }  # fmt: skip


def from_state(start: State, net: Network, num_patients: int) -> tuple[np.ndarray, Lineage]:
    """Counts [origin, type, tumor] and clones of the tumors of a state; its day is day 0.

    Clones of one type and origin become one, which arose when the first of them did and ended when
    the last did; its parent is the nearest ancestor of another type or origin that the network holds.

    Raises:
        ValueError: there is more than one patient.
    """
    if num_patients != 1:
        raise ValueError(f"a state is of one patient, and there are {num_patients}")
    shape = (len(start.tumors), 2 * net.num_types)
    count, parent = np.zeros(shape), np.full(shape, -1, np.int32)
    born, died = np.full(shape, np.nan), np.full(shape, np.nan)
    place = {genotype: i for i, genotype in enumerate(net.genotypes)}

    def named(is_preexisting: bool, genotype: int, site: int) -> int:
        if genotype not in place:
            return -1
        kind = place[genotype] * net.num_sites + site
        return kind if is_preexisting else net.num_types + kind

    known = origins(start)
    columns = ("replicate_index", "id", "parent", "is_preexisting", "genotype", "site_index",
               "birth_time", "end_time")  # fmt: skip
    rows = list(zip(*(known[name].tolist() for name in columns), strict=True))
    clones = {(row[0], row[1]): (named(*row[3:6]), row[2]) for row in rows}

    def ancestor(replicate: int, name: int, clone: int) -> int:
        while (replicate, clone) in clones:
            found, before = clones[replicate, clone]
            if found not in (-1, name):
                return found
            clone = before
        return -1

    for replicate, clone, before, *_, birth, end in rows:
        name = clones[replicate, clone][0]
        if name >= 0:
            at = (replicate, name)
            if not born[at] <= birth - start.day:
                born[at] = birth - start.day
                parent[at] = ancestor(replicate, name, before)
            died[at] = np.fmax(died[at], end - start.day)
    for replicate, tumor in enumerate(start.tumors):
        for row in tumor:
            count[replicate, named(row.is_preexisting, row.genotype, row.site)] += row.cells
    died[count > 0] = np.nan
    return _by_origin(count), Lineage(*map(_by_origin, (born, died, parent)))  # type: ignore[arg-type]


def _by_origin(x: np.ndarray) -> np.ndarray:
    """[tumor, clone] as [origin, type, tumor]."""
    return np.moveaxis(x.reshape(len(x), 2, -1), 0, 2)
