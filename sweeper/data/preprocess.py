"""Fits the preprocessing on the training rows: which columns are used, and how each becomes inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from sweeper.data.memory import check_fits
from sweeper.data.recipe import MISSING_TEXT, Feature, Recipe
from sweeper.errors import SpecError
from sweeper.text import counted, listed, shown

if TYPE_CHECKING:
    from sweeper.data.tables import Table

CHUNK_VALUES = 4_000_000  # values that are transformed at once
INPUT_BYTES = 24  # memory per value of the transformed table while it is made: float64 copies of training rows


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """``pipeline`` turns a data frame of raw columns into inputs ``(n, D)``; ``recipe`` says the same as plain data."""

    pipeline: ColumnTransformer
    recipe: Recipe

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names for people: the column, with ``=category`` for one of its texts."""
        return tuple(
            shown(f.column) if f.category is None else f"{shown(f.column)}={shown(f.category)}"
            for f in self.recipe.features
        )

    def transform(self, table: Table, rows: np.ndarray) -> np.ndarray:
        """The inputs ``(len(rows), D)`` of some rows as float32, made a few rows at a time.

        Raises:
            SpecError: a value does not fit into float32.
        """
        made = np.empty((len(rows), len(self.recipe.features)), dtype=np.float32)
        step = max(1, CHUNK_VALUES // max(made.shape[1], table.frame.shape[1]))
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            with np.errstate(over="ignore", invalid="ignore"):
                made[start : start + step] = self.pipeline.transform(table.frame.iloc[chunk])
            if not np.isfinite(made[start : start + step]).all():
                row, column = np.argwhere(~np.isfinite(made[start : start + step]))[0]
                file, number = table.place(chunk[row])
                raise _too_large(self.recipe.features[column].column, table, f" in data row {number:,}", file)
        return made


@dataclass(frozen=True)
class Columns:
    """The columns that become inputs, and the categories of the texts among them."""

    numbers: tuple[str, ...]
    flags: tuple[str, ...]
    texts: tuple[str, ...]
    categories: dict[str, list[str]]
    warnings: tuple[str, ...] = ()


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
    return Columns(tuple(numbers), tuple(flags), tuple(texts), categories, warnings)


def fit_preprocessing(table: Table, train: np.ndarray, normalize: str, columns: Columns) -> Preprocessing:
    """Fit on the rows ``train`` alone. ``normalize`` is standard, minmax or none.

    Numbers: missing ones take the median, then they are scaled (in float64, so that large offsets cost no digits).
    Booleans are the numbers 0 and 1. Texts: one input per known category, all 0 for another.

    Raises:
        SpecError: values are too large to be scaled.
    """
    rows = table.frame.iloc[train]
    pipeline = _pipeline(columns, normalize)
    with np.errstate(over="ignore", invalid="ignore"):
        for name in columns.numbers:  # a mean of two values near the largest float64 is infinite: scalers refuse it
            if np.isinf(2.0 * rows[name].abs().max()):
                raise _too_large(name, table, "")
        pipeline.fit(rows)
    features = [*_scaled(pipeline, "numbers", columns.numbers), *_scaled(pipeline, "flags", columns.flags)]
    for feature in features:
        if not np.isfinite([feature.fill, feature.offset, feature.scale]).all():
            raise _too_large(feature.column, table, "")
    features += [Feature(name, category=text) for name in columns.texts for text in columns.categories[name]]
    written = {name: table.written[name] for name in columns.numbers if name in table.written}
    return Preprocessing(pipeline, Recipe(tuple(features), written))


def _useless(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Columns without any value, and columns that are the same in every row once missing values are filled."""
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


def _pipeline(columns: Columns, normalize: str) -> ColumnTransformer:
    """Standard scikit-learn parts only, so that a stored pipeline loads where this program is not installed."""
    parts: list[tuple[str, Any, list[str]]] = []
    for kind, names in (("numbers", columns.numbers), ("flags", columns.flags)):
        if names:
            scaler = {"standard": StandardScaler, "minmax": MinMaxScaler}.get(normalize)
            fill = SimpleImputer(strategy="median", keep_empty_features=True)
            parts.append((kind, Pipeline([("fill", fill), *([("scale", scaler())] if scaler else [])]), list(names)))
    if columns.texts:
        known = [np.array(columns.categories[name], dtype=object) for name in columns.texts]
        fill = SimpleImputer(missing_values=pd.NA, strategy="constant", fill_value=MISSING_TEXT)
        encode = OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        parts.append(("texts", Pipeline([("fill", fill), ("encode", encode)]), list(columns.texts)))
    return ColumnTransformer(parts, sparse_threshold=0.0, verbose_feature_names_out=False)


def _scaled(pipeline: ColumnTransformer, kind: str, names: tuple[str, ...]) -> list[Feature]:
    """What the fitted imputer and scaler of one kind do, column by column; a column without any value counts as 0."""
    if not names:
        return []
    steps = pipeline.named_transformers_[kind].named_steps
    scaler = steps.get("scale")
    offset, scale = np.zeros(len(names)), np.ones(len(names))
    if isinstance(scaler, StandardScaler):
        offset, scale = scaler.mean_, scaler.scale_
    elif isinstance(scaler, MinMaxScaler):
        offset, scale = scaler.data_min_, 1.0 / scaler.scale_
    fills = np.nan_to_num(steps["fill"].statistics_, nan=0.0)
    return [
        Feature(name, fill=float(fill), offset=float(shift), scale=float(by))
        for name, fill, shift, by in zip(names, fills, offset, scale, strict=True)
    ]


def _too_large(column: str, table: Table, where: str, file: str | None = None) -> SpecError:
    problem = f"its values are too large for float32{where}"
    remedy = "Use a smaller unit or the logarithm, or name the column in dataset.drop"
    return SpecError(problem, file=file or table.file, key=f"column '{shown(column)}'", remedy=remedy)
