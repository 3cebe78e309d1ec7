"""Doses: [[arms]], and what one arm gives on which day."""

import math
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, model_validator

from jaxevo.config.sentences import fault, missing
from jaxevo.config.tables import Table
from jaxevo.config.values import Day, Days, Hours, Micromolar, Milligrams, Text, Words

ROUTES = ("oral", "bolus", "infusion")
HOURS = 24.0  # in a day
TINY = 1e-9  # days; a dose this close to the end is not given any more

UNCOUNTED = 1e15  # more administrations than anybody counts

OF_AMOUNT = ("every_h", "day", "infusion_h", "route")
OF_LEVEL = ("days", "every_days")


class Span(NamedTuple):
    """When something is given: from `start` until `end`, in days; the same day for a bolus."""

    start: float
    end: float


class Dosing(Table):
    """One row of `arms.N.doses`: an amount once or repeated, or a level once or in cycles."""

    drug: Text
    amount_mg: Milligrams | None = None
    level_um: Micromolar | None = None
    day: Day | None = None  # resolved: 0 for a single dose
    every_h: Hours | None = None
    from_day: Day | None = None  # resolved: 0 for what repeats or lasts
    until_day: Day | None = None  # resolved: the horizon
    infusion_h: Hours | None = None
    route: Annotated[str, BeforeValidator(Words(ROUTES))] | None = None  # resolved
    days: Days | None = None
    every_days: Days | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "Dosing":
        if self.amount_mg is None and self.level_um is None:
            raise missing("amount_mg, or level_um for a drug without plasma", ("amount_mg",))
        if self.amount_mg is not None and self.level_um is not None:
            raise fault("stands beside amount_mg; expected one of the two", ("level_um",))
        if self.level_um is not None:
            self._check_level()
        else:
            self._check_amount()
        if self.until_day is not None and self.until_day <= (self.from_day or 0.0):
            raise fault(
                f"expected a day after from_day ({self.from_day or 0.0:g}), got {self.until_day:g}",
                ("until_day",),
            )
        return self

    @property
    def is_single(self) -> bool:
        """One dose on one day."""
        return self.amount_mg is not None and self.every_h is None

    def _refuse(self, keys: tuple[str, ...], why: str) -> None:
        for key in keys:
            if getattr(self, key) is not None:
                raise fault(why, (key,))

    def _check_amount(self) -> None:
        self._refuse(OF_LEVEL, "belongs to level_um; an amount repeats by every_h")
        if self.every_h is not None:
            self._refuse(("day",), "stands beside every_h; expected from_day instead")
        else:
            self._refuse(("from_day", "until_day"), "needs every_h; a single dose has a day")
        if self.route == "infusion" and self.infusion_h is None:
            raise missing("a number > 0 h, since the route is infusion", ("infusion_h",))
        if self.infusion_h is not None and self.route not in (None, "infusion"):
            raise fault(
                f'stands beside route = "{self.route}"; expected "infusion"', ("infusion_h",)
            )

    def _check_level(self) -> None:
        self._refuse(OF_AMOUNT, "belongs to amount_mg; a level has from_day and until_day")
        for key, other in (OF_LEVEL, OF_LEVEL[::-1]):
            if getattr(self, key) is not None and getattr(self, other) is None:
                raise missing(f"a number > 0 days, since {key} is given", (other,))
        if self.days is not None and self.every_days is not None and self.days > self.every_days:
            raise fault(
                f"expected at most every_days ({self.every_days:g}), got {self.days:g}", ("days",)
            )

    def num_times(self, horizon: float) -> int:
        """How often something is given before the horizon."""
        period = self._period
        if period is None:
            return 1
        until = horizon if self.until_day is None else self.until_day
        number = (until - (self.from_day or 0.0) - TINY) / period
        return max(0, math.ceil(min(number, UNCOUNTED)))

    def spans(self, horizon: float) -> list[Span]:
        """Every administration, in order; the last starts before `until_day` and the horizon."""
        until = horizon if self.until_day is None else self.until_day
        first = (self.day if self.is_single else self.from_day) or 0.0
        if self.level_um is None:
            length = (self.infusion_h or 0.0) / HOURS
            until_end = math.inf
        else:
            length = math.inf if self.days is None else self.days
            until_end = until
        starts = [first + i * (self._period or 0.0) for i in range(self.num_times(horizon))]
        return [Span(start, min(start + length, until_end)) for start in starts]

    @property
    def _period(self) -> float | None:
        """Days from one administration to the next; None for one only."""
        return self.every_days if self.every_h is None else self.every_h / HOURS


class Arm(Table):
    """One of [[arms]]: a treatment; `doses = []` is no treatment."""

    name: Text
    doses: list[Dosing]
