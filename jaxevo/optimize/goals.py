"""Goals: what a schedule is to minimize, as a smooth function of its amounts.

    relapse     ln [P / (1 - P)], P the probability of relapse by the horizon; of a cohort P is the mean
    free_days   minus the mean days without relapse, up to the horizon
    burden      ln of the expected cells at the horizon

Of a cohort the goal is the mean over its patients, or over the share of them who fare worst (conditional
value at risk; Rockafellar & Uryasev 2000, doi:10.21314/JOR.2000.038). Patient k then has the weight

    w_k = sigma((v_k - t)/s) / (share K),      t such that the weights sum to 1,

with v_k its own value, and s small: without it (s = 0) the worst have 1/(share K), the others nothing.
The log odds keep their precision for P from 1e-300 to 1 - 1e-300.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines import objective
from jaxevo.engines.base import Arm, Problem
from jaxevo.state import Array, Scalar

PROBES = (0.0, 0.25, 0.5, 1.0)  # of all largest amounts, for which steps are chosen
ALONE = (0.3, 1.0)  # the same for each drug alone
MOST_DAYS = 60  # after which nothing is given; of more, some
WIDTH = {"relapse": 0.05, "free_days": 0.5, "burden": 0.02}  # s above, in units of the values
SMALLEST = 1e-300  # of -ln P(no relapse)
BISECTIONS = 80


class Goal(NamedTuple):
    """What is minimized, a function of the amounts [entry]; call under x64."""

    value: Callable[[Float[Array, " entry"]], Scalar]
    each: Callable[[Float[Array, " entry"]], Float[Array, " patient"]] | None = None


def with_amounts(arm: Arm, amounts: np.ndarray) -> Arm:
    """The same arm with other amounts: doses (mg), then levels (uM)."""
    num = len(arm.doses)
    doses = [d._replace(amount_mg=float(x)) for d, x in zip(arm.doses, amounts[:num], strict=True)]
    levels = [x._replace(level_um=float(c)) for x, c in zip(arm.levels, amounts[num:], strict=True)]
    return arm._replace(doses=tuple(doses), levels=tuple(levels))


def amounts_of(arm: Arm) -> Float[np.ndarray, " entry"]:
    """Amounts of an arm: doses (mg), then levels (uM)."""
    entries: tuple[Any, ...] = (*arm.doses, *arm.levels)
    found = [x.amount_mg if isinstance(x, Dose) else _level(x) for x in entries]
    return np.array(found, float)


def _level(level: Level) -> float:
    return level.level_um


def _probes(arm: Arm) -> Float[np.ndarray, "probe entry"]:
    """Multiples of the largest amounts: of all, of each drug alone, pulses, and all that is given up to
    a day with nothing after it, since cells that will grow again ask for the shortest steps.
    """
    entries: tuple[Any, ...] = (*arm.doses, *arm.levels)
    drug = np.array([x.drug for x in entries], int)
    day = np.array([x.day if isinstance(x, Dose) else x.start for x in entries], float)
    whole = [np.full(len(drug), share) for share in PROBES]
    alone = [share * (drug == d) for d in np.unique(drug) for share in ALONE]
    pulses = [(np.arange(len(drug)) // 2) % 2 == k for k in (0, 1)]
    days = np.unique(day)
    until = [day <= last for last in days[:: -(-len(days) // MOST_DAYS)]]
    return np.array([*whole, *alone, *pulses, *until], float)


def log_odds(log_none: Scalar) -> Scalar:
    """ln [P/(1 - P)] from ln(1 - P)."""
    log_none = jnp.minimum(log_none, -SMALLEST)
    return _log_relapse(log_none) - log_none


def _log_relapse(log_none):
    """ln P from ln(1 - P), precise at both ends."""
    is_rare = log_none > -1.0
    rare = jnp.log(-jnp.expm1(jnp.where(is_rare, log_none, -1.0)))
    return jnp.where(is_rare, rare, jnp.log1p(-jnp.exp(jnp.where(is_rare, -1.0, log_none))))


def worst_share(values: Float[Array, " patient"], share: float, width: float) -> Array:
    """Weights of the patients, the worst `share` of whom count; the larger the value, the worse.

    Differentiable in the values; they sum to 1.
    """
    num = values.shape[0]
    if share >= 1:
        return jnp.full(num, 1 / num)
    fixed = jax.lax.stop_gradient(values)

    def excess(t, values):
        return jnp.sum(jax.nn.sigmoid((values - t) / width)) - share * num

    reach = 50 * width
    low, high = jnp.min(fixed) - reach, jnp.max(fixed) + reach

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        above = excess(middle, fixed) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    t = jax.lax.stop_gradient(jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))[0])
    slope = jax.lax.stop_gradient(jnp.minimum(jax.grad(excess)(t, fixed), -1e-30))
    t = t - excess(t, values) / slope  # one Newton step carries the derivative
    weights = jax.nn.sigmoid((values - t) / width)
    return weights / jnp.sum(weights)


def goal(
    kind: str,
    problem: Problem,
    arm: Arm,
    patients: range | None = None,
    share: float = 1.0,
) -> Goal:
    """The goal of one arm as a function of its amounts.

    Args:
        kind: "relapse", "free_days" or "burden".
        problem: the study; its arms do not matter.
        arm: entries and their LARGEST amounts.
        patients: over which, default all.
        share: of the patients, those who fare worst; 1 for the mean of all.

    Raises:
        ValueError: the kind is unknown, or the share is not within (0, 1].
        Refused: what the objective refuses.
    """
    makers = {
        "relapse": objective.objective, "free_days": objective.free_days,
        "burden": objective.burden,
    }  # fmt: skip
    if kind not in makers:
        raise ValueError(f"the goal is {kind!r}; expected one of {', '.join(makers)}")
    if not 0 < share <= 1:
        raise ValueError(f"the share of the worst is {share:g}; expected more than 0, at most 1")
    single = problem._replace(arms=(arm,))
    chosen = range(len(problem.models)) if patients is None else patients
    probes = _probes(arm)
    made = [makers[kind](single, 0, patient, probes).value for patient in chosen]

    def each(amounts):
        found = jnp.stack([value(amounts) for value in made])
        if kind == "relapse":
            return jax.vmap(log_odds)(found)
        return -found if kind == "free_days" else found

    def value(amounts):
        if kind != "relapse":
            values = each(amounts)
            return worst_share(values, share, WIDTH[kind]) @ values
        log_none = jnp.minimum(jnp.stack([value(amounts) for value in made]), -SMALLEST)
        weights = worst_share(jax.vmap(log_odds)(log_none), share, WIDTH[kind])
        log_weight = jnp.log(jnp.maximum(weights, SMALLEST))
        log_relapse = jax.vmap(_log_relapse)(log_none)
        summed = lambda x: jax.scipy.special.logsumexp(log_weight + x)  # noqa: E731
        return summed(log_relapse) - summed(log_none)

    return Goal(value, each)
