"""One CUDA device: a wide cohort of R1 beside the floors of memory and arithmetic.

``python -m benchmarks.gpu ROWS RUNS EPOCHS`` prints one JSON object; without CUDA it says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks import process
from benchmarks.results import Table, number
from benchmarks.workloads import R1, SEED, data

COPY_BYTES = 1 << 30
MATMUL = 8192
PASSES = 7  # over the parameters in a step: read and write theta, m and v, and read the gradient


def measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """Run in a child; None without a CUDA device."""
    sizes = (16, 1, 2) if options.quick else (1024, options.runs, R1.epochs)
    found = process.measure("gpu", *sizes)
    if not found["device"]:
        print("gpu: skipped, torch sees no CUDA device", flush=True)
        return None
    return found


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The least time of one call, the device idle before and after."""
    import torch

    least = float("inf")
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        least = min(least, time.perf_counter() - begin)
    return least


def floors() -> dict[str, float]:
    """Bytes per second of a large copy, and operations per second of a large float32 matrix product."""
    import torch

    a = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    copied = 2 * COPY_BYTES / seconds(lambda: b.copy_(a), 10)
    x = torch.rand(MATMUL, MATMUL, device="cuda")
    y = torch.empty_like(x)
    return {"bytes": copied, "flops": 2 * MATMUL**3 / seconds(lambda: torch.mm(x, x, out=y), 10)}


def race(rows: int, runs: int, epochs: int) -> dict[str, Any]:
    """Trials per second, and the share of the two floors in a step."""
    import torch

    from sweeper.models import n_parameters, train_cohort

    workload, arrays = replace(R1, epochs=epochs), data()
    floor = floors()
    configs, on_device = workload.configs(rows), arrays.to("cuda")

    def train() -> None:
        train_cohort(configs, workload.train, on_device, [SEED] * rows, width=rows)

    train()  # warm up
    torch.cuda.reset_peak_memory_stats()
    took = median(seconds(train, 1) for _ in range(runs))
    steps = epochs * -(-len(arrays.y_train) // workload.batch_size)
    parameters = n_parameters(workload.sizes(arrays.x_train.shape[1]))
    return {
        "device": torch.cuda.get_device_name(),
        "rows": rows,
        "runs": runs,
        "rate": rows / took * epochs / R1.epochs,
        "step_ms": 1000 * took / steps,
        "memory_floor_ms": 1000 * rows * parameters * 4 * PASSES / floor["bytes"],
        "arithmetic_floor_ms": 1000 * rows * 2 * workload.multiply_adds(arrays) / steps / floor["flops"],
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def tables(section: Mapping[str, Any]) -> list[Table]:
    """One row."""
    columns = ("device", "rows", "trials/s", "ms per step", "memory floor", "arithmetic floor", "peak GB")
    keys = ("rate", "step_ms", "memory_floor_ms", "arithmetic_floor_ms", "peak_gb")
    row = (section["device"], str(section["rows"]), *(number(section[key]) for key in keys))
    note = (
        f"Median of {section['runs']} runs. Evaluation is included in the time per step. Floors: {PASSES} passes over "
        "the parameters at the rate of a large copy; the multiply-adds at that of a large float32 product."
    )
    return [Table("R1 on one GPU", columns, (row,), note)]


def main() -> None:
    """Measure in this process."""
    import torch

    if not torch.cuda.is_available():
        print(json.dumps({"device": None}))
        return
    print(json.dumps(race(*map(int, sys.argv[1:4]))))


if __name__ == "__main__":
    main()
