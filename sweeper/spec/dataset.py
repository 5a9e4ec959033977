"""The sections ``dataset`` and ``split`` of a sweep file: which table, which columns, and who trains on which rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sweeper.errors import nearest
from sweeper.spec.goals import Task
from sweeper.spec.section import Section, column, refuse, text
from sweeper.spec.warm import as_tuple

DATASETS: dict[str, Task] = {
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
    "breast_cancer": "classification",
    "diabetes": "regression",
}
PACKED = ("", ".gz", ".bz2", ".xz", ".zip")
CSV_SUFFIXES = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in PACKED)
DATA_SUFFIXES = (*CSV_SUFFIXES, ".parquet", ".feather", ".npz")
SUFFIXES_IN_WORDS = ".csv, .tsv (or packed, as .csv.gz, .bz2, .xz, .zip), .parquet, .feather, .npz"
MAX_SEED = 2**31 - 1
MAX_FOLDS = 100
FILES = ("path", "validation", "test")  # the keys of dataset that name files


def _columns(value: Any) -> Any:
    return as_tuple(value) if isinstance(value, list | tuple) else (value,) if isinstance(value, str) else value


def fold_count(value: Any) -> Any:
    """A number of folds, as a validator."""
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= MAX_FOLDS:
        refuse(f"{str(value)[:40]!r} is no number of folds", remedy=f"Write a whole number from 2 to {MAX_FOLDS}")
    return value


File = Annotated[str, BeforeValidator(text)]
Column = Annotated[str, BeforeValidator(column), Field(min_length=1, max_length=1000)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(_columns)]


class DatasetSpec(Section):
    """Which table: a built-in one by ``name``, or a file by absolute ``path`` with its ``target`` column.

    ``target`` may be left out for an npz file only. ``task`` of None is inferred from the target. ``test`` and
    ``validation`` are files of the same kind and columns that hold those rows; ``drop`` names columns that are no
    inputs, ``weight`` the column that says how much each row counts.
    """

    name: str | None = None
    path: File | None = None
    target: Column | None = None
    task: Task | None = None
    validation: File | None = None
    test: File | None = None
    drop: Columns = ()
    weight: Column | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        if self is NO_DATA:
            return self
        if (self.name is None) == (self.path is None):
            problem = "it has both name and path" if self.name is not None else "it has neither name nor path"
            refuse(problem, remedy=f"Name a built-in dataset ({', '.join(DATASETS)}) or give the path of a file")
        if self.name is not None:
            if self.name not in DATASETS:
                refuse(f"there is no built-in dataset {self.name[:60]!r}", "name", nearest(self.name, DATASETS))
            if self.target is not None:
                refuse(f"the target of {self.name} cannot be chosen", "target", "Remove it")
            if self.task not in (None, DATASETS[self.name]):
                refuse(f"{self.name} is a {DATASETS[self.name]} dataset", "task", "Remove it")
        elif not self.path_suffix:
            refuse(f"{_base(self.path)!r} is not a data file", "path", f"Its name must end in {SUFFIXES_IN_WORDS}")
        elif self.target is None and self.path_suffix != ".npz":
            refuse("it is missing", "target", "Name the column to predict, for example target: label")
        for key, file in self.files().items():
            if key != "path" and self.name is not None:
                refuse(f"the built-in {self.name} has no other files", key, "Give the path of a file instead of name")
            if not (suffix_of(file) == self.path_suffix or (is_csv(file) and is_csv(self.path))):
                remedy = f"Its name must end in {self.path_suffix}, as that of dataset.path"
                refuse(f"{_base(file)!r} is another kind of file", key, remedy)
            if key != "path" and list(self.files().values()).count(file) > 1:
                refuse(f"{_base(file)!r} is named twice", key, "Every part needs rows of its own")
        if self.target is not None and self.target in (*self.drop, self.weight):
            refuse(f"'{self.target[:60]}' is the target", "drop" if self.target in self.drop else "weight", "Remove it")
        return self

    @property
    def path_suffix(self) -> str:
        """The kind of file: one of DATA_SUFFIXES, or empty."""
        return suffix_of(self.path)

    @property
    def label(self) -> str:
        """A short name: the built-in name, or the file's name without its suffix."""
        base = _base(self.path)
        return self.name or (base[: -len(self.path_suffix)] if base.lower().endswith(self.path_suffix) else base)

    @property
    def known_task(self) -> Task | None:
        """The task as far as it is known before the data is loaded."""
        return self.task or (DATASETS[self.name] if self.name else None)

    def files(self) -> dict[str, str]:
        """The data's files by their keys in this section: path, validation, test."""
        return data_files(self.model_dump(include=set(FILES)))


NO_DATA = DatasetSpec.model_construct(task="regression")  # of an objective of the user's own, which brings its own


class SplitSpec(Section):
    """Who trains, who validates, who is held out for the test: shares of the rows and the seed that draws them.

    With ``folds`` the rows that are not held out are cut into as many parts, each of which validates in turn.
    ``group`` names a column whose rows of one value never part; ``time`` one by which training comes before
    validation and validation before test; ``column`` one that says it for every row: train, validation, test, or a
    fold's number. A share does not apply where a file or the column names the rows.
    """

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    folds: Annotated[int, BeforeValidator(fold_count)] | None = None
    group: Column | None = None
    time: Column | None = None
    column: Column | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> SplitSpec:
        rules = [key for key in ("group", "time", "column") if getattr(self, key) is not None]
        if len(rules) > 1:
            refuse(f"it has both {rules[0]} and {rules[1]}", remedy="Keep one of group, time and column")
        return self


def check_split(dataset: DatasetSpec, split: SplitSpec) -> None:
    """Refuse what the two sections say against each other, as a validation error of the whole sweep file."""
    validation = 0.0 if dataset.validation or split.folds else split.validation
    test = 0.0 if dataset.test else split.test
    if validation + test >= 1:
        remedy = "Their sum must be below 1"
        refuse(f"validation and test together take {validation + test:g} of the rows", "split", remedy)
    if split.folds is not None and dataset.validation is not None:
        remedy = "Remove one of the two: every fold validates on rows of its own"
        refuse("folds have no validation file", "dataset.validation", remedy)
    rules = {f"split.{key}": getattr(split, key) for key in ("group", "time", "column")}
    named = {**rules, "dataset.weight": dataset.weight}
    for key, name in named.items():
        if name is not None and name == dataset.target:
            refuse(f"'{name[:60]}' is the target", key, "Name another column")
    if dataset.weight is not None and dataset.weight in rules.values():
        refuse(f"'{dataset.weight[:60]}' has another use in split", "dataset.weight", "Name another column")


def data_files(dataset: Mapping[str, Any]) -> dict[str, str]:
    """The files that a section ``dataset`` names, by their keys in the order of FILES."""
    return {key: dataset[key] for key in FILES if isinstance(dataset.get(key), str)}


def upload_key(key: str) -> str:
    """The key that names an uploaded file in a sweep file for a server, in place of one of FILES."""
    return "upload" if key == "path" else f"{key}_upload"


def suffix_of(path: str | os.PathLike[str] | None) -> str:
    """The kind of a data file by its name: one of DATA_SUFFIXES, or empty. A bare name is that of a Parquet folder."""
    base = _base(path).lower()
    bare = ".parquet" if base and "." not in base else ""
    return next((suffix for suffix in DATA_SUFFIXES if base.endswith(suffix)), bare)


def is_csv(path: str | os.PathLike[str] | None) -> bool:
    """Whether a file is a table of text, packed or not."""
    return suffix_of(path) in CSV_SUFFIXES


def _is_folder(path: str) -> bool:
    return suffix_of(path) == ".parquet" and (os.path.isdir(path) or "." not in _base(path))


def is_there(path: str) -> bool:
    """Whether there is such a data file, or such a folder of Parquet files."""
    return os.path.isdir(path) if _is_folder(path) else os.path.isfile(path)


def _base(path: str | os.PathLike[str] | None) -> str:
    return os.path.basename(os.path.normpath(path))[-100:] if path else ""
