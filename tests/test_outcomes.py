"""What the physician reports follows RECIST 1.1, and clones are traced to where they came from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxevo import outcomes
from jaxevo.outcomes import ACQUIRED, INTRINSIC, NO_CLONE, RESPONSES, Recist, assess
from tests.recist import read
from tests.trajectories import make_trajectory

NAN = float("nan")


def cells_of(diameters_mm) -> np.ndarray:
    """Cells of spheres, 10^9 per cm3, typed a second time: n = 10^6 pi d^3 / 6 with d in mm."""
    return 1e6 * np.pi / 6 * np.asarray(diameters_mm, float) ** 3


def of(*scans, days=None, **options) -> outcomes.Assessment:
    """Assess one tumor from its diameters: a number per scan, or one per scan and site."""
    size = np.array([np.atleast_1d(scan) for scan in scans], float)
    when = np.arange(len(size)) * 56.0 if days is None else np.array(days, float)
    return assess(cells_of(size), when, **options)


def responses(found: outcomes.Assessment) -> list[str]:
    return [RESPONSES[i] for i in found.response[1:]]


# --- sizes ---


def test_a_billion_cells_are_one_cubic_centimeter():
    """V = n/10^9 cm3 and d = (6 V/pi)^(1/3): 12.407 mm, and 10 mm are 5.236e8 cells."""
    assert outcomes.volume_cm3(1e9) == 1.0
    assert outcomes.diameter_mm(1e9) == pytest.approx(12.4070, abs=1e-4)
    assert outcomes.diameter_mm(cells_of([10.0, 37.0])) == pytest.approx([10.0, 37.0], rel=1e-12)
    assert cells_of(10.0) == pytest.approx(5.236e8, rel=1e-4)


def test_the_diameter_grows_as_the_cube_root_of_the_cells():
    """Eight times the cells are twice the diameter; denser cells make a smaller lesion."""
    assert outcomes.diameter_mm(8e9) == pytest.approx(2 * outcomes.diameter_mm(1e9))
    assert outcomes.diameter_mm(1e9, 1e8) == pytest.approx(outcomes.diameter_mm(1e10))
    assert outcomes.diameter_mm(0) == 0


# --- response at a scan ---


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ((100, 70, 70.1), "PR SD"),  # 30 % below baseline is a response, a little less is not
        ((100, 119.9, 120), "SD PD"),  # 20 % above the nadir, which may be the baseline
        ((100, 60, 71.9, 72), "PR SD PD"),  # above the nadir, not above the baseline
        ((20, 10, 14.9, 15), "PR SD PD"),  # 20 % above is not enough: 5 mm at least
        ((100, 50, 56), "PR PR"),  # 5 mm above is not enough: 20 % at least
        ((100, 0, 0, 3), "CR CR PD"),  # disease after a complete response is progression
        ((100, 50, 0, 0), "PR CR CR"),
        ((100, NAN, 50, NAN, 61), "NE PR NE PD"),  # what is unknown is no nadir
        ((9.9, 9, 0), "NE CR"),  # under 10 mm nothing is measured, but it can go
        ((9.9, 14.8, 14.9), "NE PD"),  # or grow by 5 mm and 20 %
        ((NAN, 50, 10), "NE NE"),  # without a baseline there is nothing to compare
        ((0, 0, 2, 0), "NE PD NE"),  # no disease at baseline: no response to report, but a relapse
    ],
)
def test_one_lesion_is_read_as_recist_says(course, expected):
    """Section 4.3 of RECIST 1.1: CR, PR, PD and SD of target lesions, baseline and nadir."""
    assert responses(of(*course)) == expected.split()


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        (([50, 0], [20, 3]), "PD"),  # a new lesion, however well the others do
        (([60, 10], [60, 0], [55, 10]), "SD SD"),  # gone and back among others: the sum decides
        (([50, 8], [0, 8]), "PR"),  # targets gone, a non-target still there
        (([50, 8], [0, 0]), "CR"),
        (([50, 8], [20, 40]), "PR"),  # non-targets grow, the whole is not larger than ever
        (([50, 8], [20, 50]), "PD"),  # now it is: 70 against 58
        (([50, 9.9], [50, 2]), "SD"),  # what is no target does not count for a response
        (([50, 50], [50, NAN]), "NE"),
        (([20] * 5 + [19], [14.2] * 5 + [0]), "SD"),  # the sixth is no target
        (([20] * 5 + [19], [14] * 5 + [19]), "PR"),
    ],
)
def test_several_lesions_are_read_as_recist_says(course, expected):
    """Sections 3.2, 4.3.2, 4.3.3 and 4.3.5: five targets, non-targets, new lesions, disappearance."""
    assert responses(of(*course)) == expected.split()


def test_a_lesion_below_detection_is_not_seen():
    """The same cells are a new lesion for one scanner and nothing for another."""
    scans = np.array([[5e9, 0.0], [5e9, 1e7]])
    assert responses(assess(scans, np.array([0.0, 56.0]), 1e6)) == ["PD"]
    assert responses(assess(scans, np.array([0.0, 56.0]), 1e8)) == ["SD"]
    small = np.array([[5e7], [6e9]])
    assert np.isnan(assess(small, np.array([0.0, 56.0]), 1e6).relapse_day)
    assert assess(small, np.array([0.0, 56.0]), 1e8).relapse_day == 56


def test_the_numbers_of_recist_can_be_changed():
    """Every number of `Recist` decides something."""
    assert responses(of(100, 60, rules=Recist(response_share=0.5))) == ["SD"]
    assert responses(of(100, 121, rules=Recist(progression_share=0.5))) == ["SD"]
    assert responses(of(20, 26, rules=Recist(progression_mm=10))) == ["SD"]
    assert responses(of(8, 5, rules=Recist(measurable_mm=5))) == ["PR"]
    assert responses(of([20, 19], [20, 0], rules=Recist(max_targets=1))) == ["SD"]


# --- best response: table 3 of RECIST 1.1 ---

SIZE = {"base": 100, "CR": 0, "PR": 65, "SD": 75, "PD": 130, "NE": NAN}


@pytest.mark.parametrize(
    ("first", "second", "late", "early"),
    [
        ("CR", "CR", "CR", "CR"),
        ("CR", "PR", "SD", "PD"),  # footnote a: after a true CR any disease is PD
        ("CR", "SD", "SD", "PD"),
        ("CR", "PD", "SD", "PD"),
        ("CR", "NE", "SD", "NE"),
        ("PR", "CR", "PR", "PR"),
        ("PR", "PR", "PR", "PR"),
        ("PR", "SD", "SD", "SD"),
        ("PR", "PD", "SD", "PD"),
        ("PR", "NE", "SD", "NE"),
        ("SD", "PD", "SD", "PD"),
        ("SD", "NE", "SD", "NE"),  # section 4.4.1: lost after one early SD is not evaluable
        ("NE", "NE", "NE", "NE"),
    ],
)
def test_the_confirmed_best_response_is_that_of_table_3(first, second, late, early):
    """First scan six weeks after baseline, or four, the second four weeks later."""
    course = [SIZE[x] for x in ("base", first, second)]
    for start, expected in ((42, late), (28, early)):
        found = of(*course, days=(0, start, start + 28))
        assert RESPONSES[found.confirmed_best] == expected


@pytest.mark.parametrize(
    ("course", "days", "best", "confirmed"),
    [
        (("PR", "PR"), (28, 42), "PR", "SD"),  # two weeks do not confirm; the second is late enough
        (("PR", "NE", "PR"), (28, 42, 56), "PR", "PR"),
        (("PR", "SD", "PR"), (28, 42, 56), "PR", "PR"),  # the criteria are met again: section 4.4.3
        (("PR", "PD", "PR"), (28, 42, 84), "PR", "PD"),  # not after progression
        (("PD", "CR", "CR"), (28, 56, 84), "PD", "PD"),
        (("CR", "PD"), (28, 56), "CR", "PD"),
        (("SD", "PD"), (28, 56), "PD", "PD"),
    ],
)
def test_what_a_best_response_takes(course, days, best, confirmed):
    """Sections 4.4.1 and 4.4.3: until progression, four weeks to confirm, six for SD."""
    found = of(100, *(SIZE[x] for x in course), days=(0, *days))
    assert (RESPONSES[found.best], RESPONSES[found.confirmed_best]) == (best, confirmed)


# --- progression and relapse ---


def test_a_tumor_without_progression_is_censored_at_its_last_scan():
    """The last one that could be read, or the baseline."""
    days = (0, 56, 112, 168)
    for course, expected in (
        ((50, 50, 62, 30), (112, True)),
        ((50, 30, 30, 30), (168, False)),
        ((50, 30, NAN, NAN), (56, False)),
        ((50, NAN, NAN, NAN), (0, False)),
        ((NAN, 30, 30, 30), (0, False)),
    ):
        found = of(*course, days=days)
        assert (found.progression_day, found.is_progression) == expected


def test_a_tumor_relapses_when_it_is_seen_again():
    """After a complete response or a resection; a tumor that was always seen does not relapse."""
    days = (0, 56, 112, 168)
    for course, expected in (
        ((50, 0, 0, 4), 168),
        ((50, 0, 4, 0), 112),
        ((0, 0, 4, 9), 112),  # resected before the first scan
        ((50, 30, 40, 60), NAN),
        ((50, 30, 0, 0), NAN),
        ((50, 0, NAN, 3), 168),
    ):
        assert of(*course, days=days).relapse_day == pytest.approx(expected, nan_ok=True)


SIZES = st.sampled_from([0.0, 0.0, 3.0, 8.0, 10.0, 12.0, 15.0, 18.0, 25.0, 30.0, 36.0, 60.0])
SCAN = st.integers(1, 3).flatmap(
    lambda sites: st.lists(
        st.one_of(
            st.lists(SIZES, min_size=sites, max_size=sites),
            st.lists(SIZES, min_size=sites, max_size=sites),
            st.lists(SIZES | st.just(NAN), min_size=sites, max_size=sites),
        ),
        min_size=1,
        max_size=8,
    )
)


@settings(max_examples=400)
@given(SCAN, st.lists(st.sampled_from([14.0, 21.0, 28.0, 42.0, 56.0]), min_size=8, max_size=8))
def test_any_course_is_read_as_the_slow_twin_reads_it(scans, gaps):
    """All figures of `assess` against `tests/recist.py`."""
    days = np.cumsum([0.0, *gaps])[: len(scans)]
    found, expected = of(*scans, days=days), read(scans, days.tolist())
    assert [RESPONSES[i] for i in found.response] == expected.responses
    assert RESPONSES[found.best] == expected.best
    assert RESPONSES[found.confirmed_best] == expected.confirmed_best
    assert found.progression_day == expected.progression_day
    assert found.is_progression == expected.is_progression
    assert found.relapse_day == pytest.approx(expected.relapse_day, nan_ok=True)


def test_many_tumors_are_read_as_each_alone():
    """Arms, patients and replicates are leading axes; sites may stand in any order."""
    rng = np.random.default_rng(3)
    scans = rng.choice([0, 0, 1e8, 1e9, 2e9, 8e9, NAN], (2, 3, 4, 6, 3), p=[0.25] + [0.125] * 6)
    day = np.arange(6) * 42.0
    whole = assess(scans, day)
    for place in np.ndindex(2, 3, 4):
        alone = assess(scans[place], day)
        for name, value in alone._asdict().items():
            np.testing.assert_array_equal(getattr(whole, name)[place], value)
    turned = assess(scans[..., ::-1], day)
    np.testing.assert_array_equal(whole.response, turned.response)
    assert len(np.unique(whole.response)) == len(RESPONSES)


def test_counts_of_an_engine_can_be_read():
    """Integers, -1 where a tumor was cut short; 12.4 mm grow to 15.6 mm, which is under 5 mm more."""
    scans = np.array([[10**9], [2 * 10**9], [-1]])
    found = assess(scans, np.array([0, 56, 112]))
    assert responses(found) == ["SD", "NE"]
    assert found.progression_day == 56


@pytest.mark.parametrize("day", [[], [0.0, 0.0], [56.0, 0.0]])
def test_scans_on_days_that_do_not_increase_are_refused(day):
    """A baseline, then later days."""
    with pytest.raises(ValueError, match="days that increase"):
        assess(np.zeros((len(day), 1)), np.array(day))


# --- shares ---


@pytest.mark.parametrize(
    ("hits", "num", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_is_the_published_one(hits, num, low, high):
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    found = outcomes.wilson(hits, num)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == hits / num


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_is_that_of_scipy(trial):
    """`scipy.stats.binomtest`; within 0 to 1, and the share inside."""
    found = outcomes.wilson(*trial, level=0.9)
    expected = stats.binomtest(*trial).proportion_ci(0.9, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_no_trials_leave_every_share_possible():
    """0 of 0: the share is NaN, the interval 0 to 1; arrays element by element; no 2 of 1."""
    found = outcomes.wilson(np.array([0, 1]), np.array([0, 2]))
    assert np.isnan(found.value[0])
    assert (found.low[0], found.high[0]) == (0, 1)
    assert found.value[1] == 0.5
    with pytest.raises(ValueError, match="hits are 0 to"):
        outcomes.wilson(2, 1)


# --- what a relapse carries ---

LEVELS = np.array([[0, 0], [1, 0], [0, 2], [1, 1]])  # unaltered, T790M, MET x2, both
COUNTS = np.array([[90, 10, 0, 0], [10, 50, 5, 30], [40, 30, 5, 5], [40, 15, 0, 15]])


def test_shares_of_alterations_are_those_of_the_cells_on_the_day():
    """A cell with both counts for both; the last record until the day counts."""
    count = np.stack([COUNTS] * 5)
    day = np.array([0.0, 29.9, 28.0, 60.0, NAN])
    found = outcomes.carried(count, LEVELS, np.array([0, 28, 56, 84]), day)
    np.testing.assert_allclose(found.share[0], [0.1, 0])
    np.testing.assert_allclose(found.share[1:3], [[80 / 95, 35 / 95]] * 2)
    np.testing.assert_allclose(found.share[3], [35 / 80, 10 / 80])
    assert np.isnan(found.share[4]).all()
    assert found.dominant.tolist() == [-1, 0, 0, -1, -1]
    assert found.dominant_class.tolist() == [0, 1, 1, 0, -1]


def test_an_alteration_dominates_if_unaltered_cells_are_fewer():
    """Of 70 cells 40 carry nothing and 30 T790M; where only MET counts, 55 carry nothing that counts."""
    found = outcomes.carried(COUNTS, LEVELS, np.array([0, 28, 56, 84]), np.array(84.0))
    assert found.dominant == -1
    counts = np.array([[5, 15, 0, 15]])
    mask = np.array([False, True])
    assert outcomes.carried(counts, LEVELS, np.zeros(1), np.array(0.0)).dominant == 0
    assert outcomes.carried(counts, LEVELS, np.zeros(1), np.array(0.0), mask).dominant == -1


def test_nothing_is_carried_where_no_cell_is_known():
    """Extinct, unknown, or before the first record: NaN and -1."""
    counts = np.array([[[0, 0, 0, 0]], [[-1, -1, -1, -1]], [[1, 1, 1, 1]]])
    found = outcomes.carried(counts, LEVELS, np.array([7.0]), np.array([7.0, 7.0, 6.9]))
    assert np.isnan(found.share).all()
    assert (found.dominant == -1).all()
    assert (found.dominant_class == -1).all()


# --- intrinsic or acquired ---


def test_the_largest_resistant_clone_decides_where_resistance_came_from():
    """Unaltered clones do not count, nor smaller ones; a clone at two sites counts as one."""
    rows = np.array(
        [  # replicate genotype cells clone is_preexisting
            (0, 0, 900, 0, 1), (0, 1, 50, 1, 1), (0, 2, 60, 7, 0),
            (1, 0, 900, 0, 1),
            (2, 1, 40, 1, 1), (2, 1, 30, 1, 1), (2, 3, 60, 7, 0),
            (3, 2, 60, 7, 0), (3, 1, 60, 1, 1),
        ]
    )  # fmt: skip
    names = ("replicate_index", "genotype", "cells", "clone", "is_preexisting")
    state = dict(zip(names, rows.T, strict=True))
    state |= {"is_preexisting": state["is_preexisting"] > 0}
    state |= {name: np.zeros(len(rows), int) for name in ("arm_index", "patient_index")}
    found = outcomes.origin_at_end(state, (1, 1, 5), np.array([1, 1]))
    assert found.tolist() == [[[ACQUIRED, NO_CLONE, INTRINSIC, INTRINSIC, NO_CLONE]]]
    only = outcomes.origin_at_end(state, (1, 1, 5), np.array([1, 1]), np.array([True, False]))
    assert only.tolist() == [[[INTRINSIC, NO_CLONE, INTRINSIC, INTRINSIC, NO_CLONE]]]


def test_clones_on_a_day_are_traced_through_the_lineage():
    """Against a search clone by clone through the table of the small tumor of `tests/trajectories.py`."""
    groups = make_trajectory(replicates=4, mutation=1e-3, days=40, max_clones=40)
    root, lineage = ({k: v.data for k, v in groups[name].items()} for name in ("", "lineage"))
    root["max_level"] = np.array([1, 3])
    shape = (*root["clone_id"].shape[:1], 1, root["clone_id"].shape[1])
    day = np.full(shape, 31.0)
    day[0, 0, 1] = NAN
    day[1, 0, 2] = 4.0
    found = outcomes.origin_at(day, root, lineage)
    for arm, _, replicate in np.ndindex(shape):
        past = np.flatnonzero(root["clone_time"] <= day[arm, 0, replicate])
        largest, expected = 0, NO_CLONE
        for i, clone in enumerate(root["clone_id"][arm, replicate]):
            if clone < 0 or not len(past):
                continue
            (row,) = np.flatnonzero(
                (lineage["id"] == clone)
                & (lineage["replicate_index"] == replicate)
                & np.isin(lineage["arm_index"], (-1, arm))
            )
            size = root["clone_count"][arm, replicate, past[-1], i]
            if lineage["genotype"][row] and size > largest:
                largest = size
                expected = INTRINSIC if lineage["is_preexisting"][row] else ACQUIRED
        assert found[arm, 0, replicate] == expected
    assert {INTRINSIC, ACQUIRED, NO_CLONE} == set(found.ravel().tolist())


def test_a_clone_without_a_row_in_the_lineage_is_refused():
    """A table that was cut is not read as if it were whole."""
    groups = make_trajectory(replicates=1, days=4)
    root, lineage = ({k: v.data for k, v in groups[name].items()} for name in ("", "lineage"))
    root["max_level"] = np.array([1, 3])
    cut = {name: x[:0] for name, x in lineage.items()}
    with pytest.raises(ValueError, match="lineage lacks a clone"):
        outcomes.origin_at(np.full((2, 1, 1), 4.0), root, cut)


def test_the_worst_grade_is_the_highest_that_lasted():
    """Days in grade 0 to 4."""
    days = np.array([[10.0, 0, 0, 0, 0], [1, 2, 0, 0.5, 0], [0, 0, 0, 0, 0]])
    assert outcomes.worst_grade(days).tolist() == [0, 3, 0]
