"""Study files: TOML -> checked, resolved `Study` -> `Problem`; errors name file, line and key."""

from jaxevo.config.load import load_study
from jaxevo.config.sentences import StudyError
from jaxevo.config.study import Study

__all__ = ["Study", "StudyError", "load_study"]
