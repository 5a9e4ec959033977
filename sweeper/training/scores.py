"""Scores of a trained model on a sweep's validation or test rows, by plain metric name, in the user's units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from sweeper.models.metric_names import OF_TASK, plain

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from sweeper.data.dataset import Dataset
    from sweeper.training.scoring import Scoring

Rows = Literal["validation", "test"]
EVAL_BLOCK = 4096  # rows that go through a network at once


def names_for(dataset: Dataset) -> list[str]:
    """The metrics that a dataset's task and classes define.

    The mean absolute percentage error is left out where a target is 0: it would say nothing but that.
    """
    names = [m.name for m in OF_TASK[dataset.task].values() if not m.binary or dataset.n_outputs == 2]
    if dataset.task == "regression" and any(_has_zero(dataset, y) for y in (dataset.y_val, dataset.y_test)):
        names.remove("mape")
    return names


def score(
    dataset: Dataset,
    outputs: Sequence[torch.Tensor],
    rows: Rows,
    names: Iterable[str],
    scoring: Scoring | None = None,
) -> dict[str, list[float]]:
    """Metrics of several models: ``outputs`` are logits or standardised values ``(v, C)`` of each on these rows.

    NaN stands for a metric that is not defined there. Those of the user's own that ``scoring`` knows are among them.
    """
    import torch

    from sweeper.models.metrics import make_scorers

    y = torch.tensor(dataset.y_val if rows == "validation" else dataset.y_test)
    weights = dataset.w_val if rows == "validation" else dataset.w_test
    w = None if weights is None else torch.tensor(weights)
    scorers = make_scorers(names, dataset.task, dataset.target_mean, dataset.target_std)
    stacked = torch.stack([torch.as_tensor(one) for one in outputs])  # (A, v, C)
    if scoring is not None:
        own = replace(scoring, names=(), error="").scorers()
        scorers |= {plain(name): scorer for name, scorer in own.items()}
    return {name: scorer(stacked, y, w).tolist() for name, scorer in scorers.items()} if len(y) else {}


def outputs_of(dataset: Dataset, network: nn.Module, rows: Rows) -> torch.Tensor:
    """Logits or standardised values ``(v, C)`` of a network on prepared rows."""
    import torch

    x = torch.tensor(dataset.x_val if rows == "validation" else dataset.x_test)
    network.eval()
    with torch.no_grad():
        return torch.cat([network(block) for block in x.split(EVAL_BLOCK)])


def finite(scores: dict[str, list[float]], model: int) -> dict[str, float]:
    """One model's scores without those that are not defined."""
    return {name: values[model] for name, values in scores.items() if math.isfinite(values[model])}


def _has_zero(dataset: Dataset, y: np.ndarray) -> bool:
    """Whether a standardised target stands for 0, as far as float32 can tell."""
    import numpy as np

    return bool((np.abs(y * dataset.target_std + dataset.target_mean) < 1e-6 * dataset.target_std).any())
