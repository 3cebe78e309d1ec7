"""Genotypes: packing, levels, and what they make of a cell."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo import genotype
from jaxevo.genotype import MAX_GENOTYPES, Genome, label, pack, unpack
from tests import builders
from tests.builders import assert_close, assert_same_bits, build

pytestmark = pytest.mark.both_precisions


def genome_of(max_levels) -> Genome:
    """Alterations a0, a1, ... that do nothing."""
    names = tuple(f"a{j}" for j in range(len(max_levels)))
    return Genome.neutral(names, tuple(max_levels), ("mutation",) * len(names), 0, 0, 0)


@st.composite
def cells(draw):
    """Top levels of up to 2**32 genotypes and the levels of one cell, often the last genotype."""
    max_levels = []
    while draw(st.booleans()) or not max_levels:
        room = MAX_GENOTYPES // math.prod(n + 1 for n in max_levels)
        if room < 2:
            break
        max_levels.append(draw(st.integers(1, min(room - 1, draw(st.sampled_from([1, 40, room]))))))
    levels = [draw(st.just(top) | st.integers(0, top)) for top in max_levels]
    return max_levels, levels


@given(cells())
def test_unpacking_a_packed_genotype_gives_its_levels(cell):
    """Round trip up to 2**32 genotypes, by NumPy's int64 and uint32 and by JAX's uint32."""
    max_levels, levels = cell
    genome = genome_of(max_levels)
    packed = pack(genome, dict(zip(genome.names, levels, strict=True)))
    assert 0 <= packed < genome.num_genotypes <= MAX_GENOTYPES
    for words in (np.int64(packed), np.uint32([packed]), jnp.asarray(np.uint32([packed]))):
        found = np.atleast_2d(np.asarray(unpack(genome, words)))
        np.testing.assert_array_equal(found, [levels])


def test_thirty_two_switches_fill_a_word():
    """2**32 genotypes, inside jit: no bit of a uint32 is lost."""
    genome = genome_of([1] * 32)
    assert genome.num_genotypes == 2**32
    words = np.array([2**32 - 1, 2**31, 2**31 - 1, 0], np.uint32)
    found = jax.jit(lambda packed: unpack(genome, packed))(jnp.asarray(words))
    assert found.dtype == jnp.uint32
    np.testing.assert_array_equal(np.sum(found, axis=-1), [32, 1, 31, 0])


def test_genotypes_are_dense_and_a_step_adds_a_stride():
    """Every number below the size is one genotype, and one more level is one stride more."""
    genome = genome_of([2, 1, 3])
    assert genome.strides == (1, 3, 6)
    table = unpack(genome, np.arange(genome.num_genotypes))
    assert len({tuple(row) for row in table.tolist()}) == genome.num_genotypes == 24
    np.testing.assert_array_equal(table @ np.array(genome.strides), np.arange(24))
    assert pack(genome, {"a2": 2}) - pack(genome, {"a2": 1}) == 6


def test_without_alterations_there_is_one_genotype():
    """The empty product, and levels of no length."""
    genome = genome_of([])
    assert (genome.num_genotypes, genome.strides, pack(genome, {})) == (1, (), 0)
    assert unpack(genome, np.zeros(5, np.uint32)).shape == (5, 0)
    assert label(genome, 0) == "unaltered"


def test_labels_name_what_is_altered():
    """Levels are told where there can be more than one."""
    genome = Genome.neutral(("T790M", "MET"), (1, 8), ("mutation", "amplification"), 0, 0, 0)
    assert label(genome, pack(genome, {"T790M": 1, "MET": 3})) == "T790M + MET x3"
    assert label(genome, pack(genome, {"MET": 1})) == "MET x1"
    assert label(genome, 0) == "unaltered"


def test_what_cannot_be_packed_is_refused_with_a_sentence():
    """An unknown name and a level out of range."""
    genome = genome_of([2])
    with pytest.raises(ValueError, match="unknown alteration 'b'; known are a0"):
        pack(genome, {"b": 1})
    with pytest.raises(ValueError, match="level of a0 must be 0 to 2, got 3"):
        pack(genome, {"a0": 3})


AXES = {"drugs": ("x", "y"), "pumps": ("P",), "targets": ("T", "U")}
NEUTRAL_TRAITS = {
    "birth_factor": 1,
    "division_factor": 1,
    "natural_death_factor": 1,
    "radiation_factor": 1,
    "influx_factor": [1, 1],
    "pump_amount": [0],
    "inactivation_rate": [0, 0],
    "storage_ratio": [0, 0],
    "activation_factor": [1, 1],
    "kd_fold": [1, 1],
    "target_amount": [1, 1],
    "dependence": [1, 1],
    "bypass_share": np.zeros((2, 3)),
    "repair_factor": 1,
    "evaded_share": 0,
    "mutation_factor": 1,
}


@pytest.mark.parametrize("altered", [None, {"nothing": 3}])
def test_an_alteration_that_does_nothing_leaves_every_trait_neutral(altered):
    """Neutral values as `Traits` states them, exactly, at any level."""
    found = builders.traits(build(**AXES, alterations={"nothing": {"max_level": 3}}), altered)
    for name, value in NEUTRAL_TRAITS.items():
        np.testing.assert_array_equal(getattr(found, name), np.asarray(value, builders.real()))


EFFECTS = {
    # table of the alteration -> trait at levels 0, 1, 2
    "birth_cost": (0.1, "birth_factor", [1, 0.9, 0.81]),
    "division_factor": (0.2, "division_factor", [1, 0.2, 0.04]),
    "natural_death_factor": (0.5, "natural_death_factor", [1, 0.5, 0.25]),
    "radiation_factor": (0.6, "radiation_factor", [1, 0.6, 0.36]),
    "influx_factor": ({"y": 0.1}, "influx_factor", [[1, 1], [1, 0.1], [1, 0.01]]),
    "pump_amount": ({"P": 2.5}, "pump_amount", [[0], [2.5], [5]]),
    "inactivation_rate": ({"x": 4.0}, "inactivation_rate", [[0, 0], [4, 0], [8, 0]]),
    "storage_ratio": ({"x": 3.0}, "storage_ratio", [[0, 0], [3, 0], [6, 0]]),
    "activation_factor": ({"x": 0.0}, "activation_factor", [[1, 1], [0, 1], [0, 1]]),
    "kd_fold": ({"x": 50.0, "y": 0.5}, "kd_fold", [[1, 1], [50, 0.5], [2500, 0.25]]),
    "target_copies": ({"U": 1.0}, "target_amount", [[1, 1], [1, 2], [1, 3]]),
    "lost_target": ({"T": 1.0}, "dependence", [[1, 1], [0, 1], [0, 1]]),
    "repair_factor": (3.0, "repair_factor", [1, 3, 9]),
    "evaded_share": (0.6, "evaded_share", [0, 0.6, 0.84]),
    "mutation_factor": (100.0, "mutation_factor", [1, 100, 1e4]),
}


@pytest.mark.parametrize("effect", EFFECTS)
def test_levels_compose_as_factors_amounts_or_shares(effect):
    """factor**n, n * amount, 1 - (1 - share)**n; no other trait changes a bit."""
    value, trait, expected = EFFECTS[effect]
    model = build(**AXES, alterations={"a": {effect: value, "max_level": 2}})
    unaltered = builders.traits(model)
    for level, now in enumerate(expected):
        found = builders.traits(model, {"a": level})
        assert_close(getattr(found, trait), now)
        for other in NEUTRAL_TRAITS.keys() - {trait}:
            assert_same_bits(getattr(found, other), getattr(unaltered, other))


def test_bypass_shares_of_several_alterations_are_independent_chances():
    """1 - prod (1 - share)**n, per target and route."""
    shares = {"T": {"U": 0.5, builders.UNDRUGGABLE: 0.25}}
    other = {"T": {"U": 0.2}}
    model = build(
        **AXES,
        alterations={"a": {"bypass_share": shares, "max_level": 2}, "b": {"bypass_share": other}},
    )
    found = builders.traits(model, {"a": 2, "b": 1}).bypass_share
    assert_close(found[0], [0.0, 1 - 0.25 * 0.8, 1 - 0.75**2])
    np.testing.assert_array_equal(found[1], 0.0)


def test_alterations_compose_without_order():
    """Across alterations factors multiply, amounts add, shares are independent chances."""
    one = {"kd_fold": 3.0, "pump_amount": 1.0, "storage_ratio": 2.0, "inactivation_rate": 5.0}
    two = {"kd_fold": 7.0, "pump_amount": 4.0, "storage_ratio": 8.0, "inactivation_rate": 1.0}
    one |= {"target_copies": 1.0, "birth_cost": 0.5, "repair_factor": 2.0, "evaded_share": 0.5}
    two |= {"target_copies": 3.0, "birth_cost": 0.2, "repair_factor": 3.0, "evaded_share": 0.2}
    one |= {"lost_target": {"T": 1.0}, "influx_factor": 0.5, "mutation_factor": 10.0}
    two |= {"lost_target": {"U": 1.0}, "influx_factor": 0.1, "mutation_factor": 7.0}
    found = builders.traits(build(**AXES, alterations={"a": one, "b": two}), {"a": 1, "b": 1})
    expected = {
        "kd_fold": [21, 21],
        "pump_amount": [5],
        "storage_ratio": [10, 10],
        "inactivation_rate": [6, 6],
        "target_amount": [5, 5],
        "birth_factor": 0.4,
        "repair_factor": 6,
        "evaded_share": 0.6,
        "dependence": [0, 0],
        "influx_factor": [0.05, 0.05],
        "mutation_factor": 70,
    }
    for trait, value in expected.items():
        assert_close(getattr(found, trait), value, 1e-6)


def test_steps_are_listed_in_the_order_of_the_rates():
    """Mutations and amplifications at divisions, switches per day."""
    names, kinds = ("m", "a", "e"), ("mutation", "amplification", "epigenetic")
    genome = Genome.neutral(names, (1, 4, 2), kinds, 0, 0, 0)
    assert genome.mutations == (genotype.Step(0, 1), genotype.Step(1, 1), genotype.Step(1, -1))
    assert genome.switches == (genotype.Step(2, 1), genotype.Step(2, -1))
