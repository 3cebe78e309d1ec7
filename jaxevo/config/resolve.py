"""Resolve: spell out every default and shorthand of a study that passed its checks.

What is resolved resolves to itself, so that a study and its saved form are equal.
"""

import math

from jaxevo.config import checks, growth
from jaxevo.config.agents import resolve_screen
from jaxevo.config.arms import SINGLE_LINE, Line
from jaxevo.config.doses import Dosing
from jaxevo.config.draft import ONE_SITE, Draft, site_names
from jaxevo.config.sentences import dotted
from jaxevo.config.tables import Site, Target

LEAST_ROOM = 1000  # cells


def resolve(study: Draft) -> None:
    """Fill in what depends on several tables; a table has filled in its own."""
    general, tumor = study.study, study.tumor
    if general.sync_hours is None:
        general.sync_hours = checks.default_sync_hours(study)
    tumor.crowding = growth.crowding(study)
    if general.max_cells is None:
        general.max_cells = _default_room(study)
    resolve_screen(study)
    _resolve_patients(study)
    _resolve_targets(study)
    _resolve_sites(study)
    _resolve_start(study)
    _resolve_arms(study)
    if study.trial is not None and study.trial.control is None:
        study.trial.control = study.arms[0].name


def _default_room(study: Draft) -> int:
    """Twice the largest tumor that the study foresees, cells."""
    tumor = study.tumor
    finite = [room for room in growth.capacities(study) if math.isfinite(room)]
    foreseen = [tumor.treat_at_cells or 0, tumor.stop_at_cells or 0, sum(finite)]
    return int(max(LEAST_ROOM, 2 * max(*foreseen, checks.initial_cells(study))))


def _resolve_patients(study: Draft) -> None:
    """What varies between patients is named where the resolved study has it."""
    moved = {} if study.sites else {"tumor.capacity_cells": ("sites", ONE_SITE, "capacity_cells")}
    for name, drug in study.drugs.items():
        if drug.effect is not None:
            for key in type(drug.effect).model_fields:
                moved[dotted(("drugs", name, "effect", key))] = ("targets", name, key)
    patients = study.patients
    name_of = lambda key: dotted(moved[key]) if key in moved else key  # noqa: E731
    patients.vary = {name_of(key): table for key, table in patients.vary.items()}
    patients.values = {name_of(key): column for key, column in patients.values.items()}
    patients.correlations = [
        [name_of(one), name_of(two), value] for one, two, value in patients.correlations
    ]


def _resolve_targets(study: Draft) -> None:
    """Every drug names the targets that it binds, and every target has a table."""
    targets = {}
    for name in checks.target_names(study):
        drug = study.drugs.get(name)
        targets[name] = study.targets.get(name) or (drug and drug.effect) or Target()
    for name, drug in study.drugs.items():
        drug.kd_um = checks.drug_targets(study, name)
    for drug in study.drugs.values():
        drug.target = drug.effect = None
    study.targets = targets


def _resolve_sites(study: Draft) -> None:
    """Every site has a table, and says for each drug how it is delivered."""
    if not study.sites:
        study.sites = {ONE_SITE: Site(capacity_cells=growth.capacities(study)[0])}
        study.tumor.capacity_cells = None
    for site in study.sites.values():
        site.delivered_fraction = _by_drug(study, site.delivered_fraction, 1.0)
        site.equilibration_per_h = _by_drug(study, site.equilibration_per_h, math.inf)
        if site.barrier is not None:
            permeability = site.barrier.permeability_per_h
            site.barrier.permeability_per_h = _by_drug(study, permeability, math.inf)


def _by_drug(study: Draft, value: float | dict[str, float], default: float) -> dict[str, float]:
    if isinstance(value, dict):
        return {name: value.get(name, default) for name in study.drugs}
    return dict.fromkeys(study.drugs, value)


def _resolve_start(study: Draft) -> None:
    """Every cell that the tumor starts from has a site."""
    if study.tumor.mixture is None:
        study.tumor.founders = study.tumor.founders or 1
    for row in [*(study.tumor.mixture or []), *study.tumor.immigration]:
        row.site = row.site or site_names(study)[0]


def _resolve_arms(study: Draft) -> None:
    """A policy without lines chooses when to give the doses of its arm; every dose has its days and
    its route; surgery names every site.
    """
    for arm in study.arms:
        if arm.policy is not None and not arm.lines:
            arm.lines, arm.doses = [Line(name=SINGLE_LINE, doses=arm.doses)], []
        for _, doses in arm.all_doses():
            for dose in doses:
                _resolve_dose(study, dose)
        for operation in arm.surgery:
            removed = operation.removed_fraction
            by_site = removed if isinstance(removed, dict) else dict.fromkeys(study.sites, removed)
            operation.removed_fraction = {name: by_site.get(name, 0.0) for name in study.sites}


def _resolve_dose(study: Draft, dose: Dosing) -> None:
    if dose.is_single:
        dose.day = dose.day or 0.0
    else:
        dose.from_day = dose.from_day or 0.0
        dose.until_day = dose.until_day or study.study.horizon_days
    if dose.cycle_days is not None and dose.on_days is None:
        dose.on_days = [0.0]
    plasma = study.drugs[dose.drug].plasma
    if plasma is None or dose.route is not None:
        return
    if dose.infusion_h is not None:
        dose.route = "infusion"
    else:
        dose.route = "bolus" if plasma.absorption_per_h is None else "oral"
