"""Trials of an objective of the user's own on one worker: each in a process of its own, watched leg by leg."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from sweeper.spec.goals import VALUE
from sweeper.spec.user_code import UserFunction
from sweeper.training.child import Child
from sweeper.training.legs import LegResult, TrialLeg
from sweeper.training.objective_words import (
    Answer,
    Artifact,
    Attribute,
    Ended,
    MayIGoOn,
    ObjectiveStart,
    Reported,
    Run,
    Suggested,
)

LOG_BYTES = 1 << 22  # of what a trial prints
_PART = 1 << 18  # of it in one leg
PROCESS = "sweeper.training.objective_process"


@dataclass(frozen=True)
class ObjectiveOrder:
    """One leg: trials to start, to drop, and answers to those that have asked whether they are pruned.

    It ends after ``seconds``, or before when a trial ends or asks. ``prunes`` says whether a pruner judges trials;
    ``time_limit`` is in seconds for a whole trial.
    """

    leg: int
    sweep: str
    function: UserFunction
    admit: tuple[ObjectiveStart, ...]
    drop: tuple[int, ...]
    answers: Mapping[int, bool]
    seconds: float
    prunes: bool
    time_limit: float | None
    cpus: float
    gpus: float


@dataclass(frozen=True)
class ObjectiveLeg(TrialLeg):
    """One trial's part of a leg. The metrics are what it has reported, and ``steps`` the steps that it named.

    ``params``, ``distributions`` (Optuna's JSON by name) and ``attributes`` are the whole of what is known by now
    (None: nothing new). ``asks``: it waits to hear whether it is pruned. ``trace`` are the last lines of a traceback,
    ``log`` is what it has printed since the last leg.
    """

    steps: tuple[int, ...] = ()
    params: Mapping[str, Any] | None = None
    distributions: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    asks: bool = False
    end: Ended | None = None
    log: bytes = b""
    artifacts: tuple[Artifact, ...] = ()


@dataclass
class _Trial:
    """A trial that runs in a child."""

    start: ObjectiveStart
    child: Child
    log: Path
    began: float
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    reported: int = 0
    fresh: list[Reported] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    news: bool = False
    asks: bool = False
    end: Ended | None = None
    read: int = 0
    told_at: float = 0.0


class ObjectiveRunner:
    """Runs the trials of one sweep at a time. A process that has ended its trial well is kept for the next one."""

    def __init__(self) -> None:
        self._sweep: str | None = None
        self._trials: dict[int, _Trial] = {}
        self._idle: list[Child] = []
        self._folder: Path | None = None

    def run(self, order: ObjectiveOrder) -> LegResult:
        """Carry out one order."""
        began = time.perf_counter()
        if self._sweep != order.sweep:
            self.close()
            self._sweep = order.sweep
        for number in order.drop:
            if (dropped := self._trials.pop(number, None)) is not None:
                dropped.child.end()
        for number, stop in order.answers.items():
            if (asked := self._trials.get(number)) is not None:
                asked.asks = False
                asked.child.send(Answer(stop))
        for start in order.admit:
            self._begin(start, order)
        self._watch(order, began + order.seconds)
        legs = tuple(self._leg(trial) for trial in list(self._trials.values()))
        return LegResult(order.leg, legs, time.perf_counter() - began)

    def forget(self, sweep: str) -> None:
        """The sweep has left this worker: end what still runs of it."""
        if sweep == self._sweep:
            self.close()

    def close(self) -> None:
        """End all processes and forget what they did."""
        for child in [*self._idle, *(trial.child for trial in self._trials.values())]:
            child.end()
        self._trials, self._idle, self._sweep = {}, [], None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _begin(self, start: ObjectiveStart, order: ObjectiveOrder) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="sweeper-objective-"))
        child = self._idle.pop() if self._idle else Child(PROCESS, self._folder, order.cpus, order.gpus)
        log = self._folder / f"{start.number}-{start.attempt}.log"
        now = time.perf_counter()
        self._trials[start.number] = _Trial(start, child, log, now, told_at=now)
        child.send(Run(start, order.function, str(log), order.prunes))

    def _watch(self, order: ObjectiveOrder, until: float) -> None:
        """Hear what the trials say until one ends or asks, or the time is over."""
        while self._trials:
            going = {trial.child.connection: trial for trial in self._trials.values() if trial.end is None}
            listened = [connection for connection, trial in going.items() if not trial.asks]
            waits = len(listened) == len(self._trials)
            left = max(0.0, until - time.perf_counter()) if waits else 0.0
            if order.time_limit is not None and going:
                first = min(trial.began for trial in going.values()) + order.time_limit
                left = min(left, max(0.0, first - time.perf_counter()))
            ready = wait(listened, left) if listened else []
            for connection in ready:
                self._hear(going[connection])  # type: ignore[index]
            if order.time_limit is not None:
                self._end_late(order.time_limit)
            if not ready and (not waits or time.perf_counter() >= until):
                return

    def _hear(self, trial: _Trial) -> None:
        match said := trial.child.said():
            case Suggested():
                trial.params[said.name], trial.distributions[said.name] = said.value, said.distribution
                trial.news = True
            case Reported():
                trial.fresh.append(said)
            case Attribute():
                trial.attributes[said.name] = said.value
                trial.news = True
            case Artifact():
                trial.artifacts.append(said)
            case MayIGoOn():
                trial.asks = True
            case Ended():
                trial.end = said
                self._idle.append(trial.child)
            case None:
                trial.end = Ended("failed", reason=trial.child.how_it_died(), trace=self._tail(trial))
                trial.child.end()

    def _end_late(self, limit: float) -> None:
        for trial in self._trials.values():
            if trial.end is None and time.perf_counter() - trial.began >= limit:
                trial.child.end()
                trial.end = Ended("failed", reason=f"it ran longer than its time limit of {limit:g} s")

    def _leg(self, trial: _Trial) -> ObjectiveLeg:
        """What the trial did since the last leg; one that has ended is let go."""
        fresh, artifacts, news, now = trial.fresh, trial.artifacts, trial.news, time.perf_counter()
        first, seconds = trial.reported, now - trial.told_at
        trial.fresh, trial.artifacts, trial.news, trial.told_at = [], [], False, now
        trial.reported += len(fresh)
        if trial.end is not None:
            del self._trials[trial.start.number]
        leg = ObjectiveLeg(
            number=trial.start.number,
            attempt=trial.start.attempt,
            first_epoch=first,
            metrics={VALUE: [report.value for report in fresh]},
            finished=trial.end is not None and trial.end.state == "complete",
            diverged=None,
            seconds=seconds,
            steps=tuple(report.step for report in fresh),
            params=dict(trial.params) if news else None,
            distributions=dict(trial.distributions) if news else {},
            attributes=dict(trial.attributes) if news else {},
            asks=trial.asks,
            end=trial.end,
            log=self._printed(trial),
            artifacts=tuple(artifacts),
        )
        if trial.end is not None:
            trial.log.unlink(missing_ok=True)
        return leg

    def _printed(self, trial: _Trial) -> bytes:
        """What it has printed since the last time; of a trial that ends, all that is left of it."""
        room = LOG_BYTES - trial.read
        with contextlib.suppress(OSError), trial.log.open("rb") as stream:
            stream.seek(trial.read)
            found = stream.read(room if trial.end is not None else min(room, _PART))
            trial.read += len(found)
            return found
        return b""

    def _tail(self, trial: _Trial) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(trial.log.read_bytes()[-4000:].decode("utf-8", "replace").splitlines()[-12:])
        return ""
