"""Load: a study file and `--set` changes -> `Study`, or one sentence about the first error."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jaxevo.config.columns import Columns, read_columns
from jaxevo.config.files import read_text
from jaxevo.config.locate import line_of, locate
from jaxevo.config.overrides import Setting, apply
from jaxevo.config.sentences import Path, StudyError, dotted, show
from jaxevo.config.study import Study

WHAT = "a study file"


def load_study(
    path: str | File, overrides: Sequence[str] = (), *, needs: Sequence[str] = ()
) -> Study:
    """Read a study file, change it by `key=value` overrides, check it, fill in every default.

    Args:
        path: of the file.
        overrides: such as "study.seed=8".
        needs: tables that the study has in any case, with their defaults where it says nothing, such
            as "trial".

    Raises:
        StudyError: one sentence with file, line, key, what was expected and what was found; about
            an overridden value it names `--set` in place of the file.
    """
    file = str(path)
    text = read_text(file, WHAT)
    raw = _parse(file, text)
    if not raw and not overrides:
        raise StudyError(f"{file}:1: is empty; expected [study], [tumor] and [[arms]]")
    settings = apply(raw, overrides)
    for name in needs:
        raw.setdefault(name, {})
    columns = _fill_patients(raw, File(file).parent)
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise StudyError(_first_sentence(file, text, settings, columns, details)) from None


def _fill_patients(raw: dict[str, Any], folder: File) -> Columns | None:
    """Put the numbers of `patients.file` in its place, if it is given."""
    patients = raw.get("patients")
    if not isinstance(patients, dict) or "values" in patients:
        return None
    if not isinstance(patients.get("file"), str) or not patients["file"].strip():
        return None
    columns = read_columns(folder, patients["file"])
    raw["patients"] = {key: value for key, value in patients.items() if key != "file"}
    raw["patients"]["values"] = columns.values
    return columns


def place_of(path: str | File, overrides: Sequence[str], key: Path) -> str:
    """How a sentence names the place of a key: `--set ...` where that gave it, else file and line."""
    file = str(path)
    text = read_text(file, WHAT)
    lines = locate(text)
    given = (s for s in apply(_parse(file, text), overrides) if s.path == key)
    setting = next(given, None)
    return setting.where if setting else f"{file}:{line_of(lines, key)}"


def _parse(file: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise StudyError(f"{file}: nests arrays or tables too deeply; expected a study") from None
    except tomllib.TOMLDecodeError as error:
        message = " ".join(str(error).split())
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
        line = place[1] if place and place[1] else text.rstrip("\n").count("\n") + 1
        message = message.replace(place[0], "") if place else message
        if message == "Cannot overwrite a value":
            message = "the same key is given twice"
        raise StudyError(f"{file}:{line}: is not valid TOML: {message}") from None
    except ValueError:  # Python reads no integers of more than some thousand digits
        long = re.search(r"[\d_]{4000,}", text)
        line = 1 + text.count("\n", 0, long.start() if long else 0)
        raise StudyError(
            f"{file}:{line}: is not valid TOML: an integer has too many digits"
        ) from None


def _first_sentence(
    file: str,
    text: str,
    settings: list[Setting],
    columns: Columns | None,
    details: list[ErrorDetails],
) -> str:
    """The sentence of the error that comes first, `--set` before the lines of the file."""
    lines = locate(text)
    sentences = []
    for detail in details:
        path, sentence = _read_detail(detail)
        joint = ": " if sentence.startswith("expected") else " "
        if columns is not None and path[:2] == ("patients", "values") and len(path) > 2:
            patient = path[3] if len(path) > 3 and isinstance(path[3], int) else None
            what = f"{columns.where(patient)}: column `{path[2]}`{joint}{sentence}"
            sentences.append((line_of(lines, ("patients", "file")), what))
            continue
        setting = next((s for s in settings if s.concerns(path, lines)), None)
        line = 0 if setting else line_of(lines, path)
        where = setting.where if setting else f"{file}:{line}"
        sentences.append((line, f"{where}: key `{dotted(path)}`{joint}{sentence}"))
    return min(sentences, key=lambda pair: pair[0])[1]


def _read_detail(detail: ErrorDetails) -> tuple[Path, str]:
    context = detail.get("ctx", {})
    if detail["type"] == "fault":
        return (*detail["loc"], *context["at"]), context["sentence"]
    kinds = {"dict_type": "a table", "list_type": "an array"}
    what = kinds.get(detail["type"], detail["msg"])
    return detail["loc"], f"expected {what}, got {show(detail['input'])}"
