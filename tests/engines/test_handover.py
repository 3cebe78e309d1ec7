"""Hand-over between `clones` and `cells`: the law of one process, and one lineage."""

import numpy as np
import pytest

from jaxevo.engines import cells, clones
from jaxevo.engines.base import Arm, Founder, Problem, Record, Refused
from jaxevo.engines.handover import State, StateRow, simulate_handed_over, state_of
from tests import builders, laws
from tests.statistics import assert_law, assert_mean, assert_probability

REPLICATES = 3_000
STEPS = {"hits": {"max_level": 3, "first_gain_probability": 0.05, "gain_probability": 0.05}}
LADDER = laws.process(4.0, np.full(4, 0.7), 0.2, np.diag([0.05] * 3, 1))  # as `battery.LADDER`


def problem(**options) -> Problem:
    """Ten founders, three steps in a row, two days at a time; every tumor event by event."""
    chosen = {
        "model": builders.build(birth_rate=0.7, death_rate=0.2, alterations=STEPS),
        "founders": (Founder(10, 0, 0),),
        "arms": (Arm("none", ()),),
        "seed": 3,
        "replicates": REPLICATES,
        "horizon": 2.0,
        "sync": 1.0,
        "max_cells": 1_000,
        "record": Record(every=1.0, snapshot_days=(2.0,)),
        "exact_below": 10**6,
    }
    return Problem(**(chosen | options))


@pytest.fixture(scope="module")
def from_clones():
    """Two days of counts, and two days of cells after them."""
    first = clones.simulate(problem(record=Record(every=1.0)))
    return first, cells.simulate(problem(seed=4), start=state_of(first))


@pytest.fixture(scope="module")
def from_cells():
    """Two days of cells, and two days of counts after them."""
    first = cells.simulate(problem())
    after = problem(seed=4, record=Record(every=1.0))
    return first, clones.simulate(after, start=state_of(first, "none"))


def by_class(done) -> np.ndarray:
    """Cells of every class at the horizon, [replicate, class]; a class that none has is not there."""
    found = np.zeros((len(done[""]["replicate"].data), 4), np.int64)
    found[:, done[""]["class"].data] = done[""]["class_count"].data[0, 0, :, -1]
    return found


@pytest.mark.parametrize(
    "order", ["from_clones", pytest.param("from_cells", marks=pytest.mark.slow)]
)
def test_two_engines_one_after_the_other_follow_the_law_of_one_process(order, request):
    """E07 after four days: P(no k-hit cell) for each k, mean and law of the cells without a hit."""
    first, second = request.getfixturevalue(order)
    start = second[""]["burden"].data[..., 0]
    assert np.array_equal(start, first[""]["burden"].data[..., -1])
    found = by_class(second)
    for hits, detect in ((1, 0.06), (2, 0.08), (3, 0.05)):
        none = laws.probability_of_none(LADDER, [10, 0, 0, 0], [hits])
        assert_probability(found[:, hits] == 0, none, detect=detect)
    law = laws.marginal(LADDER, [10, 0, 0, 0], [1, 0, 0, 0])
    assert_mean(found[:, 0], law, detect=0.14 * law.variance**0.5)
    assert_law(found[:, 0], law, detect=0.13)


def rows_of(done) -> dict[str, np.ndarray]:
    return {name: v.data for name, v in done["lineage"].items()}


def assert_is_one_tree(table: dict[str, np.ndarray]) -> None:
    """Names are unique; every parent exists in the same tumor and was born before its child."""
    names = list(zip(table["replicate_index"].tolist(), table["id"].tolist(), strict=True))
    born = dict(zip(names, table["birth_time"].tolist(), strict=True))
    assert len(born) == len(names)
    for (replicate, _), parent, day in zip(
        names, table["parent"].tolist(), table["birth_time"].tolist(), strict=True
    ):
        if parent >= 0:
            assert born[replicate, parent] <= day + 1e-6


def test_lineages_join_where_cells_go_on_from_counts(from_clones):
    """All clones of the first run are there, two days earlier; those after day 0 have other names."""
    first, second = map(rows_of, from_clones)
    assert_is_one_tree(second)
    before = second["arm_index"] == -1
    assert before.sum() == len(first["id"])
    for name in ("replicate_index", "id", "parent", "genotype", "is_preexisting"):
        order = [np.lexsort((t["id"], t["replicate_index"])) for t in (first, second)]
        kept = order[1][before[order[1]]]
        np.testing.assert_array_equal(second[name][kept], first[name][order[0]])
    assert np.all(second["birth_time"][before] <= 1e-6)
    assert np.all(second["birth_time"][~before] > 0)
    assert not np.any(second["is_preexisting"][~before])


def test_living_cells_belong_to_clones_of_both_runs(from_clones):
    """Every cell names a row of the lineage with its genotype."""
    _, second = from_clones
    table, found = rows_of(second), {name: v.data for name, v in second["cells"].items()}
    names = zip(table["replicate_index"].tolist(), table["id"].tolist(), strict=True)
    founded = dict(zip(names, table["genotype"].tolist(), strict=True))
    columns = (found[n].tolist() for n in ("replicate_index", "lineage", "genotype"))
    assert all(founded[r, clone] == kind for r, clone, kind in zip(*columns, strict=True))
    old = np.isin(found["lineage"], table["id"][table["arm_index"] == -1])
    assert 0 < np.mean(old) < 1


def test_counts_that_go_on_from_cells_keep_what_arose_before(from_cells):
    """Clones end after they were born; a cell is pre-existing in the state as its clone was."""
    first, second = from_cells
    state = state_of(first)
    assert state.day == 2.0
    told = {(r, i): p for r, i, p in zip(*(state.lineage[n].tolist() for n in (
        "replicate_index", "id", "is_preexisting")), strict=True)}  # fmt: skip
    for replicate, rows in enumerate(state.tumors):
        assert sum(row.cells for row in rows) == first[""]["burden"].data[0, 0, replicate, -1]
        assert all(row.is_preexisting == told[replicate, row.clone] for row in rows)
    table = rows_of(second)
    ended = ~np.isnan(table["end_time"])
    assert np.all(table["end_time"][ended] >= table["birth_time"][ended] - 1e-9)
    acquired = {row.is_preexisting for rows in state.tumors for row in rows}
    assert acquired == {True, False}


def test_counts_that_go_on_from_cells_write_their_lineage_on(from_cells):
    """Clones of one genotype and origin are one: the first birth, the parent's kind, the last end."""
    first, second = (rows_of(done) for done in from_cells)
    assert_is_one_tree(second)
    here = np.isin(first["arm_index"], (0, -1))
    first = {name: column[here] for name, column in first.items()}
    kind = ("replicate_index", "genotype", "is_preexisting")

    def births(table, rows) -> dict:
        found: dict = {}
        for i in np.flatnonzero(rows):
            key = tuple(int(table[name][i]) for name in kind)
            found[key] = min(found.get(key, np.inf), float(table["birth_time"][i]))
        return found

    expected = births(first, np.ones(len(first["id"]), bool))
    obtained = births(second, second["birth_time"] <= 0)
    assert obtained.keys() == expected.keys()
    assert all(abs(obtained[key] - (expected[key] - 2.0)) < 1e-5 for key in expected)
    place = {(r, i): g for r, i, g in zip(*(second[n].tolist() for n in (
        "replicate_index", "id", "genotype")), strict=True)}  # fmt: skip
    child = (second["parent"] >= 0) & (second["birth_time"] <= 0)
    steps = {second["genotype"][i] - place[second["replicate_index"][i], second["parent"][i]]
             for i in np.flatnonzero(child)}  # fmt: skip
    assert child.any()
    assert steps <= {0, 1}, "a hit more than its parent, or the same genotype after day 0"


def test_a_replicate_goes_on_alike_alone_and_in_the_batch(from_clones):
    """0 differing bits: which other replicates are in the state does not matter."""
    first, second = from_clones
    alone = cells.simulate(problem(seed=4), start=state_of(first), replicates=range(7, 8))
    for name in ("burden", "births", "deaths", "end_day"):
        assert np.array_equal(alone[""][name].data, second[""][name].data[:, :, 7:8])
    mine = second["lineage"]["replicate_index"].data == 7
    for name in ("id", "parent", "birth_time"):
        assert np.array_equal(alone["lineage"][name].data, second["lineage"][name].data[mine])


@pytest.mark.slow
def test_grown_by_counts_and_treated_cell_by_cell():
    """One trajectory: growth on negative days, arms that start alike, one lineage."""
    study = problem(
        replicates=20, treat_at_cells=300, founders=(Founder(1, 0, 0),), horizon=2.0,
        arms=(Arm("one", ()), Arm("two", ())), max_cells=5_000,
    )  # fmt: skip
    done = simulate_handed_over(study)
    root = done[""]
    start = root["burden"].data[:, 0, :, 0]
    assert np.array_equal(start[0], start[1])
    assert np.array_equal(start[0], root["trigger_cells"].data)
    assert np.all((start >= 300) & (start < 310))
    assert np.nanmin(root["growth_day"].data) < -4
    assert np.all(root["founder_attempts"].data >= 1)
    assert np.any(root["founder_attempts"].data > 1)
    table = rows_of(done)
    assert_is_one_tree({name: x[table["arm_index"] <= 0] for name, x in table.items()})
    assert np.array_equal(table["is_preexisting"], table["arm_index"] == -1)
    alone = simulate_handed_over(study, replicates=range(3, 5))
    assert np.array_equal(alone[""]["burden"].data, root["burden"].data[:, :, 3:5])


def test_growth_that_is_stopped_is_reported_as_interrupted():
    """`should_stop` while counts grow: no size is known, and no tumor passes for extinct."""
    study = problem(replicates=4, treat_at_cells=300, founders=(Founder(1, 0, 0),))
    done = simulate_handed_over(study, should_stop=lambda: True)[""]
    assert np.all(done["status"].data == 4)
    assert np.all(done["burden"].data == -1)
    assert not np.any(done["is_extinct"].data)


def test_a_state_without_a_lineage_starts_one():
    """Rows alone: their clones arise on the day of the state, and keep their names."""
    rows = (StateRow(0, 0, 5, True, 2), StateRow(1, 0, 3, False, 900), StateRow(1, 0, 2, True, 2))
    done = cells.simulate(problem(replicates=1), start=State(7.0, (rows,)))
    table = rows_of(done)
    before = table["arm_index"] == -1
    np.testing.assert_array_equal(table["id"][before], [2, 900])
    np.testing.assert_array_equal(table["is_preexisting"][before], [True, False])
    np.testing.assert_array_equal(table["birth_time"][before], [0.0, 0.0])
    assert done[""]["burden"].data[0, 0, 0, 0] == 10
    assert np.all(table["id"][~before] > 900)


def test_what_cannot_be_handed_over_is_refused_with_a_sentence(from_clones):
    """An unknown arm, no snapshot, too few tumors, no room, no size, too long a name."""
    first, _ = from_clones
    with pytest.raises(ValueError, match="unknown arm 'all'; known are none"):
        state_of(first, "all")
    bare = {name: group for name, group in first.items() if name != "state"}
    with pytest.raises(ValueError, match="ask for single cells"):
        state_of(bare)
    full = cells.simulate(problem(max_cells=12, replicates=20))
    with pytest.raises(ValueError, match="cut short before day 2 and cannot be handed over"):
        state_of(full)
    few = State(0.0, ((StateRow(0, 0, 5_000, True, 0),),))
    with pytest.raises(ValueError, match="holds 1 tumors, and the study has 3000"):
        cells.simulate(problem(), start=few)
    with pytest.raises(ValueError, match="raise max_cells above 5000"):
        cells.simulate(problem(replicates=1), start=few)
    named = State(0.0, ((StateRow(0, 0, 5, True, 2**31),),))
    with pytest.raises(ValueError, match="2\\*\\*31"):
        cells.simulate(problem(replicates=1), start=named)
    with pytest.raises(Refused, match="treat_at_cells, and the study has none"):
        simulate_handed_over(problem())
