"""The winner of a sweep with folds: the k networks of its folds as one network that averages them.

Activations work on each unit by itself, so k networks side by side are one network again, with block-diagonal weights:
its inputs are the k folds' inputs (``Dataset.averaged``), its outputs the mean of theirs. For classes that is the mean
of logits, so that the probabilities are the normalised geometric mean of the k networks' probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sweeper.data.folds import by_fold

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sweeper.data.dataset import Dataset
    from sweeper.models import TrialConfig
    from sweeper.training.legs import Arrays


@dataclass(frozen=True, eq=False)
class TrialModel:
    """One network with what it predicts from: ``dataset`` has its inputs, preprocessing and test rows."""

    dataset: Dataset
    config: TrialConfig
    weights: Arrays

    def network(self) -> nn.Module:
        """The network with its weights."""
        import torch

        from sweeper.models import build_mlp

        network = build_mlp(self.config, self.dataset.n_inputs, self.dataset.n_outputs, seed=0)
        network.load_state_dict({name: torch.tensor(values) for name, values in self.weights.items()})
        return network


def model_of(dataset: Dataset, config: TrialConfig, weights: Arrays) -> TrialModel:
    """A trial's one network: its own, or the mean of those of its folds, or the one trained on their rows together."""
    parts = by_fold(weights)
    if len(parts) == 1:
        return TrialModel(dataset.together(), config, weights)
    wider = replace(config, hidden_layers=tuple(width * len(parts) for width in config.hidden_layers))
    return TrialModel(dataset.averaged(), wider, averaged(parts))


def averaged(parts: list[Arrays]) -> Arrays:
    """The weights of k networks as those of one: x ``(n, k * D)`` -> the mean of their outputs ``(n, C)``."""
    from scipy.linalg import block_diag

    layers = sorted({int(name.partition(".")[0]) for name in parts[0]})
    made: Arrays = {}
    for layer in layers:
        matrices, biases = ([part[f"{layer}.{name}"] for part in parts] for name in ("weight", "bias"))
        if layer == layers[-1]:
            weight, bias = np.concatenate(matrices, axis=1) / len(parts), np.mean(biases, axis=0)
        else:
            weight, bias = block_diag(*matrices), np.concatenate(biases)
        made |= {f"{layer}.weight": weight.astype(np.float32), f"{layer}.bias": bias.astype(np.float32)}
    return made


def validation_outputs(dataset: Dataset, config: TrialConfig, weights: Arrays) -> torch.Tensor:
    """Logits or standardised values ``(v, C)`` of a trial on the validation rows.

    Those of folds come one after the other, as in ``Dataset.averaged``, each by the network of its fold, which has
    not trained on them.
    """
    import torch

    from sweeper.training.scores import outputs_of

    parts = zip(dataset.folds or (dataset,), by_fold(weights), strict=True)
    return torch.cat([outputs_of(part, TrialModel(part, config, own).network(), "validation") for part, own in parts])
