"""Switching: epigenetic change at rates per day, both ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from tests.builders import assert_close, build, in_double, over_doses, rates

pytestmark = pytest.mark.both_precisions


def flow(model, drug: float = 0.0) -> np.ndarray:
    """[to, from] expected change per day of cells off and on, growth included."""
    off, on = (rates(model, {"switch": n}, {"x": drug}) for n in (0, 1))
    up, down = float(off.switching_rate[0]), float(on.switching_rate[1])
    net = [float(r.birth_rate - r.death_rate) for r in (off, on)]
    return np.array([[net[0] - up, down], [up, net[1] - down]])


def switch(**table) -> dict:
    """A model with one epigenetic switch and one drug that may induce it."""
    return build(
        drugs=("x", "y"),
        birth_rate=0.0,
        death_rate=0.0,
        alterations={"switch": {"inheritance": "epigenetic", **table}},
    )


INDUCED = {
    "on_rate": 0.01,
    "off_rate": 0.19,
    "induced_on_rate": {"x": 0.5},
    "induction_ec50": {"x": 2.0},
}


@settings(max_examples=25)
@given(on=st.floats(1e-4, 10.0), off=st.floats(1e-4, 10.0))
def test_the_stationary_share_of_cells_that_are_on_comes_from_the_rates(on, off):
    """Biology row 11: on/(on + off), whatever the start."""
    change = flow(switch(on_rate=on, off_rate=off))
    for start in ([1.0, 0.0], [0.0, 1.0]):
        share = expm(change * 30.0 / (on + off)) @ start
        np.testing.assert_allclose(share[1], on / (on + off), rtol=1e-5)
        np.testing.assert_allclose(share.sum(), 1.0, rtol=1e-5)


def test_a_cell_switches_one_level_at_a_time_within_its_levels():
    """On at the rates of the cell's level, off likewise; nothing below 0 or above the top."""
    model = switch(on_rate=0.25, off_rate=0.5, max_level=2)
    assert [(s.alteration, s.change) for s in model.genome.switches] == [(0, 1), (0, -1)]
    for level, expected in ((0, [0.25, 0.0]), (1, [0.25, 0.5]), (2, [0.0, 0.5])):
        np.testing.assert_array_equal(rates(model, {"switch": level}).switching_rate, expected)


def test_a_drug_induces_by_its_dose():
    """Biology row 11: on = r + i C/(C + EC50); half at EC50, at most r + i; another drug does not."""
    model = switch(**INDUCED)
    doses = np.array([0.0, 0.2, 2.0, 20.0, 1e7])
    now = over_doses(model, doses[:, None] * [1.0, 0.0]).switching_rate
    assert_close(now[:, 0], 0.01 + 0.5 * doses / (doses + 2.0), 1e-6, 1e-6)
    other = over_doses(model, doses[:, None] * [0.0, 1.0]).switching_rate
    np.testing.assert_array_equal(other[:, 0], other[0, 0])


def test_an_epigenetic_drug_shifts_the_balance_back():
    """Biology row 11: a drug that induces switching off lowers the share that is on."""
    model = switch(**{**INDUCED, "induced_off_rate": {"y": 4.0}, "induction_ec50": 2.0})
    on = {}
    for name, drugs in {"none": {}, "x": {"x": 8.0}, "both": {"x": 8.0, "y": 8.0}}.items():
        up = float(rates(model, {"switch": 0}, drugs).switching_rate[0])
        down = float(rates(model, {"switch": 1}, drugs).switching_rate[1])
        on[name] = up / (up + down)
    assert_close([on["none"], on["x"]], [0.05, 0.41 / 0.6], 1e-5)
    assert_close(on["both"], 0.41 / (0.41 + 0.19 + 3.2), 1e-5)


def test_a_drug_holiday_sensitizes_again():
    """Biology row 11: without drug the share that is on falls to its stationary value as
    e^{-(on + off) t}.
    """
    model = switch(**INDUCED)
    treated = expm(flow(model, drug=1e6) * 100.0) @ [1.0, 0.0]
    assert_close(treated[1], 0.51 / 0.7, 1e-5, 1e-5)
    for days in (3.0, 10.0, 40.0):
        rested = expm(flow(model) * days) @ treated
        expected = 0.05 + (treated[1] - 0.05) * np.exp(-0.2 * days)
        np.testing.assert_allclose(rested[1], expected, rtol=1e-5)


@in_double
@pytest.mark.parametrize(
    ("drug", "on_rate", "off_rate", "largest", "smallest"),
    [(0.0, 0.0004, 0.004, 0.0196676, -0.0040676), (1.0, 0.004, 0.0004, -0.00037485, None)],
)
def test_growth_under_reversible_switching(drug, on_rate, off_rate, largest, smallest):
    """Case E08: (bS, dS, bR, dR) = (.04, .02, .01, .01) off and (0, .06, .01, .01) on drug; growth rates
    are eigenvalues; off drug the resistant share is .01661985.
    """
    model = build(
        drugs=("x", "y"),
        targets=("T",),
        kd={"T": {"x": 0.0}},
        birth_rate=0.04,
        death_rate=0.02,
        max_inhibition=1.0,
        max_death_rate=0.04,
        alterations={
            "switch": {
                "inheritance": "epigenetic",
                "on_rate": on_rate,
                "off_rate": off_rate,
                "division_factor": 0.25,
                "natural_death_factor": 0.5,
                "lost_target": {"T": 1.0},
            }
        },
    )
    values, vectors = np.linalg.eig(flow(model, drug))
    first = np.argmax(values)
    np.testing.assert_allclose(values[first], largest, rtol=1e-5)
    if smallest is not None:
        np.testing.assert_allclose(values.min(), smallest, rtol=1e-5)
        np.testing.assert_allclose(
            vectors[1, first] / vectors[:, first].sum(), 0.01661985, rtol=1e-6
        )
