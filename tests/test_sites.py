"""Sites: crowding laws."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo.model import cast
from jaxevo.sites import CROWDINGS, crowding_factor
from tests import builders
from tests.builders import assert_close, build

pytestmark = pytest.mark.both_precisions

SITES = ("lung", "brain", "elsewhere")
ROOM = {"lung": 1e6, "brain": 1e3}  # elsewhere: no capacity


def crowding(law: str, cells) -> np.ndarray:
    """Factors on births at the three sites, from the cells there."""
    params = cast(build(sites=SITES, crowding=law, capacity=ROOM).sites, builders.real())
    return np.asarray(crowding_factor(params, jnp.asarray(cells, builders.real())))


def test_logistic_crowding_falls_linearly_to_zero_at_capacity():
    """max(0, 1 - N/K), by site; no births over capacity."""
    factor = crowding("logistic", [2.5e5, 1e3, 1e9])
    assert_close(factor, [0.75, 0.0, 1.0])
    assert crowding("logistic", [5e6, 2e3, 0.0])[0] == 0.0


def test_gompertz_crowding_falls_with_the_logarithm():
    """max(0, ln(K/N)/ln K): 1 for one cell, 1/2 at the root of K, 0 at K."""
    assert_close(crowding("gompertz", [1e3, 1.0, 1e9]), [0.5, 1.0, 1.0])
    full = crowding("gompertz", [1e6, 1e4, 0.0])
    assert abs(full[0]) < 1e-6
    assert full[1] == 0.0


@pytest.mark.parametrize("law", CROWDINGS)
def test_an_empty_tumor_and_a_site_without_capacity_grow_freely(law):
    """N = 0 or K infinite: factor 1, exactly."""
    np.testing.assert_array_equal(crowding(law, [0.0, 0.0, 1e12]), 1.0)


def test_without_crowding_births_do_not_feel_the_cells():
    """Factor 1, whatever is there."""
    np.testing.assert_array_equal(crowding("none", [1e9, 1e9, 1e9]), 1.0)


@pytest.mark.parametrize("law", CROWDINGS)
def test_many_tumors_are_many_times_one(law):
    """Leading axes are tumors; each has the factors that it has alone."""
    cells = np.array([[1e3, 30.0, 5.0], [9e5, 999.0, 0.0]])
    np.testing.assert_array_equal(crowding(law, cells), [crowding(law, c) for c in cells])


@given(few=st.floats(0, 1e7), more=st.floats(0, 1e7), law=st.sampled_from(CROWDINGS))
def test_more_cells_never_ease_the_crowd(few, more, law):
    """Monotone and within 0..1."""
    before = crowding(law, [few, few, few])
    after = crowding(law, [few + more] * 3)
    assert np.all((after >= 0) & (after <= before) & (before <= 1))
