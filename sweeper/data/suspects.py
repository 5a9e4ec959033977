"""Warnings about a table that makes a sweep look too good: copied rows, row numbers, the target in disguise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweeper.text import counted, listed

if TYPE_CHECKING:
    from sweeper.data.rows import Splits
    from sweeper.data.tables import Table
    from sweeper.data.targets import Target

FEW_COPIES, SHARE_OF_COPIES = 5, 0.01  # held-out rows that may be copies without a word
BY_CHANCE = 10  # times as many copies as independent columns would give are still chance
SAMPLE = 1000  # training rows on which a column is tried
MOST_COLUMNS = 100  # that are tried; of more, those that go with the target most
GIVEN_AWAY = 0.98  # share of the error, or of the variance, that one column takes away
RARE_ROWS = 10  # not of the largest class: with fewer, one column may separate them by luck

_NUMBERING = re.compile(r"unnamed:? ?\d+|(row[ _.]?)?(id|ids|index|idx|no|nr|num|number|rowid)|level_0", re.IGNORECASE)


def suspicions(table: Table, target: Target, splits: Splits) -> tuple[str, ...]:
    """One sentence for each suspicion, with the remedy. The same table gives the same sentences.

    A column is tried by a small decision tree of that column alone, on a sample of the training rows.
    """
    numbers = _row_numbers(table)
    away = [name for name in _given_away(table, target, splits) if name not in numbers]
    found = [*_copies(table, target, splits)]
    if numbers:
        found.append(
            f"{listed(numbers, 5)} {_verb(numbers, 'numbers', 'number')} the rows: where their order follows the "
            "target, the network learns the order. Unless it is meant, name it in dataset.drop."
        )
    if away:
        found.append(
            f"{listed(away, 5)} alone nearly {_verb(away, 'gives', 'give')} the target away. If it is not known "
            "before the target is, name it in dataset.drop."
        )
    return tuple(found)


def _verb(names: list[str], one: str, more: str) -> str:
    return one if len(names) == 1 else more


def _copies(table: Table, target: Target, splits: Splits) -> list[str]:
    """Held-out rows that occur among the training rows, target included."""
    pairs = [(splits.train, np.concatenate([splits.validation, splits.test])), *splits.folds]
    rows = pd.util.hash_pandas_object(table.frame.assign(**{"\0": target.y}), index=False).to_numpy()
    copies = held_out = chance = 0.0
    alike = _alike(table, target)
    for train, held in pairs:
        copies += int(np.isin(rows[held], rows[train]).sum())
        held_out += len(held)
        chance += alike * len(train) * len(held)
    if copies < max(FEW_COPIES, SHARE_OF_COPIES * held_out) or copies < BY_CHANCE * chance:
        return []
    what = "of the validation and test rows" if not splits.folds else "of the rows that folds and the test hold out"
    return [
        f"{counted(int(copies), 'row')} {what} are copies of training rows, so that remembering looks like learning. "
        "Remove the copies, or name in split.group a column that they share."
    ]


def _alike(table: Table, target: Target) -> float:
    """The probability that two rows are equal if their columns were independent."""
    chance = 1.0
    for values in (*(table.frame[name] for name in table.frame), pd.Series(target.y)):
        shares = values.value_counts(normalize=True, dropna=False).to_numpy()
        chance *= float((shares**2).sum())
        if chance < 1e-15:
            break
    return chance


def _row_numbers(table: Table) -> list[str]:
    """Columns of whole numbers, every one different, that have no gap or the name of a numbering."""
    found = []
    for name, column in table.frame.iloc[: table.parts[0].stop].items():
        if column.dtype.kind not in "iuf" or len(column) < 3:
            continue
        values = column.to_numpy(dtype=np.float64)
        dense = float(values.max() - values.min()) == len(values) - 1  # false where some are missing
        if not (dense or _NUMBERING.fullmatch(str(name).strip())):
            continue
        whole = bool(np.isfinite(values).all() and (values == np.floor(values)).all())
        if whole and len(np.unique(values)) == len(values):
            found.append(str(name))
    return found


def _given_away(table: Table, target: Target, splits: Splits) -> list[str]:
    """Columns of which a small tree tells nearly all of the target, on rows that it has not seen."""
    train = splits.train
    if len(train) > SAMPLE:
        train = np.sort(np.random.default_rng(0).choice(train, SAMPLE, replace=False))
    y = target.y[train]
    if len(y) < 4 * RARE_ROWS or (target.labels is not None and len(y) - np.bincount(y).max() < 2 * RARE_ROWS):
        return []
    rows = table.frame.iloc[train]
    columns = {str(name): _codes(rows[name]) for name in rows}
    order = np.random.default_rng(0).permutation(len(y))
    fit, held = order[: len(y) // 2], order[len(y) // 2 :]
    names = _most_promising(columns, y, target.labels is not None)
    return [
        name for name in names if _skill(columns[name][:, None], y, target.labels is not None, fit, held) >= GIVEN_AWAY
    ]


def _codes(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(dtype=np.float64)
    return np.clip(column.to_numpy(dtype=np.float64), -1e30, 1e30)  # trees work in float32


def _most_promising(columns: dict[str, np.ndarray], y: np.ndarray, classes: bool) -> list[str]:
    """The columns to try: all, or those with the strongest linear relation to the target or to one of its classes."""
    if len(columns) <= MOST_COLUMNS:
        return list(columns)
    x = np.nan_to_num(np.stack(list(columns.values()), axis=1))
    aims = np.stack([y == label for label in np.unique(y)], axis=1) if classes else y[:, None]
    x, aims = x - x.mean(0), aims - aims.mean(0)
    with np.errstate(all="ignore"):
        strength = np.abs((x / np.linalg.norm(x, axis=0)).T @ (aims / np.linalg.norm(aims, axis=0))).max(axis=1)
    best = np.sort(np.argsort(-np.nan_to_num(strength), kind="stable")[:MOST_COLUMNS])
    names = list(columns)
    return [names[i] for i in best]


def _skill(x: np.ndarray, y: np.ndarray, classes: bool, fit: np.ndarray, held: np.ndarray) -> float:
    """How much of the error of a constant answer a tree of one column takes away: 1 is all of it."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if classes:
        common = np.bincount(y[fit]).argmax()
        wrong = int((y[held] != common).sum())
        if wrong < RARE_ROWS:
            return 0.0
        leaves = min(4 * len(np.unique(y)), 100)
        tree = DecisionTreeClassifier(max_leaf_nodes=leaves, min_samples_leaf=2, random_state=0)
        return 1.0 - int((tree.fit(x[fit], y[fit]).predict(x[held]) != y[held]).sum()) / wrong
    spread = float(((y[held] - y[fit].mean()) ** 2).sum())
    tree = DecisionTreeRegressor(max_leaf_nodes=100, min_samples_leaf=2, random_state=0)
    return 1.0 - float(((tree.fit(x[fit], y[fit]).predict(x[held]) - y[held]) ** 2).sum()) / spread if spread else 0.0
