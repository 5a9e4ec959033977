"""A small network trained on a built-in dataset, as the winner of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeper.data.dataset import Dataset, load_dataset
from sweeper.insight.winner_check import Check, check_winner
from sweeper.models import History, train_cohort
from sweeper.spec.parse import SweepSpec
from tests.ended_sweeps import spec_of

PARAMS: dict[str, Any] = {"learning_rate": 0.01, "optimizer": "adam", "hidden_layers": [16]}


@dataclass(frozen=True)
class Trained:
    spec: SweepSpec
    dataset: Dataset
    history: History
    weights: dict[str, Any]

    def check(self, trial: int) -> Check:
        return check_winner(self.spec, self.dataset, trial, PARAMS, self.weights)


def trained(name: str) -> Trained:
    spec = spec_of(dataset={"name": name}, training={"epochs": 5})
    data = load_dataset(spec.dataset, spec.split, spec.normalize)
    config, train = spec.trial_config(PARAMS), spec.train_config(data.task, PARAMS)
    [history] = train_cohort([config], train, data.tensors(), [0])
    return Trained(spec, data, history, {name: tensor.numpy() for name, tensor in history.state_dict.items()})
