"""Deterministic answers from a problem: states on given days, and the day of an event."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines import meanfield
from jaxevo.engines.base import Problem, Record
from jaxevo.engines.grid import marks
from jaxevo.engines.process import Process, planned, problem_network

on_days = jax.jit(
    lambda law, start, days: meanfield.on_days(law, meanfield.course(law, start), days)
)
first_day = jax.jit(meanfield.first_day, static_argnums=3)
Excess = Callable[[jax.Array, jax.Array], jax.Array]


def laws(problem: Problem) -> Process:
    """The laws of all arms, stacked; call under x64. Syncs do not matter to a deterministic course."""
    whole = problem._replace(sync=problem.horizon, record=Record(every=problem.horizon))
    return planned(whole, marks(whole.record, whole.horizon), cut_at_doses=True)[1]


def law(problem: Problem, arm: int = 0) -> Process:
    """The law of one arm."""
    return jax.tree.map(lambda x: x[arm], laws(problem))


def start(problem: Problem) -> np.ndarray:
    """[type] the founders."""
    net = problem_network(problem)
    count = np.zeros(net.num_types)
    for founder in problem.founders:
        count[net.type_of(founder.genotype, founder.site)] += founder.count
    return count


def states(
    problem: Problem, days: Sequence[float], arm: int = 0, count0: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Counts [day, type] and extra variables [day, variable] of the deterministic course."""
    with jax.enable_x64(True):
        count0 = start(problem) if count0 is None else np.asarray(count0, float)
        found = on_days(law(problem, arm), jnp.asarray(count0), jnp.asarray(days, float))
        return np.asarray(found.count), np.asarray(found.extra)


def day_of(
    problem: Problem, excess: Excess, arm: int = 0, count0: np.ndarray | None = None
) -> float:
    """First day on which `excess(count, extra)` is not negative; infinite if never.

    `excess` is part of the compiled code: pass the same function to compile once.
    """
    with jax.enable_x64(True):
        count0 = start(problem) if count0 is None else np.asarray(count0, float)
        return float(first_day(law(problem, arm), jnp.asarray(count0), None, excess).day)
