"""What each verb prints with ``--json``, as models: ``sweeper schema VERB`` publishes their JSON schemas."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from sweeper.cli.summary_schemas import Again, Answer, Baselines, Calibration, Ensemble, Finals, Number
from sweeper.insight.comparison import SweepComparison

SweepState = Literal["queued", "running", "paused", "complete", "stopped", "failed"]
TrialState = Literal["waiting", "running", "complete", "pruned", "failed", "stopped"]


class SweepRow(Answer):
    """A sweep with its number of trials by state."""

    sweep: str
    name: str
    state: SweepState
    requested: int
    complete: int
    pruned: int
    failed: int
    stopped: int


class Best(Answer):
    """A trial with its objective value; of a stopped one its ``state`` and the ``epochs`` until then, too."""

    trial: int
    value: Number
    params: dict[str, Any]
    metrics: dict[str, Number]
    state: TrialState | None = None
    epochs: int | None = None


class Trial(Answer):
    """A trial; of replicates and folds the metrics are means."""

    number: int
    state: TrialState
    reason: str
    value: Number
    attempts: int
    epochs: int
    params: dict[str, Any]
    metrics: dict[str, Number]
    folds: list[Number]
    mlflow_run_id: str | None
    seconds: float


class Mlflow(Answer):
    """Where the sweep is in MLflow."""

    tracking_uri: str
    experiment: str
    run_id: str | None


class Data(Answer):
    """What was made of the data."""

    described: str
    task: str
    why: str
    warnings: list[str]


class Summary(SweepRow):
    """``run``, ``resume`` and ``retry``. Keys that are absent had nothing to say."""

    ended: str | None = None  # why search.stop has ended the search before its trials had
    seconds: float
    best: Best | None
    data: Data | None = None
    baselines: Baselines | None = None
    finals: Finals | None = None
    ensemble: Ensemble | None = None
    calibration: Calibration | None = None
    test: dict[str, Number] | None = None
    test_intervals: dict[str, tuple[Number, Number]] | None = None
    again: Again | None = None
    mlflow: Mlflow


class Detached(Answer):
    """``run --detach``."""

    sweep: str
    name: str
    log: str


class ListRow(SweepRow):
    """A sweep in the list: labels where it has some, and ``created``, ``seconds`` or ``best`` if it is sorted by."""

    created: str | None = None
    seconds: float | None = None
    best: Number = None
    tags: list[str] | None = None
    note: str | None = None
    archived: bool | None = None


class Sweeps(Answer):
    """``list``."""

    sweeps: list[ListRow]


class Status(SweepRow):
    """``status``."""

    waiting: int
    running: int
    reason: str
    controller: str | None
    arithmetic: str | None
    seconds: float
    best: Best | None


class Trials(Answer):
    """``trials``; ``total`` with --limit or --offset: how many trials there are on all pages."""

    sweep: str
    trials: list[Trial]
    total: int | None = None


class Bests(Answer):
    """``best``; ``front`` with several objectives."""

    sweep: str
    best: list[Best]
    front: list[Best] | None = None


class Attempt(Answer):
    """One assignment of a trial to a worker."""

    attempt: int
    worker: str
    outcome: str


class Why(Trial):
    """``why``; ``violates`` are constraints that the trial does not satisfy."""

    seed: int
    notes: list[str]
    history: list[Attempt]
    gradients: list[str] | None = None
    phases: list[str] | None = None
    violates: list[str] | None = None


class Report(Answer):
    """``report``."""

    sweep: str
    report: str
    verdict: str


class Budget(SweepRow):
    """``budget``."""

    priority: int


class Labelled(Answer):
    """``tag``, ``note`` and ``archive``: what they are about."""

    sweep: str
    tags: list[str] | None = None
    note: str | None = None
    archived: bool | None = None


class Exported(Answer):
    """``export``: to an Optuna study, or the winner's model."""

    sweep: str
    study: str | None = None
    trials: int | None = None
    trial: int | None = None
    model: str | None = None
    metrics: dict[str, Number] | None = None


class Deleted(Answer):
    """``delete``."""

    deleted: str


class Check(Answer):
    """One check of the doctor."""

    name: str
    state: str
    found: str
    fix: str


class Doctor(Answer):
    """``doctor``."""

    checks: list[Check]
    ok: bool


class SpaceRow(Answer):
    """A ready-made space."""

    space: str
    question: str


class Spaces(Answer):
    """``spaces``; with a name the space as a space file has it."""

    spaces: list[SpaceRow]


class DatasetRow(Answer):
    """A built-in dataset."""

    name: str
    rows: int
    features: int
    task: Literal["classification", "regression"]
    classes: int | None


class Datasets(Answer):
    """``datasets``."""

    datasets: list[DatasetRow]


class Plan(BaseModel):
    """``plan``: more keys say what is special about a sweep."""

    model_config = ConfigDict(extra="allow")
    name: str
    dataset: str
    task: str
    trials: int
    epochs: int
    shapes: list[str]
    sampler: str
    device: str
    workers: int | str
    rows_that_fit: int
    data_megabytes: float
    training_seconds_estimate: float
    seconds_estimate: float
    seconds_of: dict[str, Any]


ANSWERS: dict[str, Any] = {
    "run": Summary | Detached,
    "plan": Plan,
    "resume": Summary,
    "retry": Summary,
    "list": Sweeps,
    "status": Status,
    "trials": Trials,
    "best": Bests,
    "why": Why,
    "report": Report,
    "compare": SweepComparison,
    "tag": Labelled,
    "note": Labelled,
    "archive": Labelled,
    "stop": SweepRow,
    "pause": SweepRow,
    "budget": Budget,
    "export": Exported,
    "delete": Deleted,
    "doctor": Doctor,
    "spaces": Spaces,
    "datasets": Datasets,
}


def schema_of(verb: str) -> dict[str, Any]:
    """The JSON schema of a verb's answer."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(ANSWERS[verb]).json_schema()}
