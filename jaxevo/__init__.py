"""jaxevo: drug resistance in tumors, one model read by four engines."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxevo.config import Study, StudyError, load_study
    from jaxevo.custom import custom_model
    from jaxevo.engines.base import (
        Arm,
        Founder,
        Problem,
        Record,
        Refused,
        Trajectory,
        Variable,
    )
    from jaxevo.engines.cells import Progress
    from jaxevo.model import Model, rates
    from jaxevo.optimize.schedule import optimize_schedule
    from jaxevo.plots import draw_all
    from jaxevo.run import RunResult, run_study, simulate, summarize
    from jaxevo.state import Environment, Rates, Traits
    from jaxevo.store import read_trajectory, write_trajectory

_HOME = {
    "Arm": "engines.base",
    "Environment": "state",
    "Founder": "engines.base",
    "Model": "model",
    "Problem": "engines.base",
    "Progress": "engines.cells",
    "Rates": "state",
    "Record": "engines.base",
    "Refused": "engines.base",
    "RunResult": "run",
    "Study": "config",
    "StudyError": "config",
    "Traits": "state",
    "Trajectory": "engines.base",
    "Variable": "engines.base",
    "custom_model": "custom",
    "draw_all": "plots",
    "load_study": "config",
    "optimize_schedule": "optimize.schedule",
    "rates": "model",
    "read_trajectory": "store",
    "run_study": "run",
    "simulate": "run",
    "summarize": "run",
    "write_trajectory": "store",
}

__all__ = [
    "Arm",
    "Environment",
    "Founder",
    "Model",
    "Problem",
    "Progress",
    "Rates",
    "Record",
    "Refused",
    "RunResult",
    "Study",
    "StudyError",
    "Traits",
    "Trajectory",
    "Variable",
    "custom_model",
    "draw_all",
    "load_study",
    "optimize_schedule",
    "rates",
    "read_trajectory",
    "run_study",
    "simulate",
    "summarize",
    "write_trajectory",
]


def __getattr__(name: str):
    """Import a public name when it is first asked for, so that light uses stay light."""
    if name not in _HOME:
        raise AttributeError(f"module 'jaxevo' has no attribute {name!r}")
    module = importlib.import_module(f"jaxevo.{_HOME[name]}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
