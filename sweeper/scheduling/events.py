"""The scheduler's input (events), its output (actions), and what an action writes to the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from sweeper.models.embedding import Embedding
from sweeper.models.sizes import bucket_of
from sweeper.records import TrialRecord
from sweeper.scheduling.shares import SharesChanged
from sweeper.spec.inputs import PLAIN, Inputs
from sweeper.states import Cause, SweepState, TrialState


@dataclass(frozen=True)
class Shape:
    """The shape key: trials of the same key of the same sweep can share a cohort.

    A ``padded`` one stands for all shapes with this ``bucket``.
    """

    hidden_layers: tuple[int, ...]
    batch_size: int | Literal["full"]
    epochs: int
    inputs: Inputs = PLAIN
    normalization: str = "none"
    embedding: Embedding | None = None
    own: bool = False  # modules of the user's own, of any structures
    padded: bool = False

    @property
    def bucket(self) -> Shape:
        """The shape key on a worker that pads networks (``WorkerJoined``)."""
        return replace(self, hidden_layers=bucket_of(self.hidden_layers), padded=True)


def arithmetic_in(arithmetic: str, eager: str, compiled: bool) -> str:
    """What a sweep's trials are computed in by a worker of these two arithmetics (``WorkerJoined``).

    ``compiled``: the compiled path trains all of them, so that the eager one does not matter.
    """
    return arithmetic if compiled or eager in ("", arithmetic) else f"{arithmetic}, {eager}"


@dataclass(frozen=True)
class SweepPlan:
    """What the scheduler has to know of a sweep.

    ``window`` and ``batch`` are those of the search (``window.py``); ``decision_epochs`` are the epochs after
    which a pruner decides (empty: none); ``rows_per_trial`` is the number of replicates times that of folds.
    Only workers of this ``arithmetic`` train its trials; empty: the first worker's will be it. For
    ``compiled`` see ``arithmetic_in``. ``mixed``: trials of several shapes may share a cohort (``WorkerJoined``).
    """

    sweep: str
    requested: int
    window: int
    batch: int
    deterministic: bool = True
    decision_epochs: tuple[int, ...] = ()
    rows_per_trial: int = 1
    priority: int = 0
    owner: str = ""
    arithmetic: str = ""
    compiled: bool = True
    mixed: bool = False


EVERY_TRIAL = "every trial has ended"  # the reason of a complete sweep


class Verdict(StrEnum):
    """What became of a trial in a leg."""

    CONTINUE = "continue"
    HELD = "held"  # it has trained to its end; what becomes of it is not decided yet
    PAUSED = "paused"  # it has left its worker and waits for the others of its population
    ABANDONED = "abandoned"  # it was paused, and fails without having trained on
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True)
class LegOutcome:
    """One trial's part of a leg: ``epochs`` finished in all, and the decision with its reason."""

    number: int
    attempt: int
    epochs: int
    verdict: Verdict
    reason: str = ""
    value: float | None = None
    cause: Cause | None = None


@dataclass(frozen=True)
class Suggestion:
    """A trial that got its parameters; the scheduler only sees their shape."""

    number: int
    shape: Shape


# Events


@dataclass(frozen=True)
class SweepOpened:
    """A new or interrupted sweep: its trials as the ledger has them, and the shapes of those already suggested.

    Trials in a state of ``reopen`` wait again: a resumed sweep goes on to its total. ``paused`` ones wait for others.
    """

    plan: SweepPlan
    trials: tuple[TrialRecord, ...]
    shapes: dict[int, Shape]
    reopen: tuple[TrialState, ...] = ()
    paused: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TrialsSuggested:
    """The answer to ``Ask``. Fewer suggestions than asked means that no more will come: the space is exhausted, or the
    search has come to its end, and ``enough`` says why."""

    sweep: str
    suggestions: tuple[Suggestion, ...]
    enough: str = ""


@dataclass(frozen=True)
class WorkerJoined:
    """A worker can be given legs, of sweeps of its ``arithmetic``; what is not compiled it trains in ``eager``.

    ``mixes``: it trains row after row, so that rows of several shapes take no longer together than apart.
    ``pads``: it trains the rows of one bucket together.
    """

    worker: str
    arithmetic: str = ""
    eager: str = ""
    mixes: bool = False
    pads: bool = False


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone (dead, hung, or its node lost); nothing it held is left."""

    worker: str
    reason: str


@dataclass(frozen=True)
class WorkerDraining:
    """A worker's node is about to leave: it finishes its leg and gets no other."""

    worker: str


@dataclass(frozen=True)
class WorkerYields:
    """A worker has trained one cohort for long: if another sweep is due, its trials wait again after this leg."""

    worker: str


@dataclass(frozen=True)
class LegDone:
    """A worker finished a leg, in so many ``seconds``. Its verdicts may be on trials of other workers, too.

    Those ``going_on`` were paused.
    """

    worker: str
    leg: int
    outcomes: tuple[LegOutcome, ...]
    seconds: float = 0.0
    going_on: tuple[Suggestion, ...] = ()


@dataclass(frozen=True)
class TrialsDecided:
    """Verdicts on running trials that did not come with a leg of theirs; those ``going_on`` were paused."""

    sweep: str
    outcomes: tuple[LegOutcome, ...]
    going_on: tuple[Suggestion, ...] = ()


@dataclass(frozen=True)
class LegFailed:
    """A leg raised: ``oom`` halves the width and tries again; ``error`` counts as a lost attempt of its trials.

    The worker itself lives on and holds no rows any more.
    """

    worker: str
    leg: int
    kind: Literal["oom", "error"]
    detail: str


@dataclass(frozen=True)
class StopSweep:
    """End the sweep: legs in flight finish, everything not complete by then becomes ``stopped``.

    With ``enough`` the sweep is complete if a trial is: it goes on to its finals.
    """

    sweep: str
    reason: str
    enough: bool = False


@dataclass(frozen=True)
class PauseSweep:
    """Finish the legs in flight, put running trials back to waiting and start nothing new."""

    sweep: str
    reason: str


@dataclass(frozen=True)
class ResumeSweep:
    """A paused sweep goes on."""

    sweep: str


@dataclass(frozen=True)
class SweepForgotten:
    """A sweep was given up and forgotten: its workers may have nothing to do."""

    sweep: str


@dataclass(frozen=True)
class RetryTrials:
    """Reopen failed or stopped trials on a user's request."""

    sweep: str
    states: tuple[TrialState, ...]
    reason: str


@dataclass(frozen=True)
class BudgetChanged:
    """The sweep's total or priority was edited (None: unchanged); the total never falls below what was suggested."""

    sweep: str
    requested: int | None = None
    priority: int | None = None


Event = (
    SweepOpened
    | TrialsSuggested
    | WorkerJoined
    | WorkerLost
    | WorkerDraining
    | WorkerYields
    | LegDone
    | TrialsDecided
    | LegFailed
    | StopSweep
    | PauseSweep
    | ResumeSweep
    | SweepForgotten
    | RetryTrials
    | BudgetChanged
    | SharesChanged
)

# Actions


@dataclass(frozen=True)
class Ask:
    """Suggest the trials ``numbers``, the study knowing the results of trials 0..told-1 (None: of all that ended)."""

    sweep: str
    numbers: tuple[int, ...]
    told: int | None


@dataclass(frozen=True)
class Admit:
    """A trial takes a slot under this attempt number."""

    number: int
    attempt: int
    shape: Shape


@dataclass(frozen=True)
class RunLeg:
    """Give a worker its next leg: drop rows, admit rows, advance every row by up to ``epochs`` epochs.

    A ``cohort`` number other than the last leg's means that the worker starts over with no rows. Of a shape that it
    has no row of, it makes room for ``width`` trials or as many as come now.
    """

    worker: str
    leg: int
    sweep: str
    cohort: int
    admit: tuple[Admit, ...]
    drop: tuple[int, ...]
    epochs: int
    width: int


@dataclass(frozen=True)
class EndTrial:
    """Write the trial's terminal state."""

    sweep: str
    number: int
    attempt: int
    state: TrialState
    reason: str
    value: float | None = None
    cause: Cause | None = None


@dataclass(frozen=True)
class RequeueTrial:
    """Write that the trial waits again. ``lost``: the attempt counts against the limit."""

    sweep: str
    number: int
    attempt: int
    reason: str
    lost: bool


@dataclass(frozen=True)
class SaveCheckpoints:
    """Save those of the trials ``numbers`` whose leg, just done, brought what a checkpoint needs.

    ``before_commit``: they wait again with this very event, and the ledger has to say which epochs are saved.
    Otherwise the ledger is first, so that a checkpoint is never ahead of it.
    """

    sweep: str
    numbers: frozenset[int]
    before_commit: bool


@dataclass(frozen=True)
class ReopenTrial:
    """Write that a failed or stopped trial waits again, on a user's request."""

    sweep: str
    number: int
    reason: str


@dataclass(frozen=True)
class ChangeSweep:
    """Write the sweep's new state and reason."""

    sweep: str
    state: SweepState
    reason: str


@dataclass(frozen=True)
class FixArithmetic:
    """Write the arithmetic that all trials of the sweep are computed in from now on."""

    sweep: str
    arithmetic: str


@dataclass(frozen=True)
class ResizeSweep:
    """Write the sweep's new total."""

    sweep: str
    requested: int


Action = (
    Ask | RunLeg | EndTrial | RequeueTrial | SaveCheckpoints | ReopenTrial | ChangeSweep | FixArithmetic | ResizeSweep
)
