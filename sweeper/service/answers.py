"""What the service's API takes and answers, as pydantic models for OpenAPI, and the records turned into it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sweeper.insight.results import sweep_row, trial_row
from sweeper.ledger.protocol import AttemptRecord
from sweeper.records import MAX_NOTE, MAX_TAG, MAX_TAGS, EpochReport, FlowReport, SweepRecord, TrialRecord
from sweeper.spec.dataset import data_files
from sweeper.spec.goals import values_of_folds
from sweeper.spec.stored import sweep_file_of

Number = Annotated[
    float | Literal["NaN", "Infinity", "-Infinity"] | None,
    Field(description="A number. NaN and infinities are sent as texts, which JSON lacks as numbers."),
]

SWEEP_EXAMPLE: dict[str, Any] = {
    "sweep": "h6v1k2q8",
    "name": "digits-mlp",
    "state": "running",
    "requested": 64,
    "complete": 17,
    "pruned": 0,
    "failed": 1,
    "stopped": 0,
    "counts": {"waiting": 30, "running": 16, "complete": 17, "pruned": 0, "failed": 1, "stopped": 0},
    "reason": "",
    "waiting": "",
    "controller": "sweeper:7",
    "spec": {"name": "digits-mlp", "dataset": {"name": "digits"}},
    "created_at": 1795540000.0,
    "started_at": 1795540001.5,
    "ended_at": None,
    "seconds": 0.0,
    "owner": "ada",
    "priority": 0,
    "parent": None,
    "mlflow_run_id": None,
    "mlflow_experiment_id": None,
    "summary": {},
    "arithmetic": "native-2",
    "note": "",
    "tags": ["baseline"],
    "archived": False,
    "best": None,
    "finals": None,
    "view": None,
}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class BestTrial(_Answer):
    """The best complete trial so far, as in ``run --json``."""

    trial: int
    value: Number
    params: dict[str, Any]
    metrics: dict[str, Number]


class Finals(_Answer):
    """The best trials, trained again on fresh seeds: how far that is."""

    state: Literal["queued", "running", "paused", "complete", "stopped", "failed"]
    requested: int
    counts: dict[str, int]


class Sweep(_Answer):
    """One sweep: the row of ``list --json`` and everything else that the ledger knows of it."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": SWEEP_EXAMPLE})
    sweep: str
    name: str
    state: Literal["queued", "running", "paused", "complete", "stopped", "failed"]
    requested: int
    complete: int
    pruned: int
    failed: int
    stopped: int
    counts: dict[str, int]
    reason: str
    waiting: str = Field(description="Why trials wait; empty when none does.")
    controller: str | None
    spec: dict[str, Any] | None = Field(description="null: it was not asked for.")
    created_at: float
    started_at: float | None
    ended_at: float | None
    seconds: float
    owner: str
    priority: int
    parent: str | None
    mlflow_run_id: str | None
    mlflow_experiment_id: str | None
    summary: dict[str, Any]
    arithmetic: str = Field(description="What all trials are computed in; empty: none has started.")
    note: str
    tags: list[str]
    archived: bool
    best: BestTrial | None
    finals: Finals | None = Field(description="The finals of a complete sweep until they have ended.")
    view: str | None = Field(description="A link to the sweep's comparison view in MLflow.")


class Trial(_Answer):
    """One trial: the row of ``trials --json`` and everything else that the ledger knows of it."""

    number: int
    state: Literal["waiting", "running", "complete", "pruned", "failed", "stopped"]
    reason: str
    cause: Literal["diverged", "lost", "out of memory", "metric", "code", "exhausted", "enough", "stopped"] | None = (
        Field(description="Why it failed or was stopped.")
    )
    value: Number
    attempts: int
    epochs: int
    folds: list[Number] = Field(description="The objective on each fold; empty: the sweep has no folds.")
    params: dict[str, Any] | None = Field(description="null: not suggested yet")
    metrics: dict[str, Number]
    mlflow_run_id: str | None
    seconds: float
    seed: int
    lost: int
    started_at: float | None
    ended_at: float | None
    notes: list[str]
    attributes: dict[str, Any] = Field(description="Of an objective of the user's own: user_attrs and distributions.")
    tracked_state: str | None


class Attempt(_Answer):
    """One assignment of a trial to a worker."""

    attempt: int
    worker: str
    started_at: float
    ended_at: float | None
    outcome: str


class TrialWithHistory(Trial):
    """One trial with every assignment it had."""

    history: list[Attempt]


class Sweeps(_Answer):
    """A page of sweeps, newest first; ``total`` counts all that match."""

    sweeps: list[Sweep]
    total: int


class Trials(_Answer):
    """A page of a sweep's trials; ``total`` counts all that match."""

    sweep: str
    trials: list[Trial]
    total: int


class Best(_Answer):
    """The best complete trials, the best first."""

    sweep: str
    best: list[Trial]


class Report(_Answer):
    """One trial's metrics of one epoch."""

    epoch: int
    metrics: dict[str, Number]


class Reports(_Answer):
    """Reports by trial number."""

    reports: dict[str, list[Report]]


class Flows(_Answer):
    """Statistics of every layer, by trial number and epoch."""

    flow: dict[str, list[dict[str, Any]]]


class Upload(_Answer):
    """A stored dataset: write its name as ``dataset: {upload: NAME, target: COLUMN}``."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"example": {"upload": "9f86d0….csv", "bytes": 4551, "sha256": "9f86d0…"}}
    )
    upload: str
    bytes: int
    sha256: str


class StoredUpload(_Answer):
    """One uploaded file."""

    upload: str
    bytes: int
    uploaded_at: float


class Uploads(_Answer):
    """A user's uploaded files, and how much room they may take."""

    datasets: list[StoredUpload]
    used_bytes: int
    quota_bytes: int


class Info(_Answer):
    """The service, and who is asking."""

    version: str
    user: str
    role: Literal["admin", "user", "viewer"]
    mlflow: str | None
    limits: dict[str, int | None]
    takes_code: bool = Field(description="Whether your sweeps may hold functions of your own.")


Tag = Annotated[str, Field(min_length=1, max_length=MAX_TAG)]


class Edit(BaseModel):
    """What can be changed in a sweep: its number of trials, its priority (higher runs first), and its labels.

    Labels can be changed at any time, the rest until the sweep has ended.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"requested": 128, "priority": 1}})
    requested: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100, strict=True)] | None = None
    note: Annotated[str, Field(max_length=MAX_NOTE)] | None = None
    tags: Annotated[list[Tag], Field(max_length=MAX_TAGS)] | None = None
    archived: Annotated[bool, Field(strict=True)] | None = None


def exact(value: Any) -> Any:
    """The same data with NaN and the infinities as texts."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: exact(item) for key, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, list | tuple) else value


def sweep_object(
    record: SweepRecord,
    *,
    spec: bool,
    best: TrialRecord | None,
    waiting: str,
    controller: str | None,
    view: str | None,
    finals: SweepRecord | None,
) -> dict[str, Any]:
    """A sweep as the API shows it."""
    return {
        **sweep_row(record),
        "counts": dict(record.counts),
        "reason": record.reason,
        "waiting": waiting,
        "controller": controller,
        "spec": shown_spec(record.spec) if spec else None,
        "created_at": record.created_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "seconds": record.seconds,
        "owner": record.owner,
        "priority": record.priority,
        "parent": record.parent,
        "mlflow_run_id": record.mlflow_run_id,
        "mlflow_experiment_id": record.mlflow_experiment_id,
        "summary": exact(dict(record.summary)),
        "arithmetic": record.arithmetic,
        "note": record.note,
        "tags": list(record.tags),
        "archived": record.archived,
        "best": None if best is None else best_object(best),
        "finals": None
        if finals is None
        else {"state": str(finals.state), "requested": finals.requested, "counts": dict(finals.counts)},
        "view": view,
    }


def shown_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A stored spec without the folders of this server: of a data file only its name is shown."""
    shown = sweep_file_of(spec)
    dataset = dict(shown.get("dataset") or {})
    if dataset:
        shown["dataset"] = dataset | {key: file.rpartition("/")[2] for key, file in data_files(dataset).items()}
    return dict(exact(shown))


def trial_object(trial: TrialRecord) -> dict[str, Any]:
    """A trial as the API shows it: nothing rounded, nothing left out."""
    return {
        **trial_row(trial),
        "cause": None if trial.cause is None else str(trial.cause),
        "value": exact(trial.value),
        "params": None if trial.params is None else exact(dict(trial.params)),
        "metrics": exact(dict(trial.metrics)),
        "folds": exact(values_of_folds(trial.metrics)),
        "seconds": trial.seconds,
        "seed": trial.seed,
        "lost": trial.lost,
        "started_at": trial.started_at,
        "ended_at": trial.ended_at,
        "notes": list(trial.notes),
        "attributes": exact(dict(trial.attributes)),
        "tracked_state": None if trial.tracked_state is None else str(trial.tracked_state),
    }


def best_object(trial: TrialRecord) -> dict[str, Any]:
    """A winner, as in ``run --json``."""
    shown = trial_object(trial)
    return {
        "trial": trial.number,
        "value": shown["value"],
        "params": shown["params"] or {},
        "metrics": shown["metrics"],
    }


def attempt_object(attempt: AttemptRecord) -> dict[str, Any]:
    """One assignment of a trial."""
    return {
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcome": attempt.outcome,
    }


def flow_object(flows: Mapping[int, list[FlowReport]]) -> dict[str, Any]:
    """Gradient flow by trial number."""
    return {
        str(n): [
            {"epoch": r.epoch, "layers": [exact(dict(layer)) for layer in r.layers], "clip_rate": exact(r.clip_rate)}
            for r in rows
        ]
        for n, rows in flows.items()
    }


def reports_object(reports: Mapping[int, list[EpochReport]]) -> dict[str, Any]:
    """Reports by trial number."""
    return {
        str(n): [{"epoch": r.epoch, "metrics": exact(dict(r.metrics))} for r in rows] for n, rows in reports.items()
    }
