"""Damage: DNA repair against drugs and radiation."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.drug import damage
from jaxevo.model import cast
from tests import builders
from tests.builders import assert_close, assert_same_bits, build, in_double, over_doses

pytestmark = pytest.mark.both_precisions

DRUGS = {
    "drugs": ("cisplatin", "gefitinib"),
    "targets": ("DNA", "EGFR"),
    "kd": {"DNA": {"cisplatin": 1.0}, "EGFR": {"gefitinib": 1.0}},
    "is_dna": {"DNA": 1.0},
    "max_death_rate": 1.0,
    "death_rate": 0.0,
    "alpha": 0.3,
    "beta": 0.03,
    "alterations": {
        "repair": {"repair_factor": 3.0, "max_level": 2},
        "resting": {"radiation_factor": 0.5, "division_factor": 0.1},
    },
}


def survival(model, dose: float, repair: int = 0, resting: int = 0) -> np.ndarray:
    """Probability to survive one fraction."""
    params = cast(model.cellular.damage, builders.real())
    levels = {"repair": repair, "resting": resting}
    cell = builders.traits(model, levels if model.genome.names else None)
    return np.asarray(damage.radiation_survival(params, cell, jnp.asarray(dose, builders.real())))


def test_repair_divides_the_damage_per_exposure():
    """Biology row 9: the odds of damage are divided by rho, so that EC50 is multiplied by it."""
    model = build(**DRUGS)
    for level in (0, 1, 2):
        doses = np.array([0.1, 1.0, 9.0])
        effect = over_doses(model, doses[:, None] * [1.0, 0.0], {"repair": level}).death_rate
        assert_close(effect, doses / (doses + 3.0**level))


def test_repair_does_nothing_against_a_drug_that_leaves_dna_alone():
    """Biology row 9: acts on DNA-damaging drugs and on radiation only; others keep every bit."""
    model = build(**DRUGS)
    doses = [(0.0, 0.3), (0.0, 44.0)]
    normal, repaired = (over_doses(model, doses, {"repair": n}).death_rate for n in (0, 2))
    assert_same_bits(repaired, normal)
    assert np.all(normal > 0)


def test_a_repair_factor_of_one_changes_no_bit():
    """With the mechanism off a DNA target answers as any other."""
    doses = [(10.0**e, 0.0) for e in range(-6, 7)]
    no_dna = build(**{**DRUGS, "is_dna": 0.0})
    assert_same_bits(over_doses(build(**DRUGS), doses), over_doses(no_dna, doses))


def test_repair_keeps_its_digits_where_little_is_left():
    """At odds of damage of 1e6 and an effect at half of it, S' = rho S/(1 - S + rho S) in full."""
    model = build(**{**DRUGS, "death_half_odds": 1e6, "death_hill": 2.0})
    effect = over_doses(model, [(3e6, 0.0), (6e6, 0.0)], {"repair": 1}).death_rate
    assert_close(effect, [0.5, 0.8], 1e-5, 1e-11)


def test_a_fraction_survives_by_the_linear_quadratic_law():
    """S = e^{-(alpha D + beta D^2)/rho} (Fowler 1989, doi:10.1259/0007-1285-62-740-679)."""
    model = build(**DRUGS)
    for dose in (0.0, 1.8, 2.0, 12.0):
        for level in (0, 1, 2):
            expected = np.exp(-(0.3 * dose + 0.03 * dose**2) / 3.0**level)
            assert_close(survival(model, dose, level), expected)
    assert survival(build(), 50.0) == 1.0


def test_a_quiescent_cell_takes_a_share_of_the_damage():
    """Radiation: alpha and beta times g, beside repair; without radiation nothing."""
    model = build(**DRUGS)
    for repair in (0, 1):
        expected = np.exp(-0.5 * (0.3 * 3.0 + 0.03 * 9.0) / 3.0**repair)
        assert_close(survival(model, 3.0, repair, resting=1), expected)
    assert survival(model, 0.0, resting=1) == 1.0


@in_double
@pytest.mark.parametrize(
    ("cells", "fractions", "dose", "control"),
    [(1e9, 35, 2.0, 0.98869394), (1e9, 20, 3.0, 0.93352511), (1e8, 30, 1.8, 0.60718902)],
)
def test_tumor_control_by_fractions(cells, fractions, dose, control):
    """Case E06 (Zaider & Minerbo 2000, doi:10.1088/0031-9155/45/2/303), no repopulation: control is
    (1 - S^n)^N, to 1e-7 (the case's numbers come from 1 - S^n rounded to a double).
    """
    survived = survival(build(**DRUGS), dose) ** fractions
    np.testing.assert_allclose(np.exp(cells * np.log1p(-survived)), control, rtol=1e-7)


@in_double
def test_repair_costs_tumor_control():
    """A cell line with rho = 3 survives 35 fractions of 2 Gy almost surely."""
    survived = survival(build(**DRUGS), 2.0, repair=1) ** 35
    assert np.exp(1e9 * np.log1p(-survived)) < 1e-6
