"""Safety: how much of every drug the patient's neutrophils allow until the next visit.

    decide(params, state, seen) -> (state, factor),      factor [drug], times every dose

Grades are those of CTCAE 5.0 for a decreased neutrophil count N, in 1e9/L:

    grade 1: 1.5 <= N < 2.0    2: 1.0 <= N < 1.5    3: 0.5 <= N < 1.0    4: N < 0.5

(2.0 for the lower limit of normal.) So a grade is at least g where N is below `GRADE_BELOW[g]`.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxevo.engines.base import Rule
from jaxevo.host import GRADE_LIMITS
from jaxevo.state import Array, Scalar
from jaxevo.treatment.policies import Seen, check, number

GRADE_BELOW = (np.inf, *GRADE_LIMITS)  # 1e9/L


class HoldParams(NamedTuple):
    """When a drug is held, and what follows."""

    hold_below: Scalar  # 1e9/L
    resume_from: Scalar  # 1e9/L
    support_below: Scalar  # 1e9/L
    kept: Scalar  # of the dose, after each hold
    is_held: Bool[Array, " drug"]
    is_supportive: Bool[Array, " drug"]


class HoldState(NamedTuple):
    """What has happened so far."""

    is_holding: Bool[Array, ""]
    is_supported: Bool[Array, ""]
    holds: Int[Array, ""]


def hold_and_reduce(
    *,
    drugs: tuple[str, ...],
    held: tuple[str, ...] | None = None,
    supportive: tuple[str, ...] = (),
    hold_grade: int = 4,
    resume_grade: int = 1,
    reduction: float = 0.25,
    support_grade: int = 4,
) -> Rule:
    """Hold at grade 4, go on at grade 1 or better with 25 % less, as the label of docetaxel asks.

    At every visit, in this order:

    1. while a hold lasts and the grade is at most `resume_grade`, it ends;
    2. while none lasts and the grade is at least `hold_grade`, one begins, and is counted;
    3. from the first grade of at least `support_grade` on, supportive drugs are given.

    The factor of a held drug is 0 during a hold and (1 - `reduction`)^holds otherwise; of a supportive
    drug (G-CSF) 0 until it is called for, then 1; of all others 1. Doses that fall into a hold are left
    out, so that treatment is delayed visit by visit.

    Docetaxel: not below 1.5e9/L; from 100 to 75 mg/m2 after neutrophils under 0.5e9/L (for more than a
    week, which is not asked here): Taxotere, US prescribing information, section 2. G-CSF after such an
    event: Smith et al. 2015, doi:10.1200/JCO.2015.62.3488.

    Args:
        drugs: names in the study.
        held: those to be held; by default all but the supportive ones.
        supportive: those that wait until they are needed.
        hold_grade, resume_grade, support_grade: CTCAE grades, 0 to 4.
        reduction: share of the dose that is taken away after each hold, 0 to 1.
    """
    held = tuple(name for name in drugs if name not in supportive) if held is None else held
    for key, names in (("held", held), ("supportive", supportive)):
        for name in names:
            check(
                name in drugs,
                f"{key} names {name!r}; the drugs of the study are {', '.join(drugs)}",
            )
    for name in supportive:
        check(
            name not in held, f"supportive names {name!r}, which is held too; it can be one of them"
        )
    check(1 <= hold_grade <= 4, f"hold_grade is {hold_grade}; it must be from 1 to 4")
    check(1 <= support_grade <= 4, f"support_grade is {support_grade}; it must be from 1 to 4")
    check(
        0 <= resume_grade < hold_grade,
        f"resume_grade is {resume_grade}; it must be from 0 to below hold_grade ({hold_grade})",
    )
    check(0 <= reduction <= 1, f"reduction is {reduction}; it must be from 0 to 1")
    params = HoldParams(
        hold_below=number(GRADE_BELOW[hold_grade]),
        resume_from=number(GRADE_BELOW[resume_grade + 1]),
        support_below=number(GRADE_BELOW[support_grade]),
        kept=number(1 - reduction),
        is_held=np.array([name in held for name in drugs], bool),
        is_supportive=np.array([name in supportive for name in drugs], bool),
    )
    start = HoldState(np.asarray(False), np.asarray(False), np.asarray(0, np.int32))
    return Rule("hold_and_reduce", _hold_and_reduce, start, params)


def _hold_and_reduce(
    params: HoldParams, state: HoldState, seen: Seen
) -> tuple[HoldState, Float[Array, " drug"]]:
    count = seen.neutrophils
    still = state.is_holding & (count < params.resume_from)
    begins = ~still & (count < params.hold_below)
    holds = jnp.where(begins, state.holds + 1, state.holds)
    after = HoldState(still | begins, state.is_supported | (count < params.support_below), holds)

    dose = jnp.where(after.is_holding, 0.0, params.kept ** holds.astype(params.kept.dtype))
    called = jnp.where(after.is_supported, 1.0, 0.0).astype(dose.dtype)
    factor = jnp.where(params.is_held, dose, jnp.where(params.is_supportive, called, 1.0))
    return after, factor.astype(seen.factor.dtype)
