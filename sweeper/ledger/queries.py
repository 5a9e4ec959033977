"""What is read from the ledger's tables, as frozen records."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from sweeper.flow import unpack_flow
from sweeper.ledger.common import SORTABLE, find_sweep, no_such_trial, no_sweep, sort_trials
from sweeper.ledger.protocol import AttemptRecord, Direction, Settled, SettledTrials
from sweeper.ledger.rules import TERMINAL, TrialRow
from sweeper.ledger.tables import attempts, reports, sweeps, trials
from sweeper.records import EpochReport, FlowReport, SweepRecord, TrialRecord
from sweeper.states import Cause, SweepState, TrialState

TRIAL_COLUMNS = tuple(trials.c[name] for name in TrialRow.__slots__)
_STATES = {state.value: state for state in TrialState}
_CAUSES = {cause.value: cause for cause in Cause}
_CHUNK = 1000  # numbers in one IN list, reports decoded at once
_FEW = 200  # rows whose objects are fewer than make the garbage collector begin
_SWEEP_COLUMNS = tuple(column for column in sweeps.c if column.name not in ("key", "lease"))

encode = json.JSONEncoder(separators=(",", ":")).encode


def sweep_named(connection: Connection, ref: str, owner: str | None = None) -> SweepRecord:
    """The sweep with this id, name or beginning of an id; with an owner, of that owner only."""
    mine = [] if owner is None else [sweeps.c.owner == owner]
    exact = sweep_records(connection, sweeps.c.sweep == ref, *mine)
    if exact:
        return exact[0]
    found = find_sweep(ref, _newest_first(connection, *mine))
    return sweep_records(connection, sweeps.c.sweep == found)[0]


def require(connection: Connection, sweep: str) -> None:
    """Raise SweepNotFound unless there is a sweep of this id."""
    if connection.execute(sa.select(sweeps.c.sweep).where(sweeps.c.sweep == sweep)).first() is None:
        raise no_sweep(sweep, _newest_first(connection))


def sweep_records(
    connection: Connection, *where: sa.ColumnElement[bool], limit: int | None = None, offset: int = 0
) -> list[SweepRecord]:
    """Sweeps, newest first, with their trials counted by state."""
    query = sa.select(*_SWEEP_COLUMNS).where(*where).order_by(sweeps.c.created_at.desc(), sweeps.c.sweep.desc())
    rows = connection.execute(_page(query, limit, offset)).mappings().all()
    counts = {row["sweep"]: dict.fromkeys(_STATES, 0) for row in rows}
    number_of = sa.func.count().label("trials")
    grouped = sa.select(trials.c.sweep, trials.c.state, number_of).group_by(trials.c.sweep, trials.c.state)
    wanted = list(counts)
    for start in range(0, len(wanted), _CHUNK):
        some = grouped.where(trials.c.sweep.in_(wanted[start : start + _CHUNK]))
        for row in connection.execute(some):
            counts[row.sweep][row.state] = row.trials
    return [_sweep(row, counts[row["sweep"]]) for row in rows]


def trial_records(
    connection: Connection,
    sweep: str,
    state: TrialState | None = None,
    *,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    numbers: Sequence[int] | None = None,
) -> list[TrialRecord]:
    """Trials by number, or by a field (ordered by the database) or a metric (ordered here)."""
    query = sa.select(*TRIAL_COLUMNS).where(trials.c.sweep == sweep)
    if state is not None:
        query = query.where(trials.c.state == state.value)
    by_metric = sort is not None and sort.removeprefix("-") not in SORTABLE
    if sort is not None and not by_metric and (numbers is None or len(numbers) <= _CHUNK):
        query = query.order_by(*_order(sort, connection.dialect.name))
    else:
        query = query.order_by(trials.c.number)
    paged = numbers is None and not by_metric
    rows: Iterable[Row[Any]] = (
        connection.execute(_page(query, limit, offset)) if paged else rows_of(connection, query, numbers)
    )
    found = _trials(rows)
    if not found:
        require(connection, sweep)
    if paged:
        return found
    ordered = sort_trials(found, sort) if sort else found
    return ordered[offset : None if limit is None else offset + limit]


def rows_of(connection: Connection, query: sa.Select[Any], numbers: Sequence[int] | None) -> list[Row[Any]]:
    """The rows of the trials with these numbers (None: all), however many."""
    if numbers is None:
        return list(connection.execute(query))
    if len(numbers) > _CHUNK:
        wanted = set(numbers)
        between = query.where(trials.c.number.between(min(wanted), max(wanted)))
        return [row for row in connection.execute(between) if row.number in wanted]
    return list(connection.execute(query.where(trials.c.number.in_(numbers))))


def trial_record(connection: Connection, sweep: str, number: int) -> TrialRecord:
    """One trial."""
    found = trial_records(connection, sweep, numbers=[number])
    if not found:
        requested = connection.execute(sa.select(sweeps.c.requested).where(sweeps.c.sweep == sweep)).scalar_one()
        raise no_such_trial(sweep, number, requested)
    return found[0]


def best_trials(connection: Connection, sweep: str, k: int, direction: Direction) -> list[TrialRecord]:
    """The k complete trials with the best finite values, ties by number; with none, of those that were stopped."""
    value = trials.c.value
    query = (
        sa.select(*TRIAL_COLUMNS)
        .where(trials.c.sweep == sweep)
        .where(value.between(-sys.float_info.max, sys.float_info.max))  # NaN is above every number in both databases
        .order_by(value.asc() if direction == "minimize" else value.desc(), trials.c.number)
        .limit(k)
    )
    for state in (TrialState.COMPLETE, TrialState.STOPPED):
        if rows := connection.execute(query.where(trials.c.state == state.value)).all():
            return _trials(rows)
    require(connection, sweep)
    return []


def untracked_trials(connection: Connection, sweep: str) -> list[TrialRecord]:
    """Terminal trials of which MLflow does not show that state yet."""
    query = (
        sa.select(*TRIAL_COLUMNS)
        .where(trials.c.sweep == sweep, trials.c.state.in_([state.value for state in TERMINAL]))
        .where(trials.c.tracked_state.is_distinct_from(trials.c.state))
        .order_by(trials.c.number)
    )
    rows = connection.execute(query).all()
    if not rows:
        require(connection, sweep)
    return _trials(rows)


def settled_trials(connection: Connection, sweep: str, first: int, limit: int | None, metrics: bool) -> Settled:
    """The complete and pruned trials from number ``first`` on."""
    mine, state = trials.c.sweep == sweep, trials.c.state
    settled = state.in_([TrialState.COMPLETE.value, TrialState.PRUNED.value])
    count = connection.execute(sa.select(sa.func.count()).select_from(trials).where(mine, settled)).scalar_one()
    open_from = _first_open(connection, sweep)
    measured = trials.c.metrics if metrics else sa.null().label("metrics")
    query = sa.select(trials.c.number, state, trials.c.value, trials.c.params, measured)
    query = query.where(mine, settled, trials.c.number >= first).order_by(trials.c.number).limit(limit)
    return Settled(count, open_from, _settled_columns(connection.execute(query), metrics))


def _settled_columns(found: sa.CursorResult[Any], metrics: bool) -> SettledTrials:
    """So few rows at once that the garbage collector does not begin to look at them: that takes as long again."""
    numbers: list[int] = []
    states: list[TrialState] = []
    values: list[float | None] = []
    measured: list[Mapping[str, float]] = []
    params: dict[str, list[Any]] = {}
    lists: dict[str, list[Any]] = {}  # by what is written of them: the same few come again and again
    for rows in found.partitions(_FEW):
        some, named, valued, given, measures = zip(*rows, strict=True)  # a row's attributes are slower
        points = [point or {} for point in _decoded(given)]
        for name in dict.fromkeys(name for point in points for name in point):
            params.setdefault(name, [None] * len(numbers))
        for name, column in params.items():
            given_of = (point.get(name) for point in points)
            column.extend(lists.setdefault(str(one), one) if isinstance(one, list) else one for one in given_of)
        numbers += some
        states += map(_STATES.__getitem__, named)
        values += valued
        if metrics:
            measured += [said or {} for said in _decoded(measures)]
    return SettledTrials(numbers, states, values, params, measured)


def _first_open(connection: Connection, sweep: str) -> int:
    """The smallest number of a trial that waits or runs, else the number of trials."""
    numbers: list[int] = []
    for state in (TrialState.WAITING, TrialState.RUNNING):  # one state at a time the index leads to the smallest
        query = sa.select(trials.c.number).where(trials.c.sweep == sweep, trials.c.state == state.value)
        numbers += connection.execute(query.order_by(trials.c.number).limit(1)).scalars().all()
    requested = connection.execute(sa.select(sweeps.c.requested).where(sweeps.c.sweep == sweep)).scalar()
    if requested is None:
        require(connection, sweep)
    return min([*numbers, requested or 0])


def curves_of(
    connection: Connection, sweep: str, metric: str, numbers: Sequence[int], epochs: Sequence[int]
) -> dict[int, list[tuple[int, float]]]:
    """One metric of some trials at some epochs."""
    query = sa.select(reports.c.number, reports.c.epoch, reports.c.metrics)
    query = query.where(reports.c.sweep == sweep, reports.c.epoch.in_(sorted(set(epochs))))
    found: dict[int, list[tuple[int, float]]] = {}
    for part in _by_epoch(query, None, numbers):
        for rows in connection.execute(part).partitions(_CHUNK):
            for row, metrics in zip(rows, _decoded([row.metrics for row in rows]), strict=True):
                if metric in metrics:
                    found.setdefault(row.number, []).append((row.epoch, metrics[metric]))
    if not found:
        require(connection, sweep)
    return found


def epoch_reports(
    connection: Connection, sweep: str, number: int | None, numbers: Sequence[int] | None
) -> dict[int, list[EpochReport]]:
    """Each trial's reports by epoch."""
    query = sa.select(reports.c.number, reports.c.epoch, reports.c.metrics).where(reports.c.sweep == sweep)
    found: dict[int, list[EpochReport]] = {}
    for part in _by_epoch(query, number, numbers):
        for rows in connection.execute(part).partitions(_CHUNK):
            for row, metrics in zip(rows, _decoded([row.metrics for row in rows]), strict=True):
                found.setdefault(row.number, []).append(EpochReport(row.epoch, metrics))
    if not found:
        require(connection, sweep)
    return found


def flow_reports(
    connection: Connection, sweep: str, number: int | None, numbers: Sequence[int] | None
) -> dict[int, list[FlowReport]]:
    """Each trial's gradient flow by epoch."""
    query = sa.select(reports.c.number, reports.c.epoch, reports.c.flow)
    query = query.where(reports.c.sweep == sweep, reports.c.flow.is_not(None))
    found: dict[int, list[FlowReport]] = {}
    for part in _by_epoch(query, number, numbers):
        for row in connection.execute(part):
            found.setdefault(row.number, []).append(unpack_flow(row.epoch, row.flow))
    if not found:
        require(connection, sweep)
    return found


def _by_epoch(query: sa.Select[Any], number: int | None, numbers: Sequence[int] | None) -> list[sa.Select[Any]]:
    """A query of reports in order, in as many parts as the trials that are asked for need."""
    query = query.order_by(reports.c.number, reports.c.epoch)
    wanted = numbers if number is None else [number]
    if wanted is None:
        return [query]
    wanted = sorted(set(wanted))
    return [query.where(reports.c.number.in_(wanted[at : at + _CHUNK])) for at in range(0, len(wanted), _CHUNK)]


def attempt_records(connection: Connection, sweep: str, number: int) -> list[AttemptRecord]:
    """Every assignment of a trial, in order."""
    c = attempts.c
    query = sa.select(c.attempt, c.worker, c.started_at, c.ended_at, c.outcome)
    query = query.where(c.sweep == sweep, c.number == number).order_by(c.attempt)
    found = [AttemptRecord(**row) for row in connection.execute(query).mappings()]
    if not found:
        require(connection, sweep)
    return found


def trial_rows(connection: Connection, sweep: str, numbers: Sequence[int]) -> dict[int, TrialRow]:
    """Trials for a commit to work on; parameters and metrics stay encoded."""
    query = sa.select(*TRIAL_COLUMNS).where(trials.c.sweep == sweep)
    return {row.number: _row(row) for row in rows_of(connection, query, numbers)}


def _order(sort: str, dialect: str) -> Iterator[sa.ColumnElement[Any]]:
    name, column = sort.removeprefix("-"), trials.c[sort.removeprefix("-")]
    missing: sa.ColumnElement[bool] = column.is_(None)
    if name == "value":
        is_nan = sa.func.typeof(column) == "text" if dialect == "sqlite" else column == sa.cast("NaN", sa.Double)
        missing = sa.or_(missing, is_nan)
    present = sa.case((missing, None), else_=column)
    yield missing
    yield present.desc() if sort.startswith("-") else present.asc()
    yield trials.c.number


def _page(query: sa.Select[Any], limit: int | None, offset: int) -> sa.Select[Any]:
    return query.limit(limit).offset(offset or None)


def _newest_first(connection: Connection, *where: sa.ColumnElement[bool]) -> list[tuple[str, str]]:
    named = sa.select(sweeps.c.sweep, sweeps.c.name).where(sweeps.c.parent.is_(None), *where)
    query = named.order_by(sweeps.c.created_at.desc(), sweeps.c.sweep.desc())
    return [(row.sweep, row.name) for row in connection.execute(query)]


def _sweep(row: Mapping[Any, Any], counts: Mapping[str, int]) -> SweepRecord:
    decoded: dict[str, Any] = {"state": SweepState(row["state"]), "spec": json.loads(row["spec"])}
    decoded |= {"summary": json.loads(row["summary"]), "tags": tuple(json.loads(row["tags"]))}
    return SweepRecord(**{**row, **decoded, "counts": counts})


def _trials(rows: Iterable[Row[Any]]) -> list[TrialRecord]:
    """The records of rows, some at a time: 10,000 rows are as large as their records."""
    found, left = [], iter(rows)
    while part := list(itertools.islice(left, _CHUNK)):
        params, metrics = _decoded([row.params for row in part]), _decoded([row.metrics for row in part])
        for row, given, measured in zip(part, params, metrics, strict=True):
            values = _fields(row)
            values["params"], values["metrics"] = given, measured or {}
            found.append(TrialRecord(**values))
    return found


def _decoded(column: Sequence[str | None]) -> list[Any]:
    """A column of JSON, decoded in one call: that is faster, and the names in it are shared."""
    return list(json.loads(f"[{','.join([text or 'null' for text in column])}]"))


def _row(row: Row[Any]) -> TrialRow:
    return TrialRow(**_fields(row))


def _fields(row: Row[Any]) -> dict[str, Any]:
    """The columns of a trial as the fields of its record; parameters and metrics stay encoded."""
    values = dict(zip(TrialRow.__slots__, row, strict=True))  # faster than SQLAlchemy's own mapping of a row
    cause, tracked, notes = values["cause"], values["tracked_state"], values["notes"]
    values["state"] = _STATES[values["state"]]
    values["reason"] = sys.intern(values["reason"])
    values["cause"] = None if cause is None else _CAUSES[cause]
    values["tracked_state"] = None if tracked is None else _STATES[tracked]
    values["notes"] = () if notes is None else tuple(json.loads(notes))
    attributes = values["attributes"]
    values["attributes"] = {} if attributes is None else json.loads(attributes)
    return values
