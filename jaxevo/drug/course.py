"""Course: the way of every drug from the schedule to the sites, over all of time.

Rates between two syncs are the interval's time averages, since a rate is not linear in concentration
and a drug may be gone in minutes. The average is a quadrature at nodes within the interval,

    (1/h) integral_0^h rate(C(t)) dt  ~  sum_q w_q rate(C(x_q h)),

three Gauss-Legendre points on each of the panels [0, 1/64], [1/64, 1/8], [1/8, 1] of the interval, so
that half-lives from a hundredth of the interval up are resolved. Between nodes plasma and sites are
carried exactly (`plasma`, `delivery`); only a barrier whose pump is being inhibited has coefficients
that vary in time, and those are held at the mean blood level of each step (second order).
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxevo.drug import delivery
from jaxevo.drug.delivery import DeliveryParams, advance_drug, blood_level, site_level
from jaxevo.drug.plasma import CENTRAL, GUT, NUM_COMPARTMENTS, PlasmaParams, propagator
from jaxevo.drug.schedule import Inputs
from jaxevo.drug.transport import TransportParams
from jaxevo.state import Array

PANELS = (0.0, 1 / 64, 1 / 8, 1.0)
_GAUSS_X, _GAUSS_W = np.polynomial.legendre.leggauss(3)
NODES = np.concatenate([a + (b - a) * (1 + _GAUSS_X) / 2 for a, b in itertools.pairwise(PANELS)])
WEIGHTS = np.concatenate([(b - a) * _GAUSS_W / 2 for a, b in itertools.pairwise(PANELS)])

LENGTH_DIGITS = 12  # of days, to which intervals are equally long
MAX_LENGTHS = 256  # different ones, for which propagators are kept


class Course(NamedTuple):
    """Free concentrations of one arm at the nodes of every interval (NumPy, float64, uM)."""

    blood: np.ndarray  # [interval, node, drug]
    site: np.ndarray  # [interval, node, site, drug]


def course(
    plasma: PlasmaParams,
    sites: DeliveryParams,
    pumps: TransportParams,
    inputs: Inputs,
    nodes: np.ndarray = NODES,
) -> Course:
    """Concentrations of every drug in blood and at every site under one arm.

    Args:
        plasma: with a leading drug axis.
        sites: with a leading site axis.
        pumps: of the whole model; barrier pumps and their inhibition are taken from here.
        inputs: of one arm (`schedule.inputs`).
        nodes: [node] where to report, as increasing shares of each interval, 0..1.
    """
    num_intervals, num_drugs = inputs.level.shape
    num_sites = sites.vessel_distance.shape[0]
    if num_drugs == 0:
        shape = (num_intervals, len(nodes))
        return Course(np.zeros((*shape, 0)), np.zeros((*shape, num_sites, 0)))
    length = np.diff(inputs.edges)
    lengths, which = np.unique(np.round(length, LENGTH_DIGITS), return_inverse=True)
    with jax.enable_x64(True):
        if is_steady(sites, pumps, lengths):
            times = np.concatenate([nodes, [1.0]]) * _filled(lengths)[:, None]
            blood, site = _steady_course(plasma, sites, pumps, inputs[1:], times, which)
        else:
            steps = np.diff(np.concatenate([[0.0], nodes, [1.0]]))
            blood, site = _course(plasma, sites, pumps, inputs[1:], length[:, None] * steps)
        return Course(np.asarray(blood), np.asarray(site))


def is_steady(sites: DeliveryParams, pumps: TransportParams, lengths: np.ndarray) -> bool:
    """Whether no barrier changes, and intervals have so few lengths that each has its propagator."""
    is_inhibited = np.any(np.isfinite(pumps.inhibition_ki)) and np.any(sites.barrier_pump > 0)
    return not is_inhibited and len(lengths) <= MAX_LENGTHS


def _filled(lengths: np.ndarray) -> np.ndarray:
    """The same with 0 up to the next power of two, so that few sizes are compiled."""
    return np.pad(lengths, (0, (1 << (len(lengths) - 1).bit_length()) - len(lengths)))


class Propagators(NamedTuple):
    """Of ONE patient, where no barrier changes: how amounts move in the time since an interval began."""

    decay: Float[Array, "length time drug n n"]
    response: Float[Array, "length time drug n n"]
    fraction: Float[Array, "drug site"]
    rate: Float[Array, "drug site"]  # 1/day


@jax.jit
def propagators(
    plasma: PlasmaParams,
    sites: DeliveryParams,
    pumps: TransportParams,
    times: Float[Array, "length time"],
) -> Propagators:
    """Propagators of every drug for every time, in days."""
    fraction, rate = (
        x.T for x in delivery.all_sites(sites, pumps, jnp.zeros(len(plasma.clearance)))
    )
    matrices = jax.vmap(delivery.drug_matrix)(plasma, fraction, rate)
    each_time = jax.vmap(jax.vmap(propagator, (None, 0)), (None, 0))
    decay, response = jax.vmap(each_time, (0, None), 2)(matrices, times)
    return Propagators(decay, response, fraction, rate)


class Amounts(NamedTuple):
    """What enters in each interval, as `schedule.Inputs` has it, all [interval, drug]."""

    gut: Float[Array, "interval drug"]  # umol, at the start
    blood: Float[Array, "interval drug"]  # umol, at the start
    infusion: Float[Array, "interval drug"]  # umol/day
    level: Float[Array, "interval drug"]  # uM


def carried(
    plasma: PlasmaParams,
    made: Propagators,
    start: Float[Array, "drug n"],
    given: Amounts,
    which: Int[Array, " interval"],
) -> tuple[Float[Array, "drug n"], Float[Array, "interval node drug"], Float[Array, "..."]]:
    """Amounts at the end, and concentrations in blood and at the sites at the nodes.

    Args:
        plasma: of all drugs.
        made: the last time of each length is the whole interval.
        start: [drug, n] amounts in plasma (umol) and concentrations at the sites (uM).
        given: what enters.
        which: the length of each interval, as a row of `made`.
    """
    levels_at, sites_at = jax.vmap(blood_level), jax.vmap(site_level)
    sources = jax.vmap(delivery.drug_source)

    def interval(state, inputs):
        (gut, blood_dose, infusion, level), length = inputs
        state = state.at[:, GUT].add(gut).at[:, CENTRAL].add(blood_dose)
        source = sources(plasma, made.fraction, made.rate, infusion, level)
        states = made.decay[length] @ state[:, :, None]
        states = (states + made.response[length] @ source[:, :, None])[..., 0]
        return states[-1], states[:-1]

    end, states = jax.lax.scan(interval, start, (given, which))

    def node(state, level):
        blood = levels_at(plasma, state, level)
        return blood, sites_at(made.fraction, made.rate, state, blood).T

    blood, site = jax.vmap(jax.vmap(node, (0, None)))(states, given.level)
    return end, blood, site


@jax.jit
def _steady_course(plasma, sites, pumps, given, times, which):
    """Where no barrier changes: one propagator for each different time since an interval began.

    times: [length, node + 1] days, the last the whole interval; which: [interval] length.
    """
    made = propagators(plasma, sites, pumps, times)
    start = jnp.zeros(made.decay.shape[2:4])
    return carried(plasma, made, start, Amounts(*given), which)[1:]


@jax.jit
def _course(plasma, sites, pumps, given, durations):
    num_drugs, num_sites = given[3].shape[1], sites.vessel_distance.shape[0]
    start = jnp.zeros((num_drugs, NUM_COMPARTMENTS + num_sites))
    return stepped(plasma, sites, pumps, start, Amounts(*given), durations)[1:]


def stepped(
    plasma: PlasmaParams,
    sites: DeliveryParams,
    pumps: TransportParams,
    start: Float[Array, "drug n"],
    given: Amounts,
    durations: Float[Array, "interval step"],
) -> tuple[Float[Array, "drug n"], Float[Array, "interval node drug"], Float[Array, "..."]]:
    """The same as `carried` where barriers change: from node to node, then to the interval's end."""
    levels_at = jax.vmap(blood_level)
    sites_at = jax.vmap(site_level)
    carry_drugs = jax.vmap(advance_drug, in_axes=(0, 0, 0, 0, 0, 0, None))
    is_inhibited = jnp.any(jnp.isfinite(pumps.inhibition_ki)) & jnp.any(sites.barrier_pump > 0)

    def reach(blood):
        fraction, rate = delivery.all_sites(sites, pumps, blood)
        return fraction.T, rate.T  # [drug, site]

    def step(state, infusion, level, duration):
        before = levels_at(plasma, state, level)

        def carried(blood):
            return carry_drugs(plasma, *reach(blood), state, infusion, level, duration)

        def corrected(_):
            after = levels_at(plasma, carried(before), level)
            return carried((before + after) / 2)

        return jax.lax.cond(is_inhibited, corrected, lambda _: carried(before), None)

    @jax.checkpoint  # or reverse mode would store every power of every matrix exponential
    def interval(state, inputs):
        (gut, blood_dose, infusion, level), times = inputs
        state = state.at[:, GUT].add(gut).at[:, CENTRAL].add(blood_dose)

        def node(state, duration):
            state = step(state, infusion, level, duration)
            blood = levels_at(plasma, state, level)
            return state, (blood, sites_at(*reach(blood), state, blood).T)

        state, (blood, site) = jax.lax.scan(node, state, times)
        return state, (blood[:-1], site[:-1])

    end, (blood, site) = jax.lax.scan(interval, start, (given, durations))
    return end, blood, site
