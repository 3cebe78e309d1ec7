"""Chronic myeloid leukemia in four steps, with resistant stem cells, under imatinib.

    Y0' = (ry (1 - u) - d0) Y0,   Z0' = (rz - d0) Z0 + ry u Y0
    Y1' = ay Y0 - d1 Y1,  Y2' = by Y1 - d2 Y2,  Y3' = cy Y2 - d3 Y3;  the same for Z

Michor et al. 2005, 10.1038/nature03669; per day. A stem cell divides at ry to renew itself and at ay
to make a cell of the next step, which leaves it as it is; imatinib lowers ay and by in sensitive cells.
"""

import jax.numpy as jnp
import numpy as np

from jaxevo import Rates
from jaxevo.custom import custom_model
from jaxevo.drug.schedule import Level
from jaxevo.engines.base import Arm, Founder, Problem
from jaxevo.model import Model

PUBLISHED = {
    "death": np.array([0.003, 0.008, 0.05, 1.0]),  # [step]
    "production": np.array([1.6, 10.0, 100.0, 0.0]),  # [step] of cells of the next step
    "production_on_drug": np.array([0.016, 10 / 750, 100.0, 0.0]),  # the same, sensitive, on drug
    "renewal": 0.008,  # of sensitive stem cells
    "resistant_renewal": 0.023,
    "mutation": 4e-8,
}
NORMAL = 2e12  # terminally differentiated normal cells
START = (2.5e5, 5e7, 1e10, 1e12)  # Y0 .. Y3


def rates(p, levels, environment) -> Rates:
    """Levels: step 0..3, resistance 0..1."""
    step, is_resistant = levels[0].astype(int), levels[1] > 0
    is_hit = ~is_resistant & (environment.concentration[0] > 0)
    produced = jnp.where(is_hit, p["production_on_drug"][step], p["production"][step])
    renewed = jnp.where(is_resistant, p["resistant_renewal"], p["renewal"])
    renewed = jnp.where(step == 0, renewed, 0.0)
    total = jnp.maximum(produced + renewed, 1e-300)
    return Rates(
        birth_rate=produced + renewed,
        death_rate=p["death"][step],
        asymmetric_probability=(produced / total)[None],
        mutation_probability=(p["mutation"] * renewed / total)[None],
    )


def model(**params) -> Model:
    """The law, with the published numbers unless others are named."""
    return custom_model(
        {"step": 3, "resistance": 1}, rates, PUBLISHED | params,
        mutations=[("resistance", 1)], differentiations=[("step", 1)], drugs=("imatinib",),
    )  # fmt: skip


def problem(
    horizon: float = 365.0,
    start: tuple[float, ...] = START,
    on: tuple[tuple[float, float], ...] | None = None,
    params: dict | None = None,
    **options,
) -> Problem:
    """On imatinib in the intervals `on`, default always; one arm."""
    on = ((0.0, horizon),) if on is None else on
    arm = Arm("imatinib", (), tuple(Level(0, begin, end, 1.0) for begin, end in on))
    founders = tuple(Founder(round(n), step, 0) for step, n in enumerate(start))
    settings = {"seed": 1, "replicates": 1, "sync": 5.0, "max_cells": 2**31 - 1} | options
    return Problem(model(**(params or {})), founders, (arm,), horizon=horizon, **settings)


def ratio(count, normal: float = NORMAL):
    """BCR-ABL to all, from counts [..., 8]: (Y3 + Z3)/(Y3 + Z3 + normal)."""
    leukemic = count[..., 3] + count[..., 7]
    return leukemic / (leukemic + normal)
