"""Custom models: a law of the user's own, on the engines, and the published ones of `tests/models`."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo import Rates, custom_model, model
from jaxevo.engines import clones, meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.engines.network import class_traits, network, speeds
from jaxevo.engines.process import problem_network
from tests import laws
from tests.builders import build, in_double
from tests.models import (
    estipop,
    gompertz_switch,
    hierarchy_cml,
    immune_window,
    logistic,
    lotka_volterra,
    moran,
    parpi,
    zhang_abiraterone,
)
from tests.models.following import law, start
from tests.statistics import assert_law, assert_mean, assert_variance, normal_law

LEUKEMIA = {"pyx": 0.0126, "pxy": 0.0483, "tki": 13.9, "pz": 2210.0, "kz": 362.0}  # V06, patient 1
PUBLISHED = {
    "lotka_volterra": lotka_volterra.problem(lotka_volterra.patient(0.5, 0.01, 0.3, 0.1), 100.0),
    "zhang_abiraterone": zhang_abiraterone.problem(802.2, 12.31, 20.0, on=((5.0, 10.0),)),
    "parpi": parpi.problem({"breaks": parpi.breaks(0.3)}),
    "immune_window": immune_window.problem(LEUKEMIA, 742834.0, 12.0, 24.0),
    "gompertz_switch": gompertz_switch.problem(),
    "hierarchy_cml": hierarchy_cml.problem(100.0),
    "estipop": estipop.problem(),
    "moran": moran.problem(20, 1.1),
    "logistic": logistic.problem(),
}


def one_rate(p, levels, environment) -> Rates:
    """Divisions and deaths, and nothing else."""
    return Rates(birth_rate=p["birth"], death_rate=p["death"])


# --- the interface ---------------------------------------------------------------------------------


def test_what_a_law_leaves_out_does_not_happen():
    """Rates that are not given are zeros of the right length."""
    mine = custom_model(
        {"a": 1, "b": 2}, one_rate, {"birth": 0.3, "death": 0.1},
        mutations=[("a", 1)], switches=[("b", 1), ("b", -1)], differentiations=[("b", 1)],
        sites=("here", "there"), drugs=("x",),
    )  # fmt: skip
    net = network(mine, [0])
    assert len(net.genotypes) == 6  # any step of a custom law may happen
    traits = class_traits(mine, net)
    found = speeds(model.cast(mine, jnp.float32), net, traits, jnp.zeros((1, 2, 1)), jnp.ones(1))
    assert found.birth.shape == (12,)
    np.testing.assert_allclose(found.birth, 0.3, rtol=1e-6)
    for rates in (found.mutation, found.conversion, found.asymmetric, found.symmetric):
        assert rates.size > 0
        assert not np.any(rates)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"mutations": [("b", 1)]}, "a step names 'b'; the alterations are a"),
    ({"switches": [("c", 1)]}, "a step names 'c'; the alterations are a"),
    ({"start": (1.0,)}, "start gives extra variables, but there is no drift that moves them"),
])  # fmt: skip
def test_a_mistake_in_a_custom_model_is_a_sentence(options, sentence):
    """Names and extra variables are checked before anything runs."""
    with pytest.raises(ValueError, match=sentence):
        custom_model({"a": 1}, one_rate, {"birth": 1.0, "death": 0.0}, **options)


def test_rates_of_another_length_than_the_steps_are_refused():
    """The array and both lengths are named."""

    def wrong(p, levels, environment) -> Rates:
        return Rates(birth_rate=1.0, death_rate=0.0, mutation_probability=jnp.zeros(3))

    mine = custom_model({"a": 1}, wrong, mutations=[("a", 1)])
    study = Problem(
        mine, (Founder(1, 0, 0),), (Arm("only", ()),), 1, 1, horizon=1.0, sync=1.0, max_cells=10
    )
    expected = r"mutation_probability of the custom rates has shape \(3,\); expected \(1,\)"
    with pytest.raises(ValueError, match=expected):
        meanfield.simulate(study)


@in_double
def test_crowding_as_a_custom_law_is_crowding_of_the_sites():
    """The same course and the same noise, written either way."""
    own = logistic.problem(0.8, 0.2, 5000.0, 100, 12.0)
    built = build(birth_rate=0.8, death_rate=0.2, crowding="logistic", capacity=5000.0)
    found = [
        jax.jit(meanfield.moments_along)(law(problem), jnp.array([100.0]))
        for problem in (own, own._replace(model=built))
    ]
    np.testing.assert_allclose(found[0].count, found[1].count, rtol=1e-9)
    np.testing.assert_allclose(found[0].covariance, found[1].covariance, rtol=1e-7)


def test_a_custom_law_without_feedback_is_its_stations():
    """Mutation at division in two sites with migration, in stations and as a custom law."""
    built = build(
        sites=("a", "b"), birth_rate=0.4, death_rate=0.1,
        migration_rate={"a": {"b": 0.05}, "b": {"a": 0.02}},
        alterations={"r": {"first_gain_probability": 0.01}},
    )  # fmt: skip

    def rates(p, levels, environment) -> Rates:
        return Rates(
            birth_rate=0.4,
            death_rate=0.1,
            mutation_probability=jnp.where(levels[:1] == 0, 0.01, 0.0),
            migration_rate=environment.migration_rate,
        )

    own = custom_model({"r": 1}, rates, mutations=[("r", 1)], sites=("a", "b"))
    own.sites.migration_rate[:] = built.sites.migration_rate
    study = Problem(
        built, (Founder(100, 0, 0),), (Arm("only", ()),), 1, 1, horizon=10.0, sync=5.0,
        max_cells=1000, record=Record(every=10.0),
    )  # fmt: skip
    first, second = (meanfield.simulate(study._replace(model=m))[""] for m in (built, own))
    for name in ("burden", "burden_sd", "class_count", "class_sd", "site_burden", "site_sd"):
        np.testing.assert_allclose(first[name].data, second[name].data, rtol=1e-9)


# --- clones and meanfield --------------------------------------------------------------------------


def test_clones_follow_the_exact_law_of_a_custom_model():
    """Logistic growth in a room for 20 cells, event by event: the chain of E14 after 6 days.

    Whole law, total variation .06; share of empty rooms, .02.
    """
    replicates = 6000
    problem = logistic.problem(
        1.0, 0.5, 20.0, 3, 6.0, replicates=replicates, sync=0.5, record=Record(every=6.0)
    )
    cells = clones.simulate(problem)[""]["burden"].data[0, 0, :, -1]
    assert_law(cells, laws.Logistic(1.0, 0.5, 20.0).law(3, 6.0), detect=0.06)


@pytest.mark.slow
def test_clones_and_meanfield_agree_on_competing_cells():
    """Lotka-Volterra competition under drug, 20,000 cells of room: mean to 1 %, variance to 50 %."""
    who = lotka_volterra.patient(0.5, 0.2, 0.3, 0.1)
    problem = lotka_volterra.problem(
        who, 20.0, {"treated": 1.0}, scale=2e4, replicates=900, sync=0.5, record=Record(every=20.0)
    )
    drawn = clones.simulate(problem)[""]["burden"].data[0, 0, :, -1]
    expected = meanfield.simulate(problem)[""]
    mean, sd = (float(expected[name].data[0, 0, 0, -1]) for name in ("burden", "burden_sd"))
    assert_mean(drawn, normal_law(mean, sd**2), detect=0.01 * mean)
    assert_variance(drawn, normal_law(mean, sd**2), detect=0.5)


@pytest.mark.slow
def test_clones_and_meanfield_agree_where_an_extra_variable_kills():
    """Leukemic cells, immune cells, a drug that stops: mean to 2 % while there are thousands."""
    problem = immune_window.problem(
        LEUKEMIA, 20_000.0, 0.1, 0.4, replicates=300, sync=0.5, record=Record(every=12.175)
    )
    drawn = clones.simulate(problem)[""]["burden"].data[0, 0, :, -1]
    expected = meanfield.simulate(problem)[""]
    mean, sd = (float(expected[name].data[0, 0, 0, -1]) for name in ("burden", "burden_sd"))
    assert_mean(drawn, normal_law(mean, sd**2), detect=0.02 * mean)


# --- the published models --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_takes_less_than_thirty_lines(name):
    """Its `rates`, and its `drift` if it has one."""
    custom = PUBLISHED[name].model.custom
    for function in (custom.rates, custom.drift):
        if function is not None:
            assert len(inspect.getsource(function).splitlines()) < 30


@pytest.mark.parametrize("name", PUBLISHED)
@in_double
def test_rates_of_a_published_model_are_rates(name):
    """Finite and not negative at the start, without cells, and crowded; shares of divisions at most 1."""
    problem = PUBLISHED[name]
    net, mine = problem_network(problem), model.cast(problem.model, jnp.float64)
    first = jnp.asarray(start(problem))

    @jax.jit
    def at(count):
        drug = jnp.ones((1, 1, len(problem.model.names.drugs)))
        traits = class_traits(mine, net)
        extra = jnp.asarray(problem.model.custom.start)
        return speeds(mine, net, traits, drug, jnp.ones(1), jnp.ones(1), count, extra)

    for count in (first, 0 * first, 1.5 * first):
        found = at(count)
        for rate in jax.tree.leaves(found):
            assert np.all(np.isfinite(rate))
            assert np.all(rate >= 0)
        for share in (found.mutation, found.asymmetric, found.symmetric):
            assert np.all(share <= 1)
