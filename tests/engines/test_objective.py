"""Relapse as a function of doses: the same numbers as the engine, and gradients as differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.drug.schedule import Dose, Level, inputs
from jaxevo.engines import backward, extinction, objective
from jaxevo.engines.base import Arm, Founder, Immigration, Jump, Problem, Record, Relapse
from tests.builders import build

DRUGS, TARGETS = ("a", "b", "c"), ("A", "B", "C")
GENES = {"p": "a", "q": "b", "r": "c"}


def stations(combination: str = "bliss", **more):
    """Three drugs; a pump for a, Morrison's binding of b in a trapped pool, b and c on one target."""
    own = dict.fromkeys(GENES, 1e-3)
    alterations = {
        name: {
            "gain_probability": own[name],
            "first_gain_probability": own[name],
            "kd_fold": {GENES[name]: 12.0},
            "birth_cost": 0.05,
        }
        for name in GENES
    }
    alterations["p"] |= {"pump_amount": {"pgp": 3.0}}
    alterations["q"] |= {"inheritance": "amplification", "max_level": 2, "loss_probability": 0.02}
    alterations["q"] |= {"target_copies": {"B": 1.0}}
    options = {
        "drugs": DRUGS, "targets": TARGETS, "pumps": ("pgp",),
        "birth_rate": 0.4, "death_rate": 0.1,
        "kd": {"A": {"a": 1.0}, "B": {"b": 0.5, "c": 2.0}},
        "max_death_rate": {"A": 0.3, "B": 0.5}, "death_hill": {"A": 1.5, "B": 2.0},
        "max_inhibition": {"B": 0.6},
        "amount": {"B": 0.7}, "is_trapped": {"b": 1.0},
        "vmax": {"pgp": {"a": 2000.0}}, "km": {"pgp": {"a": 2.0}},
        "inhibition_ki": {"pgp": {"c": 3.0}},
        "alterations": alterations, "combination": combination,
    }  # fmt: skip
    return build(**options | more)


def study(model, arm: Arm, **options) -> Problem:
    fields = {
        "founders": (Founder(10_000, 0, 0),), "arms": (arm,), "seed": 1, "replicates": 1,
        "horizon": 28.0, "sync": 7.0, "max_cells": 8192,
        "record": Record(every=28.0, concentration_every=28.0),
    }  # fmt: skip
    return Problem(model, **fields | options)


# no round numbers: at free target shares of one half the output min(1, 2 x share) has a kink
LEVELS = Arm(
    "levels", (),
    tuple(
        Level(d, 7.0 * k, 7.0 * k + 7, 1.03 + 0.47 * k + 0.91 * d)
        for k, d in itertools.product(range(4), range(3))
    ),
)  # fmt: skip

DOSES = Arm(
    "doses",
    (
        *(Dose(0, 3.5 * k, 40.0 + k, is_oral=True) for k in range(8)),
        *(Dose(1, 7.0 * k, 60.0) for k in range(4)),
        *(Dose(2, 14.0 * k, 80.0, duration=0.5) for k in range(2)),
    ),
)

PHARMACOKINETICS = {
    "is_prescribed": 0.0, "clearance": 40.0, "central_volume": 60.0, "absorption_rate": 12.0,
    "bioavailability": 0.7, "equilibration_rate": 2.0,
    "peripheral_clearance": {d: {"first": 10.0} for d in DRUGS},
    "peripheral_volume": {d: {"first": 90.0} for d in DRUGS},
}  # fmt: skip


def check(problem: Problem, entries) -> None:
    """Value as of the engine; gradient as central differences, to 1e-5 and mostly far better."""
    made = objective.objective(problem)
    expected = extinction.simulate(problem)[""]["no_relapse_log"].data[0, 0, -1]
    with jax.enable_x64(True):
        value, start = jax.jit(made.value), jnp.asarray(made.start)
        slope = np.asarray(jax.jit(jax.grad(made.value))(start))
        assert float(value(start)) == pytest.approx(expected, rel=1e-8)
        for k in entries:
            step = np.zeros(len(start))
            step[k] = 1e-4 * start[k]
            # fourth order, so that the difference itself is right
            one, two = (float(value(start + m * step) - value(start - m * step)) for m in (1, 2))
            difference = (8 * one - two) / (12 * step[k])
            assert slope[k] == pytest.approx(difference, rel=1e-5, abs=1e-9 * np.abs(slope).max())
    assert np.isfinite(slope).all()
    assert np.any(slope != 0)


@pytest.mark.slow
@pytest.mark.parametrize("combination", ["bliss", "loewe"])
def test_gradient_by_levels_goes_through_pump_binding_and_both_combinations(combination):
    check(study(stations(combination), LEVELS), (0, 4, 11))


@pytest.mark.slow
def test_gradient_by_doses_goes_through_absorption_plasma_and_site():
    """Oral, bolus and infusion in mg; a dose that comes late matters less, but all matter."""
    check(study(stations(**PHARMACOKINETICS), DOSES), (0, 5, 9, 13))


@pytest.mark.slow
def test_gradient_with_everything_at_once():
    """Both daughters, first passage, immigration, surgery and radiation."""
    arm = LEVELS._replace(jumps=(Jump(10.0, (0.3,)), Jump(14.0, gray=2.0)))
    model = stations(mutating_daughters="both", alpha=0.2, beta=0.02)
    relapse = Relapse("first_passage", 1e4, assessed_from=7.0)
    options = {"relapse": relapse, "immigration": (Immigration(0.1, 1, 0, 5),)}
    check(study(model, arm, **options), (0, 4, 8))


@pytest.mark.slow
def test_gradient_of_a_tumor_that_is_treated_at_its_size():
    """The gradient goes through the mutants that were there at detection."""
    small = {"gain_probability": 1e-6, "first_gain_probability": 1e-6, "kd_fold": {"a": 10.0}}
    model = stations(alterations={"p": small}, pumps=(), vmax=0.0, km=1.0, inhibition_ki=1.0)
    check(study(model, LEVELS, founders=(Founder(1, 0, 0),), treat_at_cells=10**7), (0, 4, 9))


def test_inputs_are_those_of_the_schedule():
    """Amounts become gut, blood, infusion and level as `schedule.inputs` has them."""
    edges = np.arange(0.0, 28.5, 0.5)
    mass, share, surface = np.array([300.0, 500.0, 400.0]), np.array([0.5, 0.6, 1.0]), 1.9
    per_m2 = DOSES._replace(doses=tuple(dose._replace(is_per_m2=True) for dose in DOSES.doses))
    for arm in (DOSES, per_m2, LEVELS):
        amounts = np.array([d.amount_mg for d in arm.doses] + [x.level_um for x in arm.levels])
        expected = inputs(arm.doses, arm.levels, edges, mass, share, surface)
        with jax.enable_x64(True):
            dosing = objective._dosing(arm, expected.edges, mass, share, surface)
            found = dosing.inputs(jnp.asarray(amounts), len(expected.edges) - 1, 3)
        for name, mine in zip(objective.FIELDS, found, strict=True):
            np.testing.assert_allclose(mine, getattr(expected, name), rtol=1e-13)


def test_amounts_beyond_the_reach_of_the_steps_are_nan_and_never_wrong():
    """A death rate of 2e4 per day at 1e6 uM: the steps were made for 8 times the arm's levels."""
    model = build(
        drugs=("a",), targets=("A",), kd={"A": {"a": 1e6}}, max_death_rate=2e4, birth_rate=0.1
    )
    arm = Arm("low", (), (Level(0, 0.0, 28.0, 1.0),))
    made = objective.objective(study(model, arm))
    with jax.enable_x64(True):
        assert np.isfinite(float(made.value(jnp.asarray([5.0]))))
        assert np.isnan(float(made.value(jnp.asarray([1e6]))))


@pytest.mark.slow
def test_the_solver_can_be_mapped_over_laws_and_differentiated_in_the_rates():
    """dp/db and dp/dd of one type, E01: the closed form by differences; two laws in one call."""
    kind, days, pieces = backward.Kind(1), 10.0, 24

    def alive(b, d):
        law = backward.Offspring(
            jnp.reshape(b - d, (1, 1, 1)), jnp.reshape(b, (1, 1, 1)), None, None, None
        )
        steps = backward.Steps(
            np.zeros(pieces, int), np.full(pieces, days / pieces), np.zeros(pieces),
            np.zeros(pieces), np.ones((pieces, 1)),
        )  # fmt: skip
        return backward.chance(kind, law, steps, jnp.ones(1), jnp.zeros(0)).p[0]

    def exact(b, d):
        g = b - d
        return 1 / (jnp.exp(-g * days) - b * jnp.expm1(-g * days) / g)

    with jax.enable_x64(True):
        rates = jnp.asarray([0.14, 0.3]), jnp.asarray([0.5, 0.2])
        np.testing.assert_allclose(jax.vmap(alive)(*rates), jax.vmap(exact)(*rates), rtol=1e-12)
        for k in (0, 1):
            found, expected = (jax.vmap(jax.grad(f, k))(*rates) for f in (alive, exact))
            np.testing.assert_allclose(found, expected, rtol=1e-9)
