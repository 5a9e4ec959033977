"""Pictures and best trials of the sweeps that somebody looks at, kept up to date by what is new since the last look."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from sweeper.insight import captions, live
from sweeper.insight.course import Course
from sweeper.insight.finals import read_finals
from sweeper.insight.pictures import Curves, History, Parallel, Picture, Slices, Standings
from sweeper.ledger.protocol import Ledger
from sweeper.records import EpochReport, SweepRecord
from sweeper.spec.stored import spec_of
from sweeper.states import TrialState

P = TypeVar("P", bound=Picture)

KEPT_TRIALS = 500_000  # of all sweeps in memory; the sweep that was looked at last is always kept
AT_ONCE = 20_000  # trials read at once
UNDER_WAY = 100  # trials whose curves are drawn while none is complete
SLOW = 0.05  # seconds: a picture that takes longer is drawn again only after
PATIENCE = 20  # times as long, so that whoever looks costs a twentieth of a core at most


class _Seen:
    """One sweep as it was last seen. Whoever uses it holds the lock."""

    def __init__(self, record: SweepRecord) -> None:
        self.lock = threading.Lock()
        self.course = Course(spec_of(record))
        self.open_from = 0
        self.drawn: dict[type[Picture], tuple[int, float, Picture]] = {}  # of how many trials, good until when


class Live:
    """Draws pictures in numbers. Every method blocks on the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def history(self, record: SweepRecord) -> History:
        """Every trial's value, and the best so far."""
        return self._picture(record, History, live.history)

    def parallel(self, record: SweepRecord) -> Parallel:
        """Trials as lines."""
        return self._picture(record, Parallel, live.parallel)

    def slices(self, record: SweepRecord) -> Slices:
        """One parameter at a time."""
        return self._picture(record, Slices, live.slices)

    def curves(self, record: SweepRecord) -> Curves:
        """The objective by epoch."""

        def draw(course: Course) -> Curves:
            under_way, best = self._longest(record, course)
            metric = course.spec.objective.metric
            return live.curves(
                course, under_way, best, lambda some, epochs: self._ledger.curves(record.sweep, metric, some, epochs)
            )

        return self._picture(record, Curves, draw)

    def finals(self, record: SweepRecord) -> Standings:
        """The outcome of the finals; without finalists where there is none (yet)."""
        finals = read_finals(record)
        if finals is not None:
            return live.standings(finals)
        objective = spec_of(record).objective
        waits = "There are no finals yet."
        return Standings(captions.STANDINGS, waits, waits, objective.metric, objective.direction, "", ())

    def best(self, record: SweepRecord) -> int | None:
        """The number of the best complete trial; None: none is complete, with a finite objective."""
        seen = self._of(record)
        with seen.lock:
            self._look(record, seen)
            ranked = seen.course.best_first()
            return int(seen.course.numbers[ranked[0]]) if len(ranked) else None

    def _longest(self, record: SweepRecord, course: Course) -> tuple[list[int], list[EpochReport]]:
        """Trials under way while none is complete, and the reports of the best trial, or of the one with the most."""
        ranked = course.best_first()
        if len(ranked):
            best = int(course.numbers[ranked[0]])
            return [], self._ledger.reports(record.sweep, best).get(best, [])
        trials = [
            trial
            for state in (TrialState.RUNNING, TrialState.STOPPED)
            for trial in self._ledger.trials(record.sweep, state, limit=UNDER_WAY)
            if trial.epochs
        ]
        trials.sort(key=lambda trial: (-trial.epochs, trial.number))
        if not trials:
            return [], []
        first = trials[0].number
        return [trial.number for trial in trials], self._ledger.reports(record.sweep, first).get(first, [])

    def _picture(self, record: SweepRecord, kind: type[P], draw: Callable[[Course], P]) -> P:
        seen = self._of(record)
        with seen.lock:
            self._look(record, seen)
            count, until, known = seen.drawn.get(kind, (-1, 0.0, None))
            fresh = count == len(seen.course) and bool(seen.course.complete.any())
            if isinstance(known, kind) and (fresh or (time.monotonic() < until and not record.state.terminal)):
                return known
            began = time.monotonic()
            made = draw(seen.course)
            took = time.monotonic() - began
            until = time.monotonic() + PATIENCE * took if took > SLOW else 0.0
            seen.drawn[kind] = (len(seen.course), until, made)
        return made

    def _of(self, record: SweepRecord) -> _Seen:
        with self._lock:
            seen = self._seen.pop(record.sweep, None) or _Seen(record)
            self._seen[record.sweep] = seen
            while len(self._seen) > 1 and sum(len(one.course) for one in self._seen.values()) > KEPT_TRIALS:
                self._seen.popitem(last=False)
            return seen

    def _look(self, record: SweepRecord, seen: _Seen) -> None:
        """Take up what has settled since the last look; everything again where a trial ran once more meanwhile."""
        if self._take(record, seen, seen.open_from) > len(seen.course):
            self._take(record, seen, 0)

    def _take(self, record: SweepRecord, seen: _Seen, first: int) -> int:
        """Take up the trials from a number on, some at a time; how many have settled in all."""
        constrained, count, open_from = bool(seen.course.spec.constraints), None, 0
        while True:
            found = self._ledger.settled(record.sweep, first, limit=AT_ONCE, metrics=constrained)
            seen.course.add(found.trials)
            if count is None:
                count, open_from = found.count, found.open_from
            if len(found.trials.numbers) < AT_ONCE:
                seen.open_from = open_from
                return count
            first = found.trials.numbers[-1] + 1
