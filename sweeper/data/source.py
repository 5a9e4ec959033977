"""A sweep's training and validation rows as they travel to a worker, which makes the inputs that a cohort wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.spec.inputs import PLAIN, Inputs

if TYPE_CHECKING:
    import numpy as np

    from sweeper.data.dataset import Dataset
    from sweeper.data.raw_rows import RawRows


@dataclass(frozen=True, eq=False)
class Source:
    """``folds`` are the arrays of each fold (or of the only one) with ``inputs``; ``raw`` makes those of others."""

    folds: tuple[Mapping[str, np.ndarray], ...]
    inputs: Inputs = PLAIN
    raw: RawRows | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Source:
        """What a sweep's workers train on."""
        return cls(tuple(fold.arrays() for fold in dataset.folds or (dataset,)), dataset.inputs, dataset.raw)

    def arrays(self, inputs: Inputs) -> list[dict[str, np.ndarray]]:
        """The arrays of each fold with these inputs, by the names of ``sweeper.models.Data``."""
        if inputs == self.inputs or self.raw is None:
            return [dict(fold) for fold in self.folds]
        parts, made = range(1, 1 + len(self.raw.splits.folds)) or [0], []
        for fold, part in zip(self.folds, parts, strict=True):
            recipe, (train, validation, _) = self.raw.recipe(inputs, part), self.raw.part(part)
            x = {"x_train": self.raw.inputs(recipe, train), "x_val": self.raw.inputs(recipe, validation)}
            made.append({**fold, **x, "columns": recipe.kinds})
        return made
