"""Values: what one key of a study may hold. Each type says in words what it expects."""

import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, PlainValidator
from pydantic.fields import FieldInfo

from jaxevo.config.sentences import Path, expected

EXTREME = 1e100  # beyond it, or below its inverse, products and ratios of numbers would overflow
MAX_COUNT = 10**18  # cells; leaves room to add in 64 bits
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Number:
    """A number within bounds; TOML integers count as numbers, true and false do not."""

    unit: str = ""
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    may_be_infinite: bool = False

    @property
    def phrase(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            words = f"a number from {self.at_least:g} to {self.at_most:g}"
        else:
            bounds = [f"> {self.above:g}"] if self.above is not None else []
            bounds += [f">= {self.at_least:g}"] if self.at_least is not None else []
            bounds += [f"<= {self.at_most:g}"] if self.at_most is not None else []
            words = " ".join(["a number", " and ".join(bounds)]).strip()
        words = f"{words} {self.unit}".strip()
        return f"{words}, or inf" if self.may_be_infinite else words

    def __call__(self, value: object, *, at: Path = ()) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise expected(self.phrase, value, at)
        try:
            number = float(value)
        except OverflowError:
            raise expected(self.phrase, value, at) from None
        is_allowed = math.isfinite(number) or (self.may_be_infinite and number == math.inf)
        is_allowed &= self.above is None or number > self.above
        is_allowed &= self.at_least is None or number >= self.at_least
        is_allowed &= self.at_most is None or number <= self.at_most
        if not is_allowed:
            raise expected(self.phrase, value, at)
        if number != 0 and math.isfinite(number) and not 1 / EXTREME <= abs(number) <= EXTREME:
            phrase = f"{self.phrase}, in size from {1 / EXTREME:g} to {EXTREME:g}"
            raise expected(phrase, value, at)
        return number


@dataclass(frozen=True)
class Whole:
    """A count of cells; 1e6 counts as whole. A capacity, which may be infinite, stays a float."""

    may_be_infinite: bool = False
    at_least: int = 1

    @property
    def phrase(self) -> str:
        words = f"a whole number of cells from {self.at_least} to {MAX_COUNT:g}"
        return f"{words}, or inf" if self.may_be_infinite else words

    def __call__(self, value: object, *, at: Path = ()) -> int | float:
        if self.may_be_infinite and value == math.inf:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise expected(self.phrase, value, at)
        if not self.at_least <= value <= MAX_COUNT or value != int(value):
            raise expected(self.phrase, value, at)
        return float(value) if self.may_be_infinite else int(value)


@dataclass(frozen=True)
class Integer:
    """A TOML integer within bounds; 1e3 is no integer."""

    at_least: int
    at_most: int

    @property
    def phrase(self) -> str:
        return f"an integer from {self.at_least} to {self.at_most}"

    def __call__(self, value: object, *, at: Path = ()) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise expected(self.phrase, value, at)
        if not self.at_least <= value <= self.at_most:
            raise expected(self.phrase, value, at)
        return value


@dataclass(frozen=True)
class Words:
    """A text, or one of a few."""

    choices: tuple[str, ...] = ()

    @property
    def phrase(self) -> str:
        if not self.choices:
            return "a text"
        return " or ".join(f'"{choice}"' for choice in self.choices)

    def __call__(self, value: object, *, at: Path = ()) -> str:
        if not isinstance(value, str) or not value.strip():
            raise expected(self.phrase, value, at)
        if self.choices and value not in self.choices:
            raise expected(self.phrase, value, at)
        return value


@dataclass(frozen=True)
class Switch:
    """True or false; 0 and 1 are neither."""

    phrase: str = "true or false"

    def __call__(self, value: object, *, at: Path = ()) -> bool:
        if not isinstance(value, bool):
            raise expected(self.phrase, value, at)
        return value


@dataclass(frozen=True)
class Correlation:
    """Two keys of a study and how their numbers are correlated."""

    phrase: str = (
        'two keys and a number, such as ["tumor.birth_rate_per_day", "host.feedback", 0.5]'
    )

    def __call__(self, value: object, *, at: Path = ()) -> list[str | float]:
        if not isinstance(value, list) or [type(key) for key in value[:2]] != [str, str]:
            raise expected(self.phrase, value, at)
        if len(value) != 3:
            raise expected(self.phrase, value, at)
        return [*value[:2], Number(at_least=-1.0, at_most=1.0)(value[2], at=(*at, 2))]


@dataclass(frozen=True)
class PerName:
    """A table that gives a number to each name, or one number for all names."""

    number: Number | Integer
    of: str = "drug"
    or_number: bool = False

    @property
    def phrase(self) -> str:
        if self.or_number:
            return f"{self.number.phrase}, or a table that gives one to each {self.of}"
        return f"a table that gives each {self.of} {self.number.phrase}"

    def __call__(
        self, value: object, *, at: Path = ()
    ) -> dict[str, float] | dict[str, int] | float:
        if isinstance(value, dict):
            return {name: self.number(entry, at=(*at, name)) for name, entry in value.items()}
        if not self.or_number or isinstance(value, bool) or not isinstance(value, int | float):
            raise expected(self.phrase, value, at)
        return self.number(value, at=at)


def phrase_of(field: FieldInfo) -> str:
    """What a field expects, in words."""
    for mark in field.metadata:
        words = getattr(getattr(mark, "func", None), "phrase", None)
        if words:
            return words
    is_array = str(field.annotation).startswith("list")
    return "an array of tables" if is_array else "a table"


Text: TypeAlias = Annotated[str, BeforeValidator(Words())]
Flag: TypeAlias = Annotated[bool, BeforeValidator(Switch())]
Count: TypeAlias = Annotated[int, BeforeValidator(Whole())]
CountOrNone: TypeAlias = Annotated[int, BeforeValidator(Whole(at_least=0))]
Capacity: TypeAlias = Annotated[float, PlainValidator(Whole(may_be_infinite=True))]
AtLeastOne: TypeAlias = Annotated[int, BeforeValidator(Integer(1, 2**32))]

Factor: TypeAlias = Annotated[float, BeforeValidator(Number(at_least=0.0))]
Positive: TypeAlias = Annotated[float, BeforeValidator(Number(above=0.0))]
Share: TypeAlias = Annotated[float, BeforeValidator(Number(at_least=0.0, at_most=1.0))]
Need: TypeAlias = Annotated[float, BeforeValidator(Number(above=0.0, at_most=1.0))]
PerDay: TypeAlias = Annotated[float, BeforeValidator(Number("per day", at_least=0.0))]
FasterPerDay: TypeAlias = Annotated[float, BeforeValidator(Number("per day", above=0.0))]
PerHour: TypeAlias = Annotated[float, BeforeValidator(Number("per hour", at_least=0.0))]
FasterPerHour: TypeAlias = Annotated[float, BeforeValidator(Number("per hour", above=0.0))]
Probability: TypeAlias = Annotated[
    float, BeforeValidator(Number("(a probability per division)", at_least=0.0, at_most=1.0))
]
Hours: TypeAlias = Annotated[float, BeforeValidator(Number("h", above=0.0))]
Days: TypeAlias = Annotated[float, BeforeValidator(Number("days", above=0.0))]
Day: TypeAlias = Annotated[float, BeforeValidator(Number("days", at_least=0.0))]
Milligrams: TypeAlias = Annotated[float, BeforeValidator(Number("mg", at_least=0.0))]
Micromolar: TypeAlias = Annotated[float, BeforeValidator(Number("uM", at_least=0.0))]
Micrometers: TypeAlias = Annotated[float, BeforeValidator(Number("um", at_least=0.0))]
Length: TypeAlias = Annotated[float, BeforeValidator(Number("um", above=0.0))]
Liters: TypeAlias = Annotated[float, BeforeValidator(Number("L", above=0.0))]
LitersPerHour: TypeAlias = Annotated[float, BeforeValidator(Number("L per hour", at_least=0.0))]
MolarMass: TypeAlias = Annotated[float, BeforeValidator(Number("g per mol", above=0.0))]
SquareMeters: TypeAlias = Annotated[float, BeforeValidator(Number("m2", above=0.0))]
MilligramsPerM2: TypeAlias = Annotated[float, BeforeValidator(Number("mg per m2", at_least=0.0))]
Gray: TypeAlias = Annotated[float, BeforeValidator(Number("Gy", above=0.0))]
PerGray: TypeAlias = Annotated[float, BeforeValidator(Number("per Gy", at_least=0.0))]
PerGray2: TypeAlias = Annotated[float, BeforeValidator(Number("per Gy2", at_least=0.0))]
Neutrophils: TypeAlias = Annotated[float, BeforeValidator(Number("(1e9 per L)", above=0.0))]
PerMicromolar: TypeAlias = Annotated[float, BeforeValidator(Number("per uM", at_least=0.0))]
Weekday: TypeAlias = Annotated[str, BeforeValidator(Words(WEEKDAYS))]
