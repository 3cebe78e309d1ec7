"""What a study of cells may contain besides: hierarchy, immigration, jumps, laws of the user's own.

The laws themselves are in the battery, on tables; here whole problems run, from model to trajectory.
"""

import numpy as np
import pytest
from scipy import stats

from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Immigration, Jump, Problem, Record, Refused
from jaxevo.engines.cells import simulate
from jaxevo.state import Rates
from tests import builders, laws
from tests.statistics import FALSE_FAIL, assert_law, assert_mean, assert_probability

STEM = {
    "mutant": {"first_gain_probability": 0.05},
    "differentiated": {
        "inheritance": "hierarchy",
        "asymmetric_probability": 0.3,
        "symmetric_probability": 0.2,
        "division_factor": 0.5,
    },
}


def problem(**options) -> Problem:
    """Few cells of two sites in one lane, without growth; days, cells, Gy."""
    chosen = {
        "model": builders.build(birth_rate=0.8, death_rate=0.3),
        "founders": (Founder(3, 0, 0),),
        "arms": (Arm("none", ()),),
        "seed": 5,
        "replicates": 4_000,
        "horizon": 3.0,
        "sync": 0.5,
        "max_cells": 600,
        "record": Record(every=1.0),
    }
    return Problem(**(chosen | options))


def final(done) -> np.ndarray:
    """Cells of every class at the horizon, [replicate, class]."""
    return done[""]["class_count"].data[0, 0, :, -1]


def flat(done) -> dict[str, bytes]:
    return {f"{g}/{n}": v.data.tobytes() for g, group in done.items() for n, v in group.items()}


@pytest.mark.parametrize("daughters", ["one", pytest.param("both", marks=pytest.mark.slow)])
def test_a_study_with_a_hierarchy_follows_the_exact_law(daughters):
    """Classes normal, mutant, differentiated, both: P(none) and mean of each, from one founder.

    The chance of stem cells to be lost by differentiating alone is in P(no stem cell).
    """
    model = builders.build(
        birth_rate=0.9, death_rate=0.2, alterations=STEM, mutating_daughters=daughters
    )
    cells = final(simulate(problem(model=model)))
    birth, death = [0.9, 0.9, 0.45, 0.45], 0.2
    up = np.zeros((3, 4, 4))
    for k, (alteration, stride, p) in enumerate(((0, 1, 0.05), (1, 2, 0.3), (1, 2, 0.2))):
        for c in range(4):
            if not c >> alteration & 1:
                up[k, c, c + stride] = p
    law = laws.process(
        3.0, birth, death, up[0], both_daughters=daughters == "both", asymmetric=up[1],
        symmetric=up[2],
    )  # fmt: skip
    assert cells.shape[1] == 4
    for c in range(4):
        none = laws.probability_of_none(law, [3, 0, 0, 0], [c])
        assert_probability(cells[:, c] == 0, none, detect=0.07)
        one = laws.marginal(law, [3, 0, 0, 0], np.eye(4, dtype=int)[c])
        assert_mean(cells[:, c], one, detect=0.12 * one.variance**0.5)


@pytest.mark.slow
def test_a_differentiated_cell_stays_in_its_clone():
    """Only mutants found clones: in the lineage there is no row that differs by differentiation."""
    model = builders.build(birth_rate=0.9, death_rate=0.2, alterations=STEM)
    done = simulate(problem(model=model, replicates=40, record=Record(1.0, snapshot_days=(3.0,))))
    table = {name: v.data for name, v in done["lineage"].items()}
    names = zip(table["replicate_index"], table["id"], strict=True)
    founded_as = dict(zip(names, table["genotype"], strict=True))
    cells = {name: v.data for name, v in done["cells"].items()}
    of_cell = zip(cells["replicate_index"], cells["lineage"], strict=True)
    mutant = np.array([founded_as[name] & 1 for name in of_cell])
    assert np.array_equal(mutant, cells["genotype"] & 1)
    assert np.any(cells["genotype"] & 2)
    born = table["parent"] >= 0
    parents = zip(table["replicate_index"][born], table["parent"][born], strict=True)
    assert not any(founded_as[name] & 1 for name in parents)


def test_cells_that_come_from_outside_follow_the_exact_law():
    """Two sources, one in batches of five, from no founder at all; empty tumors go on."""
    sources = (Immigration(0.4, 0, 0, cells=5), Immigration(0.2, 1, 0))
    model = builders.build(birth_rate=0.3, death_rate=0.7, alterations={"mutant": {}})
    done = simulate(problem(model=model, founders=(), immigration=sources))
    cells = final(done)
    law = laws.process(3.0, [0.3, 0.3], 0.7, arrivals=[0.4, 0.2], batch=[5, 1])
    assert_law(cells[:, 0], laws.marginal(law, [0, 0], [1, 0]), detect=0.1)
    assert_law(cells[:, 1], laws.marginal(law, [0, 0], [0, 1]), detect=0.1)
    none = laws.probability_of_none(law, [0, 0])
    assert_probability(done[""]["is_extinct"].data, none, detect=0.07)
    assert np.all(done[""]["status"].data == 0)
    assert np.all(done[""]["end_day"].data == 3.0)


def test_every_arrival_is_a_clone_without_a_parent():
    """Poisson(3 x .6) rows per tumor, on uniform days; the books balance: arrived + births - deaths."""
    sources = (Immigration(0.4, 0, 0, cells=5), Immigration(0.2, 1, 0))
    model = builders.build(birth_rate=0.3, death_rate=0.7, alterations={"mutant": {}})
    done = simulate(problem(model=model, founders=(), immigration=sources))
    table = {name: v.data for name, v in done["lineage"].items()}
    assert np.all(table["parent"] == -1)
    assert not np.any(table["is_preexisting"])
    count = np.bincount(table["replicate_index"], minlength=4_000)
    poisson = laws.Law(np.arange(30), stats.poisson.pmf(np.arange(30), 1.8))
    assert_law(count, poisson, detect=0.1)
    assert stats.kstest(table["birth_time"] / 3.0, "uniform").pvalue > FALSE_FAIL
    arrived = np.bincount(
        table["replicate_index"], np.where(table["genotype"] == 0, 5, 1), minlength=4_000
    )
    root = done[""]
    change = root["births"].data - root["deaths"].data
    assert np.array_equal(root["burden"].data[0, 0, :, -1], (arrived + change)[0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("max_cells", [600, pytest.param(9_000, marks=pytest.mark.slow)])
def test_arrivals_and_jumps_do_not_depend_on_batch_and_chunk(max_cells):
    """0 differing bits: a replicate alone, in chunks of 1 and 7; one lane and several.

    150 arrivals a day fill the log of a lane within an interval.
    """
    busy = problem(
        model=builders.build(birth_rate=0.5, death_rate=1.0, alterations=STEM), replicates=3,
        immigration=(Immigration(150.0, cells=2),), max_cells=max_cells, sync=1.0,
        arms=(Arm("none", ()), Arm("cut", (), jumps=(Jump(1.5, (0.25,)), Jump(2.0, (0.5,))))),
    )  # fmt: skip
    whole = simulate(busy, intervals_per_call=64)
    assert flat(simulate(busy, intervals_per_call=1)) == flat(whole)
    assert np.bincount(whole["lineage"]["replicate_index"].data).min() > 500
    alone = simulate(busy, replicates=range(1, 2))
    for name in ("burden", "births", "deaths"):
        mine = whole[""][name].data[:, :, 1:2]
        assert np.array_equal(alone[""][name].data, mine)
    burden = whole[""]["burden"].data
    assert np.array_equal(burden[0, ..., :2], burden[1, ..., :2])
    assert np.all(burden[0, ..., 2:] > burden[1, ..., 2:])


def test_a_batch_without_room_stops_its_tumor():
    """Reported as out of room; nothing is dropped, nothing wraps."""
    done = simulate(
        problem(immigration=(Immigration(1.0, cells=400),), max_cells=600, replicates=40)
    )[""]
    full = done["status"].data == 3
    assert 0 < full.sum() < 40
    assert np.all(done["burden"].data[full][:, -1] == -1)


def test_surgery_and_radiation_keep_the_cells_that_the_law_says():
    """Without births and deaths: Binomial(n, fraction of the site x exp(-(aD + bD^2)/rho)).

    Two jumps on one day multiply, one on day 0 acts after the first record, one on the horizon never.
    """
    model = builders.build(
        sites=("first", "second"), birth_rate=0.0, death_rate=0.0, alpha=0.3, beta=0.03,
        alterations={"repair": {"repair_factor": 2.0}},
    )  # fmt: skip
    jumps = (
        Jump(0.0, (0.9, 0.5)),
        Jump(1.3, gray=2.0),
        Jump(1.3, (1.0, 0.0)),
        Jump(3.0, (0.0, 0.0)),
    )
    done = simulate(
        problem(model=model, founders=(Founder(50, 0, 0), Founder(50, 1, 0), Founder(80, 0, 1)),
                arms=(Arm("cut", (), jumps=jumps),), record=Record(every=0.5))
    )  # fmt: skip
    root = done[""]
    cells = root["class_count"].data[0, 0]
    assert np.all(root["burden"].data[..., 0] == 180)
    survival = np.exp(-(0.3 * 2 + 0.03 * 4) / np.array([1.0, 2.0]))
    for c, share in enumerate(0.9 * survival):
        law = laws.Law(np.arange(51), stats.binom.pmf(np.arange(51), 50, share))
        assert_law(cells[:, -1, c], law, detect=0.1)
    sites = root["site_burden"].data[0, 0]
    half = laws.Law(np.arange(81), stats.binom.pmf(np.arange(81), 80, 0.5))
    assert_law(sites[:, 1, 1], half, detect=0.1)
    assert np.all(sites[:, 3:, 1] == 0)
    assert np.array_equal(180 - root["deaths"].data[0, 0], root["burden"].data[0, 0, :, -1])


@pytest.mark.slow
def test_a_tumor_that_a_jump_ends_is_extinct_on_its_day():
    """Nothing is left after day 1.3: extinct on that day, not at the end of the interval."""
    done = simulate(problem(arms=(Arm("all", (), jumps=(Jump(1.3, (0.0,)),)),), replicates=30))[""]
    assert np.all(done["status"].data == 1)
    assert done["end_day"].data.max() == pytest.approx(1.3, abs=1e-6)
    assert np.any(done["end_day"].data < 1.2)


def seasons(params, levels, environment):
    """Births follow the day and the drug."""
    birth = params["birth"] * (1 + environment.day) / (1 + environment.concentration[0])
    return Rates(birth_rate=birth, death_rate=params["death"])


@pytest.mark.slow
def test_a_law_of_the_users_own_may_read_the_day_and_the_drug():
    """b (1 + t)/(1 + C), C = 1 from day 1 to 2: the law of a birth-death process with that integral.

    Within an interval rates are averages, which leaves the law of a pure birth process as it is.
    """
    model = custom_model({"mutant": 1}, seasons, {"birth": 0.2, "death": 0.0}, drugs=("x",))
    arm = Arm("pulse", (), (Level(0, 1.0, 2.0, 1.0),))
    cells = simulate(problem(model=model, arms=(arm,), sync=1.0))[""]["burden"].data[0, 0, :, -1]
    integral = 0.2 * ((3 + 4.5) - 0.5 * (1 + 1.5))
    law = laws.birth_death([1.0], [integral], [0.0]).law(3)
    assert_law(cells, law, detect=0.1)
    assert_mean(cells, law, detect=0.6)


def test_what_cells_cannot_represent_is_refused_with_a_sentence():
    """Rates that follow counts, and more than one patient."""
    follows = custom_model({"mutant": 1}, seasons, drugs=("x",), has_feedback=True)
    with pytest.raises(Refused, match="choose the clones engine"):
        simulate(problem(model=follows))
    one = builders.build()
    with pytest.raises(Refused, match="follows one patient, and there are 2"):
        simulate(problem(model=one, patients=(one, one)))
