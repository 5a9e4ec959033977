"""Networks that embed their inputs give the numbers of the plain PyTorch run, and the same ones in any company."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sweeper.models import Data, TrainConfig, TrialConfig, train_cohort, train_solo
from sweeper.models.config import Task
from sweeper.models.eager import EagerPath
from sweeper.models.graphs import Recordings
from sweeper.models.paths import PATHS
from tests.contracts.test_flow_parity import flow_error, same_flow
from tests.tiny import EXTRAS, history_error, identical, tiny_data, tolerance

CPU_PATHS = [name for name, path in PATHS.items() if path.available(torch.device("cpu"))]
PLACES = [(name, "cpu") for name in CPU_PATHS] + [pytest.param("eager", "cuda", marks=pytest.mark.cuda)]
TASKS: list[Task] = ["classification", "regression"]
COLUMNS = [0, -1, 0, 1, 1]  # two numbers, what passes by them, and the one-hot inputs of a text column
KINDS: list[dict[str, Any]] = [
    {"numeric_embedding": "plr", "frequencies": 3, "embedding_size": 4, "frequency_scale": 0.3},
    {"numeric_embedding": "pbld", "frequencies": 3, "embedding_size": 4, "category_embedding": 3, "max_one_hot": 1},
    {
        "numeric_embedding": "pbld",
        "frequencies": 1,
        "embedding_size": 2,
        "frequency_scale": 2.0,
        "normalization": "layer",
    },
    {"category_embedding": 2, "max_one_hot": 1, "optimizer": "sgd", "weight_decay": 0.01},
    {"numeric_embedding": "plr", "frequencies": 2, "embedding_size": 1, "hidden_layers": (), "category_embedding": 8},
    {"numeric_embedding": "plr", "frequencies": 5, "embedding_size": 3, "category_embedding": 1, "max_one_hot": 1},
]
TRAIN = TrainConfig(epochs=3, batch_size=8, clip_norm=0.5, gradient_flow=2)


def data_of(task: Task, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Data:
    return replace(tiny_data(task, dtype, device=device), columns=torch.tensor(COLUMNS))


def configs(**more: Any) -> list[TrialConfig]:
    kinds = [{"learning_rate": 0.02, "hidden_layers": (6, 5)} | extra | kind for extra in EXTRAS[:4] for kind in KINDS]
    return [TrialConfig(**kind | more) for kind in kinds]


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_embedding_with_everything_else(task: Task, path: str, device: str) -> None:
    trials, data, train = configs(), data_of(task, device=device), replace(TRAIN, task=task)
    for number, got in enumerate(train_cohort(trials, train, data, range(len(trials)), path=path)):
        config = trials[number]
        wanted = train_solo(config, train, data_of(task), number)
        assert history_error(got, wanted) < tolerance(config), config
        assert flow_error(got, wanted) < tolerance(config), config


@pytest.mark.parametrize("path", CPU_PATHS)
@pytest.mark.parametrize("sizes", [{}, {"hidden_layers": (33,), "frequencies": 17, "embedding_size": 7}])
def test_rows_with_embeddings_are_the_same_alone_and_together(sizes: dict[str, Any], path: str) -> None:
    trials, data = configs(**sizes), data_of("classification", torch.float32)
    numbers = range(len(trials))
    wanted = train_cohort(trials, TRAIN, data, numbers, path=path)
    narrow = train_cohort(trials[::-1], TRAIN, data, numbers[::-1], path=path, width=3)[::-1]
    assert all(identical(a, b) and same_flow(a, b) for a, b in zip(narrow, wanted, strict=True))
    for number in (0, 1, 8, 11):
        assert identical(train_cohort([trials[number]], TRAIN, data, [number], path=path)[0], wanted[number])


def test_recorded_steps_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    trials, data = configs(), data_of("classification")
    wanted = train_cohort(trials, TRAIN, data, [0] * len(trials), path="eager")
    plain = EagerPath.__init__

    def recorded(self: EagerPath, *args: object, **options: object) -> None:
        plain(self, *args, **options)
        self.recordings = Recordings(lambda work: work)

    monkeypatch.setattr(EagerPath, "__init__", recorded)
    got = train_cohort(trials, TRAIN, data, [0] * len(trials), path="eager")
    assert all(identical(a, b) for a, b in zip(got, wanted, strict=True))
