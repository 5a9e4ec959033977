"""A sweep server's ledger, read over its API: the records that the command line works on here and there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any
from urllib.parse import quote

from sweeper.errors import SweeperError, SweepNotFound
from sweeper.ledger.common import sort_trials
from sweeper.ledger.protocol import AttemptRecord, Direction
from sweeper.places.http import Server
from sweeper.records import EpochReport, FlowReport, Labels, SweepRecord, TrialRecord
from sweeper.states import Cause, SweepState, TrialState

PAGE = 500  # rows of one request


class RemoteLedger:
    """The reading half of a ledger (``LedgerReader``) on a server, and the few requests that change a sweep there.

    ``facts`` keeps, by sweep id, the server's last answer about a sweep: besides the record's fields it has
    ``controller``, ``waiting``, ``best`` and ``view``.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.facts: dict[str, Mapping[str, Any]] = {}

    def sweep(self, ref: str, *, owner: str | None = None) -> SweepRecord:
        """See ``LedgerReader``; the server shows a user no sweep of another owner."""
        return self._sweep(self.server.get(sweep_path(ref)))

    def sweeps(
        self,
        *,
        owner: str | None = None,
        state: SweepState | None = None,
        name: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[SweepRecord]:
        """See ``LedgerReader``."""
        query = {"owner": owner, "state": state and str(state), "name": name}
        return [self._sweep(row) for row in self._rows("/sweeps", "sweeps", query, limit, offset)]

    def trials(
        self,
        sweep: str,
        state: TrialState | None = None,
        *,
        sort: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> list[TrialRecord]:
        """See ``LedgerReader``. Several pages come by number and are sorted here, so that none of a sweep that runs is
        missed; a single one is sorted there."""
        one = limit is not None and limit <= PAGE
        every = numbers is not None or (sort is not None and not one)
        paging = (None, 0) if every else (limit, offset)
        query = {"state": state and str(state), "sort": None if every else sort}
        rows = self._rows(f"{sweep_path(sweep)}/trials", "trials", query, *paging)
        found = [trial_record(row) for row in rows]
        if numbers is not None:
            found = [trial for trial in found if trial.number in set(numbers)]
        found = sort_trials(found, sort) if every and sort is not None else found
        return found[offset:][:limit] if every else found

    def trial(self, sweep: str, number: int) -> TrialRecord:
        """See ``LedgerReader``."""
        return trial_record(self.server.get(f"{sweep_path(sweep)}/trials/{number}"))

    def best(self, sweep: str, k: int = 1, direction: Direction = "minimize") -> list[TrialRecord]:
        """See ``LedgerReader``."""
        if k <= PAGE:
            return [trial_record(row) for row in self.server.get(f"{sweep_path(sweep)}/best", k=k)["best"]]
        sign = 1 if direction == "minimize" else -1
        for state in (TrialState.COMPLETE, TrialState.STOPPED):
            found = [t for t in self.trials(sweep, state) if t.value is not None and math.isfinite(t.value)]
            if found:
                return sorted(found, key=lambda t: (sign * (t.value or 0.0), t.number))[:k]
        return []

    def reports(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[EpochReport]]:
        """See ``LedgerReader``."""
        found: dict[int, list[EpochReport]] = {}
        for one in _asked(number, numbers):
            answer = self.server.get(f"{sweep_path(sweep)}/reports", number=one)["reports"]
            for trial, rows in answer.items():
                found[int(trial)] = [EpochReport(row["epoch"], numbers_of(row["metrics"])) for row in rows]
        return found

    def flow(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[FlowReport]]:
        """See ``LedgerReader``."""
        found: dict[int, list[FlowReport]] = {}
        for one in _asked(number, numbers):
            rows = self.server.get(f"{sweep_path(sweep)}/flow", number=one)["flow"]
            found |= {int(n): [_flow(row) for row in flows] for n, flows in rows.items()}
        return found

    def attempts(self, sweep: str, number: int) -> list[AttemptRecord]:
        """See ``LedgerReader``."""
        history = self.server.get(f"{sweep_path(sweep)}/trials/{number}")["history"]
        return [_record(AttemptRecord, row, outcome=lambda outcome: outcome or "") for row in history]

    def summary(self, sweep: str) -> dict[str, Any]:
        """The object of ``run --json``, as the server answers it."""
        found: dict[str, Any] = self.server.get(f"{sweep_path(sweep)}/summary")
        return found

    def ask(self, sweep: str, what: str, requested: int | None = None) -> SweepRecord:
        """Ask for ``stop``, ``pause``, ``resume`` or ``retry``; the server's controller does it in its own time."""
        query = {} if requested is None else {"requested": requested}
        return self._sweep(self.server.send("POST", f"{sweep_path(sweep)}/{what}", params=query))

    def change(self, sweep: str, requested: int | None = None, priority: int | None = None) -> SweepRecord:
        """Change a sweep's number of trials or its priority, also while it runs."""
        wanted = {"requested": requested, "priority": priority}
        body = {key: value for key, value in wanted.items() if value is not None}
        return self._sweep(self.server.send("PATCH", sweep_path(sweep), json=body))

    def label(self, sweep: str, labels: Labels) -> SweepRecord:
        """Change what a user wrote on a sweep."""
        body = {key: value for key, value in asdict(labels).items() if value is not None}
        return self._sweep(self.server.send("PATCH", sweep_path(sweep), json=body))

    def delete_sweep(self, sweep: str) -> None:
        """Remove the sweep with everything that belongs to it."""
        self.server.send("DELETE", sweep_path(sweep))

    def create_sweep(self, spec: Mapping[str, Any], key: str, priority: int | None = None) -> SweepRecord:
        """Submit a sweep. The same key again: the sweep of the first call."""
        query = {} if priority is None else {"priority": priority}
        sent = self.server.send("POST", "/sweeps", json=spec, params=query, headers={"Idempotency-Key": key})
        return self._sweep(sent)

    def close(self) -> None:
        """Close the connections."""
        self.server.close()

    def _sweep(self, row: Mapping[str, Any]) -> SweepRecord:
        record = sweep_record(row)
        self.facts[record.sweep] = row
        return record

    def _rows(
        self, path: str, key: str, query: Mapping[str, Any], limit: int | None, offset: int
    ) -> Iterable[Mapping[str, Any]]:
        """Page after page until there are no more, or ``limit`` rows."""
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            answer = self.server.get(path, **query, limit=size, offset=offset)
            rows = answer[key]
            yield from rows
            offset += len(rows)
            left = None if left is None else left - len(rows)
            if not rows or offset >= answer["total"]:
                return


def _asked(number: int | None, numbers: Sequence[int] | None) -> list[int | None]:
    """The requests that one trial, some trials, or all of them take."""
    return [number] if numbers is None or number is not None else [*sorted(set(numbers))]


def sweep_path(ref: str) -> str:
    """The address of a sweep, whatever characters a user put into its name.

    Raises:
        SweepNotFound: no sweep can have such a name.
    """
    if not ref.strip(".") or "/" in ref or "\\" in ref or not ref.isprintable():
        raise SweepNotFound(f"there is no sweep {ref!r}. `sweeper list` shows them all")
    return f"/sweeps/{quote(ref, safe='')}"


def sweep_record(row: Mapping[str, Any]) -> SweepRecord:
    """The record that a *sweep* object of the API describes."""
    return _record(SweepRecord, row, state=SweepState, tags=tuple)


def trial_record(row: Mapping[str, Any]) -> TrialRecord:
    """The record that a *trial* object of the API describes."""
    return _record(
        TrialRecord,
        {**row, "attempt": row.get("attempts")},
        state=TrialState,
        cause=lambda cause: Cause(cause) if cause else None,
        value=lambda value: None if value is None else number(value),
        metrics=numbers_of,
        tracked_state=lambda state: TrialState(state) if state else None,
        notes=tuple,
    )


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics with the numbers that JSON cannot write put back."""
    return {name: number(value) for name, value in metrics.items()}


def _flow(row: Mapping[str, Any]) -> FlowReport:
    return FlowReport(row["epoch"], tuple(numbers_of(layer) for layer in row["layers"]), number(row["clip_rate"]))


def number(value: Any) -> float:
    """A number of the API: "NaN" and "Infinity" are texts there, and null is no number."""
    return float("nan" if value is None else value) if value is None or isinstance(value, str) else value


def _record(kind: Any, row: Mapping[str, Any], **converted: Callable[[Any], Any]) -> Any:
    """A record from the fields that it has, some of them converted; other fields of the answer are ignored.

    Raises:
        SweeperError: the server is of another version and leaves out what a record needs, or says it otherwise.
    """
    known = {field.name: row[field.name] for field in fields(kind) if field.name in row}
    try:
        return kind(**{name: converted[name](value) if name in converted else value for name, value in known.items()})
    except (TypeError, ValueError) as error:
        raise SweeperError(f"the server and this program have different versions ({error})") from error
