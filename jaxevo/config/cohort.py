"""Cohort: [patients], each the study with some numbers of its own.

In a patient a number x of the study becomes x f, and f has the log-normal law with median 1 and
coefficient of variation cv, within the bounds that are given: ln f = sigma z, sigma^2 = ln(1 + cv^2).
A key that holds a table of numbers, such as kd_um by target, multiplies all of them by one factor.
"""

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from jaxevo.config.draft import Draft
from jaxevo.config.overrides import keys_of
from jaxevo.config.sentences import StudyError, dotted, fault, hint, show
from jaxevo.config.tables import Variation

if TYPE_CHECKING:
    from jaxevo.config.study import Study

OF_TUMOR = ("birth_rate_per_day", "death_rate_per_day")
OF_STUDY = ("genetic_instability",)
TABLES = ("sites", "drugs", "targets", "pumps", "alterations")


def check_variations(study: Draft) -> None:
    """Every key of [patients.vary] leads to a number > 0 of the resolved study, within its bounds."""
    table = study.model_dump(exclude_none=True) if study.patients.vary else {}
    for name, variation in study.patients.vary.items():
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


def cohort(study: "Study") -> "Iterator[Study]":
    """The study of every patient, one by one; none where all patients are alike and only one.

    Raises:
        StudyError: a number that was drawn for a patient cannot be in a study.
    """
    # Here, because it brings JAX: a bad study is refused before that second is spent.
    from jaxevo.engines.patients import factor  # noqa: PLC0415

    count, vary = study.patients.count, study.patients.vary
    if count == 1 and not vary:
        return
    shared = study.resolved()
    del shared["patients"]
    for patient in range(count):
        table = copy.deepcopy(shared)
        for name, variation in vary.items():
            *path, last = keys_of(name)
            parent = _at(table, path)
            key: Any = int(last) if isinstance(parent, list) else last
            middle = parent[key]
            scale = 1.0 if isinstance(middle, dict) else middle
            above = 0.0 if variation.above is None else variation.above / scale
            below = math.inf if variation.below is None else variation.below / scale
            times = factor(study.study.seed, patient, name, variation.cv, above, below)
            parent[key] = _multiplied(middle, times, is_count=last.endswith("_cells"))
        try:
            yield type(study).model_validate(table)
        except ValidationError as error:
            raise StudyError(_sentence(error, patient)) from None


def _find(table: dict[str, Any], keys: list[str], at: tuple) -> Any:
    """The value at a path that patients may have of their own."""
    if len(keys) < 2:
        raise fault("expected the path of a number, such as tumor.birth_rate_per_day", at)
    shared = {"tumor": OF_TUMOR, "study": OF_STUDY}
    if keys[0] not in (*shared, *TABLES) or keys[1] not in shared.get(keys[0], keys[1]):
        names = [f"{root}.{key}" for root, own in shared.items() for key in own]
        raise fault(
            "is shared by all patients; expected a number in "
            f"{', '.join(f'[{name}.X]' for name in TABLES)}, or one of {', '.join(names)}",
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


def _at(table: Any, path: list[str]) -> Any:
    for key in path:
        table = table[int(key)] if isinstance(table, list) else table[key]
    return table


def _may_vary(value: object) -> bool:
    return isinstance(value, float) and 0 < value < math.inf


def _check_bounds(value: float, variation: Variation, at: tuple) -> None:
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


def _multiplied(value: Any, times: float, *, is_count: bool) -> Any:
    if isinstance(value, dict):
        return {name: x * times if _may_vary(x) else x for name, x in value.items()}
    return float(max(1, round(value * times))) if is_count else value * times


def _sentence(error: ValidationError, patient: int) -> str:
    detail = error.errors(include_url=False)[0]
    context = detail.get("ctx", {})
    path = (*detail["loc"], *context.get("at", ()))
    what = context.get("sentence", detail["msg"])
    joint = ": " if what.startswith("expected") else " "
    return (
        f"patient {patient} that [patients.vary] draws cannot be: key `{dotted(path)}`{joint}{what}; "
        "give what varies an `above` or a `below`"
    )
