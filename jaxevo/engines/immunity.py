"""Immunity in the engines: effector and suppressor cells are extra variables that follow the counts.

`cell.immune` has the equations. The extra variables of a tumor are the effectors of all sites, then the
suppressors of all sites. What concentrations decide (visibility of every type, removal of suppressors)
is tabulated beside the rates (`network.Speeds`); what counts decide (the killing) is added to the death
rates where an engine asks for them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.cell import immune
from jaxevo.cell.immune import ImmuneParams
from jaxevo.engines.base import Variable
from jaxevo.engines.network import Network, Speeds
from jaxevo.model import Model
from jaxevo.state import Array, Scalar

STEPS = 8  # of half an interval, for engines that hold the counts
Counts = Float[Array, " type"]
Extra = Float[Array, " variable"]


def start(model: Model) -> np.ndarray:
    """[variable] extra variables at the start, of immunity or of a custom law; none without either."""
    if model.immune is not None:
        own = model.immune
        return np.concatenate([np.asarray(own.effectors), np.asarray(own.suppressors)]).astype(
            float
        )
    return np.zeros(0) if model.custom is None else np.asarray(model.custom.start, float)


def parts(extra: Float[Array, "variable *tumor"]) -> tuple[Array, Array]:
    """Effectors and suppressors, [site, ...]."""
    num_sites = extra.shape[0] // 2
    return extra[:num_sites], extra[num_sites:]


def cells_at(net: Network, count: Counts) -> Float[Array, " site"]:
    """Living cells of ONE tumor at every site."""
    return jnp.sum(count[: net.num_inside].reshape(-1, net.num_sites), axis=0)


def attacked(
    found: Speeds, net: Network, params: ImmuneParams | None, count: Counts, extra: Extra
) -> Speeds:
    """The same with the killing added to the death rates of ONE tumor."""
    if params is None or found.visibility is None:
        return found
    rate = immune.immune_death_rate(params, cells_at(net, count), *parts(extra))
    by_type = rate[np.arange(net.num_types) % net.num_sites]
    return eqx.tree_at(lambda s: s.death, found, found.death + found.visibility * by_type)


def drift(
    params: ImmuneParams,
    num_cells: Float[Array, " site"],
    extra: Extra,
    removal: Float[Array, " site"],
) -> Extra:
    """Change of the extra variables of ONE tumor per day; `removal` of suppressors, 1/day."""
    return jnp.concatenate(immune.change(params, num_cells, *parts(extra), removal))


def moved(
    params: ImmuneParams,
    num_cells: Float[Array, " site"],
    extra: Extra,
    removal: Float[Array, " site"],
    days: Scalar,
) -> Extra:
    """The extra variables of ONE tumor after some days at constant counts (Runge-Kutta, order 4)."""
    step = days / STEPS
    slope = lambda x: drift(params, num_cells, x, removal)  # noqa: E731

    def onward(_, x):
        k1 = slope(x)
        k2 = slope(x + 0.5 * step * k1)
        k3 = slope(x + 0.5 * step * k2)
        k4 = slope(x + step * k3)
        return x + step * (1 / 6) * (k1 + 2 * k2 + 2 * k3 + k4)

    return jax.lax.fori_loop(0, STEPS, onward, extra)


def variables(extra: np.ndarray, num_sites: int) -> dict[str, Variable]:
    """What a trajectory says of them, from [arm, patient, replicate, time, variable]."""
    axes = ("arm", "patient", "replicate", "time", "site")
    return {
        "effector_cells": Variable(axes, extra[..., :num_sites], "cells", "effector cells by site"),
        "suppressor_cells": Variable(
            axes, extra[..., num_sites:], "cells", "suppressor cells (MDSC) by site"
        ),
    }
