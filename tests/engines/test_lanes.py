"""Lanes: what must hold for any cells whatever, not only in the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxevo.engines import balance
from jaxevo.engines import lanes as islands
from jaxevo.engines import tumors as loop
from jaxevo.engines.base import Founder
from jaxevo.engines.lanes import Held, Lanes
from jaxevo.engines.sampling import Wide
from jaxevo.engines.tables import Steps
from jaxevo.engines.timeloop import BOUND_MARGIN
from jaxevo.engines.tumors import Layout
from tests.battery import scenario, steps
from tests.kernels import read_table, tables_of
from tests.statistics import FALSE_FAIL

pytestmark = pytest.mark.both_precisions
NUM_TUMORS = 3


def filled(layout: Layout, counts: np.ndarray, num_sites: int = 1) -> Lanes:
    """Lanes with the given living cells each; every cell has a row and a lineage of its own."""
    founders = (Founder(1, 0, 0),)
    tumors = loop.new_tumors(layout, founders, num_sites, 3, range(NUM_TUMORS), NUM_TUMORS)
    num_lanes = len(counts)
    number = np.arange(layout.num_slots * num_lanes, dtype=np.uint32)
    cell = number.reshape(layout.num_slots, num_lanes)
    living = np.arange(layout.num_slots)[:, None] < counts
    count = [np.sum(living & (cell % num_sites == s), axis=0) for s in range(num_sites)]
    return tumors.lanes._replace(
        cell=jnp.asarray(cell),
        lineage=jnp.asarray(cell + 7),
        count=jnp.asarray(np.stack(count), jnp.int32),
    )


def residents(lanes: Lanes, layout: Layout) -> list[list[int]]:
    """The cells of every tumor, sorted; checks that lineages travel with their cells."""
    cell, lineage = np.asarray(lanes.cell), np.asarray(lanes.lineage)
    count = np.asarray(islands.living(lanes))
    living = np.arange(len(cell))[:, None] < count
    assert np.array_equal(lineage[living], cell[living] + 7)
    per_tumor = layout.lanes_per_tumor
    blocks = [slice(t * per_tumor, (t + 1) * per_tumor) for t in range(NUM_TUMORS)]
    return [sorted(cell[:, block][living[:, block]].tolist()) for block in blocks]


def site_count(lanes: Lanes, num_sites: int) -> np.ndarray:
    """Cells by site and lane, from the cells themselves."""
    cell, count = np.asarray(lanes.cell), np.asarray(islands.living(lanes))
    living = np.arange(len(cell))[:, None] < count
    return np.stack([np.sum(living & (cell % num_sites == s), axis=0) for s in range(num_sites)])


LAYOUT = Layout(4, 2, 30)
counts = st.lists(st.integers(0, 30), min_size=6 * NUM_TUMORS, max_size=6 * NUM_TUMORS).map(
    np.array
)


@given(counts, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_rebalancing_moves_every_cell_once_and_loses_none(found, num_sites):
    """The same cells, lineages and sites in every tumor afterwards; spare lanes are empty."""
    before = filled(LAYOUT, found, num_sites)
    after = jax.jit(balance.rebalance, static_argnums=(1, 2))(before, 6, 4, jnp.asarray(True))
    assert residents(after, LAYOUT) == residents(before, LAYOUT)
    assert np.array_equal(np.asarray(after.count), site_count(after, num_sites))
    by_tumor = np.asarray(islands.living(after)).reshape(NUM_TUMORS, 6)
    by_tumor = by_tumor[by_tumor.sum(axis=1) <= 4 * 30]  # those that the main lanes can hold
    assert np.all(by_tumor[:, 4:] == 0)
    mean = by_tumor.sum(axis=1) / 4
    assert np.all(by_tumor.max(axis=1) <= 1.15 * (mean + 1) + 8)


@given(counts)
@settings(max_examples=30, deadline=None)
def test_rebalancing_a_tumor_does_not_depend_on_its_neighbors(found):
    """The first tumor ends in the same slots whatever the others hold."""
    alone = found.copy()
    alone[6:] = 0
    run = jax.jit(balance.rebalance, static_argnums=(1, 2))
    both = [run(filled(LAYOUT, c), 6, 4, jnp.asarray(True)) for c in (found, alone)]
    first, second = (np.asarray(lanes.cell)[:, :6] for lanes in both)
    num = np.asarray(islands.living(both[0]))[:6]
    assert np.array_equal(num, np.asarray(islands.living(both[1]))[:6])
    living = np.arange(len(first))[:, None] < num
    assert np.array_equal(first[living], second[living])


@given(counts)
@settings(max_examples=60, deadline=None)
def test_splitting_full_lanes_keeps_every_cell_and_its_remaining_time(found):
    """Half of a full lane moves to an empty one, which then has the same time left."""
    before = filled(LAYOUT, found)
    left = jnp.where(islands.living(before) > 0, 0.25 + jnp.arange(18, dtype=jnp.float32), 0.0)
    before = before._replace(remaining=left)
    after, no_room = jax.jit(balance.split_full, static_argnums=1)(before, 6)
    assert residents(after, LAYOUT) == residents(before, LAYOUT)
    old, new = (np.asarray(islands.living(x)).reshape(NUM_TUMORS, 6) for x in (before, after))
    times = np.asarray(after.remaining).reshape(NUM_TUMORS, 6)
    old_times = np.asarray(left).reshape(NUM_TUMORS, 6)
    for t in range(NUM_TUMORS):
        full, empty = np.sum(old[t] == 30), np.sum(old[t] == 0)
        assert bool(no_room[t]) == (full > 0 and empty == 0)
        assert np.sum(new[t] == 30) == max(0, full - empty)
        takers = (old[t] == 0) & (new[t] > 0)
        assert np.sum(takers) == min(full, empty)
        donors = (old[t] == 30) & (new[t] < 30)
        assert sorted(times[t][takers]) == sorted(old_times[t][donors])


def advanced(bound_margin: float, rate: float = 0.5) -> Lanes:
    """One day of births and deaths in lanes whose bound lies above the rates by a share."""
    layout = Layout(16, 0, 400)
    case = scenario([100], [1], rate, rate)
    table = read_table(None, jax.tree.map(lambda x: x[0], tables_of(case)))
    tumors = loop.new_tumors(layout, (Founder(1600, 0, 0),), 1, 3, range(1), 1)
    lanes = tumors.lanes._replace(remaining=jnp.ones(16, jnp.float32))
    held = Held(
        key=tumors.key,
        interval=jnp.zeros(16, jnp.uint32),
        first_row=jnp.zeros(16, jnp.int32),
        bound=jnp.full(16, 2 * rate * (1 + bound_margin), jnp.float32),
        crowding=jnp.ones((1, 16), jnp.float32),
        ceiling=jnp.full(16, 400, jnp.int32),
        later=jnp.zeros(16, jnp.float32),
        name=jnp.arange(16, dtype=jnp.uint32),
        names=jnp.uint32(16),
    )
    return islands.advance(lanes, held, table, Steps((), ()), False)


def test_the_margin_of_the_bound_keeps_births_and_deaths_apart():
    """b = d: the sum of all thresholds is just below 2^64 and must not wrap to 0.

    Births and deaths are each about Poisson(800); 6 standard deviations, false-fail 4e-9.
    """
    lanes = advanced(BOUND_MARGIN)
    births, deaths = int(lanes.births.sum()), int(lanes.deaths.sum())
    assert abs(births - 800) < 170
    assert abs(deaths - 800) < 170
    assert births - deaths == int(islands.living(lanes).sum()) - 1600


def test_a_looser_bound_wastes_candidates_and_changes_no_count_of_events():
    """Uniformization is exact for every bound above the rates; candidates grow with it."""
    tight, loose = advanced(BOUND_MARGIN), advanced(3.0)
    assert int(loose.candidate.sum()) > 3 * int(tight.candidate.sum())
    assert abs(int(loose.births.sum()) - 800) < 170


def test_nothing_happens_where_rates_are_zero():
    """Bound 0: no candidate, no event, no endless loop."""
    lanes = advanced(BOUND_MARGIN, rate=0.0)
    assert int(lanes.births.sum() + lanes.deaths.sum()) == 0


def daughters(probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Which daughters mutate in 2^16 divisions with at least one mutant, both daughters drawing."""
    num = 2**16
    case = scenario([1, 0], [1], 1.0, 0.0, steps(2, (0, 1, probability)), both_daughters=True)
    table = read_table(None, jax.tree.map(lambda x: x[0], tables_of(case)))
    zeros, none = jnp.zeros(num, jnp.uint32), jnp.zeros(num, bool)
    lane = jnp.arange(num, dtype=jnp.uint32)
    held = Held(
        (lane, zeros + 5), zeros, zeros.astype(jnp.int32), jnp.ones(num), jnp.ones((1, num)),
        jnp.ones(num, jnp.int32), jnp.zeros(num), lane, jnp.uint32(num),
    )  # fmt: skip
    start = Wide(zeros, zeros)
    change = islands._decide(
        ~none, start, (start, start), jnp.ones(num), jnp.ones(num), zeros, zeros.astype(jnp.int32),
        zeros.astype(jnp.int32), zeros, held, table, Steps((1,), ()), True,
    )  # fmt: skip
    return np.asarray(change.is_clone), np.asarray(change.is_parent_clone)


@pytest.mark.parametrize("probability", [1e-9, 2e-8, 1e-3, 0.5])
def test_both_daughters_mutate_as_rarely_as_they_should(probability):
    """P(two mutants | one at least) = u/(2 - u), also where float32 cannot tell (1 - u)/(2 - u) from
    1/2; else the mutant is either daughter with 1/2. Binomial limits at 1e-6; at 2^16 divisions
    they see a share of 2e-4 where there should be none.
    """
    newborn, parent = daughters(probability)
    assert np.all(newborn | parent)
    two = stats.binom(len(newborn), probability / (2 - probability))
    assert two.ppf(FALSE_FAIL / 2) <= np.sum(newborn & parent) <= two.ppf(1 - FALSE_FAIL / 2)
    either = stats.binom(int(np.sum(newborn ^ parent)), 0.5)
    assert either.ppf(FALSE_FAIL / 2) <= np.sum(newborn & ~parent) <= either.ppf(1 - FALSE_FAIL / 2)
