"""The time loop of the `clones` engine: exact laws, large counts, bits, the order of its steps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo.engines.counts import STEP, Codes, new_block, treat
from jaxevo.engines.wiring import MIN_WIDTH, Rules, padded_lists, tree_sum, wiring
from tests import laws
from tests.battery import (
    BATTERY,
    CROWDED,
    CUT,
    HIERARCHY,
    SEEDED,
    TWO_TYPES,
    law_of,
    none_of,
    scenario,
    steps,
)
from tests.counts import ALWAYS, NEVER, clones_kernel, process_of, run
from tests.laws import Law
from tests.statistics import (
    Rejected,
    assert_law,
    assert_mean,
    assert_probability,
    assert_variance,
    normal_law,
)

EVERYTHING = BATTERY | HIERARCHY | SEEDED | CUT
EFFORT = {  # of the default suite; all of it under the marker `slow`
    "birth_death_from_one_founder": 0.5,
    "small_therapy": 0.2,
    "two_types": 0.25,
    "ladder": 0.5,
    "frequent_mutation": 0.25,
    "both_daughters": 0.25,
    "amplification_in_both_daughters": 0.1,
    "migration": 0.25,
    "pulsed_and_constant_schedule": 0.3,
    "amplification": 0.2,
    "hierarchy": 0.25,
    "hierarchy_and_both_daughters": 0.25,
    "batch_immigration": 0.25,
    "batches_alone": 0.5,
    "jump": 0.25,
}
QUICK = ("birth_death_from_one_founder", "two_types", "replicates_are_independent")
IN_STEPS = ("migration", "hierarchy_and_both_daughters", "batches_alone")
LARGE = (1e8, 1e12)


# --- exact laws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", QUICK)
def test_counts_follow_the_exact_law(check):
    """Single events below 100 cells, steps above: the switch changes no law."""
    EVERYTHING[check](clones_kernel(), effort=EFFORT.get(check, 1.0))


@pytest.mark.parametrize("check", IN_STEPS)
def test_steps_alone_follow_the_exact_law(check):
    """From the first cell on in steps of at most .4 over the largest rate: their error is not seen."""
    EVERYTHING[check](clones_kernel(NEVER), effort=EFFORT.get(check, 1.0))


@pytest.mark.slow
def test_single_events_alone_follow_the_exact_law():
    """However many cells there are."""
    BATTERY["both_daughters"](clones_kernel(ALWAYS), effort=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [NEVER, 100, ALWAYS])
@pytest.mark.parametrize("check", EVERYTHING)
def test_counts_follow_the_exact_law_in_full_samples(check, mode):
    """All checks in all three modes."""
    EVERYTHING[check](clones_kernel(mode))


@pytest.mark.parametrize("check", CROWDED)
def test_crowding_is_exact_with_single_events(check):
    """Rates follow every event: no sync interval, no bias."""
    CROWDED[check](clones_kernel())


def test_crowded_steps_follow_the_law_when_they_are_short():
    """20 cells at capacity: within a step crowding follows the mean, so steps must be short here."""
    CROWDED["logistic_crowding"](clones_kernel(NEVER, syncs=256), effort=0.25)
    with pytest.raises(Rejected):
        CROWDED["logistic_crowding"](clones_kernel(NEVER), effort=0.25)


# --- large counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num", LARGE)
def test_the_variance_of_many_cells_is_right(num):
    """Kendall's mean and variance after 30 days from 1e8 and 1e12 cells, 2,000 tumors.

    The relative deviation is 1e-4 and 1e-6, below what float32 can hold: one unit there is 6e-8 of the
    count, but sums of small changes are lost. An error of 20 % of the variance is noticed.
    """
    case = scenario([int(num)], [30], 0.14, 0.13)
    one = laws.birth_death([30], [0.14], [0.13])
    cells = clones_kernel()(case, 4_000, 3)[:, 0, 0]
    law = normal_law(0.0, num * one.variance())
    off = cells - num * one.mean()
    assert_mean(off, law, detect=0.12 * law.variance**0.5)
    assert_variance(off, law, detect=0.2)
    single = cells.astype(np.float32) - np.float32(num * one.mean())
    if num > 1e10:
        with pytest.raises(Rejected):
            assert_law(single, law, detect=0.1)


@pytest.mark.parametrize("num", LARGE)
def test_as_many_large_tumors_die_out_as_should(num):
    """alpha^n after so many days that it is one half, from 1e8 and 1e12 cells, b .2, d .5."""
    day = float(np.log(num) / 0.3)
    for _ in range(60):  # alpha^n = 1/2, by fixed-point iteration on 1 - alpha = ln 2/n
        one = laws.birth_death([day], [0.2], [0.5])
        day += float(np.log((1 - one.alpha) * num / np.log(2))) / 0.3
    one = laws.birth_death([day], [0.2], [0.5])
    extinct = float(np.exp(num * np.log1p(-(1 - one.alpha))))
    assert 0.4 < extinct < 0.6
    for mode in (NEVER, 100):
        cells = clones_kernel(mode)(scenario([int(num)], [day], 0.2, 0.5), 4_000, 4)
        assert_probability(cells[:, 0, 0] == 0, extinct, detect=0.06)


def mutants_of_a_constant_source(num, u, birth, one_birth, one_death, days) -> Law:
    """Mutants after some days of a source of constant size: a compound Poisson law, by FFT.

    Generating function exp(N u b int (phi_s(z) - 1) ds), phi_s that of a birth and death process of
    age s (Kendall 1948; the finite-time law of Luria & Delbruck 1943 and Bartlett 1955).
    """
    size = 2**14
    z = np.exp(2j * np.pi * np.arange(size) / size)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    ages, weights = days * (nodes + 1) / 2, days / 2 * weights
    total = sum(
        w * (laws.birth_death([s], [one_birth], [one_death]).generating_function(z) - 1)
        for s, w in zip(ages, weights, strict=True)
    )
    pmf = np.maximum(np.fft.fft(np.exp(num * u * birth * total)).real / size, 0)
    return Law(np.arange(size), pmf / pmf.sum())


@pytest.mark.parametrize("num", LARGE)
def test_the_law_of_clone_sizes_is_right_for_many_cells(num):
    """m = 2 mutations in 20 days among 1e8 and 1e12 cells that neither grow nor shrink."""
    u = 2.0 / (num * 0.2 * 20)
    law = mutants_of_a_constant_source(num, u, 0.2, 0.3, 0.1, 20.0)
    case = scenario([int(num), 0], [20], [[0.2], [0.3]], [[0.2], [0.1]], steps(2, (0, 1, u)))
    cells = clones_kernel()(case, 10_000, 5)[:, 1, 0]
    assert_probability(cells == 0, law.probability(0), detect=0.04)
    assert_law(cells, law, detect=0.07)


# --- steps -----------------------------------------------------------------------------------------


def test_the_error_of_a_step_is_of_second_order():
    """P(no mutant) of E04 at b h = .4 is off by 1.15e-3: the mean is exact, the rest of second order.

    From the generating function of a step: changes over h/2, Kendall over h, changes over h/2. Half
    the step, a quarter of the error.
    """
    b, d, u, days = 1.0, 0.5, 0.01, 8.0

    def none(num_steps: int) -> float:
        h = days / num_steps
        plain, mutant = (laws.birth_death([h], [x], [d]) for x in (b * (1 - u), b))
        x = h * ((b * (1 - u) - d) - (b - d))
        p = b * u * h / 2 * np.tanh(x / 2) / (x / 2)
        q = np.array([1.0, 0.0])
        for _ in range(num_steps):
            q = np.array([q[0] * np.exp(p * (q[1] - 1)), q[1]])
            q = np.array([plain.generating_function(q[0]), mutant.generating_function(q[1])])
            q = np.array([q[0] * np.exp(p * (q[1] - 1)), q[1]])
        return float(q[0])

    exact = none_of(TWO_TYPES, 1)
    coarse, fine = (abs(none(round(days * b / rate)) - exact) for rate in (STEP, STEP / 2))
    assert coarse < 1.2e-3
    assert coarse / fine == pytest.approx(4, rel=0.1)


@pytest.mark.slow
def test_steps_are_short_enough_for_long_intervals():
    """One interval of 8 days at b = 1 is cut into 20 steps: the same law as with 20 intervals."""
    cells = clones_kernel(NEVER)(TWO_TYPES, 20_000, 6)[:, :, 0]
    assert_law(cells[:, 1], law_of(TWO_TYPES, 0, 1), detect=0.06)


def test_no_change_joins_two_types_of_one_color():
    """The coloring that makes a turn exact; gains and losses of copies and moves need few colors."""
    case = scenario(
        [[1, 0]] * 4, [1], 1.0, 0.5, laws.copy_steps(0.1, 0.1, 3), migration=[[0, 0.1], [0.1, 0]]
    )
    with jax.enable_x64(True):
        net = process_of(case).net
    color = wiring(net).color
    for edges in (net.mutations, net.conversions):
        assert all(color[i] != color[j] for i, j in zip(edges.source, edges.target, strict=True))
    assert color.max() == 1


# --- bits ------------------------------------------------------------------------------------------

BUSY = scenario(
    [[50, 10], [0, 0], [0, 3]],
    [2, 3],
    [[0.9, 0.7], [0.8, 0.6], [0.5, 0.4]],
    [[0.3, 0.2], [0.4, 0.3], [0.2, 0.1]],
    steps(3, (0, 1, 0.05), (1, 2, 0.03)),
    switching=steps(3, (1, 0, 0.1), (0, 2, 0.05)),
    migration=[[0, 0.1], [0.05, 0]],
)


@pytest.mark.parametrize(
    ("case", "mode"),
    [
        (BUSY, 100),
        pytest.param(replace(BUSY, both_daughters=True), NEVER, marks=pytest.mark.slow),
    ],
)
def test_a_tumor_has_the_same_bits_alone_and_in_any_batch(case, mode):
    """Reliability promise 2: 200 tumors together, 7 of them, and one alone at another place."""
    with jax.enable_x64(True):
        process = process_of(case)
        whole = run(process, case, range(200), 9, mode)
        assert np.array_equal(run(process, case, range(3, 10), 9, mode), whole[3:10])
        assert np.array_equal(run(process, case, range(150, 151), 9, mode), whole[150:151])
    assert len(np.unique(whole.reshape(200, -1), axis=0)) > 190


@pytest.mark.slow
def test_calls_may_be_cut_anywhere():
    """Ten intervals in one call, or one at a time."""
    with jax.enable_x64(True):
        process = process_of(BUSY, syncs=5)
        rules = Rules(process.net)
        codes = Codes.of(np.asarray(process.start).T)
        who, zeros = np.arange(20), np.zeros(20, int)
        count = np.tile(BUSY.founders.reshape(1, -1, 1), 20)

        def begin():
            return new_block(rules, 3, (zeros, who), zeros, count, np.zeros((0, 20)))

        target = jnp.float64(np.inf)
        whole = treat(rules, begin(), process, codes, 0, 10, target)
        parts = begin()
        for at in range(10):
            parts = treat(rules, parts, process, codes, at, at + 1, target)
        for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_lists_and_sums():
    """Padded lists keep their order; pairwise sums are sums."""
    assert padded_lists([1, 0, 1], [5, 6, 7], 3).tolist() == [[6, -1], [5, 7], [-1, -1]]
    values = np.arange(15.0).reshape(5, 3)
    with jax.enable_x64(True):
        assert np.array_equal(tree_sum(jnp.asarray(values)), values.sum(axis=0))
    assert Rules(_wide_network()).width >= MIN_WIDTH


def _wide_network():
    with jax.enable_x64(True):
        return process_of(BUSY).net
