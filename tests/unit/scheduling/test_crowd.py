"""A hundred workers of which some are lost every minute, shared by three users with six sweeps."""

from benchmarks.crowd import USERS, Crowd


def test_users_and_their_sweeps_share_within_a_tenth_and_nothing_is_lost_or_repeated_when_workers_are() -> None:
    crowd = Crowd(workers=100, trials=600, lost_per_minute=0.3)
    crowd.run()
    assert crowd.lost >= 20
    assert len(crowd.ended) == sum(crowd.requested.values())
    assert set(crowd.ended.values()) == {1}
    assert crowd.failed == 0
    shares = crowd.shares()
    assert len(shares) == len(USERS) + sum(USERS.values())
    assert all(0.9 < share < 1.1 for share in shares.values()), shares
