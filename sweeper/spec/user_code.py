"""A function of the user's own: in which file it lies and the text that the file had when the sweep was made."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from sweeper.errors import SpecError
from sweeper.search_spaces import SpaceError
from sweeper.search_spaces.function import FunctionSource
from sweeper.spec.section import refuse

REFERENCE = re.compile(r"(?P<file>.+\.py):(?P<function>[^:/\\]+)", re.DOTALL)
MAX_TEXT = 1_000_000  # characters of a file
NOTEBOOK = "<python>"  # the "file" of a function that lies in none


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
    def name(self) -> str:
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
        return f"{self.name}{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"

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
            problem = f"{self.function}{signature} does not take {len(names)} arguments"
            raise SpecError(problem, file=self.file, remedy=f"Write {wanted}") from error


def read_function(value: Any) -> UserFunction:
    """The function that a text ``my_code.py:function`` names, or a Python function; nothing is run.

    It is meant for a validator of pydantic: what is wrong is refused there.
    """
    if isinstance(value, UserFunction):
        return value
    if isinstance(value, Mapping):
        return _stored(value)
    if callable(value):
        return _of_callable(value)
    match = REFERENCE.fullmatch(value[:4096]) if isinstance(value, str) else None
    if match is None:
        refuse(f"{str(value)[:60]!r} is no function of a file", remedy="Write file.py:function")
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
