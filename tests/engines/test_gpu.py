"""The `cells` engine on an NVIDIA GPU: the same laws, and the same bits for any batch."""

import jax
import numpy as np
import pytest

from jaxevo.engines.cells import simulate
from tests.battery import BATTERY
from tests.engines.test_cells import problem
from tests.kernels import cells_kernel

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("check", ["dsmts_001_01", "frequent_mutation", "switching", "migration"])
def test_cells_on_a_gpu_follow_the_exact_law(check):
    """The battery with its own samples and limits, on the first GPU."""
    with jax.default_device(jax.devices("gpu")[0]):
        BATTERY[check](cells_kernel())


def test_a_replicate_on_a_gpu_does_not_depend_on_its_batch():
    """Reliability promise 2 on the device."""
    devices = (jax.devices("gpu")[0],)
    together = simulate(problem(), devices=devices)[""]["burden"].data
    alone = simulate(problem(), replicates=range(1, 2), devices=devices)[""]["burden"].data
    assert np.array_equal(together[:, :, 1:2], alone)
