"""Report: what a search found and what came of it, as a table of plain numbers and text for JSON."""

import math
from typing import Any

import numpy as np

from jaxevo import trial
from jaxevo.config import Study
from jaxevo.config.decisions import variables
from jaxevo.engines.base import Problem
from jaxevo.improve.schedules import beyond, forms
from jaxevo.improve.verdict import Verdict
from jaxevo.optimize import Found

OF_OBJECTIVE = {
    "relapse": "ln of the odds of relapse",
    "relapse_free_days": "minus the mean days without relapse",
    "burden": "ln of the expected cells at the horizon",
}
OF_OVER = {
    "patient": "of the study's own patient",
    "mean": "mean of the patients",
    "worst": "mean of the worst patients",
}
OF_RELAPSE = (
    "predicted_relapse_probability",
    "observed_relapse_probability",
    "observed_low",
    "observed_high",
)
AS_GOOD = 1e-6  # relative: two integrations of one law differ by less
OF_ARM = ("response", "progression", "relapse", "cure", "toxicity", "dose")


def of_search(study: Study, found: Found) -> dict[str, Any]:
    """What the search says of itself."""
    table = study.optimize
    if table is None or table.over is None:
        raise TypeError("a study must be resolved before it is told of")
    limits = {
        name: {
            "is_kept": bool((slack >= 0).all()),
            "least_slack": _number(slack.min(initial=math.inf)),
            "slack": [_number(x) for x in slack],
            "multiplier": [_number(x) for x in found.multiplier[name]],
        }
        for name, slack in found.slack.items()
    }
    starts = found.starts
    told = {
        "objective": f"{OF_OBJECTIVE[table.objective]}, {OF_OVER[table.over]}",
        "value": _number(found.value),
        "is_feasible": found.is_feasible,
        "is_converged": found.is_converged,
        "gradient_norm": _number(found.gradient_norm),
        "limits": limits,
        "starts": {
            "value": [_number(x) for x in starts["value"]],
            "is_converged": [bool(x) for x in starts["is_converged"]],
        },
    }
    history = {k: [_number(x) for x in np.asarray(column)] for k, column in found.history.items()}
    return told | {"history": history}


def of_schedule(study: Study, amounts: np.ndarray) -> list[dict[str, Any]]:
    """Every decision with its amount."""
    choices = {} if study.optimize is None else study.optimize.drugs
    return [
        {
            "drug": v.drug,
            "cycle": v.cycle,
            "from_day": v.first,
            "until_day": min(v.last, v.first + choices[v.drug].cycle_days),
            "most": choices[v.drug].most,
            "level_um" if choices[v.drug].max_um is not None else "amount_mg": float(x),
        }
        for v, x in zip(variables(study), amounts, strict=False)
    ]


def of_trial(judged: Verdict) -> dict[str, Any]:
    """The only run of the trial that the arms were in."""
    problem, plan = judged.problem, judged.plan
    return trial.report(problem, plan, {plan.pairing: judged.run})["runs"][plan.pairing]


def of_arms(judged: Verdict, whole: dict[str, Any]) -> dict[str, Any]:
    """Predicted and observed relapse of every arm, with what a trial tells of it."""
    found = {}
    for a, arm in enumerate(judged.problem.arms):
        own = whole["arms"][arm.name]
        row = of_relapse(judged, a) | {key: own[key] for key in OF_ARM}
        row["progression"] = {k: x for k, x in own["progression"].items() if k != "curve"}
        found[arm.name] = row | {"against_control": whole["against_control"].get(arm.name)}
    return found


def of_relapse(judged: Verdict, a: int) -> dict[str, Any]:
    """Predicted and observed relapse of one arm."""
    share = trial.observed(judged.chance[a])
    predicted = judged.predicted[a].mean()
    numbers = map(_number, (predicted, share.value, share.low, share.high))
    row: dict[str, Any] = dict(zip(OF_RELAPSE, numbers, strict=True))
    row["tumors"] = int((~np.isnan(judged.chance[a])).sum())
    if math.isfinite(predicted):
        row["is_predicted_inside"] = bool(share.low <= predicted <= share.high)
    note = judged.notes.get(judged.problem.arms[a].name)
    return row if note is None else row | {"note": note}


def limits_of(study: Study, problem: Problem, low: dict[str, bool]) -> dict[str, dict[str, Any]]:
    """Which limits of the search the arms of a problem keep.

    Args:
        study: with [optimize].
        problem: whose arms are asked about; of one that decides, every line and its whole plan.
        low: whether neutrophils fall below their limit, by arm.
    """
    found = {}
    for arm in problem.arms:
        broken = [limit for form in forms(arm) for limit in beyond(study, form)]
        if low.get(arm.name):
            broken.append("neutrophils")
        broken = list(dict.fromkeys(broken))
        found[arm.name] = {"is_within_limits": not broken, "beyond": broken}
    return found


def against_best(
    arms: dict[str, Any], chosen: str, others: list[str], chance: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The schedule against the best arm within the same limits, by prediction where there is one.

    Without a prediction, such as of an arm that decides, it is worse if the interval of what was seen
    says so.

    Args:
        arms: rows of all of them.
        chosen: what was found.
        others: what it is compared with.
        chance: of the tumors of every arm to count as a relapse.
    """
    inside = [name for name in others if arms[name]["is_within_limits"]]
    if not inside:
        return {"arm": None, "note": "no arm keeps the limits"}

    def rank(name: str) -> float:
        told = arms[name]["predicted_relapse_probability"]
        return arms[name]["observed_relapse_probability"] if told is None else told

    best = min(inside, key=rank)
    one, two = (trial.observed(chance[name]) for name in (best, chosen))
    gain = trial.gap(one, two)
    row: dict[str, Any] = {"arm": best, "observed_gain": gain, "is_no_worse": gain["high"] >= 0}
    told = [arms[name]["predicted_relapse_probability"] for name in (best, chosen)]
    if None not in told:
        row["predicted_gain"] = told[0] - told[1]
        row["is_no_worse"] = told[1] <= told[0] * (1 + AS_GOOD)
    row["is_better"] = row["is_no_worse"] and gain["low"] > 0
    return row


def _number(x: Any) -> float | None:
    return float(x) if math.isfinite(x) else None
