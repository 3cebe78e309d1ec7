"""Arms that decide, for tests: rules that answer what a test wrote down, or what they saw."""

import jax.numpy as jnp
import numpy as np

from jaxevo.engines.base import Arm, Line, Problem, Rule


def _by_visit(table, state, seen):
    """The row of the visit; the last one holds on."""
    return state, table[jnp.minimum(seen.visit, len(table) - 1)]


def written(answers) -> Rule:
    """A rule that answers a row of [visit, line or drug] at every visit, whatever it sees."""
    return Rule("written", _by_visit, (), np.asarray(answers, float))


def _echo_scans(_, state, seen):
    last = jnp.where(jnp.isnan(seen.last_scan), 0.0, seen.last_scan)
    return state, jnp.stack([seen.burden, last, seen.is_scan.astype(last.dtype), seen.day])


def _echo_fractions(_, state, seen):
    return state, seen.fractions


def _echo_composition(_, state, seen):
    return state, seen.composition


def _echo_count(_, state, seen):
    return state, seen.neutrophils[None]


ECHOES = {"scans": _echo_scans, "fractions": _echo_fractions, "composition": _echo_composition,
          "neutrophils": _echo_count}  # fmt: skip


def echo(what: str, num: int, **fields) -> Arm:
    """An arm whose lines have no doses, so that `line_share` says what the rule has seen."""
    lines = tuple(Line(f"{what} {i}") for i in range(num))
    return Arm(f"echo of {what}", (), lines=lines, policy=Rule(what, ECHOES[what]), **fields)


def always(arm: Arm, name: str = "decided") -> Arm:
    """The same arm with its doses as the only line of a policy that always answers 1."""
    line = Line("line", arm.doses, arm.levels)
    return Arm(name, (), (), arm.jumps, (line,), written([[1.0]]))


def of(trajectory, name: str) -> np.ndarray:
    """An array of a trajectory by its name."""
    return trajectory[""][name].data


def with_arms(problem: Problem, *arms: Arm) -> Problem:
    """The same problem with other arms."""
    return problem._replace(arms=arms)
