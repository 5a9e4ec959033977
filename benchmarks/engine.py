"""The engine on one core: cohort paths beside the plain loop, hand-written JAX and the arithmetic floor.

``python -m benchmarks.engine`` prints one JSON object; ``python -m benchmarks --only engine`` runs it and shows tables.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import process
from benchmarks.results import Table, number, times
from benchmarks.workloads import ENGINE, SEED, Workload

if TYPE_CHECKING:
    from sweeper.models import Data, TrialConfig

JAX_ROWS = (2, 4, 8, 16, 32)  # JAX runs at the best of these
SAME = 1e-2  # deviation of a final validation loss that counts as equal
MATMUL = 1024
NUDGE = 2e-7


@dataclass
class Contender:
    """One way to train the first trials of a workload; ``train`` returns their final validation losses."""

    trials: int
    train: Callable[[], list[float]]
    rows: int
    compile_seconds: float | None = None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Measure once."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.losses = self.train()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)

    def numbers(self) -> dict[str, Any]:
        """Trials per second of CPU time, and the share of the time in which this process had the core."""
        rates = sorted(self.trials / seconds for seconds in self.cpu)
        return {
            "trials": self.trials,
            "rows": self.rows,
            "rate": median(rates),
            "low": rates[0],
            "high": rates[-1],
            "busy": sum(self.cpu) / sum(self.wall),
            "compile_seconds": self.compile_seconds,
        }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run in a child that is bound to one core."""
    sizes = (1, 8, 2) if options.quick else (options.runs, 64, 16)
    return process.measure("engine", *sizes, *(["--quick"] if options.quick else []), one_core=True)


def gflops() -> float:
    """This core's rate on a large float32 matrix product, the best of some: 2 operations per multiply-add."""
    import torch

    a, b = torch.rand(MATMUL, MATMUL), torch.rand(MATMUL, MATMUL)
    out, best = torch.empty(MATMUL, MATMUL), float("inf")
    for _ in range(12):
        begin = time.process_time()
        torch.mm(a, b, out=out)
        best = min(best, time.process_time() - begin)
    return 2 * MATMUL**3 / best / 1e9


def solo(workload: Workload, configs: Sequence[TrialConfig], arrays: Data) -> Contender:
    """The plain PyTorch loop, one trial after another."""
    from sweeper.models import train_solo

    def train() -> list[float]:
        return [last(train_solo(config, workload.train, arrays, SEED).val_loss) for config in configs]

    return Contender(len(configs), train, 1)


def cohort(
    workload: Workload, configs: Sequence[TrialConfig], arrays: Data, path: str, rows: int | None = None
) -> Contender:
    """``train_cohort`` on one path, ``rows`` trials side by side (default: its own)."""
    from sweeper.models import train_cohort
    from sweeper.models.train import WIDTH

    def train() -> list[float]:
        histories = train_cohort(configs, workload.train, arrays, [SEED] * len(configs), path, width=rows)
        return [last(history.val_loss) for history in histories]

    return Contender(len(configs), train, min(rows or WIDTH, len(configs)))


def jax(workload: Workload, configs: Sequence[TrialConfig], arrays: Data, rows: int) -> Contender:
    """JAX in cohorts of ``rows``; the time leaves compiling out."""
    from benchmarks.jaxpeer import Peer

    peer = Peer(workload.train, configs[0], arrays, rows, SEED)

    def train() -> list[float]:
        parts = [configs[start : start + rows] for start in range(0, len(configs), rows)]
        return [loss for part in parts for loss in peer.run(part)["val_loss"][:, -1].tolist()]

    return Contender(len(configs), train, rows, peer.compile_seconds)


def best_jax(workload: Workload, configs: Sequence[TrialConfig], arrays: Data) -> Contender:
    """JAX at the width that was fastest on a first try."""
    tried = [jax(workload, configs, arrays, rows) for rows in JAX_ROWS if len(configs) % rows == 0]
    for contender in tried:
        contender.run()
    best = min(tried, key=lambda contender: contender.cpu[0])
    return replace(best, wall=[], cpu=[], losses=[])


def perturbed(workload: Workload, configs: Sequence[TrialConfig], arrays: Data) -> list[float]:
    """Final losses of the plain loop from initial weights changed in the last bits: what chaos alone does."""
    import torch

    from sweeper.models import build_mlp, solo

    def build(*args: Any) -> torch.nn.Module:
        model = build_mlp(*args)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.0 + NUDGE)
        return model

    solo.build_mlp = build  # type: ignore[assignment]
    try:
        return [last(solo.train_solo(config, workload.train, arrays, SEED).val_loss) for config in configs]
    finally:
        solo.build_mlp = build_mlp


def last(curve: Sequence[float]) -> float:
    """The final value; NaN when the trial diverged in its first epoch."""
    return curve[-1] if curve else float("nan")


def deviation(losses: Sequence[float], truth: Sequence[float]) -> dict[str, Any]:
    """How far final losses are from the plain loop's, for trials that ended finite in both."""
    gaps = sorted(gap for a, b in zip(losses, truth, strict=False) if (gap := abs(a - b)) < float("inf"))
    same = sum(gap <= SAME for gap in gaps)
    return {"median": median(gaps), "max": gaps[-1], "same": same, "of": len(gaps)}


def race(workload: Workload, runs: int, trials: int, solo_trials: int) -> dict[str, Any]:
    """All contenders on one workload, interleaved."""
    from sweeper.models.native import NativePath

    trials, solo_trials = (max(1, round(count * workload.part)) for count in (trials, solo_trials))
    arrays, configs = workload.data(), workload.configs(trials)
    contenders = {"train_solo": solo(workload, configs[:solo_trials], arrays)}
    contenders["JAX vmap + scan"] = best_jax(workload, configs, arrays)
    contenders["cohort, eager path"] = cohort(workload, configs, arrays, "eager")
    if NativePath.available("cpu"):
        contenders["cohort, native path"] = cohort(workload, configs, arrays, "native")
    speed = []
    for _ in range(runs):
        speed.append(gflops())
        for contender in contenders.values():
            contender.run()
    truth = contenders["train_solo"].losses
    finals = {name: contender.losses for name, contender in contenders.items() if contender.losses is not truth}
    finals["train_solo, weights off by 2e-7"] = perturbed(workload, configs[:solo_trials], arrays)
    return {
        "contenders": {name: contender.numbers() for name, contender in contenders.items()},
        "deviation": {name: deviation(losses, truth) for name, losses in finals.items()},
        "gflops": median(speed),
        "multiply_adds": workload.multiply_adds(arrays),
        "runs": runs,
    }


def tables(section: Mapping[str, Any]) -> list[Table]:
    """Rates and ratios, and how exact each contender is."""
    return [table for name in section for table in (_rates(name, section[name]), _exactness(name, section[name]))]


def _rates(name: str, race: Mapping[str, Any]) -> Table:
    contenders, floor = race["contenders"], race["gflops"] * 1e9 / (2 * race["multiply_adds"])
    solo_rate, jax_rate = contenders["train_solo"]["rate"], contenders["JAX vmap + scan"]["rate"]
    rows = [
        (
            key,
            str(c["rows"]),
            number(c["rate"]),
            f"{number(c['low'])} to {number(c['high'])}",
            times(c["rate"], solo_rate),
            times(c["rate"], jax_rate),
            f"{c['rate'] / floor:.0%}",
            number(c["rate"] * 2 * race["multiply_adds"] / 1e9),
            number(c["compile_seconds"]),
            f"{c['busy']:.0%}",
        )
        for key, c in contenders.items()
    ]
    rows.append(
        (
            "arithmetic floor",
            "",
            number(floor),
            "",
            times(floor, solo_rate),
            times(floor, jax_rate),
            "100%",
            number(race["gflops"]),
            "",
            "",
        )
    )
    columns = ("", "rows", "trials/s", "range", "of solo", "of JAX", "of floor", "GFLOP/s", "compile s", "core held")
    network = "x".join(map(str, ENGINE[name].hidden_layers))
    note = (
        f"Medians of {race['runs']} interleaved runs, bound to one core. Floor: {race['multiply_adds'] / 1e9:.2f} G "
        f"multiply-adds a trial at the {race['gflops']:.0f} GFLOP/s that this core reaches on a {MATMUL} x {MATMUL} "
        "float32 matrix product. Rates are per second of CPU time; JAX's leaves compiling out. Core held: CPU time "
        "over wall time; below 100% something else ran."
    )
    return Table(f"{name}: {ENGINE[name].about}, hidden {network}, one core", columns, tuple(rows), note)


def _exactness(name: str, race: Mapping[str, Any]) -> Table:
    rows = tuple(
        (key, f"{d['median']:.1e}", f"{d['max']:.1e}", f"{d['same']} of {d['of']}")
        for key, d in race["deviation"].items()
    )
    note = (
        "Trials whose learning rate is so high that training is chaotic end elsewhere after any change of the last "
        "bits, as the last row shows of train_solo itself."
    )
    columns = ("", "median", "largest", f"within {SAME:g}")
    return Table(f"{name}: final validation loss against train_solo", columns, rows, note)


def main() -> None:
    """Measure in this process, bound to one core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int)
    parser.add_argument("trials", type=int)
    parser.add_argument("solo_trials", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=ENGINE, help="one workload")
    options = parser.parse_args()
    process.pin()
    import torch

    torch.set_num_threads(1)
    chosen = [replace(w, epochs=2) if options.quick else w for w in ENGINE.values() if options.only in (None, w.name)]
    print(json.dumps({w.name: race(w, options.runs, options.trials, options.solo_trials) for w in chosen}))


if __name__ == "__main__":
    main()
