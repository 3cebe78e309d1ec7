"""One study with every mechanism and every feature of sites: each row acts, in its own direction.

The rows are those of `tests.mechanisms`. At the level of rates the claims are exact: the cell at its
site gains or loses, and everything else keeps its bits. At the level of outcomes cells are simulated
with the row on and off, and counted.
"""

import jax
import numpy as np
import pytest

from jaxevo import load_study, run_study, simulate
from jaxevo.sites import crowding_factor
from tests import builders
from tests.mechanisms import (
    CELLS,
    FIXED_KIND,
    NO_COSTS,
    NO_INDUCTION,
    NO_MIGRATION,
    NO_MUTATION,
    NO_SWITCH,
    NO_WAKING,
    ROWS,
    STILL,
    STUDY,
    WAYS,
    Outcome,
    Row,
    Type,
    assert_follows,
    assert_more,
    concentrations,
    experiment,
    kinds,
    outcome,
    problem_of,
    rates_of,
)
from tests.statistics import TooFewSamples

KILLERS = ("tamoxifen", "gemcitabine", "methotrexate", "cisplatin", "paclitaxel")
DRUGS = ("erlotinib", "crizotinib", *KILLERS, "elacridar", "entinostat")
SITES = ("lung", "core", "stroma", "brain")

# Which drugs each alteration protects from.
PROTECTED = {
    "carrier_loss": {"erlotinib"},
    "MDR1": {"erlotinib", "paclitaxel"},
    "glutathione": {"cisplatin"},
    "polyglutamate": {"methotrexate"},
    "dCK_loss": {"gemcitabine"},
    "T790M": {"erlotinib"},
    "ER_loss": {"tamoxifen"},
    "DHFR_copies": {"methotrexate"},
    "MET_bypass": {"erlotinib"},
    "ERCC1": {"cisplatin"},
    "BCL2": set(KILLERS),
}


def net(rates) -> np.ndarray:
    """Net growth rate, [kind, site], 1/day."""
    return rates.birth_rate - rates.death_rate


def under(*drugs: str, settings: tuple[str, ...] = ()):
    """Rates of all kinds at all sites under some of the drugs."""
    return rates_of(experiment(problem_of(*settings), None, "lung", drugs))


def at(kind: str | None, site: str = "lung") -> tuple[int, int]:
    """Where a kind and a site stand in rates."""
    return (None, *PROTECTED, "persister").index(kind), SITES.index(site)


def leaves(rates, without: str | None) -> list[np.ndarray]:
    """All rates, but for those of one kind of cell, or those at one site."""
    axis = 1 if without in SITES else 0
    place = SITES.index(without) if axis else at(without)[0]
    return [np.delete(leaf, place, axis) for leaf in jax.tree.leaves(rates)]


# --- rates -----------------------------------------------------------------------------------------


@pytest.mark.both_precisions
def test_the_study_names_every_way_past_a_drug():
    """Mechanisms 1 to 12 of the model, one alteration each, by all three inheritances; four sites."""
    study = load_study(STUDY)
    mechanisms = [alteration.mechanism for alteration in study.alterations.values()]
    assert sorted(mechanisms) == sorted(
        "reduced_uptake efflux inactivation sequestration lost_activation altered_target lost_target "
        "target_amplification bypass repair apoptosis_evasion quiescence".split()
    )
    inheritances = {alteration.inheritance for alteration in study.alterations.values()}
    assert inheritances == {"mutation", "amplification", "epigenetic"}
    problem = study.problem()
    assert problem.model.names.sites == SITES
    assert set(problem.model.names.drugs) == set(DRUGS)
    assert kinds(problem) == (None, *PROTECTED, "persister")
    assert problem.model.genome.num_genotypes * len(SITES) == 6144 * 4


@pytest.mark.both_precisions
@pytest.mark.parametrize("name", ROWS)
def test_a_row_changes_the_rates_of_its_own_cells_in_its_direction(name):
    """Under all nine drugs, a way past one of them raises net growth of the cell that carries it and
    changes no bit for others; a feature of a site changes nothing at other sites.
    """
    row = ROWS[name]
    on, off = rates_of(problem_of()), rates_of(problem_of(*row.off))
    gain = net(on)[at(*row.cell)] - net(off)[at(*row.cell)]
    assert gain > 1e-3 if row.protects else gain < -1e-3
    if name in WAYS:
        assert np.all(net(on) - net(off) >= 0)
        builders.assert_same_bits(leaves(on, row.cell.kind), leaves(off, row.cell.kind))
    else:  # to rounding: the levels of all sites come from one matrix exponential
        for one, two in zip(leaves(on, row.cell.site), leaves(off, row.cell.site), strict=True):
            builders.assert_close(one, two, 1e-5, 1e-11)


@pytest.mark.both_precisions
@pytest.mark.parametrize("drug", DRUGS)
def test_an_alteration_protects_from_its_own_drugs_and_from_no_other(drug):
    """Cross-resistance is to all substrates of a pump and to no other drug; repair helps against the
    drug that damages DNA, lost activation against the prodrug, evasion wherever a drug kills. Where
    an alteration does not protect, its cell has the bits of the unaltered cell.
    """
    rates = under(drug, settings=NO_COSTS)
    for kind, protected in PROTECTED.items():
        if drug in protected:
            assert net(rates)[at(kind)] > net(rates)[at(None)] + 0.1
        else:
            for rate in (rates.birth_rate, rates.death_rate):
                np.testing.assert_array_equal(rate[at(kind)[0]], rate[at(None)[0]])


@pytest.mark.both_precisions
def test_a_pump_inhibitor_restores_the_drug_against_the_pump_alone():
    """Elacridar takes from a cell with the pump most of its protection, and does nothing for or
    against a cell with a mutated target, or any other, away from the barrier.
    """
    for drug in ("erlotinib", "paclitaxel"):
        alone, both = under(drug), under(drug, "elacridar")
        lung = [np.delete(net(rates)[:, 0], at("MDR1")[0]) for rates in (alone, both)]
        builders.assert_close(*lung, 1e-5, 1e-11)
        protection = [net(r)[at("MDR1")] - net(r)[at(None)] for r in (alone, both)]
        assert 0 < protection[1] < protection[0] / 2


@pytest.mark.both_precisions
def test_a_pump_inhibitor_opens_the_barrier_for_substrates_only():
    """In the brain the substrates rise, by more than half within a day; there is no more of other
    drugs, nor of any at other sites.
    """
    problem = problem_of()
    inside, names = {}, problem.model.names.drugs
    for inhibitor in ((), ("elacridar",)):
        given = [drug for drug in DRUGS if drug != "elacridar"]
        found = concentrations(experiment(problem, None, "lung", (*given, *inhibitor)))
        inside[inhibitor] = np.delete(found, names.index("elacridar"), axis=2)
    names = [name for name in names if name != "elacridar"]
    closed, opened = inside.values()
    substrate = [names.index(name) for name in ("erlotinib", "paclitaxel")]
    brain = SITES.index("brain")
    rise = opened[:, brain, substrate] / closed[:, brain, substrate]
    assert np.all(rise > 1)
    assert np.all(rise[-1] > 1.5)
    closed[:, brain, substrate] = opened[:, brain, substrate] = 0
    np.testing.assert_allclose(opened, closed, rtol=1e-12)


@pytest.mark.both_precisions
def test_matrix_holds_back_large_molecules_more():
    """At 120 um from the vessel e^(-120 (M/500)^(1/2)/100) of the level in the lung, less the larger
    the drug; all of it at the vessel.
    """
    index = {drug: i for i, drug in enumerate(problem_of().model.names.drugs)}
    masses = {"gemcitabine": 263.2, "cisplatin": 300.1, "methotrexate": 454.4, "paclitaxel": 853.9}
    at_once, far = concentrations(problem_of())[-1, [SITES.index("lung"), SITES.index("stroma")]]
    shares = np.array([far[index[drug]] / at_once[index[drug]] for drug in masses])
    np.testing.assert_allclose(shares, np.exp(-1.2 * np.sqrt(np.array([*masses.values()]) / 500)))
    assert np.all(np.diff(shares) < 0)
    near = concentrations(problem_of("sites.stroma.vessel_distance_um=0"))[-1]
    np.testing.assert_allclose(near[SITES.index("stroma")], near[SITES.index("lung")], rtol=1e-9)


@pytest.mark.both_precisions
def test_a_drug_that_enters_passively_is_untouched_by_lost_uptake():
    """A factor on the influx of a drug without a carrier changes no bit of any rate."""
    every = ", ".join(f'"{drug}" = 0.1' for drug in DRUGS)
    setting = f"alterations.carrier_loss.influx_factor={{ {every} }}"
    builders.assert_same_bits(rates_of(problem_of()), rates_of(problem_of(setting)))


@pytest.mark.both_precisions
def test_two_drugs_on_both_pathways_silence_what_either_alone_leaves():
    """A cell that goes around EGFR through MET divides under either inhibitor, not under both; and
    without bypass the second inhibitor adds nothing.
    """
    births = {
        drugs: under(*drugs).birth_rate
        for drugs in [(), ("erlotinib",), ("crizotinib",), ("erlotinib", "crizotinib")]
    }
    free, one, other, both = (rate[at("MET_bypass")] for rate in births.values())
    assert one > 0.9 * free
    assert other == free
    assert both < 0.3 * free
    free, one, other, both = (rate[at(None)] for rate in births.values())
    assert one < 0.3 * free
    assert other == free
    assert both == one


@pytest.mark.both_precisions
def test_evasion_of_apoptosis_leaves_cytostasis_and_other_deaths_alone():
    """It lowers drug-induced death by its share, and changes no birth; a drug that kills in another
    way is not evaded.
    """
    rates = rates_of(problem_of())
    np.testing.assert_array_equal(rates.birth_rate[at("BCL2")[0]], rates.birth_rate[at(None)[0]])
    evaded, heard = (rates.death_rate[at(kind)[0]] - 0.2 for kind in ("BCL2", None))
    builders.assert_close(evaded, 0.3 * heard, 1e-5)
    rates = under("cisplatin", settings=("targets.DNA.apoptotic=false",))
    assert rates.death_rate[at(None)] > 0.5
    assert rates.death_rate[at("BCL2")] == rates.death_rate[at(None)]


@pytest.mark.both_precisions
def test_quiescence_hides_from_drugs_that_kill_in_the_cycle_and_from_no_other():
    """Drug-induced death of a persister is a twentieth under cycle-specific drugs, whole under
    cisplatin.
    """
    for drug, share in (("paclitaxel", 0.05), ("gemcitabine", 0.05), ("cisplatin", 1.0)):
        rates = under(drug)
        induced = rates.death_rate[at("persister")] - 0.2 * 0.2
        builders.assert_close(induced, share * (rates.death_rate[at(None)] - 0.2), 1e-5)


@pytest.mark.both_precisions
def test_drugs_switch_an_epigenetic_state_both_ways():
    """Erlotinib induces the switch into quiescence, entinostat the way back; neither touches the
    other direction, and the other drugs touch none.
    """
    plain = under().switching_rate
    assert plain[at(None)].tolist() == pytest.approx([1e-3, 0])
    assert plain[at("persister")].tolist() == pytest.approx([0, 0.05])
    inducing = under("erlotinib").switching_rate
    assert inducing[at(None)][0] > 5 * plain[at(None)][0]
    np.testing.assert_array_equal(inducing[at("persister")], plain[at("persister")])
    waking = under("entinostat").switching_rate
    assert waking[at("persister")][1] > 10 * plain[at("persister")][1]
    np.testing.assert_array_equal(waking[at(None)], plain[at(None)])
    rest = under(*(drug for drug in DRUGS if drug not in ("erlotinib", "entinostat")))
    np.testing.assert_array_equal(rest.switching_rate, plain)


@pytest.mark.both_precisions
def test_all_ways_together_outgrow_all_drugs_together():
    """Mechanisms and drugs act at once: the unaltered cell declines at the lung, in the stroma and in
    the brain; a cell with every way past a drug grows everywhere.
    """
    rates = rates_of(problem_of(), {}, dict.fromkeys(PROTECTED, 1))
    unaltered, altered = net(rates)
    assert np.all(unaltered[[0, 2, 3]] < 0)
    assert np.all(altered > unaltered)
    assert np.all(altered > 0)


@pytest.mark.both_precisions
def test_sites_crowd_their_own_cells_only():
    """A full brain stops births there and nowhere else: 1 - N/K by site, K from the study."""
    sites = load_study(STUDY).problem().model.sites
    np.testing.assert_array_equal(crowding_factor(sites, np.array([0.0, 0, 0, 5e3])), [1, 1, 1, 0])
    np.testing.assert_allclose(crowding_factor(sites, np.array([15e3, 0, 0, 0])), [0.5, 1, 1, 1])


# --- outcomes --------------------------------------------------------------------------------------


def survivors(row: Row, *off: str) -> Outcome:
    """Cells that are alive after one day of the row's drugs."""
    seed = 2 if off else 1
    return outcome((*STILL, *off), (row.cell,), (row.cell,), row.drugs, seed)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_changes_how_many_cells_survive(name):
    """5000 cells of the row's kind at the row's site, one day of its drugs, with the row on and off:
    more survive where biology says so, and as many as the model's rates say (false-fail 1e-6 for each
    claim, an error of 7 % in a mean is noticed).
    """
    row = ROWS[name]
    on, off = survivors(row), survivors(row, *row.off)
    assert_follows(on, 0.07)
    assert_follows(off, 0.07)
    assert_more(*((on, off) if row.protects else (off, on)))


def test_an_outcome_compared_with_its_own_law_proves_nothing():
    """The comparison refuses where both sides have one law, and where the difference is the other way."""
    row = WAYS["repair"]
    on, off = survivors(row), survivors(row, *row.off)
    for pair in ((on, on), (off, on)):
        with pytest.raises(TooFewSamples, match="standard deviations apart only"):
            assert_more(*pair)


def test_a_pump_inhibitor_kills_cells_with_the_pump_and_not_those_with_a_mutated_target():
    """Erlotinib with and without elacridar: fewer cells with the pump survive; with T790M as many as
    without.
    """
    (pump, mutant), both = (Type("MDR1"), Type("T790M")), ("erlotinib", "elacridar")
    alone = outcome(STILL, (pump,), (pump,), both[:1], 1)
    helped = outcome(STILL, (pump,), (pump,), both, 2)
    assert_more(alone, helped)
    unmoved = outcome(STILL, (mutant,), (mutant,), both, 2)
    assert unmoved.mean == survivors(WAYS["altered target"]).mean
    assert_follows(unmoved, 0.07)


AWAKE, ASLEEP = Type(), Type("persister")
SWITCHING = (*NO_MUTATION, *NO_MIGRATION)


def test_an_epigenetic_switch_makes_persisters_and_a_drug_induces_it():
    """From unaltered cells under erlotinib: none without the switch, more with it, most where the
    drug induces it.
    """
    induced, plain, none = (
        outcome((*SWITCHING, *off), (AWAKE, ASLEEP), (ASLEEP,), ("erlotinib",), seed)
        for seed, off in enumerate([(), NO_INDUCTION, (*NO_SWITCH, *NO_INDUCTION)], 1)
    )
    assert_follows(induced, 0.3)
    assert_more(induced, plain)
    assert plain.cells.any()
    assert_follows(none, 0)


def test_an_epigenetic_state_is_left_again_without_drug():
    """A drug holiday re-sensitizes: of persisters some divide again, and none where the switch has no
    way back.
    """
    awake = outcome(SWITCHING, (ASLEEP, AWAKE), (AWAKE,))
    none = outcome((*SWITCHING, *NO_SWITCH), (ASLEEP, AWAKE), (AWAKE,), seed=2)
    assert_follows(awake, 0.3)
    assert_more(awake, none)


def test_an_epigenetic_drug_hands_persisters_to_a_drug_that_kills_in_the_cycle():
    """Paclitaxel spares persisters; with entinostat, which wakes them, fewer survive."""
    drugs, types = ("paclitaxel", "entinostat"), (ASLEEP, AWAKE)
    waking = outcome(SWITCHING, types, types, drugs)
    sleeping = outcome((*SWITCHING, *NO_WAKING), types, types, drugs, 2)
    assert_follows(waking, 0.07)
    assert_follows(sleeping, 0.07)
    assert_more(sleeping, waking)


EVERYWHERE = tuple(Type(site=site) for site in SITES)


@pytest.mark.parametrize(
    ("start", "drugs", "to"),
    [("lung", (), "core"), ("lung", (), "stroma"), ("core", ("cisplatin",), "lung")],
    ids=["to the core", "to the stroma", "back from the sanctuary, under a drug"],
)
def test_cells_spread_between_sites_and_seed_them_again(start, drugs, to):
    """Metastasis, and re-seeding from a sanctuary: cells arrive where there were none; none do
    without migration.
    """
    types = (Type(site=start), *(t for t in EVERYWHERE if t.site != start))
    arrived = outcome(FIXED_KIND, types, (Type(site=to),), drugs)
    assert_follows(arrived, 0.4)
    none = outcome(STILL, types, (Type(site=to),), drugs, 2)
    assert_more(arrived, none)


def test_a_full_site_stops_growth():
    """5000 cells in the brain, with room for 5000 and without limit: births stop where it is full."""
    brain = (Type(site="brain"),)
    assert load_study(STUDY).sites["brain"].capacity_cells == CELLS
    full = outcome((*STILL, f"sites.brain.capacity_cells={CELLS}"), brain, brain)
    roomy = outcome(STILL, brain, brain, seed=2)
    assert_follows(full, 0.07)
    assert_follows(roomy, 0.07)
    assert_more(roomy, full)


def test_an_alteration_that_cannot_be_gained_is_never_carried():
    """Of all alterations gained at divisions, half have no probability, then the other half: exactly
    none of those, and some of every other (75 expected, e^-75 to see none).
    """
    gains = {
        name: "gain_probability_per_division"
        if name == "DHFR_copies"
        else "probability_per_division"
        for name in PROTECTED
    }
    seldom = ("study.genetic_instability=10", "record.max_classes=4096", *FIXED_KIND[1:])
    for half in (0, 1):
        off = [f"alterations.{name}.{gains[name]}=0" for name in list(gains)[half::2]]
        problem = problem_of(*seldom, *NO_MIGRATION, *off)
        found = simulate(experiment(problem, None, "lung"))[""]
        assert not found["other_classes_count"].data.any()
        count = found["class_count"].data[0, 0, :, -1].sum(axis=0)
        carried = count @ found["class_genotype"].data
        assert not carried[:-1][half::2].any()
        assert np.all(carried[:-1][1 - half :: 2] > 0)


# --- the study -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_study_runs_and_every_way_past_a_drug_is_taken(tmp_path):
    """Two days of both arms: files and pictures are there, every site has cells and every drug, every
    alteration is carried; both arms lose unaltered cells, the one with all drugs most of all cells.
    """
    small = ("study.horizon_days=2", "study.replicates=1", "alterations.DHFR_copies.max_level=1")
    result = run_study(load_study(STUDY, small), tmp_path / "out")
    assert result.trajectory_path.exists()
    assert len(result.pictures) == 4
    assert all(path.stat().st_size > 10_000 for path in result.pictures)
    root = result.trajectory[""]
    assert result.limit is None
    assert np.all(root["status"].data == 0)
    one, nine = root["site_burden"].data[:, 0, 0]
    assert np.all(one[-1] > 0)
    assert np.all(root["concentration"].data[1, 12] > 0)
    levels = root["class_genotype"].data
    count = root["class_count"].data[0, 0, 0, -1]
    assert np.all(count @ levels > 0)
    assert result.summary["erlotinib"]["resistant_fraction"] > 600 / 11600
    assert nine[-1].sum() < 0.3 * one[-1].sum()
