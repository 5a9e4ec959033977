"""Random histories of the whole service keep every promise, and planted bugs are noticed."""

from __future__ import annotations

import os

import pytest

from sweeper.scheduling import trials
from sweeper.scheduling.events import LegDone, RequeueTrial, SaveCheckpoints
from sweeper.scheduling.scheduler import Scheduler
from sweeper.states import TrialState
from tests.simulation import Violation, simulate

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
CHUNK = 250


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_history_breaks_a_promise(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS)):
        simulate(seed)


def test_a_seed_replays_exactly() -> None:
    assert simulate(11).log == simulate(11).log


def caught_within(seeds: int) -> int | None:
    """The first seed that notices what was planted."""
    for seed in range(seeds):
        try:
            simulate(seed)
        except Violation:
            return seed
        except (KeyError, AssertionError):  # the bug broke the program itself
            return seed
    return None


def test_trials_of_a_lost_worker_that_are_forgotten_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "_worker_lost", lambda self, event, actions: self._workers.pop(event.worker, None))
    assert caught_within(60) is not None


def test_reports_of_a_leg_that_is_over_are_noticed_when_they_count(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Scheduler._leg_done

    def wrong(self: Scheduler, event: LegDone, actions: list) -> SaveCheckpoints | None:
        worker = self._workers.get(event.worker)
        if worker is not None and worker.leg is None:
            worker.leg = event.leg
        save = right(self, event, actions)
        sweep = next(iter(self._sweeps.values()))
        for outcome in event.outcomes:
            trial = sweep.trials.get(outcome.number)
            if trial is not None and not trial.state.terminal and outcome.verdict == "complete":
                trials.finish(sweep, trial, TrialState.COMPLETE, "again", actions, value=outcome.value)
        return save

    monkeypatch.setattr(Scheduler, "_leg_done", wrong)
    assert caught_within(200) is not None


def test_a_trial_given_to_two_workers_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Scheduler._admit

    def wrong(self: Scheduler, worker: object, sweep: object, shape: object) -> object:
        admit = right(self, worker, sweep, shape)
        sweep.push(sweep.trials[admit.number])
        return admit

    monkeypatch.setattr(Scheduler, "_admit", wrong)
    assert caught_within(60) is not None


def test_attempts_without_a_limit_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.scheduling.trials.MAX_LOST", 1000)
    assert caught_within(400) is not None


def test_a_worker_left_idle_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Scheduler._dispatch

    def wrong(self: Scheduler, actions: list) -> None:
        if not any(isinstance(action, RequeueTrial) for action in actions):
            right(self, actions)

    monkeypatch.setattr(Scheduler, "_dispatch", wrong)
    assert caught_within(60) is not None
