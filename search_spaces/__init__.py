"""Search spaces: a vocabulary of hyperparameter domains, ready-made spaces as YAML, and their Optuna translation."""

from sweeper.search_spaces.errors import Problem, SpaceError
from sweeper.search_spaces.load import load_space, ready_made
from sweeper.search_spaces.space import Row, Space
from sweeper.search_spaces.vocabulary import KNOWN
from sweeper.search_spaces.yaml_file import ReadError, parse_json, parse_yaml, read_file

__all__ = [
    "KNOWN",
    "Problem",
    "ReadError",
    "Row",
    "Space",
    "SpaceError",
    "load_space",
    "parse_json",
    "parse_yaml",
    "read_file",
    "ready_made",
]
