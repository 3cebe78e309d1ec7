"""From what the `cells` engine wrote down to the named arrays of a trajectory."""

import numpy as np

from jaxevo import genotype
from jaxevo.drug.schedule import Dose
from jaxevo.engines import immunity
from jaxevo.engines.base import Problem, Trajectory, Variable
from jaxevo.engines.grid import Marks, arm_course, arm_inputs, multiples
from jaxevo.engines.handover import State, origins
from jaxevo.engines.recording import ArmRun, Growth, Tally
from jaxevo.engines.tumors import EXTINCT, INTERRUPTED, OUT_OF_ROOM, RUNNING
from jaxevo.model import Model

TUMOR = ("arm", "patient", "replicate")


def trajectory(
    problem: Problem,
    replicates: range,
    growth: Growth | None,
    run: ArmRun,
    start: State | None = None,
) -> Trajectory:
    """All variables of the study, with units and long names."""
    num = len(replicates)
    root = names(problem, replicates)
    root |= _sizes(problem, num, run)
    root |= _outcomes(problem, num, run, growth)
    root |= drugs(problem, run.when)
    root |= _clones(problem, num, run)
    before = _founders(problem, num, growth) if start is None else _carried(start, replicates)
    if start is not None:
        before["cell"] = before.pop("genotype") * len(problem.model.names.sites)
        before["cell"] += before.pop("site_index")
    groups = {"": root, "lineage": _lineage(problem, num, growth, run, before)}
    if run.recorder.cells:
        groups["cells"] = _cells(run)
    return groups


def trajectory_bytes(problem: Problem, when: Marks) -> int:
    """Size of the arrays of a trajectory before compression, without clone events and snapshots."""
    num_arms, model = len(problem.arms), problem.model
    tumors = num_arms * problem.replicates
    classes = min(problem.record.max_classes, model.genome.num_genotypes)
    num_sites, num_drugs = len(model.names.sites), len(model.names.drugs)
    immune = 2 * num_sites * (model.immune is not None)
    sizes = 8 * tumors * int(when.is_record.sum()) * (2 + num_sites + classes + immune)
    clones = 8 * tumors * int(when.is_clones.sum()) * problem.record.max_clones
    times = len(multiples(problem.record.concentration_every, problem.horizon))
    return sizes + clones + 8 * num_arms * times * num_drugs * (num_sites + 1)


def names(problem: Problem, replicates: range) -> dict[str, Variable]:
    """What the axes of a trajectory stand for."""
    model = problem.model
    lists = {
        "arm": tuple(arm.name for arm in problem.arms),
        "site": model.names.sites,
        "drug": model.names.drugs,
        "alteration": model.genome.names,
    }
    found = {
        axis: Variable((axis,), np.array(names, dtype=np.str_), "", f"name of the {axis}")
        for axis, names in lists.items()
    }
    found["max_level"] = Variable(
        ("alteration",), np.array(model.genome.max_levels, np.int64), "1",
        "highest level; genotype = sum of level * product of (max_level + 1) of those before",
    )  # fmt: skip
    index = np.arange(replicates.start, replicates.stop)
    found["replicate"] = Variable(("replicate",), index, "1", "index of the replicate")
    numbers = problem.first_patient + np.arange(len(problem.models))
    found["patient"] = Variable(("patient",), numbers, "1", "index of the patient")
    return found


def _sizes(problem: Problem, num: int, run: ArmRun) -> dict[str, Variable]:
    """Burden, sites and classes at the record days; -1 after a tumor was cut short."""
    arms, when = len(problem.arms), run.when
    (records,) = np.nonzero(when.is_record)
    day = when.day[records]
    unknown = _is_unknown(run, num, day)
    shaped = lambda x: x.reshape(arms, 1, num, *x.shape[1:])  # noqa: E731
    sites = np.moveaxis(run.site_count[records], 2, 0)  # [tumor, record, site]
    sites = np.where(unknown[:, :, None], -1, sites)
    burden = np.where(unknown, -1, sites.sum(axis=2))
    tracked = _tracked(run.recorder.classes, problem.record.max_classes)
    classes = np.zeros((arms * num, len(records), len(tracked)), np.int64)
    for r, m in enumerate(records.tolist()):
        if m in run.recorder.classes:
            found = run.recorder.classes[m]
            place = np.searchsorted(tracked, found.value)
            is_tracked = np.take(tracked, place, mode="clip") == found.value
            is_tracked &= found.tumor < arms * num
            tumor, column = found.tumor[is_tracked], place[is_tracked]
            flat = np.bincount(
                tumor * len(tracked) + column, found.count[is_tracked], arms * num * len(tracked)
            )
            classes[:, r] = np.rint(flat).astype(np.int64).reshape(arms * num, len(tracked))
    others = np.where(unknown, -1, burden - classes.sum(axis=2))
    classes = np.where(unknown[:, :, None], -1, classes)
    found = {}
    if problem.model.immune is not None:
        extra = np.full((arms * num, len(records), 2 * sites.shape[2]), np.nan)
        written = run.recorder.immune
        if written:
            extra[:, : len(written)] = np.stack(written, axis=1)
        extra[unknown] = np.nan
        found = immunity.variables(shaped(extra), sites.shape[2])
    time = (*TUMOR, "time")
    return {
        "time": Variable(("time",), day, "d", "time since the start of treatment"),
        "burden": Variable(time, shaped(burden), "cells", "living cells"),
        "site_burden": Variable((*time, "site"), shaped(sites), "cells", "living cells by site"),
        "class_count": Variable(
            (*time, "class"), shaped(classes), "cells", "living cells by tracked genotype class"
        ),
        "other_classes_count": Variable(
            time, shaped(others), "cells", "living cells of all classes that are not tracked"
        ),
        **class_names(problem, tracked),
        **found,
    }


def class_names(problem: Problem, tracked: np.ndarray) -> dict[str, Variable]:
    """The tracked classes (packed genotypes), their levels and their labels."""
    genome = problem.model.genome
    levels = np.asarray(genotype.unpack(genome, tracked))
    labels = np.array([genotype.label(genome, int(g)) for g in tracked], dtype=np.str_)
    return {
        "class": Variable(("class",), tracked, "1", "packed genotype of the class"),
        "class_genotype": Variable(
            ("class", "alteration"), levels.astype(np.int64), "1", "level of each alteration"
        ),
        "class_label": Variable(("class",), labels, "", "alterations of the class"),
    }


def _is_unknown(run: ArmRun, num: int, day: np.ndarray) -> np.ndarray:
    """Where a tumor was cut short before a day, [tumor, day]."""
    cut = np.isin(run.status, (OUT_OF_ROOM, INTERRUPTED))
    return cut[:, None] & (day[None, :] > run.end_day(num)[:, None] + 1e-9)


def _tracked(classes: dict[int, Tally], most: int) -> np.ndarray:
    """The genotypes with the largest peaks in any tumor, in packed order; always the unaltered."""
    peak: dict[int, int] = {0: 2**62}
    for found in classes.values():
        order = np.lexsort((found.value, found.tumor))
        keys = np.stack([found.tumor[order], found.value[order]])
        new = np.any(np.diff(keys, axis=1, prepend=-1) != 0, axis=0)
        starts = np.nonzero(new)[0]
        if len(starts) == 0:
            continue
        totals = np.add.reduceat(found.count[order], starts)
        for value, total in zip(keys[1][starts], totals, strict=True):
            peak[int(value)] = max(peak.get(int(value), 0), int(total))
    largest = sorted(peak, key=lambda value: (-peak[value], value))[:most]
    return np.array(sorted(largest), np.int64)


def _outcomes(
    problem: Problem, num: int, run: ArmRun, growth: Growth | None
) -> dict[str, Variable]:
    shaped = lambda x: x.reshape(len(problem.arms), 1, num)  # noqa: E731
    found = {
        "is_extinct": Variable(TUMOR, shaped(_is_extinct(run)), "1", "no cell is left"),
        "status": Variable(
            TUMOR,
            shaped(run.status).astype(np.int8),
            "1",
            "0 followed to the horizon, 1 extinct, 2 reached stop_at_cells, 3 out of room, "
            "4 interrupted",
        ),
        "end_day": Variable(
            TUMOR, shaped(run.end_day(num)), "d", "day until which it was followed"
        ),
        "births": Variable(TUMOR, shaped(run.births), "1", "divisions since day 0"),
        "deaths": Variable(TUMOR, shaped(run.deaths), "1", "deaths since day 0"),
    }
    start = run.site_count[0].sum(axis=0)[:num]
    found["trigger_cells"] = Variable(("replicate",), start, "cells", "living cells at day 0")
    if growth is not None:
        day, size = growth.course()
        axes = ("replicate", "growth")
        found["growth_day"] = Variable(axes, day, "d", "days of growth, before treatment")
        found["growth_burden"] = Variable(axes, size, "cells", "living cells during growth")
    attempts = growth.attempts if growth is not None else np.ones(num, np.int64)
    found["founder_attempts"] = Variable(
        ("replicate",), attempts, "1", "founders drawn until a tumor grew"
    )
    return found


def drugs(problem: Problem, when: Marks) -> dict[str, Variable]:
    """Concentrations on a grid of their own, and the doses between records, both of `problem.model`."""
    model, horizon = problem.model, problem.horizon
    times = multiples(problem.record.concentration_every, horizon)
    blood, site = [], []
    for arm in problem.arms:
        given = arm_inputs(model, arm, times)
        found = arm_course(model, given, np.array([0.0, 1.0]))
        start = np.searchsorted(given.edges, times[:-1] - 1e-9)
        blood.append(np.concatenate([found.blood[start, 0], found.blood[-1:, 1]]))
        site.append(np.concatenate([found.site[start, 0], found.site[-1:, 1]]))
    record_days = when.day[when.is_record]
    dose = np.stack([_dose_mg(model, arm.doses, record_days) for arm in problem.arms])
    for a, arm in enumerate(problem.arms):
        if arm.decides:  # what is given differs from tumor to tumor
            dose[a], blood[a][:] = np.nan, np.nan
        if problem.goes_by_visits(arm):
            site[a][:] = np.nan
    axes = ("arm", "concentration_time")
    return {
        "concentration_time": Variable(
            ("concentration_time",), times, "d", "time since the start of treatment"
        ),
        "concentration": Variable(
            (*axes, "site", "drug"),
            np.stack(site),
            "uM",
            "free drug at the site; NaN where doses are decided at visits, or delivery follows the burden",
        ),
        "blood_concentration": Variable(
            (*axes, "drug"),
            np.stack(blood),
            "uM",
            "free drug in blood; NaN where doses are decided at visits",
        ),
        "dose": Variable(
            ("arm", "time", "drug"),
            dose,
            "mg",
            "given from this time until the next; NaN where doses are decided at visits",
        ),
    }


def _dose_mg(model: Model, doses: tuple[Dose, ...], days: np.ndarray) -> np.ndarray:
    given = np.zeros((len(days), len(model.names.drugs)))
    for dose in doses:
        amount = dose.mg(float(model.body_surface))
        if dose.duration == 0:
            at = np.searchsorted(days, dose.day + 1e-9) - 1
            given[at, dose.drug] += amount
        else:
            ends = np.append(days[1:], np.inf)
            overlap = np.minimum(ends, dose.day + dose.duration) - np.maximum(days, dose.day)
            given[:, dose.drug] += amount * np.maximum(overlap, 0) / dose.duration
    return given


def _clones(problem: Problem, num: int, run: ArmRun) -> dict[str, Variable]:
    """Sizes of the clones with the largest peaks in each tumor."""
    if not run.recorder.clones:
        return {}
    arms, most = len(problem.arms), problem.record.max_clones
    marks = sorted(run.recorder.clones)
    tallies = [run.recorder.clones[m] for m in marks]
    row = np.repeat(np.arange(len(marks)), [len(found.count) for found in tallies])
    tumor, clone, count = (np.concatenate(x) for x in zip(*tallies, strict=True))
    known = tumor < arms * num
    row, count = row[known], count[known]
    key = tumor[known].astype(np.int64) << 32 | clone[known].astype(np.int64)
    names, place = np.unique(key, return_inverse=True)
    peak = np.zeros(len(names), np.int64)
    np.maximum.at(peak, place, count)
    order = np.lexsort((names, -peak, names >> 32))
    owner = names[order] >> 32
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    shown = np.sort(order[rank < most])  # by tumor, then by name
    owner = names[shown] >> 32
    column = np.arange(len(shown)) - np.searchsorted(owner, owner)
    width = int(column.max(initial=-1)) + 1
    ids = np.full((arms * num, width), -1, np.int64)
    ids[owner, column] = names[shown] & 0xFFFFFFFF
    sizes = np.zeros((arms * num, len(marks), width), np.int64)
    where = np.full(len(names), -1)
    where[shown] = np.arange(len(shown))
    at = where[place]
    is_shown = at >= 0
    at = at[is_shown]
    sizes[owner[at], row[is_shown], column[at]] = count[is_shown]
    sizes[_is_unknown(run, num, run.when.day[marks])] = -1
    shape, axes = (arms, num), ("arm", "replicate")
    return {
        "clone_time": Variable(
            ("clone_time",), run.when.day[marks], "d", "time since the start of treatment"
        ),
        "clone_id": Variable(
            (*axes, "clone"), ids.reshape(*shape, width), "1", "name of the clone, -1 for none"
        ),
        "clone_count": Variable(
            (*axes, "clone_time", "clone"),
            sizes.reshape(*shape, len(marks), width),
            "cells",
            "living cells of the clone itself, its daughter clones apart",
        ),
    }


def _is_extinct(run: ArmRun) -> np.ndarray:
    """No cell is left; where cells come from outside, at the end of the course."""
    is_empty = (run.site_count[run.marked].sum(axis=0) == 0) & (run.status == RUNNING)
    return (run.status == EXTINCT) | is_empty


def _founders(problem: Problem, num: int, growth: Growth | None) -> dict[str, np.ndarray]:
    """A clone for every row of founders."""
    num_sites = len(problem.model.names.sites)
    founders = len(problem.founders)
    which = np.tile(np.arange(founders), num)
    before = growth.age if growth is not None else np.zeros(num)
    founder_cell = np.array([f.genotype * num_sites + f.site for f in problem.founders], np.int64)
    return {
        "arm_index": np.full(len(which), -1),
        "replicate_index": np.repeat(np.arange(num), founders),
        "id": which,
        "parent": np.full(len(which), -1),
        "birth_time": np.repeat(-before, founders),
        "cell": founder_cell[which],
        "is_preexisting": np.ones(len(which)),
    }


def _carried(start: State, replicates: range) -> dict[str, np.ndarray]:
    """The clones of a state, whose day is day 0 from now on."""
    known = origins(start)
    place = known["replicate_index"].astype(np.int64) - replicates.start
    here = (place >= 0) & (place < len(replicates))
    columns = ("id", "parent", "genotype", "site_index", "is_preexisting")
    return {
        "arm_index": np.full(int(here.sum()), -1),
        "replicate_index": place[here],
        "birth_time": known["birth_time"][here] - start.day,
        **{name: known[name][here].astype(np.int64) for name in columns},
    }


def _lineage(
    problem: Problem, num: int, growth: Growth | None, run: ArmRun, before: dict[str, np.ndarray]
) -> dict[str, Variable]:
    """Every clone's origin: those from before, events of growth (arm -1), then those of each arm."""
    num_sites = len(problem.model.names.sites)
    parts = [before]
    if growth is not None:
        parts.append(_event_columns(growth.events, growth.event_day(), None, num))
    parts.append(_event_columns(run.events, run.event_day(num), run.arm(num), num))
    columns = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    cell = columns.pop("cell")
    columns["genotype"], columns["site_index"] = cell // num_sites, cell % num_sites
    order = np.lexsort(
        (columns["id"], columns["birth_time"], columns["replicate_index"], columns["arm_index"])
    )
    described = {
        "arm_index": (np.int32, "1", "arm of the event, -1 before the arms fork"),
        "replicate_index": (np.int32, "1", "position of the replicate on its axis"),
        "id": (np.int64, "1", "name of the clone within its replicate and arm"),
        "parent": (np.int64, "1", "clone that it arose from, -1 for a founder"),
        "birth_time": (np.float64, "d", "day on which the clone arose"),
        "genotype": (np.uint32, "1", "packed genotype at birth of the clone"),
        "site_index": (np.int32, "1", "position of the site on its axis"),
        "is_preexisting": (np.bool_, "1", "it arose before treatment"),
    }
    return {
        name: Variable(("clone_event",), columns[name][order].astype(dtype), units, text)
        for name, (dtype, units, text) in described.items()
    }


def _event_columns(events: np.ndarray, day: np.ndarray, arm: np.ndarray | None, num: int) -> dict:
    return {
        "arm_index": np.full(len(events), -1) if arm is None else arm[events["tumor"]],
        "replicate_index": events["tumor"] % num,
        "id": events["id"],
        "parent": events["parent"],
        "birth_time": day,
        "cell": events["cell"].astype(np.int64),
        "is_preexisting": np.full(len(events), 1 if arm is None else 0),
    }


def _cells(run: ArmRun) -> dict[str, Variable]:
    described = {
        "arm_index": ("1", "position of the arm on its axis"),
        "replicate_index": ("1", "position of the replicate on its axis"),
        "day": ("d", "day of the snapshot"),
        "genotype": ("1", "packed genotype"),
        "site_index": ("1", "position of the site on its axis"),
        "lineage": ("1", "clone of the cell"),
    }
    return {
        name: Variable(
            ("cell",), np.concatenate([part[name] for part in run.recorder.cells]), units, text
        )
        for name, (units, text) in described.items()
    }
