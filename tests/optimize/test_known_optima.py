"""Doses whose optimum is known: published models, closed forms, dense scans by SciPy."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import minimize_scalar

from jaxevo.optimize import goals
from jaxevo.optimize.limits import Limit
from jaxevo.optimize.pattern import one_by_one
from jaxevo.optimize.search import search
from jaxevo.optimize.state import Settings
from tests.models import gompertz_switch, parpi
from tests.models.following import day_of
from tests.optimize import problems
from tests.optimize.problems import Plain

FEW = Settings(descent_steps=50, leaps=0)


# --- V05 -------------------------------------------------------------------------------------------


def net_growth(dose):
    """Of proliferating cells (1/day) where they are few, by the law itself."""
    few = SimpleNamespace(concentration=jnp.reshape(dose, 1), population=jnp.zeros((2, 1)))
    found = parpi.rates(parpi.OVCAR3, jnp.zeros(1), few)
    return found.birth_rate * (1 - 2 * found.symmetric_probability[0])


@pytest.mark.parametrize(
    ("lowest", "best", "share"),
    [
        (5.0, 18.353933115182326, 1.0),
        pytest.param(100.0, 72.34263073862289, 0.7234263, marks=pytest.mark.slow),
    ],
)
def test_v05_the_least_mean_dose_that_stops_growth(lowest, best, share):
    """Strobl et al. 2024: a dose for a share of every cycle, such that few cells do not grow over it.
    Any dose may be given: Dmin, without breaks. Only the full dose: D*, in breaks. (Printed to 1e-9.)
    """
    pattern = one_by_one(np.arange(2), np.array([100.0, 1.0]))
    pattern = pattern._replace(low=np.array([lowest, 0.1]))
    limit = Limit(
        "growth",
        lambda x: jnp.reshape(x[1] * net_growth(x[0]) + (1 - x[1]) * net_growth(0.0), 1),
    )
    found = search(Plain(lambda x: x[0] * x[1]), pattern, (limit,), num_random=5, settings=FEW)
    assert found.is_feasible
    assert found.is_converged
    assert found.value == pytest.approx(best, rel=1e-5)
    assert found.variables[1] == pytest.approx(share, rel=1e-5)


# --- V13 -------------------------------------------------------------------------------------------


def survival(dose: float) -> float:
    """Day on which cells under a constant dose are 5e11, by DOP853 in logs."""
    p = gompertz_switch.PUBLISHED

    def change(_, logs):
        s, r = np.exp(logs)
        speed = -p["growth"] * np.log((s + r) / p["largest"])
        forth, back = p["to_resistant"], p["to_sensitive"]
        return [speed * (1 - dose - forth + back * r / s), speed * (1 + forth * s / r - back)]

    def fatal(_, logs):
        return np.log(np.exp(logs).sum() / gompertz_switch.DEATH)

    fatal.terminal = True
    solved = solve_ivp(
        change, (0, 3000), np.log([1e10, 2e5]), "DOP853", rtol=1e-11, atol=1e-11, events=fatal
    )
    return float(solved.t[-1])


@pytest.mark.slow
def test_v13_the_best_constant_dose():
    """Monro & Gaffney 2009: no constant dose leaves fewer than the fatal 5e11 cells on the day to which
    the best one lets a patient live (734.41, at a dose of 0.7398; the maximum, 2, 464.58).
    """
    scanned = minimize_scalar(
        lambda dose: -survival(dose), bounds=(0.5, 1.0), method="bounded", options={"xatol": 1e-9}
    )
    best, longest = scanned.x, -scanned.fun
    assert max(survival(dose) for dose in np.linspace(0, 2, 81)) < longest
    problem = gompertz_switch.problem((2.0,), horizon=longest, sync=longest)
    goal = goals.goal("burden", problem, problem.arms[0])
    pattern = one_by_one(np.zeros(1, int), np.full(1, 2.0))
    found = search(goal, pattern, num_random=5, settings=FEW)
    assert found.is_converged
    assert found.variables[0] == pytest.approx(best, abs=1e-3)
    assert found.value == pytest.approx(np.log(gompertz_switch.DEATH), abs=1e-6)
    own = gompertz_switch.problem((float(found.variables[0]),), horizon=800.0)
    assert day_of(own, gompertz_switch.is_fatal) == pytest.approx(longest, abs=0.05)


# --- E13 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ec50", "hill", "pieces", "best"),
    [
        pytest.param(1, 1, 70, 2.8, marks=pytest.mark.slow),
        pytest.param(2, 2, 70, 1.4, marks=pytest.mark.slow),
        (2, 4, 112, 1.59565494),
    ],
)
def test_e13_fixed_exposure_under_a_hill_curve(ec50, hill, pieces, best):
    """C* = (h - 1)^(1/h) EC50 for A/C* days where A/T < C*, else constant; the pieces may be any."""
    goal, pattern, limit = problems.hill_pieces(ec50, hill, pieces)
    settings = Settings(leaps=8)
    found = search(goal, pattern, (limit,), num_random=5, seed=3, settings=settings)
    assert found.is_feasible
    assert found.is_converged
    assert best * (1 - 1e-3) < -found.value < best * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("strength", "best"), [(0.5, 1.45436085), (1.0, 0.78756449)])
def test_e13_two_drugs_in_two_phases(strength, best):
    """Martina-Perez et al. 2025, arXiv:2502.12079, with 70 pieces."""
    goal, pattern = problems.two_phases(strength)
    found = search(goal, pattern, num_random=5, seed=1, settings=Settings(leaps=1))
    assert found.is_converged
    assert best * (1 - 1e-3) < found.value < best * (1 + 1e-3)
