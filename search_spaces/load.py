"""Finds a space by ready-made name, path, inline mapping or ``file.py:function``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.search_spaces.errors import SpaceError, shown
from sweeper.search_spaces.function import FunctionSource, is_stored
from sweeper.search_spaces.names import nearest
from sweeper.search_spaces.space import Space
from sweeper.search_spaces.yaml_file import ReadError, is_text, read_file

FOLDER = Path(__file__).parent
SUFFIXES = (".yaml", ".yml", ".json")
_FUNCTION = re.compile(r"(?P<path>.+\.py):(?P<function>[^:/\\]+)", re.DOTALL)


def ready_made() -> dict[str, str]:
    """The spaces that come with the project: name to one line of description, in alphabetical order."""
    described = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        with path.open(encoding="utf-8") as stream:
            described[path.stem] = stream.readline().lstrip("# ").strip()
    return described


def load_space(
    source: str | os.PathLike[str] | Mapping[str, Any], *, base: str | os.PathLike[str] | None = None
) -> Space:
    """The space that ``source`` names: a ready-made one, a YAML or JSON file, a mapping, or ``file.py:function``.

    Relative paths start at ``base`` (default: the working directory). A function is found but not run.

    Raises:
        SpaceError: with everything that is wrong, the file it stands in, and what to do.
    """
    if isinstance(source, Mapping):
        if {"name", "parameters"} <= set(source) or is_stored(source):
            return Space.from_json(source)
        return Space.of_mapping("inline", source)
    if not isinstance(source, str | os.PathLike):
        raise SpaceError(f"{shown(source)} is not a space", remedy=f"Name a space, a file or a mapping. {_names('')}")
    text = os.fspath(source)
    if not isinstance(text, str) or not is_text(text):
        raise SpaceError(f"{shown(text)} is not text", remedy="Rename the file with ordinary characters")
    if text in _ready_made_names():
        return _from_file(str(FOLDER / f"{text}.yaml"))
    if match := _FUNCTION.fullmatch(text):
        path = _absolute(match["path"], base)
        _require_file(path, (".py",))
        function = FunctionSource.read(path, match["function"])
        return Space(function.function, function=function)
    if not text.lower().endswith(SUFFIXES):
        if text.endswith(".py"):
            remedy = f"Name the function in it: {text[-60:]}:function"
            raise SpaceError("a Python file alone is not a space", remedy=remedy)
        raise SpaceError(f"there is no space {shown(text)}", remedy=_names(text))
    path = _absolute(text, base)
    _require_file(path, SUFFIXES)
    return _from_file(path)


def _from_file(path: str) -> Space:
    try:
        data = read_file(path)
    except ReadError as error:
        raise SpaceError(error.problem, file=path, remedy=error.remedy) from error
    if not isinstance(data, Mapping):
        raise SpaceError("it is not a mapping of hyperparameters to their values", file=path)
    try:
        return Space.of_mapping(Path(path).stem, data)
    except SpaceError as error:
        raise SpaceError.many(error.problems, file=path) from error


def _ready_made_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _names(text: str) -> str:
    own = "A space of your own is a path that ends in .yaml, or my_space.py:function"
    return f"{nearest(text, _ready_made_names())} {own}"


def _absolute(path: str, base: str | os.PathLike[str] | None) -> str:
    return os.path.abspath(os.path.join(base or os.getcwd(), os.path.expanduser(path)))


def _require_file(path: str, suffixes: tuple[str, ...]) -> None:
    if os.path.isfile(path):
        return
    folder = os.path.dirname(path)
    try:
        beside = sorted(name for name in os.listdir(folder) if name.lower().endswith(suffixes))
    except (OSError, ValueError):
        raise SpaceError("there is no such folder", file=folder) from None
    remedy = nearest(os.path.basename(path), beside[:50]) if beside else "The folder holds no such files"
    raise SpaceError("there is no such file", file=path, remedy=remedy)
