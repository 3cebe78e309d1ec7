"""A file is there whole and durable, or not at all; a name that exists is never touched."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from jaxevo.store import StoreError, files, write_trajectory


def occupy_with_file(path: Path) -> None:
    path.write_bytes(b"precious")


def occupy_with_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize("occupy", [occupy_with_file, occupy_with_link, Path.mkdir])
def test_an_existing_name_is_never_touched(trajectory, tmp_path, occupy):
    """What has the name keeps it, and nothing is left beside it."""
    path = tmp_path / "trajectory.h5"
    occupy(path)
    before = path.lstat()
    with pytest.raises(StoreError, match="exists already and is never overwritten"):
        write_trajectory(path, trajectory, {})
    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_a_name_taken_at_the_last_moment_is_not_touched(tmp_path, monkeypatch, has_hard_links):
    """Another writer finishes between our check and our last step: its file stays."""
    path = tmp_path / "t.h5"
    if not has_hard_links:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    path.write_bytes(b"precious")
    with pytest.raises(StoreError, match="exists already"):
        files.commit(path, b"ours")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_one_of_many_writers_wins(tmp_path):
    """20 races of 6 writers: exactly one file, whole, and one winner each."""
    for race in range(20):
        path, winners = tmp_path / f"{race}.h5", []

        def write(writer: int, path=path, winners=winners) -> None:
            try:
                files.commit(path, bytes([writer]) * 100_000)
                winners.append(writer)
            except StoreError:
                pass

        threads = [Thread(target=write, args=(writer,)) for writer in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1
        assert path.read_bytes() == bytes(winners) * 100_000
    assert len(list(tmp_path.iterdir())) == 20


def failing(code: int):
    """A system call that always fails with `code`."""

    def call(*arguments, **options):
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("call", ["write", "fsync", "open", "close"])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_leaves_no_file(trajectory, tmp_path, monkeypatch, call, after, code):
    """Whichever system call of a commit fails, there is one sentence and no file of ours."""
    real, calls = getattr(os, call), []

    def broken(*arguments, **options):
        calls.append(call)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        if call == "write":  # a part only, as a full disk does
            return real(arguments[0], arguments[1][:100])
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(StoreError, match=f"could not be written: {os.strerror(code)}"):
        write_trajectory(tmp_path / "t.h5", trajectory, {})
    monkeypatch.undo()
    assert len(calls) > after
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_returns_other_bytes_is_found_out(trajectory, tmp_path, monkeypatch):
    """The file is read back and compared before it gets its name."""
    real = os.write

    def flipping(descriptor, data):
        return real(descriptor, bytes([data[0] ^ 1]) + bytes(data[1:]))

    monkeypatch.setattr(os, "write", flipping)
    with pytest.raises(StoreError, match="reads back other bytes"):
        write_trajectory(tmp_path / "t.h5", trajectory, {})
    assert list(tmp_path.iterdir()) == []


def test_without_hard_links_the_file_is_written_all_the_same(tmp_path, monkeypatch):
    """FAT and some network file systems have no hard links; the name is then claimed exclusively."""
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    files.commit(tmp_path / "t.h5", b"whole ", b"and true")
    assert (tmp_path / "t.h5").read_bytes() == b"whole and true"
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]


def test_a_real_limit_on_file_size_ends_in_a_sentence(tmp_path):
    """RLIMIT_FSIZE in a process of its own: StoreError, a normal exit, no file (h5py would segfault)."""
    script = f"""if True:
        import resource
        from jaxevo.store import StoreError, write_trajectory
        from tests.trajectories import make_trajectory
        trajectory = make_trajectory(days=10, replicates=1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_trajectory({str(tmp_path / "t.h5")!r}, trajectory, {{}})
        except StoreError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "could not be written: File too large" in run.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_is_none_is_named(trajectory, tmp_path, folder):
    """A missing folder, or a file in its place, is an error and nothing is created."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="could not be written"):
        write_trajectory(tmp_path / folder / "t.h5", trajectory, {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
