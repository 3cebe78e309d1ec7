"""The catalog of configs/studies: together its studies use all of the biology, each runs and is compared
on a small scale, and every number names its source or says that it is assumed.
"""

import csv
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from jaxevo import StudyError, load_study, run_study
from jaxevo.compare import run_trial
from jaxevo.config import Study
from jaxevo.config.overrides import keys_of
from tests.catalog import BIOLOGY, FILES, Used

RETYPED = Path(__file__).with_name("retyped.csv")
MAIN = Path(__file__).parent.parent / "configs" / "main.toml"
COLUMNS = ["study", "key", "value", "citation", "read_in"]
DIGITS = 2e-3  # relative; what stands in a study may be worked out from what a source prints

# Eight cancers, each with a study that `jaxevo trial` compares the arms of.
CANCERS = (
    "breast", "cml_trial", "glioblastoma", "leukemia", "lung_egfr", "melanoma", "ovarian", "prostate",
)  # fmt: skip

# Tables whose numbers say how a study is computed and written down, not what it is about.
TECHNICAL = {"study", "record", "trial", "relapse", "screen", "optimize"}
CHEMISTRY = "molecular_weight_g_per_mol"  # of the compound: no other source is needed


# --- the catalog uses all of the biology ------------------------------------------------------------


@pytest.fixture(scope="module")
def used() -> list[Used]:
    return [Used(path) for path in FILES]


def test_the_catalog_has_eight_cancers(used: list[Used]):
    """Two to five arms each, and visits at which a trial scans."""
    by_name = {study.name: study for study in used}
    for name in CANCERS:
        assert name in by_name, name
        assert 2 <= len(by_name[name].arms) <= 5, name
        assert "visits" in by_name[name].table, name


def test_all_rows_of_the_biology_are_claimed():
    """Thirty-one: 13 ways past a drug, 7 of places, 11 of treatment."""
    assert list(BIOLOGY) == list(range(1, 32))


@pytest.mark.parametrize(
    ("row", "claim"), [(row, claim) for row, claims in BIOLOGY.items() for claim in claims]
)
def test_some_study_uses(row: int, claim: str, used: list[Used]):
    """The claim of that row holds in at least one study of the catalog."""
    assert any(BIOLOGY[row][claim](study) for study in used), f"no study: {claim}"


# --- every study runs and is compared ----------------------------------------------------------------

PATIENTS = 2
SHORT = 168.0  # days, of the first arm alone


def small(path: Path, folder: Path, num_arms: int | None, **options: Any) -> Study:
    """A study with two patients and the first of its arms, seldom written down."""
    raw = tomllib.loads(path.read_text())
    raw["arms"] = raw["arms"][:num_arms]
    raw.get("trial", {}).pop("control", None)
    raw.pop("optimize", None)
    if not any("transduced_share" in arm for arm in raw["arms"]):
        raw.get("host", {}).pop("transduced_pump", None)
    raw["study"]["replicates"] = 1
    if num_arms is not None:
        raw["study"]["horizon_days"] = SHORT
        tumor = raw["tumor"]
        size = tumor.pop("treat_at_cells", None)  # as many as it is treated at: nothing to grow
        if "founders" in tumor:
            tumor["founders"] = size
        elif size is not None:
            share = size / sum(part["cells"] for part in tumor["mixture"])
            for part in tumor["mixture"]:
                part["cells"] = round(share * part["cells"])
    raw.setdefault("record", {}).update(every_days=84, concentration_every_h=168)
    if "patients" in raw:
        raw["patients"]["count"] = PATIENTS
    copy = folder / path.name
    copy.write_text(tomli_w.dumps(raw))
    return load_study(copy, **options)


def assert_runs(path: Path, folder: Path, num_arms: int | None) -> None:
    """`jaxevo run` and, where the study has visits, `jaxevo trial`: to the end, with pictures."""
    is_seen = "visits" in tomllib.loads(path.read_text())
    study = small(path, folder, num_arms, needs=("trial",) if is_seen else ())
    ran = run_study(study, folder / "run")
    assert ran.limit is None
    assert ran.trajectory_path.exists()
    pictures = list(ran.pictures)
    if is_seen:
        compared = run_trial(study, folder / "trial")
        assert compared.limit is None
        assert compared.report_path.exists()
        pictures += compared.pictures
    assert pictures
    assert all(picture.stat().st_size > 0 for picture in pictures)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_first_arm_runs_and_is_followed_as_a_trial(path: Path, tmp_path: Path):
    """On its own engine, with two patients."""
    assert_runs(path, tmp_path, 1)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_its_arms_run_and_are_compared(path: Path, tmp_path: Path):
    """On its own engine, with two patients."""
    assert_runs(path, tmp_path, None)


# --- every number has a source ------------------------------------------------------------------------


def leaves(value: Any, path: tuple = (), is_cited: bool = False) -> Iterator[tuple[tuple, bool]]:
    """Every number with its path, and whether its table or one around it is cited."""
    if isinstance(value, dict):
        is_cited = is_cited or (bool(path) and bool({"source", "assumed"} & value.keys()))
        for key, entry in value.items():
            yield from leaves(entry, (*path, key), is_cited)
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            yield from leaves(entry, (*path, i), is_cited)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, is_cited


def value_at(table: Any, path: tuple) -> Any:
    """What stands there."""
    for key in path:
        table = table[key]
    return table


def said_of(raw: dict, path: tuple) -> tuple:
    """What a number of an arm says: the drug of its row, its keys without positions, its value."""
    row = value_at(raw, path[:-1]) if isinstance(path[-1], str) else {}
    keys = tuple(key for key in path[2:] if isinstance(key, str) and key != "lines")
    return row.get("drug") if isinstance(row, dict) else None, keys, value_at(raw, path)


def uncited(text: str) -> list[str]:
    """Paths of the numbers of a study that no `source` and no `assumed` stands beside.

    An arm may repeat what another one says with its source.
    """
    raw = tomllib.loads(text)
    found = [
        (path, is_cited)
        for path, is_cited in leaves(raw)
        if path[0] not in TECHNICAL and path[-1] != CHEMISTRY
    ]
    known = {said_of(raw, path) for path, is_cited in found if is_cited and path[0] == "arms"}
    return [
        ".".join(map(str, path))
        for path, is_cited in found
        if not is_cited and not (path[0] == "arms" and said_of(raw, path) in known)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_is_cited_or_assumed(path: Path):
    """Its own table says it, or one around it."""
    assert uncited(path.read_text()) == []


def test_a_number_without_a_source_is_found():
    """In a table of its own, in an array, in an arm that says something new."""
    cited = '[drugs.d]\nkd_um = 1\nsource = "S"\n'
    assert uncited(cited) == []
    assert uncited(cited + "[drugs.d.plasma]\nvolume_l = 2") == []
    assert uncited("[drugs.d]\nkd_um = 1\nmolecular_weight_g_per_mol = 400") == ["drugs.d.kd_um"]
    arms = 'arms = [{ doses = [{ drug = "d", amount_mg = 5 }], source = "label" }, { doses = [{ '
    assert uncited(arms + 'drug = "d", amount_mg = 5 }] }]') == []
    assert uncited(arms + 'drug = "d", amount_mg = 6 }] }]') == ["arms.1.doses.0.amount_mg"]
    assert uncited(arms + 'drug = "e", amount_mg = 5 }] }]') == ["arms.1.doses.0.amount_mg"]


# --- typed a second time ------------------------------------------------------------------------------


def differing(rows: list[dict[str, str]]) -> list[str]:
    """What a study says otherwise than who read its source a second time.

    Raises:
        StudyError: no study, or no number at that key.
    """
    found = []
    files = {path.stem: path for path in (*FILES, MAIN)}
    for row in rows:
        at = f"{row['study']}: {row['key']}"
        if row["study"] not in files:
            raise StudyError(f"{at}: there is no such study")
        level: Any = tomllib.loads(files[row["study"]].read_text())
        for key in keys_of(row["key"]):
            try:
                level = level[int(key)] if isinstance(level, list) else level[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise StudyError(f"{at}: there is no such number") from None
        if not math.isclose(level, float(row["value"]), rel_tol=DIGITS):
            found.append(f"{at} is {level:g}, {row['citation']} says {row['value']}")
    return found


def test_numbers_are_those_of_their_sources():
    """Typed again from the citation, without the study; to .2 %."""
    with RETYPED.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS
    assert all(row[column].strip() for row in rows for column in COLUMNS)
    assert differing(rows) == []


def test_a_number_unlike_its_source_is_found():
    """By its study and key; rows of arrays are counted from 0."""
    row = {"study": "lung_egfr", "key": "drugs.erlotinib.plasma.volume_l", "citation": "Lu 2006"}
    assert differing([row | {"value": "233"}]) == []
    assert differing([row | {"value": "234"}]) == [
        "lung_egfr: drugs.erlotinib.plasma.volume_l is 233, Lu 2006 says 234"
    ]
    dose = row | {"key": "arms.0.doses.0.amount_mg", "value": "80"}
    assert differing([dose]) == []
    for wrong in (row | {"study": "lung"}, row | {"key": "drugs.erlotinib.plasma.volume"}):
        with pytest.raises(StudyError, match="there is no such"):
            differing([wrong | {"value": "1"}])


@pytest.mark.parametrize("value", [233 * (1 + 3e-3), 233 * (1 - 3e-3), np.nan])
def test_an_error_of_three_per_mille_is_found(value: float):
    """Digits that were rounded are not: .2 % passes."""
    row = {"study": "lung_egfr", "key": "drugs.erlotinib.plasma.volume_l", "citation": "C"}
    assert len(differing([row | {"value": str(value)}])) == 1
