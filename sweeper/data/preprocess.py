"""Fits the preprocessing on the training rows: which columns are used, and how each becomes inputs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sweeper.data.bins import bin_features, quantile_edges, target_edges
from sweeper.data.memory import check_fits
from sweeper.data.numerals import Writing
from sweeper.data.recipe import MISSING_TEXT, UNKNOWN, Feature, Recipe
from sweeper.data.scalers import fit_scaling
from sweeper.errors import SpecError
from sweeper.spec.inputs import SCALED_ONLY, Inputs
from sweeper.text import counted, listed, shown

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.data.tables import Table

INPUT_BYTES = 24  # memory per value of the transformed table while it is made: float64 copies of training rows


@dataclass(frozen=True)
class Columns:
    """The columns that become inputs, the categories of the texts among them, and the others that have ``holes``.

    ``written`` are the columns of numbers that are written as texts.
    """

    numbers: tuple[str, ...]
    flags: tuple[str, ...]
    texts: tuple[str, ...]
    categories: dict[str, list[str]]
    holes: tuple[str, ...] = ()
    written: Mapping[str, Writing] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order in which they become inputs."""
        return (*self.numbers, *self.flags, *self.texts)


def choose_columns(table: Table, train: np.ndarray) -> Columns:
    """The columns that vary in the rows ``train``, with the texts that occur there.

    Raises:
        SpecError: no column varies, or the inputs would not fit into memory.
    """
    rows = table.frame.iloc[train]
    empty, constant = _useless(rows)
    numbers, flags, texts = _by_kind(rows.drop(columns=[*empty, *constant]))
    warnings = tuple(
        f"{counted(len(names), 'column')} left out, {why} in the training rows: {listed(names, 5)}."
        for names, why in ((empty, "without any value"), (constant, "constant"))
        if names
    )
    if not (numbers or flags or texts):
        remedy = "Add a column that varies"
        raise SpecError(f"no column can be learned from. {' '.join(warnings)}", file=table.file, remedy=remedy)
    categories = {name: _categories(rows[name]) for name in texts}
    width = len(numbers) + len(flags) + sum(map(len, categories.values()))
    what = f"the table of {len(table.frame):,} rows and {width:,} inputs"
    check_fits(len(table.frame) * width * INPUT_BYTES, what, "Leave out columns with many different texts", table.file)
    holes = tuple(name for name in (*numbers, *flags) if rows[name].isna().any())
    written = {name: table.written[name] for name in numbers if name in table.written}
    return Columns(tuple(numbers), tuple(flags), tuple(texts), categories, holes, written, warnings)


def coded_rows(frame: pd.DataFrame, columns: Columns) -> np.ndarray:
    """The used columns of a table as ``(n, F)`` float64: texts as positions of their categories, NaN is missing."""
    made = np.empty((len(frame), len(columns.names)))
    for position, name in enumerate(columns.names):
        values = frame[name]
        if name in columns.categories:
            place = {text: float(i) for i, text in enumerate(columns.categories[name])}
            codes = np.array([*(place.get(text, UNKNOWN) for text in values.cat.categories), math.nan])
            made[:, position] = codes[values.cat.codes]  # a missing text's code is -1, the last one
        else:
            made[:, position] = values.to_numpy(dtype=np.float64, na_value=math.nan)
    return made


def fit_recipe(
    values: np.ndarray,
    y: np.ndarray,
    inputs: Inputs,
    columns: Columns,
    classifies: bool,
    like: Recipe | None = None,
    *,
    unseen: bool = False,
) -> Recipe:
    """Fit on training rows ``values (n, F)``, as ``coded_rows`` makes them, with targets ``y (n,)``.

    Missing numbers take the median, then they are scaled or become bins. Bins take numbers as they are: shifting and
    scaling would not change the inputs. Booleans are the numbers 0 and 1, which are only ever shifted and scaled.
    Texts: one input per known category, all 0 for another. With ``like`` there are as many inputs of each column as
    there. With ``unseen`` the input of a category that these rows do not have is always 0.

    Raises:
        SpecError: values are too large to be scaled.
    """
    plain = len(columns.numbers) + len(columns.flags)
    numbers = values[:, :plain]
    fills = np.nan_to_num(_medians(numbers), nan=0.0)
    filled = np.where(np.isnan(numbers), fills, numbers)
    split = len(columns.numbers)
    features = []
    if inputs.numeric_embedding == "piecewise_linear":
        counts = None if like is None else Counter(f.column for f in like.features if not f.missing)
        for i, name in enumerate(columns.numbers):
            seen = numbers[~np.isnan(numbers[:, i]), i]
            known = filled[:, i] if not len(seen) else seen
            if inputs.binning == "target":
                edges = target_edges(filled[:, i], y, classifies, inputs.bins)
            else:
                edges = quantile_edges(known, inputs.bins)
            features += bin_features(name, float(fills[i]), edges, None if counts is None else counts[name])
    else:
        features += _scaled(columns.numbers, inputs.normalize, filled[:, :split], fills[:split])
    flags = inputs.normalize if inputs.normalize in SCALED_ONLY else "standard"
    features += [replace(f, flag=True) for f in _scaled(columns.flags, flags, filled[:, split:], fills[split:])]
    if inputs.missing_indicator:
        features += [Feature(name, missing=True) for name in columns.holes]
    for i, name in enumerate(columns.texts, plain):
        seen = set(np.nan_to_num(np.unique(values[:, i]), nan=0.0))  # a missing text is the first category
        for code, text in enumerate(columns.categories[name]):
            features.append(Feature(name, category=text, high=0.0 if unseen and code not in seen else None))
    return Recipe(tuple(features), columns.written)


def input_names(recipe: Recipe) -> tuple[str, ...]:
    """The inputs' names for people: the column, with ``=category``, the number of a bin, or ``missing``."""
    several = Counter(f.column for f in recipe.features if f.category is None and not f.missing)
    seen: Counter[str] = Counter()
    names = []
    for feature in recipe.features:
        name = shown(feature.column)
        if feature.category is not None:
            name = f"{name}={shown(feature.category)}"
        elif feature.missing:
            name = f"{name} missing"
        elif several[feature.column] > 1:
            seen[feature.column] += 1
            name = f"{name} bin {seen[feature.column]}"
        names.append(name)
    return tuple(names)


def _medians(values: np.ndarray) -> np.ndarray:
    """The median of each column's known values ``(F,)``; NaN where there is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        columns = [column[~np.isnan(column)] for column in values.T]
        return np.array([np.median(column) if len(column) else math.nan for column in columns])


def _scaled(names: tuple[str, ...], kind: str, values: np.ndarray, fills: np.ndarray) -> list[Feature]:
    """One input for each column, of training rows ``values (n, F)`` without missing values."""
    if not names:
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        for name, column in zip(names, values.T, strict=True):
            # a mean of two values near the largest float64 is infinite: scalers refuse it
            if np.isinf(2.0 * np.abs(column).max()):
                raise too_large(name)
        scaling = fit_scaling(kind, values)
    features = []
    for i, name in enumerate(names):
        quantiles = () if scaling.quantiles is None else tuple(scaling.quantiles[:, i].tolist())
        numbers = float(fills[i]), float(scaling.offset[i]), float(scaling.scale[i])
        if not np.isfinite([*numbers, *quantiles]).all():
            raise too_large(name)
        fill, offset, scale = numbers
        features.append(Feature(name, fill=fill, offset=offset, scale=scale, limit=scaling.limit, quantiles=quantiles))
    return features


def too_large(column: str, file: str | None = None, row: int | None = None) -> SpecError:
    """The refusal of a column whose values float32 cannot hold, in the data row where that is known (from 1)."""
    problem = f"its values are too large for float32{'' if row is None else f' in data row {row:,}'}"
    remedy = "Use a smaller unit or the logarithm, or name the column in dataset.drop"
    return SpecError(problem, file=file, key=f"column '{shown(column)}'", remedy=remedy)


def _useless(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Columns without any value, and columns that are the same in every row once missing values are filled."""
    import pandas as pd

    numbers, flags, texts = _by_kind(rows)
    plain = [*numbers, *flags]
    low, high = rows[plain].min(), rows[plain].max()
    empty = [name for name in plain if pd.isna(low[name])]
    constant = [name for name in plain if low[name] == high[name]]
    for name in texts:
        found = _categories(rows[name])
        if found == [MISSING_TEXT]:
            empty.append(name)
        elif len(found) == 1:
            constant.append(name)
    return empty, constant


def _by_kind(rows: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """The names of number, boolean and text columns."""
    kinds: dict[str, list[str]] = {"n": [], "b": [], "O": []}
    for name, kind in rows.dtypes.items():
        kinds[kind.kind if kind.kind in "bO" else "n"].append(str(name))
    return kinds["n"], kinds["b"], kinds["O"]


def _categories(texts: pd.Series) -> list[str]:
    """The texts that occur, sorted; the first is ``(missing)`` when some are missing."""
    used = np.unique(texts.cat.codes)
    return [*([MISSING_TEXT] if used[0] < 0 else []), *sorted(texts.cat.categories[used[used >= 0]])]
