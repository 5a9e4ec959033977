"""One trial as a user of Ray Tune or Optuna would write it: a plain PyTorch loop that yields each epoch's metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.workloads import SEED
from sweeper.models import TrainConfig, TrialConfig, batch_order, build_mlp
from sweeper.models.solo import make_optimizer, make_plateau

OPTIMIZERS = ["sgd", "momentum", "rmsprop", "adam", "adamw"]
INITIALIZATIONS = ["normal", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal"]
ACTIVATIONS = ["relu", "tanh", "sigmoid"]
HIDDEN = (128, 128)


def suggest(trial: Any) -> dict[str, Any]:
    """The default ``mlp`` space in Optuna's own define-by-run words."""
    params = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        "optimizer": trial.suggest_categorical("optimizer", OPTIMIZERS),
        "initialization": trial.suggest_categorical("initialization", INITIALIZATIONS),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        "activation": trial.suggest_categorical("activation", ACTIVATIONS),
    }
    if params["optimizer"] == "momentum":
        params["momentum"] = trial.suggest_float("momentum", 0.5, 0.99)
    return params


def stamp(folder: str | Path, name: str) -> None:
    """Note the time, for the measurement."""
    with Path(folder, f"{name}.txt").open("a") as file:
        file.write(f"{time.time()}\n")


def train(params: Mapping[str, Any], arrays: Mapping[str, np.ndarray], epochs: int) -> Iterator[dict[str, float]]:
    """Train on one thread; the arithmetic of ``sweeper.models.solo``, one dictionary of metrics per epoch."""
    torch.set_num_threads(1)
    config, rules = TrialConfig.from_params(dict(params) | {"hidden_layers": HIDDEN}), TrainConfig(epochs=epochs)
    x_train, y_train, x_val, y_val = (torch.tensor(arrays[k]) for k in ("x_train", "y_train", "x_val", "y_val"))
    model = build_mlp(config, x_train.shape[1], int(y_train.max()) + 1, SEED)
    optimizer, loss_of = make_optimizer(config, model), nn.CrossEntropyLoss()
    scheduler = make_plateau(rules, optimizer)

    for epoch in range(epochs):
        loss_sum, norm_sum, steps = torch.zeros(()), torch.zeros(()), 0
        for batch in batch_order(len(x_train), SEED, epoch).split(rules.batch_size):
            optimizer.zero_grad()
            loss = loss_of(model(x_train[batch]), y_train[batch])
            loss.backward()
            norm_sum += nn.utils.clip_grad_norm_(model.parameters(), rules.clip_norm)
            optimizer.step()
            loss_sum += loss.detach() * len(batch)
            steps += 1
        with torch.no_grad():
            logits = model(x_val)
            val_loss = loss_of(logits, y_val).item()
            accuracy = (logits.argmax(dim=1) == y_val).float().mean().item()
        scheduler.step(val_loss)
        yield {
            "train_loss": loss_sum.item() / len(x_train),
            "grad_norm": norm_sum.item() / steps,
            "val_loss": val_loss,
            "val_accuracy": accuracy,
            "learning_rate": optimizer.param_groups[0]["lr"],
        }
