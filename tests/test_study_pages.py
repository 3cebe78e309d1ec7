"""The pages of docs/studies say what the files of configs/studies say; nothing is run.

`make study-pages` writes them anew, after a change of a study with its name: STUDIES="ovarian".
"""

import re

import pytest

from tests.study_pages import (
    FOLDER,
    RESULTS,
    STUDIES,
    comments,
    contents,
    described,
    names,
    sections,
)

SMALLEST, LARGEST = 5_000, 80_000  # bytes of a picture


@pytest.mark.parametrize("name", names())
def test_a_page_tells_what_its_study_says(name):
    """Head, arms, and every number with its unit and source, word for word; then what came out."""
    told, _, found = (FOLDER / f"{name}.md").read_text().partition(RESULTS)
    assert told == described(name) + "\n"
    assert "| arm |" in found
    assert "50% unknown" not in found, "of a run that was stopped"


@pytest.mark.parametrize("name", names())
def test_the_pictures_of_a_page_are_there_and_small(name):
    """Those that it shows, and no others of its name."""
    shown = re.findall(r"!\[\w+\]\(([\w-]+\.png)\)", (FOLDER / f"{name}.md").read_text())
    assert shown
    assert sorted(shown) == sorted(path.name for path in FOLDER.glob(f"{name}-*.png"))
    for picture in shown:
        assert SMALLEST < (FOLDER / picture).stat().st_size < LARGEST


def test_the_list_names_every_study_and_there_is_no_page_without_one():
    """docs/studies/README.md and the folder."""
    assert (FOLDER / "README.md").read_text() == contents()
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(["README", *names()])


@pytest.mark.parametrize("name", names())
def test_no_number_of_a_study_is_left_out(name):
    """A number that is changed anywhere outside of the arms changes the page: each key of the text that
    holds one is a row.
    """
    text = (STUDIES / f"{name}.toml").read_text().split("[[arms]]")[0]
    keys = re.findall(r"^(\w+) = [-\d]", text, re.MULTILINE)
    rows = [key for section in sections(text + "[[arms]]\n") for key, *_ in section.rows]
    assert keys
    assert not [key for key in keys if keys.count(key) > rows.count(key)]


def test_a_value_its_unit_and_its_comment_are_read():
    """Of tables, of tables by name, of arrays, and of what is written in one line."""
    text = """\
[tumor]
birth_rate_per_day = 0.25  # once in four days
source = "here"
mixture = [{ cells = 5, genotype = { R = 1 } }]
[drugs.d.plasma]
volume_l = 3
peripheral = [{ k12_per_h = 1.5, k21_per_h = 2.0 }]
[sites.s]
vessel_distance_um = 60
migration_per_day = { t = 1e-5 }
[patients]
count = 3
[patients.vary]
"host.feedback" = { cv = 0.2 } # wide
"""
    found = {section.name: section for section in sections(text)}
    assert found["tumor"].notes == {"source": "here"}
    assert found["tumor"].rows == [
        ("birth_rate_per_day", "0.25", "1/day", "once in four days"),
        ("mixture.0.cells", "5", "cells", ""),
        ("mixture.0.genotype", "R 1", "", ""),
    ]
    assert [row[:3] for row in found["drugs.d.plasma"].rows] == [
        ("volume_l", "3", "L"),
        ("peripheral.0.k12_per_h", "1.5", "1/h"),
        ("peripheral.0.k21_per_h", "2", "1/h"),
    ]
    assert [row[2] for row in found["sites.s"].rows] == ["um", "1/day"]
    assert [row[0] for row in found["patients"].rows] == ["count", 'vary."host.feedback".cv']
    assert comments('a = "x # y"  # z\n') == {("", "a"): "z"}
