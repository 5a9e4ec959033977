"""The composition root of a sweep on this machine: ledger, workers, study, tracker and controller put together."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sweeper.data.dataset import load, load_same
from sweeper.errors import Interrupted
from sweeper.ledger.opening import open_home_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.logs import Emit, EventLog
from sweeper.records import SweepChanged, SweepRecord
from sweeper.running.baselines import begin_baselines
from sweeper.running.checkpoints import Checkpoints
from sweeper.running.controller import Controller
from sweeper.running.custody import own_name, wait_until_free
from sweeper.running.finals import NoSink, conclude, finals_are_due, open_finals
from sweeper.running.open_sweep import SETTLE_SECONDS, finish
from sweeper.running.parts import ProgressSink, make_pool, make_study, parse_workers
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import PauseSweep
from sweeper.search.warm_start import take_over
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import spec_of, stored_form
from sweeper.states import SweepState
from sweeper.tracking.check import check_tracking
from sweeper.training.pool import Pool

Progress = Callable[[SweepRecord], ProgressSink]
INTERRUPT_SECONDS = 10.0  # how long an interrupted sweep waits for MLflow to take its last trials


@dataclass
class _Start:
    """Workers that come up in the background, and where they post what they have to say."""

    queue: SimpleQueue[Any]
    pool: Pool
    threads: ThreadPoolExecutor
    started: Future[None]


def run_new(
    spec: SweepSpec, settings: Settings, workers: str | int = "auto", progress: Progress | None = None
) -> SweepRecord:
    """Create a sweep and run it to its end.

    Raises:
        SpecError: the spec, its data or MLflow's store cannot be used; nothing was written then.
        Interrupted: the user stopped it; it can be resumed.
    """
    workers = parse_workers(workers)
    settings.ensure_home()
    check_tracking(settings.mlflow_tracking_uri, settings.home)
    with _starting(workers, settings) as start:
        dataset = load(spec)
        ledger = open_home_ledger(settings)
        spec = take_over(spec, ledger, dataset.fingerprint)
        study = make_study(spec)
        requested = spec.search.trials if study.size is None else min(spec.search.trials, study.size)
        record = ledger.create_sweep(spec.name, stored_form(spec, dataset.fingerprint), requested)
        return _drive(start, settings, ledger, SweepRun(record, spec, dataset, study), progress)


def run_again(
    ref: str, settings: Settings, workers: str | int = "auto", progress: Progress | None = None
) -> SweepRecord:
    """Go on with an interrupted, paused, stopped or failed sweep to its total; a complete one is returned as it is.

    Raises:
        SweepNotFound: there is no such sweep.
        SpecError: its data is gone or has changed, or MLflow's store cannot be used.
        SweepBusy: another controller runs it.
    """
    from sweeper.tracking.tracker import SHOWN

    workers = parse_workers(workers)
    ledger = open_home_ledger(settings)
    record = ledger.sweep(ref)
    spec = spec_of(record)
    shown = record.summary.get(SHOWN) and not ledger.untracked(record.sweep)
    if record.state is SweepState.COMPLETE and shown and not finals_are_due(ledger, record, spec):
        return record
    check_tracking(settings.mlflow_tracking_uri, settings.home)
    wait_until_free(ledger, record.sweep)
    with _starting(workers, settings) as start:
        dataset = load_same(record, spec)
        return _drive(start, settings, ledger, SweepRun(record, spec, dataset, make_study(spec)), progress)


@contextlib.contextmanager
def _starting(workers: str | int, settings: Settings) -> Iterator[_Start]:
    """Workers that come up in the background while data and ledger are opened in this thread."""
    queue: SimpleQueue[Any] = SimpleQueue()
    pool = make_pool(workers, settings.ray_address, queue.put)
    with ThreadPoolExecutor(2, thread_name_prefix="sweeper-start") as executor:
        start = _Start(queue, pool, executor, executor.submit(pool.start))
        try:
            yield start
        finally:
            with contextlib.suppress(Exception):
                start.started.result()
            pool.close()


def _drive(start: _Start, settings: Settings, ledger: Ledger, run: SweepRun, progress: Progress | None) -> SweepRecord:
    """Run one sweep with everything in place, and leave ledger and MLflow complete."""
    from sweeper.tracking.tracker import Tracker

    sweep = run.id
    sink = (progress or (lambda _: ProgressSink()))(run.record)
    log = EventLog(settings.home, sweep)

    training = threading.Event()

    def emit(action: str, fields: Mapping[str, Any]) -> None:
        if action == "trial.started":
            training.set()
        action = action if fields.get("sweep", sweep) == sweep else f"finals.{action}"
        log(action, fields)
        sink(action, fields)

    _tell_of_beginning(run, emit)
    run.checkpoints = Checkpoints(settings.home / "sweeps" / sweep / "checkpoints")
    controller = Controller(start.queue, ledger, start.pool, own_name(), emit)
    tracker = Tracker(settings, run.record, run.spec, run.dataset, ledger, emit)
    began = time.monotonic()
    try:
        trials = ledger.trials(sweep)
        run.restore(trials, ledger.reports(sweep) if any(t.params for t in trials) else {})
        start.started.result()
        controller.open(run, tracker, trials)
        del trials  # the scheduler has what it needs of them
        with _signals(start.queue, [sweep]) as (interrupted, running):
            controller.run(until=lambda: training.is_set() or controller.state(sweep) is not SweepState.RUNNING)
            tracker.start()  # MLflow, and what the end needs, are imported while trials train
            start.threads.submit(_prepare_end, run, log.folder)
            controller.run(until=lambda: controller.state(sweep) is not SweepState.RUNNING)
            done = controller.state(sweep).terminal
            if (finals := open_finals(ledger, run)) is not None:
                running.append(finals.id)
                done = not interrupted.is_set() and _run_finals(controller, settings, ledger, run, finals)
        seconds = run.record.seconds + time.monotonic() - began
        ledger.commit(sweep, [SweepChanged(seconds=seconds)])
        if done:
            start.threads.submit(start.pool.close)  # Ray takes a second or two, in which the report is drawn
            run.checkpoints.clear()
            sink("sweep.finishing", {"sweep": sweep})
            finish(run, ledger, tracker, log.folder, emit)
        else:
            tracker.sweep_paused(ledger.sweep(sweep))
        tracker.flush(SETTLE_SECONDS if not interrupted.is_set() else INTERRUPT_SECONDS)
    finally:
        sink.close()
        controller.close(sweep)
        tracker.close()
        log.close()
    if interrupted.is_set():
        raise Interrupted(f"interrupted. Continue with: sweeper resume {sweep}")
    return ledger.sweep(sweep)


def _tell_of_beginning(run: SweepRun, emit: Emit) -> None:
    """What a user should know of the data and of an earlier sweep that this one learns from."""
    for warning in run.dataset.warnings:
        emit("data.warning", {"sweep": run.id, "text": warning})
    if (warm := run.spec.search.warm) is not None:
        emit("search.warm_start", {"sweep": run.id, "text": warm.sentence, "used": len(warm.points), "of": warm.trials})


def _prepare_end(run: SweepRun, folder: Path) -> None:
    """Train the baselines, and load what the report and the winner's model need."""
    begin_baselines(run, folder)
    import sweeper.report.page  # noqa: F401
    from sweeper.tracking.model import warm_up

    warm_up()


def _run_finals(controller: Controller, settings: Settings, ledger: Ledger, run: SweepRun, finals: SweepRun) -> bool:
    """Train the finalists and write the outcome. False: they were stopped or paused, and go on with the next resume."""
    finals.checkpoints = Checkpoints(settings.home / "sweeps" / run.id / "finals")
    wait_until_free(ledger, finals.id)  # of a controller that was killed
    try:
        controller.open(finals, NoSink(), ledger.trials(finals.id))
        controller.run(until=lambda: controller.state(finals.id) is not SweepState.RUNNING)
        if controller.state(finals.id) is not SweepState.COMPLETE:
            return False
        finals.checkpoints.clear()
        conclude(ledger, run, finals)
        return True
    finally:
        controller.close(finals.id)


@contextlib.contextmanager
def _signals(queue: SimpleQueue[Any], running: list[str]) -> Iterator[tuple[threading.Event, list[str]]]:
    """Ctrl-C or SIGTERM once: pause after the legs in flight. Twice: stop now. Only in the main thread.

    Sweeps may be added to those ``running``, which are paused.
    """
    interrupted = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        for sweep in running:
            queue.put(PauseSweep(sweep, "interrupted"))

    if threading.current_thread() is not threading.main_thread():
        yield interrupted, running
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted, running
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
