"""Sweeps that are judged by metrics which training does not measure by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

import sweeper
from sweeper.data.loading import load
from sweeper.models import build_mlp
from sweeper.spec.parse import load_spec
from sweeper.training.again import train_again

OWN = """\
def missed(y_true, y_pred):
    return ((y_true == "malignant") & (y_pred == "benign")).sum()

def right(y_true, y_pred):
    return (y_true == y_pred).mean()

def proud(y_true, y_pred):
    if (y_true == y_pred).mean() > 0.9:
        raise ValueError("too good")
    return 0
"""
SPACE: dict[str, Any] = {"learning_rate": {"float": [1e-4, 1e-1], "log": True}, "hidden_layers": [8]}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def sweep(own: Path, **sections: Any) -> dict[str, Any]:
    search = {"trials": 6, "seed": 1, **sections.pop("search", {})}
    training = {"epochs": 3, **sections.pop("training", {})}
    return {"dataset": {"name": "breast_cancer"}, "space": SPACE, "training": training, "search": search, **sections}


def test_a_sweep_maximises_a_metric_and_shows_ones_own_and_the_finals_judge_by_its_twin(own: Path) -> None:
    spec = sweep(
        own,
        metrics=[f"{own}:missed"],
        objective={"metric": "val_roc_auc"},
        constraints=["val_missed <= 100"],
        finals={"top": 2, "seeds": 2},
    )

    result = sweeper.run(spec, workers="inline")

    read = load_spec(spec)
    data, best = load(read), result.best
    assert best is not None
    network = build_mlp(read.trial_config(best["params"]), data.n_inputs, data.n_outputs, seed=0)
    network.load_state_dict(train_again(read, data, best["params"], 1)[0].state_dict)
    with torch.no_grad():
        p = torch.softmax(network(torch.tensor(data.x_val)).double(), dim=1).numpy()
    assert best["value"] == pytest.approx(sk.roc_auc_score(data.y_val, p[:, 1]), abs=1e-6)
    assert best["value"] == max(result.trials["value"])
    labels = np.array(data.class_labels)
    missed = ((labels[data.y_val] == "malignant") & (labels[p.argmax(axis=1)] == "benign")).sum()
    assert best["metrics"]["val_missed"] == missed
    assert result.summary["finals"]["metric"] == "test_roc_auc"
    assert set(result.summary["finals"]["standings"][0]["metrics"]) >= {"test_missed", "test_loss", "test_accuracy"}
    assert result.summary["baselines"]["metric"] == "roc_auc"


def test_a_trial_whose_metric_cannot_be_computed_fails_with_file_and_line_and_the_others_go_on(own: Path) -> None:
    result = sweeper.run(sweep(own, metrics=[f"{own}:proud"], training={"replicates": 2}), workers="inline")

    reasons = result.trials.set_index("state")["reason"]
    assert set(result.trials["state"]) == {"complete", "failed"}
    assert set(reasons["failed"]) == {"own.py, line 9: ValueError: too good"}
    assert (result.trials.query("state == 'failed'")["epochs"] < 3).all()


def test_ones_own_metric_as_the_objective_judges_finals_and_baselines_and_depends_on_no_luck(own: Path) -> None:
    objective = {"metric": "val_right", "direction": "maximize"}
    spec = sweep(own, metrics=[f"{own}:right"], objective=objective, finals={"top": 2, "seeds": 3})
    spec["training"]["replicates"], spec["search"]["pruner"] = 2, "median"

    results = [sweeper.run(spec, workers="inline") for _ in range(2)]

    first, again = (result.trials for result in results)
    ignored = ["mlflow_run_id", "seconds"]
    assert first.drop(columns=ignored).to_json() == again.drop(columns=ignored).to_json()
    summary = results[0].summary
    assert summary["finals"]["metric"] == "test_right"
    for row in summary["finals"]["standings"]:
        assert row["mean"] == pytest.approx(row["metrics"]["test_accuracy"]["mean"])
        assert row["low"] < row["mean"] < row["high"]
    assert summary["test"]["right"] == pytest.approx(summary["test"]["accuracy"])
    assert "right" in summary["test_intervals"]
    assert (summary["baselines"]["metric"], summary["baselines"]["maximize"]) == ("right", True)
    assert summary["baselines"]["rows"][1]["test"]["right"] == summary["baselines"]["rows"][1]["test"]["accuracy"]
    assert {"complete"} <= set(first["state"])
