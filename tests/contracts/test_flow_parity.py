"""Every training path measures the gradient flow that hooks see in the plain PyTorch run, and changes nothing by it."""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from sweeper.models import (
    ACTIVATIONS,
    INITIALIZATIONS,
    OPTIMIZERS,
    Cohort,
    Data,
    History,
    TrainConfig,
    TrialConfig,
    native,
    train_cohort,
    train_solo,
)
from sweeper.models.config import FLOW_STATISTICS, Task
from sweeper.models.paths import PATHS
from tests.tiny import BLOCKS, EXTRAS, flow_error, identical, tiny_data, tolerance

TASKS: list[Task] = ["classification", "regression"]
CPU_PATHS = [name for name, path in PATHS.items() if path.available(torch.device("cpu"))]
PLACES = [(name, "cpu") for name in CPU_PATHS] + [pytest.param("eager", "cuda", marks=pytest.mark.cuda)]
HIDDEN = (6, 5)
EVERY_KIND = [
    TrialConfig(
        optimizer=optimizer, activation=activation, initialization=initialization, learning_rate=0.02,
        weight_decay=0.01 * (number % 2), nesterov=number % 3 == 0, hidden_layers=HIDDEN,
    )
    for number, ((optimizer, activation), initialization) in enumerate(
        zip(itertools.product(OPTIMIZERS, ACTIVATIONS), itertools.cycle(INITIALIZATIONS))
    )
]  # fmt: skip
SEEDS = [number % 3 for number in range(len(EVERY_KIND))]
MIXED = EVERY_KIND[::3]


def train_config(task: Task = "classification", epochs: int = 3, interval: int | None = 1, **rest: Any) -> TrainConfig:
    return TrainConfig(epochs=epochs, task=task, gradient_flow=interval, **({"batch_size": 8, "clip_norm": 0.5} | rest))


def same_flow(got: History, wanted: History) -> bool:
    """Whether two histories hold the same flow, bit for bit."""
    return got.flow.keys() == wanted.flow.keys() and all(
        torch.allclose(got.flow[e].layers, flow.layers, rtol=0, atol=0, equal_nan=True)
        and got.flow[e].clip_rate == flow.clip_rate
        for e, flow in wanted.flow.items()
    )


@cache
def oracle(task: Task) -> list[History]:
    return [train_solo(c, train_config(task), tiny_data(task), s) for c, s in zip(EVERY_KIND, SEEDS, strict=True)]


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("task", TASKS)
def test_every_optimizer_and_activation(task: Task, path: str, device: str) -> None:
    histories = train_cohort(EVERY_KIND, train_config(task), tiny_data(task, device=device), SEEDS, path=path)
    for config, got, wanted in zip(EVERY_KIND, histories, oracle(task), strict=True):
        assert set(wanted.flow) == {0, 1, 2}
        assert flow_error(got, wanted) < tolerance(config), config


@pytest.mark.parametrize(("path", "device"), PLACES)
def test_dropout_and_everything_beyond_plain_layers(path: str, device: str) -> None:
    extras = [*EXTRAS, *({"normalization": "layer"} | extra for extra in EXTRAS)]
    extras += [{"hidden_layers": (6, 6, 5)} | block for block in BLOCKS]
    configs = [TrialConfig(**({"learning_rate": 0.02, "hidden_layers": HIDDEN} | extra)) for extra in extras]
    data, train = tiny_data(device=device), train_config()
    for number, got in enumerate(train_cohort(configs, train, data, range(len(configs)), path=path)):
        config = configs[number]
        assert flow_error(got, train_solo(config, train, data, number)) < tolerance(config), config


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize(
    ("hidden", "batch_size"),
    [((), 8), ((1,), 8), ((4, 3, 6, 5), 8), ((5,), "full"), ((5,), 1000), ((5,), 1), ((5,), 12)],
)
@pytest.mark.parametrize("task", TASKS)
def test_every_shape(task: Task, hidden: tuple[int, ...], batch_size: Any, path: str, device: str) -> None:
    configs = [replace(config, hidden_layers=hidden) for config in MIXED]
    data, train = tiny_data(task, n=23, device=device), train_config(task, epochs=2, batch_size=batch_size)
    for config, got in zip(configs, train_cohort(configs, train, data, [0] * len(configs), path=path), strict=True):
        assert got.flow[1].layers.shape == (len(hidden) + 1, len(FLOW_STATISTICS))
        assert flow_error(got, train_solo(config, train, data, 0)) < tolerance(config), config


@pytest.mark.parametrize("module", native.variants())
@pytest.mark.parametrize("hidden", [(31, 33), (65, 1, 16)])
def test_every_built_variant_with_batches_of_several_chunks(
    module: str, hidden: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    library: ctypes.CDLL = native.variants()[module]
    monkeypatch.setattr(native, "variants", lambda: {module: library})
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(331, 17, generator=generator, dtype=torch.float64), torch.arange(331) % 19
    data, train = Data(x[:300], y[:300], x[300:], y[300:]), train_config(batch_size=290, epochs=2)
    configs = [TrialConfig(hidden_layers=hidden, activation=name, learning_rate=0.1) for name in ACTIVATIONS]
    for config, got in zip(configs, train_cohort(configs, train, data, [0] * len(configs), path="native"), strict=True):
        assert flow_error(got, train_solo(config, train, data, 0)) < tolerance(config), config


@pytest.mark.parametrize("path", CPU_PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_number_of_the_training_changes_by_a_bit(dtype: torch.dtype, path: str) -> None:
    data = tiny_data(dtype=dtype)
    configs = [replace(config, hidden_layers=(33, 20)) for config in MIXED]
    plain = train_cohort(configs, train_config(interval=None), data, range(len(configs)), path=path)
    for interval in (1, 2):
        measured = train_cohort(configs, train_config(interval=interval), data, range(len(configs)), path=path)
        assert all(identical(a, b) for a, b in zip(plain, measured, strict=True))
        assert all(set(history.flow) == set(range(0, 3, interval)) for history in measured)
    assert not any(history.flow for history in plain)


@pytest.mark.parametrize("path", CPU_PATHS)
@pytest.mark.parametrize("hidden", [HIDDEN, (64, 130), (1,)])
def test_a_trials_flow_is_the_same_whatever_width_slot_and_neighbours(path: str, hidden: tuple[int, ...]) -> None:
    data, train = tiny_data(dtype=torch.float32), train_config(interval=2)
    configs = [replace(config, hidden_layers=hidden) for config in EVERY_KIND[::2]]
    numbers = list(range(len(configs)))
    wanted = train_cohort(configs, train, data, numbers, path=path)
    for order, width in [(numbers[::-1], None), (numbers[5:] + numbers[:5], 3), ([16, 2], 2), ([4], 1), ([7], 1)]:
        got = train_cohort([configs[i] for i in order], train, data, order, path=path, width=width)
        assert all(same_flow(history, wanted[i]) for i, history in zip(order, got, strict=True)), order


@pytest.mark.parametrize("path", CPU_PATHS)
def test_rows_at_different_epochs_are_measured_at_their_own(path: str) -> None:
    data, train = tiny_data(), train_config(epochs=5, interval=3)
    cohort = Cohort(train, HIDDEN, data, width=2, path=path)
    cohort.admit("first", MIXED[0], seed=0)
    assert [set(report.flow) for report in cohort.leg(2)] == [{0}]
    state = cohort.export("first")
    cohort.admit("second", MIXED[1], seed=0)
    assert [set(report.flow) for report in cohort.leg(2)] == [{3}, {0}]
    elsewhere = Cohort(train, HIDDEN, data, width=1, path=path)
    elsewhere.admit("first", MIXED[0], seed=0, state=state)
    (report,) = elsewhere.leg(3)
    wanted = train_solo(MIXED[0], train, data, 0)
    assert set(report.flow) == {3}
    assert torch.allclose(report.flow[3].layers, wanted.flow[3].layers, rtol=1e-9, equal_nan=True)


@pytest.mark.parametrize("path", CPU_PATHS)
def test_a_gradient_whose_square_is_no_float32_is_measured(path: str) -> None:
    config = TrialConfig(initialization="normal", activation="sigmoid", hidden_layers=(4,) * 10, optimizer="sgd")
    single, double = tiny_data(dtype=torch.float32), tiny_data()
    got = train_cohort([config], train_config(epochs=1), single, [0], path=path)[0].flow[0].layers[:, 0]
    wanted = train_solo(config, train_config(epochs=1), double, 0).flow[0].layers[:, 0]
    assert 0 < wanted[0] < 1e-18
    assert torch.allclose(got, wanted, rtol=1e-3, atol=0)


def test_what_the_statistics_say_of_networks_whose_flow_is_known() -> None:
    data, index = tiny_data(), FLOW_STATISTICS.index
    zeros = TrialConfig(initialization="zeros", hidden_layers=HIDDEN, optimizer="sgd")
    for activation, mean in (("relu", 0.0), ("tanh", 0.0), ("sigmoid", 0.5)):
        layers = train_solo(replace(zeros, activation=activation), train_config(batch_size=21), data, 0).flow[0].layers
        assert layers[:2, index("grad_norm")].tolist() == [0.0, 0.0]
        assert layers[0, index("activation_mean")] == mean
        assert layers[0, index("activation_std")] == 0.0
        assert layers[0, index("update_ratio")] == 0.0
    assert train_solo(zeros, train_config(), data, 0).flow[0].layers[0, index("dead")] == 1.0
    huge = Data(data.x_train * 1e3, data.y_train, data.x_val, data.y_val)
    tanh = replace(zeros, initialization="he_normal", activation="tanh", learning_rate=1e-9)
    layers = train_solo(tanh, train_config(), huge, 0).flow[0].layers
    assert layers[0, index("saturated")] > 0.9
    assert layers[:, index("dead")].isnan().all()
    rates = [train_solo(tanh, train_config(clip_norm=clip), huge, 0).flow[0].clip_rate for clip in (1e-9, 1e9, None)]
    assert rates == [1.0, 0.0, 0.0]
