"""The laws give the printed numbers of the validation cases, to the printed digits.

Numbers are typed here from the cases (V10, V11, E01-E05, E07-E09, E14), not computed.
"""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import binom, poisson

from tests import laws


def last_digit(text: str) -> float:
    """Half a unit of the last printed digit, and a trifle."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5000001 * 10.0 ** (int(exponent or 0) - decimals)


def assert_printed(value: float, *printed: str) -> None:
    """The value rounds to what is printed."""
    for text in printed:
        assert abs(value - float(text)) <= last_digit(text), f"{value!r} is printed as {text}"


def chain(num_types: int, step: float) -> np.ndarray:
    """Mutation from each type to the next."""
    return np.diag(np.full(num_types - 1, step), 1)


# --- one type --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "d", "time", "founders", "mean", "sd", "extinct"),
    [
        (0.14, 0.13, 100, 1, "2.71828", "11.2299", ".89151151"),
        (0.14, 0.13, 365, 1, "38.4747", "197.305", ".92680489"),
        (0.14, 0.17, 365, 10_000, ".17558", "1.34696", ".96948989"),
    ],
)
def test_birth_death_has_its_mean_sd_and_extinction(b, d, time, founders, mean, sd, extinct):
    """E01: Kendall 1948, 10.1214/aoms/1177730285; the tabulated law has the same moments."""
    one = laws.birth_death([time], [b], [d])
    assert_printed(one.mean(founders), mean)
    assert_printed(one.variance(founders) ** 0.5, sd)
    assert_printed(one.extinction(founders), extinct)
    law = one.law(founders)
    assert law.mean == pytest.approx(one.mean(founders), rel=1e-6)
    assert law.variance == pytest.approx(one.variance(founders), rel=2e-6)
    assert law.probability(0) == pytest.approx(one.extinction(founders), abs=1e-10)


def test_birth_death_law_is_zero_modified_geometric():
    """E01: P(n) = (1 - alpha)(1 - beta) beta^(n-1), alpha = d(E-1)/(bE-d), beta = alpha b/d."""
    b, d, t = 0.3, 0.2, 7.0
    growth = np.exp((b - d) * t)
    alpha = d * (growth - 1) / (b * growth - d)
    beta = alpha * b / d
    law = laws.birth_death([t], [b], [d]).law()
    n = np.arange(1, 20)
    np.testing.assert_allclose(
        law.probabilities[1:20], (1 - alpha) * (1 - beta) * beta ** (n - 1), rtol=1e-9
    )


def test_critical_birth_death_is_the_limit_of_its_neighbors():
    """At b = d both alpha and beta are bt/(1 + bt)."""
    one = laws.birth_death([4.0], [0.5], [0.5])
    assert one.alpha == pytest.approx(2 / 3, rel=1e-14)
    assert one.beta == pytest.approx(2 / 3, rel=1e-14)
    assert one.variance() == pytest.approx(2 * 0.5 * 4.0, rel=1e-13)


def test_same_dose_gives_the_same_mean_and_another_cure():
    """E05: seven days on, seven off, ten times, against the time average; 1000 cells, 140 days."""
    pulsed = laws.birth_death([7] * 20, [0.14] * 20, [0.20, 0.13] * 10)
    constant = laws.birth_death([140], [0.14], [0.165])
    for one, sd, extinct in ((pulsed, "20.0210", ".01453634"), (constant, "18.9019", ".00903424")):
        assert_printed(one.mean(1000), "30.19738")
        assert_printed(one.variance(1000) ** 0.5, sd)
        assert_printed(one.extinction(1000), extinct)


def test_rates_that_follow_time_have_their_mean_and_variance():
    """V11: birth .3 - .25 e^(-.1t), death .2, 500 cells, day 20; computed numbers of the case.

    The published ones, 425.364259883693 and 4386.38004944714 (ESTIpop, 10.1093/bioinformatics/
    btaa526), are 4e-7 and 8e-8 away, inside the case's 1e-5.
    """
    edges = np.linspace(0, 20, 20_001)
    birth = np.diff(0.3 * edges + 2.5 * np.exp(-0.1 * edges)) / np.diff(edges)
    one = laws.birth_death(np.diff(edges), birth, [0.2] * 20_000)
    assert_printed(one.mean(500), "425.364440")
    assert one.variance(500) == pytest.approx(4386.380404, rel=2e-9)
    assert one.mean(500) == pytest.approx(425.364259883693, rel=1e-5)
    assert one.variance(500) == pytest.approx(4386.38004944714, rel=1e-5)


DSMTS = [
    (0.1, 0.11, 100, 10, "90.48374", "13.44708"),
    (0.1, 0.11, 100, 25, "77.88008", "19.02018"),
    (0.1, 0.11, 100, 50, "60.65307", "22.38677"),
    (1, 1.1, 100, 10, "36.78794", "22.09848"),
    (1, 1.1, 100, 25, "8.20850", "12.57890"),
    (1, 1.1, 100, 50, ".67379", "3.74891"),
    (0.1, 0.11, 10_000, 10, "9048.374", "134.47081"),
]
# Printed sd 190.20181 and 223.86773: ten times that of 001-01 is 190.20180 and 223.86772.
DSMTS_ROUNDED = [
    (0.1, 0.11, 10_000, 25, "7788.008", "190.2018"),
    (0.1, 0.11, 10_000, 50, "6065.307", "223.8677"),
]


@pytest.mark.parametrize(("b", "d", "founders", "time", "mean", "sd"), DSMTS + DSMTS_ROUNDED)
def test_dsmts_birth_death(b, d, founders, time, mean, sd):
    """V10 001-01, 001-03, 001-05: Evans et al. 2008, 10.1093/bioinformatics/btm566; two ways."""
    one = laws.birth_death([time], [b], [d])
    assert_printed(one.mean(founders), mean)
    assert_printed(one.variance(founders) ** 0.5, sd)
    means, covariances = laws.moments(laws.process(time, [b], [d]), [founders])
    assert_printed(means[0], mean)
    assert_printed(covariances[0, 0] ** 0.5, sd)


@pytest.mark.parametrize(
    ("time", "mean", "sd"),
    [(10, "104.6788", "8.254027"), (25, "243.3191", "25.2183"), (50, "432.8163", "68.93673")],
)
def test_dsmts_deaths_so_far(time, mean, sd):
    """V10 001-07: deaths are counted as conversion to a type that does nothing."""
    counted = laws.process(time, [0.1, 0], 0.0, conversion=[[0, 0.11], [0, 0]])
    means, covariances = laws.moments(counted, [100, 0])
    assert_printed(means[1], mean)
    assert_printed(covariances[1, 1] ** 0.5, sd)


@pytest.mark.parametrize(
    ("immigration", "time", "mean", "sd"),
    [
        (1, 10, "6.321206", "2.514201"),
        (1, 25, "9.17915", "3.029711"),
        (1, 50, "9.93262", "3.151606"),
        (10, 10, "63.21206", "7.950601"),
        (10, 25, "91.7915", "9.580788"),
        (10, 50, "99.3262", "9.966253"),
    ],
)
def test_dsmts_immigration_and_death(immigration, time, mean, sd):
    """V10 002-01, 002-02: a source cell whose every division gives one immigrant; Poisson."""
    source = laws.process(time, [immigration, 0], [0, 0.1], [[0, 1], [0, 0]])
    means, covariances = laws.moments(source, [1, 0])
    assert_printed(means[1], mean)
    assert_printed(covariances[1, 1] ** 0.5, sd)
    law = laws.marginal(source, [1, 0], [0, 1])
    np.testing.assert_allclose(
        law.probabilities, poisson.pmf(law.values, means[1]), rtol=0, atol=1e-10
    )


# --- mutants in growing cultures -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("m", "first", "median", "at_least_100", "at_least_1000"),
    [
        (
            0.5,
            (".60653066", ".15163266", ".06949830", ".03948767", ".02526553", ".01745849"),
            0,
            ".005105",
            ".000502",
        ),
        (
            1,
            (".36787944", ".18393972", ".10729817", ".06897740", ".04745389", ".03432903"),
            1,
            ".010424",
            ".001007",
        ),
        (
            2,
            (".13533528", ".13533528", ".11277940", ".09022352", ".07180289", ".05751750"),
            4,
            ".021738",
            ".002026",
        ),
        (
            5,
            (".00673795", ".01684487", ".02667104", ".03439160", ".03955619", ".04240169"),
            14,
            ".061651",
            ".005166",
        ),
        (
            10,
            ("4.54e-5", "2.27e-4", "6.4317e-4", ".00136200", ".00240304", ".00373856"),
            36,
            ".151473",
            ".010682",
        ),
        (30, (), 142, ".730310", ".036828"),
    ],
)
def test_luria_delbruck_law(m, first, median, at_least_100, at_least_1000):
    """E02: the law of Lea & Coulson 1949, in the recursion of Ma, Sandri & Sarkar 1992."""
    p = laws.luria_delbruck(m, 1000)
    for n, printed in enumerate(first):
        assert_printed(p[n], printed)
    below = np.cumsum(p)
    assert np.searchsorted(below, 0.5) == median
    assert_printed(1 - below[99], at_least_100)
    assert_printed(1 - below[999], at_least_1000)


@pytest.mark.parametrize(
    ("relative_growth", "first"),
    [
        (0.5, (".13533528", ".18044704", ".16540979", ".13165951", ".09852186")),
        (0.8, (".13533528", ".15037254", ".12980877", ".10412366", ".08169922")),
        (1.2, (".13533528", ".12303208", ".09934676", ".07907762", ".06341917")),
    ],
)
def test_mutants_that_grow_at_another_rate(relative_growth, first):
    """E02: Mandelbrot 1974, Koch 1982; m = 2."""
    p = laws.luria_delbruck(2, 10, relative_growth)
    for n, printed in enumerate(first):
        assert_printed(p[n], printed)


def test_mutants_at_an_exact_size_are_the_multitype_law_given_that_size():
    """Mutants given N cells: the urn law times Yule's P(N cells), summed over N, is E04's law."""
    u, t = 0.1, 1.5
    total = laws.birth_death([t], [1.0], [0.0]).law()
    sizes = np.arange(1, total.values[-1] + 1)
    given_size = laws.mutants_at_size(u, sizes.tolist(), 40)
    mixed = total.probabilities[-sizes.size :] @ given_size
    law = laws.marginal(laws.process(t, [1, 1], 0.0, chain(2, u)), [1, 0], [0, 1])
    np.testing.assert_allclose(mixed[:40], law.probabilities[:40], atol=1e-10)


@pytest.mark.parametrize(("size", "distance"), [(500, 0.0045), (1000, 0.0022), (2000, 0.0011)])
def test_finite_cultures_are_near_the_luria_delbruck_limit(size, distance):
    """m = uM = 2: the total variation distance of the exact law to the limit is 2.2/M."""
    exact = laws.mutants_at_size(2 / size, [size], size)[0]
    limit = laws.luria_delbruck(2, size)
    tail = 1 - limit.sum()
    assert exact.sum() == pytest.approx(1, abs=1e-12)
    seen = (np.abs(exact - limit).sum() + tail) / 2
    assert seen == pytest.approx(distance, rel=0.03)
    assert exact[0] == pytest.approx((1 - 2 / size) ** (size - 1), rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [
        (0, "1"),
        (0.1, "1.053605"),
        (0.5, "1.386294"),
        (0.9, "2.558428"),
        (0.93, "2.859419"),
        (0.99, "4.651687"),
    ],
)
def test_resistance_factor_of_a_neutral_mutant(ratio, factor):
    """E03: F = -ln(1 - d/b)/(d/b), Iwasa et al. 2006; the general integral agrees."""
    value = laws.resistance_factor(1.0, ratio)
    assert_printed(value, factor)
    if ratio:
        assert value == pytest.approx(-np.log(1 - ratio) / ratio, rel=1e-10)


@pytest.mark.parametrize(
    ("mutant_birth", "probability"),
    [
        (0.14, ".941695"),
        (0.139, ".938829"),
        (0.135, ".926388"),
        (0.15, ".964544"),
        (0.132, ".916239"),
    ],
)
def test_resistance_at_detection(mutant_birth, probability):
    """E03: M 1e9, u 1e-9, b .14, d .13."""
    factor = laws.resistance_factor(0.14, 0.13, mutant_birth, 0.13)
    assert_printed(-np.expm1(-1e9 * 1e-9 * factor), probability)


def test_resistant_lesions_of_bozic_and_nowak():
    """E03: b .25, d .18 (10.1073/pnas.1412075111), M 1e9, u 42e-9 or 1e-9."""
    factor = laws.resistance_factor(0.25, 0.18)
    assert_printed(1e9 * 42e-9 * factor, "74.2563")
    assert_printed(1e9 * 1e-9 * factor, "1.7680")
    assert_printed(-np.expm1(-1e9 * 1e-9 * factor), ".829327")


# --- several types ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "d", "u", "means", "none", "dead", "first"),
    [
        (
            8,
            0.5,
            0.01,
            ("50.400445", "4.1977053"),
            ".6953720243",
            ".4953787699",
            (
                ".69537202",
                ".05548715",
                ".03562731",
                ".02619138",
                ".02049696",
                ".01664732",
                ".01386388",
            ),
        ),
        (
            6,
            0.0,
            0.05,
            ("298.8674", "104.56139"),
            ".04734525749",
            "0",
            (".04734526", ".02373254", ".01941063", ".01715930", ".01567882"),
        ),
    ],
)
def test_two_types_one_way(t, d, u, means, none, dead, first):
    """E04: Antal & Krapivsky 2011, 10.1088/1742-5468/2011/08/P08018; b 1, one A cell."""
    two = laws.process(t, [1, 1], d, chain(2, u))
    expected, _ = laws.moments(two, [1, 0])
    assert_printed(expected[0], means[0])
    assert_printed(expected[1], means[1])
    assert_printed(laws.probability_of_none(two, [1, 0], [1]), none)
    assert_printed(laws.probability_of_none(two, [1, 0]), dead)
    law = laws.marginal(two, [1, 0], [0, 1])
    for n, printed in enumerate(first):
        assert_printed(law.probabilities[n], printed)
    assert law.mean == pytest.approx(expected[1], rel=1e-6)


@pytest.mark.parametrize(
    ("hits", "none"),
    [
        (1, (".40238145", ".0011775509", "4.528e-14")),
        (2, (".99744456", ".95494905", ".6116343")),
        (3, (".99999594", ".99984008", ".99713574")),
    ],
)
def test_ladder_of_mutations(hits, none):
    """E07: u 1e-3 per step, b 1, d .5, 100 founders; P(no k-hit cell) on days 4, 8, 12."""
    founders = [100] + [0] * hits
    for t, printed in zip((4, 8, 12), none, strict=True):
        ladder = laws.process(t, np.ones(hits + 1), 0.5, chain(hits + 1, 1e-3))
        assert_printed(laws.probability_of_none(ladder, founders, [hits]), printed)


def test_target_mutation_and_pump_under_two_drugs():
    """E07: 200 days without drug, 360 with; P(eradicated | alive at day 200).

    One drug alone gives .389637252, printed as .38963724: one unit of the last digit off.
    """
    steps = np.zeros((4, 4))
    steps[0, 1] = steps[0, 2] = steps[1, 3] = steps[2, 3] = 1e-4
    early = laws.probability_of_none(laws.process(200, [0.14] * 4, 0.1, steps), [1, 0, 0, 0])
    assert_printed(early, ".71421724")

    def cured(*on_drug: float) -> float:
        both = laws.process([200, 360], 0.14, [[0.1] * 4, on_drug], steps)
        return (laws.probability_of_none(both, [1, 0, 0, 0]) - early) / (1 - early)

    assert_printed(cured(0.30, 0.22, 0.22, 0.10), ".99296174")
    assert cured(0.22, 0.10, 0.22, 0.10) == pytest.approx(0.38963724, abs=1.3e-8)


def test_switching_eigenvalues_and_share():
    """E08: growth rates and the stationary resistant share, off drug and on."""
    off = laws.process(1, [0.04, 0.01], [0.02, 0.01], conversion=[[0, 0.0004], [0.004, 0]])
    on = laws.process(1, [0.0, 0.01], [0.06, 0.01], conversion=[[0, 0.004], [0.0004, 0]])
    values, vectors = np.linalg.eig(laws.mean_generator(off).T)
    order = np.argsort(-values)
    assert_printed(values[order[0]], ".0196676")
    assert_printed(values[order[1]], "-.0040676")
    leading = vectors[:, order[0]]
    assert_printed(leading[1] / leading.sum(), ".01661985")
    assert_printed(np.linalg.eigvals(laws.mean_generator(on)).max(), "-.00037485")


@pytest.mark.parametrize(
    ("start", "shares"),
    [
        (1, (".38605209", ".17800365", ".02966022", ".00285509", "5.336e-5")),
        (10, ("1", ".99999405", ".98515538", ".66172215", ".07031744")),
    ],
)
def test_amplification_in_synchronous_divisions(start, shares):
    """E09: both daughters change copies on their own (Kimmel & Axelrod 1990, Genetics 125:633)."""
    steps = laws.copy_steps(0.02, 0.10, start + 200)
    for generations, printed in zip((10, 20, 50, 100, 200), shares, strict=True):
        assert_printed(laws.synchronous_share(steps, start, generations), printed)


@pytest.mark.parametrize(("n", "share"), [(10, ".523312"), (20, ".296666"), (50, ".074437")])
def test_amplification_of_one_daughter_in_continuous_time(n, share):
    """E09: share of cells with copies after n ln 2/b days, from one copy; b cancels."""
    copies = laws.process(1, np.full(61, 0.7), 0.0, laws.copy_steps(0.02, 0.10, 60))
    means = expm(laws.mean_generator(copies) * n * np.log(2) / 0.7)[1]
    assert_printed(means[1:].sum() / means.sum(), share)


def test_five_copies_are_enough_for_ten_doublings():
    """E09: the checks end the chain at five copies, which moves the share of .523312 by 3e-10."""
    means = [
        expm(
            laws.mean_generator(laws.process(1, np.ones(n + 1), 0, laws.copy_steps(0.02, 0.1, n)))
            * 10
            * np.log(2)
        )[1]
        for n in (5, 60)
    ]
    short, long = (m[1:].sum() / m.sum() for m in means)
    assert short == pytest.approx(long, rel=1e-9)


def test_both_daughters_mutate_twice_as_often():
    """One daughter with 2u and both with u have the same means; the laws differ."""
    one = laws.process(3, [1, 0.8], 0.2, chain(2, 0.4))
    both = laws.process(3, [1, 0.8], 0.2, chain(2, 0.2), both_daughters=True)
    np.testing.assert_allclose(laws.moments(one, [1, 0])[0], laws.moments(both, [1, 0])[0])
    p, q = (laws.marginal(x, [1, 0], [0, 1]).probabilities[0] for x in (one, both))
    assert abs(p - q) > 0.005


def test_moments_agree_with_the_law_by_generating_function():
    """Moment equations and FFT are two derivations: switching, two segments, both conventions."""
    for is_both in (False, True):
        case = laws.process(
            [2, 3],
            [[0.6, 0.3], [0.1, 0.4]],
            [[0.1, 0.2], [0.5, 0.1]],
            [[0, 0.2], [0.1, 0]],
            [[[0, 0.05], [0.02, 0]], [[0, 0.3], [0, 0]]],
            is_both,
        )
        means, covariances = laws.moments(case, [4, 1])
        for weights in ((1, 0), (0, 1), (2, -3)):
            law = laws.marginal(case, [4, 1], weights)
            assert law.mean == pytest.approx(means @ weights, rel=1e-6, abs=1e-8)
            assert law.variance == pytest.approx(weights @ covariances @ weights, rel=1e-6)


def test_migration_without_births_and_deaths_is_binomial():
    """Cells that only move, one way at rate m: each is still there with probability e^(-mt)."""
    law = laws.marginal(laws.process(2, [0, 0], 0.0, None, [[0, 0.3], [0, 0]]), [20, 0], [1, 0])
    np.testing.assert_allclose(
        law.probabilities, binom.pmf(law.values, 20, np.exp(-0.6)), atol=1e-10
    )


# --- hierarchy, immigration, jumps -----------------------------------------------------------------


def test_asymmetric_divisions_alone_are_a_poisson_process():
    """One stem cell that neither dies nor renews itself: Poisson(b t) differentiated cells."""
    case = laws.process(4, [0.7, 0], 0.0, asymmetric=[[0, 1], [0, 0]])
    law = laws.marginal(case, [1, 0], [0, 1])
    np.testing.assert_allclose(law.probabilities, poisson.pmf(law.values, 2.8), atol=1e-10)
    assert laws.probability_of_none(case, [1, 0], [0]) == 0


def test_symmetric_divisions_alone_turn_every_stem_cell_into_two():
    """Each of 10 stem cells has done so by day t with probability 1 - e^(-bt), on its own."""
    case = laws.process(2, [0.5, 0], 0.0, symmetric=[[0, 1], [0, 0]])
    law = laws.marginal(case, [10, 0], [0, 1])
    expected = np.where(law.values % 2 == 0, binom.pmf(law.values // 2, 10, -np.expm1(-1)), 0)
    np.testing.assert_allclose(law.probabilities, expected, atol=1e-10)


def test_a_division_that_differentiates_makes_no_mutation_besides():
    """Per division u, a, v, else renewal: with u + a + v = 1 no division is a plain one."""
    for is_both in (False, True):
        case = laws.process(
            1, [1.0, 0, 0], 0.0, chain(3, 0.0), both_daughters=is_both,
            asymmetric=[[0, 0.4, 0], [0] * 3, [0] * 3], symmetric=[[0, 0, 0.6], [0] * 3, [0] * 3],
        )  # fmt: skip
        two = laws.marginal(case, [1, 0, 0], [1, 0, 0])
        np.testing.assert_allclose(
            two.probabilities[:2], [-np.expm1(-0.6), np.exp(-0.6)], atol=1e-9
        )


def test_single_immigrants_that_die_are_poisson():
    """V10 002-01: one comes per day, each dies at .1 per day: Poisson(10 (1 - e^-1)) on day 10."""
    case = laws.process(10, [0.0], 0.1, arrivals=1.0)
    law = laws.marginal(case, [0], [1])
    expected = poisson.pmf(law.values, 10 * -np.expm1(-1))
    np.testing.assert_allclose(law.probabilities, expected, atol=1e-10)


def test_batches_that_live_are_as_many_times_poisson():
    """Five at a time, no births and deaths: 5 Poisson(r t)."""
    law = laws.marginal(laws.process(3, [0.0], 0.0, arrivals=0.4, batch=5), [0], [1])
    expected = np.where(law.values % 5 == 0, poisson.pmf(law.values // 5, 1.2), 0)
    np.testing.assert_allclose(law.probabilities, expected, atol=1e-10)


def test_batches_that_only_die():
    """Mean r n (1 - e^-dt)/d; variance of a compound Poisson law, r int n p (1 - p) + n^2 p^2."""
    r, n, d, t = 0.5, 4, 0.6, 6.0
    means, covariances = laws.moments(laws.process(t, [0.0], d, arrivals=r, batch=n), [0])
    once, twice = -np.expm1(-d * t) / d, -np.expm1(-2 * d * t) / (2 * d)
    assert means[0] == pytest.approx(r * n * once)
    assert covariances[0, 0] == pytest.approx(r * (n * once + n * (n - 1) * twice))


def test_a_jump_leaves_a_binomial_number():
    """Each of 20 cells survives with .3, on its own, at the start of the segment."""
    law = laws.marginal(laws.process(1, [0.0], 0.0, kept=0.3), [20], [1])
    np.testing.assert_allclose(law.probabilities, binom.pmf(law.values, 20, 0.3), atol=1e-12)


def test_moments_agree_with_the_law_where_everything_happens():
    """Two derivations: hierarchy, mutation, switching, batches and jumps, both conventions."""
    for is_both in (False, True):
        case = laws.process(
            [2, 3], [[0.6, 0.3], [0.1, 0.4]], [[0.1, 0.2], [0.5, 0.1]], [[0, 0.2], [0.1, 0]],
            [[[0, 0.05], [0.02, 0]], [[0, 0.3], [0, 0]]], is_both, [[0, 0.1], [0, 0]],
            [[0, 0.2], [0.1, 0]], [[0.3, 0], [0.1, 0.2]], [3, 1], [[0.9, 1], [0.4, 0.7]],
        )  # fmt: skip
        means, covariances = laws.moments(case, [4, 1])
        for weights in ((1, 0), (0, 1), (2, -3)):
            law = laws.marginal(case, [4, 1], weights)
            assert law.mean == pytest.approx(means @ weights, rel=1e-6, abs=1e-8)
            assert law.variance == pytest.approx(weights @ covariances @ weights, rel=1e-6)


# --- crowding --------------------------------------------------------------------------------------


def test_logistic_extinction_time_and_quasi_stationary_law():
    """E14: b(1 - n/K), b 1, d .5, K 20, from 10 cells."""
    logistic = laws.Logistic(1.0, 0.5, 20)
    assert_printed(logistic.mean_extinction_time(10), "136.016")
    steady = logistic.quasi_stationary()
    assert_printed(steady.mean, "8.867514")
    assert_printed(steady.variance**0.5, "3.375253")


def test_logistic_law_without_crowding_is_birth_death():
    """K far above the cells: the master equation gives E01."""
    crowded = laws.Logistic(0.5, 0.4, 1e9)
    p = expm(crowded.generator(400) * 2.0)[5]
    law = laws.birth_death([2.0], [0.5], [0.4]).law(5)
    np.testing.assert_allclose(p[:60], law.probabilities[:60], rtol=0, atol=1e-7)
