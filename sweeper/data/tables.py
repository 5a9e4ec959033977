"""Reads a dataset's file, or a built-in dataset, into one table of features with its target column."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sweeper.data.arrow_files import arrow_size, read_arrow
from sweeper.data.checks import check_aside, check_finite, check_target, check_texts, check_weights
from sweeper.data.files import FileTable, Part, Roles, stacked
from sweeper.data.memory import check_fits
from sweeper.data.npz_files import npz_size, read_npz
from sweeper.data.typed_files import digest_of
from sweeper.errors import SpecError
from sweeper.spec.dataset import SUFFIXES_IN_WORDS, is_there, suffix_of
from sweeper.text import shown

if TYPE_CHECKING:
    from sweeper.data.numerals import Writing
    from sweeper.spec.dataset import DatasetSpec, SplitSpec

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

    ``target`` has no missing value. ``aside`` holds the columns that are no inputs, by use: group, time, column,
    weight. The rows of more files stand below those of the first, as ``parts`` says. ``content`` is the SHA-256 of
    the data. ``file`` is None for built-in data. ``written`` are the columns of texts that were read as numbers.
    """

    name: str
    frame: pd.DataFrame
    target: pd.Series
    target_name: str
    content: str
    aside: pd.DataFrame
    parts: tuple[Part, ...]
    roles: Roles
    file: str | None = None
    warnings: tuple[str, ...] = ()
    written: Mapping[str, Writing] = field(default_factory=dict)

    def part(self, key: str) -> Part | None:
        """The rows of one file, by its key in the section dataset."""
        return next((part for part in self.parts if part.key == key), None)

    def place(self, row: int) -> tuple[str | None, int]:
        """The file of a row and its number there, from 1."""
        part = next(part for part in self.parts if row < part.stop)
        return part.file, row - part.start + 1


def read_table(spec: DatasetSpec, split: SplitSpec) -> Table:
    """Read what a spec names, whole.

    Raises:
        SpecError: a file cannot be used as it is; with file, column and remedy.
    """
    roles = Roles.of(spec, split)
    if spec.path is None:
        return _built_in(str(spec.name), roles)
    content = hashlib.sha256()
    tables: list[FileTable] = []
    for key, file in spec.files().items():
        try:
            digest, table = _read_file(Path(file), spec, roles, tables[0] if tables else None)
        except SpecError as error:
            if error.key is not None or key == "path":
                raise
            raise SpecError(error.problem, file=error.file, key=f"dataset.{key}", remedy=error.remedy) from error
        content.update(digest)
        tables.append(table)
    only = content.digest() if len(tables) > 1 else digest
    frame, target, aside = stacked(tables)
    stops = list(accumulate(len(table.target) for table in tables))
    spans = zip(spec.files().items(), [0, *stops[:-1]], stops, strict=True)
    parts = tuple(Part(key, file, start, stop) for (key, file), start, stop in spans)
    first, label = tables[0], spec.label
    check_weights(aside, parts, roles)
    return Table(
        shown(label),
        frame,
        target,
        first.target_name,
        only.hex(),
        aside,
        parts,
        roles,
        spec.path,
        tuple(warning for table in tables for warning in table.warnings),
        first.written,
    )


def _read_file(path: Path, spec: DatasetSpec, roles: Roles, first: FileTable | None) -> tuple[bytes, FileTable]:
    """The SHA-256 of one file, and what it holds."""
    size = measure(path, spec.target)
    remedy = "Use a sample of its rows, or fewer columns"
    check_fits(size.bytes, f"loading {size.rows:,} rows of {size.columns:,} columns", remedy, str(path))
    try:
        digest = digest_of(path)
        if path.suffix.lower() == ".npz":
            table = read_npz(path, spec.target, roles, first)
        else:
            table = read_arrow(path, spec.target, roles, spec.task, first)
    except OSError as error:
        raise SpecError(f"it cannot be read ({error.strerror or shown(error)})", file=str(path)) from error
    except MemoryError as error:
        raise SpecError("there is not enough memory to load it", file=str(path), remedy=remedy) from error
    check_target(table.target, table.target_name, str(path))
    check_aside(table.aside, roles, str(path))
    check_texts(table.frame, table.target, table.target_name, str(path))
    check_finite(table.frame, str(path))
    if first is not None and (table.target.dtype.kind in "iufb") != (first.target.dtype.kind in "iufb"):
        problem = f"'{shown(table.target_name)}' is {_kind_of(table.target)} here and {_kind_of(first.target)} in"
        remedy = "Write the target in the same way in both files"
        raise SpecError(f"{problem} {shown(first.file, 200)}", file=str(path), key="dataset.target", remedy=remedy)
    return digest, table


def _kind_of(target: pd.Series) -> str:
    return "a number" if target.dtype.kind in "iuf" else "a boolean" if target.dtype.kind == "b" else "a text"


def measure(path: Path, target: str | None) -> Size:
    """What the head of a file tells of its size.

    Raises:
        SpecError: there is no such file, or its head cannot be read.
    """
    suffix = suffix_of(str(path))
    if not suffix:
        problem = f"'{shown(path.name)}' is not a data file"
        raise SpecError(problem, key="dataset.path", remedy=f"Its name must end in {SUFFIXES_IN_WORDS}")
    if not is_there(str(path)):
        raise SpecError("there is no such file", file=shown(path, 300), key="dataset.path")
    try:
        rows, columns, stored = npz_size(path, target) if suffix == ".npz" else arrow_size(path)
    except OSError as error:
        raise SpecError(f"it cannot be read ({error.strerror or shown(error)})", file=str(path)) from error
    return Size(rows, columns, stored + rows * columns * CELL_BYTES)


def _built_in(name: str, roles: Roles) -> Table:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    columns = [str(column) for column in bunch.feature_names]
    target = bunch.target
    labels = bunch.get("target_names")
    if labels is not None and labels.dtype.kind == "U":
        target = labels[target].astype(object)
    content = hashlib.sha256(bunch.data.tobytes() + bunch.target.tobytes()).hexdigest()
    frame = pd.DataFrame(bunch.data, columns=columns)
    roles.check(columns, "target", None)
    aside = pd.DataFrame({use: frame[column] for use, column in roles.uses.items()}, index=frame.index)
    parts = (Part("path", None, 0, len(frame)),)
    check_weights(aside, parts, roles)
    frame = frame.drop(columns=[column for column in columns if column in roles.no_inputs])
    if not frame.shape[1]:
        raise SpecError("no column is left to learn from", key="dataset.drop", remedy="Drop fewer columns")
    return Table(name, frame, pd.Series(target), "target", content, aside, parts, roles)
