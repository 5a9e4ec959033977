"""The composition root of the service: one pool and one controller thread for the sweeps of all users."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from sweeper.errors import SpecError, SweepBusy, SweeperError, SweepNotFound, TakenOver
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepRecord
from sweeper.running.controller import Controller
from sweeper.running.finals import NoSink, are_halted
from sweeper.running.leases import Holds, Watch
from sweeper.running.open_sweep import SETTLE_SECONDS, OpenSweep, prepare
from sweeper.running.parts import make_pool, parse_workers
from sweeper.running.run import SweepRun
from sweeper.service.attempts import Attempts
from sweeper.service.intake import SHOW_AGAIN_SECONDS, Intake
from sweeper.service.link import Status
from sweeper.service.own_process import OwnProcesses
from sweeper.service.sharing import Sharing, claim_of
from sweeper.service.workers import Workers
from sweeper.settings import Settings
from sweeper.spec.own_code import code_of
from sweeper.states import SweepState
from sweeper.tracking.tracker import SHOWN
from sweeper.training.pool import Pool, Post

log = logging.getLogger("sweeper")

LOOK_SECONDS = 1.0  # how often the ledger is asked for sweeps to take up
MAX_OPEN = 64  # sweeps that are run at once; more wait in the ledger
STOP_SECONDS = 30.0  # how long a stopping service waits for legs in flight
FLUSH_SECONDS = 5.0  # and then for MLflow


class Runner:
    """Takes queued and interrupted sweeps up from the ledger and runs them until each is terminal or paused.

    Only sweeps that have an owner are taken up: those without one belong to a command line on this machine. Threads:
    the controller's (it never waits for anything but events), one that asks the ledger for work, and a few that load
    data and finish sweeps. Nothing is kept that the ledger does not know: killed at any moment, the next service goes
    on.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        workers: str | int = "auto",
        user_limit: int | None = None,
        pool: Callable[[Post], Pool] | None = None,
        allow_code: bool = False,
    ) -> None:
        self.settings, self.ledger = settings, ledger
        self._queue: SimpleQueue[Any] = SimpleQueue()
        chosen = parse_workers(workers)
        self._pool = pool(self._queue.put) if pool else make_pool(chosen, settings.ray_address, self._queue.put)
        self._controller = Controller(self._queue, self._pool, self._emit, user_limit, give_up=self._given_up)
        watch = Watch(ledger)
        self._holds = Holds(ledger, watch)
        self._open: dict[str, OpenSweep] = {}  # in the controller; changed by its thread only
        self._finals: dict[str, tuple[OpenSweep, SweepRun]] = {}  # by the finals' own id; the same
        self._busy: set[str] = set()  # being loaded or finished
        self._attempts = Attempts(self._holds)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._deadline = 0.0
        self._intake = Intake(ledger, watch, self._holds.owner, self._may_try)
        self._own = OwnProcesses(settings, chosen, user_limit)  # sweeps with code; started in the look's thread only
        self._sharing = Sharing(self._controller, self._own, user_limit)
        self._allow_code = allow_code
        self._workers = Workers(self._pool)
        self._jobs = ThreadPoolExecutor(4, thread_name_prefix="sweeper-job")
        self._threads = [
            threading.Thread(target=work, name=f"sweeper-{name}", daemon=True)
            for name, work in (("workers", self._bring_up), ("control", self._control), ("look", self._look))
        ]

    # What other threads may ask

    def start(self) -> None:
        """Start the threads; returns at once."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is a new sweep in the ledger: do not wait until the next look."""
        self._wake.set()

    def announce_stop(self) -> None:
        """Begin to stop; returns at once and may be called in a signal handler."""
        if not self._stopping.is_set():
            self._deadline = time.monotonic() + STOP_SECONDS
            self._stopping.set()
            self._wake.set()
            self._queue.put(self._leave_all)

    def stop(self) -> None:
        """Let the legs in flight finish and leave every sweep to the next service. Waits."""
        self.announce_stop()
        for thread in self._threads[1:]:
            thread.join(timeout=STOP_SECONDS + 10)
        self._jobs.shutdown(wait=True, cancel_futures=True)
        if self._workers.problem is not None:  # the workers may be coming up
            self._threads[0].join(timeout=5)
        self._holds.close()
        with contextlib.suppress(Exception):
            self._pool.close()
        self._closed.set()
        self._threads[0].join(timeout=5)

    def status(self) -> Status:
        """The service as it is now."""
        apart = self._own.sweeps
        with self._lock:
            held = {*self._busy, *self._open, *apart}
        return Status(
            held=tuple(sorted(held)),
            running=tuple(sorted([*self._open, *self._finals, *apart])),
            workers=self._workers.names,
            largest_device=self._workers.largest_device,
            pool_problem=self._workers.problem,
            alive=all(thread.is_alive() for thread in self._threads[1:]),
            stopping=self._stopping.is_set(),
        )

    def holds(self, sweep: str) -> bool:
        """Whether the sweep is loaded, run or finished here now."""
        with self._lock:
            return sweep in self._busy or sweep in self._open or sweep in self._own.sweeps

    def runs(self, sweep: str) -> bool:
        """Whether the controller has the sweep, and takes its requests."""
        return sweep in self._open or sweep in self._own.sweeps

    def _bring_up(self) -> None:
        self._workers.bring_up(self._stopping, self._closed)

    # Looking for work

    def _look(self) -> None:
        while not self._stopping.is_set():
            try:
                self._after_own_processes()
                self._share()
                with self._lock:
                    room = MAX_OPEN - len(self._open) - len(self._busy)
                for record in [*self._intake.to_run(room), *self._intake.with_finals(), *self._intake.to_finish()]:
                    self._submit(record)
            except SweeperError as error:
                log.warning("the ledger could not be read: %s", error)
            except Exception:
                log.exception("looking for sweeps failed")
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
        self._own.close()

    def _after_own_processes(self) -> None:
        """Let go of sweeps whose process has ended; one that died is started again, later and later."""
        for ending in self._own.ended():
            with contextlib.suppress(SweepNotFound):
                self._attempts.after(ending, self.ledger.sweep(ending.sweep))
                self._release(ending.sweep)

    def _share(self) -> None:
        """Let all processes have their part of the workers; the controller's thread knows what its own want."""
        claims = [claim_of(self.ledger, sweep) for sweep in self._own.sweeps]
        if claims or self._sharing.divided:
            self._queue.put(lambda: self._sharing.divide([c for c in claims if c], len(self._workers.names)))

    def _may_try(self, sweep: str) -> bool:
        return not self.holds(sweep) and self._attempts.due(sweep)

    def _submit(self, record: SweepRecord) -> None:
        if self._allow_code and code_of(record.spec):
            free = self._workers.problem is None and not self._own.full(record.owner or "")
            if free and not self._stopping.is_set() and not self.holds(record.sweep):
                self._own.start(record.sweep, record.owner or "", self._pool.address)
                self._wake.set()  # it begins when it is told its part
            return
        with self._lock:
            if record.sweep in self._busy or self._stopping.is_set():
                return
            self._busy.add(record.sweep)
        self._jobs.submit(self._take_up, record)

    def _take_up(self, record: SweepRecord) -> None:
        """Load what the sweep needs, in a thread of its own, then hand it to the controller's thread."""
        sweep = record.sweep
        try:
            hold = self._holds.take(sweep)
            if code_of(record.spec):
                raise SpecError("this service runs no code of its users", remedy="Start it with --allow-code")
            record = hold.ledger.sweep(sweep)  # as its last controller has left it
            if record.state is SweepState.PAUSED:
                self._release(sweep)
                return
            opened = prepare(self.settings, hold, record)
        except SpecError as error:
            self._attempts.refuse(record, str(error))
            self._release(sweep)
        except SweepNotFound:
            self._release(sweep)
        except SweepBusy:  # another service was faster
            self._release(sweep)
        except Exception as error:
            self._failed(sweep, error)
        else:
            if record.state.terminal:
                self._conclude(opened)
            elif self._stopping.is_set():
                opened.close()
                self._release(sweep)
            else:
                self._queue.put(lambda: self._enter(opened))

    def _release(self, sweep: str) -> None:
        self._holds.release(sweep)
        with self._lock:
            self._busy.discard(sweep)

    def _failed(self, sweep: str, error: Exception) -> None:
        self._attempts.failed(sweep, error)
        self._release(sweep)

    # In the controller's thread

    def _control(self) -> None:
        try:
            self._controller.run(until=self._until)
        except Exception:
            log.exception("the controller ended")
        finally:
            for sweep, opened in [*self._open.items(), *((k, o) for k, (o, _) in self._finals.items())]:
                with contextlib.suppress(Exception):
                    self._controller.close(sweep)
                opened.close()
                self._release(sweep)
                self._release(opened.id)
            self._open, self._finals = {}, {}

    def _enter(self, opened: OpenSweep) -> None:
        """A prepared sweep begins to run."""
        sweep = opened.id
        try:
            if self._stopping.is_set():
                raise SweepBusy("the service is stopping")
            opened.begin()
            self._open[sweep] = opened
            self._controller.open(opened.run, opened.tracker, opened.trials, opened.hold)
        except Exception as error:
            self._open.pop(sweep, None)
            with contextlib.suppress(Exception):
                self._controller.close(sweep)
            opened.close()
            self._failed(sweep, error)
        else:
            opened.trials = []
            with self._lock:
                self._busy.discard(sweep)

    def _until(self) -> bool:
        """Take sweeps that have ended or paused out of the controller; true when a stop has been carried out."""
        for sweep, opened in list(self._open.items()):
            state = self._controller.state(sweep)
            if state is not SweepState.RUNNING:
                self._leave(opened, state)
        for sweep, (opened, finals) in list(self._finals.items()):
            state = self._controller.state(sweep)
            if state is not SweepState.RUNNING:
                self._leave_finals(opened, finals, state)
        over = not self._open and not self._finals
        return self._stopping.is_set() and (over or time.monotonic() >= self._deadline)

    def _leave(self, opened: OpenSweep, state: SweepState) -> None:
        with self._lock:
            self._busy.add(opened.id)
            del self._open[opened.id]
        opened.take_seconds()
        self._controller.close(opened.id)
        self._start_job(self._conclude if state.terminal else self._rest, opened)

    def _enter_finals(self, opened: OpenSweep, finals: SweepRun) -> None:
        """The finals of a sweep that has ended begin to run."""
        try:
            if self._stopping.is_set():
                raise SweepBusy("the service is stopping")
            if are_halted(self.ledger.sweep(finals.id)):  # while the data was loaded
                self._start_job(self._finish, opened)
                return
            self._finals[finals.id] = (opened, finals)
            hold = self._holds.take(finals.id)
            self._controller.open(finals, NoSink(), hold.ledger.trials(finals.id), hold)
        except Exception as error:
            self._given_up(finals.id, error)

    def _leave_finals(self, opened: OpenSweep, finals: SweepRun, state: SweepState) -> None:
        del self._finals[finals.id]
        self._controller.close(finals.id)
        self._holds.release(finals.id)
        if state is SweepState.COMPLETE:
            self._start_job(lambda opened: self._finish(opened, finals), opened)
        elif self._stopping.is_set():
            opened.close()
            self._release(opened.id)
        else:  # stopped or paused by a user
            self._start_job(self._finish, opened)

    def _start_job(self, job: Callable[[OpenSweep], None], opened: OpenSweep) -> None:
        try:
            self._jobs.submit(job, opened)
        except RuntimeError:  # the service has stopped already
            opened.close()

    def _leave_all(self) -> None:
        for sweep in [*self._open, *self._finals]:
            self._controller.leave(sweep)

    def _given_up(self, sweep: str, error: Exception) -> None:
        finals = self._finals.pop(sweep, None)
        opened = self._open.pop(sweep, None) if finals is None else finals[0]
        if opened is None:
            log.error("the controller met an error", exc_info=error)
            return
        opened.emit("sweep.given_up", {"sweep": sweep, "reason": " ".join(str(error).split())[:300]})
        opened.close()
        self._holds.release(sweep)
        self._failed(opened.id, error)

    # In the threads of jobs

    def _conclude(self, opened: OpenSweep) -> None:
        """A sweep has ended: its finals run, if there are to be any, or it is finished."""
        try:
            finals = opened.finals()
            if finals is None or are_halted(finals.record):
                self._finish(opened)
                return
        except Exception as error:
            opened.close()
            self._failed(opened.id, error)
        else:
            self._queue.put(lambda: self._enter_finals(opened, finals))

    def _finish(self, opened: OpenSweep, finals: SweepRun | None = None) -> None:
        """Judge the finals, and show the winner and the end of the sweep in MLflow."""
        try:
            if finals is not None:
                opened.conclude(finals)
            opened.finish(FLUSH_SECONDS if self._stopping.is_set() else SETTLE_SECONDS)
            if not self.ledger.sweep(opened.id).summary.get(SHOWN):
                self._attempts.later(opened.id, SHOW_AGAIN_SECONDS)
            else:
                self._attempts.forget(opened.id)
        except SweepNotFound:
            pass
        except TakenOver as error:
            log.warning("%s", error)
        except Exception as error:
            log.error("sweep %s could not be finished", opened.id, exc_info=error)
            self._attempts.later(opened.id, SHOW_AGAIN_SECONDS)
        finally:
            opened.close()
            self._release(opened.id)

    def _rest(self, opened: OpenSweep) -> None:
        """Show in MLflow that the sweep is paused; a sweep that the next service goes on with stays as it is."""
        try:
            opened.rest(FLUSH_SECONDS)
        except SweeperError as error:
            log.warning("sweep %s: %s", opened.id, error)
        finally:
            opened.close()
            self._release(opened.id)

    # Events

    def _emit(self, action: str, fields: Mapping[str, Any]) -> None:
        self._workers.take(action, fields)
        if action.startswith("worker."):
            log.info("%s %s", action, dict(fields))
            for opened in list(self._open.values()):
                opened.emit(action, fields)
        elif (known := self._open.get(str(fields.get("sweep")))) is not None:
            known.emit(action, fields)
        elif (final := self._finals.get(str(fields.get("sweep")))) is not None:
            final[0].emit(action, fields)
