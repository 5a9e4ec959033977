"""The script that trains an exported winner again says in plain PyTorch what this project trained."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sweeper.data.loading import load
from sweeper.export.model_folder import model_files
from sweeper.export.retraining import train_winner
from sweeper.ledger.memory import MemoryLedger
from sweeper.models import ACTIVATIONS, INITIALIZATIONS, OPTIMIZERS, History, train_solo
from sweeper.records import TrialRecord
from sweeper.spec.phases import Phase, attributes_of
from sweeper.states import TrialState
from tests.ended_sweeps import new_sweep, spec_of

CASES: list[dict[str, Any]] = [
    {
        "activation": activation,
        "optimizer": OPTIMIZERS[i % len(OPTIMIZERS)],
        "initialization": INITIALIZATIONS[i % len(INITIALIZATIONS)],
        "hidden_layers": ([8], [6, 5], [])[i % 3],
        "weight_decay": 1e-3 * (i % 2),
    }
    for i, activation in enumerate(ACTIVATIONS)
]
CASES += [
    {"optimizer": "momentum", "momentum": 0.8, "nesterov": True, "batch_size": "full"},
    {"optimizer": "momentum", "momentum": 0.0, "nesterov": True, "depth": 2, "width": 4},
    {"optimizer": "nadam", "schedule": "cosine", "warmup_epochs": 1.5, "label_smoothing": 0.1, "ema_decay": 0.9},
    {"optimizer": "adagrad", "schedule": "one_cycle", "hidden_layers": [6]},
    {"schedule": "coslog4", "shape": "funnel", "depth": 3, "width": 6},
    {"schedule": "plateau", "warmup_epochs": 1, "ema_decay": 0.5, "dropout": 0.2, "hidden_layers": [6]},
    {"dropout": 0.4, "hidden_layers": [8, 5], "activation": "gelu"},
    {"dropout": 0.2, "normalization": "layer", "hidden_layers": [8, 5]},
    {"normalization": "batch", "hidden_layers": []},
    {"optimizer": "lion", "beta2": 0.99, "weight_decay": 0.1, "hidden_layers": [6], "learning_rate": 0.001},
    {"normalization": "batch", "residual": True, "hidden_layers": [6, 6], "dropout": 0.2, "ema_decay": 0.5},
    {"normalization": "batch", "parametrization": "ntk", "hidden_layers": [6, 4], "weight_decay": 0.01},
    {"residual": True, "hidden_layers": [6, 6], "optimizer": "adamw"},
    {"numeric_embedding": "plr", "frequencies": 3, "embedding_size": 4, "dropout": 0.2, "hidden_layers": [6]},
    {"numeric_embedding": "pbld", "frequencies": 3, "embedding_size": 2, "frequency_scale": 0.3, "schedule": "cosine"},
    {"optimizer": "adamw", "beta1": 0.8, "beta2": 0.99, "clip_norm": 0.1, "batch_size": 7},
]


def exported(
    params: dict[str, Any], folder: Path, seed: int = 0, attributes: dict[str, Any] | None = None, **sections: Any
) -> tuple[float, History]:
    """Write the folder of a trial and return its validation loss, and what the plain run of it comes to."""
    sections.setdefault("training", {"epochs": 4, "batch_size": 16, "plateau": {"patience": 0, "threshold": 0.5}})
    spec = spec_of(**sections)
    ledger = MemoryLedger()
    record = new_sweep(ledger, spec)
    dataset = load(spec)
    params = {"learning_rate": 0.01, **params}
    trial = TrialRecord(0, TrialState.COMPLETE, params=params, seed=seed, value=1.0, attributes=attributes or {})
    winner = train_winner(spec, dataset, trial)
    assert winner.other == (0,)
    assert train_winner(spec, dataset, replace(trial, value=winner.validation["val_loss"])).other == ()
    for name, content in model_files(record, spec, dataset, winner).items():
        (folder / name).write_bytes(content)
    return winner.validation["val_loss"], train_solo(winner.config, winner.train, dataset.tensors(), seed)


def retrained(folder: Path, capsys: pytest.CaptureFixture[str]) -> float:
    runpy.run_path(str(folder / "retrain.py"))
    [loss] = re.findall(r"^val_loss (\S+)", capsys.readouterr().out, re.MULTILINE)
    return float(loss)


def test_the_schedule_of_a_members_row_is_told_by_the_card_and_followed_by_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"learning_rate": 0.1, "optimizer": "adam", "hidden_layers": [6]}
    last = {**first, "learning_rate": 0.02}
    attributes = attributes_of((), (Phase(0, first), Phase(2, last, 3)))
    loss, plain = exported(last, tmp_path, attributes=attributes)
    assert retrained(tmp_path, capsys) == pytest.approx(loss, rel=1e-5)
    assert loss != pytest.approx(plain.val_loss, rel=1e-3)
    card = (tmp_path / "model_card.md").read_text()
    assert "\n- from epoch 1: learning_rate=0.1," in card
    assert "\n- from epoch 3: a copy of trial 3, learning_rate=0.02\n" in card


@pytest.mark.parametrize("params", CASES, ids=lambda params: "-".join(map(str, params.values())))
def test_every_choice_is_trained_again_to_the_same_loss_and_weights(
    params: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, plain = exported(params, tmp_path, seed=3)
    assert retrained(tmp_path, capsys) == pytest.approx(wanted, rel=1e-4)
    again = load_file(tmp_path / "retrained.safetensors")
    assert again.keys() == plain.state_dict.keys() == load_file(tmp_path / "weights.safetensors").keys()
    for name, tensor in plain.state_dict.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_without_clipping_and_plateau_the_script_has_none(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"epochs": 3, "clip_norm": None, "plateau": None}
    wanted, _ = exported({"hidden_layers": [5]}, tmp_path, dataset={"name": name}, training=training)
    script = (tmp_path / "retrain.py").read_text()
    assert "clip_grad_norm_" not in script
    assert "scheduler" not in script
    assert len(script.splitlines()) <= 75
    assert retrained(tmp_path, capsys) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("winner", [None, "folds", "refit"])
@pytest.mark.parametrize("target", ["kind", "price"])
def test_weights_and_folds_are_trained_again_to_the_value_that_the_sweep_recorded(
    winner: str | None, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": random.normal(size=150), "b": random.normal(size=150), "often": random.integers(0, 4, 150)}
    )
    frame["price"] = frame["a"] * 3 + random.normal(size=150)
    frame["kind"] = np.where(frame["a"] + random.normal(size=150) > 0.8, "x", "y")
    frame.drop(columns="kind" if target == "price" else "price").to_csv(tmp_path / "rows.csv", index=False)
    weighted = {"class_weights": "balanced"} if target == "kind" else {}
    sections = {
        "dataset": {"path": str(tmp_path / "rows.csv"), "target": target, "weight": "often"},
        "training": {"epochs": 12, "batch_size": 16, "plateau": {"patience": 0, "threshold": 0.5}, **weighted},
        **({} if winner is None else {"winner": winner, "split": {"folds": 3}}),
    }
    params = {"hidden_layers": [8], "learning_rate": 0.05, "optimizer": "adam"}
    if winner is None:
        wanted, _ = exported(params, tmp_path, seed=3, **sections)
    else:
        wanted = exported_of_folds(params, tmp_path, 3, sections)
    runpy.run_path(str(tmp_path / "retrain.py"))
    said = dict(re.findall(r"^(val_loss|test_loss) (\S+)", capsys.readouterr().out, re.MULTILINE))
    promised = re.search(r"test_loss .* \(exported: ([-.e\d]+)\)", (tmp_path / "retrain.py").read_text())
    assert promised is not None
    assert float(said["test_loss"]) == pytest.approx(float(promised[1]), rel=1e-4)
    if winner != "refit":
        assert float(said["val_loss"]) == pytest.approx(wanted, rel=1e-4)


def exported_of_folds(params: dict[str, Any], folder: Path, seed: int, sections: dict[str, Any]) -> float:
    """As ``exported``, without a plain run: the mean over folds of the plain runs' best validation losses."""
    spec = spec_of(**sections)
    dataset = load(spec)
    config, train = spec.trial_config(params), spec.train_config(dataset.task, params)
    plain = [train_solo(config, train, fold.tensors(), seed) for fold in dataset.folds]
    value = float(np.mean([min(history.val_loss) for history in plain]))
    epochs = float(np.mean([np.argmin(history.val_loss) + 1 for history in plain]))
    metrics = {"best_epoch": epochs}
    trial = TrialRecord(0, TrialState.COMPLETE, params=params, seed=seed, value=value, metrics=metrics)
    winner = train_winner(spec, dataset, trial)
    assert winner.validation["val_loss"] == pytest.approx(value, rel=1e-4)
    for name, content in model_files(new_sweep(MemoryLedger(), spec), spec, dataset, winner).items():
        (folder / name).write_bytes(content)
    return value


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs, units, outputs, rate, branches):
        super().__init__()
        self.first, self.norm = nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units)
        self.drop = nn.Dropout(rate)
        self.out, self.branches = nn.Linear(units, outputs), branches

    def forward(self, x):
        h = torch.tanh(self.norm(self.first(x)))
        if self.branches:
            if h.mean() > 0:
                h = h * 0.5
        h = nn.functional.dropout(h, 0.1, self.training)
        return self.out(self.drop(h))

def build(trial, data):
    rate, branches = trial.suggest_float("rate", 0.0, 0.5), trial.suggest_categorical("branches", [False, True])
    return Net(data.n_inputs, trial.suggest_int("units", 4, 16), data.n_outputs, rate, branches)
"""


@pytest.mark.parametrize("branches", [False, True])
def test_a_network_of_ones_own_is_trained_again_to_the_value_and_leaves_as_onnx_where_torch_can(
    branches: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    folder = tmp_path / "model"
    folder.mkdir()
    spec = spec_of(
        dataset={"name": "iris"}, training={"epochs": 6}, space="own_model", model=f"{tmp_path / 'mine.py'}:build"
    )
    dataset, record = load(spec), new_sweep(MemoryLedger(), spec)
    own = {"units": 8, "rate": 0.3, "branches": branches}
    params = {"learning_rate": 0.01, "optimizer": "adam", "schedule": "cosine", "ema_decay": 0.9, **own}
    winner = train_winner(spec, dataset, TrialRecord(0, TrialState.COMPLETE, params=params, seed=3, value=1.0))
    files = model_files(record, spec, dataset, winner)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert retrained(folder, capsys) == pytest.approx(winner.validation["val_loss"], rel=1e-4)
    weights, again = load_file(folder / "weights.safetensors"), load_file(folder / "retrained.safetensors")
    for name, tensor in weights.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-4, atol=1e-5)
    card = files["model_card.md"].decode()
    if branches:
        assert "network.onnx" not in files
        assert "network.pt" in files
        assert "no `network.pt2` | torch could not write it" in card
        return
    import onnxruntime

    x = torch.as_tensor(dataset.x_test)
    session = onnxruntime.InferenceSession(files["network.onnx"])
    [outputs] = session.run(None, {"inputs": x.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(outputs), winner.model.network().eval()(x).detach(), rtol=1e-4, atol=1e-5
    )
    assert "| `network.onnx` |" in card
