"""V15 beyond its printed rows: other doses and other patients against SciPy's own integration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.docetaxel import counts, solved, syncs

FINE = np.linspace(0, 21, 2101)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """A plain number; its digits are cut so that examples are readable."""
    return st.floats(low, high).map(lambda x: float(f"{x:.4g}"))


@settings(max_examples=5)
@given(
    amount=between(20, 220), infusion=st.sampled_from([0.0, 1 / 24, 0.25]), baseline=between(3, 9),
    transit=between(60, 150), feedback=between(0.1, 0.3), slope=between(2, 12),
)  # fmt: skip
def test_any_dose_in_any_patient(amount, infusion, baseline, transit, feedback, slope):
    """Two doses two weeks apart, daily syncs but for those days: every count, the nadir, and the days of
    every grade.
    """
    marrow = {
        "baseline": baseline,
        "transit_hours": transit,
        "feedback": feedback,
        "slope": slope,
    }
    doses = [(0.0, amount, infusion), (14.0, 0.8 * amount, infusion)]
    expected = solved(doses, FINE, **marrow)
    day, found = counts(doses, syncs(21, 0.0, 14.0), 1.0, **marrow)
    np.testing.assert_allclose(found.circulating, np.interp(day, FINE, expected), rtol=2e-3)
    assert found.lowest[-1] == pytest.approx(expected.min(), rel=2e-3)
    limits = np.array([np.inf, 2.0, 1.5, 1.0, 0.5, 0.0])
    in_grade = (expected[:, None] < limits[:-1]) & (expected[:, None] >= limits[1:])
    np.testing.assert_allclose(found.grade_days[-1], 21 * in_grade.mean(axis=0), atol=0.05)


def test_syncs_of_a_day_blur_a_bolus_that_is_gone_in_minutes():
    """Nine nodes in a day do not resolve a half-life of 5 minutes: the nadir is 2.9 % off, after an
    infusion of one hour .5 %, where V15 allows .2 %. So the sync interval must suit the fastest drug.
    """
    for infusion, low, high in ((0.0, 2.5e-2, 3.5e-2), (1 / 24, 3e-3, 7e-3)):
        doses = [(0.0, 180.0, infusion)]
        nadir = counts(doses, np.arange(22.0), 1.0)[1].lowest[-1]
        assert low < nadir / solved(doses, FINE).min() - 1 < high
