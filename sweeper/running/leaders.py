"""The best trials of a running sweep so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from sweeper.running.members import MemberPool
from sweeper.running.reserve import Reserve, reserve_of
from sweeper.running.trial import TrialRun
from sweeper.spec.goals import excesses_of, violation
from sweeper.spec.parse import SweepSpec
from sweeper.training.legs import Arrays, TrialLeg


@dataclass
class Best:
    """The best complete trial so far, in the user's units; ``weights`` are None after a resume.

    ``beyond`` is how far it lies beyond the sweep's constraints (0: it satisfies them). ``refitted`` are the weights of
    the model that is kept with ``winner: refit``, once it has been trained. ``again`` is the value that it came to when
    it was trained again (None: it was not, or that cannot be told). Of the best stopped trial of a sweep without a
    complete one, ``stopped_after`` are its epochs.
    """

    number: int
    value: float
    weights: Arrays | None = None
    beyond: float = 0.0
    refitted: Arrays | None = None
    again: float | None = None
    stopped_after: int | None = None


@dataclass
class Leaders:
    """The trials of one sweep that lead. Those within its constraints come first, then those least beyond them.

    ``best`` is a complete trial, or as long as none is complete one that was stopped; ``under_way`` is the best of
    those that go on until then. ``members`` are the candidates of an ensemble (None: without ``winner: ensemble``).
    ``reserve`` learns from the leaders how long the finals take (None: there is nothing to keep time for).
    """

    spec: SweepSpec
    best: Best | None = None
    under_way: Best | None = None
    members: MemberPool | None = None
    reserve: Reserve | None = field(init=False)

    def __post_init__(self) -> None:
        self.reserve = reserve_of(self.spec)

    @property
    def numbers(self) -> set[int]:
        """The best trial and the candidates of an ensemble."""
        found = set() if self.members is None else set(self.members.numbers)
        return found if self.best is None else found | {self.best.number}

    @property
    def value_to_beat(self) -> float | None:
        """The value that a trial has to beat for its weights to be wanted; None: they are wanted anyway."""
        if self.members is None:
            return self.best.value if self.best and self.best.beyond <= 0 else None
        worst = self.members.worst
        return None if worst is None or worst[0] > 0 else self.spec.objective.sign * worst[1]

    def keep_under_way(self, leg: TrialLeg) -> TrialLeg:
        """The leg without the weights of a trial that goes on; they are kept if it is the best of these so far."""
        if leg.finished or leg.weights is None:
            return leg
        value = (leg.kept or {})[self.spec.objective.metric]
        sign, held = self.spec.objective.sign, self.under_way
        if held is None or (sign * value, leg.number) <= (sign * held.value, held.number):
            self.under_way = Best(leg.number, value, leg.weights)
        return replace(leg, weights=None)

    def consider(
        self, number: int, trial: TrialRun, value: float | None, weights: Arrays | None, seconds: float
    ) -> bool:
        """Whether a complete trial is the best so far (ties: the lower number); then it is remembered.

        One training of it took so many ``seconds``.
        """
        if value is None or not math.isfinite(value):
            return False
        place = self._place(number, trial, value)
        if self.reserve is not None:
            self.reserve.add(place, seconds)
        if self.members is not None:
            self.members.add(place, weights)
        if self.best is not None and self.best.stopped_after is None and place >= self._first(self.best):
            return False
        self.best, self.under_way = Best(number, value, weights, place[0]), None
        return True

    def consider_stopped(self, number: int, trial: TrialRun, value: float | None, epochs: int) -> None:
        """A trial was stopped after so many ``epochs``: while none is complete, the best of these is the answer."""
        if value is None or not math.isfinite(value):
            return
        if self.best is not None and self.best.stopped_after is None:
            return
        place = self._place(number, trial, value)
        if self.best is None or place < self._first(self.best):
            led = self.under_way
            weights = led.weights if led is not None and (led.number, led.value) == (number, value) else None
            self.best = Best(number, value, weights, place[0], stopped_after=epochs)

    def _place(self, number: int, trial: TrialRun, value: float) -> tuple[float, float, int]:
        """What sorts trials from good to bad."""
        beyond = violation(excesses_of(trial.metrics, self.spec.constraints))
        return beyond, self.spec.objective.sign * value, number

    def _first(self, best: Best) -> tuple[float, float, int]:
        return best.beyond, self.spec.objective.sign * best.value, best.number
