"""Every wrong kernel is rejected by the battery, and the right ones pass it."""

import numpy as np
import pytest

from tests import battery, laws, published, rivals, statistics
from tests.battery import BATTERY, CROWDED, CUT, HIERARCHY, SEEDED
from tests.published import PUBLISHED
from tests.rivals import RIVALS
from tests.statistics import Rejected

QUICK = {**BATTERY, **CROWDED, **HIERARCHY, **SEEDED, **CUT}
CHECKS = {**QUICK, **PUBLISHED}
PAIRS = [(name, check) for name, rival in RIVALS.items() for check in rival.rejected_by]


QUICK_FOR_EVENTS = [
    pytest.param(check, marks=[pytest.mark.slow] if check == "amplification" else [])
    for check in QUICK
]


@pytest.mark.parametrize("check", QUICK_FOR_EVENTS)
def test_right_kernel_passes(check):
    """Event by event in exact continuous time, the same samples as every other kernel."""
    CHECKS[check](rivals.event_by_event)


@pytest.mark.parametrize(("rival", "check"), PAIRS)
def test_wrong_kernel_is_rejected(rival, check):
    """The check rejects the rival with its own samples and limits, and not for lack of samples."""
    with pytest.raises(Rejected):
        CHECKS[check](RIVALS[rival].kernel)


def test_every_check_rejects_a_rival():
    """A check that no wrong kernel fails would be an ornament (printed cases repeat smaller ones)."""
    used = {check for _, check in PAIRS}
    assert used >= {*QUICK}


def test_moment_matched_offspring_passes_mean_and_variance_and_fails_extinction():
    """b 1, d .5, one founder, 8 days in steps of .4: P(extinct) .590 for .495, moments exact."""
    grown = battery.scenario([1], [8], 1.0, 0.5)
    cells = RIVALS["moment_matched_offspring"].kernel(grown, 50_000, battery.SEED).sum((1, 2))
    law = laws.birth_death([8], [1.0], [0.5]).law()
    statistics.assert_mean(cells, law, detect=3.2)
    statistics.assert_variance(cells, law, detect=0.2)
    with pytest.raises(Rejected):
        statistics.assert_probability(cells == 0, law.probability(0), detect=0.02)
    assert np.mean(cells == 0) == pytest.approx(0.59, abs=0.01)


def test_rare_mutations_are_right_without_the_float32_draw():
    """The leap that carries `float32_rare_draw` passes when it draws with the right probability."""
    exact = RIVALS["float32_rare_draw"].kernel.keywords | {"rounded": lambda u: u}
    CHECKS["rare_mutation"](lambda case, n, seed: rivals.leap(case, n, seed, **exact))
    assert rivals.float32_below(1e-9) == pytest.approx(119e-9, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("check", PUBLISHED)
def test_right_kernel_passes_the_printed_cases(check):
    """Full size: shows that the printed numbers and the limits of the checks are right."""
    published.PUBLISHED[check](rivals.event_by_event)
