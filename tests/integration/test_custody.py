"""A sweep at rest, on a real SQLite ledger: the command line and the service follow the same rules."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.errors import SweepBusy
from sweeper.ledger.opening import open_ledger
from sweeper.ledger.protocol import Lease, Ledger
from sweeper.places.here import Here
from sweeper.records import SweepRecord
from sweeper.running.custody import NoService, Steering, end_unheld, reopen_unheld
from sweeper.running.leases import Holds, Watch
from sweeper.running.parts import ProgressSink
from sweeper.settings import Settings
from sweeper.spec.parse import load_spec
from sweeper.spec.stored import stored_form
from sweeper.states import SweepState
from tests.served import SMALL, serving

Resume = Callable[[Path, str], None]


def by_command_line(home: Path, sweep: str) -> None:
    Here(Settings(home)).resume(sweep, "inline", lambda record: ProgressSink())


def by_service(home: Path, sweep: str) -> None:
    with serving(home) as served:
        answer = served.client("bob").post(f"/sweeps/{sweep}/resume")
        assert answer.status_code == 202, answer.text
        served.wait(sweep, "complete", "stopped", "paused", "failed")


def dead_controller() -> str:
    """The owner's name of a process of this host that has ended."""
    code = "from sweeper.running.owners import new_owner; print(new_owner())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def steering(ledger: Ledger) -> Steering:
    watch = Watch(ledger)
    return Steering(ledger, watch, "bob", 0.0, NoService(watch))


def new_sweep(home: Path, state: SweepState, owner: str = "bob") -> SweepRecord:
    ledger = open_ledger(None, home)
    spec = load_spec(SMALL)
    record = ledger.create_sweep("s", stored_form(spec), spec.search.trials, owner=owner)
    end_unheld(ledger, record, SweepState.PAUSED, "paused by bob")
    record = ledger.sweep(record.sweep)
    if state is SweepState.RUNNING:
        reopen_unheld(ledger, record, "resumed by bob")
    elif state is not SweepState.PAUSED:
        end_unheld(ledger, record, state, f"{state} by bob")
    record = ledger.sweep(record.sweep)
    assert record.state is state
    ledger.close()
    return record


@pytest.mark.parametrize("resume", [by_command_line, by_service])
@pytest.mark.parametrize(("state", "halt"), [(SweepState.PAUSED, "stop"), (SweepState.STOPPED, "pause")])
def test_a_halt_that_a_dead_controller_left_does_not_end_a_resumed_sweep(
    tmp_path: Path, resume: Resume, state: SweepState, halt: str
) -> None:
    record = new_sweep(tmp_path, state)
    ledger = open_ledger(None, tmp_path)
    assert ledger.acquire_lease(record.sweep, dead_controller(), 60)
    ledger.request(record.sweep, halt)
    resume(tmp_path, record.sweep)
    ended = ledger.sweep(record.sweep)
    assert (ended.state, ended.counts["complete"]) == (SweepState.COMPLETE, 6)


def test_an_interrupted_sweep_is_resumed_by_the_command_line_whatever_its_dead_controller_was_asked(
    tmp_path: Path,
) -> None:
    record = new_sweep(tmp_path, SweepState.RUNNING)
    ledger = open_ledger(None, tmp_path)
    assert ledger.acquire_lease(record.sweep, dead_controller(), 60)
    ledger.request(record.sweep, "stop")
    by_command_line(tmp_path, record.sweep)
    assert ledger.sweep(record.sweep).state is SweepState.COMPLETE


@pytest.mark.parametrize("resume", [by_command_line, by_service])
def test_trials_that_were_asked_of_a_dead_controller_are_trained_after_the_resume(
    tmp_path: Path, resume: Resume
) -> None:
    record = new_sweep(tmp_path, SweepState.PAUSED)
    ledger = open_ledger(None, tmp_path)
    ledger.request(record.sweep, "budget", {"requested": 8, "priority": None})
    ledger.request(record.sweep, "stop")
    resume(tmp_path, record.sweep)
    ended = ledger.sweep(record.sweep)
    assert (ended.state, ended.counts["complete"]) == (SweepState.COMPLETE, 8)


def test_what_a_running_sweep_says_of_itself_is_why_its_trials_wait(tmp_path: Path) -> None:
    record = new_sweep(tmp_path, SweepState.STOPPED)
    ledger = open_ledger(None, tmp_path)
    assert steering(ledger).resume(record).waiting == ""
    trials = ledger.trials(record.sweep)
    assert {trial.reason for trial in trials} == {"resumed by bob"}


def test_a_priority_is_kept_with_and_without_a_controller(tmp_path: Path) -> None:
    record = new_sweep(tmp_path, SweepState.RUNNING)
    ledger = open_ledger(None, tmp_path)
    assert steering(ledger).change(record, None, 3).priority == 3
    assert ledger.take_requests(record.sweep) == []
    Holds(ledger).take(record.sweep)
    assert steering(ledger).change(record, 9, 4).priority == 4
    [request] = ledger.take_requests(record.sweep)
    assert (request.kind, json.dumps(dict(request.args), sort_keys=True)) == (
        "budget",
        '{"priority": 4, "requested": 9}',
    )


@pytest.mark.parametrize("verb", ["retry", "resume", "check_idle"])
def test_a_sweep_that_has_ended_and_is_still_held_is_busy(tmp_path: Path, verb: str) -> None:
    record = new_sweep(tmp_path, SweepState.STOPPED)
    ledger = open_ledger(None, tmp_path)
    Holds(ledger).take(record.sweep)
    with pytest.raises(SweepBusy, match="being finished"):
        getattr(steering(ledger), verb)(record)
    assert ledger.take_requests(record.sweep) == []


def test_a_stop_reaches_a_controller_that_takes_the_sweep_up_in_that_moment(tmp_path: Path) -> None:
    record = new_sweep(tmp_path, SweepState.RUNNING)
    ledger = open_ledger(None, tmp_path)
    controller = Holds(ledger)

    class Late(Watch):
        def take(self, sweep: str, owner: str) -> Lease | None:
            controller.take(sweep)
            return super().take(sweep, owner)

    watch = Late(ledger)
    with contextlib.closing(controller):
        Steering(ledger, watch, "bob", 1.0, NoService(watch)).end(record, SweepState.STOPPED)
        assert [request.kind for request in ledger.take_requests(record.sweep)] == ["stop"]
