"""Recorded steps train exactly as unrecorded ones, and a recording that does not is never used."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sweeper.models import ACTIVATIONS, OPTIMIZERS, History, PlateauConfig, TrainConfig, TrialConfig, train_cohort
from sweeper.models.eager import EagerPath
from sweeper.models.graphs import Recordings
from tests.tiny import BLOCKS, EXTRAS, identical, tiny_data

TRAIN = TrainConfig(epochs=5, batch_size=8, clip_norm=0.5, plateau=PlateauConfig(patience=0, threshold=0.2))
CONFIGS = [
    TrialConfig(optimizer=optimizer, activation=activation, learning_rate=0.03, hidden_layers=(7, 5), weight_decay=0.01)
    for optimizer, activation in itertools.islice(itertools.product(OPTIMIZERS, ACTIVATIONS), 0, 34, 3)
]
CONFIGS += [TrialConfig(**({"learning_rate": 0.03, "hidden_layers": (7, 5)} | extra)) for extra in EXTRAS]
CONFIGS += [replace(CONFIGS[i], normalization="layer") for i in (0, -1)]
CONFIGS += [TrialConfig(**({"learning_rate": 0.03, "hidden_layers": (7, 7)} | block)) for block in BLOCKS[2:6]]
CONFIGS += [replace(c, hidden_layers=hidden) for c in CONFIGS[-4:] for hidden in ((7, 5), (5, 5))]
CONFIGS[3] = TrialConfig(optimizer="sgd", learning_rate=1e30, clip_norm=1e30, hidden_layers=(7, 5))  # leaves early


def train(train: TrainConfig = TRAIN, device: str = "cpu", width: int | None = None) -> list[History]:
    data, seeds = tiny_data(device=device), [0] * len(CONFIGS)
    return train_cohort(CONFIGS, train, data, seeds, path="eager", width=width, padded=True)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], list[Recordings]]:
    """Give every eager path recordings made by this function; the list of them."""

    def use(record: Callable) -> list[Recordings]:
        found: list[Recordings] = []
        plain = EagerPath.__init__

        def with_recordings(self: EagerPath, *args: object, **options: object) -> None:
            plain(self, *args, **options)
            self.recordings = Recordings(record)
            found.append(self.recordings)

        monkeypatch.setattr(EagerPath, "__init__", with_recordings)
        return found

    return use


@pytest.mark.parametrize("width", [None, 4])
@pytest.mark.parametrize("flow", [None, 1])
def test_recorded_steps_give_the_same_bits(made: Callable, width: int | None, flow: int | None) -> None:
    """``work`` stands for a CUDA graph of itself: it reads and writes the same fixed buffers."""
    config = replace(TRAIN, gradient_flow=flow)
    wanted = train(config, width=width)
    recordings = made(lambda work: work)
    got = train(config, width=width)
    assert all(identical(a, b) for a, b in zip(got, wanted, strict=True))
    assert [str(a.flow) for a in got] == [str(b.flow) for b in wanted]
    assert sum(each.replayed for each in recordings) > 0


def test_a_recording_that_computes_something_else_is_not_used(made: Callable) -> None:
    wanted = train()
    recordings = made(lambda work: lambda: None)  # a graph that does nothing
    assert all(identical(a, b) for a, b in zip(train(), wanted, strict=True))
    assert sum(each.replayed for each in recordings) == 0


def test_a_device_that_cannot_record_trains_all_the_same(made: Callable) -> None:
    def refuse(work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    wanted = train()
    recordings = made(refuse)
    with pytest.warns(UserWarning, match="could not be recorded"):
        got = train()
    assert all(identical(a, b) for a, b in zip(got, wanted, strict=True))
    assert sum(each.replayed for each in recordings) == 0


@pytest.mark.cuda
def test_cuda_graphs_give_the_bits_of_the_unrecorded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found: list[EagerPath] = []
    plain = EagerPath.__init__

    def watched(self: EagerPath, *args: object, **options: object) -> None:
        plain(self, *args, **options)
        found.append(self)

    monkeypatch.setattr(EagerPath, "__init__", watched)
    got = train(device="cuda")
    assert all(path.recordings is not None and path.recordings.replayed > 0 for path in found)

    def unrecorded(self: EagerPath, *args: object, **options: object) -> None:
        plain(self, *args, **options)
        self.recordings = None

    monkeypatch.setattr(EagerPath, "__init__", unrecorded)
    assert all(identical(a, b) for a, b in zip(got, train(device="cuda"), strict=True))
