"""The composition root of a sweep on this machine: ledger, workers, study, tracker and controller put together."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from sweeper.data.loading import check_code, load, load_same
from sweeper.errors import Interrupted
from sweeper.ledger.opening import open_home_ledger
from sweeper.logs import Emit
from sweeper.records import SweepRecord
from sweeper.running.arithmetic import check_compiled, check_same_arithmetic
from sweeper.running.baselines import begin_baselines
from sweeper.running.beside import beside
from sweeper.running.controller import Controller
from sweeper.running.custody import void_halts
from sweeper.running.finals import NoSink, are_halted, finals_are_due, finals_of
from sweeper.running.growth import check_growth, grow
from sweeper.running.leases import Holds
from sweeper.running.notices import check_notify
from sweeper.running.open_sweep import SETTLE_SECONDS, OpenSweep, open_sweep, run_of
from sweeper.running.parts import Apart, ProgressSink, make_pool, make_study, parse_workers
from sweeper.running.run import SweepRun
from sweeper.running.windows import choose_window, settled
from sweeper.scheduling.events import PauseSweep
from sweeper.search.warm_start import take_over
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import spec_of, stored_form
from sweeper.states import SweepState
from sweeper.tracking.check import check_tracking
from sweeper.training.own_checks import examined
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
    user_limit: int | None


def run_new(
    spec: SweepSpec, settings: Settings, workers: str | int = "auto", progress: Progress | None = None
) -> SweepRecord:
    """Create a sweep and run it to its end.

    Raises:
        SpecError: the spec, its data or MLflow's store cannot be used; nothing was written then.
        Interrupted: the user stopped it; it can be resumed.
    """
    workers = parse_workers(workers)
    check_compiled()
    settings.ensure_home()
    check_notify(spec, settings)
    check_tracking(settings.mlflow_tracking_uri, settings.home, spec.tracking.experiment or spec.name)
    with _starting(workers, settings) as start:
        dataset = load(spec)
        ledger = open_home_ledger(settings)
        spec = take_over(spec, ledger, dataset.fingerprint)
        spec = examined(spec, dataset)
        spec = settled(spec, choose_window(spec, workers, settings.ray_address is not None))
        study = make_study(spec, dataset)
        requested = spec.search.trials if study.size is None else min(spec.search.trials, study.size)
        record = ledger.create_sweep(spec.name, stored_form(spec, dataset.fingerprint), requested)
        with contextlib.closing(Holds(ledger)) as holds:
            holds.take(record.sweep)
            return _run(start, settings, holds, run_of(record, spec, dataset, study), progress)


def run_again(
    ref: str,
    settings: Settings,
    workers: str | int = "auto",
    progress: Progress | None = None,
    trials: int | None = None,
    apart: Apart | None = None,
) -> SweepRecord:
    """Go on with an interrupted, paused, stopped or failed sweep to its total; a complete one is returned as it is.

    With ``trials`` the total becomes that number, also for a complete sweep (see ``growth.grow``).

    Raises:
        SweepNotFound: there is no such sweep.
        SpecError: its data is gone or has changed, MLflow's store or ``trials`` cannot be used.
        SweepBusy: another controller runs it.
        TakenOver: another controller has taken it over since.
    """
    from sweeper.tracking.tracker import SHOWN

    workers = parse_workers(workers)
    check_compiled()
    ledger = open_home_ledger(settings)
    record = ledger.sweep(ref)
    spec = spec_of(record)
    check_code(spec)
    if trials is not None:
        check_growth(ledger, record, trials)
    more = trials is not None and trials > record.requested
    shown = record.summary.get(SHOWN) and not ledger.untracked(record.sweep)
    if record.state is SweepState.COMPLETE and shown and not more and not finals_are_due(ledger, record, spec):
        return record
    check_tracking(settings.mlflow_tracking_uri, settings.home, spec.tracking.experiment or spec.name)
    with contextlib.closing(Holds(ledger)) as holds:
        hold = holds.wait(record.sweep)
        record = hold.ledger.sweep(record.sweep)  # as its last controller has left it
        if workers == "inline" or settings.ray_address is None:
            known = [r for r in (record, finals_of(ledger, record)) if r is not None]
            going_on = [r for r in known if trials is not None or r.state is not SweepState.COMPLETE]
            check_same_arithmetic(*going_on)
        dataset = load_same(record, spec) if trials is not None else None  # nothing is written if it is gone
        if trials is not None:
            grow(hold.ledger, record, trials)
            record = hold.ledger.sweep(record.sweep)
        with _starting(workers, settings, apart) as start:
            dataset = dataset or load_same(record, spec)
            run = run_of(record, spec, dataset, make_study(spec, dataset))
            return _run(start, settings, holds, run, progress)


@contextlib.contextmanager
def _starting(workers: str | int, settings: Settings, apart: Apart | None = None) -> Iterator[_Start]:
    """Workers that come up in the background while data and ledger are opened in this thread."""
    queue: SimpleQueue[Any] = SimpleQueue()
    pool = make_pool(workers, settings.ray_address, queue.put, apart is not None)
    if apart is not None:
        apart.listen(queue.put)
    with ThreadPoolExecutor(2, thread_name_prefix="sweeper-start") as executor:
        start = _Start(queue, pool, executor, executor.submit(pool.start), apart.user_limit if apart else None)
        try:
            yield start
        finally:
            with contextlib.suppress(Exception):
                start.started.result()
            pool.close()


def _run(start: _Start, settings: Settings, holds: Holds, run: SweepRun, progress: Progress | None) -> SweepRecord:
    """Run one held sweep with everything in place, and leave ledger and MLflow complete."""
    training = threading.Event()
    with contextlib.closing((progress or (lambda _: ProgressSink()))(run.record)) as sink:

        def show(action: str, fields: Mapping[str, Any]) -> None:
            if action == "trial.started":
                training.set()
            sink(action, fields)

        opened = open_sweep(settings, holds[run.id], run, show)
        controller = Controller(start.queue, start.pool, opened.emit, start.user_limit)
        try:
            interrupted = _drive(start, settings, holds, opened, controller, training, show)
        finally:
            controller.close(run.id)
            opened.close()
    if interrupted:
        raise Interrupted(f"interrupted. Continue with: sweeper resume {run.id}")
    return opened.ledger.sweep(run.id)


def _drive(
    start: _Start,
    settings: Settings,
    holds: Holds,
    opened: OpenSweep,
    controller: Controller,
    training: threading.Event,
    show: Emit,
) -> bool:
    """Run the sweep and its finals until they have ended or are paused; whether the user interrupted them.

    ``training`` is set when the first trial has started: what only the end needs is loaded from then on.
    """
    sweep = opened.id
    start.started.result()
    void_halts(opened.ledger, sweep)
    controller.open(opened.run, opened.tracker, opened.trials, opened.hold)
    opened.trials = []  # the scheduler has what it needs of them
    with _signals(start.queue, [sweep]) as (interrupted, running):
        controller.run(until=lambda: training.is_set() or controller.state(sweep) is not SweepState.RUNNING)
        opened.tracker.start()  # MLflow, and what the end needs, are imported while trials train
        start.threads.submit(_prepare_end, opened, settings)
        controller.run(until=lambda: controller.state(sweep) is not SweepState.RUNNING)
        done = controller.state(sweep).terminal
        if (finals := opened.finals()) is not None:
            running.append(finals.id)
            done = not interrupted.is_set() and _run_finals(controller, holds, opened, finals)
    opened.take_seconds()
    patience = INTERRUPT_SECONDS if interrupted.is_set() else SETTLE_SECONDS
    if done:
        controller.close(sweep)  # what the scheduler knows of every trial takes memory that the report wants
        start.threads.submit(start.pool.close)  # Ray takes a second or two, in which the report is drawn
        show("sweep.finishing", {"sweep": sweep})
        opened.finish(patience)
    else:
        opened.rest(patience)
    return interrupted.is_set()


def _prepare_end(opened: OpenSweep, settings: Settings) -> None:
    """Train the baselines, and load what the report and the winner's model need."""
    opened.beside = beside(settings, opened.run.requested)
    begin_baselines(opened.run, opened.log.folder, opened.beside)
    if opened.beside is None:
        import sweeper.report.page  # noqa: F401
    from sweeper.tracking.model import warm_up

    warm_up()


def _run_finals(controller: Controller, holds: Holds, opened: OpenSweep, finals: SweepRun) -> bool:
    """Train the finalists and write the outcome. False: they were stopped or paused, and go on with the next resume."""
    hold = holds.wait(finals.id)  # until a controller that was killed has lost them
    ledger = hold.ledger
    if are_halted(ledger.sweep(finals.id)) and not are_halted(finals.record):
        return False  # a moment ago
    try:
        void_halts(ledger, finals.id)
        controller.open(finals, NoSink(), ledger.trials(finals.id), hold)
        controller.run(until=lambda: controller.state(finals.id) is not SweepState.RUNNING)
        if controller.state(finals.id) is not SweepState.COMPLETE:
            return False
        opened.conclude(finals)
        return True
    finally:
        controller.close(finals.id)
        holds.release(finals.id)


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
