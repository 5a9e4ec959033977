"""The data of a sweep: loaded, and checked against what its sweep file wants of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.data.dataset import Dataset, load_dataset
from sweeper.errors import SpecError
from sweeper.spec.objective_file import check_function
from sweeper.spec.stored import fingerprint_of

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.records import SweepRecord
    from sweeper.spec.parse import SweepSpec

FEW_ROWS = 3_000


def has_few_rows(path: str) -> bool:
    """Whether a table has fewer than ``FEW_ROWS`` rows, as far as that can be told quickly."""
    from sweeper.data.arrow_files import arrow_size

    try:
        return arrow_size(Path(path))[0] < FEW_ROWS
    except (SpecError, OSError):  # it is not there yet, say: what reads it tells more
        return False


def load(spec: SweepSpec) -> Dataset:
    """The data of a sweep file, checked against what the file wants of it.

    Raises:
        SpecError: the data cannot be used as it is.
    """
    if spec.objective.function is not None:
        from sweeper.data.nothing import no_data

        check_function(spec.objective.function, "objective.function", "trial")
        return no_data(spec.objective.function)
    from sweeper.data.goals import check_goals, with_class_weights  # which load numpy
    from sweeper.data.inputs import check_batches, check_inputs

    dataset = load_dataset(spec.dataset, spec.split, spec.plain_inputs.normalize, spec.finals)
    dataset = check_inputs(spec, dataset)
    check_batches(spec, dataset)
    dataset = dataset if spec.prepares else dataset.settled()
    check_goals(spec, dataset)
    return with_class_weights(spec, dataset)


def features_of(spec: SweepSpec) -> pd.DataFrame:
    """The feature columns of a sweep's table as read: numbers (NaN is missing), booleans, texts as pandas categories.

    Raises:
        SpecError: the data is gone.
    """
    from sweeper.data.tables import read_table

    return read_table(spec.dataset, spec.split).frame


def load_final_folds(spec: SweepSpec, dataset: Dataset) -> Dataset:
    """The data of a sweep's finals in folds; ``dataset`` is the sweep's own. See ``final_folds.with_final_folds``.

    Raises:
        SpecError: the data is gone, or does not fit into memory.
    """
    from sweeper.data.final_folds import with_final_folds
    from sweeper.data.goals import with_class_weights

    assert spec.finals is not None
    made = with_final_folds(dataset, spec.dataset, spec.split, spec.finals)
    return with_class_weights(spec, made if spec.prepares else made.settled())


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


def check_code(spec: SweepSpec) -> None:
    """Refuse to go on with a sweep of which a file with code says something else by now; the kept text would run.

    Raises:
        SpecError: with the file and the key that names it.
    """
    metrics = {f"metrics.{i}": metric for i, metric in enumerate(spec.metrics)}
    model = None if spec.model is None else spec.model.function
    named = {"model": model, "objective.function": spec.objective.function, "search.sampler": spec.search.own_sampler}
    for key, function in {**named, **metrics}.items():
        if function is not None:
            function.check_unchanged(key)
