"""A sweep's trials judged by all its objectives and constraints: which are feasible, which are the best, the front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sweeper.records import TrialRecord
from sweeper.spec.goals import excesses_of, values_of, violation
from sweeper.states import TrialState

if TYPE_CHECKING:
    from sweeper.spec.parse import SweepSpec


NONE_FEASIBLE = "no trial satisfies all constraints; the closest one comes first"


def feasible(trial: TrialRecord, spec: SweepSpec) -> bool:
    """Whether a trial's last metrics satisfy every constraint of the sweep."""
    return beyond(trial, spec) <= 0


def beyond(trial: TrialRecord, spec: SweepSpec) -> float:
    """How far in all a trial lies beyond the constraints, in shares of their bounds; 0: it satisfies them."""
    return violation(excesses_of(trial.metrics, spec.constraints)) if spec.constraints else 0.0


def violations(trial: TrialRecord, spec: SweepSpec) -> list[str]:
    """What a trial does not satisfy, such as ``val_accuracy is 0.91: it must be >= 0.95``."""
    found = []
    for constraint in spec.constraints:
        if constraint.excess(trial.metrics) > 0:
            value = trial.metrics.get(constraint.metric)
            seen = f"is {value:.6g}" if value is not None else "is unknown"
            wanted = str(constraint).removeprefix(constraint.metric).strip()
            found.append(f"{constraint.metric} {seen}: it must be {wanted}")
    return found


def with_answer(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials with a finite value; where there are none, those that were stopped with one."""
    known = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
    complete = [trial for trial in known if trial.state is TrialState.COMPLETE]
    return complete or [trial for trial in known if trial.state is TrialState.STOPPED]


def best_first(trials: Iterable[TrialRecord], spec: SweepSpec) -> list[TrialRecord]:
    """The trials with an answer: feasible ones by the first objective, then the others by how far off."""
    sign = spec.objective.sign
    ranked = [
        (beyond(trial, spec), sign * trial.value, trial.number, trial)
        for trial in with_answer(trials)
        if trial.value is not None
    ]
    return [trial for *_, trial in sorted(ranked, key=lambda entry: entry[:3])]


def pareto_front(trials: Sequence[TrialRecord], spec: SweepSpec) -> list[TrialRecord]:
    """The feasible trials with an answer that no other beats in every objective, ordered by the first objective.

    Trials with equal values stand side by side. With one objective: the best trial, and those that equal it.
    """
    import numpy as np

    from sweeper.search.dominance import non_dominated

    known = [(t, values_of(t.metrics, spec.objectives)) for t in best_first(trials, spec) if feasible(t, spec)]
    known = [(trial, values) for trial, values in known if values]
    if not known:
        return []
    costs = np.array([values for _, values in known]) * [objective.sign for objective in spec.objectives]
    return [trial for (trial, _), kept in zip(known, non_dominated(costs), strict=True) if kept]
