"""The public surface: few names, all documented; light imports; the README's example runs."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxevo
from jaxevo import load_study
from tests.studies import environment

MOST_NAMES = 25
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = (
    "tumor.treat_at_cells=1e3",
    "tumor.capacity_cells=4e3",
    "study.max_cells=6e3",
    "study.replicates=2",
    "study.horizon_days=2",
)
HEAVY = ("pydantic", "typer", "rich", "h5py", "matplotlib", "optax")


def python(code: str, cwd: Path) -> str:
    """What a fresh Python prints when it runs the code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_surface_is_a_short_list_in_order():
    """At most 25 names, sorted, none twice, and `dir` shows them all."""
    assert len(jaxevo.__all__) <= MOST_NAMES
    assert sorted(set(jaxevo.__all__)) == jaxevo.__all__
    assert set(jaxevo.__all__) <= set(dir(jaxevo))


@pytest.mark.parametrize("name", jaxevo.__all__)
def test_every_public_name_is_there_and_documented(name):
    """It can be imported, says what it is, and is a function or a class of this package."""
    found = getattr(jaxevo, name)
    if name == "Trajectory":  # an alias of dict; its docstring stands below it in the source
        assert found.__origin__ is dict
        source = inspect.getsource(inspect.getmodule(jaxevo.Variable))
        assert re.search(r'^Trajectory = .*\n"""[A-Z].*\."""$', source, re.MULTILINE)
        return
    assert found.__module__.split(".")[0] == "jaxevo"
    own = vars(found).get("__doc__") if inspect.isclass(found) else found.__doc__
    assert own
    assert re.match(r"[A-Z`].*\.", own)  # a sentence
    assert not own.startswith(f"{name}(")  # what Python writes where nobody did


def test_a_name_that_is_not_public_is_refused():
    """A misspelled name is an attribute error that says so."""
    with pytest.raises(AttributeError, match=r"jaxevo.* has no attribute 'simulat'"):
        jaxevo.simulat  # noqa: B018


@pytest.mark.parametrize("module", ["jaxevo", "jaxevo.engines.cells", "jaxevo.model"])
def test_light_imports_stay_light(module, tmp_path):
    """The package and its engine load without study files, command line, store and plots; the package
    itself without JAX.
    """
    unwanted = (*HEAVY, "jax", "numpy") if module == "jaxevo" else HEAVY
    code = f"import {module}, sys; print(*sorted(set(sys.modules) & set({unwanted!r})))"
    assert python(code, tmp_path).split() == []


def test_the_python_example_of_the_readme_runs(tmp_path):
    """Its code runs word for word, in a folder where configs/main.toml is the main study, made small."""
    (tmp_path / "configs").mkdir()
    small = load_study(ROOT / "configs" / "main.toml", SMALL)
    (tmp_path / "configs" / "main.toml").write_text(small.to_toml(), encoding="utf-8")
    code, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    printed = python(code, tmp_path)
    assert "('arm', 'patient', 'replicate', 'time')" in printed
    assert "resistant_fraction" in printed
    found, attributes = jaxevo.read_trajectory(tmp_path / "pc9.h5")
    assert found[""]["burden"].data.shape[:3] == (2, 1, 2)
    assert attributes["title"] == small.study.title


def test_the_custom_law_of_the_readme_runs(tmp_path):
    """Logistic growth with a death rate of its own levels off at K (1 - d/b)."""
    _, code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    last = float(python(code, tmp_path).split()[-1].strip("[]"))
    assert last == pytest.approx(1e6 * (1 - 0.1 / 0.5), rel=1e-3)
