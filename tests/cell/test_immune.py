"""Immunity: what a cell shows, what effectors make of it, and what holds effectors back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxevo import model as models
from jaxevo.cell import immune
from tests import builders
from tests.builders import assert_close, assert_same_bits, build, in_double, over_doses, rates, real

pytestmark = pytest.mark.both_precisions

EVASION = {
    "antigen": {"antigen_factor": 0.25, "max_level": 2},
    "ligand": {"ligand_share": 0.5, "max_level": 3},
    "evader": {"evaded_share": 0.75},
}


def seen_by(**parameters):
    """A model with immune cells, two checkpoint inhibitors and a drug that kills."""
    return build(
        drugs=("x", "y", "toxin"), targets=("T",), kd={"T": {"toxin": 1.0}}, max_death_rate=2.0,
        alterations=EVASION, checkpoint_block={"x": 1.0, "y": 0.5},
        checkpoint_ec50={"x": 2.0, "y": 0.1}, **parameters,
    )  # fmt: skip


def visibility(altered=None, **outside: float) -> float:
    return float(rates(seen_by(), altered, outside).visibility)


def test_a_lost_antigen_and_a_ligand_hide_a_cell_level_by_level():
    """Biology row 13: v = a^n, and v = (1 - l)^n; both together multiply."""
    assert visibility() == 1
    assert_close(visibility({"antigen": 2}), 0.25**2)
    assert_close(visibility({"ligand": 3}), 0.5**3)
    assert_close(visibility({"antigen": 1, "ligand": 1}), 0.25 * 0.5)


def test_a_checkpoint_inhibitor_releases_the_ligand_by_its_dose_and_never_the_antigen():
    """Biology row 13: v = a (1 - l (1 - C/(C + EC50))); a lost antigen keeps its bits at any dose."""
    doses = np.array([0.0, 0.2, 2.0, 20.0, 2e6])
    table = doses[:, None] * [1.0, 0.0, 0.0]
    blocked = doses / (doses + 2.0)
    braked = over_doses(seen_by(), table, {"ligand": 1}).visibility
    assert_close(braked, 1 - 0.5 * (1 - blocked))
    lost = over_doses(seen_by(), table, {"antigen": 1}).visibility
    np.testing.assert_array_equal(lost, 0.25)
    np.testing.assert_array_equal(over_doses(seen_by(), table).visibility, 1.0)


def test_two_checkpoint_inhibitors_block_independently():
    """x = 1 - prod (1 - x_d C/(C + EC50)); at most the share that a drug can block."""
    left = (1 - 0.5) * (1 - 0.5 * 0.5)
    assert_close(visibility({"ligand": 1}, x=2.0, y=0.1), 1 - 0.5 * left)
    assert_close(visibility({"ligand": 1}, y=1e9), 1 - 0.5 * (1 - 0.5 * 1e9 / (1e9 + 0.1)))


def test_evaded_death_signals_and_fibroblasts_do_not_hide_a_cell():
    """Rows 10 and 17 act on drugs: the same visibility, to the bit, and less death by the drug."""
    sheltered = seen_by(shielded_share=0.5)
    plain = rates(seen_by(), {}, {"toxin": 3.0})
    for now in (
        rates(seen_by(), {"evader": 1}, {"toxin": 3.0}),
        rates(sheltered, {}, {"toxin": 3.0}),
    ):
        assert_same_bits(now.visibility, plain.visibility)
        assert now.death_rate < plain.death_rate


def test_immune_cells_change_no_rate_of_a_cell_by_themselves():
    """All bits but visibility, which is none without them; killing comes with the counts."""
    with_immune = rates(seen_by(kill_rate=3.0, effectors=100.0), {"ligand": 1}, {"toxin": 0.3})
    bare = build(drugs=("x", "y", "toxin"), targets=("T",), kd={"T": {"toxin": 1.0}},
                 max_death_rate=2.0, alterations=EVASION)  # fmt: skip
    without = rates(bare, {"ligand": 1}, {"toxin": 0.3})
    assert without.visibility is None
    assert with_immune.visibility is not None
    for name in ("birth_rate", "death_rate", "mutation_probability", "switching_rate"):
        assert_same_bits(getattr(with_immune, name), getattr(without, name))


def params(**given) -> immune.ImmuneParams:
    """Immune cells of two sites, in the precision of the run."""
    model = build(sites=("lung", "brain"), drugs=("x", "y"), **{"kill_rate": 0.0} | given)
    return models.cast(model, real()).immune


def numbers(*values) -> jax.Array:
    return jnp.asarray(values, real())


NONE = (0.0, 0.0)


def change(p, cells, effectors, suppressors=NONE, removal=NONE):
    """E' and M' at both sites."""
    found = immune.change(p, *(numbers(*x) for x in (cells, effectors, suppressors, removal)))
    return tuple(map(np.asarray, found))


def test_killing_is_mass_action_with_few_cells_and_saturates_with_many():
    """n E/(1 + T/h): n E at T = 0, half at T = h; all effectors together never kill more than n E h."""
    p = params(kill_rate=0.5, kill_half=100.0)
    rate = immune.immune_death_rate(p, numbers(0.0, 100.0), numbers(8.0, 8.0), numbers(0.0, 0.0))
    assert_close(rate, [4.0, 2.0])
    many = immune.immune_death_rate(p, numbers(1e9, 1e12), numbers(8.0, 8.0), numbers(0.0, 0.0))
    assert_close(many * numbers(1e9, 1e12), [400.0, 400.0], 1e-5, 1e-6)
    unlimited = immune.immune_death_rate(
        params(kill_rate=0.5), numbers(0.0, 1e12), numbers(8.0, 8.0), numbers(0.0, 0.0)
    )
    np.testing.assert_array_equal(unlimited, 4.0)


def test_suppressors_halve_killing_and_recruitment_at_their_half_number():
    """B = 1/(1 + M/M50) on both; influx, loss and exhaustion are untouched."""
    p = params(
        kill_rate=0.5, recruitment=2.0, recruitment_half=50.0, influx=3.0, loss_rate=0.1,
        exhaustion=0.01, suppression_half=20.0,
    )  # fmt: skip
    few, half = numbers(0.0, 0.0), numbers(20.0, 20.0)
    cells, effectors = numbers(50.0, 50.0), numbers(8.0, 8.0)
    free, held = (immune.immune_death_rate(p, cells, effectors, m) for m in (few, half))
    assert_close(held, 0.5 * np.asarray(free))
    free, held = (change(p, (50, 50), (8, 8), m)[0] for m in (few, half))
    lost = 3.0 - 8 * (0.1 + 0.01 * 50)
    assert_close(free, 2.0 * 8 * 0.5 + lost)
    assert_close(held, 2.0 * 8 * 0.25 + lost)


def test_recruitment_saturates_and_infiltration_scales_what_comes():
    """f (s + p E T/(g + T)): half at T = g, p E for many cells; another site gets its own share."""
    p = params(recruitment=2.0, recruitment_half=50.0, influx=3.0, infiltration={"brain": 0.1})
    gain, _ = change(p, (50, 50), (8, 8))
    assert_close(gain, [3 + 8.0, 0.1 * (3 + 8.0)])
    gain, _ = change(p, (1e12, 1e12), (8, 8))
    many = 3 + 16.0 * 1e12 / (1e12 + 50.0)
    assert_close(gain, [many, 0.1 * many])


def test_exhaustion_takes_effectors_by_contact_alone():
    """- m E T: none without tumor cells, in proportion to both."""
    p = params(exhaustion=1e-3)
    gain, _ = change(p, (0, 10), (8, 8))
    assert_close(gain, [0.0, -0.08])
    gain, _ = change(p, (20, 20), (4, 16))
    assert_close(gain, [-0.08, -0.32])


def test_suppressors_come_with_the_tumor_and_go_with_their_drug():
    """M rests at f r T/((g + T)(d + k)); k is the sum over drugs of k_d C/(C + EC50)."""
    given = {
        "suppressor_recruitment": 6.0, "suppressor_half": 100.0, "suppressor_loss_rate": 0.5,
        "suppressor_infiltration": {"brain": 0.5}, "removal_rate": {"x": 1.0, "y": 4.0},
        "removal_ec50": {"x": 2.0},
    }  # fmt: skip
    p = params(**given)
    model = models.cast(build(sites=("lung", "brain"), drugs=("x", "y"), **given), real())
    here = builders.environment(model, {"x": 2.0, "y": 1.0})
    removal = immune.suppressor_removal(p, here)
    assert_close(removal, 0.5 + 2.0)
    np.testing.assert_array_equal(
        immune.suppressor_removal(p, builders.environment(model, {})), 0.0
    )
    rest = np.array([6.0, 3.0]) * 0.5 / (0.5 + 2.5)
    _, gain = change(p, (100, 100), NONE, rest, (2.5, 2.5))
    np.testing.assert_allclose(gain, 0.0, atol=1e-6)
    _, gain = change(p, NONE, NONE, (1.0, 1.0))
    assert_close(gain, [-0.5, -0.5])


def test_the_pace_bounds_how_fast_immune_cells_change_by_themselves():
    """|dE'/dE| and |dM'/dM| at any suppression are at most the pace."""
    p = params(
        recruitment=0.3, recruitment_half=10.0, exhaustion=0.01, loss_rate=0.2,
        suppressor_loss_rate=0.4, suppression_half=5.0,
    )  # fmt: skip
    cells, removal = numbers(0.0, 200.0), numbers(0.1, 0.0)
    fastest = np.asarray(immune.pace(p, cells, removal))

    def own(effectors, suppressors):
        return immune.change(p, cells, effectors, suppressors, removal)

    at = numbers(3.0, 3.0), numbers(2.0, 2.0)
    slope_e = jax.jacobian(lambda e: own(e, at[1])[0])(at[0])
    slope_m = jax.jacobian(lambda m: own(at[0], m)[1])(at[1])
    assert np.all(np.abs(np.diag(slope_e)) <= fastest)
    assert np.all(np.abs(np.diag(slope_m)) <= fastest * (1 + 1e-6))


@in_double
def test_gradients_are_finite_without_cells_and_match_differences():
    """d (killing, E', M')/d T at T = 0 and elsewhere, with infinite and finite saturation."""
    p = params(
        kill_rate=0.5, kill_half=100.0, recruitment=2.0, recruitment_half=50.0, exhaustion=0.01,
        suppressor_recruitment=6.0, suppressor_half=30.0, suppression_half=20.0,
    )  # fmt: skip

    def all_of(cells):
        e, m, k = numbers(8.0, 8.0), numbers(2.0, 5.0), numbers(0.0, 0.1)
        moved = immune.change(p, cells, e, m, k)
        return jnp.concatenate([immune.immune_death_rate(p, cells, e, m), *moved])

    for at in (numbers(0.0, 0.0), numbers(40.0, 3.0)):
        slope = np.asarray(jax.jacobian(all_of)(at))
        for i in range(2):
            step = np.eye(2)[i] * 1e-5
            measured = (all_of(at + step) - all_of(at - step)) / 2e-5
            np.testing.assert_allclose(slope[:, i], measured, rtol=1e-6, atol=1e-9)
    endless = models.cast(build(kill_rate=0.5), jnp.float64).immune
    zero = jnp.zeros(1)
    value = lambda t: immune.immune_death_rate(endless, t, zero + 1, zero)[0]  # noqa: E731
    assert np.isfinite(jax.grad(value)(zero)).all()
