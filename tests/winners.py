"""A small network trained on a built-in dataset, as the winner of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeper.data.dataset import Dataset, load_dataset
from sweeper.insight.winner_check import Check, check_winner
from sweeper.models import History, train_cohort
from sweeper.running.kept import Kept
from sweeper.spec.parse import SweepSpec
from sweeper.training.averaging import model_of, validation_outputs
from tests.ended_sweeps import spec_of

PARAMS: dict[str, Any] = {"learning_rate": 0.01, "optimizer": "adam", "hidden_layers": [16]}


@dataclass(frozen=True)
class Trained:
    spec: SweepSpec
    dataset: Dataset
    history: History
    weights: dict[str, Any]

    def check(self, trial: int) -> Check:
        return check_winner(self.dataset, trial, self.kept().validation)

    def kept(self) -> Kept:
        config = self.spec.trial_config(PARAMS)
        outputs = validation_outputs(self.dataset, config, self.weights)
        return Kept(model_of(self.dataset, config, self.weights), outputs)


def trained(name: str) -> Trained:
    spec = spec_of(dataset={"name": name}, training={"epochs": 5})
    data = load_dataset(spec.dataset, spec.split, spec.normalize)
    config, train = spec.trial_config(PARAMS), spec.train_config(data.task, PARAMS)
    [history] = train_cohort([config], train, data.tensors(), [0])
    return Trained(spec, data, history, {name: tensor.numpy() for name, tensor in history.state_dict.items()})
