"""Compare: a study in, a trial of its arms out: a folder with its figures, tumors and pictures."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxevo import plots, store, trial
from jaxevo.config import Study
from jaxevo.engines.base import Problem, Refused, Trajectory, Variable
from jaxevo.engines.cells import Progress
from jaxevo.engines.counts import STEP
from jaxevo.engines.tumors import OUT_OF_ROOM
from jaxevo.outcomes import Recist
from jaxevo.run import (
    MEMORY_MARGIN,
    SAMPLERS,
    StorageError,
    devices_of,
    listening,
    simulate_as,
    write_text,
)
from jaxevo.trial import Followed, TrialPlan, TrialReport

# Measured on one core of an AMD EPYC, with 4 arms, two of which decide, over five years:
CELL_SECONDS = 4e-7  # for one class in one tumor and one step, both origins, with lineages
LAW_SECONDS = 1.1e-5  # for the rates of one arm and patient in one interval
PROGRAM_BYTES = 1_250_000_000  # of the program and what compiles it
TUMOR = ("arm", "patient", "replicate")


class TrialSize(NamedTuple):
    """What a trial will take, before it runs."""

    tumors: int  # of all arms and runs
    patients: int  # of an arm
    runs: int
    patients_per_block: int
    memory_bytes: int  # with a margin, and with the program
    disk_bytes: int
    cpu_seconds: float  # rough, and without compilation


@dataclass
class TrialResult:
    """Where a trial's results are, and what came out."""

    report_path: Path
    trajectory_path: Path
    pictures: list[Path]
    report: TrialReport
    limit: str | None = None  # a sentence if a tumor ran out of room
    interrupted: int | None = None  # the signal that stopped the trial


def trial_of(study: Study) -> tuple[Problem, TrialPlan]:
    """A study that was loaded for a trial as `jaxevo.trial` takes it, with patients for every arm.

    Raises:
        Refused: its engine cannot run it.
    """
    table, engine, num = study.trial, study.study.engine, study.patients.count
    if table is None:
        raise ValueError('the study has no [trial]; load it with `needs=["trial"]`')
    names = [arm.name for arm in study.arms]
    plan = TrialPlan(
        num_patients=num,
        pairing=table.pairing,
        control=names.index(table.control or names[0]),
        progression=table.progression,
        recist=Recist(confirm_days=table.confirm_days),
        horizon_day=table.horizon_day,
    )
    if table.progression_ratio is not None:
        plan = plan._replace(progression_ratio=table.progression_ratio)
    if engine == "extinction":
        raise Refused(
            "the extinction engine computes probabilities and follows no tumor; choose clones"
        )
    if engine == "cells" and plan.pairing != "paired":
        raise Refused(
            "the cells engine follows one patient, so that arms have none of their own; choose clones, "
            'or trial.pairing = "paired"'
        )
    if engine == "cells" and study.visits is not None and study.visits.noise_cv > 0:
        raise Refused("the cells engine scans without error; choose noise_cv = 0, or clones")
    patients = study.patients
    is_alike = not patients.vary and not patients.values
    needed = 1 if is_alike else num * (1 if plan.pairing == "paired" else len(names))
    if needed != num:
        whole = study.resolved()
        whole["patients"]["count"] = needed
        study = type(study).model_validate(whole)
    return study.problem(), plan


def trial_size(problem: Problem, plan: TrialPlan, engine: str) -> TrialSize:
    """Tumors, memory, disk and time of a trial."""
    found = trial.size(problem, plan, is_counted=engine != "cells")
    kept = 2 * found.kept_bytes  # as followed, and as written
    steps = problem.horizon / problem.sync
    events = float(problem.model.birth.birth_rate + problem.model.death.death_rate)
    pace = max(1.0, events * problem.sync / STEP)  # steps of an interval
    by_tumor = CELL_SECONDS * trial.num_types(problem) * pace if engine == "clones" else 0.0
    seconds = steps * found.tumors * (by_tumor + LAW_SECONDS / problem.replicates)
    return TrialSize(
        tumors=found.tumors,
        patients=plan.num_patients,
        runs=len(plan.runs),
        patients_per_block=found.patients_per_block,
        memory_bytes=PROGRAM_BYTES + int(MEMORY_MARGIN * (2 * found.block_bytes + kept)),
        disk_bytes=found.kept_bytes,
        cpu_seconds=seconds,
    )


def most_patients(problem: Problem, plan: TrialPlan, engine: str, memory: int) -> int:
    """How many patients of an arm fit into so many bytes; 0 if not one does."""
    fits, too_many = 0, plan.num_patients + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        found = trial_size(problem, plan._replace(num_patients=middle), engine)
        fits, too_many = (middle, too_many) if found.memory_bytes <= memory else (fits, middle)
    return fits


def run_trial(
    study: Study,
    out: Path,
    *,
    device: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrialResult:
    """Run a trial, write `out/{config.toml, trial.json, trajectory.h5}` and `out/pictures/`.

    SIGINT and SIGTERM end it after the call in progress; what there is gets written.

    Args:
        study: loaded with `needs=["trial"]`.
        out: a folder, made if it is missing.
        device: "cpu", "gpu" or None for what JAX prefers.
        progress: called after every call into the kernel.

    Raises:
        DeviceError: there is no such device.
        StorageError: a file could not be written.
        GrowthError: a tumor does not reach the size at which it is to be treated.
        Refused: the engine cannot represent the study.
    """
    devices, engine = devices_of(device), study.study.engine
    problem, plan = trial_of(study)
    write_text(out / "config.toml", study.to_toml())
    with jax.default_device(devices[0]), listening() as heard:
        options: dict[str, Any] = {"should_stop": lambda: bool(heard)}
        if engine in SAMPLERS:
            options["devices"] = devices
        runs = _runs(study, problem, plan, options, progress)
    report: TrialReport = {
        "title": study.study.title,
        "engine": engine,
        "seed": problem.seed,
        "is_complete": not heard,
        **trial.report(problem, plan, runs),
    }
    attributes = {
        "title": study.study.title,
        "engine": engine,
        "seed": problem.seed,
        "config_toml": study.to_toml(),
        "device": ", ".join(sorted({d.device_kind for d in devices})),
        "is_complete": int(not heard),
    }
    path = out / "trajectory.h5"
    write_text(out / "trial.json", json.dumps(report, allow_nan=False))
    try:
        store.write_trajectory(path, trajectory(problem, runs), attributes | store.provenance())
        pictures = plots.draw_trial(report, runs, out / "pictures", study.study.title)
    except OSError as error:
        raise StorageError(str(error)) from error
    return TrialResult(
        report_path=out / "trial.json",
        trajectory_path=path,
        pictures=pictures,
        report=report,
        limit=_limit(runs),
        interrupted=heard[0] if heard else None,
    )


def _runs(
    study: Study,
    problem: Problem,
    plan: TrialPlan,
    options: dict[str, Any],
    progress: Callable[[Progress], None] | None,
) -> dict[str, Followed]:
    """All runs of the trial in which anybody was treated."""
    engine, should_stop = study.study.engine, options["should_stop"]
    width = trial.size(problem, plan, is_counted=engine != "cells").patients_per_block
    blocks = -(-plan.num_patients // width)
    total = sum(blocks * (1 if name == "paired" else len(problem.arms)) for name in plan.runs)
    calls = 0

    def simulate(part: Problem) -> Trajectory:
        nonlocal calls
        done, calls = calls, calls + 1

        def show(now: Progress) -> None:
            if progress is not None:
                progress(now._replace(fraction=(done + now.fraction) / total))

        return simulate_as(part, engine, study.study.grow_with, options | {"progress": show})

    runs: dict[str, Followed] = {}
    for name in plan.runs:
        if not should_stop() or not runs:
            runs[name] = trial.follow(problem, plan, name, simulate, should_stop, width)
    return {name: run for name, run in runs.items() if run.num_subjects}


def _limit(runs: dict[str, Followed]) -> str | None:
    """A sentence about the tumors that ran out of room, if any."""
    lost = sum(int((run.status == OUT_OF_ROOM).sum()) for run in runs.values())
    total = sum(run.status.size for run in runs.values())
    if not lost:
        return None
    return (
        f"{lost} of {total} tumors ran out of room and are censored from then on; raise "
        "study.max_cells, or set tumor.stop_at_cells or a capacity"
    )


# --- the tumors, as arrays with names --------------------------------------------------------------

DESCRIBED = {  # field of `Followed`: name, further axes, unit, text
    "scans": ("scan_cells", ("scan", "site"), "cells", "cells as seen, 0 below detection, NaN unknown"),
    "status": ("status", (), "1", "0 to the horizon, 1 extinct, 2 stopped, 3 out of room, 4 interrupted"),
    "end_day": ("end_day", (), "d", "day until which it was followed"),
    "best": ("response", (), "1", "best response: 0 CR, 1 PR, 2 SD, 3 PD, 4 NE"),
    "confirmed_best": ("confirmed_response", (), "1", "the same, where CR and PR are confirmed"),
    "best_change": ("best_change", (), "1", "smallest size after baseline over baseline, minus 1"),
    "event_day": ("time_to_progression", (), "d", "day of progression, or last day free of it"),
    "is_event": ("is_progression", (), "1", "it progressed; else it is censored"),
    "is_stop": ("is_stop", (), "1", "it progressed by reaching stop_at_cells"),
    "relapse_day": ("relapse_day", (), "d", "seen again after it was not; NaN for never"),
    "is_extinct": ("is_extinct", (), "1", "no cell is left"),
    "carried": ("carried_share", ("alteration",), "1", "share of cells with it at progression"),
    "dominant": ("dominant_alteration", (), "1", "carried by most cells at progression, -1 none"),
    "origin": ("origin", (), "1", "of most resistant cells then: 0 none, 1 intrinsic, 2 acquired"),
    "given_mg": ("given_mg", ("drug",), "mg", "given in all, while it was followed"),
    "planned_mg": ("planned_mg", ("drug",), "mg", "the same at full doses; NaN where unknown"),
    "lowest": ("lowest_neutrophils", (), "1e9/L", "smallest count of neutrophils, as long as `grade_days`"),
    "grade_days": (
        "grade_days", ("grade",), "d",
        "days in each CTCAE grade, 0 to 4, until the visit that ends the time on treatment",
    ),
}  # fmt: skip


def trajectory(problem: Problem, runs: dict[str, Followed]) -> Trajectory:
    """What every tumor came to, with units; of two runs the independent one has a group of its own."""
    names = problem.model.names
    lists = {
        "arm": tuple(arm.name for arm in problem.arms),
        "site": names.sites,
        "drug": names.drugs,
        "alteration": problem.model.genome.names,
    }
    root = {
        axis: Variable((axis,), np.array(words, np.str_), "", f"name of the {axis}")
        for axis, words in lists.items()
    }
    days = trial.scan_days(problem)
    root["scan"] = Variable(("scan",), days, "d", "day of the scan, since the start of treatment")
    found: Trajectory = {"": root}
    for i, (name, run) in enumerate(runs.items()):
        group = root if i == 0 else found.setdefault(name, {})
        group["patient_index"] = Variable(
            ("arm", "patient"), run.patient, "1", "number of the patient in the cohort"
        )
        for field, (called, axes, units, text) in DESCRIBED.items():
            values = getattr(run, field)
            if values is not None:
                small = values.astype(np.int8) if field in ("status", "best") else values
                group[called] = Variable((*TUMOR, *axes), small, units, text)
    return found
