"""Every validation case passes, and docs/validation.md says what this run says."""

import pytest

from jaxevo.selftest.case import PUBLISHED, Case
from tests.validation import page
from tests.validation.page import DETERMINISTIC, PAGE
from tests.validation.registry import every_case

CASES = every_case()


def named(case: Case) -> str:
    return f"{case.name} {case.title}, {case.engine}"


def parameters():
    """All cases; those that take long are marked."""
    for case in CASES:
        marks = [pytest.mark.slow] if case.is_slow else []
        yield pytest.param(case, id=named(case).replace(" ", "-"), marks=marks)


def rows_of(case: Case) -> list[page.Row]:
    """What the page says of a case."""
    about = (case.name, case.title, case.engine)
    return [row for row in page.read(PAGE.read_text()) if row[:3] == about]


def is_same(new: page.Row, old: page.Row, engine: str) -> bool:
    """Equal but for the last digits; what was drawn may differ on another device."""
    if new[:4] != old[:4] or new.verdict != old.verdict:
        return False
    if engine not in DETERMINISTIC:
        return True
    a, b = float(new.obtained), float(old.obtained)
    return abs(a - b) <= 1e-4 * max(abs(a), 1e-6)


@pytest.mark.parametrize("case", list(parameters()))
def test_the_case_passes_and_the_page_says_so(case: Case):
    """Expected numbers, their source and their limits stand in the declaration of the case."""
    results = case.run()
    assert results
    failed = [result for result in results if not result.is_passed]
    assert not failed, "\n".join(
        f"{r.quantity}: expected {r.expected:.10g}, obtained {r.obtained:.10g} ({r.tolerance})"
        for r in failed
    )
    new, old = [page.row(result) for result in results], rows_of(case)
    assert len(new) == len(old), "run `make validation-page`"
    for a, b in zip(new, old, strict=True):
        assert is_same(a, b, case.engine), f"{a} now, {b} on the page: run `make validation-page`"


def test_the_page_lists_every_case_with_its_source_and_verdict():
    """Also the slow ones, which this run leaves out; every row that is there has passed."""
    text = PAGE.read_text()
    for case in CASES:
        assert f"### {case.name}: {case.title}" in text
        assert f"{case.source}." in text
        assert case.is_slow or rows_of(case), (
            f"no rows of {named(case)}: run `make validation-page`"
        )
    assert {row.verdict for row in page.read(text)} == {"passed"}


def test_the_cases_of_this_version_are_all_there():
    """V01 needs space, E13 treatment search, V17 and V18 come later."""
    declared = {case.name for case in CASES}
    published = {f"V{i:02d}" for i in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)}
    exact = {f"E{i:02d}" for i in range(1, 16)} - {"E13"}
    assert declared - {"bits"} == published | exact


def test_only_published_tables_are_called_published():
    """Cases of exact laws never claim validation against a publication."""
    assert {case.name for case in CASES if case.provenance == PUBLISHED} <= {
        "V02", "V03", "V04", "V05", "V06", "V07", "V08", "V10", "V11", "E11",
    }  # fmt: skip


def test_every_claim_is_made_once():
    """(name, title, engine) names a case; a title has one source and one provenance."""
    assert len({named(case) for case in CASES}) == len(CASES)
    titles = {(case.name, case.title) for case in CASES}
    assert len(page.titles(CASES)) == len(titles)
