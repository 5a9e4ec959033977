"""Workers of which some are lost every minute, shared by three users with six sweeps."""

import pytest

from benchmarks.crowd import USERS, Crowd


@pytest.mark.parametrize(
    "crowd",
    [
        Crowd(workers=16, trials=2400, lost_per_minute=0.3, rows=8),
        Crowd(workers=4, trials=600, rows=8),
    ],
    ids=["sixteen workers", "one worker too many"],
)
def test_users_and_their_sweeps_share_within_a_tenth_and_nothing_is_lost_or_repeated(crowd: Crowd) -> None:
    crowd.run()
    assert crowd.lost >= 10 or not crowd.lost_per_minute
    assert len(crowd.ended) == sum(crowd.requested.values())
    assert set(crowd.ended.values()) == {1}
    assert crowd.failed == 0
    shares = crowd.shares()
    assert len(shares) == len(USERS) + sum(USERS.values())
    assert all(0.9 < share < 1.1 for share in shares.values()), shares
