"""Host: [host], the body of the patient: its size, and its marrow."""

from typing import Annotated, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from jaxevo.config.sentences import fault, missing
from jaxevo.config.tables import Table
from jaxevo.config.values import (
    Factor,
    Hours,
    Neutrophils,
    Number,
    PerMicromolar,
    PerName,
    Positive,
    Share,
    SquareMeters,
)

ByPump: TypeAlias = Annotated[
    dict[str, float], PlainValidator(PerName(Number(at_least=0.0), of="pump"))
]


class HostDrug(Table):
    """[host.drugs.X]: what a drug does to the marrow."""

    slope_per_um: PerMicromolar = 0.0
    growth_gain: Factor = 0.0
    growth_half_um: Annotated[float, PlainValidator(Number("uM", above=0.0))] | None = None

    @model_validator(mode="after")
    def _has_both_constants(self) -> "HostDrug":
        if self.growth_gain > 0 and self.growth_half_um is None:
            raise missing("a number > 0 uM, since growth_gain is given", ("growth_half_um",))
        if self.growth_half_um is not None and self.growth_gain == 0:
            raise fault("needs growth_gain > 0 beside it", ("growth_half_um",))
        return self


class Host(Table):
    """[host]: the body of the patient. The defaults are of Friberg et al. 2002."""

    neutrophils_per_l_1e9: Neutrophils = 5.05
    transit_h: Hours = 88.7
    feedback: Positive = 0.161
    body_surface_m2: SquareMeters | None = None
    marrow_pump: ByPump = Field(default_factory=dict)
    transduced_share: Share = 0.0
    transduced_pump: ByPump = Field(default_factory=dict)
    drugs: dict[str, HostDrug] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_consistent(self) -> "Host":
        if self.transduced_share > 0 and not self.transduced_pump:
            raise missing(
                "a table that gives each pump a number >= 0, since transduced_share is given",
                ("transduced_pump",),
            )
        return self
