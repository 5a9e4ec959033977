"""Checks what a sweep wants to make of its columns against its data, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.errors import SpecError
from sweeper.search_spaces.vocabulary import listed

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.spec.parse import SweepSpec


def check_inputs(spec: SweepSpec, dataset: Dataset) -> None:
    """Refuse embeddings without number columns, and more bins than any column has values in the training rows.

    Raises:
        SpecError: with the key in the sweep file or the space.
    """
    raw = dataset.raw
    key, kinds = values_of(spec, "numeric_embedding")
    if raw is None or set(kinds) <= {"none"}:
        return
    columns = raw.columns.numbers
    if not columns:
        problem = f"there is no column of numbers that {next(k for k in kinds if k != 'none')} could encode"
        raise SpecError(problem, key=key, remedy="Use numeric_embedding: none")
    if "piecewise_linear" not in kinds:
        return
    key, bins = values_of(spec, "bins")
    numbers = raw.values[raw.splits.train][:, : len(columns)]
    most = max(len(np.unique(column[~np.isnan(column)])) for column in numbers.T)
    if max(bins) > most:
        problem = f"{max(bins)} bins, and no column has more than {most} different values in the training rows"
        raise SpecError(problem, key=key, remedy=f"Use {most} bins or fewer")


def values_of(spec: SweepSpec, name: str) -> tuple[str, tuple[Any, ...]]:
    """Where a sweep says how columns become inputs, and what it says: the space's values, or the file's own."""
    for parameter in spec.space.parameters:
        if parameter.name == name:
            domain = parameter.domain
            return f"space.{name}", listed(domain) or ()
    return f"inputs.{name}", (getattr(spec.inputs, name),)
