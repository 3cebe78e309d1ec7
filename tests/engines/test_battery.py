"""The `cells` engine against every exact law of the battery, and against the printed cases."""

import pytest

from jaxevo.engines.tumors import Layout
from tests.battery import BATTERY, CROWDED, CUT, HIERARCHY, SEED, SEEDED
from tests.kernels import cells_kernel
from tests.published import PUBLISHED

CRAMPED = Layout(4, 12, 40)  # lanes fill, stall, split and are evened out all the time
LARGER = {**BATTERY, **HIERARCHY, **SEEDED, **CUT}
# In the default suite these run as whole problems in `test_hierarchy`.
ELSEWHERE = ("hierarchy", "batch_immigration", "jump_of_few_cells")
LONG = (  # others in the default suite reject the same rivals
    "amplification", "small_therapy", "amplification_in_both_daughters", "exact_zeros",
    "hierarchy_and_both_daughters", "batches_alone", "two_types", "frequent_mutation",
)  # fmt: skip
SEVERAL_LANES = ("migration",)
ALSO_IN_SEVERAL_LANES = (
    "both_daughters", "batch_immigration", "frequent_mutation", "hierarchy", "jump",
)  # fmt: skip
EFFORT = {  # of the default suite, where a check takes long; all of it under the marker `slow`
    "birth_death_from_one_founder": 0.5,
    "pulsed_and_constant_schedule": 0.5,
    "immigration": 0.3,
    "two_types": 0.15,
    "ladder": 0.25,
    "switching": 0.25,
    "frequent_mutation": 0.25,
    "both_daughters": 0.15,
    "migration": 0.25,
    "jump": 0.25,
}


@pytest.mark.parametrize("check", [c for c in LARGER if c not in (*ELSEWHERE, *LONG)])
def test_cells_follow_the_exact_law(check):
    """One exact lane per tumor; the law and its power stand in the check."""
    LARGER[check](cells_kernel(), effort=EFFORT.get(check, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("check", CROWDED)
def test_crowded_cells_follow_the_law_when_syncs_are_frequent(check):
    """Crowding is held between syncs; with these many its bias is below what the check detects."""
    CROWDED[check](cells_kernel(syncs=64))


@pytest.mark.slow
@pytest.mark.parametrize("check", SEVERAL_LANES)
def test_lanes_that_stall_and_split_follow_the_same_law(check):
    """Many short lanes per tumor: splitting, rebalancing and stalling change no law."""
    LARGER[check](cells_kernel(CRAMPED, syncs=3), effort=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("check", ALSO_IN_SEVERAL_LANES)
def test_lanes_that_stall_and_split_keep_every_law(check):
    """The same for both daughters, batches, divisions that differentiate, cells that survive."""
    LARGER[check](cells_kernel(CRAMPED, syncs=3), effort=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("check", LARGER)
def test_cells_follow_the_exact_law_in_larger_samples(check):
    """Twice the samples of the battery, with another seed."""
    LARGER[check](cells_kernel(), seed=SEED + 1, effort=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("check", PUBLISHED)
def test_cells_reproduce_the_printed_cases(check):
    """E01, E02, E04, E05, E07 and DSMTS 001-xx in their full size."""
    PUBLISHED[check](cells_kernel())
