"""Policies: which line a patient is given until the next visit, from the burden that was seen.

Each rule is a pure function for ONE tumor and a constructor of its `Rule`:

    decide(params, state, seen) -> (state, share),      share [line], 0 nothing .. 1 the full dose

Sizes are cells (N as seen; 0 where nothing is detectable), the baseline is the first scan, at visit 0.
Between two scans a rule keeps to its last decision: N is then still that of the latest scan. What is
asked first is stated by each rule; comparisons hold at equality only where it says "at least" or "at
most".
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxevo.engines.base import Rule
from jaxevo.state import Array, Scalar

Seen: TypeAlias = Any  # what has the attributes of `engines.visits.Seen`
Share: TypeAlias = Float[Array, " line"]


def check(holds: bool, sentence: str) -> None:
    """A rule whose numbers contradict each other is refused.

    Raises:
        ValueError: with the sentence, which names the parameter.
    """
    if not holds:
        raise ValueError(sentence)


def number(value: float) -> np.ndarray:
    """A parameter or the start of a state, as engines take it."""
    return np.asarray(value, float)


def only(line: Int[Array, ""], seen: Seen) -> Share:
    """The full dose of one line and nothing of the others."""
    return jax.nn.one_hot(line, seen.share.shape[0], dtype=seen.share.dtype)


def all_lines(share: Scalar | Bool[Array, ""], seen: Seen) -> Share:
    """The same share of every line."""
    return jnp.broadcast_to(share.astype(seen.share.dtype), seen.share.shape)


def on_or_off(
    is_on: Bool[Array, ""], stops: Bool[Array, ""], restarts: Bool[Array, ""]
) -> Bool[Array, ""]:
    """On until it stops, off until it restarts."""
    return jnp.where(is_on, ~stops, restarts)


def first_scan(seen: Seen, baseline: Scalar) -> Scalar:
    """The burden at visit 0, which is remembered."""
    return jnp.where(seen.visit == 0, seen.burden, baseline)


# --- the next line at progression ------------------------------------------------------------------


class Lines(NamedTuple):
    """What a physician remembers who gives one line after another."""

    nadir: Scalar  # smallest burden since the line in force was begun, cells
    line: Int[Array, ""]  # in force
    progressions: Int[
        Array, ""
    ]  # seen so far; more than lines - 1 when the last line has failed too


def second_line(*, progression_ratio: float = 1.2**3) -> Rule:
    """The next line at progression, until the last, which is then kept.

    Progression: at a scan N is detectable and at least `progression_ratio` times the nadir, the
    smallest N seen since the line was begun (that of its first visit included). A burden that is seen
    again after none was is progression. The default is a diameter 20 % above the nadir (RECIST 1.1,
    Eisenhauer et al. 2009, doi:10.1016/j.ejca.2008.10.026) of a sphere.
    """
    check(
        progression_ratio >= 1, f"progression_ratio is {progression_ratio}; it must be at least 1"
    )
    start = Lines(number(np.inf), np.asarray(0, np.int32), np.asarray(0, np.int32))
    return Rule("second_line", _next_line, start, number(progression_ratio))


def _next_line(ratio: Scalar, state: Lines, seen: Seen) -> tuple[Lines, Share]:
    is_more = (seen.burden > 0) & (seen.burden >= ratio * state.nadir)
    has_progressed = seen.is_scan & is_more
    last = seen.share.shape[0] - 1
    line = jnp.where(has_progressed, jnp.minimum(state.line + 1, last), state.line)
    nadir = jnp.where(has_progressed, seen.burden, jnp.minimum(state.nadir, seen.burden))
    counted = jnp.where(has_progressed, state.progressions + 1, state.progressions)
    return Lines(nadir, line, counted), only(line, seen)


# --- on and off ------------------------------------------------------------------------------------


class Levels(NamedTuple):
    """Two burdens, in cells or in multiples of the baseline."""

    low: Scalar
    high: Scalar


def intermittent(*, restart_cells: float, stop_cells: float = 0.0) -> Rule:
    """Stop and restart: on at first, off once N is at most `stop_cells`, on again once N is above
    `restart_cells`. With 0, the default, treatment stops when nothing is detectable.

    Stopping at deep response and restarting at its loss is how treatment-free remission of chronic
    myeloid leukemia is tried (Saussele et al. 2018, doi:10.1016/S1470-2045(18)30192-X).
    """
    check(
        0 <= stop_cells <= restart_cells,
        f"stop_cells is {stop_cells}; it must be from 0 to restart_cells ({restart_cells})",
    )
    levels = Levels(number(stop_cells), number(restart_cells))
    return Rule("intermittent", _intermittent, np.asarray(True), levels)


def _intermittent(levels: Levels, is_on, seen: Seen) -> tuple[Bool[Array, ""], Share]:
    is_on = on_or_off(is_on, seen.burden <= levels.low, seen.burden > levels.high)
    return is_on, all_lines(is_on, seen)


def range_bounded(*, lower_cells: float, upper_cells: float) -> Rule:
    """Off at first, on once N is above `upper_cells`, off again once N is below `lower_cells`.

    Two levels set in advance, whatever the first burden is (range-bounded adaptive therapy,
    Brady-Nicholls & Enderling 2022, doi:10.3390/cancers14215319).
    """
    check(
        0 <= lower_cells <= upper_cells,
        f"lower_cells is {lower_cells}; it must be from 0 to upper_cells ({upper_cells})",
    )
    levels = Levels(number(lower_cells), number(upper_cells))
    return Rule("range_bounded", _range_bounded, np.asarray(False), levels)


def _range_bounded(levels: Levels, is_on, seen: Seen) -> tuple[Bool[Array, ""], Share]:
    is_on = on_or_off(is_on, seen.burden < levels.low, seen.burden > levels.high)
    return is_on, all_lines(is_on, seen)


class Cycle(NamedTuple):
    """What is remembered between the visits of an adaptive therapy."""

    is_on: Bool[Array, ""]
    baseline: Scalar  # cells


def adaptive(*, stop: float = 0.5, restart: float = 1.0) -> Rule:
    """Adaptive therapy: on at first, off once N < `stop` N0, on again once N > `restart` N0.

    N0 is the baseline. The defaults are AT50 (Zhang et al. 2017, doi:10.1038/s41467-017-01968-5;
    Strobl et al. 2021, doi:10.1158/0008-5472.CAN-20-0806).
    """
    check(
        0 < stop <= restart, f"stop is {stop}; it must be above 0 and at most restart ({restart})"
    )
    return Rule(
        "adaptive",
        _adaptive,
        Cycle(np.asarray(True), number(0.0)),
        Levels(number(stop), number(restart)),
    )


def _adaptive(levels: Levels, state: Cycle, seen: Seen) -> tuple[Cycle, Share]:
    first = first_scan(seen, state.baseline)
    stops, restarts = seen.burden < levels.low * first, seen.burden > levels.high * first
    is_on = on_or_off(state.is_on, stops, restarts)
    return Cycle(is_on, first), all_lines(is_on, seen)


def containment(*, level: float = 1.0) -> Rule:
    """Hold the tumor at `level` times its baseline: on while N is at least that, else off.

    The shorter the time between visits, the closer to ideal containment, which keeps N at the level as
    long as there are sensitive cells to remove (Viossat & Noble 2021, doi:10.1038/s41559-021-01428-w).
    """
    check(level > 0, f"level is {level}; it must be above 0")
    return Rule("containment", _containment, number(0.0), number(level))


def _containment(level: Scalar, baseline: Scalar, seen: Seen) -> tuple[Scalar, Share]:
    first = first_scan(seen, baseline)
    return first, all_lines(seen.burden >= level * first, seen)


# --- more or less of it ----------------------------------------------------------------------------


class Modulation(NamedTuple):
    """How a dose follows the burden."""

    step: Scalar  # relative change of the dose
    tolerance: Scalar  # relative change of the burden that changes nothing


def modulation(*, step: float = 0.5, tolerance: float = 0.2) -> Rule:
    """The full dose at first; at each further scan, with M the scan before,

        N > (1 + tolerance) M    share (1 + step), at most 1
        N < (1 - tolerance) M    share (1 - step)

    and else the same share: the dose-modulating form of adaptive therapy, AT-1 of Enriquez-Navas et al.
    2016 (doi:10.1126/scitranslmed.aad7842) as written by Gallaher et al. 2018
    (doi:10.1158/0008-5472.CAN-17-2649). The defaults are assumed.
    """
    check(0 < step < 1, f"step is {step}; it must be above 0 and below 1")
    check(0 <= tolerance < 1, f"tolerance is {tolerance}; it must be at least 0 and below 1")
    return Rule("modulation", _modulation, number(1.0), Modulation(number(step), number(tolerance)))


def _modulation(params: Modulation, share: Scalar, seen: Seen) -> tuple[Scalar, Share]:
    grew = seen.is_scan & (seen.burden > (1 + params.tolerance) * seen.last_scan)
    shrank = seen.is_scan & (seen.burden < (1 - params.tolerance) * seen.last_scan)
    factor = jnp.where(grew, 1 + params.step, jnp.where(shrank, 1 - params.step, 1.0))
    share = jnp.minimum(share * factor, 1.0)
    return share, all_lines(share, seen)


def metronomic(*, lines: tuple[str, ...], thresholds_cells: tuple[float, ...]) -> Rule:
    """A line for every range of N: the first below the first threshold, the next one from there on.

    `thresholds_cells` rise, one fewer than lines. So a low dose in short intervals, which spares the
    host (Hanahan, Bergers & Bergsland 2000, doi:10.1172/JCI9872), is given while the tumor is small,
    and more where it is not. Nothing is remembered.
    """
    expected = len(lines) - 1
    check(
        len(thresholds_cells) == expected,
        f"thresholds_cells has {len(thresholds_cells)} entries; {len(lines)} lines need {expected}",
    )
    check(
        all(np.diff((0.0, *thresholds_cells)) > 0),
        f"thresholds_cells is {list(thresholds_cells)}; they must be above 0 and rise",
    )
    return Rule("metronomic", _metronomic, (), np.asarray(thresholds_cells, float))


def _metronomic(thresholds, state: tuple[()], seen: Seen) -> tuple[tuple[()], Share]:
    return state, only(jnp.sum(seen.burden >= thresholds, dtype=jnp.int32), seen)
