"""Balance: cells change lanes of their tumor, which changes no law and loses none of them.

A full lane gives half of its cells to an empty one with the same remaining time, and at a sync lanes
that have drifted are evened out. A cell's future does not depend on the lane that it is in.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxevo.engines.lanes import Lanes, is_log_full, living

MOVES_PER_BLOCK = 4096  # cells that rebalancing moves at a time


def is_splittable(lanes: Lanes, lanes_per_tumor: int) -> Bool[Array, " lane"]:
    """Full lanes with time left, in tumors in which no lane waits for its log."""
    waits = jnp.any(is_log_full(lanes).reshape(-1, lanes_per_tumor), axis=1)
    is_full = (lanes.remaining > 0) & (living(lanes) >= lanes.cell.shape[0])
    return is_full & ~jnp.repeat(waits, lanes_per_tumor)


def split_full(lanes: Lanes, lanes_per_tumor: int) -> tuple[Lanes, Bool[Array, " tumor"]]:
    """Give half of every full lane, with its remaining time, to an empty lane of its tumor.

    A tumor in which a lane waits for its log is left alone until that lane has caught up: when the
    host comes to fetch a log must not decide who moves where.

    Returns:
        The lanes, and which tumors have a full lane but no empty one: those are out of room.
    """
    num_slots, num_lanes = lanes.cell.shape
    num_sites = lanes.count.shape[0]
    num_cells = living(lanes)
    by_tumor = lambda x: x.reshape(-1, lanes_per_tumor)  # noqa: E731
    is_full = is_splittable(lanes, lanes_per_tumor)
    is_empty = num_cells == 0
    rank = lambda mask: jnp.cumsum(by_tumor(mask).astype(jnp.int32), axis=1, dtype=jnp.int32) - 1  # noqa: E731
    full_rank, empty_rank = rank(is_full), rank(is_empty)
    pairs = jnp.minimum(full_rank[:, -1], empty_rank[:, -1]) + 1
    lane = by_tumor(jnp.arange(num_lanes, dtype=jnp.int32))
    donor = by_tumor(is_full) & (full_rank < pairs[:, None])
    taker = by_tumor(is_empty) & (empty_rank < pairs[:, None])
    tumor = jnp.arange(lane.shape[0], dtype=jnp.int32)[:, None]
    at = jnp.where(donor, full_rank, lanes_per_tumor)
    donors = jnp.zeros_like(lane).at[tumor, at].set(lane, mode="drop")
    source = jnp.take_along_axis(donors, jnp.maximum(empty_rank, 0), axis=1).reshape(-1)
    donor, taker = donor.reshape(-1), taker.reshape(-1)
    half = num_slots // 2
    kept = num_slots - half
    all_lanes = jnp.arange(num_lanes, dtype=jnp.int32)

    def move(s, carry):
        cells, lineages, count = carry
        here = (kept + s) * num_lanes + source
        there = jnp.where(taker, s, num_slots) * num_lanes + all_lanes
        moved = cells[here]
        site = (moved % jnp.uint32(num_sites)).astype(jnp.int32)
        one = taker.astype(jnp.int32)
        count = count.at[site, all_lanes].add(one).at[site, source].add(-one)
        cells = cells.at[there].set(moved, mode="drop")
        return cells, lineages.at[there].set(lineages[here], mode="drop"), count

    rows = jnp.where(jnp.any(taker), half, 0)
    carry = (lanes.cell.reshape(-1), lanes.lineage.reshape(-1), lanes.count)
    cells, lineages, count = jax.lax.fori_loop(0, rows, move, carry)
    shape = lanes.cell.shape
    lanes = lanes._replace(
        cell=cells.reshape(shape),
        lineage=lineages.reshape(shape),
        count=count,
        remaining=jnp.where(taker, lanes.remaining[source], lanes.remaining),
    )
    return lanes, (full_rank[:, -1] >= 0) & (pairs == 0)


def rebalance(
    lanes: Lanes, lanes_per_tumor: int, num_main: int, is_allowed: Bool[Array, ""]
) -> Lanes:
    """Even out the main lanes of every tumor that has drifted, and empty its spare lanes.

    Only surplus cells move: from the ends of long lanes to the ends of short ones. Whether a tumor
    moves, and where to, depends on that tumor alone; one that outgrows its main lanes stays as it is.
    """
    if lanes_per_tumor == 1:
        return lanes
    num_lanes = lanes.cell.shape[1]
    num_sites = lanes.count.shape[0]
    have = living(lanes).reshape(-1, lanes_per_tumor)
    total = jnp.sum(have, axis=1, keepdims=True, dtype=jnp.int32)
    place = jnp.arange(lanes_per_tumor, dtype=jnp.int32)[None, :]
    even = jnp.where(
        place < num_main, total // num_main + (place < total % num_main).astype(jnp.int32), 0
    )
    longest = jnp.max(have, axis=1, keepdims=True)
    drifted = longest * 20 > (total // num_main + 1) * 23 + 160  # 15 % and 8 cells over the mean
    in_spare = jnp.any((place >= num_main) & (have > 0), axis=1, keepdims=True)
    fits = total <= num_main * lanes.cell.shape[0]
    want = jnp.where((drifted | in_spare) & fits & is_allowed, even.astype(jnp.int32), have)
    surplus, deficit = jnp.maximum(have - want, 0), jnp.maximum(want - have, 0)
    before = lambda x: jnp.cumsum(x, axis=1, dtype=jnp.int32) - x  # noqa: E731
    given_before, taken_before = before(surplus), before(deficit)
    moves = jnp.sum(surplus, axis=1, dtype=jnp.int32)
    num_tumors = have.shape[0]
    width = max(1, MOVES_PER_BLOCK // num_tumors)
    first = (jnp.arange(num_tumors, dtype=jnp.int32) * lanes_per_tumor)[:, None]
    lane_of = jax.vmap(lambda ends, m: jnp.searchsorted(ends, m, side="right"))

    def move(block, carry):
        cells, lineages, count = carry
        m = block * width + jnp.broadcast_to(
            jnp.arange(width, dtype=jnp.int32), (num_tumors, width)
        )
        valid = m < moves[:, None]
        last = lanes_per_tumor - 1
        source = jnp.minimum(lane_of(given_before + surplus, m), last).astype(jnp.int32)
        target = jnp.minimum(lane_of(taken_before + deficit, m), last).astype(jnp.int32)
        pick = lambda x, at: jnp.take_along_axis(x, at, axis=1)  # noqa: E731
        from_slot = pick(want, source) + m - pick(given_before, source)
        to_slot = pick(have, target) + m - pick(taken_before, target)
        source, target = first + source, first + target
        here = jnp.where(valid, from_slot * num_lanes + source, 0)
        there = jnp.where(valid, to_slot * num_lanes + target, cells.shape[0])
        moved = cells[here]
        site = (moved % jnp.uint32(num_sites)).astype(jnp.int32)
        one = valid.astype(jnp.int32)
        count = count.at[site, target].add(one, mode="drop").at[site, source].add(-one, mode="drop")
        cells = cells.at[there].set(moved, mode="drop")
        return cells, lineages.at[there].set(lineages[here], mode="drop"), count

    blocks = (jnp.max(moves) + width - 1) // width
    carry = (lanes.cell.reshape(-1), lanes.lineage.reshape(-1), lanes.count)
    cells, lineages, count = jax.lax.fori_loop(0, blocks, move, carry)
    shape = lanes.cell.shape
    return lanes._replace(cell=cells.reshape(shape), lineage=lineages.reshape(shape), count=count)
