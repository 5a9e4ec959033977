"""Shares the workers, and each user's trials, between the service's own sweeps and those in processes of their own."""

from __future__ import annotations

from collections import Counter

from sweeper.errors import SweepNotFound
from sweeper.ledger.protocol import Ledger
from sweeper.running.controller import Controller
from sweeper.running.finals import finals_of
from sweeper.scheduling.shares import Claim, Division, SharesChanged, divide
from sweeper.service.own_process import OwnProcesses

FINALS = 1_000_000  # trials of a sweep whose finals run: how many these are does not matter


def claim_of(ledger: Ledger, sweep: str) -> Claim | None:
    """What a sweep with a process of its own wants; None: it was deleted."""
    try:
        record = ledger.sweep(sweep)
        finals = finals_of(ledger, record)
    except SweepNotFound:
        return None
    records = [record] if finals is None else [record, finals]
    running = sum(one.counts.get("running", 0) for one in records)
    waiting = record.counts.get("waiting", 0) + record.counts.get("running", 0)
    return Claim(sweep, record.owner or "", record.priority, waiting or FINALS, running, apart=True)


class Sharing:
    """Tells every process what it may take. All of it happens in the controller's thread.

    ``divided``: other processes have a part now.
    """

    def __init__(self, controller: Controller, own: OwnProcesses, user_limit: int | None) -> None:
        self._controller, self._own, self._limit = controller, own, user_limit
        self._before = Division()
        self.divided = False

    def divide(self, apart: list[Claim], workers: int) -> None:
        """Divide the service's ``workers`` between its sweeps and those that run ``apart``."""
        self.divided = bool(apart)
        if not apart:
            self._before = Division()
            self._controller.share(SharesChanged())
            return
        division = divide([*apart, *self._controller.claims()], workers, self._limit, self._before)
        self._before = division
        held = Counter[str]()
        for claim in apart:
            held[claim.owner] += division.workers[claim.sweep]
        self._controller.share(SharesChanged(division.rest, dict(held), dict(division.kept)))
        for claim in apart:
            elsewhere = {}
            if self._limit is not None:
                elsewhere = {claim.owner: self._limit - division.trials[claim.sweep]}
            self._own.tell(claim.sweep, SharesChanged(division.workers[claim.sweep], {}, elsewhere))
