"""Ray Tune's PopulationBasedTraining on the benchmark of ``population.py``, with the plain PyTorch loop.

python -m benchmarks.raytune_population FOLDER SEED MEMBERS

A member that copies another goes on at that one's epoch. It ends after as many epochs of its own as all others, however
many those are of the network that it then has: each member writes its epochs into a file, which are also what counts.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # its own files cost more than the training

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from benchmarks.population import EPOCHS, READY
from benchmarks.workloads import R1

LIMITS = {"lr": (1e-3, 1.0), "momentum": (0.5, 0.99), "weight_decay": (1e-6, 1e-2)}


class Member(tune.Trainable):  # type: ignore[misc]
    """One member: an epoch of the plain loop for each step."""

    def setup(self, config: dict[str, Any], data: dict[str, Any]) -> None:
        """A fresh network."""
        import torch

        from sweeper.models import Data

        torch.set_num_threads(1)
        self.rows, self.seed, self.epochs = Data.of_arrays(data["arrays"]), data["seed"], data["epochs"]
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another member in this process: a fresh network, before a checkpoint is loaded where there is one."""
        import torch

        from sweeper.models import TrialConfig, build_mlp

        self.epoch = 0
        config_of = TrialConfig(hidden_layers=R1.hidden_layers)
        self.model = build_mlp(config_of, self.rows.x_train.shape[1], 10, self.seed)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self._set(new_config)
        return True

    def _set(self, config: dict[str, Any]) -> None:
        """The hyperparameters, within the ranges."""
        for group in self.optimizer.param_groups:
            for name, (low, high) in LIMITS.items():
                group[name] = min(max(config[name], low), high)

    def step(self) -> dict[str, Any]:
        """One epoch."""
        from torch import nn

        from sweeper.models import batch_order
        from sweeper.models.solo import evaluate, loss_of

        rows = self.rows
        for batch in batch_order(len(rows.x_train), self.seed, self.epoch).split(R1.batch_size):
            self.optimizer.zero_grad()
            self.model.train()
            loss_of(self.model(rows.x_train[batch]), rows.y_train[batch], "classification").backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
        self.epoch += 1  # of the network's, which another member may have begun
        loss = evaluate(self.model, rows, "classification")[0]
        with (Path(self.epochs) / self.trial_id).open("a+") as file:
            file.write(f"{loss} {self.epoch}\n")
            file.seek(0)
            return {"val_loss": loss, "trained": len(file.readlines())}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Weights, moments and the epoch."""
        import torch

        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch}
        torch.save(states, Path(checkpoint_dir) / "state.pt")

    def load_checkpoint(self, checkpoint: str) -> None:
        """The same, with this member's hyperparameters."""
        import torch

        states = torch.load(Path(checkpoint) / "state.pt")
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])
        self.epoch = states["epoch"]
        self._set(self.config)


def main() -> None:
    """Run the population and print its best loss and its epochs."""
    from sweeper.data.loading import load
    from sweeper.spec.parse import load_spec

    folder, seed, members = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    random.seed(seed)
    np.random.seed(seed)
    dataset = load(load_spec({"dataset": {"name": "digits"}}))
    ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    space = {
        "lr": tune.loguniform(*LIMITS["lr"]),
        "momentum": tune.uniform(*LIMITS["momentum"]),
        "weight_decay": tune.loguniform(*LIMITS["weight_decay"]),
    }
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration", perturbation_interval=READY, hyperparam_mutations=space
    )
    epochs = folder / "epochs"
    epochs.mkdir()
    data = {"arrays": dataset.arrays(), "seed": seed, "epochs": str(epochs)}
    trainable = tune.with_resources(tune.with_parameters(Member, data=data), {"cpu": 1})
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            scheduler=scheduler, metric="val_loss", mode="min", num_samples=members, reuse_actors=True
        ),
        run_config=tune.RunConfig(name="pbt", storage_path=str(folder), verbose=0, stop={"trained": EPOCHS}),
    )
    tuner.fit()
    lines = [line.split() for file in epochs.iterdir() for line in file.read_text().splitlines()]
    told = [(float(loss), int(epoch)) for loss, epoch in lines]
    within = min(loss for loss, epoch in told if epoch <= EPOCHS)
    longest = max(epoch for _, epoch in told)
    print(json.dumps({"best": min(told)[0], "epochs": len(told), "longest": longest, "within": within}))


if __name__ == "__main__":
    main()
