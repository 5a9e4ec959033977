"""A trial's legs with rows that end at epochs of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sweeper.data.folds import by_fold
from sweeper.data.source import Source
from sweeper.models import Data, TrainConfig, TrialConfig, train_solo
from sweeper.scheduling.events import Shape
from sweeper.training.leg_runner import LegRunner
from sweeper.training.legs import LegOrder, RowStart, TrialLeg, TrialStart, curve_in, epochs_in
from sweeper.training.scoring import Scoring
from tests.tiny import tiny_data

DATA = tiny_data()
ARRAYS = {name: getattr(DATA, name).numpy() for name in ("x_train", "y_train", "x_val", "y_val")}
TRAIN = TrainConfig(epochs=14, batch_size=8, keep="best", patience=3, gradient_flow=1)
CONFIG = TrialConfig(hidden_layers=(9, 6), learning_rate=0.03)
START = TrialStart(0, 1, Shape((9, 6), 8, 14), CONFIG, tuple(RowStart(seed) for seed in range(3)))
ORDER = LegOrder(
    leg=1, sweep="s", cohort=1, train=TRAIN, admit=(START,), drop=(), epochs=14, width=1,
    seconds=600.0, metric="val_loss", minimize=True,
)  # fmt: skip


def run(runner: LegRunner, order: LegOrder) -> TrialLeg:
    [trial] = runner.run(order).trials
    return trial


def new_runner() -> LegRunner:
    runner = LegRunner()
    runner.load("s", Source((ARRAYS,)))
    return runner


def test_a_trial_is_the_mean_of_what_its_rows_kept_wherever_its_legs_and_checkpoints_lie() -> None:
    solos = [train_solo(CONFIG, TRAIN, DATA, seed) for seed in range(3)]
    lengths = [solo.epochs for solo in solos]
    assert len(set(lengths)) > 1
    whole = run(new_runner(), ORDER)
    assert whole.finished
    assert whole.epochs == max(lengths)
    kept = [solo.val_loss[solo.best_epoch or 0] for solo in solos]
    assert whole.kept is not None
    assert whole.kept["val_loss"] == pytest.approx(np.mean(kept), rel=1e-9)
    assert whole.best_epoch == pytest.approx(np.mean([(solo.best_epoch or 0) + 1 for solo in solos]))
    padded = [solo.val_loss + [best] * (max(lengths) - solo.epochs) for solo, best in zip(solos, kept, strict=True)]
    assert whole.metrics["val_loss"] == pytest.approx(np.mean(padded, axis=0), rel=1e-9)
    assert whole.weights is not None
    assert whole.weights["0.weight"] == pytest.approx(solos[0].state_dict["0.weight"].numpy(), rel=1e-9)
    assert set(whole.flow) == set(range(max(lengths)))

    for cut in range(1, max(lengths)):
        first = run(new_runner(), replace(ORDER, epochs=cut, export=True))
        assert first.states is not None
        assert epochs_in(first.states) == first.epochs == cut
        assert curve_in(first.states, "val_loss", TRAIN) == first.metrics["val_loss"]
        second = run(new_runner(), replace(ORDER, admit=(replace(START, states=first.states),)))
        assert second.finished
        assert (second.first_epoch, second.kept, second.best_epoch) == (cut, whole.kept, whole.best_epoch)
        assert first.metrics["val_loss"] + second.metrics["val_loss"] == whole.metrics["val_loss"]
        assert second.weights is not None
        assert all(np.array_equal(second.weights[name], whole.weights[name]) for name in whole.weights)


def test_weights_come_back_only_when_the_kept_value_is_better() -> None:
    value = (run(new_runner(), ORDER).kept or {})["val_loss"]
    assert run(new_runner(), replace(ORDER, keep_better_than=value + 1e-6)).weights is not None
    assert run(new_runner(), replace(ORDER, keep_better_than=value - 1e-6)).weights is None


def test_folds_replicates_patience_and_a_metric_that_training_does_not_measure_go_together_over_a_checkpoint() -> None:
    y, y_val = (DATA.y_train == 1).long(), (DATA.y_val == 1).long()
    folds = (Data(DATA.x_train, y, DATA.x_val, y_val), Data(DATA.x_val, y_val, DATA.x_train, y))
    scoring = Scoring("classification", ("roc_auc",), (), ("no", "yes"), 0.0, 1.0)
    train = replace(TRAIN, monitor="val_roc_auc", minimize=False)
    start = replace(START, rows=tuple(RowStart(seed, fold) for seed in range(2) for fold in range(2)))
    order = replace(ORDER, train=train, admit=(start,), metric="val_roc_auc", minimize=False, scoring=scoring)
    solos = [
        train_solo(CONFIG, train, folds[row.fold], row.seed, scorers=scoring.scorers()) for row in start.rows
    ]  # fmt: skip
    areas = [max(solo.series("val_roc_auc")) for solo in solos]
    assert len({solo.epochs for solo in solos}) > 1

    def runner_of_folds() -> LegRunner:
        runner = LegRunner()
        names = ("x_train", "y_train", "x_val", "y_val")
        runner.load("s", Source(tuple({name: getattr(fold, name).numpy() for name in names} for fold in folds)))
        return runner

    whole = run(runner_of_folds(), order)
    assert whole.kept is not None
    assert whole.weights is not None
    assert whole.kept["val_roc_auc"] == pytest.approx(np.mean(areas))
    assert whole.folds == pytest.approx([np.mean(areas[0::2]), np.mean(areas[1::2])])
    assert by_fold(whole.weights)[1]["0.weight"] == pytest.approx(solos[1].state_dict["0.weight"].numpy(), rel=1e-6)
    for cut in (2, whole.epochs - 1):
        first = run(runner_of_folds(), replace(order, epochs=cut, export=True))
        assert first.states is not None
        assert curve_in(first.states, "val_roc_auc", train) == first.metrics["val_roc_auc"]
        second = run(runner_of_folds(), replace(order, admit=(replace(start, states=first.states),)))
        assert (second.kept, second.folds, second.best_epoch) == (whole.kept, whole.folds, whole.best_epoch)
        assert second.weights is not None
        assert all(np.array_equal(second.weights[name], whole.weights[name]) for name in whole.weights)


@pytest.mark.parametrize(("threads", "padded"), [(1, False), (2, False), (1, True)])
def test_trials_of_several_shapes_in_one_cohort_are_each_their_own_run(threads: int, padded: bool) -> None:
    import torch

    shapes = [Shape(hidden, size, 14) for hidden in ((9, 6), (5, 8), ()) for size in (8, 16)]
    starts = tuple(
        TrialStart(
            n,
            1,
            shapes[n % 6].bucket if padded else shapes[n % 6],
            TrialConfig(hidden_layers=shapes[n % 6].hidden_layers, learning_rate=0.03),
            (RowStart(n),),
        )
        for n in range(9)
    )
    before = torch.get_num_threads()
    try:
        runner = LegRunner(threads=threads)
        runner.load("s", Source((ARRAYS,)))
        first = runner.run(replace(ORDER, admit=starts[:7], epochs=2))
        second = runner.run(replace(ORDER, admit=starts[7:], drop=(3,)))
    finally:
        torch.set_num_threads(before)
    assert sum(trial.seconds for trial in first.trials) == pytest.approx(first.seconds)
    assert [trial.number for trial in second.trials] == [0, 1, 2, 4, 5, 6, 7, 8]
    begun = {trial.number: trial for trial in first.trials}
    for trial in second.trials:
        start = starts[trial.number]
        train = replace(TRAIN, batch_size=start.shape.batch_size)
        solo = train_solo(start.config, train, DATA, trial.number)
        losses = begun[trial.number].metrics["val_loss"] if trial.number in begun else []
        assert losses + trial.metrics["val_loss"] == pytest.approx(solo.val_loss, rel=1e-9)
        assert trial.parameters == sum(weights.numel() for weights in solo.state_dict.values())
