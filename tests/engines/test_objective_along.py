"""Relapse along the mean course as a function of doses: the engine's numbers, gradients as differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines import extinction, objective
from jaxevo.engines.base import Arm, Founder, Record, Refused
from jaxevo.state import Rates
from tests.builders import build
from tests.engines.test_objective import study


def small(**more):
    """One drug and one way past it, from 10^4 cells."""
    return build(
        drugs=("a",), targets=("A",), kd={"A": {"a": 1.0}}, max_death_rate={"A": 0.8},
        birth_rate=0.4, death_rate=0.1,
        alterations={
            "p": {"gain_probability": 1e-5, "first_gain_probability": 1e-5, "kd_fold": {"a": 20.0}}
        },
        **more,
    )  # fmt: skip


CROWDED = {"crowding": "logistic", "capacity": 3e4}
WEEKLY = Arm(
    "weekly", (), tuple(Level(0, 7.0 * k, 7.0 * k + 7, 2.1 + 0.3 * k) for k in range(3))
)  # fmt: skip
SOON = {"horizon": 21.0, "record": Record(every=21.0, concentration_every=21.0)}


def along(model, **options) -> None:
    """Value as of the engine, within what its shorter pieces change; gradient as central differences."""
    problem = study(model, WEEKLY, **SOON | {"sync": 1.0} | options)
    made = objective.objective(problem)
    found = extinction.simulate(problem)[""]
    assert found["closure"].data[0] == extinction.ALONG_MEAN
    with jax.enable_x64(True):
        value, start = jax.jit(made.value), jnp.asarray(made.start)
        slope = np.asarray(jax.jit(jax.grad(made.value))(start))
        expected = found["no_relapse_log"].data[0, 0, -1]
        assert float(value(start)) == pytest.approx(expected, rel=2e-5)
        for k in range(3):
            step = 1e-3 * start[k] * np.eye(3)[k]
            one, two = (float(value(start + m * step) - value(start - m * step)) for m in (1, 2))
            difference = (8 * one - two) / (12 * 1e-3 * float(start[k]))
            assert slope[k] == pytest.approx(difference, rel=1e-5)


@pytest.mark.slow
def test_gradient_along_the_mean_course_of_a_crowded_tumor():
    """Births fall as 1 - N/K; relapse probability is the engine's."""
    along(small(**CROWDED))


@pytest.mark.slow
def test_gradient_of_a_crowded_tumor_that_is_treated_at_its_size():
    """From one founder through growth under crowding, and on under crowding."""
    along(small(**CROWDED), founders=(Founder(1, 0, 0),), treat_at_cells=10**4)


@pytest.mark.slow
def test_gradient_along_the_mean_course_of_a_law_with_feedback():
    """A law of the user's own: births fall with the cells, and an extra variable kills with them."""
    names = {"p": 1}

    def rates(params, levels, environment):
        c = environment.concentration[0]
        kill = 0.8 * c / (c + 20.0 ** levels[0])
        full = jnp.sum(environment.population) / 3e4
        return Rates(
            birth_rate=0.4 * (1 - full), death_rate=0.1 + kill + 0.05 * environment.extra[0],
            mutation_probability=jnp.where(levels < 1, 1e-5, 0.0),
        )  # fmt: skip

    def drift(params, day, population, extra, drug):
        return 0.3 * (jnp.sum(population) / 1e4 - extra)

    model = custom_model(
        names,
        rates,
        mutations=[("p", 1)],
        drugs=("a",),
        has_feedback=True,
        drift=drift,
        start=[0.1],
    )
    along(model)


def test_what_no_single_cell_has_is_refused_with_a_sentence():
    model = small(**CROWDED)
    with pytest.raises(Refused, match="those are never still"):
        objective.objective(study(model, WEEKLY, **SOON, still_below=1.0))
