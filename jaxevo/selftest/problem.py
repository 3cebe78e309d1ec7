"""Branching processes as problems for any engine, and their one-type law in closed form."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines import cells, clones, extinction, meanfield
from jaxevo.engines.base import Arm, Founder, Immigration, Jump, Problem, Record
from jaxevo.selftest.case import Finding, between, chernoff
from jaxevo.state import Rates

SEED = 20250301


class Kendall(NamedTuple):
    """Descendants of one cell: P(0) = alpha, P(n) = (1 - alpha)(1 - beta) beta^(n - 1)."""

    alpha: float
    beta: float
    mean: float  # (1 - alpha)/(1 - beta)
    survival: float  # 1 - alpha, without cancellation

    @property
    def deviation(self) -> float:
        """Standard deviation of n."""
        return math.sqrt(self.mean * (self.alpha + self.beta) / (1 - self.beta))

    def psi(self, theta: np.ndarray) -> np.ndarray:
        """ln E[e^(theta n)]; infinite from theta = -ln beta on."""
        s = np.exp(theta)
        rest = 1 - self.beta * s
        grown = (1 - self.alpha) * (1 - self.beta) * s / np.where(rest > 0, rest, 1.0)
        return np.where(rest > 0, np.log(self.alpha + grown), np.inf)


def kendall(
    durations: Sequence[float | int], birth: Sequence[float], death: Sequence[float]
) -> Kendall:
    """The law of one birth-death cell at rates that are constant in each segment.

    rho(t) = int (d - b), I = int e^rho d, J = int e^rho b, alpha = I/(1 + I), beta = J/(1 + I).
    Kendall 1948, doi:10.1214/aoms/1177730285.
    """
    rho = dead = born = 0.0
    for h, b, d in zip(durations, birth, death, strict=True):
        weight = math.exp(rho) * (math.expm1((d - b) * h) / (d - b) if d != b else h)
        dead, born, rho = dead + d * weight, born + b * weight, rho + (d - b) * h
    return Kendall(dead / (1 + dead), born / (1 + dead), math.exp(-rho), 1 / (1 + dead))


def total(quantity: str, law: Kendall, founders: int, burden: np.ndarray) -> Finding:
    """The mean number of descendants of `founders` cells over independent replicates."""
    num = founders * burden.size
    low, high = chernoff(law.psi, num, law.deviation, -math.log(law.beta))
    limits = low * founders, high * founders
    return between(quantity, founders * law.mean, burden.mean(dtype=float), limits)


def _tabulated(params, levels, environment) -> Rates:
    """Rates by class (the level) and segment (the level of the drug that stands for it)."""
    row = jnp.rint(levels[0]).astype(int)
    now = jnp.rint(environment.concentration[0]).astype(int)
    return Rates(
        birth_rate=params["birth"][now, row],
        death_rate=params["death"][now, row],
        mutation_probability=params["mutation"][row],
        switching_rate=params["switching"][now, row],
    )


def branching(
    founders: Sequence[int],
    durations: Sequence[float | int],
    birth,
    death,
    mutation=(),
    switching=(),
    *,
    both: bool = False,
    replicates: int = 1,
    immigration: Sequence[tuple[int, float, int]] = (),
    jumps: Sequence[tuple[float, float]] = (),
    only: Sequence[int] = (),
    **options,
) -> Problem:
    """A multitype branching process as a problem for any engine.

    Args:
        founders: [class] cells at the start.
        durations: [segment] days; growth before treatment has the rates of the first, which may
            last for 0 days.
        birth, death: 1/day, anything that broadcasts to [segment, class].
        mutation: (from, to, probability per division, or per daughter if `both`).
        switching: (from, to, 1/day) or (segment, from, to, 1/day).
        both: whether both daughters may mutate.
        replicates: how many.
        immigration: (class, events per day, cells per event).
        jumps: (day, share of cells that survive).
        only: classes that survive one more day, on which nothing else happens than that all others
            die (at 60/day): what is left then are the cells of these classes.
        options: further fields of `Problem`.
    """
    num, treated = len(founders), len(durations)
    segments = treated + bool(only)
    moves = sorted({to - start for start, to, _ in mutation})
    turns = sorted({row[-2] - row[-3] for row in switching})
    mutating = np.zeros((num, len(moves)))
    for start, to, probability in mutation:
        mutating[start, moves.index(to - start)] = probability
    converting = np.zeros((segments, num, len(turns)))
    for *segment, start, to, rate in switching:
        converting[segment or slice(treated), start, turns.index(to - start)] = rate
    rates = np.zeros((2, segments, num))
    rates[0, :treated], rates[1, :treated] = birth, death
    if only:
        durations = [*durations, 1.0]
        rates[1, -1] = 60 * ~np.isin(np.arange(num), only)
    model = custom_model(
        {"type": max(num - 1, 1)},
        _tabulated,
        {"birth": rates[0], "death": rates[1], "mutation": mutating, "switching": converting},
        mutations=[("type", change) for change in moves],
        switches=[("type", change) for change in turns],
        drugs=("segment",),
        mutating_daughters="both" if both else "one",
    )
    edge = [0.0, *np.cumsum(durations).tolist()]
    levels = tuple(
        Level(0, edge[i], edge[i + 1], float(i)) for i in range(segments) if edge[i] < edge[i + 1]
    )
    cuts = tuple(Jump(day, (kept,)) for day, kept in jumps)
    given = {
        "sync": max(durations),
        "max_cells": 1 << 16,
        "record": Record(every=float(edge[-1]), concentration_every=float(edge[-1])),
    }
    return Problem(
        model=model,
        founders=tuple(Founder(n, g, 0) for g, n in enumerate(founders) if n),
        arms=(Arm("schedule", (), levels, cuts),),
        seed=SEED,
        replicates=replicates,
        horizon=float(edge[-1]),
        immigration=tuple(Immigration(rate, g, 0, n) for g, rate, n in immigration),
        **(given | options),
    )


SAMPLED = {"cells": cells.simulate, "clones": clones.simulate}


def final_counts(engine: str, problem: Problem, record: int = -1) -> np.ndarray:
    """Cells of every class at the horizon (or a record) from a sampled engine, [replicate, class]."""
    root = SAMPLED[engine](problem)[""]
    seen = np.asarray(root["class_count"].data)[0, 0, :, record]
    listed = np.asarray(root["class"].data)
    counts = np.zeros((len(seen), problem.model.genome.num_genotypes))
    counts[:, listed] = seen
    return counts


def no_cell(problem: Problem) -> float:
    """P(no cell at the horizon) by the `extinction` engine."""
    return math.exp(float(extinction.simulate(problem)[""]["no_relapse_log"].data[0, 0, -1]))


def relapse_probability(problem: Problem) -> float:
    """P(a cell at the horizon) by the `extinction` engine, in relative precision."""
    return float(extinction.simulate(problem)[""]["relapse_probability"].data[0, 0, -1])


def moments(problem: Problem) -> tuple[float, float, np.ndarray]:
    """Mean and deviation of the burden, and the mean of every class, by the `meanfield` engine."""
    root = meanfield.simulate(problem)[""]
    last = lambda name: np.asarray(root[name].data)[0, 0, 0, -1]  # noqa: E731
    means = np.zeros(problem.model.genome.num_genotypes)
    means[np.asarray(root["class"].data)] = last("class_count")
    return float(last("burden")), float(last("burden_sd")), means
