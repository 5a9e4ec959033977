"""``search.stop``: a sweep ends before its trials have, at the same trial whatever interrupts it, and stays ended."""

from __future__ import annotations

import contextlib
from queue import SimpleQueue
from typing import Any

import pytest

from sweeper.data.loading import load
from sweeper.errors import SpecError
from sweeper.insight.results import run_summary
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import SweepRecord
from sweeper.running.controller import Controller
from sweeper.running.finals import NoSink, conclude, open_finals
from sweeper.running.growth import grow
from sweeper.running.leases import Holds
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.spec.stored import spec_of
from sweeper.states import Cause, SweepState, TrialState
from sweeper.training.inline_pool import InlinePool

TRIALS, WINDOW, PATIENCE = 64, 8, 6


def spec_for(**search: Any) -> SweepSpec:
    space = {"learning_rate": {"float": [1e-3, 1.0], "log": True}, "hidden_layers": [4]}
    stop = {"patience": PATIENCE}
    search = {"trials": TRIALS, "seed": 3, "window": WINDOW, "sampler": "random", "stop": stop, **search}
    return load_spec({"dataset": {"name": "iris"}, "space": space, "training": {"epochs": 3}, "search": search})


def drive(ledger: MemoryLedger, record: SweepRecord, ended: int | None = None) -> SweepRun:
    """Run the sweep, from the ledger, to its end or until so many trials have ended."""
    spec = spec_of(record)
    data = load(spec)
    run = SweepRun(ledger.sweep(record.sweep), spec, data, make_study(spec, data))
    trials = ledger.trials(record.sweep)
    run.restore(trials, ledger.reports(record.sweep))
    queue: SimpleQueue[Any] = SimpleQueue()
    with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
        pool.start()
        controller = Controller(queue, pool, lambda action, fields: None)
        controller.open(run, NoSink(), trials, holds.take(record.sweep))

        def over() -> bool:
            counts = ledger.sweep(record.sweep).counts
            return controller.state(record.sweep) is not SweepState.RUNNING or (
                ended is not None and counts.get("complete", 0) >= ended
            )

        controller.run(until=over)
        controller.close(record.sweep)
    return run


def begun(ledger: MemoryLedger, spec: SweepSpec) -> SweepRecord:
    return ledger.create_sweep(spec.name, spec.to_json(), spec.search.trials)


def ends(ledger: MemoryLedger, record: SweepRecord) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.reason, t.value, t.cause, t.params) for t in ledger.trials(record.sweep)]


def test_a_sweep_ends_early_at_the_same_trial_also_when_it_was_interrupted() -> None:
    ledger = MemoryLedger()
    whole, parted = begun(ledger, spec_for()), begun(ledger, spec_for())
    drive(ledger, whole)
    drive(ledger, parted, ended=10)
    assert ledger.sweep(parted.sweep).state is SweepState.RUNNING
    drive(ledger, parted)
    assert ends(ledger, whole) == ends(ledger, parted)
    record, trials = ledger.sweep(whole.sweep), ledger.trials(whole.sweep)
    started = sum(trial.attempt > 0 for trial in trials)
    assert WINDOW < started < TRIALS
    assert (record.state, record.counts["complete"], record.counts["stopped"]) == (
        SweepState.COMPLETE,
        started,
        TRIALS - started,
    )
    assert record.reason.startswith(f"the search ended after {started} of {TRIALS} trials: the last {PATIENCE} trials")
    assert {(t.state, t.cause, t.reason) for t in trials[started:]} == {
        (TrialState.STOPPED, Cause.ENOUGH, record.reason)
    }
    assert all(trial.metrics["standard_error"] > 0 for trial in trials[:started])
    assert run_summary(ledger, whole.sweep, "")["ended"] == record.reason
    with pytest.raises(SpecError, match="With more trials it would end there, too") as refused:
        grow(ledger, record, 2 * TRIALS)
    assert f"search.from: {whole.sweep}" in str(refused.value)


def test_finals_follow_and_leave_the_reason_as_it_was() -> None:
    ledger = MemoryLedger()
    spec = spec_for(trials=90, stop={"regret": 1e9})
    spec = load_spec({**spec.to_json(), "finals": {"top": 1, "seeds": 2}})
    record = begun(ledger, spec)
    run = drive(ledger, record)
    reason = ledger.sweep(record.sweep).reason
    assert "has been left to gain, less than search.stop.regret" in reason
    own = run.spec.model_copy(update={"finals": spec.finals})
    assert own.search.stop is not None
    finals = _finals(ledger, run)
    assert finals.spec.search.stop is None
    assert ledger.sweep(finals.id).counts["complete"] == 2
    assert ledger.sweep(record.sweep).reason == reason


def _finals(ledger: MemoryLedger, run: SweepRun) -> SweepRun:
    import tempfile
    from pathlib import Path

    from sweeper.running.checkpoints import Checkpoints

    with tempfile.TemporaryDirectory() as folder:
        run.checkpoints = Checkpoints(Path(folder) / "checkpoints")
        finals = open_finals(ledger, run)
        assert finals is not None
        queue: SimpleQueue[Any] = SimpleQueue()
        with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
            pool.start()
            controller = Controller(queue, pool, lambda action, fields: None)
            controller.open(finals, NoSink(), ledger.trials(finals.id), holds.take(finals.id))
            controller.run(until=lambda: controller.state(finals.id) is not SweepState.RUNNING)
            controller.close(finals.id)
        conclude(ledger, run, finals)
    return finals
