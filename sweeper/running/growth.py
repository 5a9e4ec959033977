"""More trials for a sweep that nobody runs: it goes on as if they had been asked for at once, or says why it cannot."""

from __future__ import annotations

import time

from sweeper.errors import SpecError
from sweeper.insight.results import end_of_search
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepChanged, SweepRecord
from sweeper.running.parts import window_and_batch
from sweeper.search.pruning import BatchPruner, Objective, make_pruner
from sweeper.spec.parse import SweepSpec
from sweeper.spec.population import PBT
from sweeper.spec.stored import spec_of
from sweeper.states import SweepState, TrialState


def grow(ledger: Ledger, record: SweepRecord, requested: int) -> None:
    """Give a held sweep that nobody runs ``requested`` trials in all; one that has ended runs again.

    Its suggestions keep the window that it was created with. What its end has written is forgotten: finals, baselines
    and the winner follow from all trials, and MLflow is told again.

    Raises:
        SpecError: it has more trials, or more would give other results than if they had been asked for at once.
    """
    check_growth(ledger, record, requested)
    if requested == record.requested:
        return
    if not record.state.terminal:
        ledger.extend(record.sweep, requested)
        return
    again = SweepChanged(state=SweepState.RUNNING, requested=requested, reason="", summary={}, at=time.time())
    ledger.commit(record.sweep, [again])


def check_growth(ledger: Ledger, record: SweepRecord, requested: int) -> None:
    """Refuse a total that the sweep cannot go on to.

    Raises:
        SpecError: see ``grow``.
    """
    check_members(record, requested)
    key, sweep, has = "--trials", record.sweep, record.requested
    if requested < has:
        over = record.state.terminal
        remedy = f"Ask for {has} or more" if over else f"`sweeper budget {sweep} --trials N` makes it smaller"
        raise SpecError(f"sweep {sweep} has {has} trials already, and {requested} are fewer", key=key, remedy=remedy)
    if requested == has:
        return
    ended = end_of_search(ledger, record)
    if ended is not None and record.spec["search"].get("stop") is not None:
        remedy = f"Start a new sweep without search.stop; with search.from: {sweep} it learns from this one"
        raise SpecError(f"{ended}. With more trials it would end there, too", key=key, remedy=remedy)
    spec = spec_of(record)
    if spec.search.sampler == "grid" and requested > (points := len(spec.space.grid())):
        remedy = f"Ask for at most {points}"
        raise SpecError(f"the grid of sweep {sweep} has {points} points, not {requested}", key=key, remedy=remedy)
    _check_last_batch(ledger, record, spec)


def check_members(record: SweepRecord, requested: int) -> None:
    """Refuse another number of trials of a sweep that is one population, running or not.

    Raises:
        SpecError: it is.
    """
    if requested != record.requested and record.spec["search"].get("sampler") == PBT:
        problem = f"sweep {record.sweep} is one population: nobody can join it later, or leave it"
        remedy = "Start a new sweep with another search.population"
        raise SpecError(problem, key="--trials", remedy=remedy)


def _check_last_batch(ledger: Ledger, record: SweepRecord, spec: SweepSpec) -> None:
    """A pruner that compares the trials of a batch has compared a last, smaller one without those to come."""
    goal = Objective(spec.objective.metric, spec.objective.direction, spec.training.epochs)
    if not isinstance(make_pruner(spec.search.pruner, objective=goal), BatchPruner):
        return
    _, batch = window_and_batch(spec, record.requested)
    last = range(record.requested - record.requested % batch, record.requested)
    judged = [t for t in ledger.trials(record.sweep, numbers=last) if t.attempt and t.state is not TrialState.STOPPED]
    if judged:
        raise SpecError(
            f"sweep {record.sweep} cannot go on: {spec.search.pruner} compares {batch} trials with each other, and its "
            f"last {len(last)} were compared without those that would come now",
            key="--trials",
            remedy=f"Start a new sweep. With a multiple of {batch} trials such a sweep can go on",
        )
