"""Loading, splitting and preprocessing data that is fit to be learned from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from sweeper.data.dataset import Dataset, built_in, estimate, load_dataset, preprocess_from_json
from sweeper.data.loading import load as load_sweep
from sweeper.errors import SpecError
from sweeper.spec.parse import DATASETS, DatasetSpec, SplitSpec, load_spec

SPLIT = SplitSpec()


@pytest.fixture
def people() -> pd.DataFrame:
    """200 people: numbers with gaps, whole numbers, texts with gaps, booleans, and whether they moved."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 12, 200).round(1),
            "joined": 1_600_000_000 + random.integers(0, 1000, 200),
            "city": random.choice(["Bonn", "Köln", "Aachen"], 200),
            "member": random.random(200) < 0.3,
            "moved": random.choice(["yes", "no"], 200),
        }
    )
    frame.loc[::9, "age"] = np.nan
    frame.loc[::11, "city"] = None
    return frame


def load(
    frame: pd.DataFrame, path: Path, target: str, normalize: str = "standard", split: SplitSpec = SPLIT
) -> Dataset:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return load_dataset(DatasetSpec(path=str(path), target=target), split, normalize)


def table(columns: dict[str, object], rows: int = 60) -> pd.DataFrame:
    """A table whose target ``kind`` has the classes a and b."""
    random = np.random.default_rng(0)
    return pd.DataFrame({"size": random.normal(size=rows), **columns, "kind": ["a", "b"] * (rows // 2)})


@pytest.mark.parametrize("row", built_in(), ids=lambda row: row.name)
def test_the_list_of_built_in_data_tells_what_loading_finds(row):
    data = load_dataset(DatasetSpec(name=row.name), SPLIT, "standard")
    rows = data.n_train + len(data.y_val) + len(data.y_test)
    classes = None if data.class_labels is None else len(data.class_labels)
    assert (rows, data.n_features_raw, data.task, classes) == (row.rows, row.features, row.task, row.classes)
    assert DATASETS[row.name] == row.task
    assert data.warnings == ()
    assert estimate(DatasetSpec(name=row.name)).rows == row.rows


def test_the_list_of_built_in_data_imports_nothing_heavy():
    code = (
        "import sys; from sweeper.data.dataset import built_in; built_in(); "
        "print({'torch', 'sklearn', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_classes_have_sorted_names_and_keep_their_shares_in_every_split():
    data = load_dataset(DatasetSpec(name="iris"), SplitSpec(validation=0.2, test=0.2, seed=3), "standard")
    assert data.class_names == ("setosa", "versicolor", "virginica")
    for y, each in ((data.y_train, 30), (data.y_val, 10), (data.y_test, 10)):
        assert y.dtype == np.int64
        assert np.bincount(y).tolist() == [each] * 3


def test_splits_are_disjoint_cover_all_rows_and_depend_on_the_seed_alone():
    spec = DatasetSpec(name="wine")
    first, again, other = (load_dataset(spec, SplitSpec(seed=seed), "standard") for seed in (1, 1, 2))
    rows = np.concatenate([first.train_rows, first.val_rows, first.test_rows])
    assert sorted(rows) == list(range(178))
    assert np.array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.train_rows, other.train_rows)


def test_shares_of_the_splits_are_of_all_rows():
    data = load_dataset(DatasetSpec(name="diabetes"), SplitSpec(validation=0.3, test=0.1), "standard")
    assert (data.n_train, len(data.y_val), len(data.y_test)) == (442 - 133 - 44, 133, 44)


def test_arrays_are_contiguous_float32_and_cannot_be_written():
    data = load_dataset(DatasetSpec(name="digits"), SPLIT, "standard")
    for x in (data.x_train, data.x_val, data.x_test):
        assert x.dtype == np.float32
        assert x.flags["C_CONTIGUOUS"]
        with pytest.raises(ValueError, match="read-only"):
            x[0, 0] = 1.0


def test_a_regression_target_is_standardised_by_its_training_rows():
    data = load_dataset(DatasetSpec(name="diabetes"), SPLIT, "standard")
    from sklearn.datasets import load_diabetes

    y = load_diabetes().target
    assert data.target_mean == pytest.approx(y[data.train_rows].mean())
    assert data.target_std == pytest.approx(y[data.train_rows].std())
    assert data.y_train.dtype == np.float32
    np.testing.assert_allclose(data.y_test * data.target_std + data.target_mean, y[data.test_rows], rtol=1e-4)
    assert data.in_target_units(0.5) == pytest.approx(data.target_std / 2)
    assert data.n_outputs == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("normalize", ["standard", "minmax", "none"])
def test_the_recipe_equals_scikit_learn_on_held_out_rows(people, tmp_path, normalize, suffix):
    data = load(people, tmp_path / f"people.{suffix}", "moved", normalize)
    again = preprocess_from_json(data.preprocess_to_json())
    held_out = people.iloc[data.test_rows]
    np.testing.assert_allclose(again.transform(held_out), data.x_test, rtol=1e-6, atol=1e-6)
    columns = {name: held_out[name].tolist() for name in held_out}
    np.testing.assert_allclose(again.transform(columns), data.x_test, rtol=1e-6, atol=1e-6)
    assert again == data.recipe
    columns, train = ["age", "joined"], people.iloc[data.train_rows]
    scaler = {"standard": StandardScaler(), "minmax": MinMaxScaler(), "none": FunctionTransformer()}[normalize]
    pipeline = make_pipeline(SimpleImputer(strategy="median"), scaler).fit(train[columns])
    np.testing.assert_allclose(data.x_test[:, :2], pipeline.transform(held_out[columns]), rtol=1e-5, atol=1e-6)


def test_csv_and_parquet_of_one_table_give_the_same_arrays(people, tmp_path):
    one, two = (load(people, tmp_path / name, "moved") for name in ("people.csv", "people.parquet"))
    assert one.feature_names == two.feature_names
    np.testing.assert_array_equal(one.x_train, two.x_train)
    np.testing.assert_array_equal(one.y_val, two.y_val)


def test_statistics_come_from_the_training_rows_alone(people, tmp_path):
    data = load(people, tmp_path / "people.csv", "moved")
    ages = people["age"].iloc[data.train_rows]
    filled = ages.fillna(ages.median())
    feature = data.recipe.features[data.feature_names.index("age")]
    assert feature.fill == pytest.approx(ages.median())
    assert feature.offset == pytest.approx(filled.mean())
    assert feature.scale == pytest.approx(filled.std(ddof=0))


def test_a_large_offset_costs_no_digits(people, tmp_path):
    data = load(people, tmp_path / "people.csv", "moved")
    joined = people["joined"].iloc[data.train_rows]
    made = data.x_train[:, data.feature_names.index("joined")]
    np.testing.assert_allclose(made, (joined - joined.mean()) / joined.std(ddof=0), atol=1e-5)


def test_texts_become_one_input_each_and_unseen_ones_none(people, tmp_path):
    data = load(people, tmp_path / "people.csv", "moved")
    names = ("city=(missing)", "city=Aachen", "city=Bonn", "city=Köln")
    assert data.feature_names == ("age", "joined", "member", *names)
    row = data.raw_test.head(1).assign(city="Atlantis")
    assert data.recipe.transform(row)[0, 3:].tolist() == [0.0] * 4


def test_a_booleans_gap_is_filled_like_a_numbers(tmp_path):
    flags = [True, False, None, True, True, False] * 10
    data = load(table({"flag": flags}), tmp_path / "flags.csv", "kind")
    assert data.recipe.features[1].fill == 1.0
    row = pd.DataFrame({"size": [0.0, 0.0], "flag": [None, True]})
    assert data.recipe.transform(row)[0].tolist() == data.recipe.transform(row)[1].tolist()


def test_raw_samples_have_the_columns_as_read(people, tmp_path):
    data = load(people.assign(planet="Earth"), tmp_path / "people.csv", "moved")
    assert [(c.name, c.used) for c in data.raw_columns] == [
        ("age", True),
        ("joined", True),
        ("city", True),
        ("member", True),
        ("planet", False),
    ]
    assert data.raw_train["joined"].tolist() == people["joined"].iloc[data.train_rows[:5]].tolist()
    assert list(data.raw_test.columns) == [c.name for c in data.raw_columns]


def test_constant_and_empty_columns_are_left_out_with_a_warning(tmp_path):
    data = load(table({"one": 1, "none": None, "word": "x"}), tmp_path / "few.csv", "kind")
    assert data.feature_names == ("size",)
    assert any("without any value" in w and "'none'" in w for w in data.warnings)
    assert any("constant" in w and "'one', 'word'" in w for w in data.warnings)


def test_identifiers_and_very_varied_texts_are_left_out_with_a_warning(tmp_path):
    frame = table({"id": [f"n{i}" for i in range(4000)], "zip": [f"z{i % 1500}" for i in range(4000)]}, 4000)
    data = load(frame, tmp_path / "ids.csv", "kind")
    assert data.feature_names == ("size",)
    assert any("identifier" in w and "'id'" in w for w in data.warnings)
    assert any("1,000 different texts" in w and "'zip'" in w for w in data.warnings)


def test_a_saved_index_is_left_out(tmp_path):
    path = tmp_path / "indexed.csv"
    table({}).to_csv(path)
    data = load_dataset(DatasetSpec(path=str(path), target="kind"), SPLIT, "standard")
    assert data.feature_names == ("size",)
    assert "index" in data.warnings[0]
    table({}).set_index(np.arange(60) * 2).to_parquet(tmp_path / "indexed.parquet")
    data = load_dataset(DatasetSpec(path=str(tmp_path / "indexed.parquet"), target="kind"), SPLIT, "standard")
    assert data.feature_names == ("size",)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["no", "yes"], ("no", "yes")),
        ([10, 9], (9, 10)),
        ([True, False], (False, True)),
        ([1.0, 0.0], (0, 1)),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_of_any_type_are_kept_in_sorted_order(tmp_path, values, labels, suffix):
    frame = table({}).assign(kind=values * 30)
    data = load(frame, tmp_path / f"labels.{suffix}", "kind")
    assert data.class_labels == labels
    assert [type(label) for label in data.class_labels] == [type(label) for label in labels]
    assert [data.class_labels[i] for i in data.y_test] == frame["kind"].iloc[data.test_rows].tolist()


@pytest.mark.parametrize(
    ("target", "task", "other"),
    [
        (np.arange(200) % 20, "classification", "regression"),
        (np.arange(200) % 21, "regression", "classification"),
        (np.arange(200) % 20 + 0.5, "regression", None),
        (np.arange(60) % 20, "regression", None),
        (np.arange(780) % 26 + 1, "classification", "regression"),
        (np.arange(780) % 26 + 2, "regression", "classification"),
        (np.clip(np.random.default_rng(0).normal(14, 4, 3000).round(), 1, 28), "regression", "classification"),
        (np.arange(3000), "regression", None),
    ],
    ids=[
        "20 whole numbers",
        "21 whole numbers",
        "fractions",
        "three rows each",
        "26 evenly spread from 1",
        "26 from 2",
        "rings of a shell",
        "row numbers",
    ],
)
def test_the_task_is_inferred_from_how_many_whole_numbers_occur_and_how_they_are_spread(tmp_path, target, task, other):
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=len(target)), "t": target})
    data = load(frame, tmp_path / "numbers.csv", "t")
    assert data.task == task
    told = [w for w in data.warnings if "set dataset.task" in w]
    assert len(told) == (other is not None)
    assert other is None or f"set dataset.task: {other}" in told[0]
    assert "'t' holds" in data.task_reason


def test_labels_with_leading_zeros_are_classes(tmp_path):
    frame = pd.DataFrame({"x": np.arange(260.0), "t": [f"{i % 26 + 1:02d}" for i in range(260)]})
    data = load(frame, tmp_path / "letters.csv", "t")
    assert data.class_labels == tuple(f"{i:02d}" for i in range(1, 27))
    spec = DatasetSpec(path=str(tmp_path / "letters.csv"), target="t", task="regression")
    assert load_dataset(spec, SPLIT, "standard").task == "regression"


@pytest.mark.parametrize(
    ("target", "metric", "task"),
    [(np.arange(60) + 1, "val_accuracy", "classification"), (np.arange(60) % 3, "val_rmse", "regression")],
)
def test_a_metric_of_the_other_task_is_answered_with_that_task(tmp_path, target, metric, task):
    pd.DataFrame({"x": np.arange(60.0), "t": target}).to_csv(tmp_path / "numbers.csv", index=False)
    table = {"path": str(tmp_path / "numbers.csv"), "target": "t"}
    spec = load_spec({"dataset": table, "objective": {"metric": metric}})
    with pytest.raises(SpecError, match=f"different whole numbers.*Set dataset.task: {task}"):
        load_sweep(spec)


def test_a_given_task_overrides_the_inferred_one(tmp_path):
    path = tmp_path / "grades.csv"
    table({"grade": [1, 2, 3] * 20}).to_csv(path, index=False)
    data = load_dataset(DatasetSpec(path=str(path), target="grade", task="regression"), SPLIT, "standard")
    assert data.task == "regression"
    assert data.n_outputs == 1


def test_an_npz_needs_no_target_name(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(90, 3)), np.array(["a", "b", "c"] * 30)
    np.savez(tmp_path / "arrays.npz", X=x, y=y.reshape(-1, 1), other=y)
    data = load_dataset(DatasetSpec(path=str(tmp_path / "arrays.npz")), SPLIT, "none")
    assert data.feature_names == ("x0", "x1", "x2")
    np.testing.assert_array_equal(data.x_train, x[data.train_rows].astype(np.float32))
    assert data.class_labels == ("a", "b", "c")
    named = load_dataset(DatasetSpec(path=str(tmp_path / "arrays.npz"), target="other"), SPLIT, "none")
    np.testing.assert_array_equal(named.y_test, data.y_test)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float16, np.float32, bool, ">f8"])
def test_an_npz_holds_numbers_of_any_width(tmp_path, kind):
    x = np.random.default_rng(0).integers(0, 2, (60, 2)).astype(kind)
    np.savez(tmp_path / "arrays.npz", x=x, y=np.arange(60) % 2)
    data = load_dataset(DatasetSpec(path=str(tmp_path / "arrays.npz")), SPLIT, "none")
    np.testing.assert_allclose(data.x_train, x[data.train_rows].astype(np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffsize,kind\n" + "1.5,a\n2.5,b\n" * 30,
        "size;kind\n" + "1.5;a\n2.5;b\n" * 30,
        "size;kind\n" + "1,5;a\n2,5;b\n" * 30,
        "size\tkind\n" + "1.5\ta\n2.5\tb\n" * 30,
        'size,kind\r\n"1.5","a"\r\n' + "2.5,b\r\n1.5,a\r\n" * 30,
        "size,kind\n\n" + "1.5,a\n\n2.5,b\n" * 30,
    ],
    ids=["byte order mark", "semicolons", "decimal commas", "tabs", "quotes", "blank lines"],
)
def test_common_dialects_of_csv_are_understood(tmp_path, text):
    path = tmp_path / "dialect.csv"
    path.write_bytes(text.encode())
    data = load_dataset(DatasetSpec(path=str(path), target="kind"), SPLIT, "none")
    assert data.feature_names == ("size",)
    assert set(data.x_train[:, 0].tolist()) == {1.5, 2.5}
    assert data.class_labels == ("a", "b")


def test_a_record_may_span_lines_inside_quotes(tmp_path):
    path = tmp_path / "lines.csv"
    path.write_text('size,"two\nlines",kind\n' + '1,"p\nq",a\n2,r,b\n' * 30)
    data = load_dataset(DatasetSpec(path=str(path), target="kind"), SPLIT, "none")
    assert data.raw_columns[1].name == "two\nlines"
    assert data.feature_names == ("size", "two\\nlines=p\\nq", "two\\nlines=r")


def test_the_fingerprint_changes_with_data_target_split_and_normalisation_only(people, tmp_path):
    one, copy = tmp_path / "people.csv", tmp_path / "copy.csv"
    base = load(people, one, "moved").fingerprint
    assert load(people, copy, "moved").fingerprint == base
    changed = people.copy()
    changed.loc[3, "age"] = 99.0
    others = [
        load(changed, copy, "moved").fingerprint,
        load(people, one, "member").fingerprint,
        load(people, one, "moved", "minmax").fingerprint,
        load(people, one, "moved", split=SplitSpec(seed=1)).fingerprint,
        load(people, one, "moved", split=SplitSpec(test=0.3)).fingerprint,
    ]
    assert len({base, *others}) == 1 + len(others)


def test_tensors_have_the_asked_dtype():
    for name, y_type in (("iris", torch.int64), ("diabetes", torch.float64)):
        data = load_dataset(DatasetSpec(name=name), SPLIT, "standard")
        assert data.tensors().x_train.dtype == torch.float32
        tensors = data.tensors(torch.float64)
        assert (tensors.x_val.dtype, tensors.y_val.dtype) == (torch.float64, y_type)
        x, y = data.test_tensors(torch.float64)
        assert (tuple(x.shape), y.dtype) == (data.x_test.shape, y_type)


def test_one_line_describes_the_data(people, tmp_path):
    line = load(people, tmp_path / "people.csv", "moved").describe()
    assert line == (
        "people: classification of 2 classes, 120 training, 40 validation and 40 test rows, 4 columns as 7 inputs"
    )


def test_the_estimate_of_a_file_is_near_the_truth(tmp_path):
    frame = table({"id": [f"person {i}" for i in range(100_000)]}, 100_000)
    frame.to_csv(tmp_path / "big.csv", index=False)
    found = estimate(DatasetSpec(path=str(tmp_path / "big.csv"), target="kind"))
    assert found.rows == pytest.approx(100_000, rel=0.05)
    assert found.columns == 3
    frame.to_parquet(tmp_path / "big.parquet")
    assert estimate(DatasetSpec(path=str(tmp_path / "big.parquet"), target="kind")).rows == 100_000
    np.savez(tmp_path / "big.npz", x=np.zeros((5000, 7)), y=np.zeros(5000))
    found = estimate(DatasetSpec(path=str(tmp_path / "big.npz")))
    assert (found.rows, found.columns) == (5000, 8)


def test_ten_thousand_columns_load(tmp_path):
    values = np.random.default_rng(0).normal(size=(60, 10_000)).astype(np.float32).round(3)
    frame = pd.DataFrame(values, columns=[f"gene {i}" for i in range(10_000)]).assign(kind=["a", "b"] * 30)
    data = load(frame, tmp_path / "wide.csv", "kind")
    assert data.n_inputs == 10_000
    assert data.n_train == 36
