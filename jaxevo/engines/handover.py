"""Hand-over: the cells of a tumor at one moment, so that another engine can follow it from there.

A `State` holds, for one arm and one patient, every replicate's cells as rows: how many cells of one
genotype at one site belong to one clone. `clones` and `cells` start from a state (`start=`), and
`state_of` reads one from the trajectory of either: day 0 of the next run is the day of the state, its
clones keep their names, and their lineage is written on.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxevo.engines.base import Arm, Problem, Record, Refused, Trajectory, Variable

LINEAGE = ("replicate_index", "id", "parent", "birth_time", "end_time", "genotype", "site_index",
           "is_preexisting")  # fmt: skip
CUT_SHORT = (3, 4)  # status of a tumor that was out of room, or interrupted
SIZES = ("burden", "site_burden", "class_count", "other_classes_count")


class StateRow(NamedTuple):
    """Cells that are alike."""

    genotype: int  # packed
    site: int
    cells: int
    is_preexisting: bool  # their clone arose before treatment
    clone: int  # its name, unique within the replicate


class State(NamedTuple):
    """The tumors of one arm and one patient at one moment."""

    day: float  # of the run that they come from
    tumors: tuple[tuple[StateRow, ...], ...]  # [replicate][row]
    lineage: dict[str, np.ndarray] | None = None  # columns `LINEAGE`, days as in that run
    immune: np.ndarray | None = None  # [replicate, variable] effectors, then suppressors, by site


def state_of(trajectory: Trajectory, arm: str | int = 0, patient: int = 0) -> State:
    """The tumors at the end of a `clones` run, or at the last snapshot of a `cells` run.

    Args:
        trajectory: of either engine.
        arm: name or position.
        patient: position on the patient axis.

    Raises:
        ValueError: the trajectory has no such arm, or neither a state nor a snapshot, or a tumor was cut
            short (out of room, interrupted) before the day.
    """
    root = trajectory[""]
    names = root["arm"].data.tolist()
    if arm not in names and not (isinstance(arm, int) and 0 <= arm < len(names)):
        raise ValueError(f"unknown arm {arm!r}; known are {', '.join(names)}")
    index = names.index(arm) if arm in names else int(arm)
    num = len(root["replicate"].data)
    lineage = _lineage_of(trajectory, index, patient)
    if "state" in trajectory:
        table = {name: variable.data for name, variable in trajectory["state"].items()}
        day, rows = float(root["time"].data[-1]), _rows_of(table, index, patient)
    elif "cells" in trajectory:
        table = {name: variable.data for name, variable in trajectory["cells"].items()}
        day = float(table["day"].max() if len(table["day"]) else root["time"].data[-1])
        rows = _tallied(table, index, day, lineage)
    else:
        raise ValueError(
            "the trajectory holds no state to hand over; ask for single cells on the day of the "
            "hand-over (record.snapshot_days)"
        )
    lost = _cut_short(root, index, patient, day)
    if len(lost):
        raise ValueError(
            f"replicate {int(root['replicate'].data[lost[0]])} was cut short before day {day:g} and cannot "
            "be handed over; give it more room (max_cells), or leave it out"
        )
    tumors: list[list[StateRow]] = [[] for _ in range(num)]
    for replicate, row in rows:
        tumors[replicate].append(row)
    immune = _immune_of(root, index, patient, day)
    return State(day, tuple(tuple(found) for found in tumors), lineage, immune)


def _immune_of(root: dict[str, Variable], arm: int, patient: int, day: float) -> np.ndarray | None:
    """Immune cells on that day, [replicate, variable]; None without immunity."""
    if "effector_cells" not in root:
        return None
    (at,) = np.nonzero(np.abs(root["time"].data - day) < 1e-9)
    if len(at) == 0:
        raise ValueError(
            f"the immune cells of day {day:g} were not recorded; record every day that divides the day "
            "of the hand-over (record.every_days)"
        )
    names = ("effector_cells", "suppressor_cells")
    return np.concatenate([root[name].data[arm, patient, :, at[0]] for name in names], axis=1)


def _cut_short(root: dict[str, Variable], arm: int, patient: int, day: float) -> np.ndarray:
    """Positions of replicates whose cells on that day are not known."""
    status, end = (root[name].data[arm, patient] for name in ("status", "end_day"))
    (found,) = np.nonzero(np.isin(status, CUT_SHORT) & (end < day - 1e-9))
    return found


def origins(state: State) -> dict[str, np.ndarray]:
    """The lineage of a state; without one, every clone is said to have arisen on its day."""
    if state.lineage is not None:
        return state.lineage
    found: dict[tuple[int, int], StateRow] = {}
    for replicate, rows in enumerate(state.tumors):
        for row in rows:
            found.setdefault((replicate, row.clone), row)
    num, rows = len(found), list(found.values())
    return {
        "replicate_index": np.array([replicate for replicate, _ in found], np.int64),
        "id": np.array([clone for _, clone in found], np.int64),
        "parent": np.full(num, -1),
        "birth_time": np.full(num, state.day),
        "end_time": np.full(num, np.nan),
        "genotype": np.array([row.genotype for row in rows], np.int64),
        "site_index": np.array([row.site for row in rows], np.int64),
        "is_preexisting": np.array([row.is_preexisting for row in rows], bool),
    }


def largest_names(state: State) -> np.ndarray:
    """The largest name that a clone of each tumor has, living or not, [replicate]; 0 without clones."""
    known = origins(state)
    largest = np.zeros(len(state.tumors), np.int64)
    np.maximum.at(largest, known["replicate_index"].astype(int), known["id"].astype(np.int64))
    for replicate, rows in enumerate(state.tumors):
        largest[replicate] = max([largest[replicate], *(row.clone for row in rows)])
    return largest


def simulate_handed_over(problem: Problem, **options) -> Trajectory:
    """Grow the tumors by `clones` to `treat_at_cells`, then treat them cell by cell.

    Args:
        problem: a study that treats at a size, with one patient.
        options: of the `cells` engine.

    Returns:
        The trajectory of `cells`, with the course of growth and the lineage of both. Sizes of a tumor
        that was stopped while it grew are unknown, -1.

    Raises:
        Refused: the study does not treat at a size, or has more than one patient.
    """
    from jaxevo.engines import cells, clones  # noqa: PLC0415  (both start from a state)

    if problem.treat_at_cells is None:
        raise Refused("a tumor is handed over at treat_at_cells, and the study has none")
    if len(problem.models) > 1:
        raise Refused("the cells engine follows one patient; choose the clones engine alone")
    only: dict[str, Any] = {
        name: options[name] for name in ("replicates", "progress", "should_stop") if name in options
    }
    growing = problem._replace(
        arms=(Arm("growth", ()),),
        horizon=0.0,
        record=Record(every=problem.sync),
    )
    grown = clones.simulate(growing, **only)
    chosen = only.get("replicates", range(problem.replicates))
    state = _at_replicates(state_of(grown), chosen, problem.replicates)
    is_cut = grown[""]["status"].data[0, 0] == CUT_SHORT[1]
    treating: dict[str, Any] = dict(options)
    if is_cut.any():  # by `should_stop`, during growth
        treating["should_stop"] = lambda: True
    treated = cells.simulate(problem, start=state, **treating)
    for name in SIZES:
        treated[""][name].data[:, :, is_cut] = -1
    kept = ("growth_day", "growth_burden", "founder_attempts")
    treated[""] |= {name: grown[""][name] for name in kept}
    return treated


def _at_replicates(state: State, chosen: range, num: int) -> State:
    """The tumors of a run of some replicates, at their places among all."""
    tumors: list[tuple[StateRow, ...]] = [()] * num
    for i, rows in zip(chosen, state.tumors, strict=True):
        tumors[i] = rows
    lineage = origins(state)
    place = np.array(chosen)[lineage["replicate_index"].astype(int)]
    immune = state.immune
    if immune is not None:
        every = np.full((num, immune.shape[1]), np.nan)
        every[list(chosen)] = immune
        immune = every
    return State(state.day, tuple(tumors), lineage | {"replicate_index": place}, immune)


def _here(table: dict[str, np.ndarray], arm: int, patient: int) -> np.ndarray:
    """Rows of one arm and patient."""
    found = np.isin(table["arm_index"], (arm, -1))
    return found & (table.get("patient_index", np.zeros(len(found), int)) == patient)


def _rows_of(table: dict[str, np.ndarray], arm: int, patient: int):
    """Replicate and row, of the group `state`."""
    columns = ("replicate_index", "genotype", "site_index", "cells", "is_preexisting", "clone")
    chosen = (table[name][_here(table, arm, patient)].tolist() for name in columns)
    for replicate, genotype, site, cells, is_preexisting, clone in zip(*chosen, strict=True):
        if cells:
            yield replicate, StateRow(genotype, site, cells, bool(is_preexisting), clone)


def _tallied(table: dict[str, np.ndarray], arm: int, day: float, lineage: dict[str, np.ndarray]):
    """Replicate and row, counted from single cells."""
    names = zip(lineage["replicate_index"].tolist(), lineage["id"].tolist(), strict=True)
    arose_before = dict(zip(names, lineage["is_preexisting"].tolist(), strict=True))
    here = (table["arm_index"] == arm) & (table["day"] == day)
    columns = ("replicate_index", "lineage", "genotype", "site_index")
    cells = np.stack([table[name][here].astype(np.int64) for name in columns], axis=1)
    kinds, counts = np.unique(cells, axis=0, return_counts=True)
    for (replicate, clone, genotype, site), count in zip(
        kinds.tolist(), counts.tolist(), strict=True
    ):
        yield replicate, StateRow(genotype, site, count, arose_before[replicate, clone], clone)


def _lineage_of(trajectory: Trajectory, arm: int, patient: int) -> dict[str, np.ndarray]:
    """Origins of all clones of one arm and patient, those from before the arms forked too."""
    table = {name: variable.data for name, variable in trajectory["lineage"].items()}
    here = _here(table, arm, patient)
    unknown = np.full(len(here), np.nan)
    return {name: table.get(name, unknown)[here] for name in LINEAGE}
