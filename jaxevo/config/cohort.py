"""Cohort: [patients], each the study with some numbers of its own.

In a patient a number x of the study becomes x f, and f has the log-normal law with median 1 and
coefficient of variation cv, within the bounds that are given: ln f = sigma z, sigma^2 = ln(1 + cv^2). A
key that holds a table of numbers, such as kd_um by target, multiplies all of them by one factor. Two z
may be correlated. Or the numbers of all patients are given, one by one.
"""

import copy
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from jaxevo.config.draft import Draft
from jaxevo.config.overrides import keys_of
from jaxevo.config.sentences import Path, StudyError, dotted, fault, hint, show, unknown_name
from jaxevo.config.tables import Patients, Variation

if TYPE_CHECKING:
    from jaxevo.config.study import Study

SHARED = {
    "tumor": (
        "birth_rate_per_day",
        "death_rate_per_day",
        "radiation_alpha_per_gy",
        "radiation_beta_per_gy2",
    ),
    "study": ("genetic_instability",),
}
TABLES = ("sites", "drugs", "targets", "pumps", "alterations")
BODY = ("host", "immune")
LEAST_EIGENVALUE = 1e-9  # of correlations; below it, rounding decides
UNTREATED = {"name": "untreated", "doses": []}


def check_patients(study: Draft) -> None:
    """Every key that differs between patients leads to a number of the resolved study."""
    patients = study.patients
    table = study.model_dump(exclude_none=True) if patients.vary or patients.values else {}
    for name, variation in patients.vary.items():
        at = ("patients", "vary", name)
        found = _find(table, keys_of(name), at)
        if isinstance(found, dict):
            if variation.above is not None or variation.below is not None:
                key = "below" if variation.above is None else "above"
                raise fault("belongs to a single number, and this is a table of them", (*at, key))
            if not any(_may_vary(x) for x in found.values()):
                raise fault("is a table without a finite number > 0 that could vary", at)
        elif not _may_vary(found):
            raise fault(f"leads to {show(found)}; expected a finite number > 0 that can vary", at)
        else:
            _check_bounds(found, variation, at)
    for name in patients.values:
        at = ("patients", "values", name)
        found = _find(table, keys_of(name), at)
        if isinstance(found, dict) and len(found) > 1 and any(map(_is_number, found.values())):
            raise fault(
                f"is a table; expected one of its numbers, such as {name}.{next(iter(found))}", at
            )
        found = next(iter(found.values()), None) if isinstance(found, dict) else found
        if not _is_number(found):
            raise fault(f"leads to {show(found)}; expected a number", at)
    _check_correlations(patients)


def _check_correlations(patients: Patients) -> None:
    """Pairs of keys that vary, each once, whose correlations are possible together."""
    at: Path = ("patients", "correlations")
    seen = set()
    for i, (one, two, _) in enumerate(patients.correlations):
        for k, name in enumerate((one, two)):
            if name not in patients.vary:
                raise unknown_name("a key of patients.vary", name, patients.vary, (*at, i, k))
        if one == two:
            raise fault("correlates a key with itself", (*at, i))
        if frozenset((one, two)) in seen:
            raise fault("correlates a pair that stands there already", (*at, i))
        seen.add(frozenset((one, two)))
    _, matrix = correlation(patients)
    if np.linalg.eigvalsh(matrix).min(initial=1.0) < LEAST_EIGENVALUE:
        raise fault("contradict each other: no numbers can be correlated in these ways at once", at)


def correlation(patients: Patients) -> tuple[list[str], np.ndarray]:
    """The keys that are correlated, in alphabetical order, and the matrix of their correlations."""
    rows = patients.correlations
    names = sorted({name for row in rows for name in row[:2]})
    matrix = np.eye(len(names))
    for one, two, value in rows:
        i, j = names.index(one), names.index(two)
        matrix[i, j] = matrix[j, i] = value
    return names, matrix


def cohort(study: "Study") -> "Iterator[Study]":
    """The study of every patient, one by one; none where all patients are alike and only one.

    Raises:
        StudyError: a number that was drawn for a patient, or given, cannot be in a study.
    """
    patients = study.patients
    if patients.count == 1 and not patients.vary and not patients.values:
        return
    # All patients have the arms of the study, of which only the marrow matters to what a body may be.
    shares = [arm.transduced_share or 0.0 for arm in study.arms]
    shared = study.resolved() | {"arms": [UNTREATED | {"transduced_share": max(shares) or None}]}
    del shared["patients"]
    for table in ("trial", "screen", "optimize"):
        shared.pop(table, None)
    rows = _ranks(study) if patients.vary else itertools.repeat((), patients.count)
    for patient, row in enumerate(rows):
        table = copy.deepcopy(shared)
        for (name, variation), rank in zip(patients.vary.items(), row, strict=True):
            parent, key = _parent(table, name)
            parent[key] = _varied(parent[key], variation, rank, is_count=name.endswith("_cells"))
        for name, column in patients.values.items():
            parent, key = _parent(table, name)
            own = column[patient]
            parent[key] = dict.fromkeys(parent[key], own) if isinstance(parent[key], dict) else own
        try:
            yield type(study).model_validate(table)
        except ValidationError as error:
            raise StudyError(_sentence(error, patient, patients)) from None


def _ranks(study: "Study") -> np.ndarray:
    """The rank of every patient in every number that varies, [patient, name]."""
    # Here, because it brings JAX: a bad study is refused before that second is spent.
    from jaxevo.engines.patients import correlated, ranks  # noqa: PLC0415

    patients, vary = study.patients, list(study.patients.vary)
    found = ranks(study.study.seed, patients.count, vary, patients.sampling)
    names, matrix = correlation(patients)
    if names:
        columns = [vary.index(name) for name in names]
        found[:, columns] = correlated(found[:, columns], matrix)
    return found


def _varied(middle: Any, variation: Variation, rank: float, *, is_count: bool) -> Any:
    """A number, or all numbers of a table, times the factor of one patient."""
    from jaxevo.engines.patients import factor  # noqa: PLC0415

    scale = 1.0 if isinstance(middle, dict) else middle
    above = 0.0 if variation.above is None else variation.above / scale
    below = math.inf if variation.below is None else variation.below / scale
    times = factor(float(rank), variation.cv, above, below)
    if isinstance(middle, dict):
        return {name: x * times if _may_vary(x) else x for name, x in middle.items()}
    return float(max(1, round(middle * times))) if is_count else middle * times


def _find(table: dict[str, Any], keys: list[str], at: Path) -> Any:
    """The value at a path that patients may have of their own."""
    if len(keys) < 2:
        raise fault("expected the path of a number, such as tumor.birth_rate_per_day", at)
    if keys[0] not in (*SHARED, *TABLES, *BODY) or keys[1] not in SHARED.get(keys[0], keys[1]):
        names = [f"{root}.{key}" for root, own in SHARED.items() for key in own]
        raise fault(
            "is shared by all patients; expected a number in "
            f"{', '.join(f'[{name}.X]' for name in TABLES)}, [host] or [immune], or one of "
            f"{', '.join(names)}",
            at,
        )
    level: Any = table
    for i, key in enumerate(keys):
        known = [str(k) for k in range(len(level))] if isinstance(level, list) else list(level)
        if key not in known:
            where = f"`{dotted(tuple(keys[:i]))}`" if i else "the study"
            raise fault(f"is not in the study: {where} has no `{key}`{hint(key, known)}", at)
        level = level[int(key)] if isinstance(level, list) else level[key]
        if i < len(keys) - 1 and not isinstance(level, dict | list):
            raise fault(f"goes on below `{dotted(tuple(keys[: i + 1]))}`, which is a value", at)
    return level


def _parent(table: Any, name: str) -> tuple[Any, Any]:
    """What holds the value at a path, and under which key or index."""
    *path, last = keys_of(name)
    for key in path:
        table = table[int(key)] if isinstance(table, list) else table[key]
    return table, int(last) if isinstance(table, list) else last


def _is_number(value: object) -> bool:
    return isinstance(value, float)


def _may_vary(value: object) -> bool:
    return isinstance(value, float) and 0 < value < math.inf


def _check_bounds(value: float, variation: Variation, at: Path) -> None:
    if variation.above is not None and variation.above >= value:
        raise fault(
            f"expected less than the study's own value ({value:g}), got {variation.above:g}",
            (*at, "above"),
        )
    if variation.below is not None and variation.below <= value:
        raise fault(
            f"expected more than the study's own value ({value:g}), got {variation.below:g}",
            (*at, "below"),
        )


def _sentence(error: ValidationError, patient: int, patients: Patients) -> str:
    detail = error.errors(include_url=False)[0]
    context = detail.get("ctx", {})
    path = (*detail["loc"], *context.get("at", ()))
    what = context.get("sentence", detail["msg"])
    joint = ": " if what.startswith("expected") else " "
    way_out = "; give what varies an `above` or a `below`" if patients.vary else ""
    source = "[patients.vary] draws" if patients.vary else "[patients.values] gives"
    return f"patient {patient} that {source} cannot be: key `{dotted(path)}`{joint}{what}{way_out}"
