"""Reads the functions of the user's own that a sweep file names, or that a Python program hands over."""

from __future__ import annotations

import base64
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from sweeper.search_spaces import SpaceError
from sweeper.search_spaces.function import FunctionSource
from sweeper.spec.section import refuse
from sweeper.spec.user_code import UserFunction

REFERENCE = re.compile(r"(?P<file>.+\.py):(?P<function>[^:/\\]+)", re.DOTALL)
MAX_TEXT = 1_000_000  # characters of a file
NOTEBOOK = "<python>"  # the "file" of a function that lies in none


def read_function(value: Any, remedy: str = "Write file.py:function") -> UserFunction:
    """The function that a text ``my_code.py:function`` names, or a Python function; nothing is run.

    It is meant for a validator of pydantic: what is wrong is refused there, what is no function with this ``remedy``.
    """
    if isinstance(value, UserFunction):
        return value
    if isinstance(value, Mapping):
        return _stored(value)
    if callable(value):
        return _of_callable(value)
    match = REFERENCE.fullmatch(value[:4096]) if isinstance(value, str) else None
    if match is None:
        refuse(f"{str(value)[:60]!r} is no function of a file", remedy=remedy)
    return _of_file(os.path.abspath(match["file"]), match["function"])


def stored_function(function: UserFunction) -> dict[str, Any]:
    """A function as plain data, which ``read_function`` reads."""
    return {name: value for name, value in asdict(function).items() if name != "pickled" or value}


def _of_file(file: str, function: str) -> UserFunction:
    try:
        FunctionSource.read(file, function)
        with open(file, encoding="utf-8", newline="") as stream:
            text = stream.read(MAX_TEXT + 1)
    except SpaceError as error:
        where = f"{os.path.basename(file)}: {error.key + ': ' if error.key else ''}"
        refuse(where + error.problem, remedy=error.remedy)
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{os.path.basename(file)} cannot be read ({error})"[:300])
    if len(text) > MAX_TEXT:
        refuse(f"{os.path.basename(file)} has more than {MAX_TEXT:,} characters", remedy="Import the rest from it")
    return UserFunction(file, function, text)


def _of_callable(function: Callable[..., Any]) -> UserFunction:
    """A function of a module's file by that file; any other pickled, with all that it reaches in its notebook."""
    import cloudpickle

    name = getattr(function, "__name__", type(function).__name__)
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    of_module = module is not None and module.__name__ != "__main__" and getattr(module, name, None) is function
    if of_module and file is not None and file.endswith(".py") and os.path.isfile(file):
        return _of_file(os.path.abspath(file), name)
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = ""
    try:
        pickled = base64.b64encode(cloudpickle.dumps(function)).decode("ascii")
    except Exception as error:
        problem = f"{name} cannot travel to the workers ({' '.join(str(error).split())[:200]})"
        refuse(problem, remedy="Put the function into a file and name it file.py:function")
    return UserFunction(NOTEBOOK, name, text, pickled)


def _stored(value: Mapping[str, Any]) -> UserFunction:
    """The function as a stored spec has it."""
    known = {"file", "function", "text"}
    if not known <= set(value) <= known | {"pickled"} or not all(isinstance(text, str) for text in value.values()):
        refuse("it is no function", remedy="Write file.py:function")
    return UserFunction(**value)
