"""The `clones` engine as a whole: growth, arms, patients, lineages, hand-over, what is refused."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Immigration, Jump, Problem, Record, Refused
from jaxevo.engines.clones import GrowthError, simulate
from jaxevo.engines.handover import state_of
from jaxevo.engines.tumors import EXTINCT, INTERRUPTED, STOPPED
from jaxevo.state import Rates
from tests import builders, laws
from tests.statistics import assert_law, assert_probability

ALTERATIONS = {
    "mutant": {"inheritance": "mutation", "first_gain_probability": 0.01, "kd_fold": 50.0},
    "asleep": {
        "inheritance": "epigenetic",
        "on_rate": 0.02,
        "off_rate": 0.1,
        "division_factor": 0.1,
    },
}
PLAIN = {"mutant": {"inheritance": "mutation", "first_gain_probability": 1e-3}}


def model(**options):
    """Two sites, one drug; days, cells, uM."""
    chosen = {
        "sites": ("first", "second"),
        "drugs": ("x",),
        "targets": ("T",),
        "alterations": ALTERATIONS,
        "kd": {"T": {"x": 1.0}},
        "birth_rate": 0.8,
        "death_rate": 0.2,
        "max_death_rate": 0.9,
        "migration_rate": {"first": {"second": 0.03}, "second": {"first": 0.01}},
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
        "max_cells": 1,
        "treat_at_cells": 3_000,
        "record": Record(every=1.0, clones_every=2.0),
    }
    return Problem(**(chosen | options))


def one_class(birth, death, **options) -> Problem:
    """Cells without alterations that start on day 0."""
    plain = model(birth_rate=birth, death_rate=death, alterations={}, sites=("s",),
                  migration_rate=None)  # fmt: skip
    chosen = {"model": plain, "treat_at_cells": None, "arms": (Arm("none", ()),)}
    return problem(**(chosen | options))


@pytest.fixture(scope="module")
def run():
    """The study above."""
    return simulate(problem())


def of(trajectory, name: str) -> np.ndarray:
    return trajectory[""][name].data


def columns(trajectory, group: str) -> dict[str, np.ndarray]:
    return {name: variable.data for name, variable in trajectory[group].items()}


def assert_same(first, second) -> None:
    for group, variables in first.items():
        for name, variable in variables.items():
            other = second[group][name].data
            assert variable.data.tobytes() == other.tobytes(), f"{group}/{name}"


# --- bits ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_replicate_does_not_depend_on_the_others(run):
    """Reliability promise 2: replicate 1 alone is replicate 1 of three; calls may be cut anywhere."""
    alone = simulate(problem(), replicates=range(1, 2), intervals_per_call=1)
    for name in ("burden", "class_count", "site_burden", "end_day", "births", "deaths"):
        assert np.array_equal(of(run, name)[:, :, 1:2], of(alone, name)), name
    mine, its = columns(run, "lineage"), columns(alone, "lineage")
    here = mine["replicate_index"] == 1
    for name in ("id", "parent", "birth_time", "end_time"):
        assert np.array_equal(mine[name][here], its[name], equal_nan=True), name


def test_equal_arms_are_equal_and_the_seed_matters(run):
    """Common random numbers: arms share their words."""
    twice = simulate(problem(arms=(Arm("a", ()), Arm("b", ()))))
    assert np.array_equal(of(twice, "class_count")[0], of(twice, "class_count")[1])
    assert np.array_equal(of(twice, "class_count")[0], of(run, "class_count")[0])
    other = simulate(problem(seed=12))
    assert not np.array_equal(of(other, "burden"), of(run, "burden"))


@pytest.mark.slow
def test_patients_are_simulated_each_by_its_own_model():
    """A patient's bits do not depend on which others there are; the first is the study itself."""
    slow = model(birth_rate=0.6)
    both = simulate(problem(patients=(model(), slow, model())))
    assert both[""]["burden"].data.shape[:3] == (2, 3, 3)
    assert both[""]["trigger_cells"].dims == ("patient", "replicate")
    single = simulate(problem())
    assert np.array_equal(of(both, "burden")[:, :1], of(single, "burden"))
    assert not np.array_equal(of(both, "burden")[:, 0], of(both, "burden")[:, 2])
    assert np.nanmin(of(both, "growth_day")[1]) < np.nanmin(of(both, "growth_day")[0])
    assert set(columns(both, "lineage")["patient_index"]) == {0, 1, 2}


# --- courses ---------------------------------------------------------------------------------------


def test_sizes_agree_with_each_other(run):
    """Burden is the sum over sites and over classes; the state holds the last burden."""
    burden = of(run, "burden")
    assert np.array_equal(burden, of(run, "site_burden").sum(axis=-1))
    assert np.array_equal(burden, of(run, "class_count").sum(-1) + of(run, "other_classes_count"))
    assert np.array_equal(burden[..., -1] - burden[..., 0], of(run, "births") - of(run, "deaths"))
    state = columns(run, "state")
    place = (state["arm_index"], state["patient_index"], state["replicate_index"])
    total = np.zeros(burden.shape[:3], np.int64)
    np.add.at(total, place, state["cells"])
    assert np.array_equal(total, burden[..., -1])
    sizes = of(run, "clone_count").sum(axis=-1)
    assert np.array_equal(sizes, of(run, "burden")[:, 0][:, :, ::2])


@pytest.mark.slow
def test_growth_ends_at_the_size_with_less_than_one_percent_more():
    """Day 0 is when the tumor has the cells; the overshoot is .9 % at most in the mean (MODEL.md)."""
    grown = simulate(problem(treat_at_cells=10**9, horizon=0.5, replicates=40))
    over = of(grown, "trigger_cells") / 1e9 - 1
    assert over.min() >= 0
    assert over.mean() < 0.009
    assert over.max() < 0.012
    assert (of(grown, "burden")[0, 0, :, 0] == of(grown, "trigger_cells")).all()
    day = of(grown, "growth_day")
    assert np.nanmax(day) == 0
    assert np.nanmin(day) < -20


@pytest.mark.slow
def test_founders_that_die_out_are_drawn_again():
    """Geometric with success 1 - d/b: half of all founders fail at b .8, d .4."""
    grown = simulate(one_class(0.8, 0.4, treat_at_cells=2_000, horizon=1.0, replicates=2_000))
    attempts = of(grown, "founder_attempts")
    assert_probability(attempts == 1, 0.5, detect=0.09)
    assert_probability(attempts <= 3, 0.875, detect=0.07)


@pytest.mark.slow
def test_a_tumor_that_cannot_grow_is_said_to_be_so():
    """More deaths than births."""
    with pytest.raises(GrowthError, match="raise the birth rate"):
        simulate(one_class(0.01, 0.5, treat_at_cells=10**6, sync=100.0, replicates=1))


@pytest.mark.slow
def test_tumors_end_at_a_size_or_without_cells():
    """`stop_at_cells` freezes a tumor, an extinct one stays empty; both have their last day."""
    found = simulate(
        one_class(0.5, 0.3, horizon=60.0, sync=7.0, replicates=60, stop_at_cells=5_000)
    )
    status, burden, day = (of(found, x)[0, 0] for x in ("status", "burden", "end_day"))
    assert {EXTINCT, STOPPED} <= set(status.tolist())
    assert (burden[status == STOPPED, -1] >= 5_000).all()
    assert (burden[status == STOPPED, -1] < 5_500).all()
    assert (burden[status == EXTINCT, -1] == 0).all()
    assert np.array_equal(of(found, "is_extinct")[0, 0], status == EXTINCT)
    assert (day[(status == STOPPED) | (status == EXTINCT)] < 60).all()


def test_stopping_marks_what_is_unknown():
    """Interrupted after two records: -1 from there on."""
    calls = iter([False] * 60 + [True] * 1000)
    found = simulate(problem(treat_at_cells=None, founders=(Founder(500, 0, 0),)),
                     intervals_per_call=1, should_stop=lambda: next(calls, True))  # fmt: skip
    assert not (of(found, "status") == INTERRUPTED).any()
    days = [0.0]
    found = simulate(problem(treat_at_cells=None, founders=(Founder(500, 0, 0),)),
                     intervals_per_call=1, progress=lambda now: days.append(now.day),
                     should_stop=lambda: len(days) > 2)  # fmt: skip
    assert (of(found, "status") == INTERRUPTED).all()
    assert (of(found, "burden")[..., :3] >= 0).all()
    assert (of(found, "burden")[..., 3:] == -1).all()


def test_progress_is_reported():
    """Growth, then treatment, up to 1."""
    seen = []
    simulate(problem(), progress=seen.append)
    assert {step.phase for step in seen} == {"growth", "treatment"}
    assert seen[-1].fraction == pytest.approx(1.0)
    assert seen[-1].day == 6.0


# --- clones ----------------------------------------------------------------------------------------


def test_every_clone_has_an_origin(run):
    """One row per clone, whose parent is there before it; sizes and rows name the same clones."""
    rows = columns(run, "lineage")
    key = np.stack([rows[x] for x in ("arm_index", "replicate_index", "id")])
    assert len(np.unique(key, axis=1).T) == key.shape[1]
    born = {tuple(k): day for k, day in zip(key.T.tolist(), rows["birth_time"], strict=True)}
    for k, parent, day in zip(key.T.tolist(), rows["parent"], rows["birth_time"], strict=True):
        if parent >= 0:
            assert born[(k[0], k[1], int(parent))] <= day + 0.5
    assert (rows["is_preexisting"] | (rows["birth_time"] > 0)).all()
    founder = (rows["parent"] == -1) & (rows["genotype"] == 0) & (rows["site_index"] == 0)
    assert founder.sum() == 2 * 3
    state = columns(run, "state")
    listed = set(map(tuple, key.T.tolist()))
    for arm, replicate, clone in zip(
        state["arm_index"], state["replicate_index"], state["clone"], strict=True
    ):
        assert (arm, replicate, clone) in listed


def test_mutants_of_treatment_are_told_from_those_before():
    """Without growth all mutants are acquired; descendants keep the bit, switches keep it too."""
    found = simulate(problem(treat_at_cells=None, founders=(Founder(2_000, 0, 0),)))
    state = columns(found, "state")
    mutant = state["genotype"] % 2 == 1  # the first alteration
    assert mutant.any()
    assert not state["is_preexisting"][mutant].any()
    assert state["is_preexisting"][~mutant].all()
    assert (state["genotype"][state["is_preexisting"]] == 2).any()


@pytest.mark.slow
def test_the_end_of_a_clone_is_its_last_day():
    """A drug that kills all but mutants: the clone of the founders ends, on one day in each arm."""
    strong = model(alterations=PLAIN, max_death_rate=6.0, sites=("s",), migration_rate=None)
    drug = Arm("drug", (), (Level(0, 0.0, 6.0, 1e3),))
    found = simulate(problem(model=strong, arms=(Arm("none", ()), drug)))
    rows = columns(found, "lineage")
    founders = (rows["genotype"] == 0) & (rows["arm_index"] >= 0)
    ended = ~np.isnan(rows["end_time"])
    assert (ended[founders] == (rows["arm_index"][founders] == 1)).all()
    assert (rows["end_time"][founders & ended] > 0).all()


# --- what comes and goes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_cells_that_leave_the_set_of_classes_are_counted():
    """At most one alteration: kept and leaked cells together are founders + births - deaths."""
    two = {name: {"inheritance": "mutation", "first_gain_probability": 0.05} for name in "ab"}
    limited = problem(model=model(alterations=two), max_alterations=1, treat_at_cells=None,
                      founders=(Founder(300, 0, 0),), replicates=20)  # fmt: skip
    found = simulate(limited)
    leaked, burden = of(found, "leaked_cells"), of(found, "burden")[..., -1]
    assert (leaked > 0).all()
    assert np.array_equal(burden + leaked, 300 + of(found, "births") - of(found, "deaths"))
    assert 3 not in of(found, "class")
    assert (of(simulate(limited._replace(max_alterations=None)), "leaked_cells") == 0).all()


@pytest.mark.slow
def test_immigrants_are_counted_and_fill_an_empty_site():
    """Batches of four, .5 a day for 6 days: Poisson events, mean 3; no tumor counts as extinct."""
    seeded = one_class(0.0, 0.6, founders=(Founder(1, 0, 0),), replicates=4_000,
                       immigration=(Immigration(0.5, 0, 0, 4),))  # fmt: skip
    found = simulate(seeded)
    events = of(found, "immigrants")[0, 0] / 4
    values = np.arange(40)
    poisson = stats.poisson.pmf(values, 3.0)
    assert_law(events, laws.Law(values, poisson / poisson.sum()), detect=0.1)
    assert np.array_equal(of(found, "is_extinct"), of(found, "burden")[..., -1] == 0)


@pytest.mark.slow
def test_a_jump_thins_each_cell_on_its_own():
    """Surgery on day 2 keeps a fifth at the only site: binomial, in the arm that has it."""
    arms = (Arm("none", ()), Arm("cut", (), (), (Jump(2.0, (0.2,)),)))
    found = simulate(
        one_class(0.0, 0.0, arms=arms, founders=(Founder(50, 0, 0),), replicates=4_000)
    )
    burden = of(found, "burden")[:, 0]
    assert (burden[0] == 50).all()
    assert (burden[1, :, :2] == 50).all()
    values = np.arange(51)
    assert_law(burden[1, :, -1], laws.Law(values, stats.binom.pmf(values, 50, 0.2)), detect=0.1)


# --- the user's own law ----------------------------------------------------------------------------


def logistic_rates(params, levels, environment):
    """Logistic crowding as a custom law with feedback."""
    full = environment.population.sum() / params["capacity"]
    return Rates(
        birth_rate=params["birth"] * jax.numpy.maximum(0.0, 1 - full), death_rate=params["death"]
    )


@pytest.mark.slow
def test_a_custom_law_with_feedback_is_exact_with_single_events():
    """E14, b(1 - n/K) with K 20 from 10 cells: the whole law of day 6 from the master equation."""
    params = {"capacity": np.float64(20), "birth": np.float64(1), "death": np.float64(0.5)}
    own = custom_model({}, logistic_rates, params, has_feedback=True)
    found = simulate(problem(model=own, founders=(Founder(10, 0, 0),), treat_at_cells=None,
                             arms=(Arm("none", ()),), sync=6.0, replicates=10_000))  # fmt: skip
    law = laws.Logistic(1.0, 0.5, 20).law(10, 6)
    assert_law(of(found, "burden")[0, 0, :, -1], law, detect=0.055)


@pytest.mark.slow
def test_extra_variables_move_with_the_cells():
    """y' = n/1000 - y beside 1e6 cells that stay: y tends to 1000 and births follow it."""

    def rates(params, levels, environment):
        return Rates(birth_rate=0.1 * environment.extra[0] / 1000, death_rate=0.1)

    def drift(params, day, population, extra, concentration):
        return population.sum() / 1000 - extra

    own = custom_model({}, rates, drift=drift, start=(1000.0,), has_feedback=True)
    found = simulate(problem(model=own, founders=(Founder(10**6, 0, 0),), treat_at_cells=None,
                             arms=(Arm("none", ()),), replicates=50))  # fmt: skip
    off = of(found, "burden")[0, 0, :, -1] / 1e6 - 1
    assert abs(off).max() < 0.02


# --- hand-over -------------------------------------------------------------------------------------


def test_a_run_can_be_continued_from_its_state(run):
    """The state of the end is the start of the next run: same cells, same clones, days go on."""
    state = state_of(run, "drug")
    on = simulate(problem(arms=(Arm("none", ()),)), start=state)
    assert np.array_equal(of(on, "burden")[0, 0, :, 0], of(run, "burden")[1, 0, :, -1])
    before, after = columns(run, "state"), columns(on, "lineage")
    here = before["arm_index"] == 1
    first = after["birth_time"] <= 0
    assert first.sum() == here.sum()
    assert set(after["id"][first]) == set(before["clone"][here])


@pytest.mark.slow
def test_growth_alone_gives_the_tumors_of_day_0():
    """A horizon of 0: growth, and the state of day 0."""
    grown = simulate(problem(arms=(Arm("growth", ()),), horizon=0.0, record=Record()))
    state = state_of(grown)
    assert [sum(row.cells for row in rows) for rows in state.tumors] == of(
        grown, "trigger_cells"
    ).tolist()


# --- refusals --------------------------------------------------------------------------------------


def test_single_cells_are_refused():
    """There are none to list."""
    with pytest.raises(Refused, match="choose the cells engine"):
        simulate(problem(record=Record(snapshot_days=(1.0,))))


@pytest.mark.slow
def test_more_cells_than_can_be_counted_are_refused():
    """Beyond 2^53 a float64 is no count."""
    with pytest.raises(OverflowError, match="counts exactly"):
        simulate(one_class(3.0, 0.0, horizon=20.0, founders=(Founder(10**6, 0, 0),)))
