"""Run: a study in, a folder with its trajectory and pictures out."""

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
from jaxevo.drug.schedule import merge_times
from jaxevo.engines import cells
from jaxevo.engines.assembly import trajectory_bytes
from jaxevo.engines.base import Problem, Trajectory
from jaxevo.engines.cells import Progress
from jaxevo.engines.grid import arm_inputs, marks, multiples
from jaxevo.engines.lanes import LOG_ROWS
from jaxevo.engines.tables import Steps
from jaxevo.engines.tumors import OUT_OF_ROOM, Layout

MEMORY_MARGIN = 1.5  # what is allocated against what arithmetic says


class DeviceError(RuntimeError):
    """A device was asked for that is not there."""


class StorageError(OSError):
    """A result could not be written."""


class Plan(NamedTuple):
    """What a study will take, before it runs."""

    intervals: list[int]  # of each arm
    rows: int  # genotypes times sites
    tumors: int  # arms times replicates
    lanes: int  # of one tumor
    cells_of_room: int  # of one tumor
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


def simulate(problem: Problem, **options) -> Trajectory:
    """Simulate a problem with the `cells` engine; see `jaxevo.engines.cells.simulate`."""
    return cells.simulate(problem, **options)


def plan(problem: Problem) -> Plan:
    """Steps, memory and disk that a study will take."""
    model, layout = problem.model, Layout.of(problem.max_cells)
    when = marks(problem.record, problem.horizon)
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
    """
    devices = _devices(device)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.toml").write_text(study.to_toml(), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}") from error
    problem = study.problem()
    with jax.default_device(devices[0]), _listening() as heard:
        found = cells.simulate(
            problem, progress=progress, should_stop=lambda: bool(heard), devices=devices
        )
    attributes = {
        "title": study.study.title,
        "engine": study.study.engine,
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
        limit=_limit(found, problem),
        interrupted=heard[0] if heard else None,
        trajectory=found,
    )


def summarize(found: Trajectory) -> dict[str, dict[str, Any]]:
    """What came out, by arm, over the replicates that were followed to their end.

    `burden_at_end` is the mean number of living cells, `extinct_fraction` the share of replicates
    without a cell, `resistant_fraction` the share of all living cells that carry any alteration.
    Values are None where no replicate was followed to its end, or no cell is left.
    """
    root = found[""]
    burden = root["burden"].data[:, 0, :, -1]
    unaltered = root["class_count"].data[:, 0, :, -1, root["class"].data == 0].sum(axis=0)
    summary = {}
    for a, name in enumerate(root["arm"].data):
        known = burden[a] >= 0
        cells_left = burden[a][known]
        total = int(cells_left.sum())
        altered = total - int(unaltered[a][known].sum())
        extinct = root["is_extinct"].data[a, 0][known]
        summary[str(name)] = {
            "burden_at_end": float(cells_left.mean()) if known.any() else None,
            "burden_at_end_by_replicate": [int(x) if x >= 0 else None for x in burden[a]],
            "extinct_fraction": float(extinct.mean()) if known.any() else None,
            "resistant_fraction": altered / total if total else None,
            "replicates": len(known),
        }
    return summary


def _limit(found: Trajectory, problem: Problem) -> str | None:
    """A sentence about the replicates that ran out of room, if any."""
    root = found[""]
    arm, _, replicate = np.nonzero(root["status"].data == OUT_OF_ROOM)
    if len(arm) == 0:
        return None
    days = root["end_day"].data[arm, 0, replicate]
    first = int(np.argmin(days))
    name, index = root["arm"].data[arm[first]], root["replicate"].data[replicate[first]]
    return (
        f"{len(arm)} of {root['status'].data.size} tumors ran out of room for study.max_cells = "
        f"{problem.max_cells} cells, the first being replicate {index} of arm {str(name)!r} after day "
        f"{days[first]:.4g}; everything up to then is kept; raise study.max_cells, or set "
        "tumor.stop_at_cells or a capacity"
    )


def _devices(device: str | None) -> tuple:
    try:
        return tuple(jax.devices(device))
    except RuntimeError as error:
        raise DeviceError(f"--device {device}: there is no such device here") from error


@contextmanager
def _listening() -> Iterator[list[int]]:
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
