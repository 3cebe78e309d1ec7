"""Models for tests: neutral everywhere, except for what a test names.

    build(drugs=("x",), targets=("T",), kd={"T": {"x": 0.5}}, max_death_rate=2.0,
          alterations={"pump": {"pump_amount": {"P": 3.0}}}, ...)

A keyword is the name of a parameter, wherever in the model it stands. Its value is a number for all
entries, or a dictionary from names on the parameter's first axis (to dictionaries on the second);
what is not named stays neutral.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxevo import drug, genotype
from jaxevo import model as models
from jaxevo.cell.birth import BirthParams
from jaxevo.cell.death import DeathParams
from jaxevo.cell.immune import ImmuneParams
from jaxevo.cell.mutation import MutationParams
from jaxevo.drug import CellularParams
from jaxevo.drug.apoptosis import ApoptosisParams
from jaxevo.drug.damage import DamageParams
from jaxevo.drug.delivery import DeliveryParams
from jaxevo.drug.metabolism import MetabolismParams
from jaxevo.drug.plasma import PlasmaParams
from jaxevo.drug.signaling import SignalingParams
from jaxevo.drug.target import TargetParams
from jaxevo.drug.transport import TransportParams
from jaxevo.genotype import Genome
from jaxevo.host import HostParams
from jaxevo.model import Model, Names
from jaxevo.sites import SiteParams
from jaxevo.state import Environment, Rates, Traits

# Parameter -> its axes and its neutral value. Units as in the model: days, uM, liters.
NEUTRAL: dict[str, tuple[str, float]] = {
    # plasma
    "is_prescribed": ("drug", 1.0),
    "absorption_rate": ("drug", 1.0),
    "clearance": ("drug", 0.0),
    "central_volume": ("drug", 1.0),
    "peripheral_clearance": ("drug peripheral", 0.0),
    "peripheral_volume": ("drug peripheral", 1.0),
    "unbound_fraction": ("drug", 1.0),
    "molar_mass": ("drug", 500.0),
    "bioavailability": ("drug", 1.0),
    # delivery
    "delivered_fraction": ("site drug", 1.0),
    "equilibration_rate": ("site drug", np.inf),
    "vessel_distance": ("site", 0.0),
    "penetration_length": ("site drug", 100.0),
    "barrier_permeability": ("site drug", np.inf),
    "barrier_pump": ("site pump", 0.0),
    "half_delivery": ("site", np.inf),
    # sites
    "capacity": ("site", np.inf),
    "growth_factor": ("site", 1.0),
    "shielded_share": ("site", 0.0),
    "migration_rate": ("site site", 0.0),
    # transport
    "influx_rate": ("drug", 1440.0),
    "efflux_rate": ("drug", 1440.0),
    "carrier_share": ("drug", 0.0),
    "baseline_pump": ("pump", 0.0),
    "vmax": ("pump drug", 0.0),
    "km": ("pump drug", 1.0),
    "inhibition_ki": ("pump drug", np.inf),
    # metabolism
    "is_prodrug": ("drug", 0.0),
    "activation_rate": ("drug", 1.0),
    "active_loss_rate": ("drug", 1.0),
    # target
    "kd": ("target drug", np.inf),
    "is_trapped": ("drug", 0.0),
    "amount": ("target", 0.0),
    # signaling, damage, apoptosis
    "need": ("target", 1.0),
    "is_dna": ("target", 0.0),
    "alpha": ("", 0.0),
    "beta": ("", 0.0),
    "max_death_rate": ("target", 0.0),
    "death_half_odds": ("target", 1.0),
    "death_hill": ("target", 1.0),
    "is_apoptotic": ("target", 1.0),
    "is_cycle_specific": ("target", 0.0),
    # the life of a cell
    "birth_rate": ("", 1.0),
    "max_inhibition": ("target", 0.0),
    "birth_half_odds": ("target", 1.0),
    "birth_hill": ("target", 1.0),
    "death_rate": ("", 0.25),
    "genetic_instability": ("", 1.0),
}

ALTERATION_AXES = {
    "influx_factor": "drug",
    "pump_amount": "pump",
    "inactivation_rate": "drug",
    "storage_ratio": "drug",
    "activation_factor": "drug",
    "kd_fold": "drug",
    "target_copies": "target",
    "lost_target": "target",
    "bypass_share": "target route",
    "induced_on_rate": "drug",
    "induced_off_rate": "drug",
    "induction_ec50": "drug",
}

# The same for the host; units as in `jaxevo.host`.
NEUTRAL_HOST: dict[str, tuple[str, float]] = {
    "baseline": ("", 5.0),
    "transit_days": ("", 4.0),
    "feedback": ("", 0.2),
    "slope": ("drug", 0.0),
    "marrow_pump": ("pump", 0.0),
    "transduced_share": ("", 0.0),
    "transduced_pump": ("pump", 0.0),
    "growth_gain": ("drug", 0.0),
    "growth_half": ("drug", 1.0),
}

# The same for immune cells, which a model has once one of these is named.
NEUTRAL_IMMUNE: dict[str, tuple[str, float]] = {
    "influx": ("", 0.0),
    "recruitment": ("", 0.0),
    "recruitment_half": ("", 1.0),
    "exhaustion": ("", 0.0),
    "loss_rate": ("", 0.0),
    "kill_rate": ("", 0.0),
    "kill_half": ("", np.inf),
    "infiltration": ("site", 1.0),
    "effectors": ("site", 0.0),
    "suppressor_recruitment": ("", 0.0),
    "suppressor_half": ("", 1.0),
    "suppressor_loss_rate": ("", 0.0),
    "suppression_half": ("", np.inf),
    "suppressor_infiltration": ("site", 1.0),
    "suppressors": ("site", 0.0),
    "checkpoint_block": ("drug", 0.0),
    "checkpoint_ec50": ("drug", 1.0),
    "removal_rate": ("drug", 0.0),
    "removal_ec50": ("drug", 1.0),
}

UNDRUGGABLE = "undruggable"  # the last route of a bypass


def build(
    *,
    sites: tuple[str, ...] = ("tumor",),
    drugs: tuple[str, ...] = (),
    pumps: tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
    alterations: dict[str, dict] | None = None,
    crowding: str = "none",
    combination: str = "bliss",
    mutating_daughters: str = "one",
    **parameters,
) -> Model:
    """A model with the named axes, neutral except for the named parameters (float64 NumPy)."""
    names = {
        "site": sites,
        "drug": drugs,
        "pump": pumps,
        "target": targets,
        "route": (*targets, UNDRUGGABLE),
        "peripheral": ("first", "second"),
    }
    table = NEUTRAL | NEUTRAL_IMMUNE
    unknown = parameters.keys() - table.keys()
    assert not unknown, f"no such parameter: {unknown}"

    def leaf(name: str) -> np.ndarray:
        axes, neutral = table[name]
        array = np.full([len(names[axis]) for axis in axes.split()], neutral)
        fill(array, (), axes.split(), names, parameters.get(name, neutral))
        return array

    def params(kind, **static):
        fields = [f for f in kind.__dataclass_fields__ if f not in static]
        return kind(**static, **{name: leaf(name) for name in fields})

    return Model(
        names=Names(sites, drugs, pumps, targets),
        genome=genome(alterations or {}, names),
        plasma=params(PlasmaParams),
        molar_mass=leaf("molar_mass"),
        bioavailability=leaf("bioavailability"),
        delivery=params(DeliveryParams),
        sites=params(SiteParams, crowding=crowding),
        cellular=CellularParams(
            transport=params(TransportParams),
            metabolism=params(MetabolismParams),
            target=params(TargetParams),
            signaling=params(SignalingParams, combination=combination),
            damage=params(DamageParams),
            apoptosis=params(ApoptosisParams),
        ),
        birth=params(BirthParams),
        death=params(DeathParams),
        mutation=params(MutationParams, mutating_daughters=mutating_daughters),
        immune=params(ImmuneParams) if parameters.keys() & NEUTRAL_IMMUNE.keys() else None,
    )


def genome(alterations: dict[str, dict], names: dict[str, tuple[str, ...]]) -> Genome:
    """Alterations by name; `inheritance` is mutation and `max_level` 1 unless said otherwise."""
    tables = {name: dict(table) for name, table in alterations.items()}
    built = Genome.neutral(
        names=tuple(tables),
        max_levels=tuple(table.pop("max_level", 1) for table in tables.values()),
        inheritances=tuple(table.pop("inheritance", "mutation") for table in tables.values()),
        num_drugs=len(names["drug"]),
        num_pumps=len(names["pump"]),
        num_targets=len(names["target"]),
    )
    for j, table in enumerate(tables.values()):
        for name, value in table.items():
            fill(getattr(built, name), (j,), ALTERATION_AXES.get(name, "").split(), names, value)
    return built


def host(model: Model, **parameters) -> HostParams:
    """The marrow of a patient, neutral except for the named parameters (float64 NumPy)."""
    names = {"drug": model.names.drugs, "pump": model.names.pumps}
    unknown = parameters.keys() - NEUTRAL_HOST.keys()
    assert not unknown, f"no such parameter: {unknown}"
    leaves = {}
    for name, (axes, neutral) in NEUTRAL_HOST.items():
        leaves[name] = np.full([len(names[axis]) for axis in axes.split()], neutral)
        fill(leaves[name], (), axes.split(), names, parameters.get(name, neutral))
    return HostParams(**leaves)


def fill(array: np.ndarray, index: tuple, axes: list[str], names: dict, value) -> None:
    """Write a number, or a dictionary from names to such, into an array, in place."""
    if not isinstance(value, dict):
        array[index] = value
        return
    for name, inner in value.items():
        fill(array, (*index, names[axes[0]].index(name)), axes[1:], names, inner)


def real() -> np.dtype:
    """The floating-point type of this run: float64 where 64-bit JAX is on, else float32."""
    return jnp.result_type(float)


def vector(known: tuple[str, ...], values: dict[str, float] | None = None) -> jax.Array:
    """Numbers by name, 0 where none is given."""
    return jnp.asarray([(values or {}).get(name, 0.0) for name in known], real())


def levels(model: Model, altered: dict[str, int] | None = None) -> jax.Array:
    """Levels of all alterations, 0 unless named."""
    return vector(model.genome.names, altered)


def traits(model: Model, altered: dict[str, int] | None = None) -> Traits:
    """Traits of the genotype with the named levels."""
    return _traits(models.cast(model.genome, real()), levels(model, altered))


def environment(
    model: Model, outside: dict[str, float] | None = None, site: str | None = None
) -> Environment:
    """A site (the first unless named) with the named free concentrations, uM."""
    at = 0 if site is None else model.names.sites.index(site)
    return models.environment_at(model, at, vector(model.names.drugs, outside))


def station(function, params, model: Model, *rest, altered=None, outside=None):
    """Any function of (params, traits, environment, ...), jitted, in the precision of this run."""
    return _station(
        function,
        models.cast(params, real()),
        traits(model, altered),
        environment(model, outside),
        *rest,
    )


def rates(
    model: Model,
    altered: dict[str, int] | None = None,
    outside: dict[str, float] | None = None,
    site: str | None = None,
) -> Rates:
    """Rates of one genotype at one site and concentration, in the precision of this run."""
    here = environment(model, outside, site)
    return _rates(models.cast(model, real()), traits(model, altered), here)


def inside(model: Model, altered=None, outside=None) -> dict[str, float]:
    """Free active drug in the cell by name, uM."""
    free = station(drug.free_active_drug, model.cellular, model, altered=altered, outside=outside)
    return dict(zip(model.names.drugs, np.asarray(free), strict=True))


def over_doses(model: Model, concentrations, altered: dict[str, int] | None = None) -> Rates:
    """Rates over a table of concentrations [dose, drug], uM; leading axis dose."""
    cells, table = traits(model, altered), jnp.asarray(concentrations, real())
    return _over_doses(models.cast(model, real()), cells, table)


def assert_close(actual, expected, single: float = 1e-5, double: float = 1e-12) -> None:
    """Relative agreement: `single` in a 32-bit run, `double` in a 64-bit one."""
    tolerance = double if real() == np.float64 else single
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=1e-30)


def assert_same_bits(actual, expected) -> None:
    """Two trees with the same shapes, types and bits."""
    same = functools.partial(np.testing.assert_array_equal, strict=True)
    jax.tree.map(same, actual, expected)


def in_double(test: Callable) -> Callable:
    """Run a test in 64-bit precision, whatever the precision of the run."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        with jax.enable_x64(True):
            return test(*args, **kwargs)

    return run


_traits = eqx.filter_jit(genotype.traits)
_rates = eqx.filter_jit(models.rates)


@eqx.filter_jit
def _station(function, params, cell, here, *rest):
    return function(params, cell, here, *rest)


@eqx.filter_jit
def _over_doses(model, cell, table):
    return jax.vmap(lambda c: models.rates(model, cell, models.environment_at(model, 0, c)))(table)
