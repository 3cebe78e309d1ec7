"""A small trajectory, and the file it makes."""

from pathlib import Path

import pytest

from jaxevo.engines.base import Trajectory
from jaxevo.store import write_trajectory
from tests.trajectories import make_trajectory


@pytest.fixture
def trajectory() -> Trajectory:
    return make_trajectory(days=20, replicates=2)


@pytest.fixture
def attributes() -> dict[str, str | int | float]:
    return {
        "config": "[study]\ntitle = '\N{GREEK SMALL LETTER MU}'\n" + "# a long study\n" * 8000,
        "empty": "",
        "seed": 2**63 - 1,
        "negative": -5,
        "sync_hours": 0.1,
    }


@pytest.fixture
def written(trajectory, attributes, tmp_path) -> Path:
    write_trajectory(tmp_path / "trajectory.h5", trajectory, attributes)
    return tmp_path / "trajectory.h5"
