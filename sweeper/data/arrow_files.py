"""CSV, Parquet and Feather files as pandas columns of the few kinds that can be learned from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sweeper.data.checks import check_names, check_same_columns, pick_target
from sweeper.data.csv_files import BLOCK_BYTES, read_csv, zero_padded
from sweeper.data.csv_head import read_head
from sweeper.data.files import FileTable, Kind, Roles
from sweeper.data.number_texts import FEW_TEXTS, Reading, find_all, find_writing, numbers_of, refusal, told
from sweeper.data.numerals import PLAIN, Doubt, Writing
from sweeper.data.typed_files import TypedFile, stored_bytes
from sweeper.data.unpacked import unpacked_size
from sweeper.errors import SpecError
from sweeper.spec.dataset import is_csv
from sweeper.text import counted, listed, shown

if TYPE_CHECKING:
    from sweeper.models.config import Task

ROWS_PER_VALUE = 5  # on average, of a target of classes
MANY_TEXTS = 1000  # a column with more different texts is left out: each would be an input of the network
LONG_TEXT = 1000  # characters; a longer text is a document, not a category

_IDENTIFIER = "nearly every row has its own text (an identifier?)"
_NO_VALUES = "without any value"
_ROW_NUMBERS = "the row numbers of a saved index"


def arrow_size(path: Path) -> tuple[int, int, int]:
    """Rows, columns and stored bytes of a CSV, Parquet or Feather file, from its head or its metadata.

    Raises:
        SpecError: the head cannot be read.
    """
    if is_csv(path):
        head, size = read_head(path), unpacked_size(path)
        ahead = 2 * min(size, BLOCK_BYTES)  # blocks that wait while others are taken apart, on busy cores
        return head.records, len(head.names), size + ahead
    file = TypedFile(path)
    return file.rows, len(file.schema.names), stored_bytes(path)


def read_arrow(
    path: Path, target: str | None, roles: Roles, task: Task | None = None, first: FileTable | None = None
) -> FileTable:
    """The features, the target and the columns with another use. ``first`` is the table that this one goes on.

    A table that goes on another has the same columns, and each is what it is in the first. Texts that are numbers as
    people write them become numbers; a target only where it is no set of classes, by ``task`` or by what it holds.

    Raises:
        SpecError: the file or one of its columns cannot be used; with line or data row.
    """
    read = _read(path, target, roles, first)
    table, name, file = read.table, read.target, str(path)
    names = tuple(name or f"column {position}" for position, name in enumerate(table.column_names, start=1))
    unnamed = {title for title, written in zip(names, table.column_names, strict=True) if not written}
    table = table.rename_columns(list(names))
    if table.num_rows == 0:
        raise SpecError("it has column names but no rows", file=file, remedy="Add data rows")
    _check_kind(name, table.schema.field(name).type, file)
    found = _written(table, read, roles, task, file) if first is None else _as_first(table, first, file)
    wanted = found[name].values if name in found else _target(table.column(name))
    present = roles.present(names).items()
    aside = pd.DataFrame({u: (found[c].values if c in found else table[c]).to_pandas() for u, c in present})
    left_out: dict[str, list[str]] = {}
    kept: dict[str, pa.ChunkedArray] = {}
    kinds: dict[str, Kind] = {}
    for title, column in zip(names, table.columns, strict=True):
        if title == name or title in roles.no_inputs:
            continue
        if first is not None:
            if title in first.kinds:
                kept[title] = found[title].values if title in found else _like_first(title, column, first, file)
            continue
        reason = _row_numbers(column) if title in unnamed else None
        if reason is None:
            usable = found[title].values if title in found else _usable(title, column, file)
            if isinstance(usable, str):
                reason = usable
            else:
                kept[title], kinds[title] = usable, "number" if title in found else _kind(column.type)
        if reason is not None:
            left_out.setdefault(reason, []).append(title)
    del table, column
    warnings = [*read.warnings, *told(found)] if first is None else [f"{shown(file, 200)}: {w}" for w in read.warnings]
    warnings += [f"{counted(len(n), 'column')} left out, {reason}: {listed(n, 5)}." for reason, n in left_out.items()]
    if not kept:
        raise SpecError("it has no column to learn from", file=file, remedy=" ".join(warnings) or None)
    written = {title: reading.writing for title, reading in found.items()}
    found.clear()
    try:
        features = pa.table(kept)
        kept.clear()  # nothing else holds the columns: each is freed as soon as pandas has it
        frame = features.to_pandas(split_blocks=features.num_columns <= 100, self_destruct=True, ignore_metadata=True)
        return FileTable(file, frame, wanted.to_pandas(), name, aside, names, kinds, tuple(warnings), written)
    except (pa.ArrowException, ValueError) as error:
        raise SpecError(f"its values cannot be converted ({shown(error, 200)})", file=file) from error


@dataclass(frozen=True, eq=False)
class _Read:
    """A file as Arrow read it, with the name of the target.

    ``categories`` are the columns that the file itself calls categories. ``again`` reads some columns as texts; None:
    the file has types.
    """

    table: pa.Table
    target: str
    warnings: list[str]
    categories: frozenset[str] = frozenset()
    again: Callable[[Collection[str]], pa.Table] | None = None


def _read(path: Path, target: str | None, roles: Roles, first: FileTable | None) -> _Read:
    """The whole file, read once names, target and (Parquet) types are known to be usable."""
    if is_csv(path):
        return _read_csv(path, target, roles, first)
    file = TypedFile(path)
    schema = file.schema
    index = [n for n in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(n, str)]
    names = [n for n in schema.names if n == target or n in roles.uses.values() or n not in index]
    name, warnings = _checked(path, names, target, roles, first)
    for field in schema:
        if field.name in names and field.name not in roles.no_inputs:
            _check_kind(field.name, field.type, str(path))
    texts = [field.name for field in schema if _kind(field.type) == "text"]
    categories = frozenset(field.name for field in schema if pa.types.is_dictionary(field.type))
    return _Read(file.read(names, texts), name, warnings, categories)


def _read_csv(path: Path, target: str | None, roles: Roles, first: FileTable | None) -> _Read:
    head = read_head(path, target)
    if not head.named and target is not None and target not in head.names:
        problem = f"there is no column '{shown(target)}': the first line seems to hold values, not names"
        remedy = (
            f"Write a first line of column names, or name the target by its position: '{head.names[-1]}' is the last"
        )
        raise SpecError(problem, file=str(path), key="dataset.target", remedy=remedy)
    name, warnings = _checked(path, head.names, target, roles, first)
    warnings += head.warnings
    table = read_csv(path, head, () if first is None else first.texts())
    if first is None:
        for title, texts in zero_padded(path, head, table).items():
            table = table.set_column(table.column_names.index(title), title, texts)
    filled = _filled_rows(table)
    if empty := table.num_rows - filled:
        table = table.slice(0, filled)
        warnings.append(f"{counted(empty, 'wholly empty row')} at the end left out.")
    return _Read(table, name, warnings, again=lambda only: read_csv(path, head, only, only).slice(0, filled))


def _filled_rows(table: pa.Table) -> int:
    """The number of rows up to the last one with a value."""
    last = table.num_rows
    while last and all(not column[last - 1].is_valid for column in table.columns):
        last -= 1
    return last


def _written(table: pa.Table, read: _Read, roles: Roles, task: Task | None, file: str) -> dict[str, Reading]:
    """The columns of texts that are numbers as people write them, read as such.

    Raises:
        SpecError: texts that look like numbers can be read in two ways, or a few of them are none.
    """
    weight = roles.uses.get("weight")
    inputs = [name for name in table.column_names if name not in roles.no_inputs or name == weight]
    texts: dict[str, pa.ChunkedArray] = {}
    for name in inputs:
        if _kind(table[name].type) == "text" and name not in read.categories:
            codes = _encoded(table[name])
            few = read.again is None and _few_whole_numbers(codes)  # written as texts on purpose
            if _is_quantity(codes, task) if name == read.target else not few:
                texts[name] = codes
    numbers = {name: table[name] for name in inputs if _kind(table[name].type) == "number"}
    forced = [read.target] if task == "regression" else []
    found, hint = find_all(texts, numbers if read.again is not None else {}, forced)
    floats = [name for name, column in numbers.items() if pa.types.is_floating(column.type)]
    if hint == "," and floats and read.again is not None:  # whole numbers with points between thousands?
        again = read.again(floats)
        for name in floats:
            codes = _encoded(again[name])
            writing = find_writing(codes, hint)
            if isinstance(writing, Writing) and writing.thousands:
                texts[name], found[name] = codes, writing
    made: dict[str, Reading] = {}
    for name, writing in found.items():
        key = "dataset.target" if name == read.target else None
        if isinstance(writing, Writing):
            made[name] = numbers_of(name, texts[name], writing, file, key)
        elif writing is not None and not _good_texts(texts[name], writing):
            raise refusal(name, texts[name], writing, file, key)
    return made


def _as_first(table: pa.Table, first: FileTable, file: str) -> dict[str, Reading]:
    """The columns that are written numbers in the first table, and texts that are numbers there, read as there."""
    made: dict[str, Reading] = {}
    numeric = pd.api.types.is_numeric_dtype(first.target.dtype)
    numbers = {name for name, kind in first.kinds.items() if kind == "number"} | set(first.written)
    for name in numbers | ({first.target_name} if numeric else set()):
        if name in table.column_names and _kind(table[name].type) == "text":
            key, writing = "dataset.target" if name == first.target_name else None, first.written.get(name, PLAIN)
            try:
                made[name] = numbers_of(name, _encoded(table[name]), writing, file, key)
            except SpecError as error:
                problem = f"{error.problem}, as in {shown(first.file, 200)}"
                remedy = "Write it in the same way in both files, or name it in dataset.drop"
                raise SpecError(problem, file=file, key=error.key, remedy=remedy) from error
    return made


def _is_quantity(codes: pa.ChunkedArray, task: Task | None) -> bool:
    """Whether a target of texts is no set of classes, should they be numbers."""
    different = len(codes.unique().drop_null())
    return task == "regression" or (task is None and different > min(FEW_TEXTS, len(codes) / ROWS_PER_VALUE))


def _few_whole_numbers(codes: pa.ChunkedArray) -> bool:
    """Few different texts, all of digits alone."""
    different = codes.unique().dictionary_decode().drop_null()
    return len(different) <= FEW_TEXTS and all(text.strip().isdecimal() for text in different.to_pylist())


def _good_texts(codes: pa.ChunkedArray, doubt: Doubt) -> bool:
    """Whether texts that cannot be read as numbers can be categories."""
    different, rows = len(codes.unique().drop_null()), len(codes) - codes.null_count
    return different <= FEW_TEXTS or (doubt.texts and different <= min(MANY_TEXTS, rows / 2))


def _checked(
    path: Path, names: Sequence[str], target: str | None, roles: Roles, first: FileTable | None
) -> tuple[str, list[str]]:
    titles = [name or f"column {position}" for position, name in enumerate(names, start=1)]
    check_names(titles, str(path))
    if first is not None:
        check_same_columns(titles, [title for title in titles if title not in names], first, roles, str(path))
        return first.target_name, []
    name, warnings = pick_target(names, target, str(path))
    if len(names) == 1:
        remedy = "Check the separator between columns: comma, semicolon, tab and | are known"
        raise SpecError("the target is its only column", file=str(path), remedy=remedy)
    roles.check(titles, name, str(path))
    return name, warnings


def _like_first(title: str, column: pa.ChunkedArray, first: FileTable, file: str) -> pa.ChunkedArray:
    """A column as what it is in the first table: a number, a boolean or a text."""
    _check_kind(title, column.type, file)
    kind, wanted = _kind(column.type), first.kinds[title]
    if kind == "empty" or column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), pa.string() if wanted == "text" else pa.float64())])
    if kind != wanted:
        plural = {"number": "numbers", "bool": "booleans", "text": "texts"}
        example = column.drop_null()[0].as_py()
        problem = (
            f"it holds {plural[kind]} such as '{shown(example)}', and {plural[wanted]} in {shown(first.file, 200)}"
        )
        remedy = "Write it in the same way in both files, or name it in dataset.drop"
        raise SpecError(problem, file=file, key=f"column '{shown(title)}'", remedy=remedy)
    if kind == "bool":
        return column.cast(pa.int8()).cast(pa.float64()) if column.null_count else column
    return _number(column) if kind == "number" else _encoded(column)


def _kind(kind: pa.DataType) -> Kind:
    """What a column of this Arrow type can be used as."""
    types = pa.types
    if types.is_dictionary(kind):
        inner = _kind(kind.value_type)
        return "text" if inner in ("number", "bool") else inner
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_null(kind):
        return "empty"
    return "time" if types.is_temporal(kind) else "other"


def _check_kind(name: str, kind: pa.DataType, file: str) -> None:
    found, key = _kind(kind), f"column '{shown(name)}'"
    leave_out = "or name the column in dataset.drop"
    if found == "time":
        remedy = f"Turn them into numbers (such as year, month, or days since a date) {leave_out}"
        raise SpecError(f"it holds dates or times ({kind})", file=file, key=key, remedy=remedy)
    if found == "other":
        remedy = f"Numbers, booleans and texts can be used; turn it into those {leave_out}"
        raise SpecError(f"its type is {shown(kind)}", file=file, key=key, remedy=remedy)


def _usable(name: str, column: pa.ChunkedArray, file: str) -> pa.ChunkedArray | str:
    """A feature column in a form that pandas keeps small, or the reason to leave it out."""
    _check_kind(name, column.type, file)
    kind = _kind(column.type)
    if kind == "empty" or column.null_count == len(column):
        return _NO_VALUES
    if kind == "bool":
        return column.cast(pa.int8()).cast(pa.float64()) if column.null_count else column
    if kind == "number":
        return _number(column)
    return _texts(column)


def _number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    awkward = pa.types.is_decimal(column.type) or pa.types.is_float16(column.type)
    return column.cast(pa.float64()) if awkward else column


def _target(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = _kind(column.type)
    return _encoded(column) if kind == "text" else _number(column) if kind == "number" else column


def _encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as codes into one dictionary, which takes a few bytes per row however long the texts are."""
    if pa.types.is_dictionary(column.type) and _kind(column.type.value_type) != "text":
        column = column.cast(column.type.value_type).cast(pa.string())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.unify_dictionaries()


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray | str:
    """Categories, unless there are too many of them."""
    codes = _encoded(column)
    different = codes.unique().dictionary_decode().drop_null()
    count, rows = len(different), len(codes) - codes.null_count
    if count > FEW_TEXTS and (count > MANY_TEXTS or count > rows / 2):
        return _IDENTIFIER if count > rows / 2 else f"more than {MANY_TEXTS:,} different texts"
    if count and pc.max(pc.utf8_length(different)).as_py() > LONG_TEXT:
        return f"with texts of more than {LONG_TEXT:,} characters"
    return codes


def _row_numbers(column: pa.ChunkedArray) -> str | None:
    """Whether a column without a name holds 0, 1, 2, ...: what pandas writes in front of a table."""
    if not pa.types.is_integer(column.type) or column.null_count:
        return None
    start = column[0].as_py()
    found = start in (0, 1) and bool((column.to_numpy() == np.arange(start, start + len(column))).all())
    return _ROW_NUMBERS if found else None
