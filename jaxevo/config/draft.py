"""Draft: a study as it was written. Each of its tables is right by itself."""

from pydantic import Field

from jaxevo.config.alterations import AnyAlteration
from jaxevo.config.arms import Arm
from jaxevo.config.doses import Calendar
from jaxevo.config.host import Host
from jaxevo.config.immune import Immune
from jaxevo.config.screen import Screen
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
from jaxevo.config.trial import Trial
from jaxevo.config.visits import Visits


class Draft(Table):
    """All tables of a study file."""

    study: General
    tumor: Tumor
    sites: dict[str, Site] = Field(default_factory=dict)
    drugs: dict[str, Drug] = Field(default_factory=dict)
    targets: dict[str, Target] = Field(default_factory=dict)
    pumps: dict[str, Pump] = Field(default_factory=dict)
    alterations: dict[str, AnyAlteration] = Field(default_factory=dict)
    immune: Immune | None = None
    patients: Patients = Patients()
    relapse: Relapse = Relapse()
    record: Record = Record()
    visits: Visits | None = None
    host: Host | None = None
    trial: Trial | None = None
    screen: Screen | None = None
    arms: list[Arm]

    @property
    def calendar(self) -> Calendar:
        """What patterns of days are laid on."""
        return Calendar(self.study.horizon_days, self.study.first_weekday)


ONE_SITE = "tumor"


def site_names(study: Draft) -> list[str]:
    """The sites, in order; one named `tumor` where the study names none."""
    return list(study.sites) or [ONE_SITE]
