"""The winner as a version of a registered model, and the alias ``champion`` that only a better version takes."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.insight.test_rows import RowDifference, difference_between
from sweeper.models.metric_names import larger_is_better
from sweeper.text import from_to, number

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from sweeper.data.dataset import Dataset

CHAMPION = "champion"
SAME_ROWS = "test.rows"  # the fingerprint of data, target and split: equal where test results can be compared
TEST_TAG = "test."
OUTPUTS = "test_outputs"  # the folder of a parent run's artifacts that holds what its winners say of the test rows
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


def judge(
    new: Mapping[str, str], old: Mapping[str, str] | None, metric: str, difference: RowDifference | None
) -> tuple[bool, str]:
    """Whether a version with the tags ``new`` takes the alias from one with the tags ``old``, and why.

    It does when it is better in ``metric`` (plain name) on the same test rows, by a difference that holds on new rows:
    ``difference`` is that of new - old, with what it varies by over rows (None: not known). What cannot be compared
    stays as it is.
    """
    if old is None:
        return True, "it is the first version with the alias"
    if old.get(SAME_ROWS) != new.get(SAME_ROWS):
        return False, "it was tested on other rows (the data, the target or the split differs)"
    name = TEST_TAG + metric
    mine, theirs = _number(new.get(name)), _number(old.get(name))
    if math.isnan(theirs):
        return False, f"it has no {name}, so the two cannot be compared"
    if difference is None:
        return False, "what it said of the test rows is not there any more, so the two cannot be compared"
    shown = f"{name} {number(mine)} against {number(theirs)} on the same rows"
    if not (mine > theirs if larger_is_better(metric) else mine < theirs):
        return False, f"{shown}: not better"
    bounds = f"a difference of {from_to(difference.low, difference.high, 3)}"
    if difference.low <= 0.0 <= difference.high:
        return False, f"{shown}: on new rows they cannot be told apart ({bounds})"
    return True, f"{shown}, and so on new rows ({bounds})"


def keep_outputs(client: MlflowClient, run: str, trial: int, outputs: np.ndarray) -> None:
    """Log what a winner's network says of the test rows ``(t, C)``, for comparisons with later versions."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, _file_of(trial))
        np.save(file, outputs, allow_pickle=False)
        client.log_artifact(run, str(file), OUTPUTS)


def kept_outputs(client: MlflowClient, version: Any) -> np.ndarray | None:
    """What ``keep_outputs`` logged of a version's network; None: it is not there, or cannot be read."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            name = f"{OUTPUTS}/{_file_of(int(version.tags['winner.trial']))}"
            found: np.ndarray = np.load(client.download_artifacts(version.run_id, name, scratch), allow_pickle=False)
        except Exception:  # deleted, damaged, or the store of its files is out of reach: MLflow raises many kinds
            return None
        return found


def difference_on(dataset: Dataset, metric: str, new: np.ndarray, old: np.ndarray | None) -> RowDifference | None:
    """New - old on the dataset's test rows, row by row; None: the old outputs are not there or of another form."""
    if old is None or old.shape != new.shape:
        return None
    return difference_between(metric, dataset, new, old)


def _file_of(trial: int) -> str:
    return f"trial-{trial}.npy"


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


def promote(
    client: MlflowClient,
    model: str,
    version: str,
    tags: Mapping[str, str],
    metric: str,
    difference_from: Callable[[Any], RowDifference | None],
) -> Registration:
    """Move the alias to this version, or leave it where it is; the version's description says why.

    ``difference_from`` compares this version with another one, row by row: see ``judge``.
    """
    holder = client.get_registered_model(model).aliases.get(CHAMPION)
    if holder is not None and str(holder) == version:
        return Registration(model, version, True, "it has the alias already")
    old = None if holder is None else client.get_model_version(model, str(holder))
    same_rows = old is not None and old.tags.get(SAME_ROWS) == tags.get(SAME_ROWS)
    difference = difference_from(old) if same_rows else None
    moves, why = judge(tags, None if old is None else old.tags, metric, difference)
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
