"""Arms that decide: what is given between visits is what the same doses give that were written down."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo import host
from jaxevo.drug import course as drug_course
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines import clones, counts, meanfield, visits
from jaxevo.engines.base import Arm, Founder, Jump, Limits, Line, Problem, Record, Visits
from jaxevo.engines.grid import arm_inputs, marks, multiples
from jaxevo.engines.pool import Pool
from jaxevo.engines.process import planned, problem_network
from jaxevo.engines.regimen import plan_of
from jaxevo.engines.tumors import EXTINCT, RUNNING, STOPPED
from tests import builders
from tests.visiting import always, of, with_arms, written

A, B, C = 0, 1, 2  # by mouth or into blood; the same, and an inhibitor of the pump; prescribed
MODEL = {
    "sites": ("slow", "brain"), "drugs": ("a", "b", "c"), "pumps": ("P",), "targets": ("T",),
    "is_prescribed": {"a": 0.0, "b": 0.0}, "absorption_rate": {"a": 8.0, "b": 3.0},
    "clearance": {"a": 30.0, "b": 12.0}, "central_volume": {"a": 20.0, "b": 15.0},
    "peripheral_clearance": {"b": {"first": 6.0}}, "peripheral_volume": {"b": {"first": 30.0}},
    "bioavailability": {"a": 0.6}, "equilibration_rate": {"slow": {"a": 0.7, "b": 2.0}},
    "delivered_fraction": {"slow": {"a": 0.5}},
    "kd": {"T": {"a": 5.0, "b": 20.0, "c": 1.0}}, "max_death_rate": 1.5, "birth_rate": 0.5,
    "death_rate": 0.1, "vmax": {"P": {"a": 4000.0}}, "km": {"P": {"a": 5.0}},
    "barrier_permeability": {"brain": {"a": 10.0}},
}  # fmt: skip
BARRIER = {"inhibition_ki": {"P": {"b": 0.5}}, "barrier_pump": {"brain": {"P": 1.0}}}
EVERY = 4.0


def study(*arms: Arm, **options) -> Problem:
    """17 days from 1,000 cells at each of two sites, seen every 4 days, by quarters of a day."""
    chosen = {
        "model": builders.build(**MODEL), "founders": (Founder(1000, 0, 0), Founder(1000, 0, 1)),
        "seed": 3, "replicates": 1, "horizon": 17.0, "sync": 0.25, "max_cells": 1,
        "record": Record(every=1.0), "visits": Visits(every=EVERY),
    } | options  # fmt: skip
    return Problem(arms=arms, **chosen)


def doses(drug: int, days, mg: float = 300.0, **options) -> tuple[Dose, ...]:
    """The same dose on several days."""
    return tuple(Dose(drug, float(day), mg, **options) for day in days)


class Plan(NamedTuple):
    """Doses of two lines and of the arm itself, the shares by visit, and the same written out."""

    lines: tuple[Line, Line]
    shares: list[list[float]]  # [visit][line]
    doses: tuple[Dose, ...] = ()
    levels: tuple[Level, ...] = ()
    background: tuple[Dose, ...] = ()


NONE = Line("none")
EACH_DAY = Line("a", doses(A, range(20), is_oral=True))
LOADING = Line("a", doses(A, [0], 900.0) + doses(A, np.arange(1, 20)))
LONG = Line("a", (Dose(A, 3.0, 800.0, 2.0), Dose(A, 9.5, 800.0, 0.5)))
HELD = Line("c", (), (Level(C, 1.0, 6.0, 2.0), Level(C, 6.0, 7.0, 0.5)))
ODD = Line("b", doses(B, [0, 2.5, 5, 7.5, 10], 200.0))
PLANS = {
    "by mouth": Plan((EACH_DAY, NONE), [[0, 0], [1, 0], [1, 0], [0, 0]],
                     doses(A, range(4, 12), is_oral=True)),
    "bolus": Plan((ODD, NONE), [[0, 0], [1, 0], [1, 0], [1, 0], [0, 0]],
                  doses(B, [4, 6.5, 9, 11.5, 14], 200.0)),
    "infusion over a visit": Plan((LONG, NONE), [[0, 0], [1, 0], [1, 0], [1, 0]],
                                  (Dose(A, 7.0, 800.0, 2.0), Dose(A, 13.5, 800.0, 0.5))),
    "infusion cut at a visit": Plan((LONG, NONE), [[0, 0], [1, 0], [0, 0]],
                                    (Dose(A, 7.0, 400.0, 1.0),)),
    "prescribed": Plan((HELD, NONE), [[1, 0], [1, 0], [0, 0], [1, 0], [0, 0]], (),
                       (Level(C, 1.0, 6.0, 2.0), Level(C, 6.0, 7.0, 0.5), Level(C, 13.0, 16.0, 2.0))),
    "second start": Plan((LOADING, NONE), [[1, 0], [0, 0], [1, 0], [0.5, 0], [0.5, 0]],
                         (*doses(A, [0, 8], 900.0), *doses(A, [1, 2, 3, 9, 10, 11]),
                          *doses(A, range(12, 17), 150.0))),
    "two lines over a background": Plan(
        (LOADING, HELD), [[0, 1], [1, 1], [1, 0], [0, 0.5], [0, 0.5]],
        (*doses(A, [4], 900.0), *doses(A, range(5, 12)), *doses(B, range(0, 17, 2), 100.0)),
        (Level(C, 1.0, 6.0, 2.0), Level(C, 6.0, 7.0, 0.5), Level(C, 13.0, 17.0, 1.0)),
        doses(B, range(0, 40, 2), 100.0)),
}  # fmt: skip


# --- concentrations --------------------------------------------------------------------------------


@pytest.mark.parametrize("barrier", [
    pytest.param({}, id="free"),
    pytest.param(BARRIER, id="inhibited pump at a barrier", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_line_gives_what_its_doses_give_from_the_visit_at_which_it_is_begun(barrier):
    """Expected cells at both sites, against arms whose doses were written down for those days: the days
    of a line count from its visit, a second start begins anew, a share scales, and inputs add up. A site
    that fills slowly and, behind a barrier, a pump that another drug blocks.
    """
    arms = [
        arm
        for name, plan in PLANS.items()
        for arm in (
            Arm(f"{name}, decided", plan.background, lines=plan.lines, policy=written(plan.shares)),
            Arm(f"{name}, written", plan.doses, plan.levels),
        )
    ]
    found = meanfield.simulate(study(*arms, model=builders.build(**MODEL | barrier)))
    cells = of(found, "site_burden")[:, 0, 0]
    untreated = 1000 * np.exp(0.4 * 17)
    for i, name in enumerate(PLANS):
        decided, expected = cells[2 * i], cells[2 * i + 1]
        assert np.all(expected[-1] < 0.95 * untreated), name
        np.testing.assert_allclose(decided, expected, rtol=1e-9, err_msg=name)
        given = of(found, "given_mg")[2 * i : 2 * i + 2, 0, 0]
        np.testing.assert_allclose(*given, rtol=1e-12, err_msg=name)


def test_rates_of_decided_intervals_are_those_of_doses_in_advance():
    """Of two patients with plasma of their own, with a daily dose, to 3e-11: concentrations are rounded to
    2^-36 of the largest.
    """
    plain = Arm("plain", doses(A, range(20), is_oral=True), (Level(C, 2.0, 9.5, 1.0),))
    other = builders.build(**MODEL | {"clearance": {"a": 50.0}, "central_volume": {"a": 35.0}})
    problem = study(plain, patients=(builders.build(**MODEL), other), sync=2.0)
    decided = with_arms(problem, always(plain))
    net, when = problem_network(problem), marks(Record(every=8.0), 17.0, EVERY)
    with jax.enable_x64(True):
        timeline, expected = planned(problem, when, cut_at_doses=False, net=net)
        plan = plan_of(decided, 0, when, range(2), net, in_steps=True)
        tables, people = jax.tree.map(jnp.asarray, (plan.tables, plan.people))
        pool, care = Pool(plan, np.arange(2)), visits.begin(decided.arms[0], plan, 2, np.arange(2))
        nobody = jnp.zeros(2, jnp.uint32)
        who, count = (jnp.arange(2, dtype=jnp.int32), (nobody, nobody)), jnp.ones((2, 2))
        compared = 0
        for window in range(plan.num_windows):
            care, site, _ = visits.visit(
                plan.rules, tables, people, care, count, who, jnp.int32(window)
            )
            process = pool.process(window, site, np.ones(2, bool))
            for patient in range(2):
                for k, start in enumerate(process.start[patient].tolist()):
                    at = int(np.argmin(np.abs(timeline.start[:, patient] - start)))
                    same = (start, float(process.duration[patient, k]))
                    if same != (timeline.start[at, patient], timeline.duration[at, patient]):
                        continue  # cut where another window has a change
                    compared += 1
                    mine = process.speeds.death[patient, process.which[patient, k]]
                    row = expected.which[patient, at]
                    np.testing.assert_allclose(
                        mine, expected.speeds.death[patient, row], rtol=3e-11
                    )
    assert compared >= 12


# --- a policy that changes nothing -----------------------------------------------------------------

JUMPS = (Jump(5.0, (0.5, 0.9)), Jump(5.0, gray=1.0), Jump(8.0, gray=2.0), Jump(9.25, (0.2, 1.0)))
DRUG = doses(A, range(0, 30, 2), is_oral=True)


@pytest.mark.parametrize("horizon", [16.0, pytest.param(17.0, marks=pytest.mark.slow)])
def test_a_policy_that_always_answers_1_is_the_plain_arm(horizon):
    """Also where surgery and radiation come on the same day, on the day of a visit, and between syncs."""
    plain = Arm("plain", DRUG, (Level(C, 2.0, 9.5, 0.5),), JUMPS)
    model = builders.build(**MODEL | {"alpha": 0.3, "beta": 0.03})
    found = meanfield.simulate(study(plain, always(plain), model=model, horizon=horizon))
    cells = of(found, "site_burden")[:, 0, 0]
    assert cells[0, -1].sum() < 0.3 * cells[0, 4].sum()
    np.testing.assert_allclose(cells[1], cells[0], rtol=1e-9)
    scans = of(found, "scan_burden")[:, 0, 0]
    np.testing.assert_allclose(scans[1], scans[0], rtol=1e-9)


MUTANTS = {"alterations": {"r": {"first_gain_probability": 0.01, "kd_fold": 50.0}}, "alpha": 0.3}


def test_clones_count_the_same_under_a_policy_that_always_answers_1():
    """The same words, the same law: every class on every day, at visits every .7 days, whose multiples
    are not exact in binary. One program each for the visits and for what is between, on a named device.
    """
    jumps = (Jump(4.9, (0.5, 0.9)), Jump(4.9, gray=1.0), Jump(8.4, gray=2.0))
    plain = Arm("plain", doses(A, 1.4 * np.arange(20), is_oral=True), (), jumps)
    problem = study(
        plain, always(plain), model=builders.build(**MODEL | MUTANTS), replicates=5, horizon=14.0,
        sync=0.7, visits=Visits(every=0.7), record=Record(every=7.0),
    )  # fmt: skip
    programs = visits.visit._cache_size(), counts.treat._cache_size()
    found = clones.simulate(problem, devices=tuple(jax.devices("cpu")[:1]))
    assert visits.visit._cache_size() <= programs[0] + 1
    assert counts.treat._cache_size() <= programs[1] + 2  # of the arm in advance, of the other
    classes = of(found, "class_count")
    assert np.all(classes[0, 0, :, -1, 1] > 0)
    assert np.array_equal(classes[0], classes[1])
    assert np.array_equal(*of(found, "scan_burden"))
    np.testing.assert_allclose(*of(found, "given_mg"), rtol=1e-12)


# --- limits ----------------------------------------------------------------------------------------

LIMITS = Limits((80.0, np.inf, np.inf), (np.inf, 330.0, np.inf))


@pytest.fixture(scope="module")
def limited():
    """Nine days under limits: three arms that decide, each before the same with what was allowed."""
    mixed = Line("mixed", (*doses(A, [0, 1], 300.0), Dose(A, 2.0, 300.0, 0.5), Dose(A, 3.0, 50.0, 0.5),
                           *doses(B, [0.5, 2.5, 4.5, 6.5, 9.0, 9.5], 100.0)))  # fmt: skip
    late = Line("late", (*doses(A, [1.0, 9.0, 10.0], 40.0), Dose(B, 8.5, 60.0, 2.0)))
    line = Line("line", doses(A, [0, 4, 8], 50.0), (Level(C, 0.0, 9.0, 1.0),))
    factors = [[1.0, 0.5, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.5]]
    arms = (
        Arm("mixed", (), lines=(mixed,), policy=written([[1.0]])),
        Arm("as allowed", (
            *doses(A, [0, 1], 80.0), Dose(A, 2.0, 80.0, 0.5), Dose(A, 3.0, 50.0, 0.5),
            *doses(B, [0.5, 2.5, 4.5], 100.0), *doses(B, [6.5], 30.0),
        )),
        Arm("late", (), lines=(late,), policy=written([[1.0]])),
        Arm("before the end", (*doses(A, [1.0], 40.0), Dose(B, 8.5, 15.0, 0.5))),
        Arm("safe", doses(B, [1, 5, 8.5], 100.0), lines=(line,), policy=written([[1.0]]),
            safety=written(factors)),
        Arm("scaled", (*doses(A, [0, 8], 50.0), *doses(A, [4], 80.0), *doses(B, [1], 50.0),
                       *doses(B, [8.5], 100.0)), (Level(C, 0.0, 8.0, 1.0), Level(C, 8.0, 9.0, 0.5))),
    )  # fmt: skip
    return meanfield.simulate(study(*arms, horizon=9.0, limits=LIMITS))


def test_doses_are_cut_to_what_is_allowed(limited):
    """One administration to the label maximum, each infusion on its own; all together to the cumulative
    limit, to the bit, within a window too.
    """
    given = of(limited, "given_mg")[:, 0, 0]
    np.testing.assert_allclose(given[0, :, A], [290.0, 290.0, 290.0])
    np.testing.assert_array_equal(given[0, :, B], [200.0, 330.0, 330.0])


def test_nothing_is_given_on_the_last_day_or_later(limited):
    """A line is longer than the study, and an infusion runs past its end: only 15 of 60 mg."""
    np.testing.assert_allclose(of(limited, "given_mg")[2, 0, 0, -1], [40.0, 15.0, 0.0])


def test_the_safety_rule_scales_all_that_is_given_of_a_drug(limited):
    """The arm's own doses and those of lines; factors above 1 stop at the label maximum."""
    expected = [[1.0, 0.5, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.5]]
    np.testing.assert_array_equal(of(limited, "drug_factor")[4, 0, 0], expected)
    np.testing.assert_allclose(of(limited, "given_mg")[4, 0, 0, :, A], [50.0, 130.0, 180.0])


@pytest.mark.parametrize("decided", [0, 2, 4])
def test_what_is_given_under_limits_acts_as_the_same_written_out(limited, decided):
    """Cells of both sites, and amounts, against the arm beside it."""
    for name, rtol in (("site_burden", 1e-9), ("given_mg", 1e-12)):
        found = of(limited, name)[decided : decided + 2, 0, 0]
        np.testing.assert_allclose(*found, rtol=rtol)


# --- the marrow ------------------------------------------------------------------------------------


def test_neutrophils_are_those_of_the_same_doses():
    """`host.course` under the concentrations of the written doses, in both kinds of arms; the lowest count
    and the days in every grade end at the horizon, which here lies between two visits.
    """
    model = builders.build(**MODEL)
    own = builders.host(model, slope={"a": 0.2}, baseline=4.0)
    plain = Arm("plain", doses(A, range(0, 12, 3), 800.0))
    found = meanfield.simulate(study(plain, always(plain), model=model, hosts=(own,)))
    with jax.enable_x64(True):
        given = arm_inputs(model, plain, multiples(0.25, 17.0))
        blood = drug_course.course(
            model.plasma, model.delivery, model.cellular.transport, given
        ).blood
        along = host.course(
            own, model.cellular.transport, jnp.asarray(blood), jnp.full(68, 0.25), longest=0.25
        )
    along = jax.tree.map(np.asarray, along)
    expected = along.circulating[::4], along.lowest[-1], along.grade_days[-1]
    assert along.lowest[-1] < 2.0
    for arm in (0, 1):
        names = ("neutrophils", "lowest_neutrophils", "grade_days")
        mine = [of(found, name)[arm, 0, 0] for name in names]
        for x, y in zip(mine, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8)
        assert mine[2].sum() == pytest.approx(17.0, rel=1e-12)


def test_days_by_grade_end_at_the_visit_after_a_tumor_was_last_followed():
    """Tumors that grow to a size are followed no further, and neither is the marrow of their patients, in
    both kinds of arms; nobody sees that no cell is left, and of who stays the horizon is the end.
    """
    model = builders.build(**MODEL | {"max_death_rate": 0.0})
    own = builders.host(model, slope={"a": 0.2}, baseline=4.0)
    plain = Arm("plain", doses(A, range(0, 12, 3), 800.0))
    problem = study(
        plain, always(plain), model=model, hosts=(own,), stop_at_cells=200, replicates=60,
        founders=(Founder(1, 0, 0),),
    )  # fmt: skip
    found = clones.simulate(problem)
    status, end = of(found, "status"), of(found, "end_day")
    until = np.where(status == STOPPED, np.minimum(EVERY * np.ceil(end / EVERY), 17.0), 17.0)
    for kind in (RUNNING, EXTINCT, STOPPED):
        assert np.sum(status == kind, axis=(1, 2)).min() > 2
    assert np.unique(until).size > 2
    np.testing.assert_allclose(of(found, "grade_days").sum(axis=-1), until, rtol=1e-12)
    lowest = of(found, "lowest_neutrophils")
    assert np.all(lowest[status != STOPPED] == lowest.min())
    assert lowest.max() > lowest.min()


def test_an_arm_can_have_a_transduced_marrow_of_its_own():
    """Its neutrophils are those of a patient in whom that share carries the pump, whether the arm decides
    or not; the other arms keep the patient's own, and the tumor is the same in all.
    """
    model = builders.build(**MODEL)
    toxic = {"slope": {"a": 0.1}, "baseline": 4.0, "transduced_pump": {"P": 5.0}}
    usual, treated = (builders.host(model, **toxic, transduced_share=s) for s in (0.0, 0.7))
    plain = Arm("plain", doses(A, range(0, 12, 3), 800.0))
    arms = [plain, plain._replace(name="own", transduced_share=0.7)]
    arms += [always(plain)._replace(name="decided", transduced_share=0.7)]
    found = meanfield.simulate(study(*arms, model=model, hosts=(usual,)))
    other = meanfield.simulate(study(plain, model=model, hosts=(treated,)))
    lowest = of(found, "lowest_neutrophils")[:, 0, 0]
    np.testing.assert_allclose(lowest[1:], of(other, "lowest_neutrophils")[0, 0, 0], rtol=1e-12)
    assert lowest[1] > 1.2 * lowest[0]
    np.testing.assert_array_equal(of(found, "burden")[1], of(found, "burden")[0])


@pytest.mark.slow
def test_many_tumors_behind_a_barrier_are_seen_at_once():
    """A block of 256 with an inhibited pump at its barrier, whose propagators are made on the way: a program
    with two batched LAPACK calls in it never ended on two cores.
    """
    plain = Arm("plain", doses(A, 1.4 * np.arange(20), is_oral=True))
    problem = study(always(plain), plain, model=builders.build(**MODEL | BARRIER), horizon=4.0)
    found = of(clones.simulate(problem), "site_burden")[:, 0, 0, -1]
    assert np.array_equal(found[0], found[1])
