"""What engines write down suffices to trace resistance to where it came from."""

import numpy as np
import pytest

from jaxevo import outcomes
from jaxevo.drug.schedule import Level
from jaxevo.engines import cells, clones
from jaxevo.engines.base import Arm, Founder, Problem, Record
from jaxevo.outcomes import ACQUIRED, INTRINSIC, NO_CLONE
from tests import builders


def grown_tumors(**options) -> Problem:
    """300 cells, then two arms for four days; mutants are common."""
    model = builders.build(
        sites=("s",),
        drugs=("x",),
        targets=("T",),
        alterations={
            "mutant": {"inheritance": "mutation", "first_gain_probability": 0.01, "kd_fold": 50.0}
        },
        kd={"T": {"x": 1.0}},
        birth_rate=0.8,
        death_rate=0.2,
        max_death_rate=0.9,
    )
    return Problem(
        model=model,
        founders=(Founder(1, 0, 0),),
        arms=(Arm("none", ()), Arm("drug", (), (Level(0, 0.0, 4.0, 3.0),))),
        seed=2,
        replicates=8,
        horizon=4.0,
        sync=0.5,
        treat_at_cells=300,
        record=Record(every=1.0, clones_every=2.0),
        **({"max_cells": 1, "patients": (model, model)} | options),
    )


def table(trajectory, name: str) -> dict[str, np.ndarray]:
    return {key: variable.data for key, variable in trajectory[name].items()}


@pytest.mark.slow
def test_what_the_clones_engine_writes_can_be_traced():
    """At the end the state and the recorded clones tell the same; both origins are there."""
    found = clones.simulate(grown_tumors())
    root = table(found, "")
    at_end = outcomes.origin_at_end(table(found, "state"), root["status"].shape, root["max_level"])
    at_day = outcomes.origin_at(np.full((2, 2, 8), 4.0), root, table(found, "lineage"))
    np.testing.assert_array_equal(at_end, at_day)
    assert {INTRINSIC, ACQUIRED} <= set(at_end.ravel().tolist())
    counts = (root["class_count"], root["class_genotype"], root["time"], np.full((2, 2, 8), 4.0))
    assert np.nanmax(outcomes.carried(*counts).share) > 0


@pytest.mark.slow
def test_what_the_cells_engine_writes_can_be_traced():
    """A clone of its own for every mutation; the largest mutant's row in the lineage decides."""
    found = cells.simulate(grown_tumors(max_cells=20_000, patients=()))
    root, lineage = table(found, ""), table(found, "lineage")
    origin = outcomes.origin_at(np.full((2, 1, 8), 4.0), root, lineage)
    has_mutants = root["class_count"][:, :, :, -1, root["class"] > 0].sum(axis=-1) > 0
    assert (origin[~has_mutants] == NO_CLONE).all()
    assert {INTRINSIC} <= set(origin.ravel().tolist())
