"""Screen: drugs and modulators alone and together, over a grid of levels, on a tumor or on cell lines.

design    the combinations, and one problem that tries them all
follow    cell lines, and the cells that are left
effects   viability, hazard, Bliss excess, with standard errors
curves    dose-response curves, IC50, Loewe excess
scale     on which scale the model itself combines two agents
report    all of it as arrays with names, and as plain numbers
text      the same in words, for a terminal
"""

from jaxevo.screen.design import Agent, Lines, ScreenPlan, combinations, exposed
from jaxevo.screen.follow import Screened, follow
from jaxevo.screen.report import DESCRIBED, Analysis, ScreenReport, analyze, arrays, report
from jaxevo.screen.text import tell

__all__ = [
    "DESCRIBED",
    "Agent",
    "Analysis",
    "Lines",
    "ScreenPlan",
    "ScreenReport",
    "Screened",
    "analyze",
    "arrays",
    "combinations",
    "exposed",
    "follow",
    "report",
    "tell",
]
