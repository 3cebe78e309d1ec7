"""Studies that tests load, and change to make bad ones."""

import os
import subprocess
import sys
from pathlib import Path

from jaxevo.config import Study, load_study

MINIMAL = """\
[study]
title = "birth and death"
horizon_days = 10

[tumor]
birth_rate_per_day = 1.0
death_rate_per_day = 0.5

[[arms]]
name = "untreated"
doses = []
"""

# What a tumor is: every mechanism, every inheritance; each line can be changed on its own.
FULL = """\
[study]
title = "everything at once"
engine = "cells"
seed = 11
replicates = 3
horizon_days = 40
sync_hours = 12.0
max_cells = 5e5
max_alterations = 3
exact_below_cells = 50
grow_with = "clones"
combination = "loewe"
mutating_daughters = "both"
genetic_instability = 2.0
assumed = "no number here is from the literature"

[tumor]
treat_at_cells = 2e4
stop_at_cells = 1e5
birth_rate_per_day = 0.9
death_rate_per_day = 0.1
crowding = "logistic"

[[tumor.mixture]]
cells = 40
genotype = { pump_up = 2, tolerant = 1 }
site = "brain"

[[tumor.mixture]]
cells = 100

[[tumor.immigration]]
events_per_day = 0.01
cells = 2
genotype = { slow = 1 }
site = "lung"

[sites.lung]
capacity_cells = 1e5
growth_factor = 1.2
shielded_share = 0.25
effector_infiltration = 0.8
suppressor_infiltration = 1.5
delivered_fraction = { tki = 0.5, fluid = 0.75 }
equilibration_per_h = { mtx = 0.5 }
vessel_distance_um = 50
half_delivery_cells = inf
migration_per_day = { brain = 1e-3 }

[sites.brain]
capacity_cells = 50_000
delivered_fraction = 0.9
equilibration_per_h = 2
[sites.brain.barrier]
permeability_per_h = { tki = 0.1 }
pump = { MDR1 = 1.5 }

[drugs.tki]
molecular_weight_g_per_mol = 400
kd_um = { EGFR = 0.02, HER2 = 0.4 }
max_dose_mg = 150
uptake = "carrier"
exchange_per_h = 30
penetration_length_um = 80
[drugs.tki.plasma]
clearance_l_per_h = 4
volume_l = 230
absorption_per_h = 0.95
bioavailability = 0.6
unbound_fraction = 0.05
peripheral = [
  { volume_l = 10, clearance_l_per_h = 3 },
  { k12_per_h = 0.2, k21_per_h = 0.1 },
]
source = "nowhere"

[drugs.mtx]
kd_um = 0.01
pool = "trapped"
carrier_share = 0.4
influx_per_h = 10
efflux_per_h = 20
[drugs.mtx.effect]
amount_um = 0.5
max_birth_inhibition = 0.9
birth_half_odds = 2.0
birth_hill = 1.5

[drugs.fluid]
molecular_weight_g_per_mol = 125
target = "DNA"
kd_um = 1.0
prodrug = true
activation_per_h = 1.5
active_loss_per_h = 0.5
[drugs.fluid.plasma]
clearance_l_per_h = 10
volume_l = 20

[drugs.blocker]

[targets.EGFR]
max_death_per_day = 1.2
death_half_odds = 0.5
death_hill = 2.0
need = 0.8

[targets.HER2]
max_birth_inhibition = 0.5

[targets.DNA]
max_death_per_day = 3
apoptotic = false
cycle_specific = true
dna = true

[targets.MET]

[pumps.MDR1]
baseline = 0.5
vmax_um_per_h = { tki = 100, fluid = 20 }
km_um = { tki = 5, fluid = 50 }
inhibited_by_ki_um = { blocker = 0.05 }

[alterations.pore]
mechanism = "reduced_uptake"
inheritance = "mutation"
probability_per_division = 1e-6
influx_factor = { mtx = 0.1 }

[alterations.pump_up]
mechanism = "efflux"
inheritance = "amplification"
max_level = 3
gain_probability_per_division = 1e-4
loss_probability_per_division = 2e-4
first_gain_probability_per_division = 1e-5
birth_cost = 0.02
pump = "MDR1"
amount = 2.0

[alterations.enzyme]
mechanism = "inactivation"
inheritance = "mutation"
probability_per_division = 1e-6
inactivation_per_h = { fluid = 0.25 }

[alterations.store]
mechanism = "sequestration"
inheritance = "mutation"
probability_per_division = 1e-6
stored_ratio = { mtx = 3 }

[alterations.no_activation]
mechanism = "lost_activation"
inheritance = "mutation"
probability_per_division = 1e-6
activation_factor = { fluid = 0.2 }

[alterations.T790M]
mechanism = "altered_target"
inheritance = "mutation"
probability_per_division = 1e-7
kd_fold = { tki = 50 }

[alterations.no_target]
mechanism = "lost_target"
inheritance = "mutation"
probability_per_division = 1e-8
target = "mtx"

[alterations.copies]
mechanism = "target_amplification"
inheritance = "amplification"
max_level = 4
gain_probability_per_division = 1e-3
loss_probability_per_division = 2e-3
target = "mtx"
copies = 0.5

[alterations.detour]
mechanism = "bypass"
inheritance = "mutation"
probability_per_division = 1e-6
target = "EGFR"
share = 0.8
through = "MET"

[alterations.free_detour]
mechanism = "bypass"
inheritance = "mutation"
probability_per_division = 1e-6
target = "HER2"
share = 0.7

[alterations.mend]
mechanism = "repair"
inheritance = "mutation"
max_level = 2
probability_per_division = 1e-6
repair_factor = 3

[alterations.deaf]
mechanism = "apoptosis_evasion"
inheritance = "mutation"
probability_per_division = 1e-6
evaded_share = 0.6

[alterations.hidden]
mechanism = "immune_evasion"
inheritance = "mutation"
probability_per_division = 1e-6
antigen_factor = 0.3
ligand_share = 0.4

[alterations.tolerant]
mechanism = "quiescence"
inheritance = "epigenetic"
on_per_day = 0.001
off_per_day = 0.05
induced_on_per_day = { tki = 0.2 }
induced_off_per_day = { blocker = 0.3 }
induction_ec50_um = { tki = 0.1, blocker = 2 }
division_factor = 0.05
natural_death_factor = 0.5
radiation_factor = 0.7

[alterations.unstable]
mechanism = "genetic_instability"
inheritance = "mutation"
probability_per_division = 1e-5
mutation_factor = 100

[alterations.slow]
mechanism = "fitness"
inheritance = "mutation"
probability_per_division = 1e-5
birth_cost = 0.1

[alterations.mature]
mechanism = "quiescence"
inheritance = "hierarchy"
max_level = 2
asymmetric_probability_per_division = 0.1
symmetric_probability_per_division = 0.05
division_factor = 0.5

[immune]
influx_cells_per_day = 300
loss_per_day = 0.1
kill_per_day_per_effector = 2e-5
kill_half_cells = 1e6
recruitment_per_day = 0.05
recruitment_half_cells = 2e4
exhaustion_per_day_per_cell = 1e-6
effector_cells = 2500
checkpoint_ec50_um = { blocker = 0.2 }

[immune.suppressors]
recruitment_cells_per_day = 400
recruitment_half_cells = 3e4
loss_per_day = 0.3
suppression_half_cells = 600
suppressor_cells = 50
removed_per_day = { tki = 0.7 }
removal_ec50_um = { tki = 0.01 }

[patients]
count = 1

[patients.vary]
"tumor.birth_rate_per_day" = { cv = 0.1, above = 0.8, below = 1.0 }
"drugs.tki.kd_um" = { cv = 0.3 }
"drugs.tki.plasma.clearance_l_per_h" = { cv = 0.3 }
"drugs.tki.plasma.peripheral.0.volume_l" = { cv = 0.3 }
"drugs.mtx.effect.max_birth_inhibition" = { cv = 0.2, below = 1 }
"sites.lung.capacity_cells" = { cv = 0.5 }

[relapse]
kind = "first_passage"
detection_cells = 1e7
assessed_from_day = 5
detection_rate_per_day = 0.5

[screen]
order = 1
exposure_days = 2
replicates = 5

[screen.agents.tki]
level_um = [0.1, 1.0]

[screen.lines]
count = 2
cells = 10
grown_to_cells = 2000

[optimize]
verdict_patients = 1

[optimize.drugs.tki]
cycle_days = 5
max_mg = 60

[record]
every_days = 0.5
clones_every_days = 2.0
snapshot_days = [0, 10, 40]
concentration_every_h = 2
max_classes = 16
max_clones = 5

[[arms]]
name = "daily"
doses = [
  { drug = "tki", amount_mg = 150, every_h = 24 },
  { drug = "blocker", level_um = 0.5, days = 7, every_days = 14 },
]

[[arms]]
name = "mixed"
doses = [
  { drug = "fluid", amount_mg = 500, day = 3, infusion_h = 2 },
  { drug = "fluid", amount_mg = 100, every_h = 504, from_day = 1, until_day = 30 },
  { drug = "mtx", level_um = 1.0, from_day = 0, until_day = 5 },
  { drug = "tki", amount_mg = 100, every_h = 48, from_day = 10, route = "bolus" },
]
"""

# What a physician does: all tables and keys that the full study lacks.
TRIAL = """\
[study]
title = "a small trial"
engine = "clones"
seed = 9
horizon_days = 168
[tumor]
mixture = [{ cells = 1e9 }, { cells = 2e4, genotype = { R = 1 } }]
birth_rate_per_day = 0.2
death_rate_per_day = 0.1
stop_at_cells = 1e12
[drugs.x]
kd_um = 0.5
effect = { max_death_per_day = 0.3 }
[alterations.R]
mechanism = "altered_target"
inheritance = "mutation"
probability_per_division = 1e-7
kd_fold = { x = 50 }
[visits]
every_days = 14
detection_cells = 1e7
noise_cv = 0.1
[patients]
count = 12
[patients.vary]
"tumor.birth_rate_per_day" = { cv = 0.1 }
"drugs.x.kd_um" = { cv = 0.5 }
[trial]
pairing = "both"
[[arms]]
name = "low"
doses = [{ drug = "x", level_um = 0.4 }]
[[arms]]
name = "high"
doses = [{ drug = "x", level_um = 1 }]
"""

CARE = """\
[study]
title = "a trial"
engine = "clones"
seed = 5
horizon_days = 84
first_weekday = "Wed"

[tumor]
founders = 1e6
birth_rate_per_day = 0.2
death_rate_per_day = 0.1
radiation_alpha_per_gy = 0.3
radiation_beta_per_gy2 = 0.03

[sites.breast]
migration_per_day = { liver = 1e-4 }
[sites.liver]

[drugs.taxane]
molecular_weight_g_per_mol = 808
kd_um = 0.01
effect = { max_death_per_day = 0.5 }
max_dose_mg = 200
max_cumulative_mg = 1000
max_cumulative_mg_per_m2 = 600
[drugs.taxane.plasma]
clearance_l_per_h = 38
volume_l = 7.4

[drugs.gcsf]
molecular_weight_g_per_mol = 18800
[drugs.gcsf.plasma]
clearance_l_per_h = 1
volume_l = 5

[drugs.pill]

[pumps.MDR1]
vmax_um_per_h = { taxane = 10 }
km_um = { taxane = 1 }

[alterations.R]
mechanism = "altered_target"
inheritance = "mutation"
probability_per_division = 1e-7
kd_fold = { taxane = 50 }

[visits]
every_days = 7
scan_every_days = 28
detection_cells = 1e5
noise_cv = 0.1
sequencing_fraction = 0.05
composition_cells = 1e3

[trial]
pairing = "paired"
control = "standard"
progression = "ratio"
progression_ratio = 2
confirm_days = 28
horizon_day = 80

[host]
neutrophils_per_l_1e9 = 4.5
transit_h = 96
feedback = 0.2
body_surface_m2 = 1.8
marrow_pump = { MDR1 = 0.5 }
transduced_share = 0.2
transduced_pump = { MDR1 = 3 }
[host.drugs.taxane]
slope_per_um = 8.58
[host.drugs.gcsf]
growth_gain = 2
growth_half_um = 0.001

[optimize]
objective = "relapse_free_days"
over = "worst"
worst_share = 0.5
patients = 3
beside = "standard"
min_neutrophils_per_l_1e9 = 0.8
max_together = 2
random_starts = 1
compare = ["standard", "adaptive"]
tumors = 20
cells_tumors = 4
robust_cv = 0.25
robust_patients = 3

[optimize.drugs.taxane]
cycle_days = 21
max_mg = 150
step_mg = 10
on_days = [0, 7]
from_day = 1
until_day = 70
infusion_h = 3
route = "infusion"
max_per_cycle_mg = 200
max_total_mg = 500

[optimize.drugs.gcsf]
cycle_days = 28
max_mg = 0.5
every_h = 48

[optimize.drugs.pill]
cycle_days = 14
max_um = 2
step_um = 0.5

[patients]
count = 4
sampling = "sobol"
correlations = [["tumor.birth_rate_per_day", "host.feedback", 0.5]]

[patients.vary]
"tumor.birth_rate_per_day" = { cv = 0.1 }
"host.feedback" = { cv = 0.2 }

[patients.values]
"host.body_surface_m2" = [1.6, 1.7, 1.8, 1.9]

[[arms]]
name = "standard"
doses = [
  { drug = "taxane", amount_mg_per_m2 = 75, loading_mg_per_m2 = 100, cycle_days = 21, cycles = 4 },
  { drug = "taxane", amount_mg = 10, loading_mg = 20, cycle_days = 28, on_days = [1, 8], until_day = 30 },
  { drug = "gcsf", amount_mg = 0.3, weekdays = ["Tue", "Thu"], from_day = 4 },
]

[[arms.radiation]]
gray = 2
from_day = 10
weekdays = ["Mon", "Tue", "Wed", "Thu", "Fri"]
fractions = 7

[[arms.radiation]]
gray = 8
every_days = 7
fractions = 2

[[arms.surgery]]
day = 3
removed_fraction = { breast = 0.99 }

[[arms]]
name = "adaptive"
transduced_share = 0.4
doses = [{ drug = "taxane", amount_mg_per_m2 = 100, cycle_days = 21 }]
policy = { rule = "adaptive", stop = 0.4 }
safety = { rule = "hold_and_reduce", supportive = ["gcsf"], reduction = 0.2 }

[[arms]]
name = "personalized"
doses = [{ drug = "gcsf", amount_mg = 0.3, every_h = 24 }]
policy = { rule = "personalized", against = { R = "second" }, default = "first" }

[[arms.lines]]
name = "first"
doses = [{ drug = "taxane", amount_mg = 60, weekdays = ["Wed"] }]

[[arms.lines]]
name = "second"
doses = [{ drug = "pill", level_um = 1 }]
"""


def write(folder: Path, text: str) -> Path:
    """The text as a study file."""
    path = folder / "study.toml"
    path.write_text(text)
    return path


def study_of(folder: Path, text: str, *overrides: str) -> Study:
    """The study that the text says."""
    return load_study(write(folder, text), overrides)


def environment() -> dict[str, str]:
    """Environment of a process that runs this jaxevo on the CPU."""
    root = str(Path(__file__).parent.parent)
    return os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `jaxevo` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "jaxevo", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env=environment(),
        check=False,
    )
