"""Stepping: ordinary differential equations over one interval, for engines without dice.

`exponential` carries a linear equation y' = L y + c with constant L by its Taylor series,

    y(t + h) = y + sum_{k=1..22} h^k/k! L^(k-1) (L y + c),    h |L| <= 2,

which leaves out less than 4e-16 of a step. `adaptive` carries y' = f(t, y) by the explicit method of
order 8 with an error estimate of order 7 by Prince & Dormand 1981, 10.1016/0771-050X(81)90010-3
(RK8(7)13M), with as many steps as the tolerance asks for.

Both take as many steps as they need in a loop that only forward-mode differentiation passes. With
`most`, the number of attempts at most, they pass reverse mode as well; too small a number gives NaN.
Step sizes are not differentiated: the derivative is that of the steps that were taken.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxevo.state import Array, Scalar

ORDER, REACH = 22, 2.0  # of the Taylor series, and the largest h |L| that it takes
MAX_ATTEMPTS = 1_000_000  # in one interval
Vector = Float[Array, " entry"]
Field = Callable[[Scalar, Vector], Vector]


def _table(rows: Sequence[Sequence[float | int]]) -> np.ndarray:
    """Rows of different length as the lower triangle of a square matrix."""
    square = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        square[i, : len(row)] = row
    return square


# Stages of RK8(7)13M, the weights of order 8, and those of order 7.
STAGES = _table((
    (),
    (1 / 18,),
    (1 / 48, 1 / 16),
    (1 / 32, 0, 3 / 32),
    (5 / 16, 0, -75 / 64, 75 / 64),
    (3 / 80, 0, 0, 3 / 16, 3 / 20),
    (29443841 / 614563906, 0, 0, 77736538 / 692538347, -28693883 / 1125000000,
     23124283 / 1800000000),
    (16016141 / 946692911, 0, 0, 61564180 / 158732637, 22789713 / 633445777,
     545815736 / 2771057229, -180193667 / 1043307555),
    (39632708 / 573591083, 0, 0, -433636366 / 683701615, -421739975 / 2616292301,
     100302831 / 723423059, 790204164 / 839813087, 800635310 / 3783071287),
    (246121993 / 1340847787, 0, 0, -37695042795 / 15268766246, -309121744 / 1061227803,
     -12992083 / 490766935, 6005943493 / 2108947869, 393006217 / 1396673457,
     123872331 / 1001029789),
    (-1028468189 / 846180014, 0, 0, 8478235783 / 508512852, 1311729495 / 1432422823,
     -10304129995 / 1701304382, -48777925059 / 3047939560, 15336726248 / 1032824649,
     -45442868181 / 3398467696, 3065993473 / 597172653),
    (185892177 / 718116043, 0, 0, -3185094517 / 667107341, -477755414 / 1098053517,
     -703635378 / 230739211, 5731566787 / 1027545527, 5232866602 / 850066563,
     -4093664535 / 808688257, 3962137247 / 1805957418, 65686358 / 487910083),
    (403863854 / 491063109, 0, 0, -5068492393 / 434740067, -411421997 / 543043805,
     652783627 / 914296604, 11173962825 / 925320556, -13158990841 / 6184727034,
     3936647629 / 1978049680, -160528059 / 685178525, 248638103 / 1413531060, 0),
))  # fmt: skip
WEIGHTS_8 = np.array([
    14005451 / 335480064, 0, 0, 0, 0, -59238493 / 1068277825, 181606767 / 758867731,
    561292985 / 797845732, -1041891430 / 1371343529, 760417239 / 1151165299,
    118820643 / 751138087, -528747749 / 2220607170, 1 / 4,
])  # fmt: skip
WEIGHTS_7 = np.array([
    13451932 / 455176623, 0, 0, 0, 0, -808719846 / 976000145, 1757004468 / 5645159321,
    656045339 / 265891186, -3867574721 / 1518517206, 465885868 / 322736535,
    53011238 / 667516719, 2 / 45, 0,
])  # fmt: skip


class Stepped(NamedTuple):
    """Where an interval ended."""

    value: Vector
    step: Scalar  # days, a good first step for what comes next; 0 if none is known
    attempts: Int[Array, ""]  # steps taken and refused


class Walk(NamedTuple):
    """A walk of adaptive steps on its way."""

    elapsed: Scalar  # days
    value: Vector
    step: Scalar  # days, the next one
    attempts: Int[Array, ""]
    before: Vector  # value before the last step that was taken
    last: Scalar  # days, that step


def exponential(
    linear: Callable[[Vector, Scalar], Vector],
    value: Vector,
    duration: Scalar,
    norm: Scalar,
    most: int | None = None,
) -> Stepped:
    """The solution of a linear equation after `duration` days, to rounding.

    Args:
        linear: (y, one) -> L y + one c.
        value: y at the start.
        duration: days, may be 0.
        norm: a bound of |L|, 1/day.
        most: substeps at most, for reverse mode.
    """
    needed = jnp.ceil(jax.lax.stop_gradient(duration * norm / REACH)).astype(jnp.int32)
    needed = jnp.maximum(needed, 1)
    length = duration / needed.astype(duration.dtype)
    one, zero = jnp.ones_like(length), jnp.zeros_like(length)

    def substep(value: Vector) -> Vector:
        first = length * linear(value, one)

        def term(carry, k):
            total, now = carry
            now = length / k * linear(now, zero)
            return (total + now, now), None

        orders = jnp.arange(2, ORDER + 1, dtype=length.dtype)
        (value, _), _ = jax.lax.scan(term, (value + first, first), orders)
        return value

    if most is None:
        value = jax.lax.fori_loop(0, needed, lambda _, y: substep(y), value)
    else:
        kept = jax.checkpoint(substep)

        def masked(value, i):
            return jnp.where(i < needed, kept(value), value), None

        value, _ = jax.lax.scan(masked, value, jnp.arange(most, dtype=needed.dtype))
        value = jnp.where(needed <= most, value, jnp.nan)
    return Stepped(value, zero, needed)


def runge_kutta(field: Field, at: Scalar, value: Vector, length: Scalar) -> tuple[Vector, Vector]:
    """One step of order 8 from the moment `at`: value after `length` days, estimated error."""
    stages = jnp.asarray(STAGES, value.dtype)
    moments = jnp.sum(stages, axis=1)

    def stage(slopes, now):
        i, row, moment = now
        slope = field(at + moment * length, value + length * (row @ slopes))
        return slopes.at[i].set(slope), None

    count = stages.shape[0]
    slopes = jnp.zeros((count, value.shape[0]), value.dtype)
    slopes, _ = jax.lax.scan(stage, slopes, (jnp.arange(count), stages, moments))
    weights = jnp.asarray(WEIGHTS_8, value.dtype)
    difference = jnp.asarray(WEIGHTS_8 - WEIGHTS_7, value.dtype)
    return value + length * (weights @ slopes), length * (difference @ slopes)


def adaptive(
    field: Field,
    value: Vector,
    duration: Scalar,
    step: Scalar,
    error: Callable[[Vector, Vector, Vector], Scalar],
    most: int | None = None,
) -> Stepped:
    """The solution of y' = field(elapsed, y) after `duration` days.

    Args:
        field: right-hand side; may read the days since the start of the interval.
        value: y at the start.
        duration: days, may be 0.
        step: days, the first step; 0 asks for a guess.
        error: (estimated error, y before, y after) -> its size in units of the tolerance.
        most: attempts at most, for reverse mode.
    """
    walk = set_out(field, value, duration, step)

    def attempt(walk: Walk) -> Walk:
        return stride(field, walk, duration, error)

    if most is None:
        going = lambda walk: is_going(walk, duration)  # noqa: E731
        walk = jax.lax.while_loop(going, attempt, walk)
    else:
        walk, _ = jax.lax.scan(lambda now, _: (attempt(now), None), walk, length=most)
    arrived = walk.elapsed >= duration
    return Stepped(jnp.where(arrived, walk.value, jnp.nan), walk.step, walk.attempts)


def fixed(field: Field, value: Vector, duration: Scalar, num: int) -> tuple[Vector, Vector]:
    """The same in `num` equal steps, which pass reverse mode; and the largest error of each entry."""
    length = duration / num

    @jax.checkpoint
    def step(now, at):
        after, error = runge_kutta(field, at * length, now, length)
        return after, jnp.abs(jax.lax.stop_gradient(error))

    value, errors = jax.lax.scan(step, value, jnp.arange(num, dtype=length.dtype))
    return value, jnp.max(errors, axis=0)


def set_out(field: Field, value: Vector, duration: Scalar, step: Scalar) -> Walk:
    """The start of a walk."""
    slope = jnp.abs(field(jnp.zeros_like(duration), value))
    size = jnp.abs(value)
    fastest = jnp.max(jnp.where(size > 0, slope / jnp.where(size > 0, size, 1.0), 0.0), initial=0.0)
    guess = jnp.minimum(duration, 0.1 / jnp.maximum(fastest, 1e-30))
    step = jax.lax.stop_gradient(jnp.where(step > 0, step, guess))
    zero = jnp.zeros_like(duration)
    return Walk(zero, value, step, jnp.zeros((), jnp.int32), value, zero)


def is_going(walk: Walk, duration: Scalar) -> Bool[Array, ""]:
    """Whether a walk has not arrived."""
    return (walk.elapsed < duration) & (walk.attempts < MAX_ATTEMPTS)


def stride(field: Field, walk: Walk, duration: Scalar, error: Callable) -> Walk:
    """One attempt at a step; a step whose error is too large is not taken."""
    rest = duration - walk.elapsed
    is_last = walk.step >= rest * (1 - 1e-9)
    length = jax.lax.stop_gradient(jnp.where(is_last, rest, walk.step))
    solved = jax.checkpoint(lambda value: runge_kutta(field, walk.elapsed, value, length))
    after, estimate = solved(walk.value)
    size = jax.lax.stop_gradient(error(estimate, walk.value, after))
    is_taken = size <= 1  # NaN is refused
    factor = jnp.where(size > 1e-8, 0.9 * size**-0.125, 5.0)
    factor = jnp.clip(jnp.where(jnp.isnan(size), 0.2, factor), 0.2, 5.0)
    proposed = jnp.where(
        is_taken & is_last, jnp.maximum(walk.step, length * factor), length * factor
    )
    is_here = rest > 0
    arrived = jnp.where(is_last, duration, walk.elapsed + length)
    return Walk(
        elapsed=jnp.where(is_taken, arrived, walk.elapsed),
        value=jnp.where(is_taken, after, walk.value),
        step=jnp.where(is_here, proposed, walk.step),
        attempts=walk.attempts + is_here.astype(jnp.int32),
        before=jnp.where(is_taken & is_here, walk.value, walk.before),
        last=jnp.where(is_taken & is_here, length, walk.last),
    )
