"""Validation and test rows in files of their own, columns that are no inputs, and weights."""

import numpy as np
import pandas as pd
import pytest

from sweeper.data.dataset import load_dataset
from sweeper.errors import SpecError
from sweeper.spec.parse import DatasetSpec, SplitSpec


def make(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "size": random.normal(size=rows).round(3),
            "code": random.choice(["1", "2", "3x"], rows),
            "member": random.random(rows) < 0.5,
            "day": pd.date_range("2026-01-01", periods=rows).strftime("%Y-%m-%d"),
            "weight": random.random(rows).round(3),
            "kind": random.choice(["a", "b"], rows),
        }
    )


@pytest.fixture
def files(tmp_path):
    """Writes train, validation and test files of one suffix and returns the section ``dataset`` that names them."""

    def write(suffix: str = ".csv", **changed: pd.DataFrame) -> dict[str, object]:
        tables = {"path": make(100, 0), "validation": make(30, 1), "test": make(40, 2)} | changed
        for key, frame in tables.items():
            file = tmp_path / f"{key}{suffix}"
            if suffix == ".csv":
                frame.to_csv(file, index=False)
            else:
                frame.to_parquet(file, index=False)
        section = {key: str(tmp_path / f"{key}{suffix}") for key in tables}
        return {**section, "target": "kind", "drop": ("day",)}

    return write


def load(section, **split):
    return load_dataset(DatasetSpec(**section), SplitSpec(**split), "standard")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_validation_and_test_rows_come_from_their_files(files, suffix):
    data = load({**files(suffix), "weight": "weight"})
    assert (data.n_train, len(data.y_val), len(data.y_test)) == (100, 30, 40)
    assert [column.name for column in data.raw_columns] == ["size", "code", "member"]
    for frame, x, y, w in (
        (make(100, 0), data.x_train, data.y_train, data.w_train),
        (make(30, 1), data.x_val, data.y_val, data.w_val),
        (make(40, 2), data.x_test, data.y_test, data.w_test),
    ):
        made = data.recipe.transform(frame[["size", "code", "member"]].astype({"code": object}))
        np.testing.assert_allclose(x, made, atol=1e-6)
        assert [data.class_labels[i] for i in y] == frame["kind"].tolist()
        np.testing.assert_allclose(w, frame["weight"], atol=1e-6)
    size = make(100, 0)["size"]
    np.testing.assert_allclose(data.x_train[:, 0], (size - size.mean()) / size.std(ddof=0), atol=1e-5)


def test_shares_apply_to_what_no_file_holds(files):
    section = files()
    del section["validation"]
    assert (load(section).n_train, len(load(section).y_val), len(load(section).y_test)) == (80, 20, 40)
    data = load(section, folds=5)
    assert (len(data.train_rows), [len(fold.val_rows) for fold in data.folds]) == (100, [20] * 5)


def test_unseen_categories_empty_columns_and_texts_that_look_like_numbers_are_read_as_in_the_first_file(files):
    test = make(40, 2).assign(code="2", member=None)
    test.loc[0, "code"] = "7"
    data = load(files(test=test))
    names = list(data.feature_names)
    assert data.x_test[0, [names.index(f"code={code}") for code in ("1", "2", "3x")]].tolist() == [0.0, 0.0, 0.0]
    assert data.x_test[1, names.index("code=2")] == 1.0
    assert set(data.x_test[:, names.index("member")]) == {data.recipe.transform(test)[0, names.index("member")]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="size"), ["dataset.test", "it has no 'size'", "same columns"]),
        (lambda t: t.rename(columns={"size": "sizes"}), ["it has no 'size'", "Did you mean 'sizes'?"]),
        (lambda t: t.assign(more=1), ["dataset.test", "it has 'more'", "remove these"]),
        (lambda t: t.assign(size="big"), ["column 'size'", "'big' in data row 1 is not a number, as in", "path.csv"]),
        (lambda t: t.assign(kind="c"), ["dataset.test", "the class 'c' in data row 1", "path.csv"]),
        (lambda t: t.assign(kind=None), ["dataset.target", "40 rows have no value in 'kind'"]),
        (lambda t: t.drop(columns="weight"), ["it has no 'weight'"]),
        (lambda t: t.assign(weight=-0.5), ["dataset.weight", "'weight' is -0.5 in data row 1", "from 0"]),
        (lambda t: t.assign(weight=0), ["dataset.weight", "is 0 in all 40 rows of the test split"]),
        (lambda t: t.assign(weight=None), ["dataset.weight", "40 rows have no value"]),
        (lambda t: t.iloc[:0], ["dataset.test", "no rows"]),
    ],
)
def test_a_test_file_that_does_not_go_with_the_first_says_why(files, change, words):
    with pytest.raises(SpecError) as caught:
        load({**files(test=change(make(40, 2))), "weight": "weight"})
    for word in ("test", *words):
        assert word in str(caught.value)


def test_groups_and_times_that_a_file_breaks_are_told(files):
    assert any("groups of 'day' have rows in more than one file" in w for w in load(files(), group="day").warnings)
    assert any("not later in 'day'" in warning for warning in load(files(), time="day").warnings)
    later = make(40, 2).assign(day="2027-01-01")
    assert not any(
        "later" in w
        for w in load({**files(test=later, validation=later.assign(day="2026-12-01"))}, time="day").warnings
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": ("Day",)}, ["dataset.drop", "no column 'Day'", "Did you mean 'day'?"]),
        ({"weight": "wieght"}, ["dataset.weight", "no column 'wieght'", "Did you mean 'weight'?"]),
        ({"weight": "code"}, ["dataset.weight", "'code' holds texts such as", "numbers"]),
        ({"drop": ("size", "code", "member", "day", "weight")}, ["no column to learn from"]),
    ],
)
def test_columns_that_are_no_inputs_have_to_be_there(files, change, words):
    with pytest.raises(SpecError) as caught:
        load({**files(), **change})
    for word in words:
        assert word in str(caught.value)


def test_a_dropped_column_may_hold_anything(tmp_path):
    frame = make(60, 0).assign(junk=[f"id {i}" for i in range(60)], endless=np.inf)
    frame.to_csv(tmp_path / "junk.csv", index=False)
    section = {"path": str(tmp_path / "junk.csv"), "target": "kind", "drop": ("day", "junk", "endless", "weight")}
    data = load(section)
    assert [column.name for column in data.raw_columns] == ["size", "code", "member"]
    assert not data.warnings


def test_the_fingerprint_covers_all_files_and_what_the_columns_are_used_for(files):
    section = files()
    changed = make(40, 2)
    changed.loc[3, "size"] = 9.0
    found = [
        load(section).fingerprint,
        load({**section, "weight": "weight"}).fingerprint,
        load({**section, "drop": ("day", "size")}).fingerprint,
        load(section, group="code").fingerprint,
        load({key: value for key, value in section.items() if key != "validation"}).fingerprint,
        load(files(test=changed)).fingerprint,
    ]
    assert len(set(found)) == len(found)
    assert load(files()).fingerprint == found[0]
