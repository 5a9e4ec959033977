"""The time that a sweep with a timeout keeps for its finals, from what the trainings of its best trials have taken."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from sweeper.spec.parse import SweepSpec

MOST = 0.3  # of the timeout
MARGIN = 1.2  # finals are judged, too, and what was measured is not exact
FEWEST_SEEDS = 2  # one says nothing of others
MEMBERS = 8  # of an ensemble, that finals in folds train beside the finalists: more than most have


@dataclass
class Reserve:
    """What the finals of one sweep need; ``speed`` is how many seconds of training a second of the clock brings."""

    spec: SweepSpec
    _leaders: list[tuple[tuple[float, float, int], float]] = field(default_factory=list)

    def add(self, key: tuple[float, float, int], seconds: float) -> None:
        """A complete trial: its ``key`` sorts from good to bad, and each of its trainings took so many seconds."""
        assert self.spec.finals is not None
        insort(self._leaders, (key, seconds))
        del self._leaders[entrants_of(self.spec) :]

    def seconds(self, speed: float) -> float:
        """How long before the timeout the search has to end; 0 as long as no trial is complete."""
        finals, timeout = self.spec.finals, self.spec.search.timeout
        assert finals is not None
        assert timeout is not None
        return min(MOST * timeout, finals.trainings * self._round / speed)

    def trainings(self, left: float, speed: float) -> int:
        """How many trainings of each finalist fit into the time that is ``left``: at most those of the sweep file.

        At least two seeds, or each fold once, are trained in any case.
        """
        finals = self.spec.finals
        assert finals is not None
        fits = int(left * speed / self._round) if self._round > 0 else finals.trainings
        if finals.folds is not None:
            return finals.folds * max(1, min(finals.repeats, fits // finals.folds))
        return min(finals.seeds, max(FEWEST_SEEDS, fits))

    @property
    def _round(self) -> float:
        """Seconds of training that one training of every finalist takes."""
        return MARGIN * sum(seconds for _, seconds in self._leaders)


def entrants_of(spec: SweepSpec) -> int:
    """How many trials the finals train at most, about: in folds, the ensemble's members as well."""
    assert spec.finals is not None
    judged = spec.winner == "ensemble" and spec.finals.folds is not None
    return spec.finals.top + (MEMBERS if judged else 0)


def reserve_of(spec: SweepSpec) -> Reserve | None:
    """What keeps time for a sweep's finals; None: it has no timeout or no finals."""
    return None if spec.finals is None or spec.search.timeout is None else Reserve(spec)
