"""Hierarchy: probabilities per division of differentiating one daughter, or both."""

import numpy as np
import pytest

from tests.builders import assert_close, assert_same_bits, build, rates

pytestmark = pytest.mark.both_precisions

STEM = {
    "inheritance": "hierarchy",
    "max_level": 2,
    "asymmetric_probability": 0.3,
    "symmetric_probability": 0.125,
}


def test_a_cell_differentiates_until_the_last_level():
    """Level n -> n + 1 with the same a and s at every level below the highest, 0 there."""
    model = build(alterations={"differentiated": STEM})
    for level, share in ((0, 1.0), (1, 1.0), (2, 0.0)):
        found = rates(model, {"differentiated": level})
        assert_close(found.asymmetric_probability, [0.3 * share])
        assert_close(found.symmetric_probability, [0.125 * share])


def test_differentiation_is_neither_mutation_nor_switch():
    """A hierarchy has a step of its own kind, beside those of other alterations."""
    model = build(
        alterations={
            "mutant": {"first_gain_probability": 0.25},
            "differentiated": STEM,
            "asleep": {"inheritance": "epigenetic", "on_rate": 0.5},
        }
    )
    found = rates(model)
    assert model.genome.differentiations == ((1, 1),)
    assert_close(found.mutation_probability, [0.25])
    assert_close(found.switching_rate, [0.5, 0.0])
    assert found.asymmetric_probability.shape == found.symmetric_probability.shape == (1,)


def test_without_a_hierarchy_there_is_no_step_and_no_other_rate_changes_a_bit():
    """Probabilities 0, or no such alteration: births, deaths, mutations as they were."""
    plain = build(alterations={"mutant": {"first_gain_probability": 0.25}})
    never = {"inheritance": "hierarchy"}
    also = build(alterations={"mutant": {"first_gain_probability": 0.25}, "never": never})
    one, two = rates(plain), rates(also)
    assert one.asymmetric_probability.shape == one.symmetric_probability.shape == (0,)
    np.testing.assert_array_equal(two.asymmetric_probability, [0.0])
    np.testing.assert_array_equal(two.symmetric_probability, [0.0])
    for name in ("birth_rate", "death_rate", "mutation_probability", "switching_rate"):
        assert_same_bits(getattr(one, name), getattr(two, name))
