"""Steps: of all starts of a search, by Adam and L-BFGS on the augmented Lagrangian (`search`)."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxevo.optimize.state import DESCENT, POLISH, Settings, State
from jaxevo.state import Array

MEMORY = 20  # pairs of L-BFGS
FIRST_SLOPE = 0.1  # at which multipliers move first; a tenth at each next time
PATIENCE = 6  # chunks after which they move in any case
BACKTRACKS = 25
HALVINGS = 45  # of the way back to the lowest doses
LARGEST_PENALTY = 1e5
LEVELS = 5  # of a variable, tried in a leap
AT_ONCE = 16  # evaluations in one batch of leaps


class Task(NamedTuple):
    """The functions of one search, all of one place in the unit box."""

    goal: Callable[[Array], Array]
    limits: Callable[[Array], Array]
    settings: Settings

    def lagrangian(self, unit, multiplier, penalty):
        pushed = jnp.maximum(0.0, multiplier + penalty * self.limits(unit))
        return jnp.arcsinh(self.goal(unit)) + jnp.sum(pushed**2 - multiplier**2) / (2 * penalty)


def _mixed():
    """Where optax mixes types and ranks; strict settings are for our own code."""
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack


def new_adam(settings: Settings):
    """Adam with its schedule."""
    schedule = optax.cosine_decay_schedule(settings.rate, settings.descent_steps, alpha=0.02)
    return optax.adam(schedule, b1=0.9, b2=0.99)


def new_memory():
    """The direction of L-BFGS."""
    return optax.scale_by_lbfgs(MEMORY)


_line = optax.scale_by_backtracking_linesearch(
    BACKTRACKS, decrease_factor=0.5, increase_factor=float("inf")
)


def _is_free(unit, slope):
    return ~(((unit <= 0) & (slope >= 0)) | ((unit >= 1) & (slope <= 0)))


def _projected(unit, slope):
    return jnp.max(jnp.abs(jnp.clip(unit - slope, 0, 1) - unit), initial=0.0)


def _descend(task: Task, state, _):
    """One step of Adam; from where the goal has no value, halfway back to where it had one."""
    unit, good, adam, multiplier, penalty = state
    value, slope = jax.value_and_grad(task.lagrangian)(unit, multiplier, penalty)
    is_good = jnp.isfinite(value) & jnp.all(jnp.isfinite(slope))
    with _mixed():
        step, onward = new_adam(task.settings).update(jnp.where(is_good, slope, 0.0), adam, unit)
    fresh = new_adam(task.settings).init(unit)
    adam = jax.tree.map(partial(jnp.where, is_good), onward, fresh)
    after = jnp.where(is_good, jnp.clip(unit + jnp.asarray(step), 0, 1), (unit + good) / 2)
    return (after, jnp.where(is_good, unit, good), adam, multiplier, penalty), None


class _Walk(NamedTuple):
    """A start on its way under fixed multipliers."""

    unit: Array
    memory: Any
    free: Array  # not held at a bound
    slope: Array  # projected, where the last step began
    is_stuck: Array  # no step goes down any more
    count: Array


def _inverse(memory, slope, free):
    """The inverse Hessian of the free variables times a slope: two loops over the pairs of optax's
    memory, with what concerns held variables left out (Nocedal & Wright 2006, algorithm 7.4).
    """
    newest = (memory.count - 2) % MEMORY
    order = (newest - jnp.arange(MEMORY, dtype=newest.dtype)) % MEMORY
    moved = jnp.where(free[None], memory.diff_params_memory[order], 0.0)
    change = jnp.where(free[None], memory.diff_updates_memory[order], 0.0)
    curve, square = jnp.sum(moved * change, axis=1), jnp.sum(change**2, axis=1)
    counts = curve > 1e-12 * square
    weight = jnp.where(counts, 1 / jnp.where(counts, curve, 1.0), 0.0)

    def back(q, pair):
        s, y, w = pair
        share = w * jnp.sum(s * q)
        return q - share * y, share

    q, shares = jax.lax.scan(back, slope, (moved, change, weight))
    first = jnp.argmax(counts)
    unit = 1 / jnp.maximum(1.0, jnp.sqrt(jnp.sum(slope**2)))
    q = q * jnp.where(counts[first], curve[first] / jnp.maximum(square[first], 1e-300), unit)

    def forth(q, pair):
        s, y, w, share = pair
        return q + s * (share - w * jnp.sum(y * q)), None

    q, _ = jax.lax.scan(forth, q, (moved, change, weight, shares), reverse=True)
    return jnp.where(free, q, 0.0)


def _polish(task: Task, multiplier, penalty, walk: _Walk) -> _Walk:
    """One step of L-BFGS among the free variables."""
    at = lambda x: task.lagrangian(jnp.clip(x, 0, 1), multiplier, penalty)  # noqa: E731
    pick = lambda test, a, b: jax.tree.map(partial(jnp.where, test), a, b)  # noqa: E731
    unit = walk.unit
    value, whole = jax.value_and_grad(at)(unit)
    free = _is_free(unit, whole)
    slope = jnp.where(free, whole, 0.0)
    fresh = new_memory().init(unit)
    was_dropped = walk.is_stuck
    memory = pick(was_dropped, fresh, walk.memory)
    with _mixed():
        _, memory = new_memory().update(whole, memory, unit)
    direction = -_inverse(memory, slope, free)
    size = jnp.sqrt(jnp.sum(slope**2))
    is_down = jnp.sum(direction * slope) < -1e-10 * size * jnp.sqrt(jnp.sum(direction**2))
    direction = jnp.where(is_down, direction, -slope / jnp.maximum(1.0, size))
    memory = pick(is_down, memory, fresh)
    with _mixed():
        given = {"value": value, "grad": slope, "value_fn": at}
        step, _ = _line.update(direction, _line.init(unit), unit, **given)
    after = jnp.clip(unit + jnp.asarray(step), 0, 1)
    fails = ~(at(after) < value)
    stuck = fails & was_dropped  # not even along the slope itself
    moved = jnp.where(fails, unit, after)
    count = jnp.where(stuck, jnp.int32(2**30), walk.count + 1)
    return _Walk(moved, memory, free, _projected(unit, whole), fails, count)


def _polished(task: Task, start):
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


def _look(task: Task, unit, multiplier, penalty):
    """Goal, violation, slope, and the multipliers that follow."""
    rows = task.limits(unit)
    value = task.goal(unit)
    slope = jax.grad(task.lagrangian)(unit, multiplier, penalty)
    worst = jnp.max(rows, initial=0.0)
    followed = jnp.maximum(0.0, multiplier + penalty * rows)
    gap = jnp.max(jnp.abs(jnp.minimum(-rows, followed)), initial=0.0)
    return value, worst, gap, _projected(unit, slope), followed


@partial(jax.jit, static_argnums=(0, 2))
def chunk(task: Task, state: State, stage: int) -> tuple[State, Array]:
    """Some steps of all starts, then a look at each."""
    num = task.settings.chunk

    adam, memory, free, stuck = state.adam, state.memory, state.free, jnp.zeros_like(state.is_there)
    if stage == DESCENT:

        def descended(unit, good, adam, multiplier, penalty):
            carry = (unit, good, adam, multiplier, penalty)
            unit, good, adam, *_ = jax.lax.scan(partial(_descend, task), carry, length=num)[0]
            is_good = jnp.isfinite(task.lagrangian(unit, multiplier, penalty))
            return jnp.where(is_good, unit, good), good, adam

        unit, good, adam = jax.vmap(descended)(
            state.unit, state.good, adam, state.multiplier, state.penalty
        )
    else:
        good = state.good
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
    grows = moves & is_slow & (slope <= state.enough) & (stage == POLISH)
    penalty = jnp.where(grows, 4 * state.penalty, state.penalty)
    # where multipliers move, the next pair would mix two functions: a step of 0 leaves it out
    memory = memory._replace(params=jnp.where(moves[:, None], unit, memory.params))
    closer = jnp.maximum(settings.tolerance / 2, 0.1 * state.enough)
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
        unit=unit, good=good, adam=adam, memory=memory, free=free, slope=slope, is_there=there,
        worst=jnp.where(is_due, worst, state.worst),
        waited=jnp.where(moves, 0, waited),
        enough=jnp.where(moves & (stage == POLISH), closer, state.enough),
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
def drawn_back(task: Task, units, anchor):
    """Toward an anchor, such as the lowest doses, until every limit holds; if none does there, it."""

    def one(unit):
        at = lambda share: anchor + share * (unit - anchor)  # noqa: E731
        holds = lambda share: jnp.all(task.limits(at(share)) <= 0)  # noqa: E731

        def halve(_, bracket):
            low, high = bracket
            middle = (low + high) / 2
            fits = holds(middle)
            return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

        none, whole = jnp.zeros(()), jnp.ones(())
        share, _ = jax.lax.fori_loop(0, HALVINGS, halve, (none, whole))
        found = jnp.where(holds(whole), unit, at(share))
        return found, task.goal(found), jnp.all(task.limits(found) <= 0)

    return jax.vmap(one)(units)


@partial(jax.jit, static_argnums=0)
def leaps(task: Task, unit, multiplier):
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
