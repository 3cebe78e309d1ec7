"""Flow: how expected counts and their covariances run through the intervals of one law.

    n'  = F(n, e)        counts of every type
    e'  = G(n, e)        extra variables: immune cells, or those of a custom law
    V'  = J V + V J^T + B(n)

F, B and their sources are those of `moments`, J is the Jacobian of (F, G). Where rates ignore counts
the equations of an interval are linear and solved to rounding, else to a relative error of 1e-10 per
step (1e-8 for covariances). Rates of drugs are held at their time average within an interval
(`process`); counts and extra variables are not held. At the start of an interval every cell survives
a jump with its own probability, which thins means and covariances.

All functions speak of one law and are pure: they can be jitted, vmapped over laws, and differentiated
in every rate and concentration, in reverse mode if they are told how many steps an interval takes at
most (`most`; a course says how many it took). Call them under `jax.enable_x64(True)`. Days, cells,
rates per day.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int

from jaxevo.engines import moments, stepping
from jaxevo.engines.network import Speeds
from jaxevo.engines.process import Process, drift_at, first_extra, speeds_at
from jaxevo.engines.stepping import Stepped
from jaxevo.state import Array, Scalar

TOLERANCE = 1e-10  # relative error of a step, for every count and extra variable
COVARIANCE_TOLERANCE = 1e-8  # the same for covariances
OFF = 1e-7  # relative error of a step that `held` bears where it is told how many to take

Counts = Float[Array, " type"]
Extra = Float[Array, " variable"]


class Course(NamedTuple):
    """Expected counts at the edges of intervals: edge k is the start of interval k BEFORE its jump."""

    count: Float[Array, "edge type"]
    extra: Float[Array, "edge variable"]
    steps: Int[Array, " interval"]  # that each interval took


class Moments(NamedTuple):
    """Expected counts and covariances; variables of the covariance are the types, then the extra ones."""

    count: Float[Array, "*edge type"]
    extra: Float[Array, "*edge variable"]
    covariance: Float[Array, "*edge all all"]


class Crossing(NamedTuple):
    """The first moment at which a function of the state is no longer negative."""

    day: Scalar  # infinite if there is none
    count: Counts
    extra: Extra


def is_linear(process: Process) -> bool:
    """Whether rates ignore counts, so that moments are exact."""
    custom = process.model.custom
    is_held = process.model.sites.crowding == "none" and process.model.immune is None
    has_drift = custom is not None and custom.drift is not None
    return is_held and not (process.has_feedback or has_drift)


# --- one interval ----------------------------------------------------------------------------------


def field_at(process: Process, interval: Int[Array, ""], day: Scalar, count: Counts, extra: Extra):
    """Change of counts and extra variables per day at one moment, and the speeds of every type."""
    now = speeds_at(process, interval, count, extra)
    source, _ = moments.immigration(process.net, process.immigration)
    flow = moments.change(process.net, now, count) + source
    return flow, drift_at(process, interval, day, count, extra), now


def advance(
    process: Process,
    interval: Int[Array, ""],
    count: Counts,
    extra: Extra,
    duration: Scalar | None = None,
    *,
    step: Scalar | None = None,
    most: int | None = None,
) -> tuple[Counts, Extra, Stepped]:
    """The mean after the jump and after `duration` days of one interval (default: all of it)."""
    count = count * process.kept[interval]
    days = process.duration[interval] if duration is None else duration
    num_types = process.net.num_types
    if is_linear(process):
        now = speeds_at(process, interval, count, extra)
        source, _ = moments.immigration(process.net, process.immigration)

        def linear(value, one):
            return moments.change(process.net, now, value) + one * source

        norm = moments.norm(process.net, now)
        stepped = stepping.exponential(linear, count, days, norm, most)
        return stepped.value, extra, stepped
    field = mean_field(process, interval)
    start = jnp.concatenate([count, extra])
    step = jnp.zeros_like(days) if step is None else step
    stepped = stepping.adaptive(field, start, days, step, mean_error, most)
    return stepped.value[:num_types], stepped.value[num_types:], stepped


def mean_field(process: Process, interval) -> stepping.Field:
    """The change of (count, extra) as one vector."""
    num_types = process.net.num_types

    def field(elapsed, value):
        day = process.start[interval] + elapsed
        flow, drift, _ = field_at(process, interval, day, value[:num_types], value[num_types:])
        return jnp.concatenate([flow, drift])

    return field


def mean_error(estimate, before, after) -> Scalar:
    """Largest error in units of the tolerance; every variable on its own scale."""
    scale = TOLERANCE * jnp.maximum(jnp.abs(before), jnp.abs(after)) + 1e-200
    return jnp.max(jnp.abs(estimate) / scale, initial=0.0)


# --- the course of the mean ------------------------------------------------------------------------


def course(
    process: Process, count0: Counts, extra0: Extra | None = None, *, most: int | None = None
) -> Course:
    """Expected counts and extra variables at the edges of all intervals.

    Args:
        process: one law.
        count0: [type] cells at the start.
        extra0: [variable] extra variables at the start, default those of the custom law.
        most: steps of an interval at most, which lets reverse-mode differentiation pass.
    """
    extra0 = first_extra(process) if extra0 is None else extra0

    def interval(carry, k):
        count, extra, step = carry
        after, extra_after, stepped = advance(process, k, count, extra, step=step, most=most)
        return (after, extra_after, stepped.step), (after, extra_after, stepped.attempts)

    count0, extra0 = jnp.asarray(count0), jnp.asarray(extra0)
    first = (count0, extra0, jnp.zeros((), count0.dtype))
    num_intervals = process.duration.shape[0]
    if most is not None:  # or reverse mode would store every stage of every step
        interval = jax.checkpoint(interval)
    _, (count, extra, steps) = jax.lax.scan(interval, first, jnp.arange(num_intervals))
    with_first = lambda first, rest: jnp.concatenate([first[None], rest])  # noqa: E731
    return Course(with_first(count0, count), with_first(extra0, extra), steps)


def on_days(process: Process, along: Course, days: Float[Array, " day"]) -> Course:
    """Expected counts on any days of a course; at the start of an interval, after its jump."""
    intervals = jnp.searchsorted(process.start, days, side="right") - 1

    def on_day(k, day):
        return advance(process, k, along.count[k], along.extra[k], day - process.start[k])

    count, extra, stepped = jax.vmap(on_day)(intervals, jnp.asarray(days))
    return Course(count, extra, stepped.attempts)


def held(
    process: Process,
    count0: Counts,
    extra0: Extra | None = None,
    *,
    pieces: int = 1,
    steps: int | None = None,
) -> Speeds:
    """Speeds along the course, averaged over equal pieces of every interval.

    Args:
        process: one law.
        count0: [type] cells at the start.
        extra0: [variable] extra variables at the start, default those of the custom law.
        pieces: of every interval.
        steps: of every piece, which lets reverse-mode differentiation pass; where counts are off by
            more than `OFF` of all cells, or extra variables of themselves, speeds are NaN.

    Returns:
        Speeds with the leading axis interval * pieces + piece. What one cell of a tumor sees whose
        counts follow their mean: the law of a small clone among many cells.
    """
    num_intervals = process.duration.shape[0]
    extra0 = first_extra(process) if extra0 is None else extra0
    if is_linear(process):
        return jax.tree.map(lambda x: jnp.repeat(x[process.which], pieces, axis=0), process.speeds)
    num_types, num_all = process.net.num_types, process.net.num_types + len(extra0)
    shapes = jax.eval_shape(lambda k: speeds_at(process, k, count0, extra0), 0)
    template = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    none, restored = ravel_pytree(template)

    def piece(carry, place):
        state, step = carry
        k, p = place // pieces, place % pieces
        duration = process.duration[k] / pieces
        kept = jnp.where(p == 0, process.kept[k], 1.0)
        state = state.at[:num_types].multiply(kept)

        def field(elapsed, value):
            day = process.start[k] + p.astype(duration.dtype) * duration + elapsed
            parts = value[:num_types], value[num_types:num_all]
            flow, drift, now = field_at(process, k, day, *parts)
            return jnp.concatenate([flow, drift, ravel_pytree(now)[0]])

        def error(estimate, before, after):
            return mean_error(estimate[:num_all], before[:num_all], after[:num_all])

        start = jnp.concatenate([state, none])
        if steps is None:
            after, step, _ = stepping.adaptive(field, start, duration, step, error)
        else:
            after, wrong = stepping.fixed(field, start, duration, steps)
            scale = jnp.concatenate(
                [jnp.full(num_types, 1.0) * jnp.sum(state[:num_types]), state[num_types:]]
            )
            is_off = jnp.any(wrong[:num_all] > OFF * jnp.abs(scale) + 1e-200)
            after = jnp.where(is_off, jnp.nan, after)
        lasted = duration > 0
        mean = after[num_all:] / jnp.where(lasted, duration, 1.0)
        at_once = ravel_pytree(speeds_at(process, k, state[:num_types], state[num_types:]))[0]
        mean = jnp.where(lasted, mean, at_once)
        return (after[:num_all], step), mean

    first = jnp.concatenate([jnp.asarray(count0), jnp.asarray(extra0)])
    places = jnp.arange(num_intervals * pieces)
    if steps is not None:  # or reverse mode would store every stage of every step
        piece = jax.checkpoint(piece)
    _, flat = jax.lax.scan(piece, (first, jnp.zeros((), first.dtype)), places)
    return jax.vmap(restored)(flat)


# --- events ----------------------------------------------------------------------------------------


def first_day(
    process: Process,
    count0: Counts,
    extra0: Extra | None,
    excess: Callable[[Counts, Extra], Scalar],
) -> Crossing:
    """The first day at which `excess(count, extra)` is not negative, such as N - 1.2 N0 for progression.

    Solved to rounding of the solution (about 1e-9 days), not to interval ends; a crossing and its
    return within one step of the integration is not seen. The state is that at the crossing, or the
    last one if there is none.
    """
    extra0 = first_extra(process) if extra0 is None else extra0
    num_types = process.net.num_types

    def measured(value):
        return excess(value[:num_types], value[num_types:])

    def interval(carry, k):
        value, step, day = carry
        value = jnp.where(jnp.isinf(day), value.at[:num_types].multiply(process.kept[k]), value)
        duration = jnp.where(jnp.isinf(day), process.duration[k], 0.0)
        field = mean_field(process, k)
        elapsed, after, step = crossing(field, value, duration, step, measured, mean_error)
        found = jnp.where(jnp.isinf(day), process.start[k] + elapsed, day)
        return (after, step, found), None

    value = jnp.concatenate([jnp.asarray(count0), jnp.asarray(extra0)])
    first = (value, jnp.zeros((), value.dtype), jnp.asarray(jnp.inf, value.dtype))
    num_intervals = process.duration.shape[0]
    (value, _, day), _ = jax.lax.scan(interval, first, jnp.arange(num_intervals))
    return Crossing(day, value[:num_types], value[num_types:])


def crossing(field, value, duration, step, measured, error):
    """Days until `measured(y)` is first not negative, infinite if not within `duration`; y then; step."""
    walk = stepping.set_out(field, value, duration, step)

    def going(walk):
        return stepping.is_going(walk, duration) & (measured(walk.value) < 0)

    walk = jax.lax.while_loop(
        going, lambda walk: stepping.stride(field, walk, duration, error), walk
    )
    is_there = measured(walk.value) >= 0
    from_day = walk.elapsed - walk.last

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        there = measured(stepping.runge_kutta(field, from_day, walk.before, middle)[0]) >= 0
        return jnp.where(there, low, middle), jnp.where(there, middle, high)

    def solved(_):
        _, length = jax.lax.fori_loop(0, 50, halve, (jnp.zeros_like(walk.last), walk.last))
        at, _ = stepping.runge_kutta(field, from_day, walk.before, length)
        return from_day + length, jnp.where(walk.last > 0, at, walk.value)

    missed = lambda _: (jnp.full_like(duration, jnp.inf), walk.value)  # noqa: E731
    elapsed, after = jax.lax.cond(is_there, solved, missed, None)
    return elapsed, after, walk.step


# --- covariance ------------------------------------------------------------------------------------


def moment_field(process: Process, interval, count: Counts, extra: Extra):
    """The change of (count, extra, covariance) as one vector: (elapsed, vector, one) -> vector.

    `one` multiplies what does not depend on the vector; only a linear law may set it to 0. `count` and
    `extra` are where a linear law is evaluated.
    """
    num_types, num_all = process.net.num_types, process.net.num_types + len(extra)
    source, source_variance = moments.immigration(process.net, process.immigration)
    padding = (0, num_all - num_types)
    constant = jnp.diag(jnp.pad(source_variance, padding))

    def assembled(jacobian, flow, added, covariance, one):
        carried = jacobian @ covariance
        square = carried + carried.T + jnp.pad(added, (padding, padding)) + one * constant
        return jnp.concatenate([flow, square.reshape(-1)])

    if is_linear(process):
        now = speeds_at(process, interval, count, extra)
        jacobian = jax.jacfwd(lambda n: moments.change(process.net, now, n))(count)

        def linear(_, value, one):
            n, covariance = value[:num_types], value[num_types:].reshape(num_types, num_types)
            flow = jacobian @ n + one * source
            return assembled(jacobian, flow, moments.noise(process.net, now, n), covariance, one)

        return linear
    mean = mean_field(process, interval)

    def field(elapsed, value, one):
        state, covariance = value[:num_all], value[num_all:].reshape(num_all, num_all)
        now = speeds_at(process, interval, state[:num_types], state[num_types:])
        added = moments.noise(process.net, now, state[:num_types])
        jacobian = jax.jacfwd(partial(mean, elapsed))(state)
        return assembled(jacobian, mean(elapsed, state), added, covariance, one)

    return field


def advance_moments(
    process: Process,
    interval: Int[Array, ""],
    state: Moments,
    duration: Scalar | None = None,
    *,
    step: Scalar | None = None,
    most: int | None = None,
) -> tuple[Moments, Stepped]:
    """Mean and covariance after the jump and after `duration` days of one interval."""
    days = process.duration[interval] if duration is None else duration
    kept = jnp.concatenate([process.kept[interval], jnp.ones_like(state.extra)])
    alive = jnp.concatenate([state.count, state.extra])
    covariance = moments.thinned(kept, alive, state.covariance)
    alive = alive * kept
    num_types = process.net.num_types
    field = moment_field(process, interval, alive[:num_types], alive[num_types:])
    start = jnp.concatenate([alive, covariance.reshape(-1)])
    if is_linear(process):
        norm = 2 * moments.norm(process.net, speeds_at(process, interval, state.count, state.extra))
        linear = partial(field, jnp.zeros_like(days))
        stepped = stepping.exponential(linear, start, days, norm, most)
    else:
        step = jnp.zeros_like(days) if step is None else step
        one = jnp.ones_like(days)
        stepped = stepping.adaptive(
            lambda elapsed, value: field(elapsed, value, one),
            start, days, step, partial(moment_error, len(alive)), most,
        )  # fmt: skip
    return unpacked(stepped.value, num_types, len(alive)), stepped


def unpacked(value: stepping.Vector, num_types: int, num_all: int) -> Moments:
    """A vector of (count, extra, covariance) as moments."""
    covariance = value[num_all:].reshape(num_all, num_all)
    return Moments(value[:num_types], value[num_types:num_all], covariance)


def moment_error(num_all: int, estimate, before, after) -> Scalar:
    """The same as `mean_error` with covariances, on the scale of the two deviations."""
    square = jnp.maximum(jnp.abs(before[num_all:]), jnp.abs(after[num_all:]))
    square = square.reshape(num_all, num_all)
    deviation = jnp.sqrt(jnp.diag(square))
    scale = COVARIANCE_TOLERANCE * jnp.maximum(square, deviation[:, None] * deviation[None, :])
    wrong = jnp.abs(estimate[num_all:]).reshape(num_all, num_all) / (scale + 1e-200)
    mean = mean_error(estimate[:num_all], before[:num_all], after[:num_all])
    return jnp.maximum(mean, jnp.max(wrong))


def moments_along(
    process: Process,
    count0: Counts,
    extra0: Extra | None = None,
    covariance0: Float[Array, "all all"] | None = None,
    *,
    most: int | None = None,
    report: Callable[[Moments], object] = lambda state: state,
):
    """Means and covariances at the edges of all intervals, or what `report` makes of each.

    Args:
        process: one law.
        count0: [type] expected cells at the start.
        extra0: [variable] default those of the custom law.
        covariance0: [type and variable, type and variable] default none.
        most: steps of an interval at most, which lets reverse-mode differentiation pass.
        report: what to keep of the moments at an edge.
    """
    count0 = jnp.asarray(count0)
    extra0 = jnp.asarray(first_extra(process) if extra0 is None else extra0)
    num_all = len(count0) + len(extra0)
    start = jnp.zeros((num_all, num_all), count0.dtype) if covariance0 is None else covariance0
    state = Moments(count0, extra0, start)

    def interval(carry, k):
        state, step = carry
        after, stepped = advance_moments(process, k, state, step=step, most=most)
        return (after, stepped.step), report(after)

    num_intervals = process.duration.shape[0]
    first = (state, jnp.zeros((), count0.dtype))
    _, rest = jax.lax.scan(interval, first, jnp.arange(num_intervals))
    with_first = lambda first, rest: jnp.concatenate([first[None], rest])  # noqa: E731
    return jax.tree.map(with_first, report(state), rest)
