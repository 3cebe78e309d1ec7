"""A study in, a schedule out: files, keys, the verdict beside the prediction, stop and go on."""

import json
import math
from contextlib import contextmanager

import numpy as np
import pytest

from jaxevo import improve, load_study, store
from jaxevo.improve import text
from jaxevo.improve.verdict import off_by, unseen_seed, verdict
from tests.improve.studies import SMALL
from tests.statistics import assert_probability
from tests.studies import command, study_of, write

KEYS = (
    "predicted_relapse_probability observed_relapse_probability observed_low observed_high".split()
)
QUIET = {"options": {"should_stop": lambda: False}, "show": lambda *_: None}


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


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_to_the_same_schedule(result, tmp_path, monkeypatch):
    """Stopped after three looks, then called again on the same folder: the same bits."""
    study = study_of(tmp_path, SMALL)
    heard = []

    class Heard(list):
        def __bool__(self):
            return len(heard) >= 3

    @contextmanager
    def listening():
        yield Heard([2])

    with monkeypatch.context() as patch:
        patch.setattr(improve, "listening", listening)
        stopped = improve.run_optimize(study, tmp_path, show=lambda *x: heard.append(x))
    assert stopped.report is None
    assert stopped.interrupted == 2
    assert (tmp_path / improve.SAVED).exists()
    again = improve.run_optimize(study, tmp_path)
    assert again.report == result.report


def test_what_is_observed_has_the_probability_that_was_predicted(tmp_path):
    """Three arms, 6,000 tumors each, all seen: an error of .05 would be noticed; false fail 1e-6 an arm."""
    study = study_of(tmp_path, SMALL)
    whole = study.resolved()
    del whole["optimize"]
    levels = {"a little": 0.05, "half": 0.1, "full": 0.2}
    whole["arms"] = [
        {"name": name, "doses": [{"drug": "x", "level_um": level}]}
        for name, level in levels.items()
    ]
    judged = verdict(type(study).model_validate(whole), 6000, **QUIET)
    for chance, predicted in zip(judged.chance, judged.predicted, strict=True):
        assert 0.02 < predicted[0] < 0.98
        assert_probability(chance.ravel() > 0, float(predicted[0]), detect=0.05)


def test_patients_who_are_off_differ_in_what_the_model_rests_on(tmp_path):
    """Affinity, death by the drug and births vary; deaths stay below births."""
    study = study_of(tmp_path, SMALL)
    whole = study.resolved()
    del whole["optimize"]
    off = off_by(type(study).model_validate(whole), 0.3, 20)
    assert set(off.patients.vary) == {
        "drugs.x.kd_um", "targets.x.max_death_per_day", "tumor.birth_rate_per_day",
    }  # fmt: skip
    births = [float(model.birth.birth_rate) for model in off.problem().models]
    assert len(births) == 20
    assert np.std(np.log(births)) > 0.1
    assert min(births) > 0.1


def test_the_command_refuses_what_it_cannot_search(tmp_path):
    """One sentence, exit code 2: an unknown drug, no decisions, a folder without a search."""
    path = write(tmp_path, SMALL)
    done = command("optimize", str(path), "--set", "optimize.objective=best", cwd=tmp_path)
    assert done.returncode == 2
    assert 'expected "relapse" or' in done.stderr
    done = command("optimize", str(path), "--resume", "--out", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds no search that was stopped" in done.stderr
