"""Sensitive and resistant cells that compete for room, and a drug that acts on division.

    S' = rS (1 - (S+R)/K)(1 - e D) S - dS S,    R' = rR (1 - (S+R)/K) R - dR R

Strobl et al. 2021, 10.1158/0008-5472.CAN-20-0806; Gallagher et al. 2024, 10.1158/0008-5472.CAN-23-2040.
A sensitive cell that could divide under drug dies instead with probability e D/2 (Strobl et al. 2022,
10.1038/s43856-022-00110-x), so that births and deaths are not negative. D is a concentration, 0 or 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines import meanfield
from jaxevo.engines.base import Arm, Founder, Line, Problem, Rule, Visits
from jaxevo.model import Model
from tests.models.following import laws

PROGRESSION = 1.2  # times the first burden


class Patient(NamedTuple):
    """Parameters; rates 1/day, sizes in units of the capacity."""

    sensitive: float  # S at the start
    resistant: float  # R at the start
    sensitive_growth: float = 0.027
    resistant_growth: float = 0.027
    sensitive_death: float = 0.0
    resistant_death: float = 0.0
    capacity: float = 1.0
    effect: float = 1.5


def patient(
    n0: float, resistant_fraction: float, cost: float = 0.0, turnover: float = 0.0
) -> Patient:
    """A patient of V04: rR = (1 - cost) rS, dS = dR = turnover rS."""
    growth, resistant = 0.027, n0 * resistant_fraction
    slower, death = (1 - cost) * growth, turnover * growth
    return Patient(n0 - resistant, resistant, growth, slower, death, death)


def rates(p, levels, environment) -> Rates:
    """Level 1 is resistant."""
    is_resistant = levels[0] > 0
    free = jnp.maximum(0.0, 1 - environment.population.sum() / p["capacity"])
    division = jnp.where(is_resistant, p["resistant_growth"], p["sensitive_growth"]) * free
    fatal = jnp.where(is_resistant, 0.0, p["effect"] / 2 * environment.concentration[0])
    return Rates(
        birth_rate=division * (1 - fatal),
        death_rate=jnp.where(is_resistant, p["resistant_death"], p["sensitive_death"])
        + division * fatal,
    )


def model(who: Patient, scale: float = 1e6) -> Model:
    """The law of one patient, `scale` cells per unit of size."""
    params = who._asdict() | {"capacity": who.capacity * scale}
    return custom_model({"resistance": 1}, rates, params, drugs=("drug",), has_feedback=True)


def problem(
    who: Patient,
    horizon: float,
    doses: dict[str, float] | None = None,
    scale: float = 1e6,
    **options,
) -> Problem:
    """Continuous treatment; an arm per entry of `doses` (name -> D), default treated and untreated."""
    doses = {"treated": 1.0, "untreated": 0.0} if doses is None else doses
    arms = tuple(Arm(name, (), (Level(0, 0.0, horizon, d),)) for name, d in doses.items())
    founders = [
        Founder(round(n * scale), c, 0) for c, n in enumerate((who.sensitive, who.resistant))
    ]
    settings = {"seed": 1, "replicates": 1, "sync": 1.0, "max_cells": 2**31 - 1} | options
    return Problem(model(who, scale), tuple(founders), arms, horizon=horizon, **settings)


def adaptive_problem(
    cohort: Sequence[Patient], horizon: float, rule: Rule, scale: float = 1e6, **options
) -> Problem:
    """One arm whose rule decides at the end of every day whether D is 1 or 0."""
    line = Line("drug", (), (Level(0, 0.0, horizon, 1.0),))
    founders = tuple(
        tuple(Founder(round(n * scale), c, 0) for c, n in enumerate((who.sensitive, who.resistant)))
        for who in cohort
    )
    models = tuple(model(who, scale) for who in cohort)
    settings = {"seed": 1, "replicates": 1, "sync": 1.0, "max_cells": 1} | options
    return Problem(
        models[0], founders[0], (Arm(rule.name, (), lines=(line,), policy=rule),), horizon=horizon,
        patients=models, founders_of=founders, visits=Visits(every=1.0), **settings,
    )  # fmt: skip


def progression(who: Patient, rule: str, horizon: int = 6000) -> float:
    """Exact day on which N exceeds 1.2 N0 under "ct" (always on) or "at50"; infinite if never.

    at50: on at first; at the end of every day off if N < N0/2, on if N > N0.
    """
    with jax.enable_x64(True):
        both = laws(problem(who, 1.0, {"off": 0.0, "on": 1.0}, scale=1.0))
        start = jnp.array([who.sensitive, who.resistant])
        return float(_progression(both, start, rule == "at50", horizon))


@jax.jit
def _progression(both, start, is_adaptive, horizon):
    first, days = jnp.sum(start), jnp.asarray(horizon)
    excess = lambda count, _: jnp.sum(count) - PROGRESSION * first  # noqa: E731
    chosen = lambda is_on: jax.tree.map(lambda x: x[is_on.astype(int)], both)  # noqa: E731

    def going(carry):
        day, _, _, crossed = carry
        return (day < days) & jnp.isinf(crossed)

    def one_day(carry):
        day, count, is_on, _ = carry
        found = meanfield.first_day(chosen(is_on), count, None, excess)
        size = jnp.sum(found.count)
        switched = jnp.where(size < first / 2, False, jnp.where(size > first, True, is_on))
        is_on = jnp.where(is_adaptive, switched, True)
        return day + 1, found.count, is_on, day.astype(found.day.dtype) + found.day

    begin = (jnp.asarray(0), start, jnp.asarray(True), jnp.asarray(np.inf))
    return jax.lax.while_loop(going, one_day, begin)[3]
