"""Schedules: from [optimize] of a study to what a search decides on, and from what it found to an arm."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxevo.config import Study
from jaxevo.config.build import axes_of
from jaxevo.config.build_care import given, given_of
from jaxevo.config.decisions import OPTIMIZED, beside, rows, variables
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines.base import Arm, Problem
from jaxevo.optimize import Limit, Pattern, total

NEARLY_NONE = 1e-6  # of the largest amount; less is not given
BESIDE = ("radiation", "surgery", "transduced_share")
NEAR = 1e-9  # relative; so close to its limit is within it
TOGETHER = "all drugs together"


class Decisions(NamedTuple):
    """What is decided. Variables beyond those of the study are fixed: what is given beside."""

    arm: Arm  # with every amount at its largest
    pattern: Pattern
    limits: tuple[Limit, ...]  # on amounts
    steps: Float[np.ndarray, " variable"]  # strengths; 0 for any amount
    num_free: int  # of the variables


def decisions(study: Study, problem: Problem) -> Decisions:
    """The arm whose amounts are sought, its variables and limits on its totals."""
    table, axes, own = given(study.optimize), axes_of(study), variables(study)
    most = np.array([table.drugs[v.drug].most for v in own])
    doses: list[tuple[Dose, int]] = []
    levels: list[tuple[Level, int]] = []
    for k, row in enumerate(rows(study, most)):
        some, held = given_of(study, [row], axes)
        doses += [(x, k) for x in some]
        levels += [(x, k) for x in held]
    kept, fixed, template = beside(study), [], Arm(OPTIMIZED, ())
    if kept is not None:
        arm = next(arm for arm in problem.arms if arm.name == kept.name)
        template = arm._replace(name=OPTIMIZED, safety=None)
        chosen = {axes.drugs[name] for name in table.drugs}
        more = [x for x in arm.doses if x.drug not in chosen]
        held = [x for x in arm.levels if x.drug not in chosen]
        doses += [(x, len(own) + i) for i, x in enumerate(more)]
        levels += [(x, len(own) + len(more) + i) for i, x in enumerate(held)]
        fixed = [x.amount_mg for x in more] + [x.level_um for x in held]
    entries = [*doses, *levels]
    low = np.concatenate([np.zeros(len(own)), fixed])
    drug_of = {k: entry.drug for entry, k in entries}
    pattern = Pattern(
        weight=np.ones(len(entries)),
        variable=np.array([k for _, k in entries], int),
        low=low,
        high=np.concatenate([most, fixed]),
        drug=np.array([drug_of[k] for k in range(len(low))], int),
        cycle=np.array([v.cycle for v in own] + [0] * len(fixed), int),
    )
    steps = [table.drugs[v.drug].step or 0.0 for v in own] + [0.0] * len(fixed)
    return Decisions(
        arm=template._replace(doses=tuple(x for x, _ in doses), levels=tuple(x for x, _ in levels)),
        pattern=pattern,
        limits=tuple(_totals(study, pattern)),
        steps=np.array(steps),
        num_free=len(own),
    )


def _totals(study: Study, pattern: Pattern):
    """Sums over a cycle, and over all of them, that could be too large."""
    own = variables(study)
    drug_of = np.array([own[k].drug if k < len(own) else "" for k in pattern.variable])
    for name, choice in given(study.optimize).drugs.items():
        mine = drug_of == name
        if choice.max_per_cycle_mg is not None:
            cycles = np.unique(pattern.variable[mine])
            weight = (pattern.variable[None] == cycles[:, None]).astype(float)
            yield total(f"{name} per cycle", weight, np.full(len(cycles), choice.max_per_cycle_mg))
        if choice.max_total_mg is not None:
            weight = mine.astype(float)[None]
            yield total(f"{name} in all", weight, np.array([choice.max_total_mg]))
    if (most := given(study.optimize).max_together) is not None:
        number = np.maximum(np.bincount(pattern.variable), 1)
        share = 1 / (pattern.high * number)[pattern.variable]
        rows = np.array([share * np.isin(pattern.variable, group) for group in _at_once(study)])
        yield total(TOGETHER, rows, np.full(len(rows), most))


def _at_once(study: Study) -> list[list[int]]:
    """Decisions whose cycles overlap: those that hold on the day on which any of them begins."""
    own, choices = variables(study), given(study.optimize).drugs
    ends = [min(v.last, v.first + choices[v.drug].cycle_days) for v in own]
    days = sorted({v.first for v in own})
    spans = [(v.first - NEAR, end - NEAR) for v, end in zip(own, ends, strict=True)]
    return [[k for k, (first, end) in enumerate(spans) if first <= day < end] for day in days]


# --- from amounts to an arm ------------------------------------------------------------------------


def arm_table(study: Study, name: str, amounts: Float[np.ndarray, " variable"]) -> dict[str, Any]:
    """An arm as a study has it, which gives each decision its amount."""
    choices = given(study.optimize).drugs
    own = variables(study)
    found = [
        row.model_dump(exclude_none=True)
        for row, v, x in zip(rows(study, amounts[: len(own)]), own, amounts, strict=False)
        if x > NEARLY_NONE * choices[v.drug].most
    ]
    kept = beside(study)
    table: dict[str, Any] = {"name": name, "doses": found}
    if kept is None:
        return table
    rest = kept.model_dump(exclude_none=True)
    table["doses"] = found + [row for row in rest["doses"] if row["drug"] not in choices]
    return table | {key: rest[key] for key in BESIDE if rest.get(key)}


def with_arms(study: Study, tables: list[dict[str, Any]]) -> Study:
    """The study with arms before its own, of which those stay that are to be compared; for its verdict."""
    whole, table = study.resolved(), given(study.optimize)
    compared = table.compare or []
    if table.verdict_patients != study.patients.count:
        whole["patients"]["count"] = table.verdict_patients
    kept = [arm for arm in whole["arms"] if arm["name"] in compared]
    del whole["optimize"]
    whole["arms"] = tables + kept
    if whole.get("trial", {}).get("control") not in compared:
        whole.get("trial", {}).pop("control", None)
    return type(study).model_validate(whole)


# --- other arms in terms of the decisions ----------------------------------------------------------


def forms(arm: Arm) -> list[Arm]:
    """What an arm can come to: its plan, or each of the lines that a policy may choose, throughout.

    A rule of safety only ever takes away.
    """
    plan = arm._replace(policy=None, safety=None, lines=())
    return [
        plan._replace(doses=plan.doses + line.doses, levels=plan.levels + line.levels)
        for line in arm.lines
    ] or [plan]


def usage(study: Study, arm: Arm) -> Float[np.ndarray, " variable"]:
    """Amounts of the decisions that come closest to an arm: its means over the same cycles."""
    axes, choices = axes_of(study), given(study.optimize).drugs
    found = []
    for v in variables(study):
        choice, drug = choices[v.drug], axes.drugs[v.drug]
        last = min(v.last, v.first + choice.cycle_days)
        if choice.max_um is not None:
            spans = [(x, min(x.end, last) - max(x.start, v.first)) for x in arm.levels]
            held = sum(x.level_um * d for x, d in spans if x.drug == drug and d > 0)
            found.append(held / (last - v.first))
            continue
        number = len(choice.row(v.drug, v.first, v.last, 1.0).spans(study.calendar))
        found.append(_given_mg(study, arm, drug, v.first, last) / number)
    return np.array(found)


def _given_mg(study: Study, arm: Arm, drug: int, first: float, last: float) -> float:
    """Milligrams of a drug in a time."""
    own = study.host.body_surface_m2 if study.host is not None else None
    some = [x for x in arm.doses if x.drug == drug and first - NEAR <= x.day < last - NEAR]
    return sum((x.mg(own or 1.0) for x in some), 0.0)


def beyond(study: Study, arm: Arm) -> list[str]:
    """Which limits on doses the plan of an arm breaks, in words; neutrophils are seen elsewhere."""
    axes, found = axes_of(study), []
    surface = (study.host.body_surface_m2 if study.host is not None else None) or 1.0
    for name, choice in given(study.optimize).drugs.items():
        drug, horizon = axes.drugs[name], study.study.horizon_days
        amounts = [x.mg(surface) for x in arm.doses if x.drug == drug]
        amounts += [x.level_um for x in arm.levels if x.drug == drug]
        if max(amounts, default=0.0) > choice.most * (1 + NEAR):
            found.append(f"largest amount of {name}")
        cycles = [(first, first + choice.cycle_days) for first in choice.starts(horizon)]
        most = max((_given_mg(study, arm, drug, *span) for span in cycles), default=0.0)
        if most > (choice.max_per_cycle_mg or np.inf) * (1 + NEAR):
            found.append(f"{name} per cycle")
        everything = _given_mg(study, arm, drug, -1.0, np.inf)
        if everything > (choice.max_total_mg or np.inf) * (1 + NEAR):
            found.append(f"{name} in all")
    most = given(study.optimize).max_together
    if most is not None:
        own, choices = variables(study), given(study.optimize).drugs
        share = usage(study, arm) / np.array([choices[v.drug].most for v in own])
        if max((share[group].sum() for group in _at_once(study)), default=0.0) > most * (1 + NEAR):
            found.append(TOGETHER)
    return found
