"""Goals and limits: the engine's numbers, gradients as differences, known doses of published models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxevo import host
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines import extinction, meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.engines.grid import arm_course, arm_inputs
from jaxevo.optimize import goals, limits
from jaxevo.optimize.pattern import one_by_one
from jaxevo.optimize.schedule import optimize_schedule
from jaxevo.optimize.search import search
from jaxevo.optimize.state import Settings
from tests.builders import build
from tests.builders import host as build_host
from tests.models import parpi

SHORT = Settings(descent_steps=50, leaps=1)


def study(arm: Arm, horizon: float = 28.0, **options) -> Problem:
    model = build(
        drugs=("a", "b"), targets=("A", "B"), birth_rate=0.4, death_rate=0.1,
        kd={"A": {"a": 1.0}, "B": {"b": 1.0}}, max_death_rate={"A": 0.5, "B": 0.5},
        alterations={
            name: {"gain_probability": 1e-4, "first_gain_probability": 1e-4,
                   "kd_fold": {drug: 30.0}}
            for name, drug in (("p", "a"), ("q", "b"))
        },
        **options,
    )  # fmt: skip
    return Problem(
        model, (Founder(1000, 0, 0),), (arm,), seed=1, replicates=1, horizon=horizon, sync=7.0,
        max_cells=8192, record=Record(every=horizon, concentration_every=horizon),
    )  # fmt: skip


LEVELS = Arm(
    "levels", (),
    tuple(Level(d, 7.0 * k, 7.0 * k + 7, 1.1 + 0.3 * k + 0.7 * d) for k in range(4) for d in range(2)),
)  # fmt: skip


def slope_agrees(value, at, entries, rel=1e-5) -> None:
    """Reverse mode against central differences of fourth order."""
    with jax.enable_x64(True):
        value, at = jax.jit(value), jnp.asarray(at)
        slope = np.asarray(jax.jit(jax.jacrev(value))(at))
        for k in entries:
            step = np.zeros(len(at))
            step[k] = 1e-3 * at[k]
            one, two = (np.asarray(value(at + m * step) - value(at - m * step)) for m in (1, 2))
            difference = (8 * one - two) / (12 * step[k])
            size = np.abs(slope).max()
            np.testing.assert_allclose(slope[..., k], difference, rtol=rel, atol=1e-8 * size)
    assert np.any(slope != 0)


@pytest.mark.parametrize("log_none", [-1e-15, -1e-3, -0.5, -1.5, -40.0, -1e9])
def test_log_odds_keep_their_precision(log_none):
    """ln P - ln(1 - P) in 60 digits would be the same."""
    with jax.enable_x64(True):
        found = float(goals.log_odds(jnp.asarray(log_none)))
        slope = float(jax.grad(goals.log_odds)(jnp.asarray(log_none)))
    relapse = -np.expm1(log_none)
    log_relapse = np.log(relapse) if relapse < 0.6 else np.log1p(-np.exp(log_none))
    assert found == pytest.approx(log_relapse - log_none, rel=1e-14)
    assert slope == pytest.approx(-1 / relapse, rel=1e-12)


def test_the_worst_share_is_the_mean_beyond_a_quantile_and_its_slope_is_right():
    """The worst quarter of eight: the two largest; by differences where values lie close."""
    with jax.enable_x64(True):
        apart = jnp.asarray([3.0, -1.0, 7.0, 2.0, 0.0, 5.0, 1.0, -4.0])
        weights = np.asarray(goals.worst_share(apart, 0.25, 0.05))
        np.testing.assert_allclose(weights, [0, 0, 0.5, 0, 0, 0.5, 0, 0], atol=1e-8)
        np.testing.assert_allclose(goals.worst_share(apart, 1.0, 0.05), np.full(8, 1 / 8))
    close = np.array([1.0, 1.02, 0.95, 1.1, 0.9])
    slope_agrees(lambda v: goals.worst_share(v, 0.4, 0.05) @ v, close, range(5))


@pytest.mark.slow
def test_goals_are_those_of_the_engines():
    """Relapse and mean days without it of `extinction`, burden of `meanfield`; gradients as differences."""
    problem = study(LEVELS)
    at = goals.amounts_of(LEVELS)
    expected = extinction.simulate(problem)[""]
    relapse = expected["relapse_probability"].data[0, 0, -1]
    days = expected["mean_relapse_free_days"].data[0, 0]
    cells = meanfield.simulate(problem)[""]["burden"].data.reshape(-1)[-1]
    top = goals.with_amounts(LEVELS, 2 * at)
    references = {
        "relapse": (np.log(relapse / (1 - relapse)), 1e-8), "free_days": (-days, 1e-3),
        "burden": (np.log(cells), 1e-6),
    }  # fmt: skip
    for kind, (value, rel) in references.items():
        made = goals.goal(kind, problem, top)
        with jax.enable_x64(True):
            assert float(made.value(jnp.asarray(at))) == pytest.approx(value, rel=rel), kind
        slope_agrees(made.value, at, (0, 5))


def test_every_schedule_within_the_largest_amounts_has_a_value():
    """Any pulses of one drug in 12 weeks, the last of which may be followed by none: cells that grow again
    ask for shorter steps than those of which none are left.
    """
    weeks = Arm("weeks", (), tuple(Level(0, 7.0 * k, 7.0 * k + 7, 20.0) for k in range(12)))
    made = goals.goal("relapse", study(weeks, horizon=84.0), weeks)
    pulses = np.random.default_rng(1).integers(0, 2, (40, 12))
    until = np.tri(12)
    with jax.enable_x64(True):
        amounts = jnp.asarray(20.0 * np.concatenate([pulses, until, 1 - until]))
        found, slope = jax.jit(jax.vmap(jax.value_and_grad(made.value)))(amounts)
    assert np.isfinite(found).all()
    assert np.isfinite(slope).all()


def marrow(arm: Arm) -> Problem:
    problem = study(arm, **PHARMACOKINETICS)
    own = build_host(
        problem.model, baseline=5.0, transit_days=5.0, feedback=0.16, slope={"a": 0.2, "b": 0.1}
    )
    return problem._replace(hosts=(own,))


PHARMACOKINETICS = {
    "is_prescribed": 0.0, "clearance": 40.0, "central_volume": 60.0, "absorption_rate": 12.0,
}  # fmt: skip
DOSES = Arm("doses", tuple(Dose(d, 7.0 * k, 50.0 + 9 * k) for k in range(4) for d in range(2)))


def test_the_neutrophil_limit_is_that_of_the_engine_and_its_slope_is_right():
    """Lowest count of the course by `meanfield`; gradients through plasma and marrow to 1e-5."""
    problem, at = marrow(DOSES), goals.amounts_of(DOSES)
    limit = limits.neutrophils(problem, DOSES, 1.5)
    with jax.enable_x64(True):
        rows = np.asarray(limit.value(jnp.asarray(at)))
    given = arm_inputs(problem.model, DOSES, np.arange(0.0, 28.01, 0.125))
    with jax.enable_x64(True):
        blood = jnp.asarray(arm_course(problem.model, given).blood)
        own, pumps = jax.tree.map(jnp.asarray, (problem.hosts[0], problem.model.cellular.transport))
        states = host.course(own, pumps, blood, jnp.asarray(np.diff(given.edges)))
        lowest = float(states.lowest[-1])
    assert 1.5 * np.exp(-rows.max()) == pytest.approx(lowest, rel=5e-3)
    assert lowest < 4
    slope_agrees(limit.value, at, (0, 3, 6))


def test_slopes_of_the_neutrophil_limit_over_two_years():
    """All days by all doses in one pass: central differences of fourth order, and zero before a dose."""
    doses = tuple(Dose(d, 14.0 * k, 60.0 + 3 * k) for k in range(52) for d in range(2))
    arm = Arm("fortnights", doses)
    problem = marrow(arm)._replace(horizon=728.0)
    limit, at = limits.neutrophils(problem, arm, 1.5), goals.amounts_of(arm)
    with jax.enable_x64(True):
        value = jax.jit(limit.value)
        rows, slopes = map(np.asarray, jax.jit(limit.along(np.eye(len(at))))(jnp.asarray(at)))
        np.testing.assert_array_equal(rows, value(jnp.asarray(at)))
        for k in (0, 41, 103):
            step = np.zeros(len(at))
            step[k] = 1e-3 * at[k]
            one, two = (np.asarray(value(at + m * step) - value(at - m * step)) for m in (1, 2))
            found = (8 * one - two) / (12 * step[k])
            np.testing.assert_allclose(slopes[:, k], found, rtol=1e-5, atol=1e-8 * slopes.max())
            before = int(doses[k].day)
            assert np.all(slopes[:before, k] == 0)
            assert slopes[before:, k].max() > 1e-4
    assert len(rows) == 728


def test_the_highest_doses_that_the_marrow_bears_are_those_of_scipy():
    """As much as may be of both drugs, weighted, in four weeks; SLSQP from 5 % less finds no more."""
    problem, most = marrow(DOSES), np.full(8, 400.0)
    limit = limits.neutrophils(problem, DOSES, 1.5)
    worth = 1 + 0.1 * np.arange(8)
    goal = goals.Goal(lambda x: -(jnp.asarray(worth) @ x) / 400)
    pattern = one_by_one(np.tile([0, 1], 4), most)
    settings = Settings(leaps=0, curved_tolerance=1e-6)
    found = search(goal, pattern, (limit,), num_random=2, settings=settings)
    assert found.is_feasible
    assert found.is_converged
    assert found.starts["is_converged"].all()
    slack, multiplier = found.slack["neutrophils"], found.multiplier["neutrophils"]
    assert 0 <= slack.min() < 1e-6
    assert np.all(multiplier >= 0)
    assert np.all(multiplier * slack < 1e-4)
    with jax.enable_x64(True):
        both = jax.jit(limit.along(np.eye(8)))
        expected = optimize.minimize(
            lambda u: -worth @ u, 0.95 * found.variables / 400, jac=lambda _: -worth,
            bounds=[(0, 1)] * 8, method="SLSQP", options={"ftol": 1e-8, "maxiter": 300},
            constraints={
                "type": "ineq", "fun": lambda u: -np.asarray(both(400 * u)[0]),
                "jac": lambda u: -400 * np.asarray(both(400 * u)[1]),
            },
        )  # fmt: skip
    assert expected.success
    assert found.value == pytest.approx(expected.fun, rel=1e-6)


def test_a_level_of_neutrophils_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="between 0 and the baseline 5"):
        limits.neutrophils(marrow(DOSES), DOSES, 6.0)
    with pytest.raises(ValueError, match="needs a marrow"):
        limits.neutrophils(study(LEVELS), LEVELS, 1.0)


@pytest.mark.slow
def test_a_schedule_is_found_within_its_limits_and_on_existing_doses():
    """Levels of two drugs, 6 uM in each week together: better than the arm, and no limit is broken."""
    problem = study(LEVELS)
    week = np.repeat(np.arange(4), 2)
    limit = limits.per_cycle("week", week, 3.0)
    result = optimize_schedule(
        problem, 0, most=3.0, limits=(limit,), steps=np.full(8, 0.5), num_random=1, settings=SHORT
    )
    assert result.found.is_feasible
    assert np.all(result.found.slack["week"] >= 0)
    assert result.rounded.is_feasible
    amounts = goals.amounts_of(result.rounded_arm)
    np.testing.assert_allclose(amounts % 0.5, 0, atol=1e-12)
    assert np.all(np.bincount(week, amounts) <= 3 + 1e-12)
    with jax.enable_x64(True):
        half = np.full(8, 1.5)
        usual = float(result.goal.value(jnp.asarray(half)))
    assert result.found.value <= result.rounded.value + 1e-6
    assert result.rounded.value <= usual + 1e-9
    again = extinction.simulate(problem._replace(arms=(result.arm,)))[""]
    p = again["relapse_probability"].data[0, 0, -1]
    assert result.found.value == pytest.approx(np.log(p / (1 - p)), rel=1e-6)


@pytest.mark.slow
def test_v05_the_dose_that_stops_growth():
    """Strobl et al. 2024: Dmin = (EC50^n/(2 alpha - 1))^(1/n), the least dose under which a small tumor
    does not grow from day 60 to day 90, when arrested cells have settled to 0.2 %.
    """
    made = []
    for horizon in (60.0, 90.0):
        levels = (Level(0, 0.0, horizon, 40.0),)
        problem = parpi.problem({"low": levels}, 1e-8, horizon, 1e12, sync=15.0)
        made.append(goals.goal("burden", problem, problem.arms[0]))
    limit = limits.Limit(
        "growth", lambda x: jnp.reshape(made[1].value(x) - made[0].value(x), 1) / 30
    )
    pattern = one_by_one(np.zeros(1, int), np.array([40.0]))._replace(low=np.array([15.0]))
    settings = Settings(descent_steps=25, leaps=0)
    found = search(goals.Goal(lambda x: x[0]), pattern, (limit,), num_random=1, settings=settings)
    assert found.is_feasible
    assert found.value == pytest.approx(18.353933115182326, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "share", "sentence"),
    [("cure", 1.0, "expected one of relapse, free_days, burden"), ("relapse", 0.0, "at most 1")],
)
def test_unknown_goals_are_refused(kind, share, sentence):
    with pytest.raises(ValueError, match=sentence):
        goals.goal(kind, study(LEVELS), LEVELS, share=share)


def test_an_arm_without_entries_has_nothing_to_decide():
    with pytest.raises(ValueError, match="gives nothing"):
        optimize_schedule(study(Arm("none", ())), 0)
