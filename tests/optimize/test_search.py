"""The search: optimality by SciPy, known optima, and states that go on with the same bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxevo.optimize.limits import Limit, total
from jaxevo.optimize.pattern import one_by_one, random, single_drugs
from jaxevo.optimize.search import search
from jaxevo.optimize.state import Settings
from tests.optimize import problems
from tests.optimize.problems import Plain

FEW = Settings(leaps=0)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_convex_problem_has_the_minimum_and_multipliers_of_scipy(seed):
    """SLSQP, and Karush, Kuhn and Tucker: stationary, feasible, complementary, multipliers >= 0."""
    goal, pattern, limit, matrix, center = problems.random_convex(seed)
    found = search(goal, pattern, (limit,), num_random=2, seed=seed, settings=FEW)
    with jax.enable_x64(True):
        value = lambda x: float(goal.value(jnp.asarray(x)))  # noqa: E731
        rows = lambda x: np.asarray(limit.value(jnp.asarray(x)))  # noqa: E731
        expected = optimize.minimize(
            value, np.full(len(center), 0.1), method="SLSQP", bounds=[(0, 1)] * len(center),
            jac=lambda x: matrix @ (x - center),
            constraints={"type": "ineq", "fun": lambda x: -rows(x)},
            options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        share = np.asarray(jax.jacobian(limit.value)(jnp.asarray(found.amounts)))
    assert found.is_feasible
    assert found.is_converged
    assert found.value == pytest.approx(expected.fun, rel=1e-6)
    np.testing.assert_allclose(found.variables, expected.x, atol=2e-4)
    multiplier, slack = found.multiplier["sums"], found.slack["sums"]
    assert np.all(slack >= 0)
    assert np.all(multiplier >= 0)
    assert multiplier.max() > 0.1  # some limit binds, or the test shows nothing
    assert np.all(multiplier * slack < 1e-4)
    slope = matrix @ (found.variables - center) + multiplier @ share
    low, high = found.variables < 1e-6, found.variables > 1 - 1e-6  # drawn back by less than that
    held = low & (slope > 0) | high & (slope < 0)
    assert np.abs(slope[~held]).max() < 1e-4
    assert np.abs(slope[~held]).max() <= 2 * found.gradient_norm + 1e-5


def test_stop_and_resume_gives_the_same_bits(tmp_path):
    """Stopped after every chunk, and gone on from its file each time."""
    goal, pattern, limit = problems.hill_pieces(2, 2, 12)
    settings = Settings(descent_steps=10, leaps=1, chunk=5)
    options = {"num_random": 2, "seed": 5, "settings": settings}
    whole = search(goal, pattern, (limit,), **options)
    saved, chunks = tmp_path / "search.npz", len(whole.history["stage"])
    cut = search(goal, pattern, (limit,), **options, saved=saved, should_stop=lambda: True)
    assert not cut.is_converged
    assert len(cut.history["stage"]) == 1 < chunks
    seen = []
    left = iter([False, True] + [False] * chunks)
    search(goal, pattern, (limit,), **options, saved=saved, should_stop=lambda: next(left))
    resumed = search(goal, pattern, (limit,), **options, saved=saved, progress=seen.append)
    assert 0 < len(seen) < chunks
    for name in ("amounts", "variables", "value", "gradient_norm"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    for name, values in whole.history.items():
        np.testing.assert_array_equal(resumed.history[name], values)
    with pytest.raises(ValueError, match="state of another search"):
        search(goal, one_by_one(np.zeros(3, int), np.ones(3)), num_random=2, saved=saved)
    with pytest.raises(ValueError, match="state of another search"):
        search(Plain(jnp.sum), pattern, (limit,), **options, saved=saved)


def test_what_is_found_is_never_worse_than_a_start():
    """A dent a hundredth wide at .5, which the first steps of Adam leave for the slope around it."""
    pattern = one_by_one(np.zeros(1, int), np.ones(1))
    goal = Plain(lambda x: x[0] - 6 * jnp.exp(-(((x[0] - 0.5) / 0.01) ** 2)))
    found = search(goal, pattern, starts=np.array([[0.5]]), num_random=0, settings=FEW)
    assert found.starts["value"][0] > -1
    assert found.value <= -5.5


def test_a_limit_that_nothing_keeps_is_reported():
    """g = 1 + x is never 0 or less: not feasible, not converged, the violation as negative slack."""
    pattern = one_by_one(np.zeros(1, int), np.ones(1))
    limit = Limit("never", lambda x: 1 + x)
    settings = Settings(descent_steps=25, polish_chunks=2)
    found = search(Plain(jnp.sum), pattern, (limit,), num_random=1, settings=settings)
    assert not found.is_feasible
    assert not found.is_converged
    assert found.slack["never"][0] <= -1


def test_a_goal_that_is_nan_somewhere_is_never_taken():
    """NaN for more than 0.6; the minimum of the rest is at its edge."""
    pattern = one_by_one(np.zeros(1, int), np.ones(1))
    goal = Plain(lambda x: jnp.where(x[0] > 0.6, jnp.nan, -x[0]))
    found = search(goal, pattern, starts=np.array([[0.1], [0.9]]), num_random=0, settings=FEW)
    assert found.is_feasible
    assert 0.5 < found.variables[0] <= 0.6


def test_starts_are_wide_and_of_the_seed_alone():
    """Few variables are raised in the first start, most in the last; another seed, other starts."""
    pattern = one_by_one(np.repeat([0, 1], 50), np.full(100, 4.0))
    with jax.enable_x64(True):
        one, same, other = (random(pattern, seed, 6) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, same)
    assert np.all(one[:, 0] >= 0)
    assert np.all(one <= 4)
    assert (one != other).any(axis=1).all()
    raised = (one > 0).mean(axis=1)
    assert raised[0] < 0.35
    assert raised[-1] > 0.65
    alone = single_drugs(pattern, 0.5)
    np.testing.assert_array_equal(alone, 2.0 * np.repeat(np.eye(2), 50, axis=1))


def test_bad_input_is_one_sentence():
    pattern = one_by_one(np.zeros(2, int), np.array([1.0, -1.0]))
    goal = Plain(jnp.sum)
    with pytest.raises(ValueError, match=r"variable 1 may be from 0 to -1"):
        search(goal, pattern)
    fine = one_by_one(np.zeros(2, int), np.ones(2))
    with pytest.raises(ValueError, match="at least one start"):
        search(goal, fine, num_random=0)
    with pytest.raises(ValueError, match="starts have 3 variables; the pattern has 2"):
        search(goal, fine, starts=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="expected a total above 0"):
        total("sum", np.ones((1, 2)), np.zeros(1))
