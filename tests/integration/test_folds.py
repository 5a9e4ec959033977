"""Cross-validation through the whole system: every fold as plain PyTorch trains it, and one winner of all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import sweeper
from sweeper.data.dataset import Dataset
from sweeper.data.loading import load
from sweeper.models import build_mlp, train_solo
from sweeper.spec.parse import SweepSpec, load_spec
from tests.faults import Site

FOLDS, REPLICATES = 3, 2
SPEC: dict[str, Any] = {
    "name": "folds",
    "space": {
        "learning_rate": {"float": [1e-3, 1e-1], "log": True},
        "optimizer": {"choice": ["momentum", "adam"]},
        "hidden_layers": {"choice": [[8], []]},
    },
    "split": {"folds": FOLDS, "group": "who"},
    "training": {"epochs": 3, "replicates": REPLICATES, "batch_size": 16},
    "search": {"trials": 6, "seed": 3, "sampler": "random"},
    "finals": {"top": 2, "seeds": 2},
    "winner": "folds",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": random.normal(size=240).round(4),
            "city": random.choice(["Bonn", "Köln", None], 240),
            "who": random.integers(0, 40, 240),
        }
    )
    frame["kind"] = np.where(frame["size"] + (frame["city"] == "Bonn") + random.normal(0, 0.5, 240) > 0.4, "a", "b")
    frame.loc[::11, "size"] = np.nan
    return frame


@pytest.fixture(scope="module")
def source(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("data") / "visits.csv"
    table.to_csv(path, index=False)
    return {**SPEC, "dataset": {"path": str(path), "target": "kind"}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def result(home: Path, source: dict[str, Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(home))
        for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield sweeper.run(source, workers="inline")


@pytest.fixture(scope="module")
def spec(source: dict[str, Any]) -> SweepSpec:
    return load_spec(source)


@pytest.fixture(scope="module")
def data(spec: SweepSpec) -> Dataset:
    return load(spec)


def trials_of(home: Path, sweep: str) -> list[dict[str, Any]]:
    return Site(home).trials(sweep)


def solo(spec: SweepSpec, data: Dataset, params: dict[str, Any], fold: int, seed: int) -> Any:
    config, train = spec.trial_config(params), spec.train_config(data.task, params)
    return train_solo(config, train, data.folds[fold].tensors(), seed)


def test_a_trials_folds_are_those_of_plain_training_and_its_value_is_their_mean(result, home, spec, data):
    trials = trials_of(home, result.sweep)
    assert [trial["state"] for trial in trials] == ["complete"] * 6
    for trial in trials[:3]:
        losses = [
            np.mean([min(solo(spec, data, trial["params"], fold, 3 + r).val_loss) for r in range(REPLICATES)])
            for fold in range(FOLDS)
        ]
        assert trial["folds"] == pytest.approx(losses, rel=1e-4)
        assert trial["value"] == pytest.approx(np.mean(losses), rel=1e-4)


def averaged(spec: SweepSpec, data: Dataset, params: dict[str, Any], seed: int, rows: pd.DataFrame) -> np.ndarray:
    """The reference: k plain networks, each behind its own preprocessing, and the mean of their logits."""
    logits = []
    for number, fold in enumerate(data.folds):
        network = build_mlp(spec.trial_config(params), data.n_inputs, data.n_outputs, seed=0)
        network.load_state_dict(solo(spec, data, params, number, seed).state_dict)
        with torch.no_grad():
            logits.append(network(torch.tensor(fold.recipe.transform(rows))))
    return torch.softmax(torch.stack(logits).mean(0), dim=1).numpy()


def test_the_winner_in_mlflow_predicts_raw_rows_with_the_mean_of_its_networks(result, spec, data, table):
    import mlflow

    mlflow.set_tracking_uri(result.summary["mlflow"]["tracking_uri"])
    rows = table.drop(columns=["who", "kind"]).head(40).assign(city=lambda f: f["city"].fillna("Atlantis"))
    made = mlflow.pyfunc.load_model(f"runs:/{result.summary['mlflow']['run_id']}/model").predict(rows)
    assert list(made.columns) == ["a", "b"]
    best = result.best
    np.testing.assert_allclose(made.to_numpy(), averaged(spec, data, best["params"], 3, rows), atol=1e-4)
    outcome = result.summary["baselines"]
    assert [row["problem"] for row in outcome["rows"]] == ["", "", ""]
    chances = averaged(spec, data, best["params"], 3, table.iloc[data.test_rows])
    right = chances.argmax(1) == data.y_test
    assert result.summary["test"]["accuracy"] == pytest.approx(right.mean())
    assert {row["trial"] for row in result.summary["finals"]["standings"]} >= {best["trial"]}


def test_the_exported_folder_predicts_the_same_without_this_program(result, home, spec, data, table, tmp_path):
    done = Site(home).run("export", result.sweep, "--model", str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"predict.py", "weights.safetensors", "preprocessing.json", "model_card.md", "retrain.py"} <= files
    card = (tmp_path / "model" / "model_card.md").read_text()
    assert "mean of 3 networks" in card
    assert "No group of who has rows in two splits." in card
    rows = table.drop(columns=["who", "kind"]).head(30)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    answer = subprocess.run(
        [sys.executable, str(tmp_path / "model" / "predict.py"), str(tmp_path / "rows.csv")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split(",") for line in answer.stdout.splitlines()[1:]]
    wanted = averaged(spec, data, result.best["params"], 3, rows)
    np.testing.assert_allclose(np.array([line[1:] for line in lines], dtype=float), wanted, atol=1e-4)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    texts = {i.name: "string" in i.type for i in session.get_inputs()}
    columns = {
        name: rows[[name]].fillna("").astype(str).to_numpy(object) if text else rows[[name]].to_numpy(float)
        for name, text in texts.items()
    }
    np.testing.assert_allclose(session.run(None, columns)[1], wanted, atol=1e-4)


def test_a_sweep_that_is_killed_comes_to_the_same_folds(result, home, source, tmp_path):
    wanted = trials_of(home, result.sweep)
    site = Site(tmp_path / "killed", patches=("sweeper.running.run.LEG_SECONDS = 0.01",))
    (tmp_path / "sweep.json").write_text(json.dumps(source))
    try:
        process = site.start("run", str(tmp_path / "sweep.json"), "--workers", "inline")
        site.wait_for_trials("folds", 1, process)
        site.kill(process)
        process.wait()
        again = site.answer("resume", "folds", "--workers", "inline")
        assert again["complete"] == 6
        for trial, same in zip(site.trials("folds"), wanted, strict=True):
            assert (trial["params"], trial["state"]) == (same["params"], same["state"])
            assert trial["folds"] == pytest.approx(same["folds"], rel=1e-6)
            assert len(trial["folds"]) == FOLDS
        assert again["test"] == pytest.approx(result.summary["test"], rel=1e-4)
    finally:
        site.close()


def test_pruners_see_the_mean_over_folds(home, source, monkeypatch):
    monkeypatch.setenv("SWEEPER_HOME", str(home))
    search = {"trials": 12, "seed": 3, "sampler": "random", "pruner": "asha"}
    pruned = sweeper.run(
        {**source, "name": "pruned", "search": search, "finals": None, "training": {"epochs": 8}}, workers="inline"
    )
    trials = trials_of(home, pruned.sweep)
    assert {trial["state"] for trial in trials} == {"complete", "pruned"}
    assert all(bool(trial["folds"]) == (trial["state"] == "complete") for trial in trials)


def test_a_refitted_winner_is_plain_training_on_the_rows_of_all_folds(home, source, data, table, tmp_path, monkeypatch):
    import mlflow

    from sweeper.models import Data

    monkeypatch.setenv("SWEEPER_HOME", str(home))
    wanted = {**source, "name": "refit", "winner": "refit", "finals": None}
    result = sweeper.run({**wanted, "training": {**SPEC["training"], "replicates": 1, "epochs": 6}}, workers="inline")
    spec, best = result.spec, result.best
    rows = data.tensors()
    epochs = round(best["metrics"]["best_epoch"])
    train = spec.train_config(data.task, best["params"])
    train = type(train)(epochs=epochs, batch_size=train.batch_size, clip_norm=train.clip_norm, plateau=train.plateau)
    whole = Data(rows.x_train, rows.y_train, rows.x_train, rows.y_train)
    history = train_solo(spec.trial_config(best["params"]), train, whole, 3)
    network = build_mlp(spec.trial_config(best["params"]), data.n_inputs, data.n_outputs, seed=0)
    network.load_state_dict(history.state_dict)
    raw = table.drop(columns=["who", "kind"]).head(40)
    with torch.no_grad():
        chances = torch.softmax(network(torch.tensor(data.recipe.transform(raw))), dim=1).numpy()
        right = network(torch.tensor(data.x_test)).argmax(1).numpy() == data.y_test
    mlflow.set_tracking_uri(result.summary["mlflow"]["tracking_uri"])
    made = mlflow.pyfunc.load_model(f"runs:/{result.summary['mlflow']['run_id']}/model").predict(raw)
    np.testing.assert_allclose(made.to_numpy(), chances, atol=1e-4)
    assert result.summary["test"]["accuracy"] == pytest.approx(right.mean())
    done = Site(home).run("export", result.sweep, "--model", str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    raw.to_csv(tmp_path / "rows.csv", index=False)
    program = [sys.executable, str(tmp_path / "model" / "predict.py"), str(tmp_path / "rows.csv")]
    lines = subprocess.run(program, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert lines.count("\n") >= 40
    assert "mean of 3 networks" not in (tmp_path / "model" / "model_card.md").read_text()
