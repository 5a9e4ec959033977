"""What measuring gradient flow costs: epochs of one cohort that are measured beside their neighbours that are not.

``python -m benchmarks.flow EPOCHS`` prints one JSON object; ``python -m benchmarks --only flow`` shows the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

from benchmarks import process
from benchmarks.results import Table, number
from benchmarks.workloads import SEED, WORKLOADS, Workload, data

ROWS = 32
EPOCHS = 300  # half of them measured


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run in a child that is bound to one core."""
    return process.measure("flow", 8 if options.quick else EPOCHS, one_core=True)


def overheads(workload: Workload, path: str, epochs: int) -> dict[str, Any]:
    """CPU seconds of each measured epoch over the mean of the two around it, minus 1, where all train as many rows."""
    from sweeper.models import Cohort

    train = replace(workload.train, gradient_flow=2, epochs=epochs + 1)
    cohort = Cohort(train, workload.hidden_layers, data(), ROWS, path)
    for number_, config in enumerate(workload.configs(ROWS)):
        cohort.admit(number_, config, SEED)
    seconds, rows = [], []
    for _ in range(epochs):
        rows.append(len(cohort.occupants))
        begin = time.process_time()
        cohort.leg(1)
        seconds.append(time.process_time() - begin)
    shares = [
        2 * seconds[i] / (seconds[i - 1] + seconds[i + 1]) - 1
        for i in range(2, epochs - 1, 2)
        if rows[i - 1] == rows[i + 1]
    ]
    low, _, high = quantiles(shares) if len(shares) > 1 else [shares[0]] * 3
    plain = median(seconds[3::2])
    return {"epoch": plain, "pairs": len(shares), "share": median(shares), "low": low, "high": high}


def tables(section: Mapping[str, Any]) -> list[Table]:
    """One row for each workload and path."""
    rows = tuple(
        (
            name,
            path,
            number(1000 * found["epoch"]),
            f"{found['share']:.1%}",
            f"{found['low']:.1%} to {found['high']:.1%}",
            str(found["pairs"]),
        )
        for name, paths in section["workloads"].items()
        for path, found in paths.items()
    )
    note = (
        f"CPU time of one core, {section['rows']} rows. In one cohort every second epoch is measured; each of those is "
        "compared with the mean of the two around it. Median, and quartiles, of these shares."
    )
    columns = ("workload", "path", "epoch ms", "overhead", "quartiles", "pairs")
    return [Table("Gradient flow, measured in every epoch", columns, rows, note)]


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("epochs", type=int)
    epochs = parser.parse_args().epochs
    process.pin()
    import torch

    from sweeper.models.paths import PATHS

    torch.set_num_threads(1)
    paths = [name for name, path in PATHS.items() if path.available(torch.device("cpu"))]
    found = {w.name: {path: overheads(w, path, epochs) for path in paths} for w in WORKLOADS.values()}
    print(json.dumps({"rows": ROWS, "workloads": found}))


if __name__ == "__main__":
    main()
