"""Regimen: one arm that decides, as tables that a compiled window reads; and a trial of its rules.

Windows from one visit to the next are all cut alike: at every moment at which, in any window, something
is given or stops. A line's doses are tabulated by the windows since it was begun.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from jaxevo import genotype
from jaxevo.drug import course
from jaxevo.drug.course import NODES, Propagators
from jaxevo.drug.schedule import RESOLUTION, Dose, Level, inputs, merge_times
from jaxevo.engines.base import Arm, Jump, Limits, Problem, Refused, Rule, Visits
from jaxevo.engines.grid import Marks, multiples
from jaxevo.engines.network import Network, class_traits
from jaxevo.engines.process import float64, jump_survival
from jaxevo.host import HostParams
from jaxevo.model import Model
from jaxevo.state import Array, Traits

NEAR = 1e-9  # days


class Unobserved(AttributeError):
    """A rule read what is not observed."""


class Seen:
    """What is known about ONE tumor at a visit; reading anything else raises `Unobserved`.

    Always: `day`, `visit` (0, 1, ..), `share` [line] in force until now, `factor` [drug] that the safety
    rule answered last, `given_mg` [drug] so far, `burden` (cells at the latest scan, 0 below
    detection), `is_scan` (whether that was now), `last_scan` (the burden of the scan before, NaN at
    the first). Where ordered: `neutrophils` (1e9/L), `fractions` [alteration] of cells that carry
    each alteration, `composition` [class] cells, in the order of `genotypes`.
    """

    def __init__(self, **values):
        self.__dict__.update(values)

    def __getattr__(self, name: str):
        raise Unobserved(name)


class Rules(NamedTuple):
    """What shapes the program of a window (static)."""

    net: Network
    visits: Visits
    policy: Callable | None
    safety: Callable | None
    of_patient: tuple[bool, bool]  # whether parameters of the policy, of safety are a patient's own
    has_feedback: bool
    is_inhibited: bool  # delivery changes on the way, so that nothing can be tabulated by length
    delivery_follows: bool  # the cells at each site, as they were at the visit
    reads_day: bool  # a custom law may
    longest: float  # slot, days


class Tables(NamedTuple):
    """Numbers of one arm. Days of a window count from its visit."""

    # at once into blood, into the gut (mg); infused (mg/day); prescribed (uM); the largest infusion that
    # runs (mg). Line 0 is the arm's own doses
    amounts: Float[Array, "line window way slot drug"]
    per_m2: Float[Array, "line window way slot drug"]  # the same for each m2 of body surface
    cap: Float[Array, " drug"]  # mg of one administration
    cumulative: Float[Array, "part drug"]  # mg, and mg per m2
    length: Float[Array, " slot"]  # days
    which: Int[Array, " slot"]
    place: Int[Array, "interval most"]  # slots of an interval
    weight: Float[Array, "interval most"]
    start: Float[Array, "window interval"]  # day
    duration: Float[Array, "window interval"]  # days; 0 after the horizon
    horizon: Float[Array, ""]  # day from which on nothing is given
    jump: Int[Array, "window interval"]  # position of the moment at its start, -1 for none
    carries: Float[Array, "class alteration"]  # 1 where the class has the alteration
    policy: PyTree
    safety: PyTree


class People(NamedTuple):
    """Numbers of every patient; the first axis is the patient."""

    model: Model
    traits: Traits
    made: Propagators | None
    host: HostParams | None
    quantum: Float[Array, "patient drug"]  # uM, to which concentrations are rounded
    survival: Float[Array, "patient moment type"]  # of all jumps of a moment
    immigration: Float[Array, "patient source"]


class Plan(NamedTuple):
    """All that is known about one arm before it starts (NumPy)."""

    rules: Rules
    tables: Tables
    people: People
    num_windows: int
    num_intervals: int  # of a window
    of_mark: np.ndarray  # [mark] number of intervals before the mark
    kind: np.ndarray  # [interval] equal where slots have equal shares

    @property
    def num_kinds(self) -> int:
        """How many."""
        return len(set(self.kind.tolist()))


def plan_of(
    problem: Problem, arm_index: int, when: Marks, patients: range, net: Network, *, in_steps: bool
) -> Plan:
    """One arm that decides, for some patients; call under x64.

    Args:
        problem: the study.
        arm_index: which arm.
        when: marks at which an interval must end.
        patients: which patients.
        net: `process.problem_network(problem)`.
        in_steps: whether rates may be averaged over the doses of a sync interval, as `clones` does.

    Raises:
        Refused: there are no visits; a rule reads what is not observed, or answers in another shape.
    """
    arm, seen_at = problem.arms[arm_index], problem.visits
    if seen_at is None:
        raise Refused(f"arm {arm.name!r} decides, and the study has no visits; add [visits]")
    _check_rules(problem, arm, net)
    num_windows = max(1, int(np.ceil(problem.horizon / seen_at.every - NEAR)))
    slots, ends = _cuts(problem, arm, when, in_steps)
    custom = problem.model.custom
    has_feedback = custom is not None and (custom.has_feedback or custom.drift is not None)
    models = [problem.models[p] for p in patients]
    inhibited = [bool(np.any(np.isfinite(m.cellular.transport.inhibition_ki))
                      and np.any(m.delivery.barrier_pump > 0)) for m in models]  # fmt: skip
    length = np.diff(slots)
    lengths, which = np.unique(np.round(length, course.LENGTH_DIGITS), return_inverse=True)
    follows = problem.delivery_follows
    is_inhibited = any(inhibited) or follows or len(lengths) > course.MAX_LENGTHS
    rules = Rules(
        net, seen_at, arm.policy and arm.policy.decide, arm.safety and arm.safety.decide,
        (_is_own(arm.policy), _is_own(arm.safety)),
        has_feedback, is_inhibited, follows, custom is not None, float(length.max()),
    )  # fmt: skip
    start, end = _edges(problem, arm, when, ends, num_windows)
    moments = _moments(arm, start, problem.horizon)
    tables = _tables(problem, arm, net, slots, ends, num_windows)._replace(
        length=length,
        which=which.reshape(-1),
        start=start,
        duration=end - start,
        jump=_positions(list(moments), start.shape),
        policy=_params(arm.policy, patients),
        safety=_params(arm.safety, patients),
    )
    jumps = list(moments.values())
    people = _people(problem, arm, jumps, patients, net, None if is_inhibited else lengths, tables)
    _, kind = np.unique(tables.weight, axis=0, return_inverse=True)
    total = tables.start.size
    edges = np.append(tables.start.reshape(-1), num_windows * seen_at.every)
    of_mark = np.minimum(np.searchsorted(edges, when.day - NEAR), total)
    return Plan(rules, tables, people, num_windows, len(ends) - 1, of_mark, kind.reshape(-1))


def _check_rules(problem: Problem, arm: Arm, net: Network) -> None:
    """Try the rules on the shapes of what is observed."""
    num = {"policy": len(arm.lines), "safety": len(problem.model.names.drugs)}
    for role in ("policy", "safety"):
        rule: Rule | None = getattr(arm, role)
        if rule is None:
            continue
        example = _example(problem, arm, net)
        params = rule.params
        if rule.of_patient:
            lengths = {len(x) if np.ndim(x) else 0 for x in jax.tree.leaves(params)}
            if lengths - {len(problem.models)}:
                raise Refused(
                    f"{role} {rule.name!r} of arm {arm.name!r} has parameters of {min(lengths)} "
                    f"patients; the study has {len(problem.models)}"
                )
            params = jax.tree.map(lambda x: x[0], params)

        def tried(params, state, values, rule=rule):
            return rule.decide(params, state, Seen(**values, genotypes=np.array(net.genotypes)))

        floats = lambda tree: jax.tree.map(jnp.asarray, tree)  # noqa: E731
        try:
            state, answer = jax.eval_shape(tried, *map(floats, (params, rule.start)), example)
        except Unobserved as error:
            raise Refused(
                f"{role} {rule.name!r} of arm {arm.name!r} reads {error.args[0]!r}, which is not "
                f"observed; observed are {', '.join(sorted(example))}"
            ) from None
        if jnp.shape(answer) != (num[role],):
            raise Refused(
                f"{role} {rule.name!r} of arm {arm.name!r} answers with shape {jnp.shape(answer)}; "
                f"expected ({num[role]},), one number for each {'line' if role == 'policy' else 'drug'}"
            )
        before = jax.tree.map(jnp.shape, rule.start)
        if jax.tree.structure(state) != jax.tree.structure(rule.start) or (
            jax.tree.map(jnp.shape, state) != before
        ):
            raise Refused(
                f"{role} {rule.name!r} of arm {arm.name!r} returns a state unlike its start"
            )


def reads(problem: Problem, arm: Arm, role: str, net: Network) -> tuple[str, ...]:
    """What the rule of a role ("policy" or "safety") reads of a tumor, by trying it; sorted."""
    rule: Rule | None = getattr(arm, role)
    if rule is None:
        return ()
    found: set[str] = set()

    class Noted(Seen):
        """Notes what is read."""

        def __getattribute__(self, name: str):
            if not name.startswith("__"):
                found.add(name)
            return super().__getattribute__(name)

    def tried(params, state, values):
        return rule.decide(params, state, Noted(**values, genotypes=np.array(net.genotypes)))

    floats = lambda tree: jax.tree.map(jnp.asarray, tree)  # noqa: E731
    jax.eval_shape(tried, *map(floats, (rule.params, rule.start)), _example(problem, arm, net))
    return tuple(sorted(found))


def _example(problem: Problem, arm: Arm, net: Network) -> dict[str, Any]:
    """One tumor's values with the shapes that a rule sees."""
    num_drugs = len(problem.model.names.drugs)
    one = jnp.zeros(())
    values: dict[str, Any] = {
        "day": one, "visit": jnp.int32(0), "share": jnp.zeros(len(arm.lines)),
        "factor": jnp.ones(num_drugs), "given_mg": jnp.zeros(num_drugs),
        "burden": one, "is_scan": jnp.asarray(True), "last_scan": one,
    }  # fmt: skip
    seen_at = problem.visits or Visits()
    if problem.hosts:
        values["neutrophils"] = one
    if seen_at.sequencing is not None:
        values["fractions"] = jnp.zeros(len(problem.model.genome.names))
    if seen_at.composition is not None:
        values["composition"] = jnp.zeros(len(net.genotypes))
    return values


def _cuts(problem: Problem, arm: Arm, when: Marks, in_steps: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where a window is cut: at every dose, and (a part of these) where an interval ends."""
    every = problem.visits.every if problem.visits else problem.horizon
    last = every * np.ceil(problem.horizon / every - NEAR)

    def offsets(days) -> np.ndarray:
        days = np.asarray(days, float)
        days = days[(days > -NEAR) & (days < last - NEAR)]
        rest = days - every * np.floor((days + NEAR) / every)
        return np.maximum(rest, 0.0)

    def changes(doses: tuple[Dose, ...], levels: tuple[Level, ...]) -> list[float]:
        times = [t for dose in doses for t in (dose.day, dose.day + dose.duration)]
        return times + [t for level in levels for t in (level.start, level.end)]

    syncs = np.array([t for t in multiples(problem.sync, every) if t < every - NEAR])
    rough = [syncs, offsets(when.day), offsets([j.day for j in arm.jumps])]
    rough.append(offsets([problem.horizon]))
    given = [(arm.doses, arm.levels), *((line.doses, line.levels) for line in arm.lines)]
    fine = [offsets(changes(*one)) for one in given]
    if in_steps and problem.model.custom is None:
        rough += [offsets(changes((), levels)) for _, levels in given]
    else:
        rough += fine
    close = lambda *parts: np.append(merge_times(np.zeros(1), *parts), every)  # noqa: E731
    return close(*rough, *fine), close(*rough)


def _edges(problem, arm, when, ends, num_windows) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every interval, [window, interval]; to the bit those of an arm in advance."""
    first = np.arange(num_windows)[:, None] * problem.visits.every
    jumps = [jump.day for jump in arm.jumps if 0 < jump.day < problem.horizon]
    known = merge_times(multiples(problem.sync, problem.horizon), when.day, np.array(jumps))

    def snapped(days: np.ndarray) -> np.ndarray:
        days = np.minimum(days, problem.horizon)
        near = known[np.minimum(np.searchsorted(known, days - 2 * NEAR), len(known) - 1)]
        return np.where(np.abs(near - days) < 2 * NEAR, near, days)

    return snapped(first + ends[:-1]), snapped(first + ends[1:])


def _moments(arm: Arm, start: np.ndarray, horizon: float) -> dict[int, list[Jump]]:
    """Place of the interval at whose start cells jump -> what happens to them then."""
    found: dict[int, list[Jump]] = {}
    for jump in arm.jumps:
        if jump.day < horizon:
            place = int(np.argmin(np.abs(start.reshape(-1) - jump.day)))
            found.setdefault(place, []).append(jump)
    return found


def _positions(places: list[int], shape: tuple[int, ...]) -> np.ndarray:
    """-1, but the position in a list at each place of it."""
    found = np.full(shape, -1)
    found.flat[places] = np.arange(len(places))
    return found


def _is_own(rule: Rule | None) -> bool:
    """Whether parameters of a rule are the patients' own."""
    return rule is not None and rule.of_patient


def _params(rule: Rule | None, patients: range) -> PyTree:
    """Parameters of a rule, with a leading axis patient if they are the patients' own."""
    params = () if rule is None else rule.params
    if not _is_own(rule):
        return params
    return jax.tree.map(lambda x: np.asarray(x)[np.array(patients)], params)


def _tables(problem, arm, net, slots, ends, num_windows) -> Tables:
    """Everything that does not depend on the patient or on what came before."""
    every, num_drugs = problem.visits.every, len(problem.model.names.drugs)
    first = np.arange(num_windows)[:, None] * every
    grid = np.append((first + slots[:-1]).reshape(-1), num_windows * every)
    middles = (grid[1:] + grid[:-1]) / 2

    def table(doses, levels, is_per_m2) -> np.ndarray:
        doses = tuple(dose for dose in doses if dose.is_per_m2 == is_per_m2)
        levels = () if is_per_m2 else levels
        known = inputs(doses, levels, grid, np.full(num_drugs, 1e3), np.ones(num_drugs))
        whole = np.zeros_like(known.level)
        for dose in doses:
            if dose.duration > RESOLUTION:
                runs = (dose.day < middles) & (middles < dose.day + dose.duration)
                whole[runs, dose.drug] = np.maximum(whole[runs, dose.drug], dose.amount_mg)
        ways = [known.blood_dose, known.gut_dose, known.infusion_rate, known.level, whole]
        return np.stack([x.reshape(num_windows, len(slots) - 1, num_drugs) for x in ways], axis=1)

    given = [(arm.doses, arm.levels), *((line.doses, line.levels) for line in arm.lines)]
    limits = problem.limits
    none = np.full(num_drugs, np.inf)
    owner = np.searchsorted(ends[1:], slots[1:] - NEAR)
    lists = [np.flatnonzero(owner == i) for i in range(len(ends) - 1)]
    most = max(map(len, lists))
    place, weight = np.zeros((len(lists), most), int), np.zeros((len(lists), most))
    for i, found in enumerate(lists):
        share = np.diff(slots)[found]
        place[i, : len(found)], weight[i, : len(found)] = found, share / share.sum()
    shape = (num_windows, len(ends) - 1)
    levels = np.asarray(genotype.unpack(problem.model.genome, np.array(net.genotypes, np.int64)))
    return Tables(
        amounts=np.stack([table(*one, False) for one in given]),
        per_m2=np.stack([table(*one, True) for one in given]),
        cap=none if limits is None else np.asarray(limits.dose_mg, float),
        cumulative=_cumulative(limits, none),
        length=np.zeros(0),
        which=np.zeros(0, int),
        place=place,
        weight=weight,
        start=np.zeros(shape),
        duration=np.zeros(shape),
        horizon=np.asarray(float(problem.horizon)),
        jump=np.zeros(shape, int),
        carries=(levels > 0).astype(float),
        policy=(),
        safety=(),
    )


def _cumulative(limits: Limits | None, none: np.ndarray) -> np.ndarray:
    if limits is None:
        return np.stack([none, none])
    per_m2 = np.asarray(limits.cumulative_mg_per_m2 or none, float)
    return np.stack([np.asarray(limits.cumulative_mg, float), per_m2])


def _people(problem, arm, jumps, patients, net, lengths, tables) -> People:
    models = [float64(problem.models[p]) for p in patients]
    traits = [class_traits(m, net) for m in models]
    made = None
    if lengths is not None:
        times = np.concatenate([NODES, [1.0]]) * lengths[:, None]
        made = _stacked([
            course.propagators(m.plasma, m.delivery, m.cellular.transport, times) for m in models
        ])  # fmt: skip
    hosts = None
    if problem.hosts:
        hosts = _stacked([float64(problem.host_of(p, arm)) for p in patients])
    survival = np.ones((len(models), max(len(jumps), 1), net.num_types))
    for i, (model, own) in enumerate(zip(models, traits, strict=True)):
        for j, together in enumerate(jumps):
            for jump in together:
                survival[i, j] *= jump_survival(model, net, own, jump)
    rates = np.array([row.events_per_day for row in problem.immigration], float)
    return People(
        _stacked(models),
        _stacked(traits),
        made,
        hosts,
        np.stack([quanta(tables, model) for model in models]),
        survival,
        np.tile(rates, (len(models), 1)),
    )


def _stacked(trees: list) -> PyTree:
    return jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *trees)


def quanta(tables: Tables, model: Model) -> np.ndarray:
    """[drug] uM: powers of 2 to which concentrations are rounded, about 1e-11 of the largest.

    The largest level, or all that a window of the arm gives at once in the blood of this patient.
    """
    amounts = np.asarray(tables.amounts) + tables.per_m2 * float(model.body_surface)
    at_once = amounts[:, :, :2].sum(axis=(2, 3))
    infused = (amounts[:, :, 2] * np.asarray(tables.length)[:, None]).sum(axis=2)
    mg = (at_once + infused).max(axis=1).sum(axis=0)
    volume = np.asarray(model.plasma.central_volume)
    largest = mg * 1e3 / np.asarray(model.molar_mass) / volume
    largest = np.maximum(largest, amounts[:, :, 3].max(axis=(1, 2)).sum(axis=0))
    return 2.0 ** (np.floor(np.log2(np.where(largest > 0, largest, 1.0))) - 36)


def parts_of(problem: Problem) -> list[list[int]]:
    """Arms that can be treated together."""
    alone = [[a] for a, arm in enumerate(problem.arms) if problem.goes_by_visits(arm)]
    in_advance = [a for a in range(len(problem.arms)) if [a] not in alone]
    return ([in_advance] if in_advance else []) + alone
