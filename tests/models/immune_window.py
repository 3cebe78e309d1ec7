"""Quiescent and proliferating leukemic cells, immune cells with a window of stimulation, and a TKI.

    X' = -pxy X + pyx Y,   Y' = pxy X - pyx Y + py Y (1 - Y/Ky) - m Y Z - TKI Y
    Z' = rz - a Z + pz Y Z/(Kz^2 + Y^2)

Haehnel et al. 2020, 10.1158/0008-5472.CAN-20-2394 (bioRxiv 10.1101/722546). Rates per month of 30.4375
days; X, Y, Z in model cells. Z is an extra variable; the drug is on at concentration 1.

It is a law of its own, and not the model's immunity (`jaxevo.cell.immune`): recruitment and crowding read
the proliferating cells alone, recruitment falls again beyond Kz cells (Y Z/(Kz^2 + Y^2), where ours
saturates, E T/(g + T)), and effectors do not kill quiescent cells.
"""

import jax.numpy as jnp

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model

MONTH = 30.4375  # days
SHARED = {"py": 1.658, "ky": 1e6, "a": 2.0, "rz": 200.0, "m": 1e-4}


def rates(p, levels, environment) -> Rates:
    """Level 1 is quiescent."""
    is_quiescent = levels[0] > 0
    proliferating = environment.population[0].sum()
    immune = environment.extra[0]
    birth = p["py"] * jnp.maximum(0.0, 1 - proliferating / p["ky"])
    death = p["m"] * immune + p["tki"] * environment.concentration[0]
    to_quiescent = jnp.where(is_quiescent, 0.0, p["pyx"])
    back = jnp.where(is_quiescent, p["pxy"], 0.0)
    return Rates(
        birth_rate=jnp.where(is_quiescent, 0.0, birth) / MONTH,
        death_rate=jnp.where(is_quiescent, 0.0, death) / MONTH,
        switching_rate=jnp.stack([to_quiescent, back]) / MONTH,
    )


def drift(p, day, population, extra, concentration):
    """Z', per day."""
    y, z = population[0].sum(), extra[0]
    recruited = p["pz"] * y * z / (p["kz"] ** 2 + y**2)
    return jnp.stack([(p["rz"] - p["a"] * z + recruited) / MONTH])


def first_immune(params: dict[str, float], y0: float) -> float:
    """Z at rest with y0 cells, rounded to three digits; without the window where there is none."""
    p = SHARED | params
    z0 = p["rz"] / (p["a"] - p["pz"] * y0 / (p["kz"] ** 2 + y0**2))
    return float(f"{z0:.2e}") if z0 > 0 else p["rz"] / p["a"]


def first_quiescent(params: dict[str, float], y0: float) -> float:
    """X at rest with y0 cells, rounded to three digits."""
    return float(f"{params['pyx'] / params['pxy'] * y0:.2e}")


def model(params: dict[str, float], z0: float) -> Model:
    """The law; `params` has pyx, pxy, tki, pz (per month), kz (cells), and what differs from SHARED."""
    return custom_model(
        {"quiescence": 1}, rates, SHARED | params,
        switches=[("quiescence", 1), ("quiescence", -1)], drugs=("tki",),
        has_feedback=True, drift=drift, start=(z0,),
    )  # fmt: skip


def problem(
    params: dict[str, float],
    y0: float,
    stop_month: float,
    months: float,
    x0: float | None = None,
    z0: float | None = None,
    **options,
) -> Problem:
    """TKI until `stop_month`, followed for `months`; X and Z at rest at first unless they are given."""
    x0 = first_quiescent(params, y0) if x0 is None else x0
    z0 = first_immune(params, y0) if z0 is None else z0
    founders = (Founder(round(y0), 0, 0), Founder(round(x0), 1, 0))
    arm = Arm("stopped", (), (Level(0, 0.0, stop_month * MONTH, 1.0),))
    settings = {"seed": 1, "replicates": 1, "sync": 1.0, "max_cells": 2**31 - 1} | options
    return Problem(model(params, z0), founders, (arm,), horizon=months * MONTH, **settings)
