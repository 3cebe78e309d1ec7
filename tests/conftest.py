"""What holds in every test: shapes and types are checked, no silent promotion, CPU unless asked."""

import os

# Before jax and matplotlib are imported: no windows, and no surprise when a GPU is there.
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# From here on every annotated array of the package is checked where it is passed and returned.
install_import_hook("jaxevo", "beartype.beartype")

# Same examples in every run; compilation makes the first one slow.
hypothesis.settings.register_profile("jaxevo", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("jaxevo")

NO_GPU = "needs an NVIDIA GPU, and JAX sees none (install the extra cuda13 where there is one)"


def has_gpu() -> bool:
    """Whether JAX sees a GPU."""
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False


def pytest_configure() -> None:
    """Without the marker `gpu`, tests run on the CPU, wherever they run."""
    if has_gpu():
        jax.config.update("jax_default_device", jax.devices("cpu")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none, and say why."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))


@pytest.fixture
def is_x64() -> bool:
    """Whether this run is in 64-bit precision (JAX_ENABLE_X64=1)."""
    return bool(jax.config.jax_enable_x64)
