"""What the runner does about a sweep that cannot be run: it tries again later and later, or ends it."""

from __future__ import annotations

import contextlib
import logging
import time

from sweeper.errors import LedgerError, SpecError, SweepBusy, SweeperError, SweepNotFound, TakenOver
from sweeper.records import SweepRecord
from sweeper.running.custody import end_unheld
from sweeper.running.leases import Holds
from sweeper.service.intake import SHOW_AGAIN_SECONDS
from sweeper.service.own_process import Ending
from sweeper.service.submission import hide_data_folder
from sweeper.states import SweepState
from sweeper.tracking.tracker import SHOWN

log = logging.getLogger("sweeper")

MAX_ERRORS = 5  # of one sweep, before it is given up for good


class Attempts:
    """How often each sweep has failed here, and when it may be tried again. Any thread may ask and tell."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._errors: dict[str, tuple[int, float]] = {}  # sweep: how often it failed, and when it may be tried again

    def due(self, sweep: str) -> bool:
        """Whether the sweep may be tried now."""
        return time.monotonic() >= self._errors.get(sweep, (0, 0.0))[1]

    def later(self, sweep: str, seconds: float) -> None:
        """Nothing is wrong with the sweep, but it is looked at again only after so many seconds."""
        self._errors[sweep] = (0, time.monotonic() + seconds)

    def forget(self, sweep: str) -> None:
        """The sweep is finished."""
        self._errors.pop(sweep, None)

    def after(self, ending: Ending, record: SweepRecord) -> None:
        """A sweep's own process has ended: the sweep as well, or it is started again."""
        if ending.code == 0:
            self.later(record.sweep, 0.0 if record.summary.get(SHOWN) else SHOW_AGAIN_SECONDS)
        elif ending.code == SpecError.exit_code:
            self._holds.take(record.sweep)
            self.refuse(record, ending.last)
        else:
            reason = f"its process ended with exit code {ending.code}: {ending.last}"
            self.failed(record.sweep, SweeperError(reason))

    def refuse(self, record: SweepRecord, reason: str) -> None:
        """End a held sweep that can never run: its data is gone, or its spec cannot be used."""
        log.warning("sweep %s: %s", record.sweep, reason)
        reason = hide_data_folder(record, reason)
        try:
            ledger = self._holds[record.sweep].ledger
            end_unheld(ledger, ledger.sweep(record.sweep), SweepState.FAILED, reason)
        except SweeperError as error:
            log.warning("sweep %s: %s", record.sweep, error)

    def failed(self, sweep: str, error: Exception) -> None:
        """Try again later; what keeps failing ends as failed, unless it is the ledger that fails."""
        if isinstance(error, SweepBusy | TakenOver | LedgerError):
            log.warning("sweep %s: %s", sweep, error)
        else:
            log.error("sweep %s failed", sweep, exc_info=error)
        count = self._errors.get(sweep, (0, 0.0))[0] + 1
        self._errors[sweep] = (count, time.monotonic() + min(60.0, 2.0**count))
        passing = isinstance(error, SweepBusy | TakenOver | LedgerError | SweepNotFound)
        if count >= MAX_ERRORS and not passing:
            with contextlib.suppress(SweeperError):
                reason = f"internal error: {type(error).__name__}: {str(error)[:200]}"
                ledger = self._holds.take(sweep).ledger
                record = ledger.sweep(sweep)
                if not record.state.terminal:
                    end_unheld(ledger, record, SweepState.FAILED, reason)
