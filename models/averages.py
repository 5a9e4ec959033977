"""The moving average of a trial's weights: an exponential one, which forgets the first steps sooner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

EARLY = 10


def average_by(decay: float) -> Callable[[Any, Any, Any], None]:
    """``multi_avg_fn`` for ``torch.optim.swa_utils.AveragedModel``, for a ``decay`` d above 0.

    After step t (from 1 on) ``average += f (theta - average)`` with f = max(1 - d, 10 / (t + 9)): polynomial-decay
    averaging (Shamir and Zhang 2013, Stochastic Gradient Descent for Non-smooth Optimization, with eta = 9) for the
    first 10 / (1 - d) steps. An exponential average alone has 37% of the weights of the first step still in it after
    1 / (1 - d) steps, as many as a small table has in a dozen epochs.
    """

    def update(averaged: Any, current: Any, before: Any) -> None:
        """Of lists of tensors; ``before`` so many steps are in the average."""
        import torch

        torch._foreach_lerp_(averaged, current, max(1.0 - decay, EARLY / (int(before) + EARLY)))

    return update
