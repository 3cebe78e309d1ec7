"""One type with birth b max(0, 1 - n/K) and death d per cell: a finite chain that dies out in the end.

Norden 1982, 10.2307/1427025. `tests.laws.Logistic` has its exact law.
"""

import jax.numpy as jnp

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model


def rates(p, levels, environment) -> Rates:
    """The same for every cell."""
    free = jnp.maximum(0.0, 1 - environment.population.sum() / p["capacity"])
    return Rates(birth_rate=p["birth"] * free, death_rate=p["death"])


def model(birth: float, death: float, capacity: float) -> Model:
    """The law."""
    params = {"birth": birth, "death": death, "capacity": capacity}
    return custom_model({}, rates, params, has_feedback=True)


def problem(
    birth: float = 1.0,
    death: float = 0.5,
    capacity: float = 20.0,
    founders: int = 10,
    horizon: float = 50.0,
    **options,
) -> Problem:
    """From `founders` cells."""
    settings = {"seed": 1, "replicates": 1, "sync": 0.25, "max_cells": 100_000} | options
    return Problem(
        model(birth, death, capacity), (Founder(founders, 0, 0),), (Arm("only", ()),),
        horizon=horizon, **settings,
    )  # fmt: skip
