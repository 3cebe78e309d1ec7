"""Target: active drug -> occupied target. Comes from `metabolism`, goes to `signaling`.

    open pool      F = A
    trapped pool   A = F + r F + B F / (F + Kd),   that is   k F^2 + (k Kd + B - A) F - A Kd = 0,  k = 1 + r
    odds           theta_td = F_d / (Kd_td * fold_d): bound per free target

    A     active drug, uM: what transport fixes (open: the free drug, trapped: the total)
    F     free active drug, uM                    Kd    dissociation constant, uM, >= 0
    B     target in the cell, uM: normal amount times copies; 0 where the target is lost
    r     stored per free drug (`metabolism`)     fold  of the cell's alterations, > 0

The quadratic is Morrison's tight-binding law (Morrison 1969, doi:10.1016/0005-2744(69)90420-3; with
r = 0): the target depletes the drug, so that many copies can outnumber it. It is solved without
cancellation. Kd = 0 stands for a drug that saturates its target at any concentration. Closure: each
trapped drug sees the whole target, not what another trapped drug left of it.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Traits

SATURATED = 1e30  # odds of a drug with Kd = 0
UNBOUND = 1e30  # uM; a trapped drug with a Kd above it does not bind


class TargetParams(eqx.Module):
    """Binding of all drugs to all targets."""

    kd: Float[Array, "target drug"]  # uM, infinite where the drug does not bind
    is_trapped: Float[Array, " drug"]  # 1 for a `trapped` pool, 0 for an `open` one
    amount: Float[Array, " target"]  # normal amount of target in a cell, uM


def free_drug(
    params: TargetParams, traits: Traits, active: Float[Array, " drug"]
) -> Float[Array, " drug"]:
    """Free active drug, uM: all of it in an open pool, what binding leaves in a trapped one."""
    storage = 1 + traits.storage_ratio
    present = params.amount * traits.target_amount * traits.dependence
    binds = jnp.isfinite(params.kd)
    bound_max = jnp.sum(jnp.where(binds, present[:, None], 0.0), axis=0)
    kd = traits.kd_fold * jnp.sum(jnp.where(binds, params.kd, 0.0), axis=0)
    trapped = tight_binding(active, bound_max, jnp.minimum(kd, UNBOUND), storage)
    return jnp.where(params.is_trapped > 0, trapped, active)


def tight_binding(
    active: Float[Array, " drug"],
    bound_max: Float[Array, " drug"],
    kd: Float[Array, " drug"],
    storage: Float[Array, " drug"],
) -> Float[Array, " drug"]:
    """The root F of Morrison's quadratic, uM; scaled by its terms, so that no square overflows."""
    scale = active + bound_max + storage * kd
    scale = jnp.where(scale > 0, scale, 1.0)
    active, kd = active / scale, kd / scale
    linear = storage * kd + (bound_max / scale - active)
    square = linear**2 + 4 * storage * active * kd
    root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    stable = 2 * active * kd / jnp.where(linear > 0, linear + root, 1.0)
    direct = (root - linear) / (2 * storage)
    return scale * jnp.where(linear > 0, stable, direct)


def odds(
    params: TargetParams, traits: Traits, free: Float[Array, " drug"]
) -> Float[Array, "target drug"]:
    """Bound per free target, theta >= 0, of every drug at every target; 0 where it cannot bind."""
    binds = jnp.isfinite(params.kd)
    kd = jnp.where(binds, params.kd, 1.0) * traits.kd_fold[None, :]
    graded = free[None, :] / jnp.where(kd > 0, kd, 1.0)
    saturated = jnp.where(free > 0, SATURATED, 0.0)[None, :]
    bound = jnp.where(kd > 0, graded, saturated)
    return jnp.where(binds, bound, 0.0) * traits.dependence[:, None]
