"""The reference workloads: the data, the training rules and the fixed list of trials that every contender gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from sweeper.models import Data, TrainConfig, TrialConfig

SEED = 0  # of the draws, the initial weights and the order of the batches
N_CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """Trials of one network shape, drawn at random from the default space, with the same ``layers`` besides.

    The data are digits, or their first ``columns``; with ``noise`` so many columns and training rows of noise.
    ``part``: it is so large that this part of the usual number of trials will do.
    """

    name: str
    hidden_layers: tuple[int, ...]
    epochs: int = 20
    batch_size: int = 64
    layers: Mapping[str, Any] = field(default_factory=dict)
    columns: int | None = None
    noise: tuple[int, int] | None = None
    part: float = 1.0

    def sizes(self, n_inputs: int) -> tuple[int, ...]:
        """What the first Linear is given, hidden widths, classes."""
        return (n_inputs * self.layers.get("embedding_size", 1), *self.hidden_layers, N_CLASSES)

    @property
    def train(self) -> TrainConfig:
        """What all trials share."""
        from sweeper.models import TrainConfig

        return TrainConfig(epochs=self.epochs, batch_size=self.batch_size)

    @property
    def train_options(self) -> dict[str, Any]:
        """The same as a sweep file's training section."""
        return {"epochs": self.epochs, "batch_size": self.batch_size}

    def configs(self, count: int) -> list[TrialConfig]:
        """The first ``count`` trials of the list."""
        from sweeper.models import TrialConfig

        same = {"hidden_layers": self.hidden_layers, **self.layers}
        return [TrialConfig.from_params(p | same) for p in draws(count)]

    @property
    def about(self) -> str:
        """Data and layers, in a few words."""
        on = "digits" if self.noise is None else "{} columns of noise".format(*self.noise)
        on = on if self.columns is None else f"{self.columns} columns of digits"
        with_them = ("dropout", "layer norm", "plr embeddings")
        return f"{on} with {', '.join(with_them)}" if self.layers else on

    def data(self) -> Data:
        """What they train on."""
        return data(self.columns) if self.noise is None else noise(*self.noise)

    def multiply_adds(self, data: Data) -> int:
        """Of one trial: 3 matrix products per layer and training row, 1 per validation row.

        The first layer has 2, with an embedding 3, and that has as many of its own: ``W f`` of each number.
        """
        n_inputs, embedded = data.x_train.shape[1], "numeric_embedding" in self.layers
        layers = [n_in * n_out for n_in, n_out in pairwise(self.sizes(n_inputs))]
        if embedded:
            layers.append(n_inputs * 2 * self.layers["frequencies"] * self.layers["embedding_size"])
        train, val = len(data.y_train), len(data.y_val)
        return self.epochs * (train * (3 * sum(layers) - (0 if embedded else layers[0])) + val * sum(layers))


R1 = Workload("R1", (128, 128))
R2 = Workload("R2", (32, 32))
WORKLOADS = {w.name: w for w in (R1, R2)}

# with the embedding of the TabM paper's networks, on as many numbers as a usual table has
LAYERS = {"dropout": 0.2, "normalization": "layer", "numeric_embedding": "plr", "frequencies": 48, "embedding_size": 24}
T1 = Workload("T1", (128, 128), layers=LAYERS, columns=16, part=1 / 4)
L1 = Workload("L1", (512, 512), epochs=2, batch_size=128, noise=(784, 4096), part=1 / 8)
ENGINE = WORKLOADS | {w.name: w for w in (T1, L1)}


@dataclass(frozen=True)
class RandomSearch:
    """What the study reads of a sweep's search section."""

    sampler: str = "random"
    seed: int = SEED
    deterministic: bool = True


def draws(count: int) -> list[dict[str, Any]]:
    """The parameters of the first ``count`` random trials of the ``mlp`` space."""
    from sweeper.search.study import Study
    from sweeper.search_spaces import load_space

    return Study(load_space("mlp"), RandomSearch(), "minimize", count, count).ask(range(count))


@cache
def arrays() -> dict[str, np.ndarray]:
    """Digits as a sweep sees it: split 0.2 and 0.2, standardised; under the names of ``sweeper.models.Data``."""
    from sweeper.data.dataset import load_dataset
    from sweeper.spec.models import DatasetSpec, SplitSpec

    return load_dataset(DatasetSpec(name="digits"), SplitSpec(), "standard").arrays()


def data(columns: int | None = None) -> Data:
    """The same as tensors; of the inputs the first ``columns``."""
    from sweeper.models import Data

    found = arrays()
    kept = {name: found[name][..., :columns].copy() for name in ("x_train", "x_val", "columns") if name in found}
    return Data.of_arrays(found | kept)


def noise(columns: int, rows: int) -> Data:
    """Inputs of noise and classes that have nothing to do with them; a quarter as many rows for validation."""
    import torch

    from sweeper.models import Data

    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(rows + rows // 4, columns, generator=generator)
    y = torch.randint(N_CLASSES, (len(x),), generator=generator)
    return Data(x[:rows], y[:rows], x[rows:], y[rows:])
