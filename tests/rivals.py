"""Named wrong kernels, and one right one, all with the interface of `tests.battery`.

`event_by_event` is right: exact continuous time, counts of types, many replicates in lockstep. Each
rival makes one mistake that a kernel of cells can make; `RIVALS` says which checks of the battery must
reject it. (Which of two sisters is the mutant is invisible in counts; that neither is lost is not.)
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from tests.battery import Kernel, Scenario

Rng = np.random.Generator


class Events(NamedTuple):
    """Everything that can happen in a segment, types class * sites + site."""

    kind: np.ndarray  # [event] "death", "birth", "mutation", "one", "two", "move" or "arrival"
    source: np.ndarray  # [event] type it happens to
    rate: np.ndarray  # [event] per cell of that type, 1/day; of an arrival per day
    change: np.ndarray  # [event, type] what it adds to the counts


def events_of(scenario: Scenario, segment: int) -> Events:
    """The right list of events."""
    num_classes, num_sites = scenario.founders.shape
    unit = np.eye(num_classes * num_sites, dtype=np.int64).reshape(num_classes, num_sites, -1)
    rows = []
    for c in range(num_classes):
        for s in range(num_sites):
            here, i = unit[c, s], c * num_sites + s
            birth = scenario.birth[segment, c, s]
            one, two = scenario.asymmetric[c], scenario.symmetric[c]
            renews = 1 - one.sum() - two.sum()
            daughters = scenario.mutation[c].copy()
            of_a_kind = 1 if scenario.both_daughters else renews
            daughters[c] = of_a_kind - scenario.mutation[c].sum()
            rows.append(("death", i, scenario.death[segment, c, s], -here))
            arrivals, batch = scenario.arrivals[segment, c, s], scenario.batch[c, s]
            rows.append(("arrival", i, arrivals, batch * here))
            rows += [("one", i, birth * p, unit[j, s]) for j, p in enumerate(one)]
            rows += [("two", i, birth * p, 2 * unit[j, s] - here) for j, p in enumerate(two)]
            for j in np.flatnonzero(daughters):
                if scenario.both_daughters:
                    for k in np.flatnonzero(daughters):
                        kind = "birth" if j == k == c else "mutation"
                        change = unit[j, s] + unit[k, s] - here
                        pair = renews * daughters[j] * daughters[k]
                        rows.append((kind, i, birth * pair, change))
                else:
                    kind = "birth" if j == c else "mutation"
                    rows.append((kind, i, birth * daughters[j], unit[j, s]))
            switching, migration = scenario.switching[segment, c], scenario.migration[s]
            rows += [("move", i, rate, unit[j, s] - here) for j, rate in enumerate(switching)]
            rows += [("move", i, rate, unit[c, t] - here) for t, rate in enumerate(migration)]
    rows = [row for row in rows if row[2] > 0]
    if not rows:
        rows = [("death", 0, 0.0, -unit[0, 0])]
    kind, source, rate, change = zip(*rows, strict=True)
    return Events(np.array(kind), np.array(source), np.array(rate), np.array(change))


def divides(events: Events) -> np.ndarray:
    """Which events are divisions, [event]."""
    return np.isin(events.kind, ("birth", "mutation", "one", "two"))


def thinned(rng: Rng, cells: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Every cell of [type, replicate] survives on its own with the probability of its type."""
    return rng.binomial(cells, kept[:, None])


def _crowded(scenario: Scenario, events: Events, cells: np.ndarray) -> np.ndarray:
    """Factor [event, replicate] on every rate: logistic crowding of births at the cell's site."""
    num_classes, num_sites = scenario.founders.shape
    total = cells.reshape(num_classes, num_sites, -1).sum(0)
    room = np.maximum(0, 1 - total / scenario.capacity[:, None])
    return np.where(divides(events)[:, None], room[events.source % num_sites], 1.0)


def event_by_event(
    scenario: Scenario,
    num_replicates: int,
    seed: int,
    *,
    events: Callable[[Scenario, int], Events] = events_of,
    factor: Callable[[Scenario, Events, np.ndarray], np.ndarray] | None = None,
    is_overrunning: bool = False,
    jump: Callable[[Rng, np.ndarray, np.ndarray], np.ndarray] = thinned,
    is_filled_when_empty: bool = True,
) -> np.ndarray:
    """The right kernel; its arguments are where rivals go wrong."""
    rng = np.random.default_rng(seed)
    if factor is None and np.isfinite(scenario.capacity).any():
        factor = _crowded
    stop_at = np.iinfo(np.int64).max if scenario.stop_at is None else scenario.stop_at
    counts = np.repeat(scenario.founders.reshape(-1, 1), num_replicates, axis=1).astype(np.int64)
    for segment, duration in enumerate(scenario.durations):
        what = events(scenario, segment)
        if (scenario.kept[segment] < 1).any():
            counts = jump(rng, counts, scenario.kept[segment].ravel())
        arrives = what.kind == "arrival"
        least = 0 if arrives.any() and is_filled_when_empty else 1
        total = counts.sum(0)
        running = np.flatnonzero((total >= least) & (total < stop_at))
        cells, left = counts[:, running], np.full(running.size, float(duration))
        while running.size:
            hazard = np.where(arrives[:, None], 1, cells[what.source]) * what.rate[:, None]
            if factor is not None:
                hazard = hazard * factor(scenario, what, cells)
            reach = np.cumsum(hazard, axis=0)
            with np.errstate(divide="ignore"):
                wait = rng.exponential(size=running.size) / reach[-1]
            picked = (reach[:-1] <= rng.random(running.size) * reach[-1]).sum(0)
            happens = wait < left
            left = left - wait
            change = what.change.T[:, picked]
            cells = cells + (change * np.isfinite(wait) if is_overrunning else change * happens)
            np.maximum(cells, 0, out=cells)
            total = cells.sum(0)
            goes_on = happens & (total >= least) & (total < stop_at)
            counts[:, running[~goes_on]] = cells[:, ~goes_on]
            running, cells, left = running[goes_on], cells[:, goes_on], left[goes_on]
    return counts.T.reshape(num_replicates, *scenario.founders.shape)


# --- wrong lists of events ---------------------------------------------------------------------------


def _edit(edit: Callable[[Scenario, Events, int], Events]) -> Kernel:
    return partial(event_by_event, events=lambda case, i: edit(case, events_of(case, i), i))


def _mother_mutates_too(scenario: Scenario, right: Events, _: int) -> Events:
    """The mutating division leaves two mutants."""
    rows = right.kind == "mutation"
    change = right.change.copy()
    change[rows] = 2 * np.maximum(change[rows], 0)
    change[rows, right.source[rows]] -= 1
    return right._replace(change=change)


def _one_draw_for_both_daughters(scenario: Scenario, right: Events, segment: int) -> Events:
    """Both daughters share one random word: both mutate or none does."""
    single = events_of(replace(scenario, both_daughters=False), segment)
    return _mother_mutates_too(scenario, single, segment)


def _sister_lost(scenario: Scenario, right: Events, _: int) -> Events:
    """The mutating division turns the mother into the mutant, and there is no other daughter."""
    rows = right.kind == "mutation"
    change = right.change.copy()
    change[rows, right.source[rows]] -= 1
    return right._replace(change=change)


def _mutation_per_day(scenario: Scenario, right: Events, segment: int) -> Events:
    """The probability per division is taken for a rate per day, whatever the birth rate."""
    birth = scenario.birth[segment].ravel()[right.source]
    rows = right.kind == "mutation"
    rate = np.where(rows & (birth > 0), right.rate / np.where(birth > 0, birth, 1), right.rate)
    return right._replace(rate=rate)


def _thinning_word_reused(scenario: Scenario, right: Events, segment: int) -> Events:
    """The uniform that chose a division (below b/Lambda) is compared with u again: u Lambda/b."""
    birth = scenario.birth[segment].ravel()
    bound = (birth + scenario.death[segment].ravel()).max()
    excess = bound / np.where(birth > 0, birth, bound)
    rows = right.kind == "mutation"
    rate = np.where(rows, right.rate * excess[right.source], right.rate)
    births = np.flatnonzero(right.kind == "birth")
    for i in births:
        rate[i] -= (rate - right.rate)[rows & (right.source == right.source[i])].sum()
    return right._replace(rate=rate)


def _cell_lost_at_death(scenario: Scenario, right: Events, _: int) -> Events:
    """The last cell, which should fill the hole, is dropped with the dead one."""
    rows = right.kind == "death"
    return right._replace(change=np.where(rows[:, None], 2 * right.change, right.change))


def _newborn_at_first_site(scenario: Scenario, right: Events, _: int) -> Events:
    """The newborn's site is not copied from its mother."""
    num_classes, num_sites = scenario.founders.shape
    change = right.change.copy().reshape(-1, num_classes, num_sites)
    rows = divides(right)
    change[rows, :, 0] = change[rows].sum(2)
    change[rows, :, 1:] = 0
    return right._replace(change=change.reshape(right.change.shape))


def _switching_at_divisions(scenario: Scenario, right: Events, segment: int) -> Events:
    """A rate of switching per day is drawn once per division instead."""
    birth = scenario.birth[segment].ravel()[right.source]
    return right._replace(rate=np.where(right.kind == "move", right.rate * birth, right.rate))


# --- wrong hierarchies, arrivals and jumps -------------------------------------------------------------


def _all_symmetric(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """A cell that differentiates leaves no stem cell, however it divides."""
    nothing, every = np.zeros_like(scenario.symmetric), scenario.asymmetric + scenario.symmetric
    wrong = replace(scenario, asymmetric=nothing, symmetric=every)
    return event_by_event(wrong, num_replicates, seed)


def _all_asymmetric(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """A cell that differentiates always leaves a stem cell."""
    nothing, every = np.zeros_like(scenario.symmetric), scenario.asymmetric + scenario.symmetric
    wrong = replace(scenario, asymmetric=every, symmetric=nothing)
    return event_by_event(wrong, num_replicates, seed)


def _differentiating_parent_kept(scenario: Scenario, right: Events, _: int) -> Events:
    """A symmetric division adds two differentiated cells, and the mother stays."""
    rows = right.kind == "two"
    change = right.change.copy()
    change[rows, right.source[rows]] += 1
    return right._replace(change=change)


def _differentiated_sister_lost(scenario: Scenario, right: Events, _: int) -> Events:
    """A symmetric division turns the mother into one differentiated cell."""
    rows = right.kind == "two"
    return right._replace(
        change=np.where(rows[:, None] & (right.change > 0), right.change // 2, right.change)
    )


def _batch_as_singles(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """The cells of a batch arrive one by one, at as many times the rate."""
    single = replace(
        scenario,
        arrivals=scenario.arrivals * scenario.batch,
        batch=np.ones_like(scenario.batch),
    )
    return event_by_event(single, num_replicates, seed)


def _arrivals_at_interval_ends(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """What arrives during a segment is put in at its end."""
    moment = 1e-9
    twice = lambda table: np.repeat(table, 2, axis=0)  # noqa: E731
    durations = np.stack([scenario.durations, np.full_like(scenario.durations, moment)], 1).ravel()
    arrivals, kept = twice(scenario.arrivals), twice(scenario.kept)
    arrivals[::2] = 0
    arrivals[1::2] *= scenario.durations[:, None, None] / moment
    kept[1::2] = 1
    late = replace(
        scenario,
        durations=durations,
        birth=twice(scenario.birth),
        death=twice(scenario.death),
        switching=twice(scenario.switching),
        arrivals=arrivals,
        kept=kept,
    )
    return event_by_event(late, num_replicates, seed)


def _expected_survivors(rng: Rng, cells: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Each type keeps its expected number of cells, rounded."""
    return np.rint(cells * kept[:, None]).astype(np.int64)


def _all_or_none(rng: Rng, cells: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """One draw for all cells of a type."""
    return np.where(rng.random(cells.shape) < kept[:, None], cells, 0)


def _jump_at_segment_end(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """A jump comes at the end of the segment at whose start it is due."""
    kept = np.ones_like(scenario.kept)
    kept[1:] = scenario.kept[:-1]
    return event_by_event(replace(scenario, kept=kept), num_replicates, seed)


# --- wrong bookkeeping -------------------------------------------------------------------------------


def _lane_full(scenario: Scenario, events: Events, cells: np.ndarray) -> np.ndarray:
    """A newborn that finds its lane of 64 places (or four times the founders) full is dropped."""
    room = max(64, 4 * int(scenario.founders.sum()))
    return np.where(divides(events)[:, None] & (cells.sum(0) >= room), 0.0, 1.0)


def _place_instead_of_cell(scenario: Scenario, events: Events, cells: np.ndarray) -> np.ndarray:
    """The candidate is a uniform place of the lane (room for twice the cells), often an empty one."""
    total = cells.sum(0)
    room = 2 ** np.ceil(np.log2(total + 1))
    return np.broadcast_to(total / room, (len(events.rate), total.size))


def _rates_floored(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """Rates are kept above 1e-3, so that nothing is divided by zero."""
    birth, death = np.maximum(scenario.birth, 1e-3), np.maximum(scenario.death, 1e-3)
    return event_by_event(replace(scenario, birth=birth, death=death), num_replicates, seed)


def _crowding_held(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """Crowding is taken once, from the founders."""
    room = np.maximum(0, 1 - scenario.founders.sum(0) / scenario.capacity)
    unlimited = np.full_like(scenario.capacity, np.inf)
    held = replace(scenario, birth=scenario.birth * room, capacity=unlimited)
    return event_by_event(held, num_replicates, seed)


def _shared_keys(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """Keys repeat after half of the replicates."""
    half = event_by_event(scenario, (num_replicates + 1) // 2, seed)
    return np.concatenate([half, half])[:num_replicates]


def _rates_from_interval_start(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """Rates are held from the start of each day instead of averaged over it."""
    ends = np.cumsum(scenario.durations)
    days = np.append(np.arange(0.0, ends[-1] - 1e-9, 1.0), ends[-1])
    start = np.minimum(np.searchsorted(ends, days[:-1] + 1e-9, side="right"), len(ends) - 1)
    held = replace(
        scenario,
        durations=np.diff(days),
        birth=scenario.birth[start],
        death=scenario.death[start],
        switching=scenario.switching[start],
    )
    return event_by_event(held, num_replicates, seed)


def _dose_averaged(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
    """The whole course is given as its time average."""
    average = partial(np.average, axis=0, weights=scenario.durations)
    held = replace(
        scenario,
        durations=scenario.durations.sum(keepdims=True),
        birth=average(scenario.birth)[None],
        death=average(scenario.death)[None],
        switching=average(scenario.switching)[None],
    )
    return event_by_event(held, num_replicates, seed)


# --- wrong steps in time (types that neither switch nor migrate) -------------------------------------


def _linear(rng: Rng, cells, birth, death, dt):
    """Each cell divides with probability b dt or dies with probability d dt."""
    born = rng.binomial(cells, birth * dt)
    died = rng.binomial(cells - born, death * dt / (1 - birth * dt))
    return born, died


def _clipped_poisson(rng: Rng, cells, birth, death, dt):
    """Poisson numbers of births and deaths; a negative count is set to 0."""
    return rng.poisson(cells * birth * dt), rng.poisson(cells * death * dt)


def _moment_matched(rng: Rng, cells, birth, death, dt):
    """0, 1 or 2 offspring with the right mean and variance."""
    growth = np.expm1((birth - death) * dt)
    mean = 1 + growth
    ratio = np.where(birth == death, dt, growth / np.where(birth == death, 1, birth - death))
    variance = (birth + death) * mean * ratio
    two = (variance + mean**2 - mean) / 2
    none = 1 - mean + two
    born = rng.binomial(cells, two)
    died = rng.binomial(cells - born, np.clip(none / (1 - two), 0, 1))
    return born, died


def _generation(rng: Rng, cells, birth, death, dt):
    """All cells divide or die together, once per mean waiting time."""
    born = rng.binomial(cells, birth / (birth + death))
    return born, cells - born


def leap(
    scenario: Scenario,
    num_replicates: int,
    seed: int,
    *,
    step: Callable[..., tuple[np.ndarray, np.ndarray]],
    dt: float | None,
    rounded: Callable[[np.ndarray], np.ndarray] = lambda u: u,
) -> np.ndarray:
    """Steps of dt days (None: a generation), one daughter mutates with probability `rounded(u)`."""
    rng = np.random.default_rng(seed)
    cells = np.repeat(scenario.founders[None].astype(np.int64), num_replicates, axis=0)
    for segment, duration in enumerate(scenario.durations):
        birth, death = scenario.birth[segment], scenario.death[segment]
        length = 1 / (birth + death).max() if dt is None else dt
        num_steps = max(1, round(duration / length))
        for _ in range(num_steps):
            born, died = step(rng, cells, birth, death, duration / num_steps)
            cells = np.maximum(cells + born - died, 0)
            for i, j in zip(*np.nonzero(scenario.mutation), strict=True):
                mutants = rng.binomial(born[:, i], rounded(scenario.mutation[i, j]))
                mutants = np.minimum(mutants, cells[:, i])
                cells[:, i] -= mutants
                cells[:, j] += mutants
    return cells


def float32_below(u):
    """P(float32 uniform < u): the uniform is a multiple of 2^-23."""
    return np.ceil(u * 2.0**23) / 2.0**23


class Rival(NamedTuple):
    """A wrong kernel and the checks that must reject it, each of them."""

    kernel: Kernel
    rejected_by: tuple[str, ...]


RIVALS = {
    "probability_is_rate_times_dt": Rival(
        partial(leap, step=_linear, dt=0.25), ("two_types", "frequent_mutation")
    ),
    "clipped_poisson_leap": Rival(
        partial(leap, step=_clipped_poisson, dt=1.0), ("birth_death_from_one_founder",)
    ),
    "moment_matched_offspring": Rival(partial(leap, step=_moment_matched, dt=0.4), ("two_types",)),
    "synchronous_generations": Rival(
        partial(leap, step=_generation, dt=None), ("birth_death_from_one_founder",)
    ),
    "float32_rare_draw": Rival(
        partial(leap, step=_linear, dt=0.1, rounded=float32_below), ("rare_mutation",)
    ),
    "mother_mutates_too": Rival(_edit(_mother_mutates_too), ("luria_delbruck", "immigration")),
    "each_daughter_mutates": Rival(
        lambda case, n, seed: event_by_event(replace(case, both_daughters=True), n, seed),
        ("luria_delbruck", "two_types", "amplification"),
    ),
    "one_daughter_mutates": Rival(
        lambda case, n, seed: event_by_event(replace(case, both_daughters=False), n, seed),
        ("both_daughters", "amplification_in_both_daughters"),
    ),
    "one_draw_for_both_daughters": Rival(_edit(_one_draw_for_both_daughters), ("both_daughters",)),
    "sister_lost": Rival(_edit(_sister_lost), ("frequent_mutation", "immigration")),
    "mutation_per_day": Rival(_edit(_mutation_per_day), ("ladder",)),
    "thinning_word_reused": Rival(_edit(_thinning_word_reused), ("two_types", "ladder")),
    "cell_lost_at_death": Rival(_edit(_cell_lost_at_death), ("dsmts_001_01",)),
    "lane_full_drops_newborn": Rival(
        partial(event_by_event, factor=_lane_full), ("two_types", "luria_delbruck")
    ),
    "place_instead_of_cell": Rival(
        partial(event_by_event, factor=_place_instead_of_cell), ("dsmts_001_03",)
    ),
    "interval_overrun": Rival(
        partial(event_by_event, is_overrunning=True),
        ("birth_death_from_one_founder", "immigration"),
    ),
    "rates_floored": Rival(_rates_floored, ("exact_zeros", "immigration")),
    "crowding_held": Rival(_crowding_held, ("logistic_crowding",)),
    "shared_keys": Rival(_shared_keys, ("replicates_are_independent",)),
    "newborn_at_first_site": Rival(_edit(_newborn_at_first_site), ("migration",)),
    "switching_at_divisions": Rival(_edit(_switching_at_divisions), ("switching", "migration")),
    "rates_from_interval_start": Rival(_rates_from_interval_start, ("rates_that_follow_time",)),
    "dose_averaged": Rival(_dose_averaged, ("pulsed_and_constant_schedule", "small_therapy")),
    "all_symmetric": Rival(_all_symmetric, ("hierarchy", "hierarchy_and_both_daughters")),
    "all_asymmetric": Rival(_all_asymmetric, ("hierarchy",)),
    "differentiating_parent_kept": Rival(_edit(_differentiating_parent_kept), ("hierarchy",)),
    "differentiated_sister_lost": Rival(_edit(_differentiated_sister_lost), ("hierarchy",)),
    "batch_as_singles": Rival(_batch_as_singles, ("batch_immigration", "batches_alone")),
    "arrivals_at_interval_ends": Rival(_arrivals_at_interval_ends, ("batch_immigration",)),
    "empty_tumor_stays_empty": Rival(
        partial(event_by_event, is_filled_when_empty=False), ("batches_alone",)
    ),
    "expected_survivors": Rival(
        partial(event_by_event, jump=_expected_survivors), ("jump", "jump_of_few_cells")
    ),
    "all_or_none": Rival(partial(event_by_event, jump=_all_or_none), ("jump",)),
    "jump_at_segment_end": Rival(_jump_at_segment_end, ("jump",)),
}
