"""Small data and comparisons for the tests of models."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.models import Data, History, TrialConfig
from sweeper.models.config import Task
from sweeper.models.history import METRICS

FUZZ_FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))  # how many times the usual number of random examples
# what a trial may have beyond plain layers, each combined with some of the rest
EXTRAS: list[dict[str, Any]] = [
    {"dropout": 0.2, "activation": "relu", "optimizer": "adam"},
    {"dropout": 0.7, "activation": "gelu", "optimizer": "momentum", "schedule": "one_cycle"},
    {"label_smoothing": 0.1, "activation": "mish", "schedule": "cosine", "warmup_epochs": 1.5, "optimizer": "adamw"},
    {"label_smoothing": 0.3, "ema_decay": 0.9, "activation": "selu", "schedule": "coslog4", "dropout": 0.3},
    {"optimizer": "adagrad", "ema_decay": 0.5, "weight_decay": 0.01, "schedule": "plateau", "warmup_epochs": 2},
    {"optimizer": "nadam", "beta1": 0.8, "schedule": "constant", "warmup_epochs": 0.4},
]
# embeddings whose widths are no multiple of anything
EMBEDDINGS: list[dict[str, Any]] = [
    {"numeric_embedding": "plr", "frequencies": 17, "embedding_size": 7, "category_embedding": 5, "max_one_hot": 2},
    {"numeric_embedding": "pbld", "frequencies": 9, "embedding_size": 18, "frequency_scale": 3.0, "dropout": 0.2},
    {"numeric_embedding": "plr", "frequencies": 33, "embedding_size": 34, "normalization": "layer"},
    {"category_embedding": 17, "max_one_hot": 2, "activation": "silu", "ema_decay": 0.9},
]
# layers of other kinds, each with some of the rest; residual ones want hidden layers of equal width
BLOCKS: list[dict[str, Any]] = [
    {"normalization": "layer", "residual": True, "dropout": 0.3, "activation": "tanh"},
    {"normalization": "batch", "optimizer": "adamw", "weight_decay": 0.1, "ema_decay": 0.8},
    {"normalization": "batch", "residual": True, "dropout": 0.3, "activation": "gelu", "schedule": "cosine"},
    {"normalization": "batch", "parametrization": "ntk", "activation": "sigmoid", "weight_decay": 0.01},
    {"residual": True, "ema_decay": 0.8, "label_smoothing": 0.1, "optimizer": "rmsprop"},
    {"residual": True, "parametrization": "ntk", "activation": "selu", "optimizer": "momentum", "nesterov": True},
    {"parametrization": "ntk", "normalization": "layer", "dropout": 0.2, "initialization": "xavier_normal"},
    {"parametrization": "ntk", "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.02},
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def tiny_data(
    task: Task = "classification", dtype: torch.dtype = torch.float64, n: int = 21, v: int = 10, device: str = "cpu"
) -> Data:
    """n training and v validation examples of 5 features; 3 classes, or a target with noise."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n + v, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(n + v, generator=generator, dtype=torch.float64)
    signal = x[:, 0] - x[:, 1] * x[:, 2] + 0.3 * noise
    y = torch.bucketize(signal, torch.tensor([-0.5, 0.5])) if task == "classification" else signal.to(dtype)
    x = x.to(dtype)
    return Data(x[:n], y[:n], x[n:], y[n:]).to(device)


def tolerance(config: TrialConfig) -> float:
    """How far a float64 run may be from the plain one: torch keeps a product of NAdam's coefficients in float32."""
    return 1e-4 if config.optimizer == "nadam" else 1e-9


def curves(history: History) -> dict[str, list[float]]:
    """The lists of a history by name, only the filled ones."""
    names = ("train_loss", "val_loss", *METRICS.values(), "learning_rate", "grad_norm")
    return {name: getattr(history, name) for name in names if getattr(history, name)}


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """The largest relative difference of two tensors, entry by entry; where both are 0 there is none."""
    difference, size = (got - wanted).abs(), wanted.abs()
    return float(torch.where(difference == 0, 0.0, difference / size).max()) if wanted.numel() else 0.0


def history_error(got: History, wanted: History) -> float:
    """The largest relative difference in any history entry or weight; infinite where lengths or names differ."""
    left, right = curves(got), curves(wanted)
    if left.keys() != right.keys() or got.state_dict.keys() != wanted.state_dict.keys():
        return float("inf")
    if any(len(left[name]) != len(right[name]) for name in right) or got.diverged != wanted.diverged:
        return float("inf")
    errors = [relative_error(torch.tensor(left[n]).double(), torch.tensor(right[n]).double()) for n in right]
    errors += [relative_error(got.state_dict[n], wanted.state_dict[n]) for n in wanted.state_dict]
    return max(errors)


def flow_error(got: History, wanted: History) -> float:
    """The largest difference relative to the wanted number, or to 1e-6 where that is smaller; NaN equals NaN."""
    if got.flow.keys() != wanted.flow.keys():
        return math.inf
    worst = 0.0
    for epoch, flow in wanted.flow.items():
        assert flow.clip_rate == got.flow[epoch].clip_rate
        left, right = got.flow[epoch].layers, flow.layers
        assert torch.equal(left.isnan(), right.isnan())
        error = (left - right).abs() / right.abs().clamp(min=1e-6)
        worst = max(worst, float(error.nan_to_num(0.0).max()))
    return worst


def same_bits(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Whether two state dicts hold the same numbers, NaN in the same places."""
    pairs = [(got[name], wanted[name]) for name in wanted]
    return all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in pairs)


def identical(got: History, wanted: History) -> bool:
    """Whether two histories agree bit for bit."""
    same_weights = same_bits(got.state_dict, wanted.state_dict)
    return curves(got) == curves(wanted) and got.divergence == wanted.divergence and same_weights
