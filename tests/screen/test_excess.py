"""Bliss and Loewe excess and half-inhibitory levels, against the model's own laws.

`meanfield` gives expected cells, so that a law holds to the error of its integration; `clones` draws
them, so that a law holds within standard errors.
"""

import numpy as np
import pytest

from jaxevo import screen
from jaxevo.engines import clones, meanfield
from jaxevo.engines.base import Founder, Problem
from jaxevo.model import Model
from jaxevo.screen import Agent, Analysis, Screened, ScreenPlan
from jaxevo.screen.scale import scales
from tests import builders

LEVELS = (0.05, 0.2, 0.5, 1.0, 3.0, 10.0)
DAYS = 3.0
EXACT = 2e-6  # 1/day: error of the integration
FAR = 5.5  # standard errors; a t law of 199 degrees of freedom is beyond it with probability 1.2e-7


def plan_of(model: Model, **options) -> ScreenPlan:
    """All drugs of a model at `LEVELS`."""
    agents = tuple(Agent(name, d, LEVELS) for d, name in enumerate(model.names.drugs))
    return ScreenPlan(agents, order=min(2, len(agents)), days=DAYS)._replace(**options)


def problem_of(model: Model, *founders: Founder) -> Problem:
    return Problem(
        model, founders or (Founder(2000, 0, 0),), (), seed=4, replicates=1, horizon=1.0, sync=1.0,
        max_cells=10**9,
    )  # fmt: skip


def expected(model: Model, *founders: Founder, **options) -> Analysis:
    """The analysis of expected cells, two equal replicates of each."""
    plan = plan_of(model, **options)
    found = meanfield.simulate(screen.exposed(problem_of(model, *founders), plan))
    cells = np.repeat(found[""]["burden"].data[..., -1], 2, axis=2)
    return screen.analyze(Screened(screen.combinations(plan), cells, cells[0]), plan)


def pairs(told: Analysis, name: str) -> np.ndarray:
    """An excess over the grid of a pair."""
    values = told.excess(name).value[:, 0]
    return values[(told.found.level > 0).sum(axis=1) == 2]


def deadly(**more) -> Model:
    """Two drugs that kill through targets of their own."""
    chosen = {
        "drugs": ("x", "y"),
        "targets": ("X", "Y"),
        "kd": {"X": {"x": 0.5}, "Y": {"y": 1.0}},
        "max_death_rate": {"X": 1.0, "Y": 0.7},
        "death_hill": {"X": 2.0},
    }
    return builders.build(**(chosen | more))


def births(**more) -> Model:
    """Two drugs that lower births through targets of their own."""
    return deadly(max_death_rate=0.0, max_inhibition={"X": 0.9, "Y": 0.6}, **more)


# --- Bliss -----------------------------------------------------------------------------------------


def test_death_by_independent_targets_has_no_bliss_excess():
    """h_xy = h_x + h_y, and so V_xy = V_x V_y: zero on both scales."""
    told = expected(deadly())
    assert np.abs(pairs(told, "bliss_hazard")).max() < EXACT
    assert np.abs(pairs(told, "bliss_viability")).max() < EXACT
    assert np.abs(pairs(told, "loewe_hazard")).max() > 0.3  # a scale of its own


def test_births_lowered_by_two_drugs_add_to_less_than_bliss():
    """b (1 - e_x)(1 - e_y): the hazard lacks b e_x e_y of the sum."""
    told = expected(births())
    level = told.found.level[(told.found.level > 0).all(axis=1)]
    effect = level / (level + np.array([0.5, 1.0])) * np.array([0.9, 0.6])
    np.testing.assert_allclose(pairs(told, "bliss_hazard"), -effect.prod(axis=1), atol=EXACT)


def test_a_pump_inhibitor_helps_where_there_is_a_pump_and_nowhere_else():
    """Excess is positive at every level in a line of pump-positive cells, and exactly 0 without pumps."""
    model = deadly(
        drugs=("x", "i"), targets=("X",), kd={"X": {"x": 0.5}}, max_death_rate=1.0, death_hill=2.0,
        pumps=("P",), vmax={"P": {"x": 14400.0}}, km={"P": {"x": 5.0}},
        inhibition_ki={"P": {"i": 0.5}}, alterations={"pump": {"pump_amount": {"P": 3.0}}},
    )  # fmt: skip
    with_pump, without = expected(model, Founder(2000, 1, 0)), expected(model, Founder(2000, 0, 0))
    for name in ("bliss_hazard", "bliss_viability", "loewe_hazard"):
        assert pairs(with_pump, name).min() > 0, name
        assert pairs(with_pump, name).max() > 0.1, name
    assert np.abs(pairs(without, "bliss_hazard")).max() == 0
    assert np.abs(pairs(without, "bliss_viability")).max() == 0
    assert np.abs(pairs(without, "loewe_hazard")).max() < EXACT


def test_excess_of_a_triple_is_over_its_three_agents():
    """Three independent targets: zero; the third agent twice as a pair with the first is not."""
    model = builders.build(
        drugs=("x", "y", "z"), targets=("X", "Y"), max_death_rate=0.5,
        kd={"X": {"x": 0.5, "z": 0.5}, "Y": {"y": 1.0}},
    )  # fmt: skip
    agents = tuple(agent._replace(levels=LEVELS[1:4]) for agent in plan_of(model).agents)
    told = expected(model, order=3, agents=agents)
    level = told.found.level
    triple = (level > 0).all(axis=1)
    assert triple.sum() == 3**3
    effect = lambda c, kd: 0.5 * c / (c + kd)  # noqa: E731
    x, z = effect(level[triple, 0], 0.5), effect(level[triple, 2], 0.5)
    excess = told.excess("bliss_hazard").value[triple, 0]
    np.testing.assert_allclose(
        excess, -2 * x * z, atol=EXACT
    )  # Bliss inside the target: 1 - (1-E)(1-E)


# --- Loewe -----------------------------------------------------------------------------------------


def sham(combination: str) -> Model:
    """One drug under two names, the second twice as strong."""
    return builders.build(
        drugs=("x", "y"), targets=("T",), kd={"T": {"x": 1.0, "y": 0.5}}, max_death_rate=0.9,
        death_hill=1.5, combination=combination,
    )  # fmt: skip


def test_a_drug_with_itself_has_no_loewe_excess():
    """Dose additivity is what `loewe` makes of one target; `bliss` on the target is more than that."""
    assert np.abs(pairs(expected(sham("loewe")), "loewe_hazard")).max() < 1e-5
    assert np.abs(pairs(expected(sham("loewe")), "bliss_hazard")).max() > 0.1
    assert np.abs(pairs(expected(sham("bliss")), "loewe_hazard")).max() > 0.01


def test_an_agent_whose_curve_is_unknown_has_no_loewe_excess():
    """Three levels of a drug that acts make no curve: NaN, where an idle agent counts as nothing."""
    model = deadly()
    agents = (Agent("x", 0, LEVELS), Agent("y", 1, LEVELS[:3]))
    told = expected(model, agents=agents)
    assert np.isnan(pairs(told, "loewe_hazard")).all()
    idle = expected(deadly(max_death_rate={"X": 1.0}), agents=agents)
    assert np.abs(pairs(idle, "loewe_hazard")).max() < 1e-5


# --- IC50 ------------------------------------------------------------------------------------------


def half_inhibitory(kd: float, most: float, hill: float) -> float:
    """Of death at rate most c^n/(c^n + kd^n): exp(-h days) = 1/2."""
    share = np.log(2) / DAYS / most
    return kd * (share / (1 - share)) ** (1 / hill)


def test_the_half_inhibitory_level_is_that_of_the_law():
    """Closed form, for both drugs; a drug whose full effect leaves more than half has none."""
    told = expected(deadly())
    found = [row[0] for row in told.ic50]
    assert found[0].value == pytest.approx(half_inhibitory(0.5, 1.0, 2.0), rel=1e-4)
    assert found[1].value == pytest.approx(half_inhibitory(1.0, 0.7, 1.0), rel=1e-4)
    weak = expected(deadly(max_death_rate={"X": 0.2, "Y": 0.7}))
    assert weak.curve[0][0] is not None
    assert weak.ic50[0][0] is None


# --- drawn cells -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> Analysis:
    """200 replicates of two independent drugs on `clones`."""
    model = deadly()
    plan = plan_of(model, replicates=200)
    found = screen.follow(problem_of(model), plan, clones.simulate)
    assert found is not None
    return screen.analyze(found, plan)


@pytest.mark.parametrize(("name", "detect"), [("bliss_hazard", 5e-3), ("bliss_viability", 1e-3)])
def test_the_mean_bliss_excess_of_drawn_cells_is_zero_within_its_error(drawn, name, detect):
    """False fails below 1.2e-7; an excess of `detect` would be found with probability .99."""
    several = (drawn.found.level > 0).sum(axis=1) == 2
    mean = drawn.excess(name)[several, 0].mean()
    assert detect > (FAR + 2.4) * mean.error
    assert abs(mean.value) < FAR * mean.error


@pytest.mark.parametrize("agent", [0, 1])
def test_the_half_inhibitory_level_of_drawn_cells_is_that_of_the_law(drawn, agent):
    """On the log scale, false fails below 1.2e-7; an error of 5 % would be found."""
    law = (half_inhibitory(0.5, 1.0, 2.0), half_inhibitory(1.0, 0.7, 1.0))[agent]
    half = drawn.ic50[agent][0]
    error = np.log(half.high / half.low) / 2 / 1.972  # t of 199 degrees of freedom
    assert (FAR + 2.4) * error < 0.05
    assert abs(np.log(half.value / law)) < FAR * error


# --- which scale -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (deadly(), "hazards add"),
        (births(), "shares of births multiply"),
        (sham("loewe"), "one target, T: combined there as study.combination says (loewe)"),
        (deadly(max_death_rate={"X": 1.0}), "y has no effect through a target of its own"),
        (deadly(max_death_rate=0.0), "no effect of their own"),
        (
            deadly(pumps=("P",), vmax={"P": {"x": 1.0}}, inhibition_ki={"P": {"y": 1.0}}),
            "both meet the pump P",
        ),
    ],
)
def test_the_report_says_how_the_model_combines_a_pair(model, words):
    """What the excess tests above show, in words."""
    assert words in scales(model, plan_of(model))[" + ".join(model.names.drugs)]
