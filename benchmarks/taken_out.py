"""What each part of `tabular` is worth: its first point trained without one of them, judged on held-out training rows.

python -m benchmarks.taken_out [TABLE ...] [--seeds 3] [--folder .tables]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.real_tables import TABLES, RealTable, table
from sweeper.data.loading import load
from sweeper.models import train_cohort
from sweeper.spec.parse import load_spec
from sweeper.training.again import network_of, outputs_on_test, scores_on_test, weights_of

FIXED = {
    **{"optimizer": "adamw", "initialization": "he_uniform", "activation": "relu", "batch_size": 128},
    **{"normalization": "layer", "ema_decay": 0.99, "binning": "quantile"},
}  # what `tabular` does not search
PLAIN = {"numeric_embedding": "none", "normalize": "quantile"}
OUT: dict[str, dict[str, Any]] = {
    "everything": {},
    "no bins": PLAIN,
    "embeddings (PLR) for bins": {
        **{"numeric_embedding": "plr", "normalize": "quantile"},
        **{"frequencies": 48, "embedding_size": 16, "frequency_scale": 0.2},
    },
    "no dropout": {"dropout": 0.0},
    "no layer normalisation": {"normalization": "none"},
    "no averaged weights": {"ema_decay": 0.0},
    "a cosine schedule": {"schedule": "cosine"},
    "the last of 100 epochs, not the best": {},
}


def measure(about: RealTable, folder: Path, seeds: int) -> None:
    """Print a line for each part: the mean over seeds, and the score of the seeds' networks together."""
    files, numbers = table(about.name, folder), list(range(seeds))
    rows = pd.read_csv(files[0])
    held = np.random.default_rng(5).permutation(len(rows))[: len(rows) // 5]
    with tempfile.TemporaryDirectory() as scratch:
        parts = {"path": rows.drop(index=held), "test": rows.iloc[held]}
        for name, part in parts.items():
            part.to_csv(Path(scratch, f"{name}.csv"), index=False)
        source: dict[str, Any] = {
            "dataset": {**{n: str(Path(scratch, f"{n}.csv")) for n in parts}, "target": "target", "task": about.task},
            "split": {"validation": 0.2, "seed": 0},
            "space": "tabular",
            "training": {"epochs": 100, "patience": 16, "gradient_flow": None},
        }
        spec = load_spec(source)
        whole = load(spec)
    first = {**FIXED, **spec.enqueue[0]}
    for name, change in OUT.items():
        kept = {key: value for key, value in first.items() if key not in ("bins", "binning")}
        point = {**(kept if "numeric_embedding" in change else first), **change}
        data, train = whole.prepared(spec.inputs_of(point)), spec.train_config(about.task, point)
        if "last" in name:
            train = replace(train, keep="last", patience=None)
        histories = train_cohort([spec.trial_config(point)] * seeds, train, data.tensors(), numbers)
        outputs = [outputs_on_test(data, network_of(spec, data, point, weights_of([one]))) for one in histories]
        together = (*outputs, sum(outputs) / seeds)
        scores = [scores_on_test(data, made)[f"test_{about.metric}"] for made in together]
        print(f"| {about.name} | {name} | {fmean(scores[:-1]):.4f} | {scores[-1]:.4f} |", flush=True)


def main() -> None:
    """The tables asked for, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=["phoneme", "cpu_act"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", default=".tables")
    options = parser.parse_args()
    print("| table | without | one network, mean | the networks together |\n|---|---|---:|---:|")
    for about in TABLES:
        if about.name in options.tables:
            measure(about, Path(options.folder).absolute(), options.seeds)


if __name__ == "__main__":
    main()
