"""A trial trained again, and how a network does on the test rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from sweeper.data.dataset import Dataset
    from sweeper.models import History
    from sweeper.spec.parse import SweepSpec
    from sweeper.training.legs import Arrays

ROWS_AT_ONCE = 50_000


def train_again(spec: SweepSpec, dataset: Dataset, params: Mapping[str, Any], seed: int) -> History:
    """A trial's training once more, on the CPU: its result depends on its configuration, seed and data only."""
    from sweeper.models import train_cohort

    train = spec.train_config(dataset.task, params)
    [history] = train_cohort([spec.trial_config(params)], train, dataset.tensors(), [seed])
    return history


def outputs_on_test(dataset: Dataset, network: nn.Module) -> np.ndarray:
    """(t, C) float32: what a network says of the prepared test rows, a part of them at a time."""
    import torch

    x, _ = dataset.test_tensors()
    with torch.no_grad():
        parts = [network(part).float() for part in x.split(ROWS_AT_ONCE)]
    return torch.cat(parts).numpy()


def scores_on_test(
    dataset: Dataset, network: nn.Module, metrics: Iterable[str] = (), outputs: np.ndarray | None = None
) -> dict[str, float]:
    """``test_loss``, and ``test_accuracy`` or ``test_rmse`` in the target's unit, of a network on prepared rows.

    ``metrics`` are more of them, by plain name. ``outputs`` are what the network says, where that is known.
    """
    import torch

    from sweeper.models.metrics import make_scorers

    names = dict.fromkeys(["loss", "rmse" if dataset.task == "regression" else "accuracy", *metrics])
    made = torch.tensor(outputs_on_test(dataset, network) if outputs is None else outputs)[None]
    scorers = make_scorers(names, dataset.task, dataset.target_mean, dataset.target_std)
    y, w = torch.tensor(dataset.y_test), None if dataset.w_test is None else torch.tensor(dataset.w_test)
    return {f"test_{name}": float(scorer(made, y, w)[0]) for name, scorer in scorers.items()}


def network_of(spec: SweepSpec, dataset: Dataset, params: Mapping[str, Any], weights: Arrays) -> nn.Module:
    """A trial's network with these weights."""
    import torch

    from sweeper.models import build_mlp

    network = build_mlp(spec.trial_config(params), dataset.n_inputs, dataset.n_outputs, seed=0)
    network.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
    return network
