"""The buffered writer that shows a sweep in MLflow while it runs, in a thread of its own."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sweeper.errors import SweeperError, TakenOver
from sweeper.ledger.protocol import Ledger
from sweeper.logs import Emit
from sweeper.records import SweepChanged, SweepRecord, Tracked, TrialRecord
from sweeper.settings import Settings
from sweeper.states import TrialState
from sweeper.tracking.choice import Choice
from sweeper.tracking.entries import Point, RunCurves, trial_entry
from sweeper.tracking.sweep import SweepInMlflow, delete_runs
from sweeper.tracking.ui import open_ui

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.spec.parse import SweepSpec
    from sweeper.training.averaging import TrialModel

__all__ = ["Tracker", "delete_runs", "open_ui"]

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds between two attempts while MLflow does not answer
TRIES = 3  # of work that MLflow answers but refuses; and of a flush, while MLflow does not answer
SETTLE_SECONDS = 1.0  # how often the ledger is told and the parent run's curves go on
GATHER_SECONDS = 0.5  # how long ended trials wait for others to be written with: a transaction costs as much as several
AT_ONCE = 50  # ended trials looked at together in a sweep of which few are shown
PAGE = 500  # trials read from the ledger at a time when the sweep's tables are written
SHOWN = "shown_in_mlflow"  # in a sweep's summary: tables, model and final state are written
REFUSALS = (400, 404, 409, 413, 422)


@dataclass(slots=True)
class _Job:
    """One piece of work for the writer, repeated until it is done or refused for good."""

    what: str
    do: Callable[[], None]
    tries: int = 0


@dataclass(slots=True)
class _Ended:
    """An ended trial to be shown, which is read from the ledger when its turn comes.

    Those that wait beside each other are written together, unless one of them was refused: then each ``alone``.
    """

    number: int
    tries: int = 0
    alone: bool = False

    @property
    def what(self) -> str:
        return f"trial {self.number}"


class Tracker:
    """Shows one sweep in MLflow. Every method returns at once, except ``flush`` and ``close``, which wait.

    The ledger is told which run shows a trial, and asked at ``start`` what earlier processes left unwritten: what is
    missing because MLflow was down, this process died or a user deleted runs is written by the sweep's next tracker.
    ``emit`` is told of ``tracker.down`` and ``tracker.up``, of ``tracker.refused`` when MLflow refuses something for
    good, of ``tracker.repaired`` when runs had been deleted, of ``tracker.left_out`` when torch cannot write the winner
    as a model, and of ``tracker.registered`` when it became a version of a registered model.

    ``confirm`` is called before each piece of work. When it raises ``TakenOver``, or the ledger does, another process
    shows the sweep, and this one writes nothing more.
    """

    def __init__(
        self,
        settings: Settings,
        sweep: SweepRecord,
        spec: SweepSpec,
        dataset: Dataset,
        ledger: Ledger,
        emit: Emit = lambda action, fields: None,
        confirm: Callable[[], None] = lambda: None,
    ) -> None:
        self._sweep, self._ledger, self._emit, self._confirm = sweep, ledger, emit, confirm
        self._target = SweepInMlflow(settings, sweep, spec, dataset)
        self._choice = Choice(spec.tracking.trials, sweep.requested)
        self._direction = spec.objective.direction
        self._progress = RunCurves(self._direction == "maximize", spec.constraints, self._choice.stride)
        self._jobs: deque[_Job | _Ended] = deque()
        self._settling = _Job("the sweep's curves", self._settle)
        self._told: list[Tracked] = []
        self._points: list[Point] = []
        self._settled = self._written = time.monotonic()
        self._refused: set[int] = set()
        self._chosen: set[int] = set()  # trials that are to have a run, in a sweep of which not all have one
        self._failures = self._flushes = 0
        self._closing = self._hurry = self._down = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"mlflow-{sweep.sweep}", daemon=True)

    def start(self) -> None:
        """Begin in the background: import MLflow, make or find the sweep's runs, write what is missing there."""
        with self._changed:
            self._jobs.appendleft(_Job("the sweep", self._begin))
        self._thread.start()

    def trial_ended(self, number: int) -> None:
        """Show an ended trial."""
        self._put(_Ended(number))

    def log_winner(self, trial: TrialRecord, winner: TrialModel) -> None:
        """Log the model that is kept as one of the parent run, and register it if the spec names a model.

        ``trial`` is the best trial.
        """
        self._put(_Job("the winner's model", lambda: self._log_winner(trial, winner)))

    def log_report(self, html: str) -> None:
        """Put the report of the sweep into the parent run, whose page in MLflow shows it."""
        self._put(_Job("the report", lambda: self._target.log_text("report.html", html)))

    def trials_ended(self) -> None:
        """Write what is missing of the trials, then the tables of all of them, from the ledger."""
        self._put(_Job("the missing trials", self._catch_up))
        self._put(_Job("the trials without a run", self._leave_out))
        self._put(_Job("the tables", lambda: self._target.log_tables(self._trials, self._choice)))

    def sweep_ended(self) -> None:
        """Write the parent run's summary and final state, from the ledger; after ``trials_ended``."""
        self._put(_Job("the sweep's summary", self._end))
        self._put(_Job("the ledger", self._mark_shown))

    def sweep_paused(self, sweep: SweepRecord) -> None:
        """Show that the sweep waits for a resume."""
        self._put(_Job("the sweep's state", lambda: self._target.pause(sweep)))

    def flush(self, timeout: float) -> list[int]:
        """Wait until everything is written: at most ``timeout`` seconds, and not for an MLflow that does not answer.

        Returns the numbers of the trials that MLflow does not show yet; a resume writes them.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._failures, self._hurry = 0, True
            self._flushes += 1
            self._changed.notify_all()
            while self._busy() and self._failures < TRIES and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._hurry = False
            return sorted(self._refused | self._waiting())

    def close(self) -> None:
        """Stop after the call that is being made; what is unwritten stays for the next tracker of the sweep."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _busy(self) -> bool:
        return self._thread.is_alive() and not self._closing and bool(self._jobs or self._told or self._points)

    def _waiting(self) -> set[int]:
        """The trials in the queue."""
        return {job.number for job in self._jobs if isinstance(job, _Ended)}

    def _put(self, job: _Job | _Ended) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    # What the writer's thread does

    def _begin(self) -> None:
        place = self._target.connect()
        told = SweepChanged(mlflow_run_id=place.parent, mlflow_experiment_id=place.experiment)
        self._ledger.commit(self._sweep.sweep, [told])
        if place.created and self._sweep.mlflow_run_id is None:
            return
        ended = [trial for trial in self._ledger.trials(self._sweep.sweep) if trial.state.terminal]
        gone = []
        for trial in sorted(ended, key=_end_of):
            points = self._progress.add(trial)
            self._choice.failed += trial.state is TrialState.FAILED and trial.mlflow_run_id is not None
            if trial.tracked_state is not trial.state or place.created:
                self._points += points
            elif trial.mlflow_run_id is not None and not self._target.shows(trial.number):
                gone.append(trial.number)
        if gone or place.created:
            repaired = {"sweep": self._sweep.sweep, "trials": len(gone), "parent": place.created}
            self._emit("tracker.repaired", repaired)
        self._catch_up(gone)

    def _catch_up(self, gone: Sequence[int] = ()) -> None:
        """Put the trials in front that MLflow should show and does not; those ``gone`` were deleted there."""
        self._choice.requested = self._ledger.sweep(self._sweep.sweep).requested
        wanted = self._choice.missing(self._ledger, self._sweep.sweep, self._direction)
        missing = sorted({*gone, *(trial.number for trial in wanted)})
        with self._changed:
            known = self._waiting() | {change.number for change in self._told}
            current = self._jobs.popleft()
            self._jobs.extendleft(_Ended(number) for number in reversed(missing) if number not in known)
            self._jobs.appendleft(current)
            self._chosen.update(missing)

    def _leave_out(self) -> None:
        """The trials of a large sweep that have no run are not waited for any longer."""
        if not self._choice.everything:
            self._ledger.commit(self._sweep.sweep, [SweepChanged(tracked=True)])

    def _write(self, numbers: Sequence[int]) -> None:
        sweep, ledger = self._sweep.sweep, self._ledger
        ended = [trial for trial in ledger.trials(sweep, numbers=numbers) if trial.state.terminal]  # others: retried
        ended.sort(key=_end_of)
        ended = [trial for trial in ended if self._to_show(trial)]
        found = [trial.number for trial in ended]
        reports, flow = ledger.reports(sweep, numbers=found), ledger.flow(sweep, numbers=found)
        entries = [trial_entry(self._sweep, t, reports.get(t.number, ()), flow.get(t.number, ())) for t in ended]
        for trial, run in zip(ended, self._target.write(entries), strict=True):
            self._told.append(Tracked(trial.number, run, trial.state))
            self._refused.discard(trial.number)
        self._written = time.monotonic()

    def _to_show(self, trial: TrialRecord) -> bool:
        """Whether the ended trial gets a run; it counts in the parent run's curves anyway."""
        before = self._progress.best
        self._points += self._progress.add(trial)
        if trial.number in self._chosen or self._target.shows(trial.number):
            return True
        shown = self._choice.wants(trial, improved=self._progress.best != before)
        if shown:
            self._chosen.add(trial.number)
        return shown

    def _log_winner(self, trial: TrialRecord, winner: TrialModel) -> None:
        made = self._target.log_winner(trial, winner)
        if self._target.left_out is not None:
            self._emit("tracker.left_out", {"sweep": self._sweep.sweep, "reason": self._target.left_out})
        if made is not None:
            self._emit("tracker.registered", {"sweep": self._sweep.sweep, **asdict(made)})

    def _end(self) -> None:
        self._target.end(self._ledger.sweep(self._sweep.sweep), self._trials, self._choice)

    def _trials(self) -> Iterator[TrialRecord]:
        """All trials by number, few of them in memory at a time."""
        for first in itertools.count(0, PAGE):
            page = self._ledger.trials(self._sweep.sweep, numbers=range(first, first + PAGE))
            yield from page
            if len(page) < PAGE:
                return

    def _mark_shown(self) -> None:
        """From now on a resume of the complete sweep finds nothing to do in MLflow."""
        summary = {**self._ledger.sweep(self._sweep.sweep).summary, SHOWN: True}
        self._ledger.commit(self._sweep.sweep, [SweepChanged(summary=summary)])

    def _settle(self) -> None:
        """Bring the parent run's curves and the ledger up to date."""
        if self._points:
            self._target.log_points(self._points)
            self._points = []
        self._ledger.commit(self._sweep.sweep, self._told)
        self._told = []
        self._settled = time.monotonic()

    # The thread itself

    def _work(self) -> None:
        while jobs := self._next():
            try:
                self._confirm()
                self._do(jobs)
            except TakenOver:
                self._give_up()
            except Exception as error:  # MLflow raises whatever its parts raise, and training must not notice
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                if self._target.connected and _is_refusal(error):
                    self._put_off(jobs, reason)
                else:
                    self._wait_for_mlflow(reason)
            else:
                self._done(jobs)

    def _give_up(self) -> None:
        """Forget what is unwritten: the sweep's new controller writes it."""
        with self._changed:
            self._closing = True
            self._jobs.clear()
            self._told, self._points = [], []
            self._changed.notify_all()

    def _do(self, jobs: Sequence[_Job | _Ended]) -> None:
        for job in jobs:
            if isinstance(job, _Job):
                job.do()
        if ended := [job.number for job in jobs if isinstance(job, _Ended)]:
            self._write(ended)

    def _next(self) -> Sequence[_Job | _Ended]:
        """The head of the queue, or settling when it is time for that; nothing when the thread has to stop."""
        with self._changed:
            while not self._closing:
                gathered = bool(self._told or self._points)
                due = self._settled + (0.0 if self._hurry and not self._jobs else SETTLE_SECONDS)
                now = time.monotonic()
                if gathered and now >= due:
                    return [self._settling]
                wait = [due - now] if gathered else []
                if self._jobs:
                    left = self._written + GATHER_SECONDS - now if self._may_gather() else 0.0
                    if left <= 0:
                        return self._head()
                    wait.append(left)
                self._changed.wait(min(wait, default=None))
        return []

    def _may_gather(self) -> bool:
        """Nothing but a few trials waits, which MLflow takes together with those that end soon."""
        if self._hurry or len(self._jobs) >= self._target.together:
            return False
        return all(isinstance(job, _Ended) and not job.alone for job in self._jobs)

    def _head(self) -> Sequence[_Job | _Ended]:
        """The first job; if that is a trial, as many of those behind it as MLflow takes together."""
        together: dict[int, _Ended] = {}
        most = self._target.together if self._choice.everything else max(AT_ONCE, self._target.together)
        for job in itertools.islice(self._jobs, most):
            if not isinstance(job, _Ended) or job.alone or job.number in together:
                break
            together[job.number] = job
        return list(together.values()) or [self._jobs[0]]

    def _done(self, jobs: Sequence[_Job | _Ended]) -> None:
        with self._changed:
            self._remove(jobs)
            was_down, self._down, self._failures = self._down, False, 0
            self._changed.notify_all()
        if was_down:
            self._emit("tracker.up", {"sweep": self._sweep.sweep})

    def _put_off(self, jobs: Sequence[_Job | _Ended], reason: str) -> None:
        """Go on with the rest: a refused job is tried again later, and given up in the end."""
        job, *others = jobs
        if others:  # one of them is refused, and nobody knows which
            for ended in jobs:
                assert isinstance(ended, _Ended)
                ended.alone = True
            return
        job.tries += 1
        given_up = job.tries >= TRIES
        with self._changed:
            self._remove(jobs)
            if job is self._settling:
                if given_up:
                    self._points, job.tries = [], 0
            elif not given_up:
                self._jobs.append(job)
            elif isinstance(job, _Ended):
                self._refused.add(job.number)
            self._changed.notify_all()
        if given_up:
            self._emit("tracker.refused", {"sweep": self._sweep.sweep, "what": job.what, "reason": reason})

    def _wait_for_mlflow(self, reason: str) -> None:
        with self._changed:
            self._failures += 1
            failures, flushes = self._failures, self._flushes
            was_down, self._down = self._down, True
            self._changed.notify_all()
        if not was_down:
            self._emit("tracker.down", {"sweep": self._sweep.sweep, "reason": reason})
        until = time.monotonic() + min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (failures - 1))
        with self._changed:
            while not self._closing and flushes == self._flushes and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _remove(self, jobs: Sequence[_Job | _Ended]) -> None:
        for job in jobs:
            if self._jobs and self._jobs[0] is job:
                self._jobs.popleft()


def _end_of(trial: TrialRecord) -> tuple[float, int]:
    """Trials in the order in which they ended."""
    return trial.ended_at or 0.0, trial.number


def _is_refusal(error: Exception) -> bool:
    """MLflow answered and will answer the same again; anything else may pass."""
    status = getattr(error, "get_http_status_code", None)
    if status is not None:
        return status() in REFUSALS
    return not isinstance(error, OSError | SweeperError | sqlite3.OperationalError)  # the last: locked, or disk full
