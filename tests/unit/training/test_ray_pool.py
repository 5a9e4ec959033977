"""What a worker's process holds when its first leg has ended."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
import sweeper.training.ray_pool
from sweeper.data.source import Source
from sweeper.models import TrainConfig, TrialConfig
from sweeper.scheduling.events import Shape
from sweeper.training.leg_runner import LegRunner
from sweeper.training.legs import LegOrder, RowStart, TrialStart

x, y = np.zeros((40, 4), np.float32), np.arange(40) % 3
runner = LegRunner("cpu", threads=1)
runner.load("s", Source(({"x_train": x, "y_train": y, "x_val": x, "y_val": y},)))
shape = Shape((8,), 16, 2)
order = LegOrder(
    leg=1, sweep="s", cohort=1, train=TrainConfig(epochs=2),
    admit=(TrialStart(0, 1, shape, TrialConfig(hidden_layers=(8,)), (RowStart(0),)),), drop=(),
    epochs=2, width=1, seconds=60.0, metric="val_loss", minimize=True,
)
[trial] = runner.run(order).trials
assert len(trial.metrics["val_loss"]) == 2
known = {"mlflow", "optuna", "pandas", "pydantic", "scipy", "sklearn", "sqlalchemy", "sympy"} & set(sys.modules)
assert not known, f"a worker waits for the import of {known}"
"""


def test_a_worker_imports_torch_and_numpy_and_no_other_engine_before_its_first_leg_ends() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
