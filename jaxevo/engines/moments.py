"""Moments: how mean and covariance of the counts change, by the offspring law of `network`.

Every event happens to one cell of type i at a rate per day and changes the counts by a vector D. With
n_i cells of type i, immigration at a rate a with c cells of type i at a time, and e_i a unit vector,

    mean        n'  = F(n) = sum over events of rate n_i D  +  a c e_i
    covariance  V'  = J V + V J^T + B,   B = sum over events of rate n_i D D^T  +  a c^2 e_i e_i^T

J the Jacobian of F. Where rates do not depend on counts F is linear and both equations are exact
(Athreya & Ney 1972, chapter V); where they do, they are the linear noise approximation, which holds
for large populations (van Kampen 1961, 10.1139/p61-056; Kurtz 1971, 10.2307/3211904). Counts in cells,
time in days.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.engines.network import Edges, Network, Speeds, scattered
from jaxevo.state import Array, Scalar

Counts = Float[Array, " type"]
Square = Float[Array, "type type"]


def change(net: Network, now: Speeds, count: Counts) -> Counts:
    """Expected change of the counts, cells/day, without immigration."""
    flow = _own(net, now) * count
    for edges, values in _flows(net, now):
        flow = flow + _summed(edges.target, values * count[np.array(edges.source, int)], net)
    return flow


def norm(net: Network, now: Speeds) -> Scalar:
    """The norm of the flow of the mean, 1/day: the largest of sum_j |dF_j/dn_i| over the types i."""
    total = jnp.abs(_own(net, now))
    for edges, values in _flows(net, now):
        total = total + _summed(edges.source, jnp.abs(values), net)
    return jnp.max(total)


def _own(net: Network, now: Speeds) -> Counts:
    """dF_i/dn_i, 1/day."""
    leaving = lambda edges, values: _summed(edges.source, values, net)  # noqa: E731
    mutating, asymmetric = (
        leaving(net.mutations, now.mutation),
        leaving(net.asymmetric, now.asymmetric),
    )
    symmetric = leaving(net.symmetric, now.symmetric)
    if net.is_both:
        kept = (1 - asymmetric - symmetric) * (1 - 2 * mutating) - symmetric
    else:
        kept = 1 - mutating - asymmetric - 2 * symmetric
    return now.birth * kept - now.death - leaving(net.conversions, now.conversion)


def _flows(net: Network, now: Speeds) -> tuple[tuple[Edges, Float[Array, " edge"]], ...]:
    """dF_j/dn_i of every edge from i to j, 1/day."""
    of = lambda rate, edges: rate[np.array(edges.source, int)]  # noqa: E731
    mutants = now.birth
    if net.is_both:
        leaving = lambda edges, values: _summed(edges.source, values, net)  # noqa: E731
        changed = leaving(net.asymmetric, now.asymmetric) + leaving(net.symmetric, now.symmetric)
        mutants = 2 * now.birth * (1 - changed)
    return (
        (net.mutations, of(mutants, net.mutations) * now.mutation),
        (net.asymmetric, of(now.birth, net.asymmetric) * now.asymmetric),
        (net.symmetric, 2 * of(now.birth, net.symmetric) * now.symmetric),
        (net.conversions, now.conversion),
    )


def noise(net: Network, now: Speeds, count: Counts) -> Square:
    """B, the covariance that events add, cells^2/day, without immigration."""
    births = now.birth * count
    mutation = scattered(net.mutations, now.mutation, net.num_types)
    asymmetric = scattered(net.asymmetric, now.asymmetric, net.num_types)
    symmetric = scattered(net.symmetric, now.symmetric, net.num_types)
    conversion = scattered(net.conversions, now.conversion, net.num_types)
    renewing = 1 - asymmetric.sum(1) - symmetric.sum(1)
    # one cell appears in j, or two do and one is lost in i, or one goes from i to j
    own = births * symmetric.sum(1) + count * (now.death + conversion.sum(1))
    arriving = births @ (asymmetric + 4 * symmetric) + count @ conversion
    shared = births[:, None] * (2 * symmetric) + count[:, None] * conversion
    if net.is_both:
        daughter = mutation + jnp.diag(1 - mutation.sum(1))
        dividing = births * renewing
        own = own + dividing
        arriving = arriving + 2 * (dividing @ daughter)
        shared = shared + 2 * dividing[:, None] * daughter
        pairs = 2 * daughter.T @ (dividing[:, None] * daughter)
    else:
        own = own + births * (renewing - mutation.sum(1))
        arriving = arriving + births @ mutation
        pairs = jnp.zeros_like(mutation)
    return jnp.diag(own + arriving) + pairs - shared - shared.T


def next_event(net: Network, now: Speeds, q: Counts) -> Counts:
    """E[product of q over the cells that one cell is at its next event]; 0 where nothing happens."""
    leaving = lambda edges, values: _summed(edges.source, values, net)  # noqa: E731

    def reached(edges, values):
        return _summed(edges.source, values * q[np.array(edges.target, int)], net)

    mutating, mutants = leaving(net.mutations, now.mutation), reached(net.mutations, now.mutation)
    changed = leaving(net.asymmetric, now.asymmetric) + leaving(net.symmetric, now.symmetric)
    twice = now.symmetric * q[np.array(net.symmetric.target, int)]
    children = q * reached(net.asymmetric, now.asymmetric) + reached(net.symmetric, twice)
    if net.is_both:
        children = children + (1 - changed) * ((1 - mutating) * q + mutants) ** 2
    else:
        children = children + (1 - changed - mutating) * q**2 + q * mutants
    total = now.birth + now.death + leaving(net.conversions, now.conversion)
    value = now.death + now.birth * children + reached(net.conversions, now.conversion)
    return jnp.where(total > 0, value / jnp.where(total > 0, total, 1.0), 0.0)


def immigration(net: Network, per_day: Float[Array, " source"]) -> tuple[Counts, Counts]:
    """What immigration adds per day to the mean [type] and to the variance [type]."""
    types = np.array([i for i, _ in net.immigrants], int)
    cells = jnp.asarray(np.array([n for _, n in net.immigrants], float), per_day.dtype)
    none = jnp.zeros(net.num_types, per_day.dtype)
    return none.at[types].add(per_day * cells), none.at[types].add(per_day * cells**2)


def thinned(kept: Counts, count: Counts, covariance: Square) -> Square:
    """The covariance after each cell of type i survived with probability kept_i, on its own."""
    binomial = jnp.diag(count * kept * (1 - kept))
    return kept[:, None] * covariance * kept[None, :] + binomial


def stopped_at_size(covariance: Square, direction: Counts, is_counted: Counts) -> Square:
    """Covariance when the number of counted cells first has a given value, to first order.

    A fluctuation d of the counts shifts the moment of reaching the size by -sum(d)/sum(F) days, along
    the course: what is left is P V P^T, P = 1 - F 1^T/(1^T F).
    """
    total = jnp.sum(direction * is_counted)
    project = jnp.eye(len(direction), dtype=direction.dtype)
    project = project - direction[:, None] * is_counted[None, :] / total
    return project @ covariance @ project.T


def _summed(where: tuple[int, ...], values: Float[Array, " edge"], net: Network) -> Counts:
    return jnp.zeros(net.num_types, values.dtype).at[np.array(where, int)].add(values)
