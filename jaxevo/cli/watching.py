"""Watching: bars on a terminal that say how far a command is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxevo.engines.cells import Progress


@contextmanager
def cells(is_shown: bool) -> "Iterator[Callable[[Progress], None] | None]":
    """A bar on stderr with cells, simulated day and time left."""
    if not is_shown:
        yield None
        return
    from rich import progress as rich  # noqa: PLC0415 - only for a terminal
    from rich.console import Console  # noqa: PLC0415

    columns = (
        rich.TextColumn("{task.description:<9}"),
        rich.BarColumn(),
        rich.TextColumn("{task.fields[cells]:>13,} cells  day {task.fields[day]:>7.1f}"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, rich.TaskID] = {}

        def show(now: "Progress") -> None:
            if now.phase not in tasks:
                tasks[now.phase] = bar.add_task(now.phase, total=1.0, cells=0, day=0.0)
            task = tasks[now.phase]
            bar.update(task, completed=now.fraction, cells=now.cells, day=now.day)

        yield show


@contextmanager
def shares(is_shown: bool) -> Iterator[Callable[[str, float | None, str], None] | None]:
    """A bar on stderr for each part of the work: the share that is done, and how it goes."""
    if not is_shown:
        yield None
        return
    from rich import progress as rich  # noqa: PLC0415 - only for a terminal
    from rich.console import Console  # noqa: PLC0415

    columns = (
        rich.TextColumn("{task.description:<22}"),
        rich.BarColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("{task.fields[text]}"),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, rich.TaskID] = {}

        def show(what: str, share: float | None, text: str) -> None:
            if what not in tasks:
                total = None if share is None else 1.0
                tasks[what] = bar.add_task(what, total=total, text=text)
            bar.update(tasks[what], completed=share, text=text)

        yield show
