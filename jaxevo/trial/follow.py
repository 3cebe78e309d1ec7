"""Follow: all arms, patients and replicates of a trial, from the engine to what each tumor came to.

Patients go through the engine in blocks, and of a block only scans and outcomes are kept, so that
memory does not grow with what an engine writes down on the way.

    paired        the same patients in every arm, with common random numbers
    independent   arm a follows patients a n .. (a + 1) n - 1: nobody is in two arms
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxevo import outcomes
from jaxevo.engines.base import Arm, Problem, Refused, Trajectory
from jaxevo.engines.process import problem_network
from jaxevo.engines.tumors import EXTINCT, INTERRUPTED, OUT_OF_ROOM, STOPPED
from jaxevo.outcomes import ORIGINS, Recist

PAIRINGS = ("paired", "independent", "both")
PROGRESSIONS = ("recist", "ratio")
DIAMETER_20_PERCENT = 1.2**3  # as a ratio of cells
BLOCK_BYTES = 2**30  # of what an engine writes down of a block of patients
UNKNOWN_AFTER = (STOPPED, OUT_OF_ROOM, INTERRUPTED)
NEAR = 1e-9  # days

Simulate = Callable[[Problem], Trajectory]


class TrialPlan(NamedTuple):
    """What a trial compares, and how."""

    num_patients: int = 1  # of one arm
    pairing: str = "paired"  # one of `PAIRINGS`
    control: int = 0  # the arm that the others are compared with
    progression: str = "recist"  # one of `PROGRESSIONS`
    progression_ratio: float = DIAMETER_20_PERCENT  # over the nadir, in cells, for "ratio"
    recist: Recist = Recist()
    horizon_day: float | None = None  # until which arms are compared; None: while all are known

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that it takes."""
        return PAIRINGS[:2] if self.pairing == "both" else (self.pairing,)


class Followed(NamedTuple):
    """What every tumor came to; leading axes arm, patient, replicate. None: the engine has it not."""

    patient: Int[np.ndarray, "arm patient"]  # index in the cohort
    scans: Float[np.ndarray, "arm patient replicate scan site"]  # cells as seen; NaN unknown
    status: Int[np.ndarray, "arm patient replicate"]  # as in a trajectory
    end_day: Float[np.ndarray, "arm patient replicate"]
    best: Int[np.ndarray, "arm patient replicate"]  # positions in `outcomes.RESPONSES`
    confirmed_best: Int[np.ndarray, "arm patient replicate"]
    best_change: Float[np.ndarray, "arm patient replicate"]  # smallest size over baseline, minus 1
    event_day: Float[
        np.ndarray, "arm patient replicate"
    ]  # progression, or last day known free of it
    is_event: Bool[np.ndarray, "arm patient replicate"]
    is_stop: Bool[np.ndarray, "arm patient replicate"]  # the event is `stop_at_cells`
    relapse_day: Float[np.ndarray, "arm patient replicate"]  # NaN for never
    is_extinct: Bool[np.ndarray, "arm patient replicate"] | None
    carried: Float[np.ndarray, "arm patient replicate alteration"]  # shares at progression
    dominant: Int[np.ndarray, "arm patient replicate"]  # alteration; -1 none
    origin: Int[np.ndarray, "arm patient replicate"] | None  # positions in `outcomes.ORIGINS`
    given_mg: Float[np.ndarray, "arm patient replicate drug"] | None  # while followed
    planned_mg: Float[np.ndarray, "arm patient replicate drug"]  # NaN where a rule chooses lines
    neutrophils: Float[np.ndarray, "arm patient replicate visit"] | None  # 1e9/L
    lowest: Float[np.ndarray, "arm patient replicate"] | None
    grade_days: Float[np.ndarray, "arm patient replicate grade"] | None

    @property
    def num_subjects(self) -> int:
        """Tumors of an arm: patients times replicates."""
        return self.status[0].size


def scan_days(problem: Problem) -> Float[np.ndarray, " scan"]:
    """Days of the scans, from 0 to the horizon.

    Raises:
        Refused: there are no visits, or no scan after that of day 0.
    """
    seen_at = problem.visits
    if seen_at is None:
        raise Refused(
            "a trial needs visits, at which tumors are scanned; give the problem `visits`"
        )
    every = seen_at.every * seen_at.scan_every
    number = int(np.floor(problem.horizon / every * (1 + 1e-12)))
    if number == 0:
        raise Refused(
            f"a trial needs a scan after day 0, and the next one would be on day {every:g}; "
            "scan earlier, or follow the tumors longer"
        )
    return every * np.arange(number + 1)


def visit_days(problem: Problem) -> Float[np.ndarray, " visit"]:
    """Days of all visits, from 0 to the horizon."""
    every = 1.0 if problem.visits is None else problem.visits.every
    return every * np.arange(int(np.floor(problem.horizon / every * (1 + 1e-12))) + 1)


def recorded(problem: Problem) -> Problem:
    """The problem with what a trial needs written down, and no more."""
    days, seen_at = scan_days(problem), problem.visits
    every = float(days[1]) if seen_at is None or not problem.hosts else seen_at.every
    record = problem.record._replace(
        every=every,
        clones_every=float(days[1]),
        snapshot_days=(),
        concentration_every=problem.horizon,
        max_classes=2**20,
    )
    return problem._replace(record=record)


def num_types(problem: Problem) -> int:
    """Classes times sites that an engine counts."""
    return problem_network(problem).num_types


class Size(NamedTuple):
    """How much a trial takes."""

    patients_per_block: int
    block_bytes: int  # what the engine writes down of a block
    kept_bytes: int  # of all tumors
    tumors: int  # arms x patients x replicates, of all runs


def size(problem: Problem, plan: TrialPlan, is_counted: bool = True) -> Size:
    """Numbers of tumors and bytes of a trial, before it runs.

    Args:
        problem: the study.
        plan: of the trial.
        is_counted: whether the engine counts cells by class, and not each of them.
    """
    small = recorded(problem)
    types = num_types(problem) if is_counted else problem.record.max_classes
    num_sites, num_drugs = len(problem.model.names.sites), len(problem.model.names.drugs)
    scans, visits = len(scan_days(problem)), len(visit_days(problem))
    records = int(problem.horizon / small.record.every) + 2
    clones = scans * 2 * (2 * types + problem.record.max_clones)
    written = 8 * (records * (2 + num_sites + 2 * types) + clones + visits * (8 + 3 * num_drugs))
    kept = 8 * (scans * num_sites + (visits if problem.hosts else 0) + 3 * num_drugs + 20)
    each = len(problem.arms) * problem.replicates
    fits = max(1, BLOCK_BYTES // (written * each))
    block = min(1 << (fits.bit_length() - 1), plan.num_patients)
    tumors = each * plan.num_patients * len(plan.runs)
    return Size(block, block * each * written, kept * tumors, tumors)


def follow(
    problem: Problem,
    plan: TrialPlan,
    run: str,
    simulate: Simulate,
    should_stop: Callable[[], bool] = lambda: False,
    patients_per_block: int | None = None,
) -> Followed:
    """One run of a trial.

    Patients that were never treated, since the user stopped the trial before, are left out; those
    that were being followed then are censored.

    Args:
        problem: the study; its models are those of the cohort, n of them for a paired run and arms
            times n for an independent one, or one for all.
        plan: of the trial.
        run: "paired" or "independent".
        simulate: an engine.
        should_stop: asked between blocks of patients.
        patients_per_block: changes no bit.

    Raises:
        Refused: there are no scans, fewer models than patients, or the engine cannot do it.
    """
    num, num_arms = plan.num_patients, len(problem.arms)
    needed = num * (num_arms if run == "independent" else 1)
    if 1 < len(problem.models) < needed:
        raise Refused(f"the trial needs {needed} patients, and there are {len(problem.models)}")
    written, width = recorded(problem), patients_per_block or size(problem, plan).patients_per_block
    every_arm = tuple(range(num_arms))
    blocks: list[Followed] = []
    for first in range(0, num, width):
        if blocks and should_stop():
            break
        chosen = range(first, min(first + width, num))
        if run == "paired":
            parts = [_block(written, plan, every_arm, chosen, simulate)]
        else:
            own = [range(a * num + chosen.start, a * num + chosen.stop) for a in every_arm]
            parts = [_block(written, plan, (a,), own[a], simulate) for a in every_arm]
        found = _joined(parts, 0)
        is_treated = ~((found.status == INTERRUPTED) & (found.end_day <= 0)).any(axis=(0, 2))
        blocks.append(_of_patients(found, is_treated))
    return _joined(blocks, 1)


def _block(
    problem: Problem, plan: TrialPlan, arms: tuple[int, ...], patients: range, simulate: Simulate
) -> Followed:
    """Some arms of some patients."""
    models, hosts = problem.models, problem.hosts
    is_shared = len(models) == 1
    part = problem._replace(
        arms=tuple(problem.arms[a] for a in arms),
        patients=tuple(models[0 if is_shared else p] for p in patients),
        hosts=tuple(hosts[p % len(hosts)] for p in patients) if hosts else (),
        first_patient=problem.first_patient + patients.start,
    )
    return came_to(part, plan, simulate(part))


def _joined(parts: list[Followed], axis: int) -> Followed:
    """Several as one, along the axis of arms (0) or patients (1)."""
    join = lambda *x: None if x[0] is None else np.concatenate(x, axis=axis)  # noqa: E731
    columns: Any = [join(*column) for column in zip(*parts, strict=True)]
    return Followed(*columns)


def _of_patients(found: Followed, chosen: Bool[np.ndarray, " patient"]) -> Followed:
    columns: Any = [None if x is None else x[:, chosen] for x in found]
    return Followed(*columns)


# --- from a trajectory -----------------------------------------------------------------------------


def came_to(problem: Problem, plan: TrialPlan, found: Trajectory) -> Followed:
    """What every tumor of a trajectory came to.

    A scan sees the sites with one error in common. Progression is what `plan` says, or that the
    tumor reached `stop_at_cells`, whichever came first; a tumor without is censored at its last scan.
    """
    root = {name: variable.data for name, variable in found[""].items()}
    days, names = scan_days(problem), problem.model.names
    shape = root["burden"].shape[:3]
    status = np.asarray(root.get("status", np.zeros(shape)), np.int64)
    end_day = np.asarray(root.get("end_day", np.full(shape, problem.horizon)), float)
    scans = seen(problem, root, days, status, end_day)
    told = outcomes.assess(scans, days, rules=plan.recist)
    event_day, is_event = told.progression_day, told.is_progression
    sizes = told.sum_mm
    if plan.progression == "ratio":
        sizes = scans.sum(axis=-1)
        event_day, is_event = outcomes.by_ratio(sizes, days, plan.progression_ratio)
    is_stop = (status == STOPPED) & ~(is_event & (event_day <= end_day + NEAR))
    event_day, is_event = np.where(is_stop, end_day, event_day), is_event | is_stop
    day = np.where(is_event, event_day, np.nan)
    genome = problem.model.genome
    is_resistance = np.array([kind != "hierarchy" for kind in genome.inheritances], bool)
    carried = outcomes.carried(
        root["class_count"], root["class_genotype"], root["time"], day, is_resistance
    )
    until = np.where(status == EXTINCT, problem.horizon, end_day)  # nobody knows that it is gone
    marrow = {"lowest": None, "grade_days": None, "neutrophils": None}
    if problem.hosts and "grade_days" in root:
        at = np.searchsorted(root["time"], visit_days(problem) - NEAR)
        is_over = visit_days(problem) > until[..., None] + NEAR
        marrow = {
            "lowest": root["lowest_neutrophils"],
            "grade_days": root["grade_days"],
            "neutrophils": np.where(is_over, np.nan, root["neutrophils"][..., at]),
        }
    return Followed(
        patient=np.tile(root["patient"], (shape[0], 1)),
        scans=scans,
        status=status,
        end_day=end_day,
        best=told.best,
        confirmed_best=told.confirmed_best,
        best_change=_best_change(np.where(days <= event_day[..., None] + NEAR, sizes, np.nan)),
        event_day=event_day,
        is_event=is_event,
        is_stop=is_stop,
        relapse_day=told.relapse_day,
        is_extinct=root.get("is_extinct"),
        carried=carried.share,
        dominant=carried.dominant,
        origin=_origin(found, root, day, is_resistance),
        given_mg=_given(problem, root, until),
        planned_mg=_planned(problem, until, len(names.drugs)),
        **marrow,
    )


def seen(
    problem: Problem,
    root: dict[str, Any],
    days: Float[np.ndarray, " scan"],
    status: Int[np.ndarray, "*tumor"],
    end_day: Float[np.ndarray, "*tumor"],
) -> Float[np.ndarray, "*tumor scan site"]:
    """Cells of every site as the scans show them; NaN where a tumor was not followed."""
    at = np.searchsorted(root["time"], days - NEAR)
    sites = np.asarray(root["site_burden"][..., at, :], float)
    total = sites.sum(axis=-1)
    seen_at = problem.visits
    if "scan_burden" in root and seen_at is not None:
        burden = root["scan_burden"][..., :: seen_at.scan_every][..., : len(days)]
    else:
        least = 1.0 if seen_at is None else seen_at.detection_cells
        burden = np.where(total >= least, total, 0.0)
    shown = sites * (burden / np.where(total > 0, total, 1.0))[..., None]
    is_over = np.isin(status, UNKNOWN_AFTER)[..., None] & (days > end_day[..., None] + NEAR)
    return np.where(is_over[..., None] | (sites < 0), np.nan, shown)


def _best_change(sizes: Float[np.ndarray, "*tumor scan"]) -> Float[np.ndarray, "*tumor"]:
    """The smallest size after baseline over that of baseline, minus 1; NaN where there was none."""
    first, later = sizes[..., 0], sizes[..., 1:]
    smallest = np.where(np.isnan(later), np.inf, later).min(axis=-1)
    is_known = (first > 0) & np.isfinite(smallest)
    return np.where(is_known, smallest / np.where(is_known, first, 1.0) - 1, np.nan)


def _origin(
    found: Trajectory, root: dict[str, Any], day: np.ndarray, is_resistance: np.ndarray
) -> np.ndarray | None:
    """Whether the largest resistant clone at progression was there before treatment."""
    if "lineage" not in found or "clone_id" not in root:
        return None
    lineage = {name: variable.data for name, variable in found["lineage"].items()}
    if root["clone_id"].size == 0:
        return np.full(day.shape, ORIGINS.index("none"))
    return outcomes.origin_at(day, root, lineage, is_resistance)


def _given(problem: Problem, root: dict[str, Any], until: np.ndarray) -> np.ndarray | None:
    """What was given of every drug, mg; a tumor that is not followed any more is given nothing."""
    if "given_mg" not in root:
        return None
    total = np.nan_to_num(root["given_mg"])  # up to the visit after each
    total = np.concatenate([np.zeros_like(total[..., :1, :]), total], axis=-2)
    at = _num_visits(problem, until)[..., None, None]
    return np.take_along_axis(total, at, axis=-2)[..., 0, :]


def _num_visits(problem: Problem, until: np.ndarray) -> np.ndarray:
    """Visits of every tumor after which it was followed."""
    return (visit_days(problem) < until[..., None] - NEAR).sum(axis=-1)


def _planned(problem: Problem, until: np.ndarray, num_drugs: int) -> np.ndarray:
    """What the arm would have given at full doses in the same time, mg.

    As far as it is known: of an arm whose rule chooses between lines it is not.
    """
    visits = visit_days(problem)
    ends = np.append(visits[1:], problem.horizon)
    num_visits = _num_visits(problem, until)
    planned = np.full((*until.shape, num_drugs), np.nan)
    for a, arm in enumerate(problem.arms):
        if len(arm.lines) > 1:
            continue
        by_surface: dict[float, np.ndarray] = {}
        for p, model in enumerate(problem.models):
            surface = float(model.body_surface)
            if surface not in by_surface:
                by_surface[surface] = _doses_by(arm, ends, surface, num_drugs)
            by_visit = by_surface[surface]
            planned[a, p] = np.concatenate([np.zeros((1, num_drugs)), by_visit])[num_visits[a, p]]
    return planned


def _doses_by(arm: Arm, ends: np.ndarray, surface: float, num_drugs: int) -> np.ndarray:
    """Full doses before each of some days, mg, [day, drug]."""
    total = np.zeros((len(ends), num_drugs))
    for dose in (*arm.doses, *(dose for line in arm.lines for dose in line.doses)):
        since = ends - dose.day
        share = since > 0 if dose.duration <= 0 else np.clip(since / dose.duration, 0, 1)
        total[:, dose.drug] += dose.mg(surface) * share
    return total
