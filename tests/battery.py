"""The battery of law checks that every stochastic kernel passes and every wrong kernel fails.

A *kernel* is any callable

    kernel(scenario, num_replicates, seed) -> counts [replicate, class, site], integers

that simulates `num_replicates` independent tumors to the end of the scenario's last segment (or until
`stop_at`) and returns the living cells there. A check is `check(kernel, seed, effort)`: it runs the
kernel on a scenario whose law is exact and raises `Rejected` if the counts do not follow it, at a
false-fail rate of 1e-6 per assertion. `effort` multiplies the number of replicates and divides each
smallest error to detect by its root: 1 in the default suite, 10 with fresh seeds every night, less
for the slow twin.

`BATTERY` is quick (about 2e7 events each at most) and is what the rivals are held against; `CROWDED`
needs a kernel that knows `capacity`, `HIERARCHY` one that knows `asymmetric` and `symmetric`, `SEEDED`
one that knows `arrivals`, `CUT` one that knows `kept`. The printed cases in their full size are in
`tests.published`.
All together make less than 100 assertions: a right kernel fails one of them in 1e-4 of the runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tests import laws
from tests.laws import Law
from tests.statistics import (
    Rejected,
    assert_law,
    assert_mean,
    assert_probability,
    assert_rare_count,
    assert_variance,
)

SEED = 20240607


@dataclass(frozen=True, eq=False)
class Scenario:
    """One tumor, as tables. Rates are 1/day and constant within a segment."""

    founders: np.ndarray  # [class, site] cells at the start
    durations: np.ndarray  # [segment] days
    birth: np.ndarray  # [segment, class, site]
    death: np.ndarray  # [segment, class, site]
    mutation: np.ndarray  # [class, class] from, to; diagonal 0; per division (daughter, if both)
    switching: np.ndarray  # [segment, class, class] from, to; diagonal 0
    migration: np.ndarray  # [site, site] from, to; diagonal 0
    capacity: np.ndarray  # [site] cells, logistic crowding of births; infinite: none
    asymmetric: np.ndarray  # [class, class] from, to; diagonal 0; per division, one daughter
    symmetric: np.ndarray  # [class, class] from, to; diagonal 0; per division, both daughters
    arrivals: np.ndarray  # [segment, class, site] immigration, events per day
    batch: np.ndarray  # [class, site] cells per event
    kept: np.ndarray  # [segment, class, site] survival of every cell at the start of the segment
    both_daughters: bool = False
    stop_at: int | None = None  # a tumor that has this many cells is not followed further

    def process(self) -> laws.Process:
        """The same as a branching process of types class * sites + site; no crowding, no stop."""
        num_classes, num_sites = self.founders.shape
        same_class, same_site = np.eye(num_classes), np.eye(num_sites)
        moves = np.kron(same_class, self.migration)
        by_type = lambda table: table.reshape(len(self.durations), -1)  # noqa: E731
        return laws.Process(
            self.durations,
            by_type(self.birth),
            by_type(self.death),
            np.kron(self.mutation, same_site),
            np.stack([np.kron(switch, same_site) + moves for switch in self.switching]),
            self.both_daughters,
            np.kron(self.asymmetric, same_site),
            np.kron(self.symmetric, same_site),
            by_type(self.arrivals),
            self.batch.ravel(),
            by_type(self.kept),
        )


Kernel = Callable[[Scenario, int, int], np.ndarray]
Check = Callable[..., None]
BATTERY: dict[str, Check] = {}
CROWDED: dict[str, Check] = {}
HIERARCHY: dict[str, Check] = {}
SEEDED: dict[str, Check] = {}
CUT: dict[str, Check] = {}


def scenario(
    founders, durations, birth, death, mutation=0.0, switching=0.0, migration=0.0, **options
) -> Scenario:
    """A `Scenario` from anything that broadcasts to its tables; founders [class] or [class, site]."""
    by_class = lambda table: table[:, None] if table.ndim == 1 else table  # noqa: E731
    founders = by_class(np.atleast_1d(founders))
    durations = np.atleast_1d(np.asarray(durations, float))
    num_classes, num_sites = founders.shape
    shape = (len(durations), num_classes, num_sites)
    full = lambda table, *dims: np.broadcast_to(np.asarray(table, float), dims)  # noqa: E731
    return Scenario(
        founders,
        durations,
        full(birth, *shape),
        full(death, *shape),
        full(mutation, num_classes, num_classes),
        full(switching, len(durations), num_classes, num_classes),
        full(migration, num_sites, num_sites),
        full(options.pop("capacity", np.inf), num_sites),
        full(options.pop("asymmetric", 0.0), num_classes, num_classes),
        full(options.pop("symmetric", 0.0), num_classes, num_classes),
        full(options.pop("arrivals", 0.0), *shape),
        np.broadcast_to(by_class(np.asarray(options.pop("batch", 1))), shape[1:]),
        full(options.pop("kept", 1.0), *shape),
        **options,
    )


def register(tier: dict[str, Check]) -> Callable[[Check], Check]:
    """Decorator: file a check under its name without `check_`."""

    def add(check: Check) -> Check:
        tier[check.__name__.removeprefix("check_")] = check
        return check

    return add


def claim(is_true: bool, sentence: str) -> None:
    """An exact claim, without tolerance."""
    if not is_true:
        raise Rejected(sentence)


def replicates(num_replicates: int, effort: float) -> tuple[int, float]:
    """Replicates, and the factor on each smallest error to detect."""
    return round(num_replicates * effort), effort**-0.5


def steps(num_classes: int, *entries: tuple[int, int, float]) -> np.ndarray:
    """[from, to] with the given entries (from, to, value)."""
    table = np.zeros((num_classes, num_classes))
    for start, end, value in entries:
        table[start, end] = value
    return table


# --- one type --------------------------------------------------------------------------------------

ONE_FOUNDER = scenario([1], [100], 0.14, 0.13)


@cache
def birth_death_law(b: float, d: float, time: float, founders: int) -> Law:
    """The law of E01, kept."""
    return laws.birth_death([time], [b], [d]).law(founders)


@register(BATTERY)
def check_birth_death_from_one_founder(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E01, b .14, d .13, 100 days, one founder: extinct, mean, variance and the whole law."""
    n, wide = replicates(200_000, effort)
    cells = kernel(ONE_FOUNDER, n, seed).sum((1, 2))
    law = birth_death_law(0.14, 0.13, 100.0, 1)
    assert_probability(cells == 0, law.probability(0), detect=0.0056 * wide)
    assert_mean(cells, law, detect=0.2 * wide)
    assert_variance(cells, law, detect=0.15 * wide)
    assert_law(cells, law, detect=0.015 * wide)


def check_dsmts(kernel, seed, effort, b, d, founders, detect):
    """Mean and variance at each time, each from a run of its own; `detect` {time: (both errors)}."""
    n, wide = replicates(10_000, effort)
    for time, (of_mean, of_variance) in detect.items():
        cells = kernel(scenario([founders], [time], b, d), n, seed).sum((1, 2))
        law = birth_death_law(b, d, float(time), founders)
        assert_mean(cells, law, detect=of_mean * wide)
        assert_variance(cells, law, detect=of_variance * wide)


@register(BATTERY)
def check_dsmts_001_01(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """V10 001-01, b .1, d .11, 100 founders, days 10, 25 and 50: mean and variance.

    Evans, Gillespie & Wilkinson 2008, 10.1093/bioinformatics/btm566; limits from the exact law.
    """
    detect = {10: (1.1, 0.13), 25: (1.5, 0.13), 50: (1.8, 0.14)}
    check_dsmts(kernel, seed, effort, 0.1, 0.11, 100, detect)


@register(BATTERY)
def check_dsmts_001_03(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """V10 001-03, b 1, d 1.1, 100 founders, day 10: mean and variance."""
    check_dsmts(kernel, seed, effort, 1.0, 1.1, 100, {10: (1.8, 0.16)})


PULSED = scenario([100], [7] * 20, 0.14, np.tile([0.20, 0.13], 10)[:, None, None])
CONSTANT = scenario([100], [140], 0.14, 0.165)


@register(BATTERY)
def check_pulsed_and_constant_schedule(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E05, 100 founders: same dose and mean, but .6551 against .6246 are extinct.

    Seven days on, seven off, ten times, against the time average throughout (Kendall 1948). The
    printed extinct fractions belong to 1000 founders: the tenth power of these.
    """
    n, wide = replicates(15_000, effort)
    for schedule in (PULSED, CONSTANT):
        one = laws.birth_death(schedule.durations, schedule.birth[:, 0, 0], schedule.death[:, 0, 0])
        law = one.law(100)
        cells = kernel(schedule, n, seed).sum((1, 2))
        assert_probability(cells == 0, one.extinction(100), detect=0.03 * wide)
        assert_mean(cells, law, detect=0.42 * wide)
        assert_variance(cells, law, detect=0.35 * wide)


@cache
def _saturating() -> tuple[Scenario, Law]:
    """Birth .3 - .25 exp(-.1 t), its time average in each of 200 segments; death .2; 500 founders."""
    edges = np.linspace(0, 20, 201)
    integral = 0.3 * edges + 2.5 * np.exp(-0.1 * edges)
    birth = np.diff(integral) / np.diff(edges)
    one = laws.birth_death(np.diff(edges), birth, [0.2] * 200)
    return scenario([500], np.diff(edges), birth[:, None, None], 0.2), one.law(500)


@register(BATTERY)
def check_rates_that_follow_time(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """V11 (ESTIpop, 10.1093/bioinformatics/btaa526): mean 425.364, variance 4386.4 at day 20."""
    n, wide = replicates(2_000, effort)
    changing, law = _saturating()
    cells = kernel(changing, n, seed).sum((1, 2))
    assert_mean(cells, law, detect=12 * wide)
    assert_variance(cells, law, detect=0.36 * wide)


@register(BATTERY)
def check_exact_zeros(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """A rate of 0 never happens, and a tumor without cells stays without: no tolerance."""
    n, _ = replicates(500, effort)
    founders = np.array([[3, 0], [0, 2]])
    still = kernel(scenario(founders, [5, 5], 0.0, 0.0), n, seed)
    claim((still == founders).all(), "without rates the founders stay as they are")
    grown = kernel(scenario([[1, 0], [0, 0]], [4], 1.0, 0.0), n, seed)
    claim((grown[:, 0, 0] >= 1).all(), "without a death rate no cell dies")
    claim(not grown[:, 1].any(), "without mutation and switching there is one class")
    claim(not grown[:, :, 1].any(), "without migration there is one site")
    gone = kernel(scenario([5], [30, 30], 0.0, [[[50.0]], [[0.0]]]), n, seed)
    claim(not gone.any(), "an extinct tumor stays extinct")


# --- several types ---------------------------------------------------------------------------------


@cache
def law_of(case: Scenario, *weights: int) -> Law:
    """The law of the final counts of types class * sites + site, summed with these weights."""
    return laws.marginal(case.process(), case.founders.ravel(), weights)


@cache
def none_of(case: Scenario, *types: int) -> float:
    """P(no cell of these types at the end); of any, if none is named."""
    return laws.probability_of_none(case.process(), case.founders.ravel(), types or None)


TWO_TYPES = scenario([1, 0], [8], 1.0, 0.5, steps(2, (0, 1, 0.01)))


@register(BATTERY)
def check_two_types(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E04, b 1, d .5, u .01, day 8: P(no B) .69537, P(all dead) .49538, E[B] 4.1977, law of B.

    Antal & Krapivsky 2011, 10.1088/1742-5468/2011/08/P08018.
    """
    n, wide = replicates(50_000, effort)
    cells = kernel(TWO_TYPES, n, seed)[:, :, 0]
    assert_probability(cells[:, 1] == 0, none_of(TWO_TYPES, 1), detect=0.0165 * wide)
    assert_probability(~cells.any(1), none_of(TWO_TYPES), detect=0.018 * wide)
    assert_mean(cells[:, 0], law_of(TWO_TYPES, 1, 0), detect=3.1 * wide)
    assert_mean(cells[:, 1], law_of(TWO_TYPES, 0, 1), detect=0.6 * wide)
    assert_law(cells[:, 1], law_of(TWO_TYPES, 0, 1), detect=0.031 * wide)


OFTEN = scenario([3, 0], [4], [[1.0], [0.8]], [[0.4], [0.2]], steps(2, (0, 1, 0.3)))


@register(BATTERY)
def check_frequent_mutation(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07 with u = .3: what the mutant's mother and sister become is visible in both types."""
    n, wide = replicates(100_000, effort)
    cells = kernel(OFTEN, n, seed)[:, :, 0]
    assert_mean(cells[:, 0], law_of(OFTEN, 1, 0), detect=0.23 * wide)
    assert_law(cells[:, 0], law_of(OFTEN, 1, 0), detect=0.022 * wide)
    assert_law(cells[:, 1], law_of(OFTEN, 0, 1), detect=0.022 * wide)
    assert_law(cells.sum(1), law_of(OFTEN, 1, 1), detect=0.022 * wide)


BOTH_DAUGHTERS = replace(OFTEN, both_daughters=True)


@register(BATTERY)
def check_both_daughters(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07 with u = .3 for each daughter on its own (the convention of Kimmel & Axelrod 1990)."""
    n, wide = replicates(100_000, effort)
    cells = kernel(BOTH_DAUGHTERS, n, seed)[:, :, 0]
    assert_law(cells[:, 0], law_of(BOTH_DAUGHTERS, 1, 0), detect=0.022 * wide)
    assert_law(cells[:, 1], law_of(BOTH_DAUGHTERS, 0, 1), detect=0.022 * wide)
    assert_law(cells.sum(1), law_of(BOTH_DAUGHTERS, 1, 1), detect=0.022 * wide)


LADDER = scenario([10, 0, 0, 0], [5], 0.7, 0.2, steps(4, (0, 1, 0.02), (1, 2, 0.02), (2, 3, 0.02)))


@register(BATTERY)
def check_ladder(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07, three steps in a row, u .02 per division, b .7: P(no k-hit cell) for each k."""
    n, wide = replicates(40_000, effort)
    cells = kernel(LADDER, n, seed)[:, :, 0]
    for hits in (1, 2, 3):
        none = none_of(LADDER, hits)
        assert_probability(cells[:, hits] == 0, none, detect=0.013 * wide)


def therapy(grow: float, treat: float, u: float, on_drug, stop_at=None) -> Scenario:
    """Target mutation x pump: types 00, 10, 01, 11; b .14, d .10 off drug, `on_drug` on it."""
    death = np.array([[0.10] * 4, on_drug])[:, :, None]
    hits = steps(4, (0, 1, u), (0, 2, u), (1, 3, u), (2, 3, u))
    return scenario([1, 0, 0, 0], [grow, treat], 0.14, death, hits, stop_at=stop_at)


BOTH_DRUGS = (0.30, 0.22, 0.22, 0.10)
ONE_DRUG = (0.22, 0.10, 0.22, 0.10)
SMALL_THERAPIES = (therapy(80, 80, 0.01, BOTH_DRUGS), therapy(80, 80, 0.01, ONE_DRUG))


@register(BATTERY)
def check_small_therapy(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07, target mutation x pump, u .01, 80 days without drug, 80 with two drugs or with one.

    P(eradicated | alive at day 80) .8475 with two, .4302 with one.
    """
    n, wide = replicates(20_000, effort)
    for case, resistant, detect in zip(SMALL_THERAPIES, (3, 1), (0.0125, 0.022), strict=True):
        cells = kernel(case, n, seed)[:, :, 0]
        assert_probability(~cells.any(1), none_of(case), detect=detect * wide)
        assert_probability(cells[:, resistant] == 0, none_of(case, resistant), detect=detect * wide)


def check_culture(kernel, seed, n, wide, size, mutations, detect):
    """Mutants when a culture without death has (at least) `size` cells: exact at any size."""
    culture = scenario([1, 0], [60], 1.0, 0.0, steps(2, (0, 1, mutations / size)), stop_at=size)
    cells = kernel(culture, n, seed)[:, :, 0]
    sizes, seen = np.unique(cells.sum(1), return_counts=True)
    claim(sizes[0] >= size, f"a culture stopped at {sizes[0]} cells, before {size}")
    at_size = laws.mutants_at_size(mutations / size, sizes.tolist(), int(sizes[-1]))
    law = Law(np.arange(sizes[-1] + 1), seen / n @ at_size)
    assert_probability(cells[:, 1] == 0, law.probability(0), detect=detect * wide)
    many = law.probabilities[law.values >= size // 20].sum()
    assert_probability(cells[:, 1] >= size // 20, many, detect=detect * wide)
    assert_law(cells[:, 1], law, detect=detect * wide)


@register(BATTERY)
def check_luria_delbruck(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E02, m = 2 at 500 cells: mutants when a culture is stopped at a size, exact finite law.

    A kernel may stop late (at a sync): the law is taken at the size it reached.
    """
    n, wide = replicates(20_000, effort)
    check_culture(kernel, seed, n, wide, 500, 2.0, 0.05)


# Off the drug for 40 days, on it for 30 (rates of E08).
SWITCHING = scenario(
    [50, 2],
    [40, 30],
    np.array([[0.04, 0.01], [0.0, 0.01]])[:, :, None],
    np.array([[0.02, 0.01], [0.06, 0.01]])[:, :, None],
    switching=[
        steps(2, (0, 1, 0.0004), (1, 0, 0.004)),
        steps(2, (0, 1, 0.004), (1, 0, 0.0004)),
    ],
)


@register(BATTERY)
def check_switching(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E08: reversible switching with rates that the drug turns around: means and laws of both."""
    n, wide = replicates(30_000, effort)
    cells = kernel(SWITCHING, n, seed)[:, :, 0]
    for kind, weights in enumerate([(1, 0), (0, 1)]):
        law = law_of(SWITCHING, *weights)
        assert_mean(cells[:, kind], law, detect=0.046 * law.variance**0.5 * wide)
        assert_law(cells[:, kind], law, detect=0.031 * wide)


COPIES = scenario([0, 1, 0, 0, 0, 0], [10 * np.log(2)], 1.0, 0.0, laws.copy_steps(0.02, 0.10, 5))


@register(BATTERY)
def check_amplification(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E09, one daughter, t = 10 ln 2/b from one copy: share of cells with copies .523312.

    Rates of Kimmel & Axelrod 1990, Genetics 125:633. The difference between cells with and without
    copies has the mean (2 x .523312 - 1) x 1024; its whole law is exact.
    """
    n, wide = replicates(5_000, effort)
    cells = kernel(COPIES, n, seed)[:, :, 0]
    total = birth_death_law(1.0, 0.0, float(COPIES.durations[0]), 1)
    difference = np.array([-1, 1, 1, 1, 1, 1])
    law = law_of(COPIES, *difference.tolist())
    assert_mean(cells @ difference, law, detect=0.115 * law.variance**0.5 * wide)
    assert_law(cells @ difference, law, detect=0.1 * wide)
    assert_law(cells.sum(1), total, detect=0.1 * wide)


COPIES_BOTH = replace(COPIES, durations=np.array([5 * np.log(2)]), both_daughters=True)


@register(BATTERY)
def check_amplification_in_both_daughters(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E09 in continuous time, each daughter changes copies on its own: the whole law, one founder."""
    n, wide = replicates(100_000, effort)
    cells = kernel(COPIES_BOTH, n, seed)[:, :, 0]
    for weights in [(-1, 1, 1, 1, 1, 1), (0, 0, 1, 1, 1, 1)]:
        law = law_of(COPIES_BOTH, *weights)
        assert_mean(cells @ np.array(weights), law, detect=0.0255 * law.variance**0.5 * wide)
        assert_law(cells @ np.array(weights), law, detect=0.023 * wide)


SITES = scenario(
    [[10, 4], [0, 0]],
    [4],
    [[0.5, 0.3], [0.4, 0.6]],
    [[0.2, 0.3], [0.1, 0.4]],
    steps(2, (0, 1, 0.1)),
    migration=[[0.0, 0.1], [0.02, 0.0]],
)


@register(BATTERY)
def check_migration(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07 with m_ij between two sites that differ in rates: law of each class at each site."""
    n, wide = replicates(50_000, effort)
    cells = kernel(SITES, n, seed).reshape(n, 4)
    for kind, weights in enumerate(np.eye(4, dtype=int).tolist()):
        assert_law(cells[:, kind], law_of(SITES, *weights), detect=0.028 * wide)
    assert_law(cells.sum(1), law_of(SITES, 1, 1, 1, 1), detect=0.028 * wide)


IMMIGRATION = scenario([1, 0], [10], [[1.0], [0.0]], [[0.0], [0.1]], steps(2, (0, 1, 1.0)))


@register(BATTERY)
def check_immigration(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """V10 002-01: a source whose every division gives one immigrant (u = 1); Poisson, mean 6.3212."""
    n, wide = replicates(100_000, effort)
    cells = kernel(IMMIGRATION, n, seed)[:, :, 0]
    claim((cells[:, 0] == 1).all(), "the source itself neither dies nor mutates")
    law = law_of(IMMIGRATION, 0, 1)
    assert_mean(cells[:, 1], law, detect=0.063 * wide)
    assert_variance(cells[:, 1], law, detect=0.038 * wide)
    assert_law(cells[:, 1], law, detect=0.016 * wide)


APART = scenario([60, 60, 60, 60], [2], 0.5, 0.5)


@register(BATTERY)
def check_replicates_are_independent(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """Four classes that do not meet: two replicates agree in all four with probability 4e-7.

    The number of pairs of equal replicates is Poisson with mean n(n-1)/2 (sum_k p_k^2)^4; a kernel
    that gives two replicates the same key has n/2 pairs. The sum of the classes has the law of the
    sum of independent ones.
    """
    n, wide = replicates(10_000, effort)
    cells = kernel(APART, n, seed)[:, :, 0]
    same = np.unique(cells, axis=0, return_counts=True)[1]
    pairs = int((same * (same - 1) // 2).sum())
    single = birth_death_law(0.5, 0.5, 2.0, 60).probabilities
    expected = n * (n - 1) / 2 * float(single @ single) ** 4
    assert_rare_count(pairs, n, expected, detect=n / 50 + 12)
    assert_law(cells.sum(1), law_of(APART, 1, 1, 1, 1), detect=0.064 * wide)


# --- crowding --------------------------------------------------------------------------------------

DISH = scenario([10], [6], 1.0, 0.5, capacity=[20])


@register(CROWDED)
def check_logistic_crowding(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E14, b(1 - n/K), K 20, from 10 cells: the whole law of day 6 from the master equation.

    Rates held between syncs make an error of the order of the sync interval: keep it short.
    """
    n, wide = replicates(50_000, effort)
    cells = kernel(DISH, n, seed).sum((1, 2))
    assert_law(cells, laws.Logistic(1.0, 0.5, 20).law(10, 6), detect=0.023 * wide)


# --- hierarchy, immigration, jumps -----------------------------------------------------------------

STEM = scenario(
    [3, 0, 0],
    [4],
    [[1.0], [0.8], [0.3]],
    [[0.3], [0.3], [0.5]],
    steps(3, (0, 2, 0.04), (1, 2, 0.05)),
    asymmetric=steps(3, (0, 1, 0.3)),
    symmetric=steps(3, (0, 1, 0.2), (1, 2, 0.3)),
)
STEM_BOTH = replace(STEM, both_daughters=True)


def check_stem(kernel, case, seed, effort):
    """The law of each class and of all cells."""
    n, wide = replicates(50_000, effort)
    cells = kernel(case, n, seed)[:, :, 0]
    for kind, weights in enumerate(np.eye(3, dtype=int).tolist()):
        assert_law(cells[:, kind], law_of(case, *weights), detect=0.03 * wide)
    assert_law(cells.sum(1), law_of(case, 1, 1, 1), detect=0.03 * wide)


@register(HIERARCHY)
def check_hierarchy(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07 with divisions that differentiate one daughter (.3) or both (.2), beside mutations."""
    check_stem(kernel, STEM, seed, effort)


@register(HIERARCHY)
def check_hierarchy_and_both_daughters(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """The same where each daughter of a division that does not differentiate may mutate."""
    check_stem(kernel, STEM_BOTH, seed, effort)


TWO_SOURCES = scenario(
    [0, 2],
    [2, 3],
    [[0.4], [0.2]],
    [[[0.5], [0.3]], [[0.2], [0.6]]],
    steps(2, (0, 1, 0.1)),
    arrivals=[[0.7], [0.3]],
    batch=[6, 1],
)


@register(SEEDED)
def check_batch_immigration(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """Six cells of one class at a time and one of another, which branch on: the whole laws.

    Generating function exp(int sum_j r_j (q_j^n_j - 1) dt); Athreya & Ney 1972, chapter VI.7.
    """
    n, wide = replicates(50_000, effort)
    cells = kernel(TWO_SOURCES, n, seed)[:, :, 0]
    for kind, weights in enumerate([(1, 0), (0, 1)]):
        assert_law(cells[:, kind], law_of(TWO_SOURCES, *weights), detect=0.03 * wide)
    assert_law(cells.sum(1), law_of(TWO_SOURCES, 1, 1), detect=0.03 * wide)


NO_FOUNDER = scenario([0], [6], 0.0, 0.6, arrivals=0.5, batch=4)


@register(SEEDED)
def check_batches_alone(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """As V10 004-01: no founder, batches of four that only die; empty tumors are filled again."""
    n, wide = replicates(50_000, effort)
    cells = kernel(NO_FOUNDER, n, seed).sum((1, 2))
    law = law_of(NO_FOUNDER, 1)
    assert_probability(cells == 0, law.probability(0), detect=0.016 * wide)
    assert_mean(cells, law, detect=0.1 * wide)
    assert_variance(cells, law, detect=0.08 * wide)
    assert_law(cells, law, detect=0.028 * wide)


CUT_TWICE = scenario(
    [30, 5],
    [3, 2, 2],
    0.5,
    [[0.4], [0.2]],
    steps(2, (0, 1, 0.1)),
    kept=[[[1.0], [1.0]], [[0.3], [0.6]], [[0.5], [1.0]]],
)


@register(CUT)
def check_jump(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """Two jumps between intervals of growth: each cell survives on its own; the whole laws."""
    n, wide = replicates(50_000, effort)
    cells = kernel(CUT_TWICE, n, seed)[:, :, 0]
    for kind, weights in enumerate([(1, 0), (0, 1)]):
        assert_law(cells[:, kind], law_of(CUT_TWICE, *weights), detect=0.03 * wide)
    assert_law(cells.sum(1), law_of(CUT_TWICE, 1, 1), detect=0.03 * wide)


RARELY_KEPT = scenario([[40, 3]], [1e-6], 0.0, 0.0, kept=[[[0.01, 0.0]]])


@register(CUT)
def check_jump_of_few_cells(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """Of 40 cells each survives with .01 at one site, of 3 none at the other: Binomial, and 0."""
    n, wide = replicates(50_000, effort)
    cells = kernel(RARELY_KEPT, n, seed)
    claim(not cells[:, :, 1].any(), "no cell survives with probability 0")
    assert_law(cells.sum((1, 2)), law_of(RARELY_KEPT, 1, 0), detect=0.02 * wide)
