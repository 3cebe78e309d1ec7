"""Trials: what every tumor came to, which figures a run may give, the command and its files."""

import json
import os
import re
import signal
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from jaxevo import StudyError, cli, compare, load_study, survival, trial
from jaxevo.cli import room
from jaxevo.config import Study
from jaxevo.drug.schedule import Dose
from jaxevo.engines import clones, regimen
from jaxevo.engines.base import (
    Arm,
    Founder,
    Line,
    Problem,
    Refused,
    Rule,
    Trajectory,
    Variable,
    Visits,
)
from jaxevo.engines.process import problem_network
from jaxevo.outcomes import CR, NE, PD, PR
from jaxevo.store import read_trajectory
from jaxevo.survival import FollowUp
from jaxevo.treatment import POLICIES
from jaxevo.trial import Followed, TrialPlan
from tests import builders
from tests.statistics import FALSE_FAIL, POWER
from tests.studies import MINIMAL, TRIAL, write

NAN = np.nan


def study(folder: Path, *overrides: str) -> Study:
    return load_study(write(folder, TRIAL), overrides, needs=["trial"])


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> compare.TrialResult:
    """The small trial with both runs, and its files."""
    folder = tmp_path_factory.mktemp("trial")
    return compare.run_trial(study(folder), folder / "out")


def columns(done: compare.TrialResult, group: str) -> dict[str, np.ndarray]:
    found, _ = read_trajectory(done.trajectory_path)
    return {name: variable.data for name, variable in found[group].items()}


def fake(sites, status=None, end_day=None, horizon=112.0, **more: Variable) -> Trajectory:
    """A trajectory of one arm and one replicate from cells at sites [patient, time, site], every 28 days."""
    cells = np.asarray(sites, float)[None, :, None]
    tumor = ("arm", "patient", "replicate")
    shape = cells.shape[:3]
    table = lambda x, blank: np.full(shape, blank) if x is None else np.reshape(x, shape)  # noqa: E731
    classes = np.stack([cells.sum(-1), np.zeros(cells.shape[:-1])], axis=-1)
    plain = {
        "arm": (("arm",), np.array(["only"])),
        "patient": (("patient",), np.arange(shape[1])),
        "time": (("time",), 28.0 * np.arange(cells.shape[3])),
        "burden": ((*tumor, "time"), cells.sum(axis=-1)),
        "site_burden": ((*tumor, "time", "site"), cells),
        "class_count": ((*tumor, "time", "class"), classes),
        "class_genotype": (("class", "alteration"), np.array([[0], [1]])),
        "max_level": (("alteration",), np.array([1])),
        "status": (tumor, table(status, 0)),
        "end_day": (tumor, table(end_day, horizon)),
    }
    return {"": {k: Variable(dims, x, "", "") for k, (dims, x) in plain.items()} | more}


MODEL = builders.build(
    drugs=("x",), alterations={"R": {"kd_fold": {"x": 50.0}, "first_gain_probability": 1e-7}}
)


def problem(**options) -> Problem:
    chosen = {
        "model": MODEL,
        "founders": (Founder(10**6, 0, 0),),
        "arms": (Arm("only", ()),),
        "seed": 1,
        "replicates": 1,
        "horizon": 112.0,
        "sync": 1.0,
        "max_cells": 10**9,
        "visits": Visits(every=28.0, detection_cells=1e7),
    }
    return Problem(**(chosen | options))


# --- what a tumor came to --------------------------------------------------------------------------


def test_a_tumor_that_reaches_its_last_size_has_progressed():
    """PD at a scan counts on its day; `stop_at_cells` before it counts on its own; the others are
    censored at their last scan, and scans after the end are unknown.
    """
    sites = [
        [[1e9], [1e9], [4e9], [5e9], [5e9]],  # PD on day 56
        [[1e9], [1e9], [9e9], [9e9], [9e9]],  # stopped on day 40
        [[1e9], [1e9], [1e9], [1e9], [1e9]],
        [[1e9], [1e9], [1e9], [1e9], [1e9]],  # out of room on day 60
    ]
    found = fake(sites, status=[0, 2, 0, 3], end_day=[112, 40, 112, 60])
    came = trial.came_to(problem(), TrialPlan(), found)
    assert came.event_day.ravel().tolist() == [56, 40, 112, 56]
    assert came.is_event.ravel().tolist() == [True, True, False, False]
    assert came.is_stop.ravel().tolist() == [False, True, False, False]
    assert np.isnan(came.scans[0, 1, 0, 2:]).all()
    assert not np.isnan(came.scans[0, 1, 0, :2]).any()


def test_progression_by_ratio_needs_no_lesion():
    """A leukemia of 1e8 cells has no diameter of 10 mm: RECIST finds nothing to measure, and the ratio
    to the smallest scan does.
    """
    sites = [[[1e8], [4e7], [6e7], [7e7], [9e7]], [[1e8], [0], [0], [2e7], [1e8]]]
    by_ratio = trial.came_to(problem(), TrialPlan(progression="ratio"), fake(sites))
    assert by_ratio.event_day.ravel().tolist() == [84, 84]  # 7e7 >= 1.728 * 4e7; seen again after 0
    assert by_ratio.best_change.ravel() == pytest.approx([-0.6, -1.0])
    by_recist = trial.came_to(problem(), TrialPlan(), fake(sites))
    assert by_recist.is_event.ravel().tolist() == [False, True]  # the second: back after a CR
    assert by_recist.best.ravel().tolist() == [NE, CR]


def test_a_scan_has_one_error_for_all_sites():
    """Sites are seen in the proportion of their cells; a tumor below detection is not seen at all."""
    sites = [[[6e8, 3e8], [2e6, 1e6], [3e8, 6e8], [3e8, 6e8], [3e8, 6e8]]]
    burden = np.array([[[[1.8e9, 0.0, 4.5e8, 9e8, 9e8]]]])
    scan = Variable(("arm", "patient", "replicate", "visit"), burden, "", "")
    came = trial.came_to(problem(), TrialPlan(), fake(sites, scan_burden=scan))
    assert came.scans[0, 0, 0, 0].tolist() == [1.2e9, 6e8]
    assert came.scans[0, 0, 0, 1].tolist() == [0, 0]
    assert came.scans[0, 0, 0, 2].tolist() == [1.5e8, 3e8]


def test_what_was_given_ends_with_the_tumor():
    """mg until the end of the visit's window in which a tumor was stopped, of what its arm plans."""
    line = Line("x", tuple(Dose(0, 7.0 * k, 10.0) for k in range(16)))
    arm = Arm("only", (), lines=(line,), policy=POLICIES["intermittent"].make(restart_cells=1e9))
    total = 10.0 * np.array([4, 6, 8, 10, 10.0])[None, None, None, :, None]
    given = Variable(("arm", "patient", "replicate", "visit", "drug"), total.repeat(2, 1), "", "")
    sites = [[[1e9]] * 5] * 2
    found = fake(sites, status=[0, 2], end_day=[112, 40], given_mg=given)
    came = trial.came_to(problem(arms=(arm,), patients=(MODEL, MODEL)), TrialPlan(), found)
    assert came.given_mg is not None
    assert came.given_mg.ravel().tolist() == [100, 60]
    assert came.planned_mg.ravel().tolist() == [160, 80]


def test_a_trial_needs_scans():
    with pytest.raises(Refused, match="needs visits"):
        trial.scan_days(problem(visits=None))
    with pytest.raises(Refused, match="a scan after day 0, and the next one would be on day 140"):
        trial.scan_days(problem(visits=Visits(every=28.0, scan_every=5)))


# --- figures ---------------------------------------------------------------------------------------


def followed(day, is_event, best=None, num_arms=2) -> Followed:
    """Tumors of arms one after the other, one replicate each."""
    shaped = lambda x, kind=float: np.asarray(x, kind).reshape(num_arms, -1, 1)  # noqa: E731
    day, is_event = shaped(day), shaped(is_event, bool)
    best = np.full(day.shape, NE) if best is None else shaped(best, int)
    nothing = np.full(day.shape, NAN)
    return Followed(
        patient=np.tile(np.arange(day.shape[1]), (num_arms, 1)),
        scans=np.ones((*day.shape, 5, 1)),
        status=np.zeros(day.shape, int),
        end_day=np.full(day.shape, 112.0),
        best=best,
        confirmed_best=best,
        best_change=nothing,
        event_day=day,
        is_event=is_event,
        is_stop=np.zeros(day.shape, bool),
        relapse_day=nothing,
        is_extinct=np.zeros(day.shape, bool),
        carried=np.zeros((*day.shape, 1)),
        dominant=np.full(day.shape, -1),
        origin=None,
        given_mg=None,
        planned_mg=np.zeros((*day.shape, 1)),
        neutrophils=None,
        lowest=None,
        grade_days=None,
    )


TWO = problem(arms=(Arm("control", ()), Arm("drug", ())))


def test_each_run_gives_the_figures_that_its_pairing_allows():
    """Log-rank, hazard ratio and number needed of different patients; differences within patients of
    the same; the report says what is missing and how to get it.
    """
    run = followed([28, 56, 28, 84, 112, 56, 84, 112], [1, 1, 1, 1, 0, 1, 1, 0])
    tables = {}
    for pairing in ("paired", "independent"):
        found = trial.report(TWO, TrialPlan(4, pairing), {pairing: run})
        tables[pairing] = found["runs"][pairing]["against_control"]["drug"]
        notes = " ".join(found["runs"][pairing]["notes"])
        assert "set trial.pairing to" in notes
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert pairing.upper() in trial.tell(found)
    assert set(tables["paired"]) == {"paired_difference_days"}
    assert "paired_difference_days" not in tables["independent"]
    assert {"log_rank", "hazard_ratio", "number_needed_to_treat"} <= set(tables["independent"])


def test_paired_differences_stop_where_the_first_is_censored():
    """min(day, 70) of both arms is known of everybody when one is censored on day 70: by hand,
    (70, 56, 70) - (28, 56, 70) has mean 14.
    """
    run = followed([28, 56, 84, 112, 56, 70], [1, 1, 1, 0, 1, 0])
    found = trial.report(TWO, TrialPlan(3), {"paired": run})["runs"]["paired"]
    row = found["against_control"]["drug"]["paired_difference_days"]
    assert (row["until_day"], row["pairs"], row["value"]) == (70, 3, 14)


def test_replicates_of_a_patient_are_averaged_before_they_are_paired():
    """Two patients with two replicates each make two pairs; of a single patient replicates pair up."""
    run = followed([28, 56, 84, 112, 56, 56, 112, 112], np.ones(8))
    two = run._replace(
        event_day=run.event_day.reshape(2, 2, 2), is_event=run.is_event.reshape(2, 2, 2)
    )
    one = run._replace(
        event_day=run.event_day.reshape(2, 1, 4), is_event=run.is_event.reshape(2, 1, 4)
    )
    for made, pairs in ((two, 2), (one, 4)):
        shape = made.event_day.shape
        shaped = (x if x is None or x.ndim < 3 else x.reshape(shape + x.shape[3:]) for x in made)
        found = trial.report(TWO, TrialPlan(2), {"paired": Followed(*shaped)})["runs"]["paired"]
        row = found["against_control"]["drug"]["paired_difference_days"]
        assert (row["pairs"], row["value"]) == (pairs, 14)


def test_responses_are_counted_with_their_intervals():
    """2 CR and 1 PR of 4: 75 % respond, Wilson's interval 30 to 95 %."""
    run = followed([112] * 8, [0] * 8, best=[CR, CR, PR, PD, PD, PD, NE, NE])
    arm = trial.report(TWO, TrialPlan(4), {"paired": run})["runs"]["paired"]["arms"]["control"]
    row = arm["response"]["best"]["CR+PR"]
    assert (row["count"], row["of"], row["value"]) == (3, 4, 0.75)
    assert (row["low"], row["high"]) == pytest.approx((0.3006, 0.9544), abs=1e-4)
    assert arm["progression"]["median_days"]["value"] is None
    assert "not reached" in arm["progression"]["median_days"]["note"]


def test_a_report_says_what_rules_read():
    """The adaptive rule reads the burden; CPM reads the composition, perfect or from a size on."""
    policy = POLICIES["adaptive"].make()
    arms = (Arm("a", (), lines=(Line("x"),), policy=policy), Arm("b", ()))
    small = problem(arms=arms)
    read = regimen.reads(small, arms[0], "policy", problem_network(small))
    assert read == ("burden", "share", "visit")

    def peeks(params, state, seen):
        return state, seen.share * seen.composition.sum()

    for least, said in ((0.0, "known perfectly"), (1e5, "classes from 100000 cells on")):
        own = Arm("own", (), lines=(Line("x"),), policy=Rule("mine", peeks))
        visits = Visits(composition=least)
        found = trial.report(problem(arms=(own,), visits=visits), TrialPlan(), {})
        assert found["decisions"]["own"]["policy"]["reads"] == ["composition", "share"]
        assert said in found["decisions"]["own"]["policy"]["composition"]


# --- runs ------------------------------------------------------------------------------------------


def test_hazard_ratio_and_log_rank_are_those_of_statsmodels(done):
    """From the table of tumors in the file alone: proportional hazards with Efron's ties, log-rank."""
    table = columns(done, "independent")
    day, is_event = (table[name] for name in ("time_to_progression", "is_progression"))
    high = np.repeat([0.0, 1.0], day[0].size)
    fit = sm.PHReg(day.ravel(), high, status=is_event.ravel().astype(float), ties="efron").fit()
    found = done.report["runs"]["independent"]["against_control"]["high"]
    ratio = np.exp([float(fit.params[0]), *fit.conf_int()[0]])
    mine = [found["hazard_ratio"][name] for name in ("value", "low", "high")]
    assert mine == pytest.approx(ratio.tolist(), rel=1e-5)
    chi_square, p = sm.duration.survdiff(day.ravel(), is_event.ravel().astype(float), high)
    assert found["log_rank"]["chi_square"] == pytest.approx(float(chi_square), rel=1e-9)
    assert found["log_rank"]["p"] == pytest.approx(float(p), rel=1e-9)
    arm = done.report["runs"]["independent"]["arms"]["high"]["progression"]
    assert arm["events"] == is_event[1].sum() > 3
    assert arm["median_days"]["value"] == np.sort(day[1].ravel())[len(day[1].ravel()) // 2 - 1]


def test_arms_have_the_same_patients_if_and_only_if_they_are_paired(done):
    """By number, and by the first scan, whose error is drawn from the words of patient and replicate."""
    paired, apart = columns(done, ""), columns(done, "independent")
    assert paired["patient_index"].tolist() == [list(range(12))] * 2
    assert apart["patient_index"].tolist() == [list(range(12)), list(range(12, 24))]
    first = paired["scan_cells"][..., 0, 0]
    assert np.array_equal(first[0], first[1])
    first = apart["scan_cells"][..., 0, 0]
    assert len(np.unique(first)) == first.size
    same = columns(done, "")["scan_cells"][0], apart["scan_cells"][0]
    assert np.array_equal(*same, equal_nan=True)  # the first arm's patients are the first


@pytest.mark.slow
def test_a_patient_alone_has_the_bits_that_it_has_among_others(tmp_path, done):
    """Blocks of 6 and a run of patient 14 alone give the same tumors as all at once."""
    made, plan = compare.trial_of(study(tmp_path))
    whole = columns(done, "independent")
    cut = trial.follow(made, plan, "independent", clones.simulate, patients_per_block=6)
    assert np.array_equal(cut.scans, whole["scan_cells"], equal_nan=True)
    assert np.array_equal(cut.event_day, whole["time_to_progression"])
    assert np.array_equal(cut.carried, whole["carried_share"], equal_nan=True)
    alone = made._replace(patients=made.models[14:15], first_patient=14, arms=made.arms[1:])
    scans = clones.simulate(alone)[""]["scan_burden"].data
    assert np.array_equal(scans[0, 0, 0], whole["scan_cells"][1, 2, 0].sum(axis=-1))


@pytest.mark.slow
def test_two_equal_arms_differ_by_chance_alone(tmp_path):
    """The log-rank p of independent arms with one treatment is below a half in half of the trials.

    40 trials of 2 x 10 patients, cut from one run. A share of .02 or .98 is noticed with power .99; arms
    that shared patients and dice would have p = 1.
    """
    num, per_arm = 40, 10
    low, high = stats.binom(num, 0.5).ppf([FALSE_FAIL / 2, 1 - FALSE_FAIL / 2])
    assert stats.binom(num, 0.02).cdf(low - 1) > POWER
    made, plan = compare.trial_of(study(tmp_path, 'trial.pairing="independent"'))
    model, rng = made.models[0], np.random.default_rng(7)
    rates = 0.2 * np.exp(0.1 * rng.standard_normal(2 * num * per_arm))
    models = tuple(eqx.tree_at(lambda m: m.birth.birth_rate, model, np.array(x)) for x in rates)
    arms = tuple(made.arms[1]._replace(name=name) for name in ("one", "two"))
    everyone = made._replace(arms=arms, patients=models)
    plan = plan._replace(num_patients=num * per_arm)
    run = trial.follow(everyone, plan, "independent", clones.simulate)
    days, events = (x.reshape(2, num, per_arm) for x in (run.event_day, run.is_event))
    small = sum(
        survival.log_rank(*(FollowUp(days[a, i], events[a, i]) for a in (0, 1))).p < 0.5
        for i in range(num)
    )
    assert low <= small <= high


def test_a_trial_that_is_stopped_keeps_the_patients_that_were_treated(tmp_path):
    """Stopped after the first block of 6, the report is of 6 patients and says so."""
    made, plan = compare.trial_of(study(tmp_path))
    calls = []

    def simulate(part):
        calls.append(part)
        return clones.simulate(part)

    run = trial.follow(
        made, plan, "paired", simulate, lambda: len(calls) == 1, patients_per_block=6
    )
    assert run.patient.tolist() == [list(range(6))] * 2
    found = trial.report(made, plan, {"paired": run})["runs"]["paired"]
    assert "stopped: 6 of 12 patients were treated" in found["notes"]


# --- the command -----------------------------------------------------------------------------------


def test_the_command_writes_report_tumors_and_pictures(done):
    """All are there; the report holds no NaN, and its resolved study loads as the same one."""
    out = done.report_path.parent
    text = done.report_path.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == done.report
    assert {path.name for path in done.pictures} == {
        f"{run}_{what}.png"
        for run in ("paired", "independent")
        for what in ("survival", "response", "burden", "waterfall")
    }
    assert all(path.stat().st_size > 0 for path in done.pictures)
    again = load_study(out / "config.toml")
    assert again.trial is not None
    assert again.trial.control == "low"
    told = trial.tell(done.report)
    assert "PAIRED RUN" in told
    assert "INDEPENDENT RUN" in told


def test_json_is_one_object_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, TRIAL)
    with pytest.raises(SystemExit) as left:
        cli.main(["trial", "study.toml", "--json", "--set", "patients.count=4"])
    printed = capsys.readouterr()
    assert (left.value.code, printed.err) == (0, "")
    assert printed.out == (tmp_path / "runs/study-trial/trial.json").read_text() + "\n"
    assert json.loads(printed.out, parse_constant=pytest.fail)["runs"]["paired"]["patients"] == 4


def test_a_signal_keeps_what_there_is(tmp_path):
    """SIGINT while the first patients are treated: they are censored, and files are written."""
    pressed = []

    def press(now):
        if not pressed and now.day > 30:
            pressed.append(now.day)
            os.kill(os.getpid(), signal.SIGINT)

    found = compare.run_trial(study(tmp_path), tmp_path / "out", progress=press)
    assert found.interrupted == signal.SIGINT
    assert json.loads(found.report_path.read_text())["is_complete"] is False
    assert list(found.report["runs"]) == ["paired"]
    run = found.report["runs"]["paired"]
    assert 28 <= run["until_day"] < 168
    assert run["arms"]["high"]["progression"]["censored"] > 0


def test_a_study_without_visits_is_refused(tmp_path):
    file = write(tmp_path, MINIMAL)
    with pytest.raises(StudyError) as refused:
        load_study(file, needs=["trial"])
    text = (
        "key `visits` is missing; expected a [visits] table, since a trial scans tumors at visits"
    )
    assert str(refused.value).endswith(text)
    assert load_study(file).trial is None


def test_expected_tumors_make_a_trial_too(tmp_path):
    """On `meanfield` every patient is one expected tumor; who is cured it cannot tell."""
    text = TRIAL.replace("stop_at_cells = 1e12\n", "").replace("noise_cv = 0.1\n", "")
    options = ('study.engine="meanfield"', 'trial.pairing="paired"', "patients.count=3")
    small = load_study(write(tmp_path, text), options, needs=["trial"])
    found = compare.run_trial(small, tmp_path / "out").report["runs"]["paired"]
    assert found["subjects_per_arm"] == 3
    assert found["arms"]["high"]["progression"]["events"] == 3
    assert found["arms"]["high"]["cure"]["value"] is None


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ('study.engine="extinction"', "follows no tumor"),
        ('study.engine="cells"', "follows one patient"),
    ],
)
def test_an_engine_that_cannot_is_refused(setting, sentence, tmp_path):
    with pytest.raises(Refused, match=sentence):
        compare.trial_of(study(tmp_path, setting))


def test_a_trial_that_cannot_fit_says_how_many_patients_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, TRIAL)
    memory = compare.PROGRAM_BYTES + 4 * 2**20
    monkeypatch.setattr(room, "_memory", lambda: memory)
    with pytest.raises(SystemExit) as left:
        cli.main(["trial", "study.toml", "--set", "patients.count=100"])
    assert left.value.code == 3
    said = re.search(r"there are 1.25 GB; at most (\d+) patients fit", capsys.readouterr().err)
    assert said is not None
    made, plan = compare.trial_of(study(tmp_path))
    fits, not_fits = (
        compare.trial_size(made, plan._replace(num_patients=int(said[1]) + more), "clones")
        for more in (0, 1)
    )
    assert fits.memory_bytes <= memory < not_fits.memory_bytes


# --- neutrophils without decisions -----------------------------------------------------------------


@pytest.mark.slow
def test_doses_in_advance_do_to_the_marrow_what_the_same_doses_do_when_decided():
    """An arm and a rule that always gives its line: the same neutrophils, nadir, and days by grade."""
    model = builders.build(
        drugs=("x",), is_prescribed=0.0, clearance=50.0, central_volume=20.0, birth_rate=0.1,
        death_rate=0.1,
    )  # fmt: skip
    marrow = builders.host(model, slope={"x": 0.5})
    doses = tuple(Dose(0, day, 30.0) for day in (0.0, 7.0, 14.0))

    def always(params, state, seen):
        return state, jax.numpy.ones_like(seen.share)

    arms = (
        Arm("in advance", doses),
        Arm("decided", (), lines=(Line("x", doses),), policy=Rule("always", always)),
    )
    found = clones.simulate(
        problem(model=model, arms=arms, horizon=28.0, visits=Visits(every=7.0), hosts=(marrow,))
    )[""]
    for name in ("neutrophils", "lowest_neutrophils", "grade_days"):
        one, two = found[name].data
        np.testing.assert_allclose(one, two, rtol=1e-5, err_msg=name)
    assert found["given_mg"].data[:, 0, 0, :4, 0].tolist() == [[30, 60, 90, 90]] * 2
    assert found["lowest_neutrophils"].data.max() < 4.0
