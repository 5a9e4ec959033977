"""What a long search keeps of its trials: their points in one array, and how those that ended stand.

Both grow trial by trial, so that a suggestion costs the same after a hundred thousand trials as after a few thousand.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sweeper.search.axes import Array
from sweeper.search.ranking import Key

BEST = 25  # trials kept in order: a sampler wants no more good ones of a single objective (``tpe.n_good``)


class Rows:
    """Points (N, D) in the order in which they came."""

    def __init__(self, width: int) -> None:
        self._array, self._count = np.empty((64, width)), 0

    def __len__(self) -> int:
        return self._count

    def append(self, point: Array) -> None:
        """One more point (D,)."""
        if self._count == len(self._array):
            self._array = np.concatenate([self._array, np.empty_like(self._array)])
        self._array[self._count] = point
        self._count += 1

    @property
    def array(self) -> Array:
        """(N, D) all of them; not to be changed."""
        return self._array[: self._count]


class Having:
    """Which rows have a value on every axis of a group: each row is looked at once, as long as rows are only added."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[int, NDArray[np.int64]]] = {}

    def rows(self, group: tuple[int, ...], points: Array) -> NDArray[np.int64]:
        """Those of the points (N, D), in order."""
        end, known = self._known.get(group, (0, np.empty(0, np.int64)))
        fresh = end + np.flatnonzero(~np.isnan(points[end:, list(group)]).all(axis=1))
        known = np.append(known, fresh)
        self._known[group] = (len(points), known)
        return known


class Standings:
    """Rows by how good their results are: ``learned`` of them teach something, those ``ignored`` nothing.

    Rows that were not added are pending. ``enough`` is how many of the best have to be known. ``groups`` says which
    groups of parameters a row has: the best are known of all rows, and of those that have a group.
    """

    def __init__(
        self,
        keys: Mapping[int, Key | None] | None = None,
        enough: int = BEST,
        groups: Callable[[int], Iterable[int]] = lambda row: (),
    ) -> None:
        self.ignored = list[int]()
        self._enough, self._groups = enough, groups
        self._best: dict[int | None, list[tuple[Key, int]]] = {None: []}
        self._learned: dict[int | None, int] = {None: 0}
        for row, key in (keys or {}).items():
            self.add(row, key)

    def __bool__(self) -> bool:
        return bool(self._learned[None] or self.ignored)

    def add(self, row: int, key: Key | None) -> None:
        """The result of a row, as its key in the ranking (None: it teaches nothing)."""
        if key is None:
            self.ignored.append(row)
            return
        for group in (None, *self._groups(row)):
            self._learned[group] = self.learned(group) + 1
            best = self._best.setdefault(group, [])
            insort(best, (key, row))
            del best[self._enough :]

    def learned(self, group: int | None = None) -> int:
        """How many rows teach something (of those that have a group)."""
        return self._learned.get(group, 0)

    def best(self, count: int, group: int | None = None) -> list[int]:
        """The best rows (that have a group), at most ``count`` of them, in the order of their numbers."""
        return sorted(row for _, row in self._best.get(group, [])[:count])
