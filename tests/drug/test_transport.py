"""Transport: uptake, leakage and pumping balance; pumps are shared, saturate, and can be blocked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxevo import drug
from jaxevo.drug import transport
from jaxevo.drug.transport import TransportParams
from tests import builders
from tests.builders import assert_close, assert_same_bits, build, in_double, inside

pytestmark = pytest.mark.both_precisions

LEAK = 1440.0  # 1/day, influx and efflux alike
PUMP = {
    "drugs": ("doxorubicin", "paclitaxel", "cisplatin", "elacridar"),
    "pumps": ("MDR1",),
    "vmax": {"MDR1": {"doxorubicin": 4 * LEAK, "paclitaxel": 30 * LEAK}},
    "km": {"MDR1": {"doxorubicin": 2.0, "paclitaxel": 5.0}},
    "inhibition_ki": {"MDR1": {"elacridar": 0.05}},
    "alterations": {"efflux": {"pump_amount": {"MDR1": 1.0}, "max_level": 8}},
}
TRACE = 1e-7  # uM, far below every K_m


def test_without_pump_influx_and_leak_balance():
    """C_in = k_in C / (k_out + l): the passive law."""
    model = build(drugs=("x",), influx_rate=300.0, efflux_rate=1200.0)
    assert_close(inside(model, outside={"x": 2.0})["x"], 0.5)


def test_reduced_uptake_lowers_a_carried_drug_by_its_factor_and_leaves_a_passive_one():
    """Biology row 1: steady intracellular drug falls by the factor per level; what enters without
    the carrier is untouched, to the bit; what half needs it keeps the other half.
    """
    model = build(
        drugs=("carried", "half", "passive"),
        carrier_share={"carried": 1.0, "half": 0.5},
        alterations={"carrier": {"influx_factor": 0.2, "max_level": 2}},
    )
    outside = {"carried": 3.0, "half": 3.0, "passive": 3.0}
    normal = inside(model, outside=outside)
    for level in (1, 2):
        altered = inside(model, {"carrier": level}, outside)
        assert_close(altered["carried"] / normal["carried"], 0.2**level)
        assert_close(altered["half"] / normal["half"], 0.5 + 0.5 * 0.2**level)
        assert altered["passive"] == normal["passive"]


def test_efflux_protects_from_every_substrate_and_from_no_other_drug():
    """Biology row 2: one pump, several unrelated drugs; cross-resistance to the substrates only.
    Far from saturation C_in/C = 1/(1 + a V/(K k_out)) with a pumps.
    """
    model = build(**PUMP)
    outside = dict.fromkeys(("doxorubicin", "paclitaxel", "cisplatin"), TRACE)
    normal = inside(model, outside=outside)
    for level in (1, 3, 8):
        altered = inside(model, {"efflux": level}, outside)
        assert_close(
            altered["doxorubicin"] / normal["doxorubicin"], 1 / (1 + 2 * level), 1e-5, 1e-6
        )
        assert_close(altered["paclitaxel"] / normal["paclitaxel"], 1 / (1 + 6 * level), 1e-5, 1e-6)
        assert altered["cisplatin"] == normal["cisplatin"]


def test_an_inhibitor_restores_the_drug_in_proportion_to_the_pumps_it_occupies():
    """Biology row 2: C/C_in - 1 = (k_p/k_out) (1 - I), I = C_inh/(C_inh + K_i)."""
    model = build(**PUMP)
    for inhibitor in (0.0, 0.01, 0.05, 0.45, 5.0):
        outside = {"doxorubicin": TRACE, "elacridar": inhibitor}
        ratio = TRACE / inside(model, {"efflux": 5}, outside)["doxorubicin"]
        occupied = inhibitor / (inhibitor + 0.05)
        assert_close(ratio, 1 + 10 * (1 - occupied), 1e-5, 1e-6)


def test_an_inhibitor_does_nothing_in_a_cell_without_pumps():
    """A pump inhibitor helps against a pump only."""
    model = build(**PUMP)
    alone = inside(model, outside={"doxorubicin": 1.0})
    both = inside(model, outside={"doxorubicin": 1.0, "elacridar": 10.0})
    assert both["doxorubicin"] == alone["doxorubicin"]


def test_a_pump_saturates():
    """Biology row 2: efflux never exceeds V_max, so that at high doses the pump is outrun."""
    model = build(**PUMP)
    shares = []
    for outside in (TRACE, 1.0, 10.0, 100.0, 1e4):
        kept = inside(model, {"efflux": 1}, {"doxorubicin": outside})["doxorubicin"] / outside
        pumped = LEAK * outside * (1 - kept)
        assert pumped <= 4 * LEAK * (1 + 1e-4)
        shares.append(kept)
    assert_close(shares[0], 1 / 3, 1e-5, 1e-6)
    assert_close(shares[-1], 1 - 4 / 1e4, 1e-4, 1e-4)
    assert np.all(np.diff(shares) > 0)


def test_substrates_compete_for_a_pump():
    """A saturating substrate keeps the pump busy, so that more of another one stays inside."""
    model = build(**PUMP)
    alone = inside(model, {"efflux": 1}, {"doxorubicin": 0.1})["doxorubicin"]
    outside = {"doxorubicin": 0.1, "paclitaxel": 1e4}
    assert inside(model, {"efflux": 1}, outside)["doxorubicin"] > 2 * alone


def test_one_pump_rate_and_one_inhibited_share_give_both_published_accumulations():
    """E11, Shen et al. 2008, doi:10.1124/jpet.107.127704: a P-gp line holds 19 % of the drug that its
    parent holds, 79 % with inhibitor: k_p/k_out = .81/.19 and 1 - I = (.21/.79)/(.81/.19).
    """
    pump_rate, free_share = 0.81 / 0.19, (0.21 / 0.79) / (0.81 / 0.19)
    model = build(
        drugs=("substrate", "inhibitor"),
        pumps=("P-gp",),
        vmax={"P-gp": {"substrate": pump_rate * LEAK * 1e3}},
        km={"P-gp": {"substrate": 1e3}},
        inhibition_ki={"P-gp": {"inhibitor": 1.0}},
        alterations={"P-gp": {"pump_amount": 1.0}},
    )
    for inhibitor, accumulated in ((0.0, 0.19), (1 / free_share - 1, 0.79)):
        outside = {"substrate": TRACE, "inhibitor": inhibitor}
        parent = inside(model, outside=outside)["substrate"]
        assert_close(
            inside(model, {"P-gp": 1}, outside)["substrate"] / parent, accumulated, 1e-5, 1e-9
        )


@st.composite
def membranes(draw, max_exponent: float):
    """Influx [drug], leak [drug], affinity and pumping [pump, drug]; tied close to saturation."""
    num_pumps, num_drugs = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def powers(low, *shape):
        size = int(np.prod(shape))
        exponents = st.lists(st.floats(low, max_exponent), min_size=size, max_size=size)
        return 10 ** np.reshape(draw(exponents), shape)

    influx, leak = powers(-3, num_drugs), np.full(num_drugs, draw(st.floats(0.1, 10)))
    affinity = np.minimum(powers(-2, num_pumps, num_drugs), 100)
    pumping = powers(-3, num_pumps, num_drugs)
    if draw(st.booleans()):  # capacity about equal to influx: the hardest balance
        pumping *= np.sum(influx) / np.sum(pumping / affinity) * draw(st.floats(0.9, 1.1))
    return influx, leak, affinity, pumping


@in_double
@settings(max_examples=60)
@given(membranes(max_exponent=8))
def test_what_enters_leaves_for_any_number_of_pumps_and_drugs(membrane):
    """Conservation: influx = leak + pump fluxes, to 1e-9, up to loads and pumping of 1e8 leaks."""
    influx, leak, affinity, pumping = map(jnp.asarray, membrane)
    load = _pump_load(influx, leak, affinity, pumping)
    held = influx / (leak + jnp.sum(pumping / (1 + load)[:, None], axis=0))
    working = 1 / (1 + jnp.sum(affinity * held[None, :], axis=1))
    exits = leak * held + jnp.sum(pumping * held[None, :] * working[:, None], axis=0)
    np.testing.assert_allclose(exits, influx, rtol=1e-9)


@settings(max_examples=60)
@given(membranes(max_exponent=4))
def test_single_precision_keeps_five_digits_of_the_held_drug(membrane):
    """The balance is solved for loads, not for shares near 1, so that float32 does not cancel."""
    held = {}
    for precision in (jnp.float32, jnp.float64):
        with jax.enable_x64(precision == jnp.float64):
            # the same rounded numbers in both: what is compared is the solution alone
            rounded = [np.asarray(x, np.float32) for x in membrane]
            influx, leak, affinity, pumping = (jnp.asarray(x, precision) for x in rounded)
            load = _pump_load(influx, leak, affinity, pumping)
            held[precision] = np.asarray(
                influx / (leak + jnp.sum(pumping / (1 + load)[:, None], axis=0))
            )
    np.testing.assert_allclose(held[jnp.float32], held[jnp.float64], rtol=5e-5)


_pump_load = jax.jit(transport.pump_load)


@in_double
@pytest.mark.parametrize("exponent", [2, 4, 6, 8])
@pytest.mark.parametrize("num_pumps", [1, 2, 3])
def test_a_pump_that_can_just_clear_what_enters_is_balanced_in_full(exponent, num_pumps):
    """The slowest case of Newton's iteration: influx and capacity alike, both 10^n leaks; a load x of
    all pumps together solves x^2 + x - I = 0, since I x/(1 + x) = I - x there.
    """
    influx = 10.0**exponent
    ones = jnp.ones((num_pumps, 1))
    load = _pump_load(jnp.array([influx]), jnp.ones(1), ones, influx / num_pumps * ones)
    expected = (np.sqrt(1 + 4 * influx) - 1) / 2
    np.testing.assert_allclose(load, expected, rtol=1e-9)


@in_double
def test_newton_steps_fall_to_the_load_and_never_below(monkeypatch):
    """T is concave, so each step from above stays above the solution."""
    influx, leak = jnp.array([300.0, 20.0]), jnp.ones(2)
    affinity = jnp.array([[1.0, 0.3], [0.1, 2.0]])
    pumping = jnp.array([[310.0, 5.0], [40.0, 30.0]])
    solution = transport.pump_load(influx, leak, affinity, pumping)
    above = jnp.sum(affinity * influx[None, :], axis=1)
    for steps in range(1, 12):
        monkeypatch.setattr(transport, "NEWTON_STEPS", steps)
        load = transport.pump_load(influx, leak, affinity, pumping)
        assert np.all(load <= above * (1 + 1e-12))
        assert np.all(load >= solution * (1 - 1e-12))
        above = load
    np.testing.assert_allclose(above, solution, rtol=1e-10)


def test_no_drug_outside_is_no_drug_inside():
    """Exact zeros, whatever the pumps."""
    model = build(**PUMP)
    assert set(inside(model, {"efflux": 8}).values()) == {0.0}


def test_a_pump_of_no_amount_changes_no_bit():
    """With the mechanism off the station is the passive one, bit for bit."""
    passive = build(drugs=PUMP["drugs"])
    outside = {"doxorubicin": 0.7, "paclitaxel": 0.3, "cisplatin": 11.0}
    assert_same_bits(inside(build(**PUMP), outside=outside), inside(passive, outside=outside))


@in_double
def test_gradients_through_the_balance_match_central_differences():
    """d C_in / d C outside, 1e-5, with two pumps that share two substrates near saturation."""
    model = build(
        drugs=("x", "y"),
        pumps=("P", "Q"),
        vmax={"P": {"x": 40 * LEAK, "y": 3 * LEAK}, "Q": {"x": 5 * LEAK, "y": 20 * LEAK}},
        baseline_pump=1.0,
        inhibition_ki={"Q": {"x": 2.0}},
    )
    cell = builders.traits(model)
    params: TransportParams = builders.models.cast(model.cellular.transport, jnp.float64)

    @jax.jit
    def held(outside):
        there = builders.models.environment_at(model, 0, outside)
        return transport.intracellular(params, cell, there, jnp.zeros(2))

    for start in ([0.01, 0.02], [30.0, 5.0], [44.0, 24.0]):
        exact = jax.jacobian(held)(jnp.asarray(start))
        for j in range(2):
            step = 1e-5 * start[j] * np.eye(2)[j]
            measured = (held(start + step) - held(start - step)) / (2e-5 * start[j])
            np.testing.assert_allclose(exact[:, j], measured, rtol=1e-5, atol=1e-9)


def test_the_itinerary_is_transport_then_metabolism_then_target():
    """An open pool's free active drug is what transport holds."""
    model = build(**PUMP)
    held = builders.station(
        _only_transport, model.cellular.transport, model, outside={"cisplatin": 2}
    )
    free = builders.station(drug.free_active_drug, model.cellular, model, outside={"cisplatin": 2})
    assert_same_bits(held, free)


def _only_transport(params, traits, environment):
    return transport.intracellular(
        params, traits, environment, jnp.zeros_like(environment.concentration)
    )
