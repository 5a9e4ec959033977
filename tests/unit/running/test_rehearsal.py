"""A rehearsed sweep takes the seconds that its legs would take side by side."""

from __future__ import annotations

import pytest

from sweeper.running.rehearsal import LONGEST, ShapeCost, rehearse
from sweeper.scheduling.events import Shape, SweepPlan

SMALL, LARGE = Shape((8,), 32, epochs=4), Shape((64,), 32, epochs=4)
COSTS = {SMALL: ShapeCost(0.0, 1.0), LARGE: ShapeCost(0.0, 3.0)}


def plan(requested: int, window: int = 1000) -> SweepPlan:
    return SweepPlan("s", requested, window, max(1, window // 4))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_trials_of_one_shape_share_the_workers(workers: int) -> None:
    found = rehearse(plan(16), [SMALL], COSTS, workers, lambda shape: 4, leg_seconds=1.0)
    assert found.busy == 16 * 4
    assert found.seconds == 16 * 4 / workers
    assert 1 <= found.rows[SMALL] <= 4


def test_each_shape_takes_its_own_time_and_a_cohort_what_its_epochs_and_admissions_cost() -> None:
    found = rehearse(plan(8), [SMALL, LARGE], COSTS, 1, lambda shape: 64, leg_seconds=1e9)
    assert found.busy == found.seconds == 4 * 4 * (1 + 3)
    costs = {SMALL: ShapeCost(epoch=10.0, row=1.0, admission=0.5)}
    found = rehearse(plan(8), [SMALL], costs, 1, lambda shape: 64, leg_seconds=1e9)
    legs = round(8 / found.rows[SMALL])
    assert found.busy == legs * 4 * 10 + 8 * 4 * 1 + 8 * 0.5


def test_a_window_of_one_trial_keeps_the_other_worker_idle() -> None:
    found = rehearse(plan(6, window=1), [SMALL], COSTS, 2, lambda shape: 64, leg_seconds=1e9)
    assert found.seconds == 6 * 4


def test_a_row_is_counted_for_each_replicate_and_fold() -> None:
    three = SweepPlan("s", 4, 1000, 4, rows_per_trial=3)
    assert rehearse(three, [SMALL], COSTS, 1, lambda shape: 64, leg_seconds=1e9).busy == 4 * 3 * 4


def test_a_long_sweep_is_played_in_part() -> None:
    found = rehearse(plan(10 * LONGEST), [SMALL], COSTS, 2, lambda shape: 16, leg_seconds=1.0)
    assert found.busy == 10 * LONGEST * 4
