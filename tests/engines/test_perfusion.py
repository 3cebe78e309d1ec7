"""Delivery that follows the burden: a large tumor is worse perfused."""

import numpy as np
import pytest

from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines import cells, clones, extinction, meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record, Refused, Visits
from tests import builders
from tests.visiting import always, of

HALF = 2e6
LAW = {
    "sites": ("edge", "core"), "drugs": ("x",), "targets": ("T",), "kd": {"T": {"x": 0.5}},
    "max_death_rate": 0.9, "birth_rate": 0.4, "death_rate": 0.1,
}  # fmt: skip
TREATED = Arm("treated", (), (Level(0, 0.0, 20.0, 1.0),))


def problem(*arms: Arm, half: float = HALF, size: int = 10**6, **options) -> Problem:
    """20 days, a day at a time; the edge is perfused whatever is there, the core as its cells let it."""
    law = LAW | {"half_delivery": {"core": half}}
    chosen = {
        "model": builders.build(**law), "founders": (Founder(size, 0, 0), Founder(size, 0, 1)),
        "seed": 5, "replicates": 1, "horizon": 20.0, "sync": 1.0, "max_cells": 1,
        "record": Record(every=1.0),
    } | options  # fmt: skip
    return Problem(arms=arms, **chosen)


def closed_form(size: float, half: float, days: int = 20, every: int = 1) -> np.ndarray:
    """Cells of a site on every day: the level is 1/(1 + N/N_half) with N of the latest renewal, and

    N(t + 1) = N(t) exp(b - d - dmax C/(C + Kd)).
    """
    found = [float(size)]
    for day in range(days):
        if day % every == 0:
            level = 1 / (1 + found[-1] / half)
        found.append(found[-1] * np.exp(0.4 - 0.1 - 0.9 * level / (level + 0.5)))
    return np.array(found)


@pytest.mark.parametrize("size", [10**5, 10**6, 10**8])
def test_the_mean_follows_the_closed_form(size):
    """From a tumor that shrinks to one that the drug does not reach; the edge knows nothing of it."""
    found = of(meanfield.simulate(problem(TREATED, size=size)), "site_burden")[0, 0, 0]
    np.testing.assert_allclose(found[:, 1], closed_form(size, HALF), rtol=1e-9)
    np.testing.assert_allclose(found[:, 0], closed_form(size, np.inf), rtol=1e-9)
    assert closed_form(10**8, HALF)[-1] > 1e9
    assert closed_form(10**5, HALF)[-1] < 1e4


@pytest.mark.slow
def test_clones_follow_it_with_many_cells():
    """10^8 cells at first: the mean of 8 tumors is within .1 %, ten times what chance allows (the relative
    spread of one is below 3e-4).
    """
    study = problem(TREATED, size=10**8, replicates=8)
    found = of(clones.simulate(study), "site_burden")[0, 0, :, :, 1].mean(axis=0)
    np.testing.assert_allclose(found, closed_form(10**8, HALF), rtol=1e-3)


def test_delivery_is_renewed_at_visits_where_they_are_ordered():
    """Every five days in place of every day."""
    study = problem(TREATED, size=10**6, visits=Visits(every=5.0))
    found = of(meanfield.simulate(study), "site_burden")[0, 0, 0, :, 1]
    np.testing.assert_allclose(found, closed_form(10**6, HALF, every=5), rtol=1e-9)
    assert abs(found[-1] / closed_form(10**6, HALF)[-1] - 1) > 0.01


def test_without_drug_nothing_changes():
    """The untreated arm grows at b - d at both sites, whatever their perfusion."""
    found = of(meanfield.simulate(problem(Arm("none", ()))), "site_burden")[0, 0, 0]
    grown = 1e6 * np.exp(0.3 * np.arange(21))
    np.testing.assert_allclose(found, np.stack([grown, grown], axis=1), rtol=1e-9)


def test_where_no_tumor_is_large_it_is_the_fixed_delivery():
    """N_half of 10^30 against infinity: doses in blood, a slow site, decided and in advance."""
    slow = LAW | {
        "is_prescribed": {"x": 0.0}, "clearance": {"x": 12.0}, "central_volume": {"x": 10.0},
        "equilibration_rate": {"core": {"x": 2.0}},
    }  # fmt: skip
    arm = Arm("doses", tuple(Dose(0, float(d), 9.0) for d in range(20)))
    visits = Visits(every=4.0)
    courses = []
    for half in (np.inf, 1e30):
        model = builders.build(**slow | {"half_delivery": {"core": half}})
        study = problem(arm, always(arm), model=model, visits=visits)
        courses.append(of(meanfield.simulate(study), "site_burden"))
    np.testing.assert_allclose(courses[1], courses[0], rtol=1e-9)
    assert courses[0][0, 0, 0, -1, 1] < 0.95 * 1e6 * np.exp(6.0)


@pytest.mark.parametrize("engine", [cells, extinction])
def test_engines_that_tabulate_refuse_it(engine):
    """With what to do instead."""
    with pytest.raises(Refused, match="half_delivery_cells, or choose the clones engine"):
        engine.simulate(problem(TREATED, max_cells=10**7))
