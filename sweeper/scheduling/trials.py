"""What becomes of a trial that was suggested: it goes on, waits again or ends, and its row is given up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sweeper.scheduling.assignment import MAX_LOST
from sweeper.scheduling.board import Board, Sweep, Trial, Worker
from sweeper.scheduling.events import Action, EndTrial, LegOutcome, RequeueTrial, SaveCheckpoints, Suggestion, Verdict
from sweeper.states import Cause, TrialState

_ENDS = {
    Verdict.COMPLETE: TrialState.COMPLETE,
    Verdict.PRUNED: TrialState.PRUNED,
    Verdict.FAILED: TrialState.FAILED,
    Verdict.ABANDONED: TrialState.FAILED,
}


def decide(board: Board, sweep: Sweep, outcomes: Iterable[LegOutcome], actions: list[Action]) -> None:
    """Each trial goes on, waits or ends as its outcome says; one of an earlier attempt says nothing."""
    for outcome in outcomes:
        trial = sweep.trials.get(outcome.number)
        if trial is None or trial.attempt != outcome.attempt:
            continue
        wanted = TrialState.WAITING if outcome.verdict is Verdict.ABANDONED else TrialState.RUNNING
        if trial.state is not wanted:
            continue
        trial.epochs = outcome.epochs
        if outcome.verdict is Verdict.CONTINUE:
            continue
        if outcome.verdict in (Verdict.PRUNED, Verdict.FAILED, Verdict.PAUSED):
            leave(board, trial)  # its row may still train
        elif (worker := board.workers.get(trial.worker or "")) is not None:
            worker.rows.discard(trial.number)  # it has left its slot by itself
        trial.worker = None
        if outcome.verdict is Verdict.PAUSED:
            trial.epochs = 0
            sweep.move(trial, TrialState.WAITING)
            why = (trial.number, trial.attempt, outcome.reason, False)
            actions.append(RequeueTrial(sweep.plan.sweep, *why))
        elif outcome.verdict is not Verdict.HELD:
            state, value, cause = _ENDS[outcome.verdict], outcome.value, outcome.cause
            finish(sweep, trial, state, outcome.reason, actions, value=value, cause=cause)


def go_on(sweep: Sweep, paused: Iterable[Suggestion]) -> None:
    """Let paused trials wait for a worker, each in the shape that it has now."""
    for one in paused:
        trial = sweep.trials[one.number]
        trial.shape = one.shape
        if trial.state is TrialState.WAITING:
            sweep.push(trial)


def finish(
    sweep: Sweep,
    trial: Trial,
    state: TrialState,
    reason: str,
    actions: list[Action],
    *,
    value: float | None = None,
    cause: Cause | None = None,
) -> None:
    """The trial ends."""
    trial.worker = None
    sweep.move(trial, state)
    actions.append(EndTrial(sweep.plan.sweep, trial.number, trial.attempt, state, reason, value, cause))


def requeue(sweep: Sweep, trial: Trial, reason: str, lost: bool, actions: list[Action]) -> None:
    """The trial waits for another worker; what was ``lost`` too often fails."""
    trial.worker, trial.epochs = None, 0
    trial.lost += lost
    if trial.lost >= MAX_LOST:
        why = f"lost: {reason} ({trial.lost} attempts)"
        finish(sweep, trial, TrialState.FAILED, why, actions, cause=Cause.LOST)
        return
    sweep.move(trial, TrialState.WAITING)
    sweep.push(trial)
    actions.append(RequeueTrial(sweep.plan.sweep, trial.number, trial.attempt, reason, lost))


def give_back(board: Board, worker: Worker, reason: str, lost: bool, actions: list[Action]) -> None:
    """Requeue every trial whose row the worker held; afterwards it holds none."""
    if worker.sweep is not None:
        sweep = board.sweeps[worker.sweep]
        for number in sorted(worker.rows):
            requeue(sweep, sweep.trials[number], reason, lost, actions)
    worker.rows, worker.drop, worker.yielding = set(), set(), False
    board.serve(worker, None)
    board.rest(worker)


def leave(board: Board, trial: Trial) -> None:
    """The trial's row is given up; its worker drops it with the next leg."""
    worker = board.workers.get(trial.worker or "")
    if worker is not None and trial.number in worker.rows:
        worker.rows.discard(trial.number)
        worker.drop.add(trial.number)
    trial.worker = None


def still_to_save(sweep: Sweep, save: SaveCheckpoints) -> list[Action]:
    """Without the trials that the same event has stopped or put back."""
    if not save.before_commit:
        going = (n for n in save.numbers if sweep.trials[n].state is TrialState.RUNNING)
        save = replace(save, numbers=frozenset(going))
    return [save] if save.numbers else []
