"""A sweep is held while its controller lives, whatever the clocks say, and is taken over when it is gone."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time

import pytest

from sweeper.errors import SweepBusy, TakenOver
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import Noted
from sweeper.running.leases import Holds, Watch
from sweeper.running.owners import shown

HOUR = 3600.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def held_by(owner: str, ttl: float = 15.0) -> tuple[MemoryLedger, str]:
    ledger = MemoryLedger()
    sweep = ledger.create_sweep("s", {}, 1).sweep
    assert ledger.acquire_lease(sweep, owner, ttl)
    return ledger, sweep


def test_a_silent_holder_is_gone_after_the_length_of_its_lease_and_not_before() -> None:
    ledger, sweep = held_by("elsewhere:1")
    clock = Clock()
    watch = Watch(ledger, clock)
    for _ in range(15):
        assert watch.holder(sweep) == "elsewhere:1"
        assert watch.take(sweep, "b") is None
        clock.pass_by(1.0)
    assert watch.holder(sweep) is None
    taken = watch.take(sweep, "b")
    assert taken is not None
    assert (taken.owner, taken.number) == ("b", 2)


def test_a_holder_that_renews_is_never_gone() -> None:
    ledger, sweep = held_by("elsewhere:1")
    clock = Clock()
    watch = Watch(ledger, clock)
    for _ in range(10):
        for _ in range(14):
            assert watch.holder(sweep) == "elsewhere:1"
            clock.pass_by(1.0)
        ledger.renew_leases("elsewhere:1")


def test_a_renewal_at_the_last_moment_keeps_the_sweep() -> None:
    ledger, sweep = held_by("elsewhere:1", ttl=0.0)
    real = ledger.acquire_lease

    def late(*args: object, **options: object) -> object:
        ledger.renew_leases("elsewhere:1")
        return real(*args, **options)  # type: ignore[arg-type]

    ledger.acquire_lease = late  # type: ignore[method-assign,assignment]
    assert Watch(ledger).take(sweep, "b") is None


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_a_jump_of_the_wall_clock_neither_ends_nor_prolongs_a_lease(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    ledger, sweep = held_by("elsewhere:1")
    clock = Clock()
    watch = Watch(ledger, clock)
    assert watch.holder(sweep) == "elsewhere:1"
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    assert watch.holder(sweep) == "elsewhere:1"
    ledger.renew_leases("elsewhere:1")
    for _ in range(15):
        assert watch.holder(sweep) == "elsewhere:1"
        clock.pass_by(1.0)
    assert watch.holder(sweep) is None


def test_a_watcher_that_was_frozen_itself_does_not_take_its_own_silence_for_the_holders() -> None:
    ledger, sweep = held_by("elsewhere:1")
    clock = Clock()
    watch = Watch(ledger, clock)
    assert watch.holder(sweep) == "elsewhere:1"
    clock.pass_by(5 * HOUR)
    assert watch.holder(sweep) == "elsewhere:1"


def test_a_holder_whose_process_has_ended_is_gone_at_once() -> None:
    code = "from sweeper.running.owners import new_owner; print(new_owner())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    ledger, sweep = held_by(told)
    assert Watch(ledger).controller(sweep) is None
    with contextlib.closing(Holds(ledger)) as holds:
        assert holds.wait(sweep).number == 2


def test_a_living_controller_keeps_its_sweep_and_is_named() -> None:
    ledger = MemoryLedger()
    sweep = ledger.create_sweep("s", {}, 1).sweep
    with contextlib.closing(Holds(ledger)) as first, contextlib.closing(Holds(ledger)) as second:
        assert first.take(sweep) is first.take(sweep)
        with pytest.raises(SweepBusy, match=shown(first.owner)):
            second.take(sweep)
        with pytest.raises(SweepBusy, match="Wait for it, or stop it"):
            second.wait(sweep)  # it sees a renewal, by the thread that renews
        assert Watch(ledger).controller(sweep) == shown(first.owner)
        first.release(sweep)
        assert second.take(sweep).number == 2
    assert ledger.lease(sweep) is None


def test_a_holder_that_was_taken_over_finds_out_and_commits_nothing() -> None:
    ledger = MemoryLedger()
    sweep = ledger.create_sweep("s", {}, 1).sweep
    with contextlib.closing(Holds(ledger)) as holds:
        hold = holds.take(sweep)
        hold.check()
        hold.confirm()
        assert ledger.acquire_lease(sweep, "elsewhere:1", 60.0, gone=ledger.lease(sweep))
        with pytest.raises(TakenOver, match="elsewhere:1"):
            hold.ledger.commit(sweep, [Noted(0, "late")])
        deadline = time.monotonic() + 30
        while not hold.lost and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        for look in (hold.check, hold.confirm):
            with pytest.raises(TakenOver, match="elsewhere:1"):
                look()
        with pytest.raises(SweepBusy, match="elsewhere:1"):
            holds.take(sweep)
    assert ledger.lease(sweep).owner == "elsewhere:1"  # type: ignore[union-attr]
