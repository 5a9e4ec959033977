"""Makes the folds of a dataset, each with preprocessing of its own."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from sweeper.data.preprocess import input_names
from sweeper.data.raw_rows import RawRows, frozen
from sweeper.data.rows import Rows

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset


def folds_of(whole: Dataset, raw: RawRows) -> tuple[Dataset, ...]:
    """The folds of a dataset, each with preprocessing of its own.

    Raises:
        SpecError: a value does not fit into float32.
    """
    made = []
    for part in range(1, 1 + len(raw.splits.folds)):
        recipe, test = raw.recipe(whole.inputs, part), raw.part(part)[2]
        rows = raw.rows(recipe, part)
        own: dict[str, Any] = {
            "x_test": raw.inputs(recipe, test),
            "y_test": frozen(raw.y[test]),
            "test_rows": frozen(test),
        }
        own["w_test"] = None if raw.w is None else frozen(raw.w[test])
        names: dict[str, Any] = {"feature_names": input_names(recipe), "raw": raw, "part": part, "folds": ()}
        made.append(replace(whole, **{f.name: getattr(rows, f.name) for f in fields(Rows)}, **own, **names))
    return tuple(made)
