"""Blocks: all tumors of a group of patients on the host, and as the blocks of the `clones` kernel."""

from typing import NamedTuple

import jax
import numpy as np

from jaxevo.engines.events import Lineage, Tumors
from jaxevo.engines.wiring import Rules

MOST_CELLS = 2.0**53


class Whole(NamedTuple):
    """All tumors of a group of patients on the host, NumPy; the last axis is the tumor."""

    count: np.ndarray  # [origin, type, tumor]
    extra: np.ndarray  # [variable, tumor]
    status: np.ndarray
    day: np.ndarray
    births: np.ndarray
    deaths: np.ndarray
    arrived: np.ndarray  # cells from outside
    attempts: np.ndarray
    lineage: Lineage | None


class Grown(NamedTuple):
    """What growth leaves behind, [patient * replicate] on the last axis."""

    tumors: Whole  # days of its lineage count from day 0, the start of treatment
    day: np.ndarray  # [row, tumor] of the course, NaN pads
    cells: np.ndarray  # [row, tumor] -1 pads


def padded(x, missing: int, blank) -> np.ndarray:
    """More entries at the end of the last axis."""
    x = np.asarray(x)
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], constant_values=blank)


def counts_of(block: Tumors) -> np.ndarray:
    """Cells of every type, [origin, type, tumor].

    Raises:
        OverflowError: more cells than float64 counts one by one.
    """
    count = np.asarray(block.count)
    if count.max(initial=0.0) >= MOST_CELLS:
        raise OverflowError(
            f"a class has {count.max():.2g} cells, more than the clones engine counts exactly "
            f"({MOST_CELLS:.2g}); stop tumors earlier (study.stop_at_cells), or crowd them"
        )
    return count


def fetched(blocks: list[Tumors], num: int, rules: Rules) -> Whole:
    """The blocks as one, without their padding."""
    fields = {
        name: np.concatenate([np.asarray(getattr(b, name)) for b in blocks], axis=-1)[..., :num]
        for name in Whole._fields
        if name != "lineage"
    }
    lineage = None
    if rules.has_lineage:
        join = lambda *x: np.concatenate([np.asarray(y) for y in x], axis=-1)[..., :num]  # noqa: E731
        lineage = jax.tree.map(join, *[b.lineage for b in blocks])
    return Whole(**fields, lineage=lineage)


def forked(whole: Whole, num_arms: int) -> Whole:
    """Every arm starts from the same cells on day 0; what arises from now on has a row of its own."""
    tile = lambda x: np.tile(x, (1,) * (x.ndim - 1) + (num_arms,))  # noqa: E731
    count, lineage = whole.count, whole.lineage
    if count.shape[0] == 1:
        count = np.concatenate([count, np.zeros_like(count)])
        if lineage is not None:
            none = np.full_like(lineage.born, np.nan)
            nobody = np.full_like(lineage.parent, -1)
            filled = (none, none, nobody)
            lineage = Lineage(*(np.concatenate(x) for x in zip(lineage, filled, strict=True)))
    if lineage is not None:
        lineage = jax.tree.map(tile, lineage)
    zeros = np.zeros(count.shape[-1] * num_arms)
    return Whole(
        tile(count), tile(whole.extra), tile(whole.status), zeros, zeros, zeros, zeros,
        tile(whole.attempts), lineage,
    )  # fmt: skip
