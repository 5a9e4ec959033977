"""The fitted preprocessing as plain data, which numpy alone can apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sweeper.data.numerals import PLAIN, Writing, from_json, read_number

MISSING_TEXT = "(missing)"
UNKNOWN, NUMBER = -1.0, -2.0  # codes of a text never seen, and of what is no text


@dataclass(frozen=True)
class Feature:
    """One input of the network, made from one column.

    A number becomes ``(value - offset) / scale``, a missing one counts as ``fill``. With a ``category`` the input is
    1 where the column's text is that category and 0 elsewhere; a missing text counts as ``"(missing)"``.
    """

    column: str
    category: str | None = None
    fill: float = 0.0
    offset: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class CodedRule:
    """A feature where texts are codes, the positions of their categories.

    NaN becomes ``fill``. The input is 1 where the value is ``code``; with the code ``NUMBER`` the value is a number and
    becomes ``(value - offset) / scale``.
    """

    column: str
    fill: float
    offset: float = 0.0
    scale: float = 1.0
    code: float = NUMBER


@dataclass(frozen=True)
class Recipe:
    """The network's inputs in order, D of them; ``written`` are the columns of numbers that are written as texts."""

    features: tuple[Feature, ...]
    written: Mapping[str, Writing] = field(default_factory=dict)

    def transform(self, columns: Mapping[str, Sequence[Any]] | Any) -> np.ndarray:
        """The inputs ``(n, D)`` as float32 of raw columns: a data frame, or a mapping of names to n values each.

        Raises:
            KeyError: a column is missing.
            ValueError: a cell is no number where it has to be.
        """
        read: dict[str, np.ndarray] = {}
        made = []
        for feature in self.features:
            if feature.column not in read:
                values = columns[feature.column]
                writing = self.written.get(feature.column, PLAIN)
                read[feature.column] = _numbers(values, writing) if feature.category is None else _texts(values)
            value = read[feature.column]
            if feature.category is None:
                made.append((np.where(np.isnan(value), feature.fill, value) - feature.offset) / feature.scale)
            else:
                made.append(value == feature.category)
        return np.stack(made, axis=1).astype(np.float32)

    def categories(self) -> dict[str, list[str]]:
        """The known texts of each text column, in the order of the inputs they became."""
        known: dict[str, list[str]] = {}
        for feature in self.features:
            if feature.category is not None and feature.category not in known.setdefault(feature.column, []):
                known[feature.column].append(feature.category)
        return known

    def coded(self) -> list[CodedRule]:
        """The same features for columns that hold codes instead of texts; a missing text counts as its own category."""
        known, rules = self.categories(), []
        for feature in self.features:
            if feature.category is None:
                rules.append(CodedRule(feature.column, feature.fill, feature.offset, feature.scale))
            else:
                texts = known[feature.column]
                missing = float(texts.index(MISSING_TEXT)) if MISSING_TEXT in texts else UNKNOWN
                rules.append(CodedRule(feature.column, missing, code=float(texts.index(feature.category))))
        return rules

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; ``from_json`` makes an equal recipe of it."""
        written = {name: asdict(writing) for name, writing in self.written.items()}
        return {"version": 1, "features": [asdict(feature) for feature in self.features], "written": written}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that ``to_json`` described.

        Raises:
            ValueError: the data comes from another version of the program.
        """
        if data.get("version") != 1:
            raise ValueError(f"preprocessing of version {data.get('version')!r} cannot be read, only version 1")
        return cls(tuple(Feature(**feature) for feature in data["features"]), from_json(data["written"]))


def _numbers(values: Any, writing: Writing) -> np.ndarray:
    made = np.asarray(values)
    if made.dtype.kind in "biuf":
        return made.astype(np.float64)
    return np.array([read_number(value, writing) for value in values], dtype=np.float64)


def _texts(values: Any) -> np.ndarray:
    """Texts as objects; None, NaN and pandas' NA are the missing ones."""
    missing = ("None", "nan", "<NA>")
    return np.array(
        [v if isinstance(v, str) else MISSING_TEXT if str(v) in missing else str(v) for v in values], dtype=object
    )
