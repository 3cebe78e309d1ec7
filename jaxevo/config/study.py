"""Study: a draft whose tables fit together, with every default filled in."""

from typing import TYPE_CHECKING, Any

import tomli_w
from pydantic import model_validator

from jaxevo.config.agents import check_screen
from jaxevo.config.checks import check
from jaxevo.config.cohort import check_patients
from jaxevo.config.draft import Draft
from jaxevo.config.resolve import resolve

if TYPE_CHECKING:
    from jaxevo.engines.base import Problem


class Study(Draft):
    """A study that can be simulated. Nothing in it is implicit: see `resolve`."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Study":
        check(self)
        check_screen(self)
        resolve(self)
        check_patients(self)
        return self

    def problem(self) -> "Problem":
        """The study as engines take it, in days, micromolar, liters and cells."""
        # Here, because it brings JAX: a bad study is refused before that second is spent.
        from jaxevo.config.build import problem  # noqa: PLC0415

        return problem(self)

    def resolved(self) -> dict[str, Any]:
        """The study with every default and shorthand spelled out, as a table of TOML values."""
        return self.model_dump(exclude_none=True)

    def to_toml(self) -> str:
        """The resolved study as the text of a study file, which loads as an equal study."""
        return tomli_w.dumps(self.resolved())
