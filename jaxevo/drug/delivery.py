"""Delivery: blood -> free concentration at a site. Comes from `plasma`, goes to `transport`.

    C_site' = k (f C_blood - C_site)
    f = perfusion * e^{-x / lambda} * PS / (PS + E),        1/k = 1/k_perfusion + 1/(PS + E)
    lambda = lambda_ref (M_ref / M)^(1/2),                  E = sum_p a_p (V_p / K_p) (1 - I_p)

    perfusion     delivered fraction, >= 0, per drug; small in a poorly perfused core or a sanctuary.
                  It may follow the burden: divided by 1 + N/N_half with N cells at the site, since a
                  large tumor is worse perfused (`perfused`); N_half infinite for none
    k_perfusion   equilibration rate, 1/day, infinite when at once
    x             distance from the vessel through extracellular matrix, um
    lambda        penetration length, um, 100 at M_ref = 500 g/mol unless the study says otherwise;
                  diffusivity is taken as ~ 1/M, so that the length sqrt(D/k) ~ M^(-1/2)
    PS            permeability of the blood-brain barrier, 1/day, infinite where there is none
    E             pumping back into blood by barrier pumps, 1/day: a_p pumps of capacity V_p, K_p
                  (`transport`), far from saturation, I_p the share blocked by inhibitor in blood

Steady penetration falls as e^{-x/lambda}: Thiele-type balance of diffusion and loss
(Minchinton & Tannock 2006, doi:10.1038/nrc1893).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.drug.plasma import CENTRAL, NUM_COMPARTMENTS, PlasmaParams, propagator, rate_matrix
from jaxevo.drug.transport import TransportParams, free_pump_share
from jaxevo.state import Array, Scalar


class DeliveryParams(eqx.Module):
    """How drugs reach ONE site (or all sites, with a leading site axis)."""

    delivered_fraction: Float[Array, "*site drug"]
    equilibration_rate: Float[Array, "*site drug"]  # 1/day, may be infinite
    vessel_distance: Float[Array, "*site"]  # um
    penetration_length: Float[Array, "*site drug"]  # um
    barrier_permeability: Float[Array, "*site drug"]  # 1/day, infinite where there is no barrier
    barrier_pump: Float[Array, "*site pump"]  # pumps at the barrier, multiples of the table's vmax
    half_delivery: Float[Array, "*site"]  # cells that halve perfusion, may be infinite


def perfused(params: DeliveryParams, num_cells: Float[Array, " site"]) -> DeliveryParams:
    """All sites as they are perfused with so many cells."""
    share = 1 / (1 + num_cells / params.half_delivery)
    fraction = params.delivered_fraction * share[:, None]
    return eqx.tree_at(lambda p: p.delivered_fraction, params, fraction)


def delivery(
    params: DeliveryParams, pumps: TransportParams, blood: Float[Array, " drug"]
) -> tuple[Float[Array, " drug"], Float[Array, " drug"]]:
    """Fraction f of the blood level that the site reaches, and the rate k (1/day) of reaching it."""
    matrix = jnp.exp(-params.vessel_distance / params.penetration_length)
    capacity = pumps.vmax / pumps.km * params.barrier_pump[:, None]
    pumped = jnp.sum(capacity * free_pump_share(pumps, blood)[:, None], axis=0)
    has_barrier = jnp.isfinite(params.barrier_permeability)
    permeability = jnp.where(has_barrier, params.barrier_permeability, 1.0)
    crossing = permeability + pumped
    is_closed = crossing <= 0  # nothing crosses, either way
    barrier = jnp.where(has_barrier, permeability / jnp.where(is_closed, 1.0, crossing), 1.0)
    slowness = 1 / params.equilibration_rate + jnp.where(has_barrier, 1 / crossing, 0.0)
    fraction = params.delivered_fraction * matrix * barrier
    return fraction, jnp.where(slowness > 0, 1 / jnp.where(slowness > 0, slowness, 1.0), jnp.inf)


def advance_drug(
    plasma: PlasmaParams,
    fraction: Float[Array, " site"],
    rate: Float[Array, " site"],
    state: Float[Array, " n"],
    infusion_rate: Scalar,
    level: Scalar,
    duration: Scalar,
) -> Float[Array, " n"]:
    """Carry ONE drug, in blood and all sites together, over `duration` days, exactly.

    State: amounts in the four plasma compartments (umol), then the concentration at each site (uM).
    Blood and sites are one linear system, so a site that follows slowly is exact too. A prescribed
    drug has its level (uM) as the input of the sites.
    """
    decay, response = propagator(drug_matrix(plasma, fraction, rate), duration)
    return decay @ state + response @ drug_source(plasma, fraction, rate, infusion_rate, level)


def drug_matrix(
    plasma: PlasmaParams, fraction: Float[Array, " site"], rate: Float[Array, " site"]
) -> Float[Array, "n n"]:
    """The matrix of ONE drug's linear system in blood and all sites, 1/day."""
    n = NUM_COMPARTMENTS + len(rate)
    slow = jnp.where(jnp.isfinite(rate), rate, 0.0)
    to_site = slow * fraction * plasma.unbound_fraction / plasma.central_volume
    sites = jnp.arange(NUM_COMPARTMENTS, n)
    matrix = jnp.zeros((n, n), rate.dtype)
    matrix = matrix.at[:NUM_COMPARTMENTS, :NUM_COMPARTMENTS].set(rate_matrix(plasma))
    matrix = matrix.at[sites, sites].set(-slow)
    return matrix.at[sites, CENTRAL].set(to_site)


def drug_source(
    plasma: PlasmaParams,
    fraction: Float[Array, " site"],
    rate: Float[Array, " site"],
    infusion_rate: Scalar,
    level: Scalar,
) -> Float[Array, " n"]:
    """The constant input of that system: an infusion (umol/day), or the sites' share of a level."""
    n = NUM_COMPARTMENTS + len(rate)
    slow = jnp.where(jnp.isfinite(rate), rate, 0.0)
    source = jnp.zeros(n, rate.dtype).at[CENTRAL].set(infusion_rate)
    return source.at[NUM_COMPARTMENTS:].set(plasma.is_prescribed * slow * fraction * level)


def blood_level(plasma: PlasmaParams, state: Float[Array, " n"], level: Scalar) -> Scalar:
    """Free concentration of ONE drug in blood, uM."""
    from_dose = plasma.unbound_fraction * state[CENTRAL] / plasma.central_volume
    return jnp.where(plasma.is_prescribed > 0, level, from_dose)


def site_level(
    fraction: Float[Array, " site"],
    rate: Float[Array, " site"],
    state: Float[Array, " n"],
    blood: Scalar,
) -> Float[Array, " site"]:
    """Free concentration of ONE drug at every site, uM; at once where the rate is infinite."""
    return jnp.where(jnp.isfinite(rate), state[NUM_COMPARTMENTS:], fraction * blood)


all_sites = jax.vmap(delivery, in_axes=(0, None, None))
