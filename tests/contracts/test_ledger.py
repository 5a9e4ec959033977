"""The contract of a ledger, kept by the in-memory twin, by SQLite and by PostgreSQL."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.errors import SpecError, SweepNotFound, TakenOver
from sweeper.flow import pack_flow
from sweeper.ledger.memory import MemoryLedger
from sweeper.ledger.opening import open_ledger
from sweeper.ledger.protocol import Lease, Ledger
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
)
from sweeper.states import Cause, SweepState, TrialState
from tests.postgres import PostgresServer

PARAMS = {"learning_rate": 0.001, "optimizer": "adam", "hidden_layers": [128, 128], "momentum": None}
SPEC = {"name": "digits", "search": {"trials": 4}}
COMPLETE, FAILED, STOPPED = TrialState.COMPLETE, TrialState.FAILED, TrialState.STOPPED


@pytest.fixture(scope="session")
def postgres_ledger(postgres: PostgresServer) -> Iterator[Ledger]:
    ledger = open_ledger(postgres.create("contract"), Path("unused"))
    yield ledger
    ledger.close()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
    elif request.param == "sqlite":
        ledger = open_ledger(None, tmp_path)
        yield ledger
        ledger.close()
    else:
        ledger = request.getfixturevalue("postgres_ledger")
        for sweep in ledger.sweeps():
            ledger.delete_sweep(sweep.sweep)
        yield ledger


@pytest.fixture
def sweep(ledger: Ledger) -> str:
    return ledger.create_sweep("digits", SPEC, 4).sweep


def epochs(*losses: float, first: int = 0) -> tuple[EpochReport, ...]:
    return tuple(EpochReport(first + i, {"val_loss": loss, "learning_rate": 0.1}) for i, loss in enumerate(losses))


def run(number: int, attempt: int = 1, suggest: bool = True) -> list[Change]:
    """A trial on its way: suggested and started."""
    started = Started(number, attempt, f"worker-{number}", at=100.0 + attempt)
    return [Suggested(number, PARAMS, seed=7), started] if suggest else [started]


def finish(number: int, value: float | None, state: TrialState = COMPLETE) -> list[Change]:
    """A whole trial of two epochs."""
    reported = Reported(number, 1, epochs(1.0, 0.5), seconds=2.0)
    return [*run(number), reported, Ended(number, 1, state, "done", value, at=200.0)]


class TestSweeps:
    def test_a_new_sweep_is_queued_and_has_all_its_trials_waiting(self, ledger: Ledger) -> None:
        record = ledger.create_sweep("digits", SPEC, 4, owner="ada", priority=3)
        assert (record.name, record.state, record.requested) == ("digits", SweepState.QUEUED, 4)
        assert (record.owner, record.priority, record.spec) == ("ada", 3, SPEC)
        assert record.counts == {"waiting": 4, "running": 0, "complete": 0, "pruned": 0, "failed": 0, "stopped": 0}
        trials = ledger.trials(record.sweep)
        assert [trial.number for trial in trials] == [0, 1, 2, 3]
        assert all(trial.state is TrialState.WAITING and trial.params is None for trial in trials)
        assert ledger.sweep(record.sweep) == record

    def test_ids_are_short_start_with_a_letter_and_stay_unique_within_one_second(self, ledger: Ledger) -> None:
        ids = {ledger.create_sweep("digits", SPEC, 1).sweep for _ in range(120)}
        assert len(ids) == 120
        assert all(len(i) == 8 and i[0].isalpha() and i.isalnum() and i == i.lower() for i in ids)

    def test_the_same_key_gives_the_same_sweep_and_another_owner_another(self, ledger: Ledger) -> None:
        first = ledger.create_sweep("digits", SPEC, 4, owner="ada", key="k")
        again = ledger.create_sweep("other", {}, 9, owner="ada", key="k")
        assert again == first
        assert ledger.create_sweep("digits", SPEC, 4, owner="bob", key="k").sweep != first.sweep
        assert ledger.create_sweep("digits", SPEC, 4).sweep != ledger.create_sweep("digits", SPEC, 4).sweep

    def test_a_sweep_is_found_by_id_newest_name_and_unique_beginning(self, ledger: Ledger) -> None:
        ledger.create_sweep("digits", SPEC, 1)
        newest = ledger.create_sweep("digits", SPEC, 2).sweep
        other = ledger.create_sweep("wine", SPEC, 3).sweep
        assert ledger.sweep("digits").sweep == newest
        assert ledger.sweep(other).sweep == other
        ledger.delete_sweep(ledger.sweeps(name="digits")[1].sweep)
        ledger.delete_sweep(newest)
        assert ledger.sweep(other[:5]).sweep == other

    def test_a_child_is_found_by_its_id_only_and_goes_with_its_parent(self, ledger: Ledger) -> None:
        parent = ledger.create_sweep("digits", SPEC, 1).sweep
        child = ledger.create_sweep("finals", SPEC, 2, parent=parent, key="finals").sweep
        assert ledger.create_sweep("finals", SPEC, 2, parent=parent, key="finals").sweep == child
        assert ledger.sweep(child).parent == parent
        assert ledger.sweep(parent).parent is None
        assert [record.sweep for record in ledger.sweeps()] == [parent]
        assert [record.sweep for record in ledger.finals(parent=parent)] == [child]
        assert [record.sweep for record in ledger.finals(state=SweepState.QUEUED)] == [child]
        assert ledger.finals(parent=child) == ledger.finals(state=SweepState.PAUSED) == []
        with pytest.raises(SweepNotFound):
            ledger.sweep("finals")
        ledger.commit(child, run(0))
        ledger.delete_sweep(parent)
        with pytest.raises(SweepNotFound):
            ledger.sweep(child)

    def test_a_short_or_ambiguous_beginning_finds_nothing(self, ledger: Ledger) -> None:
        first = ledger.create_sweep("digits", SPEC, 1).sweep
        with pytest.raises(SweepNotFound):
            ledger.sweep(first[:3])
        ledger.create_sweep("digits", SPEC, 1)
        with pytest.raises(SweepNotFound, match="2 sweeps start with"):
            ledger.sweep(first[:4])

    def test_an_unknown_sweep_names_the_nearest(self, ledger: Ledger) -> None:
        with pytest.raises(SweepNotFound, match="no sweeps yet"):
            ledger.sweep("digits")
        ledger.create_sweep("digits", SPEC, 1)
        with pytest.raises(SweepNotFound, match="Did you mean 'digits'"):
            ledger.sweep("digit")

    def test_sweeps_are_listed_newest_first_filtered_and_paged(self, ledger: Ledger) -> None:
        ids = [ledger.create_sweep(f"s{i % 2}", SPEC, 1, owner="ada" if i < 3 else "bob").sweep for i in range(5)]
        ledger.commit(ids[0], [SweepChanged(state=SweepState.RUNNING, at=1.0)])
        assert [s.sweep for s in ledger.sweeps(owner="ada")] == ids[2::-1]
        assert [s.sweep for s in ledger.sweeps(name="s1")] == [ids[3], ids[1]]
        assert [s.sweep for s in ledger.sweeps(state=SweepState.RUNNING)] == [ids[0]]
        assert [s.sweep for s in ledger.sweeps(limit=2, offset=1)] == [ids[3], ids[2]]
        assert [s.sweep for s in ledger.sweeps(offset=3)] == [ids[1], ids[0]]

    def test_a_deleted_sweep_is_gone_with_all_that_belongs_to_it(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, finish(0, 0.5))
        ledger.acquire_lease(sweep, "me", 60)
        ledger.request(sweep, "stop")
        ledger.delete_sweep(sweep)
        for ask in (ledger.sweep, ledger.trials, ledger.reports, ledger.lease, ledger.take_requests):
            with pytest.raises(SweepNotFound):
                ask(sweep)

    def test_every_method_says_that_a_sweep_is_not_there(self, ledger: Ledger) -> None:
        calls: list[Callable[[], object]] = [
            lambda: ledger.sweep("gone"),
            lambda: ledger.trials("gone"),
            lambda: ledger.trials("gone", numbers=[1]),
            lambda: ledger.trial("gone", 0),
            lambda: ledger.best("gone"),
            lambda: ledger.untracked("gone"),
            lambda: ledger.settled("gone"),
            lambda: ledger.curves("gone", "val_loss", [0], [0]),
            lambda: ledger.reports("gone"),
            lambda: ledger.flow("gone"),
            lambda: ledger.attempts("gone", 0),
            lambda: ledger.commit("gone", [Noted(0, "x")]),
            lambda: ledger.extend("gone", 2),
            lambda: ledger.delete_sweep("gone"),
            lambda: ledger.acquire_lease("gone", "me", 1),
            lambda: ledger.release_lease("gone", "me"),
            lambda: ledger.lease("gone"),
            lambda: ledger.request("gone", "stop"),
            lambda: ledger.take_requests("gone"),
        ]
        for call in calls:
            with pytest.raises(SweepNotFound):
                call()


class TestTrials:
    def test_a_trial_is_recorded_from_suggestion_to_end_in_one_commit(self, ledger: Ledger, sweep: str) -> None:
        assert ledger.commit(sweep, finish(1, 0.5)) == []
        trial = ledger.trial(sweep, 1)
        assert (trial.state, trial.reason, trial.value, trial.attempt, trial.lost) == (COMPLETE, "done", 0.5, 1, 0)
        assert (trial.params, trial.seed, trial.epochs, trial.seconds) == (PARAMS, 7, 2, 2.0)
        assert trial.metrics == {"val_loss": 0.5, "learning_rate": 0.1}
        assert (trial.started_at, trial.ended_at) == (101.0, 200.0)
        assert ledger.reports(sweep) == {1: list(epochs(1.0, 0.5))}
        (attempt,) = ledger.attempts(sweep, 1)
        assert (attempt.attempt, attempt.worker, attempt.started_at) == (1, "worker-1", 101.0)
        assert (attempt.ended_at, attempt.outcome) == (200.0, "complete: done")
        assert ledger.sweep(sweep).counts["complete"] == 1

    def test_tuples_in_parameters_come_back_as_lists(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [Suggested(0, {"hidden_layers": (64, 32), "optimizer": "sgd"}, seed=0)])
        assert ledger.trial(sweep, 0).params == {"hidden_layers": [64, 32], "optimizer": "sgd"}

    def test_an_epoch_reported_twice_is_kept_once_and_its_time_counts_once(self, ledger: Ledger, sweep: str) -> None:
        reported = Reported(0, 1, epochs(1.0, 0.9), seconds=3.0)
        ledger.commit(sweep, [*run(0), reported, reported])
        assert ledger.commit(sweep, [reported]) == []
        assert ledger.commit(sweep, [Reported(0, 1, epochs(9.0, 0.8, first=1), seconds=1.0)]) == []
        assert [report.metrics["val_loss"] for report in ledger.reports(sweep)[0]] == [1.0, 0.9, 0.8]
        trial = ledger.trial(sweep, 0)
        assert (trial.epochs, trial.seconds, trial.metrics["val_loss"]) == (3, 4.0, 0.8)

    def test_a_trial_stands_with_metrics_of_its_own_and_its_epochs_keep_theirs(
        self, ledger: Ledger, sweep: str
    ) -> None:
        whole = {"val_loss": 0.4, "best_epoch": 2.0, "undefined": math.nan}
        reported = Reported(0, 1, epochs(0.9, 0.4, 0.7), metrics=whole)
        ledger.commit(sweep, [*run(0), reported, Ended(0, 1, COMPLETE, "trained", 0.4, at=1.0)])
        metrics = dict(ledger.trial(sweep, 0).metrics)
        assert math.isnan(metrics.pop("undefined"))
        assert metrics == {"val_loss": 0.4, "best_epoch": 2.0}
        assert [report.metrics["val_loss"] for report in ledger.reports(sweep)[0]] == [0.9, 0.4, 0.7]

    def test_non_finite_numbers_come_back_as_they_were(self, ledger: Ledger, sweep: str) -> None:
        odd = (math.nan, math.inf, -math.inf)
        for number, value in enumerate(odd):
            report = Reported(number, 1, (EpochReport(0, {"loss": value}),))
            ledger.commit(sweep, [*run(number), report, Ended(number, 1, COMPLETE, "", value, at=1.0)])
        trials, reports = ledger.trials(sweep), ledger.reports(sweep)
        for number, value in enumerate(odd):
            assert repr(trials[number].value) == repr(value)
            assert repr(trials[number].metrics["loss"]) == repr(value)
            assert repr(reports[number][0].metrics["loss"]) == repr(value)

    def test_a_lost_trial_waits_again_without_the_reports_it_cannot_continue(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [*run(0), Reported(0, 1, epochs(1.0, 0.9, 0.8), seconds=3.0)])
        assert ledger.commit(sweep, [Requeued(0, 1, "worker died", lost=True, keep_epochs=2)]) == []
        trial = ledger.trial(sweep, 0)
        assert (trial.state, trial.reason, trial.lost, trial.epochs) == (TrialState.WAITING, "worker died", 1, 2)
        assert trial.metrics["val_loss"] == 0.9
        assert trial.params == PARAMS
        assert [report.epoch for report in ledger.reports(sweep, 0)[0]] == [0, 1]
        assert ledger.attempts(sweep, 0)[0].outcome == "lost: worker died"
        ledger.commit(sweep, [*run(0, attempt=2, suggest=False), Reported(0, 2, epochs(0.7, first=2))])
        assert [report.metrics["val_loss"] for report in ledger.reports(sweep)[0]] == [1.0, 0.9, 0.7]
        ledger.commit(sweep, [Requeued(0, 2, "drained", lost=False)])
        trial = ledger.trial(sweep, 0)
        assert (trial.lost, trial.epochs, trial.metrics, ledger.reports(sweep)) == (1, 0, {}, {})
        assert [attempt.attempt for attempt in ledger.attempts(sweep, 0)] == [1, 2]

    def test_reports_and_cuts_in_one_commit_take_effect_in_order(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [*run(0), Reported(0, 1, epochs(1.0, 0.9))])
        changes = [
            Reported(0, 1, epochs(0.8, 0.7, first=2)),
            Requeued(0, 1, "moved", lost=False, keep_epochs=3),
            *run(0, attempt=2, suggest=False),
            Reported(0, 2, epochs(0.6, first=3)),
            Requeued(0, 2, "moved", lost=False, keep_epochs=1),
        ]
        assert ledger.commit(sweep, changes) == []
        assert ledger.reports(sweep)[0] == list(epochs(1.0))
        trial = ledger.trial(sweep, 0)
        assert (trial.epochs, trial.metrics["val_loss"], trial.attempt) == (1, 1.0, 2)

    @pytest.mark.parametrize("state", [FAILED, STOPPED])
    def test_a_user_can_reopen_a_failed_or_stopped_trial(self, ledger: Ledger, sweep: str, state: TrialState) -> None:
        ledger.commit(sweep, [*run(0), Requeued(0, 1, "lost", lost=True), *run(0, attempt=2, suggest=False)])
        ledger.commit(sweep, [Reported(0, 2, epochs(1.0)), Ended(0, 2, state, "no luck", 3.0, 5.0, Cause.LOST)])
        assert ledger.trial(sweep, 0).cause is Cause.LOST
        ledger.commit(sweep, [Tracked(0, "run-0", state)])
        assert ledger.commit(sweep, [Reopened(0, "retried")]) == []
        trial = ledger.trial(sweep, 0)
        assert (trial.state, trial.reason, trial.value, trial.ended_at) == (TrialState.WAITING, "retried", None, None)
        assert (trial.lost, trial.epochs, trial.metrics, ledger.reports(sweep)) == (0, 0, {}, {})
        assert (trial.params, trial.attempt, trial.mlflow_run_id) == (PARAMS, 2, "run-0")
        assert (trial.tracked_state, trial.cause) == (None, None)
        assert ledger.commit(sweep, [Started(0, 2, "w", at=6.0)]) == [Started(0, 2, "w", at=6.0)]
        assert ledger.commit(sweep, [Started(0, 3, "w", at=6.0)]) == []

    def test_a_waiting_trial_can_be_stopped_before_it_was_ever_asked(self, ledger: Ledger, sweep: str) -> None:
        assert ledger.commit(sweep, [Ended(3, 0, STOPPED, "stopped by the user", None, at=1.0)]) == []
        trial = ledger.trial(sweep, 3)
        assert (trial.state, trial.params, trial.value, trial.attempt) == (STOPPED, None, None, 0)
        assert ledger.attempts(sweep, 3) == []

    def test_notes_are_kept_in_order_even_on_an_ended_trial(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [Noted(0, "one"), *finish(0, 0.5), Noted(0, "two")])
        assert ledger.trial(sweep, 0).notes == ("one", "two")

    def test_text_that_no_database_holds_is_cleaned_and_everything_else_survives(
        self, ledger: Ledger, sweep: str
    ) -> None:
        ledger.commit(sweep, [*run(0), Noted(0, "a\x00b \ud800 ü 🙂 \n\x1b[31m"), Requeued(0, 1, "x\x00", lost=False)])
        trial = ledger.trial(sweep, 0)
        assert (trial.notes, trial.reason) == (("ab ? ü 🙂 \n\x1b[31m",), "x")
        named = ledger.create_sweep("näme \x00🙂", {"column": "\x00\ud800'; DROP TABLE trials; --"}, 1)
        assert named.name == "näme 🙂"
        assert ledger.sweep(named.sweep).spec == {"column": "\x00\ud800'; DROP TABLE trials; --"}

    def test_an_unknown_trial_is_an_error_that_names_the_valid_ones(self, ledger: Ledger, sweep: str) -> None:
        with pytest.raises(SpecError, match=r"no trial 4.*0 to 3"):
            ledger.trial(sweep, 4)


def measured(*first_layer_norms: float, first: int = 0) -> tuple[EpochReport, ...]:
    """Reports with the gradient flow of a network of two layers."""
    rows = [[[norm, 1.0, 0.01, 0.5, 0.25, math.nan, 0.125], [2.0] * 5 + [math.nan] * 2] for norm in first_layer_norms]
    return tuple(
        replace(report, flow=pack_flow(layers, 0.75))
        for report, layers in zip(epochs(*first_layer_norms, first=first), rows, strict=True)
    )


class TestFlow:
    def test_flow_is_kept_with_the_epochs_reported_and_read_apart_from_them(self, ledger: Ledger, sweep: str) -> None:
        reports = (*measured(0.5, 0.25), *epochs(0.1, first=2))
        ledger.commit(sweep, [*run(0), Reported(0, 1, reports), *run(1), Reported(1, 1, epochs(1.0))])
        flows = ledger.flow(sweep)
        assert [(flow.epoch, flow.clip_rate) for flow in flows[0]] == [(0, 0.75), (1, 0.75)]
        assert set(flows) == {0}
        hidden = {"grad_norm": 0.25, "weight_norm": 1.0, "update_ratio": pytest.approx(0.01)}
        outputs = {"activation_mean": 2.0, "activation_std": 2.0}
        assert flows[0][1].layers == (
            hidden | {"activation_mean": 0.5, "activation_std": 0.25, "dead": 0.125},
            {"grad_norm": 2.0, "weight_norm": 2.0, "update_ratio": 2.0} | outputs,
        )
        assert ledger.reports(sweep)[0] == list(epochs(0.5, 0.25, 0.1))

    def test_flow_is_asked_of_one_trial_and_of_some(self, ledger: Ledger, sweep: str) -> None:
        for number in range(3):
            ledger.commit(sweep, [*run(number), Reported(number, 1, measured(number))])
        assert set(ledger.flow(sweep, 1)) == {1}
        assert set(ledger.flow(sweep, numbers=[2, 0, 3])) == {0, 2}
        assert ledger.flow(sweep, 3) == ledger.flow(sweep, numbers=[]) == {}

    def test_flow_goes_with_the_reports_that_are_dropped(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [*run(0), Reported(0, 1, measured(1.0, 0.9, 0.8))])
        ledger.commit(sweep, [Requeued(0, 1, "worker died", lost=True, keep_epochs=2)])
        assert [flow.epoch for flow in ledger.flow(sweep)[0]] == [0, 1]
        ledger.commit(sweep, [*run(0, attempt=2, suggest=False), Reported(0, 2, measured(0.25, first=2))])
        assert [flow.layers[0]["grad_norm"] for flow in ledger.flow(sweep, 0)[0]] == pytest.approx([1.0, 0.9, 0.25])
        ledger.commit(sweep, [Ended(0, 2, FAILED, "diverged", None, at=5.0), Reopened(0, "retried")])
        assert ledger.flow(sweep) == {}

    def test_numbers_that_float32_does_not_hold_come_back_infinite_or_zero(self, ledger: Ledger, sweep: str) -> None:
        odd = pack_flow([[1e300, -1e300, math.inf, 1e-300, 0.0, math.nan, math.nan]], 0.0)
        ledger.commit(sweep, [*run(0), Reported(0, 1, (EpochReport(0, {"val_loss": 1.0}, odd),))])
        (layer,) = ledger.flow(sweep)[0][0].layers
        assert list(layer.values()) == [math.inf, -math.inf, math.inf, 0.0, 0.0]


STALE_OR_ILLEGAL: dict[str, tuple[list[Change], Change]] = {
    "a trial beyond the sweep": ([], Suggested(4, PARAMS, 0)),
    "a negative number": ([], Noted(-1, "x")),
    "parameters given twice": ([Suggested(0, PARAMS, 0)], Suggested(0, PARAMS, 0)),
    "a start without parameters": ([], Started(0, 1, "w", 1.0)),
    "a start of a running trial": (run(0), Started(0, 2, "w", 1.0)),
    "a start under an old attempt": ([*run(0), Requeued(0, 1, "", lost=True)], Started(0, 1, "w", 1.0)),
    "a report of a waiting trial": ([Suggested(0, PARAMS, 0)], Reported(0, 0, epochs(1.0))),
    "a report of a lost attempt": ([*run(0), Requeued(0, 1, "", lost=True)], Reported(0, 1, epochs(1.0))),
    "a report of the attempt before": (
        [*run(0), Requeued(0, 1, "", lost=True), *run(0, 2, suggest=False)],
        Reported(0, 1, epochs(1.0)),
    ),
    "a report of an attempt to come": (run(0), Reported(0, 2, epochs(1.0))),
    "a report of an ended trial": (finish(0, 1.0), Reported(0, 1, epochs(1.0, first=2))),
    "an end of an ended trial": (finish(0, 1.0), Ended(0, 1, FAILED, "late", None, 9.0)),
    "the same end again": (finish(0, 1.0), Ended(0, 1, COMPLETE, "done", 1.0, 200.0)),
    "an end by an earlier attempt": (
        [*run(0), Requeued(0, 1, "", lost=True), *run(0, 2, suggest=False)],
        Ended(0, 1, COMPLETE, "", 1.0, 9.0),
    ),
    "a success of a waiting trial": ([Suggested(0, PARAMS, 0)], Ended(0, 0, COMPLETE, "", 1.0, 9.0)),
    "an end that is none": (run(0), Ended(0, 1, TrialState.WAITING, "", None, 9.0)),
    "a loss of a waiting trial": ([Suggested(0, PARAMS, 0)], Requeued(0, 0, "", lost=True)),
    "a loss of an ended trial": (finish(0, 1.0), Requeued(0, 1, "", lost=True)),
    "a reopening of a complete trial": (finish(0, 1.0), Reopened(0, "")),
    "a reopening of a pruned trial": (finish(0, 1.0, TrialState.PRUNED), Reopened(0, "")),
    "a reopening of a running trial": (run(0), Reopened(0, "")),
    "a sweep that completes before it ran": ([], SweepChanged(state=SweepState.COMPLETE, at=1.0)),
    "no trials at all": ([], SweepChanged(requested=0)),
}


class TestRefusals:
    @pytest.mark.parametrize("case", STALE_OR_ILLEGAL)
    def test_a_refused_change_is_returned_and_leaves_no_trace(self, ledger: Ledger, sweep: str, case: str) -> None:
        before, refused = STALE_OR_ILLEGAL[case]
        assert ledger.commit(sweep, before) == []
        snapshot = (ledger.sweep(sweep), ledger.trials(sweep), ledger.reports(sweep), ledger.attempts(sweep, 0))
        assert ledger.commit(sweep, [refused]) == [refused]
        assert (ledger.sweep(sweep), ledger.trials(sweep), ledger.reports(sweep), ledger.attempts(sweep, 0)) == snapshot

    def test_the_other_changes_of_the_commit_are_written(self, ledger: Ledger, sweep: str) -> None:
        late = Reported(0, 1, epochs(0.1))
        assert ledger.commit(sweep, [late, *finish(0, 1.0), late, *finish(2, 2.0)]) == [late, late]
        assert [trial.state for trial in ledger.trials(sweep, numbers=[0, 2])] == [COMPLETE, COMPLETE]

    def test_a_commit_that_fails_in_the_middle_writes_nothing(self, ledger: Ledger, sweep: str) -> None:
        with pytest.raises(TypeError):
            ledger.commit(sweep, [*finish(0, 1.0), Suggested(1, {"f": object()}, 0)])
        assert ledger.sweep(sweep).counts["waiting"] == 4
        assert ledger.reports(sweep) == {}

    def test_a_commit_of_nothing_is_nothing(self, ledger: Ledger, sweep: str) -> None:
        assert ledger.commit(sweep, []) == []


class TestSweepChanges:
    def test_fields_that_are_none_stay_and_times_follow_the_state(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [SweepChanged(state=SweepState.RUNNING, at=10.0, mlflow_run_id="p", priority=2)])
        ledger.commit(
            sweep,
            [SweepChanged(summary={"best": 3, "loss": math.inf}, mlflow_experiment_id="7", arithmetic="native-1")],
        )
        ledger.commit(sweep, [SweepChanged(state=SweepState.STOPPED, reason="ctrl-c", at=20.0, seconds=10.0)])
        record = ledger.sweep(sweep)
        assert (record.state, record.reason, record.started_at, record.ended_at) == (
            SweepState.STOPPED,
            "ctrl-c",
            10.0,
            20.0,
        )
        assert (record.mlflow_run_id, record.mlflow_experiment_id, record.priority) == ("p", "7", 2)
        assert (record.summary, record.seconds) == ({"best": 3, "loss": math.inf}, 10.0)
        assert record.arithmetic == "native-1"
        assert (record.note, record.tags, record.archived) == ("", (), False)
        ledger.commit(sweep, [SweepChanged(note="first\x00 try", tags=("a", "b c"), archived=True)])
        ledger.commit(sweep, [SweepChanged(seconds=10.0)])
        record = ledger.sweep(sweep)
        assert (record.note, record.tags, record.archived) == ("first try", ("a", "b c"), True)
        ledger.commit(sweep, [SweepChanged(note="", tags=(), archived=False)])
        record = ledger.sweep(sweep)
        assert (record.note, record.tags, record.archived) == ("", (), False)
        ledger.commit(sweep, [SweepChanged(state=SweepState.RUNNING, reason="", at=30.0)])
        record = ledger.sweep(sweep)
        assert (record.state, record.reason, record.started_at, record.ended_at) == (SweepState.RUNNING, "", 10.0, None)

    def test_a_sweep_is_complete_only_when_every_trial_is_terminal(self, ledger: Ledger, sweep: str) -> None:
        done = SweepChanged(state=SweepState.COMPLETE, at=9.0)
        ledger.commit(sweep, [SweepChanged(state=SweepState.RUNNING, at=1.0), *finish(0, 1.0), *finish(1, 1.0)])
        assert ledger.commit(sweep, [*finish(2, 1.0), done]) == [done]
        assert ledger.commit(sweep, [done, *finish(3, None, FAILED)]) == [done]
        assert ledger.sweep(sweep).state is SweepState.RUNNING
        assert ledger.commit(sweep, [done]) == []
        assert ledger.sweep(sweep).state is SweepState.COMPLETE

    def test_the_last_trial_and_the_end_of_the_sweep_fit_in_one_commit(self, ledger: Ledger, sweep: str) -> None:
        changes = [change for number in range(4) for change in finish(number, 1.0)]
        ending = [SweepChanged(state=SweepState.RUNNING, at=1.0), *changes]
        assert ledger.commit(sweep, [*ending, SweepChanged(state=SweepState.COMPLETE, at=9.0)]) == []

    def test_a_complete_sweep_runs_again_before_a_trial_is_reopened(self, ledger: Ledger, sweep: str) -> None:
        changes = [change for number in range(4) for change in finish(number, None, FAILED)]
        ledger.commit(sweep, [SweepChanged(state=SweepState.RUNNING), *changes])
        ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE)])
        again = [SweepChanged(state=SweepState.RUNNING, at=5.0), Reopened(2, "retry")]
        assert ledger.commit(sweep, again[1:]) == again[1:]
        assert ledger.commit(sweep, again) == []
        assert ledger.sweep(sweep).counts["waiting"] == 1

    def test_a_larger_budget_adds_waiting_trials(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, finish(0, 1.0))
        record = ledger.extend(sweep, 7)
        assert (record.requested, record.counts["waiting"], record.counts["complete"]) == (7, 6, 1)
        assert [trial.number for trial in ledger.trials(sweep)] == list(range(7))
        assert ledger.commit(sweep, [SweepChanged(requested=9), *finish(8, 2.0)]) == []
        assert ledger.trial(sweep, 8).value == 2.0

    def test_a_smaller_budget_drops_only_trials_that_never_started(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [*run(1), Suggested(3, PARAMS, 0), Noted(3, "x")])
        with pytest.raises(SpecError, match="cannot be changed to 1"):
            ledger.extend(sweep, 1)
        assert ledger.extend(sweep, 2).counts == {**dict.fromkeys(TrialState, 0), "running": 1, "waiting": 1}
        assert ledger.commit(sweep, [Noted(3, "late")]) == [Noted(3, "late")]
        assert ledger.extend(sweep, 4).counts["waiting"] == 3
        assert (ledger.trial(sweep, 3).params, ledger.trial(sweep, 3).notes) == (None, ())

    def test_a_start_in_the_same_commit_keeps_its_trial_in_the_budget(self, ledger: Ledger, sweep: str) -> None:
        smaller = SweepChanged(requested=2)
        assert ledger.commit(sweep, [*run(3), smaller]) == [smaller]
        assert ledger.sweep(sweep).requested == 4

    def test_a_complete_sweep_keeps_its_budget(self, ledger: Ledger) -> None:
        sweep = ledger.create_sweep("one", SPEC, 1).sweep
        changes = [SweepChanged(state=SweepState.RUNNING), *finish(0, 1.0), SweepChanged(state=SweepState.COMPLETE)]
        assert ledger.commit(sweep, changes) == []
        with pytest.raises(SpecError, match="complete"):
            ledger.extend(sweep, 2)
        assert ledger.commit(sweep, [SweepChanged(state=SweepState.RUNNING, requested=2)]) == []
        assert ledger.sweep(sweep).counts["waiting"] == 1


class TestReading:
    @pytest.fixture
    def mixed(self, ledger: Ledger) -> str:
        """Values 3, NaN, 1, none, 1, inf; trial 3 has no metrics, trial 6 waits."""
        sweep = ledger.create_sweep("mixed", SPEC, 7).sweep
        for number, value in enumerate((3.0, math.nan, 1.0, None, 1.0, math.inf)):
            losses = () if number == 3 else (0.0, math.nan if number == 1 else 10.0 - number)
            reported = Reported(number, 1, epochs(*losses))
            ledger.commit(sweep, [*run(number), reported, Ended(number, 1, COMPLETE, "", value, at=1.0)])
        return sweep

    @pytest.mark.parametrize(
        ("sort", "numbers"),
        [
            (None, [0, 1, 2, 3, 4, 5, 6]),
            ("-number", [6, 5, 4, 3, 2, 1, 0]),
            ("value", [2, 4, 0, 5, 1, 3, 6]),
            ("-value", [5, 0, 2, 4, 1, 3, 6]),
            ("val_loss", [5, 4, 2, 0, 1, 3, 6]),
            ("-val_loss", [0, 2, 4, 5, 1, 3, 6]),
            ("state", [0, 1, 2, 3, 4, 5, 6]),
            ("-epochs", [0, 1, 2, 4, 5, 3, 6]),
        ],
    )
    def test_trials_are_sorted_with_missing_values_last_and_paged(
        self, ledger: Ledger, mixed: str, sort: str | None, numbers: list[int]
    ) -> None:
        assert [trial.number for trial in ledger.trials(mixed, sort=sort)] == numbers
        assert [trial.number for trial in ledger.trials(mixed, sort=sort, limit=3, offset=2)] == numbers[2:5]
        some = [n for n in numbers if n in (0, 2, 4, 6)]
        assert [trial.number for trial in ledger.trials(mixed, sort=sort, numbers=[6, 4, 2, 0])] == some
        assert [trial.number for trial in ledger.trials(mixed, TrialState.WAITING, sort=sort)] == [6]

    def test_sorting_by_a_name_nobody_reported_is_an_error_with_the_nearest(self, ledger: Ledger, mixed: str) -> None:
        with pytest.raises(SpecError, match="Did you mean 'val_loss'"):
            ledger.trials(mixed, sort="val_los")

    def test_the_best_are_complete_and_finite_with_ties_by_number(self, ledger: Ledger, mixed: str) -> None:
        ledger.commit(mixed, [*run(6), Ended(6, 1, TrialState.PRUNED, "", 0.0, at=1.0)])
        assert [trial.number for trial in ledger.best(mixed, 5)] == [2, 4, 0]
        assert [trial.number for trial in ledger.best(mixed, 2, "maximize")] == [0, 2]

    def test_where_none_is_complete_the_best_are_those_that_were_stopped_with_a_value(self, ledger: Ledger) -> None:
        sweep = ledger.create_sweep("timed", {}, 4).sweep
        ends = [(0, TrialState.STOPPED, 0.5), (1, TrialState.PRUNED, 0.1), (2, TrialState.STOPPED, 0.3)]
        for number, state, value in ends:
            ledger.commit(sweep, [*run(number), Ended(number, 1, state, "", value, at=1.0)])
        ledger.commit(sweep, [Ended(3, 0, TrialState.STOPPED, "never started", None, at=1.0)])
        assert [trial.number for trial in ledger.best(sweep, 5)] == [2, 0]
        assert [trial.number for trial in ledger.best(sweep, 1, "maximize")] == [0]

    def test_untracked_are_terminal_trials_that_mlflow_shows_otherwise(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [*finish(0, 1.0), *finish(1, 1.0), *finish(2, None, FAILED), *run(3)])
        ledger.commit(sweep, [Tracked(0, "r0", COMPLETE), Tracked(1, "r1", None), Tracked(3, "r3", None)])
        assert [(trial.number, trial.mlflow_run_id) for trial in ledger.untracked(sweep)] == [(1, "r1"), (2, None)]
        ledger.commit(sweep, [Tracked(2, "r2", FAILED), Reopened(2, "retry"), Tracked(2, "r2", FAILED)])
        assert ledger.trial(sweep, 2).tracked_state is None
        ledger.commit(sweep, [*run(2, 2, suggest=False), Ended(2, 2, FAILED, "again", None, at=3.0)])
        assert [trial.number for trial in ledger.untracked(sweep)] == [1, 2]
        ledger.commit(sweep, [SweepChanged(tracked=True)])
        assert ledger.untracked(sweep) == []
        assert ledger.trial(sweep, 3).tracked_state is None

    def test_reports_of_one_trial_of_some_and_of_a_trial_without_any(self, ledger: Ledger, sweep: str) -> None:
        ledger.commit(sweep, [*finish(0, 1.0), *finish(2, 1.0), *finish(3, 1.0)])
        assert list(ledger.reports(sweep, numbers=[3, 1, 0, 3, 99])) == [0, 3]
        assert ledger.reports(sweep, numbers=[3]) == ledger.reports(sweep, 3)
        assert ledger.reports(sweep, numbers=[]) == {}
        assert set(ledger.reports(sweep)) == {0, 2, 3}
        assert set(ledger.reports(sweep, 2)) == {2}
        assert ledger.reports(sweep, 1) == {}

    def test_settled_trials_are_read_from_the_first_that_was_open_and_counted_all(self, ledger: Ledger) -> None:
        sweep = ledger.create_sweep("settling", SPEC, 6).sweep
        ledger.commit(sweep, [*finish(0, 1.0), *finish(1, None, FAILED), *run(2)])
        ledger.commit(sweep, [*finish(3, math.nan), *finish(4, 0.5, TrialState.PRUNED)])
        settled = ledger.settled(sweep)
        assert (settled.count, settled.open_from) == (3, 2)
        found = settled.trials
        assert list(found.numbers) == [0, 3, 4]
        assert list(found.states) == [COMPLETE, COMPLETE, TrialState.PRUNED]
        assert found.values[0] == 1.0
        assert math.isnan(found.values[1] or 0.0)
        assert {name: column[0] for name, column in found.params.items()} == PARAMS
        assert {len(column) for column in found.params.values()} == {3}
        assert list(found.metrics) == []
        assert list(ledger.settled(sweep, 2).trials.numbers) == [3, 4]
        assert list(ledger.settled(sweep, 1, limit=1).trials.numbers) == [3]
        measured = ledger.settled(sweep, 4, metrics=True).trials.metrics
        assert list(measured) == [{"val_loss": 0.5, "learning_rate": 0.1}]
        ledger.commit(sweep, [Ended(2, 1, FAILED, "", None, at=9.0), Ended(5, 0, STOPPED, "", None, at=9.0)])
        assert ledger.settled(sweep).open_from == 6
        ledger.commit(sweep, [Reopened(1, "retry")])
        assert ledger.settled(sweep, 6).open_from == 1

    def test_curves_are_one_metric_of_some_trials_at_some_epochs(self, ledger: Ledger, sweep: str) -> None:
        losses = (3.0, math.inf, 1.0, 0.5)
        for number in (0, 2, 3):
            ledger.commit(sweep, [*run(number), Reported(number, 1, epochs(*losses[: number + 1]), seconds=1.0)])
        assert ledger.curves(sweep, "val_loss", [3, 0, 1], [0, 1, 3]) == {
            0: [(0, 3.0)],
            3: [(0, 3.0), (1, math.inf), (3, 0.5)],
        }
        assert ledger.curves(sweep, "val_accuracy", [3], [0]) == {}
        assert ledger.curves(sweep, "val_loss", [], [0]) == {}

    def test_a_commit_of_thousands_of_changes(self, ledger: Ledger) -> None:
        sweep = ledger.create_sweep("large", SPEC, 2500).sweep
        stopped = [Ended(number, 0, STOPPED, "stopped by the user", None, at=1.0) for number in range(0, 2500)]
        assert ledger.commit(sweep, stopped) == []
        assert ledger.sweep(sweep).counts["stopped"] == 2500
        assert len(ledger.trials(sweep, numbers=range(500, 2000))) == 1500


class TestControllers:
    def test_one_controller_holds_a_sweep_until_it_lets_go(self, ledger: Ledger, sweep: str) -> None:
        assert ledger.lease(sweep) is None
        first = ledger.acquire_lease(sweep, "a", ttl=60)
        assert first == Lease("a", number=1, beat=0, ttl=60)
        assert ledger.acquire_lease(sweep, "a", ttl=60) == first
        assert ledger.acquire_lease(sweep, "b", ttl=60) is None
        assert ledger.renew_leases("b") == set()
        ledger.release_lease(sweep, "b")
        assert ledger.lease(sweep) == first
        assert ledger.renew_leases("a") == {sweep}
        assert ledger.lease(sweep) == replace(first, beat=1)
        ledger.release_lease(sweep, "a")
        assert ledger.lease(sweep) is None
        assert ledger.renew_leases("a") == set()
        assert ledger.acquire_lease(sweep, "b", ttl=60) == Lease("b", number=2, beat=0, ttl=60)

    def test_a_lease_is_taken_only_by_whoever_has_seen_its_last_beat(self, ledger: Ledger, sweep: str) -> None:
        seen = ledger.acquire_lease(sweep, "a", ttl=60)
        ledger.renew_leases("a")
        assert ledger.acquire_lease(sweep, "b", ttl=60, gone=seen) is None
        taken = ledger.acquire_lease(sweep, "b", ttl=60, gone=ledger.lease(sweep))
        assert taken == Lease("b", number=2, beat=0, ttl=60)
        assert ledger.lease(sweep) == taken
        assert ledger.renew_leases("a") == set()
        assert ledger.acquire_lease(sweep, "a", ttl=60, gone=seen) is None

    def test_one_renewal_prolongs_every_lease_of_its_owner_and_no_other(self, ledger: Ledger) -> None:
        mine, others = (ledger.create_sweep("s", SPEC, 1).sweep for _ in range(2)), ledger.create_sweep("s", SPEC, 1)
        sweeps = {sweep for sweep in mine if ledger.acquire_lease(sweep, "a", ttl=60)}
        held = ledger.acquire_lease(others.sweep, "b", ttl=60)
        assert len(sweeps) == 2
        assert ledger.renew_leases("a") == sweeps
        assert ledger.lease(others.sweep) == held

    def test_after_a_takeover_the_old_holders_commits_are_refused_whole_and_the_new_ones_accepted(
        self, ledger: Ledger, sweep: str
    ) -> None:
        first = ledger.acquire_lease(sweep, "a", ttl=60)
        old = ledger.holding(sweep, first.number)
        assert old.commit(sweep, [SweepChanged(state=SweepState.RUNNING, at=1.0), *run(0), *run(1)]) == []
        new = ledger.holding(sweep, ledger.acquire_lease(sweep, "b", ttl=60, gone=first).number)
        before = ledger.sweep(sweep), ledger.trials(sweep)
        ending = [Ended(n, 1, STOPPED, "by the old one", None, at=2.0) for n in range(4)]
        for stale in (
            [Ended(0, 1, COMPLETE, "trained", 0.5, at=2.0)],
            [SweepChanged(state=SweepState.STOPPED, at=2.0)],
            [Noted(0, "x"), Tracked(0, "r", None), *ending, SweepChanged(state=SweepState.COMPLETE, at=2.0)],
            [],
        ):
            with pytest.raises(TakenOver, match="taken over by b"):
                old.commit(sweep, stale)
        assert (ledger.sweep(sweep), ledger.trials(sweep)) == before
        again = [Requeued(0, 1, "its controller ended", lost=False), *run(0, 2, suggest=False)]
        ended = [Ended(0, 2, COMPLETE, "trained", 0.25, at=3.0), SweepChanged(state=SweepState.STOPPED, at=3.0)]
        assert new.commit(sweep, [*again, *ended]) == []
        assert ledger.trial(sweep, 0).value == 0.25
        assert ledger.sweep(sweep).state is SweepState.STOPPED
        other = ledger.create_sweep("another", SPEC, 1).sweep
        assert old.commit(other, [Noted(0, "a lease is about one sweep")]) == []

    def test_a_user_is_not_refused_and_the_last_holder_may_write_until_the_next_one(
        self, ledger: Ledger, sweep: str
    ) -> None:
        old = ledger.holding(sweep, ledger.acquire_lease(sweep, "a", ttl=60).number)
        assert ledger.commit(sweep, [SweepChanged(priority=3)]) == []
        ledger.release_lease(sweep, "a")
        assert old.commit(sweep, [Noted(0, "the last word")]) == []
        assert ledger.acquire_lease(sweep, "b", ttl=60)
        ledger.release_lease(sweep, "b")
        with pytest.raises(TakenOver, match="let it go since"):
            old.commit(sweep, [Noted(0, "too late")])
        assert ledger.trial(sweep, 0).notes == ("the last word",)

    def test_requests_go_to_the_holder_and_are_not_taken_away_by_an_earlier_one(
        self, ledger: Ledger, sweep: str
    ) -> None:
        first = ledger.acquire_lease(sweep, "a", ttl=60)
        old = ledger.holding(sweep, first.number)
        new = ledger.holding(sweep, ledger.acquire_lease(sweep, "b", ttl=60, gone=first).number)
        ledger.request(sweep, "stop")
        with pytest.raises(TakenOver):
            old.take_requests(sweep)
        assert [request.kind for request in new.take_requests(sweep)] == ["stop"]

    def test_a_commit_and_a_takeover_at_once_leave_no_stale_change(self, ledger: Ledger) -> None:
        for _ in range(10):
            sweep = ledger.create_sweep("race", SPEC, 1).sweep
            first = ledger.acquire_lease(sweep, "a", ttl=60)
            old, seen = ledger.holding(sweep, first.number), []

            def write(sweep: str = sweep, old: Ledger = old) -> None:
                with contextlib.suppress(TakenOver):
                    for i in range(50):
                        old.commit(sweep, [Noted(0, str(i))])

            def take(sweep: str = sweep, first: Lease = first, seen: list[int] = seen) -> None:
                ledger.acquire_lease(sweep, "b", ttl=60, gone=first)
                seen.append(len(ledger.trial(sweep, 0).notes))

            in_threads([write, take])
            assert len(ledger.trial(sweep, 0).notes) == seen[0]

    def test_of_many_that_want_the_sweep_at_once_one_gets_it(self, ledger: Ledger, sweep: str) -> None:
        got: list[str] = []
        barrier = threading.Barrier(6)

        def want(owner: str) -> None:
            barrier.wait()
            if ledger.acquire_lease(sweep, owner, ttl=60):
                got.append(owner)

        in_threads([lambda owner=str(i): want(owner) for i in range(6)])
        assert len(got) == 1

    def test_requests_arrive_once_and_in_order(self, ledger: Ledger, sweep: str) -> None:
        assert ledger.take_requests(sweep) == []
        ledger.request(sweep, "pause")
        ledger.request(sweep, "budget", {"trials": 9})
        taken = ledger.take_requests(sweep)
        assert [(request.kind, request.args) for request in taken] == [("pause", {}), ("budget", {"trials": 9})]
        assert all(request.at > 0 for request in taken)
        assert ledger.take_requests(sweep) == []

    def test_threads_share_a_ledger_without_losing_a_change(self, ledger: Ledger, sweep: str) -> None:
        def write(number: int) -> None:
            for i in range(20):
                assert ledger.commit(sweep, [Noted(0, f"{number}:{i}"), Noted(number, "own")]) == []
                ledger.trials(sweep)

        in_threads([lambda number=n: write(number) for n in range(4)])
        trials = ledger.trials(sweep)
        wanted = {f"{number}:{i}" for number in range(4) for i in range(20)}
        assert set(trials[0].notes) == wanted | {"own"}
        assert [len(trial.notes) for trial in trials] == [100, 20, 20, 20]


def in_threads(works: list[Callable[[], None]]) -> None:
    """Run all at once; the first failure is raised here."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
