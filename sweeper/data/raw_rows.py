"""The rows of a dataset before preprocessing, from which inputs of every kind are made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sweeper.data.preprocess import Columns, fit_recipe, too_large
from sweeper.data.recipe import Recipe
from sweeper.data.rows import Rows, Splits
from sweeper.errors import SpecError
from sweeper.spec.inputs import Inputs

CHUNK_VALUES = 4_000_000  # values that are transformed at once
MOST_RECIPES = 16


@dataclass(frozen=True, eq=False)
class RawRows:
    """N rows of a table. ``values (N, F)`` float64 are the columns that become inputs, as ``coded_rows`` makes them.

    ``y (N,)`` are class indices or numbers, ``w (N,)`` how much each row counts (None: all the same). Part 0 of the
    rows is the dataset as a whole, part i its i-th fold. Where texts may be ``unseen``, one that a fold's training rows
    do not have is an unknown one there.
    """

    columns: Columns
    values: np.ndarray
    y: np.ndarray
    w: np.ndarray | None
    classifies: bool
    splits: Splits
    unseen: bool = False
    _whole: dict[Inputs, Recipe] = field(default_factory=dict, init=False, repr=False)  # the last few of part 0

    def part(self, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The numbers of the rows of a part for training, validation and test."""
        splits = self.splits
        if part == 0:
            return splits.train, splits.validation, splits.test
        return *splits.folds[part - 1], splits.tests[part - 1] if splits.tests else splits.test

    def recipe(self, inputs: Inputs, part: int = 0) -> Recipe:
        """The preprocessing fitted on the training rows of a part; a fold has the same inputs as the whole."""
        if part:
            return self._fitted(inputs, part, self.recipe(inputs))
        if inputs not in self._whole:
            made = self._fitted(inputs, 0, None)
            if len(self._whole) >= MOST_RECIPES:
                self._whole.clear()
            self._whole[inputs] = made
        return self._whole[inputs]

    def rows(self, recipe: Recipe, part: int = 0) -> Rows:
        """Training and validation rows of a part."""
        train, validation, _ = self.part(part)
        w_train, w_val = (None if self.w is None else frozen(self.w[rows]) for rows in (train, validation))
        return Rows(
            self.inputs(recipe, train),
            frozen(self.y[train]),
            self.inputs(recipe, validation),
            frozen(self.y[validation]),
            frozen(train),
            frozen(validation),
            recipe,
            w_train,
            w_val,
        )

    def inputs(self, recipe: Recipe, rows: np.ndarray) -> np.ndarray:
        """The inputs ``(len(rows), D)`` of some rows as float32, which nobody can write to.

        Raises:
            TooLarge: a value does not fit into float32.
        """
        made = np.empty((len(rows), len(recipe.features)), dtype=np.float32)
        step = max(1, CHUNK_VALUES // max(made.shape[1], self.values.shape[1]))
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            columns = dict(zip(self.columns.names, self.values[chunk].T, strict=True))
            made[start : start + step] = recipe.of_codes(columns)
            if not np.isfinite(made[start : start + step]).all():
                row, column = np.argwhere(~np.isfinite(made[start : start + step]))[0]
                raise TooLarge(recipe.features[column].column, int(chunk[row]))
        return frozen(made)

    def _fitted(self, inputs: Inputs, part: int, like: Recipe | None) -> Recipe:
        train = self.part(part)[0]
        values, y = self.values[train], self.y[train]
        return fit_recipe(values, y, inputs, self.columns, self.classifies, like, unseen=self.unseen and part > 0)


class TooLarge(SpecError):
    """A value of ``column`` in the table's ``row`` (from 0) does not fit into float32."""

    def __init__(self, column: str, row: int) -> None:
        plain = too_large(column, None, row + 1)
        super().__init__(plain.problem, key=plain.key, remedy=plain.remedy)
        self.column, self.row = column, row


def frozen(array: np.ndarray) -> np.ndarray:
    """The same array, which nobody can write to from now on."""
    array.setflags(write=False)
    return array
