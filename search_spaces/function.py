"""Define-by-run spaces: a user's Python function on an Optuna trial, tied to the text it had when it was read."""

from __future__ import annotations

import ast
import base64
import hashlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

from sweeper.search_spaces.errors import SpaceError, shown
from sweeper.search_spaces.names import nearest


@dataclass(frozen=True)
class FunctionSource:
    """``function`` in the file at the absolute ``path``, whose bytes hashed to ``sha256`` when the sweep was made.

    One that lies in no file, of a notebook say, is ``pickled`` (base64 of what cloudpickle makes of it). One that was
    sent to a server has its file's ``text``: that is what runs, and only where a trial is suggested.
    """

    path: str
    function: str
    sha256: str
    pickled: str = ""
    text: str = ""

    @property
    def reference(self) -> str:
        """``path:function``, as a user writes it."""
        return f"{self.path}:{self.function}"

    def to_json(self) -> dict[str, str]:
        """Plain JSON data, of which ``is_stored`` is true with a name."""
        rest = {"pickled": self.pickled, "text": self.text}
        return {"function": self.reference, "sha256": self.sha256, **{key: one for key, one in rest.items() if one}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FunctionSource:
        """The source that ``to_json`` described; nothing is opened.

        Raises:
            SpaceError: it did not.
        """
        found = [data[key] for key in ("function", "sha256")] + [data.get(key, "") for key in ("pickled", "text")]
        if not all(isinstance(one, str) for one in found) or ":" not in found[0]:
            raise SpaceError(f"{shown(found[0])} is not a stored function", key="function")
        path, _, function = found[0].rpartition(":")
        return cls(path, function, *found[1:])

    @classmethod
    def read(cls, path: str, function: str) -> FunctionSource:
        """Find ``function`` in the file without running it.

        Raises:
            SpaceError: the file cannot be read, is not Python, or has no such function.
        """
        return cls.parse(_source(path), path, function)

    @classmethod
    def parse(cls, source: bytes, path: str, function: str) -> FunctionSource:
        """The same for a file's content; the file is not opened.

        Raises:
            SpaceError: it is not Python, or has no such function.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
            message = error.msg if isinstance(error, SyntaxError) else str(error)
            raise SpaceError(f"it is not valid Python ({line}{message})", file=path) from error
        names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
        if function not in names:
            remedy = nearest(function, names)
            raise SpaceError("there is no such function", key=function[:100], remedy=remedy, file=path)
        return cls(path, function, hashlib.sha256(source).hexdigest())

    def with_text(self) -> FunctionSource:
        """The same with its file's text.

        Raises:
            SpaceError: the file changed or went away, or is not UTF-8.
        """
        try:
            return replace(self, text=_unchanged(self).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise SpaceError("it is not UTF-8 text", file=self.path) from error

    def call(self, trial: Any) -> Any:
        """What the function returns for a trial.

        Raises:
            SpaceError: the file changed or went away, or the user's code raised.
        """
        function = _load(self)
        try:
            return function(trial)
        except (Exception, SystemExit) as error:
            raise SpaceError(_what_happened(error, self.path), key=self.function, file=self.path) from error


def is_stored(data: Mapping[str, Any]) -> bool:
    """Whether this is what ``Space.to_json`` makes of a function."""
    return set(data) - {"pickled", "text"} == {"name", "function", "sha256"}


def _source(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpaceError(f"it cannot be read ({reason})", file=path) from error


def _unchanged(source: FunctionSource) -> bytes:
    text = _source(source.path)
    if hashlib.sha256(text).hexdigest() != source.sha256:
        remedy = "Restore the file, or start a new sweep"
        raise SpaceError("it changed since the sweep was made", file=source.path, remedy=remedy)
    return text


@lru_cache(maxsize=16)
def _load(source: FunctionSource) -> Callable[[Any], Any]:
    if source.pickled:
        import cloudpickle

        found: Callable[[Any], Any] = cloudpickle.loads(base64.b64decode(source.pickled))
        return found
    text = source.text.encode("utf-8") or _unchanged(source)
    module = ModuleType(f"search_space_{source.sha256[:12]}")
    module.__file__ = source.path
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up by name
    folder = os.path.dirname(source.path)
    sys.path.insert(0, folder)  # as if the file were run as a script: it may import its neighbours
    try:
        exec(compile(text, source.path, "exec"), module.__dict__)  # noqa: S102 - the user's own code, named by the user
    except (Exception, SystemExit) as error:
        raise SpaceError(_what_happened(error, source.path), file=source.path) from error
    finally:
        sys.path.remove(folder)
    function = module.__dict__.get(source.function)
    if not callable(function):
        raise SpaceError("there is no such function", key=source.function, file=source.path)
    return function


def _what_happened(error: BaseException, path: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())[:200]}"
