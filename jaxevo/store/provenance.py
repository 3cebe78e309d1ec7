"""Where a result comes from: versions, platform, source commit, time."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import h5py

_SOURCE = Path(__file__).resolve().parents[1]  # the package folder
_GIT_TIMEOUT = 5.0  # seconds


def provenance() -> dict[str, str | int]:
    """What is needed to run a study again: versions, platform, commit, time of creation (UTC).

    `git_commit` is there only where the package lies in a git work tree of its own;
    `git_is_dirty` is 1 where its files differ from that commit.
    """
    names = ("jaxevo", "jax", "jaxlib", "numpy", "h5py")
    return {
        **{f"{name}_version": _version(name) for name in names},
        "hdf5_version": h5py.version.hdf5_version,
        "python_version": platform.python_version(),
        "platform": platform.platform(),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        **_source_commit(_SOURCE),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _source_commit(package: Path) -> dict[str, str | int]:
    """Commit of the work tree whose top folder holds `package`; nothing where there is none."""
    try:
        top = _git(package, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != package.parent:  # installed inside somebody else's repository
            return {}
        commit = _git(package, "rev-parse", "--verify", "HEAD")
        changed = _git(package, "status", "--porcelain", "--", str(package))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": commit, "git_is_dirty": int(bool(changed))}


def _git(folder: Path, *arguments: str) -> str:
    # git variables of a calling hook would point at another repository; fsmonitor would run a program
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_GIT_TIMEOUT,
        check=True,
    )
    return done.stdout.strip()
