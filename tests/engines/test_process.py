"""One tumor's law over time: rates of every interval, jumps at their moment, arms side by side."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxevo.custom import custom_model
from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines.base import Arm, Founder, Immigration, Jump, Problem, Record
from jaxevo.engines.grid import arm_course, arm_inputs, marks
from jaxevo.engines.process import drift_at, first_extra, growth_process, planned, speeds_at
from jaxevo.state import Rates
from tests import agreement, builders, twins
from tests.agreement import batch
from tests.builders import build

MODEL = build(
    drugs=("x",), targets=("T",), kd={"T": {"x": 0.5}}, max_death_rate=1.5, max_inhibition=0.4,
    is_prescribed=0.0, clearance=30.0, central_volume=20.0,
    alterations={"m": {"first_gain_probability": 0.02, "kd_fold": {"x": 10.0}},
                 "e": {"inheritance": "epigenetic", "on_rate": 0.1, "off_rate": 0.2,
                       "induced_on_rate": {"x": 0.7}}},
)  # fmt: skip


def daily(days: int, hour: float = 0.0, mg: float = 30.0) -> tuple[Dose, ...]:
    """One bolus a day."""
    return tuple(Dose(0, day + hour, mg) for day in range(days))


def problem(*arms: Arm, model=MODEL, horizon=10.0, sync=1.0, **rest) -> Problem:
    """Founders of the unaltered class, records as often as syncs."""
    founders = (Founder(10, 0, 0),)
    record = Record(every=rest.pop("every", sync))
    return Problem(model, founders, arms, 1, 1, horizon, sync, 10_000, record=record, **rest)


def plan(study: Problem, *, cut_at_doses: bool = False):
    """Timeline, and process with leaves as NumPy arrays."""
    when = marks(study.record, study.horizon)
    timeline, process = planned(study, when, cut_at_doses=cut_at_doses)
    return timeline, jax.tree.map(np.asarray, process)


def row(process, law: int, interval: int):
    """Speeds of one law in one interval."""
    return jax.tree.map(lambda x: x[law, process.which[law, interval]], process.speeds)


# --- rates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [7, 13])
@builders.in_double
def test_the_process_is_the_random_model(number):
    """Rates, offspring, jumps and lengths of all intervals against the twin's tables, to 1e-12.

    Copies, hierarchy, moves, surgery, radiation and seeding; a graph of four classes on two sites.
    """
    random = batch(number, 3)
    timeline, process = plan(random.problem)
    net, twin = process.net, random.twin
    n = slice(0, net.num_types)

    def dense(edges, values) -> np.ndarray:
        table = np.zeros((net.num_types,) * 2)
        np.add.at(table, (np.array(edges.source, int), np.array(edges.target, int)), values)
        return table

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)  # noqa: E731
    assert list(net.genotypes) == random.genotypes
    close(timeline.duration.T, twin.duration)
    close(process.kept, twin.kept[:, :, n])
    for law, k in np.ndindex(twin.duration.shape):
        found = row(process, law, k)
        close(found.birth, twin.birth[law, k, n])
        close(found.death, twin.death[law, k, n])
        close(dense(net.conversions, found.conversion), twin.conversion[law, k, n, n])
        daughters = twins.daughters(
            dense(net.mutations, found.mutation), dense(net.asymmetric, found.asymmetric),
            dense(net.symmetric, found.symmetric), net.is_both,
        )  # fmt: skip
        divides = np.flatnonzero(np.asarray(found.birth) > 0)  # the others have no daughters
        close(daughters[divides], twin.daughters[law, k, divides, n, n])


@builders.in_double
def test_rates_are_averages_over_the_doses_of_an_interval():
    """(1/h) integral of the rate, where a bolus is taken at 7 h and the interval is two days.

    Plasma falls as e^{-kt}, k = 1.5/day; the quadrature at nine nodes per piece is good to 1e-6.
    """
    study = problem(Arm("daily", daily(4, 7 / 24)), horizon=4.0, sync=2.0)
    timeline, process = plan(study)
    assert timeline.duration[:, 0].tolist() == [2.0, 2.0]
    peak = 30.0 / 500 * 1e3 / 20

    def level(t: float) -> float:
        return sum(peak * np.exp(-1.5 * (t - d.day)) for d in study.arms[0].doses if d.day <= t)

    def death(t: float, fold: float) -> float:
        odds = level(t) / (0.5 * fold)
        return 0.25 + 1.5 * odds / (1 + odds)

    for k, type_ in itertools.product(range(2), range(4)):
        fold = 10.0 if process.net.genotypes[type_] % 2 else 1.0
        breaks = [d.day for d in study.arms[0].doses if 2 * k < d.day < 2 * k + 2]
        expected, _ = quad(death, 2 * k, 2 * k + 2, (fold,), points=breaks, epsabs=1e-12)
        np.testing.assert_allclose(row(process, 0, k).death[type_], expected / 2, rtol=1e-6)


@builders.in_double
def test_cut_at_doses_or_averaged_the_integrals_of_rates_are_the_same():
    """The sum over intervals of length times rate does not depend on where time is cut."""
    arm = Arm("odd", daily(10, 0.3)[::3], (), (Jump(4.4, (0.5,)),))
    sums = []
    for cut in (False, True):
        timeline, process = plan(problem(arm, sync=2.5), cut_at_doses=cut)
        rows = [row(process, 0, k) for k in range(len(timeline.start))]
        weighted = [jax.tree.map(lambda x, h=h: h * x, r) for r, h in
                    zip(rows, timeline.duration[:, 0], strict=True)]  # fmt: skip
        sums.append(jax.tree.map(lambda *x: sum(x), *weighted))
        edges = np.append(timeline.start[:, 0], timeline.start[-1, 0] + timeline.duration[-1, 0])
        assert (0.3 in edges) == cut
        assert 4.4 in edges  # a jump always cuts
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), *sums)


@builders.in_double
def test_equal_weeks_share_rows_and_change_no_rate():
    """26 weeks of five days on, two off: few rows, every one within 1e-9 of its own interval's."""
    doses = tuple(Dose(0, 7.0 * week + day, 40.0) for week in range(26) for day in range(5))
    study = problem(Arm("cycle", doses), horizon=182.0, sync=7.0)
    timeline, process = plan(study)
    assert process.speeds.death.shape[1] < 6  # the drug of one week hardly reaches the next
    _, fine = plan(study, cut_at_doses=True)
    given = arm_inputs(MODEL, study.arms[0], np.append(timeline.start[:, 0], 182.0))
    site = arm_course(MODEL, given).site[:, :, 0, 0]
    length = np.diff(given.edges)
    owner = np.minimum((given.edges[:-1] + 1e-9) // 7, 25).astype(int)
    odds = site / 0.5
    mean_death = (0.25 + 1.5 * odds / (1 + odds)) @ WEIGHTS
    direct = np.bincount(owner, mean_death * length) / 7
    found = [row(process, 0, k).death[0] for k in range(26)]
    np.testing.assert_allclose(found, direct, rtol=1e-9)
    assert fine.speeds.death.shape[1] < 26 * 5


def rising(params, levels, environment) -> Rates:
    """Birth falls with the day, as in ESTIpop's example; the drug kills."""
    day = environment.day
    return Rates(
        0.3 - 0.25 * (1 - jnp.exp(-0.1 * day)),
        params["death"] + jnp.sum(environment.concentration),
        mutation_probability=jnp.full((1,), 0.1, day.dtype),
    )


@builders.in_double
def test_a_law_that_reads_the_day_is_averaged_over_each_interval():
    """Nothing is shared between intervals with equal drug: b(t) = .05 + .25 e^{-t/10} is integrated."""
    model = custom_model({"m": 1}, rising, {"death": np.array(0.2)}, mutations=[("m", 1)])
    timeline, process = plan(problem(Arm("none", ()), model=model, horizon=20.0, sync=6.0))
    edges = np.append(timeline.start[:, 0], 20.0)
    integral = 0.05 * edges - 2.5 * np.exp(-0.1 * edges)
    found = [row(process, 0, k).birth[0] for k in range(len(edges) - 1)]
    np.testing.assert_allclose(found, np.diff(integral) / np.diff(edges), rtol=1e-8)


# --- arms, patients, marks -------------------------------------------------------------------------


@builders.in_double
def test_arms_with_other_doses_are_padded_to_the_same_marks():
    """Law = arm * patients + patient; between two marks all laws have equally many intervals.

    A padded interval has no length, keeps every cell, and stands at the end of its mark.
    """
    arms = (
        Arm("none", ()),
        Arm("often", daily(10, 0.4)),
        Arm("surgery", (), (), (Jump(3.3, (0.2,)), Jump(3.6, (0.5,)))),
    )
    slower = eqx.tree_at(lambda m: m.birth.birth_rate, MODEL, np.array(0.5))
    study = problem(*arms, patients=(MODEL, slower), every=2.0)
    when = marks(study.record, study.horizon)
    timeline, process = plan(study, cut_at_doses=True)
    assert timeline.start.shape[1] == 6
    for law, (first, stop) in itertools.product(range(6), itertools.pairwise(timeline.of_mark)):
        mark = int(np.searchsorted(timeline.of_mark, first))
        lengths = timeline.duration[first:stop, law]
        np.testing.assert_allclose(lengths.sum(), when.day[mark + 1] - when.day[mark])
        starts = when.day[mark] + np.concatenate([[0], np.cumsum(lengths)[:-1]])
        np.testing.assert_allclose(timeline.start[first:stop, law], starts, rtol=1e-12)
        assert np.all(process.kept[law, first:stop][lengths == 0] == 1)
        assert np.all(lengths[: np.count_nonzero(lengths)] > 0)
    birth = [row(process, law, 0).birth[0] for law in range(6)]
    np.testing.assert_allclose(birth[:2], [1.0, 0.5], rtol=1e-12)
    assert np.count_nonzero(process.kept[4] < 1, axis=0)[0] == 2
    np.testing.assert_array_equal(process.start, timeline.start.T)


@builders.in_double
def test_a_law_among_others_is_the_law_alone():
    """Rates, jumps and lengths of an arm and patient do not depend on what is planned beside them."""
    arms = (Arm("a", daily(10)), Arm("b", daily(10, 0.5)[::2], (), (Jump(2.0, (0.5,)),)))
    other = eqx.tree_at(lambda m: m.plasma.clearance, MODEL, np.array([90.0]))
    together = problem(*arms, patients=(MODEL, other))
    timeline, process = plan(together, cut_at_doses=True)
    for law, (arm, model) in enumerate(itertools.product(arms, (MODEL, other))):
        time_alone, alone = plan(problem(arm, model=model), cut_at_doses=True)
        lives = timeline.duration[:, law] > 0
        np.testing.assert_array_equal(timeline.duration[lives, law], time_alone.duration[:, 0])
        np.testing.assert_array_equal(process.kept[law][lives], alone.kept[0])
        for k, at in enumerate(np.flatnonzero(lives)):
            found, expected = row(process, law, at), row(alone, 0, k)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15),
                found,
                expected,
            )


def test_some_patients_are_planned_as_all_are():
    """A range of patients gives the same laws, for engines that work in chunks."""
    faster = eqx.tree_at(lambda m: m.birth.birth_rate, MODEL, np.array(2.0))
    study = problem(Arm("a", daily(3)), horizon=3.0, patients=(MODEL, faster, MODEL))
    when = marks(study.record, study.horizon)
    with jax.enable_x64(True):
        _, whole = planned(study, when, cut_at_doses=False)
        _, part = planned(study, when, cut_at_doses=False, patients=range(1, 3))
    np.testing.assert_array_equal(whole.speeds.birth[1:], part.speeds.birth)


@builders.in_double
def test_two_arms_of_one_name_are_two_arms():
    """Concentrations are kept by the arm, not by its name."""
    study = problem(Arm("a", daily(3)), Arm("a", daily(3, mg=300.0)), horizon=3.0)
    _, process = plan(study)
    assert row(process, 1, 0).death[0] > row(process, 0, 0).death[0] + 0.05


# --- jumps and immigration -------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    ("days", "wanted"),
    [
        ((0.0,), {0.0: 0.5}),
        ((3.0,), {3.0: 0.5}),  # on a sync and on a dose
        ((3.4,), {3.4: 0.5}),  # between
        ((3.4, 3.4), {3.4: 0.25}),  # two at once
        ((3.4, 3.4 + 1e-10), {3.4: 0.25}),
        ((0.0, 3.0 - 1e-10, 7.7), {0.0: 0.5, 3.0: 0.5, 7.7: 0.5}),
        ((10.0,), {}),  # after the last day nothing happens
    ],
)
@builders.in_double
def test_a_jump_acts_at_the_start_of_the_interval_that_begins_on_its_day(days, wanted, cut):
    """Every cell is kept with the fraction of its site, at that moment and at no other."""
    arm = Arm("a", daily(10)[::3], (), tuple(Jump(day, (0.5,)) for day in days))
    timeline, process = plan(problem(arm), cut_at_doses=cut)
    kept = process.kept[0, :, 0]
    found = {
        round(float(timeline.start[k, 0]), 6): float(kept[k]) for k in np.flatnonzero(kept < 1)
    }
    assert found == wanted


@builders.in_double
def test_surgery_spares_sites_and_radiation_spares_repair():
    """kept of the site times exp(-(alpha D + beta D^2)/rho); what left the classes is not touched."""
    alterations = {"r": {"repair_factor": 3.0, "first_gain_probability": 0.1},
                   "m": {"first_gain_probability": 0.1}}  # fmt: skip
    model = build(sites=("a", "b"), alterations=alterations, alpha=0.3, beta=0.05)
    arm = Arm("both", (), (), (Jump(1.0, (0.2, 1.0), 2.0),))
    _, process = plan(problem(arm, model=model, horizon=2.0, max_alterations=1))
    alive = np.exp(-(0.3 * 2 + 0.05 * 4) / np.array([1.0, 3.0, 1.0]))
    wanted = np.append((alive[:, None] * [0.2, 1.0]).ravel(), 1.0)
    np.testing.assert_allclose(process.kept[0, 1], wanted, rtol=1e-12)
    assert np.all(process.kept[0, 0] == 1)


@builders.in_double
def test_immigration_keeps_its_order():
    """Rates stand beside the types and batches of the network."""
    sources = (Immigration(0.5, 1, 0, 3), Immigration(0.25, 0, 0, 1))
    _, process = plan(problem(Arm("a", ()), immigration=sources))
    assert process.net.immigrants == ((1, 3), (0, 1))
    np.testing.assert_array_equal(process.immigration[0], [0.5, 0.25])


# --- feedback --------------------------------------------------------------------------------------


def crowded_rates(params, levels, environment) -> Rates:
    """Reads everything: cells of all classes, an immune variable, the drug, the day."""
    full = environment.population.sum() / params["capacity"]
    return Rates(
        1 - full, environment.extra[0] * jnp.sum(environment.concentration) + environment.day,
        mutation_probability=jnp.full((1,), 0.1, full.dtype),
    )  # fmt: skip


def drift(params, day, population, extra, concentration):
    """Each variable takes one input."""
    return jnp.stack([population[1, 0] - extra[0], concentration[0, 0] + 0 * day])


@pytest.mark.parametrize("has_feedback", [True, False])
@builders.in_double
def test_feedback_is_asked_with_the_counts_of_the_moment(has_feedback):
    """Rates at counts and extra variables, day and drug averaged over the interval; so the drift.

    A law with a drift is never tabulated, whether or not its rates read the extra variables.
    """
    law = crowded_rates if has_feedback else rising
    params = {"capacity": np.array(50.0), "death": np.array(0.2)}
    model = custom_model(
        {"m": 1}, law, params, mutations=[("m", 1)], drugs=("x",), has_feedback=has_feedback,
        drift=drift, start=(2.0, 0.0),
    )  # fmt: skip
    levels = (Level(0, 1.0, 2.0, 0.5), Level(0, 2.5, 3.0, 2.0))
    timeline, process = plan(problem(Arm("a", (), levels), model=model, horizon=3.0))
    assert process.has_feedback
    assert timeline.start[:, 0].tolist() == [0.0, 1.0, 2.0, 2.5]
    count, extra = jnp.array([5.0, 20.0]), jnp.array([3.0, 0.0])
    one = jax.tree.map(lambda x: x[0], process)
    np.testing.assert_array_equal(first_extra(one), [2.0, 0.0])
    for k, drug in enumerate([0.0, 0.5, 0.0, 2.0]):
        start, length = timeline.start[k, 0], timeline.duration[k, 0]
        found = speeds_at(one, jnp.int32(k), count, extra)
        middle = start + length / 2
        if has_feedback:
            np.testing.assert_allclose(found.birth, [0.5, 0.5], rtol=1e-12)
            np.testing.assert_allclose(found.death, np.full(2, 3.0 * drug + middle), rtol=1e-12)
        else:
            now = start + length * NODES
            wanted = 0.05 + 0.25 * np.exp(-0.1 * now) @ WEIGHTS
            np.testing.assert_allclose(found.birth, np.full(2, wanted), rtol=1e-12)
        moved = drift_at(one, jnp.int32(k), jnp.array(start), count, extra)
        np.testing.assert_allclose(moved, [17.0, drug], rtol=1e-12)


@builders.in_double
def test_crowded_speeds_follow_the_counts_of_each_patient():
    """logistic, b (1 - N/K): every law has its own capacity."""
    roomy = build(crowding="logistic", capacity=100.0)
    tight = build(crowding="logistic", capacity=40.0)
    study = problem(Arm("a", ()), model=roomy, patients=(roomy, tight), horizon=1.0)
    _, process = plan(study)
    ask = jax.vmap(lambda law: speeds_at(law, jnp.int32(0), jnp.array([30.0]), jnp.zeros(0)))
    np.testing.assert_allclose(ask(process).birth[:, 0], [0.7, 0.25], rtol=1e-12)


@builders.in_double
def test_growth_is_without_drug_for_one_sync():
    """Before treatment no arm gives anything."""
    study = problem(Arm("a", daily(10), (), (Jump(0.0, (0.1,)),)), sync=0.5)
    process = jax.tree.map(np.asarray, growth_process(study))
    assert process.duration.tolist() == [0.5]
    assert np.all(process.kept == 1)
    np.testing.assert_allclose(process.speeds.death[process.which[0]], 0.25, rtol=1e-12)


def test_the_models_of_a_batch_are_the_same_whoever_asks():
    """Random models depend on the number of their batch alone; fewer patients are the first ones."""
    few, again = batch(0, 2), batch(0, 3)
    assert few.shape.name == agreement.SHAPES[0].name
    np.testing.assert_array_equal(few.twin.birth, again.twin.birth[:2])
