"""Search: the amounts that minimize a goal within limits, from many starts.

In the unit box u of the pattern, with F = asinh(goal), which has the same minima and no large slopes,

    L(u, m, r) = F(u) + sum_k [max(0, m_k + r g_k(u))^2 - m_k^2] / (2 r)

is the augmented Lagrangian of the limits g <= 0 (Nocedal & Wright 2006, Numerical Optimization, chapters
17.3 and 18). Stages:

    descent   Adam with a cosine schedule, projected to the box; m moves after every chunk
    polish    steps to the least of a quadratic model (L-BFGS) within the limits, straightened where the
              start is (`quadratic`), as far as L falls, m the multipliers of that model. Totals are
              linear and hold exactly: k counts the other limits only
    leaps     L at its multipliers along each variable alone finds what no slope shows, such as one more
              pulse under a steep Hill curve; the 1, 2, 4, ... best leaps together are the next starts

A start has converged when the projected slope of L and the violation are small, whatever the number of
steps. What is found is drawn back to the lowest doses (or to others that keep the limits) until every
limit holds, without tolerance, or it is not called feasible. The state after every chunk is a tree of
arrays, which can be saved; a search that goes on from it gives the same bits.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from jaxevo.optimize.limits import Limit, joined, rows_of
from jaxevo.optimize.pattern import Pattern, check, random
from jaxevo.optimize.quadratic import MEMORY, Pairs, Polytope
from jaxevo.optimize.state import (
    DESCENT,
    DONE,
    HISTORY,
    POLISH,
    Found,
    Progress,
    Settings,
    State,
    loaded,
    save,
)
from jaxevo.optimize.steps import (
    Box,
    Seen,
    Task,
    Team,
    Terms,
    all_seen,
    descended,
    drawn_back,
    judged,
    new_adam,
    polished,
)

FIRST_PENALTY = 10.0
LEVELS = 5  # of a variable, tried in a leap
HALFWAYS = 60  # from a start to the anchor, at most, until the goal has a value
NEAR = 1e-4  # of the box: what has converged and is drawn back further has not
AS_GOOD = 1e-6  # relative; of places that are so close in value the one that has converged is taken
USUAL = Settings()


def search(
    goal: Any,
    pattern: Pattern,
    limits: tuple[Limit, ...] = (),
    *,
    starts: np.ndarray | None = None,
    num_random: int = 4,
    seed: int = 0,
    settings: Settings = USUAL,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    saved: Path | None = None,
) -> Found:
    """The best schedule from many starts.

    Args:
        goal: what is minimized (`goals.Goal`).
        pattern: decision variables and the amounts that follow.
        limits: constraints on the amounts.
        starts: [start, variable] variables to start from; None for random ones only.
        num_random: random starts beside them, drawn by `seed`.
        settings: how long, how fine.
        progress: called after every chunk.
        should_stop: asked after every chunk; if true, what is best so far is returned.
        saved: file of the state after every chunk; if it exists, the search goes on from it.

    Raises:
        ValueError: bounds cross, there is no start, or the saved state is of another search.
    """
    check(pattern)
    limits = tuple(limits)
    one_thread = threadpool_limits(1, "blas")  # those of OpenBLAS wait for each other
    with one_thread, jax.enable_x64(True), contextlib.closing(Team()) as team:
        places = _starts(pattern, starts, num_random, seed)
        if any(limit.share is None for limit in limits):
            settings = settings._replace(tolerance=settings.curved_tolerance)
        task = Task(
            lambda u: goal.value(pattern.amounts(pattern.of_unit(u))),
            lambda u: joined(limits)(pattern.amounts(pattern.of_unit(u))),
            _slopes(pattern, limits),
            settings,
        )
        anchor = _anchor(task, places)
        own = _Own(task, team, _box(pattern, limits, anchor))
        state = _begin(own, places, anchor)
        history = np.zeros((0, len(HISTORY)))
        if saved is not None and saved.exists():
            state, history = loaded(saved, state)
        while int(state.stage) != DONE:
            state, summary = _chunk(own, state)
            history = np.concatenate([history, summary[None]])
            state = _next_stage(own, state, history[:, 1])
            if saved is not None:
                save(saved, state, history)
            if progress is not None:
                name = ("descent", "polish")[int(summary[0])]
                progress(Progress(name, len(history), float(summary[1]), int(summary[5])))
            if should_stop():
                break
        return _found(own, pattern, limits, state, history)


class _Own(NamedTuple):
    """What all stages of one search share."""

    task: Task
    team: Team
    box: Box

    def back(self, units, anchor):
        """Places where every limit holds, if one does: they, their goals, and whether it does."""
        drawn = np.asarray(drawn_back(self.task, jnp.asarray(units), jnp.asarray(anchor)))
        values, rows = judged(self.task, self.team, drawn)
        return drawn, values, np.all(rows <= 0, axis=1)


def _starts(pattern: Pattern, starts, num_random: int, seed: int) -> np.ndarray:
    given = np.zeros((0, len(pattern.low))) if starts is None else np.atleast_2d(starts)
    if given.shape[1:] != pattern.low.shape:
        raise ValueError(
            f"starts have {given.shape[1]} variables; the pattern has {len(pattern.low)}"
        )
    places = np.concatenate([given, random(pattern, seed, num_random)])
    if not len(places):
        raise ValueError("a search needs at least one start; give some, or ask for random ones")
    return pattern.to_unit(places)


def _anchor(task: Task, units) -> np.ndarray:
    """The lowest doses, or the highest, or the first start, whichever keeps all limits first."""
    places = np.concatenate([np.zeros_like(units[:1]), np.ones_like(units[:1]), units])
    holds = jax.lax.map(lambda unit: jnp.all(task.limits(unit) <= 0), jnp.asarray(places))
    return places[int(np.argmax(np.asarray(holds)))]


def _slopes(pattern: Pattern, limits):
    """All rows of all limits and their slopes, in the unit box."""
    by_unit = np.zeros((len(pattern.weight), len(pattern.low)))
    by_unit[np.arange(len(pattern.weight)), pattern.variable] = pattern.weight
    by_unit *= pattern.high - pattern.low

    made = [limit.along(by_unit) for limit in limits]

    def both(unit):
        amounts = pattern.amounts(pattern.of_unit(unit))
        found = [own(amounts) for own in made]
        rows = jnp.concatenate([jnp.zeros(0), *(rows for rows, _ in found)])
        return rows, jnp.concatenate([jnp.zeros((0, len(unit))), *(slopes for _, slopes in found)])

    return both


def _box(pattern: Pattern, limits, anchor: np.ndarray) -> Box:
    """Limits that are totals, in the unit box, and which rows of all they are.

    What not even the anchor keeps is kept as far as it does.
    """
    width, num = pattern.high - pattern.low, len(pattern.low)
    lowest = pattern.weight * pattern.low[pattern.variable]
    rows: list = [np.zeros((0, num))]
    most: list = [np.zeros(0)]
    is_total: list = [np.zeros(0, bool)]
    for limit in limits:
        number = len(np.asarray(limit.value(jnp.asarray(lowest))))
        is_total.append(np.full(number, limit.share is not None))
        if limit.share is not None:
            each = limit.share * pattern.weight[None]
            own = np.stack([np.bincount(pattern.variable, row, num) for row in each]) * width[None]
            rows.append(own)
            most.append(np.maximum(1 - limit.share @ lowest, own @ anchor))
    polytope = Polytope(np.concatenate(rows), np.concatenate(most))
    return Box(polytope, np.concatenate(is_total), anchor)


def _placed(own: _Own, units: np.ndarray, anchor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts drawn back to where all limits hold, then halfway to the anchor until the goal has a value:
    the places, and the goal there, infinite for none.
    """
    drawn, values, holds = own.back(units, anchor)
    for _ in range(HALFWAYS):
        has_value = np.isfinite(values)
        if has_value.all():
            break
        drawn = np.where(has_value[:, None], drawn, (drawn + anchor) / 2)
        values, rows = judged(own.task, own.team, drawn)
        holds = np.where(has_value, holds, np.all(rows <= 0, axis=1))
    return drawn, np.where(holds & np.isfinite(values), values, np.inf)


def _begin(own: _Own, units: np.ndarray, anchor: np.ndarray) -> State:
    task, num, size = own.task, *units.shape
    drawn, values = _placed(own, units, anchor)
    first = int(np.argmin(values))
    pairs = np.zeros((num, MEMORY, size))
    adam = jax.vmap(new_adam(task.settings).init)(jnp.asarray(drawn))
    state = State(
        unit=drawn,
        anchor=anchor,
        good=drawn,
        multiplier=np.zeros((num, len(own.box.is_total))),
        penalty=np.full(num, FIRST_PENALTY),
        adam=adam,
        moved=pairs,
        change=pairs,
        pairs=np.zeros(num, int),
        slope=np.full(num, np.inf),
        is_there=np.zeros(num, bool),
        origin=units,
        origin_value=values,
        best=drawn[first],
        best_value=values[first],
        best_multiplier=np.zeros(len(own.box.is_total)),
        best_slope=np.array(np.inf),
        stage=np.array(DESCENT if task.settings.descent_steps else POLISH),
        count=np.array(0),
        leap=np.array(0),
    )
    return jax.tree.map(np.asarray, state)


def _chunk(own: _Own, state: State) -> tuple[State, np.ndarray]:
    """Some steps of all starts, and the multipliers that follow."""
    is_descent = int(state.stage) == DESCENT
    state, each = (_descended if is_descent else _polished)(own, state)
    value = np.array([now.value for now in each])
    worst = np.array([np.max(now.rows, initial=0.0) for now in each])
    ranked = np.where((worst > own.task.settings.violation) | ~np.isfinite(value), np.inf, value)
    first = int(np.argmin(ranked))
    if ranked[first] < state.best_value:
        state = state._replace(
            best=state.unit[first], best_value=ranked[first],
            best_multiplier=state.multiplier[first], best_slope=state.slope[first],
        )  # fmt: skip
    summary = np.array([
        state.stage, state.best_value, np.nanmedian(value), np.max(worst), np.max(state.slope),
        np.sum(state.is_there),
    ], float)  # fmt: skip
    return state._replace(count=state.count + 1), summary


def _descended(own: _Own, state: State) -> tuple[State, list[Seen]]:
    """A chunk of Adam of every start, and what is seen there."""
    task, ones = own.task, np.ones(len(own.box.is_total))
    terms = [Terms(*x, ones) for x in zip(state.multiplier, state.penalty, strict=True)]
    unit, good, adam = descended(task, own.team, state, terms, task.settings.chunk)
    each = all_seen(task, own.team, unit)
    rows = np.stack([now.rows for now in each])
    pushed = np.maximum(0.0, state.multiplier + state.penalty[:, None] * rows)
    slope = np.full(len(unit), np.inf)
    return state._replace(unit=unit, good=good, adam=adam, multiplier=pushed, slope=slope), each


def _polished(own: _Own, state: State) -> tuple[State, list[Seen]]:
    """A chunk of the polish of every start that is not there, and what is seen there."""
    place = np.stack([
        unit if int(state.count) else own.box.polytope.nearest(unit) for unit in state.unit
    ])  # fmt: skip

    def walk(k):
        pairs = Pairs(*(x[k, MEMORY - state.pairs[k] :] for x in (state.moved, state.change)))
        most = 0 if state.is_there[k] else own.task.settings.chunk
        return polished(own.task, own.box, place[k], pairs, float(state.penalty[k]), most)

    walks = own.team.each(walk, range(len(place)))
    filled = lambda x: np.pad(x, ((MEMORY - len(x), 0), (0, 0)))  # noqa: E731
    state = state._replace(
        unit=np.stack([w.unit for w in walks]),
        multiplier=np.stack([w.pressure for w in walks]),
        penalty=np.array([w.penalty for w in walks]),
        moved=np.stack([filled(w.pairs.moved) for w in walks]),
        change=np.stack([filled(w.pairs.change) for w in walks]),
        pairs=np.array([len(w.pairs.moved) for w in walks]),
        slope=np.array([w.slope for w in walks]),
        is_there=state.is_there | np.array([w.is_there or w.is_stuck for w in walks]),
    )
    return state, [w.last for w in walks]


def _next_stage(own: _Own, state: State, best: np.ndarray) -> State:
    """From descent to polish, from polish to the leaps, until nothing is gained."""
    settings, count = own.task.settings, int(state.count)
    if int(state.stage) == DESCENT:
        if count * settings.chunk < settings.descent_steps:
            return state
        return _settled(own, state)
    if not np.all(state.is_there) and count < settings.polish_chunks:
        return state
    is_last = int(state.leap) >= settings.leaps or not np.isfinite(state.best_value)
    if int(state.leap) and not is_last:  # was the last round worth it?
        before = float(best[-count - 1])
        is_last = float(best[-1]) > before - AS_GOOD * max(1.0, abs(before))
    return state._replace(stage=np.array(DONE)) if is_last else _leapt(own, state)


def _settled(own: _Own, state: State) -> State:
    """Where the descent ended, within the limits, or where it began if that is better.

    Totals alone are kept by the polish, and not even a bad end is drawn back.
    """
    polish = {"stage": np.array(POLISH), "count": np.array(0)}
    if own.box.is_total.all():
        return state._replace(**polish)
    within = np.stack([own.box.polytope.nearest(unit) for unit in state.unit])
    ended, values, holds = own.back(within, state.anchor)
    begun, before = _placed(own, state.origin, state.anchor)
    is_better = holds & np.isfinite(values) & (values <= before)
    return state._replace(unit=np.where(is_better[:, None], ended, begun), **polish)


def _leaps(own: _Own, unit: np.ndarray, multiplier: np.ndarray):
    """The best level of every variable alone, and how much lower the Lagrangian is there."""
    num = len(unit)
    mean = np.sum(unit) / max(1.0, np.sum(unit > 1e-3))
    levels = np.append(np.linspace(0, 1, LEVELS), mean)
    tried = np.tile(unit, (num * len(levels) + 1, 1))
    tried[np.arange(num * len(levels)), np.repeat(np.arange(num), len(levels))] = np.tile(
        levels, num
    )
    values, rows = judged(own.task, own.team, tried)
    found = np.arcsinh(values) + rows @ multiplier
    found = np.where(np.isfinite(found), found, np.inf)
    each, here = found[:-1].reshape(num, len(levels)), found[-1]
    return levels[np.argmin(each, axis=1)], here - np.min(each, axis=1)


def _leapt(own: _Own, state: State) -> State:
    """New starts from the best: its 1, 2, 4, ... best leaps together."""
    level, gain = _leaps(own, state.best, state.best_multiplier)
    order = np.argsort(-gain, kind="stable")
    order = order[gain[order] > 10 * own.task.settings.tolerance]
    if not len(order):
        return state._replace(stage=np.array(DONE))
    num = len(state.unit)
    units = np.tile(state.best, (num, 1))
    for s in range(num):
        chosen = order[: 2**s]
        units[s, chosen] = level[chosen]
    fresh = _begin(own, units, state.anchor)
    return fresh._replace(
        adam=state.adam, origin=state.origin, origin_value=state.origin_value,
        multiplier=np.tile(state.best_multiplier[None], (num, 1)),
        best=state.best, best_value=state.best_value, best_multiplier=state.best_multiplier,
        best_slope=state.best_slope, stage=np.array(POLISH), leap=state.leap + 1,
    )  # fmt: skip


def _found(own: _Own, pattern: Pattern, limits, state: State, history: np.ndarray) -> Found:
    """The best of all, drawn back until every limit holds."""
    before = np.concatenate([state.best[None], state.unit])
    units, values, holds = own.back(before, state.anchor)
    values = np.where(np.isfinite(values), values, np.inf)
    slopes = np.append(state.best_slope, state.slope)
    multipliers = np.concatenate([state.best_multiplier[None], state.multiplier])
    is_near = np.max(np.abs(units - before), axis=1, initial=0.0) <= NEAR
    is_there = (slopes <= own.task.settings.tolerance) & is_near
    is_there[1:] &= state.is_there
    chosen = _chosen(values, holds, is_there)
    variables = np.asarray(pattern.of_unit(jnp.asarray(units))) + 0.0  # no minus zero
    amounts = np.asarray(pattern.amounts(jnp.asarray(variables[chosen])))
    rows = np.asarray(own.task.limits(jnp.asarray(units[chosen])))
    where = rows_of(limits, amounts)
    scale = float(np.sqrt(1 + values[chosen] ** 2))
    return Found(
        amounts=amounts,
        variables=variables[chosen],
        value=float(values[chosen]),
        slack={name: -rows[at] for name, at in where.items()},
        multiplier={name: scale * multipliers[chosen][at] for name, at in where.items()},
        is_feasible=bool(holds[chosen]),
        is_converged=bool(holds[chosen] and is_there[chosen] and int(state.stage) == DONE),
        gradient_norm=scale * float(slopes[chosen]),
        history={name: history[:, k] for k, name in enumerate(HISTORY)},
        starts={
            "value": values[1:], "is_feasible": holds[1:],
            "is_converged": is_there[1:], "variables": variables[1:],
        },
    )  # fmt: skip


def _chosen(values, holds, is_there) -> int:
    """The lowest value where all limits hold; of those as good one that has converged."""
    if not holds.any():
        return int(np.argmin(values))
    lowest = np.where(holds, values, np.inf)
    best = lowest.min()
    close = lowest <= best + AS_GOOD * max(1.0, abs(best))
    return int(
        np.argmin(
            np.where(close & is_there, lowest, np.inf) if (close & is_there).any() else lowest
        )
    )
