"""The sweep with Ray Tune: OptunaSearch, reused actors, MLflowLoggerCallback; each trial on one CPU.

python -m benchmarks.raytune_peer FOLDER TRIALS EPOCHS
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from benchmarks import plain
from benchmarks.workloads import SEED, arrays


def trainable(config: dict[str, Any], data: dict[str, Any], folder: str, epochs: int) -> None:
    """One trial; notes when it began and ended."""
    plain.stamp(folder, "starts")
    for metrics in plain.train(config, data, epochs):
        tune.report(metrics)
    plain.stamp(folder, "ends")


def space(trial: Any) -> None:
    """The search space; what is suggested becomes the trial's configuration."""
    plain.suggest(trial)


def main() -> None:
    """Run the sweep and print how many trials ended well."""
    folder, trials, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    ray.init(address="local", log_to_driver=False, logging_level="ERROR")
    fixed = tune.with_parameters(trainable, data=arrays(), folder=str(folder), epochs=epochs)
    tuner = tune.Tuner(
        tune.with_resources(fixed, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space, metric="val_loss", mode="min", seed=SEED),
            num_samples=trials,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="digits",
            storage_path=str(folder / "tune"),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="digits")],
            verbose=0,
        ),
    )
    results = tuner.fit()
    best = results.get_best_result(metric="val_loss", mode="min")
    print(json.dumps({"complete": len(results) - results.num_errors, "best": best.metrics["val_loss"]}))


if __name__ == "__main__":
    main()
