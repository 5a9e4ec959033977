"""A sweep's data, ready to train on: loaded, split and preprocessed by rules fitted on the training rows alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.data.rows import Rows, as_tensor
from sweeper.errors import SpecError
from sweeper.spec.inputs import PLAIN, Inputs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from sweeper.data.raw_rows import RawRows
    from sweeper.data.recipe import Recipe
    from sweeper.data.rows import Splits
    from sweeper.data.tables import Table
    from sweeper.data.targets import Label, Target
    from sweeper.models.config import Task
    from sweeper.spec.dataset import DatasetSpec, SplitSpec
    from sweeper.spec.parse import FinalsSpec

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
class Dataset(Rows):
    """One table, split and preprocessed. D inputs; n, v, t rows for training, validation and test.

    x_test ``(t, D)`` is float32; y_test are int64 indices into ``class_labels``, or float32 numbers
    ``(value - target_mean) / target_std``, with the training rows' mean and deviation, so that learning rates mean
    the same on any data. No array can be written to. ``recipe`` turns raw columns into inputs. ``raw_train`` and
    ``raw_test`` are the first rows of two splits as read. ``fingerprint`` changes with the data, the target, the
    columns, the split and the normalisation, and with nothing else; ``rows_fingerprint`` does not change with the
    normalisation and the columns.

    With ``split.folds`` there are ``folds``: k datasets with their own training and validation rows and the same test
    rows. Then the training rows of the dataset itself are all that are not for the test, and it has no validation
    rows (v = 0). All folds have the same D inputs: which columns are used, and the categories of texts, follow from
    all rows of the folds; imputation, means and scales are fitted on each fold's training rows. The target's mean and
    deviation are those of all rows of the folds: a unit that the folds share, so that their losses can be averaged.

    ``inputs`` says how columns became inputs; ``raw`` are the rows from which others can be made (None: none are),
    of which the dataset is ``part``.
    """

    _: KW_ONLY
    name: str
    task: Task
    fingerprint: str
    rows_fingerprint: str
    raw_columns: tuple[RawColumn, ...]
    feature_names: tuple[str, ...]
    target_name: str
    class_labels: tuple[Label, ...] | None
    x_test: np.ndarray
    y_test: np.ndarray
    test_rows: np.ndarray
    target_mean: float
    target_std: float
    raw_train: pd.DataFrame
    raw_test: pd.DataFrame
    w_test: np.ndarray | None = None
    folds: tuple[Dataset, ...] = ()
    task_reason: str = ""
    warnings: tuple[str, ...] = ()
    inputs: Inputs = PLAIN
    raw: RawRows | None = None
    part: int = 0

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
        """The classes as printable texts, whole however long, in the order of their indices."""
        from sweeper.text import printable

        return None if self.class_labels is None else tuple(printable(label) for label in self.class_labels)

    def averaged(self) -> Dataset:
        """What a network that averages those of the k folds predicts from: ``k * D`` inputs, each fold's in turn.

        Its validation rows are those of all folds (their targets only: each fold's network predicts its own), and it
        has no training rows. Without folds it is the dataset itself.
        """
        if not self.folds:
            return self
        import numpy as np

        from sweeper.data.recipe import Recipe

        recipe = Recipe(tuple(f for fold in self.folds for f in fold.recipe.features), self.recipe.written)
        nothing = np.empty((0, len(recipe.features)), dtype=np.float32)
        return replace(
            self,
            x_train=nothing,
            y_train=self.y_train[:0],
            x_val=nothing,
            y_val=np.concatenate([fold.y_val for fold in self.folds]),
            x_test=np.concatenate([fold.x_test for fold in self.folds], axis=1),
            w_train=None,
            w_val=None if self.w_val is None else np.concatenate([fold.w_val for fold in self.folds]),
            recipe=recipe,
            feature_names=tuple(f"fold {i}: {n}" for i, fold in enumerate(self.folds) for n in fold.feature_names),
            folds=(),
        )

    def beside(self, others: Sequence[Dataset]) -> Dataset:
        """What several networks predict from: the inputs of this dataset and then those of ``others``, same rows.

        It has neither training rows nor inputs of validation rows.
        """
        if not others:
            return self
        import numpy as np

        from sweeper.data.recipe import Recipe

        every = (self, *others)
        recipe = Recipe(tuple(f for one in every for f in one.recipe.features), self.recipe.written)
        nothing = np.empty((0, len(recipe.features)), dtype=np.float32)
        return replace(
            self,
            x_train=nothing,
            y_train=self.y_train[:0],
            w_train=None,
            x_val=nothing,
            x_test=np.concatenate([one.x_test for one in every], axis=1),
            recipe=recipe,
            feature_names=tuple(name for one in every for name in one.feature_names),
            folds=(),
        )

    def together(self) -> Dataset:
        """The rows of all folds as the training rows of a dataset without folds, and without validation rows."""
        return replace(self, folds=())

    def prepared(self, inputs: Inputs) -> Dataset:
        """The same rows with other inputs, those of a trial say.

        Raises:
            SpecError: a value does not fit into float32.
        """
        if inputs == self.inputs:
            return self
        if self.raw is None:
            raise SpecError("the rows before preprocessing are gone", key="inputs", remedy="Load the data again")
        from sweeper.data.preprocess import input_names

        recipe, (train, validation, test) = self.raw.recipe(inputs, self.part), self.raw.part(self.part)
        return replace(
            self,
            x_train=self.raw.inputs(recipe, train),
            x_val=self.raw.inputs(recipe, validation),
            x_test=self.raw.inputs(recipe, test),
            recipe=recipe,
            feature_names=input_names(recipe),
            inputs=inputs,
            folds=tuple(fold.prepared(inputs) for fold in self.folds),
        )

    def settled(self) -> Dataset:
        """The same without the rows from which other inputs could be made."""
        return replace(self, raw=None, folds=tuple(fold.settled() for fold in self.folds))

    def most_inputs(self, inputs: Inputs) -> int:
        """As many inputs as columns become at most."""
        return len(self.most_kinds(inputs))

    def most_kinds(self, inputs: Inputs) -> tuple[int, ...]:
        """What inputs are (``recipe.kinds_of``), of as many as columns become at most."""
        from sweeper.data.recipe import kinds_of
        from sweeper.models.embedding import NUMBER, OTHER

        if inputs == self.inputs or self.raw is None:
            return kinds_of(self.recipe.features)
        columns, one = self.raw.columns, [OTHER] * inputs.bins or [NUMBER]
        others = len(columns.flags) + (len(columns.holes) if inputs.missing_indicator else 0)
        texts = [i for i, name in enumerate(columns.texts, 1) for _ in columns.categories[name]]
        return (*(one * len(columns.numbers)), *([OTHER] * others), *texts)

    def test_tensors(self, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """x_test ``(t, D)`` and y_test ``(t,)`` as tensors of ``dtype`` (default float32)."""
        return as_tensor(self.x_test, dtype), as_tensor(self.y_test, dtype)

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
        if self.folds:
            rows = f"{self.n_train:,} rows in {len(self.folds)} folds and {len(self.y_test):,} test rows"
        columns = f"{self.n_features_raw:,} columns as {self.n_inputs:,} inputs"
        aim = f"'{shown(self.target_name)}'" if self.class_labels is None else f"{self.n_outputs} classes"
        return f"{self.name}: {self.task} of {aim}, {rows}, {columns}"


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


def load_dataset(spec: DatasetSpec, split: SplitSpec, normalize: str, finals: FinalsSpec | None = None) -> Dataset:
    """Load, split and preprocess what a sweep's spec names; ``finals`` in folds have to be possible with its rows.

    Each column is one input; see ``Dataset.prepared``.

    Raises:
        SpecError: the data cannot be used as it is; with file, column, row and what to do.
    """
    from sweeper.data.final_folds import check_final_folds
    from sweeper.data.splits import split_rows
    from sweeper.data.tables import read_table
    from sweeper.data.targets import encode_target

    table = read_table(spec, split)
    target = encode_target(table, spec.task)
    splits = split_rows(table, target, split)
    if finals is not None and finals.folds is not None:
        check_final_folds(table, target, split, finals)
    return _prepared(table, target, splits, spec, split, normalize)


def _prepared(
    table: Table, target: Target, splits: Splits, spec: DatasetSpec, split: SplitSpec, normalize: str
) -> Dataset:
    import numpy as np

    from sweeper.data.making import folds_of
    from sweeper.data.preprocess import choose_columns, coded_rows, input_names
    from sweeper.data.raw_rows import RawRows, frozen
    from sweeper.data.suspects import suspicions
    from sweeper.data.targets import scaled

    target, mean, std = scaled(table, target, splits)
    columns = choose_columns(table, splits.train)
    weights = table.aside["weight"].to_numpy(np.float32) if "weight" in table.aside else None
    raw = RawRows(columns, coded_rows(table.frame, columns), target.y, weights, target.labels is not None, splits)
    inputs = Inputs(normalize)
    with _in_file(table):
        recipe = raw.recipe(inputs)
        whole, x_test = raw.rows(recipe), raw.inputs(recipe, splits.test)
    warnings = (*table.warnings, *target.warnings, *splits.warnings, *columns.warnings)
    warnings += suspicions(table, target, splits) if table.file is not None else ()
    about = [table.content, table.target_name, target.task, split.model_dump()]
    made = Dataset(
        **{field.name: getattr(whole, field.name) for field in fields(Rows)},
        name=table.name,
        task=target.task,
        fingerprint=_fingerprint([*about, sorted(spec.drop), spec.weight, normalize]),
        rows_fingerprint=_fingerprint(about),
        raw_columns=tuple(RawColumn(str(n), str(kind), n in columns.names) for n, kind in table.frame.dtypes.items()),
        feature_names=input_names(whole.recipe),
        target_name=table.target_name,
        class_labels=target.labels,
        x_test=x_test,
        y_test=frozen(target.y[splits.test]),
        w_test=None if weights is None else frozen(weights[splits.test]),
        test_rows=frozen(splits.test),
        target_mean=mean,
        target_std=std,
        raw_train=_sample(table.frame, splits.train),
        raw_test=_sample(table.frame, splits.test),
        task_reason=target.reason,
        warnings=warnings if table.file is not None else (),
        inputs=inputs,
        raw=raw,
    )
    with _in_file(table):
        return replace(made, folds=folds_of(made, raw))


@contextmanager
def _in_file(table: Table) -> Iterator[None]:
    """What is refused in here is told with its file."""
    from sweeper.data.preprocess import too_large
    from sweeper.data.raw_rows import TooLarge

    try:
        yield
    except TooLarge as error:
        file, row = table.place(error.row)
        raise too_large(error.column, file or table.file, row) from error
    except SpecError as error:
        raise SpecError(error.problem, file=table.file, key=error.key, remedy=error.remedy) from error


def _sample(frame: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """The first rows of a split with their texts as plain objects."""
    sample = frame.iloc[rows[:SAMPLE_ROWS]].reset_index(drop=True)
    return sample.astype({name: object for name, kind in sample.dtypes.items() if kind == "category"})


def _fingerprint(about: list[Any]) -> str:
    return hashlib.sha256(json.dumps([3, *about]).encode()).hexdigest()
