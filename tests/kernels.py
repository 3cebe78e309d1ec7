"""The `cells` engine as a kernel of the battery: the real time loop on the tables of a scenario."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines import timeloop
from jaxevo.engines import tumors as loop
from jaxevo.engines.arrivals import Batches, Sources
from jaxevo.engines.base import Founder
from jaxevo.engines.tables import Steps, Table
from jaxevo.engines.timeloop import Grid, Limits, Settings, World
from jaxevo.engines.tumors import Layout
from jaxevo.sites import SiteParams
from tests.battery import Scenario

NO_LIMIT = 2**31 - 1
BATCH_SLOTS = 2**25  # cells of room in one batch


def steps_of(scenario: Scenario) -> tuple[Steps, np.ndarray, np.ndarray]:
    """A step for every change that the scenario allows: from any class to any, from site to site."""
    num_classes, num_sites = scenario.founders.shape
    pairs = [(i, j) for i in range(num_classes) for j in range(num_classes) if i != j]
    mutating = np.array([p for p in pairs if scenario.mutation[p] > 0], int).reshape(-1, 2)
    switching = [p for p in pairs if scenario.switching[:, p[0], p[1]].any()]
    switching = np.array(switching, int).reshape(-1, 2)
    change = lambda table: tuple(int(j - i) * num_sites for i, j in table)  # noqa: E731
    moves = tuple(range(num_sites)) if num_sites > 1 else ()
    differentiating = differentiating_pairs(scenario)
    steps = Steps(change(mutating), change(switching) + moves, change(differentiating))
    return steps, mutating, switching


def differentiating_pairs(scenario: Scenario) -> np.ndarray:
    """Classes [step, (from, to)] between which divisions differentiate."""
    any_way = scenario.asymmetric + scenario.symmetric
    return np.argwhere(any_way > 0).reshape(-1, 2)


def tables_of(scenario: Scenario) -> dict[str, jax.Array]:
    """Fields of the tables of all segments, with a leading axis."""
    _, mutating, switching = steps_of(scenario)
    num_segments, num_classes, num_sites = scenario.birth.shape
    rows = num_classes * num_sites
    row_class, row_site = np.divmod(np.arange(rows), num_sites)
    mutation = scenario.mutation[mutating[:, 0], mutating[:, 1]]
    mutation = np.where(row_class[:, None] == mutating[:, 0], mutation, 0.0)
    switch = scenario.switching[:, switching[:, 0], switching[:, 1]][:, None, :]
    switch = np.where(row_class[:, None] == switching[:, 0], switch, 0.0)
    moves = scenario.migration[row_site] if num_sites > 1 else np.zeros((rows, 0))
    other = np.concatenate([switch, np.broadcast_to(moves, (num_segments, *moves.shape))], axis=2)
    any_mutation = mutation.sum(axis=1)
    if scenario.both_daughters:
        any_mutation = any_mutation * (2 - any_mutation)
    pairs = differentiating_pairs(scenario)
    differentiates = lambda table: np.where(  # noqa: E731
        row_class[:, None] == pairs[:, 0], table[pairs[:, 0], pairs[:, 1]], 0.0
    )
    asymmetric, symmetric = map(differentiates, (scenario.asymmetric, scenario.symmetric))
    differentiated = asymmetric.sum(axis=1) + symmetric.sum(axis=1)
    if scenario.both_daughters:
        any_mutation = any_mutation * (1 - differentiated)
    birth = scenario.birth
    rest = scenario.death + other.sum(axis=2).reshape(birth.shape)
    spread = lambda x: np.broadcast_to(x, (num_segments, *x.shape))  # noqa: E731
    fields = {
        "birth": birth.reshape(num_segments, rows),
        "death": scenario.death.reshape(num_segments, rows),
        "other": other.sum(axis=2),
        "mutated": spread(any_mutation),
        "other_rates": other,
        "mutation_probability": spread(mutation),
        "differentiated": spread(differentiated),
        "asymmetric": spread(asymmetric),
        "symmetric": spread(symmetric),
        "max_birth": birth.max(axis=1)[:, None, :],
        "max_rest": rest.max(axis=1)[:, None, :],
        "max_total": (birth + rest).max(axis=(1, 2))[:, None],
    }
    return jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), fields)


def read_table(_content, fields: dict[str, jax.Array]) -> Table:
    """The fields of the table are the inputs of the interval."""
    return Table(**fields)


def cells_kernel(layout: Layout | None = None, syncs: int = 1) -> Callable:
    """A kernel that runs the `cells` engine.

    Args:
        layout: lanes per tumor; by default one exact lane, made longer until no tumor fills it.
        syncs: intervals into which every segment is cut.
    """

    def kernel(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
        shape = layout or Layout(1, 0, 2 * int(scenario.founders.sum()) + 1022)
        found, first = [], 0
        while first < num_replicates:
            batch = max(64, BATCH_SLOTS // shape.room)
            part = range(first, min(first + batch, num_replicates))
            done = run(scenario, part, seed, shape, syncs)
            if done is None:  # a lane's bits do not depend on its length: once more, with more room
                shape = shape._replace(num_slots=4 * shape.num_slots)
                continue
            found.append(done)
            first = part.stop
        return np.concatenate(found)

    return kernel


def run(
    scenario: Scenario, replicates: range, seed: int, layout: Layout, syncs: int
) -> np.ndarray | None:
    """Counts [replicate, class, site] at the end, or at the stop; None if there was no room."""
    num_classes, num_sites = scenario.founders.shape
    founders = tuple(Founder(int(n), k, s) for (k, s), n in np.ndenumerate(scenario.founders) if n)
    fresh = loop.new_tumors(layout, founders, num_sites, seed, replicates, len(replicates))
    tumors = loop.fork(fresh, 1, len(replicates), len(replicates))
    crowding = "logistic" if np.isfinite(scenario.capacity).any() else "none"
    capacity = jnp.asarray(scenario.capacity, jnp.float32)
    ones, zeros = jnp.ones(num_sites, jnp.float32), jnp.zeros(num_sites, jnp.float32)
    sites = SiteParams(crowding, capacity, ones, zeros, jnp.zeros((num_sites, num_sites)))
    steps, *_ = steps_of(scenario)
    coming, sources = arrivals_of(scenario)
    settings = Settings(read_table, layout, steps, scenario.both_daughters, False, 64, coming)
    duration = np.repeat(scenario.durations / syncs, syncs)[:, None]
    tables = jax.tree.map(lambda x: jnp.repeat(x, syncs, axis=0), tables_of(scenario))
    jump = np.full((len(duration), 1), -1)
    jump[::syncs, 0] = np.arange(len(scenario.durations))
    kept = scenario.kept.reshape(len(scenario.durations), -1)
    grid = Grid(jnp.asarray(duration, jnp.float32), tables, jnp.asarray(jump, jnp.int32))
    world = World(sites, None, sources, jnp.asarray(kept, jnp.float32))
    if (kept == 1).all():
        grid, world = Grid(grid.duration, tables), World(sites, None, sources)
    target = scenario.stop_at or NO_LIMIT
    ceiling = min(layout.num_slots, target) if layout.lanes_per_tumor == 1 else layout.num_slots
    limits = Limits(jnp.int32(ceiling), jnp.int32(target))
    template = (jnp.zeros((1, 1), jnp.uint32), jnp.zeros((1, 1), jnp.uint32), jnp.zeros((1, 1)))
    last = len(duration)
    step = timeloop.compiled(settings, (jax.devices()[0],))
    while int(tumors.position[0]) < last:
        tumors, _ = step(tumors, world, grid, template, limits, jnp.int32(last), jnp.int32(64))
        tumors = tumors._replace(
            lanes=tumors.lanes._replace(logged=jnp.zeros_like(tumors.lanes.logged))
        )
    if np.any(np.asarray(tumors.status) == loop.OUT_OF_ROOM):
        return None
    return counts(tumors, num_classes * num_sites).reshape(-1, num_classes, num_sites)


def arrivals_of(scenario: Scenario) -> tuple[Batches, Sources | None]:
    """What comes from outside, at rates that are the same in all segments."""
    num_sites = scenario.founders.shape[1]
    places = [p for p in np.ndindex(scenario.founders.shape) if scenario.arrivals[0][p] > 0]
    if not scenario.arrivals.any():
        return (), None
    assert (scenario.arrivals == scenario.arrivals[0]).all(), "the engine's rates do not change"
    coming = tuple((k * num_sites + s, int(scenario.batch[k, s])) for k, s in places)
    return coming, Sources.of(np.array([scenario.arrivals[0][p] for p in places]))


def counts(tumors: loop.Tumors, num_rows: int) -> np.ndarray:
    """Living cells by row, [tumor, row], from the cells themselves."""
    lanes, num_tumors = tumors.lanes, len(tumors.arm)
    cell, living = np.asarray(lanes.cell), np.asarray(lanes.count).sum(axis=0)
    slot, lane = np.nonzero(np.arange(len(cell))[:, None] < living)
    tumor = lane // (len(living) // num_tumors)
    found = np.bincount(tumor * num_rows + cell[slot, lane], minlength=num_tumors * num_rows)
    return found.reshape(num_tumors, num_rows)
