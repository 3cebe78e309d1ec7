"""Signaling: from bound targets to effects; combination of drugs, amplification, bypass."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo.drug import signaling
from jaxevo.drug.signaling import SignalingParams
from jaxevo.model import cast
from tests import builders
from tests.builders import assert_close, build, in_double, over_doses

pytestmark = pytest.mark.both_precisions


def one_target(**settings):
    """Two drugs on one target whose full loss kills at 1/day and nothing else does."""
    defaults = {
        "drugs": ("x", "y"),
        "targets": ("T",),
        "kd": 1.0,
        "max_death_rate": 1.0,
        "death_rate": 0.0,
    }
    return build(**{**defaults, **settings})


@pytest.mark.parametrize("hill", [0.5, 1.0, 1.5, 4.0])
def test_without_alterations_the_effect_is_the_hill_law(hill):
    """E = C^h/(C^h + EC50^h) with EC50 = theta_50 Kd, to a few units in the last place of 1."""
    model = one_target(kd=0.2, death_half_odds=5.0, death_hill=hill)
    doses = np.array([1e-3, 0.1, 1.0, 7.0, 1e3])
    effect = over_doses(model, doses[:, None] * [1.0, 0.0]).death_rate
    eps = np.finfo(builders.real()).eps
    np.testing.assert_allclose(effect, doses**hill / (doses**hill + 1.0), 20 * eps, 2 * eps)


@pytest.mark.parametrize("half_odds", [1e2, 1e4, 1e6])
def test_an_effect_that_needs_almost_all_targets_keeps_its_digits(half_odds):
    """EC50 >> Kd: the output that is left is 1/(1 + theta), not 1 minus a number near 1."""
    model = one_target(death_half_odds=half_odds, death_hill=3.0)
    doses = half_odds * np.array([0.3, 1.0, 2.0])
    effect = over_doses(model, doses[:, None] * [1.0, 0.0]).death_rate
    assert_close(effect, doses**3 / (doses**3 + half_odds**3), 1e-5, 1e-11)


@pytest.mark.parametrize(
    ("combination", "expected"), [("bliss", 0.60204604), ("loewe", 0.62356517)]
)
def test_two_drugs_on_one_target_combine_as_the_study_says(combination, expected):
    """Case E10: at .6 and .8 EC50, h 1.5: Bliss .60204604, Loewe .62356517, the better one alone
    .41709376; to 1e-6.
    """
    model = one_target(combination=combination, death_hill=1.5)
    effect = over_doses(model, [(0.6, 0.8), (0.0, 0.8), (0.6, 0.0)]).death_rate
    assert_close(effect[0], expected, 1e-6, 2e-8)
    assert_close(effect[1], 0.41709376, 1e-6, 2e-8)
    assert effect[2] < effect[1]


def test_a_drug_combined_with_itself_is_more_of_it_under_loewe_alone():
    """Loewe's sham experiment: doses of one drug add; Bliss does not know that they are one."""
    doses = [(0.3, 0.5), (0.8, 0.0)]
    loewe = over_doses(one_target(combination="loewe", death_hill=2.0), doses).death_rate
    assert_close(loewe[0], loewe[1])
    bliss = over_doses(one_target(combination="bliss", death_hill=2.0), doses).death_rate
    assert bliss[0] < 0.9 * bliss[1]


HILL_KILLS = [
    # C0, k, T, Emax, EC50, h, g, kill, survival, survival at EC50 * 10
    (10, 0.5, 24, 0.2, 1, 1, 0.03, 0.9591335330, 0.78730974, 1.5569730526),
    (10, 0.5, 24, 0.2, 1, 2, 0.03, 0.9230241026, 0.81625857, 1.7884879888),
    (50, 0.1, 72, 0.06, 5, 3, 0.02, 1.3817508726, 1.0599790326, 3.6743291213),
]


@in_double
@pytest.mark.parametrize("row", HILL_KILLS)
def test_the_kill_of_a_decaying_drug_is_its_closed_integral(row):
    """Case E10: (Emax/hk) ln[(C0^h + E^h)/(C_T^h + E^h)], integrated from the model's death rate; a
    tenfold affinity loss is EC50 * 10.
    """
    c0, k, horizon, emax, ec50, hill, growth, kill, survival, survival_resistant = row
    model = one_target(
        max_death_rate=emax,
        kd=ec50,
        death_hill=hill,
        alterations={"mutant": {"kd_fold": 10.0}},
    )
    x, w = np.polynomial.legendre.leggauss(200)
    times, weights = horizon * (1 + x) / 2, horizon * w / 2
    doses = c0 * np.exp(-k * times)[:, None] * [1.0, 0.0]
    killed, spared = (
        np.sum(weights * np.asarray(over_doses(model, doses, {"mutant": m}).death_rate))
        for m in (0, 1)
    )
    np.testing.assert_allclose(killed, kill, rtol=1e-9)
    np.testing.assert_allclose(np.exp(growth * horizon - killed), survival, rtol=1e-8)
    np.testing.assert_allclose(np.exp(growth * horizon - spared), survival_resistant, rtol=1e-9)


def output(theta, amount=1.0, need=1.0, combination="bliss") -> np.ndarray:
    """Pathway output of one target at the odds of its drugs."""
    model = build(drugs=tuple("xyz")[: len(theta)], targets=("T",))
    params = cast(SignalingParams(combination, np.array([need])), builders.real())
    cell = builders.traits(model)
    amounts = jnp.asarray([amount], builders.real())
    cell = eqx.tree_at(lambda traits: traits.target_amount, cell, amounts)
    return np.asarray(signaling.pathway_output(params, cell, jnp.asarray([theta], builders.real())))


def test_output_is_full_down_to_the_need():
    """o = min(1, a phi/need): with need .25, up to odds 3 nothing is lost, exactly."""
    for theta in (0.0, 1.0, 2.9):
        assert output([theta], need=0.25) == 1.0
    assert_close(output([7.0], need=0.25), [[0.5]])


def test_more_target_delays_the_loss():
    """a copies: full output up to odds a - 1, then a/(1 + theta)."""
    assert output([3.9], amount=5.0) == 1.0
    assert_close(output([9.0], amount=5.0), [[0.5]])


def test_a_cell_that_has_lost_a_target_does_not_miss_its_output():
    """S = 1 where the cell does not depend on the target, whatever the odds, exactly."""
    model = build(targets=("T",), alterations={"lost": {"lost_target": 1.0}})
    params = cast(model.cellular.signaling, builders.real())
    odds = jnp.asarray([[0.0, 3.0, 1e30]], builders.real())
    left = signaling.pathway_output(params, builders.traits(model, {"lost": 1}), odds)
    np.testing.assert_array_equal(left, 1.0)


BYPASS = {
    "drugs": ("gefitinib", "crizotinib"),
    "targets": ("EGFR", "MET"),
    "kd": {"EGFR": {"gefitinib": 0.01}, "MET": {"crizotinib": 0.01}},
    "max_inhibition": {"EGFR": 1.0},
    "max_death_rate": {"EGFR": 2.0},
    "death_rate": 0.0,
    "alterations": {
        "MET": {"bypass_share": {"EGFR": {"MET": 0.99}}},
        "MET at any drug": {"bypass_share": {"EGFR": {builders.UNDRUGGABLE: 0.99}}},
        "lost MET": {"lost_target": {"MET": 1.0}},
    },
}
BOTH, FIRST, SECOND = (10.0, 10.0), (10.0, 0.0), (0.0, 10.0)


@pytest.mark.parametrize("combination", ["bliss", "loewe"])
def test_only_both_drugs_silence_a_pathway_with_a_bypass(combination):
    """Biology row 8: with a bypass either drug alone does not act, both together do; without it the
    drug on the pathway is enough.
    """
    model = build(**BYPASS, combination=combination)
    births = np.asarray(over_doses(model, [BOTH, FIRST, SECOND], {"MET": 1}).birth_rate)
    assert births[0] < 0.01
    assert births[1] > 0.98
    assert births[2] == 1.0
    assert over_doses(model, [FIRST]).birth_rate[0] < 0.01


def test_the_output_with_a_bypass_is_a_noisy_or():
    """S = 1 - (1 - o)(1 - beta o_r); E follows the Hill law in the lost output."""
    model = build(**BYPASS)
    for first, second in ((0.02, 0.05), (0.3, 0.0), (5.0, 5.0)):
        own, route = 1 / (1 + first / 0.01), 1 / (1 + second / 0.01)
        left = 1 - (1 - own) * (1 - 0.99 * route)
        rates = over_doses(model, [(first, second)], {"MET": 1})
        assert_close(rates.death_rate, [2.0 * (1 - left)], 1e-5, 1e-9)


def test_no_drug_reaches_an_undruggable_route():
    """The bypass that names no target stands whatever is given."""
    model = build(**BYPASS)
    births = over_doses(model, [BOTH, FIRST], {"MET at any drug": 1}).birth_rate
    assert np.all(births > 0.98)


def test_a_lost_target_carries_no_bypass():
    """A route through a target that the cell has lost is closed: one drug is enough again."""
    model = build(**BYPASS)
    births = over_doses(model, [FIRST], {"MET": 1, "lost MET": 1}).birth_rate
    assert births[0] < 0.01


def test_a_bypass_of_no_share_changes_no_bit():
    """With the mechanism off the pathway is the plain one."""
    off = {**BYPASS, "alterations": {"MET": {"bypass_share": 0.0}}}
    doses = [BOTH, FIRST, SECOND, (0.003, 0.07)]
    builders.assert_same_bits(
        over_doses(build(**off), doses, {"MET": 1}).death_rate,
        over_doses(build(**BYPASS), doses).death_rate,
    )


@given(
    theta=st.lists(st.floats(0, 1e12), min_size=1, max_size=3),
    amount=st.floats(1, 40),
    need=st.floats(0.01, 1),
    combination=st.sampled_from(["bliss", "loewe"]),
)
def test_output_is_a_share_and_falls_with_every_drug(theta, amount, need, combination):
    """0 <= S <= 1 (to rounding), and more of a drug never raises S."""
    left = output(theta, amount, need, combination)
    more = output([theta[0] * 1.5 + 0.01, *theta[1:]], amount, need, combination)
    eps = np.finfo(left.dtype).eps
    assert np.all(left >= 0)
    assert np.all(left <= 1 + 2 * eps)
    assert np.all(more <= left + 2 * eps)


@pytest.mark.parametrize(("hill", "slope"), [(1.0, 0.2), (2.0, 0.0), (0.5, 0.0)])
def test_the_slope_of_the_effect_at_no_drug(hill, slope):
    """dE/dtheta at 0 is 1/theta_50 for h = 1 and 0 above, so that a search that starts at no dose sees
    the drug; below 1, where it is infinite, it is 0 by convention.
    """

    def effect(theta):
        model = build(drugs=("x",), targets=("T",))
        params = cast(model.cellular.signaling, builders.real())
        left = signaling.pathway_output(params, builders.traits(model), theta[None, None])
        half_odds, exponent = jnp.asarray([5.0, hill], builders.real())
        return signaling.hill_effect(left[0, 0], half_odds, exponent)

    assert_close(jax.grad(effect)(jnp.asarray(0.0, builders.real())), slope, 1e-6)


def test_the_effect_is_exact_at_its_ends_and_safe_beyond():
    """E(S = 1) = 0 and E(S = 0) = 1, exactly, for any exponent; S over 1 by rounding is no loss."""
    effect = jax.jit(jax.vmap(signaling.hill_effect))
    eps = np.finfo(builders.real()).eps
    outputs = jnp.asarray([1.0, 0.0, 1.0 + eps, 0.5], builders.real())
    for half_odds, hill in ((1.0, 0.3), (1e-6, 7.5), (1e6, 12.0)):
        parameters = (jnp.full_like(outputs, x) for x in (half_odds, hill))
        result = np.asarray(effect(outputs, *parameters))
        np.testing.assert_array_equal(result[:3], [0.0, 1.0, 0.0])
        assert np.isfinite(result[3])
