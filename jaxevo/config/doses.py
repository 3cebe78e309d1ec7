"""Doses: rows of `doses`, and on which days each gives what.

An amount is given once (`day`), or again and again: every few hours, on days of the week, or on days of
a cycle. A level is prescribed once or in cycles. The first amount of a row may be another, a loading
dose. Amounts are in mg, or in mg per m2 of the patient's body surface.
"""

import itertools
import math
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, model_validator

from jaxevo.config.sentences import expected, fault, missing
from jaxevo.config.tables import Table
from jaxevo.config.values import (
    WEEKDAYS,
    AtLeastOne,
    Day,
    Days,
    Hours,
    Micromolar,
    Milligrams,
    MilligramsPerM2,
    Text,
    Weekday,
    Words,
)

ROUTES = ("oral", "bolus", "infusion")
HOURS = 24.0  # in a day
WEEK = len(WEEKDAYS)
TINY = 1e-9  # days; a dose this close to the end is not given any more

UNCOUNTED = 1e15  # more administrations than anybody counts

AMOUNTS = ("amount_mg", "amount_mg_per_m2")
LOADING = ("loading_mg", "loading_mg_per_m2")
REPEATS = ("every_h", "weekdays", "cycle_days")
OF_AMOUNT = (*LOADING, "every_h", "day", "infusion_h", "route", "weekdays", "cycle_days")
OF_LEVEL = ("days", "every_days")
OF_CYCLE = ("on_days", "cycles")


class Span(NamedTuple):
    """When something is given: from `start` until `end`, in days; the same day for a bolus."""

    start: float
    end: float


class Calendar(NamedTuple):
    """What a pattern of days is laid on."""

    horizon: float  # days
    first_weekday: str = "Mon"  # of day 0


def days_of_week(weekdays: list[str], start: float, end: float, calendar: Calendar) -> list[float]:
    """Whole days of these names, from `start` on and before `end`."""
    offset = WEEKDAYS.index(calendar.first_weekday)
    wanted = {WEEKDAYS.index(name) for name in weekdays}
    span = range(math.ceil(start - TINY), math.ceil(end - TINY))
    return [float(day) for day in span if (day + offset) % WEEK in wanted]


def check_weekdays(weekdays: list[str] | None) -> None:
    """Some days of the week, none of them twice."""
    if weekdays is None:
        return
    if not weekdays:
        raise expected("at least one day of the week", weekdays, ("weekdays",))
    for i, name in enumerate(weekdays):
        if name in weekdays[:i]:
            raise fault(f'names "{name}" twice', ("weekdays", i))


class Dosing(Table):
    """One row of `doses`: an amount once or repeated, or a level once or in cycles."""

    drug: Text
    amount_mg: Milligrams | None = None
    amount_mg_per_m2: MilligramsPerM2 | None = None
    loading_mg: Milligrams | None = None
    loading_mg_per_m2: MilligramsPerM2 | None = None
    level_um: Micromolar | None = None
    day: Day | None = None  # resolved: 0 for a single dose
    every_h: Hours | None = None
    weekdays: list[Weekday] | None = None
    cycle_days: Days | None = None
    on_days: list[Day] | None = None  # resolved: [0] in cycles
    cycles: AtLeastOne | None = None
    from_day: Day | None = None  # resolved: 0 for what repeats or lasts
    until_day: Day | None = None  # resolved: the horizon
    infusion_h: Hours | None = None
    route: Annotated[str, BeforeValidator(Words(ROUTES))] | None = None  # resolved
    days: Days | None = None
    every_days: Days | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "Dosing":
        given = [key for key in (*AMOUNTS, "level_um") if getattr(self, key) is not None]
        if not given:
            raise missing("amount_mg, or level_um for a drug without plasma", ("amount_mg",))
        if len(given) > 1:
            raise fault(f"stands beside {given[0]}; expected one of the two", (given[1],))
        if self.level_um is not None:
            self._check_level()
        else:
            self._check_amount()
            self._check_repeats()
        if self.until_day is not None and self.until_day <= (self.from_day or 0.0):
            raise fault(
                f"expected a day after from_day ({self.from_day or 0.0:g}), got {self.until_day:g}",
                ("until_day",),
            )
        return self

    @property
    def repeats(self) -> str | None:
        """The key by which an amount repeats; None for a single one, and for a level."""
        return next((key for key in REPEATS if getattr(self, key) is not None), None)

    @property
    def is_single(self) -> bool:
        """One dose on one day."""
        return self.level_um is None and self.repeats is None

    @property
    def is_per_m2(self) -> bool:
        """Whether amounts are in mg per m2 of body surface, rather than in mg."""
        return self.amount_mg_per_m2 is not None

    @property
    def amount(self) -> float:
        """Amount of each dose but a loading dose."""
        own = self.amount_mg_per_m2 if self.is_per_m2 else self.amount_mg
        return 0.0 if own is None else own

    @property
    def first_amount(self) -> float:
        """Amount of the first dose."""
        loading = self.loading_mg_per_m2 if self.is_per_m2 else self.loading_mg
        return self.amount if loading is None else loading

    def _refuse(self, keys: tuple[str, ...], why: str) -> None:
        for key in keys:
            if getattr(self, key) is not None:
                raise fault(why, (key,))

    def _check_amount(self) -> None:
        self._refuse(OF_LEVEL, "belongs to level_um; an amount repeats by every_h")
        for amount, loading, other in zip(AMOUNTS, LOADING, LOADING[::-1], strict=True):
            if getattr(self, amount) is not None:
                self._refuse((other,), f"does not go with {amount}; expected {loading}")
        if self.route == "infusion" and self.infusion_h is None:
            raise missing("a number > 0 h, since the route is infusion", ("infusion_h",))
        if self.infusion_h is not None and self.route not in (None, "infusion"):
            raise fault(
                f'stands beside route = "{self.route}"; expected "infusion"', ("infusion_h",)
            )

    def _check_repeats(self) -> None:
        given = [key for key in REPEATS if getattr(self, key) is not None]
        if len(given) > 1:
            raise fault(f"stands beside {given[0]}; expected one way to repeat", (given[1],))
        if self.cycle_days is None:
            self._refuse(OF_CYCLE, "needs cycle_days, the length of a cycle")
        if given:
            self._refuse(("day",), f"stands beside {given[0]}; expected from_day instead")
        else:
            why = "needs every_h, weekdays or cycle_days; a single dose has a day"
            self._refuse(("from_day", "until_day"), why)
            self._refuse(LOADING, "is the first of several doses, and there is one only")
        check_weekdays(self.weekdays)
        self._check_on_days()

    def _check_on_days(self) -> None:
        if self.on_days is None or self.cycle_days is None:
            return
        if not self.on_days:
            raise expected("at least one day of the cycle", self.on_days, ("on_days",))
        for i, (day, after) in enumerate(itertools.pairwise(self.on_days)):
            if after <= day:
                raise fault(
                    f"expected days in rising order, got {after:g} after {day:g}",
                    ("on_days", i + 1),
                )
        if self.on_days[-1] >= self.cycle_days:
            what = f"a day of the cycle, from 0 to less than cycle_days ({self.cycle_days:g})"
            raise expected(what, self.on_days[-1], ("on_days", len(self.on_days) - 1))

    def _check_level(self) -> None:
        self._refuse(OF_AMOUNT, "belongs to amount_mg; a level has from_day and until_day")
        self._refuse(OF_CYCLE, "belongs to amount_mg; a level has days and every_days")
        for key, other in (OF_LEVEL, OF_LEVEL[::-1]):
            if getattr(self, key) is not None and getattr(self, other) is None:
                raise missing(f"a number > 0 days, since {key} is given", (other,))
        if self.days is not None and self.every_days is not None and self.days > self.every_days:
            raise fault(
                f"expected at most every_days ({self.every_days:g}), got {self.days:g}", ("days",)
            )

    def num_times(self, horizon: float) -> int:
        """How often something is given before the horizon; at most so often on days of the week."""
        until = horizon if self.until_day is None else self.until_day
        length = until - (self.from_day or 0.0) - TINY
        if self.weekdays is not None:
            number = length / WEEK * len(self.weekdays) + len(self.weekdays)
        elif self.cycle_days is not None:
            rounds = min(length / self.cycle_days + 1, self.cycles or math.inf)
            number = rounds * len(self.on_days or [0.0])
        elif self._period is not None:
            number = length / self._period
        else:
            return 1
        return max(0, math.ceil(min(number, UNCOUNTED)))

    def spans(self, calendar: Calendar) -> list[Span]:
        """Every administration, in order; the last starts before `until_day` and the horizon."""
        until = calendar.horizon if self.until_day is None else self.until_day
        if self.level_um is None:
            length = (self.infusion_h or 0.0) / HOURS
            until_end = math.inf
        else:
            length = math.inf if self.days is None else self.days
            until_end = until
        starts = self._starts(until, calendar)
        return [Span(start, min(start + length, until_end)) for start in starts]

    def _starts(self, until: float, calendar: Calendar) -> list[float]:
        first = (self.day if self.is_single else self.from_day) or 0.0
        if self.weekdays is not None:
            return days_of_week(self.weekdays, first, until, calendar)
        if self.cycle_days is not None:
            rounds = math.ceil((until - first) / self.cycle_days)
            cycles = range(min(rounds, self.cycles or rounds))
            days = [
                first + i * self.cycle_days + day for i in cycles for day in self.on_days or [0.0]
            ]
            return [day for day in days if day < until - TINY]
        return [first + i * (self._period or 0.0) for i in range(self.num_times(calendar.horizon))]

    @property
    def _period(self) -> float | None:
        """Days from one administration to the next; None for one only."""
        return self.every_days if self.every_h is None else self.every_h / HOURS
