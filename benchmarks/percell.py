"""Time of the `cells` kernel per cell and step, against C++ of the same law, on one core.

    python benchmarks/percell.py [--quick] [--out results/percell.json]

The law: cells of 16 genotypes divide and die at rates from a table, birth = death = p_event/2 per
day, in exact continuous time; a step is one day. `yardstick.cpp` is built on the spot and both run
in turn. Figures are medians of CPU time over repeats, each from a fresh population, compilation
apart; `copy` is the time to copy 8 bytes per cell. Needs g++.
"""

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

# One core for everything, from before JAX starts its threads; the yardstick inherits it.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

HERE = Path(__file__).parent
NUM_GENOTYPES = 16
CELLS = (100_000, 1_000_000, 10_000_000)
P_EVENTS = (0.01, 0.07, 0.3)
REPEATS = 7
SECONDS_PER_REPEAT = 0.2
NS_PER_EVENT = 20.0  # about, to choose the number of steps
COMPILE = ["g++", "-O3", "-march=native", "-std=c++17"]


class Timing(NamedTuple):
    """What one program took for one population; times per cell and step, one entry per repeat."""

    cpu_ns: list[float]
    wall_ns: list[float]
    births: int  # over all repeats
    deaths: int
    grown: int  # cells at the end minus cells at the start, over all repeats
    compile_seconds: float = 0.0


def num_steps(num_cells: int, p_event: float) -> int:
    """Steps per repeat, so that a repeat lasts about SECONDS_PER_REPEAT."""
    return max(1, round(SECONDS_PER_REPEAT * 1e9 / (num_cells * p_event * NS_PER_EVENT)))


def time_cells(num_cells: int, p_event: float) -> Timing:
    """Time jaxevo's time loop: NUM_GENOTYPES genotypes, birth = death = p_event/2, no mutation.

    Each repeat starts from a fresh population and takes `num_steps` intervals of one day, syncs,
    rebalancing and lineage ids included, in as few calls as a study makes.
    """
    import jax
    import jax.numpy as jnp

    from jaxevo.engines import timeloop, tumors
    from jaxevo.engines.base import Founder
    from jaxevo.engines.tables import Steps, Table
    from jaxevo.sites import SiteParams

    full = lambda value, *shape: jnp.full(shape, value, jnp.float32)  # noqa: E731
    rate, rows = p_event / 2, NUM_GENOTYPES
    table = Table(
        birth=full(rate, rows),
        death=full(rate, rows),
        other=full(0, rows),
        mutated=full(0, rows),
        other_rates=full(0, rows, 0),
        mutation_probability=full(0, rows, 0),
        differentiated=full(0, rows),
        asymmetric=full(0, rows, 0),
        symmetric=full(0, rows, 0),
        max_birth=full(rate, 1, 1),
        max_rest=full(rate, 1, 1),
        max_total=full(2 * rate, 1),
    )
    layout = tumors.Layout.of(round(1.1 * num_cells))
    settings = timeloop.Settings(lambda table, _: table, layout, Steps((), ()), False, False, 64)
    run = timeloop.compiled(settings, (jax.devices()[0],))
    sites = SiteParams("none", full(jnp.inf, 1), full(1, 1), full(0, 1), full(0, 1, 1))
    steps, limit = num_steps(num_cells, p_event), 2**31 - 1
    grid = timeloop.Grid(full(1, steps, 1), ())
    limits = timeloop.Limits(jnp.int32(layout.num_slots), jnp.int32(limit))
    none = (jnp.zeros((1, 1), jnp.uint32), jnp.zeros((1, 1), jnp.uint32), jnp.zeros((1, 1)))
    each = [num_cells // rows + (g < num_cells % rows) for g in range(rows)]
    founders = tuple(Founder(count, g, 0) for g, count in enumerate(each))

    def population(seed: int):
        fresh = tumors.new_tumors(layout, founders, 1, seed, range(1), 1)
        return jax.block_until_ready(tumors.fork(fresh, 1, 1, 1))

    def finish(cells, last: int):
        while int(cells.position[0]) < last:
            most = jnp.int32(64)
            cells, _ = run(
                cells, timeloop.World(sites, table), grid, none, limits, jnp.int32(last), most
            )
        return jax.block_until_ready(cells)

    began = time.perf_counter()
    finish(population(99), 1)
    compile_seconds = time.perf_counter() - began
    timing = Timing([], [], 0, 0, 0, compile_seconds)
    for seed in range(REPEATS):
        cells = population(seed)
        cpu, wall = time.process_time(), time.perf_counter()
        cells = finish(cells, steps)
        timing.cpu_ns.append((time.process_time() - cpu) / (num_cells * steps) * 1e9)
        timing.wall_ns.append((time.perf_counter() - wall) / (num_cells * steps) * 1e9)
        lanes = cells.lanes
        timing = timing._replace(
            births=timing.births + int(lanes.births.sum()),
            deaths=timing.deaths + int(lanes.deaths.sum()),
            grown=timing.grown + int(lanes.count.sum()) - num_cells,
        )
    return timing


def time_yardstick(program: Path, num_cells: int, p_event: float) -> tuple[Timing, float]:
    """Time the C++ kernel, and copying 8 bytes per cell (ns per cell)."""
    steps = num_steps(num_cells, p_event)
    arguments = [num_cells, p_event, steps, REPEATS, 1]
    done = subprocess.run(
        [program, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    *lines, copy = (line.split() for line in done.stdout.splitlines())
    cpu, wall, births, deaths, cells = zip(*lines, strict=True)
    timing = Timing(
        cpu_ns=[float(x) for x in cpu],
        wall_ns=[float(x) for x in wall],
        births=sum(map(int, births)),
        deaths=sum(map(int, deaths)),
        grown=sum(map(int, cells)) - REPEATS * num_cells,
    )
    return timing, float(copy[1])


def check_work(name: str, timing: Timing, num_cells: int, p_event: float) -> None:
    """Refuse figures of a program that did not do the work: counts must be those of the law."""
    expected = REPEATS * num_steps(num_cells, p_event) * num_cells * p_event
    events = timing.births + timing.deaths
    if timing.births - timing.deaths != timing.grown:
        raise SystemExit(f"{name}: births - deaths is not the change in cells")
    if abs(events / expected - 1) > 0.05:  # the population drifts by about 1 %
        raise SystemExit(f"{name}: {events} events where the law expects {expected:.0f}")


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    compiler = subprocess.run(["g++", "--version"], check=True, capture_output=True, text=True)
    return {
        "processor": model,
        "cores_used": "1",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy", "jaxevo")},
        "compiler": compiler.stdout.splitlines()[0],
        "flags": " ".join(COMPILE[1:]),
    }


def row(program: Path, num_cells: int, p_event: float) -> dict:
    """All figures of one population size and event probability."""
    cpp, copy = time_yardstick(program, num_cells, p_event)
    check_work("yardstick", cpp, num_cells, p_event)
    result = {
        "cells": num_cells,
        "p_event": p_event,
        "steps": num_steps(num_cells, p_event),
        "repeats": REPEATS,
        "cpp_cpu_ns": statistics.median(cpp.cpu_ns),
        "cpp_wall_ns": statistics.median(cpp.wall_ns),
        "copy_ns": copy,
    }
    ours = time_cells(num_cells, p_event)
    check_work("jaxevo", ours, num_cells, p_event)
    return result | {
        "jaxevo_cpu_ns": statistics.median(ours.cpu_ns),
        "jaxevo_wall_ns": statistics.median(ours.wall_ns),
        "jaxevo_compile_seconds": ours.compile_seconds,
        "ratio": statistics.median(ours.cpu_ns) / statistics.median(cpp.cpu_ns),
    }


COLUMNS = {
    "cells": "{:.0e}",
    "p_event": "{:g}",
    "jaxevo_cpu_ns": "{:.2f}",
    "cpp_cpu_ns": "{:.2f}",
    "ratio": "{:.2f}",
    "copy_ns": "{:.2f}",
    "jaxevo_wall_ns": "{:.2f}",
    "cpp_wall_ns": "{:.2f}",
    "jaxevo_compile_seconds": "{:.1f}",
}


def show(values: dict) -> None:
    """Print one line of the table."""
    cells = [form.format(values[key]) if key in values else "-" for key, form in COLUMNS.items()]
    widths = [max(len(key), 8) for key in COLUMNS]
    line = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    print("  ".join(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1e5 and 1e6 cells only")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "percell.json")
    options = parser.parse_args()
    report = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": [],
    }
    print("ns per cell and step, medians, one core")
    print("  ".join(key.rjust(max(len(key), 8)) for key in COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "yardstick"
        subprocess.run([*COMPILE, HERE / "yardstick.cpp", "-o", program], check=True)
        for num_cells in CELLS[:2] if options.quick else CELLS:
            for p_event in P_EVENTS:
                report["rows"].append(row(program, num_cells, p_event))
                show(report["rows"][-1])
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
