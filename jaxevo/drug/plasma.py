"""Plasma: dose -> free concentration in blood. Comes from `schedule`, goes to `delivery`.

One to three compartments with first-order absorption, linear in the amounts y (umol):

    gut'     = -k_a gut
    central' =  k_a gut + infusion - (CL + Q_1 + Q_2)/V central + Q_1/V_1 p_1 + Q_2/V_2 p_2
    p_i'     =  Q_i/V central - Q_i/V_i p_i
    C        =  f_u central / V

    k_a   absorption rate, 1/day, > 0          CL   clearance, L/day, >= 0
    V     central volume, L, > 0               Q_i  inter-compartmental clearance, L/day, >= 0
    V_i   peripheral volumes, L, > 0           f_u  unbound fraction, 0..1

A linear system with constant input u over an interval h has the exact solution
y(h) = e^{Kh} y(0) + (integral_0^h e^{Ks} ds) u; both matrices stand in one matrix exponential of
[[K, I], [0, 0]] h (Van Loan 1978, doi:10.1109/TAC.1978.1101743).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.exponential import exponential
from jaxevo.state import Array, Scalar

GUT, CENTRAL, PERIPHERAL = 0, 1, (2, 3)
NUM_COMPARTMENTS = 4


class PlasmaParams(eqx.Module):
    """Pharmacokinetics of ONE drug (or of all, with a leading drug axis)."""

    is_prescribed: Float[Array, "*drug"]  # 1 where the schedule states the concentration itself
    absorption_rate: Float[Array, "*drug"]  # 1/day
    clearance: Float[Array, "*drug"]  # L/day
    central_volume: Float[Array, "*drug"]  # L
    peripheral_clearance: Float[Array, "*drug 2"]  # L/day, 0 where there is no such compartment
    peripheral_volume: Float[Array, "*drug 2"]  # L
    unbound_fraction: Float[Array, "*drug"]


def rate_matrix(params: PlasmaParams) -> Float[Array, "compartment compartment"]:
    """K of y' = K y + input, for gut, central and two peripheral amounts; 1/day."""
    matrix = jnp.zeros((NUM_COMPARTMENTS, NUM_COMPARTMENTS), params.clearance.dtype)
    matrix = matrix.at[GUT, GUT].set(-params.absorption_rate)
    matrix = matrix.at[CENTRAL, GUT].set(params.absorption_rate)
    out = (params.clearance + jnp.sum(params.peripheral_clearance)) / params.central_volume
    matrix = matrix.at[CENTRAL, CENTRAL].set(-out)
    for i, row in enumerate(PERIPHERAL):
        to_row = params.peripheral_clearance[i] / params.central_volume
        back = params.peripheral_clearance[i] / params.peripheral_volume[i]
        matrix = matrix.at[row, CENTRAL].set(to_row)
        matrix = matrix.at[row, row].set(-back)
        matrix = matrix.at[CENTRAL, row].set(back)
    return matrix


def propagator(
    matrix: Float[Array, "n n"], duration: Scalar
) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """e^{Kh} and integral_0^h e^{Ks} ds of a linear system with constant input; h in days."""
    n = matrix.shape[0]
    top = jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1)
    block = jnp.concatenate([top, jnp.zeros_like(top)], axis=0) * duration
    both = exponential(block)
    return both[:n, :n], both[:n, n:]
