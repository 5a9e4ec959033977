"""The ledger on SQLite or PostgreSQL: the truth about every sweep."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sweeper.ledger import queries, tokens
from sweeper.ledger.commit import add_trials, answered, check_lease, insert_for, lock_sweep, remember, write_changes
from sweeper.ledger.common import check_extension, new_sweep_id
from sweeper.ledger.engine import Database
from sweeper.ledger.protocol import AttemptRecord, Direction, Lease, Ledger, Request, Settled
from sweeper.ledger.rules import clean
from sweeper.ledger.tables import leases, requests, sweeps
from sweeper.records import Change, EpochReport, FlowReport, SweepChanged, SweepRecord, TokenRecord, TrialRecord
from sweeper.states import SweepState, TrialState

T = TypeVar("T")


class SqlLedger:
    """A ledger in a database with an up-to-date schema."""

    def __init__(self, database: Database):
        self._database = database
        self._writer = uuid.uuid4().hex
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
        now = time.time()
        values = {
            "name": clean(name),
            "state": SweepState.QUEUED.value,
            "reason": "",
            "requested": requested,
            "spec": queries.encode(spec),
            "created_at": now,
            "seconds": 0.0,
            "owner": owner,
            "priority": priority,
            "key": key if key is not None else uuid.uuid4().hex,
            "parent": parent,
            "summary": "{}",
        }
        same_key = sa.select(sweeps.c.sweep).where(sweeps.c.owner == owner, sweeps.c.key == values["key"])

        def create(connection: Connection) -> SweepRecord:
            while (sweep := connection.execute(same_key).scalar()) is None:
                new = insert_for(connection)(sweeps).values(**values, sweep=new_sweep_id(now))
                if created := connection.execute(new.on_conflict_do_nothing().returning(sweeps.c.sweep)).scalar():
                    add_trials(connection, created, 0, requested)
            return queries.sweep_named(connection, sweep)

        return self._database.write(create)

    def sweep(self, ref: str, *, owner: str | None = None) -> SweepRecord:
        """The sweep with this id, name or beginning of an id."""
        return self._read(queries.sweep_named, ref, owner)

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
        wanted = {"owner": owner, "state": state.value if state else None, "name": name}
        where = [sweeps.c[column] == value for column, value in wanted.items() if value is not None]
        where.append(sweeps.c.parent.is_(None))
        return self._database.read(lambda c: queries.sweep_records(c, *where, limit=limit, offset=offset))

    def count_sweeps(
        self, *, owner: str | None = None, state: SweepState | None = None, name: str | None = None
    ) -> int:
        """How many sweeps there are."""
        wanted = {"owner": owner, "state": state.value if state else None, "name": name}
        where = [sweeps.c[column] == value for column, value in wanted.items() if value is not None]
        count = sa.select(sa.func.count()).select_from(sweeps).where(sweeps.c.parent.is_(None), *where)
        return self._database.read(lambda c: c.execute(count).scalar_one())

    def finals(self, *, parent: str | None = None, state: SweepState | None = None) -> list[SweepRecord]:
        """The sweeps that have a parent, newest first."""
        where = [sweeps.c.parent.is_not(None) if parent is None else sweeps.c.parent == parent]
        where += [sweeps.c.state == state.value] if state is not None else []
        return self._database.read(lambda c: queries.sweep_records(c, *where))

    def extend(self, sweep: str, requested: int) -> SweepRecord:
        """Change the number of trials."""
        check_extension(self.commit(sweep, [SweepChanged(requested=requested)]), sweep, requested)
        return self.sweep(sweep)

    def delete_sweep(self, sweep: str) -> None:
        """Remove the sweep with everything that belongs to it."""
        self._read(queries.require, sweep)
        self._database.write(lambda c: c.execute(sweeps.delete().where(sweeps.c.sweep == sweep)))

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
        return self._read(queries.trial_records, sweep, state, sort=sort, limit=limit, offset=offset, numbers=numbers)

    def trial(self, sweep: str, number: int) -> TrialRecord:
        """One trial."""
        return self._read(queries.trial_record, sweep, number)

    def best(self, sweep: str, k: int = 1, direction: Direction = "minimize") -> list[TrialRecord]:
        """The k complete trials with the best finite values."""
        return self._read(queries.best_trials, sweep, k, direction)

    def untracked(self, sweep: str) -> list[TrialRecord]:
        """Terminal trials of which MLflow does not show that state yet."""
        return self._read(queries.untracked_trials, sweep)

    def settled(self, sweep: str, first: int = 0, *, limit: int | None = None, metrics: bool = False) -> Settled:
        """The complete and pruned trials from number ``first`` on."""
        return self._read(queries.settled_trials, sweep, first, limit, metrics)

    def curves(
        self, sweep: str, metric: str, numbers: Sequence[int], epochs: Sequence[int]
    ) -> dict[int, list[tuple[int, float]]]:
        """One metric of these trials at these epochs."""
        return self._read(queries.curves_of, sweep, metric, numbers, epochs)

    def reports(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[EpochReport]]:
        """Each trial's reports by epoch."""
        return self._read(queries.epoch_reports, sweep, number, numbers)

    def flow(
        self, sweep: str, number: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> dict[int, list[FlowReport]]:
        """Each trial's gradient flow by epoch."""
        return self._read(queries.flow_reports, sweep, number, numbers)

    def attempts(self, sweep: str, number: int) -> list[AttemptRecord]:
        """Every assignment of a trial, in order."""
        return self._read(queries.attempt_records, sweep, number)

    def commit(self, sweep: str, changes: Sequence[Change]) -> list[Change]:
        """Write all changes in one transaction, in order; return those that were refused."""
        token, repeated = uuid.uuid4().hex, False

        def write(connection: Connection) -> list[int]:
            nonlocal repeated
            row = lock_sweep(connection, sweep)  # waits for an earlier attempt that the server still works on
            if repeated and (known := answered(connection, sweep, self._writer, token)) is not None:
                return known
            repeated = True
            check_lease(connection, sweep, self._number(sweep))
            refused = write_changes(connection, sweep, row, changes)
            if self._database.remote:
                remember(connection, sweep, self._writer, token, refused)
            return refused

        return [changes[position] for position in self._database.write(write)]

    def holding(self, sweep: str, number: int) -> Ledger:
        """This ledger for the holder of the sweep's lease."""
        mine = copy.copy(self)
        mine._writer, mine._holds = uuid.uuid4().hex, (sweep, number)
        return mine

    def acquire_lease(self, sweep: str, owner: str, ttl: float, *, gone: Lease | None = None) -> Lease | None:
        """Take the sweep when it is free, already this owner's, or still held exactly as by ``gone``."""

        def acquire(connection: Connection) -> Lease | None:
            lock_sweep(connection, sweep)
            held = _lease_of(connection, sweep)
            if held is not None and held.owner == owner:
                return held
            if held is not None and held != gone:
                return None
            number = sweeps.update().where(sweeps.c.sweep == sweep).values(lease=sweeps.c.lease + 1)
            mine = Lease(owner, connection.execute(number.returning(sweeps.c.lease)).scalar_one(), 0, ttl)
            new = insert_for(connection)(leases).values(sweep=sweep, owner=owner, beat=mine.beat, ttl=ttl)
            taken = {name: new.excluded[name] for name in ("owner", "beat", "ttl")}
            connection.execute(new.on_conflict_do_update(index_elements=["sweep"], set_=taken))
            return mine

        return self._database.write(acquire)

    def renew_leases(self, owner: str) -> set[str]:
        """Prolong every lease of this owner."""
        renewed = leases.update().where(leases.c.owner == owner).values(beat=leases.c.beat + 1)
        return self._database.write(lambda c: set(c.execute(renewed.returning(leases.c.sweep)).scalars()))

    def release_lease(self, sweep: str, owner: str) -> None:
        """Give the sweep back."""
        mine = leases.delete().where(leases.c.sweep == sweep, leases.c.owner == owner)
        self._read(queries.require, sweep)
        self._database.write(lambda connection: connection.execute(mine))

    def lease(self, sweep: str) -> Lease | None:
        """Who holds the sweep."""

        def holder(connection: Connection) -> Lease | None:
            held = _lease_of(connection, sweep)
            if held is None:
                queries.require(connection, sweep)
            return held

        return self._database.read(holder)

    def request(self, sweep: str, kind: str, args: Mapping[str, Any] | None = None) -> None:
        """Leave a request for the controller of the sweep."""
        values = {
            "token": uuid.uuid4().hex,
            "sweep": sweep,
            "kind": kind,
            "args": queries.encode(args or {}),
            "at": time.time(),
        }

        def leave(connection: Connection) -> None:
            queries.require(connection, sweep)
            connection.execute(insert_for(connection)(requests).values(values).on_conflict_do_nothing())

        self._database.write(leave)

    def take_requests(self, sweep: str) -> list[Request]:
        """The requests left since the last call, oldest first."""
        waiting = (requests.c.sweep == sweep, requests.c.taken.is_(None))
        token = uuid.uuid4().hex  # taking twice, after a lost answer, gives the same requests

        def any_waiting(connection: Connection) -> bool:
            if connection.execute(sa.select(requests.c.request).where(*waiting).limit(1)).first() is not None:
                return True
            queries.require(connection, sweep)
            return False

        def take(connection: Connection) -> list[Request]:
            lock_sweep(connection, sweep)
            check_lease(connection, sweep, self._number(sweep))
            connection.execute(requests.update().where(*waiting).values(taken=token))
            taken = sa.select(requests.c.kind, requests.c.args, requests.c.at).where(requests.c.taken == token)
            rows = connection.execute(taken.order_by(requests.c.request))
            return [Request(row.kind, json.loads(row.args), row.at) for row in rows]

        return self._database.write(take) if self._database.read(any_waiting) else []

    def add_token(self, token: TokenRecord, *, replaces: str | None = None) -> None:
        """Store an access token, and revoke the one it replaces."""
        self._database.write(lambda c: tokens.add(c, token, replaces))

    def token(self, token: str) -> TokenRecord | None:
        """The access token of this id."""
        return self._read(tokens.find, token)

    def tokens(self) -> list[TokenRecord]:
        """All access tokens, oldest first."""
        return self._read(tokens.every)

    def revoke_token(self, token: str, at: float) -> bool:
        """End an access token."""
        return self._database.write(lambda c: tokens.revoke(c, token, at))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def _number(self, sweep: str) -> int | None:
        """The number of the lease that this ledger's holder has of the sweep."""
        return self._holds[1] if self._holds is not None and self._holds[0] == sweep else None

    def _read(self, query: Callable[..., T], *args: Any, **options: Any) -> T:
        return self._database.read(lambda connection: query(connection, *args, **options))


def _lease_of(connection: Connection, sweep: str) -> Lease | None:
    query = sa.select(leases.c.owner, sweeps.c.lease, leases.c.beat, leases.c.ttl).join(sweeps)
    row = connection.execute(query.where(leases.c.sweep == sweep)).first()
    return None if row is None else Lease(*row)
