"""Precision medicine: lines by what was sequenced, CPM and DPM2.2 as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.treatment.precision import cpm, dpm22, personalized
from tests.builders import in_double
from tests.treatment.watched import Watched, answers, line_of, refused
from tests.validation.precision_medicine import (
    Patient,
    believed_of_all,
    patients,
    survival,
    treated,
)

GENOTYPES = (0, 1, 2, 3)
NAMES = {"lines": ("imatinib", "ponatinib", "dasatinib"), "alterations": ("T315I", "MDR1", "E255K")}
AGAINST = {"against": {"T315I": "ponatinib", "E255K": "dasatinib"}, "default": "imatinib"}


# --- personalized ----------------------------------------------------------------------------------


@pytest.mark.both_precisions
def test_the_line_is_the_one_against_the_most_frequent_alteration_in_the_sample():
    """It changes as another takes over; equally frequent ones: the first of the study."""
    seen = [(0, 0, 0), (0.1, 0, 0), (0.1, 0, 0.2), (0.3, 0, 0.3), (0.3, 0, 0.4)]
    given = answers(personalized(**NAMES, **AGAINST), lines=3, fractions=seen)[0]
    assert line_of(given) == [0, 1, 2, 1, 2]


@pytest.mark.both_precisions
def test_what_is_not_seen_or_has_no_line_against_it_changes_nothing():
    """MDR1 has no line of its own; below the detection limit a fraction is 0."""
    given = answers(personalized(**NAMES, **AGAINST), lines=3, fractions=[(0, 0.9, 0)] * 4)[0]
    assert line_of(given) == [0] * 4


@pytest.mark.both_precisions
def test_a_line_that_made_its_alteration_unseen_is_kept():
    """The sample is clean because ponatinib works: it goes on, also beside an MDR1 clone."""
    seen = [(0, 0, 0), (0.4, 0, 0), (0, 0, 0), (0, 0.5, 0)]
    given = answers(personalized(**NAMES, **AGAINST), lines=3, fractions=seen)[0]
    assert line_of(given) == [0, 1, 1, 1]


# --- CPM -------------------------------------------------------------------------------------------

SENSITIVE = ((0.5, 0.2), (0.0, 0.2), (0.5, 0.0), (0.0, 0.0))


def cpm_lines(totals, genotypes=GENOTYPES, first=0, table=SENSITIVE, **parameters) -> list[int]:
    """Lines of CPM while the tumor consists of one class."""
    cells = np.zeros((len(totals), len(genotypes)))
    cells[:, genotypes.index(first)] = totals
    rule = cpm(sensitivity_per_day=table, **parameters)
    return line_of(answers(rule, lines=2, genotypes=genotypes, composition=cells)[0])


@pytest.mark.both_precisions
@pytest.mark.parametrize(("first", "line"), [(0, 0), (1, 1), (2, 0), (3, 0)])
def test_cpm_starts_with_the_line_that_is_best_for_the_largest_class(first, line):
    """Ties, as of the doubly resistant class: the first line. Classes may come in any order."""
    assert cpm_lines([5e9], first=first) == [line]
    assert cpm_lines([5e9], genotypes=(2, 0, 3, 1), first=first) == [line]


@pytest.mark.both_precisions
def test_cpm_switches_once_at_twice_the_nadir():
    """At twice the nadir, not before; and never again."""
    assert cpm_lines([5e9, 2e9, 3.9e9, 4e9, 1e12, 5e9, 1e12]) == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.both_precisions
def test_cpm_sees_nothing_below_detection_and_a_relapse_above_it():
    """Doubling below 1e9 is not seen, nor is a nadir there; to come back above 1e9 is."""
    assert cpm_lines([5e9, 1e8, 9e8, 9.9e8]) == [0, 0, 0, 0]
    assert cpm_lines([5e9, 1e8, 9e8, 1e9]) == [0, 0, 0, 1]
    assert cpm_lines([5e9, 2e9, 1e9, 1.9e9]) == [0, 0, 0, 0]


@pytest.mark.both_precisions
def test_cpm_by_the_users_own_numbers():
    """Ratio and detection are parameters."""
    rule = {"progression_ratio": 1.5, "detectable_cells": 10.0}
    assert cpm_lines([100, 40, 59, 60], **rule) == [0, 0, 0, 1]


# --- DPM2.2 ----------------------------------------------------------------------------------------


def dpm(table=SENSITIVE, growth=0.05, mutation=1e-7, **parameters):
    """DPM2.2 for a believed patient; both mutations have the same probability."""
    mutants = np.zeros((4, 4))
    mutants[1, 0] = mutants[3, 2] = mutants[2, 0] = mutants[3, 1] = mutation
    return dpm22(
        growth_rate_per_day=growth, sensitivity_per_day=table,
        mutation_probability=tuple(map(tuple, mutants)), **parameters,
    )  # fmt: skip


def chosen(rule, *cells, genotypes=GENOTYPES) -> list[list[float]]:
    """Shares at a visit for every composition."""
    return answers(rule, lines=2, genotypes=genotypes, composition=cells)[0].tolist()


@pytest.mark.both_precisions
def test_dpm_prevents_double_resistance_while_the_tumor_is_small_and_shrinks_it_when_it_is_large():
    """R1 cells make R12 next, and D2 removes them fastest. The whole is smallest after half of both:
    S e^-13.5 + R1 e^-2.25, against S e^-6.75 after D2 and R1 e^2.25 after D1.
    """
    small, large = (5e9, 1e7, 0, 0), (5e11, 1e9, 0, 0)
    assert chosen(dpm(), small, large) == [[0, 1], [0.5, 0.5]]
    assert chosen(dpm(curable_cells=1e9), small, large) == [[0.5, 0.5], [0.5, 0.5]]
    assert chosen(dpm(), (5e11, 1, 0, 0)) == [[1, 0]]


@pytest.mark.both_precisions
def test_dpm_breaks_ties_in_the_stated_order():
    """A class that nothing kills: the same after each; D2. Frozen cells likewise."""
    assert chosen(dpm(), (0, 0, 0, 1e6), (0.5, 0.5, 0.5, 0.5)) == [[0, 1], [0, 1]]


@pytest.mark.both_precisions
def test_dpm_takes_the_latest_death_when_all_are_fatal():
    """A tumor of 5e12 cells that D1 slows and D2 does not; and no fatal course where one is not."""
    slow = ((0.04, 0.0),) * 4
    assert chosen(dpm(slow), (5e12, 0, 0, 0)) == [[1, 0]]
    assert chosen(dpm(((0.0, 0.0),) * 4), (5e12, 0, 0, 0)) == [[0, 1]]
    fatal_but_free_of_r12 = dpm(
        ((0.04, 0.0), (0.04, 0.0), (0.04, 0.0), (0.0, 0.5)), fatal_cells=1e11
    )
    assert chosen(fatal_but_free_of_r12, (9e10, 0, 0, 1e9))[0] == [1, 0]


@pytest.mark.both_precisions
def test_dpm_reads_classes_in_any_order_and_may_know_less_than_all():
    """The same tumor with its classes in another order; one class alone."""
    cells = np.array([5e9, 1e9, 0, 0])
    order = (3, 1, 0, 2)
    assert chosen(dpm(), cells[list(order)], genotypes=order) == [[0, 1]]
    assert chosen(dpm(), (1e9,), genotypes=(0,)) == [[1, 0]]


def test_a_class_beyond_the_physicians_table_is_refused():
    """The table has four genotypes; the tumor has a fifth."""
    with pytest.raises(ValueError, match="table has 4 genotypes; the tumor has a genotype 7"):
        chosen(dpm(), (1e9, 1), genotypes=(0, 7))


# --- V03 -------------------------------------------------------------------------------------------

V03 = {  # mean, share of the cured, least shares within 1 day and within 5 %; computed ones beside
    "cpm": (883.2, 0.31, 0.89, 1.00),
    "dpm22": (1352.1, 0.64, 0.91, 0.97),
}


def as_answers(name: str, cohort: list[Patient]):
    """The rule of every patient, for `survival`."""
    rule = believed_of_all(name, cohort)
    many = lambda x: jnp.stack([jnp.asarray(x)] * len(cohort))  # noqa: E731
    params, state = jax.tree.map(jnp.asarray, rule.params), jax.tree.map(many, rule.start)

    @jax.jit
    @jax.vmap
    def at_visit(params, state, share, cells, visit):
        always = {"day": visit * 45.0, "factor": jnp.ones(2), "given_mg": jnp.zeros(2)}
        known = {"share": share, "composition": cells, "genotypes": np.arange(4)}
        return rule.decide(params, state, Watched(visit=visit, **always, **known))

    carried = [state, jnp.zeros((len(cohort), 2))]

    def answer(visit, cells):
        carried[:] = at_visit(params, *carried, cells, jnp.full(len(cohort), visit))
        return carried[1]

    return answer


@in_double
@pytest.mark.parametrize("name", V03)
def test_survival_of_the_published_patients(name):
    """V03 (doi:10.1073/pnas.1203559109): days of death of 100 virtual patients, whose true sensitivity
    to D2 is 30 times what the rule believes. An independent computation is met on every day.
    """
    cohort = patients()
    days = survival(cohort, as_answers(name, cohort))
    published, computed = (
        np.array([getattr(who, kind)[name] for who in cohort]) for kind in ("published", "computed")
    )
    mean, cured, within_a_day, within_5_percent = V03[name]
    np.testing.assert_array_equal(days, computed)
    assert days.mean() == pytest.approx(mean, rel=0.005)
    assert np.mean(days == 1845) == cured
    assert np.mean(np.abs(days - published) <= 1) >= within_a_day >= 0.85
    assert np.mean(np.abs(days - published) <= 0.05 * published) >= within_5_percent >= 0.95


def any_patient(rng: np.random.Generator) -> Patient:
    """A patient in the ranges of the published ones, with a physician who is wrong about D2."""
    share = 10 ** rng.uniform(-9, -1, 2)
    cells = np.array([5e9, *np.floor(5e9 * share), 0.0])
    growth, (s1, s2) = rng.uniform(0.02, 0.13), 10 ** rng.uniform(-1.5, 0.7, 2)
    (r1, r2), off = 10 ** rng.uniform(-4, -2, 2), 30.0 ** rng.choice([-1, 1])
    believed = np.array([[s1, s2], [r1, s2], [s1, r2], [r1, r2]])
    mutation = np.zeros((4, 4))
    mutation[1, 0], mutation[2, 0] = 10 ** rng.uniform(-10, -4, 2)
    mutation[3, 2], mutation[3, 1] = mutation[1, 0], mutation[2, 0]
    return Patient("own", cells, growth, believed, believed * [1, off], mutation, {}, {})


@pytest.mark.parametrize("name", V03)
def test_the_engine_follows_other_patients_like_an_independent_program(name):
    """V03 beyond its table: eight random patients through `meanfield`, to the day.

    Floating-point courses that differ in the last digits decide alike unless a tie falls in between.
    """
    rng = np.random.default_rng(20)
    cohort = [any_patient(rng) for _ in range(8)]
    with jax.enable_x64(True):
        expected = survival(cohort, as_answers(name, cohort))
    assert len(set(expected)) >= 4
    np.testing.assert_array_equal(treated(name, cohort), expected)


# --- refused ---------------------------------------------------------------------------------------

SQUARE = ((0.0,) * 4,) * 4
DPM = {"growth_rate_per_day": 0.1, "sensitivity_per_day": SENSITIVE, "mutation_probability": SQUARE}
REFUSED = [
    (
        personalized,
        {**NAMES, **AGAINST, "default": "x"},
        "default is 'x'; the lines of this arm are im",
    ),
    (
        personalized,
        {**NAMES, **AGAINST, "against": {"T315": "ponatinib"}},
        "against names 'T315', which is no alteration of the study",
    ),
    (
        personalized,
        {**NAMES, **AGAINST, "against": {"MDR1": "y"}},
        "against gives 'y' for MDR1; the lines",
    ),
    (cpm, {"sensitivity_per_day": ((1.0,),)}, "sensitivity_per_day needs a row for every genotype"),
    (cpm, {"sensitivity_per_day": ()}, "sensitivity_per_day needs a row for every genotype"),
    (
        dpm22,
        DPM | {"mutation_probability": SQUARE[:2]},
        "mutation_probability has the shape (2, 4)",
    ),
    (dpm22, DPM | {"incurable_genotype": 4}, "incurable_genotype is 4; there are the genotypes 0"),
    (dpm22, DPM | {"window_days": 0}, "window_days is 0; it must be at least 1"),
]


@pytest.mark.parametrize(("make", "numbers", "sentence"), REFUSED)
def test_numbers_that_make_no_rule_are_refused(make, numbers, sentence):
    """One sentence that says what is wrong."""
    assert refused(make, **numbers).startswith(sentence)
