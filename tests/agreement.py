"""Random small models, each built twice: for the engines, and as a `Twin` with tables of its own.

A *batch* is one problem whose virtual patients are models of the same shape with other parameters, so
that one compiled kernel serves them all; founders, schedule, jumps and immigration belong to the batch.
Two families: models of the stations (alterations of every inheritance, drugs with K_d, sites), and laws
of the user's own on arbitrary graphs of classes. Up to 6 classes, 2 sites, 3 drugs and 5 segments of
levels. The drawing is seeded by the batch's number alone. A model is kept if it tells something: with
probability .02 to .98 no cell is left at the end, and 1 to 120 cells are expected then.

The twin's tables are written from MODEL.md in NumPy; only containers of jaxevo are used.
"""

import itertools
from typing import NamedTuple

import numpy as np

from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Immigration, Jump, Problem, Record
from jaxevo.model import Model
from tests import twins
from tests.agreement_graphs import draw_graph
from tests.agreement_shapes import Setting, Shape, Tables
from tests.agreement_stations import draw_stations
from tests.twins import Twin

SEED = 20240608
PATIENTS = 10  # models of a batch
SEGMENTS = 5
CANDIDATES = 60  # drawn at a time, of which those are kept that tell something


class Batch(NamedTuple):
    """Ten models: a problem whose patients they are, and their twins, types class * sites + site."""

    shape: Shape
    problem: Problem
    twin: Twin
    genotypes: list[int]  # [class] that are followed; after their types comes the one outside


SHAPES = (
    Shape("one mutation", ("tumor",), 1, (("m", "mutation", 1),)),
    Shape("copies", ("tumor",), 2, (("c", "amplification", 2), ("m", "mutation", 1)),
          is_both=True, start=1),
    Shape("switch and mutation", ("a", "b"), 3, (("e", "epigenetic", 1), ("m", "mutation", 1))),
    Shape("hierarchy", ("tumor",), 2, (("h", "hierarchy", 2), ("m", "mutation", 1)), has_jump=True),
    Shape("hierarchy, both daughters", ("a", "b"), 1, (("h", "hierarchy", 1), ("m", "mutation", 1)),
          is_both=True, has_immigration=True),
    Shape("one alteration at most", ("tumor",), 3,
          (("m", "mutation", 1), ("n", "mutation", 1), ("e", "epigenetic", 1)), max_alterations=1),
    Shape("none at all", ("a", "b"), 2, (("m", "mutation", 1), ("h", "hierarchy", 1)),
          is_both=True, max_alterations=0),
    Shape("everything", ("a", "b"), 3, (("h", "hierarchy", 1), ("c", "amplification", 2)),
          has_jump=True, has_immigration=True),
    *(
        Shape(
            f"{name} {n}", ("a", "b")[:sites], drugs, (("kind", "mutation", classes - 1),),
            is_both=is_both, is_custom=True, has_jump=n == 2, has_immigration=has_immigration,
        )
        for name, classes, sites, drugs, is_both, has_immigration in (
            ("graph of twelve types", 6, 2, 3, False, False),
            ("graph on two sites", 4, 2, 2, True, False),
            ("graph of six classes", 6, 1, 3, True, True),
            ("graph of three classes", 3, 2, 1, False, True),
        )
        for n in range(3)
    ),
)  # fmt: skip


def batch(number: int, patients: int = PATIENTS) -> Batch:
    """Batch 0 .. 19; fewer patients are the first of them."""
    shape = SHAPES[number]
    rng = np.random.default_rng([SEED, number])
    while True:  # until the setting lets enough models tell something
        setting = _setting(shape, rng)
        kept = _kept(shape, setting.founders, setting.immigration)
        draw = draw_graph if shape.is_custom else draw_stations
        drawn = [draw(shape, setting, rng) for _ in range(CANDIDATES)]
        twin = twins.stacked([_twin(shape, setting, kept, tables) for _, tables in drawn])
        (tells,) = np.nonzero(_tells(twin))
        if len(tells) >= PATIENTS:
            break
    return assembled(shape, setting, [drawn[i] for i in tells[:patients]], SEED + number)


def assembled(shape: Shape, setting: Setting, drawn: list, seed: int) -> Batch:
    """A batch of given models and their tables."""
    kept = _kept(shape, setting.founders, setting.immigration)
    twin = twins.stacked([_twin(shape, setting, kept, tables) for _, tables in drawn])
    problem = _problem(shape, setting, tuple(model for model, _ in drawn), seed)
    return Batch(shape, problem, twin, kept)


def _tells(twin: Twin) -> np.ndarray:
    """Which models are neither almost surely extinct, nor almost never, nor too large."""
    inside = np.ones((len(twin.founders), 1, twin.num_types))
    inside[:, :, :-1] = 0
    extinct = twins.generating_function(twin, inside, 1e-6)[:, 0]
    largest = np.zeros(len(twin.founders))
    for mean, covariance in twins.moments_along(twin, 1e-6):
        live = mean[:, :-1].sum(1)
        deviation = np.sqrt(np.abs(covariance[:, :-1, :-1].sum((1, 2))))
        largest = np.maximum(largest, live + 3 * deviation)
    return (extinct > 0.02) & (extinct < 0.98) & (live > 1) & (live < 120) & (largest < 700)


# --- trajectories beside twins ---------------------------------------------------------------------


def by_place(random: Batch, types: np.ndarray) -> np.ndarray:
    """[..., type] of the twin -> [..., class, site], without the type outside and padding."""
    num_sites = len(random.shape.sites)
    inside = types[..., : len(random.genotypes) * num_sites]
    return inside.reshape(*types.shape[:-1], -1, num_sites)


def points(random: Batch, *values: float) -> np.ndarray:
    """s [model, point, type]: each value for every living cell, 1 for cells outside."""
    twin = random.twin
    s = np.ones((len(twin.founders), len(values), twin.num_types))
    s[:, :, : len(random.genotypes) * len(random.shape.sites)] = np.array(values)[None, :, None]
    return s


def at_end(trajectory, name: str, arm: int = 0) -> np.ndarray:
    """[patient, ...] of one arm at the last day, of a variable that has both axes and a time."""
    variable = trajectory[""][name]
    data = np.moveaxis(variable.data, variable.dims.index("time"), 0)[-1]
    return data[arm]


# --- what a batch shares ---------------------------------------------------------------------------


def _setting(shape: Shape, rng: np.random.Generator) -> Setting:
    horizon = rng.uniform(3, 8)
    cuts = np.sort(rng.uniform(0.1, 0.9, SEGMENTS - 1)) + 0.02 * np.arange(SEGMENTS - 1)
    edges = horizon * np.concatenate([[0], cuts, [1]])
    level = rng.choice([0.0, 0.3, 1.0, 5.0], (SEGMENTS, shape.num_drugs))
    for segment in range(1, SEGMENTS):  # 2 to 5 different segments
        if segment > 1 and rng.random() < 0.3:
            level[segment] = level[segment - 1]
    num_genotypes, num_sites = len(shape.levels), len(shape.sites)
    places = rng.permutation(num_genotypes * num_sites)[: rng.integers(1, 3)]
    if not shape.is_custom:
        places = np.array([shape.start * num_sites + rng.integers(num_sites)])
    most = int(rng.choice([1, 3, 10, 50]))
    founders = tuple(
        Founder(
            int(rng.integers(1, 1 + max(1, most // len(places)))), *map(int, divmod(p, num_sites))
        )
        for p in places
    )
    jumps, immigration = (), ()
    if shape.has_jump:
        days = edges[[0, int(rng.integers(1, SEGMENTS))]]
        jumps = tuple(
            Jump(float(day), tuple(rng.uniform(0.3, 1, num_sites).tolist()), gray)
            for day, gray in zip(days, (0.0, 1.5), strict=True)
        )
    if shape.has_immigration:
        immigration = (Immigration(rng.uniform(0.1, 0.6), 1, num_sites - 1, cells=3),)
    return Setting(edges, level, founders, jumps, immigration)


def _problem(shape: Shape, setting: Setting, models: tuple[Model, ...], seed: int) -> Problem:
    horizon = float(setting.edges[-1])
    levels = tuple(
        Level(d, float(start), float(end), float(setting.level[k, d]))
        for k, (start, end) in enumerate(itertools.pairwise(setting.edges))
        for d in range(shape.num_drugs)
    )
    return Problem(
        model=models[0],
        founders=setting.founders,
        arms=(Arm("arm", (), levels, setting.jumps),),
        seed=seed,
        replicates=1,
        horizon=horizon,
        sync=horizon,
        max_cells=8192,
        record=Record(every=horizon, concentration_every=horizon),
        patients=models,
        immigration=setting.immigration,
        max_alterations=shape.max_alterations,
    )


def _kept(shape: Shape, founders, immigration) -> list[int]:
    """Packed genotypes that are followed: a search step by step through all of them."""
    levels = shape.levels
    starts = {f.genotype for f in founders} | {i.genotype for i in immigration}
    if shape.is_custom:
        return list(range(len(levels)))
    k = len(levels[0]) if shape.max_alterations is None else shape.max_alterations

    def distance(g: int) -> int:
        return min(sum(a != b for a, b in zip(levels[g], levels[s], strict=True)) for s in starts)

    def is_step(g: int, to: int) -> bool:
        moves = [b - a for a, b in zip(levels[g], levels[to], strict=True)]
        (changed,) = np.nonzero(moves)
        if len(changed) != 1 or abs(moves[changed[0]]) != 1:
            return False
        inheritance = shape.alterations[changed[0]][1]
        is_first = levels[g][changed[0]] == 0
        if inheritance == "amplification":  # founders with copies: lost ones do not come back
            return not (is_first and shape.start)
        return moves[changed[0]] > 0 or inheritance == "epigenetic"

    found = set(starts)
    while True:
        more = {
            to
            for g, to in itertools.product(found, range(len(levels)))
            if is_step(g, to) and distance(to) <= k
        }
        if more <= found:
            return sorted(found)
        found |= more


def _twin(shape: Shape, setting: Setting, kept: list[int], tables: Tables) -> Twin:
    """The twin of one model: types class * sites + site of the kept classes, then the one outside."""
    num_classes, num_sites = len(shape.levels), len(shape.sites)
    num_segments = len(tables.birth)
    num_inside = len(kept) * num_sites
    place = np.full((num_classes, num_sites), num_inside)
    place[kept] = np.arange(num_inside).reshape(-1, num_sites)
    first = place.ravel()
    shape_of = (num_segments, num_inside + 1, num_inside + 1)

    def folded(table: np.ndarray) -> np.ndarray:
        """[segment, site, class, class] -> [segment, type, type]."""
        wide = np.zeros(shape_of)
        for g, to, site in itertools.product(kept, range(num_classes), range(num_sites)):
            wide[:, place[g, site], place[to, site]] += table[:, site, g, to]
        return wide

    conversion = folded(tables.switching)
    for g, site, to in itertools.product(kept, range(num_sites), range(num_sites)):
        conversion[:, place[g, site], place[g, to]] += tables.moving[g, site, to]
    pick = lambda table: np.pad(  # noqa: E731
        table[:, kept].reshape(num_segments, -1), ((0, 0), (0, 1))
    )
    survival = np.ones((num_segments, num_inside + 1))
    for jump in setting.jumps:
        at = int(np.argmin(np.abs(setting.edges - jump.day)))
        alive = np.tile(np.array(jump.kept_fraction), (len(kept), 1))
        alive = alive * tables.radiosurvival[kept, None] if jump.gray else alive
        survival[at, :-1] *= alive.ravel()
    founders = np.zeros(num_inside + 1, int)
    for founder in setting.founders:
        founders[place[founder.genotype, founder.site]] += founder.count
    source = setting.immigration[0] if setting.immigration else Immigration(0.0, kept[0])
    daughters = twins.daughters(
        folded(tables.mutation), folded(tables.asymmetric), folded(tables.symmetric), shape.is_both
    )
    assert first.max() <= num_inside
    return Twin(
        np.diff(setting.edges)[None], pick(tables.birth)[None], pick(tables.death)[None],
        daughters[None], conversion[None], survival[None], founders[None],
        np.array([source.events_per_day]), np.array([place[source.genotype, source.site]]),
        np.array([source.cells]),
    )  # fmt: skip
