"""The winner beside simple models on the same rows: the record that a sweep's summary keeps, and what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sweeper.insight.certainty import LEVEL, chance, half_width, holm
from sweeper.insight.test_rows import evidence_on_test
from sweeper.models.metric_names import plain
from sweeper.records import SweepRecord
from sweeper.text import number

if TYPE_CHECKING:
    import torch

    from sweeper.data.dataset import Dataset
    from sweeper.spec.goals import ObjectiveSpec
    from sweeper.training.baselines import Baseline
    from sweeper.training.scoring import Scoring

SUMMARY = "baselines"  # the record's key in a sweep's summary
CALLED = {"constant": "a constant prediction", "linear": "a linear model", "tree": "an untuned tree model"}


@dataclass(frozen=True)
class BaselineRow:
    """A simple model: scores by plain metric name, seconds of training, or the ``problem`` that it met."""

    method: str
    validation: Mapping[str, float]
    test: Mapping[str, float]
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class BaselinePair:
    """The winner against a simple model on the test rows: winner - model in ``metric``, with its 95% interval.

    ``better`` is only said where it holds for new rows, of all models at once. It is about these very networks: other
    seeds could do better or worse.
    """

    method: str
    difference: float
    low: float
    high: float
    better: Literal["winner", "baseline", "neither"]


@dataclass(frozen=True)
class BaselineOutcome:
    """Trial ``trial``, the winner, beside simple models; ``metric`` is the plain name of the sweep's objective.

    ``maximize`` says whether larger values of it are better.
    ``validation`` and ``test`` are the winner's scores by plain metric name.
    """

    trial: int
    metric: str
    maximize: bool
    validation: Mapping[str, float]
    test: Mapping[str, float]
    rows: tuple[BaselineRow, ...]
    pairs: tuple[BaselinePair, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data, with the sentence for those who read it there."""
        pairs = [{**asdict(pair), **_plain_bounds(pair)} for pair in self.pairs]
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "pairs": pairs, "sentence": self.sentence}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BaselineOutcome:
        """The record that ``to_json`` wrote."""
        known = {key: value for key, value in data.items() if key != "sentence"}
        pairs = [{**pair, **{end: _bound(pair[end], end) for end in ("low", "high")}} for pair in data["pairs"]]
        lists = {"rows": tuple(BaselineRow(**row) for row in data["rows"])}
        return cls(**{**known, **lists, "pairs": tuple(BaselinePair(**pair) for pair in pairs)})

    @property
    def sentence(self) -> str:
        """What it means for whoever wants to use the winner."""
        compared = {pair.method: pair for pair in self.pairs}
        if not compared:
            return "No baseline could be trained."
        ahead = [method for method, pair in compared.items() if pair.better == "baseline"]
        if ahead:
            best = self.row(min(ahead, key=lambda method: self._badness(self.row(method))))
            reached = f"{CALLED[best.method]} reaches a test {self.metric} of {number(best.test[self.metric])}"
            advice = "use it, or search further with more trials, more epochs or `space: wide`"
            return f"{_capital(reached)} in {_seconds(best)}, the winner {self._own}: {advice}."
        beaten = [CALLED[method] for method, pair in compared.items() if pair.better == "winner"]
        equal = [method for method, pair in compared.items() if pair.better == "neither"]
        parts = [f"beats {_listed(beaten)}"] if beaten else []
        if equal:
            parts.append(f"cannot be told apart from {_listed([self._score(method) for method in equal])}")
        return f"On new rows the winner (test {self.metric} {self._own}) {', and '.join(parts)}."

    def row(self, method: str) -> BaselineRow:
        """A simple model's scores."""
        return next(row for row in self.rows if row.method == method)

    def _badness(self, row: BaselineRow) -> float:
        return -row.test[self.metric] if self.maximize else row.test[self.metric]

    @property
    def _own(self) -> str:
        return number(self.test[self.metric])

    def _score(self, method: str) -> str:
        row = self.row(method)
        return f"{CALLED[method]} ({number(row.test[self.metric])} in {_seconds(row)})"


def scores_in_words(outcome: BaselineOutcome, scores: Mapping[str, float]) -> str:
    """The metric of the comparison, and another that people know."""
    names = dict.fromkeys(name for name in (outcome.metric, "accuracy", "rmse", "r2") if name in scores)
    return ", ".join(f"{name} {number(scores[name])}" for name in list(names)[:2])


def read_baselines(record: SweepRecord) -> BaselineOutcome | None:
    """The baselines in a sweep's summary, if they are there yet."""
    data = record.summary.get(SUMMARY)
    return None if data is None else BaselineOutcome.from_json(data)


def compare_with_baselines(
    dataset: Dataset,
    trial: int,
    objective: ObjectiveSpec,
    winner: Mapping[Literal["validation", "test"], torch.Tensor],
    baselines: Sequence[Baseline],
    scoring: Scoring | None = None,
) -> BaselineOutcome:
    """Score the winner's outputs ``(v, C)``, ``(t, C)`` and those of the baselines, and compare them on the test rows.

    An objective without a twin on the test rows, such as ``train_loss``, is compared as ``loss``. Metrics of the
    user's own are known to ``scoring``.
    """
    import torch

    from sweeper.training.scores import finite, names_for, score

    names, metric = names_for(dataset), plain(objective.metric)
    trained = [one for one in baselines if not one.problem]
    found = {}
    for rows in ("validation", "test"):
        outputs = [winner[rows], *(torch.from_numpy(getattr(one, rows)) for one in trained)]
        found[rows] = score(dataset, outputs, rows, names, scoring)
    if not np.isfinite(found["test"].get(metric, [math.nan])).all():
        metric = "loss"
    maximize = objective.direction == "maximize" if metric == plain(objective.metric) else False
    places = {one.method: i for i, one in enumerate(trained, start=1)}
    outputs = [winner["test"], *(torch.from_numpy(one.test) for one in trained)]
    return BaselineOutcome(
        trial=trial,
        metric=metric,
        maximize=maximize,
        validation=finite(found["validation"], 0),
        test=finite(found["test"], 0),
        rows=tuple(
            BaselineRow(
                method=one.method,
                validation=finite(found["validation"], places[one.method]) if not one.problem else {},
                test=finite(found["test"], places[one.method]) if not one.problem else {},
                seconds=round(one.seconds, 3),
                problem=one.problem,
            )
            for one in baselines
        ),
        pairs=_pairs(dataset, metric, maximize, outputs, [one.method for one in trained], scoring),
    )


def _pairs(
    dataset: Dataset,
    metric: str,
    maximize: bool,
    outputs: Sequence[torch.Tensor],
    methods: Sequence[str],
    scoring: Scoring | None,
) -> tuple[BaselinePair, ...]:
    """The first model against each of the others, row by row; p values are corrected for their number (Holm)."""
    if not methods:
        return ()
    evidence = evidence_on_test(metric, dataset, [[one.numpy()] for one in outputs], scoring=scoring)
    parts = [evidence.of_pair(0, i) for i in range(1, len(outputs))]
    known = [(method, part) for method, part in zip(methods, parts, strict=True) if math.isfinite(part.value)]
    adjusted = holm([chance(part, abs(part.value)) for _, part in known])
    pairs = []
    for (method, part), p in zip(known, adjusted, strict=True):
        ahead, half = (part.value > 0) == maximize, half_width(part)
        better: Literal["winner", "baseline", "neither"] = "winner" if ahead else "baseline"
        if p >= 1 - LEVEL:
            better = "neither"
        pairs.append(BaselinePair(method, part.value, part.value - half, part.value + half, better))
    return tuple(pairs)


def _seconds(row: BaselineRow) -> str:
    return f"{row.seconds:.1f} s" if row.seconds < 10 else f"{row.seconds:.0f} s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _plain_bounds(pair: BaselinePair) -> dict[str, float | None]:
    """JSON has no infinity."""
    return {key: value if math.isfinite(value) else None for key, value in (("low", pair.low), ("high", pair.high))}


def _bound(value: float | None, end: str) -> float:
    """An interval's end: endless where JSON has none."""
    return float(value) if value is not None else -math.inf if end == "low" else math.inf
