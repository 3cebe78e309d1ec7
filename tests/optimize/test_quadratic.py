"""The step within totals: conditions of Karush, Kuhn and Tucker, and L-BFGS in its compact form."""

import numpy as np
import pytest

from jaxevo.optimize.quadratic import MEMORY, Curvature, Pairs, Polytope

NUM, ROWS = 40, 12


def at_random(seed: int, pairs: int):
    """A place within totals of groups that overlap, a slope there, and what was learned of a curvature."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.repeat(np.eye(8), 5, axis=1), np.tile(np.eye(4), 10)])
    rows *= rng.uniform(0.5, 1.5, rows.shape)
    polytope = Polytope(rows, rng.uniform(0.3, 0.8, ROWS) * rows.sum(axis=1))
    unit = polytope.nearest(np.clip(rng.uniform(-0.5, 1.5, NUM), 0, 1))
    root = rng.normal(size=(NUM, NUM))
    matrix, known = root @ root.T / NUM, Pairs.none(NUM)
    for _ in range(pairs):
        moved = rng.normal(size=NUM) * 10.0 ** rng.uniform(-4, 0)
        known = known.extended(Curvature.of(known), moved, matrix @ moved)
    return polytope, unit, rng.normal(size=NUM) * 10.0 ** rng.uniform(-3, 1), known


@pytest.mark.parametrize("pairs", [0, 1, 5, 30])
def test_the_step_leads_to_the_least_of_the_model(pairs):
    """There the slope of the model is stationary within box and totals, with pressure on full rows alone."""
    for seed in range(5):
        polytope, unit, slope, known = at_random(seed, pairs)
        curve = Curvature.of(known)
        step, pressure = polytope.step(unit, slope, curve)
        there, size = unit + step, max(1.0, float(np.abs(slope).max()))
        assert np.all(pressure >= 0)
        assert there.min() >= -1e-15
        assert there.max() <= 1 + 1e-15
        assert np.all(polytope.rows @ there <= polytope.most + 1e-8)
        leaning = slope + curve.times(step) + pressure @ polytope.rows
        inside = (there > 1e-5) & (there < 1 - 1e-5)
        assert np.abs(leaning[inside]).max(initial=0.0) < 1e-5 * size
        assert np.all(leaning[there < 1e-5] > -1e-5 * size)
        assert np.all(leaning[there > 1 - 1e-5] < 1e-5 * size)
        assert np.abs(pressure * (polytope.most - polytope.rows @ there)).max() < 1e-6 * size


def test_the_nearest_place_is_itself_within_and_no_other_is_closer():
    """A projection p of v: (v - p) (q - p) <= 0 for every q within.

    A bound that nothing presses on is approached to the square root of the method's accuracy.
    """
    polytope, inside, _, _ = at_random(3, 0)
    np.testing.assert_allclose(polytope.nearest(inside), inside, atol=1e-6)
    rng = np.random.default_rng(4)
    place = rng.uniform(0, 1, NUM)
    found = polytope.nearest(place)
    assert np.abs(place - found).max() > 0.1
    for _ in range(100):
        other = polytope.nearest(rng.uniform(0, 1, NUM))
        assert (place - found) @ (other - found) < 1e-6


def test_the_compact_form_is_that_of_the_updates_one_by_one():
    """B+ = B - B s s B/(s B s) + y y/(y s) from t 1, for the last pairs."""
    _, _, _, known = at_random(5, MEMORY + 7)
    assert len(known.moved) == MEMORY
    curve = Curvature.of(known)
    expected = curve.scale * np.eye(NUM)
    for s, y in zip(*known, strict=True):
        expected += np.outer(y, y) / (y @ s)
        before = expected - np.outer(y, y) / (y @ s)
        expected -= np.outer(before @ s, before @ s) / (s @ before @ s)
    found = np.stack([curve.times(row) for row in np.eye(NUM)])
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


def test_a_pair_of_negative_curvature_is_bent():
    """B stays positive whatever the change of slope was."""
    rng = np.random.default_rng(6)
    known = Pairs.none(NUM)
    for _ in range(8):
        moved = rng.normal(size=NUM)
        known = known.extended(Curvature.of(known), moved, -moved + 0.1 * rng.normal(size=NUM))
    curve = Curvature.of(known)
    matrix = np.stack([curve.times(row) for row in np.eye(NUM)])
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2).min() > 0
