"""One CUDA device: R1 beside JAX, networks side by side beside a loop over them, buckets, and a whole sweep.

    python -m benchmarks.gpu [--device cuda] [--runs 3] [--quick]

It prints one JSON object; without CUDA it says so. ``--device cpu --quick`` shows that all of it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import process, sweep
from benchmarks.results import Table, number, times
from benchmarks.workloads import R1, SEED, RandomSearch, Workload, data

if TYPE_CHECKING:
    from sweeper.models import Data, TrialConfig

COPY_BYTES = 1 << 30
MATMUL = 8192
PASSES = 7  # over the parameters in a step: read and write theta, m and v, and read the gradient
TABULAR = Workload(
    "tabular",
    (384, 384, 384),
    epochs=1,
    batch_size=256,
    layers={"dropout": 0.1, "normalization": "layer", "optimizer": "adamw", "activation": "relu"},
    noise=(64, 32 * 256),
)
SPACES = ("wide", "tabm_mlp")  # few widths, and many


def measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """Run in a child; None without a CUDA device."""
    found = process.measure("gpu", "--runs", options.runs, *(["--quick"] if options.quick else []))
    if not found["device"]:
        print("gpu: skipped, torch sees no CUDA device", flush=True)
        return None
    return found


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call, the device idle before and after."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    found = []
    for _ in range(repeats):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - begin)
    return found


def floors(device: str, part: float) -> dict[str, float]:
    """Bytes per second of a large copy, and operations per second of a large float32 matrix product."""
    import torch

    a = torch.empty(int(COPY_BYTES * part), dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    copied = 2 * len(a) / min(seconds(lambda: b.copy_(a), 10))
    x = torch.rand(int(MATMUL * part), int(MATMUL * part), device=device)
    y = torch.empty_like(x)
    return {"bytes": copied, "flops": 2 * len(x) ** 3 / min(seconds(lambda: torch.mm(x, x, out=y), 10))}


def race(device: str, rows: int, runs: int, epochs: int, part: float) -> dict[str, Any]:
    """Trials of R1 per second, the share of the two floors in a step, and JAX's rate on the same device."""
    import torch

    from sweeper.models import n_parameters, train_cohort

    workload, arrays = replace(R1, epochs=epochs), data()
    floor = floors(device, part)
    configs, on_device = workload.configs(rows), arrays.to(device)

    def train() -> None:
        train_cohort(configs, workload.train, on_device, [SEED] * rows, "eager", width=rows)

    train()  # warm up
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = median(seconds(train, runs))
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
    steps = epochs * -(-len(arrays.y_train) // workload.batch_size)
    parameters = n_parameters(workload.sizes(arrays.x_train.shape[1]))
    of_jax = jax_seconds(workload, configs, arrays, device, runs)
    return {
        "rows": rows,
        "runs": runs,
        "rate": rows / took * epochs / R1.epochs,
        "jax_rate": None if of_jax is None else rows / of_jax * epochs / R1.epochs,
        "step_ms": 1000 * took / steps,
        "memory_floor_ms": 1000 * rows * parameters * 4 * PASSES / floor["bytes"],
        "arithmetic_floor_ms": 1000 * rows * 2 * workload.multiply_adds(arrays) / steps / floor["flops"],
        "peak_gb": peak,
    }


def jax_seconds(
    workload: Workload, configs: Sequence[TrialConfig], arrays: Data, device: str, runs: int
) -> float | None:
    """JAX ``vmap`` of all rows at once, without compiling and first weights; None where JAX sees no such device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or it takes most of what torch needs
    try:
        import jax
    except ImportError:
        return None
    if jax.default_backend() != ("gpu" if device == "cuda" else "cpu"):
        return None
    from benchmarks.jaxpeer import Peer

    peer = Peer(workload.train, configs[0], arrays, len(configs), SEED)
    started = peer.start(configs)

    def train() -> None:
        jax.block_until_ready(peer.program(*started, peer.orders))

    train()  # warm up
    return median(seconds(train, runs))


def members(device: str, count: int, looped: int, runs: int, workload: Workload) -> dict[str, Any]:
    """Steps per second of all networks together: side by side, and in a plain loop over the first of them."""
    from sweeper.models import TrialConfig, train_cohort

    layers = dict(workload.layers) | {"hidden_layers": workload.hidden_layers}
    configs = [TrialConfig(**layers, learning_rate=1e-3 * (1 + n / count)) for n in range(count)]
    arrays = workload.data().to(device)
    steps = workload.epochs * -(-len(arrays.y_train) // workload.batch_size)

    def together() -> None:
        train_cohort(configs, workload.train, arrays, range(count), "eager", width=count)

    def one_by_one() -> None:
        for seed, config in enumerate(configs[:looped]):
            plain_loop(config, workload, arrays, seed)

    rates = {}
    for name, work, trained in (("together", together, count), ("loop", one_by_one, looped)):
        work()  # warm up
        rates[name] = trained * steps / median(seconds(work, runs))
    network = "x".join(map(str, workload.hidden_layers))
    return {"members": count, "network": network, "batch_size": workload.batch_size, **rates}


def plain_loop(config: TrialConfig, workload: Workload, arrays: Data, seed: int) -> None:
    """Train one network as one would write it by hand: torch's own dropout, and no wait for the device in a step."""
    import torch
    from torch import nn
    from torch.nn import functional

    from sweeper.models import batch_order, build_mlp
    from sweeper.models.solo import make_optimizer

    x, y = arrays.x_train, arrays.y_train
    model = build_mlp(config, x.shape[1], int(y.max()) + 1, seed).to(x)
    optimizer = make_optimizer(config, model)
    for epoch in range(workload.epochs):
        for batch in batch_order(len(x), seed, epoch).to(x.device).split(workload.batch_size):
            optimizer.zero_grad()
            output = model(x[batch], lambda h, layer: functional.dropout(torch.ones_like(h), config.dropout))
            functional.cross_entropy(output, y[batch]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def buckets(space: str, device: str, trials: int, runs: int, epochs: int) -> dict[str, Any]:
    """Random trials of a space, bucket by bucket and shape by shape; on a CPU it is the process's time."""
    from sweeper.models import TrainConfig, TrialConfig, train_cohort
    from sweeper.models.sizes import bucket_of
    from sweeper.search.study import Study
    from sweeper.search_spaces import load_space

    asked = Study(load_space(space), RandomSearch(), "minimize", trials, trials).ask(range(trials))
    configs = [replace(TrialConfig.from_params(params), learning_rate=1e-3) for params in asked]
    arrays, train = data().to(device), TrainConfig(epochs=epochs, batch_size=256)
    keys = {
        "padded": {(bucket_of(config.hidden_layers), config.batch_size) for config in configs},
        "by shape": {(config.hidden_layers, config.batch_size) for config in configs},
    }

    def work(padded: bool) -> None:
        train_cohort(configs, train, arrays, [SEED] * trials, "eager", width=trials, padded=padded)

    found: dict[str, list[float]] = {name: [] for name in keys}
    for name in keys:
        work(name == "padded")  # warm up
    for _ in range(runs):
        for name, took in found.items():
            began = time.process_time()
            waited = seconds(lambda name=name: work(name == "padded"), 1)
            took.append(waited[0] if device == "cuda" else time.process_time() - began)
    ms = {name: 1000 * median(took) / trials for name, took in found.items()}
    return {"space": space, "trials": trials, "groups": {name: len(found) for name, found in keys.items()}, "ms": ms}


def whole_sweep(trials: int, epochs: int) -> dict[str, Any]:
    """``sweeper run`` with MLflow on, its worker in its own process, from start to exit."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        timing = sweep.run_sweeper(Path(folder), trials, epochs, "--workers", "inline")
    return {"trials": trials, "seconds": timing.seconds, "rate": timing.rate, "mlflow_runs": timing.mlflow_runs}


def tables(section: Mapping[str, Any]) -> list[Table]:
    """One for each part."""
    r1, side, whole = section["r1"], section["members"], section["sweep"]
    columns = ("rows", "trials/s", "JAX", "of JAX", "ms per step", "memory floor", "arithmetic floor", "peak GB")
    keys = ("step_ms", "memory_floor_ms", "arithmetic_floor_ms", "peak_gb")
    of_jax = times(r1["rate"], r1["jax_rate"])
    row = (str(r1["rows"]), number(r1["rate"]), number(r1["jax_rate"]), of_jax, *(number(r1[key]) for key in keys))
    note = (
        f"Median of {r1['runs']} runs. Evaluation is included in the time per step. Floors: {PASSES} passes over "
        "the parameters at the rate of a large copy; the multiply-adds at that of a large float32 product. JAX: "
        "vmap over all rows, without compiling and the first weights."
    )
    ratio = times(side["together"], side["loop"])
    title = f"{side['members']} networks of {side['network']}, batch {side['batch_size']}, dropout and layer norm"
    bucket_rows = tuple(
        (one["space"], str(one["trials"]), name, str(one["groups"][name]), number(one["ms"][name]))
        for one in section["buckets"]
        for name in one["ms"]
    )
    whole_row = (str(whole["trials"]), number(whole["seconds"]), number(whole["rate"]), str(whole["mlflow_runs"]))
    return [
        Table(f"R1 on {section['device']}", columns, (row,), note),
        Table(
            title,
            ("side by side, steps/s", "loop, steps/s", "ratio"),
            ((number(side["together"]), number(side["loop"]), ratio),),
        ),
        Table("Random trials of a space", ("space", "trials", "", "groups", "ms per trial"), bucket_rows),
        Table("Whole sweep with MLflow", ("trials", "seconds", "trials/s without start and end", "runs"), (whole_row,)),
    ]


def main() -> None:
    """Measure in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that everything runs")
    options = parser.parse_args()
    import torch

    device, runs, quick = options.device, 1 if options.quick else options.runs, options.quick
    if device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"device": None}))
        return
    tabular = replace(TABULAR, hidden_layers=(16, 16, 16), noise=(8, 512)) if quick else TABULAR
    found = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "this CPU",
        "r1": race(device, 16 if quick else 1024, runs, 2 if quick else R1.epochs, 1 / 16 if quick else 1.0),
        "members": members(device, 4 if quick else 64, 2 if quick else 8, runs, tabular),
        "buckets": [buckets(space, device, 4 if quick else 128, runs, 1 if quick else 5) for space in SPACES],
        "sweep": whole_sweep(4 if quick else 512, 2 if quick else R1.epochs),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
