"""The verdict beside the prediction, patients who are off, what is recommended, what is refused."""

import numpy as np
import pytest

from jaxevo.improve import report, text
from jaxevo.improve.verdict import off_by, verdict
from tests.improve.studies import SMALL
from tests.statistics import assert_probability
from tests.studies import command, study_of, write

QUIET = {"options": {"should_stop": lambda: False}, "show": lambda *_: None}


def told_against(chances, predicted, inside):
    """`against_best` of arms "best found", "one" and "two", in this order."""
    names = ["best found", "one", "two"]
    arms = {
        name: {
            "predicted_relapse_probability": told,
            "observed_relapse_probability": float(np.mean(chance)),
            "is_within_limits": keeps,
        }
        for name, chance, told, keeps in zip(names, chances, predicted, inside, strict=True)
    }
    chance = {name: np.array([x], float) for name, x in zip(names, chances, strict=True)}
    return report.against_best(arms, "best found", ["one", "two"], chance)


RARE, USUAL, OFTEN = [0] * 95 + [1] * 5, [0] * 50 + [1] * 50, [0] * 5 + [1] * 95


def test_a_schedule_is_held_against_the_best_arm_within_its_limits():
    """The arm that breaks a limit does not count, however good it is; without a prediction what was
    seen decides, beyond chance.
    """
    told = told_against([USUAL, RARE, OFTEN], [0.5, 0.05, 0.95], [True, False, True])
    assert (told["arm"], told["is_no_worse"], told["is_better"]) == ("two", True, True)
    assert told["predicted_gain"] == pytest.approx(0.45)
    assert told["observed_gain"]["value"] == pytest.approx(0.45)
    told = told_against([USUAL, RARE, OFTEN], [0.5, 0.05, 0.95], [True, True, True])
    assert (told["arm"], told["is_no_worse"], told["is_better"]) == ("one", False, False)
    told = told_against([USUAL, USUAL, OFTEN], [0.5, None, None], [True, True, True])
    assert (told["arm"], told["is_no_worse"], told["is_better"]) == ("one", True, False)
    told = told_against([USUAL, RARE, OFTEN], [0.5, None, None], [True, True, True])
    assert (told["arm"], told["is_no_worse"]) == ("one", False)
    told = told_against([USUAL, RARE, OFTEN], [0.5, 0.05, 0.9], [True, False, False])
    assert told["arm"] is None


def test_a_prediction_that_fails_is_said_to_fail():
    """In its row and below the table; not where it holds, nor where there is none."""
    row = {"observed_relapse_probability": 0.9, "observed_low": 0.8, "observed_high": 0.95}
    good = row | {"predicted_relapse_probability": 0.85, "is_predicted_inside": True}
    bad = row | {"predicted_relapse_probability": 0.4, "is_predicted_inside": False}
    none = row | {"predicted_relapse_probability": None}
    lines = text.table({"good": good, "bad": bad, "none": none}, "relapse")
    assert ["not as predicted" in line for line in lines] == [
        *[False] * 3,
        True,
        False,
        True,
        False,
    ]
    assert not any("not as predicted" in line for line in text.table({"good": good}, "relapse"))


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
