"""Where windows begin and end: days that binary numbers do not hold, and what lies at their edges."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines import clones
from jaxevo.engines.base import Arm, Founder, Jump, Line, Problem, Record, Visits
from jaxevo.engines.grid import marks, multiples
from jaxevo.engines.process import planned, problem_network
from jaxevo.engines.regimen import Plan, plan_of
from jaxevo.engines.watched import given_by
from tests import builders
from tests.visiting import of, written

MODEL = builders.build(drugs=("x", "y"), is_prescribed={"x": 0.0}, clearance={"x": 1.0})


def study(arm: Arm, horizon: float, every: float, sync: float, record: float) -> Problem:
    """One patient."""
    return Problem(
        MODEL, (Founder(100, 0, 0),), (arm,), 1, 1, horizon, sync, max_cells=1,
        record=Record(every=record), visits=Visits(every=every),
    )  # fmt: skip


def plan(problem: Problem, in_steps: bool = True) -> Plan:
    """The plan of the only arm."""
    net = problem_network(problem)
    when = marks(problem.record, problem.horizon, problem.visits.every)
    with jax.enable_x64(True):
        return plan_of(problem, 0, when, range(1), net, in_steps=in_steps)


def line_of(doses=(), levels=(), jumps=(), background=()) -> Arm:
    """One line that is always given."""
    return Arm("a", background, (), jumps, (Line("x", doses, levels),), written([[1.0]]))


DAY = st.floats(0.01, 60.0)


@settings(max_examples=60)
@given(
    every=st.sampled_from([0.1, 0.3, 0.7, 1.1, 3.0, 7.0, 14.0, 100.0]),
    horizon=st.sampled_from([0.7, 2.1, 7.0, 9.9, 30.0]),
    sync=st.sampled_from([0.1, 0.35, 1.0]), record=st.sampled_from([0.3, 1.0, 2.5]),
    doses=st.lists(st.tuples(DAY, st.floats(1, 9), st.sampled_from([0.0, 0.25, 3.3])), max_size=4),
    level=st.tuples(DAY, DAY).map(sorted), jump=DAY, in_steps=st.booleans(),
)  # fmt: skip
def test_windows_give_every_dose_once_and_cover_the_time_once(
    every, horizon, sync, record, doses, level, jump, in_steps
):
    """Of any line, begun on day 0: amounts up to the end of the last window, the time without gaps, and
    a jump in one interval, at its day.
    """
    given = tuple(Dose(0, *dose) for dose in doses)
    levels = (Level(1, level[0], level[1] + 0.1, 2.0),)
    arm = line_of(given, levels, (Jump(jump, (0.5,)),))
    found = plan(study(arm, horizon, every, sync, record), in_steps)
    tables, end = found.tables, found.num_windows * every
    assert end >= horizon - 1e-9
    length = np.asarray(tables.length)
    assert length.sum() == pytest.approx(every, rel=1e-12)
    amounts = np.asarray(tables.amounts)[1]  # window, way, slot, drug
    bolus = amounts[:, 0, :, 0].sum()
    infused = (amounts[:, 2, :, 0] * length).sum()
    level_days = (amounts[:, 3, :, 1] * length).sum()
    within = lambda d: np.clip((end - d.day) / d.duration, 0, 1)  # noqa: E731
    assert bolus == pytest.approx(sum(d.amount_mg for d in given if not d.duration and d.day < end))
    assert infused == pytest.approx(sum(d.amount_mg * within(d) for d in given if d.duration))
    shown = max(min(level[1] + 0.1, end) - min(level[0], end), 0)
    assert level_days == pytest.approx(2 * shown, abs=1e-7)
    start, duration = tables.start.ravel(), tables.duration.ravel()
    np.testing.assert_allclose(start[1:], (start + duration)[:-1], atol=1e-9)
    assert duration.sum() == pytest.approx(horizon)
    (at,) = np.nonzero(tables.jump.ravel() >= 0)
    assert len(at) == (jump < horizon)
    if jump < horizon:
        assert start[at[0]] == pytest.approx(jump, abs=2e-9)


def test_edges_are_to_the_bit_those_of_doses_in_advance():
    """Words of random numbers are named by the day: 3 * .7 is another number than 2.1."""
    problem = study(line_of(), 21.0, every=0.7, sync=0.7, record=2.1)
    net, when = problem_network(problem), marks(problem.record, 21.0, 0.7)
    assert np.any(0.7 * np.arange(31) != np.round(0.7 * np.arange(31), 1))
    with jax.enable_x64(True):
        timeline, _ = planned(problem, when, cut_at_doses=False, net=net)
    tables = plan(problem).tables
    assert np.array_equal(tables.start[:, 0], timeline.start[:, 0])
    assert np.array_equal(tables.duration[:, 0], timeline.duration[:, 0])


def test_marks_lie_at_the_ends_of_intervals():
    """Every mark has as many intervals before it as end until then."""
    problem = study(line_of((Dose(0, 0.05, 1.0),)), 3.0, every=0.1, sync=1.0, record=0.25)
    found, when = plan(problem), marks(problem.record, 3.0, 0.1)
    end = (found.tables.start + found.tables.duration).ravel()
    for day, before in zip(when.day, found.of_mark, strict=True):
        assert np.sum(end < day + 1e-9) >= before
        assert before == 0 or end[before - 1] == pytest.approx(day, abs=1e-9)


def test_a_dose_at_a_visit_is_given_after_it():
    """Amounts before each visit; multiples of .1 as they come, boluses and infusions."""
    doses = tuple(Dose(0, float(f"{k / 10:.1f}"), 1.0) for k in range(40))
    expected = np.arange(40)
    np.testing.assert_array_equal(given_by(doses, 0.1 * np.arange(40), 1)[:, 0], expected)
    halves = given_by((Dose(0, 1.0, 8.0, 2.0),), multiples(0.5, 4.0), 1)[:, 0]
    np.testing.assert_allclose(halves, [0, 0, 0, 2, 4, 6, 8, 8, 8])


@pytest.mark.slow
def test_visits_every_tenth_of_a_day_follow_each_other():
    """Forty visits: each is numbered, seen and given for once; the dose of a visit is in its window."""
    line = Line("x", tuple(Dose(0, float(f"{k / 10:.1f}"), 1.0) for k in range(0, 60, 2)))
    arm = Arm("a", (), lines=(line,), policy=written(np.arange(40)[:, None] % 3 != 2))
    problem = study(arm, 4.0, every=0.1, sync=0.1, record=0.5)
    found = clones.simulate(problem)
    assert of(found, "visit").shape == (41,)
    shares = of(found, "line_share")[0, 0, 0, :, 0]
    np.testing.assert_array_equal(shares[:40], np.arange(40) % 3 != 2)
    assert np.isnan(shares[40])
    # two windows on and one off: begun anew each time, a dose at its first visit
    given = of(found, "given_mg")[0, 0, 0, :, 0]
    np.testing.assert_array_equal(given[:40], np.arange(40) // 3 + 1)
    assert given[40] == given[39]
    burden, scans = of(found, "burden")[0, 0, 0], of(found, "scan_burden")[0, 0, 0]
    assert np.array_equal(scans[::5], burden)
