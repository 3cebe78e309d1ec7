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
steps. What is found is drawn back to the lowest doses until every limit holds, without tolerance, or it
is not called feasible. The state after every chunk is a tree of arrays, which can be saved; a search that
goes on from it gives the same bits.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int

from jaxevo.optimize.limits import Limit, joined, rows_of
from jaxevo.optimize.pattern import Pattern, check, random
from jaxevo.state import Array

DESCENT, POLISH, DONE = 0, 1, 2
MEMORY = 20  # pairs of L-BFGS
FIRST_SLOPE = 0.1  # at which multipliers move first; a tenth at each next time
PATIENCE = 6  # chunks after which they move in any case
BACKTRACKS = 25
HALVINGS = 45  # of the way back to the lowest doses
LARGEST_PENALTY = 1e5
LEVELS = 5  # of a variable, tried in a leap
AT_ONCE = 16  # evaluations in one batch of leaps


class Settings(NamedTuple):
    """How long, how fine."""

    descent_steps: int = 150
    rate: float = 0.08  # of Adam, share of the box per step
    tolerance: float = 1e-5  # projected slope of L, relative to max(1, |goal|)
    violation: float = 1e-6  # of a limit, in units of its bound
    chunk: int = 25  # steps between two looks, multipliers and savings
    polish_chunks: int = 40  # at most, of one round
    leaps: int = 3  # rounds at most


class State(NamedTuple):
    """Everything that goes on from one chunk to the next; leading axis start."""

    unit: Float[Array, "start variable"]
    multiplier: Float[Array, "start row"]
    penalty: Float[Array, " start"]
    worst: Float[Array, " start"]  # violation when the multipliers last moved
    enough: Float[Array, " start"]  # slope at which they move
    waited: Int[Array, " start"]  # chunks since
    adam: Any
    memory: Any  # of L-BFGS
    free: Bool[Array, "start variable"]  # not held at a bound
    slope: Float[Array, " start"]  # projected
    is_there: Bool[Array, " start"]
    best: Float[Array, " variable"]
    best_value: Float[Array, ""]  # infinite until something is feasible
    best_multiplier: Float[Array, " row"]
    best_slope: Float[Array, ""]
    stage: Int[Array, ""]
    count: Int[Array, ""]  # chunks of this stage
    leap: Int[Array, ""]  # rounds of leaps


HISTORY = (
    "stage",
    "best_value",
    "median_value",
    "worst_violation",
    "largest_slope",
    "num_converged",
)


class Progress(NamedTuple):
    """Where a search stands."""

    stage: str
    chunk: int
    best: float  # goal of the best feasible schedule so far, infinite for none
    converged: int  # of the starts


class Found(NamedTuple):
    """What a search has found; amounts in the order of the arm."""

    amounts: Float[np.ndarray, " entry"]
    variables: Float[np.ndarray, " variable"]
    value: float  # of the goal
    slack: dict[str, np.ndarray]  # -g of every limit, share of its bound; negative is a violation
    multiplier: dict[str, np.ndarray]  # change of the goal per relative tightening of the bound
    is_feasible: bool  # every limit holds
    is_converged: bool
    gradient_norm: float  # largest entry of the projected slope, goal per width of the box
    history: dict[str, np.ndarray]  # [chunk]
    starts: dict[str, np.ndarray]  # [start] value, is_feasible, is_converged; variables of each


class _Task(NamedTuple):
    """The functions of one search, all of one place in the unit box."""

    goal: Callable[[Array], Array]
    limits: Callable[[Array], Array]
    settings: Settings

    def lagrangian(self, unit, multiplier, penalty):
        pushed = jnp.maximum(0.0, multiplier + penalty * self.limits(unit))
        return jnp.arcsinh(self.goal(unit)) + jnp.sum(pushed**2 - multiplier**2) / (2 * penalty)


# --- steps -----------------------------------------------------------------------------------------


def _adam(settings: Settings):
    schedule = optax.cosine_decay_schedule(settings.rate, settings.descent_steps, alpha=0.02)
    return optax.adam(schedule, b1=0.9, b2=0.99)


def _memory():
    return optax.scale_by_lbfgs(MEMORY)


_line = optax.scale_by_backtracking_linesearch(
    BACKTRACKS, decrease_factor=0.5, increase_factor=float("inf")
)


def _is_free(unit, slope):
    return ~(((unit <= 0) & (slope >= 0)) | ((unit >= 1) & (slope <= 0)))


def _projected(unit, slope):
    return jnp.max(jnp.abs(jnp.clip(unit - slope, 0, 1) - unit), initial=0.0)


def _descend(task: _Task, state, _):
    unit, adam, multiplier, penalty = state
    slope = jax.grad(task.lagrangian)(unit, multiplier, penalty)
    slope = jnp.where(jnp.isfinite(slope), slope, 0.0)
    step, adam = _adam(task.settings).update(slope, adam, unit)
    return (jnp.clip(unit + step, 0, 1), adam, multiplier, penalty), None


class _Walk(NamedTuple):
    """A start on its way under fixed multipliers."""

    unit: Array
    memory: Any
    free: Array  # not held at a bound
    slope: Array  # projected, where the last step began
    is_stuck: Array  # no step goes down any more
    count: Array


def _polish(task: _Task, multiplier, penalty, walk: _Walk) -> _Walk:
    """One step of L-BFGS; the memory is dropped when other variables come to be held."""
    at = lambda x: task.lagrangian(jnp.clip(x, 0, 1), multiplier, penalty)  # noqa: E731
    pick = lambda test, a, b: jax.tree.map(partial(jnp.where, test), a, b)  # noqa: E731
    unit = walk.unit
    value, whole = jax.value_and_grad(at)(unit)
    free = _is_free(unit, whole)
    slope = jnp.where(free, whole, 0.0)
    fresh = _memory().init(unit)
    was_dropped = jnp.any(free != walk.free) | walk.is_stuck
    memory = pick(was_dropped, fresh, walk.memory)
    direction, memory = _memory().update(slope, memory, unit)
    direction = jnp.where(free, -direction, 0.0)
    size = jnp.sqrt(jnp.sum(slope**2))
    is_down = jnp.sum(direction * slope) < -1e-10 * size * jnp.sqrt(jnp.sum(direction**2))
    direction = jnp.where(is_down, direction, -slope / jnp.maximum(1.0, size))
    memory = pick(is_down, memory, fresh)
    step, _ = _line.update(direction, _line.init(unit), unit, value=value, grad=slope, value_fn=at)
    after = jnp.clip(unit + step, 0, 1)
    fails = ~(at(after) < value)
    stuck = fails & was_dropped  # not even along the slope itself
    moved = jnp.where(fails, unit, after)
    count = jnp.where(stuck, jnp.int32(2**30), walk.count + 1)
    return _Walk(moved, memory, free, _projected(unit, whole), fails, count)


def _polished(task: _Task, start):
    """Steps of one start until its slope is small enough for its multipliers, or `chunk` steps."""
    unit, memory, free, multiplier, penalty, enough, is_there = start
    num = task.settings.chunk
    # one start after the other (`lax.map`), so that each takes as many steps as it needs
    far, none = jnp.asarray(jnp.inf), jnp.int32(0)
    walk = _Walk(unit, memory, free, jnp.where(is_there, 0.0, far), jnp.asarray(False), none)
    walk = jax.lax.while_loop(
        lambda w: (w.count < num) & (w.slope > enough),
        partial(_polish, task, multiplier, penalty),
        walk,
    )
    return walk.unit, walk.memory, walk.free, walk.count >= 2**30


def _look(task: _Task, unit, multiplier, penalty):
    """Goal, violation, slope, and the multipliers that follow."""
    rows = task.limits(unit)
    value = task.goal(unit)
    slope = jax.grad(task.lagrangian)(unit, multiplier, penalty)
    worst = jnp.max(rows, initial=0.0)
    followed = jnp.maximum(0.0, multiplier + penalty * rows)
    gap = jnp.max(jnp.abs(jnp.minimum(-rows, followed)), initial=0.0)
    return value, worst, gap, _projected(unit, slope), followed


@partial(jax.jit, static_argnums=(0, 2))
def _chunk(task: _Task, state: State, stage: int) -> tuple[State, Array]:
    """Some steps of all starts, then a look at each."""
    num = task.settings.chunk

    adam, memory, free, stuck = state.adam, state.memory, state.free, jnp.zeros_like(state.is_there)
    if stage == DESCENT:

        def descended(unit, adam, multiplier, penalty):
            carry = (unit, adam, multiplier, penalty)
            return jax.lax.scan(partial(_descend, task), carry, length=num)[0][:2]

        unit, adam = jax.vmap(descended)(state.unit, adam, state.multiplier, state.penalty)
    else:
        parts = (state.unit, memory, free, state.multiplier, state.penalty, state.enough)
        unit, memory, free, stuck = jax.lax.map(partial(_polished, task), (*parts, state.is_there))
    seen = jax.lax.map(lambda x: _look(task, *x), (unit, state.multiplier, state.penalty))
    value, worst, gap, slope, followed = seen
    settings = task.settings
    settled = (slope <= settings.tolerance) | stuck
    there = settled & (worst <= settings.violation) & (gap <= 10 * settings.violation)
    there = state.is_there | there if stage == POLISH else jnp.zeros_like(there)
    waited = state.waited + 1
    is_due = (slope <= state.enough) | stuck | (waited >= PATIENCE) | (stage == DESCENT)
    moves = is_due & ~there
    is_slow = worst > 0.25 * jnp.maximum(state.worst, settings.violation)
    grows = moves & is_slow & (stage == POLISH)
    penalty = jnp.where(grows, 4 * state.penalty, state.penalty)
    fresh = jax.vmap(_memory().init)(unit)
    memory = jax.tree.map(
        lambda a, b: jnp.where(moves.reshape(-1, *(1,) * (a.ndim - 1)), b, a), memory, fresh
    )
    bad = (worst > task.settings.violation) | ~jnp.isfinite(value)
    ranked = jnp.where(bad, jnp.inf, value)
    first = jnp.argmin(ranked)
    is_better = ranked[first] < state.best_value
    better = lambda new, old: jnp.where(is_better, new, old)  # noqa: E731
    summary = jnp.stack([
        jnp.asarray(float(stage)), better(ranked[first], state.best_value), jnp.nanmedian(value),
        jnp.max(worst), jnp.max(slope), jnp.sum(there).astype(float),
    ])  # fmt: skip
    state = state._replace(
        unit=unit, adam=adam, memory=memory, free=free, slope=slope, is_there=there,
        worst=jnp.where(is_due, worst, state.worst),
        waited=jnp.where(moves, 0, waited),
        enough=jnp.where(moves, jnp.maximum(settings.tolerance / 2, 0.1 * state.enough), state.enough),
        multiplier=jnp.where(moves[:, None], followed, state.multiplier),
        penalty=jnp.minimum(penalty, LARGEST_PENALTY),
        best=better(unit[first], state.best),
        best_value=better(ranked[first], state.best_value),
        best_multiplier=better(followed[first], state.best_multiplier),
        best_slope=better(slope[first], state.best_slope),
        count=state.count + 1,
    )  # fmt: skip
    return state, summary


@partial(jax.jit, static_argnums=0)
def _drawn_back(task: _Task, units):
    """Toward the lowest doses until every limit holds; where even those are too much, they."""

    def one(unit):
        holds = lambda share: jnp.all(task.limits(share * unit) <= 0)  # noqa: E731

        def halve(_, bracket):
            low, high = bracket
            middle = (low + high) / 2
            fits = holds(middle)
            return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

        none, whole = jnp.zeros(()), jnp.ones(())
        share, _ = jax.lax.fori_loop(0, HALVINGS, halve, (none, whole))
        found = jnp.where(holds(whole), 1.0, share) * unit
        return found, task.goal(found), jnp.all(task.limits(found) <= 0)

    return jax.vmap(one)(units)


@partial(jax.jit, static_argnums=0)
def _leaps(task: _Task, unit, multiplier):
    """The best level of every variable alone, and how much lower the Lagrangian is there."""

    def at(unit):
        excess = jnp.sum(multiplier * task.limits(unit))
        return jnp.arcsinh(task.goal(unit)) + excess

    num = unit.shape[0]
    mean = jnp.sum(unit) / jnp.maximum(1.0, jnp.sum((unit > 1e-3).astype(float)))
    levels = jnp.append(jnp.linspace(0, 1, LEVELS), mean)
    here = at(unit)
    which = jnp.repeat(jnp.arange(num), LEVELS + 1)
    level = jnp.tile(levels, num)
    tried = jax.lax.map(
        lambda x: at(unit.at[x[0]].set(x[1])), (which, level), batch_size=AT_ONCE
    ).reshape(num, LEVELS + 1)
    tried = jnp.where(jnp.isfinite(tried), tried, jnp.inf)
    return levels[jnp.argmin(tried, axis=1)], here - jnp.min(tried, axis=1)


# --- the search ------------------------------------------------------------------------------------


def search(
    goal: Any,
    pattern: Pattern,
    limits: tuple[Limit, ...] = (),
    *,
    starts: np.ndarray | None = None,
    num_random: int = 4,
    seed: int = 0,
    settings: Settings = Settings(),
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
        task = _Task(
            lambda u: goal.value(pattern.amounts(pattern.of_unit(u))),
            lambda u: joined(limits)(pattern.amounts(pattern.of_unit(u))),
            settings,
        )
        state = _begin(task, jnp.asarray(places))
        history = np.zeros((0, len(HISTORY)))
        if saved is not None and saved.exists():
            state, history = _loaded(saved, state)
        while int(state.stage) != DONE:
            state, summary = _chunk(task, state, int(state.stage))
            history = np.concatenate([history, np.asarray(summary)[None]])
            state = _next_stage(task, state, history[:, 1])
            if saved is not None:
                _save(saved, state, history)
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


def _begin(task: _Task, units) -> State:
    num = len(units)
    drawn, _, _ = _drawn_back(task, units)
    rows = jax.eval_shape(task.limits, units[0]).shape[0]
    each = lambda make: jax.vmap(make)(drawn)  # noqa: E731
    zero = jnp.zeros(())
    state = State(
        unit=drawn,
        multiplier=jnp.zeros((num, rows)),
        penalty=jnp.full(num, 10.0),
        worst=jnp.full(num, jnp.inf),
        enough=jnp.full(num, FIRST_SLOPE),
        waited=jnp.zeros(num, jnp.int32),
        adam=each(_adam(task.settings).init),
        memory=each(_memory().init),
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


def _next_stage(task: _Task, state: State, best: np.ndarray) -> State:
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


def _leapt(task: _Task, state: State) -> State:
    """New starts from the best: its 1, 2, 4, ... best leaps together."""
    level, gain = map(np.asarray, _leaps(task, state.best, state.best_multiplier))
    order = np.argsort(-gain, kind="stable")
    order = order[gain[order] > 10 * task.settings.tolerance]
    if not len(order):
        return state._replace(stage=jnp.int32(DONE))
    num = len(state.unit)
    units = np.tile(np.asarray(state.best), (num, 1))
    for s in range(num):
        chosen = order[: 2**s]
        units[s, chosen] = level[chosen]
    drawn, _, _ = _drawn_back(task, jnp.asarray(units))
    fresh = _begin(task, drawn)
    state = state._replace(
        unit=drawn, memory=fresh.memory, free=fresh.free, is_there=fresh.is_there,
        slope=fresh.slope, worst=fresh.worst, enough=fresh.enough, waited=fresh.waited,
        multiplier=jnp.tile(state.best_multiplier[None], (num, 1)), penalty=fresh.penalty,
        count=jnp.int32(0), leap=state.leap + 1,
    )  # fmt: skip
    return _plain(state)


def _found(task: _Task, pattern: Pattern, limits, state: State, history: np.ndarray) -> Found:
    """The best of all, drawn back until every limit holds."""
    units, values, holds = map(
        np.asarray, _drawn_back(task, jnp.concatenate([state.best[None], state.unit]))
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
            "is_converged": np.asarray(state.is_there), "variables": variables[1:],
        },
    )  # fmt: skip


# --- states on disk --------------------------------------------------------------------------------


def _save(path: Path, state: State, history: np.ndarray) -> None:
    """All leaves, whole or not at all."""
    part = path.with_suffix(".tmp")
    with part.open("wb") as file:
        np.savez(file, *map(np.asarray, jax.tree.leaves(state)), history=history)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _loaded(path: Path, like: State) -> tuple[State, np.ndarray]:
    leaves, tree = jax.tree.flatten(like)
    with np.load(path) as file:
        history = file["history"]
        found = [file[f"arr_{k}"] for k in range(len(file.files) - 1)]
    if [a.shape for a in found] != [np.shape(b) for b in leaves]:
        raise ValueError(
            f"{path} holds the state of another search; remove it, or name another file"
        )
    return jax.tree.unflatten(tree, [jnp.asarray(a) for a in found]), history
