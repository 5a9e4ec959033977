"""The initialization schemes: how the weights of a Linear are drawn; biases start at zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Scheme = Callable[[Tensor, torch.Generator], object]

# weight (n_out, n_in): fan_in = n_in, fan_out = n_out
SCHEMES: dict[str, Scheme] = {
    # N(0, 0.01^2)
    "normal": lambda w, g: nn.init.normal_(w, std=0.01, generator=g),
    # Var = 2 / (fan_in + fan_out), Glorot and Bengio 2010
    "xavier_uniform": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "xavier_normal": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    # Var = 2 / fan_in, He et al. 2015
    "he_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "he_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    # every hidden unit stays equal to its neighbours: shows why symmetry has to be broken
    "zeros": lambda w, g: nn.init.zeros_(w),
}


def initialize(linear: nn.Linear, scheme: str, generator: torch.Generator) -> None:
    """Draw ``linear``'s weight in place by ``scheme`` (a name of ``SCHEMES``) and set its bias to zero."""
    SCHEMES[scheme](linear.weight, generator)
    nn.init.zeros_(linear.bias)
