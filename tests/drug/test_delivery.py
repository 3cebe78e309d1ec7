"""Delivery: what of the blood level reaches a site, and how soon."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.drug import delivery
from jaxevo.drug.plasma import CENTRAL, GUT, NUM_COMPARTMENTS
from jaxevo.model import cast
from tests import builders
from tests.builders import assert_close, assert_same_bits, build, in_double

pytestmark = pytest.mark.both_precisions

SITES = ("tumor", "core", "brain")
BARRIER = {
    "sites": SITES,
    "drugs": ("substrate", "other", "inhibitor"),
    "pumps": ("P-gp",),
    "vmax": {"P-gp": {"substrate": 90.0}},
    "km": {"P-gp": {"substrate": 3.0}},
    "inhibition_ki": {"P-gp": {"inhibitor": 0.2}},
    "barrier_permeability": {"brain": {"substrate": 6.0, "other": 2.0}},
    "barrier_pump": {"brain": {"P-gp": 1.8}},
}


def reach(model, blood: dict[str, float] | None = None):
    """Fraction and rate [site][drug] of every drug at every site."""
    levels = builders.vector(model.names.drugs, blood)
    params, pumps = cast((model.delivery, model.cellular.transport), builders.real())
    names, drugs = model.names.sites, model.names.drugs
    return tuple(
        {s: dict(zip(drugs, row, strict=True)) for s, row in zip(names, np.asarray(x), strict=True)}
        for x in _reach(params, pumps, levels)
    )


_reach = jax.jit(delivery.all_sites)


def test_a_site_is_like_blood_unless_something_hinders():
    """Neutral: fraction 1 at once, exactly."""
    fraction, rate = reach(build(sites=SITES, drugs=("x",)))
    assert all(fraction[s]["x"] == 1.0 for s in SITES)
    assert all(np.isinf(rate[s]["x"]) for s in SITES)


def test_a_poorly_perfused_core_gets_its_fraction_at_its_rate():
    """Biology row 14: delivered fraction and equilibration rate, per site and drug."""
    model = build(
        sites=SITES,
        drugs=("x", "y"),
        delivered_fraction={"core": {"x": 0.2, "y": 0.5}},
        equilibration_rate={"core": {"x": 3.0}},
    )
    fraction, rate = reach(model)
    assert_close([fraction["core"]["x"], fraction["core"]["y"], rate["core"]["x"]], [0.2, 0.5, 3.0])
    assert np.isinf(rate["core"]["y"])
    assert fraction["tumor"] == {"x": 1.0, "y": 1.0}


def test_penetration_falls_with_molecular_size_and_with_distance():
    """Biology row 15: e^{-x/lambda}, lambda ~ M^(-1/2) (Minchinton & Tannock 2006, doi:10.1038/nrc1893)."""
    masses = {"small": 125.0, "middle": 500.0, "antibody": 150_000.0}
    lengths = {name: 100.0 * (500.0 / mass) ** 0.5 for name, mass in masses.items()}
    model = build(
        sites=SITES,
        drugs=tuple(masses),
        vessel_distance={"tumor": 0.0, "core": 50.0, "brain": 150.0},
        penetration_length=dict.fromkeys(SITES, lengths),
    )
    fraction, _ = reach(model)
    assert set(fraction["tumor"].values()) == {1.0}
    assert_close(fraction["core"]["small"], np.exp(-0.25))
    assert_close(fraction["brain"]["middle"], np.exp(-1.5))
    for site in ("core", "brain"):
        assert fraction[site]["small"] > fraction[site]["middle"] > fraction[site]["antibody"]
    for name in masses:
        assert fraction["core"][name] > fraction["brain"][name]


def test_a_barrier_holds_substrates_back_and_an_inhibitor_opens_it_for_them_alone():
    """Biology row 16: f = PS/(PS + a V/K (1 - I)); a drug that is no substrate passes with f = 1 at rate
    PS, whatever the inhibitor does, to the bit.
    """
    model, pumping = build(**BARRIER), 1.8 * 90.0 / 3.0
    before = reach(model)
    for inhibitor in (0.0, 0.05, 0.2, 3.8, 1e6):
        fraction, rate = reach(model, {"inhibitor": inhibitor})
        pumped = pumping * 0.2 / (0.2 + inhibitor)
        assert_close(fraction["brain"]["substrate"], 6.0 / (6.0 + pumped))
        assert_close(rate["brain"]["substrate"], 6.0 + pumped)
        for result, first in zip((fraction, rate), before, strict=True):
            assert result["brain"]["other"] == first["brain"]["other"]
            assert result["tumor"] == first["tumor"]
    assert fraction["brain"]["other"] == 1.0
    assert_close(rate["brain"]["other"], 2.0)
    assert_close(fraction["brain"]["substrate"], 1.0, 1e-5, 1e-5)


def test_resistances_on_the_way_add():
    """1/k = 1/k_perfusion + 1/(PS + E)."""
    _, rate = reach(build(**BARRIER, equilibration_rate=12.0))
    assert_close(rate["brain"]["other"], 1 / (1 / 12 + 1 / 2))
    assert_close(rate["tumor"]["other"], 12.0)


def test_pumps_without_a_barrier_do_nothing():
    """A pump at a site's vessels needs a barrier to stand in: the bits are those of no pump."""
    leaky = {**BARRIER, "barrier_permeability": np.inf}
    without = {**leaky, "barrier_pump": 0.0}
    assert_same_bits(reach(build(**leaky)), reach(build(**without)))


def test_a_closed_barrier_lets_nothing_through_and_spoils_nothing():
    """PS = 0 without pumps: rate 0, no 0/0."""
    fraction, rate = reach(
        build(sites=SITES, drugs=("x",), barrier_permeability={"brain": {"x": 0.0}})
    )
    assert rate["brain"]["x"] == 0.0
    assert np.isfinite(fraction["brain"]["x"])


ORAL = {
    "is_prescribed": 0.0,
    "absorption_rate": 20.0,
    "clearance": 60.0,
    "central_volume": 30.0,
    "unbound_fraction": 0.4,
}


@eqx.filter_jit
def carry(model, fraction, rate, state, infusion, level, days):
    """`advance_drug` of the model's only drug."""
    plasma = jax.tree.map(lambda x: x[0], cast(model.plasma, state.dtype))
    state = delivery.advance_drug(plasma, fraction, rate, state, infusion, level, days)
    blood = delivery.blood_level(plasma, state, level)
    return state, blood, delivery.site_level(fraction, rate, state, blood)


def start(num_sites: int, gut: float = 0.0):
    """Empty blood and sites, and a dose in the gut, umol."""
    return jnp.zeros(NUM_COMPARTMENTS + num_sites, builders.real()).at[GUT].set(gut)


def numbers(*values):
    """Values in the precision of the run."""
    return [jnp.asarray(x, builders.real()) for x in values]


def test_every_site_settles_at_its_fraction_of_the_free_blood_level():
    """Steady state under an infusion R: C_blood = f_u R/CL, C_site = f C_blood, at once or slowly."""
    model = build(drugs=("x",), **ORAL)
    fraction, rate = numbers([1.0, 0.3, 0.02], [np.inf, 5.0, 0.7])
    _, blood, sites = carry(model, fraction, rate, start(3), *numbers(120.0, 0.0, 60.0))
    assert_close(blood, 0.4 * 120.0 / 60.0)
    assert_close(sites, np.asarray(blood) * [1.0, 0.3, 0.02], 1e-4, 1e-9)


@in_double
def test_sites_that_follow_slowly_agree_with_diffrax():
    """C_site' = k (f f_u C - C_site) with an oral dose: 1e-8 at 1 h, 6 h, 2 d, also in several steps."""
    model = build(drugs=("x",), **ORAL)
    fraction, rate = numbers([0.5, 0.8, 1.0], [0.9, 40.0, np.inf])

    def slope(_, y, __):
        absorbed, level = 20.0 * y[0], 0.4 * y[1] / 30.0
        slow = jnp.array([0.9, 40.0]) * (jnp.array([0.5, 0.8]) * level - y[2:])
        return jnp.concatenate([jnp.stack([-absorbed, absorbed - 60.0 / 30.0 * y[1]]), slow])

    times = jnp.array([1 / 24, 0.25, 2.0])
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        diffrax.Dopri8(),
        t0=0.0,
        t1=2.0,
        dt0=None,
        y0=jnp.array([200.0, 0.0, 0.0, 0.0]),
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=1e-11, atol=1e-11),
    )
    state = start(3, gut=200.0)
    for expected, days in zip(np.asarray(solution.ys), np.diff(times, prepend=0.0), strict=True):
        state, blood, sites = carry(model, fraction, rate, state, *numbers(0.0, 0.0, days))
        np.testing.assert_allclose(state[:2], expected[:2], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(sites[:2], expected[2:], rtol=1e-8)
        assert sites[2] == blood


def test_a_prescribed_level_is_the_blood_level_and_drives_slow_sites():
    """C_site = f L (1 - e^{-kt}); a site without delay has f L at once."""
    model = build(drugs=("x",))
    fraction, rate = numbers([0.5, 0.5], [2.0, np.inf])
    _, blood, sites = carry(model, fraction, rate, start(2), *numbers(0.0, 3.0, 0.4))
    assert blood == 3.0
    assert_close(sites, [1.5 * -np.expm1(-0.8), 1.5])


def test_a_site_takes_nothing_out_of_the_blood():
    """Closure: sites are small; the plasma course does not depend on them, to 1e-6."""
    model = build(drugs=("x",), **ORAL)
    alone, *_ = carry(model, *numbers([1.0], [np.inf]), start(1, 50.0), *numbers(0.0, 0.0, 0.3))
    with_site, *_ = carry(model, *numbers([1.0], [9.0]), start(1, 50.0), *numbers(0.0, 0.0, 0.3))
    assert_close(with_site[CENTRAL], alone[CENTRAL], 1e-5, 1e-12)
