"""A thousand workers in virtual time: what the scheduler costs the driver, how fairly users share, what a loss costs.

Three users have six sweeps (3, 2 and 1) of equal work per user on workers whose legs take a second, more or less. A
trial trains three to seven legs of one epoch, five in the mean. Each minute a part of the workers is lost in the middle
of a leg; another one joins ten seconds later.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import Table, number
from sweeper.ledger.protocol import Ledger
from sweeper.records import Change, EpochReport, Reported, Suggested, TrialRecord
from sweeper.scheduling import events as ev
from sweeper.scheduling.changes import changes_of
from sweeper.scheduling.scheduler import Scheduler

SHORTEST, LONGEST = 3, 7  # legs of a trial, one epoch each
SHAPE = ev.Shape((8,), 4, LONGEST)
USERS = {"ada": 3, "bob": 2, "cat": 1}  # how many sweeps each has
BACK = 10.0  # seconds until a lost worker's place is filled again


@dataclass
class Crowd:
    """Workers, users and a clock; ``trials`` are those of each user. With a ledger every event is committed to it.

    ``share`` counts worker seconds by sweep, until the first sweep has asked for its last trial.
    """

    workers: int
    trials: int
    lost_per_minute: float = 0.0
    rows: int = 1  # trials that a worker trains side by side
    seed: int = 0
    ledger: Ledger | None = None
    now: float = 0.0
    share: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    failed: int = 0
    lost: int = 0
    legs: int = 0
    events: int = 0
    cpu: float = 0.0  # seconds of the scheduler
    committing: float = 0.0  # seconds of the ledger
    counted: tuple[float, float] | None = None  # when shares were counted

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._names = itertools.count(), itertools.count()
        self.scheduler = Scheduler(lambda _worker, _sweep, _shape: 16)
        self._attempts: dict[tuple[str, int], int] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        self.owners: dict[str, str] = {}
        self.requested: dict[str, int] = {}
        for _ in range(self.workers):
            self._join()
        for user, sweeps in USERS.items():
            for index in range(sweeps):
                self._open(user, f"{user}-{index}", self.trials // sweeps)
        if self.lost_per_minute:
            self._after(self._pause(), self._lose)

    def run(self, until: float = float("inf")) -> None:
        """Work until every sweep has ended, or until then."""
        while self._queue and sum(self.ended.values()) < sum(self.requested.values()):
            at, _, act = heapq.heappop(self._queue)
            if at > until:
                return
            self.now = at
            act()

    def shares(self) -> dict[str, float]:
        """Of each user's worker seconds, relative to a fair third; of each sweep's, to a fair part of its user's."""
        whole = sum(self.share.values())
        of_user = {user: sum(n for s, n in self.share.items() if self.owners[s] == user) for user in USERS}
        found = {user: n / (whole / len(USERS)) for user, n in of_user.items()}
        return found | {s: n / (of_user[self.owners[s]] / USERS[self.owners[s]]) for s, n in self.share.items()}

    # What happens

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), act))

    def _pause(self) -> float:
        return self._random.expovariate(self.workers * self.lost_per_minute / 60)

    def _join(self) -> None:
        self._handle(ev.WorkerJoined(f"w{next(self._names)}", mixes=True))

    def _lose(self) -> None:
        worker = self._random.choice(list(self.scheduler.board.workers))
        self.lost += 1
        self._handle(ev.WorkerLost(worker, "its node is gone"))
        self._after(BACK, self._join)
        self._after(self._pause(), self._lose)

    def _open(self, owner: str, name: str, trials: int) -> None:
        if self.ledger is not None:
            name = self.ledger.create_sweep(name, {}, trials, owner=owner).sweep
        self.owners[name], self.requested[name] = owner, trials
        window, decisions = 2 * self.rows * self.workers, tuple(range(1, LONGEST))
        plan = ev.SweepPlan(name, trials, window, max(1, window // 16), decision_epochs=decisions, owner=owner)
        self._handle(ev.SweepOpened(plan, tuple(TrialRecord(n) for n in range(trials)), {}))

    def _suggest(self, ask: ev.Ask) -> None:
        found: list[Change] = [Suggested(n, {"x": n}, 0) for n in ask.numbers]
        suggestions = tuple(ev.Suggestion(n, SHAPE) for n in ask.numbers)
        self._handle(ev.TrialsSuggested(ask.sweep, suggestions), ask.sweep, found)

    def _leg_done(self, leg: ev.RunLeg, seconds: float) -> None:
        worker = self.scheduler.board.workers.get(leg.worker)
        if worker is None or worker.leg != leg.leg:
            return  # it was lost
        if self._everybody_asks():
            self.share[leg.sweep] += seconds
        self.legs += 1
        outcomes, reports = [], []
        for trial in sorted(worker.rows):
            key = leg.sweep, trial
            self._epochs[key] += leg.epochs
            done = self._epochs[key]
            length = SHORTEST + trial % (LONGEST - SHORTEST + 1)
            verdict = ev.Verdict.COMPLETE if done >= length else ev.Verdict.CONTINUE
            outcomes.append(ev.LegOutcome(trial, self._attempts[key], done, verdict, "trained", 0.5))
            reports.append(Reported(trial, self._attempts[key], (EpochReport(done - 1, {"val_loss": 0.5}),), 1.0))
        self._handle(ev.LegDone(leg.worker, leg.leg, tuple(outcomes), seconds), leg.sweep, reports)

    def _everybody_asks(self) -> bool:
        if any(s.asked >= s.plan.requested for s in self.scheduler.board.sweeps.values()):
            return False
        self.counted = (self.counted[0] if self.counted else self.now, self.now)
        return True

    # The driver

    def _handle(self, event: ev.Event, sweep: str = "", brought: Sequence[Change] = ()) -> None:
        """One event, and the changes of its sweep that came with it."""
        began = _cpu()
        actions = self.scheduler.handle(event)
        decided = _cpu()
        self.cpu += decided - began
        self.events += 1
        if self.ledger is not None:
            by_sweep: dict[str, list[Change]] = {sweep: list(brought)} if brought else {}
            for action in actions:
                for name, change in changes_of(action, self.now):
                    by_sweep.setdefault(name, []).append(change)
            for name, changes in by_sweep.items():
                self.ledger.commit(name, changes)
            self.committing += _cpu() - decided
        for action in actions:
            self._act(action)

    def _act(self, action: ev.Action) -> None:
        match action:
            case ev.Ask():
                self._after(0.05, lambda: self._suggest(action))
            case ev.RunLeg():
                for admit in action.admit:
                    self._attempts[action.sweep, admit.number] = admit.attempt
                    self._epochs[action.sweep, admit.number] = 0
                seconds = self._random.uniform(0.8, 1.2)
                self._after(seconds, lambda: self._leg_done(action, seconds))
            case ev.EndTrial():
                self.ended[action.sweep, action.number] += 1
                self.failed += action.state.value != "complete"


def _cpu() -> float:
    return time.thread_time()


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each crowd until all of its trials have ended; those with a ledger for some seconds."""
    if options.quick:
        return [_row(Crowd(20, 240, 0.05))]
    small = [_row(Crowd(16, 4000, 0.3, rows=8)), _row(Crowd(100, 1800))]
    return [*small, _row(Crowd(1000, 12000)), _row(Crowd(1000, 12000, 0.05)), *map(_stored, (100, 1000))]


def _stored(workers: int, seconds: float = 20.0) -> dict[str, Any]:
    from sweeper.ledger.opening import open_ledger

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ledger = open_ledger(None, Path(folder))
        try:
            return _row(Crowd(workers, 18 * workers, 0.05, ledger=ledger), seconds)
        finally:
            ledger.close()


def _row(crowd: Crowd, until: float = float("inf")) -> dict[str, Any]:
    crowd.run(until)
    return {
        "workers": crowd.workers,
        "rows": crowd.rows,
        "lost": crowd.lost,
        "seconds": crowd.now,
        "requested": sum(crowd.requested.values()),
        "ended": len(crowd.ended),
        "twice": sum(n > 1 for n in crowd.ended.values()),
        "failed": crowd.failed,
        "legs": crowd.legs,
        "scheduler": crowd.cpu / crowd.now,
        "ledger": None if crowd.ledger is None else crowd.committing / crowd.now,
        "shares": crowd.shares() if crowd.counted else {},
        "counted": crowd.counted,
    }


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row per crowd."""
    lines = tuple(
        (
            f"{row['workers']:,} x {row['rows']}",
            f"{row['lost']:,}",
            f"{row['ended']:,} of {row['requested']:,}",
            str(row["twice"] + row["failed"]),
            number(row["legs"] / row["seconds"]),
            number(row["scheduler"]),
            number(row["ledger"]),
            _within(row["shares"], lambda name: name in USERS),
            _within(row["shares"], lambda name: name not in USERS),
        )
        for row in rows
    )
    columns = (
        "workers x rows",
        "lost",
        "trials ended",
        "failed or twice",
        "legs/s",
        "scheduler",
        "ledger",
        "users",
        "sweeps",
    )
    note = (
        "Scheduler and ledger (SQLite): CPU seconds of the driver per second. Users and sweeps: worker seconds "
        "relative to a fair share, the least and the most, while every sweep has trials to ask for. With a ledger: "
        "the first 20 s."
    )
    return [Table("A crowd in virtual time: 3 users, 6 sweeps, legs of one second", columns, lines, note)]


def _within(shares: Mapping[str, float], kind: Callable[[str], bool]) -> str:
    found = [share for name, share in shares.items() if kind(name)]
    return f"{min(found):.3f} to {max(found):.3f}" if found else "-"
