"""Agents: what a screen asks of the rest of a study, and the levels that it tries by default.

The default levels of an agent are eight, at equal ratios over three decades around its half effect:
the smallest dissociation constant times half odds over the effects of its targets; of a drug without an
effect, the smallest constant by which it inhibits a pump, induces a switch, blocks the checkpoint of
effector cells or removes suppressors.
"""

import itertools
import math

from jaxevo.config.checks import drug_targets, initial_cells
from jaxevo.config.draft import Draft
from jaxevo.config.growth import largest_growing_burden
from jaxevo.config.screen import Agent, Lines, Screen
from jaxevo.config.sentences import expected, fault, known_keys, missing

NUM_LEVELS = 8  # of an agent, by default
DECADES = 3.0  # that they span
MOST_COMBINATIONS = 20_000
MOST_DRAWN = 10_000_000  # cells of all lines together
USUAL_ORDER = 2


def half_effect(study: Draft, name: str) -> float | None:
    """The concentration around which a drug begins to tell, uM; None where nothing says it."""
    drug = study.drugs[name]
    effects = []
    for target, kd in drug_targets(study, name).items():
        table = study.targets.get(target) or (drug.effect if target == name else None)
        if table is not None and table.max_death_per_day > 0:
            effects.append(kd * table.death_half_odds)
        if table is not None and table.max_birth_inhibition > 0:
            effects.append(kd * table.birth_half_odds)
    modulated = [pump.inhibited_by_ki_um.get(name, 0.0) for pump in study.pumps.values()]
    induced = [getattr(row, "induction_ec50_um", {}) for row in study.alterations.values()]
    modulated += [constants.get(name, 0.0) for constants in induced]
    if study.immune is not None:
        suppressors = study.immune.suppressors
        removed = {} if suppressors is None else suppressors.removal_ec50_um
        modulated += [study.immune.checkpoint_ec50_um.get(name, 0.0), removed.get(name, 0.0)]
    found = [x for x in effects if x > 0] or [x for x in modulated if x > 0]
    return min(found, default=None)


def levels_around(half: float) -> list[float]:
    """The default levels, uM, to three digits."""
    ratios = [DECADES * (i / (NUM_LEVELS - 1) - 0.5) for i in range(NUM_LEVELS)]
    return [float(f"{half * 10**ratio:.3g}") for ratio in ratios]


def check_screen(study: Draft) -> None:
    """Agents are drugs with levels, and lines are taken from a tumor that has so many cells."""
    screen = study.screen
    if screen is None:
        return
    if not study.drugs:
        raise fault("has nothing to try; expected a [drugs.X] table", ("screen",))
    if screen.agents is not None and not screen.agents:
        raise expected(
            "a table [screen.agents.X] for each agent", screen.agents, ("screen", "agents")
        )
    known_keys("drug", screen.agents or {}, study.drugs, ("screen", "agents"))
    agents = _agents(study, screen)
    for name, agent in agents.items():
        _check_levels(study, name, agent)
    if screen.order is not None and screen.order > len(agents):
        raise expected(
            f"at most the number of agents ({len(agents)})", screen.order, ("screen", "order")
        )
    number = _num_combinations(study, screen)
    if number > MOST_COMBINATIONS:
        raise fault(
            f"makes {number:,} combinations; expected at most {MOST_COMBINATIONS:,}: fewer levels, "
            "agents, or a lower order",
            ("screen", "order") if screen.order is not None else ("screen", "agents"),
        )
    if screen.lines is not None:
        _check_lines(study, screen.lines)


def _agents(study: Draft, screen: Screen) -> dict[str, Agent]:
    return dict.fromkeys(study.drugs, Agent()) if screen.agents is None else screen.agents


def _order(study: Draft, screen: Screen) -> int:
    return screen.order or min(USUAL_ORDER, len(_agents(study, screen)))


def _num_combinations(study: Draft, screen: Screen) -> int:
    numbers = [len(a.level_um or [0.0] * NUM_LEVELS) for a in _agents(study, screen).values()]
    orders = range(_order(study, screen) + 1)
    return sum(math.prod(x) for k in orders for x in itertools.combinations(numbers, k))


def _check_levels(study: Draft, name: str, agent: Agent) -> None:
    at = ("screen", "agents", name, "level_um")
    if agent.level_um is None:
        if half_effect(study, name) is None:
            raise missing(
                "an array of levels in uM, since no half effect of this drug stands in the study",
                at,
            )
        return
    if not agent.level_um:
        raise expected("at least one level in uM", agent.level_um, at)
    for i, (level, after) in enumerate(itertools.pairwise(agent.level_um)):
        if after <= level:
            raise fault(
                f"expected levels in rising order, got {after:g} after {level:g}", (*at, i + 1)
            )


def _check_lines(study: Draft, lines: Lines) -> None:
    at = ("screen", "lines")
    initial, grown = initial_cells(study), lines.grown_to_cells
    if grown <= initial:
        raise expected(
            f"more cells than the tumor starts from ({initial})", grown, (*at, "grown_to_cells")
        )
    largest = largest_growing_burden(study)
    if grown >= largest:
        raise fault(
            f"is more than growth reaches: expected fewer than {largest:.6g} cells, from where on "
            f"deaths outnumber births, got {grown}",
            (*at, "grown_to_cells"),
        )
    taken, most = lines.count * lines.cells, min(grown // 2, MOST_DRAWN)
    if taken > most:
        raise fault(
            f"makes {taken} cells of {lines.count} lines; expected at most {most} in all, half of the "
            f"tumor and {MOST_DRAWN:,}",
            (*at, "cells"),
        )


def resolve_screen(study: Draft) -> None:
    """Every agent has its levels, and the screen its order."""
    screen = study.screen
    if screen is None:
        return
    order = _order(study, screen)
    screen.agents = {
        name: agent.model_copy(
            update={"level_um": agent.level_um or levels_around(half_effect(study, name) or 1.0)}
        )
        for name, agent in _agents(study, screen).items()
    }
    screen.order = order
