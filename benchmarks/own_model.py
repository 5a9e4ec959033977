"""Trials per second of models of the user's own: side by side, one by one, in a loop of Optuna, and with Ray Tune.

python -m benchmarks.own_model [--trials 16] [--epochs 10] [--ray]

The first three are on one core, interleaved, by the processor's time, so that other programs do not count. Ray Tune is
by the clock, on all cores, from its start to its last result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import optuna
import torch
from torch import nn

from benchmarks.workloads import SEED, arrays
from sweeper.models import Data, TrainConfig, batch_order, train_cohort
from sweeper.models.own_cohort import how
from sweeper.models.own_config import ModelData, OwnConfig
from sweeper.models.own_row import OwnRow, build_own
from tests import own_modules

MODULES: dict[str, Callable[[Any], nn.Module]] = {
    "gated, layer norm, dropout": lambda data: own_modules.Gated(data.n_inputs, 128, data.n_outputs, 0.1),
    "residual, batch norm": lambda data: own_modules.Residual(data.n_inputs, 128, data.n_outputs),
    # 4 of the 64 points are the same in all images, so that they are no inputs
    "small convolution": lambda data: nn.Sequential(nn.ZeroPad1d((0, 4)), own_modules.Convolution(8, data.n_outputs)),
    "buffers": lambda data: own_modules.Buffered(data.n_inputs, data.n_outputs),
    "data-dependent branch": lambda data: own_modules.Branching(data.n_inputs, data.n_outputs),
}


@dataclass(frozen=True)
class Builder:
    """A module of the table above, as a sweep has it."""

    function: str
    file: str = own_modules.__file__
    text: str = ""
    pickled: str = ""

    def __call__(self, *args: Any) -> nn.Module:
        """The module for (trial, data)."""
        return MODULES[self.function](args[1])

    def happened(self, error: BaseException) -> str:
        """An error as it is."""
        return str(error)

    def line_of(self, error: BaseException) -> int | None:
        """The last line of the file that an error came through."""
        lines, at = [], error.__traceback__
        while at is not None:
            lines += [at.tb_lineno] if at.tb_frame.f_code.co_filename == self.file else []
            at = at.tb_next
        return lines[-1] if lines else None


def plain(name: str, rate: float, data: Data, epochs: int) -> float:
    """One trial as a user would write it; the loss on the validation rows."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = MODULES[name](ModelData.of(data.x_train.shape[1], 10))
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-3)
    loss_of, loss = nn.CrossEntropyLoss(), 0.0
    for epoch in range(epochs):
        model.train()
        for batch in batch_order(len(data.x_train), SEED, epoch).split(64):
            optimizer.zero_grad()
            loss_of(model(data.x_train[batch]), data.y_train[batch]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = loss_of(model(data.x_val), data.y_val).item()
    return loss


def optuna_loop(name: str, data: Data, trials: int, epochs: int) -> None:
    """A study in memory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=SEED))
    study.optimize(lambda t: plain(name, t.suggest_float("rate", 1e-3, 1e-1, log=True), data, epochs), trials)


def ours(name: str, data: Data, trials: int, epochs: int, fuse: bool) -> None:
    """The same trials in a cohort."""
    train = TrainConfig(epochs=epochs, plateau=None)
    configs = [
        OwnConfig.of({"learning_rate": 1e-3 * 1.3**i, "optimizer": "adamw", "weight_decay": 1e-3}, Builder(name))
        for i in range(trials)
    ]
    train_cohort([replace(config, fuse=fuse) for config in configs], train, data, [SEED] * trials)


def space(trial: Any) -> None:
    """The search space of Ray Tune, which pickles it."""
    trial.suggest_float("rate", 1e-3, 1e-1, log=True)


def ray_tune(name: str, trials: int, epochs: int) -> float:
    """Trials per second by the clock."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, Any], data: Data) -> None:
        tune.report({"val_loss": plain(name, config["rate"], data, epochs)})

    folder, began = tempfile.mkdtemp(), time.perf_counter()
    ray.init(address="local", log_to_driver=False, logging_level="ERROR")
    fixed = tune.with_parameters(trainable, data=Data.of_arrays(arrays()))
    search = OptunaSearch(space, metric="val_loss", mode="min", seed=SEED)
    config = tune.TuneConfig(search_alg=search, num_samples=trials, reuse_actors=True)
    tune.Tuner(tune.with_resources(fixed, {"cpu": 1}), tune_config=config,
               run_config=tune.RunConfig(verbose=0, storage_path=folder)).fit()  # fmt: skip
    rate = trials / (time.perf_counter() - began)
    ray.shutdown()
    return rate


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_model", description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--modules", nargs="*", default=list(MODULES), choices=list(MODULES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, trials, epochs = Data.of_arrays(arrays()), options.trials, options.epochs
    for name in options.modules:
        row = OwnRow(OwnConfig.of({}, Builder(name)), data.x_train.shape[1], 10, SEED, data.x_train)
        contenders: dict[str, Callable[[], None]] = {
            "side by side": lambda name=name: ours(name, data, trials, epochs, True),  # type: ignore[misc]
            "one by one": lambda name=name: ours(name, data, trials, epochs, False),  # type: ignore[misc]
            "Optuna": lambda name=name: optuna_loop(name, data, trials, epochs),  # type: ignore[misc]
        }
        reason = how(row, data, "classification", 64)
        spent: dict[str, list[float]] = {contender: [] for contender in contenders}
        for _ in range(options.rounds):
            for contender, run in contenders.items():
                began = time.process_time()
                run()
                spent[contender].append(time.process_time() - began)
        rates = [f"{contender} {trials / median(seconds):.2f}" for contender, seconds in spent.items()]
        if options.ray:
            rates.append(f"Ray Tune {ray_tune(name, trials, epochs):.2f}")
        size = sum(p.numel() for p in build_own(row.config, data.x_train.shape[1], 10, 0).parameters())
        print(f"{name} ({size:,} parameters): {', '.join(rates)} trials/s{f'; not fused: {reason}' if reason else ''}")


if __name__ == "__main__":
    main()
