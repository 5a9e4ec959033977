"""The rows that one training sees, as arrays and as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sweeper.data.recipe import Recipe
    from sweeper.models import Data


@dataclass(frozen=True, eq=False)
class Splits:
    """Row numbers (from 0) of the table, ascending; training, validation and test are disjoint.

    With ``folds``, pairs of training and validation rows, ``train`` holds all rows of the folds and ``validation``
    none. Without, the three are all rows. ``tests`` are the test rows of each fold where it has its own.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    folds: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    warnings: tuple[str, ...] = ()
    tests: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class Rows:
    """What one training sees: n training and v validation rows of D inputs, with their numbers in the table.

    x_train ``(n, D)`` and x_val ``(v, D)`` are float32. y_train and y_val are int64 class indices or float32 numbers
    on the dataset's scale. w_train ``(n,)`` and w_val ``(v,)`` say how much each row counts, as the file says it; None
    without ``dataset.weight``. ``recipe`` was fitted on the training rows.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    recipe: Recipe
    w_train: np.ndarray | None = None
    w_val: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by the names of ``sweeper.models.Data``."""
        found = {"x_train": self.x_train, "y_train": self.y_train, "x_val": self.x_val, "y_val": self.y_val}
        found["columns"] = self.recipe.kinds
        weights = {"w_train": self.w_train, "w_val": self.w_val}
        return found | {name: array for name, array in weights.items() if array is not None}

    def tensors(self, dtype: torch.dtype | None = None) -> Data:
        """The arrays as tensors of ``dtype`` (default float32)."""
        from sweeper.models import Data

        names = {field.name for field in fields(Data)}
        return Data(**{name: as_tensor(array, dtype) for name, array in self.arrays().items() if name in names})


def as_tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
    """An array as a tensor: numbers in ``dtype`` (default float32), class indices as they are."""
    import torch

    return torch.tensor(array, dtype=(dtype or torch.float32) if array.dtype.kind == "f" else None)
