"""How the trials of a leg go on: as the pruner says of each of them or of their batch, else as the leg has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeper.flow import unpack_flow
from sweeper.records import Reported
from sweeper.running.batches import BatchDecisions, Settled, epoch_reports
from sweeper.running.parts import window_and_batch
from sweeper.running.trial import Curves, EndedBefore, TrialRun
from sweeper.scheduling.events import LegOutcome, Verdict
from sweeper.scheduling.window import told_before
from sweeper.search.ordered_costs import OrderedCosts
from sweeper.search.pruning import BatchPruner, Judged, Objective, Pruner, make_pruner
from sweeper.spec.parse import SweepSpec
from sweeper.states import Cause
from sweeper.training.legs import LegResult, TrialLeg


@dataclass
class Decisions:
    """The decisions of one sweep, after so many ``epochs`` of each trial.

    ``trials`` belong to the sweep and are read here, but for what a pruned trial did past its decision, which is cut
    off its curve. ``pruner`` is None where there is none, or one that decides batches. ``requested`` in the methods
    below is the number of trials that the sweep has now.
    """

    spec: SweepSpec
    trials: Mapping[int, TrialRun]
    pruner: Pruner | None
    epochs: tuple[int, ...]
    batches: BatchDecisions | None = None
    _ordered: OrderedCosts = field(init=False)  # of ended trials

    def __post_init__(self) -> None:
        self._ordered = OrderedCosts(Curves(self.trials))

    def take(self, result: LegResult, requested: int) -> Settled:
        """What a leg means for its trials, which are on their curves already, and for others of their batch."""
        if self.batches is not None:
            ends = [self._outcome(trial) for trial in result.trials]
            return self.batches.take(result.trials, ends, requested)
        settled = Settled(weights={trial.number: trial.weights for trial in result.trials if trial.weights is not None})
        for trial in result.trials:
            outcome = self._pruned(trial, requested) or self._outcome(trial)
            settled.outcomes.append(outcome)
            kept = epoch_reports(trial)[: outcome.epochs - trial.first_epoch]
            settled.reports.append(Reported(trial.number, trial.attempt, kept, trial.seconds))
        return settled

    def undecided(self, number: int) -> bool:
        """Whether a trial has trained past a decision that its batch has not taken yet."""
        return self.batches is not None and self.batches.undecided(number)

    def forget(self, number: int) -> None:
        """The trial waits again: what it did does not count."""
        self._ordered.forget(number)
        if self.batches is not None:
            self.batches.forget(number)

    def peers(self, number: int, requested: int) -> Curves:
        """The curves that a decision may see: in a deterministic sweep those that the suggestion saw, too."""
        if not self.spec.search.deterministic:
            return Curves(self.trials)
        window, batch = window_and_batch(self.spec, requested)
        return EndedBefore(self.trials, told_before(number, window, batch), self._ordered)

    def _pruned(self, trial: TrialLeg, requested: int) -> LegOutcome | None:
        """The pruner's stop at the first epoch of this leg at which it says so, wherever the leg ended."""
        mine = self.trials[trial.number]
        if self.pruner is None:
            return None
        for epochs in self.epochs:
            if not trial.first_epoch < epochs <= len(mine.curve):
                continue
            curve, blob = mine.curve[:epochs], trial.flow.get(epochs - 1)
            flow = None if blob is None else unpack_flow(epochs - 1, blob)
            peers = self.peers(trial.number, requested)
            decision = self.pruner.decide(Judged(trial.number, curve, peers, flow, mine.params or {}))
            if decision.stop:
                mine.curve = curve
                return LegOutcome(trial.number, trial.attempt, epochs, Verdict.PRUNED, decision.reason, curve[-1])
        return None

    def _outcome(self, trial: TrialLeg) -> LegOutcome:
        curve, metric = self.trials[trial.number].curve, self.spec.objective.metric
        last = curve[-1] if curve else None
        if trial.diverged is not None:
            finite = last is not None and math.isfinite(last)
            seen = f"; last finite {metric} {last:.6g}" if finite else ""
            reason = f"diverged: {trial.diverged}{seen}"
            how = (Verdict.FAILED, reason, None, Cause.DIVERGED)
            return LegOutcome(trial.number, trial.attempt, trial.epochs, *how)
        if trial.failed is not None:
            how = (Verdict.FAILED, trial.failed, None, trial.cause)
            return LegOutcome(trial.number, trial.attempt, trial.epochs, *how)
        if trial.finished:
            value = (trial.kept or {}).get(metric, last)
            reason = trained(trial, self.spec.training.epochs, self.spec.training.patience)
            return LegOutcome(trial.number, trial.attempt, trial.epochs, Verdict.COMPLETE, reason, value)
        return LegOutcome(trial.number, trial.attempt, trial.epochs, Verdict.CONTINUE)


def decisions_of(spec: SweepSpec, trials: Mapping[int, TrialRun], requested: int) -> Decisions:
    """What decides about the trials of a sweep with so many of them."""
    goal, epochs = spec.objective, spec.training.epochs
    pruner = make_pruner(spec.search.pruner, objective=Objective(goal.metric, goal.direction, epochs))
    after = tuple(pruner.legs(epochs))
    if isinstance(pruner, BatchPruner):
        batch = window_and_batch(spec, requested)[1]
        return Decisions(spec, trials, None, after, BatchDecisions(pruner, batch, epochs, trials))
    return Decisions(spec, trials, pruner, after)


def trained(trial: TrialLeg, epochs: int, patience: int | None) -> str:
    """The reason of a complete trial, of at most ``epochs`` epochs."""
    reason = f"trained {trial.epochs} epochs"
    if trial.best_epoch is not None and trial.best_epoch < trial.epochs:
        reason += f", best was {trial.best_epoch:.3g}"
    return f"{reason} (patience {patience})" if trial.epochs < epochs else reason
