"""The target column as class indices or numbers, with the task it stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from sweeper.errors import SpecError
from sweeper.text import is_number, listed, shown

if TYPE_CHECKING:
    from sweeper.data.rows import Splits
    from sweeper.data.tables import Table
    from sweeper.models.config import Task

FEW_VALUES = 20
ROWS_PER_VALUE = 5
MANY_VALUES = 1000  # more whole numbers are no classes, however they are spread
ROWS_PER_EVEN_VALUE = 20
MAYBE_CLASSES = 100  # so many different whole numbers are worth a word when they are taken for a quantity
MOST_DEVIATIONS = 1e15  # from the mean: the square of more is near the end of float32

Label = str | int | float | bool


@dataclass(frozen=True, eq=False)
class Target:
    """y ``(n,)``: int64 class indices into the sorted ``labels``, or float64 numbers in the target's own unit.

    ``reason`` says why it is this task.
    """

    task: Task
    y: np.ndarray
    labels: tuple[Label, ...] | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()


def encode_target(table: Table, task: Task | None) -> Target:
    """Class indices or numbers. The task, when not given, is inferred.

    Texts and booleans are classes. Numbers are classes when all are whole and either at most ``FEW_VALUES`` different
    ones occur, each in ``ROWS_PER_VALUE`` rows on average; or they count up from 0 or 1 without a gap, each in about
    as many rows as the others, and in ``ROWS_PER_EVEN_VALUE`` or more. Else they are a quantity.

    Raises:
        SpecError: the target does not fit the task, is infinite, or always the same.
    """
    numeric = table.target.dtype.kind in "iuf"
    if numeric:
        _check_finite(table)
    reason, warnings = "dataset.task says so", tuple[str, ...]()
    if task is None:
        task, reason, warnings = _inferred(table)
    if table.file is None:
        reason, warnings = "", ()
    if task == "regression":
        return Target(task, _numbers(table), None, reason, warnings)
    codes, labels = _classes(table)
    return Target(task, codes, labels, reason, warnings)


def _inferred(table: Table) -> tuple[Task, str, tuple[str, ...]]:
    """The task that the target stands for, why, and a warning where it could well be the other one."""
    target, name = table.target, f"'{shown(table.target_name)}'"
    kind = target.dtype.kind
    if kind not in "iuf":
        return "classification", f"{name} holds {'booleans' if kind == 'b' else 'texts'}", ()
    different = target.unique()
    if not all(float(value).is_integer() for value in different):
        return "regression", f"{name} holds numbers with fractions", ()
    holds = f"{name} holds {len(different):,} different whole numbers"
    if _looks_like_classes(target):
        told = f"{holds}, so they are classes; set dataset.task: regression if they are a quantity."
        return "classification", holds, (told,)
    told = f"{holds}, so they are a quantity; set dataset.task: classification if they are classes."
    return "regression", holds, (told,) if len(different) <= min(MAYBE_CLASSES, len(target) / ROWS_PER_VALUE) else ()


def scaled(table: Table, target: Target, splits: Splits) -> tuple[Target, float, float]:
    """The target of a regression as float32 numbers of mean 0 and deviation 1 in the training rows, with both.

    Classes stay as they are, with 0 and 1.

    Raises:
        SpecError: the target does not vary in the training rows of the sweep or of a fold, or varies beyond float32.
    """
    if target.labels is not None:
        return target, 0.0, 1.0
    trained = {"training": splits.train} | {f"fold {i}'s training": fold[0] for i, fold in enumerate(splits.folds)}
    for name, rows in trained.items():
        y = target.y[rows]
        if y.min() == y.max():
            remedy = "Choose a target that varies there, or another split (split.seed, larger shares)"
            _refuse(table, f"it is {y[0]:g} in all {len(y):,} rows of the {name} split", remedy)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(target.y[splits.train].mean()), float(target.y[splits.train].std())
        y = (target.y - mean) / std if np.isfinite(std) and std > 0 else np.full(len(target.y), np.nan)
    for name, rows in (("training", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if not (np.abs(y[rows]) < MOST_DEVIATIONS).all():  # NaN is not
            low, high = target.y[rows].min(), target.y[rows].max()
            problem = f"its spread in the {name} split is beyond float32: it runs from {low:g} to {high:g}"
            _refuse(table, problem, "Correct these values, or use a smaller unit or the logarithm")
    return replace(target, y=y.astype(np.float32)), mean, std


def _looks_like_classes(target: pd.Series) -> bool:
    counts = target.value_counts()
    different, rows = np.sort(counts.index.to_numpy(dtype=np.float64)), len(target)
    if not (different == np.floor(different)).all():
        return False
    if len(different) <= min(FEW_VALUES, rows / ROWS_PER_VALUE):
        return True
    counted_up = different[0] in (0, 1) and different[-1] - different[0] == len(different) - 1
    even = counts.min() >= counts.mean() / 2 and counts.max() <= counts.mean() * 2
    enough = len(different) <= min(MANY_VALUES, rows / ROWS_PER_EVEN_VALUE)
    return bool(counted_up and even and enough)


def _check_finite(table: Table) -> None:
    infinite = ~np.isfinite(table.target.to_numpy())
    if infinite.any():
        row = int(infinite.argmax()) + 1
        _refuse(table, f"{infinite.sum():,} values are infinite, the first in data row {row:,}", "Correct them")


def _numbers(table: Table) -> np.ndarray:
    target = table.target
    if target.dtype.kind not in "iufb":
        texts = target.astype(object)
        row = next((i for i, text in enumerate(texts) if not is_number(str(text))), 0)
        problem = f"it holds texts, such as '{shown(texts.iloc[row])}' in data row {row + 1:,}"
        _refuse(table, problem, "Correct them, or set dataset.task: classification")
    y = target.to_numpy(dtype=np.float64)
    if y.min() == y.max():
        _refuse(table, f"it is always {y[0]:g}", "Choose a target that varies")
    return y


def _classes(table: Table) -> tuple[np.ndarray, tuple[Label, ...]]:
    """Indices into the labels, which are plain Python values in sorted order."""
    codes, uniques = pd.factorize(table.target)
    if len(uniques) > max(FEW_VALUES, len(codes) / 2):
        remedy = "If it is a quantity, set dataset.task: regression; if it is an identifier, name another column"
        _refuse(table, f"{len(uniques):,} different values in {len(codes):,} rows are no classes", remedy)
    found = [_plain(value) for value in uniques]
    if len(found) < 2:
        _refuse(table, f"it has one class, {listed(found)}", "Choose a target with two classes or more")
    order = sorted(range(len(found)), key=found.__getitem__)
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    return rank[codes], tuple(found[i] for i in order)


def _plain(value: Any) -> Label:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, bool | int | float) else str(value)


def _refuse(table: Table, problem: str, remedy: str) -> NoReturn:
    where = f"'{shown(table.target_name)}': "
    raise SpecError(where + problem, file=table.file, key="dataset.target", remedy=remedy)


def too_rare(target: Target, table: Table) -> SpecError:
    """The refusal of a class with too few rows for every split to have one."""
    counts = np.bincount(target.y[: table.parts[0].stop], minlength=len(target.labels or ()))
    rare = [(target.labels or ())[i] for i in np.argsort(counts, kind="stable") if counts[i] <= max(2, counts.min())]
    problem = f"{counts.min()} rows of the classes {listed(rare, 5)} are too few for training, validation and test"
    remedy = "Add rows of these classes, merge them with others, or remove them"
    return SpecError(problem, file=table.file, key="dataset.target", remedy=remedy)
