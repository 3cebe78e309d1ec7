"""Mutation and amplification: what may change at ONE division. No dice: a list of probabilities.

    mutation       n -> n + 1 with u m
    amplification  0 -> 1 with u_0 m,  n -> n + 1 with u m,  n -> n - 1 with l m   (copies)

    u_0, u, l  probability per division      m  genetic instability of the cell times that of the study

One division makes at most one step. By default one of the two daughters may be the mutant; with
`mutating_daughters = "both"` each daughter draws on its own (Kimmel & Axelrod 1990, Genetics 125:633,
count amplification that way).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.genotype import Genome
from jaxevo.state import Array, Scalar, Traits

MUTATING_DAUGHTERS = ("one", "both")


class MutationParams(eqx.Module):
    """Conventions of mutation in a study."""

    mutating_daughters: str = eqx.field(static=True)  # "one" or "both"
    genetic_instability: Scalar  # times every probability, of every cell


def mutation_probability(
    params: MutationParams, genome: Genome, traits: Traits
) -> Float[Array, " mutation"]:
    """Probability per division (per daughter if both may mutate) of each of `genome.mutations`."""
    factor = params.genetic_instability * traits.mutation_factor
    probabilities = []
    for j, change in genome.mutations:
        level = traits.levels[j]
        gain = jnp.where(level > 0, genome.gain_probability[j], genome.first_gain_probability[j])
        gain = jnp.where(level < genome.max_levels[j], gain, 0.0)
        loss = jnp.where(level > 0, genome.loss_probability[j], 0.0)
        probabilities.append(factor * (gain if change > 0 else loss))
    return jnp.stack(probabilities) if probabilities else jnp.zeros(0, factor.dtype)
