"""Rows that count more than others: losses and metrics are weighted means in the plain run and on every path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sweeper.models import Data, TrainConfig, TrialConfig, train_cohort, train_solo
from sweeper.models.config import Task
from sweeper.models.metrics import make_scorers
from sweeper.models.solo import evaluate, loss_of
from tests.tiny import history_error, identical, tiny_data

PATHS = ["native", "eager"]
TASKS: list[Task] = ["classification", "regression"]
CONFIGS = [
    TrialConfig(hidden_layers=(9, 6), activation=activation, optimizer=optimizer, learning_rate=0.02)
    for activation, optimizer in (("relu", "adam"), ("tanh", "sgd"), ("gelu", "rmsprop"), ("silu", "adamw"))
]


def weighted(task: Task, dtype: torch.dtype = torch.float64, n: int = 23, v: int = 10) -> Data:
    data, generator = tiny_data(task, dtype, n, v), torch.Generator().manual_seed(3)
    w_train, w_val = (torch.rand(rows, generator=generator, dtype=torch.float64).to(dtype) * 3 for rows in (n, v))
    w_train[::5] = 0.0
    return replace(data, w_train=w_train, w_val=w_val)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("batch_size", "n", "v"), [(8, 23, 10), ("full", 300, 600), (1, 23, 10), (290, 300, 10)])
def test_every_path_weighs_rows_as_the_plain_run(task: Task, path: str, batch_size: int | str, n: int, v: int) -> None:
    data = weighted(task, n=n, v=v)
    train = TrainConfig(epochs=3, batch_size=batch_size, clip_norm=0.5, task=task)
    scorers = make_scorers(["loss", "r2" if task == "regression" else "balanced_accuracy"], task)
    histories = train_cohort(CONFIGS, train, data, [0, 1, 2, 3], path=path, scorers=scorers)
    for seed, (config, got) in enumerate(zip(CONFIGS, histories, strict=True)):
        wanted = train_solo(config, train, data, seed, scorers)
        assert history_error(got, wanted) < 1e-9
        assert got.extra["loss"] == pytest.approx(wanted.val_loss, rel=1e-9)
        for name in scorers:
            assert got.extra[name] == pytest.approx(wanted.extra[name], rel=1e-9)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("task", TASKS)
def test_a_rows_float32_numbers_do_not_depend_on_its_neighbours(task: Task, path: str) -> None:
    data, train = weighted(task, torch.float32), TrainConfig(epochs=3, batch_size=8, task=task)
    together = train_cohort(CONFIGS, train, data, [0] * 4, path=path)
    for config, got in zip(CONFIGS, together, strict=True):
        assert identical(got, train_cohort([config], train, data, [0], path=path)[0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("task", TASKS)
def test_equal_weights_are_no_weights(task: Task, path: str) -> None:
    data, train = tiny_data(task), TrainConfig(epochs=3, batch_size=8, task=task)
    even = replace(data, w_train=torch.full((21,), 0.7).double(), w_val=torch.full((10,), 3.0).double())
    histories = (train_cohort(CONFIGS, train, each, [0] * 4, path=path) for each in (data, even))
    for got, wanted in zip(*histories, strict=True):
        assert history_error(got, wanted) < 1e-9


@pytest.mark.parametrize("path", PATHS)
def test_a_row_of_weight_two_is_that_row_twice(path: str) -> None:
    data, train = tiny_data(), TrainConfig(epochs=4, batch_size="full")
    w_train, w_val = torch.ones(21).double(), torch.ones(10).double()
    w_train[3], w_val[4] = 2.0, 2.0
    twice = Data(
        torch.cat([data.x_train, data.x_train[3:4]]), torch.cat([data.y_train, data.y_train[3:4]]),
        torch.cat([data.x_val, data.x_val[4:5]]), torch.cat([data.y_val, data.y_val[4:5]]),
    )  # fmt: skip
    got = train_cohort(CONFIGS, train, replace(data, w_train=w_train, w_val=w_val), [0] * 4, path=path)
    for one, wanted in zip(got, train_cohort(CONFIGS, train, twice, [0] * 4, path=path), strict=True):
        assert history_error(one, wanted) < 1e-9


def test_the_plain_run_is_torchs_weighted_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(9, 3, generator=generator).double(), torch.randint(0, 3, (9,), generator=generator)
    of_class = torch.tensor([0.2, 1.0, 3.0]).double()
    wanted = torch.nn.functional.cross_entropy(z, y, weight=of_class)
    torch.testing.assert_close(loss_of(z, y, "classification", of_class[y]), wanted)
    assert loss_of(z, y, "classification", torch.zeros(9).double()) == 0.0


def test_validation_metrics_are_weighted_means() -> None:
    data = weighted("classification")
    model = torch.nn.Linear(5, 3).double()
    _, accuracy = evaluate(model, data, "classification")
    w, right = data.w_val, model(data.x_val).argmax(dim=1) == data.y_val
    assert w is not None
    assert accuracy == pytest.approx((w[right].sum() / w.sum()).item())


@pytest.mark.parametrize(
    "w", [torch.ones(20).double(), torch.ones(21), -torch.ones(21).double(), torch.zeros(21).double()]
)
def test_weights_that_are_none_are_refused(w: Tensor) -> None:
    with pytest.raises(ValueError, match="w_train"):
        replace(tiny_data(), w_train=w)
