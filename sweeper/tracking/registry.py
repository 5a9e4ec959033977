"""The winner as a version of a registered model, and the alias ``champion`` that only a better version takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.spec.goals import natural_direction

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
SAME_ROWS = "test.rows"  # the fingerprint of data, target and split: equal where test results can be compared
TEST_TAG = "test."
_MAX_DESCRIPTION = 5000


@dataclass(frozen=True)
class Registration:
    """One version of a registered model. ``champion`` says whether the alias is on it now, ``reason`` why."""

    model: str
    version: str
    champion: bool
    reason: str


def score_tags(scores: Mapping[str, float], same_rows: str) -> dict[str, str]:
    """What a version says of its test: ``test_loss`` as ``test.loss``, and on which rows it was measured."""
    tested = {TEST_TAG + name.removeprefix("test_"): repr(value) for name, value in scores.items()}
    return {**tested, SAME_ROWS: same_rows}


def tested_metric(objective: str) -> str:
    """The metric of the test rows that belongs to an objective: that of the same name, else the loss."""
    name = objective.removeprefix("val_") if objective.startswith("val_") else "loss"
    return TEST_TAG + name


def judge(new: Mapping[str, str], old: Mapping[str, str] | None, objective: str) -> tuple[bool, str]:
    """Whether a version with the tags ``new`` takes the alias from one with the tags ``old``, and why.

    It does when it is better on the same test rows; what cannot be compared stays as it is.
    """
    if old is None:
        return True, "it is the first version with the alias"
    if old.get(SAME_ROWS) != new.get(SAME_ROWS):
        return False, "it was tested on other rows (the data, the target or the split differs)"
    name = tested_metric(objective)
    mine, theirs = _number(new.get(name)), _number(old.get(name))
    if math.isnan(theirs):
        return False, f"it has no {name}, so the two cannot be compared"
    shown = f"{name} {mine:.6g} against {theirs:.6g} on the same rows"
    larger = natural_direction("val_" + name.removeprefix(TEST_TAG)) == "maximize"
    return (mine > theirs if larger else mine < theirs), shown


def find_version(client: MlflowClient, model: str, run: str, tags: Mapping[str, str]) -> Any | None:
    """The version that an earlier call made of the same winner."""
    for version in client.search_model_versions(f"run_id = '{run}'"):
        if version.name == model and all(version.tags.get(key) == value for key, value in tags.items()):
            return version
    return None


def create_version(
    client: MlflowClient, model: str, location: str, run: str, tags: Mapping[str, str], model_id: str
) -> Any:
    """A new version of ``model``, which is made when it is not there."""
    with contextlib.suppress(Exception):  # it exists; any other trouble shows at the next call
        client.create_registered_model(model)
    return client.create_model_version(model, location, run, dict(tags), model_id=model_id)


def promote(client: MlflowClient, model: str, version: str, tags: Mapping[str, str], objective: str) -> Registration:
    """Move the alias to this version, or leave it where it is; the version's description says why."""
    holder = client.get_registered_model(model).aliases.get(CHAMPION)
    if holder is not None and str(holder) == version:
        return Registration(model, version, True, "it has the alias already")
    old = None if holder is None else client.get_model_version(model, str(holder)).tags
    moves, why = judge(tags, old, objective)
    if moves:
        client.set_registered_model_alias(model, CHAMPION, version)
        reason = why if holder is None else f"{why}: better than version {holder}"
    else:
        reason = f"version {holder} stays {CHAMPION}: {why}"
    client.update_model_version(model, version, reason[:_MAX_DESCRIPTION])
    return Registration(model, version, moves, reason)


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan
