"""`jaxevo screen`: what it reads, prints, writes, refuses, and how it ends."""

import json
import signal

import numpy as np
import pytest

from jaxevo import StudyError, assay, cli, load_study, screen, store
from jaxevo.cli import room
from jaxevo.config import Study
from jaxevo.config.agents import levels_around
from jaxevo.engines import clones
from jaxevo.engines.base import Variable
from jaxevo.engines.cells import Progress
from jaxevo.plots import screens
from jaxevo.store import StoreError
from tests.studies import MINIMAL, write

SCREEN = """\
[study]
title = "a small screen"
engine = "cells"
seed = 6
horizon_days = 100
exact_below_cells = 0
[tumor]
founders = 300
birth_rate_per_day = 0.8
death_rate_per_day = 0.2
[sites.one]
delivered_fraction = 0.5
[drugs.x]
molecular_weight_g_per_mol = 400
kd_um = 0.5
effect = { max_death_per_day = 1.0, death_hill = 2 }
[drugs.x.plasma]
clearance_l_per_h = 4
volume_l = 20
[drugs.y]
kd_um = 2.0
effect = { max_birth_inhibition = 0.8, birth_half_odds = 0.5 }
[drugs.i]
[pumps.P]
vmax_um_per_h = { x = 100 }
km_um = { x = 5 }
inhibited_by_ki_um = { i = 0.1 }
[patients]
count = 50
[patients.vary]
"tumor.birth_rate_per_day" = { cv = 0.1 }
[screen]
order = 2
exposure_days = 2
replicates = 5
[screen.agents.x]
level_um = [0.1, 0.4, 1.0, 4.0]
[screen.agents.y]
level_um = [0.5, 2.0]
[screen.lines]
count = 2
cells = 100
grown_to_cells = 1e3
[[arms]]
name = "one"
doses = [{ drug = "x", amount_mg = 10 }]
"""


def study(folder, *overrides: str, text: str = SCREEN) -> Study:
    return load_study(write(folder, text), overrides, needs=["screen"])


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> assay.ScreenResult:
    folder = tmp_path_factory.mktemp("screen")
    return assay.run_screen(study(folder), folder / "out")


# --- the table -------------------------------------------------------------------------------------


def test_without_agents_all_drugs_are_tried_around_their_half_effect(tmp_path):
    """kd times half odds of the effect; of an inhibitor without effect, its constant at the pump."""
    text = SCREEN[: SCREEN.index("[screen]")] + SCREEN[SCREEN.index("[[arms]]") :]
    table = study(tmp_path, text=text).screen
    assert table is not None
    assert (table.order, table.replicates, table.lines) == (2, 100, None)
    assert {name: agent.level_um for name, agent in (table.agents or {}).items()} == {
        "x": levels_around(0.5),
        "y": levels_around(1.0),
        "i": levels_around(0.1),
    }
    around = levels_around(1.0)
    assert len(around) == 8
    np.testing.assert_allclose(np.diff(np.log10(around)), 3 / 7, atol=2e-3)
    assert around[0] * around[-1] == pytest.approx(1.0, rel=5e-3)


def test_a_resolved_screen_is_itself(tmp_path):
    resolved = study(tmp_path)
    (tmp_path / "again").mkdir()
    assert study(tmp_path / "again", text=resolved.to_toml()) == resolved


BAD = {
    "an unknown drug": (
        "[screen.agents.y]",
        "[screen.agents.z]",
        "key `screen.agents.z` is no drug of the study; known here: `x`, `y`, `i`",
    ),
    "falling levels": (
        "[0.1, 0.4,",
        "[0.4, 0.1,",
        "key `screen.agents.x.level_um.1`: expected levels in rising order, got 0.1 after 0.4",
    ),
    "a level of 0": (
        "[0.5, 2.0]",
        "[0, 2.0]",
        "key `screen.agents.y.level_um.0`: expected a number > 0 uM, got 0",
    ),
    "no level": (
        "[0.5, 2.0]",
        "[]",
        "key `screen.agents.y.level_um`: expected at least one level in uM, got an empty array",
    ),
    "no level that follows": (
        "inhibited_by_ki_um = { i = 0.1 }",
        "[screen.agents.i]",
        (
            "key `screen.agents.i.level_um` is missing; expected an array of levels in uM, since no half "
            "effect of this drug stands in the study"
        ),
    ),
    "order 4": (
        "order = 2",
        "order = 4",
        "key `screen.order`: expected an integer from 1 to 3, got 4",
    ),
    "more agents at once than there are": (
        "order = 2",
        "order = 3",
        "key `screen.order`: expected at most the number of agents (2), got 3",
    ),
    "no time": (
        "exposure_days = 2",
        "exposure_days = 0",
        "key `screen.exposure_days`: expected a number > 0 days, got 0",
    ),
    "no replicates": (
        "replicates = 5",
        "replicates = 0",
        "key `screen.replicates`: expected an integer from 1 to 1000000, got 0",
    ),
    "an unknown key": (
        "replicates = 5",
        "replicate = 5",
        "key `screen.replicate` is unknown; did you mean `replicates`?",
    ),
    "lines of a tumor that is too small": (
        "grown_to_cells = 1e3",
        "grown_to_cells = 300",
        "key `screen.lines.grown_to_cells`: expected more cells than the tumor starts from (300), got 300",
    ),
    "a tumor that does not grow so large": (
        "[sites.one]\n",
        "[sites.one]\ncapacity_cells = 1e3\n",
        (
            "key `screen.lines.grown_to_cells` is more than growth reaches: expected fewer than 750 cells, "
            "from where on deaths outnumber births, got 1000"
        ),
    ),
    "lines of more cells than half of the tumor": (
        "cells = 100",
        "cells = 251",
        (
            "key `screen.lines.cells` makes 502 cells of 2 lines; expected at most 500 in all, half of the "
            "tumor and 10,000,000"
        ),
    ),
    "too many combinations": (
        "[0.5, 2.0]",
        str([float(i) for i in range(1, 5000)]),
        (
            "key `screen.order` makes 25,000 combinations; expected at most 20,000: fewer levels, agents, or "
            "a lower order"
        ),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_screen_is_refused_with_its_sentence(name, tmp_path):
    """The whole sentence, and the line of the key or of its table."""
    old, new, sentence = BAD[name]
    assert SCREEN.count(old) == 1
    with pytest.raises(StudyError) as error:
        study(tmp_path, text=SCREEN.replace(old, new))
    file, line, told = str(error.value).split(":", 2)
    assert file.endswith("study.toml")
    assert told == f" {sentence}"
    assert int(line) > 1


def test_a_study_without_drugs_has_nothing_to_try(tmp_path):
    with pytest.raises(
        StudyError, match=r"key `screen` has nothing to try; expected a \[drugs.X\]"
    ):
        study(tmp_path, text=MINIMAL)


# --- results ---------------------------------------------------------------------------------------


def test_a_screen_is_of_the_studys_own_tumor_on_clones(tmp_path):
    """Patients, arms, sites' delivery and the engine of the study are not read."""
    problem, plan = assay.screen_of(study(tmp_path))
    assert problem.patients == ()
    assert [(a.name, a.drug) for a in plan.agents] == [("x", 0), ("y", 1)]
    assert plan.lines == screen.Lines(2, 100, 1000)
    assert plan.num_combinations == 1 + 4 + 2 + 8


def test_the_file_holds_what_the_report_says(done):
    """Every variable as `DESCRIBED` has it, the study, and the figures of the report."""
    found, attributes = store.read_screen(done.arrays_path)
    root = found[""]
    assert {n: (v.dims, v.units) for n, v in root.items()} == {
        n: (dims, unit) for n, (dims, unit, _) in screen.DESCRIBED.items()
    }
    assert root["cells"].data.shape == (15, 2, 5)
    assert attributes["engine"] == "clones"
    assert attributes["config_toml"] == (done.arrays_path.parent / "config.toml").read_text()
    report = json.loads(done.report_path.read_text())
    assert report == json.loads(json.dumps(done.report))
    half = report["single"]["x"]["line 1"]["ic50_um"]
    assert half["value"] == root["ic50"].data[0, 1]
    assert half["low"] == root["ic50_low"].data[0, 1]
    together = (root["level"].data > 0).all(axis=1)
    mean = root["bliss_hazard"].data[together, 0].mean()
    assert report["combined"]["x + y"]["line 0"]["bliss_hazard"]["mean"] == pytest.approx(mean)
    assert report["scale"]["model"] == {
        "x + y": "independent targets: hazards add, which is Bliss on hazard and on viability"
    }


def test_pictures_are_curves_and_a_heat_map_per_pair(done):
    assert [path.name for path in done.pictures] == ["curves.png", "pair01_x_y.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in done.pictures)


def test_three_agents_together_have_a_heat_map_at_each_level_of_the_third():
    """Levels 3 x 2 x 2 of a, b, c; what the panels show is the file's own."""
    one, two, three = [0.1, 1.0, 10.0], [0.2, 2.0], [0.3, 3.0]
    level = np.array([[x, y, z] for x in [0, *one] for y in [0, *two] for z in [0, *three]])
    rng = np.random.default_rng(1)
    names = ("viability", "bliss_hazard", "bliss_viability", "loewe_hazard")
    root = {name: rng.uniform(-1, 1, (len(level), 2)) for name in names}
    root |= {f"{name}_error": np.full((len(level), 2), 0.1) for name in names[1:]}
    root |= {"agent": np.array(["a", "b", "c"]), "line": np.array(["x", "y"]), "level": level}
    arrays = {"": {name: Variable((), data, "", "") for name, data in root.items()}}
    drawn = {name for name in screens.pictures(arrays) if name != "curves"}
    assert drawn == {"pair01_a_b", "pair02_a_c", "pair03_b_c", "triple01_a_b_c"}
    figure = screens.pictures(arrays)["triple01_a_b_c"]("title")
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels[:2]] == ["0.3 uM", "3 uM"]
    for axes, (name, z) in zip(
        panels, [(n, z) for n in ("viability", "bliss_viability") for z in three], strict=True
    ):
        at = [np.flatnonzero((level == [x, y, z]).all(axis=1))[0] for y in two for x in one]
        np.testing.assert_array_equal(
            np.asarray(axes.images[0].get_array()).ravel(), root[name][at, 0]
        )


def test_the_text_names_scale_interval_and_excess(done):
    assert done.report is not None
    text = screen.tell(done.report)
    for words in ("IC50 uM (95 %)", "Bliss, hazard 1/day", "hazards add", "delta method", "line 1"):
        assert words in text


def test_a_screen_is_no_trajectory(done):
    with pytest.raises(StoreError, match="is an HDF5 file, but not a trajectory written by jaxevo"):
        store.read_trajectory(done.arrays_path)


# --- the command -----------------------------------------------------------------------------------


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(["screen", "study.toml", *arguments])
    return left.value.code


def test_the_command_prints_its_report_as_json(tmp_path, monkeypatch, capsys):
    """One object, that of the file; memory is told before without --json."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SCREEN)
    assert leave("--json", "--set", "screen.order=1", "--out", "here") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "here/screen.json").read_text())
    assert printed.err == ""
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "config.toml", "pictures", "screen.h5", "screen.json",
    ]  # fmt: skip


def test_ctrl_c_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    """Exit 130 with a sentence, and no folder."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SCREEN)
    original = clones.simulate

    def stopped(problem, *, progress=None, **options):
        def press(_: Progress) -> None:
            signal.raise_signal(signal.SIGINT)

        return original(problem, progress=press, **options)

    monkeypatch.setattr(clones, "simulate", stopped)
    assert leave("--quiet") == 130
    printed = capsys.readouterr()
    assert "stopped by SIGINT; nothing of a screen is kept before its end" in printed.err
    assert not list((tmp_path / "runs").iterdir())


def test_a_screen_that_cannot_fit_is_refused(tmp_path, monkeypatch, capsys):
    """Before anything is computed, exit 3."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SCREEN)
    monkeypatch.setattr(room, "_memory", lambda: 10**6)
    assert leave() == 3
    assert "of memory, and there are 1 MB; lower screen.replicates" in capsys.readouterr().err
