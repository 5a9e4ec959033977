"""The ledger's in-memory twin: the same contract in dictionaries, for simulations and tests."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from sweeper.flow import unpack_flow
from sweeper.ledger.common import (
    check_extension,
    check_holder,
    find_sweep,
    new_sweep_id,
    no_such_trial,
    no_sweep,
    sort_trials,
)
from sweeper.ledger.held import HeldSweep
from sweeper.ledger.protocol import AttemptRecord, Direction, Lease, Ledger, Request, Settled, SettledTrials
from sweeper.ledger.rules import TERMINAL, Commit, SweepRow, TrialRow, clean, plain
from sweeper.records import Change, EpochReport, FlowReport, SweepChanged, SweepRecord, TokenRecord, TrialRecord
from sweeper.states import SweepState, TrialState

_FIELDS = TrialRow.__slots__


class MemoryLedger:
    """A ledger that lives and dies with its process.

    ``clock`` gives Unix seconds, ``new_id`` an id for a sweep of that time (in a simulation both are made up).
    """

    def __init__(self, clock: Callable[[], float] = time.time, new_id: Callable[[float], str] = new_sweep_id) -> None:
        self._clock, self._new_id = clock, new_id
        self._sweeps: dict[str, HeldSweep] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._lock = threading.RLock()
        self._holds: tuple[str, int] | None = None  # a sweep, and the number of the lease that it is held by

    def create_sweep(
        self,
        name: str,
        spec: Mapping[str, Any],
        requested: int,
        *,
        owner: str = "",
        priority: int = 0,
        key: str | None = None,
        parent: str | None = None,
    ) -> SweepRecord:
        """Add a queued sweep with all its trials waiting."""
        with self._lock:
            if key is not None and (known := self._keys.get((owner, key))):
                return self._sweeps[known].record()
            if parent is not None:
                self._held(parent)
            now = self._clock()
            while (sweep := self._new_id(now)) in self._sweeps:
                pass
            row = SweepRow(SweepState.QUEUED, "", requested, priority, None, None, 0.0, None, None, {}, "")
            trials = {number: TrialRow(number) for number in range(requested)}
            self._sweeps[sweep] = HeldSweep(sweep, clean(name), plain(spec), owner, parent, now, row, trials)
            if key is not None:
                self._keys[owner, key] = sweep
            return self._sweeps[sweep].record()

    def sweep(self, ref: str, *, owner: str | None = None) -> SweepRecord:
        """The sweep with this id, name or beginning of an id."""
        with self._lock:
            if ref in self._sweeps and owner in (None, self._sweeps[ref].owner):
                return self._sweeps[ref].record()
            return self._sweeps[find_sweep(ref, self._names(owner))].record()

    def sweeps(
        self,
        *,
        owner: str | None = None,
        state: SweepState | None = None,
        name: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[SweepRecord]:
        """Sweeps of their own, newest first."""
        with self._lock:
            found = [
                held
                for held in self._newest_first()
                if held.parent is None
                and owner in (None, held.owner)
                and state in (None, held.row.state)
                and name in (None, held.name)
            ]
            return [held.record() for held in _page(found, limit, offset)]

    def finals(self, *, parent: str | None = None, state: SweepState | None = None) -> list[SweepRecord]:
        """The sweeps that have a parent, newest first."""
        with self._lock:
            every = [held for held in self._newest_first() if held.parent is not None]
            found = [held for held in every if parent in (None, held.parent) and state in (None, held.row.state)]
            return [held.record() for held in found]

    def count_sweeps(
        self, *, owner: str | None = None, state: SweepState | None = None, name: str | None = None
    ) -> int:
        """How many sweeps there are."""
        return len(self.sweeps(owner=owner, state=state, name=name))

    def extend(self, sweep: str, requested: int) -> SweepRecord:
        """Change the number of trials."""
        with self._lock:
            check_extension(self.commit(sweep, [SweepChanged(requested=requested)]), sweep, requested)
            return self._held(sweep).record()

    def delete_sweep(self, sweep: str) -> None:
        """Remove the sweep with everything that belongs to it."""
        with self._lock:
            self._held(sweep)
            gone = {sweep} | {held.sweep for held in self._sweeps.values() if held.parent == sweep}
            for known in gone:
                del self._sweeps[known]
            for key in [key for key, known in self._keys.items() if known in gone]:
                del self._keys[key]

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
        """Trials by number, or by a field or metric."""
        with self._lock:
            rows = self._held(sweep).trials
            wanted = rows if numbers is None else sorted(rows.keys() & set(numbers))
            found = [_record(rows[number]) for number in wanted if state in (None, rows[number].state)]
        return _page(sort_trials(found, sort) if sort else found, limit, offset)

    def trial(self, sweep: str, number: int) -> TrialRecord:
        """One trial."""
        with self._lock:
            held = self._held(sweep)
            if number not in held.trials:
                raise no_such_trial(sweep, number, held.row.requested)
            return _record(held.trials[number])

    def best(self, sweep: str, k: int = 1, direction: Direction = "minimize") -> list[TrialRecord]:
        """See ``LedgerReader``."""
        for state in (TrialState.COMPLETE, TrialState.STOPPED):
            found = self.trials(sweep, state)
            finite = [trial for trial in found if trial.value is not None and abs(trial.value) < float("inf")]
            if finite:
                return sort_trials(finite, "value" if direction == "minimize" else "-value")[:k]
        return []

    def untracked(self, sweep: str) -> list[TrialRecord]:
        """Terminal trials of which MLflow does not show that state yet."""
        with self._lock:
            rows = self._held(sweep).trials.values()
            return [_record(row) for row in rows if row.state in TERMINAL and row.tracked_state is not row.state]

    def settled(self, sweep: str, first: int = 0, *, limit: int | None = None, metrics: bool = False) -> Settled:
        """The complete and pruned trials from number ``first`` on."""
        every = self.trials(sweep)
        settled = [trial for trial in every if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        found = SettledTrials.of([trial for trial in settled if trial.number >= first][:limit], metrics)
        return Settled(len(settled), min([*(t.number for t in every if not t.state.terminal), len(every)]), found)

    def curves(
        self, sweep: str, metric: str, numbers: Sequence[int], epochs: Sequence[int]
    ) -> dict[int, list[tuple[int, float]]]:
        """One metric of these trials at these epochs."""
        wanted, found = set(epochs), {}
        for number, reports in self.reports(sweep, numbers=numbers).items():
            pairs = [(r.epoch, r.metrics[metric]) for r in reports if r.epoch in wanted and metric in r.metrics]
            if pairs:
                found[number] = pairs
        return found

    def reports(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[EpochReport]]:
        """Each trial's reports by epoch."""
        with self._lock:
            reports = self._held(sweep).reports
            return {n: [_bare(r) for r in reports[n]] for n in _wanted(reports, number, numbers) if reports[n]}

    def flow(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[FlowReport]]:
        """Each trial's gradient flow by epoch."""
        with self._lock:
            reports = self._held(sweep).reports
            found = {
                n: [unpack_flow(r.epoch, r.flow) for r in reports[n] if r.flow is not None]
                for n in _wanted(reports, number, numbers)
            }
            return {n: flows for n, flows in found.items() if flows}

    def attempts(self, sweep: str, number: int) -> list[AttemptRecord]:
        """Every assignment of a trial, in order."""
        with self._lock:
            return list(self._held(sweep).attempts.get(number, ()))

    def commit(self, sweep: str, changes: Sequence[Change]) -> list[Change]:
        """Write all changes in one transaction, in order; return those that were refused."""
        with self._lock:
            held = self._held(sweep)
            self._check_lease(held)
            trials = held.trials
            commit = Commit(
                replace(held.row),
                load=lambda number: replace(trials[number]),
                unfinished=lambda: [row.number for row in trials.values() if row.state not in TERMINAL],
                begun=lambda: [row.number for row in trials.values() if row.begun],
                now=self._clock(),
            )
            refused = commit.apply(changes)
            held.take(commit)
            return [changes[position] for position in refused]

    def holding(self, sweep: str, number: int) -> Ledger:
        """This ledger for the holder of the sweep's lease."""
        mine = copy.copy(self)
        mine._holds = (sweep, number)
        return mine

    def acquire_lease(self, sweep: str, owner: str, ttl: float, *, gone: Lease | None = None) -> Lease | None:
        """Take the sweep when it is free, already this owner's, or still held exactly as by ``gone``."""
        with self._lock:
            held = self._held(sweep)
            if held.lease is not None and held.lease.owner == owner:
                return held.lease
            if held.lease is not None and held.lease != gone:
                return None
            held.number += 1
            held.lease = Lease(owner, held.number, 0, ttl)
            return held.lease

    def renew_leases(self, owner: str) -> set[str]:
        """Prolong every lease of this owner."""
        with self._lock:
            mine = {n: held.lease for n, held in self._sweeps.items() if held.lease and held.lease.owner == owner}
            for sweep, lease in mine.items():
                self._sweeps[sweep].lease = replace(lease, beat=lease.beat + 1)
            return set(mine)

    def release_lease(self, sweep: str, owner: str) -> None:
        """Give the sweep back."""
        with self._lock:
            held = self._held(sweep)
            if held.lease is not None and held.lease.owner == owner:
                held.lease = None

    def lease(self, sweep: str) -> Lease | None:
        """Who holds the sweep."""
        with self._lock:
            return self._held(sweep).lease

    def request(self, sweep: str, kind: str, args: Mapping[str, Any] | None = None) -> None:
        """Leave a request for the controller of the sweep."""
        with self._lock:
            self._held(sweep).requests.append(Request(kind, plain(args or {}), self._clock()))

    def take_requests(self, sweep: str) -> list[Request]:
        """The requests left since the last call, oldest first."""
        with self._lock:
            held = self._held(sweep)
            self._check_lease(held)
            taken, held.requests = held.requests, []
            return taken

    def add_token(self, token: TokenRecord, *, replaces: str | None = None) -> None:
        """Store an access token, and revoke the one it replaces."""
        with self._lock:
            self._tokens.setdefault(token.token, token)
            if replaces is not None:
                self.revoke_token(replaces, token.created_at)

    def token(self, token: str) -> TokenRecord | None:
        """The access token of this id."""
        return self._tokens.get(token)

    def tokens(self) -> list[TokenRecord]:
        """All access tokens, oldest first."""
        return sorted(self._tokens.values(), key=attrgetter("created_at"))

    def revoke_token(self, token: str, at: float) -> bool:
        """End an access token."""
        with self._lock:
            known = self._tokens.get(token)
            if known is not None and known.revoked_at is None:
                self._tokens[token] = replace(known, revoked_at=at)
            return known is not None

    def close(self) -> None:
        """Nothing to close."""

    def _held(self, sweep: str) -> HeldSweep:
        if sweep not in self._sweeps:
            raise no_sweep(sweep, self._names())
        return self._sweeps[sweep]

    def _check_lease(self, held: HeldSweep) -> None:
        mine = self._holds[1] if self._holds is not None and self._holds[0] == held.sweep else None
        check_holder(held.sweep, mine, held.number, held.lease.owner if held.lease else None)

    def _names(self, owner: str | None = None) -> list[tuple[str, str]]:
        known = [held for held in self._newest_first() if held.parent is None and owner in (None, held.owner)]
        return [(held.sweep, held.name) for held in known]

    def _newest_first(self) -> list[HeldSweep]:
        return sorted(self._sweeps.values(), key=lambda held: (held.created_at, held.sweep), reverse=True)


def _bare(report: EpochReport) -> EpochReport:
    return report if report.flow is None else replace(report, flow=None)


def _record(row: TrialRow) -> TrialRecord:
    return TrialRecord(**{name: getattr(row, name) for name in _FIELDS})


def _wanted(held: Mapping[int, Any], number: int | None, numbers: Sequence[int] | None) -> list[int]:
    """The trials that one number, some numbers, or neither asks for."""
    if number is None and numbers is None:
        return sorted(held)
    return sorted(held.keys() & ({number} if number is not None else set(numbers or ())))


def _page(found: list[Any], limit: int | None, offset: int) -> list[Any]:
    return found[offset : None if limit is None else offset + limit]
