"""Reads a dataset's file, or a built-in dataset, into one table of features with its target column."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sweeper.data.arrow_files import arrow_size, read_arrow
from sweeper.data.checks import check_finite, check_target, check_texts
from sweeper.data.memory import check_fits
from sweeper.data.npz_files import npz_size, read_npz
from sweeper.errors import SpecError
from sweeper.text import shown

if TYPE_CHECKING:
    from sweeper.spec.models import DatasetSpec

SUFFIXES = (".csv", ".parquet", ".npz")
CELL_BYTES = 40  # peak memory of a load per value of the table, measured on 5 million rows of 10 columns


@dataclass(frozen=True)
class Size:
    """Rows and columns of a file, the target included, and the bytes of memory that loading it takes at its peak.

    Rows of a CSV are extrapolated from its first megabytes, everything else is read from the file's own header.
    """

    rows: int
    columns: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Table:
    """One dataset as read, n rows. ``frame`` holds numbers, booleans and texts (as pandas categories).

    ``target`` has no missing value. ``content`` is the SHA-256 of the data. ``file`` is None for built-in data.
    """

    name: str
    frame: pd.DataFrame
    target: pd.Series
    target_name: str
    content: str
    file: str | None = None
    warnings: tuple[str, ...] = ()


def read_table(spec: DatasetSpec) -> Table:
    """Read what a spec names, whole.

    Raises:
        SpecError: the file cannot be used as it is; with file, column and remedy.
    """
    if spec.path is None:
        return _built_in(str(spec.name))
    path = Path(spec.path)
    size = measure(path, spec.target)
    remedy = "Use a sample of its rows, or fewer columns"
    check_fits(size.bytes, f"loading {size.rows:,} rows of {size.columns:,} columns", remedy, str(path))
    warnings: list[str] = []
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix.lower() == ".npz":
            frame, target, name = read_npz(path, spec.target)
        else:
            frame, target, name, warnings = read_arrow(path, spec.target)
    except OSError as error:
        raise SpecError(f"it cannot be read ({error.strerror or shown(error)})", file=str(path)) from error
    except MemoryError as error:
        raise SpecError("there is not enough memory to load it", file=str(path), remedy=remedy) from error
    check_target(target, name, str(path))
    check_texts(frame, target, name, str(path))
    check_finite(frame, str(path))
    return Table(shown(path.stem), frame, target, name, content, str(path), tuple(warnings))


def measure(path: Path, target: str | None) -> Size:
    """What the head of a file tells of its size.

    Raises:
        SpecError: there is no such file, or its head cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        problem = f"'{shown(path.name)}' is not a data file"
        raise SpecError(problem, key="dataset.path", remedy=f"Its name must end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise SpecError("there is no such file", file=shown(path, 300), key="dataset.path")
    try:
        rows, columns, stored = npz_size(path, target) if suffix == ".npz" else arrow_size(path)
    except OSError as error:
        raise SpecError(f"it cannot be read ({error.strerror or shown(error)})", file=str(path)) from error
    return Size(rows, columns, stored + rows * columns * CELL_BYTES)


def _built_in(name: str) -> Table:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    columns = [str(column) for column in bunch.feature_names]
    target = bunch.target
    labels = bunch.get("target_names")
    if labels is not None and labels.dtype.kind == "U":
        target = labels[target].astype(object)
    content = hashlib.sha256(bunch.data.tobytes() + bunch.target.tobytes()).hexdigest()
    return Table(name, pd.DataFrame(bunch.data, columns=columns), pd.Series(target), "target", content)
