"""Command line: `jaxevo run STUDY`, `check STUDY`, `info`.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 3 a limit was reached (room, memory), 4 a
result could not be stored, 130 and 143 after SIGINT and SIGTERM. What brings JAX is imported where it
is needed, so that a bad study is refused at once.
"""

import hashlib
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jaxevo.config import Study, StudyError, load_study
from jaxevo.config.sentences import hint
from jaxevo.config.tables import ENGINES

if TYPE_CHECKING:
    from jaxevo.engines.cells import Progress
    from jaxevo.run import Plan, RunResult

DEVICES = ("cpu", "gpu")
BAD_INPUT, LIMIT, STORAGE = 2, 3, 4
SIGNALLED = 128  # plus the number of the signal

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Drug resistance in tumors, simulated cell by cell.",
)


class Stop(Exception):
    """The command ends here, with a sentence and an exit code."""

    def __init__(self, code: int, sentence: object) -> None:
        super().__init__(" ".join(str(sentence).split()))
        self.code = code


StudyFile = Annotated[str, typer.Argument(metavar="STUDY", help="A study file (TOML).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, such as study.seed=8."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def run(
    study: StudyFile,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results, new or empty [runs/STUDY].")
    ] = None,
    settings: Settings = None,
    device: Annotated[str | None, typer.Option(metavar="cpu|gpu", help="Where to compute.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="How to simulate, instead of study.engine.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    as_json: Json = False,
) -> None:
    """Simulate a study; write trajectory, pictures and the resolved study into one folder."""
    if device is not None and device not in DEVICES:
        raise Stop(BAD_INPUT, f"--device {device}: expected {' or '.join(DEVICES)}")
    loaded = _load(study, settings, engine)
    with _folder(out, Path(study).stem) as folder:
        from jaxevo.run import plan  # noqa: PLC0415 - brings JAX

        planned = plan(loaded.problem())
        _check_resources(planned, folder, device)
        is_silent = quiet or as_json
        if not is_silent:
            typer.echo(_plan_text(loaded, planned))
        with _progress(is_shown=not is_silent and sys.stderr.isatty()) as progress:
            result = _simulate(loaded, folder, device, progress)
    if as_json:
        typer.echo(_json(_result_table(result)))
    elif not quiet:
        typer.echo(_result_text(result))
    if result.interrupted is not None:
        name = signal.Signals(result.interrupted).name
        raise Stop(
            SIGNALLED + result.interrupted,
            f"stopped by {name}; what was simulated until then is kept",
        )
    if result.limit is not None:
        raise Stop(LIMIT, result.limit)


@app.command()
def check(study: StudyFile, settings: Settings = None, as_json: Json = False) -> None:
    """Check a study and print what it would take: intervals, rows, memory, disk."""
    loaded = _load(study, settings, None)
    from jaxevo.run import plan  # noqa: PLC0415 - brings JAX

    planned = plan(loaded.problem())
    if as_json:
        names = [arm.name for arm in loaded.arms]
        intervals = dict(zip(names, planned.intervals, strict=True))
        typer.echo(_json(planned._asdict() | {"intervals": intervals}))
    else:
        typer.echo(_plan_text(loaded, planned))


@app.command()
def info(as_json: Json = False) -> None:
    """Print versions, platform and devices."""
    import jax  # noqa: PLC0415 - brings JAX

    from jaxevo import store  # noqa: PLC0415 - brings h5py

    table: dict[str, Any] = dict(store.provenance())
    table.pop("created_utc", None)
    table["devices"] = [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
    if as_json:
        typer.echo(_json(table))
    else:
        table["devices"] = ", ".join(table["devices"])
        typer.echo("\n".join(f"{name:<18} {value}" for name, value in table.items()))


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


def _load(file: str, settings: list[str] | None, engine: str | None) -> Study:
    if engine is not None and engine not in ENGINES:
        known = " or ".join(ENGINES)
        raise Stop(BAD_INPUT, f"--engine {engine}: expected {known}{hint(engine, ENGINES)}")
    chosen = [] if engine is None else [f'study.engine="{engine}"']
    return load_study(file, [*(settings or []), *chosen])


@contextmanager
def _folder(out: Path | None, stem: str) -> Iterator[Path]:
    """A folder of its own for the results; removed again if nothing was written into it."""
    folder = _new_folder(stem) if out is None else _given_folder(out)
    try:
        yield folder
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def _new_folder(stem: str) -> Path:
    """`runs/STEM`, or the first of `runs/STEM-2`, `runs/STEM-3`, ... that is free."""
    number = 1
    while True:
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise Stop(BAD_INPUT, f"{folder}: cannot be made: {error.strerror}") from None
        else:
            return folder


def _given_folder(out: Path) -> Path:
    """The folder after --out, which must be new or empty, and writable."""
    try:
        if out.exists() and not out.is_dir():
            raise Stop(BAD_INPUT, f"--out {out}: is a file; expected a new or empty folder")
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise Stop(BAD_INPUT, f"--out {out}: exists and is not empty; expected a new folder")
        with tempfile.TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise Stop(BAD_INPUT, f"--out {out}: is not writable: {error.strerror}") from None


def _check_resources(plan: "Plan", folder: Path, device: str | None) -> None:
    """Refuse what cannot fit, before anything is computed."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device != "gpu" and plan.memory_bytes > memory:
        raise Stop(
            LIMIT,
            f"the study takes {_size(plan.memory_bytes)} of memory, and there are {_size(memory)}; "
            "lower study.max_cells, study.replicates or the number of levels of alterations",
        )
    free = shutil.disk_usage(folder).free
    if plan.disk_bytes > free:
        raise Stop(
            STORAGE,
            f"{folder}: the results take {_size(plan.disk_bytes)}, and {_size(free)} are free; "
            "record less, or choose another folder with --out",
        )


def _simulate(
    study: Study,
    folder: Path,
    device: str | None,
    progress: "Callable[[Progress], None] | None",
) -> "RunResult":
    import jax  # noqa: PLC0415 - takes a second

    from jaxevo.engines.cells import GrowthError  # noqa: PLC0415 - brings JAX
    from jaxevo.run import DeviceError, StorageError, run_study  # noqa: PLC0415

    _keep_compiled()
    try:
        return run_study(study, folder, device=device, progress=progress)
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


@contextmanager
def _progress(is_shown: bool) -> "Iterator[Callable[[Progress], None] | None]":
    """A bar on stderr with cells, simulated day and time left."""
    if not is_shown:
        yield None
        return
    from rich import progress as rich  # noqa: PLC0415 - only for a terminal
    from rich.console import Console  # noqa: PLC0415

    columns = (
        rich.TextColumn("{task.description:<9}"),
        rich.BarColumn(),
        rich.TextColumn("{task.fields[cells]:>13,} cells  day {task.fields[day]:>7.1f}"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, rich.TaskID] = {}

        def show(now: "Progress") -> None:
            if now.phase not in tasks:
                tasks[now.phase] = bar.add_task(now.phase, total=1.0, cells=0, day=0.0)
            task = tasks[now.phase]
            bar.update(task, completed=now.fraction, cells=now.cells, day=now.day)

        yield show


def _plan_text(study: Study, plan: "Plan") -> str:
    arms = [
        f"{arm.name} ({number:,} intervals)"
        for arm, number in zip(study.arms, plan.intervals, strict=True)
    ]
    sites, replicates = len(study.sites), study.study.replicates
    room = f"{plan.lanes:,} lanes and room for {plan.cells_of_room:,} cells each"
    lines = [
        study.study.title,
        f"  arms    {', '.join(arms)}",
        f"  classes {plan.rows // sites:,} genotypes x {sites} sites = {plan.rows:,} rows",
        f"  tumors  {plan.tumors:,} ({len(arms)} arms x {replicates:,} replicates), {room}",
        f"  memory  {_size(plan.memory_bytes)}",
        f"  disk    {_size(plan.disk_bytes)}",
    ]
    return "\n".join(lines)


def _result_text(result: "RunResult") -> str:
    lines = []
    for name, arm in result.summary.items():
        burden = arm["burden_at_end"]
        cells = (
            "no tumor followed to its end" if burden is None else f"{burden:.4g} cells at the end"
        )
        shares = [
            f"{arm[key]:.1%} {word}"
            for key, word in (("extinct_fraction", "extinct"), ("resistant_fraction", "resistant"))
            if arm[key] is not None
        ]
        lines.append(f"{name}: {', '.join([cells, *shares])}")
    lines.append(f"trajectory: {result.trajectory_path}")
    lines += [f"picture: {path}" for path in result.pictures]
    return "\n".join(lines)


def _result_table(result: "RunResult") -> dict[str, Any]:
    return {
        "trajectory": str(result.trajectory_path),
        "pictures": [str(path) for path in result.pictures],
        "arms": result.summary,
    }


def _json(table: dict[str, Any]) -> str:
    return json.dumps(table, allow_nan=False)


def _size(num_bytes: int) -> str:
    """A number of bytes, readable."""
    size = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.0f} TB"
