"""Metabolism: drug in the cell -> active drug. Comes from `transport`, goes to `target`.

    loss of the entering form   l = i             (drug)         l = k_act f        (prodrug)
    active drug                 A = c             (drug)         A = k_act f c / (k_el + i)   (prodrug)
    total = free + r free (+ bound to the target, see `target`)

    c      concentration in the cell, uM          f    activation factor of the cell, 0..1
    k_act  activation rate of a prodrug, 1/day    k_el loss rate of the active form, 1/day, > 0
    i      inactivation rate of the cell, 1/day   r    stored per free drug, >= 0

Storage leaves the total as it is. It lowers the free drug of a `trapped` pool; in an `open` pool
transport refills the free drug, so that storage cannot protect (`target` does this arithmetic).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Traits


class MetabolismParams(eqx.Module):
    """What cells do to a drug, for all drugs."""

    is_prodrug: Float[Array, " drug"]  # 1 for a prodrug, else 0
    activation_rate: Float[Array, " drug"]  # 1/day
    active_loss_rate: Float[Array, " drug"]  # 1/day, loss of a prodrug's active form


def loss_rate(params: MetabolismParams, traits: Traits) -> Float[Array, " drug"]:
    """First-order loss of the form that enters the cell, 1/day; `transport` balances it."""
    activation = params.activation_rate * traits.activation_factor
    return jnp.where(params.is_prodrug > 0, activation, traits.inactivation_rate)


def active_drug(
    params: MetabolismParams, traits: Traits, concentration: Float[Array, " drug"]
) -> Float[Array, " drug"]:
    """Active drug in the cell, uM, from the concentration of the form that entered, uM."""
    activation = params.activation_rate * traits.activation_factor
    is_prodrug = params.is_prodrug > 0
    loss = jnp.where(is_prodrug, params.active_loss_rate + traits.inactivation_rate, 1.0)
    return jnp.where(is_prodrug, activation * concentration / loss, concentration)
