"""Room: refuse what cannot fit into memory or onto the disk, before anything is computed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jaxevo.cli import words
from jaxevo.cli.exits import LIMIT, STORAGE, Stop

if TYPE_CHECKING:
    from jaxevo.assay import ScreenSize
    from jaxevo.compare import TrialSize
    from jaxevo.run import Plan


def check_resources(plan: "Plan", folder: Path, device: str | None) -> None:
    """Refuse what cannot fit, before anything is computed."""
    memory = _memory()
    if device != "gpu" and plan.memory_bytes > memory:
        way = "lower study.replicates, patients.count or study.max_alterations, or record less"
        if plan.engine == "cells":
            way = "lower study.max_cells, study.replicates or the number of levels of alterations"
        raise Stop(
            LIMIT,
            f"the study takes {words.size(plan.memory_bytes)} of memory, and there are "
            f"{words.size(memory)}; {way}",
        )
    _check_disk(plan.disk_bytes, folder)


def check_trial(size: "TrialSize", most: Callable[[int], int], folder: Path, device: str | None):
    """Refuse a trial that cannot fit; `most` says how many patients fit into so many bytes."""
    memory = _memory()
    if device != "gpu" and size.memory_bytes > memory:
        fits = most(memory)
        way = f"at most {fits:,} patients fit" if fits else "not even one patient fits"
        raise Stop(
            LIMIT,
            f"the trial takes {words.size(size.memory_bytes)} of memory, and there are "
            f"{words.size(memory)}; {way}: lower patients.count, study.replicates or the number of scans",
        )
    _check_disk(size.disk_bytes, folder)


def check_screen(size: "ScreenSize", folder: Path, device: str | None) -> None:
    """Refuse a screen that cannot fit."""
    memory = _memory()
    if device != "gpu" and size.memory_bytes > memory:
        raise Stop(
            LIMIT,
            f"the screen takes {words.size(size.memory_bytes)} of memory, and there are "
            f"{words.size(memory)}; lower screen.replicates, screen.order, or the number of levels or lines",
        )
    _check_disk(size.disk_bytes, folder)


def _memory() -> int:
    """Of this machine, bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _check_disk(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Stop(
            STORAGE,
            f"{folder}: the results take {words.size(needed)}, and {words.size(free)} are free; "
            "record less, or choose another folder with --out",
        )
