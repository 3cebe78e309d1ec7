"""Host: neutrophils follow what the drugs do to the marrow; pumps and G-CSF move the limit."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from jaxevo import host
from jaxevo.drug.course import NODES
from jaxevo.host import HostParams, HostState
from jaxevo.model import Model, cast
from tests import builders
from tests.builders import assert_close, assert_same_bits, build, in_double

pytestmark = pytest.mark.both_precisions

LEAK = 1440.0  # 1/day, the neutral exchange rate of builders
DRUGS = ("doxorubicin", "cisplatin", "elacridar", "filgrastim")
MODEL = build(
    drugs=DRUGS,
    pumps=("MDR1",),
    vmax={"MDR1": {"doxorubicin": 4 * LEAK}},
    km={"MDR1": {"doxorubicin": 2.0}},
    inhibition_ki={"MDR1": {"elacridar": 0.05}},
)
TOXIC = {"slope": {"doxorubicin": 1.0, "cisplatin": 1.0}}
SUPPORT = {"growth_gain": {"filgrastim": 0.4}, "growth_half": {"filgrastim": 0.1}}

_course = eqx.filter_jit(host.course)
_advance = eqx.filter_jit(host.advance)
_level = eqx.filter_jit(host.marrow_level)
_effect = eqx.filter_jit(host.marrow_effect)


def patient(model: Model = MODEL, **parameters) -> HostParams:
    """Neutral but for what is named, in the precision of this run."""
    return cast(builders.host(model, **parameters), builders.real())


def pumps(model: Model = MODEL):
    return cast(model.cellular.transport, builders.real())


def level(**by_drug: float) -> jax.Array:
    return builders.vector(DRUGS, by_drug)


def at_nodes(*by_interval: jax.Array) -> jax.Array:
    """Concentrations that stay constant within each interval, [interval, node, drug]."""
    return jnp.stack([jnp.tile(c, (len(NODES), 1)) for c in by_interval])


def days(count: int) -> jax.Array:
    """Intervals of one day."""
    return jnp.ones(count, builders.real())


def treated(params: HostParams, pulse: jax.Array, after: jax.Array, num_days=28) -> HostState:
    """One day of `pulse` (uM), then `after`, day by day."""
    given = at_nodes(pulse, *[after] * (num_days - 1))
    return _course(params, pumps(), given, days(num_days), 1.0)


# --- the law ---------------------------------------------------------------------------------------


def test_without_drug_the_marrow_stays_at_its_baseline():
    """To the bit; all days are days of grade 0."""
    params = patient(**TOXIC)
    end = treated(params, level(), level())
    assert_same_bits(np.asarray(end.circulating), np.full(29, params.baseline))
    assert_same_bits(np.asarray(end.transit), np.full((29, 3), params.baseline))
    assert_same_bits(np.asarray(end.lowest), np.full(29, params.baseline))
    assert_close(end.grade_days[-1], [28.0, 0, 0, 0, 0])


def test_an_interval_of_no_length_changes_nothing():
    """Whatever the dose: padding of the engines costs no bit."""
    params = patient(**TOXIC)
    before = jax.tree.map(lambda x: x[9], treated(params, level(doxorubicin=2.0), level()))
    lethal = at_nodes(level(doxorubicin=1e4))[0]
    none = jnp.zeros((), builders.real())
    assert_same_bits(_advance(params, pumps(), before, lethal, none), before)


def test_without_feedback_the_chain_is_the_matrix_exponential():
    """gamma = 0 and a constant effect: a linear system, here with loss and support together."""
    params = patient(feedback=0.0, **TOXIC, **SUPPORT)
    dose = level(cisplatin=0.7, filgrastim=0.1)
    k, g, days_on = 4 / 4.0, 1 + 0.4 / 2, 7.0
    matrix = np.diag([k * (g * (1 - 0.7) - 1), -k * g, -k * g, -k * g, -k])
    matrix += np.diag([k, k * g, k * g, k * g], -1)
    expected = expm(matrix * days_on) @ np.full(5, 5.0)
    length = jnp.asarray(days_on, builders.real())
    end = _advance(params, pumps(), host.start(params), at_nodes(dose)[0], length)
    found = [end.proliferating, *end.transit, end.circulating]
    assert_close(found, expected, single=1e-4, double=1e-4)


@in_double
def test_halving_the_step_divides_the_error_by_sixteen():
    """Order 4 in the step, here around a nadir."""
    params, length = patient(**TOXIC), jnp.asarray(7.0)
    before = jax.tree.map(lambda x: x[2], treated(params, level(doxorubicin=2.0), level()))

    def end(longest: float) -> float:
        state = _advance(
            params, pumps(), before, at_nodes(level(cisplatin=0.3))[0], length, longest
        )
        return float(state.circulating)

    exact = end(64 * 7.0)
    errors = [abs(end(factor * 7.0) - exact) for factor in (1.0, 2.0)]
    assert 12 < errors[0] / errors[1] < 20
    assert errors[0] < 1e-4 * exact


def test_two_halves_of_an_interval_make_the_whole():
    """Under a constant level, to the accuracy of the steps."""
    params, here = patient(**TOXIC), at_nodes(level(cisplatin=0.4))[0]
    once = _advance(params, pumps(), host.start(params), here, jnp.asarray(4.0, builders.real()))
    half = jnp.asarray(2.0, builders.real())
    twice = host.start(params)
    for _ in range(2):
        twice = _advance(params, pumps(), twice, here, half)
    assert_close(twice.circulating, once.circulating, single=1e-4, double=1e-4)
    assert_close(jnp.sum(twice.grade_days), jnp.sum(once.grade_days))


# --- dose and effect -------------------------------------------------------------------------------


def test_more_drug_means_a_deeper_and_longer_neutropenia():
    """Nadir and days below 1.0 (grades 3 and 4), for doses that double."""
    params = patient(**TOXIC)
    ends = [treated(params, level(cisplatin=dose), level()) for dose in (0.5, 1.0, 2.0, 4.0)]
    lowest = [float(end.lowest[-1]) for end in ends]
    severe = [float(end.grade_days[-1, 3:].sum()) for end in ends]
    assert sorted(lowest, reverse=True) == lowest
    assert sorted(severe) == severe
    assert severe[-1] > severe[0]


@in_double
def test_a_small_dose_acts_in_proportion():
    """The depth of the nadir is linear in the dose as the dose goes to zero."""
    params = patient(**TOXIC)
    depth = [
        5.0 - float(treated(params, level(cisplatin=dose), level()).lowest[-1])
        for dose in (1e-4, 2e-4)
    ]
    assert depth[0] > 0
    assert depth[1] / depth[0] == pytest.approx(2.0, rel=1e-3)


def test_effects_of_several_drugs_add():
    """E = sum of slope times level; each alone and both together."""
    params = patient(slope={"doxorubicin": 1.5, "cisplatin": 0.5})
    both, _ = _effect(params, pumps(), level(doxorubicin=0.2, cisplatin=0.4))
    assert_close(both, 1.5 * 0.2 + 0.5 * 0.4)


@pytest.mark.parametrize("dose", [3.0, 30.0, 3e3])
def test_a_marrow_that_loses_more_than_it_makes_stays_finite(dose):
    """E far beyond 1, for weeks: counts fall to nothing, never below."""
    given = [level(cisplatin=dose)] * 4
    end = _course(patient(**TOXIC), pumps(), at_nodes(*given), 7 * days(4), 7.0)
    cells = np.concatenate([end.transit, np.stack([end.circulating, end.proliferating], 1)], axis=1)
    assert np.all(np.isfinite(cells))
    assert np.all(cells >= 0)
    assert np.all(np.diff(end.circulating) < 0)
    assert end.circulating[-1] < 1e-3
    assert_close(end.grade_days[-1].sum(), 28.0)


@in_double
def test_the_gradient_of_the_nadir_is_that_of_central_differences():
    """With respect to dose, pumps, feedback and share, also where no drug is given at all."""
    dose = level(doxorubicin=1.0, cisplatin=0.3, elacridar=0.02, filgrastim=0.05)
    params = patient(**TOXIC, **SUPPORT, marrow_pump=0.5, transduced_share=0.3, transduced_pump=2.0)

    @jax.jit
    def counts(params, blood):
        """The lowest count and the last one after five days."""
        here, length = at_nodes(blood)[0], jnp.asarray(5.0)
        end = host.advance(params, pumps(), host.start(params), here, length)
        return end.lowest + end.circulating

    gradient = jax.jit(jax.grad(counts, argnums=(0, 1)))
    by_params, by_dose = gradient(params, dose)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(by_params))
    for d in range(len(DRUGS)):
        step = 1e-5 * jnp.eye(len(DRUGS))[d]
        slope = (counts(params, dose + step) - counts(params, dose - step)) / 2e-5
        assert float(by_dose[d]) == pytest.approx(float(slope), rel=1e-4, abs=1e-7)
    for name in ("feedback", "transduced_share"):
        change = lambda by, name=name: eqx.tree_at(  # noqa: E731
            lambda p: getattr(p, name), params, getattr(params, name) + by
        )
        slope = (counts(change(1e-5), dose) - counts(change(-1e-5), dose)) / 2e-5
        assert float(getattr(by_params, name)) == pytest.approx(float(slope), rel=1e-4)
    by_params, by_dose = gradient(params, level())
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(by_params))
    assert np.all(np.asarray(by_dose[:2]) < 0)
    assert by_dose[2] == 0


# --- pumps of the marrow ---------------------------------------------------------------------------

PUMPED = 4 / 2  # unsaturated pumping per leak, of doxorubicin with one multiple of vmax
FAINT = {"doxorubicin": 1e-5, "cisplatin": 1e-5}  # uM, far below the Michaelis constant


@pytest.mark.parametrize("own", [0.0, 1.5])
def test_an_inhibitor_costs_neutrophils_for_substrates_where_the_marrow_has_pumps(own):
    """C_eff/C = (1 + a r)/(1 + a r (1 - I)) for the substrate, exactly 1 for any other drug and, in
    marrow without pumps, for all; I = C/(C + Ki).
    """
    params = patient(**TOXIC, marrow_pump=own)
    blood = level(**FAINT, elacridar=0.15)
    found = np.asarray(_level(params, pumps(), blood) / blood)
    assert_close(found[0], (1 + own * PUMPED) / (1 + own * PUMPED * 0.25), single=3e-5, double=2e-5)
    assert found[1] == found[2] == 1.0
    assert own > 0 or found[0] == 1.0
    dose = {"doxorubicin": 0.6, "cisplatin": 0.2}
    alone = treated(params, level(**dose), level()).lowest[-1]
    modulated = treated(params, level(**dose, elacridar=0.15), level()).lowest[-1]
    assert (modulated < 0.8 * alone) if own else (modulated == alone)


def test_transduced_marrow_takes_up_less_of_a_substrate_and_as_much_of_any_other_drug():
    """C_eff/C = 1 - s + s (1 + a r)/(1 + (a + b) r), b pumps beyond the normal a in a share s."""
    params = patient(marrow_pump=0.5, transduced_share=0.4, transduced_pump=3.0)
    found = np.asarray(_level(params, pumps(), level(**FAINT)))
    expected = 1e-5 * (0.6 + 0.4 * (1 + 0.5 * PUMPED) / (1 + 3.5 * PUMPED))
    assert_close(found[0], expected, single=3e-5, double=2e-5)
    assert found[1] == np.float32(1e-5) if found.dtype == np.float32 else found[1] == 1e-5


def test_a_slope_measured_in_usual_marrow_holds_as_it_stands():
    """Whatever pumps usual marrow has, saturated or not, and whatever other substrates compete:
    C_eff is the level in blood, to the bit.
    """
    for blood in (level(**FAINT), level(doxorubicin=50.0, cisplatin=3.0)):
        for own in (0.0, 0.5, 20.0):
            assert_same_bits(_level(patient(marrow_pump=own), pumps(), blood), blood)


def test_marrow_without_pumps_may_have_no_pump_axis():
    """Empty pump fields are pumps of amount 0, to the bit: nothing is balanced."""
    zero, none = patient(**TOXIC), np.zeros(0, builders.real())
    empty = dataclasses.replace(zero, marrow_pump=none, transduced_pump=none)
    blood = level(doxorubicin=3.0, cisplatin=0.2, elacridar=1.0)
    assert_same_bits(_effect(empty, pumps(), blood), _effect(zero, pumps(), blood))


def test_a_drug_that_enters_no_cell_keeps_its_slope():
    """c/c_0 is 0/0 without influx; the level in blood stands."""
    model = build(drugs=("x",), pumps=("MDR1",), influx_rate=0.0)
    blood = jnp.asarray([2.0], builders.real())
    assert_same_bits(_level(patient(model, marrow_pump=1.0), pumps(model), blood), blood)


def tolerated(params: HostParams, drug: str, least: float = 0.5) -> float:
    """Largest level (uM, for a day) whose nadir is no lower than `least`, by bisection."""
    low, high = 0.0, 1e3
    for _ in range(40):
        middle = (low + high) / 2
        is_tolerated = treated(params, level(**{drug: middle}), level()).lowest[-1] >= least
        low, high = (middle, high) if is_tolerated else (low, middle)
    return low


def test_transduced_marrow_allows_a_higher_dose_of_a_substrate_and_of_no_other_drug():
    """The dose at which the nadir touches grade 4 (0.5e9/L); biology row 20."""
    usual = patient(**TOXIC, marrow_pump=0.5)
    protected = patient(**TOXIC, marrow_pump=0.5, transduced_share=0.8, transduced_pump=4.0)
    assert tolerated(protected, "doxorubicin") > 1.2 * tolerated(usual, "doxorubicin")
    assert tolerated(protected, "cisplatin") == tolerated(usual, "cisplatin")
    allowed = tolerated(usual, "cisplatin")
    assert 0.5 <= treated(usual, level(cisplatin=allowed), level()).lowest[-1] < 0.501


# --- support ---------------------------------------------------------------------------------------


def test_g_csf_shortens_the_neutropenia_and_its_nadir_comes_earlier():
    """The same cytotoxic dose with and without support from the second day on."""
    params, dose = patient(**TOXIC, **SUPPORT), level(cisplatin=6.0)
    alone, helped = treated(params, dose, level()), treated(params, dose, level(filgrastim=0.3))
    assert helped.lowest[-1] > alone.lowest[-1]
    assert helped.grade_days[-1, 4] < 0.8 * alone.grade_days[-1, 4]
    assert helped.grade_days[-1, 1:].sum() < 0.8 * alone.grade_days[-1, 1:].sum()
    assert np.argmin(helped.circulating) < np.argmin(alone.circulating)


def test_steady_support_settles_where_the_feedback_balances_it():
    """C = C_0 g^(1/gamma) and P = C, T_i = C/g: the fixed point of the equations."""
    end = treated(patient(**SUPPORT), level(filgrastim=0.1), level(filgrastim=0.1), 120)
    gain, gamma = 1.2, 0.2
    settled = 5.0 * gain ** (1 / gamma)
    assert_close(end.circulating[-1], settled, single=1e-5, double=1e-6)
    assert_close(end.proliferating[-1], settled, single=1e-5, double=1e-6)
    assert_close(end.transit[-1], np.full(3, settled / gain), single=1e-5, double=1e-6)


# --- what is remembered ----------------------------------------------------------------------------


def test_grades_are_those_of_ctcae():
    """Below 2.0, 1.5, 1.0, 0.5; a limit itself belongs to the milder grade."""
    counts = jnp.asarray([[9.0, 2.0, 1.99], [1.5, 1.49, 1.0], [0.99, 0.5, 0.49]], builders.real())
    np.testing.assert_array_equal(host.grade(counts), [[0, 0, 1], [1, 2, 2], [3, 3, 4]])


def test_days_of_all_grades_sum_to_the_elapsed_days():
    """At every time, and each is a day that the counts show."""
    params = patient(**TOXIC)
    end = treated(params, level(cisplatin=4.0), level())
    assert_close(end.grade_days.sum(axis=1), np.arange(29.0), single=1e-5, double=1e-12)
    fine = _course(
        params,
        pumps(),
        at_nodes(*[level(cisplatin=4.0)] * 32, *[level()] * (27 * 32)),
        days(28 * 32) / 32,
        1 / 32,
    )
    seen = np.bincount(np.asarray(host.grade(fine.circulating)[1:]), minlength=5) / 32
    np.testing.assert_allclose(end.grade_days[-1], seen, atol=0.07)
    assert np.all(seen > 0.1)


def test_the_lowest_count_is_found_between_steps():
    """The nadir to 1e-4 with steps of a quarter day, and it is remembered after recovery."""
    params = patient(**TOXIC)
    given = [at_nodes(level(cisplatin=2.0))] + [at_nodes(level())] * 3
    coarse, fine = (
        _course(params, pumps(), jnp.concatenate(given), 7 * days(4), longest)
        for longest in (7.0, 112.0)
    )
    assert_close(coarse.lowest[-1], fine.lowest[-1], single=1e-4, double=1e-4)
    assert coarse.circulating[-1] > 2 * coarse.lowest[-1]
    assert np.all(np.diff(coarse.lowest) <= 0)


def test_patients_side_by_side_are_patients_one_by_one():
    """The functions speak of one patient; engines map them."""
    one, other = patient(**TOXIC), patient(**TOXIC, baseline=3.0, transit_days=5.0)
    given = at_nodes(level(cisplatin=1.0), level())
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), one, other)
    together = jax.vmap(lambda p: _course(p, pumps(), given, days(2), 1.0))(both)
    for i, params in enumerate((one, other)):
        alone = _course(params, pumps(), given, days(2), 1.0)
        assert_close(together.circulating[i], alone.circulating)
        assert_close(together.grade_days[i], alone.grade_days)
