"""Care: checks of what is given to a patient, what the body may take, and what is decided on the way."""

import itertools

from jaxevo.config.arms import SINGLE_LINE, Arm, Radiation
from jaxevo.config.doses import WEEK, Dosing
from jaxevo.config.draft import Draft, site_names
from jaxevo.config.sentences import Path, expected, fault, known_keys, missing, unknown_name
from jaxevo.config.tables import Drug
from jaxevo.config.visits import Rule, is_multiple, made

MAX_ENTRIES = 1_000_000  # times that are recorded, doses of an arm
MAX_FRACTIONS = 1000  # of radiation
TINY = 1e-9  # relative; a total so close to its limit is within it


def surface(study: Draft) -> float | None:
    """Body surface of the study's own patient, m2."""
    return None if study.host is None else study.host.body_surface_m2


def check_visits(study: Draft) -> None:
    """Visits are at syncs."""
    visits, sync = study.visits, study.study.sync_hours
    if visits is not None and sync is not None and not is_multiple(visits.every_days * 24, sync):
        raise expected(
            f"a multiple of study.sync_hours ({sync:g} h)",
            visits.every_days,
            ("visits", "every_days"),
        )
    if visits is not None and study.study.horizon_days / visits.every_days > MAX_ENTRIES:
        raise fault(f"makes more than {MAX_ENTRIES} visits", ("visits", "every_days"))


def check_trial(study: Draft) -> None:
    """Tumors are scanned, arms are named, and patients are there for all arms."""
    trial, visits, horizon = study.trial, study.visits, study.study.horizon_days
    if trial is None:
        return
    if visits is None:
        raise missing("a [visits] table, since a trial scans tumors at visits", ("visits",))
    between = visits.scan_every_days or visits.every_days
    if between > horizon * (1 + TINY):
        at = ("visits", "scan_every_days")
        raise expected(f"at most the horizon ({horizon:g} days) in a trial", between, at)
    names = [arm.name for arm in study.arms]
    if trial.control is not None and trial.control not in names:
        raise unknown_name("an arm", trial.control, names, ("trial", "control"))
    if trial.horizon_day is not None and not 0 < trial.horizon_day <= horizon:
        raise expected(
            f"a day after 0, up to the horizon ({horizon:g})",
            trial.horizon_day,
            ("trial", "horizon_day"),
        )
    if trial.pairing != "paired" and (study.patients.values or study.patients.file):
        raise fault(
            f'is "{trial.pairing}", which needs patients of its own for every arm, and [patients] lists '
            'them one by one; expected "paired"',
            ("trial", "pairing"),
        )


def check_host(study: Draft) -> None:
    """The marrow names pumps and drugs."""
    shares = [arm.transduced_share for arm in study.arms]
    for i, share in enumerate(shares):
        if share is not None and not (study.host and study.host.transduced_pump):
            raise fault("needs transduced_pump in [host]", ("arms", i, "transduced_share"))
    if study.host is None:
        return
    if study.host.transduced_pump and not any([study.host.transduced_share, *shares]):
        raise fault(
            "needs transduced_share > 0 beside it, or in an arm", ("host", "transduced_pump")
        )
    for key in ("marrow_pump", "transduced_pump"):
        known_keys("pump", getattr(study.host, key), study.pumps, ("host", key))
    known_keys("drug", study.host.drugs, study.drugs, ("host", "drugs"))


def check_arms(study: Draft) -> None:
    """Doses name drugs that can be given that way, between day 0 and the horizon."""
    horizon = study.study.horizon_days
    for i, arm in enumerate(study.arms):
        for path, doses in arm.all_doses():
            for k, dose in enumerate(doses):
                at = ("arms", i, *path, k)
                if dose.drug not in study.drugs:
                    raise unknown_name("a drug", dose.drug, study.drugs, (*at, "drug"))
                _check_dose(study, dose, at)
                _check_days(dose, horizon, at)
            _check_levels(study, doses, ("arms", i, *path))
        for k, course in enumerate(arm.radiation):
            _check_radiation(study, course, ("arms", i, "radiation", k))
        for k, operation in enumerate(arm.surgery):
            at = ("arms", i, "surgery", k)
            if operation.day >= horizon:
                raise expected(
                    f"a day before the horizon ({horizon:g})", operation.day, (*at, "day")
                )
            sites = site_names(study)
            known_keys("site", operation.removed_fraction, sites, (*at, "removed_fraction"))
        _check_decisions(study, arm, ("arms", i))
        if not arm.decides:
            _check_totals(study, arm, ("arms", i, "doses"))


def _check_dose(study: Draft, dose: Dosing, at: Path) -> None:
    drug, plasma = study.drugs[dose.drug], study.drugs[dose.drug].plasma
    key = "amount_mg_per_m2" if dose.is_per_m2 else "amount_mg"
    if plasma is None and dose.level_um is None:
        raise fault(
            f"is given of a drug without plasma; expected level_um, or [drugs.{dose.drug}.plasma]",
            (*at, key),
        )
    if plasma is not None and dose.level_um is not None:
        raise fault(
            f"is prescribed for a drug with [drugs.{dose.drug}.plasma]; expected amount_mg",
            (*at, "level_um"),
        )
    if dose.is_per_m2 and surface(study) is None:
        raise fault("needs body_surface_m2 in [host]", (*at, key))
    _check_most(study, drug, dose, at)
    if dose.route == "oral" and plasma is not None and plasma.absorption_per_h is None:
        raise fault(
            f'is "oral"; expected absorption_per_h in [drugs.{dose.drug}.plasma]', (*at, "route")
        )


def _check_most(study: Draft, drug: Drug, dose: Dosing, at: Path) -> None:
    """No dose is above the label maximum, in a patient of the study's own body surface."""
    most = drug.max_dose_mg
    if most is None or dose.level_um is not None:
        return
    unit = "_mg_per_m2" if dose.is_per_m2 else "_mg"
    times = (surface(study) or 1.0) if dose.is_per_m2 else 1.0
    for key, amount in (("amount", dose.amount), ("loading", dose.first_amount)):
        if amount * times > most * (1 + TINY):
            per = f", {most / times:g} per m2" if dose.is_per_m2 else ""
            raise expected(f"at most max_dose_mg ({most:g}{per})", amount, (*at, key + unit))


def _check_totals(study: Draft, arm: Arm, at: Path) -> None:
    """No arm plans more of a drug than a body may be given in all."""
    totals: dict[str, float] = {}
    for k, dose in enumerate(arm.doses):
        drug, own = study.drugs[dose.drug], surface(study)
        number = len(dose.spans(study.calendar))
        if dose.level_um is not None or number == 0:
            continue
        amount = dose.first_amount + (number - 1) * dose.amount
        total = totals.get(dose.drug, 0.0) + amount * ((own or 1.0) if dose.is_per_m2 else 1.0)
        totals[dose.drug] = total
        key = "amount_mg_per_m2" if dose.is_per_m2 else "amount_mg"
        most, per_m2 = drug.max_cumulative_mg, drug.max_cumulative_mg_per_m2
        if most is not None and total > most * (1 + TINY):
            raise fault(
                f"makes {total:g} mg of {dose.drug} in all; "
                f"expected at most max_cumulative_mg ({most:g})",
                (*at, k, key),
            )
        if per_m2 is not None and own is not None and total > per_m2 * own * (1 + TINY):
            raise fault(
                f"makes {total / own:g} mg per m2 of {dose.drug} in all; "
                f"expected at most max_cumulative_mg_per_m2 ({per_m2:g})",
                (*at, k, key),
            )


def check_drug_limits(study: Draft) -> None:
    """A limit per body surface needs the surface."""
    for name, drug in study.drugs.items():
        if drug.max_cumulative_mg_per_m2 is not None and surface(study) is None:
            raise fault(
                "needs body_surface_m2 in [host]", ("drugs", name, "max_cumulative_mg_per_m2")
            )


def _check_days(dose: Dosing, horizon: float, at: Path) -> None:
    for key in ("day", "from_day"):
        day = getattr(dose, key)
        if day is not None and day >= horizon:
            raise expected(f"a day before the horizon ({horizon:g})", day, (*at, key))
    if dose.until_day is not None and dose.until_day > horizon:
        at = (*at, "until_day")
        raise expected(f"a day up to the horizon ({horizon:g})", dose.until_day, at)
    number = dose.num_times(horizon)
    if number > MAX_ENTRIES:
        key = dose.repeats or "every_days"
        raise fault(f"makes {number} doses; expected at most {MAX_ENTRIES}", (*at, key))


def _check_levels(study: Draft, doses: list[Dosing], at: Path) -> None:
    """No two rows prescribe the level of one drug at the same time."""
    spans = []
    for k, dose in enumerate(doses):
        if dose.level_um is not None:
            found = dose.spans(study.calendar)
            spans += [(dose.drug, span.start, span.end, k) for span in found]
    spans.sort()
    for one, two in itertools.pairwise(spans):
        if one[0] == two[0] and two[1] < one[2] and one[3] != two[3]:
            first, second = sorted((one[3], two[3]))
            raise fault(
                f"prescribes {one[0]} on day {two[1]:g}, as row {first} does; "
                "expected levels of one drug that do not overlap",
                (*at, second, "level_um"),
            )


def _check_radiation(study: Draft, course: Radiation, at: Path) -> None:
    """Cells answer radiation, and its last fraction comes before the horizon."""
    horizon, tumor = study.study.horizon_days, study.tumor
    if tumor.radiation_alpha_per_gy == tumor.radiation_beta_per_gy2 == 0:
        raise fault(
            "does nothing; expected radiation_alpha_per_gy or radiation_beta_per_gy2 in [tumor]",
            (*at, "gray"),
        )
    if course.from_day >= horizon:
        key = (*at, "from_day")
        raise expected(f"a day before the horizon ({horizon:g})", course.from_day, key)
    if course.fractions > MAX_FRACTIONS:
        raise expected(f"at most {MAX_FRACTIONS} fractions", course.fractions, (*at, "fractions"))
    last = course.days(study.study.first_weekday)[-1]
    if last >= horizon:
        raise fault(
            f"puts the last fraction on day {last:g}; expected a day before the horizon ({horizon:g})",
            (*at, "fractions" if course.fractions > 1 else "from_day"),
        )


# --- decisions -------------------------------------------------------------------------------------


def _check_decisions(study: Draft, arm: Arm, at: Path) -> None:
    """A rule is given what it reads and the lines that it chooses between."""
    names = [line.name for line in arm.lines]
    for k, name in enumerate(names):
        if name in names[:k]:
            raise fault(
                f'expected a name of its own, got "{name}", which lines.{names.index(name)} has',
                (*at, "lines", k, "name"),
            )
    if arm.lines and arm.policy is None:
        raise fault("needs [arms.policy], which chooses between lines", (*at, "lines"))
    for key, rule in (("policy", arm.policy), ("safety", arm.safety)):
        if rule is not None:
            _check_rule(study, arm, rule, (*at, key))
    chosen = arm.all_doses()[1:] if arm.lines or arm.policy is None else arm.all_doses()
    for path, doses in chosen:
        for k, dose in enumerate(doses):
            if dose.weekdays is not None and not _is_weekly(study):
                raise fault(
                    "counts from the visit at which the line begins; expected visits on one day of "
                    "the week: every_days in [visits] a multiple of 7",
                    (*at, *path, k, "weekdays"),
                )


def names_for(study: Draft, arm: Arm) -> dict[str, tuple[str, ...]]:
    """The names that rules take from the study, each in its order."""
    return {
        "lines": tuple(line.name for line in arm.lines) or (SINGLE_LINE,),
        "drugs": tuple(study.drugs),
        "alterations": tuple(study.alterations),
    }


def _is_weekly(study: Draft) -> bool:
    return study.visits is not None and is_multiple(study.visits.every_days, float(WEEK))


def _check_rule(study: Draft, arm: Arm, rule: Rule, at: Path) -> None:
    visits = study.visits
    where, name = (*at, "rule"), rule.rule
    if visits is None:
        raise missing(
            f'a [visits] table, since the rule "{name}" decides when the patient is seen',
            ("visits",),
        )
    absent = {
        "fractions": visits.sequencing_fraction is None and "sequencing_fraction in [visits]",
        "composition": visits.composition_cells is None and "composition_cells in [visits]",
        "neutrophils": study.host is None and "a [host] table",
    }
    for quantity in rule.kind.needs:
        if absent.get(quantity):
            raise fault(
                f'is "{name}", which reads {quantity}, and nobody observes it; '
                f"expected {absent[quantity]}",
                where,
            )
    if at[-1] == "policy":
        least, most = rule.kind.num_lines
        number = len(arm.lines) or 1
        if number < least or (most is not None and number > most):
            bound = f"at least {least}" if number < least else f"at most {most}"
            raise fault(f'is "{name}", which needs {bound} [[arms.lines]], got {number}', where)
    made(rule, names_for(study, arm), at)
