"""The exponential of a matrix against SciPy's, and its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from jaxevo.exponential import exponential
from tests.builders import in_double


@in_double
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e3])
def test_it_is_scipys(size):
    """Compartments that pass on what they have, with losses; 200 at a time; to 1e-12 of the largest."""
    rng = np.random.default_rng(3)
    matrices = rng.exponential(size=(200, 7, 7)) * size
    loss = matrices.sum(axis=1) * rng.uniform(1.0, 1.5, (200, 7))
    matrices[:, range(7), range(7)] -= loss
    found = np.asarray(jax.jit(jax.vmap(exponential))(jnp.asarray(matrices)))
    expected = np.stack([linalg.expm(m) for m in matrices])
    assert np.max(np.abs(found - expected)) < 1e-12
    assert np.all(np.isfinite(found))


@in_double
def test_nothing_moves_where_no_rate_is():
    """e^0 = 1 to the bit; an eigenvalue of 0 beside a fast one keeps its amount to the bit."""
    assert np.array_equal(exponential(jnp.zeros((4, 4))), np.eye(4))
    assert np.asarray(exponential(jnp.diag(jnp.array([0.0, -50.0]))))[0, 0] == 1.0


@in_double
def test_its_derivative_is_that_of_scipy():
    """Reverse mode against the Frechet derivative."""
    rng = np.random.default_rng(4)
    matrix, direction = rng.normal(size=(2, 5, 5)) * 3
    gradient = jax.grad(lambda m: jnp.sum(exponential(m) * jnp.asarray(direction)))
    expected = linalg.expm_frechet(matrix.T, direction)[1]
    np.testing.assert_allclose(gradient(jnp.asarray(matrix)), expected, rtol=1e-10)
