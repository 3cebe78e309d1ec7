"""Pool: the rates of intervals whose concentrations were decided on the way, worked out once.

Under steady dosing most intervals of a tumor are alike, and alike in all replicates of a patient. An
interval is known by its patient and its concentrations, rounded to `QUANTUM` of the largest that the arm
can give, so that a tumor's rates depend on nothing but itself. Every interval is evaluated by the same
program, one after the other, whatever else is asked for.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.drug.course import NODES, WEIGHTS
from jaxevo.engines.network import Speeds, speeds
from jaxevo.engines.process import Process, check_speeds
from jaxevo.engines.regimen import Plan

POOL_BYTES = 2**27  # of rates that are kept
ROWS_PER_CALL = 8


class Pool:
    """Rates of one block of tumors of one arm."""

    def __init__(self, plan: Plan, patient: np.ndarray):
        self.plan, self.patient = plan, np.asarray(patient)
        people, tables = plan.people, plan.tables
        of = lambda tree: jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[patient]), tree)  # noqa: E731
        self.own = (of(people.model), of(people.traits), of(people.immigration))
        self.survival = np.asarray(people.survival)[patient]
        self.reads_day = plan.rules.reads_day
        self.place = np.asarray(tables.place)
        self.rows: dict[bytes, int] = {}
        self.known: list[Speeds] = []
        self.table: Speeds | None = None
        self.before: tuple[np.ndarray, np.ndarray] | None = None
        self.form = None  # tree of a process, whose parts get an axis tumor

    def process(self, window: int, site: jax.Array, runs: np.ndarray) -> Process:
        """The law of every tumor in one window.

        Args:
            window: number of the visit.
            site: [tumor, slot, node, site, drug] concentrations, uM, rounded.
            runs: [tumor] whether it still runs; the law of another is not worked out.

        Raises:
            Refused: the model gives a rate that is negative, infinite or not a number.
        """
        tables, rules = self.plan.tables, self.plan.rules
        num, num_intervals = len(self.patient), self.plan.num_intervals
        model, traits, immigration = self.own
        table = concentration = None
        which = np.tile(np.arange(num_intervals, dtype=np.int32), (num, 1))
        if rules.has_feedback:
            concentration = site
        else:
            found = self.look_up(window, np.asarray(site), runs)
            table = jax.tree.map(lambda x: jnp.asarray(x[found]), self.table)
        jump = np.asarray(tables.jump)[window]
        kept = np.ones((num, num_intervals, rules.net.num_types))
        for at in np.flatnonzero(jump >= 0):
            kept[:, at] = self.survival[:, jump[at]]
        tile = lambda x: jnp.asarray(np.tile(np.asarray(x)[window], (num, 1)))  # noqa: E731
        parts = {
            "model": model, "traits": traits, "start": tile(tables.start),
            "duration": tile(tables.duration), "which": jnp.asarray(which), "speeds": table,
            "concentration": concentration, "kept": jnp.asarray(kept), "immigration": immigration,
        }  # fmt: skip
        if self.form is None:
            first = jax.tree.map(lambda x: x[0], parts)
            self.form = jax.tree.structure(Process(rules.net, **first))
        return jax.tree.unflatten(self.form, jax.tree.leaves(list(parts.values())))

    def look_up(self, window: int, site: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Row of the table for every interval, [tumor, interval]; what is new is worked out."""
        num, num_intervals = len(self.patient), self.plan.num_intervals
        found = np.zeros((num, num_intervals), int)
        asked = runs.copy()
        if self.before is not None and not self.reads_day:
            site_before, found_before = self.before
            alike = np.all(site == site_before, axis=tuple(range(1, site.ndim)))
            found[alike], asked = found_before[alike], runs & ~alike
        if self.table is not None and len(self.rows) * self.row_bytes > POOL_BYTES:
            self.rows, self.known, self.table = {}, [], None
            found[:], asked = 0, runs.copy()
        new: list[tuple[int, int]] = []
        day = np.asarray(self.plan.tables.start)[window]
        for tumor in np.flatnonzero(asked):
            name = int(self.patient[tumor]).to_bytes(8)
            for i in range(num_intervals):
                key = name + site[tumor, self.place[i]].tobytes()
                if self.reads_day or self.plan.num_kinds > 1:
                    key += int(self.plan.kind[i]).to_bytes(4) + day[i].tobytes() * self.reads_day
                if key not in self.rows:
                    self.rows[key] = len(self.rows)
                    new.append((int(tumor), i))
                found[tumor, i] = self.rows[key]
        if new or self.table is None:
            self.work_out(window, site, new or [(0, 0)])
        self.before = (site, found)
        return found

    def work_out(self, window: int, site: np.ndarray, new: list[tuple[int, int]]) -> None:
        """Add the rates of some intervals of some tumors to the table."""
        tables, people = self.plan.tables, self.plan.people
        slot_day = np.asarray(tables.start)[window, 0] + np.append(0, np.cumsum(tables.length)[:-1])
        padded = new + new[:1] * (-len(new) % ROWS_PER_CALL)
        for first in range(0, len(padded), ROWS_PER_CALL):
            tumor, at = np.array(padded[first : first + ROWS_PER_CALL]).T
            slots = self.place[at]
            who = self.patient[tumor]
            pick = lambda tree, who=who: jax.tree.map(lambda x: np.asarray(x)[who], tree)  # noqa: E731
            made = _worked_out(
                self.plan.rules.net, pick(people.model), pick(people.traits),
                site[tumor[:, None], slots], slot_day[slots],
                np.asarray(tables.length)[slots], np.asarray(tables.weight)[at],
            )  # fmt: skip
            made = jax.tree.map(np.asarray, made)
            check_speeds(made)
            here = min(ROWS_PER_CALL, len(new) - first)
            self.known.append(jax.tree.map(lambda x: x[:here], made))  # noqa: B023
        parts = ([] if self.table is None else [self.table]) + self.known
        self.table = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        self.known = []

    @property
    def row_bytes(self) -> int:
        """Memory of one interval."""
        return sum(x[0].nbytes for x in jax.tree.leaves(self.table))


@partial(jax.jit, static_argnums=0)
def _worked_out(net, model, traits, site, start, length, weight) -> Speeds:
    """Rates averaged over the slots of each interval; the first axis is the row."""

    def row(at):
        model, traits, site, start, length, weight = at

        def slot(at):
            drug, start, length = at
            days = start + length * jnp.asarray(NODES)
            return speeds(model, net, traits, drug, jnp.asarray(WEIGHTS), days)

        fine = jax.lax.map(slot, (site, start, length))

        def mix(leaf):
            return sum(weight[k] * leaf[k] for k in range(len(leaf)))

        return jax.tree.map(mix, fine)

    return jax.lax.map(row, (model, traits, site, start, length, weight))
