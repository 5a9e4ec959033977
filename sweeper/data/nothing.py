"""The dataset of a sweep that has none: its objective is a function of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.data.dataset import Dataset

if TYPE_CHECKING:
    from sweeper.spec.user_code import UserFunction


def no_data(function: UserFunction) -> Dataset:
    """A dataset without rows and columns; its fingerprint is that of the function."""
    import numpy as np
    import pandas as pd

    from sweeper.data.recipe import Recipe

    x, y, rows = np.empty((0, 0), np.float32), np.empty(0, np.float32), np.empty(0, np.int64)
    return Dataset(
        x,
        y,
        x,
        y,
        rows,
        rows,
        Recipe(()),
        name=function.function,
        task="regression",
        fingerprint=function.sha256,
        rows_fingerprint="",
        raw_columns=(),
        feature_names=(),
        target_name="",
        class_labels=None,
        x_test=x,
        y_test=y,
        test_rows=rows,
        target_mean=0.0,
        target_std=1.0,
        raw_train=pd.DataFrame(),
        raw_test=pd.DataFrame(),
    )
