"""A whole search of a small study: files, keys, pictures; stop and go on; fronts, cohorts, other relapses."""

import json
import math
from contextlib import contextmanager

import pytest

from jaxevo import improve, load_study, store
from jaxevo.improve import text
from jaxevo.improve.verdict import unseen_seed
from tests.improve.studies import SMALL
from tests.studies import study_of

pytestmark = pytest.mark.slow
KEYS = (
    "predicted_relapse_probability observed_relapse_probability observed_low observed_high".split()
)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The small study from start to files."""
    folder = tmp_path_factory.mktemp("optimize")
    return improve.run_optimize(study_of(folder, SMALL), folder / "out")


def test_the_report_has_every_arm_with_what_was_predicted_and_observed(result):
    """`feasible`, `schedule`, `arms`; JSON without NaN."""
    report = json.loads(result.report_path.read_text())
    assert report == result.report
    assert report["feasible"] is True
    assert list(report["arms"]) == ["optimized", "optimized, rounded", "untreated", "half"]
    for row in report["arms"].values():
        low, seen, high = (
            row[key] for key in ("observed_low", "observed_relapse_probability", "observed_high")
        )
        assert set(KEYS) <= row.keys()
        assert 0 <= low <= seen <= high <= 1
        assert row["tumors"] == 400
    assert report["against_best"]["arm"] == "half"
    assert report["against_best"]["is_no_worse"]
    assert report["verdict_seed"] == unseen_seed(load_study(result.schedule_path)) != report["seed"]


def test_more_drug_is_better_where_nothing_limits_it(result):
    """Without toxicity every level is at its largest, and the search says that it is there."""
    amounts = [row["level_um"] for row in result.report["schedule_amounts"]]
    assert amounts == pytest.approx([0.2, 0.2], rel=1e-6)
    assert result.report["search"]["is_converged"]


def test_the_search_and_the_engine_mean_the_same_number(result):
    """The goal at what was found is the log odds that `extinction` gives for the arm as written."""
    predicted = result.report["arms"]["optimized"]["predicted_relapse_probability"]
    odds = math.log(predicted / (1 - predicted))
    assert odds == pytest.approx(result.report["search"]["value"], rel=1e-6)


def test_the_schedule_is_a_study_that_runs(result):
    """Its first arms are what was found, and its JSON form is the arm that is recommended."""
    study = load_study(result.schedule_path)
    names = [arm.name for arm in study.arms]
    assert names == list(result.report["arms"])
    assert study.optimize is None
    chosen = names.index(result.report["recommended"])
    assert study.resolved()["arms"][chosen]["doses"] == result.report["schedule"]["doses"]


def test_one_file_holds_all_of_it(result):
    """Decisions, history, every tumor; the report and the study as text."""
    arrays, attributes = store.read_schedule(result.arrays_path)
    root, found = arrays[""], arrays["search"]
    assert root["relapse_score"].data.shape == (4, 1, 400)
    assert found["decision_drug"].data.tolist() == ["x", "x"]
    assert found["amount"].data == pytest.approx([0.2, 0.2], rel=1e-6)
    assert found["rounded_amount"].data == pytest.approx([0.2, 0.2])
    assert len(found["history_best_value"].data) > 0
    assert json.loads(attributes["report_json"]) == result.report
    shares = root["relapse_score"].data.mean(axis=(1, 2))
    told = [row["observed_relapse_probability"] for row in result.report["arms"].values()]
    assert shares == pytest.approx(told)


def test_pictures_and_words_are_there(result):
    """Doses, relapse, toxicity, convergence, survival; every arm in the text."""
    names = {path.stem for path in result.pictures}
    assert names == {"doses", "relapse", "toxicity", "convergence", "survival"}
    assert all(path.stat().st_size > 5000 for path in result.pictures)
    told = text.tell(result.report)
    assert all(name in told for name in result.report["arms"])
    assert "day      0 to 14     0.2 uM" in told
    assert not (result.report_path.parent / improve.SAVED).exists()


@contextmanager
def deaf_until(count, heard, patch):
    """A signal arrives as soon as so much was told."""

    class Heard(list):
        def __bool__(self):
            return len(heard) >= count

    @contextmanager
    def listening():
        yield Heard([2])

    with patch.context() as now:
        now.setattr(improve, "listening", listening)
        yield


@pytest.mark.parametrize("what", ["search", "verdict on clones"])
def test_what_was_stopped_goes_on_to_the_same_schedule(what, result, tmp_path, monkeypatch):
    """Stopped at the second thing that is told of the search, or of the verdict; then called again on
    the same folder: the same bits.
    """
    study, heard = study_of(tmp_path, SMALL), []

    def show(now, share, told):
        del share, told
        if now == what:
            heard.append(now)

    with deaf_until(2, heard, monkeypatch):
        stopped = improve.run_optimize(study, tmp_path, show=show)
    assert stopped.report is None
    assert stopped.interrupted == 2
    assert (tmp_path / improve.SAVED).exists()
    again = improve.run_optimize(study, tmp_path)
    assert again.report == result.report
    assert not (tmp_path / improve.SAVED).exists()


PATIENTS = """
[patients]
count = 12

[patients.vary]
"tumor.birth_rate_per_day" = { cv = 0.1, above = 0.15 }
"""
QUICK = ("optimize.tumors=120", "optimize.random_starts=0", 'optimize.compare=["half"]')


def changed(text, *settings):
    """The report of a variant of the small study, from a file."""

    def run(tmp_path, **options):
        path = tmp_path / "study.toml"
        path.write_text(text)
        study = load_study(path, [*QUICK, *settings], needs=["optimize"])
        return improve.run_optimize(study, tmp_path / "out", **options).report

    return run


def test_a_front_spares_the_body_more_and_more(tmp_path):
    """Two schedules between nothing and the best: a third and two thirds of all amounts, and relapse
    that falls from one to the next.
    """
    report = changed(SMALL)(tmp_path, front=2)
    rows = report["front"]
    assert [row["dose_intensity"] for row in rows] == pytest.approx([1 / 3, 2 / 3], rel=1e-3)
    assert all(row["is_feasible"] for row in rows)
    best = report["arms"]["optimized"]["predicted_relapse_probability"]
    told = [row["predicted_relapse_probability"] for row in rows]
    assert told[0] > told[1] > best
    assert "front: schedules that spare the body more" in text.tell(report)


def test_cells_see_what_clones_see(tmp_path):
    """The same arms cell by cell: both intervals hold the prediction."""
    report = changed(SMALL, "optimize.cells_tumors=60")(tmp_path)
    assert report["cells"]["engine"] == "cells"
    assert report["cells"]["arms"].keys() == report["arms"].keys()
    for row in report["cells"]["arms"].values():
        assert row["tumors"] == 60
        assert row["predicted_relapse_probability"] is not None


@pytest.mark.parametrize("over", ["mean", "worst"])
def test_of_a_cohort_the_goal_is_the_mean_or_the_worst(over, tmp_path):
    """Four patients in the search, twelve in the verdict, each with its own prediction."""
    some = (f'optimize.over="{over}"', "optimize.patients=4")
    some += ("optimize.worst_share=0.5",) if over == "worst" else ()
    report = changed(SMALL + PATIENTS, *some)(tmp_path)
    assert report["search"]["is_converged"]
    row = report["arms"]["optimized"]
    assert 0 < row["predicted_relapse_probability"] < 1
    assert row["tumors"] == 120
    amounts = [row["level_um"] for row in report["schedule_amounts"]]
    assert amounts == pytest.approx([0.2, 0.2], rel=1e-6)


@pytest.mark.parametrize("objective", ["relapse", "relapse_free_days", "burden"])
def test_the_first_detection_may_be_the_relapse(objective, tmp_path):
    """First passage with each objective: what was predicted is what was seen, and all of the drug is
    best.
    """
    first = """
[relapse]
kind = "first_passage"
detection_cells = 30
assessed_from_day = 3
"""
    report = changed(SMALL + first, f'optimize.objective="{objective}"')(tmp_path)
    assert report["relapse"]["kind"] == "first_passage"
    row = report["arms"]["optimized"]
    assert abs(row["predicted_relapse_probability"] - row["observed_relapse_probability"]) < 0.25
    amounts = [row["level_um"] for row in report["schedule_amounts"]]
    assert amounts == pytest.approx([0.2, 0.2], rel=1e-6)
