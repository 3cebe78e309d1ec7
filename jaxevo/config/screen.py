"""Screen: [screen], which drugs and modulators `jaxevo screen` tries, alone and together, on what."""

from typing import Annotated

from pydantic import BeforeValidator

from jaxevo.config.tables import Table
from jaxevo.config.values import Count, Days, Integer, Number

MOST_REPLICATES = 1_000_000
MOST_LINES = 1000


class Agent(Table):
    """[screen.agents.X]: the levels of one drug or modulator, besides 0."""

    level_um: list[Annotated[float, BeforeValidator(Number("uM", above=0.0))]] | None = (
        None  # resolved: around its half effect
    )


class Lines(Table):
    """[screen.lines]: cell lines, each of some cells of one tumor that grew without drug."""

    count: Annotated[int, BeforeValidator(Integer(1, MOST_LINES))] = 1
    cells: Count
    grown_to_cells: Count


class Screen(Table):
    """[screen]: what is tried on the tumor, or on cell lines made from it."""

    agents: dict[str, Agent] | None = None  # resolved: all drugs
    order: Annotated[int, BeforeValidator(Integer(1, 3))] | None = None  # resolved: 2, if there are
    exposure_days: Days = 3.0
    replicates: Annotated[int, BeforeValidator(Integer(1, MOST_REPLICATES))] = 100
    lines: Lines | None = None

    def names(self) -> list[str]:
        """The agents, in order."""
        return list(self.agents or {})
