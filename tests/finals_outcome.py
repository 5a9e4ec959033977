"""The outcome of finals as a sweep's summary keeps it, judged from values that a test gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.insight.certainty import Finalist, judge


def outcome(values: Mapping[int, Sequence[float]], searched: Mapping[int, float] | None = None) -> dict[str, Any]:
    """Test losses by trial, one per seed (NaN: diverged); validation losses are the same numbers.

    ``searched`` are the values of the search (default: 0.02 better than the first seed). Bigger numbers cost more.
    """
    verdict = judge([Finalist(trial, tuple(v), cost=1000.0 + trial) for trial, v in values.items()])
    standings = []
    for place in verdict.standings:
        own, summary = values[place.trial], place.summary
        finite = [v for v in own if math.isfinite(v)]
        found = {
            "trial": place.trial,
            "values": [_plain(v) for v in own],
            "mean": None if summary is None else summary.mean,
            "deviation": None if summary is None else _plain(summary.deviation),
            "low": None if summary is None else _plain(summary.mean_interval.low),
            "high": None if summary is None else _plain(summary.mean_interval.high),
            "probability_best": place.probability_best,
            "cost": place.cost,
            "diverged": place.diverged,
            "search_value": own[0] - 0.02 if searched is None else searched[place.trial],
            "validation_mean": sum(finite) / len(finite) if finite else None,
            "metrics": {"test_accuracy": {"mean": 0.9, "deviation": 0.01}},
        }
        standings.append(found)
    comparisons = [
        {
            "first": c.first,
            "second": c.second,
            "difference": c.difference,
            "low": _plain(c.interval.low),
            "high": _plain(c.interval.high),
            "p": c.p,
            "adjusted": c.adjusted,
            "different": c.different,
        }
        for c in verdict.comparisons
    ]
    return {
        "sweep": "child",
        "metric": "test_loss",
        "direction": "minimize",
        "seeds": list(range(1000, 1000 + len(next(iter(values.values()))))),
        "interval": "t interval",
        "sentence": verdict.sentence,
        "leaders": list(verdict.leaders),
        "cheapest": verdict.cheapest,
        "standings": standings,
        "comparisons": comparisons,
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
