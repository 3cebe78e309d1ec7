"""Rounding: from the doses that were found to doses that exist, and an exchange search on those.

Every variable becomes a multiple of its step (tablet or vial strength; a step of 0 leaves it as it is).
The rules, in this order:

    1  every variable is rounded to the nearest multiple within its box; while a limit is broken, the
       variable whose lowering by one step costs the goal least per relief of the worst limit is lowered
    2  single moves: every variable to every other multiple (or the few nearest)
    3  exchanges: one variable down by one step and another up by one, of any drug, or the two trade
       their amounts
    4  if none helps: all multiples of every pair, then triple, then four of the variables, as long as
       those are `groups` candidates or fewer

The best feasible move is made, and the rules begin again at 2, until no move lowers the goal. So the
result is a feasible optimum under these moves. The rules are applied to what the other starts came to
as well, and the best is kept.
"""

import contextlib
import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.optimize.limits import Limit, joined, rows_of
from jaxevo.optimize.pattern import Pattern
from jaxevo.optimize.state import Found
from jaxevo.optimize.steps import Team

AT_ONCE = 8  # candidates in one call
NEAREST = 2  # multiples above and below, where there are more than `MOST_LEVELS`
MOST_LEVELS = 6
MOST_GROUPS = 6000  # candidates of rule 4
LEAST_GAIN = 1e-9  # relative
EXACT = 1e-12  # of a bound, by which sums of doses are off in floating point


def rounded(
    goal: Any,
    pattern: Pattern,
    limits: tuple[Limit, ...],
    found: Found,
    steps: np.ndarray,
    *,
    others: int = 3,
    exchanges: int = 200,
    groups: int = MOST_GROUPS,
    should_stop: Callable[[], bool] = lambda: False,
) -> Found:
    """The best schedule of existing doses near the one that was found.

    Args:
        goal, pattern, limits: of the search.
        found: what it found.
        steps: [variable] of which a dose is a multiple, mg or uM; 0 for any dose.
        others: starts of the search, beside the best, from whose results the rules begin as well.
        exchanges: moves at most.
        groups: candidates of rule 4 at most.
        should_stop: asked between moves.

    Raises:
        ValueError: a step is negative, or the number of steps is wrong.
    """
    steps = np.asarray(steps, float)
    if steps.shape != pattern.low.shape or np.any(steps < 0):
        raise ValueError(
            f"expected {len(pattern.low)} steps, none below 0, one for each variable of the pattern"
        )
    limits = tuple(limits)
    with jax.enable_x64(True), contextlib.closing(Team()) as team:
        judge, keeps = _judge(goal, pattern, limits, team), _keeps(pattern, limits)
        levels = [_levels(pattern, steps, k) for k in range(len(steps))]
        tried, seen = [], []
        for origin in _origins(found, others):
            near = _made_feasible(judge, levels, _nearest(levels, origin))
            if any(np.array_equal(near, other) for other in seen):
                continue
            seen.append(near)
            tried.append(_improved(judge, keeps, levels, near, exchanges, groups, should_stop))
            if should_stop():
                break
        now, _, taken, is_best = min(tried, key=lambda one: one[1])
        return _as_found(judge, pattern, limits, found, now, taken, is_best)


def _origins(found: Found, others: int) -> list[np.ndarray]:
    """What was found, then what the other starts came to, the best first."""
    values = np.where(found.starts["is_feasible"], found.starts["value"], np.inf)
    order = np.argsort(values, kind="stable")[:others]
    more = [found.starts["variables"][k] for k in order if np.isfinite(values[k])]
    return [found.variables, *more]


def _nearest(levels, origin) -> np.ndarray:
    """Multiples next to an origin."""
    near = [of[np.argmin(np.abs(of - x))] if len(of) else x
            for of, x in zip(levels, origin, strict=True)]  # fmt: skip
    return np.array(near)


def _improved(judge, keeps, levels, now, exchanges: int, groups: int, should_stop):
    """Rules 2 to 4: variables, value (infinite if infeasible) after each move; whether all is tried."""
    value, worst = (float(x[0]) for x in judge(now[None]))
    taken = [value]
    if worst > 0:
        return now, np.inf, taken, False
    for _ in range(exchanges):
        if should_stop():
            break
        better = _best_move(judge, keeps, levels, now, value, groups)
        if better is None:
            return now, value, taken, True
        now, value = better
        taken.append(value)
    return now, value, taken, False


def _judge(goal, pattern: Pattern, limits, team: Team):
    """[candidate, variable] -> goal and worst row of every candidate; NaN is never better."""

    @jax.jit
    def both(candidates):
        def one(variables):
            amounts = pattern.amounts(variables)
            return goal.value(amounts), jnp.max(joined(limits)(amounts), initial=-jnp.inf)

        return jax.lax.map(one, candidates)

    def judge(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number = len(candidates)
        more = np.repeat(candidates[:1], -number % AT_ONCE, axis=0)
        parts = np.concatenate([candidates, more]).reshape(-1, AT_ONCE, candidates.shape[1])
        found = team.each(lambda part: tuple(map(np.asarray, both(jnp.asarray(part)))), parts)
        values, worst = (np.concatenate(x)[:number] for x in zip(*found, strict=True))
        return np.where(np.isnan(values), np.inf, values), _exact(worst)

    return judge


def _exact(rows: np.ndarray) -> np.ndarray:
    """Limits that are met but for the last digits are met."""
    return np.where(np.abs(rows) <= EXACT, 0.0, rows)


def _keeps(pattern: Pattern, limits: tuple[Limit, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """[candidate, variable] -> whether all totals hold, which costs nothing to see."""
    shares = [limit.share for limit in limits if limit.share is not None]

    def keeps(candidates: np.ndarray) -> np.ndarray:
        amounts = pattern.weight[None] * candidates[:, pattern.variable]
        rows = [amounts @ share.T for share in shares]
        whole = np.concatenate([np.zeros((len(amounts), 1)), *rows], axis=1)
        return np.all(whole <= 1 + EXACT, axis=1)

    return keeps


def _levels(pattern: Pattern, steps: np.ndarray, k: int) -> np.ndarray:
    """Amounts that exist within the box of a variable; none are named where any amount does."""
    if steps[k] == 0:
        return np.zeros(0)
    first = np.ceil(pattern.low[k] / steps[k] - 1e-9)
    last = np.floor(pattern.high[k] / steps[k] + 1e-9)
    if last < first:
        raise ValueError(
            f"no multiple of {steps[k]:g} lies between {pattern.low[k]:g} and {pattern.high[k]:g}"
        )
    return steps[k] * np.arange(first, last + 1)


def _made_feasible(judge, levels, now: np.ndarray) -> np.ndarray:
    """Rule 1; what cannot be made feasible is returned as low as it goes."""
    while True:
        value, worst = (float(x[0]) for x in judge(now[None]))
        lower = [(k, of[of < now[k] - 1e-12]) for k, of in enumerate(levels)]
        lower = [(k, of[-1]) for k, of in lower if len(of)]
        if worst <= 0 or not lower:
            return now
        tried = np.repeat(now[None], len(lower), axis=0)
        for row, (k, level) in zip(tried, lower, strict=True):
            row[k] = level
        values, rows = judge(tried)
        relief = worst - rows
        cost = np.maximum(values - value, 0) + 1e-12
        helps = relief > 1e-12
        chosen = np.argmax(np.where(helps, relief / cost, -np.inf)) if helps.any() else int(
            np.argmin(values)
        )  # fmt: skip
        now = tried[chosen]


def _best_move(judge, keeps, levels, now: np.ndarray, value: float, groups: int):
    """The best feasible move of the first rule that has one that helps."""
    more = (partial(_groups, size=n, most=groups) for n in (2, 3, 4))
    for rule in (_singles, _exchanges, *more):
        candidates = rule(levels, now)
        if len(candidates):
            candidates = candidates[keeps(candidates)]
        if not len(candidates):
            continue
        values, worst = judge(candidates)
        values = np.where(worst <= 0, values, np.inf)
        best = int(np.argmin(values))
        if values[best] < value - LEAST_GAIN * max(1.0, abs(value)):
            return candidates[best], float(values[best])
    return None


def _near(of: np.ndarray, x: float) -> np.ndarray:
    """Other multiples, all or the few nearest."""
    other = of[np.abs(of - x) > 1e-12]
    if len(other) <= MOST_LEVELS:
        return other
    below, above = other[other < x], other[other > x]
    ends = [of[0], of[-1]]
    return np.unique(np.concatenate([below[-NEAREST:], above[:NEAREST], ends]))


def _singles(levels, now) -> np.ndarray:
    found = []
    for k, of in enumerate(levels):
        for level in _near(of, now[k]):
            moved = now.copy()
            moved[k] = level
            found.append(moved)
    return np.array(found)


def _exchanges(levels, now) -> np.ndarray:
    found = []
    for i, j in itertools.permutations(range(len(levels)), 2):
        down, up = levels[i][levels[i] < now[i] - 1e-12], levels[j][levels[j] > now[j] + 1e-12]
        if len(down) and len(up):
            moved = now.copy()
            moved[i], moved[j] = down[-1], up[0]
            found.append(moved)
        may_trade = i < j and now[i] != now[j]
        if may_trade and _has(levels[i], now[j]) and _has(levels[j], now[i]):
            moved = now.copy()
            moved[i], moved[j] = now[j], now[i]
            found.append(moved)
    return np.array(found)


def _has(of: np.ndarray, x: float) -> bool:
    return bool(np.any(np.abs(of - x) < 1e-12))


def _groups(levels, now, size: int, most: int) -> np.ndarray:
    """All multiples of every group of `size` variables, if those are few enough."""
    few = math.comb(len(levels), size) <= most
    groups = list(itertools.combinations(range(len(levels)), size)) if few else []
    if sum(math.prod(len(levels[k]) for k in g) for g in groups) > most:
        return np.zeros((0, len(now)))
    found = []
    for group in groups:
        for values in itertools.product(*(levels[k] for k in group)):
            moved = now.copy()
            moved[list(group)] = values
            found.append(moved)
    return np.array(found)


def _as_found(judge, pattern, limits, found: Found, now, taken, is_best) -> Found:
    """Slopes and multipliers have no meaning on multiples."""
    now = now + 0.0  # no minus zero
    value, worst = (float(x[0]) for x in judge(now[None]))
    amounts = np.asarray(pattern.amounts(jnp.asarray(now)))
    rows = _exact(np.asarray(joined(limits)(jnp.asarray(amounts))))
    where = rows_of(limits, amounts)
    return found._replace(
        amounts=amounts,
        variables=now,
        value=value,
        slack={name: -rows[at] for name, at in where.items()},
        multiplier={name: np.full_like(rows[at], np.nan) for name, at in where.items()},
        is_feasible=bool(worst <= 0),
        is_converged=is_best and bool(worst <= 0),
        gradient_norm=np.nan,
        history={"best_value": np.array(taken)},
    )
