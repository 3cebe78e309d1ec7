"""Steps: of the starts of a search, by Adam and by L-BFGS, on the augmented Lagrangian (`search`).

A start is stepped by itself, several of them side by side in threads: on a CPU that is 1.6 times faster
than all in one `vmap` even on one core, since a batch of different matrices is slow there. On a GPU the
starts of the descent are in one `vmap`.
"""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxevo.optimize.quadratic import Curvature, Pairs, Polytope
from jaxevo.optimize.state import Settings
from jaxevo.state import Array

BACKTRACKS = 30
HALVINGS = 45  # of the way back to the lowest doses
DESCENDS = 1e-4  # of the fall that the slope promises, at least
AT_ONCE = 8  # evaluations in one call, of values alone


class Task(NamedTuple):
    """The functions of one search, all of one place in the unit box."""

    goal: Callable[[Array], Array]
    limits: Callable[[Array], Array]
    settings: Settings


class Seen(NamedTuple):
    """What is known of a place."""

    lagrangian: Array
    slope: Array  # [variable]
    value: Array  # of the goal
    rows: Array  # [row] of the limits

    @property
    def is_good(self):
        """Whether goal and slope have values."""
        return np.isfinite(self.lagrangian) & np.all(np.isfinite(self.slope), axis=-1)


class Terms(NamedTuple):
    """What the Lagrangian adds to the goal."""

    multiplier: Any  # [row]
    penalty: Any
    counts: Any  # [row] 0 where a limit is kept exactly instead


@partial(jax.jit, static_argnums=0)
def _seen(task: Task, unit, terms: Terms) -> Seen:
    def lagrangian(unit):
        value, rows = task.goal(unit), task.limits(unit)
        multiplier, penalty, counts = terms
        pushed = jnp.maximum(0.0, multiplier + penalty * rows)
        excess = jnp.sum(counts * (pushed**2 - multiplier**2)) / (2 * penalty)
        return jnp.arcsinh(value) + excess, (value, rows)

    (total, (value, rows)), slope = jax.value_and_grad(lagrangian, has_aux=True)(unit)
    return Seen(total, slope, value, rows)


@partial(jax.jit, static_argnums=0)
def _all_seen(task: Task, units, terms: Terms) -> Seen:
    return jax.vmap(partial(_seen, task))(units, terms)


@partial(jax.jit, static_argnums=0)
def _judged(task: Task, units):
    return jax.lax.map(lambda unit: (task.goal(unit), task.limits(unit)), units)


@partial(jax.jit, static_argnums=0)
def _stepped(settings: Settings, units, slopes, adam):
    """One step of Adam of every start."""

    def one(unit, slope, adam):
        step, adam = new_adam(settings).update(slope, adam, unit)
        return jnp.clip(unit + jnp.asarray(step), 0, 1), adam

    with _mixed():
        return jax.vmap(one)(units, slopes, adam)


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


class Team:
    """Threads that work side by side for one search."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)

    def each(self, work: Callable[..., Any], *parts: Any) -> list:
        """Results of `work` for every item; the first alone, since it may compile."""

        def wide(*own: Any) -> Any:
            with jax.enable_x64(True):
                return work(*own)

        items = list(zip(*parts, strict=True))
        return [wide(*item) for item in items[:1]] + list(
            self.pool.map(lambda own: wide(*own), items[1:])
        )

    def close(self) -> None:
        """No more work."""
        self.pool.shutdown(cancel_futures=True)


def seen(task: Task, unit: np.ndarray, terms: Terms) -> Seen:
    """One place, in NumPy."""
    return Seen(*map(np.asarray, _seen(task, jnp.asarray(unit), terms)))


def all_seen(task: Task, team: Team, units: np.ndarray, terms: Terms) -> Seen:
    """The places of all starts, in NumPy; leading axis start."""
    if jax.default_backend() != "cpu":
        return Seen(*map(np.asarray, _all_seen(task, jnp.asarray(units), terms)))
    found = team.each(partial(seen, task), units, map(Terms, *terms))
    return Seen(*(np.stack(x) for x in zip(*found, strict=True)))


def judged(task: Task, team: Team, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Goals [place] and limits [place, row] of many places, without slopes."""
    num = len(units)
    fill = np.concatenate([units, np.repeat(units[:1], -num % AT_ONCE, axis=0)])
    found = team.each(
        lambda part: tuple(map(np.asarray, _judged(task, jnp.asarray(part)))),
        fill.reshape(-1, AT_ONCE, units.shape[1]),
    )
    values, rows = (np.concatenate(x)[:num] for x in zip(*found, strict=True))
    return values, rows


# --- descent ---------------------------------------------------------------------------------------


def descended(task: Task, team: Team, state: Any, terms: Terms, num: int):
    """Steps of Adam: units, the last places where the goal had a value, and Adam's memory.

    From where the goal has no value a start goes halfway back to where it had one.
    """
    units, good, adam = state.unit, state.good, state.adam
    fresh = jax.vmap(new_adam(task.settings).init)(units)
    for _ in range(num):
        now = all_seen(task, team, units, terms)
        is_good = now.is_good
        pick = partial(_picked, is_good)
        slopes = np.where(is_good[:, None], now.slope, 0.0)
        after, onward = _stepped(task.settings, units, slopes, adam)
        good, units = pick(units, good), pick(np.asarray(after), (units + good) / 2)
        adam = jax.tree.map(pick, onward, fresh)
    is_good = all_seen(task, team, units, terms).is_good
    return _picked(is_good, units, good), good, jax.tree.map(np.asarray, adam)


def _picked(test, one, other):
    """One or the other of every start."""
    one, other = np.asarray(one), np.asarray(other)
    return np.where(test.reshape(-1, *(1,) * (one.ndim - 1)), one, other)


# --- polish ----------------------------------------------------------------------------------------


class Walk(NamedTuple):
    """A start after some steps of L-BFGS."""

    unit: np.ndarray
    pairs: Pairs
    slope: float  # projected
    pressure: np.ndarray  # of the linear limits
    is_stuck: bool  # no step goes down, not even along the slope itself
    last: Seen


def polished(task: Task, polytope: Polytope, unit, pairs: Pairs, terms: Terms, enough) -> Walk:
    """Steps of one start until its slope is at most `enough`, or as many as a chunk has.

    Each goes towards the least of the quadratic model within the linear limits (Schmidt et al. 2009,
    Proceedings of Machine Learning Research 5:456), as far as the Lagrangian falls.
    """
    now = seen(task, unit, terms)
    for count in range(task.settings.chunk + 1):
        curve = Curvature.of(pairs)
        step, pressure = polytope.step(unit, now.slope, curve)
        slope = polytope.slope(unit, now.slope, pressure)
        if slope <= enough or count == task.settings.chunk:
            break
        reached = _reached(task, unit, step, now, terms)
        if reached is None:
            if not len(pairs.moved):
                return Walk(unit, pairs, slope, pressure, True, now)
            pairs = Pairs.none(len(unit))
            continue
        after, then = reached
        pairs = pairs.extended(curve, after - unit, then.slope - now.slope)
        unit, now = after, then
    return Walk(unit, pairs, slope, pressure, False, now)


def _reached(task: Task, unit, step, now: Seen, terms: Terms):
    """Where the Lagrangian is low enough on the way of a step, and what is seen there; None if nowhere."""
    fall = float(now.slope @ step)
    share = 1.0
    for _ in range(BACKTRACKS if fall < 0 else 0):
        after = np.clip(unit + share * step, 0, 1)
        then = seen(task, after, terms)
        change = float(then.lagrangian - now.lagrangian)
        if then.is_good and change <= DESCENDS * share * fall:
            return after, then
        bent = 2 * (change - share * fall)  # of the parabola with this value and slope
        share *= np.clip(-share * fall / bent, 0.1, 0.5) if then.is_good else 0.5
    return None


# --- back to where all limits hold -----------------------------------------------------------------


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

        whole = jnp.ones(())
        steps = jnp.where(holds(whole), 0, HALVINGS)
        share, _ = jax.lax.fori_loop(0, steps, halve, (jnp.zeros(()), whole))
        return jnp.where(holds(whole), unit, at(share))

    return jax.lax.map(one, units)
