"""Checks: what no table can see alone: names that must exist, and limits that several tables set.

Each check raises the fault of the first key that breaks it. They run in the order of `CHECKS` on a
study as it was written, before `resolve` spells it out.
"""

import math

from jaxevo.config.alterations import GeneticInstability, ImmuneEvasion
from jaxevo.config.care import (
    MAX_ENTRIES,
    check_arms,
    check_drug_limits,
    check_host,
    check_trial,
    check_visits,
)
from jaxevo.config.draft import Draft, site_names
from jaxevo.config.growth import check_growth
from jaxevo.config.sentences import Path, expected, fault, known_keys, missing, unknown_name
from jaxevo.config.tables import Drug, Immigration, Mixture

LONGEST_NAME = 60  # characters
ASSESSED = "assessed_from_day"
MAX_GENOTYPES = 2**32
TINY = 1e-9  # relative; so close to a whole number counts as whole
SYNC_HOURS = {"cells": 6.0}  # by default
OTHER_SYNC_HOURS = 24.0


def drug_targets(study: Draft, name: str) -> dict[str, float]:
    """Target -> kd (uM) of one drug."""
    drug = study.drugs[name]
    return drug.kd_um if isinstance(drug.kd_um, dict) else {drug.target or name: drug.kd_um}


def target_names(study: Draft) -> list[str]:
    """The targets, in order: those with a table, then those that drugs bring along."""
    own = [name for name in study.drugs if name in drug_targets(study, name)]
    return list(dict.fromkeys([*study.targets, *own]))


def default_sync_hours(study: Draft) -> float:
    """Longest interval between syncs where the study names none; at most the horizon, and such that
    syncs fall on visits.
    """
    hours = SYNC_HOURS.get(study.study.engine, OTHER_SYNC_HOURS)
    hours = min(hours, study.study.horizon_days * 24)
    if study.visits is None:
        return hours
    between = study.visits.every_days * 24
    return between / math.ceil(between / hours * (1 - TINY))


def room(study: Draft) -> int | None:
    """The room of a tumor that the study gives, where its engine keeps cells in places."""
    return study.study.max_cells if study.study.engine == "cells" else None


def initial_cells(study: Draft) -> int:
    """Cells that the tumor starts from."""
    if study.tumor.mixture is None:
        return study.tumor.founders or 1
    return sum(row.cells for row in study.tumor.mixture)


def check_names(study: Draft) -> None:
    """Names are short and printable, and no two arms share one."""
    paths: list[tuple[str, Path]] = []
    for kind in ("sites", "drugs", "targets", "pumps", "alterations"):
        paths += [(name, (kind, name)) for name in getattr(study, kind)]
    paths += [(arm.name, ("arms", i, "name")) for i, arm in enumerate(study.arms)]
    for name, path in paths:
        is_plain = name.isprintable() and name == name.strip()
        if not is_plain or not 1 <= len(name) <= LONGEST_NAME:
            raise expected(f"a name of 1 to {LONGEST_NAME} printable characters", name, path)
    seen: dict[str, int] = {}
    for i, arm in enumerate(study.arms):
        if arm.name in seen:
            raise fault(
                f'expected a name of its own, got "{arm.name}", which arms.{seen[arm.name]} has',
                ("arms", i, "name"),
            )
        seen[arm.name] = i
    if not study.arms:
        raise missing("at least one [[arms]] table; one with `doses = []` is untreated", ("arms",))


def check_sites(study: Draft) -> None:
    """Sites name drugs, pumps and each other; cells can get to every site."""
    for name, site in study.sites.items():
        at = ("sites", name)
        for key in ("delivered_fraction", "equilibration_per_h"):
            known_keys("drug", getattr(site, key), study.drugs, (*at, key))
        if site.barrier is not None:
            by_drug, pumps = site.barrier.permeability_per_h, site.barrier.pump
            known_keys("drug", by_drug, study.drugs, (*at, "barrier", "permeability_per_h"))
            known_keys("pump", pumps, study.pumps, (*at, "barrier", "pump"))
        known_keys("site", site.migration_per_day, study.sites, (*at, "migration_per_day"))
        if name in site.migration_per_day:
            raise fault("leads back to the same site", (*at, "migration_per_day", name))
    if study.sites and study.tumor.capacity_cells is not None:
        raise fault(
            "belongs to a study without sites; expected capacity_cells in the [sites.X] tables",
            ("tumor", "capacity_cells"),
        )
    _check_reach(study)


def _check_reach(study: Draft) -> None:
    """Cells start at every site, come to it from outside, or can migrate to it."""
    first = site_names(study)[0]
    rows = study.tumor.mixture
    reached = {first} if rows is None else {row.site or first for row in rows}
    reached |= {row.site or first for row in study.tumor.immigration}
    frontier = reached & set(study.sites)
    while frontier:
        onward = study.sites[frontier.pop()].migration_per_day
        new = {name for name, rate in onward.items() if rate > 0} - reached
        reached |= new
        frontier |= new
    for name in study.sites:
        if name not in reached:
            raise fault(
                "is a site that no cell can reach; expected migration_per_day to it from a site "
                "with cells, or cells there in tumor.mixture or tumor.immigration",
                ("sites", name),
            )


def check_tumor(study: Draft) -> None:
    """The tumor starts in one way, from genotypes and sites that exist, within its room."""
    tumor = study.tumor
    if tumor.founders is not None and tumor.mixture is not None:
        raise fault("stands beside founders; expected one of the two", ("tumor", "mixture"))
    if tumor.mixture is not None and not tumor.mixture:
        raise expected("at least one row of cells", [], ("tumor", "mixture"))
    for i, row in enumerate(tumor.mixture or []):
        _check_cells(study, row, ("tumor", "mixture", i))
    for i, row in enumerate(tumor.immigration):
        _check_cells(study, row, ("tumor", "immigration", i))
    initial = initial_cells(study)
    start = ("tumor", "founders" if tumor.mixture is None else "mixture")
    treat, stop, most = tumor.treat_at_cells, tumor.stop_at_cells, room(study)
    if most is not None and initial > most:
        raise fault(
            f"expected at most max_cells ({most}) cells to start from, got {initial}", start
        )
    if treat is not None and treat <= initial:
        raise fault(
            f"expected more cells than the tumor starts from ({initial}), got {treat}",
            ("tumor", "treat_at_cells"),
        )
    if stop is not None and stop <= (treat or initial):
        than = f"treat_at_cells ({treat})" if treat else f"the tumor starts from ({initial})"
        raise fault(f"expected more cells than {than}, got {stop}", ("tumor", "stop_at_cells"))
    for key, cells in (("treat_at_cells", treat), ("stop_at_cells", stop)):
        if most is not None and cells is not None and cells > most:
            raise fault(f"expected at most max_cells ({most}), got {cells}", ("tumor", key))


def _check_cells(study: Draft, row: Mixture | Immigration, at: Path) -> None:
    """Cells that the tumor starts from or that come to it have a site and a genotype that exist."""
    if row.site is not None and row.site not in site_names(study):
        raise unknown_name("a site", row.site, site_names(study), (*at, "site"))
    known_keys("alteration", row.genotype, study.alterations, (*at, "genotype"))
    for name, level in row.genotype.items():
        top = study.alterations[name].max_level
        if level > top:
            raise expected(f"a level from 0 to {top}", level, (*at, "genotype", name))


def check_engine(study: Draft) -> None:
    """What only some engines know is asked of them."""
    engine, grower = study.study.engine, study.study.grow_with
    at = ("study", "grow_with")
    if grower is not None and engine != "cells":
        raise fault(f'belongs to engine = "cells", not to "{engine}"', at)
    if grower is not None and study.tumor.treat_at_cells is None:
        raise fault("needs treat_at_cells in [tumor], the size up to which it grows", at)
    day, horizon = study.relapse.assessed_from_day, study.study.horizon_days
    if day is not None and day >= horizon:
        raise expected(f"a day before the horizon ({horizon:g})", day, ("relapse", ASSESSED))


def check_drugs(study: Draft) -> None:
    """Drugs bind targets that exist; a trapped pool knows the target that traps."""
    for name, drug in study.drugs.items():
        at = ("drugs", name)
        known = [*study.targets, *([] if name in study.targets else [name])]
        if isinstance(drug.kd_um, dict):
            known_keys("target", drug.kd_um, known, (*at, "kd_um"))
            if drug.target is not None:
                raise fault("stands beside a kd_um for each target; expected one", (*at, "target"))
        elif drug.target is not None and drug.target not in known:
            raise unknown_name("a target", drug.target, known, (*at, "target"))
        own = drug_targets(study, name)
        if drug.effect is not None and (name in study.targets or name not in own):
            holder = name if name in study.targets else next(iter(own), name)
            raise fault(f"belongs to a target; expected [targets.{holder}]", (*at, "effect"))
        if drug.pool == "trapped":
            _check_trap(study, name, drug)


def _check_trap(study: Draft, name: str, drug: Drug) -> None:
    """A trapped pool is shared out by Morrison's law between the drug and one target."""
    at = ("drugs", name)
    bound = drug_targets(study, name)
    if len(bound) != 1:
        raise fault(
            f'expected "open", since the drug binds {len(bound)} targets and a trapped pool needs one',
            (*at, "pool"),
        )
    target, kd = next(iter(bound.items()))
    if kd == 0:
        raise fault('is "trapped", which needs kd_um > 0', (*at, "pool"))
    table = study.targets.get(target) or drug.effect
    if table is None or table.amount_um == 0:
        raise fault(f'is "trapped", which needs amount_um > 0 of target {target}', (*at, "pool"))


def check_targets(study: Draft) -> None:
    """Every target with a table is bound by a drug or carries a bypass."""
    bound = {target for name in study.drugs for target in drug_targets(study, name)}
    routes = {getattr(alteration, "through", None) for alteration in study.alterations.values()}
    for name in study.targets:
        if name not in bound and name not in routes:
            raise fault(
                "is a target that no drug binds and no bypass goes through; "
                f'expected target = "{name}" or kd_um = {{ {name} = ... }} in a drug',
                ("targets", name),
            )


def check_pumps(study: Draft) -> None:
    """Pumps name drugs."""
    for name, pump in study.pumps.items():
        for key in ("vmax_um_per_h", "km_um", "inhibited_by_ki_um"):
            known_keys("drug", getattr(pump, key), study.drugs, ("pumps", name, key))


def check_immune(study: Draft) -> None:
    """What acts on immune cells has some to act on, and names drugs and suppressors that exist."""
    immune = study.immune
    for name, site in study.sites.items():
        for key in ("effector_infiltration", "suppressor_infiltration"):
            has_cells = immune is not None and (key[0] == "e" or immune.suppressors is not None)
            if getattr(site, key) != 1 and not has_cells:
                table = "[immune]" if key[0] == "e" else "[immune.suppressors]"
                raise fault(f"needs the table {table}", ("sites", name, key))
    if immune is None:
        for name, alteration in study.alterations.items():
            if isinstance(alteration, ImmuneEvasion):
                at = ("alterations", name, "mechanism")
                raise fault('is "immune_evasion", which needs the table [immune]', at)
        return
    known_keys("drug", immune.checkpoint_ec50_um, study.drugs, ("immune", "checkpoint_ec50_um"))
    if immune.suppressors is not None:
        at = ("immune", "suppressors", "removed_per_day")
        known_keys("drug", immune.suppressors.removed_per_day, study.drugs, at)


def check_alterations(study: Draft) -> None:
    """Alterations name drugs, pumps and targets on which they can act."""
    targets = target_names(study)
    for name, alteration in study.alterations.items():
        at = ("alterations", name)
        for key in type(alteration).model_fields:
            value = getattr(alteration, key)
            if isinstance(value, dict):
                known_keys("drug", value, study.drugs, (*at, key))
            if key == "pump" and value not in study.pumps:
                raise unknown_name("a pump", value, study.pumps, (*at, key))
            if key in ("target", "through") and value is not None and value not in targets:
                raise unknown_name("a target", value, targets, (*at, key))
        alteration.check(study.drugs, at)
    _check_transitions(study)
    genotypes = math.prod(alteration.max_level + 1 for alteration in study.alterations.values())
    num_sites = len(site_names(study))
    for count, what in ((genotypes, "genotypes"), (genotypes * num_sites, "genotypes x sites")):
        if count > MAX_GENOTYPES:
            raise fault(
                f"make {count} {what}; expected at most 2**32, so lower the max_level of some",
                ("alterations",),
            )


def _check_transitions(study: Draft) -> None:
    """All steps that one division can bring have probabilities that sum to at most 1."""
    tables = study.alterations
    steps = {name: table.largest_step() for name, table in tables.items()}
    total = sum(steps[name][1] for name in tables if tables[name].is_mutating)
    differentiating = sum(steps[name][1] for name in tables if not tables[name].is_mutating)
    unstable = [t for t in tables.values() if isinstance(t, GeneticInstability)]
    growth = sum(t.max_level * max(0.0, math.log(t.mutation_factor)) for t in unstable)
    factor = study.study.genetic_instability * math.exp(min(growth, 700.0))
    if total * factor + differentiating > 1:
        times = {name: factor if tables[name].is_mutating else 1.0 for name in tables}
        name = max(steps, key=lambda name: steps[name][1] * times[name])
        besides = f", and {differentiating:.3g} of differentiation" if differentiating else ""
        raise fault(
            "expected probabilities of all alterations that sum to at most 1 at one division, got "
            f"{total * factor + differentiating:.3g} ({total:.3g} times genetic instability "
            f"{factor:.3g}{besides})",
            ("alterations", name, steps[name][0]),
        )


def check_times(study: Draft) -> None:
    """Nothing is planned after the horizon, and no grid of times is too long to be kept."""
    horizon = study.study.horizon_days
    sync = study.study.sync_hours
    if sync is not None and sync > horizon * 24:
        raise expected(f"at most the horizon ({horizon * 24:g} h)", sync, ("study", "sync_hours"))
    for i, day in enumerate(study.record.snapshot_days):
        if day > horizon:
            at = ("record", "snapshot_days", i)
            raise expected(f"a day up to the horizon ({horizon:g})", day, at)
    record = study.record
    grids: list[tuple[Path, float | None]] = [
        (("study", "sync_hours"), (sync or default_sync_hours(study)) / 24),
        (("record", "every_days"), record.every_days),
        (("record", "clones_every_days"), record.clones_every_days),
        (("record", "concentration_every_h"), record.concentration_every_h / 24),
    ]
    for path, step in grids:
        if step is not None and horizon / step > MAX_ENTRIES:
            raise fault(
                f"cuts {horizon:g} days into {horizon / step:.3g} intervals; "
                f"expected at most {MAX_ENTRIES}",
                path,
            )


CHECKS = (
    check_names,
    check_engine,
    check_tumor,
    check_sites,
    check_drugs,
    check_pumps,
    check_immune,
    check_alterations,
    check_targets,
    check_times,
    check_visits,
    check_host,
    check_drug_limits,
    check_arms,
    check_growth,
    check_trial,
)


def check(study: Draft) -> None:
    """Raise the fault of the first key that does not fit the rest of the study."""
    for one_check in CHECKS:
        one_check(study)
