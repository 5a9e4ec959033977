"""Every training path gives the numbers of the plain PyTorch run."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch

from sweeper.models import (
    ACTIVATIONS,
    INITIALIZATIONS,
    OPTIMIZERS,
    Data,
    History,
    PlateauConfig,
    TrainConfig,
    TrialConfig,
    train_cohort,
    train_solo,
)
from sweeper.models.config import Task
from sweeper.models.paths import PATHS
from tests.tiny import BLOCKS, EXTRAS, history_error, identical, relative_error, tiny_data, tolerance

TASKS: list[Task] = ["classification", "regression"]
PLATEAU = PlateauConfig(patience=0, threshold=0.2)  # reduces within five epochs
CPU_PATHS = [name for name, path in PATHS.items() if path.available(torch.device("cpu"))]
PLACES = [(name, "cpu") for name in CPU_PATHS] + [pytest.param("eager", "cuda", marks=pytest.mark.cuda)]

EVERY_KIND = [
    TrialConfig(
        optimizer=optimizer, activation=activation, initialization=initialization, learning_rate=0.02,
        weight_decay=0.01 * (number % 2), nesterov=number % 3 == 0, hidden_layers=(6, 5),
    )
    for number, ((optimizer, activation), initialization) in enumerate(
        zip(itertools.product(OPTIMIZERS, ACTIVATIONS), itertools.cycle(INITIALIZATIONS))
    )
]  # fmt: skip
SEEDS = [number % 3 for number in range(len(EVERY_KIND))]
MIXED = EVERY_KIND[::4]


def train_config(task: Task, epochs: int = 5, batch_size: int = 8, clip_norm: float | None = 0.5) -> TrainConfig:
    return TrainConfig(epochs=epochs, batch_size=batch_size, clip_norm=clip_norm, plateau=PLATEAU, task=task)


@cache
def oracle(task: Task, dtype: torch.dtype) -> list[History]:
    data = tiny_data(task, dtype)
    return [train_solo(c, train_config(task), data, s) for c, s in zip(EVERY_KIND, SEEDS, strict=True)]


@pytest.mark.parametrize("task", TASKS)
def test_the_oracle_clips_reduces_and_ends_epochs_with_a_short_minibatch(task: Task) -> None:
    histories = oracle(task, torch.float64)
    assert len(tiny_data(task).x_train) % 8 != 0
    assert sum(max(h.grad_norm) > 0.5 for h in histories) > len(histories) / 4
    assert sum(h.learning_rate[-1] < 0.02 for h in histories) > len(histories) / 2


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("task", TASKS)
def test_every_optimizer_activation_and_initialization_in_one_cohort(task: Task, path: str, device: str) -> None:
    data = tiny_data(task, device=device)
    histories = train_cohort(EVERY_KIND, train_config(task), data, SEEDS, path=path)
    errors = [history_error(got, wanted) for got, wanted in zip(histories, oracle(task, torch.float64), strict=True)]
    for config, error in zip(EVERY_KIND, errors, strict=True):
        assert error < tolerance(config), config


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("task", TASKS)
def test_dropout_and_everything_beyond_plain_layers_in_one_cohort(task: Task, path: str, device: str) -> None:
    extras = [
        *EXTRAS,
        *({"normalization": "layer"} | extra for extra in EXTRAS),
        {"normalization": "layer", "hidden_layers": ()},
    ]
    configs = [TrialConfig(**({"learning_rate": 0.02, "hidden_layers": (6, 5)} | extra)) for extra in extras]
    data, train = tiny_data(task, device=device), train_config(task)
    for number, got in enumerate(train_cohort(configs, train, data, range(len(configs)), path=path)):
        config = configs[number]
        assert history_error(got, train_solo(config, train, data, number)) < tolerance(config), config


def blocks() -> list[TrialConfig]:
    """Of each kind a trial, and some of them without a hidden layer."""
    usual = {"learning_rate": 0.02, "hidden_layers": (6, 6, 4, 4)}
    kinds = [*BLOCKS, *(block | {"hidden_layers": ()} for block in BLOCKS[2:6:2])]
    return [TrialConfig(**(usual | kind)) for kind in kinds]


@cache
def oracle_of_blocks(task: Task) -> list[History]:
    return [train_solo(c, train_config(task, epochs=3), tiny_data(task), seed) for seed, c in enumerate(blocks())]


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("task", TASKS)
def test_normalisations_residual_sums_and_parametrizations_in_one_cohort(task: Task, path: str, device: str) -> None:
    configs, data = blocks(), tiny_data(task, device=device)
    histories = train_cohort(configs, train_config(task, epochs=3), data, range(len(configs)), path=path)
    for config, got, wanted in zip(configs, histories, oracle_of_blocks(task), strict=True):
        assert history_error(got, wanted) < tolerance(config), config


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("task", TASKS)
def test_float32_losses(task: Task, path: str, device: str) -> None:
    data = tiny_data(task, torch.float32, device=device)
    histories = train_cohort(EVERY_KIND, train_config(task), data, SEEDS, path=path)
    for got, wanted, config in zip(histories, oracle(task, torch.float64), EVERY_KIND, strict=True):
        assert got.state_dict["0.weight"].dtype == torch.float32
        for curve in ("train_loss", "val_loss"):
            assert getattr(got, curve)[-1] == pytest.approx(getattr(wanted, curve)[-1], rel=1e-3), config


SHAPES = {
    "logistic": ((), 8),
    "one unit": ((1,), 8),
    "deep": ((4, 3, 6, 5), 8),
    "full batch": ((5,), "full"),
    "batch larger than the data": ((5,), 1000),
    "stochastic": ((5,), 1),
}


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("task", TASKS)
def test_every_shape(task: Task, shape: str, path: str, device: str) -> None:
    hidden, batch_size = SHAPES[shape]
    configs = [TrialConfig(**(vars(c) | {"hidden_layers": hidden, "batch_size": batch_size})) for c in MIXED]
    # 23 examples are not as many of each class: sums that are 0 but for rounding would be Adam's to blow up
    data, train = tiny_data(task, n=23, device=device), train_config(task, epochs=2)
    histories = train_cohort(configs, train, data, SEEDS[: len(configs)], path=path)
    for config, seed, got in zip(configs, SEEDS, histories, strict=False):
        assert history_error(got, train_solo(config, train, data, seed)) < tolerance(config), config


@pytest.mark.parametrize(("path", "device"), PLACES)
def test_validation_larger_than_one_block_and_one_epoch_without_clipping_or_plateau(path: str, device: str) -> None:
    data, train = tiny_data(v=600, device=device), TrainConfig(epochs=1, batch_size=8, clip_norm=None, plateau=None)
    for config, got in zip(MIXED, train_cohort(MIXED, train, data, [0] * len(MIXED), path=path), strict=True):
        assert history_error(got, train_solo(config, train, data, 0)) < tolerance(config)


@pytest.mark.parametrize("path", CPU_PATHS)
def test_a_trials_own_clip_norm_holds(path: str) -> None:
    configs = [TrialConfig(hidden_layers=(4,), clip_norm=bound, optimizer="sgd") for bound in (None, 1e-3, 10.0)]
    data, train = tiny_data(), train_config("classification")
    for config, got in zip(configs, train_cohort(configs, train, data, [0] * 3, path=path), strict=True):
        assert history_error(got, train_solo(config, train, data, 0)) < 1e-9


@pytest.mark.parametrize("path", CPU_PATHS)
@pytest.mark.parametrize("task", TASKS)
def test_divergence_is_the_plain_runs_and_stays_in_its_row(task: Task, path: str) -> None:
    data, train = tiny_data(task, torch.float32), train_config(task, epochs=12, clip_norm=None)
    wild = [
        TrialConfig(optimizer="sgd", activation="relu", hidden_layers=(6, 5), learning_rate=rate)
        for rate in (1e4, 1e30)
    ]
    calm = MIXED[:3]
    mixed = [calm[0], wild[0], calm[1], wild[1], calm[2]]
    histories = train_cohort(mixed, train, data, [0] * 5, path=path)
    for config, got in zip(mixed, histories, strict=True):
        wanted = train_solo(config, train, data, 0)
        assert (got.diverged, got.epochs) == (wanted.diverged, wanted.epochs)
    assert histories[3].diverged
    alone = train_cohort(calm, train, data, [0] * 3, path=path)
    assert all(identical(got, wanted) for got, wanted in zip(histories[::2], alone, strict=True))


@pytest.mark.cuda
def test_paths_agree_across_devices() -> None:
    on_cuda: Data = tiny_data(device="cuda")
    train = train_config("classification")
    left = train_cohort(MIXED, train, on_cuda, [0] * len(MIXED))
    right = train_cohort(MIXED, train, tiny_data(), [0] * len(MIXED), path="eager")
    for got, wanted in zip(left, right, strict=True):
        assert relative_error(torch.tensor(got.val_loss), torch.tensor(wanted.val_loss)) < 1e-9
