"""How a commit is written to the ledger's tables: one statement per kind of row, whatever the number of changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from sweeper.ledger.common import check_holder, no_sweep
from sweeper.ledger.queries import encode, require, trial_rows
from sweeper.ledger.rules import TERMINAL, Commit, SweepRow, TrialRow, touched
from sweeper.ledger.tables import attempts, commits, leases, reports, sweeps, trials
from sweeper.records import Change
from sweeper.states import SweepState, TrialState

_SWEEP_FIELDS = SweepRow.__slots__
_TRIAL_FIELDS = tuple(name for name in TrialRow.__slots__ if name != "number")
_AT_TRIAL = (trials.c.sweep == sa.bindparam("at_sweep"), trials.c.number == sa.bindparam("at_number"))
_UPDATE_TRIALS = trials.update().where(*_AT_TRIAL)  # the columns to set are those of the parameters
_CUT_REPORTS = reports.delete().where(
    reports.c.sweep == sa.bindparam("at_sweep"),
    reports.c.number == sa.bindparam("at_number"),
    reports.c.epoch >= sa.bindparam("keep"),
)
_CLOSE_ATTEMPTS = (
    attempts.update()
    .where(
        attempts.c.sweep == sa.bindparam("at_sweep"),
        attempts.c.number == sa.bindparam("at_number"),
        attempts.c.attempt == sa.bindparam("at_attempt"),
    )
    .values(ended_at=sa.bindparam("ended_at"), outcome=sa.bindparam("outcome"))
)


def insert_for(connection: Connection) -> Callable[[sa.Table], Any]:
    """The database's own INSERT, which knows ON CONFLICT."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def lock_sweep(connection: Connection, sweep: str) -> SweepRow:
    """The sweep's row, locked until the transaction ends: the commits of one sweep follow one another."""
    query = sa.select(*(sweeps.c[name] for name in _SWEEP_FIELDS)).where(sweeps.c.sweep == sweep)
    row = connection.execute(query.with_for_update(key_share=True)).mappings().first()
    if row is None:
        require(connection, sweep)
        raise no_sweep(sweep, [])
    decoded: dict[str, Any] = {"state": SweepState(row["state"]), "summary": json.loads(row["summary"])}
    decoded["tags"] = tuple(json.loads(row["tags"]))
    return SweepRow(**{**row, **decoded})


def check_lease(connection: Connection, sweep: str, held: int | None) -> None:
    """Refuse the holder of lease ``held`` when there has been another since; the sweep is locked.

    Raises:
        TakenOver: there has.
    """
    if held is None:
        return
    number = connection.execute(sa.select(sweeps.c.lease).where(sweeps.c.sweep == sweep)).scalar_one()
    owner = None
    if number != held:
        owner = connection.execute(sa.select(leases.c.owner).where(leases.c.sweep == sweep)).scalar()
    check_holder(sweep, held, number, owner)


def write_changes(connection: Connection, sweep: str, row: SweepRow, changes: Sequence[Change]) -> list[int]:
    """Apply the changes to the locked sweep; return the positions of those that were refused."""
    rows = trial_rows(connection, sweep, list(touched(changes)))
    before = row.requested
    commit = Commit(
        row,
        load=rows.get,
        unfinished=lambda: _numbers(connection, sweep, trials.c.state.not_in([state.value for state in TERMINAL])),
        begun=lambda: _numbers(
            connection, sweep, sa.or_(trials.c.attempt > 0, trials.c.state != TrialState.WAITING.value)
        ),
        now=time.time(),
    )
    refused = commit.apply(changes)
    if commit.sweep.requested > before:
        add_trials(connection, sweep, before, commit.sweep.requested)
    _write_reports(connection, sweep, commit)
    _write_attempts(connection, sweep, commit)
    _write_trials(connection, sweep, commit)
    if commit.all_tracked:
        ended = trials.c.state.in_([state.value for state in TERMINAL])
        behind = trials.c.tracked_state.is_distinct_from(trials.c.state)
        shown = trials.update().where(trials.c.sweep == sweep, ended, behind).values(tracked_state=trials.c.state)
        connection.execute(shown)
    if commit.sweep.requested < before:
        gone = trials.c.number >= commit.sweep.requested
        connection.execute(trials.delete().where(trials.c.sweep == sweep, gone))
    if commit.sweep_changed:
        values = {name: getattr(commit.sweep, name) for name in _SWEEP_FIELDS}
        values |= {"state": commit.sweep.state.value, "summary": encode(commit.sweep.summary)}
        values["tags"] = json.dumps(commit.sweep.tags)
        connection.execute(sweeps.update().where(sweeps.c.sweep == sweep).values(values))
    return refused


def add_trials(connection: Connection, sweep: str, first: int, last: int) -> None:
    """Insert the waiting trials first..last-1 in one statement."""
    numbers = sa.select(sa.literal(first, sa.Integer).label("number")).cte("numbers", recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.number + 1).where(numbers.c.number + 1 < last))
    rows = sa.select(sa.literal(sweep, sa.Text), numbers.c.number)
    connection.execute(trials.insert().from_select(["sweep", "number"], rows))


def answered(connection: Connection, sweep: str, writer: str, token: str) -> list[int] | None:
    """The answer of this very commit when an earlier attempt got through."""
    query = sa.select(commits.c.refused).where(
        commits.c.sweep == sweep, commits.c.writer == writer, commits.c.token == token
    )
    refused = connection.execute(query).scalar()
    return None if refused is None else json.loads(refused)


def remember(connection: Connection, sweep: str, writer: str, token: str, refused: list[int]) -> None:
    """Keep the answer of a commit in the transaction of that commit."""
    insert = insert_for(connection)(commits).values(sweep=sweep, writer=writer, token=token, refused=encode(refused))
    values = {"token": insert.excluded.token, "refused": insert.excluded.refused}
    connection.execute(insert.on_conflict_do_update(index_elements=["sweep", "writer"], set_=values))


def _write_reports(connection: Connection, sweep: str, commit: Commit) -> None:
    cut = [
        {"at_sweep": sweep, "at_number": number, "keep": edit.keep}
        for number, edit in commit.edits.items()
        if edit.keep is not None
    ]
    new = [
        {
            "sweep": sweep,
            "number": number,
            "epoch": report.epoch,
            "metrics": encode(report.metrics),
            "flow": report.flow,
        }
        for number, edit in commit.edits.items()
        for report in edit.new
    ]
    if cut:
        connection.execute(_CUT_REPORTS, cut)
    if new:
        connection.execute(reports.insert(), new)


def _write_attempts(connection: Connection, sweep: str, commit: Commit) -> None:
    opened = [
        {
            "sweep": sweep,
            "number": number,
            "attempt": attempt.attempt,
            "worker": attempt.worker,
            "started_at": attempt.started_at,
        }
        for number, attempt in commit.opened
    ]
    ended = [
        {
            "at_sweep": sweep,
            "at_number": closed.number,
            "at_attempt": closed.attempt,
            "ended_at": closed.at,
            "outcome": closed.outcome,
        }
        for closed in commit.closed
    ]
    if opened:
        connection.execute(attempts.insert(), opened)
    if ended:
        connection.execute(_CLOSE_ATTEMPTS, ended)


def _write_trials(connection: Connection, sweep: str, commit: Commit) -> None:
    values = []
    for number in commit.changed:
        row = commit.rows[number]
        if row.metrics is None and row.epochs:
            row.metrics = _last_metrics(connection, sweep, number)
        value = {name: getattr(row, name) for name in _TRIAL_FIELDS}
        value["at_sweep"], value["at_number"] = sweep, number
        value["state"] = row.state.value
        value["params"], value["metrics"] = _text(row.params), _text(row.metrics)
        value["cause"] = row.cause.value if row.cause else None
        value["tracked_state"] = row.tracked_state.value if row.tracked_state else None
        value["notes"] = encode(row.notes) if row.notes else None
        value["attributes"] = encode(row.attributes) if row.attributes else None
        values.append(value)
    if values:
        connection.execute(_UPDATE_TRIALS, values)


def _text(data: Any) -> str | None:
    return data if data is None or isinstance(data, str) else encode(data)


def _last_metrics(connection: Connection, sweep: str, number: int) -> str | None:
    at = (reports.c.sweep == sweep, reports.c.number == number)
    query = sa.select(reports.c.metrics).where(*at).order_by(reports.c.epoch.desc()).limit(1)
    return connection.execute(query).scalar()


def _numbers(connection: Connection, sweep: str, which: sa.ColumnElement[bool]) -> list[int]:
    return list(connection.execute(sa.select(trials.c.number).where(trials.c.sweep == sweep, which)).scalars())
