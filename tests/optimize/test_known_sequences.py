"""Sequences whose optimum is known: exhaustive search is never better than the exchanged one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.optimize.rounding import rounded
from jaxevo.optimize.search import Settings, search
from tests.optimize import problems
from tests.optimize.problems import Precision

LEVELS = (0.0, 0.5, 1.0)
SHORTEST = Settings(descent_steps=25, polish_chunks=1, leaps=0)
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


@pytest.mark.slow
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
