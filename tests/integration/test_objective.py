"""A sweep of a function of the user's own: trials, search, pruner, MLflow, logs, resume, and what is refused."""

from __future__ import annotations

from pathlib import Path

import mlflow
import optuna
import pytest

import sweeper
from sweeper.errors import SpecError
from sweeper.running.local import run_again
from sweeper.running.planning import plan
from sweeper.settings import Settings
from sweeper.spec.parse import load_spec
from tests.integration.test_sweep import command

TEXT = """
import optuna

def objective(trial):
    x = trial.suggest_float("x", -10, 10)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    wide = trial.suggest_int("wide", 1, 64, log=True) if kind == "a" else 1
    print("trying", x, flush=True)
    if x > 9:
        raise ValueError("too far")
    for step in range(4):
        trial.report((x - 2) ** 2 + 4 - step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("wide", wide)
    trial.log_artifact(__file__)
    return (x - 2) ** 2 + (kind == "b")
"""
SEARCH = {"trials": 14, "pruner": "median", "window": 4, "seed": 1, "enqueue": [{"x": 9.5}, {"x": 0.0}]}


@pytest.fixture
def code(home: Path) -> Path:
    file = home / "mine.py"
    file.write_text(TEXT)
    return file


def test_a_function_is_a_sweep(home: Path, code: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    spec = {"objective": {"function": f"{code}:objective"}, "search": SEARCH}
    result = sweeper.run(spec, workers="inline")
    trials = result.records()
    assert [str(trials[0].state), trials[0].reason] == ["failed", "mine.py, line 10: ValueError: too far"]
    assert "ValueError: too far" in trials[0].notes[0]
    assert trials[1].params is not None
    assert trials[1].params["x"] == 0.0
    assert {str(trial.state) for trial in trials} == {"complete", "pruned", "failed"}
    assert all(trial.value == trial.metrics["value"] for trial in trials if trial.state == "complete")
    assert (home / "sweeps" / result.sweep / "report.html").exists()
    assert b"trying 0.0" in (home / "sweeps" / result.sweep / "trials" / "1" / "log.txt").read_bytes()

    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run(str(trials[1].mlflow_run_id))
    assert run.data.tags["wide"] == str(trials[1].attributes["user_attrs"]["wide"])
    assert run.data.params["x"] == "0.0"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "value")][:4] == [0, 1, 2, 3]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["mine.py"]

    one_by_one = {**spec, "name": "again", "resources": {"cpus": 64}}
    again = sweeper.run(one_by_one, workers="inline").records()
    assert [(t.params, t.value, t.state) for t in again] == [(t.params, t.value, t.state) for t in trials]

    command(monkeypatch, "resume", "again", "--trials", "16", "--workers", "inline")
    more = sweeper.load("again").records()
    assert len(more) == 16
    assert [t.params for t in more[:14]] == [t.params for t in trials]
    assert command(monkeypatch, "export", "again", "--model", str(home / "model")) == 2
    code.write_text(TEXT.replace("- 2", "- 3"))
    with pytest.raises(SpecError, match="it has changed since this sweep was made"):
        run_again("again", Settings.from_env(), "inline", trials=18)


def test_a_python_function_and_a_sampler_of_ones_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "draws.py").write_text(
        "import optuna\n\ndef make(seed):\n    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=2)\n"
    )
    scale = 3.0

    def objective(trial: optuna.Trial) -> float:
        return scale * trial.suggest_float("x", 0, 1)

    search = {"sampler": f"{home / 'draws.py'}:make", "window": 2}
    result = sweeper.run(
        objective={"function": objective, "direction": "maximize"}, search=search, trials=6, workers="inline"
    )
    study = result.to_optuna()
    code = study.user_attrs["code"]
    assert "return scale * trial.suggest_float" in code["objective.function"]["text"]
    assert code["search.sampler"]["text"] == (home / "draws.py").read_text()
    assert result.best is not None
    assert study.best_value == result.best["value"]
    assert study.best_trial.params == result.best["params"]
    assert [trial.distributions["x"].high for trial in study.trials] == [1.0] * 6
    assert plan(load_spec(result.spec), lambda: pytest.fail("no ledger"))["sampler"].startswith("own, window 2")

    (home / "draws.py").write_text("def make(seed):\n    return 5\n")
    with pytest.raises(SpecError, match=r"draws.py: search.sampler: make returned int, which is no sampler"):
        sweeper.run({"dataset": {"name": "iris"}, "search": search}, workers="inline")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"objective": {"function": "{code}:objectiv"}}, "mine.py: objectiv: there is no such function"),
        ({"objective": {"function": "{code}:objective"}, "dataset": {"name": "digits"}}, "dataset: an objective of"),
        ({"objective": {"function": "{code}:objective"}, "search": {"sampler": "grid"}}, "search.sampler: grid has to"),
        ({"objective": {"function": "{code}:objective"}, "search": {"pruner": "hyperband"}}, "objective.reports"),
        ({"objective": {"function": "{code}:two"}}, "takes? .*2 arguments|does not take one argument"),
        ({"objective": {"function": "{code}:broken"}}, "line 2: NameError"),
        ({"dataset": {"name": "iris"}, "resources": {"cpus": 1}}, "resources: only the trials"),
    ],
)
def test_bad_input_starts_nothing(home: Path, code: Path, spec: dict[str, object], message: str) -> None:
    if "broken" in str(spec):
        code.write_text("def broken(trial): pass\nundefined\n")
    elif "two" in str(spec):
        code.write_text("def two(trial, data): pass\n")
    written = {
        key: {k: v.format(code=code) if isinstance(v, str) else v for k, v in part.items()}  # type: ignore[union-attr]
        for key, part in spec.items()
    }
    with pytest.raises(SpecError, match=message):
        sweeper.run(written, workers="inline")
    assert not (home / "sweeps").exists()
