"""Steered: the mean course of an arm whose doses are decided along it, for `meanfield`.

Rules see the expected tumor at every visit, without noise. Where rates and decisions follow the mean
alone there is no spread to report: deviations are unknown (NaN).
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines import flow, marrow, visits
from jaxevo.engines.base import Problem, Refused
from jaxevo.engines.flow import Moments
from jaxevo.engines.grid import Marks
from jaxevo.engines.network import Network
from jaxevo.engines.pool import Pool
from jaxevo.engines.process import Process
from jaxevo.engines.regimen import plan_of
from jaxevo.engines.watched import Watched


class Steered(NamedTuple):
    """Expected counts of every patient at all marks, and what was decided."""

    count: np.ndarray  # [patient, mark, type]
    extra: np.ndarray  # [patient, mark, variable]
    watched: Watched


@jax.jit
def _through(process: Process, count, extra):
    """Through one window: counts and extra variables at its edges."""
    along = jax.vmap(flow.course)(process, count, extra)
    return along.count, along.extra


def steered(
    problem: Problem, arm: int, when: Marks, patients: range, net: Network, starts: list[Moments],
    should_stop: Callable[[], bool] = lambda: False,
) -> Steered:  # fmt: skip
    """One arm that decides; call under x64. Counts after the user has stopped the study are NaN.

    Raises:
        Refused: scans are noisy, or what `regimen.plan_of` refuses.
    """
    if problem.visits is not None and problem.visits.noise_cv > 0:
        raise Refused(
            "meanfield has no dice, and scans are noisy; choose noise_cv = 0, or the clones engine"
        )
    single = problem._replace(arms=(problem.arms[arm],))
    plan = plan_of(single, 0, when, patients, net, in_steps=False)
    tables, people = jax.tree.map(jnp.asarray, (plan.tables, plan.people))
    num = len(patients)
    place = jnp.arange(num, dtype=jnp.int32)
    nothing = jnp.zeros(num, jnp.uint32)
    who = (place, (nothing, nothing))
    pool = Pool(plan, np.arange(num))
    care = visits.begin(single.arms[0], plan, num, np.arange(num))
    count = jnp.stack([start.count for start in starts])
    extra = jnp.stack([start.extra for start in starts])
    watched = Watched.empty(problem, num, when)
    everyone = slice(0, num)
    parts = [(count[:, None], extra[:, None])]
    for window in range(plan.num_windows):
        if should_stop():
            break
        see(watched, problem, net, count, window)
        care, site, row = visits.visit(
            plan.rules, tables, people, care, count.T, who, jnp.int32(window)
        )
        visits.refuse_wrong(single.arms[0], row, num)
        watched.write(everyone, plan, window, care, row)
        process = with_still(pool.process(window, site, np.ones(num, bool)), problem.still_below)
        along = _through(process, count, extra)
        count, extra = (x[:, -1] for x in along)
        parts.append(tuple(x[:, 1:] for x in along))
    missing = 1 + plan.num_windows - len(parts)
    unknown = lambda x: jnp.full((num, plan.num_intervals, x.shape[1]), jnp.nan)  # noqa: E731
    parts += [(unknown(count), unknown(extra))] * missing
    if missing == 0 and int(when.is_visit.sum()) > plan.num_windows:
        see(watched, problem, net, count, plan.num_windows)

    def at_marks(i: int) -> np.ndarray:
        return np.concatenate([np.asarray(part[i]) for part in parts], axis=1)[:, plan.of_mark]

    return Steered(at_marks(0), at_marks(1), watched)


def with_still(process: Process, cells: float) -> Process:
    """The laws with types that stand still below so many cells; 0 for none."""
    if cells == 0:
        return process
    level = jnp.full(len(process.duration), cells)
    return eqx.tree_at(lambda p: p.still_below, process, level, is_leaf=lambda x: x is None)


def see(watched: Watched, problem: Problem, net: Network, count, number: int) -> None:
    """Write down the scan of a visit; `count` is [patient, type]."""
    seen_at = problem.visits
    if seen_at is None or number % seen_at.scan_every:
        return
    cells = np.asarray(count)[:, : net.num_inside].sum(axis=1)
    watched.burden[:, number] = np.where(cells >= seen_at.detection_cells, cells, 0.0)


def in_advance(
    problem: Problem, arm: int, when: Marks, net: Network, patients: range, count: np.ndarray
) -> Watched:
    """What is observed of an arm that does not decide; `count` is [patient, visit, type]."""
    found = marrow.in_advance(problem, arm, when, patients, net)
    for number in range(count.shape[1]):
        see(found, problem, net, count[:, number], number)
    return found
