"""The reference workloads: the data, the training rules and the fixed list of trials that every contender gets."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Digits on one network shape, with trials drawn at random from the default space."""

    name: str
    hidden_layers: tuple[int, ...]
    epochs: int = 20
    batch_size: int = 64

    def sizes(self, n_inputs: int) -> tuple[int, ...]:
        """Inputs (pixels that vary in the training rows), hidden widths, classes."""
        return (n_inputs, *self.hidden_layers, N_CLASSES)

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

        return [TrialConfig.from_params(p | {"hidden_layers": self.hidden_layers}) for p in draws(count)]

    def multiply_adds(self, data: Data) -> int:
        """Of one trial: 3 matrix products per layer and training row (the first layer 2), 1 per validation row."""
        layers = [n_in * n_out for n_in, n_out in pairwise(self.sizes(data.x_train.shape[1]))]
        train, val = len(data.y_train), len(data.y_val)
        return self.epochs * (train * (3 * sum(layers) - layers[0]) + val * sum(layers))


R1 = Workload("R1", (128, 128))
R2 = Workload("R2", (32, 32))
WORKLOADS = {w.name: w for w in (R1, R2)}


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


def data() -> Data:
    """The same as tensors."""
    from sweeper.models import Data

    return Data.of_arrays(arrays())
