"""What each verb prints with ``--json``, as models: ``sweeper schema VERB`` publishes their JSON schemas."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from sweeper.insight.comparison import SweepComparison

Number = float | None
SweepState = Literal["queued", "running", "paused", "complete", "stopped", "failed"]
TrialState = Literal["waiting", "running", "complete", "pruned", "failed", "stopped"]


class _Answer(BaseModel):
    """An object without other keys than those named; null stands for a number that is none."""

    model_config = ConfigDict(extra="forbid")


class SweepRow(_Answer):
    """A sweep with its number of trials by state."""

    sweep: str
    name: str
    state: SweepState
    requested: int
    complete: int
    pruned: int
    failed: int
    stopped: int


class Best(_Answer):
    """A trial with its objective value; of a stopped one its ``state`` and the ``epochs`` until then, too."""

    trial: int
    value: Number
    params: dict[str, Any]
    metrics: dict[str, Number]
    state: TrialState | None = None
    epochs: int | None = None


class Trial(_Answer):
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


class Mlflow(_Answer):
    """Where the sweep is in MLflow."""

    tracking_uri: str
    experiment: str
    run_id: str | None


class Data(_Answer):
    """What was made of the data."""

    described: str
    task: str
    why: str
    warnings: list[str]


class Spread(_Answer):
    """Mean and sample deviation over the fresh seeds."""

    mean: Number
    deviation: Number


class Standing(_Answer):
    """A finalist on the test rows."""

    trial: int
    values: list[Number]
    mean: Number
    deviation: Number
    low: Number
    high: Number
    probability_best: Number
    cost: Number
    diverged: int
    search_value: Number
    validation_mean: Number
    metrics: dict[str, Spread]


class Pair(_Answer):
    """Two finalists: first - second."""

    first: int
    second: int
    difference: Number
    low: Number
    high: Number
    p: Number
    adjusted: Number
    different: bool


class Finals(_Answer):
    """The outcome of the finals, the best finalist first."""

    sweep: str
    metric: str
    direction: Literal["minimize", "maximize"]
    seeds: list[int]
    rows: int
    interval: str
    sentence: str
    leaders: list[int]
    cheapest: int | None
    rows_to_settle: int | None
    seeds_to_settle: int | None
    folds: int | None
    repeats: int
    standings: list[Standing]
    comparisons: list[Pair]


class BaselineRow(_Answer):
    """A simple model."""

    method: str
    validation: dict[str, Number]
    test: dict[str, Number]
    seconds: float
    problem: str


class BaselinePair(_Answer):
    """The winner against a simple model on the test rows: winner - model."""

    method: str
    difference: Number
    low: Number
    high: Number
    better: Literal["winner", "baseline", "neither"]


class Baselines(_Answer):
    """The winner beside simple models."""

    trial: int
    metric: str
    maximize: bool
    validation: dict[str, Number]
    test: dict[str, Number]
    rows: list[BaselineRow]
    pairs: list[BaselinePair]
    sentence: str


class Member(_Answer):
    """A trial of the ensemble, and its share."""

    trial: int
    share: float


class OnTest(_Answer):
    """The ensemble and the best trial on the test rows; ``low`` to ``high``: ensemble - trial."""

    metric: str
    rows: int
    ensemble: Number
    trial: Number
    low: Number
    high: Number


class BesideFinalist(_Answer):
    """The ensemble beside a finalist: ensemble - mean of its networks."""

    trial: int
    mean: Number
    difference: Number
    low: Number
    high: Number


class Ensemble(_Answer):
    """The kept ensemble."""

    metric: str
    members: list[Member]
    candidates: int
    value: Number
    single: Number
    gain: Number
    best: int
    test: OnTest
    finalists: list[BesideFinalist]
    size: int
    sentence: str


class Fit(_Answer):
    """Log loss and expected calibration error."""

    loss: Number
    error: Number


class Calibration(_Answer):
    """The temperature of the kept model."""

    temperature: float
    rows: int
    validation_before: Fit
    validation_after: Fit
    test_before: Fit
    test_after: Fit
    sentence: str


class Again(_Answer):
    """The winner came to another value when it was trained again."""

    trial: int
    recorded: Number
    again: Number
    arithmetic: str


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


class Detached(_Answer):
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


class Sweeps(_Answer):
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


class Trials(_Answer):
    """``trials``; ``total`` with --limit or --offset: how many trials there are on all pages."""

    sweep: str
    trials: list[Trial]
    total: int | None = None


class Bests(_Answer):
    """``best``; ``front`` with several objectives."""

    sweep: str
    best: list[Best]
    front: list[Best] | None = None


class Attempt(_Answer):
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
    violates: list[str] | None = None


class Report(_Answer):
    """``report``."""

    sweep: str
    report: str
    verdict: str


class Budget(SweepRow):
    """``budget``."""

    priority: int


class Labelled(_Answer):
    """``tag``, ``note`` and ``archive``: what they are about."""

    sweep: str
    tags: list[str] | None = None
    note: str | None = None
    archived: bool | None = None


class Exported(_Answer):
    """``export``: to an Optuna study, or the winner's model."""

    sweep: str
    study: str | None = None
    trials: int | None = None
    trial: int | None = None
    model: str | None = None
    metrics: dict[str, Number] | None = None


class Deleted(_Answer):
    """``delete``."""

    deleted: str


class Check(_Answer):
    """One check of the doctor."""

    name: str
    state: str
    found: str
    fix: str


class Doctor(_Answer):
    """``doctor``."""

    checks: list[Check]
    ok: bool


class SpaceRow(_Answer):
    """A ready-made space."""

    space: str
    question: str


class Spaces(_Answer):
    """``spaces``; with a name the space as a space file has it."""

    spaces: list[SpaceRow]


class DatasetRow(_Answer):
    """A built-in dataset."""

    name: str
    rows: int
    features: int
    task: Literal["classification", "regression"]
    classes: int | None


class Datasets(_Answer):
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
