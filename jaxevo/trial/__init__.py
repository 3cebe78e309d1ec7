"""Trial: arms x patients x replicates, and what a clinical trial would report of them.

follow    scans and outcomes of every tumor, patients block by block
report    response, survival, toxicity, doses; every arm against the control arm
text      the same in words, for a terminal
"""

from jaxevo.trial.follow import Followed, Size, TrialPlan, follow, scan_days, size
from jaxevo.trial.report import TrialReport, report
from jaxevo.trial.text import tell

__all__ = [
    "Followed",
    "Size",
    "TrialPlan",
    "TrialReport",
    "follow",
    "report",
    "scan_days",
    "size",
    "tell",
]
