"""The alias ``champion`` of a registered model moves only to a version that is better on the same test rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeper.tracking.registry import CHAMPION, Registration, create_version, find_version, judge, promote, score_tags
from sweeper.tracking.store import Store

ROWS = "sha of the rows"


@pytest.mark.parametrize(
    ("new", "old", "objective", "moves"),
    [
        (score_tags({"test_loss": 0.5}, ROWS), None, "val_loss", True),
        (score_tags({"test_loss": 0.4}, ROWS), score_tags({"test_loss": 0.5}, ROWS), "val_loss", True),
        (score_tags({"test_loss": 0.5}, ROWS), score_tags({"test_loss": 0.5}, ROWS), "val_loss", False),
        (score_tags({"test_loss": 0.6}, ROWS), score_tags({"test_loss": 0.5}, ROWS), "val_loss", False),
        (score_tags({"test_loss": 0.4}, ROWS), score_tags({"test_loss": 0.5}, "other"), "val_loss", False),
        (score_tags({"test_loss": float("nan")}, ROWS), score_tags({"test_loss": 0.5}, ROWS), "val_loss", False),
        (score_tags({"test_loss": 0.4}, ROWS), {"test.rows": ROWS, "test.loss": "much"}, "val_loss", False),
        (score_tags({"test_loss": 0.4}, ROWS), {}, "val_loss", False),
        (score_tags({"test_accuracy": 0.9}, ROWS), score_tags({"test_accuracy": 0.8}, ROWS), "val_accuracy", True),
        (score_tags({"test_accuracy": 0.7}, ROWS), score_tags({"test_accuracy": 0.8}, ROWS), "val_accuracy", False),
        (score_tags({"test_rmse": 50.0}, ROWS), score_tags({"test_rmse": 60.0}, ROWS), "val_rmse", True),
        (score_tags({"test_loss": 0.4}, ROWS), score_tags({"test_loss": 0.5}, ROWS), "parameters", True),
    ],
)
def test_a_version_takes_the_alias_when_it_is_better_on_the_same_rows(
    new: dict[str, str], old: dict[str, str] | None, objective: str, moves: bool
) -> None:
    decided, reason = judge(new, old, objective)
    assert decided is moves
    assert reason


def register(client: Any, run: str, folder: Path, scores: dict[str, float], rows: str = ROWS) -> Registration:
    tags = {"winner.trial": str(len(list(folder.iterdir()))), **score_tags(scores, rows)}
    files = folder / tags["winner.trial"]
    files.mkdir()
    version = create_version(client, "iris's best", files.as_uri(), run, tags, None)  # type: ignore[arg-type]
    assert find_version(client, "iris's best", run, tags).version == version.version
    assert find_version(client, "iris's best", run, {"winner.trial": "another"}) is None
    return promote(client, "iris's best", str(version.version), tags, "val_loss")


def test_the_alias_moves_only_to_better_versions_and_every_version_says_why(tmp_path: Path) -> None:
    client = Store(None, tmp_path / "home").client
    run = client.create_run(client.create_experiment("registry"), run_name="parent").info.run_id
    folder = tmp_path / "models"
    folder.mkdir()
    made = [
        register(client, run, folder, {"test_loss": 0.5}),
        register(client, run, folder, {"test_loss": 0.6}),
        register(client, run, folder, {"test_loss": 0.1}, rows="other rows"),
        register(client, run, folder, {"test_loss": 0.4}),
    ]
    assert [(one.version, one.champion) for one in made] == [("1", True), ("2", False), ("3", False), ("4", True)]
    champion = client.get_model_version_by_alias("iris's best", CHAMPION)
    assert str(champion.version) == "4"
    reasons = [client.get_model_version("iris's best", str(n)).description for n in (1, 2, 3, 4)]
    assert "first version" in reasons[0]
    assert "version 1 stays champion" in reasons[1]
    assert "0.6 against 0.5" in reasons[1]
    assert "other rows" in reasons[2]
    assert "0.4 against 0.5" in reasons[3]
    again = promote(client, "iris's best", "4", champion.tags, "val_loss")
    assert again.champion
    client.delete_model_version("iris's best", "4")  # the alias goes with it
    assert register(client, run, folder, {"test_loss": 9.0}).champion
