"""Which types there are, what turns one into another, and how fast."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxevo import genotype
from jaxevo.custom import custom_model
from jaxevo.engines import network as networks
from jaxevo.engines.base import Arm, Founder, Problem, Refused
from jaxevo.engines.network import Network, class_traits, crowded, network, scattered, speeds
from jaxevo.engines.process import problem_network
from jaxevo.model import cast
from jaxevo.state import Rates
from tests import builders
from tests.builders import build

INHERITANCES = ("mutation", "amplification", "epigenetic", "hierarchy")
SWITCHED = {"on_rate": 0.1, "off_rate": 0.2}


def packed(model, levels) -> int:
    return int(np.dot(levels, model.genome.strides))


# --- which classes ---------------------------------------------------------------------------------


@st.composite
def genomes(draw):
    """Tables of one to three alterations with levels 0..2, steps that may be impossible, founders, k."""
    alterations = {}
    maybe = st.sampled_from([0.0, 0.1])
    for name in "abc"[: draw(st.integers(1, 3))]:
        inheritance = draw(st.sampled_from(INHERITANCES))
        keys = {
            "mutation": ("first_gain_probability", "gain_probability"),
            "amplification": ("first_gain_probability", "gain_probability", "loss_probability"),
            "epigenetic": ("on_rate", "off_rate"),
            "hierarchy": ("asymmetric_probability", "symmetric_probability"),
        }[inheritance]
        table = {"inheritance": inheritance, "max_level": draw(st.integers(1, 2))}
        table |= {"mutation_factor": draw(st.sampled_from([0.0, 1.0, 2.0]))}
        alterations[name] = table | {key: draw(maybe) for key in keys}
    founder = st.tuples(*(st.integers(0, a["max_level"]) for a in alterations.values()))
    founders = draw(st.lists(founder, min_size=1, max_size=2))
    return alterations, founders, draw(st.sampled_from([None, 0, 1, 2]))


def next_levels(alterations: dict, levels: tuple[int, ...]):
    """Levels that one possible step leads to, by the table of MODEL.md."""
    is_stable = not all(
        a["mutation_factor"] ** n for a, n in zip(alterations.values(), levels, strict=True)
    )
    for j, table in enumerate(alterations.values()):
        n, kind = levels[j], table["inheritance"]
        up = {
            "mutation": "gain_probability" if n else "first_gain_probability",
            "amplification": "gain_probability" if n else "first_gain_probability",
            "epigenetic": "on_rate",
            "hierarchy": "asymmetric_probability",
        }[kind]
        down = {"amplification": "loss_probability", "epigenetic": "off_rate"}.get(kind)
        rises = table[up] > 0 or (kind == "hierarchy" and table["symmetric_probability"] > 0)
        falls = down is not None and table[down] > 0
        if kind in ("mutation", "amplification") and is_stable:
            rises = falls = False
        if rises and n < table["max_level"]:
            yield (*levels[:j], n + 1, *levels[j + 1 :])
        if falls and n > 0:
            yield (*levels[:j], n - 1, *levels[j + 1 :])


def brute_force(alterations: dict, founders: list, k: int | None) -> set[tuple[int, ...]]:
    """All levels within k alterations of a founder that chains of possible steps lead to."""
    everything = itertools.product(*(range(a["max_level"] + 1) for a in alterations.values()))
    near = {
        g for g in everything
        if any(k is None or sum(x != y for x, y in zip(g, f, strict=True)) <= k for f in founders)
    }  # fmt: skip
    found = set(founders)
    for _ in range(len(near)):
        found |= {to for g in found for to in next_levels(alterations, g)} & near
    return found


@given(genomes())
def test_the_classes_are_those_that_steps_of_positive_rate_lead_to(drawn):
    """Breadth-first search over chains of possible steps; classes in rising packed genotype."""
    alterations, founders, k = drawn
    model = build(alterations=alterations)
    net = network(model, [packed(model, g) for g in founders], k)
    expected = brute_force(alterations, founders, k)
    assert list(net.genotypes) == sorted(packed(model, g) for g in expected)
    leaving = {to for g in expected for to in next_levels(alterations, g) if to not in expected}
    assert net.has_outside == bool(leaving)


def test_the_limit_counts_altered_alterations_not_levels():
    """With k = 1 all levels of one alteration are followed, two alterations are not."""
    up = {"first_gain_probability": 0.1, "gain_probability": 0.1}
    model = build(alterations={"a": {"max_level": 3} | up, "b": up})
    net = network(model, [0], 1)
    assert net.genotypes == (0, 1, 2, 3, 4)  # a0 .. a3, b


def test_immigrants_found_classes_as_founders_do():
    """What immigrants are, and what they can become, is followed; the limit counts from them too."""
    model = build(alterations={"a": {}, "b": {"first_gain_probability": 0.1}})
    net = network(model, [0], 0, [(1, 0, 4)])
    assert net.genotypes == (0, 1)
    assert net.immigrants == ((1, 4),)
    assert net.has_outside


def test_more_classes_than_can_be_counted_are_refused(monkeypatch):
    """The sentence says what to do."""
    monkeypatch.setattr(networks, "MAX_CLASSES", 8)
    model = build(alterations={name: {"first_gain_probability": 0.1} for name in "abcd"})
    with pytest.raises(Refused, match=r"lower study\.max_alterations"):
        network(model, [0])
    assert len(network(model, [0], 1).genotypes) == 5


def test_a_step_that_only_one_patient_can_make_is_in_the_network_of_all():
    """The first patient's cells do not mutate, switch or move; the second's do."""
    table = {"m": {}, "e": {"inheritance": "epigenetic"}}
    still = build(sites=("a", "b"), alterations=table)
    table = {"m": {"first_gain_probability": 0.1}, "e": SWITCHED | {"inheritance": "epigenetic"}}
    moving = build(sites=("a", "b"), alterations=table, migration_rate={"a": {"b": 0.3}})
    problem = Problem(
        still,
        (Founder(1, 0, 0),),
        (Arm("none", ()),),
        1,
        1,
        1.0,
        1.0,
        100,
        patients=(still, moving),
    )
    assert problem_network(problem) == network(moving, [0])


# --- edges and speeds ------------------------------------------------------------------------------

FULL = build(
    sites=("a", "b"), drugs=("x",), targets=("T",), kd={"T": {"x": 0.5}}, max_death_rate=1.5,
    max_inhibition=0.4, migration_rate={"a": {"b": 0.3}, "b": {"a": 0.1}},
    delivered_fraction={"a": 1.0, "b": 0.2}, genetic_instability=1.5,
    alterations={
        "m": {"first_gain_probability": 0.02, "gain_probability": 0.02, "mutation_factor": 2.0,
              "birth_cost": 0.1},
        "c": {"inheritance": "amplification", "max_level": 2, "first_gain_probability": 0.01,
              "gain_probability": 0.03, "loss_probability": 0.05, "kd_fold": {"x": 4.0}},
        "e": SWITCHED | {"inheritance": "epigenetic", "induced_on_rate": {"x": 0.7}},
        "h": {"inheritance": "hierarchy", "asymmetric_probability": 0.2,
              "symmetric_probability": 0.1, "division_factor": 0.7},
    },
)  # fmt: skip
ONE, HALF = np.ones(()), np.full((), 0.5)
NODE_WEIGHTS = np.array([0.2, 0.5, 0.3])
CONCENTRATION = np.array([0.0, 0.4, 3.0])[:, None, None] * np.array([[1.0], [0.2]])


def full_speeds(net: Network):
    """Speeds of `FULL` as an engine asks for them."""
    model = cast(FULL, jnp.float64)
    traits = class_traits(model, net)
    found = speeds(model, net, traits, jnp.asarray(CONCENTRATION), jnp.asarray(NODE_WEIGHTS))
    return jax.tree.map(np.asarray, found)


def dense(edges, values, num_types: int) -> np.ndarray:
    """The values of edges as a matrix [from, to]."""
    return np.asarray(scattered(edges, jnp.asarray(values), num_types))


def mean_rates(levels, site: str) -> Rates:
    """Rates of one genotype at one site over the same nodes, from `model.rates` one by one."""
    at = FULL.names.sites.index(site)
    each = [
        builders.rates(FULL, dict(zip(FULL.genome.names, levels, strict=True)), {"x": c}, site)
        for c in CONCENTRATION[:, at, 0]
    ]
    return jax.tree.map(lambda *x: np.tensordot(NODE_WEIGHTS, np.stack(x), 1), *each)


@builders.in_double
def test_speeds_are_the_rates_of_one_cell_type_by_type_and_edge_by_edge():
    """Every edge carries the rate of its own step; nothing that can happen is left out."""
    net = network(FULL, [0], 2)
    found = full_speeds(net)
    genome = FULL.genome
    inside = dict(enumerate(itertools.product(net.genotypes, range(2))))
    kinds = {
        "mutation": (net.mutations, genome.mutations),
        "asymmetric": (net.asymmetric, genome.differentiations),
        "symmetric": (net.symmetric, genome.differentiations),
        "conversion": (net.conversions, genome.switches),
    }
    for t, (g, s) in inside.items():
        assert net.type_of(g, s) == t
        levels = genotype.unpack(genome, np.int64(g)).tolist()
        expected = mean_rates(levels, "ab"[s])
        np.testing.assert_allclose(found.birth[t], expected.birth_rate, rtol=1e-12)
        np.testing.assert_allclose(found.death[t], expected.death_rate, rtol=1e-12)
        of_kind = {
            "mutation": expected.mutation_probability,
            "asymmetric": expected.asymmetric_probability,
            "symmetric": expected.symmetric_probability,
            "conversion": expected.switching_rate,
        }
        for kind, (edges, steps) in kinds.items():
            wanted: dict[int, float] = {}
            for (j, change), rate in zip(steps, of_kind[kind], strict=True):
                if rate > 0:
                    to = g + change * genome.strides[j]
                    place = net.type_of(to, s) if to in net.genotypes else net.num_inside
                    wanted[place] = wanted.get(place, 0.0) + float(rate)
            if kind == "conversion":
                other = net.type_of(g, 1 - s)
                wanted[other] = wanted.get(other, 0.0) + float(expected.migration_rate[1 - s])
            table = dense(edges, getattr(found, kind), net.num_types)
            row = np.zeros(net.num_types)
            row[list(wanted)] = list(wanted.values())
            np.testing.assert_allclose(table[t], row, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
@builders.in_double
def test_the_type_outside_takes_what_leaves_and_gives_nothing_back():
    """It has no rates and no edges; what enters it is what the whole network sends to lost classes."""
    whole, cut = network(FULL, [0]), network(FULL, [0], 1)
    assert cut.has_outside
    assert not whole.has_outside
    outside = cut.num_inside
    all_speeds, few = full_speeds(whole), full_speeds(cut)
    assert few.birth[outside] == few.death[outside] == 0
    for kind, name in (("mutation", "mutations"), ("asymmetric", "asymmetric"),
                       ("symmetric", "symmetric"), ("conversion", "conversions")):  # fmt: skip
        edges, of_all = getattr(cut, name), getattr(whole, name)
        assert outside not in edges.source
        small = dense(edges, getattr(few, kind), cut.num_types)
        large = dense(of_all, getattr(all_speeds, kind), whole.num_types)
        kept = [whole.type_of(g, s) for g in cut.genotypes for s in range(2)]
        np.testing.assert_allclose(small[:-1, :-1], large[np.ix_(kept, kept)], rtol=1e-12)
        np.testing.assert_allclose(small.sum(1)[:-1], large.sum(1)[kept], rtol=1e-12)


def test_equal_problems_have_equal_networks():
    """A kernel is compiled once for each network: equal ones hash alike, whatever the rates are."""
    faster = eqx.tree_at(lambda m: m.birth.birth_rate, FULL, np.array(2.0))
    assert network(FULL, [0], 2) == network(faster, [0], 2)
    assert hash(network(FULL, [0], 2)) == hash(network(faster, [0], 2))
    assert network(FULL, [0], 2) != network(FULL, [0], 3)


def test_several_edges_between_two_types_add():
    """Two steps of a custom law may lead to the same class."""

    def law(*_) -> Rates:
        return Rates(ONE, HALF, mutation_probability=np.array([0.1, 0.2]))

    model = custom_model({"m": 1}, law, mutations=[("m", 1), ("m", 1)])
    net = network(model, [0])
    traits = class_traits(model, net)
    found = speeds(model, net, traits, jnp.zeros((1, 1, 0)), jnp.ones(1))
    table = dense(net.mutations, found.mutation, net.num_types)
    np.testing.assert_allclose(table, [[0, 0.3], [0, 0]], rtol=1e-6)


def test_a_step_out_of_range_never_happens_whatever_a_custom_law_says():
    """The law gives .1 to every step at every level; the step from the top up is 0 in `rates`."""

    def law(*_) -> Rates:
        return Rates(
            ONE, HALF, mutation_probability=np.full(2, 0.1), switching_rate=np.full(1, 0.3),
            symmetric_probability=np.full(1, 0.2),
        )  # fmt: skip

    model = custom_model(
        {"m": 2}, law, mutations=[("m", 1), ("m", -1)], switches=[("m", 2)],
        differentiations=[("m", -2)],
    )  # fmt: skip
    at = [builders.rates(model, {"m": level}) for level in range(3)]
    assert [(r.mutation_probability > 0).tolist() for r in at] == [
        [True, False],
        [True] * 2,
        [False, True],
    ]
    assert [bool(r.switching_rate[0] > 0) for r in at] == [True, False, False]
    assert [bool(r.symmetric_probability[0] > 0) for r in at] == [False, False, True]
    assert not any(r.asymmetric_probability.any() for r in at)


# --- crowding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["none", "logistic", "gompertz"])
@builders.in_double
def test_crowding_slows_births_by_the_cells_at_their_own_site(law):
    """max(0, 1 - N/K) or ln(K/N)/ln(K) of the living cells; what left the classes crowds nobody."""
    model = eqx.tree_at(lambda m: m.sites.capacity, FULL, np.array([100.0, 30.0]))
    model = eqx.tree_at(
        lambda m: m.sites, model, type(FULL.sites)(law, *jax.tree.leaves(model.sites))
    )
    net = network(model, [0], 1)
    before = full_speeds(net)
    count = np.arange(1.0, net.num_types + 1)
    count[-1] = 1e6  # outside
    size = count[:-1].reshape(-1, 2).sum(0)
    if law == "none":
        factor = np.ones(2)
    elif law == "logistic":
        factor = np.maximum(0, 1 - size / [100, 30])
    else:
        factor = np.maximum(0, np.log([100, 30] / size) / np.log([100, 30]))
    after = crowded(
        jax.tree.map(jnp.asarray, before), net, cast(model.sites, jnp.float64), jnp.asarray(count)
    )
    wanted = before.birth * np.append(np.tile(factor, net.num_inside // 2), 0)
    np.testing.assert_allclose(after.birth, wanted, rtol=1e-12)
    np.testing.assert_array_equal(after.death, before.death)
