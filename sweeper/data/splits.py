"""Which rows train, which validate and which are held out for the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.data.targets import Target
from sweeper.errors import SpecError
from sweeper.text import listed

if TYPE_CHECKING:
    from sweeper.spec.models import SplitSpec


@dataclass(frozen=True, eq=False)
class Splits:
    """Row numbers (from 0) of the table, ascending and disjoint; together they are all rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    warnings: tuple[str, ...] = ()


def split_rows(target: Target, split: SplitSpec, file: str | None) -> Splits:
    """Draw the splits by ``split.seed``; classes keep their shares in each. Fractions are of all rows.

    Raises:
        SpecError: too few rows, or too few of a class, for every split to have some.
    """
    from sklearn.model_selection import train_test_split

    n = len(target.y)
    n_test, n_validation = round(n * split.test), round(n * split.validation)
    _check_sizes(target, split, n_test, n_validation, file)
    stratify = target.y if target.labels is not None else None
    try:
        rest, test = train_test_split(np.arange(n), test_size=n_test, random_state=split.seed, stratify=stratify)
        stratify = None if stratify is None else stratify[rest]
        train, validation = train_test_split(rest, test_size=n_validation, random_state=split.seed, stratify=stratify)
    except ValueError as error:  # a rare class cannot be shared out
        raise _too_rare(target, file) from error
    parts = {"training": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}
    warnings = () if target.labels is None else _missing_classes(target, parts, file)
    return Splits(parts["training"], parts["validation"], parts["test"], warnings)


def _check_sizes(target: Target, split: SplitSpec, n_test: int, n_validation: int, file: str | None) -> None:
    n, classes = len(target.y), len(target.labels or ())
    least = max(classes, 1)
    if n < 3 * max(classes, 2):
        what = f"{classes} classes in 3 splits" if classes else "3 splits"
        raise SpecError(f"{n} rows are too few for {what}", file=file, key="dataset", remedy="Add rows")
    if classes and np.bincount(target.y).min() < 3:
        raise _too_rare(target, file)
    for name, rows in (("validation", n_validation), ("test", n_test), ("", n - n_test - n_validation)):
        if rows < (least if name else max(classes, 2)):
            what = f"{rows} of {n} rows are too few" + (f" for {classes} classes" if classes else "")
            if name:
                remedy = f"Use {least / n:.2g} or more"
                raise SpecError(what, file=file, key=f"split.{name}", remedy=remedy)
            raise SpecError(f"{what} to train on", file=file, key="split", remedy="Hold out a smaller share")


def _too_rare(target: Target, file: str | None) -> SpecError:
    counts = np.bincount(target.y)
    rare = [(target.labels or ())[i] for i in np.argsort(counts, kind="stable") if counts[i] <= max(2, counts.min())]
    problem = f"{counts.min()} rows of the classes {listed(rare, 5)} are too few for training, validation and test"
    remedy = "Add rows of these classes, merge them with others, or remove them"
    return SpecError(problem, file=file, key="dataset.target", remedy=remedy)


def _missing_classes(target: Target, parts: dict[str, np.ndarray], file: str | None) -> tuple[str, ...]:
    """Warnings about held-out splits without some class; training must have all of them."""
    warnings = []
    for name, rows in parts.items():
        counts = np.bincount(target.y[rows], minlength=len(target.labels or ()))
        absent = [label for label, count in zip(target.labels or (), counts, strict=True) if not count]
        if absent and name == "training":
            raise _too_rare(target, file)
        if absent:
            warnings.append(f"The {name} split has no row of {len(absent)} rare classes: {listed(absent, 5)}.")
    return tuple(warnings)
