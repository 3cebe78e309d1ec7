"""Detection: from the founder to the day on which all cells together are M, and beyond.

Where treatment starts at a size, the tumors that reach it consist, in the limit of large M, of a bulk
of the founder's class that has grown deterministically, and of mutants that it has shed at random. At
tau days before treatment the bulk has

    n(tau) = (1 - s) M e^{-g tau}

cells, g its growth rate and s the expected share of mutants in M. It makes mutants as a Poisson process,
and each of them, born tau before treatment, relapses with p_j(tau): the backward equation without drug
for tau days, from p(0) at the start of treatment, so that all later steps are in it. With r(p) the rate
at which one cell of the bulk makes descendants that count by way of the mutants it sheds,

    ln P(no relapse) = n(0) ln(1 - p_bulk(0)) - integral_0^inf n(tau) r(p(tau)) dtau,
    one   r = b sum_j u_j p_j        both   r = b (2 x - x^2),  x = sum_j u_j p_j

(r is the right-hand side of `backward` for the bulk, with p = 0 for the bulk itself). Founders that switch
or migrate to and fro are a bulk of several types, in the proportions of the leading eigenvector. With
p = 1 at the start of treatment it is the law of Iwasa, Nowak & Michor 2006 (Genetics 172:2557) for
resistance at detection; Bozic et al. 2013 (doi:10.7554/eLife.00747) have the two-drug case. The relative
error of ln P is about the share of mutants and 1/(M x share of survivors); more than `MAX_SHARE` is
refused.

Under crowding n(tau) is the deterministic course of the bulk, and all rates are those along it: held in
pieces of a twentieth of a growth time back to where crowding is nothing, at their own values before.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.engines import backward, flow
from jaxevo.engines.backward import GAUSS_NODES, GAUSS_WEIGHTS, POWERS
from jaxevo.engines.base import Problem, Refused
from jaxevo.engines.network import Network
from jaxevo.engines.process import Process, first_extra
from jaxevo.engines.series import Offspring, change, error, reach, series
from jaxevo.exponential import exponential
from jaxevo.state import Array

MAX_SHARE = 0.05  # of mutants among the cells at detection
GROWTH_TIMES = 36.0  # growth rate times days before treatment: e^-36 of the bulk is nothing
ALONE = 1e-6  # of the capacity: so few cells do not crowd each other
PIECE = 0.05  # growth rate times days in which rates under crowding are held
LONGEST_GROWTH = 1e5  # days


class Bulk(NamedTuple):
    """The founder's class when treatment starts."""

    cells: Float[np.ndarray, " type"]  # (1 - s) M, by type
    growth: float  # 1/day
    mutant_share: float  # s


def bulk(problem: Problem, net: Network, law: Offspring) -> Bulk:
    """The bulk of a tumor of `treat_at_cells` cells.

    Args:
        law: of growth without drug, one row.

    Raises:
        Refused: no single growing class of founders makes up nearly all cells.
    """
    size = float(problem.treat_at_cells or 0)
    linear = np.asarray(law.linear)
    group = _group(net, linear, [net.type_of(f.genotype, f.site) for f in problem.founders])
    values, vectors = np.linalg.eig(linear[np.ix_(group, group)].T)
    leading = int(np.argmax(np.real(values)))
    growth, share = float(np.real(values[leading])), np.abs(np.real(vectors[:, leading]))
    if growth <= 0:
        raise Refused(
            f"the founder's class does not grow without treatment (net growth rate {growth:.3g} per "
            f"day), so that no tumor of {size:.3g} cells arises from it; raise the birth rate"
        )
    cells = np.zeros(net.num_types)
    cells[group] = size * share / share.sum()
    mutants = _mutant_share(linear, group, cells / size, growth, size)
    if mutants > MAX_SHARE:
        raise Refused(
            f"no single class dominates at detection: mutants and other descendants of the founder's "
            f"class are expected to be {min(mutants, 1):.0%} of {size:.3g} cells, where at most "
            f"{MAX_SHARE:.0%} is a small part; use clones or cells"
        )
    return Bulk((1 - mutants) * cells, growth, mutants)


def check(problem: Problem) -> None:
    """Refuse what has no limit law.

    Raises:
        Refused: immunity, feedback or immigration during growth.
    """
    model = problem.model
    has_feedback = model.custom is not None and (model.custom.has_feedback or model.custom.drift)
    if has_feedback or model.immune is not None:
        raise Refused(
            "extinction follows a tumor to the size at which it is treated only where its bulk grows "
            "by itself, without immunity or feedback; use clones or cells, or start at day 0"
        )
    if problem.immigration:
        raise Refused(
            "extinction cannot follow immigration during the growth to a size, which has no given "
            "length; use clones, or start at day 0"
        )


def _group(net: Network, linear: np.ndarray, founders: list[int]) -> np.ndarray:
    """The founder's type, and those that it converts to and that convert back."""
    joined = np.eye(net.num_types, dtype=bool)
    joined[list(net.conversions.source), list(net.conversions.target)] = True
    joined &= (linear > 0) | np.eye(net.num_types, dtype=bool)
    for _ in range(max(1, int(net.num_types).bit_length())):
        joined = joined @ joined
    group = np.flatnonzero(joined[founders[0]] & joined[:, founders[0]])
    if not set(founders) <= set(group.tolist()):
        raise Refused(
            "extinction follows a tumor to the size at which it is treated only from founders of one "
            "class (or of classes and sites that convert into each other); use clones or cells"
        )
    return group


def _mutant_share(linear, group, share, growth, size) -> float:
    """Expected cells outside the bulk per cell of M, no clone counted with more than M.

    Mutants leave the bulk at a rate per cell, and after tau days a clone has e^{L tau} 1 cells in the
    mean; growth from one cell takes ln(M)/g days.
    """
    outside = np.setdiff1d(np.arange(len(linear)), group)
    made = share[group] @ linear[np.ix_(group, outside)]
    if not np.any(made > 0):
        return 0.0
    inside = linear[np.ix_(outside, outside)]
    days, nodes = np.log(size) / growth, 400
    small = np.asarray(exponential(jnp.asarray(inside * days / nodes)))
    each, total = np.ones(len(outside)), 0.0
    for k in range(nodes):
        after = np.minimum(small @ each, size)
        weight = np.exp(-growth * days * np.array([k, k + 1]) / nodes)
        total += days / nodes * (weight[0] * (made @ each) + weight[1] * (made @ after)) / 2
        each = after
    return float(total)


class Crowded(NamedTuple):
    """The last part of growth, in which cells crowd each other; pieces in backward order."""

    law: Offspring  # [piece, ...]
    duration: Float[Array, " piece"]  # days
    cells: Float[Array, "piece node type"]  # of the bulk, back in time from the end of the piece


class Grown(NamedTuple):
    """What `log_none` needs of one patient's growth; arrays, so that it can be traced."""

    law: Offspring  # without drug, one row
    cells: Float[Array, " type"]  # of the bulk when treatment starts
    early: Float[Array, " type"]  # of the bulk until when it has grown exponentially
    growth: Float[Array, ""]  # of the bulk until then, 1/day
    rate: Float[Array, ""]  # largest rate of a cell, 1/day
    crowded: Crowded | None  # what came then


def growth_to(found: Bulk, process: Process, law: Offspring, rate: Float[Array, ""]) -> Grown:
    """The growth of a bulk; call under x64.

    Args:
        found: when treatment starts.
        process: one interval of growth.
        law, rate: of one cell alone (`backward`).

    Raises:
        Refused: the tumor does not grow to its size.
    """
    cells, growth = jnp.asarray(found.cells), jnp.asarray(found.growth)
    sites, size = process.model.sites, float(found.cells.sum())
    plain = Grown(law, cells, cells, growth, rate, None)
    if sites.crowding == "none":
        return plain
    capacity = float(np.min(np.asarray(sites.capacity)))
    first = min(1.0, size) if sites.crowding == "gompertz" else ALONE * capacity
    if first >= size or not np.isfinite(capacity):
        return plain
    start, present = cells * (first / size), cells > 0
    far = _of_length(process, jnp.asarray([LONGEST_GROWTH]))
    days = float(
        flow.first_day(
            far, start, None, lambda n, _: jnp.sum(jnp.where(present, n, 0.0)) - size
        ).day
    )
    if not np.isfinite(days):
        raise Refused(
            f"the tumor does not grow to {size:.3g} cells under its capacity; lower treat_at_cells"
        )
    number = int(np.ceil(days * max(found.growth / PIECE, float(rate) / backward.REACH)))
    crowded, last = _crowded(_of_length(process, jnp.full(number, days / number)), start)
    return plain._replace(cells=last, early=start, crowded=crowded)


def _of_length(process: Process, duration) -> Process:
    """The same growth in intervals of these lengths."""
    parts = lambda p: (p.start, p.duration, p.which, p.kept)  # noqa: E731
    number = len(duration)
    values = (
        jnp.cumsum(duration) - duration, duration, jnp.zeros(number, process.which.dtype),
        jnp.ones((number, process.net.num_types)),
    )  # fmt: skip
    return eqx.tree_at(parts, process, values)


@jax.jit
def _crowded(process: Process, start):
    """The pieces, and the bulk when treatment starts."""
    along = flow.course(process, start)
    ends = process.start + process.duration
    days = ends[:, None] - process.duration[:, None] * jnp.asarray(GAUSS_NODES)[None]
    cells = flow.on_days(process, along, days.reshape(-1)).count.reshape(*days.shape, -1)
    found = flow.held(process, start, first_extra(process))
    law = jax.vmap(partial(backward.offspring, process.net))(found)
    present = start > 0
    alone = jnp.where(present[None, None], cells, 0.0)
    pieces = Crowded(law, process.duration, alone)
    return jax.tree.map(lambda x: x[::-1], pieces), jnp.where(present, along.count[-1], 0.0)


@jax.jit
def log_none(grown: Grown, p: Float[Array, "horizon type"]) -> Float[Array, " horizon"]:
    """ln P(no relapse) of a tumor that is treated at its size.

    Args:
        grown: the bulk and its law.
        p: chance of one cell at the start of treatment.
    """
    last = p

    def onward(state):
        tau, p, total = state
        terms, longer = jax.vmap(partial(_walk, grown))(p)
        terms, duration = _lengthened(grown, terms, jnp.min(longer))
        more = jax.vmap(partial(_shed, grown, tau, duration))(terms)
        return tau + duration, jnp.sum(terms, axis=1), total + more

    tau = jnp.zeros_like(grown.growth)
    p, total, _ = jax.vmap(partial(_through, grown))(p)
    _, _, total = jax.lax.while_loop(
        lambda state: grown.growth * state[0] < GROWTH_TIMES, onward, (tau, p, total)
    )
    return jax.vmap(partial(_alive, grown))(last) - total


@jax.jit
def _next(grown, p):
    terms, duration = _lengthened(grown, *_walk(grown, p))
    return jnp.sum(terms, axis=0), duration


def durations(grown: Grown, p: np.ndarray) -> np.ndarray:
    """[step] days of the steps back from the end of exponential growth, as long as p allows."""
    found, tau, now = [], 0.0, jax.jit(_through)(grown, jnp.asarray(p))[0]
    while float(grown.growth) * tau < GROWTH_TIMES:
        now, duration = _next(grown, now)
        found.append(float(duration))
        tau += found[-1]
    return np.array(found)


def log_none_over(
    grown: Grown, p: Float[Array, " type"], steps: Float[Array, " step"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The same for one horizon, over given steps: differentiable in p; and the largest last term."""

    @jax.checkpoint
    def onward(p, tau, duration):
        terms = series(grown.law, p, jnp.zeros_like(p), duration)
        return jnp.sum(terms[::-1], axis=0), _shed(grown, tau, duration, terms), error(terms)

    def body(state, at):
        p, total, worst = state
        p, more, wrong = onward(p, *at)
        return (p, total + more, jnp.maximum(worst, wrong)), None

    tau = jnp.cumsum(steps) - steps
    (_, total, worst), _ = jax.lax.scan(body, _through(grown, p), (tau, steps))
    return _alive(grown, p) - total, worst


def _through(grown: Grown, p: Float[Array, " type"]):
    """Back through growth under crowding: p, -ln P of the mutants shed, and the largest last term."""
    none = jnp.zeros_like(grown.growth)
    if grown.crowded is None:
        return p, none, none

    @jax.checkpoint
    def onward(p, piece: Crowded):
        terms = series(piece.law, p, jnp.zeros_like(p), piece.duration)
        shed = _made(piece.law, terms, piece.cells) @ jnp.asarray(GAUSS_WEIGHTS)
        return jnp.sum(terms[::-1], axis=0), piece.duration * shed, error(terms)

    def body(state, piece):
        p, total, worst = state
        p, more, wrong = onward(p, piece)
        return (p, total + more, jnp.maximum(worst, wrong)), None

    return jax.lax.scan(body, (p, none, none), grown.crowded)[0]


def _unit(grown: Grown):
    """Days of a step that every series reaches over."""
    return backward.REACH / 2 / grown.rate


def _walk(grown: Grown, p):
    """Taylor terms over a unit of days, and how many units the next step may take."""
    terms = series(grown.law, p, jnp.zeros_like(p), _unit(grown))
    return terms, jnp.minimum(reach(terms), 1 / (grown.growth * _unit(grown)))


def _lengthened(grown: Grown, terms, longer):
    """Terms [..., term, type] over so many units, and their days."""
    powers = longer ** jnp.arange(terms.shape[-2], dtype=terms.dtype)
    return terms * powers.reshape(*(1,) * (terms.ndim - 2), -1, 1), longer * _unit(grown)


def _shed(grown: Grown, tau, duration, terms):
    """-ln P of the mutants that the bulk sheds in a step that ends tau days before treatment."""
    nodes, weights = jnp.asarray(GAUSS_NODES), jnp.asarray(GAUSS_WEIGHTS)
    left = jnp.exp(-grown.growth * (tau + duration * nodes))
    cells = left[:, None] * grown.early[None]
    return _made(grown.law, terms, cells) @ (duration * weights)


def _made(law: Offspring, terms, cells: Float[Array, "node type"]) -> Float[Array, " node"]:
    """Mutants of a bulk that will count, per day, at the nodes of a step."""
    alone = jnp.where(cells > 0, 0.0, jnp.asarray(POWERS) @ terms)
    return jnp.sum(jax.vmap(partial(change, law))(alone) * cells, axis=1)


def _alive(grown: Grown, p):
    """ln P(no cell of the bulk has descendants that count)."""
    present = grown.cells > 0
    possible = jnp.where(present, jnp.minimum(p, 1.0), 0.0)
    return jnp.sum(grown.cells * jnp.log1p(-possible))
