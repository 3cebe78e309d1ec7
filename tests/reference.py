"""The slow twin: one tumor, event by event, in plain NumPy. Gillespie 1977, 10.1021/j100540a008.

The time to the next event is exponential with the sum of all rates; the event is drawn in proportion
to its rate, its cell uniformly. Nothing is synchronized: crowding follows every single event.

A case is a `tests.battery.Scenario`, or anything with its fields: tables, rows from, columns to.
"""

import math

import numpy as np


class Tumor:
    """A tumor as it grows. A lineage starts with a founder, an arrival or a mutation."""

    def __init__(self, case, rng: np.random.Generator):
        self.case, self.rng = case, rng
        self.time, self.births, self.deaths = 0.0, 0, 0
        self.parent: list[int] = []  # [lineage] -1 for founders and arrivals
        self.birth_time: list[float] = []  # [lineage] days
        self.founded_as: list[int] = []  # [lineage] class of its first cell
        founders = np.ndenumerate(case.founders)
        # Lineages of the living cells at each place (class, site).
        self.cells = {p: [self.new_lineage(-1, p[0]) for _ in range(n)] for p, n in founders}
        self.places = list(self.cells)
        self.total = len(self.parent)
        changes = (case.mutation, case.asymmetric, case.symmetric)
        self.mutation, self.asymmetric, self.symmetric = (x.tolist() for x in changes)

    @property
    def counts(self) -> np.ndarray:
        """Living cells [class, site]."""
        return np.array([*map(len, self.cells.values())]).reshape(self.case.founders.shape)

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

    def rates(self, segment: int) -> dict[tuple[int, int], list[float]]:
        """Of a cell at each place: birth, death, switch to each class, move to each site."""
        t, k = self.case, segment
        row = lambda c, s: (t.birth[k, c, s], t.death[k, c, s], *t.switching[k, c], *t.migration[s])  # noqa: E731
        return {p: [float(rate) for rate in row(*p)] for p in self.places}

    def crowded(self, rates: dict[tuple[int, int], list[float]]) -> dict:
        """The same where there are cells, births slowed by the cells that are there now."""
        size = [0] * len(self.case.capacity)
        for (_, s), here in self.cells.items():
            size[s] += len(here)
        full = [n / k for n, k in zip(size, self.case.capacity.tolist(), strict=True)]
        room = [max(0.0, 1 - share) for share in full]
        return {p: [r[0] * room[p[1]], *r[1:]] for p, r in rates.items() if self.cells[p]}

    def divide(self, c: int, s: int, lineage: int) -> None:
        """Put two daughters in place of the mother, who has been taken out."""
        self.births, self.total = self.births + 1, self.total + 1
        to, one, two = self.mutation[c], self.asymmetric[c], self.symmetric[c]
        renews = 1 - sum(one) - sum(two)
        change = self.pick([*one, *two, renews])
        if change < 2 * len(to):  # it differentiates
            changed = change % len(to)
            self.cells[changed, s].append(lineage)
            self.cells[c if change < len(to) else changed, s].append(lineage)
            return
        for may_mutate in (True, self.case.both_daughters):
            none = (1 if self.case.both_daughters else renews) - sum(to)
            kind = self.pick([*to, none]) if may_mutate else len(to)
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

    def arrive(self, place: tuple[int, int]) -> None:
        """A batch from outside, one lineage."""
        cells = int(self.case.batch[place])
        self.cells[place] += [self.new_lineage(-1, place[0])] * cells
        self.total += cells

    def jump(self, kept: np.ndarray) -> None:
        """Each cell survives with the probability of its place."""
        for p in self.places:
            if kept[p] < 1:
                self.cells[p] = [x for x in self.cells[p] if self.rng.random() < kept[p]]
        left = sum(map(len, self.cells.values()))
        self.deaths, self.total = self.deaths + self.total - left, left

    def grow(self) -> None:
        """To the end of the last segment, to extinction or to `stop_at` cells."""
        end, stop_at = 0.0, self.case.stop_at or math.inf
        for segment, duration in enumerate(self.case.durations):
            self.jump(self.case.kept[segment])
            table, arrivals = self.rates(segment), self.case.arrivals[segment].ravel().tolist()
            start, end = end, end + duration
            while (self.total or any(arrivals)) and self.total < stop_at:
                self.time = max(self.time, start)
                rates = self.crowded(table)
                weights = [len(self.cells[p]) * sum(r) for p, r in rates.items()] + arrivals
                wait = self.rng.exponential() / sum(weights) if sum(weights) else math.inf
                if self.time + wait >= end:
                    self.time = end
                    break
                self.time += wait
                if (chosen := self.pick(weights)) < len(rates):
                    self.happen(*(p := list(rates)[chosen]), rates[p])
                else:
                    self.arrive(self.places[chosen - len(rates)])


def simulate(case, rng: np.random.Generator) -> Tumor:
    """One tumor from its founders to its end."""
    tumor = Tumor(case, rng)
    tumor.grow()
    return tumor


def kernel(case, num_replicates: int, seed: int) -> np.ndarray:
    """The twin with the interface of `tests.battery`: counts [replicate, class, site]."""
    rngs = [np.random.default_rng([seed, i]) for i in range(num_replicates)]
    return np.stack([simulate(case, rng).counts for rng in rngs])
