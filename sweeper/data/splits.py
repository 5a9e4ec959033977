"""Which rows train, which validate and which are held out for the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sweeper.data.draws import Draw, draw_of
from sweeper.data.rows import Splits
from sweeper.data.targets import Target, too_rare
from sweeper.data.words import Words, words_of
from sweeper.errors import SpecError
from sweeper.text import listed, shown

if TYPE_CHECKING:
    from sweeper.data.tables import Table
    from sweeper.spec.dataset import SplitSpec


def split_rows(table: Table, target: Target, split: SplitSpec) -> Splits:
    """Part the rows: by the files they come from, by the column that says it, or by a draw with ``split.seed``.

    Fractions are of the rows of ``dataset.path``. Where rows are drawn, classes keep their shares in each split,
    rows of one group stay together, and in time training comes before validation and validation before the test.

    Raises:
        SpecError: too few rows, groups, times, or rows of a class, for every split and fold to have some.
    """
    words, draw = words_of(table, split), draw_of(table, target, split)
    _check_unseen(table, target)
    _check_draws(table, target, split, words)
    found = _parted(table, target, split, words, draw)
    _check_weighed(table, found)
    return found


def _parted(table: Table, target: Target, split: SplitSpec, words: Words, draw: Draw) -> Splits:
    """The rows of each split, nothing checked yet but what drawing them needs."""
    whole = table.parts[0]
    pool = np.arange(whole.stop)
    test = given_rows(table, words, "test")
    pool = np.setdiff1d(pool, test) if words.has("test") else pool
    validation = given_rows(table, words, "validation")
    pool = np.setdiff1d(pool, validation) if words.has("validation") else pool
    if not len(test):
        pool, test = draw.hold_out(pool, round(whole.stop * split.test), "test")
    if split.folds is not None:
        folds = words.folds(pool) if words.numbered else draw.folds(pool, split.folds)
        warnings = _missing_classes(target, {"test": test}, pool, table)
        check_folds(table, target, folds)
        return Splits(pool, np.arange(0), test, folds, (*draw.broken(pool, test), *warnings))
    if not len(validation):
        pool, validation = draw.hold_out(pool, round(whole.stop * split.validation), "validation")
    warnings = _missing_classes(target, {"validation": validation, "test": test}, pool, table)
    beside = (*draw.broken(np.union1d(pool, validation), test), *draw.broken(pool, validation))
    return Splits(pool, validation, test, (), (*dict.fromkeys(beside), *warnings))


def given_rows(table: Table, words: Words, name: str) -> np.ndarray:
    """The rows of a split that a file or the column names; none: they are to be drawn.

    Raises:
        SpecError: both name some.
    """
    part = table.part(name)
    if part is None:
        return words.rows(name)
    if words.has(name):
        problem = f"column '{shown(words.name)}' has rows for {name}, and dataset.{name} is a file of them"
        raise SpecError(problem, file=table.file, key="split.column", remedy="Keep one of the two")
    return np.arange(part.start, part.stop)


def _check_draws(table: Table, target: Target, split: SplitSpec, words: Words) -> None:
    """Refuse shares that leave a split too few rows, with the share that would do."""
    whole = table.parts[0].stop
    shares = {
        name: round(whole * getattr(split, name))
        for name in ("validation", "test")
        if table.part(name) is None and not words.has(name) and not (name == "validation" and split.folds)
    }
    counts = np.bincount(target.y[:whole]) if target.labels else np.array([whole])
    n, classes, splits = whole, len(target.labels or ()), 1 + len(shares) + (split.folds is not None)
    if n < splits * max(classes, 2):
        what = f"{classes} classes in {splits} splits" if classes else f"{splits} splits"
        raise SpecError(f"{n} rows are too few for {what}", file=table.file, key="dataset", remedy="Add rows")
    if classes and counts.min() < splits and not words.name:
        raise too_rare(target, table)
    for name, rows in (*shares.items(), ("", n - sum(shares.values()))):
        if rows < (max(classes, 1) if name else max(classes, 2)) and (name or not words.name):
            what = f"{rows} of {n} rows are too few" + (f" for {classes} classes" if classes else "")
            if name:
                remedy = f"Use {max(classes, 1) / n:.2g} or more"
                raise SpecError(what, file=table.file, key=f"split.{name}", remedy=remedy)
            raise SpecError(f"{what} to train on", file=table.file, key="split", remedy="Hold out a smaller share")


def _check_unseen(table: Table, target: Target) -> None:
    """Refuse classes that occur in a file of validation or test rows only: nothing could learn them."""
    if target.labels is None:
        return
    known = np.bincount(target.y[: table.parts[0].stop], minlength=len(target.labels)) > 0
    for part in table.parts[1:]:
        unseen = np.flatnonzero(~known[target.y[part.start : part.stop]])
        if len(unseen):
            labels = [target.labels[i] for i in np.unique(target.y[part.start + unseen])]
            problem = f"the class {listed(labels[:1])} in data row {unseen[0] + 1:,} does not occur in"
            if len(labels) > 1:
                problem = f"the classes {listed(labels, 5)} (the first in data row {unseen[0] + 1:,}) do not occur in"
            remedy = "Remove these rows, or add rows of these classes to train on"
            raise SpecError(
                f"{problem} {shown(table.file, 200)}", file=part.file, key=f"dataset.{part.key}", remedy=remedy
            )


def check_folds(table: Table, target: Target, folds: tuple[tuple[np.ndarray, np.ndarray], ...]) -> None:
    """Refuse a fold that trains without some class, or has no rows.

    Raises:
        SpecError: with the key split.folds.
    """
    for number, (train, held) in enumerate(folds):
        if not len(held):
            problem = f"no row of fold {number} is left beside the test rows"
            raise SpecError(problem, file=table.file, key="split.folds", remedy="Use fewer folds, or larger ones")
        absent = _absent(target, train) if target.labels is not None else ()
        if absent:
            problem = f"fold {number} would train without the classes {listed(absent, 5)}"
            remedy = "Use fewer folds, or merge these classes with others"
            raise SpecError(problem, file=table.file, key="split.folds", remedy=remedy)


def _check_weighed(table: Table, splits: Splits) -> None:
    """Refuse a split in which no row has a weight."""
    if "weight" not in table.aside:
        return
    weights = table.aside["weight"].to_numpy()
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    for number, fold in enumerate(splits.folds):
        parts |= {f"fold {number}'s training": fold[0], f"fold {number}'s validation": fold[1]}
    for name, rows in parts.items():
        if len(rows) and not weights[rows].sum() > 0:
            problem = f"'{shown(table.roles.uses['weight'])}' is 0 in all {len(rows):,} rows of the {name} split"
            remedy = "Every split needs a row with a weight above 0"
            raise SpecError(problem, file=table.file, key="dataset.weight", remedy=remedy)


def _missing_classes(target: Target, parts: dict[str, np.ndarray], train: np.ndarray, table: Table) -> tuple[str, ...]:
    """Warnings about held-out splits without some class; training must have all of them."""
    if target.labels is None:
        return ()
    absent = _absent(target, train)
    if absent and table.roles.uses.keys() & {"group", "time", "column"}:
        use = next(use for use in ("group", "time", "column") if use in table.roles.uses)
        problem = f"no row of the classes {listed(absent, 5)} is left to train on"
        remedy = "Hold out smaller shares, choose another column, or remove these classes"
        raise SpecError(problem, file=table.file, key=f"split.{use}", remedy=remedy)
    if absent:
        raise too_rare(target, table)
    found = {name: _absent(target, rows) for name, rows in parts.items()}
    return tuple(
        f"The {name} split has no row of {len(labels)} rare classes: {listed(labels, 5)}."
        for name, labels in found.items()
        if labels
    )


def _absent(target: Target, rows: np.ndarray) -> list[object]:
    counts = np.bincount(target.y[rows], minlength=len(target.labels or ()))
    return [label for label, count in zip(target.labels or (), counts, strict=True) if not count]
