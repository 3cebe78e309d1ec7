"""Build, second part: what is given to a patient, what the body may take, and what is decided."""

import math
from typing import TypeVar

import numpy as np

from jaxevo.config.alterations import Axes, fill
from jaxevo.config.arms import Surgery
from jaxevo.config.care import names_for
from jaxevo.config.doses import HOURS, Dosing
from jaxevo.config.study import Study
from jaxevo.config.visits import made
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines import base
from jaxevo.engines.base import Arm, Jump, Limits, Line
from jaxevo.host import HostParams

T = TypeVar("T")


def given(value: T | None) -> T:
    """A value that every resolved study has."""
    if value is None:
        raise TypeError("a study must be resolved before it is built")
    return value


def arm_of(study: Study, i: int, axes: Axes) -> Arm:
    """One arm, every dose, level and fraction on its own."""
    arm = study.arms[i]
    jumps = [
        Jump(day, gray=course.gray)
        for course in arm.radiation
        for day in course.days(study.study.first_weekday)
    ]
    jumps += [_operation(row, axes) for row in arm.surgery]
    names = names_for(study, arm)
    rule = lambda table: None if table is None else made(table, names)  # noqa: E731
    return Arm(
        arm.name,
        *given_of(study, arm.doses, axes),
        jumps=tuple(sorted(jumps, key=lambda jump: jump.day)),
        lines=tuple(Line(line.name, *given_of(study, line.doses, axes)) for line in arm.lines),
        policy=rule(arm.policy),
        safety=rule(arm.safety),
        transduced_share=arm.transduced_share,
    )


def given_of(
    study: Study, rows: list[Dosing], axes: Axes
) -> tuple[tuple[Dose, ...], tuple[Level, ...]]:
    """Single doses and levels of rows of a study."""
    doses, levels = [], []
    for row in rows:
        drug = axes.drugs[row.drug]
        for k, (start, end) in enumerate(row.spans(study.calendar)):
            if row.level_um is not None:
                levels.append(Level(drug, start, end, row.level_um))
            else:
                amount = row.amount if k else row.first_amount
                doses.append(
                    Dose(drug, start, amount, end - start, row.route == "oral", row.is_per_m2)
                )
    return tuple(doses), tuple(levels)


def _operation(row: Surgery, axes: Axes) -> Jump:
    removed = row.removed_fraction
    if not isinstance(removed, dict):
        raise TypeError("a study must be resolved before it is built")
    return Jump(row.day, tuple(1 - removed[name] for name in axes.sites))


def visits(study: Study) -> base.Visits | None:
    """When the patient is seen, if ever."""
    table = study.visits
    if table is None:
        return None
    composition = table.composition_cells
    return base.Visits(
        every=table.every_days,
        scan_every=table.scan_every,
        detection_cells=float(table.detection_cells),
        noise_cv=table.noise_cv,
        sequencing=table.sequencing_fraction,
        composition=None if composition is None else float(composition),
    )


def limits(study: Study) -> Limits | None:
    """What the body may be given of each drug, if that is limited."""
    drugs = study.drugs.values()
    rows = [
        (drug.max_dose_mg, drug.max_cumulative_mg, drug.max_cumulative_mg_per_m2) for drug in drugs
    ]
    if all(limit is None for row in rows for limit in row):
        return None
    columns = [
        tuple(math.inf if x is None else x for x in column) for column in zip(*rows, strict=True)
    ]
    return Limits(*columns)


def host(study: Study, axes: Axes) -> HostParams | None:
    """The marrow of one patient; None where nobody looks at it."""
    table = study.host
    if table is None:
        return None
    slope, gain, half = (
        np.zeros(len(axes.drugs)),
        np.zeros(len(axes.drugs)),
        np.ones(len(axes.drugs)),
    )
    for name, drug in table.drugs.items():
        at = axes.drugs[name]
        slope[at], gain[at] = drug.slope_per_um, drug.growth_gain
        if drug.growth_half_um is not None:
            half[at] = drug.growth_half_um
    has_pumps = table.marrow_pump or table.transduced_pump  # without any, their axis is empty
    normal, transduced = np.zeros((2, len(axes.pumps) if has_pumps else 0))
    fill(normal, axes.pumps, table.marrow_pump)
    fill(transduced, axes.pumps, table.transduced_pump)
    return HostParams(
        baseline=np.asarray(table.neutrophils_per_l_1e9),
        transit_days=np.asarray(table.transit_h / HOURS),
        feedback=np.asarray(table.feedback),
        slope=slope,
        marrow_pump=normal,
        transduced_share=np.asarray(table.transduced_share),
        transduced_pump=transduced,
        growth_gain=gain,
        growth_half=half,
    )
