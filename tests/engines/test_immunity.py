"""Immune cells in the engines: closed forms, the finite chain, the event-by-event twin, each other."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.stats import chi2

from jaxevo.drug.schedule import Level
from jaxevo.engines import cells, clones, extinction, flow, meanfield
from jaxevo.engines.base import Arm, Founder, Problem, Record, Refused, Relapse, Visits
from jaxevo.engines.grid import marks
from jaxevo.engines.handover import simulate_handed_over, state_of
from jaxevo.engines.process import first_extra, planned
from tests import immune_twin, laws
from tests.builders import build, in_double
from tests.immune_twin import Engaged
from tests.laws import Law
from tests.statistics import assert_law
from tests.visiting import always, with_arms

STOCHASTIC = {"cells": cells, "clones": clones}
DAYS, NUM = 4.0, 6_000  # of small tumors: one shape, so that an engine is compiled once
ENGINES = STOCHASTIC | {"meanfield": meanfield}
BOTH_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in STOCHASTIC]
ONE_SLOW = [BOTH_SLOW[0], "clones"]


def problem(
    founders: int | tuple[Founder, ...], horizon: float, options=None, **parameters
) -> Problem:
    """A tumor of one kind of cell from day 0, unless it says otherwise; nothing is given."""
    started = founders if isinstance(founders, tuple) else (Founder(founders, 0, 0),)
    chosen = {
        "seed": 14, "replicates": 1, "sync": 0.125, "max_cells": 4000,
        "record": Record(every=horizon, concentration_every=horizon),
    } | (options or {})  # fmt: skip
    arms = chosen.pop("arms", (Arm("none", ()),))
    return Problem(build(**parameters), started, arms, horizon=horizon, **chosen)


def of(trajectory, name: str) -> np.ndarray:
    return np.asarray(trajectory[""][name].data)


def last(engine: str, study: Problem) -> np.ndarray:
    """Living cells at the end, [replicate], of the first arm and patient."""
    return of(ENGINES[engine].simulate(study), "burden")[0, 0, :, -1]


# --- effectors that do not change ------------------------------------------------------------------

STEADY = {"influx": 5.0, "loss_rate": 0.5, "effectors": 10.0, "kill_rate": 0.04}  # E = 10, kill 0.4


@pytest.mark.parametrize("engine", STOCHASTIC)
def test_under_steady_effectors_a_clone_follows_kendalls_law(engine):
    """E = s/d for ever and mass action: birth b, death d + n E, 3 founders, 4 days; the whole law."""
    study = problem(3, DAYS, {"replicates": NUM}, birth_rate=0.9, death_rate=0.3, **STEADY)
    law = laws.birth_death([DAYS], [0.9], [0.3 + 0.4]).law(3)
    assert_law(last(engine, study), law, detect=0.065)


def test_the_chance_to_escape_steady_effectors_is_kendalls():
    """`extinction`: 1 - alpha^N with death d + n E, to 1e-9; one founder of many does not recruit."""
    study = problem(
        2, 8.0, {"relapse": Relapse("survival")}, birth_rate=0.9, death_rate=0.3, **STEADY
    )
    root = extinction.simulate(study)[""]
    expected = 1 - laws.birth_death([8.0], [0.9], [0.7]).extinction(2)
    assert root["relapse_probability"].data[0, 0, -1] == pytest.approx(expected, rel=1e-9)
    assert root["closure"].data[0] == "rates along the mean course"


@pytest.mark.slow
@pytest.mark.parametrize("engine", STOCHASTIC)
def test_effectors_that_fade_kill_less_day_by_day(engine):
    """E = E0 e^-dt without influx: Kendall's law with death d + n E0 e^-dt, in 400 pieces."""
    study = problem(4, DAYS, {"replicates": NUM}, birth_rate=0.6, death_rate=0.1,
                    loss_rate=0.8, effectors=10.0, kill_rate=0.15)  # fmt: skip
    edges = np.linspace(0, 4, 401)
    faded = -np.diff(np.exp(-0.8 * edges)) / (0.8 * np.diff(edges))
    law = laws.birth_death(np.diff(edges), np.full(400, 0.6), 0.1 + 1.5 * faded).law(4)
    assert_law(last(engine, study), law, detect=0.065)


@pytest.mark.parametrize("engine", STOCHASTIC)
def test_saturated_killing_lets_large_tumors_go(engine):
    """n E/(1 + T/h) at steady E: a finite chain, whose law is a matrix exponential."""
    study = problem(12, DAYS, {"replicates": NUM}, birth_rate=0.5, death_rate=0.1, influx=5.0,
                    loss_rate=0.5, effectors=10.0, kill_rate=0.15, kill_half=6.0)  # fmt: skip
    n = np.arange(241)
    up, down = 0.5 * n, n * (0.1 + 1.5 / (1 + n / 6.0))
    up[-1] = 0.0
    generator = np.diag(up[:-1], 1) + np.diag(down[1:], -1) - np.diag(up + down)
    p = expm(DAYS * generator)[12]
    assert p[-20:].sum() < 1e-9
    assert_law(last(engine, study), Law(n, np.maximum(p, 0) / p.sum()), detect=0.07)


# --- effectors and suppressors that follow the tumor -----------------------------------------------

LAW = Engaged(
    birth=0.9, death=0.2, kill=0.13, kill_half=40.0, influx=9.0, recruitment=0.5, recruitment_half=15.0,
    exhaustion=0.012, loss=1.0, effectors=14.0, attraction=15.0, attraction_half=20.0,
    suppressor_loss=0.8, half=12.0,
)  # fmt: skip
COUPLED = {
    "birth_rate": LAW.birth, "death_rate": LAW.death, "kill_rate": LAW.kill,
    "kill_half": LAW.kill_half, "influx": LAW.influx, "recruitment": LAW.recruitment,
    "recruitment_half": LAW.recruitment_half, "exhaustion": LAW.exhaustion, "loss_rate": LAW.loss,
    "effectors": LAW.effectors, "suppressor_recruitment": LAW.attraction,
    "suppressor_half": LAW.attraction_half, "suppressor_loss_rate": LAW.suppressor_loss,
    "suppression_half": LAW.half,
}  # fmt: skip
FOUNDERS, TWINS = 15, 200_000


@cache
def twins() -> np.ndarray:
    """T, E, M of the twin, [3, tumor]."""
    return immune_twin.simulate(LAW, FOUNDERS, DAYS, TWINS, seed=5)


@cache
def coupled(engine: str):
    """The same tumors by an engine."""
    study = problem(FOUNDERS, DAYS, {"replicates": NUM}, **COUPLED)
    return ENGINES[engine].simulate(study)


@pytest.mark.parametrize("engine", STOCHASTIC)
def test_tumor_and_immune_cells_follow_the_event_by_event_twin(engine):
    """The whole law of T after 4 days, a sixth of all tumors extinct; a distance of .07 is noticed.

    Expected frequencies are those of 200,000 twins, whose own scatter adds a fortieth to chi-square.
    """
    values, count = np.unique(twins()[0].astype(int), return_counts=True)
    assert 0.1 < count[0] / TWINS < 0.5
    found = of(coupled(engine), "burden")[0, 0, :, -1]
    assert_law(found, Law(values, count / TWINS), detect=0.07)


@pytest.mark.parametrize("engine", STOCHASTIC)
@pytest.mark.parametrize(("row", "name"), [(1, "effector_cells"), (2, "suppressor_cells")])
def test_immune_cells_of_living_tumors_follow_the_twin(engine, row, name):
    """Their quintiles among tumors that live: a fifth of the replicates in each, to 6 standard errors
    (false-fail rate 1e-8; a shift of 9 % of the tumors from one fifth to another is noticed).
    """
    trajectory = coupled(engine)
    alive, ours = twins()[0] > 0, of(trajectory, "burden")[0, 0, :, -1] > 0
    edges = np.quantile(twins()[row, alive], [0.2, 0.4, 0.6, 0.8])
    found = of(trajectory, name)[0, 0, ours, -1, 0]
    share = np.bincount(np.searchsorted(edges, found), minlength=5) / len(found)
    assert np.all(np.abs(share - 0.2) < 6 * np.sqrt(0.16 / len(found)))


MANY = 2_000  # times the cells of the twin, with every rate of contact divided by it


NUM_LARGE = 96


@cache
def large() -> Problem:
    """The coupled problem with so many cells that fluctuations are small."""
    scaled = {"kill_rate": 1 / MANY, "exhaustion": 1 / MANY}
    numbers = ("kill_half", "influx", "recruitment_half", "effectors", "suppressor_recruitment",
               "suppressor_half", "suppression_half")  # fmt: skip
    scaled |= dict.fromkeys(numbers, MANY)
    parameters = {name: value * scaled.get(name, 1) for name, value in COUPLED.items()}
    options = {"replicates": NUM_LARGE, "max_cells": 100_000, "sync": 1 / 32}
    return problem(FOUNDERS * MANY, DAYS, options, **parameters)


@pytest.mark.slow
@pytest.mark.parametrize("engine", STOCHASTIC)
def test_many_cells_follow_the_mean_field(engine):
    """Means of 96 tumors of 2e4 cells within 5 standard errors (1.8 %; false-fail rate 6e-7) and .5 %, the
    bias of a sync of 1/32 day in `cells`; immune cells vary by less than T does. The deviation within the
    quantiles of its law (1e-6): 1.65 times or .57 times of it is noticed.
    """
    mean = meanfield.simulate(large())
    found = ENGINES[engine].simulate(large())
    burden = of(found, "burden")[0, 0, :, -1]
    expected, deviation = (of(mean, name)[0, 0, 0, -1] for name in ("burden", "burden_sd"))
    slack = 5e-3 + 5 * deviation / expected / np.sqrt(NUM_LARGE)
    assert abs(burden.mean() / expected - 1) < slack
    low, high = np.sqrt(chi2.ppf([5e-7, 1 - 5e-7], NUM_LARGE - 1) / (NUM_LARGE - 1))
    assert low < burden.std(ddof=1) / deviation < high
    for name in ("effector_cells", "suppressor_cells"):
        immune = of(found, name)[0, 0, :, -1, 0].mean()
        assert abs(immune / of(mean, name)[0, 0, 0, -1, 0] - 1) < slack


def test_cells_carries_the_immune_cells_of_a_tumor_that_stands_still():
    """Effectors of a tumor in which nothing happens, by syncs of .5 and .125 days against the
    closed form: Runge-Kutta, so that even the coarsest is right to 1e-5.
    """
    steady = {"birth_rate": 0.0, "death_rate": 0.0, "influx": 40.0, "loss_rate": 2.0,
              "exhaustion": 0.03, "effectors": 100.0}  # fmt: skip
    for sync in (0.5, 0.125):
        found = cells.simulate(problem(50, 2.0, {"sync": sync}, **steady))
        rate = 2.0 + 0.03 * 50
        expected = 40 / rate + (100 - 40 / rate) * np.exp(-rate * 2.0)
        assert of(found, "effector_cells")[0, 0, 0, -1, 0] == pytest.approx(expected, rel=1e-5)


# --- two sites, drugs, evasion ---------------------------------------------------------------------

EVADERS = {
    "antigen": {"antigen_factor": 0.0, "inheritance": "mutation"},
    "ligand": {"ligand_share": 0.9, "inheritance": "mutation"},
}
SITES = {
    "sites": ("lung", "brain"), "drugs": ("anti", "clear"), "alterations": EVADERS,
    "birth_rate": 0.3, "death_rate": 0.1, "migration_rate": {"lung": {"brain": 0.01}},
    "influx": 400.0, "loss_rate": 0.2, "recruitment": 0.15, "recruitment_half": 2e4,
    "exhaustion": 2e-7, "effectors": 2000.0, "kill_rate": 3e-4, "kill_half": 1e5,
    "infiltration": {"brain": 0.1}, "suppressor_recruitment": 3e3, "suppressor_half": 3e4,
    "suppressor_loss_rate": 0.3, "suppression_half": 3e3, "suppressor_infiltration": {"brain": 0.5},
    "suppressors": 100.0, "checkpoint_block": {"anti": 1.0}, "checkpoint_ec50": {"anti": 0.5},
    "removal_rate": {"clear": 1.5}, "removal_ec50": {"clear": 0.2},
}  # fmt: skip
ANTIBODY, CLEARING = (Level(0, 0.0, 20.0, 4.5),), (Level(1, 0.0, 20.0, 0.6),)
ARMS = (Arm("none", ()), Arm("anti", (), ANTIBODY), Arm("clear", (), CLEARING),
        Arm("both", (), ANTIBODY + CLEARING))  # fmt: skip


def evading(kind: str | None, arms=ARMS, options=None, **change) -> Problem:
    """10,000 cells of one kind in the lung, twenty days under every arm."""
    genotype = {None: 0, "antigen": 1, "ligand": 2}[kind]
    chosen = {"arms": arms, "sync": 1.0} | (options or {})
    return problem((Founder(10_000, genotype, 0),), 20.0, chosen, **SITES | change)


@cache
def ends(kind: str | None, **change) -> dict[str, float]:
    """Expected cells at the end, by arm."""
    root = meanfield.simulate(evading(kind, **change))[""]
    return dict(zip(root["arm"].data.tolist(), root["burden"].data[:, 0, 0, -1], strict=True))


def test_two_sites_with_drugs_follow_the_equations_written_out():
    """All four arms against SciPy: visibility, saturation, suppression, removal, infiltration."""
    p, found = SITES, meanfield.simulate(evading("ligand"))
    for index, (antibody, clearing) in enumerate([(0, 0), (4.5, 0), (0, 0.6), (4.5, 0.6)]):
        seen = 1 - 0.9 * (1 - antibody / (antibody + 0.5))
        removal = 1.5 * clearing / (clearing + 0.2)
        here, there = np.array([1, 0.1]), np.array([1, 0.5])

        def slope(_, y, seen=seen, removal=removal, here=here, there=there):
            t, e, m = y.reshape(3, 2)
            free = 1 / (1 + m / p["suppression_half"])
            killed = seen * p["kill_rate"] * free * e / (1 + t / p["kill_half"])
            moved = np.array([-1, 1]) * 0.01 * t[0]
            dt = (0.3 - 0.1 - killed) * t + moved
            de = here * (p["influx"] + 0.15 * free * e * t / (2e4 + t)) - (2e-7 * t + 0.2) * e
            dm = there * 3e3 * t / (3e4 + t) - (0.3 + removal) * m
            return np.concatenate([dt, de, dm])

        start = np.array([1e4, 0, 2000, 2000, 100, 100])
        solved = solve_ivp(slope, (0, 20), start, "DOP853", rtol=1e-11, atol=1e-6).y[:, -1]
        ours = [of(found, name)[index, 0, 0, -1] for name in
                ("site_burden", "effector_cells", "suppressor_cells")]  # fmt: skip
        np.testing.assert_allclose(np.concatenate(ours), solved, rtol=1e-6)


def test_a_checkpoint_inhibitor_helps_against_the_ligand_and_not_against_a_lost_antigen():
    """Biology row 13, as outcomes: fewer cells with the ligand, the same bits with a lost antigen and
    in cells that hide nothing.
    """
    assert ends("ligand")["anti"] < 0.5 * ends("ligand")["none"]
    assert ends("antigen")["anti"] == ends("antigen")["none"]
    assert ends(None)["anti"] == ends(None)["none"]
    assert ends(None)["none"] < ends("ligand")["none"] < ends("antigen")["none"]


def test_a_drug_that_removes_suppressors_frees_the_effectors():
    """Biology row 18: fewer cells; the same bits where nothing is suppressed, or nothing is seen."""
    assert ends(None)["clear"] < 0.8 * ends(None)["none"]
    free = ends(None, suppression_half=np.inf)
    assert free["clear"] == pytest.approx(free["none"], rel=1e-8)
    assert free["none"] < ends(None)["none"]
    assert ends("antigen")["clear"] == pytest.approx(ends("antigen")["none"], rel=1e-8)
    assert ends("ligand")["both"] < min(ends("ligand")["anti"], ends("ligand")["clear"])


def test_exhaustion_and_saturation_let_more_cells_live():
    """Biology row 18: more exhaustion by contact, and killing that saturates earlier, cost effectors."""
    assert ends(None, exhaustion=2e-5)["none"] > 1.05 * ends(None)["none"]
    assert ends(None, kill_half=1e3)["none"] > 1.05 * ends(None)["none"]
    assert ends(None, recruitment=0.0)["none"] > 1.05 * ends(None)["none"]


# --- off -------------------------------------------------------------------------------------------

OFF = {"kill_rate": 0.0}


@pytest.mark.parametrize("engine", [*BOTH_SLOW, "meanfield", "extinction"])
def test_immune_numbers_of_zero_change_no_bit(engine):
    """No influx, no killing: the trajectory of the study without immune cells, and theirs, all 0.

    `clones` in steps; events are drawn in strides once there are extra variables. `meanfield` and
    `extinction` then integrate what they solved in closed form: to 1e-7.
    """
    plain = {name: SITES[name] for name in
             ("sites", "drugs", "alterations", "birth_rate", "death_rate", "migration_rate")}  # fmt: skip
    simulate = (ENGINES | {"extinction": extinction})[engine].simulate
    options = {"replicates": 20, "sync": 0.5, "max_cells": 20_000, "exact_below": 0}
    bare, off = (
        simulate(problem((Founder(1_000, 0, 0),), 5.0, options, **plain, **change))
        for change in ({}, OFF)
    )
    bits = {"cells": 0.0, "clones": 0.0}.get(engine, 1e-7)
    assert off[""].keys() - bare[""].keys() <= {"effector_cells", "suppressor_cells"}
    for name, variable in bare[""].items():
        new = off[""][name].data
        if name == "closure":
            continue
        if np.issubdtype(new.dtype, np.floating):
            np.testing.assert_allclose(new, variable.data, rtol=bits, atol=0)
        else:
            np.testing.assert_array_equal(new, variable.data)
    if engine in ENGINES:
        assert not of(off, "effector_cells").any()


def test_without_immune_cells_nothing_is_tabulated_for_them():
    """No leaf of the tables of rates, no extra variable: kernels are those of before."""
    study = problem(10, 2.0)
    with jax.enable_x64(True):
        when = marks(study.record, study.horizon)
        _, process = planned(study, when, cut_at_doses=True)
    assert process.speeds.visibility is None
    assert process.speeds.suppressor_removal is None
    assert first_extra(process).shape == (0,)


# --- bits, arms that decide, hand-over, gradients, refusals ----------------------------------------


@pytest.mark.parametrize("engine", ONE_SLOW)
def test_a_replicate_does_not_depend_on_its_batch(engine):
    """Replicates 2 and 3 alone are those among eight, bit for bit, immune cells too."""
    study = problem(FOUNDERS, DAYS, {"replicates": 8}, **COUPLED)
    whole = ENGINES[engine].simulate(study)
    part = ENGINES[engine].simulate(study, replicates=range(2, 4))
    for name in ("burden", "effector_cells", "suppressor_cells"):
        np.testing.assert_array_equal(of(part, name)[0, 0], of(whole, name)[0, 0, 2:4])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["clones", "meanfield"])
def test_an_arm_that_decides_has_the_immune_cells_of_one_that_does_not(engine):
    """A policy that always gives its line: what is tabulated at visits is what is tabulated at once."""
    levels = (Level(0, 0.0, 20.0, 4.5), Level(1, 0.0, 20.0, 0.6))
    options = {"visits": Visits(every=5.0), "replicates": 3}
    written = evading("ligand", (Arm("given", (), levels),), options)
    decided = with_arms(written, always(Arm("given", (), levels)))
    a, b = (ENGINES[engine].simulate(study) for study in (written, decided))
    for name in ("burden", "effector_cells", "suppressor_cells"):
        np.testing.assert_allclose(of(b, name), of(a, name), rtol=1e-6)


@pytest.mark.slow
def test_patients_have_immune_cells_of_their_own():
    """Two patients in one call are each the study with that patient alone."""
    models = tuple(build(**SITES | {"kill_rate": k}) for k in (1e-4, 4e-4))
    study = evading(None, ARMS[:1], {"patients": models, "replicates": 2})
    for engine in (clones, meanfield):
        both = engine.simulate(study)
        alone = engine.simulate(study._replace(patients=models[1:], first_patient=1))
        for name in ("burden", "effector_cells"):
            np.testing.assert_allclose(of(both, name)[:, 1], of(alone, name)[:, 0], rtol=1e-9)
        assert np.all(of(both, "burden")[0, 0, :, -1] > of(both, "burden")[0, 1, :, -1])


@pytest.mark.parametrize("engine", ONE_SLOW)
def test_immune_cells_are_handed_over_with_the_tumor(engine):
    """Day 0 of the next run has the effectors of the last day of this one."""
    snapshot = Record(every=DAYS, snapshot_days=(DAYS,) if engine == "cells" else ())
    study = problem(FOUNDERS, DAYS, {"replicates": 4, "record": snapshot}, **COUPLED)
    run = ENGINES[engine].simulate(study)
    state = state_of(run)
    on = ENGINES[engine].simulate(study, start=state)
    for name in ("burden", "effector_cells", "suppressor_cells"):
        np.testing.assert_allclose(of(on, name)[0, 0, :, 0], of(run, name)[0, 0, :, -1], rtol=1e-6)


@pytest.mark.slow
def test_growth_by_clones_hands_effectors_to_cells():
    """Tumors that grow under attack to 300 cells bring what they have recruited."""
    growing = COUPLED | {"influx": 3.0, "effectors": 3.0, "birth_rate": 1.2}
    options = {"replicates": 4, "treat_at_cells": 300}
    found = simulate_handed_over(problem(5, 1.0, options, **growing))
    assert np.all(of(found, "trigger_cells") >= 300)
    assert np.all(of(found, "effector_cells")[0, 0, :, 0, 0] != 3.0)


@in_double
def test_expected_cells_are_differentiable_in_every_immune_number():
    """d ln T(20)/d ln x through the course of the mean, against central differences, to 1e-5."""
    study = evading("ligand", ARMS[3:])
    _, stacked = planned(study, marks(study.record, 20.0), cut_at_doses=True)
    law = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[0]), stacked)
    count = jnp.zeros(law.net.num_types).at[law.net.type_of(2, 0)].set(1e4)
    names = ("kill_rate", "kill_half", "recruitment", "exhaustion", "loss_rate", "suppression_half",
             "suppressor_recruitment", "influx")  # fmt: skip
    most = int(np.max(np.asarray(flow.course(law, count).steps))) + 4

    def ending(factors):
        immune = law.model.immune
        scaled = [getattr(immune, name) * f for name, f in zip(names, factors, strict=True)]
        changed = eqx.tree_at(lambda i: [getattr(i, name) for name in names], immune, scaled)
        own = eqx.tree_at(lambda p: p.model.immune, law, changed)
        return jnp.log(jnp.sum(flow.course(own, count, most=most).count[-1]))

    at = jnp.ones(len(names))
    slope = np.asarray(jax.jit(jax.grad(ending))(at))
    value = jax.jit(ending)
    for i in range(len(names)):
        step = 1e-4 * np.eye(len(names))[i]
        measured = float(value(at + step) - value(at - step)) / 2e-4
        assert slope[i] == pytest.approx(measured, rel=1e-5, abs=1e-7), names[i]
    assert slope[0] < 0 < slope[3]


def test_what_has_no_law_is_refused():
    """Growth to a size in `extinction`, and cells that stand still in `meanfield`."""
    grown = problem(1, 5.0, {"treat_at_cells": 1000}, birth_rate=0.9, death_rate=0.1, **STEADY)
    with pytest.raises(Refused, match="without immunity or feedback"):
        extinction.simulate(grown)
    still = problem(10, 5.0, {"still_below": 1.0}, **STEADY)
    with pytest.raises(Refused, match="crowding, immunity or feedback reads it"):
        meanfield.simulate(still)
