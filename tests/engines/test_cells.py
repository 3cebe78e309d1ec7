"""The `cells` engine as a whole: bits, counts, lineages, limits, and the error of a sync."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxevo import genotype
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.engines.cells import GrowthError, simulate
from jaxevo.engines.tumors import EXTINCT, INTERRUPTED, OUT_OF_ROOM, STOPPED, Layout
from tests import builders
from tests.statistics import FALSE_FAIL

ROOT = Path(__file__).parents[2]
FREQUENT = {
    "mutant": {"inheritance": "mutation", "first_gain_probability": 0.01, "kd_fold": 50.0},
    "copies": {
        "inheritance": "amplification",
        "max_level": 3,
        "first_gain_probability": 0.005,
        "gain_probability": 0.02,
        "loss_probability": 0.1,
    },
    "asleep": {
        "inheritance": "epigenetic",
        "on_rate": 0.02,
        "off_rate": 0.1,
        "division_factor": 0.1,
    },
}


def model(**options):
    """Two sites, one drug, all three inheritances; days, cells, uM."""
    chosen = {
        "sites": ("first", "second"),
        "drugs": ("x",),
        "targets": ("T",),
        "alterations": FREQUENT,
        "kd": {"T": {"x": 1.0}},
        "birth_rate": 0.8,
        "death_rate": 0.2,
        "max_death_rate": 0.9,
        "migration_rate": {"first": {"second": 0.03}, "second": {"first": 0.01}},
        "crowding": "logistic",
        "capacity": 20_000.0,
    }
    return builders.build(**(chosen | options))


def problem(**options) -> Problem:
    """Grown to 3,000 cells, then two arms for six days."""
    chosen = {
        "model": model(),
        "founders": (Founder(1, 0, 0),),
        "arms": (Arm("none", ()), Arm("drug", (), (Level(0, 1.0, 4.5, 3.0),))),
        "seed": 11,
        "replicates": 3,
        "horizon": 6.0,
        "sync": 0.5,
        "max_cells": 40_000,
        "treat_at_cells": 3_000,
        "record": Record(every=1.0, clones_every=2.0, snapshot_days=(6.0,)),
    }
    return Problem(**(chosen | options))


def flat(trajectory) -> dict[str, np.ndarray]:
    return {f"{g}/{n}": v.data for g, group in trajectory.items() for n, v in group.items()}


def assert_same(first, second) -> None:
    """Every array of two trajectories has the same bits."""
    first, second = flat(first), flat(second)
    assert first.keys() == second.keys()
    for name, data in first.items():
        assert data.tobytes() == second[name].tobytes(), name


@pytest.fixture(scope="module")
def whole():
    return simulate(problem())


@pytest.mark.parametrize("intervals", [pytest.param(1, marks=pytest.mark.slow), 7, 64])
def test_chunks_of_any_length_give_the_same_bits(whole, intervals):
    """Reliability promise 1: 0 differing bits for chunk sizes 1, 7 and 64."""
    assert_same(simulate(problem(), intervals_per_call=intervals), whole)


def test_waiting_for_the_log_changes_no_bit():
    """Full logs, full lanes and splits in the same intervals: still 0 differing bits by chunk size.

    Gains at 40 % of divisions fill a log of 64 rows many times in an interval.
    """
    gaining = {
        "copies": {
            "inheritance": "amplification",
            "max_level": 3,
            "first_gain_probability": 0.4,
            "gain_probability": 0.2,
            "loss_probability": 0.2,
        }
    }
    grow = builders.build(alterations=gaining, birth_rate=1.0, death_rate=0.1)
    busy = problem(
        model=grow, founders=(Founder(4_000, 0, 0),), treat_at_cells=None, max_cells=9_000,
        replicates=8, horizon=1.0, arms=(Arm("none", ()),), record=Record(every=1.0),
    )  # fmt: skip
    first, second = (simulate(busy, intervals_per_call=n) for n in (1, 64))
    assert_same(first, second)
    assert first[""]["burden"].data.max() > 9_500


@pytest.mark.slow
def test_a_replicate_alone_is_the_replicate_in_the_batch(whole):
    """Reliability promise 2: 0 differing bits."""
    alone = simulate(problem(), replicates=range(1, 2))
    for name in ("burden", "site_burden", "births", "deaths", "end_day"):
        together = whole[""][name].data[:, :, 1:2]
        assert alone[""][name].data.tobytes() == together.tobytes(), name
    for name in ("id", "parent", "birth_time", "genotype"):
        mine = whole["lineage"]["replicate_index"].data == 1
        assert np.array_equal(whole["lineage"][name].data[mine], alone["lineage"][name].data)


SCRIPT = """
import sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from tests.engines.test_cells import flat, problem
from jaxevo.engines.cells import simulate
import hashlib
found = flat(simulate(problem()))
print(hashlib.sha256(b"".join(found[k].tobytes() for k in sorted(found))).hexdigest())
"""


def test_processes_and_numbers_of_devices_give_the_same_bits(whole):
    """Reliability promise 1: another process, with 1 and with 2 forced CPU devices."""
    found = flat(whole)
    here = hashlib.sha256(b"".join(found[k].tobytes() for k in sorted(found))).hexdigest()
    for devices in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, devices],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env=dict(os.environ),
        )
        assert done.stdout.strip() == here, devices


def test_seeds_that_differ_by_2_to_the_32_differ(whole):
    """All 63 bits of the seed are in the key (`key(0) == key(2**32)` is a known trap)."""
    other = simulate(problem(seed=11 + 2**32))
    assert not np.array_equal(other[""]["burden"].data, whole[""]["burden"].data)


def test_replicates_and_seeds_are_different_tumors(whole):
    """No key is shared: no two of three replicates have the same course."""
    courses = {c.tobytes() for c in whole[""]["burden"].data[0, 0]}
    assert len(courses) == 3


def test_births_less_deaths_is_the_change_in_cells(whole):
    """Exact conservation, in every tumor."""
    root = whole[""]
    burden = root["burden"].data
    change = root["births"].data - root["deaths"].data
    assert np.array_equal(change, burden[..., -1] - burden[..., 0])
    assert root["deaths"].data.min() > 0


def test_classes_sites_clones_and_cells_all_add_up_to_the_burden(whole):
    """The same cells, counted four ways at day 6."""
    root, cells = whole[""], whole["cells"]
    burden = root["burden"].data
    classes = root["class_count"].data.sum(axis=-1) + root["other_classes_count"].data
    assert np.array_equal(classes, burden)
    assert np.array_equal(root["site_burden"].data.sum(axis=-1), burden)
    assert root["site_burden"].data[..., 1].min() > 0
    every = simulate(problem(record=Record(every=1.0, clones_every=2.0, max_clones=10**6)))[""]
    clones = every["clone_count"].data.sum(axis=-1)
    assert np.array_equal(clones[:, :, -1], burden[:, 0, :, -1])
    found = np.zeros_like(burden[:, 0, :, -1])
    np.add.at(found, (cells["arm_index"].data, cells["replicate_index"].data), 1)
    assert np.array_equal(found, burden[:, 0, :, -1])


def test_few_tracked_classes_leave_the_rest_in_one_count(whole):
    """`max_classes` hides no cell."""
    few = simulate(problem(record=Record(every=1.0, max_classes=3)))[""]
    assert len(few["class"].data) == 3
    total = few["class_count"].data.sum(axis=-1) + few["other_classes_count"].data
    assert np.array_equal(total, whole[""]["burden"].data)
    assert few["other_classes_count"].data.max() > 0


def test_arms_fork_from_the_same_cells_and_part_when_the_drug_comes(whole):
    """Equal to the bit until day 1, when the drug comes; fewer cells after it."""
    burden = whole[""]["burden"].data[:, 0]
    assert np.array_equal(burden[0, :, :2], burden[1, :, :2])
    assert np.all(burden[1, :, 3:5] < burden[0, :, 3:5])
    assert np.all(whole[""]["trigger_cells"].data == burden[0, :, 0])


def test_every_clone_differs_from_its_parent_by_one_step_and_comes_after_it(whole):
    """The lineage table: a parent in the same tumor, born before, one level away, never a switch."""
    table = {name: v.data for name, v in whole["lineage"].items()}
    genome = model().genome
    names = zip(table["arm_index"], table["replicate_index"], table["id"], strict=True)
    rows = {name: k for k, name in enumerate(names)}
    assert len(rows) == len(table["id"])
    levels = genotype.unpack(genome, table["genotype"].astype(np.int64))
    assert len(rows) > 300
    for k, parent in enumerate(table["parent"]):
        arm, replicate = table["arm_index"][k], table["replicate_index"][k]
        if parent < 0:
            assert arm == -1
            continue
        grown = rows.get((-1, replicate, parent))
        origin = rows.get((arm, replicate, parent), grown)
        assert origin is not None
        assert table["birth_time"][origin] <= table["birth_time"][k]
        change = levels[k] - levels[origin]  # the parent may have switched since it was born
        genetic = change[:2]
        assert np.abs(genetic).sum() == 1
        assert table["is_preexisting"][k] == (arm == -1) == (table["birth_time"][k] <= 0)


def test_living_cells_belong_to_clones_of_their_genotype(whole):
    """A cell has the genetic levels of its clone's founder; switches (the last level) are not noted."""
    cells, table = whole["cells"], whole["lineage"]
    genome = model().genome
    born = {}
    for arm, replicate, name, found in zip(
        *(table[n].data for n in ("arm_index", "replicate_index", "id", "genotype")), strict=True
    ):
        born[arm, replicate, name] = genotype.unpack(genome, int(found))[:2].tolist()
    columns = (cells[n].data for n in ("arm_index", "replicate_index", "lineage", "genotype"))
    for arm, replicate, name, found in list(zip(*columns, strict=True))[::37]:
        clone = born.get((arm, replicate, name), born.get((-1, replicate, name)))
        assert clone == genotype.unpack(genome, int(found))[:2].tolist()


@pytest.mark.slow
def test_growth_ends_at_the_size_and_overshoots_by_less_than_one_percent():
    """Day 0 is when the tumor has `treat_at_cells` cells; above 8,192 cells of room at a sync."""
    grown = simulate(problem(model=model(capacity=1e6), treat_at_cells=30_000, max_cells=60_000))
    cells = grown[""]["trigger_cells"].data
    assert np.all((cells >= 30_000) & (cells < 30_300))
    day, size = grown[""]["growth_day"].data, grown[""]["growth_burden"].data
    assert np.nanmax(day) == 0
    assert np.nanmin(day) < -5
    assert np.array_equal(size.max(axis=1), cells)


@pytest.mark.slow
def test_a_single_lane_is_treated_at_the_very_size():
    """Tumors with room for at most 8,192 cells stop growing at the event that reaches the size."""
    small = simulate(problem(treat_at_cells=700, max_cells=5_000, horizon=1.0))
    assert np.all(small[""]["trigger_cells"].data == 700)


def test_founders_that_die_out_are_drawn_again_and_counted():
    """Attempts are geometric with p = (1 - d/b)/(1 - (d/b)^M); b 1, d .5, M 60.

    400 tumors: the mean attempts 2 has standard error .07; limits from the negative binomial law
    at 1e-6; an attempt that is not counted (mean 1) or counted twice is far outside.
    """
    grow = builders.build(birth_rate=1.0, death_rate=0.5)
    done = simulate(
        problem(model=grow, replicates=400, treat_at_cells=60, max_cells=200, horizon=0.5,
                arms=(Arm("none", ()),))
    )  # fmt: skip
    attempts = done[""]["founder_attempts"].data
    p = 0.5 / (1 - 0.5**60)
    failures = int((attempts - 1).sum())
    law = stats.nbinom(len(attempts), p)
    assert law.cdf(failures) > FALSE_FAIL / 2
    assert law.sf(failures - 1) > FALSE_FAIL / 2
    assert np.all(done[""]["trigger_cells"].data == 60)


def test_a_tumor_that_cannot_grow_ends_in_a_sentence(monkeypatch):
    """No endless loop: birth and death in balance never reach the size."""
    monkeypatch.setattr("jaxevo.engines.cells.MAX_GROWTH_DAYS", 30.0)
    still = builders.build(birth_rate=1e-9, death_rate=0.0)
    with pytest.raises(GrowthError, match="treat_at_cells"):
        simulate(problem(model=still, treat_at_cells=1_000, sync=5.0))


@pytest.mark.parametrize("max_cells", [2_000, 12_000])
def test_a_tumor_without_room_stops_alone_and_keeps_what_was_before(max_cells):
    """One lane, and many lanes: the others go on, burden is -1 from then on, nothing wraps."""
    free = builders.build(birth_rate=0.8, death_rate=0.2)
    days = np.log(max_cells * 1.25 / 100) / 0.6
    crowded = problem(
        model=free, founders=(Founder(100, 0, 0),), treat_at_cells=None, max_cells=max_cells,
        replicates=8, horizon=days, arms=(Arm("none", ()),),
        record=Record(every=1.0, clones_every=1.0, snapshot_days=(days,)),
    )  # fmt: skip
    whole = simulate(crowded)
    done = whole[""]
    status, burden = done["status"].data[0, 0], done["burden"].data[0, 0]
    is_cut = status == OUT_OF_ROOM
    assert 0 < is_cut.sum() < 8
    assert np.all(burden[is_cut, -1] == -1)
    assert np.all(burden[~is_cut] >= 0)
    assert np.all(burden[:, 0] == 100)
    known = burden >= 0
    assert burden.max() <= Layout.of(max_cells).room
    last_known = done["time"].data[known.sum(axis=1) - 1]
    assert np.all(done["end_day"].data[0, 0] >= last_known)
    clones = done["clone_count"].data[0]
    assert np.array_equal(
        clones[..., -1, :] == -1, np.broadcast_to(is_cut[:, None], clones[..., -1, :].shape)
    )
    if max_cells == 2_000:  # one exact lane: the bits of those that fit do not know the limit
        roomy = simulate(crowded._replace(max_cells=8_000))[""]["burden"].data[0, 0]
        assert np.array_equal(burden[known], roomy[known])


def test_a_tumor_is_known_until_the_last_sync_with_room_for_it():
    """Also where the interval is long and is run in pieces: `end_day` is a sync, day 0 is kept."""
    free = builders.build(birth_rate=1.0, death_rate=0.1)
    done = simulate(
        problem(model=free, founders=(Founder(4_000, 0, 0),), treat_at_cells=None, max_cells=9_000,
                replicates=2, horizon=28.0, sync=14.0, arms=(Arm("none", ()),),
                record=Record(every=14.0))
    )[""]  # fmt: skip
    assert np.all(done["status"].data == OUT_OF_ROOM)
    assert np.all(done["end_day"].data == 0)
    assert np.array_equal(done["burden"].data[0, 0, 0], [4_000, -1, -1])


def test_more_places_than_can_be_numbered_are_refused():
    """Places on one device are int32: 800 tumors of 2e6 cells end in a sentence before any start."""
    with pytest.raises(MemoryError, match=r"study\.max_cells"):
        simulate(problem(max_cells=2_000_000, replicates=400))


@pytest.mark.parametrize("stop", [500, 9_000])
def test_tumors_stop_within_one_percent_of_the_size_that_escapes(stop):
    """`stop_at_cells`: the very size in one lane, at most 1 % above it in many, whatever the sync."""
    free = builders.build(birth_rate=0.8, death_rate=0.2)
    done = simulate(
        problem(model=free, founders=(Founder(200, 0, 0),), treat_at_cells=None, horizon=20.0,
                sync=2.0, stop_at_cells=stop, max_cells=2 * stop, replicates=6,
                arms=(Arm("none", ()),), record=Record(every=5.0))
    )[""]  # fmt: skip
    cells = done["burden"].data[0, 0, :, -1]
    assert np.all(done["status"].data == STOPPED)
    assert np.all((cells >= stop) & (cells <= stop * (1.01 if stop > 8_192 else 1)))
    assert np.all(done["end_day"].data < 15)
    assert len(np.unique(done["end_day"].data)) == 6


def test_lanes_have_at_least_the_room_that_was_asked_for():
    """No layout holds fewer cells than `max_cells`, up to 10^9, and slots fit the cell draw."""
    for max_cells in (1, 100, 8_192, 8_193, 10**5, 5 * 10**6, 10**8, 10**9):
        layout = Layout.of(max_cells)
        assert layout.num_main * layout.num_slots >= max_cells
        assert layout.num_slots < 2**16
        assert layout.room * 8 <= 2 * 12 * max_cells + 64


def test_extinct_tumors_say_when_their_last_cell_died():
    """Time to extinction of one cell that cannot divide is exponential (mean 1/d = 2 days).

    Kolmogorov-Smirnov at 1e-6 on 2,000 tumors detects a mean 15 % off.
    """
    dying = builders.build(birth_rate=0.0, death_rate=0.5)
    done = simulate(
        problem(model=dying, treat_at_cells=None, horizon=60.0, sync=7.0, replicates=2_000,
                max_cells=10, arms=(Arm("none", ()),), record=Record(every=30.0))
    )[""]  # fmt: skip
    assert np.all(done["status"].data == EXTINCT)
    assert np.all(done["is_extinct"].data)
    assert np.all(done["burden"].data[..., -1] == 0)
    days = done["end_day"].data.ravel()
    assert stats.kstest(days * 0.5, "expon").pvalue > FALSE_FAIL
    assert stats.kstest(days * 0.5 * 1.15, "expon").pvalue < FALSE_FAIL


def test_a_study_that_is_stopped_keeps_what_it_has(whole):
    """`should_stop` between calls: running tumors are interrupted, earlier records are unchanged."""
    calls = []

    def should_stop() -> bool:
        calls.append(1)
        return len(calls) > 45

    cut = simulate(problem(), intervals_per_call=1, should_stop=should_stop)[""]
    known = cut["burden"].data >= 0
    assert np.all(cut["status"].data == INTERRUPTED)
    assert 0 < known.sum() < known.size
    assert np.array_equal(cut["burden"].data[known], whole[""]["burden"].data[known])


def test_a_study_that_is_stopped_at_once_has_its_founders():
    """`should_stop` before the first interval: nothing is simulated, nothing fails."""
    cut = simulate(problem(), should_stop=lambda: True)[""]
    assert np.all(cut["status"].data == INTERRUPTED)
    assert np.all(cut["burden"].data[..., 0] == 1)
    assert np.all(cut["burden"].data[..., 1:] == -1)


@pytest.mark.slow
def test_the_error_of_a_sync_is_of_first_order():
    """Logistic growth with crowding held between syncs: halving the sync halves the bias.

    The law without noise is N(t) = K*/(1 + (K*/N0 - 1) e^{-rt}); at 10^5 cells noise is far below
    the bias. Ratio of the biases at .5 and .25 days within 1.6 .. 2.4.
    """
    b, d, capacity, start, days = 0.8, 0.2, 4e5, 20_000, 6.0
    crowd = builders.build(birth_rate=b, death_rate=d, crowding="logistic", capacity=capacity)
    limit, r = capacity * (1 - d / b), b - d
    expected = limit / (1 + (limit / start - 1) * np.exp(-r * days))
    bias = []
    for sync in (0.5, 0.25):
        done = simulate(
            problem(model=crowd, founders=(Founder(start, 0, 0),), treat_at_cells=None, horizon=days,
                    sync=sync, max_cells=400_000, replicates=4, arms=(Arm("none", ()),),
                    record=Record(every=days))
        )  # fmt: skip
        bias.append(done[""]["burden"].data[..., -1].mean() / expected - 1)
    assert bias[0] > 0.005
    assert 1.6 < bias[0] / bias[1] < 2.4


def test_rates_are_averages_over_the_interval_and_not_those_of_its_start():
    """A drug that is gone in minutes kills its integral, also when a sync interval is much longer.

    One bolus, half-life 5 minutes, intervals of 6 hours; survivors of 40,000 cells against
    exp(-integral dmax C/(C + EC50)) by fine quadrature; binomial limits at 1e-6.
    """
    rate = np.log(2) * 288  # 1/day
    quick = builders.build(
        drugs=("x",), targets=("T",), kd={"T": {"x": 1.0}}, birth_rate=0.0, death_rate=0.0,
        max_death_rate=60.0, is_prescribed=0.0, clearance=rate, central_volume=1.0, molar_mass=1e3,
    )  # fmt: skip
    done = simulate(
        problem(model=quick, founders=(Founder(40_000, 0, 0),), treat_at_cells=None, horizon=1.0,
                sync=0.25, max_cells=40_000, replicates=1, arms=(Arm("bolus", (Dose(0, 0.0, 5.0),)),))
    )  # fmt: skip
    kill = 60.0 / rate * np.log((5 + 1) / (5 * np.exp(-rate) + 1))
    survivors = int(done[""]["burden"].data.ravel()[-1])
    law = stats.binom(40_000, np.exp(-kill))
    assert law.ppf(FALSE_FAIL / 2) <= survivors <= law.ppf(1 - FALSE_FAIL / 2)
    assert abs(kill * 40_000 * np.exp(-kill) * 0.05) > 6 * law.std()  # 5 % of the kill is seen


def test_no_cell_is_left_of_nothing():
    """All dead stays free of NaN, and an extinct tumor has no class and no clone."""
    dying = model(birth_rate=0.0, death_rate=5.0)
    done = simulate(
        problem(model=dying, founders=(Founder(50, 0, 0),), treat_at_cells=None, horizon=8.0)
    )
    root = done[""]
    assert np.all(root["class_count"].data[..., -1, :] == 0)
    for name, variable in root.items():
        if variable.data.dtype.kind == "f" and "growth" not in name:
            assert np.isfinite(variable.data).all(), name
    assert jnp.asarray(root["burden"].data).min() == 0
