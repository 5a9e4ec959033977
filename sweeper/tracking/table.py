"""The table of all trials of a large sweep as a CSV file, written with few of them in memory."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sweeper.insight.results import trial_row
from sweeper.records import TrialRecord


def write_rows(file: Path, trials: Callable[[], Iterable[TrialRecord]], run_of: Callable[[int], str | None]) -> None:
    """One row per trial, with the columns that ``trial_frame`` has; ``trials`` is read twice: names, then values."""
    columns: dict[str, None] = {}
    for trial in trials():
        columns |= dict.fromkeys(_flat(trial))
    with file.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, [*columns, "mlflow_run_id"], lineterminator="\n")
        writer.writeheader()
        for trial in trials():
            writer.writerow({**_flat(trial), "mlflow_run_id": run_of(trial.number)})


def _flat(trial: TrialRecord) -> dict[str, Any]:
    row = trial_row(trial)
    params, metrics, _, _ = row.pop("params"), row.pop("metrics"), row.pop("folds"), row.pop("mlflow_run_id", None)
    row |= {f"params_{name}": value for name, value in params.items()}
    return row | {f"metrics_{name}": value for name, value in metrics.items()}
