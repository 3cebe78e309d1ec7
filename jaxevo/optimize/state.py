"""State: how a search is told to go, where it stands, and what it finds; states on disk."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

DESCENT, POLISH, DONE = 0, 1, 2  # stages
SAME = 1e-9  # relative: goals of one search in two processes


class Settings(NamedTuple):
    """How long, how fine."""

    descent_steps: int = 50
    rate: float = 0.08  # of Adam, share of the box per step
    tolerance: float = 1e-5  # projected slope of L, relative to max(1, |goal|)
    curved_tolerance: float = 1e-4  # the same where limits are curved, so that rounding hides more
    violation: float = 1e-7  # of a limit, in units of its bound
    chunk: int = 25  # steps between two looks, multipliers and savings
    polish_chunks: int = 40  # at most, of one round
    leaps: int = 3  # rounds at most


class State(NamedTuple):
    """Everything that goes on from one chunk to the next; leading axis start."""

    unit: Float[np.ndarray, "start variable"]
    anchor: Float[np.ndarray, " variable"]  # keeps all limits, if anything does
    good: Float[np.ndarray, "start variable"]  # where the goal had a value, on the descent
    multiplier: Float[np.ndarray, "start row"]
    penalty: Float[np.ndarray, " start"]
    adam: Any
    moved: Float[np.ndarray, "start pair variable"]  # the last pairs of L-BFGS, zeros before them
    change: Float[np.ndarray, "start pair variable"]
    pairs: Int[np.ndarray, " start"]  # how many there are
    slope: Float[np.ndarray, " start"]  # projected
    is_there: Bool[np.ndarray, " start"]  # or stuck where no step goes down any more
    origin: Float[np.ndarray, "start variable"]  # where the search began
    origin_value: Float[np.ndarray, " start"]  # the goal within the limits there, infinite for none
    best: Float[np.ndarray, " variable"]
    best_value: Float[np.ndarray, ""]  # infinite until something is feasible
    best_multiplier: Float[np.ndarray, " row"]
    best_slope: Float[np.ndarray, ""]
    stage: Int[np.ndarray, ""]
    count: Int[np.ndarray, ""]  # chunks of this stage
    leap: Int[np.ndarray, ""]  # rounds of leaps


HISTORY = (
    "stage",
    "best_value",
    "median_value",
    "worst_violation",
    "largest_slope",
    "num_converged",
)


class Progress(NamedTuple):
    """Where a search stands."""

    stage: str
    chunk: int
    best: float  # goal of the best feasible schedule so far, infinite for none
    converged: int  # of the starts


class Found(NamedTuple):
    """What a search has found; amounts in the order of the arm."""

    amounts: Float[np.ndarray, " entry"]
    variables: Float[np.ndarray, " variable"]
    value: float  # of the goal
    slack: dict[str, np.ndarray]  # -g of every limit, share of its bound; negative is a violation
    multiplier: dict[str, np.ndarray]  # change of the goal per relative tightening of the bound
    is_feasible: bool  # every limit holds
    is_converged: bool
    gradient_norm: float  # largest entry of the projected slope, goal per width of the box
    history: dict[str, np.ndarray]  # [chunk]
    starts: dict[str, np.ndarray]  # [start] value, is_feasible, is_converged; variables of each


# --- states on disk --------------------------------------------------------------------------------


def save(path: Path, state: State, history: np.ndarray) -> None:
    """All leaves, whole or not at all."""
    part = path.with_suffix(".tmp")
    with part.open("wb") as file:
        np.savez(file, *map(np.asarray, jax.tree.leaves(state)), history=history)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def loaded(path: Path, like: State) -> tuple[State, np.ndarray]:
    """A state that was saved, and the history; `like` is a fresh state of the same search."""
    leaves, tree = jax.tree.flatten(like)
    with np.load(path) as file:
        history = file["history"]
        found = [file[f"arr_{k}"] for k in range(len(file.files) - 1)]
    is_same = [a.shape for a in found] == [np.shape(b) for b in leaves]
    state = jax.tree.unflatten(tree, found)
    for name in ("anchor", "origin", "origin_value"):
        is_same = is_same and np.allclose(getattr(state, name), getattr(like, name), rtol=SAME)
    if not is_same:
        raise ValueError(
            f"{path} holds the state of another search; remove it, or name another file"
        )
    return state, history
