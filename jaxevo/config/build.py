"""Build: a resolved `Study` -> `Problem`. The one place where units change.

Hours become days, milligrams stay (a dose is turned into umol by its molar mass when it is given), and
names become indices. Leaves are float64 NumPy arrays. A drug without plasma has its concentration
prescribed; its pharmacokinetics are filled with values that do nothing.
"""

import numpy as np

from jaxevo.cell.birth import BirthParams
from jaxevo.cell.death import DeathParams
from jaxevo.cell.immune import ImmuneParams
from jaxevo.cell.mutation import MutationParams
from jaxevo.config.alterations import Axes, Row, fill
from jaxevo.config.build_care import HOURS, arm_of, given, host, limits, visits
from jaxevo.config.care import surface
from jaxevo.config.cohort import cohort
from jaxevo.config.study import Study
from jaxevo.config.tables import REFERENCE_MASS, Drug
from jaxevo.drug import CellularParams
from jaxevo.drug.apoptosis import ApoptosisParams
from jaxevo.drug.damage import DamageParams
from jaxevo.drug.delivery import DeliveryParams
from jaxevo.drug.metabolism import MetabolismParams
from jaxevo.drug.plasma import PlasmaParams
from jaxevo.drug.signaling import SignalingParams
from jaxevo.drug.target import TargetParams
from jaxevo.drug.transport import TransportParams
from jaxevo.engines import base
from jaxevo.engines.base import Founder, Problem
from jaxevo.genotype import Genome, pack
from jaxevo.model import Model, Names
from jaxevo.sites import SiteParams


def by_name(value: float | dict[str, float]) -> dict[str, float]:
    """A table that every resolved study has in place of one number for all."""
    if not isinstance(value, dict):
        raise TypeError("a study must be resolved before it is built")
    return value


def problem(study: Study) -> Problem:
    """The study as engines take it."""
    general, tumor = study.study, study.tumor
    axes = axes_of(study)
    built = model(study, axes)
    patients = [(model(patient, axes), host(patient, axes)) for patient in cohort(study)]
    hosts = [own for _, own in patients] or [host(study, axes)]
    return Problem(
        model=built,
        founders=founders(study, built.genome, axes),
        arms=tuple(arm_of(study, i, axes) for i in range(len(study.arms))),
        seed=general.seed,
        replicates=general.replicates,
        horizon=general.horizon_days,
        sync=given(general.sync_hours) / HOURS,
        max_cells=given(general.max_cells),
        treat_at_cells=tumor.treat_at_cells,
        stop_at_cells=tumor.stop_at_cells,
        record=base.Record(
            every=study.record.every_days,
            clones_every=study.record.clones_every_days,
            snapshot_days=tuple(study.record.snapshot_days),
            concentration_every=study.record.concentration_every_h / HOURS,
            max_classes=study.record.max_classes,
            max_clones=study.record.max_clones,
        ),
        patients=tuple(own for own, _ in patients),
        immigration=immigration(study, built.genome, axes),
        max_alterations=general.max_alterations,
        exact_below=general.exact_below_cells,
        relapse=relapse(study),
        visits=visits(study),
        hosts=tuple(own for own in hosts if own is not None),
        limits=limits(study),
    )


def axes_of(study: Study) -> Axes:
    """Name -> index, in the order of the study file."""
    tables = (study.sites, study.drugs, study.pumps, study.targets)
    return Axes(*({name: i for i, name in enumerate(table)} for table in tables))


def founders(study: Study, genome: Genome, axes: Axes) -> tuple[Founder, ...]:
    """The cells that the tumor starts from."""
    rows = study.tumor.mixture
    if rows is None:
        return (Founder(given(study.tumor.founders), genotype=0, site=0),)
    return tuple(
        Founder(row.cells, pack(genome, row.genotype), axes.sites[given(row.site)]) for row in rows
    )


def immigration(study: Study, genome: Genome, axes: Axes) -> tuple[base.Immigration, ...]:
    """The cells that come to the tumor from outside."""
    return tuple(
        base.Immigration(
            row.events_per_day, pack(genome, row.genotype), axes.sites[given(row.site)], row.cells
        )
        for row in study.tumor.immigration
    )


def relapse(study: Study) -> base.Relapse:
    """Which relapse is meant; what its kind does not read stays as it is by default."""
    table = study.relapse
    chosen = {
        "detection_cells": table.detection_cells,
        "assessed_from": table.assessed_from_day,
        "detection_rate": table.detection_rate_per_day,
    }
    return base.Relapse(
        table.kind, **{name: float(x) for name, x in chosen.items() if x is not None}
    )


def model(study: Study, axes: Axes) -> Model:
    """Everything that can happen to a cell."""
    drugs = list(study.drugs.values())
    plasmas = [drug.plasma for drug in drugs]
    tumor = study.tumor
    targets = list(study.targets.values())
    return Model(
        names=Names(*(tuple(names) for names in axes)),
        genome=_genome(study, axes),
        plasma=_plasma(drugs),
        molar_mass=_array([d.molecular_weight_g_per_mol or REFERENCE_MASS for d in drugs]),
        bioavailability=_array([1.0 if p is None else p.bioavailability for p in plasmas]),
        delivery=_delivery(study, axes),
        sites=_sites(study, axes),
        cellular=_cellular(study, axes),
        birth=BirthParams(
            birth_rate=_array(tumor.birth_rate_per_day),
            max_inhibition=_array([t.max_birth_inhibition for t in targets]),
            birth_half_odds=_array([t.birth_half_odds for t in targets]),
            birth_hill=_array([t.birth_hill for t in targets]),
        ),
        death=DeathParams(_array(tumor.death_rate_per_day)),
        mutation=MutationParams(
            study.study.mutating_daughters, _array(study.study.genetic_instability)
        ),
        body_surface=_array(surface(study) or 1.0),
        immune=_immune(study, axes),
    )


def _genome(study: Study, axes: Axes) -> Genome:
    tables = study.alterations.values()
    genome = Genome.neutral(
        names=tuple(study.alterations),
        max_levels=tuple(table.max_level for table in tables),
        inheritances=tuple(table.inheritance for table in tables),
        num_drugs=len(axes.drugs),
        num_pumps=len(axes.pumps),
        num_targets=len(axes.targets),
    )
    for j, table in enumerate(tables):
        row = Row(genome, j, axes)
        row.put("birth_cost", table.birth_cost)
        table.act(row)
        table.inherit(row)
    return genome


def _plasma(drugs: list[Drug]) -> PlasmaParams:
    """Pharmacokinetics of all drugs; clearance 0 and volume 1 L where they are not used."""
    tables = [drug.plasma for drug in drugs]
    absorption, clearance = np.ones(len(drugs)), np.zeros(len(drugs))
    volume, unbound = np.ones(len(drugs)), np.ones(len(drugs))
    exchange, side_volume = np.zeros((len(drugs), 2)), np.ones((len(drugs), 2))
    for i, table in enumerate(tables):
        if table is None:
            continue
        if table.absorption_per_h is not None:
            absorption[i] = table.absorption_per_h * HOURS
        clearance[i] = table.clearance_l_per_h * HOURS
        volume[i], unbound[i] = table.volume_l, table.unbound_fraction
        for k, row in enumerate(table.peripheral):
            exchange[i, k], side_volume[i, k] = (
                given(row.clearance_l_per_h) * HOURS,
                given(row.volume_l),
            )
    return PlasmaParams(
        is_prescribed=_array([float(table is None) for table in tables]),
        absorption_rate=absorption,
        clearance=clearance,
        central_volume=volume,
        peripheral_clearance=exchange,
        peripheral_volume=side_volume,
        unbound_fraction=unbound,
    )


def _delivery(study: Study, axes: Axes) -> DeliveryParams:
    num_sites, num_drugs = len(axes.sites), len(axes.drugs)
    sites = list(study.sites.values())
    fraction, equilibration = np.ones((num_sites, num_drugs)), np.ones((num_sites, num_drugs))
    permeability = np.full((num_sites, num_drugs), np.inf)
    pump = np.zeros((num_sites, len(axes.pumps)))
    for i, site in enumerate(sites):
        fill(fraction[i], axes.drugs, by_name(site.delivered_fraction))
        fill(equilibration[i], axes.drugs, by_name(site.equilibration_per_h))
        if site.barrier is not None:
            fill(permeability[i], axes.drugs, by_name(site.barrier.permeability_per_h))
            fill(pump[i], axes.pumps, site.barrier.pump)
    length = _array([drug.penetration_length_um for drug in study.drugs.values()])
    return DeliveryParams(
        delivered_fraction=fraction,
        equilibration_rate=equilibration * HOURS,
        vessel_distance=_array([site.vessel_distance_um for site in sites]),
        penetration_length=np.tile(length, (num_sites, 1)),
        barrier_permeability=permeability * HOURS,
        barrier_pump=pump,
        half_delivery=_array([site.half_delivery_cells for site in sites]),
    )


def _sites(study: Study, axes: Axes) -> SiteParams:
    sites = list(study.sites.values())
    migration = np.zeros((len(sites), len(sites)))
    for i, site in enumerate(sites):
        fill(migration[i], axes.sites, site.migration_per_day)
    return SiteParams(
        crowding=given(study.tumor.crowding),
        capacity=_array([site.capacity_cells for site in sites]),
        growth_factor=_array([site.growth_factor for site in sites]),
        shielded_share=_array([site.shielded_share for site in sites]),
        migration_rate=migration,
    )


def _immune(study: Study, axes: Axes) -> ImmuneParams | None:
    """Effector and suppressor cells; suppressors that never come where the study has none."""
    table, sites = study.immune, study.sites.values()
    if table is None:
        return None
    held, num_drugs = table.suppressors, len(axes.drugs)
    infiltration = _array([site.effector_infiltration for site in sites])
    suppressor_infiltration = _array([site.suppressor_infiltration for site in sites])
    block, block_ec50 = np.zeros(num_drugs), np.ones(num_drugs)
    removal, removal_ec50 = np.zeros(num_drugs), np.ones(num_drugs)
    fill(block_ec50, axes.drugs, table.checkpoint_ec50_um)
    fill(block, axes.drugs, dict.fromkeys(table.checkpoint_ec50_um, 1.0))
    if held is not None:
        fill(removal, axes.drugs, held.removed_per_day)
        fill(removal_ec50, axes.drugs, held.removal_ec50_um)
    return ImmuneParams(
        influx=_array(table.influx_cells_per_day),
        recruitment=_array(table.recruitment_per_day),
        recruitment_half=_array(table.recruitment_half_cells or 1.0),
        exhaustion=_array(table.exhaustion_per_day_per_cell),
        loss_rate=_array(table.loss_per_day),
        kill_rate=_array(table.kill_per_day_per_effector),
        kill_half=_array(table.kill_half_cells),
        infiltration=infiltration,
        effectors=given(table.effector_cells) * infiltration,
        suppressor_recruitment=_array(held.recruitment_cells_per_day if held else 0.0),
        suppressor_half=_array(held.recruitment_half_cells if held else 1.0),
        suppressor_loss_rate=_array(held.loss_per_day if held else 0.0),
        suppression_half=_array(held.suppression_half_cells if held else np.inf),
        suppressor_infiltration=suppressor_infiltration,
        suppressors=(held.suppressor_cells if held else 0.0) * suppressor_infiltration,
        checkpoint_block=block,
        checkpoint_ec50=block_ec50,
        removal_rate=removal,
        removal_ec50=removal_ec50,
    )


def _cellular(study: Study, axes: Axes) -> CellularParams:
    drugs, targets = list(study.drugs.values()), list(study.targets.values())
    kd = np.full((len(targets), len(drugs)), np.inf)
    for d, drug in enumerate(drugs):
        fill(kd[:, d], axes.targets, by_name(drug.kd_um))
    return CellularParams(
        transport=_transport(study, axes),
        metabolism=MetabolismParams(
            is_prodrug=_array([float(drug.prodrug) for drug in drugs]),
            activation_rate=_array([_per_day(drug.activation_per_h) for drug in drugs]),
            active_loss_rate=_array([_per_day(drug.active_loss_per_h) for drug in drugs]),
        ),
        target=TargetParams(
            kd=kd,
            is_trapped=_array([float(drug.pool == "trapped") for drug in drugs]),
            amount=_array([target.amount_um for target in targets]),
        ),
        signaling=SignalingParams(
            study.study.combination, _array([target.need for target in targets])
        ),
        damage=DamageParams(
            is_dna=_array([float(target.dna) for target in targets]),
            alpha=_array(study.tumor.radiation_alpha_per_gy),
            beta=_array(study.tumor.radiation_beta_per_gy2),
        ),
        apoptosis=ApoptosisParams(
            max_death_rate=_array([target.max_death_per_day for target in targets]),
            death_half_odds=_array([target.death_half_odds for target in targets]),
            death_hill=_array([target.death_hill for target in targets]),
            is_apoptotic=_array([float(target.apoptotic) for target in targets]),
            is_cycle_specific=_array([float(target.cycle_specific) for target in targets]),
        ),
    )


def _transport(study: Study, axes: Axes) -> TransportParams:
    drugs = study.drugs.values()
    shape = (len(axes.pumps), len(axes.drugs))
    vmax, km, ki = np.zeros(shape), np.ones(shape), np.full(shape, np.inf)
    for p, pump in enumerate(study.pumps.values()):
        fill(vmax[p], axes.drugs, {name: v * HOURS for name, v in pump.vmax_um_per_h.items()})
        fill(km[p], axes.drugs, pump.km_um)
        fill(ki[p], axes.drugs, pump.inhibited_by_ki_um)
    return TransportParams(
        influx_rate=_array([given(drug.influx_per_h) * HOURS for drug in drugs]),
        efflux_rate=_array([given(drug.efflux_per_h) * HOURS for drug in drugs]),
        carrier_share=_array([drug.carrier_share for drug in drugs]),
        baseline_pump=_array([pump.baseline for pump in study.pumps.values()]),
        vmax=vmax,
        km=km,
        inhibition_ki=ki,
    )


def _per_day(rate_per_h: float | None) -> float:
    """1/h -> 1/day; 1/day where the rate is not used, so that nothing is divided by 0."""
    return 1.0 if rate_per_h is None else rate_per_h * HOURS


def _array(values: object) -> np.ndarray:
    return np.asarray(values, np.float64)
