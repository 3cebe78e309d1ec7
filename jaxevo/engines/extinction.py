"""The `extinction` engine: the probability of relapse, without dice, and its gradient.

For independent cells whose rates depend on time only, the chance p_i that a cell of type i has
descendants that count follows from `backward`, and no relapse has the probability

    ln P = sum_i n_i ln(1 - p_i(0)) + integral of rate ((1 - p(t))^cells - 1) dt        (immigration).

Which relapse is meant is `base.Relapse`:

    survival        p(T) = 1, no hazard                       any living cell on day T
    detection       p(T) = 1 - e^{-1/N}, no hazard            soft detection, 1 - E e^{-Z/N} on day T
    first_passage   p(T) = 0, hazard r/N of every cell        1 - E e^{-integral of (r/N) Z dt}, from the
                    from the day of assessment on             day of assessment to T

Z all living cells, N `detection_cells`, r `detection_rate` (1/day). Cells that leave the set of classes
are gone by default, so that relapse is a lower bound; `counts_outside` counts each of them as a relapse.

*Closure.* Under crowding, immunity or a custom law with feedback the rates of a cell are those along the mean
course (`meanfield`): right for rare survivors that do not crowd each other, far off for a population
that lives at its own capacity. Otherwise "exact".
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.drug.schedule import merge_times
from jaxevo.engines import backward, detection, flow
from jaxevo.engines.assembly import class_names, drugs, names
from jaxevo.engines.backward import Chance, Kind, Steps
from jaxevo.engines.base import Problem, Refused, Relapse, Trajectory, Variable
from jaxevo.engines.cells import Progress
from jaxevo.engines.detection import Grown
from jaxevo.engines.grid import marks
from jaxevo.engines.network import Network, Speeds
from jaxevo.engines.process import (
    Process,
    first_extra,
    growth_process,
    planned,
    problem_network,
)
from jaxevo.engines.series import Offspring

EXACT, ALONG_MEAN = "exact", "rates along the mean course"
PIECES = 8  # of an interval in which rates along the mean course are held
PANELS, NODES = 48, 4  # of the integral of the relapse-free probability
HORIZONS_PER_CALL = 32
OF_WHAT = {
    "survival": "probability that any cell is left on that day",
    "detection": "probability that the tumor is detected on that day",
    "first_passage": "probability that the tumor was detected by that day",
}
LAW = ("arm", "patient")
RESOLUTION = 1e-9  # days


class Mesh(NamedTuple):
    """Steps of one law in backward order, before they have rates (NumPy)."""

    interval: np.ndarray  # [step]
    row: np.ndarray  # [step] of the offspring
    duration: np.ndarray  # [step] days
    end: np.ndarray  # [step] day
    is_first: np.ndarray  # [step] whether an interval, and so a jump, begins with it
    is_assessed: np.ndarray  # [step] whether detection is possible


def last_chance(relapse: Relapse, net: Network, counts_outside: bool = False):
    """[type] p at the horizon; cells outside the set of classes count at once, or never."""
    at_end = {
        "survival": 1.0,
        "detection": -np.expm1(-1 / relapse.detection_cells),
        "first_passage": 0.0,
    }[relapse.kind]
    last = np.full(net.num_types, at_end)
    last[net.num_inside :] = float(counts_outside)
    return last


def hazard(relapse: Relapse) -> float:
    """Detection of one cell once remission is assessed, 1/day."""
    return (
        relapse.detection_rate / relapse.detection_cells if relapse.kind == "first_passage" else 0.0
    )


def mesh(
    start: np.ndarray,
    duration: np.ndarray,
    row: np.ndarray,
    rates: np.ndarray,
    relapse: Relapse,
    cuts: np.ndarray,
    reach: float = backward.REACH,
) -> Mesh:
    """Cut intervals at some days, and so finely that the series reaches over every step.

    Args:
        start, duration: [interval] days; intervals of length 0 are left out.
        row: [interval, piece] rows of the offspring in equal pieces of the interval.
        rates: [row] largest rate of a cell, 1/day (`backward.largest_rate`), detection included.
        relapse: detection starts on a day of its own.
        cuts: days at which a step must end, such as horizons.
        reach: step times rate at most.
    """
    lasting = np.flatnonzero(duration > 0)
    pieces = row.shape[1]
    inner = start[lasting, None] + duration[lasting, None] * np.arange(pieces) / pieces
    horizon = float(start[lasting[-1]] + duration[lasting[-1]])
    extra = np.append(cuts, relapse.assessed_from)
    extra = extra[(extra > start[lasting[0]]) & (extra < horizon)]
    edges = merge_times(inner.reshape(-1), np.array([horizon]), extra)
    length = np.diff(edges)
    middle = edges[:-1] + length / 2
    place = np.searchsorted(start[lasting], middle, side="right") - 1
    interval = lasting[place]
    piece = (middle - start[interval]) / duration[interval] * pieces
    used = row[interval, np.clip(piece.astype(int), 0, pieces - 1)]
    fast = rates[used]
    count = np.maximum(1, np.ceil(fast * length / reach - 1e-9)).astype(int)
    number = np.concatenate([np.arange(c) for c in count])
    spread = lambda x: np.repeat(x, count)  # noqa: E731
    step = spread(length / count)
    within = spread(edges[:-1]) + step * (number + 1)
    end = np.where(number == spread(count) - 1, spread(edges[1:]), within)
    begins = np.abs(edges[:-1] - start[interval]) < RESOLUTION
    found = Mesh(
        interval=spread(interval),
        row=spread(used),
        duration=step,
        end=end,
        is_first=spread(begins) & (number == 0),
        is_assessed=spread(middle) > relapse.assessed_from,
    )
    return Mesh(*(x[::-1] for x in found))


def padded(found: Mesh, size: int) -> Mesh:
    """The same with steps of no length after the last."""
    more = size - len(found.row)
    return Mesh(*(np.concatenate([x, np.zeros(more, x.dtype)]) for x in found))


def steps_of(found: Mesh, kept: Float[np.ndarray, "interval type"], relapse: Relapse) -> Steps:
    """The steps as the solver takes them (NumPy)."""
    return Steps(
        row=found.row,
        duration=found.duration,
        end=found.end,
        hazard=hazard(relapse) * found.is_assessed.astype(float),
        kept=np.where(found.is_first[:, None], kept[found.interval], 1.0),
    )


# --- one law ---------------------------------------------------------------------------------------


class Lawful(NamedTuple):
    """One law with its offspring tabulated."""

    net: Network
    offspring: Offspring  # [row, ...]
    row: np.ndarray  # [interval, piece]
    rates: np.ndarray  # [row] 1/day
    kept: np.ndarray  # [interval, type]
    immigration: np.ndarray  # [source] events per day
    start: np.ndarray  # [interval]
    duration: np.ndarray  # [interval]


def _bucket(size: int, least: int = 8) -> int:
    """The next size of those that are compiled."""
    while least < size:
        least *= 2
    return least


def _longer(tree, size: int):
    """The same tree (NumPy) with rows repeated up to `size`."""

    def longer(leaf):
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[:1], size - len(leaf), axis=0)])

    return jax.tree.map(longer, tree)


@jax.jit
def _tabulated(net: Network, speeds: Speeds):
    rows = jax.vmap(partial(backward.offspring, net))(speeds)
    return rows, jax.vmap(partial(backward.largest_rate, net))(speeds)


@jax.jit
def _held(process: Process, count):
    return flow.held(process, count, first_extra(process), pieces=PIECES)


def lawful(process: Process, count: np.ndarray) -> Lawful:
    """One law at its own rates, or along the mean course from `count` cells at day 0."""
    start, duration = np.asarray(process.start), np.asarray(process.duration)
    if flow.is_linear(process) and process.speeds is not None:
        speeds, row = process.speeds, np.asarray(process.which)[:, None]
    else:
        speeds = _held(process, jnp.asarray(count))
        row = np.arange(len(start) * PIECES).reshape(len(start), PIECES)
    rows, rates = _tabulated(process.net, _longer(speeds, _bucket(len(speeds.birth))))
    return Lawful(
        process.net, rows, row, np.asarray(rates), np.asarray(process.kept),
        np.asarray(process.immigration), start, duration,
    )  # fmt: skip


@jax.jit
def _solve(kind, law, steps, last, rates, horizons) -> Chance:
    return backward.chances(kind, law, steps, last, rates, horizons)


def solve(
    law: Lawful, relapse: Relapse, horizons: np.ndarray, last: np.ndarray | None = None
) -> Chance:
    """p at day 0 for several horizons (days), [horizon, type]; under x64.

    `last` is p at a horizon, [type], where it is not that of the relapse (`last_chance`).
    """
    end = jnp.asarray(last_chance(relapse, law.net) if last is None else last)
    kind, order = Kind.of(law.net), np.argsort(horizons)
    rates = law.rates + hazard(relapse)
    found = mesh(law.start, law.duration, law.row, rates, relapse, horizons)
    steps = steps_of(padded(found, _bucket(len(found.row), 1024)), law.kept, relapse)
    p = np.zeros((len(horizons), law.net.num_types))
    arrived, error = np.zeros((2, len(horizons)))
    for first in range(0, len(order), HORIZONS_PER_CALL):
        chosen = order[first : first + HORIZONS_PER_CALL]
        fill = np.pad(chosen, (0, HORIZONS_PER_CALL - len(chosen)), mode="edge")
        at = jnp.asarray(horizons[fill])
        some = _solve(kind, law.offspring, steps, end, jnp.asarray(law.immigration), at)
        p[chosen] = np.asarray(some.p)[: len(chosen)]
        arrived[chosen] = np.asarray(some.log_immigration)[: len(chosen)]
        error[chosen] = np.asarray(some.error)[: len(chosen)]
    return Chance(p, arrived, error)


def log_none(count: np.ndarray, p: np.ndarray) -> np.ndarray:
    """sum_i n_i ln(1 - p_i) over the last axis; types without cells do not matter."""
    present = count > 0
    with np.errstate(divide="ignore"):
        each = np.log1p(-np.minimum(p[..., present], 1.0))
    return np.sum(count[present] * each, axis=-1)


def check(problem: Problem) -> None:
    """Refuse what no single cell has.

    Raises:
        Refused: delivery follows the burden, or small clones stand still.
    """
    if problem.delivery_follows:
        raise Refused(
            "delivery follows the burden, and extinction solves for single cells; leave out "
            "half_delivery_cells, or choose the clones engine"
        )
    if problem.still_below:
        raise Refused(
            "extinction solves for single cells, and those are never still; leave out still_below, or "
            "choose meanfield"
        )


# --- the engine ------------------------------------------------------------------------------------


def simulate(
    problem: Problem,
    *,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trajectory:
    """Probability of relapse of every arm and patient, by every record day.

    Args:
        problem: the study; `replicates`, `seed` and `max_cells` do not matter.
        progress: called after every arm of every patient.
        should_stop: asked between them; if true, what is missing is NaN.

    Raises:
        Refused: the study stops tumors at a size, or treats at a size that has no limit law
            (`detection`).
    """
    if problem.stop_at_cells is not None:
        raise Refused(
            "extinction cannot stop a tumor at a size, since it solves for single cells and their "
            "descendants; leave out stop_at_cells, or use cells or clones"
        )
    for arm in problem.arms:
        if arm.decides:
            raise Refused(
                f"arm {arm.name!r} decides by the whole tumor, and extinction solves for single cells; "
                "choose the clones engine"
            )
    check(problem)
    when = marks(problem.record, problem.horizon)
    days = when.day[when.is_record]
    num_patients = len(problem.models)
    num_laws = len(problem.arms) * num_patients
    net = problem_network(problem)
    found = _Found.empty(num_laws, len(days))
    with jax.enable_x64(True):
        starts: dict[int, Start] = {}
        for k in range(num_laws):
            if should_stop():
                break
            arm, patient = divmod(k, num_patients)
            if patient not in starts:
                starts[patient] = start_of(problem, patient, net)
            single = problem._replace(arms=(problem.arms[arm],))
            _, stacked = planned(
                single, when, cut_at_doses=True, patients=range(patient, patient + 1), net=net
            )
            process = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[0]), stacked)
            found.add(k, problem, starts[patient], process, days)
            if progress is not None:
                cells = int(min(starts[patient].count.sum(), 2**62))
                progress(Progress("treatment", problem.horizon, (k + 1) / num_laws, cells))
    root = names(problem, range(1))
    root |= _variables(problem, found, days)
    root |= drugs(problem, when)
    return {"": root}


class Start(NamedTuple):
    """One patient's tumor at day 0."""

    count: np.ndarray  # [type] cells, of the bulk where it has grown to a size
    grown: Grown | None


def start_of(problem: Problem, patient: int, net: Network) -> Start:
    """The founders, or the tumor that has grown from them to the size at which it is treated."""
    problem = problem._replace(founders=problem.founders_in(patient))
    if problem.treat_at_cells is not None:
        detection.check(problem)
    process = jax.tree.map(jnp.asarray, growth_process(problem, patient, net))
    if problem.treat_at_cells is None:
        count = np.zeros(net.num_types)
        for founder in problem.founders:
            count[net.type_of(founder.genotype, founder.site)] += founder.count
        return Start(count, None)
    rows, rates = _tabulated(net, process.speeds)
    law = jax.tree.map(lambda x: x[0], rows)
    found = detection.bulk(problem, net, law)
    grown = detection.growth_to(found, process, law, rates[0])
    return Start(np.asarray(grown.cells), grown)


def _log_no_relapse(start: Start, chance: Chance) -> np.ndarray:
    """ln P(no relapse), [horizon]."""
    if start.grown is None:
        return log_none(start.count, np.asarray(chance.p)) + np.asarray(chance.log_immigration)
    size = _bucket(len(chance.p), 32)
    p = jnp.asarray(_longer(chance.p, size))
    found = detection.log_none(start.grown, p)
    return np.asarray(found)[: len(chance.p)] + np.asarray(chance.log_immigration)


class _Found(NamedTuple):
    """What is known of all laws; NaN where nothing is."""

    log_none: np.ndarray  # [law, time]
    log_none_outside: np.ndarray  # [law, time] if cells outside the set of classes count
    by_type: list  # [law] of [type] or None
    free_days: np.ndarray  # [law]
    closure: list[str]

    @classmethod
    def empty(cls, num_laws: int, num_days: int) -> "_Found":
        unknown = lambda *shape: np.full(shape, np.nan)  # noqa: E731
        return cls(
            unknown(num_laws, num_days), unknown(num_laws, num_days), [None] * num_laws,
            unknown(num_laws), [EXACT] * num_laws,
        )  # fmt: skip

    def add(self, k: int, problem: Problem, start: Start, process: Process, days) -> None:
        """Solve one law."""
        relapse = problem.relapse
        is_exact = flow.is_linear(process)
        law = lawful(process, start.count)
        nodes, weights = quadrature(law, relapse, problem.horizon)
        chance = solve(law, relapse, np.concatenate([days, nodes]))
        found = _log_no_relapse(start, chance)
        self.log_none[k] = found[: len(days)]
        self.by_type[k] = np.asarray(chance.p)[len(days) - 1]
        self.free_days[k] = weights @ np.exp(found[len(days) :])
        self.closure[k] = EXACT if is_exact else ALONG_MEAN
        if law.net.has_outside:
            upper = solve(law, relapse, days, last_chance(relapse, law.net, counts_outside=True))
            self.log_none_outside[k] = _log_no_relapse(start, upper)
        else:
            self.log_none_outside[k] = self.log_none[k]


def quadrature(law: Lawful, relapse: Relapse, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Days and weights of an integral over 0 .. horizon, Gauss's on panels that end at changes."""
    lasting = law.duration > 0
    changes = np.append(True, np.any(np.diff(law.row[lasting], axis=0) != 0, axis=1))
    changes |= np.any(law.kept[lasting] != 1, axis=1)
    start = law.start[lasting][changes]
    own = [relapse.assessed_from] if relapse.kind == "first_passage" else []
    edges = merge_times(np.array([0.0, horizon]), start, np.clip(own, 0.0, horizon))
    if len(edges) > PANELS + 1:
        edges = edges[np.unique(np.rint(np.linspace(0, len(edges) - 1, PANELS + 1)).astype(int))]
    while len(edges) <= PANELS // 2:
        edges = np.sort(np.concatenate([edges, (edges[1:] + edges[:-1]) / 2]))
    x, w = np.polynomial.legendre.leggauss(NODES)
    length = np.diff(edges)[:, None]
    return (edges[:-1, None] + length * (1 + x) / 2).reshape(-1), (length * w / 2).reshape(-1)


def _variables(problem: Problem, found: _Found, days: np.ndarray) -> dict[str, Variable]:
    num_arms, num_patients = len(problem.arms), len(problem.models)
    shaped = lambda x: np.asarray(x).reshape(num_arms, num_patients, *np.shape(x)[1:])  # noqa: E731
    known = next((x for x in found.by_type if x is not None), None)
    net = problem_network(problem)
    inside = np.full((len(found.by_type), len(net.genotypes), net.num_sites), np.nan)
    if known is not None:
        for k, p in enumerate(found.by_type):
            if p is not None:
                inside[k] = p[: net.num_inside].reshape(inside.shape[1:])
    tracked = np.array(net.genotypes[: problem.record.max_classes], np.int64)
    time = (*LAW, "time")
    return {
        "time": Variable(("time",), days, "d", "time since the start of treatment"),
        "relapse_probability": Variable(
            time, shaped(-np.expm1(found.log_none)), "1", OF_WHAT[problem.relapse.kind]
        ),
        "no_relapse_log": Variable(
            time, shaped(found.log_none), "1", "natural logarithm of the probability of no relapse"
        ),
        "relapse_probability_at_most": Variable(
            time, shaped(-np.expm1(found.log_none_outside)), "1",
            "the same if every cell that leaves the set of classes is a relapse",
        ),
        "class_relapse_probability": Variable(
            (*LAW, "class", "site"), shaped(inside[:, : len(tracked)]), "1",
            "probability of relapse by the horizon from one cell on day 0",
        ),
        "mean_relapse_free_days": Variable(
            LAW, shaped(found.free_days), "d", "mean days without relapse, up to the horizon"
        ),
        "closure": Variable(
            ("arm",), np.array(found.closure, np.str_).reshape(num_arms, -1)[:, 0], "",
            "whose rates a cell sees",
        ),
        **class_names(problem, tracked),
    }  # fmt: skip
