"""The outcome of finals as a sweep's summary keeps it, judged from scores that a test gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sweeper.insight.certainty import Finalist, judge
from sweeper.insight.evidence import evidence_of_means
from sweeper.insight.finals import Spread
from sweeper.insight.judging import outcome_from, standing_row

ROWS = 400


def outcome(
    values: Mapping[int, Sequence[float]], searched: Mapping[int, float] | None = None, noise: float = 0.02
) -> dict[str, Any]:
    """Test losses by trial, one per seed (NaN: diverged), as means of ``ROWS`` rows; validation losses are the same.

    Rows differ by ``noise`` between finalists. ``searched`` are the values of the search (default: 0.02 better than
    the first seed). Bigger numbers cost more.
    """
    entrants = [Finalist(trial, tuple(v), cost=1000.0 + trial) for trial, v in values.items()]
    rng = np.random.default_rng(0)
    rows = {e.trial: noise * rng.standard_normal(ROWS) for e in entrants}
    scores = [
        np.array([value + rows[e.trial] - rows[e.trial].mean() for value in e.values]) for e in entrants if e.stable
    ]
    verdict = judge(entrants, evidence_of_means(scores) if scores else None)
    standings = []
    for standing in verdict.standings:
        own = values[standing.trial]
        finite = [v for v in own if math.isfinite(v)]
        seen = own[0] - 0.02 if searched is None else searched[standing.trial]
        row = standing_row(standing, own, seen, (), "test_loss")
        validated = sum(finite) / len(finite) if finite else math.nan
        standings.append(replace(row, validation_mean=validated, metrics={"test_accuracy": Spread(0.9, 0.01)}))
    seeds = range(1000, 1000 + len(entrants[0].values))
    return outcome_from(verdict, standings, "child", "loss", "minimize", seeds, ROWS).to_json()
