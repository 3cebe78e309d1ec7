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
        "a table for an array of tables",
        '[[arms]]\nname = "daily"',
        '[arms]\nname = "daily"',
        "key `arms`: expected an array, got a table",
        line="[arms]",
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
