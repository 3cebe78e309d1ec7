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
from jaxtyping import Float

from jaxevo.optimize.quadratic import Curvature, Pairs, Polytope
from jaxevo.optimize.state import Settings
from jaxevo.state import Array

HALFWAY = 0.5  # to the anchor: a step that straightened limits leave in any case
ROUGHLY = 1e-3  # of a limit: what is broken by less, the next step mends
BACKTRACKS = 30
HALVINGS = 45  # of the way back to the lowest doses
LARGEST_PENALTY = 1e5
ALIKE = 1e-6  # smallest singular value of limits that differ, relative
NOISE = 1e-12  # of the Lagrangian, relative
MOST_IDLE = 8  # steps in a row that gain no more than noise
DESCENDS = 1e-4  # of the fall that the slope promises, at least
AT_ONCE = 8  # evaluations in one call, of values alone


class Task(NamedTuple):
    """The functions of one search, all of one place in the unit box."""

    goal: Callable[[Array], Array]
    limits: Callable[[Array], Array]
    limits_and_slopes: Callable[[Array], tuple[Array, Array]]  # [row], [row, variable]
    settings: Settings


class Seen(NamedTuple):
    """What is known of a place."""

    value: Any  # of the goal
    slope: Any  # of asinh(goal), [variable]
    rows: Any  # of the limits
    slopes: Any  # of the limits, [row, variable]

    @property
    def is_good(self) -> bool:
        """Whether goal and slope have values."""
        return bool(np.isfinite(self.value) & np.all(np.isfinite(self.slope)))


class Box(NamedTuple):
    """The unit box and the limits: totals as they are, the others straightened at a place."""

    polytope: Polytope  # of the limits that are totals
    is_total: np.ndarray  # [row] of all limits
    anchor: np.ndarray  # keeps all limits, if anything does

    def exact(self, unit: np.ndarray, now: Seen) -> Polytope:
        """Where all limits, straightened, hold."""
        return self._with(now, now.slopes[~self.is_total] @ unit - now.rows[~self.is_total])

    def straightened(self, unit: np.ndarray, now: Seen) -> Polytope:
        """The same, no narrower than that a step halfway to the anchor leads into it."""
        slopes, rows = now.slopes[~self.is_total], now.rows[~self.is_total]
        room = np.maximum(-rows, HALFWAY * slopes @ (self.anchor - unit))
        return self._with(now, slopes @ unit + room)

    def _with(self, now: Seen, most: np.ndarray) -> Polytope:
        rows, all_most = now.slopes.copy(), np.zeros(len(now.rows))
        rows[self.is_total] = self.polytope.rows
        all_most[self.is_total], all_most[~self.is_total] = self.polytope.most, most
        return Polytope(rows, all_most)


class Terms(NamedTuple):
    """What the Lagrangian adds to the goal."""

    multiplier: Any  # [row]
    penalty: Any
    counts: Any  # [row] 0 where a limit is kept exactly instead

    def lagrangian(self, now: Seen) -> float:
        """The augmented Lagrangian."""
        pushed = np.maximum(0.0, self.multiplier + self.penalty * now.rows)
        more = np.sum(self.counts * (pushed**2 - self.multiplier**2)) / (2 * self.penalty)
        return float(np.arcsinh(now.value) + more)

    def slope(self, now: Seen) -> Float[np.ndarray, " variable"]:
        """Its derivative."""
        pushed = np.maximum(0.0, self.multiplier + self.penalty * now.rows)
        return now.slope + (self.counts * pushed) @ now.slopes


@partial(jax.jit, static_argnums=0)
def _seen(task: Task, unit) -> Seen:
    value, slope = jax.value_and_grad(task.goal)(unit)
    rows, slopes = task.limits_and_slopes(unit)
    return Seen(value, slope / jnp.sqrt(1 + value**2), rows, slopes)


@partial(jax.jit, static_argnums=0)
def _all_seen(task: Task, units) -> Seen:
    return jax.vmap(partial(_seen, task))(units)


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


def seen(task: Task, unit: np.ndarray) -> Seen:
    """One place, in NumPy."""
    return Seen(*map(np.asarray, _seen(task, jnp.asarray(unit))))


def all_seen(task: Task, team: Team, units: np.ndarray) -> list[Seen]:
    """The places of all starts, in NumPy."""
    if jax.default_backend() == "cpu":
        return team.each(partial(seen, task), units)
    found = Seen(*map(np.asarray, _all_seen(task, jnp.asarray(units))))
    return [Seen(*parts) for parts in zip(*found, strict=True)]


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


def descended(task: Task, team: Team, state: Any, terms: list[Terms], num: int):
    """Steps of Adam: units, the last places where the goal had a value, and Adam's memory.

    From where the goal has no value a start goes halfway back to where it had one.
    """
    units, good, adam = state.unit, state.good, state.adam
    fresh = jax.vmap(new_adam(task.settings).init)(units)
    for _ in range(num):
        each = all_seen(task, team, units)
        is_good = np.array([now.is_good for now in each])
        pick = partial(_picked, is_good)
        slopes = np.stack([
            own.slope(now) if now.is_good else np.zeros_like(unit)
            for own, now, unit in zip(terms, each, units, strict=True)
        ])  # fmt: skip
        after, onward = _stepped(task.settings, units, slopes, adam)
        good, units = pick(units, good), pick(np.asarray(after), (units + good) / 2)
        adam = jax.tree.map(pick, onward, fresh)
    is_good = np.array([now.is_good for now in all_seen(task, team, units)])
    return _picked(is_good, units, good), good, jax.tree.map(np.asarray, adam)


def _picked(test, one, other):
    """One or the other of every start."""
    one, other = np.asarray(one), np.asarray(other)
    return np.where(test.reshape(-1, *(1,) * (one.ndim - 1)), one, other)


# --- polish ----------------------------------------------------------------------------------------


class Walk(NamedTuple):
    """A start after some steps of the polish."""

    unit: np.ndarray
    pairs: Pairs
    penalty: float
    slope: float  # projected, of the Lagrangian; at least what limits are broken by
    pressure: np.ndarray  # [row] multiplier of every limit
    is_there: bool
    is_stuck: bool  # no step gains more than noise, not even with a fresh model
    last: Seen


def polished(task: Task, box: Box, unit, pairs: Pairs, penalty: float, most: int) -> Walk:
    """Steps of one start until it is there, or as many as are allowed.

    Each goes towards the least of a quadratic model within limits that are straightened here (sequential
    quadratic programming; Nocedal & Wright 2006, chapter 18), as far as the augmented Lagrangian with
    the multipliers of that model falls.
    """
    settings, now = task.settings, seen(task, unit)
    first, likely = np.max(now.rows, initial=0.0), box.is_total
    idle, is_stuck, lowest = 0, False, np.inf
    for count in range(most + 1):
        curve = Curvature.of(pairs)
        step, pressure = box.straightened(unit, now).step(unit, now.slope, curve, likely)
        likely = pressure > np.maximum(-now.rows, 0.0)
        slope = box.exact(unit, now).slope(unit, now.slope, pressure)
        broken = float(np.max(now.rows, initial=0.0))
        is_there = slope <= settings.tolerance and broken <= settings.violation
        walk = Walk(unit, pairs, penalty, slope, pressure, is_there, is_stuck, now)
        if is_there or is_stuck or count == most:
            break
        terms = Terms(pressure, penalty, np.where(box.is_total, 0.0, 1.0))
        reached = _reached(task, unit, step, now, terms)
        here = terms.lagrangian(now)
        noise = NOISE * max(1.0, abs(here))
        if reached is None or idle > MOST_IDLE:  # what was learned of the curvature may mislead
            is_stuck = here > lowest - MOST_IDLE * noise
            pairs, idle, lowest = Pairs.none(len(unit)), 0, here
            continue
        after, then = reached
        idle = idle + 1 if terms.lagrangian(then) >= here - noise else 0
        bent = pressure @ (then.slopes - now.slopes)
        pairs = pairs.extended(curve, after - unit, then.slope - now.slope + bent)
        unit, now = after, then
    if broken > max(first / 4, ROUGHLY):
        walk = walk._replace(penalty=min(4 * penalty, LARGEST_PENALTY))
    return walk


def _reached(task: Task, unit, step, now: Seen, terms: Terms):
    """Where the Lagrangian is low enough on the way of a step, and what is seen there; None if nowhere.

    If the whole step breaks limits that are curved, one that mends them is tried (a correction of second
    order).
    """
    here, fall = terms.lagrangian(now), float(terms.slope(now) @ step)
    share, noise = 1.0, NOISE * max(1.0, abs(here))
    for _ in range(BACKTRACKS if fall < noise else 0):
        after = np.clip(unit + share * step, 0, 1)
        then = seen(task, after)
        change = terms.lagrangian(then) - here
        if then.is_good and change <= DESCENDS * share * min(fall, 0.0) + noise:
            return after, then
        if share == 1 and then.is_good and np.any(terms.counts * then.rows > 0):
            mended = _mended(after, then, terms.multiplier)
            better = seen(task, mended)
            change_there = terms.lagrangian(better) - here
            if better.is_good and change_there <= DESCENDS * min(fall, 0.0) + noise:
                return mended, better
        bent = 2 * (change - share * fall)  # of the parabola with this value and slope
        share *= np.clip(-share * fall / bent, 0.1, 0.5) if then.is_good else 0.5
    return None


def _mended(unit: np.ndarray, now: Seen, pressure: np.ndarray) -> np.ndarray:
    """The closest place where limits that are broken or pressed on are just met, straightened."""
    row = (now.rows > 0) | (pressure > np.maximum(-now.rows, 0))
    free = (unit > 0) & (unit < 1)
    moved = np.zeros_like(unit)
    moved[free] = np.linalg.lstsq(now.slopes[np.ix_(row, free)], -now.rows[row], ALIKE)[0]
    return np.clip(unit + moved, 0, 1)


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
