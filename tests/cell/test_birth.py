"""Birth: how often a cell divides, and quiescence."""

import numpy as np
import pytest
from scipy.linalg import expm

from jaxevo.model import environment_at
from tests import builders
from tests.builders import assert_close, build, over_doses, rates

pytestmark = pytest.mark.both_precisions

DAYS_ON, DAYS_OFF = 30.0, 60.0


def test_factors_multiply():
    """Birth = b w q g k: cost, quiescence, support at the site, crowding."""
    model = build(
        birth_rate=0.8,
        growth_factor=1.5,
        alterations={
            "costly": {"birth_cost": 0.1, "max_level": 3},
            "slow": {"division_factor": 0.5},
        },
    )
    assert_close(rates(model).birth_rate, 1.2)
    assert_close(rates(model, {"costly": 2}).birth_rate, 1.2 * 0.81)
    assert_close(rates(model, {"costly": 3, "slow": 1}).birth_rate, 1.2 * 0.729 * 0.5)
    crowded = environment_at(model, 0, builders.vector(()), 0.25)
    now = builders.models.rates(
        builders.models.cast(model, builders.real()), builders.traits(model), crowded
    )
    assert_close(now.birth_rate, 0.3)


def test_a_cytostatic_drug_inhibits_births_by_its_hill_law_and_kills_nobody():
    """Dose response: 1 - emax C^h/(C^h + EC50^h); at most emax is lost; deaths keep every bit."""
    model = build(
        drugs=("x",),
        targets=("T",),
        kd=0.5,
        max_inhibition=0.75,
        birth_half_odds=4.0,
        birth_hill=2.0,
    )
    doses = np.array([0.0, 0.2, 2.0, 9.0, 1e6])
    now = over_doses(model, doses[:, None])
    assert_close(now.birth_rate, 1 - 0.75 * doses**2 / (doses**2 + 4.0), 1e-6, 1e-11)
    np.testing.assert_array_equal(now.death_rate, 0.25)


def test_inhibition_by_independent_targets_multiplies():
    """Births that survive one pathway's loss must survive the other's too."""
    model = build(
        drugs=("x", "y"),
        targets=("T", "U"),
        kd={"T": {"x": 1.0}, "U": {"y": 1.0}},
        max_inhibition={"T": 0.5, "U": 1.0},
    )
    births = np.asarray(over_doses(model, [(3.0, 0.0), (0.0, 3.0), (3.0, 3.0)]).birth_rate)
    assert_close(births[2], births[0] * births[1])


def course(model, drug: float, days: float, cells: np.ndarray) -> np.ndarray:
    """Expected awake and asleep cells after `days` at one concentration, from the model's rates."""
    awake, asleep = (rates(model, {"asleep": n}, {"x": drug}) for n in (0, 1))
    to_sleep, to_wake = float(awake.switching_rate[0]), float(asleep.switching_rate[1])
    net = [float(r.birth_rate - r.death_rate) for r in (awake, asleep)]
    flow = np.array([[net[0] - to_sleep, to_wake], [to_sleep, net[1] - to_wake]])
    return expm(flow * days) @ cells


@pytest.mark.parametrize("is_cycle_specific", [1.0, 0.0])
def test_sleepers_survive_a_cycle_specific_drug_and_repopulate_but_no_other(is_cycle_specific):
    """Biology row 12: after 30 days of a drug that kills dividing cells, sleepers are left, and 60 days
    without it bring the tumor back; a drug that kills without division leaves nobody.
    """
    model = build(
        drugs=("x",),
        targets=("T",),
        kd=1.0,
        max_death_rate=2.0,
        is_cycle_specific=is_cycle_specific,
        birth_rate=0.5,
        death_rate=0.2,
        alterations={
            "asleep": {
                "inheritance": "epigenetic",
                "division_factor": 0.02,
                "natural_death_factor": 0.05,
                "on_rate": 1e-3,
                "off_rate": 1e-2,
            }
        },
    )
    start = np.array([1e6, 1e3])
    treated = course(model, 50.0, DAYS_ON, start)
    later = course(model, 0.0, DAYS_OFF, treated)
    if is_cycle_specific:
        assert treated[1] > 0.2 * start[1]
        assert treated[1] > 10 * treated[0]
        assert later.sum() > start.sum()
    else:
        assert treated.sum() < 1e-6
        assert later.sum() < 1.0
