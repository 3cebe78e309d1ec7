"""Words: what the command line prints of plans, results and checks."""

import json
import math
from typing import TYPE_CHECKING, Any

from jaxevo.config import Study

if TYPE_CHECKING:
    from jaxevo.assay import ScreenResult, ScreenSize
    from jaxevo.compare import TrialResult, TrialSize
    from jaxevo.run import Plan, RunResult
    from jaxevo.selftest import Result

SAMPLERS = ("cells", "clones")  # engines that draw replicates


def plan_text(study: Study, plan: "Plan") -> str:
    """What a study will take, line by line."""
    arms = [
        f"{arm.name} ({number:,} intervals)"
        for arm, number in zip(study.arms, plan.intervals, strict=True)
    ]
    sites, genotypes = len(study.sites), plan.rows // len(study.sites)
    rest = f" and {plan.rows % sites} for what leaves them" if plan.rows % sites else ""
    many = [f"{len(arms)} arms"]
    if study.patients.count > 1:
        many.append(f"{study.patients.count:,} patients")
    if plan.engine in SAMPLERS:
        many.append(f"{study.study.replicates:,} replicates")
    room = ""
    if plan.lanes is not None:
        room = f", {plan.lanes:,} lanes and room for {plan.cells_of_room:,} cells each"
    what = "tumors" if plan.engine in SAMPLERS else "courses"
    lines = [
        study.study.title,
        f"  engine  {plan.engine}",
        f"  arms    {', '.join(arms)}",
        f"  classes {genotypes:,} genotypes x {sites} sites{rest} = {plan.rows:,} rows",
        f"  {what:<7} {plan.tumors:,} ({' x '.join(many)}){room}",
        f"  memory  {size(plan.memory_bytes)}",
        f"  disk    {size(plan.disk_bytes)}",
    ]
    return "\n".join(lines)


def result_text(result: "RunResult") -> str:
    """What came out, and where it is."""
    lines = [f"{name}: {arm_text(arm)}" for name, arm in result.summary.items()]
    lines.append(f"trajectory: {result.trajectory_path}")
    lines += [f"picture: {path}" for path in result.pictures]
    return "\n".join(lines)


def trial_plan_text(study: Study, size: "TrialSize") -> str:
    """What a trial will take, line by line."""
    arms, replicates = len(study.arms), study.study.replicates
    many = f"{arms} arms x {size.patients:,} patients x {replicates:,} replicates"
    runs = " in each of 2 runs" if size.runs > 1 else ""
    lines = [
        study.study.title,
        f"  engine  {study.study.engine}",
        f"  tumors  {size.tumors:,} ({many}{runs}), {size.patients_per_block:,} patients at a time",
        f"  memory  {size.memory_bytes / 2**20:,.0f} MiB",
        f"  disk    {size.disk_bytes / 2**20:,.0f} MiB",
        f"  time    about {duration(size.cpu_seconds)} of one core, and the compilation of each arm",
    ]
    return "\n".join(lines)


def trial_text(result: "TrialResult") -> str:
    """What a trial found, and where it is."""
    from jaxevo import trial  # noqa: PLC0415 - brings JAX

    lines = [trial.tell(result.report), ""]
    lines += [f"report: {result.report_path}", f"tumors: {result.trajectory_path}"]
    lines += [f"picture: {path}" for path in result.pictures]
    return "\n".join(lines)


def screen_plan_text(study: Study, size: "ScreenSize") -> str:
    """What a screen will take, line by line."""
    table = study.screen
    replicates = 0 if table is None else table.replicates
    agents = [] if table is None else table.names()
    what = "the tumor" if table is None or table.lines is None else f"{size.lines:,} lines"
    many = f"{size.combinations:,} combinations x {what} x {replicates:,} replicates"
    lines = [
        study.study.title,
        f"  agents  {', '.join(agents)}",
        f"  tumors  {size.tumors:,} ({many}), on the engine clones",
        f"  memory  {size.memory_bytes / 2**20:,.0f} MiB",
        f"  disk    {size.disk_bytes / 2**20:,.1f} MiB",
    ]
    return "\n".join(lines)


def screen_text(result: "ScreenResult") -> str:
    """What a screen found, and where it is."""
    from jaxevo import screen  # noqa: PLC0415 - brings JAX

    lines = [] if result.report is None else [screen.tell(result.report), ""]
    lines += [f"report: {result.report_path}", f"cells: {result.arrays_path}"]
    lines += [f"picture: {path}" for path in result.pictures]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, readable."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def arm_text(arm: dict[str, Any]) -> str:
    """What came out in one arm, in words."""
    if "relapse_probability" in arm:
        parts = [f"relapse with probability {arm['relapse_probability']:.4g}"]
        if arm["mean_relapse_free_days"] is not None:
            parts.append(f"{arm['mean_relapse_free_days']:.4g} days without on average")
        return f"{', '.join(parts)} ({arm['closure']})"
    burden, sd = arm["burden_at_end"], arm.get("burden_at_end_sd")
    parts = ["no tumor followed to its end" if burden is None else f"{burden:.4g} cells at the end"]
    if sd is not None:
        parts = [f"{burden:.4g} cells expected at the end, standard deviation {sd:.4g}"]
    if arm.get("stopped_fraction"):
        parts.append(f"{arm['stopped_fraction']:.1%} reached tumor.stop_at_cells")
    shares = (("extinct_fraction", "extinct"), ("resistant_fraction", "resistant"))
    parts += [f"{arm[key]:.1%} {word}" for key, word in shares if arm.get(key) is not None]
    if arm.get("leaked_cells"):
        parts.append(f"{arm['leaked_cells']:.4g} cells left the classes (study.max_alterations)")
    return ", ".join(parts)


def cases_text(results: "list[Result]") -> str:
    """One line per check: case, engine, what, expected, obtained, tolerance, verdict."""
    rows = [("case", "engine", "quantity", "expected", "obtained", "tolerance", "")]
    for x in results:
        verdict = "ok" if x.is_passed else "FAILS"
        numbers = (f"{x.expected:.8g}", f"{x.obtained:.8g}")
        rows.append((x.case, x.engine, x.quantity, *numbers, x.tolerance, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    passed = sum(result.is_passed for result in results)
    return "\n".join([*lines, f"{passed} of {len(results)} checks passed"])


def case_table(result: "Result") -> dict[str, Any]:
    """A result as JSON has it: numbers that are not finite are null."""
    table = dict(result._asdict())
    for name in ("expected", "obtained"):
        table[name] = float(table[name]) if math.isfinite(table[name]) else None
    return table | {"is_passed": bool(result.is_passed)}


def result_table(result: "RunResult") -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "trajectory": str(result.trajectory_path),
        "pictures": [str(path) for path in result.pictures],
        "arms": result.summary,
    }


def as_json(table: dict[str, Any]) -> str:
    """One line of JSON, without NaN and infinity."""
    return json.dumps(table, allow_nan=False)


def size(num_bytes: int) -> str:
    """A number of bytes, readable."""
    size = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.0f} TB"
