"""What holds in every test: shapes and types are checked, no silent promotion, CPU unless asked."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before jax and matplotlib are imported: no windows, and no surprise when a GPU is there.
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# What one process has compiled the others need not compile again; gone when the tests end.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
COMPILED = Path(tempfile.gettempdir()) / f"jaxevo-{os.getppid() if IS_WORKER else os.getpid()}"
SHARED = {"compilation_cache_dir": str(COMPILED), "persistent_cache_min_compile_time_secs": 0.2}
for option, value in SHARED.items():
    jax.config.update(f"jax_{option}", value)
    os.environ[f"JAX_{option.upper()}"] = str(value)  # for the processes that tests start

# From here on every annotated array of the package is checked where it is passed and returned.
install_import_hook("jaxevo", "beartype.beartype")

# Same examples in every run; compilation makes the first one slow.
hypothesis.settings.register_profile("jaxevo", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("jaxevo")

MANY_MAPS = 20_000  # of memory; Linux gives a process 65,530, and compiled programs take some each

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


def pytest_unconfigure() -> None:
    """Remove compiled programs, once all workers have ended."""
    if not IS_WORKER:
        shutil.rmtree(COMPILED, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none, and say why."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))


def forget_programs() -> None:
    """Forget compiled programs before a process runs out of memory maps, which kills it."""
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs() -> Iterator[None]:
    """After every file of tests."""
    yield
    forget_programs()


@pytest.fixture
def is_x64() -> bool:
    """Whether this run is in 64-bit precision (JAX_ENABLE_X64=1)."""
    return bool(jax.config.jax_enable_x64)
