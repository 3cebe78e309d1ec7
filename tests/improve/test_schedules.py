"""From [optimize] to decisions, and from amounts to an arm and back."""

import tomllib

import numpy as np
import pytest

from jaxevo.config import StudyError
from jaxevo.config.decisions import variables
from jaxevo.improve import schedules
from tests.improve.studies import ORAL, SMALL
from tests.studies import study_of


@pytest.fixture
def oral(tmp_path):
    return study_of(tmp_path, ORAL)


def test_every_drug_has_one_decision_in_each_cycle(oral):
    """Three fortnights of tablets, two three-weekly cycles of infusions."""
    found = [(v.drug, v.cycle, v.first) for v in variables(oral)]
    tablets = [("oral", i, 14.0 * i) for i in range(3)]
    assert found == [*tablets, ("infused", 0, 0.0), ("infused", 1, 21.0)]


def test_the_search_gives_every_dose_at_its_largest_and_keeps_what_stands_beside(oral):
    """42 tablets of 160 mg, 4 infusions of 100 mg, the level and the fraction of the other arm."""
    found = schedules.decisions(oral, oral.problem())
    amounts = {d: [x.amount_mg for x in found.arm.doses if x.drug == d] for d in (0, 1)}
    assert amounts == {0: [160.0] * 42, 1: [100.0] * 4}
    assert [x.duration for x in found.arm.doses if x.drug == 1] == pytest.approx([2 / 24] * 4)
    assert [(x.drug, x.level_um) for x in found.arm.levels] == [(2, 0.3)]
    assert [jump.gray for jump in found.arm.jumps] == [2.0]
    pattern = found.pattern
    assert pattern.low.tolist() == [0.0] * 5 + [0.3]
    assert pattern.high.tolist() == [160.0] * 3 + [100.0] * 2 + [0.3]
    assert np.bincount(pattern.variable).tolist() == [14, 14, 14, 2, 2, 1]
    assert found.steps.tolist() == [40.0] * 3 + [0.0] * 3
    assert found.num_free == 5


def test_the_arm_that_is_searched_is_the_arm_that_is_written(oral):
    """With every amount at its largest: same days, routes, infusions, levels and fractions."""
    sought = schedules.decisions(oral, oral.problem())
    whole = oral.resolved()
    whole["drugs"]["oral"]["max_cumulative_mg"] = 1e6
    free = type(oral).model_validate(whole)
    table = schedules.arm_table(free, "optimized", sought.pattern.high)
    written = schedules.with_arms(free, [table]).problem().arms[0]
    assert sorted(written.doses) == sorted(sought.arm.doses)
    assert {dose.is_oral for dose in written.doses if dose.drug == 0} == {True}
    assert written._replace(doses=()) == sought.arm._replace(doses=())


def test_totals_are_limits_in_units_of_their_bounds(oral):
    """Tablets: 42 x 160 mg of 5,000; infusions: 2 x 100 mg in each cycle of 150."""
    found = schedules.decisions(oral, oral.problem())
    most = found.pattern.high[found.pattern.variable]
    rows = {limit.name: np.asarray(limit.value(most)).tolist() for limit in found.limits}
    assert rows["oral in all"] == pytest.approx([42 * 160 / 5000 - 1])
    assert rows["infused per cycle"] == pytest.approx([1 / 3, 1 / 3])


def test_an_arm_gives_back_the_amounts_that_it_was_made_of(oral):
    """`arm_table`, then `usage` of the arm in a study that accepts it."""
    amounts = np.array([80.0, 0.0, 33.3, 75.0, 10.0])
    table = schedules.arm_table(oral, "optimized", amounts)
    study = schedules.with_arms(oral, [table])
    assert [arm.name for arm in study.arms] == ["optimized", "standard"]
    arm = study.problem().arms[0]
    assert schedules.usage(oral, arm) == pytest.approx(amounts)
    assert [x.drug for x in arm.levels] == [2]
    assert [jump.gray for jump in arm.jumps] == [2.0]
    assert type(study).model_validate(tomllib.loads(study.to_toml())) == study


def test_another_arm_is_its_mean_over_the_cycles(oral):
    """80 mg every day; one infusion of 60 mg where two are given."""
    standard = oral.problem().arms[0]
    assert schedules.usage(oral, standard) == pytest.approx([80, 80, 80, 30, 30])
    assert schedules.beyond(oral, standard) == []


def test_an_arm_that_gives_more_than_the_limits_says_which(tmp_path):
    """150 mg in a cycle and 5,000 mg in all are broken one by one."""
    study = study_of(tmp_path, ORAL.replace("max_per_cycle_mg = 150", "max_per_cycle_mg = 50"))
    standard = study.problem().arms[0]
    assert schedules.beyond(study, standard) == ["infused per cycle"]
    study = study_of(tmp_path, ORAL.replace("step_mg = 40", "max_mg = 60"))
    standard = study.problem().arms[0]
    assert schedules.beyond(study, standard) == ["largest amount of oral"]
    study = study_of(tmp_path, ORAL.replace("step_mg = 40", "max_total_mg = 3000"))
    assert schedules.beyond(study, standard) == ["oral in all"]


def test_levels_become_rows_of_their_cycles_and_what_is_nearly_none_is_left_out(tmp_path):
    """0.2 uM in the first week, a billionth in the second."""
    study = study_of(tmp_path, SMALL)
    table = schedules.arm_table(study, "a", np.array([0.2, 1e-9]))
    rows = [
        {k: row[k] for k in ("drug", "level_um", "from_day", "until_day")} for row in table["doses"]
    ]
    assert rows == [{"drug": "x", "level_um": 0.2, "from_day": 0.0, "until_day": 7.0}]


def test_what_is_resolved_resolves_to_itself(oral, tmp_path):
    """Largest doses, days, patients and arms are spelled out, and the saved study is an equal one."""
    choice, table = oral.optimize.drugs["oral"], oral.optimize
    assert (choice.max_mg, choice.max_total_mg, choice.until_day) == (160.0, 5000.0, 42.0)
    assert (table.over, table.patients, table.compare) == ("patient", 1, ["standard"])
    assert study_of(tmp_path, oral.to_toml()) == oral


def test_drugs_in_overlapping_cycles_are_borne_together(tmp_path):
    """Shares of the largest amounts on each day on which a cycle begins: 0, 14, 21 and 28."""
    text = ORAL.replace("[optimize]\n", "[optimize]\nmax_together = 1\n")
    study = study_of(tmp_path, text)
    found = schedules.decisions(study, study.problem())
    rows = {limit.name: limit for limit in found.limits}
    amounts = np.array([160.0, 0.0, 80.0, 50.0, 100.0])[
        found.pattern.variable[found.pattern.variable < 5]
    ]
    entries = np.concatenate([amounts, [0.3]])
    assert np.asarray(rows["all drugs together"].value(entries)) == pytest.approx(
        [1 + 0.5 - 1, 0 + 0.5 - 1, 0 + 1 - 1, 0.5 + 1 - 1]
    )
    assert schedules.beyond(study, study.problem().arms[0]) == []  # 1/2 of one, 3/10 of the other
    strict = study_of(tmp_path, text.replace("max_together = 1", "max_together = 0.7"))
    assert schedules.beyond(strict, study.problem().arms[0]) == ["all drugs together"]


def test_an_arm_that_decides_comes_to_its_plan_or_to_one_of_its_lines(tmp_path):
    """A policy with two lines beside a level; a rule of safety alone."""
    text = ORAL.replace(
        'name = "untreated"\ndoses = []',
        """name = "in turn"
doses = [{ drug = "other", level_um = 0.1 }]
lines = [
    { name = "tablets", doses = [{ drug = "oral", amount_mg = 80, every_h = 24 }] },
    { name = "infusions", doses = [{ drug = "infused", amount_mg = 60, cycle_days = 21 }] },
]
policy = { rule = "second_line" }""",
    )
    text = text.replace("[optimize]\n", "[visits]\nevery_days = 7\n\n[optimize]\n", 1)
    study = study_of(tmp_path, text)
    own = schedules.forms(study.problem().arms[1])
    assert [sorted({x.drug for x in (*one.doses, *one.levels)}) for one in own] == [[0, 2], [1, 2]]
    assert not any(one.decides for one in own)
    assert [schedules.usage(study, one).tolist() for one in own] == [
        [80, 80, 80, 0, 0], pytest.approx([0, 0, 0, 30, 30]),
    ]  # fmt: skip
    (plan,) = schedules.forms(study.problem().arms[0])
    assert plan == study.problem().arms[0]


def test_a_verdict_may_be_of_some_of_the_patients(tmp_path):
    """The first three of twelve; no more than there are."""
    several = SMALL + "\n[patients]\ncount = 12\n"
    study = study_of(tmp_path, several.replace("tumors = 400", "verdict_patients = 3"))
    assert schedules.with_arms(study, []).patients.count == 3
    study = study_of(tmp_path, several.replace("tumors = 400", "verdict_patients = 13"))
    assert schedules.with_arms(study, []).patients.count == 12


BAD = {
    "no drug": ("[optimize.drugs.x]", "[targets.x]", "key `targets.x.cycle_days` is unknown"),
    "a drug that is none": (
        "[optimize.drugs.x]",
        "[optimize.drugs.y]",
        "key `optimize.drugs.y` is no drug of the study; known here: `x`",
    ),
    "no largest level": (
        "max_um = 0.2\nstep_um = 0.05",
        "",
        "key `optimize.drugs.x.max_um` is missing; expected a number > 0 uM, since the drug has no plasma",
    ),
    "a step above the largest level": (
        "step_um = 0.05",
        "step_um = 0.5",
        "key `optimize.drugs.x.step_um`: expected at most the largest amount (0.2), got 0.5",
    ),
    "tablets of a level": (
        "step_um = 0.05",
        "step_mg = 5",
        "key `optimize.drugs.x.step_mg` stands beside max_um; a level is held through its cycle",
    ),
    "an arm that is none": (
        "tumors = 400",
        'compare = ["hlaf"]',
        'key `optimize.compare.0`: expected the name of an arm, got "hlaf"; did you mean `half`?',
    ),
    "neutrophils of nobody": (
        "tumors = 400",
        "min_neutrophils_per_l_1e9 = 1",
        "key `optimize.min_neutrophils_per_l_1e9` needs a [host] table, whose neutrophils they are",
    ),
    "the worst of one patient": (
        "tumors = 400",
        'over = "worst"',
        'key `optimize.over` is "worst", and there is one patient',
    ),
    "a share of the worst where all count": (
        "tumors = 400",
        "worst_share = 0.2",
        'key `optimize.worst_share` belongs to over = "worst"',
    ),
    "an arm with the name of what is found": (
        'name = "half"',
        'name = "optimized"',
        'key `arms.1.name` is "optimized", the name of what is found',
    ),
    "a cycle that never begins": (
        "cycle_days = 7",
        "cycle_days = 7\nfrom_day = 14",
        "key `optimize.drugs.x.from_day`: expected a day before the horizon (14), got 14.0",
    ),
    "an objective that is none": (
        "tumors = 400",
        'objective = "survival"',
        'key `optimize.objective`: expected "relapse" or "relapse_free_days" or "burden", got "survival"',
    ),
    "nothing together": (
        "tumors = 400",
        "max_together = 0",
        "key `optimize.max_together`: expected a number > 0, got 0",
    ),
    "a misspelled key": (
        "tumors = 400",
        "tumours = 400",
        "key `optimize.tumours` is unknown; did you mean `tumors`?",
    ),
}


@pytest.mark.parametrize(("old", "new", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_search_is_refused_with_its_sentence(old, new, sentence, tmp_path):
    """One sentence with the key, what was expected, what came."""
    assert old in SMALL
    with pytest.raises(StudyError) as error:
        study_of(tmp_path, SMALL.replace(old, new, 1))
    assert sentence in str(error.value)


def test_days_of_a_cycle_are_checked_as_those_of_a_dose(tmp_path):
    """The key is that of the search, the sentence that of a dose."""
    with pytest.raises(
        StudyError, match=r"`optimize\.drugs\.infused\.on_days\.1`: expected a day of"
    ):
        study_of(tmp_path, ORAL.replace("on_days = [0, 7]", "on_days = [0, 21]"))
    with pytest.raises(
        StudyError, match=r"`optimize\.drugs\.oral\.max_mg`: expected at most max_dose"
    ):
        study_of(tmp_path, ORAL.replace("step_mg = 40", "max_mg = 200"))
