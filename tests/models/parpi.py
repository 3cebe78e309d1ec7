"""Proliferating and arrested ovarian cancer cells under a PARP inhibitor.

    P' = r G (1 - 2 a E) P,   A' = (1 + f) a r G E P - d A,   G = 1 - ((P + A)/K)^v,  E = D^n/(EC50^n + D^n)

Strobl et al. 2024, 10.1016/j.cels.2024.04.003 (OVCAR3); P and A in % confluence, D in uM, days. A
cell that tries to divide (r G per day) is damaged with probability a E and gives two arrested
cells; an arrested cell covers (1 + f)/2 of the area of a proliferating one.
"""

import jax.numpy as jnp

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model

OVCAR3 = {
    "growth": 0.46889076,
    "capacity": 98.755814,
    "shape": 2.603333,
    "loss": 0.1091648,
    "damage": 0.69616255,
    "swelling": 1.422331,
    "hill": 2.3546108,
    "ec50": 12.335342,
}


def rates(p, levels, environment) -> Rates:
    """Level 1 is arrested."""
    divides = levels[0] == 0
    proliferating, arrested = environment.population.sum(1)
    covered = proliferating + (1 + p["swelling"]) / 2 * arrested
    room = jnp.maximum(0.0, 1 - (covered / p["capacity"]) ** p["shape"])
    odds = (environment.concentration[0] / p["ec50"]) ** p["hill"]
    damaged = jnp.where(divides, p["damage"] * odds / (1 + odds), 0.0)
    return Rates(
        birth_rate=jnp.where(divides, p["growth"] * room, 0.0),
        death_rate=jnp.where(divides, 0.0, p["loss"]),
        symmetric_probability=damaged[None],
    )


def area(count, params: dict[str, float] = OVCAR3, scale: float = 1e4):
    """P + A in % confluence, from counts [..., 2] of proliferating and arrested cells."""
    return (count[..., 0] + (1 + params["swelling"]) / 2 * count[..., 1]) / scale


def constant(dose_cut: float, full: float = 100.0, days: float = 180.0) -> tuple[Level, ...]:
    """A lower dose all the time."""
    return (Level(0, 0.0, days, (1 - dose_cut) * full),)


def breaks(dose_cut: float, full: float = 100.0, days: float = 180.0, cycles: int = 10):
    """Full dose first, none for the last part of each of equal cycles."""
    each = days / cycles
    on = (1 - dose_cut) * each
    return tuple(Level(0, i * each, i * each + on, full) for i in range(cycles) if on > 0)


def model(scale: float = 1e4, **params: float) -> Model:
    """The law of OVCAR3 unless other numbers are named; `scale` cells per % confluence."""
    chosen = OVCAR3 | params
    chosen["capacity"] *= scale
    return custom_model(
        {"arrest": 1}, rates, chosen,
        differentiations=[("arrest", 1)], drugs=("olaparib",), has_feedback=True,
    )  # fmt: skip


def problem(
    schedules: dict[str, tuple[Level, ...]],
    start: float = 5.0,
    horizon: float = 180.0,
    scale: float = 1e4,
    params: dict[str, float] | None = None,
    **options,
) -> Problem:
    """An arm per schedule, from `start` % proliferating cells."""
    arms = tuple(Arm(name, (), levels) for name, levels in schedules.items())
    settings = {"seed": 1, "replicates": 1, "sync": 0.25, "max_cells": 2**31 - 1} | options
    law = model(scale, **(params or {}))
    return Problem(law, (Founder(round(start * scale), 0, 0),), arms, horizon=horizon, **settings)
