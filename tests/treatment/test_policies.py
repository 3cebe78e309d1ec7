"""Policies by the burden: when each changes what is given, and when it must not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo.model import cast
from jaxevo.treatment import policies
from tests import builders
from tests.builders import in_double
from tests.treatment.watched import Watched, answers, line_of, refused, scans, shares, visited
from tests.validation.competition import CONTAINMENT
from tests.validation.tables import numbers, rows

pytestmark = pytest.mark.both_precisions

bursts = st.lists(st.sampled_from([0.0, 1.0, 3.0, 10.0, 30.0, 100.0]), min_size=8, max_size=8)


# --- the next line at progression ------------------------------------------------------------------


def test_second_line_begins_at_progression_and_lines_follow_each_other():
    """A burden of 1.2^3 times the nadir; the nadir starts again with the line; the last line is kept."""
    burden = [100, 50, 86, 87, 60, 103, 104, 500, 5000]
    given, state = answers(policies.second_line(), lines=3, **scans(burden))
    assert line_of(given) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert state.progressions.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 4]
    assert state.nadir.tolist() == [100, 50, 50, 87, 60, 60, 104, 500, 5000]


def test_a_burden_of_the_ratio_itself_is_progression():
    """At least the ratio: 2 x 50 is, a little less is not."""
    rule = policies.second_line(progression_ratio=2.0)
    assert line_of(shares(rule, [50, 100], lines=2)) == [0, 1]
    assert line_of(shares(rule, [50, 99.99], lines=2)) == [0, 0]


def test_second_line_never_begins_while_the_tumor_shrinks_or_stays_unseen():
    """No progression: no other line, also where nothing is detectable for years."""
    given, state = answers(policies.second_line(), lines=2, **scans([100, 80, 90, 5, 0, 0, 0]))
    assert line_of(given) == [0] * 7
    assert not state.progressions.any()


def test_a_tumor_that_is_seen_again_has_progressed():
    """Nadir 0: any detectable burden is more."""
    assert line_of(shares(policies.second_line(), [100, 0, 0, 1], lines=2)) == [0, 0, 0, 1]


def test_a_visit_without_a_scan_changes_no_line():
    """A progression is seen at the scan, and counted once."""
    burden = [10, 99, 99, 99, 99, 99, 99]
    given, state = answers(policies.second_line(), lines=3, **scans(burden, every=3))
    assert line_of(given) == [0, 0, 0, 1, 1, 1, 1]
    assert state.progressions.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_a_scan_is_not_held_against_itself():
    """Without growth allowed at all, the same scan read again at the next visit is no progression."""
    rule = policies.second_line(progression_ratio=1.0)
    assert line_of(shares(rule, [9] * 6, every=4, lines=3)) == [0, 0, 0, 0, 1, 1]


# --- on and off ------------------------------------------------------------------------------------

ON_OFF = {  # rule: a course, and whether treatment is on at each of its visits
    "intermittent": (
        policies.intermittent(restart_cells=20.0),
        [100, 50, 1, 0, 10, 20, 21, 5, 0],
        [1, 1, 1, 0, 0, 0, 1, 1, 0],
    ),
    "intermittent above 0": (
        policies.intermittent(restart_cells=20.0, stop_cells=5.0),
        [100, 6, 5, 20, 21, 6],
        [1, 1, 0, 0, 1, 1],
    ),
    "range-bounded": (
        policies.range_bounded(lower_cells=10.0, upper_cells=40.0),
        [30, 40, 41, 20, 10, 9, 40, 41],
        [0, 0, 1, 1, 1, 0, 0, 1],
    ),
    "AT50": (
        policies.adaptive(),
        [100, 60, 50, 49, 80, 100, 101, 60, 49],
        [1, 1, 1, 0, 0, 0, 1, 1, 0],
    ),
    "AT30 to 80 %": (
        policies.adaptive(stop=0.3, restart=0.8),
        [100, 40, 29, 80, 81],
        [1, 1, 0, 0, 1],
    ),
    "containment": (policies.containment(), [100, 101, 99, 100, 40, 200], [1, 1, 0, 1, 0, 1]),
    "containment at 1.2": (policies.containment(level=1.25), [100, 124, 125, 90], [0, 0, 1, 0]),
}


@pytest.mark.parametrize("name", ON_OFF)
def test_treatment_goes_on_and_off_at_the_levels_of_the_rule(name):
    """Each law at, below and above its levels."""
    rule, burden, expected = ON_OFF[name]
    assert shares(rule, burden)[:, 0].tolist() == expected


KEEPS = {  # rule: a course in which nothing may change, and what is given
    "intermittent": (policies.intermittent(restart_cells=20.0), [100, 1, 500, 1], 1),
    "range-bounded": (
        policies.range_bounded(lower_cells=10.0, upper_cells=40.0),
        [40, 0, 1, 39],
        0,
    ),
    "AT50": (policies.adaptive(), [100, 50, 300, 51], 1),
    "containment": (policies.containment(), [100, 100, 101, 900], 1),
    "modulation": (policies.modulation(), [100, 120, 100, 81], 1),
}


@pytest.mark.parametrize("name", KEEPS)
def test_treatment_stays_as_it_is_between_the_levels(name):
    """A burden that stays on one side of the levels changes nothing."""
    rule, burden, expected = KEEPS[name]
    assert shares(rule, burden)[:, 0].tolist() == [expected] * len(burden)


@pytest.mark.parametrize("name", ON_OFF)
def test_between_scans_nothing_changes(name):
    """Three visits to a scan: each answer is given three times."""
    rule, burden, expected = ON_OFF[name]
    between = np.repeat(np.asarray(burden, float), 3)
    assert shares(rule, between, every=3)[:, 0].tolist() == np.repeat(expected, 3).tolist()


@given(bursts)
def test_adaptive_therapy_does_not_depend_on_the_size_of_the_patients_tumor(burden):
    """Levels are multiples of the baseline: a factor on all burdens changes no decision."""
    for rule in (policies.adaptive(), policies.containment(), policies.modulation()):
        once, again = shares(rule, burden), shares(rule, 1024 * np.asarray(burden))
        np.testing.assert_array_equal(once, again)


def test_tumors_side_by_side_are_decided_as_alone():
    """vmap over tumors gives each of them what it gets alone."""
    rule = policies.adaptive()
    tumors = np.array([[100, 40, 101, 3], [10, 9, 6, 4], [4, 3, 1, 5]], float)
    own = (cast(rule.params, builders.real()), cast(rule.start, builders.real()))

    def alone(burden):
        known = {"burden": burden, "is_scan": jnp.ones(4, bool)}
        return visited(rule.decide, 1, 1, False, (), *own, jnp.arange(4, dtype=np.int32), known)[0]

    together = jax.vmap(alone)(jnp.asarray(tumors, builders.real()))
    np.testing.assert_array_equal(together, [shares(rule, tumor) for tumor in tumors])
    assert len({tuple(course) for course in np.asarray(together)[..., 0]}) == 3


# --- more or less of it ----------------------------------------------------------------------------


def test_the_dose_follows_the_burden_by_steps():
    """More than 20 % less between two scans: half of it; more than 20 % more: half as much again."""
    rule = policies.modulation()
    given = shares(rule, [100, 79, 60, 49, 50, 61, 61, 100])[:, 0]
    np.testing.assert_allclose(given, [1, 0.5, 0.25, 0.25, 0.25, 0.375, 0.375, 0.5625])


def test_the_dose_is_never_above_the_full_one():
    """A tumor that grows at every scan gets the full dose, also after a reduction."""
    given = shares(policies.modulation(step=0.9), [100, 1, 10, 100, 1000, 10000])[:, 0]
    np.testing.assert_allclose(given, [1, 0.1, 0.19, 0.361, 0.6859, 1], rtol=1e-6)


def test_a_dose_is_changed_at_scans_only():
    """The last two scans differ until the next one; that changes the dose once."""
    given = shares(policies.modulation(), np.repeat([100, 50, 100, 100], 3), every=3)[:, 0]
    np.testing.assert_allclose(given, np.repeat([1, 0.5, 0.75, 0.75], 3))


def test_lines_by_burden_change_at_the_thresholds():
    """From a threshold on it is the next line; below the first it is the first."""
    rule = policies.metronomic(lines=("low", "middle", "full"), thresholds_cells=(10.0, 100.0))
    assert line_of(shares(rule, [500, 100, 99, 10, 9, 0, 1000], lines=3)) == [2, 2, 1, 1, 0, 0, 2]
    assert line_of(shares(rule, [99, 50, 10], lines=3)) == [1, 1, 1]


# --- published courses -----------------------------------------------------------------------------


def growth(cells, share, who):
    """S and R of V04: [sensitive, resistant], in units of the capacity."""
    room = 1 - jnp.sum(cells)
    rate = jnp.stack([0.027 * (1 - 1.5 * share), 0.027 * (1 - who["cost"])])
    return (rate * room - 0.027 * who["turnover"]) * cells


@functools.partial(jax.jit, static_argnums=(0, 4))
def progression_day(decide, params, start, who, days: int):
    """First whole day at whose end N > 1.2 N0; the rule is asked every day (Runge-Kutta, 1/8 day)."""
    size = who["size"]
    cells = size * jnp.stack([1 - who["resistant_share"], who["resistant_share"]])

    def one_day(carried, day):
        state, share, cells = carried
        always = {"day": day, "factor": jnp.ones(1), "given_mg": jnp.zeros(1), "share": share}
        state, share = decide(params, state, Watched(visit=day, burden=jnp.sum(cells), **always))

        def step(_, x):
            k1 = growth(x, share[0], who)
            k2 = growth(x + k1 / 16, share[0], who)
            k3 = growth(x + k2 / 16, share[0], who)
            return x + (k1 + 2 * k2 + 2 * k3 + growth(x + k3 / 8, share[0], who)) / 48

        cells = jax.lax.fori_loop(0, 8, step, cells)
        return (state, share, cells), jnp.sum(cells) > 1.2 * size

    _, over = jax.lax.scan(one_day, (start, jnp.zeros(1), cells), jnp.arange(days))
    return jnp.argmax(over) + 1


@in_double
@pytest.mark.parametrize("kind", ["ct", "at50"])
def test_adaptive_therapy_ends_on_the_published_day(kind):
    """V04, all 50 rows (Strobl et al. 2021, doi:10.1158/0008-5472.CAN-20-0806; 2022,
    doi:10.1038/s43856-022-00110-x), as printed. Continuous therapy is one that never stops.
    """
    rule = policies.adaptive() if kind == "at50" else policies.adaptive(stop=1e-30)
    table = [numbers(row) for row in rows("progression")]
    who = {name: jnp.array([row[name] for row in table]) for name in table[0]}
    decide = lambda one: progression_day(rule.decide, rule.params, rule.start, one, 6000)  # noqa: E731
    obtained = jax.vmap(decide)(who)
    np.testing.assert_array_equal(obtained, who[f"{kind}_published"])


@in_double
@pytest.mark.parametrize(("n0", "share"), CONTAINMENT)
def test_containment_with_short_visits_lasts_as_long_as_the_ideal_one(n0, share):
    """E12 (Viossat & Noble 2021, doi:10.1038/s41559-021-01428-w): a drug that removes sensitive cells
    ten times as fast as they grow, given by the rule every 0.02 d, against the closed form, 1 %.
    """
    _, *expected = CONTAINMENT[n0, share]
    for level, days in zip((1.0, 1.2), expected, strict=True):
        rule = policies.containment(level=level)
        start = jnp.array([n0 * (1 - share), n0 * share])
        obtained = contained_days(rule.decide, rule.params, rule.start, start)
        assert float(obtained) == pytest.approx(days, rel=0.01)


@functools.partial(jax.jit, static_argnums=0)
def contained_days(decide, params, start, cells):
    """Days until the resistant cells alone are 1.2 n0: exact for constant room within a visit."""
    every, first = 0.02, jnp.sum(cells)

    def visit(carried):
        number, state, share, cells = carried
        always = {"day": number * every, "factor": jnp.ones(1), "given_mg": jnp.zeros(1)}
        seen = Watched(visit=number, burden=jnp.sum(cells), share=share, **always)
        state, share = decide(params, state, seen)
        rate = 0.027 * (1 - jnp.sum(cells)) * jnp.ones(2) - share[0] * jnp.array([0.27, 0.0])
        return number + 1, state, share, cells * jnp.exp(rate * every)

    goes_on = lambda carried: carried[3][1] < 1.2 * first  # noqa: E731
    begin = (jnp.asarray(0), jax.tree.map(jnp.asarray, start), jnp.zeros(1), cells)
    return jax.lax.while_loop(goes_on, visit, begin)[0] * every


# --- numbers that contradict each other ------------------------------------------------------------

REFUSED = [
    (
        policies.second_line,
        {"progression_ratio": 0.9},
        "progression_ratio is 0.9; it must be at le",
    ),
    (
        policies.intermittent,
        {"restart_cells": 5.0, "stop_cells": 6.0},
        "stop_cells is 6.0; it must be from",
    ),
    (
        policies.intermittent,
        {"restart_cells": 5.0, "stop_cells": -1.0},
        "stop_cells is -1.0; it must be fr",
    ),
    (
        policies.range_bounded,
        {"lower_cells": 3.0, "upper_cells": 2.0},
        "lower_cells is 3.0; it must be fro",
    ),
    (policies.adaptive, {"stop": 1.5}, "stop is 1.5; it must be above 0 and at most restart (1.0)"),
    (policies.adaptive, {"stop": 0.0}, "stop is 0.0; it must be above 0"),
    (policies.containment, {"level": 0.0}, "level is 0.0; it must be above 0"),
    (policies.modulation, {"step": 1.0}, "step is 1.0; it must be above 0 and below 1"),
    (policies.modulation, {"tolerance": -0.1}, "tolerance is -0.1; it must be at least 0"),
    (
        policies.metronomic,
        {"lines": ("a", "b"), "thresholds_cells": ()},
        "thresholds_cells has 0 entries; 2 lines need 1",
    ),
    (
        policies.metronomic,
        {"lines": ("a", "b", "c"), "thresholds_cells": (2.0, 1.0)},
        "thresholds_cells is [2.0, 1.0]; they must be above 0 and rise",
    ),
]


@pytest.mark.parametrize(("make", "numbers", "sentence"), REFUSED)
def test_numbers_that_make_no_rule_are_refused(make, numbers, sentence):
    """One sentence that begins with the parameter."""
    assert refused(make, **numbers).startswith(sentence)
