"""Transport: site -> inside of the cell. Comes from `delivery`, goes to `metabolism`.

Uptake, leakage, pumping and loss settle in minutes, so the intracellular concentration c_j of drug j
is the balance

    k_in,j (1 - s_j + s_j u_j) C_j = (k_out,j + l_j) c_j + sum_p a_p (1 - I_p) V_pj c_j / K_pj / (1 + x_p)
    x_p = sum_j c_j / K_pj,        1 - I_p = prod_j 1 / (1 + C_j / Ki_pj)

    C_j    free concentration outside, uM           u_j    influx factor of the cell, 0..1
    s_j    share of influx that needs the carrier   k_in, k_out  exchange rates, 1/day, k_out > 0
    l_j    loss by metabolism, 1/day                a_p    pumps in the membrane, >= 0
    V_pj   pump capacity, uM/day                    K_pj   Michaelis constant, uM, > 0
    I_p    share of pumps blocked by inhibitor      x_p    load of a pump: occupied per free, >= 0

All substrates of a pump compete for it, so it saturates. In the loads alone the balance is x = T(x),
and each T_p rises with every load and is concave (a sum of harmonic means of 1 + x_q and constants).
So it has one solution, and Newton's iteration from the loads without any pumping, T(infinity), falls
to it and never below; far above it halves the load, near it doubles the correct digits. With one
unsaturated pump and k_in = k_out the balance is C_in/C_out = 1/(1 + k_p (1 - I)/k_out)
(Shen et al. 2008, doi:10.1124/jpet.107.127704).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Environment, Traits

NEWTON_STEPS = 16  # full precision for loads and pumping up to 1e8 times the leak


class TransportParams(eqx.Module):
    """Exchange across the cell membrane, for all drugs and pumps."""

    influx_rate: Float[Array, " drug"]  # 1/day
    efflux_rate: Float[Array, " drug"]  # 1/day
    carrier_share: Float[Array, " drug"]  # share of influx through a transporter, 0..1
    baseline_pump: Float[Array, " pump"]  # pumps of an unaltered cell, multiples of vmax
    vmax: Float[Array, "pump drug"]  # uM/day, 0 where the drug is no substrate
    km: Float[Array, "pump drug"]  # uM
    inhibition_ki: Float[Array, "pump drug"]  # uM, infinite where the drug does not inhibit


def free_pump_share(
    params: TransportParams, inhibitor: Float[Array, " drug"]
) -> Float[Array, " pump"]:
    """1 - I_p: share of each pump that no inhibitor blocks, at free concentrations in uM."""
    return jnp.prod(1 / (1 + inhibitor[None, :] / params.inhibition_ki), axis=1)


def intracellular(
    params: TransportParams,
    traits: Traits,
    environment: Environment,
    loss_rate: Float[Array, " drug"],
) -> Float[Array, " drug"]:
    """Concentration in the cell, uM, that balances influx with efflux, pumping and loss (1/day)."""
    outside = environment.concentration
    carrier = 1 - params.carrier_share + params.carrier_share * traits.influx_factor
    influx = params.influx_rate * carrier * outside
    amount = (params.baseline_pump + traits.pump_amount) * free_pump_share(params, outside)
    return balance(params, amount, influx, params.efflux_rate + loss_rate)


def balance(
    params: TransportParams,
    amount: Float[Array, " pump"],
    influx: Float[Array, " drug"],
    leak: Float[Array, " drug"],
) -> Float[Array, " drug"]:
    """Concentration, uM, at which influx (uM/day) equals leak (1/day) and what unblocked pumps take."""
    affinity = jnp.where(params.vmax > 0, 1 / params.km, 0.0)  # of substrates, 1/uM
    clearance = amount[:, None] * params.vmax * affinity  # 1/day, of pumps without load
    load = pump_load(influx, leak, affinity, clearance)
    return influx / (leak + jnp.sum(clearance / (1 + load)[:, None], axis=0))


def pump_load(
    influx: Float[Array, " drug"],
    leak: Float[Array, " drug"],
    affinity: Float[Array, "pump drug"],
    clearance: Float[Array, "pump drug"],
) -> Float[Array, " pump"]:
    """Occupied per free pump, for every pump, where influx (uM/day) balances all exits (1/day).

    Newton's iteration ends where a step changes no load by more than the root of the rounding error, so
    that the next would change nothing; derivatives are those of the balance itself.
    """

    def exits(load):
        free = 1 / (1 + load)
        return free, leak + jnp.sum(clearance * free[:, None], axis=0)

    def excess(load):
        drawn = affinity * (influx / exits(load)[1])[None, :]
        return load - jnp.sum(drawn, axis=1)

    def descend(load):
        free, exit_rate = exits(load)
        drawn = affinity * (influx / exit_rate)[None, :]
        # exit that a unit of load blocks
        yielding = clearance * (free**2)[:, None] / exit_rate[None, :]
        slope = jnp.eye(len(load), dtype=load.dtype) - jnp.sum(
            drawn[:, None, :] * yielding[None, :, :], axis=2
        )
        return load - _solve(slope, load - jnp.sum(drawn, axis=1))

    def solve(_, start):
        small = float(jnp.finfo(start.dtype).eps) ** 0.5 / 4

        def goes_on(carry):
            step, load, before = carry
            return (step < NEWTON_STEPS) & jnp.any(jnp.abs(load - before) > small * load)

        def once(carry):
            step, load, _ = carry
            return step + 1, descend(load), load

        return jax.lax.while_loop(goes_on, once, (1, descend(start), start))[1]

    def linear(change, right):  # by the inverse, so that it is linear in `right` to JAX as well
        unit = jnp.eye(len(right), dtype=right.dtype)
        matrix = jax.vmap(change, out_axes=1)(unit)
        inverse = jax.vmap(_solve, (None, 1), 1)(matrix, unit)
        return jnp.sum(inverse * right[None, :], axis=1)

    start = jnp.sum(affinity * (influx / leak)[None, :], axis=1)
    return jax.lax.custom_root(excess, start, solve, linear)


def _solve(matrix: Float[Array, "n n"], right: Float[Array, " n"]) -> Float[Array, " n"]:
    """Gauss-Jordan in a fixed order; an M-matrix, which `pump_load` has, needs no pivots."""
    rows = jnp.concatenate([matrix, right[:, None]], axis=1)
    for k in range(len(right)):
        pivot = rows[k] / rows[k, k]
        rows = (rows - rows[:, k : k + 1] * pivot[None, :]).at[k].set(pivot)
    return rows[:, -1]
