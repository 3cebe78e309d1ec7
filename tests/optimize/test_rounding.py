"""Doses that exist: within limits, by single moves and trades, from what a search has found."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.optimize.limits import total
from jaxevo.optimize.pattern import one_by_one
from jaxevo.optimize.rounding import rounded
from jaxevo.optimize.search import search
from jaxevo.optimize.state import Found, Settings
from tests.optimize.problems import Plain

SHORT = Settings(descent_steps=50, polish_chunks=4, leaps=1)


def bowl(center):
    return Plain(lambda x: jnp.sum((x - center) ** 2))


def as_found(variables) -> Found:
    """What a search would hand on, without one."""
    none, row = {}, np.asarray(variables, float)
    each = {"value": np.zeros(0), "is_feasible": np.zeros(0, bool), "variables": row[None, :0]}
    return Found(row, row, 0.0, none, none, True, True, 0.0, none, each)


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
    near = rounded(goal, pattern, (), as_found([1, 0]), np.ones(2))
    np.testing.assert_array_equal(near.variables, [0, 1])


def test_a_sum_that_is_met_but_for_the_last_digit_is_met():
    """Seven tenths in a sum of .7, which is 2e-16 more in floating point: none is thrown away."""
    pattern = one_by_one(np.zeros(7, int), np.full(7, 0.1))
    limit = total("sum", np.ones((1, 7)), np.array([0.7]))
    goal = Plain(lambda x: -jnp.sum(x))
    near = rounded(goal, pattern, (limit,), as_found(np.full(7, 0.1)), np.full(7, 0.1))
    np.testing.assert_array_equal(near.variables, np.full(7, 0.1))
    assert near.is_feasible
    assert near.is_converged
    assert near.slack["sum"] == 0
    assert np.isnan(near.gradient_norm)


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
    with pytest.raises(ValueError, match="2 steps, none below 0"):
        rounded(bowl(np.ones(2)), pattern, (), as_found([1, 1]), steps)
