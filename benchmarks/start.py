"""Start-up: from the shell prompt to the first training step, and to the winner of 64 trials, with Ray and without."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import process
from benchmarks.results import Table, number
from benchmarks.sweep import run_sweeper

WORKERS = ("auto", "inline")
TRIALS = 64
HELP = "sweeper --help"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Interleaved; the first step is the first ``trial.started`` of the sweep's event log."""
    trials, epochs = (4, 2) if options.quick else (TRIALS, 20)
    first: dict[str, list[float]] = {name: [] for name in (HELP, *WORKERS)}
    whole: dict[str, list[float]] = {name: [] for name in WORKERS}
    for _ in range(1 if options.quick else options.runs):
        first[HELP].append(process.run(["-m", "sweeper", "--help"]).seconds)
        for workers in WORKERS:
            with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
                timing = run_sweeper(Path(folder), trials, epochs, "--workers", workers)
            first[workers].append(timing.start_up)
            whole[workers].append(timing.seconds)
            print(f"--workers {workers}: first step {timing.start_up:.1f} s, exit {timing.seconds:.1f} s", flush=True)
    return {"trials": trials, "first": first, "whole": whole}


def tables(section: Mapping[str, Any]) -> list[Table]:
    """Medians in seconds."""
    rows = [(HELP, "", number(median(section["first"][HELP])))]
    rows += [
        (
            f"sweeper run --workers {name}",
            number(median(section["first"][name])),
            number(median(section["whole"][name])),
        )
        for name in WORKERS
    ]
    title = f"Start-up, and {section['trials']} trials of R1"
    note = "Medians in seconds from the start of the process, model, report and MLflow included."
    return [Table(title, ("command", "to the first training step", "to the exit"), tuple(rows), note)]
