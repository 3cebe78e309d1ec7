"""Migration: between sites, at the rates that the sites state."""

import numpy as np
import pytest
from scipy.linalg import expm

from tests.builders import build, rates

pytestmark = pytest.mark.both_precisions

SITES = ("lung", "liver", "brain")
MOVES = {"lung": {"liver": 0.25, "brain": 0.0625}, "liver": {"lung": 0.5}}


def test_a_cell_leaves_at_the_rates_of_its_site_and_never_for_where_it_is():
    """Biology row 19: rates per day to each other site; a site that names none keeps its cells."""
    model = build(sites=SITES, migration_rate=MOVES)
    expected = {"lung": [0, 0.25, 0.0625], "liver": [0.5, 0, 0], "brain": [0, 0, 0]}
    for site, row in expected.items():
        np.testing.assert_array_equal(rates(model, site=site).migration_rate, row)


def test_every_genotype_moves_alike():
    """No trait changes migration."""
    model = build(sites=SITES, migration_rate=MOVES, alterations={"a": {"division_factor": 0.1}})
    np.testing.assert_array_equal(
        rates(model, {"a": 1}, site="lung").migration_rate, rates(model, site="lung").migration_rate
    )


def test_moving_conserves_cells_and_settles_where_flows_balance():
    """Conservation: what leaves arrives; with moves both ways n_i m_ij = n_j m_ji."""
    model = build(sites=SITES, migration_rate={"lung": {"liver": 0.25}, "liver": {"lung": 0.5}})
    moves = [rates(model, site=site).migration_rate for site in SITES]
    flow = np.stack(moves, axis=1).astype(np.float64)
    flow = flow - np.diag(flow.sum(axis=0))
    cells = expm(flow * 100.0) @ [900.0, 0.0, 7.0]
    np.testing.assert_allclose(cells, [600.0, 300.0, 7.0], rtol=1e-6)
