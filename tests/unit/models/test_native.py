"""The compiled CPU path: every built variant trains as plain PyTorch does, whatever the shape, and never crashes."""

from __future__ import annotations

import ctypes
import itertools
import math
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sweeper.models import (
    ACTIVATIONS,
    Data,
    History,
    TrainConfig,
    TrialConfig,
    build_mlp,
    compiled,
    native,
    train_cohort,
    train_solo,
)
from sweeper.models.config import Task
from sweeper.models.mlp import ACTIVATION_MODULES
from sweeper.models.native import NativePath
from sweeper.models.paths import choose
from sweeper.models.rows import EpochSums, Rows
from tests.tiny import BLOCKS, EMBEDDINGS, history_error, tiny_data

BUILT = NativePath.available("cpu")
needs_build = pytest.mark.skipif(not BUILT, reason="the compiled code is not built here")
each_variant = pytest.mark.parametrize("variant", native.variants(), indirect=True)
RULES: list[dict[str, Any]] = [
    {"optimizer": "sgd"},
    {"optimizer": "momentum", "nesterov": True},
    {"optimizer": "rmsprop"},
    {"optimizer": "adam", "beta1": 0.0},
    {"optimizer": "adamw", "clip_norm": 1e9},
    {"optimizer": "momentum", "clip_norm": 0.1, "dropout": 0.4},
    {"optimizer": "adam", "dropout": 0.1},
    {"optimizer": "adamw", "dropout": 0.8},
    {"optimizer": "rmsprop", "clip_norm": 0.1},
]


@pytest.fixture
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """One built variant, the only one there is while the test runs."""
    library = native.variants()[request.param]
    monkeypatch.setattr(native, "variants", lambda: {request.param: library})
    return library


def random_data(task: Task, n: int, D: int, C: int, dtype: torch.dtype = torch.float64) -> Data:
    """n training and 131 validation examples of noise; C classes, or a target."""
    generator, total = torch.Generator().manual_seed(D), n + 131
    x, classes = torch.randn(total, D, generator=generator, dtype=dtype), torch.arange(total) % C
    y = classes if task == "classification" else torch.randn(total, generator=generator, dtype=dtype)
    return Data(x[:n], y[:n], x[n:], y[n:])


def one_epoch(data: Data, config: TrialConfig) -> EpochSums:
    """The sums of one epoch of one trial of 3 classes, by the path itself."""
    sizes = (data.x_train.shape[1], *config.hidden_layers, 3)
    rows = Rows.empty(sizes, 1, data.x_train.dtype)
    rows.admit(0, config, build_mlp(config, sizes[0], 3, seed=0), clip_norm=1.0)
    path = NativePath("classification", 8, data, sizes, width=1)
    return path.epoch(rows, torch.tensor([0]), torch.arange(data.x_train.shape[0])[None])


@each_variant
@pytest.mark.parametrize(
    ("task", "D", "hidden", "C", "batch_size"),
    [
        ("classification", 1, (1,), 2, 1),  # the smallest there is
        ("classification", 17, (31, 33), 19, 50),  # no width a multiple of a vector, a short last batch
        ("classification", 64, (32,), 70, "full"),  # more classes than a panel; a batch in three chunks, the last short
        ("classification", 3, (), 5, 128),  # exactly a chunk, then a rest
        ("regression", 9, (65, 1, 16), 1, 129),  # a chunk and one example
        ("regression", 40, (), 1, 7),
    ],
)
def test_every_variant_trains_any_shape_as_plain_pytorch(
    variant: ctypes.CDLL, task: Task, D: int, hidden: tuple[int, ...], C: int, batch_size: Any
) -> None:
    data = random_data(task, 40 if batch_size == 1 else 301, D, C)
    train = TrainConfig(epochs=2, batch_size=batch_size, task=task)
    trials = [
        TrialConfig(activation=activation, hidden_layers=hidden, learning_rate=0.01, weight_decay=0.1, **rule)
        for activation, rule in zip(itertools.cycle(ACTIVATIONS), RULES, strict=False)
    ]
    for seed, history in enumerate(train_cohort(trials, train, data, range(len(trials)), path="native")):
        assert history_error(history, train_solo(trials[seed], train, data, seed)) < 1e-9, trials[seed]


OTHER_KINDS = [TrialConfig(**{"hidden_layers": (17, 17, 5)} | more) for more in (*BLOCKS, *EMBEDDINGS)]


@cache
def oracle_of_other_kinds() -> tuple[TrainConfig, Data, list[History]]:
    """With a batch of several chunks, numbers, and text columns of 3, 2 and 4 values."""
    columns = torch.tensor([0] * 3 + [1] * 3 + [-1] + [2] * 2 + [0] + [3] * 4)
    data = replace(random_data("classification", 150, 14, 7), columns=columns)
    train = TrainConfig(epochs=1, batch_size=145)
    return train, data, [train_solo(config, train, data, seed) for seed, config in enumerate(OTHER_KINDS)]


@each_variant
def test_every_variant_trains_other_kinds_of_layers_and_embeddings_whatever_their_width(variant: ctypes.CDLL) -> None:
    train, data, wanted = oracle_of_other_kinds()
    found = train_cohort(OTHER_KINDS, train, data, range(len(OTHER_KINDS)), path="native")
    for config, got, history in zip(OTHER_KINDS, found, wanted, strict=True):
        assert history_error(got, history) < 1e-9, config


@each_variant
def test_float32_stays_near_plain_pytorch_in_float64(variant: ctypes.CDLL) -> None:
    train = TrainConfig(epochs=3, batch_size=32)
    trials = [TrialConfig(activation=activation, hidden_layers=(40, 24)) for activation in ACTIVATIONS]
    single = random_data("classification", 200, 20, 6, torch.float32)
    double = Data(single.x_train.double(), single.y_train, single.x_val.double(), single.y_val)
    histories = train_cohort(trials, train, single, [0] * len(trials), path="native")
    for trial, history in zip(trials, histories, strict=True):
        wanted = train_solo(trial, train, double, seed=0)
        assert history.state_dict["0.weight"].dtype == torch.float32
        assert history.val_loss == pytest.approx(wanted.val_loss, rel=2e-5), trial.activation
        assert history.grad_norm == pytest.approx(wanted.grad_norm, rel=2e-4), trial.activation


@each_variant
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-6), (torch.float64, 1e-14)], ids=["single", "double"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_good_to_a_few_units_in_the_last_place(
    variant: ctypes.CDLL, activation: str, dtype: torch.dtype, error: float
) -> None:
    """A frozen net of one unit shows f(x) as the root of its validation loss against 0."""
    config = TrialConfig(optimizer="sgd", learning_rate=1e-30, activation=activation, hidden_layers=(1,))
    rows = Rows.empty((1, 1, 1), 1, dtype)
    rows.admit(0, config, nn.Linear(1, 1), clip_norm=None)
    rows.theta[0, :4] = torch.tensor([1.0, 0.0, 1.0, 0.0])
    exact = ACTIVATION_MODULES[activation]()
    sizes = [1e-30, 1e-7, 1e-3, 0.1, 0.3, 0.5, 0.9, 1.1, 1.5, 3.0, 5.0, 8.5, 10.0, 20.0, 80.0, 87.5, 95.0, 1e4]
    for x in [torch.tensor([[sign * size]], dtype=dtype) for size in sizes for sign in (1, -1)]:
        at_zero = exact(torch.zeros(1, dtype=dtype))  # the training example is fitted, so that nothing moves
        data = Data(torch.zeros(1, 1, dtype=dtype), at_zero, x, torch.zeros(1, dtype=dtype))
        path = NativePath("regression", 1, data, rows.sizes, 1)
        got = path.epoch(rows, torch.tensor([0]), torch.tensor([[0]])).val_metric.item()
        # gelu is x * Phi(x): in the lower tail Phi is a difference from 1
        floor = error / 20 * abs(x.item()) if activation == "gelu" else 1e-36
        assert got == pytest.approx(exact(x.double()).abs().item(), rel=error, abs=floor), x.item()


@needs_build
def test_only_the_active_slots_change_and_their_steps_are_counted() -> None:
    data, config = tiny_data(dtype=torch.float32), TrialConfig(hidden_layers=(4,))
    rows = Rows.empty((5, 4, 3), 4, torch.float32)
    for slot in range(4):
        rows.admit(slot, config, build_mlp(config, 5, 3, slot), clip_norm=None)
    before = rows.theta.clone()
    path = NativePath("classification", 8, data, rows.sizes, width=4, threads=2)
    path.epoch(rows, torch.tensor([3, 1]), torch.arange(21).repeat(2, 1))
    changed = [not torch.equal(rows.theta[slot], before[slot]) for slot in range(4)]
    assert changed == [False, True, False, True]
    assert rows.t.tolist() == [0, 3, 0, 3]  # 21 examples in batches of 8
    assert [bool(rows.m[slot].any()) for slot in range(4)] == changed
    assert not rows.theta[:, -1].any(), "the padding of a row stays zero"


@needs_build
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_input_that_breaks_a_row_shows_in_its_numbers(broken: float, activation: str) -> None:
    data = tiny_data(dtype=torch.float32)
    x = data.x_train.clone()
    x[4] = broken
    config = TrialConfig(hidden_layers=(6,), activation=activation, learning_rate=10.0)
    sums = one_epoch(Data(x, data.y_train, data.x_val, data.y_val), config)
    assert len(sums.train_loss) == 1, "it came back"
    if math.isnan(broken):
        assert all(math.isnan(number.item()) for number in (sums.train_loss, sums.grad_norm, sums.val_loss))


@needs_build
def test_a_label_without_an_output_gives_nan_instead_of_a_crash() -> None:
    data = tiny_data(dtype=torch.float32)
    y = data.y_val.clone()
    y[0], y[1] = 2**40, -1
    sums = one_epoch(Data(data.x_train, data.y_train, data.x_val, y), TrialConfig(hidden_layers=(4,)))
    assert math.isfinite(sums.train_loss.item())
    assert math.isnan(sums.val_loss.item())


@needs_build
def test_tiny_numbers_are_as_before_once_an_epoch_is_over() -> None:
    one_epoch(tiny_data(dtype=torch.float32), TrialConfig(hidden_layers=(4,)))
    assert (torch.tensor([1e-40]) * 0.5).item() > 0


def test_without_the_compiled_code_auto_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "variants", dict)
    data = tiny_data()
    assert choose("auto", data).name == "eager"
    with pytest.raises(ValueError, match="'native' is not available on cpu: use auto or one of eager"):
        choose("native", data)


@needs_build
def test_auto_is_native_where_it_is_built() -> None:
    assert choose("auto", tiny_data()).name == "native"


def test_a_library_of_another_machine_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "_native.so").write_bytes(b"not a library")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    assert compiled.libraries.__wrapped__() == {}


@needs_build
def test_a_library_of_other_sources_is_refused_with_the_command_that_builds_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(compiled.__file__).parent
    for file in (*folder.glob("native*.cpp"), *folder.glob("native*.h"), *folder.glob("_native.*")):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    assert list(compiled.libraries.__wrapped__()) == ["_native"]
    (tmp_path / "native_gemm.h").write_text("// edited since", encoding="utf-8")
    with pytest.raises(compiled.StaleBuildError, match=r"other sources than .* Run: python setup.py build_ext"):
        compiled.libraries.__wrapped__()
