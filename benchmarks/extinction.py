"""Time of the `extinction` engine's value and gradient for a schedule of three drugs, on one core.

    python benchmarks/extinction.py [--out results/extinction.json]

The problem: 64 classes (six alterations, two against each drug), two years, a level of each drug in
every fortnight: 159 amounts. The value is ln P(no relapse) of 10^9 cells, the gradient is by all
amounts. The yardstick is SciPy's DOP853 on the same equation in p, in the same run; its gradient by
one-sided differences would take 160 such solves, which is computed, not measured. Figures are medians
and minima over repeats, compilation apart.
"""

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

if __name__ == "__main__":
    # One core for everything, from before JAX starts its threads.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = flags + " --xla_cpu_multi_thread_eigen=false"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines import objective
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.engines.series import Offspring
from jaxevo.state import Rates

HERE = Path(__file__).parent
DAYS, FORTNIGHT = 730.0, 14.0
ALTERATIONS = tuple(f"m{k}" for k in range(6))
REPEATS = 50
CHECKED = (0, 40, 80, 120, 158)  # entries of the gradient that are held against differences
PARAMS = {
    "birth": 0.14,
    "death": 0.13,
    "cost": np.array([0.0, 0.01, 0.02, 0.03, 0.04, 0.05]),
    "kill": np.array([0.12, 0.10, 0.08]),  # 1/day at saturation, of each drug
    "fold": 20.0,  # of EC50 (1 uM), of each alteration against its drug
    "mutation": 1e-7 * np.arange(1, 7),
}


def rates(params, levels, environment) -> Rates:
    """Hill kill of three drugs; alteration k is against drug k mod 3."""
    c = environment.concentration
    ec50 = params["fold"] ** (levels[:3] + levels[3:])
    kill = jnp.sum(params["kill"] * c**2 / (c**2 + ec50**2))
    return Rates(
        birth_rate=params["birth"] * jnp.prod((1 - params["cost"]) ** levels),
        death_rate=params["death"] + kill,
        mutation_probability=jnp.where(levels < 1, params["mutation"], 0.0),
    )


def problem() -> Problem:
    """Levels in turn: each drug is low in every third fortnight."""
    model = custom_model(
        dict.fromkeys(ALTERATIONS, 1), rates, PARAMS,
        mutations=[(name, 1) for name in ALTERATIONS], drugs=("a", "b", "c"),
    )  # fmt: skip
    edges = np.append(np.arange(0, DAYS, FORTNIGHT), DAYS)
    levels = tuple(
        Level(d, float(a), float(b), 0.3 if (k + d) % 3 == 0 else 2.0)
        for k, (a, b) in enumerate(itertools.pairwise(edges))
        for d in range(3)
    )
    return Problem(
        model, (Founder(10**9, 0, 0),), (Arm("fortnights", (), levels),), seed=1, replicates=1,
        horizon=DAYS, sync=FORTNIGHT, max_cells=8192,
        record=Record(every=DAYS, concentration_every=DAYS),
    )  # fmt: skip


def timed(call, repeats: int = REPEATS) -> dict[str, float]:
    """Milliseconds of wall time: median and minimum."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        found.append(1e3 * (time.perf_counter() - began))
    return {"median_ms": statistics.median(found), "min_ms": min(found)}


def yardstick(law: Offspring, lengths: np.ndarray, cells: float, tolerance: float) -> float:
    """ln P(no relapse) by SciPy, interval by interval."""
    linear, crossed = np.asarray(law.linear), np.asarray(law.crossed)
    p = np.ones(linear.shape[-1])
    for k in reversed(range(len(lengths))):
        one, two = linear[k], crossed[k]
        p = solve_ivp(
            lambda _, p, one=one, two=two: one @ p - p * (two @ p),
            (0, lengths[k]), p, "DOP853", rtol=tolerance, atol=1e-300,
        ).y[:, -1]  # fmt: skip
    return cells * float(np.log1p(-p[0]))


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores_used": "1",
        "load_average": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy", "scipy", "jaxevo")},
    }


def measure() -> dict:
    """All figures; under x64."""
    began = time.perf_counter()
    study = problem()
    made = objective.objective(study)
    prepare = time.perf_counter() - began
    start = jnp.asarray(made.start)
    value, both = jax.jit(made.value), jax.jit(jax.value_and_grad(made.value))
    began = time.perf_counter()
    found, slope = jax.block_until_ready(both(start))
    compile_seconds = time.perf_counter() - began
    forward, gradient = timed(lambda: value(start)), timed(lambda: both(start))
    worst = 0.0
    for k in CHECKED:
        step = np.zeros(len(start))
        step[k] = 1e-4 * made.start[k]
        one, two = (float(value(start + m * step) - value(start - m * step)) for m in (1, 2))
        worst = max(worst, abs((8 * one - two) / (12 * step[k]) / float(slope[k]) - 1))
    walk = made.value.__self__  # type: ignore[attr-defined]
    law, _ = jax.jit(walk.rows)(start)
    lengths = np.diff(np.append(np.arange(0, DAYS, FORTNIGHT), DAYS))
    exact = yardstick(law, lengths, 1e9, 1e-12)
    scipy = timed(lambda: yardstick(law, lengths, 1e9, 1e-9), 5)
    return {
        "classes": 64,
        "days": DAYS,
        "amounts": len(start),
        "steps": len(walk.steps.row),
        "ln_no_relapse": float(found),
        "error_of_ln_against_dop853_at_1e-12": abs(float(found) / exact - 1),
        "forward": forward,
        "value_and_gradient": gradient,
        "backward_over_forward": (gradient["median_ms"] - forward["median_ms"])
        / forward["median_ms"],
        "gradient_against_differences": worst,
        "scipy_forward_rtol_1e-9": scipy,
        "scipy_gradient_by_differences_computed_ms": scipy["median_ms"] * (len(start) + 1),
        "prepare_seconds": prepare,
        "compile_seconds": compile_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "extinction.json")
    options = parser.parse_args()
    with jax.enable_x64(True):
        figures = measure()
    report = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": figures,
    }
    for name, figure in figures.items():
        print(f"{name:42} {figure}")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
