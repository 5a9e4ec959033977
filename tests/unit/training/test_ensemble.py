"""Greedy ensemble selection is that of the paper, written out by hand with scikit-learn's metrics."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics

from sweeper.models.metrics import make_scorers
from sweeper.training import ensemble
from sweeper.training.ensemble import STEPS, select

SCORERS = make_scorers(["loss", "accuracy"], "classification")


def candidates(count: int = 6, rows: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """Networks that each know something else, and the truth."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, rows)
    signal = np.eye(3)[y] * random.uniform(0.5, 2.0, (count, rows, 1))
    return torch.tensor(signal + random.normal(size=(count, rows, 3)), dtype=torch.float32), torch.tensor(y)


def by_hand(outputs: np.ndarray, y: np.ndarray) -> tuple[dict[int, float], float, float]:
    chosen: list[int] = []
    losses = []
    for _ in range(STEPS):
        tried = [metrics.log_loss(y, softmax(outputs[[*chosen, m]].mean(axis=0), axis=1)) for m in range(len(outputs))]
        chosen.append(int(np.argmin(tried)))
        losses.append(min(tried))
    steps = int(np.argmin(losses)) + 1
    return {m: n / steps for m, n in Counter(chosen[:steps]).items()}, losses[steps - 1], losses[0]


@pytest.mark.parametrize("chunk", [ensemble.CHUNK, 1])
def test_the_selection_is_the_papers(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "CHUNK", chunk)
    outputs, y = candidates()
    found = select(outputs, y, None, [SCORERS["loss"]], maximize=False)
    shares, value, single = by_hand(outputs.double().numpy(), y.numpy())
    assert found.shares == pytest.approx(shares)
    assert (found.value, found.single) == pytest.approx((value, single))
    assert found.value < found.single
    assert len(found.shares) > 1


def test_equal_scores_are_decided_by_the_loss_and_a_network_that_diverged_is_never_chosen() -> None:
    outputs, y = candidates()
    outputs[0] = torch.nan
    outputs[2] = outputs[1] * 3  # as right as its twin, and as sure as it should not be
    found = select(outputs, y, None, [SCORERS["accuracy"], SCORERS["loss"]], maximize=True)
    alone = select(outputs[[1, 2]], y, None, [SCORERS["accuracy"], SCORERS["loss"]], maximize=True)
    accuracies = SCORERS["accuracy"](outputs[1:], y, None)
    assert found.single == pytest.approx(float(accuracies.max()))
    assert found.value >= found.single
    assert 0 not in found.shares
    assert alone.value == alone.single
    assert max(alone.shares, key=alone.shares.__getitem__) == int(SCORERS["loss"](outputs[[1, 2]], y, None).argmin())
    with pytest.raises(ValueError, match="no candidate"):
        select(outputs[:1], y, None, [SCORERS["loss"]], maximize=False)
