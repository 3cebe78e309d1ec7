"""V15: neutrophils after docetaxel, from the dose through plasma to the marrow."""

from collections.abc import Iterator

import numpy as np

from jaxevo.selftest.case import COMPUTED, Finding, close, near
from tests.models.docetaxel import counts, syncs
from tests.validation.registry import declare

FRIBERG = "Friberg et al. 2002, doi:10.1200/JCO.2002.02.140"
HOUR = 1 / 24  # of a day
ROWS = (("180 mg bolus", 180.0, 0.0, 0.89623, 7.554),
        ("180 mg in 1 h", 180.0, HOUR, 0.89625, 7.571),
        ("135 mg in 1 h", 135.0, HOUR, 1.35374, 7.267))  # fmt: skip
ON_DAYS = {6: 1.1142, 9: 1.0617, 13: 3.1816, 16: 5.2939, 20: 6.2780}  # after the bolus


def crossing(day: np.ndarray, count: np.ndarray, level: float) -> float:
    """Last day on which the count rises through a level, between the days linearly."""
    i = int(np.flatnonzero((count[:-1] < level) & (count[1:] >= level))[-1])
    share = (level - count[i]) / (count[i + 1] - count[i])
    return float(day[i] + share * (day[i + 1] - day[i]))


def turning(day: np.ndarray, count: np.ndarray) -> float:
    """Day of the smallest count: the lowest point of the parabola through three even days."""
    i = int(np.argmin(count))
    before, at, after = count[i - 1 : i + 2]
    shift = (before - after) / (2 * (before - 2 * at + after))
    return float(day[i] + shift * (day[i + 1] - day[i]))


@declare("V15", "neutrophils after docetaxel", FRIBERG, COMPUTED, "host")
def _docetaxel(_engine: str) -> Iterator[Finding]:
    """Counts with syncs of a day, but shorter ones after the dose; days of events by the hour."""
    days = syncs(21, 0.0)
    hours = np.union1d(days, HOUR * np.arange(12 * 24 + 1))
    for name, amount, infusion, nadir, nadir_day in ROWS:
        doses = [(0.0, amount, infusion)]
        day, daily = counts(doses, days, longest=1.0)
        hour, hourly = counts(doses, hours, longest=1.0)
        yield close(f"nadir, {name} (1e9/L)", nadir, daily.lowest[-1], 2e-3)
        yield near(f"day of the nadir, {name}", nadir_day, turning(hour, hourly.circulating), 0.02)
        if infusion == 0:
            for when, expected in ON_DAYS.items():
                found = daily.circulating[day == when].item()
                yield close(f"day {when}, {name} (1e9/L)", expected, found, 2e-3)
            up = crossing(hour, hourly.circulating, 1.5)
            yield near(f"below 1.5 until day, {name}", 10.317, up, 0.02)
