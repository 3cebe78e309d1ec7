"""Gompertzian growth of sensitive and resistant cells that turn into each other as they divide.

    S' = -b ln(N/Nmax) [(1 - C) S - t1 S + t2 R],    R' = -b ln(N/Nmax) [R + t1 S - t2 R]

Monro & Gaffney 2009, 10.1016/j.jtbi.2008.11.026. C is the constant concentration of the drug, days.
"""

import jax.numpy as jnp

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model

PUBLISHED = {"growth": 0.005928, "largest": 2e12, "to_resistant": 1e-6, "to_sensitive": 1e-6}
DEATH = 5e11  # cells


def rates(p, levels, environment) -> Rates:
    """Level 1 is resistant."""
    is_resistant = levels[0] > 0
    cells = jnp.maximum(environment.population.sum(), 1.0)
    speed = p["growth"] * jnp.maximum(0.0, jnp.log(p["largest"] / cells))
    forth = jnp.where(is_resistant, 0.0, p["to_resistant"])
    back = jnp.where(is_resistant, p["to_sensitive"], 0.0)
    return Rates(
        birth_rate=speed,
        death_rate=speed * jnp.where(is_resistant, 0.0, environment.concentration[0]),
        switching_rate=speed * jnp.stack([forth, back]),
    )


def model(**params: float) -> Model:
    """The law, with the published numbers unless others are named."""
    return custom_model(
        {"resistance": 1}, rates, PUBLISHED | params,
        switches=[("resistance", 1), ("resistance", -1)], drugs=("drug",), has_feedback=True,
    )  # fmt: skip


def problem(
    doses: tuple[float, ...] = (0.0, 1.0, 2.0),
    sensitive: float = 1e10,
    resistant: float = 2e5,
    horizon: float = 800.0,
    params: dict[str, float] | None = None,
    **options,
) -> Problem:
    """An arm per constant dose."""
    arms = tuple(Arm(f"{c:g}", (), (Level(0, 0.0, horizon, c),)) for c in doses)
    founders = (Founder(round(sensitive), 0, 0), Founder(round(resistant), 1, 0))
    settings = {"seed": 1, "replicates": 1, "sync": 1.0, "max_cells": 2**31 - 1} | options
    return Problem(model(**(params or {})), founders, arms, horizon=horizon, **settings)


def is_fatal(count, extra):
    """N - 5e11 cells, for the day of death."""
    return count.sum() - DEATH
