"""One sweep in this process with its CPU time attributed to parts of the driver; prints one JSON object.

python -m benchmarks.driver SWEEP_FILE TRIALS WORKERS

The parts are measured by wrapping the project's methods from outside, with the CPU time of the calling thread; what a
wrapped method spends in another wrapped one counts for the inner one.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTS = ("suggest", "ledger", "MLflow", "scheduling", "rest of the loop", "training", "MLflow start", "MLflow end")


class Meter:
    """Exclusive CPU seconds per part, over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock, self._local = threading.Lock(), threading.local()

    def wrap(self, owner: type, method: str, part: str) -> None:
        """Count every call of ``owner.method`` for ``part``."""
        inner: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(inner)
        def measured(*args: Any, **options: Any) -> Any:
            nested: list[float] = self._local.__dict__.setdefault("nested", [0.0])
            nested.append(0.0)
            begin = time.thread_time()
            try:
                return inner(*args, **options)
            finally:
                total, inside = time.thread_time() - begin, nested.pop()
                nested[-1] += total
                with self._lock:
                    self.seconds[part] += total - inside

        setattr(owner, method, measured)


def instrument(meter: Meter) -> tuple[list[float], dict[str, Any]]:
    """Wrap the driver's parts. Returns the wall seconds per suggestion, and the controller once it is there."""
    from sweeper.ledger.sql import SqlLedger
    from sweeper.running.controller import Controller
    from sweeper.scheduling.scheduler import Scheduler
    from sweeper.search.study import Study
    from sweeper.tracking.tracker import Tracker
    from sweeper.training.leg_runner import LegRunner

    for method in [name for name, value in vars(SqlLedger).items() if callable(value) and not name.startswith("_")]:
        meter.wrap(SqlLedger, method, "ledger")
    for method in ("ask", "tell"):
        meter.wrap(Study, method, "suggest")
    meter.wrap(Scheduler, "handle", "scheduling")
    meter.wrap(Controller, "run", "rest of the loop")
    meter.wrap(Tracker, "_work", "MLflow")
    meter.wrap(Tracker, "_begin", "MLflow start")
    meter.wrap(LegRunner, "run", "training")
    once_at_the_end(meter, Tracker)
    seen: dict[str, Any] = {}
    suggestions: list[float] = []
    ask, run = Study.ask, Controller.run

    def timed_ask(study: Study, numbers: Any) -> Any:
        begin = time.perf_counter()
        asked = ask(study, numbers)
        suggestions.extend([(time.perf_counter() - begin) / len(asked)] * len(asked))
        return asked

    def remembered_run(controller: Controller, *args: Any, **options: Any) -> None:
        seen["controller"], begin = controller, time.perf_counter()
        run(controller, *args, **options)
        seen["loop_seconds"] = seen.get("loop_seconds", 0.0) + time.perf_counter() - begin

    Study.ask, Controller.run = timed_ask, remembered_run  # type: ignore[method-assign]
    return suggestions, seen


def once_at_the_end(meter: Meter, tracker: type) -> None:
    """The winner's model and the summary are written once per sweep: a part of their own."""
    from sweeper.tracking.sweep import SweepInMlflow

    for method in ("log_winner", "end"):
        meter.wrap(SweepInMlflow, method, "MLflow end")


def peak_memory() -> float:
    """The largest resident size of this process in MB. (``ru_maxrss`` may still hold its parent's.)"""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the sweep and print the parts."""
    import torch  # noqa: F401 - its import, once per process, is no cost of a trial

    from sweeper import api
    from sweeper.spec.parse import load_spec

    file, trials, workers = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    meter = Meter()
    suggestions, seen = instrument(meter)
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        os.environ["SWEEPER_HOME"] = home
        started, begin = time.process_time(), time.perf_counter()
        result = api.run(load_spec(file, trials=trials), workers=workers)
        wall, cpu = time.perf_counter() - begin, time.process_time() - started
        summary = result.summary
    idle = seen["controller"].idle_seconds
    parts = {part: meter.seconds.get(part, 0.0) for part in PARTS} | {"other": cpu - sum(meter.seconds.values())}
    ordered = sorted(suggestions)
    print(
        json.dumps(
            {
                "trials": trials,
                "workers": workers,
                "complete": summary["complete"],
                "wall": wall,
                "loop": seen["loop_seconds"],
                "cpu": parts,
                "suggest_ms": {
                    f"p{q}": 1000 * ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in (50, 99)
                },
                "peak_mb": peak_memory(),
                "idle_share": sum(idle.values()) / (seen["loop_seconds"] * max(1, len(idle))),
            }
        )
    )


if __name__ == "__main__":
    main()
