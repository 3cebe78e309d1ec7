"""The printed cases of stochastic kernels in their full size: checks as in `tests.battery`.

Up to 4e8 events each; the numbers are typed from the cases, not computed here, wherever they are
printed. `tests/test_laws.py` shows that the laws give the same.
"""

from dataclasses import replace

import numpy as np

from tests.battery import (
    BOTH_DRUGS,
    CONSTANT,
    ONE_DRUG,
    PULSED,
    SEED,
    Check,
    Kernel,
    birth_death_law,
    check_culture,
    check_dsmts,
    law_of,
    register,
    replicates,
    scenario,
    steps,
    therapy,
)
from tests.statistics import (
    assert_law,
    assert_mean,
    assert_probability,
    assert_rare_count,
)

PUBLISHED: dict[str, Check] = {}


@register(PUBLISHED)
def check_relapse_after_one_year(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E01, b .14, d .13, 365 days, one founder: P(extinct) .92680489, mean 38.4747."""
    n, wide = replicates(50_000, effort)
    cells = kernel(scenario([1], [365], 0.14, 0.13), n, seed).sum((1, 2))
    law = birth_death_law(0.14, 0.13, 365.0, 1)
    assert_probability(cells == 0, law.probability(0), detect=0.01 * wide)
    assert_mean(cells, law, detect=8 * wide)


@register(PUBLISHED)
def check_cure_of_ten_thousand_cells(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E01, b .14, d .17, 365 days, 10 000 founders: P(extinct) .96948989, mean .17558."""
    n, wide = replicates(2_000, effort)
    cells = kernel(scenario([10_000], [365], 0.14, 0.17), n, seed).sum((1, 2))
    law = birth_death_law(0.14, 0.17, 365.0, 10_000)
    assert_probability(cells == 0, law.probability(0), detect=0.034 * wide)
    assert_mean(cells, law, detect=0.25 * wide)


@register(PUBLISHED)
def check_dsmts_in_full(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """V10 001-03 on days 10, 25 and 50; 001-05 (10 000 founders) on day 10; mean and variance."""
    check_dsmts(
        kernel, seed, effort, 1.0, 1.1, 100, {10: (1.8, 0.16), 25: (1.1, 0.3), 50: (0.4, 1.15)}
    )
    check_dsmts(kernel, seed + 1, effort, 0.1, 0.11, 10_000, {10: (11, 0.13)})


@register(PUBLISHED)
def check_same_dose_different_cure(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E05, 1000 founders: P(extinct) .01453634 with pulses, .00903424 at constant death rate."""
    n, wide = replicates(30_000, effort)
    for schedule, extinct in ((PULSED, 0.01453634), (CONSTANT, 0.00903424)):
        case = replace(schedule, founders=np.array([[1000]]))
        cells = kernel(case, n, seed).sum((1, 2))
        assert_probability(cells == 0, extinct, detect=0.0055 * wide)


@register(PUBLISHED)
def check_published_ladder(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07, u 1e-3, b 1, d .5, 100 founders: P(no k-hit cell) on day 4 (k = 1) and 8 (k = 2, 3)."""
    n, wide = replicates(10_000, effort)
    up = steps(4, (0, 1, 1e-3), (1, 2, 1e-3), (2, 3, 1e-3))
    cells = kernel(scenario([100, 0, 0, 0], [4], 1.0, 0.5, up), n, seed)[:, :, 0]
    assert_probability(cells[:, 1] == 0, 0.40238145, detect=0.036 * wide)
    cells = kernel(scenario([100, 0, 0, 0], [8], 1.0, 0.5, up), n, seed)[:, :, 0]
    assert_probability(cells[:, 2] == 0, 0.95494905, detect=0.018 * wide)
    assert_probability(cells[:, 3] == 0, 0.99984008, detect=0.002 * wide)


@register(PUBLISHED)
def check_published_therapy(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E07, target mutation x pump, 200 days without drug, 360 with: P(eradicated | alive at day 200).

    .99296174 with two drugs, .38963724 with one; .71421724 die out before day 200 and are counted
    as extinct here. A tumor that reaches `stop_at` counts as escaped: those that reach it before
    day 200 and would be eradicated are less than 2e-4 of the tumors alive on day 200.
    """
    n, wide = replicates(10_000, effort)
    early = 0.71421724
    cases = ((BOTH_DRUGS, 0.99296174, 150_000, 0.005), (ONE_DRUG, 0.38963724, 30_000, 0.031))
    for drugs, cured, stop_at, detect in cases:
        cells = kernel(therapy(200, 360, 1e-4, drugs, stop_at=stop_at), n, seed)[:, :, 0]
        extinct = early + (1 - early) * cured
        assert_probability(~cells.any(1), extinct, detect=detect * wide)


@register(PUBLISHED)
def check_two_types_without_death(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E04, b 1, d 0, u .05, day 6: P(no B) .04734526, mean of B 104.56, law of B."""
    n, wide = replicates(20_000, effort)
    pure = scenario([1, 0], [6], 1.0, 0.0, steps(2, (0, 1, 0.05)))
    cells = kernel(pure, n, seed)[:, :, 0]
    assert_probability(cells[:, 1] == 0, 0.04734525749, detect=0.013 * wide)
    assert_mean(cells[:, 1], law_of(pure, 0, 1), detect=8 * wide)
    assert_law(cells[:, 1], law_of(pure, 0, 1), detect=0.05 * wide)


@register(PUBLISHED)
def check_large_culture(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """E02, m = 2 at 10 000 cells, 10 000 cultures."""
    n, wide = replicates(10_000, effort)
    check_culture(kernel, seed, n, wide, 10_000, 2.0, 0.06)


RARE = scenario([1000, 0], [50], [[1.0], [0.0]], [[1.0], [0.0]], steps(2, (0, 1, 1e-9)))


@register(PUBLISHED)
def check_rare_mutation(kernel: Kernel, seed: int = SEED, effort: float = 1.0):
    """u = 1e-9, 1.3e8 divisions, mutants that neither die nor divide: .13 expected in all.

    A float32 uniform is a multiple of 2^-23: below 1e-9 it is 0, 119 times too often (15 mutants).
    """
    n, _ = replicates(2_600, effort)
    cells = kernel(RARE, n, seed)[:, :, 0]
    divisions = n * 1000 * 50
    assert_rare_count(int(cells[:, 1].sum()), n, 1e-9 * divisions, detect=14 * effort**0.5)
