"""Assay: a study in, a screen of its agents out: a folder with its figures, cells and pictures."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxevo import plots, screen, store
from jaxevo.config import Study
from jaxevo.config.tables import Patients
from jaxevo.engines.base import Problem, Trajectory
from jaxevo.engines.cells import Progress
from jaxevo.engines.process import problem_network
from jaxevo.run import (
    MEMORY_MARGIN,
    StorageError,
    devices_of,
    listening,
    plan,
    simulate_as,
    write_text,
)
from jaxevo.screen import Agent, Lines, ScreenPlan, ScreenReport

ENGINE = "clones"
PROGRAM_BYTES = 1_000_000_000  # of the program and what compiles it
LAW_BYTES = 3 * 8  # for each type and rate of one combination, with copies
CALLED_OFTEN = 1  # intervals in one call, so that Ctrl-C is heard in between


class ScreenSize(NamedTuple):
    """What a screen will take, before it runs."""

    combinations: int
    lines: int
    tumors: int  # of all combinations, lines and replicates
    memory_bytes: int  # with a margin, and with the program
    disk_bytes: int


@dataclass
class ScreenResult:
    """Where a screen's results are, and what came out; without a report nothing was written."""

    report_path: Path
    arrays_path: Path
    pictures: list[Path]
    report: ScreenReport | None = None
    limit: str | None = None
    interrupted: int | None = None  # the signal that stopped the screen


def screen_of(study: Study) -> tuple[Problem, ScreenPlan]:
    """A study that was loaded for a screen as `jaxevo.screen` takes it: one patient, `clones`."""
    table = study.screen
    if table is None:
        raise ValueError('the study has no [screen]; load it with `needs=["screen"]`')
    drugs = list(study.drugs)
    lines = table.lines
    agents = (table.agents or {}).items()
    chosen = ScreenPlan(
        agents=tuple(
            Agent(name, drugs.index(name), tuple(agent.level_um or ())) for name, agent in agents
        ),
        order=table.order or 1,
        days=table.exposure_days,
        replicates=table.replicates,
        lines=None if lines is None else Lines(lines.count, lines.cells, lines.grown_to_cells),
    )
    alone = study.model_copy(update={"patients": Patients()})
    return alone.problem(), chosen


def screen_size(problem: Problem, chosen: ScreenPlan) -> ScreenSize:
    """Tumors, memory and disk of a screen.

    Raises:
        Refused: more classes can be reached than the engine lists.
    """
    whole = screen.exposed(problem, chosen)
    net = problem_network(problem)
    laws = chosen.num_combinations * chosen.num_lines
    found = plan(whole._replace(replicates=chosen.replicates * chosen.num_lines), ENGINE)
    edges = (net.mutations, net.asymmetric, net.symmetric, net.conversions)
    rates = 3 * net.num_types + sum(map(len, edges))
    counted = 8 * laws * chosen.replicates
    table = int(MEMORY_MARGIN * laws * rates * LAW_BYTES * (1 + chosen.days))
    return ScreenSize(
        combinations=chosen.num_combinations,
        lines=chosen.num_lines,
        tumors=laws * chosen.replicates,
        # counts as simulated, and the influence of every replicate on all that is told of it
        memory_bytes=PROGRAM_BYTES + found.memory_bytes + table + int(MEMORY_MARGIN * 8 * counted),
        disk_bytes=counted + 200 * laws + 300_000 * len(chosen.groups(min(2, chosen.order))),
    )


def run_screen(
    study: Study,
    out: Path,
    *,
    device: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ScreenResult:
    """Run a screen, write `out/{config.toml, screen.json, screen.h5}` and `out/pictures/`.

    SIGINT and SIGTERM end it after the call in progress, and nothing is written: cells that were not
    exposed to the end say nothing. Once writing has begun it is finished.

    Args:
        study: loaded with `needs=["screen"]`.
        out: a folder, made if it is missing.
        device: "cpu", "gpu" or None for what JAX prefers.
        progress: called after every call into the kernel.

    Raises:
        DeviceError: there is no such device.
        StorageError: a file could not be written.
        GrowthError: the tumor does not grow to the size that is asked for.
        Refused: the `clones` engine cannot represent the study.
    """
    devices = devices_of(device)
    problem, chosen = screen_of(study)
    with jax.default_device(devices[0]), listening() as heard:
        options: dict[str, Any] = {
            "should_stop": lambda: bool(heard),
            "devices": devices,
            "progress": progress,
            "intervals_per_call": CALLED_OFTEN,
        }

        def simulate(part: Problem) -> Trajectory:
            return simulate_as(part, ENGINE, None, options)

        found = screen.follow(problem, chosen, simulate)
        result = ScreenResult(out / "screen.json", out / "screen.h5", [])
        if found is not None:
            told = screen.analyze(found, chosen)
            result.report = {
                "title": study.study.title,
                "engine": ENGINE,
                "seed": problem.seed,
                **screen.report(problem, chosen, told),
            }
            about = {
                "title": study.study.title,
                "engine": ENGINE,
                "seed": problem.seed,
                "config_toml": study.to_toml(),
                "device": ", ".join(sorted({d.device_kind for d in devices})),
            }
            result.pictures = _write(result, screen.arrays(chosen, told), about)
        result.interrupted = heard[0] if heard else None
        return result


def _write(result: ScreenResult, arrays: Trajectory, about: dict[str, Any]) -> list[Path]:
    """All files of a screen."""
    out = result.report_path.parent
    write_text(out / "config.toml", about["config_toml"])
    write_text(result.report_path, json.dumps(result.report, allow_nan=False))
    try:
        store.write_screen(result.arrays_path, arrays, about | store.provenance())
        return plots.draw_screen(arrays, out / "pictures", about["title"])
    except OSError as error:
        raise StorageError(str(error)) from error
