"""Gradient flow in a whole sweep: measured by workers, kept in the ledger, shown by why, acted on by a pruner."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sweeper
from sweeper.cli import app
from sweeper.data.dataset import load_dataset
from sweeper.flow import first_to_last
from sweeper.ledger.opening import open_ledger
from sweeper.models import train_solo
from sweeper.models.config import FLOW_STATISTICS
from sweeper.spec.models import DatasetSpec, SplitSpec
from sweeper.tracking.entries import FLOW_METRICS, flow_metrics

SPEC: dict[str, Any] = {
    "name": "deep",
    "dataset": {"name": "iris"},
    "space": {
        "activation": "tanh",
        "initialization": {"choice": ["xavier_normal", "normal"]},
        "learning_rate": 0.1,
        "optimizer": "sgd",
        "hidden_layers": [16] * 8,
    },
    "training": {"epochs": 6, "batch_size": 16},
    "search": {"trials": 2, "sampler": "grid", "seed": 3},
}

pytestmark = pytest.mark.usefixtures("home")


def with_training(**options: Any) -> dict[str, Any]:
    return SPEC | {"training": SPEC["training"] | options}


@pytest.mark.parametrize("replicates", [1, 2])
def test_the_ledger_holds_what_the_plain_run_measures(home: Path, replicates: int) -> None:
    result = sweeper.run(with_training(gradient_flow=2, replicates=replicates), workers="inline")
    flows = open_ledger(None, home).flow(result.sweep)
    data = load_dataset(DatasetSpec(name="iris"), SplitSpec(), "standard").tensors()
    for trial in result.records():
        params = dict(trial.params or {})
        config, train = result.spec.trial_config(params), result.spec.train_config("classification", params)
        alone = [train_solo(config, train, data, 3 + r).flow for r in range(replicates)]
        assert [flow.epoch for flow in flows[trial.number]] == list(alone[0]) == [0, 2, 4]
        for flow in flows[trial.number]:
            wanted = torch.stack([one[flow.epoch].layers for one in alone]).mean(dim=0)
            got = torch.tensor([[layer.get(name, torch.nan) for name in FLOW_STATISTICS] for layer in flow.layers])
            assert torch.allclose(got.double(), wanted, rtol=1e-3, atol=1e-8, equal_nan=True)
            assert flow.clip_rate == pytest.approx(sum(one[flow.epoch].clip_rate for one in alone) / replicates)


def test_mlflow_shows_a_trials_flow_with_its_history(home: Path) -> None:
    from mlflow import MlflowClient

    result = sweeper.run(SPEC, workers="inline")
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    flows = open_ledger(None, home).flow(result.sweep)
    for trial in result.records():
        assert trial.mlflow_run_id is not None
        last = flow_metrics(flows[trial.number][-1])
        shown = client.get_run(trial.mlflow_run_id).data.metrics
        assert {name: value for name, value in shown.items() if name.startswith("flow/")} == pytest.approx(dict(last))
        assert set(last) == {*FLOW_METRICS} - {"flow/dead_units"}
        history = client.get_metric_history(trial.mlflow_run_id, "flow/first_over_last_gradient")
        assert [(point.step, pytest.approx(point.value)) for point in history] == [
            (flow.epoch, first_to_last(flow))
            for flow in flows[trial.number]
            if flow.epoch != 3  # five of the six
        ]
    ratio = "flow/first_over_last_gradient"
    ratios = {
        (t.params or {})["initialization"]: client.get_run(t.mlflow_run_id or "").data.metrics[ratio]
        for t in result.records()
    }
    assert ratios["normal"] < 1e-3 < ratios["xavier_normal"]


def test_why_says_that_the_gradient_vanishes_and_is_silent_on_a_healthy_trial(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = sweeper.run(SPEC, workers="inline")
    for trial in result.records():
        monkeypatch.setattr(sys, "argv", ["sweeper", "why", result.sweep, str(trial.number), "--json"])
        with pytest.raises(SystemExit):
            app.main()
            sys.exit(0)
        said = json.loads(capsys.readouterr().out)["gradients"]
        if (trial.params or {})["initialization"] == "normal":
            assert said[0].startswith("vanishing: the first of 9 layers gets")
        else:
            assert said == []


def test_the_pruner_stops_trials_whose_gradient_vanishes(home: Path) -> None:
    result = sweeper.run(SPEC | {"search": SPEC["search"] | {"pruner": "gradient_flow"}}, workers="inline")
    states = {(t.params or {})["initialization"]: (str(t.state), t.epochs, t.reason) for t in result.records()}
    assert states["xavier_normal"] == ("complete", 6, "trained 6 epochs")
    state, epochs, reason = states["normal"]
    assert (state, epochs) == ("pruned", 4)
    assert reason.startswith("vanishing: the first of 9 layers gets")
    flows = open_ledger(None, home).flow(result.sweep)
    assert sorted(len(flow) for flow in flows.values()) == [4, 6]


def test_a_sweep_without_measurements_trains_the_same(home: Path) -> None:
    on, off = (sweeper.run(with_training(gradient_flow=every), workers="inline") for every in (1, None))
    assert [trial.metrics for trial in on.records()] == [trial.metrics for trial in off.records()]
    ledger = open_ledger(None, home)
    assert {number: len(flow) for number, flow in ledger.flow(on.sweep).items()} == {0: 6, 1: 6}
    assert ledger.flow(off.sweep) == {}
