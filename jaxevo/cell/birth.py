"""Birth: how often ONE cell divides.

All factors multiply:

    birth = b w q g k prod_t (1 - emax_t E_t)

    b     birth rate, 1/day                 w   fitness cost, birth factor of the cell, 0..1
    q     division factor (quiescence)      g   growth support at the site
    k     crowding factor at the site       E   effect of lost output on division, 0..1
    emax  share of births lost at full effect, 0..1
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Environment, Scalar, Traits


class BirthParams(eqx.Module):
    """Division of an unaltered cell, and what lost output does to it, per target."""

    birth_rate: Scalar  # 1/day
    max_inhibition: Float[Array, " target"]  # emax, 0..1
    birth_half_odds: Float[Array, " target"]  # odds of lost output at half effect
    birth_hill: Float[Array, " target"]


def birth_rate(
    params: BirthParams,
    traits: Traits,
    environment: Environment,
    effect: Float[Array, " target"],
) -> Scalar:
    """Divisions per day."""
    uninhibited = (
        params.birth_rate
        * traits.birth_factor
        * traits.division_factor
        * environment.growth_factor
        * environment.crowding_factor
    )
    return uninhibited * jnp.prod(1 - params.max_inhibition * effect)
