"""Counts: the jitted time loop of the `clones` engine.

A tumor is a count of every type (whole float64, exact to 2^53), for cells that arose before treatment
and after it apart. Within an interval a tumor with fewer than `exact_below` living cells is followed
event by event (`events`) until the interval ends or it has twice as many; a larger one takes steps
(`strang`) of at most `STEP` over the largest rate of any kind. Crowding, immunity and feedback are
taken at the middle of a step, from the expected counts there.

Words are threefry of (seed; patient, replicate; day of the interval; step; type, purpose).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, UInt32

from jaxevo.engines import events
from jaxevo.engines.events import Lineage, Tumors, living, note_clones
from jaxevo.engines.network import Network, Speeds
from jaxevo.engines.process import Process
from jaxevo.engines.sampling import (
    binomial,
    expm1_64,
    log64,
    threefry,
)
from jaxevo.engines.strang import Block, Moment, Turn, Words, drawn, strang
from jaxevo.engines.tumors import EXTINCT, GROWN, RUNNING, STOPPED
from jaxevo.engines.wiring import (
    Context,
    Held,
    Rules,
    context,
    edges_of,
    held,
    listed_sum,
    moved,
    padded_lists,
    speeds_now,
    wiring,
    with_immune_pace,
)
from jaxevo.state import Array

STEP = 0.4  # the largest rate of any kind times the length of a step, at most (see `_pace`)
OVERSHOOT = 0.009  # of a size that ends growth or a study, at most, in the mean
JUMP, PARENT = 1, 2  # purposes of words outside the parts
MAX_ROWS = 32  # intervals of growth in one call


def new_block(
    rules: Rules,
    seed: int,
    who: tuple[np.ndarray, np.ndarray],
    law: np.ndarray,
    count: np.ndarray,
    extra: np.ndarray,
) -> Tumors:
    """At most `width` tumors at the start; the rest of the block is padding, ended from the start.

    Args:
        rules: of the kernel.
        seed: of the study.
        who: index of the patient and of the replicate, [tumor]; they name the random words.
        law: [tumor] position on the axis law.
        count: [origin, type, tumor] cells.
        extra: [variable, tumor].
    """
    missing = rules.width - len(law)
    pad = lambda x: np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])  # noqa: E731
    patient, replicate = (jnp.asarray(pad(x.astype(np.uint32))) for x in who)
    words = (jnp.uint32(seed & 0xFFFFFFFF), jnp.uint32(seed >> 32))
    # founders are mothers of nobody's clones: their clones begin with them
    cells = jnp.asarray(pad(count.astype(float)))
    lineage = None
    if rules.has_lineage:
        nan = jnp.full(cells.shape, jnp.nan)
        lineage = Lineage(jnp.where(cells > 0, 0.0, nan), nan, jnp.full(cells.shape, -1, jnp.int32))
    alive = cells[:, : rules.net.num_inside].sum(axis=(0, 1)) > 0
    waits = bool(rules.net.immigrants) & (jnp.arange(rules.width) < len(law))
    zeros = partial(jnp.zeros, rules.width)
    return Tumors(
        count=cells,
        extra=jnp.asarray(pad(extra.astype(float))),
        key=threefry(words, (patient, replicate)),
        law=jnp.asarray(pad(law.astype(np.int32))),
        status=jnp.where(alive | waits, RUNNING, EXTINCT).astype(jnp.int32),
        day=zeros(),
        left=zeros(),
        step=zeros(jnp.int32),
        births=zeros(),
        deaths=zeros(),
        arrived=zeros(),
        attempts=jnp.ones(rules.width, jnp.int32),
        lineage=lineage,
    )


# --- one step --------------------------------------------------------------------------------------


def _step(tumors: Tumors, goes, now: Context, key: Words, target, rules: Rules) -> Tumors:
    """One step of the tumors that go; its length is each tumor's own."""
    net = rules.net
    count = tumors.count
    by_type = jnp.sum(count, axis=0)
    found = speeds_now(now, by_type, tumors.extra)
    pace = with_immune_pace(now, _pace(found, net), by_type)
    num_steps = jnp.maximum(jnp.ceil(tumors.left * pace * (1 / STEP)), 1.0)
    length = tumors.left / num_steps
    fastest = jnp.maximum(jnp.max(found.birth, axis=0), 1e-30)
    room = log64(jnp.minimum(target, 1e300) / jnp.maximum(living(count, rules), 1.0))
    length = jnp.minimum(length, jnp.maximum(room, OVERSHOOT) / fastest)
    length = jnp.where(length >= tumors.left * (1 - 1e-9), tumors.left, length)
    length = jnp.where(goes, length, 0.0)
    half = 0.5 * length
    extra = tumors.extra
    if now.is_dynamic:
        growth = (found.birth - found.death) * half[None, :]
        middle = jnp.floor(by_type * (1 + expm1_64(jnp.clip(growth, -50.0, 50.0))) + 0.5)
        between = moved(now, tumors.day, half, (by_type, middle), extra)
        found = speeds_now(now, middle, between)
    rates = held(found, net)
    net_growth = (rates.plain - rates.death) * length[None, :]
    none = jnp.zeros_like(length)
    arrived = None if tumors.lineage is None else jnp.zeros_like(count)
    turn = Turn(rates, now, length, net_growth, key, rules)
    count, arrived, imported, deaths = strang(Moment(count, arrived, none, none), turn)
    extra = moved(now, tumors.day, length, (by_type, jnp.sum(count, axis=0)), extra)
    gained = jnp.sum(count, axis=(0, 1)) - jnp.sum(by_type, axis=0) - imported
    day = tumors.day + length
    lineage = tumors.lineage
    if lineage is not None and arrived is not None:
        came = arrived > 0
        parents = partial(_parents, rates=rates, key=key, now=now, rules=rules)
        is_new = jnp.any(came & jnp.isnan(lineage.born))
        nobody = lambda *_: jnp.full(count.shape, -1, jnp.int32)  # noqa: E731
        parent = jax.lax.cond(is_new, parents, nobody, jnp.maximum(tumors.count, count))
        days = (tumors.day + half, day)
        lineage = note_clones(lineage, tumors.count, count, came, parent, days)
    return tumors._replace(
        count=count,
        extra=extra,
        day=day,
        left=tumors.left - length,
        births=tumors.births + gained + deaths,
        deaths=tumors.deaths + deaths,
        arrived=tumors.arrived + imported,
        lineage=lineage,
    )


def _pace(found: Speeds, net: Network) -> Float[Array, " tumor"]:
    """How fast steps must follow each other, times `STEP`, 1/day.

    The largest rate r of a birth, a death or a change; and sqrt(10 r c) where cells leave their type at a
    rate c: what they deliver is off by c h (r h)^2/12 of them at most, and no factor can mend it.
    """
    lists = wiring(net)
    out = listed_sum(found.conversion, lists.conversions)
    out = out + found.birth * listed_sum(found.symmetric, lists.symmetric)
    if net.is_both:
        mutated = listed_sum(found.mutation, lists.mutations)
        out = out + found.birth * mutated * mutated
    fastest = jnp.max(jnp.maximum(jnp.maximum(found.birth, found.death), out), axis=0)
    return jnp.maximum(fastest, jnp.sqrt(10 * jnp.max(out, axis=0) * fastest))


def _parents(count: Block, *, rates: Held, key: Words, now: Context, rules: Rules):
    """Who delivered the first cell of a new clone: drawn by how much each delivers."""
    net, num_origins = rules.net, count.shape[0]
    kinds = ((net.mutations, rates.mutation), (net.asymmetric, rates.asymmetric),
             (net.symmetric, 2 * rates.symmetric), (net.conversions, rates.conversion))  # fmt: skip
    elements = np.arange(num_origins * net.num_types)
    one = jnp.ones((len(elements), count.shape[2]))
    draw = drawn(lambda u, _: u, key, (elements, PARENT), one).reshape(count.shape)
    found = []
    for origin in range(num_origins):
        ways = []
        for kind, (edges, rate) in enumerate(kinds):
            if len(edges) == 0:
                continue
            source, target = edges_of(edges)
            mothers = range(num_origins) if kind == 0 else (origin,)
            if kind == 0 and origin < num_origins - 1:
                continue
            lists = padded_lists(target, range(len(edges)), net.num_types)
            for o in mothers:
                flow = count[o, source] * rate
                for column in lists.T:
                    used = jnp.asarray((column >= 0).astype(float))[:, None]
                    edge = np.maximum(column, 0)
                    ways.append((flow[edge] * used, o * net.num_types + source[edge]))
        from_outside = jnp.zeros(count.shape[1:])
        if net.immigrants and origin == num_origins - 1:
            for s, (to, cells) in enumerate(net.immigrants):
                rate = now.process.immigration[now.law, s] * cells
                from_outside = from_outside.at[to].add(rate)
        total = from_outside
        for flow, _ in ways:
            total = total + flow
        level, upto = draw[origin] * total, from_outside
        parent = jnp.full(total.shape, -1, jnp.int32)
        for flow, name in ways:
            is_it = (upto < level) & (level <= upto + flow)
            parent = jnp.where(is_it, jnp.asarray(name, jnp.int32)[:, None], parent)
            upto = upto + flow
        found.append(parent)
    return jnp.stack(found)


# --- one interval ----------------------------------------------------------------------------------


def _interval(tumors: Tumors, now: Context, span, code: Words, target, rules: Rules) -> Tumors:
    """Every tumor that runs, to the end of its interval or to its own end."""
    key = threefry(tumors.key, code)
    runs = tumors.status == RUNNING
    tumors = tumors._replace(left=jnp.where(runs, span, 0.0), step=jnp.zeros_like(tumors.step))
    tumors = _ended(tumors, runs, target, rules)
    if rules.has_jumps:
        kept = now.process.kept[now.law, now.interval].T
        jump = jnp.where((tumors.left > 0)[None, :], kept, 1.0)
        tumors = jax.lax.cond(
            jnp.any(jump < 1),
            lambda t: _ended(_jumped(t, jump, key), t.left > 0, target, rules),
            lambda t: t,
            tumors,
        )

    def body(tumors: Tumors) -> Tumors:
        is_open = tumors.left > 0
        is_few = is_open & (living(tumors.count, rules) < rules.exact_below)
        words = threefry(key, (jnp.asarray(tumors.step, jnp.uint32), jnp.zeros_like(key[0])))
        if rules.exact_below > 0:
            most = jnp.minimum(float(events.ESCAPE * rules.exact_below), target)
            most = jnp.broadcast_to(most, tumors.left.shape)
            few = lambda t: events.follow(t, is_few, now, words, rules, most)  # noqa: E731
            tumors = jax.lax.cond(jnp.any(is_few), few, lambda t: t, tumors)
        goes = is_open & ~is_few
        many = lambda t: _step(t, goes, now, words, target, rules)  # noqa: E731
        tumors = jax.lax.cond(jnp.any(goes), many, lambda t: t, tumors)
        tumors = tumors._replace(step=tumors.step + is_open.astype(jnp.int32))
        return _ended(tumors, is_open, target, rules)

    return jax.lax.while_loop(lambda t: jnp.any(t.left > 0), body, tumors)


def _ended(tumors: Tumors, is_open, target, rules: Rules) -> Tumors:
    """Tumors that have no cell left, or as many as the target, go no further."""
    total = living(tumors.count, rules)
    is_gone = is_open & (total == 0) & (len(rules.net.immigrants) == 0)
    is_full = is_open & (total >= target)
    status = jnp.where(is_gone, EXTINCT, jnp.where(is_full, STOPPED, tumors.status))
    left = jnp.where(is_gone | is_full, 0.0, tumors.left)
    return tumors._replace(status=status.astype(jnp.int32), left=left)


def _jumped(tumors: Tumors, kept, key: Words) -> Tumors:
    """Every cell survives a jump on its own."""
    num_origins, num_types, width = tumors.count.shape
    elements = np.arange(num_origins * num_types)
    chance = jnp.concatenate([kept] * num_origins)
    num = tumors.count.reshape(-1, width)
    alive = drawn(binomial, key, (elements, JUMP), num, chance, 1 - chance).reshape(
        tumors.count.shape
    )
    lineage = tumors.lineage
    if lineage is not None:
        nobody = jnp.full(alive.shape, -1, jnp.int32)
        lineage = note_clones(lineage, tumors.count, alive, jnp.zeros(alive.shape, bool), nobody,
                              (tumors.day, tumors.day))  # fmt: skip
    killed = jnp.sum(tumors.count, axis=(0, 1)) - jnp.sum(alive, axis=(0, 1))
    return tumors._replace(count=alive, deaths=tumors.deaths + killed, lineage=lineage)


# --- many intervals --------------------------------------------------------------------------------


class Codes(NamedTuple):
    """Words of every interval: its first day, whole and in 2^-32 of a day."""

    whole: UInt32[jax.Array, "law interval"]
    part: UInt32[jax.Array, "law interval"]

    @classmethod
    def of(cls, start: np.ndarray) -> "Codes":
        """From days [interval, law]; treatment starts with a phase bit of its own."""
        whole = np.floor(start)
        part = np.minimum(np.rint((start - whole) * 2.0**32), 2.0**32 - 1)
        first = (whole.astype(np.int64) + 2**31).astype(np.uint32)
        return cls(jnp.asarray(first.T), jnp.asarray(part.astype(np.uint32).T))


@partial(jax.jit, static_argnames="rules", donate_argnums=1)
def treat(rules: Rules, tumors: Tumors, process: Process, codes: Codes, first, last, target):
    """All tumors of a block from interval `first` to before interval `last`."""

    def body(at, tumors: Tumors) -> Tumors:
        law = tumors.law
        now = context(process, law, at)
        start = process.start[law, at]
        day = jnp.where(tumors.status == RUNNING, start, tumors.day)
        code = (codes.whole[law, at], codes.part[law, at])
        span = process.duration[law, at]
        return _interval(tumors._replace(day=day), now, span, code, target, rules)

    return jax.lax.fori_loop(first, last, body, tumors)


class Course(NamedTuple):
    """Growth of a block, interval by interval."""

    day: Float[Array, "row tumor"]  # since the founders of the attempt, NaN for no row
    cells: Float[Array, "row tumor"]
    attempt: Int32[Array, "row tumor"]


@partial(jax.jit, static_argnames="rules", donate_argnums=1)
def grow(rules: Rules, tumors: Tumors, process: Process, founders: Tumors, target):
    """Some intervals of growth; tumors that die out start again from `founders`."""
    width = tumors.left.shape[0]
    course = Course(
        jnp.full((MAX_ROWS, width), jnp.nan),
        jnp.zeros((MAX_ROWS, width)),
        jnp.zeros((MAX_ROWS, width), jnp.int32),
    )

    def body(carry):
        row, tumors, course = carry
        law = tumors.law
        now = context(process, law, jnp.int32(0))
        runs = tumors.status == RUNNING
        span = process.duration[law, 0]
        number = jnp.floor(tumors.day / span + 0.5).astype(jnp.uint32)
        code = (number, tumors.attempts.astype(jnp.uint32))
        tumors = _interval(tumors, now, span, code, target, rules)
        cells = living(tumors.count, rules)
        course = Course(
            course.day.at[row].set(jnp.where(runs, tumors.day, jnp.nan)),
            course.cells.at[row].set(cells),
            course.attempt.at[row].set(tumors.attempts),
        )
        again = runs & (tumors.status == EXTINCT)
        fresh = lambda new, old: jnp.where(again, new, old)  # noqa: E731
        restarted = jax.tree.map(fresh, founders, tumors)
        status = jnp.where(tumors.status == STOPPED, GROWN, tumors.status)
        tumors = restarted._replace(
            status=jnp.where(again, RUNNING, status),
            attempts=tumors.attempts + again.astype(jnp.int32),
            key=tumors.key,
            law=tumors.law,
        )
        return row + 1, tumors, course

    def goes_on(carry):
        row, tumors, _ = carry
        return (row < MAX_ROWS) & jnp.any(tumors.status == RUNNING)

    _, tumors, course = jax.lax.while_loop(goes_on, body, (jnp.int32(0), tumors, course))
    return tumors, course
