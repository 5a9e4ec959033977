"""The winner of a running sweep under constraints: who replaces whom, whose weights are kept, and after a restart."""

from __future__ import annotations

import pytest

from sweeper.data.loading import load
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import TrialRecord
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import Admit, RunLeg, Shape, Verdict
from sweeper.search.study import Outcome
from sweeper.spec.parse import load_spec
from sweeper.states import TrialState
from sweeper.training.legs import LegResult, TrialLeg
from tests.ended_sweeps import new_sweep

SPEC = {
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"float": [1e-3, 1.0]}, "hidden_layers": {"choice": [[4], [64]]}},
    "training": {"epochs": 2},
    "objectives": [{"metric": "val_loss"}, {"metric": "parameters"}],
    "constraints": ["val_accuracy >= 0.8", "parameters <= 100"],
    "search": {"trials": 8, "sampler": "random"},
}
SMALL, LARGE = 4 * 5 + 5 * 3, 64 * 5 + 65 * 3  # weights and biases of the two networks


@pytest.fixture(scope="module")
def dataset():
    return load(load_spec(SPEC))


def new_run(dataset, widths=(4,) * 8):
    spec = load_spec(SPEC)
    run = SweepRun(new_sweep(MemoryLedger(), spec), spec, dataset, make_study(spec, dataset))
    for number, width in enumerate(widths):
        run.suggested(number, {"learning_rate": 0.1, "hidden_layers": [width]})
    return run


def leg_of(number, loss, accuracy, diverged=None, finished=True, parameters=LARGE):
    metrics = {"val_loss": [9.0, loss], "val_accuracy": [0.1, accuracy], "train_loss": [1.0, 1.0]}
    return TrialLeg(number, 1, 0, metrics, finished and diverged is None, diverged, 0.5, parameters=parameters)


def end(run, number, loss, accuracy, weights="w"):
    """A trial that trained two epochs in one leg; whether it is the best now, and what it stands with."""
    [width] = run.params(number)["hidden_layers"]
    leg = leg_of(number, loss, accuracy, parameters={4: SMALL, 64: LARGE}[width])
    settled = run.outcomes(LegResult(0, (leg,), 1.0))
    (outcome,), (reported,) = settled.outcomes, settled.reports
    assert outcome.verdict is Verdict.COMPLETE
    run.end(number, TrialState.COMPLETE, outcome.value)
    return run.consider(number, outcome.value, weights), reported.metrics


def asked_for(run):
    return run.order(RunLeg("w", 1, run.id, 1, (Admit(7, 1, Shape((4,), 64, 2)),), (), 2, 1)).keep_better_than


def test_the_first_within_the_constraints_replaces_a_better_value_beyond_them(dataset):
    run = new_run(dataset)
    assert asked_for(run) is None
    assert end(run, 0, 0.1, 0.4)[0]
    assert asked_for(run) is None  # weights of every trial are wanted until one is within
    assert end(run, 1, 0.3, 0.6)[0]  # nearer
    assert not end(run, 2, 0.05, 0.5)[0]
    assert end(run, 3, 0.9, 0.8, weights="kept")[0]
    assert asked_for(run) == pytest.approx(0.9)
    assert not end(run, 4, 0.1, 0.7)[0]
    assert not end(run, 5, 0.95, 0.9)[0]
    assert (run.best.number, run.best.weights, run.best.beyond) == (3, "kept", 0.0)
    assert end(run, 6, 0.8, 0.9)[0]


def test_what_an_ended_trial_stands_with_tells_its_size_and_no_epoch_does(dataset):
    run = new_run(dataset, (4, 64, 4))
    going, ended = leg_of(0, 0.5, 0.9, finished=False), leg_of(1, 0.5, 0.9)
    settled = run.outcomes(LegResult(0, (going, ended, leg_of(2, 0.5, 0.9, "loss is nan")), 1.0))
    assert not any("parameters" in report.metrics for reported in settled.reports for report in reported.reports)
    whole = {reported.number: reported.metrics for reported in settled.reports}
    assert whole[0] is None
    assert whole[1]["parameters"] == LARGE
    assert whole[2] is None
    assert "seconds" not in whole[1]  # it is measured, and this sweep is deterministic


def test_the_study_is_told_of_all_objectives_and_constraints(dataset):
    run = new_run(dataset, (4, 64))
    end(run, 0, 0.5, 0.9)
    end(run, 1, 0.4, 0.4)
    (_, small), (_, large) = run.results_to_tell()
    assert small == Outcome(TrialState.COMPLETE, 0.5, (1, 0.5), values=(0.5, SMALL), excesses=small.excesses)
    assert max(small.excesses) < 0
    assert large.values == (0.4, LARGE)
    assert large.excesses == pytest.approx((0.5, LARGE / 100 - 1))


def test_after_a_restart_the_same_trial_is_the_best_and_the_study_knows_the_same(dataset):
    before, after = new_run(dataset, (4, 4, 64)), new_run(dataset, ())
    records = []
    for number, (loss, accuracy) in enumerate([(0.1, 0.4), (0.9, 0.8), (0.05, 0.9)]):
        _, metrics = end(before, number, loss, accuracy)
        params = before.params(number)
        records.append(TrialRecord(number, TrialState.COMPLETE, params=params, value=loss, metrics=metrics, epochs=2))
    after.restore(records, {})
    assert before.best.number == after.best.number == 1
    known = [trial.outcome for trial in after.study._trials]
    assert [(o.values, o.excesses) for o in known] == [(o.values, o.excesses) for _, o in before.results_to_tell()]
