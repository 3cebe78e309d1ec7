"""Marrow: neutrophils of patients whose doses are known in advance, whatever their tumors do."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxevo import host
from jaxevo.drug.schedule import merge_times
from jaxevo.engines.base import Problem
from jaxevo.engines.grid import Marks, arm_course, arm_inputs, multiples
from jaxevo.model import cast

_course = eqx.filter_jit(host.course)


class Marrow(NamedTuple):
    """Neutrophils of some patients, 1e9/L, and days by CTCAE grade until the horizon."""

    neutrophils: Float[np.ndarray, "patient mark"]
    lowest: Float[np.ndarray, " patient"]
    grade_days: Float[np.ndarray, "patient grade"]


def in_advance(problem: Problem, arm_index: int, patients: range, when: Marks) -> Marrow:
    """The marrow under an arm that does not decide; call under x64."""
    sync_days = merge_times(multiples(problem.sync, problem.horizon), when.day)
    arm, found, courses = problem.arms[arm_index], [], {}
    for patient in patients:
        model = problem.models[patient]
        params, pumps = cast(
            (problem.hosts[patient % len(problem.hosts)], model.cellular.transport), jnp.float64
        )
        parts = (model.plasma, model.cellular.transport, model.molar_mass, model.bioavailability,
                 model.body_surface)  # fmt: skip
        key = tuple(np.asarray(x).tobytes() for x in jax.tree.leaves(parts))
        if key not in courses:  # patients who are given the same and keep it as long share a course
            given = arm_inputs(model, arm, sync_days)
            courses[key] = given.edges, jnp.asarray(arm_course(model, given).blood)
        edges, blood = courses[key]
        lengths = np.diff(edges)
        longest = max(host.LONGEST, float(np.ceil(lengths.max())))
        course = _course(params, pumps, blood, jnp.asarray(lengths), longest)
        at = np.searchsorted(edges, when.day - 1e-9)
        found.append(
            (
                np.asarray(course.circulating)[at],
                np.asarray(course.lowest)[-1],
                np.asarray(course.grade_days)[-1],
            )
        )
    return Marrow(*(np.stack(column) for column in zip(*found, strict=True)))
