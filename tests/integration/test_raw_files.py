"""A table handed over in Python trains, resumes from the home folder, and predicts from every kind of raw file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

import sweeper
from sweeper.data.loading import load_same
from sweeper.errors import SpecError
from sweeper.export.writing import to_model
from sweeper.ledger.opening import open_home_ledger
from sweeper.settings import Settings

RANDOM = np.random.default_rng(0)
PRICES = RANDOM.uniform(1, 3000, 90).round(2)
SMALL = {"trials": 2, "workers": "inline", "training": {"epochs": 2}}


def euros(value: float) -> str:
    return "€ " + f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def frame() -> pd.DataFrame:
    shares = [f"{share:.1f}%" for share in RANDOM.uniform(0, 100, 90)]
    columns = {
        "price": [euros(price) for price in PRICES],
        "share": shares,
        "code": [f"{i % 5:03d}" for i in range(90)],
    }
    table = pd.DataFrame({**columns, "sold": ["yes", "no", "no"] * 30})
    table.loc[::7, "price"] = "-"
    return table


def predicted(model: Path, rows: Path) -> pd.DataFrame:
    command = [sys.executable, "-I", str(model / "predict.py"), str(rows)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(io.StringIO(done.stdout))


def test_a_table_trains_and_its_model_reads_every_kind_of_file_as_the_sweep_did(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path / "home"))
    raw = frame()
    result = sweeper.run(data=raw, target="sold", **SMALL)
    assert result.record.state.name == "COMPLETE"
    assert "'price' holds texts that are read as numbers in €" in result.summary["data"]["warnings"][0]
    assert result.summary["data"]["task"] == "classification"
    assert "read as numbers in €" in (tmp_path / "home" / "sweeps" / result.sweep / "report.html").read_text()
    ledger = open_home_ledger(Settings.from_env())
    dataset = load_same(ledger.sweep(result.sweep), result.spec)  # as resume does
    assert dataset.feature_names == ("price", "share", *(f"code={i:03d}" for i in range(5)))

    model = tmp_path / "model"
    to_model(ledger, result.sweep, str(model))
    text = raw.to_csv(index=False, sep=";")
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(("sep=;\r\n" + text + ";;;\n").encode("utf-8-sig")))
    raw.to_parquet(tmp_path / "rows.parquet")
    raw.to_feather(tmp_path / "rows.feather")
    made = predicted(model, tmp_path / "rows.csv.gz")
    for name in ("rows.parquet", "rows.feather"):
        pd.testing.assert_frame_equal(predicted(model, tmp_path / name), made)
    assert len(made) == 90
    folder = next((tmp_path / "home" / "mlartifacts").rglob("MLmodel")).parent
    served = mlflow.pyfunc.load_model(str(folder)).predict(raw)
    np.testing.assert_allclose(made.iloc[:, 1:], served, rtol=1e-4, atol=1e-6)

    raw.to_csv(model / "ROWS.csv", index=False)
    [example] = re.findall(r"```python\n(.*?)```", (model / "model_card.md").read_text(encoding="utf-8"), re.DOTALL)
    show = "\nprint(json.dumps(made[1].tolist()))"
    done = subprocess.run(
        [sys.executable, "-c", example + show], check=False, capture_output=True, text=True, cwd=model, timeout=120
    )
    np.testing.assert_allclose(json.loads(done.stdout), served, rtol=1e-4, atol=1e-6)

    bad = raw.assign(share="many")
    with (tmp_path / "bad.csv").open("w", newline="") as file:
        csv.writer(file).writerows([bad.columns, *bad.to_numpy().tolist()])
    command = [sys.executable, str(model / "predict.py"), str(tmp_path / "bad.csv")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "column 'share', data row 1: 'many' is not a number in %" in done.stderr


@pytest.mark.parametrize(
    "data", [None, [1, 2], (np.zeros(5), [1] * 5), (np.zeros((5, 2)), [1] * 4), ({}, 1), (1, 2, 3)]
)
def test_what_is_no_table_is_refused_before_anything_starts(tmp_path, monkeypatch, data):
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path / "home"))
    with pytest.raises(SpecError):
        sweeper.run(data=data, **SMALL)
    assert not (tmp_path / "home" / "ledger.db").exists()
