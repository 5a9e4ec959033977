"""What every ledger promises: the protocol that the SQL ledger and its in-memory twin both keep.

The promise, tested by one contract suite for SQLite, PostgreSQL and the twin:

- A sweep of N trials has exactly the rows 0..N-1 from its creation on; a ``complete`` sweep has terminal trials only.
- ``commit`` writes all or nothing. A change that a trial's state or attempt does not allow is left out and returned.
- ``commit`` takes effect exactly once: when the server is killed between the write and its answer, the same call finds
  out what happened and returns the first attempt's answer. All other calls can be repeated without harm.
- A lease has a number, which grows with every new holder. What the holder of an earlier number commits is refused
  whole, in the same transaction; a commit without a number is a user's word, which no lease refuses.
- Calls wait for a lost PostgreSQL server for a bounded time, then raise LedgerError. Threads may share one ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sweeper.records import Change, EpochReport, FlowReport, SweepRecord, TokenRecord, TrialRecord
from sweeper.states import SweepState, TrialState

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class AttemptRecord:
    """One assignment of a trial to a worker; ``outcome`` is empty while it runs."""

    attempt: int
    worker: str
    started_at: float
    ended_at: float | None = None
    outcome: str = ""


@dataclass(frozen=True)
class Lease:
    """The one controller that may run a sweep.

    ``number`` grows with every new holder, ``beat`` with every renewal. No clock says when a lease ends: who has seen
    its beat stand still for ``ttl`` seconds may take it (``acquire_lease``).
    """

    owner: str
    number: int
    beat: int
    ttl: float


@dataclass(frozen=True)
class Request:
    """What a user asked of the controller that runs a sweep, such as stop, pause, retry, priority or budget."""

    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class SettledTrials:
    """Trials that are complete or pruned, as columns of equal length: nothing changes what they came to.

    A parameter that a trial lacks is None; equal lists may be one object. ``metrics`` is empty unless asked for.
    """

    numbers: Sequence[int]
    states: Sequence[TrialState]
    values: Sequence[float | None]
    params: Mapping[str, Sequence[Any]]
    metrics: Sequence[Mapping[str, float]] = ()

    @classmethod
    def of(cls, trials: Sequence[TrialRecord], metrics: bool) -> SettledTrials:
        """The columns of records."""
        points = [trial.params or {} for trial in trials]
        names = dict.fromkeys(name for point in points for name in point)
        return cls(
            [trial.number for trial in trials],
            [trial.state for trial in trials],
            [trial.value for trial in trials],
            {name: [point.get(name) for point in points] for name in names},
            [trial.metrics for trial in trials] if metrics else (),
        )


@dataclass(frozen=True)
class Settled:
    """The settled trials from some number on, by number. ``count`` is that of all the sweep's settled trials.

    ``open_from`` is the smallest number of a trial that waits or runs; the number of trials where none does.
    """

    count: int
    open_from: int
    trials: SettledTrials


class LedgerReader(Protocol):
    """What can be asked of the sweeps, here or on a server. ``sweep`` arguments are full sweep ids, except where
    ``ref`` says otherwise.

    Raises (all methods):
        SweepNotFound: there is no such sweep.
        LedgerError: the store cannot be read or written.
    """

    def sweep(self, ref: str, *, owner: str | None = None) -> SweepRecord:
        """The sweep with this id, else the newest with this name, else the only one whose id starts like this.

        With an ``owner`` no other owner's sweep is found, nor named in the error.
        """
        ...

    def sweeps(
        self,
        *,
        owner: str | None = None,
        state: SweepState | None = None,
        name: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[SweepRecord]:
        """Sweeps of their own (those without a parent), newest first."""
        ...

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
        """Trials by number, or by a field or metric (``-name``: descending). Missing values and NaN come last.

        Raises:
            SpecError: ``sort`` names no field and no metric of this sweep.
        """
        ...

    def trial(self, sweep: str, number: int) -> TrialRecord:
        """One trial.

        Raises:
            SpecError: the sweep has no trial of that number.
        """
        ...

    def best(self, sweep: str, k: int = 1, direction: Direction = "minimize") -> list[TrialRecord]:
        """The k complete trials with the best finite values, ties by number; with none, of those that were stopped."""
        ...

    def reports(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[EpochReport]]:
        """Each trial's reports by epoch, of one trial, of some, or of all. Trials without any are left out."""
        ...

    def flow(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[FlowReport]]:
        """Each trial's gradient flow by epoch, of one trial, of some, or of all. Trials without any are left out."""
        ...

    def attempts(self, sweep: str, number: int) -> list[AttemptRecord]:
        """Every assignment of a trial, in order."""
        ...


class Ledger(LedgerReader, Protocol):
    """The store of all sweeps. Raises as ``LedgerReader`` does."""

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
        """Add a queued sweep with all its trials waiting. The same owner and key again: the sweep of the first call.

        A sweep with a ``parent`` is not listed and has no name to be found by; it goes when its parent is deleted.
        """
        ...

    def count_sweeps(
        self, *, owner: str | None = None, state: SweepState | None = None, name: str | None = None
    ) -> int:
        """How many sweeps ``sweeps`` would list without a limit."""
        ...

    def finals(self, *, parent: str | None = None, state: SweepState | None = None) -> list[SweepRecord]:
        """The sweeps that have a parent (None: any), newest first."""
        ...

    def extend(self, sweep: str, requested: int) -> SweepRecord:
        """Change the number of trials. Fewer: only trials that never started go.

        Raises:
            SpecError: a trial that would go has started, or the sweep is complete.
        """
        ...

    def delete_sweep(self, sweep: str) -> None:
        """Remove the sweep with everything that belongs to it, its finals too."""
        ...

    def untracked(self, sweep: str) -> list[TrialRecord]:
        """Terminal trials of which MLflow does not show that state yet."""
        ...

    def settled(self, sweep: str, first: int = 0, *, limit: int | None = None, metrics: bool = False) -> Settled:
        """The complete and pruned trials from number ``first`` on, at most ``limit``.

        Who has asked before asks from the last ``open_from`` on, and from 0 again when ``count`` says that trials were
        settled below it: failed ones that ran once more.
        """
        ...

    def curves(
        self, sweep: str, metric: str, numbers: Sequence[int], epochs: Sequence[int]
    ) -> dict[int, list[tuple[int, float]]]:
        """One metric of these trials at these epochs, as pairs (epoch, value) by epoch; values may be non-finite."""
        ...

    def commit(self, sweep: str, changes: Sequence[Change]) -> list[Change]:
        """Write all changes in one transaction, in order; return those that were refused.

        Raises:
            TakenOver: this is what ``holding`` gave, and the sweep has another holder since. Nothing was written.
        """
        ...

    def holding(self, sweep: str, number: int) -> Ledger:
        """This ledger for the holder of the sweep's lease of that number.

        Its ``commit`` and ``take_requests`` of this sweep are refused when the lease has had another holder since.
        """
        ...

    def acquire_lease(self, sweep: str, owner: str, ttl: float, *, gone: Lease | None = None) -> Lease | None:
        """Take the sweep when it is free, already this owner's, or still held exactly as ``gone`` says; else None."""
        ...

    def renew_leases(self, owner: str) -> set[str]:
        """Prolong every lease of this owner; the sweeps that it holds. Others were taken over, or released."""
        ...

    def release_lease(self, sweep: str, owner: str) -> None:
        """Give the sweep back. Another owner's lease stays."""
        ...

    def lease(self, sweep: str) -> Lease | None:
        """Who holds the sweep."""
        ...

    def request(self, sweep: str, kind: str, args: Mapping[str, Any] | None = None) -> None:
        """Leave a request for the controller of the sweep."""
        ...

    def take_requests(self, sweep: str) -> list[Request]:
        """The requests left since the last call, oldest first; each is delivered once.

        Raises:
            TakenOver: as for ``commit``.
        """
        ...

    def add_token(self, token: TokenRecord, *, replaces: str | None = None) -> None:
        """Store an access token; the one it replaces is revoked in the same transaction."""
        ...

    def token(self, token: str) -> TokenRecord | None:
        """The access token of this id, revoked or not."""
        ...

    def tokens(self) -> list[TokenRecord]:
        """All access tokens, oldest first."""
        ...

    def revoke_token(self, token: str, at: float) -> bool:
        """End an access token for good. False: there is none of this id."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...
