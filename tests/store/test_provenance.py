"""A result says where it comes from, and nothing about the machine's name."""

import os
import shutil
import subprocess

import pytest

from jaxevo.store import provenance
from jaxevo.store.provenance import _source_commit

GIT = shutil.which("git")


def test_provenance_names_versions_and_no_host():
    """Versions, platform and time are there; the name of the machine is not."""
    found = provenance()
    for name in ("jaxevo", "jax", "jaxlib", "numpy", "h5py", "hdf5", "python"):
        assert found[f"{name}_version"]
    assert found["created_utc"].endswith("+00:00")
    assert os.uname().nodename not in " ".join(str(value) for value in found.values()).split()


@pytest.mark.skipif(GIT is None, reason="git is not installed")
def test_provenance_takes_the_commit_of_the_package_alone(tmp_path, monkeypatch):
    """A commit is named only if the package lies at the top of the work tree; edits mark it dirty."""

    def git(*arguments):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run([GIT, *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    source = tmp_path / "jaxevo" / "model.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    git("init")
    assert _source_commit(source.parent) == {}  # no commit yet
    git("add", ".")
    git("commit", "-m", "first")
    found = _source_commit(source.parent)
    assert len(found["git_commit"]) == 40
    assert found["git_is_dirty"] == 0
    (tmp_path / "notes.txt").write_text("not the package\n")
    assert _source_commit(source.parent) == found
    source.write_text("x = 2\n")
    assert _source_commit(source.parent) == found | {"git_is_dirty": 1}
    inside = tmp_path / "venv" / "jaxevo"
    inside.mkdir(parents=True)
    assert _source_commit(inside) == {}
    monkeypatch.setenv("PATH", "")
    assert _source_commit(source.parent) == {}
