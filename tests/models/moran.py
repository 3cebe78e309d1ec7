"""The Moran process: N cells, one replaced at a time; parents are drawn in proportion to fitness.

With i mutants of fitness r, i grows by one with probability (r i/(r i + N - i)) (N - i)/N per step and
shrinks by one with ((N - i)/(r i + N - i)) i/N. Moran 1958, 10.1017/S0305004100033193. Written as
conversions: a cell becomes what replaces it, at N steps per day.
"""

import jax.numpy as jnp

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model


def rates(p, levels, environment) -> Rates:
    """Level 1 is the mutant; nothing is born and nothing dies."""
    normal, mutants = environment.population.sum(1)
    weight = jnp.maximum(p["fitness"] * mutants + normal, 1e-300)
    is_mutant = levels[0] > 0
    forth = jnp.where(is_mutant, 0.0, p["fitness"] * mutants / weight)
    back = jnp.where(is_mutant, normal / weight, 0.0)
    return Rates(birth_rate=0.0, death_rate=0.0, switching_rate=jnp.stack([forth, back]))


def model(fitness: float) -> Model:
    """The law of mutants with a relative fitness."""
    return custom_model(
        {"mutant": 1}, rates, {"fitness": fitness},
        switches=[("mutant", 1), ("mutant", -1)], has_feedback=True,
    )  # fmt: skip


def problem(
    cells: int, fitness: float, mutants: int = 1, horizon: float = 200.0, **options
) -> Problem:
    """`mutants` among `cells`."""
    founders = (Founder(cells - mutants, 0, 0), Founder(mutants, 1, 0))
    settings = {"seed": 1, "replicates": 1, "sync": 1.0, "max_cells": 4 * cells} | options
    return Problem(model(fitness), founders, (Arm("only", ()),), horizon=horizon, **settings)
