"""Whole sweeps with several objectives, constraints, points given first and a warm start: ledger, MLflow, commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import sweeper
from sweeper.cli import app
from sweeper.errors import SpecError

SPACE: dict[str, Any] = {
    "learning_rate": {"float": [1e-3, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "adam"]},
    "hidden_layers": {"choice": [[4], [16], [64]]},
}
SPEC: dict[str, Any] = {
    "dataset": {"name": "iris"},
    "space": SPACE,
    "training": {"epochs": 4},
    "search": {"trials": 20, "seed": 3},
}
BOTH = [{"metric": "val_loss"}, {"metric": "parameters"}]
REACHED = "val_accuracy >= 0.6"
GIVEN = [{"learning_rate": 0.05, "optimizer": "adam", "hidden_layers": [4]}, {"optimizer": "sgd"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_HOME", str(home))
    for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS", "SWEEPER_SERVER"):
        monkeypatch.delenv(name, raising=False)


def run(home: Path, **sections: Any) -> sweeper.Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(home))
        return sweeper.run({**SPEC, **sections}, workers="inline")


@pytest.fixture(scope="module")
def two(home: Path) -> sweeper.Result:
    search = {**SPEC["search"], "enqueue": GIVEN}
    return run(home, name="two", objectives=BOTH, constraints=[REACHED], search=search)


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["sweeper", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        app.main()
        sys.exit(0)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def sizes(result: sweeper.Result) -> dict[int, float]:
    return dict(zip(result.trials["number"], result.trials["metrics_parameters"], strict=True))


def test_every_trial_tells_the_size_of_its_network(two: sweeper.Result) -> None:
    assert len(two.trials) == 20
    for row in two.trials.itertuples():
        (width,) = row.params_hidden_layers
        assert row.metrics_parameters == 5 * width + 3 * (width + 1)


def test_given_points_are_the_first_trials(two: sweeper.Result) -> None:
    first = two.trials.iloc[0]
    assert {name: first[f"params_{name}"] for name in GIVEN[0]} == GIVEN[0]
    assert two.trials.iloc[1]["params_optimizer"] == "sgd"


def test_the_winner_is_the_best_on_the_first_objective_among_those_within_the_constraints(two: sweeper.Result) -> None:
    reached = two.trials[two.trials["metrics_val_accuracy"] >= 0.6]
    assert 0 < len(reached) < len(two.trials)
    assert two.best is not None
    assert two.best["value"] == reached["value"].min()
    counts = "sweep name state requested complete pruned failed stopped seconds".split()
    assert list(two.summary) == [*counts, *"best data baselines test test_intervals mlflow".split()]
    assert two.summary["best"] == two.best


def test_best_shows_the_front_and_no_trial_of_it_is_beaten(
    two: sweeper.Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(monkeypatch, capsys, "best", "two", "-k", "2", "--json")
    answer = json.loads(out)
    assert code == 0
    assert len(answer["best"]) == 2
    assert answer["best"][0] == two.best
    assert answer["front"] == two.front
    front = [(row["value"], row["metrics"]["parameters"]) for row in answer["front"]]
    assert front == sorted(front)
    reached = two.trials[two.trials["metrics_val_accuracy"] >= 0.6]
    every = set(zip(reached["value"], reached["metrics_parameters"], strict=True))
    beaten = {a for a in every if any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in every)}
    assert set(front) == every - beaten
    code, out, _ = command(monkeypatch, capsys, "best", "two")
    assert out.startswith("Pareto front: ")
    assert "parameters" in out.splitlines()[1]


def test_mlflow_has_all_objectives_of_every_trial_and_the_winner(two: sweeper.Result) -> None:
    import mlflow

    client = mlflow.MlflowClient(two.summary["mlflow"]["tracking_uri"])
    parent = client.get_run(two.summary["mlflow"]["run_id"])
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=100
    )
    shown = {int(run.data.tags["trial.number"]): run.data.metrics for run in children}
    assert {number: metrics["parameters"] for number, metrics in shown.items()} == sizes(two)
    assert two.best is not None
    assert parent.data.tags["winner.trial"] == str(two.best["trial"])


def test_when_no_trial_is_within_the_constraints_the_nearest_is_shown_and_it_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With measured seconds as the second objective: allowed, since the sweep gives determinism up."""
    search = {"trials": 4, "seed": 3, "sampler": "random", "deterministic": False}
    goals = [BOTH[0], {"metric": "seconds"}]
    result = run(home, name="hopeless", objectives=goals, constraints=["parameters <= 1"], search=search)
    assert (result.trials["metrics_seconds"] > 0).all()
    assert result.best is not None
    assert result.best["metrics"]["parameters"] == result.trials["metrics_parameters"].min()
    code, out, err = command(monkeypatch, capsys, "best", "hopeless", "--json")
    assert code == 0
    assert json.loads(out)["best"][0] == result.best
    assert json.loads(out)["front"] == []
    assert "no trial satisfies all constraints" in err
    assert "it must be <= 1" in err
    code, out, _ = command(monkeypatch, capsys, "why", "hopeless", str(result.best["trial"]), "--json")
    assert code == 0
    assert json.loads(out)["violates"][0].startswith("parameters is ")


def test_plan_shows_what_runs_first_and_what_is_taken_over(
    two: sweeper.Result, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = {**SPEC, "constraints": [REACHED], "search": {"trials": 5, "from": "two", "enqueue": GIVEN}}
    file = home / "sweep.json"
    file.write_text(json.dumps(sweep))
    code, out, _ = command(monkeypatch, capsys, "plan", str(file), "--json")
    planned = json.loads(out)
    assert code == 0
    assert planned["tried_first"] == GIVEN
    assert planned["constraints"] == [REACHED]
    assert planned["warm_start"] == f"warm start: 20 of 20 trials of sweep {two.sweep} (two) are used"


def test_a_warm_started_sweep_keeps_what_it_took_when_the_earlier_one_is_deleted(
    two: sweeper.Result, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wider = {**SPACE, "learning_rate": {"float": [5e-3, 1.0], "log": True}, "activation": {"choice": ["relu", "tanh"]}}
    search = {"trials": 6, "seed": 1, "from": "two"}
    warm = run(home, name="warm", space=wider, search=search)
    taken = warm.record.spec["search"]["warm"]
    usable = two.trials[two.trials["params_learning_rate"] >= 5e-3]
    assert taken["sweep"] == two.sweep
    assert len(taken["points"]) == len(usable)
    assert taken["left_out"] == {"with learning_rate outside the space": 20 - len(usable)}
    assert {point["params"]["activation"] for point in taken["points"]} == {"relu"}
    told = f"warm start: {len(usable)} of 20 trials of sweep {two.sweep}"
    assert told in (home / "sweeps" / warm.sweep / "events.jsonl").read_text()
    code, _, err = command(monkeypatch, capsys, "delete", two.sweep, "--yes")
    assert code == 0, err
    stored = {key: value for key, value in warm.record.spec.items() if key != "fingerprint"}
    again = sweeper.run(stored, workers="inline")
    assert again.trials["value"].tolist() == warm.trials["value"].tolist()
    with pytest.raises(SpecError, match=r"search\.from: there is no sweep 'two'"):
        run(home, name="late", search=search)
