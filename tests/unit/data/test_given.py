"""Tables and arrays of a Python program become files of the home folder, named by their content."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sweeper.data.dataset import load_dataset
from sweeper.data.given import keep
from sweeper.errors import SpecError
from sweeper.spec.parse import DatasetSpec, SplitSpec

X = np.random.default_rng(0).normal(size=(60, 3)).round(3)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(city=["u", "v", "w"] * 20, kind=["p", "q"] * 30)


class Exported:
    """A table of another library, which exports itself to Arrow: polars, say."""

    columns = tuple(FRAME)

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.Table.from_pandas(FRAME).__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    ("data", "target", "named"),
    [
        (FRAME, "kind", "kind"),
        (FRAME.set_index("a", drop=False), "kind", "kind"),
        (pa.Table.from_pandas(FRAME), "kind", "kind"),
        (Exported(), "kind", "kind"),
        ((FRAME.drop(columns="kind"), FRAME["kind"]), None, "kind"),
        ((FRAME.drop(columns="kind"), FRAME["kind"].tolist()), "sort", "sort"),
    ],
)
def test_a_table_is_kept_with_its_target(tmp_path, data, target, named):
    path, name = keep(data, target, tmp_path)
    assert name == named
    made = load_dataset(DatasetSpec(path=str(path), target=name), SplitSpec(), "none")
    assert made.feature_names == ("a", "b", "c", "city=u", "city=v", "city=w")
    np.testing.assert_allclose(made.x_train[:, :3], X[made.train_rows].astype(np.float32))
    assert made.class_labels == ("p", "q")


@pytest.mark.parametrize(
    "y", [FRAME["kind"], FRAME["kind"].tolist(), FRAME["kind"].astype("category"), [[k] for k in FRAME["kind"]]]
)
def test_arrays_are_kept(tmp_path, y):
    path, name = keep((X.tolist(), y), None, tmp_path)
    made = load_dataset(DatasetSpec(path=str(path), target=name), SplitSpec(), "none")
    np.testing.assert_allclose(made.x_train, X[made.train_rows].astype(np.float32))
    assert made.class_labels == ("p", "q")


def test_the_same_data_is_kept_once_and_other_data_elsewhere(tmp_path):
    for data in (FRAME, (X, FRAME["kind"])):
        first, again = (keep(data, "kind", tmp_path)[0] for _ in range(2))
        assert first == again
    others = [keep((X, list(range(60))), None, tmp_path)[0], keep((X + 1, FRAME["kind"]), None, tmp_path)[0]]
    assert len(set(others) | {first}) == 3
    assert {path.suffix for path in tmp_path.rglob("*.*")} == {".parquet", ".npz"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2], ["a list is no table", "pandas"]),
        ((X, [1], [2]), ["3 parts"]),
        ((X[:, 0], FRAME["kind"]), ["shape (60,)", "reshape"]),
        ((X, [1] * 59), ["y has the shape (59,)", "60 rows"]),
        ((X, [None] * 60), ["rows without a value"]),
        ((np.full((60, 2), "a"), [1] * 60), ["no number"]),
        ((FRAME, FRAME["kind"]), ["X has a column 'kind'"]),
        (pd.DataFrame({"a": [1, "x"], "y": [1, 2]}), ["cannot be written", "column a", "one type"]),
    ],
)
def test_what_cannot_be_kept_says_why(tmp_path, data, words):
    with pytest.raises(SpecError) as caught:
        keep(data, None, tmp_path)
    for word in ("data", *words):
        assert word in str(caught.value)
