"""The hand-written backward pass against autograd and against finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sweeper.models import ACTIVATIONS, TrialConfig, build_mlp
from sweeper.models.activations import KERNELS
from sweeper.models.config import Task
from sweeper.models.eager import loss_and_gradient
from sweeper.models.network import Network, segments
from sweeper.models.rows import Rows, linear_slices
from sweeper.models.solo import loss_of

TASKS: list[Task] = ["classification", "regression"]


def central_differences(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """The gradient of a scalar ``function`` at ``at``, one entry at a time."""
    gradient = torch.zeros_like(at)
    for index in itertools.product(*(range(size) for size in at.shape)):
        up, down = at.clone(), at.clone()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def targets(task: Task, rows: int, batch: int, generator: torch.Generator) -> Tensor:
    if task == "classification":
        return torch.randint(0, 3, (rows, batch), generator=generator)
    return torch.randn(rows, batch, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("task", TASKS)
def test_output_gradient_is_prediction_minus_target(task: Task) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = 3 if task == "classification" else 1
    z = torch.randn(2, outputs, 4, generator=generator, dtype=torch.float64)  # (A, C, B)
    y = targets(task, 2, 4, generator)

    def total(output: Tensor) -> Tensor:
        return torch.stack([loss_of(row.T, target, task) for row, target in zip(output, y, strict=True)]).sum()

    leaf = z.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(total(leaf), leaf)
    loss, gradient = loss_and_gradient(z.clone(), y, task)
    torch.testing.assert_close(loss.sum(), total(z))
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, central_differences(total, z), rtol=1e-7, atol=1e-8)
    if task == "classification":  # (y_hat - y) / B
        onehot = functional.one_hot(y, 3).transpose(1, 2)
        torch.testing.assert_close(gradient, (torch.softmax(z, dim=1) - onehot) / 4)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradient(name: str) -> None:
    z = torch.tensor([[-3.0, -1.0, -0.2, 0.1, 0.7, 2.5]]).double()
    weight = torch.linspace(1.0, 2.0, 6).double()[None]
    kernel, h, dz = KERNELS[name], torch.empty_like(z), torch.empty_like(z)
    module = build_mlp(TrialConfig(hidden_layers=(1,), activation=name), 1, 1, 0)[1]
    leaf = z.clone().requires_grad_()
    (wanted,) = torch.autograd.grad((module(leaf) * weight).sum(), leaf)
    kernel.forward(z, h)
    torch.testing.assert_close(h, module(z), rtol=1e-14, atol=1e-15)
    kernel.backward(weight, z, h, dz)
    torch.testing.assert_close(dz, wanted, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(dz, central_differences(lambda at: (module(at) * weight).sum(), z), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_every_weight_gradient(task: Task, hidden: tuple[int, ...]) -> None:
    """dL/dW = dz h^T, dL/db = sum dz; layer by layer, one row per activation."""
    generator, outputs = torch.Generator().manual_seed(1), 3 if task == "classification" else 1
    sizes, count = (5, *hidden, outputs), len(ACTIVATIONS)
    configs = [
        TrialConfig(hidden_layers=hidden, activation=name, initialization="xavier_normal") for name in ACTIVATIONS
    ]
    models = [build_mlp(config, 5, outputs, seed).double() for seed, config in enumerate(configs)]
    rows = Rows.empty(sizes, count, torch.float64)
    for slot, (config, model) in enumerate(zip(configs, models, strict=True)):
        rows.admit(slot, config, model, clip_norm=None)
    x = torch.randn(count, 4, 5, generator=generator, dtype=torch.float64)
    y = targets(task, count, 4, generator)

    net = Network(sizes, count, torch.float64, torch.device("cpu"))
    chunk = net.load(rows, torch.arange(count), segments(torch.arange(count)))
    forward = chunk.forward(x)
    _, dz = loss_and_gradient(forward.output, y, task)
    norm = chunk.backward(forward, dz, torch.full((count, 1), torch.inf, dtype=torch.float64)).norm

    for row, model in enumerate(models):
        loss_of(model(x[row]), y[row], task).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        wanted = torch.cat([g.flatten() for g in grads])
        torch.testing.assert_close(chunk.d[row, : len(wanted)], wanted, rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(norm[row], wanted.norm())

        def loss_at(weight: Tensor, row: int = row, model: torch.nn.Module = model) -> Tensor:
            changed = dict(model.named_parameters()) | {"0.weight": weight}
            return loss_of(torch.func.functional_call(model, changed, (x[row],)), y[row], task).detach()

        first = linear_slices(sizes)[0]
        got = chunk.d[row, first.weight : first.bias].view(first.n_out, first.n_in)
        by_differences = central_differences(loss_at, models[row].state_dict()["0.weight"])
        torch.testing.assert_close(got, by_differences, rtol=1e-6, atol=1e-8)


def test_clipping_scales_each_row_to_its_own_bound() -> None:
    sizes, config = (5, 3), TrialConfig(hidden_layers=())
    rows, generator = Rows.empty(sizes, 3, torch.float64), torch.Generator().manual_seed(2)
    for slot in range(3):
        rows.admit(slot, config, build_mlp(config, 5, 3, 0), clip_norm=None)
    net = Network(sizes, 3, torch.float64, torch.device("cpu"))
    chunk = net.load(rows, torch.arange(3), segments(torch.zeros(3, dtype=torch.int64)))
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64).expand(3, 4, 5)
    forward = chunk.forward(x)
    _, dz = loss_and_gradient(forward.output, torch.zeros(3, 4, dtype=torch.int64), "classification")
    norm = chunk.backward(forward, dz, torch.tensor([[0.01], [1e6], [torch.inf]], dtype=torch.float64)).norm
    assert norm[0] > 0.01
    torch.testing.assert_close(chunk.d.norm(dim=1), torch.stack([0.01 * norm[0] / (norm[0] + 1e-6), norm[1], norm[2]]))
