"""Marrow: what arms without decisions give, and what it does to the patients' neutrophils.

Drugs and marrow do not depend on the tumor, so they are followed once for each patient, by the program
of the arms that decide (`visits`).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxevo.engines import visits
from jaxevo.engines.base import Problem
from jaxevo.engines.grid import Marks
from jaxevo.engines.network import Network
from jaxevo.engines.regimen import plan_of
from jaxevo.engines.watched import Watched

WIDTH = 64  # patients are filled up to a multiple of this, so that bits do not depend on how many


def in_advance(problem: Problem, arm: int, when: Marks, patients: range, net: Network) -> Watched:
    """Amounts given and neutrophils of one arm, [patient, ...]; call under x64."""
    num = len(patients)
    found = Watched.empty(problem, num, when)
    surface = np.array([problem.models[p].body_surface for p in patients], float)
    found.write_in_advance(slice(0, num), problem.arms[arm], when, problem.horizon, surface)
    if not problem.hosts or len(when.day) < 2:
        return found
    plan = plan_of(problem, arm, when, patients, net, in_steps=True)
    tables, people = jax.tree.map(jnp.asarray, (plan.tables, plan.people))
    width = -(-num // WIDTH) * WIDTH
    place = np.minimum(np.arange(width), num - 1)
    care = visits.begin(problem.arms[arm], plan, width, place)
    nothing = jnp.zeros(width, jnp.uint32)
    who = (jnp.asarray(place, jnp.int32), (nothing, nothing))
    nobody = jnp.zeros((net.num_types, width))
    for window in range(plan.num_windows):
        care, _, row = visits.visit(
            plan.rules, tables, people, care, nobody, who, jnp.int32(window)
        )
        found.write(slice(0, num), plan, window, care, row)
    return found
