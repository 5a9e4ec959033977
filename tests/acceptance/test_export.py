"""A sweep's trials leave the building: as CSV, and as a study that Optuna opens."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

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
    ],
)
def test_what_cannot_be_written_is_said(ended: Site, words: list[str]) -> None:
    done = ended.run("export", "out", *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
