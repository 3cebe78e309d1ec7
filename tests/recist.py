"""RECIST 1.1 for one tumor in plain Python, scan by scan: a slow twin of `jaxevo.outcomes.assess`.

It works on diameters, keeps a state as a radiologist would, and looks its best response up in table 3
of Eisenhauer et al. 2009 (doi:10.1016/j.ejca.2008.10.026) where a response waits to be confirmed.
"""

import math
from dataclasses import dataclass, field

ORDER = ("CR", "PR", "SD", "PD", "NE")


@dataclass
class Reading:
    """What is reported of one tumor."""

    responses: list[str] = field(default_factory=list)
    best: str = "NE"
    confirmed_best: str = "NE"
    progression_day: float = math.nan
    is_progression: bool = False
    relapse_day: float = math.nan


def read(scans: list[list[float]], days: list[float]) -> Reading:
    """Report a tumor from the diameters (mm) of its lesions at every scan; NaN is unknown."""
    report = Reading(responses=["NE"], progression_day=days[0])
    baseline = scans[0]
    if any(math.isnan(x) for x in baseline):
        report.responses = ["NE"] * len(days)
        return report
    measurable = sorted(
        (site for site, x in enumerate(baseline) if x >= 10 - 1e-7),
        key=lambda site: (-baseline[site], site),
    )
    targets, lesions = measurable[:5], [site for site, x in enumerate(baseline) if x > 0]
    smallest = {"targets": total(baseline, targets), "all": total(baseline, lesions)}
    had_cr, was_gone = False, not lesions
    for day, scan in zip(days[1:], scans[1:], strict=True):
        if any(math.isnan(x) for x in scan):
            report.responses.append("NE")
            continue
        sums = {"targets": total(scan, targets), "all": total(scan, lesions)}
        response = judge(scan, baseline, sums, smallest, bool(targets), had_cr)
        report.responses.append(response)
        smallest = {name: min(sums[name], smallest[name]) for name in sums}
        had_cr |= response == "CR"
        if any(scan) and was_gone and math.isnan(report.relapse_day):
            report.relapse_day = day
        was_gone |= not any(scan)
        if not report.is_progression:
            report.progression_day = day
            report.is_progression = response == "PD"
    known = report.responses
    last = known.index("PD") + 1 if "PD" in known else len(known)
    course = list(zip(days[1:last], known[1:last], strict=True))
    report.best = best(course, days[0])
    report.confirmed_best = best([(d, confirmed(d, r, course)) for d, r in course], days[0])
    return report


def total(scan, sites) -> float:
    return sum(scan[site] for site in sites)


def judge(scan, baseline, sums, smallest, has_targets, had_cr) -> str:
    """One scan against baseline and nadir."""
    if any(now > 0 and before == 0 for now, before in zip(scan, baseline, strict=True)):
        return "PD"
    if had_cr and any(scan):
        return "PD"
    for name, now in sums.items():
        rise = now - smallest[name]
        if rise >= 5 - 1e-7 and rise >= 0.2 * smallest[name] - 1e-7:
            return "PD"
    if not any(scan) and any(baseline):
        return "CR"
    if not has_targets:
        return "NE"
    return "PR" if sums["targets"] <= 0.7 * total_targets(baseline) + 1e-7 else "SD"


def total_targets(baseline) -> float:
    return sum(sorted((x for x in baseline if x >= 10 - 1e-7), reverse=True)[:5])


def confirmed(day, response, course) -> str:
    """The response, or SD where nothing at least four weeks later is as good."""
    if response not in ("CR", "PR"):
        return response
    later = [r for d, r in course if d >= day + 28]
    as_good = {"CR": ("CR",), "PR": ("CR", "PR")}[response]
    return response if any(r in as_good for r in later) else "SD"


def best(course, start) -> str:
    counted = [r for d, r in course if r != "SD" or d >= start + 42]
    return min(counted, key=ORDER.index, default="NE")
