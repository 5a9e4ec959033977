"""Child processes of a measurement: a clean environment, one core where wanted, the time from start to exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "GIT_PYTHON_REFRESH": "quiet"}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
FOREIGN = ("SWEEPER_", "MLFLOW_", "RAY_", "OPTUNA_")  # settings of the user's own services
TIMEOUT = 3 * 3600.0


class ChildFailed(Exception):
    """A measurement ended with an error; the message holds the end of what it printed."""


@dataclass(frozen=True)
class Ran:
    """A finished child: wall seconds from start to exit, the clock at its start, what it printed."""

    seconds: float
    started_at: float
    stdout: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line."""
        return json.loads(self.stdout.strip().splitlines()[-1])


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without settings of the user's own services."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return kept | QUIET | {"PYTHONPATH": path} | dict(extra or {})


def run(args: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
    """Run Python with ``args`` to its end.

    Raises:
        ChildFailed: it exited with an error or took longer than ``TIMEOUT``.
    """
    started_at, begin = time.time(), time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *args],
            env=environment(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildFailed(f"{' '.join(args)} took longer than {TIMEOUT:.0f} s") from error
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise ChildFailed(f"{' '.join(args)} exited with {done.returncode}:\n{done.stderr[-3000:]}")
    return Ran(seconds, started_at, done.stdout)


def measure(module: str, *args: object, one_core: bool = False) -> dict[str, Any]:
    """What ``python -m benchmarks.MODULE`` measured: the JSON object that it prints."""
    return run(["-m", f"benchmarks.{module}", *map(str, args)], ONE_THREAD if one_core else None).json


def pin() -> int:
    """Bind this process to one core and return its number. To be called before torch or jax are imported."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core
