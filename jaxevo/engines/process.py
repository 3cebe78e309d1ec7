"""Process: one tumor's law over time, as the engines that count cells read it.

Time runs in intervals; in each the rates of every type are held at their time average (`drug.course`
says over which nodes), and at its start every cell may have to survive a jump (surgery, radiation).
Equal intervals, such as the weeks of a steady state, share one row of rates.

`planned` makes the processes of all arms and patients of a problem, stacked on a leading axis *law*
(law = arm * num_patients + patient). Without feedback rates are rows of a table; births are slowed by
crowding, and deaths added by immune cells, where the engine asks `speeds_at`. A custom law with
feedback has no table: `speeds_at` and `drift_at` evaluate it with the counts of the moment.
"""

import functools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from jaxevo.drug import damage
from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.drug.schedule import Inputs, merge_times
from jaxevo.engines import immunity
from jaxevo.engines.base import Arm, Problem, Refused
from jaxevo.engines.grid import Marks, arm_course, arm_inputs, multiples
from jaxevo.engines.network import Network, Speeds, class_traits, crowded, network, speeds, still
from jaxevo.model import Model
from jaxevo.state import Array, Traits

DIGITS = 10  # concentrations that agree to so many digits are tabulated once
ROWS_PER_CALL = 64


class Stopped(Exception):
    """The user stopped the study while its rates were being worked out."""


class Process(eqx.Module):
    """One tumor's law (float64); engines stack several on a leading axis."""

    net: Network
    model: Model  # its sites crowd, its immune cells kill; its custom law has the feedback
    traits: Traits  # [class, ...]
    start: Float[Array, " interval"]  # day
    duration: Float[Array, " interval"]  # days; 0 pads
    which: Int[Array, " interval"]  # row of `speeds`, or of `concentration` with feedback
    speeds: Speeds | None  # [row, ...]; None with feedback
    concentration: Float[Array, "row node site drug"] | None  # with feedback, uM
    kept: Float[Array, "interval type"]  # survival of the jump at the start of the interval
    immigration: Float[Array, " source"]  # events per day, in the order of `net.immigrants`
    still_below: Float[Array, ""] | None = None  # cells; see `network.still`

    @property
    def has_feedback(self) -> bool:
        """Whether a custom law reads the counts or extra variables."""
        return self.speeds is None

    def drug_at(self, interval: Int[Array, ""]) -> Float[Array, "node site drug"]:
        """Concentrations at the nodes of one interval, uM, where a custom law has feedback."""
        if self.concentration is None:
            raise ValueError("where rates are tabulated their concentrations are not kept")
        return self.concentration[self.which[interval]]


class Timeline(NamedTuple):
    """The intervals of all laws (NumPy). Between two marks every law has equally many."""

    start: np.ndarray  # [interval, law] days
    duration: np.ndarray  # [interval, law] days; 0 pads
    of_mark: np.ndarray  # [mark] number of intervals before the mark


def speeds_at(
    process: Process,
    interval: Int[Array, ""],
    count: Float[Array, " type"],
    extra: Float[Array, " variable"],
) -> Speeds:
    """Rates of every type in one interval, at these counts: crowded and attacked, or by the custom law."""
    if process.speeds is not None:
        now = jax.tree.map(lambda x: x[process.which[interval]], process.speeds)
        if process.still_below is not None:
            now = still(now, process.net, count < process.still_below)
        now = crowded(now, process.net, process.model.sites, count)
        return immunity.attacked(now, process.net, process.model.immune, count, extra)
    days = process.start[interval] + process.duration[interval] * jnp.asarray(NODES)
    return speeds(
        process.model, process.net, process.traits, process.drug_at(interval),
        jnp.asarray(WEIGHTS), days, count, extra,
    )  # fmt: skip


def drift_at(
    process: Process,
    interval: Int[Array, ""],
    day: Float[Array, ""],
    count: Float[Array, " type"],
    extra: Float[Array, " variable"],
) -> Float[Array, " variable"]:
    """Change of the extra variables per day; empty without a drift."""
    custom, params, net = process.model.custom, process.model.immune, process.net
    if params is not None and process.speeds is not None:
        removal = process.speeds.suppressor_removal[process.which[interval]]  # type: ignore[index]
        return immunity.drift(params, immunity.cells_at(net, count), extra, removal)
    if custom is None or custom.drift is None:
        return jnp.zeros_like(extra)
    population = count[: net.num_inside].reshape(-1, net.num_sites)
    drug = jnp.tensordot(jnp.asarray(WEIGHTS), process.drug_at(interval), axes=1)
    return jnp.asarray(custom.drift(custom.params, day, population, extra, drug))


def first_extra(process: Process) -> Float[Array, " variable"]:
    """The extra variables at the start."""
    params, custom = process.model.immune, process.model.custom
    if params is not None:
        return jnp.concatenate([jnp.asarray(params.effectors), jnp.asarray(params.suppressors)])
    return jnp.zeros(0) if custom is None else jnp.asarray(custom.start)


# --- from a problem --------------------------------------------------------------------------------


def problem_network(problem: Problem) -> Network:
    """The types that the founders and immigrants of a problem can reach."""
    num = len(problem.models)
    for name, given in (("founders_of", problem.founders_of), ("hosts", problem.hosts)):
        if len(given) not in (0, num) and (name, len(given)) != ("hosts", 1):
            raise Refused(f"{name} are those of {len(given)} patients, and the study has {num}")
    each = problem.founders_of or (problem.founders,)
    founders = [founder.genotype for founders in each for founder in founders]
    sources = [(row.genotype, row.site, row.cells) for row in problem.immigration]
    return network(_union(problem.models), founders, problem.max_alterations, sources)


def _union(models: tuple[Model, ...]) -> Model:
    """The first model with every step as likely as for the patient where it is most likely.

    A step that one patient's cells make is an edge of the network of all.
    """
    if len(models) == 1:
        return models[0]
    parts = lambda m: (m.genome, m.mutation, m.sites.migration_rate)  # noqa: E731
    most = jax.tree.map(lambda *x: np.max(np.stack(x), axis=0), *map(parts, models))
    return eqx.tree_at(parts, models[0], most)


def planned(
    problem: Problem,
    when: Marks,
    *,
    cut_at_doses: bool,
    patients: range | None = None,
    net: Network | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Timeline, Process]:
    """The processes of all arms and patients, stacked on a leading axis law; call under x64.

    Args:
        problem: the study.
        when: marks at which every law must end an interval.
        cut_at_doses: whether a dose ends an interval; if not, rates of the stations are averaged over
            its doses, and intervals end at syncs, marks, jumps, and where a prescribed level changes.
        patients: which patients, default all.
        net: `problem_network(problem)`, by those who call this often.
        should_stop: asked before every law.

    Raises:
        Stopped: `should_stop` was true.
    """
    net = problem_network(problem) if net is None else net
    chosen = range(len(problem.models)) if patients is None else patients
    models = [problem.models[patient] for patient in chosen]
    laws = {id(model): _Law.of(model, net) for model in models}  # patients may share a model
    courses: dict = {}
    plans = []
    for arm in range(len(problem.arms)):
        of_model = {}
        for name, law in laws.items():
            if should_stop():
                raise Stopped
            of_model[name] = _one(problem, law, arm, when, cut_at_doses, courses)
        plans += [of_model[id(model)] for model in models]
    widths = np.max([np.diff(p.before) for p in plans], axis=0, initial=0)
    of_mark = np.concatenate([[0], np.cumsum(widths)]).astype(int)
    rows = max(p.num_rows for p in plans)
    aligned = [_aligned(p, of_mark, rows) for p in plans]
    stack = lambda *x: jnp.asarray(np.stack([np.asarray(leaf) for leaf in x]))  # noqa: E731
    stacked = jax.tree.map(stack, *aligned)
    timeline = Timeline(
        np.stack([np.asarray(p.start) for p in aligned], axis=1),
        np.stack([np.asarray(p.duration) for p in aligned], axis=1),
        of_mark,
    )
    return timeline, stacked


def check_alone(problem: Problem) -> None:
    """Refuse what makes a cell's rates depend on others but through the mean course.

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


def growth_process(problem: Problem, patient: int = 0, net: Network | None = None) -> Process:
    """One interval of length `sync` without drug: the law of growth before treatment."""
    net = problem_network(problem) if net is None else net
    day = np.array([0.0, problem.sync])
    when = Marks(day, *(np.ones(2, bool),) * 4)
    short = problem._replace(horizon=problem.sync, arms=(Arm("growth", ()),))
    plan = _one(short, _Law.of(problem.models[patient], net), 0, when, True, {})
    return _aligned(plan, np.array([0, 1]), plan.num_rows)


class _Plan(NamedTuple):
    """One law before it is padded."""

    process: Process
    before: np.ndarray  # [mark] intervals before each mark
    num_rows: int


def float64(tree: PyTree) -> PyTree:
    """The same tree with every floating-point leaf as a NumPy array of float64."""
    is_float = lambda x: np.issubdtype(np.asarray(x).dtype, np.floating)  # noqa: E731
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if is_float(x) else np.asarray(x), tree)


class _Law(NamedTuple):
    """What all arms of a patient share."""

    net: Network
    model: Model
    cast64: Model
    traits: Traits

    @classmethod
    def of(cls, model: Model, net: Network) -> "_Law":
        cast64 = float64(model)
        return cls(net, model, cast64, class_traits(cast64, net))


def _one(problem, law, arm_index, when, cut_at_doses, courses) -> _Plan:
    """The law of one arm for one patient."""
    net, model, cast64, traits = law
    arm = problem.arms[arm_index]
    cuts = [jump.day for jump in arm.jumps if 0 < jump.day < problem.horizon]
    sync_days = merge_times(multiples(problem.sync, problem.horizon), when.day, np.array(cuts))
    given = _cached_inputs(model, arm, arm_index, sync_days, courses)
    custom = model.custom
    has_feedback = custom is not None and (custom.has_feedback or custom.drift is not None)
    edges = given.edges
    if not cut_at_doses and custom is None:
        changes = [t for level in arm.levels for t in (level.start, level.end)]
        inside = [t for t in changes if 0 < t < problem.horizon]
        edges = merge_times(sync_days, np.array(inside))
    site = _cached_course(model, arm_index, given, courses)
    if model.custom is None:
        fine, fine_rows = _unique_rows(site)
    else:  # it may read the day
        fine = fine_rows = np.arange(len(site))
    owner = np.searchsorted(edges[1:], given.edges[1:] - 1e-9)  # coarse interval of every fine one
    length = np.diff(given.edges)
    if has_feedback:
        table, concentration, which = None, site[fine], fine_rows
    else:
        days = given.edges[:-1, None] + length[:, None] * NODES
        table, which = _averaged(
            cast64, net, traits, (site[fine], days[fine]), fine_rows, owner, length
        )
        concentration = None
    kept = np.ones((len(edges) - 1, net.num_types))
    for jump in arm.jumps:
        if jump.day < problem.horizon:
            at = int(np.argmin(np.abs(edges[:-1] - jump.day)))
            kept[at] *= jump_survival(cast64, net, traits, jump)
    process = Process(
        net=net,
        model=cast64,
        traits=traits,
        start=edges[:-1],
        duration=np.diff(edges),
        which=which,
        speeds=table,
        concentration=concentration,
        kept=kept,
        immigration=np.array([row.events_per_day for row in problem.immigration], float),
    )
    before = np.searchsorted(edges, when.day - 1e-9)
    num_rows = len(fine) if table is None else len(table.birth)
    return _Plan(process, before, num_rows)


def _cached_inputs(model, arm, arm_index, sync_days, courses) -> Inputs:
    """What an arm gives; patients of equal bioavailability and body surface are given the same."""
    parts = (model.molar_mass, model.bioavailability, model.body_surface)
    key = (arm_index, *(np.asarray(x).tobytes() for x in parts))
    if key not in courses:
        courses[key] = arm_inputs(model, arm, sync_days)
    return courses[key]


def _cached_course(model, arm_index, given, courses) -> np.ndarray:
    """Concentrations at the sites, [interval, node, site, drug]; equal patients share a course."""
    parts = (model.plasma, model.delivery, model.cellular.transport, model.molar_mass,
             model.bioavailability, model.body_surface)  # fmt: skip
    key = (arm_index, *(np.asarray(x).tobytes() for x in jax.tree.leaves(parts)))
    if key not in courses:
        courses[key] = arm_course(model, given).site
    return courses[key]


def _unique_rows(site: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of intervals with different concentrations, and for every interval which of them."""
    flat = site.reshape(len(site), -1)
    scale = np.maximum(np.abs(flat).max(axis=0, initial=0.0), 1e-300)
    return _different(np.round(flat / scale, DIGITS))


def _different(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first of all equal rows, and for every row which of them it equals."""
    named: dict[bytes, int] = {}
    of_row = [named.setdefault(row.tobytes(), len(named)) for row in rows + 0.0]  # -0 is 0
    return np.unique(of_row, return_index=True)[1], np.array(of_row, int)


@partial(jax.jit, static_argnums=1)
def _tabulated(model: Model, net: Network, traits: Traits, concentration, days) -> Speeds:
    weights = jnp.asarray(WEIGHTS, concentration.dtype)
    each = lambda c, now: speeds(model, net, traits, c, weights, now)  # noqa: E731
    return jax.vmap(each)(concentration, days)


def _averaged(model, net, traits, inputs, fine_rows, owner, length):
    """Speeds of every different interval, and which interval has which."""
    num_rows = len(inputs[0])
    padded = -(-num_rows // ROWS_PER_CALL) * ROWS_PER_CALL
    if num_rows < ROWS_PER_CALL:
        padded = 1 << (num_rows - 1).bit_length()
    fill = lambda x: np.concatenate([x, np.repeat(x[:1], padded - num_rows, axis=0)])  # noqa: E731
    filled = [fill(x) for x in inputs]
    parts = []
    for i in range(0, padded, ROWS_PER_CALL):
        now = (x[i : i + ROWS_PER_CALL] for x in filled)
        parts.append(jax.tree.map(np.asarray, _tabulated(model, net, traits, *now)))
    fine = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    check_speeds(fine)
    share = length / np.bincount(owner, length)[owner]
    used, pair = np.unique(owner * num_rows + fine_rows, return_inverse=True)
    owner, row = np.divmod(used, num_rows)
    place = np.arange(len(used)) - np.searchsorted(owner, owner)  # of a row in its interval
    mixed = np.zeros((owner[-1] + 1, place.max() + 1, 2))  # row, weight
    mixed[owner, place] = np.stack([row, np.round(np.bincount(pair, share), 11)], axis=1)
    first, which = _different(mixed.reshape(len(mixed), -1))
    mixed = mixed[first]
    mixed[:, :, 1] /= mixed[:, :, 1].sum(axis=1, keepdims=True)

    def mix(leaf: np.ndarray) -> np.ndarray:
        weight = lambda k: mixed[:, k, 1].reshape(-1, *(1,) * (leaf.ndim - 1))  # noqa: E731
        each = (weight(k) * leaf[mixed[:, k, 0].astype(int)] for k in range(mixed.shape[1]))
        return functools.reduce(np.add, each)

    return jax.tree.map(mix, fine), which


def check_speeds(fine: Speeds) -> None:
    """Refuse rates that no cell can have; only a law of the user's own gives such.

    Raises:
        Refused: a rate or probability is negative, infinite or not a number.
    """
    for name, value in vars(fine).items():
        if value is not None and not np.all(np.isfinite(value) & (value >= 0)):
            wrong = value[~(np.isfinite(value) & (value >= 0))][0]
            raise Refused(
                f"the model gives a {name} of {wrong:.4g}; expected finite numbers from 0 on (a birth "
                "rate below 0 is a death rate)"
            )


def jump_survival(model: Model, net: Network, traits: Traits, jump) -> np.ndarray:
    """Probability that a cell of each type survives a jump."""
    alive = np.ones((len(net.genotypes), net.num_sites))
    if jump.gray > 0:
        dose = jnp.asarray(jump.gray, jnp.float64)
        each = jax.vmap(damage.radiation_survival, (None, 0, None))
        alive *= np.asarray(each(model.cellular.damage, traits, dose))[:, None]
    if jump.kept_fraction is not None:
        alive *= np.asarray(jump.kept_fraction)[None, :]
    outside = np.ones(net.num_types - net.num_inside)
    return np.concatenate([alive.reshape(-1), outside])


def _aligned(plan: _Plan, of_mark: np.ndarray, num_rows: int) -> Process:
    """The same law with intervals and rows padded to those of all laws."""
    p, total = plan.process, int(of_mark[-1])
    start, duration = np.zeros(total), np.zeros(total)
    which, kept = np.zeros(total, np.int32), np.ones((total, p.kept.shape[1]))
    for m in range(len(of_mark) - 1):
        here = slice(plan.before[m], plan.before[m + 1])
        at = slice(of_mark[m], of_mark[m] + here.stop - here.start)
        start[at], duration[at] = p.start[here], p.duration[here]
        which[at], kept[at] = p.which[here], p.kept[here]
        rest = slice(at.stop, of_mark[m + 1])
        start[rest] = p.start[here.stop - 1] + p.duration[here.stop - 1]
        which[rest] = p.which[here.stop - 1]

    def longer(leaf):
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[:1], num_rows - len(leaf), axis=0)])

    table = None if p.speeds is None else jax.tree.map(longer, p.speeds)
    concentration = None if p.concentration is None else longer(p.concentration)
    return Process(
        p.net, p.model, p.traits, start, duration, which, table, concentration, kept, p.immigration
    )
