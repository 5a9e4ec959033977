"""The rules of a commit: which change applies to which state, and what it does. Pure; every ledger uses them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from sweeper.ledger.protocol import AttemptRecord
from sweeper.records import (
    Change,
    Ended,
    EpochReport,
    Found,
    Noted,
    Reopened,
    Reported,
    Requeued,
    Started,
    Suggested,
    SweepChanged,
    Tracked,
)
from sweeper.states import SWEEP_TRANSITIONS, TRIAL_REOPENINGS, TRIAL_TRANSITIONS, Cause, SweepState, TrialState

TERMINAL = frozenset(state for state in TrialState if state.terminal)
_SCALARS = frozenset({str, int, float, bool, type(None)})


@dataclass(slots=True)
class TrialRow:
    """A trial while a commit works on it: the fields of TrialRecord, changed in place.

    A store may keep ``params`` and ``metrics`` in its own encoding: the rules replace them, and never read them.
    ``metrics`` is None after a cut: the store looks up the last report that is left.
    """

    number: int
    state: TrialState = TrialState.WAITING
    reason: str = ""
    cause: Cause | None = None
    params: Any = None
    seed: int = 0
    attempt: int = 0
    lost: int = 0
    value: float | None = None
    metrics: Any = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    mlflow_run_id: str | None = None
    tracked_state: TrialState | None = None
    notes: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """The trial was assigned or ended: a smaller budget cannot drop it."""
        return self.attempt > 0 or self.state is not TrialState.WAITING


@dataclass(slots=True)
class SweepRow:
    """What a commit can change in a sweep."""

    state: SweepState
    reason: str
    requested: int
    priority: int
    started_at: float | None
    ended_at: float | None
    seconds: float
    mlflow_run_id: str | None
    mlflow_experiment_id: str | None
    summary: Mapping[str, Any]
    arithmetic: str
    note: str = ""
    tags: tuple[str, ...] = ()
    archived: bool = False


@dataclass(slots=True)
class ReportEdit:
    """What a commit does to one trial's reports: cut from epoch ``keep`` on (None: nothing cut), then append."""

    keep: int | None = None
    new: list[EpochReport] = field(default_factory=list)


def clean(text: str) -> str:
    """Text that every database can hold: no NUL, no half surrogates."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as JSON gives it back: tuples become lists.

    Raises:
        TypeError: something in it is not JSON data.
    """
    if all(type(value) in _SCALARS for value in data.values()):
        return dict(data)
    return dict(json.loads(json.dumps(data)))


def touched(changes: Iterable[Change]) -> set[int]:
    """The numbers of the trials that these changes are about."""
    return {change.number for change in changes if not isinstance(change, SweepChanged)}


@dataclass(frozen=True, slots=True)
class ClosedAttempt:
    """An attempt of a trial that a commit ends, at a Unix time and with an outcome in words."""

    number: int
    attempt: int
    at: float
    outcome: str


class Commit:
    """One commit while it is put together. Nothing is stored: the ledger writes what it finds here, or drops it.

    ``load`` gives a private copy of a stored trial. ``unfinished`` gives the numbers of the stored trials that are not
    terminal, ``begun`` those that have started or ended; both are asked only when a change needs it.
    """

    def __init__(
        self,
        sweep: SweepRow,
        load: Callable[[int], TrialRow | None],
        unfinished: Callable[[], Collection[int]],
        begun: Callable[[], Collection[int]],
        now: float,
    ):
        self.sweep = sweep
        self.sweep_changed = False
        self.all_tracked = False  # once the rest is stored, every terminal trial's state is its tracked state
        self.rows: dict[int, TrialRow] = {}
        self.changed: set[int] = set()
        self.edits: dict[int, ReportEdit] = {}
        self.opened: list[tuple[int, AttemptRecord]] = []
        self.closed: list[ClosedAttempt] = []
        self._stored = sweep.requested
        self._load, self._unfinished, self._begun, self._now = load, unfinished, begun, now

    def apply(self, changes: Sequence[Change]) -> list[int]:
        """Stage the changes in order; return the positions of those that were refused."""
        return [position for position, change in enumerate(changes) if not _RULES[type(change)](self, change)]

    def _row(self, number: int) -> TrialRow | None:
        row = self.rows.get(number)
        if row is None and 0 <= number < self.sweep.requested:
            row = self._load(number) if number < self._stored else TrialRow(number)
            if row is not None:
                self.rows[number] = row
        return row if number < self.sweep.requested else None

    def _suggested(self, change: Suggested) -> bool:
        row = self._row(change.number)
        if row is None or row.state is not TrialState.WAITING or row.params is not None:
            return False
        row.params, row.seed = plain(change.params), change.seed
        self.changed.add(change.number)
        return True

    def _started(self, change: Started) -> bool:
        row = self._row(change.number)
        if row is None or row.state is not TrialState.WAITING or row.params is None or change.attempt <= row.attempt:
            return False
        row.state, row.reason, row.attempt = TrialState.RUNNING, "", change.attempt
        if row.started_at is None:
            row.started_at = change.at
        self.opened.append((change.number, AttemptRecord(change.attempt, clean(change.worker), change.at)))
        self.changed.add(change.number)
        return True

    def _reported(self, change: Reported) -> bool:
        row = self._running(change.number, change.attempt)
        if row is None:
            return False
        new = _fresh(change.reports, row.epochs)
        if change.metrics is not None:
            row.metrics = change.metrics
            self.changed.add(change.number)
        if not new:
            return True  # every epoch was reported before
        edit = self.edits.get(change.number)
        if edit is None:
            edit = self.edits[change.number] = ReportEdit()
        edit.new += new
        row.epochs = new[-1].epoch + 1
        if change.metrics is None:
            row.metrics = new[-1].metrics
        row.seconds += change.seconds
        self.changed.add(change.number)
        return True

    def _found(self, change: Found) -> bool:
        row = self._row(change.number)
        if row is None or row.state in TERMINAL or row.attempt != change.attempt:
            return False
        row.params, row.attributes = plain(change.params), plain(change.attributes)
        self.changed.add(change.number)
        return True

    def _requeued(self, change: Requeued) -> bool:
        row = self._running(change.number, change.attempt)
        if row is None:
            return False
        row.state, row.reason = TrialState.WAITING, clean(change.reason)
        row.lost += change.lost
        self._cut(row, change.keep_epochs)
        self._close(row, self._now, "lost" if change.lost else "requeued")
        return True

    def _ended(self, change: Ended) -> bool:
        row = self._row(change.number)
        if row is None or change.state not in TERMINAL or change.state not in TRIAL_TRANSITIONS[row.state]:
            return False
        running = row.state is TrialState.RUNNING
        if change.attempt < row.attempt or (running and change.attempt != row.attempt):
            return False
        row.state, row.reason, row.cause = change.state, clean(change.reason), change.cause
        row.value, row.ended_at = change.value, change.at
        if running:
            self._close(row, change.at, change.state.value)
        self.changed.add(change.number)
        return True

    def _reopened(self, change: Reopened) -> bool:
        row = self._row(change.number)
        if row is None or self.sweep.state is SweepState.COMPLETE:
            return False
        if TrialState.WAITING not in TRIAL_REOPENINGS.get(row.state, ()):
            return False
        row.state, row.reason, row.lost = TrialState.WAITING, clean(change.reason), 0
        row.cause, row.value, row.started_at, row.ended_at, row.tracked_state = None, None, None, None, None
        self._cut(row, 0)
        self.changed.add(change.number)
        return True

    def _tracked(self, change: Tracked) -> bool:
        row = self._row(change.number)
        if row is None:
            return False
        stale = change.state in TERMINAL and row.state not in TERMINAL  # reopened while MLflow was being written
        row.mlflow_run_id = change.mlflow_run_id
        row.tracked_state = None if stale else change.state
        self.changed.add(change.number)
        return True

    def _noted(self, change: Noted) -> bool:
        row = self._row(change.number)
        if row is None:
            return False
        row.notes = (*row.notes, clean(change.text))
        self.changed.add(change.number)
        return True

    def _sweep_changed(self, change: SweepChanged) -> bool:
        sweep, state = self.sweep, change.state or self.sweep.state
        moves = state is not sweep.state
        if moves and state not in SWEEP_TRANSITIONS[sweep.state]:
            return False
        if change.requested is not None and not self._may_request(change.requested, state):
            return False
        requested = sweep.requested if change.requested is None else change.requested
        if moves and state is SweepState.COMPLETE and not self._all_terminal(requested):
            return False
        sweep.state, sweep.requested = state, requested
        if moves and state is SweepState.RUNNING:
            sweep.started_at, sweep.ended_at = sweep.started_at or change.at, None
        if moves and state.terminal:
            sweep.ended_at = change.at
        for name in ("priority", "mlflow_run_id", "mlflow_experiment_id", "seconds", "arithmetic", "archived"):
            if (value := getattr(change, name)) is not None:
                setattr(sweep, name, value)
        if change.summary is not None:
            sweep.summary = plain(change.summary)
        if change.reason is not None:
            sweep.reason = clean(change.reason)
        if change.note is not None:
            sweep.note = clean(change.note)
        if change.tags is not None:
            sweep.tags = tuple(clean(tag) for tag in change.tags)
        self.sweep_changed, self.all_tracked = True, self.all_tracked or change.tracked
        return True

    def _running(self, number: int, attempt: int) -> TrialRow | None:
        row = self._row(number)
        return row if row is not None and row.state is TrialState.RUNNING and row.attempt == attempt else None

    def _cut(self, row: TrialRow, keep: int) -> None:
        self.changed.add(row.number)
        if keep >= row.epochs:
            return
        edit = self.edits.setdefault(row.number, ReportEdit())
        edit.keep = keep if edit.keep is None else min(keep, edit.keep)
        edit.new = [report for report in edit.new if report.epoch < keep]
        row.epochs = keep
        row.metrics = edit.new[-1].metrics if edit.new else None if keep else {}

    def _close(self, row: TrialRow, at: float, how: str) -> None:
        outcome = f"{how}: {row.reason}" if row.reason else how
        self.closed.append(ClosedAttempt(row.number, row.attempt, at, outcome))

    def _may_request(self, requested: int, state: SweepState) -> bool:
        if requested < 1 or (state is SweepState.COMPLETE and requested != self.sweep.requested):
            return False
        if requested >= self.sweep.requested:
            return True
        going = [row for row in self.rows.values() if requested <= row.number < self.sweep.requested]
        if any(row.begun for row in going):
            return False
        staged = {row.number for row in going}
        return all(number < requested or number in staged for number in self._begun())

    def _all_terminal(self, requested: int) -> bool:
        if requested > self._stored and not all(number in self.rows for number in range(self._stored, requested)):
            return False
        if any(row.state not in TERMINAL for row in self.rows.values() if row.number < requested):
            return False
        return all(number in self.rows for number in self._unfinished() if number < requested)


def _fresh(reports: Iterable[EpochReport], epochs: int) -> list[EpochReport]:
    """The reports of epochs that are not known yet, in order; the first report of an epoch counts."""
    fresh = []
    for report in sorted(reports, key=attrgetter("epoch")):
        if report.epoch >= epochs:
            fresh.append(report)
            epochs = report.epoch + 1
    return fresh


_RULES: dict[type, Callable[[Commit, Any], bool]] = {
    Suggested: Commit._suggested,
    Started: Commit._started,
    Reported: Commit._reported,
    Found: Commit._found,
    Requeued: Commit._requeued,
    Ended: Commit._ended,
    Reopened: Commit._reopened,
    Tracked: Commit._tracked,
    Noted: Commit._noted,
    SweepChanged: Commit._sweep_changed,
}
