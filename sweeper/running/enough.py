"""Whether a running sweep ends before its trials have (``search.stop``), by the results that its window shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.running.parts import window_and_batch
from sweeper.scheduling.window import told_before
from sweeper.search.ending import Ending
from sweeper.search.ranking import Outcome
from sweeper.search_spaces.vocabulary import listed
from sweeper.spec.goals import violation
from sweeper.spec.parse import SweepSpec
from sweeper.states import TrialState


@dataclass
class Enough:
    """The end of one sweep's search; ``reason`` says why it has come (empty: it has not)."""

    spec: SweepSpec
    reason: str = ""
    _ending: Ending = field(init=False)
    _fixed: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        stop, space = self.spec.search.stop, self.spec.space
        assert stop is not None
        self._ending = Ending(stop.patience, stop.regret)
        known = () if space.is_function else space.parameters
        self._fixed = frozenset(p.name for p in known if len(listed(p.domain) or (0, 1)) == 1)

    def tell(self, number: int, outcome: Outcome, params: Mapping[str, Any]) -> None:
        """How a trial has ended."""
        answer = outcome.state is TrialState.COMPLETE and violation(outcome.excesses) <= 0
        cost = self.spec.objective.sign * outcome.score if answer and outcome.score is not None else None
        self._ending.tell(number, cost, outcome.noise, len(params.keys() - self._fixed))

    def before(self, number: int) -> bool:
        """Whether trial ``number`` and those after it need not start: what its suggestion may see decides."""
        horizon = number
        if self.spec.search.deterministic:
            horizon = told_before(number, *window_and_batch(self.spec, self.spec.search.trials))
        found = self._ending.reason(horizon)
        if found is not None:
            self.reason = found
        return found is not None


def enough_of(spec: SweepSpec) -> Enough | None:
    """What ends a sweep's search before time; None: nothing does."""
    return None if spec.search.stop is None else Enough(spec)
