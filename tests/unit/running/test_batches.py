"""Batches decide by their curves alone: whatever the order of legs, the same trials stop at the same rungs."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.running.batches import BatchDecisions
from sweeper.running.trial import TrialRun
from sweeper.scheduling.events import LegOutcome, Verdict
from sweeper.search.pruning import Objective, SynchronousHalving
from sweeper.training.legs import TrialLeg

EPOCHS = 9
PRUNER = SynchronousHalving(Objective(epochs=EPOCHS), eta=2, first=1)  # rungs 1, 2, 4, 8


def expected(curves: dict[int, list[float]], diverges: dict[int, int]) -> dict[int, tuple[Verdict, int]]:
    """What halving means, written down once more: rung by rung over whole curves."""
    alive, ends = set(curves), {}
    for rung in PRUNER.legs(EPOCHS):
        there = {n: curves[n][rung - 1] for n in alive if diverges.get(n, EPOCHS) >= rung}
        ends |= {n: (Verdict.FAILED, diverges[n]) for n in alive - set(there)}
        stopped = {n for n, d in PRUNER.decide_batch(there, rung).items() if d.stop} if there else set()
        ends |= dict.fromkeys(stopped, (Verdict.PRUNED, rung))
        alive = set(there) - stopped
    return ends | {n: (Verdict.FAILED, diverges[n]) if n in diverges else (Verdict.COMPLETE, EPOCHS) for n in alive}


class Batch:
    """One batch of trials that train in any order, as the sweep would hold it."""

    def __init__(self, curves: dict[int, list[float]], diverges: dict[int, int]) -> None:
        self.truth, self.diverges = curves, diverges
        self.trials = {n: TrialRun({}) for n in curves}
        self.decisions = BatchDecisions(PRUNER, len(curves), EPOCHS, self.trials)
        self.outcomes: dict[int, LegOutcome] = {}
        self.reported: dict[int, list[int]] = {n: [] for n in curves}
        self.trained = dict.fromkeys(curves, 0)
        self.left: set[int] = set()  # trained to its end

    def leg(self, numbers: list[int], epochs: int) -> None:
        legs, ends = [], []
        for n in numbers:
            first, last = self.trained[n], self.diverges.get(n, EPOCHS)
            self.trained[n] = upto = min(first + epochs, last)
            diverged = n in self.diverges and upto == last
            values = self.truth[n][first:upto]
            self.trials[n].curve += values
            finished = upto == EPOCHS and not diverged
            legs.append(TrialLeg(n, 1, first, {"val_loss": values}, finished, "nan" if diverged else None, 1.0))
            verdict = Verdict.FAILED if diverged else Verdict.COMPLETE if finished else Verdict.CONTINUE
            ends.append(LegOutcome(n, 1, upto, verdict, "end"))
            if diverged or finished:
                self.left.add(n)
        self.take(self.decisions.take(legs, ends, len(self.truth)))

    def take(self, settled) -> None:
        for report in settled.reports:
            self.reported[report.number] += [r.epoch for r in report.reports]
        for outcome in settled.outcomes:
            assert outcome.number not in self.outcomes, "a verdict on a trial that has one"
            if outcome.verdict in (Verdict.COMPLETE, Verdict.FAILED, Verdict.PRUNED):
                self.outcomes[outcome.number] = outcome
                self.trials[outcome.number].ended = True

    def on_the_way(self) -> list[int]:
        return [n for n in self.truth if n not in self.outcomes and n not in self.left]


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**9))
def test_the_order_of_legs_changes_no_verdict_and_no_reported_epoch(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.randint(1, 9)
    curves = {n: [round(rng.random(), 1) for _ in range(EPOCHS)] for n in range(size)}
    diverges = {n: rng.randint(0, EPOCHS - 1) for n in curves if rng.random() < 0.2}
    batch = Batch(curves, diverges)
    while waiting := batch.on_the_way():
        batch.leg(rng.sample(waiting, rng.randint(1, len(waiting))), rng.randint(1, 4))
    wanted = expected(curves, diverges)
    assert {n: (o.verdict, o.epochs) for n, o in batch.outcomes.items()} == wanted
    assert batch.reported == {n: list(range(epochs)) for n, (_, epochs) in wanted.items()}
    assert {n: len(trial.curve) for n, trial in batch.trials.items()} == {
        n: epochs for n, (_, epochs) in wanted.items()
    }


def test_a_finished_trial_is_held_until_its_batch_has_reached_the_first_rung() -> None:
    batch = Batch({0: [0.1] * EPOCHS, 1: [0.2] * EPOCHS}, {})
    batch.leg([0], EPOCHS)
    assert not batch.outcomes
    assert batch.reported[0] == []
    batch.leg([1], 1)
    assert batch.reported == {0: list(range(EPOCHS)), 1: [0]}
    assert {n: o.verdict for n, o in batch.outcomes.items()} == {0: Verdict.COMPLETE, 1: Verdict.PRUNED}


def test_a_trial_that_ended_elsewhere_no_longer_holds_its_batch_up() -> None:
    batch = Batch({0: [0.1] * EPOCHS, 1: [0.2] * EPOCHS}, {})
    batch.leg([0], EPOCHS)
    batch.trials[1].ended = True  # lost with its workers
    batch.take(batch.decisions.settle(2))
    assert batch.outcomes[0].verdict is Verdict.COMPLETE


def test_a_trial_that_waits_again_counts_from_its_new_beginning() -> None:
    batch = Batch({0: [0.1] * EPOCHS, 1: [0.2] * EPOCHS}, {})
    batch.leg([0], 3)
    batch.decisions.forget(0)
    batch.trials[0].start_over()
    batch.trained[0] = 0
    batch.leg([1], 1)
    assert not batch.outcomes, "trial 0 has to reach the rung again"
    batch.reported[0] = []
    batch.leg([0], EPOCHS)
    assert batch.reported[0] == list(range(EPOCHS))
    assert batch.outcomes[1].verdict is Verdict.PRUNED
