"""Measures the sections asked for, one after another, and writes results.md; see README.md beside this file."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import (
    claims,
    cluster,
    coverage,
    crowd,
    engine,
    flow,
    gpu,
    machine,
    objectives,
    population,
    pruning,
    quality,
    results,
    scaling,
    search,
    search_pruning,
    start,
    suggest,
    sweep,
)

MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any] | None]] = {
    "engine": engine.measure,
    "flow": flow.measure,
    "start": start.measure,
    "sweep": sweep.measure,
    "scaling": scaling.measure,
    "suggest": suggest.measure,
    "search": search.measure,
    "search_pruning": search_pruning.measure,
    "objectives": objectives.measure,
    "pruning": pruning.measure,
    "pbt": population.measure,
    "claims": claims.measure,
    "gpu": gpu.measure,
    "coverage": coverage.measure,
    "quality": quality.measure,
    "crowd": crowd.measure,
    "cluster": cluster.measure,
}
RENDERERS: dict[str, results.Tables] = {
    "engine": engine.tables,
    "flow": flow.tables,
    "start": start.tables,
    "sweep": sweep.tables,
    "scaling": scaling.tables,
    "suggest": suggest.tables,
    "search": search.tables,
    "search_pruning": search_pruning.tables,
    "objectives": objectives.tables,
    "pruning": pruning.tables,
    "pbt": population.tables,
    "claims": claims.tables,
    "gpu": gpu.tables,
    "coverage": coverage.tables,
    "quality": quality.tables,
    "crowd": crowd.tables,
    "cluster": cluster.tables,
}


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=MEASURES, help="measure this section; the others keep their results")
    parser.add_argument("--runs", type=int, default=3, help="interleaved runs of which medians are taken")
    parser.add_argument("--trials", type=int, default=512, help="trials of a whole sweep")
    parser.add_argument("--peer-trials", type=int, default=24, help="trials of a peer's whole sweep")
    quality.add_options(parser)
    cluster.add_options(parser)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that everything runs")
    return parser.parse_args(words)


def main() -> None:
    """Measure, show and write section by section."""
    options = parse(sys.argv[1:])
    for name in [options.only] if options.only else MEASURES:
        print(f"measuring: {name}", flush=True)
        about = machine.describe()
        data = MEASURES[name](options)
        if data is None:
            continue
        command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        section = {"machine": about, "command": command, "quick": options.quick, "data": data}
        results.write(name, section, RENDERERS)
        results.show(RENDERERS[name](data))
    print(f"written: {results.MARKDOWN}")


if __name__ == "__main__":
    main()
