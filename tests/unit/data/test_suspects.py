"""Tables that make a sweep look too good are told, and ordinary ones are not."""

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from sweeper.data.dataset import built_in, load_dataset
from sweeper.spec.parse import DatasetSpec, SplitSpec


@pytest.fixture
def warnings_of(tmp_path):
    def load(frame: pd.DataFrame, drop: tuple[str, ...] = (), **split) -> list[str]:
        frame.to_csv(tmp_path / "data.csv", index=False)
        spec = DatasetSpec(path=str(tmp_path / "data.csv"), target="target", drop=drop)
        found = load_dataset(spec, SplitSpec(**split), "standard").warnings
        return [warning for warning in found if "set dataset.task" not in warning and "left out" not in warning]

    return load


def built_in_frame(name: str) -> pd.DataFrame:
    bunch = getattr(datasets, f"load_{name}")()
    return pd.DataFrame(bunch.data, columns=bunch.feature_names).assign(target=bunch.target)


@pytest.mark.parametrize("split", [{}, {"folds": 3}])
@pytest.mark.parametrize("name", [row.name for row in built_in()])
def test_nothing_is_told_of_the_built_in_data(warnings_of, name, split):
    assert warnings_of(built_in_frame(name), **split) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [60, 900])
def test_nothing_is_told_of_noise(warnings_of, seed, rows):
    random = np.random.default_rng(seed)
    columns = {f"x{i}": random.normal(size=rows) for i in range(8)} | {
        f"c{i}": random.integers(0, 3, rows) for i in "ab"
    }
    for target in (random.integers(0, 2, rows), random.normal(size=rows)):
        assert warnings_of(pd.DataFrame(columns).assign(target=target)) == []
    discrete = pd.DataFrame({"a": random.integers(0, 3, rows), "b": random.integers(0, 3, rows)})
    assert warnings_of(discrete.assign(target=random.integers(0, 2, rows))) == []


@pytest.mark.parametrize("split", [{}, {"folds": 4}])
def test_copies_across_splits_are_counted_and_a_group_they_share_heals_it(warnings_of, split):
    frame = pd.concat([built_in_frame("wine").assign(bottle=np.arange(178) * 7 % 1000 + 0.5)] * 3)
    [warning] = warnings_of(frame, **split)
    assert "copies of training rows" in warning
    assert "split.group" in warning
    assert int(warning.split()[0]) > 100
    assert warnings_of(frame, group="bottle", **split) == []


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", ["Unnamed: 0", "Id", "index", "anything"])
def test_a_column_that_numbers_the_rows_is_told(warnings_of, name, shuffled):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=150)}).assign(target=np.repeat(["a", "b", "c"], 50))
    frame.insert(0, name, np.arange(1, 151))
    frame = frame.sample(frac=1, random_state=1) if shuffled else frame
    [warning] = warnings_of(frame)
    assert f"'{name}' numbers the rows" in warning
    assert "dataset.drop" in warning
    assert warnings_of(frame, drop=(name,)) == []


def test_an_index_without_a_name_that_is_shuffled_is_told_and_can_be_dropped(warnings_of, tmp_path):
    frame = built_in_frame("iris").sample(frac=1, random_state=0)
    frame.to_csv(tmp_path / "indexed.csv")
    text = (tmp_path / "indexed.csv").read_text()
    (tmp_path / "indexed.csv").write_text(text)
    for drop in ((), ("column 1",)):
        spec = DatasetSpec(path=str(tmp_path / "indexed.csv"), target="target", drop=drop)
        found = [w for w in load_dataset(spec, SplitSpec(), "standard").warnings if "numbers the rows" in w]
        assert len(found) == (not drop)


def test_numbers_with_gaps_are_told_only_where_the_name_says_so(warnings_of):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"price": random.permutation(100_000)[:200], "x": random.normal(size=200)})
    frame["target"] = random.integers(0, 2, 200)
    assert warnings_of(frame) == []
    assert "'Row ID' numbers the rows" in warnings_of(frame.rename(columns={"price": "Row ID"}))[0]


@pytest.mark.parametrize("text", [False, True])
def test_a_column_that_gives_the_target_away_is_told(warnings_of, text):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=600), "status": random.normal(size=600)})
    frame["target"] = np.where(frame["status"] > 0.3, "yes", "no")
    if text:
        frame["status"] = np.where(frame["target"] == "yes", random.choice(["won", "paid"], 600), "open")
    [warning] = warnings_of(frame)
    assert "'status' alone nearly gives the target away" in warning
    frame.loc[::12, "target"] = "yes"  # no longer nearly
    assert warnings_of(frame) == []


def test_a_quantity_that_is_another_columns_multiple_is_told(warnings_of):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"gross": random.normal(100, 20, 600), "x": random.normal(size=600)})
    assert "'gross' alone" in warnings_of(frame.assign(target=frame["gross"] / 1.19 + random.normal(0, 0.5, 600)))[0]
    assert warnings_of(frame.assign(target=frame["gross"] + random.normal(0, 10, 600))) == []


def test_of_very_many_columns_the_one_that_gives_the_target_away_is_found(warnings_of):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(300, 400))).rename(columns=lambda i: f"x{i}")
    frame["target"] = (frame["x321"] > 0).astype(int)
    assert "'x321' alone" in warnings_of(frame)[0]
