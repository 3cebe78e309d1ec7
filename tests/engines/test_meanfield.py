"""The `meanfield` engine: means, covariances and event days, against exact laws and SciPy."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm

from jaxevo.custom import custom_model
from jaxevo.drug import course as drug_course
from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines import flow, meanfield, stepping
from jaxevo.engines.base import Arm, Founder, Immigration, Jump, Problem, Record, Refused
from jaxevo.engines.grid import arm_inputs, marks, multiples
from jaxevo.engines.network import speeds
from jaxevo.engines.process import Process, planned
from jaxevo.model import Model, cast
from jaxevo.state import Rates
from tests import laws
from tests.builders import build, in_double
from tests.models import estipop, logistic, lotka_volterra
from tests.models.following import day_of, states

course = jax.jit(meanfield.course)
moments_along = jax.jit(meanfield.moments_along)


def law_of(problem: Problem, arm: int = 0) -> Process:
    """The law of one arm, with an interval per sync."""
    _, stacked = planned(problem, marks(problem.record, problem.horizon), cut_at_doses=True)
    return jax.tree.map(lambda x: x[arm], stacked)


def study(model: Model, founders: dict[int, int], horizon: float, **options) -> Problem:
    """Founders by packed genotype at the first site; one arm, recorded at its ends."""
    settings = {
        "arms": (Arm("only", ()),), "seed": 1, "replicates": 1, "sync": horizon,
        "max_cells": 1000, "record": Record(every=horizon),
    } | options  # fmt: skip
    cells = tuple(Founder(n, g, 0) for g, n in founders.items())
    return Problem(model, cells, horizon=horizon, **settings)


# --- any branching process -------------------------------------------------------------------------


def tabled_rates(p, levels, environment) -> Rates:
    """Rates from tables; the concentration is the number of the segment."""
    segment, own = jnp.round(environment.concentration[0]).astype(int), levels[0].astype(int)
    types = p["birth"].shape[1]
    to = own + np.concatenate([np.arange(1 - types, 0), np.arange(1, types)])

    def row(table):
        inside = (to >= 0) & (to < types)
        return jnp.where(inside, table[own, jnp.clip(to, 0, types - 1)], 0.0)

    return Rates(
        birth_rate=p["birth"][segment, own],
        death_rate=p["death"][segment, own],
        mutation_probability=row(p["mutation"]),
        switching_rate=row(p["conversion"][segment]),
        asymmetric_probability=row(p["asymmetric"]),
        symmetric_probability=row(p["symmetric"]),
    )


def tabled(law: laws.Process, founders, **options) -> Problem:
    """A problem whose types are the levels of one alteration, with the tables of `law`."""
    types = law.birth.shape[1]
    steps = [("type", k) for k in range(1 - types, types) if k]
    fields = ("birth", "death", "mutation", "conversion", "asymmetric", "symmetric")
    model = custom_model(
        {"type": types - 1}, tabled_rates, {name: getattr(law, name) for name in fields},
        mutations=steps, switches=steps, differentiations=steps, drugs=("segment",),
        mutating_daughters="both" if law.both_daughters else "one",
    )  # fmt: skip
    ends = np.cumsum(law.durations)
    levels = tuple(
        Level(0, end - h, end, float(k))
        for k, (end, h) in enumerate(zip(ends, law.durations, strict=True))
    )
    jumps = [
        Jump(end - h, (float(kept[0]),))
        for end, h, kept in zip(ends, law.durations, law.kept, strict=True)
        if kept[0] < 1
    ]
    arrivals = [
        Immigration(float(rate), j, 0, int(law.batch[j]))
        for j, rate in enumerate(law.arrivals[0])
        if rate > 0
    ]
    return study(
        model, {i: int(n) for i, n in enumerate(founders) if n}, float(ends[-1]),
        arms=(Arm("only", (), levels, tuple(jumps)),), immigration=tuple(arrivals), **options,
    )  # fmt: skip


def random_law(seed: int, is_both: bool) -> tuple[laws.Process, np.ndarray]:
    """Four types, three segments, everything that can happen."""
    rng = np.random.default_rng(seed)
    k, off = 4, 1 - np.eye(4)
    sparse = lambda scale: rng.random((k, k)) * (rng.random((k, k)) < 0.6) * off * scale  # noqa: E731
    law = laws.process(
        rng.uniform(0.5, 4, 3), rng.uniform(0, 1, (3, k)), rng.uniform(0, 1.2, (3, k)),
        sparse(0.1), np.stack([sparse(0.3) for _ in range(3)]), is_both, sparse(0.1), sparse(0.1),
        arrivals=np.broadcast_to([0, 0.7, 0, 0.2], (3, k)), batch=[1, 3, 1, 1],
        kept=np.broadcast_to([[1.0], [0.4], [1.0]], (3, k)),
    )  # fmt: skip
    return law, rng.integers(1, 50, k)


@pytest.mark.parametrize("is_both", [False, True])
@pytest.mark.parametrize("seed", range(8))
@in_double
def test_moments_of_any_branching_process_are_exact(seed, is_both):
    """Mutation in one or both daughters, differentiation, conversion, immigration in batches, a jump.

    Against the matrix exponential of `tests.laws.moments` (Athreya & Ney 1972, chapter V).
    """
    law, founders = random_law(seed, is_both)
    mean, covariance = laws.moments(law, founders)
    one = law_of(tabled(law, founders))
    found = moments_along(one, jnp.asarray(founders, float))
    np.testing.assert_allclose(found.count[-1], mean, rtol=1e-11)
    np.testing.assert_allclose(found.covariance[-1], covariance, rtol=1e-10, atol=1e-9)
    along = course(one, jnp.asarray(founders, float))
    np.testing.assert_allclose(along.count[-1], mean, rtol=1e-12)


@in_double
def test_two_types_one_way():
    """E04: means of A and of B at day 8, A -> A + B with u per division (one daughter)."""
    law = laws.process([8.0], [[1.0, 1.0]], [[0.5, 0.5]], [[0, 0.01], [0, 0]])
    found = course(law_of(tabled(law, [1, 0])), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(found.count[-1], [50.400445, 4.1977053], rtol=1e-7)


@pytest.mark.parametrize(("deaths", "mean", "sd"), [
    ((0.20, 0.13) * 10, 30.19738, 20.0210),
    ((0.165,) * 20, 30.19738, 18.9019),
])  # fmt: skip
@in_double
def test_schedules_with_one_mean_have_different_deviations(deaths, mean, sd):
    """E05, Kendall 1948, 10.1214/aoms/1177730285: printed mean and deviation after 140 days."""
    law = laws.process([7.0] * 20, 0.14, np.array(deaths)[:, None])
    found = moments_along(law_of(tabled(law, [1000])), jnp.array([1000.0]))
    assert float(found.count[-1, 0]) == pytest.approx(mean, abs=5e-6)
    assert float(found.covariance[-1, 0, 0]) ** 0.5 == pytest.approx(sd, abs=5e-5)
    exact = laws.birth_death([7.0] * 20, [0.14] * 20, deaths)
    assert float(found.covariance[-1, 0, 0]) == pytest.approx(exact.variance(1000), rel=1e-11)


@pytest.mark.parametrize(("arrivals", "mean", "sd"), [
    (1.0, 9.93262, 3.151606), (10.0, 99.3262, 9.966253),
])  # fmt: skip
@in_double
def test_immigration_and_death_make_a_poisson_number(arrivals, mean, sd):
    """DSMTS 002-01 and 002-02 at day 50; Evans et al. 2008, 10.1093/bioinformatics/btm566."""
    law = laws.process([50.0], 0.0, 0.1, arrivals=arrivals)
    found = moments_along(law_of(tabled(law, [1])), jnp.array([0.0]))
    assert float(found.count[-1, 0]) == pytest.approx(mean, rel=1e-6)
    assert float(found.covariance[-1, 0, 0]) ** 0.5 == pytest.approx(sd, rel=1e-6)


@in_double
def test_batches_from_outside_add_the_square_of_their_size():
    """A Poisson process of batches of c: mean a c int m, variance a c^2 int m^2 + a c int v.

    m and v mean and variance of one cell's descendants (Kendall's law); Campbell's theorem.
    """
    a, c, b, d, t = 0.3, 5, 0.2, 0.25, 30.0
    one = lambda s: laws.birth_death([s], [b], [d])  # noqa: E731
    mean = quad(lambda s: a * c * one(s).mean(), 0, t)[0]
    variance = quad(lambda s: a * c**2 * one(s).mean() ** 2 + a * c * one(s).variance(), 0, t)[0]
    law = laws.process([t], b, d, arrivals=a, batch=c)
    found = moments_along(law_of(tabled(law, [1])), jnp.array([0.0]))
    assert float(found.count[-1, 0]) == pytest.approx(mean, rel=1e-9)
    assert float(found.covariance[-1, 0, 0]) == pytest.approx(variance, rel=1e-9)


@in_double
def test_rates_that_change_in_time():
    """V11, Roney et al. 2020, 10.1093/bioinformatics/btaa526: mean and variance to 1e-5.

    Rates are held over a sync: the mean has their exact average, the variance has second order.
    """
    mean, variance, errors = 425.364259883693, 4386.38004944714, []
    for sync in (1.0, 0.5, 0.1):
        problem = estipop.problem(sync=sync, record=Record(every=20.0))
        found = moments_along(law_of(problem), jnp.array([500.0]))
        assert float(found.count[-1, 0]) == pytest.approx(mean, rel=1e-6)
        errors.append(abs(float(found.covariance[-1, 0, 0]) - 4386.380404))
    assert errors[2] < 1e-5 * variance
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


@in_double
def test_fast_steps_down_a_hierarchy_stay_exact():
    """Rates up to 150 a day for 60 days: to rounding, against the matrix exponential."""
    production = np.diag([1.0, 1.0, 1.0], 1)
    law = laws.process(
        [60.0], [[1.6, 10.0, 100.0, 0.0]], [[1.6, 0.008, 50.0, 150.0]], asymmetric=production
    )
    mean, _ = laws.moments(law, [1000, 0, 0, 0])
    found = course(law_of(tabled(law, [1000, 0, 0, 0])), jnp.array([1000.0, 0, 0, 0]))
    np.testing.assert_allclose(found.count[-1], mean, rtol=1e-11)


@in_double
def test_cells_outside_the_set_of_classes_are_counted():
    """One alteration of two at most: what would have both is outside, and is expected in full."""
    model = build(
        birth_rate=0.5, death_rate=0.2,
        alterations={name: {"first_gain_probability": 0.01} for name in "ab"},
    )  # fmt: skip
    whole = study(model, {0: 100}, 20.0)
    part = whole._replace(max_alterations=1)
    both, leaked = (
        course(law_of(p), jnp.zeros(4).at[0].set(100.0)).count[-1, 3] for p in (whole, part)
    )
    divisions = 0.5 * 0.01 * 2 * 0.5 * 0.01 * 100  # leaked cells do not divide: b u int n_a + n_b
    growth, t = 0.3, 20.0
    shrunk = growth - 0.5 * 0.02
    mutated = growth - 0.5 * 0.01
    inner = lambda s: (np.exp(mutated * s) - np.exp(shrunk * s)) / (mutated - shrunk)  # noqa: E731
    expected = divisions * quad(inner, 0, t)[0]
    assert float(leaked) == pytest.approx(expected, rel=1e-9)
    assert float(both) > float(leaked)


# --- where rates depend on counts ------------------------------------------------------------------


@pytest.mark.parametrize("crowding", ["logistic", "gompertz"])
@in_double
def test_crowded_counts_follow_the_differential_equation(crowding):
    """Two classes that share room for 1e6 cells, against SciPy's DOP853 at 1e-12."""
    model = build(
        birth_rate=0.4, death_rate=0.05, crowding=crowding, capacity=1e6,
        alterations={"r": {"first_gain_probability": 1e-4, "birth_cost": 0.2}},
    )  # fmt: skip

    def change(_, n):
        total = n.sum()
        room = 1 - total / 1e6 if crowding == "logistic" else 1 - np.log(total) / np.log(1e6)
        born = np.array([0.4, 0.4 * 0.8]) * room * n
        return [born[0] * (1 - 1e-4) - 0.05 * n[0], born[1] + 1e-4 * born[0] - 0.05 * n[1]]

    exact = solve_ivp(change, (0, 80), [100.0, 0.0], "DOP853", rtol=1e-12, atol=1e-9).y[:, -1]
    found = course(law_of(study(model, {0: 100}, 80.0)), jnp.array([100.0, 0.0]))
    np.testing.assert_allclose(found.count[-1], exact, rtol=1e-8)


@in_double
def test_linear_noise_tends_to_the_exact_law():
    """Logistic growth from K/10: mean and variance against the exact chain, off by order 1/K.

    Kurtz 1971, 10.2307/3211904. Doubling K halves the relative error of the mean and of the variance.
    """
    errors = []
    for capacity in (100, 200, 400):
        law = laws.Logistic(1.0, 0.3, capacity).law(capacity // 10, 4.0)
        problem = logistic.problem(
            1.0, 0.3, capacity, capacity // 10, 4.0, sync=4.0, record=Record(every=4.0)
        )
        found = moments_along(law_of(problem), jnp.array([capacity / 10]))
        mean, variance = float(found.count[-1, 0]), float(found.covariance[-1, 0, 0])
        errors.append([mean / law.mean - 1, variance / law.variance - 1])
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    np.testing.assert_allclose(ratios[1], 2, rtol=0.1)
    assert np.all(np.abs(errors[-1]) < 0.03)


class Predation(NamedTuple):
    """Cells that an immune variable kills, which they recruit."""

    birth: float = 0.3
    kill: float = 1e-3
    supply: float = 10.0
    loss: float = 0.2
    recruitment: float = 1e-4


def hunted(p, levels, environment) -> Rates:
    """Death in proportion to the immune variable, and to the drug."""
    death = p.kill * environment.extra[0] + 0.1 * environment.concentration[0]
    return Rates(birth_rate=p.birth, death_rate=death)


def recruited(p, day, population, extra, concentration):
    """Immune cells are supplied, recruited, and lost."""
    return p.supply + p.recruitment * population.sum() * extra - p.loss * extra


def predation(**options) -> Problem:
    """1,000 cells, 40 immune cells, a drug on days 2 to 5."""
    model = custom_model(
        {}, hunted, Predation(), drugs=("x",), has_feedback=True, drift=recruited, start=(40.0,)
    )
    arm = Arm("only", (), (Level(0, 2.0, 5.0, 1.5),))
    return study(model, {0: 1000}, 15.0, arms=(arm,), **options)


@in_double
def test_extra_variables_move_with_the_counts():
    """Predation against SciPy; the intervals of the study do not matter where levels are constant."""
    y = np.array([1000.0, 40.0])
    for begin, end, drug in ((0, 2, 0.0), (2, 5, 1.5), (5, 15, 0.0)):

        def change(_, y, drug=drug):
            n, z = y
            return [0.3 * n - (1e-3 * z + 0.1 * drug) * n, 10 + 1e-4 * n * z - 0.2 * z]

        y = solve_ivp(change, (begin, end), y, "DOP853", rtol=1e-12, atol=1e-9).y[:, -1]
    for sync in (15.0, 1.0):
        found = course(law_of(predation(sync=sync)), jnp.array([1000.0]))
        np.testing.assert_allclose([found.count[-1, 0], found.extra[-1, 0]], y, rtol=1e-8)


@in_double
def test_noise_spreads_to_extra_variables():
    """Covariance of cells and immune variable: V' = J V + V J^T + B, written out for SciPy."""

    def change(_, y):
        n, z, nn, nz, zz = y
        jacobian = np.array([[0.3 - 1e-3 * z, -1e-3 * n], [1e-4 * z, 1e-4 * n - 0.2]])
        covariance = np.array([[nn, nz], [nz, zz]])
        v = jacobian @ covariance + covariance @ jacobian.T
        v[0, 0] += n * (0.3 + 1e-3 * z)
        flow = [0.3 * n - 1e-3 * z * n, 10 + 1e-4 * n * z - 0.2 * z]
        return [*flow, v[0, 0], v[0, 1], v[1, 1]]

    exact = solve_ivp(change, (0, 10), [1000, 40, 0, 0, 0], "DOP853", rtol=1e-12, atol=1e-9).y[
        :, -1
    ]
    problem = predation()._replace(arms=(Arm("only", ()),), horizon=10.0, record=Record(every=10.0))
    found = moments_along(law_of(problem), jnp.array([1000.0]))
    covariance = found.covariance[-1]
    np.testing.assert_allclose(
        [covariance[0, 0], covariance[0, 1], covariance[1, 1]], exact[2:], rtol=1e-6
    )


@in_double
def test_speeds_along_the_course_are_its_averages():
    """`held`: births at the crowding of the course, averaged over each half of every interval."""
    problem = logistic.problem(1.0, 0.3, 1000.0, 50, 6.0, sync=2.0, record=Record(every=6.0))
    law, start = law_of(problem), jnp.array([50.0])
    found = jax.jit(meanfield.held, static_argnames="pieces")(law, start, pieces=2)
    a, k = 0.7, 1000 * 0.7  # n' = a n (1 - n/k)
    size = lambda t: k / (1 + (k / 50 - 1) * np.exp(-a * t))  # noqa: E731
    exact = [quad(lambda t: 1 - size(t) / 1000, i, i + 1, epsabs=1e-13)[0] for i in range(6)]
    np.testing.assert_allclose(found.birth[:, 0], exact, rtol=1e-8)
    np.testing.assert_allclose(found.death, 0.3, rtol=1e-12)


# --- days between edges, and events ----------------------------------------------------------------


@in_double
def test_days_between_edges_are_on_the_same_course():
    """Splitting an interval anywhere changes nothing, and a jump acts on its day."""
    jump = Arm("only", (), (), (Jump(3.0, (0.25,)),))
    model = build(birth_rate=0.5, death_rate=0.1)
    law = law_of(study(model, {0: 100}, 10.0, arms=(jump,)))
    start, days = jnp.array([100.0]), jnp.array([0.0, 1.7, 3.0, 9.99, 10.0])
    found = flow.on_days(law, course(law, start), days)
    exact = 100 * np.exp(0.4 * np.asarray(days)) * np.where(np.asarray(days) < 3, 1, 0.25)
    np.testing.assert_allclose(found.count[:, 0], exact, rtol=1e-12)


@pytest.mark.parametrize("capacity", [np.inf, 1e4])
def test_the_day_of_a_size_is_solved_not_rounded(capacity):
    """Day at which 100 cells are 5,000: ln(50)/g, or the logistic curve's; never is infinite."""
    model = build(birth_rate=0.5, death_rate=0.0, crowding="logistic", capacity=capacity)
    odds = lambda n: n / (1 - n / capacity)  # noqa: E731
    exact = np.log(odds(5000) / odds(100)) / 0.5
    for horizon, day in ((30.0, exact), (5.0, np.inf)):
        problem = study(model, {0: 100}, horizon)
        assert day_of(problem, has_5000) == pytest.approx(day, abs=1e-8)
        assert day_of(problem, has_5000, count0=np.array([5000.0])) == 0
    count, _ = states(study(model, {0: 100}, 30.0), [exact])
    assert count[0, 0] == pytest.approx(5000, rel=1e-8)


def has_5000(count, _):
    """Not negative from 5,000 cells on."""
    return count.sum() - 5000


def test_adaptive_treatment_of_a_patient_progresses_on_the_published_day():
    """V04: exact days of three patients under continuous and adaptive treatment (0.05 d)."""
    for row in (
        (0.75, 0.001, 0.0, 0.0, 451.60, 662.76),
        (0.75, 0.001, 0.5, 0.0, 799.00, 1234.90),
        (0.5, 0.01, 0.3, 0.1, 416.78, 514.63),
    ):
        who = lotka_volterra.patient(*row[:4])
        found = [lotka_volterra.progression(who, rule) for rule in ("ct", "at50")]
        assert found == pytest.approx(row[4:], abs=0.005)


# --- gradients -------------------------------------------------------------------------------------


def assert_slope(function, at: float, tolerance: float = 1e-5) -> None:
    """Reverse-mode derivative against central differences, and not zero."""
    step, both = 1e-3 * abs(at), jax.jit(jax.value_and_grad(function))
    values = {k: float(both(at + k * step)[0]) for k in (-2, -1, 1, 2)}
    near, far = (values[1] - values[-1]) / (2 * step), (values[2] - values[-2]) / (4 * step)
    central = (4 * near - far) / 3  # fourth order
    assert abs(central) > 0
    assert float(both(at)[1]) == pytest.approx(central, rel=tolerance)


def scaled_levels() -> tuple[Callable, jax.Array, int]:
    """The law of `predation` with all levels times a factor, its start, and steps at most."""
    law, start = law_of(predation()), jnp.array([1000.0])
    most = int(course(law, start).steps.max()) + 8
    change = lambda x: eqx.tree_at(lambda p: p.concentration, law, law.concentration * x)  # noqa: E731
    return change, start, most


@in_double
def test_expected_cells_are_differentiable_in_a_level_through_feedback():
    """Predation: cells at day 15, with respect to the level on days 2 to 5."""
    law, start, most = scaled_levels()
    assert_slope(lambda x: meanfield.course(law(x), start, most=most).count[-1, 0], 1.0)


@pytest.mark.slow
@in_double
def test_the_variance_is_differentiable_in_a_level_through_feedback():
    """The same for the variance of the cells at day 15."""
    law, start, most = scaled_levels()
    along = lambda x: meanfield.moments_along(law(x), start, most=4 * most)  # noqa: E731
    assert_slope(lambda x: along(x).covariance[-1, 0, 0], 1.0)


@pytest.mark.slow
@in_double
def test_expected_cells_are_differentiable_in_a_dose_through_pharmacokinetics():
    """mg by mouth -> plasma -> rates -> cells; the doses are those that the course of the drug reads."""
    model = build(
        drugs=("x",), targets=("T",), kd={"T": {"x": 0.5}}, max_death_rate=0.6, birth_rate=0.3,
        is_prescribed=0.0, clearance=2.0, central_volume=20.0, absorption_rate=12.0,
        alterations={"r": {"first_gain_probability": 1e-3, "kd_fold": {"x": 20.0}}},
    )  # fmt: skip
    arm = Arm("only", tuple(Dose(0, float(day), 100.0, is_oral=True) for day in range(10)))
    law = law_of(study(model, {0: 1000}, 10.0, arms=(arm,), sync=1.0))
    given = arm_inputs(model, arm, multiples(1.0, 10.0))
    wide = cast(model, jnp.float64)
    steps = np.diff(np.concatenate([[0.0], NODES, [1.0]]))
    parts = (wide.plasma, wide.delivery, wide.cellular.transport)

    def cells(amount):
        doses = (given.gut_dose * amount, *given[2:])
        _, site = drug_course._course(*parts, doses, np.diff(given.edges)[:, None] * steps)
        each = lambda c: speeds(wide, law.net, law.traits, c, jnp.asarray(WEIGHTS))  # noqa: E731
        table = jax.vmap(each)(site)
        here = eqx.tree_at(
            lambda p: (p.speeds, p.which), law, (table, jnp.arange(10, dtype=jnp.int32))
        )
        return meanfield.course(here, jnp.array([1000.0, 0.0]), most=8).count[-1].sum()

    expected = course(law, jnp.array([1000.0, 0.0])).count[-1].sum()
    assert float(cells(1.0)) == pytest.approx(float(expected), rel=1e-9)
    assert_slope(cells, 1.0)


@in_double
def test_too_few_steps_give_nan_and_no_wrong_number():
    """`most` is a promise; where it is broken the result says so."""
    law = law_of(predation())
    assert np.isnan(meanfield.course(law, jnp.array([1000.0]), most=1).count[-1, 0])
    linear = law_of(study(build(birth_rate=9.0, death_rate=1.0), {0: 1}, 5.0))
    assert np.isnan(meanfield.course(linear, jnp.array([1.0]), most=2).count[-1, 0])


# --- the study -------------------------------------------------------------------------------------


def test_a_trajectory_holds_means_and_deviations_of_every_patient_and_arm():
    """Shapes, and that a patient's numbers are those of a study with that patient alone."""
    jump = Arm("cut", (), (), (Jump(4.0, (0.5,)),))
    arms = (Arm("none", ()), jump)
    models = tuple(build(birth_rate=b, death_rate=0.1) for b in (0.2, 0.3, 0.4))
    problem = study(models[0], {0: 50}, 8.0, arms=arms, sync=2.0, record=Record(every=4.0))
    root = meanfield.simulate(problem._replace(patients=models))[""]
    assert root["burden"].dims == ("arm", "patient", "replicate", "time")
    assert root["burden"].data.shape == (2, 3, 1, 3)
    assert list(root["closure"].data) == ["exact moments"] * 2
    alone = meanfield.simulate(problem._replace(model=models[1]))[""]
    for name in ("burden", "burden_sd", "class_count", "class_sd", "site_burden"):
        np.testing.assert_allclose(root[name].data[:, 1:2], alone[name].data, rtol=1e-12)
    kept = laws.birth_death([4.0], [0.3], [0.1])
    mean, variance = 50 * kept.mean() * 0.5, 50 * (kept.variance() / 4 + kept.mean() / 4)
    last = laws.birth_death([4.0], [0.3], [0.1])
    burden, sd = (root[name].data[1, 1, 0, 2] for name in ("burden", "burden_sd"))
    assert burden == pytest.approx(mean * last.mean(), rel=1e-12)
    assert sd**2 == pytest.approx(variance * last.mean() ** 2 + mean * last.variance(), rel=1e-10)


def mutating(birth: float, death: float, probability: float) -> Model:
    """Two classes that grow alike; one daughter mutates."""
    alteration = {"first_gain_probability": probability}
    return build(birth_rate=birth, death_rate=death, alterations={"r": alteration})


def test_a_tumor_grown_to_a_size_has_the_mutants_of_its_history():
    """V02 (Bozic et al. 2013, 10.7554/eLife.00747): M mu of them, mu = (u/s) ln(M s), s = 1 - d/b."""
    model = mutating(0.14, 0.13, 5e-8)
    problem = study(model, {0: 1}, 1.0, treat_at_cells=10**8)
    root = meanfield.simulate(problem)[""]
    survival = 1 - 13 / 14
    expected = 1e8 * 5e-8 / survival * np.log(1e8 * survival)
    assert root["burden"].data[0, 0, 0, 0] == pytest.approx(1e8, rel=1e-9)
    assert root["burden_sd"].data[0, 0, 0, 0] < 1e-3 * 1e8
    assert root["class_count"].data[0, 0, 0, 0, 1] == pytest.approx(expected, rel=1e-4)


def test_mutants_at_a_size_against_the_urn():
    """n founders, no death, M cells, u: the exact chain of the mutants as the culture grows.

    The course passes M on its own day, a culture on a random one: its mean is u M (H_M - H_n), H the
    harmonic numbers, and the course's u M ln(M/n); its variance is n/(n + 1) of the course's.
    """
    u, size = 1e-3, 2000
    model = mutating(0.5, 0.0, u)
    for founders in (1, 20):
        k = np.arange(size + 1)
        p = (k == 0).astype(float)
        for n in range(founders, size):
            up = np.minimum(k / n + (1 - k / n) * u, 1.0)
            p = p * (1 - up) + np.concatenate([[0.0], (p * up)[:-1]])
        exact = laws.Law(k, p)
        root = meanfield.simulate(study(model, {0: founders}, 1.0, treat_at_cells=size))[""]
        mean, sd = (root[name].data[0, 0, 0, 0, 1] for name in ("class_count", "class_sd"))
        harmonic = (1 / np.arange(founders + 1, size + 1)).sum()
        shift = u * size * (np.log(size / founders) - harmonic)
        assert mean - exact.mean == pytest.approx(shift, rel=0.1)
        assert sd**2 * founders / (founders + 1) == pytest.approx(exact.variance, rel=0.03)


@pytest.mark.parametrize(("change", "sentence"), [
    ({"stop_at_cells": 10**6}, "meanfield cannot stop a tumor at a size"),
    ({"treat_at_cells": 10**30}, "does not reach .* cells within"),
    ({"treat_at_cells": 10}, "the founders are 50 cells, no fewer than treat_at_cells"),
])  # fmt: skip
def test_what_an_expected_course_cannot_do_is_refused(change, sentence):
    """In one sentence that says why and what to do."""
    problem = study(mutating(0.1001, 0.1, 1e-6), {0: 50}, 2.0)
    with pytest.raises(Refused, match=sentence):
        meanfield.simulate(problem._replace(**change))


def test_a_tumor_that_dies_out_never_reaches_a_size():
    """Founders without growth are refused before they are followed for a century."""
    problem = study(mutating(0.1, 0.2, 1e-6), {0: 1}, 2.0, treat_at_cells=1000)
    with pytest.raises(Refused, match="does not grow to 1000 cells"):
        meanfield.simulate(problem)


# --- the integrators -------------------------------------------------------------------------------


@in_double
def test_a_step_of_the_adaptive_method_has_order_eight():
    """y' = -y^2 cos t: with a quarter of the step the error is 4^8 times smaller, at least."""

    def field(t, y):
        return -(y**2) * jnp.cos(t)

    def solved(steps):
        y = jnp.array([1.5])
        for i in range(steps):
            y, _ = stepping.runge_kutta(
                field, jnp.asarray(2.0 * i / steps), y, jnp.asarray(2 / steps)
            )
        return float(y[0])

    exact = 1 / (1 / 1.5 + np.sin(2.0))
    errors = [abs(solved(steps) - exact) for steps in (4, 16)]
    assert errors[0] / errors[1] > 4**8


@in_double
def test_linear_flow_is_the_matrix_exponential():
    """Also with a source, with no time at all, and with fast rates."""
    rng = np.random.default_rng(0)
    a, c, y = rng.normal(size=(4, 4)), rng.random(4), rng.random(4)
    for scale, duration in ((1.0, 1.0), (20.0, 3.0), (1.0, 0.0)):
        matrix = a * scale - 3 * scale * np.eye(4)
        whole = np.zeros((5, 5))
        whole[:4, :4], whole[:4, 4] = matrix, c
        exact = (expm(whole * duration) @ np.append(y, 1.0))[:4]
        bound = jnp.asarray(np.abs(matrix).sum(0).max())
        found = stepping.exponential(
            lambda v, one, m=matrix: m @ v + one * c, jnp.asarray(y), jnp.asarray(duration), bound
        )
        np.testing.assert_allclose(found.value, exact, rtol=1e-12)
