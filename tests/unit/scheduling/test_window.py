"""The search window: which results a suggestion sees depends on its number alone."""

from __future__ import annotations

import random

import pytest

from sweeper.scheduling.window import askable, told_before


@pytest.mark.parametrize(
    ("number", "window", "batch", "k"),
    [(0, 8, 4, 0), (3, 8, 4, 0), (4, 8, 4, 0), (8, 8, 4, 4), (11, 8, 4, 4), (12, 8, 4, 8), (10, 10, 10, 10)],
)
def test_a_suggestion_sees_the_trials_before_the_end_of_its_batch_minus_the_window(number, window, batch, k):
    assert told_before(number, window, batch) == k


@pytest.mark.parametrize(("window", "batch"), [(4, 8), (4, 0), (0, 0)])
def test_a_batch_outside_one_to_window_is_refused(window, batch):
    with pytest.raises(ValueError, match="batch"):
        told_before(0, window, batch)


def test_no_result_of_the_own_batch_or_a_later_one_is_ever_seen():
    for window in range(1, 20):
        for batch in range(1, window + 1):
            for number in range(100):
                k = told_before(number, window, batch)
                assert 0 <= k <= number // batch * batch
                assert number - k < window


def test_the_first_window_is_asked_without_any_result():
    asked = 0
    while (numbers := askable(asked, 0, window=12, batch=4, requested=100)) is not None:
        assert numbers.start == asked
        asked = numbers.stop
    assert asked == 12


def test_a_batch_waits_for_every_trial_before_its_horizon():
    assert askable(12, 3, window=12, batch=4, requested=100) is None
    assert askable(12, 4, window=12, batch=4, requested=100) == range(12, 16)
    assert askable(12, 11, window=12, batch=4, requested=100) == range(12, 16)


def test_the_requested_total_cuts_the_last_batch_and_a_larger_total_goes_on_inside_it():
    assert askable(8, 8, window=4, batch=4, requested=10) == range(8, 10)
    assert askable(10, 10, window=4, batch=4, requested=10) is None
    assert askable(10, 8, window=4, batch=4, requested=20) == range(10, 12)


def test_whatever_the_order_of_results_every_trial_is_asked_once_and_none_is_stuck():
    for seed in range(50):
        rng = random.Random(seed)
        window = rng.randint(1, 20)
        batch = rng.randint(1, window)
        requested = rng.randint(1, 120)
        asked, running, done = 0, set[int](), set[int]()
        while len(done) < requested:
            prefix = next(n for n in range(requested + 1) if n not in done)
            while (numbers := askable(asked, prefix, window, batch, requested)) is not None:
                assert all(told_before(n, window, batch) <= prefix for n in numbers)
                running.update(numbers)
                asked = numbers.stop
            assert 0 < len(running) <= window
            finished = rng.choice(sorted(running))
            running.discard(finished)
            done.add(finished)
        assert asked == requested
