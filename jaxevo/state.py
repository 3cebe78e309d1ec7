"""The nouns that every station shares: what a cell is, where it is, how fast things happen to it.

Axis words in array types: cell, class, site, drug, pump, alteration, target, route, mutation, switch,
differentiation, variable, replicate, arm, time. One unit system inside: days, micromolar, liters,
cells. A *route* is a target through which a bypass signals, or, as the last route, one that no drug
reaches.
"""

from typing import TypeAlias

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

Array: TypeAlias = jax.Array | np.ndarray  # parameters are NumPy until an engine casts them
Scalar: TypeAlias = Float[Array, ""]


def _nothing():
    """A field that is empty unless it is given."""
    return eqx.field(default_factory=lambda: np.zeros(0))


def _as_array(value):
    """A plain number, which a law of the user's own may return, as an array."""
    return np.asarray(value, float) if isinstance(value, int | float) else value


class Traits(eqx.Module):
    """What the genotype of ONE cell makes of it, station by station (neutral values in brackets)."""

    levels: Float[Array, " alteration"]  # level of each alteration [0]
    birth_factor: Scalar  # fitness cost, times the birth rate, 0..1 [1]
    division_factor: Scalar  # quiescence, times births and cycle-specific death, 0..1 [1]
    natural_death_factor: Scalar  # turnover of a quiescent cell, times the natural death rate [1]
    radiation_factor: Scalar  # radiosensitivity of a quiescent cell, times alpha and beta [1]
    influx_factor: Float[Array, " drug"]  # times carrier-borne influx, 0..1 [1]
    pump_amount: Float[Array, " pump"]  # pumps in the membrane, multiples of the table's vmax [0]
    inactivation_rate: Float[Array, " drug"]  # added loss of active drug, 1/day [0]
    storage_ratio: Float[Array, " drug"]  # stored drug per free drug [0]
    activation_factor: Float[Array, " drug"]  # times prodrug activation, 0..1 [1]
    kd_fold: Float[Array, " drug"]  # times the dissociation constant [1]
    target_amount: Float[Array, " target"]  # target molecules, multiples of normal [1]
    dependence: Float[Array, " target"]  # 1 where the cell needs the target, 0 where it is lost [1]
    bypass_share: Float[Array, "target route"]  # share of output that a route can carry, 0..1 [0]
    repair_factor: Scalar  # divides DNA damage, >= 1 [1]
    evaded_share: Scalar  # share of the death signal that is ignored, 0..1 [0]
    mutation_factor: Scalar  # genetic instability, times every mutation probability [1]
    antigen_factor: Scalar  # antigen that effector cells see, 0..1 [1]
    ligand_share: Scalar  # share of immune killing that its checkpoint ligand brakes, 0..1 [0]


class Environment(eqx.Module):
    """What ONE site is like now, for every cell in it."""

    concentration: Float[Array, " drug"]  # free drug outside the cells, uM
    crowding_factor: Scalar  # times the birth rate, 0..1
    growth_factor: Scalar  # support by fibroblasts, times the birth rate
    shielded_share: Scalar  # share of drug-induced death that fibroblasts prevent, 0..1
    migration_rate: Float[Array, " site"]  # to every other site, 1/day; 0 to itself
    # what a law of the user's own may read as well (`model.Custom`); empty for the stations
    site: Int[Array, ""] = eqx.field(default_factory=lambda: np.zeros((), np.int32))  # its position
    day: Scalar = eqx.field(default_factory=lambda: np.zeros(()))  # since the start of treatment
    population: Float[Array, "class site"] = eqx.field(default_factory=lambda: np.zeros((0, 0)))
    extra: Float[Array, " variable"] = eqx.field(default_factory=lambda: np.zeros(0))


class Rates(eqx.Module):
    """How fast things happen to ONE cell at ONE site: the one language of all engines."""

    birth_rate: Scalar = eqx.field(converter=_as_array)  # divisions, 1/day
    death_rate: Scalar = eqx.field(converter=_as_array)  # deaths of every cause, 1/day
    mutation_probability: Float[Array, " mutation"] = _nothing()  # per division, genome.mutations
    switching_rate: Float[Array, " switch"] = _nothing()  # 1/day, in genome.switches order
    migration_rate: Float[Array, " site"] = _nothing()  # 1/day; may be empty where no cell moves
    # per division, in genome.differentiations order
    asymmetric_probability: Float[Array, " differentiation"] = _nothing()  # one daughter changes
    symmetric_probability: Float[Array, " differentiation"] = _nothing()  # both daughters change
    visibility: Scalar | None = None  # to effector cells, 0..1; None where there is no immunity
