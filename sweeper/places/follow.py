"""A sweep on a server from the outside: its data and spec are sent there, its events are followed to its end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource

from sweeper.errors import ServerUnreachable, SpecError, SweeperError
from sweeper.insight.results import direction_of
from sweeper.logs import Emit
from sweeper.places.http import Server
from sweeper.places.remote_ledger import RemoteLedger, number, sweep_path
from sweeper.records import SweepRecord, TrialRecord
from sweeper.spec.dataset import FILES, suffix_of, upload_key
from sweeper.spec.goals import excesses_of, parse_constraint, violation
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState, TrialState

FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0  # seconds between two attempts to reach the server
SUBMIT_SECONDS = 120.0  # how long an upload or a submission is repeated while the server does not answer
FOLLOW_SECONDS = 1800.0  # the same for following a sweep
POLL_SECONDS = 2.0  # between two looks at a sweep whose events cannot be followed
SILENCE_SECONDS = 60.0  # without any event or sign of life, the connection is taken for dead
TAKE_UP_SECONDS = 60.0  # how long a resumed sweep may take to leave its old state

FINAL = ("complete", "pruned", "failed")  # what resume does not run again
T = TypeVar("T")


class _NoEvents(Exception):
    """The way to the server lets no events through: a proxy that keeps them, or a server without them."""


class Patience:
    """Waits longer and longer between attempts, and gives up ``seconds`` after the last success."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, FIRST_WAIT
        self._since: float | None = None

    @property
    def tried(self) -> bool:
        """Whether the last attempt failed."""
        return self._since is not None

    def failed(self, error: ServerUnreachable) -> None:
        """Wait after a failed attempt, or raise its error when the time is up."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._seconds:
            raise error
        time.sleep(self._next * random.uniform(0.5, 1.0))  # noqa: S311 - so that clients do not all come at once
        self._next = min(2 * self._next, LONGEST_WAIT)

    def succeeded(self) -> None:
        """The server has answered."""
        self._since, self._next = None, FIRST_WAIT


def submit(
    ledger: RemoteLedger, spec: SweepSpec, say: Callable[[str], None], priority: int | None = None
) -> SweepRecord:
    """Upload the data unless the server has it, and create the sweep: once, however often the connection drops.

    Raises:
        SpecError: the server refuses the spec or the data.
        ServerUnreachable: at the first request, or for ``SUBMIT_SECONDS`` later on.
    """
    limits = ledger.server.get("/info").get("limits") or {}
    body, files = spec.to_json(), spec.dataset.files()
    if files:
        table = {key: value for key, value in body["dataset"].items() if key not in FILES and value is not None}
        for key, path in files.items():
            send = partial(upload, ledger.server, path, limits.get("dataset_bytes"), say, f"dataset.{key}")
            table[upload_key(key)] = patiently(send)
        body["dataset"] = table
    key = secrets.token_hex(16)
    return patiently(lambda: ledger.create_sweep(body, key, priority))


def upload(server: Server, path: str, limit: int | None, say: Callable[[str], None], key: str = "dataset.path") -> str:
    """Send a data file unless the server has the same bytes already; returns the name that the server knows it by.

    ``key`` is where the sweep file names it.

    Raises:
        SpecError: the file cannot be read, is too large, or changed while it was sent.
    """
    title = os.path.basename(path)
    if os.path.isdir(path):
        remedy = "Write it as one file: pandas.read_parquet(folder).to_parquet('data.parquet')"
        raise SpecError("a folder cannot be sent to a server", file=path, key=key, remedy=remedy)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                problem = f"it has {_size(size)}, but the server accepts at most {_size(limit)}"
                remedy = "Ask the server's administrator for a higher limit"
                raise SpecError(problem, file=path, key=key, remedy=remedy)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = f"{digest}{suffix_of(path)}"
            if server.exists(f"/datasets/{name}"):
                say(f"{title} is on the server already")
                return name
            say(f"uploading {title} ({_size(size)})")
            file.seek(0)
            headers = {"Content-Type": "application/octet-stream"}
            answer = server.send("POST", "/datasets", params={"filename": title}, content=file, headers=headers)
    except OSError as error:
        raise SpecError(f"it cannot be read ({error.strerror})", file=path, key=key) from error
    if answer["sha256"] != digest:
        raise SpecError("it changed while it was uploaded", file=path, key=key, remedy="Run it again")
    return str(answer["upload"])


def take_up(ledger: RemoteLedger, record: SweepRecord, what: str, requested: int | None = None) -> SweepRecord:
    """Ask the server to ``resume`` (to ``requested`` trials) or ``retry`` a sweep, and wait until it has begun to."""
    asked = patiently(lambda: ledger.ask(record.sweep, what, requested))
    deadline = time.monotonic() + TAKE_UP_SECONDS
    counts = record.counts
    left = counts.get("failed", 0) if what == "retry" else record.requested - sum(counts.get(s, 0) for s in FINAL)
    while left and asked.state is record.state and _over(asked) and time.monotonic() < deadline:
        time.sleep(FIRST_WAIT)
        asked = patiently(lambda: ledger.sweep(record.sweep))
        if asked.ended_at != record.ended_at:  # it ran and ended between two looks
            break
    return asked


class Follower:
    """Hands a sweep's events to ``sink`` as a controller on this machine would, until the sweep has ended or is paused.

    Every trial's end is told once, whatever the connection does: after a break the events go on where they broke off,
    and what never became an event is read from the records. ``since`` (Unix seconds) hides older events.
    """

    def __init__(self, ledger: RemoteLedger, record: SweepRecord, sink: Emit, since: float = 0.0) -> None:
        self._ledger, self._record, self._sweep, self._sink, self._since = ledger, record, record.sweep, sink, since
        self._minimize = direction_of(record) == "minimize"
        self._ended: set[int] = set()
        self._running: set[int] = set()
        self._limits = tuple(parse_constraint(text) for text in record.spec.get("constraints") or ())
        self._best: tuple[float, float, int] | None = None
        self._last_id: str | None = None
        self._waits = False
        self._patience = Patience(FOLLOW_SECONDS)

    def follow(self) -> SweepRecord:
        """Return the sweep as it is at the end, when the server has nothing more to do for it.

        Raises:
            ServerUnreachable: the server has not answered for ``FOLLOW_SECONDS``.
            SweeperError: the server refuses to tell, e.g. because the token was revoked or the sweep deleted.
        """
        remembers, listen, heard_out = False, True, False
        while True:
            try:
                if not remembers:
                    self._remember()
                    remembers = True
                record = self._catch_up()
                if self._patience.tried:
                    self._sink("server.back", {"sweep": self._sweep})
                self._patience.succeeded()
                if _over(record) and (heard_out or not listen):
                    return record
                if heard_out or not listen:
                    time.sleep(FIRST_WAIT if listen else POLL_SECONDS)
                heard_out = listen and self._listen()
            except _NoEvents:
                listen = False
            except ServerUnreachable as error:
                heard_out = False
                if not self._patience.tried:
                    self._sink("server.lost", {"sweep": self._sweep, "reason": str(error).partition(". ")[0]})
                self._patience.failed(error)

    def _remember(self) -> None:
        """What had ended before is not told again."""
        if any(self._record.counts.get(state, 0) for state in TrialState if state.terminal):
            for trial in self._ledger.trials(self._sweep):
                if trial.state.terminal:
                    self._ended.add(trial.number)
                    self._improves(trial.number, str(trial.state), trial.value, trial.metrics)

    def _listen(self) -> bool:
        """Pass events on; true when the server has ended the stream, false when nothing came for too long.

        Raises:
            _NoEvents: the server's answer is no stream of events.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=10.0)
        try:
            path = f"{sweep_path(self._sweep)}/events"
            with self._ledger.server.stream(path, headers=headers, timeout=timeout) as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise _NoEvents
                for event in EventSource(response).iter_sse():
                    if event.data:
                        with contextlib.suppress(KeyError):  # told otherwise by a server of another version
                            self._take(event.event, json.loads(event.data))
                        self._last_id = event.id or self._last_id
        except ServerUnreachable as error:
            if isinstance(error.__cause__, httpx.ReadTimeout):
                return False
            raise
        except (SweeperError, ValueError) as error:
            raise _NoEvents from error
        return True

    def _take(self, action: str, fields: dict[str, Any]) -> None:
        """Pass one event on, unless it is old or its trial's end was told before."""
        if fields.get("at", math.inf) < self._since:
            return
        match action:
            case "trial.ended":
                value = fields.get("value")
                self._end(fields["trial"], fields["state"], None if value is None else number(value), fields)
            case "trial.started" | "trial.requeued":
                self._place(fields["trial"], action == "trial.started", fields)
            case "sweep.opened":  # a controller took it up: what the one before did not tell is in the records
                self._running.clear()
                self._sink(action, fields)
                self._catch_up()
            case _:
                self._sink(action, fields)

    def _catch_up(self) -> SweepRecord:
        """Tell what the records know and no event told; why nothing runs, too."""
        record = self._ledger.sweep(self._sweep)
        counts = record.counts
        ended = sum(counts.get(state, 0) for state in TrialState if state.terminal)
        if ended != len(self._ended) or counts.get("running", 0) != len(self._running):
            for trial in self._ledger.trials(self._sweep):
                self._compare(trial)
        waiting = self._ledger.facts[self._sweep].get("waiting") or ""
        if waiting and not self._waits and not counts.get("running", 0):
            self._sink("sweep.waiting", {"sweep": self._sweep, "reason": waiting})
        self._waits = bool(waiting)
        return record

    def _compare(self, trial: TrialRecord) -> None:
        about = {
            "sweep": self._sweep,
            "trial": trial.number,
            "reason": trial.reason,
            "params": dict(trial.params or {}),
        }
        if trial.state.terminal:
            self._end(trial.number, str(trial.state), trial.value, about, trial.metrics)
        elif (trial.state is TrialState.RUNNING) != (trial.number in self._running):
            self._place(trial.number, trial.state is TrialState.RUNNING, about)

    def _place(self, trial: int, runs: bool, fields: Mapping[str, Any]) -> None:
        if trial in self._ended:
            return
        (self._running.add if runs else self._running.discard)(trial)
        self._sink("trial.started" if runs else "trial.requeued", fields)

    def _end(
        self,
        trial: int,
        state: str,
        value: float | None,
        fields: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        if trial in self._ended:
            return
        self._ended.add(trial)
        self._running.discard(trial)
        improved = self._improves(trial, state, value, metrics)
        self._sink("trial.ended", {**fields, "state": state, "value": value, "improved": improved})

    def _improves(self, trial: int, state: str, value: float | None, metrics: Mapping[str, float] | None) -> bool:
        """Whether this is the best so far: as ``SweepRun.consider`` says, those within the constraints come first.

        Events tell no metrics (None): where constraints want them, the record is asked for.
        """
        if state != TrialState.COMPLETE or value is None or not math.isfinite(value):
            return False
        if self._limits and metrics is None:
            metrics = self._ledger.trial(self._sweep, trial).metrics
        beyond = violation(excesses_of(metrics or {}, self._limits))
        rank = (beyond, value if self._minimize else -value, trial)
        if self._best is not None and self._best <= rank:
            return False
        self._best = rank
        return True


def _over(record: SweepRecord) -> bool:
    return record.state.terminal or record.state is SweepState.PAUSED


def patiently(request: Callable[[], T]) -> T:
    """Repeat what can be repeated without harm while the server does not answer, but fail at once at a refusal."""
    patience = Patience(SUBMIT_SECONDS)
    while True:
        try:
            return request()
        except ServerUnreachable as error:
            patience.failed(error)


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
