"""One data file as read, and what its columns are used for besides being inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from sweeper.errors import SpecError
from sweeper.text import nearest_column, shown

if TYPE_CHECKING:
    from sweeper.data.numerals import Writing
    from sweeper.spec.dataset import DatasetSpec, SplitSpec

Kind = Literal["number", "bool", "text", "time", "empty", "other"]


@dataclass(frozen=True)
class Roles:
    """The columns that are no inputs: ``drop``, and by use (group, time, column, weight) those that say something."""

    drop: tuple[str, ...] = ()
    uses: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: DatasetSpec, split: SplitSpec) -> Roles:
        """What the two sections of a sweep file say."""
        named = {"group": split.group, "time": split.time, "column": split.column, "weight": dataset.weight}
        uses = {use: name for use, name in named.items() if name is not None}
        return cls(tuple(name for name in dataset.drop if name not in uses.values()), uses)

    @property
    def no_inputs(self) -> frozenset[str]:
        """The names of all these columns."""
        return frozenset((*self.drop, *self.uses.values()))

    def key(self, use: str) -> str:
        """Where the sweep file names the column of a use."""
        return "dataset.weight" if use == "weight" else f"split.{use}"

    def present(self, names: Sequence[str]) -> dict[str, str]:
        """The columns by their use, those that are among ``names``."""
        return {use: name for use, name in self.uses.items() if name in names}

    def check(self, names: Sequence[str], target: str, file: str | None) -> None:
        """See that the table has all of them, and that none is the target.

        Raises:
            SpecError: with the key, the name, and the nearest column.
        """
        wanted = [(self.key(use), name) for use, name in self.uses.items()]
        for key, name in [*wanted, *(("dataset.drop", name) for name in self.drop)]:
            if name == target:
                raise SpecError(f"'{shown(name)}' is the target", file=file, key=key, remedy="Name another column")
            if name not in names:
                others = [n for n in names if n and n != target]
                problem = f"there is no column '{shown(name)}'"
                raise SpecError(problem, file=file, key=key, remedy=nearest_column(name, others))


@dataclass(frozen=True)
class Part:
    """The rows of one file within a table: ``key`` is path, validation or test, ``start`` and ``stop`` its rows."""

    key: str
    file: str | None
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class FileTable:
    """One file, n rows: ``frame (n, columns)`` of what may become inputs, ``target (n,)``, ``aside`` by use.

    ``names`` are all columns of the file, ``kinds`` those of ``frame`` by name (of a file of texts and numbers).
    ``written`` are the columns of texts that were read as numbers.
    """

    file: str
    frame: pd.DataFrame
    target: pd.Series
    target_name: str
    aside: pd.DataFrame
    names: tuple[str, ...]
    kinds: Mapping[str, Kind]
    warnings: tuple[str, ...] = ()
    written: Mapping[str, Writing] = field(default_factory=dict)

    def texts(self) -> list[str]:
        """The columns that hold texts, and numbers that are written as such; the target included."""
        texts = [*self.written, *(name for name, kind in self.kinds.items() if kind == "text")]
        numeric = pd.api.types.is_numeric_dtype(self.target.dtype)
        return texts if numeric else [*texts, self.target_name]


def stacked(tables: Sequence[FileTable]) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame]:
    """Frames, targets and asides of files with the same columns, one below the other; texts share their categories."""
    first = tables[0]
    if len(tables) == 1:
        return first.frame, first.target, first.aside
    columns = {name: _below([table.frame[name] for table in tables]) for name in first.frame}
    return (
        pd.DataFrame(columns),
        _below([table.target for table in tables]),
        pd.concat([table.aside for table in tables], ignore_index=True),
    )


def _below(parts: Sequence[pd.Series]) -> pd.Series:
    if isinstance(parts[0].dtype, pd.CategoricalDtype):
        texts = [part if isinstance(part.dtype, pd.CategoricalDtype) else part.astype("category") for part in parts]
        known = sorted({text for part in texts for text in part.cat.categories})
        return pd.concat([part.cat.set_categories(known) for part in texts], ignore_index=True)
    if any(part.dtype.kind == "f" for part in parts):
        parts = [part.astype(np.float64) for part in parts]
    return pd.concat(parts, ignore_index=True)
