"""Signaling: occupied target -> lost pathway output. Comes from `target`, goes to `damage`.

    o = min(1, a phi / need)                 output of a target, phi = free share of the target
    S = 1 - (1 - o) prod_r (1 - beta_r o_r)  output of its pathway, with bypass routes
    S = 1                                    where the cell no longer depends on the target
    E = L^h / (L^h + (theta_50 S)^h),  L = 1 - S     effect of the lost output

    a      target amount, multiples of normal           need      output is full down to this share
    beta   share that a route can carry, 0..1           o_r       output of the route (1 if undruggable)
    h      Hill coefficient, > 0                        theta_50  odds of loss at half effect, > 0

Without alterations and with need 1, S = 1/(1 + theta), and E is the Hill law in F/(theta_50 Kd).
Drugs on ONE target combine as the study says:

    loewe   phi = 1/(1 + sum_d theta_d), one effect (dose additivity)
    bliss   phi_d = 1/(1 + theta_d), E = 1 - prod_d (1 - E_d) (independent action)

A bypass is a noisy OR: a drug on either pathway alone leaves the other, both together silence it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxevo.state import Array, Scalar, Traits

COMBINATIONS = ("bliss", "loewe")


class SignalingParams(eqx.Module):
    """From free target to pathway output, for all targets."""

    combination: str = eqx.field(static=True)  # "bliss" or "loewe"
    need: Float[Array, " target"]  # share of the normal amount that gives full output, > 0


def pathway_output(
    params: SignalingParams, traits: Traits, odds: Float[Array, "target drug"]
) -> Float[Array, "target action"]:
    """Pathway output S of every target, 0..1.

    The action axis is the drugs under Bliss (each acting alone) and has one entry under Loewe.
    """
    if params.combination == "loewe":
        odds = jnp.sum(odds, axis=1, keepdims=True)
    free = 1 / (1 + odds)
    amount = (traits.target_amount / params.need)[:, None]
    depends = traits.dependence[:, None]
    own = _supply(amount * free)
    carried = _supply(amount * jnp.prod(free, axis=1, keepdims=True)) * depends  # lost: nothing
    routes = jnp.concatenate([carried[:, 0], jnp.ones(1, carried.dtype)])
    bypassed = 1 - jnp.prod(1 - traits.bypass_share * routes[None, :], axis=1, keepdims=True)
    output = own + (1 - own) * bypassed  # S, without the cancellation of 1 - (1 - S) near 0
    return 1 - depends + depends * output


def _supply(share: Float[Array, "target action"]) -> Float[Array, "target action"]:
    """min(1, share); at 1, where a drug begins to tell, its slope is that of more drug."""
    return jnp.where(share <= 1, share, 1.0)


def hill_effect(output: Scalar, half_odds: Scalar, hill: Scalar) -> Scalar:
    """Effect E of the output S that is left, 0..1; exactly 0 at S = 1 and 1 at S = 0."""
    lost, kept = 1 - output, half_odds * output
    larger = jax.lax.stop_gradient(jnp.maximum(lost, kept))  # cancels; no power overflows
    lost, kept = _power(lost / larger, hill), _power(kept / larger, hill)
    return lost / (lost + kept)


def _power(base: Scalar, exponent: Scalar) -> Scalar:
    """base^exponent; its slope at 0 is right for exponents >= 1 and 0, not infinite, below."""
    base = jnp.where(base < 0, 0.0, base)  # rounding
    has_slope = (base > 0) | (exponent >= 1)
    return jnp.where(has_slope, jnp.where(has_slope, base, 1.0) ** exponent, 0.0)


def combine(effect: Float[Array, "target action"]) -> Float[Array, " target"]:
    """Effect of all actions on each target: independent shares (one action under Loewe)."""
    return 1 - jnp.prod(1 - effect, axis=1)
