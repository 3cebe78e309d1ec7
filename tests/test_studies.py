"""The studies of configs/studies: their numbers against their sources, typed here a second time.

V16: IC50 of BCR-ABL mutants and pharmacokinetics of three inhibitors. V02: Bozic I et al., eLife 2:e00747
(2013), doi:10.7554/eLife.00747. Both in docs/validation.md.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import jaxevo
from jaxevo import load_study
from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.engines.grid import arm_course, arm_inputs
from tests import builders
from tests.studies import study_of

STUDIES = Path(__file__).parent.parent / "configs" / "studies"
CML, MELANOMA = STUDIES / "cml.toml", STUDIES / "melanoma_dual.toml"
TRIAL = STUDIES / "cml_trial.toml"

DRUGS = ("imatinib", "dasatinib", "ponatinib")
IC50_NM = {  # V16, in the order of DRUGS
    "native": (527, 1.8, 2.1),
    "G250E": (3613, 8.1, 12.5),
    "Y253H": (17700, 5.9, 29.8),
    "E255V": (8953, 6.3, 27.2),
    "T315I": (9221, 137.3, 6.3),
}
INHIBITION = {  # V16, mean over a day of the steady state
    "native": (0.78552, 0.87496, 0.97869),
    "G250E": (0.35369, 0.66756, 0.88560),
    "Y253H": (0.10173, 0.72061, 0.76527),
    "E255V": (0.18228, 0.70996, 0.78118),
    "T315I": (0.17796, 0.17704, 0.93877),
}
ONE_PATIENT = ("patients.count=1", "patients.vary={}")


@pytest.fixture(scope="module")
def cml():
    return load_study(CML, ONE_PATIENT).problem()


def steady_day(problem, arm: int, nodes: np.ndarray) -> np.ndarray:
    """Concentrations on day 100 of an arm, [node, drug] uM."""
    model = problem.model
    given = arm_inputs(model, problem.arms[arm], np.arange(102.0))
    return arm_course(model, given, nodes).site[100, :, 0]


@pytest.mark.parametrize("mutant", IC50_NM)
def test_cml_mean_inhibition_is_that_of_the_case(mutant, cml):
    """Births of a class over a day of the steady state are b (1 - mean inhibition): to 1e-4 at the 2401
    points of the published means, both ends of the day among them.

    Engines average over nine nodes a day. That is within 6e-4: dasatinib rises and falls within hours.
    """
    altered = {} if mutant == "native" else {mutant: 1}
    fine = np.linspace(0, 1, 2401)
    for arm, expected in enumerate(INHIBITION[mutant]):
        for nodes, weights, error in (
            (fine, np.full(len(fine), 1 / len(fine)), 1e-4),
            (NODES, WEIGHTS, 6e-4),
        ):
            levels = steady_day(cml, arm, nodes)
            births = np.asarray(builders.over_doses(cml.model, levels, altered).birth_rate)
            inhibition = 1 - np.sum(weights * births) / float(cml.model.birth.birth_rate)
            assert inhibition == pytest.approx(expected, abs=error)


def test_cml_folds_are_ratios_of_the_published_ic50():
    """To the digits of the file; doses are those of the source, in mol."""
    study = load_study(CML)
    for i, drug in enumerate(DRUGS):
        native = IC50_NM["native"][i]
        assert study.drugs[drug].kd_um["BCR-ABL"] == pytest.approx(native / 1000)
        for mutant in list(IC50_NM)[1:]:
            fold = study.alterations[mutant].kd_fold[drug]
            assert fold == pytest.approx(IC50_NM[mutant][i] / native, rel=1e-5)
    for drug, arm, mol, k_el, volume in (
        ("imatinib", 0, 81.04e-5, 0.03851, 435),
        ("dasatinib", 1, 36.88e-5, 0.1732, 2502),
        ("ponatinib", 2, 8.449e-5, 0.02888, 1223),
    ):
        table = study.drugs[drug]
        given = study.arms[arm].doses[0].amount_mg / 1000 / table.molecular_weight_g_per_mol
        assert given == pytest.approx(mol, rel=1e-3)
        assert table.plasma.clearance_l_per_h == pytest.approx(k_el * volume, rel=1e-4)


def test_cml_rates_without_drug_are_the_published_ones():
    """Net growth 1.658 per month; quiescence by the medians of ten patients; 19 % of the drug behind the
    pump.
    """
    month, study = 30.4375, load_study(CML)
    growth = study.tumor.birth_rate_per_day - study.tumor.death_rate_per_day
    assert growth == pytest.approx(1.658 / month, rel=1e-3)
    quiescent = study.alterations["quiescent"]
    into = [
        0.0126,
        0.00033,
        0.878,
        0.000271,
        0.000181,
        0.702,
        0.00106,
        0.000215,
        0.000378,
        0.000635,
    ]
    back = [0.0483, 0.0452, 0.184, 1.68e-6, 0.00615, 0.205, 0.000406, 4.26e-5, 0.0732, 0.0447]
    assert quiescent.on_per_day == pytest.approx(np.median(into) / month, rel=1e-3)
    assert quiescent.off_per_day == pytest.approx(np.median(back) / month, rel=1e-3)
    pump = study.pumps["P-gp"]
    for drug in ("imatinib", "dasatinib"):
        ratio = pump.vmax_um_per_h[drug] / pump.km_um[drug] / study.drugs[drug].efflux_per_h
        assert 1 / (1 + ratio) == pytest.approx(0.19, abs=1e-4)


@pytest.mark.slow
def test_cml_runs_small(tmp_path):
    """Three patients for eight weeks: 10^11 cells at the start, single mutants in each, and the native
    class falls under every drug as its mean rate says, to the noise of some 10^7 cells.
    """
    small = ("patients.count=3", "study.horizon_days=56", "record.concentration_every_h=168")
    trajectory = jaxevo.simulate(load_study(CML, small))
    root = {name: variable.data for name, variable in trajectory[""].items()}
    assert root["burden"].shape == (3, 3, 1, 3)
    assert np.all((root["trigger_cells"] >= 1e11) & (root["trigger_cells"] < 1.01e11))
    labels = root["class_label"].tolist()
    for mutant in list(IC50_NM)[1:]:
        assert np.all(root["class_count"][0, :, 0, 0, labels.index(mutant)] > 10)
    native = root["class_count"][:, :, 0, :, labels.index("unaltered")]
    endless = study_of(tmp_path, CML.read_text().replace("stop_at_cells = 1e12", ""), *small)
    expected = jaxevo.simulate(endless, "meanfield")[""]
    shrinkage = expected["class_count"].data[:, :, 0, :, labels.index("unaltered")]
    np.testing.assert_allclose(
        native[..., -1] / native[..., 0], shrinkage[..., -1] / shrinkage[..., 0], rtol=1e-3
    )
    summary = jaxevo.summarize(trajectory)
    assert {arm["patients"] for arm in summary.values()} == {3}


@pytest.mark.slow
def test_melanoma_fails_as_published():
    """One drug for certain; two with the limit law's .8818 (published .881), and .0020 (published .002)
    without the mutation that resists both.
    """
    arms = jaxevo.summarize(jaxevo.simulate(load_study(MELANOMA, ["record.every_days=2000"])))
    assert arms["one drug"]["relapse_probability"] == 1.0
    assert arms["two drugs"]["relapse_probability"] == pytest.approx(0.8818, abs=1e-4)
    without = ["alterations.cross.probability_per_division=0", "record.every_days=2000"]
    arms = jaxevo.summarize(jaxevo.simulate(load_study(MELANOMA, without)))
    assert arms["two drugs"]["relapse_probability"] == pytest.approx(0.002, abs=5e-4)


@pytest.mark.slow
def test_melanoma_clones_agree_with_the_probability():
    """The share of 1,000 tumors that fail, false-fail 1e-6; a probability off by 0.07 is found with
    probability 0.99. The law is that of large M; here M is 1e5, with as many mutants as in the study.
    """
    rarer = 1.6e9 / 1e5
    small = (
        "tumor.treat_at_cells=1e5", "study.replicates=1000", "record.every_days=2000",
        f"alterations.cross.probability_per_division={1e-9 * rarer}",
        "alterations.resist_one.probability_per_division=0",
        "alterations.resist_two.probability_per_division=0",
    )  # fmt: skip
    exact = jaxevo.summarize(jaxevo.simulate(load_study(MELANOMA, small)))["two drugs"]
    trajectory = jaxevo.simulate(load_study(MELANOMA, (*small, "study.engine=clones")))
    extinct = int(trajectory[""]["is_extinct"].data[1].sum())
    chance = 1 - exact["relapse_probability"]
    law = stats.binom(1000, chance)
    assert min(law.cdf(extinct), law.sf(extinct - 1)) > 0.5e-6
    assert math.isclose(exact["relapse_probability"], 0.88, abs_tol=0.05)


def test_the_trial_has_the_cells_the_drugs_and_the_patients_of_the_cml_study():
    """Without the pump; the arms of one drug are the same, and every line is an arm of that study."""
    study, trial = (load_study(path).resolved() for path in (CML, TRIAL))
    del study["alterations"]["efflux"], study["pumps"]
    for name in ("tumor", "drugs", "targets", "alterations"):
        assert trial[name] == study[name], name
    assert trial["patients"]["vary"] == study["patients"]["vary"]
    doses = [arm["doses"] for arm in study["arms"]]
    given = [row["doses"] for arm in trial["arms"] for row in (arm, *arm.get("lines", ()))]
    for rows in filter(None, given):
        assert any(rows[0]["amount_mg"] == known[0]["amount_mg"] for known in doses)
        assert any(rows[0]["drug"] == known[0]["drug"] for known in doses)


def test_each_way_past_methotrexate_protects_from_it_and_from_nothing_else():
    """Childhood ALL in a steady week of both drugs, by class: what DHFR lets through of the births rises
    with a lost carrier, with every further copy of DHFR and with an altered one, the deaths by mercaptopurine
    stay; without HPRT it is the other way around. Twice the dose outnumbers one further copy.
    """
    study = load_study(STUDIES / "leukemia.toml", ONE_PATIENT)
    model = study.problem().model

    def killed(methotrexate: float, mercaptopurine: float, **levels: int) -> float:
        rates = builders.over_doses(model, np.array([[methotrexate, mercaptopurine]]), levels)
        return float(np.asarray(rates.death_rate)[0]) - float(model.death.death_rate)

    weekly, daily = 0.008, 0.03  # uM at the site, about the mean of the usual doses
    alone = killed(weekly, 0.0)
    assert alone > 0.1
    ways = ({"RFC": 1}, {"DHFR-amplified": 2}, {"DHFR-amplified": 4}, {"DHFR-F31G": 1})
    for way in ways:
        assert killed(weekly, 0.0, **way) < 0.25 * alone, way
        assert killed(0.0, daily, **way) == killed(0.0, daily)
    assert killed(0.0, daily, HPRT=1) < 0.01 * killed(0.0, daily)
    assert killed(weekly, 0.0, HPRT=1) == alone
    assert killed(weekly, daily, BCL2=1) == pytest.approx(0.5 * killed(weekly, daily))
    one_more = {"DHFR-amplified": 1}
    assert killed(2 * weekly, 0.0, **one_more) > 2 * killed(weekly, 0.0, **one_more)
