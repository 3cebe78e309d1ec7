"""Draft: a study as it was written. Each of its tables is right by itself."""

from pydantic import Field

from jaxevo.config.alterations import AnyAlteration
from jaxevo.config.doses import Arm
from jaxevo.config.tables import (
    Drug,
    General,
    Patients,
    Pump,
    Record,
    Relapse,
    Site,
    Table,
    Target,
    Tumor,
)


class Draft(Table):
    """All tables of a study file."""

    study: General
    tumor: Tumor
    sites: dict[str, Site] = Field(default_factory=dict)
    drugs: dict[str, Drug] = Field(default_factory=dict)
    targets: dict[str, Target] = Field(default_factory=dict)
    pumps: dict[str, Pump] = Field(default_factory=dict)
    alterations: dict[str, AnyAlteration] = Field(default_factory=dict)
    patients: Patients = Patients()
    relapse: Relapse = Relapse()
    record: Record = Record()
    arms: list[Arm]
