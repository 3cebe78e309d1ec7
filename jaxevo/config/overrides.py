"""Overrides: `--set tumor.birth_rate_per_day=0.5` changes one value of a study before it is checked."""

import tomllib
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxevo.config.sentences import Path, StudyError, dotted, hint

NAMED = ("sites", "drugs", "targets", "pumps", "alterations")  # tables whose keys are names


class Setting(NamedTuple):
    """One `--set`: its text and the path that it changes."""

    text: str
    path: Path

    @property
    def where(self) -> str:
        """How an error names this setting."""
        return f"--set {' '.join(self.text.split())}"

    def concerns(self, path: Path, lines: dict[Path, int]) -> bool:
        """Whether an error at `path` is about what this setting brought into the study."""
        is_inside = path[: len(self.path)] == self.path
        is_around = self.path[: len(path)] == path and path not in lines
        return bool(path) and (is_inside or is_around)


def apply(raw: dict[str, Any], overrides: Sequence[str]) -> list[Setting]:
    """Change a table of TOML values in place, in the order of the overrides.

    Raises:
        StudyError: an override that is no `key=value`, or whose key cannot be in a study.
    """
    settings = []
    for text in overrides:
        keys, value = _read(text)
        settings.append(Setting(text, _put(raw, keys, value, text)))
    return settings


def _read(text: str) -> tuple[list[str], Any]:
    """The keys and the value of `a.b=value`; a value that is no TOML is a text."""
    left, equal, right = text.partition("=")
    keys = keys_of(left)
    if not equal or not keys:
        raise StudyError(
            f"--set {' '.join(text.split())}: expected key=value, such as study.seed=8"
        )
    try:
        parsed = tomllib.loads(f"value = {right}")
    except (ValueError, RecursionError):
        parsed = {}
    return keys, parsed["value"] if parsed.keys() == {"value"} else right


def keys_of(text: str) -> list[str]:
    """The keys of a dotted path such as `arms.0.name`; none where it is no path."""
    try:
        level: Any = tomllib.loads(f"{text}= 0") if "\n" not in text else {}
    except (ValueError, RecursionError):
        level = {}
    keys = []
    while isinstance(level, dict) and len(level) == 1:
        key, level = next(iter(level.items()))
        keys.append(key)
    return keys if level == 0 else []


def _put(raw: dict[str, Any], keys: list[str], value: Any, text: str) -> Path:
    """Set the value and return its path; tables on the way are made, rows of arrays are not."""
    level: Any = raw
    path: Path = ()
    where = Setting(text, ()).where
    for i, key in enumerate(keys):
        is_last = i == len(keys) - 1
        if isinstance(level, list):
            if not key.isdecimal() or int(key) >= len(level):
                rows = f"a row from 0 to {len(level) - 1}" if level else "no row, since it is empty"
                raise StudyError(f"{where}: key `{dotted(path)}`: expected {rows}, got {key}")
            step: Any = int(key)
        elif isinstance(level, dict):
            step = key
            is_new_name = len(path) == 1 and path[0] in NAMED and key not in level
            if is_new_name and not is_last:
                what = f"key `{dotted((*path, key))}` is unknown{hint(key, level)}"
                raise StudyError(f"{where}: {what}")
            if not is_last and key not in level:
                level[key] = {}
        else:
            raise StudyError(f"{where}: key `{dotted(path)}` is a value, not a table")
        path = (*path, step)
        if is_last:
            level[step] = value
        else:
            level = level[step]
    return path
