"""Lane islands: many independent columns of cells that advance in lockstep, in exact continuous time.

Cells live in `cell[slot, lane]`, each lane a dense prefix of its column. Within an interval rates are
constant, so a lane is a Markov jump process, simulated exactly by uniformization (Jensen 1953,
doi:10.1080/03461238.1953.10419459): with Lambda a bound on the total event rate of any cell and n cells
in the lane, candidates come after Exp(1)/(n Lambda) days; a candidate is one of the n cells, chosen
uniformly; with probability rate/Lambda each it switches, moves, divides or dies, else nothing happens.
A death moves the lane's last cell into the hole, a birth appends: nothing is ever sorted or scanned.
At a division that differentiates, the newborn or both daughters take one step; they stay in their clone.

Lanes are independent because cells branch independently while rates are held (what couples cells is
summed at syncs, between intervals). A lane with no free slot *stalls*: it keeps its remaining time,
half of its cells move to an empty lane with the same remaining time (`balance`), and both go on. That
changes no law, since the future of a cell does not depend on the lane it is in, and no cell is ever
dropped.

Random words are a pure function of (seed, replicate, lane, interval, candidate); see `sampling`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, UInt32

from jaxevo import state
from jaxevo.engines.sampling import Wide, below, exponential, threefry, threshold
from jaxevo.engines.tables import Steps, Table

LOG_ROWS = 64  # clone events that a lane can note before it waits for the host
WORDS_PER_CANDIDATE = 8  # pairs of words reserved for one candidate
NARROWING, MIN_WIDTH, MAX_WIDTHS = 8, 64, 4  # of the batches in which lanes advance


class Log(NamedTuple):
    """Clone events that the host has not fetched yet."""

    identity: UInt32[Array, "row lane"]
    parent: UInt32[Array, "row lane"]
    cell: UInt32[Array, "row lane"]
    interval: UInt32[Array, "row lane"]
    remaining: Float[Array, "row lane"]  # days left in that interval at the event


def empty_log(num_lanes: int) -> Log:
    """A log without rows in use."""
    words = partial(jnp.zeros, (LOG_ROWS, num_lanes), jnp.uint32)
    remaining = jnp.zeros((LOG_ROWS, num_lanes), jnp.float32)
    return Log(words(), words(), words(), words(), remaining)


class Lanes(NamedTuple):
    """All cells, and what changes with every event."""

    cell: UInt32[Array, "slot lane"]  # row of the cell: genotype * num_sites + site
    lineage: UInt32[Array, "slot lane"]  # clone of the cell
    count: Int32[Array, "site lane"]  # living cells by site
    remaining: Float[Array, " lane"]  # days left in the interval
    candidate: UInt32[Array, " lane"]  # candidates seen in this interval
    births: Int32[Array, " lane"]  # since last fetched
    deaths: Int32[Array, " lane"]
    clones: UInt32[Array, " lane"]  # clones that this lane has named
    logged: Int32[Array, " lane"]  # rows of the log in use
    log: Log


class Held(NamedTuple):
    """What is constant during an interval, per lane."""

    key: tuple[UInt32[Array, " lane"], UInt32[Array, " lane"]]
    interval: UInt32[Array, " lane"]
    first_row: Int32[Array, " lane"]  # of the lane's arm in the table
    bound: Float[Array, " lane"]  # Lambda, 1/day, strictly above every total rate; 0 if all are 0
    crowding: Float[Array, "site lane"]
    ceiling: Int32[Array, " lane"]  # a lane with this many cells pauses
    later: Float[Array, " lane"]  # days of the interval that come after the lane's remaining time
    name: UInt32[Array, " lane"]  # position of the lane in its tumor
    names: UInt32[Array, ""]  # lanes per tumor
    kill: Float[Array, "site lane"] | None = None  # deaths of a cell that is wholly seen, 1/day


def living(lanes: Lanes) -> Int32[Array, " lane"]:
    """Living cells per lane."""
    total = lanes.count[0]
    for site in range(1, lanes.count.shape[0]):
        total = total + lanes.count[site]
    return total


def is_log_full(lanes: Lanes) -> Bool[Array, " lane"]:
    """Lanes that have time left but wait for the host to fetch their log."""
    return (lanes.remaining > 0) & (living(lanes) > 0) & (lanes.logged > LOG_ROWS - 2)


def is_running(lanes: Lanes, held: Held) -> Bool[Array, " lane"]:
    """Lanes that have time left, cells, and room for an event (in the column and in the log)."""
    num_cells = living(lanes)
    has_room = (num_cells < held.ceiling) & (lanes.logged <= LOG_ROWS - 2)
    return (lanes.remaining > 0) & (num_cells > 0) & has_room & (held.bound > 0)


def advance(lanes: Lanes, held: Held, table: Table, steps: Steps, is_both: bool) -> Lanes:
    """Run every lane until its time is over or it has no room; exact, one candidate at a time.

    Lanes end at different times. Whenever seven eighths of those in hand are done, the others are
    gathered into a narrower batch, so that the last long lanes do not drag all lanes along.
    """
    num_lanes = lanes.cell.shape[1]
    widths = [num_lanes]
    while len(widths) < MAX_WIDTHS and widths[-1] // NARROWING >= MIN_WIDTH:
        widths.append(widths[-1] // NARROWING)
    for width, narrower in zip(widths, [*widths[1:], 0], strict=True):
        lanes = _advance_some(lanes, held, table, steps, is_both, width, narrower)
    return lanes


def _advance_some(
    lanes: Lanes, held: Held, table: Table, steps: Steps, is_both: bool, width: int, until: int
) -> Lanes:
    """Run a batch of `width` lanes that are running, until at most `until` of them are."""
    num_lanes = lanes.cell.shape[1]
    everywhere = jnp.arange(num_lanes, dtype=jnp.int32)
    if width == num_lanes:
        some, its_held, chosen = lanes, held, everywhere
    else:
        running = is_running(lanes, held)
        place = jnp.where(
            running, jnp.cumsum(running.astype(jnp.int32), dtype=jnp.int32) - 1, width
        )
        chosen = jnp.full(width, num_lanes, jnp.int32).at[place].set(everywhere, mode="drop")
        some = _per_lane(lambda x: jnp.take(x, chosen, axis=-1, mode="fill", fill_value=0), lanes)
        its_held = jax.tree.map(
            lambda x: jnp.take(x, chosen, axis=-1, mode="clip") if x.ndim else x, held
        )

    share = 1 / jnp.maximum(its_held.bound, jnp.float32(1e-30))

    def is_busy(some: Lanes) -> Bool[Array, ""]:
        return jnp.sum(is_running(some, its_held), dtype=jnp.int32) > until

    def body(some: Lanes) -> Lanes:
        return _candidate(some, its_held, share, chosen, table, steps, is_both)

    some = jax.lax.while_loop(is_busy, body, some)
    if width == num_lanes:
        return some
    shared = (some.cell, some.lineage, some.log)

    def put_back(x, y):
        return x.at[..., chosen].set(y, mode="drop")

    merged = jax.tree.map(put_back, _vectors(lanes), _vectors(some))
    return lanes._replace(cell=shared[0], lineage=shared[1], log=shared[2], **merged)


def _vectors(lanes: Lanes) -> dict[str, Array]:
    """What a lane has one of (or one per site), by name."""
    shared = ("cell", "lineage", "log")
    return {name: x for name, x in lanes._asdict().items() if name not in shared}


def _per_lane(change, lanes: Lanes) -> Lanes:
    return lanes._replace(**jax.tree.map(change, _vectors(lanes)))


class _Change(NamedTuple):
    """What a rare event (a daughter that is changed, a switch, a move) does, per lane."""

    is_division: Bool[Array, " lane"]
    step: UInt32[Array, " lane"]  # added to the row of the written cell
    parent_step: UInt32[Array, " lane"]  # added to the row of the dividing cell itself
    is_clone: Bool[Array, " lane"]  # the written cell founds a clone
    is_parent_clone: Bool[Array, " lane"]
    is_pair: Bool[Array, " lane"]  # the dividing cell itself takes the same step, in its clone


def _candidate(
    lanes: Lanes,
    held: Held,
    share: Float[Array, " lane"],
    lane: Int32[Array, " lane"],
    table: Table,
    steps: Steps,
    is_both: bool,
) -> Lanes:
    """One candidate in every running lane; `lane` is the column of each in the shared arrays.

    `share` is 1/Lambda, so that rate * share is the probability of an event.
    """
    num_slots, stride = lanes.cell.shape
    num_sites, num_lanes = lanes.count.shape
    cells, lineages = lanes.cell.reshape(-1), lanes.lineage.reshape(-1)
    num_cells = living(lanes)
    running = is_running(lanes, held)

    counter = lanes.candidate * jnp.uint32(WORDS_PER_CANDIDATE)
    wait_word, cell_word = threefry(held.key, (held.interval, counter))
    event = Wide(*threefry(held.key, (held.interval, counter + jnp.uint32(1))))

    per_day = num_cells.astype(jnp.float32) * held.bound
    wait = exponential(wait_word) / jnp.maximum(per_day, jnp.float32(1e-30))
    in_time = running & (wait < lanes.remaining)
    remaining = jnp.where(running, jnp.maximum(lanes.remaining - wait, 0.0), lanes.remaining)
    remaining = jnp.where(running & ~in_time, jnp.float32(0), remaining)

    slot = below(cell_word, jnp.maximum(num_cells, 1).astype(jnp.uint32)).astype(jnp.int32)
    row = _read(cells, slot * stride + lane)
    site = (row % jnp.uint32(num_sites)).astype(jnp.int32)
    entry = held.first_row + row.astype(jnp.int32)
    birth = _read(table.birth, entry) * _at_site(held.crowding, site) * share
    mortality = _read(table.death, entry)
    if held.kill is not None and table.visibility is not None:
        mortality = mortality + _read(table.visibility, entry) * _at_site(held.kill, site)
    death = threshold(mortality * share)
    plain = birth
    rare = Wide(jnp.zeros(num_lanes, jnp.uint32), jnp.zeros(num_lanes, jnp.uint32))
    if steps.others:
        rare = threshold(_read(table.other, entry) * share)
    switched = rare
    if steps.mutations:
        mutated = _read(table.mutated, entry)
        rare = rare + threshold(birth * mutated)
        plain = birth * (1 - mutated)
    mutates = rare
    if steps.differentiations:
        differentiated = _read(table.differentiated, entry)
        rare = rare + threshold(birth * differentiated)
        plain = jnp.maximum(plain - birth * differentiated, 0.0)
    is_rare = in_time & (event < rare)
    dies = in_time & ~is_rare & (event < rare + death)
    divides = in_time & ~is_rare & ~dies & (event < rare + death + threshold(plain))

    change = _Change(
        *(jnp.zeros(num_lanes, dtype) for dtype in (bool, "uint32", "uint32", bool, bool, bool))
    )
    if any(steps):

        def decide(_) -> _Change:
            ends = (switched, mutates)
            return _decide(
                is_rare, event, ends, birth, share, row, site, entry, counter, held, table, steps,
                is_both,
            )  # fmt: skip

        change = jax.lax.cond(jnp.any(is_rare), decide, lambda _: change, None)
    divides = divides | change.is_division
    alters = is_rare & ~change.is_division

    # one cell is written: the newborn, the last cell into the hole, or the changed cell in its place
    source = jnp.where(dies, num_cells - 1, slot) * stride + lane
    written = jnp.where(divides, num_cells, jnp.where(dies | alters, slot, num_slots))
    value = _read(cells, source) + change.step
    old_lineage = _read(lineages, source)
    identity = (lanes.clones + 1) * held.names + held.name
    new_lineage = jnp.where(change.is_clone, identity, old_lineage)
    target = written * stride + lane
    put = {"mode": "drop", "unique_indices": True, "wrap_negative_indices": False}
    cells_new = cells.at[target].set(value, **put)
    lineages_new = lineages.at[target].set(new_lineage, **put)
    if steps.differentiations:
        itself = jnp.where(change.is_pair, slot, num_slots) * stride + lane
        cells_new = cells_new.at[itself].set(row + change.step, **put)
    clones = lanes.clones + change.is_clone.astype(jnp.uint32)
    log, logged = lanes.log, lanes.logged
    if steps.mutations:

        def note(log: Log, logged, is_new, name, changed) -> Log:
            at = jnp.where(is_new, logged, LOG_ROWS) * stride + lane
            entry = Log(name, old_lineage, changed, held.interval, remaining + held.later)
            return jax.tree.map(
                lambda rows, x: rows.reshape(-1).at[at].set(x, **put).reshape(rows.shape),
                log,
                entry,
            )

        log = note(log, logged, change.is_clone, identity, value)
        logged = logged + change.is_clone.astype(jnp.int32)
        if is_both:
            second = (clones + 1) * held.names + held.name
            itself = jnp.where(change.is_parent_clone, slot, num_slots) * stride + lane
            parent_value = row + change.parent_step
            cells_new = cells_new.at[itself].set(parent_value, **put)
            lineages_new = lineages_new.at[itself].set(second, **put)
            log = note(log, logged, change.is_parent_clone, second, parent_value)
            logged = logged + change.is_parent_clone.astype(jnp.int32)
            clones = clones + change.is_parent_clone.astype(jnp.uint32)

    gained = divides.astype(jnp.int32) - dies.astype(jnp.int32)
    if num_sites == 1:
        count = lanes.count + gained[None, :]
    else:
        new_site = (value % jnp.uint32(num_sites)).astype(jnp.int32)
        moved = (alters & (new_site != site)).astype(jnp.int32)
        every = jnp.arange(num_sites, dtype=jnp.int32)[:, None]
        leaving = jnp.where(every == site[None, :], (gained - moved)[None, :], 0)
        arriving = jnp.where(every == new_site[None, :], moved[None, :], 0)
        count = lanes.count + leaving + arriving
    return Lanes(
        cell=cells_new.reshape(lanes.cell.shape),
        lineage=lineages_new.reshape(lanes.lineage.shape),
        count=count,
        remaining=remaining,
        candidate=lanes.candidate + running.astype(jnp.uint32),
        births=lanes.births + divides.astype(jnp.int32),
        deaths=lanes.deaths + dies.astype(jnp.int32),
        clones=clones,
        logged=logged,
        log=log,
    )


def _read(values: state.Array, at: Int32[Array, " lane"]) -> Array:
    """Entries at places that are known to exist, without a check."""
    return jnp.asarray(values).at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _at_site(values: Float[Array, "site lane"], site: Int32[Array, " lane"]):
    picked = values[0]
    for s in range(1, values.shape[0]):
        picked = jnp.where(site == s, values[s], picked)
    return picked


def _decide(
    is_rare, event, ends, birth, share, row, site, entry, counter, held, table, steps, is_both,
) -> _Change:  # fmt: skip
    """Which rare event it is: the same 64-bit integer is read on, event by event.

    `ends` are where the shares of switches and moves, and of divisions with a mutant, end.
    """
    switched, mutated = ends
    switches = is_rare & (event < switched)
    num_lanes = row.shape[0]
    nothing = jnp.zeros(num_lanes, jnp.uint32)
    start = Wide(nothing, nothing)
    num_sites = held.crowding.shape[0]

    def pick(changes, probabilities, begin: Wide, number: Wide, is_move=None):
        """The last change whose share begins at or below `number`; shares of 0 are never picked."""
        chosen = nothing
        for k, change in enumerate(changes):
            probability = probabilities[:, k]
            here = (probability > 0) & ~(number < begin)
            step = jnp.uint32(change % 2**32)
            if is_move is not None and is_move[k]:
                step = step - site.astype(jnp.uint32)
            chosen = jnp.where(here, step, chosen)
            begin = begin + threshold(probability)
        return chosen

    step, parent_step = nothing, nothing
    divides = is_rare & ~switches
    is_clone = is_parent_clone = is_pair = jnp.zeros(num_lanes, bool)
    if steps.others:
        first_move = len(steps.others) - (num_sites if num_sites > 1 else 0)
        is_move = [k >= first_move for k in range(len(steps.others))]
        other = pick(steps.others, table.other_rates[entry] * share[:, None], start, event, is_move)
        step = jnp.where(switches, other, step)
    if steps.mutations:
        has_mutant = divides & (event < mutated) if steps.differentiations else divides
        probabilities = table.mutation_probability[entry]
        if not is_both:
            mutant = pick(steps.mutations, probabilities * birth[:, None], switched, event)
            step = jnp.where(has_mutant, mutant, step)
            is_clone = has_mutant
        else:
            any_one = jnp.zeros(num_lanes, jnp.float32)
            for k in range(len(steps.mutations)):
                any_one = any_one + probabilities[:, k]
            given = probabilities / jnp.maximum(any_one, jnp.float32(1e-30))[:, None]
            which = Wide(*threefry(held.key, (held.interval, counter + jnp.uint32(2))))
            pair = threefry(held.key, (held.interval, counter + jnp.uint32(3)))
            more = threefry(held.key, (held.interval, counter + jnp.uint32(4)))
            is_two = which < threshold(any_one / (2 - any_one))  # of divisions with a mutant
            is_newborn = (which.low & jnp.uint32(1)) == 0
            newborn_only, parent_only = ~is_two & is_newborn, ~is_two & ~is_newborn
            newborn = pick(steps.mutations, given, start, Wide(*pair))
            parent = pick(steps.mutations, given, start, Wide(*more))
            is_clone = has_mutant & ~parent_only
            is_parent_clone = has_mutant & ~newborn_only
            step = jnp.where(is_clone, newborn, step)
            parent_step = jnp.where(is_parent_clone, parent, parent_step)
    if steps.differentiations:
        differentiates = divides & ~(event < mutated)
        ways = jnp.concatenate([table.asymmetric[entry], table.symmetric[entry]], axis=1)
        num = len(steps.differentiations)
        way = pick(range(2 * num), ways * birth[:, None], mutated, event)
        is_pair = differentiates & (way >= jnp.uint32(num))
        for k, change in enumerate(steps.differentiations):
            here = differentiates & (way % jnp.uint32(num) == jnp.uint32(k))
            step = jnp.where(here, jnp.uint32(change % 2**32), step)
    return _Change(divides, step, parent_step, is_clone, is_parent_clone, is_pair)
