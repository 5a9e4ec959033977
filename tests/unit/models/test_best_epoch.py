"""Which epoch counts: keep and patience in the plain run and on every path."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sweeper.models import Cohort, Data, History, TrainConfig, TrialConfig, train_cohort, train_solo
from sweeper.models.config import Task
from sweeper.models.eager import EagerPath
from sweeper.models.graphs import Recordings
from sweeper.models.history import best_epoch
from tests.tiny import curves, history_error, identical, same_bits, tiny_data

PATHS = ["native", "eager"]
# some are at their best early, some in between, some at the end
CONFIGS = [
    TrialConfig(hidden_layers=(9, 6), activation=activation, optimizer=optimizer, learning_rate=rate)
    for activation, optimizer, rate in (
        ("relu", "adam", 0.03), ("tanh", "sgd", 0.02), ("gelu", "rmsprop", 0.02), ("relu", "momentum", 0.05),
        ("sigmoid", "adamw", 0.3),
    )
]  # fmt: skip
SEEDS = [0, 1, 2, 3, 4]
TRAIN = TrainConfig(epochs=14, batch_size=8)
RULES = [replace(TRAIN, keep=keep, patience=patience) for keep in ("last", "best") for patience in (None, 1, 3)]
RULES.append(replace(TRAIN, keep="best", patience=3, monitor="val_accuracy", minimize=False))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("train", RULES, ids=lambda t: f"{t.keep}-{t.patience}-{t.monitor}")
def test_every_path_keeps_and_ends_as_the_plain_run(train: TrainConfig, path: str) -> None:
    data = tiny_data()
    histories = train_cohort(CONFIGS, train, data, SEEDS, path=path, width=3)
    for config, seed, got in zip(CONFIGS, SEEDS, histories, strict=True):
        wanted = train_solo(config, train, data, seed)
        assert history_error(got, wanted) < 1e-9
        assert got.best_epoch == wanted.best_epoch


def test_the_plain_run_keeps_the_weights_of_its_best_epoch_and_ends_when_patience_runs_out() -> None:
    data, ended, early = tiny_data(), 0, 0
    for config, seed in zip(CONFIGS, SEEDS, strict=True):
        whole = train_solo(config, TRAIN, data, seed)
        best = min(range(14), key=whole.val_loss.__getitem__)  # the first of equals
        kept = train_solo(config, replace(TRAIN, keep="best"), data, seed)
        assert whole.best_epoch == kept.best_epoch == best
        assert curves(kept) == curves(whole)
        up_to_there = train_solo(config, replace(TRAIN, epochs=best + 1), data, seed)
        assert same_bits(kept.state_dict, up_to_there.state_dict)
        early += best < 13

        waits = [epoch for epoch in range(14) if epoch - min(range(epoch + 1), key=whole.val_loss.__getitem__) >= 3]
        patient = train_solo(config, replace(TRAIN, patience=3), data, seed)
        assert patient.epochs == (waits[0] + 1 if waits else 14)
        ended += bool(waits)
    assert ended > 0
    assert 0 < early < len(CONFIGS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("at", [1, 4, 7])
def test_an_exported_row_goes_on_with_its_best_epoch(path: str, at: int) -> None:
    data, train = tiny_data(dtype=torch.float32), replace(TRAIN, keep="best", patience=5)
    for config in CONFIGS:
        [whole] = train_cohort([config], train, data, [3], path=path)
        first, second = (Cohort(train, (9, 6), data, 2, path) for _ in range(2))
        first.admit("a", config, 3)
        [before] = first.leg(at)
        second.admit("b", CONFIGS[1], 0)
        assert before.finished == (before.state is not None)
        second.admit("a", config, 3, state=before.state if before.finished else first.export("a"))
        after = next(report for report in second.leg(20) if report.key == "a")
        assert after.finished
        got = History(best_epoch=after.best_epoch, state_dict=after.state_dict or {})
        got.extend(before.metrics)
        got.extend(after.metrics)
        assert identical(got, whole)
        assert got.best_epoch == whole.best_epoch
        assert after.kept == {name: values[whole.best_epoch] for name, values in curves(whole).items()}


def test_recorded_steps_keep_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    train, plain = replace(TRAIN, keep="best", patience=3), EagerPath.__init__
    wanted = train_cohort(CONFIGS, train, tiny_data(), SEEDS, path="eager")

    def with_recordings(self: EagerPath, *args: object, **options: object) -> None:
        plain(self, *args, **options)
        self.recordings = Recordings(lambda work: work)

    monkeypatch.setattr(EagerPath, "__init__", with_recordings)
    got = train_cohort(CONFIGS, train, tiny_data(), SEEDS, path="eager")
    assert all(identical(a, b) for a, b in zip(got, wanted, strict=True))


def rising(outputs: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
    """A score of the mean output, undefined where that is positive."""
    mean = outputs[:, :, 0].double().mean(dim=1)
    return torch.where(mean > 0, math.nan, mean)


@pytest.mark.parametrize("path", PATHS)
def test_a_scorers_metric_may_be_watched(path: str) -> None:
    train = replace(TRAIN, keep="best", patience=4, monitor="rising", minimize=False)
    scorers: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {"rising": rising}
    for config in CONFIGS:
        [got] = train_cohort([config], train, tiny_data(), [1], path=path, scorers=scorers)
        wanted = train_solo(config, train, tiny_data(), 1, scorers)
        assert history_error(got, wanted) < 1e-9
        assert got.best_epoch == wanted.best_epoch == best_epoch(wanted.extra["rising"], minimize=False)


def test_the_earliest_of_equals_is_the_best_and_undefined_values_are_worse_than_any() -> None:
    assert best_epoch([2.0, 1.0, 1.0, 3.0], minimize=True) == 1
    assert best_epoch([2.0, 1.0, 3.0, 3.0], minimize=False) == 2
    assert best_epoch([math.nan, math.nan, 5.0, math.nan], minimize=True) == 2
    assert best_epoch([math.nan, math.nan], minimize=True) == 1
    assert best_epoch([], minimize=True) is None


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_watching_a_metric_that_the_task_lacks_is_refused(task: Task) -> None:
    other = "val_rmse" if task == "classification" else "val_accuracy"
    train, data = TrainConfig(task=task, monitor=other), tiny_data(task)
    with pytest.raises(ValueError, match="monitor is 'val_"):
        train_solo(TrialConfig(), train, data, 0)
    with pytest.raises(ValueError, match="monitor is 'val_"):
        Cohort(train, (4,), data, 1)


@pytest.mark.parametrize("path", PATHS)
def test_scorers_see_every_block_of_a_long_validation_split(path: str) -> None:
    data: Data = tiny_data(v=600)
    seen: list[Tensor] = []

    def keep(outputs: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        seen.append(outputs.clone())
        return outputs.double().mean(dim=(1, 2))

    train = replace(TRAIN, epochs=1)
    [got] = train_cohort(CONFIGS[:1], train, data, [0], path=path, scorers={"mean": keep})
    train_solo(CONFIGS[0], train, data, 0, {"mean": keep})
    assert got.epochs == 1
    torch.testing.assert_close(seen[0][:1], seen[1], rtol=1e-9, atol=1e-12)
