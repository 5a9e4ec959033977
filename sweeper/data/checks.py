"""The checks that every kind of data file has to pass, worded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sweeper.data.files import FileTable, Part, Roles
from sweeper.errors import SpecError
from sweeper.text import is_number, listed, nearest_column, shown

CATEGORY = pd.CategoricalDtype
MAX_WEIGHT = 1e18  # sums of more would not fit into float32
TARGET_NAMES = ("target", "label", "y", "class")


def pick_target(names: Sequence[str], target: str | None, file: str) -> tuple[str, list[str]]:
    """The target's column: the one named, or else the only one with a name that says so, with a warning.

    Raises:
        SpecError: there is no such column, or nobody said which.
    """
    key = "dataset.target"
    if target is not None and target in names:
        return target, []
    if target is not None:
        remedy = nearest_column(target, names)
        if sum(map(is_number, names)) > len(names) / 2:
            remedy += ". The first line seems to hold values: the file needs a first line of column names"
        raise SpecError(f"there is no column '{shown(target)}'", file=file, key=key, remedy=remedy)
    guesses = [name for name in names if name.lower() in TARGET_NAMES]
    if len(guesses) != 1:
        remedy = f"Name the column to predict. The columns are {listed(names)}"
        raise SpecError("it is missing", file=file, key=key, remedy=remedy)
    return guesses[0], [f"dataset.target is not given: '{shown(guesses[0])}' is predicted."]


def check_names(names: Sequence[str], file: str) -> None:
    """Refuse a name that stands for more than one column.

    Raises:
        SpecError: with the names.
    """
    if len(set(names)) < len(names):
        counts = pd.Series(list(names)).value_counts(sort=False)
        problem = f"more than one column is called {listed(counts.index[counts > 1], 5)}"
        raise SpecError(problem, file=file, remedy="Give every column its own name")


def check_same_columns(names: Sequence[str], unnamed: Sequence[str], first: FileTable, roles: Roles, file: str) -> None:
    """Refuse a file that has not the columns of the first one; dropped and additional unnamed ones do not count.

    Raises:
        SpecError: with the columns that are missing or too many.
    """
    whole = shown(first.file, 200)
    needed = [*first.frame, first.target_name, *(name for use, name in roles.uses.items() if use == "weight")]
    missing = [name for name in needed if name not in names]
    if missing:
        has = nearest_column(missing[0], names)
        remedy = f"{has}. Both files need the same columns; those that are no inputs go into dataset.drop"
        raise SpecError(f"it has no {listed(missing, 5)}, which {whole} has", file=file, remedy=remedy)
    known = (*first.names, *roles.no_inputs, *unnamed)
    extra = [name for name in names if name not in known]
    if extra:
        remedy = "Both files need the same columns; remove these"
        raise SpecError(f"it has {listed(extra, 5)}, which {whole} has not", file=file, remedy=remedy)


def check_texts(frame: pd.DataFrame, target: pd.Series, name: str, file: str) -> None:
    """Refuse NUL characters in names and texts: numpy's texts end there, so that two of them would become one.

    Raises:
        SpecError: with the column.
    """
    texts = {column: frame[column].cat.categories for column in frame if isinstance(frame[column].dtype, CATEGORY)}
    if not pd.api.types.is_numeric_dtype(target.dtype):
        texts[name] = pd.Index(target.dropna().unique())
    for column in (*frame, *texts):
        if "\0" in str(column) or any("\0" in str(text) for text in texts.get(column, ())):
            where = f"column '{shown(column)}'"
            raise SpecError("it holds a NUL character", file=file, key=where, remedy="Save the file as plain text")


def check_target(target: pd.Series, name: str, file: str) -> None:
    """Refuse rows without a target.

    Raises:
        SpecError: with their number and the first data row (from 1).
    """
    missing = target.isna().to_numpy()
    if missing.any():
        row = int(missing.argmax()) + 1
        problem = f"{missing.sum():,} rows have no value in '{shown(name)}', the first is data row {row:,}"
        remedy = (
            "Remove these rows; empty values and NA, NaN, null and ? count as missing, and among numbers - and the like"
        )
        raise SpecError(problem, file=file, key="dataset.target", remedy=remedy)


def check_finite(frame: pd.DataFrame, file: str) -> None:
    """Refuse infinite features; missing ones are allowed.

    Raises:
        SpecError: with the column and its first data row (from 1).
    """
    for name, kind in frame.dtypes.items():
        if kind.kind == "f":
            infinite = np.isinf(frame[name].to_numpy())
            if infinite.any():
                row = int(infinite.argmax()) + 1
                problem = f"{infinite.sum():,} values are infinite, the first in data row {row:,}"
                remedy = "Correct them, or leave them empty: missing numbers are filled with the median"
                raise SpecError(problem, file=file, key=f"column '{shown(name)}'", remedy=remedy)


def check_aside(aside: pd.DataFrame, roles: Roles, file: str) -> None:
    """Refuse rows without a value in a column that says where they belong or how much they count.

    Raises:
        SpecError: with their number and the first data row (from 1).
    """
    for use, column in aside.items():
        missing = column.isna().to_numpy()
        if missing.any():
            row = int(missing.argmax()) + 1
            name, key = shown(roles.uses[str(use)]), roles.key(str(use))
            problem = f"{missing.sum():,} rows have no value in '{name}', the first is data row {row:,}"
            raise SpecError(problem, file=file, key=key, remedy="Fill or remove these rows")


def check_weights(aside: pd.DataFrame, parts: Sequence[Part], roles: Roles) -> None:
    """Refuse weights that are no finite numbers of 0 or more.

    Raises:
        SpecError: with the first data row (from 1) of its file.
    """
    if "weight" not in aside:
        return
    weights, key = aside["weight"], roles.key("weight")
    name = shown(roles.uses["weight"])
    if weights.dtype.kind not in "iufb":
        problem = f"'{name}' holds texts such as '{shown(weights.iloc[0])}', and weights are numbers"
        raise SpecError(problem, file=parts[0].file, key=key, remedy="Name a column of numbers")
    values = weights.to_numpy(dtype=np.float64)
    wrong = ~(np.isfinite(values) & (values >= 0) & (values <= MAX_WEIGHT))
    if wrong.any():
        row = int(wrong.argmax())
        part = next(part for part in parts if row < part.stop)
        problem = f"'{name}' is {values[row]:g} in data row {row - part.start + 1:,}"
        remedy = f"A weight is a finite number from 0 to {MAX_WEIGHT:g}"
        raise SpecError(problem, file=part.file, key=key, remedy=remedy)
