"""The pages say what the code does: keys, variables, equations, commands, links.

`docs/study.md` is compared with the schema of study files key by key (unit, default, values) and with a
trajectory that was simulated variable by variable (dimensions, unit), both ways.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w
from pydantic.fields import FieldInfo

import jaxevo
from jaxevo import Trajectory, screen, store, treatment
from jaxevo.compare import DESCRIBED
from jaxevo.config.alterations import INHERITANCES, MECHANISMS, Alteration, own_keys
from jaxevo.config.tables import RELAPSES, Table
from jaxevo.config.visits import Policy, Safety, rule_class
from jaxevo.improve.report import OF_RELAPSE
from tests.pages import FENCED, Grid, anchors, bare, code, expected_row, grids, schema, spans
from tests.studies import MINIMAL, environment, study_of

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part == "runs" for part in page.relative_to(ROOT).parts)
]
STUDY = (ROOT / "docs/study.md").read_text()
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CITATIONS = set(Table.model_fields)  # keys that every table takes
COLUMNS = ["key", "unit", "default", "values", "meaning", "feeds"]
STATIONS = (
    "schedule plasma delivery transport metabolism target signaling damage apoptosis "
    "birth death immune mutation hierarchy switching migration sites"
).split()
JOINTS = {"__init__", "course"}  # modules of drug/ and cell/ that join stations

# Every part of a trajectory, in a few seconds.
SMALL = """\
[study]
title = "small"
seed = 3
replicates = 2
horizon_days = 3
[tumor]
treat_at_cells = 100
birth_rate_per_day = 1.0
death_rate_per_day = 0.2
[drugs.x]
kd_um = 0.1
effect = { max_death_per_day = 1 }
[alterations.A]
mechanism = "altered_target"
inheritance = "mutation"
probability_per_division = 1e-2
kd_fold = { x = 50 }
[record]
clones_every_days = 1
snapshot_days = [2]
[[arms]]
name = "untreated"
doses = []
[[arms]]
name = "standard"
doses = [{ drug = "x", level_um = 1 }]
"""

# What fragments on a page may take for granted.
BASE = (
    MINIMAL
    + """\
[drugs.erlotinib]
kd_um = 0.5
target = "EGFR"
[targets.EGFR]
max_birth_inhibition = 0.9
[pumps.MDR1]
"""
)


def assert_described(where: str, found: list[dict[str, str]], fields: dict[str, FieldInfo]) -> None:
    """The rows of a table are the keys of the schema, no more, no less, with what it says of them."""
    assert [row["key"] for row in found] == list(fields), where
    for row in found:
        expected = expected_row(row["key"], fields[row["key"]])
        assert row["meaning"], f"{where} {row['key']} has no meaning"
        for column, text in expected.items():
            if text is None:
                assert row[column] not in ("", "required"), f"{where} {row['key']}: {column}"
            else:
                assert row[column] == text, f"{where} {row['key']}: {column}"


def rows_under(heading: str) -> list[dict[str, str]]:
    """The first table under a heading of the study page, row by row."""
    grid = next(grid for grid in grids(STUDY) if heading in grid.heading)
    rows = [dict(zip(grid.columns, map(bare, row), strict=True)) for row in grid.rows]
    assert grid.columns[-len(COLUMNS) :] == COLUMNS, heading
    return rows


TABLES = dict(schema())
KINDS = {"Inheritances": INHERITANCES, "Mechanisms": MECHANISMS}
RULES = {"Policies": (Policy, treatment.POLICIES), "Safety rules": (Safety, treatment.SAFETY)}


def without(fields: dict[str, FieldInfo], *names: str) -> dict[str, FieldInfo]:
    return {key: field for key, field in fields.items() if key not in CITATIONS | set(names)}


# --- keys ---


def test_every_table_of_a_study_has_its_heading():
    """One heading for each, or for several that are alike, such as [targets.X] and [drugs.X.effect]."""
    headings = [line for line in STUDY.splitlines() if line.startswith("#")]
    named = [name for heading in headings for name in spans(heading) if name.startswith("[")]
    assert sorted(named) == sorted(TABLES)
    assert all(f"`{name}`" in STUDY for name in CITATIONS)


@pytest.mark.parametrize("name", [name for name in TABLES if TABLES[name] is not Alteration])
def test_every_key_is_described_as_the_schema_has_it(name):
    """The same keys in the same order, with unit, default and values."""
    assert_described(name, rows_under(f"`{name}`"), without(TABLES[name].model_fields))


def test_what_all_alterations_share_is_described():
    """Their highest level stands with the inheritances, which differ in its default."""
    fields = without(Alteration.model_fields, "max_level")
    assert_described("[alterations.X]", rows_under("`[alterations.X]`"), fields)


@pytest.mark.parametrize("kind", KINDS)
def test_mechanisms_and_inheritances_are_described(kind):
    """All of them in the order of the schema, each with its keys; one without keys has a row of its own."""
    rows, known = rows_under(kind), KINDS[kind]
    column = kind.lower()[:-1]
    assert list(dict.fromkeys(row[column] for row in rows)) == list(known)
    for name, table in known.items():
        mine = [row for row in rows if row[column] == name]
        if [row["key"] for row in mine] == [""]:
            assert not own_keys(table), name
            continue
        keys = own_keys(table) | ({"max_level"} if kind == "Inheritances" else set())
        fields = {key: field for key, field in table.model_fields.items() if key in keys}
        assert_described(f"{column} {name}", mine, fields)


@pytest.mark.parametrize("kind", RULES)
def test_rules_are_described(kind):
    """All of them in the order of the registry, each with the keys that a study gives it."""
    rows, (base, known) = rows_under(kind), RULES[kind]
    assert list(dict.fromkeys(row["rule"] for row in rows)) == list(known)
    for name in known:
        fields = without(rule_class(base, name).model_fields, "rule")
        assert_described(f"rule {name}", [row for row in rows if row["rule"] == name], fields)


def test_every_symbol_points_to_its_equation():
    """The last column names sections of MODEL.md by links that are defined."""
    defined = set(re.findall(r"^\[([^\]]+)\]: ", STUDY, re.MULTILINE))
    cells = [row[-1] for grid in grids(STUDY) if grid.columns[-1] == "feeds" for row in grid.rows]
    used = {
        name for cell in cells for name in re.findall(r"\[([^\]]+)\]", re.sub("`.*?`", "", cell))
    }
    assert used == defined


# --- blocks of code ---


def complete(block: str) -> str:
    """A block with what it leaves out taken from `BASE`."""
    given = tomllib.loads(block)
    if {"study", "tumor", "arms"} <= given.keys():
        return block

    def merge(base: dict, new: dict) -> dict:
        both = {key for key in base.keys() & new.keys() if isinstance(base[key], dict)}
        return base | new | {key: merge(base[key], new[key]) for key in both}

    return tomli_w.dumps(merge(tomllib.loads(BASE), given))


BLOCKS = {
    f"{name} {i}": block
    for name, page in (("README.md", README), ("study.md", STUDY))
    for i, block in enumerate(code(page, "toml"))
} | {path.name: path.read_text() for path in sorted((ROOT / "configs").rglob("*.toml"))}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_study_on_a_page_loads(block, tmp_path):
    """As it stands, or completed where it is a fragment; and so do the studies of configs/."""
    study_of(tmp_path, complete(block))


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_python_on_a_page_uses_public_names(page):
    """It compiles, and what it takes from jaxevo is there."""
    for block in code(page.read_text(), "python"):
        compile(block, page.name, "exec")
        assert set(re.findall(r"jaxevo\.(\w+)", block)) <= set(jaxevo.__all__)


# --- trajectories ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a small study was run as the examples of the pages have it, into runs/my."""
    folder = tmp_path_factory.mktemp("docs")
    study = study_of(folder, SMALL)
    jaxevo.run_study(study, folder / "runs/my")
    return folder


@pytest.mark.parametrize(
    ("group", "heading"), [("", "Root"), ("lineage", "`lineage`"), ("cells", "`cells`")]
)
def test_every_variable_of_a_trajectory_is_described(group, heading, folder):
    """Names, dimensions and units, of the variables of a run and no others."""
    trajectory, _ = jaxevo.read_trajectory(folder / "runs/my/trajectory.h5")
    grid = next(g for g in grids(STUDY) if g.columns[0] == "variable" and heading in g.heading)
    page = {bare(name): (bare(dims), unit) for name, dims, unit, _ in grid.rows}
    found = {
        name: (" ".join(variable.dims), variable.units.replace("1", ""))
        for name, variable in trajectory[group].items()
    }
    assert page == found
    assert all(meaning for *_, meaning in grid.rows)
    named = set(spans(STUDY))
    assert {dim for variable in trajectory[group].values() for dim in variable.dims} <= named


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> dict[str, Trajectory]:
    """The trajectories of the same small study on the other engines, with a limit of alterations."""
    folder = tmp_path_factory.mktemp("others")
    settings = ("study.max_alterations=0", "record.snapshot_days=[]")
    return {
        engine: jaxevo.simulate(study_of(folder, SMALL, f"study.engine={engine}", *settings))
        for engine in OTHERS
    }


OTHERS = ("clones", "meanfield", "extinction")


def described(grid: Grid) -> dict[str, tuple[str, str]]:
    """Dimensions and unit of every variable of a table."""
    return {bare(name): (bare(dims), unit) for name, dims, unit, _ in grid.rows}


@pytest.mark.parametrize("engine", OTHERS)
def test_every_variable_of_the_other_engines_is_described(engine, others):
    """By a table of the engine's own, or as in the root of `cells`; nothing in its own table is missing."""
    tables = [g for g in grids(STUDY) if g.columns[0] == "variable"]
    shared = described(next(g for g in tables if g.heading == "Root"))
    own, *groups = (described(g) for g in tables if g.heading == f"Root of `{engine}`")
    found = {
        name: (" ".join(variable.dims), variable.units.replace("1", ""))
        for name, variable in others[engine][""].items()
    }
    assert own.items() <= found.items()
    assert found.items() <= (shared | own).items()
    assert others[engine].keys() == ({"", "lineage", "state"} if groups else {""})
    if groups:
        lineage = described(next(g for g in tables if g.heading == "Group `lineage`"))
        for name, columns in (("lineage", lineage | groups[0]), ("state", groups[1])):
            assert columns == {
                key: (" ".join(variable.dims), variable.units.replace("1", ""))
                for key, variable in others[engine][name].items()
            }


@pytest.mark.parametrize(
    "engine",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("cells", "clones")] + list(OTHERS[1:]),
)
def test_what_immune_cells_add_to_a_trajectory_is_described(engine, others, folder):
    """Two variables, in all engines that count the cells of a tumor along its course."""
    text = (
        SMALL
        + "[immune]\ninflux_cells_per_day = 1\nloss_per_day = 1\nkill_per_day_per_effector = 0\n"
    )
    settings = ("record.snapshot_days=[]", "study.max_alterations=0")
    text = text.replace("treat_at_cells = 100", "founders = 100")
    found = jaxevo.simulate(study_of(folder, text, f"study.engine={engine}", *settings))[""]
    grid = next(g for g in grids(STUDY) if g.heading == "With immune cells")
    added = {
        name: (" ".join(v.dims), v.units)
        for name, v in found.items()
        if name in ("effector_cells", "suppressor_cells")
    }
    assert added == ({} if engine == "extinction" else described(grid))


def test_every_attribute_of_a_file_is_described(folder):
    """Those of a run, and those that only a git work tree brings."""
    _, attributes = jaxevo.read_trajectory(folder / "runs/my/trajectory.h5")
    grid = next(grid for grid in grids(STUDY) if grid.columns[0] == "attribute")
    named = {name for row in grid.rows for name in spans(row[0])}
    assert named - {"format", "format_version"} == attributes.keys() | {
        "git_commit",
        "git_is_dirty",
    }


def test_the_example_reads_a_trajectory(folder):
    """The block on the page, run as it stands."""
    (block,) = code(STUDY, "python")
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "unaltered" in done.stdout


def test_what_a_trial_writes_of_a_tumor_is_described():
    """Name, dimensions and unit of every variable, in the order of the file."""
    grid = next(
        grid for grid in grids(STUDY) if "[trial]" in grid.heading and "variable" in grid.columns
    )
    written = [
        [name, ", ".join(("arm", "patient", "replicate", *axes)), "" if unit == "1" else unit]
        for name, axes, unit, _ in DESCRIBED.values()
    ]
    assert [[bare(cell) for cell in row[:3]] for row in grid.rows] == written


def test_what_a_screen_writes_is_described():
    """Name, dimensions and unit of every variable, in the order of the file."""
    grid = next(
        grid
        for grid in grids(STUDY)
        if "[screen.lines]" in grid.heading and "variable" in grid.columns
    )
    written = [
        [name, ", ".join(axes), "" if unit == "1" else unit]
        for name, (axes, unit, _) in screen.DESCRIBED.items()
    ]
    assert [[bare(cell) for cell in row[:3]] for row in grid.rows] == written


@pytest.mark.parametrize("page", [README, STUDY], ids=["README.md", "study.md"])
def test_names_in_the_text_exist(page, folder, others):
    """A name with an underscore is a key, a mechanism, a variable, an attribute or a public name."""
    trajectory, attributes = jaxevo.read_trajectory(folder / "runs/my/trajectory.h5")
    known = {key for table in TABLES.values() for key in table.model_fields}
    known |= {key for kinds in KINDS.values() for t in kinds.values() for key in t.model_fields}
    known |= MECHANISMS.keys() | attributes.keys() | store.provenance().keys() | set(jaxevo.__all__)
    known |= {"git_commit", "git_is_dirty", "format_version"}
    known |= {"against_best", "is_no_worse", "is_better"}  # of the report of a search
    for base, rules in RULES.values():
        known |= rules.keys() | {
            key for name in rules for key in rule_class(base, name).model_fields
        }
    known |= set(screen.DESCRIBED) | set(OF_RELAPSE)
    known |= {"state_row", *RELAPSES, *(row[0] for row in DESCRIBED.values())}
    for variables in [v for found in (trajectory, *others.values()) for v in found.values()]:
        known |= {name for key, v in variables.items() for name in (key, *v.dims)}
    named = {name for name in spans(page) if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", name)}
    assert named <= known


# --- the model, links, the frame ---


def test_every_station_has_its_equation():
    """MODEL.md has a section per module of drug/ and cell/, and one for sites, in journey's order."""
    modules = {
        path.stem for kind in ("drug", "cell") for path in (ROOT / "jaxevo" / kind).glob("*.py")
    }
    assert modules - JOINTS | {"sites"} == set(STATIONS)
    headings = re.findall(r"^## (\w+)$", (ROOT / "MODEL.md").read_text(), re.MULTILINE)
    assert [h for h in headings if h.lower() in STATIONS] == [
        name.capitalize() for name in STATIONS
    ]


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_relative_link_resolves(page):
    """To a file of the repository and, after #, to a heading in it."""
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text()))
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r"^\[[^\]]+\]: (\S+)", text, re.MULTILINE
    )
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_relative_to(ROOT), f"{page.name}: {link}"
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_path_in_the_text_exists(page):
    """What is named as a file of jaxevo, tests, benchmarks, configs or docs is there."""
    folders = ("jaxevo/", "tests/", "benchmarks/", "configs/", "docs/")
    paths = [
        span for span in spans(page.read_text()) if span.startswith(folders) and " " not in span
    ]
    assert not [path for path in paths if not (ROOT / path.partition("::")[0]).exists()]


def test_contributing_names_what_there_is():
    """Its layers and dependencies are those of pyproject.toml, its commands those of the Makefile."""
    project = PROJECT["project"]
    needed = sum(project["optional-dependencies"].values(), project["dependencies"])
    grid = next(grid for grid in grids(CONTRIBUTING) if grid.columns[0] == "library")
    listed = [name for row in grid.rows for name in row[0].split(", ")]
    libraries = lambda names: {re.match(r"[\w-]+", name)[0] for name in names}  # noqa: E731
    assert libraries(listed) == libraries(needed) - {"jaxevo"}
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z0-9-]+)", CONTRIBUTING)) <= targets
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    drawn = [re.split(r"\s{2,}", line)[0] for line in code(CONTRIBUTING, "")[0].splitlines()]
    assert drawn == layers[1:]  # __main__ only calls cli


def test_the_changelog_has_an_entry_for_this_version():
    """The first entry is the version of the package, and says which numbers change."""
    text = (ROOT / "CHANGELOG.md").read_text()
    first = text.split("\n## ")[1]
    assert first.startswith(PROJECT["project"]["version"])
    assert "### Numbers change" in first
