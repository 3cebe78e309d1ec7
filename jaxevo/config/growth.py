"""Growth: can a tumor without drugs get as large as the study wants?

At a site with N cells and room for K, with birth rate b g (g: growth support) and death rate d,

    logistic   births = b g N (1 - N/K),          most at N = K/2:  b g K / 4
    gompertz   births = b g N (1 - ln N / ln K),  most at N = K/e:  b g K / (e ln K)

One site levels off at N = K (1 - d/(b g)), or N = K^(1 - d/(b g)). Over several sites, between which
cells may move as they like, deaths d N outnumber all births where N > sum_s most births / d. Alterations
never raise the birth rate; where they lower the natural death rate, the lowest counts. Immigration of I
cells per day keeps I/(d - b g) cells alive where deaths outnumber births, and is without bound here
where they do not.
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


def growth_factors(study: Draft) -> list[float]:
    """Growth support at each site, times the birth rate."""
    return [site.growth_factor for site in study.sites.values()] or [1.0]


def lowest_death_rate(study: Draft) -> float:
    """Natural death rate of the genotype that dies least, 1/day."""
    rate = study.tumor.death_rate_per_day
    for alteration in study.alterations.values():
        if isinstance(alteration, Quiescence):
            rate *= min(1.0, alteration.natural_death_factor) ** alteration.max_level
    return rate


def largest_growing_burden(study: Draft) -> float:
    """No tumor with this many cells or more grows; infinite where the law sets no such bound."""
    death, law = lowest_death_rate(study), crowding(study)
    births = [study.tumor.birth_rate_per_day * factor for factor in growth_factors(study)]
    rooms = capacities(study)
    immigrants = sum(row.events_per_day * row.cells for row in study.tumor.immigration)
    if max(births) <= death and not immigrants:
        return 0.0
    if immigrants:
        return immigrants / (death - max(births)) if max(births) < death else math.inf
    if death == 0 and len(rooms) > 1:
        return math.inf
    if law == "none" or any(b > 0 and math.isinf(k) for b, k in zip(births, rooms, strict=True)):
        return math.inf
    if len(rooms) == 1:
        share = 1 - death / births[0]
        return rooms[0] * share if law == "logistic" else rooms[0] ** share
    most = [_most_births(b, k, law) for b, k in zip(births, rooms, strict=True) if b > 0]
    return sum(most) / death


def _most_births(birth_rate: float, room: float, law: str) -> float:
    """Births per day at the number of cells where they are most."""
    if law == "logistic":
        return birth_rate * room / 4
    return birth_rate * max(1.0, room / (math.e * math.log(room)))


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
    births = study.tumor.birth_rate_per_day * max(growth_factors(study))
    if births <= lowest_death_rate(study) and treat >= largest:
        raise fault(
            "is more than growth reaches: expected a birth rate above the death rate "
            f"({lowest_death_rate(study):g} per day), got {births:g}",
            ("tumor", "treat_at_cells"),
        )
    if treat >= largest:
        raise fault(
            f"is more than growth reaches: expected fewer than {largest:.6g} cells, from where on "
            f"deaths outnumber births, got {treat}",
            ("tumor", "treat_at_cells"),
        )
