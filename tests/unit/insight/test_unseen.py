"""What pruned trials would have come to is drawn from those that went on, and the draws hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sweeper.insight.basis import MAX_CURVES, sample
from sweeper.insight.factors import build_table
from sweeper.insight.unseen import ends, last_epoch
from sweeper.records import EpochReport, TrialRecord
from sweeper.spec.parse import load_spec
from sweeper.states import Cause, TrialState

Array = NDArray[np.float64]


def halved(seed: int, trials: int = 120) -> tuple[Array, NDArray[np.intp], Array]:
    """Log losses of two epochs, how many were seen, and the choice: the fast one leads at first, both end equally.

    The worse half was stopped after the first epoch.
    """
    rng = np.random.default_rng(seed)
    fast = (np.arange(trials) % 2).astype(np.float64)
    end = 0.3 * rng.standard_normal(trials)
    first = 1.0 - 0.4 * fast + 0.7 * end + 0.1 * rng.standard_normal(trials)
    lengths = np.where(first <= np.median(first), 2, 1)
    return np.column_stack([first, end]), lengths, fast


def test_a_choice_that_only_learns_faster_does_not_end_ahead() -> None:
    gaps, survivors = [], []
    for seed in range(20):
        curves, lengths, fast = halved(seed)
        seen = np.where(lengths[:, None] > np.arange(2), curves, np.nan)
        drawn = ends(seen, lengths, [fast[:, None]], 2).mean(axis=0)
        truth = curves[fast == 1, 1].mean() - curves[fast == 0, 1].mean()
        gaps.append(drawn[fast == 1].mean() - drawn[fast == 0].mean() - truth)
        went_on = lengths == 2
        survivors.append(curves[went_on & (fast == 1), 1].mean() - curves[went_on & (fast == 0), 1].mean())
    assert abs(float(np.mean(gaps))) < 0.02
    assert float(np.mean(survivors)) > 0.1  # to compare those that went on would favour the slow one


def test_the_spread_of_the_draws_holds_what_is_not_known() -> None:
    inside = 0
    for seed in range(40):
        curves, lengths, fast = halved(seed)
        seen = np.where(lengths[:, None] > np.arange(2), curves, np.nan)
        drawn = ends(seen, lengths, [fast[:, None]], 2)
        assert (drawn[:, lengths == 2] == curves[lengths == 2, 1]).all()
        low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
        inside += low <= curves[:, 1].mean() <= high
    assert inside >= 34


def test_ends_are_drawn_only_where_trials_of_each_choice_and_combination_went_on() -> None:
    first, second = np.arange(120) % 2.0, np.arange(120) // 2 % 2.0
    together = (first == 1) & (second == 1)
    half = np.where(np.arange(120) % 3 > 0, 20, 3)
    assert last_epoch(half, 2, [first, second], 20, 0.04) == (20, True)
    assert last_epoch(np.where(first == 1, 3, 20), 2, [first, second], 20, 0.04) == (3, True)
    assert last_epoch(np.where(together, 3, half), 2, [first, second], 20, 0.04) == (3, True)
    assert last_epoch(half, 30, [first, second], 20, 0.04) == (3, False)  # too few for so many columns
    one = np.where(np.arange(120) == 7, 3, 20)
    assert last_epoch(one, 40, [first, second], 20, 0.04) == (20, False)  # it is left out


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_curves_that_were_picked_by_their_scores_do_not_move_the_comparison(pruner: str) -> None:
    sections = {"dataset": {"name": "iris"}, "space": {"learning_rate": {"float": [0.001, 1.0]}}}
    spec = load_spec({"name": "many", **sections, "training": {"epochs": 2}, "search": {"pruner": pruner}})
    count = MAX_CURVES + 400
    values = np.random.default_rng(0).permutation(count) + 1.0
    state = [TrialState.PRUNED if pruner == "median" and v > count / 2 else TrialState.COMPLETE for v in values]
    trials = [
        TrialRecord(n, state[n], params={"learning_rate": (n + 1) / count}, value=v, epochs=1)
        for n, v in enumerate(values.tolist())
    ]
    reports = {
        n: [EpochReport(e, {"val_loss": v}) for e in range(2 if state[n] is TrialState.COMPLETE else 1)]
        for n, v in enumerate(values.tolist())
    }
    drawn = {trial.number for trial in sample(trials)}
    best = set(np.argsort(values)[:300].tolist())
    table = build_table(spec, trials, {n: reports[n] for n in drawn | best})
    assert table.numbers == build_table(spec, trials, {n: reports[n] for n in drawn}).numbers
    assert set(table.numbers) == (drawn if pruner == "median" else set(range(count)))
    if pruner == "median":
        assert f"Of 1,400 trials {MAX_CURVES:,} were drawn without regard to their results" in table.basis.sentence


def test_a_sweep_of_pruned_and_diverged_trials_has_a_comparison_or_none() -> None:
    sections = {"dataset": {"name": "iris"}, "space": {"learning_rate": {"float": [0.001, 1.0]}}}
    spec = load_spec({"name": "few", **sections, "training": {"epochs": 4}, "search": {"pruner": "median"}})
    states = [TrialState.PRUNED, TrialState.FAILED, TrialState.COMPLETE, TrialState.COMPLETE]
    trials = [
        TrialRecord(
            n,
            state,
            params={"learning_rate": 0.1 * (n + 1)},
            value=1.0 + n if state is not TrialState.FAILED else None,
            cause=Cause.DIVERGED if state is TrialState.FAILED else None,
        )
        for n, state in enumerate(states)
    ]
    reports = {0: 2, 1: 1, 2: 4, 3: 4}
    curves = {n: [EpochReport(e, {"val_loss": 5.0 - e}) for e in range(count)] for n, count in reports.items()}
    table = build_table(spec, trials, curves)
    assert (table.basis.epoch, table.numbers, table.diverged) == (2, (0, 1, 2, 3), 1)
    assert table.scores.tolist() == pytest.approx([np.log(4.0)] * 4)  # the diverged one stands at the worst
    assert build_table(spec, trials[:2], {1: curves[1]}).numbers == ()
