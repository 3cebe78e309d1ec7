"""Sampled: cells that are taken out of a tumor, none of them twice.

The cells of a tumor are numbered from 0 to M - 1, kind by kind. The words of a seed name cells one after
the other, and a cell that was named before is passed over: what is left, in the order in which it was
named, is a uniform sample without replacement. The first samples do not depend on how many there are.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxevo.engines.sampling import threefry

PURPOSE = 0x5AB01ED  # of these words, among all that a seed gives
MOST_SHARE = 0.5  # of a tumor; beyond it most words would name cells that are taken already


def samples(
    seed: int, cells: Int[np.ndarray, " kind"], number: int, size: int
) -> Int[np.ndarray, "sample kind"]:
    """Cells of each kind in each of `number` samples of `size` cells, taken one after the other.

    Args:
        seed: of the study.
        cells: living cells of each kind.
        number: of samples.
        size: of a sample.

    Raises:
        ValueError: more than half of the cells are to be taken.
    """
    total, needed = int(cells.sum()), number * size
    if needed > MOST_SHARE * total:
        raise ValueError(
            f"{needed} of {total} cells are to be taken; expected at most half of them"
        )
    named, asked = np.zeros(0, np.int64), 0
    while len(named) < needed:
        more = 2 * (needed - len(named))
        drawn = np.concatenate([named, _named(seed, asked, more, total)])
        named = drawn[np.sort(np.unique(drawn, return_index=True)[1])][:needed]
        asked += more
    kind = np.searchsorted(np.cumsum(cells), named, side="right")
    found = np.zeros((number, len(cells)), np.int64)
    np.add.at(found, (np.repeat(np.arange(number), size), kind), 1)
    return found


def _named(seed: int, first: int, number: int, total: int) -> Int[np.ndarray, " word"]:
    """Words `first` and on as numbers of cells; none is likelier than another by more than M / 2^63."""
    index = np.arange(first, first + number, dtype=np.uint64)
    counter = (index & np.uint64(0xFFFFFFFF), index >> np.uint64(32))
    key = (jnp.uint32(seed & 0xFFFFFFFF), jnp.uint32((seed >> 32) ^ PURPOSE))
    words = threefry(key, tuple(jnp.asarray(x.astype(np.uint32)) for x in counter))  # type: ignore[arg-type]
    high, low = (np.asarray(x).astype(np.uint64) for x in words)
    return ((high << np.uint64(31)) | (low >> np.uint64(1))).astype(np.int64) % total
