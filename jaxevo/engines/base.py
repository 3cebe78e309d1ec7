"""What an engine takes and gives: a `Problem` in, a `Trajectory` out, both plain data."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxevo.drug.schedule import Dose, Level
from jaxevo.host import HostParams
from jaxevo.model import Model


class Founder(NamedTuple):
    """`count` cells of one packed genotype at one site."""

    count: int
    genotype: int
    site: int


class Immigration(NamedTuple):
    """Cells that come from outside, such as metastatic seeding: `cells` at a time, at a rate."""

    events_per_day: float
    genotype: int = 0
    site: int = 0
    cells: int = 1  # per event


class Jump(NamedTuple):
    """What happens to every cell at one moment: surgery, radiation, or both.

    A cell survives with the kept fraction of its site, times the survival of `gray` Gy of radiation
    (`drug.damage`); each cell on its own.
    """

    day: float
    kept_fraction: tuple[float, ...] | None = None  # [site], 0..1; None keeps all
    gray: float = 0.0


class Line(NamedTuple):
    """A treatment that a policy may choose; its days count from the visit at which it is begun."""

    name: str
    doses: tuple[Dose, ...] = ()
    levels: tuple[Level, ...] = ()


class Rule(NamedTuple):
    """A decision at every visit, for ONE tumor: `decide(params, state, seen) -> (state, answer)`.

    `decide` is a pure JAX function, the same object for all studies, so that numbers never recompile.
    `seen` is an `engines.visits.Seen`: what was observed, nothing else. The answer of a policy is the
    share of every line that is given until the next visit, [line], >= 0; the answer of a safety rule
    is a factor on every drug, [drug], >= 0.
    """

    name: str
    decide: Callable[[Any, Any, Any], tuple[Any, Any]]
    start: Any = ()  # a pytree of numbers: the state at day 0
    params: Any = ()  # a pytree of numbers
    of_patient: bool = False  # whether `params` has a leading axis patient


class Arm(NamedTuple):
    """One treatment: what is given from day 0 on.

    With a policy, `doses` and `levels` are given whatever it decides, and a line as it decides.
    """

    name: str
    doses: tuple[Dose, ...]
    levels: tuple[Level, ...] = ()
    jumps: tuple[Jump, ...] = ()
    lines: tuple[Line, ...] = ()
    policy: Rule | None = None
    safety: Rule | None = None
    transduced_share: float | None = None  # of progenitors, in place of the host's own

    @property
    def decides(self) -> bool:
        """Whether doses depend on what is observed."""
        return self.policy is not None or self.safety is not None


class Visits(NamedTuple):
    """When the patient is seen, and what is observed then; None is not observed."""

    every: float = 28.0  # days between visits, from day 0 on
    scan_every: int = 1  # visits from one measurement of the burden to the next
    detection_cells: float = 1.0  # a burden below this is seen as 0
    noise_cv: float = 0.0  # of a measured burden: log-normal, median 1
    sequencing: float | None = None  # share of cells from which on an alteration is seen
    composition: float | None = None  # cells of a class from which on it is seen; 0 is perfect


class Limits(NamedTuple):
    """What the body may be given, by drug; None for no limits at all."""

    dose_mg: tuple[float, ...]  # of one administration (label maximum), infinite for none
    cumulative_mg: tuple[float, ...]  # of all together, infinite for none
    cumulative_mg_per_m2: tuple[float, ...] = ()  # likewise, times body surface; () for none


class Relapse(NamedTuple):
    """Which relapse is meant (see MODEL.md): what the `extinction` engine computes.

    kind "survival": any living cell on the day; "detection": the soft detection
    1 - E[exp(-Z/detection_cells)] on the day; "first_passage": a detection hazard of
    `detection_rate` per day and `detection_cells` cells, from day `assessed_from` on.
    """

    kind: str = "survival"
    detection_cells: float = 1e9
    assessed_from: float = 0.0
    detection_rate: float = 1.0


class Refused(ValueError):
    """An engine cannot represent the model; the sentence says why, and what could be done."""


class Record(NamedTuple):
    """What is written down, and how often (days; None for never)."""

    every: float = 1.0  # burden, sites and classes
    clones_every: float | None = None  # sizes of the largest clones
    snapshot_days: tuple[float, ...] = ()  # every cell, one by one
    concentration_every: float = 1 / 24
    max_classes: int = 64  # tracked one by one; the others are summed
    max_clones: int = 50
    origins: bool = True  # `clones`: where every clone came from, and the cells at the end by clone


class Problem(NamedTuple):
    """One study, ready for an engine. Replicate i depends on the seed and i, not on `replicates`."""

    model: Model
    founders: tuple[Founder, ...]
    arms: tuple[Arm, ...]
    seed: int
    replicates: int
    horizon: float  # days after the start of treatment
    sync: float  # days between syncs at most
    max_cells: int  # room per tumor
    treat_at_cells: int | None = None  # day 0 is when the tumor has this many cells
    stop_at_cells: int | None = None  # a tumor that reaches this is not followed further
    record: Record = Record()
    patients: tuple[Model, ...] = ()  # the model of each virtual patient; empty: one, with `model`
    founders_of: tuple[tuple[Founder, ...], ...] = ()  # of each patient; empty: `founders` in all
    immigration: tuple[Immigration, ...] = ()
    max_alterations: int | None = None  # of a tracked class, beyond a founder; None: all
    exact_below: int = 100  # `clones`: a tumor with fewer cells is followed event by event
    relapse: Relapse = Relapse()
    visits: Visits | None = None  # needed by arms that decide
    hosts: tuple[HostParams, ...] = ()  # of each patient, or of all; empty: nobody looks
    limits: Limits | None = None
    first_patient: int = 0  # number of the first of `models`, which names its random words
    still_below: float = (
        0.0  # `meanfield`: a type with fewer cells stands still until the next sync
    )

    def founders_in(self, patient: int) -> tuple[Founder, ...]:
        """The founders of one patient."""
        return self.founders_of[patient] if self.founders_of else self.founders

    def host_of(self, patient: int, arm: Arm) -> HostParams:
        """The marrow of one patient in one arm."""
        own = self.hosts[patient if len(self.hosts) > 1 else 0]
        if arm.transduced_share is None:
            return own
        return dataclasses.replace(own, transduced_share=np.asarray(arm.transduced_share))

    def of_patients(self, chosen: slice) -> "Problem":
        """The same for some of the patients, with their founders and marrow."""
        founders_of = self.founders_of[chosen]
        hosts = self.hosts[chosen] if len(self.hosts) > 1 else self.hosts
        return self._replace(patients=self.patients[chosen], founders_of=founders_of, hosts=hosts)

    @property
    def delivery_follows(self) -> bool:
        """Whether some site is the worse perfused the more cells it has."""
        return any(bool(np.any(np.isfinite(m.delivery.half_delivery))) for m in self.models)

    def goes_by_visits(self, arm: Arm) -> bool:
        """Whether concentrations in an arm depend on the tumor."""
        return arm.decides or (self.delivery_follows and bool(self.model.names.drugs))

    def with_visits(self) -> "Problem":
        """The same with a visit at every sync where delivery follows the burden and none are ordered."""
        if self.visits is None and self.delivery_follows:
            return self._replace(visits=Visits(every=self.sync))
        return self

    @property
    def models(self) -> tuple[Model, ...]:
        """The model of every patient; all share names, genome steps and other static parts."""
        return self.patients or (self.model,)


class Variable(NamedTuple):
    """One array of a trajectory with the names of its axes and its unit."""

    dims: tuple[str, ...]
    data: np.ndarray
    units: str
    long_name: str


Trajectory = dict[str, dict[str, Variable]]
"""Group name ("" for the root, "lineage", "cells") -> variable name -> Variable."""
