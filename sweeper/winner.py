"""The winner's weights: those its worker sent, or the same ones trained again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeper.legs import Arrays
from sweeper.sweep_run import SweepRun

if TYPE_CHECKING:
    from models import History
    from sweeper.datasets import Dataset
    from sweeper.spec import SweepSpec


def winner_weights(run: SweepRun) -> Arrays:
    """The best trial's weights by parameter name.

    A worker sends weights with a trial that becomes the best. After a resume they are gone with the old process.
    """
    assert run.best is not None
    if run.best.weights is None:
        number = run.best.number
        history = train_again(run.spec, run.dataset, run.params[number], run.seeds[number])
        run.best.weights = {name: tensor.numpy() for name, tensor in history.state_dict.items()}
    return run.best.weights


def train_again(spec: SweepSpec, dataset: Dataset, params: Mapping[str, Any], seed: int) -> History:
    """A trial's training once more, on the CPU: its result depends on its configuration, seed and data only."""
    from models import train_cohort

    train = spec.train_config(dataset.task, params)
    [history] = train_cohort([spec.trial_config(params)], train, dataset.tensors(), [seed])
    return history
