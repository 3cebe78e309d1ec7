"""A patient as a rule sees one, in place of `engines.visits.Seen`: only what a test gives is there."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines.base import Rule
from jaxevo.model import cast
from tests import builders

ALWAYS = ("day", "visit", "share", "factor", "given_mg")


class NotObservedError(AttributeError):
    """What the rule read is not observed."""


class Watched:
    """What is known at one visit; reading anything else raises."""

    def __init__(self, **known):
        assert set(ALWAYS) <= known.keys()
        self.__dict__.update(known)

    def __getattr__(self, name: str):
        raise NotObservedError(f"{name} is not observed")


def answers(
    rule: Rule, *, lines: int = 1, drugs: int = 1, safety: bool = False, genotypes=(), **observed
) -> tuple:
    """What a rule says at every visit, and its state after it: ([visit, line or drug], states).

    `observed`: name -> [visit, ...].
    """
    dtype = builders.real()
    known = {name: np.asarray(values) for name, values in observed.items()}
    known = {n: v.astype(bool if v.dtype == bool else dtype) for n, v in known.items()}
    visit = np.arange(len(next(iter(known.values()))), dtype=np.int32)
    own = (cast(rule.params, dtype), cast(rule.start, dtype))
    found = visited(rule.decide, lines, drugs, safety, tuple(genotypes), *own, visit, known)
    return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnums=range(5))
def visited(decide, lines, drugs, safety, genotypes, params, start, visit, known):
    """All visits of one tumor, one after another."""
    dtype = builders.real()
    fixed = {"given_mg": jnp.zeros(drugs, dtype)}
    fixed |= {"genotypes": np.array(genotypes)} if genotypes else {}

    def at_visit(carried, now):
        (state, share, factor), (visit, observed) = carried, now
        given = {"day": visit.astype(dtype), "visit": visit, "share": share, "factor": factor}
        state, answer = decide(params, state, Watched(**fixed, **given, **observed))
        carried = (state, share, answer) if safety else (state, answer, factor)
        return carried, (answer, state)

    begin = (jax.tree.map(jnp.asarray, start), jnp.zeros(lines, dtype), jnp.ones(drugs, dtype))
    return jax.lax.scan(at_visit, begin, (visit, known))[1]


def scans(burden, every: int = 1) -> dict[str, np.ndarray]:
    """What scans of a burden [visit] show, every so many visits: the latest, and the one before."""
    visit = np.arange(len(burden))
    latest, before = visit // every * every, visit // every * every - every
    burden = np.asarray(burden, float)
    last = np.where(before < 0, np.nan, burden[np.maximum(before, 0)])
    return {"burden": burden[latest], "is_scan": visit % every == 0, "last_scan": last}


def shares(rule: Rule, burden, *, every: int = 1, lines: int = 1) -> np.ndarray:
    """[visit, line] what a rule gives by the burden alone."""
    return answers(rule, lines=lines, **scans(burden, every))[0]


def line_of(given: np.ndarray) -> list[int]:
    """Which line is given at every visit; one is, in full."""
    np.testing.assert_array_equal(np.sort(given)[:, :-1], 0)
    np.testing.assert_array_equal(given.max(axis=1), 1)
    return given.argmax(axis=1).tolist()


def refused(make: Callable[..., Rule], **parameters) -> str:
    """The sentence with which numbers are refused."""
    try:
        make(**parameters)
    except ValueError as error:
        return str(error)
    return "accepted"
