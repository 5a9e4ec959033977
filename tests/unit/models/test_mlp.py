"""build_mlp: structure, initialization, probabilities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sweeper.models import ACTIVATIONS, INITIALIZATIONS, TrialConfig, build_mlp, count_outputs, predict_probabilities
from tests.tiny import tiny_data


def test_layers_alternate_linear_and_activation_and_end_with_a_linear() -> None:
    model = build_mlp(TrialConfig(hidden_layers=(7, 4), activation="tanh"), n_inputs=5, n_outputs=3, seed=0)
    assert [type(module) for module in model] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [tuple(p.shape) for p in model.parameters()] == [(7, 5), (7,), (4, 7), (4,), (3, 4), (3,)]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]


def test_no_hidden_layer_is_one_linear() -> None:
    model = build_mlp(TrialConfig(hidden_layers=()), n_inputs=5, n_outputs=3, seed=0)
    assert [type(module) for module in model] == [nn.Linear]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_the_function_of_its_name(activation: str) -> None:
    model = build_mlp(TrialConfig(hidden_layers=(2,), activation=activation), 1, 1, seed=0)
    z = torch.linspace(-3, 3, 7)
    expected = {
        "relu": z.clamp(min=0),
        "tanh": z.tanh(),
        "sigmoid": 1 / (1 + (-z).exp()),
        "leaky_relu": torch.where(z > 0, z, 0.01 * z),
        "elu": torch.where(z > 0, z, z.exp() - 1),
        "mish": z * torch.log(1 + z.exp()).tanh(),
        "selu": 1.0507009873554805 * torch.where(z > 0, z, 1.6732632423543772 * (z.exp() - 1)),
        "gelu": z * 0.5 * (1 + torch.erf(z / math.sqrt(2))),
        "silu": z / (1 + (-z).exp()),
    }
    torch.testing.assert_close(model[1](z), expected[activation])


VARIANCE = {
    "normal": 0.01**2,
    "xavier_uniform": 2 / (300 + 200),
    "xavier_normal": 2 / (300 + 200),
    "he_uniform": 2 / 300,
    "he_normal": 2 / 300,
    "zeros": 0.0,
}


@pytest.mark.parametrize("scheme", INITIALIZATIONS)
def test_each_initialization_has_its_variance_and_zero_biases(scheme: str) -> None:
    model = build_mlp(TrialConfig(hidden_layers=(200,), initialization=scheme), n_inputs=300, n_outputs=2, seed=3)
    weight = model[0].weight
    assert weight.mean().abs() < 5 * math.sqrt(VARIANCE[scheme] / weight.numel()) + 1e-12
    assert weight.var().item() == pytest.approx(VARIANCE[scheme], rel=0.03)
    bounded = weight.abs().max() <= math.sqrt(3 * VARIANCE[scheme]) * 1.0001
    assert bool(bounded) == (scheme.endswith("uniform") or scheme == "zeros")
    assert all(not module.bias.any() for module in model if isinstance(module, nn.Linear))


def test_weights_depend_on_the_seed_alone() -> None:
    config = TrialConfig(hidden_layers=(6,), initialization="normal")
    torch.manual_seed(1)
    first = build_mlp(config, 5, 3, seed=11)
    before = torch.get_rng_state()
    second = build_mlp(config, 5, 3, seed=11)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first[0].weight, build_mlp(config, 5, 3, seed=12)[0].weight)


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    model, x = build_mlp(TrialConfig(hidden_layers=(6,)), 5, 3, seed=0), torch.randn(4, 5)
    probabilities, logits = predict_probabilities(model, x), model(x)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(probabilities, logits.exp() / logits.exp().sum(dim=1, keepdim=True))
    assert not probabilities.requires_grad


def test_outputs_are_the_classes_or_one_number() -> None:
    assert count_outputs(tiny_data(), "classification") == 3
    assert count_outputs(tiny_data("regression"), "regression") == 1
