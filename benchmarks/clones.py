"""Time the `clones` kernel: 64 classes, five years, weekly and daily steps, on all cores.

    .venv/bin/python benchmarks/clones.py [--small] [--out results/clones.json]

A leukemia under treatment: six alterations, 64 genotypes, 10^11 cells that divide and die 0.045 times a
day. Every alteration comes with 1e-6 per division and a fiftieth of the cells has it at the start, so that
most classes have cells most of the time (the share is reported). Three programs advance the same tumors by
the same law, with steps as long as the interval: the kernel (`counts.treat`, birth and death steps exact,
mutation in half steps), the law written plainly in numba, and in NumPy with `numpy.random.Generator`. Figures
are nanoseconds of CPU time per tumor, class and interval, and wall time, compilation apart.
"""

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.custom import custom_model
from jaxevo.engines.counts import Codes, new_block, treat
from jaxevo.engines.network import Edges, Network, Speeds, class_traits
from jaxevo.engines.process import Process
from jaxevo.engines.wiring import Rules
from jaxevo.model import cast

HERE = Path(__file__).parent
NUM_BITS, CELLS, DAYS = 6, 1e11, 5 * 364
CLASSES = 2**NUM_BITS
BIRTH, DEATH, MUTATION = 0.045, 0.045, 1e-6
FITNESS = 0.0007  # 1/day less death for every alteration
FULL, TWIN_TUMORS = 100_000, 256
TARGETS = {"weekly": 180.0, "daily": 900.0}  # seconds for all tumors, on two cores


def edges() -> Edges:
    """One more alteration."""
    pairs = [(i, i | 1 << b, b) for i in range(CLASSES) for b in range(NUM_BITS) if not i >> b & 1]
    return Edges(*(tuple(column) for column in zip(*pairs, strict=True)))


def death_rates() -> np.ndarray:
    """Of every class, 1/day."""
    hits = np.array([bin(i).count("1") for i in range(CLASSES)])
    return DEATH + 0.0004 - FITNESS * hits / 2


def process(step: float) -> Process:
    """The law, with as many intervals as steps."""
    none, mutations = Edges((), (), ()), edges()
    net = Network(
        num_types=CLASSES,
        num_sites=1,
        genotypes=tuple(range(CLASSES)),
        mutations=mutations,
        asymmetric=none,
        symmetric=none,
        conversions=none,
        is_both=False,
    )
    names = {f"hit {b}": 1 for b in range(NUM_BITS)}
    model = cast(custom_model(names, lambda *_: None), jnp.float64)
    count = round(DAYS / step)
    law = Process(
        net=net,
        model=model,
        traits=class_traits(model, net),
        start=np.arange(count) * step,
        duration=np.full(count, step),
        which=np.zeros(count, int),
        speeds=Speeds(
            birth=np.full((1, CLASSES), BIRTH),
            death=death_rates()[None],
            mutation=np.full((1, len(mutations)), MUTATION),
            asymmetric=np.zeros((1, 0)),
            symmetric=np.zeros((1, 0)),
            conversion=np.zeros((1, 0)),
        ),
        concentration=None,
        kept=np.ones((count, CLASSES)),
        immigration=np.zeros(0),
    )
    return jax.tree.map(lambda x: jnp.asarray(x)[None], law)


def first_counts(num_tumors: int) -> np.ndarray:
    """Cells at the start, [type, tumor]."""
    hits = np.array([bin(i).count("1") for i in range(CLASSES)])
    return np.tile(np.floor(CELLS * 0.02**hits)[:, None], num_tumors)


class Run:
    """All tumors in blocks, on as many threads as there are cores."""

    def __init__(self, step: float, num_tumors: int, num_origins: int):
        self.law = process(step)
        self.rules = Rules(self.law.net, num_origins)
        self.codes = Codes.of(np.asarray(self.law.start).T)
        self.num_tumors, self.num_steps = num_tumors, self.law.duration.shape[1]

    def block(self, first: int):
        """The tumors from `first` on."""
        who = np.arange(first, min(first + self.rules.width, self.num_tumors))
        count = np.zeros((self.rules.num_origins, CLASSES, len(who)))
        count[0] = first_counts(len(who))
        zeros = np.zeros(len(who), int)
        return new_block(self.rules, 5, (zeros, who), zeros, count, np.zeros((0, len(who))))

    def advance(self, block, first: int, last: int):
        """Some intervals of one block."""
        done = treat(self.rules, block, self.law, self.codes, first, last, jnp.float64(np.inf))
        return jax.block_until_ready(done)

    def __call__(self, num_threads: int) -> tuple[float, float]:
        """Share of non-empty classes at quarters of the time, and cells per tumor at the end."""
        quarters = np.linspace(0, self.num_steps, 5).astype(int)

        def one(first: int):
            with jax.enable_x64(True):
                block, shares = self.block(first), []
                num = min(self.rules.width, self.num_tumors - first)
                for a, b in itertools.pairwise(quarters):
                    block = self.advance(block, int(a), int(b))
                    count = np.asarray(block.count).sum(axis=0)[:, :num]
                    shares.append(float(np.mean(count > 0)))
                return float(np.mean(shares)), float(count.sum())

        firsts = range(0, self.num_tumors, self.rules.width)
        with ThreadPoolExecutor(num_threads) as pool:
            found = list(pool.map(one, firsts))
        shares, cells = zip(*found, strict=True)
        return statistics.fmean(shares), sum(cells) / self.num_tumors


# --- the same law, written plainly -----------------------------------------------------------------


def coefficients(step: float) -> tuple[np.ndarray, np.ndarray]:
    """Kendall's alpha and beta of every class; births with a mutant are changes, not births."""
    hits = np.array([bin(i).count("1") for i in range(CLASSES)])
    birth, death = BIRTH * (1 - MUTATION * (NUM_BITS - hits)), death_rates()
    rate = birth - death
    g = np.expm1(rate * step) / rate
    return death * g / (1 + birth * g), birth * g / (1 + birth * g)


def numpy_twin(step: float, num_steps: int, count: np.ndarray) -> np.ndarray:
    """Counts [type, tumor] after some steps."""
    rng = np.random.default_rng(1)
    alpha, beta = (x[:, None] for x in coefficients(step))
    source, target = (np.array(x) for x in edges()[:2])
    into = np.zeros((CLASSES, CLASSES))
    into[target, source] = BIRTH * MUTATION * step / 2
    count = count.astype(np.int64)
    for _ in range(num_steps):
        count = count + rng.poisson(into @ count)
        kept = rng.binomial(count, np.broadcast_to(1 - alpha, count.shape))
        failures = np.maximum(kept, 1)
        more = rng.negative_binomial(failures, np.broadcast_to(1 - beta, count.shape))
        count = np.where(kept > 0, kept + more, 0)
        count = count + rng.poisson(into @ count)
    return count


def numba_twin() -> Callable:
    """The same, compiled; the negative binomial law as a Poisson law with a gamma mean."""
    import numba

    @numba.njit
    def run(rng, num_steps, count, alpha, beta, source, target, rate):
        mean = np.zeros(count.shape[0])
        for t in range(count.shape[1]):
            for _ in range(num_steps):
                for part in range(2):
                    mean[:] = 0.0
                    for e in range(len(source)):
                        mean[target[e]] += rate * count[source[e], t]
                    for k in range(count.shape[0]):
                        if mean[k] > 0:
                            count[k, t] += rng.poisson(mean[k])
                        if part == 0 and count[k, t] > 0:
                            kept = rng.binomial(count[k, t], 1 - alpha[k])
                            more = 0
                            if kept > 0:
                                scale = beta[k] / (1 - beta[k])
                                more = rng.poisson(rng.gamma(kept, scale))
                            count[k, t] = kept + more
        return count

    source, target = (np.array(x) for x in edges()[:2])

    def twin(step: float, num_steps: int, count: np.ndarray) -> np.ndarray:
        alpha, beta = coefficients(step)
        rate = BIRTH * MUTATION * step / 2
        rng = np.random.default_rng(1)
        return run(rng, num_steps, count.astype(np.int64), alpha, beta, source, target, rate)

    return twin


def time_twin(twin: Callable, step: float, num_steps: int) -> dict:
    """CPU ns per class-step, and what came out."""
    count = first_counts(TWIN_TUMORS)
    twin(step, 1, first_counts(2))
    began = time.process_time()
    count = twin(step, num_steps, count)
    spent = time.process_time() - began
    return {
        "cpu_ns": spent / (TWIN_TUMORS * CLASSES * num_steps) * 1e9,
        "cells": float(count.sum() / TWIN_TUMORS),
        "mutants": float(count[1:].sum() / TWIN_TUMORS),
    }


# --- report ----------------------------------------------------------------------------------------


def machine() -> dict[str, str | int | None]:
    """What the figures were measured on."""
    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": str(jax.devices()[0]),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy", "numba", "jaxevo")},
    }


def row(name: str, step: float, num_tumors: int, num_origins: int) -> dict:
    """Figures of one step length."""
    with jax.enable_x64(True):
        run = Run(step, num_tumors, num_origins)
        began = time.perf_counter()
        run.advance(run.block(0), 0, 1)
        compiled = time.perf_counter() - began
        work = num_tumors * CLASSES * run.num_steps
        wall, cpu = time.perf_counter(), time.process_time()
        share, cells = run(os.cpu_count() or 1)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "steps": name,
        "origins": num_origins,
        "tumors": num_tumors,
        "num_steps": run.num_steps,
        "wall_seconds": wall,
        "wall_seconds_for_1e5": wall * FULL / num_tumors,
        "limit_seconds": TARGETS[name],
        "cpu_ns": cpu / work * 1e9,
        "wall_ns": wall / work * 1e9,
        "compile_seconds": compiled,
        "share_not_empty": share,
        "cells": cells,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a hundredth of the tumors")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "clones.json")
    options = parser.parse_args()
    num_tumors = 1024 if options.small else FULL
    report = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "classes": CLASSES,
        "cells": CELLS,
        "rows": [],
        "twins": [],
    }
    for name, step in (("weekly", 7.0), ("daily", 1.0)):
        num_steps = round(DAYS / step) // (20 if options.small else 1)
        for kind, twin in (("numba", numba_twin()), ("numpy", numpy_twin)):
            found = time_twin(twin, step, num_steps)
            report["twins"].append({"steps": name, "twin": kind, "num_steps": num_steps, **found})
            print(report["twins"][-1], flush=True)
        for num_origins in (1, 2):
            if num_origins == 2 and not options.small:
                continue  # the origin of clones doubles the counts: see the small run
            report["rows"].append(row(name, step, num_tumors, num_origins))
            print(report["rows"][-1], flush=True)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
