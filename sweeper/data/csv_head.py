"""The head of a CSV file: what stands above the table, its separator, and whether it has a line of column names."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import NoReturn

from sweeper.data.numerals import is_mark, parted
from sweeper.data.unpacked import unpacked, unpacked_size
from sweeper.errors import SpecError
from sweeper.text import counted, shown

HEAD_BYTES = 4 << 20
SEPARATORS = (",", ";", "\t", "|")
SAMPLE_RECORDS = 20
MOST_COMMENTS = 1000
SAVE = "Save it as CSV in UTF-8, with a first line of column names"

_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?\s*", re.IGNORECASE)  # Excel's
_COMMENT = re.compile(r"\s*\"?(#|//|%)")

Records = list[list[str]]


@dataclass(frozen=True)
class CsvHead:
    """What the first bytes tell.

    ``skipped`` lines stand above the table; without ``named`` the table has no line of column names, and the columns
    are called by their position. ``records`` is how many records the whole file may hold.
    """

    separator: str
    names: tuple[str, ...]
    records: int
    skipped: int = 0
    named: bool = True
    warnings: tuple[str, ...] = ()


def read_head(path: Path, target: str | None = None) -> CsvHead:
    """Read the head, from ``HEAD_BYTES`` at most. A first line that holds ``target`` is one of names.

    Raises:
        SpecError: the file is empty, not UTF-8 text, or has no readable line of column names.
    """
    size = unpacked_size(path)
    with unpacked(path) as file:
        head = file.read(HEAD_BYTES)
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise SpecError("the text is UTF-16, not UTF-8", file=str(path), remedy=SAVE)
    if size > len(head):  # a record that is cut must not look like a short one
        head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1]
        if not head:
            raise SpecError(f"the first line is longer than {HEAD_BYTES:,} bytes", file=str(path), remedy=SAVE)
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse_encoding(path, head[: error.start].count(b"\n") + 1)
    if not text.strip():
        raise SpecError("the file is empty", file=str(path), remedy=SAVE)
    skipped, separators, warnings = _above(text)
    table = text[sum(map(len, _lines(text)[:skipped])) :]
    separator, sample = _dialect(path, table, separators)
    if len(sample) == 1 and size == len(head) and not any("\n" in name for name in sample[0]):
        raise SpecError("it has column names but no rows", file=str(path), remedy="Add data rows")
    named = not _holds_values(sample, target)
    if named:
        names, told = _names(sample)
    else:
        names = [f"column {position}" for position in range(1, len(sample[0]) + 1)]
        told = (
            f"The first line holds values, no names: the columns are called '{names[0]}' to '{names[-1]}'. "
            "If it holds names, write names that no cell below them looks like."
        )
    lines = max(text.count("\n"), text.count("\r"))
    records = round(lines * size / len(head)) if size > len(head) else lines
    return CsvHead(separator, tuple(names), records, skipped, named, (*warnings, *([told] if told else [])))


def refuse_encoding(path: Path, line: int) -> NoReturn:
    """Refuse text that is not UTF-8, with its line."""
    raise SpecError(f"line {line:,} is not UTF-8 text", file=str(path), remedy=SAVE)


def _above(text: str) -> tuple[int, Sequence[str], list[str]]:
    """How many lines stand above the table, the separators it may have, and what to say of the comments."""
    lines = [line.rstrip("\r\n") for line in _lines(text)]
    found = _SEPARATOR_LINE.fullmatch(lines[0])
    start = 0 if found is None else 1
    end = start
    while end < len(lines) and (_COMMENT.match(lines[end]) or not lines[end].strip()):
        end += 1
    comments = [i for i in range(start, end) if lines[i].strip()]
    separators = SEPARATORS if found is None else (found[1],)
    if not comments or end == len(lines):
        return start, separators, []
    if _is_header(lines[comments[-1]], lines[end : end + SAMPLE_RECORDS], separators):
        end = comments.pop()
    told = f"{counted(len(comments), 'line')} of comments above the table left out, '{shown(lines[start])}' first."
    return (end, separators, [told]) if comments else (start, separators, [])


def _lines(text: str) -> list[str]:
    """The first lines with their ends."""
    return list(islice(io.StringIO(text, newline=""), MOST_COMMENTS))


def _is_header(line: str, body: Sequence[str], separators: Sequence[str]) -> bool:
    """Whether a line that begins with a comment's sign is the line of names: as wide as the table, which has none."""
    for separator in separators:
        try:
            names, *rows = list(_records("\n".join([line, *body]), separator))
        except (csv.Error, ValueError):
            continue
        if len(names) > 1 and rows and all(len(row) == len(names) for row in rows):
            return any(_is_value(cell) for cell in rows[0]) or _holds_values(rows, None)
    return False


def _dialect(path: Path, text: str, separators: Sequence[str]) -> tuple[str, Records]:
    """The separator under which the first records agree best, with those records."""
    best: tuple[tuple[bool, int], str, Records] | None = None
    for separator in separators:
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
        raise SpecError("its first lines cannot be read as CSV", file=str(path), remedy=SAVE)
    return best[1], best[2]


def _records(text: str, separator: str) -> Iterator[list[str]]:
    return (record for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if record)


def _names(sample: Records) -> tuple[list[str], str]:
    """The column names, with one more where every record has one more value: R's row names, or a separator too many."""
    names, rows = sample[0], sample[1:]
    if not rows or any(len(row) != len(names) + 1 for row in rows):
        return names, ""
    if all(not row[-1].strip() for row in rows):
        return [*names, ""], "Every row ends with a separator too many."
    if len(names) > 1:
        return ["", *names], "Every row has one value more than there are names: the first is taken for its name."
    return names, ""


def _is_value(cell: str) -> bool:
    return parted(cell) is not None and not is_mark(cell)


def _holds_values(sample: Records, target: str | None) -> bool:
    """Whether the first record is one of values: it looks like those below it, column by column, and not like names.

    Names that count up, such as years or positions, are names.
    """
    first, rows = sample[0], [row for row in sample[1:] if len(row) == len(sample[0])]
    if len(rows) < 2 or target in first or not all(cell.strip() for cell in first):
        return False
    numbers: list[str] = []
    alike = texts = 0
    for cell, *below in zip(first, *rows, strict=True):
        if all(_is_value(value) or is_mark(value) for value in below) and any(map(_is_value, below)):
            if not _is_value(cell):
                return False
            numbers.append(cell)
        else:
            texts += 1
            alike += cell in below
    if texts and 2 * alike < texts and not any(re.search(r"[.,]\d", cell) for cell in numbers):
        return False
    if not numbers:
        return texts > 1 and alike == texts
    whole = [int(cell) for cell in numbers if re.fullmatch(r"[0-9]{1,15}", cell)]
    counts_up = len(whole) == len(numbers) and all(a < b for a, b in pairwise(whole))
    return not counts_up or (alike > 0 and 2 * alike >= texts)
