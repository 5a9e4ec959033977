"""A trial trained again, and how a network does on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from sweeper.data.dataset import Dataset
    from sweeper.models import History
    from sweeper.spec.parse import SweepSpec


def train_again(spec: SweepSpec, dataset: Dataset, params: Mapping[str, Any], seed: int) -> History:
    """A trial's training once more, on the CPU: its result depends on its configuration, seed and data only."""
    from sweeper.models import train_cohort

    train = spec.train_config(dataset.task, params)
    [history] = train_cohort([spec.trial_config(params)], train, dataset.tensors(), [seed])
    return history


def scores_on_test(dataset: Dataset, network: nn.Module) -> dict[str, float]:
    """``test_loss``, and ``test_accuracy`` or ``test_rmse`` in the target's unit, of a network on prepared rows."""
    import torch

    from sweeper.models import Data
    from sweeper.models.solo import evaluate

    data = dataset.tensors()
    with torch.no_grad():
        loss, value = evaluate(network, Data(data.x_train, data.y_train, *dataset.test_tensors()), dataset.task)
    if dataset.task == "regression":
        return {"test_loss": loss, "test_rmse": dataset.in_target_units(value)}
    return {"test_loss": loss, "test_accuracy": value}
