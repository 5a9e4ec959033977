"""A function of the user's own: in which file it lies and the text that the file had when the sweep was made."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from sweeper.errors import SpecError


@dataclass(frozen=True)
class UserFunction:
    """``function`` in the file at the absolute path ``file``, which held ``text``: that text is what runs, anywhere.

    A function that was handed over in Python and lies in no file, one of a notebook say, is ``pickled`` (base64 of
    what cloudpickle makes of it); then ``text`` is its source for a reader.
    """

    file: str
    function: str
    text: str
    pickled: str = ""

    @property
    def reference(self) -> str:
        """``file.py:function``, as a user writes it."""
        return f"{self.file}:{self.function}"

    @property
    def file_name(self) -> str:
        """The file's name without its folder."""
        return os.path.basename(self.file)

    @property
    def sha256(self) -> str:
        """The hash of what runs."""
        return hashlib.sha256((self.pickled or self.text).encode("utf-8")).hexdigest()

    @property
    def changed(self) -> bool:
        """Whether the file says something else by now; one that is gone does not."""
        try:
            with open(self.file, "rb") as stream:
                return hashlib.sha256(stream.read()).hexdigest() != self.sha256
        except OSError:
            return False

    def check_unchanged(self, key: str) -> None:
        """Refuse to go on with a sweep whose file says something else by now.

        Raises:
            SpecError: it does; ``key`` is where the sweep file names it.
        """
        if not self.pickled and self.changed:
            remedy = "Restore the file, or start a new sweep"
            raise SpecError("it has changed since this sweep was made", file=self.file, key=key, remedy=remedy)

    def load(self) -> Callable[..., Any]:
        """The function itself. Where its file's folder is there, the file may import its neighbours.

        Raises:
            Exception: whatever the file raises when it is imported; ``happened`` puts it into words.
        """
        return _load(self.file, self.function, self.text, self.pickled)

    def __call__(self, *args: Any) -> Any:
        """What the function returns, or raises."""
        return self.load()(*args)

    def line_of(self, error: BaseException) -> int | None:
        """The last line of the file that an error came through."""
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self.file]
        return lines[-1] if lines else None

    def happened(self, error: BaseException) -> str:
        """An error of the user's code in words: ``my_model.py, line 12: ValueError: ...``."""
        line = self.line_of(error)
        if line is None and isinstance(error, SyntaxError) and error.filename == self.file:
            line = error.lineno
        where = "" if line is None else f", line {line}"
        return f"{self.file_name}{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"

    def check_arguments(self, *names: str) -> None:
        """Refuse a function that does not take the positional arguments ``names``; it is not called.

        Raises:
            SpecError: it takes others, or its file cannot be imported.
        """
        try:
            signature = inspect.signature(self.load())
        except (Exception, SystemExit) as error:
            raise SpecError(self.happened(error), file=self.file) from error
        try:
            signature.bind(*names)
        except TypeError as error:
            wanted = f"def {self.function}({', '.join(names)})"
            wants = f"{len(names)} arguments" if len(names) != 1 else "one argument"
            problem = f"{self.function}{signature} does not take {wants}"
            raise SpecError(problem, file=self.file, remedy=f"Write {wanted}") from error


@lru_cache(maxsize=64)
def _load(file: str, function: str, text: str, pickled: str) -> Callable[..., Any]:
    if pickled:
        import cloudpickle

        found: Callable[..., Any] = cloudpickle.loads(base64.b64decode(pickled))
        return found
    module = ModuleType(f"user_code_{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up by name
    folder = os.path.dirname(file)
    sys.path.insert(0, folder)  # as if the file were run as a script
    try:
        exec(compile(text, file, "exec"), module.__dict__)  # noqa: S102 - the user's own code, named by the user
    finally:
        sys.path.remove(folder)
    found = module.__dict__[function]
    return found
