"""Switching: epigenetic change of ONE cell, at rates per day, both ways. No dice: a list of rates.

    on  = r_on  + sum_d i_on,d  C_d / (C_d + EC50_d)          n -> n + 1
    off = r_off + sum_d i_off,d C_d / (C_d + EC50_d)          n -> n - 1

    r     rates without drug, 1/day       C     free drug at the site, uM
    i     added at full induction, 1/day  EC50  concentration of half induction, uM

Without drug the stationary share of cells that are on is r_on/(r_on + r_off).
"""

import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.genotype import Genome
from jaxevo.state import Array, Environment, Traits


def switching_rate(
    genome: Genome, traits: Traits, environment: Environment
) -> Float[Array, " switch"]:
    """Rate of each of `genome.switches`, 1/day."""
    rates = []
    for j, change in genome.switches:
        base = genome.on_rate[j] if change > 0 else genome.off_rate[j]
        added = genome.induced_on_rate[j] if change > 0 else genome.induced_off_rate[j]
        drug = environment.concentration
        total = base + jnp.sum(added * drug / (drug + genome.induction_ec50[j]))
        level = traits.levels[j]
        possible = level < genome.max_levels[j] if change > 0 else level > 0
        rates.append(jnp.where(possible, total, 0.0))
    return jnp.stack(rates) if rates else jnp.zeros(0, traits.levels.dtype)
