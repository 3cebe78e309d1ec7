"""Death: how often ONE cell dies.

Two causes add:

    death = d z + drug-induced death (`drug.apoptosis`)

    d   natural death rate, 1/day        z   natural death factor of the cell (slow turnover), >= 0
"""

import equinox as eqx

from jaxevo.state import Scalar, Traits


class DeathParams(eqx.Module):
    """Death without drugs."""

    death_rate: Scalar  # 1/day


def death_rate(params: DeathParams, traits: Traits, drug_induced: Scalar) -> Scalar:
    """Deaths per day, of every cause."""
    return params.death_rate * traits.natural_death_factor + drug_induced
