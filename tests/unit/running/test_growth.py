"""A sweep that goes on to more trials is the sweep that was asked for at once, or says why it cannot be."""

from __future__ import annotations

import contextlib
from queue import SimpleQueue
from typing import Any

import pytest

from sweeper.data.loading import load
from sweeper.errors import SpecError
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import SweepRecord
from sweeper.running.controller import Controller
from sweeper.running.finals import NoSink
from sweeper.running.growth import grow
from sweeper.running.leases import Holds
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.spec.stored import spec_of
from sweeper.states import SweepState, TrialState
from sweeper.training.inline_pool import InlinePool

FEW, MANY = 24, 40
SPEC: dict[str, Any] = {
    "name": "growing",
    "dataset": {"name": "iris"},
    "space": {
        "learning_rate": {"float": [1e-4, 1.0], "log": True},
        "optimizer": {"choice": ["sgd", "adam"]},
        "hidden_layers": [4],
    },
    "training": {"epochs": 4},
}


def spec_for(trials: int, **search: Any) -> SweepSpec:
    return load_spec({**SPEC, "search": {"trials": trials, "seed": 3, **search}})


def drive(ledger: MemoryLedger, record: SweepRecord) -> SweepRecord:
    """Run the sweep to its end as a process of its own would: everything comes from the ledger."""
    spec = spec_of(record)
    run = SweepRun(ledger.sweep(record.sweep), spec, load(spec), make_study(spec, load(spec)))
    trials = ledger.trials(record.sweep)
    run.restore(trials, ledger.reports(record.sweep))
    queue: SimpleQueue[Any] = SimpleQueue()
    with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
        pool.start()
        controller = Controller(queue, pool, lambda action, fields: None)
        controller.open(run, NoSink(), trials, holds.take(record.sweep))
        controller.run(until=lambda: controller.state(record.sweep) is not SweepState.RUNNING)
        controller.close(record.sweep)
    return ledger.sweep(record.sweep)


def new_sweep(ledger: MemoryLedger, spec: SweepSpec) -> SweepRecord:
    return ledger.create_sweep(spec.name, spec.to_json(), spec.search.trials)


def outcomes(ledger: MemoryLedger, record: SweepRecord) -> list[Any]:
    return [(t.number, t.state, t.params, t.seed, t.value, t.epochs, t.metrics) for t in ledger.trials(record.sweep)]


SEARCHES = [
    {"sampler": "tpe"},
    {"sampler": "tpe", "pruner": "median"},
    {"sampler": "tpe", "pruner": "hyperband"},
    {"sampler": "tpe", "pruner": "halving"},
    {"sampler": "random"},
    {"sampler": "sobol"},
    {"sampler": "cmaes"},
]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: "-".join(search.values()))
def test_it_is_the_sweep_that_was_asked_for_at_once(search: dict[str, Any]) -> None:
    ledger = MemoryLedger()
    at_once = drive(ledger, new_sweep(ledger, spec_for(MANY, window=8, **search)))
    grown = drive(ledger, new_sweep(ledger, spec_for(FEW, window=8, **search)))
    assert grown.state is SweepState.COMPLETE
    grow(ledger, grown, MANY)
    grown = drive(ledger, grown)
    assert (grown.state, grown.requested) == (SweepState.COMPLETE, MANY)
    assert outcomes(ledger, grown) == outcomes(ledger, at_once)
    if "pruner" in search:
        assert {t.state for t in ledger.trials(grown.sweep)} >= {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_sweep_that_chose_its_own_window_keeps_it() -> None:
    ledger = MemoryLedger()
    grown = drive(ledger, new_sweep(ledger, spec_for(FEW)))
    grow(ledger, grown, MANY)
    grown = drive(ledger, grown)
    window = spec_for(FEW).default_window()
    at_once = drive(ledger, new_sweep(ledger, spec_for(MANY, window=window)))
    assert outcomes(ledger, grown) == outcomes(ledger, at_once)


def test_what_the_end_wrote_is_forgotten_and_no_trial_is_run_again() -> None:
    from sweeper.records import SweepChanged

    ledger = MemoryLedger()
    ended = drive(ledger, new_sweep(ledger, spec_for(4, sampler="random")))
    ledger.commit(ended.sweep, [SweepChanged(summary={"finals": {}, "shown_in_mlflow": True})])
    grow(ledger, ended, 6)
    opened = ledger.sweep(ended.sweep)
    assert (opened.state, opened.summary, opened.ended_at) == (SweepState.RUNNING, {}, None)
    assert opened.counts["waiting"] == 2
    drive(ledger, opened)
    assert [trial.attempt for trial in ledger.trials(ended.sweep)] == [1] * 6


def test_fewer_trials_than_there_are_are_refused_and_the_same_number_changes_nothing() -> None:
    ledger = MemoryLedger()
    ended = drive(ledger, new_sweep(ledger, spec_for(4, sampler="random")))
    with pytest.raises(SpecError, match="has 4 trials already, and 3 are fewer") as refused:
        grow(ledger, ended, 3)
    assert "Ask for 4 or more" in str(refused.value)
    grow(ledger, ended, 4)
    assert ledger.sweep(ended.sweep) == ended


def test_a_grid_goes_on_to_its_points_and_not_beyond() -> None:
    ledger = MemoryLedger()
    space = {"learning_rate": {"choice": [0.1, 0.01, 0.001]}, "hidden_layers": [4]}
    spec = load_spec({**SPEC, "space": space, "search": {"sampler": "grid", "trials": 2}})
    ended = drive(ledger, new_sweep(ledger, spec))
    with pytest.raises(SpecError, match="has 3 points, not 4"):
        grow(ledger, ended, 4)
    grow(ledger, ended, 3)
    assert drive(ledger, ended).counts["complete"] == 3


def test_a_last_batch_that_was_compared_without_its_later_members_is_not_gone_on_with() -> None:
    ledger = MemoryLedger()
    ended = drive(ledger, new_sweep(ledger, spec_for(FEW + 1, window=8, pruner="halving")))
    with pytest.raises(SpecError, match="halving compares 2 trials with each other, and its last 1 "):
        grow(ledger, ended, MANY)
    assert ledger.sweep(ended.sweep) == ended
