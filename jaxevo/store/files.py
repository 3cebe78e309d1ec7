r"""Whole files: written once, sealed with their own checksum, never changed in place.

A sealed file is its content followed by one line of 80 bytes,

    \njaxevo sha256 <64 hexadecimal digits>\n

the digest of everything before it. HDF5 ignores bytes after its end, so the file stays an ordinary
HDF5 file, and no damaged byte ever reaches a parser: a flipped bit, a lost tail or a foreign edit is
found before the content is looked at. The seal guards against accidents, not against forgery.
"""

import hashlib
import os
import secrets
import stat
from pathlib import Path

_SEAL_PREFIX = b"\njaxevo sha256 "
_SEAL_SIZE = len(_SEAL_PREFIX) + 64 + 1
_BLOCK = 1 << 20


class StoreError(OSError):
    """A file could not be written or must not be trusted; the message is one sentence."""


def seal(content: bytes | bytearray | memoryview) -> bytes:
    """The line that closes a sealed file."""
    return _SEAL_PREFIX + hashlib.sha256(content).hexdigest().encode() + b"\n"


def check_seal(path: Path, content: bytes) -> None:
    """Check that `content`, read from `path`, ends with the digest of what comes before.

    Raises:
        StoreError: there is no seal, or it does not fit.
    """
    body, line = memoryview(content)[:-_SEAL_SIZE], content[-_SEAL_SIZE:]
    if not line.startswith(_SEAL_PREFIX):
        raise StoreError(
            f"{path} does not end with the checksum that jaxevo writes:"
            " it was cut short, changed, or written by another program"
        )
    if line != seal(body):
        raise StoreError(f"{path} is damaged: its content does not match its checksum")


def read_whole(path: Path) -> bytes:
    """Everything in a regular file; never waits for a pipe and never reads a device.

    Raises:
        StoreError: no such file, not a regular file, or not readable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
                raise StoreError(f"{path} is {kind}, expected a file")
            return file.read()
    except StoreError:
        raise
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise StoreError(f"{path} is a folder, expected a file") from None
    except MemoryError:
        raise StoreError(f"{path} is larger than the memory of this machine") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{path} could not be read: {reason}") from error


def commit(path: Path, *parts: bytes) -> None:
    """Write a new file so that it is there whole and durable, or not at all.

    The parts go to a temporary name in the same folder, are fsynced, read back and compared; then the
    file gets its name, and the folder is fsynced. A name that exists is never touched.

    Raises:
        StoreError: the name is taken, the folder is missing, the disk is full or fails.
    """
    if os.path.lexists(path):
        raise StoreError(f"{path} exists already and is never overwritten: choose another name")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    is_named = is_done = False
    try:
        _write_durably(temporary, parts)
        _check_read_back(temporary, parts)
        _give_name(temporary, path)
        is_named = True
        _sync_folder(path.parent)
        is_done = True
    except FileExistsError:
        raise StoreError(
            f"{path} exists already and is never overwritten: choose another name"
        ) from None
    except FileNotFoundError:
        raise StoreError(f"{path} could not be written: its folder does not exist") from None
    except StoreError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{path} could not be written: {reason}") from error
    finally:
        _remove(temporary)
        if is_named and not is_done:  # whole, but perhaps not durable: failure must mean no file
            _remove(path)


def _write_durably(path: Path, parts: tuple[bytes, ...]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_read_back(path: Path, parts: tuple[bytes, ...]) -> None:
    expected, found = hashlib.sha256(), hashlib.sha256()
    for part in parts:
        expected.update(part)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    if found.digest() != expected.digest():
        raise StoreError(
            f"{path.parent} reads back other bytes than were written: the disk may be failing"
        )


def _give_name(temporary: Path, path: Path) -> None:
    """Let `path` name the temporary file, unless the name is taken (FileExistsError).

    A hard link is the one portable system call that names a finished file atomically and fails when
    the name exists; rename would replace a file that another process wrote after any check. Where the
    file system has no hard links, the name is claimed by an empty file that only we can have created
    (O_EXCL), and the rename replaces that.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            os.rename(temporary, path)
        except BaseException:
            _remove(path)
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
