"""Doses that exist: exhaustive search over all sequences is never better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.optimize.limits import total
from jaxevo.optimize.pattern import one_by_one
from jaxevo.optimize.rounding import rounded
from jaxevo.optimize.search import Settings, search
from tests.optimize import problems
from tests.optimize.problems import Plain, Precision

LEVELS = (0.0, 0.5, 1.0)
SHORTEST = Settings(descent_steps=25, polish_chunks=1, leaps=0)
SHORT = Settings(descent_steps=50, polish_chunks=4, leaps=1)
CURED = Precision.of(5e9, 500, 500, 0.0487, 21.428, 0.42856, 0, 0.0037285, 1e-3, 4.642e-5)
HELD = Precision.of(4.495e9, 5e6, 5e8, 0.0184, 0.8428, 0.8428, 0, 0.00077084, 1e-7, 4.642e-9)


def best_sequence(patient: Precision):
    """Searched and rounded, and the best of all 6,561."""
    goal, pattern = patient.goal(), problems.of_windows()
    found = search(goal, pattern, seed=1, num_random=3, settings=SHORTEST)
    with jax.enable_x64(True):
        on_levels = patient.goal_on(LEVELS)
        near = rounded(on_levels, pattern, (), found, np.full(8, 0.5), others=2)
        exact = float(goal.value(jnp.asarray(near.variables)))
        assert near.value == pytest.approx(exact, abs=1e-8)
        return near, problems.exhaustive(on_levels, LEVELS)


def test_v03_the_smallest_tumor():
    """Beckman et al. 2012, patient 27628477: 636.521 cells by D1, then D2 seven times."""
    near, (best, sequence) = best_sequence(HELD)
    np.testing.assert_array_equal(near.variables, [1, *(0,) * 7])
    np.testing.assert_array_equal(near.variables, sequence)
    assert near.value == pytest.approx(best, abs=1e-9)
    with jax.enable_x64(True):
        cells = np.asarray(HELD.course(jnp.asarray(near.variables)))[-1]
    assert np.log(cells.sum()) == pytest.approx(np.log(636.521), abs=1e-4)
    assert np.log(cells[3]) == pytest.approx(np.log(634.203), abs=1e-4)


@pytest.mark.slow
def test_v03_the_cure():
    """Beckman et al. 2012, patient 13755572: cured on day 52 by half of both, then D2."""
    near, (best, _) = best_sequence(CURED)
    np.testing.assert_array_equal(near.variables[:2], [0.5, 0.0])
    assert near.value == pytest.approx(best, abs=1e-9)
    with jax.enable_x64(True):
        cells = np.asarray(CURED.course(jnp.asarray(near.variables)))
    assert 1 + int(np.argmax(np.all(cells < 1, axis=1))) == 52


@pytest.mark.parametrize("seed", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3))])
def test_no_sequence_of_eight_windows_is_better_than_the_exchanged_one(seed):
    """Random patients: 3 levels, 8 windows, all 6,561 sequences."""
    near, (best, _) = best_sequence(problems.random_precision(seed))
    assert near.value <= best + 1e-9 * abs(best)


def bowl(center):
    return Plain(lambda x: jnp.sum((x - center) ** 2))


def test_rounded_doses_exist_and_keep_the_limits():
    """Nearest multiples would be 12; 10 are allowed: the cheapest are lowered, none goes below 0."""
    pattern = one_by_one(np.zeros(3, int), np.full(3, 6.0))
    limit = total("sum", np.ones((1, 3)), np.array([10.0]))
    goal = bowl(np.array([4.1, 4.4, 3.8]))
    found = search(goal, pattern, (limit,), num_random=2, settings=SHORT)
    near = rounded(goal, pattern, (limit,), found, np.array([2.0, 2.0, 0.0]))
    assert near.is_feasible
    np.testing.assert_allclose(near.variables[:2] % 2, 0, atol=1e-12)
    assert near.slack["sum"] >= 0
    assert near.value >= found.value - 1e-9


def test_a_trade_is_found_where_no_single_move_helps():
    """A sum that must be 1 exactly in steps of 1: only an exchange leads from (1, 0) to (0, 1)."""
    pattern = one_by_one(np.zeros(2, int), np.ones(2))
    goal = Plain(lambda x: 100 * (x[0] + x[1] - 1) ** 2 + x[0] + 0.5 * x[1])
    found = search(goal, pattern, num_random=1, settings=SHORT)
    from_worse = found._replace(variables=np.array([1.0, 0.0]))
    near = rounded(goal, pattern, (), from_worse, np.ones(2), others=0)
    np.testing.assert_array_equal(near.variables, [0, 1])


def test_what_no_dose_can_keep_is_not_called_feasible():
    """A limit that even the lowest doses break."""
    pattern = one_by_one(np.zeros(2, int), np.full(2, 4.0))._replace(low=np.full(2, 2.0))
    limit = total("sum", np.ones((1, 2)), np.array([3.0]))
    found = search(bowl(np.ones(2)), pattern, (limit,), num_random=2, settings=SHORT)
    near = rounded(bowl(np.ones(2)), pattern, (limit,), found, np.full(2, 1.0))
    assert not found.is_feasible
    assert not found.is_converged
    assert not near.is_feasible


@pytest.mark.parametrize("steps", [np.array([-1.0, 1.0]), np.ones(3)])
def test_steps_that_make_no_sense_are_refused(steps):
    pattern = one_by_one(np.zeros(2, int), np.ones(2))
    found = search(bowl(np.ones(2)), pattern, num_random=1, settings=SHORT)
    with pytest.raises(ValueError, match="2 steps, none below 0"):
        rounded(bowl(np.ones(2)), pattern, (), found, steps)
