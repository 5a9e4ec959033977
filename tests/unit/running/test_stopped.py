"""A sweep that is stopped before any trial is complete answers with the best epoch of those under way."""

from __future__ import annotations

import contextlib
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from sweeper.data.loading import load
from sweeper.insight.pareto import best_first
from sweeper.insight.results import best_row, best_trials, stopped_warnings
from sweeper.ledger.memory import MemoryLedger
from sweeper.running.controller import Controller
from sweeper.running.finals import NoSink
from sweeper.running.kept import winner_weights
from sweeper.running.leases import Holds
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import StopSweep
from sweeper.spec.parse import load_spec
from sweeper.states import SweepState, TrialState
from sweeper.training.again import stopped_after, train_again, weights_of
from sweeper.training.inline_pool import InlinePool

SPEC = load_spec(
    {
        "name": "stopped",
        "dataset": {"name": "iris"},
        "space": {"learning_rate": {"float": [1e-3, 1e-1]}, "hidden_layers": [4]},
        "training": {"epochs": 1_000_000},
        "search": {"trials": 9, "sampler": "random"},
    }
)


def test_the_best_trial_under_way_is_the_winner_with_the_weights_of_its_best_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sweeper.running.run.LEG_SECONDS", 0.05)
    ledger = MemoryLedger()
    record = ledger.create_sweep(SPEC.name, SPEC.to_json(), SPEC.search.trials)
    dataset = load(SPEC)
    run, queue = SweepRun(record, SPEC, dataset, make_study(SPEC, dataset)), SimpleQueue[Any]()

    def emit(action: str, fields: Any) -> None:
        if action == "trial.started":
            queue.put(StopSweep(run.id, "the time is over"))

    with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
        pool.start()
        controller = Controller(queue, pool, emit)
        controller.open(run, NoSink(), ledger.trials(run.id), holds.take(run.id))
        controller.run(until=lambda: controller.state(run.id) is not SweepState.RUNNING)
        controller.close(run.id)

    trials = ledger.trials(run.id)
    assert {trial.state for trial in trials} == {TrialState.STOPPED}
    assert [trial.value is None for trial in trials] == [trial.epochs == 0 for trial in trials]
    [winner] = best_trials(ledger, ledger.sweep(run.id), 1)
    assert best_first(trials, SPEC)[0].number == winner.number
    curve = [report.metrics["val_loss"] for report in ledger.reports(run.id, winner.number)[winner.number]]
    assert winner.value == min(curve) == winner.metrics["val_loss"]
    assert f"after {winner.epochs} of 1000000 epochs" in stopped_warnings(SPEC, best_row(winner))[0]

    assert run.best is not None
    assert (run.best.number, run.best.value, run.best.stopped_after) == (winner.number, winner.value, winner.epochs)
    assert run.best.weights is not None  # they came with the last leg
    again = weights_of(train_again(SPEC, run.dataset, winner.params or {}, winner.seed, stopped_after(winner)))
    for name, array in winner_weights(run).items():
        np.testing.assert_array_equal(array, again[name])
