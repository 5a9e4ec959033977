"""A sweep's data, ready to train on: loaded, split and preprocessed by rules fitted on the training rows alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpecError
from sweeper.spec.stored import fingerprint_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from sklearn.compose import ColumnTransformer

    from sweeper.data.recipe import Recipe
    from sweeper.data.targets import Label
    from sweeper.models import Data
    from sweeper.models.config import Task
    from sweeper.records import SweepRecord
    from sweeper.spec.models import DatasetSpec, SplitSpec
    from sweeper.spec.parse import SweepSpec

SAMPLE_ROWS = 5


@dataclass(frozen=True)
class BuiltIn:
    """One dataset that comes with scikit-learn. ``classes`` is None for a regression."""

    name: str
    rows: int
    features: int
    task: Task
    classes: int | None


_BUILT_IN = (
    BuiltIn("digits", 1797, 64, "classification", 10),
    BuiltIn("iris", 150, 4, "classification", 3),
    BuiltIn("wine", 178, 13, "classification", 3),
    BuiltIn("breast_cancer", 569, 30, "classification", 2),
    BuiltIn("diabetes", 442, 10, "regression", None),
)


@dataclass(frozen=True)
class Estimate:
    """The size of a dataset with its target, and the ``bytes`` of memory that loading it takes at the peak."""

    rows: int
    columns: int
    bytes: int


@dataclass(frozen=True)
class RawColumn:
    """A feature column as read; ``used`` is false for one that does not vary in the training rows."""

    name: str
    dtype: str
    used: bool


@dataclass(frozen=True, eq=False)
class Dataset:
    """One table, split and preprocessed. D inputs; n, v, t rows for training, validation and test.

    x_train ``(n, D)``, x_val ``(v, D)``, x_test ``(t, D)`` are float32. y_train, y_val, y_test are int64 indices into
    ``class_labels``, or float32 numbers ``(value - target_mean) / target_std``, with the training rows' mean and
    deviation, so that learning rates mean the same on any data. No array can be written to. ``preprocess`` turns raw
    columns into inputs (cast its result to float32), ``recipe`` is the same as plain data. ``raw_train`` and
    ``raw_test`` are the first rows of two splits as read. ``fingerprint`` changes with the data, the target, the
    split and the normalisation, and with nothing else; ``rows_fingerprint`` does not change with the normalisation.
    """

    name: str
    task: Task
    fingerprint: str
    rows_fingerprint: str
    raw_columns: tuple[RawColumn, ...]
    feature_names: tuple[str, ...]
    target_name: str
    class_labels: tuple[Label, ...] | None
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    test_rows: np.ndarray
    target_mean: float
    target_std: float
    preprocess: ColumnTransformer
    recipe: Recipe
    raw_train: pd.DataFrame
    raw_test: pd.DataFrame
    warnings: tuple[str, ...] = ()

    @property
    def n_features_raw(self) -> int:
        """Feature columns as read."""
        return len(self.raw_columns)

    @property
    def n_inputs(self) -> int:
        """D, the network's inputs."""
        return len(self.feature_names)

    @property
    def n_outputs(self) -> int:
        """The network's outputs: one per class, or 1."""
        return 1 if self.class_labels is None else len(self.class_labels)

    @property
    def n_train(self) -> int:
        """Training rows."""
        return len(self.y_train)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes as printable texts, in the order of their indices."""
        from sweeper.text import shown

        return None if self.class_labels is None else tuple(shown(label) for label in self.class_labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a worker trains on, by the names of ``sweeper.models.Data``."""
        return {"x_train": self.x_train, "y_train": self.y_train, "x_val": self.x_val, "y_val": self.y_val}

    def tensors(self, dtype: torch.dtype | None = None) -> Data:
        """Training and validation rows as tensors of ``dtype`` (default float32)."""
        from sweeper.models import Data

        return Data(*(self._tensor(array, dtype) for array in self.arrays().values()))

    def test_tensors(self, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """x_test ``(t, D)`` and y_test ``(t,)`` as tensors of ``dtype`` (default float32)."""
        return self._tensor(self.x_test, dtype), self._tensor(self.y_test, dtype)

    def in_target_units(self, rmse: float) -> float:
        """A regression's error, measured on the standardised target, in the target's own unit."""
        return rmse * self.target_std

    def preprocess_to_json(self) -> dict[str, Any]:
        """The preprocessing as JSON data, for ``preprocess_from_json``."""
        return self.recipe.to_json()

    def describe(self) -> str:
        """The dataset in one line."""
        from sweeper.text import shown

        rows = f"{self.n_train:,} training, {len(self.y_val):,} validation and {len(self.y_test):,} test rows"
        columns = f"{self.n_features_raw:,} columns as {self.n_inputs:,} inputs"
        aim = f"'{shown(self.target_name)}'" if self.class_labels is None else f"{self.n_outputs} classes"
        return f"{self.name}: {self.task} of {aim}, {rows}, {columns}"

    @staticmethod
    def _tensor(array: np.ndarray, dtype: torch.dtype | None) -> torch.Tensor:
        import torch

        return torch.tensor(array, dtype=(dtype or torch.float32) if array.dtype.kind == "f" else None)


def built_in() -> list[BuiltIn]:
    """The datasets that need no file."""
    return list(_BUILT_IN)


def estimate(spec: DatasetSpec) -> Estimate:
    """What loading a dataset would take, from its file's head alone.

    Raises:
        SpecError: there is no such file, or its head cannot be read.
    """
    from sweeper.data.tables import CELL_BYTES, measure

    for row in _BUILT_IN:
        if spec.path is None and row.name == spec.name:
            return Estimate(row.rows, row.features + 1, row.rows * (row.features + 1) * CELL_BYTES)
    size = measure(Path(str(spec.path)), spec.target)
    return Estimate(size.rows, size.columns, size.bytes)


def preprocess_from_json(data: dict[str, Any]) -> Recipe:
    """The preprocessing that ``Dataset.preprocess_to_json`` described; it needs numpy only.

    Raises:
        ValueError: the data comes from another version of the program.
    """
    from sweeper.data.recipe import Recipe

    return Recipe.from_json(data)


def load(spec: SweepSpec) -> Dataset:
    """The data of a sweep file, checked against what the file wants of it.

    Raises:
        SpecError: the data cannot be used as it is.
    """
    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    spec.check_task(dataset.task)
    return dataset


def load_same(record: SweepRecord, spec: SweepSpec) -> Dataset:
    """The data that a sweep began on.

    Raises:
        SpecError: it is gone, or has changed since.
    """
    dataset = load(spec)
    if fingerprint_of(record) not in (None, dataset.fingerprint):
        problem = "the data has changed since this sweep began"
        remedy = "Restore the data, or start a new sweep"
        raise SpecError(problem, file=spec.dataset.path, key="dataset", remedy=remedy)
    return dataset


def load_dataset(spec: DatasetSpec, split: SplitSpec, normalize: str) -> Dataset:
    """Load, split and preprocess what a sweep's spec names.

    Raises:
        SpecError: the data cannot be used as it is; with file, column, row and what to do.
    """
    import numpy as np

    from sweeper.data.preprocess import fit_preprocessing
    from sweeper.data.splits import split_rows
    from sweeper.data.tables import read_table
    from sweeper.data.targets import encode_target

    table = read_table(spec)
    target = encode_target(table, spec.task)
    splits = split_rows(target, split, table.file)
    fitted = fit_preprocessing(table, splits.train, normalize)
    parts = (splits.train, splits.validation, splits.test)
    x = [fitted.transform(table, rows) for rows in parts]
    y = [target.y[rows] for rows in parts]
    mean, std = 0.0, 1.0
    if target.labels is None:
        mean, std = float(y[0].mean()), float(y[0].std())
        y = [((values - mean) / std).astype(np.float32) for values in y]
    for array in (*x, *y, *parts):
        array.setflags(write=False)
    used = {feature.column for feature in fitted.recipe.features}
    warnings = (*table.warnings, *target.warnings, *splits.warnings, *fitted.warnings)
    return Dataset(
        name=table.name,
        task=target.task,
        fingerprint=_fingerprint(table.content, table.target_name, target.task, split, normalize),
        rows_fingerprint=_fingerprint(table.content, table.target_name, target.task, split, ""),
        raw_columns=tuple(RawColumn(str(n), str(kind), n in used) for n, kind in table.frame.dtypes.items()),
        feature_names=fitted.names,
        target_name=table.target_name,
        class_labels=target.labels,
        x_train=x[0],
        y_train=y[0],
        x_val=x[1],
        y_val=y[1],
        x_test=x[2],
        y_test=y[2],
        train_rows=splits.train,
        val_rows=splits.validation,
        test_rows=splits.test,
        target_mean=mean,
        target_std=std,
        preprocess=fitted.pipeline,
        recipe=fitted.recipe,
        raw_train=_sample(table.frame, splits.train),
        raw_test=_sample(table.frame, splits.test),
        warnings=warnings if table.file is not None else (),
    )


def _sample(frame: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """The first rows of a split with their texts as plain objects."""
    sample = frame.iloc[rows[:SAMPLE_ROWS]].reset_index(drop=True)
    return sample.astype({name: object for name, kind in sample.dtypes.items() if kind == "category"})


def _fingerprint(content: str, target: str, task: str, split: SplitSpec, normalize: str) -> str:
    shares = [split.validation, split.test, split.seed]
    return hashlib.sha256(json.dumps([1, content, target, task, shares, normalize]).encode()).hexdigest()
