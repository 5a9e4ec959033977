"""At which epoch trials are compared: the end, or with a pruner, the last epoch that enough trials have reached.

A pruned trial's last loss is an early one and says nothing beside the last losses of others. To leave pruned trials
out is no remedy: those that a slow learner keeps are its best ones. So what they would have come to is drawn (see
``unseen``), at the last epoch for which that is possible. Before the end, who leads need not lead at the end, and
every sentence says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.records import EpochReport, TrialRecord
from sweeper.spec.parse import SweepSpec
from sweeper.states import TrialState

MISSING = 0.04  # the share of the trials that may be left out, stopped before the epoch of the comparison
MAX_CURVES = 1000  # trials whose epochs are read: more make no curve clearer, and 10,000 would fill the memory
Reports = Mapping[int, Sequence[EpochReport]]


@dataclass(frozen=True)
class Basis:
    """The comparison at ``epoch`` of ``epochs``, which ``reached`` of ``trials`` reached; ``pruned`` were stopped.

    ``drawn``: what the others would have come to there is drawn; else they are left out. ``sampled_from``: so many
    trials ended, of which the ``trials`` are a sample.
    """

    epoch: int
    epochs: int
    reached: int
    trials: int
    pruned: int
    drawn: bool = False
    sampled_from: int = 0

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
        when = "at the end of their training" if self.at_end else f"at epoch {self.epoch} of {self.epochs}"
        text = ""
        if self.sampled_from > self.trials:
            text = f"Of {self.sampled_from:,} trials {self.trials:,} were drawn without regard to their results. "
        text += f"The pruner stopped {self.pruned:,} of {self.trials:,} trials before their end. "
        text += f"Trials are compared {when}"
        text += f", which {self.reached:,} of {self.trials:,} trials reached. "
        if self.drawn:
            text += "What the others would have come to there is estimated from how these went on. "
        elif self.reached < self.trials:
            text += f"The {self.trials - self.reached:,} that were stopped before are left out. "
        if self.at_end:
            return text.strip()
        return f"{text}Who leads there need not lead at the end; to compare ends, run with search.pruner: none."


def sample(trials: Sequence[TrialRecord], seed: int = 0) -> list[TrialRecord]:
    """The trials whose epochs are compared: all that began, or ``MAX_CURVES`` of them, whatever they came to."""
    begun = [trial for trial in trials if trial.params]
    if len(begun) <= MAX_CURVES:
        return begun
    picked = np.random.default_rng(seed).choice(len(begun), MAX_CURVES, replace=False)
    return [begun[i] for i in sorted(picked.tolist())]


def whole(trials: int) -> Basis:
    """The comparison of trials that all trained to their end."""
    return Basis(1, 1, trials, trials, 0)


@dataclass(frozen=True, eq=False)
class Curves:
    """What the trials ``numbers`` had come to after each epoch: ``values`` (n, E), the first ``lengths`` (n,) seen.

    A complete trial that stopped by itself stays where it was; a diverged one is at infinity from there on.
    """

    numbers: tuple[int, ...]
    values: NDArray[np.float64]
    lengths: NDArray[np.intp]


def curves_of(spec: SweepSpec, ended: Mapping[int, tuple[TrialRecord, float]], reports: Reports) -> Curves:
    """The curves of ended trials with what they came to; those of which nothing but the end is known are left out."""
    epochs, metric = spec.training.epochs, spec.objective.metric
    maximize = spec.objective.direction == "maximize"
    numbers, rows, lengths = [], [], []
    for n, (trial, value) in ended.items():
        seen = np.array([r.metrics.get(metric, math.nan) for r in reports.get(n, ())][:epochs])
        if (not len(seen) and math.isfinite(value)) or not np.isfinite(seen).all():
            continue
        if spec.training.keep == "best":
            seen = np.maximum.accumulate(seen) if maximize else np.minimum.accumulate(seen)
        pruned = trial.state is TrialState.PRUNED
        rest = np.full(epochs - len(seen), math.nan if pruned else value)
        row = np.concatenate([seen, rest])
        if not pruned:
            row[-1] = value
        numbers.append(n)
        rows.append(row)
        lengths.append(len(seen) if pruned else epochs)
    return Curves(tuple(numbers), np.array(rows).reshape(len(rows), epochs), np.array(lengths, dtype=np.intp))
