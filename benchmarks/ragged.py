"""Trials of the space ``wide`` trained together, shape by shape, and in full cohorts of one shape: CPU ms per trial.

    python -m benchmarks.ragged [--trials 16] [--repeats 5]

The reference is each trial's share of a full cohort of its own shape, so that it is the same arithmetic. One thread,
its own time: other programs on the machine hardly matter.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from benchmarks.workloads import R1, arrays
from sweeper.data.source import Source
from sweeper.scheduling.events import Shape
from sweeper.training.leg_runner import LegRunner
from sweeper.training.legs import LegOrder, RowStart, TrialStart

RATE = 1e-3  # rows that diverge would train for nothing


def starts(count: int, epochs: int) -> list[TrialStart]:
    """The first trials of a random search in ``wide``."""
    from benchmarks.workloads import RandomSearch
    from sweeper.models import TrialConfig
    from sweeper.search.study import Study
    from sweeper.search_spaces import load_space

    asked = Study(load_space("wide"), RandomSearch(), "minimize", count, count).ask(range(count))
    found = []
    for number, params in enumerate(asked):
        config = replace(TrialConfig.from_params(params), learning_rate=RATE)
        assert config.batch_size is not None
        shape = Shape(config.hidden_layers, config.batch_size, epochs)
        found.append(TrialStart(number, 1, shape, config, (RowStart(0),)))
    return found


def seconds(trials: Sequence[TrialStart], epochs: int) -> float:
    """The thread's seconds for training these trials in one cohort."""
    runner = LegRunner(threads=1)
    runner.load("s", Source((arrays(),)))
    train = replace(R1.train, epochs=epochs, keep="best", gradient_flow=1)
    order = LegOrder(1, "s", 1, train, tuple(trials), (), epochs, 1, 1e9, "val_loss", True)
    began = time.thread_time()
    runner.run(order)
    return time.thread_time() - began


def measure(count: int, repeats: int, epochs: int = 10) -> dict[str, float]:
    """Medians of CPU milliseconds per trial, and the rates against the reference."""
    trials, by_shape = starts(count, epochs), defaultdict(list)
    for trial in trials:
        by_shape[trial.shape].append(trial)
    together, apart, alone = [], [], []
    for _ in range(repeats):
        together.append(seconds(trials, epochs))
        apart.append(sum(seconds(group, epochs) for group in by_shape.values()))
        full = 0.0
        for group in by_shape.values():
            of_shape = [replace(group[i % len(group)], number=i) for i in range(16)]
            full += seconds(of_shape, epochs) * len(group) / 16
        alone.append(full)
    ms = {
        name: 1000 * median(found) / count
        for name, found in (("together", together), ("shape by shape", apart), ("full cohorts", alone))
    }
    rates = {f"{name}, rate": ms["full cohorts"] / ms[name] for name in ("together", "shape by shape")}
    return {"trials": count, "shapes": len(by_shape), **ms, **rates}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measure(options.trials, options.repeats)))


if __name__ == "__main__":
    main()
