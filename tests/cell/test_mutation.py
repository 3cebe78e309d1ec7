"""Mutation and amplification: probabilities per division."""

import numpy as np
import pytest
from scipy.linalg import expm

from tests.builders import assert_close, build, in_double, rates

pytestmark = pytest.mark.both_precisions

TOP = 60  # copies; from 10 copies no more are reached with a probability that counts
AMPLIFIED = {
    "inheritance": "amplification",
    "max_level": TOP,
    "gain_probability": 0.02,
    "loss_probability": 0.10,
}


def test_a_mutation_is_gained_with_its_probability_and_never_lost():
    """n -> n + 1 with u up to the top level; the top level gains nothing."""
    point = {"first_gain_probability": 1e-7, "gain_probability": 1e-5, "max_level": 2}
    model = build(alterations={"point": point})
    gains = [rates(model, {"point": n}).mutation_probability for n in (0, 1, 2)]
    assert [g.shape for g in gains] == [(1,)] * 3
    assert_close(np.ravel(gains), [1e-7, 1e-5, 0.0])


def test_amplification_goes_both_ways_between_no_copy_and_the_top():
    """Gain and loss per division; nothing to lose at 0, nothing to gain at the top."""
    model = build(alterations={"none": {}, "copies": {**AMPLIFIED, "first_gain_probability": 1e-6}})
    steps = model.genome.mutations
    assert [(s.alteration, s.change) for s in steps] == [(0, 1), (1, 1), (1, -1)]
    for level, gain, loss in ((0, 1e-6, 0.0), (1, 0.02, 0.10), (TOP, 0.0, 0.10)):
        assert_close(rates(model, {"copies": level}).mutation_probability, [0.0, gain, loss])


def test_genetic_instability_multiplies_every_probability():
    """That of the study and that of the cell, alike for mutations and copies, in any genotype."""
    model = build(
        genetic_instability=3.0,
        alterations={
            "mutator": {"mutation_factor": 10.0, "max_level": 2},
            "point": {"first_gain_probability": 1e-7},
            "copies": {**AMPLIFIED, "gain_probability": 1e-3, "loss_probability": 1e-4},
        },
    )
    for level in (0, 1, 2):
        now = rates(model, {"mutator": level, "copies": 4}).mutation_probability
        assert_close(now, 3.0 * 10.0**level * np.array([0.0, 1e-7, 1e-3, 1e-4]))


def test_an_epigenetic_alteration_is_no_step_of_a_division():
    """Switches have rates, not probabilities per division; without mutations the list is empty."""
    model = build(alterations={"switch": {"inheritance": "epigenetic", "on_rate": 1.0}})
    assert rates(model).mutation_probability.shape == (0,)
    assert model.genome.mutations == ()


def daughter_law(mutating_daughters: str) -> np.ndarray:
    """[to, from] law of the copies of the daughter that may change."""
    model = build(alterations={"copies": AMPLIFIED}, mutating_daughters=mutating_daughters)
    law = np.zeros((TOP + 1, TOP + 1))
    for n in range(TOP + 1):
        gain, loss = np.asarray(rates(model, {"copies": n}).mutation_probability)
        law[n, n] = 1 - gain - loss
        if n < TOP:
            law[n + 1, n] = gain
        if n > 0:
            law[n - 1, n] = loss
    return law


@in_double
def test_amplified_copies_are_lost_without_drug_where_both_daughters_change():
    """Case E09 (rates of Kimmel & Axelrod 1990, Genetics 125:633): resistant share after synchronous
    divisions in which each daughter gains with .02 and loses with .10.
    """
    law = daughter_law("both")
    expected = {
        1: {10: 0.38605209, 20: 0.17800365, 50: 0.02966022, 100: 0.00285509, 200: 5.336e-5},
        10: {10: 1.0, 20: 0.99999405, 50: 0.98515538, 100: 0.66172215, 200: 0.07031744},
    }
    for start, shares in expected.items():
        for divisions, share in shares.items():
            copies = np.linalg.matrix_power(law, divisions)[:, start]
            np.testing.assert_allclose(1 - copies[0], share, rtol=1e-4)


@in_double
def test_amplified_copies_are_lost_without_drug_where_one_daughter_changes():
    """Case E09, the default of jaxevo: one daughter changes, in continuous time; after n ln 2/b the
    share is .523312, .296666, .074437 for n = 10, 20, 50.
    """
    law = daughter_law("one")
    for doublings, share in ((10, 0.523312), (20, 0.296666), (50, 0.074437)):
        cells = expm(law * doublings * np.log(2))[:, 1]
        np.testing.assert_allclose(1 - cells[0] / cells.sum(), share, rtol=1e-5)
