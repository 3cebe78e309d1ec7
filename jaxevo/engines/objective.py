"""Objective: relapse as a function of all doses of an arm, for whoever improves a schedule.

The chain from an amount to ln P(no relapse) is the same as that of `extinction.simulate`, without a
table between: schedule -> concentrations (`drug.course`) -> rates of every type (`network`) -> p
(`backward`) -> ln P. Under crowding, immunity or feedback the rates are those along the mean course
(`flow`). Times stay, amounts and levels move. All of it is differentiable in reverse mode.

    objective    ln P(no relapse by the horizon)
    free_days    mean days without relapse up to the horizon: P(no relapse) at Gauss's nodes, one
                 backward solve for each in one batch
    burden       ln of the expected cells at the horizon (`flow`), also where rates depend on counts
    blood        concentrations in blood, for the marrow

Steps of the solver are chosen once, for the amounts of the arm, for none, and for some multiples. Where
amounts are so different that the series no longer reaches over a step, the value is NaN: make the
objective anew from there.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.drug import course as courses
from jaxevo.drug import delivery
from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.drug.schedule import RESOLUTION
from jaxevo.engines import backward, detection, extinction, flow
from jaxevo.engines.backward import Kind, Steps
from jaxevo.engines.base import Arm, Problem, Refused
from jaxevo.engines.grid import arm_inputs, marks, multiples
from jaxevo.engines.network import Speeds, speeds
from jaxevo.engines.process import Process, check_alone, planned
from jaxevo.engines.series import Offspring
from jaxevo.model import Model
from jaxevo.state import Array

PROBES = (0.0, 1.0, 2.0, 8.0)  # multiples of the arm's amounts for which steps are chosen
TOLERANCE = 1e-10  # of the last Taylor term
ALARM = 1e-6  # a last term larger than this makes the value NaN
Probes = Sequence[float] | np.ndarray
HORIZONS = 24  # of the mean days without relapse
MORE_STEPS = 1.5  # that a course may take than with the amounts that were tried
TURNOVER = 0.25  # events of a cell in a piece in which rates along the mean course are held
MEAN_STEPS = (1, 2, 4, 8)  # of a piece, the first that suits all amounts that are tried
FIELDS = ("gut_dose", "blood_dose", "infusion_rate", "level")


class Objective(NamedTuple):
    """A number as a function of the amounts [entry] of an arm; call under x64."""

    value: Callable[[Float[Array, " entry"]], Float[Array, ""]]
    start: Float[np.ndarray, " entry"]  # doses (mg), then levels (uM), in the order of the arm
    day: Float[np.ndarray, " entry"]  # of each entry
    drug: np.ndarray  # [entry] index


class _Dosing(NamedTuple):
    """Where each amount enters: inputs[field, interval, drug] += factor * amount[entry]."""

    field: np.ndarray
    interval: np.ndarray
    drug: np.ndarray
    entry: np.ndarray
    factor: np.ndarray

    def inputs(self, amounts, num_intervals: int, num_drugs: int):
        """gut, blood, infusion and level, each [interval, drug], as `schedule.inputs` has them."""
        empty = jnp.zeros((len(FIELDS), num_intervals, num_drugs), amounts.dtype)
        added = jnp.asarray(self.factor) * amounts[self.entry]
        return tuple(empty.at[self.field, self.interval, self.drug].add(added))


def objective(
    problem: Problem, arm: int = 0, patient: int = 0, probes: Probes = PROBES
) -> Objective:
    """ln P(no relapse by the horizon) of one arm of one patient.

    Args:
        problem: the study.
        arm, patient: which.
        probes: multiples of the arm's amounts for which steps are chosen, of all [probe], or of each
            [probe, entry].

    Raises:
        Refused: what `detection` refuses.
    """
    return _of_relapse(problem, arm, patient, probes, np.zeros(0))


def free_days(
    problem: Problem, arm: int = 0, patient: int = 0, probes: Probes = PROBES
) -> Objective:
    """Mean days without relapse up to the horizon; the same arguments, the same refusals."""
    x, w = np.polynomial.legendre.leggauss(HORIZONS)
    first = problem.relapse.assessed_from if problem.relapse.kind == "first_passage" else 0.0
    first = min(first, problem.horizon)
    length = problem.horizon - first
    days = first + length * (1 + x) / 2
    found = _of_relapse(problem, arm, patient, probes, days)
    walk = found.value.__self__  # type: ignore[attr-defined]

    def value(amounts):
        none = jnp.exp(walk.values(amounts, days))
        return first + jnp.asarray(length * w / 2) @ none

    return found._replace(value=value)


def _of_relapse(problem, arm, patient, probes, cuts) -> Objective:
    given, model = problem.arms[arm], problem.models[patient]
    with jax.enable_x64(True):
        process = _process(problem, given, patient)
        start = extinction.start_of(problem, patient, process.net)
        tried = [_amounts(given) * np.asarray(factor, float) for factor in probes]
        if flow.is_linear(process):
            rows = _rows(process, model, given)
        else:
            check_alone(problem)
            process, rows = _along(process, model, given, start.count, tried)
        walk = _Walk.of(problem, process, jax.jit(rows), start, tried, cuts)
    return _as_objective(walk.value, given)


def burden(problem: Problem, arm: int = 0, patient: int = 0, probes: Probes = PROBES) -> Objective:
    """ln of the expected cells at the horizon, from the founders at day 0; the same arguments.

    Raises:
        Refused: the tumor is treated at a size.
    """
    if problem.treat_at_cells is not None:
        raise Refused(
            "the expected burden is followed from day 0; leave out treat_at_cells, or give founders "
            "that are the tumor at that size"
        )
    given, model = problem.arms[arm], problem.models[patient]
    with jax.enable_x64(True):
        process = _process(problem, given, patient)
        start = extinction.start_of(problem, patient, process.net)
        count = jnp.asarray(start.count)
        followed = _followed(process, model, given)
        taken = jax.jit(lambda amounts: flow.course(followed(amounts), count).steps)
        tried = [taken(jnp.asarray(_amounts(given) * np.asarray(f, float))) for f in probes]
        most = int(np.ceil(MORE_STEPS * np.max([np.asarray(steps) for steps in tried]))) + 2

        def value(amounts):
            along = flow.course(followed(amounts), count, most=most)
            return jnp.log(jnp.sum(along.count[-1]))

    return _as_objective(value, given)


class Blood(NamedTuple):
    """Free concentrations in blood as a function of the amounts; call under x64."""

    level: Callable[[Float[Array, " entry"]], Float[Array, "interval node drug"]]  # uM
    duration: Float[np.ndarray, " interval"]  # days
    start: Float[np.ndarray, " interval"]  # day


def blood(problem: Problem, arm: int = 0, patient: int = 0, longest: float = np.inf) -> Blood:
    """Concentrations at the nodes of `drug.course`, in intervals cut at syncs and doses, and after
    `longest` days.

    They are linear in the amounts, since what a barrier does to a site does not reach the blood.
    """
    given, model = problem.arms[arm], problem.models[patient]
    edges = arm_inputs(model, given, multiples(min(problem.sync, longest), problem.horizon)).edges
    parts = model.molar_mass, model.bioavailability, model.body_surface
    dosing = _dosing(given, edges, *map(np.asarray, parts))
    length = np.diff(edges)
    lengths, which = np.unique(np.round(length, courses.LENGTH_DIGITS), return_inverse=True)
    times = np.append(NODES, 1.0) * lengths[:, None]
    num_drugs = len(model.names.drugs)

    def level(amounts):
        inputs = dosing.inputs(amounts, len(length), num_drugs)
        parts = model.plasma, model.delivery, model.cellular.transport
        return courses._steady_course(*parts, inputs, jnp.asarray(times), jnp.asarray(which))[0]

    return Blood(level, length, edges[:-1])


def _process(problem: Problem, given: Arm, patient: int) -> Process:
    """The law of one arm for one patient, without marks."""
    single = problem._replace(
        arms=(given,), record=problem.record._replace(every=problem.horizon, snapshot_days=())
    )
    when = marks(single.record, problem.horizon)
    chosen = range(patient, patient + 1)
    _, stacked = planned(single, when, cut_at_doses=True, patients=chosen)
    return jax.tree.map(lambda x: x[0], stacked)


def _amounts(arm: Arm) -> Float[np.ndarray, " entry"]:
    doses = [dose.amount_mg for dose in arm.doses]
    return np.array([*doses, *(level.level_um for level in arm.levels)], float)


def _as_objective(value, arm: Arm) -> Objective:
    days = [dose.day for dose in arm.doses] + [level.start for level in arm.levels]
    drugs = [entry.drug for entry in (*arm.doses, *arm.levels)]
    return Objective(value, _amounts(arm), np.array(days, float), np.array(drugs, int))


# --- from amounts to rates -------------------------------------------------------------------------


class _Sites(NamedTuple):
    """Concentrations at the sites in every interval as a function of the amounts."""

    concentration: Callable[[Array], Array]  # -> [interval, node, site, drug]
    days: np.ndarray  # [interval, node]
    weights: np.ndarray  # [node]

    @classmethod
    def of(cls, process: Process, model: Model, arm: Arm) -> "_Sites":
        start, length = np.asarray(process.start), np.asarray(process.duration)
        edges = np.append(start, start[-1] + length[-1])
        parts = model.molar_mass, model.bioavailability, model.body_surface
        dosing = _dosing(arm, edges, *map(np.asarray, parts))
        num_intervals, num_drugs = len(start), len(model.names.drugs)
        is_direct = _is_direct(model, arm)
        is_constant = is_direct and model.custom is None  # a custom law may read the day
        nodes, weights = (np.full(1, 0.5), np.ones(1)) if is_constant else (NODES, WEIGHTS)
        pieces = length[:, None] * np.diff(np.concatenate([[0.0], NODES, [1.0]]))
        lengths, which = np.unique(np.round(length, courses.LENGTH_DIGITS), return_inverse=True)
        steady = jnp.asarray(np.append(NODES, 1.0) * lengths[:, None]), jnp.asarray(which)
        is_steady = courses.is_steady(model.delivery, model.cellular.transport, lengths)

        def concentration(amounts):
            inputs = dosing.inputs(amounts, num_intervals, num_drugs)
            if not num_drugs:
                return jnp.zeros((num_intervals, len(nodes), len(model.names.sites), 0))
            if is_direct:
                site = jax.vmap(partial(_at_once, model))(inputs[-1])
                return jnp.repeat(site[:, None], len(nodes), axis=1)
            parts = model.plasma, model.delivery, model.cellular.transport
            if is_steady:
                return courses._steady_course(*parts, inputs, *steady)[1]
            return courses._course(*parts, inputs, jnp.asarray(pieces))[1]

        return cls(concentration, start[:, None] + length[:, None] * nodes, weights)

    def all_speeds(self, process: Process, amounts) -> Speeds:
        """Rates of every type in every interval.

        Interval by interval, and again on the way back: else reverse mode would store what all stations of
        all classes at all nodes have in between, which is nearly all of its memory.
        """

        @jax.checkpoint
        def one(now) -> Speeds:
            site, day = now
            weights = jnp.asarray(self.weights)
            return speeds(process.model, process.net, process.traits, site, weights, day)

        return jax.lax.map(one, (self.concentration(amounts), jnp.asarray(self.days)))


def _followed(
    process: Process, model: Model, arm: Arm, pieces: int = 1
) -> Callable[[Array], Process]:
    """The same law as a function of the amounts, in equal pieces of its intervals."""
    sites, cut = _Sites.of(process, model, arm), _cut(process, pieces)

    def followed(amounts) -> Process:
        if process.has_feedback:
            return eqx.tree_at(lambda p: p.concentration, cut, sites.concentration(amounts))
        return eqx.tree_at(lambda p: p.speeds, cut, sites.all_speeds(process, amounts))

    return followed


def _cut(process: Process, pieces: int) -> Process:
    """The same law in equal pieces of its intervals, each of which has a row of its own."""
    start, length = np.asarray(process.start), np.asarray(process.duration) / pieces
    kept = np.ones((len(start) * pieces, process.net.num_types))
    kept[::pieces] = np.asarray(process.kept)
    begin = start[:, None] + length[:, None] * np.arange(pieces)
    which = np.repeat(np.arange(len(start)), pieces)
    parts = lambda p: (p.start, p.duration, p.kept, p.which)  # noqa: E731
    values = begin.ravel(), np.repeat(length, pieces), kept, which
    return eqx.tree_at(parts, process, jax.tree.map(jnp.asarray, values))


def _along(process: Process, model: Model, arm: Arm, count: np.ndarray, tried: list[np.ndarray]):
    """The law in pieces, and the rates of every piece along the mean course."""
    pieces = extinction.PIECES
    if not process.has_feedback:  # the rates of cells that are alone are the largest
        own, length = jax.jit(_rows(process, model, arm)), np.asarray(process.duration)
        turnover = max(float(np.max(own(jnp.asarray(x))[1] * length)) for x in tried)
        pieces = min(pieces, int(np.ceil(turnover / TURNOVER)))
    followed, start = _followed(process, model, arm, pieces), jnp.asarray(count)

    def rows(amounts, steps: int):
        found = flow.held(followed(amounts), start, steps=steps)
        law = jax.vmap(partial(backward.offspring, process.net))(found)
        return law, jax.vmap(partial(backward.largest_rate, process.net))(found)

    for steps in MEAN_STEPS:
        made = jax.jit(partial(rows, steps=steps))
        if all(np.isfinite(made(jnp.asarray(x))[1]).all() for x in tried):
            return _cut(process, pieces), made
    raise Refused(
        "rates along the mean course change too fast for its fixed steps; make sync_hours smaller"
    )


def _rows(process: Process, model: Model, arm: Arm) -> Callable[..., tuple[Offspring, Array]]:
    """The offspring and the largest rate in every interval as functions of the amounts."""
    sites = _Sites.of(process, model, arm)

    def rows(amounts):
        found = sites.all_speeds(process, amounts)
        law = jax.vmap(partial(backward.offspring, process.net))(found)
        return law, jax.vmap(partial(backward.largest_rate, process.net))(found)

    return rows


def _dosing(arm: Arm, edges: np.ndarray, molar_mass, bioavailability, surface) -> _Dosing:
    """Where every dose and level of an arm enters; the same rules as `schedule.inputs`."""
    found, middles = [], (edges[1:] + edges[:-1]) / 2
    for k, dose in enumerate(arm.doses):
        factor = 1e3 / molar_mass[dose.drug] * (bioavailability[dose.drug] if dose.is_oral else 1.0)
        factor *= surface if dose.is_per_m2 else 1.0
        if dose.duration > RESOLUTION:
            during = (dose.day < middles) & (middles < dose.day + dose.duration)
            found += [(2, i, dose.drug, k, factor / dose.duration) for i in np.flatnonzero(during)]
        elif edges[0] - RESOLUTION <= dose.day < edges[-1] - RESOLUTION:
            i = np.argmin(np.abs(edges[:-1] - dose.day))
            found.append((0 if dose.is_oral else 1, i, dose.drug, k, factor))
    for k, level in enumerate(arm.levels, len(arm.doses)):
        during = (level.start < middles) & (middles < level.end)
        found += [(3, i, level.drug, k, 1.0) for i in np.flatnonzero(during)]
    columns = list(zip(*found, strict=True)) or [()] * 5
    field, interval, drug, entry = (np.array(x, int) for x in columns[:4])
    return _Dosing(field, interval, drug, entry, np.array(columns[4], float))


def _is_direct(model: Model, arm: Arm) -> bool:
    """Whether concentrations at the sites are those prescribed, at once, throughout an interval."""
    given = {entry.drug for entry in (*arm.doses, *arm.levels)}
    sites = model.delivery
    return (
        bool(np.all(np.asarray(model.plasma.is_prescribed)[list(given)] > 0))
        and bool(np.all(np.isinf(sites.equilibration_rate)))
        and bool(np.all(np.isinf(sites.barrier_permeability)))
    )


def _at_once(model: Model, level: Float[Array, " drug"]) -> Float[Array, "site drug"]:
    fraction, _ = delivery.all_sites(model.delivery, model.cellular.transport, level)
    return fraction * level[None, :]


# --- from rates to relapse -------------------------------------------------------------------------


class _Walk(NamedTuple):
    """The steps of the solver, and all else that amounts do not move."""

    kind: Kind
    rows: Callable[..., tuple[Offspring, Array]]
    steps: Steps
    growth_steps: np.ndarray  # [step] days, before treatment
    last: np.ndarray  # [type]
    immigration: np.ndarray  # [source]
    start: extinction.Start

    @classmethod
    def of(
        cls, problem: Problem, process: Process, rows, start, tried: list[np.ndarray], cuts
    ) -> "_Walk":
        """Steps that suit all amounts that are tried, and end at the cuts."""
        kind, relapse = Kind.of(process.net), problem.relapse
        last = extinction.last_chance(relapse, process.net)
        begin, length = np.asarray(process.start), np.asarray(process.duration)
        of_cell = jnp.asarray(extinction.hazard(relapse))
        counts = np.max(
            [
                np.asarray(
                    _step_counts(kind, *rows(x), jnp.asarray(length), jnp.asarray(last), of_cell)
                )
                for x in map(jnp.asarray, tried)
            ],
            axis=0,
        )
        if len(cuts):  # a horizon may end anywhere, and there p begins at its largest
            rates = np.max([np.asarray(rows(jnp.asarray(x))[1]) for x in tried], axis=0)
            counts = np.maximum(counts, length * (rates + float(of_cell)) / backward.REACH)
        each = np.arange(len(begin))[:, None]
        mesh = extinction.mesh(begin, length, each, counts / length, relapse, cuts, 1.0)
        steps = extinction.steps_of(mesh, np.asarray(process.kept), relapse)
        walk = cls(kind, rows, steps, np.zeros(0), last, np.asarray(process.immigration), start)
        if start.grown is None:
            return walk
        chance = jax.jit(walk._chance)  # once, or every call would compile
        p = np.max([np.asarray(chance(jnp.asarray(x)).p) for x in tried], axis=0)
        return walk._replace(growth_steps=detection.durations(start.grown, p))

    def _chance(self, amounts) -> backward.Chance:
        law, _ = self.rows(amounts)
        return self._solved(law, self.steps)

    def _solved(self, law, steps: Steps) -> backward.Chance:
        return backward.chance(
            self.kind, law, steps, jnp.asarray(self.last), jnp.asarray(self.immigration)
        )

    def value(self, amounts: Float[Array, " entry"]) -> Float[Array, ""]:
        """ln P(no relapse by the horizon)."""
        return self._log_none(self._chance(amounts))

    def values(self, amounts: Float[Array, " entry"], days: np.ndarray) -> Float[Array, " horizon"]:
        """The same by several days, which must be ends of steps; later steps do nothing."""
        law, _ = self.rows(amounts)
        before = self.steps.end[None] <= days[:, None] + 1e-9
        duration = jnp.asarray(np.where(before, self.steps.duration, 0.0))
        kept = jnp.asarray(np.where(before[..., None], self.steps.kept, 1.0))

        def one(duration, kept):
            return self._log_none(
                self._solved(law, self.steps._replace(duration=duration, kept=kept))
            )

        return jax.vmap(one)(duration, kept)

    def _log_none(self, chance: backward.Chance) -> Float[Array, ""]:
        worst = jnp.zeros(())
        if self.start.grown is None:
            count = jnp.asarray(self.start.count)
            possible = jnp.where(count > 0, jnp.minimum(chance.p, 1.0), 0.0)
            found = jnp.sum(count * jnp.log1p(-possible))
        else:
            found, worst = detection.log_none_over(
                self.start.grown, chance.p, jnp.asarray(self.growth_steps)
            )
        is_good = jnp.maximum(chance.error, worst) < ALARM
        return jnp.where(is_good, found + chance.log_immigration, jnp.nan)


@jax.jit
def _step_counts(kind, law, fastest, duration, last, hazard):
    return backward.step_counts(kind, law, fastest, duration, last, hazard, TOLERANCE)
