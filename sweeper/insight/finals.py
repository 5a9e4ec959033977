"""The finals of a sweep as its summary keeps them, and what they say in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.numbers import from_to, number
from sweeper.records import SweepRecord

SUMMARY = "finals"  # their key in a sweep's summary
LEADERS = 4  # that a sentence has room for
MANY_SEEDS = 200  # beyond what anybody would train


@dataclass(frozen=True)
class Place:
    """A finalist. ``values`` has one number per fresh seed on the test split (NaN: it diverged).

    ``mean`` to ``high`` are NaN when it is out of the comparison. ``search_value`` is the objective that the search
    saw, ``validation_mean`` the same metric over the fresh seeds; ``metrics`` are (mean, deviation) by name.
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
    metrics: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class PairOfPlaces:
    """Two finalists on common seeds: the mean of first - second, its interval, and p corrected for all pairs."""

    first: int
    second: int
    difference: float
    low: float
    high: float
    adjusted: float
    different: bool


@dataclass(frozen=True)
class Finals:
    """The finals' outcome, the best finalist first; see ``statistics.Verdict``."""

    metric: str
    minimize: bool
    seeds: int
    interval: str
    sentence: str
    leaders: tuple[int, ...]
    cheapest: int | None
    standings: tuple[Place, ...]
    comparisons: tuple[PairOfPlaces, ...]

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
        finalists = f"{len(self.standings)} finalists were" if len(self.standings) > 1 else "One finalist was"
        seeds = "one fresh seed" if self.seeds == 1 else f"{self.seeds} fresh seeds each"
        text = f"{finalists} trained again on {seeds} and judged on the test split, which the search never saw. "
        scored = [p for p in self.standings if p.trial in self.leaders]
        if len(scored) > 1:
            shown = (f"trial {p.trial} {number(p.mean)}{_bounds(p)}" for p in scored[:LEADERS])
            more = f" and {len(scored) - LEADERS} more" if len(scored) > LEADERS else ""
            text += f"Mean {self.metric} with its 95% interval: {', '.join(shown)}{more}. "
        elif scored and len(self.standings) > 1:
            text += f"It is the best of them with a probability of {percent(scored[0].probability_best)}. "
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
        """How many seeds would tell the first two leaders apart, if their difference is what it seems ("": no two)."""
        first = next((c for c in self.comparisons if {c.first, c.second} == set(self.leaders[:2])), None)
        if first is None or not math.isfinite(first.low):
            return ""
        half, gap = (first.high - first.low) / 2, abs(first.difference)
        names = f"{self.leaders[0]} and {self.leaders[1]}"
        seeds = self.seeds * (half / gap) ** 2 if gap else math.inf
        if seeds > MANY_SEEDS:
            return f"Trials {names} are so alike that more than {MANY_SEEDS} seeds would be needed to tell them apart."
        wanted = max(self.seeds + 1, math.ceil(seeds))
        return f"If the difference of {names} is what it seems, about {wanted} seeds show it."

    def _score(self, place: Place) -> str:
        seeds = "one seed" if self.seeds == 1 else f"mean of {self.seeds} seeds"
        return f"{self.metric} {number(place.mean)}{_bounds(place)}, {seeds}"


def read_finals(record: SweepRecord) -> Finals | None:
    """The finals in a sweep's summary, if it had any."""
    data = record.summary.get(SUMMARY)
    if not data or not data.get("standings"):
        return None
    return Finals(
        metric=data["metric"],
        minimize=data.get("direction", "minimize") == "minimize",
        seeds=len(data["seeds"]),
        interval=data["interval"],
        sentence=data["sentence"],
        leaders=tuple(data["leaders"]),
        cheapest=data.get("cheapest"),
        standings=tuple(_place(place) for place in data["standings"]),
        comparisons=tuple(_pair(pair) for pair in data.get("comparisons", ())),
    )


def _place(data: Mapping[str, Any]) -> Place:
    numbers = ("mean", "deviation", "low", "high", "cost", "search_value", "validation_mean")
    metrics = data.get("metrics") or {}
    return Place(
        trial=data["trial"],
        values=tuple(map(_number, data["values"])),
        probability_best=_number(data.get("probability_best")),
        diverged=data.get("diverged", 0),
        metrics={name: (_number(m.get("mean")), _number(m.get("deviation"))) for name, m in metrics.items()},
        **{name: _number(data.get(name)) for name in numbers},
    )


def _pair(data: Mapping[str, Any]) -> PairOfPlaces:
    numbers = {name: _number(data.get(name)) for name in ("difference", "low", "high", "adjusted")}
    return PairOfPlaces(data["first"], data["second"], **numbers, different=bool(data["different"]))


def _number(value: float | None) -> float:
    """JSON has no NaN and no infinity: they come as None."""
    return math.nan if value is None else float(value)


def _bounds(place: Place) -> str:
    return f" ({from_to(place.low, place.high)})" if math.isfinite(place.low) else ""


def percent(share: float) -> str:
    """A probability from 10,000 draws: never a plain 100% or 0%."""
    if not math.isfinite(share):
        return "unknown"
    return "above 99%" if share > 0.99 else "below 1%" if share < 0.01 else f"{share:.0%}"


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth")
    return words[number - 1] if number <= len(words) else f"at place {number}"
