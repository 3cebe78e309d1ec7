"""Sentences: how a bad study is told, in one line, what is wrong with it."""

import datetime
import difflib
import json
import re
from collections.abc import Iterable
from typing import TypeAlias

from pydantic_core import PydanticCustomError

Path: TypeAlias = tuple[str | int, ...]
"""Where a value is in a study file: keys of tables and indices of arrays."""

LONGEST = 40  # characters of a value that a sentence repeats
MOST_NAMES = 8  # names that a sentence lists


class StudyError(ValueError):
    """A study that cannot be simulated; its text is one sentence with file, line and key."""


def fault(sentence: str, at: Path = ()) -> PydanticCustomError:
    """What a validator raises: a sentence about the value at `at`, relative to what it validates.

    The sentence follows the words "key `...`": it starts with "expected" or with a verb.
    """
    return PydanticCustomError("fault", "{sentence}", {"sentence": sentence, "at": at})


def expected(what: str, got: object, at: Path = ()) -> PydanticCustomError:
    """The fault of a value that is not what was expected."""
    return fault(f"expected {what}, got {show(got)}", at)


def missing(what: str, at: Path) -> PydanticCustomError:
    """The fault of a key that is not there."""
    return fault(f"is missing; expected {what}", at)


def unknown_name(kind: str, name: object, known: Iterable[str], at: Path) -> PydanticCustomError:
    """The fault of a name, given as a value, that nothing in the study has."""
    return fault(f"expected the name of {kind}, got {show(name)}{hint(str(name), known)}", at)


def hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or else what there is to choose from."""
    known = list(known)
    folded = {other.casefold(): other for other in reversed(known)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{folded[close[0]]}`?"
    if not known:
        return "; there are none here"
    more = ", ..." if len(known) > MOST_NAMES else ""
    return f"; known here: {', '.join(f'`{other}`' for other in known[:MOST_NAMES])}{more}"


def known_keys(kind: str, values: object, known: Iterable[str], at: Path) -> None:
    """Every key of a table of names is the name of something."""
    for name in values if isinstance(values, dict) else ():
        if name not in known:
            raise fault(f"is no {kind} of the study{hint(name, known)}", (*at, name))


def show(value: object) -> str:
    """A value as it stands in a study file, short enough for a sentence."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"an array of {len(value)}" if value else "an empty array"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.date | datetime.time):
        return f"the date or time {value.isoformat()}"
    if isinstance(value, int) and value.bit_length() > 100:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        short = value if len(value) <= LONGEST else value[:LONGEST] + "..."
        return json.dumps(short, ensure_ascii=False)
    return str(value)


def dotted(path: Path) -> str:
    """A path as `--set` takes it: `arms.0.doses.1.drug`."""
    is_bare = re.compile(r"[A-Za-z0-9_-]+").fullmatch
    parts = [str(part) for part in path]
    return ".".join(p if is_bare(p) else json.dumps(p, ensure_ascii=False) for p in parts)
