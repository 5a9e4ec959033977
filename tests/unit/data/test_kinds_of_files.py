"""Packed tables, tabs, folders of part files, Feather, and what stands around a table of text."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from sweeper.data.dataset import Dataset, estimate, load_dataset
from sweeper.errors import SpecError
from sweeper.spec.parse import DatasetSpec, SplitSpec, load_spec

FRAME = pd.DataFrame(
    {"a": np.random.default_rng(0).normal(size=60).round(2), "b": np.arange(60) % 9, "kind": ["p", "q", "q"] * 20}
)
TEXT = FRAME.to_csv(index=False)
ROWS = TEXT.split("\n", 1)[1]


def load(path: Path, target: str = "kind") -> Dataset:
    spec = load_spec({"dataset": {"path": str(path), "target": target}})
    return load_dataset(spec.dataset, SplitSpec(), "none")


def put(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return path


def folder(path: Path, frames: list[pd.DataFrame]) -> Path:
    path.mkdir()
    for i, frame in enumerate(frames):
        frame.to_parquet(path / f"part-{i}.snappy.parquet")
    for name in ("_SUCCESS", ".part-0.snappy.parquet.crc"):
        (path / name).touch()
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda d: put(d / "t.csv.gz", gzip.compress(TEXT.encode())),
        lambda d: put(d / "t.csv.bz2", bz2.compress(TEXT.encode())),
        lambda d: put(d / "t.csv.xz", lzma.compress(TEXT.encode())),
        lambda d: zipped(d / "t.csv.zip", "inside.csv"),
        lambda d: put(d / "t.tsv", TEXT.replace(",", "\t")),
        lambda d: put(d / "t.tsv.gz", gzip.compress(TEXT.replace(",", "\t").encode())),
        lambda d: folder(d / "t.parquet", [FRAME[:30], FRAME[30:]]),
        lambda d: folder(d / "t", [FRAME[:30], FRAME[30:]]),
        lambda d: feather.write_feather(FRAME, d / "t.feather") or d / "t.feather",
        lambda d: put(d / "t.csv", "sep=;\r\n" + TEXT.replace(",", ";")),
        lambda d: put(d / "t.csv", "\ufeffsep=,\n" + TEXT),
        lambda d: put(d / "t.csv", TEXT.replace("\n", "\r")),
    ],
)
def test_a_table_is_the_same_in_every_kind_of_file(tmp_path, make):
    path = make(tmp_path)
    data, plain = load(path), load(put(tmp_path / "plain.csv", TEXT))
    np.testing.assert_array_equal(data.x_train, plain.x_train)
    assert (data.name, data.feature_names, data.warnings) == ("t", ("a", "b"), ())
    assert estimate(DatasetSpec(path=str(path), target="kind")).rows == pytest.approx(60, abs=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# made by a program\n# on, some, day\n\n" + TEXT, ["2 lines of comments", "'# made by a program' first"]),
        ("// one\r\n% two\r\n" + TEXT.replace("\n", "\r\n"), ["2 lines of comments"]),
        (TEXT + ",,\n,,\n,,\n", ["3 wholly empty rows at the end left out"]),
        ("a,b,kind,,\n" + ROWS.replace("\n", ",,\n"), ["2 columns left out, without any value"]),
        ("a,b,kind\n" + ROWS.replace("\n", ",\n"), ["a separator too many", "without any value: 'column 4'"]),
        (
            "a,b,kind\n" + "".join(f"row{i},{row}\n" for i, row in enumerate(ROWS.split())),
            ["the first is taken for its name", "identifier"],
        ),
    ],
)
def test_what_stands_around_a_table_is_left_out_and_said(tmp_path, text, words):
    data = load(put(tmp_path / "t.csv", text))
    np.testing.assert_array_equal(data.x_train, load(put(tmp_path / "plain.csv", TEXT)).x_train)
    for word in words:
        assert any(word in warning for warning in data.warnings)


@pytest.mark.parametrize("text", ["#" + TEXT, "#a,b,kind\n" + "1,x,p\n2,y,q\n" * 30])
def test_a_line_of_names_may_begin_like_a_comment(tmp_path, text):
    assert [column.name for column in load(put(tmp_path / "t.csv", text)).raw_columns] == ["#a", "b"]


ADULT = "39, State-gov, 77516, <=50K\n50, Private, 83311, >50K\n38, State-gov, 21564, <=50K\n" * 20
MUSHROOMS = "p,x,s,n\ne,x,y,n\np,b,s,w\n" * 20


@pytest.mark.parametrize(("text", "target"), [(ROWS, 3), (ADULT, 4), (MUSHROOMS, 1), ("5,0,0\n0,0,7\n4,9,0\n" * 20, 1)])
def test_a_file_without_a_line_of_names_is_recognised(tmp_path, text, target):
    path = put(tmp_path / "t.csv", text)
    data = load(path, f"column {target}")
    assert data.n_train + len(data.y_val) + len(data.y_test) == text.count("\n")
    assert "The first line holds values" in data.warnings[0]
    with pytest.raises(SpecError, match=r"first line seems to hold values.*first line of column names.*'column"):
        load(path, "kind")


@pytest.mark.parametrize(
    ("names", "target"), [("2019,2020,2021", "2021"), ("0,1,2", "2"), ("country,2000,2005", "2005"), ("x,y,z", "z")]
)
def test_names_that_are_numbers_are_names(tmp_path, names, target):
    random = np.random.default_rng(0)
    first = [f"c{i}" if "country" in names else f"{random.normal():.2f}" for i in range(40)]
    rows = "".join(f"{cell},{random.normal():.2f},{i % 2}\n" for i, cell in enumerate(first))
    data = load(put(tmp_path / "t.csv", f"{names}\n{rows}"), target)
    assert [column.name for column in data.raw_columns][-1] == names.split(",")[1]


def test_folders_named_key_value_are_columns(tmp_path):
    table = pa.Table.from_pandas(FRAME.assign(year=2020 + FRAME["b"] % 2, site=FRAME["kind"].map({"p": "n", "q": "s"})))
    pq.write_to_dataset(table, tmp_path / "t", partition_cols=["year", "site"])
    data = load(tmp_path / "t")
    assert data.feature_names == ("a", "b", "year", "site=n", "site=s")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda d: put(d / "t.csv.gz", gzip.compress(TEXT.encode())[:100]),
            ["t.csv.gz", "cannot be unpacked", "ended"],
        ),
        (lambda d: put(d / "t.csv.gz", TEXT), ["cannot be unpacked", "Not a gzipped file"]),
        (lambda d: put(d / "t.csv.xz", TEXT), ["cannot be unpacked"]),
        (lambda d: put(d / "t.csv.zip", TEXT), ["cannot be unpacked"]),
        (lambda d: zipped(d / "t.csv.zip", "a.csv", "b.csv"), ["it holds 'a.csv', 'b.csv'", "alone"]),
        (lambda d: put(d / "t.csv.gz", gzip.compress((TEXT + "1,2\n").encode())), ["line 62 has 2 values"]),
        (lambda d: put(d / "t.csv", "# one\n# two\n" + TEXT + "1,2\n"), ["line 64 has 2 values"]),
        (lambda d: put(d / "t.feather", TEXT), ["cannot be read as Feather"]),
        (lambda d: folder(d / "t", []), ["holds no Parquet file"]),
        (lambda d: folder(d / "t", [FRAME, FRAME.rename(columns={"a": "z"})]), ["part-1", "'a', 'z' in it is not as"]),
        (lambda d: folder(d / "t", [FRAME, FRAME.astype({"b": float})]), ["part-1", "'b'", "same types"]),
        (lambda d: put(d / "t", TEXT), ["'t' is not a data file", ".csv, .tsv"]),
        (lambda d: d / "t", ["there is no file"]),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, make, words):
    with pytest.raises(SpecError) as caught:
        load(make(tmp_path))
    for word in words:
        assert word in str(caught.value)
