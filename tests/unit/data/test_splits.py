"""Rows that people part themselves: by groups, in time, by a column of words or fold numbers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from sweeper.data.dataset import load_dataset
from sweeper.data.final_folds import with_final_folds
from sweeper.errors import SpecError
from sweeper.spec.models import FinalsSpec
from sweeper.spec.parse import DatasetSpec, SplitSpec

ROWS = 240


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """240 visits of 40 people over 120 days, with the user's own words and fold numbers."""
    random = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "size": random.normal(size=ROWS).round(3),
            "city": random.choice(["Bonn", "Köln"], ROWS),
            "person": [f"p{i}" for i in random.integers(0, 40, ROWS)],
            "day": random.permutation(np.repeat(pd.date_range("2026-01-01", periods=ROWS // 2), 2)).astype("M8[D]"),
            "part": random.choice(["Train", "train", "validation ", "TEST"], ROWS),
            "fold": random.permutation(np.arange(ROWS) % 4),
            "kind": random.choice(["a", "b"], ROWS, p=[0.7, 0.3]),
            "price": random.normal(50, 9, ROWS),
        }
    )


@pytest.fixture(scope="module")
def visits(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("visits") / "visits.csv"
    frame.to_csv(path, index=False)
    return path


OTHERS = {"person", "day", "part", "fold", "kind", "price"}


def load(path, target="kind", **split):
    used = {split.get(key) for key in ("group", "time", "column")}
    drop = tuple(sorted(OTHERS - used - {target}))
    return load_dataset(DatasetSpec(path=str(path), target=target, drop=drop), SplitSpec(**split), "standard")


def parts(data):
    return data.train_rows, data.val_rows, data.test_rows


@pytest.mark.parametrize("target", ["kind", "price"])
def test_no_group_has_rows_in_two_splits(visits, frame, target):
    data = load(visits, target, group="person")
    groups = [set(frame["person"].iloc[rows]) for rows in parts(data)]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert sorted(np.concatenate(parts(data))) == list(range(ROWS))
    assert [len(rows) for rows in parts(data)] == pytest.approx([144, 48, 48], abs=6)
    assert [column.name for column in data.raw_columns] == ["size", "city"]


def test_groups_keep_the_shares_of_the_classes(visits, frame):
    data = load(visits, group="person")
    shares = [(frame["kind"].iloc[rows] == "a").mean() for rows in parts(data)]
    assert shares == pytest.approx([(frame["kind"] == "a").mean()] * 3, abs=0.06)


def test_in_time_training_comes_first_and_rows_of_one_time_stay_together(visits, frame):
    days = [frame["day"].iloc[rows] for rows in parts(load(visits, time="day"))]
    assert days[0].max() < days[1].min()
    assert days[1].max() < days[2].min()
    assert [len(part) for part in days] == [144, 48, 48]


@pytest.mark.parametrize("text", ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S+02:00", "%Y%j"])
def test_times_may_be_dates_texts_or_numbers(visits, frame, tmp_path, text):
    path = tmp_path / "other.csv"
    frame.assign(day=frame["day"].dt.strftime(text)).to_csv(path, index=False)
    for found, wanted in zip(parts(load(path, time="day")), parts(load(visits, time="day")), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_column_says_who_trains_in_the_users_own_words(visits, frame):
    words = frame["part"].str.strip().str.lower()
    for rows, word in zip(parts(load(visits, column="part")), ("train", "validation", "test"), strict=True):
        np.testing.assert_array_equal(rows, np.flatnonzero(words == word))


def test_what_the_column_does_not_name_is_drawn_from_those_that_train(frame, tmp_path):
    words = np.where(frame["part"] == "TEST", "test", "train")
    frame.assign(part=words).to_csv(tmp_path / "two.csv", index=False)
    data = load(tmp_path / "two.csv", column="part")
    np.testing.assert_array_equal(data.test_rows, np.flatnonzero(words == "test"))
    assert len(data.val_rows) == 48


@pytest.mark.parametrize("target", ["kind", "price"])
@pytest.mark.parametrize(
    "split", [{}, {"group": "person"}, {"column": "fold"}, {"time": "day"}], ids=["random", "groups", "numbers", "time"]
)
def test_folds_keep_to_the_rule_of_the_split_and_never_touch_the_test(visits, frame, target, split):
    data = load(visits, target, folds=4, **split)
    plain = load(visits, target, **split) if "column" not in split else data
    np.testing.assert_array_equal(data.test_rows, plain.test_rows)
    assert len(data.folds) == 4
    assert len(data.y_val) == 0
    held = [fold.val_rows for fold in data.folds]
    assert len(np.unique(np.concatenate(held))) == sum(map(len, held))
    for number, fold in enumerate(data.folds):
        assert not set(fold.train_rows) & set(fold.val_rows)
        assert not set(data.test_rows) & {*fold.train_rows, *fold.val_rows}
        assert fold.x_train.shape == (len(fold.train_rows), data.n_inputs)
        if "group" in split:
            assert not set(frame["person"].iloc[fold.train_rows]) & set(frame["person"].iloc[fold.val_rows])
        if "time" in split:
            assert frame["day"].iloc[fold.train_rows].max() < frame["day"].iloc[fold.val_rows].min()
        else:
            np.testing.assert_array_equal(np.union1d(fold.train_rows, fold.val_rows), data.train_rows)
        if "column" in split:
            assert set(frame["fold"].iloc[fold.val_rows]) == {number}


def test_folds_at_random_are_those_of_scikit_learn(visits, frame):
    data = load(visits, folds=5, seed=3)
    pool = data.train_rows
    parts = StratifiedKFold(5, shuffle=True, random_state=3).split(pool, frame["kind"].iloc[pool])
    for fold, (_, held) in zip(data.folds, parts, strict=True):
        np.testing.assert_array_equal(fold.val_rows, pool[held])


def test_every_fold_is_scaled_by_its_own_training_rows_and_shares_inputs_and_the_targets_unit(visits, frame):
    data = load(visits, "price", folds=4)
    assert (data.target_mean, data.target_std) == pytest.approx(
        (frame["price"].iloc[data.train_rows].mean(), frame["price"].iloc[data.train_rows].std(ddof=0))
    )
    for fold in data.folds:
        sizes = frame["size"].iloc[fold.train_rows]
        np.testing.assert_allclose(fold.x_train[:, 0], (sizes - sizes.mean()) / sizes.std(ddof=0), atol=1e-5)
        prices = (frame["price"].iloc[fold.val_rows] - data.target_mean) / data.target_std
        np.testing.assert_allclose(fold.y_val, prices, atol=1e-5)
        assert [f.column for f in fold.recipe.features] == [f.column for f in data.recipe.features]
        np.testing.assert_array_equal(fold.tensors().x_val.numpy(), fold.x_val)


def in_final_folds(path, target="kind", finals=None, **split):
    """A dataset for finals in folds, by way of the check that comes first."""
    used = {split.get(key) for key in ("group", "time", "column")}
    spec = DatasetSpec(path=str(path), target=target, drop=tuple(sorted(OTHERS - used - {target})))
    wanted, rule = FinalsSpec(**{"folds": 4, "repeats": 2, **(finals or {})}), SplitSpec(**split)
    return with_final_folds(load_dataset(spec, rule, "standard", wanted), spec, rule, wanted)


@pytest.mark.parametrize("split", [{}, {"group": "person"}], ids=["random", "groups"])
def test_finals_in_folds_test_every_row_once_a_repeat_and_no_group_parts(visits, frame, split):
    data = in_final_folds(visits, **split)
    assert len(data.folds) == 2 * 4
    for repeat in (data.folds[:4], data.folds[4:]):
        assert sorted(np.concatenate([fold.test_rows for fold in repeat])) == list(range(ROWS))
    assert any(
        set(one.test_rows) != set(other.test_rows) for one, other in zip(data.folds, data.folds[4:], strict=False)
    )
    for fold in data.folds:
        assert sorted(np.concatenate(parts(fold))) == list(range(ROWS))
        assert len(fold.y_test) == len(fold.test_rows)
        sizes = frame["size"].iloc[fold.train_rows]
        wanted = (frame["size"].iloc[fold.test_rows] - sizes.mean()) / sizes.std(ddof=0)
        np.testing.assert_allclose(fold.x_test[:, 0], wanted, atol=1e-5)
        if split:
            people = [set(frame["person"].iloc[rows]) for rows in parts(fold)]
            assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]


def test_rows_that_the_users_column_names_stay_out_of_the_folds_of_finals(visits, frame):
    word = frame["part"].str.strip().str.lower()
    data = in_final_folds(visits, column="part")
    assert sorted(np.concatenate([fold.test_rows for fold in data.folds[:4]])) == list(np.flatnonzero(word == "train"))
    assert all(list(fold.val_rows) == list(np.flatnonzero(word == "validation")) for fold in data.folds)
    numbered = in_final_folds(visits, finals={"repeats": 1}, column="fold", folds=4)
    assert [set(frame["fold"].iloc[fold.test_rows]) for fold in numbered.folds] == [{0}, {1}, {2}, {3}]
    with pytest.raises(SpecError, match=r"finals.folds: the column 'fold' .* Set finals.folds: 4, without repeats"):
        in_final_folds(visits, finals={"folds": 3}, column="fold", folds=4)
    with pytest.raises(SpecError, match=r"finals.repeats: the column 'fold'"):
        in_final_folds(visits, column="fold", folds=4)
    with pytest.raises(SpecError, match=r"finals.folds: there are 90 folds"):
        in_final_folds(visits, finals={"folds": 90})


def test_a_text_that_a_fold_of_finals_never_trained_on_is_unknown_there_and_the_target_keeps_its_unit(tmp_path):
    city = ["Rome", *["Bonn", "Köln"] * 20]
    frame = pd.DataFrame({"city": city, "x": np.arange(41.0), "price": np.linspace(3, 9, 41) ** 2})
    frame.to_csv(tmp_path / "rome.csv", index=False)
    spec, split, finals = DatasetSpec(path=str(tmp_path / "rome.csv"), target="price"), SplitSpec(), FinalsSpec(folds=4)
    data = load_dataset(spec, split, "standard", finals)
    folds = with_final_folds(data, spec, split, finals).folds
    [rome] = [fold for fold in folds if 0 in fold.test_rows]
    assert "city=Rome" in rome.feature_names
    assert not rome.x_test[list(rome.test_rows).index(0), [n.startswith("city") for n in rome.feature_names]].any()
    for fold in folds:
        prices = frame["price"].iloc[fold.test_rows]
        np.testing.assert_allclose(fold.y_test, (prices - data.target_mean) / data.target_std, atol=1e-5)


def test_a_fold_without_any_value_of_a_column_still_has_its_input(tmp_path):
    frame = pd.DataFrame({"x": np.arange(40.0), "late": np.where(np.arange(40) < 25, np.nan, 1.0 + np.arange(40))})
    frame.assign(kind=["a", "b"] * 20).to_csv(tmp_path / "late.csv", index=False)
    spec = DatasetSpec(path=str(tmp_path / "late.csv"), target="kind")
    data = load_dataset(spec, SplitSpec(folds=3, time="x"), "standard")
    first = data.folds[0]
    assert data.feature_names == ("late",)
    assert set(first.x_train[:, 0]) == {0.0}
    row = pd.DataFrame({"late": [np.nan, 7.0]})
    assert first.recipe.transform(row)[0, 0] == 0.0


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"group": "persn"}, ["split.group", "Did you mean 'person'?"]),
        ({"group": "city"}, ["split.group", "1 group of 'city'", "too few", "more groups"]),
        ({"group": "city", "folds": 3}, ["split.group", "too few for 3 folds"]),
        ({"time": "city"}, ["split.time", "'city'", "data row 1 is not a time", "2026-11-28"]),
        ({"time": "fold"}, ["split.time"]),
        ({"column": "city"}, ["split.column", "'city'", "in data row 1", "train, validation, test"]),
        ({"column": "fold"}, ["split.column", "4 folds", "Set split.folds: 4"]),
        ({"column": "fold", "folds": 5}, ["split.folds", "is 4", "Set it to 4"]),
        ({"column": "part", "folds": 5}, ["split.column", "validation rows", "Call them train"]),
        ({"column": "kind2"}, ["split.column", "no column 'kind2'"]),
        ({"folds": 60}, ["split.folds", "60 folds", "'b'", "or fewer"]),
    ],
)
def test_a_split_that_cannot_be_made_says_why(visits, split, words):
    if split == {"time": "fold"}:
        split = {"time": "fold", "folds": 4}
    with pytest.raises(SpecError) as caught:
        load(visits, **split)
    for word in (str(visits), *words):
        assert word in str(caught.value)


def test_a_class_that_one_group_holds_alone_cannot_be_held_out(frame, tmp_path):
    alone = frame.assign(kind=np.where(frame["person"] == "p3", "b", "a"))
    alone.to_csv(tmp_path / "alone.csv", index=False)
    data = load(tmp_path / "alone.csv", group="person")
    assert set(alone["person"].iloc[data.train_rows]) >= {"p3"}
    assert any("no row of 1 rare classes: 'b'" in warning for warning in data.warnings)
    with pytest.raises(SpecError, match=r"split.folds: fold \d would train without the classes 'b'"):
        load(tmp_path / "alone.csv", group="person", folds=3)


def test_a_regression_that_does_not_vary_where_it_trains_is_refused(frame, tmp_path):
    days = frame["day"].rank(method="dense")
    frame.assign(price=np.where(days > 100, days, 7.0)).to_csv(tmp_path / "flat.csv", index=False)
    with pytest.raises(SpecError, match=r"dataset.target: 'price': it is 7 in all 144 rows of the training split"):
        load(tmp_path / "flat.csv", "price", time="day")
    frame.assign(price=np.where(days > 60, days, 7.0)).to_csv(tmp_path / "fold.csv", index=False)
    with pytest.raises(SpecError, match=r"it is 7 in all 48 rows of the fold 0's training split"):
        load(tmp_path / "fold.csv", "price", time="day", folds=3)


@pytest.mark.parametrize("split", [{}, {"folds": 3}])
def test_a_regression_whose_spread_is_beyond_float32_is_refused(frame, tmp_path, split):
    frame.assign(price=frame["price"] * 1e300).to_csv(tmp_path / "huge.csv", index=False)
    with pytest.raises(SpecError, match=r"dataset.target: 'price': its spread in the training split is beyond float32"):
        load(tmp_path / "huge.csv", "price", **split)


def test_npz_archives_name_more_arrays_for_the_split(tmp_path):
    random = np.random.default_rng(0)
    group = np.repeat([f"g{i}" for i in range(12)], 10)
    arrays = {"x": random.normal(size=(120, 3)), "y": np.arange(120) % 2, "who": group, "w": random.random(120)}
    np.savez(tmp_path / "arrays.npz", **arrays)
    spec = DatasetSpec(path=str(tmp_path / "arrays.npz"), weight="w", drop=("x1",))
    data = load_dataset(spec, SplitSpec(group="who"), "none")
    assert data.feature_names == ("x0", "x2")
    assert not set(group[data.train_rows]) & set(group[data.test_rows])
    np.testing.assert_array_equal(data.w_val, arrays["w"].astype(np.float32)[data.val_rows])
    with pytest.raises(SpecError, match=r"split.group: there is no column 'whos'. Did you mean 'who'"):
        load_dataset(spec, SplitSpec(group="whos"), "none")


def test_built_in_data_can_drop_and_weigh_by_a_feature():
    spec = DatasetSpec(name="iris", drop=("sepal length (cm)",), weight="petal width (cm)")
    data = load_dataset(spec, SplitSpec(), "standard")
    assert data.feature_names == ("sepal width (cm)", "petal length (cm)")
    assert data.w_test.shape == data.y_test.shape
    with pytest.raises(SpecError, match=r"dataset.drop: there is no column 'sepal lenght \(cm\)'. Did you mean"):
        load_dataset(DatasetSpec(name="iris", drop=("sepal lenght (cm)",)), SplitSpec(), "standard")
