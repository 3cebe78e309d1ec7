"""One type with a birth rate that changes in time: b(t) = b0 - b1 exp(-k t), death d.

Roney et al. 2020, 10.1093/bioinformatics/btaa526; per day. Rates are held over the sync interval.
"""

import jax.numpy as jnp

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model

PUBLISHED = {"birth": 0.3, "birth_lost": 0.25, "recovery": 0.1, "death": 0.2}


def rates(p, levels, environment) -> Rates:
    """The same for every cell."""
    lost = p["birth_lost"] * jnp.exp(-p["recovery"] * environment.day)
    return Rates(birth_rate=p["birth"] - lost, death_rate=p["death"])


def model(**params: float) -> Model:
    """The law, with the published numbers unless others are named."""
    return custom_model({}, rates, PUBLISHED | params)


def problem(
    founders: int = 500, horizon: float = 20.0, params: dict[str, float] | None = None, **options
) -> Problem:
    """From `founders` cells."""
    settings = {"seed": 1, "replicates": 1, "sync": 0.1, "max_cells": 100_000} | options
    return Problem(
        model(**(params or {})), (Founder(founders, 0, 0),), (Arm("only", ()),),
        horizon=horizon, **settings,
    )  # fmt: skip
