"""Visits: [visits], when the patient is seen and what is observed; and the rules that decide then.

A rule of [arms.policy] or [arms.safety] is one of `jaxevo.treatment`, and its keys are the parameters
of the function there that makes it. So that a study without rules is checked without JAX, which they
bring, they are looked up when a study names one.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args, get_origin

from pydantic import BeforeValidator, PlainValidator, SerializeAsAny, create_model, model_validator

from jaxevo.config.sentences import Path, expected, fault, missing, unknown_name
from jaxevo.config.tables import Table
from jaxevo.config.values import (
    CountOrNone,
    Days,
    Factor,
    Flag,
    Integer,
    Number,
    Share,
    Text,
    Words,
)

if TYPE_CHECKING:
    from jaxevo.engines import base
    from jaxevo.treatment import Kind

TINY = 1e-9  # relative; so close to a whole number counts as whole


def is_multiple(length: float, of: float) -> bool:
    """Whether a length of time is a whole multiple of another."""
    times = length / of
    return round(times) >= 1 and math.isclose(times, round(times), rel_tol=TINY)


class Visits(Table):
    """[visits]: when the patient is seen, and what is observed then."""

    every_days: Days
    scan_every_days: Days | None = None  # resolved: every visit
    detection_cells: CountOrNone = 1
    noise_cv: Factor = 0.0
    sequencing_fraction: Share | None = None
    composition_cells: CountOrNone | None = None

    @model_validator(mode="after")
    def _resolve(self) -> "Visits":
        if self.scan_every_days is None:
            self.scan_every_days = self.every_days
        if not is_multiple(self.scan_every_days, self.every_days):
            raise expected(
                f"a multiple of every_days ({self.every_days:g})",
                self.scan_every_days,
                ("scan_every_days",),
            )
        return self

    @property
    def scan_every(self) -> int:
        """Visits from one scan to the next."""
        return round((self.scan_every_days or self.every_days) / self.every_days)


class Rule(Table):
    """[arms.policy] or [arms.safety]: a rule by its name; its other keys are the rule's own."""

    rule: Text

    @property
    def kind(self) -> "Kind":
        """What `jaxevo.treatment` says of the rule."""
        return kinds(is_policy=isinstance(self, Policy))[self.rule]


class Policy(Rule):
    """[arms.policy]: which line is given until the next visit."""


class Safety(Rule):
    """[arms.safety]: how much of each drug is given until the next visit."""


def kinds(*, is_policy: bool) -> "Mapping[str, Kind]":
    """The rules that can be named, by name."""
    from jaxevo import treatment  # noqa: PLC0415

    return treatment.POLICIES if is_policy else treatment.SAFETY


def made(rule: Rule, names: Mapping[str, tuple[str, ...]], at: Path = ()) -> "base.Rule":
    """The rule as engines take it; `names` are those that the study fills in.

    Raises:
        PydanticCustomError: numbers that contradict each other, from the rule's own sentence.
    """
    own = {key: _plain(getattr(rule, key)) for key in type(rule).model_fields}
    make = rule.kind.make
    wanted = {key: value for key, value in (own | dict(names)).items() if key in parameters(make)}
    try:
        return make(**wanted)
    except ValueError as error:
        key, _, rest = " ".join(str(error).split()).partition(" ")
        if key in type(rule).model_fields:
            raise fault(rest, (*at, key)) from None
        raise fault(f"cannot be made: {key} {rest}", (*at, "rule")) from None


def parameters(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a rule takes, with types in place of their names."""
    return dict(inspect.signature(make, eval_str=True).parameters)


def _plain(value: Any) -> Any:
    """A value as a rule takes it: tuples in place of arrays."""
    return tuple(_plain(entry) for entry in value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    """A default as a study file holds it: arrays in place of tuples."""
    return [_listed(entry) for entry in value] if isinstance(value, tuple) else value


PLAIN: dict[Any, Any] = {
    float: Annotated[float, BeforeValidator(Number())],
    int: Annotated[int, BeforeValidator(Integer(0, 10**9))],
    bool: Flag,
    str: Text,
}


def _checked(kind: Any) -> Any:
    """The type of a parameter with the checks of study files."""
    if kind in PLAIN:
        return PLAIN[kind]
    inner = [_checked(arg) for arg in get_args(kind) if arg not in (type(None), ...)]
    if get_origin(kind) is tuple:
        return list[inner[0]]
    if get_origin(kind) is dict:
        return dict[str, inner[1]]
    return inner[0] | None


@functools.cache
def rule_class(base: type[Rule], name: str) -> type[Rule]:
    """The table of one rule: a key for each of its parameters, but for what the study fills in."""
    from jaxevo.treatment import FROM_STUDY  # noqa: PLC0415

    fields: dict[str, Any] = {}
    for key, parameter in parameters(kinds(is_policy=base is Policy)[name].make).items():
        if key not in FROM_STUDY:
            default = ... if parameter.default is parameter.empty else _listed(parameter.default)
            fields[key] = (_checked(parameter.annotation), default)
    return create_model(f"{base.__name__} {name}", __base__=base, __module__=__name__, **fields)


def _choose(base: type[Rule], raw: object) -> Rule:
    """Check a table against the class of its rule."""
    if not isinstance(raw, dict):
        raise expected("a table", raw)
    known = kinds(is_policy=base is Policy)
    if "rule" not in raw:
        raise missing(Words(tuple(known)).phrase, ("rule",))
    if not isinstance(raw["rule"], str) or raw["rule"] not in known:
        raise unknown_name("a rule", raw["rule"], known, ("rule",))
    return rule_class(base, raw["rule"]).model_validate(raw)


AnyPolicy: TypeAlias = SerializeAsAny[
    Annotated[Policy, PlainValidator(functools.partial(_choose, Policy))]
]
AnySafety: TypeAlias = SerializeAsAny[
    Annotated[Safety, PlainValidator(functools.partial(_choose, Safety))]
]
