"""Standard errors and intervals of a screen: they hold what they promise, whatever the cells' law."""

import numpy as np
import pytest

from jaxevo.screen import Screened, ScreenPlan, analyze
from jaxevo.screen.curves import fit, ic50
from jaxevo.screen.design import Agent, Lines, combinations
from jaxevo.screen.effects import Estimate, effects, parts_of
from tests.statistics import assert_probability

LEVELS = np.geomspace(0.05, 20, 8)
DAYS = 3.0
PLAN = ScreenPlan((Agent("x", 0, tuple(LEVELS)),), order=1, days=DAYS, replicates=40)


def synthetic(seed: int, num: int = 40) -> Screened:
    """Cells of one drug with hazard c/(c + 1), two-fold overdispersed, with a tumor per replicate."""
    random = np.random.default_rng(seed)
    level = np.append(0, LEVELS)[:, None]
    tumor = random.lognormal(0, 0.3, num)  # shared by all levels of a replicate
    mean = 500 * np.exp(-DAYS * level / (level + 1)) * tumor
    cells = random.negative_binomial(mean, 0.5)  # mean as given, variance twice the mean
    return Screened(level, cells[:, None, :], np.ones((1, num), int))


def test_intervals_of_the_half_inhibitory_level_cover_it():
    """95 % do, or a little more where noise looks like misfit.

    An error of 9 % of the coverage would be found (500 screens, false fails below 1e-6).
    """
    law = (np.log(2) / DAYS) / (1 - np.log(2) / DAYS)
    hits = []
    for seed in range(500):
        found = analyze(synthetic(seed), PLAN).ic50[0][0]
        assert found is not None
        hits.append(found.low < law < found.high)
    assert_probability(hits, 0.95, detect=0.09)


def test_standard_errors_are_the_spread_of_repeated_screens():
    """Of viability and hazard, with a tumor that all levels of a replicate share.

    1,000 screens; a wrong error by a factor 1.2 (variance 1.44) is 8 standard errors of the ratio away.
    """
    told = [effects(synthetic(seed), PLAN) for seed in range(1000)]
    for name in ("viability", "hazard"):
        values = np.array([getattr(t, name).value[1:, 0] for t in told])
        errors = np.array([getattr(t, name).error[1:, 0] for t in told])
        ratio = values.var(axis=0, ddof=1) / (errors**2).mean(axis=0)
        np.testing.assert_allclose(ratio, 1, atol=5.5 * np.sqrt(2 / 1000))


def test_a_shared_tumor_cancels_in_the_error():
    """Where all levels see the same multiple of cells, viability has no error at all."""
    cells = np.outer([1.0, 0.5, 0.25], [100, 200, 300, 700])[:, None, :].astype(int)
    found = Screened(np.array([[0.0], [1.0], [2.0]]), cells, cells[0])
    told = effects(found, PLAN)
    np.testing.assert_allclose(told.viability.value[:, 0], [1, 0.5, 0.25])
    np.testing.assert_allclose(told.viability.error, 0, atol=1e-15)


def test_one_replicate_has_no_error():
    """NaN rather than 0."""
    found = synthetic(0, num=1)
    assert np.isnan(effects(found, PLAN).viability.error).all()
    half = analyze(found, PLAN).ic50[0][0]
    assert half is not None
    assert np.isnan([half.low, half.high]).all()


def test_no_cell_left_is_an_infinite_hazard_and_no_viability():
    """And the curve is of the levels with cells."""
    found = synthetic(0)
    found.cells[-1] = 0
    told = analyze(found, PLAN)
    assert told.effects.viability.value[-1, 0] == told.effects.viability.error[-1, 0] == 0
    assert told.effects.hazard.value[-1, 0] == np.inf
    assert told.curve[0][0] is not None


def test_untreated_cells_that_die_out_say_nothing():
    """No viability, no hazard, no curve, and no error."""
    found = synthetic(0)
    found.cells[:] = 0
    told = analyze(found, PLAN)
    assert np.isnan(told.effects.viability.value).all()
    assert told.curve == told.ic50 == [[None]]


def test_an_agent_without_effect_has_no_curve():
    """Noise of one half error around 0, or slower death than untreated."""
    noise = Estimate(np.tile([0.01, -0.01], 4), np.tile([0.1, -0.1], (8, 20)))
    assert fit(LEVELS, noise) is None
    assert fit(LEVELS, Estimate(-np.ones(8), np.zeros((8, 40)))) is None


def test_a_steep_curve_is_found():
    """Hill coefficient 6 between two of the levels tried, to a thousandth."""
    hazard = LEVELS**6 / (LEVELS**6 + 2.0**6)
    curve = fit(LEVELS, Estimate(hazard, np.zeros((8, 2))))
    assert curve is not None
    np.testing.assert_allclose(np.exp(curve.log.value), [1, 2, 6], rtol=1e-3)
    half = ic50(curve, DAYS)
    assert half is not None
    assert half.value == pytest.approx(2 * (np.log(2) / (DAYS - np.log(2))) ** (1 / 6), rel=1e-3)


# --- design ----------------------------------------------------------------------------------------


def test_combinations_are_all_sets_of_agents_at_all_their_levels():
    """1 + sum n_i + sum n_i n_j + n_1 n_2 n_3, none twice, untreated first."""
    agents = tuple(Agent(name, i, (1.0, 2.0, 4.0)[: i + 1]) for i, name in enumerate("abc"))
    for order, number in ((1, 1 + 6), (2, 1 + 6 + 2 + 3 + 6), (3, 1 + 6 + 11 + 6)):
        plan = ScreenPlan(agents, order=order)
        level = combinations(plan)
        assert len(level) == plan.num_combinations == number
        assert len(np.unique(level, axis=0)) == number
        assert (level[0] == 0).all()
        assert (level > 0).sum(axis=1).max() == order


def test_parts_are_the_agents_alone_at_the_same_levels():
    level = combinations(ScreenPlan((Agent("a", 0, (1.0, 2.0)), Agent("b", 1, (3.0,))), order=2))
    for row, parts in zip(level, parts_of(level), strict=True):
        np.testing.assert_array_equal(level[parts].sum(axis=0), row)


def test_a_plan_counts_its_lines():
    assert ScreenPlan(()).num_lines == 1
    assert ScreenPlan((), lines=Lines(7, 10, 1000)).num_lines == 7
