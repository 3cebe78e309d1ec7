"""Trial: [trial], how `jaxevo trial` compares the arms of a study."""

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from jaxevo.config.sentences import fault
from jaxevo.config.tables import Table
from jaxevo.config.values import Day, Number, Text, Words

PAIRINGS = ("paired", "independent", "both")
PROGRESSIONS = ("recist", "ratio")
DIAMETER_20_PERCENT = 1.2**3  # of a sphere, as a ratio of cells


class Trial(Table):
    """[trial]: what arms are compared by."""

    pairing: Annotated[str, BeforeValidator(Words(PAIRINGS))] = "paired"
    control: Text | None = None  # resolved: the first arm
    progression: Annotated[str, BeforeValidator(Words(PROGRESSIONS))] = "recist"
    progression_ratio: Annotated[float, BeforeValidator(Number(at_least=1.0))] | None = None
    confirm_days: Day = 28.0
    horizon_day: Day | None = None

    @model_validator(mode="after")
    def _resolve(self) -> "Trial":
        if self.progression == "ratio" and self.progression_ratio is None:
            self.progression_ratio = DIAMETER_20_PERCENT
        if self.progression != "ratio" and self.progression_ratio is not None:
            raise fault(
                f'belongs to progression = "ratio", not to "{self.progression}"',
                ("progression_ratio",),
            )
        return self
