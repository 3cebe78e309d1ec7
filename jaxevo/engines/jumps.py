"""Jumps: every cell survives a moment with a probability of its own, such as surgery or radiation.

A cell of row r (genotype at a site) survives with kept(r) = kept fraction of its site x survival of the
dose, S(D) = exp(-(alpha D + beta D^2)/rho) (`drug.damage`), decided by its own random word: a pure
function of (seed, replicate; interval, position of the cell in its tumor). Lanes stay dense.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt32

from jaxevo.drug import damage
from jaxevo.engines.base import Jump
from jaxevo.engines.lanes import Lanes, living
from jaxevo.engines.sampling import Wide, threefry, threshold
from jaxevo.model import Model
from jaxevo.state import Traits

JUMP_WORDS = 0xFFFFFFFF  # no interval has this number


def survival(model: Model, traits: Traits, jump: Jump) -> np.ndarray:
    """Probability that a cell survives, [row], of the traits of all genotypes."""
    num_sites = len(model.names.sites)
    of_dose = jnp.ones(len(traits.repair_factor), traits.repair_factor.dtype)
    if jump.gray > 0:
        dose = jnp.asarray(jump.gray, traits.repair_factor.dtype)
        each = jax.vmap(damage.radiation_survival, (None, 0, None))
        of_dose = each(model.cellular.damage, traits, dose)
    fraction = np.ones(num_sites) if jump.kept_fraction is None else np.array(jump.kept_fraction)
    return (np.asarray(of_dose)[:, None] * fraction).reshape(-1)


def thin(
    lanes: Lanes,
    key: tuple[UInt32[Array, " tumor"], UInt32[Array, " tumor"]],
    interval: UInt32[Array, " tumor"],
    jump: Int32[Array, " tumor"],
    kept: Float[Array, "jump row"],
) -> Lanes:
    """Let the cells of every tumor with a jump (others have -1) survive it or not."""
    num_slots, num_lanes = lanes.cell.shape
    per_tumor, num_rows = num_lanes // len(jump), kept.shape[1]
    spread = lambda x: jnp.repeat(x, per_tumor)  # noqa: E731
    words = threefry(key, (jnp.uint32(JUMP_WORDS), jnp.uint32(0)))
    words = (spread(words[0]), spread(words[1]))
    moment, which = spread(interval), spread(jump)
    num_cells, num_sites = living(lanes), lanes.count.shape[0]
    lane = jnp.arange(num_lanes, dtype=jnp.int32)
    name = (lane % per_tumor).astype(jnp.uint32)
    every = jnp.arange(num_sites, dtype=jnp.int32)[:, None]
    table = kept.reshape(-1)
    put = {"mode": "drop", "unique_indices": True, "wrap_negative_indices": False}

    def one(s, carry):
        cells, lineages, survivors, count = carry
        here = s * num_lanes + lane
        word, lineage = cells[here], lineages[here]
        entry = jnp.maximum(which, 0) * num_rows + word.astype(jnp.int32)
        probability = jnp.where(which >= 0, table[entry], 1.0)
        position = s.astype(jnp.uint32) * jnp.uint32(per_tumor) + name
        number = Wide(*threefry(words, (moment, position)))
        is_sure = probability >= 1
        lives = is_sure | (number < threshold(jnp.where(is_sure, 0.0, probability)))
        lives &= s < num_cells
        at = jnp.where(lives, survivors, num_slots) * num_lanes + lane
        site = (word % jnp.uint32(num_sites)).astype(jnp.int32)
        count = count + jnp.where(every == site[None, :], lives.astype(jnp.int32)[None, :], 0)
        return (
            cells.at[at].set(word, **put),
            lineages.at[at].set(lineage, **put),
            survivors + lives.astype(jnp.int32),
            count,
        )

    carry = (
        lanes.cell.reshape(-1), lanes.lineage.reshape(-1), jnp.zeros(num_lanes, jnp.int32),
        jnp.zeros_like(lanes.count),
    )  # fmt: skip
    cells, lineages, survivors, count = jax.lax.fori_loop(0, jnp.max(num_cells), one, carry)
    return lanes._replace(
        cell=cells.reshape(lanes.cell.shape),
        lineage=lineages.reshape(lanes.lineage.shape),
        count=count,
        deaths=lanes.deaths + num_cells - survivors,
    )
