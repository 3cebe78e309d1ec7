"""Scale: on which scale the model itself combines two agents, told from the model.

Hazards of different targets add (`drug.apoptosis`), and V = exp(-h days), so that death by different
targets is Bliss on both scales. Shares of births multiply (`cell.birth`): b (1 - e_1)(1 - e_2) is lower
than b by less than the two hazards together. Drugs on one target combine as the study says
(`drug.signaling`). All of this is of cells that are alike: a mean over cells that differ, or that crowd
each other, is of neither form.
"""

import itertools

import numpy as np

from jaxevo.model import Model
from jaxevo.screen.design import Agent, ScreenPlan

CELLS = (
    "Bliss excess is 0 on both scales or on none, since viability = exp(-hazard x days). Where cells of a "
    "line differ in what they answer to, or crowd each other, an excess need not be one inside a cell."
)


def scales(model: Model, plan: ScreenPlan) -> dict[str, str]:
    """For every pair of agents, by name, what the model does with them."""
    pairs = itertools.combinations(plan.agents, 2)
    return {f"{one.name} + {two.name}": _pair(model, one, two) for one, two in pairs}


def _pair(model: Model, one: Agent, two: Agent) -> str:
    targets, both_on_births = _acts(model)
    acts = [targets[:, agent.drug] for agent in (one, two)]
    names = model.names
    pumps = _pumps(model)
    shared_pumps = [names.pumps[p] for p in np.flatnonzero(pumps[:, one.drug] & pumps[:, two.drug])]
    idle = [agent.name for agent, own in zip((one, two), acts, strict=True) if not own.any()]
    if shared_pumps:
        return f"not independent: both meet the pump {', '.join(shared_pumps)}, one may keep the other in"
    if len(idle) == 2:
        return "no effect of their own on any target"
    if idle:
        return (
            f"{idle[0]} has no effect through a target of its own; it may change that of the other"
        )
    shared = [names.targets[t] for t in np.flatnonzero(acts[0] & acts[1])]
    if shared:
        law = model.cellular.signaling.combination
        return f"one target, {', '.join(shared)}: combined there as study.combination says ({law})"
    if all((own & both_on_births).any() for own in acts):
        return (
            "both lower births: shares of births multiply, so that hazards add to less than Bliss"
        )
    return "independent targets: hazards add, which is Bliss on hazard and on viability"


def _acts(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Which drug acts through which target, and which targets act on births."""
    births = np.asarray(model.birth.max_inhibition) > 0
    deaths = np.asarray(model.cellular.apoptosis.max_death_rate) > 0
    bound = np.isfinite(np.asarray(model.cellular.target.kd))
    return bound & (births | deaths)[:, None], births


def _pumps(model: Model) -> np.ndarray:
    """Which drug is carried by which pump, or inhibits it, [pump, drug]."""
    transport = model.cellular.transport
    return (np.asarray(transport.vmax) > 0) | np.isfinite(np.asarray(transport.inhibition_ki))
