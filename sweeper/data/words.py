"""The user's own column of who trains, who validates and who is tested, or of each row's fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.errors import SpecError, nearest
from sweeper.text import is_number, shown

if TYPE_CHECKING:
    from sweeper.data.tables import Table
    from sweeper.spec.dataset import SplitSpec

WORDS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Words:
    """What the column says of each of the n rows of ``dataset.path``; without a column nothing (n = 0).

    ``word (n,)`` is train, validation or test. ``fold (n,)`` is a fold's number, -1 for the rows without one.
    """

    name: str
    word: np.ndarray
    fold: np.ndarray

    @property
    def numbered(self) -> bool:
        """Whether the column numbers the folds."""
        return bool((self.fold >= 0).any())

    def has(self, word: str) -> bool:
        """Whether some row is given this part."""
        return bool((self.word == word).any())

    def rows(self, word: str) -> np.ndarray:
        """The rows of a part, none where the column does not name it."""
        return np.flatnonzero(self.word == word)

    def folds(self, pool: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """For each number in turn the rows of the others and its own, of those in ``pool``."""
        fold = self.fold[pool]
        return tuple((pool[fold != number], pool[fold == number]) for number in np.unique(self.fold[self.fold >= 0]))


def words_of(table: Table, split: SplitSpec) -> Words:
    """Read the column that ``split.column`` names.

    Raises:
        SpecError: a word that is none, no row to train on, or folds of another number than ``split.folds``.
    """
    if split.column is None:
        return Words("", np.empty(0, dtype=object), np.empty(0, dtype=np.int64))
    column = table.aside["column"].iloc[: table.parts[0].stop]
    texts = np.array([_plain(value) for value in column], dtype=object)
    known = np.isin(texts, WORDS)
    numbered = np.array([text.isdecimal() for text in texts])
    unknown = ~(known | numbered)
    if unknown.any():
        row = int(unknown.argmax())
        remedy = f"{nearest(texts[row][:60], WORDS)}. Numbers of folds (0, 1, ...) can stand beside test"
        _refuse(table, split, f"it holds {shown(repr(texts[row]))} in data row {row + 1:,}", remedy)
    fold = np.array([int(text) if number else -1 for text, number in zip(texts, numbered, strict=True)])
    words = Words(split.column, np.where(numbered, "fold", texts), fold)
    _check(table, split, words)
    return words


def _check(table: Table, split: SplitSpec, words: Words) -> None:
    numbers = np.unique(words.fold[words.fold >= 0])
    if not words.numbered:
        if not words.has("train"):
            _refuse(table, split, "no row says train", f"Write one of {', '.join(WORDS)} into every row")
        if split.folds is not None and words.has("validation"):
            remedy = "Call them train: every fold validates on rows of its own"
            _refuse(table, split, "folds have no validation rows of their own", remedy)
        return
    if words.has("train") or words.has("validation"):
        word = "train" if words.has("train") else "validation"
        _refuse(table, split, f"it holds numbers of folds and {word}", "Numbers of folds can stand beside test only")
    if len(numbers) < 2:
        _refuse(table, split, f"every row is of fold {numbers[0]}", "Folds need two numbers or more")
    if split.folds is None:
        problem = f"it numbers {len(numbers)} folds, and split.folds is not given"
        _refuse(table, split, problem, f"Set split.folds: {len(numbers)}")
    if split.folds != len(numbers):
        problem = f"{split.folds} is not the number of folds in '{shown(split.column)}', which is {len(numbers)}"
        raise SpecError(problem, file=table.file, key="split.folds", remedy=f"Set it to {len(numbers)}")


def _refuse(table: Table, split: SplitSpec, problem: str, remedy: str) -> None:
    raise SpecError(f"'{shown(split.column)}': {problem}", file=table.file, key="split.column", remedy=remedy)


def _plain(value: object) -> str:
    """A word in lower case, a whole number without its point."""
    text = str(value).strip().lower()
    return str(int(float(text))) if is_number(text) and float(text).is_integer() and float(text) >= 0 else text
