"""Treatment: rules that decide at every visit, from what is observed, what is given until the next.

    policies    by the burden: the next line, on and off, more or less
    precision   by what the tumor consists of
    safety      by the neutrophils

A rule of your own is a pure JAX function of the same signature: `Rule("mine", decide, start, params)`.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxevo.engines.base import Rule
from jaxevo.treatment.policies import (
    adaptive,
    containment,
    intermittent,
    metronomic,
    modulation,
    range_bounded,
    second_line,
)
from jaxevo.treatment.precision import cpm, dpm22, personalized
from jaxevo.treatment.safety import hold_and_reduce

__all__ = ["FROM_STUDY", "POLICIES", "SAFETY", "Kind", "Rule"]

FROM_STUDY = ("lines", "drugs", "alterations")
"""Parameters that a study fills in: its names, in their order. All others are the user's."""


class Kind(NamedTuple):
    """A rule that studies can name. `make` takes keywords only; those without a default are required.

    Its ValueError is a sentence about what the user wrote, which begins with the parameter's name.
    """

    make: Callable[..., Rule]
    needs: tuple[str, ...]  # what it reads of `Seen` beyond day, share, factor and doses given
    num_lines: tuple[int, int | None]  # fewest and most lines of an arm; None is any number


_BURDEN = ("burden", "is_scan")

POLICIES: dict[str, Kind] = {
    "second_line": Kind(second_line, _BURDEN, (2, None)),
    "intermittent": Kind(intermittent, ("burden",), (1, 1)),
    "adaptive": Kind(adaptive, ("burden",), (1, 1)),
    "modulation": Kind(modulation, (*_BURDEN, "last_scan"), (1, 1)),
    "containment": Kind(containment, ("burden",), (1, 1)),
    "range_bounded": Kind(range_bounded, ("burden",), (1, 1)),
    "metronomic": Kind(metronomic, ("burden",), (2, None)),
    "personalized": Kind(personalized, ("fractions",), (1, None)),
    "cpm": Kind(cpm, ("composition", "genotypes"), (2, 2)),
    "dpm22": Kind(dpm22, ("composition", "genotypes"), (2, 2)),
}

SAFETY: dict[str, Kind] = {
    "hold_and_reduce": Kind(hold_and_reduce, ("neutrophils",), (0, None)),
}
