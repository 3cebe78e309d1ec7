"""A damaged or hostile file is refused with one sentence: no crash, no hang, no wrong number."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from jaxevo.store import StoreError, files, read_trajectory, write_trajectory


def test_a_file_cut_short_is_refused(written):
    """Truncated at 400 lengths, the shortest and the longest among them, no file is read."""
    content = written.read_bytes()
    lengths = {*range(100), *range(len(content) - 100, len(content))}
    lengths |= set(np.linspace(0, len(content) - 1, 200, dtype=int).tolist())
    for length in lengths:
        written.write_bytes(content[:length])
        with pytest.raises(StoreError, match=r"not an HDF5 file|cut short"):
            read_trajectory(written)


def test_a_damaged_file_is_refused(written):
    """400 files with 1 to 4 flipped bits anywhere, the seal included: all refused, none read wrong."""
    content = written.read_bytes()
    dice = random.Random(2)  # noqa: S311
    for _ in range(400):
        damaged = bytearray(content)
        for place in dice.sample(range(len(content)), dice.randint(1, 4)):
            damaged[place] ^= 1 << dice.randrange(8)
        written.write_bytes(damaged)
        with pytest.raises(StoreError):
            read_trajectory(written)


def test_damage_under_a_forged_seal_neither_crashes_nor_hangs(trajectory, tmp_path):
    """300 damaged files whose seal was made to fit reach HDF5: a trajectory or a sentence each time."""
    write_trajectory(tmp_path / "t.h5", trajectory, {})
    script = f"""if True:
        import random
        from pathlib import Path
        from jaxevo.store import StoreError, files, read_trajectory
        path = Path({str(tmp_path / "t.h5")!r})
        content, dice = path.read_bytes()[:-80], random.Random(3)
        for _ in range(300):
            damaged = bytearray(content)
            for place in dice.sample(range(len(content)), dice.randint(1, 4)):
                damaged[place] ^= 1 << dice.randrange(8)
            path.write_bytes(bytes(damaged) + files.seal(damaged))
            try:
                read_trajectory(path)
            except StoreError:
                pass
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def write_sealed(path: Path, fill) -> None:
    """An HDF5 file that passes for a trajectory, except for what `fill` puts into it."""
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["format"] = np.array(b"jaxevo trajectory", h5py.string_dtype("utf-8", 17))
        file.attrs["format_version"] = np.int64(1)
        fill(file)
    content = path.read_bytes()
    path.write_bytes(content + files.seal(content))


def link_outside(file):
    file["burden"] = h5py.ExternalLink("/etc/passwd", "/x")


def link_by_path(file):
    file["burden"] = h5py.SoftLink("/other")


def map_virtually(file):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("missing.h5", "x", (4,))
    file.create_virtual_dataset("burden", layout)


def store_outside(file):
    file.create_dataset("burden", (4,), "f8", external=[("/etc/passwd", 0, 32)])


def declare_8_tib(file):
    file.create_dataset("burden", (2**40,), "f8", chunks=(1024,))


def declare_a_huge_chunk(file):
    file.create_dataset("burden", (4,), "f8", chunks=(2**28,), maxshape=(None,))


def share_one_dataset_often(file):
    file.create_dataset("d0", data=np.zeros(1_000_000), compression="gzip")
    for i in range(1, 1000):
        file[f"d{i}"] = file["d0"]


def vary_in_length(file):
    file.create_dataset("burden", data=["a", "bc"], dtype=h5py.string_dtype())


def compound(file):
    file.create_dataset("burden", data=np.zeros(2, [("a", "f8"), ("b", "i4")]))


def compress_otherwise(file):
    file.create_dataset("burden", data=np.zeros(100), compression="lzf")


def nest_groups(file):
    file.create_group("a/b")


def loop(file):
    file["lineage"] = file["/"]


def without_space(file):
    file.create_dataset("burden", data=h5py.Empty("f8"))


def without_axes(file):
    file.create_dataset("burden", data=np.zeros(4))


def varying_attribute(file):
    file.attrs["config"] = "text of variable length"


def newer(file):
    file.attrs["format_version"] = np.int64(2)


def foreign(file):
    file.attrs["format"] = np.array(b"something else", h5py.string_dtype("utf-8", 14))


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (link_outside, "link to elsewhere"),
        (link_by_path, "link to elsewhere"),
        (map_virtually, "in another file"),
        (store_outside, "in another file"),
        (declare_8_tib, "declares more"),
        (declare_a_huge_chunk, "declares more"),
        (share_one_dataset_often, "declares more"),
        (vary_in_length, "unexpected type"),
        (compound, "unexpected type"),
        (compress_otherwise, "in a way that jaxevo does not write"),
        (nest_groups, "unexpected object"),
        (loop, "unexpected object"),
        (without_space, "no values"),
        (without_axes, "could not be understood"),
        (varying_attribute, "unexpected type"),
        (newer, "has format version 2, this jaxevo reads up to 1: update jaxevo"),
        (foreign, "not a trajectory"),
    ],
)
def test_a_hostile_or_foreign_file_is_refused(tmp_path, fill, message):
    """With a seal that fits: nothing outside the file is opened, nothing absurd is allocated."""
    path = tmp_path / "t.h5"
    write_sealed(path, fill)
    start = time.perf_counter()
    with pytest.raises(StoreError, match=message) as caught:
        read_trajectory(path)
    assert time.perf_counter() - start < 10
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "does not exist"),
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (Path.touch, "not an HDF5 file"),
        (lambda path: path.write_text("time,burden\n0,1\n"), "not an HDF5 file"),
    ],
)
def test_what_is_no_trajectory_is_refused(tmp_path, make, message):
    """Missing, a folder, a pipe, a device, empty, text: one sentence at once, nothing waits."""
    make(tmp_path / "t.h5")
    with pytest.raises(StoreError, match=message):
        read_trajectory(tmp_path / "t.h5")
