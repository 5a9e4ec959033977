"""A sweep with a timeout and finals ends its search in time for them, and trains as many seeds as there is time for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from sweeper.data.loading import load
from sweeper.insight.finals import read_finals
from sweeper.ledger.memory import MemoryLedger
from sweeper.running.checkpoints import Checkpoints
from sweeper.running.controller import Controller
from sweeper.running.finals import NoSink, conclude, open_finals
from sweeper.running.leases import Holds
from sweeper.running.parts import make_study
from sweeper.running.reserve import MARGIN, MOST, Reserve, reserve_of
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import StopSweep
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.states import Cause, SweepState
from sweeper.training.inline_pool import InlinePool


def spec_for(**finals: Any) -> SweepSpec:
    space = {"learning_rate": {"float": [1e-3, 1.0], "log": True}, "hidden_layers": [4]}
    search = {"trials": 64, "sampler": "random", "window": 8, "timeout": 1000}
    sweep = {"dataset": {"name": "iris"}, "space": space, "training": {"epochs": 2}, "search": search}
    return load_spec({**sweep, "finals": finals})


def reserve(**finals: Any) -> Reserve:
    found = reserve_of(spec_for(**finals))
    assert found is not None
    return found


def test_the_time_kept_is_that_of_the_leaders_trainings_and_at_most_a_share_of_the_timeout() -> None:
    kept = reserve(top=2, seeds=5)
    assert kept.seconds(speed=2.0) == 0.0
    for number, (cost, seconds) in enumerate([(0.5, 9.0), (0.3, 2.0), (0.2, 4.0)]):
        kept.add((0.0, cost, number), seconds)
    assert kept.seconds(speed=2.0) == pytest.approx(MARGIN * 5 * (2.0 + 4.0) / 2.0)
    assert kept.seconds(speed=0.01) == MOST * 1000


def test_as_many_trainings_are_made_as_fit_but_two_seeds_or_each_fold_once_always() -> None:
    seeds, folds = reserve(top=1, seeds=10), reserve(top=1, folds=5, repeats=4)
    for kept in (seeds, folds):
        assert kept.trainings(0.0, 1.0) == (10 if kept is seeds else 20)  # nothing is known
        kept.add((0.0, 0.5, 0), 1.0)
    assert [seeds.trainings(left, 2.0) for left in (0.0, 4.0, 1000.0)] == [2, 6, 10]
    assert [folds.trainings(left, 2.0) for left in (0.0, 7.0, 1000.0)] == [5, 10, 20]


def test_a_search_that_ends_for_its_finals_is_complete_and_interrupted_finals_keep_their_seeds(tmp_path: Path) -> None:
    ledger, spec = MemoryLedger(), spec_for(top=2, seeds=6)
    record = ledger.create_sweep(spec.name, spec.to_json(), spec.search.trials)
    data = load(spec)
    run = SweepRun(record, spec, data, make_study(spec, data))
    run.checkpoints = Checkpoints(tmp_path / "checkpoints")
    why = "the search ended 9 s before the timeout of 1000 s: the finals need the time"
    drive(ledger, run, StopSweep(run.id, why, enough=True))
    ended = ledger.sweep(run.id)
    assert (ended.state, ended.reason) == (SweepState.COMPLETE, why)
    assert {t.cause for t in ledger.trials(run.id) if t.attempt == 0} == {Cause.ENOUGH}
    assert open_finals(ledger, run, 3) is not None
    finals = open_finals(ledger, run, 5)  # the clock has gone on, and the finals have begun
    assert finals is not None
    assert finals.requested == 6
    drive(ledger, finals)
    conclude(ledger, run, finals)
    ended = ledger.sweep(run.id)
    outcome = read_finals(ended)
    assert outcome is not None
    assert (len(outcome.seeds), ended.reason) == (3, why)


def drive(ledger: MemoryLedger, run: SweepRun, after_one: StopSweep | None = None) -> None:
    """Run a sweep to its end; ``after_one`` comes when a trial is complete."""
    queue: SimpleQueue[Any] = SimpleQueue()

    def shown(action: str, fields: Any) -> None:
        if action == "trial.ended" and after_one is not None and fields["state"] == "complete":
            queue.put(after_one)

    with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
        pool.start()
        controller = Controller(queue, pool, shown)
        controller.open(run, NoSink(), ledger.trials(run.id), holds.take(run.id))
        controller.run(until=lambda: controller.state(run.id) is not SweepState.RUNNING)
        controller.close(run.id)
