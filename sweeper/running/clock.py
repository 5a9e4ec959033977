"""The clock beside each worker: its leg in flight, its idle time, and what is due by now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

CHECKPOINT_SECONDS = 60.0  # between two checkpoints of the trials of one worker
SLICE_SECONDS = 30.0  # how long a cohort keeps its worker while another sweep is due
HANG_SECONDS = 120.0  # a leg that is this late, or 20 times the time to be expected, has hung


@dataclass
class _Times:
    """One worker's; in seconds of the monotonic clock."""

    sweep: str | None = None  # that of the leg in flight
    started: float = 0.0
    usual: float = 0.0  # what its last leg took
    replay: float = 0.0  # what epochs that the leg in flight trains again, before its own, took before
    idle_since: float | None = None
    cohort: int = -1
    held_since: float = 0.0  # when it got its cohort
    saved_at: float = 0.0  # when a leg was last told to send back what checkpoints need
    yielding: bool = False  # its next leg sends that back, so that another sweep can have the worker


class WorkerClock:
    """When each worker's leg began, and since when it has its cohort.

    ``idle_seconds`` is the time that each worker spent between two legs. ``now`` gives the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.idle_seconds: dict[str, float] = {}
        self._now = now
        self._times: dict[str, _Times] = {}

    def joined(self, worker: str) -> None:
        """A worker came, or came back under its name."""
        self._of(worker).idle_since = self._now()

    def lost(self, worker: str) -> None:
        """A worker went, and its leg with it."""
        self._of(worker).sweep = None

    def leg_started(self, worker: str, sweep: str, replay: float = 0.0) -> None:
        """A leg was sent, with epochs to train again that took ``replay`` seconds when they were trained."""
        times, now = self._of(worker), self._now()
        times.sweep, times.started, times.replay = sweep, now, replay
        if times.idle_since is not None:
            self.idle_seconds[worker] = self.idle_seconds.get(worker, 0.0) + now - times.idle_since
            times.idle_since = None

    def leg_ended(self, worker: str) -> str | None:
        """The answer came; returns the leg's sweep, None when the leg had been given up."""
        times, now = self._of(worker), self._now()
        sweep, times.sweep = times.sweep, None
        if sweep is not None:
            times.usual, times.idle_since = now - times.started, now
        return sweep

    def sweep_of(self, worker: str) -> str | None:
        """The sweep of the leg in flight."""
        times = self._times.get(worker)
        return times.sweep if times is not None else None

    def busy_with(self, sweep: str) -> set[str]:
        """The workers with a leg of this sweep in flight."""
        return {worker for worker, times in self._times.items() if times.sweep == sweep}

    def save_is_due(self, worker: str, cohort: int) -> bool:
        """Whether the leg that starts now is to send back what checkpoints need; a new cohort has nothing yet."""
        times, now = self._of(worker), self._now()
        new = times.cohort != cohort
        if new:
            times.cohort, times.held_since, times.yielding = cohort, now, False
        elif not times.yielding and now - times.saved_at < CHECKPOINT_SECONDS:
            return False
        times.saved_at = now
        return not new

    def long_held(self) -> list[tuple[str, str]]:
        """The workers in a leg whose cohort has had its slice of time, with its sweep."""
        now = self._now()
        return [(w, t.sweep) for w, t in self._times.items() if t.sweep and now - t.held_since >= SLICE_SECONDS]

    def ask_to_yield(self, worker: str) -> None:
        """Let the worker's next leg send back what checkpoints need."""
        self._of(worker).yielding = True

    def take_yield_request(self, worker: str) -> bool:
        """Whether the worker was asked to yield; asked once, it tells it once."""
        times = self._of(worker)
        asked, times.yielding = times.yielding, False
        return asked

    def hung(self) -> list[tuple[str, float]]:
        """The workers whose leg is overdue, with the seconds it has taken."""
        now = self._now()
        flying = [(worker, now - t.started, t) for worker, t in self._times.items() if t.sweep is not None]
        return [(worker, late) for worker, late, t in flying if late > max(HANG_SECONDS, 20 * (t.usual + t.replay))]

    def _of(self, worker: str) -> _Times:
        return self._times.setdefault(worker, _Times())
