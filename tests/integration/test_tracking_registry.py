"""The alias ``champion`` of a registered model moves only to a version that is better on new rows, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.data.dataset import Dataset, load_dataset
from sweeper.insight.test_rows import RowDifference
from sweeper.spec.models import DatasetSpec, SplitSpec
from sweeper.tracking.registry import (
    CHAMPION,
    Registration,
    create_version,
    difference_on,
    find_version,
    judge,
    keep_outputs,
    kept_outputs,
    promote,
    score_tags,
)
from sweeper.tracking.store import Store

ROWS = "sha of the rows"


def held(difference: float) -> RowDifference:
    """A difference between two networks, with a standard error of about 0.01."""
    return RowDifference(difference, difference - 0.02, difference + 0.02)


@pytest.mark.parametrize(
    ("new", "old", "metric", "difference", "moves", "why"),
    [
        ({"test_loss": 0.5}, None, "loss", None, True, "first version"),
        ({"test_loss": 0.4}, {"test_loss": 0.5}, "loss", held(-0.1), True, "0.4 against 0.5 on the same rows"),
        ({"test_loss": 0.49}, {"test_loss": 0.5}, "loss", held(-0.01), False, "cannot be told apart"),
        ({"test_loss": 0.5}, {"test_loss": 0.5}, "loss", held(0.0), False, "not better"),
        ({"test_loss": 0.6}, {"test_loss": 0.5}, "loss", held(0.1), False, "not better"),
        ({"test_loss": float("nan")}, {"test_loss": 0.5}, "loss", held(-0.1), False, "not better"),
        ({"test_loss": 0.4}, {"test_accuracy": 0.5}, "loss", held(-0.1), False, "has no test.loss"),
        ({"test_loss": 0.4}, {"test_loss": 0.5}, "loss", None, False, "not there any more"),
        ({"test_accuracy": 0.9}, {"test_accuracy": 0.8}, "accuracy", held(0.1), True, "0.9 against 0.8"),
        ({"test_accuracy": 0.7}, {"test_accuracy": 0.8}, "accuracy", held(-0.1), False, "not better"),
        ({"test_rmse": 50.0}, {"test_rmse": 60.0}, "rmse", held(-10.0), True, "50 against 60"),
    ],
)
def test_a_version_takes_the_alias_when_it_is_better_on_new_rows(
    new: dict[str, float],
    old: dict[str, float] | None,
    metric: str,
    difference: RowDifference | None,
    moves: bool,
    why: str,
) -> None:
    before = None if old is None else score_tags(old, ROWS)
    decided, reason = judge(score_tags(new, ROWS), before, metric, difference)
    assert decided is moves
    assert why in reason


def test_a_version_that_was_tested_on_other_rows_keeps_the_alias() -> None:
    decided, reason = judge(
        score_tags({"test_loss": 0.4}, ROWS), score_tags({"test_loss": 0.5}, "other"), "loss", held(-0.1)
    )
    assert not decided
    assert "other rows" in reason


@pytest.fixture(scope="module")
def cancer() -> Dataset:
    return load_dataset(DatasetSpec(name="breast_cancer"), SplitSpec(), "standard")


def predicted(dataset: Dataset, wrong: int) -> np.ndarray:
    """Outputs that are right but on the first ``wrong`` of 114 test rows."""
    y = dataset.y_test.copy()
    y[:wrong] = 1 - y[:wrong]
    return np.where(y[:, None] == np.arange(2), 1.0, -1.0).astype(np.float32)


def register(client: Any, run: str, dataset: Dataset, folder: Path, wrong: int, rows: str = ROWS) -> Registration:
    trial = len(list(folder.iterdir()))
    outputs = predicted(dataset, wrong)
    loss = float(np.log1p(np.exp(-2.0))) + 2.0 * wrong / len(outputs)
    tags = {"winner.trial": str(trial), **score_tags({"test_loss": loss}, rows)}
    files = folder / str(trial)
    files.mkdir()
    keep_outputs(client, run, trial, outputs)
    version = create_version(client, "cancer's best", files.as_uri(), run, tags, None)  # type: ignore[arg-type]
    assert find_version(client, "cancer's best", run, tags).version == version.version
    assert find_version(client, "cancer's best", run, {"winner.trial": "another"}) is None

    def compare(old: Any) -> RowDifference | None:
        return difference_on(dataset, "loss", outputs, kept_outputs(client, old))

    return promote(client, "cancer's best", str(version.version), tags, "loss", compare)


def test_the_alias_moves_only_to_versions_that_are_better_on_new_rows_and_every_version_says_why(
    tmp_path: Path, cancer: Dataset
) -> None:
    client = Store(None, tmp_path / "home").client
    run = client.create_run(
        client.create_experiment("registry", (tmp_path / "artifacts").as_uri()), run_name="parent"
    ).info.run_id
    folder = tmp_path / "models"
    folder.mkdir()
    made = [
        register(client, run, cancer, folder, 30),
        register(client, run, cancer, folder, 31),
        register(client, run, cancer, folder, 0, rows="other rows"),
        register(client, run, cancer, folder, 29),
        register(client, run, cancer, folder, 10),
    ]
    champions = [(one.version, one.champion) for one in made]
    assert champions == [("1", True), ("2", False), ("3", False), ("4", False), ("5", True)]
    champion = client.get_model_version_by_alias("cancer's best", CHAMPION)
    assert str(champion.version) == "5"
    reasons = [client.get_model_version("cancer's best", str(n)).description for n in range(1, 6)]
    assert "first version" in reasons[0]
    assert "version 1 stays champion" in reasons[1]
    assert "not better" in reasons[1]
    assert "other rows" in reasons[2]
    assert "cannot be told apart" in reasons[3]
    assert "better than version 1" in reasons[4]
    again = promote(client, "cancer's best", "5", champion.tags, "loss", lambda _: None)
    assert again.champion
    client.delete_model_version("cancer's best", "5")  # the alias goes with it
    assert register(client, run, cancer, folder, 100).champion


def test_without_the_old_outputs_the_champion_stays(tmp_path: Path, cancer: Dataset) -> None:
    client = Store(None, tmp_path / "home").client
    run = client.create_run(
        client.create_experiment("registry", (tmp_path / "artifacts").as_uri()), run_name="parent"
    ).info.run_id
    folder = tmp_path / "models"
    folder.mkdir()
    register(client, run, cancer, folder, 30)
    [version] = client.search_model_versions(f"run_id = '{run}'")
    assert kept_outputs(client, version) is not None
    for file in (tmp_path / "artifacts").rglob("trial-0.npy"):
        file.unlink()
    assert kept_outputs(client, version) is None
    assert not register(client, run, cancer, folder, 0).champion
