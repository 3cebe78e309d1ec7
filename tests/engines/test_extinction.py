"""The `extinction` engine: closed forms, an independent integration of random laws, and gradients."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines import extinction
from jaxevo.engines.base import (
    Arm,
    Founder,
    Immigration,
    Jump,
    Problem,
    Record,
    Refused,
    Relapse,
)
from jaxevo.engines.grid import marks
from jaxevo.engines.process import planned
from jaxevo.state import Rates
from tests import laws
from tests.builders import build

ALIVE = Relapse()


def problem(model, horizon: float, founders=((1, 0, 0),), **options) -> Problem:
    """A study of one arm, with one record: at the horizon."""
    arms = options.pop(
        "arms", (Arm("arm", (), options.pop("levels", ()), options.pop("jumps", ())),)
    )
    every = options.pop("every", horizon)
    return Problem(
        model=model,
        founders=tuple(Founder(*row) for row in founders),
        arms=arms,
        seed=1,
        replicates=1,
        horizon=horizon,
        sync=options.pop("sync", horizon),
        max_cells=8192,
        record=Record(every=every, concentration_every=horizon),
        **options,
    )


def last(problem: Problem, name: str = "relapse_probability") -> float:
    """A variable of the first arm and patient at the horizon."""
    return float(extinction.simulate(problem)[""][name].data[0, 0, ..., -1])


def birth_death(b: float, d: float):
    """One type, E01."""
    return build(birth_rate=b, death_rate=d)


def survival(b: float, d: float, t: float) -> float:
    """1 - alpha of E01 without cancellation: 1/(e^{-gt} + b (1 - e^{-gt})/g), g = b - d."""
    g = b - d
    return 1 / (math.exp(-g * t) - b * math.expm1(-g * t) / g)


# --- one type --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "d", "t", "founders", "extinct"),
    [
        (0.14, 0.13, 100.0, 1, 0.89151151),
        (0.14, 0.13, 365.0, 1, 0.92680489),
        (0.14, 0.17, 365.0, 10_000, 0.96948989),
    ],
)
def test_birth_and_death_have_the_printed_extinct_fractions(b, d, t, founders, extinct):
    """E01: alpha^{N0}; Kendall 1948, 10.1214/aoms/1177730285."""
    study = problem(birth_death(b, d), t, ((founders, 0, 0),))
    assert abs(math.exp(last(study, "no_relapse_log")) - extinct) < 6e-9


@pytest.mark.parametrize(
    ("death", "days"),
    [(0.05, 30.0), (0.14 + 1e-9, 1.0), (0.14 + 1e-9, 30.0), (5.0, 30.0), (50.0, 1.0), (50.0, 13.0)],
)
def test_survival_of_one_cell_is_relatively_exact_however_rare(death, days):
    """E01 to 1e-12, for survival from 1 down to 1e-281; deaths at 50 per day are stiff."""
    expected = survival(0.14, death, days)
    found = last(problem(birth_death(0.14, death), days, sync=7.0))
    assert found == pytest.approx(expected, rel=1e-12 * max(1, death * days), abs=0)


@pytest.mark.parametrize("days", [132.0, 880.0, 2300.0])
def test_survival_keeps_its_digits_at_1e_15_and_1e_100_and_1e_260(days):
    """b .14, d .4: p falls by e^{-.26} per day."""
    found = last(problem(birth_death(0.14, 0.4), days, sync=30.0))
    assert found == pytest.approx(survival(0.14, 0.4, days), rel=1e-11, abs=0)


def scheduled(birth: float, deaths, days: float) -> Problem:
    """One type whose death rate is stated for each of several equal segments, as a level."""
    model = custom_model({}, _stated, {"birth": birth}, drugs=("death",))
    edges = days * np.arange(len(deaths) + 1)
    levels = tuple(
        Level(0, a, b, d) for (a, b), d in zip(itertools.pairwise(edges), deaths, strict=True)
    )
    return problem(model, float(edges[-1]), ((1000, 0, 0),), levels=levels, sync=days)


def _stated(params, levels, environment):
    return Rates(birth_rate=params["birth"], death_rate=environment.concentration[0])


@pytest.mark.parametrize(
    ("deaths", "days", "extinct"),
    [([0.20, 0.13] * 10, 7.0, 0.01453634), ([0.165] * 20, 7.0, 0.00903424)],
)
def test_same_dose_and_same_mean_have_different_cure(deaths, days, extinct):
    """E05, 1000 cells: pulsed against constant; and the closed form to 1e-12."""
    found = last(scheduled(0.14, deaths, days), "no_relapse_log")
    assert abs(math.exp(found) - extinct) < 6e-9
    law = laws.birth_death([days] * len(deaths), [0.14] * len(deaths), deaths)
    assert found == pytest.approx(1000 * math.log(law.alpha), rel=1e-11)


@pytest.mark.parametrize(
    ("cells", "fractions", "gray", "control"),
    [(1e9, 35, 2.0, 0.98869394), (1e9, 20, 3.0, 0.93352511), (1e8, 30, 1.8, 0.60718902)],
)
def test_radiation_controls_as_printed(cells, fractions, gray, control):
    """E06 without repopulation: (1 - e^{-n (alpha D + beta D^2)})^cells.

    The printed digits are those of this power taken in double precision as it stands, where 1 - x has
    lost digits of x: right to 3e-8.
    """
    model = build(birth_rate=0.0, death_rate=0.0, alpha=0.3, beta=0.03)
    jumps = tuple(Jump(float(day), gray=gray) for day in range(fractions))
    study = problem(model, float(fractions), ((int(cells), 0, 0),), jumps=jumps)
    found = last(study, "no_relapse_log")
    expected = cells * math.log1p(-math.exp(-fractions * (0.3 * gray + 0.03 * gray**2)))
    assert found == pytest.approx(expected, rel=1e-12)
    assert abs(math.exp(found) - control) < 3e-8


def test_cells_that_regrow_between_fractions_are_thinned_again():
    """E06 with repopulation, and surgery on top: p(t-) = s p(t+), between jumps E01 in p."""
    b, d, n, s = 0.3, 0.1, 6, math.exp(-0.3 * 2 - 0.03 * 4)
    model = build(birth_rate=b, death_rate=d, alpha=0.3, beta=0.03)
    jumps = (*(Jump(float(day), gray=2.0) for day in range(n)), Jump(3.0, kept_fraction=(0.25,)))
    p, g = 1.0, b - d
    for day in reversed(range(n)):
        grown = math.exp(g)
        p = p * grown / (1 + b * p * (grown - 1) / g)
        p *= s * (0.25 if day == 3 else 1)
    assert last(problem(model, float(n), jumps=jumps)) == pytest.approx(p, rel=1e-12)


# --- immigration -----------------------------------------------------------------------------------


def test_nothing_has_immigrated_with_the_negative_binomial_probability():
    """Single cells at rate r into a birth-death process: P(0) = (1 + b (e^{gt} - 1)/g)^{-r/b}."""
    b, d, r, t = 0.3, 0.1, 0.2, 9.0
    study = problem(birth_death(b, d), t, ((0, 0, 0),), immigration=(Immigration(r),))
    expected = -r / b * math.log1p(b * math.expm1((b - d) * t) / (b - d))
    assert last(study, "no_relapse_log") == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("cells", [1, 40, 10_000])
@pytest.mark.parametrize("death", [0.1, 0.9])
def test_batches_of_immigrants_have_their_generating_function(cells, death):
    """ln P = integral of r ((1 - p(t))^cells - 1) dt, by quadrature of the closed form."""
    b, r, t = 0.3, 0.2, 9.0
    study = problem(
        birth_death(b, death), t, ((3, 0, 0),), immigration=(Immigration(r, cells=cells),)
    )

    def arrived(left: float) -> float:
        return math.expm1(cells * math.log1p(-survival(b, death, left)))

    total, _ = quad(arrived, 0, t, epsrel=1e-12, epsabs=0, limit=200)
    expected = r * total + 3 * math.log1p(-survival(b, death, t))
    assert last(study, "no_relapse_log") == pytest.approx(expected, rel=1e-9)


# --- which relapse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [3.0, 1e4, 1e12])
def test_soft_detection_is_the_generating_function_at_a_point(cells):
    """1 - E e^{-Z/N}: q(T) = e^{-1/N}; closed form 1 - G = (1-alpha)(1-s)/(1-beta s) in p."""
    b, d, t = 0.3, 0.5, 12.0
    law = laws.birth_death([t], [b], [d])
    missing = -math.expm1(-1 / cells)
    alive = survival(b, d, t)
    expected = alive * missing / (1 - law.beta + law.beta * missing)
    study = problem(birth_death(b, d), t, relapse=Relapse("detection", cells))
    assert last(study) == pytest.approx(expected, rel=1e-11)


def undetected(b: float, d: float, h: float, t: float) -> float:
    """1 - E e^{-h integral of Z}, one cell, t days: the Riccati equation p' = h + (b-d-h)p - b p^2.

    p = h (E - 1)/(r_1 (1 + ...)) in the form h (1 - E)/(r_1 - r_2 E), E = e^{-(r_1 - r_2) t}, with r the
    roots of r^2 + (b - d - h) r - b h, r_1 > 0 > r_2.
    """
    a = b - d - h
    root = math.sqrt(a * a + 4 * b * h)
    r_1, r_2 = (root - a) / 2, (-root - a) / 2
    fall = math.exp(-root * t)
    return h * (1 - fall) / (r_1 - r_2 * fall)


@pytest.mark.parametrize(("cells", "rate"), [(5.0, 1.0), (1e6, 0.3)])
def test_first_passage_is_the_detection_of_some_cell_at_some_time(cells, rate):
    """A hazard r/N of every living cell: the closed form of the Riccati equation."""
    b, d, t = 0.3, 0.2, 25.0
    relapse = Relapse("first_passage", cells, detection_rate=rate)
    study = problem(birth_death(b, d), t, relapse=relapse)
    assert last(study) == pytest.approx(undetected(b, d, rate / cells, t), rel=1e-11)


def test_before_the_day_of_assessment_nothing_is_detected():
    """p(assessed) is that of first passage for the rest; before it, E01 with p(end) = that."""
    b, d, h, t, assessed = 0.3, 0.2, 0.02, 25.0, 13.7
    relapse = Relapse("first_passage", 50.0, assessed_from=assessed)
    p, grown = undetected(b, d, h, t - assessed), math.exp((b - d) * assessed)
    expected = p * grown / (1 + b * p * (grown - 1) / (b - d))
    study = problem(birth_death(b, d), t, relapse=relapse, sync=10.0)
    assert last(study) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("assessed", [0.0, 13.7])
def test_mean_relapse_free_days_are_the_integral_of_the_survival(assessed):
    """Restricted to the horizon, against adaptive quadrature of the closed form, to 1e-6."""
    b, d, h, t, founders = 0.3, 0.2, 0.02, 40.0, 5

    def free(day: float) -> float:
        if day < assessed:
            return 1.0
        p, grown = undetected(b, d, h, day - assessed), math.exp((b - d) * assessed)
        return (1 - p * grown / (1 + b * p * (grown - 1) / (b - d))) ** founders

    expected, _ = quad(free, 0, t, points=[assessed], epsrel=1e-10, limit=300)
    relapse = Relapse("first_passage", 50.0, assessed_from=assessed)
    study = problem(birth_death(b, d), t, ((founders, 0, 0),), relapse=relapse)
    found = extinction.simulate(study)[""]["mean_relapse_free_days"].data[0, 0]
    assert found == pytest.approx(expected, rel=1e-6)


def test_relapse_by_every_record_day_is_that_of_a_study_that_ends_there():
    """Horizons are solved together, each from its own end; on day 0 a living tumor has relapsed."""
    deaths = [0.1, 0.5, 0.2, 0.9]
    study = scheduled(0.3, deaths, 5.0)._replace(record=Record(every=2.5, concentration_every=20.0))
    found = extinction.simulate(study)[""]
    assert found["time"].data.tolist() == [2.5 * k for k in range(9)]
    expected = []
    for day in found["time"].data:
        lengths = np.clip(day - 5.0 * np.arange(4), 0, 5)
        law = laws.birth_death(lengths, [0.3] * 4, deaths)
        expected.append(1000 * math.log(law.alpha) if day else -math.inf)
    np.testing.assert_allclose(found["no_relapse_log"].data[0, 0], expected, rtol=1e-10)
    assert found["relapse_probability"].data[0, 0, 0] == 1


# --- many types ------------------------------------------------------------------------------------


def steps_up(num: int, probability: float):
    """[from, to]: each class mutates to the next."""
    return np.diag(np.full(num - 1, probability), 1)


def tabulated(tables: dict, sites: int = 1, both: bool = False):
    """A law of the user's own that reads tables; drug 0 is the segment, drug 1 the site (as levels).

    tables: birth, death [segment, class, site]; mutation, switching, asymmetric, symmetric [class, class];
    moving [site, site].
    """
    num = tables["birth"].shape[1]
    moves = tuple(("kind", change) for change in range(1 - num, num) if change)
    model = custom_model(
        {"kind": num - 1}, _from_tables, tables,
        mutations=moves, switches=moves, differentiations=moves,
        sites=tuple("ab"[:sites]), drugs=("segment", "place"),
        mutating_daughters="both" if both else "one",
    )  # fmt: skip
    fraction = np.stack([np.ones(sites), np.arange(sites)], axis=1)
    return eqx.tree_at(lambda m: m.delivery.delivered_fraction, model, fraction)


def _from_tables(tables, levels, environment):
    num = tables["birth"].shape[1]
    kind = jnp.round(levels[0]).astype(int)
    segment, site = (jnp.round(environment.concentration[k]).astype(int) for k in (0, 1))
    change = np.array([c for c in range(1 - num, num) if c])
    to = kind + change
    inside = (to >= 0) & (to < num)

    def row(name):
        return jnp.where(inside, jnp.asarray(tables[name])[kind, jnp.clip(to, 0, num - 1)], 0.0)

    return Rates(
        birth_rate=jnp.asarray(tables["birth"])[segment, kind, site],
        death_rate=jnp.asarray(tables["death"])[segment, kind, site],
        mutation_probability=row("mutation"),
        switching_rate=row("switching"),
        migration_rate=jnp.asarray(tables["moving"])[site],
        asymmetric_probability=row("asymmetric"),
        symmetric_probability=row("symmetric"),
    )


def segments(edges) -> tuple[Level, ...]:
    """The levels that tell `_from_tables` the segment and the site."""
    pairs = list(itertools.pairwise(map(float, edges)))
    place = Level(1, float(edges[0]), float(edges[-1]), 1.0)
    return (*(Level(0, a, b, float(k)) for k, (a, b) in enumerate(pairs)), place)


def full(birth, death, mutation, **more) -> dict:
    """Tables of one site in which nothing else happens."""
    birth = np.asarray(birth, float)
    num, none = birth.shape[1], np.zeros((birth.shape[1],) * 2)
    tables = {"birth": birth[:, :, None], "death": np.asarray(death, float)[:, :, None]}
    tables |= {"mutation": np.asarray(mutation, float), "moving": np.zeros((1, 1))}
    tables |= dict.fromkeys(("switching", "asymmetric", "symmetric"), none)
    assert none.shape == (num, num)
    return tables | more


def solved(study: Problem, horizons, end: np.ndarray):
    """p [horizon, type] at day 0 with p = `end` at each horizon."""
    with jax.enable_x64(True):
        when = marks(study.record, study.horizon)
        process = jax.tree.map(lambda x: x[0], planned(study, when, cut_at_doses=True)[1])
        law = extinction.lawful(process, np.zeros(process.net.num_types))
        return extinction.solve(law, ALIVE, np.asarray(horizons, float), end).p


@pytest.mark.parametrize(
    ("hits", "expected", "tolerance"),
    [
        (1, [0.40238145, 0.0011775509, 4.528e-14], [5e-9, 5e-11, 5e-18]),
        (2, [0.99744456, 0.95494905, 0.6116343], [5e-9, 5e-9, 5e-8]),
        (3, [0.99999594, 0.99984008, 0.99713574], [5e-9, 5e-9, 5e-9]),
    ],
)
def test_ladder_of_mutations_has_the_printed_probabilities(hits, expected, tolerance):
    """E07: u 1e-3 per step, b 1, d .5, 100 founders: P(no cell with k hits) after 4, 8, 12 days."""
    shape = (1, hits + 1)
    tables = full(np.full(shape, 1.0), np.full(shape, 0.5), steps_up(hits + 1, 1e-3))
    study = problem(tabulated(tables), 12.0, levels=segments([0, 12]))
    p = solved(study, [4.0, 8.0, 12.0], np.eye(hits + 1)[hits])
    found = np.exp(100 * np.log1p(-p[:, 0]))
    assert np.all(np.abs(found - expected) < tolerance)


@pytest.mark.parametrize(
    ("deaths", "eradicated"),
    [((0.30, 0.22, 0.22, 0.10), 0.99296174), ((0.22, 0.10, 0.22, 0.10), 0.38963724)],
)
def test_target_mutation_and_pump_meet_two_drugs_as_printed(deaths, eradicated):
    """E07: 200 days of growth from one founder, then 360 days of therapy; given life at day 200.

    Drug A alone is .38963725154 by SciPy at 1e-13; the case prints .38963724.
    """
    u = 1e-4
    mutation = np.zeros((4, 4))
    mutation[0, [1, 2]] = mutation[[1, 2], 3] = u
    birth = np.full((2, 4), 0.14)
    death = np.array([[0.1] * 4, deaths])
    study = problem(
        tabulated(full(birth, death, mutation)), 560.0, levels=segments([0, 200, 560]), every=200.0
    )
    found = np.exp(extinction.simulate(study)[""]["no_relapse_log"].data[0, 0])
    assert found[1] == pytest.approx(0.71421724, abs=5e-9)
    assert (found[-1] - found[1]) / (1 - found[1]) == pytest.approx(eradicated, abs=2e-8)


def random_tables(rng: np.random.Generator, num: int, sites: int, pieces: int) -> dict:
    """Rates that kill most types in most segments, and every way of changing."""

    def sparse(most: float) -> np.ndarray:
        table = most * rng.random((num, num)) * (rng.random((num, num)) < 0.5)
        return table * (1 - np.eye(num))

    death = rng.uniform(0.2, 2.5, (pieces, num, sites))
    death[:, -1] *= rng.choice([0.05, 1.0])  # now and then the last class is resistant
    return {
        "birth": rng.uniform(0.0, 1.2, (pieces, num, sites)),
        "death": death,
        "mutation": sparse(10 ** rng.uniform(-9, -1.2)),
        "switching": sparse(10 ** rng.uniform(-4, 0)),
        "asymmetric": sparse(0.08),
        "symmetric": sparse(0.08),
        "moving": rng.uniform(0.01, 1, (sites, sites)) * (1 - np.eye(sites)),
    }


def integrated(tables: dict, edges, end: float, both: bool) -> np.ndarray:
    """p [class, site] at day 0 by SciPy's DOP853, written in p from the law of a division."""
    u, a, v = (tables[name] for name in ("mutation", "asymmetric", "symmetric"))
    num, sites = tables["birth"].shape[1:]
    pair = lambda x, y: x + y - x * y  # noqa: E731, at least one of two counts

    def backward_in_time(_, flat, b, d):
        p = flat.reshape(num, sites)
        found = np.zeros_like(p)
        for i in range(num):
            one = sum(a[i, j] * pair(p[i], p[j]) for j in range(num))
            two = sum(v[i, j] * pair(p[j], p[j]) for j in range(num))
            rest = 1 - a[i].sum() - v[i].sum()
            if both:
                x = (1 - u[i].sum()) * p[i] + u[i] @ p
                usual = rest * pair(x, x)
            else:
                mutants = sum(u[i, j] * pair(p[i], p[j]) for j in range(num))
                usual = (rest - u[i].sum()) * pair(p[i], p[i]) + mutants
            found[i] = b[i] * (usual + one + two - p[i]) - d[i] * p[i]
            found[i] += tables["switching"][i] @ p - tables["switching"][i].sum() * p[i]
            found[i] += tables["moving"] @ p[i] - tables["moving"].sum(1) * p[i]
        return found.ravel()

    p = np.full(num * sites, end)
    for k, (start, stop) in reversed([*enumerate(itertools.pairwise(edges))]):
        args = (tables["birth"][k], tables["death"][k])
        solution = solve_ivp(
            backward_in_time, (0, stop - start), p, "DOP853", args=args, rtol=1e-11, atol=1e-290
        )
        p = solution.y[:, -1]
    return p.reshape(num, sites)


@pytest.mark.parametrize(
    ("number", "num", "sites", "both"),
    [
        pytest.param(0, 6, 1, False, marks=pytest.mark.slow),
        (1, 3, 2, True),
        pytest.param(2, 4, 2, False, marks=pytest.mark.slow),
        pytest.param(3, 5, 1, True, marks=pytest.mark.slow),
    ],
)
def test_forty_random_laws_agree_with_an_independent_integration(number, num, sites, both):
    """Ten laws of a shape: up to 6 classes, 2 sites, random schedules, every way of changing; 1e-6 in p.

    They agree to 1e-9; p is as small as 1e-20.
    """
    rng = np.random.default_rng([20240609, number])
    edges = np.concatenate([[0.0], np.sort(rng.uniform(1, 19, 3)), [20.0]])
    tables = [random_tables(rng, num, sites, 4) for _ in range(10)]
    models = tuple(tabulated(t, sites, both) for t in tables)
    founders = ((7, 0, 0), (11, num - 1, sites - 1))
    relapse = Relapse("detection", 1e5) if number % 2 else ALIVE
    study = problem(
        models[0], 20.0, founders, levels=segments(edges), patients=models, relapse=relapse
    )
    found = extinction.simulate(study)[""]
    end = -math.expm1(-1e-5) if number % 2 else 1.0
    expected = np.stack([integrated(t, edges, end, both) for t in tables])
    p = found["class_relapse_probability"].data[0]
    np.testing.assert_allclose(p, expected, rtol=1e-9, atol=0)
    log = 7 * np.log1p(-expected[:, 0, 0]) + 11 * np.log1p(-expected[:, -1, -1])
    np.testing.assert_allclose(found["no_relapse_log"].data[0, :, -1], log, rtol=1e-9)
    assert expected.min() < 1e-5 < expected.max()


# --- what the engine says of itself ----------------------------------------------------------------


def test_cells_outside_the_classes_are_gone_or_relapses():
    """One class of two: mutants leave; if gone, they are deaths, if relapses, p(outside) = 1."""
    b, d, u, t = 0.3, 0.5, 0.02, 10.0
    alterations = {"m": {"gain_probability": u, "first_gain_probability": u}}
    model = build(birth_rate=b, death_rate=d, alterations=alterations)
    study = problem(model, t, max_alterations=0)
    found = extinction.simulate(study)[""]

    def slope(outside: float):
        # a division with a mutant leaves one cell inside, and one outside
        def law(_, p):
            mutant = p + outside - p * outside
            return b * ((1 - u) * (2 * p - p * p) + u * mutant) - (b + d) * p

        return solve_ivp(law, (0, t), [1.0], "DOP853", rtol=1e-12, atol=1e-300).y[0, -1]

    assert found["relapse_probability"].data[0, 0, -1] == pytest.approx(slope(0.0), rel=1e-10)
    most = found["relapse_probability_at_most"].data[0, 0, -1]
    assert most == pytest.approx(slope(1.0), rel=1e-10)


def test_under_crowding_a_cell_sees_the_mean_course_and_the_result_says_so():
    """Births b (1 - n(t)/K) along the logistic mean: E05 with that birth rate, by quadrature."""
    b, d, capacity, t, founders = 0.6, 0.25, 1000.0, 12.0, 40
    model = build(birth_rate=b, death_rate=d, crowding="logistic", capacity=capacity)
    study = problem(model, t, ((founders, 0, 0),), sync=1.0)
    by_day, by_half_day = (
        extinction.simulate(study._replace(sync=sync))[""] for sync in (1.0, 0.5)
    )
    assert by_day["closure"].data.tolist() == ["rates along the mean course"]

    def slope(_, y):
        n, rho, _ = y
        birth = b * (1 - n / capacity)
        return [(birth - d) * n, d - birth, math.exp(rho) * d]

    n = solve_ivp(slope, (0, t), [founders, 0, 0], "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    expected = founders * math.log(n[2] / (1 + n[2]))
    errors = [x["no_relapse_log"].data[0, 0, -1] / expected - 1 for x in (by_day, by_half_day)]
    assert abs(errors[0]) < 1e-4
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # births are held: second order


def test_a_study_that_stops_tumors_at_a_size_is_refused():
    with pytest.raises(Refused, match="extinction cannot stop a tumor at a size"):
        extinction.simulate(problem(birth_death(0.2, 0.1), 5.0, stop_at_cells=100))


def test_a_stopped_run_leaves_nan_where_nothing_is_known():
    study = problem(birth_death(0.2, 0.1), 5.0)
    found = extinction.simulate(study, should_stop=lambda: True)[""]
    assert np.isnan(found["relapse_probability"].data).all()
    assert np.isnan(found["mean_relapse_free_days"].data).all()
