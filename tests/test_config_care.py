"""Study files: what is given to a patient, what is observed, what is decided, who the patients are."""

import math
import os

import jax
import numpy as np
import pytest

from jaxevo import simulate, treatment
from jaxevo.config import StudyError, load_study
from jaxevo.config.visits import Policy, Safety, rule_class
from jaxevo.drug.schedule import Dose, Level
from jaxevo.engines.base import Jump, Limits, Line, Problem, Rule, Visits
from jaxevo.engines.grid import arm_inputs
from jaxevo.engines.patients import correlated, factor, ranks
from tests.studies import CARE, MINIMAL, study_of, write

INF = math.inf
DRUG = """
[drugs.x]
molecular_weight_g_per_mol = 500
[drugs.x.plasma]
volume_l = 1
clearance_l_per_h = 1
"""


@pytest.fixture(scope="module")
def problem(tmp_path_factory) -> Problem:
    """The study of care as engines take it."""
    return study_of(tmp_path_factory.mktemp("care"), CARE).problem()


def same_rule(one: Rule, two: Rule) -> None:
    """The same function with the same numbers."""
    assert (one.name, one.decide) == (two.name, two.decide)
    assert jax.tree.structure(one[2:]) == jax.tree.structure(two[2:])
    for mine, its in zip(jax.tree.leaves(one[2:]), jax.tree.leaves(two[2:]), strict=True):
        np.testing.assert_array_equal(mine, its)


# --- when things are given ---


@pytest.mark.parametrize(
    ("row", "days"),
    [
        ('weekdays = ["Mon"]', [0, 7, 14, 21]),
        ('weekdays = ["Fri", "Mon"], from_day = 1, until_day = 11', [4, 7]),
        ('weekdays = ["Mon"], from_day = 0.5', [7, 14, 21]),
        ('weekdays = ["Sun"], until_day = 6', []),
        ("cycle_days = 10", [0, 10, 20]),
        ("cycle_days = 10, cycles = 2", [0, 10]),
        ("cycle_days = 10, cycles = 2, until_day = 5", [0]),
        ("cycle_days = 10, on_days = [0, 3.5], from_day = 2", [2, 5.5, 12, 15.5, 22, 25.5]),
        ("cycle_days = 10, on_days = [9], cycles = 9", [9, 19]),
        ("cycle_days = 14, on_days = [0, 7]", [0, 7, 14, 21]),
    ],
)
def test_doses_are_given_on_days_of_the_week_and_of_cycles(row, days, tmp_path):
    """Day 0 is a Monday; cycles start on from_day; nothing on or after until_day and the horizon (28)."""
    text = MINIMAL.replace("horizon_days = 10", "horizon_days = 28") + DRUG
    study = study_of(tmp_path, text.replace("[]", f'[{{ drug = "x", amount_mg = 3, {row} }}]'))
    arm = study.problem().arms[0]
    assert [dose.day for dose in arm.doses] == pytest.approx(days)
    assert {dose.amount_mg for dose in arm.doses} <= {3.0}


@pytest.mark.parametrize("first", ["Mon", "Wed", "Sun"])
def test_day_0_is_the_first_weekday(first, tmp_path):
    """Mondays fall on other days when day 0 is another day of the week."""
    text = MINIMAL + DRUG
    text = text.replace("[]", '[{ drug = "x", amount_mg = 1, weekdays = ["Mon"] }]')
    arm = study_of(tmp_path, text, f"study.first_weekday={first}").problem().arms[0]
    assert [dose.day for dose in arm.doses] == {"Mon": [0, 7], "Wed": [5], "Sun": [1, 8]}[first]


def test_the_doses_of_an_arm_are_single_administrations(problem):
    """The first is the loading dose; amounts per body surface stay what they are."""
    standard = problem.arms[0]
    taxane = [Dose(0, day, 75.0, is_per_m2=True) for day in (21.0, 42.0, 63.0)]
    small = [Dose(0, 8.0, 10.0), Dose(0, 29.0, 10.0)]
    gcsf = [d for d in range(4, 84) if d % 7 in (6, 1)]  # day 0 is a Wednesday
    assert standard.doses == (
        Dose(0, 0.0, 100.0, is_per_m2=True),
        *taxane,
        Dose(0, 1.0, 20.0),
        *small,
        *(Dose(1, float(day), 0.3) for day in gcsf),
    )
    assert not standard.decides
    assert standard.lines == ()


def test_radiation_and_surgery_are_jumps_in_order_of_their_days(problem):
    """Five fractions a week from the first Monday on, and an arm's other courses among them."""
    jumps = problem.arms[0].jumps
    weekdays = [12.0, 13.0, 14.0, 15.0, 16.0, 19.0, 20.0]  # day 0 is a Wednesday
    assert [jump.day for jump in jumps if jump.gray == 2] == weekdays
    assert [jump.day for jump in jumps if jump.gray == 8] == [0.0, 7.0]
    (operation,) = [jump for jump in jumps if jump.gray == 0]
    assert operation.day == 3
    assert operation.kept_fraction == pytest.approx((0.01, 1.0))
    assert list(jumps) == sorted(jumps, key=lambda jump: jump.day)
    assert len(jumps) == 10
    damage = problem.model.cellular.damage
    assert (float(damage.alpha), float(damage.beta)) == (0.3, 0.03)


def test_a_share_that_surgery_removes_may_be_one_for_all_sites(tmp_path):
    """One fraction of 8 Gy, and 90 % of every site."""
    extra = "[[arms.radiation]]\ngray = 8\nfrom_day = 2\n[[arms.surgery]]\nday = 1\nremoved_fraction = 0.75\n"
    text = MINIMAL.replace("[tumor]", "[tumor]\nradiation_alpha_per_gy = 0.1") + extra
    problem = study_of(tmp_path, text).problem()
    assert problem.arms[0].jumps == (Jump(1.0, (0.25,)), Jump(2.0, gray=8.0))


def test_an_amount_per_body_surface_is_what_the_patient_s_own_surface_asks_for(problem):
    """umol = mg per m2 x m2 / (g/mol) x 1000, patient by patient; mg are the same for all."""
    sync = np.arange(0.0, 85.0, 1.0)
    for model, surface in zip(problem.models, (1.6, 1.7, 1.8, 1.9), strict=True):
        given = arm_inputs(model, problem.arms[0], sync).blood_dose[:, 0]
        np.testing.assert_allclose(given[0], 100 * surface * 1e3 / 808, rtol=1e-14)
        np.testing.assert_allclose(given[21], 75 * surface * 1e3 / 808, rtol=1e-14)
        np.testing.assert_allclose(given[1], 20 * 1e3 / 808, rtol=1e-14)
        assert float(model.body_surface) == surface


def test_patients_of_other_body_surfaces_are_treated_otherwise(tmp_path):
    """Tumors of two patients under 10 mg per m2 are those under 16 and 20 mg."""
    text = MINIMAL.replace("horizon_days = 10", 'engine = "meanfield"\nhorizon_days = 2') + DRUG
    text = text.replace("[drugs.x]", "[drugs.x]\nkd_um = 10\neffect = { max_death_per_day = 3 }")
    text += "[host]\nbody_surface_m2 = 1.8\n[patients.values]\n"
    text += '"host.body_surface_m2" = [1.6, 2.0]\n'
    dose = '[{ drug = "x", amount_mg%s = %s, cycle_days = 1 }]'
    burden = {}
    for unit, amount in (("_per_m2", 10), ("", 16), ("", 20)):
        study = study_of(tmp_path, text.replace("[]", dose % (unit, amount)))
        burden[amount] = simulate(study)[""]["burden"].data[0, :, 0, -1]
    assert burden[10][0] > 1.01 * burden[10][1]
    np.testing.assert_allclose(burden[10], [burden[16][0], burden[20][1]], rtol=1e-12)


def test_an_amount_per_body_surface_needs_the_surface(tmp_path):
    """A study without [host] cannot give it."""
    text = MINIMAL + DRUG
    text = text.replace("[]", '[{ drug = "x", amount_mg_per_m2 = 1 }]')
    with pytest.raises(StudyError) as error:
        study_of(tmp_path, text)
    assert str(error.value).endswith(
        "key `arms.0.doses.0.amount_mg_per_m2` needs body_surface_m2 in [host]"
    )


# --- what is observed and decided ---


def test_visits_limits_and_hosts_are_taken_over(problem):
    """Hours become days; what is not named does nothing; every patient has a marrow of its own."""
    assert problem.visits == Visits(7.0, 4, 1e5, 0.1, 0.05, 1e3)
    assert problem.limits == Limits((200.0, INF, INF), (1000.0, INF, INF), (600.0, INF, INF))
    assert len(problem.hosts) == len(problem.models) == 4
    for host in problem.hosts:
        assert (float(host.baseline), float(host.transit_days)) == (4.5, 4.0)
        assert float(host.transduced_share) == 0.2
        np.testing.assert_array_equal(host.slope, [8.58, 0, 0])
        np.testing.assert_array_equal(host.growth_gain, [0, 2, 0])
        np.testing.assert_array_equal(host.growth_half, [1, 0.001, 1])
        np.testing.assert_array_equal(host.marrow_pump, [0.5])
        np.testing.assert_array_equal(host.transduced_pump, [3])
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(host))
    assert len({float(host.feedback) for host in problem.hosts}) == 4


def test_an_arm_may_have_a_transduced_marrow_of_its_own(problem, tmp_path):
    """It then takes the place of the study's; pumps that no cell of any arm carries are refused."""
    assert [arm.transduced_share for arm in problem.arms] == [None, 0.4, None]
    text = CARE.replace("transduced_share = 0.2\n", "")
    assert study_of(tmp_path, text).problem().arms[1].transduced_share == 0.4
    with pytest.raises(StudyError) as error:
        study_of(tmp_path, text.replace("transduced_share = 0.4\n", ""))
    assert str(error.value).endswith(
        "key `host.transduced_pump` needs transduced_share > 0 beside it, or in an arm"
    )


def test_without_visits_host_and_limits_there_is_nothing_of_them(tmp_path):
    """An engine sees from the problem alone that nobody decides; the defaults of a body are published."""
    problem = study_of(tmp_path, MINIMAL).problem()
    assert (problem.visits, problem.hosts, problem.limits) == (None, (), None)
    (host,) = study_of(tmp_path, MINIMAL + "[host]\n").problem().hosts
    friberg = (5.05, 88.7 / 24, 0.161)  # Friberg et al. 2002, doi:10.1200/JCO.2002.02.140
    assert (float(host.baseline), float(host.transit_days), float(host.feedback)) == friberg
    pump = study_of(tmp_path, MINIMAL + "[host]\n[pumps.P]\n").problem().hosts[0].marrow_pump
    assert pump.shape == (0,)  # marrow without pumps needs no balance
    visits = study_of(tmp_path, MINIMAL + "[visits]\nevery_days = 3\n").problem().visits
    assert visits == Visits(3.0, 1, 1.0, 0.0, None, None)


def test_the_doses_of_an_arm_with_a_policy_are_the_line_that_it_chooses(problem):
    """One line named `treatment`, nothing besides; what a table leaves out is the rule's own default."""
    arm = problem.arms[1]
    days = (0.0, 21.0, 42.0, 63.0)
    assert arm.doses == arm.levels == ()
    assert arm.lines == (
        Line("treatment", tuple(Dose(0, day, 100.0, is_per_m2=True) for day in days)),
    )
    same_rule(arm.policy, treatment.POLICIES["adaptive"].make(stop=0.4))
    names = ("taxane", "gcsf", "pill")
    make = treatment.SAFETY["hold_and_reduce"].make
    same_rule(arm.safety, make(drugs=names, supportive=("gcsf",), reduction=0.2))


def test_lines_are_given_as_a_policy_chooses_and_doses_whatever_it_does(problem):
    """Days of a line count from the visit at which it is begun."""
    arm = problem.arms[2]
    assert arm.doses == tuple(Dose(1, float(day), 0.3) for day in range(84))
    first, second = arm.lines
    assert first == Line("first", tuple(Dose(0, float(day), 60.0) for day in range(0, 84, 7)))
    assert second == Line("second", (), (Level(2, 0.0, 84.0, 1.0),))
    make = treatment.POLICIES["personalized"].make
    wanted = make(
        lines=("first", "second"), alterations=("R",), against={"R": "second"}, default="first"
    )
    same_rule(arm.policy, wanted)
    assert arm.safety is None


@pytest.mark.parametrize(
    ("base", "name"),
    [(Policy, name) for name in treatment.POLICIES] + [(Safety, name) for name in treatment.SAFETY],
)
def test_every_rule_is_a_table_with_a_key_for_each_of_its_parameters(base, name):
    """All but those that the study fills in, with the rule's own defaults; study files know no tuples."""
    registry = treatment.POLICIES if base is Policy else treatment.SAFETY
    parameters = dict(registry[name].make.__kwdefaults__ or {})
    fields = rule_class(base, name).model_fields
    assert set(parameters) - set(treatment.FROM_STUDY) <= set(fields)
    assert not set(treatment.FROM_STUDY) & set(fields)
    for key, default in parameters.items():
        assert fields[key].default == (list(default) if isinstance(default, tuple) else default)


def test_syncs_fall_on_visits_where_the_study_names_none(tmp_path):
    """The longest interval that divides the time between visits."""
    for engine, every, hours in (("clones", 7, 24), ("clones", 0.75, 18), ("cells", 0.3, 3.6)):
        text = MINIMAL + f"[visits]\nevery_days = {every}\n"
        study = study_of(tmp_path, text, f"study.engine={engine}")
        assert study.study.sync_hours == pytest.approx(hours)
        assert study_of(tmp_path, study.to_toml()).study.sync_hours == study.study.sync_hours


# --- patients ---


def test_patients_vary_together_as_the_study_says(problem):
    """Sobol ranks of the names that vary, in a Gaussian copula, then the log-normal law of each."""
    names = ["tumor.birth_rate_per_day", "host.feedback"]
    found = ranks(5, 4, names, "sobol")
    found[:, [1, 0]] = correlated(found[:, [1, 0]], np.array([[1, 0.5], [0.5, 1]]))
    for patient, (birth, feedback) in enumerate(found):
        model, host = problem.models[patient], problem.hosts[patient]
        np.testing.assert_allclose(model.birth.birth_rate, 0.2 * factor(birth, 0.1), rtol=1e-14)
        np.testing.assert_allclose(host.feedback, 0.2 * factor(feedback, 0.2), rtol=1e-14)


PATIENTS = '[patients]\nfile = "patients.csv"\n'
TABLE = 'tumor.birth_rate_per_day, "drugs.x.kd_um",sites.tumor.capacity_cells\n0.7,1e-1,100\n\n0.9, 2,300\n'


def with_patients(folder, table: str | bytes) -> str:
    """A study beside a table of patients."""
    data = table if isinstance(table, bytes) else table.encode()
    (folder / "patients.csv").write_bytes(data)
    return (
        MINIMAL.replace("[tumor]", "[tumor]\ncapacity_cells = 50")
        + "[drugs.x]\nkd_um = 1\n"
        + PATIENTS
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_patients_may_be_given_in_a_file_one_by_one(end, tmp_path):
    """Each row a patient; a key of one number by target is that number; the resolved study holds all."""
    text = with_patients(tmp_path, TABLE.replace("\n", end))
    study = study_of(tmp_path, text)
    assert study.patients.count == 2
    assert study.patients.file is None
    for problem in (study.problem(), study_of(tmp_path, study.to_toml()).problem()):
        assert [float(m.birth.birth_rate) for m in problem.models] == [0.7, 0.9]
        assert [float(m.cellular.target.kd[0, 0]) for m in problem.models] == [0.1, 2.0]
        assert [float(m.sites.capacity[0]) for m in problem.models] == [100.0, 300.0]


BAD_TABLES = {
    "no file": (None, "patients.csv: cannot be read: No such file or directory"),
    "an empty file": ("", "patients.csv:1: expected a row of keys and a row for each patient"),
    "no patient": (
        "tumor.birth_rate_per_day\n",
        "patients.csv:1: expected a row of keys and a row for each patient",
    ),
    "a word": (
        "tumor.birth_rate_per_day,tumor.death_rate_per_day\n1,2\n1,fast\n",
        'patients.csv:3: column `tumor.death_rate_per_day`: expected a number, got "fast"',
    ),
    "an empty cell": (
        "tumor.birth_rate_per_day,tumor.death_rate_per_day\n1,\n",
        'patients.csv:2: column `tumor.death_rate_per_day`: expected a number, got ""',
    ),
    "nan": (
        "tumor.birth_rate_per_day\nnan\n",
        'patients.csv:2: column `tumor.birth_rate_per_day`: expected a number, got "nan"',
    ),
    "more than any number": (
        "tumor.birth_rate_per_day\n1\n1e999\n",
        'patients.csv:3: column `tumor.birth_rate_per_day`: expected a number, got "1e999"',
    ),
    "a number as Python writes it": (
        "tumor.birth_rate_per_day\n1_0\n",
        'patients.csv:2: column `tumor.birth_rate_per_day`: expected a number, got "1_0"',
    ),
    "a number beyond all use": (
        "tumor.birth_rate_per_day\n1\n\n1e200\n",
        (
            "patients.csv:4: column `tumor.birth_rate_per_day`: expected a number, in size from 1e-100 to "
            "1e+100, got 1e+200"
        ),
    ),
    "a short row": (
        "tumor.birth_rate_per_day,tumor.death_rate_per_day\n1,1\n1\n",
        "patients.csv:3: expected 2 cells, as in the first row, got 1",
    ),
    "a key twice": (
        "tumor.birth_rate_per_day,tumor.birth_rate_per_day\n1,1\n",
        "patients.csv:1: column `tumor.birth_rate_per_day` stands there twice",
    ),
    "a column without a key": (
        "tumor.birth_rate_per_day,\n1,1\n",
        "patients.csv:1: column 2 has no key",
    ),
    "an unknown key": (
        "tumor.birth_rate\n1\n",
        (
            "patients.csv:1: column `tumor.birth_rate` is shared by all patients; expected a number in "
            "[sites.X], [drugs.X], [targets.X], [pumps.X], [alterations.X], [host] or [immune], or one of "
            "tumor.birth_rate_per_day, tumor.death_rate_per_day, tumor.radiation_alpha_per_gy, "
            "tumor.radiation_beta_per_gy2, study.genetic_instability"
        ),
    ),
    "a key that is not in the study": (
        "drugs.y.kd_um\n1\n",
        "patients.csv:1: column `drugs.y.kd_um` is not in the study: `drugs` has no `y`; known here: `x`",
    ),
    "no CSV": (
        'tumor.birth_rate_per_day\n"1\n',
        "patients.csv:2: is not valid CSV: unexpected end of data",
    ),
    "UTF-16": (
        "tumor.birth_rate_per_day\n1\n".encode("utf-16"),
        "patients.csv:1: is not UTF-8 text (UTF-16, or no text); expected UTF-8",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_of_patients_is_refused_with_file_line_and_column(name, tmp_path):
    """One sentence about the cell, not about the study that names the file."""
    table, sentence = BAD_TABLES[name]
    text = with_patients(tmp_path, table or "")
    if table is None:
        (tmp_path / "patients.csv").unlink()
    with pytest.raises(StudyError) as error:
        study_of(tmp_path, text)
    assert str(error.value).replace(f"{tmp_path}/", "") == sentence


@pytest.mark.parametrize("name", ["/etc/passwd", "../patients.csv", "link.csv", ".", "pipe"])
def test_no_file_outside_the_folder_of_the_study_is_read(name, tmp_path):
    """Neither by an absolute path, nor upward, nor through a link; nor a folder, nor a pipe."""
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "patients.csv").write_text(TABLE)
    (folder / "link.csv").symlink_to(tmp_path / "patients.csv")
    os.mkfifo(folder / "pipe")
    with pytest.raises(StudyError, match=r"is not in the folder of the study|is no file"):
        study_of(folder, MINIMAL + PATIENTS, f"patients.file={name}")


def test_a_patient_of_a_file_that_cannot_be_is_named(tmp_path):
    """A number that is one, but that no study may have at its key."""
    text = with_patients(tmp_path, "tumor.birth_rate_per_day\n1\n-1\n")
    with pytest.raises(StudyError) as error:
        study_of(tmp_path, text).problem()
    assert str(error.value) == (
        "patient 1 that [patients.values] gives cannot be: key `tumor.birth_rate_per_day`: expected a "
        "number >= 0 per day, got -1.0"
    )


def test_the_file_of_patients_is_sought_beside_the_study(tmp_path, monkeypatch):
    """Wherever jaxevo is started."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write(folder, with_patients(folder, TABLE))
    monkeypatch.chdir(tmp_path)
    assert load_study("elsewhere/study.toml").patients.count == 2
