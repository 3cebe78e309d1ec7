"""Metabolism: what a cell makes of the drug that has entered."""

import jax
import numpy as np
import pytest

from jaxevo.drug import metabolism
from jaxevo.model import cast
from tests import builders
from tests.builders import assert_close, assert_same_bits, build, inside

pytestmark = pytest.mark.both_precisions

LEAK = 1440.0  # 1/day
PRODRUG = {
    "drugs": ("capecitabine", "cisplatin"),
    "is_prodrug": {"capecitabine": 1.0},
    "activation_rate": 360.0,
    "active_loss_rate": 120.0,
}


def test_inactivation_removes_active_drug_in_proportion_to_leak_and_loss():
    """Biology row 3: C_in = k_in C/(k_out + n i); drug is lost, not stored, so the total falls too."""
    model = build(
        drugs=("x", "y"),
        alterations={"enzyme": {"inactivation_rate": {"x": 720.0}, "max_level": 3}},
    )
    for level in (0, 1, 3):
        held = inside(model, {"enzyme": level}, {"x": 2.0, "y": 2.0})
        assert_close(held["x"], 2.0 * LEAK / (LEAK + 720.0 * level))
        assert held["y"] == 2.0


def test_what_is_inactivated_is_what_enters_less_what_leaks():
    """Conservation: influx = (k_out + i) C_in, with a saturated pump beside the enzyme."""
    model = build(
        drugs=("x",),
        pumps=("P",),
        vmax=500.0,
        baseline_pump=1.0,
        alterations={"enzyme": {"inactivation_rate": 720.0}},
    )
    held = inside(model, {"enzyme": 1}, {"x": 2.0})["x"]
    assert_close(LEAK * held + 720.0 * held + 500.0 * held / (1 + held), LEAK * 2.0)


def test_sequestration_lowers_active_drug_in_a_trapped_pool_and_keeps_the_total():
    """Biology row 3: free (1 + r) = total, so that active drug falls and mass is conserved."""
    model = build(
        drugs=("x",),
        targets=("T",),
        kd=1e6,
        is_trapped=1.0,
        alterations={"vesicles": {"storage_ratio": 4.0, "max_level": 2}},
    )
    for level in (0, 1, 2):
        free = inside(model, {"vesicles": level}, {"x": 3.0})["x"]
        assert_close(free * (1 + 4.0 * level), 3.0)


def test_storage_cannot_protect_where_transport_refills_the_free_drug():
    """In an open pool the free drug is what transport fixes; storage only holds more in all."""
    model = build(drugs=("x",), alterations={"vesicles": {"storage_ratio": 4.0}})
    assert inside(model, {"vesicles": 1}, {"x": 3.0}) == inside(model, outside={"x": 3.0})


def test_lost_activation_protects_from_prodrugs_and_from_no_other_drug():
    """Biology row 4: A = k_act f c/(k_el), c = k_in C/(k_out + k_act f); others keep every bit."""
    model = build(**PRODRUG, alterations={"silent": {"activation_factor": 0.1, "max_level": 2}})
    outside = {"capecitabine": 5.0, "cisplatin": 5.0}
    for level in (0, 1, 2):
        active = inside(model, {"silent": level}, outside)
        activation = 360.0 * 0.1**level
        entered = LEAK * 5.0 / (LEAK + activation)
        assert_close(active["capecitabine"], activation * entered / 120.0)
        assert active["cisplatin"] == 5.0


def test_activated_prodrug_is_lost_from_the_form_that_entered():
    """Conservation: influx = leak + activation; activation = loss of the active form."""
    model = build(**PRODRUG, alterations={"enzyme": {"inactivation_rate": 80.0}})
    cell = {"enzyme": 1}
    active = inside(model, cell, {"capecitabine": 5.0})["capecitabine"]
    entered = active * (120.0 + 80.0) / 360.0
    assert_close(LEAK * entered + 360.0 * entered, LEAK * 5.0)


def test_a_prodrug_that_is_not_activated_does_nothing():
    """Factor 0: no active drug at any dose."""
    model = build(**PRODRUG, alterations={"silent": {"activation_factor": 0.0}})
    assert inside(model, {"silent": 1}, {"capecitabine": 1e6})["capecitabine"] == 0.0


def test_a_drug_that_is_no_prodrug_passes_bit_for_bit():
    """With the mechanism off, active drug is the drug that entered."""
    model = build(drugs=("x", "y"), active_loss_rate=0.0)
    entered = builders.vector(("x", "y"), {"x": 0.3, "y": 1e-9})
    active = metabolism.active_drug(
        cast(model.cellular.metabolism, builders.real()), builders.traits(model), entered
    )
    assert_same_bits(active, entered)


def test_a_rate_that_no_drug_uses_spoils_no_gradient():
    """An active-loss rate of 0 of a drug that is no prodrug: slope 1, not 0/0."""
    model = build(drugs=("x",), active_loss_rate=0.0)
    params, cell = cast(model.cellular.metabolism, builders.real()), builders.traits(model)
    slope = jax.jacobian(lambda entered: metabolism.active_drug(params, cell, entered))
    np.testing.assert_array_equal(slope(builders.vector(("x",))), 1.0)
