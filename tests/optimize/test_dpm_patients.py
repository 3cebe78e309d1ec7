"""Sequences that are searched for, against the rules of precision medicine."""

import jax
import numpy as np
import pytest

from tests.optimize import dpm
from tests.validation.precision_medicine import CURED, patients


@pytest.mark.slow
def test_v03_no_rule_is_better_than_the_sequence_that_is_searched_for():
    """Beckman et al. 2012, 100 patients, the same windows and doses: whoever knows the cells lives at
    least as long as by CPM or DPM2.2. A plan from what the physician believes has no such warrant.
    """
    cohort = patients()
    with jax.enable_x64(True):
        days = dpm.compared(cohort)
    best = np.maximum(days["cpm"], days["dpm22"])
    for name in ("any_share", "options"):
        assert np.all(days[name] >= best)
        assert dpm.against(days[name], days["dpm22"])["high"] < 1
    assert np.all(days["any_share"] >= days["options"])
    assert np.mean(days["options"] == CURED) >= np.mean(days["half"] == CURED)
    assert (
        days["half"].mean() > days["dpm22"].mean()
    )  # as they really are, D2 is 30 times as strong


def test_the_course_that_is_searched_on_is_that_of_the_case():
    """Closed form per day against `scipy.linalg.expm`: the same day for random sequences of 100
    patients, and smooth between days.
    """
    cohort = patients()
    shares = np.random.default_rng(3).choice([0, 0.5, 1, 0.3], (len(cohort), dpm.WINDOWS))
    with jax.enable_x64(True):
        found = np.asarray(dpm.each_survival(dpm.cells(cohort), shares))
    exact = dpm.day_of_death(cohort, shares)
    dies = exact < 1800
    assert 20 < dies.sum() < 100
    np.testing.assert_array_equal(np.ceil(found[dies] - 1e-9), exact[dies])
    assert np.all(found[~dies] >= 1800)
