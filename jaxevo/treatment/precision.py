"""Precision medicine: which line a patient is given, from what the tumor consists of.

`personalized` reads a sequenced sample, with its detection limit. `cpm` and `dpm22` are the rules of
Beckman, Schemmann & Yeang 2012 (doi:10.1073/pnas.1203559109) and Yeang & Beckman 2016
(doi:10.1186/s13062-016-0153-2), for two lines D1, D2. They assume that the cells x of every class are
known, and decide by what the physician believes of them, which may be wrong:

    x' = [(I + T) diag(g) - diag(s . share)] x

g growth rate (1/day), T[to, from] mutants per division, s[genotype, line] sensitivity (1/day at the
full dose). A class with less than one cell neither grows, dies nor mutates; that is asked once a day.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxevo.engines.base import Rule
from jaxevo.exponential import exponential
from jaxevo.state import Array, Scalar
from jaxevo.treatment.policies import Seen, Share, check, number, only

Table = tuple[tuple[float, ...], ...]

# --- against what was sequenced --------------------------------------------------------------------


def personalized(
    *, lines: tuple[str, ...], alterations: tuple[str, ...], against: dict[str, str], default: str
) -> Rule:
    """The line that is against the most frequent alteration in the sample.

    Args:
        lines, alterations: names in the study.
        against: alteration -> line. What is not named is not looked at.
        default: line until one of those alterations is first seen.

    Equally frequent alterations: the first of the study. When none is seen (any more), the line in
    force is kept, since it may be the reason.
    """
    of_arm = f"the lines of this arm are {', '.join(lines)}"
    check(default in lines, f"default is {default!r}; {of_arm}")
    for name, line in against.items():
        check(name in alterations, f"against names {name!r}, which is no alteration of the study")
        check(line in lines, f"against gives {line!r} for {name}; {of_arm}")
    chosen = [lines.index(against[name]) if name in against else -1 for name in alterations]
    start = np.asarray(lines.index(default), np.int32)
    return Rule("personalized", _personalized, start, np.asarray(chosen, np.int32))


def _personalized(
    chosen: Int[Array, " alteration"], line: Int[Array, ""], seen: Seen
) -> tuple[Int[Array, ""], Share]:
    fractions = jnp.where(chosen >= 0, seen.fractions, 0.0)
    line = jnp.where(jnp.any(fractions > 0), chosen[jnp.argmax(fractions)], line)
    return line, only(line, seen)


# --- current personalized medicine -----------------------------------------------------------------


class CurrentParams(NamedTuple):
    """What decides in `cpm`."""

    sensitivity: Float[Array, "genotype line"]
    ratio: Scalar
    detectable: Scalar  # cells


class CurrentState(NamedTuple):
    """What is remembered in `cpm`."""

    nadir: Scalar  # cells
    last: Scalar  # cells at the visit before
    line: Int[Array, ""]
    has_switched: Bool[Array, ""]


def cpm(
    *, sensitivity_per_day: Table, progression_ratio: float = 2.0, detectable_cells: float = 1e9
) -> Rule:
    """Current personalized medicine: the best line for the largest class, and once the other.

    At visit 0 the line to which the largest class is the most sensitive (ties: the first class, D1).
    Later, unless it has been done, the other line if N, the sum of all classes, is at least
    `detectable_cells` and

        N >= progression_ratio nadir,  or  N was below `detectable_cells` at the visit before.

    The nadir is N at visit 0; after that question it becomes N at a switch, and where
    detectable_cells <= N < nadir.
    """
    rows = _genotype_rows(sensitivity_per_day)
    params = CurrentParams(rows, number(progression_ratio), number(detectable_cells))
    start = CurrentState(number(0.0), number(0.0), np.asarray(0, np.int32), np.asarray(False))
    return Rule("cpm", _cpm, start, params)


def _cpm(params: CurrentParams, state: CurrentState, seen: Seen) -> tuple[CurrentState, Share]:
    size, is_first = jnp.sum(seen.composition), seen.visit == 0
    largest = _of_classes(params.sensitivity, seen)[jnp.argmax(seen.composition)]
    line = jnp.where(is_first, jnp.argmax(largest).astype(jnp.int32), state.line)

    is_seen = size >= params.detectable
    has_progressed = (size >= params.ratio * state.nadir) | (state.last < params.detectable)
    switches = is_seen & has_progressed & ~is_first & ~state.has_switched
    restarts = is_first | switches | (is_seen & (size < state.nadir))
    after = CurrentState(
        nadir=jnp.where(restarts, size, state.nadir),
        last=size,
        line=jnp.where(switches, 1 - line, line),
        has_switched=state.has_switched | switches,
    )
    return after, only(after.line, seen)


# --- dynamic precision medicine --------------------------------------------------------------------


class Belief(NamedTuple):
    """What decides in `dpm22`."""

    net_birth: Float[Array, "genotype genotype"]  # (I + T) diag(g) [to, from], 1/day
    sensitivity: Float[Array, "genotype line"]
    options: Float[Array, "option line"]  # shares; of equally good ones the first is chosen
    incurable: Int[Array, ""]  # genotype
    window: Int[Array, ""]  # days
    curable: Scalar  # cells
    fatal: Scalar  # cells


def dpm22(
    *,
    growth_rate_per_day: float,
    sensitivity_per_day: Table,
    mutation_probability: Table,
    incurable_genotype: int = 3,
    window_days: int = 45,
    curable_cells: float = 1e11,
    fatal_cells: float = 1e13,
) -> Rule:
    """Dynamic precision medicine, strategy 2.2: what is predicted to be best for one window.

    Every `window_days` one of D2, half of both, D1 is chosen by the course that is believed to follow
    from each, day by day: among those in which N, the sum of all classes, stays below `fatal_cells`,

        N <= curable_cells now    the fewest incurable cells, then the smallest N, at the end
        else                      the smallest N at the end

    and if all are fatal, the one in which that is latest, in whole days. Ties: D2, half, D1.

    Args:
        growth_rate_per_day: g.
        sensitivity_per_day: s, a row per packed genotype, a column per line.
        mutation_probability: T, a row per new genotype, a column per old one.
        incurable_genotype: resistant to both, packed.
        window_days: time between visits.
    """
    rows = _genotype_rows(sensitivity_per_day)
    mutants = np.asarray(mutation_probability, float)
    check(
        mutants.shape == (len(rows), len(rows)),
        f"mutation_probability has the shape {mutants.shape}; {len(rows)} genotypes need a square",
    )
    check(
        0 <= incurable_genotype < len(rows),
        f"incurable_genotype is {incurable_genotype}; there are the genotypes 0 to {len(rows) - 1}",
    )
    check(window_days >= 1, f"window_days is {window_days}; it must be at least 1")
    params = Belief(
        net_birth=(np.eye(len(rows)) + mutants) * growth_rate_per_day,
        sensitivity=rows,
        options=np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]),
        incurable=np.asarray(incurable_genotype, np.int32),
        window=np.asarray(window_days, np.int32),
        curable=number(curable_cells),
        fatal=number(fatal_cells),
    )
    return Rule("dpm22", _dpm22, (), params)


def _dpm22(belief: Belief, state: tuple[()], seen: Seen) -> tuple[tuple[()], Share]:
    known = seen.genotypes
    net_birth = _of_classes(belief.net_birth, seen)[:, known]
    killed = belief.options @ _of_classes(belief.sensitivity, seen).T  # [option, class]
    rates = jax.vmap(lambda loss: net_birth - jnp.diag(loss))(killed)
    cells, days = jax.vmap(_predicted, (None, 0, None))(belief, rates, seen.composition)

    is_incurable = (jnp.asarray(known, belief.incurable.dtype) == belief.incurable).astype(
        cells.dtype
    )
    is_alive = days > belief.window
    is_curable = is_alive & (jnp.sum(seen.composition) <= belief.curable)
    size = jnp.where(is_alive, jnp.sum(cells, axis=1), 0.0)
    incurable = jnp.where(is_curable, cells @ is_incurable, 0.0)
    # in this order: the latest death, the fewest incurable cells, the smallest tumor
    best = jnp.ones(len(days), bool)
    for worse in (-days.astype(cells.dtype), incurable, size):
        best &= worse == jnp.min(jnp.where(best, worse, jnp.inf))
    return state, belief.options[jnp.argmax(best)]


def _predicted(
    belief: Belief, rates: Float[Array, "class class"], cells: Float[Array, " class"]
) -> tuple[Float[Array, " class"], Int[Array, ""]]:
    """Cells after the window, or at death; the day of death, or the first one after the window."""

    def goes_on(course):
        day, cells = course
        return (day < belief.window) & ((day == 0) | (jnp.sum(cells) < belief.fatal))

    def one_day(course):
        day, cells = course
        moves = (cells >= 1).astype(cells.dtype)
        return day + 1, exponential(rates * moves[None, :]) @ cells

    day, cells = jax.lax.while_loop(goes_on, one_day, (jnp.zeros_like(belief.window), cells))
    is_fatal = jnp.sum(cells) >= belief.fatal
    return cells, jnp.where(is_fatal, day, belief.window + 1)


# --- tables by genotype ----------------------------------------------------------------------------


def _genotype_rows(sensitivity_per_day: Any) -> np.ndarray:
    """[genotype, line] for two lines."""
    widths = {len(row) for row in sensitivity_per_day}
    check(widths == {2}, "sensitivity_per_day needs a row for every genotype, of two numbers each")
    return np.asarray(sensitivity_per_day, float)


def _of_classes(table: Array, seen: Seen) -> Array:
    """The rows of the classes that are seen.

    Raises:
        ValueError: a class has a genotype beyond the table.
    """
    most = int(np.max(seen.genotypes))
    check(
        most < table.shape[0],
        f"the physician's table has {table.shape[0]} genotypes; the tumor has a genotype {most}",
    )
    return table[seen.genotypes]
