"""The study of all mechanisms, taken apart: one kind of cell, one site, a few drugs, one row switched off.

A `Row` is a mechanism or a feature of a site in `configs/mechanisms.toml`, with the settings that
switch it off. Cells of one kind at one site are treated for the first day of the study's own doses.
Between different rows nothing but numbers changes, so that all of them share one compilation.
"""

import math
from collections.abc import Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from scipy import stats

from jaxevo import Founder, Problem, Rates, genotype, load_study, simulate
from jaxevo.engines.grid import arm_course, arm_inputs
from jaxevo.engines.tables import mean_rates
from jaxevo.model import cast
from jaxevo.sites import crowding_factor
from tests import builders, laws
from tests.laws import Process
from tests.statistics import FALSE_FAIL, Rejected, TooFewSamples, assert_mean, normal_law

STUDY = Path(__file__).parent.parent / "configs" / "mechanisms.toml"

CELLS = 5000  # at the start of an experiment
REPLICATES = 12  # of each side: C(24, 12) = 2.7e6 ways to tell the two sides apart
DAYS = 1.0

# What every experiment shares: one day in one interval, room, and no crowding.
SHARED = (
    "study.horizon_days=1",
    "study.sync_hours=24",
    f"study.replicates={REPLICATES}",
    "study.max_cells=3e4",
    "alterations.DHFR_copies.max_level=1",
    *(f"sites.{site}.capacity_cells=inf" for site in ("lung", "stroma", "brain")),
    "sites.core.capacity_cells=1e15",  # no limit either, but one must be finite
)
NO_MUTATION = ("study.genetic_instability=0",)
NO_SWITCH = ("alterations.persister.on_per_day=0", "alterations.persister.off_per_day=0")
NO_INDUCTION = ("alterations.persister.induced_on_per_day.erlotinib=0",)
NO_WAKING = ("alterations.persister.induced_off_per_day.entinostat=0",)
NO_MIGRATION = tuple(
    f"sites.{site}.migration_per_day={{}}" for site in ("lung", "core", "stroma", "brain")
)
FIXED_KIND = (*NO_MUTATION, *NO_SWITCH, *NO_INDUCTION, *NO_WAKING)
STILL = (*FIXED_KIND, *NO_MIGRATION)  # cells keep their kind and their site
NO_COSTS = tuple(f"alterations.{name}.birth_cost=0" for name in ("MDR1", "T790M", "ER_loss"))


class Type(NamedTuple):
    """A kind of cell, by the one alteration that it carries, at a site."""

    kind: str | None = None
    site: str = "lung"


class Row(NamedTuple):
    """One row of the biology, and an experiment that shows it."""

    off: tuple[str, ...]  # settings that switch it off
    drugs: tuple[str, ...] = ()  # that are given, at the study's own doses
    cell: Type = Type()  # all cells
    protects: bool = True  # whether more cells survive when it is on


def altered(name: str, off: str, *drugs: str) -> Row:
    """A mechanism, switched off by one key of its alteration."""
    return Row((f"alterations.{name}.{off}",), drugs, Type(name))


KEPT_TARGET = (  # the alteration without its mechanism
    'mechanism = "fitness", inheritance = "mutation", probability_per_division = 1e-4, '
    "birth_cost = 0.05"
)
WAYS = {
    "reduced uptake": altered("carrier_loss", "influx_factor.erlotinib=1", "erlotinib"),
    "efflux": altered("MDR1", "amount=0", "paclitaxel"),
    "inactivation": altered("glutathione", "inactivation_per_h.cisplatin=0", "cisplatin"),
    "sequestration": altered("polyglutamate", "stored_ratio.methotrexate=0", "methotrexate"),
    "lost activation": altered("dCK_loss", "activation_factor.gemcitabine=1", "gemcitabine"),
    "altered target": altered("T790M", "kd_fold.erlotinib=1", "erlotinib"),
    "lost target": Row(
        (f"alterations.ER_loss={{ {KEPT_TARGET} }}",), ("tamoxifen",), Type("ER_loss")
    ),
    "target amplification": altered("DHFR_copies", "copies=0", "methotrexate"),
    "bypass": altered("MET_bypass", "share=0", "erlotinib"),
    "repair": altered("ERCC1", "repair_factor=1", "cisplatin"),
    "apoptosis evasion": altered("BCL2", "evaded_share=0", "cisplatin"),
    "quiescence": Row(
        (
            "alterations.persister.division_factor=1",
            "alterations.persister.natural_death_factor=1",
        ),
        ("paclitaxel",),
        Type("persister"),
    ),
}
FEATURES = {
    "poor perfusion": Row(("sites.core.delivered_fraction=1",), ("cisplatin",), Type(site="core")),
    "slow equilibration": Row(
        ("sites.core.equilibration_per_h=inf",), ("cisplatin",), Type(site="core")
    ),
    "less oxygen": Row(("sites.core.growth_factor=1",), (), Type(site="core"), protects=False),
    "matrix": Row(("sites.stroma.vessel_distance_um=0",), ("cisplatin",), Type(site="stroma")),
    "barrier": Row(
        ("sites.brain.barrier.permeability_per_h=inf",), ("methotrexate",), Type(site="brain")
    ),
    "pump at the barrier": Row(
        ("sites.brain.barrier.pump.MDR1=0",), ("paclitaxel",), Type(site="brain")
    ),
    "fibroblasts shield": Row(
        ("sites.stroma.shielded_share=0",), ("cisplatin",), Type(site="stroma")
    ),
    "fibroblasts support": Row(("sites.stroma.growth_factor=1",), (), Type(site="stroma")),
}
ROWS = WAYS | FEATURES


@cache
def problem_of(*settings: str) -> Problem:
    """The study with these settings, one day in the arm with all drugs."""
    built = load_study(STUDY, [*SHARED, *settings]).problem()
    return built._replace(arms=tuple(arm for arm in built.arms if arm.name == "all nine"))


def experiment(problem: Problem, kind: str | None, site: str, drugs=()) -> Problem:
    """Cells of one kind at one site under some of the drugs of the study."""
    model, (arm,) = problem.model, problem.arms
    index = {model.names.drugs.index(name) for name in drugs}
    doses = tuple(dose for dose in arm.doses if dose.drug in index)
    levels = tuple(level for level in arm.levels if level.drug in index)
    packed = genotype.pack(model.genome, {kind: 1} if kind else {})
    founder = Founder(CELLS, packed, model.names.sites.index(site))
    return problem._replace(founders=(founder,), arms=(arm._replace(doses=doses, levels=levels),))


def kinds(problem: Problem) -> tuple[str | None, ...]:
    """The unaltered cell and every cell with one alteration."""
    return (None, *problem.model.genome.names)


def concentrations(problem: Problem) -> np.ndarray:
    """Concentrations in the nodes of the one day, [node, site, drug], uM."""
    given = arm_inputs(problem.model, problem.arms[0], np.array([0.0, DAYS]))
    return arm_course(problem.model, given).site[0]


@partial(jax.jit, static_argnames="dtype")
def _mean_rates(model, levels, concentration, dtype):
    model, levels = cast(model, dtype), levels.astype(dtype)
    traits = jax.vmap(genotype.traits, (None, 0))(model.genome, levels)
    return mean_rates(model, traits, concentration.astype(dtype))


def rates_of(problem: Problem, *cells: dict[str, int]) -> Rates:
    """Rates of each kind of cell at each site, [kind, site], means over the day.

    The kinds are those of `kinds`, unless cells are given by their levels.
    """
    names = problem.model.genome.names
    cells = cells or tuple({kind: 1} if kind else {} for kind in kinds(problem))
    levels = np.array([[float(cell.get(name, 0)) for name in names] for cell in cells])
    found = _mean_rates(problem.model, levels, concentrations(problem), builders.real())
    return jax.tree.map(np.asarray, found)


def process_of(problem: Problem, types: Sequence[Type]) -> Process:
    """The branching process of cells of these types, which must be all that can arise."""
    rates = rates_of(problem)
    genome, sites = problem.model.genome, problem.model.names.sites
    place = [(kinds(problem).index(kind), sites.index(site)) for kind, site in types]
    conversion = np.zeros((len(types), len(types)))
    for (i, (kind, site)), (j, other) in product(enumerate(types), enumerate(types)):
        if kind == other.kind:
            conversion[i, j] = rates.migration_rate[place[i]][sites.index(other.site)]
        for step, rate in zip(genome.switches, rates.switching_rate[place[i]], strict=True):
            change = (None, genome.names[step.alteration])[:: step.change]
            if site == other.site and (kind, other.kind) == change:
                conversion[i, j] = rate
    pick = lambda rate: np.array([rate[at] for at in place], float)  # noqa: E731
    start = np.zeros(len(sites))
    for founder in problem.founders:
        start[founder.site] += founder.count
    crowding = np.asarray(crowding_factor(problem.model.sites, start))  # held through the one day
    birth = pick(rates.birth_rate) * crowding[[site for _, site in place]]
    return laws.process([DAYS], birth, pick(rates.death_rate), conversion=conversion)


class Outcome(NamedTuple):
    """Cells at the end in every replicate, and what the exact law says of one replicate."""

    cells: np.ndarray  # [replicate]
    mean: float
    deviation: float


@cache
def outcome(
    settings: tuple[str, ...],
    types: tuple[Type, ...],
    counted: tuple[Type, ...],
    drugs: tuple[str, ...] = (),
    seed: int = 1,
) -> Outcome:
    """Simulate cells of the first type, and count some of the types that arise.

    The law: first and second moments of the branching process whose rates are the model's.
    """
    problem = experiment(problem_of(*settings), *types[0], drugs)._replace(seed=seed)
    found = simulate(problem)[""]
    sites, genome = problem.model.names.sites, problem.model.genome
    if {t.kind for t in counted} == {t.kind for t in types}:  # all kinds, at some sites
        at = sorted({sites.index(t.site) for t in counted})
        cells = found["site_burden"].data[0, 0, :, -1, at].sum(axis=0)
    else:  # some kinds, everywhere
        packed = {genotype.pack(genome, {t.kind: 1} if t.kind else {}) for t in counted}
        at = np.isin(found["class"].data, list(packed))
        cells = found["class_count"].data[0, 0, :, -1][:, at].sum(axis=1)
    founders = [CELLS, *[0] * (len(types) - 1)]
    mean, covariance = laws.moments(process_of(problem, types), founders)
    weights = np.array([float(t in counted) for t in types])
    return Outcome(cells, weights @ mean, float(np.sqrt(weights @ covariance @ weights)))


def assert_follows(found: Outcome, detect: float) -> None:
    """The mean of the replicates is the law's; an error of a share `detect` is noticed."""
    if found.mean == 0:
        assert not found.cells.any()
        return
    law = normal_law(found.mean, found.deviation**2)
    assert_mean(found.cells, law, detect=detect * found.mean)


def assert_more(more: Outcome, fewer: Outcome) -> None:
    """Every replicate of one side has more cells than every replicate of the other.

    With one law on both sides that happens with probability 1/C(24, 12) = 4e-7, whatever the law.
    Refuses where the exact laws of the two sides would fail it with probability above 1e-6.
    """
    assert math.comb(len(more.cells) + len(fewer.cells), len(more.cells)) > 1 / FALSE_FAIL
    gap = (more.mean - fewer.mean) / math.hypot(more.deviation, fewer.deviation)
    if len(more.cells) * len(fewer.cells) * stats.norm.sf(gap) > FALSE_FAIL:
        raise TooFewSamples(f"the two sides are {gap:.3g} standard deviations apart only")
    if not min(more.cells) > max(fewer.cells):
        raise Rejected(f"{sorted(more.cells)} are not all more than {sorted(fewer.cells)}")
