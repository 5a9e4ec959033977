"""A sweep leaves the building: as CSV, as a study that Optuna opens, and its winner as a folder that stands alone."""

from __future__ import annotations

import csv
import io
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.faults import INLINE, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Any:
    site = Site(tmp_path_factory.mktemp("home"))
    words = ("--trials", "24", "--set", "training.epochs=6", "--set", "search.pruner=median", "--name", "out")
    site.answer("run", "--dataset", "iris", *words, *INLINE)
    yield site
    site.close()


def test_the_csv_is_the_table_of_trials(ended: Site, tmp_path: Path) -> None:
    file = tmp_path / "trials.csv"
    file.write_text("old")
    assert ended.run("export", "out", "--csv", str(file)).returncode == 0
    shown = ended.run("trials", "out", "--csv").stdout
    assert file.read_text() == shown == ended.run("export", "out", "--csv", "-").stdout
    assert len(list(csv.reader(io.StringIO(shown)))) == 25
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]


def test_optuna_opens_the_study(ended: Site, tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    answer = ended.answer("export", "out", "--optuna", url)
    assert answer["trials"] == 24
    study = optuna.load_study(study_name=answer["study"], storage=url)
    trials = {t["number"]: t for t in ended.trials("out")}
    best = ended.answer("best", "out")["best"][0]
    assert (study.best_trial.number, study.best_value) == (best["trial"], best["value"])
    assert study.direction.name == "MINIMIZE"
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    for trial in study.trials:
        mine = trials[trial.number]
        assert trial.state.name == states[mine["state"]]
        assert len(trial.intermediate_values) == mine["epochs"]
        assert trial.params["learning_rate"] == mine["params"]["learning_rate"]
        assert ("momentum" in trial.params) == ("momentum" in mine["params"])
    assert sum(trial.state.name == "PRUNED" for trial in study.trials) > 0

    again = ended.run("export", "out", "--optuna", url)
    assert again.returncode == 2
    assert answer["study"] in again.stderr


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--csv", "a.csv", "--optuna", "sqlite:///a.db"],
        ["--csv", "/nowhere/at/all.csv"],
        ["--optuna", "mysql://nowhere"],
        ["--optuna", "nonsense"],
        ["--csv", "a.csv", "--model", "a"],
        ["--model", "/dev/null"],
        ["--model", "/proc/nowhere"],
        ["--model", "/"],
    ],
)
def test_what_cannot_be_written_is_said(ended: Site, words: list[str]) -> None:
    done = ended.run("export", "out", *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def script(folder: Path, name: str, *words: str) -> str:
    """What a script of the folder prints, in a process that finds nothing of this project."""
    command = [sys.executable, "-I", str(folder / name), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def logged_model(site: Site, run_id: str) -> Any:
    """The winner as MLflow has it: the weights that its worker sent."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{site.home / 'mlflow.db'}")
    try:
        return mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    finally:
        mlflow.set_tracking_uri(None)  # the variable in the environment goes with it


def check_model(site: Site, summary: dict[str, Any], raw: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Export the winner, predict ``raw`` with it, train it again; return the predictions."""
    answer = site.answer("export", summary["sweep"], "--model", str(folder))
    best = summary["best"]
    assert answer["trial"] == best["trial"]
    for name in ("val_loss", "val_accuracy", "val_rmse"):
        if name in best["metrics"]:
            assert answer["metrics"][name] == pytest.approx(best["metrics"][name], rel=1e-4)

    raw.to_csv(folder / "rows.csv", index=False)
    made = pd.read_csv(io.StringIO(script(folder, "predict.py", "rows.csv")))
    wanted = logged_model(site, summary["mlflow"]["run_id"]).predict(raw).to_numpy()
    numbers = made.iloc[:, -wanted.shape[1] :].to_numpy()
    np.testing.assert_allclose(numbers, wanted, rtol=1e-4, atol=1e-5)

    printed = script(folder, "retrain.py")
    losses = {name: float(value) for name, value in re.findall(r"^(val_loss|test_loss) (\S+)", printed, re.MULTILINE)}
    assert losses["val_loss"] == pytest.approx(best["metrics"]["val_loss"], rel=1e-4)
    assert losses["test_loss"] == pytest.approx(answer["metrics"]["test_loss"], rel=1e-4)
    assert "sweeper" not in re.sub(r'""".*?"""', "", (folder / "retrain.py").read_text(), flags=re.DOTALL)
    card = (folder / "model_card.md").read_text()
    for words in ("## Data", "## Configuration", "## Results", "## Limits", f"{answer['metrics']['test_loss']:.6g}"):
        assert words in card
    assert str(site.home) not in card
    return made


def test_a_classifier_predicts_and_trains_again_without_sweeper(ended: Site, tmp_path: Path) -> None:
    from sklearn.datasets import load_iris

    summary = ended.answer("resume", "out", *INLINE)
    bunch = load_iris(as_frame=True)
    folder = tmp_path / "model"
    made = check_model(ended, summary, bunch.data, folder)
    assert len(made) == 150
    assert set(made["target"]) <= {"setosa", "versicolor", "virginica"}
    np.testing.assert_allclose(made.iloc[:, 1:].sum(axis=1), 1.0, atol=1e-5)
    scripts = ("predict.py", "numerals.py", "retrain.py", "model_card.md")
    exported = ("weights.safetensors", "model.onnx", "preprocessing.json", "data.npz", *scripts)
    assert {path.name for path in folder.iterdir()} == {*exported, "rows.csv", "retrained.safetensors"}

    again = ended.run("export", "out", "--model", str(folder))
    assert again.returncode == 2
    assert "not empty" in again.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ended.run("export", "out", "--model", str(empty)).returncode == 0


def test_without_the_package_onnx_everything_else_is_written_and_that_is_said(ended: Site, tmp_path: Path) -> None:
    bare = Site(ended.home, patches=("sweeper.export.onnx.is_available = lambda: False",))
    done = bare.run("export", "out", "--model", str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    assert "pip install 'sweeper[onnx]'" in done.stderr
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert "weights.safetensors" in files
    assert "model.onnx" not in files
    assert "ONNX" not in (tmp_path / "model" / "model_card.md").read_text()
    bare.close()


def test_a_regression_predicts_in_the_unit_of_its_target(ended: Site, tmp_path: Path) -> None:
    from sklearn.datasets import load_diabetes

    words = ("--trials", "12", "--set", "training.epochs=5", "--name", "sugar")
    summary = ended.answer("run", "--dataset", "diabetes", *words, *INLINE)
    made = check_model(ended, summary, load_diabetes(as_frame=True).data, tmp_path / "model")
    assert 25 < made["target"].median() < 350


def test_texts_flags_and_holes_are_taken_as_in_training(ended: Site, tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [
        {
            "length": None if draw.random() < 0.1 else round(draw.gauss(3 + number % 2, 0.4), 2),
            "place": draw.choice(["N", "S, far", None]),
            "wet": draw.random() < 0.5,
            "planet": "earth",
            "kind": "ab"[number % 2],
        }
        for number in range(120)
    ]
    table = tmp_path / "flowers.csv"
    frame = pd.DataFrame(rows)
    frame.to_csv(table, index=False)
    file = tmp_path / "flowers.json"
    file.write_text(
        f'{{"name": "flowers", "dataset": {{"path": "{table}", "target": "kind"}}, "space": "mlp", '
        '"training": {"epochs": 3, "clip_norm": null, "plateau": null}, "search": {"trials": 4}}'
    )
    summary = ended.answer("run", str(file), *INLINE)
    raw = frame.drop(columns=["kind", "planet"])
    raw.loc[0, "place"] = "nowhere"
    check_model(ended, summary, raw, tmp_path / "model")
    table.write_text(table.read_text().replace("earth", "venus", 1))
    changed = ended.run("export", "flowers", "--model", str(tmp_path / "later"))
    assert changed.returncode == 2
    assert "data has changed" in changed.stderr
    assert not (tmp_path / "later").exists()


def test_without_a_complete_trial_there_is_no_model(ended: Site, tmp_path: Path) -> None:
    file = tmp_path / "hopeless.json"
    file.write_text(
        '{"name": "hopeless", "dataset": {"name": "iris"}, "training": {"epochs": 3, "clip_norm": null}, '
        '"space": {"learning_rate": {"float": [1e30, 1e31]}, "optimizer": {"choice": ["sgd"]}}, '
        '"search": {"trials": 2}}'
    )
    assert ended.run("run", str(file), *INLINE).returncode == 3
    done = ended.run("export", "hopeless", "--model", str(tmp_path / "model"))
    assert done.returncode == 3, done.stderr
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    assert ended.answer("export", "hopeless", "--optuna", url)["trials"] == 2


def test_a_ledger_is_no_place_for_a_study(ended: Site) -> None:
    done = ended.run("export", "out", "--optuna", f"sqlite:///{ended.home / 'ledger.db'}")
    assert done.returncode == 2
    assert "other tables" in done.stderr
