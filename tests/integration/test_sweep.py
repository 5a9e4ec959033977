"""Whole sweeps on real data through the Python API and the command line: ledger, study, workers and MLflow together."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import sweeper
from sweeper.cli import app

SPACE: dict[str, Any] = {
    "learning_rate": {"float": [1e-3, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "adam"]},
    "activation": {"choice": ["relu", "tanh"]},
    "hidden_layers": [8],
}
SPEC: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "iris"},
    "space": SPACE,
    "training": {"epochs": 3},
    "search": {"trials": 12, "seed": 3},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_HOME", str(home))
    for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def result(home: Path) -> sweeper.Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(home))
        return sweeper.run(SPEC, workers="inline")


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run one command of the line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["sweeper", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
        sys.exit(0)
    return int(ended.value.code or 0)


def test_every_requested_trial_ends_once(result: sweeper.Result) -> None:
    assert list(result.trials["number"]) == list(range(12))
    assert set(result.trials["state"]) <= {"complete", "failed"}
    assert (result.trials["reason"] != "").all()


def test_the_best_trial_has_the_lowest_loss(result: sweeper.Result) -> None:
    best = result.best
    assert best is not None
    assert best["value"] == result.trials["value"].min()
    assert best["metrics"]["val_loss"] == best["value"]


def test_mlflow_shows_every_trial_with_its_state_and_value(result: sweeper.Result) -> None:
    import mlflow

    client = mlflow.MlflowClient(result.summary["mlflow"]["tracking_uri"])
    parent = client.get_run(result.summary["mlflow"]["run_id"])
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=100
    )
    shown = {int(run.data.tags["trial.number"]): run for run in children}
    status = {"complete": "FINISHED", "failed": "FAILED"}
    assert sorted(shown) == list(range(12))
    for row in result.trials.itertuples():
        run = shown[row.number]
        assert run.info.run_id == row.mlflow_run_id
        assert run.info.status == status[row.state]
        assert run.data.metrics["val_loss"] == pytest.approx(row.metrics_val_loss)


def test_the_report_is_written_at_the_end_and_mlflow_shows_it(
    result: sweeper.Result, home: Path, tmp_path: Path
) -> None:
    import mlflow

    assert result.best is not None
    page = (home / "sweeps" / result.sweep / "report.html").read_text(encoding="utf-8")
    assert f"Trial {result.best['trial']} is the best of" in page
    assert f"Trial {result.best['trial']} on the validation split" in page
    client = mlflow.MlflowClient(result.summary["mlflow"]["tracking_uri"])
    shown = client.download_artifacts(result.summary["mlflow"]["run_id"], "report.html", str(tmp_path))
    assert Path(shown).read_text(encoding="utf-8") == page
    events = [json.loads(line) for line in (home / "sweeps" / result.sweep / "events.jsonl").read_text().splitlines()]
    assert [event["action"] for event in events if event["action"].startswith("report.")] == ["report.written"]


def test_the_winner_is_shown_beside_simple_models_everywhere(result: sweeper.Result, home: Path) -> None:
    import mlflow

    assert result.best is not None
    outcome, test = result.summary["baselines"], result.summary["test"]
    assert outcome["trial"] == result.best["trial"]
    assert outcome["validation"]["loss"] == pytest.approx(result.best["value"], rel=1e-5)
    assert [(row["method"], row["problem"]) for row in outcome["rows"]] == [
        ("constant", ""),
        ("linear", ""),
        ("tree", ""),
    ]
    assert {"loss", "accuracy", "roc_auc", "mcc"} <= set(test)
    assert outcome["sentence"] in (home / "sweeps" / result.sweep / "report.html").read_text(encoding="utf-8")
    client = mlflow.MlflowClient(result.summary["mlflow"]["tracking_uri"])
    parent = client.get_run(result.summary["mlflow"]["run_id"]).data
    assert parent.metrics["baseline_tree_loss"] == pytest.approx(outcome["rows"][2]["test"]["loss"])
    assert parent.metrics["winner_test_loss"] == pytest.approx(test["loss"], rel=1e-5)
    assert outcome["sentence"].rstrip(".") in parent.tags["mlflow.note.content"]


def test_a_trial_equals_the_plain_pytorch_run(result: sweeper.Result) -> None:
    from sweeper.data.loading import load
    from sweeper.models import train_solo
    from sweeper.spec.parse import load_spec

    spec = load_spec(SPEC)
    dataset, best = load(spec), result.best
    assert best is not None
    config = spec.trial_config(best["params"])
    history = train_solo(config, spec.train_config(dataset.task, best["params"]), dataset.tensors(), 3)
    assert history.val_loss[-1] == pytest.approx(best["value"], rel=1e-3)


def test_the_same_seed_gives_the_same_trials_and_values(result: sweeper.Result) -> None:
    again = sweeper.run(SPEC, workers="inline")
    ignored = ["mlflow_run_id", "seconds"]
    first, second = result.trials.drop(columns=ignored), again.trials.drop(columns=ignored)
    assert first.to_json() == second.to_json()


def test_the_command_line_answers_as_the_contract_says(
    result: sweeper.Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(*words: str) -> Any:
        assert command(monkeypatch, *words) == 0
        return json.loads(capsys.readouterr().out)

    trials = answer("trials", result.sweep, "--json")
    keys = "number state reason value attempts epochs params metrics folds mlflow_run_id seconds".split()
    assert trials["sweep"] == result.sweep
    assert list(trials["trials"][0]) == keys
    listed = answer("list", "--json")["sweeps"]
    assert result.sweep in [row["sweep"] for row in listed]
    assert list(listed[0]) == "sweep name state requested complete pruned failed stopped".split()
    assert answer("best", "small", "-k", "3", "--json")["best"][0]["value"] == result.best["value"]  # type: ignore[index]
    assert answer("why", result.sweep, "0", "--json")["history"][0]["outcome"]
    assert answer("status", result.sweep, "--json")["state"] == "complete"
    assert answer("resume", result.sweep, "--workers", "inline", "--json")["complete"] == len(
        [t for t in trials["trials"] if t["state"] == "complete"]
    )


def test_an_unknown_sweep_is_exit_code_4(monkeypatch: pytest.MonkeyPatch, result: sweeper.Result) -> None:
    assert command(monkeypatch, "status", "nosuchsweep") == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "digitz"], "digits"),
        (["--dataset", "iris", "--set", "training.epoch=3"], "epochs"),
        (["--dataset", "iris", "--set", "search.trials=0"], "search.trials"),
        (["--dataset", "iris", "--set", "objective.metric=val_rmse"], "val_accuracy"),
        (["--dataset", "iris", "--workers", "none"], "--workers"),
        (["--dataset", "nosuch.csv", "--set", "dataset.target=label"], "nosuch.csv"),
    ],
)
def test_bad_input_is_exit_code_2_and_writes_nothing(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path / "fresh"))
    assert command(monkeypatch, "run", *words, *(["--workers", "inline"] if "--workers" not in words else [])) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "fresh" / "ledger.db").exists()


def test_a_space_in_which_every_trial_diverges_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"learning_rate": 1e30, "optimizer": "sgd", "activation": "relu", "hidden_layers": [8]}
    spec = tmp_path / "sweep.json"
    training = {"epochs": 3, "clip_norm": None}
    data = {"dataset": {"name": "iris"}, "space": space, "training": training, "search": {"trials": 3}}
    spec.write_text(json.dumps(data))
    assert command(monkeypatch, "run", str(spec), "--workers", "inline", "--json") == 3
    said = capsys.readouterr()
    assert "3 of 3 diverged" in said.err
    assert "learning rates below 1e+29" in said.err
    assert "clip_norm" in said.err
    summary = json.loads(said.out)
    assert summary["failed"] == 3
    assert summary["best"] is None


@pytest.mark.parametrize("pruner", ["median", "percentile", "asha", "halving", "hyperband", "plateau"])
def test_pruned_trials_say_why_and_the_same_ones_are_pruned_again(pruner: str) -> None:
    search = {"trials": 40, "seed": 1, "pruner": pruner}
    spec = SPEC | {"name": pruner, "training": {"epochs": 30}, "search": search}
    first, again = (sweeper.run(spec, workers="inline") for _ in range(2))
    ignored = ["mlflow_run_id", "seconds"]
    assert first.trials.drop(columns=ignored).to_json() == again.trials.drop(columns=ignored).to_json()
    pruned = first.trials[first.trials["state"] == "pruned"]
    assert len(pruned) > 0
    assert (pruned["epochs"] < 30).all()
    assert pruned["reason"].str.contains("val_loss").all()
    assert (pruned["value"] == pruned["metrics_val_loss"]).all()

    from mlflow import MlflowClient

    client = MlflowClient(first.summary["mlflow"]["tracking_uri"])
    for row in pruned.head(3).itertuples():
        assert client.get_run(row.mlflow_run_id).info.status == "KILLED"
        points = client.get_metric_history(row.mlflow_run_id, "val_loss")
        assert len(points) == row.epochs


def test_replicates_train_every_configuration_on_several_seeds_and_score_the_mean() -> None:
    from sweeper.data.dataset import load_dataset
    from sweeper.models import train_solo
    from sweeper.spec.models import DatasetSpec, SplitSpec

    spec = SPEC | {"name": "twice", "training": {"epochs": 6, "replicates": 3}, "search": {"trials": 4, "seed": 5}}
    result = sweeper.run(spec, workers="inline")
    data = load_dataset(DatasetSpec(**SPEC["dataset"]), SplitSpec(), "standard").tensors()
    for trial in result.records():
        params = dict(trial.params or {})
        config, train = result.spec.trial_config(params), result.spec.train_config("classification", params)
        alone = [train_solo(config, train, data, seed).val_loss[-1] for seed in (5, 6, 7)]
        assert trial.value == pytest.approx(sum(alone) / 3, rel=1e-4)


def test_diverging_trials_teach_the_sampler_to_stay_away() -> None:
    """Real training with learning rates up to 100: far fewer trials diverge than without a search, least at the end."""
    space = {
        "learning_rate": {"float": [1e-4, 100.0], "log": True},
        "optimizer": {"choice": ["sgd", "momentum"]},
        "hidden_layers": [16, 16],
    }
    training = {"epochs": 8, "clip_norm": None, "plateau": None}
    diabetes = {"name": "wild", "dataset": {"name": "diabetes"}, "space": space, "training": training}
    shares = {}
    for sampler in ("random", "tpe"):
        search = {"trials": 150, "seed": 0, "sampler": sampler}
        trials = sweeper.run(diabetes | {"search": search}, workers="inline").trials
        diverged = trials["reason"].str.startswith("diverged")
        shares[sampler] = (diverged.mean(), diverged.tail(50).mean())
    assert min(shares["random"]) > 0.2
    assert shares["tpe"][0] < 0.5 * shares["random"][0]
    assert shares["tpe"][1] < 0.25 * shares["random"][1]


def test_a_loss_that_explodes_but_stays_finite_is_divergence() -> None:
    space = {"learning_rate": {"choice": [1e-3, 0.3, 50.0]}, "optimizer": "sgd", "hidden_layers": []}
    training = {"epochs": 12, "batch_size": 16, "clip_norm": None, "plateau": None}
    spec = {"name": "blown", "dataset": {"name": "diabetes"}, "space": space, "training": training}
    trials = sweeper.run(spec | {"search": {"trials": 3, "sampler": "grid", "seed": 0}}, workers="inline").trials
    exploded = trials[trials["reason"].str.contains("exploded")]
    assert list(trials.loc[trials["params_learning_rate"] == 1e-3, "state"]) == ["complete"]
    assert list(exploded["params_learning_rate"]) == [0.3]
    assert list(trials.loc[trials["params_learning_rate"] == 50.0, "state"]) == ["failed"]
    assert set(exploded["state"]) == {"failed"}
    for row in exploded.itertuples():
        assert f"in epoch {row.epochs}" in row.reason
        assert not row.metrics_val_loss > 1e6


def test_columns_of_extreme_scales_train(tmp_path: Path) -> None:
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 3))
    table = pd.DataFrame(x * [1e-30, 1e30, 1.0] + [0.0, 0.0, 1e9], columns=["tiny", "huge", "far"])
    table["target"] = 1e12 * (1.0 + x @ [0.5, -0.3, 0.1])
    table.to_csv(tmp_path / "extreme.csv", index=False)
    spec = SPEC | {"name": "extreme", "dataset": {"path": str(tmp_path / "extreme.csv"), "target": "target"}}
    spec |= {"training": {"epochs": 20}, "search": {"trials": 6}}
    result = sweeper.run(spec, workers="inline")
    assert set(result.trials["state"]) == {"complete"}
    assert result.best is not None
    assert result.best["value"] < 0.5, "of a variance of 1"
    assert 1e9 < result.best["metrics"]["val_rmse"] < 1e12, "in the target's own unit"


def test_a_complete_sweep_goes_on_to_more_trials_as_if_they_had_been_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    search = {"trials": 6, "seed": 3, "window": 4}
    spec = SPEC | {"name": "grown", "search": search, "finals": {"top": 2, "seeds": 2}}
    spec |= {"tracking": {"register_model": "grown"}}
    first = sweeper.run(spec, workers="inline")
    assert command(monkeypatch, "resume", "grown", "--trials", "5", "--workers", "inline") == 2
    assert "6 trials already, and 5 are fewer" in capsys.readouterr().err
    assert command(monkeypatch, "budget", "grown", "--trials", "12") == 1
    assert "--trials N` goes on with it to more trials" in capsys.readouterr().err
    assert command(monkeypatch, "resume", "grown", "--trials", "12", "--workers", "inline", "--json") == 0
    grown = json.loads(capsys.readouterr().out)
    once = sweeper.run(spec | {"name": "once"}, workers="inline", trials=12).summary
    told = ("requested", "complete", "failed", "best", "test")
    assert {key: grown[key] for key in told} == {key: once[key] for key in told}
    assert grown["finals"]["standings"] == once["finals"]["standings"]
    assert grown["sweep"] == first.sweep
    assert grown["mlflow"] == first.summary["mlflow"]
    client = mlflow.MlflowClient(grown["mlflow"]["tracking_uri"])
    parent = client.get_run(grown["mlflow"]["run_id"])
    assert (parent.info.status, parent.data.tags["sweep.requested"]) == ("FINISHED", "12")
    assert parent.data.tags["winner.trial"] == str(grown["best"]["trial"])
    mine = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], mine, max_results=100)
    assert sorted(int(run.data.tags["trial.number"]) for run in children) == list(range(12))
    winners = {version.tags["winner.trial"] for version in client.search_model_versions("name = 'grown'")}
    assert winners == {str(first.summary["best"]["trial"]), str(grown["best"]["trial"])}
