"""V15 beyond its printed rows: other doses and other patients against SciPy's own integration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.docetaxel import counts, solved

WHOLE_DAYS = np.arange(22.0)
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
    """Two doses two weeks apart; daily syncs: every count, the nadir and the days of every grade."""
    marrow = {
        "baseline": baseline,
        "transit_hours": transit,
        "feedback": feedback,
        "slope": slope,
    }
    doses = [(0.0, amount, infusion), (14.0, 0.8 * amount, infusion)]
    expected = solved(doses, FINE, **marrow)
    day, found = counts(doses, WHOLE_DAYS, 1.0, **marrow)
    np.testing.assert_allclose(found.circulating, np.interp(day, FINE, expected), rtol=2e-3)
    assert found.lowest[-1] == pytest.approx(expected.min(), rel=2e-3)
    limits = np.array([np.inf, 2.0, 1.5, 1.0, 0.5, 0.0])
    in_grade = (expected[:, None] < limits[:-1]) & (expected[:, None] >= limits[1:])
    np.testing.assert_allclose(found.grade_days[-1], 21 * in_grade.mean(axis=0), atol=0.05)


def test_weekly_syncs_blur_a_drug_of_minutes():
    """Nine nodes in a week do not resolve the first half-life of docetaxel, 5 minutes: the nadir is
    further off than with daily syncs, which meet the tolerance of V15. The sync interval must suit the
    fastest drug.
    """
    doses = [(0.0, 180.0, 0.0)]
    expected = solved(doses, FINE).min()
    error = {
        every: abs(counts(doses, np.arange(0, 21.5, every), every)[1].lowest[-1] / expected - 1)
        for every in (1.0, 7.0)
    }
    assert error[1.0] < 2e-3 < error[7.0]
