"""Reads YAML and JSON files as plain data, within limits that no hostile file can pass.

Scalars follow the YAML 1.2 core schema, so ``1e-4`` is a number and ``no`` and ``2020-01-01`` are text. Refused: more
than 1 MB, repeated keys, keys that are not text, tags other than the plain ones, several documents, nesting deeper than
50 levels, and more than 5,000 values once aliases are expanded.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_VALUES = 5_000
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SPECIAL_FLOATS = {"inf": "inf", "+inf": "inf", "-inf": "-inf", "nan": "nan"}


class ReadError(ValueError):
    """A file or text is not readable as plain data; ``problem`` says where and why, ``remedy`` what to do."""

    def __init__(self, problem: str, *, file: str | None = None, remedy: str | None = None) -> None:
        self.problem, self.file, self.remedy = problem, file, remedy
        super().__init__(f"{file + ': ' if file else ''}{problem}{'. ' + remedy if remedy else ''}")


def read_file(path: str | os.PathLike[str]) -> Any:
    """The plain data of a YAML file, or of a JSON file if its name ends in ``.json``. None for an empty YAML file.

    Raises:
        ReadError: the file cannot be opened, is not UTF-8, or breaks a rule of this module.
    """
    file = os.fspath(path)
    try:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ReadError(f"it cannot be read ({reason})", file=file) from error
    if len(raw) > MAX_BYTES:
        raise ReadError("it is larger than 1 MB", file=file, remedy="Check that this is the right file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte {error.start})"
        raise ReadError(problem, file=file, remedy="Save the file as UTF-8") from error
    return parse_json(text, file=file) if Path(file).suffix.lower() == ".json" else parse_yaml(text, file=file)


def parse_yaml(text: str, *, file: str | None = None) -> Any:
    """The plain data of one YAML document. Raises ReadError, which names ``file``."""
    if len(text) > MAX_BYTES:
        raise ReadError("it is larger than 1 MB", file=file)
    try:
        loader = _NodeLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return None if node is None else _Builder().build(node)
    except ReadError as error:
        raise ReadError(error.problem, file=file, remedy=error.remedy) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ReadError(f"it is not valid YAML ({where}{error.problem or error.context})", file=file) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        raise ReadError(f"it is not valid YAML ({problem})", file=file) from error


def parse_json(text: str, *, file: str | None = None) -> Any:
    """The plain data of a JSON text, under the same limits. Raises ReadError, which names ``file``."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        _Counter().check(value)
    except ReadError as error:
        raise ReadError(error.problem, file=file, remedy=error.remedy) from error
    except json.JSONDecodeError as error:
        problem = f"it is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        raise ReadError(problem, file=file) from error
    except (ValueError, RecursionError) as error:
        raise ReadError(f"it is not valid JSON ({error})", file=file) from error
    return value


class _Counter:
    """Counts values, depth and text while a document is walked, and refuses it at the first limit."""

    def __init__(self) -> None:
        self.values = 0

    def enter(self, depth: int) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise ReadError(f"it holds more than {MAX_VALUES:,} values", remedy="Check that this is the right file")
        if depth > MAX_DEPTH:
            raise ReadError(f"it is nested deeper than {MAX_DEPTH} levels")

    def check(self, value: Any, depth: int = 0) -> None:
        self.enter(depth)
        if isinstance(value, str):
            _text(value)
        elif isinstance(value, list):
            for item in value:
                self.check(item, depth + 1)
        elif isinstance(value, dict):
            for key, item in value.items():
                _text(key)
                self.check(item, depth + 1)


class _NodeLoader(yaml.SafeLoader):
    """PyYAML's parser with the scalar rules of YAML 1.2 and a depth limit; it builds nodes, never objects."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own convention: each class replaces it

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._counter = _Counter()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._counter.enter(self._depth)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
):
    _NodeLoader.add_implicit_resolver(_TAG + _tag, re.compile(_pattern), list(_first))


class _Builder(_Counter):
    """Turns composed nodes into dicts, lists and scalars."""

    def build(self, node: yaml.Node, depth: int = 0) -> Any:
        self.enter(depth)
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode) and kind in ("str", "null", "bool", "int", "float"):
            return _scalar(kind, node)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.build(child, depth + 1) for child in node.value]
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return _unique((_key(key), self.build(value, depth + 1)) for key, value in node.value)
        raise ReadError(f"line {node.start_mark.line + 1}: the tag {node.tag[:60]!r} is not allowed")


def _scalar(kind: str, node: yaml.ScalarNode) -> Any:
    text = node.value
    if kind == "str":
        return _text(text)
    if kind == "null":
        return None
    try:
        if kind == "bool":
            return _BOOL[text]
        if kind == "int":
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        return float(str(_SPECIAL_FLOATS.get(text.lower().replace(".", ""), text)))
    except (ValueError, KeyError) as error:
        raise ReadError(f"line {node.start_mark.line + 1}: {text[:60]!r} is not a valid {kind}") from error


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ReadError(f"line {node.start_mark.line + 1}: a list or mapping cannot be a key")
    if node.tag != _TAG + "str":
        raise ReadError(f"line {node.start_mark.line + 1}: the key {node.value[:60]!r} is not text", remedy="Quote it")
    return _text(node.value)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ReadError(f"the key {key[:60]!r} is written twice", remedy="Keep one of the two")
        result[key] = value
    return result


def is_text(text: str) -> bool:
    """Whether a string can be stored everywhere: it holds neither half of a character (a surrogate) nor a NUL."""
    return text.isprintable() or not any("\ud800" <= char <= "\udfff" or char == "\0" for char in text)


def _text(text: str) -> str:
    if not is_text(text):
        raise ReadError(f"{text[:40]!r} holds a character that is not text")
    return text
