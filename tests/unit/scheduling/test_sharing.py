"""Many sweeps on few workers: priorities, fair shares of users and sweeps, limits, and sweeps that are forgotten."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from sweeper.records import TrialRecord
from sweeper.scheduling import events as ev
from sweeper.scheduling.scheduler import Scheduler
from sweeper.scheduling.shares import Claim, Division, deal, divide
from sweeper.states import SweepState, TrialState

SHAPE = ev.Shape((8,), 4, 3)
WIDTH = 2


class Cluster:
    """A scheduler with workers that finish one leg per turn, oldest first; ``history`` has the sweep of every leg."""

    def __init__(self, workers: int, user_limit: int | None = None) -> None:
        self.scheduler = Scheduler(lambda _worker, _sweep, _shape: WIDTH, user_limit)
        self.legs: list[ev.RunLeg] = []
        self.history: list[str] = []
        self.running: dict[str, set[int]] = {}
        self.most: Counter[str] = Counter()
        self.owners: dict[str, str] = {}
        self.attempts: dict[tuple[str, int], int] = {}
        for number in range(workers):
            self.handle(ev.WorkerJoined(f"w{number}"))

    def open(self, name: str, owner: str = "ada", trials: int = 400, priority: int = 0) -> None:
        self.owners[name], self.running[name] = owner, set()
        plan = ev.SweepPlan(name, trials, 64, 16, priority=priority, owner=owner)
        self.handle(ev.SweepOpened(plan, tuple(TrialRecord(n) for n in range(trials)), {}))

    def handle(self, event: ev.Event) -> None:
        for action in self.scheduler.handle(event):
            match action:
                case ev.Ask():
                    suggestions = tuple(ev.Suggestion(n, SHAPE) for n in action.numbers)
                    self.handle(ev.TrialsSuggested(action.sweep, suggestions))
                case ev.RunLeg():
                    self.legs.append(action)
                    self.history.append(action.sweep)
                    for admit in action.admit:
                        self.attempts[action.sweep, admit.number] = admit.attempt
                        self.running[action.sweep].add(admit.number)
                    by_owner: Counter[str] = Counter()
                    for sweep, numbers in self.running.items():
                        by_owner[self.owners[sweep]] += len(numbers)
                    self.most |= by_owner
                case ev.EndTrial():
                    self.running[action.sweep].discard(action.number)

    def turn(self) -> None:
        """The oldest leg ends with all of its trials complete."""
        leg = self.legs.pop(0)
        rows = self.scheduler.board.workers[leg.worker].rows
        done = tuple(
            ev.LegOutcome(n, self.attempts[leg.sweep, n], 3, ev.Verdict.COMPLETE, "trained", 0.5) for n in sorted(rows)
        )
        self.handle(ev.LegDone(leg.worker, leg.leg, done))

    def turns(self, number: int) -> Counter[str]:
        """How many legs each sweep got in so many turns."""
        before = len(self.history)
        for _ in range(number):
            self.turn()
        return Counter(self.history[before:])


def test_two_sweeps_of_one_user_share_the_workers_equally() -> None:
    cluster = Cluster(4)
    cluster.open("a")
    cluster.open("b")
    got = cluster.turns(200)
    assert abs(got["a"] - got["b"]) <= 20, got


def test_users_share_equally_however_many_sweeps_one_of_them_has() -> None:
    cluster = Cluster(4)
    for name in ("a1", "a2", "a3"):
        cluster.open(name, "ada")
    cluster.open("b", "bob")
    got = cluster.turns(200)
    ada = got["a1"] + got["a2"] + got["a3"]
    assert abs(ada - got["b"]) <= 30, got
    assert min(got["a1"], got["a2"], got["a3"]) >= 10, got


def test_one_worker_is_shared_between_users_over_time() -> None:
    cluster = Cluster(1)
    for name in ("a1", "a2", "a3"):
        cluster.open(name, "ada")
    cluster.open("b", "bob")
    got = cluster.turns(120)
    assert abs(got["b"] - 60) <= 6, got


def test_a_sweep_of_higher_priority_gets_every_worker_until_it_needs_no_more() -> None:
    cluster = Cluster(3)
    cluster.open("low")
    cluster.turns(10)
    cluster.open("high", "bob", trials=40, priority=5)
    for _ in range(3):
        cluster.turn()  # the legs in flight end
    assert set(cluster.history[-3:]) == {"high"}
    cluster.turns(60)
    assert cluster.history[-1] == "low"


def test_a_changed_priority_counts_at_the_next_leg() -> None:
    cluster = Cluster(2)
    cluster.open("a")
    cluster.open("b", "bob")
    cluster.handle(ev.BudgetChanged("b", priority=1))
    cluster.turns(2)
    assert set(cluster.turns(20)) == {"b"}


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_a_users_limit_holds_over_all_of_their_sweeps(limit: int) -> None:
    cluster = Cluster(4, user_limit=limit)
    for name in ("a1", "a2"):
        cluster.open(name, "ada")
    cluster.open("b", "bob")
    cluster.turns(100)
    assert cluster.most["ada"] == limit
    assert 0 < cluster.most["bob"] <= limit


def test_a_user_at_the_limit_leaves_free_workers_to_others_and_is_told_why() -> None:
    cluster = Cluster(3, user_limit=2)
    cluster.open("a", "ada")
    assert len(cluster.running["a"]) == 2
    assert (
        cluster.scheduler.explain("a") == "waiting: ada already runs 2 trials, the most that one user may run at once"
    )
    cluster.open("b", "bob")
    assert len(cluster.running["b"]) == 2


def test_a_wait_names_what_is_ahead() -> None:
    cluster = Cluster(1)
    cluster.open("a", trials=10)
    cluster.open("b", "bob", trials=20)
    assert cluster.scheduler.explain("b") == "waiting: 10 trials of 1 sweeps ahead, 0 of 1 workers free"


def test_every_trial_of_every_sweep_ends_once() -> None:
    cluster = Cluster(3)
    for number in range(4):
        cluster.open(f"s{number}", f"user{number % 2}", trials=30, priority=number % 2)
    while cluster.legs:
        cluster.turn()
    for number in range(4):
        assert cluster.scheduler.board.sweeps[f"s{number}"].state is SweepState.COMPLETE
        assert cluster.running[f"s{number}"] == set()
    assert set(cluster.attempts.values()) == {1}


def test_a_forgotten_sweep_frees_its_workers_at_the_end_of_their_legs() -> None:
    cluster = Cluster(2)
    cluster.open("a")
    assert [leg.sweep for leg in cluster.legs] == ["a", "a"]
    cluster.scheduler.forget("a", {leg.worker for leg in cluster.legs})
    cluster.open("b", "bob")
    assert cluster.running["b"] == set()
    for leg in list(cluster.legs):
        cluster.legs.remove(leg)
        cluster.handle(ev.LegDone(leg.worker, leg.leg, ()))
    assert [leg.sweep for leg in cluster.legs] == ["b", "b"]


def test_a_forgotten_sweep_whose_leg_never_began_frees_its_worker_at_once() -> None:
    cluster = Cluster(1)
    cluster.open("a")
    cluster.legs.clear()
    cluster.scheduler.forget("a")
    cluster.open("b", "bob")
    assert [leg.sweep for leg in cluster.legs] == ["b"]


def test_a_failed_leg_of_a_forgotten_sweep_frees_its_worker() -> None:
    cluster = Cluster(1)
    cluster.open("a")
    [leg] = cluster.legs
    cluster.legs.clear()
    cluster.scheduler.forget("a", {leg.worker})
    cluster.handle(ev.LegFailed(leg.worker, leg.leg, "error", "boom"))
    cluster.open("b", "bob")
    assert [leg.sweep for leg in cluster.legs] == ["b"]


def test_a_sweep_can_be_opened_again_after_it_was_forgotten() -> None:
    cluster = Cluster(1)
    cluster.open("a", trials=4)
    [leg] = cluster.legs
    cluster.legs.clear()
    cluster.scheduler.forget("a", {leg.worker})
    cluster.open("a", trials=4)
    stale = tuple(ev.LegOutcome(n, 1, 3, ev.Verdict.COMPLETE, "trained", 0.5) for n in (0, 1))
    cluster.handle(ev.LegDone(leg.worker, leg.leg, stale))
    assert len(cluster.running["a"]) == 2, "the old leg's results count for nothing"
    while cluster.legs:
        cluster.turn()
    assert cluster.running["a"] == set()


def test_what_one_sweep_ran_out_of_memory_with_says_nothing_of_another() -> None:
    cluster = Cluster(1)
    cluster.open("a", trials=8)
    [leg] = cluster.legs
    cluster.legs.clear()
    cluster.handle(ev.LegFailed(leg.worker, leg.leg, "oom", "no memory"))
    assert cluster.legs[-1].width == 1
    cluster.scheduler.handle(ev.StopSweep("a", "enough"))
    leg = cluster.legs.pop()
    cluster.handle(ev.LegDone(leg.worker, leg.leg, ()))
    cluster.open("b", trials=8)
    assert cluster.legs[-1].width == WIDTH


def test_a_stop_of_one_sweep_leaves_the_other_running() -> None:
    cluster = Cluster(2)
    cluster.open("a")
    cluster.open("b", "bob", trials=20)
    cluster.scheduler.handle(ev.StopSweep("a", "enough"))
    assert cluster.scheduler.ending("a")
    while cluster.legs:
        cluster.turn()
    assert not cluster.scheduler.ending("a")
    states = {name: sweep.state for name, sweep in cluster.scheduler.board.sweeps.items()}
    assert states == {"a": SweepState.STOPPED, "b": SweepState.COMPLETE}
    assert {t.state for t in cluster.scheduler.board.sweeps["b"].trials.values()} == {TrialState.COMPLETE}


def going(cluster: Cluster, leg: ev.RunLeg) -> None:
    """One leg ends with every trial still on its way."""
    cluster.legs.remove(leg)
    rows = cluster.scheduler.board.workers[leg.worker].rows
    on_its_way = tuple(ev.LegOutcome(n, cluster.attempts[leg.sweep, n], 1, ev.Verdict.CONTINUE) for n in sorted(rows))
    cluster.handle(ev.LegDone(leg.worker, leg.leg, on_its_way))


def test_a_long_cohort_yields_its_worker_when_another_user_is_due() -> None:
    cluster = Cluster(1)
    cluster.open("a", "ada", trials=4)
    assert not cluster.scheduler.due_elsewhere("w0")
    cluster.open("b", "bob", trials=4)
    assert cluster.scheduler.due_elsewhere("w0")
    going(cluster, cluster.legs[0])
    assert cluster.legs[-1].sweep == "a", "it goes on until it is asked to yield"
    cluster.handle(ev.WorkerYields("w0"))
    going(cluster, cluster.legs[0])
    assert cluster.legs[-1].sweep == "b"
    cluster.turn()
    assert [leg.sweep for leg in cluster.legs] == ["a"], "its trials come back"
    assert {cluster.attempts["a", n] for n in (0, 1)} == {2}


def test_a_worker_that_nobody_else_wants_does_not_yield() -> None:
    cluster = Cluster(1)
    cluster.open("a", "ada", trials=4)
    cluster.handle(ev.WorkerYields("w0"))
    going(cluster, cluster.legs[0])
    assert {cluster.attempts["a", n] for n in (0, 1)} == {1}


def claim(sweep: str, owner: str, apart: bool = True, trials: int = 100, running: int = 0, priority: int = 0) -> Claim:
    return Claim(sweep, owner, priority, trials, running, apart)


def test_workers_are_dealt_to_priorities_then_users_then_their_sweeps() -> None:
    assert deal([claim("a", "ada"), claim("b", "ada"), claim("c", "bob")], 8) == {"a": 2, "b": 2, "c": 4}
    assert deal([claim("a", "ada", trials=1), claim("c", "bob")], 8) == {"a": 1, "c": 7}
    assert deal([claim("a", "ada", priority=1, trials=3), claim("c", "bob")], 4) == {"a": 3, "c": 1}


def test_a_sweep_apart_has_its_share_of_the_workers_and_at_least_one() -> None:
    division = divide([claim("a", "ada"), claim("b", "bob", apart=False)], 4, None, Division())
    assert (division.workers, division.rest, division.trials, division.kept) == ({"a": 2}, 2, {}, {})
    alone = divide([claim("a", "ada"), claim("b", "bob")], 4, None, Division())
    assert (alone.workers, alone.rest) == ({"a": 2, "b": 2}, 0)
    crowd = divide([claim(name, name, apart=name != "e") for name in "abcde"], 2, None, Division())
    assert (crowd.workers, crowd.rest) == (dict.fromkeys("abcd", 1), 1)


@pytest.mark.parametrize("seed", range(20))
def test_no_user_runs_more_trials_than_the_limit_in_all_processes_together(seed: int) -> None:
    random, limit, before = Random(seed), 5, Division()
    running, starved, open_sweeps = Counter[str](), Counter[str](), set("abcx")
    for _ in range(400):
        for name in "abcx":  # sweeps come and go
            if random.random() < 0.03:
                open_sweeps ^= {name}
                running[name] = 0
        claims = [claim(name, "ada", name != "x", 9, running[name]) for name in sorted(open_sweeps)]
        division = divide(claims, 4, limit, before)
        told, before = before, division
        for one in claims:
            name = one.sweep
            running[name] -= running[name] > 0 and random.random() < 0.5
            most = division.trials[name] if one.apart else limit - division.kept.get("ada", 0)
            if one.apart and random.random() < 0.3:  # it has not heard of it yet
                most = max(most, told.trials.get(name, 0))
            while running[name] < most and random.random() < 0.9:
                running[name] += 1
            starved[name] = 0 if running[name] else starved[name] + 1
        assert sum(running.values()) <= limit, (running, division)
        assert max(starved.values()) < 60


def test_other_processes_take_workers_and_trials_away_and_give_them_back() -> None:
    cluster = Cluster(4, user_limit=6)
    cluster.open("a", "ada")
    cluster.open("b", "bob")
    cluster.handle(ev.SharesChanged(2, {"ada": 2}, {"ada": 5}))
    cluster.turns(20)
    assert set(cluster.turns(20)) == {"b"}  # ada has two workers elsewhere
    assert len(cluster.legs) == 2
    cluster.handle(ev.SharesChanged(2, {"ada": 1}, {"ada": 5}))
    cluster.most = Counter()
    got = cluster.turns(100)
    assert 20 <= got["a"] <= 80
    assert cluster.most["ada"] <= 2  # of one before the change, one after it
    cluster.handle(ev.SharesChanged())
    cluster.turns(40)
    assert len(cluster.legs) == 4
    cluster.handle(ev.SharesChanged(0))
    while cluster.legs:
        cluster.turn()
    assert "waiting: 0 workers are its share" in cluster.scheduler.explain("a")
