"""Testosterone-dependent and independent prostate cancer cells under abiraterone.

    xS' = beta rS xS (1 - (xS + aSR xR)/(10000 - 9000 L)),  xR' = beta rR xR (1 - (xR + aRS xS)/10000)

L = 1 on drug. Zhang et al. 2022, 10.7554/eLife.76284; units of the publication, the time unit is
called a day. Crowding is written as deaths. `scale` cells per model cell.
"""

import jax.numpy as jnp

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model

PUBLISHED = {
    "sensitive_growth": 0.0156,
    "resistant_growth": 0.0091,
    "speed": 8.0,
    "on_resistant": 6.0,  # aRS
    "on_sensitive": 1.0,  # aSR
    "capacity": 10_000.0,
    "capacity_lost": 9_000.0,  # of sensitive cells, on drug
}


def rates(p, levels, environment) -> Rates:
    """Level 1 is resistant."""
    sensitive, resistant = environment.population.sum(1)
    is_resistant = levels[0] > 0
    lost = jnp.where(is_resistant, 0.0, p["capacity_lost"] * environment.concentration[0])
    birth = p["speed"] * jnp.where(is_resistant, p["resistant_growth"], p["sensitive_growth"])
    crowd = jnp.where(
        is_resistant,
        resistant + p["on_resistant"] * sensitive,
        sensitive + p["on_sensitive"] * resistant,
    )
    return Rates(birth_rate=birth, death_rate=birth * crowd / (p["capacity"] - lost))


def model(scale: float = 100.0, **params: float) -> Model:
    """The law, with the published numbers unless others are named."""
    chosen = PUBLISHED | params
    chosen |= {name: chosen[name] * scale for name in ("capacity", "capacity_lost")}
    return custom_model({"resistance": 1}, rates, chosen, drugs=("abiraterone",), has_feedback=True)


def problem(
    sensitive: float,
    resistant: float,
    horizon: float,
    on: tuple[tuple[float, float], ...] = (),
    scale: float = 100.0,
    params: dict[str, float] | None = None,
    **options,
) -> Problem:
    """From (xS, xR), on drug in the intervals `on`."""
    levels = tuple(Level(0, begin, end, 1.0) for begin, end in on)
    founders = (Founder(round(sensitive * scale), 0, 0), Founder(round(resistant * scale), 1, 0))
    settings = {"seed": 1, "replicates": 1, "sync": 0.25, "max_cells": 2**31 - 1} | options
    law = model(scale, **(params or {}))
    return Problem(law, founders, (Arm("treated", (), levels),), horizon=horizon, **settings)
