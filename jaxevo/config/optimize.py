"""Optimize: [optimize], which schedules `jaxevo optimize` searches, for what, within which limits.

A drug is given in cycles, on the same days of each; its amount in every cycle is a decision.
"""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from jaxevo.config.doses import TINY, Dosing
from jaxevo.config.sentences import expected, fault
from jaxevo.config.tables import Table
from jaxevo.config.values import Day, Days, Hours, Integer, Neutrophils, Number, Share, Text, Words

OBJECTIVES = ("relapse", "relapse_free_days", "burden")
OVER = ("patient", "mean", "worst")
WORST_SHARE = 0.1

Amount = Annotated[float, BeforeValidator(Number("mg", above=0.0))]
Level = Annotated[float, BeforeValidator(Number("uM", above=0.0))]


class Choice(Table):
    """[optimize.drugs.X]: on which days of a cycle a drug may be given, and how much."""

    cycle_days: Days
    max_mg: Amount | None = None  # resolved: max_dose_mg of the drug
    max_um: Level | None = None
    step_mg: Amount | None = None
    step_um: Level | None = None
    on_days: list[Day] | None = None  # resolved: [0] where nothing else is said
    every_h: Hours | None = None
    from_day: Day = 0.0
    until_day: Day | None = None  # resolved: the horizon
    infusion_h: Hours | None = None
    route: Annotated[str, BeforeValidator(Words(("oral", "bolus", "infusion")))] | None = None
    max_per_cycle_mg: Amount | None = None
    max_total_mg: Amount | None = None  # resolved: max_cumulative_mg of the drug

    @model_validator(mode="after")
    def _is_consistent(self) -> "Choice":
        if self.every_h is not None and self.on_days is not None:
            raise fault("stands beside on_days; expected one of the two", ("every_h",))
        if self.max_um is not None:
            self._refuse_amounts()
        elif self.step_um is not None:
            raise fault("belongs to max_um; expected step_mg", ("step_um",))
        try:
            self.row("drug", self.from_day, math.inf, 1.0)
        except ValidationError as error:
            context = error.errors(include_url=False)[0].get("ctx", {})
            raise fault(context["sentence"], context["at"]) from None
        return self

    def _refuse_amounts(self) -> None:
        """A level is held through a cycle, or some days of it."""
        of_amount = ("max_mg", "step_mg", "on_days", "every_h", "infusion_h", "route")
        for key in (*of_amount, "max_per_cycle_mg", "max_total_mg"):
            if getattr(self, key) is not None:
                raise fault("stands beside max_um; a level is held through its cycle", (key,))

    @property
    def most(self) -> float:
        """The largest amount of one dose (mg), or level (uM); of a resolved study."""
        return float(self.max_um or self.max_mg or 0.0)

    @property
    def step(self) -> float | None:
        """Strength of a tablet or vial (mg), or step of the level (uM)."""
        return self.step_mg if self.max_um is None else self.step_um

    def row(self, drug: str, first: float, last: float, amount: float) -> Dosing:
        """The doses of one cycle, which begins on day `first`; none from day `last` on."""
        end = min(first + self.cycle_days, last)
        if self.max_um is not None:
            return Dosing(drug=drug, level_um=amount, from_day=first, until_day=end)
        common: dict[str, Any] = {"infusion_h": self.infusion_h, "route": self.route}
        common |= {"drug": drug, "amount_mg": amount, "from_day": first, "until_day": end}
        if self.every_h is not None:
            return Dosing(**common, every_h=self.every_h)
        days = [0.0] if self.on_days is None else self.on_days
        return Dosing(**common, cycle_days=self.cycle_days, on_days=days, cycles=1)

    def starts(self, horizon: float) -> list[float]:
        """The day on which each cycle begins."""
        until = horizon if self.until_day is None else self.until_day
        number = math.ceil((until - self.from_day) / self.cycle_days - TINY)
        return [self.from_day + i * self.cycle_days for i in range(max(0, number))]


class Optimize(Table):
    """[optimize]: what is searched for, and what it is compared with."""

    drugs: dict[str, Choice] = Field(default_factory=dict)
    objective: Annotated[str, BeforeValidator(Words(OBJECTIVES))] = "relapse"
    over: Annotated[str, BeforeValidator(Words(OVER))] | None = None  # resolved
    worst_share: Share | None = None  # resolved: 0.1 for the worst
    patients: Annotated[int, BeforeValidator(Integer(1, 10_000))] | None = None  # resolved
    beside: Text | None = None
    min_neutrophils_per_l_1e9: Neutrophils | None = None
    max_together: Annotated[float, BeforeValidator(Number(above=0.0))] | None = None
    random_starts: Annotated[int, BeforeValidator(Integer(0, 1000))] = 4
    compare: list[Text] | None = None  # resolved: all arms
    tumors: Annotated[int, BeforeValidator(Integer(1, 10_000_000))] = 1000
    verdict_patients: Annotated[int, BeforeValidator(Integer(1, 100_000))] | None = None  # resolved
    cells_tumors: Annotated[int, BeforeValidator(Integer(1, 1_000_000))] | None = None
    robust_cv: Annotated[float, BeforeValidator(Number(above=0.0, at_most=2.0))] = 0.3
    robust_patients: Annotated[int, BeforeValidator(Integer(0, 10_000))] = 50

    @model_validator(mode="after")
    def _resolve(self) -> "Optimize":
        if self.over == "worst" and self.worst_share is None:
            self.worst_share = WORST_SHARE
        if self.over != "worst" and self.worst_share is not None:
            raise fault('belongs to over = "worst"', ("worst_share",))
        if self.worst_share == 0:
            raise expected("a number > 0", self.worst_share, ("worst_share",))
        return self
