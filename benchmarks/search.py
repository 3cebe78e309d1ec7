"""Time of a schedule search to convergence: three drugs, two years of fortnights, 64 classes, 8 starts.

    python benchmarks/search.py [--only totals] [--out results/search.json]

The problem is that of `benchmarks/extinction.py`: 159 amounts, ln odds of relapse of 10^9 cells. Limits,
one case each:

    box           0 to 3 uM of each drug
    totals        beside it 3 uM of all drugs in a fortnight, and 730 uM days of each drug
    neutrophils   beside the box, never fewer than 1e9/L on the whole course (a path constraint)

A start has converged when its projected slope is at most the tolerance of the search, and no limit is
broken by more than 1e-7; how many of the 8 have is in the report, with the largest slope among them.
A second search goes on with leaps, up to three rounds with 8 new starts each. Seconds are of the whole
search, compilation included; making the goal comes before it. CPU seconds tell what a busy machine hides.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
from extinction import DAYS, machine, problem

from jaxevo.engines.base import Problem
from jaxevo.host import HostParams
from jaxevo.optimize import (
    Limit,
    Settings,
    amounts_of,
    goal,
    neutrophils,
    one_by_one,
    per_cycle,
    search,
    single_drugs,
    total,
    with_amounts,
)

HERE = Path(__file__).parent
HIGHEST, TOTAL = 3.0, 730.0  # uM, uM days
NUM_RANDOM, SEED = 4, 1
LEAST = 1.0  # neutrophils, 1e9/L
LIMITS = {"box": 60.0, "totals": 60.0, "neutrophils": 300.0}  # seconds on two cores


def marrow() -> HostParams:
    """Neutrophils 5e9/L, five days of maturation (Friberg 2002); slopes are assumed."""
    none = np.zeros(0)
    return HostParams(
        baseline=np.array(5.0), transit_days=np.array(5.0), feedback=np.array(0.16),
        slope=np.array([0.3, 0.2, 0.1]), marrow_pump=none, transduced_share=np.array(0.0),
        transduced_pump=none, growth_gain=np.zeros(3), growth_half=np.ones(3),
    )  # fmt: skip


def case(name: str) -> tuple[Problem, Callable[[], tuple[Limit, ...]]]:
    """The study, and its limits."""
    study = problem()
    levels = study.arms[0].levels
    drug = np.array([level.drug for level in levels])
    days = np.array([level.end - level.start for level in levels])
    if name == "neutrophils":
        study = study._replace(hosts=(marrow(),))
        return study, lambda: (neutrophils(study, study.arms[0], LEAST),)
    of_drug = np.stack([(drug == d) * days for d in range(3)])
    fortnight = per_cycle("fortnight", np.arange(len(drug)) // 3, HIGHEST)
    whole = total("two years", of_drug, np.full(3, TOTAL))
    return study, lambda: (fortnight, whole) if name == "totals" else ()


def measure(name: str, leaps: int) -> dict:
    """One search; without leaps it ends with the convergence of the 8 starts."""
    began = time.perf_counter()
    study, limits = case(name)
    arm = study.arms[0]
    pattern = one_by_one(
        np.array([level.drug for level in arm.levels]), np.full(len(arm.levels), HIGHEST)
    )
    aim = goal("relapse", study, with_amounts(arm, pattern.high))
    made, own = time.perf_counter() - began, limits()
    starts = np.concatenate([amounts_of(arm)[None], single_drugs(pattern, 0.5)])
    began, busy = time.perf_counter(), time.process_time()
    found = search(
        aim, pattern, own, starts=starts, num_random=NUM_RANDOM, seed=SEED,
        settings=Settings(leaps=leaps),
        progress=lambda now: print(
            f"  {time.perf_counter() - began:6.1f} s  {now.stage:8} {now.best:12.6g} {now.converged}",
            flush=True,
        ),
    )  # fmt: skip
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - busy,
        "seconds_to_make_the_goal": made,
        "starts": len(found.starts["value"]),
        "converged": int(np.sum(found.starts["is_converged"])),
        "largest_slope": float(found.history["largest_slope"][-1]),
        "is_feasible": found.is_feasible,
        "is_converged": found.is_converged,
        "ln_odds_of_relapse": found.value,
        "of_each_start": np.sort(found.starts["value"]).tolist(),
        "smallest_slack": {key: float(rows.min()) for key, rows in found.slack.items()},
        "chunks": len(found.history["stage"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "search.json")
    parser.add_argument("--only", choices=LIMITS, help="one case")
    parser.add_argument("--leaps", type=int, default=Settings().leaps)
    options = parser.parse_args()
    figures = json.loads(options.out.read_text())["figures"] if options.out.exists() else {}
    for name, most in LIMITS.items():
        if options.only in (None, name):
            print(name, flush=True)
            figures[name] = {
                "to_convergence": measure(name, 0),
                "with_leaps": measure(name, options.leaps),
                "seconds_asked": most,
                "load_average": f"{os.getloadavg()[0]:.1f}",
            }
            print(json.dumps(figures[name], indent=2), flush=True)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine() | {"cores_used": str(os.cpu_count())},
        "problem": {"classes": 64, "days": DAYS, "starts": 4 + NUM_RANDOM},
        "figures": figures,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
