"""How rows are drawn for a split: at random, by whole groups, or in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from sweeper.errors import SpecError
from sweeper.text import counted, shown

if TYPE_CHECKING:
    from sweeper.data.tables import Table
    from sweeper.data.targets import Target, too_rare
    from sweeper.spec.dataset import SplitSpec

Folds = tuple[tuple[np.ndarray, np.ndarray], ...]

GROUP_DRAWS = 100  # draws of whole groups, of which the one nearest to the wanted shares is taken


class Draw(Protocol):
    """One way to part rows. Row numbers are of the table, ascending."""

    def hold_out(self, pool: np.ndarray, count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Those of ``pool`` that stay, and about ``count`` for the split ``name``."""
        ...

    def folds(self, pool: np.ndarray, number: int) -> Folds:
        """Training and validation rows of each fold."""
        ...

    def broken(self, before: np.ndarray, after: np.ndarray) -> tuple[str, ...]:
        """Warnings where two splits, of which one may be a file, break this rule."""
        ...


def draw_of(table: Table, target: Target, split: SplitSpec) -> Draw:
    """The rule that the section split asks for.

    Raises:
        SpecError: the column of times does not hold times.
    """
    classes = None if target.labels is None else target.y
    if split.group is not None and "group" in table.aside:
        groups = pd.factorize(table.aside["group"])[0]
        return ByGroup(split, groups, classes, len(target.y), table.file)
    if split.time is not None:
        return InTime(split, _times(table, split), table.file)
    return AtRandom(split, classes, table, target)


@dataclass(frozen=True, eq=False)
class AtRandom:
    """Rows at random; classes keep their shares."""

    split: SplitSpec
    classes: np.ndarray | None
    table: Table
    target: Target

    def hold_out(self, pool: np.ndarray, count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """See ``Draw``."""
        from sklearn.model_selection import train_test_split

        stratify = None if self.classes is None else self.classes[pool]
        try:
            rest, held = train_test_split(pool, test_size=count, random_state=self.split.seed, stratify=stratify)
        except ValueError as error:  # a rare class cannot be shared out
            raise too_rare(self.target, self.table) from error
        return np.sort(rest), np.sort(held)

    def folds(self, pool: np.ndarray, number: int) -> Folds:
        """See ``Draw``."""
        from sklearn.model_selection import KFold, StratifiedKFold

        if self.classes is None:
            if number > len(pool):
                _too_many(f"{number} folds of {len(pool)} rows", len(pool), self.table.file)
            return _rows(pool, KFold(number, shuffle=True, random_state=self.split.seed).split(pool))
        counts = np.bincount(self.classes[pool])
        least = int(np.argmin(np.where(counts > 0, counts, len(pool) + 1)))
        if number > counts[least]:
            label = (self.target.labels or ())[least]
            what = f"{number} folds, and the class '{shown(label)}' has {counts[least]} rows for them"
            _too_many(what, int(counts[least]), self.table.file)
        parts = StratifiedKFold(number, shuffle=True, random_state=self.split.seed)
        return _rows(pool, parts.split(pool, self.classes[pool]))

    def broken(self, before: np.ndarray, after: np.ndarray) -> tuple[str, ...]:
        """See ``Draw``; nothing can be broken."""
        return ()


@dataclass(frozen=True, eq=False)
class ByGroup:
    """Whole groups: no group has rows in two splits. ``groups (n,)`` are numbers; -1: its file does not tell."""

    split: SplitSpec
    groups: np.ndarray
    classes: np.ndarray | None
    rows: int
    file: str | None

    def hold_out(self, pool: np.ndarray, count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """See ``Draw``: of some draws the one nearest to ``count`` rows with the classes' shares."""
        from sklearn.model_selection import GroupShuffleSplit

        groups = self.groups[pool]
        found = len(np.unique(groups))
        if found < 2:
            self._too_few(found, f"{name} rows beside those to train on")
        share = min(found - 1, max(1, round(found * count / len(pool))))
        draws = GroupShuffleSplit(GROUP_DRAWS, test_size=share, random_state=self.split.seed)
        wanted = self._counts(pool) * count / len(pool)
        best = min(draws.split(pool, groups=groups), key=lambda parts: self._distance(pool, parts, wanted))
        return np.sort(pool[best[0]]), np.sort(pool[best[1]])

    def folds(self, pool: np.ndarray, number: int) -> Folds:
        """See ``Draw``."""
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        groups = self.groups[pool]
        found = len(np.unique(groups))
        if found < number:
            self._too_few(found, f"{number} folds")
        seed = self.split.seed
        if self.classes is None:
            parts = GroupKFold(number, shuffle=True, random_state=seed).split(pool, groups=groups)
        else:
            y = self.classes[pool]
            least = int(np.bincount(y)[np.unique(y)].min())
            if number > least:
                _too_many(f"{number} folds, and the rarest class has {least} rows", least, self.file)
            parts = StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(pool, y, groups)
        return _rows(pool, parts)

    def broken(self, before: np.ndarray, after: np.ndarray) -> tuple[str, ...]:
        """See ``Draw``."""
        shared = np.intersect1d(self.groups[before], self.groups[after])
        shared = shared[shared >= 0]
        if not len(shared):
            return ()
        name = shown(str(self.split.group))
        return (
            f"split.group: {len(shared):,} groups of '{name}' have rows in more than one file, so the splits are "
            "not independent; remove them from one of the files.",
        )

    def _counts(self, rows: np.ndarray) -> np.ndarray:
        """Rows of each class ``(C,)``, or of all ``(1,)``."""
        if self.classes is None:
            return np.array([len(rows)], dtype=float)
        return np.bincount(self.classes[rows], minlength=int(self.classes.max()) + 1).astype(float)

    def _distance(self, pool: np.ndarray, parts: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> float:
        """How far the held-out rows are from the wanted ones; a class without a row to train on is beyond all."""
        rest, held = (self._counts(pool[rows]) for rows in parts)
        lost = int(((rest == 0) & (rest + held > 0)).sum())
        return float(np.abs(held - wanted).sum() + abs(held.sum() - wanted.sum()) + lost * 2 * self.rows)

    def _too_few(self, found: int, what: str) -> None:
        name = shown(str(self.split.group))
        problem = f"{counted(found, 'group')} of '{name}' beside those held out already, too few for {what}"
        remedy = "Name a column with more groups, or hold out less by groups (a file of test rows, fewer folds)"
        raise SpecError(problem, file=self.file, key="split.group", remedy=remedy)


@dataclass(frozen=True, eq=False)
class InTime:
    """In the order of time: the latest rows are held out, and rows of one time stay together.

    ``times (n,)`` are numbers; NaN: the row's file does not tell.
    """

    split: SplitSpec
    times: np.ndarray
    file: str | None

    def hold_out(self, pool: np.ndarray, count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """See ``Draw``."""
        [early, late] = self._blocks(pool, [len(pool) - count], f"{name} rows after those to train on")
        return early, late

    def folds(self, pool: np.ndarray, number: int) -> Folds:
        """See ``Draw``: each fold trains on all that came before the rows on which it validates."""
        cuts = [round(len(pool) * part / (number + 1)) for part in range(1, number + 1)]
        blocks = self._blocks(pool, cuts, f"{number} folds that follow each other")
        return tuple((np.sort(np.concatenate(blocks[:i])), blocks[i]) for i in range(1, number + 1))

    def broken(self, before: np.ndarray, after: np.ndarray) -> tuple[str, ...]:
        """See ``Draw``."""
        if not self.times[before].max() >= self.times[after].min():  # NaN is not
            return ()
        name = shown(str(self.split.time))
        return (f"split.time: some held-out rows are not later in '{name}' than rows that are trained on.",)

    def _blocks(self, pool: np.ndarray, cuts: list[int], what: str) -> list[np.ndarray]:
        """The rows in the order of time, cut near ``cuts`` where the time changes."""
        ordered = pool[np.argsort(self.times[pool], kind="stable")]
        changes = 1 + np.flatnonzero(np.diff(self.times[ordered]))
        taken: list[int] = []
        for position, cut in enumerate(cuts):
            free = changes[changes > (taken[-1] if taken else 0)]
            free = free[: len(free) - (len(cuts) - position - 1)] if len(cuts) - position - 1 else free
            if not len(free):
                found, name = len(changes) + 1, shown(str(self.split.time))
                problem = f"the {found} different times of '{name}' that are left are too few for {what}"
                remedy = "Name a column with finer times, or use fewer folds or smaller shares"
                raise SpecError(problem, file=self.file, key="split.time", remedy=remedy)
            taken.append(int(free[np.argmin(np.abs(free - cut))]))
        return [np.sort(block) for block in np.split(ordered, taken)]


def _times(table: Table, split: SplitSpec) -> np.ndarray:
    """The times as numbers whose order is that of time."""
    column = table.aside["time"]
    told = column.notna().to_numpy()
    if column.dtype.kind in "iuf":
        return column.to_numpy(dtype=np.float64)
    texts = column[told].astype(object)
    parsed = pd.to_datetime(texts.astype(str), format="ISO8601", errors="coerce", utc=True)
    wrong = parsed.isna().to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(told)[wrong.argmax()])
        file, number = table.place(row)
        problem = f"'{shown(split.time)}': '{shown(column.iloc[row])}' in data row {number:,} is not a time"
        remedy = "Write numbers, or dates and times such as 2026-11-28 or 2026-11-28T09:30:00"
        raise SpecError(problem, file=file, key="split.time", remedy=remedy)
    times = np.full(len(column), np.nan)
    times[told] = parsed.astype("datetime64[us, UTC]").astype(np.int64)
    return times


def _rows(pool: np.ndarray, parts: object) -> Folds:
    return tuple((np.sort(pool[train]), np.sort(pool[held])) for train, held in parts)  # type: ignore[attr-defined]


def _too_many(what: str, most: int, file: str | None) -> None:
    remedy = f"Use {most} folds or fewer" if most > 1 else "Add rows of this class, or merge it with another"
    raise SpecError(f"there are {what}", file=file, key="split.folds", remedy=remedy)
