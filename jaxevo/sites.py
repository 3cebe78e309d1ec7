"""Sites: where cells live, and how they crowd each other there.

    crowding, times the birth rate at a site with N cells and room for K:
    none       1
    logistic   max(0, 1 - N/K)
    gompertz   max(0, ln(K/N)/ln(K)), so that one cell alone grows at the full rate

K > 0, in Gompertz's law K > 1; a site without a capacity (K infinite) does not crowd. Fibroblasts
support growth and shield from drug-induced death; both are numbers of the site.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array

CROWDINGS = ("none", "logistic", "gompertz")


class SiteParams(eqx.Module):
    """All sites of a study."""

    crowding: str = eqx.field(static=True)  # "none", "logistic" or "gompertz"
    capacity: Float[Array, " site"]  # cells, may be infinite
    growth_factor: Float[Array, " site"]  # support by fibroblasts, times the birth rate
    shielded_share: Float[Array, " site"]  # share of drug-induced death prevented, 0..1
    migration_rate: Float[Array, "site site"]  # from, to; 1/day, diagonal 0


def crowding_factor(
    params: SiteParams, num_cells: Float[Array, "*tumor site"], log: Callable = jnp.log
) -> Float[Array, "*tumor site"]:
    """Factor on the birth rate at each site, 0..1, from the number of cells there.

    An engine whose dice hang on the last bit brings a `log` that gives the same bits in any batch.
    """
    if params.crowding == "none":
        return jnp.ones_like(num_cells)
    capacity = jnp.broadcast_to(params.capacity, num_cells.shape)
    if params.crowding == "logistic":
        return jnp.maximum(0.0, 1 - num_cells / capacity)
    room = jnp.where(jnp.isfinite(capacity), capacity, 2.0)
    factor = 1 - log(jnp.maximum(num_cells, 1.0)) / log(room)
    return jnp.where(jnp.isfinite(capacity), jnp.maximum(0.0, factor), 1.0)
