"""The outcome of a sweep's finals: the record that its summary keeps, and what it says in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sweeper.records import SweepRecord
from sweeper.text import counted, from_to, number

if TYPE_CHECKING:
    pass

SUMMARY = "finals"  # the outcome's key in a sweep's summary
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
    all that were cut into folds, and ``ensemble`` are the values of the ensemble that the sweep keeps, whose members
    were trained in the same folds (empty: it keeps none, or one of them diverged).
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
    ensemble: tuple[float, ...] = ()

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
            "ensemble": tuple(map(as_number, data["ensemble"])),
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


def _row(data: Mapping[str, Any]) -> FinalistRow:
    metrics = {name: Spread(**_numbers(spread)) for name, spread in data["metrics"].items()}
    values = tuple(map(as_number, data["values"]))
    return FinalistRow(**{**_numbers(data), "values": values, "metrics": metrics})


def _numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in data.items()}


def as_number(value: float | None) -> float:
    """JSON has no NaN and no infinity: they come as None."""
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


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
