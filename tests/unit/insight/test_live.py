"""The pictures of the live page: few numbers, the same as numpy gives for all trials, and a sample that stays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from sweeper.insight import live
from sweeper.insight.course import Course
from sweeper.ledger.protocol import SettledTrials
from sweeper.records import EpochReport, TrialRecord
from sweeper.spec.parse import load_spec
from sweeper.states import TrialState

COUNT = 3000
SPACE = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "momentum"]},
    "momentum": {"float": [0.5, 0.9], "when": {"optimizer": ["momentum"]}},
    "hidden_layers": {"choice": [[8], [16, 16]]},
}


class Trial(NamedTuple):
    """A settled trial."""

    number: int
    state: TrialState
    value: float
    params: dict[str, Any]
    metrics: dict[str, float]


def settled(count: int = COUNT, first: int = 0) -> list[Trial]:
    trials = []
    for n in range(first, first + count):
        rng = np.random.default_rng(n)
        optimizer = ("sgd", "momentum")[n % 2]
        params: dict[str, Any] = {"learning_rate": float(10 ** rng.uniform(-4, -1)), "optimizer": optimizer}
        if optimizer == "momentum":
            params["momentum"] = float(rng.uniform(0.5, 0.9))
        params["hidden_layers"] = ([8], [16, 16])[n % 3 == 0]
        state = TrialState.PRUNED if n % 10 == 3 else TrialState.COMPLETE
        value = math.nan if n == 5 else float(rng.uniform(0.1, 0.3))
        trials.append(Trial(n, state, value, params, {"val_accuracy": 0.5 + (n % 4) / 10}))
    return trials


def columns(trials: Iterable[Trial]) -> SettledTrials:
    records = [TrialRecord(t.number, t.state, value=t.value, params=t.params, metrics=t.metrics) for t in trials]
    return SettledTrials.of(records, metrics=True)


def course_of(trials: Iterable[Trial], **spec: Any) -> Course:
    file = {"dataset": {"name": "iris"}, "space": SPACE, "search": {"trials": 10, "sampler": "random"}}
    course = Course(load_spec(file | spec))
    course.add(columns(trials))
    return course


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return settled()


def test_the_history_has_every_step_of_the_best_so_far_and_few_points(trials: list[Trial]) -> None:
    history = live.history(course_of(reversed(trials)))
    complete = [t for t in trials if t.state is TrialState.COMPLETE and math.isfinite(t.value or math.nan)]
    best = np.minimum.accumulate([t.value for t in complete])
    expected = [
        (t.number, t.value) for t, now, before in zip(complete, best, [math.inf, *best], strict=False) if now < before
    ]
    assert list(history.best) == expected
    assert len(history.points) == live.MAX_POINTS
    assert len(history.pruned) == COUNT // 10
    assert f"1,000 of {len(complete):,} complete trials are drawn" in history.caption
    assert history.frame is not None
    assert history.frame.low <= min(best) < history.frame.high


def test_the_sample_stays_while_trials_are_added(trials: list[Trial]) -> None:
    course = course_of(trials)
    before = {trial for trial, _ in live.history(course).points}
    course.add(columns(settled(300, COUNT)))
    course.add(columns(trials[:100]))  # known already
    after = {trial for trial, _ in live.history(course).points}
    assert len(course) == COUNT + 300
    assert len(before & after) > 0.85 * live.MAX_POINTS
    drawn = {t.number for t in trials if t.number in before}
    rates = [t.params["learning_rate"] for t in trials]
    sampled = [t.params["learning_rate"] for t in trials if t.number in drawn]
    assert np.median(np.log10(sampled)) == pytest.approx(np.median(np.log10(rates)), abs=0.15)


def test_slices_have_median_best_and_count_of_every_part_of_a_range(trials: list[Trial]) -> None:
    slices = {s.name: s for s in live.slices(course_of(trials)).slices}
    known = [t for t in trials if math.isfinite(t.value or math.nan)]
    rate = slices["learning_rate"]
    assert (rate.low, rate.high, rate.log, len(rate.bins)) == (pytest.approx(1e-4), pytest.approx(0.1), True, live.BINS)
    fourth = rate.bins[3]
    inside = [t.value for t in known if fourth.low <= t.params["learning_rate"] < fourth.high]
    assert (fourth.count, fourth.median, fourth.best) == (len(inside), np.median(inside), min(inside))
    assert sum(one.count for one in rate.bins) == len(known)
    assert [one.label for one in slices["hidden_layers"].bins] == ["[8]", "[16, 16]"]
    assert sum(one.count for one in slices["momentum"].bins) == sum(t.number % 2 for t in known)


def test_lines_end_with_the_best_and_leave_out_parameters_that_some_trials_lack(trials: list[Trial]) -> None:
    parallel = live.parallel(course_of(trials))
    assert [axis.name for axis in parallel.axes[:-1]] == ["learning_rate", "optimizer", "hidden_layers"]
    assert len(parallel.lines) == live.MAX_LINES
    ranks = [line.rank for line in parallel.lines]
    assert ranks == sorted(ranks)
    best = min((t for t in trials if t.state is TrialState.COMPLETE), key=lambda t: t.value or math.inf)
    assert (parallel.lines[-1].trial, parallel.lines[-1].rank) == (best.number, 1.0)


def test_a_trial_that_breaks_a_constraint_is_never_the_best_so_far(trials: list[Trial]) -> None:
    history = live.history(course_of(trials[:200], constraints=["val_accuracy >= 0.75"]))
    assert {number % 4 for number, _ in history.best} == {3}
    assert {number % 4 for number, _ in history.points} == {3}
    assert {number % 4 for number, _ in history.beyond} == {0, 1, 2}


def test_curves_are_quantiles_over_a_sample_at_a_hundred_epochs_at_most(trials: list[Trial]) -> None:
    asked: list[int] = []
    levels = np.random.default_rng(0).uniform(1, 2, COUNT)

    def read(numbers: Sequence[int], epochs: Sequence[int]) -> dict[int, list[tuple[int, float]]]:
        asked.append(len(numbers) * len(epochs))
        return {n: [(e, math.nan if n == 8 else float(levels[n]) / (1 + e)) for e in epochs] for n in numbers}

    best = [EpochReport(e, {"val_loss": 0.5 / (1 + e), "train_loss": 0.4}) for e in range(1000)]
    curves = live.curves(course_of(trials), [], best, read)
    assert asked[0] <= live.MAX_REPORTS
    assert len(curves.epochs) == live.MAX_EPOCHS
    assert (curves.epochs[0], curves.epochs[-1]) == (1, 1000)
    assert curves.looked_at == live.MAX_REPORTS // live.MAX_EPOCHS
    assert [c.trial for c in curves.best] == course_of(trials).numbers[course_of(trials).best_first()[:5]].tolist()
    assert curves.median[0] == pytest.approx(1.5, abs=0.15)
    assert curves.high[-1] == pytest.approx(1.9 / 1000, rel=0.1)
    assert curves.train is not None
    assert curves.train.values[0] == 0.4


def test_without_a_complete_trial_the_curves_are_of_those_under_way_and_the_rest_waits() -> None:
    course = course_of([])
    best = [EpochReport(e, {"val_loss": 1.0 / (1 + e)}) for e in range(3)]
    curves = live.curves(course, [4, 2], best, lambda numbers, epochs: {4: [(0, 1.0), (1, 0.5), (2, 1 / 3)]})
    assert curves.median == (1.0, 0.5, 1 / 3)
    assert "trials under way" in curves.caption
    assert curves.words["best"] == "trial 4"
    assert live.curves(course, [], [], lambda numbers, epochs: {}).frame is None
    for picture in (live.history(course), live.parallel(course), live.slices(course)):
        assert picture.caption == "No trial is complete yet."
