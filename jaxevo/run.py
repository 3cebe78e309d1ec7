"""Run: a study in, a folder with its trajectory and pictures out."""

import importlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxevo import plots, store
from jaxevo.config import Study
from jaxevo.config.tables import ENGINES
from jaxevo.drug.schedule import merge_times
from jaxevo.engines.assembly import trajectory_bytes
from jaxevo.engines.base import Arm, Problem, Refused, Trajectory, Variable
from jaxevo.engines.cells import Progress
from jaxevo.engines.grid import Marks, arm_inputs, marks, multiples
from jaxevo.engines.lanes import LOG_ROWS
from jaxevo.engines.process import problem_network
from jaxevo.engines.tables import Steps
from jaxevo.engines.tumors import OUT_OF_ROOM, STOPPED, Layout

MEMORY_MARGIN = 1.5  # what is allocated against what arithmetic says
SAMPLERS = ("cells", "clones")  # engines that draw replicates
QUANTILES = (0.05, 0.5, 0.95)
COPIES = 4  # of the counts of a tumor that a kernel holds at a time


class DeviceError(RuntimeError):
    """A device was asked for that is not there."""


class StorageError(OSError):
    """A result could not be written."""


class Plan(NamedTuple):
    """What a study will take, before it runs."""

    engine: str
    intervals: list[int]  # of each arm
    rows: int  # classes times sites: all genotypes in `cells`, those that can be reached elsewhere
    tumors: int  # arms times patients, times replicates where the engine draws them
    lanes: int | None  # of one tumor, in `cells`
    cells_of_room: int | None  # of one tumor, in `cells`
    memory_bytes: int  # with a margin
    disk_bytes: int


@dataclass
class RunResult:
    """Where a study's results are, and what came out."""

    trajectory_path: Path
    pictures: list[Path]
    summary: dict[str, dict[str, Any]]  # by arm
    limit: str | None = None  # a sentence if a replicate ran out of room
    interrupted: int | None = None  # the signal that stopped the study
    trajectory: Trajectory = field(default_factory=dict, repr=False)


def simulate(study: Study | Problem, engine: str | None = None, **options) -> Trajectory:
    """Simulate a study, or a problem that was made in Python, with one of the four engines.

    Args:
        study: what to simulate.
        engine: "cells", "clones", "meanfield" or "extinction"; by default what the study says, and
            "cells" for a problem.
        options: of the engine, such as `progress`; see `jaxevo.engines.cells.simulate`.

    Raises:
        Refused: the engine cannot represent the model.
    """
    if not isinstance(study, Study):
        return simulate_as(study, engine or "cells", None, options)
    chosen = engine or study.study.engine
    grower = study.study.grow_with if chosen == study.study.engine else None
    return simulate_as(study.problem(), chosen, grower, options)


def simulate_as(
    problem: Problem, engine: str, grower: str | None, options: dict[str, Any]
) -> Trajectory:
    """Simulate a problem with an engine, after `grower` has grown its tumors, if one is named."""
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known are {', '.join(ENGINES)}")
    _check_patients(problem, engine)
    if grower is not None:
        handover = importlib.import_module("jaxevo.engines.handover")
        return handover.simulate_handed_over(problem, **options)
    return importlib.import_module(f"jaxevo.engines.{engine}").simulate(problem, **options)


def _check_patients(problem: Problem, engine: str) -> None:
    if engine == "cells" and len(problem.models) > 1:
        raise Refused(
            f"the cells engine follows one patient, and there are {len(problem.models)}; "
            "choose the clones engine, or leave out [patients]"
        )


def plan(problem: Problem, engine: str = "cells") -> Plan:
    """Steps, memory and disk that a study will take.

    Raises:
        Refused: more classes can be reached than an engine that counts them lists, or there are
            more patients than one in `cells`.
    """
    _check_patients(problem, engine)
    when = marks(problem.record, problem.horizon)
    return _cells_plan(problem, when) if engine == "cells" else _counts_plan(problem, when, engine)


def _counts_plan(problem: Problem, when: Marks, engine: str) -> Plan:
    """Of an engine that holds a number for every class at every site."""
    net = problem_network(problem)
    laws = len(problem.arms) * len(problem.models)
    tumors = laws * problem.replicates if engine in SAMPLERS else laws
    times = int(when.is_record.sum())
    numbers = {
        "clones": COPIES * net.num_types * 2,  # pre-existing and acquired
        "meanfield": COPIES * net.num_types * (net.num_types + 1),  # means and covariances
        "extinction": COPIES * net.num_types * times,  # one backward solve for each record
    }
    drawn = problem._replace(replicates=tumors // len(problem.arms))
    recorded = trajectory_bytes(drawn, when)
    return Plan(
        engine=engine,
        intervals=[len(_cuts(problem, arm, when)) - 1 for arm in problem.arms],
        rows=net.num_types,
        tumors=tumors,
        lanes=None,
        cells_of_room=None,
        memory_bytes=int(MEMORY_MARGIN * (8 * tumors * numbers[engine] + recorded)),
        disk_bytes=recorded,
    )


def _cuts(problem: Problem, arm: Arm, when: Marks) -> np.ndarray:
    """Days at which an engine that counts ends an interval of an arm."""
    days = [day for level in arm.levels for day in (level.start, level.end)]
    days += [jump.day for jump in arm.jumps]
    inside = [day for day in days if 0 < day < problem.horizon]
    return merge_times(multiples(problem.sync, problem.horizon), when.day, np.array(inside))


def _cells_plan(problem: Problem, when: Marks) -> Plan:
    """Of the engine that holds a place for every cell."""
    model, layout = problem.model, Layout.of(problem.max_cells)
    sync_days = merge_times(multiples(problem.sync, problem.horizon), when.day)
    edges = [arm_inputs(model, arm, sync_days).edges for arm in problem.arms]
    num_arms, rows = len(problem.arms), model.genome.num_genotypes * len(model.names.sites)
    tumors = num_arms * problem.replicates
    steps = Steps.of(model)
    per_row = 4 * (4 + len(steps.others) + len(steps.mutations))
    lane_bytes = 8 * layout.num_slots + 20 * LOG_ROWS + 64
    memory = (tumors + problem.replicates) * layout.lanes_per_tumor * lane_bytes
    memory += num_arms * rows * per_row * 4
    recorded = trajectory_bytes(problem, when)
    return Plan(
        engine="cells",
        intervals=[len(e) - 1 for e in edges],
        rows=rows,
        tumors=tumors,
        lanes=layout.lanes_per_tumor,
        cells_of_room=layout.room,
        memory_bytes=int(MEMORY_MARGIN * (memory + recorded)),
        disk_bytes=recorded,
    )


def run_study(
    study: Study,
    out: Path,
    *,
    device: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Simulate a study, write `out/config.toml`, `out/trajectory.h5` and `out/pictures/`.

    SIGINT and SIGTERM end the simulation after the call in progress; what there is gets written.

    Args:
        study: a checked study.
        out: a folder, made if it is missing.
        device: "cpu", "gpu" or None for what JAX prefers; never falls back in silence.
        progress: called after every call into the kernel.

    Raises:
        DeviceError: there is no such device.
        StorageError: a file could not be written.
        GrowthError: a tumor does not reach the size at which it is to be treated.
        Refused: the engine cannot represent the model.
    """
    devices = devices_of(device)
    engine = study.study.engine
    write_text(out / "config.toml", study.to_toml())
    problem = study.problem()
    with jax.default_device(devices[0]), listening() as heard:
        options: dict[str, Any] = {"progress": progress, "should_stop": lambda: bool(heard)}
        if engine in SAMPLERS:
            options["devices"] = devices
        found = simulate_as(problem, engine, study.study.grow_with, options)
    attributes = {
        "title": study.study.title,
        "engine": engine,
        "seed": problem.seed,
        "config_toml": study.to_toml(),
        "device": ", ".join(sorted({d.device_kind for d in devices})),
        "is_complete": int(not heard),
    }
    path = out / "trajectory.h5"
    try:
        store.write_trajectory(path, found, attributes | store.provenance())
        pictures = plots.draw_all(found, out / "pictures", study.study.title)
    except OSError as error:
        raise StorageError(str(error)) from error
    return RunResult(
        trajectory_path=path,
        pictures=pictures,
        summary=summarize(found),
        limit=_limit(found, problem, engine),
        interrupted=heard[0] if heard else None,
        trajectory=found,
    )


def write_text(path: Path, text: str) -> None:
    """A file and, where it is missing, its folder.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error


def summarize(found: Trajectory) -> dict[str, dict[str, Any]]:
    """What came out, by arm; a value is None where it is not known or not finite.

    Of an engine that draws replicates, over the tumors that were followed to their end:
    `burden_at_end` is the mean number of living cells, `extinct_fraction` the share of tumors without
    a cell, `stopped_fraction` of those that reached `stop_at_cells`, `resistant_fraction` the share of
    all living cells that carry any alteration. Of `meanfield`: expected cells and their standard
    deviation. Of `extinction`: the probability of relapse by the horizon and the mean days without
    one, means over the patients.
    """
    root = found[""]
    describe = _sampled
    if "relapse_probability" in root:
        describe = _relapses
    elif "burden_sd" in root:
        describe = _moments
    return {str(name): describe(root, a) for a, name in enumerate(root["arm"].data)}


def _sampled(root: dict[str, Variable], arm: int) -> dict[str, Any]:
    burden = root["burden"].data[arm, ..., -1]
    known = burden >= 0
    left = burden[known]
    total = int(left.sum())
    unaltered = root["class_count"].data[arm, :, :, -1, root["class"].data == 0].sum(axis=0)
    extinct = root["is_extinct"].data[arm][known]
    stopped = root["status"].data[arm][known] == STOPPED
    low, middle, high = np.quantile(left, QUANTILES) if known.any() else (None,) * 3
    summary = {
        "burden_at_end": _finite(left.mean()) if known.any() else None,
        "burden_at_end_quantiles": {"5%": low, "50%": middle, "95%": high},
        "extinct_fraction": float(extinct.mean()) if known.any() else None,
        "stopped_fraction": float(stopped.mean()) if known.any() else None,
        "resistant_fraction": (total - int(unaltered[known].sum())) / total if total else None,
        "patients": burden.shape[0],
        "replicates": burden.shape[1],
    }
    if burden.shape[0] == 1:
        by_replicate = [int(x) if x >= 0 else None for x in burden[0]]
        summary["burden_at_end_by_replicate"] = by_replicate
    if "leaked_cells" in root:
        summary["leaked_cells"] = _finite(root["leaked_cells"].data[arm].mean())
    return summary


def _moments(root: dict[str, Variable], arm: int) -> dict[str, Any]:
    mean, sd = (root[name].data[arm, :, 0, -1] for name in ("burden", "burden_sd"))
    unaltered = root["class_count"].data[arm, :, 0, -1, root["class"].data == 0].sum()
    total = mean.sum()
    return {
        "burden_at_end": _finite(mean.mean()),
        "burden_at_end_sd": _finite(math.sqrt(np.mean(sd**2) + mean.var())),
        "resistant_fraction": _finite(1 - unaltered / total) if total > 0 else None,
        "patients": len(mean),
        "closure": _text(root["closure"]),
    }


def _relapses(root: dict[str, Variable], arm: int) -> dict[str, Any]:
    probability = root["relapse_probability"].data[arm, :, -1]
    return {
        "relapse_probability": _finite(probability.mean()),
        "no_relapse_log": _finite(root["no_relapse_log"].data[arm, :, -1].mean()),
        "mean_relapse_free_days": _finite(root["mean_relapse_free_days"].data[arm].mean()),
        "patients": len(probability),
        "closure": _text(root["closure"]),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(variable: Variable) -> str:
    return "; ".join(dict.fromkeys(str(x) for x in np.ravel(variable.data)))


def _limit(found: Trajectory, problem: Problem, engine: str) -> str | None:
    """A sentence about the replicates that ran out of room, if any."""
    root = found[""]
    if "status" not in root:
        return None
    arm, patient, replicate = np.nonzero(root["status"].data == OUT_OF_ROOM)
    if len(arm) == 0:
        return None
    days = root["end_day"].data[arm, patient, replicate]
    first = int(np.argmin(days))
    name, index = root["arm"].data[arm[first]], root["replicate"].data[replicate[first]]
    room = (
        f"for study.max_cells = {problem.max_cells} cells" if engine == "cells" else "to count in"
    )
    way = "raise study.max_cells, or " if engine == "cells" else ""
    return (
        f"{len(arm)} of {root['status'].data.size} tumors ran out of room {room}, the first being "
        f"replicate {index} of arm {str(name)!r} after day {days[first]:.4g}; everything up to then "
        f"is kept; {way}set tumor.stop_at_cells or a capacity"
    )


def devices_of(device: str | None) -> tuple:
    """The devices of a kind, or those that JAX prefers.

    Raises:
        DeviceError: there are none.
    """
    try:
        return tuple(jax.devices(device))
    except RuntimeError as error:
        raise DeviceError(f"--device {device}: there is no such device here") from error


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one acts as usual."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    def hear(number: int, _frame) -> None:
        heard.append(number)
        signal.signal(number, before[number])

    before = {int(n): signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
