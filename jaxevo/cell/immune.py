"""Immunity: effector cells kill ONE tumor cell that they see; suppressors (MDSC) hold them back.

At one site with T living tumor cells, E effector and M suppressor cells (real numbers),

    E' = f (s + B p E T/(g + T)) - m E T - d E              B = 1/(1 + M/M50)
    M' = f_M r T/(g_M + T) - (d_M + k) M                    k = sum_d k_d C_d/(C_d + EC50_d)

    immune death of a cell = v n B E/(1 + T/h)
    v = a (1 - l (1 - x)),  x = 1 - prod_d (1 - x_d C_d/(C_d + EC50_d))

    s     influx of effectors, cells/day         r     recruitment of suppressors, cells/day
    p     recruitment by the tumor, 1/day        M50   suppressors that halve what effectors do, > 0
    g     tumor cells at half recruitment, > 0   g_M   the same for suppressors, > 0
    m     exhaustion, 1/(day cell)               d_M   natural loss of suppressors, 1/day
    d     natural loss of effectors, 1/day       k_d   loss by a drug at its full effect, 1/day
    n     killing, 1/(day effector)              f     infiltration of the site, times what comes to it
    h     tumor cells at half saturation of the killing; infinite: mass action
    a     antigen factor of the cell, 0..1       l     share that its checkpoint ligand brakes, 0..1
    x     blocked share of the ligand, 0..1      x_d   1 for a checkpoint inhibitor, 0 for other drugs
    C     free drug at the site, uM              EC50  concentration of half effect, uM, > 0

A checkpoint inhibitor releases the brake l; no drug brings back a lost antigen. Immune death is no
apoptosis by a drug: neither evaded death signals nor fibroblasts prevent it. With h and M50 infinite, one
class and logistic crowding it is the model of Kuznetsov et al. 1994, doi:10.1007/BF02460644.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Environment, Scalar, Traits


class ImmuneParams(eqx.Module):
    """Effector and suppressor cells of all sites, and what drugs do to them; units as above."""

    influx: Scalar  # s, cells/day
    recruitment: Scalar  # p, 1/day
    recruitment_half: Scalar  # g, cells
    exhaustion: Scalar  # m, 1/(day cell)
    loss_rate: Scalar  # d, 1/day
    kill_rate: Scalar  # n, 1/(day effector)
    kill_half: Scalar  # h, cells, may be infinite
    infiltration: Float[Array, " site"]  # f
    effectors: Float[Array, " site"]  # E at the start, cells
    suppressor_recruitment: Scalar  # r, cells/day
    suppressor_half: Scalar  # g_M, cells
    suppressor_loss_rate: Scalar  # d_M, 1/day
    suppression_half: Scalar  # M50, cells, may be infinite
    suppressor_infiltration: Float[Array, " site"]  # f_M
    suppressors: Float[Array, " site"]  # M at the start, cells
    checkpoint_block: Float[Array, " drug"]  # x_d, 0..1
    checkpoint_ec50: Float[Array, " drug"]  # uM
    removal_rate: Float[Array, " drug"]  # k_d, 1/day
    removal_ec50: Float[Array, " drug"]  # uM


def visibility(params: ImmuneParams, traits: Traits, environment: Environment) -> Scalar:
    """v, the share of the killing that reaches this cell, 0..1."""
    drug = environment.concentration
    released = params.checkpoint_block * drug / (drug + params.checkpoint_ec50)
    braked = traits.ligand_share * jnp.prod(1 - released)
    return traits.antigen_factor * (1 - braked)


def suppressor_removal(params: ImmuneParams, environment: Environment) -> Scalar:
    """k, loss of suppressors by drugs at this site, 1/day."""
    drug = environment.concentration
    return jnp.sum(params.removal_rate * drug / (drug + params.removal_ec50))


def immune_death_rate(
    params: ImmuneParams,
    num_cells: Float[Array, " site"],
    effectors: Float[Array, " site"],
    suppressors: Float[Array, " site"],
) -> Float[Array, " site"]:
    """Deaths per day of a cell that is wholly seen (v = 1), at every site."""
    free = 1 / (1 + suppressors / params.suppression_half)
    return params.kill_rate * free * effectors / (1 + num_cells / params.kill_half)


def change(
    params: ImmuneParams,
    num_cells: Float[Array, " site"],
    effectors: Float[Array, " site"],
    suppressors: Float[Array, " site"],
    removal: Float[Array, " site"],
) -> tuple[Float[Array, " site"], Float[Array, " site"]]:
    """E' and M' at every site, cells/day; `removal` is k, 1/day."""
    p, cells = params, num_cells
    free = 1 / (1 + suppressors / p.suppression_half)
    recruited = p.recruitment * free * effectors * (cells / (p.recruitment_half + cells))
    lost = (p.exhaustion * cells + p.loss_rate) * effectors
    attracted = p.suppressor_recruitment * (cells / (p.suppressor_half + cells))
    return (
        p.infiltration * (p.influx + recruited) - lost,
        p.suppressor_infiltration * attracted - (p.suppressor_loss_rate + removal) * suppressors,
    )


def pace(
    params: ImmuneParams, num_cells: Float[Array, " site"], removal: Float[Array, " site"]
) -> Float[Array, " site"]:
    """How fast E or M can change by itself, 1/day: a step must be short against its inverse."""
    effectors = params.infiltration * params.recruitment + params.loss_rate
    effectors = effectors + params.exhaustion * num_cells
    return jnp.maximum(effectors, params.suppressor_loss_rate + removal)
