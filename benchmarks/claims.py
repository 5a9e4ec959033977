"""How often the report claims what is false, and how often it finds what is true, over simulated sweeps."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.fake_sweeps import NULLS, SEARCHES, TRUTHS, FakeSweep, Surface, fake_sweep
from benchmarks.results import Table
from sweeper.insight.findings import Insight, study_trials

KINDS = ("beats", "interaction", "condition", "no effect", "boundary")
SURFACES = {**NULLS, **TRUTHS}


def claims(insight: Insight) -> dict[str, set[str]]:
    """What a report claims, by kind: the parameters that each claim is about."""
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for choice in insight.choices:
        if any(pair.shown for pair in choice.pairs):
            found["beats"].add(choice.parameter)
    for pair in insight.interactions:
        name = f"{pair.parameter}, {pair.along}"
        found["interaction"].add(name)
        if pair.conditions:
            found["condition"].add(name)
    for advice in insight.advice:
        if advice.kind in ("no effect", "edge"):
            found["boundary" if advice.kind == "edge" else "no effect"].add(str(advice.parameter))
    return found


def judged(surface: Surface, sweep: FakeSweep) -> dict[str, tuple[bool, bool]]:
    """By kind: whether the report makes a false claim, and whether it makes a true one."""
    made = claims(study_trials(sweep.spec, sweep.trials, sweep.reports))
    real = {kind: surface.real.get(kind, frozenset()) for kind in KINDS}
    return {kind: (bool(made[kind] - real[kind]), bool(made[kind] & real[kind])) for kind in KINDS}


def rates(surface: str, search: str, sweeps: int, trials: int) -> dict[str, dict[str, float]]:
    """The shares of sweeps with a false and with a true claim of each kind."""
    false: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for seed in range(sweeps):
        verdicts = judged(SURFACES[surface], fake_sweep(SURFACES[surface], search, trials, seed))
        false.update(kind for kind, (wrong, _) in verdicts.items() if wrong)
        true.update(kind for kind, (_, right) in verdicts.items() if right)
    return {kind: {"false": false[kind] / sweeps, "true": true[kind] / sweeps} for kind in KINDS}


if __name__ == "__main__":
    import sys, time
    from threadpoolctl import threadpool_limits
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--surfaces", nargs="*", default=list(SURFACES))
    parser.add_argument("--searches", nargs="*", default=list(SEARCHES))
    o = parser.parse_args()
    with threadpool_limits(1):
        for surface in o.surfaces:
            for search in o.searches:
                b = time.process_time()
                r = rates(surface, search, o.sweeps, o.trials)
                print(f"{surface:14s} {search:16s}", " ".join(f"{k} {v['false']:.0%}/{v['true']:.0%}" for k, v in r.items()), f"{time.process_time()-b:.1f}s", flush=True)
