"""Arms: [[arms]], what one arm does: doses, radiation, surgery, and what is decided at visits."""

from typing import Annotated

from pydantic import Field, PlainValidator, model_validator

from jaxevo.config.doses import Calendar, Dosing, check_weekdays, days_of_week
from jaxevo.config.sentences import fault, missing
from jaxevo.config.tables import Table
from jaxevo.config.values import (
    AtLeastOne,
    Day,
    Days,
    Gray,
    Number,
    PerName,
    Share,
    Text,
    Weekday,
)
from jaxevo.config.visits import AnyPolicy, AnySafety

SINGLE_LINE = "treatment"  # the name of the line that an arm's own doses become


class Radiation(Table):
    """One of `[[arms.radiation]]`: fractions of one dose, on days of the week or at intervals."""

    gray: Gray
    from_day: Day = 0.0
    weekdays: list[Weekday] | None = None
    every_days: Days | None = None
    fractions: AtLeastOne = 1

    @model_validator(mode="after")
    def _is_consistent(self) -> "Radiation":
        if self.weekdays is not None and self.every_days is not None:
            raise fault("stands beside weekdays; expected one of the two", ("every_days",))
        if self.fractions > 1 and self.weekdays is None and self.every_days is None:
            raise missing("days from one fraction to the next, or weekdays", ("every_days",))
        check_weekdays(self.weekdays)
        return self

    def last_day(self) -> float:
        """No fraction is later than this day."""
        if self.weekdays is not None:
            return self.from_day + 7 * (self.fractions // len(self.weekdays) + 1)
        return self.from_day + (self.fractions - 1) * (self.every_days or 0.0)

    def days(self, first_weekday: str) -> list[float]:
        """The day of every fraction."""
        if self.weekdays is not None:
            calendar = Calendar(self.last_day(), first_weekday)
            found = days_of_week(self.weekdays, self.from_day, self.last_day() + 1, calendar)
            return found[: self.fractions]
        return [self.from_day + i * (self.every_days or 0.0) for i in range(self.fractions)]


class Surgery(Table):
    """One of `[[arms.surgery]]`: a share of the cells of each site is taken out on one day."""

    day: Day
    removed_fraction: Annotated[
        float | dict[str, float],
        PlainValidator(PerName(Number(at_least=0.0, at_most=1.0), of="site", or_number=True)),
    ]  # resolved: a table


class Line(Table):
    """One of `[[arms.lines]]`: a treatment that a policy may choose."""

    name: Text
    doses: list[Dosing]


class Arm(Table):
    """One of [[arms]]: a treatment; `doses = []` is no treatment."""

    name: Text
    doses: list[Dosing]
    radiation: list[Radiation] = Field(default_factory=list)
    surgery: list[Surgery] = Field(default_factory=list)
    # resolved: the doses of an arm that names a policy and no line
    lines: list[Line] = Field(default_factory=list)
    policy: AnyPolicy | None = None
    safety: AnySafety | None = None
    transduced_share: Share | None = None

    @property
    def decides(self) -> bool:
        """Whether doses depend on what is observed."""
        return self.policy is not None or self.safety is not None

    def all_doses(self) -> list[tuple[tuple[str | int, ...], list[Dosing]]]:
        """Every list of doses with its path in the arm: the arm's own, and that of each line."""
        lines = [(("lines", k, "doses"), line.doses) for k, line in enumerate(self.lines)]
        return [(("doses",), self.doses), *lines]
