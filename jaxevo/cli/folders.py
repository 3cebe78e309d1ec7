"""Folders: where a command writes its results."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxevo.cli.exits import BAD_INPUT, Stop


@contextmanager
def folder_of(out: Path | None, stem: str) -> Iterator[Path]:
    """A folder of its own for the results; removed again if nothing was written into it."""
    folder = _new_folder(stem) if out is None else _given_folder(out)
    try:
        yield folder
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def _new_folder(stem: str) -> Path:
    """`runs/STEM`, or the first of `runs/STEM-2`, `runs/STEM-3`, ... that is free."""
    number = 1
    while True:
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise Stop(BAD_INPUT, f"{folder}: cannot be made: {error.strerror}") from None
        else:
            return folder


def _given_folder(out: Path) -> Path:
    """The folder after --out, which must be new or empty, and writable."""
    try:
        if out.exists() and not out.is_dir():
            raise Stop(BAD_INPUT, f"--out {out}: is a file; expected a new or empty folder")
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise Stop(BAD_INPUT, f"--out {out}: exists and is not empty; expected a new folder")
        with tempfile.TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise Stop(BAD_INPUT, f"--out {out}: is not writable: {error.strerror}") from None
