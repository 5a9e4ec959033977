"""Buckets: networks of several widths train as one tensor program, and each is its own plain run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from sweeper.models import (
    ACTIVATIONS,
    Cohort,
    History,
    PlateauConfig,
    TrainConfig,
    TrialConfig,
    train_cohort,
    train_solo,
)
from sweeper.models.config import Task
from sweeper.models.rows import places
from sweeper.models.sizes import bucket_of, row_length
from tests.tiny import (
    BLOCKS,
    EMBEDDINGS,
    EXTRAS,
    flow_error,
    history_error,
    identical,
    relative_error,
    tiny_data,
    tolerance,
)

TASKS: list[Task] = ["classification", "regression"]
WIDTHS = [(24, 10), (32, 16), (17, 5), (32, 32), (9, 9)]  # all of one bucket, which one of them fills
USUAL: dict[str, Any] = {"learning_rate": 0.02, "weight_decay": 0.01}
KINDS: list[dict[str, Any]] = [
    *({"activation": name} for name in ACTIVATIONS),
    *({"activation": name, "normalization": "layer"} for name in ("sigmoid", "tanh", "relu")),
    *EXTRAS,
    *({"normalization": "layer"} | extra for extra in EXTRAS[::2]),
    *BLOCKS,
    *BLOCKS[::3],
]
CONFIGS = [TrialConfig(**(USUAL | {"hidden_layers": WIDTHS[n % 5]} | kind)) for n, kind in enumerate(KINDS)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train_config(task: Task = "classification", **rest: Any) -> TrainConfig:
    plateau = PlateauConfig(patience=0, threshold=0.2)
    return TrainConfig(**({"epochs": 2, "batch_size": 8, "clip_norm": 0.5, "plateau": plateau, "task": task} | rest))


def together(configs: Sequence[TrialConfig], train: TrainConfig, data: Any, seeds: Sequence[int]) -> list[History]:
    return train_cohort(configs, train, data, seeds, path="eager", padded=True)


def test_a_bucket_costs_at_most_nine_fourths_of_a_networks_own_products() -> None:
    assert bucket_of((1, 33, 64, 65, 96, 97, 384, 1025)) == (32, 48, 64, 96, 96, 128, 384, 1536)
    assert bucket_of(()) == ()
    for width in range(32, 2000):
        [padded] = bucket_of((width,))
        assert bucket_of((padded,)) == (padded,)
        assert width <= padded < 1.5 * width


@pytest.mark.parametrize("task", TASKS)
def test_every_row_of_a_bucket_is_its_plain_run(task: Task) -> None:
    assert {bucket_of(config.hidden_layers) for config in CONFIGS} == {(32, 32)}
    train, data = train_config(task, gradient_flow=1), tiny_data(task)
    numbers = range(0, len(CONFIGS), 1 if task == "classification" else 2)
    histories = together([CONFIGS[number] for number in numbers], train, data, numbers)
    for number, got in zip(numbers, histories, strict=True):
        config = CONFIGS[number]
        wanted = train_solo(config, train, data, number)
        assert history_error(got, wanted) < tolerance(config), config
        assert flow_error(got, wanted) < tolerance(config), config


def test_deep_rows_with_embeddings_and_weights_of_their_examples() -> None:
    widths = [(24, 10, 30, 4), (5, 5, 5, 5), (32, 32, 32, 32)]
    configs = [
        TrialConfig(**(USUAL | {"hidden_layers": widths[n % 3]} | kind)) for n, kind in enumerate(EMBEDDINGS * 2)
    ]
    configs += [replace(config, residual=True) for config in configs]
    generator = torch.Generator().manual_seed(3)
    data = tiny_data()
    data = replace(
        data,
        columns=torch.tensor([0, 1, 1, 1, 0]),
        w_train=torch.rand(len(data.x_train), generator=generator, dtype=torch.float64),
    )
    train = train_config(keep="best")
    for number, got in enumerate(together(configs, train, data, range(len(configs)))):
        config = configs[number]
        assert history_error(got, train_solo(config, train, data, number)) < tolerance(config), config


def test_a_rows_bits_do_not_depend_on_its_neighbours_nor_on_whether_they_are_padded() -> None:
    train, data = train_config(gradient_flow=1, epochs=2), tiny_data(dtype=torch.float32)
    wanted = together(CONFIGS, train, data, range(len(CONFIGS)))
    backwards = range(len(CONFIGS) - 1, -1, -1)
    for numbers in (list(backwards), [3, 8], [12, 13, 14], *([n] for n in (0, 1, 2, 3, 9, 20, 24))):
        got = together([CONFIGS[n] for n in numbers], train, data, numbers)
        for number, history in zip(numbers, got, strict=True):
            assert identical(history, wanted[number]), CONFIGS[number]
            assert str(history.flow) == str(wanted[number].flow)
    full = [n for n, config in enumerate(CONFIGS) if config.hidden_layers == (32, 32)]
    plain = train_cohort([CONFIGS[n] for n in full], train, data, full, path="eager")
    assert all(identical(got, wanted[n]) for n, got in zip(full, plain, strict=True)), "they fill the bucket"


@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
def test_padded_units_stay_at_exactly_zero(normalization: str) -> None:
    cohort = Cohort(train_config(keep="best"), (32, 32), tiny_data(), 9, normalization=normalization, padded=True)
    for number, name in enumerate(ACTIVATIONS):
        more = {"dropout": 0.3, "ema_decay": 0.9, "optimizer": ("adamw", "lion", "rmsprop")[number % 3]}
        config = TrialConfig(activation=name, hidden_layers=(17, 5), normalization=normalization, **(USUAL | more))
        cohort.admit(name, config, seed=number)
    cohort.leg(1)
    rows = cohort.rows
    padding = torch.ones(rows.theta.shape[1], dtype=torch.bool)
    padding[places((5, 17, 5, 3), rows.sizes, normalization, None)] = False
    for plane in (rows.theta, rows.m, rows.v, rows.average, cohort.kept):
        assert plane is not None
        assert not plane[:, padding].any()
        assert plane[:, ~padding].any()


def test_an_exported_row_fits_any_cohort_of_its_bucket_or_of_its_own_shape() -> None:
    train, data = train_config(epochs=4, keep="best"), tiny_data()
    config = TrialConfig(**(USUAL | {"hidden_layers": (17, 5), "normalization": "batch", "ema_decay": 0.9}))
    here, there, own = (
        Cohort(train, hidden, data, 2, "eager", normalization="batch", padded=hidden == (32, 32))
        for hidden in ((32, 32), (32, 32), (17, 5))
    )
    wanted = train_solo(config, train, data, 7)
    here.admit("neighbour", replace(config, hidden_layers=(24, 10)), seed=1)
    here.admit(0, config, seed=7)
    assert here.parameters(0) == sum(w.numel() for n, w in here.state_dict(0).items() if "running" not in n)
    here.leg(2)
    state = here.export(0)
    assert {len(state[name]) for name in ("theta", "m", "v", "average", "kept")} == {row_length((5, 17, 5, 3), "batch")}
    found = []
    for cohort in (there, own):
        cohort.admit(0, config, seed=7, state=state)
        [report] = cohort.leg(2)
        assert report.state_dict is not None
        assert max(relative_error(report.state_dict[n], w) for n, w in wanted.state_dict.items()) < 1e-9
        assert report.metrics["val_loss"] == pytest.approx(wanted.val_loss[2:], rel=1e-9)
        found.append(report)
    [_, whole] = here.leg(2)
    assert whole.metrics == found[0].metrics, "bit for bit in the same bucket"


def test_a_padded_cohort_takes_no_trial_of_another_bucket() -> None:
    cohort = Cohort(train_config(), (32, 32), tiny_data(), 3, padded=True)
    cohort.admit(0, TrialConfig(hidden_layers=(3, 31)), seed=0)
    for hidden in ((33, 3), (3,), (3, 3, 3)):
        with pytest.raises(ValueError, match="is not this cohort's"):
            cohort.admit(1, TrialConfig(hidden_layers=hidden), seed=0)


def test_the_places_of_a_row_are_those_of_its_units_in_the_wider_one() -> None:
    sizes, padded = (3, 2, 4, 2), (3, 3, 5, 2)
    found = places(sizes, padded, "none", None).tolist()
    ends = [n_out * n_in + n_out for n_in, n_out in pairwise(padded)]
    first = [0, 1, 2, 3, 4, 5, 9, 10]
    second = [ends[0] + 3 * unit + source for unit in range(4) for source in range(2)]
    second += [ends[0] + 15 + unit for unit in range(4)]
    third = [ends[0] + ends[1] + 5 * unit + source for unit in range(2) for source in range(4)]
    third += [ends[0] + ends[1] + 10 + unit for unit in range(2)]
    assert found == first + second + third
