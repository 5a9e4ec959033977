"""Several objectives and constraints of an ended sweep in words: the front, and who breaks which constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.insight.pareto import best_first, feasible, pareto_front
from sweeper.records import TrialRecord
from sweeper.spec.goals import values_of
from sweeper.spec.parse import SweepSpec
from sweeper.text import number

ROWS = 20  # of the front's table


@dataclass(frozen=True)
class Goals:
    """``front`` is empty with one objective. ``broken`` counts the complete trials that break each constraint."""

    complete: int
    front: tuple[TrialRecord, ...]
    feasible: int
    broken: tuple[tuple[str, int], ...]

    def verdict(self, spec: SweepSpec) -> str:
        """The front in a sentence."""
        names, first, last = " and ".join(o.metric for o in spec.objectives), self.front[0], self.front[-1]
        if len(self.front) == 1:
            return f"Trial {first.number} is the best in {names} at once: {_values(spec, first)}."
        text = f"{len(self.front)} trials are the best compromises of {names}: from trial {first.number} "
        return f"{text}({_values(spec, first)}) to trial {last.number} ({_values(spec, last)})."

    @property
    def shown(self) -> tuple[TrialRecord, ...]:
        """The front's trials for a table: both ends, and what lies evenly between them."""
        if not self.front:
            return ()
        picked = np.unique(np.linspace(0, len(self.front) - 1, ROWS).round().astype(int))
        return tuple(self.front[int(i)] for i in picked)


def read_goals(spec: SweepSpec, trials: Sequence[TrialRecord]) -> Goals | None:
    """What there is besides one objective; None: nothing."""
    if len(spec.objectives) == 1 and not spec.constraints:
        return None
    complete = best_first(trials, spec)
    front = pareto_front(complete, spec) if len(spec.objectives) > 1 else []
    broken = [(str(c), sum(c.excess(t.metrics) > 0 for t in complete)) for c in spec.constraints]
    return Goals(len(complete), tuple(front), sum(feasible(t, spec) for t in complete), tuple(broken))


def goals_in_words(spec: SweepSpec) -> str:
    """Objectives and constraints as the end of a sentence."""
    text = " and ".join(f"{objective.direction} {objective.metric}" for objective in spec.objectives)
    limits = " and ".join(map(str, spec.constraints))
    return f"{text}, subject to {limits}" if limits else text


def _values(spec: SweepSpec, trial: TrialRecord) -> str:
    found = zip(spec.objectives, values_of(trial.metrics, spec.objectives), strict=True)
    return ", ".join(f"{objective.metric} {number(value)}" for objective, value in found)
