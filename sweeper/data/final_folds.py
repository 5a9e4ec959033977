"""The folds of finals: the rows cut into parts, several times anew, each part left out once to judge on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sweeper.data.draws import draw_of
from sweeper.data.making import folds_of
from sweeper.data.memory import check_fits
from sweeper.data.preprocess import choose_columns, coded_rows
from sweeper.data.raw_rows import RawRows
from sweeper.data.rows import Splits
from sweeper.data.splits import check_folds, given_rows
from sweeper.data.tables import Table, read_table
from sweeper.data.targets import Target, encode_target
from sweeper.data.words import words_of
from sweeper.errors import SpecError
from sweeper.text import shown

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.spec.dataset import DatasetSpec, SplitSpec
    from sweeper.spec.parse import FinalsSpec

BYTES = 12  # memory per input of a row of a fold: float32 here, at a worker, and on its way there


def check_final_folds(table: Table, target: Target, split: SplitSpec, finals: FinalsSpec) -> None:
    """Refuse finals in folds that these rows cannot be cut into.

    Raises:
        SpecError: more folds than rows of a class, groups or rows, or others than those of the user's column.
    """
    assert finals.folds is not None
    words = words_of(table, split)
    if words.numbered and (finals.folds != split.folds or finals.repeats > 1):
        key = "finals.folds" if finals.folds != split.folds else "finals.repeats"
        problem = f"the column '{shown(words.name)}' has cut the rows into {split.folds} folds already"
        remedy = f"Set finals.folds: {split.folds}, without repeats"
        raise SpecError(problem, file=table.file, key=key, remedy=remedy)
    try:
        for repeat in range(finals.repeats):
            check_folds(table, target, _parts(table, target, split, finals.folds, repeat))
        next(_splits(table, target, split, finals))
    except SpecError as error:
        where = "finals.folds" if error.key == "split.folds" else error.key
        raise SpecError(error.problem, file=error.file, key=where, remedy=error.remedy) from error


def with_final_folds(dataset: Dataset, spec: DatasetSpec, split: SplitSpec, finals: FinalsSpec) -> Dataset:
    """A sweep's dataset with the ``folds * repeats`` parts of its finals for folds, each with test rows of its own.

    The rest of the rows trains, but for the share ``split.validation`` of them, or validation rows that a file or the
    column names. Test rows that are named so stay out of it all. Which columns are used follows from all rows, the
    target keeps the scale of ``dataset``, and the rest of the preprocessing is fitted in every fold: a text that its
    training rows do not have is an unknown one there.

    Raises:
        SpecError: the data is gone, or does not fit into memory that often.
    """
    table = read_table(spec, split)
    target = encode_target(table, spec.task)
    y = target.y
    if target.labels is None:
        y = ((y - dataset.target_mean) / dataset.target_std).astype(np.float32)
    assert finals.folds is not None
    drawn = np.union1d(*_parts(table, target, split, finals.folds, 0)[0])
    columns = choose_columns(table, drawn)
    values = len(table.frame) * dataset.n_inputs * finals.trainings
    remedy = "Use fewer finals.folds or finals.repeats"
    check_fits(values * BYTES, f"the table in {finals.trainings} folds", remedy, table.file)
    cut = tuple(_splits(table, target, split, finals))
    splits = Splits(
        drawn,
        drawn[:0],
        drawn[:0],
        tuple((rows.train, rows.validation) for rows in cut),
        tests=tuple(rows.test for rows in cut),
    )
    w = table.aside["weight"].to_numpy(np.float32) if "weight" in table.aside else None
    raw = RawRows(columns, coded_rows(table.frame, columns), y, w, target.labels is not None, splits, unseen=True)
    folds = folds_of(dataset, raw)
    held = folds[: finals.folds]  # together all rows that are drawn from
    weights = [fold.w_test for fold in held if fold.w_test is not None]
    judged = np.concatenate([fold.y_test for fold in held])
    return replace(folds[0], y_train=judged, w_train=np.concatenate(weights) if weights else None, folds=folds, part=0)


def training_counts(spec: DatasetSpec, split: SplitSpec, finals: FinalsSpec) -> list[int]:
    """How many rows each training of the finals has.

    Raises:
        SpecError: the data cannot be used.
    """
    table = read_table(spec, split)
    return [len(rows.train) for rows in _splits(table, encode_target(table, spec.task), split, finals)]


def _splits(table: Table, target: Target, split: SplitSpec, finals: FinalsSpec) -> Iterator[Splits]:
    """The rows of every training, a repeat after the other."""
    assert finals.folds is not None
    validation = given_rows(table, words_of(table, split), "validation")
    for repeat in range(finals.repeats):
        draw = draw_of(table, target, _anew(split, repeat))
        for train, test in _parts(table, target, split, finals.folds, repeat):
            if len(validation):
                yield Splits(train, validation, test)
            else:
                yield Splits(*draw.hold_out(train, round(len(train) * split.validation), "validation"), test)


def _parts(
    table: Table, target: Target, split: SplitSpec, folds: int, repeat: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The rows that stay and the rows that are left out, of each fold of one repeat."""
    words, pool = words_of(table, split), np.arange(table.parts[0].stop)
    for name in ("validation", "test"):
        pool = np.setdiff1d(pool, given_rows(table, words, name))
    return words.folds(pool) if words.numbered else draw_of(table, target, _anew(split, repeat)).folds(pool, folds)


def _anew(split: SplitSpec, repeat: int) -> SplitSpec:
    return split.model_copy(update={"seed": split.seed + repeat})
