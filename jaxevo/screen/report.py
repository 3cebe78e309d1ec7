"""Report: what a screen found, as arrays with names, and as a table of plain numbers that JSON can hold.

Of each line: half-inhibitory levels of single agents, and over the grid of levels of each combination the
mean and the largest excess over Bliss and Loewe. Nothing is rounded; what is not finite or not known is
None.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxevo.engines.base import Problem, Trajectory, Variable
from jaxevo.screen import curves, scale
from jaxevo.screen.curves import Curve, Interval
from jaxevo.screen.design import ScreenPlan
from jaxevo.screen.effects import Effects, Estimate, effects
from jaxevo.screen.follow import Screened

ScreenReport = dict[str, Any]

EXCESSES = {
    "bliss_hazard": "hazard above the sum of the hazards of its agents alone, 1/day",
    "bliss_viability": "product of the viabilities of its agents alone, less its own",
    "loewe_hazard": "hazard above that of dose additivity of the fitted curves, 1/day",
}
INTERVALS = (
    "errors are standard errors over replicates, intervals of IC50 are 95 %, by the delta method on the log "
    "scale; IC50 and Loewe excess have what the fitted curves miss beyond noise as an error besides"
)


class Analysis(NamedTuple):
    """What the counts of a screen say."""

    found: Screened
    effects: Effects
    curve: list[list[Curve | None]]  # [agent][line]
    ic50: list[list[Interval | None]]  # [agent][line] uM
    loewe: Estimate  # excess hazard, [combination, line], 1/day; NaN where it is not known

    def excess(self, name: str) -> Estimate:
        """One of `EXCESSES`, [combination, line]."""
        return self.loewe if name == "loewe_hazard" else getattr(self.effects, name)

    def misfit(self, name: str) -> Float[np.ndarray, "combination line"]:
        """What the curves of the agents miss, which the reference of dose additivity misses as well."""
        missed = np.array([[0.0 if c is None else c.misfit for c in row] for row in self.curve])
        given = self.found.level[:, :, None] > 0
        together = np.sqrt((given * missed**2).sum(axis=1))
        return together if name == "loewe_hazard" else np.zeros_like(together)


def singles(found: Screened, agent: int) -> np.ndarray:
    """Rows of the combinations of one agent alone, its levels rising."""
    return np.flatnonzero((found.level[:, agent] > 0) & ((found.level > 0).sum(axis=1) == 1))


def analyze(found: Screened, plan: ScreenPlan) -> Analysis:
    """Effects, curves and excesses of a screen."""
    told = effects(found, plan)
    num_lines, num_replicates = found.cells.shape[1:]
    curve: list[list[Curve | None]] = []
    is_told = np.ones((len(plan.agents), num_lines), bool)
    for a in range(len(plan.agents)):
        rows = singles(found, a)
        own = [told.hazard[rows, line] for line in range(num_lines)]
        level = found.level[rows, a]
        curve.append([curves.fit(level, hazard) for hazard in own])
        is_told[a] = [
            fitted is not None or curves.is_idle(hazard)
            for fitted, hazard in zip(curve[a], own, strict=True)
        ]
    several = (found.level > 0).sum(axis=1) > 1
    value = np.full(found.cells.shape[:2], np.nan)
    influence = np.full(found.cells.shape, np.nan)
    for line in range(num_lines):
        is_known = several & np.isfinite(told.hazard.value[:, line])
        is_known &= ~((found.level > 0) & ~is_told[:, line]).any(axis=1)
        expected = curves.additive(found.level[is_known], [x[line] for x in curve], num_replicates)
        value[is_known, line] = told.hazard.value[is_known, line] - expected.value
        influence[is_known, line] = told.hazard.influence[is_known, line] - expected.influence
    half = [[None if c is None else curves.ic50(c, plan.days) for c in row] for row in curve]
    return Analysis(found, told, curve, half, Estimate(value, influence))


def line_names(plan: ScreenPlan) -> list[str]:
    """What the lines are called."""
    if plan.lines is None:
        return ["tumor"]
    return [f"line {i}" for i in range(plan.num_lines)]


# --- plain numbers ---------------------------------------------------------------------------------


def report(problem: Problem, plan: ScreenPlan, told: Analysis) -> ScreenReport:
    """All figures of a screen but the surfaces, which are in the file."""
    names = line_names(plan)
    by_line = lambda of: {name: of(i) for i, name in enumerate(names)}  # noqa: E731
    combined = {}
    for size in range(2, plan.order + 1):
        for group in plan.groups(size):
            title = " + ".join(plan.agents[a].name for a in group)
            rows = _rows(told.found, group)
            combined[title] = by_line(lambda i, rows=rows: _combined(plan, told, rows, i))
    return {
        "exposure_days": plan.days,
        "replicates": plan.replicates,
        "lines": names,
        "agents": {agent.name: list(agent.levels) for agent in plan.agents},
        "combinations": len(told.found.level),
        "start_cells": by_line(lambda i: float(told.found.start[i].mean())),
        "untreated_cells": by_line(lambda i: float(told.found.cells[0, i].mean())),
        "scale": {"model": scale.scales(problem.model, plan), "cells": scale.CELLS},
        "excess": EXCESSES,
        "intervals": INTERVALS,
        "single": {
            agent.name: by_line(lambda i, a=a: _single(plan, told, a, i))
            for a, agent in enumerate(plan.agents)
        },
        "combined": combined,
    }


def _rows(found: Screened, group: tuple[int, ...]) -> np.ndarray:
    """The combinations of exactly these agents."""
    given = np.zeros(found.level.shape[1], bool)
    given[list(group)] = True
    return np.flatnonzero(((found.level > 0) == given).all(axis=1))


def _single(plan: ScreenPlan, told: Analysis, a: int, line: int) -> dict[str, Any]:
    curve, half, agent = told.curve[a][line], told.ic50[a][line], plan.agents[a]
    least = float(told.effects.viability.value[singles(told.found, a), line].min())
    table: dict[str, Any] = {"least_viability": finite(least), "ic50_um": None, "curve": None}
    if curve is None:
        return table
    top, ec50, hill = np.exp(curve.log.value).tolist()
    table["curve"] = {
        "max_hazard_per_day": finite(top),
        "ec50_um": finite(ec50),
        "hill": finite(hill),
        "misfit_per_day": finite(curve.misfit),
    }
    if half is not None:
        table["ic50_um"] = {name: finite(x) for name, x in half._asdict().items()}
        table["ic50_um"]["is_within_levels"] = agent.levels[0] <= half.value <= agent.levels[-1]
    return table


def _combined(plan: ScreenPlan, told: Analysis, rows: np.ndarray, line: int) -> dict[str, Any]:
    table = {}
    for name in EXCESSES:
        excess = told.excess(name)[rows, line]
        known = np.flatnonzero(np.isfinite(excess.value))
        if not len(known):
            table[name] = None
            continue
        missed = told.misfit(name)[rows, line]
        mean = excess.mean()
        most = known[np.argmax(np.abs(excess.value[known]))]
        at = zip(plan.agents, told.found.level[rows[most]], strict=True)
        table[name] = {
            "mean": finite(mean.value),
            "error": finite(np.hypot(mean.error, missed[0])),
            "largest": {
                "value": finite(excess.value[most]),
                "error": finite(np.hypot(excess.error[most], missed[most])),
                "level_um": {agent.name: float(x) for agent, x in at if x > 0},
            },
        }
    return table


def finite(value: Any) -> float | None:
    """A number as JSON has it."""
    return float(value) if math.isfinite(value) else None


# --- arrays with names -----------------------------------------------------------------------------

PAIR = ("combination", "line")
CURVE = ("agent", "line")
DESCRIBED = {  # name: axes, unit, text
    "agent": (("agent",), "", "name of the agent"),
    "line": (("line",), "", "name of the line"),
    "level": (("combination", "agent"), "uM", "level of each agent; 0 is none"),
    "cells": ((*PAIR, "replicate"), "cells", "living cells at the end"),
    "start_cells": (("line", "replicate"), "cells", "living cells on day 0"),
    "viability": (PAIR, "1", "mean cells over those without agents"),
    "viability_error": (PAIR, "1", "standard error of it"),
    "hazard": (PAIR, "1/d", "by how much net growth is slower; inf where no cell was left"),
    "hazard_error": (PAIR, "1/d", "standard error of it"),
    "bliss_viability": (
        PAIR,
        "1",
        "product of viabilities alone, less viability; NaN of one agent",
    ),
    "bliss_viability_error": (PAIR, "1", "standard error of it"),
    "bliss_hazard": (PAIR, "1/d", "hazard above the sum of hazards alone; NaN of one agent"),
    "bliss_hazard_error": (PAIR, "1/d", "standard error of it"),
    "loewe_hazard": (PAIR, "1/d", "hazard above dose additivity; NaN where that is not known"),
    "loewe_hazard_error": (PAIR, "1/d", "standard error of it"),
    "ic50": (CURVE, "uM", "level that leaves half of the cells; NaN where none does"),
    "ic50_low": (CURVE, "uM", "lower end of its 95 % interval"),
    "ic50_high": (CURVE, "uM", "upper end of its 95 % interval"),
    "max_hazard": (CURVE, "1/d", "of the fitted curve; NaN where there is none"),
    "ec50": (CURVE, "uM", "level of half of it"),
    "hill": (CURVE, "1", "Hill coefficient of the curve"),
}


def arrays(plan: ScreenPlan, told: Analysis) -> Trajectory:
    """Everything that a screen found, with axes and units."""
    found = told.found
    data: dict[str, Any] = {
        "agent": np.array([agent.name for agent in plan.agents], np.str_),
        "line": np.array(line_names(plan), np.str_),
        "level": found.level,
        "cells": found.cells,
        "start_cells": found.start,
    }
    for name in ("viability", "hazard", *EXCESSES):
        of = told.excess(name) if name in EXCESSES else getattr(told.effects, name)
        missed = told.misfit(name) if name in EXCESSES else 0.0
        data |= {name: of.value, f"{name}_error": np.hypot(of.error, missed)}
    missing = Interval(math.nan, math.nan, math.nan)
    half = np.array([[x or missing for x in row] for row in told.ic50])
    data |= {"ic50": half[..., 0], "ic50_low": half[..., 1], "ic50_high": half[..., 2]}
    none = np.full(3, np.nan)
    fitted = np.exp([[none if c is None else c.log.value for c in row] for row in told.curve])
    data |= {"max_hazard": fitted[..., 0], "ec50": fitted[..., 1], "hill": fitted[..., 2]}
    return {
        "": {
            name: Variable(dims, data[name], unit, text)
            for name, (dims, unit, text) in DESCRIBED.items()
        }
    }
