"""CSV files: Arrow reads the body as the head says, and what it refuses is located by line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from sweeper.data.csv_head import SAVE, CsvHead, refuse_encoding
from sweeper.data.numerals import MISSING
from sweeper.data.unpacked import unpacked
from sweeper.errors import SpecError
from sweeper.text import shown

BLOCK_BYTES = 32 << 20  # read at once; no record can be longer
LEADING_ZERO = re.compile(rb"""(?:^|[,;\t|"' \r\n])0[0-9]""")


def read_csv(path: Path, head: CsvHead, texts: Collection[str] = (), only: Collection[str] = ()) -> pa.Table:
    """Read all records with the types that Arrow infers from the whole of every column.

    ``texts`` are read as texts. With ``only`` no other columns are read.

    Raises:
        SpecError: ragged records, text that is not UTF-8, an open quote; with the line.
    """
    keys = [str(position) for position in range(len(head.names))]  # names may be empty, or stand twice
    title = dict(zip(keys, head.names, strict=True))
    above = {"skip_rows": head.skipped, "skip_rows_after_names": 1 if head.named else 0}
    read = arrow_csv.ReadOptions(block_size=BLOCK_BYTES, column_names=keys, **above)
    parse = arrow_csv.ParseOptions(delimiter=head.separator, newlines_in_values=True)
    convert = arrow_csv.ConvertOptions(
        null_values=list(MISSING),
        strings_can_be_null=True,
        check_utf8=True,
        column_types={key: pa.string() for key, name in title.items() if name in texts},
        include_columns=[key for key, name in title.items() if name in only] or None,
    )
    try:
        with unpacked(path) as file:
            table = arrow_csv.read_csv(file, read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, ValueError, OSError) as error:
        _refuse(path, head, str(error))
    table = table.rename_columns([title[key] for key in table.column_names])
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        _refuse(path, head, "invalid UTF8 data")
    if not only:
        _check_last_quote(path, table)
    return table


def zero_padded(path: Path, head: CsvHead, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns of whole numbers of which some begin with zeros, as texts: 007 is a code, and so is a postal code."""
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    if not whole or not _has_leading_zero(path):
        return {}
    texts = read_csv(path, head, whole, whole)
    padded = {name: pc.match_substring_regex(texts[name], r"^\s*0[0-9]+\s*$") for name in whole}
    return {name: texts[name] for name, found in padded.items() if pc.any(found).as_py()}


def _has_leading_zero(path: Path) -> bool:
    """Whether some cell of the file could begin with a zero and another digit."""
    with unpacked(path) as file:
        before = b""
        for block in iter(lambda: file.read(1 << 20), b""):
            if LEADING_ZERO.search(before + block) is not None:
                return True
            before = block[-2:]
    return False


def _refuse(path: Path, head: CsvHead, reason: str) -> NoReturn:
    """Translate Arrow's refusal, with the line that Arrow does not tell."""
    if "UTF8" in reason:
        with unpacked(path) as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    refuse_encoding(path, number)
    found = _first_ragged(path, head) if "columns" in reason else None
    if found is not None:
        number, width = found
        wanted = len(head.names)
        remedy = f"Correct that line; texts that hold {shown(repr(head.separator))} or quotes must stand in quotes"
        raise SpecError(f"line {number:,} has {width} values for {wanted} columns", file=str(path), remedy=remedy)
    if "straddling" in reason:
        raise SpecError("a record is too long. Is a quote left open?", file=str(path), remedy=SAVE)
    raise SpecError(f"it cannot be read as CSV ({shown(reason, 200)})", file=str(path), remedy=SAVE)


def _first_ragged(path: Path, head: CsvHead) -> tuple[int, int] | None:
    """Line and width of the first record that has not as many values as there are columns."""
    with unpacked(path) as packed, io.TextIOWrapper(packed, "utf-8-sig", errors="replace", newline="") as file:
        for _ in range(head.skipped):
            next(file)
        reader = csv.reader(file, delimiter=head.separator)
        try:
            for position, record in enumerate(reader):
                if record and len(record) != len(head.names) and (position or not head.named):
                    return head.skipped + reader.line_num, len(record)
        except csv.Error:
            return None
    return None


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
    with unpacked(path) as file:
        return sum(block.count(b'"') for block in iter(lambda: file.read(1 << 20), b""))
