"""Improve: a study in, a schedule that minimizes relapse out, with the verdict of the other engines.

schedules   from [optimize] to what is decided, and from amounts to an arm
searching   goal, limits and starts of a study; the search
verdict     tumors that the search never saw, and what `extinction` predicts for them
report      all of it as numbers and text
arrays      the same as arrays with names, for a file
text        in words, for a terminal
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tomli_w

from jaxevo import plots, store
from jaxevo.config import Study, StudyError
from jaxevo.config.build_care import given
from jaxevo.config.decisions import OPTIMIZED, ROUNDED
from jaxevo.improve import arrays, report, schedules, searching
from jaxevo.improve.searching import Task
from jaxevo.improve.verdict import Verdict, off_by, unseen_seed, verdict
from jaxevo.optimize import Found, Progress
from jaxevo.run import StorageError, devices_of, listening, write_text

SAVED = "search.npz"  # the state of a search that can go on
Report = dict[str, Any]
Show = Callable[[str, float | None, str], None]


@dataclass
class OptimizeResult:
    """Where a search's results are, and what came out; without a report it was stopped before."""

    report_path: Path
    schedule_path: Path
    arrays_path: Path
    pictures: list[Path] = field(default_factory=list)
    report: Report | None = None
    limit: str | None = None
    interrupted: int | None = None  # the signal that stopped it


def run_optimize(
    study: Study,
    out: Path,
    *,
    device: str | None = None,
    front: int = 0,
    show: Show | None = None,
) -> OptimizeResult:
    """Search a schedule, judge it, write `out/{config.toml, schedule.toml, optimize.json, schedule.h5}`.

    SIGINT and SIGTERM end it; `out/search.npz` then holds the state of the search, from which the same
    call goes on. `schedule.toml` is the study with what was found among its arms.

    Args:
        study: loaded with `needs=["optimize"]`.
        out: a folder, made if it is missing.
        device: "cpu", "gpu" or None for what JAX prefers.
        front: how many schedules to search between the least toxic and the one that is found.
        show: called with what is at work, the share that is done if it is known, and how it goes.

    Raises:
        DeviceError: there is no such device.
        StorageError: a file could not be written.
        Refused: relapse cannot be computed as a function of the amounts, or an engine cannot follow it.
    """
    devices = devices_of(device)
    result = OptimizeResult(out / "optimize.json", out / "schedule.toml", out / "schedule.h5")
    write_text(out / "config.toml", study.to_toml())
    with jax.default_device(devices[0]), listening() as heard:
        stop = lambda: bool(heard)  # noqa: E731
        options: dict[str, Any] = {"should_stop": stop, "devices": devices}
        show = show or _silent
        own = searching.task(study)
        told = _teller(show)
        found = searching.found(own, progress=told, should_stop=stop, saved=out / SAVED)
        rounded = None if heard else searching.rounded(own, found, stop)
        judged: dict[str, Any] = {}
        if not heard:
            judged = _judge(own, found, rounded, options, show)
        if front and not heard:
            judged["front"] = _front(own, found, front, options, show)
        if not heard:
            result.report = _report(own, found, rounded, judged, options)
            result.pictures = _write_all(result, own, found, rounded, judged, devices)
            (out / SAVED).unlink(missing_ok=True)
        result.interrupted = heard[0] if heard else None
    return result


def _silent(what: str, share: float | None, text: str) -> None:
    del what, share, text


def _teller(show: Show) -> Callable[[Progress], None]:
    def tell(now: Progress) -> None:
        best = "nothing feasible yet" if not np.isfinite(now.best) else f"best {now.best:.6g}"
        show("search", None, f"{now.stage}, {best}, {now.converged} starts at an optimum")

    return tell


# --- judging ---------------------------------------------------------------------------------------


def _tables(own: Task, found: Found, rounded: Found | None) -> list[Report]:
    named = [(OPTIMIZED, found)] + ([] if rounded is None else [(ROUNDED, rounded)])
    return [schedules.arm_table(own.study, name, x.variables) for name, x in named]


def _judge(own: Task, found: Found, rounded: Found | None, options: Report, show: Show) -> Report:
    """The arms on `clones`, on `cells` where asked for, and for patients whose numbers are off."""
    table = given(own.study.optimize)
    study = schedules.with_arms(own.study, _tables(own, found, rounded))
    tell = lambda what: lambda engine, share: show(f"{what} on {engine}", share, "")  # noqa: E731
    judged: Report = {"study": study}
    judged["clones"] = verdict(study, table.tumors, options=options, show=tell("verdict"))
    if table.cells_tumors is not None:
        judged["cells"] = verdict(
            study, table.cells_tumors, engine="cells", options=options, show=tell("verdict")
        )
    if table.robust_patients:
        try:
            off = off_by(study, table.robust_cv, table.robust_patients)
            judged["robust"] = verdict(
                off, table.tumors, pairing="paired", options=options, show=tell("robustness")
            )
        except StudyError as error:
            judged["robust_note"] = str(error)
    return judged


def _front(own: Task, found: Found, number: int, options: Report, show: Show) -> Report:
    """Schedules under limits that are more and more strict, and the verdict on each."""
    points = []
    for k, (text, some) in enumerate(searching.front(own, found, number)):
        show("front", (k + 1) / number, text)
        points.append((text, some))
        if options["should_stop"]():
            break
    tables = [
        schedules.arm_table(own.study, f"front {k + 1}", x.variables)
        for k, (_, x) in enumerate(points)
    ]
    whole = schedules.with_arms(own.study, tables).resolved()
    whole["arms"] = tables
    whole.pop("trial", None)
    study = type(own.study).model_validate(whole)
    table = given(own.study.optimize)
    tell = lambda engine, share: show(f"front on {engine}", share, "")  # noqa: E731
    return {"points": points, "verdict": verdict(study, table.tumors, options=options, show=tell)}


# --- telling ---------------------------------------------------------------------------------------


def _report(
    own: Task, found: Found, rounded: Found | None, judged: Report, options: Report
) -> Report:
    study, table, clones = own.study, given(own.study.optimize), judged["clones"]
    whole = report.of_trial(clones)
    arms = report.of_arms(clones, whole)
    low = searching.too_low(own, clones.problem, options)
    limits = report.limits_of(study, clones.problem, low)
    final = found if rounded is None else rounded
    chosen = OPTIMIZED if rounded is None else ROUNDED
    for arm in clones.problem.arms:
        arms[arm.name] |= limits[arm.name] | {"dose_intensity": searching.intensity(own, arm)}
    chance = dict(zip(arms, clones.chance, strict=True))
    against = report.against_best(arms, chosen, given(table.compare), chance)
    told_of = _recommended(own, chosen, final, against)
    relapse = clones.problem.relapse
    told: Report = {
        "title": study.study.title,
        "seed": study.study.seed,
        "verdict_seed": unseen_seed(study),
        "relapse": {"kind": relapse.kind, "horizon_days": study.study.horizon_days},
        "feasible": final.is_feasible or told_of["recommended"] != chosen,
        **told_of,
        "search": report.of_search(study, found),
        "arms": arms,
        "against_best": against,
        "trial": whole,
    }
    if rounded is not None:
        told["rounding"] = report.of_search(study, rounded)
    for name in ("cells", "robust"):
        if name in judged:
            told[name] = _brief(judged[name])
    if "robust" in told:
        told["robust"]["patients"] = judged["robust"].plan.num_patients
        told["robust"]["cv"] = table.robust_cv
    if "robust_note" in judged:
        told["robust"] = {"note": judged["robust_note"]}
    if "front" in judged:
        told["front"] = _told_front(own, judged["front"])
    return told


def _recommended(own: Task, chosen: str, final: Found, against: Report) -> Report:
    """What was found, unless an arm of the study is better or nothing was found within the limits."""
    study, best = own.study, against["arm"]
    if best is None or (against["is_no_worse"] and final.is_feasible):
        table = schedules.arm_table(study, chosen, final.variables)
        return {
            "recommended": chosen, "schedule": table,
            "schedule_amounts": report.of_schedule(study, final.variables),
        }  # fmt: skip
    arm = next(arm for arm in own.arms if arm.name == best)
    table = next(arm for arm in study.resolved()["arms"] if arm["name"] == best)
    amounts = [] if arm.decides else report.of_schedule(study, schedules.usage(study, arm))
    return {"recommended": best, "schedule": table, "schedule_amounts": amounts}


def _brief(judged: Verdict) -> Report:
    rows = {arm.name: report.of_relapse(judged, a) for a, arm in enumerate(judged.problem.arms)}
    return {"engine": judged.engine, "arms": rows}


def _told_front(own: Task, front: Report) -> list[Report]:
    seen: Verdict = front["verdict"]
    arms = report.of_arms(seen, report.of_trial(seen))
    rows = []
    for (text, some), arm in zip(front["points"], seen.problem.arms, strict=True):
        row = arms[arm.name]
        row |= {"limit": text, "is_feasible": some.is_feasible, "is_converged": some.is_converged}
        row["dose_intensity"] = searching.intensity(own, arm)
        row["schedule"] = schedules.arm_table(own.study, arm.name, some.variables)
        rows.append(row)
    return rows


# --- writing ---------------------------------------------------------------------------------------


def _write_all(
    result: OptimizeResult,
    own: Task,
    found: Found,
    rounded: Found | None,
    judged: Report,
    devices: tuple,
) -> list[Path]:
    """All files of a search."""
    if result.report is None:
        raise TypeError("there is nothing to write")
    title, text = own.study.study.title, json.dumps(result.report, allow_nan=False)
    write_text(result.report_path, text)
    write_text(result.schedule_path, tomli_w.dumps(judged["study"].resolved()))
    attributes: Report = {
        "title": title,
        "seed": own.study.study.seed,
        "config_toml": own.study.to_toml(),
        "report_json": text,
        "device": ", ".join(sorted({d.device_kind for d in devices})),
    }
    try:
        held = arrays.of(own, found, rounded, judged)
        store.write_schedule(result.arrays_path, held, attributes | store.provenance())
        return plots.draw_schedule(result.report, result.report_path.parent / "pictures", title)
    except OSError as error:
        raise StorageError(str(error)) from error
