"""Growth: can a tumor without drugs get as large as the study wants?

At a site with N cells a birth rate b g (g: growth support) and a death rate d, crowded by the room K,

    logistic   N' = r N - a N^2 summed over sites,   r = b g - d,   a = b g / K
    gompertz   N' = 0 at N = K^(1 - d/(b g))

Over several sites sum_s (r_s N_s - a_s N_s^2) > 0 is the inside of an ellipsoid, whose largest sum of
N_s is (sum r/a + sqrt(sum 1/a * sum r^2/a)) / 2: no tumor with more cells than that grows, however
its cells are spread. With one site it is K (1 - d/(b g)). Alterations never raise the birth rate; where
they lower the natural death rate, the lowest counts.
"""

import math

from jaxevo.config.alterations import Quiescence
from jaxevo.config.draft import Draft
from jaxevo.config.sentences import fault


def crowding(study: Draft) -> str:
    """The crowding that applies: logistic by default where a capacity is given."""
    if study.tumor.crowding is not None:
        return study.tumor.crowding
    return "logistic" if any(math.isfinite(k) for k in capacities(study)) else "none"


def capacities(study: Draft) -> list[float]:
    """Room at each site, cells."""
    if study.sites:
        return [site.capacity_cells for site in study.sites.values()]
    own = study.tumor.capacity_cells
    return [math.inf if own is None else own]


def lowest_death_rate(study: Draft) -> float:
    """Natural death rate of the genotype that dies least, 1/day."""
    rate = study.tumor.death_rate_per_day
    for alteration in study.alterations.values():
        if isinstance(alteration, Quiescence):
            rate *= min(1.0, alteration.natural_death_factor) ** alteration.max_level
    return rate


def largest_growing_burden(study: Draft) -> float:
    """No tumor with this many cells or more grows; infinite where the law sets no such bound."""
    death = lowest_death_rate(study)
    support = [site.growth_factor for site in study.sites.values()] or [1.0]
    births = [study.tumor.birth_rate_per_day * factor for factor in support]
    growing = [(b, k) for b, k in zip(births, capacities(study), strict=True) if b > death]
    law = crowding(study)
    if not growing:
        return 0.0
    if law == "none" or any(math.isinf(k) for _, k in growing):
        return math.inf
    if law == "gompertz":
        return growing[0][1] ** (1 - death / growing[0][0]) if len(births) == 1 else math.inf
    rates = [b - death for b, _ in growing]
    rooms = [k / b for b, k in growing]  # 1/a
    linear = sum(r * room for r, room in zip(rates, rooms, strict=True))
    square = sum(r * r * room for r, room in zip(rates, rooms, strict=True))
    return (linear + math.sqrt(sum(rooms) * square)) / 2


def check_growth(study: Draft) -> None:
    """Crowding has a capacity to work with, and growth reaches `treat_at_cells`."""
    has_capacity = any(math.isfinite(k) for k in capacities(study))
    if study.tumor.crowding not in (None, "none") and not has_capacity:
        raise fault("needs a capacity_cells, and none is given", ("tumor", "crowding"))
    if crowding(study) == "gompertz" and min(capacities(study)) < 2:
        raise fault('is "gompertz", which needs capacity_cells >= 2', ("tumor", "crowding"))
    treat = study.tumor.treat_at_cells
    if treat is None:
        return
    largest = largest_growing_burden(study)
    if largest == 0:
        raise fault(
            f"can never be reached: expected birth_rate_per_day > {lowest_death_rate(study):g}, the "
            f"death rate, got {study.tumor.birth_rate_per_day:g}",
            ("tumor", "treat_at_cells"),
        )
    if treat >= largest:
        raise fault(
            f"can never be reached: expected fewer cells than growth levels off at ({largest:.6g}), "
            f"got {treat}",
            ("tumor", "treat_at_cells"),
        )
