"""What the controller reads off the clock beside each worker."""

from __future__ import annotations

import pytest

from sweeper.running.clock import CHECKPOINT_SECONDS, HANG_SECONDS, SLICE_SECONDS, WorkerClock


class Now:
    """A clock that the test sets."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def clock(now: Now) -> WorkerClock:
    clock = WorkerClock(now)
    clock.joined("w")
    return clock


def leg(clock: WorkerClock, now: Now, seconds: float, cohort: int = 1) -> bool:
    """One leg of a worker from begin to end; whether it was to send back its rows' state."""
    due = clock.save_is_due("w", cohort)
    clock.leg_started("w", "s")
    now.seconds += seconds
    assert clock.leg_ended("w") == "s"
    return due


def test_only_the_time_between_two_legs_is_idle(clock: WorkerClock, now: Now) -> None:
    now.seconds += 2
    leg(clock, now, 5)
    now.seconds += 3
    leg(clock, now, 5)
    now.seconds += 100
    assert clock.idle_seconds == {"w": 5}


def test_a_leg_in_flight_has_its_sweep_until_it_is_answered_or_lost(clock: WorkerClock) -> None:
    clock.leg_started("w", "s")
    assert (clock.sweep_of("w"), clock.busy_with("s"), clock.busy_with("t")) == ("s", {"w"}, set())
    clock.lost("w")
    assert (clock.sweep_of("w"), clock.busy_with("s"), clock.leg_ended("w")) == (None, set(), None)


def test_a_cohort_saves_its_rows_once_a_minute_and_not_in_its_first_leg(clock: WorkerClock, now: Now) -> None:
    third = CHECKPOINT_SECONDS / 3
    assert [leg(clock, now, third) for _ in range(7)] == [False, False, False, True, False, False, True]
    assert not leg(clock, now, third, cohort=2)


def test_a_leg_has_hung_when_it_is_late_and_takes_twenty_times_as_long_as_the_last(
    clock: WorkerClock, now: Now
) -> None:
    clock.leg_started("w", "s")
    now.seconds += HANG_SECONDS
    assert clock.hung() == []
    now.seconds += 1
    assert clock.hung() == [("w", HANG_SECONDS + 1)]
    clock.leg_ended("w")
    clock.leg_started("w", "s")
    now.seconds += 20 * (HANG_SECONDS + 1)
    assert clock.hung() == []
    now.seconds += 1
    assert [worker for worker, _ in clock.hung()] == ["w"]


def test_epochs_that_are_trained_again_count_as_they_took_when_they_were_trained(clock: WorkerClock, now: Now) -> None:
    leg(clock, now, 1)
    clock.leg_started("w", "s", replay=99)
    now.seconds += 20 * 100
    assert clock.hung() == []
    now.seconds += 1
    assert [worker for worker, _ in clock.hung()] == ["w"]
    clock.leg_ended("w")
    leg(clock, now, 1)
    clock.leg_started("w", "s")  # with nothing to train again
    now.seconds += HANG_SECONDS + 1
    assert [worker for worker, _ in clock.hung()] == ["w"]


def test_a_cohort_with_its_slice_behind_it_saves_at_once_when_it_is_to_yield(clock: WorkerClock, now: Now) -> None:
    clock.save_is_due("w", 1)
    clock.leg_started("w", "s")
    assert clock.long_held() == []
    now.seconds += SLICE_SECONDS
    assert clock.long_held() == [("w", "s")]
    clock.ask_to_yield("w")
    clock.leg_ended("w")
    assert clock.save_is_due("w", 1)
    assert [clock.take_yield_request("w"), clock.take_yield_request("w")] == [True, False]


def test_a_new_cohort_is_not_asked_to_yield_for_the_one_before(clock: WorkerClock) -> None:
    clock.save_is_due("w", 1)
    clock.ask_to_yield("w")
    assert not clock.save_is_due("w", 2)
    assert not clock.take_yield_request("w")
