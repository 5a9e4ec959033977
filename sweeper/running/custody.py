"""What a stop, pause, resume or retry does to a sweep: through its controller, or in the ledger when it has none."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sweeper.errors import SweepBusy
from sweeper.insight.results import end_of_search
from sweeper.ledger.protocol import Ledger
from sweeper.records import Change, Ended, Labels, Reopened, Requeued, SweepChanged, SweepRecord
from sweeper.running.finals import are_halted, finals_are_missing, finals_of
from sweeper.running.growth import check_growth, check_members, grow
from sweeper.running.leases import Watch, busy
from sweeper.running.owners import new_owner
from sweeper.scheduling.events import EVERY_TRIAL
from sweeper.settings import Settings
from sweeper.states import Cause, SweepState, TrialState

LOOK_SECONDS = 0.1  # between two looks whether a controller has done what it was asked
ACTIVE = (SweepState.QUEUED, SweepState.RUNNING)
HALTS = ("stop", "pause")  # requests that end a run


class Service(Protocol):
    """What works on sweeps besides the controller that holds a lease: it loads them before, and finishes them after."""

    def holds(self, sweep: str) -> bool:
        """Whether the sweep is loaded, run or finished now."""
        ...

    def runs(self, sweep: str) -> bool:
        """Whether a controller has the sweep, and takes its requests."""
        ...

    def wake(self) -> None:
        """There is a sweep to take up."""
        ...


@dataclass(frozen=True)
class NoService:
    """A machine without a service: who has a sweep has its lease, and runs it."""

    watch: Watch

    def holds(self, sweep: str) -> bool:
        """See ``Service``."""
        return self.watch.holder(sweep) is not None

    def runs(self, sweep: str) -> bool:
        """See ``Service``."""
        return self.holds(sweep)

    def wake(self) -> None:
        """See ``Service``."""


@dataclass(frozen=True)
class Steering:
    """What a user does to a sweep: through the controller that runs it, or straight in the ledger when none does.

    ``who`` is named in the reasons. Every call waits at most ``patience`` seconds: until a controller that is about to
    take the sweep up, or to let go of it, has done so, and then until it has done what it was asked.

    Raises (all methods):
        SweepBusy: the sweep has ended or is paused, and what is still done with it takes longer than ``patience``.
    """

    ledger: Ledger
    watch: Watch
    who: str
    patience: float
    service: Service

    def end(self, record: SweepRecord, wanted: SweepState) -> SweepRecord:
        """Stop or pause. What has ended, or is paused already, stays as it is; of a complete sweep its finals end."""
        if record.state is SweepState.COMPLETE:
            return self._end_finals(record, wanted)
        if record.state.terminal or record.state is wanted:
            return record
        reason = f"{wanted} by {self.who}"
        kind = "stop" if wanted is SweepState.STOPPED else "pause"
        deadline = time.monotonic() + self.patience
        while True:
            if self._hand_over(record, kind, {"reason": reason}):
                record = self._after(record.sweep, lambda now: now.state is wanted or now.state.terminal)
                if record.state is wanted or record.state.terminal or self._held(record.sweep):
                    return record
            try:
                with self._taken(record.sweep) as ledger:
                    end_unheld(ledger, ledger.sweep(record.sweep), wanted, reason)
                return self.ledger.sweep(record.sweep)
            except SweepBusy:  # a controller has taken it up in this moment: the request is for that one
                if time.monotonic() >= deadline:
                    raise

    def resume(self, record: SweepRecord, requested: int | None = None) -> SweepRecord:
        """Let a paused, stopped or failed sweep go on, and the finals of a complete one; others stay as they are.

        With ``requested`` the sweep goes on to that many trials in all, also a complete one (see ``growth.grow``).

        Raises:
            SpecError: it cannot.
        """
        if requested is not None and requested != record.requested:
            check_growth(self.ledger, record, requested)
            if record.state in ACTIVE:
                return self.change(record, requested, None)
            self._until_released(record)
            with self._taken(record.sweep) as ledger:
                void_halts(ledger, record.sweep)
                record = ledger.sweep(record.sweep)
                grow(ledger, record, requested)
                if (grown := ledger.sweep(record.sweep)).state is not SweepState.RUNNING:
                    reopen_unheld(ledger, grown, f"resumed by {self.who}")
            self.service.wake()
            return self.ledger.sweep(record.sweep)
        if record.state is SweepState.COMPLETE:
            finals = finals_of(self.ledger, record)
            if finals is None or not are_halted(finals):
                return record
            self._until_released(record)
            self._reopen(finals, f"resumed by {self.who}")
            return self._tell_of_finals(record, f"finals resumed by {self.who}")
        if record.state is SweepState.QUEUED:
            return record
        if record.state is SweepState.RUNNING:
            if self.service.runs(record.sweep):
                self.ledger.request(record.sweep, "resume")
            else:
                void_halts(self.ledger, record.sweep)
            return record
        self._until_released(record)
        self._reopen(record, f"resumed by {self.who}")
        return self.ledger.sweep(record.sweep)

    def retry(self, record: SweepRecord) -> bool:
        """Run the failed trials again; whether a controller was asked to, else they wait for the next one."""
        if record.state is SweepState.QUEUED:
            return False
        reason = f"retried by {self.who}"
        handed = self._hand_over(record, "retry", {"reason": reason})
        if not handed and record.counts.get(TrialState.FAILED, 0):
            self._reopen(record, reason, failed=True)
        return handed

    def change(self, record: SweepRecord, requested: int | None, priority: int | None) -> SweepRecord:
        """Change the number of trials or the priority (None: it stays).

        Raises:
            SweepBusy: the sweep has ended.
            SpecError: trials that would go have started, or the sweep is one population.
        """
        if record.state.terminal:
            raise SweepBusy(
                f"sweep {record.sweep} is {record.state}: a sweep that has ended cannot be changed. "
                f"`sweeper resume {record.sweep} --trials N` goes on with it to more trials"
            )
        if requested is not None:
            check_members(record, requested)
        if priority is not None:
            self.ledger.commit(record.sweep, [SweepChanged(priority=priority)])
        wanted = {"requested": requested, "priority": priority}
        if record.state in ACTIVE and self._hand_over(record, "budget", wanted):
            return self._after(record.sweep, lambda now: requested in (None, now.requested) or now.state.terminal)
        if requested is not None:
            with self._taken(record.sweep) as ledger:
                ledger.extend(record.sweep, requested)
        return self.ledger.sweep(record.sweep)

    def check_idle(self, record: SweepRecord) -> None:
        """Refuse a sweep that is running, or whose finals are; wait for one that is being finished.

        Raises:
            SweepBusy: it runs.
        """
        sweep, finals = record.sweep, finals_of(self.ledger, record)
        if record.state in ACTIVE and self._held(sweep):
            raise SweepBusy(f"sweep {sweep} is running. Stop it first: sweeper stop {sweep}")
        if finals is not None and finals.state in ACTIVE and self._held(finals.sweep):
            raise SweepBusy(f"the finals of sweep {sweep} are running. Stop them first: sweeper stop {sweep}")
        self._until_released(record)

    def _end_finals(self, record: SweepRecord, wanted: SweepState) -> SweepRecord:
        """Stop or pause the finals of a complete sweep, if they have not ended."""
        deadline = time.monotonic() + self.patience
        while (finals := finals_of(self.ledger, record)) is None and finals_are_missing(record):
            if not self._held(record.sweep) or time.monotonic() >= deadline:
                break
            time.sleep(LOOK_SECONDS)  # the search has ended a moment ago
            record = self.ledger.sweep(record.sweep)
        if finals is None or finals.state.terminal or finals.state is wanted:
            return record
        self.end(finals, wanted)
        return self._tell_of_finals(record, f"finals {wanted} by {self.who}")

    def _tell_of_finals(self, record: SweepRecord, text: str) -> SweepRecord:
        """The reason of a complete sweep says what has become of its finals."""
        ended = end_of_search(self.ledger, record) or EVERY_TRIAL
        self.ledger.commit(record.sweep, [SweepChanged(reason=f"{ended}; {text}")])
        return self.ledger.sweep(record.sweep)

    def _reopen(self, record: SweepRecord, reason: str, failed: bool = False) -> None:
        with self._taken(record.sweep) as ledger:
            void_halts(ledger, record.sweep)
            reopen_unheld(ledger, record, reason, failed=failed)
        self.service.wake()

    @contextlib.contextmanager
    def _taken(self, sweep: str) -> Iterator[Ledger]:
        """Hold a sweep that nobody runs for a moment, so that no controller takes it up meanwhile.

        Raises:
            SweepBusy: one has.
        """
        owner = new_owner()
        lease = self.watch.take(sweep, owner)
        if lease is None:
            raise busy(sweep, self.watch.holder(sweep))
        try:
            yield self.ledger.holding(sweep, lease.number)
        finally:
            self.ledger.release_lease(sweep, owner)

    def _held(self, sweep: str) -> bool:
        """Whether the service, or a controller elsewhere, has the sweep."""
        return self.service.holds(sweep) or self.watch.holder(sweep) is not None

    def _hand_over(self, record: SweepRecord, kind: str, args: Mapping[str, Any]) -> bool:
        """Leave a request for the controller that runs the sweep; false when none does."""
        deadline = time.monotonic() + self.patience
        while True:
            active = self.ledger.sweep(record.sweep).state in ACTIVE
            if active and self.service.runs(record.sweep):
                break
            if not self._held(record.sweep):
                return False
            if time.monotonic() >= deadline:
                if not active:
                    raise SweepBusy(f"sweep {record.sweep} is being finished. Try again in a moment")
                break  # its data takes long to load: the request is read when it is open
            time.sleep(LOOK_SECONDS)
        self.ledger.request(record.sweep, kind, args)
        return True

    def _until_released(self, record: SweepRecord) -> None:
        """Wait for what is still done with a sweep that has ended."""
        deadline = time.monotonic() + self.patience
        while self._held(record.sweep):
            if time.monotonic() >= deadline:
                raise SweepBusy(f"sweep {record.sweep} is being finished. Try again in a moment")
            time.sleep(LOOK_SECONDS)

    def _after(self, sweep: str, done: Callable[[SweepRecord], bool]) -> SweepRecord:
        """The sweep once the controller has acted on a request or is gone, or as it is after a while."""
        deadline = time.monotonic() + self.patience
        while True:
            record = self.ledger.sweep(sweep)
            if done(record) or not self._held(sweep) or time.monotonic() >= deadline:
                return record
            time.sleep(LOOK_SECONDS)


def void_halts(ledger: Ledger, sweep: str) -> None:
    """Forget each stop and pause that was asked of an earlier controller, which ended before it acted on them.

    Whoever lets a sweep go on has to do this, or the next controller would halt it at once.
    """
    for request in ledger.take_requests(sweep):
        if request.kind not in HALTS:
            ledger.request(sweep, request.kind, request.args)


def label(ledger: Ledger, record: SweepRecord, labels: Labels) -> SweepRecord:
    """Change what a user wrote on a sweep, whoever runs it."""
    ledger.commit(record.sweep, [SweepChanged(note=labels.note, tags=labels.tags, archived=labels.archived)])
    return ledger.sweep(record.sweep)


def remove(settings: Settings, ledger: Ledger, record: SweepRecord) -> None:
    """Delete a sweep that is idle: its runs from MLflow, its records, its files."""
    from sweeper.tracking.tracker import delete_runs

    delete_runs(settings, record)
    ledger.delete_sweep(record.sweep)
    shutil.rmtree(settings.home / "sweeps" / record.sweep, ignore_errors=True)


def end_unheld(ledger: Ledger, record: SweepRecord, wanted: SweepState, reason: str) -> None:
    """Stop, fail or pause the sweep: what its last controller left running is put back, or ends."""
    now = time.time()
    changes: list[Change] = []
    for trial in ledger.trials(record.sweep):
        if trial.state is TrialState.RUNNING:
            changes.append(Requeued(trial.number, trial.attempt, "its controller ended", lost=False))
        if wanted.terminal and not trial.state.terminal:
            why = reason if trial.attempt else f"never started: {reason}"
            changes.append(Ended(trial.number, trial.attempt, TrialState.STOPPED, why, None, now, Cause.STOPPED))
    if record.state is SweepState.QUEUED and wanted is SweepState.PAUSED:
        changes.append(SweepChanged(state=SweepState.RUNNING, at=now))
    ledger.commit(record.sweep, [*changes, SweepChanged(state=wanted, reason=reason, at=now)])


def reopen_unheld(ledger: Ledger, record: SweepRecord, reason: str, failed: bool = False) -> None:
    """Let a paused or ended sweep run again; its stopped trials wait again, with ``failed`` its failed ones, too.

    The reason stands with the trials: a running sweep's own reason says why its trials wait, and nothing else.
    """
    states = {TrialState.STOPPED, TrialState.FAILED} if failed else {TrialState.STOPPED}
    again = [Reopened(t.number, reason) for t in ledger.trials(record.sweep) if t.state in states]
    ledger.commit(record.sweep, [SweepChanged(state=SweepState.RUNNING, reason="", at=time.time()), *again])
