"""The slow twin: one tumor, event by event, in plain NumPy. Gillespie 1977, 10.1021/j100540a008.

The time to the next event is exponential with the sum of all rates; the event is drawn in proportion
to its rate, its cell uniformly. Nothing is synchronized: crowding follows every single event.

Tables: birth, death [segment, class, site], switching [segment, class, class], migration [site, site]
in 1/day, durations [segment] in days, mutation [class, class] per division (per daughter if both may
mutate), rows from, columns to, diagonals 0; capacity [site] in cells, logistic in the births.
"""

import math
from typing import NamedTuple

import numpy as np


class Tables(NamedTuple):
    """What can happen to a cell; see the module docstring."""

    durations: np.ndarray
    birth: np.ndarray
    death: np.ndarray
    mutation: np.ndarray
    switching: np.ndarray
    migration: np.ndarray
    capacity: np.ndarray
    both_daughters: bool = False
    stop_at: float = math.inf  # cells


class Tumor:
    """A tumor as it grows. A lineage starts with a founder or a mutation, not with a switch."""

    def __init__(self, founders, tables: Tables, rng: np.random.Generator):
        self.tables, self.rng = tables, rng
        self.time, self.births, self.deaths = 0.0, 0, 0
        self.parent: list[int] = []  # [lineage] -1 for founders
        self.birth_time: list[float] = []  # [lineage] days
        self.founded_as: list[int] = []  # [lineage] class of its first cell
        self.places = list(np.ndindex(*np.shape(founders)))  # (class, site)
        # Lineages of the living cells at each place.
        self.cells = {
            p: [self.new_lineage(-1, p[0]) for _ in range(founders[p])] for p in self.places
        }
        self.total = len(self.parent)
        self.mutation = np.asarray(tables.mutation).tolist()
        self.capacity = np.asarray(tables.capacity).tolist()

    @property
    def counts(self) -> np.ndarray:
        """Living cells [class, site]."""
        num_classes, num_sites = self.places[-1][0] + 1, self.places[-1][1] + 1
        return np.array([len(self.cells[p]) for p in self.places]).reshape(num_classes, num_sites)

    def new_lineage(self, mother: int, genotype: int) -> int:
        """Number of a lineage that starts now."""
        self.parent.append(mother)
        self.birth_time.append(self.time)
        self.founded_as.append(genotype)
        return len(self.parent) - 1

    def pick(self, weights: list[float]) -> int:
        """An index, with probability in proportion to its weight."""
        aim, last = self.rng.random() * sum(weights), 0
        for i, weight in enumerate(weights):
            if weight > 0:
                last, aim = i, aim - weight
                if aim < 0:
                    break
        return last

    def table(self, segment: int) -> dict[tuple[int, int], list[float]]:
        """Rates of one cell at each place: birth, death, switch to each class, move to each site."""
        t = self.tables
        rows = {
            (c, s): [t.birth[segment, c, s], t.death[segment, c, s], *t.switching[segment, c]]
            for c, s in self.places
        }
        return {p: [float(x) for x in (*row, *t.migration[p[1]])] for p, row in rows.items()}

    def crowded(self, table: dict[tuple[int, int], list[float]]) -> dict:
        """The same where there are cells, births slowed by the cells that are there now."""
        size = [0] * len(self.capacity)
        for (_, s), here in self.cells.items():
            size[s] += len(here)
        room = [max(0.0, 1 - n / k) for n, k in zip(size, self.capacity, strict=True)]
        living = (p for p in self.places if self.cells[p])
        return {p: [table[p][0] * room[p[1]], *table[p][1:]] for p in living}

    def divide(self, c: int, s: int, lineage: int) -> None:
        """Put two daughters in place of the mother, who has been taken out."""
        self.births, self.total = self.births + 1, self.total + 1
        for may_mutate in (True, self.tables.both_daughters):
            to = self.mutation[c]
            kind = self.pick([*to, 1 - sum(to)]) if may_mutate else len(to)
            if kind == len(to):
                self.cells[c, s].append(lineage)
            else:
                self.cells[kind, s].append(self.new_lineage(lineage, kind))

    def happen(self, c: int, s: int, rates: list[float]) -> None:
        """One event of a uniformly chosen cell of class c at site s."""
        here = self.cells[c, s]
        index = int(self.rng.random() * len(here))
        here[index], here[-1] = here[-1], here[index]
        lineage = here.pop()
        event, num_classes = self.pick(rates), len(self.mutation)
        if event == 0:
            self.divide(c, s, lineage)
        elif event == 1:
            self.deaths, self.total = self.deaths + 1, self.total - 1
        elif event < 2 + num_classes:
            self.cells[event - 2, s].append(lineage)
        else:
            self.cells[c, event - 2 - num_classes].append(lineage)

    def grow(self) -> None:
        """To the end of the last segment, to extinction or to `stop_at` cells."""
        end = 0.0
        for segment, duration in enumerate(self.tables.durations):
            end += duration
            table = self.table(segment)
            while 0 < self.total < self.tables.stop_at:
                rates = self.crowded(table)
                weights = [len(self.cells[p]) * sum(rate) for p, rate in rates.items()]
                wait = self.rng.exponential() / sum(weights) if sum(weights) else math.inf
                if self.time + wait >= end:
                    self.time = end
                    break
                self.time += wait
                self.happen(*(chosen := list(rates)[self.pick(weights)]), rates[chosen])


def simulate(founders, tables: Tables, rng: np.random.Generator) -> Tumor:
    """One tumor from founders [class, site], to its end."""
    tumor = Tumor(np.asarray(founders), tables, rng)
    tumor.grow()
    return tumor


def kernel(scenario, num_replicates: int, seed: int) -> np.ndarray:
    """The twin with the interface of `tests.battery`: counts [replicate, class, site]."""
    named = {name: getattr(scenario, name) for name in Tables._fields}
    named["stop_at"] = named["stop_at"] or math.inf
    rngs = [np.random.default_rng([seed, i]) for i in range(num_replicates)]
    return np.stack([simulate(scenario.founders, Tables(**named), rng).counts for rng in rngs])
