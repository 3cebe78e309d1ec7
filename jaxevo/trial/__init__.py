"""Trial: arms x patients x replicates, and what a clinical trial would report of them.

follow    scans and outcomes of every tumor, patients block by block
relapses  the chance that a tumor counts as a relapse, as `extinction` has it
report    response, survival, toxicity, doses; every arm against the control arm
text      the same in words, for a terminal
"""

from jaxevo.trial.follow import (
    Followed,
    Size,
    TrialPlan,
    came_to,
    follow,
    num_types,
    scan_days,
    size,
    visit_days,
)
from jaxevo.trial.relapses import chances, gap, observed
from jaxevo.trial.report import TrialReport, report
from jaxevo.trial.text import tell

__all__ = [
    "Followed",
    "Size",
    "TrialPlan",
    "TrialReport",
    "came_to",
    "chances",
    "follow",
    "gap",
    "num_types",
    "observed",
    "report",
    "scan_days",
    "size",
    "tell",
    "visit_days",
]
