"""How trials ended, and in which order from good to bad a sampler learns from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.search.dominance import crowding, fronts
from sweeper.spec.goals import violation
from sweeper.states import TrialState

Key = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended. ``last`` is its last epoch (from 0) with a finite (first) objective, and the value there.

    ``diverged`` says that the training became non-finite, whatever the state; values may be non-finite then.
    ``values`` are those of all objectives where there are several, and ``excesses`` say how far the trial lies beyond
    each constraint (``Constraint.excess``; empty: there is none, or nothing was measured). ``noise`` is how far
    chance may move the value, where that was measured.
    """

    state: TrialState
    value: float | None = None
    last: tuple[int, float] | None = None
    diverged: bool = False
    values: tuple[float, ...] = ()
    excesses: tuple[float, ...] = ()
    noise: float = 0.0

    @property
    def score(self) -> float | None:
        """The finite value that a sampler learns from, for a pruned trial its last one; None: there is none."""
        value = self.value
        if self.state is TrialState.PRUNED and self.last is not None:
            value = self.last[1]
        learnable = self.state in (TrialState.COMPLETE, TrialState.PRUNED) and not self.diverged
        return value if learnable and value is not None and math.isfinite(value) else None

    @property
    def blew_up(self) -> bool:
        """The training diverged: its hyperparameters are to be avoided."""
        return self.diverged or (self.state in (TrialState.COMPLETE, TrialState.PRUNED) and self.score is None)


def rank(outcome: Outcome, sign: float) -> Key | None:
    """A key that sorts trials from good to bad; None: the trial teaches nothing (it failed or was stopped).

    Complete trials that satisfy the constraints come first by value (``sign`` is -1 when larger is better), then pruned
    ones, the later pruned the better, then complete ones by how far they lie beyond the constraints, then diverged
    ones, the later diverged the better: in a space where nearly everything diverges, the way out is towards what
    lasted longest.
    """
    lasted = float(outcome.last[0]) if outcome.last else -1.0
    if outcome.blew_up:
        return (3.0, -lasted, 0.0)
    if outcome.score is None:
        return None
    if outcome.state is TrialState.PRUNED:
        return (1.0, -lasted, sign * outcome.score)
    beyond = violation(outcome.excesses)
    return (0.0, sign * outcome.score, 0.0) if beyond <= 0 else (2.0, beyond, sign * outcome.score)


def ranks(outcomes: Mapping[int, Outcome], signs: Sequence[float], enough: int | None = None) -> dict[int, Key | None]:
    """The keys of trials that are compared with each other: ``rank``, with several objectives (one sign each) by front.

    Within a front the more alone a trial stands, the better: the good ones then cover the whole front. Only the best
    ``enough`` trials have to be told apart.
    """
    keys = {number: rank(outcome, signs[0]) for number, outcome in outcomes.items()}
    if len(signs) == 1:
        return keys
    feasible = []
    for number, key in keys.items():
        if key is not None and key[0] == 0.0:
            if outcomes[number].values:
                feasible.append(number)
            else:
                keys[number] = None  # an objective was not measured
    costs = np.array([outcomes[number].values for number in feasible]).reshape(len(feasible), len(signs)) * signs
    front = fronts(costs, enough)
    for i in range(int(front.max(initial=-1)) + 1):
        members = np.flatnonzero(front == i)
        for member, distance in zip(members, crowding(costs[members]), strict=True):
            keys[feasible[member]] = (0.0, float(i), -float(distance))
    return keys


def fractions(keys: Mapping[int, Key | None]) -> dict[int, Key | None]:
    """Keys as the places they stand for, from 0 (best) to 1: what can be compared between two sweeps' trials."""
    known = sorted((key, number) for number, key in keys.items() if key is not None)
    places: dict[int, Key | None] = dict.fromkeys(keys)
    return places | {number: (i / len(known),) for i, (_, number) in enumerate(known)}
