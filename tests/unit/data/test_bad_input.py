"""Data that cannot be learned from is refused with file, column, row and what to do; never with a traceback."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.data.dataset import estimate, load_dataset
from sweeper.errors import SpecError
from sweeper.spec.parse import DatasetSpec, SplitSpec
from tests.tiny import FUZZ_FACTOR

GOOD = "size,kind\n" + "1.5,a\n2.5,b\n" * 30


def refused(path: Path, target: str | None = "kind", task=None, split: SplitSpec | None = None) -> str:
    """The whole message of the refusal, which must be one printable line."""
    with pytest.raises(SpecError) as caught:
        load_dataset(DatasetSpec(path=str(path), target=target, task=task), split or SplitSpec(), "standard")
    assert str(caught.value).isprintable()
    return str(caught.value)


def csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("\n \n", ["empty"]),
        ("size,kind\n", ["no rows"]),
        ("size,kind", ["no rows"]),
        (GOOD + "3\n", ["line 62", "1 values for 2 columns"]),
        (GOOD + "3,a,b\n", ["line 62", "3 values for 2 columns"]),
        (GOOD.encode() + b"3,\xffx\n", ["line 62", "not UTF-8"]),
        (b"si\xffze,kind\n1,a\n", ["line 1", "not UTF-8"]),
        (GOOD.encode("utf-16"), ["UTF-16"]),
        (GOOD.replace("size", "kind"), ["more than one column", "'kind'"]),
        (GOOD.replace("2.5,b", '2.5,"b', 1), ["quote", "never closed", "'kind'"]),
        ("kind\n" + "a\nb\n" * 30, ["only column"]),
        (GOOD + "inf,a\n", ["'size'", "infinite", "data row 61"]),
        (GOOD + "-Infinity,a\n" * 3, ["3 values are infinite"]),
        (GOOD + "1.0,\n1.0,NA\n", ["2 rows have no value in 'kind'", "data row 61"]),
        (GOOD.replace("b", "a"), ["one class", "'a'"]),
        ("size,kind\n" + "1,a\n2,b\n3,a\n", ["3 rows are too few", "2 classes in 3 splits"]),
        (GOOD + "1,c\n1,c\n", ["'c'", "too few"]),
        (GOOD.replace("size", "si\0ze"), ["NUL", "ze"]),
        (GOOD.replace("b", "b\0"), ["NUL", "'kind'"]),
        ("size,kind\n" + "1,a\n1,b\n" * 30, ["no column can be learned from", "constant"]),
        ("size,kind\n" + ",a\n,b\n" * 30, ["no column to learn from", "without any value"]),
        ("day,kind\n" + "2024-01-01,a\n2024-01-02,b\n" * 30, ["'day'", "dates or times", "days since"]),
        ("day,kind\n" + "12:30:00,a\n12:31:00,b\n" * 30, ["'day'", "dates or times"]),
        ("size,kind\n" + "1e200,a\n-1e200,b\n" * 30, ["'size'", "too large"]),
        ("size,kind\n" + "1.6e308,a\n1.7e308,b\n,a\n1e308,b\n" * 30, ["'size'", "too large"]),
        ("size,kind\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(60)) + "many,a\n", ["'many'", "data row 61"]),
        ("id,kind\n" + "".join(f"n{i},{'ab'[i % 2]}\n" for i in range(60)), ["no column to learn", "identifier"]),
    ],
)
def test_a_csv_that_cannot_be_used_says_why(tmp_path, text, words):
    message = refused(csv(tmp_path, text))
    assert "data.csv" in message
    for word in words:
        assert word in message


def test_a_missing_target_column_names_the_nearest_and_lists_them(tmp_path):
    message = refused(csv(tmp_path, GOOD), "Knd")
    assert "Did you mean 'kind'?" in message
    assert "'size', 'kind'" in message
    assert "dataset.target" in message


def test_a_file_without_a_line_of_names_is_recognised(tmp_path):
    assert "first line seems to hold values" in refused(csv(tmp_path, "5.1,3.5,0\n4.9,3.0,1\n" * 30))


def test_the_list_of_columns_is_cut(tmp_path):
    path = csv(tmp_path, ",".join(f"c{i}" for i in range(5000)) + "\n" + ",".join(["1"] * 5000))
    assert len(refused(path)) < 1500


@pytest.mark.parametrize("name", ["label", "Target", "y", "CLASS"])
def test_a_target_nobody_named_is_found_by_its_name(tmp_path, name):
    path = csv(tmp_path, GOOD.replace("kind", name))
    spec = DatasetSpec.model_construct(path=str(path), name=None, target=None, task=None)
    data = load_dataset(spec, SplitSpec(), "standard")
    assert data.target_name == name
    assert "not given" in data.warnings[0]


@pytest.mark.parametrize("header", ["size,kind", "label,y"])
def test_a_target_nobody_named_is_never_guessed_from_its_place(tmp_path, header):
    path = csv(tmp_path, GOOD.replace("size,kind", header))
    spec = DatasetSpec.model_construct(path=str(path), name=None, target=None, task=None)
    with pytest.raises(SpecError, match="Name the column to predict"):
        load_dataset(spec, SplitSpec(), "standard")


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (SplitSpec(test=0.01), ["split.test", "1 of 60 rows", "0.033"]),
        (SplitSpec(validation=0.01), ["split.validation"]),
        (SplitSpec(validation=0.5, test=0.49), ["to train on"]),
    ],
)
def test_splits_too_small_for_the_classes_are_refused(tmp_path, split, words):
    message = refused(csv(tmp_path, GOOD), split=split)
    for word in words:
        assert word in message


def test_texts_cannot_be_a_quantity(tmp_path):
    message = refused(csv(tmp_path, "size,kind\n1,1.5\n2,2.5\n3,many\n"), task="regression")
    assert "'many' in data row 3" in message


def test_a_quantity_is_no_set_of_classes(tmp_path):
    rows = "".join(f"{i % 7},{i}.5\n" for i in range(60))
    assert "60 different values" in refused(csv(tmp_path, "size,kind\n" + rows), task="classification")


def test_a_quantity_that_never_changes_is_refused(tmp_path):
    assert "always 4" in refused(csv(tmp_path, "size,kind\n" + "1,4\n2,4\n" * 9), task="regression")


def test_an_infinite_target_is_refused(tmp_path):
    assert "data row 2" in refused(csv(tmp_path, "size,kind\n" + "1,4\n2,-inf\n" * 9))


def test_names_and_values_with_control_characters_are_shown_escaped(tmp_path):
    evil = "\x1b[31mred\u202e"
    lines = '"a\nERROR fake log line",kind\n' + f"{evil},a\n1,b\n" * 30
    message = refused(csv(tmp_path, lines), "kin\n")
    assert "a\\nERROR fake log line" in message
    data = load_dataset(DatasetSpec(path=str(csv(tmp_path, lines)), target="kind"), SplitSpec(), "none")
    assert all(name.isprintable() for name in data.feature_names)
    swapped = DatasetSpec(path=str(tmp_path / "data.csv"), target="a\nERROR fake log line")
    data = load_dataset(swapped, SplitSpec(), "none")
    assert all(name.isprintable() for name in (*data.class_names, data.describe()))


@pytest.mark.parametrize("name", ["no.csv", "no.parquet", "no.npz", "folder.csv"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    message = refused(tmp_path / name)
    assert name in message
    assert "no such file" in message


def test_another_kind_of_file_is_refused(tmp_path):
    spec = DatasetSpec.model_construct(path=str(tmp_path / "data.xlsx"), name=None, target="y", task=None)
    with pytest.raises(SpecError, match=r"\.csv, \.tsv .*\.parquet, \.feather, \.npz"):
        load_dataset(spec, SplitSpec(), "standard")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.array([[1, "a"]] * 30, dtype=object), "y": np.arange(30) % 2}, ["'x'", "pickled", "never read"]),
        ({"x": np.ones((30, 2)), "y": np.array(["a", None] * 15, dtype=object)}, ["'y'", "pickled"]),
        ({"data": np.ones((30, 2)), "y": np.arange(30)}, ["no array x", "'data'", "np.savez"]),
        ({"x": np.ones((30, 2)), "X": np.ones((30, 2)), "y": np.arange(30)}, ["both x and X"]),
        ({"x": np.ones((30, 2)), "labels": np.arange(30)}, ["no array 'y'", "'labels'"]),
        ({"x": np.ones((30, 2))}, ["no array 'y'"]),
        ({"x": np.ones((30, 2, 2)), "y": np.arange(30)}, ["(30, 2, 2)", "reshape"]),
        ({"x": np.ones(30), "y": np.arange(30)}, ["(30,)"]),
        ({"x": np.ones((30, 2)), "y": np.arange(29)}, ["(29,)", "30 rows"]),
        ({"x": np.ones((30, 2)), "y": np.ones((30, 2))}, ["(30, 2)"]),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, ["no data"]),
        ({"x": np.ones((30, 2), dtype=complex), "y": np.arange(30)}, ["complex128"]),
        ({"x": np.full((30, 2), "a"), "y": np.arange(30)}, ["not numbers"]),
        ({"x": np.zeros((30, 2), dtype="M8[D]"), "y": np.arange(30)}, ["datetime64"]),
        ({"x": np.ones((30, 2)), "y": np.array([1.0, np.nan] * 15)}, ["15 rows have no value", "data row 2"]),
        ({"x": np.full((30, 2), np.inf), "y": np.arange(30) % 2}, ["'x0'", "infinite"]),
        ({"x": np.ones((30, 2)), "y": np.array([b"a", b"\xff"] * 15)}, ["not UTF-8"]),
    ],
)
def test_an_npz_that_cannot_be_used_says_why(tmp_path, arrays, words):
    np.savez(tmp_path / "data.npz", **arrays)
    message = refused(tmp_path / "data.npz", None)
    assert "data.npz" in message
    for word in words:
        assert word in message


def test_a_pickle_in_an_npz_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    bombs = np.array([Bomb()] * 30, dtype=object)
    np.savez(tmp_path / "data.npz", x=np.ones((30, 2)), y=bombs)
    refused(tmp_path / "data.npz", None)
    with zipfile.ZipFile(tmp_path / "data.npz") as archive:
        pickled = archive.read("y.npy")
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.zeros(30))
    header = stream.getvalue()[:128]  # says float64; the bytes after it are the pickle
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("y.npy", header + pickled[128:])
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.ones((30, 2)))
        archive.writestr("x.npy", stream.getvalue())
    refused(tmp_path / "data.npz", None)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["data.npz", "data.parquet"])
@pytest.mark.parametrize("content", [b"", b"nothing of that kind", b"PK\x03\x04" + b"\0" * 100, b"PAR1" + b"\0" * 100])
def test_bytes_of_another_kind_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read" in refused(tmp_path / name) or "can be read" in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([[1, 2]] * 60), ["'it'", "list"]),
        (pa.array([{"a": 1}] * 60), ["'it'", "struct"]),
        (pa.array([b"a"] * 60), ["'it'", "binary"]),
        (pa.array([1_700_000_000] * 60, pa.timestamp("s")), ["'it'", "dates or times"]),
        (pa.array([5] * 60, pa.duration("s")), ["'it'", "dates or times"]),
    ],
)
def test_parquet_columns_of_other_types_are_refused(tmp_path, column, words):
    table = pa.table({"it": column, "kind": ["a", "b"] * 30})
    pq.write_table(table, tmp_path / "data.parquet")
    message = refused(tmp_path / "data.parquet")
    for word in words:
        assert word in message


def test_a_file_far_larger_than_memory_is_refused_unread_with_both_numbers(tmp_path):
    path = csv(tmp_path, GOOD)
    os.truncate(path, 10**13)  # a hole: the file takes no space on the disk
    message = refused(path)
    assert "needs about" in message
    assert "are free" in message
    assert "GB" in message
    assert estimate(DatasetSpec(path=str(path), target="kind")).bytes > 10**13


def test_an_npz_header_that_claims_more_than_memory_is_refused_unread(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**11, 3)})
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**11,)})
        archive.writestr("y.npy", header.getvalue())
    assert "needs about" in refused(tmp_path / "data.npz", None)


def test_a_small_parquet_of_enormous_repeated_texts_costs_no_memory(tmp_path):
    """200,000 copies of one text of 100,000 characters would be 20 GB when written out."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.arange(200_000) % 2, pa.int32()), ["x" * 100_000, "y"])
    table = pa.table({"blob": texts, "size": np.arange(200_000.0), "kind": ["a", "b"] * 100_000})
    pq.write_table(table, tmp_path / "data.parquet")
    data = load_dataset(DatasetSpec(path=str(tmp_path / "data.parquet"), target="kind"), SplitSpec(), "standard")
    assert data.feature_names == ("size",)
    assert "1,000 characters" in data.warnings[0]


def attempt(path: Path, target: str) -> None:
    """Load, and let nothing but a refusal in one printable line out."""
    message = ""
    try:
        data = load_dataset(DatasetSpec(path=str(path), target=target), SplitSpec(), "standard")
    except SpecError as error:
        message = str(error)
    else:
        assert np.isfinite(data.x_train).all()
        np.testing.assert_allclose(data.recipe.transform(data.raw_test), data.x_test[:5], rtol=1e-4, atol=1e-4)
    assert message == "" or message.isprintable()


FUZZ = settings(
    max_examples=150 * FUZZ_FACTOR, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CELLS = st.one_of(
    st.sampled_from(["", "1", "2.5", "-3e5", "1e308", "inf", "nan", "true", "x", '"', "a,b", "2020-01-01", "?", "0x1"]),
    st.text(max_size=6),
    st.integers().map(str),
    st.floats().map(str),
)


@FUZZ
@given(st.lists(st.text(max_size=8), min_size=1, max_size=5), st.data())
def test_any_names_and_cells_load_or_are_refused(tmp_path, names, data):
    columns = [*names, "kind"]
    cells = data.draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=12))
    rows = [[*row, "ab"[i % 2]] for i, row in enumerate(cells * 4)]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "data.csv", index=False)
    attempt(tmp_path / "data.csv", "kind")


@FUZZ
@given(st.text(alphabet='ab1,;\t|"\n\r.- \ufeff\0é', max_size=200))
def test_any_text_loads_or_is_refused(tmp_path, text):
    attempt(csv(tmp_path, "a,kind\n" + text), "kind")
    attempt(csv(tmp_path, text), "a")


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_load_or_are_refused(tmp_path, content):
    for name in ("data.csv", "data.npz", "data.parquet"):
        (tmp_path / name).write_bytes(content)
        attempt(tmp_path / name, "kind")


@FUZZ
@given(st.data())
@pytest.mark.parametrize("suffix", ["csv", "npz", "parquet"])
def test_a_damaged_file_loads_or_is_refused(tmp_path, suffix, data):
    path = tmp_path / f"data.{suffix}"
    frame = pd.DataFrame({"size": np.arange(60) % 7, "name": ["p", "q", None] * 20, "kind": ["a", "b"] * 30})
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path, index=False)
    else:
        np.savez(path, x=frame[["size"]].to_numpy(), kind=frame["kind"].to_numpy().astype("U1"))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    attempt(path, "kind")
