"""Columns: the numbers of patients from a CSV file beside the study, a column for each key.

The first row names the keys, every further row is one patient. A cell holds a number and nothing else.
"""

import csv
import io
import math
import re
from pathlib import Path as File
from typing import NamedTuple

from jaxevo.config.files import read_text
from jaxevo.config.sentences import StudyError, show

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Columns(NamedTuple):
    """What a file holds, and where."""

    file: str
    values: dict[str, list[float]]  # key -> a number for each patient
    lines: list[int]  # of each patient

    def where(self, patient: int | None) -> str:
        """How a sentence names the place of a patient, or of the header."""
        return f"{self.file}:{1 if patient is None else self.lines[patient]}"


def read_columns(folder: File, name: str) -> Columns:
    """Read a file that lies in the folder of the study.

    Raises:
        StudyError: one sentence with file, line and column.
    """
    path = folder / name
    if File(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise StudyError(f"{name}: is not in the folder of the study; expected a path inside it")
    if path.exists() and not path.is_file():
        raise StudyError(f"{path}: is no file; expected a table of patients (CSV)")
    file, text = str(path), read_text(str(path), "a table of patients (CSV)")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows += [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise StudyError(f"{file}:{reader.line_num}: is not valid CSV: {error}") from None
    if len(rows) < 2:
        raise StudyError(f"{file}:1: expected a row of keys and a row for each patient")
    (line, keys), *patients = rows
    _check_header(file, line, keys)
    values: dict[str, list[float]] = {key: [] for key in keys}
    for line, row in patients:
        if len(row) != len(keys):
            raise StudyError(
                f"{file}:{line}: expected {len(keys)} cells, as in the first row, got {len(row)}"
            )
        for key, cell in zip(keys, row, strict=True):
            values[key].append(_number(file, line, key, cell))
    return Columns(file, values, [line for line, _ in patients])


def _check_header(file: str, line: int, keys: list[str]) -> None:
    for i, key in enumerate(keys):
        if not key:
            raise StudyError(f"{file}:{line}: column {i + 1} has no key")
        if key in keys[:i]:
            raise StudyError(f"{file}:{line}: column `{key}` stands there twice")


def _number(file: str, line: int, key: str, cell: str) -> float:
    number = float(cell) if NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(number):
        raise StudyError(f"{file}:{line}: column `{key}`: expected a number, got {show(cell)}")
    return number
