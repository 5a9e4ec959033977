"""Columns of numbers that are written as texts, in CSV and Parquet files, as inputs, targets and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweeper.data.dataset import Dataset, load_dataset, preprocess_from_json
from sweeper.errors import SpecError
from sweeper.spec.parse import DatasetSpec, SplitSpec

PRICES = np.random.default_rng(0).uniform(1, 3000, 60).round(2)


def euros(value: float) -> str:
    return "€ " + f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def write(path: Path, columns: dict[str, list[str]], separator: str = ",") -> Path:
    frame = pd.DataFrame({**columns, "n": np.arange(60) % 7, "kind": ["a", "b"] * 30})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False, sep=separator)
    return path


def load(path: Path, target: str = "kind", **section: object) -> Dataset:
    return load_dataset(DatasetSpec(path=str(path), target=target, **section), SplitSpec(), "none")


@pytest.mark.parametrize("separator", [",", ";", "\t", "parquet"])
def test_a_column_is_read_said_and_part_of_the_recipe(tmp_path, separator):
    cells = [euros(price) for price in PRICES]
    cells[4] = "-"
    path = tmp_path / ("data.parquet" if separator == "parquet" else "data.csv")
    data = load(write(path, {"price": cells}, separator))
    rows = [i for i in data.train_rows if i != 4]
    np.testing.assert_allclose(data.x_train[data.train_rows != 4, 0], PRICES[rows].astype(np.float32))
    assert any("'price'" in w and cells[0] in w and "data row" in w and "in €" in w for w in data.warnings)
    assert any("'-' counts as missing in 'price'" in w for w in data.warnings)
    again = preprocess_from_json(data.preprocess_to_json())
    raw = {"price": [cells[i] for i in data.test_rows], "n": [i % 7 for i in data.test_rows]}
    np.testing.assert_allclose(again.transform(raw), data.x_test)


def test_whole_numbers_first_do_not_hide_decimal_commas(tmp_path):
    cells = [str(i) for i in range(30)] + [f"{i},5" for i in range(30)]
    data = load(write(tmp_path / "data.csv", {"size": cells}, "\t"))
    assert data.x_train[data.train_rows == 59, 0].tolist() in ([], [29.5])
    assert set(data.x_train[:, 0] % 1) == {0.0, 0.5}


def test_points_between_thousands_are_known_by_the_decimal_commas_of_the_file(tmp_path):
    columns = {"size": [f"{i},5" for i in range(60)], "count": [f"{i + 1}.{i:03d}" for i in range(60)]}
    data = load(write(tmp_path / "data.csv", columns, ";"))
    assert data.x_train[0, 1] == (data.train_rows[0] + 1) * 1000 + data.train_rows[0]


def test_texts_stay_texts_where_they_are_codes_or_hold_several_units(tmp_path):
    columns = {
        "code": [f"{i % 9:03d}" for i in range(60)],
        "dose": [f"{i % 9} {'kg' if i % 2 else 'lb'}" for i in range(60)],
    }
    data = load(write(tmp_path / "data.csv", columns))
    assert {"code=007", "dose=3 kg"} <= set(data.feature_names)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([f"{i + 1},{i + 100}" for i in range(60)], ["column 'price'", "'1,100' in data row 1", "may be 1,100 or 1.1"]),
        ([*["5 kg", "7"], *(f"{i} kg" for i in range(58))], ["'7' in data row 2 has no unit", "Write all of them"]),
        ([*(f"${i}.5" for i in range(59)), "many"], ["'many' in data row 60"]),
        ([f"{i} {'kg' if i else 'lb'}" for i in range(60)], ["'1 kg' in data row 2 is in kg", "lb", "one unit"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_column_row_cell_and_remedy(tmp_path, cells, words):
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path / "data.csv", {"price": cells}))
    for word in words:
        assert word in str(caught.value)


def test_a_target_of_written_numbers_is_a_quantity_and_one_of_few_texts_has_classes(tmp_path):
    path = write(tmp_path / "data.csv", {"price": [euros(p) for p in PRICES], "share": ["5%", "7%", "9%"] * 20})
    data = load(path, "price")
    assert data.task == "regression"
    np.testing.assert_allclose(data.y_test * data.target_std + data.target_mean, PRICES[data.test_rows], rtol=1e-4)
    assert load(path, "share").class_labels == ("5%", "7%", "9%")
    assert load(path, "share", task="regression").task == "regression"


def test_the_files_of_a_sweep_read_the_same_cells_in_the_same_way(tmp_path):
    first = write(tmp_path / "first.csv", {"price": [euros(p) for p in PRICES], "size": ["1.5", "2"] * 30}, ";")
    test = write(tmp_path / "test.csv", {"price": ["1.498"] * 60, "size": ["n.a.", "2"] * 30}, ";")
    data = load(first, test=str(test))
    assert set(data.x_test[:, 0]) == {1498.0}
    assert set(data.x_test[:, 1]) == {2.0, np.float32(data.recipe.features[1].fill)}
    bad = write(tmp_path / "bad.csv", {"price": ["1.498"] * 59 + ["1,5 $"], "size": ["1", "2"] * 30}, ";")
    with pytest.raises(SpecError, match=r"'1,5 \$' in data row 60 is not a number in € .*, as in .*first.csv"):
        load(first, test=str(bad))


def test_written_weights_are_numbers(tmp_path):
    path = write(tmp_path / "data.csv", {"w": [f"{i % 3},5" for i in range(60)], "x": list(PRICES)})
    assert set(load(path, weight="w").w_train) == {0.5, 1.5, 2.5}


def test_texts_of_digits_in_a_parquet_file_are_categories_where_they_are_few(tmp_path):
    columns = {"zone": [str(i % 5) for i in range(60)], "size": [str(price) for price in PRICES]}
    data = load(write(tmp_path / "data.parquet", columns))
    assert data.feature_names == ("size", "n", *(f"zone={i}" for i in range(5)))
