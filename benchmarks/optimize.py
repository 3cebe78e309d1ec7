"""The schedule search against black-box search, at equal numbers of evaluations and at equal time.

    python benchmarks/optimize.py [--seeds 5] [--out results/optimize.json]

The problem: three drugs, 24 cycles of 30 days, a level of each drug in every cycle (72 amounts); 8 classes,
one alteration against each drug, some of them there at diagnosis. The goal is the log odds of relapse in
720 days of 10^9 cells. Every drug has a total, and all drugs together have one in each cycle (27 linear
limits).

`search` starts from four random schedules of its seed. The others see the goal plus a penalty on what
exceeds the limits (exact: its slope is twice the largest multiplier), and what they find is drawn back
to no drug until every limit holds, as `search` does. They evaluate whole populations in one compiled
batch where they have any. A gradient counts as many evaluations as it costs. Time is CPU time on one
core, which is wall time where nothing else runs; compilation is apart.
"""

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

# One core for everything, from before JAX starts its threads.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cma
import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.optimize.goals import Goal, goal
from jaxevo.optimize.limits import Limit, joined, per_cycle, total
from jaxevo.optimize.pattern import Pattern, one_by_one
from jaxevo.optimize.search import search
from jaxevo.state import Rates

search_module = importlib.import_module("jaxevo.optimize.search")  # the package shows the function
HERE = Path(__file__).parent
CYCLE, CYCLES, DRUGS = 30.0, 24, ("a", "b", "c")
DAYS = CYCLE * CYCLES
MOST = 2.0  # uM
PARAMS = {
    "birth": 0.14,
    "death": 0.13,
    "cost": np.array([0.01, 0.02, 0.03]),
    "kill": np.array([0.05, 0.04, 0.035]),  # 1/day at saturation, of each drug
    "fold": 20.0,  # of EC50 (1 uM), of each alteration against its drug
    "mutation": 1e-7 * np.arange(1, 4),
}
FOUNDERS = (Founder(10**9, 0, 0), Founder(1000, 1, 0), Founder(300, 2, 0), Founder(100, 4, 0))
PENALTY = 5.0  # log odds per relative excess of a limit; with 100 all of them find less
LONGER = 5  # times the evaluations, for CMA-ES once more
BATCH = 64
STARTS = 4


def rates(params, levels, environment) -> Rates:
    """Hill kill of three drugs; alteration k is against drug k."""
    c = environment.concentration
    ec50 = params["fold"] ** levels
    kill = jnp.sum(params["kill"] * c**2 / (c**2 + ec50**2))
    return Rates(
        birth_rate=params["birth"] * jnp.prod((1 - params["cost"]) ** levels),
        death_rate=params["death"] + kill,
        mutation_probability=jnp.where(levels < 1, params["mutation"], 0.0),
    )


class Study(NamedTuple):
    """What is minimized, over what, within which limits."""

    goal: Goal
    pattern: Pattern
    limits: tuple[Limit, ...]


def study() -> Study:
    """The problem of this benchmark."""
    names = [f"against {drug}" for drug in DRUGS]
    model = custom_model(
        dict.fromkeys(names, 1), rates, PARAMS, mutations=[(name, 1) for name in names], drugs=DRUGS
    )
    cycle, drug = (x.ravel() for x in np.indices((CYCLES, len(DRUGS))))
    levels = tuple(
        Level(int(d), CYCLE * k, CYCLE * (k + 1), MOST) for k, d in zip(cycle, drug, strict=True)
    )
    arm = Arm("cycles", (), levels)
    problem = Problem(
        model, FOUNDERS, (arm,), seed=1, replicates=1, horizon=DAYS, sync=CYCLE, max_cells=8192,
        record=Record(every=DAYS, concentration_every=DAYS),
    )  # fmt: skip
    each = drug[None] == np.arange(len(DRUGS))[:, None]
    limits = (
        total("of each drug", each, np.full(len(DRUGS), 0.4 * MOST * CYCLES)),
        per_cycle("of each cycle", cycle, 1.2 * MOST),
    )
    pattern = one_by_one(drug, np.full(len(drug), MOST), cycle)
    return Study(goal("relapse", problem, arm), pattern, limits)


# --- one evaluation and its cost -------------------------------------------------------------------


class Judge:
    """Goal plus penalty of places in the unit box; every call is counted and timed."""

    def __init__(self, own: Study):
        self.own, self.rows = own, joined(own.limits)
        one = lambda u: own.goal.value(own.pattern.amounts(own.pattern.of_unit(u)))  # noqa: E731
        rows = lambda u: self.rows(own.pattern.amounts(own.pattern.of_unit(u)))  # noqa: E731

        def penalized(u):
            return one(u) + PENALTY * jnp.sum(jnp.maximum(0.0, rows(u)))

        self.single, self.many = jax.jit(penalized), jax.jit(jax.vmap(penalized))
        self.slope = jax.jit(jax.value_and_grad(penalized))
        self.worst = jax.jit(lambda u: jnp.max(rows(u)))
        self.begin()

    def begin(self) -> None:
        """Nothing is counted yet."""
        self.count, self.started, self.best = 0, time.process_time(), np.inf
        self.steps: list[tuple[int, float, np.ndarray]] = []  # evaluations, seconds, place

    @property
    def seconds(self) -> float:
        return time.process_time() - self.started

    def __call__(self, units: np.ndarray) -> np.ndarray:
        """Values of places [place, variable], in batches that are all compiled alike."""
        units = np.clip(np.atleast_2d(units), 0, 1)
        if len(units) == 1:
            values = np.asarray(jax.block_until_ready(self.single(units[0])))[None]
        else:
            lack = -len(units) % size(len(units))
            filled = np.concatenate([units, np.repeat(units[:1], lack, axis=0)])
            parts = np.split(filled, len(filled) // size(len(units)))
            values = np.concatenate([jax.block_until_ready(self.many(x)) for x in parts])
        values = np.nan_to_num(np.asarray(values)[: len(units)], nan=np.inf)
        self.count += len(units)
        k = int(np.argmin(values))
        if values[k] < self.best:
            self.best = float(values[k])
            self.steps.append((self.count, self.seconds, units[k].copy()))
        return values

    def drawn_back(self, unit: np.ndarray) -> float:
        """The goal once the place is drawn back to no drug: all limits are linear, and hold there."""
        share = 1 / (1 + max(0.0, float(self.worst(unit))))
        return float(self.single(unit * share * (1 - 1e-12)))

    def at(self, evaluations: float = np.inf, seconds: float = np.inf) -> float:
        """What had been found by then, within the limits."""
        done = [u for n, s, u in self.steps if n <= evaluations and s <= seconds]
        return self.drawn_back(done[-1]) if done else np.inf


def size(number: int) -> int:
    """Of the compiled batch for so many places."""
    return 16 if number <= 16 else BATCH


def measured(call: Callable[[], Any], repeats: int = 30) -> float:
    """Median milliseconds."""
    found = []
    jax.block_until_ready(call())
    for _ in range(repeats):
        began = time.process_time()
        jax.block_until_ready(call())
        found.append(1e3 * (time.process_time() - began))
    return statistics.median(found)


# --- the searches ----------------------------------------------------------------------------------


class Ours:
    """The search of the package, compiled once."""

    def __init__(self, own: Study, goal_value: Callable | None = None):
        self.own, self.made = own, {}
        self.goal = own.goal if goal_value is None else Goal(goal_value)
        self.usual = search_module.Task

    def __call__(self, seed: int):
        """A second search runs the functions of the first: nothing is compiled."""
        same = lambda *parts: self.made.setdefault("task", self.usual(*parts))  # noqa: E731
        began = time.process_time(), time.perf_counter()
        with mock.patch.object(search_module, "Task", same):
            found = search(
                self.goal, self.own.pattern, self.own.limits, num_random=STARTS, seed=seed
            )
        ended = time.process_time(), time.perf_counter()
        return found, ended[0] - began[0], ended[1] - began[1]


class Tally:
    """A goal that counts its values and gradients, wherever they are asked for."""

    def __init__(self, value: Callable):
        self.values = self.slopes = 0
        self.lock = threading.Lock()

        @jax.custom_vjp
        def counted(x):
            jax.debug.callback(self.one_value)
            return x

        def backward(_, slope):
            jax.debug.callback(self.one_slope)
            return (slope,)

        counted.defvjp(lambda x: (counted(x), None), backward)
        self.value = lambda amounts: value(counted(amounts))

    def one_value(self) -> None:
        with self.lock:
            self.values += 1

    def one_slope(self) -> None:
        with self.lock:
            self.slopes += 1

    def taken(self) -> tuple[int, int]:
        """Values without a gradient, and gradients, since the last time."""
        jax.effects_barrier()
        found = self.values - self.slopes, self.slopes
        self.values = self.slopes = 0
        return found


class Enough(Exception):
    """Both budgets are spent."""


def black_box(name: str, judge: Judge, seed: int, evaluations: float, seconds: float) -> None:
    """One method until both budgets are spent; what it finds on the way is in the judge."""
    num = len(judge.own.pattern.low)
    rng = np.random.default_rng(seed)
    judge.begin()

    def ask(units):
        if judge.count >= evaluations and judge.seconds >= seconds:
            raise Enough
        return judge(units)

    try:
        while True:
            METHODS[name](ask, rng, num, evaluations)
    except Enough:
        pass


def differential_evolution(ask, rng, num: int, _: float) -> None:
    """As many places as variables in a generation; SciPy's defaults otherwise."""
    optimize.differential_evolution(
        lambda x: ask(x.T), [(0, 1)] * num, popsize=1, maxiter=10**6, tol=0, atol=0,
        rng=rng, polish=False, vectorized=True, updating="deferred",
    )  # fmt: skip


def nelder_mead(ask, rng, num: int, evaluations: float) -> None:
    """From a random place, adaptive, with a quarter of the evaluations; then from another."""
    optimize.minimize(
        lambda x: float(ask(x)[0]), rng.uniform(0, 1, num), method="Nelder-Mead",
        bounds=[(0, 1)] * num,
        options={"maxfev": int(evaluations / STARTS), "adaptive": True, "xatol": 0, "fatol": 0},
    )  # fmt: skip


def cma_es(ask, rng, num: int, _: float) -> None:
    """From the middle, its own population and its own end; then again with twice the population."""
    number = 4 + int(3 * np.log(num))
    while True:
        options = {
            "bounds": [0, 1], "popsize": number, "seed": int(rng.integers(1, 2**31)), "verbose": -9,
        }  # fmt: skip
        strategy = cma.CMAEvolutionStrategy(num * [0.5], 0.3, options)
        while not strategy.stop():
            places = strategy.ask()
            strategy.tell(places, ask(np.array(places)).tolist())
        number *= 2


METHODS = {
    "differential evolution": differential_evolution,
    "Nelder-Mead, several starts": nelder_mead,
    "CMA-ES": cma_es,
}


# --- figures ---------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    libraries = ("jax", "jaxlib", "numpy", "scipy", "optax", "cma", "jaxevo")
    return {
        "device": "cpu",
        "processor": model,
        "cores_used": "1",
        "load_average": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def measure(seeds: int) -> dict:
    """All figures; under x64."""
    own = study()
    judge = Judge(own)
    middle = np.full(len(own.pattern.low), 0.4)
    costs = {
        "value": measured(lambda: judge.single(middle)),
        "value_and_gradient": measured(lambda: judge.slope(middle)),
        "values_of_a_batch_of_16": measured(lambda: judge.many(np.tile(middle, (16, 1)))),
        "values_of_a_batch_of_64": measured(lambda: judge.many(np.tile(middle, (BATCH, 1)))),
    }
    ratio = min(4.0, costs["value_and_gradient"] / costs["value"])
    tally = Tally(own.goal.value)
    ours, counting = Ours(own), Ours(own, tally.value)
    _, first_seconds, _ = ours(0)
    runs = []
    for seed in range(1, seeds + 1):
        found, seconds, wall = ours(seed)
        tally.taken()
        again, _, _ = counting(seed)
        values, slopes = tally.taken()
        budget = values + ratio * slopes
        row: dict[str, Any] = {
            "seed": seed, "log_odds": found.value, "is_feasible": found.is_feasible,
            "is_converged": found.is_converged, "cpu_seconds": seconds, "wall_seconds": wall,
            "values": values, "gradients": slopes, "evaluations": budget,
            "log_odds_while_counted": again.value,
            "largest_multiplier": max(float(x.max()) for x in found.multiplier.values()),
        }  # fmt: skip
        for name in METHODS:
            black_box(name, judge, seed, budget, seconds)
            row[name] = {
                "at_equal_evaluations": judge.at(evaluations=budget),
                "at_equal_time": judge.at(seconds=seconds),
                "evaluations": judge.count, "cpu_seconds": judge.seconds,
            }  # fmt: skip
        black_box("CMA-ES", judge, seed, LONGER * budget, 0.0)
        row["CMA-ES"]["at_five_times_the_evaluations"] = judge.at(LONGER * budget)
        runs.append(row)
        print(json.dumps(row), flush=True)
    middle_of = lambda of: statistics.median(of(row) for row in runs)  # noqa: E731
    summary: dict[str, Any] = {"search": middle_of(lambda row: row["log_odds"])}
    for name in METHODS:
        summary[name] = {
            key: middle_of(lambda row, name=name, key=key: row[name][key])
            for key in ("at_equal_evaluations", "at_equal_time")
        }
    summary["CMA-ES"]["at_five_times_the_evaluations"] = middle_of(
        lambda row: row["CMA-ES"]["at_five_times_the_evaluations"]
    )
    even = float(own.goal.value(jnp.full(len(middle), 0.4 * MOST)))
    return {
        "variables": len(middle), "classes": 2 ** len(DRUGS), "days": DAYS, "limits": 27,
        "milliseconds": costs, "evaluations_per_gradient": ratio,
        "seconds_of_the_first_search_with_compilation": first_seconds,
        "log_odds_of_the_same_dose_in_every_cycle": even,
        "median_log_odds": summary, "runs": runs,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "optimize.json")
    options = parser.parse_args()
    with jax.enable_x64(True):
        figures = measure(options.seeds)
    report = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": figures,
    }
    print(json.dumps(figures["median_log_odds"], indent=2))
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
