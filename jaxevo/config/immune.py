"""Immune: [immune], effector cells and those that suppress them."""

import math
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from jaxevo.config.sentences import fault, missing
from jaxevo.config.tables import ByDrug, Table
from jaxevo.config.values import FasterPerDay, Number, PerDay, PerName

CellsPerDay: TypeAlias = Annotated[float, BeforeValidator(Number("cells per day", at_least=0.0))]
PerDayAndCell: TypeAlias = Annotated[
    float, BeforeValidator(Number("per day and cell", at_least=0.0))
]
Cells: TypeAlias = Annotated[float, BeforeValidator(Number("cells", at_least=0.0))]
SomeCells: TypeAlias = Annotated[float, BeforeValidator(Number("cells", above=0.0))]
CellsOrInfinite: TypeAlias = Annotated[
    float, PlainValidator(Number("cells", above=0.0, may_be_infinite=True))
]
Ec50: TypeAlias = Annotated[ByDrug, PlainValidator(PerName(Number("uM", above=0.0)))]
DailyLoss: TypeAlias = Annotated[ByDrug, PlainValidator(PerName(Number("per day", at_least=0.0)))]


class Suppressors(Table):
    """[immune.suppressors]: cells that hold effectors back (MDSC)."""

    recruitment_cells_per_day: CellsPerDay
    recruitment_half_cells: SomeCells
    loss_per_day: FasterPerDay
    suppression_half_cells: SomeCells
    suppressor_cells: Cells = 0.0
    removed_per_day: DailyLoss = Field(default_factory=dict)
    removal_ec50_um: Ec50 = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_both_constants(self) -> "Suppressors":
        for drug in self.removed_per_day:
            if drug not in self.removal_ec50_um:
                raise missing(
                    "a number > 0 uM, since removed_per_day names this drug",
                    ("removal_ec50_um", drug),
                )
        for drug in self.removal_ec50_um:
            if drug not in self.removed_per_day:
                raise fault("names a drug that removed_per_day does not", ("removal_ec50_um", drug))
        return self


class Immune(Table):
    """[immune]: effector cells, the same law at every site."""

    influx_cells_per_day: CellsPerDay
    loss_per_day: FasterPerDay
    kill_per_day_per_effector: PerDayAndCell
    kill_half_cells: CellsOrInfinite = math.inf
    recruitment_per_day: PerDay = 0.0
    recruitment_half_cells: SomeCells | None = None
    exhaustion_per_day_per_cell: PerDayAndCell = 0.0
    effector_cells: Cells | None = None  # resolved: at rest without tumor
    checkpoint_ec50_um: Ec50 = Field(default_factory=dict)
    suppressors: Suppressors | None = None

    @model_validator(mode="after")
    def _resolve(self) -> "Immune":
        if self.recruitment_per_day > 0 and self.recruitment_half_cells is None:
            raise missing(
                "a number > 0 cells, since recruitment_per_day is given",
                ("recruitment_half_cells",),
            )
        if self.effector_cells is None:
            self.effector_cells = self.influx_cells_per_day / self.loss_per_day
        return self
