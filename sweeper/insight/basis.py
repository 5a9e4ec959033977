"""At which epoch trials are compared: the end, or where a pruner stopped many, the last epoch that nearly all reached.

A pruned trial's last loss is an early one and says nothing beside the last losses of others. To leave pruned trials
out is no remedy: those that a slow learner keeps are its best ones. Early losses beside each other are a fair
comparison, but of the beginning: who leads there need not lead at the end, and every sentence says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.records import EpochReport, TrialRecord
from sweeper.spec.parse import SweepSpec
from sweeper.states import TrialState

MISSING = 0.04  # the share of the trials that may have been stopped before the epoch of the comparison
Reports = Mapping[int, Sequence[EpochReport]]


@dataclass(frozen=True)
class Basis:
    """The comparison at ``epoch`` of ``epochs``, which ``reached`` of ``trials`` reached; ``pruned`` were stopped."""

    epoch: int
    epochs: int
    reached: int
    trials: int
    pruned: int

    @property
    def at_end(self) -> bool:
        """Whether trials are compared by what they came to."""
        return self.epoch >= self.epochs

    @property
    def beats(self) -> str:
        """The verb of a comparison."""
        return "beats" if self.at_end else "leads"

    @property
    def loses(self) -> str:
        """Its opposite."""
        return "loses" if self.at_end else "trails"

    @property
    def where(self) -> str:
        """What a claim is about, to stand at its beginning; empty: the end."""
        return "" if self.at_end else f"at epoch {self.epoch}, "

    @property
    def sentence(self) -> str:
        """What the comparison rests on; empty: on all trials at their end."""
        if not self.pruned:
            return ""
        reached = f"which {self.reached:,} of {self.trials:,} trials reached"
        left = f"The {self.trials - self.reached:,} that were stopped before are left out. "
        left = left if self.reached < self.trials else ""
        if self.at_end:
            return f"Trials are compared at the end of their training, {reached}. {left}".strip()
        return (
            f"The pruner stopped {self.pruned:,} of {self.trials:,} trials before their end. Trials are therefore "
            f"compared at epoch {self.epoch} of {self.epochs}, {reached}. {left}Who leads there need not lead at the "
            "end; to compare ends, run with search.pruner: none."
        )


def whole(trials: int) -> Basis:
    """The comparison of trials that all trained to their end."""
    return Basis(1, 1, trials, trials, 0)


def values_at(
    spec: SweepSpec, ended: Mapping[int, tuple[TrialRecord, float]], reports: Reports
) -> tuple[dict[int, float], Basis]:
    """The values to be compared, by trial number, of ended trials with what they came to; and what they are.

    Without ``reports`` of a pruned trial nothing is known of it but its end: it counts as stopped at once.
    """
    epochs = spec.training.epochs
    pruned = {n for n, (trial, _) in ended.items() if trial.state is TrialState.PRUNED}
    if not pruned:
        return {n: value for n, (_, value) in ended.items()}, whole(len(ended))
    curves = {n: [r.metrics.get(spec.objective.metric, math.nan) for r in reports.get(n, ())] for n in ended}
    known = [n for n in ended if curves[n] or n not in pruned]
    lengths = sorted(len(curves[n]) if n in pruned else epochs for n in known)
    epoch = lengths[int(MISSING * len(lengths))] if lengths else epochs
    values = {}
    for n in known:
        if n not in pruned and (epoch >= epochs or len(curves[n]) < epoch):  # complete, or diverged: it has an end
            values[n] = ended[n][1]
        elif len(curves[n]) >= epoch and math.isfinite(curves[n][epoch - 1]):
            values[n] = curves[n][epoch - 1]
    return values, Basis(epoch, epochs, len(values), len(ended), len(pruned))
