"""The 100 patients of dynamic precision medicine under sequences that are searched for.

A line is D1 for a share of the dose and D2 for the rest, new every 45 days (Beckman, Schemmann & Yeang
2012, doi:10.1073/pnas.1203559109; the law and its numbers: `tests.validation.precision_medicine`). All
sensitivities are 0 or more, so that no line with less of either drug is better.

    python -m tests.optimize.dpm [--out results/dpm.json]

writes what docs/validation.md reports of them.
"""

import argparse
import datetime as dt
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxevo.optimize.pattern import Pattern, one_by_one
from jaxevo.optimize.rounding import rounded
from jaxevo.optimize.search import search
from jaxevo.optimize.state import Found, Settings
from jaxevo.survival import FollowUp, hazard_ratio, log_rank
from tests.optimize.problems import Plain
from tests.treatment.test_precision import as_answers
from tests.validation import precision_medicine as dpm
from tests.validation.precision_medicine import Patient

WINDOWS = dpm.LAST_DAY // dpm.WINDOW
FATAL = np.log(dpm.FATAL_CELLS)
DESCENT = Settings(descent_steps=100, polish_chunks=1, leaps=0)


class Cells(NamedTuple):
    """A patient, or many; leading axes as given."""

    count: Any  # [type] at day 0
    growth: Any  # 1/day
    kill: Any  # [type, drug] 1/day at the full dose
    to_first: Any  # S -> R1 per division, and R2 -> R12
    to_second: Any  # S -> R2, and R1 -> R12


def cells(cohort: Sequence[Patient], believed: bool = False) -> Cells:
    """What follows the doses: the cells that are, or those that the physician believes in."""
    take = lambda of: np.array([of(who) for who in cohort])  # noqa: E731
    kill = take(lambda who: who.believed if believed else who.true)
    first, second = take(lambda who: who.mutation[1, 0]), take(lambda who: who.mutation[2, 0])
    return Cells(take(lambda who: who.cells), take(lambda who: who.growth), kill, first, second)


def _between(a, b):
    """(e^a - e^b)/(a - b)."""
    half = (a - b) / 2
    is_far = jnp.abs(half) > 1e-4
    safe = jnp.where(is_far, half, 1.0)
    return jnp.exp((a + b) / 2) * jnp.where(is_far, jnp.sinh(safe) / safe, 1 + half**2 / 6)


def _day(who: Cells, net, x):
    """Cells one day later; a type with less than one stands still."""
    moves = x >= 1
    s, one, two, both = jnp.where(moves, net, 0.0)
    from_s, from_1, from_2 = (jnp.where(moves[k], who.growth, 0.0) for k in range(3))
    is_far = jnp.abs(s - both) > 1e-3
    gap = jnp.where(is_far, s - both, 1.0)

    def twice(middle):
        """The same with three rates."""
        near = jnp.exp((s + middle + both) / 3) / 2
        return jnp.where(is_far, (_between(s, middle) - _between(middle, both)) / gap, near)

    first, second = who.to_first, who.to_second
    through = from_s * first * second * (from_1 * twice(one) + from_2 * twice(two))
    return jnp.stack([
        x[0] * jnp.exp(s),
        x[1] * jnp.exp(one) + x[0] * from_s * first * _between(s, one),
        x[2] * jnp.exp(two) + x[0] * from_s * second * _between(s, two),
        x[3] * jnp.exp(both) + x[0] * through
        + x[1] * from_1 * second * _between(one, both) + x[2] * from_2 * first * _between(two, both),
    ])  # fmt: skip


def survival(who: Cells, shares):
    """Day on which cells are 1e13, between days by their logs; of those who live, the day on which they
    would be after the last one if all that is left grew at once.
    """

    def day(net, carried):
        x, size, end = carried
        x = _day(who, net, x)
        after = jnp.log(jnp.sum(x))
        crosses = (end[1] < 0.5) & (after >= FATAL)
        part = jnp.where(crosses, (FATAL - size) / jnp.where(crosses, after - size, 1.0), 1.0)
        return (
            x,
            after,
            end + jnp.stack([jnp.where(end[1] < 0.5, part, 0.0), crosses.astype(float)]),
        )

    @jax.checkpoint
    def window(carried, share):
        net = who.growth - who.kill @ jnp.stack([share, 1 - share])
        step = lambda carried, _: (day(net, carried), None)  # noqa: E731
        return jax.lax.scan(step, carried, length=dpm.WINDOW)[0], None

    x = jnp.asarray(who.count)
    begin = (x, jnp.log(jnp.sum(x)), jnp.zeros(2))
    (_, size, end), _ = jax.lax.scan(window, begin, shares)
    return end[0] + jnp.where(end[1] < 0.5, (FATAL - size) / who.growth, 0.0)


def pattern(number: int = 1) -> Pattern:
    """A share of D1 in every window of so many patients."""
    return one_by_one(np.zeros(number * WINDOWS, int), np.ones(number * WINDOWS))


def plans(who: Cells, starts: np.ndarray, seed: int = 0) -> np.ndarray:
    """[start, patient, window] what one search for all patients comes to from every start.

    The goal is their mean survival, to which each adds by windows of its own.
    """
    number = len(who.growth)

    def value(shares):
        each = jax.vmap(survival)(who, shares.reshape(number, WINDOWS))
        return -jnp.mean(each) / dpm.WINDOW

    begin = starts.reshape(len(starts), -1)
    found = search(
        Plain(value), pattern(number), starts=begin, num_random=2, seed=seed, settings=DESCENT
    )
    return found.starts["variables"].reshape(-1, number, WINDOWS)


def on_options(who: Cells, origins: np.ndarray) -> np.ndarray:
    """[window] the best of D1, half of both, and D2 near the origins [origin, window] of one patient."""
    numbers, back = ravel_pytree(jax.tree.map(np.asarray, who))
    free = np.arange(WINDOWS + len(numbers)) < WINDOWS
    # a patient's numbers are variables that no step moves: one compiled program serves all
    everything = one_by_one(np.zeros(len(free), int), np.where(free, 1.0, np.inf))
    rows = np.concatenate([origins, np.tile(numbers, (len(origins), 1))], axis=1)
    goal = Plain(lambda x: -survival(back(x[WINDOWS:]), x[:WINDOWS]) / dpm.WINDOW)
    none: dict[str, np.ndarray] = {}
    starts = {
        "value": np.arange(len(rows)), "is_feasible": np.ones(len(rows), bool), "variables": rows,
    }  # fmt: skip
    found = Found(rows[0], rows[0], 0.0, none, none, True, True, 0.0, none, starts)
    near = rounded(goal, everything, (), found, np.where(free, 0.5, 0.0), others=len(rows))
    return near.variables[:WINDOWS]


def day_of_death(cohort: Sequence[Patient], shares: np.ndarray) -> np.ndarray:
    """Of a sequence [patient, window] for each, by the NumPy program of the case."""
    lines = np.stack([shares, 1 - shares], axis=-1)
    return dpm.survival(list(cohort), lambda visit, _: lines[:, visit])


each_survival = jax.jit(jax.vmap(survival))


def own_sequences(cohort: Sequence[Patient], truth: Sequence[Patient]) -> dict[str, np.ndarray]:
    """[patient, window] what the rules of `cohort` give, decided by the cells of `truth`."""
    found = {}
    for name in dpm.RULES:
        answer, given = as_answers(name, list(cohort)), []

        def decide(visit, x, answer=answer, given=given):
            given.append(np.asarray(answer(visit, x)))
            return given[-1]

        dpm.survival(list(truth), decide)
        found[name] = np.stack(given, axis=1)[:, :, 0]
    return found


def best_of(who: Cells, sequences: np.ndarray) -> np.ndarray:
    """[patient, window] of several sequences [sequence, patient, window] the one to live longest with."""
    days = np.stack([np.asarray(each_survival(who, each)) for each in sequences])
    return sequences[np.argmax(days, axis=0), np.arange(days.shape[1])]


def any_shares(who: Cells, own: dict[str, np.ndarray]) -> np.ndarray:
    """[patient, window] of any shares; `own` are starts beside each line throughout."""
    usual = np.ones_like(own["cpm"])[None] * np.array([0.0, 0.5, 1.0])[:, None, None]
    starts = np.concatenate([np.stack(list(own.values())), usual])
    return best_of(who, np.concatenate([plans(who, starts), starts]))


def both_kinds(who: Cells, own: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of any shares, and of the three options, for patients who differ in all."""
    free = any_shares(who, own)
    origins = np.stack([free, *own.values()], axis=1)
    one = lambda k: jax.tree.map(lambda x: x[k], who)  # noqa: E731
    near = np.array([on_options(one(k), each) for k, each in enumerate(origins)])
    return best_of(who, np.stack([free, near])), near


def compared(cohort: Sequence[Patient]) -> dict[str, np.ndarray]:
    """Day of death of every patient, 1845 if cured, by the NumPy program of the case; under x64.

    `any_share` and `options` know what the cells are, `believed` what the physician believes; none sees
    the patient again. Who is cured by CPM or DPM2.2 keeps that sequence in the first two.
    """
    own = own_sequences(cohort, cohort)
    days = {name: day_of_death(cohort, shares) for name, shares in own.items()}
    longest = np.maximum(*days.values())
    left = np.flatnonzero(longest < dpm.CURED)
    rest = [cohort[k] for k in left]
    found = both_kinds(cells(rest), {name: shares[left] for name, shares in own.items()})
    for name, shares in zip(("any_share", "options"), found, strict=True):
        days[name] = longest.copy()
        days[name][left] = day_of_death(rest, shares)
    days["half"] = day_of_death(cohort, np.full((len(cohort), WINDOWS), 0.5))
    imagined = [who._replace(true=who.believed) for who in cohort]
    believed = cells(cohort, believed=True)
    guesses = own_sequences(cohort, imagined)
    days["believed"] = day_of_death(cohort, any_shares(believed, guesses))
    return days


def follow_up(days: np.ndarray) -> FollowUp:
    """Deaths until day 1800."""
    return FollowUp(np.minimum(days, dpm.LAST_DAY), days < dpm.LAST_DAY)


def against(days: np.ndarray, control: np.ndarray) -> dict[str, float]:
    """Hazard ratio of independent arms, and who of the same patients lives longer."""
    ratio = hazard_ratio(follow_up(days), follow_up(control))
    return {
        "hazard_ratio": ratio.value, "low": ratio.low, "high": ratio.high,
        "log_rank_p": log_rank(follow_up(days), follow_up(control)).p,
        "longer": int(np.sum(days > control)), "equal": int(np.sum(days == control)),
        "shorter": int(np.sum(days < control)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/dpm.json"))
    options = parser.parse_args()
    began, cohort = time.process_time(), dpm.patients()
    with jax.enable_x64(True):
        days = compared(cohort)
    arms = {}
    for name, each in days.items():
        row: dict[str, Any] = {"mean_days": each.mean(), "cured": np.mean(each == dpm.CURED)}
        for rule in dpm.RULES:
            if name != rule:
                row[f"against_{rule}"] = against(each, days[rule])
        arms[name] = {**row, "days": each.astype(int).tolist()}
    report = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "numpy", "scipy")},
        "cpu_seconds": time.process_time() - began,
        "patients": [who.name for who in cohort],
        "arms": arms,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
