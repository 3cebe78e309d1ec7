"""Visits: arms whose doses depend on what the physician sees.

Time runs in windows from one visit to the next, all cut alike, so that one compiled program serves
them all. At a visit every tumor is observed (`Seen`, nothing else reaches a rule), the policy answers
with the share of every line and the safety rule with a factor on every drug, both for one tumor, under
`vmap`; then the drugs given until the next visit go their journey from what the blood still holds, and
the marrow follows. From the concentrations `pool` makes a `Process` of one window for each tumor, which
an engine reads as any other.

    amount(drug) = factor(drug) (doses of the arm + sum over lines of share(line) doses(line)),

the days of a line counted from the visit at which its share rose from 0. An administration is cut to
the label maximum, and what exceeds the cumulative limit is not given.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from jaxevo import host
from jaxevo.drug import course
from jaxevo.drug.course import NODES, Amounts
from jaxevo.drug.delivery import perfused
from jaxevo.drug.plasma import NUM_COMPARTMENTS
from jaxevo.engines.base import Arm, Refused, Visits
from jaxevo.engines.regimen import NEAR, People, Plan, Rules, Seen, Tables
from jaxevo.engines.sampling import Words, expm1_64, threefry, uniform64, upper_quantile
from jaxevo.host import HostState
from jaxevo.state import Array, Scalar

SCAN = 0xFFFFFFFF  # purpose of the words of measurement noise
BLOOD, GUT, INFUSION, LEVEL, WHOLE = range(5)  # rows of a table of what enters


class Care(NamedTuple):
    """What is remembered of every tumor from one visit to the next; the first axis is the tumor."""

    drugs: Float[Array, "tumor drug n"]  # amounts in plasma, umol; concentrations at sites, uM
    marrow: HostState | None
    policy: PyTree
    safety: PyTree
    since: Int[Array, "tumor line"]  # windows since each line was begun
    share: Float[Array, "tumor line"]
    factor: Float[Array, "tumor drug"]
    given: Float[Array, "tumor drug"]  # mg
    burden: Float[Array, " tumor"]  # at the latest scan
    last_scan: Float[Array, " tumor"]


class Row(NamedTuple):
    """What one visit writes down."""

    share: Float[Array, "tumor line"]
    factor: Float[Array, "tumor drug"]
    given: Float[Array, "tumor drug"]  # mg, up to the next visit
    before: Float[Array, " tumor"]  # neutrophils at the visit, 1e9/L; NaN where nobody looks
    neutrophils: Float[Array, "tumor interval"]  # the same at the end of every interval
    is_wrong: Bool[Array, " tumor"]  # an answer that cannot be


def begin(arm: Arm, plan: Plan, num: int, patient: np.ndarray) -> Care:
    """Before the first visit: `num` tumors, of these patients (positions in `plan.people`)."""
    num_drugs, num_sites = plan.tables.amounts.shape[-1], plan.rules.net.num_sites
    tile = lambda x: jnp.array(jnp.broadcast_to(jnp.asarray(x), (num, *np.shape(x))))  # noqa: E731
    start = lambda rule: () if rule is None else jax.tree.map(tile, rule.start)  # noqa: E731
    marrow = None
    if plan.people.host is not None:
        own = jax.tree.map(lambda x: jnp.asarray(x)[patient], plan.people.host)
        marrow = jax.vmap(host.start)(own)
    num_lines = plan.tables.amounts.shape[0] - 1
    care = Care(
        drugs=jnp.zeros((num, num_drugs, NUM_COMPARTMENTS + num_sites)),
        marrow=marrow,
        policy=start(arm.policy),
        safety=start(arm.safety),
        since=jnp.zeros((num, num_lines), jnp.int32),
        share=jnp.zeros((num, num_lines)),
        factor=jnp.ones((num, num_drugs)),
        given=jnp.zeros((num, num_drugs)),
        burden=jnp.full(num, jnp.nan),
        last_scan=jnp.full(num, jnp.nan),
    )
    return _of_one_type(care)


def _of_one_type(care: Care) -> Care:
    """Without weak types, so that one compiled program serves the first visit and all others."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), care)


# --- a visit ---------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="rules")
def visit(
    rules: Rules,
    tables: Tables,
    people: People,
    care: Care,
    count: Float[Array, "type tumor"],
    who: tuple[Int[Array, " tumor"], tuple[Words, Words]],
    window: Int[Array, ""],
) -> tuple[Care, Float[Array, "tumor slot node site drug"], Row]:
    """See every tumor, decide, and let the drugs go their way until the next visit.

    Args:
        rules, tables, people: of the plan.
        care: what is remembered.
        count: [type, tumor] cells now.
        who: position of each tumor's patient, and its random words.
        window: number of the visit, from 0.

    Returns:
        What is remembered after the window, concentrations in it (uM, rounded, see `pool`), and
        what to write down.
    """
    patient, key = who
    day = tables.start[window, 0]
    scan, is_scan = scanned(rules.visits, count[: rules.net.num_inside], key, day, window)
    burden = jnp.where(is_scan, scan, care.burden)
    last = jnp.where(is_scan, care.burden, care.last_scan)
    care = care._replace(burden=burden, last_scan=last)
    fixed = {"day": day, "visit": window, "is_scan": is_scan}
    observed = _observed(rules, tables, care, count)

    def one(memory, values, params):
        seen = Seen(**values, **fixed, genotypes=np.array(rules.net.genotypes))
        policy, share = memory.policy, memory.share
        if rules.policy is not None:
            policy, share = rules.policy(params[0], policy, seen)
        safety, factor = memory.safety, memory.factor
        if rules.safety is not None:
            safety, factor = rules.safety(params[1], safety, seen)
        return policy, jnp.asarray(share, float), safety, jnp.asarray(factor, float)

    params, axes = (tables.policy, tables.safety), tuple(0 if x else None for x in rules.of_patient)
    params = tuple(
        jax.tree.map(lambda x: jnp.asarray(x)[patient], whole) if is_own else whole
        for whole, is_own in zip(params, rules.of_patient, strict=True)
    )
    policy, share, safety, factor = jax.vmap(one, (0, 0, axes))(care, observed, params)
    is_wrong = ~(_fine(share) & _fine(factor))
    goes_on = (share > 0) & (care.share > 0)
    since = jnp.where(goes_on, care.since + 1, 0)
    own = jax.tree.map(lambda x: jnp.asarray(x)[patient], people)
    if rules.delivery_follows:
        own = _perfused(rules.net, own, count)
    after = care._replace(policy=policy, safety=safety, since=since, share=share, factor=factor)
    walk = partial(_window, rules, tables, window)
    after, site, neutrophils = jax.vmap(walk)(after, own)
    before = jnp.full(len(patient), jnp.nan) if care.marrow is None else care.marrow.circulating
    row = Row(share, factor, after.given, before, neutrophils, is_wrong)
    return _of_one_type(after), site, row


def _fine(answer: Float[Array, "tumor n"]) -> Bool[Array, " tumor"]:
    return jnp.all(jnp.isfinite(answer) & (answer >= 0), axis=1)


def scanned(
    visits: Visits,
    count: Float[Array, "type tumor"],
    key: tuple[Words, Words],
    day: Scalar,
    number: Int[Array, ""],
) -> tuple[Float[Array, " tumor"], Bool[Array, ""]]:
    """The burden as a scan on that day shows it, and whether the visit has a scan.

    Noise is log-normal with median 1, the same for every arm of a patient and replicate.
    """
    cells = jnp.sum(count, axis=0)
    if visits.noise_cv > 0:
        second = jnp.rint(day * 86400.0).astype(jnp.uint32)
        words = threefry(threefry(key, (jnp.uint32(SCAN), jnp.uint32(0))), (second, jnp.uint32(0)))
        sigma = np.sqrt(np.log1p(visits.noise_cv**2))
        cells = cells * (1 + expm1_64(sigma * upper_quantile(uniform64(words))))
    seen = jnp.where(cells >= visits.detection_cells, cells, 0.0)
    return seen, number % visits.scan_every == 0


def _observed(rules: Rules, tables: Tables, care: Care, count) -> dict[str, Array]:
    """Values of every tumor that a rule may read; the first axis is the tumor."""
    values = {"share": care.share, "factor": care.factor, "given_mg": care.given,
              "burden": care.burden, "last_scan": care.last_scan}  # fmt: skip
    if care.marrow is not None:
        values["neutrophils"] = care.marrow.circulating
    net, visits = rules.net, rules.visits
    by_class = jnp.sum(count[: net.num_inside].reshape(-1, net.num_sites, count.shape[-1]), axis=1)
    if visits.sequencing is not None:
        total = jnp.maximum(jnp.sum(by_class, axis=0), 1.0)
        share = [jnp.sum(by_class * column[:, None], axis=0) / total
                 for column in jnp.asarray(tables.carries).T]  # fmt: skip
        found = jnp.stack(share, axis=1) if share else jnp.zeros((count.shape[-1], 0))
        values["fractions"] = jnp.where(found >= visits.sequencing, found, 0.0)
    if visits.composition is not None:
        values["composition"] = jnp.where(by_class >= visits.composition, by_class, 0.0).T
    return values


def _perfused(net, own: People, count: Float[Array, "type tumor"]) -> People:
    """Every tumor's sites as they are perfused with the cells that they have now."""
    cells = jnp.sum(count[: net.num_inside].reshape(-1, net.num_sites, count.shape[1]), axis=0)
    delivery = jax.vmap(perfused)(own.model.delivery, cells.T)
    return own._replace(model=eqx.tree_at(lambda m: m.delivery, own.model, delivery))


def _window(rules: Rules, tables: Tables, window, care: Care, own: People):
    """Drugs and marrow of ONE tumor until the next visit."""
    model, length = own.model, jnp.asarray(tables.length)
    mg, level = _given(tables, window, care, model.body_surface)
    total = mg[BLOOD] + mg[GUT] + mg[INFUSION] * length[:, None]
    umol = (1e3 / model.molar_mass)[None]
    absorbed = (1e3 / model.molar_mass * model.bioavailability)[None]
    given = Amounts(mg[GUT] * absorbed, mg[BLOOD] * umol, mg[INFUSION] * umol, level)
    if own.made is not None:
        drugs, blood, site = course.carried(model.plasma, own.made, care.drugs, given, tables.which)
    else:
        steps = np.diff(np.concatenate([[0.0], NODES, [1.0]]))
        drugs, blood, site = course.stepped(
            model.plasma, model.delivery, model.cellular.transport, care.drugs, given,
            length[:, None] * steps[None],
        )  # fmt: skip
    treated = length * _is_before(tables, window)
    marrow, neutrophils = _marrow(rules, tables, care, own, (blood, treated))
    after = care._replace(drugs=drugs, marrow=marrow, given=care.given + jnp.sum(total, axis=0))
    quantum = own.quantum[None, None, None]
    return after, jnp.round(site / quantum) * quantum, neutrophils


def _given(tables: Tables, window, care: Care, surface: Scalar):
    """What enters in every slot: [way, slot, drug] in mg or mg/day, and levels [slot, drug], uM."""
    at = jnp.concatenate([jnp.asarray(window)[None], care.since])
    lines = jnp.arange(len(at))
    entry = jnp.asarray(tables.amounts)[lines, at]  # line, way, slot, drug
    entry = entry + surface * jnp.asarray(tables.per_m2)[lines, at]
    share = jnp.concatenate([jnp.ones(1), care.share])[:, None] * care.factor[None, :]
    cap = jnp.asarray(tables.cap)[None, None]
    bolus = jnp.minimum(share[:, None, None, :] * entry[:, :INFUSION], cap[None])
    whole = entry[:, WHOLE]
    most = jnp.where(whole > 0, cap / jnp.where(whole > 0, whole, 1.0), jnp.inf)
    infusion = jnp.minimum(share[:, None, :], most) * entry[:, INFUSION]
    mg = jnp.concatenate([bolus, infusion[:, None]], axis=1).sum(axis=0)
    mg = mg * _is_before(tables, window)[None, :, None]
    level = jnp.sum(share[:, None, :] * entry[:, LEVEL], axis=0)
    total = mg[BLOOD] + mg[GUT] + mg[INFUSION] * tables.length[:, None]
    before = jnp.cumsum(total, axis=0) - total
    most = jnp.minimum(tables.cumulative[0], surface * tables.cumulative[1])
    allowed = jnp.clip((most - care.given)[None] - before, 0.0, total)
    kept = jnp.where(total > 0, allowed / jnp.where(total > 0, total, 1.0), 1.0)
    return mg * kept[None], level


def _is_before(tables: Tables, window) -> Float[Array, " slot"]:
    """1 where a slot of this window lies before the horizon."""
    begins = tables.start[window, 0] + jnp.cumsum(tables.length) - tables.length
    return (begins < tables.horizon - NEAR).astype(begins.dtype)


def _marrow(rules: Rules, tables: Tables, care: Care, own: People, along):
    """The marrow at the end, and neutrophils at the end of every interval.

    `along`: concentrations in blood, uM, and length, days, of every slot.
    """
    num_intervals = tables.place.shape[0]
    if own.host is None or care.marrow is None:
        return care.marrow, jnp.zeros(num_intervals)
    params, pumps = own.host, own.model.cellular.transport

    def slot(state: HostState, at):
        state = host.advance(params, pumps, state, *at, longest=rules.longest)
        return state, state.circulating

    state, circulating = jax.lax.scan(slot, care.marrow, along)
    return state, circulating[jnp.max(jnp.asarray(tables.place), axis=1)]


def refuse_wrong(arm: Arm, row: Row, num: int) -> None:
    """Raise if a rule has answered what cannot be given to one of the first `num` tumors.

    Raises:
        Refused: an answer is negative, infinite or not a number.
    """
    if np.any(np.asarray(row.is_wrong)[:num]):
        raise Refused(
            f"arm {arm.name!r}: a rule answered with a negative number, infinity or not a number; "
            "expected shares and factors from 0 on"
        )
