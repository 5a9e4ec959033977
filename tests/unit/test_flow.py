"""Flags: what a trial's gradient flow says went wrong, on made-up reports and on networks trained to go wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from sweeper.flow import find_flags, first_to_last, flags, pack_flow, unpack_flow
from sweeper.models import Data, TrainConfig, TrialConfig, train_cohort
from sweeper.records import FlowReport
from tests.tiny import tiny_data


def report(*gradients: float, epoch: int = 0, **hidden: float) -> FlowReport:
    """Layers of weight norm 2 with these gradient norms; ``hidden`` holds for all layers but the last."""
    layer = {"weight_norm": 2.0, "update_ratio": 1e-3, "activation_mean": 0.0, "activation_std": 1.0}
    last = len(gradients) - 1
    return FlowReport(
        epoch, tuple({**layer, "grad_norm": g, **(hidden if i < last else {})} for i, g in enumerate(gradients))
    )


def kinds(*flow: FlowReport, params: dict[str, Any] | None = None, batch_size: Any = 64) -> list[str]:
    return [flag.kind for flag in find_flags(flow, params, batch_size)]


@pytest.mark.parametrize(
    ("flow", "found"),
    [
        ([], []),
        ([report(1.0)], []),  # logistic regression
        ([report(0.1, 1.0, 1.0)], []),
        ([report(1e-4, 1e-2, 1.0)], ["vanishing"]),
        ([report(0.0, 0.0, 1.0)], ["vanishing"]),
        ([report(1e4, 1e2, 1.0)], ["exploding"]),
        ([report(1.0, 1.0, update_ratio=1.5)], ["exploding"]),
        ([report(1.0, 1.0, update_ratio=math.inf, weight_norm=0.0)], []),  # the first step away from zeros
        ([report(1.0, 1.0, dead=0.6)], ["dead"]),
        ([report(1.0, 1.0, dead=0.6), report(1.0, 1.0, dead=0.4, epoch=1)], []),  # they came back
        ([report(1.0, 1.0, saturated=0.6)], ["saturated"]),
        ([report(1e-9, 1.0), report(1.0, 1.0, epoch=1), report(1.0, 1.0, epoch=2)], []),  # a plateau left at once
    ],
)
def test_a_flag_is_raised_beyond_its_threshold_only(flow: list[FlowReport], found: list[str]) -> None:
    assert kinds(*flow) == found


def test_silent_units_of_small_minibatches_are_not_dead() -> None:
    flow = report(1.0, 1.0, dead=0.6)
    assert kinds(flow, batch_size=1) == kinds(flow, params={"batch_size": 8}) == []
    assert kinds(flow, batch_size="full") == kinds(flow, batch_size=1, params={"batch_size": 32}) == ["dead"]


def test_sentences_name_the_layer_the_number_and_the_epoch() -> None:
    flow = [replace(report(1e-6, 1.0, 1.0), epoch=0), report(1e-6, 1.0, 1.0, epoch=4, dead=0.72, update_ratio=2.5)]
    assert flags(flow) == [
        "vanishing: the first of 3 layers gets 1e-06 times the last layer's gradient (each relative to its weights)",
        "exploding: a step in epoch 4 changed layer 1 by 2.5 times the size of its weights",
        "dead: 72% of the units of layer 1 are 0 for every example in epoch 4",
    ]


def test_the_ratio_is_relative_to_the_weights() -> None:
    assert first_to_last(report(0.5, 1.0)) == 0.5
    assert first_to_last(report(0.5, 1.0, weight_norm=1.0)) == 1.0
    assert first_to_last(report(1.0)) is None
    assert first_to_last(report(1.0, 0.0)) is None


def trained(scale: float = 1.0, batch_size: int = 32, **options: Any) -> list[str]:
    """The kinds of flags of a network of 16 units a layer, trained for three epochs, by way of the ledger's bytes."""
    config = TrialConfig(**({"optimizer": "sgd", "learning_rate": 0.1, "hidden_layers": (16,) * 6} | options))
    data = tiny_data(dtype=torch.float32, n=320)
    data = Data(data.x_train * scale, data.y_train, data.x_val * scale, data.y_val)
    history = train_cohort([config], TrainConfig(epochs=3, batch_size=batch_size, gradient_flow=1), data, [0])[0]
    blobs = [pack_flow(flow.layers.tolist(), flow.clip_rate) for flow in history.flow.values()]
    flow = [unpack_flow(epoch, blob) for epoch, blob in enumerate(blobs)]
    return [flag.kind for flag in find_flags(flow, vars(config) | {"batch_size": batch_size})]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"initialization": "he_normal"}, []),
        ({"initialization": "xavier_normal", "activation": "tanh"}, []),
        ({"initialization": "normal", "activation": "tanh"}, ["vanishing"]),
        ({"initialization": "zeros"}, ["symmetric"]),
        ({"initialization": "zeros", "activation": "sigmoid"}, ["symmetric"]),
        ({"initialization": "zeros", "hidden_layers": ()}, []),
        ({"scale": 1e3, "activation": "tanh", "hidden_layers": (16,), "learning_rate": 1e-6}, ["saturated"]),
        ({"learning_rate": 30.0, "hidden_layers": (16, 16)}, ["vanishing", "dead"]),
        ({"learning_rate": 30.0, "activation": "gelu", "batch_size": 320}, ["exploding"]),
    ],
)
def test_networks_that_go_wrong_are_flagged_and_others_are_not(options: dict[str, Any], found: list[str]) -> None:
    assert trained(**options) == found
