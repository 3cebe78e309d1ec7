"""Random models of the stations: alterations of every inheritance, one target per drug, sites."""

import itertools

import numpy as np

from jaxevo.model import Model
from tests.agreement_shapes import Setting, Shape, Tables
from tests.builders import build


def draw_stations(shape: Shape, setting: Setting, rng: np.random.Generator) -> tuple[Model, Tables]:
    """A model of alterations and drugs, one target per drug, and its tables."""
    drugs, sites = shape.drugs, shape.sites
    targets = tuple(f"T{d}" for d in drugs)

    def per_target(low: float, high: float) -> dict[str, float]:
        return dict(zip(targets, rng.uniform(low, high, len(drugs)), strict=True))

    p = {
        "birth_rate": rng.uniform(0.4, 1.3),
        "death_rate": rng.uniform(0.05, 0.6),
        "max_death_rate": per_target(0.0, 0.9),
        "death_half_odds": per_target(0.3, 3.0),
        "death_hill": per_target(0.8, 2.5),
        "is_cycle_specific": {t: float(rng.random() < 0.3) for t in targets},
        "max_inhibition": per_target(0.0, 0.9),
        "birth_half_odds": per_target(0.3, 3.0),
        "birth_hill": per_target(0.8, 2.5),
        "kd": {t: {d: rng.uniform(0.2, 2)} for t, d in zip(targets, drugs, strict=True)},
        "delivered_fraction": {s: {d: rng.uniform(0.1, 1) for d in drugs} for s in sites},
        "genetic_instability": rng.uniform(0.5, 1.5),
        "alpha": rng.uniform(0.05, 0.5),
        "beta": rng.uniform(0.0, 0.1),
    }
    if len(sites) == 2:
        a, b = sites
        p["migration_rate"] = {a: {b: rng.uniform(0.05, 0.6)}, b: {a: rng.uniform(0.05, 0.6)}}
    alterations = {}
    for name, inheritance, top in shape.alterations:
        table = {
            "inheritance": inheritance,
            "max_level": top,
            "birth_cost": rng.uniform(0, 0.4),
            "division_factor": rng.uniform(0.5, 1),
            "natural_death_factor": rng.uniform(0.5, 1.5),
            "repair_factor": rng.uniform(1, 3),
            "mutation_factor": rng.uniform(0.5, 1.5),
            "kd_fold": {d: rng.choice([1.0, 10.0]) for d in drugs},
            "radiation_factor": rng.uniform(0.3, 1),
        }
        small = lambda: float(10 ** rng.uniform(-2.5, -0.8))  # noqa: E731
        if inheritance in ("mutation", "amplification"):
            table |= {"gain_probability": small()}
            is_copies = inheritance == "amplification"
            first = small() if is_copies else table["gain_probability"]
            table["first_gain_probability"] = 0.0 if is_copies and shape.start else first
            table["loss_probability"] = small() if is_copies else 0.0
        elif inheritance == "epigenetic":
            table |= {"on_rate": 3 * small(), "off_rate": 3 * small()}
            table |= {"induced_on_rate": {d: rng.uniform(0, 0.5) for d in drugs}}
            table |= {"induced_off_rate": {d: rng.uniform(0, 0.5) for d in drugs}}
            table |= {"induction_ec50": {d: rng.uniform(0.2, 2) for d in drugs}}
        else:
            table |= {"asymmetric_probability": rng.uniform(0, 0.5)}
            table |= {"symmetric_probability": rng.uniform(0, 0.4)}
        alterations[name] = table
    model = build(
        sites=sites, drugs=drugs, targets=targets, alterations=alterations,
        mutating_daughters="both" if shape.is_both else "one", **p,
    )  # fmt: skip
    return model, _station_tables(shape, setting, p, alterations)


def _hill(odds: np.ndarray, half: float, hill: float) -> np.ndarray:
    """Effect of lost output; lost over kept output of a target is the odds that it is occupied."""
    return odds**hill / (odds**hill + half**hill)


def _station_tables(shape: Shape, setting: Setting, p: dict, alterations: dict) -> Tables:
    """MODEL.md by hand: occupancy, Hill laws, factors to the power of the level."""
    levels, sites, drugs = shape.levels, shape.sites, shape.drugs
    n = np.array(levels, float)
    of = lambda key: np.array([alterations[a][key] for a, _, _ in shape.alterations])  # noqa: E731
    power = lambda key: np.prod(of(key) ** n, axis=1)  # noqa: E731
    fitness = np.prod((1 - of("birth_cost")) ** n, axis=1)
    quiescence = power("division_factor")
    num_segments, num_classes, num_sites = len(setting.level), len(levels), len(sites)
    birth = np.full((num_segments, num_classes, num_sites), p["birth_rate"])
    birth = birth * (fitness * quiescence)[:, None]
    death = np.full(birth.shape, p["death_rate"]) * power("natural_death_factor")[:, None]
    reach = np.array([[p["delivered_fraction"][s][d] for d in drugs] for s in sites])
    outside = setting.level[:, None, :] * reach  # [segment, site, drug] uM
    for i, d in enumerate(drugs):
        t = f"T{d}"
        fold = np.prod([alterations[a]["kd_fold"][d] ** n[:, j] for j, (a, _, _) in
                        enumerate(shape.alterations)], axis=0)  # fmt: skip
        odds = outside[:, None, :, i] / (p["kd"][t][d] * fold[:, None])
        on_birth, on_death = (
            _hill(odds, p[f"{kind}_half_odds"][t], p[f"{kind}_hill"][t])
            for kind in ("birth", "death")
        )
        birth = birth * (1 - p["max_inhibition"][t] * on_birth)
        dividing = quiescence[:, None] if p["is_cycle_specific"][t] else 1.0
        death = death + p["max_death_rate"][t] * dividing * on_death
    empty = np.zeros((num_segments, num_sites, num_classes, num_classes))
    mutation, asymmetric, symmetric, switching = (empty.copy() for _ in range(4))
    instability = p["genetic_instability"] * power("mutation_factor")
    for g, to in itertools.permutations(range(num_classes), 2):
        change = np.subtract(levels[to], levels[g])
        (moved,) = np.nonzero(change)
        if len(moved) != 1 or abs(change[moved[0]]) != 1:
            continue
        j = int(moved[0])
        name, inheritance, _ = shape.alterations[j]
        table, is_gain = alterations[name], change[j] > 0
        if inheritance in ("mutation", "amplification"):
            gain = table["gain_probability" if levels[g][j] else "first_gain_probability"]
            chance = gain if is_gain else table["loss_probability"]
            mutation[:, :, g, to] = instability[g] * chance
        elif inheritance == "epigenetic":
            way = "on" if is_gain else "off"
            rate = table[f"{way}_rate"] + sum(
                table[f"induced_{way}_rate"][d]
                * outside[:, :, i] / (outside[:, :, i] + table["induction_ec50"][d])
                for i, d in enumerate(drugs)
            )  # fmt: skip
            switching[:, :, g, to] = rate
        elif is_gain:
            asymmetric[:, :, g, to] = table["asymmetric_probability"]
            symmetric[:, :, g, to] = table["symmetric_probability"]
    moving = np.zeros((num_classes, num_sites, num_sites))
    for start, end in itertools.permutations(range(num_sites), 2):
        moving[:, start, end] = p["migration_rate"][sites[start]][sites[end]]
    gray = max((jump.gray for jump in setting.jumps), default=0.0)
    dose = p["alpha"] * gray + p["beta"] * gray**2
    survival = np.exp(-dose * power("radiation_factor") / power("repair_factor"))
    return Tables(birth, death, mutation, asymmetric, symmetric, switching, moving, survival)
