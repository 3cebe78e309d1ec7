"""What random models are made of: shapes, settings and tables (see `tests.agreement`)."""

import itertools
from typing import NamedTuple

import numpy as np

from jaxevo.engines.base import Founder, Immigration, Jump


class Shape(NamedTuple):
    """What is static in a batch."""

    name: str
    sites: tuple[str, ...]
    num_drugs: int
    alterations: tuple[tuple[str, str, int], ...]  # name, inheritance, highest level
    is_both: bool = False
    is_custom: bool = False
    has_jump: bool = False
    has_immigration: bool = False
    max_alterations: int | None = None
    start: int = 0  # packed genotype of the founders of a model of stations

    @property
    def levels(self) -> list[tuple[int, ...]]:
        """Levels of all genotypes, in packed order: the first alteration moves fastest."""
        tops = [top for _, _, top in self.alterations]
        return [g[::-1] for g in itertools.product(*(range(n + 1) for n in tops[::-1]))]

    @property
    def drugs(self) -> tuple[str, ...]:
        """Names."""
        return tuple("xyz"[: self.num_drugs])


class Tables(NamedTuple):
    """One model on all genotypes, from, to; the twin's own reading of it."""

    birth: np.ndarray  # [segment, class, site] 1/day
    death: np.ndarray  # [segment, class, site] 1/day
    mutation: np.ndarray  # [segment, site, class, class] per division
    asymmetric: np.ndarray  # [segment, site, class, class] per division
    symmetric: np.ndarray  # [segment, site, class, class] per division
    switching: np.ndarray  # [segment, site, class, class] 1/day
    moving: np.ndarray  # [class, site, site] 1/day
    radiosurvival: np.ndarray  # [class] of the batch's fraction


class Setting(NamedTuple):
    """What the models of a batch have in common besides their shape."""

    edges: np.ndarray  # [segment + 1] days
    level: np.ndarray  # [segment, drug] uM
    founders: tuple[Founder, ...]
    jumps: tuple[Jump, ...]
    immigration: tuple[Immigration, ...]
