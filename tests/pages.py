"""Pages: reading Markdown, and the schema of study files in the words of `docs/study.md`."""

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from jaxevo.config.draft import Draft
from jaxevo.config.tables import Table
from jaxevo.config.values import Correlation, Integer, Number, PerName, Switch, Whole, Words

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# --- reading a page ---


def code(page: str, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return [block for name, block in FENCED.findall(page) if name == language]


def spans(text: str) -> list[str]:
    """What stands in backticks, outside fenced blocks."""
    return re.findall(r"`([^`]+)`", FENCED.sub("", text))


class Grid(NamedTuple):
    """One table of a page, without its header."""

    heading: str
    columns: list[str]
    rows: list[list[str]]


def grids(page: str) -> list[Grid]:
    """All tables of a page, in order, each under the nearest heading."""
    found, heading, rows = [], "", []
    for line in [*FENCED.sub("", page).splitlines(), ""]:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(Grid(heading, rows[0], rows[2:]))
            rows = []
    return found


def bare(cell: str) -> str:
    """A cell without backticks."""
    return cell.replace("`", "")


def anchors(page: str) -> set[str]:
    """Names that links can give to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- the schema in the words of the page ---

UNITS = {
    "per day": "1/day",
    "per hour": "1/h",
    "uM per hour": "uM/h",
    "cells per day": "cells/day",
    "per day and cell": "1/(day cell)",
    "L per hour": "L/h",
    "g per mol": "g/mol",
    "mg per m2": "mg/m2",
    "per uM": "1/uM",
    "per Gy": "1/Gy",
    "per Gy2": "1/Gy^2",
    "(1e9 per L)": "1e9/L",
    "(a probability per division)": "per division",
}
UNITS_OF_NAMES = {"_cells": "cells", "_per_day": "1/day", "_days": "days"}  # of rules of treatment
RULES = (Number, Whole, Integer, Words, Switch, PerName, Correlation)


def plain(kind: Any) -> Any:
    """A type without annotations and without None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [arg for arg in get_args(kind) if arg is not types.NoneType]
        return plain(kinds[0]) if len(kinds) == 1 else kind
    return kind


def is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Table)


def schema(table: type[Table] = Draft, path: str = "") -> Iterator[tuple[str, type[Table]]]:
    """Every table of a study as TOML names it, X for a name, and its class."""
    for key, field in table.model_fields.items():
        kind = plain(field.annotation)
        inner = plain(get_args(kind)[-1]) if get_origin(kind) in (dict, list) else kind
        if not is_table(inner):
            continue
        name = f"{path}{key}.X" if get_origin(kind) is dict else f"{path}{key}"
        yield f"[[{name}]]" if get_origin(kind) is list else f"[{name}]", inner
        yield from schema(inner, f"{name}.")


def rules_in(kind: Any) -> list[Any]:
    """Validators in a type, however deep."""
    marks = [getattr(mark, "func", None) for mark in getattr(kind, "__metadata__", ())]
    found = [mark for mark in marks if isinstance(mark, RULES)]
    return found or [rule for arg in get_args(kind) for rule in rules_in(arg)]


def rule_of(field: FieldInfo) -> Any:
    """The validator of a key, None for a table."""
    marks = [getattr(mark, "func", None) for mark in field.metadata]
    found = [mark for mark in marks if isinstance(mark, RULES)] or rules_in(field.annotation)
    return found[0] if found else None


def short(number: float) -> str:
    if number in (2**32, 2**63 - 1):
        return "2^32" if number == 2**32 else "2^63 - 1"
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def values_of(rule: Any) -> str:
    """What a key may hold, as the page puts it."""
    if isinstance(rule, PerName):
        joint = "; one, or by " if rule.or_number else "; by "
        return values_of(rule.number) + joint + rule.of
    if isinstance(rule, Words):
        return " or ".join(f'"{choice}"' for choice in rule.choices) or "text"
    if isinstance(rule, Integer):
        return f"integer, {short(rule.at_least)} to {short(rule.at_most)}"
    if isinstance(rule, Whole):
        return f"whole, {rule.at_least} to 1e18" + " or inf" * rule.may_be_infinite
    if isinstance(rule, Switch):
        return "true or false"
    if isinstance(rule, Correlation):
        return "two keys of vary and a number from -1 to 1"
    if rule.at_least is not None and rule.at_most is not None:
        return f"{rule.at_least:g} to {rule.at_most:g}"
    bounds = ((">", rule.above), (">=", rule.at_least), ("<=", rule.at_most))
    words = ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
    return (words or "number") + " or inf" * rule.may_be_infinite


def unit_of(key: str, rule: Any) -> str:
    if isinstance(rule, PerName):
        return unit_of(key, rule.number)
    if isinstance(rule, Whole):
        return "cells"
    by_name = next((unit for end, unit in UNITS_OF_NAMES.items() if key.endswith(end)), "")
    unit = getattr(rule, "unit", "")
    return UNITS.get(unit, unit) or by_name


def default_of(field: FieldInfo) -> str | None:
    """The default as the page puts it; None where it follows from other keys."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return None
    if default in ({}, []) and not isinstance(default, bool):
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return ", ".join(map(str, default))
    return f'"{default}"' if isinstance(default, str) else f"{default:g}"


def expected_row(key: str, field: FieldInfo) -> dict[str, str | None]:
    """Unit, default and values of a key, as the page must put them; None for words of its own."""
    kind, rule = plain(field.annotation), rule_of(field)
    is_array = get_origin(kind) is list
    if rule is None:
        values = "array of tables" if is_array else "table"
    else:
        by_key = get_origin(kind) is dict and not isinstance(rule, PerName)
        is_array |= by_key and get_origin(plain(get_args(kind)[1])) is list
        values = "array, " * is_array + values_of(rule) + "; by key" * by_key
    return {"unit": unit_of(key, rule), "default": default_of(field), "values": values}
