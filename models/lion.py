"""The optimizer Lion in plain PyTorch, which torch.optim does not have."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, Symbolic Discovery of Optimization Algorithms): each step is a sign.

    theta *= 1 - lr wd;  theta -= lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[no-untyped-def]
        """One step."""
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    p.mul_(1 - lr * group["weight_decay"])
                    p.sub_((b1 * m + (1 - b1) * p.grad).sign_(), alpha=lr)
                    m.mul_(b2).add_(p.grad, alpha=1 - b2)
