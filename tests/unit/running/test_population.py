"""A population: one result however it is cut up, and every member is the plain run of its schedule."""

from __future__ import annotations

import contextlib
from queue import SimpleQueue
from typing import Any

import pytest

from sweeper.data.loading import load
from sweeper.errors import SpecError
from sweeper.ledger.memory import MemoryLedger
from sweeper.models import train_solo
from sweeper.records import SweepChanged, SweepRecord, TrialRecord
from sweeper.running.checkpoints import Checkpoints
from sweeper.running.clock import WorkerClock
from sweeper.running.controller import Controller
from sweeper.running.custody import NoService, Steering
from sweeper.running.finals import NoSink
from sweeper.running.growth import check_growth
from sweeper.running.leases import Holds, Watch
from sweeper.running.open_sweep import run_of
from sweeper.running.parts import make_study
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.spec.phases import history_in, schedule_in
from sweeper.spec.stored import spec_of
from sweeper.states import Cause, SweepState, TrialState
from sweeper.training.again import train_again, value_again
from sweeper.training.inline_pool import InlinePool
from sweeper.training.leg_runner import LegRunner
from sweeper.training.legs import TrialStart

SPEC = load_spec(
    {
        "name": "population",
        "dataset": {"name": "iris"},
        "space": {
            "learning_rate": {"float": [1e-3, 1.0], "log": True},
            "optimizer": {"choice": ["momentum", "adam"]},
            "momentum": {"float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
            "dropout": {"float": [0.0, 0.3]},
            "hidden_layers": {"choice": [[4], [3, 3]]},
        },
        "training": {"epochs": 7},
        "search": {"sampler": "pbt", "population": 8, "ready": 2, "seed": 5},
    }
)


def drive(ledger: MemoryLedger, record: SweepRecord, legs: int = 1_000_000, folder: Any = None) -> bool:
    """Run the sweep as a process of its own that is killed after so many legs; whether it came to its end."""
    spec, queue, seen = spec_of(record), SimpleQueue[Any](), list[str]()
    run = run_of(ledger.sweep(record.sweep), spec, load(spec), make_study(spec, load(spec)))
    run.checkpoints = None if folder is None else Checkpoints(folder)
    trials = ledger.trials(record.sweep)
    run.restore(trials, ledger.reports(record.sweep))

    def over() -> bool:
        ended = controller.state(record.sweep) is not SweepState.RUNNING
        return ended or seen.count("leg.done") >= legs

    with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
        pool.start()
        controller = Controller(queue, pool, lambda action, fields: seen.append(action))
        controller.open(run, NoSink(), trials, holds.take(record.sweep))
        controller.run(until=over)
    return controller.state(record.sweep) is not SweepState.RUNNING


def outcomes(ledger: MemoryLedger, record: SweepRecord) -> list[Any]:
    reports = ledger.reports(record.sweep)
    trials = ledger.trials(record.sweep)
    return [(t.state, t.params, t.value, t.metrics, t.attributes, reports[t.number]) for t in trials]


def new_sweep(spec: SweepSpec = SPEC) -> tuple[MemoryLedger, SweepRecord]:
    ledger = MemoryLedger()
    return ledger, ledger.create_sweep(spec.name, spec.to_json(), spec.search.trials)


def test_a_population_has_one_result_and_each_member_is_the_run_of_its_schedule(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    ledger, record = new_sweep()
    assert drive(ledger, record)
    wanted = outcomes(ledger, record)

    dataset, copied = load(SPEC), set()
    for trial in ledger.trials(record.sweep):
        assert (trial.state, trial.epochs, trial.attempt) == (TrialState.COMPLETE, 7, 4)
        schedule, history = schedule_in(trial.attributes), history_in(trial.attributes)
        again = train_again(SPEC, dataset, trial.params or {}, trial.seed, schedule=schedule)
        assert value_again(SPEC, dataset, trial.params or {}, again) == trial.value
        for phase in history[1:]:
            assert phase.epoch in (2, 4, 6)
            assert phase.copied not in (None, trial.number)
            copied.add(phase.epoch)
        if schedule:
            assert schedule[-1].params == history[-1].params == trial.params
            assert schedule[0].epoch == 0
            config, changes = SPEC.configs_of(schedule)
            inputs = dataset.prepared(SPEC.inputs_of(trial.params or {}))
            train = SPEC.train_config(dataset.task, trial.params)
            plain = train_solo(config, train, inputs.tensors(), trial.seed, changes=changes)
            assert plain.val_loss == pytest.approx(again[0].val_loss, rel=1e-4)
    assert copied == {2, 4, 6}

    monkeypatch.setattr("sweeper.running.controller.rows_on", lambda *_: 3)  # cohorts of other rows
    ledger, record = new_sweep()
    assert drive(ledger, record)
    assert outcomes(ledger, record) == wanted

    again, started = list[float](), WorkerClock.leg_started

    def leg_started(clock: WorkerClock, worker: str, sweep: str, replay: float = 0.0) -> None:
        again.append(replay)
        started(clock, worker, sweep, replay)

    monkeypatch.setattr(WorkerClock, "leg_started", leg_started)
    ledger, record = new_sweep()  # a process that is killed over and over, with and without checkpoints
    monkeypatch.setattr("sweeper.running.clock.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("sweeper.running.run.LEG_SECONDS", 0.0)  # legs of one epoch
    for turn in range(40):
        if drive(ledger, record, legs=5 + turn % 3, folder=tmp_path if turn % 2 else None):
            break
    assert turn > 1
    assert any(again)  # a long replay is no worker that hangs
    assert outcomes(ledger, record) == wanted


def test_a_member_that_diverges_goes_on_as_a_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    space = {"learning_rate": {"float": [1e-3, 1e12], "log": True}, "optimizer": "sgd", "hidden_layers": [4]}
    spec = load_spec({**SPEC.to_json(), "space": space})
    ledger, record = new_sweep(spec)
    assert drive(ledger, record)
    wanted, dataset, copied = outcomes(ledger, record), load(spec), 0
    for trial in ledger.trials(record.sweep):
        diverged = [note for note in trial.notes if note.startswith("diverged")]
        reports, history = ledger.reports(record.sweep)[trial.number], history_in(trial.attributes)
        gaps = [report.epoch for report in reports if not report.metrics]
        assert len(reports) == trial.epochs
        assert bool(gaps) == bool(diverged)
        for epoch in gaps:  # the copy begins after the last of them
            after = next(at for at in (2, 4, 6) if at > epoch)
            assert any(phase.epoch == after and phase.copied is not None for phase in history)
        copied += len(diverged)
        if trial.state is TrialState.COMPLETE:
            schedule = schedule_in(trial.attributes)
            again = train_again(spec, dataset, trial.params or {}, trial.seed, schedule=schedule)
            assert value_again(spec, dataset, trial.params or {}, again) == trial.value
        else:  # nobody copies after the last time
            assert (trial.state, trial.cause, trial.epochs) == (TrialState.FAILED, Cause.DIVERGED, 6)
    assert copied > 2

    ledger, record = new_sweep(spec)  # killed over and over
    monkeypatch.setattr("sweeper.running.population.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("sweeper.running.clock.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("sweeper.running.run.LEG_SECONDS", 0.0)
    for turn in range(40):
        if drive(ledger, record, legs=3 + turn % 3, folder=tmp_path if turn % 2 else None):
            break
    assert turn > 1
    assert outcomes(ledger, record) == wanted


def test_rows_that_took_long_are_saved_where_members_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    ledger, record = new_sweep()
    assert drive(ledger, record)
    wanted, starts = outcomes(ledger, record), list[TrialStart]()
    monkeypatch.setattr("sweeper.running.population.SAVE_SECONDS", 0.0)
    ledger, record = new_sweep()
    assert not drive(ledger, record, legs=2, folder=tmp_path)  # the first copies are made
    copies = [t.number for t in ledger.trials(record.sweep) if history_in(t.attributes)]
    assert copies
    go_on = LegRunner.run
    monkeypatch.setattr(LegRunner, "run", lambda self, order: (starts.extend(order.admit), go_on(self, order))[1])
    assert drive(ledger, record, folder=tmp_path)
    assert {start.number for start in starts} >= set(copies)
    assert all(start.states is not None for start in starts)  # nothing is trained again
    assert outcomes(ledger, record) == wanted


def test_a_population_that_diverges_as_a_whole_fails() -> None:
    space = {"learning_rate": {"float": [1e11, 1e12], "log": True}, "optimizer": "sgd", "hidden_layers": [4]}
    spec = load_spec({**SPEC.to_json(), "space": space})
    ledger, record = new_sweep(spec)
    assert drive(ledger, record)
    assert ledger.sweep(record.sweep).state is SweepState.FAILED
    for trial in ledger.trials(record.sweep):
        assert (trial.state, trial.cause, trial.attempt) == (TrialState.FAILED, Cause.DIVERGED, 1)


def test_nobody_joins_a_population_later_or_leaves_it() -> None:
    ledger, record = new_sweep()
    for number in (7, 9):
        with pytest.raises(SpecError, match="one population"):
            check_growth(ledger, record, number)
    watch = Watch(ledger)
    with contextlib.closing(Holds(ledger)) as holds:
        holds.take(record.sweep).ledger.commit(record.sweep, [SweepChanged(state=SweepState.RUNNING)])
        running = ledger.sweep(record.sweep)
        steering = Steering(ledger, watch, "the user", 0.0, NoService(watch))
        for number in (7, 9):
            with pytest.raises(SpecError, match="one population"):
                steering.change(running, number, 3)
    assert ledger.take_requests(record.sweep) == []
    assert (ledger.sweep(record.sweep).requested, ledger.sweep(record.sweep).priority) == (8, running.priority)


def test_the_winners_schedule_is_told_and_drawn() -> None:
    from sweeper.report.schedule import schedule_picture
    from sweeper.spec.phases import Phase, attributes_of, phases_in_words

    before = {"learning_rate": 0.1, "optimizer": "sgd"}
    phases = (Phase(0, before), Phase(2, {**before, "learning_rate": 0.08}, 3))
    assert phases_in_words(phases) == [
        "from epoch 1: learning_rate=0.1, optimizer=sgd",
        "from epoch 3: a copy of trial 3, learning_rate=0.08",
    ]
    trial = TrialRecord(0, TrialState.COMPLETE, epochs=7, attributes=attributes_of(phases, phases))
    picture = schedule_picture(trial)
    assert picture is not None
    assert "learning_rate" in picture.alt
    assert schedule_picture(TrialRecord(1, TrialState.COMPLETE, epochs=7)) is None
