"""docs/studies/*.md, a page for each file of configs/studies, and their list.

    python -m tests.study_pages [name ...]

runs the studies that are named, by default all of them, and writes their pages and pictures. What is
not a result (`described`) follows from the file alone, so that a test can compare it without a run; with
`--keep` it alone is written anew.
"""

import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from PIL import Image

from jaxevo import load_study
from jaxevo.compare import run_trial
from jaxevo.config.alterations import INHERITANCES, MECHANISMS
from jaxevo.config.draft import Draft
from jaxevo.config.tables import Table
from jaxevo.run import run_study
from tests.pages import is_table, plain, rule_of, unit_of

ROOT = Path(__file__).parents[1]
STUDIES, FOLDER = ROOT / "configs" / "studies", ROOT / "docs" / "studies"
RESULTS = "## What came out\n"
SHOWN = ("survival", "response", "burden", "neutrophils", "relapse", "composition")
SMALL, COLORS = 0.6, 256  # of the size of a picture; of its palette
NOTES = ("source", "assumed")
PHRASES = {  # of a dose, a fraction or an operation, in the order in which they are told
    "amount_mg": "{} mg", "amount_mg_per_m2": "{} mg/m2", "level_um": "{} uM", "gray": "{} Gy",
    "removed_fraction": "{} removed", "loading_mg": "first {} mg",
    "loading_mg_per_m2": "first {} mg/m2", "infusion_h": "over {} h", "route": "{}",
    "day": "on day {}", "days": "for {} days", "every_h": "every {} h",
    "every_days": "every {} days", "weekdays": "on {}", "cycle_days": "every {} days",
    "on_days": "on days {} of each", "cycles": "{} times", "fractions": "{} times",
    "from_day": "from day {}", "until_day": "until day {}",
}  # fmt: skip


def names() -> list[str]:
    """The studies of the catalog."""
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


# --- what the file says ----------------------------------------------------------------------------


class Section(NamedTuple):
    """One table of a study: its name in TOML, its keys, where they come from."""

    name: str
    rows: list[tuple[str, str, str, str]]  # key, value, unit, comment
    notes: dict[str, str]


def about(text: str) -> str:
    """The comment at the head of a file as Markdown; what is indented is code."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    marked = ["    " + line.strip() if line.startswith("  ") else line for line in lines]
    return re.sub(r"([^\n])\n(    )", r"\1\n\n\2", "\n".join(marked)) + "\n"


def comments(text: str) -> dict[tuple[str, str], str]:
    """Comments behind a key, by table and key."""
    found, table = {}, ""
    for line in text.splitlines():
        if line.startswith("["):
            table = line.partition("#")[0].strip().strip("[]")
        elif match := re.match(r"([\w.\"-]+) = [^#\"]*(?:\"[^\"]*\")?[^#\"]*# (.*)$", line):
            found[table, match[1]] = match[2]
    return found


def units() -> dict[str, str]:
    """The unit of every key of a study."""
    tables = [*_tables(Draft), *MECHANISMS.values(), *INHERITANCES.values()]
    fields = [(key, rule_of(field)) for t in tables for key, field in t.model_fields.items()]
    return {key: unit_of(key, rule) for key, rule in fields if rule is not None}


def _tables(table: type[Table]) -> Iterator[type[Table]]:
    yield table
    for field in table.model_fields.values():
        if (inner := _inner(field)) is not None:
            yield from _tables(inner)


def _inner(field) -> type[Table] | None:
    """The table that a key holds, alone, by name or in an array."""
    kind = plain(field.annotation)
    inner = plain(get_args(kind)[-1]) if get_origin(kind) in (dict, list) else kind
    return inner if is_table(inner) else None


def sections(text: str) -> list[Section]:
    """Every table of a study but its arms, in the order of the file."""
    study, notes, unit = tomllib.loads(text), comments(text), units()
    found = []
    for name, value, table in _walk(study, Draft, ""):
        if not name or name.startswith("arms"):
            continue
        rows = [
            (key, said(x), unit.get(key, ""), notes.get((name, key), ""))
            for key, x in value.items()
            if key not in (*NOTES, "title") and _inner_of(table, key) is None
        ]
        if f"[{name}]" not in text and name.startswith(found[-1].name):  # written inside its parent
            rows = [
                (f"{name.removeprefix(found[-1].name + '.')}.{key}", *rest) for key, *rest in rows
            ]
            found[-1].rows.extend(rows)
        else:
            found.append(Section(name, rows, {k: value[k] for k in NOTES if k in value}))
    return [section for section in found if section.rows or section.notes]


def _inner_of(table: type[Table], key: str) -> type[Table] | None:
    return _inner(table.model_fields[key]) if key in table.model_fields else None


def _walk(value: dict, table: type[Table], name: str) -> Iterator[tuple[str, dict, type[Table]]]:
    """Every table below one, with its name and its class."""
    yield name, value, table
    for key, inner in value.items():
        kind, at = _inner_of(table, key), f"{name}.{key}".lstrip(".")
        if kind is None:
            continue
        is_named = get_origin(plain(table.model_fields[key].annotation)) is dict
        if isinstance(inner, list):
            for i, row in enumerate(inner):
                yield from _walk(row, kind, f"{at}.{i}")
        elif is_named:
            for x, row in inner.items():
                quoted = x if re.fullmatch(r"[\w-]+", x) else f'"{x}"'
                yield from _walk(row, kind, f"{at}.{quoted}")
        else:
            yield from _walk(inner, kind, at)


def said(value: Any) -> str:
    """A value of TOML in words."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {said(x)}" for key, x in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(said, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def arms(text: str) -> str:
    """What every arm does."""
    parts = []
    for arm in tomllib.loads(text)["arms"]:
        parts.append(f"**{arm['name']}**\n")
        parts += [f"- {row}" for row in _given(arm)] or ["- nothing is given"]
        for line in arm.get("lines", []):
            parts += [f"- line *{line['name']}*: {'; '.join(_given(line)) or 'nothing besides'}"]
        for role in ("policy", "safety"):
            if role in arm:
                keys = {key: x for key, x in arm[role].items() if key != "rule"}
                more = f" ({'; '.join(f'{k} {said(x)}' for k, x in keys.items())})" if keys else ""
                parts.append(f"- {role}: `{arm[role]['rule']}`{more}")
        if "transduced_share" in arm:
            parts.append(f"- marrow: {said(arm['transduced_share'])} of the progenitors transduced")
        parts += [f"- {note}: {arm[note]}" for note in NOTES if note in arm]
        parts.append("")
    return "\n".join(parts)


def _given(arm: dict) -> list[str]:
    """Doses, fractions and operations of an arm or a line."""
    rows = [(row["drug"], row) for row in arm["doses"]]
    rows += [(kind, row) for kind in ("radiation", "surgery") for row in arm.get(kind, [])]
    return [
        f"{what} " + ", ".join(PHRASES[key].format(said(row[key])) for key in PHRASES if key in row)
        for what, row in rows
    ]


def described(name: str) -> str:
    """The page of a study up to its results."""
    text = (STUDIES / f"{name}.toml").read_text()
    parts = [
        f"# {tomllib.loads(text)['study']['title']}\n",
        f"`make study-pages` writes this page from a run of `configs/studies/{name}.toml`.\n",
        about(text),
        "## Arms\n",
        arms(text),
        "## Numbers\n",
        "Keys, units and defaults are those of [the study file](../study.md).\n",
    ]
    for section in sections(text):
        parts.append(f"### `[{section.name}]`\n")
        parts += [f"{note.capitalize()}: {x}.\n" for note, x in section.notes.items()]
        if section.rows:
            parts += ["| key | value | unit | |", "|---|---|---|---|"]
            parts += [f"| `{key}` | {' | '.join(rest)} |" for key, *rest in section.rows]
            parts.append("")
    return "\n".join(parts)


# --- what came out ---------------------------------------------------------------------------------


def results(name: str) -> str:
    """Run a study, or its trial where there are visits; its pictures go beside the page."""
    path = STUDIES / f"{name}.toml"
    with tempfile.TemporaryDirectory() as folder:
        study = load_study(path)
        if study.visits is None or study.study.engine == "extinction":
            done = run_study(study, Path(folder))
            parts = [f"By `jaxevo run configs/studies/{name}.toml`.\n", _summary(done.summary)]
        else:
            done = run_trial(load_study(path, needs=["trial"]), Path(folder))
            parts = [f"By `jaxevo trial configs/studies/{name}.toml`.\n"]
            report = json.loads(done.report_path.read_text())
            parts += [_trial(report)]
            if not is_by_recist(report):
                done.pictures = [path for path in done.pictures if "response" not in path.stem]
        if done.interrupted is not None:
            raise KeyboardInterrupt(f"{name} was stopped; its page is left as it was")
        for old in FOLDER.glob(f"{name}-*.png"):
            old.unlink()
        for what in SHOWN:
            for picture in done.pictures:
                if picture.stem.removeprefix("paired_") == what:
                    shrink(picture, FOLDER / f"{name}-{what}.png")
                    parts.append(f"![{what}]({name}-{what}.png)\n")
    return "\n".join(parts)


def shrink(picture: Path, small: Path) -> None:
    """A picture in fewer points and colors."""
    with Image.open(picture) as whole:
        size = round(whole.width * SMALL), round(whole.height * SMALL)
        scaled = whole.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        # A palette of the most distant colors keeps thin lines, which are few of the points.
        palette = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
        scaled.quantize(COLORS, **palette).save(small, optimize=True)


def _summary(summary: dict[str, dict[str, Any]]) -> str:
    """What `jaxevo run` tells of every arm."""
    keys = [key for key, x in next(iter(summary.values())).items() if not isinstance(x, list)]
    rows = [[arm, *(_cell(found[key]) for key in keys)] for arm, found in summary.items()]
    return _table(["arm", *(key.replace("_", " ") for key in keys)], rows)


def _cell(x: Any) -> str:
    if isinstance(x, dict):
        return ", ".join(f"{key} {_cell(y)}" for key, y in x.items())
    return "unknown" if x is None else f"{x:.4g}" if isinstance(x, float) else str(x)


def _trial(report: dict[str, Any]) -> str:
    """Tables of the first run of a trial, with 95 % intervals."""
    run = next(iter(report["runs"].values()))
    found, control, until = run["arms"], report["control"], f"{run['until_day']:.4g}"
    head = ["arm", "progressions", "median days without", f"mean days until {until}", "cure"]
    rows = []
    for name, arm in found.items():
        p = arm["progression"]
        of = f"{p['events']:,} of {p['events'] + p['censored']:,}"
        rows.append([name, of, _range(p["median_days"]), _range(p["restricted_mean_days"]),
                     _share(arm["cure"])])  # fmt: skip
    parts = [
        f"{run['subjects_per_arm']:,} tumors in each arm; progression is {report['progression']}.",
        "Intervals (95 %) are those of chance, not of the assumed numbers.\n",
        _table(head, rows),
    ]
    if is_by_recist(report):
        kinds = ("CR", "PR", "SD", "PD")
        shares = [[n, *(_share(a["response"]["best"][k]) for k in kinds)] for n, a in found.items()]
        parts.append(_table(["best response", *kinds], shares))
    rows = [
        [name, way, _share(row), *(_cell(row.get(k, "")) for k in ("intrinsic", "acquired"))]
        for name, arm in found.items()
        for way, row in arm["mechanisms_at_progression"]["by_mechanism"].items()
    ]
    head = ["arm", "carried by most cells at progression", "progressions", "intrinsic", "acquired"]
    parts.append(_table(head, rows))
    rows = [
        [name, *(f"{x:.3g}" for x in tox["mean_days_by_grade"]), _share(tox["worst_grade_4"])]
        for name, tox in ((name, arm["toxicity"]) for name, arm in found.items())
        if "mean_days_by_grade" in tox
    ]
    grades = [f"days in grade {g}" for g in range(5)]
    parts.append(_table(["neutropenia", *grades, "ever in grade 4"], rows))
    rows = [
        [name, _range(row["paired_difference_days"], "+")]
        for name, row in run["against_control"].items()
        if "paired_difference_days" in row
    ]
    parts.append(_table([f"against {control}", "days without progression, same patients"], rows))
    return "\n".join(part for part in parts if part)


def is_by_recist(report: dict[str, Any]) -> bool:
    """Whether the tumors of a trial have lesions."""
    return "RECIST" in report["progression"]


def _share(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "unknown"
    return f"{row['value']:.1%} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def _range(row: dict[str, Any], sign: str = "") -> str:
    value, low, high = (
        "-" if row[k] is None else f"{row[k]:{sign}.4g}" for k in ("value", "low", "high")
    )
    return f"{value} ({low} to {high})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Rows under their head; nothing where there are no rows."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n" if rows else ""


# --- the pages -------------------------------------------------------------------------------------


def contents() -> str:
    """The list of all studies."""
    rows = []
    for name in names():
        study = tomllib.loads((STUDIES / f"{name}.toml").read_text())
        engine = study["study"].get("engine", "cells")
        arms = ", ".join(arm["name"] for arm in study["arms"])
        rows.append([f"[{name}]({name}.md)", study["study"]["title"], engine, arms])
    head = "# Studies\n\nCited studies to start from. `make study-pages` writes these pages.\n\n"
    return head + _table(["study", "what", "engine", "arms"], rows)


def main(chosen: list[str]) -> None:
    """Run studies and write their pages; the list is of all."""
    FOLDER.mkdir(exist_ok=True)
    is_kept = "--keep" in chosen
    for name in [name for name in chosen if name != "--keep"] or names():
        sys.stderr.write(f"{name}\n")
        page = FOLDER / f"{name}.md"
        found = page.read_text().partition(RESULTS)[2] if is_kept else f"\n{results(name)}"
        page.write_text(f"{described(name)}\n{RESULTS}{found}")
    (FOLDER / "README.md").write_text(contents())


if __name__ == "__main__":
    main(sys.argv[1:])
