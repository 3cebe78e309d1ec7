"""A small tumor in plain NumPy, written down as engines write it: something to store and to draw.

Cells grow from one founder, gain alterations, spread to other sites and are treated, in steps of one
day. Numbers are made up, but they belong together: sites, classes and clones add up to the burden,
parents are born before their children, and the dead stay dead.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np

from jaxevo.engines.base import Trajectory, Variable

BIRTH, DEATH, GROWTH_DAYS = 0.9, 0.2, 400


@dataclass
class _Clones:
    """All clones of one tumor: who they are, and how many cells each has at each site."""

    identity: np.ndarray
    parent: np.ndarray
    birth: np.ndarray
    genotype: np.ndarray
    site: np.ndarray
    cells: np.ndarray  # [clone, site]
    births: int = 0
    deaths: int = 0
    history: list = field(default_factory=list)  # per day: (identities, cells)

    def copy(self) -> "_Clones":
        arrays = (self.identity, self.parent, self.birth, self.genotype, self.site, self.cells)
        return _Clones(*(a.copy() for a in arrays))


def make_trajectory(
    *,
    seed: int = 1,
    arms: tuple[str, ...] = ("untreated", "erlotinib daily"),
    sites: tuple[str, ...] = ("lung", "brain"),
    drugs: tuple[str, ...] = ("erlotinib",),
    max_level: dict[str, int] | None = None,
    replicates: int = 3,
    days: int = 60,
    treat_at: int = 20_000,
    capacity: float = 60_000,
    drug_death: float = 1.6,
    protection: float = 0.85,
    mutation: float = 3e-5,
    stop_at: int | None = None,
    room: int | None = None,
    max_classes: int = 12,
    max_clones: int = 15,
    has_clones: bool = True,
) -> Trajectory:
    """A trajectory with all variables. The first arm is untreated where there is more than one."""
    levels = {"T790M": 1, "MET": 3} if max_level is None else max_level
    rng = np.random.default_rng(seed)
    tops = np.array(list(levels.values()), int)
    strides = np.cumprod([1, *(tops + 1)])[:-1]
    times = np.arange(days + 1.0)
    world = (rng, sites, strides, tops, capacity, mutation)
    grown = [_grow(world, treat_at) for _ in range(replicates)]
    runs = []
    for a in range(len(arms)):
        is_treated = bool(drugs) and (a > 0 or len(arms) == 1)
        death = drug_death * (0.6 + 0.4 * a / len(arms)) if is_treated else 0.0
        runs.append([_treat(world, g, days, death, protection, stop_at, room) for g, _, _ in grown])
    root = (
        _names(arms, sites, drugs, levels, replicates)
        | _growth(grown)
        | _burden(runs, grown, times)
    )
    root |= _classes(runs, times, strides, tops, list(levels), max_classes)
    root |= _pharmacokinetics(arms, sites, drugs, times)
    if has_clones:
        root |= _largest_clones(runs, times, max_clones)
    return {"": root, "lineage": _lineage(runs, grown), "cells": _snapshot(runs, times)}


def _step(
    world, clones: _Clones, day: float, drug_death: float, protection: float, next_id: int
) -> int:
    """One day of births, deaths, mutations and migration."""
    rng, sites, strides, tops, capacity, mutation = world
    levels = clones.genotype[:, None] // strides % (tops + 1)
    exposed = (1 - protection) ** np.minimum(levels.sum(axis=1), 2)
    site_kill = np.where(np.arange(len(sites)) > 0, 0.4, 1.0)
    death = DEATH + drug_death * exposed[:, None] * site_kill
    room = np.maximum(0.0, 1 - clones.cells.sum() / capacity)
    dead = rng.binomial(clones.cells, -np.expm1(-death))
    born = rng.poisson((clones.cells - dead) * BIRTH * room)
    clones.births += int(born.sum())
    clones.deaths += int(dead.sum())
    clones.cells += born - dead
    if len(sites) > 1:
        moved = rng.binomial(clones.cells[:, 0], 1e-3)
        clones.cells[:, 0] -= moved
        clones.cells[:, 1] += moved
    if len(tops):
        for parent, site in np.argwhere(rng.binomial(born, mutation)):
            free = np.flatnonzero(levels[parent] < tops)
            if clones.cells[parent, site] and len(free):
                clones.cells[parent, site] -= 1
                genotype = clones.genotype[parent] + strides[rng.choice(free)]
                _found(clones, next_id, clones.identity[parent], day, genotype, site)
                next_id += 1
    clones.history.append((clones.identity.copy(), clones.cells.copy()))
    return next_id


def _found(clones: _Clones, identity, parent, day, genotype, site) -> None:
    cells = np.zeros((1, clones.cells.shape[1]), np.int64)
    cells[0, site] = 1
    clones.identity = np.append(clones.identity, identity)
    clones.parent = np.append(clones.parent, parent)
    clones.birth = np.append(clones.birth, day)
    clones.genotype = np.append(clones.genotype, genotype)
    clones.site = np.append(clones.site, site)
    clones.cells = np.concatenate([clones.cells, cells])


def _grow(world, treat_at: int):
    """From one founder to treatment; founders that die out are drawn again."""
    for attempt in range(1, 1000):
        clones = _Clones(*np.zeros((5, 0), np.int64), np.zeros((0, len(world[1])), np.int64))
        clones.birth = clones.birth.astype(float)
        _found(clones, 0, -1, 0.0, 0, 0)
        next_id, sizes = 1, [1]
        while 0 < sizes[-1] < treat_at and len(sizes) < GROWTH_DAYS:
            next_id = _step(world, clones, float(len(sizes)), 0.0, 0.0, next_id)
            sizes.append(int(clones.cells.sum()))
        if sizes[-1] >= treat_at:
            clones.birth -= len(sizes) - 1
            return clones, sizes, attempt
    raise ValueError("no founder grew up: birth, death and capacity leave no chance")


def _treat(world, grown: _Clones, days: int, drug_death, protection, stop_at, room):
    """One arm of one tumor: (clones, status, end day)."""
    clones, next_id = grown.copy(), int(grown.identity.max()) + 1
    clones.history = [(clones.identity.copy(), clones.cells.copy())]
    for day in range(1, days + 1):
        next_id = _step(world, clones, float(day), drug_death, protection, next_id)
        size = int(clones.cells.sum())
        if size == 0:
            return clones, 1, float(day)
        if stop_at is not None and size >= stop_at:
            return clones, 2, float(day)
        if room is not None and size >= room:
            return clones, 3, float(day)
    return clones, 0, float(days)


def _course(run, num_times: int, count) -> np.ndarray:
    """`count(identities, cells)` on every day; after the end it repeats, or is -1 if unknown."""
    clones, status, _ = run
    values = [np.asarray(count(*day), np.int64) for day in clones.history]
    rest = np.full_like(values[-1], -1) if status in (3, 4) else values[-1]
    return np.stack(values + [rest] * (num_times - len(values)))


def _names(arms, sites, drugs, levels, replicates) -> dict[str, Variable]:
    axes = {"arm": arms, "site": sites, "drug": drugs, "alteration": tuple(levels)}
    names = {k: Variable((k,), np.array(v, str), "", f"name of the {k}") for k, v in axes.items()}
    return names | {
        "replicate": Variable(("replicate",), np.arange(replicates), "1", "index of the replicate"),
        "patient": Variable(("patient",), np.arange(1), "1", "index of the patient"),
    }


def _growth(grown) -> dict[str, Variable]:
    width = max(len(sizes) for _, sizes, _ in grown)
    days = np.full((len(grown), width), np.nan)
    cells = np.full((len(grown), width), -1, np.int64)
    for r, (_, sizes, _) in enumerate(grown):
        days[r, : len(sizes)] = np.arange(len(sizes)) - (len(sizes) - 1.0)
        cells[r, : len(sizes)] = sizes
    trigger = np.array([sizes[-1] for _, sizes, _ in grown], np.int64)
    attempts = np.array([attempts for *_, attempts in grown], np.int64)
    return {
        "growth_day": Variable(("replicate", "growth"), days, "d", "day before treatment"),
        "growth_burden": Variable(
            ("replicate", "growth"), cells, "cells", "living cells in growth"
        ),
        "trigger_cells": Variable(("replicate",), trigger, "cells", "living cells at day 0"),
        "founder_attempts": Variable(("replicate",), attempts, "1", "founders until one grew up"),
    }


def _burden(runs, grown, times) -> dict[str, Variable]:
    axes = ("arm", "patient", "replicate")
    num = len(times)
    burden = [[_course(run, num, lambda _, cells: cells.sum()) for run in row] for row in runs]
    by_site = [
        [_course(run, num, lambda _, cells: cells.sum(axis=0)) for run in row] for row in runs
    ]

    def per_run(values, dtype):
        return np.array([[values(run) for run in row] for row in runs], dtype)[:, None]

    births = per_run(lambda run: run[0].births, np.int64)
    deaths = per_run(lambda run: run[0].deaths, np.int64)
    status = per_run(lambda run: run[1], np.int8)
    return {
        "time": Variable(("time",), times, "d", "day after the first dose"),
        "burden": Variable((*axes, "time"), np.array(burden)[:, None], "cells", "living cells"),
        "site_burden": Variable(
            (*axes, "time", "site"),
            np.array(by_site)[:, None],
            "cells",
            "living cells at each site",
        ),
        "status": Variable(axes, status, "1", "how the replicate ended"),
        "is_extinct": Variable(axes, status == 1, "1", "no cell is left"),
        "end_day": Variable(axes, per_run(lambda run: run[2], float), "d", "last day followed"),
        "births": Variable(axes, births, "cells", "divisions after day 0"),
        "deaths": Variable(axes, deaths, "cells", "deaths after day 0"),
    }


def _classes(runs, times, strides, tops, names, max_classes) -> dict[str, Variable]:
    genotypes = np.unique(np.concatenate([clones.genotype for row in runs for clones, *_ in row]))
    spaces = product(*(range(top + 1) for top in tops))
    known = sorted({int(np.dot(levels, strides)) for levels in spaces} & set(genotypes.tolist()))
    tracked = np.array(known[:max_classes])

    def count(clones):
        lookup = dict(zip(clones.identity.tolist(), clones.genotype.tolist(), strict=True))

        def by_class(identities, cells):
            packed = np.array([lookup[i] for i in identities.tolist()])
            sizes = [cells[packed == genotype].sum() for genotype in tracked]
            return [*sizes, cells[~np.isin(packed, tracked)].sum()]

        return by_class

    counts = np.array([[_course(run, len(times), count(run[0])) for run in row] for row in runs])
    levels = tracked[:, None] // strides % (tops + 1)
    labels = [
        " + ".join(
            n if t == 1 else f"{n} x{i}" for n, i, t in zip(names, row, tops, strict=True) if i
        )
        for row in levels
    ]
    axes = ("arm", "patient", "replicate", "time")
    return {
        "class_count": Variable(
            (*axes, "class"), counts[:, None, ..., :-1], "cells", "living cells"
        ),
        "other_classes_count": Variable(
            axes, counts[:, None, ..., -1], "cells", "cells not tracked"
        ),
        "class": Variable(("class",), tracked, "1", "packed genotype of the class"),
        "class_genotype": Variable(("class", "alteration"), levels, "1", "level of the alteration"),
        "class_label": Variable(
            ("class",), np.array([x or "unaltered" for x in labels]), "1", "readable genotype"
        ),
    }


def _pharmacokinetics(arms, sites, drugs, times) -> dict[str, Variable]:
    """Daily oral doses; the second site is a brain that lets a tenth in, slowly."""
    hours = np.arange(0.0, times[-1] * 24 + 1)
    day_time = np.arange(24 * 12.0)
    blood = np.zeros((len(arms), len(hours), len(drugs)))
    dose = np.zeros((len(arms), len(times), len(drugs)))
    for a in range(len(arms)):
        for d in range(len(drugs)):
            if len(arms) > 1 and (a == 0 or d not in (0, a % len(drugs))):
                continue
            gone = 0.05 * (1 + d)
            single = 2.0 / (1 + 3 * d) * (np.exp(-gone * day_time) - np.exp(-0.9 * day_time))
            starts = np.zeros(len(hours))
            starts[:: 24 * (1 + a)] = 1
            blood[a, :, d] = np.convolve(starts, single)[: len(hours)]
            dose[a, :: 1 + a, d] = 150.0
    share = np.array([0.6, *[0.06] * (len(sites) - 1)])
    site = np.stack([s * np.roll(blood, i + 1, axis=1) for i, s in enumerate(share)], axis=2)
    site[:, : len(sites)] = 0.0
    axes = ("arm", "concentration_time")
    return {
        "concentration_time": Variable(axes[1:], hours / 24, "d", "day after the first dose"),
        "concentration": Variable((*axes, "site", "drug"), site, "uM", "free drug at the site"),
        "blood_concentration": Variable((*axes, "drug"), blood, "uM", "drug in blood"),
        "dose": Variable(("arm", "time", "drug"), dose, "mg", "dose until the next time"),
    }


def _largest_clones(runs, times, max_clones) -> dict[str, Variable]:
    days = times[::2]
    shape = (len(runs), len(runs[0]), max_clones)
    identity = np.full(shape, -1, np.int64)
    count = np.zeros((*shape[:2], len(days), max_clones), np.int64)
    for a, row in enumerate(runs):
        for r, run in enumerate(row):
            clones, num = run[0], len(run[0].identity)
            course = _course(run, len(times), partial(_sizes, num))[::2]
            largest = np.argsort(-course.max(axis=0), kind="stable")[:max_clones]
            largest = largest[course.max(axis=0)[largest] > 0]
            identity[a, r, : len(largest)] = clones.identity[largest]
            count[a, r, :, : len(largest)] = course[:, largest]
    axes = ("arm", "replicate", "clone")
    return {
        "clone_time": Variable(("clone_time",), days, "d", "day after the first dose"),
        "clone_id": Variable(axes, identity, "1", "lineage id of the clone"),
        "clone_count": Variable(
            ("arm", "replicate", "clone_time", "clone"), count, "cells", "living cells of the clone"
        ),
    }


def _sizes(num_clones: int, identities: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Cells of each clone; those not yet born have none."""
    return np.pad(cells.sum(axis=1), (0, num_clones - len(identities)))


def _lineage(runs, grown) -> dict[str, Variable]:
    rows = []
    for r, (clones, *_) in enumerate(grown):
        rows += [(-1, r, *row) for row in _events(clones, 0)]
        for a, row in enumerate(runs):
            rows += [(a, r, *event) for event in _events(row[r][0], len(clones.identity))]
    arm, replicate, identity, parent, birth, genotype, site = zip(*rows, strict=True)
    columns = {
        "arm_index": (np.array(arm, np.int32), "1", "arm, -1 before the arms fork"),
        "replicate_index": (np.array(replicate, np.int64), "1", "replicate"),
        "id": (np.array(identity, np.int64), "1", "id of the clone"),
        "parent": (np.array(parent, np.int64), "1", "id of the parent clone, -1 for a founder"),
        "birth_time": (np.array(birth, float), "d", "birth of the clone"),
        "genotype": (np.array(genotype, np.uint32), "1", "packed genotype"),
        "site_index": (np.array(site, np.int32), "1", "site of birth"),
        "is_preexisting": (np.array(birth) < 0, "1", "born before treatment"),
    }
    return {k: Variable(("clone_event",), *column) for k, column in columns.items()}


def _events(clones: _Clones, start: int):
    columns = (clones.identity, clones.parent, clones.birth, clones.genotype, clones.site)
    return list(zip(*(column[start:].tolist() for column in columns), strict=True))


def _snapshot(runs, times) -> dict[str, Variable]:
    """Up to 50 cells of every tumor on the last day."""
    rows = []
    for a, row in enumerate(runs):
        for r, (clones, *_) in enumerate(row):
            for clone, site in np.argwhere(clones.cells)[:50].tolist():
                rows.append((a, r, times[-1], clones.genotype[clone], site, clones.identity[clone]))
    columns = np.array(rows, float).reshape(-1, 6).T
    kinds = {
        "arm_index": "i4",
        "replicate_index": "i8",
        "day": "f8",
        "genotype": "u4",
        "site_index": "i4",
        "lineage": "i8",
    }
    return {
        name: Variable(
            ("cell",), column.astype(kind), "d" if name == "day" else "1", f"{name} of the cell"
        )
        for (name, kind), column in zip(kinds.items(), columns, strict=True)
    }


def make_expectation(patients: int = 1, **options) -> Trajectory:
    """What `meanfield` writes: means and standard deviations over many replicates, per patient."""
    made = [make_trajectory(seed=i + 1, replicates=6, **options)[""] for i in range(patients)]
    root = dict(made[0])
    for name in ("burden", "site_burden", "class_count", "other_classes_count"):
        dims, _, units, text = root[name]
        samples = [x[name].data[..., : root[name].data.shape[-1]] for x in made]
        means = [x.astype(float).mean(axis=2, keepdims=True) for x in samples]
        root[name] = Variable(dims, np.concatenate(means, axis=1), units, f"expected {text}")
        if name == "burden":
            spread = [x.astype(float).std(axis=2, keepdims=True) for x in samples]
            sd = np.concatenate(spread, axis=1)
            root["burden_sd"] = Variable(dims, sd, units, "standard deviation")
    drawn = ("status", "is_extinct", "end_day", "births", "deaths", "growth_day", "growth_burden")
    for name in (
        *drawn,
        "trigger_cells",
        "founder_attempts",
        "clone_id",
        "clone_count",
        "clone_time",
    ):
        root.pop(name, None)
    root["replicate"] = Variable(("replicate",), np.arange(1), "1", "index of the replicate")
    root["patient"] = Variable(("patient",), np.arange(patients), "1", "index of the patient")
    closure = np.array(["exact moments"] * len(root["arm"].data))
    root["closure"] = Variable(("arm",), closure, "", "what means and deviations are")
    return {"": root}


def make_relapse(patients: int = 1, risk: float = 0.3, **options) -> Trajectory:
    """What `extinction` writes: a probability that rises to about `risk`, of arms that differ."""
    root = dict(make_trajectory(replicates=1, **options)[""])
    days, num_arms = root["time"].data, len(root["arm"].data)
    scale = risk / (1 + np.arange(num_arms))[:, None] * (1 + 0.1 * np.arange(patients))
    probability = scale[..., None] * -np.expm1(-days / 20)
    classes, sites = len(root["class"].data), len(root["site"].data)
    share = 10.0 ** -np.arange(1, classes * sites + 1).reshape(classes, sites)
    kept = {"arm", "site", "drug", "alteration", "time", "class", "class_label", "class_genotype"}
    kept |= {"concentration_time", "concentration", "blood_concentration", "dose", "max_level"}
    root = {name: variable for name, variable in root.items() if name in kept}
    law = ("arm", "patient")
    root |= {
        "patient": Variable(("patient",), np.arange(patients), "1", "index of the patient"),
        "relapse_probability": Variable((*law, "time"), probability, "1", "probability of relapse"),
        "no_relapse_log": Variable((*law, "time"), np.log1p(-probability), "1", "its logarithm"),
        "class_relapse_probability": Variable(
            (*law, "class", "site"), scale[..., None, None] * share, "1", "from one cell"
        ),
        "mean_relapse_free_days": Variable(law, days[-1] * (1 - scale / 2), "d", "mean"),
        "closure": Variable(("arm",), np.array(["exact"] * num_arms), "", "whose rates"),
    }
    return {"": root}
