"""Follow: all combinations, lines and replicates of a screen in one call of an engine.

With cell lines, a first call grows the tumor that they are taken from. The replicates of a combination
are independent; those of one index share their tumor and their random numbers over all combinations, so
that differences between combinations have less noise than each of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxevo.engines.base import Founder, Problem, Trajectory
from jaxevo.engines.sampled import samples
from jaxevo.engines.tumors import INTERRUPTED
from jaxevo.screen.design import ScreenPlan, combinations, exposed, grown

Simulate = Callable[[Problem], Trajectory]


class Screened(NamedTuple):
    """What the cells of a screen came to."""

    level: Float[np.ndarray, "combination agent"]  # uM
    cells: Int[np.ndarray, "combination line replicate"]  # living at the end
    start: Int[np.ndarray, "line replicate"]  # living on day 0


def follow(problem: Problem, plan: ScreenPlan, simulate: Simulate) -> Screened | None:
    """Expose every line to every combination; None where the user has stopped it.

    Args:
        problem: of the study; its arms are not read.
        plan: of the screen.
        simulate: the `clones` engine.

    Raises:
        Refused: the engine cannot represent the model.
        ValueError: the lines would take more than half of the tumor.
        GrowthError: the tumor does not grow to the size that is asked for.
    """
    founders: tuple[tuple[Founder, ...], ...] = ()
    if plan.lines is not None:
        tumor = simulate(grown(problem, plan))
        if _is_cut_short(tumor):
            return None
        founders = lines_of(tumor, plan, problem.seed)
    found = simulate(exposed(problem, plan, founders))
    if _is_cut_short(found):
        return None
    burden = found[""]["burden"].data  # [arm, patient, replicate, time]
    start = found[""]["trigger_cells"].data.reshape(burden.shape[1:3])
    return Screened(combinations(plan), burden[..., -1], start)


def lines_of(tumor: Trajectory, plan: ScreenPlan, seed: int) -> tuple[tuple[Founder, ...], ...]:
    """The founders of every line: cells of the tumor, none of them in two lines."""
    if plan.lines is None:
        raise ValueError("the screen has no lines")
    state = {name: variable.data for name, variable in tumor["state"].items()}
    kinds, place = np.unique(
        np.stack(
            [state["genotype"].astype(np.int64), state["site_index"].astype(np.int64)], axis=1
        ),
        axis=0,
        return_inverse=True,
    )
    cells = np.bincount(place.ravel(), state["cells"], len(kinds)).astype(np.int64)
    taken = samples(seed, cells, plan.lines.count, plan.lines.cells)
    return tuple(
        tuple(
            Founder(int(count), int(genotype), int(site))
            for (genotype, site), count in zip(kinds, row, strict=True)
            if count
        )
        for row in taken
    )


def _is_cut_short(found: Trajectory) -> bool:
    return bool((found[""]["status"].data == INTERRUPTED).any())
