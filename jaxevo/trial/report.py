"""Report: what a trial found, as a table of plain numbers and text that JSON can hold.

Of each run: response, time to progression, relapse, cure, mechanisms, toxicity and doses of every arm,
and every arm against the control arm. Which figures a run may give depends on its pairing: patients
who are in both arms give differences of means with little noise, and no log-rank test, hazard ratio or
number needed to treat, all of which take the arms for different people. Nothing is rounded; what is not
finite or not known is None, with a note beside it.
"""

import math
from typing import Any

import numpy as np

from jaxevo import outcomes, survival
from jaxevo.engines.base import Arm, Problem
from jaxevo.engines.process import problem_network
from jaxevo.engines.regimen import reads
from jaxevo.outcomes import ORIGINS, RESPONSES
from jaxevo.survival import Curve, Estimate, FollowUp
from jaxevo.trial.follow import Followed, TrialPlan, scan_days, visit_days

QUANTILES = {"5%": 0.05, "50%": 0.5, "95%": 0.95}
OF_RUN = {
    "paired": "the same patients and common random numbers in every arm",
    "independent": "patients of its own in every arm",
}
ONLY_INDEPENDENT = (
    "log-rank test, hazard ratio and number needed to treat take the arms for different patients, and "
    "here they are the same; for those figures set trial.pairing to independent or both"
)
ONLY_PAIRED = (
    "differences within patients need the same patients in both arms; for those set trial.pairing to "
    "paired or both"
)

TrialReport = dict[str, Any]


def report(problem: Problem, plan: TrialPlan, runs: dict[str, Followed]) -> TrialReport:
    """All figures of a trial; of no run, none of them.

    Args:
        problem: the study.
        plan: of the trial.
        runs: "paired" or "independent", or both, and what was followed in them.
    """
    return {
        "pairing": plan.pairing,
        "control": problem.arms[plan.control].name,
        "arms": [arm.name for arm in problem.arms],
        "scan_days": scan_days(problem).tolist(),
        "progression": _definition(problem, plan),
        "decisions": {arm.name: _decisions(problem, arm) for arm in problem.arms if arm.decides},
        "runs": {name: _run(problem, plan, name, run) for name, run in runs.items()},
    }


def _definition(problem: Problem, plan: TrialPlan) -> str:
    """What progression is, in words."""
    what = "RECIST 1.1"
    if plan.progression == "ratio":
        what = f"a burden of {plan.progression_ratio:.4g} times its smallest scan or more"
    stop = problem.stop_at_cells
    return what if stop is None else f"{what}, or {stop:.4g} cells, whichever comes first"


def _decisions(problem: Problem, arm: Arm) -> dict[str, Any]:
    """Which rules an arm follows and what they read."""
    seen_at, found = problem.visits, {}
    for role, rule in (("policy", arm.policy), ("safety", arm.safety)):
        if rule is None:
            continue
        uses = reads(problem, arm, role, problem_network(problem))
        found[role] = {"rule": rule.name, "reads": list(uses)}
        if "composition" in uses and seen_at is not None:
            is_perfect = not seen_at.composition
            least = "every cell" if is_perfect else f"classes from {seen_at.composition:g} cells on"
            found[role]["composition"] = f"known perfectly: {least}" if is_perfect else least
    return found


# --- one run ---------------------------------------------------------------------------------------


def _run(problem: Problem, plan: TrialPlan, name: str, run: Followed) -> dict[str, Any]:
    num_patients, num_replicates = run.best.shape[1:]
    follow_ups = [_follow_up(run, a) for a in range(len(problem.arms))]
    known = min(survival.known_until(*follow_ups), float(scan_days(problem)[-1]))
    until = known if plan.horizon_day is None else min(plan.horizon_day, known)
    notes = [
        f"unit of every share and curve: {num_patients} patients x {num_replicates} replicates"
    ]
    if num_patients < plan.num_patients:
        notes.append(f"stopped: {num_patients} of {plan.num_patients} patients were treated")
    if plan.horizon_day is not None and plan.horizon_day > known:
        notes.append(
            f"trial.horizon_day is {plan.horizon_day:g}, and all arms are known until day {known:g} only"
        )
    if name == "independent" and min(num_patients, num_replicates) > 1:
        notes.append(
            "replicates of a patient count as patients of their own: where patients differ, intervals "
            "are too narrow and p too small; study.replicates = 1 avoids it"
        )
    if plan.pairing != "both":
        notes.append(ONLY_INDEPENDENT if name == "paired" else ONLY_PAIRED)
    arms = {}
    for a, arm in enumerate(problem.arms):
        arms[arm.name] = _arm(problem, run, a, follow_ups[a], until)
    against = {
        arm.name: _versus(run, name, plan, a, follow_ups, until)
        for a, arm in enumerate(problem.arms)
        if a != plan.control
    }
    return {
        "what": OF_RUN[name],
        "patients": num_patients,
        "replicates": num_replicates,
        "subjects_per_arm": run.num_subjects,
        "until_day": until,
        "notes": notes,
        "arms": arms,
        "against_control": against,
    }


def _follow_up(run: Followed, arm: int) -> FollowUp:
    return FollowUp(run.event_day[arm].ravel(), run.is_event[arm].ravel())


def _arm(
    problem: Problem, run: Followed, a: int, follow_up: FollowUp, until: float
) -> dict[str, Any]:
    curve = survival.kaplan_meier(follow_up)
    middle = survival.median(curve)
    median = _numbers(middle._asdict())
    if median["value"] is None:
        median["note"] = "not reached: more than half are free of progression at the end"
    relapses = int(np.isfinite(run.relapse_day[a]).sum())
    return {
        "response": {
            "best": _responses(run.best[a]),
            "confirmed": _responses(run.confirmed_best[a]),
        },
        "progression": {
            "events": int(run.is_event[a].sum()),
            "of_which_stopped_at_size": int(run.is_stop[a].sum()),
            "censored": int((~run.is_event[a]).sum()),
            "median_days": median,
            "restricted_mean_days": _restricted_mean(follow_up, until),
            "curve": _curve(curve),
        },
        "relapse": share(relapses, run.num_subjects),
        "cure": _cure(run, a),
        "mechanisms_at_progression": _mechanisms(problem, run, a),
        "toxicity": _toxicity(run, a),
        "dose": _doses(problem, run, a),
        "burden_seen": _quantiles(scan_days(problem), run.scans[a].sum(axis=-1)),
        "neutrophils": _quantiles(
            visit_days(problem), None if run.neutrophils is None else run.neutrophils[a]
        ),
    }


def share(hits: int, num: int) -> dict[str, Any]:
    """A share with its Wilson interval."""
    found = outcomes.wilson(hits, num)
    numbers = {name: float(x) for name, x in found._asdict().items()}
    return {"count": int(hits), "of": int(num)} | _numbers(numbers)


def _responses(best: np.ndarray) -> dict[str, Any]:
    counts = np.bincount(best.ravel(), minlength=len(RESPONSES))
    found = {name: share(int(n), best.size) for name, n in zip(RESPONSES, counts, strict=True)}
    return found | {"CR+PR": share(int(counts[:2].sum()), best.size)}


def _cure(run: Followed, a: int) -> dict[str, Any]:
    if run.is_extinct is None:
        return {"value": None, "note": "expected cells do not tell who is cured; use clones"}
    return share(int(run.is_extinct[a].sum()), run.num_subjects)


def _curve(curve: Curve) -> dict[str, list]:
    return {name: x.tolist() for name, x in curve._asdict().items()}


def _restricted_mean(follow_up: FollowUp, until: float) -> dict[str, Any]:
    return _estimate(survival.restricted_mean(follow_up, until)) | {"until_day": until}


def _mechanisms(problem: Problem, run: Followed, a: int) -> dict[str, Any]:
    """Progressions by the alteration that most cells carry then, and by its origin."""
    names, is_event = problem.model.genome.names, run.is_event[a]
    total, found = int(is_event.sum()), {}
    for j, name in ((-1, "none"), *enumerate(names)):
        here = is_event & (run.dominant[a] == j)
        if not here.any():
            continue
        row = share(int(here.sum()), total)
        if j >= 0:
            row["mean_share_of_cells"] = _number(np.nanmean(run.carried[a][here][:, j]))
            if run.origin is not None:
                row |= _origins(run.origin[a][here])
        row["median_day"] = _number(np.median(run.event_day[a][here]))
        found[name] = row
    return {"progressions": total, "by_mechanism": found}


def _origins(origin: np.ndarray) -> dict[str, int]:
    counts = np.bincount(origin.ravel(), minlength=len(ORIGINS))
    return {name: int(n) for name, n in zip(ORIGINS[1:], counts[1:], strict=True)}


def _toxicity(run: Followed, a: int) -> dict[str, Any]:
    if run.grade_days is None or run.lowest is None:
        return {"note": "nobody looks at neutrophils: the study has no [host]"}
    days = run.grade_days[a]
    if np.isnan(days).any():
        return {"note": "neutrophils are not known in this arm"}
    worst = outcomes.worst_grade(days)
    return {
        "mean_days_by_grade": days.mean(axis=(0, 1)).tolist(),
        "worst_grade_3_or_4": share(int((worst >= 3).sum()), worst.size),
        "worst_grade_4": share(int((worst == 4).sum()), worst.size),
        "lowest_neutrophils": {
            name: _number(np.quantile(run.lowest[a], q)) for name, q in QUANTILES.items()
        },
    }


def _doses(problem: Problem, run: Followed, a: int) -> dict[str, Any]:
    """Mean mg of every drug, and as a share of what the arm gives at full doses."""
    if run.given_mg is None:
        return {"note": "the engine does not write down what was given"}
    found = {}
    for d, drug in enumerate(problem.model.names.drugs):
        given, planned = run.given_mg[a, ..., d].mean(), run.planned_mg[a, ..., d].mean()
        row: dict[str, Any] = {"mean_mg": float(given), "planned_mg": _number(planned)}
        row["share_of_planned"] = _number(given / planned) if planned > 0 else None
        if np.isnan(planned):
            row["note"] = "a rule chooses among several lines, so that no dose is planned"
        found[drug] = row
    return found


def _quantiles(day: np.ndarray, values: np.ndarray | None) -> dict[str, Any]:
    """Quantiles over patients and replicates, of those that are known on a day."""
    if values is None:
        return {"note": "not observed"}
    flat = values.reshape(-1, values.shape[-1])
    known = ~np.isnan(flat).all(axis=0)
    found: dict[str, Any] = {"day": day[known].tolist()}
    found["known"] = (~np.isnan(flat[:, known])).sum(axis=0).tolist()
    for name, q in QUANTILES.items():
        found[name] = np.nanquantile(flat[:, known], q, axis=0).tolist() if known.any() else []
    return found


# --- against the control arm -----------------------------------------------------------------------


def _versus(
    run: Followed, name: str, plan: TrialPlan, a: int, follow_ups: list[FollowUp], until: float
) -> dict[str, Any]:
    treated, control = follow_ups[a], follow_ups[plan.control]
    if name == "paired":
        return {"paired_difference_days": _paired(run, a, plan.control, until)}
    test, ratio = survival.log_rank(treated, control), survival.hazard_ratio(treated, control)
    gap = survival.difference(
        survival.restricted_mean(treated, until), survival.restricted_mean(control, until)
    )
    needed = survival.number_needed_to_treat(treated, control, until)
    nnt = _numbers({name: getattr(needed, name) for name in ("value", "low", "high")})
    nnt |= {"day": until, "gain": _estimate(needed.gain), "text": str(needed)}
    if needed.gain.value == needed.gain.standard_error == 0:
        nnt["note"] = "both arms have the same share of patients free of progression on that day"
    elif needed.is_through_infinity:
        nnt["note"] = "the interval runs through infinity: the gain may be of either sign"
    return {
        "log_rank": _numbers(test._asdict()),
        "hazard_ratio": _numbers(ratio._asdict()),
        "restricted_mean_difference_days": _estimate(gap) | {"until_day": until},
        "number_needed_to_treat": nnt,
    }


def _paired(run: Followed, a: int, control: int, until: float) -> dict[str, Any]:
    """Difference of the days without progression until a day, within patients.

    A patient's replicates are averaged first; of a single patient, replicates are the pairs. The day
    is early enough for every tumor to be known until then.
    """
    both = [a, control]
    censored = run.event_day[both][~run.is_event[both]]
    day = min([until, *censored.tolist()])
    days = np.minimum(run.event_day[both], day)
    one = days.shape[1] == 1
    pairs = days[:, 0] if one else days.mean(axis=2)
    gap = survival.paired_difference(pairs[0], pairs[1])
    found = _estimate(gap) | {"until_day": day, "pairs": pairs.shape[1]}
    found["unit"] = "replicates of the one patient" if one else "patients, mean of their replicates"
    if pairs.shape[1] == 1:
        found["note"] = "one pair says nothing about its error"
    return found


# --- numbers ---------------------------------------------------------------------------------------


def _estimate(found: Estimate) -> dict[str, Any]:
    return _numbers(found._asdict())


def _numbers(table: dict[str, Any]) -> dict[str, Any]:
    """Numbers that are not finite as None; an empty note is left out."""
    plain = {k: x if isinstance(x, str) else _number(x) for k, x in table.items()}
    return {k: x for k, x in plain.items() if not (k == "note" and x == "")}


def _number(x: Any) -> float | None:
    return float(x) if math.isfinite(x) else None
