"""Study files: what they say is what the model gets; see `test_bad_studies` for what is refused."""

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxevo.cell.mutation import MUTATING_DAUGHTERS
from jaxevo.config import StudyError, tables
from jaxevo.config.alterations import INHERITANCES, MECHANISMS, own_keys
from jaxevo.config.locate import locate
from jaxevo.drug.schedule import Dose, Level
from jaxevo.drug.signaling import COMBINATIONS
from jaxevo.engines.base import Arm, Founder, Immigration, Problem, Record, Relapse
from jaxevo.engines.patients import SAMPLINGS, factor, uniform
from jaxevo.genotype import INHERITANCES as GENOME_INHERITANCES
from jaxevo.genotype import pack, unpack
from jaxevo.sites import CROWDINGS
from tests.studies import FULL, MINIMAL, study_of

INF = math.inf


@pytest.fixture(scope="module")
def problem(tmp_path_factory) -> Problem:
    """The full study as engines take it."""
    return study_of(tmp_path_factory.mktemp("full"), FULL).problem()


def same(actual, expected) -> None:
    """Equal to the last bit but one, with the shape and in float64 NumPy."""
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-15)
    assert actual.shape == np.shape(expected)


def test_a_study_needs_only_a_title_a_horizon_two_rates_and_an_arm(tmp_path):
    """The defaults of the study file; no drug, no alteration: axes of length 0."""
    problem = study_of(tmp_path, MINIMAL).problem()
    expected = Problem(problem.model, (Founder(1, 0, 0),), problem.arms, 0, 1, 10.0, 0.25, 1000)
    assert problem[1:] == expected[1:]
    assert (problem.record, problem.relapse, problem.exact_below) == (Record(), Relapse(), 100)
    assert (
        problem.visits is problem.limits is problem.treat_at_cells is problem.stop_at_cells is None
    )
    assert problem.arms[0] == Arm("untreated", ())
    model = problem.model
    assert model.names.sites == ("tumor",)
    assert model.names.drugs == model.names.pumps == model.names.targets == ()
    assert model.genome.num_genotypes == 1
    assert model.genome.bypass_share.shape == (0, 0, 1)
    assert model.delivery.delivered_fraction.shape == (1, 0)
    assert model.sites.crowding == "none"
    same(model.sites.capacity, [INF])
    same(model.birth.birth_rate, 1.0)
    same(model.death.death_rate, 0.5)
    assert problem.models == (model,)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(model))


def test_the_frame_of_a_study_is_taken_over(problem):
    """Names become indices in the order of the file, hours become days."""
    names = problem.model.names
    assert names.sites == ("lung", "brain")
    assert names.drugs == ("tki", "mtx", "fluid", "blocker")
    assert names.pumps == ("MDR1",)
    assert names.targets == ("EGFR", "HER2", "DNA", "MET", "mtx", "blocker")
    assert (problem.seed, problem.replicates, problem.horizon) == (11, 3, 40.0)
    assert (problem.sync, problem.max_cells) == (0.5, 500_000)
    assert (problem.treat_at_cells, problem.stop_at_cells) == (20_000, 100_000)
    assert problem.record == Record(0.5, 2.0, (0.0, 10.0, 40.0), 2 / 24, 16, 5)
    genome = problem.model.genome
    assert (problem.max_alterations, problem.exact_below) == (3, 50)
    assert problem.immigration == (Immigration(0.01, pack(genome, {"slow": 1}), 0, 2),)
    assert problem.relapse == Relapse("first_passage", 1e7, 5.0, 0.5)
    levels = {"pump_up": 2, "tolerant": 1}
    first, second = problem.founders
    assert second == Founder(100, 0, 0)
    assert (first.count, first.site) == (40, 1)
    found = dict(zip(genome.names, unpack(genome, np.int64(first.genotype)), strict=True))
    assert {name: level for name, level in found.items() if level} == levels


def test_plasma_is_taken_over_per_day(problem):
    """Clearances and absorption per hour become per day; k12 = Q/V and k21 = Q/V_1 become Q and V_1."""
    plasma = problem.model.plasma
    same(plasma.is_prescribed, [0, 1, 0, 1])
    same(plasma.absorption_rate, [0.95 * 24, 1, 1, 1])
    same(plasma.clearance, [96, 0, 240, 0])
    same(plasma.central_volume, [230, 1, 20, 1])
    same(plasma.unbound_fraction, [0.05, 1, 1, 1])
    same(plasma.peripheral_clearance, [[72, 0.2 * 230 * 24], [0, 0], [0, 0], [0, 0]])
    same(plasma.peripheral_volume, [[10, 0.2 * 230 / 0.1], [1, 1], [1, 1], [1, 1]])
    same(problem.model.molar_mass, [400, 500, 125, 500])
    same(problem.model.bioavailability, [0.6, 1, 1, 1])


def test_sites_and_delivery_are_taken_over(problem):
    """One number stands for all drugs; what is not named is delivered wholly, at once, unhindered."""
    delivery, sites = problem.model.delivery, problem.model.sites
    same(delivery.delivered_fraction, [[0.5, 1, 0.75, 1], [0.9] * 4])
    same(delivery.equilibration_rate, [[INF, 12, INF, INF], [48] * 4])
    same(delivery.vessel_distance, [50, 0])
    same(delivery.penetration_length, [[80, 100, 200, 100]] * 2)
    same(delivery.barrier_permeability, [[INF] * 4, [2.4, INF, INF, INF]])
    same(delivery.barrier_pump, [[0], [1.5]])
    assert sites.crowding == "logistic"
    same(sites.capacity, [1e5, 5e4])
    same(sites.growth_factor, [1.2, 1])
    same(sites.shielded_share, [0.25, 0])
    same(sites.migration_rate, [[0, 1e-3], [0, 0]])


def test_immune_cells_are_taken_over(problem, tmp_path):
    """Sites scale what comes to them and what is there; drugs that do nothing have constants that do
    nothing; without the table there is none.
    """
    immune = problem.model.immune
    numbers = {
        "influx": 300, "recruitment": 0.05, "recruitment_half": 2e4, "exhaustion": 1e-6,
        "loss_rate": 0.1, "kill_rate": 2e-5, "kill_half": 1e6, "infiltration": [0.8, 1],
        "effectors": [2000, 2500], "suppressor_recruitment": 400, "suppressor_half": 3e4,
        "suppressor_loss_rate": 0.3, "suppression_half": 600, "suppressor_infiltration": [1.5, 1],
        "suppressors": [75, 50], "checkpoint_block": [0, 0, 0, 1],
        "checkpoint_ec50": [1, 1, 1, 0.2], "removal_rate": [0.7, 0, 0, 0],
        "removal_ec50": [0.01, 1, 1, 1],
    }  # fmt: skip
    assert set(numbers) == set(vars(immune))
    for name, values in numbers.items():
        same(getattr(immune, name), values)
    assert study_of(tmp_path, MINIMAL).problem().model.immune is None


FEWEST = """
[immune]
influx_cells_per_day = 30
loss_per_day = 0.1
kill_per_day_per_effector = 1e-3
"""


def test_effectors_start_at_rest_and_suppressors_never_come_by_default(tmp_path):
    """s/d effectors at the start; mass action, no recruitment, no exhaustion, no suppression."""
    study = study_of(tmp_path, MINIMAL + FEWEST)
    assert study.immune.effector_cells == pytest.approx(300)
    immune = study.problem().model.immune
    same(immune.effectors, [300.0])
    same(immune.kill_half, INF)
    same(immune.suppression_half, INF)
    for name in ("recruitment", "exhaustion", "suppressor_recruitment"):
        same(getattr(immune, name), 0.0)
    same(immune.suppressors, [0.0])


def test_patients_may_have_immune_numbers_of_their_own(tmp_path):
    """[immune] is part of the body, as [host] is."""
    given = "[patients.values]\n'immune.kill_per_day_per_effector' = [1e-3, 2e-3]\n"
    problem = study_of(tmp_path, MINIMAL + FEWEST + given).problem()
    assert [float(model.immune.kill_rate) for model in problem.models] == [1e-3, 2e-3]


def test_the_stations_in_the_cell_are_taken_over(problem):
    """Transport, metabolism, targets, signaling, damage, death; constants that do nothing elsewhere."""
    cell = problem.model.cellular
    same(cell.transport.influx_rate, [720, 240, 1440, 1440])
    same(cell.transport.efflux_rate, [720, 480, 1440, 1440])
    same(cell.transport.carrier_share, [1, 0.4, 0, 0])
    same(cell.transport.baseline_pump, [0.5])
    same(cell.transport.vmax, [[2400, 0, 480, 0]])
    same(cell.transport.km, [[5, 1, 50, 1]])
    same(cell.transport.inhibition_ki, [[INF, INF, INF, 0.05]])
    same(cell.metabolism.is_prodrug, [0, 0, 1, 0])
    same(cell.metabolism.activation_rate, [1, 1, 36, 1])
    same(cell.metabolism.active_loss_rate, [1, 1, 12, 1])
    kd = np.full((6, 4), INF)
    kd[0, 0], kd[1, 0], kd[4, 1], kd[2, 2], kd[5, 3] = 0.02, 0.4, 0.01, 1.0, 0.0
    same(cell.target.kd, kd)
    same(cell.target.is_trapped, [0, 1, 0, 0])
    same(cell.target.amount, [0, 0, 0, 0, 0.5, 0])
    assert cell.signaling.combination == "loewe"
    same(cell.signaling.need, [0.8, 1, 1, 1, 1, 1])
    same(cell.damage.is_dna, [0, 0, 1, 0, 0, 0])
    same(cell.damage.alpha, 0.0)
    same(cell.damage.beta, 0.0)
    same(cell.apoptosis.max_death_rate, [1.2, 0, 3, 0, 0, 0])
    same(cell.apoptosis.death_half_odds, [0.5, 1, 1, 1, 1, 1])
    same(cell.apoptosis.death_hill, [2, 1, 1, 1, 1, 1])
    same(cell.apoptosis.is_apoptotic, [1, 1, 0, 1, 1, 1])
    same(cell.apoptosis.is_cycle_specific, [0, 0, 1, 0, 0, 0])
    birth = problem.model.birth
    same(birth.max_inhibition, [0, 0.5, 0, 0, 0.9, 0])
    same(birth.birth_half_odds, [1, 1, 1, 1, 2, 1])
    same(birth.birth_hill, [1, 1, 1, 1, 1.5, 1])
    assert problem.model.mutation.mutating_daughters == "both"
    same(problem.model.mutation.genetic_instability, 2)


WRITES = {
    "pore": {"influx_factor": {("mtx",): 0.1}, "gain": 1e-6},
    "pump_up": {"pump_amount": {("MDR1",): 2.0}, "birth_cost": 0.02},
    "enzyme": {"inactivation_rate": {("fluid",): 6.0}, "gain": 1e-6},
    "store": {"storage_ratio": {("mtx",): 3.0}, "gain": 1e-6},
    "no_activation": {"activation_factor": {("fluid",): 0.2}, "gain": 1e-6},
    "T790M": {"kd_fold": {("tki",): 50.0}, "gain": 1e-7},
    "no_target": {"lost_target": {("mtx",): 1.0}, "gain": 1e-8},
    "copies": {"target_copies": {("mtx",): 0.5}},
    "detour": {"bypass_share": {("EGFR", "MET"): 0.8}, "gain": 1e-6},
    "free_detour": {"bypass_share": {("HER2", None): 0.7}, "gain": 1e-6},
    "mend": {"repair_factor": 3.0, "gain": 1e-6},
    "deaf": {"evaded_share": 0.6, "gain": 1e-6},
    "hidden": {"antigen_factor": 0.3, "ligand_share": 0.4, "gain": 1e-6},
    "tolerant": {
        "division_factor": 0.05,
        "natural_death_factor": 0.5,
        "radiation_factor": 0.7,
        "on_rate": 0.001,
        "off_rate": 0.05,
        "induced_on_rate": {("tki",): 0.2},
        "induced_off_rate": {("blocker",): 0.3},
        "induction_ec50": {("tki",): 0.1, ("blocker",): 2.0},
    },
    "unstable": {"mutation_factor": 100.0, "gain": 1e-5},
    "slow": {"birth_cost": 0.1, "gain": 1e-5},
    "mature": {
        "division_factor": 0.5,
        "asymmetric_probability": 0.1,
        "symmetric_probability": 0.05,
    },
}
AMPLIFIED = {"pump_up": (1e-5, 1e-4, 2e-4), "copies": (1e-3, 1e-3, 2e-3)}


def test_every_mechanism_writes_its_own_row_and_nothing_else(problem):
    """A genome that is neutral but for what the study says, entry by entry."""
    genome, names = problem.model.genome, problem.model.names
    assert genome.names == tuple(WRITES)
    where = {name: i for axis in (names.drugs, names.pumps) for i, name in enumerate(axis)}
    targets = {name: i for i, name in enumerate(names.targets)} | {None: len(names.targets)}
    wanted = type(genome).neutral(genome.names, genome.max_levels, genome.inheritances, 4, 1, 6)
    for j, (name, leaves) in enumerate(WRITES.items()):
        gain = leaves.get("gain", 0.0)
        first, further, loss = AMPLIFIED.get(name, (gain, gain, 0.0))
        wanted.first_gain_probability[j] = first
        wanted.gain_probability[j], wanted.loss_probability[j] = further, loss
        for leaf, values in leaves.items():
            if leaf == "gain":
                continue
            index = targets if leaf in ("target_copies", "lost_target", "bypass_share") else where
            for keys, value in values.items() if isinstance(values, dict) else [((), values)]:
                getattr(wanted, leaf)[(j, *(index[key] for key in keys))] = value
    jax.tree.map(same, genome, wanted)
    assert genome.max_levels == (1, 3, 1, 1, 1, 1, 1, 4, 1, 1, 2, 1, 1, 1, 1, 1, 2)


def test_doses_become_single_administrations(problem):
    """Repeats start at from_day and the last lies before until_day; infusions last hours / 24 days."""
    daily, mixed = problem.arms
    assert daily.name == "daily"
    assert daily.doses == tuple(Dose(0, float(day), 150.0, 0.0, True) for day in range(40))
    cycles = [(0, 7), (14, 21), (28, 35)]
    assert daily.levels == tuple(Level(3, float(a), float(b), 0.5) for a, b in cycles)
    fluid = (Dose(2, 3.0, 500.0, 2 / 24, False), *(Dose(2, day, 100.0) for day in (1.0, 22.0)))
    tki = tuple(Dose(0, float(day), 100.0) for day in range(10, 40, 2))
    assert tuple(dose._replace(duration=round(dose.duration, 12)) for dose in mixed.doses) == tuple(
        dose._replace(duration=round(dose.duration, 12)) for dose in fluid + tki
    )
    assert mixed.levels == (Level(1, 0.0, 5.0, 1.0),)


@pytest.mark.parametrize(
    ("row", "starts"),
    [
        ("every_h = 8", [0, 1 / 3, 2 / 3]),
        ("every_h = 8, until_day = 0.7", [0, 1 / 3, 2 / 3]),
        ("every_h = 8, until_day = 0.5, from_day = 0.25", [0.25]),
        ("every_h = 24", [0]),
        ("every_h = 100", [0]),
        ("day = 0.5", [0.5]),
        ("source = 'nowhere'", [0]),
    ],
)
def test_the_last_dose_comes_before_the_end(row, starts, tmp_path):
    """A dose at the end itself would act after it: it is not given."""
    text = MINIMAL.replace("horizon_days = 10", "horizon_days = 1")
    text = text.replace("[]", f'[{{ drug = "x", amount_mg = 1, {row} }}]')
    text += "[drugs.x]\nmolecular_weight_g_per_mol = 1\n[drugs.x.plasma]\n"
    text += "volume_l = 1\nclearance_l_per_h = 1\n"
    arm = study_of(tmp_path, text).problem().arms[0]
    np.testing.assert_allclose([dose.day for dose in arm.doses], starts, rtol=1e-12)


def test_defaults_follow_from_the_rest_of_the_study(tmp_path):
    """Room for twice the largest tumor foreseen, syncs at most the horizon, logistic with a capacity."""
    for change, room in (
        ("treat_at_cells = 700\nstop_at_cells = 2000", 4000),
        ("treat_at_cells = 700", 1400),
        ("founders = 3000", 6000),
        ("capacity_cells = 9000", 18_000),
        ("founders = 2", 1000),
    ):
        study = study_of(tmp_path, MINIMAL.replace("[tumor]", f"[tumor]\n{change}"))
        assert study.study.max_cells == room
        assert study.tumor.crowding == ("logistic" if "capacity" in change else "none")
    short = study_of(tmp_path, MINIMAL.replace("horizon_days = 10", "horizon_days = 0.1"))
    assert short.study.sync_hours == pytest.approx(2.4)
    for engine in tables.ENGINES:
        study = study_of(tmp_path, MINIMAL, f"study.engine={engine}")
        assert study.study.sync_hours == (6 if engine == "cells" else 24)
    whole = study_of(tmp_path, FULL)
    assert whole.sites["lung"].capacity_cells + whole.sites["brain"].capacity_cells == 150_000
    study = study_of(tmp_path, FULL.replace("max_cells = 5e5\n", ""))
    assert study.study.max_cells == 300_000


def test_the_words_of_study_files_are_those_of_the_model():
    """Study files are checked before the model is imported, so its words stand there twice."""
    assert tables.CROWDINGS == CROWDINGS
    assert tables.COMBINATIONS == COMBINATIONS
    assert tables.MUTATING_DAUGHTERS == MUTATING_DAUGHTERS
    assert tables.SAMPLINGS == SAMPLINGS
    assert tuple(INHERITANCES) == GENOME_INHERITANCES


def test_no_two_mechanisms_or_inheritances_clash():
    """Every mechanism can be inherited in every way: their keys have nothing in common."""
    for mechanism, inheritance in itertools.product(MECHANISMS.values(), INHERITANCES.values()):
        assert not (own_keys(mechanism) & own_keys(inheritance)) - {"max_level"}


def test_checking_a_study_imports_no_jax_and_the_model_no_pydantic():
    """A bad study is refused before the second that JAX takes; engines stay light."""
    for module, absent in (("jaxevo.cli", "jax"), ("jaxevo.engines.base", "pydantic")):
        code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
        root = Path(__file__).parent.parent
        assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_overrides_change_values_before_they_are_checked(tmp_path):
    """TOML on the right, or else a text; rows of arrays by index; whole tables; later ones win."""
    study = study_of(
        tmp_path,
        FULL,
        "study.seed=8",
        "study.seed=9",
        "study.title=a title = without quotes",
        "arms.1.name=other",
        "arms.0.doses.0.amount_mg=75",
        "tumor.mixture=[{ cells = 7 }]",
        "alterations.T790M.kd_fold.tki=60",
        'alterations."T790M".birth_cost = 0.5',
        "sites.lung.delivered_fraction=0.25",
        "drugs.aspirin={ kd_um = {} }",
        "drugs.blocker.plasma={ volume_l = 1, clearance_l_per_h = 1 }",
        "drugs.blocker.molecular_weight_g_per_mol=1",
        "arms.0.doses.1={ drug = 'blocker', amount_mg = 1 }",
    )
    assert (study.study.seed, study.study.title) == (9, "a title = without quotes")
    assert study.arms[1].name == "other"
    assert study.arms[0].doses[0].amount_mg == 75.0
    assert [row.cells for row in study.tumor.mixture] == [7]
    assert study.alterations["T790M"].kd_fold == {"tki": 60.0}
    assert study.alterations["T790M"].birth_cost == 0.5
    assert set(study.sites["lung"].delivered_fraction.values()) == {0.25}
    assert study.drugs["aspirin"].kd_um == {}
    assert study.drugs["blocker"].plasma.volume_l == 1.0


LINES = '''\
# a comment with [brackets] = and "quotes"
a.b = 1
"x.y" = """
two [lines] = "
""" # more
l = [ # one
  1,
  [2, 3], { q = 1, "r s" = [ { t = '#' } ] },
]

[t.u]
v = 1979-05-27 07:32:00
w.z = { k = { m = 1 } }
[[n]] # first
o = 1
[[n]]
[n.p]
o = 2
[["n"  . q]]
[[n.q]]
s = 3
[t]
'''
WHERE = {
    ("a",): 2,
    ("a", "b"): 2,
    ("x.y",): 3,
    ("l",): 6,
    ("l", 0): 7,
    ("l", 1): 8,
    ("l", 1, 1): 8,
    ("l", 2, "q"): 8,
    ("l", 2, "r s", 0, "t"): 8,
    ("t", "u"): 11,
    ("t", "u", "v"): 12,
    ("t", "u", "w", "z", "k", "m"): 13,
    ("n",): 14,
    ("n", 0): 14,
    ("n", 0, "o"): 15,
    ("n", 1): 16,
    ("n", 1, "p", "o"): 18,
    ("n", 1, "q", 0): 19,
    ("n", 1, "q", 1): 20,
    ("n", 1, "q", 1, "s"): 21,
    ("t",): 22,
}


COHORT = """\
[drugs.x]
kd_um = { x = 0.1, y = 2.0 }
effect = { max_death_per_day = 1.0 }
[targets.y]
max_birth_inhibition = 0.5
[patients]
count = 3
[patients.vary]
"tumor.birth_rate_per_day" = { cv = 0.1 }
"drugs.x.kd_um" = { cv = 0.3 }
"drugs.x.effect.max_death_per_day" = { cv = 0.2, below = 1.05 }
"tumor.capacity_cells" = { cv = 0.5 }
"""


def test_each_patient_is_the_study_with_numbers_of_its_own(tmp_path):
    """Factors of the law in `engines.patients`, by the path in the resolved study; a table of numbers
    has one factor; counts stay whole; all else is as in the study.
    """
    text = MINIMAL.replace("[tumor]", "[tumor]\ncapacity_cells = 1e6") + COHORT
    problem = study_of(tmp_path, text, "study.seed=5").problem()
    assert len(problem.models) == len(problem.patients) == 3
    for i, patient in enumerate(problem.models):
        times = lambda name, cv, i=i, **bounds: factor(uniform(5, i, name), cv, **bounds)  # noqa: E731
        same(patient.birth.birth_rate, 1.0 * times("tumor.birth_rate_per_day", 0.1))
        same(patient.cellular.target.kd, np.array([[2.0], [0.1]]) * times("drugs.x.kd_um", 0.3))
        death = times("targets.x.max_death_per_day", 0.2, below=1.05)
        same(patient.cellular.apoptosis.max_death_rate, [0.0, death])
        same(patient.sites.capacity, [round(1e6 * times("sites.tumor.capacity_cells", 0.5))])
        same(patient.death.death_rate, problem.model.death.death_rate)
    few = study_of(tmp_path, text, "study.seed=5", "patients.count=1").problem()
    for one, two in zip(*map(jax.tree.leaves, (few.models, problem.models[:1])), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_patient_that_cannot_be_is_named(tmp_path):
    """A drawn number that no study may have ends in a sentence with the patient, the key and a way out."""
    text = COHORT.replace(
        '"drugs.x.kd_um" = { cv = 0.3 }', '"targets.y.max_birth_inhibition" = { cv = 9 }'
    )
    study = study_of(tmp_path, MINIMAL.replace("[tumor]", "[tumor]\ncapacity_cells = 1e6") + text)
    with pytest.raises(StudyError) as error:
        study_of(tmp_path, study.to_toml(), "patients.count=100").problem()
    expected = (
        r"patient \d+ that \[patients.vary\] draws cannot be: key `targets.y.max_birth_inhibition`: "
        r"expected a number from 0 to 1, got [\d.]+; give what varies an `above` or a `below`"
    )
    assert re.fullmatch(expected, str(error.value))


def test_every_key_is_found_on_its_line():
    """Dotted keys, quoted keys, inline tables, arrays over lines, arrays of tables, texts over lines."""
    lines = locate(LINES)
    assert {path: lines.get(path) for path in WHERE} == WHERE
