"""A function of the user's own, from its file or from Python."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic_core import PydanticCustomError

from sweeper.errors import SpecError
from sweeper.spec.user_files import read_function, stored_function


def in_file(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    return f"{folder / 'mine.py'}:build"


def test_the_text_of_the_file_runs_whatever_the_file_says_later(tmp_path: Path) -> None:
    function = read_function(in_file(tmp_path, "def build(a, b):\n    return a + b\n"))
    assert not function.changed
    in_file(tmp_path, "def build(a, b):\n    return 0\n")
    assert function(2, 3) == 5
    with pytest.raises(SpecError, match=r"mine\.py: model: it has changed since this sweep was made"):
        function.check_unchanged("model")
    assert read_function(stored_function(function)) == function


def test_a_function_of_no_file_travels_with_what_it_reaches() -> None:
    factor = 7
    function = read_function(lambda x: factor * x)
    again = read_function(stored_function(pickle.loads(pickle.dumps(function))))
    assert again(6) == 42
    again.check_unchanged("model")


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    function = read_function(in_file(tmp_path, "def build(a):\n    return 1 / a\n"))
    with pytest.raises(ZeroDivisionError) as raised:
        function(0)
    assert function.happened(raised.value) == "mine.py, line 2: ZeroDivisionError: division by zero"
    with pytest.raises(SpecError, match=r"build\(a\) does not take 2 arguments\. Write def build\(trial, data\)"):
        function.check_arguments("trial", "data")
    function = read_function(in_file(tmp_path, "import no_such_module\n\n\ndef build(a):\n    return a\n"))
    with pytest.raises(SpecError, match=r"mine\.py, line 1: ModuleNotFoundError: No module named 'no_such_module'"):
        function.check_arguments("trial")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("mine.py", "no function of a file"),
        (7, "no function of a file"),
        ("no_such.py:build", r"no_such\.py: it cannot be read"),
        ({"file": "a"}, "it is no function"),
    ],
)
def test_what_names_no_function_is_refused(value: object, problem: str) -> None:
    with pytest.raises(PydanticCustomError, match=problem):
        read_function(value)
