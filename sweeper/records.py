"""Frozen records of what the ledger holds, and the changes that one transaction writes to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.states import Cause, SweepState, TrialState

MAX_NOTE, MAX_TAG, MAX_TAGS = 10_000, 60, 50  # letters of a note and of a tag, tags of a sweep


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One trial's metrics for one epoch (from 0). Metric names are those of ``History``; values may be non-finite.

    ``flow`` is the epoch's gradient flow on its way to the ledger, as ``sweeper.flow`` packs it; reports that are
    read come without it.
    """

    epoch: int
    metrics: Mapping[str, float]
    flow: bytes | None = None


@dataclass(frozen=True)
class FlowReport:
    """One trial's gradient flow in one epoch (from 0), measured on one minibatch (``sweeper.models.gradient_flow``).

    ``layers`` has a mapping for each linear layer, the first layer first: grad_norm, weight_norm, update_ratio,
    activation_mean, activation_std, saturated (tanh and sigmoid) and dead (relu). ``clip_rate`` is the share of the
    epoch's steps whose gradient was clipped. Of replicates it is the mean.
    """

    epoch: int
    layers: tuple[Mapping[str, float], ...]
    clip_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial as the ledger knows it. All N rows of a sweep exist from its creation; ``params`` is None until asked.

    ``cause`` says why a trial failed or was stopped (None: it did not). ``attempt`` counts assignments from 1 (0: never
    started); ``lost`` counts the attempts that a lost worker cost. ``value`` is the objective at the end (None when
    there is none), ``metrics`` those of a complete trial's kept epoch (``training.keep``), else of the last one, and
    what the trial cost as a whole; ``epochs`` the finished epochs, ``seconds`` the training wall time. Times are Unix
    seconds. ``attributes`` are what else is known of it (see ``Found``).
    """

    number: int
    state: TrialState = TrialState.WAITING
    reason: str = ""
    cause: Cause | None = None
    params: Mapping[str, Any] | None = None
    seed: int = 0
    attempt: int = 0
    lost: int = 0
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    mlflow_run_id: str | None = None
    tracked_state: TrialState | None = None
    notes: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepRecord:
    """One sweep as the ledger knows it. ``spec`` is the validated sweep file as JSON data.

    ``parent`` is the sweep whose finals this one holds (None: it is a sweep of its own). ``arithmetic`` names what all
    of its trials are computed in (``sweeper.models.arithmetic``; empty: none has started). ``note`` and ``tags`` are
    its user's; an ``archived`` sweep is not listed unless asked for.
    """

    sweep: str
    name: str
    state: SweepState
    reason: str
    requested: int
    spec: Mapping[str, Any]
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    seconds: float = 0.0
    owner: str = ""
    priority: int = 0
    parent: str | None = None
    mlflow_run_id: str | None = None
    mlflow_experiment_id: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    arithmetic: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    archived: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def waiting(self) -> str:
        """Why trials of a running sweep wait (empty: none does): while it runs, its reason says nothing else."""
        return self.reason if self.state is SweepState.RUNNING else ""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One access token of the service: ``token`` is its id, ``digest`` the SHA-256 of its secret in hexadecimal."""

    token: str
    user: str
    role: str
    digest: str
    created_at: float
    revoked_at: float | None = None


# One transaction is a list of changes, written all or none. A change that carries an attempt is refused (skipped and
# returned) when the trial has moved on to a later attempt or is terminal.


@dataclass(frozen=True)
class Suggested:
    """A waiting trial got its parameters."""

    number: int
    params: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Started:
    """waiting -> running: the trial was assigned to a worker under this attempt number."""

    number: int
    attempt: int
    worker: str
    at: float


@dataclass(frozen=True)
class Reported:
    """Epochs that one leg of a running trial finished; ``seconds`` is the training time they took.

    ``metrics`` are those of the trial as a whole, which has ended (None: those of its last epoch).
    """

    number: int
    attempt: int
    reports: tuple[EpochReport, ...]
    seconds: float = 0.0
    metrics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Found:
    """What there is to know of a trial that has started; it replaces what was known.

    Of an objective of the user's own that is what it has suggested and set so far, ``attributes`` being ``user_attrs``
    and the ``distributions`` of its parameters as Optuna's JSON; of a member of a population the parameters that it
    trains with now, and how it came to them (``sweeper.spec.phases``).
    """

    number: int
    attempt: int
    params: Mapping[str, Any]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Requeued:
    """running -> waiting. ``lost`` is true when the attempt counts against the limit; reports from ``keep_epochs`` on
    are dropped (0: the trial starts again; a checkpoint keeps the epochs it holds)."""

    number: int
    attempt: int
    reason: str
    lost: bool
    keep_epochs: int = 0


@dataclass(frozen=True)
class Ended:
    """-> a terminal state, with its reason and objective value; ``cause`` where it failed or was stopped."""

    number: int
    attempt: int
    state: TrialState
    reason: str
    value: float | None
    at: float
    cause: Cause | None = None


@dataclass(frozen=True)
class Reopened:
    """stopped | failed -> waiting, on a user's request only; the trial's reports are dropped."""

    number: int
    reason: str


@dataclass(frozen=True)
class Tracked:
    """MLflow shows the trial: its run id and the state written there (None: only the run exists)."""

    number: int
    mlflow_run_id: str
    state: TrialState | None


@dataclass(frozen=True)
class Noted:
    """A remark in the trial's history, such as a checkpoint that could not be read."""

    number: int
    text: str


@dataclass(frozen=True)
class Labels:
    """What a user writes on a sweep (None: it stays as it is)."""

    note: str | None = None
    tags: tuple[str, ...] | None = None
    archived: bool | None = None


@dataclass(frozen=True)
class SweepChanged:
    """The sweep moved to another state, or one of its fields changed (None: unchanged)."""

    state: SweepState | None = None
    reason: str | None = None
    at: float = 0.0
    requested: int | None = None
    priority: int | None = None
    mlflow_run_id: str | None = None
    mlflow_experiment_id: str | None = None
    summary: Mapping[str, Any] | None = None
    seconds: float | None = None
    arithmetic: str | None = None
    note: str | None = None
    tags: tuple[str, ...] | None = None
    archived: bool | None = None
    tracked: bool = False  # every ended trial counts as shown in MLflow: those without a run are not to have one


Change = Suggested | Started | Reported | Found | Requeued | Ended | Reopened | Tracked | Noted | SweepChanged
