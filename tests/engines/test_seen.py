"""What a rule sees at a visit, and nothing else; what is refused; bits of arms that decide."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from jaxevo.drug.schedule import Dose
from jaxevo.engines import cells, clones, extinction, meanfield, pool
from jaxevo.engines.base import Arm, Founder, Line, Problem, Record, Refused, Rule, Visits
from jaxevo.engines.tumors import EXTINCT, INTERRUPTED
from jaxevo.treatment import POLICIES
from tests import builders
from tests.laws import Law
from tests.statistics import assert_law, assert_variance, normal_law
from tests.visiting import echo, of, with_arms, written

STILL = {
    "sites": ("s", "t"), "birth_rate": 0.0, "death_rate": 0.0,
    "alterations": {"e": {}, "f": {"max_level": 2}},
}  # fmt: skip
FOUNDERS = (Founder(600, 0, 0), Founder(300, 1, 0), Founder(80, 2, 1), Founder(20, 4, 1))


def still(*arms: Arm, **options) -> Problem:
    """1,000 cells of four classes at two sites that do nothing, seen on the days 0, 4, 8 of ten."""
    chosen = {
        "model": builders.build(**STILL), "founders": FOUNDERS, "seed": 3, "replicates": 2,
        "horizon": 10.0, "sync": 2.0, "max_cells": 1, "record": Record(every=4.0),
        "visits": Visits(every=4.0),
    } | options  # fmt: skip
    return Problem(arms=arms, **chosen)


# --- what is seen ----------------------------------------------------------------------------------


def test_shares_of_alterations_and_cells_of_classes_are_seen_from_their_limits_on():
    """Of 1,000 cells at two sites 300 have e (.3), 100 have f at any level (.1), 20 the class (0, 2)."""
    arms = echo("fractions", 2), echo("composition", 4)
    for sequencing, smallest, fractions, classes in (
        (0.0, 0.0, (0.3, 0.1), (600, 300, 80, 20)),
        (0.1, 80.0, (0.3, 0.1), (600, 300, 80, 0)),
        (0.11, 80.5, (0.3, 0.0), (600, 300, 0, 0)),
    ):
        ordered = Visits(every=4.0, sequencing=sequencing, composition=smallest)
        share = of(meanfield.simulate(still(*arms, visits=ordered)), "line_share")[:, 0, 0]
        np.testing.assert_allclose(share[0, 2, :2], fractions)
        np.testing.assert_allclose(share[1, 2], classes)


def test_a_burden_below_detection_is_none_and_stays_known_between_scans():
    """Treated at 100, 10 and 1 cells left: a scan at every other visit; then the one before."""
    shrinking = builders.build(**STILL | {"death_rate": np.log(10) / 4, "alterations": {}})
    founders = (Founder(1000, 0, 0),)
    problem = still(echo("scans", 4), model=shrinking, founders=founders, horizon=20.0)
    visits = Visits(every=4.0, scan_every=2, detection_cells=5.0)
    found = meanfield.simulate(problem._replace(visits=visits))
    expected = [
        [1000, 0, 1, 0],
        [1000, 0, 0, 4],
        [10, 1000, 1, 8],
        [10, 1000, 0, 12],
        [0, 10, 1, 16],
    ]
    np.testing.assert_allclose(of(found, "line_share")[0, 0, 0, :5], expected, rtol=1e-12)
    scans = of(found, "scan_burden")[0, 0, 0]
    np.testing.assert_allclose(scans, [1000, np.nan, 10, np.nan, 0, np.nan], rtol=1e-12)


CV = 0.3


@pytest.fixture(scope="module")
def noisy():
    """250 replicates, ten noisy scans each; one arm sees them, one does not."""
    visits = Visits(every=1.0, noise_cv=CV)
    arms = echo("scans", 4), Arm("plain", ())
    return clones.simulate(still(*arms, visits=visits, replicates=250, sync=1.0))


def test_noise_of_scans_is_log_normal_with_median_1(noisy):
    """ln(seen/true) is normal with sigma^2 = ln(1 + cv^2): its law in twenty parts of equal
    probability (2,750 scans, total variation .1), and its variance (25 %).
    """
    z = np.log(of(noisy, "scan_burden")[1, 0] / 1000) / np.sqrt(np.log1p(CV**2))
    parts = Law(np.arange(20), np.full(20, 0.05))
    assert_law(np.floor(20 * ndtr(z)), parts, detect=0.1)
    assert_variance(z, normal_law(0.0, 1.0), detect=0.25)


def test_noise_is_the_same_in_all_arms_and_another_at_every_visit(noisy):
    """Also the same that the rule sees; replicates differ as visits do."""
    seen, plain = of(noisy, "scan_burden")[:, 0]
    assert np.array_equal(seen, plain)
    assert np.array_equal(seen[:, :10], of(noisy, "line_share")[0, 0, :, :10, 0])
    assert len(np.unique(seen)) == seen.size
    between = np.corrcoef(seen[:, :-1].ravel(), seen[:, 1:].ravel())[0, 1]
    assert abs(between) < 5 / np.sqrt(2500)


# --- what is refused -------------------------------------------------------------------------------


def reads(name: str):
    """A policy that reads one thing."""
    return lambda _, state, seen: (state, jnp.ones(1) * jnp.sum(getattr(seen, name)))


def refused(decide=None, *, role: str = "policy", start=(), engine=meanfield, **options) -> str:
    """The sentence with which an engine refuses an arm of one line under one rule."""
    rule = Rule("mine", decide or (lambda _, state, seen: (state, seen.share)), start)
    arm = Arm("arm", (), lines=(Line("line"),), **{role: rule})
    with pytest.raises(Refused) as error:
        engine.simulate(still(arm, **options))
    return str(error.value)


@pytest.mark.parametrize("name", ["fractions", "composition", "neutrophils", "count", "classes"])
def test_a_rule_that_reads_what_is_not_observed_is_refused_when_the_engine_is_built(name):
    """The sentence names the rule, what it read and what there is; no count of cells is among it."""
    for engine in (meanfield, clones):
        sentence = refused(reads(name), engine=engine)
        assert sentence.startswith(
            f"policy 'mine' of arm 'arm' reads {name!r}, which is not observed"
        )
        assert sentence.endswith(
            "observed are burden, day, factor, given_mg, is_scan, last_scan, share, visit"
        )


def test_what_a_rule_sees_are_copies_of_numbers():
    """Nothing that a rule can reach through `Seen` leads to the tumor."""
    found = []

    def looks(_, state, seen):
        found.append(sorted(vars(seen)))
        return state, seen.share

    arm = Arm("arm", (), lines=(Line("line"),), policy=Rule("looks", looks))
    meanfield.simulate(still(arm, horizon=4.0))
    observed = [
        "burden",
        "day",
        "factor",
        "genotypes",
        "given_mg",
        "is_scan",
        "last_scan",
        "share",
        "visit",
    ]
    assert found
    assert all(names == observed for names in found)


def answers(value):
    """A policy with a fixed answer."""
    return lambda _, state, __: (state, jnp.asarray(value, float))


@pytest.mark.parametrize(("options", "sentence"), [
    ({"decide": answers([1.0, 0.0])}, "policy 'mine' of arm 'arm' answers with shape (2,); expected (1,)"),
    ({"decide": answers(1.0)}, "policy 'mine' of arm 'arm' answers with shape (); expected (1,)"),
    ({"decide": answers([1.0]), "role": "safety"},
     "safety 'mine' of arm 'arm' answers with shape (1,); expected (0,), one number for each drug"),
    ({"decide": lambda _, __, seen: (jnp.zeros(2), seen.share), "start": np.zeros(1)},
     "policy 'mine' of arm 'arm' returns a state unlike its start"),
    ({"decide": answers([-0.1])}, "arm 'arm': a rule answered with a negative number, infinity or not"),
    ({"decide": answers([np.nan])}, "arm 'arm': a rule answered with a negative number, infinity or"),
    ({"decide": answers([np.inf])}, "arm 'arm': a rule answered with a negative number, infinity or"),
    ({"visits": None}, "arm 'arm' decides, and the study has no visits"),
    ({"engine": cells, "founders": (Founder(5, 0, 0),), "max_cells": 100},
     "arm 'arm' decides at visits, and the cells engine needs all doses in advance"),
    ({"engine": extinction}, "arm 'arm' decides by the whole tumor, and extinction solves for single"),
])  # fmt: skip
def test_answers_that_cannot_be_given_are_refused(options, sentence):
    """One sentence each, from the engine that meets it."""
    assert refused(**options).startswith(sentence)


def test_parameters_of_patients_must_be_as_many_as_patients():
    """`of_patient`: a leading axis; each patient's rule reads its own row."""
    rule = written(np.arange(6.0).reshape(3, 2, 1))._replace(of_patient=True)
    arm = Arm("arm", (), lines=(Line("line"),), policy=rule)
    own = builders.build(**STILL)
    with pytest.raises(
        Refused, match="'written' of arm 'arm' has parameters of 3 patients; the st"
    ):
        meanfield.simulate(still(arm, patients=(own, own)))
    found = meanfield.simulate(still(arm, patients=(own,) * 3))
    assert of(found, "line_share")[0, :, 0, :2, 0].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_patients_may_have_founders_of_their_own():
    """Both engines start each patient from its own cells."""
    own = builders.build(**STILL)
    each = ((Founder(7, 0, 0),), FOUNDERS, (Founder(5, 2, 1), Founder(4, 1, 0)))
    problem = still(Arm("none", ()), patients=(own,) * 3, founders_of=each, founders=each[0])
    for engine in (meanfield, clones):
        burden = of(engine.simulate(problem), "burden")[0, :, 0, -1]
        np.testing.assert_allclose(burden, [7, 1000, 9])
        with pytest.raises(
            Refused, match="founders_of are those of 2 patients, and the study has 3"
        ):
            engine.simulate(problem._replace(founders_of=each[:2]))


# --- types that stand still ------------------------------------------------------------------------


def test_types_with_few_cells_stand_still_until_the_next_sync():
    """Halved every day from 10 cells: 5, 2.5, 1.25, .625, and no further; beside it 100 cells go on."""
    model = builders.build(sites=("s", "t"), birth_rate=0.0, death_rate=np.log(2))
    founders = (Founder(10, 0, 0), Founder(100, 0, 1))
    problem = still(Arm("a", ()), model=model, founders=founders, sync=1.0, still_below=1.0)
    found = meanfield.simulate(problem._replace(record=Record(every=1.0)))
    cells_s, cells_t = of(found, "site_burden")[0, 0, 0].T
    np.testing.assert_allclose(cells_s[:6], [10, 5, 2.5, 1.25, 0.625, 0.625], rtol=1e-12)
    np.testing.assert_allclose(cells_t[[6, 7, 8]], [100 / 64, 100 / 128, 100 / 128], rtol=1e-12)
    assert of(found, "closure")[0] == "means, still where few"
    for engine in (clones, cells, extinction):
        with pytest.raises(Refused, match="still"):
            engine.simulate(problem._replace(max_cells=1000))
    crowded = builders.build(sites=("s", "t"), crowding="logistic", capacity=1e3)
    with pytest.raises(Refused, match="cells stand still by the count at a sync"):
        meanfield.simulate(problem._replace(model=crowded))


# --- bits ------------------------------------------------------------------------------------------

GROWING = {
    "drugs": ("x",), "targets": ("T",), "is_prescribed": {"x": 0.0}, "clearance": {"x": 5.0},
    "central_volume": {"x": 10.0}, "absorption_rate": {"x": 5.0}, "kd": {"T": {"x": 2.0}},
    "max_death_rate": 1.5, "birth_rate": 0.5, "death_rate": 0.2,
    "alterations": {"r": {"first_gain_probability": 0.02, "kd_fold": 30.0}},
}  # fmt: skip


def adaptive_study(**options) -> Problem:
    """Three patients, three replicates; on and off by noisy scans, beside an arm in advance."""
    course = tuple(Dose(0, float(day), 20.0, is_oral=True) for day in range(40))
    rule = POLICIES["adaptive"].make()
    patients = tuple(
        builders.build(**GROWING | {"clearance": {"x": c}, "birth_rate": b})
        for c, b in ((5.0, 0.5), (8.0, 0.55), (4.0, 0.45))
    )
    chosen = {
        "model": patients[0], "founders": (Founder(400, 0, 0),), "seed": 3, "replicates": 3,
        "arms": (Arm("in advance", course),
                 Arm("adaptive", (), lines=(Line("x", course),), policy=rule)),
        "horizon": 25.0, "sync": 1.0, "max_cells": 1, "record": Record(every=5.0),
        "patients": patients, "visits": Visits(every=3.0, noise_cv=0.2),
    } | options  # fmt: skip
    return Problem(**chosen)


@pytest.fixture(scope="module")
def run():
    """The study above."""
    return clones.simulate(adaptive_study())


NAMES = ("burden", "class_count", "scan_burden", "given_mg", "line_share", "births", "end_day")


def same_bits(found, expected, at) -> None:
    """All of `found` is `expected` at these arms, patients and replicates."""
    for name in NAMES:
        mine, its = of(found, name), of(expected, name)[at]
        assert np.array_equal(mine, its, equal_nan=True), name


def test_a_tumor_does_not_depend_on_what_else_is_simulated(run):
    """A replicate alone: 0 bits differ."""
    share = of(run, "line_share")[1]
    assert len(np.unique(share[..., 0][~np.isnan(share[..., 0])])) == 2
    same_bits(clones.simulate(adaptive_study(), replicates=range(1, 2)), run, np.s_[:, :, 1:2])


@pytest.mark.slow
def test_a_tumor_does_not_depend_on_other_patients_and_arms(run):
    """A patient alone, an arm alone: 0 bits differ."""
    study = adaptive_study()
    first = study._replace(patients=study.patients[:1])
    same_bits(clones.simulate(first), run, np.s_[:, :1])
    same_bits(clones.simulate(with_arms(study, study.arms[1])), run, np.s_[1:])


@pytest.mark.parametrize("calls", [1, 7])
def test_calls_may_be_cut_anywhere(run, calls):
    """Inside a window too: no bit differs."""
    same_bits(clones.simulate(adaptive_study(), intervals_per_call=calls), run, np.s_[:])


def test_patients_may_go_in_groups(run, monkeypatch):
    """One patient at a time: no bit differs."""
    monkeypatch.setattr(clones, "LAWS_PER_GROUP", 1)
    same_bits(clones.simulate(adaptive_study()), run, np.s_[:])


def test_rates_that_are_forgotten_are_worked_out_again(run, monkeypatch):
    """With no room to keep them: no bit differs."""
    monkeypatch.setattr(pool, "POOL_BYTES", 0)
    same_bits(clones.simulate(adaptive_study()), run, np.s_[:])


def test_an_interrupted_study_keeps_what_was_decided(run):
    """Stopped after some visits: their scans, shares and doses are those of the whole study."""
    asked = iter(range(1000))
    stops = clones.simulate(
        adaptive_study(), intervals_per_call=1, should_stop=lambda: next(asked) >= 20
    )
    known = ~np.isnan(of(stops, "line_share"))
    assert 0 < known.sum() < known.size
    expected = of(run, "line_share")
    assert np.array_equal(of(stops, "line_share")[known], expected[known])
    scanned = ~np.isnan(of(stops, "scan_burden"))
    assert scanned[1, 0, 0].sum() in (known[1, 0, 0].sum(), known[1, 0, 0].sum() + 1)
    assert np.array_equal(of(stops, "scan_burden")[scanned], of(run, "scan_burden")[scanned])
    assert np.all(np.isin(of(stops, "status"), (INTERRUPTED, EXTINCT)))


def test_meanfield_may_be_stopped_at_a_visit():
    """What was reached is there, the rest is NaN."""
    asked = iter(range(1000))
    problem = still(echo("scans", 4))
    found = meanfield.simulate(problem, should_stop=lambda: next(asked) >= 3)
    burden = of(found, "burden")[0, 0, 0]
    np.testing.assert_allclose(burden, [1000, 1000, 1000, np.nan])
    assert np.isnan(of(found, "line_share")[0, 0, 0, :, 0]).tolist() == [False, False, True]
