"""Relapse as `extinction` predicts it and as tumors show it: 21 schedules of 3 studies; rare ones exactly."""

import math

import numpy as np
import pytest

from jaxevo.improve.verdict import verdict
from tests.statistics import assert_probability
from tests.studies import study_of

QUIET = {"options": {"should_stop": lambda: False}, "show": lambda *_: None}
TUMORS = 6000
FALSE_FAIL = 1e-4  # of all schedules together

LEVELS = """\
[study]
title = "levels, any cell counts"
engine = "clones"
seed = 41
horizon_days = 14

[tumor]
birth_rate_per_day = 0.3
death_rate_per_day = 0.1
founders = 8

[drugs.x]
kd_um = 0.1
effect = { max_death_per_day = 1.0 }
"""

TABLETS = """\
[study]
title = "tablets against two kinds of cells, detection counts"
engine = "clones"
seed = 42
horizon_days = 21

[tumor]
birth_rate_per_day = 0.3
death_rate_per_day = 0.15
mixture = [{ cells = 200 }, { cells = 2, genotype = { mutant = 1 } }]

[relapse]
kind = "detection"
detection_cells = 40

[drugs.x]
molecular_weight_g_per_mol = 500
kd_um = 0.3
effect = { max_death_per_day = 1.2 }
plasma = { clearance_l_per_h = 10, volume_l = 100, absorption_per_h = 0.5 }

[alterations.mutant]
mechanism = "altered_target"
inheritance = "mutation"
probability_per_division = 1e-3
kd_fold = { x = 5 }
"""

INFUSIONS = """\
[study]
title = "an operation and infusions, the first detection counts"
engine = "clones"
seed = 43
horizon_days = 28

[tumor]
birth_rate_per_day = 0.3
death_rate_per_day = 0.12
founders = 300

[relapse]
kind = "first_passage"
detection_cells = 200
assessed_from_day = 7
detection_rate_per_day = 0.5

[drugs.x]
molecular_weight_g_per_mol = 800
kd_um = 0.05
effect = { max_death_per_day = 2 }

[drugs.x.plasma]
clearance_l_per_h = 20
volume_l = 10
unbound_fraction = 0.5
peripheral = [{ volume_l = 100, clearance_l_per_h = 10 }]
"""

LEVEL_ARMS = {
    f"{one:g} then {two:g} uM": f"""\
doses = [
  {{ drug = "x", level_um = {one}, until_day = 7 }},
  {{ drug = "x", level_um = {two}, from_day = 7 }},
]
"""
    for one, two in (
        (0, 0),
        (0.05, 0),
        (0, 0.05),
        (0.05, 0.05),
        (0.1, 0.05),
        (0.15, 0.1),
        (0.2, 0.1),
    )
}
TABLET_ARMS = {
    f"{mg} mg every {hours} h": f'doses = [{{ drug = "x", amount_mg = {mg}, every_h = {hours} }}]\n'
    for mg, hours in ((0, 24), (10, 48), (20, 48), (30, 48), (50, 48), (100, 72), (100, 48))
}
INFUSION_ARMS = {
    f"{mg} mg, {kept} kept": f"""\
doses = [{{ drug = "x", amount_mg = {mg}, cycle_days = 7, infusion_h = 3 }}]
surgery = [{{ day = 3, removed_fraction = {1 - kept:g} }}]
"""
    for mg, kept in ((0, 0.01), (50, 0.1), (100, 0.1), (100, 0.02), (100, 0.01), (200, 0.02), (150, 0.01))
}  # fmt: skip


def with_arms(text: str, arms: dict[str, str]) -> str:
    """A study with these arms."""
    return text + "".join(f'\n[[arms]]\nname = "{name}"\n{rows}' for name, rows in arms.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "arms"),
    [(LEVELS, LEVEL_ARMS), (TABLETS, TABLET_ARMS), (INFUSIONS, INFUSION_ARMS)],
    ids=["levels", "tablets", "infusions"],
)
def test_tumors_relapse_as_often_as_was_predicted(text, arms, tmp_path):
    """Seven schedules, 6,000 tumors each: an error of .05 would be noticed in each; all 21 of the three
    studies fail by chance once in 10,000 times. A score counts as a hit with its own probability, so
    that hits are binomial.
    """
    judged = verdict(study_of(tmp_path, with_arms(text, arms)), TUMORS, pairing="paired", **QUIET)
    predicted = judged.predicted[:, 0]
    assert predicted.max() > 0.5
    assert predicted.min() < 0.1
    assert np.all(predicted > 0.01)
    throw = np.random.default_rng(7).random(judged.chance.shape)
    for hits, told in zip(throw < judged.chance, predicted, strict=True):
        assert_probability(hits, float(told), detect=0.05, false_fail=FALSE_FAIL / 21)


def survival(birth: float, death: list[float], days: float) -> float:
    """Chance that one cell has descendants after pieces of `days` with these deaths; Kendall 1948,
    doi:10.1214/aoms/1177730285: 1/(e^-R(T) + int b e^-R(t) dt), R the integral of b - d.
    """
    grown, shed = 0.0, 0.0
    for d in death:
        net = birth - d
        piece = days if net == 0 else -math.expm1(-net * days) / net
        shed += birth * math.exp(-grown) * piece
        grown += net * days
    return 1 / (math.exp(-grown) + shed)


def test_rare_relapses_have_the_probability_of_the_closed_form(tmp_path):
    """Levels that change every week: deaths d + E c/(c + kd); 8 founders, P from 1 to 1e-40, relative
    error below 1e-7.
    """
    courses = [(0, 0), (0.1, 0.1), (1, 0), (0, 1), (3, 0.2), (1, 1), (100, 3), (100, 100)]
    arms = {
        f"{one:g}, {two:g}": f"""\
doses = [
  {{ drug = "x", level_um = {one}, until_day = 7 }},
  {{ drug = "x", level_um = {two}, from_day = 7 }},
]
"""
        for one, two in courses
    }
    text = LEVELS.replace("max_death_per_day = 1.0", "max_death_per_day = 7.0")
    judged = verdict(study_of(tmp_path, with_arms(text, arms)), 1, pairing="paired", **QUIET)
    for course, told in zip(courses, judged.predicted[:, 0], strict=True):
        deaths = [0.1 + 7.0 * c / (c + 0.1) for c in course]
        none = 8 * math.log1p(-survival(0.3, deaths, 7.0))
        assert told == pytest.approx(-math.expm1(none), rel=1e-7)
    assert judged.predicted.min() < 1e-38
