"""Makes the arrays of some rows of a table, with preprocessing that is fitted on the training rows among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweeper.data.preprocess import Columns, Preprocessing, fit_preprocessing
from sweeper.data.rows import Rows
from sweeper.data.tables import Table
from sweeper.data.targets import Target


@dataclass(frozen=True, eq=False)
class Making:
    """What is the same for all rows of a dataset: the table, its target on its scale, and the chosen columns."""

    table: Table
    target: Target
    normalize: str
    columns: Columns

    def rows(self, train: np.ndarray, validation: np.ndarray) -> tuple[Rows, Preprocessing]:
        """Training and validation rows, with the preprocessing fitted on the former."""
        fitted = fit_preprocessing(self.table, train, self.normalize, self.columns)
        x_train, y_train, w_train = self.arrays(fitted, train)
        x_val, y_val, w_val = self.arrays(fitted, validation)
        for rows in (train, validation):
            rows.setflags(write=False)
        found = Rows(x_train, y_train, x_val, y_val, train, validation, fitted.pipeline, fitted.recipe, w_train, w_val)
        return found, fitted

    def arrays(self, fitted: Preprocessing, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """x ``(r, D)``, y ``(r,)`` and the weights ``(r,)`` of some rows; nobody can write to them."""
        x, y = fitted.transform(self.table, rows), self.target.y[rows]
        w = self.table.aside["weight"].to_numpy(np.float32)[rows] if "weight" in self.table.aside else None
        rows.setflags(write=False)
        for array in (x, y) if w is None else (x, y, w):
            array.setflags(write=False)
        return x, y, w
