"""The search window: which results a suggestion sees depends on its number alone."""

from __future__ import annotations

import pytest

from sweeper.scheduling.window import told_before


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
