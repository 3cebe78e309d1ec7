"""Apoptosis: death signal -> drug-induced death rate. Last station of the journey.

    death = (1 - shield) sum_t q_t (1 - v_t) dmax_t E_t

    dmax   death rate at full effect, 1/day      E   effect on the target (`signaling`), 0..1
    v      evaded share of the cell where the drug kills through apoptosis, else 0
    q      division factor of the cell where the drug kills dividing cells only, else 1
    shield share of drug-induced death that fibroblasts at the site prevent, 0..1

Hazards of different targets add: they are independent ways to die.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Environment, Scalar, Traits


class ApoptosisParams(eqx.Module):
    """Death by lost output, for all targets."""

    max_death_rate: Float[Array, " target"]  # 1/day
    death_half_odds: Float[Array, " target"]  # odds of lost output at half effect
    death_hill: Float[Array, " target"]
    is_apoptotic: Float[Array, " target"]  # 1 where death goes through apoptosis
    is_cycle_specific: Float[Array, " target"]  # 1 where only dividing cells die


def drug_death_rate(
    params: ApoptosisParams,
    traits: Traits,
    environment: Environment,
    effect: Float[Array, " target"],
) -> Scalar:
    """Death rate that the drugs add, 1/day."""
    heard = jnp.where(params.is_apoptotic > 0, 1 - traits.evaded_share, 1.0)
    dividing = jnp.where(params.is_cycle_specific > 0, traits.division_factor, 1.0)
    hazards = params.max_death_rate * heard * dividing * effect
    return (1 - environment.shielded_share) * jnp.sum(hazards)
