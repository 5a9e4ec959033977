"""The arrays of several folds under one roof, as a trial's weights travel from a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of each fold under one roof; ``by_fold`` parts them again. One part stays as it is."""
    if len(parts) == 1:
        return dict(parts[0])
    return {f"fold{i}.{name}": array for i, part in enumerate(parts) for name, array in part.items()}


def by_fold(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The arrays of each fold in turn, from what ``joined`` made of them; one part where there were no folds."""
    parts: dict[int, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        fold, _, name = key.partition(".")
        number = fold.removeprefix("fold")
        if fold == number or not number.isdecimal():
            return [dict(arrays)]
        parts.setdefault(int(number), {})[name] = array
    return [parts[number] for number in sorted(parts)]
