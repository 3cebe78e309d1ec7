"""Schedule: doses in mg become constant inputs on a grid, and nothing of them is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo.drug.schedule import RESOLUTION, Dose, Inputs, Level, inputs, merge_times

MASS = np.array([429.9, 500.0])  # g/mol
HORIZON = 10.0
SYNCS = np.linspace(0.0, HORIZON, 41)  # every 6 h


def on_grid(doses=(), levels=(), syncs=SYNCS, bioavailability=(1.0, 1.0)) -> Inputs:
    """What enters under these doses."""
    return inputs(tuple(doses), tuple(levels), syncs, MASS, np.asarray(bioavailability))


def total_umol(given: Inputs) -> np.ndarray:
    """All that enters, per drug."""
    infused = given.infusion_rate * np.diff(given.edges)[:, None]
    return np.sum(given.gut_dose + given.blood_dose + infused, axis=0)


def test_a_bolus_enters_the_blood_at_the_start_of_its_interval():
    """150 mg at 429.9 g/mol are 348.918 umol."""
    given = on_grid([Dose(0, 3.1, 150.0)])
    at = int(np.flatnonzero(given.blood_dose[:, 0])[0])
    assert given.edges[at] == 3.1
    np.testing.assert_allclose(given.blood_dose[at], [348.918353, 0.0], rtol=1e-8)
    assert not given.gut_dose.any()
    assert not given.infusion_rate.any()


def test_an_amount_per_body_surface_is_times_the_surface():
    """100 mg/m2 at 500 g/mol in a patient of 1.8 m2 are 360 umol; mg are mg in every patient."""
    doses = (Dose(1, 0.0, 100.0, is_per_m2=True), Dose(1, 2.0, 100.0, duration=0.5, is_per_m2=True))
    syncs, share = SYNCS, np.ones(2)
    given = inputs((*doses, Dose(1, 5.0, 100.0)), (), syncs, MASS, share, 1.8)
    assert given.blood_dose[:, 1].max() == given.blood_dose[0, 1]
    np.testing.assert_allclose(np.unique(given.blood_dose[:, 1]), [0.0, 200.0, 360.0])
    np.testing.assert_allclose(given.infusion_rate[:, 1].max(), 720.0)


def test_an_oral_dose_enters_the_gut_times_its_bioavailability():
    """What is not absorbed never enters."""
    given = on_grid([Dose(1, 0.0, 100.0, is_oral=True)], bioavailability=(1.0, 0.3))
    np.testing.assert_allclose(given.gut_dose[0], [0.0, 60.0])
    assert not given.blood_dose.any()


def test_an_infusion_is_a_rate_between_its_start_and_end():
    """100 mg over 1 h of day 2: 200 umol at 4800 umol/day, in intervals cut at both ends."""
    given = on_grid([Dose(1, 2.0, 100.0, duration=1 / 24)])
    on = given.infusion_rate[:, 1] > 0
    np.testing.assert_allclose(given.infusion_rate[on, 1], 4800.0)
    np.testing.assert_allclose(given.edges[:-1][on][0], 2.0)
    np.testing.assert_allclose(given.edges[1:][on][-1], 2.0 + 1 / 24)


def test_levels_are_prescribed_between_their_days_and_add():
    """A level that starts and ends between two syncs cuts the grid there."""
    given = on_grid(
        levels=[Level(0, 1.1, 2.2, 0.5), Level(0, 2.0, 3.0, 0.25), Level(1, 0.0, 99.0, 4.0)]
    )
    middle = (given.edges[1:] + given.edges[:-1]) / 2
    expected = 0.5 * ((middle > 1.1) & (middle < 2.2)) + 0.25 * ((middle > 2.0) & (middle < 3.0))
    np.testing.assert_allclose(given.level[:, 0], expected)
    np.testing.assert_allclose(given.level[:, 1], 4.0)
    for day in (1.1, 2.0, 2.2, 3.0):
        assert np.min(np.abs(given.edges - day)) < RESOLUTION


def test_what_lies_outside_the_study_is_cut_off():
    """Doses before the first day and from the horizon on do not count; an infusion that crosses the
    horizon counts with the part before it.
    """
    given = on_grid([Dose(0, -1.0, 50.0), Dose(0, HORIZON, 50.0), Dose(0, HORIZON + 1, 50.0)])
    assert not total_umol(given).any()
    given = on_grid([Dose(1, HORIZON - 0.5, 100.0, duration=2.0)])
    np.testing.assert_allclose(total_umol(given), [0.0, 50.0])
    assert given.edges[-1] == HORIZON


@pytest.mark.parametrize("noise", [-3e-15, 3e-15])
def test_rounding_of_a_day_moves_no_dose_by_an_interval(noise):
    """Dose n of one every 8 h is on day n * 8/24, give or take the last bit: the sync and the dose are
    one time, a dose at the horizon is none at all.
    """
    days = np.arange(31) * (8 / 24)
    given = on_grid([Dose(1, day + noise, 100.0) for day in days], syncs=np.linspace(0, 10.0, 31))
    assert given.blood_dose.shape[0] == 30
    np.testing.assert_allclose(given.blood_dose[:, 1], 200.0)


def test_an_infusion_without_duration_is_a_bolus():
    """Below the resolution of time the whole amount enters at once."""
    given = on_grid([Dose(1, 1.0, 100.0, duration=RESOLUTION / 2)])
    assert given.blood_dose[:, 1].sum() == 200.0


def test_times_that_are_one_time_are_merged():
    """Sorted, without repeats within the resolution; what is named first keeps its last bit."""
    noisy = 0.1 * 3
    for first, second in ((0.3, noisy), (noisy, 0.3)):
        merged = merge_times(np.array([1.0, first]), np.array([second, 1.0 - 1e-12, 0.7, 0.0]))
        np.testing.assert_array_equal(merged, [0.0, first, 0.7, 1.0])


day = st.floats(0.0, HORIZON - 0.01)
administration = st.builds(
    Dose,
    drug=st.integers(0, 1),
    day=day,
    amount_mg=st.floats(0.0, 1e4),
    duration=st.just(0.0) | st.floats(1e-3, 3.0),
    is_oral=st.booleans(),
)


@given(st.lists(administration, max_size=8), st.lists(day, max_size=6))
def test_every_dose_enters_whole(doses, syncs):
    """Conservation: umol in = mg / molar mass, times bioavailability if swallowed, whatever the grid."""
    doses = [d._replace(duration=min(d.duration, HORIZON - d.day)) for d in doses]
    doses = [d._replace(is_oral=d.is_oral and d.duration == 0) for d in doses]
    share = np.array([0.6, 1.0])
    given = on_grid(
        doses, syncs=merge_times(np.array([0.0, HORIZON]), np.array(syncs)), bioavailability=share
    )
    assert np.all(np.diff(given.edges) > 0)
    assert (given.edges[0], given.edges[-1]) == (0.0, HORIZON)
    expected = np.zeros(2)
    for d in doses:
        expected[d.drug] += 1e3 * d.amount_mg / MASS[d.drug] * (share[d.drug] if d.is_oral else 1)
    np.testing.assert_allclose(total_umol(given), expected, rtol=1e-5, atol=1e-9)
