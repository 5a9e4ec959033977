"""Checks what a sweep wants to make of its columns against its data, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.errors import SpecError
from sweeper.search_spaces import ready_made
from sweeper.search_spaces.vocabulary import listed

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.spec.parse import SweepSpec


def check_inputs(spec: SweepSpec, dataset: Dataset) -> Dataset:
    """Refuse encodings without number columns, and more bins than any column has values in the training rows.

    Where a space has other values as well, the dataset gets a warning instead: those trials repeat each other. So
    it does with a ready-made space, which is for any table.

    Raises:
        SpecError: with the key in the sweep file or the space.
    """
    raw = dataset.raw
    key, kinds = _values_of(spec, "numeric_embedding")
    dataset = _check_labels(spec, _check_texts(spec, dataset))
    if raw is None or set(kinds) <= {"none"}:
        return dataset
    columns, for_any = raw.columns.numbers, key.startswith("space.") and spec.space.name in ready_made()
    strict = "none" not in kinds and not for_any
    if not columns:
        kind = next(k for k in kinds if k != "none")
        problem, remedy = f"there is no column of numbers that {kind} could embed", "Use numeric_embedding: none"
        return _told(dataset, key, problem, remedy, wrong=strict)
    if "piecewise_linear" not in kinds:
        return dataset
    key, bins = _values_of(spec, "bins")
    numbers = raw.values[raw.splits.train][:, : len(columns)]
    most = max(len(np.unique(column[~np.isnan(column)])) for column in numbers.T)
    if max(bins) <= most:
        return dataset
    problem = f"{max(bins)} bins, and no column has more than {most} different values in the training rows"
    return _told(dataset, key, problem, f"Use {most} bins or fewer", wrong=min(bins) > most and strict)


def _check_labels(spec: SweepSpec, dataset: Dataset) -> Dataset:
    """A warning where a space for both tasks smooths labels and there are none."""
    if dataset.task == "classification" or all(p.name != "label_smoothing" for p in spec.space.parameters):
        return dataset
    problem = "a regression has no labels to smooth: it has no effect"
    return _told(dataset, "space.label_smoothing", problem, "Remove it", wrong=False)


def check_batches(spec: SweepSpec, dataset: Dataset) -> None:
    """Refuse minibatches that leave a single row to the last one, where a trial may have batch normalization.

    Raises:
        SpecError: with the key in the sweep file or the space.
    """
    from sweeper.models.sizes import has_lone_row

    key, sizes = spec.normalized_batches
    counts = [fold.n_train for fold in dataset.folds or (dataset,)]
    if spec.winner == "refit":
        counts.append(dataset.n_train)
    if sizes and spec.finals is not None and spec.finals.folds is not None:
        from sweeper.data.final_folds import training_counts

        counts += training_counts(spec.dataset, spec.split, spec.finals)
    for size in sizes:
        lone = next((n for n in counts if size != "full" and has_lone_row(n, size)), None)
        if lone is not None:
            where = "" if lone in counts[: len(dataset.folds) or 1] else " in a fold of the finals"
            where = " with winner: refit" if where and spec.winner == "refit" and lone == dataset.n_train else where
            problem = f"{size} of {lone} training rows at a time leave 1 to the last minibatch{where}"
            remedy = f"Use {size + 1}, or space.normalization: layer"
            raise SpecError(f"{problem}, which batch normalization cannot use", key=key, remedy=remedy)


def _check_texts(spec: SweepSpec, dataset: Dataset) -> Dataset:
    """A warning where trials with and without embeddings of texts are the same ones."""
    (key, sizes), (_, limits) = _values_of(spec, "category_embedding"), _values_of(spec, "max_one_hot")
    if dataset.raw is None or len(set(sizes)) < 2 or not limits:
        return dataset
    most = max((len(texts) for texts in dataset.raw.columns.categories.values()), default=0)
    if most > min(limits):
        return dataset
    problem = f"no column of texts has more than {min(limits)} different values in the training rows: it has no effect"
    return _told(dataset, key, problem, "Remove it", wrong=False)


def _told(dataset: Dataset, key: str, problem: str, remedy: str, *, wrong: bool) -> Dataset:
    """The dataset with a warning, or the refusal of what is ``wrong``."""
    if wrong:
        raise SpecError(problem, key=key, remedy=remedy)
    return replace(dataset, warnings=(*dataset.warnings, f"{key}: {problem}. {remedy}."))


def _values_of(spec: SweepSpec, name: str) -> tuple[str, tuple[Any, ...]]:
    """Where a sweep says how columns become inputs, and what it says: the space's values, or the file's own."""
    for parameter in spec.space.parameters:
        if parameter.name == name:
            domain = parameter.domain
            return f"space.{name}", listed(domain) or ()
    return f"inputs.{name}", (getattr(spec.inputs, name),)
