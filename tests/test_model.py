"""The model as a whole: one function of one cell at one site, for any number of anything."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxevo import model as models
from jaxevo.engines.tables import all_traits
from jaxevo.model import Model
from tests import builders
from tests.builders import build, in_double

pytestmark = pytest.mark.both_precisions

JOURNEY = {
    "drugs": ("x", "y"),
    "pumps": ("P", "Q"),
    "targets": ("T", "U"),
    "sites": ("lung", "brain"),
    "vmax": {"P": {"x": 2e4, "y": 1e4}, "Q": {"x": 5e3}},
    "km": {"P": {"x": 2.0, "y": 3.0}, "Q": {"x": 0.5}},
    "inhibition_ki": {"P": {"y": 1.0}},
    "baseline_pump": {"P": 0.1, "Q": 0.2},
    "kd": {"T": {"x": 0.1, "y": 0.2}, "U": {"y": 1.0}},
    "amount": {"T": 0.4},
    "need": {"T": 0.7},
    "max_death_rate": {"T": 1.0, "U": 0.5},
    "max_inhibition": {"T": 0.8},
    "death_hill": {"T": 2.0},
    "is_dna": {"U": 1.0},
    "alterations": {
        "pump": {"pump_amount": {"P": 3.0}},
        "copies": {
            "inheritance": "amplification",
            "max_level": 3,
            "target_copies": {"T": 1.0},
            "gain_probability": 1e-3,
        },
        "bypass": {"bypass_share": {"T": {"U": 0.5}}},
        "sleep": {"inheritance": "epigenetic", "division_factor": 0.1, "on_rate": 0.01},
    },
}


def all_rates(model: Model, concentration: np.ndarray) -> models.Rates:
    """Rates of all genotypes at all sites [genotype, site], as an engine takes them."""

    @eqx.filter_jit
    def tabulate(model, cells, drug):
        def at(cell, site):
            return models.rates(model, cell, models.environment_at(model, site, drug))

        everywhere = jax.vmap(jax.vmap(at, (None, 0)), (0, None))
        return everywhere(cells, jnp.arange(len(model.names.sites)))

    model = models.cast(model, builders.real())
    return tabulate(model, all_traits(model), jnp.asarray(concentration, builders.real()))


@pytest.mark.parametrize("combination", ["bliss", "loewe"])
@pytest.mark.parametrize(
    ("drugs", "pumps", "targets", "alterations"),
    list(itertools.product([(), ("x",)], [(), ("P",)], [(), ("T",)], [None, {"a": {}}])),
)
def test_any_axis_may_be_empty(drugs, pumps, targets, alterations, combination):
    """Without drugs, pumps, targets or alterations every cell keeps the rates of its tumor."""
    model = build(
        drugs=drugs,
        pumps=pumps,
        targets=targets,
        alterations=alterations,
        combination=combination,
        sites=("lung", "brain"),
        birth_rate=0.75,
        death_rate=0.5,
    )
    rates = all_rates(model, np.ones(len(drugs)))
    assert rates.birth_rate.dtype == builders.real()
    np.testing.assert_array_equal(rates.birth_rate, 0.75)
    np.testing.assert_array_equal(rates.death_rate, 0.5)


def test_a_neutral_alteration_changes_no_bit():
    """Whatever the drugs do, an alteration that changes no trait leaves all rates as they are."""
    study = {**JOURNEY, "alterations": {"nothing": {"max_level": 3}}}
    plain, altered = (
        builders.rates(build(**study), {"nothing": level}, {"x": 0.3, "y": 0.7}) for level in (0, 3)
    )
    assert 0 < plain.birth_rate < 1
    assert plain.death_rate > 0.25
    builders.assert_same_bits(altered.birth_rate, plain.birth_rate)
    builders.assert_same_bits(altered.death_rate, plain.death_rate)


NO_PUMPS = {"pumps": (), "vmax": 0.0, "km": 1.0, "inhibition_ki": np.inf, "baseline_pump": 0.0}


@pytest.mark.parametrize(
    ("off", "absent"),
    [
        ({"vmax": 0.0}, NO_PUMPS),
        ({"baseline_pump": 0.0}, NO_PUMPS),
        ({"inhibition_ki": np.inf}, {"inhibition_ki": {"P": {"y": 1e38}}}),
        ({"amount": 0.0}, {"amount": {"T": 5.0}}),
        ({"is_prodrug": 0.0}, {"activation_rate": 7.0, "active_loss_rate": 0.0}),
        ({"carrier_share": 0.0}, {"carrier_share": 1.0}),
    ],
    ids=["capacity", "pumps", "inhibitor", "amount in an open pool", "prodrug", "carrier"],
)
def test_a_station_that_is_off_gives_the_bits_of_one_that_is_not_there(off, absent):
    """Off and absent are one: a station with nothing to do changes no bit of any rate."""
    study = {**JOURNEY, "alterations": None}
    a, b = (
        builders.rates(build(**{**study, **change}), {}, {"x": 0.3, "y": 0.7})
        for change in (off, absent)
    )
    builders.assert_same_bits(a, b)


def test_without_drug_every_rate_is_that_of_the_tumor():
    """At concentration 0 nothing is inhibited and nobody is killed, exactly."""
    rates = all_rates(build(**JOURNEY), np.zeros(2))
    np.testing.assert_array_equal(rates.death_rate, 0.25)
    np.testing.assert_array_equal(rates.birth_rate[: rates.birth_rate.shape[0] // 2], 1.0)


@settings(max_examples=20)
@given(
    low=st.tuples(*[st.floats(0, 50)] * 2),
    more=st.tuples(*[st.floats(0, 50)] * 2),
)
def test_more_drug_never_helps_a_tumor_that_no_pump_protects(low, more):
    """Without antagonism by competition for a pump, net growth falls with every concentration."""
    model = build(**{**JOURNEY, "vmax": 0.0, "inhibition_ki": np.inf})
    high = tuple(a + b for a, b in zip(low, more, strict=True))
    before, after = builders.over_doses(model, [low]), builders.over_doses(model, [high])
    slack = 4 * np.finfo(builders.real()).eps
    assert after.birth_rate[0] <= before.birth_rate[0] + slack
    assert after.death_rate[0] >= before.death_rate[0] - slack


@pytest.mark.parametrize("trapped", [0.0, {"x": 1.0}], ids=["open", "trapped"])
def test_gradients_are_finite_where_a_drug_is_absent(trapped):
    """No 0/0 and no infinite slope: a search may start at no dose at all."""
    study = {**JOURNEY, "kd": {"T": {"x": 0.1}, "U": {"y": 0.0}}, "is_trapped": trapped}
    model = models.cast(build(**study), builders.real())
    cells = all_traits(model)

    @jax.jit
    def slopes(drug):
        def net(drug, cell):
            now = models.rates(model, cell, models.environment_at(model, 0, drug))
            return now.birth_rate - now.death_rate

        return jax.vmap(jax.grad(net), (None, 0))(drug, cells)

    for concentration in [(0.0, 0.0), (0.0, 0.5), (0.4, 0.0)]:
        assert np.all(np.isfinite(slopes(jnp.asarray(concentration, builders.real()))))


@in_double
@pytest.mark.parametrize("trapped", [0.0, {"x": 1.0}], ids=["open", "trapped"])
def test_gradients_of_the_journey_match_central_differences(trapped):
    """d rates / d (concentration, affinity, pump capacity): within 1e-5 of differences in float64."""
    study = {**JOURNEY, "kd": {"T": {"x": 0.1}, "U": {"y": 1.0}}, "is_trapped": trapped}
    model = models.cast(build(**study), jnp.float64)
    cell = builders.traits(model, {"pump": 1, "copies": 1, "bypass": 1})
    affinity, capacity = model.cellular.target.kd, model.cellular.transport.vmax

    def vital(drug, kd, vmax):
        altered = eqx.tree_at(
            lambda m: (m.cellular.target.kd, m.cellular.transport.vmax), model, (kd, vmax)
        )
        now = models.rates(altered, cell, models.environment_at(model, 0, drug))
        return jnp.stack([now.birth_rate, now.death_rate])

    vital, slopes = jax.jit(vital), jax.jit(jax.jacobian(vital, (0, 1, 2)))
    for concentration in [(0.05, 0.2), (0.8, 0.03), (20.0, 5.0)]:
        start = (jnp.asarray(concentration), affinity, capacity)
        for which, slope in enumerate(slopes(*start)):
            value = np.asarray(start[which])
            for at in zip(*np.nonzero(np.isfinite(value) & (value > 0)), strict=True):
                step = 1e-5 * value[at]
                up, down = (
                    vital(*start[:which], start[which].at[at].add(s), *start[which + 1 :])
                    for s in (step, -step)
                )
                measured = np.asarray(up - down) / (2 * step)
                floor = 1e-9 / value[at]  # differences of rates near 1 resolve no more
                np.testing.assert_allclose(slope[:, *at], measured, rtol=1e-5, atol=floor)


def test_a_drug_that_is_only_a_death_rate_needs_nothing_but_that_number():
    """The shortest model: a drug that saturates a target at any concentration (Kd 0)."""
    model = build(drugs=("x",), targets=("x",), kd=0.0, max_death_rate=1.5)
    rates = builders.over_doses(model, [[0.0], [1e-6], [1e3]])
    np.testing.assert_array_equal(rates.death_rate, [0.25, 1.75, 1.75])
    np.testing.assert_array_equal(rates.birth_rate, 1.0)


def test_an_environment_holds_what_its_site_says():
    """Growth support, shield and migration are those of the site; crowding scales births."""
    model = build(
        sites=("lung", "brain"),
        growth_factor={"brain": 2.0},
        shielded_share={"brain": 0.5},
        migration_rate={"brain": {"lung": 0.125}},
    )
    here = builders.environment(model, site="brain")
    assert (here.growth_factor, here.shielded_share) == (2.0, 0.5)
    np.testing.assert_array_equal(here.migration_rate, [0.125, 0.0])
    crowded = models.environment_at(model, 1, builders.vector(()), 0.25)
    assert crowded.crowding_factor == 0.25
    assert builders.rates(model, site="brain").birth_rate == 2.0


def test_a_cast_model_has_one_precision_and_loses_no_name():
    """Every number becomes a JAX array of the type; names, levels and conventions stay."""
    model = build(**JOURNEY)
    single = models.cast(model, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {np.dtype("float32")}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(single))
    assert single.names == model.names
    assert single.genome.max_levels == (1, 3, 1, 1)


def test_a_new_number_compiles_nothing_new():
    """Parameters are traced: another dose, rate or affinity reuses the compiled function."""
    traces = []

    @eqx.filter_jit
    def counted(model, cell, here):
        traces.append(1)
        return models.rates(model, cell, here)

    for kd, level in itertools.product((0.1, 0.7), (0.0, 2.0)):
        model = build(**{**JOURNEY, "kd": kd})
        cell, here = (
            builders.traits(model, {"copies": 1}),
            builders.environment(model, {"x": level}),
        )
        counted(models.cast(model, builders.real()), cell, here)
    assert len(traces) == 1
