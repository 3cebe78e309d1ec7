"""Safety: drugs are held, reduced and supported by the neutrophils."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo.treatment.safety import hold_and_reduce
from tests.treatment.watched import answers, refused

pytestmark = pytest.mark.both_precisions

DRUGS = ("docetaxel", "tamoxifen", "filgrastim")
counts = st.lists(st.sampled_from([0.1, 0.5, 0.9, 1.2, 1.5, 3.0]), min_size=10, max_size=10)


def factors(neutrophils, drugs=("x",), **parameters) -> np.ndarray:
    """[visit, drug] what is left of every dose."""
    rule = hold_and_reduce(drugs=drugs, **parameters)
    observed = {"neutrophils": np.asarray(neutrophils, float)}
    return answers(rule, drugs=len(drugs), safety=True, **observed)[0]


def test_a_drug_is_held_at_grade_4_and_goes_on_at_grade_1_with_a_quarter_less():
    """Held from below 0.5e9/L until 1.5e9/L; each hold takes 25 % of what was left."""
    neutrophils = [5, 0.5, 0.49, 0.8, 1.49, 1.5, 3, 0.1, 2, 2]
    expected = [1, 1, 0, 0, 0, 0.75, 0.75, 0, 0.5625, 0.5625]
    np.testing.assert_allclose(factors(neutrophils)[:, 0], expected)


def test_nothing_is_held_below_grade_4():
    """Grade 3 for months changes no dose."""
    np.testing.assert_array_equal(factors([5, 1, 0.5, 0.6, 0.5, 4]), 1)


def test_grades_and_reduction_are_the_users():
    """Hold at grade 3, go on at grade 2, a fifth less."""
    given = factors([1.0, 0.99, 0.99, 1.0, 1.2], hold_grade=3, resume_grade=2, reduction=0.2)
    np.testing.assert_allclose(given[:, 0], [1, 0, 0, 0.8, 0.8], rtol=1e-6)


def test_a_hold_that_begins_when_the_last_one_ends_is_another_one():
    """With hold at grade 2 and resume at 1 the two levels are one: each way is asked once a visit."""
    given, state = answers(
        hold_and_reduce(drugs=("x",), hold_grade=2, resume_grade=1), safety=True,
        neutrophils=[1.4, 1.5, 1.4, 1.6],
    )  # fmt: skip
    np.testing.assert_allclose(given[:, 0], [0, 0.75, 0, 0.5625])
    assert state.holds.tolist() == [1, 1, 2, 2]


def test_only_the_drugs_that_are_named_are_held_and_support_begins_with_the_first_grade_4():
    """A hormone is given on; G-CSF waits until it is called for and then stays."""
    given = factors([5, 0.9, 0.4, 2, 5], DRUGS, held=("docetaxel",), supportive=("filgrastim",))
    np.testing.assert_allclose(given[:, 0], [1, 1, 0, 0.75, 0.75])
    np.testing.assert_array_equal(given[:, 1], 1)
    np.testing.assert_array_equal(given[:, 2], [0, 0, 1, 1, 1])


def test_support_may_begin_earlier_than_a_hold():
    """From grade 3 on; nothing is held."""
    given = factors([5, 0.9, 2], DRUGS, supportive=("filgrastim",), support_grade=3)
    np.testing.assert_array_equal(given, [[1, 1, 0], [1, 1, 1], [1, 1, 1]])


def test_by_default_all_drugs_but_the_supportive_ones_are_held():
    """Unless `held` names them."""
    given = factors([0.1], DRUGS, supportive=("filgrastim",))
    np.testing.assert_array_equal(given, [[0, 0, 1]])


@given(counts)
def test_no_factor_is_above_1_and_no_held_drug_is_given_below_the_level(neutrophils):
    """0 <= factor <= 1, never rising after a hold; 0 at every visit with grade 4."""
    given = factors(neutrophils)[:, 0]
    assert given.min() >= 0
    assert given.max() <= 1
    np.testing.assert_array_equal(given[np.array(neutrophils) < 0.5], 0)
    full = given[given > 0]
    assert (np.diff(full) <= 0).all()


REFUSED = [
    ({"held": ("y",)}, "held names 'y'; the drugs of the study are x"),
    ({"supportive": ("z",)}, "supportive names 'z'; the drugs of the study are x"),
    ({"held": ("x",), "supportive": ("x",)}, "supportive names 'x', which is held too"),
    ({"hold_grade": 5}, "hold_grade is 5; it must be from 1 to 4"),
    ({"support_grade": 0}, "support_grade is 0; it must be from 1 to 4"),
    ({"resume_grade": 4}, "resume_grade is 4; it must be from 0 to below hold_grade (4)"),
    ({"reduction": 1.1}, "reduction is 1.1; it must be from 0 to 1"),
]


@pytest.mark.parametrize(("parameters", "sentence"), REFUSED)
def test_what_makes_no_rule_is_refused(parameters, sentence):
    """One sentence that says what is wrong."""
    assert refused(hold_and_reduce, drugs=("x",), **parameters).startswith(sentence)
