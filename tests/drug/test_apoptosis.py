"""Apoptosis: from effects to the death rate that drugs add."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import assert_close, assert_same_bits, build, over_doses, rates

pytestmark = pytest.mark.both_precisions

# Three drugs, three targets: two killing through apoptosis, one by necrosis; the third also stops births.
KILLERS = {
    "drugs": ("a", "b", "necrotic"),
    "targets": ("A", "B", "N"),
    "kd": {"A": {"a": 1.0}, "B": {"b": 2.0}, "N": {"necrotic": 1.0}},
    "max_death_rate": {"A": 1.0, "B": 3.0, "N": 0.5},
    "is_apoptotic": {"N": 0.0},
    "max_inhibition": {"B": 0.9},
    "death_rate": 0.125,
    "alterations": {
        "BCL2": {"evaded_share": 0.6, "max_level": 2},
        "asleep": {"division_factor": 0.1},
    },
}
ALONE = np.eye(3) * 5.0


def added(rate) -> np.ndarray:
    """Death rate above the natural one."""
    return np.asarray(rate.death_rate) - 0.125


def test_hazards_of_different_targets_add():
    """Independent ways to die: the death rate of a combination is the sum of the drugs' death rates."""
    model = build(**KILLERS)
    each = added(over_doses(model, ALONE))
    assert_close(each, [1.0 * 5 / 6, 3.0 * 5 / 7, 0.5 * 5 / 6], 1e-6)
    assert_close(added(over_doses(model, [(5.0, 5.0, 5.0)])), [each.sum()], 1e-6)


def test_evasion_protects_from_every_apoptotic_drug_alike_and_from_no_other():
    """Biology row 10: (1 - v)^n of the signal is heard, whatever the drug; a drug that kills otherwise
    and the natural death rate keep every bit.
    """
    model = build(**KILLERS)
    normal = over_doses(model, ALONE)
    for level in (1, 2):
        evading = over_doses(model, ALONE, {"BCL2": level})
        assert_close(added(evading)[:2] / added(normal)[:2], 0.4**level, 1e-5)
        assert evading.death_rate[2] == normal.death_rate[2]
        assert rates(model, {"BCL2": level}).death_rate == 0.125


def test_evasion_does_not_touch_a_cytostatic_effect():
    """Biology row 10: births stay inhibited, bit for bit."""
    model = build(**KILLERS)
    normal, evading = (over_doses(model, ALONE, {"BCL2": n}).birth_rate for n in (0, 2))
    assert_same_bits(evading, normal)
    assert normal[1] < 0.5


@pytest.mark.parametrize("is_cycle_specific", [0.0, 1.0])
def test_a_quiescent_cell_survives_a_cycle_specific_drug_and_no_other(is_cycle_specific):
    """Biology row 12: it divides at a tenth and dies of a cycle-specific drug at a tenth; a drug that
    does not ask for division kills it as any other cell.
    """
    model = build(**{**KILLERS, "is_cycle_specific": is_cycle_specific})
    awake, asleep = (over_doses(model, ALONE, {"asleep": n}) for n in (0, 1))
    assert_close(asleep.birth_rate / awake.birth_rate, 0.1)
    if is_cycle_specific:
        assert_close(added(asleep) / added(awake), 0.1, 1e-5)
    else:
        assert_same_bits(asleep.death_rate, awake.death_rate)


def test_fibroblasts_shield_from_drugs_and_not_from_natural_death():
    """Biology row 17: a share of drug-induced death is prevented at the site; support makes growth."""
    model = build(
        **KILLERS,
        sites=("tumor", "stroma"),
        shielded_share={"stroma": 0.75},
        growth_factor={"stroma": 1.25},
    )
    drug = {"a": 5.0, "necrotic": 5.0}
    bare, shielded = (rates(model, {}, drug, site) for site in ("tumor", "stroma"))
    assert_close(added(shielded) / added(bare), 0.25, 1e-5)
    assert_close(shielded.birth_rate / bare.birth_rate, 1.25)
    assert rates(model, site="stroma").death_rate == 0.125


def test_full_shield_and_full_evasion_leave_the_natural_death_rate():
    """Limits: share 1 of either is the untreated death rate, exactly."""
    model = build(
        **{**KILLERS, "alterations": {"BCL2": {"evaded_share": 1.0}}},
        sites=("tumor", "niche"),
        shielded_share={"niche": 1.0},
    )
    assert rates(model, {"BCL2": 1}, {"a": 9.0, "b": 9.0}).death_rate == 0.125
    assert rates(model, {}, dict.fromkeys(("a", "b", "necrotic"), 9.0), "niche").death_rate == 0.125


def test_death_rises_with_dose_to_its_maximum():
    """Dose response: monotone, half at Kd theta_50, at most d_max."""
    model = build(drugs=("x",), targets=("T",), kd=0.5, death_half_odds=2.0, max_death_rate=4.0)
    doses = np.concatenate([[0.0], np.logspace(-6, 6, 41)])
    death = np.asarray(over_doses(model, doses[:, None]).death_rate)
    assert death[0] == 0.25
    assert np.all(np.diff(death) >= 0)
    assert np.all(death <= 4.25)
    assert_close(death[-1], 4.25, 1e-5, 2e-6)
    assert_close(over_doses(model, jnp.ones((1, 1))).death_rate, [2.25])
