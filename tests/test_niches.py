"""Where cells hide, told by exact laws: a sanctuary that leaks, stem cells that rest."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxevo.drug.schedule import Level
from jaxevo.engines import extinction, meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record, Relapse
from tests.builders import build
from tests.visiting import of

DAYS, CELLS, SEEN = 400.0, 10**4, 1e7
RATES = {"birth_rate": 0.3, "death_rate": 0.15}
MUTATION, KILL = 1e-6, 0.6  # per division; 1/day at the level that is given


def leaking(rate: float, level: float = 1.0) -> Problem:
    """10^4 cells in a sanctuary that the drug does not reach and where growth just balances death; they
    leave for the body at `rate` per day. A resistant cell grows wherever there is room, in the body.
    """
    model = build(
        sites=("sanctuary", "body"), drugs=("x",), targets=("T",), kd={"T": {"x": 1e-6}},
        max_death_rate=KILL, delivered_fraction={"sanctuary": {"x": 0.0}},
        growth_factor={"sanctuary": 0.5}, migration_rate={"sanctuary": {"body": rate}},
        alterations={"resistance": {"first_gain_probability": MUTATION, "kd_fold": {"x": 1e30}}},
        **RATES,
    )  # fmt: skip
    arm = Arm("drug", (), (Level(0, 0.0, DAYS, level),))
    return Problem(
        model, (Founder(CELLS, 0, 0),), (arm,), seed=1, replicates=1, horizon=DAYS, sync=DAYS,
        max_cells=1, record=Record(every=DAYS), relapse=Relapse("detection", SEEN),
    )  # fmt: skip


def relapse(rate: float) -> float:
    """P(relapse) by SciPy: p of a cell, sensitive and resistant, in the sanctuary and in the body.

    With q = 1 - p, backward in time from q = e^{-1/N_det}, one daughter that may mutate:
    -dq/dt = b q ((1 - u) q + u q_mutant) + d + m q_elsewhere - (b + d + m) q.
    """
    inside, outside, d = 0.5 * RATES["birth_rate"], RATES["birth_rate"], RATES["death_rate"]

    def backward(_, q):
        s_in, s_out, r_in, r_out = q
        mixed = lambda s, r: (1 - MUTATION) * s + MUTATION * r  # noqa: E731
        return [
            inside * s_in * mixed(s_in, r_in) + d + rate * s_out - (inside + d + rate) * s_in,
            outside * s_out * mixed(s_out, r_out) + (d + KILL) - (outside + d + KILL) * s_out,
            inside * r_in**2 + d + rate * r_out - (inside + d + rate) * r_in,
            outside * r_out**2 + d - (outside + d) * r_out,
        ]

    start = np.full(4, np.exp(-1 / SEEN))
    q = solve_ivp(backward, (0, DAYS), start, "DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    return -float(np.expm1(CELLS * np.log(q[0])))


LEAKS = (0.0, 0.002, 0.02, 0.2, 20.0)


def test_a_sanctuary_that_leaks_a_little_is_worse_than_one_that_is_closed_or_open():
    """Biology rows 14 and 19. Cells that stay do not relapse, cells that leave at once meet the drug as they
    are; in between they have time to mutate first. The engine against SciPy, and the order of the five.
    """
    found = [of(extinction.simulate(leaking(m)), "relapse_probability")[0, 0, -1] for m in LEAKS]
    expected = [relapse(m) for m in LEAKS]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    best = int(np.argmax(found))
    assert LEAKS[best] in (0.002, 0.02)
    assert found[best] > 5 * found[0]
    assert found[best] > 5 * found[-1]


def test_without_a_drug_the_way_out_of_the_sanctuary_only_helps_the_tumor():
    """The same cells untreated: more of them leave, more of them are seen."""
    found = [
        of(extinction.simulate(leaking(m, 0.0)), "relapse_probability")[0, 0, -1] for m in LEAKS
    ]
    assert np.all(np.diff(found) >= 0)
    assert found[-1] > 0.99


# --- stem cells ------------------------------------------------------------------------------------

REST = 0.05  # how often a stem cell divides, as a share


def hierarchy(division_factor: float, is_cycle_specific: float) -> Problem:
    """Stem cells and their progeny, ten days of a drug that kills, then fifty without."""
    model = build(
        drugs=("x",), targets=("T",), kd={"T": {"x": 1e-24}}, max_death_rate=1.5,
        is_cycle_specific={"T": is_cycle_specific}, birth_rate=0.5, death_rate=0.1,
        alterations={"stem": {
            "inheritance": "epigenetic", "on_rate": 0.0, "off_rate": 0.02,
            "division_factor": division_factor, "natural_death_factor": 0.1,
        }},
    )  # fmt: skip
    arm = Arm("ten days", (), (Level(0, 0.0, 10.0, 1.0),))
    founders = (Founder(10**6, 0, 0), Founder(10**4, 1, 0))
    return Problem(
        model, founders, (arm,), seed=1, replicates=1, horizon=60.0, sync=10.0, max_cells=1,
        record=Record(every=10.0),
    )  # fmt: skip


def cells(division_factor: float, is_cycle_specific: float) -> np.ndarray:
    """Expected progeny and stem cells on days 0, 10, .. 60: [day, class]."""
    found = meanfield.simulate(hierarchy(division_factor, is_cycle_specific))
    return of(found, "class_count")[0, 0, 0]


@pytest.fixture(scope="module")
def resting():
    """Stem cells that divide rarely, under a drug that kills in the cycle."""
    return cells(REST, 1.0)


def test_resting_stem_cells_outlive_a_drug_of_the_cycle_and_repopulate(resting):
    """Biology row 12. The closed form of stem cells through the drug, and the tumor after it."""
    rate = 0.5 * REST - 0.1 * 0.1 - 0.02 - 1.5 * REST
    np.testing.assert_allclose(resting[1, 1], 1e4 * np.exp(10 * rate), rtol=1e-8)
    dividing = cells(1.0, 1.0)
    assert resting[1].sum() > 1e3 > 10 * dividing[1].sum()
    assert resting[6].sum() > 1e6
    assert resting[6].sum() > 10 * dividing[6].sum()


def test_a_drug_that_kills_out_of_the_cycle_reaches_resting_stem_cells(resting):
    """The same ten days: stem cells fall by e^{-15 (1 - .05)} against the drug of the cycle."""
    killed = cells(REST, 0.0)
    np.testing.assert_allclose(killed[1, 1] / resting[1, 1], np.exp(-15 * (1 - REST)), rtol=1e-8)
    assert killed[6].sum() < 0.1 * resting[6].sum()  # what is left of the progeny
