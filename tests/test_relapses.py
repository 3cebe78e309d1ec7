"""A simulated tumor counts as a relapse with the chance that the extinction engine means."""

import numpy as np
import pytest

from jaxevo import trial
from jaxevo.engines.base import Relapse, Variable
from jaxevo.engines.tumors import INTERRUPTED, OUT_OF_ROOM, STOPPED
from jaxevo.outcomes import wilson
from jaxevo.trial.relapses import exposure
from tests.improve.studies import SMALL
from tests.studies import study_of


def chances(folder, relapse: Relapse, burden: list[float], status: int = 0) -> float:
    """The chance of one tumor with these burdens on days 0, 1, 2, ..."""
    problem = study_of(folder, SMALL).problem()._replace(relapse=relapse)
    axes = ("arm", "patient", "replicate")
    root = {
        "time": Variable(("time",), np.arange(len(burden), dtype=float), "d", ""),
        "burden": Variable((*axes, "time"), np.array(burden)[None, None, None], "cells", ""),
        "status": Variable(axes, np.full((1, 1, 1), status), "1", ""),
    }
    return float(trial.chances(problem, {"": root})[0, 0, 0])


def test_survival_asks_whether_a_cell_is_left(tmp_path):
    """1 if Z(T) > 0, else 0."""
    assert chances(tmp_path, Relapse("survival"), [5.0, 1.0]) == 1
    assert chances(tmp_path, Relapse("survival"), [5.0, 0.0]) == 0


def test_detection_is_soft_in_the_cells_on_the_last_day(tmp_path):
    """1 - e^{-Z/N}."""
    found = chances(tmp_path, Relapse("detection", 200.0), [1e6, 50.0])
    assert found == pytest.approx(-np.expm1(-0.25), rel=1e-12)


def test_first_passage_integrates_an_exponential_burden_exactly(tmp_path):
    """Integral of e^{t/2} from 1.5 to 4 is 2 (e^2 - e^{0.75}), with records a day apart."""
    day = np.arange(5.0)
    relapse = Relapse("first_passage", 100.0, 1.5, 3.0)
    exact = 2 * (np.exp(2.0) - np.exp(0.75))
    assert exposure(relapse, day, np.exp(day / 2)[None]) == pytest.approx(exact, rel=1e-12)
    found = chances(tmp_path, relapse, np.exp(day / 2).tolist())
    assert found == pytest.approx(-np.expm1(-0.03 * exact), rel=1e-12)


def test_a_burden_that_dies_out_between_records_is_taken_as_a_line():
    """Two cell days of 4 cells that are gone a day later, half of them before the assessment."""
    relapse = Relapse("first_passage", 1.0, 0.0, 1.0)
    assert exposure(relapse, np.arange(3.0), np.array([[4.0, 0.0, 0.0]])) == 2.0
    late = relapse._replace(assessed_from=0.5)
    assert exposure(late, np.arange(3.0), np.array([[4.0, 0.0, 0.0]])) == 0.5


def test_a_tumor_that_is_not_followed_to_the_end_is_a_relapse_or_unknown(tmp_path):
    """Too large to follow is a relapse; interrupted by the user is not known."""
    for status in (OUT_OF_ROOM, STOPPED):
        assert chances(tmp_path, Relapse("detection"), [1.0, 0.0], status) == 1
    assert np.isnan(chances(tmp_path, Relapse("survival"), [1.0, 1.0], INTERRUPTED))


def test_what_is_unknown_does_not_count_as_observed():
    """Wilson's interval of 2 of 4, though there were 6 tumors."""
    found = trial.observed(np.array([[0.0, 1.0, np.nan], [1.0, 0.0, np.nan]]))
    assert [float(x) for x in found] == [float(x) for x in wilson(2, 4)]


def test_a_difference_of_shares_has_the_published_interval():
    """Newcombe 1998, PMID 9595617, table II (a), method 10: 56/70 - 48/80 is .2 (.0524 to .3339)."""
    found = trial.gap(wilson(56, 70), wilson(48, 80))
    assert found["value"] == pytest.approx(0.2)
    assert [round(found[key], 4) for key in ("low", "high")] == [0.0524, 0.3339]
