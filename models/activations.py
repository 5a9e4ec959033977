"""Each activation as two in-place kernels: the function, and its gradient by the chain rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.models.mlp import LEAKY_SLOPE

aten = torch.ops.aten
# torch's own
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193352949395


class Activation(NamedTuple):
    """``forward(z, h)`` writes h = act(z), ``backward(dh, z, h, dz)`` writes dz = dh * act'(z); all of one shape.

    ``backward`` may overwrite h.
    """

    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor], object]


# gelu is spelt out: torch's own may run in oneDNN, which does not reliably write an ``out`` with gaps between rows


def gelu(z: Tensor, h: Tensor) -> None:
    """h = z Phi(z), with the normal distribution function Phi."""
    normal_cdf(z, h).mul_(z)


def gelu_backward(dh: Tensor, z: Tensor, h: Tensor, dz: Tensor) -> None:
    """act' = Phi(z) + z phi(z), with phi(z) = exp(-z^2 / 2) / sqrt(2 pi)."""
    torch.mul(z, z, out=h).mul_(-0.5).exp_().mul_(z).mul_(1.0 / math.sqrt(2.0 * math.pi))
    normal_cdf(z, dz).add_(h).mul_(dh)


def normal_cdf(z: Tensor, out: Tensor) -> Tensor:
    """Write Phi(z) = (1 + erf(z / sqrt 2)) / 2 to ``out`` and return it."""
    return torch.mul(z, math.sqrt(0.5), out=out).erf_().add_(1.0).mul_(0.5)


KERNELS: dict[str, Activation] = {
    # act' = 1 where h > 0, else 0
    "relu": Activation(
        lambda z, h: torch.clamp_min(z, 0.0, out=h),
        lambda dh, z, h, dz: aten.threshold_backward.grad_input(dh, h, 0.0, grad_input=dz),
    ),
    # act' = 1 - h^2
    "tanh": Activation(
        lambda z, h: torch.tanh(z, out=h),
        lambda dh, z, h, dz: aten.tanh_backward.grad_input(dh, h, grad_input=dz),
    ),
    # act' = h (1 - h)
    "sigmoid": Activation(
        lambda z, h: torch.sigmoid(z, out=h),
        lambda dh, z, h, dz: aten.sigmoid_backward.grad_input(dh, h, grad_input=dz),
    ),
    # act' = 1 where h > 0, else the slope
    "leaky_relu": Activation(
        lambda z, h: aten.leaky_relu.out(z, LEAKY_SLOPE, out=h),
        lambda dh, z, h, dz: aten.leaky_relu_backward.grad_input(dh, h, LEAKY_SLOPE, True, grad_input=dz),
    ),
    # act' = 1 where h > 0, else h + 1 = e^z
    "elu": Activation(
        lambda z, h: aten.elu.out(z, out=h),
        lambda dh, z, h, dz: aten.elu_backward.grad_input(dh, 1.0, 1.0, 1.0, True, h, grad_input=dz),
    ),
    "gelu": Activation(gelu, gelu_backward),
    # h = z s(z) with the sigmoid s, act' = s(z) (1 + z (1 - s(z)))
    "silu": Activation(
        lambda z, h: aten.silu.out(z, out=h),
        lambda dh, z, h, dz: aten.silu_backward.grad_input(dh, z, grad_input=dz),
    ),
    # h = z tanh(log(1 + e^z)), Misra 2019
    "mish": Activation(
        lambda z, h: aten.mish.out(z, out=h),
        lambda dh, z, h, dz: dz.copy_(aten.mish_backward(dh, z)),
    ),
    # act' = scale where h > 0, else h + scale alpha, Klambauer et al. 2017
    "selu": Activation(
        lambda z, h: aten.elu.out(z, SELU_ALPHA, SELU_SCALE, out=h),
        lambda dh, z, h, dz: aten.elu_backward.grad_input(dh, SELU_ALPHA, SELU_SCALE, 1.0, True, h, grad_input=dz),
    ),
}
