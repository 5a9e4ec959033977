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
from typing import TYPE_CHECKING, Any

from sweeper.errors import Interrupted, SpecError
from sweeper.ledger.protocol import Ledger
from sweeper.logs import EventLog
from sweeper.records import SweepChanged, SweepRecord
from sweeper.running.checkpoints import Checkpoints
from sweeper.running.controller import Controller
from sweeper.running.custody import own_name, wait_until_free
from sweeper.running.finals import NoSink, choose_finals_winner, conclude, finals_are_due, open_finals
from sweeper.running.run import SweepRun, window_and_batch
from sweeper.scheduling.events import PauseSweep
from sweeper.search.warm_start import earlier_of, take_over
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import spec_of, stored_form
from sweeper.states import SweepState
from sweeper.training.inline_pool import InlinePool
from sweeper.training.pool import Pool, Post
from sweeper.training.ray_pool import RayPool

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.tracking.tracker import Tracker

Progress = Callable[[SweepRecord], "ProgressSink"]
Emit = Callable[[str, Mapping[str, Any]], None]
SETTLE_SECONDS = 600.0  # how long a finished sweep waits for an MLflow that answers to take the last trials
INTERRUPT_SECONDS = 10.0  # the same after Ctrl-C


class ProgressSink:
    """What shows a running sweep; this one shows nothing."""

    def __call__(self, action: str, fields: Mapping[str, Any]) -> None:
        """Take one event."""

    def close(self) -> None:
        """The sweep is over."""


def parse_workers(workers: str | int) -> str | int:
    """``auto``, ``inline`` or a number of workers.

    Raises:
        SpecError: anything else.
    """
    if workers in ("auto", "inline"):
        return workers
    try:
        number = int(workers)
    except ValueError:
        number = 0
    if number < 1:
        raise SpecError(
            f"{workers!r} is not a number of workers", key="--workers", remedy="Use auto, inline, or 1 or more"
        )
    return number


def make_pool(workers: str | int, address: str | None, post: Post) -> Pool:
    """The pool that ``--workers`` names."""
    if workers == "inline":
        return InlinePool(post)
    return RayPool(post, address, None if workers == "auto" else int(workers))


def open_home_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings; the home folder is made when it is missing."""
    from sweeper.ledger.sql import open_ledger

    settings.ensure_home()
    return open_ledger(settings.database_url, settings.home)


def load(spec: SweepSpec) -> Dataset:
    """The data of a spec, checked against what the spec wants of it."""
    from sweeper.data.dataset import load_dataset

    dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    spec.check_task(dataset.task)
    return dataset


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
        SpecError: the spec or its data cannot be used; nothing was written then.
        Interrupted: the user stopped it; it can be resumed.
    """
    workers = parse_workers(workers)
    settings.ensure_home()
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
        SpecError: its data is gone or has changed.
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
    wait_until_free(ledger, record.sweep)
    with _starting(workers, settings) as start:
        dataset = load(spec)
        if record.spec.get("fingerprint") not in (None, dataset.fingerprint):
            raise SpecError(
                "the data has changed since this sweep began, so its trials could not be compared",
                file=spec.dataset.path,
                key="dataset",
                remedy="Restore the file, or start a new sweep",
            )
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


def make_study(spec: SweepSpec) -> Any:
    """The Optuna study of a spec."""
    from sweeper.search.study import Study

    window, batch = window_and_batch(spec, spec.search.trials)
    warm = spec.search.warm
    return Study(
        spec.space,
        spec.search,
        [objective.direction for objective in spec.objectives],
        batch=batch,
        window=window,
        first=spec.enqueue,
        earlier=earlier_of(spec),
        comparable=warm is None or warm.comparable,
    )


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
            start.threads.submit(_prepare_end)
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


def _prepare_end() -> None:
    """Load what the report and the winner's model need."""
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


def finish(run: SweepRun, ledger: Ledger, tracker: Tracker, folder: Path, emit: Emit) -> None:
    """Log the tables, the winner as a model, the report, which is kept in ``folder``, and the sweep's summary."""
    from sweeper.report.gather import report_at_end
    from sweeper.training.again import winner_weights

    choose_finals_winner(ledger.sweep(run.id), run)
    run.forget_search()
    tracker.trials_ended()
    report_at_end(run, ledger, tracker, folder, emit)  # before the model: beside each other both take twice as long
    if run.best is not None:
        trial = ledger.trial(run.id, run.best.number)
        tracker.log_winner(trial, run.spec.trial_config(run.params(trial.number)), winner_weights(run))
    tracker.sweep_ended()


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
