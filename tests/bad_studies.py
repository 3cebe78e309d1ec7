"""Bad studies: one change to `studies.FULL` each, and the sentence that must refuse it."""

from typing import NamedTuple


class Bad(NamedTuple):
    """Replace `old` by `new`; the sentence is `FILE:LINE: ` + `sentence`, LINE being that of `line`."""

    name: str
    old: str
    new: str
    sentence: str
    line: str | None = None  # a part of the line that the sentence names; else the first of `new`


NUMBERS = (
    Bad(
        "true for a number",
        "birth_rate_per_day = 0.9",
        "birth_rate_per_day = true",
        "key `tumor.birth_rate_per_day`: expected a number >= 0 per day, got true",
    ),
    Bad(
        "a word for a number",
        "birth_rate_per_day = 0.9",
        'birth_rate_per_day = "fast"',
        'key `tumor.birth_rate_per_day`: expected a number >= 0 per day, got "fast"',
    ),
    Bad(
        "a text with a unit",
        "clearance_l_per_h = 4",
        'clearance_l_per_h = "4 L/h"',
        'key `drugs.tki.plasma.clearance_l_per_h`: expected a number >= 0 L per hour, got "4 L/h"',
    ),
    Bad(
        "a date for a number",
        "death_rate_per_day = 0.1",
        "death_rate_per_day = 1979-05-27",
        "key `tumor.death_rate_per_day`: expected a number >= 0 per day, "
        "got the date or time 1979-05-27",
    ),
    Bad(
        "a time for a number",
        "horizon_days = 40",
        "horizon_days = 07:32:00",
        "key `study.horizon_days`: expected a number > 0 days, got the date or time 07:32:00",
    ),
    Bad(
        "an array for a number",
        "beta_per_gy2 = 0.03",
        "beta_per_gy2 = [0.03]",
        "key `radiation.beta_per_gy2`: expected a number >= 0, got an array of 1",
    ),
    Bad(
        "a table for a number",
        "growth_factor = 1.2",
        "growth_factor = { lung = 1.2 }",
        "key `sites.lung.growth_factor`: expected a number >= 0, got a table",
    ),
    Bad(
        "nan",
        "baseline = 0.5",
        "baseline = nan",
        "key `pumps.MDR1.baseline`: expected a number >= 0, got nan",
    ),
    Bad(
        "infinity where there is none",
        "volume_l = 230",
        "volume_l = inf",
        "key `drugs.tki.plasma.volume_l`: expected a number > 0 L, got inf",
    ),
    Bad(
        "a number too large for 64 bits",
        "volume_l = 230",
        "volume_l = 1e400",
        "key `drugs.tki.plasma.volume_l`: expected a number > 0 L, got inf",
    ),
    Bad(
        "a huge integer for a number",
        "volume_l = 230",
        f"volume_l = 1{400 * '0'}",
        "key `drugs.tki.plasma.volume_l`: expected a number > 0 L, got an integer of 1329 bits",
    ),
    Bad(
        "a negative rate",
        "on_per_day = 0.001",
        "on_per_day = -0.001",
        "key `alterations.tolerant.on_per_day`: expected a number >= 0 per day, got -0.001",
    ),
    Bad(
        "a volume of zero",
        "volume_l = 230",
        "volume_l = 0",
        "key `drugs.tki.plasma.volume_l`: expected a number > 0 L, got 0",
    ),
    Bad(
        "a probability over 1",
        "probability_per_division = 1e-7",
        "probability_per_division = 1.5",
        "key `alterations.T790M.probability_per_division`: expected a number from 0 to 1 "
        "(a probability per division), got 1.5",
    ),
    Bad(
        "a share over 1",
        "shielded_share = 0.25",
        "shielded_share = 25",
        "key `sites.lung.shielded_share`: expected a number from 0 to 1, got 25",
    ),
    Bad(
        "a need of zero",
        "need = 0.8",
        "need = 0",
        "key `targets.EGFR.need`: expected a number > 0 and <= 1, got 0",
    ),
    Bad(
        "repair below 1",
        "repair_factor = 3",
        "repair_factor = 0.3",
        "key `alterations.mend.repair_factor`: expected a number >= 1, got 0.3",
    ),
    Bad(
        "a horizon of zero",
        "horizon_days = 40",
        "horizon_days = 0",
        "key `study.horizon_days`: expected a number > 0 days, got 0",
    ),
    Bad(
        "a barrier that nothing passes",
        "permeability_per_h = { tki = 0.1 }",
        "permeability_per_h = 0",
        "key `sites.brain.barrier.permeability_per_h`: expected a number > 0 per hour, or inf, got 0",
    ),
    Bad(
        "a number for some drugs that is out of range",
        "delivered_fraction = { tki = 0.5, fluid = 0.75 }",
        "delivered_fraction = { tki = -1, fluid = 0.75 }",
        "key `sites.lung.delivered_fraction.tki`: expected a number >= 0, got -1",
    ),
    Bad(
        "a word for numbers by drug",
        "kd_fold = { tki = 50 }",
        'kd_fold = "high"',
        "key `alterations.T790M.kd_fold`: expected a table that gives each drug a number > 0, "
        'got "high"',
    ),
    Bad(
        "a word for a number or numbers by drug",
        "equilibration_per_h = 2",
        "equilibration_per_h = true",
        "key `sites.brain.equilibration_per_h`: expected a number > 0 per hour, or inf, or a table "
        "that gives one to each drug, got true",
    ),
)

COUNTS = (
    Bad(
        "a count of replicates that is no integer",
        "replicates = 3",
        "replicates = 1e3",
        "key `study.replicates`: expected an integer from 1 to 10000000, got 1000.0",
    ),
    Bad(
        "no replicates",
        "replicates = 3",
        "replicates = 0",
        "key `study.replicates`: expected an integer from 1 to 10000000, got 0",
    ),
    Bad(
        "too many replicates",
        "replicates = 3",
        "replicates = 1_000_000_000_000",
        "key `study.replicates`: expected an integer from 1 to 10000000, got 1000000000000",
    ),
    Bad(
        "a negative seed",
        "seed = 11",
        "seed = -1",
        "key `study.seed`: expected an integer from 0 to 9223372036854775807, got -1",
    ),
    Bad(
        "a seed of 2**63",
        "seed = 11",
        "seed = 9223372036854775808",
        "key `study.seed`: expected an integer from 0 to 9223372036854775807, "
        "got 9223372036854775808",
    ),
    Bad(
        "a seed in quotes",
        "seed = 11",
        'seed = "11"',
        'key `study.seed`: expected an integer from 0 to 9223372036854775807, got "11"',
    ),
    Bad(
        "a seed that is true",
        "seed = 11",
        "seed = true",
        "key `study.seed`: expected an integer from 0 to 9223372036854775807, got true",
    ),
    Bad(
        "half a cell",
        "treat_at_cells = 2e4",
        "treat_at_cells = 20000.5",
        "key `tumor.treat_at_cells`: expected a whole number of cells from 1 to 1e+18, got 20000.5",
    ),
    Bad(
        "detection below one cell",
        "treat_at_cells = 2e4",
        "treat_at_cells = 0",
        "key `tumor.treat_at_cells`: expected a whole number of cells from 1 to 1e+18, got 0",
    ),
    Bad(
        "true for a count of cells",
        "stop_at_cells = 1e5",
        "stop_at_cells = true",
        "key `tumor.stop_at_cells`: expected a whole number of cells from 1 to 1e+18, got true",
    ),
    Bad(
        "nan cells",
        "capacity_cells = 50_000",
        "capacity_cells = nan",
        "key `sites.brain.capacity_cells`: expected a whole number of cells from 1 to 1e+18, or inf, "
        "got nan",
    ),
    Bad(
        "infinitely many cells to start from",
        "cells = 40",
        "cells = inf",
        "key `tumor.mixture.0.cells`: expected a whole number of cells from 1 to 1e+18, got inf",
    ),
    Bad(
        "a level in quotes",
        "genotype = { pump_up = 2, tolerant = 1 }",
        'genotype = { pump_up = "2", tolerant = 1 }',
        "key `tumor.mixture.0.genotype.pump_up`: expected an integer from 0 to 4294967296, "
        'got "2"',
    ),
    Bad(
        "a level of zero at most",
        "max_level = 3",
        "max_level = 0",
        "key `alterations.pump_up.max_level`: expected an integer from 1 to 4294967296, got 0",
    ),
    Bad(
        "more than can be counted in 64 bits",
        "max_cells = 5e5",
        "max_cells = 1e19",
        "key `study.max_cells`: expected a whole number of cells from 1 to 1e+18, got 1e+19",
    ),
)

KEYS = (
    Bad(
        "a misspelled key",
        "birth_rate_per_day = 0.9",
        "birth_rat_per_day = 0.9",
        "key `tumor.birth_rat_per_day` is unknown; did you mean `birth_rate_per_day`?",
    ),
    Bad(
        "a misspelled table",
        "[radiation]",
        "[radiations]",
        "key `radiations` is unknown; did you mean `radiation`?",
    ),
    Bad(
        "a misspelled key in an array of inline tables",
        "amount_mg = 150, every_h = 24 }",
        "amount_mg = 150, evry_h = 24 }",
        "key `arms.0.doses.0.evry_h` is unknown; did you mean `every_h`?",
        line='{ drug = "tki", amount_mg = 150, evry_h = 24 }',
    ),
    Bad(
        "a misspelled key in a dotted key",
        "every_days = 0.5",
        "every_day = 0.5",
        "key `record.every_day` is unknown; did you mean `every_days`?",
    ),
    Bad(
        "a key that resembles nothing",
        "seed = 11",
        "qqq = 11",
        "key `study.qqq` is unknown; known here: `source`, `assumed`, `title`, `engine`, `seed`, "
        "`replicates`, `horizon_days`, `sync_hours`, ...",
    ),
    Bad(
        "a key that belongs to another mechanism",
        "kd_fold = { tki = 50 }",
        'kd_fold = { tki = 50 }\npump = "MDR1"',
        'key `alterations.T790M.pump` belongs to "efflux", not to "altered_target" with "mutation"',
        line='pump = "MDR1"',
    ),
    Bad(
        "a key that several other mechanisms take",
        "kd_fold = { tki = 50 }",
        'target = "EGFR"\nkd_fold = { tki = 50 }',
        'key `alterations.T790M.target` belongs to "lost_target" or "target_amplification" or '
        '"bypass", not to "altered_target" with "mutation"',
    ),
    Bad(
        "a key that belongs to another inheritance",
        "on_per_day = 0.001",
        "probability_per_division = 0.001",
        'key `alterations.tolerant.probability_per_division` belongs to "mutation", not to '
        '"quiescence" with "epigenetic"',
    ),
    Bad(
        "a misspelled key of an alteration",
        "kd_fold = { tki = 50 }",
        "kd_folds = { tki = 50 }",
        "key `alterations.T790M.kd_folds` is unknown; did you mean `kd_fold`?",
    ),
    Bad(
        "an unknown mechanism",
        'mechanism = "efflux"',
        'mechanism = "eflux"',
        'key `alterations.pump_up.mechanism`: expected the name of a mechanism, got "eflux"; '
        "did you mean `efflux`?",
    ),
    Bad(
        "an unknown inheritance",
        'inheritance = "epigenetic"',
        'inheritance = "hierarchy"',
        "key `alterations.tolerant.inheritance`: expected the name of an inheritance, "
        'got "hierarchy"; known here: `mutation`, `amplification`, `epigenetic`',
    ),
    Bad(
        "a missing mechanism",
        'mechanism = "fitness"\n',
        "",
        'key `alterations.slow.mechanism` is missing; expected "reduced_uptake" or "efflux" or '
        '"inactivation" or "sequestration" or "lost_activation" or "altered_target" or '
        '"lost_target" or "target_amplification" or "bypass" or "repair" or "apoptosis_evasion" or '
        '"quiescence" or "genetic_instability" or "fitness"',
        line="[alterations.slow]",
    ),
    Bad(
        "a mechanism without its key",
        "evaded_share = 0.6\n",
        "",
        "key `alterations.deaf.evaded_share` is missing; expected a number from 0 to 1",
        line="[alterations.deaf]",
    ),
    Bad(
        "an amplification without a highest level",
        "max_level = 4\n",
        "",
        "key `alterations.copies.max_level` is missing; expected an integer from 1 to 4294967296",
        line="[alterations.copies]",
    ),
    Bad(
        "a missing birth rate",
        "birth_rate_per_day = 0.9\n",
        "",
        "key `tumor.birth_rate_per_day` is missing; expected a number >= 0 per day",
        line="[tumor]",
    ),
    Bad(
        "a missing title",
        'title = "everything at once"\n',
        "",
        "key `study.title` is missing; expected a text",
        line="[study]",
    ),
    Bad(
        "a dose of no drug",
        '{ drug = "blocker", level_um = 0.5, ',
        "{ level_um = 0.5, ",
        "key `arms.0.doses.1.drug` is missing; expected a text",
        line="{ level_um = 0.5, days = 7, every_days = 14 }",
    ),
    Bad(
        "an arm without doses",
        '[[arms]]\nname = "daily"',
        '[[arms]]\nname = "none"\n[[arms]]\nname = "daily"',
        "key `arms.0.doses` is missing; expected an array of tables",
        line="[[arms]]",
    ),
    Bad(
        "an unknown engine",
        'engine = "cells"',
        'engine = "clones"',
        'key `study.engine`: expected "cells", got "clones"',
    ),
    Bad(
        "an unknown combination",
        'combination = "loewe"',
        'combination = "hsa"',
        'key `study.combination`: expected "bliss" or "loewe", got "hsa"',
    ),
    Bad(
        "an unknown crowding",
        'crowding = "logistic"',
        'crowding = "Logistic"',
        'key `tumor.crowding`: expected "none" or "logistic" or "gompertz", got "Logistic"',
    ),
    Bad(
        "an empty title",
        'title = "everything at once"',
        'title = " "',
        'key `study.title`: expected a text, got " "',
    ),
    Bad(
        "1 for true",
        "prodrug = true",
        "prodrug = 1",
        "key `drugs.fluid.prodrug`: expected true or false, got 1",
    ),
    Bad(
        "a number for a table",
        "[drugs.blocker]",
        "[drugs]\nblocker = 3",
        "key `drugs.blocker`: expected a table, got 3",
        line="blocker = 3",
    ),
    Bad(
        "a table for an array of inline tables",
        "peripheral = [",
        "peripheral = { }\nsnapshot = [",
        "key `drugs.tki.plasma.snapshot` is unknown; known here: `source`, `assumed`, "
        "`clearance_l_per_h`, `volume_l`, `absorption_per_h`, `bioavailability`, "
        "`unbound_fraction`, `peripheral`",
        line="snapshot = [",
    ),
    Bad(
        "an alteration that is a number",
        "[alterations.slow]",
        "[alterations]\nquick = 1\n[alterations.slow]",
        "key `alterations.quick`: expected a table, got 1",
        line="quick = 1",
    ),
)

NAMES = (
    Bad(
        "an unknown drug in an arm",
        'drug = "mtx", level_um = 1.0',
        'drug = "mtxx", level_um = 1.0',
        'key `arms.1.doses.2.drug`: expected the name of a drug, got "mtxx"; did you mean `mtx`?',
    ),
    Bad(
        "an unknown drug in a mechanism",
        "kd_fold = { tki = 50 }",
        "kd_fold = { tki2 = 50 }",
        "key `alterations.T790M.kd_fold.tki2` is no drug of the study; did you mean `tki`?",
    ),
    Bad(
        "an unknown drug that induces",
        "induced_on_per_day = { tki = 0.2 }",
        "induced_on_per_day = { TKI = 0.2 }",
        "key `alterations.tolerant.induced_on_per_day.TKI` is no drug of the study; "
        "did you mean `tki`?",
    ),
    Bad(
        "an unknown drug at a site",
        "equilibration_per_h = { mtx = 0.5 }",
        "equilibration_per_h = { aspirin = 0.5 }",
        "key `sites.lung.equilibration_per_h.aspirin` is no drug of the study; known here: `tki`, "
        "`mtx`, `fluid`, `blocker`",
    ),
    Bad(
        "an unknown drug at the barrier",
        "permeability_per_h = { tki = 0.1 }",
        "permeability_per_h = { tky = 0.1 }",
        "key `sites.brain.barrier.permeability_per_h.tky` is no drug of the study; "
        "did you mean `tki`?",
    ),
    Bad(
        "an unknown inhibitor of a pump",
        "inhibited_by_ki_um = { blocker = 0.05 }",
        "inhibited_by_ki_um = { blocke = 0.05 }",
        "key `pumps.MDR1.inhibited_by_ki_um.blocke` is no drug of the study; "
        "did you mean `blocker`?",
    ),
    Bad(
        "an unknown pump in a mechanism",
        'pump = "MDR1"',
        'pump = "MDR2"',
        'key `alterations.pump_up.pump`: expected the name of a pump, got "MDR2"; '
        "did you mean `MDR1`?",
    ),
    Bad(
        "an unknown pump at the barrier",
        "pump = { MDR1 = 1.5 }",
        "pump = { BCRP = 1.5 }",
        "key `sites.brain.barrier.pump.BCRP` is no pump of the study; known here: `MDR1`",
    ),
    Bad(
        "an unknown target of a drug",
        'target = "DNA"',
        'target = "DNS"',
        'key `drugs.fluid.target`: expected the name of a target, got "DNS"; did you mean `DNA`?',
    ),
    Bad(
        "an unknown target in a table of constants",
        "kd_um = { EGFR = 0.02, HER2 = 0.4 }",
        "kd_um = { EGFR = 0.02, HER3 = 0.4 }",
        "key `drugs.tki.kd_um.HER3` is no target of the study; did you mean `HER2`?",
    ),
    Bad(
        "an unknown target of a mechanism",
        'target = "HER2"',
        'target = "ERBB2"',
        'key `alterations.free_detour.target`: expected the name of a target, got "ERBB2"; '
        "known here: `EGFR`, `HER2`, `DNA`, `MET`, `mtx`, `blocker`",
    ),
    Bad(
        "an unknown route of a bypass",
        'through = "MET"',
        'through = "MEK"',
        'key `alterations.detour.through`: expected the name of a target, got "MEK"; '
        "did you mean `MET`?",
    ),
    Bad(
        "a bypass through its own target",
        'through = "MET"',
        'through = "EGFR"',
        "key `alterations.detour.through` is the target that it bypasses; expected another",
    ),
    Bad(
        "an unknown site of founders",
        'site = "brain"',
        'site = "brian"',
        'key `tumor.mixture.0.site`: expected the name of a site, got "brian"; '
        "did you mean `brain`?",
    ),
    Bad(
        "an unknown site to migrate to",
        "migration_per_day = { brain = 1e-3 }",
        "migration_per_day = { brain = 1e-3, bone = 1e-3 }",
        "key `sites.lung.migration_per_day.bone` is no site of the study; known here: `lung`, "
        "`brain`",
    ),
    Bad(
        "migration to where a cell is",
        "migration_per_day = { brain = 1e-3 }",
        "migration_per_day = { brain = 1e-3, lung = 1e-3 }",
        "key `sites.lung.migration_per_day.lung` leads back to the same site",
    ),
    Bad(
        "a site that nothing can reach",
        "[sites.brain]",
        "[sites.bone]\n[sites.brain]",
        "key `sites.bone` is a site that no cell can reach; expected migration_per_day to it from a "
        "site with cells, or cells there in tumor.mixture",
    ),
    Bad(
        "an unknown alteration of founders",
        "genotype = { pump_up = 2, tolerant = 1 }",
        "genotype = { pump_down = 2, tolerant = 1 }",
        "key `tumor.mixture.0.genotype.pump_down` is no alteration of the study; "
        "did you mean `pump_up`?",
    ),
    Bad(
        "a level over the highest",
        "genotype = { pump_up = 2, tolerant = 1 }",
        "genotype = { pump_up = 4, tolerant = 1 }",
        "key `tumor.mixture.0.genotype.pump_up`: expected a level from 0 to 3, got 4",
    ),
    Bad(
        "two arms of one name",
        'name = "mixed"',
        'name = "daily"',
        'key `arms.1.name`: expected a name of its own, got "daily", which arms.0 has',
    ),
    Bad(
        "a name with a line break",
        'name = "mixed"',
        'name = "mi\\nxed"',
        'key `arms.1.name`: expected a name of 1 to 60 printable characters, got "mi\\nxed"',
    ),
    Bad(
        "a name that is too long",
        "[alterations.slow]",
        f"[alterations.{61 * 's'}]",
        f"key `alterations.{61 * 's'}`: expected a name of 1 to 60 printable characters, "
        f'got "{40 * "s"}..."',
    ),
    Bad(
        "an empty name",
        "[alterations.slow]",
        '[alterations.""]',
        'key `alterations.""`: expected a name of 1 to 60 printable characters, got ""',
    ),
    Bad(
        "a target that no drug binds",
        "[targets.MET]",
        "[targets.MET]\n[targets.KRAS]",
        "key `targets.KRAS` is a target that no drug binds and no bypass goes through; "
        'expected target = "KRAS" or kd_um = { KRAS = ... } in a drug',
        line="[targets.KRAS]",
    ),
)

RULES = (
    Bad(
        "founders and a mixture",
        "treat_at_cells = 2e4",
        "founders = 5\ntreat_at_cells = 2e4",
        "key `tumor.mixture` stands beside founders; expected one of the two",
        line="[[tumor.mixture]]",
    ),
    Bad(
        "initial cells over the room",
        "cells = 100",
        "cells = 600_000",
        "key `tumor.mixture`: expected at most max_cells (500000) cells to start from, got 600040",
        line="[[tumor.mixture]]",
    ),
    Bad(
        "treatment before the start",
        "treat_at_cells = 2e4",
        "treat_at_cells = 140",
        "key `tumor.treat_at_cells`: expected more cells than the tumor starts from (140), got 140",
    ),
    Bad(
        "stopping before treatment",
        "stop_at_cells = 1e5",
        "stop_at_cells = 2e4",
        "key `tumor.stop_at_cells`: expected more cells than treat_at_cells (20000), got 20000",
    ),
    Bad(
        "stopping beyond the room",
        "stop_at_cells = 1e5",
        "stop_at_cells = 1e6",
        "key `tumor.stop_at_cells`: expected at most max_cells (500000), got 1000000",
    ),
    Bad(
        "growth that is slower than death",
        "birth_rate_per_day = 0.9",
        "birth_rate_per_day = 0.04",
        "key `tumor.treat_at_cells` can never be reached: expected birth_rate_per_day > 0.05, the "
        "death rate, got 0.04",
        line="treat_at_cells = 2e4",
    ),
    Bad(
        "growth that levels off too early",
        "capacity_cells = 1e5",
        "capacity_cells = 50",
        "key `tumor.treat_at_cells` can never be reached: expected fewer cells than growth levels "
        "off at (3.5),",
        line="treat_at_cells = 2e4",
    ),
    Bad(
        "a capacity of the tumor beside sites",
        'crowding = "logistic"',
        "capacity_cells = 1e5",
        "key `tumor.capacity_cells` belongs to a study without sites; expected capacity_cells in the "
        "[sites.X] tables",
    ),
    Bad(
        "a capacity that gompertz cannot use",
        'crowding = "logistic"',
        'crowding = "gompertz"\n[sites.bone]\ncapacity_cells = 1',
        "key `sites.bone` is a site that no cell can reach; expected migration_per_day to it from a "
        "site with cells, or cells there in tumor.mixture",
        line="[sites.bone]",
    ),
    Bad(
        "target and several constants",
        "max_dose_mg = 150",
        'target = "EGFR"',
        "key `drugs.tki.target` stands beside a kd_um for each target; expected one",
    ),
    Bad(
        "an effect of a drug whose target has a table",
        "[drugs.blocker]",
        "[drugs.blocker.effect]\n[targets.blocker]",
        "key `drugs.blocker.effect` belongs to a target; expected [targets.blocker]",
        line="[drugs.blocker.effect]",
    ),
    Bad(
        "an effect of a drug that binds another target",
        "[drugs.fluid.plasma]",
        "[drugs.fluid.effect]\n[drugs.fluid.plasma]",
        "key `drugs.fluid.effect` belongs to a target; expected [targets.DNA]",
    ),
    Bad(
        "a trapped pool without target in it",
        "amount_um = 0.5\n",
        "",
        'key `drugs.mtx.pool` is "trapped", which needs amount_um > 0 of target mtx',
        line='pool = "trapped"',
    ),
    Bad(
        "a trapped pool without a constant",
        "kd_um = 0.01\n",
        "",
        'key `drugs.mtx.pool` is "trapped", which needs kd_um > 0',
        line='pool = "trapped"',
    ),
    Bad(
        "a trapped pool of two targets",
        "max_dose_mg = 150",
        'pool = "trapped"',
        'key `drugs.tki.pool`: expected "open", since the drug binds 2 targets and a trapped pool '
        "needs one",
    ),
    Bad(
        "two ways of uptake",
        'uptake = "carrier"',
        'uptake = "carrier"\ncarrier_share = 0.5',
        "key `drugs.tki.carrier_share` stands beside uptake; expected one of the two",
        line="carrier_share = 0.5",
    ),
    Bad(
        "two ways of exchange",
        "influx_per_h = 10",
        "influx_per_h = 10\nexchange_per_h = 10",
        "key `drugs.mtx.influx_per_h` stands beside exchange_per_h; expected one way only",
    ),
    Bad(
        "influx without efflux",
        "efflux_per_h = 20\n",
        "",
        "key `drugs.mtx.efflux_per_h` is missing; expected a number per hour, since influx_per_h is "
        "given",
        line="[drugs.mtx]",
    ),
    Bad(
        "activation of a drug that is no prodrug",
        "prodrug = true\n",
        "",
        "key `drugs.fluid.activation_per_h` belongs to a prodrug; expected `prodrug = true` beside it",
        line="activation_per_h = 1.5",
    ),
    Bad(
        "a prodrug whose active form is never lost",
        "active_loss_per_h = 0.5\n",
        "",
        "key `drugs.fluid.active_loss_per_h` is missing; expected a number per hour, since this drug "
        "is a prodrug",
        line="[drugs.fluid]",
    ),
    Bad(
        "plasma without a molar mass",
        "molecular_weight_g_per_mol = 400\n",
        "",
        "key `drugs.tki.molecular_weight_g_per_mol` is missing; expected a number > 0 g per mol, "
        "which turns doses in mg into concentrations",
        line="[drugs.tki]",
    ),
    Bad(
        "three peripheral compartments",
        "  { volume_l = 10, clearance_l_per_h = 3 },",
        "  { volume_l = 10, clearance_l_per_h = 3 },\n  { volume_l = 1, clearance_l_per_h = 1 },",
        "key `drugs.tki.plasma.peripheral`: expected at most 2 peripheral compartments, "
        "got an array of 3",
        line="peripheral = [",
    ),
    Bad(
        "a compartment by rate constants and volume",
        "{ k12_per_h = 0.2, k21_per_h = 0.1 }",
        "{ k12_per_h = 0.2, k21_per_h = 0.1, volume_l = 3 }",
        "key `drugs.tki.plasma.peripheral.1.volume_l` stands beside k12_per_h and k21_per_h; "
        "expected one pair only",
        line="k12_per_h = 0.2",
    ),
    Bad(
        "a compartment by half",
        "{ k12_per_h = 0.2, k21_per_h = 0.1 }",
        "{ k12_per_h = 0.2 }",
        "key `drugs.tki.plasma.peripheral.1.k21_per_h` is missing; expected volume_l and "
        "clearance_l_per_h, or k12_per_h and k21_per_h",
        line="k12_per_h = 0.2",
    ),
    Bad(
        "a substrate without a Michaelis constant",
        "km_um = { tki = 5, fluid = 50 }",
        "km_um = { tki = 5 }",
        "key `pumps.MDR1.km_um.fluid` is missing; expected a number > 0 uM, since vmax_um_per_h "
        "names this drug",
    ),
    Bad(
        "a Michaelis constant without capacity",
        "vmax_um_per_h = { tki = 100, fluid = 20 }",
        "vmax_um_per_h = { tki = 100 }",
        "key `pumps.MDR1.km_um.fluid` names a drug that vmax_um_per_h does not",
        line="km_um = { tki = 5, fluid = 50 }",
    ),
    Bad(
        "storage of a drug in an open pool",
        "stored_ratio = { mtx = 3 }",
        "stored_ratio = { tki = 3 }",
        "key `alterations.store.stored_ratio.tki` stores a drug whose pool is open, where transport "
        'refills what is stored; expected pool = "trapped" in [drugs.tki]',
    ),
    Bad(
        "lost activation of a drug that is no prodrug",
        "activation_factor = { fluid = 0.2 }",
        "activation_factor = { tki = 0.2 }",
        "key `alterations.no_activation.activation_factor.tki` names a drug that is no prodrug; "
        "expected prodrug = true in [drugs.tki]",
    ),
    Bad(
        "an altered target of a drug that always saturates it",
        "kd_fold = { tki = 50 }",
        "kd_fold = { blocker = 50 }",
        "key `alterations.T790M.kd_fold.blocker` multiplies a kd_um of 0; expected kd_um > 0 in "
        '[drugs.blocker], or the mechanism "lost_target"',
    ),
    Bad(
        "induction without its concentration",
        "induction_ec50_um = { tki = 0.1, blocker = 2 }",
        "induction_ec50_um = { tki = 0.1 }",
        "key `alterations.tolerant.induction_ec50_um.blocker` is missing; expected a number > 0 uM, "
        "since blocker induces",
    ),
    Bad(
        "a concentration of induction without induction",
        "induced_off_per_day = { blocker = 0.3 }\n",
        "",
        "key `alterations.tolerant.induction_ec50_um.blocker` names a drug that neither "
        "induced_on_per_day nor induced_off_per_day names",
        line="induction_ec50_um = { tki = 0.1, blocker = 2 }",
    ),
    Bad(
        "transitions that sum to more than 1 at one division",
        "mutation_factor = 100",
        "mutation_factor = 1000",
        "key `alterations.copies.gain_probability_per_division`: expected probabilities of all "
        "alterations that sum to at most 1 at one division, got 6.7 (0.00335 times genetic "
        "instability 2e+03)",
        line="gain_probability_per_division = 1e-3",
    ),
    Bad(
        "a space of more than 2**32 genotypes",
        "max_level = 4",
        "max_level = 4_000_000",
        "key `alterations` make 393216098304 genotypes; expected at most 2**32, so lower the "
        "max_level of some",
        line="[alterations.pore]",
    ),
    Bad(
        "a space of more than 2**32 genotypes and sites",
        "max_level = 4",
        "max_level = 40_000",
        "key `alterations` make 7864516608 genotypes x sites; expected at most 2**32, so lower the "
        "max_level of some",
        line="[alterations.pore]",
    ),
)

TIMES = (
    Bad(
        "syncs farther apart than the horizon",
        "sync_hours = 12.0",
        "sync_hours = 961",
        "key `study.sync_hours`: expected at most the horizon (960 h), got 961.0",
    ),
    Bad(
        "a snapshot after the horizon",
        "snapshot_days = [0, 10, 40]",
        "snapshot_days = [0, 10, 41]",
        "key `record.snapshot_days.2`: expected a day up to the horizon (40), got 41.0",
    ),
    Bad(
        "unsorted snapshots",
        "snapshot_days = [0, 10, 40]",
        "snapshot_days = [\n  0,\n  20,\n  10,\n]",
        "key `record.snapshot_days.2`: expected days in rising order, got 10 after 20",
        line="  10,",
    ),
    Bad(
        "too many records",
        "every_days = 0.5",
        "every_days = 1e-6",
        "key `record.every_days` cuts 40 days into 4e+07 intervals; expected at most 1000000",
    ),
    Bad(
        "a dose before day 0",
        "day = 3, infusion_h = 2",
        "day = -3, infusion_h = 2",
        "key `arms.1.doses.0.day`: expected a number >= 0 days, got -3",
    ),
    Bad(
        "a dose after the end",
        "day = 3, infusion_h = 2",
        "day = 40, infusion_h = 2",
        "key `arms.1.doses.0.day`: expected a day before the horizon (40), got 40.0",
    ),
    Bad(
        "doses until after the end",
        "from_day = 1, until_day = 30",
        "from_day = 1, until_day = 90",
        "key `arms.1.doses.1.until_day`: expected a day up to the horizon (40), got 90.0",
    ),
    Bad(
        "doses that end before they start",
        "from_day = 1, until_day = 30",
        "from_day = 30, until_day = 1",
        "key `arms.1.doses.1.until_day`: expected a day after from_day (30), got 1",
    ),
    Bad(
        "an infusion of zero length",
        "day = 3, infusion_h = 2",
        "day = 3, infusion_h = 0",
        "key `arms.1.doses.0.infusion_h`: expected a number > 0 h, got 0",
    ),
    Bad(
        "an infusion without length",
        "day = 3, infusion_h = 2",
        'day = 3, route = "infusion"',
        "key `arms.1.doses.0.infusion_h` is missing; expected a number > 0 h, since the route is "
        "infusion",
    ),
    Bad(
        "an infusion by mouth",
        "day = 3, infusion_h = 2",
        'day = 3, infusion_h = 2, route = "oral"',
        'key `arms.1.doses.0.infusion_h` stands beside route = "oral"; expected "infusion"',
    ),
    Bad(
        "a dose over the highest",
        "amount_mg = 150, every_h = 24",
        "amount_mg = 151, every_h = 24",
        "key `arms.0.doses.0.amount_mg`: expected at most max_dose_mg (150), got 151.0",
    ),
    Bad(
        "a drug by mouth that is not absorbed",
        "day = 3, infusion_h = 2",
        'day = 3, route = "oral"',
        'key `arms.1.doses.0.route` is "oral"; expected absorption_per_h in [drugs.fluid.plasma]',
    ),
    Bad(
        "a level of a drug that has plasma",
        'drug = "mtx", level_um = 1.0',
        'drug = "tki", level_um = 1.0',
        "key `arms.1.doses.2.level_um` is prescribed for a drug with [drugs.tki.plasma]; expected "
        "amount_mg",
    ),
    Bad(
        "an amount of a drug without plasma",
        'drug = "mtx", level_um = 1.0, from_day = 0, until_day = 5',
        'drug = "mtx", amount_mg = 1.0',
        "key `arms.1.doses.2.amount_mg` is given of a drug without plasma; expected level_um, or "
        "[drugs.mtx.plasma]",
    ),
    Bad(
        "an amount and a level",
        "amount_mg = 500, day = 3",
        "amount_mg = 500, level_um = 2, day = 3",
        "key `arms.1.doses.0.level_um` stands beside amount_mg; expected one of the two",
    ),
    Bad(
        "neither an amount nor a level",
        "amount_mg = 500, day = 3",
        "day = 3",
        "key `arms.1.doses.0.amount_mg` is missing; expected amount_mg, or level_um for a drug "
        "without plasma",
    ),
    Bad(
        "a day of repeated doses",
        "every_h = 504, from_day = 1",
        "every_h = 504, day = 1",
        "key `arms.1.doses.1.day` stands beside every_h; expected from_day instead",
    ),
    Bad(
        "a first day of a single dose",
        "day = 3, infusion_h = 2",
        "from_day = 3, infusion_h = 2",
        "key `arms.1.doses.0.from_day` needs every_h; a single dose has a day",
    ),
    Bad(
        "cycles of an amount",
        "day = 3, infusion_h = 2",
        "day = 3, every_days = 7",
        "key `arms.1.doses.0.every_days` belongs to level_um; an amount repeats by every_h",
    ),
    Bad(
        "a level every few hours",
        "level_um = 0.5, days = 7, every_days = 14",
        "level_um = 0.5, every_h = 24",
        "key `arms.0.doses.1.every_h` belongs to amount_mg; a level has from_day and until_day",
    ),
    Bad(
        "cycles without their length",
        "level_um = 0.5, days = 7, every_days = 14",
        "level_um = 0.5, every_days = 14",
        "key `arms.0.doses.1.days` is missing; expected a number > 0 days, since every_days is given",
    ),
    Bad(
        "cycles that are longer than their period",
        "level_um = 0.5, days = 7, every_days = 14",
        "level_um = 0.5, days = 15, every_days = 14",
        "key `arms.0.doses.1.days`: expected at most every_days (14), got 15",
    ),
    Bad(
        "two levels of one drug at once",
        'level_um = 1.0, from_day = 0, until_day = 5 },',
        'level_um = 1.0, from_day = 0, until_day = 5 },\n  { drug = "mtx", level_um = 2, from_day = 4 },',
        "key `arms.1.doses.3.level_um` prescribes mtx on day 4, as row 2 does; expected levels of one "
        "drug that do not overlap",
        line="from_day = 4",
    ),
    Bad(
        "more doses than can be listed",
        "amount_mg = 150, every_h = 24",
        "amount_mg = 150, every_h = 1e-4",
        "key `arms.0.doses.0.every_h` makes 9600000 doses; expected at most 1000000",
    ),
)

ALL = (*NUMBERS, *COUNTS, *KEYS, *NAMES, *RULES, *TIMES)
