"""Who runs a sweep, and what a stop, pause, resume or retry does to one that nobody runs."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from sweeper.errors import SweepBusy
from sweeper.ledger.protocol import Ledger
from sweeper.records import Change, Ended, Reopened, Requeued, SweepChanged, SweepRecord
from sweeper.states import Cause, SweepState, TrialState

POLL_SECONDS = 0.25


def own_name() -> str:
    """This process as the owner of a lease: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def holder(ledger: Ledger, sweep: str) -> str | None:
    """The controller that runs a sweep, or None. The lease of a dead process of this host is given back."""
    lease = ledger.lease(sweep)
    if lease is None:
        return None
    if _is_dead(lease.owner):
        ledger.release_lease(sweep, lease.owner)
        return None
    return lease.owner


def wait_until_free(ledger: Ledger, sweep: str) -> None:
    """Return once nobody runs the sweep; a controller on another host that is gone gives it up by itself.

    Raises:
        SweepBusy: its controller is alive.
    """
    first = ledger.lease(sweep)
    while (owner := holder(ledger, sweep)) is not None:
        lease = ledger.lease(sweep)
        alive = _is_here(owner) or (lease is not None and first is not None and lease.expires_at != first.expires_at)
        if alive:
            raise SweepBusy(f"sweep {sweep} is run by {owner}. Wait for it, or stop it with `sweeper stop {sweep}`")
        time.sleep(POLL_SECONDS)


def end_unheld(ledger: Ledger, record: SweepRecord, wanted: SweepState, reason: str) -> None:
    """Stop, fail or pause the sweep: what its last controller left running is put back, or ends."""
    now = time.time()
    changes: list[Change] = []
    for trial in ledger.trials(record.sweep):
        if trial.state is TrialState.RUNNING:
            changes.append(Requeued(trial.number, trial.attempt, "its controller ended", lost=False))
        if wanted.terminal and not trial.state.terminal:
            why = reason if trial.attempt else f"never started: {reason}"
            changes.append(Ended(trial.number, trial.attempt, TrialState.STOPPED, why, None, now, Cause.STOPPED))
    if record.state is SweepState.QUEUED and wanted is SweepState.PAUSED:
        changes.append(SweepChanged(state=SweepState.RUNNING, at=now))
    ledger.commit(record.sweep, [*changes, SweepChanged(state=wanted, reason=reason, at=now)])


def reopen_unheld(ledger: Ledger, record: SweepRecord, reason: str, failed: bool = False) -> None:
    """Let a paused or ended sweep run again; its stopped trials wait again, with ``failed`` its failed ones, too."""
    states = {TrialState.STOPPED, TrialState.FAILED} if failed else {TrialState.STOPPED}
    again = [Reopened(t.number, reason) for t in ledger.trials(record.sweep) if t.state in states]
    ledger.commit(record.sweep, [SweepChanged(state=SweepState.RUNNING, reason=reason, at=time.time()), *again])


def _is_here(owner: str) -> bool:
    return owner.rpartition(":")[0] == socket.gethostname()


def _is_dead(owner: str) -> bool:
    """The owner was a process of this host and has ended (a zombie has, too)."""
    if not _is_here(owner):
        return False
    pid = owner.rpartition(":")[2]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[:1] == ["Z"]
