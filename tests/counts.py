"""The `clones` engine as a kernel of the battery: the real time loop on the tables of a scenario."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.custom import custom_model
from jaxevo.engines.counts import Codes, new_block, treat
from jaxevo.engines.network import Edges, Network, Speeds, class_traits
from jaxevo.engines.process import Process
from jaxevo.engines.wiring import Rules
from jaxevo.model import cast
from jaxevo.sites import SiteParams
from tests.battery import Scenario

NEVER, ALWAYS = 0, 10**12  # sizes below which a tumor is followed event by event


def edges_of(table: np.ndarray) -> Edges:
    """An edge for every entry of [.., from, to] that is ever positive."""
    used = table.reshape(-1, *table.shape[-2:]).any(axis=0)
    source, target = (tuple(int(x) for x in axis) for axis in np.nonzero(used))
    return Edges(source, target, (0,) * len(source))


def process_of(scenario: Scenario, syncs: int = 1) -> Process:
    """The law of a scenario on a leading axis of length 1; call under x64."""
    law = scenario.process()
    num_classes, num_sites = scenario.founders.shape
    mutations, conversions = edges_of(law.mutation), edges_of(law.conversion)
    asymmetric, symmetric = edges_of(law.asymmetric), edges_of(law.symmetric)
    (sources,) = np.nonzero(law.arrivals.any(axis=0))
    assert (law.arrivals == law.arrivals[0]).all(), "the engine knows constant immigration"
    net = Network(
        num_types=num_classes * num_sites,
        num_sites=num_sites,
        genotypes=tuple(range(num_classes)),
        mutations=mutations,
        asymmetric=asymmetric,
        symmetric=symmetric,
        conversions=conversions,
        is_both=scenario.both_daughters,
        immigrants=tuple((int(i), int(law.batch[i])) for i in sources),
    )
    crowding = "logistic" if np.isfinite(scenario.capacity).any() else "none"
    ones, zeros = np.ones(num_sites), np.zeros(num_sites)
    sites = SiteParams(crowding, scenario.capacity, ones, zeros, np.zeros((num_sites, num_sites)))
    names = tuple(f"site {s}" for s in range(num_sites))
    model = custom_model({"class": num_classes - 1}, lambda *_: None, sites=names)
    model = replace(cast(model, jnp.float64), custom=None, sites=cast(sites, jnp.float64))
    segments = len(law.durations)
    pick = lambda table, edges: table[..., list(edges.source), list(edges.target)]  # noqa: E731
    speeds = Speeds(
        birth=law.birth,
        death=law.death,
        mutation=np.tile(pick(law.mutation, mutations), (segments, 1)),
        asymmetric=np.tile(pick(law.asymmetric, asymmetric), (segments, 1)),
        symmetric=np.tile(pick(law.symmetric, symmetric), (segments, 1)),
        conversion=pick(law.conversion, conversions),
    )
    duration = np.repeat(law.durations / syncs, syncs)
    kept = np.ones((len(duration), net.num_types))
    kept[::syncs] = law.kept
    process = Process(
        net=net,
        model=model,
        traits=class_traits(model, net),
        start=np.concatenate([[0.0], np.cumsum(duration)[:-1]]),
        duration=duration,
        which=np.repeat(np.arange(segments), syncs),
        speeds=speeds,
        concentration=None,
        kept=kept,
        immigration=law.arrivals[0, sources],
    )
    return jax.tree.map(lambda x: jnp.asarray(x)[None], process)


def clones_kernel(exact_below: int = 100, syncs: int = 1) -> Callable:
    """A kernel that runs the `clones` engine.

    Args:
        exact_below: cells below which a tumor is followed event by event.
        syncs: intervals into which every segment is cut.
    """

    def kernel(scenario: Scenario, num_replicates: int, seed: int) -> np.ndarray:
        with jax.enable_x64(True):
            process = process_of(scenario, syncs)
            return run(process, scenario, range(num_replicates), seed, exact_below)

    return kernel


def run(
    process: Process, scenario: Scenario, replicates: range, seed: int, exact_below: int
) -> np.ndarray:
    """Counts [replicate, class, site] at the end, or at the stop."""
    has_jumps = bool((np.asarray(process.kept) < 1).any())
    rules = Rules(process.net, exact_below=exact_below, has_jumps=has_jumps)
    codes = Codes.of(np.asarray(process.start).T)
    target = jnp.float64(scenario.stop_at or np.inf)
    last = process.duration.shape[1]
    found = []
    for first in range(0, len(replicates), rules.width):
        part = np.array(replicates[first : first + rules.width])
        count = np.tile(scenario.founders.reshape(1, -1, 1), len(part))
        zeros = np.zeros(len(part), int)
        block = new_block(rules, seed, (zeros, part), zeros, count, np.zeros((0, len(part))))
        block = treat(rules, block, process, codes, 0, last, target)
        found.append(np.asarray(block.count)[0, :, : len(part)].T)
    counts = np.concatenate(found).astype(np.int64)
    return counts.reshape(-1, *scenario.founders.shape)
