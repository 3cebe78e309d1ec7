"""The `meanfield` engine: expected counts with their standard deviations, without dice.

Where rates ignore counts, means and covariances are those of the branching process (closure "exact
moments"). Under crowding, immunity or a custom law with feedback they are the limit of a large population and
its linear noise (closure "linear noise"): wrong where few cells decide, such as the last ones before a
cure. `flow` has the equations, and functions of one law that can be differentiated.

**Growth to a size.** Where a study treats at M cells, day 0 is when the expected tumor, given that it
does not die out, has M cells. Without crowding that mean is n(t)/s after long growth, s the
probability that the founders' descendants survive for ever. The moments at day 0 are those given the
size: fluctuations that only shift the day of reaching it are taken out to first order
(`moments.stopped_at_size`).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo.engines import flow, immunity, moments
from jaxevo.engines.assembly import class_names, drugs, names
from jaxevo.engines.base import Arm, Problem, Refused, Trajectory, Variable
from jaxevo.engines.cells import MAX_GROWTH_DAYS, Progress
from jaxevo.engines.flow import (
    Course,
    Crossing,
    Moments,
    advance,
    course,
    first_day,
    held,
    moments_along,
    on_days,
)
from jaxevo.engines.grid import marks
from jaxevo.engines.network import Network
from jaxevo.engines.process import (
    Process,
    first_extra,
    growth_process,
    planned,
    problem_network,
    speeds_at,
)
from jaxevo.engines.regimen import parts_of
from jaxevo.engines.steered import in_advance, steered, with_still
from jaxevo.engines.watched import Watched, variables
from jaxevo.state import Array

__all__ = [
    "Course",
    "Crossing",
    "Moments",
    "advance",
    "course",
    "first_day",
    "held",
    "moments_along",
    "on_days",
    "simulate",
]

EXACT, LINEAR_NOISE, MEANS_ONLY = "exact moments", "linear noise", "exact means"
STILL = "means, still where few"
ALONG_DECISIONS = "means along the decisions of the mean"
MAX_TYPES = 256  # with more, covariances are not computed
LAWS_PER_CALL = 64
ROOT = ("arm", "patient", "replicate")


class Edge(NamedTuple):
    """What is kept of the moments at an edge of an interval."""

    count: Float[Array, "*lead type"]
    extra: Float[Array, "*lead variable"]
    variance: Float[Array, "*lead"]  # of all living cells
    class_variance: Float[Array, "*lead class"]
    site_variance: Float[Array, "*lead site"]


def simulate(
    problem: Problem,
    *,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trajectory:
    """Expected cells and standard deviations of every arm and patient; the replicate axis has length 1.

    Args:
        problem: the study; `replicates`, `seed` and `max_cells` do not matter.
        progress: called after every group of patients.
        should_stop: asked between groups and at visits; if true, what is missing is NaN.

    Raises:
        Refused: the study stops tumors at a size, or the expected tumor never reaches the size at
            which it is to be treated.
    """
    if problem.stop_at_cells is not None:
        raise Refused(
            "meanfield cannot stop a tumor at a size, since an expected course goes on in those "
            "tumors that have not reached it; leave out stop_at_cells, or use cells or clones"
        )
    custom, crowding = problem.model.custom, problem.model.sites.crowding
    has_feedback = problem.model.immune is not None or (custom and custom.has_feedback)
    if problem.still_below and (crowding != "none" or has_feedback):
        raise Refused(
            "cells stand still by the count at a sync, and crowding, immunity or feedback reads it at "
            "every moment; leave out still_below, or them"
        )
    problem = problem.with_visits()
    every = None if problem.visits is None else problem.visits.every
    when = marks(problem.record, problem.horizon, every)
    num_arms, num_patients = len(problem.arms), len(problem.models)
    group = max(1, LAWS_PER_CALL // num_arms)
    net = problem_network(problem)
    found: list[tuple[range, Edge]] = []
    watched = Watched.empty(problem, num_arms * num_patients, when)
    with jax.enable_x64(True):
        closures = [_closure(problem, net, arm) for arm in problem.arms]
        for first in range(0, num_patients, group):
            chosen = range(first, min(first + group, num_patients))
            if should_stop():
                break
            starts = [_start(problem, net, patient) for patient in chosen]
            edges: dict[int, Edge] = {}
            for arms in parts_of(problem):
                edges |= _part(problem, arms, when, chosen, net, starts, watched, should_stop)
            by_arm = [edges[a] for a in range(num_arms)]
            at_marks = jax.tree.map(lambda *x: np.stack(x)[:, :, when.is_record], *by_arm)
            found.append((chosen, at_marks))
            if progress is not None:
                cells = int(np.minimum(np.nansum(at_marks.count[:, :, -1]), 2**62))
                done = chosen.stop / num_patients
                progress(Progress("treatment", problem.horizon, done, cells))
    edge = _gathered(found, num_arms, num_patients, net, int(when.is_record.sum()))
    root = names(problem, range(1))
    root |= _sizes(problem, net, when.day[when.is_record], edge)
    root |= drugs(problem, when)
    if problem.visits is not None:
        root |= variables(problem, when, lambda name: getattr(watched, name).reshape(
            num_arms, num_patients, 1, *getattr(watched, name).shape[1:]),
            np.full((num_arms, num_patients, 1), problem.horizon))  # fmt: skip
    root["closure"] = Variable(
        ("arm",), np.array(closures, np.str_), "", "what means and deviations are"
    )
    return {"": root}


def _part(
    problem, arms, when, chosen, net, starts, watched: Watched, should_stop
) -> dict[int, Edge]:
    """Edges [patient, mark, ...] of arms that can be treated together."""
    places = [a * len(problem.models) + np.array(chosen) for a in arms]
    if problem.goes_by_visits(problem.arms[arms[0]]):
        done = steered(problem, arms[0], when, chosen, net, starts, should_stop)
        for whole, part in zip(watched, done.watched, strict=True):
            whole[places[0]] = part
        unknown = lambda n: np.full((*done.count.shape[:2], n), np.nan)  # noqa: E731
        return {arms[0]: Edge(
            done.count, done.extra, unknown(1)[..., 0], unknown(_num_classes(net)), unknown(net.num_sites)
        )}  # fmt: skip
    some = problem._replace(arms=tuple(problem.arms[a] for a in arms))
    timeline, process = planned(some, when, cut_at_doses=True, patients=chosen, net=net)
    process = with_still(process, problem.still_below)
    start = jax.tree.map(lambda *x: jnp.stack(x * len(arms)), *starts)
    edges = jax.tree.map(np.asarray, _along(process, start))
    at_marks = jax.tree.map(lambda x: x[:, timeline.of_mark], edges)
    shaped = jax.tree.map(lambda x: x.reshape(len(arms), len(chosen), *x.shape[1:]), at_marks)
    if problem.visits is not None:
        for i, a in enumerate(arms):
            own = in_advance(problem, a, when, net, chosen, shaped.count[i][:, when.is_visit])
            for whole, part in zip(watched, own, strict=True):
                whole[places[i]] = part
    return {a: jax.tree.map(lambda x: x[i], shaped) for i, a in enumerate(arms)}  # noqa: B023


def _closure(problem: Problem, net: Network, arm: Arm) -> str:
    custom = problem.model.custom
    has_feedback = custom is not None and (custom.has_feedback or custom.drift is not None)
    has_feedback |= problem.model.immune is not None
    if problem.still_below:
        return STILL
    by_visits = problem.goes_by_visits(arm)
    is_few = net.num_types <= MAX_TYPES and not by_visits
    follows = has_feedback or problem.delivery_follows
    if follows or problem.model.sites.crowding != "none":
        return LINEAR_NOISE if is_few else "large population, means only"
    return EXACT if is_few else ALONG_DECISIONS if by_visits else MEANS_ONLY


@jax.jit
def _along(process: Process, start: Moments) -> Edge:
    """Every law (leading axis) at all edges."""
    net = process.net

    def one(process: Process, start: Moments) -> Edge:
        if net.num_types > MAX_TYPES or process.still_below is not None:
            count, extra, _ = course(process, start.count, start.extra)
            unknown = lambda n: jnp.full((*count.shape[:1], n), jnp.nan)  # noqa: E731
            deviations = unknown(1)[:, 0], unknown(_num_classes(net)), unknown(net.num_sites)
            return Edge(count, extra, *deviations)
        report = partial(_edge, net)
        return moments_along(process, *start, report=report)

    return jax.vmap(one)(process, start)


def _num_classes(net: Network) -> int:
    return len(net.genotypes)


def _edge(net: Network, state: Moments) -> Edge:
    inside = state.covariance[: net.num_inside, : net.num_inside]
    shape = (_num_classes(net), net.num_sites)
    blocks = inside.reshape(*shape, *shape)
    return Edge(
        state.count,
        state.extra,
        jnp.sum(inside),
        jnp.einsum("isit->i", blocks),
        jnp.einsum("isjs->s", blocks),
    )


# --- before treatment ------------------------------------------------------------------------------


def _start(problem: Problem, net: Network, patient: int) -> Moments:
    """The moments at day 0."""
    count = np.zeros(net.num_types)
    for founder in problem.founders_in(patient):
        count[net.type_of(founder.genotype, founder.site)] += founder.count
    cells = problem.treat_at_cells
    if cells is None:
        extra = immunity.start(problem.models[patient])
        num_all = (len(count) + len(extra)) * (len(count) <= MAX_TYPES)
        return Moments(jnp.asarray(count), jnp.asarray(extra), jnp.zeros((num_all, num_all)))
    law = jax.tree.map(jnp.asarray, growth_process(problem, patient, net))
    extra = first_extra(law)
    if count.sum() >= cells:
        raise Refused(f"the founders are {count.sum():.0f} cells, no fewer than treat_at_cells")
    survival = float(_survival(law, jnp.asarray(count), extra))
    if not survival > 0:
        raise Refused(
            f"the expected tumor of patient {patient} does not grow to {cells} cells; "
            "raise the birth rate, or treat from day 0"
        )
    day, state = _grown(law, jnp.asarray(count), survival, jnp.asarray(float(cells)))
    if not np.isfinite(day):
        raise Refused(
            f"the expected tumor of patient {patient} does not reach {cells} cells within "
            f"{MAX_GROWTH_DAYS:.0f} days; lower treat_at_cells, or raise the birth rate"
        )
    return state


@jax.jit
def _survival(law: Process, count, extra):
    """Probability that some descendant of the founders is always alive, at the rates of the start.

    The smallest root of q = f(q), f the generating function of what one cell leaves at its next event,
    by Newton's method from 0, which rises to it (Etessami & Yannakakis 2009, 10.1145/1462153.1462154).
    """
    now = speeds_at(law, jnp.asarray(0), count, extra)
    net = law.net

    def excess(q):
        return moments.next_event(net, now, q) - q

    def newton(q, _):
        slope = jax.jacfwd(excess)(q)
        return jnp.clip(q - jnp.linalg.solve(slope, excess(q)), 0.0, 1.0), None

    q, _ = jax.lax.scan(newton, jnp.zeros_like(count), length=80)
    q = jnp.where(q < 1 - 1e-9, q, 1.0)  # what is left of a line that dies out is rounding
    return -jnp.expm1(jnp.sum(count * jnp.log(jnp.maximum(q, 1e-300))))


@jax.jit
def _grown(law: Process, count, survival, cells):
    """Day at which the tumor has `cells` cells, and its moments given that it lives and has them."""
    law = eqx.tree_at(lambda p: p.duration, law, jnp.zeros_like(law.duration))  # rates of day 0
    num_types, extra = law.net.num_types, first_extra(law)
    num_all = num_types + len(extra)
    interval, one = jnp.asarray(0), jnp.ones(())
    days, no_step = jnp.asarray(MAX_GROWTH_DAYS), jnp.zeros(())
    is_counted = (jnp.arange(num_all) < law.net.num_inside).astype(count.dtype)
    start = jnp.concatenate([count / survival, extra])

    def missing(value):
        return jnp.sum(value[:num_all] * is_counted) - cells

    if num_types > MAX_TYPES:
        mean = flow.mean_field(law, interval)
        elapsed, value, _ = flow.crossing(mean, start, days, no_step, missing, flow.mean_error)
        return elapsed, Moments(value[:num_types], value[num_types:], jnp.zeros((0, 0)))
    # E[n | alive] = E[n]/s and E[n n^T | alive] = E[n n^T]/s, which the linear equations carry on
    founders = jnp.pad(count, (0, len(extra)))
    covariance = jnp.outer(founders, founders) * ((1 - 1 / survival) / survival)
    field = flow.moment_field(law, interval, count, extra)
    elapsed, value, _ = flow.crossing(
        lambda elapsed, value: field(elapsed, value, one),
        jnp.concatenate([start, covariance.reshape(-1)]),
        days, no_step, missing, partial(flow.moment_error, num_all),
    )  # fmt: skip
    direction = field(elapsed, value, one)[:num_all]
    found = flow.unpacked(value, num_types, num_all)
    at_size = moments.stopped_at_size(found.covariance, direction, is_counted)
    return elapsed, found._replace(covariance=at_size)


# --- the trajectory --------------------------------------------------------------------------------


def _gathered(found, num_arms: int, num_patients: int, net: Network, num_times: int) -> Edge:
    """All groups of patients, [arm, patient, time, ...]; NaN for patients that are missing."""
    lead = (num_arms, num_patients, num_times)
    num_extra = found[0][1].extra.shape[-1] if found else 0
    sizes = ((net.num_types,), (num_extra,), (), (_num_classes(net),), (net.num_sites,))
    whole = Edge(*(np.full((*lead, *size), np.nan) for size in sizes))
    for chosen, part in found:
        for all_of, some in zip(whole, part, strict=True):
            all_of[:, chosen.start : chosen.stop] = some
    return whole


def _sizes(problem: Problem, net: Network, day: np.ndarray, edge: Edge) -> dict[str, Variable]:
    """Expected cells and their standard deviations at the record days."""
    inside = edge.count[..., : net.num_inside]
    by_site = inside.reshape(*inside.shape[:-1], _num_classes(net), net.num_sites)
    classes = by_site.sum(axis=-1)
    burden = inside.sum(axis=-1)
    packed = np.array(net.genotypes, np.int64)
    tracked = _largest(
        packed, np.nan_to_num(classes).max(axis=(0, 1, 2)), problem.record.max_classes
    )
    replicate = lambda x: x[:, :, None]  # noqa: E731
    deviation = lambda variance: replicate(np.sqrt(np.maximum(variance, 0)))  # noqa: E731
    time = (*ROOT, "time")
    found = {
        "time": Variable(("time",), day, "d", "time since the start of treatment"),
        "burden": Variable(time, replicate(burden), "cells", "expected living cells"),
        "burden_sd": Variable(
            time, deviation(edge.variance), "cells", "standard deviation of living cells"
        ),
        "site_burden": Variable(
            (*time, "site"), replicate(by_site.sum(axis=-2)), "cells",
            "expected living cells by site",
        ),
        "site_sd": Variable(
            (*time, "site"), deviation(edge.site_variance), "cells",
            "standard deviation of living cells by site",
        ),
        "class_count": Variable(
            (*time, "class"), replicate(classes[..., tracked]), "cells",
            "expected living cells by tracked genotype class",
        ),
        "class_sd": Variable(
            (*time, "class"), deviation(edge.class_variance[..., tracked]), "cells",
            "standard deviation of living cells by tracked genotype class",
        ),
        "other_classes_count": Variable(
            time, replicate(burden - classes[..., tracked].sum(axis=-1)), "cells",
            "expected living cells of all classes that are not tracked",
        ),
    }  # fmt: skip
    if net.has_outside:
        found["leaked_cells"] = Variable(
            time, replicate(edge.count[..., -1]), "cells",
            "expected cells that left the classes with at most max_alterations alterations",
        )  # fmt: skip
    if problem.model.immune is not None:
        extra = (
            edge.extra
            if edge.extra.shape[-1]
            else np.full((*burden.shape, 2 * net.num_sites), np.nan)
        )
        found |= immunity.variables(replicate(extra), net.num_sites)
    return found | class_names(problem, packed[tracked])


def _largest(packed: np.ndarray, peak: np.ndarray, most: int) -> np.ndarray:
    """Places of the classes with the largest peaks, in packed order; always the unaltered one."""
    order = np.lexsort((packed, -peak, packed != 0))
    return np.sort(order[:most])
