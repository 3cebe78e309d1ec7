"""Decisions: what [optimize] asks of the rest of a study, and the doses of an arm that decisions make."""

from collections.abc import Iterable
from typing import NamedTuple

from jaxevo.config.arms import Arm
from jaxevo.config.doses import TINY, Dosing
from jaxevo.config.draft import Draft
from jaxevo.config.optimize import OVER, Choice, Optimize
from jaxevo.config.sentences import expected, fault, known_keys, missing, unknown_name
from jaxevo.config.tables import Drug

MOST_PATIENTS = 16  # of a search, by default
MOST_CYCLES = 2000
OPTIMIZED, ROUNDED = "optimized", "optimized, rounded"


class Variable(NamedTuple):
    """One decision: the amount of one drug in one cycle."""

    drug: str
    cycle: int
    first: float  # day on which the cycle begins
    last: float  # nothing is given from this day on


def variables(study: Draft) -> list[Variable]:
    """All decisions of a resolved study, drug by drug."""
    table, horizon = study.optimize, study.study.horizon_days
    found = []
    for name, choice in (table.drugs if table else {}).items():
        last = horizon if choice.until_day is None else choice.until_day
        found += [
            Variable(name, i, first, last)
            for i, first in enumerate(choice.starts(horizon))
            if choice.row(name, first, last, 1.0).spans(study.calendar)
        ]
    return found


def rows(study: Draft, amounts: Iterable[float]) -> list[Dosing]:
    """The doses of an arm that gives each decision its amount; nothing is left out."""
    choices = study.optimize.drugs if study.optimize else {}
    return [
        choices[v.drug].row(v.drug, v.first, v.last, float(x))
        for v, x in zip(variables(study), amounts, strict=True)
    ]


def check_optimize(study: Draft) -> None:
    """Drugs, arms and limits exist, and every amount has a largest value."""
    table = study.optimize
    if table is None:
        return
    at = ("optimize",)
    if not table.drugs:
        raise missing("a table [optimize.drugs.X] for each drug to decide on", (*at, "drugs"))
    known_keys("drug", table.drugs, study.drugs, (*at, "drugs"))
    for name, choice in table.drugs.items():
        _check_choice(study, study.drugs[name], choice, name)
    names = [arm.name for arm in study.arms]
    for i, name in enumerate(names):
        if name in (OPTIMIZED, ROUNDED):
            raise fault(f'is "{name}", the name of what is found', ("arms", i, "name"))
    _check_arms(study, table, names)
    number = study.patients.count
    if table.over in OVER[1:] and number == 1:
        raise fault(f'is "{table.over}", and there is one patient', (*at, "over"))
    if (table.verdict_patients or number) < number and study.patients.values:
        at = (*at, "verdict_patients")
        raise fault("chooses among patients whose values are given one by one", at)


def _check_arms(study: Draft, table: Optimize, names: list[str]) -> None:
    """Arms that are named, and neutrophils that somebody has."""
    at = ("optimize",)
    for i, name in enumerate(table.compare or []):
        if name not in names:
            raise unknown_name("an arm", name, names, (*at, "compare", i))
    if table.beside is not None:
        if table.beside not in names:
            raise unknown_name("an arm", table.beside, names, (*at, "beside"))
        if study.arms[names.index(table.beside)].policy is not None:
            raise fault("chooses at visits; expected an arm with a plan", (*at, "beside"))
    least = table.min_neutrophils_per_l_1e9
    if least is not None:
        key = (*at, "min_neutrophils_per_l_1e9")
        if study.host is None:
            raise fault("needs a [host] table, whose neutrophils they are", key)
        if least >= study.host.neutrophils_per_l_1e9:
            usual = study.host.neutrophils_per_l_1e9
            raise expected(f"less than without treatment ({usual:g})", least, key)


def _check_choice(study: Draft, drug: Drug, choice: Choice, name: str) -> None:
    at, horizon = ("optimize", "drugs", name), study.study.horizon_days
    if drug.plasma is None and choice.max_um is None:
        raise missing("a number > 0 uM, since the drug has no plasma", (*at, "max_um"))
    if drug.plasma is not None and choice.max_um is not None:
        raise fault(f"prescribes a drug with [drugs.{name}.plasma]", (*at, "max_um"))
    label = drug.max_dose_mg
    if drug.plasma is not None and choice.max_mg is None and label is None:
        raise missing(f"a number > 0 mg, or max_dose_mg in [drugs.{name}]", (*at, "max_mg"))
    if label is not None and (choice.max_mg or 0.0) > label:
        raise expected(f"at most max_dose_mg ({label:g})", choice.max_mg, (*at, "max_mg"))
    if choice.route == "oral" and drug.plasma and drug.plasma.absorption_per_h is None:
        raise fault(
            f'is "oral"; expected absorption_per_h in [drugs.{name}.plasma]', (*at, "route")
        )
    for key in ("from_day", "until_day"):
        day = getattr(choice, key)
        if day is not None and day > horizon - TINY * (key == "from_day"):
            word = "before" if key == "from_day" else "up to"
            raise expected(f"a day {word} the horizon ({horizon:g})", day, (*at, key))
    number = len(choice.starts(horizon))
    if number > MOST_CYCLES:
        raise fault(f"makes {number} cycles; expected at most {MOST_CYCLES}", (*at, "cycle_days"))
    most = choice.max_mg or label or choice.max_um
    if choice.step is not None and most is not None and choice.step > most:
        key = "step_um" if choice.max_um else "step_mg"
        raise expected(f"at most the largest amount ({most:g})", choice.step, (*at, key))


def resolve_optimize(study: Draft) -> None:
    """Largest amounts, days, patients and arms are spelled out."""
    table = study.optimize
    if table is None:
        return
    for name, choice in table.drugs.items():
        drug = study.drugs[name]
        choice.until_day = choice.until_day or study.study.horizon_days
        if choice.max_um is not None:
            continue
        choice.max_mg = choice.max_mg or drug.max_dose_mg
        choice.max_total_mg = choice.max_total_mg or drug.max_cumulative_mg
        if choice.on_days is None and choice.every_h is None:
            choice.on_days = [0.0]
        if choice.route is None and choice.infusion_h is not None:
            choice.route = "infusion"
        elif choice.route is None:
            is_oral = drug.plasma is not None and drug.plasma.absorption_per_h is not None
            choice.route = "oral" if is_oral else "bolus"
    table.over = table.over or ("mean" if study.patients.count > 1 else "patient")
    if table.patients is None:
        table.patients = 1 if table.over == "patient" else min(study.patients.count, MOST_PATIENTS)
    table.compare = [arm.name for arm in study.arms] if table.compare is None else table.compare
    number = study.patients.count
    table.verdict_patients = min(table.verdict_patients or number, number)


def beside(study: Draft) -> Arm | None:
    """The arm whose radiation, surgery and other drugs go along with the schedule."""
    table = study.optimize
    if table is None or table.beside is None:
        return None
    return next(arm for arm in study.arms if arm.name == table.beside)
