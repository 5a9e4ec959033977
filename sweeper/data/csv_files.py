"""CSV files: the dialect is found in the head, Arrow reads the body, and what it refuses is located by line."""

from __future__ import annotations

import csv
import io
import mmap
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from sweeper.data.numerals import MISSING
from sweeper.errors import SpecError
from sweeper.text import shown

HEAD_BYTES = 4 << 20
BLOCK_BYTES = 32 << 20  # read at once; no record can be longer
SEPARATORS = (",", ";", "\t", "|")
SAMPLE_RECORDS = 20
LEADING_ZERO = re.compile(rb"""[,;\t|"' \r\n]0[0-9]""")

_SAVE = "Save it as CSV in UTF-8, with a first line of column names"


@dataclass(frozen=True)
class CsvHead:
    """What the first bytes tell: the separator, the column names, and how many records the whole file may hold."""

    separator: str
    names: tuple[str, ...]
    records: int


def read_head(path: Path) -> CsvHead:
    """Find separator, column names and the approximate number of records, from ``HEAD_BYTES`` at most.

    Raises:
        SpecError: the file is empty, not UTF-8 text, or has no readable line of column names.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise SpecError("the text is UTF-16, not UTF-8", file=str(path), remedy=_SAVE)
    if size > len(head):  # a record that is cut must not look like a short one
        head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1]
        if not head:
            raise SpecError(f"the first line is longer than {HEAD_BYTES:,} bytes", file=str(path), remedy=_SAVE)
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse_encoding(path, head[: error.start].count(b"\n") + 1)
    if not text.strip():
        raise SpecError("the file is empty", file=str(path), remedy=_SAVE)
    separator, sample = _dialect(path, text)
    if len(sample) == 1 and size == len(head) and not any("\n" in name for name in sample[0]):
        raise SpecError("it has column names but no rows", file=str(path), remedy="Add data rows")
    lines = max(text.count("\n"), text.count("\r"))
    return CsvHead(
        separator=separator,
        names=tuple(sample[0]),
        records=round(lines * size / len(head)) if size > len(head) else lines,
    )


def read_csv(path: Path, head: CsvHead, texts: Collection[str] = (), only: Collection[str] = ()) -> pa.Table:
    """Read all records with the types that Arrow infers from the whole of every column.

    ``texts`` are read as texts. With ``only`` no other columns are read.

    Raises:
        SpecError: ragged records, text that is not UTF-8, an open quote; with the line.
    """
    keys = [str(position) for position in range(len(head.names))]  # names may be empty, or stand twice
    title = dict(zip(keys, head.names, strict=True))
    read = arrow_csv.ReadOptions(block_size=BLOCK_BYTES, column_names=keys, skip_rows_after_names=1)
    parse = arrow_csv.ParseOptions(delimiter=head.separator, newlines_in_values=True)
    convert = arrow_csv.ConvertOptions(
        null_values=list(MISSING),
        strings_can_be_null=True,
        check_utf8=True,
        column_types={key: pa.string() for key, name in title.items() if name in texts},
        include_columns=[key for key, name in title.items() if name in only] or None,
    )
    try:
        with path.open("rb") as file:
            table = arrow_csv.read_csv(file, read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, ValueError, OSError) as error:
        _refuse(path, head, str(error))
    table = table.rename_columns([title[key] for key in table.column_names])
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        _refuse(path, head, "invalid UTF8 data")
    if not only:
        _check_last_quote(path, table)
    return table


def _dialect(path: Path, text: str) -> tuple[str, list[list[str]]]:
    """The separator under which the first records agree best, with those records."""
    best: tuple[tuple[bool, int], str, list[list[str]]] | None = None
    for separator in SEPARATORS:
        try:
            sample = [record for record, _ in zip(_records(text, separator), range(SAMPLE_RECORDS), strict=False)]
        except csv.Error:
            continue
        if sample:
            width = len(sample[0])
            agree = width > 1 and all(len(record) == width for record in sample[1:3])
            if best is None or (agree, width) > best[0]:
                best = ((agree, width), separator, sample)
    if best is None:
        raise SpecError("its first lines cannot be read as CSV", file=str(path), remedy=_SAVE)
    return best[1], best[2]


def _records(text: str, separator: str) -> Iterator[list[str]]:
    return (record for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if record)


def zero_padded(path: Path, head: CsvHead, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns of whole numbers of which some begin with zeros, as texts: 007 is a code, and so is a postal code."""
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    if not whole or path.stat().st_size == 0:
        return {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if LEADING_ZERO.search(content) is None:
            return {}
    texts = read_csv(path, head, whole, whole)
    padded = {name: pc.match_substring_regex(texts[name], r"^\s*0[0-9]+\s*$") for name in whole}
    return {name: texts[name] for name, found in padded.items() if pc.any(found).as_py()}


def _refuse(path: Path, head: CsvHead, reason: str) -> NoReturn:
    """Translate Arrow's refusal, with the line that Arrow does not tell."""
    if "UTF8" in reason:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    _refuse_encoding(path, number)
    found = _first_ragged(path, head) if "columns" in reason else None
    if found is not None:
        number, width = found
        wanted = len(head.names)
        remedy = f"Correct that line; texts that hold {shown(repr(head.separator))} or quotes must stand in quotes"
        raise SpecError(f"line {number:,} has {width} values for {wanted} columns", file=str(path), remedy=remedy)
    if "straddling" in reason:
        raise SpecError("a record is too long. Is a quote left open?", file=str(path), remedy=_SAVE)
    raise SpecError(f"it cannot be read as CSV ({shown(reason, 200)})", file=str(path), remedy=_SAVE)


def _first_ragged(path: Path, head: CsvHead) -> tuple[int, int] | None:
    """Line and width of the first record that has not as many values as there are columns."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=head.separator)
        try:
            for record in reader:
                if record and len(record) != len(head.names):
                    return reader.line_num, len(record)
        except csv.Error:
            return None
    return None


def _refuse_encoding(path: Path, line: int) -> NoReturn:
    raise SpecError(f"line {line:,} is not UTF-8 text", file=str(path), remedy=_SAVE)


def _check_last_quote(path: Path, table: pa.Table) -> None:
    """Refuse a quote that is never closed: it swallows the rest of the file into the last record."""
    if not table.num_rows:
        return
    last: dict[str, Any] = table.slice(table.num_rows - 1).to_pylist()[0]
    swallowed = [name for name, value in last.items() if isinstance(value, str) and "\n" in value]
    if swallowed and _count_quotes(path) % 2:
        problem = f"a quote is opened in the last record's '{shown(swallowed[0])}' that is never closed"
        raise SpecError(problem, file=str(path), remedy="Close it, or double a quote that is part of the text")


def _count_quotes(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b'"') for block in iter(lambda: file.read(1 << 20), b""))
