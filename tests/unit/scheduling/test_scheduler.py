"""The scheduler's decisions, one event at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeper.records import TrialRecord
from sweeper.scheduling import events as ev
from sweeper.scheduling.scheduler import Scheduler
from sweeper.states import Cause, SweepState, TrialState

SHAPE = ev.Shape((8,), 4, 3)
OTHER = ev.Shape((16,), 4, 3)


def open_sweep(
    scheduler: Scheduler, name: str = "a", requested: int = 8, window: int = 8, batch: int = 4, **plan: object
) -> list[ev.Action]:
    records = tuple(TrialRecord(n) for n in range(requested))
    return scheduler.handle(ev.SweepOpened(ev.SweepPlan(name, requested, window, batch, **plan), records, {}))


def suggest(scheduler: Scheduler, actions: list[ev.Action], shape: ev.Shape = SHAPE) -> list[ev.Action]:
    [ask] = [a for a in actions if isinstance(a, ev.Ask)]
    suggestions = tuple(ev.Suggestion(n, shape) for n in ask.numbers)
    return scheduler.handle(ev.TrialsSuggested(ask.sweep, suggestions))


def legs(actions: list[ev.Action]) -> list[ev.RunLeg]:
    return [a for a in actions if isinstance(a, ev.RunLeg)]


def complete(scheduler: Scheduler, leg: ev.RunLeg, numbers: list[int], attempt: int = 1) -> list[ev.Action]:
    done = tuple(ev.LegOutcome(n, attempt, 3, ev.Verdict.COMPLETE, "trained", 0.5) for n in numbers)
    return scheduler.handle(ev.LegDone(leg.worker, leg.leg, done))


def wide(_worker: str, _sweep: str, _shape: ev.Shape) -> int:
    return 64


def test_the_first_batch_is_asked_at_once() -> None:
    assert open_sweep(Scheduler(wide)) == [ev.Ask("a", (0, 1, 2, 3), 0)]


def test_the_next_batch_is_asked_while_the_window_allows() -> None:
    scheduler = Scheduler(wide)
    actions = suggest(scheduler, open_sweep(scheduler, requested=12))
    actions = suggest(scheduler, actions)
    assert not [a for a in actions if isinstance(a, ev.Ask)]  # 8 are pending: the window is full
    assert scheduler.explain("a") == "waiting: no worker has joined yet"


def test_the_window_moves_on_with_the_prefix_of_ended_trials() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    actions = suggest(scheduler, open_sweep(scheduler, requested=12, window=4))
    [leg] = legs(actions)
    assert [a.number for a in leg.admit] == [0, 1]  # half of the window
    actions = complete(scheduler, leg, [0, 1])
    assert not [a for a in actions if isinstance(a, ev.Ask)]
    [leg] = legs(actions)
    actions = complete(scheduler, leg, [2, 3])
    assert ev.Ask("a", (4, 5, 6, 7), 4) in actions


def test_waiting_trials_are_spread_over_idle_workers() -> None:
    scheduler = Scheduler(wide)
    actions = open_sweep(scheduler)
    for name in ("v", "w"):
        scheduler.handle(ev.WorkerJoined(name))
    shares = [[a.number for a in leg.admit] for leg in legs(suggest(scheduler, actions))]
    assert shares == [[0, 1], [2, 3]]


def of_two_shapes(scheduler: Scheduler, **plan: object) -> list[ev.RunLeg]:
    open_sweep(scheduler, window=64, batch=8, **plan)
    mixed = tuple(ev.Suggestion(n, SHAPE if n % 2 == 0 else OTHER) for n in range(8))
    return legs(scheduler.handle(ev.TrialsSuggested("a", mixed)))


@pytest.mark.parametrize(("mixes", "mixed"), [(False, True), (True, False)])
def test_trials_of_different_shapes_share_no_cohort_of_a_worker_or_sweep_that_does_not_mix(mixes, mixed) -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w", mixes=mixes))
    [leg] = of_two_shapes(scheduler, mixed=mixed)
    assert {a.shape for a in leg.admit} == {SHAPE}
    assert [a.number for a in leg.admit] == [0, 2, 4, 6]
    again = complete(scheduler, leg, [0, 2, 4, 6])
    assert [[(a.number, a.shape) for a in leg.admit] for leg in legs(again)] == [[(n, OTHER) for n in (1, 3, 5, 7)]]


def test_a_worker_that_mixes_takes_trials_as_they_come_while_their_memory_adds_up() -> None:
    scheduler = Scheduler(lambda _worker, _sweep, shape: 4 if shape == SHAPE else 2)
    scheduler.handle(ev.WorkerJoined("w", mixes=True))
    [leg] = of_two_shapes(scheduler, mixed=True)
    assert [(a.number, a.shape) for a in leg.admit] == [(0, SHAPE), (1, OTHER), (2, SHAPE)]
    [leg] = legs(complete(scheduler, leg, [1]))
    assert [a.number for a in leg.admit] == [3], "half of the memory is free"
    actions = scheduler.handle(ev.LegFailed("w", leg.leg, "oom", "no memory"))
    [leg] = legs(actions)
    assert [a.number for a in leg.admit] == [0], "half of the trials that it ran out of memory with"


def test_a_worker_that_pads_takes_trials_of_one_bucket_in_the_order_of_their_numbers() -> None:
    seen = []
    scheduler = Scheduler(lambda _worker, _sweep, shape: seen.append(shape) or 4)
    scheduler.handle(ev.WorkerJoined("card", pads=True))
    open_sweep(scheduler, requested=12, window=64, batch=12)
    shapes = [SHAPE, replace(SHAPE, hidden_layers=(40,)), OTHER, replace(SHAPE, batch_size=8)]
    suggested = tuple(ev.Suggestion(n, shapes[n % 4]) for n in range(12))
    [leg] = legs(scheduler.handle(ev.TrialsSuggested("a", suggested)))
    assert [(a.number, a.shape) for a in leg.admit] == [(n, SHAPE.bucket) for n in (0, 2, 4, 6)]
    assert SHAPE.bucket == OTHER.bucket == replace(SHAPE, hidden_layers=(32,), padded=True)
    [leg] = legs(complete(scheduler, leg, [2, 6]))
    assert [a.number for a in leg.admit] == [8, 10]
    [leg] = legs(complete(scheduler, leg, [0, 4, 8, 10]))
    assert [(a.number, a.shape.hidden_layers) for a in leg.admit] == [(n, (48,)) for n in (1, 5, 9)]
    assert set(seen) == {SHAPE.bucket, shapes[1].bucket}, "memory is that of the padded networks"
    [leg] = legs(scheduler.handle(ev.WorkerJoined("plain")))
    assert [(a.number, a.shape) for a in leg.admit] == [(n, shapes[3]) for n in (3, 7, 11)]


def test_a_lost_workers_trials_wait_again_and_get_a_new_attempt() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=4, batch=4)))
    actions = scheduler.handle(ev.WorkerLost("w", "killed"))
    assert [a for a in actions if isinstance(a, ev.RequeueTrial)] == [
        ev.RequeueTrial("a", n, 1, "killed", True) for n in (a.number for a in leg.admit)
    ]
    [again] = legs(scheduler.handle(ev.WorkerJoined("x")))
    assert {a.attempt for a in again.admit} == {2}


def test_the_third_lost_attempt_fails_the_trial() -> None:
    scheduler = Scheduler(wide)
    suggest(scheduler, open_sweep(scheduler, requested=1, window=1, batch=1))
    for name in "uvw":
        assert legs(scheduler.handle(ev.WorkerJoined(name)))
        actions = scheduler.handle(ev.WorkerLost(name, "killed"))
    [end] = [a for a in actions if isinstance(a, ev.EndTrial)]
    assert end.state is TrialState.FAILED
    assert (end.cause, end.reason) == (Cause.LOST, "lost: killed (3 attempts)")


def test_a_stale_report_changes_nothing() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler)))
    scheduler.handle(ev.WorkerLost("w", "slow"))
    assert complete(scheduler, leg, [0]) == []


def test_out_of_memory_halves_the_width_and_costs_no_attempt() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=32, window=16, batch=16)))
    assert len(leg.admit) == 8
    actions = scheduler.handle(ev.LegFailed("w", leg.leg, "oom", "boom"))
    assert {a.lost for a in actions if isinstance(a, ev.RequeueTrial)} == {False}
    [leg] = legs(actions)
    assert len(leg.admit) == 4


def test_out_of_memory_of_one_row_fails_that_trial() -> None:
    scheduler = Scheduler(lambda _w, _n, _s: 1)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=1)))
    actions = scheduler.handle(ev.LegFailed("w", leg.leg, "oom", "boom"))
    [end] = [a for a in actions if isinstance(a, ev.EndTrial)]
    assert (end.state, end.cause) == (TrialState.FAILED, Cause.OUT_OF_MEMORY)


def test_stop_waits_for_the_leg_in_flight_and_ends_every_trial() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    actions = suggest(scheduler, open_sweep(scheduler, requested=12))
    [leg] = legs(actions)
    assert scheduler.handle(ev.StopSweep("a", "enough")) == []
    assert suggest(scheduler, actions) == []  # the suggestions under way are written down, and not started
    actions = complete(scheduler, leg, [0])
    ends = {a.number: a.state for a in actions if isinstance(a, ev.EndTrial)}
    assert ends.pop(0) is TrialState.COMPLETE
    assert set(ends.values()) == {TrialState.STOPPED}
    assert len(ends) == 11
    assert actions[-1] == ev.ChangeSweep("a", SweepState.STOPPED, "enough")


def test_pause_puts_running_trials_back_and_resume_goes_on() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=4)))
    scheduler.handle(ev.PauseSweep("a", "interrupted"))
    actions = complete(scheduler, leg, [0])
    requeued = [a.number for a in actions if isinstance(a, ev.RequeueTrial)]
    assert requeued == [a.number for a in leg.admit if a.number != 0]
    assert legs(actions) == []
    assert legs(scheduler.handle(ev.ResumeSweep("a")))


def test_a_sweep_without_a_complete_trial_has_failed() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=1)))
    diverged = (ev.LegOutcome(0, 1, 0, ev.Verdict.FAILED, "diverged: nan"),)
    actions = scheduler.handle(ev.LegDone("w", leg.leg, diverged))
    assert actions[-1] == ev.ChangeSweep("a", SweepState.FAILED, "no trial succeeded")


def test_an_exhausted_space_ends_the_trials_it_has_no_point_for() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    open_sweep(scheduler, requested=8)
    actions = scheduler.handle(ev.TrialsSuggested("a", (ev.Suggestion(0, SHAPE),)))
    ends = [a for a in actions if isinstance(a, ev.EndTrial)]
    assert [(end.number, end.cause) for end in ends] == [(number, Cause.EXHAUSTED) for number in range(1, 8)]


def test_a_search_that_has_come_to_its_end_says_why_and_completes_with_what_is_pending() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=16, window=8, batch=4)))
    actions = scheduler.handle(ev.TrialsSuggested("a", (), "nothing is left to gain"))
    why = "the search ended after 4 of 16 trials: nothing is left to gain"
    ends = [(a.number, a.cause, a.reason) for a in actions if isinstance(a, ev.EndTrial)]
    assert ends == [(number, Cause.ENOUGH, why) for number in range(4, 16)]
    done = tuple(ev.LegOutcome(a.number, 1, 2, ev.Verdict.COMPLETE, "trained", 0.5) for a in leg.admit)
    assert scheduler.handle(ev.LegDone("w", leg.leg, done))[-1] == ev.ChangeSweep("a", SweepState.COMPLETE, why)


def test_a_leg_ends_where_a_pruner_decides() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, decision_epochs=(1, 2))))
    assert leg.epochs == 1


def test_higher_priority_is_served_first() -> None:
    scheduler = Scheduler(wide)
    suggest(scheduler, open_sweep(scheduler, "low"))
    suggest(scheduler, open_sweep(scheduler, "high", priority=1))
    [leg] = legs(scheduler.handle(ev.WorkerJoined("w")))
    assert leg.sweep == "high"


def test_two_users_share_the_workers() -> None:
    scheduler = Scheduler(wide)
    for name, owner in (("a1", "ada"), ("a2", "ada"), ("b", "bob")):
        suggest(scheduler, open_sweep(scheduler, name, owner=owner))
    served = [legs(scheduler.handle(ev.WorkerJoined(w)))[0].sweep for w in "xy"]
    assert {name[0] for name in served} == {"a", "b"}


def test_a_user_limit_bounds_running_trials() -> None:
    scheduler = Scheduler(wide, user_limit=2)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler)))
    assert len(leg.admit) == 2


def test_a_new_total_adds_trials_but_never_drops_suggested_ones() -> None:
    scheduler = Scheduler(wide)
    suggest(scheduler, open_sweep(scheduler, requested=12))
    assert ev.ResizeSweep("a", 20) in scheduler.handle(ev.BudgetChanged("a", requested=20))
    assert ev.ResizeSweep("a", 8) in scheduler.handle(ev.BudgetChanged("a", requested=2))


def test_a_draining_worker_gives_its_trials_back_after_its_leg() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=4)))
    scheduler.handle(ev.WorkerDraining("w"))
    going = tuple(ev.LegOutcome(a.number, 1, 1, ev.Verdict.CONTINUE) for a in leg.admit)
    actions = scheduler.handle(ev.LegDone("w", leg.leg, going))
    assert {a.lost for a in actions if isinstance(a, ev.RequeueTrial)} == {False}
    assert legs(actions) == []
    numbers = frozenset(a.number for a in leg.admit)
    assert actions[-1] == ev.SaveCheckpoints("a", numbers, before_commit=True), "they go on from what is saved"


def test_after_a_leg_the_trials_that_go_on_are_saved_once_the_ledger_knows_it_and_the_next_leg_is_under_way() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=4)))
    ended, *going = leg.admit
    outcomes = [ev.LegOutcome(ended.number, 1, 3, ev.Verdict.COMPLETE, "trained", 0.5)]
    outcomes += [ev.LegOutcome(admit.number, 1, 1, ev.Verdict.CONTINUE) for admit in going]
    *before, last = scheduler.handle(ev.LegDone("w", leg.leg, tuple(outcomes)))
    assert last == ev.SaveCheckpoints("a", frozenset(a.number for a in going), before_commit=False)
    assert legs(before)


def test_a_cohort_that_ran_out_of_memory_starts_over_with_half_of_its_room() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("w"))
    [leg] = legs(suggest(scheduler, open_sweep(scheduler, requested=32, window=32, batch=32)))
    assert (leg.width, len(leg.admit)) == (16, 16)
    actions = scheduler.handle(ev.LegFailed("w", leg.leg, "oom", "no memory"))
    assert len([a for a in actions if isinstance(a, ev.RequeueTrial) and not a.lost]) == 16
    [again] = legs(actions)
    assert again.cohort != leg.cohort
    assert (again.width, len(again.admit)) == (8, 8)


def test_the_first_worker_fixes_the_arithmetic_and_workers_of_another_get_nothing() -> None:
    scheduler = Scheduler(wide)
    for worker, arithmetic in (("narrow", "native-1"), ("old", "eager-default"), ("wide", "native-1")):
        scheduler.handle(ev.WorkerJoined(worker, arithmetic))
    actions = suggest(scheduler, open_sweep(scheduler))
    assert [action for action in actions if isinstance(action, ev.FixArithmetic)] == [ev.FixArithmetic("a", "native-1")]
    assert [leg.worker for leg in legs(actions)] == ["narrow", "wide"]
    assert scheduler.left_out() == [("old", "eager-default", "a", "native-1")]
    assert scheduler.explain("a").endswith(
        "computed in native-1, so workers of another arithmetic get none (1 in eager-default)"
    )


def test_workers_that_differ_in_torch_alone_share_a_sweep_only_if_all_its_trials_are_compiled() -> None:
    for compiled, wanted, served in ((True, "native-1", ["w", "x"]), (False, "native-1, eager-avx512", ["w"])):
        scheduler = Scheduler(wide)
        scheduler.handle(ev.WorkerJoined("w", "native-1", "eager-avx512"))
        scheduler.handle(ev.WorkerJoined("x", "native-1", "eager-avx2"))
        actions = suggest(scheduler, open_sweep(scheduler, compiled=compiled))
        assert ev.FixArithmetic("a", wanted) in actions
        assert [leg.worker for leg in legs(actions)] == served
    assert scheduler.left_out() == [("x", "native-1, eager-avx2", "a", "native-1, eager-avx512")]


def test_a_sweep_that_goes_on_waits_for_a_worker_of_its_arithmetic() -> None:
    scheduler = Scheduler(wide)
    scheduler.handle(ev.WorkerJoined("card", "cuda-sm90"))
    actions = suggest(scheduler, open_sweep(scheduler, arithmetic="native-1"))
    assert not legs(actions)
    assert "0 of 0 workers free; its trials are computed in native-1" in scheduler.explain("a")
    assert suggest(scheduler, open_sweep(scheduler, "b"))[-1].sweep == "b", "another sweep takes the worker"
    actions = scheduler.handle(ev.WorkerJoined("w", "native-1"))
    assert [(leg.worker, leg.sweep) for leg in legs(actions)] == [("w", "a")]
    assert not [action for action in actions if isinstance(action, ev.FixArithmetic)]
    assert not scheduler.due_elsewhere("card"), "what waits is not for it"
