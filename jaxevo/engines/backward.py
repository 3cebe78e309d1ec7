"""Backward: the chance that one cell of each type has descendants that count, solved back in time.

With p_i the chance of a cell of type i (1 - q_i of the generating function), the offspring law of
`network` gives, in backward time and between two jumps,

    p_i' = b_i (1 - G_i) - (b_i + d_i) p_i + sum_j m_ij (p_j - p_i) + h (1 - p_i)

    one    1 - G_i = S_i (2 p_i - p_i^2) + sum_j (u + a)_ij (p_i + p_j - p_i p_j)
                     + sum_j v_ij (2 p_j - p_j^2),                                S = 1 - U - A - V
    both   1 - G_i = (1 - A - V) (2 x_i - x_i^2) + sum_j a_ij (p_i + p_j - p_i p_j)
                     + sum_j v_ij (2 p_j - p_j^2),       x_i = (1 - U_i) p_i + sum_j u_ij p_j

b, d, m rates (1/day) of birth, death and conversion, h the detection hazard of a cell (1/day). Written
in p, every term that is subtracted is a multiple of p itself, so that p keeps its relative precision
however small it is (Athreya & Ney 1972, Branching Processes, chapter V.7). A step is a Taylor series
(`series`); reverse-mode derivatives go back through the steps from the p stored at each.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxevo.engines.network import Network, Speeds, scattered
from jaxevo.engines.series import ORDER, Offspring, error, reach, series
from jaxevo.state import Array, Scalar

REACH = 0.5  # step times the largest rate of a cell; the nearest pole lies beyond 2
_X, _W = np.polynomial.legendre.leggauss(10)  # immigration over a step
GAUSS_NODES, GAUSS_WEIGHTS = (1 + _X) / 2, _W / 2
POWERS = GAUSS_NODES[:, None] ** np.arange(ORDER + 1)  # of the Taylor terms at the nodes


class Steps(NamedTuple):
    """Steps in backward order: the last comes first."""

    row: Int[Array, " step"]  # of `Offspring`
    duration: Float[Array, " step"]  # days; 0 does nothing
    end: Float[Array, " step"]  # day on which it ends
    hazard: Float[Array, " step"]  # detection of one cell, 1/day
    kept: Float[Array, "step type"]  # survival of a jump at its start; 1 where there is none


class Kind(eqx.Module):
    """What a compiled solver depends on, besides sizes: most networks share one."""

    num_inside: int = eqx.field(static=True)  # types that live
    immigrants: tuple[tuple[int, int], ...] = eqx.field(static=True, default=())  # type, cells

    @classmethod
    def of(cls, net: Network) -> "Kind":
        """The kind of a network."""
        return cls(net.num_inside, net.immigrants)


class Chance(NamedTuple):
    """What comes out at the start of the first step."""

    p: Float[Array, "*horizon type"]
    log_immigration: Float[Array, "*horizon"]  # integral of rate (q^cells - 1), sum of sources
    error: Float[Array, "*horizon"]  # largest last Taylor term of any step, relative


def offspring(net: Network, found: Speeds) -> Offspring:
    """The right-hand side at the rates of ONE row; `vmap` over rows."""
    num = net.num_types
    b, d = found.birth, found.death
    u = scattered(net.mutations, found.mutation, num)
    a = scattered(net.asymmetric, found.asymmetric, num)
    v = scattered(net.symmetric, found.symmetric, num)
    m = scattered(net.conversions, found.conversion, num)
    mutated, one_new, two_new, moved = (jnp.sum(x, axis=1) for x in (u, a, v, m))
    own = jnp.diag
    each = b[:, None]
    doubled = each * v if len(net.symmetric) else None
    if not net.is_both:
        crossed = own(b * (1 - mutated - one_new - two_new)) + each * (u + a)
        kept = b * (1 - mutated - one_new - 2 * two_new) - d - moved
        linear = own(kept) + each * (u + a + 2 * v) + m
        return Offspring(linear, crossed, None, None, doubled)
    rest = 1 - one_new - two_new
    daughter = own(1 - mutated) + u
    linear = (
        own(b * (one_new - 1) - d - moved) + each * (2 * rest[:, None] * daughter + a + 2 * v) + m
    )
    crossed = each * a if len(net.asymmetric) else None
    return Offspring(linear, crossed, b * rest, daughter, doubled)


def largest_rate(net: Network, found: Speeds) -> Float[Array, ""]:
    """Births, deaths and conversions of the busiest type, 1/day; ONE row."""
    moved = jnp.zeros(net.num_types, found.birth.dtype)
    moved = moved.at[np.array(net.conversions.source, int)].add(found.conversion)
    return jnp.max(found.birth + found.death + moved, initial=0.0)


# --- one step --------------------------------------------------------------------------------------


def step_back(
    kind: Kind,
    law: Offspring,
    p: Float[Array, " type"],
    hazard: Scalar,
    duration: Scalar,
) -> Float[Array, "term type"]:
    """Taylor terms of p over a step of `duration` days at ONE row of rates."""
    return series(law, p, hazard * _lives(kind, p), duration)


def _lives(kind: Kind, p):
    """1 for types that live, 0 for the type outside: it is never detected."""
    return jnp.asarray(np.arange(len(p)) < kind.num_inside, p.dtype)


def _step(kind: Kind, law: Offspring, p, step: Steps, rates):
    """p at the start of a step, immigration over it, and the error."""
    terms = step_back(kind, law, p, step.hazard, step.duration)
    reached = jnp.sum(terms[::-1], axis=0)
    return step.kept * reached, _immigrated(kind, terms, rates, step.duration), error(terms)


def _immigrated(kind: Kind, terms, rates, duration):
    """Integral of rate (q^cells - 1) over a step from its Taylor terms."""
    total = jnp.zeros((), terms.dtype)
    for k, (source, cells) in enumerate(kind.immigrants):
        p = jnp.asarray(POWERS) @ terms[:, source]
        inside = jnp.expm1(cells * jnp.log1p(-jnp.minimum(p, 1 - 2.0**-53)))
        total = total + rates[k] * duration * (jnp.asarray(GAUSS_WEIGHTS) @ inside)
    return total


def _at(law: Offspring, row) -> Offspring:
    return jax.tree.map(lambda x: x[row], law)


# --- all steps -------------------------------------------------------------------------------------


def chance(
    kind: Kind,
    law: Offspring,
    steps: Steps,
    last: Float[Array, " type"],
    rates: Float[Array, " source"],
) -> Chance:
    """p at the start of the first step, from `last` at the end of the last. Differentiable.

    Args:
        law: leading axis row.
        steps: in backward order; derivatives go to `hazard` and `kept`, not to times.
        rates: immigration, events per day, in the order of `net.immigrants`.
    """
    return Chance(*_chance(kind, law, steps, last, rates))


@jax.custom_vjp
def _chance(kind, law, steps, last, rates):
    return _forward(kind, law, steps, last, rates)[0]


def _forward(kind, law, steps, last, rates):
    def body(carry, step):
        p, total, worst = carry
        here = _at(law, step.row)
        p_next, arrived, wrong = _step(kind, here, p, step, rates)
        return (p_next, total + arrived, jnp.maximum(worst, wrong)), p

    none = jnp.zeros((), last.dtype)
    carry, stored = jax.lax.scan(body, (last, none, none), steps)
    return carry, (kind, law, steps, rates, stored)


def _backward(saved, cotangent):
    kind, law, steps, rates, stored = saved

    def body(carry, at):
        g_p, g_total, g_law, g_rates = carry
        step, p = at

        def forward(law, p, hazard, kept, rates):
            now = step._replace(hazard=hazard, kept=kept)
            return _step(kind, law, p, now, rates)[:2]

        _, pull = jax.vjp(forward, _at(law, step.row), p, step.hazard, step.kept, rates)
        g_here, g_p, g_hazard, g_kept, g_more = pull((g_p, g_total))
        g_law = jax.tree.map(lambda total, g: total.at[step.row].add(g), g_law, g_here)
        return (g_p, g_total, g_law, g_rates + g_more), (g_hazard, g_kept)

    start = (*cotangent[:2], jax.tree.map(jnp.zeros_like, law), jnp.zeros_like(rates))
    (g_p, _, g_law, g_rates), (g_hazard, g_kept) = jax.lax.scan(
        body, start, (steps, stored), reverse=True
    )
    g_steps = Steps(None, None, None, g_hazard, g_kept)  # type: ignore[arg-type]
    return None, g_law, g_steps, g_p, g_rates


_chance.defvjp(_forward, _backward)


def chances(
    kind: Kind,
    law: Offspring,
    steps: Steps,
    last: Float[Array, " type"],
    rates: Float[Array, " source"],
    horizons: Float[Array, " horizon"],
) -> Chance:
    """p at the start for several horizons at once, [horizon, type]; each starts from `last` at its own.

    A horizon must be an end of a step; steps of no length come last.
    """
    first = jnp.sum(steps.end > jnp.max(horizons) + 1e-9)
    stop = jnp.sum(steps.duration > 0)

    def body(k, carry):
        p, total, worst = carry
        step = jax.tree.map(lambda x: x[k], steps)
        here = _at(law, step.row)
        is_before = step.end <= horizons + 1e-9

        def one(p, counts):
            now = step._replace(duration=jnp.where(counts, step.duration, 0.0))
            reached, arrived, wrong = _step(kind, here, p, now, rates)
            return jnp.where(counts, reached, p), arrived, wrong

        p, arrived, wrong = jax.vmap(one)(p, is_before)
        return p, total + arrived, jnp.maximum(worst, wrong)

    none = jnp.zeros_like(horizons)
    start = (jnp.broadcast_to(last, (*horizons.shape, *last.shape)), none, none)
    return Chance(*jax.lax.fori_loop(first, stop, body, start))


def step_counts(
    kind: Kind,
    law: Offspring,
    fastest: Float[Array, " row"],
    duration: Float[Array, " interval"],
    last: Float[Array, " type"],
    hazard: Scalar,
    tolerance: float,
) -> Float[Array, " interval"]:
    """Into how many equal steps each interval must be cut, along p itself; row i is interval i.

    A walk back in time in which every step is as long as its Taylor terms allow.
    """

    def interval(p, at):
        here, rate, days = at
        unit = REACH / jnp.maximum(rate + hazard, 1e-12)

        def onward(state):
            left, p, shortest = state
            terms = step_back(kind, here, p, hazard, unit)
            longer = reach(terms, tolerance)
            taken = jnp.minimum(longer * unit, left)
            scaled = terms * ((taken / unit) ** jnp.arange(ORDER + 1.0))[:, None]
            shortest = jnp.minimum(shortest, longer * unit)
            return left - taken, jnp.sum(scaled, axis=0), shortest

        start = (days, p, jnp.full_like(days, jnp.inf))
        _, p, shortest = jax.lax.while_loop(lambda s: s[0] > 1e-9 * days, onward, start)
        return p, jnp.ceil(days / shortest)

    return jax.lax.scan(interval, last, (law, fastest, duration), reverse=True)[1]
