"""Command line: `jaxevo run STUDY`, `trial STUDY`, `screen STUDY`, `optimize STUDY`,
`check STUDY`, `info`, `selftest`.

Exit codes: 0 done, 1 a check of the selftest failed, 2 bad input (one sentence on stderr), 3 a limit
was reached (room, memory), 4 a result could not be stored, 130 and 143 after SIGINT and SIGTERM. What
brings JAX is imported where it is needed, so that a bad study is refused at once.
"""

import hashlib
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jaxevo.cli import room, watching, words
from jaxevo.cli.exits import BAD_INPUT, FAILED, LIMIT, SIGNALLED, STORAGE, Stop
from jaxevo.cli.folders import folder_of, folder_to_resume
from jaxevo.config import Study, StudyError, load_study
from jaxevo.config.load import place_of
from jaxevo.config.sentences import hint
from jaxevo.config.tables import ENGINES

if TYPE_CHECKING:
    from jaxevo.assay import ScreenResult
    from jaxevo.compare import TrialResult
    from jaxevo.run import Plan, RunResult

DEVICES = ("cpu", "gpu")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Drug resistance in tumors: cell by cell, clone by clone, on average, or as a probability.",
)

OutFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder for the results, new or empty [runs/STUDY].")
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="cpu|gpu", help="Where to compute.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
StudyFile = Annotated[str, typer.Argument(metavar="STUDY", help="A study file (TOML).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, such as study.seed=8."),
]
Engine = Annotated[
    str | None,
    typer.Option(metavar="|".join(ENGINES), help="How to simulate, instead of study.engine."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def run(
    study: StudyFile,
    out: OutFolder = None,
    settings: Settings = None,
    device: Device = None,
    engine: Engine = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Simulate a study; write trajectory, pictures and the resolved study into one folder."""
    _check_device(device)
    loaded = _load(study, settings, engine)
    with folder_of(out, Path(study).stem) as folder, _refusals(study, settings, engine):
        planned = _plan(loaded)
        room.check_resources(planned, folder, device)
        is_silent = quiet or as_json
        if not is_silent:
            typer.echo(words.plan_text(loaded, planned))
        with (
            watching.cells(is_shown=not is_silent and sys.stderr.isatty()) as progress,
            _failures(),
        ):
            from jaxevo.run import run_study  # noqa: PLC0415 - brings JAX

            result = run_study(loaded, folder, device=device, progress=progress)
    if as_json:
        typer.echo(words.as_json(words.result_table(result)))
    elif not quiet:
        typer.echo(words.result_text(result))
    _end(result)


@app.command()
def trial(
    study: StudyFile,
    out: OutFolder = None,
    settings: Settings = None,
    device: Device = None,
    engine: Engine = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare the arms of a study: response, survival, toxicity; write report, tumors and pictures."""
    _check_device(device)
    loaded = _load(study, settings, engine, needs=("trial",))
    with folder_of(out, f"{Path(study).stem}-trial") as folder, _refusals(study, settings, engine):
        from jaxevo import compare  # noqa: PLC0415 - brings JAX

        problem, plan = compare.trial_of(loaded)
        given = (problem, plan, loaded.study.engine)
        size = compare.trial_size(*given)
        room.check_trial(size, partial(compare.most_patients, *given), folder, device)
        is_silent = quiet or as_json
        if not is_silent:
            typer.echo(words.trial_plan_text(loaded, size))
        with (
            watching.cells(is_shown=not is_silent and sys.stderr.isatty()) as progress,
            _failures(),
        ):
            result = compare.run_trial(loaded, folder, device=device, progress=progress)
    if as_json:
        typer.echo(result.report_path.read_text(encoding="utf-8"))
    elif not quiet:
        typer.echo(words.trial_text(result))
    _end(result)


@app.command()
def screen(
    study: StudyFile,
    out: OutFolder = None,
    settings: Settings = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Try drugs alone and together on a tumor or on cell lines; write report, cells and pictures."""
    _check_device(device)
    loaded = _load(study, settings, None, needs=("screen",))
    with folder_of(out, f"{Path(study).stem}-screen") as folder, _refusals(study, settings, None):
        from jaxevo import assay  # noqa: PLC0415 - brings JAX

        size = assay.screen_size(*assay.screen_of(loaded))
        room.check_screen(size, folder, device)
        is_silent = quiet or as_json
        if not is_silent:
            typer.echo(words.screen_plan_text(loaded, size))
        with (
            watching.cells(is_shown=not is_silent and sys.stderr.isatty()) as progress,
            _failures(),
        ):
            result = assay.run_screen(loaded, folder, device=device, progress=progress)
    if result.report is None:
        number = result.interrupted or signal.SIGINT
        name = signal.Signals(number).name
        raise Stop(
            SIGNALLED + number, f"stopped by {name}; nothing of a screen is kept before its end"
        )
    if as_json:
        typer.echo(result.report_path.read_text(encoding="utf-8"))
    elif not quiet:
        typer.echo(words.screen_text(result))
    _end(result)


@app.command()
def optimize(
    study: StudyFile,
    out: OutFolder = None,
    settings: Settings = None,
    device: Device = None,
    front: Annotated[
        int,
        typer.Option(
            "--front", min=0, max=100, help="Search so many more schedules that are milder."
        ),
    ] = 0,
    is_resumed: Annotated[
        bool, typer.Option("--resume", help="Go on with the search that was stopped in --out.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search the doses that minimize relapse, and judge them; write schedule, report and pictures."""
    _check_device(device)
    loaded = _load(study, settings, None, needs=("optimize",))
    place = (
        folder_to_resume(out, loaded.to_toml())
        if is_resumed
        else folder_of(out, f"{Path(study).stem}-optimize")
    )
    with place as folder, _refusals(study, settings, None):
        is_silent = quiet or as_json
        if not is_silent:
            typer.echo(words.search_plan_text(loaded))
        shown = watching.shares(is_shown=not is_silent and sys.stderr.isatty())
        with shown as show, _failures():
            from jaxevo import improve  # noqa: PLC0415 - brings JAX

            result = improve.run_optimize(loaded, folder, device=device, front=front, show=show)
    if result.report is None:
        number = result.interrupted or signal.SIGINT
        way = f"jaxevo optimize {study} --out {result.report_path.parent} --resume"
        raise Stop(
            SIGNALLED + number, f"stopped by {signal.Signals(number).name}; go on with: {way}"
        )
    if as_json:
        typer.echo(result.report_path.read_text(encoding="utf-8"))
    elif not quiet:
        typer.echo(words.search_text(result))
    if not result.report["feasible"]:
        raise Stop(LIMIT, "no schedule was found that keeps every limit; the closest is written")


@app.command()
def check(
    study: StudyFile, settings: Settings = None, engine: Engine = None, as_json: Json = False
) -> None:
    """Check a study and print what it would take: intervals, rows, memory, disk."""
    loaded = _load(study, settings, engine)
    with _refusals(study, settings, engine):
        planned = _plan(loaded)
    if as_json:
        names = [arm.name for arm in loaded.arms]
        intervals = dict(zip(names, planned.intervals, strict=True))
        typer.echo(words.as_json(planned._asdict() | {"intervals": intervals}))
    else:
        typer.echo(words.plan_text(loaded, planned))


@app.command()
def info(as_json: Json = False) -> None:
    """Print versions, platform and devices."""
    import jax  # noqa: PLC0415 - brings JAX

    from jaxevo import store  # noqa: PLC0415 - brings h5py

    table: dict[str, Any] = dict(store.provenance())
    table.pop("created_utc", None)
    table["devices"] = [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
    if as_json:
        typer.echo(words.as_json(table))
    else:
        table["devices"] = ", ".join(table["devices"])
        typer.echo("\n".join(f"{name:<18} {value}" for name, value in table.items()))


@app.command()
def selftest(as_json: Json = False) -> None:
    """Compare this installation with exact laws, on every engine; takes up to two minutes."""
    from jaxevo import selftest as cases  # noqa: PLC0415 - brings JAX

    _keep_compiled()
    is_shown = not as_json and sys.stderr.isatty()
    results = cases.run(progress=_count_cases if is_shown else None)
    if as_json:
        passed = all(result.is_passed for result in results)
        table = {"is_passed": passed, "cases": [words.case_table(result) for result in results]}
        typer.echo(words.as_json(table))
    else:
        typer.echo(words.cases_text(results))
    failed = [result.case for result in results if not result.is_passed]
    if failed:
        names = ", ".join(dict.fromkeys(failed))
        raise Stop(FAILED, f"{len(failed)} of {len(results)} checks fail: {names}")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code; what can be expected to fail ends in one sentence."""
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == SIGNALLED + signal.SIGINT:  # the library's answer to Ctrl-C, without a word
            _say("stopped by SIGINT", code)
    except Stop as stop:
        code = _say(stop, stop.code)
    except StudyError as error:
        code = _say(error, BAD_INPUT)
    except typer.TyperException as error:
        code = _say(f"jaxevo: {error.format_message()}", BAD_INPUT)
    sys.exit(code or 0)


def _say(sentence: object, code: int) -> int:
    typer.echo(" ".join(str(sentence).split()), err=True)
    return code


def _check_device(device: str | None) -> None:
    if device is not None and device not in DEVICES:
        raise Stop(BAD_INPUT, f"--device {device}: expected {' or '.join(DEVICES)}")


def _end(result: "RunResult | TrialResult | ScreenResult") -> None:
    """What the exit code says of a study that did not go to its end."""
    if result.interrupted is not None:
        name = signal.Signals(result.interrupted).name
        raise Stop(
            SIGNALLED + result.interrupted,
            f"stopped by {name}; what was simulated until then is kept",
        )
    if result.limit is not None:
        raise Stop(LIMIT, result.limit)


def _load(
    file: str, settings: list[str] | None, engine: str | None, needs: Sequence[str] = ()
) -> Study:
    if engine is not None and engine not in ENGINES:
        known = " or ".join(ENGINES)
        raise Stop(BAD_INPUT, f"--engine {engine}: expected {known}{hint(engine, ENGINES)}")
    chosen = [] if engine is None else [f'study.engine="{engine}"']
    return load_study(file, [*(settings or []), *chosen], needs=needs)


def _plan(study: Study) -> "Plan":
    from jaxevo.run import plan  # noqa: PLC0415 - brings JAX

    return plan(study.problem(), study.study.engine)


@contextmanager
def _refusals(file: str, settings: list[str] | None, engine: str | None) -> Iterator[None]:
    """An engine that cannot represent the study ends the command with its sentence."""
    from jaxevo.engines.base import Refused  # noqa: PLC0415 - brings JAX

    try:
        yield
    except Refused as refusal:
        place = place_of(file, settings or [], ("study", "engine"))
        where = place if engine is None else f"--engine {engine}"
        raise Stop(BAD_INPUT, f"{where}: key `study.engine`: {refusal}") from None


@contextmanager
def _failures() -> Iterator[None]:
    """What can be expected to go wrong in a simulation ends the command with a sentence."""
    import jax  # noqa: PLC0415 - takes a second

    from jaxevo.engines.cells import GrowthError  # noqa: PLC0415 - brings JAX
    from jaxevo.run import DeviceError, StorageError  # noqa: PLC0415

    _keep_compiled()
    try:
        yield
    except DeviceError as error:
        raise Stop(BAD_INPUT, error) from None
    except (GrowthError, MemoryError) as error:
        raise Stop(LIMIT, str(error) or "there is not enough memory for this study") from None
    except StorageError as error:
        raise Stop(STORAGE, error) from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise Stop(LIMIT, "the device has not enough memory for this study") from None


def _keep_compiled() -> None:
    """Keep compiled kernels in the user's cache, in a folder of this kind of processor."""
    import jax  # noqa: PLC0415 - takes a second

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(errors="replace").splitlines() if cpu.exists() else []
    kinds = sorted({line for line in lines if line.startswith(("model name", "flags"))})
    kind = hashlib.sha256("\n".join([platform.platform(), *kinds]).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "jaxevo" / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _count_cases(done: int, total: int, text: str) -> None:
    """One line on a terminal that says which case is at work."""
    typer.echo(f"\r\x1b[K{done}/{total} {text}" if done < total else "\r\x1b[K", nl=False, err=True)
