"""Alterations: [alterations.X], a mechanism (what one level does) and an inheritance (how it comes).

One class per mechanism and one per inheritance, each with its keys and with what it writes into row
j of the genome. A table of a study is checked against the class that joins the two. A new mechanism
is a class here and a line in MECHANISMS.
"""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field, PlainValidator, SerializeAsAny, model_validator

from jaxevo.config.sentences import Path, expected, fault, hint, missing, unknown_name
from jaxevo.config.tables import ByDrug, Drug, Table
from jaxevo.config.values import (
    AtLeastOne,
    Factor,
    Number,
    PerDay,
    PerName,
    Positive,
    Probability,
    Share,
    Text,
    Words,
)

if TYPE_CHECKING:
    from jaxevo.genotype import Genome

HOURS = 24.0  # in a day

Factors: TypeAlias = Annotated[ByDrug, PlainValidator(PerName(Number(at_least=0.0, at_most=1.0)))]
Ratios: TypeAlias = Annotated[ByDrug, PlainValidator(PerName(Number(at_least=0.0)))]
Folds: TypeAlias = Annotated[ByDrug, PlainValidator(PerName(Number(above=0.0)))]
HourlyRates: TypeAlias = Annotated[
    ByDrug, PlainValidator(PerName(Number("per hour", at_least=0.0)))
]
DailyRates: TypeAlias = Annotated[ByDrug, PlainValidator(PerName(Number("per day", at_least=0.0)))]
Concentrations: TypeAlias = Annotated[ByDrug, PlainValidator(PerName(Number("uM", above=0.0)))]
AtLeastNormal: TypeAlias = Annotated[float, PlainValidator(Number(at_least=1.0))]


class Axes(NamedTuple):
    """Name -> index along each axis of the model."""

    sites: dict[str, int]
    drugs: dict[str, int]
    pumps: dict[str, int]
    targets: dict[str, int]


def fill(row: np.ndarray, index: Mapping[str, int], values: Mapping[str, float]) -> None:
    """Write named values into one row of an array."""
    for name, value in values.items():
        row[index[name]] = value


class Row(NamedTuple):
    """Row j of a genome: everything about one alteration."""

    genome: "Genome"
    j: int
    axes: Axes

    def put(self, leaf: str, value: float) -> None:
        """Write the one value that the alteration has in a leaf."""
        getattr(self.genome, leaf)[self.j] = value

    def put_drugs(self, leaf: str, values: Mapping[str, float]) -> None:
        """Write the values of the drugs that are named."""
        fill(getattr(self.genome, leaf)[self.j], self.axes.drugs, values)


class Alteration(Table):
    """What every alteration has."""

    mechanism: Text
    inheritance: Text
    max_level: AtLeastOne
    birth_cost: Share = 0.0

    # whether genetic instability multiplies the probabilities of its steps
    is_mutating: ClassVar[bool] = True

    def act(self, row: Row) -> None:
        """Write what one level does."""

    def inherit(self, row: Row) -> None:
        """Write how a level is gained and lost."""

    def check(self, drugs: Mapping[str, Drug], at: Path) -> None:
        """Refuse what cannot act, given the drugs of the study; `at` is where this table stands."""

    def largest_step(self) -> tuple[str, float]:
        """Probability of a step at one division, at the level where it is largest, and its key."""
        return "inheritance", 0.0

    @classmethod
    def about_unknown(cls, key: str) -> str:
        owners = MECHANISMS | INHERITANCES
        takers = [f'"{name}"' for name, table in owners.items() if key in own_keys(table)]
        if not takers:
            return super().about_unknown(key)
        names = [kind.__name__ for kind in cls.__bases__]
        mine = [f'"{name}"' for name, table in owners.items() if table.__name__ in names]
        return f"belongs to {' or '.join(takers)}, not to {' with '.join(mine)}"


class ReducedUptake(Alteration):
    """Carrier-borne influx times a factor."""

    influx_factor: Factors

    def act(self, row):
        row.put_drugs("influx_factor", self.influx_factor)


class Efflux(Alteration):
    """More of a pump, in multiples of its table's capacity."""

    pump: Text
    amount: Factor = 1.0

    def act(self, row):
        row.genome.pump_amount[row.j, row.axes.pumps[self.pump]] = self.amount


class Inactivation(Alteration):
    """First-order loss of active drug."""

    inactivation_per_h: HourlyRates

    def act(self, row):
        rates = {name: rate * HOURS for name, rate in self.inactivation_per_h.items()}
        row.put_drugs("inactivation_rate", rates)


class Sequestration(Alteration):
    """Drug stored in the cell per free drug."""

    stored_ratio: Ratios

    def act(self, row):
        row.put_drugs("storage_ratio", self.stored_ratio)

    def check(self, drugs, at):
        for name in self.stored_ratio:
            if drugs[name].pool == "open":
                raise fault(
                    "stores a drug whose pool is open, where transport refills what is stored; "
                    f'expected pool = "trapped" in [drugs.{name}]',
                    (*at, "stored_ratio", name),
                )


class LostActivation(Alteration):
    """Activation of a prodrug times a factor."""

    activation_factor: Factors

    def act(self, row):
        row.put_drugs("activation_factor", self.activation_factor)

    def check(self, drugs, at):
        for name in self.activation_factor:
            if not drugs[name].prodrug:
                raise fault(
                    f"names a drug that is no prodrug; expected prodrug = true in [drugs.{name}]",
                    (*at, "activation_factor", name),
                )


class AlteredTarget(Alteration):
    """Dissociation constant times a fold."""

    kd_fold: Folds

    def act(self, row):
        row.put_drugs("kd_fold", self.kd_fold)

    def check(self, drugs, at):
        for name in self.kd_fold:
            kd = drugs[name].kd_um
            if not any(kd.values() if isinstance(kd, dict) else [kd]):
                raise fault(
                    f"multiplies a kd_um of 0; expected kd_um > 0 in [drugs.{name}], "
                    'or the mechanism "lost_target"',
                    (*at, "kd_fold", name),
                )


class LostTarget(Alteration):
    """The target is gone, and the cell no longer needs it."""

    target: Text

    def act(self, row):
        row.genome.lost_target[row.j, row.axes.targets[self.target]] = 1.0


class TargetAmplification(Alteration):
    """More target, in multiples of the normal amount."""

    target: Text
    copies: Factor = 1.0

    def act(self, row):
        row.genome.target_copies[row.j, row.axes.targets[self.target]] = self.copies


class Bypass(Alteration):
    """A share of a target's output takes another route, by default one that no drug reaches."""

    target: Text
    share: Share
    through: Text | None = None

    def act(self, row):
        index = row.axes.targets
        route = len(index) if self.through is None else index[self.through]
        row.genome.bypass_share[row.j, index[self.target], route] = self.share

    def check(self, drugs, at):
        super().check(drugs, at)
        if self.through == self.target:
            raise fault("is the target that it bypasses; expected another", (*at, "through"))


class Repair(Alteration):
    """DNA damage divided by a factor."""

    repair_factor: AtLeastNormal

    def act(self, row):
        row.put("repair_factor", self.repair_factor)


class ApoptosisEvasion(Alteration):
    """A share of the death signal is ignored."""

    evaded_share: Share

    def act(self, row):
        row.put("evaded_share", self.evaded_share)


class ImmuneEvasion(Alteration):
    """Less killing by effector cells: lost antigen, or a ligand of their checkpoint."""

    antigen_factor: Share = 1.0
    ligand_share: Share = 0.0

    def act(self, row):
        row.put("antigen_factor", self.antigen_factor)
        row.put("ligand_share", self.ligand_share)


class Quiescence(Alteration):
    """Rare division, slower turnover, and less harm by radiation."""

    division_factor: Share
    natural_death_factor: Factor = 1.0
    radiation_factor: Factor = 1.0

    def act(self, row):
        row.put("division_factor", self.division_factor)
        row.put("natural_death_factor", self.natural_death_factor)
        row.put("radiation_factor", self.radiation_factor)


class GeneticInstability(Alteration):
    """Every mutation probability times a factor."""

    mutation_factor: Positive

    def act(self, row):
        row.put("mutation_factor", self.mutation_factor)


class Fitness(Alteration):
    """Nothing but a birth cost."""


class Mutation(Alteration):
    """Gained at a division, for good."""

    max_level: AtLeastOne = 1
    probability_per_division: Probability

    def inherit(self, row):
        row.put("first_gain_probability", self.probability_per_division)
        row.put("gain_probability", self.probability_per_division)

    def largest_step(self):
        return "probability_per_division", self.probability_per_division


class Amplification(Alteration):
    """Copies gained and lost one by one, at divisions."""

    gain_probability_per_division: Probability
    loss_probability_per_division: Probability
    first_gain_probability_per_division: Probability | None = None  # resolved: as the other gains

    @model_validator(mode="after")
    def _resolve(self) -> "Amplification":
        self.first_gain_probability_per_division = self.first_gain
        return self

    @property
    def first_gain(self) -> float:
        """Probability of the step from level 0."""
        own = self.first_gain_probability_per_division
        return self.gain_probability_per_division if own is None else own

    def inherit(self, row):
        row.put("first_gain_probability", self.first_gain)
        row.put("gain_probability", self.gain_probability_per_division)
        row.put("loss_probability", self.loss_probability_per_division)

    def largest_step(self):
        loss = self.loss_probability_per_division
        further = self.gain_probability_per_division if self.max_level > 1 else 0.0
        return "gain_probability_per_division", max(self.first_gain, further + loss)


class Epigenetic(Alteration):
    """Switched on and off at rates per day; drugs can induce both."""

    max_level: AtLeastOne = 1
    on_per_day: PerDay
    off_per_day: PerDay
    induced_on_per_day: DailyRates = Field(default_factory=dict)
    induced_off_per_day: DailyRates = Field(default_factory=dict)
    induction_ec50_um: Concentrations = Field(default_factory=dict)

    def inherit(self, row):
        row.put("on_rate", self.on_per_day)
        row.put("off_rate", self.off_per_day)
        row.put_drugs("induced_on_rate", self.induced_on_per_day)
        row.put_drugs("induced_off_rate", self.induced_off_per_day)
        row.put_drugs("induction_ec50", self.induction_ec50_um)

    def check(self, drugs, at):
        super().check(drugs, at)
        inducers = self.induced_on_per_day | self.induced_off_per_day
        for name in inducers:
            if name not in self.induction_ec50_um:
                raise missing(
                    f"a number > 0 uM, since {name} induces", (*at, "induction_ec50_um", name)
                )
        for name in self.induction_ec50_um:
            if name not in inducers:
                raise fault(
                    "names a drug that neither induced_on_per_day nor induced_off_per_day names",
                    (*at, "induction_ec50_um", name),
                )


class Hierarchy(Alteration):
    """Gained at divisions on the way down a hierarchy, by one daughter or by both."""

    max_level: AtLeastOne = 1
    asymmetric_probability_per_division: Probability
    symmetric_probability_per_division: Probability

    is_mutating: ClassVar[bool] = False

    def inherit(self, row):
        row.put("asymmetric_probability", self.asymmetric_probability_per_division)
        row.put("symmetric_probability", self.symmetric_probability_per_division)

    def largest_step(self):
        both = self.symmetric_probability_per_division
        key = "asymmetric_probability_per_division"
        return key, self.asymmetric_probability_per_division + both


MECHANISMS: dict[str, type[Alteration]] = {
    "reduced_uptake": ReducedUptake,
    "efflux": Efflux,
    "inactivation": Inactivation,
    "sequestration": Sequestration,
    "lost_activation": LostActivation,
    "altered_target": AlteredTarget,
    "lost_target": LostTarget,
    "target_amplification": TargetAmplification,
    "bypass": Bypass,
    "repair": Repair,
    "apoptosis_evasion": ApoptosisEvasion,
    "immune_evasion": ImmuneEvasion,
    "quiescence": Quiescence,
    "genetic_instability": GeneticInstability,
    "fitness": Fitness,
}
INHERITANCES: dict[str, type[Alteration]] = {
    "mutation": Mutation,
    "amplification": Amplification,
    "epigenetic": Epigenetic,
    "hierarchy": Hierarchy,
}


def own_keys(table: type[Alteration]) -> set[str]:
    """Keys of a mechanism or an inheritance beside those that every alteration has."""
    return set(table.model_fields) - set(Alteration.model_fields)


@functools.cache
def alteration_class(mechanism: str, inheritance: str) -> type[Alteration]:
    """The table of one mechanism inherited in one way."""
    bases = (INHERITANCES[inheritance], MECHANISMS[mechanism])
    return type("".join(base.__name__ for base in bases), bases, {"__module__": __name__})


def choose(raw: object) -> Alteration:
    """Check a table of [alterations] against the class for its mechanism and inheritance."""
    if not isinstance(raw, dict):
        raise expected("a table", raw)
    tables = MECHANISMS | INHERITANCES
    keys = set(Alteration.model_fields).union(*(table.model_fields for table in tables.values()))
    for key in raw:
        if key not in keys:
            raise fault(f"is unknown{hint(key, sorted(keys))}", (key,))
    for key, known in (("mechanism", MECHANISMS), ("inheritance", INHERITANCES)):
        if key not in raw:
            raise missing(Words(tuple(known)).phrase, (key,))
        if not isinstance(raw[key], str) or raw[key] not in known:
            article = "an" if key[0] in "aeiou" else "a"
            raise unknown_name(f"{article} {key}", raw[key], known, (key,))
    return alteration_class(raw["mechanism"], raw["inheritance"]).model_validate(raw)


AnyAlteration: TypeAlias = SerializeAsAny[Annotated[Alteration, PlainValidator(choose)]]
