"""What an engine takes and gives: a `Problem` in, a `Trajectory` out, both plain data."""

from typing import NamedTuple

import numpy as np

from jaxevo.drug.schedule import Dose, Level
from jaxevo.model import Model


class Founder(NamedTuple):
    """`count` cells of one packed genotype at one site."""

    count: int
    genotype: int
    site: int


class Arm(NamedTuple):
    """One treatment: what is given from day 0 on."""

    name: str
    doses: tuple[Dose, ...]
    levels: tuple[Level, ...] = ()


class Record(NamedTuple):
    """What is written down, and how often (days; None for never)."""

    every: float = 1.0  # burden, sites and classes
    clones_every: float | None = None  # sizes of the largest clones
    snapshot_days: tuple[float, ...] = ()  # every cell, one by one
    concentration_every: float = 1 / 24
    max_classes: int = 64  # tracked one by one; the others are summed
    max_clones: int = 50


class Problem(NamedTuple):
    """One study, ready for an engine. Replicate i depends on the seed and i, not on `replicates`."""

    model: Model
    founders: tuple[Founder, ...]
    arms: tuple[Arm, ...]
    seed: int
    replicates: int
    horizon: float  # days after the start of treatment
    sync: float  # days between syncs at most
    max_cells: int  # room per tumor
    treat_at_cells: int | None = None  # day 0 is when the tumor has this many cells
    stop_at_cells: int | None = None  # a tumor that reaches this is not followed further
    record: Record = Record()


class Variable(NamedTuple):
    """One array of a trajectory with the names of its axes and its unit."""

    dims: tuple[str, ...]
    data: np.ndarray
    units: str
    long_name: str


Trajectory = dict[str, dict[str, Variable]]
"""Group name ("" for the root, "lineage", "cells") -> variable name -> Variable."""
