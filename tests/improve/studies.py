"""Small studies with [optimize]."""

SMALL = """\
[study]
title = "one drug, few cells"
engine = "clones"
seed = 3
horizon_days = 14

[tumor]
birth_rate_per_day = 0.3
death_rate_per_day = 0.1
founders = 8

[drugs.x]
kd_um = 0.1
effect = { max_death_per_day = 0.6 }

[optimize]
tumors = 400
random_starts = 1
robust_patients = 0

[optimize.drugs.x]
cycle_days = 7
max_um = 0.2
step_um = 0.05

[[arms]]
name = "untreated"
doses = []

[[arms]]
name = "half"
doses = [{ drug = "x", level_um = 0.1 }]
"""

ORAL = """\
[study]
title = "tablets and infusions"
engine = "clones"
horizon_days = 42

[tumor]
birth_rate_per_day = 0.3
death_rate_per_day = 0.1
founders = 100
radiation_alpha_per_gy = 0.3

[drugs.oral]
molecular_weight_g_per_mol = 500
kd_um = 0.1
max_dose_mg = 160
max_cumulative_mg = 5000
effect = { max_death_per_day = 1 }
plasma = { clearance_l_per_h = 10, volume_l = 100, absorption_per_h = 0.5 }

[drugs.infused]
molecular_weight_g_per_mol = 500
kd_um = 0.1
effect = { max_death_per_day = 1 }
plasma = { clearance_l_per_h = 10, volume_l = 100 }

[drugs.other]
kd_um = 0.1

[host]
drugs = { infused = { slope_per_um = 1.0 } }

[optimize]
beside = "standard"
compare = ["standard"]
min_neutrophils_per_l_1e9 = 1.0

[optimize.drugs.oral]
cycle_days = 14
every_h = 24
step_mg = 40

[optimize.drugs.infused]
cycle_days = 21
on_days = [0, 7]
max_mg = 100
infusion_h = 2
max_per_cycle_mg = 150

[[arms]]
name = "standard"
doses = [
    { drug = "oral", amount_mg = 80, every_h = 24 },
    { drug = "infused", amount_mg = 60, cycle_days = 21, infusion_h = 2 },
    { drug = "other", level_um = 0.3, from_day = 7, until_day = 21 },
]
radiation = [{ gray = 2, from_day = 3 }]

[[arms]]
name = "untreated"
doses = []
"""
