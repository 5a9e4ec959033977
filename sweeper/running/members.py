"""The weights of a sweep's best trials so far, one file for each, from which an ensemble is chosen at its end."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.training.legs import Arrays

if TYPE_CHECKING:
    import torch

SIZE = 50  # trials that an ensemble is chosen from

Rank = tuple[float, float, int]
"""How far a trial is beyond the constraints, its value so that smaller is better, its number."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """An ensemble: trials by number, largest share first, with their ``shares``, which add up to 1, and ``weights``.

    ``value`` is its ``metric`` on the validation rows, ``single`` that of the best of so many ``candidates`` alone,
    ``validation`` ``(v, C)`` what it says of these rows.
    """

    metric: str
    numbers: tuple[int, ...]
    shares: tuple[float, ...]
    weights: tuple[Arrays, ...]
    candidates: int
    value: float
    single: float
    validation: torch.Tensor


class MemberPool:
    """The best ``SIZE`` complete trials, their weights below ``folder``; the folder is made with the first of them.

    Which trials these are follows from the ledger; a file that is not there (its controller was killed, the disk was
    full) costs another training at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ranks: list[Rank] = []
        self.chosen: Chosen | None = None  # from those that are in, once that was asked for

    @property
    def worst(self) -> Rank | None:
        """The last that is in; None: there is room for more."""
        return self._ranks[-1] if len(self._ranks) == SIZE else None

    @property
    def numbers(self) -> list[int]:
        """The trials that are in, the best first."""
        return [number for _, _, number in self._ranks]

    def add(self, rank: Rank, weights: Arrays | None) -> None:
        """Take a complete trial in if it is good enough, and drop the one that it drives out.

        Without ``weights`` their file is as it is.
        """
        if (self.worst is not None and rank > self.worst) or rank in self._ranks:
            return
        self.chosen = None
        self._ranks = sorted([*self._ranks, rank])
        for _, _, number in self._ranks[SIZE:]:
            self._path(number).unlink(missing_ok=True)
        self._ranks = self._ranks[:SIZE]
        if weights is not None and rank in self._ranks:
            self._save(rank[2], weights)

    def weights(self, number: int) -> Arrays | None:
        """A trial's weights; None: they are not there, or damaged."""
        from safetensors.numpy import load

        try:
            return dict(load(self._path(number).read_bytes()))
        except Exception:  # safetensors raises its own kinds, some of them not public
            return None

    def clear(self) -> None:
        """Delete all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self, number: int, weights: Arrays) -> None:
        import numpy as np
        from safetensors.numpy import save

        path = self._path(number)
        part = path.with_suffix(".new")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_bytes(save({name: np.ascontiguousarray(array) for name, array in weights.items()}))
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"trial-{number:06d}.safetensors"
