"""The data of a sweep: loaded, and checked against what its sweep file wants of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.data.dataset import Dataset, load_dataset
from sweeper.errors import SpecError
from sweeper.spec.stored import fingerprint_of

if TYPE_CHECKING:
    from sweeper.records import SweepRecord
    from sweeper.spec.parse import SweepSpec


def load(spec: SweepSpec) -> Dataset:
    """The data of a sweep file, checked against what the file wants of it.

    Raises:
        SpecError: the data cannot be used as it is.
    """
    from sweeper.data.goals import check_goals, with_class_weights  # which load numpy

    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    check_goals(spec, dataset)
    if spec.finals is not None and spec.finals.folds is not None:
        _check_final_folds(dataset, spec.finals.folds, spec.dataset.path)
    return with_class_weights(spec, dataset)


def load_same(record: SweepRecord, spec: SweepSpec) -> Dataset:
    """The data that a sweep began on.

    Raises:
        SpecError: it is gone, or has changed since.
    """
    dataset = load(spec)
    if fingerprint_of(record) not in (None, dataset.fingerprint):
        problem = "the data has changed since this sweep began"
        remedy = "Restore the data, or start a new sweep"
        raise SpecError(problem, file=spec.dataset.path, key="dataset", remedy=remedy)
    return dataset


def _check_final_folds(dataset: Dataset, folds: int, file: str | None) -> None:
    """Refuse finals in more folds than there are rows of the rarest class, or rows."""
    import numpy as np

    from sweeper.text import shown

    y = np.concatenate([dataset.y_train, dataset.y_val, dataset.y_test])
    most, what = len(y), f"{folds} folds of {len(y)} rows"
    if dataset.class_labels is not None:
        counts = np.bincount(y)
        most = int(counts.min())
        what = f"{folds} folds, and the class '{shown(dataset.class_labels[int(counts.argmin())])}' has {most} rows"
    if folds > most:
        remedy = f"Use {most} or fewer" if most > 1 else "Remove finals.folds, or add rows of this class"
        raise SpecError(what, file=file, key="finals.folds", remedy=remedy)
