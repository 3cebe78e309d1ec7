"""A bad study is refused with one sentence that names file, line, key, what was expected, what came.

Most of them stand in `bad_studies/*.txt`, each as one change to `studies.FULL`, or in files named
`care_*` to `studies.CARE`: its name, lines taken
out (-) and put in (+), a part of the line that the sentence must point to (@, by default the first
line put in), and the whole sentence after `FILE:LINE:` (=).
"""

import time
from pathlib import Path
from typing import NamedTuple

import pytest

from jaxevo.config import StudyError, load_study
from tests.studies import CARE, FULL, MINIMAL, command, study_of, write

SECONDS = 2.0  # within which a bad study is refused


class Bad(NamedTuple):
    """One change to a whole study, and the sentence that must refuse it."""

    base: str
    name: str
    old: str
    new: str
    line: str
    sentence: str


def read_bad(base: str, block: str) -> Bad:
    """One bad study from its text."""
    name, *rows = block.splitlines()
    marked = {mark: [row[4:] for row in rows if row.startswith(f"  {mark} ")] for mark in "-+@="}
    assert sum(map(len, marked.values())) == len(rows), f"unmarked rows in {name!r}"
    removed, added = "\n".join(marked["-"]), "\n".join(marked["+"])
    if not added:
        removed += "\n"
    line = marked["@"][0] if marked["@"] else marked["+"][0]
    return Bad(base, name, removed, added, line, marked["="][0])


FOLDER = Path(__file__).parent / "bad_studies"
ALL = [
    read_bad(CARE if file.name.startswith("care_") else FULL, block.strip("\n"))
    for file in sorted(FOLDER.glob("*.txt"))
    for block in file.read_text().split("\n\n")
    if not block.startswith("#")
]


def test_the_list_of_bad_studies_is_long_and_without_repeats():
    """At least 160 distinct bad studies; each is another change."""
    assert len({bad[:1] + bad[2:4] for bad in ALL}) == len(ALL) >= 160


@pytest.mark.parametrize("bad", ALL, ids=[bad.name for bad in ALL])
def test_a_bad_study_is_refused_with_its_sentence(bad: Bad, tmp_path):
    """The whole sentence is compared, and the line is the one where the fault is."""
    assert bad.base.count(bad.old) == 1, "the change must apply at one place"
    text = bad.base.replace(bad.old, bad.new)
    with pytest.raises(StudyError) as error:
        load_study(write(tmp_path, text))
    file, line, sentence = str(error.value).removeprefix(str(tmp_path)).split(":", 2)
    assert file == "/study.toml"
    assert sentence == f" {bad.sentence}"
    assert bad.line in text.splitlines()[int(line) - 1]


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """The sentence that refuses a study, without the path of its folder."""
    with pytest.raises(StudyError) as error:
        study_of(folder, text, *overrides)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{folder}/", "")


BAD_BYTES = {
    "an empty file": (b"", "study.toml:1: is empty; expected [study], [tumor] and [[arms]]"),
    "only a comment": (b"# x\n", "study.toml:1: is empty; expected [study], [tumor] and [[arms]]"),
    "a byte order mark": (
        b"\xef\xbb\xbf" + MINIMAL.encode(),
        "study.toml:1: starts with a byte order mark; expected UTF-8 without one",
    ),
    "UTF-16": (
        MINIMAL.encode("utf-16"),
        "study.toml:1: is not UTF-8 text (UTF-16, or no text); expected UTF-8",
    ),
    "UTF-16 without a mark": (
        MINIMAL.encode("utf-16-le"),
        "study.toml:1: is not UTF-8 text (UTF-16, or no text); expected UTF-8",
    ),
    "Latin-1": (
        MINIMAL.replace("birth and", "gebürtig").encode("latin-1"),
        "study.toml:2: is not UTF-8: byte 0xfc; expected UTF-8",
    ),
    "no TOML": (
        b"[study]\ntitle = 'x'\nhorizon_days : 3\n",
        "study.toml:3: is not valid TOML: Expected '=' after a key in a key/value pair",
    ),
    "a text that does not end": (
        b'[study]\ntitle = "x\n',
        "study.toml:2: is not valid TOML: Illegal character '\\n'",
    ),
    "an array that does not end": (
        b"[study]\ntitle = [\n1,\n",
        "study.toml:3: is not valid TOML: Invalid value",
    ),
    "a key twice": (
        MINIMAL.replace("horizon_days", "title").encode(),
        "study.toml:3: is not valid TOML: the same key is given twice",
    ),
    "a table twice": (
        (MINIMAL + "[tumor]\n").encode(),
        "study.toml:12: is not valid TOML: Cannot declare ('tumor',) twice",
    ),
    "a null": (
        MINIMAL.replace("10", "null").encode(),
        "study.toml:3: is not valid TOML: Invalid value",
    ),
    "arrays nested 3000 deep": (
        MINIMAL.replace("10", "[" * 3000 + "]" * 3000).encode(),
        "study.toml: nests arrays or tables too deeply; expected a study",
    ),
    "tables nested 3000 deep": (
        MINIMAL.replace("horizon_days = 10", "horizon_days" + ".a" * 3000 + " = 10").encode(),
        "study.toml:3: key `study.horizon_days`: expected a number > 0 days, got a table",
    ),
    "an integer of 5000 digits": (
        MINIMAL.replace("10", "9" * 5000).encode(),
        "study.toml:3: is not valid TOML: an integer has too many digits",
    ),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_what_is_no_toml_is_refused(name, tmp_path):
    """Wrong encodings, wrong TOML and absurd TOML end in a sentence with a line where there is one."""
    data, sentence = BAD_BYTES[name]
    path = tmp_path / "study.toml"
    path.write_bytes(data)
    with pytest.raises(StudyError) as error:
        load_study(path)
    assert str(error.value).replace(f"{tmp_path}/", "") == sentence


def test_what_is_no_readable_file_is_refused(tmp_path, monkeypatch):
    """A missing file, a folder, a file that may not be read, one without end."""
    for path, sentence in (
        (tmp_path / "none.toml", "cannot be read: No such file or directory"),
        (tmp_path, "is a folder; expected a study file"),
        (write(tmp_path, MINIMAL) / "x", "cannot be read: Not a directory"),
        (Path("a\0b"), "cannot be read: embedded null byte"),
        (Path("/dev/zero"), "is larger than 16777216 bytes; expected a study file"),
    ):
        with pytest.raises(StudyError) as error:
            load_study(path)
        assert str(error.value) == f"{path}: {sentence}"

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(StudyError, match=r"study\.toml: cannot be read: Permission denied$"):
        load_study(tmp_path / "study.toml")


def test_lines_are_counted_with_windows_line_ends(tmp_path):
    """The line is right whether lines end in LF or CR LF."""
    text = MINIMAL.replace("= 0.5", "= -1").replace("\n", "\r\n")
    path = tmp_path / "study.toml"
    path.write_bytes(text.encode())
    with pytest.raises(StudyError, match=r"study.toml:7: key `tumor.death_rate_per_day`"):
        load_study(path)


def test_the_first_error_of_a_file_is_reported(tmp_path):
    """Of several faults the one that stands first in the file is named."""
    text = FULL.replace("growth_factor = 1.2", "growth_factor = -1").replace(
        "need = 0.8", "need = 2"
    )
    assert "`sites.lung.growth_factor`" in refusal(tmp_path, text)


ARM = '[[arms]]\nname = "untreated"\ndoses = []\n'
SMALL = {
    "an array of tables that is a table": (
        ("[[arms]]", "[arms]"),
        "study.toml:9: key `arms`: expected an array, got a table",
    ),
    "no arms": (
        (ARM, ""),
        "study.toml:1: key `arms` is missing; expected an array of tables",
    ),
    "no tumor": (
        ("[tumor]\nbirth_rate_per_day = 1.0\ndeath_rate_per_day = 0.5\n", ""),
        "study.toml:1: key `tumor` is missing; expected a table",
    ),
    "an empty mixture": (
        ("[tumor]", "[tumor]\nmixture = []"),
        "study.toml:6: key `tumor.mixture`: expected at least one row of cells, got an empty array",
    ),
    "stopping at the start": (
        ("[tumor]", "[tumor]\nfounders = 5\nstop_at_cells = 5"),
        (
            "study.toml:7: key `tumor.stop_at_cells`: expected more cells than the tumor starts from (5), "
            "got 5"
        ),
    ),
    "crowding without a capacity": (
        ("[tumor]", '[tumor]\ncrowding = "logistic"'),
        "study.toml:6: key `tumor.crowding` needs a capacity_cells, and none is given",
    ),
    "gompertz crowding with room for one cell": (
        ("[tumor]", '[tumor]\ncrowding = "gompertz"\ncapacity_cells = 1'),
        'study.toml:6: key `tumor.crowding` is "gompertz", which needs capacity_cells >= 2',
    ),
    "a name that must be quoted": (
        ("[tumor]", "[tumor]\n'a.b' = 1"),
        (
            'study.toml:6: key `tumor."a.b"` is unknown; known here: `founders`, `mixture`, '
            "`immigration`, `treat_at_cells`, `stop_at_cells`, `birth_rate_per_day`, "
            "`death_rate_per_day`, `crowding`, ..."
        ),
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_bad_small_study_is_refused(name, tmp_path):
    """Faults that the full study cannot show."""
    (old, new), sentence = SMALL[name]
    assert MINIMAL.count(old) == 1
    assert refusal(tmp_path, MINIMAL.replace(old, new)) == sentence


def test_growth_that_cannot_reach_treatment_is_refused(tmp_path):
    """Logistic growth levels off at K (1 - d/b), Gompertz growth at K^(1 - d/b)."""
    for crowding, capacity, levels_off in (
        ("logistic", 2000, 1000),
        ("gompertz", 10_000, 100),
    ):
        extra = f'crowding = "{crowding}"\ncapacity_cells = {capacity}\ntreat_at_cells = '
        text = MINIMAL.replace("[tumor]\n", f"[tumor]\n{extra}")
        assert refusal(tmp_path, text.replace(extra, f"{extra}{levels_off}\n")) == (
            "study.toml:8: key `tumor.treat_at_cells` is more than growth reaches: expected "
            f"fewer than {levels_off} cells, from where on deaths outnumber births, got {levels_off}"
        )
        study_of(tmp_path, text.replace(extra, f"{extra}{levels_off - 1}\n"))


OVERRIDES = {
    "tumor.birth_rat_per_day=1": "tumor.birth_rat_per_day=1: key `tumor.birth_rat_per_day` is unknown; "
    "did you mean `birth_rate_per_day`?",
    "tumour.birth_rate_per_day=1": "tumour.birth_rate_per_day=1: key `tumour` is unknown; "
    "did you mean `tumor`?",
    "tumor.birth_rate_per_day=fast": "tumor.birth_rate_per_day=fast: key `tumor.birth_rate_per_day`: "
    'expected a number >= 0 per day, got "fast"',
    "study.seed=1.5": "study.seed=1.5: key `study.seed`: expected an integer from 0 to "
    "9223372036854775807, got 1.5",
    "study.seed": "study.seed: expected key=value, such as study.seed=8",
    "=3": "=3: expected key=value, such as study.seed=8",
    "a..b=3": "a..b=3: expected key=value, such as study.seed=8",
    "study.title.x=3": "study.title.x=3: key `study.title` is a value, not a table",
    "drugs.tky.kd_um=1": "drugs.tky.kd_um=1: key `drugs.tky` is unknown; did you mean `tki`?",
    "drugs.aspirin={ dose = 3 }": "drugs.aspirin={ dose = 3 }: key `drugs.aspirin.dose` is unknown; "
    "known here: `molecular_weight_g_per_mol`, `kd_um`, `target`, `pool`, `max_dose_mg`, "
    "`max_cumulative_mg`, `max_cumulative_mg_per_m2`, `uptake`, ...",
    "arms.2.name=x": "arms.2.name=x: key `arms`: expected a row from 0 to 1, got 2",
    "arms.-1.name=x": "arms.-1.name=x: key `arms`: expected a row from 0 to 1, got -1",
    "arms.first.name=x": "arms.first.name=x: key `arms`: expected a row from 0 to 1, got first",
    "arms.0.doses.0.drug=tky": "arms.0.doses.0.drug=tky: key `arms.0.doses.0.drug`: expected the name "
    'of a drug, got "tky"; did you mean `tki`?',
    "alterations.T790M.kd_fold.tky=2": "alterations.T790M.kd_fold.tky=2: key "
    "`alterations.T790M.kd_fold.tky` is no drug of the study; did you mean `tki`?",
    "study.seed=1\nreplicates=2": "study.seed=1 replicates=2: key `study.seed`: expected an integer "
    'from 0 to 9223372036854775807, got "1\\nreplicates=2"',
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_bad_override_is_refused(override, tmp_path):
    """`--set` of a missing key, of a wrong type, of a row that is not there; it is named, not a line."""
    assert refusal(tmp_path, FULL, override) == f"--set {OVERRIDES[override]}"


def test_an_override_does_not_take_the_blame_of_the_file(tmp_path):
    """A fault elsewhere keeps its line, and a fault that an override repairs is gone."""
    text = FULL.replace("need = 0.8", "need = 2")
    assert refusal(tmp_path, text, "study.seed=3").startswith("study.toml:")
    study_of(tmp_path, text, "targets.EGFR.need=0.5")


@pytest.mark.parametrize("arguments", [("check",), ("run",), ("run", "--json")])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            MINIMAL.replace("1.0", "true"),
            "study.toml:6: key `tumor.birth_rate_per_day`: expected a number >= 0 per day, got true\n",
        ),
        ("", "study.toml:1: is empty; expected [study], [tumor] and [[arms]]\n"),
    ],
)
def test_the_command_refuses_a_bad_study_at_once(arguments, text, sentence, tmp_path):
    """Exit code 2, one line on stderr, nothing else, no traceback, no folder, within 2 s."""
    write(tmp_path, text)
    seconds = []
    for _ in range(2):  # the better of two, to spare a machine that is busy
        start = time.perf_counter()
        done = command(arguments[0], "study.toml", *arguments[1:], cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)
    assert min(seconds) < SECONDS
    assert not (tmp_path / "runs").exists()
