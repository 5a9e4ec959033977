"""Arrow columns of texts that hold numbers as people write them: recognised over the whole column, and read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweeper.data.numerals import PLAIN, Doubt, Writing, described, is_mark, parted, read_number, writing_of
from sweeper.errors import SpecError
from sweeper.text import listed, shown

FEW_TEXTS = 20  # so many different texts are always categories, however short the table
SAMPLE = 1000  # different texts, of which half must be numbers before all are looked at
_COMMA = Writing(",")


@dataclass(frozen=True, eq=False)
class Reading:
    """A column of texts read as numbers.

    ``values (n,)`` are float64. ``example`` is a cell with its number, ``marks`` are texts that count as missing.
    """

    values: pa.ChunkedArray
    writing: Writing
    example: str
    marks: tuple[str, ...]


def find_writing(texts: pa.ChunkedArray, hint: str | None = None, codes: bool = False) -> Writing | Doubt | None:
    """How a dictionary-encoded column writes its numbers, a doubt about one cell, or None: they are texts.

    ``hint`` and ``codes`` are those of ``writing_of``.
    """
    different = texts.unique().dictionary_decode().drop_null()
    if not len(different):
        return None
    sample = different.take(pa.array(np.unique(np.linspace(0, len(different) - 1, SAMPLE).astype(np.int64))))
    kinds = [_kind(cell) for cell in sample.to_pylist()]
    if not kinds.count("number") or kinds.count("number") < kinds.count("text"):
        return None
    cells = _one_of_each_shape(different)
    strange = next((cell for cell in cells if _kind(cell) == "text"), None)
    if strange is not None:
        if len(different) <= FEW_TEXTS:
            return None
        remedy = "Correct these values; missing ones may be empty"
        return Doubt(strange, "and others like it are no numbers, as the rest of the column is", remedy)
    return writing_of(cells, hint, codes)


def find_all(
    texts: Mapping[str, pa.ChunkedArray], numbers: Mapping[str, pa.ChunkedArray], codes: Collection[str] = ()
) -> tuple[dict[str, Writing | Doubt | None], str | None]:
    """``find_writing`` of the columns of one file, with the decimal mark that all its columns tell, if they do.

    What the texts and the ``numbers`` (as Arrow read them) prove of the decimal mark decides where a column leaves it
    open.
    """
    found = {name: find_writing(column, None, name in codes) for name, column in texts.items()}
    proven = {mark for name, writing in found.items() if (mark := _proven(writing)) is not None}
    if any(_has_points(column) for column in numbers.values()):
        proven.add(".")
    hint = proven.pop() if len(proven) == 1 else None
    if hint is not None:
        open_still = [name for name, writing in found.items() if isinstance(writing, Doubt)]
        found |= {name: find_writing(texts[name], hint, name in codes) for name in open_still}
    return found, hint


def _proven(writing: Writing | Doubt | None) -> str | None:
    """The decimal mark that a column tells for sure."""
    if not isinstance(writing, Writing) or writing.scaled:
        return None
    other = {",": ".", ".": ","}.get(writing.thousands)
    return other or ("," if writing.decimal == "," else None)


def _has_points(column: pa.ChunkedArray) -> bool:
    """Whether some of these numbers cannot be whole ones with a point between thousands."""
    if not pa.types.is_floating(column.type):
        return False
    values = np.abs(column.drop_null().to_numpy())
    values = values[np.isfinite(values) & (values != np.floor(values))]
    thousandths = values * 1000
    return bool(((values < 1) | (values >= 1000) | (np.abs(thousandths - np.round(thousandths)) > 1e-6)).any())


def numbers_of(name: str, texts: pa.ChunkedArray, writing: Writing, file: str, key: str | None = None) -> Reading:
    """The numbers (float64, NaN where missing) of a dictionary-encoded column.

    Raises:
        SpecError: a cell is no number in this writing; with its data row.
    """
    known = texts.chunk(0).dictionary
    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in texts.chunks])
    used = np.unique(codes[codes >= 0])
    values = _at_once(known, writing)
    if values is None:
        values = np.full(len(known), np.nan)
        for code, cell in zip(used, known.take(pa.array(used)).to_pylist(), strict=True):
            try:
                values[code] = read_number(cell, writing)
            except ValueError as error:
                doubt = Doubt(
                    cell, f"is not a number{described(writing)}", "Write all numbers of the column in one way"
                )
                raise refusal(name, texts, doubt, file, key) from error
    read = np.append(values, np.nan)[codes]
    numbers, missing = used[~np.isnan(values[used])], used[np.isnan(values[used])]
    cells = known.take(pa.array(numbers[:SAMPLE])).to_pylist()
    longest = max(range(len(cells)), key=lambda i: len(cells[i]), default=None)
    example = ""
    if longest is not None:
        row = int(np.argmax(codes == numbers[longest])) + 1
        value = float(values[numbers[longest]])
        example = f"'{shown(cells[longest])}' in data row {row:,} as {value:.12g}"
    marks = tuple(known.take(pa.array(missing[:5])).to_pylist())
    return Reading(pa.chunked_array([pa.array(read)]), writing, example, marks)


def told(readings: Mapping[str, Reading]) -> list[str]:
    """What was read as numbers, one sentence for each writing, and what counts as missing among them."""
    groups: dict[Writing, list[str]] = {}
    for name, reading in readings.items():
        groups.setdefault(reading.writing, []).append(name)
    sentences = []
    for writing, names in groups.items():
        example = next((f": {readings[n].example}" for n in names if readings[n].example), "")
        which = (
            f"{listed(names, 5)} holds texts that are" if len(names) == 1 else f"{listed(names, 5)} hold texts that are"
        )
        sentences.append(f"{which} read as numbers{described(writing)}{example}.")
    marked = [name for name, reading in readings.items() if reading.marks]
    if marked:
        marks = dict.fromkeys(mark for name in marked for mark in readings[name].marks)
        verb = "counts" if len(marks) == 1 else "count"
        sentences.append(f"{listed(marks, 5)} {verb} as missing in {listed(marked, 5)}.")
    return sentences


def refusal(name: str, texts: pa.ChunkedArray, doubt: Doubt, file: str, key: str | None = None) -> SpecError:
    """What to say of a cell that cannot be read, with its first data row."""
    known = texts.chunk(0).dictionary
    code = pc.index(known, pa.scalar(doubt.cell, known.type))
    indices = pa.chunked_array([chunk.indices for chunk in texts.chunks])
    row = pc.index(indices, code.cast(indices.type)).as_py() + 1
    where = f"column '{shown(name)}'"
    problem = f"'{shown(doubt.cell)}' in data row {row:,} {doubt.problem}"
    if key is not None:
        where, problem = key, f"{where}: {problem}"
    return SpecError(problem, file=file, key=where, remedy=doubt.remedy)


def _kind(cell: str) -> str:
    return "missing" if is_mark(cell) else "number" if parted(cell) is not None else "text"


def _one_of_each_shape(different: pa.Array) -> list[str]:
    """One text of each shape: digits are alike, but for zeros in front and at the end, and so are their texts."""
    shapes = pc.replace_substring_regex(different, r"^([^0-9]*)0", r"\1z")
    shapes = pc.replace_substring_regex(shapes, r"0([^0-9]*)$", r"o\1")
    shapes = pc.replace_substring_regex(shapes, r"[0-9]", "9").dictionary_encode()
    _, first = np.unique(shapes.indices.to_numpy(zero_copy_only=False), return_index=True)
    found: list[str] = different.take(pa.array(np.sort(first))).to_pylist()
    return found


def _at_once(known: pa.Array, writing: Writing) -> np.ndarray | None:
    """The numbers of many texts with nothing but a decimal mark; None: they have to be read one by one."""
    if writing not in (PLAIN, _COMMA):
        return None
    plain = pc.replace_substring(known, ",", ".") if writing == _COMMA else known
    try:
        made: np.ndarray = pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return made
