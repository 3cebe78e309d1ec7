"""Event by event, many tumors at once, in plain NumPy: the tables of a `Twin` taken literally.

Gillespie 1977, 10.1021/j100540a008: the time to a tumor's next event is exponential with the sum of all
rates, the event is drawn in proportion to its rate. Nothing is held over a step, so that crowding, which
no closed form knows, follows every event. `tests.reference` does the same for one tumor with its cells
and lineages; this one knows hierarchy, jumps and immigration, counts only, and is a hundred times faster.
"""

from collections.abc import Callable

import numpy as np

from tests.twins import Twin

Factor = Callable[[np.ndarray], np.ndarray]  # counts [tumor, type] -> times births [tumor, type]


def simulate(
    twin: Twin, model: int, num: int, seed: int, factor: Factor | None = None
) -> np.ndarray:
    """Cells of every type at the end of one model, [tumor, type]."""
    rng = np.random.default_rng([seed, model])
    counts = np.tile(twin.founders[model], (num, 1)).astype(np.int64)
    for segment, length in enumerate(twin.duration[model]):
        counts = rng.binomial(counts, twin.kept[model, segment])
        if length > 0:
            _run(twin, model, segment, counts, float(length), rng, factor)
    return counts


def _run(twin: Twin, model: int, segment: int, counts, length: float, rng, factor) -> None:
    """One segment of constant rates, in place."""
    at = (model, segment)
    birth, death, conversion = twin.birth[at], twin.death[at], twin.conversion[at]
    num_types = len(birth)
    pairs = np.cumsum(twin.daughters[at].reshape(num_types, -1), axis=1)
    moves = np.cumsum(conversion, axis=1)
    leaving = moves[:, -1]
    arriving = twin.immigration[model]
    alive, left = np.arange(len(counts)), np.full(len(counts), length)
    while len(alive):
        here = counts[alive]
        births = birth * here * (1.0 if factor is None else factor(here))
        rates = np.concatenate([births, death * here, leaving * here], axis=1)
        upto = np.cumsum(rates, axis=1)
        total = upto[:, -1] + arriving
        with np.errstate(divide="ignore"):
            left = left - rng.exponential(size=len(alive)) / total
        going = left > 0
        alive, left, upto, total = alive[going], left[going], upto[going], total[going]
        aim = rng.random(len(alive)) * total
        event = np.sum(upto <= aim[:, None], axis=1)
        kind, source = np.divmod(event, num_types)
        dice = rng.random(len(alive))
        change = np.zeros((len(alive), num_types), np.int64)
        row = np.arange(len(alive))
        change[row, source] -= kind < 3
        chosen = np.flatnonzero(kind == 0)
        two = np.sum(
            pairs[source[chosen]] <= dice[chosen, None] * pairs[source[chosen], -1:], axis=1
        )
        for daughter in np.divmod(np.minimum(two, num_types**2 - 1), num_types):
            np.add.at(change, (chosen, daughter), 1)
        chosen = np.flatnonzero(kind == 2)
        to = np.sum(
            moves[source[chosen]] <= dice[chosen, None] * leaving[source[chosen], None], axis=1
        )
        np.add.at(change, (chosen, np.minimum(to, num_types - 1)), 1)
        change[kind == 3, twin.immigrant[model]] += int(twin.batch[model])
        counts[alive] += change
