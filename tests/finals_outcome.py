"""The outcome of finals as a sweep's summary keeps it, judged from values that a test gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweeper.insight.certainty import Finalist, judge
from sweeper.insight.finals import FinalsOutcome, Spread, pair_row, standing_row


def outcome(values: Mapping[int, Sequence[float]], searched: Mapping[int, float] | None = None) -> dict[str, Any]:
    """Test losses by trial, one per seed (NaN: diverged); validation losses are the same numbers.

    ``searched`` are the values of the search (default: 0.02 better than the first seed). Bigger numbers cost more.
    """
    verdict = judge([Finalist(trial, tuple(v), cost=1000.0 + trial) for trial, v in values.items()])
    rows = []
    for standing in verdict.standings:
        own = values[standing.trial]
        finite = [v for v in own if math.isfinite(v)]
        seen = own[0] - 0.02 if searched is None else searched[standing.trial]
        row = standing_row(standing, own, seen, (), "test_loss")
        validated = sum(finite) / len(finite) if finite else math.nan
        rows.append(replace(row, validation_mean=validated, metrics={"test_accuracy": Spread(0.9, 0.01)}))
    return FinalsOutcome(
        sweep="child",
        metric="test_loss",
        direction="minimize",
        seeds=tuple(range(1000, 1000 + len(next(iter(values.values()))))),
        interval="t interval",
        sentence=verdict.sentence,
        leaders=verdict.leaders,
        cheapest=verdict.cheapest,
        standings=tuple(rows),
        comparisons=tuple(map(pair_row, verdict.comparisons)),
    ).to_json()
