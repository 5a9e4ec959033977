"""A sweep with a timeout trains few trials side by side on a CPU, so that the time does not end with all half-way."""

from __future__ import annotations

from sweeper.running.pace import FIRST_ROWS, Pace


def test_a_cohort_gets_a_tenth_of_the_time_once_the_pace_is_known() -> None:
    assert Pace().rows_in(None, 100, 64, 1) == 64
    assert Pace().rows_in(1000.0, 100, 64, 1) == FIRST_ROWS
    assert Pace(20.0, 200).rows_in(1000.0, 100, 64, 1) == 10  # 10 s for the 100 epochs of a row
    assert Pace(0.2, 200).rows_in(1000.0, 100, 64, 1) == 64
    assert Pace(20_000.0, 200).rows_in(1000.0, 100, 64, 1) == 1
