"""The main study: its numbers against their sources, and the whole of it on a small scale.

Case V09: PC-9 cells under erlotinib. Irurzun-Arana I, McDonald TO, Troconiz IF, Michor F, Cancer
Research (2020), package ACESO; pharmacokinetics of Lu JF et al. 2006, doi:10.1016/j.clpt.2006.04.007.
All literature numbers are typed here a second time, from the case and not from the file.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from jaxevo import Founder, load_study, read_trajectory, run_study, simulate
from tests import builders
from tests.builders import assert_close
from tests.laws import birth_death
from tests.statistics import assert_mean

STUDY = Path(__file__).parent.parent / "configs" / "main.toml"
HOURS = 24.0  # in a day

# Erlotinib, uM; births and deaths per hour of sensitive and of T790M cells.
DOSES = np.array([0.0, 1.0, 3.0, 10.0, 20.0])
SENSITIVE_BIRTH = np.array([0.036148, 0.005001, 0.001722, 0.0, 0.003171])
SENSITIVE_DEATH = np.array([0.007932, 0.007931, 0.007811, 0.008605, 0.009980])
RESISTANT_BIRTH = np.array([0.027370, 0.028658, 0.026017, 0.026852, 0.022634])

# 150 mg by mouth every 24 h.
CLEARANCE, VOLUME, ABSORPTION = 3.95, 233.0, 0.95  # L/h, L, 1/h
DOSE_MG, MOLAR_MASS = 150.0, 429.9

SMALL = (
    "tumor.treat_at_cells=3e3",
    "tumor.capacity_cells=1.2e4",
    "study.max_cells=2e4",
    "study.replicates=2",
    "study.horizon_days=20",
    "record.concentration_every_h=0.25",
    "alterations.T790M.probability_per_division=1e-3",
    "alterations.MET.first_gain_probability_per_division=1e-3",
    "alterations.MDR1.probability_per_division=1e-3",
    "alterations.persister.on_per_day=1e-2",
)


def fitted(births: np.ndarray, guess: list[float], shape=None) -> np.ndarray:
    """Least squares of births = bottom + (top - bottom)/(1 + (C/EC50)^hill).

    Returns:
        top (1/h), EC50 (uM), and, unless given as `shape`, 1 - bottom/top and hill.
    """

    def misfit(p: np.ndarray) -> np.ndarray:
        inhibition, hill = p[2:] if shape is None else shape
        effect = inhibition / (1 + (math.exp(p[1]) / np.maximum(DOSES, 1e-9)) ** hill)
        return 1e3 * (p[0] * (1 - effect) - births)

    found = least_squares(misfit, guess, xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    found[1] = math.exp(found[1])
    return found


def blood_level(hours: np.ndarray) -> np.ndarray:
    """Erlotinib in uM: sum over doses of F D k_a/(V (k_a - k)) (e^-kt - e^-k_a t), k = CL/V."""
    k = CLEARANCE / VOLUME
    scale = 1e3 * DOSE_MG / MOLAR_MASS / VOLUME * ABSORPTION / (ABSORPTION - k)
    since = hours[:, None] - HOURS * np.arange(math.ceil(hours.max() / HOURS))
    since, given = np.maximum(since, 0), since >= 0
    return scale * np.sum(given * (np.exp(-k * since) - np.exp(-ABSORPTION * since)), axis=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The study at 3000 cells, run as `jaxevo run` does."""
    return run_study(load_study(STUDY, SMALL), tmp_path_factory.mktemp("main") / "out")


# --- numbers ---------------------------------------------------------------------------------------


def test_rates_without_drug_are_the_published_ones():
    """Births and deaths of sensitive cells per day, and the cost of T790M, to the digits of the file."""
    study = load_study(STUDY)
    assert study.tumor.birth_rate_per_day == round(HOURS * SENSITIVE_BIRTH[0], 4)
    assert study.tumor.death_rate_per_day == round(HOURS * SENSITIVE_DEATH[0], 4)
    cost = 1 - RESISTANT_BIRTH[0] / SENSITIVE_BIRTH[0]
    assert study.alterations["T790M"].birth_cost == round(cost, 3)
    assert np.all(np.abs(SENSITIVE_DEATH[:3] / SENSITIVE_DEATH[0] - 1) < 0.05)  # left alone


def test_the_dose_response_is_the_fit_of_the_published_births():
    """EC50, Hill coefficient and greatest inhibition by a four-parameter fit to sensitive cells; the
    fold of T790M by the same law with its own top and EC50; each to the digits of the file.
    """
    top, ec50, inhibition, hill = fitted(SENSITIVE_BIRTH, [0.036, math.log(0.5), 0.95, 3.0])
    study = load_study(STUDY)
    effect = study.targets["EGFR"]
    assert top == pytest.approx(SENSITIVE_BIRTH[0], rel=1e-5)
    assert study.drugs["erlotinib"].kd_um == {"EGFR": round(ec50, 3)}
    assert (effect.birth_half_odds, effect.birth_hill) == (1.0, round(hill, 2))
    assert effect.max_birth_inhibition == round(inhibition, 4)
    _, shifted = fitted(RESISTANT_BIRTH, [0.027, math.log(30)], (inhibition, hill))
    assert study.alterations["T790M"].kd_fold == {"erlotinib": round(shifted / ec50)}


@pytest.mark.both_precisions
def test_births_follow_the_dose_response():
    """b (1 - Emax C^h/(C^h + EC50^h)) of sensitive cells, with EC50 times the fold for T790M."""
    study = load_study(STUDY)
    model, effect = study.problem().model, study.targets["EGFR"]
    levels = np.array([0.1, 0.3, 0.537, 1.0, 3.0, 30.0])
    table = np.stack([levels, np.zeros_like(levels)], axis=1)  # no elacridar
    cost = study.alterations["T790M"].birth_cost
    for altered, ec50, top in (({}, 0.537, 1.0), ({"T790M": 1}, 57 * 0.537, 1 - cost)):
        inhibited = 0.9556 * levels**3.56 / (levels**3.56 + ec50**3.56)
        expected = top * study.tumor.birth_rate_per_day * (1 - inhibited)
        assert_close(builders.over_doses(model, table, altered).birth_rate, expected, 1e-5, 1e-10)
    assert (effect.max_birth_inhibition, effect.birth_hill) == (0.9556, 3.56)


def test_pharmacokinetics_are_the_published_ones():
    """Clearance, volume, absorption and the dose of tablets, number by number."""
    study = load_study(STUDY)
    erlotinib = study.drugs["erlotinib"]
    plasma = erlotinib.plasma
    assert (plasma.clearance_l_per_h, plasma.volume_l) == (CLEARANCE, VOLUME)
    assert (plasma.absorption_per_h, plasma.bioavailability) == (ABSORPTION, 1.0)
    assert (plasma.unbound_fraction, plasma.peripheral) == (1.0, [])
    assert (erlotinib.molecular_weight_g_per_mol, erlotinib.max_dose_mg) == (MOLAR_MASS, DOSE_MG)
    for arm in study.arms:
        (dose,) = (row for row in arm.doses if row.drug == "erlotinib")
        assert (dose.amount_mg, dose.every_h, dose.route) == (DOSE_MG, HOURS, "oral")


@pytest.mark.both_precisions
def test_a_pump_expressing_line_accumulates_a_fifth_of_its_parent():
    """One unit of pump leaves 1/3 of a trace of erlotinib, three units 1/7: 1/(1 + k_p/k_out), with
    k_p = vmax/km = 120 and k_out = 60 per hour. Elacridar at 1 uM leaves 1/11 of the pumps.
    """
    model = load_study(STUDY).problem().model
    trace = {"erlotinib": 1e-4}
    held = builders.inside(model, {"MDR1": 1}, trace)["erlotinib"] / trace["erlotinib"]
    assert held == pytest.approx(1 / 7, rel=1e-3)
    helped = builders.inside(model, {"MDR1": 1}, {**trace, "elacridar": 1.0})["erlotinib"]
    assert helped / trace["erlotinib"] == pytest.approx(1 / (1 + 6 / 11), rel=1e-3)


# --- the law of rates ------------------------------------------------------------------------------


def test_sensitive_cells_follow_the_law_of_rates():
    """E[N] = N0 exp(integral of birth(C(t)) - death): 6000 sensitive cells that keep their kind, 10
    days of tablets, without crowding. The law is Kendall's for births at the closed form of C(t), in
    steps of six minutes (false-fail 1e-6, an error of 3 % is noticed).
    """
    settings = (
        "study.replicates=64",
        "study.horizon_days=10",
        "study.max_cells=1.2e4",
        "tumor.treat_at_cells=3e3",
        "study.genetic_instability=0",
        "tumor.capacity_cells=inf",
        "alterations.persister.on_per_day=0",
        "alterations.persister.induced_on_per_day.erlotinib=0",
    )
    problem = load_study(STUDY, settings).problem()
    problem = problem._replace(
        arms=problem.arms[:1], treat_at_cells=None, founders=(Founder(6000, 0, 0),)
    )
    cells = simulate(problem)[""]["burden"].data[0, 0, :, -1]
    middles = np.arange(0.05, 240, 0.1)
    table = np.stack([blood_level(middles), np.zeros_like(middles)], axis=1)
    rates = builders.over_doses(problem.model, table)
    days = np.full(middles.shape, 0.1 / HOURS)
    law = birth_death(days, np.float64(rates.birth_rate), np.float64(rates.death_rate)).law(6000)
    assert 0.1 < law.mean / 6000 < 0.5
    assert_mean(cells, law, detect=0.03 * law.mean)


# --- the whole study, small ------------------------------------------------------------------------


def test_the_blood_level_of_the_study_is_the_published_course(small):
    """First-dose Cmax 1.3919 uM; trough and peak 2.9586 and 4.1737 on day 9 to 10 (1e-4, on a grid of
    15 minutes), 3.0366 and 4.2477 at the steady state, which day 19 lacks by e^-(19 CL 24 h/V) = 4e-4.
    """
    root = small.trajectory[""]
    hours = HOURS * root["concentration_time"].data
    for arm in (0, 1):
        level = root["blood_concentration"].data[arm, :, 0]
        during = lambda day, level=level: level[(hours >= 24 * day) & (hours <= 24 * day + 24)]  # noqa: E731
        assert during(0).max() == pytest.approx(1.3919, rel=1e-4)
        assert (during(9).min(), during(9).max()) == pytest.approx((2.9586, 4.1737), rel=1e-4)
        assert (during(19).min(), during(19).max()) == pytest.approx((3.0366, 4.2477), rel=5e-4)
        np.testing.assert_allclose(level[1:], blood_level(hours[1:]), rtol=1e-9)
        np.testing.assert_array_equal(root["concentration"].data[arm, :, 0, 0], level)
    elacridar = root["blood_concentration"].data[:, :, 1]
    np.testing.assert_array_equal(elacridar[0], 0)
    np.testing.assert_array_equal(elacridar[1], 1)


def test_the_study_grows_from_one_founder_and_forks(small):
    """Day 0 is at 3000 cells, within a percent, the same cells in both arms; growth is on negative
    days and rises from one founder.
    """
    root = small.trajectory[""]
    start = root["burden"].data[:, 0, :, 0]
    np.testing.assert_array_equal(start[0], start[1])
    np.testing.assert_array_equal(start[0], root["trigger_cells"].data)
    assert np.all((start >= 3000) & (start < 1.02 * 3000))
    assert np.nanmax(root["growth_day"].data) == 0
    assert np.all(root["growth_burden"].data[:, 0] < 10)
    assert np.all(root["status"].data == 0)


def test_all_four_ways_past_the_drug_appear(small):
    """With raised probabilities each of T790M, MET, MDR1 and the persister state is carried by cells
    at the end, in each arm; erlotinib selects, so that most cells are altered.
    """
    root = small.trajectory[""]
    carried = root["class_count"].data[:, 0, :, -1].sum(axis=1) @ root["class_genotype"].data
    names = root["alteration"].data.tolist()
    assert names == ["T790M", "MET", "MDR1", "persister"]
    assert np.all(carried > 0)
    assert all(arm["resistant_fraction"] > 0.5 for arm in small.summary.values())


def test_the_study_leaves_its_files_and_they_read_back(small):
    """config.toml, trajectory.h5 and four pictures; every array of the file is the one in memory, and
    the config of the file loads as the study.
    """
    out = small.trajectory_path.parent
    pictures = {path.name for path in small.pictures}
    assert pictures == {"burden.png", "composition.png", "muller.png", "concentration.png"}
    assert all(path.stat().st_size > 10_000 for path in small.pictures)
    assert load_study(out / "config.toml").resolved() == load_study(STUDY, SMALL).resolved()
    found, attributes = read_trajectory(small.trajectory_path)
    assert found.keys() == small.trajectory.keys()
    for group, variables in small.trajectory.items():
        assert found[group].keys() == variables.keys()
        for name, variable in variables.items():
            assert found[group][name].dims == variable.dims
            np.testing.assert_array_equal(found[group][name].data, variable.data, err_msg=name)
    assert attributes["title"] == load_study(STUDY).study.title
    assert attributes["config_toml"] == (out / "config.toml").read_text()


def test_the_summary_says_what_the_trajectory_holds(small):
    """Burden, extinction and the share of altered cells at the end, by arm; classes and sites sum to
    the burden, and births less deaths to its change.
    """
    root = {name: variable.data for name, variable in small.trajectory[""].items()}
    burden, (unaltered,) = root["burden"][:, 0], np.flatnonzero(root["class"] == 0)
    np.testing.assert_array_equal(root["site_burden"][:, 0].sum(axis=-1), burden)
    classes = root["class_count"][:, 0].sum(axis=-1) + root["other_classes_count"][:, 0]
    np.testing.assert_array_equal(classes, burden)
    change = root["births"][:, 0] - root["deaths"][:, 0]
    np.testing.assert_array_equal(change, burden[:, :, -1] - burden[:, :, 0])
    assert list(small.summary) == ["erlotinib", "erlotinib + P-gp inhibitor"]
    for a, arm in enumerate(small.summary.values()):
        total = burden[a, :, -1].sum()
        kept = root["class_count"][a, 0, :, -1, unaltered].sum()
        assert arm["burden_at_end"] == burden[a, :, -1].mean()
        assert arm["burden_at_end_by_replicate"] == burden[a, :, -1].tolist()
        assert arm["extinct_fraction"] == np.mean(burden[a, :, -1] == 0)
        assert arm["resistant_fraction"] == pytest.approx(1 - kept / total)
        assert arm["replicates"] == 2
    assert (small.limit, small.interrupted) == (None, None)
