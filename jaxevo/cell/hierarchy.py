"""Hierarchy: a stem-like cell differentiates at ONE division. No dice: two lists of probabilities.

    stem -> stem + differentiated             with a        (asymmetric)
    stem -> differentiated + differentiated   with v        (symmetric)

per division, level n -> n + 1 <= N; what is left is self-renewal. A division that differentiates makes
no mutation besides: at most one step per division.
"""

import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.genotype import Genome
from jaxevo.state import Array, Traits


def differentiation_probability(
    genome: Genome, traits: Traits
) -> tuple[Float[Array, " differentiation"], Float[Array, " differentiation"]]:
    """Probabilities per division of each of `genome.differentiations`: asymmetric, symmetric."""
    asymmetric, symmetric = [], []
    for j, _ in genome.differentiations:
        possible = traits.levels[j] < genome.max_levels[j]
        asymmetric.append(jnp.where(possible, genome.asymmetric_probability[j], 0.0))
        symmetric.append(jnp.where(possible, genome.symmetric_probability[j], 0.0))
    if not asymmetric:
        nothing = jnp.zeros(0, traits.levels.dtype)
        return nothing, nothing
    return jnp.stack(asymmetric), jnp.stack(symmetric)
