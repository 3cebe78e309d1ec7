"""Tables: the keys of a study file, their units, their defaults. `alterations` and `doses` have more.

Every table also takes `source` (where its numbers come from) and `assumed` (why a number without a
source was chosen). After a study is loaded its tables hold the resolved form: shorthands are spelled
out, and what every drug or target shares stands with each of them.
"""

import itertools
import math
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, model_validator

from jaxevo.config.sentences import expected, fault, hint, missing
from jaxevo.config.values import (
    AtLeastOne,
    Capacity,
    Correlation,
    Count,
    CountOrNone,
    Day,
    Days,
    Factor,
    FasterPerDay,
    FasterPerHour,
    Flag,
    Hours,
    Integer,
    Length,
    Liters,
    LitersPerHour,
    Micrometers,
    Micromolar,
    Milligrams,
    MilligramsPerM2,
    MolarMass,
    Need,
    Number,
    PerDay,
    PerGray,
    PerGray2,
    PerHour,
    PerName,
    Positive,
    Share,
    Text,
    Weekday,
    Words,
    phrase_of,
)

ENGINES = ("cells", "clones", "meanfield", "extinction")
GROWERS = ("clones",)
CROWDINGS = ("none", "logistic", "gompertz")
COMBINATIONS = ("bliss", "loewe")
MUTATING_DAUGHTERS = ("one", "both")
RELAPSES = ("survival", "detection", "first_passage")

ByDrug: TypeAlias = dict[str, float]


class Table(BaseModel):
    """A table of a study file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid")

    source: Text | None = None
    assumed: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_known_and_needed_keys(cls, raw: object) -> object:
        if not isinstance(raw, dict):
            raise expected("a table", raw)
        for key in raw:
            if key not in cls.model_fields:
                raise fault(cls.about_unknown(key), (key,))
        for key, field in cls.model_fields.items():
            if field.is_required() and key not in raw:
                raise missing(phrase_of(field), (key,))
        return raw

    @classmethod
    def about_unknown(cls, key: str) -> str:
        """The sentence about a key that this table does not have."""
        everywhere = list(Table.model_fields)
        own = [name for name in cls.model_fields if name not in everywhere]
        return f"is unknown{hint(key, own + everywhere)}"


class General(Table):
    """[study]: what is simulated, how often, for how long."""

    title: Text
    engine: Annotated[str, BeforeValidator(Words(ENGINES))] = "cells"
    seed: Annotated[int, BeforeValidator(Integer(0, 2**63 - 1))] = 0
    replicates: Annotated[int, BeforeValidator(Integer(1, 10_000_000))] = 1
    horizon_days: Days
    first_weekday: Weekday = "Mon"
    sync_hours: Hours | None = None  # resolved: 6 or 24, or the horizon where that is shorter
    max_cells: Count | None = None  # resolved: room for twice the largest tumor foreseen
    max_alterations: Annotated[int, BeforeValidator(Integer(0, 2**32))] | None = None
    exact_below_cells: CountOrNone = 100
    grow_with: Annotated[str, BeforeValidator(Words(GROWERS))] | None = None
    combination: Annotated[str, BeforeValidator(Words(COMBINATIONS))] = "bliss"
    mutating_daughters: Annotated[str, BeforeValidator(Words(MUTATING_DAUGHTERS))] = "one"
    genetic_instability: Factor = 1.0


class Mixture(Table):
    """One row of `tumor.mixture`: cells of one genotype at one site."""

    cells: Count
    genotype: Annotated[
        dict[str, int], PlainValidator(PerName(Integer(0, 2**32), of="alteration"))
    ] = {}
    site: Text | None = None  # resolved: the first site


class Immigration(Table):
    """One row of `tumor.immigration`: cells that come from outside, again and again."""

    events_per_day: FasterPerDay
    cells: Count = 1
    genotype: Annotated[
        dict[str, int], PlainValidator(PerName(Integer(0, 2**32), of="alteration"))
    ] = {}
    site: Text | None = None  # resolved: the first site


class Tumor(Table):
    """[tumor]: how it starts and grows."""

    founders: Count | None = None  # resolved: 1 where no mixture is given
    mixture: list[Mixture] | None = None
    immigration: list[Immigration] = []
    treat_at_cells: Count | None = None
    stop_at_cells: Count | None = None
    birth_rate_per_day: PerDay
    death_rate_per_day: PerDay
    crowding: Annotated[str, BeforeValidator(Words(CROWDINGS))] | None = None
    capacity_cells: Capacity | None = None  # resolved: moves to the one site
    radiation_alpha_per_gy: PerGray = 0.0
    radiation_beta_per_gy2: PerGray2 = 0.0


class Barrier(Table):
    """[sites.X.barrier]: a blood-brain barrier."""

    permeability_per_h: Annotated[
        float | ByDrug,
        PlainValidator(
            PerName(Number("per hour", above=0.0, may_be_infinite=True), or_number=True)
        ),
    ]
    pump: Annotated[dict[str, float], PlainValidator(PerName(Number(at_least=0.0), of="pump"))] = {}


class Site(Table):
    """[sites.X]: a place where cells live."""

    capacity_cells: Capacity = math.inf
    growth_factor: Factor = 1.0
    shielded_share: Share = 0.0
    effector_infiltration: Factor = 1.0
    suppressor_infiltration: Factor = 1.0
    delivered_fraction: Annotated[
        float | ByDrug, PlainValidator(PerName(Number(at_least=0.0), or_number=True))
    ] = 1.0
    equilibration_per_h: Annotated[
        float | ByDrug,
        PlainValidator(
            PerName(Number("per hour", above=0.0, may_be_infinite=True), or_number=True)
        ),
    ] = math.inf
    vessel_distance_um: Micrometers = 0.0
    half_delivery_cells: Annotated[
        float, BeforeValidator(Number("cells", above=0.0, may_be_infinite=True))
    ] = math.inf
    migration_per_day: Annotated[
        dict[str, float], PlainValidator(PerName(Number("per day", at_least=0.0), of="site"))
    ] = {}
    barrier: Barrier | None = None


class Peripheral(Table):
    """One row of `plasma.peripheral`: a compartment, by volume and clearance or by rate constants."""

    volume_l: Liters | None = None
    clearance_l_per_h: LitersPerHour | None = None
    k12_per_h: FasterPerHour | None = None
    k21_per_h: FasterPerHour | None = None

    @model_validator(mode="after")
    def _is_given_in_one_way(self) -> "Peripheral":
        by_rates = self.k12_per_h is not None or self.k21_per_h is not None
        pair = ("k12_per_h", "k21_per_h") if by_rates else ("volume_l", "clearance_l_per_h")
        other = ("volume_l", "clearance_l_per_h") if by_rates else ("k12_per_h", "k21_per_h")
        for key in pair:
            if getattr(self, key) is None:
                raise missing("volume_l and clearance_l_per_h, or k12_per_h and k21_per_h", (key,))
        for key in other:
            if getattr(self, key) is not None:
                raise fault("stands beside k12_per_h and k21_per_h; expected one pair only", (key,))
        return self


class Plasma(Table):
    """[drugs.X.plasma]: pharmacokinetics."""

    clearance_l_per_h: LitersPerHour
    volume_l: Liters
    absorption_per_h: FasterPerHour | None = None
    bioavailability: Share = 1.0
    unbound_fraction: Share = 1.0
    peripheral: list[Peripheral] = []  # resolved: by volume and clearance

    @model_validator(mode="after")
    def _resolve(self) -> "Plasma":
        if len(self.peripheral) > 2:
            raise expected("at most 2 peripheral compartments", self.peripheral, ("peripheral",))
        for row in self.peripheral:
            if row.k12_per_h is not None and row.k21_per_h is not None:
                row.clearance_l_per_h = row.k12_per_h * self.volume_l
                row.volume_l = row.clearance_l_per_h / row.k21_per_h
                row.k12_per_h = row.k21_per_h = None
        return self


class Target(Table):
    """[targets.X] or [drugs.X.effect]: what lost output of a target does to a cell."""

    max_birth_inhibition: Share = 0.0
    birth_half_odds: Positive = 1.0
    birth_hill: Positive = 1.0
    max_death_per_day: PerDay = 0.0
    death_half_odds: Positive = 1.0
    death_hill: Positive = 1.0
    apoptotic: Flag = True
    cycle_specific: Flag = False
    dna: Flag = False
    amount_um: Micromolar = 0.0
    need: Need = 1.0


class Drug(Table):
    """[drugs.X]: a drug, from its dose to its target."""

    molecular_weight_g_per_mol: MolarMass | None = None
    kd_um: Annotated[
        float | ByDrug,
        PlainValidator(PerName(Number("uM", at_least=0.0), of="target", or_number=True)),
    ] = 0.0  # resolved: a table
    target: Text | None = None  # resolved: moves into kd_um
    pool: Annotated[str, BeforeValidator(Words(("open", "trapped")))] = "open"
    max_dose_mg: Milligrams | None = None
    max_cumulative_mg: Milligrams | None = None
    max_cumulative_mg_per_m2: MilligramsPerM2 | None = None
    uptake: Annotated[str, BeforeValidator(Words(("passive", "carrier")))] | None = None
    carrier_share: Share | None = None  # resolved from uptake, 0 by default
    exchange_per_h: FasterPerHour | None = None  # 60 by default; resolved: moves into the next two
    influx_per_h: PerHour | None = None
    efflux_per_h: FasterPerHour | None = None
    prodrug: Flag = False
    activation_per_h: PerHour | None = None
    active_loss_per_h: FasterPerHour | None = None
    penetration_length_um: Length | None = None
    plasma: Plasma | None = None
    effect: Target | None = None  # resolved: moves to [targets.X]

    @model_validator(mode="after")
    def _resolve(self) -> "Drug":
        self._resolve_uptake()
        self._resolve_exchange()
        for key in ("activation_per_h", "active_loss_per_h"):
            is_given = getattr(self, key) is not None
            if self.prodrug and not is_given:
                raise missing("a number per hour, since this drug is a prodrug", (key,))
            if is_given and not self.prodrug:
                raise fault("belongs to a prodrug; expected `prodrug = true` beside it", (key,))
        if self.plasma is not None and self.molecular_weight_g_per_mol is None:
            raise missing(
                "a number > 0 g per mol, which turns doses in mg into concentrations",
                ("molecular_weight_g_per_mol",),
            )
        if self.penetration_length_um is None:
            mass = self.molecular_weight_g_per_mol or REFERENCE_MASS
            self.penetration_length_um = 100.0 * (REFERENCE_MASS / mass) ** 0.5
        return self

    def _resolve_uptake(self) -> None:
        if self.uptake is not None and self.carrier_share is not None:
            raise fault("stands beside uptake; expected one of the two", ("carrier_share",))
        if self.carrier_share is None:
            self.carrier_share = 1.0 if self.uptake == "carrier" else 0.0
        self.uptake = None

    def _resolve_exchange(self) -> None:
        pair = ("influx_per_h", "efflux_per_h")
        given = [key for key in pair if getattr(self, key) is not None]
        if given and self.exchange_per_h is not None:
            raise fault("stands beside exchange_per_h; expected one way only", (given[0],))
        if len(given) == 1:
            other = pair[1 - pair.index(given[0])]
            raise missing(f"a number per hour, since {given[0]} is given", (other,))
        if not given:
            rate = 60.0 if self.exchange_per_h is None else self.exchange_per_h
            self.influx_per_h = self.efflux_per_h = rate
        self.exchange_per_h = None


REFERENCE_MASS = 500.0  # g/mol, the drug whose penetration length is 100 um


class Pump(Table):
    """[pumps.X]: an efflux pump, its substrates and its inhibitors."""

    baseline: Factor = 0.0
    vmax_um_per_h: Annotated[
        ByDrug, PlainValidator(PerName(Number("uM per hour", at_least=0.0)))
    ] = {}
    km_um: Annotated[ByDrug, PlainValidator(PerName(Number("uM", above=0.0)))] = {}
    inhibited_by_ki_um: Annotated[ByDrug, PlainValidator(PerName(Number("uM", above=0.0)))] = {}

    @model_validator(mode="after")
    def _has_both_constants(self) -> "Pump":
        for drug in self.vmax_um_per_h:
            if drug not in self.km_um:
                raise missing(
                    "a number > 0 uM, since vmax_um_per_h names this drug", ("km_um", drug)
                )
        for drug in self.km_um:
            if drug not in self.vmax_um_per_h:
                raise fault("names a drug that vmax_um_per_h does not", ("km_um", drug))
        return self


class Relapse(Table):
    """[relapse]: which relapse the `extinction` engine computes the probability of."""

    kind: Annotated[str, BeforeValidator(Words(RELAPSES))] = "survival"
    detection_cells: Count | None = None  # resolved: 1e9 where the kind reads it
    assessed_from_day: Day | None = None  # resolved: 0 for first passage
    detection_rate_per_day: FasterPerDay | None = None  # resolved: 1 for first passage

    @model_validator(mode="after")
    def _resolve(self) -> "Relapse":
        owners = {
            "detection_cells": ("detection", "first_passage"),
            "assessed_from_day": ("first_passage",),
            "detection_rate_per_day": ("first_passage",),
        }
        for key, kinds in owners.items():
            if getattr(self, key) is not None and self.kind not in kinds:
                names = " or ".join(f'"{kind}"' for kind in kinds)
                raise fault(f'belongs to kind = {names}, not to "{self.kind}"', (key,))
        if self.kind != "survival" and self.detection_cells is None:
            self.detection_cells = DETECTION_CELLS
        if self.kind == "first_passage":
            self.assessed_from_day = self.assessed_from_day or 0.0
            self.detection_rate_per_day = self.detection_rate_per_day or 1.0
        return self


DETECTION_CELLS = 10**9
SAMPLINGS = ("random", "sobol")
MOST_PATIENTS = 10_000_000


class Variation(Table):
    """[patients.vary.X]: how one number of the study differs between patients."""

    cv: Positive
    above: Positive | None = None
    below: Positive | None = None

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "Variation":
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise fault(
                f"expected more than `above` ({self.above:g}), got {self.below:g}", ("below",)
            )
        return self


class Patients(Table):
    """[patients]: virtual patients, each with numbers of its own."""

    count: Annotated[int, BeforeValidator(Integer(1, MOST_PATIENTS))] = 1
    sampling: Annotated[str, BeforeValidator(Words(SAMPLINGS))] = "random"
    vary: dict[str, Variation] = {}
    correlations: list[Annotated[list[Any], BeforeValidator(Correlation())]] = []
    file: Text | None = None  # resolved: moves into values
    values: dict[str, list[Annotated[float, BeforeValidator(Number())]]] = {}

    @model_validator(mode="after")
    def _resolve(self) -> "Patients":
        if self.file is not None and self.values:
            raise fault("stands beside values; expected one of the two", ("file",))
        if self.file is not None:
            raise fault("is read where a study is loaded from a file", ("file",))
        for name, column in self.values.items():
            at = ("values", name)
            if name in self.vary:
                raise fault("is in patients.vary as well; expected one of the two", at)
            if not 1 <= len(column) <= MOST_PATIENTS:
                raise expected("a number for each patient", column, at)
            if "count" not in self.model_fields_set:
                self.count = len(column)
            if len(column) != self.count:
                raise expected(f"numbers of {self.count} patients", column, at)
        return self


class Record(Table):
    """[record]: what is written down, and how often."""

    every_days: Days = 1.0
    clones_every_days: Days | None = None
    snapshot_days: list[Day] = []
    concentration_every_h: Hours = 1.0
    max_classes: AtLeastOne = 64
    max_clones: AtLeastOne = 50

    @model_validator(mode="after")
    def _is_sorted(self) -> "Record":
        for i, (day, after) in enumerate(itertools.pairwise(self.snapshot_days)):
            if after <= day:
                raise fault(
                    f"expected days in rising order, got {after:g} after {day:g}",
                    ("snapshot_days", i + 1),
                )
        return self
