"""Cell lines: cells of one grown tumor, none of them twice; and what does not change a bit."""

import numpy as np
import pytest
from scipy import stats

from jaxevo import screen
from jaxevo.engines import clones, meanfield
from jaxevo.engines.base import Arm, Founder, Immigration, Problem
from jaxevo.engines.sampled import samples
from jaxevo.screen import Agent, Lines, ScreenPlan
from jaxevo.screen.design import exposed, grown
from jaxevo.screen.follow import lines_of
from tests import builders
from tests.laws import Law
from tests.statistics import assert_mean, assert_variance


def test_a_sample_follows_the_hypergeometric_law():
    """Half of 40 cells, 10 of them marked: with replacement the variance would be 1.95 times as large.

    Shift of the mean by 0.5 and variance by 1.9 would be found; 600 seeds, false fails below 1e-6 each.
    """
    marked = [int(samples(seed, np.array([30, 10]), 1, 20)[0, 1]) for seed in range(600)]
    values = np.arange(11)
    law = Law(values, stats.hypergeom.pmf(values, 40, 10, 20))
    assert_mean(marked, law, detect=0.5)
    assert_variance(marked, law, detect=0.9)


def test_no_cell_is_taken_twice():
    """Of kinds of one cell each, a sample has none or one, and two samples share none."""
    found = samples(7, np.ones(1000, int), 5, 100)
    assert (found.sum(axis=1) == 100).all()
    assert found.sum(axis=0).max() == 1


def test_the_first_sample_does_not_depend_on_how_many_there_are():
    cells = np.array([500, 300, 200])
    np.testing.assert_array_equal(samples(3, cells, 1, 90), samples(3, cells, 5, 90)[:1])
    assert (samples(3, cells, 1, 90) != samples(4, cells, 1, 90)).any()


def test_more_than_half_of_a_tumor_is_refused():
    with pytest.raises(ValueError, match="at most half"):
        samples(1, np.array([10, 9]), 2, 5)


# --- the problem that is simulated -----------------------------------------------------------------

MODEL = builders.build(
    sites=("a", "b"), drugs=("x",), targets=("X",), kd={"X": {"x": 1.0}}, max_death_rate=0.5,
    migration_rate={"a": {"b": 0.1}}, delivered_fraction=0.1, equilibration_rate=2.0,
    vessel_distance=80.0, unbound_fraction=0.05, is_prescribed=0.0, clearance=20.0,
    alterations={"R": {"kd_fold": {"x": 50.0}, "first_gain_probability": 1e-2}},
)  # fmt: skip
PROBLEM = Problem(
    MODEL, (Founder(5, 0, 0),), (Arm("unread", ()),), seed=8, replicates=3, horizon=50.0, sync=1.0,
    max_cells=10**9, treat_at_cells=300, immigration=(Immigration(5.0),), stop_at_cells=400,
    exact_below=0,  # one kernel less to compile
)  # fmt: skip
PLAN = ScreenPlan(
    (Agent("x", 0, (0.3, 1.0, 3.0)),), order=1, days=2.0, replicates=6, lines=Lines(3, 40, 2000)
)


def run(plan: ScreenPlan, problem: Problem = PROBLEM) -> screen.Screened:
    found = screen.follow(problem, plan, clones.simulate)
    assert found is not None
    return found


def test_every_line_starts_from_as_many_cells_with_the_genotypes_of_the_tumor():
    """Altered cells come over, at both sites, and lines differ."""
    tumor = clones.simulate(grown(PROBLEM, PLAN))
    lines = lines_of(tumor, PLAN, PROBLEM.seed)
    assert [sum(f.count for f in line) for line in lines] == [40, 40, 40]
    assert {f.genotype for line in lines for f in line} == {0, 1}
    assert {f.site for line in lines for f in line} == {0, 1}
    assert len(set(lines)) == 3
    assert (run(PLAN).start == 40).all()


@pytest.mark.slow
def test_the_tumor_itself_grows_first_and_is_the_same_for_all_combinations():
    found = run(PLAN._replace(lines=None))
    assert found.cells.shape == (4, 1, 6)
    assert (found.start >= 300).all()
    assert (found.cells[0] > 400).any()  # nobody stops it


def test_levels_are_those_at_the_sites():
    """No blood, delivery or crowded vessels in between: the mean course is that of h = 0.5 c/(c + 1)."""
    sensitive = builders.build(
        sites=("a", "b"), drugs=("x",), targets=("X",), kd={"X": {"x": 1.0}}, max_death_rate=0.5,
        delivered_fraction=0.1, equilibration_rate=2.0, vessel_distance=80.0, unbound_fraction=0.05,
        is_prescribed=0.0, clearance=20.0, barrier_permeability=0.01, half_delivery=100.0,
    )  # fmt: skip
    problem = PROBLEM._replace(model=sensitive, treat_at_cells=None, immigration=())
    burden = meanfield.simulate(exposed(problem, PLAN._replace(lines=None)))[""]["burden"].data
    hazard = -np.log(burden[1:, 0, 0, -1] / burden[0, 0, 0, -1]) / 2
    np.testing.assert_allclose(
        hazard, 0.5 * np.array([0.3, 1, 3]) / np.array([1.3, 2, 4]), rtol=1e-5
    )


@pytest.mark.slow
def test_without_origins_the_same_cells_are_counted():
    """A screen writes down no lineage and no state; it changes no bit of what is counted."""
    problem = exposed(PROBLEM, PLAN._replace(lines=None))
    bare = clones.simulate(problem)
    whole = clones.simulate(problem._replace(record=problem.record._replace(origins=True)))
    assert set(bare) == {""}
    assert set(whole) == {"", "lineage", "state"}
    np.testing.assert_array_equal(bare[""]["burden"].data, whole[""]["burden"].data)


@pytest.mark.slow
def test_bits_do_not_depend_on_the_batch():
    """Fewer replicates, levels or lines leave the cells of the others as they are."""
    whole = run(PLAN)
    few = run(PLAN._replace(replicates=2))
    np.testing.assert_array_equal(few.cells, whole.cells[:, :, :2])
    one = run(PLAN._replace(agents=(Agent("x", 0, (1.0,)),)))
    np.testing.assert_array_equal(one.cells, whole.cells[[0, 2]])
    first = run(PLAN._replace(lines=Lines(1, 40, 2000)))
    np.testing.assert_array_equal(first.cells, whole.cells[:, :1])
