"""Target: binding, tight binding, altered, amplified and lost targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo.drug import target
from jaxevo.model import cast
from tests import builders
from tests.builders import assert_close, build, in_double, inside

pytestmark = pytest.mark.both_precisions

_tight = jax.jit(target.tight_binding)

# Case V16: cell IC50 (nM) of ponatinib, imatinib and dasatinib. Redaelli et al. 2012, Am J Hematol
# 87:E125; Y253H: that paper or Zabriskie et al. 2014, doi:10.1016/j.ccr.2014.07.006. Taken from an
# open data file that cites both.
INHIBITORS = ("ponatinib", "imatinib", "dasatinib")
IC50_NM = {
    "native": (2.1, 527, 1.8),
    "G250E": (12.5, 3613, 8.1),
    "Y253H": (29.8, 17700, 5.9),
    "E255K": (17.6, 3174, 10.3),
    "E255V": (27.2, 8953, 6.3),
    "T315I": (6.3, 9221, 137.3),
}


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    """Ten to the power of a number between two."""
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


@in_double
@given(
    active=log_uniform(-9, 6),
    amount=log_uniform(-9, 6),
    kd=log_uniform(-12, 9),
    ratio=st.just(0.0) | log_uniform(-3, 6),
)
def test_tight_binding_conserves_the_drug(active, amount, kd, ratio):
    """Morrison 1969, doi:10.1016/0005-2744(69)90420-3: A = F + r F + B F/(F + Kd), to 1e-12."""
    free = float(_tight(*(jnp.asarray([x]) for x in (active, amount, kd, 1 + ratio)))[0])
    assert 0 <= free <= active
    total = free + ratio * free + amount * free / (free + kd)
    np.testing.assert_allclose(total, active, rtol=1e-12)


@given(active=log_uniform(-6, 6), amount=log_uniform(-6, 6), kd=log_uniform(-9, 6))
def test_single_precision_solves_the_quadratic_as_well_as_its_numbers_allow(active, amount, kd):
    """The error of F in float32 is that of rounding A and B, which the law amplifies by at most
    1 + (A + B)/root, the condition number of the difference B - A + Kd.
    """
    rounded = [np.asarray([x], np.float32) for x in (active, amount, kd, 1.0)]
    with jax.enable_x64(False):
        single = np.asarray(_tight(*(jnp.asarray(x, jnp.float32) for x in rounded)))
    a, b, k, _ = (float(x[0]) for x in rounded)
    with jax.enable_x64(True):
        double = np.asarray(_tight(*(jnp.asarray(x, jnp.float64) for x in rounded)))
    condition = 1 + (a + b) / np.sqrt((k + b - a) ** 2 + 4 * a * k)
    np.testing.assert_allclose(single, double, rtol=1e-6 * condition)


def test_no_number_overflows_or_divides_by_zero():
    """Extreme affinities, no drug, no target, as many targets as molecules: finite and in range."""
    rows = [
        (1.0, 1.0, 1e30, 1.0, 1.0),
        (1e6, 1.0, 1e25, 1e4, 1e2),
        (0.0, 0.0, 0.0, 1.0, 0.0),
        (0.0, 1.0, 1e-9, 1.0, 0.0),
        (1.0, 1.0, 0.0, 1.0, 0.0),
        (3.0, 1.0, 0.0, 1.0, 2.0),
    ]
    active, amount, kd, storage, expected = jnp.asarray(rows, builders.real()).T
    assert_close(_tight(active, amount, kd, storage), expected, 1e-6, 1e-6)


TRAPPED = {
    "drugs": ("methotrexate",),
    "targets": ("DHFR",),
    "kd": 1e-5,
    "amount": 0.5,
    "need": 0.05,
    "max_inhibition": 1.0,
    "alterations": {
        "copies": {"inheritance": "amplification", "max_level": 40, "target_copies": {"DHFR": 1.0}}
    },
}


def free_target(model, copies: int, outside: float) -> float:
    """Free target in multiples of the normal amount: a/(1 + theta)."""
    free = builders.vector(
        model.names.drugs, inside(model, {"copies": copies}, {"methotrexate": outside})
    )
    cell = builders.traits(model, {"copies": copies})
    theta = target.odds(cast(model.cellular.target, builders.real()), cell, free)[0, 0]
    return float(cell.target_amount[0] / (1 + theta))


def test_targets_in_excess_of_a_trapped_drug_stay_free_far_above_the_affinity():
    """Biology row 7: with B a > A the drug is outnumbered and the free target is a - A/B, above need,
    although A is 1e5 times K_d; a cell with too few copies is silenced.
    """
    model = build(**TRAPPED, is_trapped=1.0)
    dose = 1.0  # uM, 1e5 Kd
    for copies in (0, 1, 3, 10, 40):
        amount = 1 + copies
        left = free_target(model, copies, dose)
        if 0.5 * amount > dose:
            assert_close(left, amount - dose / 0.5, 1e-3, 1e-3)
            assert left > 0.05
            assert builders.rates(model, {"copies": copies}, {"methotrexate": dose}).birth_rate == 1
        else:
            assert left < 0.05 * amount
    assert builders.rates(model, {}, {"methotrexate": dose}).birth_rate < 0.01


def test_in_an_open_pool_only_the_amount_of_target_protects():
    """Biology row 7: transport refills what binds, so that the free share is 1/(1 + C/Kd) whatever the
    copies, and the free target is the amount times this share.
    """
    model = build(**TRAPPED)
    for copies in (0, 3, 40):
        assert_close(free_target(model, copies, 1.0), (1 + copies) / (1 + 1.0 / 1e-5))
        assert builders.rates(model, {"copies": copies}, {"methotrexate": 1.0}).birth_rate < 0.02
    shallow = {
        "methotrexate": 30e-5
    }  # theta = 30: share 1/31 is under need, 41 copies of it are not
    assert builders.rates(model, {}, shallow).birth_rate < 1
    assert builders.rates(model, {"copies": 40}, shallow).birth_rate == 1


def test_a_pool_is_open_in_the_limit_of_few_targets():
    """B -> 0: the trapped pool has the free drug of the open one; r = 0 and Kd >> B likewise."""
    for amount, kd in ((1e-9, 1e-2), (1.0, 1e9)):
        settings = {**TRAPPED, "amount": amount, "kd": kd}
        trapped = inside(build(**settings, is_trapped=1.0), outside={"methotrexate": 0.3})
        assert_close(trapped["methotrexate"], 0.3, 1e-6, 1e-6)


def test_odds_follow_affinity_and_fold():
    """theta = F/(Kd fold), per drug; 0 where it does not bind or the target is lost; saturated where
    Kd is 0.
    """
    model = build(
        drugs=("x", "y", "all"),
        targets=("T", "U"),
        kd={"T": {"x": 0.5, "y": 2.0}, "U": {"all": 0.0}},
        alterations={
            "mutant": {"kd_fold": {"x": 10.0, "y": 0.5}, "max_level": 2},
            "lost": {"lost_target": {"T": 1.0}},
        },
    )
    params, free = cast(model.cellular.target, builders.real()), jnp.ones(3, builders.real())
    for level in (0, 1, 2):
        theta = target.odds(params, builders.traits(model, {"mutant": level}), free)
        expected = [[2 / 10**level, 0.5 * 2**level, 0], [0, 0, target.SATURATED]]
        assert_close(theta, np.asarray(expected), 1e-6, 1e-6)
    theta = target.odds(params, builders.traits(model, {"lost": 1}), free)
    assert_close(theta, [[0, 0, 0], [0, 0, target.SATURATED]], 1e-6, 1e-6)


def test_an_immense_fold_is_no_binding():
    """Folds that overflow a float32 leave the drug free and the target at work."""
    model = build(
        **{**TRAPPED, "alterations": {"dead": {"kd_fold": 1e25, "max_level": 3}}}, is_trapped=1.0
    )
    for level in (1, 2, 3):
        free = inside(model, {"dead": level}, {"methotrexate": 2.0})["methotrexate"]
        assert_close(free, 2.0, 1e-6)
        rates = builders.rates(model, {"dead": level}, {"methotrexate": 2.0})
        assert rates.birth_rate == 1.0


def test_a_drug_against_a_lost_target_does_nothing_at_any_dose():
    """Biology row 6: nothing to bind and nothing to lose: the rates of an untreated cell, exactly."""
    model = build(
        drugs=("tamoxifen", "fulvestrant"),
        targets=("ER",),
        kd={"ER": {"tamoxifen": 0.01, "fulvestrant": 0.0}},
        max_inhibition=1.0,
        max_death_rate=2.0,
        alterations={"ER-": {"lost_target": {"ER": 1.0}, "max_level": 2}},
    )
    doses = [(10.0**e, 10.0**e) for e in range(-6, 7)]
    for level in (1, 2):
        rates = builders.over_doses(model, doses, {"ER-": level})
        np.testing.assert_array_equal(rates.birth_rate, 1.0)
        np.testing.assert_array_equal(rates.death_rate, 0.25)
    assert np.all(builders.over_doses(model, doses).death_rate > 2.2)


def test_a_lost_target_binds_no_trapped_drug():
    """B = 0: all of the total is free."""
    study = {**TRAPPED, "alterations": {"lost": {"lost_target": {"DHFR": 1.0}}}}
    model = build(**study, is_trapped=1.0)
    assert_close(inside(model, {"lost": 1}, {"methotrexate": 0.4})["methotrexate"], 0.4)


def bcr_abl(kill: float = 1.0):
    """Native BCR-ABL and its mutants against three inhibitors: Kd of native cells, folds of mutants."""
    native = IC50_NM["native"]
    return build(
        drugs=INHIBITORS,
        targets=("BCR-ABL",),
        kd={"BCR-ABL": {d: c * 1e-3 for d, c in zip(INHIBITORS, native, strict=True)}},
        max_death_rate=kill,
        death_rate=0.0,
        alterations={
            name: {"kd_fold": {d: c / n for d, c, n in zip(INHIBITORS, row, native, strict=True)}}
            for name, row in IC50_NM.items()
            if name != "native"
        },
    )


@pytest.mark.parametrize("mutant", IC50_NM)
def test_a_matrix_of_folds_gives_the_published_rank_order_of_drugs(mutant):
    """Biology row 5, case V16: at one concentration the kill ranks the drugs as their IC50 does, and at
    each drug's own IC50 the effect is one half.
    """
    model, altered = bcr_abl(), {mutant: 1} if mutant != "native" else {}
    ic50 = np.asarray(IC50_NM[mutant]) * 1e-3
    alike = builders.over_doses(model, 0.05 * np.eye(3), altered).death_rate
    np.testing.assert_array_equal(np.argsort(-alike), np.argsort(ic50))
    assert_close(builders.over_doses(model, np.diag(ic50), altered).death_rate, 0.5)


def test_a_mutation_protects_from_the_drugs_it_names_alone():
    """Fold 1 elsewhere: the other drugs keep every bit of their effect."""
    model = build(
        drugs=("x", "y"),
        targets=("T",),
        kd=0.1,
        max_death_rate=1.0,
        alterations={"mutant": {"kd_fold": {"x": 100.0}}},
    )
    doses = [(0.0, 0.2), (0.2, 0.0)]
    normal = builders.over_doses(model, doses).death_rate
    mutant = builders.over_doses(model, doses, {"mutant": 1}).death_rate
    assert mutant[0] == normal[0]
    assert mutant[1] < normal[1]


def test_the_slope_at_no_drug_is_finite_for_every_kind_of_binding():
    """dF/dA at A = 0 is 1 in open pools and Kd/(k Kd + B) in trapped ones, also at Kd = 0."""
    active = jnp.zeros(3, builders.real())
    kd = jnp.asarray([0.5, 0.5, 0.0], builders.real())
    amount = jnp.asarray([0.0, 1.5, 0.0], builders.real())
    slope = jax.jacobian(_tight)(active, amount, kd, jnp.ones(3, builders.real()))
    assert np.all(np.isfinite(slope))
    assert_close(np.diag(slope)[:2], [1.0, 0.25])
