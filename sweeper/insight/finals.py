"""The outcome of a sweep's finals: the record that its summary keeps, and what it says in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.insight.certainty import Comparison, Direction, Finalist, Judgement, Standing, judge
from sweeper.insight.evidence import Evidence, Scale, evidence_of_folds
from sweeper.insight.test_rows import Outputs, evidence_on_test, scale_of
from sweeper.models.metric_names import OF_TASK, plain
from sweeper.records import SweepRecord, TrialRecord
from sweeper.spec.goals import PARAMETERS, network_size
from sweeper.states import TrialState
from sweeper.text import counted, from_to, number
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models.config import Task
    from sweeper.spec.parse import SweepSpec

SUMMARY = "finals"  # the outcome's key in a sweep's summary
Runs = Mapping[int, Sequence[TrialRecord]]  # the finals' trials of each finalist, by seed or fold
LEADERS = 4  # that a sentence has room for
FEW = 3  # times the test rows: who would need more than that has better judged the finals in folds
REPEATS, FOLDS = 10, 5  # that are recommended then


@dataclass(frozen=True)
class Spread:
    """A metric over the fresh seeds: its mean, and its sample deviation (NaN: one seed has none)."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class FinalistRow:
    """A finalist. ``values`` has one number per fresh seed on the test rows (NaN: it diverged).

    ``low`` to ``high`` is the interval of its mean for new rows and new seeds; ``deviation`` is over these seeds only.
    ``mean`` to ``high`` are NaN when it is out of the comparison. ``search_value`` is the objective that the search
    saw, ``validation_mean`` the same metric over the fresh seeds; ``metrics`` are the other metrics of the test split.
    """

    trial: int
    values: tuple[float, ...]
    mean: float
    deviation: float
    low: float
    high: float
    probability_best: float
    cost: float
    diverged: int
    search_value: float
    validation_mean: float
    metrics: Mapping[str, Spread]


@dataclass(frozen=True)
class FinalistPair:
    """Two finalists on common seeds: the mean of first - second, its interval, and p corrected for all pairs."""

    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    different: bool


@dataclass(frozen=True)
class FinalsOutcome:
    """What the finals came to on ``rows`` test rows, the best finalist first; see ``certainty.Judgement``.

    ``sweep`` is the finals' own id, ``metric`` begins with ``test_``, ``interval`` says what all intervals are for. Of
    finals in ``folds`` a finalist's values are those of the folds, ``repeats`` times all of them; ``rows`` are then
    all that were cut into folds.
    """

    sweep: str
    metric: str
    direction: str
    seeds: tuple[int, ...]
    rows: int
    interval: str
    sentence: str
    leaders: tuple[int, ...]
    cheapest: int | None
    rows_to_settle: int | None
    seeds_to_settle: int | None
    folds: int | None
    repeats: int
    standings: tuple[FinalistRow, ...]
    comparisons: tuple[FinalistPair, ...]

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON data: what is no finite number is None there."""
        return dict(_plain(asdict(self)))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FinalsOutcome:
        """The outcome that ``to_json`` wrote."""
        lists = {
            "seeds": tuple(data["seeds"]),
            "leaders": tuple(data["leaders"]),
            "standings": tuple(map(_row, data["standings"])),
            "comparisons": tuple(FinalistPair(**_numbers(pair)) for pair in data["comparisons"]),
        }
        return cls(**{**data, **lists})

    @property
    def minimize(self) -> bool:
        """Whether smaller values are better."""
        return self.direction == "minimize"

    @property
    def winner(self) -> FinalistRow | None:
        """The first finalist; None: every one diverged on some seed."""
        first = self.standings[0]
        return first if math.isfinite(first.mean) else None

    def row(self, trial: int) -> FinalistRow | None:
        """A trial's place, if it was a finalist."""
        return next((row for row in self.standings if row.trial == trial), None)

    @property
    def verdict(self) -> str:
        """The outcome as a sentence of its own, with the number when one finalist wins."""
        text = self.sentence
        text = f"Trials {text}" if text[:1].isdigit() else text[:1].upper() + text[1:]
        if len(self.leaders) != 1:
            return f"{text}."
        return f"{text}: {self._score(self.standings[0])}."

    def certainty(self, searched_best: int) -> str:
        """What the outcome rests on; ``searched_best`` is the trial that the search alone would have named."""
        if self.folds is not None:
            return self._in_folds(searched_best)
        finalists = f"{len(self.standings)} finalists were" if len(self.standings) > 1 else "One finalist was"
        seeds = "one fresh seed" if len(self.seeds) == 1 else f"{len(self.seeds)} fresh seeds each"
        text = f"{finalists} trained again on {seeds} and judged on {counted(self.rows, 'test row')}, "
        text += "which the search never saw. "
        scored = [p for p in self.standings if p.trial in self.leaders]
        if len(scored) > 1:
            shown = (f"trial {p.trial} {number(p.mean)}{_bounds(p)}" for p in scored[:LEADERS])
            more = f" and {len(scored) - LEADERS} more" if len(scored) > LEADERS else ""
            text += f"Mean {self.metric} with its 95% interval {self.interval}: {', '.join(shown)}{more}. "
        elif scored and len(self.standings) > 1:
            text += f"It is the best of them with a probability of {percent(scored[0].probability_best)}. "
        places = [p.trial for p in self.standings]
        if searched_best in places[1:] and searched_best not in self.leaders:
            text += f"The best trial of the search, {searched_best}, comes {_ordinal(places.index(searched_best) + 1)}."
        return text.strip()

    def _in_folds(self, searched_best: int) -> str:
        """As ``certainty``, of finals in folds."""
        text = f"{counted(len(self.standings), 'finalist')} trained again on {self.folds} folds of "
        text += (
            f"{self.rows:,} rows{f', {self.repeats} times anew' if self.repeats > 1 else ''}, and judged on the rows "
        )
        text += f"that each fold leaves out. Intervals hold {self.interval}. The search saw most of these rows, so the "
        text += "numbers flatter the finalists a little, all of them alike. "
        places = [p.trial for p in self.standings]
        if searched_best in places[1:] and searched_best not in self.leaders:
            text += f"The best trial of the search, {searched_best}, comes {_ordinal(places.index(searched_best) + 1)}."
        return text.strip()

    def bias(self, metric: str) -> str:
        """How much better the search saw the finalists than fresh seeds do; ``metric`` is the objective."""
        known = [p for p in self.standings if math.isfinite(p.search_value) and math.isfinite(p.validation_mean)]
        if not known:
            return ""
        worse = [(p.validation_mean - p.search_value) * (1 if self.minimize else -1) for p in known]
        mean, base = sum(worse) / len(worse), sum(abs(p.search_value) for p in known) / len(known)
        share = f" ({number(100 * abs(mean) / base, 2)}%)" if base else ""
        count = sum(w > 0 for w in worse)
        of = f"{count} of {len(known)} finalists are worse"
        if mean <= 0:
            return f"On fresh seeds the finalists' {metric} is no worse than what the search saw ({of}): no luck shows."
        text = f"On fresh seeds the finalists' {metric} is {number(abs(mean), 2)}{share} worse on average than the "
        text += f"values by which the search chose them ({of}). This is selection bias: the best of many trials is "
        return f"{text}chosen for its luck as well, and luck does not come again."

    @property
    def next_step(self) -> str:
        """What would tell the first from the other leaders, if their differences are what they seem ("": nothing)."""
        if len(self.leaders) < 2 or len(self.seeds) == 1 or self.folds is not None:
            return ""
        ways = []
        if self.rows_to_settle is not None:
            ways.append(f"about {self.rows_to_settle:,} test rows")
        if self.seeds_to_settle is not None:
            ways.append(f"about {self.seeds_to_settle} seeds on these rows")
        if not ways or (self.rows_to_settle or 0) > FEW * self.rows:
            ways.append(f"`finals: {{repeats: {REPEATS}, folds: {FOLDS}}}`, which tests on every row")
            return f"{counted(self.rows, 'test row')} cannot tell the leaders apart. What may: {', or '.join(ways)}."
        return f"If the differences between the leaders are what they seem, {' or '.join(ways)} show them."

    def _score(self, place: FinalistRow) -> str:
        seeds = "one seed" if len(self.seeds) == 1 else f"mean of {len(self.seeds)} seeds"
        return f"{self.metric} {number(place.mean)}{_bounds(place)}, {seeds}"


def read_finals(record: SweepRecord) -> FinalsOutcome | None:
    """The finals in a sweep's summary, if it had any."""
    data = record.summary.get(SUMMARY)
    return FinalsOutcome.from_json(data) if data else None


def outcome_of(
    finals: str,
    spec: SweepSpec,
    chosen: Sequence[TrialRecord],
    trained: Sequence[TrialRecord],
    dataset: Dataset,
    outputs_of: Callable[[TrialRecord], Outputs],
) -> FinalsOutcome:
    """Judge the finals with the id ``finals``; ``trained`` are their trials by number, K of them for every seed.

    A value is the test split's twin of the objective: ``test_loss`` for ``val_loss``. ``outputs_of`` says what a
    trial's network makes of the test rows.
    """
    metric, runs_of = _judging(spec, dataset, trained), _runs_of(chosen, trained)
    entrants = _entrants(spec, chosen, runs_of, dataset, metric)
    scoring = scoring_of(spec, dataset)
    stable = [[outputs_of(run) for run in runs_of[e.trial]] for e in entrants if e.stable]
    evidence = evidence_on_test(metric, dataset, stable, spec.search.seed, scoring) if stable else None
    return _judged(finals, spec, chosen, runs_of, entrants, evidence, metric, len(dataset.y_test))


def outcome_of_folds(
    finals: str, spec: SweepSpec, chosen: Sequence[TrialRecord], trained: Sequence[TrialRecord], dataset: Dataset
) -> FinalsOutcome:
    """As ``outcome_of``, of finals in folds: ``trained`` are K trials for every fold of the ``dataset``."""
    assert spec.finals is not None
    assert spec.finals.folds is not None
    folds, metric, runs_of = spec.finals.folds, _judging(spec, dataset, trained), _runs_of(chosen, trained)
    entrants = _entrants(spec, chosen, runs_of, dataset, metric)
    stable = np.array([e.values for e in entrants if e.stable])
    scale: Scale = "positive" if metric in OF_TASK[dataset.task] and scale_of(metric) == "positive" else "plain"
    evidence = evidence_of_folds(stable, 1 / folds, scale) if len(stable) else None
    rows = sum(len(fold.y_test) for fold in dataset.folds[:folds])
    outcome = _judged(finals, spec, chosen, runs_of, entrants, evidence, metric, rows)
    return replace(outcome, folds=folds, repeats=spec.finals.repeats)


def _judging(spec: SweepSpec, dataset: Dataset, trained: Sequence[TrialRecord]) -> str:
    """The metric that judges: the loss where the user's own function could not be computed on the rows that judge."""
    metric = test_metric(spec, dataset.task)
    ended = [run for run in trained if run.state is TrialState.COMPLETE]
    return metric if all(f"test_{metric}" in run.metrics for run in ended) else "loss"


def _runs_of(chosen: Sequence[TrialRecord], trained: Sequence[TrialRecord]) -> Runs:
    count = len(chosen)
    return {trial.number: [run for run in trained if run.number % count == i] for i, trial in enumerate(chosen)}


def _entrants(
    spec: SweepSpec, chosen: Sequence[TrialRecord], runs_of: Runs, dataset: Dataset, metric: str
) -> list[Finalist]:
    """The finalists with their values on the rows that judge them, and their sizes as costs."""
    entrants = []
    for trial in chosen:
        values = tuple(_number(run.metrics.get(f"test_{metric}")) for run in runs_of[trial.number])
        entrants.append(Finalist(trial.number, values, _cost(spec, trial, dataset)))
    return entrants


def _judged(
    finals: str,
    spec: SweepSpec,
    chosen: Sequence[TrialRecord],
    runs_of: Runs,
    entrants: Sequence[Finalist],
    evidence: Evidence | None,
    metric: str,
    judged_rows: int,
) -> FinalsOutcome:
    goal = spec.objective
    direction: Direction = goal.direction if metric == plain(goal.metric) else "minimize"
    judgement = judge(entrants, evidence, direction, spec.search.seed)
    searched = {trial.number: _number(trial.value) for trial in chosen}
    values_of = {entrant.trial: entrant.values for entrant in entrants}
    rows = [
        standing_row(s, values_of[s.trial], searched[s.trial], runs_of[s.trial], f"test_{metric}")
        for s in judgement.standings
    ]
    seeds = sorted({run.seed for runs in runs_of.values() for run in runs})
    return outcome_from(judgement, rows, finals, metric, direction, seeds, judged_rows)


def _cost(spec: SweepSpec, trial: TrialRecord, dataset: Dataset) -> float:
    """The size of a trial's network."""
    config = spec.trial_config(trial.params or {})
    size = network_size(dataset.n_inputs, config.hidden_layers, dataset.n_outputs, config.normalized)
    return trial.metrics.get(PARAMETERS) or float(size)


def outcome_from(
    judgement: Judgement,
    rows: Sequence[FinalistRow],
    finals: str,
    metric: str,
    direction: Direction,
    seeds: Sequence[int],
    test_rows: int,
) -> FinalsOutcome:
    """The record of a verdict; ``metric`` is the plain name."""
    return FinalsOutcome(
        sweep=finals,
        metric=f"test_{metric}",
        direction=direction,
        seeds=tuple(seeds),
        rows=test_rows,
        interval=next((s.interval.method for s in judgement.standings if s.interval is not None), ""),
        sentence=judgement.sentence,
        leaders=judgement.leaders,
        cheapest=judgement.cheapest,
        rows_to_settle=judgement.rows_to_settle,
        seeds_to_settle=judgement.seeds_to_settle,
        folds=None,
        repeats=1,
        standings=tuple(rows),
        comparisons=tuple(map(pair_row, judgement.comparisons)),
    )


def test_metric(spec: SweepSpec, task: Task) -> str:
    """The objective on the test rows, by plain name; of one that is not measured there, the loss."""
    name = plain(spec.objective.metric)
    return name if name in OF_TASK[task] or name in map(plain, spec.own_names) else "loss"


def standing_row(
    standing: Standing, values: Sequence[float], searched: float, runs: Sequence[TrialRecord], metric: str
) -> FinalistRow:
    """A finalist's row from its place, its values by seed, what the search saw and the trials that trained it."""
    interval = standing.interval
    ended = [run for run in runs if run.state is TrialState.COMPLETE]
    names = sorted({name for run in ended for name in run.metrics if name.startswith("test_") and name != metric})
    columns = {name: [float(run.metrics[name]) for run in ended] for name in names}
    return FinalistRow(
        trial=standing.trial,
        values=tuple(values),
        mean=standing.mean,
        deviation=standing.deviation,
        low=math.nan if interval is None else interval.low,
        high=math.nan if interval is None else interval.high,
        probability_best=standing.probability_best,
        cost=standing.cost,
        diverged=standing.diverged,
        search_value=searched,
        validation_mean=_mean([run.value for run in ended if run.value is not None]),
        metrics={name: Spread(_mean(column), _deviation(column)) for name, column in columns.items()},
    )


def pair_row(c: Comparison) -> FinalistPair:
    """A comparison as the record keeps it."""
    low, high = c.interval.low, c.interval.high
    return FinalistPair(c.first, c.second, c.difference, low, high, c.p, c.adjusted, c.different)


def _row(data: Mapping[str, Any]) -> FinalistRow:
    metrics = {name: Spread(**_numbers(spread)) for name, spread in data["metrics"].items()}
    values = tuple(map(_number, data["values"]))
    return FinalistRow(**{**_numbers(data), "values": values, "metrics": metrics})


def _numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in data.items()}


def _number(value: float | None) -> float:
    """JSON has no NaN and no infinity: they come as None."""
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else math.nan


def _bounds(place: FinalistRow) -> str:
    return f" ({from_to(place.low, place.high)})" if math.isfinite(place.low) else ""


def percent(share: float) -> str:
    """A probability from 10,000 draws: never a plain 100% or 0%."""
    if not math.isfinite(share):
        return "unknown"
    return "above 99%" if share > 0.99 else "below 1%" if share < 0.01 else f"{share:.0%}"


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth")
    return words[number - 1] if number <= len(words) else f"at place {number}"
