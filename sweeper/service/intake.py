"""Which sweeps a service must run: queued, interrupted, and ended ones that MLflow does not show."""

from __future__ import annotations

import time
from collections.abc import Callable

from sweeper.errors import SweepNotFound
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepRecord
from sweeper.running.leases import Watch
from sweeper.running.open_sweep import lacks_its_end
from sweeper.states import SweepState
from sweeper.tracking.tracker import SHOWN

SHOW_AGAIN_SECONDS = 60.0  # between two attempts to show an ended sweep in an MLflow that did not answer


class Intake:
    """Looks for sweeps that nobody but ``owner`` holds.

    ``may_try`` says of a sweep's id whether it is neither at work here nor to be left for now.

    Only sweeps with an owner count: the others belong to a command line on this machine.
    """

    def __init__(self, ledger: Ledger, watch: Watch, owner: str, may_try: Callable[[str], bool]) -> None:
        self._ledger, self._watch, self._owner, self._may_try = ledger, watch, owner, may_try
        self._next = 0.0  # when to look for ended sweeps again

    def to_run(self, room: int) -> list[SweepRecord]:
        """At most ``room`` sweeps that nobody runs: interrupted ones first, then by priority, the oldest first."""
        found = [r for state in (SweepState.QUEUED, SweepState.RUNNING) for r in self._ledger.sweeps(state=state)]
        found.sort(key=lambda r: (r.state is SweepState.QUEUED, -r.priority, r.created_at))
        wanted = [r for r in found if r.owner and self._may_try(r.sweep) and self._is_free(r.sweep)]
        return wanted[: max(0, room)]

    def with_finals(self) -> list[SweepRecord]:
        """Complete sweeps whose finals were begun, or are to go on, and are run by nobody."""
        begun = [f for state in (SweepState.QUEUED, SweepState.RUNNING) for f in self._ledger.finals(state=state)]
        free = [f.parent for f in begun if f.owner and f.parent and self._may_try(f.parent) and self._is_free(f.sweep)]
        parents = [self._ledger.sweep(parent) for parent in dict.fromkeys(free)]
        return [r for r in parents if r.state is SweepState.COMPLETE and lacks_its_end(self._ledger, r)]

    def to_finish(self) -> list[SweepRecord]:
        """Ended sweeps that lack their finals or their end in MLflow: a service was killed there, or MLflow was down.

        The first look is thorough, in case trials were run again after an earlier end.
        """
        if time.monotonic() < self._next:
            return []
        first, self._next = self._next == 0.0, time.monotonic() + SHOW_AGAIN_SECONDS / 4
        ended = [r for state in SweepState if state.terminal for r in self._ledger.sweeps(state=state)]
        ours = [r for r in ended if r.owner and r.started_at is not None and self._may_try(r.sweep)]
        return [r for r in ours if not r.summary.get(SHOWN) or (first and lacks_its_end(self._ledger, r))]

    def _is_free(self, sweep: str) -> bool:
        try:
            return self._watch.holder(sweep) in (None, self._owner)
        except SweepNotFound:
            return False
