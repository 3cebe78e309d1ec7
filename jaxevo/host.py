"""Host: what a treatment does to the marrow of ONE patient, seen by the neutrophils in blood.

Progenitors P proliferate, their progeny mature in three steps T_i and circulate as neutrophils C
(Friberg et al. 2002, doi:10.1200/JCO.2002.02.140; all 1e9/L, time in days):

    P'   = k P (g (1 - E) F - 1)                 F = (C_0/C)^gamma,      k = 4/MTT
    T_1' = k (P - g T_1)                         T_i' = k g (T_{i-1} - T_i)
    C'   = k (g T_3 - C)

    C_0    neutrophils without treatment, 1e9/L, > 0; all compartments start there
    MTT    mean time of maturation, days, > 0           gamma  power of the feedback, >= 0
    E      loss of proliferation, sum_d slope_d C_eff,d, >= 0; several drugs add; beyond 1 P dies
    C_eff  C_blood c/c_0 (uM): c the drug in a progenitor whose pumps the inhibitors in blood may
           block and to which genes may have added, c_0 the same in a usual progenitor with free pumps
           (both `drug.transport`), so that a slope (1/uM) measured in patients holds as it stands
    g      1 + sum_d gain_d C_d/(C_d + half_d), >= 1: support by G-CSF

G-CSF speeds up proliferation and maturation, saturably (Wang et al. 2001, PMID 11677930; Craig et al.
2016, arXiv:1512.06896). That both have the same factor is assumed; blood under a constant g settles at
C_0 g^(1/gamma). The transduced share of progenitors is taken as constant: their selection by the drug is
left out. Below C_0/1e6 the feedback grows no further (assumed).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxevo.drug.course import PANELS, WEIGHTS
from jaxevo.drug.transport import TransportParams, balance, free_pump_share
from jaxevo.state import Array, Scalar

# Below the first: grade 1, and so on; 1e9/L (CTCAE 5.0, NCI 2017, "neutrophil count decreased"). Its
# lower limit of normal is the laboratory's; 2.0 is that of Hallek et al. 2008,
# doi:10.1182/blood-2007-06-093906, table 5.
GRADE_LIMITS = (2.0, 1.5, 1.0, 0.5)

STEP = 0.25  # days at most, of the integration
LONGEST = 7.0  # days, of an interval
TRACE = 1e-12  # uM, stands for no drug where c/c_0 is formed
FEWEST = 1e-6  # of C_0


class HostParams(eqx.Module):
    """Marrow of one patient.

    Both pump fields may be empty where the marrow has no pumps, which saves the balance of the cell.
    """

    baseline: Scalar  # C_0: circulating neutrophils without treatment, 1e9/L
    transit_days: Scalar  # MTT: mean maturation time, days
    feedback: Scalar  # gamma, power of the feedback from blood to marrow
    slope: Float[Array, " drug"]  # loss of proliferation per uM in blood, 1/uM
    marrow_pump: Float[Array, " pump"]  # pumps of a normal progenitor, multiples of vmax
    transduced_share: Scalar  # progenitors that carry a transduced pump, 0..1
    transduced_pump: Float[Array, " pump"]  # pumps that those have beyond the normal ones
    growth_gain: Float[Array, " drug"]  # of proliferation and maturation at saturation (G-CSF)
    growth_half: Float[Array, " drug"]  # uM at half of that, > 0


class HostState(eqx.Module):
    """Cells of the marrow and of blood, 1e9/L, and what is remembered."""

    proliferating: Scalar
    transit: Float[Array, " 3"]
    circulating: Scalar
    lowest: Scalar  # smallest circulating count so far
    grade_days: Float[Array, " 5"]  # days so far in CTCAE grade 0, 1, 2, 3, 4


def start(params: HostParams) -> HostState:
    """The marrow before treatment: every compartment at the baseline."""
    baseline = jnp.asarray(params.baseline)
    return HostState(
        proliferating=baseline,
        transit=jnp.full(3, baseline),
        circulating=baseline,
        lowest=baseline,
        grade_days=jnp.zeros(5, baseline.dtype),
    )


def grade(neutrophils: Float[Array, "*any"]) -> Int[Array, "*any"]:
    """CTCAE grade 0..4 of neutrophil counts in 1e9/L."""
    is_below = jnp.stack([neutrophils < limit for limit in GRADE_LIMITS])
    return jnp.sum(is_below, axis=0, dtype=jnp.int32)


def marrow_level(
    params: HostParams, pumps: TransportParams, blood: Float[Array, " drug"]
) -> Float[Array, " drug"]:
    """C_eff, uM: the level in blood that would do to usual marrow what `blood` does to this one.

    Equal to `blood`, to the bit, where no pump is blocked and none was added.
    """
    if params.marrow_pump.size == 0:
        return blood
    influx = pumps.influx_rate * jnp.maximum(blood, TRACE)
    free = free_pump_share(pumps, blood)

    def inside(amount: Float[Array, " pump"]) -> Float[Array, " drug"]:
        return balance(pumps, amount, influx, pumps.efflux_rate)

    usual = inside(params.marrow_pump)
    normal = inside(params.marrow_pump * free)
    transduced = inside((params.marrow_pump + params.transduced_pump) * free)
    mixed = normal + params.transduced_share * (transduced - normal)
    enters = usual > 0
    return blood * jnp.where(enters, mixed / jnp.where(enters, usual, 1.0), 1.0)


def marrow_effect(
    params: HostParams, pumps: TransportParams, blood: Float[Array, " drug"]
) -> tuple[Scalar, Scalar]:
    """Loss E of proliferation and gain g of growth at free concentrations in blood, uM."""
    loss = jnp.sum(params.slope * marrow_level(params, pumps, blood))
    gain = 1 + jnp.sum(params.growth_gain * blood / (blood + params.growth_half))
    return loss, gain


def advance(
    params: HostParams,
    pumps: TransportParams,
    state: HostState,
    blood: Float[Array, "node drug"],
    duration: Scalar,
    longest: float = LONGEST,
) -> HostState:
    """The marrow after one interval, by Runge-Kutta steps of order 4.

    E and g are averaged over each panel of `drug.course`, which keeps the integral of E.

    Args:
        params, pumps: of the patient, of the model.
        state: at the start of the interval.
        blood: free concentrations (uM) at the nodes of `drug.course`.
        duration: days, 0 or more; 0 changes nothing.
        longest: days (static), no interval is longer; steps are then at most `STEP`.
    """
    width = np.diff(PANELS)
    count = np.ceil(width * longest / STEP).astype(int)
    panel = np.repeat(np.arange(len(width)), count)
    loss, gain = jax.vmap(marrow_effect, (None, None, 0))(params, pumps, blood)
    weights = jnp.asarray((WEIGHTS.reshape(len(width), -1) / width[:, None]), loss.dtype)
    mean = lambda effect: jnp.sum(weights * effect.reshape(weights.shape), axis=1)  # noqa: E731
    length = duration * jnp.asarray((width / count)[panel], loss.dtype)
    steps = (length, mean(loss)[panel], mean(gain)[panel])
    return jax.lax.scan(lambda now, step: (_step(params, now, *step), None), state, steps)[0]


def course(
    params: HostParams,
    pumps: TransportParams,
    blood: Float[Array, "interval node drug"],
    duration: Float[Array, " interval"],
    longest: float = LONGEST,
) -> HostState:
    """The marrow at the start and after every interval: leading axis interval + 1."""

    def interval(now, given):
        levels, length = given
        after = advance(params, pumps, now, levels, length, longest)
        return after, after

    first = start(params)
    _, later = jax.lax.scan(interval, first, (blood, duration))
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)


def _step(
    params: HostParams, state: HostState, duration: Scalar, loss: Scalar, gain: Scalar
) -> HostState:
    """One Runge-Kutta step under a held effect.

    P is carried as the logarithm of its change, y_0, so that it stays positive whatever E.
    """
    rate = 4 / params.transit_days

    def change(y: Float[Array, " 5"]) -> Float[Array, " 5"]:
        circulating = jnp.maximum(y[4:], FEWEST * params.baseline)
        signal = (params.baseline / circulating) ** params.feedback
        growth = gain * (1 - loss) * signal - 1
        flow = jnp.concatenate([state.proliferating * jnp.exp(y[:1]), gain * y[1:4], y[4:]])
        return rate * jnp.concatenate([growth, flow[:-1] - flow[1:]])

    before = jnp.stack([jnp.zeros_like(state.circulating), *state.transit, state.circulating])
    first = change(before)
    second = change(before + duration / 2 * first)
    third = change(before + duration / 2 * second)
    fourth = change(before + duration * third)
    after = before + duration / 6 * (first + 2 * second + 2 * third + fourth)
    dip = _lowest(before[4], after[4], duration * first[4], duration * change(after)[4])
    return HostState(
        proliferating=state.proliferating * jnp.exp(after[0]),
        transit=after[1:4],
        circulating=after[4],
        lowest=jnp.minimum(state.lowest, dip),
        grade_days=state.grade_days + duration * _grade_shares(before[4], after[4]),
    )


def _lowest(before: Scalar, after: Scalar, fall: Scalar, rise: Scalar) -> Scalar:
    """Smallest value of the cubic with these values and slopes (per step) at its ends, if it has one
    minimum between them; else the smaller end.
    """
    has_dip = (fall < 0) & (rise > 0)
    fall, rise = jnp.where(has_dip, fall, -1.0), jnp.where(has_dip, rise, 1.0)
    total = after - before
    cube = fall + rise - 2 * total
    square = total - fall - cube
    root = square + jnp.sqrt(jnp.maximum(square**2 - 3 * cube * fall, 0.0))
    at = -fall / jnp.maximum(root, -fall)
    dip = before + at * (fall + at * (square + at * cube))
    ends = jnp.minimum(before, after)
    return jnp.where(has_dip, jnp.minimum(ends, dip), ends)


def _grade_shares(before: Scalar, after: Scalar) -> Float[Array, " 5"]:
    """Share of a step in each grade, for a count that goes from one value to another in a line."""
    low, high = jnp.minimum(before, after), jnp.maximum(before, after)
    limits = jnp.asarray(GRADE_LIMITS, low.dtype)
    moves = high > low
    crossed = jnp.clip((limits - low) / jnp.where(moves, high - low, 1.0), 0, 1)
    below = jnp.where(moves, crossed, (low < limits).astype(low.dtype))
    edges = jnp.concatenate([jnp.ones(1, low.dtype), below, jnp.zeros(1, low.dtype)])
    return edges[:-1] - edges[1:]
