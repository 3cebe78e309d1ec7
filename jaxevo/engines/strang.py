"""One step of the tumors of the `clones` engine that have many cells (Strang 1968).

    changes over h/2, births and deaths over h, changes over h/2

*Births and deaths* are exact at held rates (Kendall 1948, doi:10.1214/aoms/1177730285): of n cells
Binomial(n, 1 - alpha) have descendants, A of them; these have A + NegBinomial(A, beta), with

    g = (e^{(b-d)h} - 1)/(b - d),   alpha = d g/(1 + b g),   beta = b g/(1 + b g),

b the births whose daughters are both like their mother, d deaths. *Changes* are all else: a division
with one changed daughter leaves the mother's count and adds Poisson(n p h/2) to the target's;
conversions, symmetric differentiation and divisions with two mutant daughters take Binomial(n,
1 - e^{-c h/2}) cells away and deal them out to their targets. Types are colored so that no change joins
two of one color; colors take turns, in reverse order in the second half, and each turn is exact. So the
step is symmetric and of second order in h. p and immigration are multiplied by tanh(x/2)/(x/2), x = h
times the difference in net growth of the two types (of the type and none), which makes the mean number
of new cells after a step exact to first order in p. Strang 1968, doi:10.1137/0705041.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt32

from jaxevo.engines.network import Edges, Network
from jaxevo.engines.sampling import (
    binomial,
    expm1_64,
    negative_binomial,
    poisson,
    threefry,
    uniform64,
)
from jaxevo.engines.wiring import (
    Context,
    Held,
    Rules,
    edges_of,
    listed_sum,
    padded_lists,
    tree_sum,
    wiring,
)
from jaxevo.state import Array

DRAWS = 1 << 16  # purposes of words of one part of a step; those of single events lie above

Words = tuple[UInt32[jax.Array, " tumor"], UInt32[jax.Array, " tumor"]]
Block = Float[Array, "origin type tumor"]


def drawn(
    draw: Callable,
    key: Words,
    names: tuple[np.ndarray, int | UInt32[Array, ""]],
    mean: Float[Array, "row tumor"],
    *params: Float[Array, "row tumor"],
) -> Float[Array, "row tumor"]:
    """Counts, row by row: rows where nothing can be drawn cost nothing, others what their law needs.

    Args:
        draw: (uniform, mean, *params) -> counts.
        key: of every tumor.
        names: of every row, and the purpose: the counters of the words.
        mean: where it is 0, the count is.
        params: of the law.
    """
    elements, purpose = names
    purpose = jnp.asarray(purpose, jnp.uint32)

    def row(given):
        element, mean, *params = given

        def some():
            spread = lambda x: jnp.broadcast_to(x, key[0].shape)  # noqa: E731
            words = threefry(key, (spread(element), spread(purpose)))
            return draw(uniform64(words), mean, *params)

        return jax.lax.cond(jnp.any(mean > 0), some, lambda: jnp.zeros_like(mean))

    return jax.lax.map(row, (jnp.asarray(elements.astype(np.uint32)), mean, *params))


class Moment(NamedTuple):
    """A block in the middle of a step."""

    count: Block
    arrived: Block | None  # cells that have come to each clone, if there is a lineage
    imported: Float[Array, " tumor"]
    deaths: Float[Array, " tumor"]

    def plus(self, at: tuple, new) -> "Moment":
        """With cells added at some rows."""
        arrived = self.arrived
        return self._replace(
            count=jnp.asarray(self.count).at[at].add(new),
            arrived=None if arrived is None else jnp.asarray(arrived).at[at].add(new),
        )


class Turn(NamedTuple):
    """What every part of a step knows."""

    rates: Held
    now: Context
    length: Float[Array, " tumor"]  # of the step
    net_growth: Float[Array, "type tumor"]  # times the length
    key: Words
    rules: Rules


def _births_deaths(moment: Moment, draws: Array, turn: Turn) -> Moment:
    """Every type on its own, exactly; also the expected deaths of every tumor."""
    count, rates, length, net = moment.count, turn.rates, turn.length, turn.rules.net
    inside, num_origins = net.num_inside, count.shape[0]
    shape = (num_origins * inside, count.shape[2])
    spread = lambda x: jnp.concatenate([x[:inside]] * num_origins)  # noqa: E731
    num = count[:, :inside].reshape(shape)
    y = (rates.plain[:inside] - rates.death[:inside]) * length[None, :]
    grown = expm1_64(y)
    g = length[None, :] * jnp.where(y == 0, 1.0, grown / jnp.where(y == 0, 1.0, y))
    born, died = rates.plain[:inside] * g, rates.death[:inside] * g
    scale = 1 / (1 + born)
    elements = (np.arange(num_origins)[:, None] * net.num_types + np.arange(inside)).ravel()
    chances = (spread(died * scale), spread((1 + grown) * scale))
    kept = num - drawn(binomial, turn.key, (elements, draws), num, *chances)
    new = kept + drawn(negative_binomial, turn.key, (elements, draws + 1), kept, spread(born))
    expected = spread(rates.death[:inside] * length[None, :]) * (0.5 * (num + new))
    deaths = tree_sum(jnp.maximum(expected, num - new))
    new = new.reshape(num_origins, inside, shape[1])
    count = jnp.concatenate([new, count[:, inside:]], axis=1)
    return moment._replace(count=count, deaths=moment.deaths + deaths)


def _imports(moment: Moment, draws: Array, turn: Turn) -> Moment:
    """Immigrants of half a step, who come at a constant rate."""
    half = 0.5 * turn.length
    types = np.array([to for to, _ in turn.rules.net.immigrants])
    mean = turn.now.process.immigration[turn.now.law].T * half[None, :]
    mean = mean * _mean_factor(turn.net_growth[types])
    events = drawn(poisson, turn.key, (np.arange(len(mean)), draws), mean)
    for source, (to, cells) in enumerate(turn.rules.net.immigrants):
        new = events[source] * cells
        moment = moment.plus((-1, to), new)
        moment = moment._replace(imported=moment.imported + new)
    return moment


def _mean_factor(x: Float[Array, "row tumor"]) -> Float[Array, "row tumor"]:
    """tanh(x/2)/(x/2): what half the cells at each end of a step must be times for the right mean."""
    square = 0.25 * x * x
    return (15 + square) / (15 + 6 * square)


def _produce(moment: Moment, draws: Array, turn: Turn, founds: bool, color: int) -> Moment:
    """Divisions with one changed daughter in half a step, of all mothers of one color."""
    net, half = turn.rules.net, 0.5 * turn.length[None, :]
    count, edges = moment.count, net.mutations if founds else net.asymmetric
    rate = turn.rates.mutation if founds else turn.rates.asymmetric
    source, target = edges_of(edges)
    (chosen,) = np.nonzero(wiring(net).color[source] == color)
    targets, place = np.unique(target[chosen], return_inverse=True)
    lists = padded_lists(place, range(len(chosen)), len(targets))
    growth = turn.net_growth[source[chosen]] - turn.net_growth[target[chosen]]
    flow = rate[chosen] * half * _mean_factor(growth)
    mothers = [jnp.sum(count, axis=0)] if founds else list(count)  # a mutant begins a new clone
    mean = jnp.concatenate([listed_sum(cells[source[chosen]] * flow, lists) for cells in mothers])
    origin = np.array([count.shape[0] - 1]) if founds else np.arange(count.shape[0])
    elements = (origin[:, None] * net.num_types + targets).ravel()
    new = drawn(poisson, turn.key, (elements, draws), mean)
    return moment.plus((elements // net.num_types, elements % net.num_types), new)


def _leave(moment: Moment, draws: Array, turn: Turn, color: int) -> Moment:
    """Cells of one color that turn into something else in half a step: how many, and into what."""
    net, lists, rates = turn.rules.net, wiring(turn.rules.net), turn.rates
    (sources,) = np.nonzero(_leaves(net) & (lists.color == color))
    num_origins = moment.count.shape[0]
    origin, mother = (
        x.ravel() for x in np.meshgrid(np.arange(num_origins), sources, indexing="ij")
    )
    elements = origin * net.num_types + mother
    ways = [
        _ways(net.symmetric, rates.symmetric, lists.symmetric[mother], 2),
        _ways(net.conversions, rates.conversion, lists.conversions[mother], 1),
    ]
    rate, target, gain = (xp.concatenate(x) for xp, x in
                          zip((jnp, np, np), zip(*ways, strict=True), strict=True))  # fmt: skip
    pairs = rates.pairs[mother]
    upto = _from_the_end(rate, pairs)
    gone = expm1_64(-upto[0] * (0.5 * turn.length[None, :]))
    num = moment.count[origin, mother]
    rest = drawn(binomial, turn.key, (elements, draws), num, -gone, 1 + gone)
    moment = moment._replace(count=jnp.asarray(moment.count).at[origin, mother].add(-rest))
    moment, rest = _deal(
        moment, rest, (rate, upto, target, gain), (origin, elements, draws + 1), turn.key
    )
    if net.is_both:  # the rest divides into two mutants
        edges = lists.mutations[mother]
        share, target, gain = _ways(net.mutations, rates.share, edges, 1)
        later = _from_the_end(share, jnp.zeros_like(pairs))
        last = np.full_like(origin, num_origins - 1)
        many = (last, elements, draws + 1 + len(rate))
        moment, _ = _deal(moment, 2 * rest, (share, later, target, gain), many, turn.key)
    return moment


def _leaves(net: Network) -> np.ndarray:
    """Which types turn into something else, [type]."""
    lists = wiring(net)
    out = (np.concatenate([lists.symmetric, lists.conversions], axis=1) >= 0).any(axis=1)
    return np.asarray(out) | ((lists.mutations >= 0).any(axis=1) & net.is_both)


def _ways(edges: Edges, rate: Float[Array, "edge tumor"], listed: np.ndarray, gain: int):
    """Rates [slot, row, tumor], targets [slot, row] and cells gained [slot] of listed edges."""
    _, target = edges_of(edges)
    found = [jnp.zeros((0, len(listed), rate.shape[1]))]
    found += [
        (rate[np.maximum(edge, 0)] * jnp.asarray((edge >= 0).astype(float))[:, None])[None]
        for edge in listed.T
    ]
    to = target[np.maximum(listed.T, 0)] if len(target) else np.zeros((0, len(listed)), int)
    return jnp.concatenate(found), to, np.full(len(to), float(gain))


def _from_the_end(rates: Float[Array, "slot row tumor"], last: Float[Array, "row tumor"]):
    """Sums from each rate to the last, [slot + 1, row, tumor]."""
    sums = [last]
    for rate in rates[::-1]:
        sums.insert(0, sums[0] + rate)
    return jnp.stack(sums)


def _deal(moment: Moment, num, ways: tuple, rows: tuple, key: Words):
    """Deal cells out to their ways, one after the other; also what is left."""
    rate, upto, target, gain = ways
    origin, elements, draws = rows
    if len(rate) == 0:
        return moment, num

    def one(k, carry):
        moment, num = carry
        is_way = upto[k] > 0
        scale = 1 / jnp.where(is_way, upto[k], 1.0)
        later = jnp.where(is_way, upto[k + 1] * scale, 1.0)
        names = (elements, draws + k.astype(jnp.uint32))
        here = drawn(binomial, key, names, num, rate[k] * scale, later)
        to = (jnp.asarray(origin), jnp.asarray(target)[k])
        return moment.plus(to, here * jnp.asarray(gain)[k]), num - here

    return jax.lax.fori_loop(0, len(rate), one, (moment, num))


@lru_cache(maxsize=64)
def _parts(net: Network) -> tuple[Callable, ...]:
    """What happens in half a step, in its order; births and deaths come last."""
    of_color = wiring(net).color
    found: list[Callable] = [_imports] if net.immigrants else []
    for color in range(int(of_color.max()) + 1):
        found += [
            partial(_produce, founds=founds, color=color)
            for founds, edges in ((True, net.mutations), (False, net.asymmetric))
            if len(edges) and (of_color[np.array(edges.source)] == color).any()
        ]
        if (_leaves(net) & (of_color == color)).any():
            found.append(partial(_leave, color=color))
    return (*found, _births_deaths)


def strang(moment: Moment, turn: Turn) -> Moment:
    """Half a step of changes, births and deaths, the other half in reverse order."""
    parts = _parts(turn.rules.net)
    order = jnp.asarray([*range(len(parts)), *range(len(parts) - 1)[::-1]])

    def one(k, moment: Moment) -> Moment:
        draws = (k.astype(jnp.uint32) + jnp.uint32(1)) * jnp.uint32(DRAWS)
        works = [partial(part, turn=turn) for part in parts]
        return jax.lax.switch(order[k], works, moment, draws)

    return jax.lax.fori_loop(0, len(order), one, moment)
