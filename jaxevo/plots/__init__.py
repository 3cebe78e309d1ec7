"""Pictures of a trajectory, each from the named arrays alone, of a trial and of a screen.

The only door to matplotlib.
"""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from jaxevo.engines.base import Trajectory
from jaxevo.plots import data, figures, screens, trials
from jaxevo.trial import Followed, TrialReport

__all__ = [
    "draw_all",
    "draw_screen",
    "draw_trial",
    "plot_burden",
    "plot_composition",
    "plot_concentration",
    "plot_muller",
    "plot_relapse",
]


def draw_all(trajectory: Trajectory, folder: Path, title: str = "") -> list[Path]:
    """Draw every picture that the trajectory has data for into a folder, made if it is missing."""
    root = trajectory[""]
    has_clones = "clone_count" in root and root["clone_count"].data.size > 0
    has_clones = has_clones and len(root["clone_time"].data) > 1
    pictures = {
        "relapse.png": (plot_relapse, "relapse_probability" in root),
        "burden.png": (plot_burden, "burden" in root),
        "composition.png": (plot_composition, "class_count" in root),
        "muller.png": (plot_muller, has_clones),
        "concentration.png": (plot_concentration, bool(data.drugs_given(root))),
    }
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [(plot, folder / name) for name, (plot, has_data) in pictures.items() if has_data]
    return [plot(trajectory, path, title) for plot, path in drawn]


def draw_trial(
    report: TrialReport, runs: dict[str, Followed], folder: Path, title: str = ""
) -> list[Path]:
    """Draw the pictures of a trial into a folder, made if it is missing; of two runs each its own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, run in report["runs"].items():
        for what, draw in trials.pictures(run, runs[name]).items():
            path = folder / (f"{name}_{what}.png" if len(report["runs"]) > 1 else f"{what}.png")
            with figures.own_style():
                draw(title).savefig(path, format="png")
            paths.append(path)
    return paths


def draw_screen(arrays: Trajectory, folder: Path, title: str = "") -> list[Path]:
    """Draw the pictures of a screen into a folder, made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in screens.pictures(arrays).items():
        paths.append(folder / f"{name}.png")
        with figures.own_style():
            draw(title).savefig(paths[-1], format="png")
    return paths


def plot_burden(trajectory: Trajectory, path: Path, title: str = "") -> Path:
    """Burden against day, one color per arm: every replicate, or a band where they are many."""
    return _save(figures.burden, trajectory, path, title)


def plot_composition(trajectory: Trajectory, path: Path, title: str = "") -> Path:
    """Stacked shares of the resistance mechanisms, one panel per arm."""
    return _save(figures.composition, trajectory, path, title)


def plot_muller(trajectory: Trajectory, path: Path, title: str = "") -> Path:
    """Muller plot of the largest clones, one panel per arm."""
    return _save(figures.muller, trajectory, path, title)


def plot_relapse(trajectory: Trajectory, path: Path, title: str = "") -> Path:
    """Probability of relapse against day, and that of one cell of each class, one color per arm."""
    return _save(figures.relapse, trajectory, path, title)


def plot_concentration(trajectory: Trajectory, path: Path, title: str = "") -> Path:
    """Concentration of every drug in blood and at each site."""
    return _save(figures.concentration, trajectory, path, title)


def _save(
    draw: Callable[[Trajectory, str], Figure], trajectory: Trajectory, path: Path, title: str
) -> Path:
    with figures.own_style():
        draw(trajectory, title).savefig(path, format="png")
    return path
