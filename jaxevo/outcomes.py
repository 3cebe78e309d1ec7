"""Outcomes: what the physician reports of a tumor, from what the scans show.

A lesion of n cells has the volume n / 10^9 cm3 (the textbook count; Del Monte 2009,
doi:10.4161/cc.8.3.7608, reviews it) and, as a sphere, the diameter (6 V/pi)^(1/3). Every site holds
one lesion. Response follows RECIST 1.1 (Eisenhauer et al. 2009, doi:10.1016/j.ejca.2008.10.026); where
a model tumor leaves a choice, `assess` states it. Plain NumPy: functions work on leading axes such as
[arm, patient, replicate].
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy import special

RESPONSES = ("CR", "PR", "SD", "PD", "NE")  # best first; an array of responses holds positions
CR, PR, SD, PD, NE = range(5)
ORIGINS = ("none", "intrinsic", "acquired")  # of resistance
NO_CLONE, INTRINSIC, ACQUIRED = range(3)
CELLS_PER_CM3 = 1e9
ROUNDING = 1e-9  # relative: a diameter of 119.99999999999999 mm is 120 mm


class Recist(NamedTuple):
    """The numbers of RECIST 1.1."""

    measurable_mm: float = 10.0  # a lesion this large at baseline is a target
    max_targets: int = 5  # the largest
    response_share: float = 0.30  # PR: the sum falls by this share of baseline
    progression_share: float = 0.20  # PD: the sum rises by this share of its nadir
    progression_mm: float = 5.0  # and by so much
    confirm_days: float = 28.0  # from a response to the scan that confirms it
    stable_days: float = 42.0  # from baseline to the first scan that may be called stable


class Assessment(NamedTuple):
    """What the scans of every tumor say."""

    sum_mm: Float[np.ndarray, "*tumor scan"]  # of the targets' diameters; NaN where not evaluable
    response: Int[np.ndarray, "*tumor scan"]  # positions in `RESPONSES`; NE at baseline
    best: Int[np.ndarray, "*tumor"]
    confirmed_best: Int[np.ndarray, "*tumor"]  # CR and PR need a second scan
    progression_day: Float[np.ndarray, "*tumor"]  # of the first PD, else of the last evaluable scan
    is_progression: Bool[np.ndarray, "*tumor"]  # else the tumor is censored
    relapse_day: Float[np.ndarray, "*tumor"]  # first seen again after nothing was; NaN for never


class Share(NamedTuple):
    """A share of trials with its interval."""

    value: Float[np.ndarray, "..."]  # NaN of no trials
    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class Carried(NamedTuple):
    """What the cells of every tumor carry on a day; NaN and -1 where no cell is known."""

    share: Float[np.ndarray, "*tumor alteration"]  # of the cells of known genotype
    dominant: Int[np.ndarray, "*tumor"]  # alteration most cells carry; -1: more carry none
    dominant_class: Int[np.ndarray, "*tumor"]  # position of the largest class


def volume_cm3(cells, cells_per_cm3: float = CELLS_PER_CM3):
    """Volume of a lesion, cm3."""
    return np.asarray(cells, float) / cells_per_cm3


def diameter_mm(cells, cells_per_cm3: float = CELLS_PER_CM3):
    """Diameter of a lesion as a sphere, mm: 12.4 for 10^9 cells."""
    return 10.0 * np.cbrt(volume_cm3(cells, cells_per_cm3) * 6 / np.pi)


def assess(
    scans: Real[np.ndarray, "*tumor scan site"],
    day: Real[np.ndarray, " scan"],
    detection_cells: float = 1.0,
    rules: Recist = Recist(),  # noqa: B008  (a constant)
    cells_per_cm3: float = CELLS_PER_CM3,
) -> Assessment:
    """Response, progression and relapse of every tumor by RECIST 1.1.

    The first scan is the baseline. Targets are the largest lesions of at least 10 mm there; other
    lesions that are seen there are non-targets. At each later scan, the first that holds:

    1. NE: a site is unknown, here or at baseline;
    2. PD: a lesion is seen where none was at baseline; or anything after a CR; or the sum of the
       targets' diameters, or that of all lesions of the baseline (unequivocal progression of
       non-targets), is 20 % and 5 mm over the smallest before, baseline included;
    3. CR: nothing is seen, and something was at baseline;
    4. PR: the targets' sum is 30 % below baseline, be there non-targets or not;
    5. SD; NE without a target, since lesions under 10 mm have no size that counts.

    A lesion that is seen has the diameter of its cells, however small. Scans after a progression are
    compared as those before, but count for no best response. The best response is the best until the
    first PD, where SD counts from six weeks after baseline on; the confirmed one takes CR and PR only
    where a scan at least four weeks later, and no PD before it, shows the same or better, SD in between or
    not, and else counts them as SD (table 3 there).

    A tumor relapses at the first scan that shows it after one that did not, whether a drug or a surgeon
    made it go. A tumor that is gone and back between two scans does not.

    Args:
        scans: cells as seen; 0 for nothing, NaN or negative for unknown.
        day: of every scan, increasing; since the start of treatment.
        detection_cells: a lesion of fewer cells is not seen.
        rules: the numbers of RECIST 1.1.
        cells_per_cm3: of a lesion.

    Raises:
        ValueError: no scan, or days that do not increase.
    """
    day = np.asarray(day, float)
    if len(day) == 0 or not (np.diff(day) > 0).all():
        raise ValueError("scans need a baseline, and days that increase")
    is_known = np.all(scans >= 0, axis=-1)
    is_known &= is_known[..., :1]
    seen = is_known[..., None] & (scans >= detection_cells) & (scans > 0)
    size = np.where(seen, diameter_mm(np.where(seen, scans, 0.0), cells_per_cm3), 0.0)
    targets = _targets(size[..., 0, :], rules)
    response, sum_mm = _responses(size, targets, is_known, rules)
    is_counted = _until_first(response == PD)
    best = np.where(is_counted, response, NE)
    early = day - day[0] < rules.stable_days * (1 - ROUNDING)
    progression_day, is_progression = _first_or_last(response == PD, is_known, day)
    is_gone = is_known & ~seen.any(axis=-1)
    back = seen.any(axis=-1) & _before(is_gone)
    first_back, is_back = _first_or_last(back, is_known, day)
    return Assessment(
        sum_mm=np.where(is_known, sum_mm, np.nan),
        response=response,
        best=_best(best, early),
        confirmed_best=_best(_confirmed(best, day, rules), early),
        progression_day=progression_day,
        is_progression=is_progression,
        relapse_day=np.where(is_back, first_back, np.nan),
    )


def by_ratio(
    burden: Real[np.ndarray, "*tumor scan"], day: Real[np.ndarray, " scan"], ratio: float
) -> tuple[Float[np.ndarray, "*tumor"], Bool[np.ndarray, "*tumor"]]:
    """Day of progression by the burden alone, as of a tumor without lesions, and whether there was one.

    It is the first scan that shows the tumor at `ratio` times the smallest burden of all scans before
    or more (0 where it was not seen); else the day of the last known scan.

    Args:
        burden: cells as seen; 0 for nothing, NaN for unknown.
        day: of every scan.
        ratio: from 1 on.
    """
    is_known = burden >= 0
    smallest = np.minimum.accumulate(np.where(is_known, burden, np.inf), axis=-1)
    has_grown = is_known & (burden > 0)
    has_grown[..., 0] = False
    has_grown[..., 1:] &= _at_most(ratio * smallest[..., :-1], burden[..., 1:])
    return _first_or_last(has_grown, is_known, np.asarray(day, float))


def _targets(
    baseline: Float[np.ndarray, "*tumor site"], rules: Recist
) -> Bool[np.ndarray, "*tumor site"]:
    """The largest measurable lesions; of equals those of the first sites."""
    order = np.argsort(-baseline, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return (baseline >= rules.measurable_mm * (1 - ROUNDING)) & (rank < rules.max_targets)


def _responses(
    size: Float[np.ndarray, "*tumor scan site"],
    targets: Bool[np.ndarray, "*tumor site"],
    is_known: Bool[np.ndarray, "*tumor scan"],
    rules: Recist,
) -> tuple[Int[np.ndarray, "*tumor scan"], Float[np.ndarray, "*tumor scan"]]:
    """Response at every scan, and the sum of the targets' diameters."""
    old = size[..., :1, :] > 0  # lesions of the baseline
    sum_mm = (size * targets[..., None, :]).sum(axis=-1)
    is_none = (size == 0).all(axis=-1)
    is_complete = is_known & is_none & old.any(axis=-1)
    is_new = ((size > 0) & ~old).any(axis=-1)
    is_back = ~is_none & _before(is_complete)
    has_grown = _has_grown(sum_mm, is_known, rules)
    has_grown |= _has_grown((size * old).sum(axis=-1), is_known, rules)
    has_target = np.any(targets, axis=-1, keepdims=True)
    limit = sum_mm[..., :1] * (1 - rules.response_share)
    response = np.select(
        [
            ~is_known,
            is_new | is_back | has_grown,
            is_complete,
            has_target & _at_most(sum_mm, limit),
        ],
        [NE, PD, CR, PR],
        np.where(has_target, SD, NE),
    )
    response[..., 0] = NE
    return response, sum_mm


def _has_grown(
    sum_mm: Float[np.ndarray, "*tumor scan"],
    is_known: Bool[np.ndarray, "*tumor scan"],
    rules: Recist,
) -> Bool[np.ndarray, "*tumor scan"]:
    """Whether the sum is enough above the smallest of all scans before."""
    smallest = np.minimum.accumulate(np.where(is_known, sum_mm, np.inf), axis=-1)
    nadir = np.full_like(smallest, np.inf)
    nadir[..., 1:] = smallest[..., :-1]
    by_share = _at_most(nadir * (1 + rules.progression_share), sum_mm)
    return by_share & _at_most(nadir + rules.progression_mm, sum_mm)


def _at_most(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a <= b, equal numbers included, however they were rounded."""
    return a <= b * (1 + ROUNDING)


def _before(claim: Bool[np.ndarray, "*tumor scan"]) -> Bool[np.ndarray, "*tumor scan"]:
    """Whether the claim held at a scan before."""
    found = np.zeros_like(claim)
    found[..., 1:] = np.logical_or.accumulate(claim, axis=-1)[..., :-1]
    return found


def _until_first(claim: Bool[np.ndarray, "*tumor scan"]) -> Bool[np.ndarray, "*tumor scan"]:
    """Scans until the claim first holds, that one included."""
    return ~_before(claim)


def _first_or_last(
    claim: Bool[np.ndarray, "*tumor scan"],
    is_known: Bool[np.ndarray, "*tumor scan"],
    day: Float[np.ndarray, " scan"],
) -> tuple[Float[np.ndarray, "*tumor"], Bool[np.ndarray, "*tumor"]]:
    """Day of the first scan at which the claim holds, else of the last known one; whether it held.

    The day of the baseline where no scan is known.
    """
    held = np.asarray(claim.any(axis=-1))
    last = np.where(is_known, np.arange(len(day)), 0).max(axis=-1)
    return np.asarray(day[np.where(held, claim.argmax(axis=-1), last)]), held


def _confirmed(
    response: Int[np.ndarray, "*tumor scan"], day: Float[np.ndarray, " scan"], rules: Recist
) -> Int[np.ndarray, "*tumor scan"]:
    """Responses with every CR and PR that no later scan confirms counted as SD."""
    is_later = day - day[:, None] >= rules.confirm_days * (1 - ROUNDING)  # [response, confirming]
    found = response.copy()
    for least in (CR, PR):
        is_met = (response <= least).astype(np.int64)
        is_confirmed = is_met @ is_later.T.astype(np.int64) > 0
        found[(response == least) & ~is_confirmed] = SD
    return found


def _best(
    response: Int[np.ndarray, "*tumor scan"], is_early: Bool[np.ndarray, " scan"]
) -> Int[np.ndarray, "*tumor"]:
    """The best of the responses, without an SD that is too early to be called stable."""
    return np.asarray(np.where((response == SD) & is_early, NE, response).min(axis=-1))


def wilson(hits, num, level: float = 0.95) -> Share:
    """A share with Wilson's interval (1927, doi:10.1080/01621459.1927.10502953).

    Of no trials at all the share is NaN and the interval 0 to 1.

    Args:
        hits: integers [...], of
        num: trials [...].
        level: of the interval.

    Raises:
        ValueError: fewer than no hits, or more than trials.
    """
    hits, num = np.broadcast_arrays(np.asarray(hits, float), np.asarray(num, float))
    if not ((hits >= 0) & (hits <= num)).all():
        raise ValueError("hits are 0 to as many as there were trials")
    z = special.ndtri((1 + level) / 2)
    some = np.maximum(num, 1.0)
    share = hits / some
    center = (share + z**2 / (2 * some)) / (1 + z**2 / some)
    half = z * np.sqrt(share * (1 - share) / some + z**2 / (4 * some**2)) / (1 + z**2 / some)
    low = np.where(hits == 0, 0.0, center - half)
    high = np.where(hits == num, 1.0, center + half)
    return Share(np.where(num > 0, share, np.nan), low, high)


def carried(
    class_count: Real[np.ndarray, "*tumor time class"],
    class_genotype: Int[np.ndarray, "class alteration"],
    time: Real[np.ndarray, " time"],
    day: Real[np.ndarray, "*tumor"],
    is_resistance: Bool[np.ndarray, " alteration"] | None = None,
) -> Carried:
    """Which alterations the cells of every tumor carry on its day, such as that of its relapse.

    The cells are those of the last record until the day. Cells of classes that are not tracked have no
    known genotype and are left out.

    Args:
        class_count: living cells of every tracked class; negative where unknown.
        class_genotype: level of every alteration.
        time: of the records.
        day: of every tumor; NaN where there is none.
        is_resistance: which alterations may be dominant (a stage of differentiation is no way past a
            drug); None for all.
    """
    row = np.searchsorted(time, np.nan_to_num(day, nan=-np.inf), side="right") - 1
    rows = np.maximum(row, 0)[..., None, None]
    cells = np.take_along_axis(class_count, rows, axis=-2)[..., 0, :].astype(float)
    is_known = (row >= 0) & (cells >= 0).all(axis=-1) & (cells.sum(axis=-1) > 0)
    cells = np.where(is_known[..., None], cells, 0.0)
    has = class_genotype > 0
    chosen = np.ones(has.shape[1], bool) if is_resistance is None else is_resistance
    total = np.where(is_known, cells.sum(axis=-1), 1.0)[..., None]
    share = cells @ has.astype(float) / total
    unaltered = cells @ (~(has & chosen).any(axis=1)).astype(float) / total[..., 0]
    of_chosen = np.where(chosen, share, 0.0)
    leads = is_known & (of_chosen.max(axis=-1, initial=0.0) > 0)
    leads &= of_chosen.max(axis=-1, initial=0.0) >= unaltered * (1 - ROUNDING)
    first = of_chosen.argmax(axis=-1) if has.shape[1] else np.zeros_like(row)
    return Carried(
        share=np.where(is_known[..., None], share, np.nan),
        dominant=np.where(leads, first, -1),
        dominant_class=np.where(is_known, cells.argmax(axis=-1), -1),
    )


def origin_at_end(
    state: Mapping[str, np.ndarray],
    shape: tuple[int, int, int],
    max_level: Int[np.ndarray, " alteration"],
    is_resistance: Bool[np.ndarray, " alteration"] | None = None,
) -> Int[np.ndarray, "arm patient replicate"]:
    """Whether the largest resistant clone at the end was there before treatment.

    Args:
        state: columns of the group `state` of a trajectory.
        shape: numbers of arms, patients and replicates.
        max_level: highest level of every alteration.
        is_resistance: which alterations make a clone resistant; None for all.

    Returns:
        Positions in `ORIGINS`; 0 where no cell is resistant.
    """
    index = tuple(state[f"{axis}_index"] for axis in ("arm", "patient", "replicate"))
    tumor = np.ravel_multi_index(index, shape)
    is_resistant = _is_resistant(state["genotype"], max_level, is_resistance)
    columns = (tumor, state["clone"], state["cells"], state["is_preexisting"])
    return _of_largest(shape, *(x[is_resistant] for x in columns))


def origin_at(
    day: Real[np.ndarray, "arm patient replicate"],
    root: Mapping[str, np.ndarray],
    lineage: Mapping[str, np.ndarray],
    is_resistance: Bool[np.ndarray, " alteration"] | None = None,
) -> Int[np.ndarray, "arm patient replicate"]:
    """Whether the largest resistant clone on a tumor's day was there before treatment.

    A clone is resistant if it was so when it arose. Its size is that of the last record until the day.

    Args:
        day: such as that of relapse; NaN where there is none.
        root: `clone_time`, `clone_id`, `clone_count` and `max_level` of a trajectory.
        lineage: columns of the group `lineage`.
        is_resistance: which alterations make a clone resistant; None for all.

    Returns:
        Positions in `ORIGINS`; 0 where there is no day, or no resistant clone among those recorded.

    Raises:
        ValueError: a recorded clone has no row in the lineage.
    """
    shape, time = day.shape, root["clone_time"]
    num_clones = root["clone_id"].shape[-1]
    names = root["clone_id"].reshape(*shape, num_clones).astype(np.int64)
    counts = root["clone_count"].reshape(*shape, len(time), num_clones)
    row = np.searchsorted(time, np.nan_to_num(day, nan=-np.inf), side="right") - 1
    now = np.take_along_axis(counts, np.maximum(row, 0)[..., None, None], axis=-2)[..., 0, :]
    now = np.where((row >= 0)[..., None] & (names >= 0), now, 0)
    at = np.nonzero(now > 0)
    tumor, clone, cells = np.ravel_multi_index(at[:3], shape), names[at], now[at]
    known, place = _clones(lineage, shape)
    name = tumor << 32 | clone
    if not np.isin(name, known).all():
        raise ValueError("the lineage lacks a clone whose size was recorded")
    found = place[np.searchsorted(known, name)]
    is_resistant = _is_resistant(lineage["genotype"][found], root["max_level"], is_resistance)
    columns = (tumor, clone, cells, lineage["is_preexisting"][found])
    return _of_largest(shape, *(x[is_resistant] for x in columns))


def _clones(
    lineage: Mapping[str, np.ndarray], shape: tuple[int, ...]
) -> tuple[Int[np.ndarray, " clone"], Int[np.ndarray, " clone"]]:
    """Sorted (tumor, name) of every clone as one number, and its row in the table."""
    arm, replicate = (lineage[name].astype(np.int64) for name in ("arm_index", "replicate_index"))
    patient = np.asarray(lineage.get("patient_index", np.zeros(len(arm))), np.int64)
    keys, rows = [], []
    for a in range(shape[0]):
        here = np.flatnonzero((arm == a) | (arm == -1))  # -1: from before the arms forked
        tumor = np.ravel_multi_index((np.full(len(here), a), patient[here], replicate[here]), shape)
        keys.append(tumor << 32 | lineage["id"][here].astype(np.int64))
        rows.append(here)
    key, row = np.concatenate(keys), np.concatenate(rows)
    order = np.argsort(key, kind="stable")
    return key[order], row[order]


def _is_resistant(
    genotype: np.ndarray, max_level: np.ndarray, is_resistance: np.ndarray | None
) -> Bool[np.ndarray, " row"]:
    """Whether packed genotypes hold an alteration that counts."""
    sizes = np.asarray(max_level, np.int64) + 1
    strides = np.cumprod(np.append(1, sizes))[:-1]
    levels = genotype.astype(np.int64)[:, None] // strides % sizes
    chosen = np.ones(len(sizes), bool) if is_resistance is None else is_resistance
    return np.asarray((levels[:, chosen] > 0).any(axis=1))


def _of_largest(
    shape: tuple[int, ...],
    tumor: np.ndarray,
    clone: np.ndarray,
    cells: np.ndarray,
    is_preexisting: np.ndarray,
) -> Int[np.ndarray, "arm patient replicate"]:
    """Origin of the clone with most cells in each tumor; of equals, of the first name."""
    name, first, member = np.unique(
        tumor.astype(np.int64) << 32 | clone.astype(np.int64),
        return_index=True,
        return_inverse=True,
    )
    size = np.bincount(member, cells, len(name))
    order = np.lexsort((-name, size))  # the largest of a tumor is written last
    origin = np.full(int(np.prod(shape)), NO_CLONE)
    row = first[order]
    origin[tumor[row]] = np.where(is_preexisting[row], INTRINSIC, ACQUIRED)
    return origin.reshape(shape)


def worst_grade(grade_days: Real[np.ndarray, "*tumor grade"]) -> Int[np.ndarray, "*tumor"]:
    """The highest CTCAE grade that lasted at all, 0 to 4, from the days in each."""
    grade = np.arange(grade_days.shape[-1])
    return np.asarray(np.where(grade_days > 0, grade, 0).max(axis=-1))
