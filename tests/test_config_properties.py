"""Laws of study files, over many studies."""

import copy
import datetime
import math
import tempfile
import tomllib
from pathlib import Path

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import tomli_w
from hypothesis import assume, given, settings

from jaxevo.cell.mutation import mutation_probability
from jaxevo.config import Study, StudyError, load_study
from jaxevo.config.alterations import INHERITANCES
from jaxevo.config.growth import largest_growing_burden
from jaxevo.config.locate import locate
from jaxevo.genotype import traits, unpack
from jaxevo.model import cast
from jaxevo.sites import SiteParams, crowding_factor
from tests.pages import schema
from tests.studies import CARE, FULL, MINIMAL

positive = st.floats(1e-3, 1e3)
share = st.just(0.0) | st.floats(1e-6, 1)
drug_names = st.lists(st.sampled_from(["a", "b b", "c.c", "δ", '"']), unique=True, max_size=3)
DRUG = object()  # stands for the name of a drug
MECHANISM_KEYS = {
    "reduced_uptake": {"influx_factor": {DRUG: 0.5}},
    "inactivation": {"inactivation_per_h": {DRUG: 0.5}},
    "altered_target": {"kd_fold": {DRUG: 3.0}},
    "lost_target": {"target": DRUG},
    "target_amplification": {"target": DRUG},
    "bypass": {"target": DRUG, "share": 0.5},
    "repair": {"repair_factor": 2},
    "apoptosis_evasion": {"evaded_share": 0.25},
    "immune_evasion": {"antigen_factor": 0.5, "ligand_share": 0.25},
    "quiescence": {"division_factor": 0},
    "genetic_instability": {"mutation_factor": 3},
    "fitness": {},
}
INHERITANCE_KEYS = {
    "mutation": {"probability_per_division": 1e-5},
    "amplification": {
        "max_level": 2,
        "gain_probability_per_division": 1e-4,
        "loss_probability_per_division": 1e-3,
    },
    "epigenetic": {
        "on_per_day": 0.1,
        "off_per_day": 0,
        "induced_on_per_day": {DRUG: 1.0},
        "induction_ec50_um": {DRUG: 1.0},
    },
    "hierarchy": {
        "asymmetric_probability_per_division": 0.1,
        "symmetric_probability_per_division": 0.05,
    },
}


def about(drug, value):
    """The value with the name of the drug where it belongs."""
    if isinstance(value, dict):
        return {about(drug, key): about(drug, entry) for key, entry in value.items()}
    return drug if value is DRUG else value


@st.composite
def drugs(draw):
    """A drug with or without plasma, with its defaults or without."""
    options = {
        "kd_um": positive,
        "max_dose_mg": st.just(1000),
        "uptake": st.sampled_from(["passive", "carrier"]),
        "exchange_per_h": positive,
        "penetration_length_um": positive,
        "molecular_weight_g_per_mol": positive,
        "effect": st.fixed_dictionaries({"max_death_per_day": positive}),
        "source": st.just('a "source" \\ with\nlines'),
    }
    drug = draw(st.fixed_dictionaries({}, optional=options))
    drug.setdefault("kd_um", 1.0)
    if "molecular_weight_g_per_mol" in drug and draw(st.booleans()):
        by_rates = st.fixed_dictionaries({"k12_per_h": positive, "k21_per_h": positive})
        by_volume = st.fixed_dictionaries({"volume_l": positive, "clearance_l_per_h": positive})
        drug["plasma"] = draw(
            st.fixed_dictionaries(
                {"clearance_l_per_h": positive, "volume_l": positive},
                optional={
                    "absorption_per_h": positive,
                    "bioavailability": share,
                    "peripheral": st.lists(by_rates | by_volume, max_size=2),
                },
            )
        )
    return drug


def doses_of(name, drug):
    """A row of an arm that gives this drug."""
    if "plasma" not in drug:
        once = st.just({"drug": name, "level_um": 0.5})
        return once | st.just({"drug": name, "level_um": 1, "days": 1, "every_days": 2.5})
    timing = st.sampled_from(
        [
            {},
            {"day": 3},
            {"every_h": 12},
            {"every_h": 24, "from_day": 1, "until_day": 5},
            {"weekdays": ["Sat", "Mon"], "loading_mg": 20},
            {"cycle_days": 3, "cycles": 2},
            {"cycle_days": 4.5, "on_days": [0, 0.5], "until_day": 9, "loading_mg": 0},
        ]
    )
    infusion = st.sampled_from([{}, {"infusion_h": 2}, {"route": "bolus"}])
    return st.tuples(timing, infusion).map(
        lambda parts: {"drug": name, "amount_mg": 10} | parts[0] | parts[1]
    )


@st.composite
def raw_studies(draw):
    """Tables of a study as a person might write them, with much left out."""
    names = draw(drug_names)
    given_drugs = {name: draw(drugs()) for name in names}
    raw = {
        "study": {"title": draw(st.text(min_size=1).filter(str.strip)), "horizon_days": 10},
        "tumor": {"birth_rate_per_day": 0.9, "death_rate_per_day": 0.1},
        "drugs": given_drugs,
        "alterations": {},
        "arms": [],
    }
    for key, value in (("seed", 2**63 - 1), ("sync_hours", 3), ("genetic_instability", 2)):
        if draw(st.booleans()):
            raw["study"][key] = value
    if draw(st.booleans()):
        raw["sites"] = {
            "here": {"migration_per_day": {"there": draw(positive)}, "delivered_fraction": 0.5},
            "there": {"capacity_cells": draw(st.sampled_from([1e3, 50, math.inf]))},
        }
        raw["tumor"]["mixture"] = [{"cells": 3}, {"cells": 1e2, "site": "there"}]
    elif draw(st.booleans()):
        raw["tumor"]["capacity_cells"] = 500
        raw["tumor"]["crowding"] = draw(st.sampled_from(["none", "logistic", "gompertz"]))
        raw["tumor"]["treat_at_cells"] = 1e2
    if draw(st.booleans()):
        raw["tumor"]["immigration"] = [{"events_per_day": draw(positive), "cells": 2}]
    if draw(st.booleans()):
        raw["relapse"] = {"kind": draw(st.sampled_from(["detection", "first_passage"]))}
    if draw(st.booleans()):
        raw["patients"] = {"count": 2, "vary": {"tumor.death_rate_per_day": {"cv": 0.1}}}
        if "capacity_cells" in raw["tumor"]:
            raw["patients"]["vary"]["tumor.capacity_cells"] = {"cv": 0.1, "above": 300}
    if names:
        raw["pumps"] = {"P": {"vmax_um_per_h": {names[0]: 1}, "km_um": {names[0]: 2}}}
        kinds = st.tuples(
            st.sampled_from(sorted(MECHANISM_KEYS)), st.sampled_from(sorted(INHERITANCES))
        )
        for mechanism, inheritance in draw(st.lists(kinds, max_size=4)):
            raw["alterations"][f"{mechanism} {inheritance}"] = {
                "mechanism": mechanism,
                "inheritance": inheritance,
                **about(names[0], MECHANISM_KEYS[mechanism]),
                **about(names[-1], INHERITANCE_KEYS[inheritance]),
            }
    raw |= draw(bodies(names))
    raw |= immune_of(raw)
    for number in range(draw(st.integers(1, 2))):
        rows = [draw(doses_of(name, drug)) for name, drug in given_drugs.items()]
        raw["arms"].append({"name": f"arm {number}", "doses": rows} | draw(care_of(raw, rows)))
    return raw


@st.composite
def bodies(draw, names):
    """Whether the patient is seen, and has a body."""
    drugs = {name: {"slope_per_um": 2} for name in names}
    optional = {
        "visits": st.sampled_from([{"every_days": 7}, {"every_days": 3.5, "scan_every_days": 7}]),
        "host": st.just({"body_surface_m2": 1.75, "drugs": drugs}),
    }
    return draw(st.fixed_dictionaries({}, optional=optional))


def immune_of(raw) -> dict:
    """The immune cells that an alteration needs."""
    mechanisms = {table["mechanism"] for table in raw.get("alterations", {}).values()}
    fewest = {"influx_cells_per_day": 2.5, "loss_per_day": 0.5, "kill_per_day_per_effector": 1e-3}
    return {"immune": fewest} if "immune_evasion" in mechanisms else {}


@st.composite
def care_of(draw, raw, rows):
    """What else an arm of a study may do."""
    arm = {}
    if draw(st.booleans()):
        raw["tumor"]["radiation_alpha_per_gy"] = 0.3
        arm["radiation"] = [{"gray": 2, "weekdays": ["Tue", "Wed"], "fractions": 3}]
        arm["radiation"] += [{"gray": 1.5, "every_days": 0.5, "fractions": 4, "from_day": 2}]
    if draw(st.booleans()):
        site = next(iter(raw.get("sites", {"tumor": 0})))
        arm["surgery"] = [{"day": 4, "removed_fraction": draw(st.sampled_from([0.5, {site: 1}]))}]
    is_weekly = raw.get("visits", {}).get("every_days") == 7
    if is_weekly and draw(st.booleans()):
        arm["policy"] = {"rule": "adaptive"} | draw(st.sampled_from([{}, {"stop": 0.3}]))
    elif is_weekly and draw(st.booleans()):
        arm["lines"] = [{"name": "a", "doses": rows}, {"name": "b", "doses": []}]
        arm["policy"] = {"rule": "metronomic", "thresholds_cells": [1e3]}
    if {"visits", "host"} <= raw.keys() and draw(st.booleans()):
        arm["safety"] = {"rule": "hold_and_reduce", "hold_grade": 3}
    return arm


def loaded(text: str, *overrides: str) -> Study:
    """The study of a text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.toml"
        path.write_text(text, encoding="utf-8", newline="")
        return load_study(path, overrides)


@given(raw_studies())
@settings(max_examples=60)
def test_a_resolved_study_loads_as_an_equal_study_and_problem(raw):
    """Saving a study loses nothing and resolving it twice changes nothing: to_toml is a fixed point."""
    study = loaded(tomli_w.dumps(raw))
    again = loaded(study.to_toml())
    assert again == study
    assert again.to_toml() == study.to_toml()
    assert tomllib.loads(study.to_toml()) == study.resolved()
    first, second = study.problem(), again.problem()
    same = {"model": None, "patients": (), "hosts": (), "arms": ()}
    assert first._replace(**same) == second._replace(**same)
    assert jax.tree.structure(first.models) == jax.tree.structure(second.models)
    leaves = (jax.tree.leaves((x.model, x.patients, x.hosts, x.arms)) for x in (first, second))
    for one, two in zip(*leaves, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("text", [FULL, CARE], ids=["full", "care"])
def test_a_whole_study_loads_again_as_an_equal_study(text):
    """The same for every key there is."""
    study = loaded(text)
    assert loaded(study.to_toml()) == study


def test_the_two_whole_studies_hold_every_key():
    """But for the file of patients, which no text holds; rules have keys of their own."""
    held = {key for text in (FULL, CARE) for path in _paths(tomllib.loads(text)) for key in path}
    known = {key for _, table in schema() for key in table.model_fields}
    assert known - held == {"file"}


def _paths(table, path=()):
    """Every key of a table with its value, tables and rows of arrays included."""
    entries = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _paths(value, (*path, key))


@given(raw_studies())
@settings(max_examples=30)
def test_every_key_of_a_study_is_on_the_line_that_is_found(raw):
    """The text of that line holds the key itself, or the row of an array."""
    text = tomli_w.dumps(raw)
    rows, lines = text.split("\n"), locate(text)
    for path in _paths(tomllib.loads(text)):
        assert path in lines
        last = path[-1]
        if isinstance(last, str):
            shown = tomli_w.dumps({last: 0}).removesuffix(" = 0\n")
            assert shown in rows[lines[path] - 1]


ANYTHING = st.one_of(
    st.sampled_from([0, -0.0, 1, -1, 2**62, 10**400, 1e-320, 1e-9, 1e308, math.inf, math.nan]),
    st.booleans(),
    st.sampled_from(["", "tki", "EGFR", "MDR1", "pump_up", "brain", "x\ny", "oral"]),
    st.just(datetime.date(1979, 5, 27)),
    st.sampled_from([[], {}, [[]], [{}], [1], {"tki": 1}, {"tki": {}}]),
)
WHOLE = {"full": tomllib.loads(FULL), "care": tomllib.loads(CARE)}
PLACES = [(name, path) for name, raw in WHOLE.items() for path in _paths(raw)]


@given(st.sampled_from(PLACES), ANYTHING, st.booleans())
@settings(max_examples=250)
def test_whatever_stands_at_a_key_ends_in_a_problem_or_in_a_sentence(place, value, is_removed):
    """No other exception, whatever stands at any one place of a study; a sentence is one line."""
    name, path = place
    raw = copy.deepcopy(WHOLE[name])
    table = raw
    for key in path[:-1]:
        table = table[key]
    if is_removed:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    try:
        loaded(tomli_w.dumps(raw)).problem()
    except StudyError as error:
        sentence = str(error)
    else:
        return
    assert "\n" not in sentence


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.3]), min_size=3, max_size=3),
    st.integers(1, 3),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([0.5, 2.0]),
)
@settings(max_examples=25)
def test_a_study_is_refused_where_transitions_of_some_genotype_sum_to_over_1(
    probabilities, levels, mutation_factor, instability
):
    """The largest row sum over all genotypes, from the model's own transitions (float32: rtol 1e-5).

    The check takes each alteration at its own worst level and instability at its highest, which some
    genotype has wherever mutation is not at its last level; so it refuses all rows over 1, and what
    it refuses has a row over 1 but for the gain of instability itself.
    """
    gain, loss, first = probabilities
    alterations = f"""
[alterations.copies]
mechanism = "fitness"
inheritance = "amplification"
max_level = {levels}
gain_probability_per_division = {gain}
loss_probability_per_division = {loss}
first_gain_probability_per_division = {first}
[alterations.unstable]
mechanism = "genetic_instability"
inheritance = "mutation"
probability_per_division = 0
max_level = 2
mutation_factor = {mutation_factor}
"""
    setting = f"study.genetic_instability={instability}"
    harmless = loaded(MINIMAL + alterations, "study.genetic_instability=0")
    model = harmless.problem().model
    genome, mutation = cast(model.genome, "float32"), model.mutation
    mutation = cast(mutation.__class__("one", np.asarray(instability)), "float32")
    every = unpack(model.genome, np.arange(model.genome.num_genotypes))
    sums = [
        float(mutation_probability(mutation, genome, traits(genome, row)).sum())
        for row in np.float32(every)
    ]
    assume(abs(max(sums) - 1) > 1e-5)
    if max(sums) > 1:
        with pytest.raises(StudyError, match="sum to at most 1 at one division"):
            loaded(MINIMAL + alterations, setting)
    else:
        loaded(MINIMAL + alterations, setting)


@given(
    st.sampled_from(["logistic", "gompertz"]),
    st.lists(
        st.tuples(st.integers(10, 10_000), st.just(0.0) | st.floats(1e-3, 3)),
        min_size=1,
        max_size=3,
    ),
    st.floats(0.05, 2),
    st.lists(st.floats(1e-9, 1), min_size=3, max_size=3),
    st.floats(1.001, 3),
)
@settings(max_examples=60)
def test_no_spread_of_more_cells_than_the_bound_grows(law, sites, death, weights, excess):
    """sum_s N_s (b g_s crowding_s - d) <= 0 where sum_s N_s is above the bound (module `growth`).

    One site reaches its bound: with one percent fewer cells it grows.
    """
    ring = [f"{{ s{(i + 1) % len(sites)} = 1.0 }}" if len(sites) > 1 else "{}" for i in range(3)]
    tables = "".join(
        f"[sites.s{i}]\ncapacity_cells = {room}\ngrowth_factor = {factor}\n"
        f"migration_per_day = {ring[i]}\n"
        for i, (room, factor) in enumerate(sites)
    )
    study = loaded(MINIMAL.replace("= 0.5", f"= {death}") + tables, f"tumor.crowding={law}")
    bound = largest_growing_burden(study)
    rooms, factors = np.array(sites).T
    params = SiteParams(law, rooms, factors, factors, np.zeros((len(sites), len(sites))))

    def growth(cells: np.ndarray) -> float:
        return float(np.sum(cells * (factors * crowding_factor(params, cells) - death)))

    share = np.array(weights[: len(sites)])
    cells = share / share.sum() * max(bound, 1.0) * excess
    assert growth(cells) <= 0
    if len(sites) == 1 and bound > 2:
        assert growth(np.array([0.99 * bound])) > 0
