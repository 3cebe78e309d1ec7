"""Damage: DNA damage and its repair, radiation. Comes from `signaling`, goes to `apoptosis`.

    drug        odds of lost output (1 - S)/S are the damage per exposure; repair divides them by rho,
                S' = rho S / (1 - S + rho S), where the target is DNA; other targets pass unchanged
    radiation   survival of one fraction of D Gy = exp(-(g/rho) (alpha D + beta D^2))

    S      pathway output, here the share of intact DNA, 0..1
    rho    repair factor of the cell, >= 1
    g      radiosensitivity of a quiescent cell relative to a cycling one, >= 0
    alpha  1/Gy, >= 0         beta  1/Gy^2, >= 0

Linear-quadratic law: Fowler 1989, doi:10.1259/0007-1285-62-740-679.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Scalar, Traits


class DamageParams(eqx.Module):
    """Which targets are DNA, and how cells answer radiation."""

    is_dna: Float[Array, " target"]  # 1 where binding damages DNA
    alpha: Scalar  # 1/Gy
    beta: Scalar  # 1/Gy^2


def repaired_output(
    params: DamageParams, traits: Traits, output: Float[Array, "target action"]
) -> Float[Array, "target action"]:
    """Output after repair, 0..1: the odds of damage are divided by the cell's repair factor."""
    rho = jnp.where(params.is_dna > 0, traits.repair_factor, 1.0)[:, None]
    intact = rho * output
    return intact / (1 - output + intact)


def radiation_survival(params: DamageParams, traits: Traits, dose: Scalar) -> Scalar:
    """Probability that a cell survives one fraction of `dose` Gy."""
    exponent = params.alpha * dose + params.beta * dose**2
    return jnp.exp(-exponent * traits.radiation_factor / traits.repair_factor)
