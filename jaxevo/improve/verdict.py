"""Verdict: what a found schedule and the arms beside it come to, by engines that relax nothing.

Tumors are drawn by a seed of their own. Each is scored by the chance that it counts as a relapse
(`trial.chances`), and beside the share that was observed stands the one that `extinction` predicts for
the same patients.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxevo import trial
from jaxevo.config import Study
from jaxevo.config.sentences import dotted
from jaxevo.engines import extinction
from jaxevo.engines.base import Problem, Refused, Trajectory, Visits
from jaxevo.outcomes import Recist
from jaxevo.run import simulate_as
from jaxevo.trial import Followed, TrialPlan

UNSEEN = 0x5EED_0F_7E57  # the seed of a verdict is that of the study plus this
LARGEST_SEED = 2**63
BETWEEN_SCANS = 28.0  # days, where the study has no visits
HOPELESS = 10**14  # cells; a tumor of this size is a relapse, and not followed further
FINE = 1.0  # days between records of a burden that is integrated
SPARED = 1.02  # births of a patient stay above this times deaths

Shown = Callable[[str, float], None]


class Verdict(NamedTuple):
    """What was seen of every arm, and what was predicted."""

    problem: Problem
    plan: TrialPlan
    engine: str
    chance: Float[np.ndarray, "arm patient replicate"]
    predicted: Float[np.ndarray, "arm patient"]  # NaN where `extinction` refuses
    notes: dict[str, str]  # by arm, why there is no prediction
    run: Followed


def unseen_seed(study: Study) -> int:
    """A seed that the search does not use."""
    return (study.study.seed + UNSEEN) % LARGEST_SEED


def verdict(
    study: Study,
    tumors: int,
    *,
    engine: str = "clones",
    pairing: str = "independent",
    options: dict[str, Any],
    show: Shown,
) -> Verdict:
    """Follow so many tumors of every arm of a study, and predict their relapse.

    Args:
        study: with the arms that are judged.
        tumors: of an arm, at least; patients times replicates.
        engine: "clones" or "cells".
        pairing: "independent" arms have patients of their own, "paired" ones the same.
        options: of the engine, with `should_stop`.
        show: called with what is at work and the share that is done.
    """
    num = study.patients.count
    pairing = "paired" if study.patients.values or engine == "cells" else pairing
    whole = study.resolved()
    whole["study"] |= {
        "seed": unseen_seed(study), "replicates": math.ceil(tumors / num), "engine": engine,
    }  # fmt: skip
    if pairing == "independent" and num > 1:
        whole["patients"]["count"] = num * len(study.arms)
    most = whole["study"]["max_cells"] if engine == "cells" else HOPELESS
    whole["tumor"]["stop_at_cells"] = min(HOPELESS, most)
    problem = seen(type(study).model_validate(whole).problem())
    plan = _plan(study, num, pairing)
    found: list[np.ndarray] = []
    parts = len(problem.arms) if pairing == "independent" else 1

    def simulate(part: Problem) -> Trajectory:
        done = len(found)
        own = options | {"progress": lambda now: _tell(show, engine, (done + now.fraction) / parts)}
        trajectory = simulate_as(_finer(part), engine, study.study.grow_with, own)
        found.append(trial.chances(part, trajectory))
        return trajectory

    run = trial.follow(problem, plan, pairing, simulate, patients_per_block=num)
    predicted, notes = _predicted(
        problem._replace(stop_at_cells=None), num, pairing, show, options["should_stop"]
    )
    chance = np.concatenate(found, axis=0)
    return Verdict(problem, plan, engine, chance, predicted, notes, run)


def _tell(show: Shown, engine: str, share: float) -> None:
    show(engine, min(1.0, share))


def seen(problem: Problem) -> Problem:
    """The problem with scans, every four weeks or so where the study has no visits."""
    if problem.visits is not None:
        return problem
    most = max(1, int(min(BETWEEN_SCANS, problem.horizon) / problem.sync * (1 + 1e-9)))
    return problem._replace(visits=Visits(every=problem.sync * most))


def _finer(problem: Problem) -> Problem:
    """The same with records that are close enough to integrate a burden."""
    every = problem.record.every
    if problem.relapse.kind != "first_passage" or every <= FINE:
        return problem
    record = problem.record._replace(every=every / math.ceil(every / FINE))
    return problem._replace(record=record)


def _plan(study: Study, num: int, pairing: str) -> TrialPlan:
    """As the study's own trial, or by the size of the burden."""
    table, names = study.trial, [arm.name for arm in study.arms]
    plan = TrialPlan(num_patients=num, pairing=pairing, control=len(names) - 1)
    first = next((i for i, arm in enumerate(study.arms) if not arm.doses and not arm.lines), None)
    if table is None:
        control = plan.control if first is None else first
        return plan._replace(progression="ratio", control=control)
    plan = plan._replace(
        control=names.index(table.control or names[0]),
        progression=table.progression,
        recist=Recist(confirm_days=table.confirm_days),
        horizon_day=table.horizon_day,
    )
    ratio = table.progression_ratio
    return plan if ratio is None else plan._replace(progression_ratio=ratio)


def _predicted(
    problem: Problem, num: int, pairing: str, show: Shown, should_stop: Callable[[], bool]
) -> tuple[np.ndarray, dict[str, str]]:
    """Probability of relapse by the horizon of every arm and patient."""
    found, notes = np.full((len(problem.arms), num), np.nan), {}
    bare = problem._replace(record=problem.record._replace(every=problem.horizon, snapshot_days=()))
    each = list(range(len(problem.arms)))
    groups = [[a] for a in each]
    if num == 1 or pairing == "paired":  # arms of the same patients in one batch
        decides = [a for a in each if problem.arms[a].decides]
        groups = [[a] for a in decides] + [[a for a in each if a not in decides]]
    for done, group in enumerate(groups):
        show("extinction", done / len(groups))
        own = bare._replace(arms=tuple(problem.arms[a] for a in group))
        if num > 1 and pairing == "independent":
            own = own.of_patients(slice(group[0] * num, (group[0] + 1) * num))
        if not group or should_stop():
            continue
        try:
            root = extinction.simulate(own, should_stop=should_stop)[""]
        except Refused as refusal:
            notes |= dict.fromkeys((arm.name for arm in own.arms), str(refusal))
            continue
        found[group] = root["relapse_probability"].data[:, :, -1]
    return found, notes


# --- patients whose numbers are off ----------------------------------------------------------------


def off_by(study: Study, cv: float, count: int) -> Study:
    """The same for patients whose births, deaths by drugs, affinities and clearances are off.

    Each is multiplied by a log-normal factor with median 1; what varies in the study already stays.
    """
    whole = study.resolved()
    own = whole["patients"].get("vary", {})
    birth, death = whole["tumor"]["birth_rate_per_day"], whole["tumor"]["death_rate_per_day"]
    vary: dict[str, dict[str, float]] = {}
    if birth > death * SPARED:
        vary["tumor.birth_rate_per_day"] = {"cv": cv, "above": death * SPARED}
    for name, drug in whole["drugs"].items():
        if any(0 < kd < math.inf for kd in drug["kd_um"].values()):
            vary[dotted(("drugs", name, "kd_um"))] = {"cv": cv}
        if drug.get("plasma", {}).get("clearance_l_per_h", 0.0) > 0:
            vary[dotted(("drugs", name, "plasma", "clearance_l_per_h"))] = {"cv": cv}
    for name, target in whole["targets"].items():
        if target["max_death_per_day"] > 0:
            vary[dotted(("targets", name, "max_death_per_day"))] = {"cv": cv}
    if whole["patients"].get("values"):
        vary = {key: x for key, x in vary.items() if key not in whole["patients"]["values"]}
    else:
        whole["patients"]["count"] = count
    whole["patients"]["vary"] = vary | own
    return type(study).model_validate(whole)
