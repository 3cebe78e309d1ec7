"""A bad study is refused with one sentence that names the file, the line, the key, what was expected
and what came; the list is reliability's list of bad inputs, and one per rule of the study file."""

import pytest

from jaxevo.config import StudyError, load_study
from tests.bad_studies import ALL, Bad
from tests.studies import FULL, MINIMAL, command, study_of, write


@pytest.mark.parametrize("bad", ALL, ids=[bad.name for bad in ALL])
def test_a_bad_study_is_refused_with_its_sentence(bad: Bad, tmp_path):
    """The whole sentence is compared: file, line, key, expectation and value."""
    assert FULL.count(bad.old) >= 1, "the change does not apply"
    text = FULL.replace(bad.old, bad.new, 1)
    path = write(tmp_path, text)
    with pytest.raises(StudyError) as error:
        load_study(path)
    file, line, sentence = str(error.value).removeprefix(str(tmp_path)).split(":", 2)
    assert file == "/study.toml"
    assert sentence.removeprefix(" ") == bad.sentence
    wanted = bad.line or bad.new.splitlines()[0]
    assert wanted in text.splitlines()[int(line) - 1]
