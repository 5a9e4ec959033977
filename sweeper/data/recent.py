"""The last few things that were made, within a number and a size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

MOST = 8
BYTES = 1 << 30


T = TypeVar("T")


class Recent(Generic[T]):
    """Values by key, made when they are not there. What was used longest ago goes first; the last one always stays."""

    def __init__(self, size_of: Callable[[T], int]) -> None:
        self._size_of = size_of
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, from ``make`` where it is not kept."""
        if key not in self._kept:
            self._kept[key] = make()
        value = self._kept[key]
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and (len(self._kept) > MOST or sum(map(self._size_of, self._kept.values())) > BYTES):
            self._kept.popitem(last=False)
        return value

    def forget(self, of: Callable[[Any], bool]) -> None:
        """Let go of the keys for which ``of`` is true."""
        for key in [key for key in self._kept if of(key)]:
            del self._kept[key]
