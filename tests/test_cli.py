"""The command line: what it prints and where, what it writes and where, how it exits."""

import importlib
import io
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxevo.cli import main, words
from jaxevo.config import load_study
from jaxevo.engines.base import Refused
from jaxevo.engines.cells import GrowthError, Progress
from jaxevo.selftest import Result
from jaxevo.store import read_trajectory
from tests.studies import FULL, MINIMAL, command, environment, write

runs = importlib.import_module("jaxevo.run")
SUMMARY = {"burden_at_end": 12.5, "extinct_fraction": 0.25, "resistant_fraction": None}


class Fake:
    """Stands in for `run_study`: remembers its calls, writes one file, returns or raises."""

    def __init__(self) -> None:
        self.calls: list[dict] = []
        self.raises: BaseException | None = None
        self.limit: str | None = None
        self.interrupted: int | None = None
        self.original: Callable | None = None

    def __call__(self, study, out, *, device, progress):
        self.calls.append({"study": study, "out": out, "device": device, "progress": progress})
        if progress is not None:
            progress(Progress("growth", 3.0, 0.5, 1234))
            progress(Progress("treatment", 7.5, 0.75, 5678))
        if self.raises is not None:
            raise self.raises
        path = out / "trajectory.h5"
        path.write_text("")
        return runs.RunResult(
            path, [out / "burden.png"], {"untreated": SUMMARY}, self.limit, self.interrupted
        )


@pytest.fixture
def fake(monkeypatch, tmp_path) -> Fake:
    """A command line in a folder of its own with `study.toml`, where nothing is simulated."""
    stand_in = Fake()
    stand_in.original = runs.run_study
    monkeypatch.setattr(runs, "run_study", stand_in)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, MINIMAL)
    return stand_in


def exit_code(*arguments: str) -> int:
    """Exit code of a command in this process."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code


def test_json_is_one_object_and_nothing_else(fake, capsys):
    """Trajectory, pictures and arms; nothing on stderr, which has no bar without a terminal."""
    assert exit_code("run", "study.toml", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "trajectory": "runs/study/trajectory.h5",
        "pictures": ["runs/study/burden.png"],
        "arms": {"untreated": SUMMARY},
    }
    assert printed.out.count("\n") == 1
    assert printed.err == ""
    assert fake.calls[0]["progress"] is None


def test_a_run_ends_by_naming_its_results(fake, capsys):
    """First the plan, then the arms, the trajectory and the pictures; --quiet prints nothing."""
    assert exit_code("run", "study.toml") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "birth and death"
    assert printed.out.splitlines()[-3:] == [
        "untreated: 12.5 cells at the end, 25.0% extinct",
        "trajectory: runs/study/trajectory.h5",
        "picture: runs/study/burden.png",
    ]
    assert exit_code("run", "study.toml", "--quiet") == 0
    quiet = capsys.readouterr()
    assert quiet.out == quiet.err == printed.err == ""


def test_options_reach_the_study(fake):
    """--set, --engine and --device."""
    settings = ("--set", "study.seed=3", "--set", "study.title=other", "--engine", "cells")
    assert exit_code("run", "study.toml", "--quiet", "--device", "cpu", *settings) == 0
    (call,) = fake.calls
    assert (call["study"].study.seed, call["study"].study.title) == (3, "other")
    assert call["device"] == "cpu"


@pytest.mark.parametrize(
    ("outcome", "code", "sentence"),
    [
        ({"limit": "a tumor ran out of room"}, 3, "a tumor ran out of room"),
        (
            {"interrupted": signal.SIGINT},
            130,
            "stopped by SIGINT; what was simulated until then is kept",
        ),
        (
            {"interrupted": signal.SIGTERM},
            143,
            "stopped by SIGTERM; what was simulated until then is kept",
        ),
        ({"raises": runs.DeviceError("no such device")}, 2, "no such device"),
        ({"raises": GrowthError("no tumor\nof that size")}, 3, "no tumor of that size"),
        ({"raises": MemoryError()}, 3, "there is not enough memory for this study"),
        (
            {"raises": jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")},
            3,
            "the device has not enough memory for this study",
        ),
        ({"raises": runs.StorageError("the disk is full")}, 4, "the disk is full"),
        ({"raises": KeyboardInterrupt()}, 130, "stopped by SIGINT"),
    ],
)
def test_what_goes_wrong_has_an_exit_code_and_a_sentence(outcome, code, sentence, fake, capsys):
    """3 for limits, 4 for storage, 128 + the signal; what there is is printed all the same."""
    vars(fake).update(outcome)
    assert exit_code("run", "study.toml", "--json") == code
    printed = capsys.readouterr()
    assert printed.err == sentence + "\n"
    assert bool(printed.out) == ("raises" not in outcome)
    assert Path("runs").exists()
    assert Path("runs/study").exists() == ("raises" not in outcome)


def test_results_go_into_a_new_folder_each_time(fake):
    """runs/STUDY, then runs/STUDY-2, runs/STUDY-3; none is written twice."""
    for _ in range(3):
        assert exit_code("run", "study.toml", "--quiet") == 0
    assert [str(call["out"]) for call in fake.calls] == [
        "runs/study",
        "runs/study-2",
        "runs/study-3",
    ]


def test_a_folder_that_is_given_must_be_new_or_empty(fake, capsys):
    """--out that has files, is a file or lies below one is refused before anything is computed."""
    Path("empty").mkdir()
    for out in ("new/below", "empty"):
        assert exit_code("run", "study.toml", "--quiet", "--out", out) == 0
    assert len(fake.calls) == 2
    for out, sentence in (
        ("empty", "exists and is not empty; expected a new folder"),
        ("study.toml", "is a file; expected a new or empty folder"),
        ("study.toml/x", "is not writable: Not a directory"),
    ):
        assert exit_code("run", "study.toml", "--out", out) == 2
        assert capsys.readouterr().err == f"--out {out}: {sentence}\n"
    assert len(fake.calls) == 2


def test_a_folder_that_cannot_be_written_is_refused(fake, capsys, monkeypatch):
    """The same for a folder without permission, and for `runs` where it cannot be made."""

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    Path("locked").mkdir()
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert exit_code("run", "study.toml", "--out", "locked") == 2
    assert capsys.readouterr().err == "--out locked: is not writable: Permission denied\n"
    Path("runs").write_text("")
    assert exit_code("run", "study.toml") == 2
    assert capsys.readouterr().err == "runs/study: cannot be made: Not a directory\n"
    Path("runs").unlink()
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert exit_code("run", "study.toml") == 2
    assert capsys.readouterr().err == "runs/study: cannot be made: Permission denied\n"
    assert not fake.calls


def test_a_study_that_cannot_fit_is_refused(fake, capsys, monkeypatch):
    """More memory than the machine has: 3. More disk than is free: 4. Nothing is computed."""
    huge = ("--set", "study.max_cells=1e15")
    assert exit_code("run", "study.toml", *huge) == 3
    assert "of memory, and there are" in capsys.readouterr().err
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 99, 1))
    assert exit_code("run", "study.toml") == 4
    assert "and 1 bytes are free" in capsys.readouterr().err
    assert not fake.calls
    assert not Path("runs/study").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "jaxevo: Missing command."),
        (("rum",), "jaxevo: No such command 'rum'. Did you mean 'run'?"),
        (("run",), "jaxevo: Missing argument 'STUDY'."),
        (
            ("run", "study.toml", "--ouput", "x"),
            "jaxevo: No such option: --ouput (Possible options: --out)",
        ),
        (("run", "study.toml", "--device", "tpu"), "--device tpu: expected cpu or gpu"),
        (
            ("run", "study.toml", "--engine", "cell"),
            (
                "--engine cell: expected cells or clones or meanfield or extinction; "
                "did you mean `cells`?"
            ),
        ),
        (("run", "none.toml"), "none.toml: cannot be read: No such file or directory"),
        (("check", "."), ".: is a folder; expected a study file"),
        (
            ("check", "study.toml", "--set", "study.sed=1"),
            "--set study.sed=1: key `study.sed` is unknown; did you mean `seed`?",
        ),
    ],
)
def test_bad_usage_ends_in_one_sentence(arguments, sentence, fake, capsys):
    """Exit code 2, one line on stderr, nothing on stdout, no folder."""
    assert exit_code(*arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", sentence + "\n")
    assert not Path("runs").exists()


def test_what_an_engine_cannot_represent_is_refused(fake, capsys):
    """Exit code 2 and the engine's sentence, after the file and line of `study.engine`, the table that
    lacks it, or the option that chose it; nothing is left behind.
    """
    fake.raises = Refused("this engine cannot do that; choose another")
    text = MINIMAL.replace('title = "birth and death"', 'title = "x"\nengine = "clones"')
    Path("other.toml").write_text(text)
    for arguments, place in (
        (("study.toml",), "study.toml:1"),
        (("other.toml",), "other.toml:3"),
        (("study.toml", "--engine", "extinction"), "--engine extinction"),
        (("study.toml", "--set", "study.engine=clones"), "--set study.engine=clones"),
    ):
        assert exit_code("run", *arguments, "--quiet") == 2
        sentence = f"{place}: key `study.engine`: this engine cannot do that; choose another\n"
        assert capsys.readouterr().err == sentence
    assert not Path("runs/study").exists()


def test_the_cells_engine_refuses_more_than_one_patient(fake, capsys):
    """Before anything is computed, in `check` and `run` alike."""
    for command_name in ("check", "run"):
        assert exit_code(command_name, "study.toml", "--set", "patients.count=7") == 2
        assert capsys.readouterr().err == (
            "study.toml:1: key `study.engine`: the cells engine follows one patient, and there are 7; "
            "choose the clones engine, or leave out [patients]\n"
        )
    assert not fake.calls


@pytest.mark.parametrize("engine", ["clones", "meanfield", "extinction"])
def test_check_prints_the_plan_of_every_engine(engine, fake, capsys):
    """Classes that can be reached, and tumors or courses with their patients; no lanes and no room."""
    few = ("--set", "study.max_alterations=1", "--set", "patients.count=5", "--engine", engine)
    Path("full.toml").write_text(FULL.replace('grow_with = "clones"\n', ""))
    assert exit_code("check", "full.toml", *few, "--json") == 0
    table = json.loads(capsys.readouterr().out)
    tumors = 2 * 5 * (3 if engine == "clones" else 1)
    assert (table["engine"], table["tumors"], table["lanes"]) == (engine, tumors, None)
    assert table["intervals"] == {"daily": 80, "mixed": 80}
    assert exit_code("check", "full.toml", *few) == 0
    text = capsys.readouterr().out
    assert f"{table['rows']:,} rows" in text
    assert "2 arms x 5 patients" in text
    assert "and 1 for what leaves them" in text


SUMMARIES = {
    "clones": (
        {
            "burden_at_end": 1e11,
            "extinct_fraction": 0.0,
            "resistant_fraction": 0.5,
            "leaked_cells": 7.0,
        },
        (
            "1e+11 cells at the end, 0.0% extinct, 50.0% resistant, "
            "7 cells left the classes (study.max_alterations)"
        ),
    ),
    "meanfield": (
        {"burden_at_end": 20.0, "burden_at_end_sd": 4.5, "resistant_fraction": 0.25},
        "20 cells expected at the end, standard deviation 4.5, 25.0% resistant",
    ),
    "extinction": (
        {"relapse_probability": 1e-15, "mean_relapse_free_days": 99.5, "closure": "exact"},
        "relapse with probability 1e-15, 99.5 days without on average (exact)",
    ),
}


@pytest.mark.parametrize("engine", SUMMARIES)
def test_each_engine_has_its_line(engine):
    """What came out in one arm, in words."""
    summary, line = SUMMARIES[engine]
    assert words.arm_text(summary) == line


@pytest.mark.parametrize("engine", ["clones", "meanfield", "extinction"])
def test_every_engine_runs_from_the_command_to_its_files(engine, fake, capsys, monkeypatch):
    """JSON with the arms, a trajectory that reads back with its engine, pictures with something in them."""
    monkeypatch.setattr(runs, "run_study", fake.original)
    text = MINIMAL.replace("horizon_days = 10", "horizon_days = 3\nreplicates = 2")
    text = text.replace("[tumor]", "[tumor]\nfounders = 20\nimmigration = [{ events_per_day = 1 }]")
    Path("small.toml").write_text(text + MUTANT)
    assert exit_code("run", "small.toml", "--engine", engine, "--json", "--device", "cpu") == 0
    table = json.loads(capsys.readouterr().out)
    found, attributes = read_trajectory(Path(table["trajectory"]))
    assert attributes["engine"] == engine
    assert table["pictures"]
    assert all(Path(picture).stat().st_size > 5000 for picture in table["pictures"])
    root, arm = found[""], table["arms"]["untreated"]
    if engine == "extinction":
        assert arm["relapse_probability"] == root["relapse_probability"].data[0, 0, -1]
        assert arm["no_relapse_log"] == root["no_relapse_log"].data[0, 0, -1]
        assert arm["closure"] == "exact"
    else:
        assert arm["burden_at_end"] == pytest.approx(root["burden"].data[0, 0, :, -1].mean())
    if engine == "meanfield":
        assert arm["burden_at_end_sd"] == pytest.approx(root["burden_sd"].data[0, 0, 0, -1])
    if engine == "clones":
        last = root["burden"].data[0, 0, :, -1]
        assert arm["burden_at_end_by_replicate"] == last.tolist()
        assert arm["burden_at_end_quantiles"]["50%"] == np.median(last)


MUTANT = """\
[alterations.A]
mechanism = "fitness"
inheritance = "mutation"
probability_per_division = 0.01
"""


class FakeCases:
    """Stands in for the package of selftest cases."""

    def __init__(self, *results) -> None:
        self.results = results

    def run(self, progress=None):
        if progress is not None:
            progress(0, 1, "E01")
            progress(1, 1, "done")
        return list(self.results)


def case(is_passed: bool, obtained: float = 0.25) -> Result:
    return Result(
        "E01", "birth and death", "Kendall", "exact law", "clones", "extinct fraction", 0.25, obtained,
        "1e-6", is_passed,
    )  # fmt: skip


def test_the_selftest_prints_a_table_and_fails_where_a_case_does(capsys, monkeypatch):
    """Exit code 0 or 1, a row per check, one sentence on stderr; the same as JSON, without NaN."""
    monkeypatch.setattr("jaxevo.selftest.run", FakeCases(case(True)).run)
    assert exit_code("selftest") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "1 of 1 checks passed"
    assert "extinct fraction  0.25" in printed.out
    assert printed.err == ""
    monkeypatch.setattr("jaxevo.selftest.run", FakeCases(case(True), case(False, math.nan)).run)
    assert exit_code("selftest", "--json") == 1
    printed = capsys.readouterr()
    table = json.loads(printed.out)
    assert not table["is_passed"]
    assert [row["is_passed"] for row in table["cases"]] == [True, False]
    assert table["cases"][1]["obtained"] is None
    assert printed.err == "1 of 2 checks fail: E01\n"


def test_check_prints_the_plan_and_runs_nothing(fake, capsys, tmp_path):
    """Intervals per arm, rows, tumors, memory, disk; the same numbers as JSON."""
    small = ("--set", "alterations.copies.max_level=1", "--set", "alterations.mature.max_level=1")
    study = str(write(tmp_path, FULL))
    assert exit_code("check", study, *small, "--json") == 0
    table = json.loads(capsys.readouterr().out)
    expected = runs.plan(load_study(study, small[1::2]).problem())
    assert table == expected._asdict() | {
        "intervals": dict(zip(("daily", "mixed"), expected.intervals, strict=True))
    }
    assert exit_code("check", study, *small) == 0
    text = capsys.readouterr().out
    for number in (*expected.intervals, expected.rows, expected.tumors, expected.lanes):
        assert f"{number:,}" in text
    assert not Path("runs").exists()
    assert not fake.calls


def test_info_names_versions_and_devices(capsys):
    """What a report of a fault should hold."""
    assert exit_code("info", "--json") == 0
    table = json.loads(capsys.readouterr().out)
    assert table["python_version"] == sys.version.split()[0]
    assert {"jaxevo_version", "jax_version", "numpy_version", "h5py_version", "platform"} <= set(
        table
    )
    assert any(device.startswith("cpu:0") for device in table["devices"])
    assert exit_code("info") == 0
    assert table["jax_version"] in capsys.readouterr().out


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_cells_days_and_time_left(fake, monkeypatch):
    """A bar on stderr for each phase; none with --quiet or --json."""
    for option in ("--quiet", "--json"):
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert exit_code("run", "study.toml", option) == 0
        assert sys.stderr.getvalue() == ""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert exit_code("run", "study.toml") == 0
    shown = sys.stderr.getvalue()
    for text in ("growth", "1,234 cells", "3.0", "treatment", "5,678 cells", "7.5", "-:--:--"):
        assert text in shown


def test_a_study_runs_from_the_command_to_its_files(tmp_path):
    """A process of its own: one JSON object on stdout, nothing on stderr, files that can be read."""
    text = MINIMAL.replace("horizon_days = 10", "horizon_days = 2\nreplicates = 3")
    write(tmp_path, text.replace("[tumor]", "[tumor]\nfounders = 20"))
    done = command("run", "study.toml", "--json", "--device", "cpu", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    table = json.loads(done.stdout)
    found, attributes = read_trajectory(tmp_path / table["trajectory"])
    burden = found[""]["burden"].data[0, 0, :, -1]
    assert table["arms"]["untreated"]["burden_at_end"] == pytest.approx(burden.mean())
    assert all((tmp_path / picture).stat().st_size > 0 for picture in table["pictures"])
    config = tmp_path / "runs/study/config.toml"
    assert attributes["config_toml"] == config.read_text()
    assert load_study(config) == load_study(tmp_path / "study.toml")


PROCESS = Path("/proc/self/status")


@pytest.mark.skipif(not PROCESS.exists(), reason="asks Linux whether a process listens to a signal")
def test_a_signal_stops_a_run_and_keeps_what_there_is(tmp_path):
    """SIGTERM while cells are simulated: exit code 143, one sentence, a trajectory that can be read."""
    text = MINIMAL.replace("horizon_days = 10", "horizon_days = 50_000\nmax_cells = 30_000")
    text = text.replace("[tumor]", "[tumor]\nfounders = 5000\ncapacity_cells = 20_000")
    write(tmp_path, text + "[record]\nevery_days = 100\nconcentration_every_h = 100\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxevo", "run", "study.toml", "--out", "out", "--json"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    status = PROCESS.parent.parent / str(process.pid) / "status"
    is_listening = False
    while not is_listening:
        assert process.poll() is None
        time.sleep(0.02)
        caught = next(row for row in status.read_text().splitlines() if row.startswith("SigCgt"))
        is_listening = bool(int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert err == "stopped by SIGTERM; what was simulated until then is kept\n"
    assert process.returncode == 143
    found, attributes = read_trajectory(tmp_path / json.loads(out)["trajectory"])
    assert attributes["is_complete"] == 0
    assert found[""]["status"].data.item() == 4
