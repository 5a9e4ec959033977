"""The variants of the compiled path with fused multiply-add give the same bits, whatever the width of a register."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from sweeper.models import (
    ACTIVATIONS,
    INITIALIZATIONS,
    OPTIMIZERS,
    Data,
    History,
    TrainConfig,
    TrialConfig,
    native,
    train_cohort,
)
from sweeper.models.config import NORMALIZATIONS, PARAMETRIZATIONS, SCHEDULES, Task
from tests.tiny import EMBEDDINGS, identical

WIDE, NARROW = "_native_v4", "_native_v3"
BUILT = native.variants()
needs_both = pytest.mark.skipif(
    not {WIDE, NARROW} <= set(BUILT), reason="this processor does not run both variants, or they are not built"
)
TAILS = [(1,), (3, 17), (33, 33), (128, 8)]
KINDS = list(itertools.product(ACTIVATIONS, OPTIMIZERS, INITIALIZATIONS, TAILS))


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``train_cohort`` of both variants, on the same arguments."""

    def train(*arguments: Any) -> list[list[History]]:
        both = []
        for module in (WIDE, NARROW):
            monkeypatch.setattr(native, "variants", lambda module=module: {module: BUILT[module]})
            both.append(train_cohort(*arguments, path="native"))
        return both

    return train


def noise(task: Task, dtype: torch.dtype, *, tiny: float = 1.0, weights: bool = False) -> Data:
    """70 training and 37 validation rows of 9 columns, a third of them times ``tiny``; 19 classes, or a target."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(107, 9, generator=generator, dtype=torch.float64)
    x[::3] *= tiny
    y = torch.arange(107) % 19 if task == "classification" else x.sum(dim=1).to(dtype)
    w = torch.rand(107, generator=generator, dtype=torch.float64).to(dtype) if weights else None
    x = x.to(dtype)
    return Data(x[:70], y[:70], x[70:], y[70:], *(None, None) if w is None else (w[:70], w[70:]))


@needs_both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_kind_of_row_has_the_same_bits_on_narrow_and_on_wide_registers(
    variants: Any, task: Task, dtype: torch.dtype
) -> None:
    train = TrainConfig(epochs=2, batch_size=16, task=task, gradient_flow=1)
    trials = [
        TrialConfig(
            activation=activation, optimizer=optimizer, initialization=initialization, hidden_layers=hidden,
            learning_rate=0.02, weight_decay=0.01, nesterov=True, dropout=0.3 * (optimizer == "adam"),
            schedule=SCHEDULES[number % 5], label_smoothing=0.1 * (number % 2), ema_decay=0.9 * (number % 4 == 1),
            normalization=NORMALIZATIONS[number % 3], residual=number % 7 == 0,
            parametrization=PARAMETRIZATIONS[number % 2],
        )
        for number, (activation, optimizer, initialization, hidden) in enumerate(KINDS[task == "regression" :: 11])
    ]  # fmt: skip
    for trial, wide, narrow in zip(
        trials, *variants(trials, train, noise(task, dtype), range(len(trials))), strict=True
    ):
        assert identical(wide, narrow), trial
        assert [flow.layers.nan_to_num(7.0).tolist() for flow in wide.flow.values()] == [
            flow.layers.nan_to_num(7.0).tolist() for flow in narrow.flow.values()
        ]


@needs_both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_embeddings_have_the_same_bits(variants: Any, dtype: torch.dtype) -> None:
    data = replace(noise("classification", dtype), columns=torch.tensor([0, 0, -1, 1, 1, 1, 2, 2, 0]))
    trials = [TrialConfig(hidden_layers=(33,), learning_rate=0.02, **more) for more in EMBEDDINGS]
    train = TrainConfig(epochs=2, batch_size=16)
    for trial, wide, narrow in zip(trials, *variants(trials, train, data, range(len(trials))), strict=True):
        assert identical(wide, narrow), trial


@needs_both
@pytest.mark.parametrize(("dtype", "tiny"), [(torch.float32, 1e-41), (torch.float64, 1e-310)], ids=["single", "double"])
def test_inputs_too_small_for_a_normal_number_have_the_same_bits(
    variants: Any, dtype: torch.dtype, tiny: float
) -> None:
    data = noise("classification", dtype, tiny=tiny, weights=True)
    assert ((data.x_train != 0) & (data.x_train.abs() < torch.finfo(dtype).tiny)).any()
    train = TrainConfig(epochs=2, batch_size=64)
    trials = [TrialConfig(activation=a, optimizer=o, hidden_layers=(17,)) for a in ACTIVATIONS for o in ("adam", "sgd")]
    for wide, narrow in zip(*variants(trials, train, data, [1] * len(trials)), strict=True):
        assert identical(wide, narrow)


def digest_of_digits(module: str) -> str:
    """What 64 points on digits give with one variant: their curves and weights."""
    native.variants = lambda: {module: BUILT[module]}  # type: ignore[assignment]
    x, y = load_digits(return_X_y=True)
    inputs, labels = torch.tensor((x - 8.0) / 8.0, dtype=torch.float32), torch.tensor(y)
    trials = [
        TrialConfig(
            activation=activation, optimizer=optimizer, initialization=initialization,
            learning_rate=10.0 ** -(1 + number % 4), weight_decay=1e-4,
        )
        for number, (activation, optimizer, initialization, _) in enumerate(KINDS[:: len(KINDS) // 64][:64])
    ]  # fmt: skip
    data = Data(inputs[:1437], labels[:1437], inputs[1437:], labels[1437:])
    found = hashlib.sha256()
    for history in train_cohort(trials, TrainConfig(epochs=2), data, [0] * 64, path="native"):
        found.update(repr((history.train_loss, history.val_loss, history.val_accuracy, history.grad_norm)).encode())
        for tensor in history.state_dict.values():
            found.update(tensor.numpy().tobytes())
    return found.hexdigest()


@needs_both
def test_digits_give_the_same_bits_where_torch_has_narrow_registers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "variants", native.variants)  # put back at the end
    root = Path(__file__).parents[3]
    program = f"from tests.unit.models.test_same_bits import *; print(digest_of_digits({NARROW!r}))"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2", "PYTHONPATH": str(root)}
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root, env=environment
    )
    assert other.stdout.split()[-1] == digest_of_digits(WIDE)
