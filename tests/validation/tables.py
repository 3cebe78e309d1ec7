"""The published tables of the validation cases, typed as CSV files beside their citations."""

import csv
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Rows of `data/<name>.csv` as text; lines that start with # are the citation."""
    with (DATA / f"{name}.csv").open() as lines:
        return tuple(csv.DictReader(line for line in lines if not line.startswith("#")))


def numbers(row: dict[str, str]) -> dict[str, float]:
    """The numeric entries of a row; what is empty or a name is left out."""
    found = {}
    for key, text in row.items():
        try:
            found[key] = float(text)
        except ValueError:
            continue
    return found
