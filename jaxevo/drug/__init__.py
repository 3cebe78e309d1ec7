"""The journey of a drug: schedule, plasma, delivery, transport, metabolism, target, signaling,
damage, apoptosis. This module is the itinerary inside ONE cell; `course` is the way to the site.
"""

import equinox as eqx
from jaxtyping import Float

from jaxevo.drug import damage, metabolism, signaling, target, transport
from jaxevo.drug.apoptosis import ApoptosisParams
from jaxevo.drug.damage import DamageParams
from jaxevo.drug.metabolism import MetabolismParams
from jaxevo.drug.signaling import SignalingParams
from jaxevo.drug.target import TargetParams
from jaxevo.drug.transport import TransportParams
from jaxevo.state import Array, Environment, Traits


class CellularParams(eqx.Module):
    """All stations inside a cell."""

    transport: TransportParams
    metabolism: MetabolismParams
    target: TargetParams
    signaling: SignalingParams
    damage: DamageParams
    apoptosis: ApoptosisParams


def free_active_drug(
    params: CellularParams, traits: Traits, environment: Environment
) -> Float[Array, " drug"]:
    """Free active drug in the cell, uM: transport, then metabolism, then binding in trapped pools."""
    loss = metabolism.loss_rate(params.metabolism, traits)
    inside = transport.intracellular(params.transport, traits, environment, loss)
    active = metabolism.active_drug(params.metabolism, traits, inside)
    return target.free_drug(params.target, traits, active)


def remaining_output(
    params: CellularParams, traits: Traits, environment: Environment
) -> Float[Array, "target action"]:
    """Pathway output that is left after all drugs, bypass and repair, 0..1 (see `signaling`)."""
    free = free_active_drug(params, traits, environment)
    odds = target.odds(params.target, traits, free)
    output = signaling.pathway_output(params.signaling, traits, odds)
    return damage.repaired_output(params.damage, traits, output)
