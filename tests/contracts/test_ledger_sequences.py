"""Random sequences of changes: SQLite and the twin agree after every commit, and the promise holds whatever comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.flow import pack_flow
from sweeper.ledger.memory import MemoryLedger
from sweeper.ledger.opening import open_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.records import (
    Change,
    Ended,
    EpochReport,
    Noted,
    Reopened,
    Reported,
    Requeued,
    Started,
    Suggested,
    SweepChanged,
    Tracked,
    TrialRecord,
)
from sweeper.states import Cause, SweepState, TrialState

TRIALS = 3
numbers = st.integers(0, TRIALS)
attempts = st.integers(0, 3)
floats = st.floats(width=64)
texts = st.sampled_from(["", "lost", "a\x00b", "🙂"])
params = st.dictionaries(st.sampled_from(["lr", "layers"]), st.sampled_from([0.1, 3, "adam", (1, 2), None]))
causes = st.none() | st.sampled_from(Cause)
moments = st.floats(0, 1e9)
flows = st.none() | st.sampled_from([pack_flow([[layer] * 7] * layer, 0.5) for layer in (1, 2)])
epoch_reports = st.builds(
    EpochReport, st.integers(0, 6), st.dictionaries(st.sampled_from(["loss", "acc"]), floats), flows
)

trial_changes = st.one_of(
    st.builds(Suggested, numbers, params, st.integers(0, 2**63 - 1)),
    st.builds(Started, numbers, attempts, texts, moments),
    st.builds(Reported, numbers, attempts, st.lists(epoch_reports, max_size=4).map(tuple), moments),
    st.builds(Requeued, numbers, attempts, texts, st.booleans(), st.integers(0, 6)),
    st.builds(Ended, numbers, attempts, st.sampled_from(TrialState), texts, st.none() | floats, moments, causes),
    st.builds(Reopened, numbers, texts),
    st.builds(Tracked, numbers, st.just("run"), st.none() | st.sampled_from(TrialState)),
    st.builds(Noted, numbers, texts),
)
# a trial's usual way, so that the interesting states are reached often
whole_trials = numbers.flatmap(
    lambda n: st.just(
        [
            Suggested(n, {"lr": 0.1}, 0),
            Started(n, 1, "w", 1.0),
            Reported(n, 1, (EpochReport(0, {"loss": 1.0}), EpochReport(1, {"loss": 0.5})), 1.0),
            Ended(n, 1, TrialState.COMPLETE, "", 0.5, 2.0),
        ]
    )
)
sweep_changes = st.builds(
    SweepChanged,
    state=st.none() | st.sampled_from(SweepState),
    reason=st.none() | texts,
    at=moments,
    requested=st.none() | st.integers(0, TRIALS + 2),
    priority=st.none() | st.integers(0, 5),
    summary=st.none() | st.dictionaries(st.just("best"), floats),
    seconds=st.none() | moments,
)
commits = st.lists(
    st.one_of(
        st.lists(trial_changes | sweep_changes, max_size=6),
        whole_trials,
        whole_trials.map(lambda changes: changes[:-1]),
    ),
    max_size=10,
)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = open_ledger(None, tmp_path_factory.mktemp("ledger"))
    yield ledger
    ledger.close()


def image(ledger: Ledger, sweep: str) -> Any:
    """Everything a ledger says about a sweep, comparable: ids and the ledger's own clock are left out, NaN is text."""
    record, trials = ledger.sweep(sweep), ledger.trials(sweep)
    histories = [
        [(a.attempt, a.worker, a.started_at, a.ended_at is None, a.outcome) for a in ledger.attempts(sweep, t.number)]
        for t in trials
    ]
    fields = {name: value for name, value in vars(record).items() if name not in ("sweep", "created_at")}
    queries = [
        ledger.best(sweep, 2),
        ledger.best(sweep, 2, "maximize"),
        ledger.untracked(sweep),
        ledger.trials(sweep, sort="value"),
        ledger.trials(sweep, sort="-epochs"),
    ]
    read = (ledger.reports(sweep), ledger.flow(sweep))
    return repr((fields, trials, histories, read, [[t.number for t in found] for found in queries]))


def check_step(before: Sequence[TrialRecord], after: Sequence[TrialRecord], reopened: set[int]) -> None:
    """What no commit may do, whatever is in it; written without the rules."""
    for old, new in zip(before, after, strict=False):
        assert new.attempt >= old.attempt
        assert old.params is None or new.params == old.params
        if old.state.terminal and old.number not in reopened:
            fixed = ("state", "reason", "cause", "params", "seed", "attempt", "lost", "epochs", "seconds", "ended_at")
            assert [getattr(new, name) for name in fixed] == [getattr(old, name) for name in fixed]
            assert repr((new.value, new.metrics)) == repr((old.value, old.metrics))


def check_sweep(ledger: Ledger, sweep: str) -> None:
    """What holds after every commit."""
    record, trials, reports = ledger.sweep(sweep), ledger.trials(sweep), ledger.reports(sweep)
    assert [trial.number for trial in trials] == list(range(record.requested))
    assert sum(record.counts.values()) == record.requested
    if record.state is SweepState.COMPLETE:
        assert all(trial.state.terminal for trial in trials)
    for trial in trials:
        kept = reports.get(trial.number, [])
        assert [report.epoch for report in kept] == sorted({report.epoch for report in kept})
        assert trial.epochs > kept[-1].epoch if kept else not trial.metrics
        if kept:
            assert repr(trial.metrics) == repr(kept[-1].metrics)
        history = ledger.attempts(sweep, trial.number)
        assert [a.attempt for a in history] == sorted({a.attempt for a in history})
        assert [a.ended_at is None for a in history].count(True) == (trial.state is TrialState.RUNNING)
        if trial.state is TrialState.RUNNING:
            assert trial.attempt == history[-1].attempt
            assert trial.params is not None
        assert (trial.ended_at is not None) == trial.state.terminal
        if trial.tracked_state is not None and trial.tracked_state.terminal:
            assert trial.state.terminal


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(commits)
def test_sqlite_and_the_twin_agree_and_keep_the_promise(sqlite: Ledger, batches: list[list[Change]]) -> None:
    twin = MemoryLedger()
    ledgers = (sqlite, twin)
    ids = [ledger.create_sweep("random", {}, TRIALS).sweep for ledger in ledgers]
    for batch in batches:
        before = twin.trials(ids[1])
        refused = [ledger.commit(sweep, batch) for ledger, sweep in zip(ledgers, ids, strict=True)]
        assert repr(refused[0]) == repr(refused[1])
        assert image(sqlite, ids[0]) == image(twin, ids[1])
        check_step(before, twin.trials(ids[1]), {change.number for change in batch if isinstance(change, Reopened)})
        check_sweep(twin, ids[1])
    sqlite.delete_sweep(ids[0])
