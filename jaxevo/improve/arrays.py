"""Arrays: decisions, search and verdict as arrays with names and units, for one file."""

from typing import Any

import numpy as np

from jaxevo import compare
from jaxevo.config.decisions import variables
from jaxevo.engines.base import Trajectory, Variable
from jaxevo.improve.searching import Task
from jaxevo.improve.verdict import Verdict
from jaxevo.optimize import Found

TUMOR = ("arm", "patient", "replicate")


def of(own: Task, found: Found, rounded: Found | None, judged: dict[str, Any]) -> Trajectory:
    """All of it: the verdict on `clones` in the root, the rest in groups of their own."""
    whole = _of_verdict(judged["clones"])
    for name in ("cells", "robust"):
        if name in judged:
            whole[name] = {
                key: x
                for key, x in _of_verdict(judged[name])[""].items()
                if key in ("relapse_score", "predicted_relapse", "patient_index")
            }
            renamed = {"patient": f"{name}_patient", "replicate": f"{name}_replicate"}
            whole[name] = {
                key: x._replace(dims=tuple(renamed.get(d, d) for d in x.dims))
                for key, x in whole[name].items()
            }
    whole["search"] = _of_search(own, found, rounded)
    return whole


def _of_verdict(judged: Verdict) -> Trajectory:
    found = compare.trajectory(judged.problem, {judged.plan.pairing: judged.run})
    root = found[""]
    root["relapse_score"] = Variable(
        TUMOR, judged.chance, "1", "chance that the tumor counts as a relapse; NaN unknown"
    )
    root["predicted_relapse"] = Variable(
        TUMOR[:2], judged.predicted, "1", "probability of relapse by the extinction engine"
    )
    return found


def _of_search(own: Task, found: Found, rounded: Found | None) -> dict[str, Variable]:
    """Decisions and history."""
    free, pattern = own.decided.num_free, own.decided.pattern
    decided = variables(own.study)
    names = np.array([v.drug for v in decided], np.str_)
    unit = "mg or uM"
    rows = {
        "decision_drug": Variable(("decision",), names, "", "drug that is decided on"),
        "decision_cycle": Variable(
            ("decision",), np.array([v.cycle for v in decided]), "1", "cycle that is decided on"
        ),
        "decision_day": Variable(
            ("decision",), np.array([v.first for v in decided], float), "d", "first day of the cycle"
        ),
        "largest_amount": Variable(
            ("decision",), pattern.high[:free], unit, "largest that may be given"
        ),
        "amount": Variable(
            ("decision",), found.variables[:free], unit, "amount of each dose, or level, as found"
        ),
        "start_value": Variable(
            ("start",), np.asarray(found.starts["value"]), "1", "goal where each start ended"
        ),
        "start_amount": Variable(
            ("start", "decision"), np.asarray(found.starts["variables"])[:, :free], unit,
            "amounts where each start ended",
        ),
    }  # fmt: skip
    if rounded is not None:
        rows["rounded_amount"] = Variable(
            ("decision",), rounded.variables[:free], unit, "the same in amounts that exist"
        )
    for name, column in found.history.items():
        rows[f"history_{name}"] = Variable(("look",), np.asarray(column), "1", f"{name} at a look")
    return rows
