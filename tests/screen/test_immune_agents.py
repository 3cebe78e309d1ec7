"""A checkpoint inhibitor in a screen: what it adds to the kill by effectors follows from the law."""

import numpy as np
import pytest

from jaxevo import assay, load_study, store
from jaxevo.config.agents import levels_around
from tests.studies import write

KILL, EFFECTORS, LIGAND, EC50 = 2e-5, 20_000, 0.9, 0.2

STUDY = f"""\
[study]
title = "a screen of a checkpoint inhibitor"
engine = "clones"
seed = 11
horizon_days = 10
[tumor]
birth_rate_per_day = 0.3
death_rate_per_day = 0.2
mixture = [{{ cells = 20000, genotype = {{ FORM = 1 }} }}]
[drugs.blocker]
[alterations.ligand]
mechanism = "immune_evasion"
inheritance = "mutation"
probability_per_division = 0
ligand_share = {LIGAND}
[alterations.lost]
mechanism = "immune_evasion"
inheritance = "mutation"
probability_per_division = 0
antigen_factor = 0.5
[immune]
influx_cells_per_day = 2000
loss_per_day = 0.1
kill_per_day_per_effector = {KILL}
effector_cells = {EFFECTORS}
checkpoint_ec50_um = {{ blocker = {EC50} }}
[screen]
order = 1
exposure_days = 2
replicates = 20
[[arms]]
name = "none"
doses = []
"""


@pytest.mark.parametrize("form", ["ligand", pytest.param("lost", marks=pytest.mark.slow)])
def test_it_adds_the_kill_that_a_ligand_holds_off_and_nothing_where_the_antigen_is_lost(
    form, tmp_path
):
    """Excess hazard k E share C/(C + EC50), within 4 standard errors of each of eight levels; 20 x 20,000
    cells give an error of about .002 per day, of .36 at the highest level. Levels are the default ones.
    """
    study = load_study(write(tmp_path, STUDY.replace("FORM", form)), needs=["screen"])
    root = store.read_screen(assay.run_screen(study, tmp_path / "out").arrays_path)[0][""]
    level = root["level"].data[1:, 0]
    np.testing.assert_array_equal(level, levels_around(EC50))
    share = LIGAND if form == "ligand" else 0.0
    expected = KILL * EFFECTORS * share * level / (level + EC50)
    found, error = root["hazard"].data[1:, 0], root["hazard_error"].data[1:, 0]
    assert np.all(error < 0.01)
    assert np.all(np.abs(found - expected) < 4 * error + 1e-12)
    assert form == "lost" or expected[-1] > 20 * error[-1]
