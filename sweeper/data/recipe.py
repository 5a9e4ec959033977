"""The fitted preprocessing as plain data, which numpy alone can apply.

n rows, D inputs. A number passes these steps in float64, of which each feature has those that it needs:

    z = (value - offset) / scale                      shifted and scaled
    z = z / sqrt(1 + (z / limit)^2)                   smoothly clipped to (-limit, limit), Holzmueller et al. 2024
    z = min(max(z, low), high)                        clipped: the share of a bin that lies below the value

or, with ``quantiles``, it becomes the normal quantile of its place among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sweeper.data.numerals import PLAIN, Writing, from_json, read_number
from sweeper.models.embedding import NUMBER as NUMBER_INPUT
from sweeper.models.embedding import OTHER

MISSING_TEXT = "(missing)"
UNKNOWN, NUMBER = -1.0, -2.0  # codes of a text never seen, and of what is no text
NEVER = -3.0  # code of a category that this fold does not know
GONE = math.inf  # code of a missing number, where that is what an input says
VERSION = 2
NORMAL_BOUND = 5.199337582605575  # a value beyond all quantiles, as in scikit-learn


@dataclass(frozen=True)
class Feature:
    """One input of the network, made from one column.

    A number passes the steps above, a missing one counts as ``fill``. ``limit``, ``low`` and ``high`` of None bound
    nothing. With a ``category`` the input is 1 where the column's text is that category and 0 elsewhere; a missing
    text counts as ``"(missing)"``; with a ``high`` of 0 it is always 0. With ``missing`` it is 1 where the number is
    missing and 0 elsewhere. A ``flag`` is a boolean as a number.
    """

    column: str
    category: str | None = None
    missing: bool = False
    fill: float = 0.0
    offset: float = 0.0
    scale: float = 1.0
    limit: float | None = None
    low: float | None = None
    high: float | None = None
    quantiles: tuple[float, ...] = ()
    flag: bool = False


@dataclass(frozen=True)
class CodedRule:
    """A feature where texts are codes, the positions of their categories.

    NaN becomes ``fill``. The input is 1 where the value is ``code``; with the code ``NUMBER`` the value is a number and
    passes the steps of a number.
    """

    column: str
    fill: float
    offset: float = 0.0
    scale: float = 1.0
    limit: float = math.inf
    low: float = -math.inf
    high: float = math.inf
    code: float = NUMBER
    quantiles: tuple[float, ...] = ()

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The input ``(n,)`` in float64 of the column's values ``(n,)``."""
        value = np.where(np.isnan(values), self.fill, values)
        if self.code != NUMBER:
            return (value == self.code).astype(np.float64)
        if self.quantiles:
            return normal_places(value, self.quantiles)
        z = (value - self.offset) / self.scale
        if self.limit != math.inf:
            z = z / np.sqrt(1.0 + (z / self.limit) ** 2)
        return z if (self.low, self.high) == (-math.inf, math.inf) else np.clip(z, self.low, self.high)


def normal_places(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """The standard normal quantile, within ``NORMAL_BOUND``, of the place in (0, 1) of values ``(n,)``.

    ``quantiles`` are evenly spaced ones, from the smallest to the largest value. One that is repeated stands for many
    equal values: they get the middle of their places, which is what noise on them would give in the mean.
    """
    from scipy.special import ndtri

    q = np.asarray(quantiles, dtype=np.float64)
    places = np.linspace(0.0, 1.0, len(q))
    middle = 0.5 * (np.interp(values, q, places) - np.interp(-values, -q[::-1], -places[::-1]))
    return np.asarray(np.clip(ndtri(middle), -NORMAL_BOUND, NORMAL_BOUND))


def knot_tables(quantiles: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ``normal_places`` needs where there is no ``interp``, for Q inputs: three tables ``(Q, K)``.

    Knots are the different quantiles, ascending; the place of values equal to one begins and ends where the other
    two say, and grows linearly from the end of one to the beginning of the next. Rows are filled up with a knot at
    infinity, of place 1.
    """
    found = [np.unique(q, return_index=True, return_counts=True) for q in quantiles]
    width = 1 + max(len(knots) for knots, _, _ in found)
    tables = np.full((len(found), width), math.inf), np.ones((len(found), width)), np.ones((len(found), width))
    for row, (q, (knots, first, counts)) in enumerate(zip(quantiles, found, strict=True)):
        steps = max(1, len(q) - 1)
        for table, values in zip(tables, (knots, first / steps, (first + counts - 1) / steps), strict=True):
            table[row, : len(knots)] = values
    return tables


def kinds_of(features: Sequence[Feature]) -> tuple[int, ...]:
    """What each input is for an embedding, as ``sweeper.models.embedding`` numbers them; bins are no numbers."""
    texts: dict[str, int] = {}
    kinds = []
    for feature in features:
        if feature.category is not None:
            kinds.append(texts.setdefault(feature.column, 1 + len(texts)))
        else:
            binned = feature.low is not None or feature.high is not None
            kinds.append(OTHER if feature.missing or feature.flag or binned else NUMBER_INPUT)
    return tuple(kinds)


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
        known = self.categories()
        coded = {}
        for name in dict.fromkeys(feature.column for feature in self.features):
            values, writing = columns[name], self.written.get(name, PLAIN)
            coded[name] = _codes(values, known[name]) if name in known else _numbers(values, writing)
        return self.of_codes(coded)

    def of_codes(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The inputs ``(n, D)`` as float32 of columns ``(n,)`` in float64, texts as positions of their categories."""
        rules = self.coded
        made = np.empty((len(next(iter(columns.values()))), len(rules)), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for position, rule in enumerate(rules):
                made[:, position] = rule.apply(columns[rule.column])
        return made

    def categories(self) -> dict[str, list[str]]:
        """The known texts of each text column, in the order of the inputs they became."""
        known: dict[str, dict[str, None]] = {}
        for feature in self.features:
            if feature.category is not None:
                known.setdefault(feature.column, {})[feature.category] = None
        return {column: list(texts) for column, texts in known.items()}

    @cached_property
    def kinds(self) -> np.ndarray:
        """``kinds_of`` the inputs, ``(D,)`` int64."""
        return np.array(kinds_of(self.features), dtype=np.int64)

    @cached_property
    def coded(self) -> list[CodedRule]:
        """The same features for columns that hold codes instead of texts; a missing text counts as its own category."""
        known, rules = self.categories(), []
        codes = {column: {text: float(i) for i, text in enumerate(texts)} for column, texts in known.items()}
        for feature in self.features:
            if feature.category is not None:
                mine = codes[feature.column]
                rules.append(
                    CodedRule(
                        feature.column,
                        mine.get(MISSING_TEXT, UNKNOWN),
                        code=NEVER if feature.high == 0.0 else mine[feature.category],
                    )
                )
            elif feature.missing:
                rules.append(CodedRule(feature.column, GONE, code=GONE))
            else:
                rules.append(_number_rule(feature))
        return rules

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; ``from_json`` makes an equal recipe of it."""
        written = {name: asdict(writing) for name, writing in self.written.items()}
        return {"version": VERSION, "features": [asdict(feature) for feature in self.features], "written": written}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that ``to_json`` described.

        Raises:
            ValueError: the data comes from another version of the program.
        """
        if data.get("version") != VERSION:
            raise ValueError(f"preprocessing of version {data.get('version')!r} cannot be read, only {VERSION}")
        features = (Feature(**{**feature, "quantiles": tuple(feature["quantiles"])}) for feature in data["features"])
        return cls(tuple(features), from_json(data["written"]))


def _number_rule(feature: Feature) -> CodedRule:
    return CodedRule(
        feature.column,
        feature.fill,
        feature.offset,
        feature.scale,
        math.inf if feature.limit is None else feature.limit,
        -math.inf if feature.low is None else feature.low,
        math.inf if feature.high is None else feature.high,
        quantiles=feature.quantiles,
    )


def _numbers(values: Any, writing: Writing) -> np.ndarray:
    made = np.asarray(values)
    if made.dtype.kind in "biuf":
        return made.astype(np.float64)
    return np.array([read_number(value, writing) for value in values], dtype=np.float64)


def _codes(values: Any, categories: Sequence[str]) -> np.ndarray:
    """Texts as positions of their categories, NaN where missing; None, NaN and pandas' NA are the missing ones."""
    codes = {text: float(position) for position, text in enumerate(categories)}
    missing = ("None", "nan", "<NA>")
    texts = (v if isinstance(v, str) else None if str(v) in missing else str(v) for v in values)
    return np.array([math.nan if text is None else codes.get(text, UNKNOWN) for text in texts])
