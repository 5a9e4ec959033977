"""Whole sweeps in which a trial's best epoch counts: value, metrics, weights, patience, finals and MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sweeper
from sweeper.data.dataset import load_dataset
from sweeper.ledger.opening import open_ledger
from sweeper.models import Data, History
from sweeper.models.solo import evaluate
from sweeper.records import TrialRecord
from sweeper.spec.parse import load_spec
from sweeper.spec.stored import spec_of
from sweeper.training.again import network_of, train_again, weights_of

SPEC: dict[str, Any] = {
    "dataset": {"name": "iris"},
    "space": {
        "learning_rate": {"float": [1e-1, 1.0], "log": True},
        "optimizer": {"choice": ["adam", "rmsprop"]},
        "hidden_layers": {"choice": [[32]]},
    },
    "training": {"epochs": 16, "batch_size": 8, "patience": 3},
    "search": {"trials": 4, "seed": 3, "sampler": "random"},
}


def alone(trial: TrialRecord, record: Any, replicate: int = 0) -> History:
    """A trial of a sweep trained by itself: bit for bit the same."""
    spec = spec_of(record)
    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    [history] = train_again(spec, dataset, trial.params or {}, trial.seed + replicate)
    return history


def test_a_trial_stands_with_its_best_epoch_in_ledger_mlflow_and_model(home: Path) -> None:
    from mlflow import MlflowClient

    result = sweeper.run(SPEC, workers="inline")
    ledger, client = open_ledger(None, home), MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    record, reports = ledger.sweep(result.sweep), ledger.reports(result.sweep)
    early = ended = 0
    for trial in result.records():
        curve = [report.metrics["val_loss"] for report in reports[trial.number]]
        best = int(np.argmin(curve))
        assert trial.epochs == len(curve) == min(16, best + 4)
        assert trial.value == trial.metrics["val_loss"] == curve[best]
        assert trial.metrics["val_accuracy"] == reports[trial.number][best].metrics["val_accuracy"]
        assert trial.metrics["best_epoch"] == best + 1
        assert curve == alone(trial, record).val_loss
        shown = client.get_run(trial.mlflow_run_id or "").data.metrics
        assert shown["val_loss"] == shown["objective"] == pytest.approx(trial.value)
        assert shown["best_epoch"] == best + 1
        if best + 1 < trial.epochs:
            early += 1
            assert shown["last_val_loss"] == pytest.approx(curve[-1])
            assert trial.reason.startswith(f"trained {trial.epochs} epochs, best was {best + 1}")
        if trial.epochs < 16:
            ended += 1
            assert trial.reason.endswith("(patience 3)")
    assert ended > 0
    assert early > 0

    winner = min(result.records(), key=lambda trial: trial.value or 0.0)
    spec = load_spec(SPEC)
    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    data, history = dataset.tensors(), alone(winner, record)
    network = network_of(spec, dataset, winner.params or {}, weights_of([history]))
    loss, _ = evaluate(network, Data(data.x_train, data.y_train, data.x_val, data.y_val), "classification")
    assert loss == pytest.approx(winner.value, rel=1e-3)


def test_the_last_epoch_counts_where_that_is_asked_for(home: Path) -> None:
    training = {**SPEC["training"], "keep": "last"}
    result = sweeper.run({**SPEC, "training": training}, workers="inline")
    reports = open_ledger(None, home).reports(result.sweep)
    for trial in result.records():
        last = reports[trial.number][-1].metrics
        assert trial.value == last["val_loss"]
        assert {name: trial.metrics[name] for name in last} == dict(last)


def test_the_objective_says_which_epoch_is_the_best_and_replicates_have_their_own(home: Path) -> None:
    training = {**SPEC["training"], "replicates": 3}
    goal = {"metric": "val_accuracy"}
    result = sweeper.run({**SPEC, "training": training, "objective": goal}, workers="inline")
    record = open_ledger(None, home).sweep(result.sweep)
    for trial in result.records():
        train = spec_of(record).train_config("classification")
        assert (train.monitor, train.minimize, train.keep, train.patience) == ("val_accuracy", False, "best", 3)
        rows = [alone(trial, record, replicate) for replicate in range(3)]
        assert trial.value == pytest.approx(np.mean([max(row.val_accuracy) for row in rows]))
        assert trial.epochs == max(row.epochs for row in rows)
        assert trial.metrics["best_epoch"] == pytest.approx(np.mean([(row.best_epoch or 0) + 1 for row in rows]))


def test_finals_judge_the_best_epoch_of_each_seed(home: Path) -> None:
    sections = {"finals": {"top": 2, "seeds": 2}}
    result = sweeper.run({**SPEC, **sections}, workers="inline")
    ledger = open_ledger(None, home)
    [finals] = ledger.finals(parent=result.sweep)
    spec = load_spec(SPEC)
    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    for trial in ledger.trials(finals.sweep):
        history = alone(trial, finals)
        network = network_of(spec, dataset, trial.params or {}, weights_of([history]))
        x, y = dataset.test_tensors()
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(network(x), y).item()
        assert trial.metrics["test_loss"] == pytest.approx(loss, rel=1e-3)
        assert trial.metrics["best_epoch"] == (history.best_epoch or 0) + 1
