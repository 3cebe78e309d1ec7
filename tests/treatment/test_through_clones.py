"""Every rule that a study can name, through the `clones` engine: where it acts, and where it must not."""

import numpy as np
import pytest

from jaxevo.drug.schedule import Level
from jaxevo.engines import clones, regimen
from jaxevo.engines.base import Arm, Founder, Line, Problem, Record, Visits
from jaxevo.engines.process import problem_network
from jaxevo.treatment import POLICIES, SAFETY
from tests import builders
from tests.visiting import of

CONSTANT, SHRINKS, GROWS = range(3)
MODEL = {
    "drugs": ("x", "y"), "targets": ("T",), "kd": {"T": {"x": 1.0}}, "death_rate": 0.1,
    "alterations": {"r": {"kd_fold": {"x": 1e6}}},
}  # fmt: skip
PATIENTS = (
    MODEL | {"birth_rate": 0.0, "death_rate": 0.0},
    MODEL | {"birth_rate": 0.1, "max_death_rate": 1.4},
    MODEL | {"birth_rate": 0.35},
)
CELLS = ((1000, 0), (950, 50), (1000, 0))  # sensitive, resistant to x
LINES = tuple(Line(d, (), (Level(i, 0.0, 100.0, 1.0),)) for i, d in enumerate(MODEL["drugs"]))
X, Y, NONE = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]
TABLE = ((0.5, 0.2), (0.0, 0.2))  # sensitivity of the two classes to x and y, as believed

# Rule: lines, parameters, the patient in whom it acts, its shares before and after.
RULES = {
    "second_line": (LINES, {}, GROWS, X, Y),
    "intermittent": (LINES[:1], {"stop_cells": 200.0, "restart_cells": 1500.0}, SHRINKS, X, NONE),
    "adaptive": (LINES[:1], {}, SHRINKS, X, NONE),
    "modulation": (LINES[:1], {}, SHRINKS, X, [0.5, 0.0]),
    "containment": (LINES[:1], {}, SHRINKS, X, NONE),
    "range_bounded": (LINES[:1], {"lower_cells": 100.0, "upper_cells": 2000.0}, GROWS, NONE, X),
    "metronomic": (LINES[::-1], {"lines": ("y", "x"), "thresholds_cells": (500.0,)}, SHRINKS, Y, X),
    "personalized": (LINES, {"lines": ("x", "y"), "alterations": ("r",), "against": {"r": "y"},
                             "default": "x"}, SHRINKS, X, Y),
    "cpm": (LINES, {"sensitivity_per_day": TABLE, "detectable_cells": 10.0}, GROWS, X, Y),
    "dpm22": (LINES, {"sensitivity_per_day": TABLE, "growth_rate_per_day": 0.05, "window_days": 4,
                      "mutation_probability": ((0.0, 0.0),) * 2, "incurable_genotype": 1,
                      "curable_cells": 0.0}, SHRINKS, X, Y),
}  # fmt: skip


def problem_of(*arms: Arm, **options) -> Problem:
    """All patients, seen every 4 of 24 days."""
    models = tuple(builders.build(**own) for own in PATIENTS)
    founders = tuple(tuple(Founder(n, g, 0) for g, n in enumerate(cells) if n) for cells in CELLS)
    return Problem(
        models[0], founders[0], arms, seed=1, replicates=1, horizon=24.0, sync=2.0, max_cells=1,
        record=Record(every=4.0), patients=models, founders_of=founders,
        visits=Visits(every=4.0, sequencing=0.1, composition=0.0), **options,
    )  # fmt: skip


def treated(*arms: Arm, **options) -> dict:
    """All patients under these arms."""
    return clones.simulate(problem_of(*arms, **options))


def run_of_every_policy():
    """An arm for each."""
    return treated(*(
        Arm(name, (), lines=lines, policy=POLICIES[name].make(**parameters))
        for name, (lines, parameters, *_) in RULES.items()
    ))  # fmt: skip


def test_every_rule_is_here():
    """A new rule needs a row."""
    assert RULES.keys() == POLICIES.keys()
    assert {"hold_and_reduce"} == SAFETY.keys()


@pytest.mark.slow
def test_a_policy_changes_the_dose_where_it_should_and_not_where_nothing_happens():
    """From one share to another in the patient named above; the first for ever in a tumor that stays."""
    shares = of(run_of_every_policy(), "line_share")[:, :, 0, :6]
    for arm, (name, (lines, _, patient, *ends)) in zip(shares, RULES.items(), strict=True):
        share = arm[..., : len(lines)]
        before, after = (end[: len(lines)] for end in ends)
        np.testing.assert_array_equal(share[patient, 0], before, name)
        first = int(np.argmax(np.any(share[patient] != before, axis=1)))
        np.testing.assert_array_equal(share[patient, first], after, name)
        start = share[CONSTANT, 0]
        np.testing.assert_array_equal(
            share[CONSTANT], np.broadcast_to(start, (6, len(lines))), name
        )


def test_what_every_rule_reads_is_known_before_it_is_asked():
    """As `POLICIES` says it, besides what is known of every visit."""
    problem = problem_of()
    for name, (lines, parameters, *_) in RULES.items():
        arm = Arm(name, (), lines=lines, policy=POLICIES[name].make(**parameters))
        read = set(regimen.reads(problem, arm, "policy", problem_network(problem)))
        assert read - {"day", "visit", "share"} == set(POLICIES[name].needs), name


def test_the_safety_rule_holds_a_drug_where_the_marrow_suffers_and_nowhere_else():
    """Held at grade 4; the other drug, and a marrow that x spares, go on as if nothing were. Doses count:
    the tumor that x shrinks shrinks no further.
    """
    safe = SAFETY["hold_and_reduce"].make(drugs=("x", "y"), held=("x",))
    own = builders.build(**PATIENTS[0])
    hosts = tuple(builders.host(own, slope={"x": s}) for s in (0.0, 2.0, 0.0))
    plain = Arm("plain", (), LINES[0].levels)
    run = treated(Arm("safe", (), LINES[0].levels, safety=safe), plain, hosts=hosts)
    factor, counts = of(run, "drug_factor")[0, :, 0, :6], of(run, "neutrophils")[0, :, 0, :6]
    held = factor[SHRINKS, :, 0] == 0
    (first,) = np.flatnonzero(held)[:1]
    assert counts[SHRINKS, first] < 0.5 <= counts[SHRINKS, first - 1]
    assert np.all(factor[SHRINKS, :first, 0] == 1)
    np.testing.assert_array_equal(factor[[CONSTANT, GROWS]], 1.0)
    np.testing.assert_array_equal(factor[:, :, 1], 1.0)
    tumor = of(run, "burden")[0, SHRINKS, 0]
    assert tumor[first + 1] > 0.5 * tumor[first] > tumor[first] - tumor[first - 1]
    both = of(run, "neutrophils")[:, SHRINKS, 0]
    np.testing.assert_allclose(both[0, : first + 1], both[1, : first + 1], rtol=1e-6)
    assert both[0, -1] > 2 * both[1, -1]
