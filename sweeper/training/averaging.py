"""The model that comes out of a sweep: one network, or several whose outputs add up, weighted.

The networks of a trial's folds, and the members of an ensemble, stand side by side: the model's inputs are those of
all of them in turn (``Dataset.averaged``), its outputs their weighted mean. For classes that is a mean of logits, so
that the probabilities are the normalised geometric mean of the networks' probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweeper.data.folds import by_fold
from sweeper.data.recipe import kinds_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sweeper.data.dataset import Dataset
    from sweeper.models import TrialConfig
    from sweeper.models.embedding import EmbeddingLayout
    from sweeper.training.legs import Arrays


@dataclass(frozen=True, eq=False)
class Part:
    """One network of a model: what its outputs are multiplied by, and which of the model's inputs are its own.

    These are the inputs ``start`` to ``stop`` (without it); ``columns`` says what each of them is
    (``sweeper.models.embedding``).
    """

    config: TrialConfig
    weights: Arrays
    share: float
    start: int
    stop: int
    columns: tuple[int, ...]

    @property
    def layout(self) -> EmbeddingLayout | None:
        """How it embeds its inputs."""
        from sweeper.models.embedding import layout_of

        return layout_of(self.config.embedding, self.columns, self.stop - self.start)

    def network(self, n_outputs: int) -> nn.Module:
        """The network with its weights: its own inputs to its outputs."""
        import torch

        from sweeper.models.mlp import build_network

        network = build_network(self.config, self.stop - self.start, n_outputs, 0, self.columns)
        network.load_state_dict({name: torch.tensor(values) for name, values in self.weights.items()})
        return network.eval()


@dataclass(frozen=True, eq=False)
class TrialModel:
    """A model with what it predicts from: ``dataset`` has its inputs, preprocessing and test rows."""

    dataset: Dataset
    parts: tuple[Part, ...]

    @classmethod
    def of_one(cls, dataset: Dataset, config: TrialConfig, weights: Arrays) -> TrialModel:
        """A single network."""
        return cls(dataset, (Part(config, weights, 1.0, 0, dataset.n_inputs, kinds_of(dataset.recipe.features)),))

    @property
    def single(self) -> bool:
        """Whether it is one network as it was trained."""
        return len(self.parts) == 1 and self.parts[0].share == 1.0

    @property
    def parameters(self) -> int:
        """How many numbers its weights are."""
        weights = [array for part in self.parts for name, array in part.weights.items() if ".running_" not in name]
        return sum(array.size for array in weights)

    def network(self) -> nn.Module:
        """Inputs ``(n, D)`` to logits or standardised values ``(n, C)``."""
        networks = [part.network(self.dataset.n_outputs) for part in self.parts]
        return networks[0] if self.single else _sum(networks, self.parts)

    def cooled(self, temperature: float) -> TrialModel:
        """The same with all outputs divided by a temperature."""
        return replace(self, parts=tuple(replace(part, share=part.share / temperature) for part in self.parts))

    def named_weights(self) -> Arrays:
        """The weights of all parts: of a single network by its own names, else below ``network0.`` and so on."""
        if self.single:
            return dict(self.parts[0].weights)
        named = [(f"network{i}.{name}", array) for i, p in enumerate(self.parts) for name, array in p.weights.items()]
        return dict(named)


def model_of(dataset: Dataset, config: TrialConfig, weights: Arrays) -> TrialModel:
    """A trial's one model: its network, the mean of those of its folds, or the one trained on their rows together."""
    networks = by_fold(weights)
    if len(networks) == 1:
        return TrialModel.of_one(dataset.together(), config, weights)
    width, share = dataset.n_inputs, 1 / len(networks)
    kinds = kinds_of(dataset.recipe.features)
    parts = [Part(config, own, share, i * width, (i + 1) * width, kinds) for i, own in enumerate(networks)]
    return TrialModel(dataset.averaged(), tuple(parts))


def weighted(models: Sequence[TrialModel], shares: Sequence[float]) -> TrialModel:
    """The weighted sum of several models of the same rows.

    Those that have their inputs in common, as all trials with the same preprocessing do, read the same ones.
    """
    datasets: list[Dataset] = []
    parts: list[Part] = []
    for model, share in zip(models, shares, strict=True):
        if all(model.dataset.recipe != known.recipe for known in datasets):
            datasets.append(model.dataset)
        place = next(i for i, known in enumerate(datasets) if known.recipe == model.dataset.recipe)
        before = sum(known.n_inputs for known in datasets[:place])
        parts += [replace(p, share=p.share * share, start=p.start + before, stop=p.stop + before) for p in model.parts]
    return TrialModel(datasets[0].beside(datasets[1:]), tuple(parts))


def validation_outputs(dataset: Dataset, config: TrialConfig, weights: Arrays) -> torch.Tensor:
    """Logits or standardised values ``(v, C)`` of a trial on the validation rows.

    Those of folds come one after the other, as in ``Dataset.averaged``, each by the network of its fold, which has
    not trained on them.
    """
    import torch

    from sweeper.training.scores import outputs_of

    parts = zip(dataset.folds or (dataset,), by_fold(weights), strict=True)
    networks = [(part, TrialModel.of_one(part, config, own).network()) for part, own in parts]
    return torch.cat([outputs_of(part, network, "validation") for part, network in networks])


def _sum(networks: Sequence[nn.Module], parts: Sequence[Part]) -> nn.Module:
    import torch
    from torch import nn

    class Sum(nn.Module):
        """Networks side by side: ``(n, D) -> (n, C)``."""

        def __init__(self) -> None:
            super().__init__()
            self.networks = nn.ModuleList(networks)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """The weighted sum of what the networks say of their own inputs."""
            made = [
                part.share * network(x[:, part.start : part.stop])
                for part, network in zip(parts, self.networks, strict=True)
            ]
            return torch.stack(made).sum(dim=0)

    return Sum()
