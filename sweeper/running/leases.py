"""Who holds a sweep: leases that are watched, taken, renewed and lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sweeper.errors import SweepBusy, SweeperError, TakenOver
from sweeper.ledger.protocol import Lease, Ledger
from sweeper.running.owners import has_ended, new_owner, shown

LEASE_SECONDS = 15.0  # of silence, after which a controller's sweep may be taken
BEAT_SECONDS = 1.0  # between two renewals
LOOK_SECONDS = 0.25  # between two looks at a lease that is waited for
STEP_SECONDS = 2.0  # of silence at most are counted between two looks: the watcher may have been frozen, too


@dataclass
class _Seen:
    """A lease that has not changed since it was first seen, and for how long that was watched."""

    lease: Lease
    at: float
    silent: float = 0.0


class Watch:
    """Who holds sweeps, as this process has seen it. Threads may share one.

    A holder has lost its sweep when its process has certainly ended, or when its lease was seen unchanged for the
    lease's length by ``now``, this process's own clock (seconds), which no change of the date moves.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._now = ledger, now
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def holder(self, sweep: str) -> str | None:
        """The owner that holds the sweep, or None: nobody, or one that has lost it."""
        lease, gone = self._look(sweep)
        return None if lease is None or gone else lease.owner

    def controller(self, sweep: str) -> str | None:
        """The holder for people: ``host:pid``."""
        owner = self.holder(sweep)
        return None if owner is None else shown(owner)

    def take(self, sweep: str, owner: str) -> Lease | None:
        """The lease of the sweep, which is the owner's from now on. None: another one holds it."""
        lease, gone = self._look(sweep)
        return self._ledger.acquire_lease(sweep, owner, LEASE_SECONDS, gone=lease if gone else None)

    def wait_until_free(self, sweep: str) -> None:
        """Return once nobody holds the sweep.

        Raises:
            SweepBusy: its controller lives.
        """
        first = self._ledger.lease(sweep)
        while True:
            lease, gone = self._look(sweep)
            if lease is None or gone:
                return
            if lease != first:
                raise busy(sweep, lease.owner)
            time.sleep(LOOK_SECONDS)

    def _look(self, sweep: str) -> tuple[Lease | None, bool]:
        lease = self._ledger.lease(sweep)
        with self._lock:
            if lease is None:
                self._seen.pop(sweep, None)
                return None, False
            now, seen = self._now(), self._seen.get(sweep)
            if seen is None or seen.lease != lease:
                seen = self._seen[sweep] = _Seen(lease, now)
            seen.silent += min(now - seen.at, STEP_SECONDS)
            seen.at = now
        return lease, seen.silent >= lease.ttl or has_ended(lease.owner)


def busy(sweep: str, owner: str | None) -> SweepBusy:
    """The error for a sweep that another controller holds."""
    by = shown(owner) if owner else "another controller"
    return SweepBusy(f"sweep {sweep} is run by {by}. Wait for it, or stop it with `sweeper stop {sweep}`")


@dataclass
class Hold:
    """A sweep that is held. ``ledger`` refuses what is committed of it once another controller has taken it over."""

    sweep: str
    ledger: Ledger
    number: int
    lost: bool = False

    def check(self) -> None:
        """Go on only while the sweep is held, as far as this process has heard.

        Raises:
            TakenOver: it was taken over.
        """
        if self.lost:
            self.ledger.commit(self.sweep, [])  # the ledger knows by whom
            raise TakenOver(f"sweep {self.sweep} is no longer held by this process, which stops here")

    def confirm(self) -> None:
        """Go on only while the sweep is held, as the ledger says.

        Raises:
            TakenOver: it was taken over.
        """
        lease = self.ledger.lease(self.sweep)
        self.lost = self.lost or lease is None or lease.number != self.number
        self.check()


class Holds:
    """The sweeps that one controller holds, renewed in a thread of its own until they are released or lost."""

    def __init__(self, ledger: Ledger, watch: Watch | None = None) -> None:
        self.owner = new_owner()
        self._ledger, self._watch = ledger, watch or Watch(ledger)
        self._holds: dict[str, Hold] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="sweeper-leases", daemon=True)

    def __getitem__(self, sweep: str) -> Hold:
        """The hold of a sweep that was taken and not released."""
        return self._holds[sweep]

    def take(self, sweep: str) -> Hold:
        """Hold a sweep, or go on holding it.

        Raises:
            SweepBusy: another controller holds it.
        """
        lease = self._watch.take(sweep, self.owner)
        if lease is None:
            raise busy(sweep, self._watch.holder(sweep))
        with self._lock:
            hold = self._holds.get(sweep)
            if hold is None or hold.number != lease.number:
                hold = self._holds[sweep] = Hold(sweep, self._ledger.holding(sweep, lease.number), lease.number)
            if not self._thread.is_alive() and not self._over.is_set():
                self._thread.start()
        return hold

    def wait(self, sweep: str) -> Hold:
        """Hold a sweep once a controller that is gone has lost it.

        Raises:
            SweepBusy: its controller lives.
        """
        self._watch.wait_until_free(sweep)
        return self.take(sweep)

    def release(self, sweep: str) -> None:
        """Let go of a sweep, if it is held."""
        with self._lock:
            known = self._holds.pop(sweep, None)
        if known is not None:
            with contextlib.suppress(SweeperError):  # its lease is silent from now on, and can be taken
                self._ledger.release_lease(sweep, self.owner)

    def close(self) -> None:
        """Let go of every sweep."""
        self._over.set()
        for sweep in list(self._holds):
            self.release(sweep)
        if self._thread.is_alive():
            self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with self._lock:
                before = list(self._holds.values())
            if not before:
                continue
            try:
                mine = self._ledger.renew_leases(self.owner)
            except SweeperError:
                continue  # the ledger does not answer; whoever writes to it is told
            for hold in before:
                hold.lost = hold.lost or hold.sweep not in mine
