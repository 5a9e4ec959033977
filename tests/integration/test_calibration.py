"""A winner that is too sure of itself: its temperature is told, and part of the model wherever it goes."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import log_loss

import sweeper
from sweeper.data.loading import load
from sweeper.export.writing import to_model
from sweeper.ledger.opening import open_ledger
from sweeper.spec.parse import load_spec
from sweeper.training.again import network_of, train_again, weights_of


def test_a_winner_chosen_for_its_accuracy_is_calibrated_in_mlflow_its_folder_and_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    source = {
        "dataset": {"name": "digits"},
        "space": {"learning_rate": 0.3, "optimizer": "momentum", "momentum": 0.9, "hidden_layers": [24]},
        "training": {"epochs": 25, "keep": "last", "plateau": None},
        "search": {"trials": 1, "seed": 1},
        "objective": {"metric": "val_accuracy"},
    }
    result = sweeper.run(source, workers="inline")
    found, spec = result.summary["calibration"], load_spec(source)
    data, params = load(spec), result.best["params"]
    network = network_of(spec, data, params, weights_of(train_again(spec, data, params, 1)))
    with torch.no_grad():
        logits = network(torch.tensor(data.x_test)).double().numpy()
    chances = softmax(logits / found["temperature"], axis=1)
    assert found["temperature"] > 1
    lost = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(data.y_test)).item()
    assert found["test_before"]["loss"] == pytest.approx(lost, rel=1e-4)
    assert found["test_after"]["loss"] == pytest.approx(log_loss(data.y_test, chances), rel=1e-4)
    assert result.summary["test"]["loss"] == pytest.approx(found["test_after"]["loss"], rel=1e-6)
    assert found["validation_after"]["loss"] < found["validation_before"]["loss"]
    assert found["sentence"] in next(tmp_path.glob("sweeps/*/report.html")).read_text()

    place, rows = result.summary["mlflow"], data.raw_test.head(3)
    mlflow.set_tracking_uri(place["tracking_uri"])
    made = mlflow.pyfunc.load_model(f"runs:/{place['run_id']}/model").predict(rows)
    np.testing.assert_allclose(made.to_numpy(), chances[:3], atol=1e-4)
    assert mlflow.get_run(place["run_id"]).data.metrics["winner_temperature"] == pytest.approx(found["temperature"])
    ledger = open_ledger(None, tmp_path)
    to_model(ledger, result.sweep, str(tmp_path / "model"))
    ledger.close()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    program = [sys.executable, str(tmp_path / "model" / "predict.py"), str(tmp_path / "rows.csv")]
    lines = list(csv.reader(io.StringIO(subprocess.run(program, capture_output=True, text=True, check=True).stdout)))
    np.testing.assert_allclose(np.array([line[1:] for line in lines[1:]], dtype=float), chances[:3], atol=1e-4)
    assert found["sentence"] in (tmp_path / "model" / "model_card.md").read_text()
