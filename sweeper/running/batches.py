"""Pruning decisions that the trials of one batch take together, whatever the order in which they get there.

Rows never wait at a rung: a trial trains on while its batch is incomplete, and what it did past the undecided rung is
held back. The decision depends on the curves alone, so the same trials stop at the same rungs on any cluster; on one
cluster a batch trains in lockstep and hardly anything is trained in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sweeper.records import Change, EpochReport, Reported
from sweeper.running.trial import TrialRun
from sweeper.scheduling.events import LegOutcome, Suggestion, Verdict
from sweeper.scheduling.window import batch_start
from sweeper.search.pruning import BatchPruner
from sweeper.training.legs import Arrays, TrialLeg


@dataclass
class _Held:
    """A trial under way: the legs not wholly reported yet, how many epochs are, and how it ended if it has."""

    attempt: int
    reported: int
    legs: list[TrialLeg] = field(default_factory=list)
    end: LegOutcome | None = None
    told: bool = False  # the scheduler knows that it is held


@dataclass
class Settled:
    """What is settled about trials: verdicts for the scheduler, reports for the ledger, weights by trial number."""

    outcomes: list[LegOutcome] = field(default_factory=list)
    reports: list[Reported] = field(default_factory=list)
    weights: dict[int, Arrays] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)  # what the ledger is told besides, before the reports
    going_on: tuple[Suggestion, ...] = ()  # members of a population that had waited for each other


class BatchDecisions:
    """The batches of one sweep. ``trials`` belong to the sweep and are read here, but for what a pruned trial did past
    its rung, which is cut off its curve."""

    def __init__(self, pruner: BatchPruner, batch: int, epochs: int, trials: Mapping[int, TrialRun]) -> None:
        self._pruner, self._batch, self._rungs = pruner, batch, pruner.legs(epochs)
        self._trials = trials
        self._held: dict[int, _Held] = {}

    def forget(self, number: int) -> None:
        """The trial waits again: what it did does not count."""
        self._held.pop(number, None)

    def undecided(self, number: int) -> bool:
        """Whether the trial has epochs that its batch has not allowed yet."""
        held = self._held.get(number)
        return held is not None and bool(held.legs)

    def take(self, trials: Sequence[TrialLeg], ends: Sequence[LegOutcome], requested: int) -> Settled:
        """One leg's trials, already on their curves, and how each would go on if no other trial mattered."""
        for trial, end in zip(trials, ends, strict=True):
            held = self._held.get(trial.number)
            if held is None or held.attempt != trial.attempt:
                held = self._held[trial.number] = _Held(trial.attempt, trial.first_epoch)
            held.legs.append(trial)
            held.end = end if end.verdict is not Verdict.CONTINUE else None
        settled = self.settle(requested, {batch_start(trial.number, self._batch) for trial in trials})
        answered = {outcome.number for outcome in settled.outcomes}
        settled.outcomes += [
            LegOutcome(trial.number, trial.attempt, trial.epochs, Verdict.CONTINUE)
            for trial in trials
            if trial.number not in answered
        ]
        return settled

    def settle(self, requested: int, batches: Iterable[int] | None = None) -> Settled:
        """What follows from the curves for these batches (by their first numbers; None: all under way)."""
        if batches is None:
            batches = {batch_start(number, self._batch) for number in self._held}
        settled = Settled()
        for start in sorted(batches):
            pruned, undecided = self._decide(start, min(start + self._batch, requested))
            for number in range(start, start + self._batch):
                if number in self._held:
                    self._settle_trial(number, pruned.get(number), undecided, settled)
        return settled

    def _decide(self, start: int, stop: int) -> tuple[dict[int, tuple[int, str]], int | None]:
        """Number -> (rung, reason) of those that stop, and the first rung at which the batch is incomplete."""
        alive, pruned = list(range(start, stop)), dict[int, tuple[int, str]]()
        for rung in self._rungs:
            curves = {n: self._trials[n].curve for n in alive if n in self._trials}
            there = {n: curve[rung - 1] for n, curve in curves.items() if len(curve) >= rung}
            if not all(n in there or self._gone(n) for n in alive):
                return pruned, rung
            decisions = self._pruner.decide_batch(there, rung) if there else {}
            pruned |= {n: (rung, decision.reason) for n, decision in decisions.items() if decision.stop}
            alive = [n for n in there if n not in pruned]
        return pruned, None

    def _gone(self, number: int) -> bool:
        held, trial = self._held.get(number), self._trials.get(number)
        return (trial is not None and trial.ended) or (held is not None and held.end is not None)

    def _settle_trial(
        self, number: int, pruned: tuple[int, str] | None, undecided: int | None, settled: Settled
    ) -> None:
        held, curve = self._held[number], self._trials[number].curve
        if pruned is not None:
            rung, reason = pruned
            self._release(number, held, rung, settled)
            value = curve[rung - 1]
            del curve[rung:]
            settled.outcomes.append(LegOutcome(number, held.attempt, rung, Verdict.PRUNED, reason, value))
            self._held.pop(number)
            return
        # the epoch at the rung is the trial's last one if the decision says so: it is told together with it
        self._release(number, held, None if undecided is None else undecided - 1, settled)
        if held.end is None:
            return
        if undecided is None or undecided > held.end.epochs:
            settled.outcomes.append(held.end)
            self._held.pop(number)
        elif not held.told:
            held.told = True
            settled.outcomes.append(LegOutcome(number, held.attempt, held.end.epochs, Verdict.HELD))

    def _release(self, number: int, held: _Held, limit: int | None, settled: Settled) -> None:
        """Report the trial's first ``limit`` epochs; legs that are reported as a whole are let go."""
        rest: list[TrialLeg] = []
        for leg in held.legs:
            upto = leg.epochs if limit is None else min(leg.epochs, limit)
            if upto > held.reported:
                fresh = epoch_reports(leg)[max(0, held.reported - leg.first_epoch) : upto - leg.first_epoch]
                seconds = leg.seconds if held.reported <= leg.first_epoch else 0.0
                settled.reports.append(Reported(number, held.attempt, fresh, seconds))
                held.reported = upto
            if leg.weights is not None:
                settled.weights[number] = leg.weights
            if upto < leg.epochs:
                rest.append(leg)
        held.legs = rest


def epoch_reports(trial: TrialLeg) -> tuple[EpochReport, ...]:
    """The leg's metrics of one trial, epoch by epoch."""
    count = trial.epochs - trial.first_epoch
    return tuple(
        EpochReport(
            trial.first_epoch + i,
            {name: values[i] for name, values in trial.metrics.items()},
            trial.flow.get(trial.first_epoch + i),
        )
        for i in range(count)
    )
