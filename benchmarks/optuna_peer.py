"""The sweep with Optuna: two processes on one SQLite study, each epoch logged to MLflow.

python -m benchmarks.optuna_peer FOLDER TRIALS EPOCHS [worker]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import optuna

from benchmarks.workloads import SEED, arrays

PROCESSES = 2


def open_storage(folder: Path) -> optuna.storages.RDBStorage:
    """The study's database; the long wait is what Optuna's FAQ advises for SQLite."""
    return optuna.storages.RDBStorage(f"sqlite:///{folder}/optuna.db", engine_kwargs={"connect_args": {"timeout": 100}})


def work(folder: Path, trials: int, epochs: int, number: int) -> None:
    """One process's share of the trials."""
    from benchmarks import plain

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("digits")
    data = arrays()

    def objective(trial: optuna.Trial) -> float:
        plain.stamp(folder, "starts")
        params = plain.suggest(trial)
        with mlflow.start_run(run_name=f"trial {trial.number}"):
            mlflow.log_params(params)
            for epoch, metrics in enumerate(plain.train(params, data, epochs)):
                mlflow.log_metrics(metrics, step=epoch)
        plain.stamp(folder, "ends")
        return metrics["val_loss"]

    sampler = optuna.samplers.TPESampler(seed=SEED + number)
    study = optuna.load_study(study_name="digits", storage=open_storage(folder), sampler=sampler)
    study.optimize(objective, n_trials=trials)


def main() -> None:
    """Create the study and the experiment, start the processes, print how many trials ended well."""
    folder, trials, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if len(sys.argv) > 4:
        work(folder, trials, epochs, int(sys.argv[4]))
        return
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("digits")
    study = optuna.create_study(study_name="digits", storage=open_storage(folder))
    shares = [len(range(number, trials, PROCESSES)) for number in range(PROCESSES)]
    command = [sys.executable, "-m", "benchmarks.optuna_peer", str(folder)]
    workers = [
        subprocess.Popen([*command, str(share), str(epochs), str(number)]) for number, share in enumerate(shares)
    ]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        sys.exit(f"the processes ended with {codes}")
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    print(json.dumps({"complete": len(complete), "best": study.best_value}))


if __name__ == "__main__":
    main()
