"""Search: the amounts that minimize a goal within limits, from many starts at once.

In the unit box u of the pattern, with F = asinh(goal), which has the same minima and no large slopes,

    L(u, m, r) = F(u) + sum_k [max(0, m_k + r g_k(u))^2 - m_k^2] / (2 r)

is the augmented Lagrangian of the limits g <= 0 (Nocedal & Wright 2006, Numerical Optimization, chapter
17.3). Stages:

    descent   Adam with a cosine schedule, projected to the box; all starts in one `vmap`
    polish    L-BFGS on the variables that are not held at a bound (Bertsekas 1982,
              doi:10.1137/0320018), projected line search; m and r
              move when the slope is small enough for them
    leaps     L at its multipliers along each variable alone finds what no slope shows, such as one more
              pulse under a steep Hill curve; the 1, 2, 4, ... best leaps together are the next starts

A start has converged when the projected slope of L and the violation are small, whatever the number of
steps. What is found is drawn back to the lowest doses (or to others that keep the limits) until every
limit holds, without tolerance, or it is not called feasible. The state after every chunk is a tree of
arrays, which can be saved; a search that goes on from it gives the same bits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.optimize.limits import Limit, joined, rows_of
from jaxevo.optimize.pattern import Pattern, check, random
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
from jaxevo.optimize.steps import FIRST_SLOPE, Task, chunk, drawn_back, leaps, new_adam, new_memory

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
    with jax.enable_x64(True):
        places = _starts(pattern, starts, num_random, seed)
        task = Task(
            lambda u: goal.value(pattern.amounts(pattern.of_unit(u))),
            lambda u: joined(limits)(pattern.amounts(pattern.of_unit(u))),
            settings,
        )
        state = _begin(task, jnp.asarray(places))
        history = np.zeros((0, len(HISTORY)))
        if saved is not None and saved.exists():
            state, history = loaded(saved, state)
        while int(state.stage) != DONE:
            state, summary = chunk(task, state, int(state.stage))
            history = np.concatenate([history, np.asarray(summary)[None]])
            state = _next_stage(task, state, history[:, 1])
            if saved is not None:
                save(saved, state, history)
            if progress is not None:
                name = ("descent", "polish")[int(summary[0])]
                progress(Progress(name, len(history), float(summary[1]), int(summary[5])))
            if should_stop():
                break
        return _found(task, pattern, limits, state, history)


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


def _plain(state: State) -> State:
    """As read from a file, so that one compiled program serves old and new states."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)


def _anchor(task: Task, units):
    """The lowest doses, or the highest, or the first start, whichever keeps all limits first."""
    ends = jnp.stack([jnp.zeros_like(units[0]), jnp.ones_like(units[0])])
    places = jnp.concatenate([ends, units])
    holds = jax.lax.map(lambda unit: jnp.all(task.limits(unit) <= 0), places)
    return places[jnp.argmax(holds)]


def _begin(task: Task, units) -> State:
    num = len(units)
    anchor = _anchor(task, units)
    drawn, _, _ = drawn_back(task, units, anchor)
    rows = jax.eval_shape(task.limits, units[0]).shape[0]
    each = lambda make: jax.vmap(make)(drawn)  # noqa: E731
    zero = jnp.zeros(())
    state = State(
        unit=drawn,
        anchor=anchor,
        good=jnp.tile(anchor[None], (num, 1)),
        multiplier=jnp.zeros((num, rows)),
        penalty=jnp.full(num, 10.0),
        worst=jnp.full(num, jnp.inf),
        enough=jnp.full(num, FIRST_SLOPE),
        waited=jnp.zeros(num, jnp.int32),
        adam=each(new_adam(task.settings).init),
        memory=each(new_memory().init),
        free=jnp.zeros(units.shape, bool),
        slope=jnp.full(num, jnp.inf),
        is_there=jnp.zeros(num, bool),
        best=drawn[0],
        best_value=zero + jnp.inf,
        best_multiplier=jnp.zeros(rows),
        best_slope=zero + jnp.inf,
        stage=jnp.int32(DESCENT if task.settings.descent_steps else POLISH),
        count=jnp.int32(0),
        leap=jnp.int32(0),
    )
    return _plain(state)


def _next_stage(task: Task, state: State, best: np.ndarray) -> State:
    """From descent to polish, from polish to the leaps, until nothing is gained."""
    settings, count = task.settings, int(state.count)
    if int(state.stage) == DESCENT:
        if count * settings.chunk < settings.descent_steps:
            return state
        return state._replace(stage=jnp.int32(POLISH), count=jnp.int32(0))
    if not bool(jnp.all(state.is_there)) and count < settings.polish_chunks:
        return state
    is_last = int(state.leap) >= settings.leaps or not bool(jnp.isfinite(state.best_value))
    if int(state.leap) and not is_last:  # was the last round worth it?
        before = float(best[-count - 1])
        is_last = float(best[-1]) > before - 1e-6 * max(1.0, abs(before))
    return state._replace(stage=jnp.int32(DONE)) if is_last else _leapt(task, state)


def _leapt(task: Task, state: State) -> State:
    """New starts from the best: its 1, 2, 4, ... best leaps together."""
    level, gain = map(np.asarray, leaps(task, state.best, state.best_multiplier))
    order = np.argsort(-gain, kind="stable")
    order = order[gain[order] > 10 * task.settings.tolerance]
    if not len(order):
        return state._replace(stage=jnp.int32(DONE))
    num = len(state.unit)
    units = np.tile(np.asarray(state.best), (num, 1))
    for s in range(num):
        chosen = order[: 2**s]
        units[s, chosen] = level[chosen]
    drawn, _, _ = drawn_back(task, jnp.asarray(units), state.anchor)
    fresh = _begin(task, drawn)
    state = state._replace(
        unit=drawn, memory=fresh.memory, free=fresh.free, is_there=fresh.is_there,
        slope=fresh.slope, worst=fresh.worst, enough=fresh.enough, waited=fresh.waited,
        multiplier=jnp.tile(state.best_multiplier[None], (num, 1)), penalty=fresh.penalty,
        count=jnp.int32(0), leap=state.leap + 1,
    )  # fmt: skip
    return _plain(state)


def _found(task: Task, pattern: Pattern, limits, state: State, history: np.ndarray) -> Found:
    """The best of all, drawn back until every limit holds."""
    units, values, holds = map(
        np.asarray, drawn_back(task, jnp.concatenate([state.best[None], state.unit]), state.anchor)
    )
    values = np.where(np.isfinite(values), values, np.inf)
    chosen = int(np.argmin(np.where(holds, values, np.inf)))
    if not holds[chosen]:
        chosen = int(np.argmin(values))
    of_start = chosen - 1
    multiplier = state.best_multiplier if of_start < 0 else state.multiplier[of_start]
    slope = state.best_slope if of_start < 0 else state.slope[of_start]
    variables = np.asarray(pattern.of_unit(jnp.asarray(units)))
    amounts = np.asarray(pattern.amounts(jnp.asarray(variables[chosen])))
    rows = np.asarray(task.limits(jnp.asarray(units[chosen])))
    where = rows_of(limits, amounts)
    scale = float(np.sqrt(1 + values[chosen] ** 2))
    is_there = float(slope) <= task.settings.tolerance
    return Found(
        amounts=amounts,
        variables=variables[chosen],
        value=float(values[chosen]),
        slack={name: -rows[at] for name, at in where.items()},
        multiplier={name: scale * np.asarray(multiplier)[at] for name, at in where.items()},
        is_feasible=bool(holds[chosen]),
        is_converged=bool(holds[chosen] and is_there and int(state.stage) == DONE),
        gradient_norm=scale * float(slope),
        history={name: history[:, k] for k, name in enumerate(HISTORY)},
        starts={
            "value": values[1:], "is_feasible": holds[1:],
            "is_converged": np.asarray(state.is_there & (state.slope <= task.settings.tolerance)),
            "variables": variables[1:],
        },
    )  # fmt: skip
