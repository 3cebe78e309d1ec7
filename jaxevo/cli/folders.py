"""Folders: where a command writes its results."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxevo.cli.exits import BAD_INPUT, Stop

SAVED = "search.npz"  # the state of a search that was stopped


@contextmanager
def folder_of(out: Path | None, stem: str) -> Iterator[Path]:
    """A folder of its own for the results; removed again if nothing was written into it."""
    folder = _new_folder(stem) if out is None else _given_folder(out)
    try:
        yield folder
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def folder_to_resume(out: Path | None, config: str) -> Iterator[Path]:
    """The folder of a search that was stopped, of the same study."""
    if out is None:
        raise Stop(BAD_INPUT, "--resume: needs --out, the folder in which the search was stopped")
    saved, before = out / SAVED, out / "config.toml"
    try:
        if not saved.is_file() or not before.is_file():
            raise Stop(BAD_INPUT, f"--out {out}: holds no search that was stopped ({SAVED})")
        if before.read_text(encoding="utf-8") != config:
            raise Stop(BAD_INPUT, f"--resume: {before} is another study than the one that is given")
    except OSError as error:
        raise Stop(BAD_INPUT, f"--out {out}: cannot be read: {error.strerror}") from None
    yield out


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
